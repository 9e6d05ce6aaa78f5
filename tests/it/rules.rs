//! Rules that no worked example shows: arrears, parking, catching up, numbers, moves and switched-off groups, on both databases.

use billday::domain::Subject;
use billday::domain::plan::Mark;
use billday::run::{Dates, Schedule};
use serde_json::{Value, json};

use crate::support::world::{World, day, group, line_list, rental, tenant, tenant_of, text};
use crate::support::{TestDb, assert_verified, on_both};

async fn decide(world: &World, rental: &'static str, period: &'static str, mark: Mark) {
    let write = world.db.store.with_tx(move |tx| {
        Box::pin(async move { tx.decide_arrears("T", rental, period, mark, Some("a test"), "test", 0).await })
    });
    write.await.expect("a decision");
}

/// A rental that was charged for January, then not until June: four gaps.
async fn withheld(db: TestDb) -> World {
    let world = World::new(db).await;
    world.import(json!([rental("R", "2026-01-10", json!({}))])).await;
    world.run("2026-01-10").await;
    world.run("2026-06-10").await;
    assert_eq!(world.db.number("select count(*) from arrears where state = 'withheld'").await, 4);
    world
}

on_both! {
    async fn withheld_periods_are_charged_when_confirmed_and_never_when_waived(db: TestDb) {
        let world = withheld(db).await;
        let report = world.run("2026-07-10").await;
        assert_eq!(line_list(&report), "rental:R:2026-07: R 2026-07");
        assert_eq!(report["withheld"][0]["periods"], json!(["2026-02", "2026-03", "2026-04", "2026-05"]));
        decide(&world, "R", "2026-02", Mark::Waived).await;
        decide(&world, "R", "2026-04", Mark::Confirmed).await;
        let report = world.run("2026-08-10").await;
        assert_eq!(line_list(&report), "rental:R:2026-08: R 2026-04*, R 2026-08");
        assert_eq!(report["withheld"][0]["periods"], json!(["2026-03", "2026-05"]));
        assert_verified(&world.db).await;
    }

    async fn a_withheld_period_lapses_after_twelve_months_and_can_still_be_confirmed(db: TestDb) {
        let world = withheld(db).await;
        for month in ["2026-07", "2026-08", "2026-09", "2026-10", "2026-11", "2026-12", "2027-01", "2027-02", "2027-03"] {
            world.run(&format!("{month}-10")).await;
        }
        let report = world.run("2027-04-10").await;
        assert_eq!(report["withheld"][0]["periods"], json!(["2026-04", "2026-05"]), "two lie more than 12 periods back");
        decide(&world, "R", "2026-02", Mark::Confirmed).await;
        assert_eq!(line_list(&world.run("2027-05-10").await), "rental:R:2027-05: R 2026-02*, R 2027-05");
    }

    async fn a_parked_subject_is_billed_by_a_retry_for_its_own_date_and_closed(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R1", "2026-11-01", json!({})),
            rental("R2", "2026-11-01", json!({"currency": "USD"})),
            group("G", 15, &["R1", "R2"]),
        ])).await;
        world.run("2026-11-15").await;
        let open = "select count(*) from parked where state = 'open'";
        assert_eq!(world.db.number(open).await, 1);
        world.today("2026-11-20");
        world.import(json!([rental("R2", "2026-11-01", json!({}))])).await;
        let report = world.report(Dates::On(day("2026-11-15")), Some(Subject::group("G"))).await.remove(0);
        let report = tenant_of(&report, "T");
        assert_eq!(line_list(&report), "group:G:2026-11: R1 2026-11, R2 2026-11");
        assert_eq!(report["payments"][0]["issueDate"], "2026-11-20", "issued on the real day");
        assert_eq!(report["payments"][0]["dueDate"], "2026-12-04");
        assert_eq!(world.db.number(open).await, 0);
        assert_eq!(world.db.texts("select resolution from parked").await, ["billed"]);
        assert_verified(&world.db).await;
    }

    async fn what_a_parked_subject_would_have_been_charged_is_charged_on_the_next_date(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R1", "2026-11-01", json!({})),
            rental("R2", "2026-11-01", json!({"currency": "USD"})),
            group("G", 15, &["R1", "R2"]),
        ])).await;
        world.run("2026-11-15").await;
        world.today("2026-12-01");
        // R1 has ended since; it was parked for November and owes it all the same.
        world.import(json!([
            rental("R1", "2026-11-01", json!({"endDate": "2026-11-02"})),
            rental("R2", "2026-11-01", json!({})),
        ])).await;
        assert_eq!(line_list(&world.run("2026-12-15").await), "group:G:2026-12: R1 2026-11*, R2 2026-11*, R2 2026-12");
        assert_eq!(world.db.texts("select resolution from parked").await, ["charged"]);
        assert_verified(&world.db).await;
    }

    async fn a_parked_subject_that_is_no_longer_due_is_closed_as_that(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R1", "2026-11-01", json!({})),
            rental("R2", "2026-11-01", json!({"currency": "USD"})),
            group("G", 15, &["R1", "R2"]),
        ])).await;
        world.run("2026-11-15").await;
        world.import(json!([group("G", 20, &["R1", "R2"])])).await;
        world.run("2026-11-15").await;
        assert_eq!(world.db.texts("select resolution from parked").await, ["no longer due"]);
        assert_verified(&world.db).await;
    }

    async fn records_that_no_import_would_take_park_only_their_own_subject(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            {"tenantId": "T", "customerId": "D", "company": "Other", "email": "d@d.example"},
            rental("bad-currency", "2026-11-15", json!({})),
            rental("bad-status", "2026-11-15", json!({})),
            rental("no-customer", "2026-11-15", json!({})),
            rental("stranger", "2026-11-01", json!({})),
            rental("good", "2026-11-15", json!({})),
            group("G", 15, &["stranger"]),
        ])).await;
        world.db.execute("update rentals set currency = 'XXQ' where rental_id = 'bad-currency'").await;
        world.db.execute("update rentals set status = 'asleep' where rental_id = 'bad-status'").await;
        world.db.execute("update rentals set customer_id = 'nobody' where rental_id = 'no-customer'").await;
        world.db.execute("update rentals set customer_id = 'D' where rental_id = 'stranger'").await;
        let report = world.run("2026-11-15").await;
        assert_eq!(line_list(&report), "rental:good:2026-11: good 2026-11");
        let codes: Vec<(String, String)> = report["parked"].as_array().expect("parked").iter().map(|p| {
            (text(p.get("billingGroupId").unwrap_or(&p["rentalId"])), text(&p["code"]))
        }).collect();
        let expected = [
            ("G", "SUBSCRIPTION_DIFFERENT_CUSTOMER"),
            ("bad-currency", "INVALID_RECORD"),
            ("bad-status", "INVALID_RECORD"),
            ("no-customer", "CUSTOMER_NOT_FOUND"),
        ];
        assert_eq!(codes, expected.map(|(id, code)| (id.to_owned(), code.to_owned())));
    }

    async fn an_amount_beyond_63_bits_parks_its_group(db: TestDb) {
        let world = World::new(db).await;
        let ids: Vec<String> = (0..3).map(|n| format!("R{n}")).collect();
        let rentals = ids.iter().map(|id| rental(id, "2026-11-01", json!({})));
        world.import(Value::from(rentals.collect::<Vec<_>>())).await;
        world.import(json!([group("G", 15, &["R0", "R1", "R2"])])).await;
        world.db.execute("update rentals set monthly_amount = 9000000000000000000").await;
        let report = world.run("2026-11-15").await;
        assert_eq!(report["parked"][0]["code"], "AMOUNT_OVERFLOW");
    }

    async fn members_of_an_inactive_group_are_billed_alone_until_it_is_active_again(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-01-20", json!({})), group("G", 5, &["R"])])).await;
        assert_eq!(line_list(&world.run("2026-02-05").await), "group:G:2026-02: R 2026-02");
        let mut inactive = group("G", 5, &["R"]);
        inactive["status"] = json!("inactive");
        world.import(json!([inactive])).await;
        assert_eq!(line_list(&world.run("2026-03-05").await), "");
        // Its own day of January is a gap now: the group's came before its start.
        assert_eq!(line_list(&world.run("2026-03-20").await), "rental:R:2026-03: R 2026-01*, R 2026-03");
        let mut active = group("G", 5, &["R"]);
        active["status"] = json!("active");
        world.import(json!([active])).await;
        assert_eq!(line_list(&world.run("2026-04-05").await), "group:G:2026-04: R 2026-04");
        assert_verified(&world.db).await;
    }

    async fn a_tenant_with_a_fixed_day_bills_everybody_alone_on_it(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("T", json!({"billingCycle": {"fixedDay": 8}}))).await;
        world.import(json!([rental("A", "2026-03-31", json!({})), rental("B", "2026-04-08", json!({}))])).await;
        assert_eq!(line_list(&world.run("2026-03-31").await), "");
        assert_eq!(line_list(&world.run("2026-04-08").await), "rental:A:2026-04: A 2026-04; rental:B:2026-04: B 2026-04");
    }

    async fn invoice_numbers_are_gapless_and_restart_with_the_year_that_the_format_names(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("T", json!({"invoiceNumberFormat": "{year}/{seq:03}", "firstInvoiceNumber": 7}))).await;
        world.import(json!([rental("A", "2026-12-31", json!({})), rental("B", "2026-12-31", json!({}))])).await;
        let numbers = |report: &Value| -> Vec<String> {
            report["payments"].as_array().expect("payments").iter().map(|p| text(&p["invoiceNumber"])).collect()
        };
        assert_eq!(numbers(&world.run("2026-12-31").await), ["2026/007", "2026/008"]);
        assert_eq!(numbers(&world.run("2027-01-31").await), ["2027/001", "2027/002"]);
        // A backfill is issued today: its number and date follow the others.
        world.import(json!([rental("C", "2026-11-15", json!({}))])).await;
        let backfill = world.run_later("2026-11-15").await;
        assert_eq!((numbers(&backfill), &backfill["payments"][0]["issueDate"]), (vec!["2027/003".into()], &json!("2027-01-31")));
        assert_verified(&world.db).await;
    }

    async fn a_clock_that_went_back_issues_on_the_last_date_of_the_series(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("A", "2026-11-10", json!({})), rental("B", "2026-11-15", json!({}))])).await;
        world.run("2026-11-15").await;
        world.today("2026-11-12");
        let report = world.run_later("2026-11-10").await;
        assert_eq!(report["payments"][0]["issueDate"], "2026-11-15");
        assert_eq!(report["payments"][0]["dueDate"], "2026-11-29");
        assert_verified(&world.db).await;
    }

    async fn the_invoice_is_a_snapshot_of_seller_and_buyer(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-11-15", json!({}))])).await;
        world.run("2026-11-15").await;
        world.import(json!([{"tenantId": "T", "customerId": "C", "company": "Renamed", "email": "new@acme.example"}])).await;
        let bodies = world.db.texts(
            "select body from parties y join payments p on p.tenant_id = y.tenant_id and p.buyer_party = y.party_id"
        ).await;
        assert!(bodies[0].contains("Acme") && !bodies[0].contains("Renamed"), "{bodies:?}");
        assert_eq!(world.db.texts("select recipient from outbox").await, ["pay@acme.example"]);
    }

    async fn a_payment_of_nothing_is_paid_and_sends_no_mail(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-11-15", json!({"monthlyAmount": 0}))])).await;
        let payment = &world.run("2026-11-15").await["payments"][0];
        assert_eq!((&payment["status"], payment["total"].to_string()), (&json!("paid"), "0.00".to_owned()));
        assert!(payment["invoiceNumber"].is_string());
        assert_eq!(world.db.number("select count(*) from outbox").await, 0);
        assert_verified(&world.db).await;
    }

    async fn missed_dates_are_caught_up_in_order_and_older_ones_are_told(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("A", "2026-11-10", json!({})), rental("B", "2026-11-18", json!({}))])).await;
        world.today("2026-11-05");
        assert_eq!(world.report(Dates::TodayAndMissed, None).await.len(), 1, "a tenant begins with today");
        world.today("2026-11-20");
        let mut session = world.db.store.read().await.expect("a snapshot");
        let tenants = session.list_tenants().await.expect("tenants");
        let tenants: Vec<_> = tenants.into_iter().map(|(_, t)| std::sync::Arc::new(t.expect("a tenant"))).collect();
        let now = billday::clock::Clock::now(&*world.clock);
        let schedule = Schedule::new(&tenants, Dates::TodayAndMissed, false, now, &mut session).await.expect("a schedule");
        session.end().await;
        let dates: Vec<String> = schedule.dates.iter().map(|work| work.tenants[0].run_date.to_string()).collect();
        assert_eq!(dates.first().map(String::as_str), Some("2026-11-14"));
        assert_eq!((dates.last().map(String::as_str), dates.len()), (Some("2026-11-20"), 7));
        let overdue = &schedule.overdue[0];
        assert_eq!((overdue.first, overdue.last, overdue.count), (day("2026-11-06"), day("2026-11-13"), 8));
        let reports = world.report(Dates::TodayAndMissed, None).await;
        let billed: Vec<String> = reports.iter().map(|report| line_list(&tenant_of(report, "T"))).filter(|l| !l.is_empty()).collect();
        assert_eq!(billed, ["rental:B:2026-11: B 2026-11"]);
        assert_eq!(world.report(Dates::TodayAndMissed, None).await.len(), 1, "nothing is missing any more");
        assert_eq!(line_list(&world.run("2026-12-10").await), "rental:A:2026-12: A 2026-11*, A 2026-12");
        assert_verified(&world.db).await;
    }

    async fn rentals_that_a_billing_date_passed_over_are_counted(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("T", json!({"billFrom": "2026-11-01"}))).await;
        world.import(json!([
            rental("old", "2026-10-20", json!({})),
            rental("new", "2026-11-15", json!({})),
            rental("ended", "2026-10-01", json!({"endDate": "2026-11-01"})),
        ])).await;
        let report = world.run("2026-11-15").await;
        assert_eq!(report["neverCharged"], 1);
        assert_eq!(world.run("2026-11-20").await["neverCharged"], 0, "it is charged in this plan");
    }

    async fn a_dry_run_sees_what_the_earlier_dates_of_its_range_would_have_charged(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R", "2026-10-31", json!({"contractLength": 3})),
            rental("S", "2026-11-30", json!({"currency": "USD"})),
            rental("Q", "2026-11-30", json!({})),
            group("G", 28, &["S", "Q"]),
        ])).await;
        world.today("2027-03-01");
        let reports = world.report(Dates::Range(day("2026-10-31"), day("2027-03-01")), None).await;
        assert_eq!(reports.len(), 122);
        assert_verified(&world.db).await;
    }

    async fn every_tenant_is_billed_by_its_own_settings_and_none_sees_another_s(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("U", json!({"currency": "KWD", "timeZone": "Asia/Kuwait"}))).await;
        world.import(json!([
            {"tenantId": "U", "customerId": "C", "company": "Other"},
            {"tenantId": "U", "rentalId": "R", "customerId": "C", "monthlyAmount": "1.005", "startDate": "2026-11-15"},
            rental("R", "2026-11-15", json!({})),
        ])).await;
        world.today("2026-11-15");
        let report = world.report(Dates::On(day("2026-11-15")), None).await.remove(0);
        let (t, u) = (tenant_of(&report, "T"), tenant_of(&report, "U"));
        assert_eq!(t["payments"][0]["total"].to_string(), "10.00");
        assert_eq!(u["payments"][0]["total"].to_string(), "1.005");
        assert_ne!(t["payments"][0]["paymentId"], u["payments"][0]["paymentId"]);
        assert_verified(&world.db).await;
    }

    async fn a_dry_run_needs_no_right_to_write(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-11-15", json!({}))])).await;
        world.today("2026-11-15");
        let url = world.db.url_without_rights_to_write().await;
        let before = world.db.number("select count(*) from runs").await;
        let told = crate::cli::billday(world.db.dir.path(), &url, &["run", "--dry-run", "--run-date", "2026-11-15"]);
        assert_eq!((told.status, told.out.contains("10.00 EUR")), (0, true), "{told:?}");
        assert_eq!(world.db.number("select count(*) from runs").await, before);
        if !world.db.is_sqlite() {
            // Root may write to any file, so only the role shows that the right is really missing.
            let refused = crate::cli::billday(world.db.dir.path(), &url, &["run", "--run-date", "2026-11-15"]);
            assert_eq!(refused.status, 1, "{refused:?}");
        }
    }
}
