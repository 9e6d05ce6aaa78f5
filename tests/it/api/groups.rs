//! Billing groups: the public pages' flows, each rule and its code, and what the ledger makes of it.

use serde_json::{Value, json};

use crate::support::api::{ApiWorld, KeyRights, new_group};
use crate::support::http::HttpRequest;
use crate::support::world::line_list;
use crate::support::{assert_verified, on_both};

const GROUPS: &str = "/v1/billing-groups";

fn path(group: &Value) -> String {
    format!("{GROUPS}/{}", group["billingGroupId"].as_str().expect("an id"))
}

async fn create(api: &ApiWorld, with: Value) -> Value {
    api.post(GROUPS, &new_group(with)).await.good(201)["billingGroup"].clone()
}

on_both! {
    async fn a_group_is_created_read_listed_changed_and_deleted_as_the_public_pages_show(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let reply = api.post(GROUPS, &new_group(json!({"notes": "net 30"}))).await;
        let written = reply.clone().good(201);
        let group = &written["billingGroup"];
        assert_eq!((&written["success"], written["message"].is_string()), (&json!(true), true));
        let id = group["billingGroupId"].as_str().expect("an id");
        let key_id = &api.key[3..11];
        let expected = format!(
            "{{\"billingGroupId\":\"{id}\",\"tenantId\":\"T\",\"customerId\":\"C\",\"groupName\":\"Office\",\
             \"rentalIds\":[\"R3\",\"R4\"],\"billingDay\":15,\"totalMonthlyAmount\":159.50,\"activeRentalCount\":2,\
             \"currency\":\"EUR\",\"status\":\"active\",\"createdBy\":\"key:{key_id}\",\"notes\":\"net 30\",\
             \"createdAt\":\"2026-06-10T12:00:00.000Z\",\"updatedAt\":\"2026-06-10T12:00:00.000Z\"}}"
        );
        assert!(reply.body.contains(&expected), "{}\n{expected}", reply.body);

        let read = api.get(&path(group)).await;
        assert_eq!(read.body, format!("{{\"success\":true,\"billingGroup\":{expected}}}"));
        let listed = api.get(&format!("{GROUPS}?customerId=C&status=active")).await;
        assert!(listed.body.contains(&expected));
        let listed = listed.good(200);
        assert_eq!((&listed["success"], &listed["count"]), (&json!(true), &json!(2)));
        assert_eq!((&listed["hasMore"], &listed["nextCursor"]), (&json!(false), &Value::Null));

        let body = json!({"groupName": "Head office", "billingDay": 1.5e1, "rentalIds": ["R4", "R5", "R5"], "notes": "",
                          "customerId": "C", "totalMonthlyAmount": "nonsense", "unknown": {}});
        let updated = api.patch(&path(group), &body).await.good(200)["billingGroup"].clone();
        assert_eq!((&updated["groupName"], &updated["rentalIds"]), (&json!("Head office"), &json!(["R4", "R5"])));
        assert!(updated.get("notes").is_none() && updated["updatedAt"].as_str() > group["updatedAt"].as_str());

        let deactivated = api.patch(&path(group), &json!({"status": "inactive"})).await.good(200);
        assert_eq!(deactivated["billingGroup"]["status"], "inactive");
        let deleted = api.delete(&path(group)).await.good(200);
        assert_eq!((&deleted["success"], deleted.as_object().map(serde_json::Map::len)), (&json!(true), Some(2)));
        api.delete(&path(group)).await.expect(404, "NOT_FOUND");
        api.get(&path(group)).await.expect(404, "NOT_FOUND");
        api.patch(&path(group), &json!({"billingDay": 3})).await.expect(404, "NOT_FOUND");
        assert_eq!(api.world.db.number("select count(*) from rentals where billing_group_id is not null and tenant_id = 'T'").await, 2);
        assert_verified(&api.world.db).await;
    }

    async fn a_list_of_rentals_is_refused_by_the_first_kind_of_fault_in_it_naming_all(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let refuse = async |with: Value| api.post(GROUPS, &new_group(with)).await;
        let all = json!(["X", "nope", "S1", "R1", "USD", "UR"]);
        let told = refuse(json!({"customerId": "UC", "rentalIds": all})).await.expect(400, "CUSTOMER_NOT_FOUND");
        assert_eq!(told.details(), ["customerId (not_found)"]);
        let told = refuse(json!({"rentalIds": all})).await.expect(400, "SUBSCRIPTION_NOT_FOUND");
        assert_eq!(told.details(), ["rentalIds.1 (not_found)", "rentalIds.5 (not_found)"]);
        let told = refuse(json!({"rentalIds": ["X", "S1", "R1", "USD"]})).await.expect(400, "SUBSCRIPTION_DIFFERENT_CUSTOMER");
        assert_eq!(told.details(), ["rentalIds.1 (different_customer)"]);
        let told = refuse(json!({"rentalIds": ["X", "R1", "USD", "R3"]})).await.expect(400, "SUBSCRIPTION_NOT_ACTIVE");
        assert_eq!(told.details(), ["rentalIds.0 (not_active)"]);
        let told = refuse(json!({"rentalIds": ["R1", "USD", "R3", "R2"]})).await.expect(409, "SUBSCRIPTION_ALREADY_GROUPED");
        assert_eq!(told.details(), ["rentalIds.0 (already_grouped)", "rentalIds.3 (already_grouped)"]);
        assert_eq!(told.json()["error"]["details"][0]["billingGroupId"], "G1");
        let told = refuse(json!({"rentalIds": ["R3", "USD"]})).await.expect(400, "SUBSCRIPTION_CURRENCY_MISMATCH");
        assert_eq!(told.details(), ["rentalIds.1 (currency_mismatch)"]);
        let many: Vec<String> = (0..30).map(|n| format!("none{n}")).collect();
        let told = refuse(json!({"rentalIds": many})).await.expect(400, "SUBSCRIPTION_NOT_FOUND");
        assert_eq!(told.details().len(), 20);
        assert!(told.body.contains("30 subscriptions"), "{}", told.body);
        assert_eq!(api.world.db.number("select count(*) from billing_groups").await, 2, "nothing was written");
        assert_eq!(api.world.db.number("select count(*) from audit_log where actor <> 'import'").await, 0);
    }

    async fn a_change_holds_the_same_rules_for_those_who_join_and_lets_members_stay(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let g1 = format!("{GROUPS}/G1");
        create(&api, json!({})).await;
        for (ids, status, code) in [
            (json!(["R1", "R3"]), 409, "SUBSCRIPTION_ALREADY_GROUPED"),
            (json!(["R1", "USD"]), 400, "SUBSCRIPTION_CURRENCY_MISMATCH"),
            (json!(["S1"]), 400, "SUBSCRIPTION_DIFFERENT_CUSTOMER"),
            (json!(["UR"]), 400, "SUBSCRIPTION_NOT_FOUND"),
            (json!(["X"]), 400, "SUBSCRIPTION_NOT_ACTIVE"),
        ] {
            api.patch(&g1, &json!({"rentalIds": ids, "groupName": "whole or nothing"})).await.expect(status, code);
        }
        api.patch(&g1, &json!({"customerId": "D"})).await.expect(400, "VALIDATION_ERROR");
        assert_eq!(api.get(&g1).await.good(200)["billingGroup"]["groupName"], "G1");
        // A member that has ended stays, counts for nothing, and cannot come back once it has left.
        api.world.db.execute("update rentals set status = 'cancelled', ended_on = '2026-06-01' where rental_id = 'R2'").await;
        let group = api.patch(&g1, &json!({"rentalIds": ["R2", "R1", "R5"]})).await.good(200)["billingGroup"].clone();
        assert_eq!((&group["rentalIds"], &group["activeRentalCount"]), (&json!(["R1", "R2", "R5"]), &json!(2)));
        api.patch(&g1, &json!({"rentalIds": ["R1"]})).await.good(200);
        api.patch(&g1, &json!({"rentalIds": ["R1", "R2"]})).await.expect(400, "SUBSCRIPTION_NOT_ACTIVE");
        // An emptied group takes the currency of whoever comes.
        let empty = api.patch(&g1, &json!({"rentalIds": []})).await.good(200)["billingGroup"].clone();
        assert_eq!((&empty["rentalIds"], empty["totalMonthlyAmount"].to_string()), (&json!([]), "0.00".to_owned()));
        let dollars = api.patch(&g1, &json!({"rentalIds": ["USD"]})).await.good(200)["billingGroup"].clone();
        assert_eq!(dollars["currency"], "USD");
    }

    async fn what_runs_today_is_summed_in_the_first_members_currency(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let of = |id: &str, change: Value| {
            let mut rental = json!({"tenantId": "T", "rentalId": id, "customerId": "C", "monthlyAmount": 10.10, "currency": "EUR",
                                    "startDate": "2026-01-01", "productName": "Laptop", "billingGroupId": "MIXED"});
            let fields = change.as_object().expect("fields").clone();
            rental.as_object_mut().expect("a rental").extend(fields);
            rental
        };
        api.world.import(json!([
            {"tenantId": "T", "billingGroupId": "MIXED", "customerId": "C", "groupName": "Mixed", "billingDay": 15},
            of("M1", json!({})),
            of("M5", json!({})),
            of("M2", json!({"startDate": "2099-01-01"})),
            of("M3", json!({"contractLength": 1})),
            of("M4", json!({"status": "cancelled", "cancelledAt": "2026-02-01"})),
            of("M6", json!({"currency": "USD"})),
        ])).await;
        let told = api.get(&format!("{GROUPS}/MIXED")).await;
        assert!(told.body.contains("\"totalMonthlyAmount\":30.30,"), "three that run and are in EUR: {}", told.body);
        let group = &told.good(200)["billingGroup"];
        assert_eq!((&group["activeRentalCount"], &group["currency"]), (&json!(4), &json!("EUR")));
        assert_eq!(group["rentalIds"], json!(["M1", "M2", "M3", "M4", "M5", "M6"]));
    }

    async fn amounts_have_the_digits_of_the_members_currency(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let key = api.new_key(KeyRights { tenants: &["U"], ..KeyRights::default() }).await;
        let request = HttpRequest::new("GET", &format!("{GROUPS}/UG")).header("Authorization", &format!("bEARER {key}"));
        let reply = api.send(request.header("tenant-id", "U")).await;
        assert!(reply.body.contains("\"totalMonthlyAmount\":500,"), "{}", reply.body);
        assert_eq!(reply.good(200)["billingGroup"]["currency"], "JPY");
    }

    async fn a_change_that_changes_nothing_keeps_its_time_and_leaves_no_trace(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let g1 = format!("{GROUPS}/G1");
        let before = api.get(&g1).await;
        let body = json!({"billingDay": 15, "rentalIds": ["R2", "R1"], "status": "active", "notes": null, "groupName": "G1"});
        let same = api.patch(&g1, &body).await;
        assert_eq!(same.header("etag"), before.header("etag"));
        assert_eq!(same.good(200)["billingGroup"], before.good(200)["billingGroup"]);
        assert_eq!(api.world.db.number("select count(*) from audit_log where actor <> 'import'").await, 0);
    }

    async fn a_version_guards_against_overwriting_what_one_has_not_seen(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let g1 = format!("{GROUPS}/G1");
        let etag = api.get(&g1).await.header("etag").expect("a version").to_owned();
        let guarded = |method: &str, version: &str| api.request(method, &g1).header("If-Match", version);
        let changed = api.send(guarded("PATCH", &etag).json(&json!({"billingDay": 20}))).await;
        let newer = changed.header("etag").expect("a version").to_owned();
        assert_ne!(newer, etag);
        changed.good(200);
        for stale in [etag.as_str(), "\"x\"", "x", &format!("W/{newer}")] {
            api.send(guarded("PATCH", stale).json(&json!({"billingDay": 21}))).await.expect(412, "PRECONDITION_FAILED");
        }
        api.send(guarded("DELETE", &etag)).await.expect(412, "PRECONDITION_FAILED");
        api.send(guarded("PATCH", &format!("\"x\", {newer}")).json(&json!({"billingDay": 22}))).await.good(200);
        api.send(guarded("DELETE", "*")).await.good(200);
        api.send(guarded("DELETE", "*")).await.expect(404, "NOT_FOUND");
    }

    async fn a_repeated_creation_is_told_the_same_and_made_once(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let body = new_group(json!({}));
        let keyed = |body: &Value, key: &str| api.request("POST", GROUPS).header("Idempotency-Key", key).json(body);
        // What is refused is not kept: mended, the same key goes through.
        let mistaken = new_group(json!({"rentalIds": ["R1"]}));
        api.send(keyed(&mistaken, "k1")).await.expect(409, "SUBSCRIPTION_ALREADY_GROUPED");
        let first = api.send(keyed(&body, "k1")).await;
        let again = api.send(keyed(&body, "k1")).await;
        assert_eq!((again.status, &again.body, again.header("etag")), (201, &first.body, first.header("etag")));
        api.send(keyed(&mistaken, "k1")).await.expect(409, "IDEMPOTENCY_KEY_REUSED");
        api.send(keyed(&body, "k2")).await.expect(409, "SUBSCRIPTION_ALREADY_GROUPED");
        assert_eq!(api.world.db.number("select count(*) from billing_groups where tenant_id = 'T'").await, 2);
        for bad in ["", " ", "a b", "ü", &"x".repeat(256)] {
            let told = api.send(keyed(&body, bad)).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), ["header.Idempotency-Key (invalid_string)"], "{bad:?}");
        }
        // It belongs to the API key, and to thirty days.
        let other = api.new_key(KeyRights { tenants: &["T"], ..KeyRights::default() }).await;
        let foreign = keyed(&body, "k1").without("Authorization").header("Authorization", &format!("Bearer {other}"));
        api.send(foreign).await.expect(409, "SUBSCRIPTION_ALREADY_GROUPED");
        api.world.today("2026-07-10");
        assert_eq!(api.send(keyed(&body, "k1")).await.body, first.body);
        api.world.today("2026-07-11");
        api.send(keyed(&body, "k1")).await.expect(409, "SUBSCRIPTION_ALREADY_GROUPED");
    }

    async fn every_change_is_on_record_with_who_made_it_and_what_it_was(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.today("2026-06-11");
        let group = create(&api, json!({})).await;
        api.world.today("2026-06-12");
        api.patch(&path(&group), &json!({"billingDay": 20, "rentalIds": ["R3", "R5"]})).await.good(200);
        api.world.today("2026-06-13");
        api.delete(&path(&group)).await.good(200);
        let log = api.get(&format!("/v1/audit-log?objectId={}", group["billingGroupId"].as_str().expect("an id"))).await.good(200);
        let entries = log["auditLog"].as_array().expect("entries");
        let told: Vec<(&Value, &Value, &Value)> = entries.iter().map(|e| (&e["action"], &e["before"], &e["after"])).collect();
        let (was, is) = (json!({"billingDay": 15, "leftRentalIds": ["R4"]}), json!({"billingDay": 20, "joinedRentalIds": ["R5"]}));
        assert_eq!(told[1], (&json!("update"), &was, &is));
        assert_eq!(told[2], (&json!("create"), &Value::Null, &group));
        assert_eq!((told[0].0, &told[0].1["billingDay"], told[0].2), (&json!("delete"), &json!(20), &Value::Null));
        assert!(entries.iter().all(|e| e["actor"] == format!("key:{}", &api.key[3..11]) && e["kind"] == "billingGroup"));
        let paged = api.get("/v1/audit-log?limit=2").await.good(200);
        let next = format!("/v1/audit-log?limit=2&startAfter={}", paged["nextCursor"].as_str().expect("a cursor"));
        assert_eq!(api.get(&next).await.good(200)["auditLog"][0], entries[2]);
        // An import is one entry a call.
        let first = api.get("/v1/audit-log?limit=1&sortDir=asc").await.good(200)["auditLog"][0].clone();
        assert_eq!((&first["actor"], &first["after"]), (&json!("import"), &json!({"records": 1})));
    }

    async fn what_the_api_changes_is_billed_from_the_next_billing_date_on(db: TestDb) {
        let api = ApiWorld::new(db).await;
        // The worked example: three devices, one payment of 377.00.
        api.patch(&format!("{GROUPS}/G1"), &json!({"rentalIds": ["R1", "R2", "R3"]})).await.good(200);
        let report = api.world.run("2026-06-15").await;
        assert_eq!(line_list(&report), "group:G1:2026-06: R1 2026-06, R2 2026-06, R3 2026-06");
        assert_eq!(report["payments"][0]["subtotal"].to_string(), "377.00");
        // The day moves on after this month's charge: nothing twice, then the next month.
        api.patch(&format!("{GROUPS}/G1"), &json!({"billingDay": 20})).await.good(200);
        assert_eq!(line_list(&api.world.run("2026-06-20").await), "");
        assert_eq!(line_list(&api.world.run("2026-07-20").await), "group:G1:2026-07: R1 2026-07, R2 2026-07, R3 2026-07");
        // Inactive: each alone on its own day; active again: together.
        api.patch(&format!("{GROUPS}/G1"), &json!({"status": "inactive"})).await.good(200);
        let alone = line_list(&api.world.run("2026-08-01").await);
        assert!(alone.contains("rental:R1:2026-08: R1 2026-08"), "{alone}");
        api.patch(&format!("{GROUPS}/G1"), &json!({"status": "active"})).await.good(200);
        assert_eq!(line_list(&api.world.run("2026-08-20").await), "");
        assert_eq!(line_list(&api.world.run("2026-09-20").await), "group:G1:2026-09: R1 2026-09, R2 2026-09, R3 2026-09");
        api.delete(&format!("{GROUPS}/G1")).await.good(200);
        let alone = line_list(&api.world.run("2026-10-01").await);
        assert!(alone.contains("rental:R3:2026-10: R3 2026-10"), "{alone}");
        assert_verified(&api.world.db).await;
    }
}
