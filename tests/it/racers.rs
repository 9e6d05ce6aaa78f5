//! Eight at once on one date: whoever comes first to a subject bills it, and nobody else does.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use billday::domain::BillingPeriod;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, TimeFile};
use crate::support::lane::Counts;
use crate::support::world::{World, day, group, noon, rental};
use crate::support::{TestDb, assert_verified, on_both, torture};

const RACERS: usize = 8;
/// All of them are due on the 15th: half in groups of four, half alone.
const RENTALS: usize = 240;

/// Dates in CI; `BILLDAY_TEST_TORTURE` brings them to 25.
fn rounds() -> u32 {
    (2 * torture()).min(25)
}

async fn busy(db: TestDb) -> World {
    let world = World::new(db).await;
    let mut records = Vec::new();
    for n in 0..RENTALS / 8 {
        let ids: Vec<String> = (0..4).map(|member| format!("G{n}-{member}")).collect();
        records.extend(ids.iter().map(|id| rental(id, "2026-01-15", json!({}))));
        records.push(group(&format!("G{n}"), 15, &ids.iter().map(String::as_str).collect::<Vec<_>>()));
        records.extend((0..4).map(|alone| rental(&format!("A{n}-{alone}"), "2026-01-15", json!({}))));
    }
    world.import(Value::from(records)).await;
    world
}

/// Each rental has its one line of the period, and the whole ledger can be proved.
async fn assert_billed_once(world: &World, period: BillingPeriod) {
    let lines = format!("select count(*) from payment_lines where billing_period = '{period}'");
    assert_eq!(world.db.number(&lines).await, RENTALS as i64, "{period}");
    assert_verified(&world.db).await;
}

/// What the logs and the database say of those that met.
async fn count_meetings(counts: &mut Counts, db: &TestDb, logs: &str) {
    // Whoever gave up would say so, after it had tried ten times.
    assert!(!logs.contains("could not go on"), "{logs}");
    counts.add("batches planned again", logs.matches("a batch is planned again").count() as u64);
    if !db.is_sqlite() {
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        counts.add("deadlocks", db.number(deadlocks).await as u64);
    }
}

on_both! {
    async fn eight_daemons_that_race_for_a_date_bill_it_once(db: TestDb) {
        let mut counts = Counts::new("racing daemons", &db);
        let world = busy(db).await;
        let mut period = BillingPeriod::of(day("2026-01-15"));
        let time = TimeFile::new(&world.db, &noon(day("2026-01-14")).to_rfc3339());
        // So many shares, each of so many batches, that all find work.
        let env = [
            ("BILLDAY_LOG__LEVEL", "debug"),
            ("BILLDAY_DATABASE__CONNECTIONS", "4"),
            ("BILLDAY_RUN__SHARE_RENTALS", "15"),
            ("BILLDAY_RUN__BATCH_RENTALS", "1"),
        ];
        let daemons: Vec<Daemon> = (0..RACERS).map(|_| Daemon::start_with(&world.db, &time, &[], &env)).collect();
        for daemon in &daemons {
            daemon.says("ready").await;
        }
        // Nothing is due then; a clock that moves on before that is known would end a lease.
        world.db.completes("2026-01-14").await;
        for _ in 0..rounds() {
            let date = format!("{period}-15");
            time.set_to(noon(day(&date)));
            world.db.completes(&date).await;
            assert_billed_once(&world, period).await;
            counts.add("dates", 1);
            let at_work = format!("select count(distinct requested_by) from runs where run_date = '{date}' and batches > 0");
            counts.add("daemons at work on them", world.db.number(&at_work).await as u64);
            period = period.plus(1);
        }
        let mut logs = String::new();
        for daemon in daemons {
            let log = daemon.log_file();
            let (status, _) = daemon.stop().await;
            logs.push_str(&std::fs::read_to_string(log).expect("a log"));
            assert_eq!(status.code(), Some(0), "{logs}");
        }
        let others = "select run_date || ' ' || state || ' ' || coalesce(error, '') from runs where state <> 'completed'";
        assert_eq!(world.db.texts(others).await, Vec::<String>::new(), "{logs}");
        count_meetings(&mut counts, &world.db, &logs).await;
        counts.end(&[("daemons at work on them", 2 * u64::from(rounds()))]);
    }

    async fn eight_runs_that_race_for_a_date_bill_it_once(db: TestDb) {
        let mut counts = Counts::new("racing runs", &db);
        let world = busy(db).await;
        let log = world.db.dir.path().join("log");
        let stderr = File::options().create(true).append(true).open(&log).expect("a log");
        let mut period = BillingPeriod::of(day("2026-01-15"));
        for _ in 0..rounds() {
            let racers: Vec<Child> = (0..RACERS).map(|_| spawn(&world, period, &stderr)).collect();
            for mut racer in racers {
                let status = racer.wait().expect("an ended process");
                assert_eq!(status.code(), Some(0), "{}", std::fs::read_to_string(&log).expect("the log"));
                counts.add("runs", 1);
            }
            assert_billed_once(&world, period).await;
            counts.add("dates", 1);
            let at_work = format!("select count(*) from runs where run_date = '{period}-15' and billed > 0");
            counts.add("runs that billed some of them", world.db.number(&at_work).await as u64);
            period = period.plus(1);
        }
        count_meetings(&mut counts, &world.db, &std::fs::read_to_string(&log).expect("the log")).await;
        let rounds = u64::from(rounds());
        counts.end(&[("runs that billed some of them", rounds), ("batches planned again", rounds)]);
    }
}

fn spawn(world: &World, period: BillingPeriod, stderr: &File) -> Child {
    let date = format!("{period}-15");
    Command::new(env!("CARGO_BIN_EXE_billday"))
        .args(["run", "--run-date", &date, "--no-send", "--database", &world.db.url])
        .env("BILLDAY_TEST_NOW", format!("{date}T12:00:00Z"))
        .env("BILLDAY_RUN__BATCH_RENTALS", "5")
        .env("BILLDAY_LOG__LEVEL", "debug")
        .env("BILLDAY_DATABASE__CONNECTIONS", "4")
        .current_dir(world.db.dir.path())
        .stdout(Stdio::null())
        .stderr(stderr.try_clone().expect("the log"))
        .spawn()
        .expect("the program")
}
