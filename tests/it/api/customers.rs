//! Customers: as they are shown, created and changed, and what follows for their invoices.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::api::ApiWorld;
use crate::support::{assert_verified, on_both};

const CUSTOMERS: &str = "/v1/customers";
const C: &str = "/v1/customers/C";

fn new_customer(email: &str) -> Value {
    json!({"email": email, "firstName": "Nora", "lastName": "New", "customerType": "business"})
}

on_both! {
    async fn a_customer_is_sent_with_its_rentals_and_what_they_bring(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.db.execute("update rentals set order_id = 'O1' where rental_id in ('R1', 'R2'); update rentals set order_id = 'O2' where rental_id = 'X'").await;
        let customer = api.get(C).await.good(200);
        assert_eq!(customer["rentalIds"], json!(["R1", "R2", "R3", "R4", "R5", "USD", "X"]), "ended ones too, ordered by id");
        assert_eq!(customer["totalDevicesRented"], 7, "all ever");
        assert_eq!(customer["totalMonthlyRevenue"].to_string(), "387.50", "active ones in the tenant's currency");
        assert_eq!((&customer["orderIds"], &customer["totalOrders"]), (&json!(["O1", "O2"]), &json!(2)));
        assert_eq!((&customer["email"], &customer["company"]), (&json!("pay@acme.example"), &json!("Acme")));
        // Missing texts that the public service always sends are empty; everything else that is unset is absent.
        assert_eq!((&customer["firstName"], &customer["lastName"]), (&json!(""), &json!("")));
        assert_eq!((&customer["createdBy"], &customer["status"]), (&json!("import"), &json!("active")));
        for absent in ["success", "phone", "lastBillingAddress", "vatId", "paymentTermsDays", "taxTreatment", "locale", "billingEmail", "buyerReference"] {
            assert_eq!(customer.get(absent), None, "{absent}");
        }
        api.get("/v1/customers/none").await.expect(404, "NOT_FOUND");
        let told = api.delete(C).await.expect(405, "METHOD_NOT_ALLOWED");
        assert_eq!(told.header("allow"), Some("GET,HEAD,PUT"));
    }

    async fn a_list_tells_its_limit_and_no_success_and_filters(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let page = api.get("/v1/customers?limit=1&sortDir=asc").await.good(200);
        assert_eq!(page.as_object().expect("an object").keys().collect::<Vec<_>>(), ["count", "customers", "hasMore", "limit", "nextCursor"]);
        assert_eq!((&page["limit"], &page["count"], &page["hasMore"], &page["customers"][0]["customerId"]), (&json!(1), &json!(1), &json!(true), &json!("C")));
        let after = format!("/v1/customers?limit=1&sortDir=asc&startAfter={}", page["nextCursor"].as_str().expect("a cursor"));
        let page = api.get(&after).await.good(200);
        assert_eq!((&page["customers"][0]["customerId"], &page["hasMore"], &page["nextCursor"]), (&json!("D"), &json!(false), &Value::Null));
        api.put("/v1/customers/D", &json!({"status": "inactive", "customerType": "individual"})).await.good(200);
        for (query, found) in [("status=inactive", json!(["D"])), ("customerType=business", json!(["C"])), ("email=PAY@acme.example", json!(["C"])),
                               ("email=none@acme.example", json!([])), ("status=active&customerType=individual", json!([]))] {
            let page = api.get(&format!("{CUSTOMERS}?{query}")).await.good(200);
            let ids: Vec<&Value> = page["customers"].as_array().expect("customers").iter().map(|c| &c["customerId"]).collect();
            assert_eq!(json!(ids), found, "{query}");
        }
        for bad in ["status=gone", "customerType=person", "email=", "sortBy=dueDate"] {
            api.get(&format!("{CUSTOMERS}?{bad}")).await.expect(400, "VALIDATION_ERROR");
        }
    }

    async fn a_customer_is_created_with_all_that_invoices_need(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let mut body = new_customer("nora@new.example");
        let address = json!({"contactName": "Nora", "streetAddress": "Street 1", "city": "Berlin", "postalCode": null, "country": "DE"});
        let more = json!({"company": "New Ltd", "phone": "+49", "billingAddress": address, "vatId": "DE123", "paymentTermsDays": 30,
            "taxTreatment": "reverseCharge", "locale": "de", "billingEmail": "bills@new.example", "buyerReference": "04011000",
            "customerId": "mine", "unknown": 5});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let told = api.post(CUSTOMERS, &body).await.good(201);
        let customer = told["customer"].clone();
        assert_eq!(told["customerId"], customer["customerId"]);
        assert_ne!(customer["customerId"], "mine", "the id is the server's");
        for field in ["email", "firstName", "lastName", "company", "phone", "customerType", "vatId", "paymentTermsDays", "taxTreatment",
                      "locale", "billingEmail", "buyerReference"] {
            assert_eq!(customer[field], body[field], "{field}");
        }
        assert_eq!(customer["lastBillingAddress"], json!({"contactName": "Nora", "streetAddress": "Street 1", "city": "Berlin", "country": "DE"}));
        assert_eq!(customer["createdBy"], format!("key:{}", &api.key[3..11]));
        assert_eq!((&customer["rentalIds"], customer["totalMonthlyRevenue"].to_string()), (&json!([]), "0.00".to_owned()));
        assert_eq!(api.get(&format!("{CUSTOMERS}/{}", customer["customerId"].as_str().expect("an id"))).await.good(200), customer);
        // It can be billed at once.
        let rental = json!({"customerId": customer["customerId"], "monthlyAmount": 100, "startDate": "2026-06-11"});
        api.post("/v1/subscriptions", &rental).await.good(201);
        let payment = api.world.run("2026-06-11").await["payments"][0].clone();
        assert_eq!((&payment["taxTreatment"], &payment["dueDate"]), (&json!("reverseCharge"), &json!("2026-07-11")));
        assert_eq!(api.world.db.texts("select recipient from outbox").await, ["bills@new.example"]);
        assert_verified(&api.world.db).await;
    }

    async fn an_email_that_exists_is_refused_whatever_its_case(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let told = api.post(CUSTOMERS, &new_customer("Pay@ACME.example")).await.expect(409, "CUSTOMER_EXISTS");
        assert!(told.body.contains("customer C"), "it names the id: {}", told.body);
        api.put("/v1/customers/D", &json!({"email": "PAY@acme.example"})).await.expect(409, "CUSTOMER_EXISTS");
        // One's own in another case is nobody else's.
        api.put(C, &json!({"email": "PAY@acme.example"})).await.good(200);
        let mut sent = JoinSet::new();
        for _ in 0..8 {
            let (request, address) = (api.request("POST", CUSTOMERS).json(&new_customer("one@new.example")), api.address);
            sent.spawn(async move { request.send(address).await.status });
        }
        let mut statuses = sent.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    }

    async fn a_change_is_partial_null_removes_and_nothing_changes_nothing(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let address = json!({"contactName": "A", "streetAddress": "S 1", "city": "B", "country": "DE"});
        let all = json!({"customerId": "C", "phone": "1", "billingAddress": address, "shippingAddress": address, "vatId": "DE1", "paymentTermsDays": 7,
            "taxTreatment": "exempt", "locale": "fr", "billingEmail": "b@acme.example", "buyerReference": "X"});
        let before = api.get(C).await.good(200);
        let told = api.put(C, &all).await.good(200);
        assert_eq!((&told["success"], &told["message"], &told["customerId"]), (&json!(true), &json!("the customer was updated"), &json!("C")));
        let full = told["customer"].clone();
        assert_eq!((&full["company"], &full["phone"], &full["taxTreatment"]), (&json!("Acme"), &json!("1"), &json!("exempt")));
        assert!(full["updatedAt"].as_str() > before["updatedAt"].as_str());
        assert_eq!(api.put(C, &json!({})).await.good(200)["customer"], full, "nothing is changed by nothing");
        assert_eq!(api.put(C, &all).await.good(200)["customer"], full, "nor by what is so already");
        let nothing = json!({"phone": null, "billingAddress": null, "shippingAddress": null, "vatId": null, "paymentTermsDays": null,
            "taxTreatment": null, "locale": null, "billingEmail": null, "buyerReference": null});
        let mut cleared = api.put(C, &nothing).await.good(200)["customer"].clone();
        let mut was = before;
        for customer in [&mut cleared, &mut was] { customer.as_object_mut().expect("an object").remove("updatedAt"); }
        assert_eq!(cleared, was);
        assert_eq!(api.put(C, &json!({"company": null})).await.good(200)["customer"].get("company"), None);
        let told = api.put(C, &json!({"customerId": "D"})).await.expect(400, "VALIDATION_ERROR");
        assert_eq!(told.details(), ["customerId (immutable)"]);
        api.put("/v1/customers/none", &json!({})).await.expect(404, "NOT_FOUND");
        assert_eq!(api.world.db.number("select count(*) from audit_log where kind = 'customer' and action = 'update'").await, 3);
    }

    async fn invoices_follow_the_email_and_those_that_exist_stay_as_they_are(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.run("2026-06-15").await;
        api.put(C, &json!({"email": "new@acme.example", "company": "Acme Reborn"})).await.good(200);
        api.world.run("2026-07-15").await;
        api.put(C, &json!({"billingEmail": "bills@acme.example"})).await.good(200);
        api.put(C, &json!({"email": "other@acme.example"})).await.good(200);
        api.world.run("2026-08-15").await;
        let group = "select o.recipient from outbox o join payments p on p.tenant_id = o.tenant_id and p.payment_id = o.payment_id
                     where p.subject_kind = 'group' order by p.billing_period";
        assert_eq!(api.world.db.texts(group).await, ["pay@acme.example", "new@acme.example", "bills@acme.example"]);
        let buyers = "select b.body from payments p join parties b on b.tenant_id = p.tenant_id and b.party_id = p.buyer_party
                      where p.subject_kind = 'group' order by p.billing_period";
        let buyers = api.world.db.texts(buyers).await;
        assert!(!buyers[0].contains("Reborn") && buyers[1].contains("Acme Reborn"), "{buyers:?}");
        assert_verified(&api.world.db).await;
    }
}
