//! Sentences of the rule book and of the interface that no other test holds to, on both databases.

use billday::domain::Subject;
use billday::domain::plan::Mark;
use billday::run::Dates;
use serde_json::{Value, json};

use crate::cli::billday;
use crate::support::world::{World, day, group, line_list, rental, tenant, tenant_of, text};
use crate::support::{assert_verified, on_both};

fn numbers(report: &Value) -> Vec<String> {
    report["payments"].as_array().expect("payments").iter().map(|p| text(&p["invoiceNumber"])).collect()
}

fn paid(id: &str, rental: &str, period: &str, with: Value) -> Value {
    let mut base = json!({"tenantId": "T", "paymentId": id, "customerId": "C", "rentalId": rental,
        "billingPeriod": period, "subtotal": 10});
    base.as_object_mut().expect("an object").extend(with.as_object().cloned().unwrap_or_default());
    base
}

async fn refused(world: &World, records: Value) -> String {
    match world.try_import(&[("data.json", records.to_string())]).await {
        Ok(summary) => panic!("accepted: {summary}"),
        Err(error) => error.to_string(),
    }
}

async fn decide(world: &World, rental: &'static str, period: &'static str, mark: Mark) {
    let write = world.db.store.with_tx(move |tx| {
        Box::pin(async move { tx.decide_arrears("T", rental, period, mark, Some("a test"), "test", 0).await })
    });
    write.await.expect("a decision");
}

on_both! {
    async fn only_the_first_series_starts_at_the_first_invoice_number(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("T", json!({"invoiceNumberFormat": "{year}/{seq:03}", "firstInvoiceNumber": 482}))).await;
        world.import(json!([rental("A", "2026-12-31", json!({}))])).await;
        assert_eq!(numbers(&world.run("2026-12-31").await), ["2026/482"]);
        assert_eq!(numbers(&world.run("2027-01-31").await), ["2027/001"]);
        assert_eq!(numbers(&world.run("2027-02-28").await), ["2027/002"]);
        assert_verified(&world.db).await;
    }

    async fn each_tenant_has_numbers_of_its_own(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("A", json!({}))).await;
        world.import(json!([
            {"tenantId": "A", "customerId": "C", "company": "Acme"},
            {"tenantId": "A", "rentalId": "R", "customerId": "C", "monthlyAmount": 1, "startDate": "2026-11-15"},
            rental("R", "2026-11-15", json!({})),
        ])).await;
        world.today("2026-11-15");
        let report = world.report(Dates::On(day("2026-11-15")), None).await.remove(0);
        let ids: Vec<String> = report["tenants"].as_array().unwrap().iter().map(|t| text(&t["tenantId"])).collect();
        assert_eq!(ids, ["A", "T"]);
        assert_eq!(numbers(&tenant_of(&report, "A")), ["INV-2026-000001"]);
        assert_eq!(numbers(&tenant_of(&report, "T")), ["INV-2026-000001"]);
        assert_verified(&world.db).await;
    }

    async fn payments_are_in_bytewise_order_where_ids_are_prefixes_or_not_ascii(db: TestDb) {
        let world = World::new(db).await;
        for id in ["a", "B", "a-b", "é", "ab", "Z z"] {
            world.import(json!([{"tenantId": "T", "customerId": id, "company": "X", "email": "x@x.example"}])).await;
        }
        let mut records = Vec::new();
        for customer in ["a", "B", "a-b", "é", "ab", "Z z"] {
            for id in ["1", "1-", "10", "1é", "1Z", "1z", "1.", "1 "] {
                records.push(rental(id, "2026-11-15", json!({"customerId": customer, "rentalId": format!("{customer}{id}")})));
            }
        }
        world.import(Value::from(records)).await;
        let mut g = group("a1", 15, &["aé"]);
        g["customerId"] = json!("a");
        world.import(json!([rental("aé", "2026-11-01", json!({"customerId": "a"})), g])).await;
        let report = world.run("2026-11-15").await;
        let order: Vec<(String, String)> = report["payments"].as_array().unwrap().iter()
            .map(|p| (text(&p["customerId"]), text(&p["idempotencyKey"]))).collect();
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(order.len(), 49);
        assert_eq!(order, sorted);
        assert_eq!(order[0].0, "B");
        assert_verified(&world.db).await;
    }

    async fn a_run_that_was_interrupted_is_continued_once_and_its_hash_opens_nothing_later(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("A", "2026-11-15", json!({}))])).await;
        world.today("2026-11-15");
        let (folder, url) = (world.db.dir.path(), world.db.url.as_str());
        let dry = billday(folder, url, &["run", "--dry-run", "--run-date", "2026-11-15", "--format", "json"]);
        let hash = text(&serde_json::from_str::<Value>(&dry.out).expect("JSON")["planHash"]);
        let run = || billday(folder, url, &["run", "--run-date", "2026-11-15", "--no-send", "--expect-plan", &hash]);
        assert_eq!(run().status, 0);
        // As a crash leaves a run that was begun before.
        world.db.execute(
            "insert into runs (tenant_id, run_id, run_date, kind, requested_by, state, expected_plan, batches, billed,
                               already_billed, skipped, parked, withheld, never_charged, totals, version, started_at, beat_at)
             select tenant_id, 'crashed', run_date, kind, requested_by, 'failed', expected_plan, 1, 0, 0, 0, 0, 0, 0, '{}',
                    version, started_at - 1000000, beat_at - 1000000
             from runs",
        ).await;
        world.import(json!([rental("B", "2026-11-15", json!({}))])).await;
        assert_eq!(run().status, 3, "the plan of today is another than the one that was expected");
        assert_eq!(world.db.number("select count(*) from payments").await, 1);
    }

    async fn lapsed_periods_are_not_confirmed_with_the_withheld_ones(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2025-01-10", json!({}))])).await;
        world.run("2025-01-10").await;
        world.run("2025-12-10").await;
        world.today("2026-11-15");
        // Withheld are 2025-02 to 2025-11; on 15 November 2026 all but the last lie more than 12 periods back.
        let told = billday(world.db.dir.path(), &world.db.url, &["arrears", "confirm", "R"]);
        assert_eq!((told.status, told.out.trim()), (0, "confirmed for rental R: 2025-11"));
    }

    async fn an_empty_group_id_is_as_good_as_absent(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-11-01", json!({})), group("G", 15, &["R"])])).await;
        world.import(json!([rental("R", "2026-11-01", json!({"billingGroupId": ""}))])).await;
        assert_eq!(line_list(&world.run("2026-11-15").await), "group:G:2026-11: R 2026-11");
        world.import(json!([rental("R", "2026-11-01", json!({"billingGroupId": null}))])).await;
        assert_eq!(line_list(&world.run("2026-12-01").await), "rental:R:2026-12: R 2026-12");
    }

    async fn a_nested_field_that_is_no_object_is_refused(db: TestDb) {
        let world = World::new(db).await;
        let complaint = refused(&world, tenant("T", json!({"tax": 19}))).await;
        assert!(complaint.contains("tax: "), "{complaint}");
        let complaint = refused(&world, tenant("T", json!({"tax": "inclusive"}))).await;
        assert!(complaint.contains("tax: "), "{complaint}");
        let cancelled = rental("R", "2026-11-01", json!({"status": "cancelled", "cancellationDetails": "2026-12-01"}));
        let complaint = refused(&world, json!([cancelled])).await;
        assert!(complaint.contains("cancellationDetails: "), "{complaint}");
    }

    async fn a_hole_that_a_later_import_leaves_before_known_history_is_warned_of(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-01-10", json!({}))])).await;
        world.import(json!([paid("P4", "R", "2026-04", json!({}))])).await;
        let summary = world.import(json!([paid("P1", "R", "2026-01", json!({}))])).await;
        assert_eq!(summary.warning_count(), 1, "{summary}");
    }

    async fn verify_does_not_accuse_a_run_of_what_an_import_changed_since(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-10-05", json!({})), paid("P", "R", "2026-11", json!({}))])).await;
        assert_eq!(world.run("2026-11-05").await["alreadyBilled"], 1);
        // It was October's payment, written down wrongly.
        world.import(json!([paid("P", "R", "2026-10", json!({}))])).await;
        assert_eq!(line_list(&world.run("2026-12-05").await), "rental:R:2026-12: R 2026-11*, R 2026-12");
        assert_verified(&world.db).await;
    }

    async fn a_dismissed_rental_that_could_not_be_read_is_never_charged_for_that_period(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-11-05", json!({}))])).await;
        world.db.execute("update rentals set currency = 'XXQ'").await;
        assert_eq!(world.run("2026-11-05").await["parked"][0]["code"], "INVALID_RECORD");
        let told = billday(world.db.dir.path(), &world.db.url, &["parked", "dismiss", "R", "--reason", "test"]);
        assert_eq!(told.status, 0, "{told:?}");
        world.import(json!([rental("R", "2026-11-05", json!({"monthlyAmount": 11}))])).await;
        assert_eq!(line_list(&world.run("2026-12-05").await), "rental:R:2026-12: R 2026-12");
        assert_verified(&world.db).await;
    }

    async fn a_rental_that_had_ended_when_it_could_not_be_read_owes_nothing(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-10-05", json!({}))])).await;
        world.run("2026-10-05").await;
        world.db.execute("update rentals set status = 'asleep'").await;
        world.run("2026-11-05").await;
        world.import(json!([rental("R", "2026-10-05", json!({"status": "cancelled", "cancelledAt": "2026-10-20"}))])).await;
        assert_eq!(line_list(&world.run("2026-12-05").await), "");
        assert_eq!(world.db.number("select count(*) from parked where state = 'open'").await, 1);
        world.run("2026-11-05").await;
        assert_eq!(world.db.texts("select resolution from parked").await, ["no longer due"]);
    }

    async fn a_parked_individual_rental_that_is_mended_is_charged_and_closed(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-11-05", json!({}))])).await;
        world.db.execute("update rentals set currency = 'XXQ'").await;
        world.run("2026-11-05").await;
        world.db.execute("update rentals set currency = 'EUR'").await;
        assert_eq!(line_list(&world.run("2026-12-05").await), "rental:R:2026-12: R 2026-11*, R 2026-12");
        assert_eq!(world.db.texts("select resolution from parked").await, ["charged"]);
    }

    async fn runs_show_names_the_group_of_a_missing_customer_as_the_report_did(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-11-01", json!({})), group("G", 15, &["R"])])).await;
        world.db.execute("update rentals set customer_id = 'nobody'; update billing_groups set customer_id = 'nobody'").await;
        let report = world.run("2026-11-15").await;
        let run_id = world.db.texts("select run_id from runs").await.remove(0);
        let told = billday(world.db.dir.path(), &world.db.url, &["runs", "show", &run_id, "--format", "json"]);
        let shown: Value = serde_json::from_str(&told.out).expect("JSON");
        assert_eq!(tenant_of(&shown, "T")["parked"], report["parked"]);
    }

    async fn a_dry_range_over_caps_parking_and_withholding_says_what_the_real_one_does(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("T", json!({"maxArrears": 1, "invoiceNumberFormat": "{year}-{seq}"}))).await;
        world.import(json!([
            rental("cap", "2026-01-31", json!({"contractLength": 3})),
            rental("gap", "2026-06-05", json!({})),
            rental("gaps", "2025-06-05", json!({})),
            rental("usd", "2026-06-05", json!({"currency": "USD"})),
            rental("eur", "2026-06-05", json!({})),
            rental("late", "2026-11-30", json!({"endDate": "2026-12-31"})),
            group("G", 7, &["usd", "eur", "gap"]),
            group("H", 28, &["late"]),
        ])).await;
        world.run("2025-06-05").await;
        world.today("2027-02-28");
        world.report(Dates::Range(day("2026-11-01"), day("2027-02-28")), None).await;
        assert_verified(&world.db).await;
    }

    async fn a_contract_that_is_due_late_has_its_earliest_periods_charged_and_no_more_than_its_length(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("T", json!({"maxArrears": 12}))).await;
        world.import(json!([rental("R", "2026-01-10", json!({"contractLength": 3})), group("G", 20, &["R"])])).await;
        // Never run on the group's days; moved out, its own day gives three dates, all over by now.
        world.import(json!([group("G", 20, &[])])).await;
        assert_eq!(line_list(&world.run("2026-06-10").await), "rental:R:2026-06: R 2026-01*, R 2026-02*, R 2026-03*");
        assert_eq!(line_list(&world.run("2026-07-10").await), "");
        assert_verified(&world.db).await;
    }

    async fn an_import_of_payments_settles_who_holds_a_period_each_time_anew(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-01-10", json!({})), rental("S", "2026-01-10", json!({})), group("G", 10, &["S"])])).await;
        let live = "select payment_id from payments where live order by payment_id";
        world.import(json!([paid("P1", "R", "2026-01", json!({"status": "cancelled"}))])).await;
        assert_eq!(world.db.texts(live).await, ["P1"], "a cancelled payment alone holds its period");
        world.import(json!([paid("P2", "R", "2026-01", json!({}))])).await;
        assert_eq!(world.db.texts(live).await, ["P2"], "one that stands comes first");
        let complaint = refused(&world, json!([paid("P3", "R", "2026-01", json!({"status": "pending"}))])).await;
        assert!(complaint.contains("P2") && complaint.contains("P3"), "{complaint}");
        world.import(json!([paid("P2", "R", "2026-02", json!({}))])).await;
        assert_eq!(world.db.texts(live).await, ["P1", "P2"], "the cancelled one holds it again");
        assert_eq!(world.db.texts("select closed_through from rentals where rental_id = 'R'").await, ["2026-02"]);
        let both = json!({"rentalId": null, "billingGroupId": "G", "lineItems": [
            {"rentalId": "R", "amount": 5, "billingPeriod": "2026-03"}, {"rentalId": "S", "amount": 5}]});
        world.import(json!([paid("P4", "", "2026-04", both)])).await;
        assert_eq!(world.db.texts("select closed_through from rentals order by rental_id").await, ["2026-03", "2026-04"]);
        let one = json!({"rentalId": null, "billingGroupId": "G", "lineItems": [{"rentalId": "S", "amount": 5}]});
        world.import(json!([paid("P4", "", "2026-04", one)])).await;
        assert_eq!(world.db.texts("select closed_through from rentals order by rental_id").await, ["2026-02", "2026-04"]);
        assert_eq!(line_list(&world.run("2026-04-10").await), "rental:R:2026-04: R 2026-03*, R 2026-04");
        let complaint = refused(&world, json!([paid("P5", "R", "2026-03", json!({}))])).await;
        assert!(complaint.contains("billday itself charged"), "{complaint}");
        let complaint = refused(&world, json!([paid("P5", "R", "2026-04", json!({}))])).await;
        assert!(complaint.contains("billday itself"), "{complaint}");
        world.import(json!([paid("P5", "R", "2026-04", json!({"status": "cancelled"}))])).await;
        assert_verified(&world.db).await;
    }

    async fn payments_that_swap_their_periods_in_one_import_are_settled(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-01-10", json!({}))])).await;
        world.import(json!([paid("P1", "R", "2026-01", json!({})), paid("P2", "R", "2026-02", json!({}))])).await;
        world.import(json!([paid("P1", "R", "2026-02", json!({})), paid("P2", "R", "2026-01", json!({}))])).await;
        assert_eq!(world.db.texts("select billing_period from payments where live order by payment_id").await, ["2026-02", "2026-01"]);
        assert_verified(&world.db).await;
    }

    async fn membership_follows_what_the_call_says_and_nothing_else(db: TestDb) {
        let world = World::new(db).await;
        let inside = "select rental_id || ' ' || coalesce(billing_group_id, '-') from rentals order by rental_id";
        world.import(json!([rental("A", "2026-01-10", json!({})), rental("B", "2026-01-10", json!({})),
            group("G", 5, &["A"]), group("H", 6, &["B"])])).await;
        world.import(json!([rental("A", "2026-01-10", json!({"billingGroupId": "H"}))])).await;
        assert_eq!(world.db.texts(inside).await, ["A H", "B H"]);
        world.import(json!([group("G", 5, &["B"])])).await;
        assert_eq!(world.db.texts(inside).await, ["A H", "B G"]);
        let mut absent = group("H", 7, &[]);
        absent.as_object_mut().expect("a group").remove("rentalIds");
        world.import(json!([absent.clone()])).await;
        absent["rentalIds"] = json!(null);
        world.import(json!([absent])).await;
        assert_eq!(world.db.texts(inside).await, ["A H", "B G"]);
        let one_line = json!([rental("A", "2026-01-10", json!({"billingGroupId": null})), group("H", 7, &["A"])]);
        assert!(refused(&world, one_line).await.contains("'A'"));
        let unlisted = json!([rental("A", "2026-01-10", json!({"billingGroupId": "H"})), group("H", 7, &["B"])]);
        assert!(refused(&world, unlisted).await.contains("'A'"));
        let both = json!([group("G", 5, &["A"]), group("H", 7, &["A"])]);
        assert!(refused(&world, both).await.contains("'A'"));
        world.import(json!([group("H", 7, &[])])).await;
        assert_eq!(world.db.texts(inside).await, ["A -", "B G"]);
        let swap = json!([group("G", 5, &["A"]), rental("B", "2026-01-10", json!({"billingGroupId": "H"}))]);
        world.import(swap).await;
        assert_eq!(world.db.texts(inside).await, ["A G", "B H"]);
        world.delete_group("H").await;
        assert_eq!(world.db.texts(inside).await, ["A G", "B -"]);
        assert!(refused(&world, json!([rental("B", "2026-01-10", json!({"billingGroupId": "H"}))])).await.contains("'H'"));
        let summary = world.import(json!([group("H", 7, &["B"])])).await;
        assert!(summary.to_string().contains("restored 1"), "{summary}");
        assert_verified(&world.db).await;
    }

    async fn today_is_the_day_of_each_tenant(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("A", json!({"timeZone": "Pacific/Kiritimati"}))).await;
        world.import(tenant("T", json!({"timeZone": "Pacific/Niue"}))).await;
        world.import(json!([
            {"tenantId": "A", "customerId": "C", "company": "Acme"},
            {"tenantId": "A", "rentalId": "R", "customerId": "C", "monthlyAmount": 1, "startDate": "2026-11-16"},
            rental("R", "2026-11-14", json!({})),
        ])).await;
        world.clock.set("2026-11-15T10:30:00Z".parse().expect("an instant"));
        let report = world.report(Dates::TodayAndMissed, None).await.remove(0);
        let issued = |tenant: &str| tenant_of(&report, tenant)["payments"][0]["issueDate"].clone();
        assert_eq!((issued("A"), issued("T")), (json!("2026-11-16"), json!("2026-11-14")));
    }

    async fn what_was_dismissed_is_not_parked_again_nor_charged_as_arrears(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("A", "2026-11-01", json!({})), rental("B", "2026-11-01", json!({"currency": "USD"})), group("G", 15, &["A", "B"])])).await;
        world.run("2026-11-15").await;
        let told = billday(world.db.dir.path(), &world.db.url, &["parked", "dismiss", "group:G", "2026-11-15", "--reason", "test"]);
        assert_eq!(told.status, 0, "{told:?}");
        assert_eq!(world.run("2026-11-15").await["skipped"][0]["code"], "ALREADY_CHARGED");
        assert_eq!(world.db.texts("select resolution from parked").await, ["dismissed"]);
        world.import(json!([rental("B", "2026-11-01", json!({}))])).await;
        assert_eq!(line_list(&world.run("2026-12-15").await), "group:G:2026-12: A 2026-12, B 2026-12");
        assert_verified(&world.db).await;
    }

    async fn skip_codes_name_the_gravest_reason(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("done", "2026-11-01", json!({"contractLength": 2})),
            rental("ended", "2026-11-01", json!({"status": "cancelled", "cancelledAt": "2026-11-02"})),
            rental("own", "2026-11-03", json!({})),
            group("E", 15, &["ended"]), group("N", 15, &[]), group("O", 15, &[]), group("D", 15, &[]),
        ])).await;
        world.import(json!([paid("P1", "done", "2026-08", json!({})), paid("P2", "done", "2026-09", json!({}))])).await;
        world.run("2026-11-03").await;
        world.import(json!([group("O", 15, &["own"]), group("D", 15, &["done"])])).await;
        let report = world.run("2026-11-15").await;
        let codes: Vec<String> = report["skipped"].as_array().expect("skipped").iter()
            .map(|s| format!("{} {}", text(&s["billingGroupId"]), text(&s["code"]))).collect();
        assert_eq!(codes, ["D CONTRACT_COMPLETE", "E NO_BILLABLE_RENTAL", "N NO_BILLABLE_RENTAL", "O ALREADY_CHARGED"]);
    }

    async fn a_run_that_repeats_a_parked_date_closes_nothing_and_says_the_same(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("A", "2026-11-01", json!({})), rental("B", "2026-11-01", json!({"currency": "USD"})), group("G", 15, &["A", "B"])])).await;
        let first = world.run("2026-11-15").await;
        assert_eq!(world.run("2026-11-15").await, first);
        let retry = world.report(Dates::On(day("2026-11-15")), Some(Subject::group("G"))).await.remove(0);
        assert_eq!(tenant_of(&retry, "T")["parked"], first["parked"]);
        assert_eq!(world.db.number("select count(*) from parked where state = 'open'").await, 1);
    }

    async fn confirmed_gaps_are_charged_beyond_look_back_and_after_the_end_but_never_beyond_the_contract(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-01-10", json!({"contractLength": 24}))])).await;
        world.run("2026-01-10").await;
        world.run("2026-06-10").await;
        for period in ["2026-02", "2026-03"] {
            decide(&world, "R", period, Mark::Confirmed).await;
        }
        world.import(json!([rental("R", "2026-01-10", json!({"contractLength": 24, "status": "cancelled", "cancelledAt": "2026-06-20"}))])).await;
        let report = world.run("2026-07-10").await;
        assert_eq!(line_list(&report), "rental:R:2026-07: R 2026-02*, R 2026-03*");
        assert_eq!(report["withheld"][0]["periods"], json!(["2026-04", "2026-05"]));
        decide(&world, "R", "2026-04", Mark::Confirmed).await;
        decide(&world, "R", "2026-05", Mark::Confirmed).await;
        world.import(json!([rental("R", "2026-01-10", json!({"contractLength": 5, "status": "cancelled", "cancelledAt": "2026-06-20"}))])).await;
        assert_eq!(line_list(&world.run("2026-08-10").await), "rental:R:2026-08: R 2026-04*");
        assert_verified(&world.db).await;
    }

    async fn the_report_of_those_that_were_billed_is_kept_though_another_tenant_could_not_be_run(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("broken", json!({}))).await;
        world.import(json!([rental("R", "2026-11-15", json!({}))])).await;
        world.db.execute("update tenants set time_zone = 'Mars/Phobos' where tenant_id = 'broken'").await;
        let folder = world.db.dir.path();
        let told = billday(folder, &world.db.url, &["run", "--run-date", "2026-11-15", "--no-send", "--output", "report.txt"]);
        assert_eq!((told.status, told.out.as_str()), (1, ""), "{told:?}");
        assert!(told.err.contains("broken"), "{told:?}");
        let report = std::fs::read_to_string(folder.join("report.txt")).expect("the report");
        assert!(report.contains("10.00"), "{report}");
    }
}
