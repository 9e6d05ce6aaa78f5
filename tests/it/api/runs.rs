//! Runs over the API: they are what the command line makes, one at a time, and live on without the client.

use std::time::Duration;

use billday::store::Session;
use serde_json::{Value, json};

use crate::support::api::ApiWorld;
use crate::support::world::{day, tenant_of};
use crate::support::{assert_verified, on_both};

const RUNS: &str = "/v1/runs";

/// Starts a run and asks until it has ended; what the last answer says.
async fn run(api: &ApiWorld, body: Value) -> Value {
    let told = api.post(RUNS, &body).await.good(202);
    ended(api, told["runId"].as_str().expect("an id")).await
}

async fn ended(api: &ApiWorld, id: &str) -> Value {
    let path = format!("{RUNS}/{id}");
    let polling = async {
        loop {
            let told = api.get(&path).await.good(200);
            if !["waiting", "running"].contains(&told["run"]["state"].as_str().expect("a state")) {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), polling).await.expect("an end of the run")
}

/// Waits until the tenant's turn is free again, which is a moment after its last run has ended.
async fn post_when_free(api: &ApiWorld, body: &Value) -> Value {
    let posting = async {
        loop {
            let told = api.post(RUNS, body).await;
            if told.status != 409 {
                return told.good(202);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), posting).await.expect("a free turn")
}

on_both! {
    async fn a_dry_run_tells_what_the_run_then_bills(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.today("2026-06-15");
        let dry = run(&api, json!({"runDate": "2026-06-15", "dryRun": true})).await;
        assert_eq!((&dry["run"]["state"], &dry["run"]["dryRun"], &dry["report"]["dryRun"]), (&json!("completed"), &json!(true), &json!(true)), "{dry}");
        assert_eq!(api.world.db.number("select count(*) from payments where tenant_id = 'T' and origin <> 'import'").await, 0);
        let told = post_when_free(&api, &json!({"runDate": "2026-06-15", "dryRun": false})).await;
        let done = ended(&api, told["runId"].as_str().expect("an id")).await;
        assert_eq!((&done["run"]["state"], &done["run"]["billed"]), (&json!("completed"), &dry["run"]["billed"]), "{done}");
        assert_eq!(done["report"]["planHash"], dry["report"]["planHash"]);
        let payments = |report: &Value| tenant_of(report, "T")["payments"].as_array().expect("payments").len();
        assert_eq!((payments(&done["report"]), payments(&dry["report"])), (1, 1));
        // Only its own tenant was billed, and it is on record like any other.
        assert_eq!(done["report"]["tenants"].as_array().expect("tenants").len(), 1);
        let listed = api.get(RUNS).await.good(200);
        assert_eq!((&listed["runs"][0], &listed["count"]), (&done["run"], &json!(2)));
        assert!(listed["runs"][0]["requestedBy"].as_str().is_some_and(|by| by.starts_with("key:")));
        let entry = api.get(&format!("/v1/audit-log?objectId={}", told["runId"].as_str().expect("an id"))).await.good(200);
        assert_eq!((&entry["auditLog"][0]["action"], &entry["auditLog"][0]["after"]), (&json!("start"), &json!({"runDate": "2026-06-15"})));
        assert_eq!(api.world.db.number("select count(*) from outbox where state <> 'pending'").await, 0, "mails wait");
        assert_verified(&api.world.db).await;
    }

    async fn without_a_date_what_was_missed_is_run_before_today(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.run("2026-06-12").await;
        api.world.today("2026-06-15");
        let told = api.post(RUNS, &json!({"dryRun": false})).await.good(202);
        let runs = told["runs"].as_array().expect("runs");
        let dates: Vec<&str> = runs.iter().map(|run| run["runDate"].as_str().expect("a date")).collect();
        assert_eq!(dates, ["2026-06-13", "2026-06-14", "2026-06-15"]);
        assert_eq!(told["runId"], runs[2]["runId"]);
        for (run, kind) in runs.iter().zip(["catchUp", "catchUp", "today"]) {
            let told = ended(&api, run["runId"].as_str().expect("an id")).await;
            assert_eq!((&told["run"]["state"], &told["run"]["kind"]), (&json!("completed"), &json!(kind)));
        }
        assert_eq!(api.get("/v1/payments?billingGroupId=G1").await.good(200)["count"], 1);
        assert_verified(&api.world.db).await;
    }

    async fn a_clock_that_cannot_be_believed_does_not_say_what_today_is(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.today("2026-06-15");
        let ahead = "insert into daemon_state (id, seen_at, summarized_at) values (1, 1813017600000000, 0)";
        api.world.db.execute(ahead).await; // 2027-06-15
        let told = api.post(RUNS, &json!({"dryRun": false})).await.expect(503, "UNAVAILABLE");
        assert!(told.body.contains("the server's clock cannot be believed"), "{}", told.body);
        assert_eq!(api.world.db.number("select count(*) from payments where tenant_id = 'T' and origin <> 'import'").await, 0);
        let done = run(&api, json!({"runDate": "2026-06-15", "dryRun": false})).await;
        assert_eq!(done["run"]["billed"], json!(1), "{done}");
    }

    async fn one_run_of_a_tenant_goes_on_at_a_time(db: TestDb) {
        let api = ApiWorld::new(db).await;
        // Another process runs the tenant, and shows that it lives.
        let alive = async |now: i64| {
            let write = api.world.db.store.with_tx(move |tx: &mut Session| {
                Box::pin(async move {
                    let start = billday::store::runs::RunStart {
                        run_id: "elsewhere", run_date: day("2026-06-10"), kind: billday::store::runs::RunKind::Today,
                        requested_by: "cli:x", subject: None, expected_plan: None, share: None, now,
                    };
                    tx.insert_run("T", &start).await
                })
            });
            write.await.expect("a run elsewhere");
        };
        let now = api.world.clock_micros();
        alive(now - 1_000_000).await;
        let body = json!({"runDate": "2026-06-10", "dryRun": false});
        api.post(RUNS, &body).await.expect(409, "RUN_IN_PROGRESS");
        assert_eq!(api.world.db.number("select count(*) from audit_log where kind = 'run'").await, 0);
        assert_eq!(api.get(&format!("{RUNS}/elsewhere")).await.good(200)["run"]["state"], "running");
        // One that went silent holds nobody up.
        api.world.db.execute(&format!("update runs set beat_at = {} where run_id = 'elsewhere'", now - 61_000_000)).await;
        assert_eq!(api.get(&format!("{RUNS}/elsewhere")).await.good(200)["run"]["state"], "interrupted");
        run(&api, body.clone()).await;
        // Two at once: one at the most is refused, and only for that.
        let (first, second) = tokio::join!(post_when_free(&api, &body), api.post(RUNS, &body));
        if second.status != 202 {
            second.expect(409, "RUN_IN_PROGRESS");
        }
        ended(&api, first["runId"].as_str().expect("an id")).await;
        assert_verified(&api.world.db).await;
    }

    async fn a_run_goes_on_when_the_client_has_gone_and_its_request_is_answered_once(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.today("2026-06-15");
        let request = api.request("POST", RUNS).header("Idempotency-Key", "once").json(&json!({"runDate": "2026-06-15", "dryRun": false}));
        let first = api.send(request.clone()).await;
        let again = api.send(request.clone()).await;
        assert_eq!((first.status, &first.body), (202, &again.body));
        let id = first.json()["runId"].as_str().expect("an id").to_owned();
        assert_eq!(ended(&api, &id).await["run"]["state"], "completed");
        assert_eq!(api.send(request).await.body, first.body);
        assert_eq!(api.world.db.number("select count(*) from runs where tenant_id = 'T' and kind = 'explicit' and run_id <> 'RUN'").await, 1);
        // The turn is free again.
        post_when_free(&api, &json!({"runDate": "2026-06-15", "dryRun": true})).await;
    }

    async fn a_date_that_cannot_be_run_is_named(db: TestDb) {
        let api = ApiWorld::new(db).await;
        for (date, dry_run) in [("2026-06-11", false), ("2036-06-11", true), ("9999-12-31", true)] {
            let told = api.post(RUNS, &json!({"runDate": date, "dryRun": dry_run})).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), ["runDate (too_big)"], "{date}");
        }
        assert_eq!(run(&api, json!({"runDate": "2026-06-11", "dryRun": true})).await["run"]["state"], "completed");
        assert_eq!(api.world.db.number("select count(*) from audit_log where kind = 'run'").await, 0);
        assert_eq!(api.world.db.number("select count(*) from runs where run_id not in ('RUN', 'URUN')").await, 0);
    }

    async fn what_a_dry_run_found_is_its_tenants_alone_and_kept_for_an_hour(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let dry = run(&api, json!({"runDate": "2026-06-15", "dryRun": true})).await;
        let path = format!("{RUNS}/{}", dry["run"]["runId"].as_str().expect("an id"));
        let key = api.new_key(crate::support::api::KeyRights { tenants: &["U"], ..Default::default() }).await;
        let foreign = crate::support::http::HttpRequest::new("GET", &path);
        let foreign = foreign.header("Authorization", &format!("Bearer {key}")).header("Tenant-ID", "U");
        api.send(foreign).await.expect(404, "NOT_FOUND");
        api.get(&path).await.good(200);
        api.world.today("2026-06-11");
        api.get(&path).await.expect(404, "NOT_FOUND");
    }

    async fn runs_are_listed_page_by_page(db: TestDb) {
        let api = ApiWorld::new(db).await;
        for date in ["2026-06-10", "2026-06-11", "2026-06-12"] {
            api.world.run(date).await;
        }
        let whole = api.get(RUNS).await.good(200)["runs"].as_array().expect("runs").clone();
        let dates: Vec<&str> = whole.iter().map(|run| run["runDate"].as_str().expect("a date")).collect();
        assert_eq!(dates, ["2026-06-12", "2026-06-11", "2026-06-10", "2020-01-01"]);
        let (mut met, mut after) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("{RUNS}?limit=1{after}")).await.good(200);
            met.extend(page["runs"].as_array().expect("runs").clone());
            let Some(next) = page["nextCursor"].as_str() else { break };
            after = format!("&startAfter={next}");
        }
        assert_eq!(met, whole);
    }
}
