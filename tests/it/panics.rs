//! A fault of our own in the midst of a run: one tenant's failure, and nobody else's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use billday::clock::{Clock, FixedClock};
use billday::deliver::{DeliverySettings, Route};
use billday::documents::DocumentStore;
use billday::domain::message::{CHANCES, WhenUnknown};
use billday::import::{ImportFile, import};
use billday::monitor::{Monitor, Part};
use billday::schedule::notify::Notifier;
use billday::schedule::{Daemon, DaemonSettings};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use tokio::sync::watch;

use crate::support::daemon::eventually;
use crate::support::world::{World, rental, tenant};
use crate::support::{assert_verified, on_both};

/// A clock that panics once, when a run asks it: runs live by the steady time, in tasks beside the daemon's own.
struct Trap {
    clock: Arc<FixedClock>,
    daemon: OnceLock<tokio::task::Id>,
    armed: AtomicBool,
}

impl Clock for Trap {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    fn steady(&self) -> i64 {
        let in_a_run = self.daemon.get().is_some_and(|daemon| Some(*daemon) != tokio::task::try_id());
        assert!(!(in_a_run && self.armed.swap(false, Ordering::SeqCst)), "planned by this test");
        self.clock.steady()
    }
}

on_both! {
    async fn a_run_that_panics_stops_no_other_tenants_and_is_finished_later(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-06-15", json!({}))])).await;
        let mut other = tenant("U", json!({}));
        let records = other.as_array_mut().expect("records");
        records.push(json!({"tenantId": "U", "customerId": "C", "company": "Acme"}));
        records.push(rental("R", "2026-06-15", json!({"tenantId": "U"})));
        let other = ImportFile::text("other.json", other.to_string());
        import(&world.db.store, &[other], None, world.clock.now()).await.expect("another tenant");
        world.today("2026-06-15");

        let clock = Arc::new(Trap {
            clock: Arc::clone(&world.clock),
            daemon: OnceLock::new(),
            armed: AtomicBool::new(true),
        });
        let documents = world.db.dir.path().join("documents");
        let (_kept, delivery) = watch::channel(DeliverySettings {
            route: Route::Nowhere,
            from: "billing@shop.example".into(),
            message_id_domain: "bills.example".into(),
            templates: None,
            redirect_to: None,
            when_unknown: WhenUnknown::Resend,
            chance: || CHANCES - 1,
            documents: DocumentStore::new(documents.to_str().expect("a path")).expect("a place"),
        });
        let (stop_it, stop) = watch::channel(false);
        let monitor = Arc::new(Monitor::default());
        let daemon = Daemon {
            store: world.db.store.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            settings: DaemonSettings {
                bills: true,
                batch_rentals: 3,
                share_rentals: 100,
                name: "test".into(),
                heartbeat_url: None,
                machine: None,
                summary_to: None,
                // Nobody has worked here since January.
                accept_clock: true,
            },
            delivery,
            monitor: Arc::clone(&monitor),
            notifier: Arc::new(Notifier::from_environment()),
            stop,
        };
        let trap = Arc::clone(&clock);
        let running = tokio::spawn(async move {
            trap.daemon.set(tokio::task::id()).expect("the first to be set");
            daemon.run().await
        });

        let completed = "select count(*) from completed_dates where run_date = '2026-06-15'";
        eventually("one run panics", async || monitor.has_problem(Part::Tenant)).await;
        eventually("the other is completed", async || world.db.number(completed).await == 1).await;
        assert!(!clock.armed.load(Ordering::SeqCst));
        assert_eq!(world.db.number("select count(*) from payments").await, 1);

        // Longer than its lease, and than it is put off.
        world.clock.set(world.clock.now() + TimeDelta::minutes(5));
        eventually("both are completed", async || world.db.number(completed).await == 2).await;
        assert_eq!(world.db.number("select count(*) from payments").await, 2);
        eventually("nothing is amiss any more", async || !monitor.has_problem(Part::Tenant)).await;
        stop_it.send_replace(true);
        running.await.expect("a daemon that ends").expect("a daemon without a fault");
        assert_verified(&world.db).await;
    }
}
