//! PostgreSQL itself dies, loses a process or stalls while a daemon is at work: the daemon goes on by itself once it answers again.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, TimeFile};
use crate::support::lane::Counts;
use crate::support::postgres::{PostgresServer, signal};
use crate::support::random::Random;
use crate::support::world::{World, day, noon, rental};
use crate::support::{TestDb, assert_verified, run, torture};

/// Blows in CI; `BILLDAY_TEST_TORTURE` brings them to five times as many.
const BLOWS: u32 = 6;

/// Within so long the daemon bills again.
const RECOVERY_MAX: Duration = Duration::from_secs(10);

const RENTALS: i64 = 60;

const PAYMENTS: &str = "select count(*) from payments";

#[test]
fn a_daemon_outlives_a_postgres_that_crashes_loses_a_process_or_stalls() {
    run(async {
        let mut server = PostgresServer::start();
        let world = World::new(TestDb::postgres_on(&server.url()).await).await;
        world
            .import((0..RENTALS).map(|n| rental(&format!("A{n:03}"), "2026-01-15", json!({}))).collect::<Value>())
            .await;
        let mut counts = Counts::new("crashes of the server", &world.db);
        let mut random = Random::new();
        let mut now = noon(day("2026-01-15"));
        let time = TimeFile::new(&world.db, &now.to_rfc3339());
        let daemon = Daemon::start_with(&world.db, &time, &[], &[("BILLDAY_RUN__BATCH_RENTALS", "1")]);
        let mut slowest = Duration::ZERO;
        for blow in 0..BLOWS * torture().min(5) {
            // The 15th of the month after: all of it is due again.
            if blow > 0 {
                let date = format!("{}-15", billday::domain::BillingPeriod::of(now.date_naive()).plus(1));
                now = noon(day(&date));
                time.set_to(now);
            }
            let due = now.date_naive();
            let before = world.db.number(PAYMENTS).await;
            let some = before + 1 + random.below(20) as i64;
            wait_for(&world, &daemon, some, None).await;
            let midst = world.db.number(PAYMENTS).await < before + RENTALS;
            counts.add("blows", 1);
            counts.add("struck a date at work", u64::from(midst));
            match blow % 3 {
                0 => {
                    server.crash();
                    server.restart();
                    counts.add("crashes", 1);
                }
                1 => {
                    // The others of its processes are ended by the server, which cannot know what that one has broken.
                    let pids = "select cast(pid as text) from pg_stat_activity where application_name = 'billday'
                                and datname = current_database() order by state = 'active' desc, pid desc";
                    let pids = world.db.texts(pids).await;
                    signal("-KILL", pids.first().expect("a process").parse().expect("its id"));
                    counts.add("killed processes", 1);
                }
                _ => {
                    server.stall(Duration::from_millis(1_000 + random.below(4_000)));
                    counts.add("stalls", 1);
                }
            }
            let back = Instant::now();
            let stands = wait_for(&world, &daemon, before, None).await;
            if stands < before + RENTALS {
                wait_for(&world, &daemon, stands + 1, Some((&time, &mut now))).await;
                slowest = slowest.max(back.elapsed());
                assert!(slowest < RECOVERY_MAX, "it billed again only after {slowest:?}\n{}", daemon.log());
            }
            wait_for(&world, &daemon, before + RENTALS, Some((&time, &mut now))).await;
            world.db.completes(&due.to_string()).await;
            assert_verified(&world.db).await;
            assert_eq!(world.db.number(PAYMENTS).await, before + RENTALS);
        }
        let (status, _) = daemon.stop().await;
        assert_eq!(status.code(), Some(0));
        counts.add("ms until it billed again at most", slowest.as_millis() as u64);
        let blows = counts.of("blows");
        counts.end(&[("struck a date at work", blows / 2), ("crashes", 2), ("killed processes", 2), ("stalls", 2)]);
    });
}

/// Waits until so many payments are there, through all that happens to the server; gives how many there are. A clock that is
/// given goes on meanwhile, so that what nobody works on any more runs out.
async fn wait_for(
    world: &World,
    daemon: &Daemon,
    payments: i64,
    mut clock: Option<(&TimeFile, &mut DateTime<Utc>)>,
) -> i64 {
    let begun = Instant::now();
    loop {
        if let Some(count) = world.db.try_number(PAYMENTS).await.ok().filter(|count| *count >= payments) {
            return count;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{payments} payments never came\n{}", daemon.log());
        if let Some((time, now)) = &mut clock {
            **now += TimeDelta::seconds(2);
            time.set_to(**now);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
