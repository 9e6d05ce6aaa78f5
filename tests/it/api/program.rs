//! `billday serve`, `billday key`, `billday group` and `billday payment` as a user meets them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::cli::billday;
use crate::support::http::HttpRequest;
use crate::support::world::{group, rental, tenant};
use crate::support::{TestDb, assert_verified, on_both};

fn data() -> Value {
    let mut records = tenant("T", json!({}));
    let more = [
        json!({"tenantId": "T", "customerId": "C", "company": "Acme", "email": "pay@acme.example"}),
        rental("R1", "2026-11-01", json!({})),
        rental("R2", "2026-11-01", json!({})),
        rental("R3", "2026-11-01", json!({})),
        group("G1", 15, &["R1"]),
    ];
    records.as_array_mut().expect("records").extend(more);
    records
}

async fn imported(db: &TestDb) -> &Path {
    let file = db.file("data.json", data().to_string());
    billday(db.dir.path(), &db.url, &["import", file.to_str().expect("a path")]).expect(0, &[]);
    db.dir.path()
}

/// A running `billday serve`, ended with the test.
struct Served {
    child: Child,
    address: SocketAddr,
}

impl Served {
    fn start(folder: &Path, url: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_billday"))
            .args(["serve", "--listen", "127.0.0.1:0", "--database", url])
            .env("BILLDAY_TEST_NOW", "2026-11-15T12:00:00Z")
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut lines = BufReader::new(child.stderr.take().expect("its messages")).lines();
        let told = lines.next().expect("a message").expect("UTF-8");
        let address = told.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect(&told);
        let address = address.parse().expect("an address");
        // Somebody must read on, or the log would fill its pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).count());
        Self { child, address }
    }

    /// Ends it as a service manager does; tells its exit status.
    fn end(mut self) -> Option<i32> {
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill");
        assert!(told.success());
        self.child.wait().expect("its end").code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

on_both! {
    async fn a_key_that_the_command_line_makes_opens_the_api_until_it_is_revoked(db: TestDb) {
        let folder = imported(&db).await;
        let call = |args: &[&str]| billday(folder, &db.url, args);
        let told = call(&["key", "create", "--tenant", "T", "--name", "shop", "--expires", "2026-11-15"]).expect(0, &["not shown again"]);
        let key = told.out.trim().to_owned();
        assert_eq!(told.out, format!("{key}\n"), "the key alone");
        let id = &key[3..11];
        let listed = call(&["key", "list"]).expect(0, &[id, "shop", "read, write", "2026-11-15", "live"]);
        assert!(!listed.out.contains(&key[12..]) && !listed.err.contains(&key[12..]));
        let stored = "select secret_hash || coalesce(name, '') || key_id from api_keys";
        assert!(!db.texts(stored).await.concat().contains(&key[12..]), "only a hash is stored");

        let served = Served::start(folder, &db.url);
        let request = HttpRequest::new("GET", "/v1/billing-groups").header("Tenant-ID", "T");
        let request = request.header("Authorization", &format!("Bearer {key}"));
        assert_eq!(request.send(served.address).await.good(200)["count"], 1);
        call(&["key", "revoke", id]).expect(0, &[id]);
        request.send(served.address).await.expect(401, "INVALID_TOKEN");
        call(&["key", "revoke", id]).expect(2, &["there is no live key"]);
        call(&["key", "list", "--tenant", "T"]).expect(0, &["revoked"]);
        assert_eq!(served.end(), Some(0), "an orderly end");
    }

    async fn a_key_needs_a_tenant_that_exists_and_a_day_to_come(db: TestDb) {
        let folder = imported(&db).await;
        let call = |args: &[&str]| billday(folder, &db.url, args);
        call(&["key", "create", "--tenant", "T", "--tenant", "none"]).expect(2, &["there is no tenant none"]);
        call(&["key", "create", "--tenant", "T", "--expires", "2026-11-14"]).expect(2, &["is over already"]);
        call(&["key", "create", "--tenant", "T", "--expires", "15.11.2026"]).expect(2, &["YYYY-MM-DD"]);
        call(&["key", "create"]).expect(2, &["--tenant"]);
        assert_eq!(db.number("select count(*) from api_keys").await, 0);
        call(&["key", "list"]).expect(0, &["there is no key"]);
        let told = call(&["serve", "--listen", "0.0.0.0:0"]).expect(2, &["api.behindProxy = true"]);
        assert!(told.out.is_empty());
    }

    async fn payments_are_settled_by_the_rules_and_codes_of_the_api(db: TestDb) {
        let folder = imported(&db).await;
        let call = |args: &[&str]| billday(folder, &db.url, args);
        call(&["payment", "list"]).expect(0, &["there is no such payment"]);
        call(&["run", "--from", "2026-11-01", "--to", "2026-11-15", "--no-send"]).expect(0, &[]);
        let listed = call(&["payment", "list"]).expect(0, &["PAYMENT", "INV-2026-000003", "R2", "G1", "10.00 EUR", "pending"]);
        let id = |of: &str| {
            let line = listed.out.lines().find(|line| line.split_whitespace().any(|cell| cell == of)).expect("its payment");
            line.split_whitespace().nth(1).expect("an id").to_owned()
        };
        let (group, alone) = (id("G1"), id("R2"));
        let shown = call(&["payment", "show", &group]).expect(0, &[]);
        let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
        assert_eq!((&shown["paymentId"], &shown["billingGroupId"], &shown["status"]), (&json!(group), &json!("G1"), &json!("pending")));
        call(&["payment", "mark-paid", &group, "--paid-at", "2026-11-16"]).expect(2, &["VALIDATION_ERROR", "lies in the future"]);
        call(&["payment", "mark-paid", &group, "--paid-at", "soon"]).expect(2, &["'soon' is not an instant"]);
        call(&["payment", "mark-paid", &group, "--paid-at", "2026-11-15", "--reference", "tx 1", "--notes", "by bank"])
            .expect(0, &[&group, "is paid, since 2026-11-14T23:00:00.000Z"]);
        call(&["payment", "mark-paid", &group]).expect(2, &["ALREADY_PAID"]);
        call(&["payment", "cancel", &group, "--reason", "x"]).expect(2, &["ALREADY_PAID"]);
        call(&["payment", "cancel", &alone]).expect(2, &["--reason"]);
        call(&["payment", "cancel", &alone, "--reason", "charged by mistake"]).expect(0, &["is cancelled"]);
        call(&["payment", "cancel", &alone, "--reason", "x"]).expect(2, &["ALREADY_CANCELLED"]);
        call(&["payment", "show", "none"]).expect(2, &["payment none"]);
        call(&["payment", "list", "--tenant", "none"]).expect(2, &["there is no tenant none"]);
        let cancelled = call(&["payment", "list", "--status", "cancelled", "--rental", "R2"]).expect(0, &[&alone]);
        assert_eq!(cancelled.out.lines().count(), 2, "its heading and itself");
        let audited = "select actor || ' ' || action from audit_log where kind = 'payment' order by action";
        assert_eq!(db.texts(audited).await, ["cli cancel", "cli markPaid"]);
        assert_verified(&db).await;
    }

    async fn groups_are_made_and_changed_by_the_rules_and_codes_of_the_api(db: TestDb) {
        let folder = imported(&db).await;
        let call = |args: &[&str]| billday(folder, &db.url, args);
        let new = ["group", "create", "--tenant", "T", "--customer", "C", "--name", "Office"];
        let create = |more: &[&str]| call(&[&new, more].concat());
        create(&["--day", "29", "--rental", "R2"]).expect(2, &["INVALID_BILLING_DAY"]);
        create(&["--day", "one", "--rental", "R2"]).expect(2, &["INVALID_BILLING_DAY", "'one'"]);
        create(&["--day", "5", "--rental", "R1"]).expect(2, &["SUBSCRIPTION_ALREADY_GROUPED", "billing group G1"]);
        create(&["--day", "5", "--rental", "none", "--rental", "R2"]).expect(2, &["SUBSCRIPTION_NOT_FOUND", "none"]);
        let told = create(&["--day", "5", "--rental", "R2", "--rental", "R3"]).expect(0, &["created group bg_", "20.00 EUR a month"]);
        let id = told.out.split(' ').nth(2).expect("an id").trim_end_matches(':').to_owned();
        call(&["group", "update", &id, "--status", "off"]).expect(2, &["VALIDATION_ERROR", "status", "active, inactive"]);
        call(&["group", "update", &id, "--rental", "R2", "--day", "7"]).expect(0, &["day 7", "1 of 1 rentals"]);
        call(&["group", "update", &id, "--no-rentals"]).expect(0, &["0 of 0 rentals"]);
        call(&["group", "update", "none", "--day", "7"]).expect(2, &["no tenant has group none"]);
        call(&["group", "delete", &id]).expect(0, &["deleted group"]);
        let log = db.texts("select actor || ' ' || action from audit_log where actor <> 'import' order by 1").await;
        assert_eq!(log, ["cli create", "cli delete", "cli update", "cli update"]);
        assert_verified(&db).await;
    }
}
