//! Invoices as files, previews, and the mails that carry invoices.

use billday::api::Settings;
use billday::documents::DocumentStore;
use billday::domain::document::{DocumentKind, KeptDocument, sha256_of};
use serde_json::{Value, json};

use crate::support::api::ApiWorld;
use crate::support::on_both;
use crate::support::world::{rental, tenant};

/// All that an e-invoice asks of both sides, for customer `C` one of this kind.
async fn parties(api: &ApiWorld, e_invoice: &str) {
    let address = json!({"streetAddress": "Road 1", "postalCode": "53111", "city": "Bonn", "country": "DE"});
    let seller = json!({"address": address, "vatId": "DE123456789", "email": "billing@seller.example", "contactName": "A",
                        "phone": "+49 228 1", "iban": "DE89370400440532013000", "tax": {"mode": "exclusive", "rate": 19},
                        "electronicAddress": "0088:4012345000009"});
    api.world.import(tenant("T", seller)).await;
    let customer = json!({"tenantId": "T", "customerId": "C", "company": "Acme", "email": "pay@acme.example",
                          "billingAddress": address, "vatId": "DE111111125", "eInvoice": e_invoice, "buyerReference": "04011000-1-1"});
    api.world.import(json!([customer])).await;
}

async fn billed_id(api: &ApiWorld) -> String {
    let page = api.get("/v1/payments?billingGroupId=G1").await.good(200);
    page["payments"][0]["paymentId"].as_str().expect("a payment").to_owned()
}

on_both! {
    async fn an_invoice_is_sent_as_the_files_that_its_customer_gets(db: TestDb) {
        let api = ApiWorld::new(db).await;
        parties(&api, "facturX").await;
        api.world.run("2026-06-15").await;
        let path = format!("/v1/payments/{}", billed_id(&api).await);
        let number = api.get(&path).await.good(200)["payment"]["invoiceNumber"].as_str().expect("a number").to_owned();
        for (kind, media_type, begins) in [("pdf", "application/pdf", "%PDF-"), ("xml", "application/xml", "<?xml")] {
            let file = api.get(&format!("{path}/invoice.{kind}")).await;
            assert_eq!((file.status, file.header("content-type")), (200, Some(media_type)), "{}", file.body);
            assert!(file.bytes.starts_with(begins.as_bytes()), "{kind}");
            let shown = file.header("content-disposition").expect("a name");
            assert_eq!(shown, format!("inline; filename=\"{}.{kind}\"", number.replace('/', "_")));
            let again = api.get(&format!("{path}/invoice.{kind}")).await;
            assert_eq!(file.bytes, again.bytes, "the same each time");
        }
        let xml = api.get(&format!("{path}/invoice.xml")).await.body;
        assert!(xml.contains(&number) && xml.contains("CrossIndustryInvoice"), "{xml}");
    }

    async fn an_invoice_that_was_sent_is_given_as_it_was_sent_or_not_at_all(db: TestDb) {
        let folder = db.dir.path().join("documents");
        let documents = DocumentStore::new(folder.to_str().expect("a path")).expect("a place");
        let api = ApiWorld::with_settings(db, Settings { documents: Some(documents), ..Settings::default() }).await;
        api.world.run("2026-06-15").await;
        let id = billed_id(&api).await;
        let sent = b"%PDF- as it was drawn then".to_vec();
        let kept = KeptDocument {
            tenant_id: "T".into(),
            payment_id: id.clone(),
            kind: DocumentKind::Pdf,
            sha256: sha256_of(&sent),
            bytes: sent.len() as i64,
            place: "T/2026/sent.pdf".into(),
            created_at: 0,
        };
        std::fs::create_dir_all(folder.join("T/2026")).expect("a folder");
        std::fs::write(folder.join(&kept.place), &sent).expect("a file");
        let record = api.world.db.store.with_tx(move |tx| Box::pin(async move { tx.insert_documents(&[kept]).await }));
        record.await.expect("a record");
        let path = format!("/v1/payments/{id}/invoice.pdf");
        assert_eq!(api.get(&path).await.bytes, sent);
        std::fs::write(folder.join("T/2026/sent.pdf"), "%PDF- changed").expect("a file");
        api.get(&path).await.expect(500, "INTERNAL_ERROR");
    }

    async fn where_there_is_no_document_the_answer_says_why(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.run("2026-06-15").await;
        let id = billed_id(&api).await;
        let pdf = api.get(&format!("/v1/payments/{id}/invoice.pdf")).await;
        assert_eq!((pdf.status, &pdf.bytes[..5]), (200, b"%PDF-".as_slice()));
        let told = api.get(&format!("/v1/payments/{id}/invoice.xml")).await.expect(404, "NOT_FOUND");
        assert!(told.body.contains("there is no e-invoice XML: "), "{}", told.body);
        for kind in ["pdf", "xml"] {
            // An import may bring a payment without a number, or with one.
            let told = api.get(&format!("/v1/payments/P1/invoice.{kind}")).await.expect(404, "NOT_FOUND");
            assert!(told.body.contains("the payment has no invoice"), "{}", told.body);
            api.world.db.execute("update payments set invoice_number = 'OLD-1' where tenant_id = 'T' and payment_id = 'P1'").await;
            let told = api.get(&format!("/v1/payments/P1/invoice.{kind}")).await.expect(404, "NOT_FOUND");
            assert!(told.body.contains("its invoice was made elsewhere"), "{}", told.body);
            api.world.db.execute("update payments set invoice_number = null where payment_id = 'P1'").await;
            for nobody in ["none", "UP", "%00"] {
                let told = api.get(&format!("/v1/payments/{nobody}/invoice.{kind}")).await.expect(404, "NOT_FOUND");
                assert!(told.body.contains("there is no such payment"), "{}", told.body);
            }
        }
    }

    async fn a_preview_is_the_payment_that_the_run_then_makes(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let told = api.get("/v1/billing-groups/G1/preview").await.good(200)["preview"].clone();
        assert_eq!((&told["billingGroupId"], &told["runDate"]), (&json!("G1"), &json!("2026-06-15")));
        assert!(told.get("skipped").is_none() && told["payment"].get("invoiceNumber").is_none());
        assert_eq!(api.get("/v1/payments?billingGroupId=G1").await.good(200)["count"], 0, "nothing was written");
        // A member is billed with its group, on any of its dates.
        let member = api.get("/v1/subscriptions/R1/preview?date=2026-06-15").await.good(200)["preview"].clone();
        assert_eq!(member, told);
        api.world.run("2026-06-15").await;
        let made = api.get("/v1/payments?billingGroupId=G1").await.good(200)["payments"][0].clone();
        for field in ["paymentId", "total", "dueDate", "billingPeriod", "idempotencyKey", "lineItems"] {
            assert_eq!(told["payment"][field], made[field], "{field}");
        }
        let alone = api.get("/v1/subscriptions/R5/preview").await.good(200)["preview"].clone();
        assert_eq!((&alone["rentalId"], &alone["runDate"]), (&json!("R5"), &json!("2026-07-01")));
    }

    async fn a_preview_without_a_payment_says_why(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let skipped = async |target: &str| api.get(target).await.good(200)["preview"]["skipped"].clone();
        let told = skipped("/v1/billing-groups/G1/preview?date=2026-06-14").await;
        assert_eq!(told["message"], "2026-06-14 is no billing date of group G1");
        api.patch("/v1/billing-groups/G1", &json!({"status": "inactive"})).await.good(200);
        assert_eq!(skipped("/v1/billing-groups/G1/preview").await["code"], "NO_BILLABLE_RENTAL");
        for (query, code) in [
            ("date=", "too_small"), ("date=tomorrow", "invalid_date"), ("date=2026-02-30", "invalid_date"),
            ("date=2036-06-11", "too_big"), ("date=2026-06-15&date=2026-07-15", "invalid_type"),
        ] {
            for target in ["/v1/billing-groups/G1", "/v1/subscriptions/R1", "/v1/subscriptions/none"] {
                let told = api.get(&format!("{target}/preview?{query}")).await.expect(400, "VALIDATION_ERROR");
                assert_eq!(told.details(), [format!("query.date ({code})")], "{query}");
            }
        }
        for target in ["/v1/billing-groups/R1", "/v1/subscriptions/G1", "/v1/subscriptions/UR", "/v1/billing-groups/group:G1"] {
            api.get(&format!("{target}/preview")).await.expect(404, "NOT_FOUND");
        }
    }

    async fn the_outbox_is_listed_page_by_page_with_where_each_mail_stands(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.import(json!([rental("Q1", "2026-06-01", json!({})), rental("Q2", "2026-06-01", json!({}))])).await;
        let copies = json!({"tenantId": "T", "customerId": "C", "company": "Acme", "email": "pay@acme.example",
                            "invoiceRecipients": ["a@acme.example", "b@acme.example"]});
        api.world.import(json!([copies])).await;
        api.world.run("2026-06-01").await;
        api.world.run("2026-06-15").await;
        let whole = api.get("/v1/outbox?limit=100").await.good(200);
        let all: Vec<Value> = whole["mails"].as_array().expect("mails").clone();
        assert_eq!(api.world.db.number("select count(*) from outbox where tenant_id = 'T'").await, all.len() as i64);
        assert!(all.len() > 5 && all.iter().all(|mail| mail["state"] == "pending" && mail["nextAt"].is_string()), "{all:?}");
        assert!(all.windows(2).all(|two| two[0]["createdAt"].as_str() >= two[1]["createdAt"].as_str()));
        for direction in ["asc", "desc"] {
            let (mut met, mut after) = (Vec::new(), String::new());
            loop {
                let page = api.get(&format!("/v1/outbox?limit=2&sortDir={direction}{after}")).await.good(200);
                met.extend(page["mails"].as_array().expect("mails").clone());
                let Some(next) = page["nextCursor"].as_str() else { break };
                after = format!("&startAfter={next}");
            }
            if direction == "asc" { met.reverse(); }
            assert_eq!(met, all);
        }
        let payment = billed_id(&api).await;
        let mails = api.get(&format!("/v1/outbox?paymentId={payment}")).await.good(200)["mails"].clone();
        let to: Vec<&str> = mails.as_array().expect("mails").iter().map(|mail| mail["recipient"].as_str().expect("one")).collect();
        assert_eq!(to, ["b@acme.example", "a@acme.example"], "newest first, then by id from the last");
        api.world.db.execute(&format!("update outbox set state = 'failed', error = 'no such box', attempts = 3 where payment_id = '{payment}'")).await;
        let failed = api.get("/v1/outbox?state=failed").await.good(200);
        assert_eq!((&failed["count"], &failed["mails"][0]["error"], &failed["mails"][0]["attempts"]), (&json!(2), &json!("no such box"), &json!(3)));
        assert!(failed["mails"][0].get("nextAt").is_none());
        assert_eq!(api.get("/v1/outbox?state=failed&paymentId=none").await.good(200)["mails"], json!([]));
        let told = api.get("/v1/outbox?state=lost&limit=0&paymentId=").await.expect(400, "VALIDATION_ERROR");
        assert_eq!(told.details(), ["query.paymentId (too_small)", "query.state (invalid_enum)", "query.limit (invalid_limit)"]);
    }
}
