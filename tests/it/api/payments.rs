//! Payments: lists and filters, marking as paid, cancelling.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::api::ApiWorld;
use crate::support::world::rental;
use crate::support::{assert_verified, on_both};

const PAYMENTS: &str = "/v1/payments";

fn ids(page: &Value) -> Vec<String> {
    let payments = page["payments"].as_array().expect("payments");
    let mut ids: Vec<String> = payments.iter().map(|p| p["paymentId"].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

/// The world after its group was billed on 15 June and R3 alone on 1 June; the ids of both payments.
async fn billed(api: &ApiWorld) -> (String, String) {
    api.world.run("2026-06-01").await;
    api.world.run("2026-06-15").await;
    let one = async |target: &str| {
        api.get(target).await.good(200)["payments"][0]["paymentId"].as_str().expect("an id").to_owned()
    };
    (one("/v1/payments?billingGroupId=G1").await, one("/v1/payments?rentalId=R3").await)
}

async fn payment(api: &ApiWorld, id: &str) -> Value {
    api.get(&format!("{PAYMENTS}/{id}")).await.good(200)["payment"].clone()
}

on_both! {
    async fn a_payment_is_sent_as_the_report_told_it_and_with_what_became_of_it(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.today("2026-06-15");
        let report = api.world.report(billday::run::Dates::On(crate::support::world::day("2026-06-15")), None).await.remove(0);
        let told = crate::support::world::tenant_of(&report, "T")["payments"][0].clone();
        let id = told["paymentId"].as_str().expect("an id");
        assert_eq!(payment(&api, id).await, told);
        // The breakdown of an invoice, as a client of the public service makes it.
        let payment = payment(&api, id).await;
        assert_eq!((&payment["paymentType"], &payment["billingGroupId"]), (&json!("consolidated"), &json!("G1")));
        assert_eq!(payment.get("rentalId"), None);
        let lines = payment["lineItems"].as_array().expect("lines");
        let breakdown: Vec<String> =
            lines.iter().map(|l| format!("{} {}", l["rentalId"].as_str().expect("an id"), l["amount"])).collect();
        assert_eq!(breakdown, ["R1 129.00", "R2 89.00"]);
        assert_eq!((payment["amount"].to_string(), payment["total"].to_string()), ("218.00".into(), "218.00".into()));
        for null in ["paidAt", "lastCaptureAttempt", "nextRetryAt"] {
            assert_eq!(payment.get(null), Some(&Value::Null), "{null}");
        }
        assert_eq!((&payment["manuallyMarked"], &payment["captureAttempts"], &payment["lateFeeApplied"]), (&json!(false), &json!(0), &json!(false)));
    }

    async fn an_imported_payment_keeps_what_it_said_and_leaves_out_what_it_did_not(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.import(json!([{"tenantId": "T", "paymentId": "P2", "customerId": "C", "rentalId": "X", "billingPeriod": "2026-03",
            "subtotal": 10, "taxAmount": 1.9, "taxRate": 19, "status": "paid", "paidAt": "2026-03-04T05:06:07Z", "dueDate": "2026-03-20",
            "invoiceNumber": "OLD-7", "issueDate": "2026-03-06", "provider": "stripe", "transactionId": "tx", "notes": "n",
            "lineItems": [{"rentalId": "X", "amount": 10, "taxAmount": 1.9, "description": "as it was"}]}])).await;
        let p2 = payment(&api, "P2").await;
        for (field, value) in [("invoiceNumber", "OLD-7"), ("issueDate", "2026-03-06"), ("dueDate", "2026-03-20"), ("provider", "stripe"),
                               ("transactionId", "tx"), ("notes", "n"), ("paidAt", "2026-03-04T05:06:07.000Z"), ("status", "paid")] {
            assert_eq!(p2[field], value, "{field}");
        }
        assert_eq!((&p2["lineItems"][0]["description"], &p2["lineItems"][0]["arrears"]), (&json!("as it was"), &json!(false)));
        let p1 = payment(&api, "P1").await;
        for absent in ["invoiceNumber", "issueDate", "provider", "notes", "markedBy", "eInvoice"] {
            assert_eq!(p1.get(absent), None, "{absent}");
        }
        assert_eq!(p1["paidAt"], Value::Null);
    }

    async fn filters_are_combined_and_days_are_included(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let (group, alone) = billed(&api).await;
        let list = async |query: &str| ids(&api.get(&format!("{PAYMENTS}?limit=100&{query}")).await.good(200));
        assert_eq!(list("billingGroupId=G1").await, [group.as_str()]);
        assert_eq!(list("rentalId=R1").await, [group.as_str()], "a line of a consolidated payment");
        assert_eq!(list("rentalId=R3").await, [alone.as_str()]);
        let of_x = list("rentalId=X").await;
        assert_eq!((of_x.len(), of_x[0].as_str()), (2, "P1"), "the imported one, and its gaps of March and April");
        assert!(list("rentalId=none").await.is_empty());
        let (due, all) = (payment(&api, &group).await["dueDate"].as_str().expect("a day").to_owned(), list("").await);
        assert_eq!(list(&format!("dueDateFrom={due}&dueDateTo={due}")).await, [group.as_str()]);
        assert_eq!(list(&format!("dueDateFrom={due}T00:00:00Z")).await, [group.as_str()]);
        assert_eq!(list(&format!("dueDateTo={due}")).await, all);
        assert!(list("dueDateFrom=2026-07-01&dueDateTo=2026-06-01").await.is_empty(), "from after to is an empty page");
        assert_eq!(list("customerId=C&billingGroupId=G1&status=pending").await, [group.as_str()]);
        assert!(list("customerId=D&billingGroupId=G1").await.is_empty());
        api.post(&format!("{PAYMENTS}/{group}/mark-paid"), &json!({})).await.good(200);
        assert_eq!(list("status=paid").await, [group.as_str()]);
        api.post(&format!("{PAYMENTS}/{alone}/cancel"), &json!({"reason": "x"})).await.good(200);
        assert_eq!(list("status=cancelled").await, [alone.as_str()]);
        // A line that holds no period any more is a line still.
        api.world.db.execute("update payment_lines set live = false where payment_id = 'P1'; update payments set live = false where payment_id = 'P1'").await;
        assert_eq!(list("rentalId=X").await, of_x);
        for bad in ["dueDateFrom=yesterday", "dueDateTo=2026-02-30", "status=open", "status=", "sortBy=total", "rentalId=a&rentalId=b", "customerId="] {
            api.get(&format!("{PAYMENTS}?{bad}")).await.expect(400, "VALIDATION_ERROR");
        }
    }

    async fn every_order_meets_each_payment_once(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let (group, _) = billed(&api).await;
        api.post(&format!("{PAYMENTS}/{group}/mark-paid"), &json!({})).await.good(200);
        for by in ["createdAt", "updatedAt", "dueDate"] {
            for direction in ["asc", "desc"] {
                let order = format!("sortBy={by}&sortDir={direction}");
                let whole = api.get(&format!("{PAYMENTS}?limit=100&{order}")).await.good(200)["payments"].clone();
                let whole = whole.as_array().expect("payments");
                let mut sorted = whole.clone();
                sorted.sort_by_key(|p| (p[by].as_str().map(str::to_owned), p["paymentId"].as_str().map(str::to_owned)));
                if direction == "desc" { sorted.reverse(); }
                assert_eq!(whole, &sorted, "{order}");
                let (mut walked, mut after) = (Vec::new(), String::new());
                loop {
                    let page = api.get(&format!("{PAYMENTS}?limit=2&{order}{after}")).await.good(200);
                    walked.extend(page["payments"].as_array().expect("payments").clone());
                    let Some(next) = page["nextCursor"].as_str() else { break };
                    after = format!("&startAfter={next}");
                }
                assert_eq!(&walked, whole, "{order}");
            }
        }
    }

    async fn marking_as_paid_says_when_by_whom_and_what_for(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let (group, alone) = billed(&api).await;
        // Without any body, and so now.
        let before = payment(&api, &group).await;
        let told = api.send(api.request("POST", &format!("{PAYMENTS}/{group}/mark-paid"))).await.good(200);
        let paid = &told["payment"];
        assert_eq!((&told["success"], &told["message"]), (&json!(true), &json!("the payment was marked as paid")));
        assert_eq!((&paid["status"], &paid["manuallyMarked"], &paid["provider"]), (&json!("paid"), &json!(true), &json!("manual")));
        assert_eq!(paid["paidAt"], "2026-06-15T12:00:00.000Z");
        assert_eq!(paid["markedBy"], format!("key:{}", &api.key[3..11]));
        assert!(paid["updatedAt"].as_str() > before["updatedAt"].as_str());
        assert_eq!(payment(&api, &group).await, *paid);
        api.post(&format!("{PAYMENTS}/{group}/mark-paid"), &json!({})).await.expect(400, "ALREADY_PAID");
        api.post(&format!("{PAYMENTS}/{group}/cancel"), &json!({"reason": "x"})).await.expect(400, "ALREADY_PAID");
        // A day is its midnight where the tenant is; both names of the reference; notes go on new lines.
        let body = json!({"paidAt": "2026-06-14", "reference": "tx 1", "paymentReference": "tx 1", "notes": "by bank\ntransfer"});
        let paid = api.post(&format!("{PAYMENTS}/{alone}/mark-paid"), &body).await.good(200)["payment"].clone();
        assert_eq!((&paid["paidAt"], &paid["paymentReference"]), (&json!("2026-06-13T22:00:00.000Z"), &json!("tx 1")));
        assert_eq!(paid["notes"], "by bank\ntransfer");
        let told = api.post(&format!("{PAYMENTS}/P1/mark-paid"), &json!({"reference": "a", "paymentReference": "b"})).await;
        assert_eq!(told.expect(400, "VALIDATION_ERROR").details(), ["reference (invalid_string)"]);
        for future in ["2026-06-15T12:00:00.001Z", "2026-06-15T14:00:01+02:00", "2026-06-16"] {
            let told = api.post(&format!("{PAYMENTS}/P1/mark-paid"), &json!({"paidAt": future})).await.expect(400, "VALIDATION_ERROR");
            assert_eq!(told.details(), ["paidAt (too_big)"]);
        }
        let body = json!({"paidAt": "2026-06-15T14:00:00+02:00", "reference": "only"});
        let paid = api.post(&format!("{PAYMENTS}/P1/mark-paid"), &body).await.good(200)["payment"].clone();
        assert_eq!((&paid["paidAt"], &paid["paymentReference"]), (&json!("2026-06-15T12:00:00.000Z"), &json!("only")));
        api.post(&format!("{PAYMENTS}/none/mark-paid"), &json!({})).await.expect(404, "NOT_FOUND");
        let told = api.send(api.request("POST", &format!("{PAYMENTS}/P1/mark-paid")).body("{}")).await;
        told.expect(415, "UNSUPPORTED_MEDIA_TYPE");
        assert_verified(&api.world.db).await;
    }

    async fn cancelling_is_final_keeps_its_reason_and_is_not_made_again(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let (group, alone) = billed(&api).await;
        api.world.db.execute("update payments set notes = 'earlier' where tenant_id = 'T'").await;
        let told = api.post(&format!("{PAYMENTS}/{group}/cancel"), &json!({"reason": "charged by mistake"})).await.good(200);
        assert_eq!((&told["payment"]["status"], &told["payment"]["notes"]), (&json!("cancelled"), &json!("earlier\ncharged by mistake")));
        assert_eq!(told["payment"]["paidAt"], Value::Null);
        api.post(&format!("{PAYMENTS}/{group}/cancel"), &json!({"reason": "x"})).await.expect(400, "ALREADY_CANCELLED");
        api.post(&format!("{PAYMENTS}/{group}/mark-paid"), &json!({})).await.expect(400, "PAYMENT_CANCELLED");
        api.post(&format!("{PAYMENTS}/none/cancel"), &json!({"reason": "x"})).await.expect(404, "NOT_FOUND");
        // Its lines stay in the ledger (rule 12).
        assert_eq!(api.world.run_later("2026-06-15").await["payments"], json!([]));
        for (status, cancel, mark) in [("processing", Some("PAYMENT_PROCESSING"), None), ("failed", None, None)] {
            api.world.db.execute(&format!("update payments set status = '{status}' where payment_id in ('{alone}', 'P1')")).await;
            let told = api.post(&format!("{PAYMENTS}/{alone}/cancel"), &json!({"reason": "x"})).await;
            match cancel { Some(code) => drop(told.expect(400, code)), None => drop(told.good(200)) }
            if status == "processing" {
                let told = api.post(&format!("{PAYMENTS}/P1/mark-paid"), &json!({})).await;
                match mark { Some(code) => drop(told.expect(400, code)), None => drop(told.good(200)) }
            }
            api.world.db.execute("update payments set status = 'pending', marked_by = null where payment_id = 'P1'").await;
        }
        assert_verified(&api.world.db).await;
    }

    async fn of_two_at_once_one_succeeds(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let (group, alone) = billed(&api).await;
        for id in [group, alone] {
            let mut sent = JoinSet::new();
            for n in 0..12 {
                let (action, body) = if n % 2 == 0 { ("mark-paid", json!({})) } else { ("cancel", json!({"reason": "x"})) };
                let (request, address) = (api.request("POST", &format!("{PAYMENTS}/{id}/{action}")).json(&body), api.address);
                sent.spawn(async move { request.send(address).await });
            }
            let replies = sent.join_all().await;
            let done = replies.iter().filter(|reply| reply.status == 200).count();
            assert_eq!((done, replies.iter().filter(|reply| reply.status == 400).count()), (1, 11), "{replies:#?}");
        }
        assert_eq!(api.world.db.number("select count(*) from audit_log where kind = 'payment'").await, 2);
        assert_verified(&api.world.db).await;
    }

    async fn a_change_with_an_idempotency_key_is_made_once_and_told_again(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let keyed = |action: &str, body: &Value| {
            api.request("POST", &format!("{PAYMENTS}/P1/{action}")).header("Idempotency-Key", "k").json(body)
        };
        let first = api.send(keyed("mark-paid", &json!({"notes": "n"}))).await;
        let again = api.send(keyed("mark-paid", &json!({"notes": "n"}))).await;
        assert_eq!((first.status, &first.body), (again.status, &again.body));
        first.good(200);
        assert_eq!(payment(&api, "P1").await["notes"], "n");
        api.send(keyed("mark-paid", &json!({"notes": "m"}))).await.expect(409, "IDEMPOTENCY_KEY_REUSED");
        api.send(keyed("cancel", &json!({"reason": "x"}))).await.expect(400, "ALREADY_PAID");
        assert_eq!(api.world.db.number("select count(*) from audit_log where kind = 'payment'").await, 1);
    }

    async fn a_payment_of_nothing_is_paid_from_its_creation(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.import(json!([rental("free", "2026-06-10", json!({"monthlyAmount": 0}))])).await;
        api.world.run("2026-06-10").await;
        let paid = api.get(&format!("{PAYMENTS}?rentalId=free")).await.good(200)["payments"][0].clone();
        assert_eq!((&paid["status"], paid["total"].to_string()), (&json!("paid"), "0.00".to_owned()));
        assert!(paid["paidAt"].is_string());
        let path = format!("{PAYMENTS}/{}/cancel", paid["paymentId"].as_str().expect("an id"));
        api.post(&path, &json!({"reason": "x"})).await.expect(400, "ALREADY_PAID");
    }
}
