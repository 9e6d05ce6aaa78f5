//! Subscriptions: as they are shown, created, changed and cancelled, and when they are charged next.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::api::ApiWorld;
use crate::support::world::{line_list, rental};
use crate::support::{assert_verified, on_both};

const SUBSCRIPTIONS: &str = "/v1/subscriptions";
const R5: &str = "/v1/subscriptions/R5";

async fn shown(api: &ApiWorld, id: &str) -> Value {
    api.get(&format!("{SUBSCRIPTIONS}/{id}")).await.good(200)
}

async fn next(api: &ApiWorld, id: &str) -> Option<String> {
    shown(api, id).await.get("nextBillingDate").map(|date| date.as_str().expect("a date").to_owned())
}

async fn members(api: &ApiWorld, group: &str) -> Value {
    api.get(&format!("/v1/billing-groups/{group}")).await.good(200)["billingGroup"]["rentalIds"].clone()
}

on_both! {
    async fn a_subscription_is_sent_bare_with_what_the_schema_wants(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let one = shown(&api, "R1").await;
        assert_eq!(one.get("success"), None);
        for (field, value) in [("rentalId", json!("R1")), ("assetSerialNumber", json!("")), ("serialNumber", json!("")), ("sku", json!("")), ("orderId", json!("")),
                               ("productName", json!("R1")), ("currency", json!("EUR")), ("status", json!("active")), ("billingGroupId", json!("G1")),
                               ("contractLength", json!(0)), ("originalContractLength", json!(0)), ("startDate", json!("2026-01-01")),
                               ("customerName", json!("Acme")), ("customerEmail", json!("pay@acme.example")), ("createdBy", json!("import"))] {
            assert_eq!(one[field], value, "{field}");
        }
        assert_eq!(one["monthlyAmount"].to_string(), "129.00");
        for absent in ["endDate", "notes", "cancelledAt", "cancellationDetails"] {
            assert_eq!(one.get(absent), None, "{absent}");
        }
        // Membership is told also while the group is inactive.
        api.patch("/v1/billing-groups/G1", &json!({"status": "inactive"})).await.good(200);
        assert_eq!(shown(&api, "R1").await["billingGroupId"], "G1");
        let ended = shown(&api, "X").await;
        assert_eq!((&ended["status"], &ended["cancelledAt"], ended.get("nextBillingDate")), (&json!("cancelled"), &json!("2026-05-01"), None));
        api.get(&format!("{SUBSCRIPTIONS}/none")).await.expect(404, "NOT_FOUND");
        for path in ["calculate-buyout", "calculate-early-return-fee"] {
            api.post(&format!("{SUBSCRIPTIONS}/{path}"), &json!({})).await.expect(405, "METHOD_NOT_ALLOWED");
        }
    }

    async fn the_list_filters_and_pages(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let more = json!({"assetSerialNumber": "SN-7", "orderId": "O7", "sku": "MBP"});
        api.world.import(json!([rental("R7", "2026-01-01", more)])).await;
        for (query, found) in [("status=cancelled", "X"), ("customerId=D", "S1"), ("orderId=O7", "R7"), ("serialNumber=SN-7", "R7"),
                               ("orderId=none", ""), ("serialNumber=SN-7&customerId=D", ""), ("status=active&customerId=D&sortBy=updatedAt", "S1")] {
            let page = api.get(&format!("{SUBSCRIPTIONS}?{query}")).await.good(200);
            let ids: Vec<&str> = page["rentals"].as_array().expect("rentals").iter().map(|r| r["rentalId"].as_str().expect("an id")).collect();
            assert_eq!(ids.join(","), found, "{query}");
            assert_eq!((&page["limit"], page.get("success")), (&json!(50), None));
        }
        let whole = api.get(SUBSCRIPTIONS).await.good(200)["rentals"].clone();
        let (mut walked, mut after) = (Vec::new(), String::new());
        loop {
            let page = api.get(&format!("{SUBSCRIPTIONS}?limit=3{after}")).await.good(200);
            walked.extend(page["rentals"].as_array().expect("rentals").clone());
            let Some(next) = page["nextCursor"].as_str() else { break };
            after = format!("&startAfter={next}");
        }
        assert_eq!((json!(walked), walked.len()), (whole, 9));
        for bad in ["status=open", "orderId=", "serialNumber=a&serialNumber=b"] {
            api.get(&format!("{SUBSCRIPTIONS}?{bad}")).await.expect(400, "VALIDATION_ERROR");
        }
    }

    async fn a_subscription_needs_a_customer_and_an_amount_and_is_billed(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let told = api.post(SUBSCRIPTIONS, &json!({"customerId": "C", "monthlyAmount": 12.5, "rentalId": "mine", "status": "cancelled"})).await.good(201);
        let one = told["rental"].clone();
        assert_eq!((&told["success"], &told["rentalId"]), (&json!(true), &one["rentalId"]));
        assert_ne!(one["rentalId"], "mine", "id and status are the server's");
        assert_eq!((&one["status"], &one["startDate"], &one["currency"], &one["productName"]), (&json!("active"), &json!("2026-06-10"), &json!("EUR"), &one["rentalId"]));
        assert_eq!(one["createdBy"], format!("key:{}", &api.key[3..11]));
        let id = one["rentalId"].as_str().expect("an id").to_owned();
        assert_eq!(line_list(&api.world.run("2026-06-10").await), format!("rental:{id}:2026-06: {id} 2026-06"));
        let full = json!({"customerId": "C", "monthlyAmount": 1e2, "currency": "EUR", "startDate": "2026-06-12T00:00:00+02:00", "endDate": "2027-06-12",
            "contractLength": 12, "productName": "Phone", "serialNumber": "SN", "assetSerialNumber": "SN", "sku": "P", "orderId": "O", "billingGroupId": "G1", "notes": "n"});
        let one = api.post(SUBSCRIPTIONS, &full).await.good(201)["rental"].clone();
        for (field, value) in [("startDate", json!("2026-06-12")), ("endDate", json!("2027-06-12")), ("contractLength", json!(12)), ("originalContractLength", json!(12)),
                               ("productName", json!("Phone")), ("assetSerialNumber", json!("SN")), ("serialNumber", json!("SN")), ("sku", json!("P")),
                               ("orderId", json!("O")), ("billingGroupId", json!("G1")), ("notes", json!("n")), ("nextBillingDate", json!("2026-06-15"))] {
            assert_eq!(one[field], value, "{field}");
        }
        assert!(members(&api, "G1").await.as_array().expect("ids").contains(&one["rentalId"]));
        // What a download holds for what is unset is as good as absent.
        let empty = json!({"customerId": "C", "monthlyAmount": 1, "contractLength": 0, "endDate": "", "startDate": "", "sku": "", "orderId": "", "assetSerialNumber": "",
            "notes": "", "billingGroupId": "", "productName": "", "currency": ""});
        let one = api.post(SUBSCRIPTIONS, &empty).await.good(201)["rental"].clone();
        assert_eq!((&one["contractLength"], one.get("endDate"), one.get("billingGroupId"), one.get("notes")), (&json!(0), None, None, None));
        for (body, code, detail) in [
            (json!({"customerId": "none", "monthlyAmount": 1}), "CUSTOMER_NOT_FOUND", "customerId (not_found)"),
            (json!({"customerId": "C", "monthlyAmount": 1, "billingGroupId": "none"}), "BILLING_GROUP_NOT_FOUND", "billingGroupId (not_found)"),
            (json!({"customerId": "D", "monthlyAmount": 1, "billingGroupId": "G1"}), "SUBSCRIPTION_DIFFERENT_CUSTOMER", "billingGroupId (different_customer)"),
            (json!({"customerId": "C", "monthlyAmount": 1, "billingGroupId": "G1", "currency": "USD"}), "SUBSCRIPTION_CURRENCY_MISMATCH", "billingGroupId (currency_mismatch)"),
            (json!({"customerId": "C", "monthlyAmount": 1, "billingGroupId": "G1", "startDate": "2025-01-01", "endDate": "2026-01-01"}), "SUBSCRIPTION_NOT_ACTIVE", "billingGroupId (not_active)"),
            (json!({"customerId": "C", "monthlyAmount": 1, "startDate": "2026-05-02", "endDate": "2026-05-01"}), "VALIDATION_ERROR", "endDate (too_small)"),
            (json!({"customerId": "C", "monthlyAmount": 1, "currency": "XXQ"}), "VALIDATION_ERROR", "currency (invalid_string)"),
            (json!({"customerId": "C", "monthlyAmount": 1.5, "currency": "JPY"}), "VALIDATION_ERROR", "monthlyAmount (invalid_number)"),
            (json!({"customerId": "C", "monthlyAmount": 1, "serialNumber": "a", "assetSerialNumber": "b"}), "VALIDATION_ERROR", "serialNumber (invalid_string)"),
        ] {
            assert_eq!(api.post(SUBSCRIPTIONS, &body).await.expect(400, code).details(), [detail], "{body}");
        }
        assert_verified(&api.world.db).await;
    }

    async fn a_change_is_partial_null_removes_and_nothing_changes_nothing(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let before = shown(&api, "R5").await;
        let all = json!({"monthlyAmount": 20.50, "endDate": "2027-01-01", "contractLength": 12, "productName": "Laptop", "assetSerialNumber": "SN", "notes": "n"});
        let told = api.patch(R5, &all).await.good(200);
        let full = told["rental"].clone();
        assert_eq!((&told["rentalId"], &told["message"]), (&json!("R5"), &json!("the subscription was updated")));
        assert_eq!((full["monthlyAmount"].to_string(), &full["endDate"], &full["contractLength"], &full["notes"]), ("20.50".into(), &json!("2027-01-01"), &json!(12), &json!("n")));
        assert!(full["updatedAt"].as_str() > before["updatedAt"].as_str());
        // As it was sent, with what the server computes, it changes nothing; what is empty stays.
        for same in [json!({}), all.clone(), full.clone(), json!({"contractLength": 0, "notes": "", "productName": "", "endDate": "", "billingGroupId": ""}), json!({"billingGroupId": null, "customerId": "C"})] {
            assert_eq!(api.patch(R5, &same).await.good(200)["rental"], full, "{same}");
        }
        let bare = api.patch(R5, &json!({"endDate": null, "contractLength": null, "notes": null})).await.good(200)["rental"].clone();
        assert_eq!((bare.get("endDate"), &bare["contractLength"], bare.get("notes")), (None, &json!(0), None));
        for (body, detail) in [(json!({"customerId": "D"}), "customerId (immutable)"), (json!({"endDate": "2025-12-31"}), "endDate (too_small)"),
                               (json!({"monthlyAmount": 1.005}), "monthlyAmount (invalid_number)")] {
            assert_eq!(api.patch(R5, &body).await.expect(400, "VALIDATION_ERROR").details(), [detail]);
        }
        api.patch(&format!("{SUBSCRIPTIONS}/none"), &json!({})).await.expect(404, "NOT_FOUND");
        assert_eq!(api.world.db.number("select count(*) from audit_log where kind = 'subscription'").await, 2);
        api.patch(R5, &json!({"monthlyAmount": 7})).await.good(200);
        let report = api.world.run("2026-07-01").await;
        let payment = report["payments"].as_array().expect("payments").iter().find(|p| p["rentalId"] == "R5").expect("a payment").clone();
        assert_eq!(payment["total"].to_string(), "7.00", "at the present price");
        assert_verified(&api.world.db).await;
    }

    async fn joining_and_leaving_a_group_is_one_field_and_two_calls_between_groups(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.import(json!([{"tenantId": "T", "billingGroupId": "G2", "customerId": "C", "billingDay": 20, "rentalIds": ["R4"], "status": "inactive"}])).await;
        let group = api.get("/v1/billing-groups/G1").await;
        let etag = group.header("etag").expect("a version").to_owned();
        assert_eq!(api.patch(R5, &json!({"billingGroupId": "G1"})).await.good(200)["rental"]["billingGroupId"], "G1");
        assert_eq!(members(&api, "G1").await, json!(["R1", "R2", "R5"]));
        let after = api.get("/v1/billing-groups/G1").await;
        assert_ne!(after.header("etag"), Some(etag.as_str()), "it is another version of the group");
        let told = api.patch(R5, &json!({"billingGroupId": "G2"})).await.expect(409, "SUBSCRIPTION_ALREADY_GROUPED");
        assert_eq!(told.json()["error"]["details"][0]["billingGroupId"], "G1");
        let left = api.patch(R5, &json!({"billingGroupId": null, "monthlyAmount": 11})).await.good(200)["rental"].clone();
        assert_eq!((left.get("billingGroupId"), left["monthlyAmount"].to_string()), (None, "11.00".to_owned()));
        api.patch(R5, &json!({"billingGroupId": "G2"})).await.good(200);
        assert_eq!(next(&api, "R5").await.as_deref(), Some("2026-07-01"), "an inactive group leaves it to its own day");
        // A change of something else leaves it where it is, and by whom it is billed.
        api.patch(R5, &json!({"notes": "x"})).await.good(200);
        assert_verified(&api.world.db).await;
        for (id, code) in [("none", "BILLING_GROUP_NOT_FOUND"), ("UG", "BILLING_GROUP_NOT_FOUND")] {
            api.patch("/v1/subscriptions/R3", &json!({"billingGroupId": id})).await.expect(400, code);
        }
        for (rental, code) in [("S1", "SUBSCRIPTION_DIFFERENT_CUSTOMER"), ("X", "SUBSCRIPTION_NOT_ACTIVE"), ("USD", "SUBSCRIPTION_CURRENCY_MISMATCH")] {
            api.patch(&format!("{SUBSCRIPTIONS}/{rental}"), &json!({"billingGroupId": "G1"})).await.expect(400, code);
        }
        assert_verified(&api.world.db).await;
    }

    async fn of_many_that_claim_one_subscription_one_wins_whatever_way_they_ask(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.import(json!([{"tenantId": "T", "billingGroupId": "G2", "customerId": "C", "billingDay": 20}])).await;
        let mut sent = JoinSet::new();
        for n in 0..18 {
            let request = match n % 3 {
                0 => api.request("PATCH", R5).json(&json!({"billingGroupId": "G1"})),
                1 => api.request("PATCH", "/v1/billing-groups/G2").json(&json!({"rentalIds": ["R5"]})),
                _ => api.request("POST", "/v1/billing-groups").json(&crate::support::api::new_group(json!({"rentalIds": ["R5"]}))),
            };
            let address = api.address;
            sent.spawn(async move { request.send(address).await });
        }
        let replies = sent.join_all().await;
        assert!(replies.iter().all(|reply| [200, 201, 409].contains(&reply.status)), "{replies:#?}");
        // Whoever asks for what is so already is told yes, the others no.
        let group = shown(&api, "R5").await["billingGroupId"].clone();
        for reply in replies.iter().filter(|reply| reply.status < 300) {
            let told = reply.json();
            let joined = if told["rental"].is_object() { &told["rental"]["billingGroupId"] } else { &told["billingGroup"]["billingGroupId"] };
            assert_eq!(*joined, group);
        }
        assert_verified(&api.world.db).await;
    }

    async fn cancelling_ends_today_for_a_reason_and_stays_in_the_group(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let told = api.post("/v1/subscriptions/R2/cancel", &json!({"reason": "customer_request", "notes": "moved", "rentalId": "R2"})).await.good(200);
        assert_eq!((&told["previousStatus"], &told["cancelledAt"], &told["rentalId"]), (&json!("active"), &json!("2026-06-10T12:00:00.000Z"), &json!("R2")));
        let one = &told["rental"];
        assert_eq!((&one["status"], &one["cancelledAt"], &one["billingGroupId"]), (&json!("cancelled"), &json!("2026-06-10"), &json!("G1")));
        let details = &one["cancellationDetails"];
        assert_eq!((&details["reason"], &details["notes"], &details["cancelledAt"]), (&json!("customer_request"), &json!("moved"), &told["cancelledAt"]));
        assert_eq!(one.get("nextBillingDate"), None);
        api.post("/v1/subscriptions/R2/cancel", &json!({"reason": "other"})).await.expect(400, "ALREADY_CANCELLED");
        api.world.import(json!([rental("done", "2026-01-01", json!({"status": "ended_buyout", "buyoutDate": "2026-03-01"}))])).await;
        assert_eq!(shown(&api, "done").await["buyoutDate"], "2026-03-01");
        api.post("/v1/subscriptions/done/cancel", &json!({"reason": "other"})).await.expect(400, "ALREADY_ENDED");
        api.post("/v1/subscriptions/none/cancel", &json!({"reason": "other"})).await.expect(404, "NOT_FOUND");
        let told = api.post("/v1/subscriptions/R5/cancel", &json!({"reason": "other", "rentalId": "R4"})).await.expect(400, "VALIDATION_ERROR");
        assert_eq!(told.details(), ["rentalId (immutable)"]);
        assert_eq!(line_list(&api.world.run("2026-06-15").await), "group:G1:2026-06: R1 2026-06");
        // A download that is imported again changes nothing of it.
        let mut download = shown(&api, "R2").await;
        download["tenantId"] = json!("T");
        api.world.import(json!([download])).await;
        assert_eq!(shown(&api, "R2").await["cancelledAt"], "2026-06-10");
        assert_verified(&api.world.db).await;
    }

    async fn the_next_billing_date_is_the_next_one_that_charges(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.import(json!([
            rental("today", "2026-06-10", json!({})), rental("later", "2026-08-31", json!({})), rental("short", "2026-06-01", json!({"endDate": "2026-06-20"})),
            rental("last", "2026-01-31", json!({})),
        ])).await;
        for (id, date) in [("today", Some("2026-06-10")), ("R1", Some("2026-06-15")), ("R5", Some("2026-07-01")), ("later", Some("2026-08-31")), ("short", None),
                           ("last", Some("2026-06-30")), ("X", None)] {
            assert_eq!(next(&api, id).await.as_deref(), date, "{id}");
        }
        api.world.run("2026-06-10").await;
        assert_eq!(next(&api, "today").await.as_deref(), Some("2026-07-10"), "today's run has charged it");
        api.world.run("2026-06-15").await;
        assert_eq!(next(&api, "R1").await.as_deref(), Some("2026-07-15"));
        api.delete("/v1/billing-groups/G1").await.good(200);
        assert_eq!(next(&api, "R1").await.as_deref(), Some("2026-07-01"), "by its own day again");
    }

    async fn a_download_of_every_list_can_be_imported_again_and_changes_nothing(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.post(SUBSCRIPTIONS, &json!({"customerId": "C", "monthlyAmount": 5, "orderId": "O", "contractLength": 6})).await.good(201);
        api.post("/v1/subscriptions/R5/cancel", &json!({"reason": "fraud"})).await.good(200);
        let lists = ["customers", "subscriptions", "billing-groups", "payments"];
        let mut before = Vec::new();
        for list in lists { before.push(api.get(&format!("/v1/{list}?limit=100")).await.body); }
        let files: Vec<(&str, String)> = lists.into_iter().zip(before.clone()).collect();
        let summary = api.world.try_import(&files).await.expect("an import");
        for (n, list) in lists.iter().enumerate() {
            assert_eq!(api.get(&format!("/v1/{list}?limit=100")).await.body, before[n], "{list}: {summary:?}");
        }
        assert_verified(&api.world.db).await;
    }

    async fn the_flows_of_the_public_pages_work_as_they_are_written(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.post("/v1/billing-groups", &crate::support::api::new_group(json!({"billingDay": 28}))).await.good(201);
        // A customer's billing summary.
        let groups = api.get("/v1/billing-groups?customerId=C").await.good(200)["billingGroups"].clone();
        let summary: Vec<String> = groups.as_array().expect("groups").iter().map(|group| {
            let devices = group["rentalIds"].as_array().expect("ids").len();
            format!("{} {devices} {} {} {}", group["groupName"].as_str().expect("a name"), group["currency"].as_str().expect("a currency"), group["totalMonthlyAmount"], group["billingDay"])
        }).collect();
        let mut summary = summary;
        summary.sort();
        assert_eq!(summary, ["G1 2 EUR 218.00 15", "Office 2 EUR 159.50 28"]);
        // Deactivation keeps the structure, and each member is billed on its own day.
        api.patch("/v1/billing-groups/G1", &json!({"status": "inactive"})).await.good(200);
        assert_eq!(members(&api, "G1").await, json!(["R1", "R2"]));
        assert_eq!(next(&api, "R1").await.as_deref(), Some("2026-07-01"));
        // Transition to individual billing: the subscriptions go on, alone.
        api.patch("/v1/billing-groups/G1", &json!({"status": "active"})).await.good(200);
        assert_eq!(api.delete("/v1/billing-groups/G1").await.good(200)["success"], true);
        for id in ["R1", "R2"] {
            let one = shown(&api, id).await;
            assert_eq!((&one["status"], one.get("billingGroupId")), (&json!("active"), None));
        }
        // Void what waits for a subscription.
        let waiting = api.get("/v1/payments?rentalId=X&status=pending").await.good(200)["payments"].clone();
        for payment in waiting.as_array().expect("payments") {
            let path = format!("/v1/payments/{}/cancel", payment["paymentId"].as_str().expect("an id"));
            api.post(&path, &json!({"reason": "early return"})).await.good(200);
        }
        assert_eq!(api.get("/v1/payments?rentalId=X&status=pending").await.good(200)["count"], 0);
        assert_verified(&api.world.db).await;
    }
}
