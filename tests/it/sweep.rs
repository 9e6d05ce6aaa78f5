//! A run that dies, or whose disk fails, at each single write and sync: strace counts the calls and strikes at the n-th, for n = 1, 2, …
//! until the run meets none any more. So every point is visited, not only those that chance finds.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::billday;
use crate::support::daemon::{Daemon, TimeFile, eventually};
use crate::support::lane::Counts;
use crate::support::postgres::signal;
use crate::support::random::Random;
use crate::support::world::{World, day, group, noon, rental};
use crate::support::{TestDb, assert_verified, run, torture};

const DATE: &str = "2026-11-15";

/// Where SQLite touches its files.
const CALLS: [&str; 5] = ["pwrite64", "fsync", "fdatasync", "ftruncate", "unlink"];

/// One point in so many is visited in CI, and all of them from a factor of so many on.
const STRIDE: u64 = 16;

/// What strace does at a call.
#[derive(Debug, Clone, Copy)]
enum Blow {
    Kill,
    /// It fails with this, once.
    Fail(&'static str),
}

/// A ledger before its run, which each point begins with.
struct Sweep {
    world: World,
    /// The copy that is struck. Nobody has it open in between: its last user sweeps up after itself.
    url: String,
    counts: Counts,
}

impl Sweep {
    async fn new(name: &str) -> Self {
        let world = World::new(TestDb::sqlite().await).await;
        let mut records: Vec<Value> = (0..7).map(|n| rental(&format!("A{n}"), DATE, json!({}))).collect();
        records.extend(["G1", "G2"].map(|id| rental(id, DATE, json!({}))));
        records.push(group("G", 15, &["G1", "G2"]));
        world.import(Value::from(records)).await;
        world.db.execute(&format!("vacuum into '{}'", world.db.dir.path().join("before.db").display())).await;
        let counts = Counts::new(name, &world.db);
        let url = world.db.url.replace("billday.db", "struck.db");
        Self { world, url, counts }
    }

    /// The ledger as it was before any run.
    fn begin_again(&self) {
        let folder = self.world.db.dir.path();
        for file in ["struck.db", "struck.db-wal", "struck.db-shm"] {
            let _ = fs::remove_file(folder.join(file));
        }
        fs::copy(folder.join("before.db"), folder.join("struck.db")).expect("a copy");
    }

    /// A run that is struck at the `n`-th `call` of any of its threads; tells whether it was.
    fn strike(&self, call: &str, blow: Blow, n: u64) -> (Output, bool) {
        let folder = self.world.db.dir.path();
        let blow = match blow {
            Blow::Kill => "signal=KILL".to_owned(),
            Blow::Fail(error) => format!("error={error}"),
        };
        let trace = folder.join("trace");
        let output = Command::new("strace")
            .args(["-f", "-qq", "-e", "signal=none", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:{blow}:when={n}"), "-o"])
            .arg(&trace)
            .arg(env!("CARGO_BIN_EXE_billday"))
            .args(["run", "--run-date", DATE, "--no-send", "--database", &self.url])
            .env("BILLDAY_TEST_NOW", format!("{DATE}T12:00:00Z"))
            .env("BILLDAY_RUN__BATCH_RENTALS", "2")
            .current_dir(folder)
            .output()
            .expect("strace");
        let struck =
            output.status.signal() == Some(9) || fs::read_to_string(&trace).expect("a trace").contains("(INJECTED)");
        (output, struck)
    }

    /// Strikes at one call after the other until the run ends without a blow.
    async fn all_points(&mut self, call: &str, blow: Blow, random: &mut Random) {
        let stride = (STRIDE / u64::from(torture()).min(STRIDE)).max(1);
        let mut n = 1 + random.below(stride);
        loop {
            self.begin_again();
            let (output, struck) = self.strike(call, blow, n);
            let place = format!("{blow:?} at {call} {n}: {}", String::from_utf8_lossy(&output.stderr));
            if !struck {
                assert_eq!(output.status.code(), Some(0), "{place}");
                break;
            }
            match blow {
                Blow::Kill => self.counts.add("killed", 1),
                Blow::Fail(_) => {
                    assert!([Some(0), Some(1)].contains(&output.status.code()), "{place}: {:?}", output.status);
                    self.counts.add("calls failed", 1);
                    self.counts.add("runs failed", u64::from(output.status.code() == Some(1)));
                }
            }
            eprintln!("{}", place.lines().next().unwrap_or_default());
            self.is_whole(&place).await;
            n += stride;
        }
    }

    /// What was billed is proved, the next run bills the rest, and nothing twice.
    async fn is_whole(&mut self, place: &str) {
        let db = TestDb::sqlite_at(&self.url).await;
        assert_verified(&db).await;
        let partly = db.number("select count(*) from payments").await;
        self.counts.add("half-finished", u64::from((1..8).contains(&partly)));
        let told = billday(self.world.db.dir.path(), &db.url, &["run", "--run-date", DATE, "--no-send"]);
        assert_eq!(told.status, 0, "{place}: {told:?}");
        assert_verified(&db).await;
        let billed = "select count(*) from payment_lines where billing_period = '2026-11'";
        assert_eq!(db.number(billed).await, 9, "{place}");
        assert_eq!(db.number("select count(*) from completed_dates").await, 1, "{place}");
        db.store.clone().close().await;
    }
}

/// Whether to go on: where the machine has no strace, its absence has to be admitted.
fn have_strace() -> bool {
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if works.is_ok_and(|output| output.status.success()) {
        return true;
    }
    let admitted = std::env::var_os("BILLDAY_TEST_WITHOUT_STRACE").is_some();
    assert!(
        admitted,
        "strace is missing or may not trace here: install it, or admit it with BILLDAY_TEST_WITHOUT_STRACE=1"
    );
    println!("lane: NOT RUN for want of strace");
    false
}

#[test]
fn a_run_that_dies_at_any_write_or_sync_is_finished_by_the_next() {
    run(async {
        if !have_strace() {
            return;
        }
        let mut sweep = Sweep::new("kill at each write and sync").await;
        let mut random = Random::new();
        for call in CALLS {
            sweep.all_points(call, Blow::Kill, &mut random).await;
        }
        let killed = sweep.counts.of("killed");
        sweep.counts.end(&[("killed", 8), ("half-finished", killed / 6)]);
    });
}

#[test]
fn a_disk_that_fails_or_is_full_at_any_write_or_sync_loses_and_doubles_nothing() {
    run(async {
        if !have_strace() {
            return;
        }
        let mut sweep = Sweep::new("EIO and ENOSPC at each write and sync").await;
        let mut random = Random::new();
        for call in CALLS {
            for error in ["EIO", "ENOSPC"] {
                sweep.all_points(call, Blow::Fail(error), &mut random).await;
            }
        }
        let failed = sweep.counts.of("calls failed");
        sweep.counts.end(&[("calls failed", 16), ("runs failed", failed / 3), ("half-finished", failed / 8)]);
    });
}

#[test]
fn a_daemon_whose_disk_fails_for_a_while_goes_on_by_itself() {
    run(async {
        if !have_strace() {
            return;
        }
        let mut random = Random::new();
        let mut counts = None;
        for round in 0..2 * torture() {
            let world = World::new(TestDb::sqlite().await).await;
            world.import((0..200).map(|n| rental(&format!("A{n}"), DATE, json!({}))).collect()).await;
            let mut now = noon(day(DATE));
            let time = TimeFile::new(&world.db, &now.to_rfc3339());
            let daemon = Daemon::start_with(&world.db, &time, &[], &[("BILLDAY_RUN__BATCH_RENTALS", "1")]);
            let payments = "select count(*) from payments";
            let some = 1 + random.below(20) as i64;
            eventually("some are billed", async || world.db.number(payments).await >= some).await;
            // While strace looks on, nothing can be written.
            let error = ["EIO", "ENOSPC"][round as usize % 2];
            let trace = world.db.dir.path().join("trace");
            let mut strace = Command::new("strace")
                .args(["-f", "-qq", "-e", "signal=none", "-e", "trace=pwrite64,fsync"])
                .args(["-e", &format!("inject=pwrite64,fsync:error={error}"), "-o", &trace.display().to_string()])
                .args(["-p", &daemon.id().to_string()])
                .spawn()
                .expect("strace");
            daemon.says("could not go on").await;
            signal("-TERM", strace.id());
            strace.wait().expect("an ended strace");
            let before = world.db.number(payments).await;
            assert!(before < 200, "the disk failed too late");
            let begun = Instant::now();
            while world.db.number("select count(*) from completed_dates").await == 0 {
                assert!(begun.elapsed() < Duration::from_secs(120), "it never went on\n{}", daemon.log());
                // A tenant that failed is tried again after a minute.
                now += chrono::TimeDelta::seconds(3);
                time.set_to(now);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let (status, _) = daemon.stop().await;
            assert_eq!(status.code(), Some(0));
            assert_verified(&world.db).await;
            assert_eq!(world.db.number(payments).await, 200);
            let counts = counts.get_or_insert_with(|| Counts::new("a disk that fails under a daemon", &world.db));
            counts.add("daemons", 1);
            counts.add("calls failed", injected(&trace));
        }
        counts.expect("rounds").end(&[("calls failed", 2)]);
    });
}

/// Makes a run on a file system of its own that is too small for it, keeps what it left, makes room, and runs again. Tells both
/// statuses; nothing if this machine lets nobody mount.
fn on_a_small_disk(folder: &Path) -> Option<(i32, i32)> {
    const SCRIPT: &str = r#"
        place=$1/small room=$(($(stat -c %s "$1/before.db") / 1024 + 700))
        mount -t tmpfs -o size=${room}k tmpfs "$place" || exit 99
        cp "$1/before.db" "$place/billday.db"
        run() { "$2" run --run-date "$3" --no-send --database "sqlite://$1/small/billday.db" >"$1/told" 2>&1; echo $?; }
        first=$(run "$@")
        cp "$place/billday.db" "$1/full.db"
        cp "$place/billday.db-wal" "$1/full.db-wal" 2>/dev/null
        mount -o remount,size=100m "$place" || exit 99
        second=$(run "$@")
        cp "$place/billday.db" "$1/done.db"
        cp "$place/billday.db-wal" "$1/done.db-wal" 2>/dev/null
        echo "$first $second""#;
    fs::create_dir(folder.join("small")).expect("a folder");
    for rights in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
        let output = Command::new("unshare")
            .args(rights)
            .args(["bash", "-c", SCRIPT, "bash"])
            .arg(folder)
            .args([env!("CARGO_BIN_EXE_billday"), DATE])
            .env("BILLDAY_TEST_NOW", format!("{DATE}T12:00:00Z"))
            .env("BILLDAY_RUN__BATCH_RENTALS", "1")
            .output();
        if let Some(output) = output.ok().filter(|output| output.status.success()) {
            let told = String::from_utf8(output.stdout).expect("UTF-8");
            let (first, second) = told.trim().split_once(' ').expect("two statuses");
            return Some((first.parse().expect("a status"), second.parse().expect("a status")));
        }
    }
    None
}

#[test]
fn a_small_disk_that_is_full_fails_the_run_and_once_there_is_room_the_next_one_finishes_it() {
    run(async {
        let world = World::new(TestDb::sqlite().await).await;
        world.import((0..300).map(|n| rental(&format!("A{n}"), DATE, json!({}))).collect()).await;
        let folder = world.db.dir.path();
        world.db.execute(&format!("vacuum into '{}'", folder.join("before.db").display())).await;
        let Some(statuses) = on_a_small_disk(folder) else {
            println!("lane: NOT RUN for want of a right to mount: a small disk that is full");
            return;
        };
        let told = fs::read_to_string(folder.join("told")).unwrap_or_default();
        assert_eq!(statuses, (1, 0), "{told}");
        let mut counts = Counts::new("a small disk that is full", &world.db);
        for (file, least) in [("full.db", 1), ("done.db", 300)] {
            let db = TestDb::sqlite_at(&format!("sqlite://{}", folder.join(file).display())).await;
            assert_verified(&db).await;
            let billed = db.number("select count(*) from payments").await;
            assert!(billed >= least && (least == 300 || billed < 300), "{billed} in {file}");
            counts.add(
                if least == 300 { "billed once there was room" } else { "billed until it was full" },
                billed as u64,
            );
        }
        counts.end(&[]);
    });
}

fn injected(trace: &Path) -> u64 {
    fs::read_to_string(trace).expect("a trace").matches("(INJECTED)").count() as u64
}
