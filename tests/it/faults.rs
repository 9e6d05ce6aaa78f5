//! Bad days: the disk is full, the database goes away, a caller goes away, an error is swallowed.

use std::process::{Command, Stdio};
use std::time::Duration;

use billday::store::StoreError;
use billday::store::runs::{RunKind, RunStart};
use serde_json::{Value, json};

use crate::cli::billday;
use crate::support::world::{World, day, rental};
use crate::support::{TestDb, assert_verified, on_both, run};

/// A world with many rentals that are billed alone on 15 November 2026, each in a transaction of its own.
async fn many(db: TestDb) -> World {
    let world = World::new(db).await;
    let rentals: Vec<Value> = (0..300).map(|n| rental(&format!("R{n:03}"), "2026-11-15", json!({}))).collect();
    world.import(Value::from(rentals)).await;
    world
}

fn run_command(world: &World) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_billday"));
    command
        .args(["run", "--run-date", "2026-11-15", "--no-send", "--database", &world.db.url])
        .env("BILLDAY_TEST_NOW", "2026-11-15T12:00:00Z")
        .env("BILLDAY_RUN__BATCH_RENTALS", "1")
        .current_dir(world.db.dir.path())
        .stdout(Stdio::null());
    command
}

async fn finish(world: &World) {
    billday_ok(world);
    assert_eq!(world.db.number("select count(*) from payments").await, 300);
    assert_verified(&world.db).await;
}

fn billday_ok(world: &World) {
    let told = billday(world.db.dir.path(), &world.db.url, &["run", "--run-date", "2026-11-15", "--no-send"]);
    assert_eq!(told.status, 0, "{told:?}");
}

#[test]
fn a_full_disk_fails_the_run_and_the_next_one_finishes_it() {
    run(async {
        let world = many(TestDb::sqlite().await).await;
        let size = |name: &str| std::fs::metadata(world.db.dir.path().join(name)).map_or(0, |file| file.len());
        let blocks = size("billday.db").max(size("billday.db-wal")) / 1024 + 500;
        // The shell ignores the signal, and so does what it starts: a write beyond the limit is an error, as on a full disk.
        let limited = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec '{}' run --run-date 2026-11-15 --no-send --database '{}'",
            env!("CARGO_BIN_EXE_billday"),
            world.db.url
        );
        let output = Command::new("bash")
            .args(["-c", &limited])
            .env("BILLDAY_TEST_NOW", "2026-11-15T12:00:00Z")
            .env("BILLDAY_RUN__BATCH_RENTALS", "1")
            .current_dir(world.db.dir.path())
            .output()
            .expect("bash");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("the run of tenant T for 2026-11-15 could not go on"), "{told}");
        let billed = world.db.number("select count(*) from payments").await;
        assert!((1..300).contains(&billed), "the disk was full at {billed} of 300");
        assert_verified(&world.db).await;
        finish(&world).await;
    });
}

#[test]
fn a_database_that_goes_away_fails_the_run_and_the_next_one_finishes_it() {
    run(async {
        let world = many(TestDb::postgres().await).await;
        let mut process = run_command(&world).stderr(Stdio::piped()).spawn().expect("the program");
        while world.db.number("select count(*) from payments").await < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.db.shut_out().await;
        let status = process.wait().expect("an ended process");
        assert_eq!(status.code(), Some(1));
        world.db.let_in().await;
        let billed = world.db.number("select count(*) from payments").await;
        assert!((5..300).contains(&billed), "the database went away at {billed} of 300");
        assert_verified(&world.db).await;
        finish(&world).await;
    });
}

#[test]
fn connections_that_are_cut_at_any_moment_lose_and_double_nothing() {
    run(async {
        let world = many(TestDb::postgres().await).await;
        for _ in 0..30 {
            let mut process = run_command(&world).stderr(Stdio::null()).spawn().expect("the program");
            tokio::time::sleep(Duration::from_millis(60)).await;
            for _ in 0..3 {
                world.db.cut_connections().await;
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
            let ended = process.wait().expect("an ended process");
            assert!([Some(0), Some(1)].contains(&ended.code()), "{ended}");
            assert_verified(&world.db).await;
        }
        finish(&world).await;
    });
}

#[test]
fn connections_that_were_lost_a_moment_after_their_last_use_are_given_up_for_others() {
    run(async {
        let db = TestDb::postgres().await;
        for n in 0..10 {
            let (one, other) =
                (db.store.read().await.expect("a reader"), db.store.read().await.expect("another reader"));
            one.end().await;
            other.end().await;
            db.cut_connections().await;
            let write = db.store.with_tx(move |tx| Box::pin(async move { tx.pause_mails(None, "test", n).await }));
            write.await.expect("a write");
            db.cut_connections().await;
            db.store.read().await.expect("a reader").end().await;
        }
    });
}

fn start(run_id: &str) -> RunStart<'_> {
    RunStart {
        run_id,
        run_date: day("2026-11-15"),
        kind: RunKind::Explicit,
        requested_by: "test",
        subject: None,
        expected_plan: None,
        share: None,
        now: 0,
    }
}

on_both! {
    async fn a_caller_that_goes_away_does_not_cut_a_transaction_in_two(db: TestDb) {
        for n in 0..20 {
            let write = db.store.with_tx(move |tx| Box::pin(async move {
                tx.insert_run("T", &start(&format!("a{n}"))).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
                tx.insert_run("T", &start(&format!("b{n}"))).await
            }));
            let _ = tokio::time::timeout(Duration::from_millis(n % 8), write).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (a, b) = ("select count(*) from runs where run_id like 'a%'", "select count(*) from runs where run_id like 'b%'");
        assert_eq!(db.number(a).await, db.number(b).await);
        // Nobody got a connection with somebody else's open transaction.
        db.store.with_tx(|tx| Box::pin(async move { tx.insert_run("T", &start("last")).await })).await.expect("a write");
        assert_eq!(db.number("select count(*) from runs where run_id = 'last'").await, 1);
    }

    async fn a_swallowed_error_is_never_told_as_a_commit_that_was_not(db: TestDb) {
        let result = db.store.with_tx(|tx| Box::pin(async move {
            tx.insert_run("T", &start("one")).await?;
            let _ = tx.insert_run("T", &start("one")).await;
            Ok(())
        })).await;
        let written = db.number("select count(*) from runs").await;
        assert_eq!(result.is_ok(), written == 1, "{result:?}, but {written} rows");
    }

    async fn a_run_that_was_ended_elsewhere_writes_nothing_more(db: TestDb) {
        let world = World::new(db).await;
        let result = world.db.store.with_tx(|tx| Box::pin(async move {
            tx.insert_run("T", &start("one")).await?;
            tx.fail_run("T", "one", "ended elsewhere", 1).await?;
            tx.complete_run("T", "one", &Default::default(), 0, "", 2).await
        })).await;
        assert!(matches!(result, Err(StoreError::Fenced)), "{result:?}");
        assert_eq!(world.db.number("select count(*) from runs").await, 0);
    }
}

#[test]
fn an_interrupted_run_with_the_expected_plan_is_continued_and_a_changed_one_is_not_begun() {
    run(async {
        let world = many(TestDb::sqlite().await).await;
        let folder = world.db.dir.path();
        let dry = billday(folder, &world.db.url, &["run", "--dry-run", "--run-date", "2026-11-15", "--format", "json"]);
        let report: Value = serde_json::from_str(&dry.out).expect("JSON");
        let hash = report["planHash"].as_str().expect("a hash");
        let mut process = run_command(&world).args(["--expect-plan", hash]).spawn().expect("the program");
        while world.db.number("select count(*) from payments").await < 5 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        process.kill().expect("a killed process");
        process.wait().expect("an ended process");
        assert!(world.db.number("select count(*) from payments").await < 300, "it was killed too late");
        let args = ["run", "--run-date", "2026-11-15", "--no-send", "--expect-plan", hash];
        assert_eq!(billday(folder, &world.db.url, &args).status, 0);
        assert_eq!(billday(folder, &world.db.url, &args).status, 3, "that plan is done");
        finish(&world).await;
    });
}
