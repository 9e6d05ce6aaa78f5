//! What a body may hold: every field of every group body, missing, null, of other types, at its bounds and beyond.

use serde_json::{Value, json};

use crate::support::api::{ApiWorld, new_group};
use crate::support::http::Reply;
use crate::support::on_both;

const GROUPS: &str = "/v1/billing-groups";
const G1: &str = "/v1/billing-groups/G1";

/// A body with one field's text as it stands, so that what no JSON library writes can be sent.
fn with_raw(mut body: Value, field: &str, raw: &str) -> String {
    body[field] = json!("\u{1}");
    body.to_string().replace("\"\\u0001\"", raw)
}

async fn send_raw(api: &ApiWorld, method: &str, target: &str, body: impl Into<Vec<u8>>) -> Reply {
    api.send(api.request(method, target).header("Content-Type", "application/json; charset=utf-8").body(body)).await
}

/// What is wrong with a field that holds each of these: raw text and the code of the detail.
fn faults(field: &str) -> Vec<(String, &'static str)> {
    let text = |length: usize| format!("\"{}\"", "ä".repeat(length));
    let mut faults: Vec<(String, &'static str)> = match field {
        "customerId" | "groupName" => {
            let most = if field == "customerId" { 128 } else { 200 };
            let mut faults =
                vec![(text(most + 1), "too_big"), (text(1024 * 1024), "too_big"), ("\"\"".into(), "too_small")];
            faults.extend(["null", "5", "1e400", "true", "[]", "{}"].map(|raw| (raw.to_owned(), "invalid_type")));
            faults
        }
        "notes" => {
            let mut faults = vec![(text(2001), "too_big"), ("\"a\\rb\"".into(), "invalid_string")];
            faults.extend(["5", "false", "[]", "{}"].map(|raw| (raw.to_owned(), "invalid_type")));
            faults
        }
        "billingDay" => {
            let bad = [
                "0",
                "29",
                "15.5",
                "-1",
                "1e400",
                "1e-400",
                "99999999999999999999",
                "\"15\"",
                "true",
                "[]",
                "{}",
                "15.0000001",
            ];
            let mut faults: Vec<(String, &'static str)> = bad.map(|raw| (raw.to_owned(), "invalid_billing_day")).into();
            faults.push(("null".into(), "invalid_type"));
            faults
        }
        "rentalIds" => {
            let many = serde_json::to_string(&vec!["R3"; 100_001]).expect("JSON");
            let mut faults = vec![(many, "too_big")];
            faults.extend(["null", "5", "\"R3\"", "{}", "true"].map(|raw| (raw.to_owned(), "invalid_type")));
            faults
        }
        "status" => {
            let mut faults = vec![
                ("\"paused\"".into(), "invalid_enum"),
                ("\"Active\"".into(), "invalid_enum"),
                ("\"\"".into(), "invalid_enum"),
            ];
            faults.extend(["null", "1", "[]", "{}", "true"].map(|raw| (raw.to_owned(), "invalid_type")));
            faults
        }
        other => panic!("{other}"),
    };
    if ["customerId", "groupName", "notes"].contains(&field) {
        faults.push(("\"a\\u0000b\"".into(), "invalid_string"));
        faults.push(("\"a\\u009fb\"".into(), "invalid_string"));
    }
    if field == "groupName" {
        faults.push(("\" \\u2003 \"".into(), "too_small"));
        faults.push(("\"a\\nb\"".into(), "invalid_string"));
    }
    faults
}

on_both! {
    async fn every_wrong_value_of_every_field_is_named_and_changes_nothing(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let before = api.get(G1).await.body;
        let bodies = [("POST", GROUPS, new_group(json!({"notes": "x"}))), ("PATCH", G1, json!({"notes": "x"}))];
        for (method, target, base) in bodies {
            for field in ["customerId", "groupName", "notes", "billingDay", "rentalIds", "status"] {
                if (method, field) == ("POST", "status") {
                    continue; // Ignored there.
                }
                for (raw, code) in faults(field) {
                    let reply = send_raw(&api, method, target, with_raw(base.clone(), field, &raw)).await;
                    let expected = if code == "invalid_billing_day" { "INVALID_BILLING_DAY" } else { "VALIDATION_ERROR" };
                    let shown: String = raw.chars().take(40).collect();
                    assert_eq!((reply.status, reply.code()), (400, expected.to_owned()), "{method} {field} {shown}");
                    assert_eq!(reply.details(), [format!("{field} ({code})")], "{method} {field} {shown}");
                }
            }
        }
        for field in ["customerId", "groupName", "billingDay", "rentalIds"] {
            let told = api.post(GROUPS, &new_group(json!({field: null}))).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), [format!("{field} (required)")]);
        }
        for (entry, code) in [("5", "invalid_type"), ("null", "invalid_type"), ("\"\"", "too_small"), ("\"a\\u0000\"", "invalid_string"), ("[]", "invalid_type")] {
            let body = with_raw(new_group(json!({})), "rentalIds", &format!("[\"R3\", {entry}]"));
            let told = send_raw(&api, "POST", GROUPS, body).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), [format!("rentalIds.1 ({code})")]);
        }
        let told = api.post(GROUPS, &new_group(json!({"rentalIds": []}))).await.expect(400, "VALIDATION_ERROR");
        assert_eq!(told.details(), ["rentalIds (too_small)"]);
        assert_eq!(api.get(G1).await.body, before);
        assert_eq!(api.world.db.number("select count(*) from billing_groups").await, 2);
    }

    async fn a_body_that_is_no_plain_object_is_refused_whole(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let deep = |levels: usize| format!("{{\"groupName\": \"a\", \"x\": {}{}}}", "[".repeat(levels), "]".repeat(levels));
        let mut not_utf8 = b"{\"groupName\": \"".to_vec();
        not_utf8.extend([0xff, 0xfe, b'"', b'}']);
        let bodies: Vec<(Vec<u8>, &str)> = vec![
            (b"".to_vec(), "invalid_json"),
            (b"   ".to_vec(), "invalid_json"),
            (b"{".to_vec(), "invalid_json"),
            (b"{} {}".to_vec(), "invalid_json"),
            (b"[]".to_vec(), "invalid_type"),
            (b"null".to_vec(), "invalid_type"),
            (b"\"text\"".to_vec(), "invalid_type"),
            (b"15".to_vec(), "invalid_type"),
            (b"{\"billingDay\": NaN}".to_vec(), "invalid_json"),
            (b"{\"groupName\": \"\\ud800\"}".to_vec(), "invalid_json"),
            (b"{\"groupName\": \"\\udc00x\"}".to_vec(), "invalid_json"),
            (b"{\"groupName\": \"\0\"}".to_vec(), "invalid_json"),
            (b"{\"billingDay\": 3, \"billingDay\": 4}".to_vec(), "invalid_json"),
            (b"{\"x\": [{\"a\": 1, \"a\": 1}]}".to_vec(), "invalid_json"),
            (b"\xef\xbb\xbf{}".to_vec(), "invalid_json"),
            (deep(64).into_bytes(), "invalid_json"),
            (deep(1000).into_bytes(), "invalid_json"),
            (deep(1_000_000).into_bytes(), "invalid_json"),
            (not_utf8, "invalid_json"),
        ];
        for (method, target) in [("POST", GROUPS), ("PATCH", G1)] {
            for (body, code) in &bodies {
                let shown = String::from_utf8_lossy(body).chars().take(60).collect::<String>();
                let told = send_raw(&api, method, target, body.clone()).await;
                assert_eq!((told.status, told.code().as_str()), (400, "VALIDATION_ERROR"), "{method} {shown}");
                assert_eq!(told.details(), [format!(" ({code})")], "{method} {shown}");
            }
        }
        send_raw(&api, "PATCH", G1, deep(63)).await.good(200);
    }

    async fn what_is_at_its_bounds_is_taken_and_kept_as_it_was_sent(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let name = format!(" {}👩‍💻 ", "ß".repeat(195));
        let notes = format!("{}\t\n", "n".repeat(1998));
        let body = new_group(json!({"groupName": name, "notes": notes, "billingDay": 28, "status": 5}));
        let group = api.post(GROUPS, &body).await.good(201)["billingGroup"].clone();
        assert_eq!((&group["groupName"], &group["notes"], &group["status"]), (&json!(name), &json!(notes), &json!("active")));
        for (raw, day) in [("1.0", 1), ("2.8e1", 28), ("280e-1", 28), ("15", 15)] {
            let group = send_raw(&api, "PATCH", G1, format!("{{\"billingDay\": {raw}}}")).await.good(200)["billingGroup"].clone();
            assert_eq!(group["billingDay"], day);
        }
        // Everything wrong is told at once, the first twenty of it.
        let told = api.post(GROUPS, &json!({"groupName": 5, "billingDay": 99, "rentalIds": vec![0; 30]})).await;
        let told = told.expect(400, "VALIDATION_ERROR");
        assert_eq!(told.details().len(), 20);
        assert_eq!(&told.details()[..3], ["groupName (invalid_type)", "billingDay (invalid_billing_day)", "rentalIds.0 (invalid_type)"]);
        assert!(told.body.contains("33 things are wrong"), "{}", told.body);
    }
}
