//! The daemon as people run it for years: whole processes on both databases, living by a clock that the test moves.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use billday::run::Dates;
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::daemon::{Daemon, TimeFile, eventually};
use crate::support::lane::Counts;
use crate::support::random::Random;
use crate::support::smtp::acceptor;
use crate::support::world::{LEDGER, LINES, World, day, group, rental, tenant};
use crate::support::{TestDb, assert_verified, on_both, run, torture};

/// 200 rentals that are due on the 15th of each month from January 2026 on: half in groups, half alone.
fn many() -> Vec<Value> {
    let mut records = Vec::new();
    for n in 0..25 {
        let ids: Vec<String> = (0..4).map(|member| format!("G{n}-{member}")).collect();
        records.extend(ids.iter().map(|id| rental(id, "2026-01-15", json!({}))));
        records.push(group(&format!("G{n}"), 15, &ids.iter().map(String::as_str).collect::<Vec<_>>()));
        records.extend((0..4).map(|alone| rental(&format!("A{n}-{alone}"), "2026-01-15", json!({}))));
    }
    records
}

async fn busy(db: TestDb) -> World {
    let world = World::new(db).await;
    world.import(Value::from(many())).await;
    world
}

/// The texts of the daily mails to the operator.
fn summaries(db: &TestDb) -> Vec<String> {
    let files = std::fs::read_dir(db.dir.path().join("mail")).into_iter().flatten().filter_map(Result::ok);
    let texts = files.filter(|file| file.file_name().to_string_lossy().starts_with("summary-"));
    texts.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).collect()
}

const PAYMENTS: &str = "select count(*) from payments";
const HELD: &str = "select count(*) from shares";

on_both! {
    async fn a_day_is_billed_from_the_tenants_own_time_on_and_once(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-01-15", json!({})), rental("S", "2026-01-16", json!({}))])).await;
        // Berlin is an hour ahead: 05:59 there.
        let time = TimeFile::new(&world.db, "2026-01-15T04:59:00Z");
        let daemon = Daemon::start(&world.db, &time);
        daemon.says("ready").await;
        time.set("2026-01-15T04:59:30Z");
        assert_eq!(world.db.number(PAYMENTS).await, 0);
        time.set("2026-01-15T05:00:00Z");
        world.db.completes("2026-01-15").await;
        assert_eq!(world.db.number(PAYMENTS).await, 1);
        for later in ["2026-01-15T05:01:00Z", "2026-01-15T23:30:00Z", "2026-01-16T04:59:00Z"] {
            time.set(later);
        }
        time.set("2026-01-16T05:00:00Z");
        world.db.completes("2026-01-16").await;
        assert_eq!(world.db.number("select count(*) from runs").await, 2, "{}", daemon.log());
        assert_eq!(world.db.number(PAYMENTS).await, 2);
        let (status, _) = daemon.stop().await;
        assert_eq!(status.code(), Some(0));
        assert_verified(&world.db).await;
    }

    async fn without_running_nothing_is_billed(db: TestDb) {
        let world = busy(db).await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let daemon = Daemon::start_with(&world.db, &time, &["--no-run"], &[]);
        daemon.says("ready").await;
        time.set("2026-01-16T12:00:00Z");
        let (status, _) = daemon.stop().await;
        assert_eq!(status.code(), Some(0));
        assert_eq!(world.db.number("select count(*) from runs").await, 0);
    }

    async fn a_clock_that_is_set_ahead_or_back_bills_nothing_until_it_is_right_again(db: TestDb) {
        let world = busy(db).await;
        let time = TimeFile::new(&world.db, "2026-01-14T12:00:00Z 0");
        let daemon = Daemon::start(&world.db, &time);
        world.db.completes("2026-01-14").await;
        // A minute later by the clock that nobody sets.
        assert_eq!(daemon.page("/readyz").await.0, 200);
        for (n, (wrong, told)) in [
            ("2026-01-15T12:01:00Z", "was set ahead by 86400 s"),
            ("2036-01-15T12:01:00Z", "days after the last work"),
            ("2026-01-13T12:01:00Z", "before the last work"),
        ].into_iter().enumerate() {
            time.set(&format!("{wrong} 60000000"));
            daemon.says(told).await;
            let (status, body) = daemon.page("/readyz").await;
            assert!(status == 503 && body.contains("the clock"), "{status} {body}");
            assert!(daemon.page("/metrics").await.1.contains("billday_problem{part=\"clock\"} 1"));
            time.set("2026-01-14T12:02:00Z 120000000");
            let again = "the clock is right again";
            eventually(again, async || daemon.log().matches(again).count() > n).await;
            assert_eq!(world.db.number(PAYMENTS).await, 0);
        }
        assert_eq!(world.db.number("select count(*) from completed_dates").await, 1, "{}", daemon.log());
        time.set("2026-01-15T12:02:00Z 86520000000");
        world.db.completes("2026-01-15").await;
        assert_verified(&world.db).await;
    }

    async fn a_clock_that_is_years_ahead_at_the_start_has_to_be_accepted(db: TestDb) {
        let world = busy(db).await;
        let time = TimeFile::new(&world.db, "2026-01-14T12:00:00Z");
        let daemon = Daemon::start(&world.db, &time);
        world.db.completes("2026-01-14").await;
        daemon.stop().await;
        for wrong in ["2036-01-15T12:00:00Z", "2026-01-13T12:00:00Z", "2026-01-14T11:00:00Z"] {
            time.set(wrong);
            let daemon = Daemon::start(&world.db, &time);
            daemon.says("nothing is billed").await;
            let (status, _) = daemon.stop().await;
            assert_eq!(status.code(), Some(0));
            assert_eq!(world.db.number("select count(*) from completed_dates").await, 1);
        }
        time.set("2036-01-15T12:00:00Z");
        let daemon = Daemon::start_with(&world.db, &time, &["--accept-clock"], &[]);
        world.db.completes("2036-01-15").await;
        daemon.stop().await;
        // It was a mistake; the way back is the same.
        time.set("2026-01-16T12:00:00Z");
        let daemon = Daemon::start_with(&world.db, &time, &["--accept-clock"], &[]);
        daemon.says("ready").await;
        eventually("noted", async || {
            world.db.number("select seen_at / 1000000 from daemon_state").await == 1_768_564_800
        }).await;
        assert!(!daemon.log().contains("nothing is billed"), "{}", daemon.log());
    }

    async fn a_tenant_that_cannot_be_billed_keeps_no_other_from_it(db: TestDb) {
        let world = busy(db).await;
        for id in ["M", "Z"] {
            world.import(tenant(id, json!({}))).await;
        }
        let customer = json!([{"tenantId": "Z", "customerId": "C", "company": "Acme", "email": "pay@acme.example"}]);
        world.import(customer).await;
        world.import(json!([rental("R", "2026-01-15", json!({"tenantId": "Z"}))])).await;
        world.db.execute("update tenants set time_zone = 'Mars/Phobos' where tenant_id = 'M'").await;
        // Each payment of Z fails, whatever one does.
        let trigger = if world.db.is_sqlite() {
            "create trigger bad before insert on payments when new.tenant_id = 'Z' begin select raise(abort, 'bad day'); end"
        } else {
            "create function bad() returns trigger language plpgsql as $$ begin raise exception 'bad day'; end $$;
             create trigger bad before insert on payments for each row when (new.tenant_id = 'Z') execute function bad();
             alter table payments enable always trigger bad"
        };
        world.db.execute(trigger).await;
        let time = TimeFile::new(&world.db, "2026-01-14T12:00:00Z");
        let daemon = Daemon::start(&world.db, &time);
        let all = "select count(*) from completed_dates where tenant_id = 'Z'";
        eventually("a day of which nothing is due", async || world.db.number(all).await == 1).await;
        time.set("2026-01-15T12:00:00Z");
        world.db.completes("2026-01-15").await;
        daemon.says("the tenant's timeZone is 'Mars/Phobos'").await;
        daemon.says("bad day").await;
        // The next day of the others goes on, and a mended tenant is caught up.
        time.set("2026-01-16T12:00:00Z");
        world.db.completes("2026-01-16").await;
        assert_eq!(world.db.number(all).await, 1);
        world.db.execute(if world.db.is_sqlite() { "drop trigger bad" } else { "drop trigger bad on payments" }).await;
        // It goes on: a try that was still failing just now puts off the next one by minutes.
        let minutes = std::sync::atomic::AtomicU32::new(0);
        eventually("Z is caught up", async || {
            let minute = minutes.fetch_add(1, std::sync::atomic::Ordering::Relaxed).min(500);
            time.set(&format!("2026-01-16T{:02}:{:02}:00Z", 14 + minute / 60, minute % 60));
            world.db.number(all).await == 3
        })
        .await;
        assert_eq!(world.db.number("select count(*) from payments where tenant_id = 'Z'").await, 1);
        world.db.execute("update tenants set time_zone = 'Europe/Berlin' where tenant_id = 'M'").await;
        assert_verified(&world.db).await;
    }

    async fn what_is_parked_is_tried_again_at_each_wake_and_at_the_start(db: TestDb) {
        let world = World::new(db).await;
        let usd = rental("B", "2026-01-15", json!({"currency": "USD"}));
        world.import(json!([rental("A", "2026-01-15", json!({})), usd, group("G", 15, &["A", "B"])])).await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let daemon = Daemon::start(&world.db, &time);
        world.db.completes("2026-01-15").await;
        let tries = "select count(*) from runs where kind = 'retry'";
        time.set("2026-01-15T13:00:00Z");
        time.set("2026-01-16T12:00:00Z");
        eventually("tried at the wake", async || world.db.number(tries).await == 1).await;
        daemon.stop().await;
        world.import(json!([rental("B", "2026-01-15", json!({"billingGroupId": "G"}))])).await;
        time.set("2026-01-16T12:30:00Z");
        let _daemon = Daemon::start(&world.db, &time);
        let open = "select count(*) from parked where state = 'open'";
        eventually("billed at the start", async || world.db.number(open).await == 0).await;
        assert_eq!(world.db.number(PAYMENTS).await, 1);
        assert_eq!(world.db.number(tries).await, 2);
        assert_verified(&world.db).await;
    }

    async fn daemons_that_are_killed_at_any_moment_bill_once(db: TestDb) {
        let world = busy(db).await;
        let mut random = Random::new();
        let mut now = noon("2026-01-15");
        let time = TimeFile::new(&world.db, &now.to_rfc3339());
        let (mut counts, mut aim) = (Counts::new("killed daemons", &world.db), 600_000);
        let kills = (30 * torture()).min(300);
        for round in 0..kills {
            let daemons: Vec<Daemon> = (0..=round % 3).map(|_| Daemon::start(&world.db, &time)).collect();
            let date = now.date_naive();
            let complete = format!("select count(*) from completed_dates where run_date = '{date}'");
            tokio::time::sleep(Duration::from_micros(100_000 + random.below(aim))).await;
            let hit = world.db.number(&complete).await == 0;
            counts.add("kills", 1);
            counts.add("hit a date at work", u64::from(hit));
            aim = if hit { aim * 21 / 20 } else { aim * 7 / 10 };
            daemons.into_iter().for_each(Daemon::kill);
            assert_verified(&world.db).await;
            if world.db.number(&complete).await == 1 {
                now = next_15th(now);
            } else {
                // What the dead ones hold runs out.
                now += TimeDelta::seconds(61);
            }
            time.set_to(now);
        }
        let daemon = Daemon::start(&world.db, &time);
        world.db.completes(&now.date_naive().to_string()).await;
        let (status, _) = daemon.stop().await;
        assert_eq!(status.code(), Some(0));
        assert_verified(&world.db).await;
        assert_eq!(world.db.number(HELD).await, 0);
        let missing = "select count(*) from rentals r where not exists(select 1 from payment_lines l
                           where l.tenant_id = r.tenant_id and l.rental_id = r.rental_id and l.billing_period = '2026-01')";
        assert_eq!(world.db.number(missing).await, 0);
        counts.add("takeovers", world.db.number("select count(*) from runs where error = 'taken over'").await as u64);
        counts.end(&[("hit a date at work", u64::from(kills / 3)), ("takeovers", 1)]);
    }

    async fn a_stalled_daemon_that_lost_its_lease_writes_nothing_more(db: TestDb) {
        let world = busy(db).await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let slow = [("BILLDAY_RUN__BATCH_RENTALS", "1"), ("BILLDAY_RUN__SHARE_RENTALS", "100000")];
        let stalled = Daemon::start_with(&world.db, &time, &[], &slow);
        eventually("some are billed", async || world.db.number(PAYMENTS).await >= 3).await;
        stalled.signal("-STOP");
        let billed = world.db.number(PAYMENTS).await;
        assert!(billed < 125, "it was stopped too late: {billed}");
        if world.db.is_sqlite() {
            // A writer that is stopped inside a transaction keeps out everybody; this one may be.
            stalled.signal("-CONT");
            eventually("between two", async || {
                stalled.signal("-STOP");
                let free = world.db.try_execute("begin immediate; rollback").await.is_ok();
                if !free { stalled.signal("-CONT"); }
                free
            }).await;
        }
        time.set("2026-01-15T12:01:01Z");
        let other = Daemon::start(&world.db, &time);
        world.db.completes("2026-01-15").await;
        other.stop().await;
        let rows = async || (world.db.number(PAYMENTS).await, world.db.number("select count(*) from outcomes").await,
                             world.db.number("select cast(sum(batches) as bigint) from runs").await);
        let before = rows().await;
        stalled.signal("-CONT");
        eventually("it notices", async || stalled.log().contains("ended by another process") || stalled.log().contains("could not go on")).await;
        let (status, _) = stalled.stop().await;
        assert_eq!(status.code(), Some(0));
        assert_eq!(rows().await, before);
        assert_eq!(world.db.number("select count(*) from runs where error = 'taken over'").await, 1);
        assert_verified(&world.db).await;
    }

    async fn a_daemon_that_is_told_to_stop_at_any_moment_ends_within_seconds_and_leaves_no_lease(db: TestDb) {
        let world = busy(db).await;
        let mut random = Random::new();
        let mut now = noon("2026-01-15");
        let time = TimeFile::new(&world.db, &now.to_rfc3339());
        let mut counts = Counts::new("stopped daemons", &world.db);
        for _ in 0..(10 * torture()).min(200) {
            let daemon = Daemon::start(&world.db, &time);
            eventually("signals are taken", async || daemon.log().contains("the daemon starts")).await;
            tokio::time::sleep(Duration::from_micros(random.below(400_000))).await;
            let (status, took) = daemon.stop().await;
            assert_eq!(status.code(), Some(0));
            assert!(took < Duration::from_secs(5), "{took:?}");
            counts.add("stops", 1);
            assert_eq!(world.db.number("select count(*) from shares where state = 'held'").await, 0);
            assert_verified(&world.db).await;
            let complete = format!("select count(*) from completed_dates where run_date = '{}'", now.date_naive());
            if world.db.number(&complete).await == 1 {
                now = next_15th(now);
                time.set_to(now);
            } else {
                counts.add("stopped at work", 1);
            }
        }
        counts.end(&[("stopped at work", 1)]);
    }

    async fn a_dead_daemons_share_is_taken_over_within_75_seconds_by_one_that_was_there(db: TestDb) {
        let world = busy(db).await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let slow = [("BILLDAY_RUN__BATCH_RENTALS", "1"), ("BILLDAY_RUN__SHARE_RENTALS", "100000")];
        let dead = Daemon::start_with(&world.db, &time, &[], &slow);
        eventually("some are billed", async || world.db.number(PAYMENTS).await >= 3).await;
        dead.kill();
        let billed = world.db.number(PAYMENTS).await;
        assert!(billed < 125, "it was killed too late: {billed}");
        let other = Daemon::start(&world.db, &time);
        other.says("ready").await;
        // It looks again every two seconds; each look sees time go on by five.
        for second in 1..=75 {
            if world.db.number(PAYMENTS).await > billed {
                break;
            }
            time.set(&format!("2026-01-15T12:{:02}:{:02}Z", second / 60, second % 60));
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        world.db.completes("2026-01-15").await;
        let waited = "select (new.started_at - old.beat_at) / 1000000 from runs new, runs old
                      where old.error = 'taken over' and new.state = 'completed'";
        let waited = world.db.number(waited).await;
        assert!((60..=75).contains(&waited), "{waited} s\n{}", other.log());
        other.stop().await;
        assert_verified(&world.db).await;
    }

    async fn a_year_of_daemons_that_are_killed_is_a_year_of_single_runs(db: TestDb) {
        let other = if db.is_sqlite() { TestDb::sqlite().await } else { TestDb::postgres().await };
        let (lived, model) = (World::new(db).await, World::new(other).await);
        for world in [&lived, &model] {
            world.import(tenant("NY", json!({"timeZone": "America/New_York", "currency": "USD", "runAt": "02:30"}))).await;
            world.import(Value::from(year())).await;
        }
        let mut random = Random::new();
        let first = day("2027-12-01");
        let time = TimeFile::new(&lived.db, &at_two(first).to_rfc3339());
        let mut daemon = Daemon::start(&lived.db, &time);
        for date in first.iter_days().take(366) {
            for world in [&lived, &model] {
                world.clock.set(at_two(date));
                if let Some(change) = changes(date) {
                    world.import(change).await;
                }
            }
            let mut now = at_two(date);
            time.set_to(now);
            let complete = format!("select count(*) from completed_dates where run_date = '{date}'");
            if random.below(12) == 0 {
                tokio::time::sleep(Duration::from_micros(random.below(60_000))).await;
                daemon.kill();
                now += TimeDelta::minutes(2);
                time.set_to(now);
                daemon = Daemon::start(&lived.db, &time);
            }
            eventually(&date.to_string(), async || lived.db.number(&complete).await == 2).await;
            let parked = model.open_parked().await;
            model.reports(Dates::TodayAndMissed, false, None).await;
            for parked in parked {
                model.reports(Dates::On(parked.run_date), false, Some(parked.subject())).await;
            }
            eventually("what is parked is tried", async || lived.open_parked().await.len() == model.open_parked().await.len()).await;
        }
        daemon.stop().await;
        for ledger in LEDGER {
            assert_eq!(lived.db.texts(ledger).await, model.db.texts(ledger).await);
        }
        assert!(lived.db.number("select count(*) from payments").await > 300);
        assert_verified(&lived.db).await;
    }

    async fn a_daemon_that_was_down_catches_up_or_leaves_arrears(db: TestDb) {
        // Away over the end of a month, over 29 February, and for longer than it catches up.
        for (n, (last, back)) in [("2028-01-30", "2028-02-01"), ("2028-02-27", "2028-03-02"), ("2028-02-20", "2028-04-01")]
            .into_iter()
            .enumerate()
        {
            let fresh = async || if db.is_sqlite() { TestDb::sqlite().await } else { TestDb::postgres().await };
            let (lived, model) = (World::new(fresh().await).await, World::new(fresh().await).await);
            for world in [&lived, &model] {
                world.import(tenant("T", json!({"billFrom": last}))).await;
                world.import(Value::from(year()).as_array().unwrap().iter().filter(|r| r["tenantId"] == "T").cloned().collect()).await;
            }
            let time = TimeFile::new(&lived.db, &at_two(day(last)).to_rfc3339());
            let daemon = Daemon::start(&lived.db, &time);
            lived.db.completes(last).await;
            daemon.kill();
            time.set_to(at_two(day(back)));
            let daemon = Daemon::start(&lived.db, &time);
            lived.db.completes(back).await;
            if n == 2 {
                daemon.says("billday run --tenant T --from 2028-02-21 --to 2028-03-25").await;
                // A month later all of it is charged, as arrears.
                for date in day(back).iter_days().skip(1).take(31) {
                    time.set_to(at_two(date));
                    lived.db.completes(&date.to_string()).await;
                }
            }
            daemon.stop().await;
            let end = if n == 2 { day(back) + Days::new(31) } else { day(back) };
            for date in day(last).iter_days().take_while(|date| *date <= end) {
                model.clock.set(at_two(date));
                model.reports(Dates::TodayAndMissed, false, None).await;
            }
            assert_eq!(lived.db.texts(LINES).await, model.db.texts(LINES).await, "{last} to {back}");
            assert_verified(&lived.db).await;
        }
    }

    async fn what_another_run_parked_meanwhile_stays_parked(db: TestDb) {
        let world = World::new(db).await;
        let usd = rental("B", "2026-01-15", json!({"currency": "USD"}));
        world.import(json!([rental("A", "2026-01-15", json!({})), usd, group("G", 15, &["A", "B"])])).await;
        world.run("2026-01-15").await;
        // A run that began before that one and looked at the same date ends after it.
        let date = day("2026-01-15");
        let before = noon("2026-01-15").timestamp_micros() - 1;
        let settle = world.db.store.with_tx(move |tx| Box::pin(async move {
            tx.settle_parked("T", &["slow".to_owned()], before, date, None, before + 2).await
        }));
        settle.await.expect("settled");
        assert_eq!(world.open_parked().await.len(), 1);
    }

    async fn a_monitor_sees_what_was_done_and_what_waits(db: TestDb) {
        let world = busy(db).await;
        let usd = rental("B", "2026-01-15", json!({"currency": "USD"}));
        world.import(json!([rental("A", "2026-01-15", json!({})), usd, group("X", 15, &["A", "B"])])).await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let watch = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/ping?token=canary", watch.local_addr().expect("an address"));
        let daemon = Daemon::start_with(&world.db, &time, &[], &[("BILLDAY_DAEMON__HEARTBEAT_URL", &url)]);
        // The heartbeat comes when all is done.
        let (mut caller, _) = watch.accept().await.expect("a heartbeat");
        let mut request = vec![0; 20];
        caller.read_exact(&mut request).await.expect("a request");
        assert_eq!(request, b"GET /ping?token=cana");
        caller.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("an answer");
        world.db.completes("2026-01-15").await;
        let (status, text) = daemon.page("/metrics").await;
        assert_eq!(status, 200);
        for line in [
            "billday_ready 1",
            "billday_database_answers 1",
            "billday_last_completed_date_seconds{tenant=\"T\"} 1768435200",
            "billday_parked{tenant=\"T\"} 1",
            "billday_withheld_periods{tenant=\"T\"} 0",
            "billday_subjects_total{outcome=\"billed\"} 125",
            "billday_subjects_total{outcome=\"parked\"} 1",
            "billday_failed_runs_total 0",
            "billday_mails{state=\"pending\"} 125",
            "billday_leases 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("billday_batch_seconds_count 0"), "{text}");
        daemon.stop().await;
    }

    async fn the_heartbeat_is_heard_over_tls(db: TestDb) {
        let world = busy(db).await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let ca = world.db.dir.path().join("ca.pem");
        let acceptor = acceptor(&ca);
        let watch = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://localhost:{}/ping", watch.local_addr().expect("an address").port());
        let ca = ca.display().to_string();
        let env = [("BILLDAY_DAEMON__HEARTBEAT_URL", url.as_str()), ("SSL_CERT_FILE", &ca), ("BILLDAY_LOG__LEVEL", "debug")];
        let daemon = Daemon::start_with(&world.db, &time, &[], &env);
        let (caller, _) = watch.accept().await.expect("a heartbeat");
        let mut caller = acceptor.accept(caller).await.expect("TLS");
        let mut request = vec![0; 9];
        caller.read_exact(&mut request).await.expect("a request");
        assert_eq!(request, b"GET /ping");
        caller.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("an answer");
        daemon.says("the heartbeat was heard").await;
        daemon.stop().await;
    }

    async fn the_operator_gets_one_summary_a_day_also_when_nothing_was_due(db: TestDb) {
        let world = busy(db).await;
        let time = TimeFile::new(&world.db, "2026-01-15T07:00:00Z");
        let env = [("BILLDAY_MAIL__TRANSPORT", "folder"), ("BILLDAY_DAEMON__SUMMARY_TO", "ops@example.com")];
        let daemon = Daemon::start_with(&world.db, &time, &[], &env);
        let other = Daemon::start_with(&world.db, &time, &[], &env);
        world.db.completes("2026-01-15").await;
        let mails = || summaries(&world.db);
        for (now, count, subject) in [
            ("2026-01-15T08:00:00Z", 1, "billday: 125 billed"),
            ("2026-01-16T08:00:00Z", 2, "billday: nothing was due"),
        ] {
            time.set(now);
            eventually(subject, async || mails().iter().any(|mail| mail.contains(subject))).await;
            assert_eq!(mails().len(), count);
        }
        daemon.stop().await;
        other.stop().await;
    }

    async fn a_summary_that_did_not_go_out_is_sent_at_the_next_tick_whatever_the_clock_showed_in_between(db: TestDb) {
        let world = busy(db).await;
        let time = TimeFile::new(&world.db, "2026-01-15T07:00:00Z 0");
        let env = [("BILLDAY_MAIL__TRANSPORT", "folder"), ("BILLDAY_DAEMON__SUMMARY_TO", "ops@example.com")];
        let daemon = Daemon::start_with(&world.db, &time, &[], &env);
        world.db.completes("2026-01-15").await;
        let sent = "select count(*) from outbox where state = 'pending'";
        eventually("the invoices are sent", async || world.db.number(sent).await == 0).await;
        // Its first day is over, and its folder cannot be written.
        let (folder, aside) = (world.db.dir.path().join("mail"), world.db.dir.path().join("aside"));
        std::fs::rename(&folder, &aside).expect("a renamed folder");
        std::fs::write(&folder, "in the way").expect("a file");
        time.set("2036-01-15T08:00:00Z 3600000000");
        daemon.says("nothing is billed").await;
        time.set("2026-01-15T08:00:00Z 3600000000");
        daemon.says("the daily summary could not be sent").await;
        std::fs::remove_file(&folder).expect("no file");
        std::fs::rename(&aside, &folder).expect("a renamed folder");
        assert_eq!(summaries(&world.db).len(), 0);
        time.set("2026-01-15T08:01:00Z 3660000000");
        eventually("the summary", async || summaries(&world.db).iter().any(|mail| mail.contains("125 billed"))).await;
    }

    async fn no_log_line_holds_personal_data_or_a_secret_at_any_level(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("T", json!({
            "name": "Canaryseller", "legalName": "Canaryseller GmbH", "iban": "DE89370400440532013000", "vatId": "DE123456789",
            "email": "seller@canary.example",
            "address": {"street": "Canarystreet 1", "city": "Canarytown", "postalCode": "10115", "country": "DE"},
        }))).await;
        world.import(json!([{
            "tenantId": "T", "customerId": "C", "firstName": "Canary", "lastName": "Canarysen", "email": "buyer@canary.example",
            "billingAddress": {"street": "Canaryway 2", "city": "Canaryville", "postalCode": "20095", "country": "DE"},
        }])).await;
        world.import(Value::from(many())).await;
        world.import(json!([rental("B", "2026-01-15", json!({"currency": "USD"})), group("X", 15, &["A0-0", "B"])])).await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let url = format!("http://127.0.0.1:{}/canary-token", unused_port());
        for format in ["text", "json"] {
            let env = [
                ("BILLDAY_LOG__LEVEL", "trace"),
                ("BILLDAY_LOG__FORMAT", format),
                ("BILLDAY_MAIL__TRANSPORT", "folder"),
                ("BILLDAY_DAEMON__HEARTBEAT_URL", &url),
            ];
            let daemon = Daemon::start_with(&world.db, &time, &[], &env);
            daemon.says("the heartbeat failed").await;
            if format == "text" {
                assert_eq!(daemon.page("/canary?mail=buyer@canary.example").await.0, 404);
                daemon.says("status=404").await;
            }
            let sent = "select count(*) from outbox where state = 'pending'";
            eventually("mails are sent", async || world.db.number(sent).await == 0).await;
            daemon.stop().await;
            time.set("2026-01-16T12:00:00Z");
        }
        let logs = std::fs::read_dir(world.db.dir.path()).expect("a folder").filter_map(Result::ok);
        let logs: Vec<_> = logs.map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
        assert_eq!(logs.len(), 2);
        for log in logs {
            let text = std::fs::read_to_string(log).expect("a log");
            assert!(text.contains("run completed") && text.len() > 1000, "{text}");
            for line in text.lines() {
                let told = line.to_lowercase();
                assert!(!told.contains("canary") && !told.contains("de89370400440532013000") && !told.contains("de123456789"), "{line}");
            }
        }
    }

    async fn the_service_manager_hears_how_it_goes(db: TestDb) {
        let world = busy(db).await;
        let path = world.db.dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let path = path.display().to_string();
        let daemon = Daemon::start_with(&world.db, &time, &[], &[("NOTIFY_SOCKET", &path)]);
        let mut heard = Vec::new();
        let mut wait_for = |wanted: &str| loop {
            let mut buffer = [0; 500];
            let length = socket.recv(&mut buffer).unwrap_or_else(|_| panic!("no {wanted} in {heard:?}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let found = message.starts_with(wanted);
            heard.push(message);
            if found {
                return;
            }
        };
        wait_for("READY=1");
        wait_for("STATUS=billing T for 2026-01-15");
        wait_for("WATCHDOG=1");
        wait_for("STATUS=nothing is due");
        daemon.signal("-HUP");
        wait_for("RELOADING=1");
        wait_for("READY=1");
        daemon.signal("-TERM");
        wait_for("STOPPING=1");
    }

    async fn a_new_configuration_is_taken_over_and_what_needs_a_restart_is_said(db: TestDb) {
        let world = World::new(db).await;
        let file = world.db.file("billday.toml", "[log]\nlevel = \"info\"");
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let daemon = Daemon::start(&world.db, &time);
        world.db.completes("2026-01-15").await;
        std::fs::write(&file, "[log]\nlevel = \"warn\"\n[database]\nconnections = 7").expect("a file");
        daemon.signal("-HUP");
        daemon.says("what changed in database counts from the next start on").await;
        std::fs::write(&file, "[log]\nlevel = \"loud\"").expect("a file");
        daemon.signal("-HUP");
        daemon.says("the configuration stays as it was").await;
        time.set("2026-01-16T12:00:00Z");
        world.db.completes("2026-01-16").await;
        assert_eq!(daemon.log().matches("run completed").count(), 1, "{}", daemon.log());
    }
}

/// Two in the afternoon in UTC: the same date in Berlin and New York, and each tenant's time has come.
fn at_two(date: NaiveDate) -> DateTime<Utc> {
    date.and_hms_opt(14, 0, 0).expect("a time").and_utc()
}

fn noon(date: &str) -> DateTime<Utc> {
    crate::support::world::noon(day(date))
}

/// The 15th of the next month, at noon.
fn next_15th(now: DateTime<Utc>) -> DateTime<Utc> {
    noon(&format!("{}-15", billday::domain::BillingPeriod::of(now.date_naive()).plus(1)))
}

/// Rentals of two tenants that start on every day of a month, run out, and are grouped.
fn year() -> Vec<Value> {
    let mut records =
        vec![json!({"tenantId": "NY", "customerId": "C", "company": "Acme Inc", "email": "pay@acme.example"})];
    for n in 1..=31 {
        records.push(rental(&format!("R{n}"), &format!("2027-10-{n:02}"), json!({})));
        let with = json!({"tenantId": "NY", "contractLength": 6});
        records.push(rental(&format!("N{n}"), &format!("2027-12-{n:02}"), with));
    }
    records.push(group("G", 28, &["R3", "R29", "R31"]));
    records
}

/// What people change on a date.
fn changes(date: NaiveDate) -> Option<Value> {
    match date.to_string().as_str() {
        "2028-02-10" => Some(json!([group("G", 12, &["R3", "R29", "R31", "R20"])])),
        "2028-03-01" => Some(json!([rental("R7", "2027-10-07", json!({"monthlyAmount": 11.5}))])),
        "2028-05-31" => Some(json!([rental("R9", "2027-10-09", json!({"currency": "USD", "billingGroupId": "G"}))])),
        "2028-06-20" => Some(json!([rental("R9", "2027-10-09", json!({"billingGroupId": "G"}))])),
        "2028-08-15" => Some(json!([group("G", 1, &["R3"])])),
        _ => None,
    }
}

/// A port on which nobody listens.
fn unused_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// On PostgreSQL alone, which tells that somebody waits.
#[test]
fn a_daemon_that_is_told_to_stop_twice_ends_at_once() {
    run(async {
        let world = busy(TestDb::postgres().await).await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let held = world.db.hold().await;
        let daemon = Daemon::start(&world.db, &time);
        let waiting =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        eventually("it waits in a transaction", async || world.db.number(waiting).await > 0).await;
        daemon.signal("-TERM");
        daemon.says("told to stop: the batches").await;
        let log = daemon.log_file();
        let (status, took) = daemon.stop().await;
        let log = std::fs::read_to_string(log).expect("the log");
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert!(log.contains("told to stop a second time"), "{log}");
        drop(held);
        let daemon = Daemon::start(&world.db, &time);
        world.db.completes("2026-01-15").await;
        daemon.stop().await;
        assert_verified(&world.db).await;
    });
}

#[test]
fn a_sqlite_file_is_worked_on_by_daemons_of_one_machine_at_a_time() {
    run(async {
        let world = busy(TestDb::sqlite().await).await;
        let env = [("BILLDAY_MAIL__TRANSPORT", "folder")];
        let time = TimeFile::new(&world.db, "2026-01-14T12:00:00Z");
        let daemon = Daemon::start(&world.db, &time);
        world.db.completes("2026-01-14").await;
        let here = "select count(*) from daemon_state where machine is not null and host is not null";
        assert_eq!(world.db.number(here).await, 1);
        daemon.stop().await;
        assert_eq!(world.db.number(here).await, 0, "who ends leaves at once");

        time.set("2026-01-15T12:00:00Z");
        world
            .db
            .execute("update daemon_state set machine = 'another', host = 'north', seen_at = 1768478340000000")
            .await;
        let told = crate::cli::billday_with(
            world.db.dir.path(),
            &world.db.url,
            &["run", "--run-date", "2026-01-15"],
            &[("BILLDAY_TEST_NOW", "2026-01-15T12:00:00Z")],
        );
        assert!(
            told.status == 2 && told.err.contains("a daemon on another machine, north, works on this SQLite database"),
            "{told:?}"
        );
        let daemon = Daemon::start_with(&world.db, &time, &[], &env);
        daemon.says("nothing is billed and no mail is sent: a daemon on another machine, north").await;
        let (status, body) = daemon.page("/readyz").await;
        assert!(status == 503 && body.contains("another machine, north"), "{status} {body}");
        assert_eq!(world.db.number(PAYMENTS).await, 0);
        // The other was seen a minute ago; now nobody has seen it for three.
        time.set("2026-01-15T12:02:01Z");
        daemon.says("the database is this machine's").await;
        world.db.completes("2026-01-15").await;
        let waiting = "select count(*) from outbox where state = 'pending'";
        eventually("the mails go out", async || world.db.number(waiting).await == 0).await;
        daemon.stop().await;
        assert_verified(&world.db).await;
    });
}

#[test]
fn a_daemon_is_seen_on_its_machine_while_a_long_day_is_billed() {
    run(async {
        let world = busy(TestDb::sqlite().await).await;
        world
            .db
            .execute(
                "create table seen (at integer, billed integer);
             create trigger note_seen after update of seen_at on daemon_state begin
                 insert into seen values (new.seen_at, (select count(*) from payments));
             end",
            )
            .await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        let slow = [("BILLDAY_RUN__BATCH_RENTALS", "1"), ("BILLDAY_RUN__SHARE_RENTALS", "5")];
        let daemon = Daemon::start_with(&world.db, &time, &[], &slow);
        eventually("some are billed", async || world.db.number(PAYMENTS).await >= 3).await;
        let held = world.db.hold().await;
        let billed = world.db.number(PAYMENTS).await;
        assert!(billed < 100, "it was held too late: {billed}");
        time.set("2026-01-15T12:03:00Z");
        drop(held);
        world.db.completes("2026-01-15").await;
        daemon.stop().await;
        let meanwhile = "select count(*) from seen where at >= 1768478580000000 and billed < 125";
        assert!(world.db.number(meanwhile).await > 0);
    });
}

#[test]
fn a_port_that_is_taken_is_said_before_anything_is_done() {
    run(async {
        let world = busy(TestDb::sqlite().await).await;
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = taken.local_addr().expect("an address").to_string();
        let told = crate::cli::billday(world.db.dir.path(), &world.db.url, &["daemon", "--listen", &address]);
        assert_eq!(told.status, 1, "{told:?}");
        assert!(told.err.contains("cannot listen on") && told.err.contains("in use"), "{told:?}");
        assert_eq!(world.db.number("select count(*) from runs").await, 0);
    });
}

#[test]
fn a_database_that_is_away_at_the_start_and_in_between_is_waited_for() {
    run(async {
        let world = busy(TestDb::postgres().await).await;
        let time = TimeFile::new(&world.db, "2026-01-15T12:00:00Z");
        world.db.shut_out().await;
        let daemon = Daemon::start_with(&world.db, &time, &[], &[("BILLDAY_RUN__BATCH_RENTALS", "1")]);
        daemon.says("the database is away").await;
        world.db.let_in().await;
        let mut cut_at_work = 0;
        for round in 1..=5 {
            let before = world.db.number(PAYMENTS).await;
            eventually("some are billed", async || world.db.number(PAYMENTS).await > before.min(124)).await;
            cut_at_work += u32::from(world.db.number("select count(*) from completed_dates").await == 0);
            world.db.shut_out().await;
            world.db.let_in().await;
            // A lease that could not be released runs out.
            time.set_to(noon("2026-01-15") + TimeDelta::minutes(2 * round));
        }
        assert!(cut_at_work > 0, "it was never cut at work");
        for minute in 0..30 {
            time.set_to(noon("2026-01-15") + TimeDelta::minutes(20 + minute));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        world.db.completes("2026-01-15").await;
        daemon.says("the database answers again").await;
        assert_verified(&world.db).await;
        let (status, _) = daemon.stop().await;
        assert_eq!(status.code(), Some(0));
    });
}

#[test]
fn a_clock_that_differs_from_the_databases_bills_nothing() {
    run(async {
        let world = busy(TestDb::postgres().await).await;
        for hours in [-1, 1, -24, 24] {
            let wrong = billday::clock::Clock::now(&billday::clock::SystemClock) + TimeDelta::hours(hours);
            let time = TimeFile::new(&world.db, &format!("{} 0 machine", wrong.to_rfc3339()));
            let daemon = Daemon::start(&world.db, &time);
            daemon.says(if hours < 0 { "s behind the database's" } else { "s ahead of the database's" }).await;
            let (status, _) = daemon.stop().await;
            assert_eq!(status.code(), Some(0));
            assert_eq!(world.db.number("select count(*) from runs").await, 0);
        }
    });
}
