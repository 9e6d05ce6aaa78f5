//! The program as a user or a script meets it: exit statuses, messages, and nothing half-done.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::world::{group, rental, tenant};
use crate::support::{TestDb, on_both, run as block_on};

/// Runs the program in a folder on a database, on 15 November 2026 at noon.
pub fn billday(folder: &Path, url: &str, args: &[&str]) -> Told {
    billday_with(folder, url, args, &[])
}

pub fn billday_with(folder: &Path, url: &str, args: &[&str], env: &[(&str, &str)]) -> Told {
    let output = Command::new(env!("CARGO_BIN_EXE_billday"))
        .args(args)
        .args(["--database", url])
        .env("BILLDAY_TEST_NOW", "2026-11-15T12:00:00Z")
        .envs(env.iter().copied())
        .current_dir(folder)
        .output()
        .expect("the program");
    Told::new(output)
}

/// What the program answered.
#[derive(Debug)]
pub struct Told {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Told {
    fn new(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    #[track_caller]
    pub fn expect(self, status: i32, parts: &[&str]) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        for part in parts {
            assert!(self.err.contains(part) || self.out.contains(part), "{part:?} is not in {self:?}");
        }
        self
    }
}

/// One tenant with a group of two, a rental billed alone and one in another currency, all due on the 15th.
fn data() -> Value {
    let mut records = tenant("T", json!({})).as_array().cloned().unwrap_or_default();
    records.extend([
        json!({"tenantId": "T", "customerId": "C", "company": "Acme", "email": "pay@acme.example"}),
        rental("R1", "2026-11-01", json!({})),
        rental("R2", "2026-11-01", json!({})),
        rental("R3", "2026-11-15", json!({})),
        group("G", 15, &["R1", "R2"]),
    ]);
    Value::from(records)
}

fn imported(db: &TestDb) {
    let file = db.file("data.json", data().to_string());
    billday(db.dir.path(), &db.url, &["import", file.to_str().expect("a path")]).expect(0, &["imported"]);
}

on_both! {
    async fn import_run_verify_and_the_lists_work_one_after_the_other(db: TestDb) {
        imported(&db);
        let folder = db.dir.path();
        let dry = billday(folder, &db.url, &["run", "--dry-run", "--run-date", "2026-11-15", "--format", "json"]).expect(0, &[]);
        let dry: Value = serde_json::from_str(&dry.out).expect("JSON");
        let hash = dry["planHash"].as_str().expect("a hash");
        let real = billday(folder, &db.url, &["run", "--run-date", "2026-11-15", "--expect-plan", hash, "--format", "json"]);
        let real: Value = serde_json::from_str(&real.expect(0, &[]).out).expect("JSON");
        assert_eq!(real["planHash"], dry["planHash"]);
        assert_eq!(real["tenants"][0]["payments"].as_array().map(Vec::len), Some(2));
        assert_eq!(real["tenants"][0]["delivery"], json!({"waiting": 0, "sent": 2, "failed": 0, "undeliverable": 0}));
        assert_eq!(std::fs::read_dir(folder.join("mail")).expect("mails").filter(|entry| {
            entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|ending| ending == "eml"))
        }).count(), 2);
        billday(folder, &db.url, &["verify"]).expect(0, &[]);
        let runs = billday(folder, &db.url, &["runs", "list"]).expect(0, &["2026-11-15", "completed"]);
        let run_id = runs.out.lines().nth(1).and_then(|line| line.split_whitespace().next()).expect("a run").to_owned();
        let shown = billday(folder, &db.url, &["runs", "show", &run_id, "--format", "json"]).expect(0, &[]);
        let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
        assert_eq!(shown["tenants"][0]["payments"], real["tenants"][0]["payments"]);
        assert_eq!(shown["planHash"], real["planHash"]);
        billday(folder, &db.url, &["outbox", "list", "--state", "sent"]).expect(0, &["INV-2026-000001", "pay@acme.example"]);
        billday(folder, &db.url, &["group", "show", "G"]).expect(0, &["members: R1, R2"]);
        billday(folder, &db.url, &["group", "delete", "G"]).expect(0, &["deleted group G"]);
        billday(folder, &db.url, &["group", "show", "G"]).expect(2, &["no tenant has group G"]);
        billday(folder, &db.url, &["tenant", "show", "T"]).expect(0, &["Europe/Berlin"]);
    }

    async fn a_plan_other_than_the_expected_one_writes_nothing_and_exits_with_3(db: TestDb) {
        imported(&db);
        let args = ["run", "--run-date", "2026-11-15", "--expect-plan", "0000"];
        billday(db.dir.path(), &db.url, &args).expect(3, &["the plan has changed"]);
        assert_eq!(db.number("select count(*) from payments").await + db.number("select count(*) from runs").await, 0);
    }

    async fn what_needs_a_person_exits_with_3_in_a_dry_run_too(db: TestDb) {
        imported(&db);
        let dollars = json!([rental("R2", "2026-11-01", json!({"currency": "USD"}))]);
        let file = db.file("dollars.json", dollars.to_string());
        billday(db.dir.path(), &db.url, &["import", file.to_str().expect("a path")]).expect(0, &["group 'G' has members in EUR and USD"]);
        let folder = db.dir.path();
        billday(folder, &db.url, &["run", "--run-date", "2026-11-15", "--dry-run"]).expect(3, &["SUBSCRIPTION_CURRENCY_MISMATCH"]);
        billday(folder, &db.url, &["run", "--run-date", "2026-11-15"]).expect(3, &["billday parked retry group:G 2026-11-15"]);
        billday(folder, &db.url, &["parked", "list"]).expect(0, &["group G", "SUBSCRIPTION_CURRENCY_MISMATCH"]);
        billday(folder, &db.url, &["parked", "retry", "group:G"]).expect(3, &[]);
        let file = db.file("euros.json", json!([rental("R2", "2026-11-01", json!({}))]).to_string());
        billday(folder, &db.url, &["import", file.to_str().expect("a path")]).expect(0, &[]);
        billday(folder, &db.url, &["parked", "retry", "G", "2026-11-15", "--tenant", "T"]).expect(0, &["20.00"]);
        billday(folder, &db.url, &["parked", "list"]).expect(0, &["nothing is parked"]);
        billday(folder, &db.url, &["verify"]).expect(0, &[]);
    }

    async fn a_dismissed_subject_is_waived_for_ever_with_its_reason(db: TestDb) {
        imported(&db);
        let file = db.file("dollars.json", json!([rental("R2", "2026-11-01", json!({"currency": "USD"}))]).to_string());
        let folder = db.dir.path();
        billday(folder, &db.url, &["import", file.to_str().expect("a path")]);
        billday(folder, &db.url, &["run", "--run-date", "2026-11-15"]).expect(3, &[]);
        billday(folder, &db.url, &["parked", "dismiss", "G", "--reason", " "]).expect(2, &["--reason"]);
        billday(folder, &db.url, &["parked", "dismiss", "G", "--reason", "goodwill"]).expect(0, &["2 periods are waived"]);
        let again = billday(folder, &db.url, &["run", "--run-date", "2026-11-15"]);
        again.expect(0, &["closed, waived or withheld"]);
        billday(folder, &db.url, &["arrears", "list"]).expect(0, &["waived", "goodwill"]);
        billday(folder, &db.url, &["verify"]).expect(0, &["goodwill"]);
    }

    async fn a_date_that_does_not_exist_or_lies_ahead_is_refused_with_the_form_that_is_taken(db: TestDb) {
        imported(&db);
        let folder = db.dir.path();
        for date in ["2026-02-30", "01/02/2026", "2026-2-3", "tomorrow", ""] {
            billday(folder, &db.url, &["run", "--run-date", date]).expect(2, &["YYYY-MM-DD"]);
        }
        billday(folder, &db.url, &["run", "--run-date", "2026-11-16"]).expect(2, &["later than today (2026-11-15)", "--dry-run"]);
        billday(folder, &db.url, &["run", "--run-date", "2026-11-16", "--dry-run"]).expect(0, &[]);
        billday(folder, &db.url, &["run", "--from", "2026-11-10", "--to", "2026-11-01"]).expect(2, &["wrong way round"]);
        billday(folder, &db.url, &["run", "--from", "2026-11-10"]).expect(2, &["--to"]);
        billday(folder, &db.url, &["run", "--tenant", "nobody"]).expect(2, &["there is no tenant nobody"]);
        let range = ["run", "--from", "2026-11-01", "--to", "2026-11-02", "--expect-plan", "00"];
        billday(folder, &db.url, &range).expect(2, &[]);
        assert_eq!(db.number("select count(*) from runs").await, 0);
    }

    async fn an_unwritable_output_costs_nothing(db: TestDb) {
        imported(&db);
        let folder = db.dir.path();
        for place in ["no/such/folder/report.json", "."] {
            let args = ["run", "--run-date", "2026-11-15", "--output", place];
            billday(folder, &db.url, &args).expect(2, &["the report cannot be written"]);
        }
        assert_eq!(db.number("select count(*) from payments").await, 0);
        let args = ["run", "--run-date", "2026-11-15", "--output", "report.html", "--format", "html"];
        let told = billday(folder, &db.url, &args).expect(0, &[]);
        assert_eq!(told.out, "");
        assert!(std::fs::read_to_string(folder.join("report.html")).expect("a report").contains("</html>"));
    }

    async fn an_unknown_setting_is_named_with_the_nearest_known_one(db: TestDb) {
        let folder = db.dir.path();
        let file = db.file("bad.toml", "[run]\nbatchRental = 5\n");
        let told = billday(folder, &db.url, &["run", "--config", file.to_str().expect("a path")]);
        told.expect(2, &["batchRental", "run.batchRentals"]);
        billday_with(folder, &db.url, &["run"], &[("BILLDAY_MAIL__FOLDR", "x")]).expect(2, &["BILLDAY_MAIL__FOLDER"]);
    }

    async fn a_bad_file_is_named_by_line_and_field_and_nothing_is_imported(db: TestDb) {
        let mut records = data();
        records[2]["monthlyAmount"] = json!("12.345");
        let text = serde_json::to_string_pretty(&records).expect("JSON");
        let file = db.file("data.json", text);
        let told = billday(db.dir.path(), &db.url, &["import", file.to_str().expect("a path")]);
        told.expect(2, &["data.json:", "monthlyAmount", "more than 2 decimal places"]);
        assert_eq!(db.number("select count(*) from tenants").await, 0);
        billday(db.dir.path(), &db.url, &["import", "missing.json"]).expect(2, &["missing.json"]);
    }

    async fn files_without_a_record_are_told_on_standard_error(db: TestDb) {
        let (empty, list) = (db.file("empty.json", ""), db.file("list.json", r#"{"rentals": [], "hasMore": false}"#));
        let told = billday(db.dir.path(), &db.url, &["import", empty.to_str().expect("a path"), list.to_str().expect("a path")]);
        let told = told.expect(0, &[]);
        assert!(told.err.contains("the files hold no record") && told.out.is_empty(), "{told:?}");
    }

    async fn a_pipe_that_closes_stops_no_billing(db: TestDb) {
        imported(&db);
        let command = format!(
            "'{}' run --from 2026-11-01 --to 2026-11-15 --format json --no-send --database '{}' | head -c 1 > /dev/null; \
             echo ${{PIPESTATUS[0]}}",
            env!("CARGO_BIN_EXE_billday"),
            db.url
        );
        let mut shell = Command::new("bash");
        shell.args(["-c", &command]).env("BILLDAY_TEST_NOW", "2026-11-15T12:00:00Z").current_dir(db.dir.path());
        let output = shell.output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "0");
        assert_eq!(db.number("select count(*) from payments").await, 2, "the last date is billed too");
    }
}

#[test]
fn a_dry_run_without_a_database_creates_none_and_exits_with_0() {
    let folder = tempfile::tempdir().expect("a folder");
    billday(folder.path(), "sqlite://billday.db", &["run", "--dry-run"]).expect(0, &["there is no database"]);
    billday(folder.path(), "sqlite://billday.db", &["verify"]).expect(2, &["there is no database"]);
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
    billday(folder.path(), "sqlite://billday.db", &["run"]).expect(0, &["there is no tenant yet"]);
}

#[test]
fn a_database_url_that_leads_nowhere_is_named_without_its_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let told =
        billday(folder.path(), "postgres://user:geheim@127.0.0.1:1/billday", &["run"]).expect(1, &["127.0.0.1:1"]);
    assert!(!told.err.contains("geheim"), "{told:?}");
    billday(folder.path(), "mysql://x", &["run"]).expect(2, &["sqlite://", "postgres://"]);
}

#[test]
fn a_database_file_that_is_read_only_or_no_database_fails_with_its_name() {
    block_on(async {
        let db = TestDb::sqlite().await;
        let file = db.file("data.json", data().to_string());
        let import = ["import", file.to_str().expect("a path")];
        billday(db.dir.path(), "sqlite://whole.db", &import).expect(0, &[]);
        let path = db.dir.path().join("whole.db");
        std::fs::write(db.dir.path().join("text.db"), "this is no database, whatever its name says".repeat(100))
            .expect("a file");
        let told = billday(db.dir.path(), "sqlite://text.db", &["run"]);
        told.expect(1, &["text.db"]);
        let mut bytes = std::fs::read(&path).expect("the database");
        let middle = bytes.len() / 2;
        bytes[4096..middle].fill(0xAA);
        std::fs::write(db.dir.path().join("corrupt.db"), bytes).expect("a file");
        billday(db.dir.path(), "sqlite://corrupt.db", &["run", "--run-date", "2026-11-15"]).expect(1, &[]);
    });
}

#[test]
fn the_demo_runs_twice_without_harm_and_refuses_a_database_in_use() {
    block_on(async {
        let db = TestDb::sqlite().await;
        let folder = db.dir.path();
        billday(folder, "sqlite://demo.db", &["demo"]).expect(0, &["bergmann", "NL-2026-00001", "billday verify"]);
        let again = billday(folder, "sqlite://demo.db", &["demo"]).expect(0, &["here already"]);
        assert!(again.out.contains("already billed"), "{again:?}");
        billday(folder, "sqlite://demo.db", &["verify"]).expect(0, &[]);
        imported(&db);
        billday(folder, &db.url, &["demo"]).expect(2, &["is in use"]);
    });
}

#[test]
fn every_command_explains_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    for command in
        ["demo", "import", "run", "verify", "parked", "arrears", "outbox", "runs", "group", "tenant", "config"]
    {
        billday(folder.path(), "sqlite://x.db", &[command, "--help"]).expect(0, &["Usage:"]);
    }
    billday(folder.path(), "sqlite://x.db", &["config", "default"]).expect(0, &["batchRentals"]);
}
