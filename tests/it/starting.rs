//! How the program begins: what it answers before its database is open, and which clocks and schemas it does not begin with.

use serde_json::json;

use crate::cli::{Told, billday_with};
use crate::support::daemon::{Daemon, TimeFile};
use crate::support::http::HttpRequest;
use crate::support::world::{World, rental};
use crate::support::{TestDb, assert_verified, on_both, run};

/// `billday run` at noon of a day.
fn run_at(db: &TestDb, day: &str, args: &[&str]) -> Told {
    let now = format!("{day}T12:00:00Z");
    billday_with(db.dir.path(), &db.url, &[&["run"], args].concat(), &[("BILLDAY_TEST_NOW", &now)])
}

async fn due_on_the_15th(db: TestDb) -> World {
    let world = World::new(db).await;
    world.import(json!([rental("R", "2026-01-15", json!({}))])).await;
    world
}

const PAYMENTS: &str = "select count(*) from payments";

on_both! {
    async fn a_run_of_today_takes_no_date_from_a_clock_that_the_daemon_would_not_believe(db: TestDb) {
        let world = due_on_the_15th(db).await;
        run_at(&world.db, "2026-01-14", &[]).expect(0, &["nothing was due"]);
        for (wrong, told) in [
            ("2036-01-15", "3653 days after the last work on this ledger"),
            ("2026-01-13", "86400 s before the last work on this ledger"),
        ] {
            for args in [&[][..], &["--dry-run"]] {
                run_at(&world.db, wrong, args).expect(2, &["nothing is billed: the clock stands", told, "--accept-clock"]);
            }
        }
        assert_eq!(world.db.number("select count(*) from runs").await, 1);
        // Whoever names the date does not ask the clock for it.
        run_at(&world.db, "2036-01-15", &["--run-date", "2026-01-15"]).expect(0, &[]);
        assert_eq!(world.db.number(PAYMENTS).await, 1);
        run_at(&world.db, "2036-01-15", &["--run-date", "2026-01-15", "--accept-clock"]).expect(2, &["cannot be used with"]);
    }

    async fn a_clock_that_is_accepted_once_is_believed_from_then_on(db: TestDb) {
        let world = World::new(db).await;
        run_at(&world.db, "2026-01-14", &[]).expect(0, &[]);
        run_at(&world.db, "2028-01-15", &["--accept-clock", "--dry-run"]).expect(0, &[]);
        // Nothing was written, so nothing was noted.
        run_at(&world.db, "2028-01-15", &[]).expect(2, &["days after the last work"]);
        run_at(&world.db, "2028-01-15", &["--accept-clock"]).expect(0, &[]);
        run_at(&world.db, "2028-01-16", &[]).expect(0, &[]);
        // It was a mistake; the way back is the same, and a daemon takes it too.
        run_at(&world.db, "2026-01-15", &[]).expect(2, &["before the last work"]);
        run_at(&world.db, "2026-01-15", &["--accept-clock"]).expect(0, &[]);
        let time = TimeFile::new(&world.db, "2026-01-15T13:00:00Z");
        let daemon = Daemon::start(&world.db, &time);
        daemon.says("ready").await;
        daemon.stop().await;
        run_at(&world.db, "2026-01-16", &[]).expect(0, &[]);
        assert_verified(&world.db).await;
    }

    async fn a_database_of_a_newer_billday_is_left_alone(db: TestDb) {
        let world = due_on_the_15th(db).await;
        world.db.execute(
            "insert into _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
             select 9999, 'from tomorrow', installed_on, success, checksum, 0 from _sqlx_migrations where version = 1"
        ).await;
        for command in ["run", "verify", "daemon"] {
            let listen = ["daemon", "--listen", "127.0.0.1:0"];
            let args = if command == "daemon" { &listen[..] } else { &[command][..] };
            let told = billday_with(world.db.dir.path(), &world.db.url, args, &[]);
            told.expect(1, &["the database has schema 9999", "newer billday"]);
        }
        assert_eq!(world.db.number(PAYMENTS).await, 0);
    }
}

#[test]
fn a_run_of_today_whose_clock_differs_from_the_databases_bills_nothing() {
    run(async {
        let world = due_on_the_15th(TestDb::postgres().await).await;
        let wrong = billday::clock::Clock::now(&billday::clock::SystemClock) + chrono::TimeDelta::hours(3);
        let time = world.db.dir.path().join("time");
        std::fs::write(&time, format!("{} 0 machine", wrong.to_rfc3339())).expect("a clock");
        let clock = format!("@{}", time.display());
        let told = billday_with(world.db.dir.path(), &world.db.url, &["run"], &[("BILLDAY_TEST_NOW", &clock)]);
        told.expect(2, &["nothing is billed: the clock is", "s ahead of the database's"]);
        assert_eq!(world.db.number("select count(*) from runs").await, 0);
    });
}

#[test]
fn a_daemon_that_waits_for_its_database_lives_but_is_not_ready() {
    run(async {
        let world = due_on_the_15th(TestDb::postgres().await).await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        world.db.shut_out().await;
        let daemon = Daemon::start(&world.db, &time);
        daemon.says("the database is away").await;
        let address = daemon.listening_at().await;
        for (page, status, told) in [
            ("/livez", 200, "\"live\":true"),
            ("/readyz", 503, "the database is not open yet"),
            ("/v1/payments", 503, "UNAVAILABLE"),
        ] {
            let reply = HttpRequest::new("GET", page).send(address).await;
            assert!(reply.status == status && reply.body.contains(told), "{page}: {} {}", reply.status, reply.body);
        }
        world.db.let_in().await;
        world.db.completes("2026-01-15").await;
        assert_eq!(daemon.page("/readyz").await.0, 200);
        assert_eq!(daemon.page("/v1/payments").await.0, 401);
        let (status, _) = daemon.stop().await;
        assert_eq!(status.code(), Some(0));
    });
}
