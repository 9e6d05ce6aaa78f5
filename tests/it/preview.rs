//! The next invoice as it would be, and the next billing date (rule 28).

use billday::domain::Tenant;
use serde_json::{Value, json};

use crate::cli::{Told, billday_with};
use crate::support::on_both;
use crate::support::world::{World, day, group, rental, text};

on_both! {
    async fn a_preview_is_the_payment_that_the_run_then_makes_and_writes_nothing(db: TestDb) {
        let world = World::new(db).await;
        let rentals = json!([rental("R1", "2026-01-05", json!({"serialNumber": "SN-1"})), rental("R2", "2026-01-20", json!({}))]);
        world.import(rentals).await;
        world.import(json!([group("G1", 15, &["R1", "R2"])])).await;
        world.run("2026-01-15").await;

        world.today("2026-02-10");
        let preview = json_of(&show(&world, "2026-02-10", &["G1", "--format", "json"]));
        assert_eq!([text(&preview["runDate"]), text(&preview["billingGroupId"])], ["2026-02-15", "G1"]);
        let report = world.run("2026-02-15").await;
        assert_eq!(report["alreadyBilled"], 0, "the preview wrote a payment");
        let comparable = |payment: &Value| {
            let mut payment = payment.clone();
            for key in ["invoiceNumber", "createdAt", "updatedAt"] {
                payment.as_object_mut().expect("a payment").remove(key);
            }
            payment
        };
        assert_eq!(comparable(&preview["payment"]), comparable(&report["payments"][0]));

        // Of what is billed already, the next one.
        let preview = json_of(&show(&world, "2026-02-15", &["R2", "--format", "json"]));
        assert_eq!([text(&preview["runDate"]), text(&preview["billingGroupId"])], ["2026-03-15", "G1"]);
    }

    async fn a_later_date_is_planned_as_the_dates_before_it_would_have_left_it(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R1", "2026-01-05", json!({}))])).await;
        let preview = json_of(&show(&world, "2026-01-02", &["R1", "--date", "2026-06-05", "--format", "json"]));
        let lines = preview["payment"]["lineItems"].as_array().expect("lines");
        assert_eq!((lines.len(), text(&lines[0]["billingPeriod"])), (1, "2026-06".to_owned()));
    }

    async fn where_nothing_would_be_billed_the_reason_is_said(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("ended", "2026-01-05", json!({"endDate": "2026-02-01"})),
            rental("R1", "2026-01-05", json!({})),
            rental("usd", "2026-01-05", json!({"currency": "USD"})),
        ])).await;
        world.import(json!([group("G1", 15, &["R1", "usd"]), group("empty", 15, &[])])).await;
        let said = |status, args: &[&str], why: &str| {
            let output = show(&world, "2026-03-01", args);
            assert_eq!(output.status, status, "{output:?}");
            assert!(output.err.contains(why), "{why} is not in {output:?}");
        };
        said(0, &["empty"], "nothing to preview (NO_BILLABLE_RENTAL): on 2026-03-15, group empty would not be billed");
        said(0, &["R1", "--date", "2026-03-16"], "2026-03-16 is no billing date of group G1");
        said(3, &["rental:R1"], "(SUBSCRIPTION_CURRENCY_MISMATCH): on 2026-03-15, group G1 would be parked, not billed");
        said(2, &["nobody"], "no tenant has group or rental nobody");
        said(2, &["R1", "--date", "2136-01-01"], "a preview looks 10 years ahead");
        let skipped = json_of(&show(&world, "2026-03-01", &["empty", "--format", "json"]));
        assert_eq!(skipped["skipped"]["code"], "NO_BILLABLE_RENTAL");

        // One that has ended is charged its gap all the same.
        let gaps = json_of(&show(&world, "2026-03-01", &["ended", "--format", "json"]));
        assert_eq!(gaps["payment"]["lineItems"].as_array().expect("lines").len(), 1, "{gaps}");
    }

    async fn the_files_of_a_preview_say_what_they_are(db: TestDb) {
        let world = World::without_data(db);
        let address = json!({"streetAddress": "Weg 1", "postalCode": "10115", "city": "Berlin", "country": "DE"});
        world.import(json!([{"tenantId": "T", "name": "Rent GmbH", "currency": "EUR", "timeZone": "Europe/Berlin",
            "billFrom": "2020-01-01", "vatId": "DE123456789", "address": address, "iban": "DE02120300000000202051"}])).await;
        world.import(json!([{"tenantId": "T", "customerId": "C", "company": "Acme", "billingAddress": address}])).await;
        world.import(json!([rental("R1", "2026-01-05", json!({}))])).await;
        let (pdf, xml) = (world.db.dir.path().join("a.pdf"), world.db.dir.path().join("a.xml"));
        let files = ["R1", "--pdf", pdf.to_str().expect("UTF-8"), "--xml", xml.to_str().expect("UTF-8")];
        let output = show(&world, "2026-01-02", &files);
        assert_eq!(output.status, 0, "{output:?}");
        assert!(output.out.contains("NOTHING WAS WRITTEN") && output.out.contains("10.00 EUR to pay"), "{output:?}");
        let pdf = String::from_utf8_lossy(&std::fs::read(pdf).expect("a PDF")).into_owned();
        assert!(!pdf.contains("factur-x.xml"), "a program would take it for an invoice");
        assert!(pdf.contains("Preview"), "its title says what it is");
        assert!(std::fs::read_to_string(xml).expect("XML").contains("<ram:ID>PREVIEW</ram:ID>"));
    }

    async fn the_next_billing_date_is_the_first_on_which_a_run_would_charge_that_period(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("alone", "2025-12-31", json!({})),
            rental("later", "2026-05-20", json!({})),
            rental("ended", "2025-12-01", json!({"endDate": "2026-01-10"})),
            rental("two", "2025-12-10", json!({"contractLength": 2})),
            rental("member", "2025-12-01", json!({})),
            rental("joined", "2026-01-02", json!({})),
        ])).await;
        world.import(json!([group("G1", 5, &["member"]), group("G2", 28, &[])])).await;
        world.import(json!([{"tenantId": "T", "paymentId": "old", "customerId": "C", "rentalId": "alone", "status": "paid",
            "billingPeriod": "2026-03", "subtotal": 10, "taxAmount": 0}])).await;
        for date in ["2026-01-05", "2026-01-10"] {
            world.run(date).await;
        }
        world.import(json!([group("G1", 5, &["member", "joined"])])).await;
        let next = |today: &str| dates(&world, today.to_owned());
        assert_eq!(
            next("2026-01-05").await,
            ["alone 2026-04-30", "joined 2026-02-05", "later 2026-05-20", "member 2026-02-05"]
        );
        assert_eq!(
            next("2026-02-05").await,
            ["alone 2026-04-30", "joined 2026-02-05", "later 2026-05-20", "member 2026-02-05"]
        );
        world.run("2026-02-05").await;
        assert_eq!(next("2026-02-05").await[1..], ["joined 2026-03-05", "later 2026-05-20", "member 2026-03-05"]);
    }
}

/// The next billing dates of all rentals, as of a day.
async fn dates(world: &World, today: String) -> Vec<String> {
    let mut session = world.db.store.read().await.expect("a snapshot");
    let tenant: Tenant = session.list_tenants().await.expect("tenants").remove(0).1.expect("a good tenant");
    let ids = ["alone", "later", "ended", "two", "member", "joined"].map(str::to_owned);
    let dates = session.next_billing_dates(&tenant, &ids, day(&today)).await.expect("dates");
    session.end().await;
    let mut dates: Vec<String> = dates.into_iter().map(|(rental_id, date)| format!("{rental_id} {date}")).collect();
    dates.sort();
    dates
}

/// Runs `billday preview` at noon of a day.
fn show(world: &World, today: &str, args: &[&str]) -> Told {
    let now = format!("{today}T12:00:00Z");
    let args = [&["preview"], args].concat();
    billday_with(world.db.dir.path(), &world.db.url, &args, &[("BILLDAY_TEST_NOW", &now)])
}

fn json_of(output: &Told) -> Value {
    serde_json::from_str(&output.out).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}
