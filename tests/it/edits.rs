//! People change groups and rentals over the API while daemons bill them: whatever comes first, each rental is charged once a month, and
//! what is on record can be proved.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use billday::domain::BillingPeriod;
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::support::api::ApiWorld;
use crate::support::daemon::{Daemon, TimeFile};
use crate::support::http::HttpRequest;
use crate::support::lane::Counts;
use crate::support::random::Random;
use crate::support::world::{World, day, group, noon, rental};
use crate::support::{assert_verified, on_both, torture};

/// Months in CI; `BILLDAY_TEST_TORTURE` brings them to 25.
const MONTHS: u32 = 3;

/// Rentals that are moved about in a month, ten for each group.
const RENTALS: u64 = 100;

/// The rentals and groups that come new with a month: in time the others are cancelled and deleted.
fn arrivals(month: u32, date: &str) -> Value {
    let rentals = (0..RENTALS).map(|n| rental(&format!("E{month}-{n}"), date, json!({})));
    let groups = (0..RENTALS / 10).map(|n| {
        let members: Vec<String> = (0..5).map(|member| format!("E{month}-{}", 10 * n + member)).collect();
        group(&format!("G{month}-{n}"), 15, &members.iter().map(String::as_str).collect::<Vec<_>>())
    });
    rentals.chain(groups).collect()
}

/// What one person does next with what came new with a month: method, path and body.
fn edit(random: &mut Random, month: u32) -> (&'static str, String, Value) {
    let rental = |random: &mut Random| format!("E{month}-{}", random.below(RENTALS));
    let group = |random: &mut Random| format!("/v1/billing-groups/G{month}-{}", random.below(RENTALS / 10));
    let some: Vec<String> = (0..random.below(6)).map(|_| rental(random)).collect();
    match random.below(20) {
        // Mostly members that come and go.
        0..=11 => ("PATCH", group(random), json!({"rentalIds": some})),
        12 | 13 => ("PATCH", group(random), json!({"billingDay": 1 + random.below(28)})),
        14 | 15 => ("PATCH", group(random), json!({"billingDay": 15, "status": "active"})),
        16 => ("DELETE", group(random), Value::Null),
        17 => (
            "POST",
            "/v1/billing-groups".into(),
            json!({"customerId": "C", "groupName": "New", "billingDay": 15, "rentalIds": some}),
        ),
        18 => {
            ("PATCH", format!("/v1/subscriptions/{}", rental(random)), json!({"monthlyAmount": 1 + random.below(500)}))
        }
        _ => ("POST", format!("/v1/subscriptions/{}/cancel", rental(random)), json!({"reason": "customer_request"})),
    }
}

/// Makes changes until the date is billed; tells how many were made and how many refused.
async fn edit_until(done: &AtomicBool, daemon: &Daemon, api: &ApiWorld, random: &mut Random, month: u32) -> (u64, u64) {
    let address = daemon.address().await;
    let (mut made, mut refused) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        let (method, path, body) = edit(random, month);
        let request = HttpRequest::new(method, &path)
            .header("Authorization", &format!("Bearer {}", api.key))
            .header("Tenant-ID", "T");
        let reply = if body.is_null() { request } else { request.json(&body) }.send(address).await;
        match reply.status {
            200 | 201 => made += 1,
            // Taken by another group, gone, or against a rule.
            400 | 404 | 409 | 422 => refused += 1,
            _ => panic!("{method} {path} {body}: {reply:?}"),
        }
    }
    (made, refused)
}

on_both! {
    async fn edits_while_daemons_bill_double_nothing_and_leave_a_ledger_that_can_be_proved(db: TestDb) {
        let mut counts = Counts::new("edits while daemons bill", &db);
        let mut random = Random::new();
        let api = ApiWorld::new(db).await;
        let world: &World = &api.world;
        let mut period = BillingPeriod::of(day("2026-07-15"));
        let time = TimeFile::new(&world.db, &noon(day("2026-07-14")).to_rfc3339());
        let env = [("BILLDAY_RUN__BATCH_RENTALS", "1"), ("BILLDAY_RUN__SHARE_RENTALS", "20"), ("BILLDAY_API__REQUESTS_PER_MINUTE", "0")];
        let daemons = [Daemon::start_with(&world.db, &time, &["--accept-clock"], &env), Daemon::start_with(&world.db, &time, &["--accept-clock"], &env)];
        for month in 0..(MONTHS * torture()).min(25) {
            let date = format!("{period}-15");
            world.import(arrivals(month, &date)).await;
            let done = AtomicBool::new(false);
            let mut other = Random::of(random.below(u64::MAX));
            // The day begins while people are at work.
            let ((made, refused), (more, more_refused), ()) = tokio::join!(
                edit_until(&done, &daemons[0], &api, &mut random, month),
                edit_until(&done, &daemons[1], &api, &mut other, month),
                async {
                    let (begun, mut now) = (Instant::now(), noon(day(&date)));
                    let complete = format!("select count(*) from completed_dates where tenant_id = 'T' and run_date = '{date}'");
                    while world.db.number(&complete).await == 0 {
                        let logs = || daemons.each_ref().map(Daemon::log).join("\n");
                        assert!(begun.elapsed() < Duration::from_secs(120), "{date} is never completed\n{}", logs());
                        // A run that met others ten times gives up, and is tried again after a minute.
                        time.set_to(now);
                        now += TimeDelta::seconds(1);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    done.store(true, Ordering::Relaxed);
                },
            );
            counts.add("edits", made + more);
            counts.add("refused", refused + more_refused);
            assert_verified(&world.db).await;
            period = period.plus(1);
        }
        for daemon in daemons {
            let (status, _) = daemon.stop().await;
            assert_eq!(status.code(), Some(0));
        }
        assert_verified(&world.db).await;
        counts.add("payments", world.db.number("select count(*) from payments").await as u64);
        let months = u64::from((MONTHS * torture()).min(25));
        counts.end(&[("edits", 10 * months), ("refused", 1), ("payments", 10 * months)]);
    }
}
