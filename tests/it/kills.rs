//! kill -9 at any moment, alone and racing: whatever was cut off, the next run goes on, and the ledger verifies after each kill.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use billday::domain::BillingPeriod;
use serde_json::{Value, json};

use crate::support::random::Random;
use crate::support::world::{World, day, group, rental};
use crate::support::{TestDb, assert_verified, on_both, torture};

/// Kills of each database in CI; `BILLDAY_TEST_TORTURE` multiplies them.
const KILLS: u32 = 200;

on_both! {
    async fn a_run_that_is_killed_at_any_moment_is_finished_by_the_next(db: TestDb) {
        let mut lane = Lane::new(db, 1).await;
        lane.kill(KILLS / 2 * torture()).await;
    }

    async fn two_racing_runs_that_are_killed_at_any_moment_bill_once(db: TestDb) {
        let mut lane = Lane::new(db, 2).await;
        lane.kill(KILLS / 2 * torture()).await;
    }
}

/// One database whose runs are killed.
struct Lane {
    world: World,
    racers: u32,
    random: Random,
    period: BillingPeriod,
    /// Kills that hit a process before it had ended.
    hits: u32,
    /// Kills fall within this time after a start; it follows the machine, so that most hit a run at work.
    aim: Duration,
}

impl Lane {
    async fn new(db: TestDb, racers: u32) -> Self {
        let world = World::new(db).await;
        world.import(Value::from(records())).await;
        let random = Random::new();
        let period = BillingPeriod::of(day("2026-01-15"));
        Self { world, racers, random, period, hits: 0, aim: Duration::from_millis(500) }
    }

    async fn kill(&mut self, kills: u32) {
        self.aim = self.time_a_whole_run();
        for _ in 0..kills {
            let processes: Vec<Child> = (0..self.racers).map(|_| self.spawn()).collect();
            let mut ended_well = false;
            for mut process in processes {
                let aim = self.aim.as_micros() as u64 / u64::from(self.racers);
                std::thread::sleep(Duration::from_micros(self.random.below(aim)));
                let ended = process.try_wait().expect("a process").is_some();
                self.hits += u32::from(!ended);
                self.aim = if ended { self.aim * 8 / 10 } else { self.aim * 21 / 20 };
                process.kill().expect("a killed process");
                let status = process.wait().expect("an ended process");
                ended_well |= status.code() == Some(0);
            }
            assert_verified(&self.world.db).await;
            if ended_well {
                self.next_period();
            }
        }
        // Nothing is left behind: one more run finishes the date.
        let status = self.spawn().wait().expect("an ended process");
        assert_eq!(status.code(), Some(0));
        assert_verified(&self.world.db).await;
        let missing = self
            .world
            .db
            .number(&format!(
                "select count(*) from rentals r where not exists
             (select 1 from payment_lines l where l.rental_id = r.rental_id and l.billing_period = '{}')",
                self.period
            ))
            .await;
        assert_eq!(missing, 0, "every rental is charged for {}", self.period);
        assert!(self.hits * 2 >= kills, "only {} of {kills} kills hit a run: this tested nothing", self.hits);
    }

    fn time_a_whole_run(&mut self) -> Duration {
        let start = Instant::now();
        let status = self.spawn().wait().expect("an ended process");
        assert_eq!(status.code(), Some(0), "a run that nobody kills");
        self.next_period();
        start.elapsed()
    }

    fn next_period(&mut self) {
        self.period = self.period.plus(1);
    }

    fn spawn(&self) -> Child {
        let date = format!("{}-15", self.period);
        Command::new(env!("CARGO_BIN_EXE_billday"))
            .args(["run", "--run-date", &date, "--no-send", "--database", &self.world.db.url])
            .env("BILLDAY_TEST_NOW", format!("{date}T12:00:00Z"))
            .env("BILLDAY_RUN__BATCH_RENTALS", "5")
            .env("BILLDAY_LOG__LEVEL", "error")
            .current_dir(self.world.db.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program")
    }
}

/// Rentals that are all due on the 15th: half of them in groups, half alone.
fn records() -> Vec<Value> {
    let mut records = Vec::new();
    for n in 0..40 {
        let ids: Vec<String> = (0..4).map(|member| format!("G{n}-{member}")).collect();
        records.extend(ids.iter().map(|id| rental(id, "2026-01-15", json!({}))));
        records.push(group(&format!("G{n}"), 15, &ids.iter().map(String::as_str).collect::<Vec<_>>()));
        records.push(rental(&format!("A{n}"), "2026-01-15", json!({})));
    }
    records
}
