//! kill -9 at any moment, alone and racing: whatever was cut off, the next run goes on, and the ledger verifies after each kill.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use billday::domain::BillingPeriod;
use serde_json::{Value, json};

use crate::support::lane::Counts;
use crate::support::random::Random;
use crate::support::world::{World, day, group, rental};
use crate::support::{TestDb, assert_verified, on_both, torture};

/// Kills of each database in CI; `BILLDAY_TEST_TORTURE` multiplies them.
const KILLS: u64 = 200;

on_both! {
    async fn a_run_that_is_killed_at_any_moment_is_finished_by_the_next(db: TestDb) {
        let counts = kill(db, "killed runs", 1).await;
        let kills = counts.of("kills");
        counts.end(&[("hit one at work", kills / 2), ("runs cut off in the midst", kills / 8)]);
    }

    async fn two_racing_runs_that_are_killed_at_any_moment_bill_once(db: TestDb) {
        let counts = kill(db, "killed racing runs", 2).await;
        let kills = counts.of("kills");
        counts.end(&[("hit one at work", kills / 2), ("runs cut off in the midst", kills / 8), ("batches planned again", kills / 50)]);
    }
}

/// Kills in rounds, each with a ledger of its own: one that grew for ever would take longer to verify each time.
async fn kill(db: TestDb, name: &str, racers: u64) -> Counts {
    let mut counts = Counts::new(name, &db);
    let mut random = Random::new();
    for _ in 0..torture() {
        let mut lane = Lane::new(db.another().await, racers).await;
        lane.kill(KILLS / 2, &mut random, &mut counts).await;
    }
    counts
}

/// One database whose runs are killed.
struct Lane {
    world: World,
    racers: u64,
    period: BillingPeriod,
    /// Kills fall within this time after a start; it follows the machine, so that most hit a run at work.
    aim: Duration,
    log: File,
}

impl Lane {
    async fn new(db: TestDb, racers: u64) -> Self {
        let world = World::new(db).await;
        world.import(Value::from(records())).await;
        let period = BillingPeriod::of(day("2026-01-15"));
        let log = File::create(world.db.dir.path().join("log")).expect("a log");
        Self { world, racers, period, aim: Duration::from_millis(500), log }
    }

    async fn kill(&mut self, kills: u64, random: &mut Random, counts: &mut Counts) {
        self.aim = self.time_a_whole_run();
        for _ in 0..kills.div_ceil(self.racers) {
            let processes: Vec<Child> = (0..self.racers).map(|_| self.spawn()).collect();
            let mut ended_well = false;
            for mut process in processes {
                let aim = self.aim.as_micros() as u64 / self.racers;
                std::thread::sleep(Duration::from_micros(random.below(aim)));
                let ended = process.try_wait().expect("a process").is_some();
                counts.add("kills", 1);
                counts.add("hit one at work", u64::from(!ended));
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
        assert_eq!(status.code(), Some(0), "{}", self.log());
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
        let cut_off = "select count(*) from runs where state <> 'completed' and batches > 0";
        counts.add("runs cut off in the midst", self.world.db.number(cut_off).await as u64);
        counts.add("batches planned again", self.log().matches("a batch is planned again").count() as u64);
    }

    fn time_a_whole_run(&mut self) -> Duration {
        let start = Instant::now();
        let status = self.spawn().wait().expect("an ended process");
        assert_eq!(status.code(), Some(0), "a run that nobody kills: {}", self.log());
        self.next_period();
        start.elapsed()
    }

    fn next_period(&mut self) {
        self.period = self.period.plus(1);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.world.db.dir.path().join("log")).expect("the log")
    }

    fn spawn(&self) -> Child {
        let date = format!("{}-15", self.period);
        Command::new(env!("CARGO_BIN_EXE_billday"))
            .args(["run", "--run-date", &date, "--no-send", "--database", &self.world.db.url])
            .env("BILLDAY_TEST_NOW", format!("{date}T12:00:00Z"))
            .env("BILLDAY_RUN__BATCH_RENTALS", "5")
            .env("BILLDAY_LOG__LEVEL", "debug")
            .current_dir(self.world.db.dir.path())
            .stdout(Stdio::null())
            .stderr(self.log.try_clone().expect("the log"))
            .spawn()
            .expect("the program")
    }
}

/// Rentals that are all due on the 15th: half of them in groups, half alone.
fn records() -> Vec<Value> {
    let mut records = Vec::new();
    for n in 0..20 {
        let ids: Vec<String> = (0..4).map(|member| format!("G{n}-{member}")).collect();
        records.extend(ids.iter().map(|id| rental(id, "2026-01-15", json!({}))));
        records.push(group(&format!("G{n}"), 15, &ids.iter().map(String::as_str).collect::<Vec<_>>()));
        records.push(rental(&format!("A{n}"), "2026-01-15", json!({})));
    }
    records
}
