//! What operators are given beside the program, and the commands that look after an installation.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{billday, billday_with};
use crate::support::daemon::{Daemon, TimeFile};
use crate::support::world::{World, rental};
use crate::support::{TestDb, on_both, run};

fn project_file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// Words that are names of figures.
fn figures(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    let mut names: Vec<&str> = words.filter(|word| word.starts_with("billday_")).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn the_dashboard_and_the_alerts_name_only_figures_that_there_are() {
    let source = project_file("src/monitor.rs");
    for file in ["packaging/grafana/billday.json", "packaging/prometheus/billday.rules.yml"] {
        let text = project_file(file);
        let names = figures(&text);
        assert!(names.len() >= 10, "{file}: {names:?}");
        for name in names {
            let written = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(source.contains(&format!("\"{written}\"")), "{file}: there is no {name}");
        }
    }
    serde_json::from_str::<Value>(&project_file("packaging/grafana/billday.json")).expect("JSON");
}

#[test]
fn each_alert_is_tried_and_its_answer_is_written_down() {
    let rules = project_file("packaging/prometheus/billday.rules.yml");
    let (tests, page) =
        (project_file("packaging/prometheus/billday.rules.test.yml"), project_file("docs/operations.md"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} is not tried");
        let (_, answers) = page.split_once("## When an alert fires").expect("a part about alerts");
        assert!(answers.contains(alert), "docs/operations.md does not say what to do about {alert}");
    }
}

#[test]
fn the_packaged_configuration_is_taken_and_sends_no_mail_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/billday.toml");
    let told = billday(folder.path(), "sqlite://x.db", &["config", "show", "--config", file]).expect(0, &[]);
    let line = told.out.lines().find(|line| line.starts_with("mail.transport")).expect("the transport");
    assert!(line.contains("\"none\"") && line.contains("billday.toml:"), "{line}");
}

#[test]
fn the_image_is_built_with_a_rust_that_the_program_takes() {
    let manifest = project_file("Cargo.toml");
    let version =
        manifest.split_once("rust-version = \"").and_then(|(_, rest)| rest.split('"').next()).expect("a version");
    assert!(project_file("packaging/container/Dockerfile").contains(&format!("FROM rust:{version}-")));
}

#[test]
fn manual_pages_and_completions_know_every_command_but_those_that_are_hidden() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = "sqlite://nowhere/x.db";
    billday(folder.path(), url, &["help-files", "."]).expect(0, &[]);
    let page = |name: &str| fs::read_to_string(folder.path().join("man").join(name));
    assert!(page("billday-outbox-list.1").expect("a page").contains("\\-\\-state"));
    assert!(page("billday.1").expect("a page").contains("billday\\-doctor(1)"));
    assert!(page("billday-help-files.1").is_err());
    for name in ["billday.bash", "billday.fish", "_billday"] {
        let text = fs::read_to_string(folder.path().join("completions").join(name)).expect(name);
        assert!(text.contains("healthcheck"), "{name}");
    }
    billday(folder.path(), url, &["help-files", "/proc/nowhere"]).expect(1, &["/proc/nowhere"]);
}

async fn billed(db: TestDb) -> World {
    let world = World::new(db).await;
    world.import(json!([rental("R", "2026-11-15", json!({})), rental("S", "2026-11-15", json!({}))])).await;
    let folder = world.db.dir.path();
    billday(folder, &world.db.url, &["run", "--run-date", "2026-11-15"]).expect(0, &[]);
    world
}

/// The findings of the doctor about a part.
fn findings(out: &str, part: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(out).expect("JSON");
    assert_eq!(report["schema"], "billday.doctor/1");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().expect("checks").iter().filter(|check| check["check"] == part);
    checks.map(|check| (text(&check["state"]), text(&check["says"]))).collect()
}

const DOCTOR: [&str; 3] = ["doctor", "--format", "json"];

on_both! {
    async fn the_doctor_finds_nothing_wrong_with_what_works(db: TestDb) {
        let world = billed(db).await;
        let folder = world.db.dir.path();
        let told = billday(folder, &world.db.url, &DOCTOR);
        for part in ["clock", "tenants", "documents", "mail", "templates", "configuration"] {
            let found = findings(&told.out, part);
            assert!(!found.is_empty() && found.iter().all(|(state, _)| state == "ok"), "{part}: {}", told.out);
        }
        // The server of the tests need not keep what it was given.
        let database = findings(&told.out, "database");
        assert!(database[0].0 == "ok" && database[0].1.contains("schema"), "{database:?}");
    }

    async fn the_doctor_says_what_needs_a_person_and_what_does_not_work(db: TestDb) {
        let world = billed(db).await;
        let folder = world.db.dir.path();
        billday(folder, &world.db.url, &["outbox", "pause", "--reason", "trial"]).expect(0, &[]);
        let later = [("BILLDAY_TEST_NOW", "2026-11-20T12:00:00Z")];
        let told = billday_with(folder, &world.db.url, &DOCTOR, &later);
        assert!(findings(&told.out, "billing")[0].1.contains("since 2026-11-15"), "{}", told.out);
        assert!(findings(&told.out, "mail").iter().any(|(state, says)| state == "warn" && says.contains("trial")));
        // A clock from before the last work.
        let told = billday_with(folder, &world.db.url, &DOCTOR, &[("BILLDAY_TEST_NOW", "2026-11-14T12:00:00Z")]);
        assert_eq!((told.status, findings(&told.out, "clock")[0].0.as_str()), (1, "fail"), "{}", told.out);
        // Nobody listens there.
        let gone = [("BILLDAY_MAIL__TRANSPORT", "smtp"), ("BILLDAY_MAIL__HOST", "127.0.0.1"), ("BILLDAY_MAIL__PORT", "9")];
        billday_with(folder, &world.db.url, &["doctor"], &gone).expect(1, &["fail  mail", "→", "something does not work"]);
        world.db.execute("update tenants set time_zone = 'Mars/Base'").await;
        billday(folder, &world.db.url, &["doctor"]).expect(1, &["T: its timeZone is 'Mars/Base'"]);
    }

    async fn a_daemon_is_asked_for_its_health_by_the_program_itself(db: TestDb) {
        let time = TimeFile::new(&db, "2026-01-15T12:00:00Z");
        let daemon = Daemon::start(&db, &time);
        daemon.says("ready").await;
        let address = daemon.address().await.to_string();
        let ask = ["healthcheck", "--address", &address];
        billday(db.dir.path(), &db.url, &ask).expect(0, &["\"ready\":true"]);
        // Nobody works by a clock that goes back.
        time.set("2026-01-10T12:00:00Z");
        daemon.says("nothing is billed").await;
        billday(db.dir.path(), &db.url, &ask).expect(1, &["before the last work"]);
        billday(db.dir.path(), &db.url, &["healthcheck", "--live", "--address", &address]).expect(0, &["live"]);
        daemon.kill();
        billday(db.dir.path(), &db.url, &ask).expect(1, &["nothing serves at"]);
    }
}

#[test]
fn the_doctor_names_files_that_every_user_can_read() {
    run(async {
        let world = billed(TestDb::sqlite().await).await;
        let folder = world.db.dir.path();
        let secret = world.db.file("billday.toml", "mail = {user = 'u', password = 's3cret'}");
        fs::set_permissions(&secret, Permissions::from_mode(0o644)).expect("permissions");
        fs::set_permissions(folder, Permissions::from_mode(0o700)).expect("permissions");
        let before = billday(folder, &world.db.url, &DOCTOR);
        assert!(findings(&before.out, "permissions").iter().all(|(state, _)| state == "ok"), "{}", before.out);
        fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("permissions");
        let told = billday(folder, &world.db.url, &DOCTOR).expect(1, &["mail.password", "every user can read"]);
        assert!(findings(&told.out, "permissions").iter().all(|(state, _)| state == "warn"), "{}", told.out);
        assert!(!told.out.contains("s3cret"));
    });
}

#[test]
fn a_doctor_without_a_database_says_how_there_comes_to_be_one() {
    let folder = tempfile::tempdir().expect("a folder");
    billday(folder.path(), "sqlite://none.db", &["doctor"]).expect(3, &["warn  database", "creates it"]);
    assert!(!folder.path().join("none.db").exists());
    billday(folder.path(), "postgres://nobody@127.0.0.1:9/x", &["doctor"])
        .expect(1, &["fail  database", "cannot reach"]);
}

#[test]
fn a_backup_made_during_a_run_is_restored_proves_itself_and_goes_on_where_it_was_made() {
    run(async {
        let world = World::new(TestDb::sqlite().await).await;
        let rentals: Vec<Value> = (0..400).map(|n| rental(&format!("R{n}"), "2026-11-15", json!({}))).collect();
        world.import(Value::from(rentals)).await;
        let folder = world.db.dir.path();
        let copy = folder.join("copy.db");
        let mut running = std::process::Command::new(env!("CARGO_BIN_EXE_billday"))
            .args([
                "run",
                "--run-date",
                "2026-11-15",
                "--no-send",
                "--output",
                "report.txt",
                "--database",
                &world.db.url,
            ])
            .env("BILLDAY_TEST_NOW", "2026-11-15T12:00:00Z")
            .env("BILLDAY_RUN__BATCH_RENTALS", "1")
            .current_dir(folder)
            .spawn()
            .expect("the program");
        while world.db.number("select count(*) from payments").await < 20 {
            assert!(running.try_wait().expect("a process").is_none(), "the run was over before it was copied");
            tokio::task::yield_now().await;
        }
        billday(folder, &world.db.url, &["backup", "copy.db"]).expect(0, &["checked: copy.db"]);
        assert!(running.wait().expect("a process").success());
        assert_eq!(fs::metadata(&copy).expect("a copy").permissions().mode() & 0o777, 0o600);
        let payments = "select payment_id || invoice_number from payments order by payment_id";
        let before = world.db.texts(payments).await;
        // The recipe of docs/operations.md.
        let place = folder.join("billday.db");
        for part in ["billday.db", "billday.db-wal", "billday.db-shm"] {
            let _ = fs::remove_file(folder.join(part));
        }
        fs::rename(&copy, &place).expect("a restored database");
        let restored = world.db.texts(payments).await;
        assert!((20..400).contains(&restored.len()), "{}", restored.len());
        billday(folder, &world.db.url, &["verify"]).expect(0, &["Proved"]);
        // What it does not know is billed once more: the same payments under the same numbers.
        let run = ["run", "--run-date", "2026-11-15", "--no-send", "--format", "json"];
        billday(folder, &world.db.url, &run).expect(0, &[]);
        assert_eq!(world.db.texts(payments).await, before);
        billday(folder, &world.db.url, &run).expect(0, &["\"alreadyBilled\":400"]);
        billday(folder, &world.db.url, &["verify"]).expect(0, &["Proved"]);
    });
}

#[test]
fn a_backup_overwrites_nothing_and_leaves_nothing_half_done() {
    run(async {
        let world = billed(TestDb::sqlite().await).await;
        let folder = world.db.dir.path();
        let path = world.db.file("copy.db", "mine");
        billday(folder, &world.db.url, &["backup", "copy.db"]).expect(2, &["is there already"]);
        assert_eq!(fs::read_to_string(&path).expect("a file"), "mine");
        billday(folder, &world.db.url, &["backup", "no/such/folder/copy.db"]).expect(2, &["no/such/folder"]);
        billday(folder, "sqlite://none.db", &["backup", "copy2.db"]).expect(2, &["there is no database"]);
        let left = fs::read_dir(folder)
            .expect("a folder")
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().contains("backup")));
        assert_eq!(left.count(), 0);
    });
}

#[test]
fn a_backup_of_postgresql_names_the_tool_for_it() {
    run(async {
        let db = TestDb::postgres().await;
        billday(db.dir.path(), &db.url, &["backup", "copy"]).expect(2, &["pg_dump"]);
    });
}
