//! Every worked example of the rule book by its own name, on both databases; the dry run before each run must agree.

use serde_json::json;

use crate::support::on_both;
use crate::support::world::{World, group, line_list, rental, tenant};

on_both! {
    async fn a_group_of_three_makes_one_payment_of_377_00(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R1", "2026-11-01", json!({"monthlyAmount": 129.00})),
            rental("R2", "2026-11-01", json!({"monthlyAmount": 89.00})),
            rental("R3", "2026-11-01", json!({"monthlyAmount": 159.00})),
            group("G", 15, &["R1", "R2", "R3"]),
        ])).await;
        let report = world.run("2026-11-15").await;
        assert_eq!(line_list(&report), "group:G:2026-11: R1 2026-11, R2 2026-11, R3 2026-11");
        let payment = &report["payments"][0];
        assert_eq!(payment["total"].to_string(), "377.00");
        assert_eq!(payment["paymentType"], "consolidated");
        assert_eq!(payment["invoiceNumber"], "INV-2026-000001");
    }

    async fn the_same_date_run_again_bills_nothing_and_says_already_billed(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R1", "2026-11-01", json!({})), group("G", 15, &["R1"])])).await;
        world.run("2026-11-15").await;
        let again = world.run("2026-11-15").await;
        assert_eq!(line_list(&again), "");
        assert_eq!(again["alreadyBilled"], 1);
        assert_eq!(world.db.number("select count(*) from payments").await, 1);
    }

    async fn a_rental_billed_alone_that_joins_a_group_is_not_billed_twice_in_the_period(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R", "2026-11-05", json!({})),
            rental("S", "2026-11-01", json!({})),
            group("G", 15, &["S"]),
        ])).await;
        assert_eq!(line_list(&world.run("2026-11-05").await), "rental:R:2026-11: R 2026-11");
        world.today("2026-11-10");
        world.import(json!([group("G", 15, &["R", "S"])])).await;
        assert_eq!(line_list(&world.run("2026-11-15").await), "group:G:2026-11: S 2026-11");
        assert_eq!(line_list(&world.run("2026-12-05").await), "");
        assert_eq!(line_list(&world.run("2026-12-15").await), "group:G:2026-12: R 2026-12, S 2026-12");
    }

    async fn a_rental_that_joins_a_group_after_its_day_pays_the_gap_as_arrears(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R", "2026-01-20", json!({})),
            rental("S", "2026-01-01", json!({})),
            group("G", 5, &["S"]),
        ])).await;
        for date in ["2026-01-05", "2026-01-20", "2026-02-05", "2026-02-20", "2026-03-05"] {
            world.run(date).await;
        }
        world.today("2026-03-10");
        world.import(json!([group("G", 5, &["R", "S"])])).await;
        assert_eq!(line_list(&world.run("2026-03-20").await), "");
        assert_eq!(line_list(&world.run("2026-04-05").await), "group:G:2026-04: R 2026-03*, R 2026-04, S 2026-04");
    }

    async fn a_group_day_moved_later_after_billing_waits_for_the_next_period(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-03-01", json!({})), group("G", 5, &["R"])])).await;
        assert_eq!(line_list(&world.run("2026-03-05").await), "group:G:2026-03: R 2026-03");
        world.import(json!([group("G", 20, &["R"])])).await;
        let report = world.run("2026-03-20").await;
        assert_eq!((line_list(&report), &report["alreadyBilled"]), (String::new(), &json!(1)));
        assert_eq!(line_list(&world.run("2026-04-20").await), "group:G:2026-04: R 2026-04");
    }

    async fn a_group_day_moved_to_a_day_gone_by_leaves_arrears_for_those_that_had_started(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R", "2026-03-05", json!({})),
            rental("S", "2026-03-06", json!({})),
            group("G", 20, &["R", "S"]),
        ])).await;
        world.today("2026-03-10");
        world.import(json!([group("G", 5, &["R", "S"])])).await;
        assert_eq!(line_list(&world.run("2026-03-20").await), "");
        assert_eq!(line_list(&world.run("2026-04-05").await), "group:G:2026-04: R 2026-03*, R 2026-04, S 2026-04");
    }

    async fn a_group_day_moved_to_one_still_to_come_bills_this_month(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-03-01", json!({})), group("G", 20, &["R"])])).await;
        world.today("2026-03-10");
        world.import(json!([group("G", 12, &["R"])])).await;
        assert_eq!(line_list(&world.run("2026-03-12").await), "group:G:2026-03: R 2026-03");
    }

    async fn a_rental_that_starts_after_its_group_s_day_is_free_until_the_next(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R", "2026-03-10", json!({})),
            rental("S", "2026-01-01", json!({})),
            group("G", 1, &["R", "S"]),
        ])).await;
        world.run("2026-03-01").await;
        let report = world.run("2026-04-01").await;
        assert_eq!(report["payments"][0]["lineItems"][0]["billingPeriod"], "2026-04");
        assert!(!line_list(&report).contains("R 2026-03"), "{}", line_list(&report));
    }

    async fn days_on_which_nothing_ran_become_arrears_on_the_next_billing_date(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-03-10", json!({}))])).await;
        assert_eq!(line_list(&world.run("2026-04-10").await), "rental:R:2026-04: R 2026-03*, R 2026-04");
    }

    async fn a_rental_that_has_ended_still_owes_its_gap(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R", "2026-02-20", json!({"endDate": "2026-03-25"})),
            rental("S", "2026-01-01", json!({})),
            group("G", 5, &["S"]),
        ])).await;
        for date in ["2026-02-05", "2026-02-20", "2026-03-05"] {
            world.run(date).await;
        }
        world.today("2026-03-10");
        world.import(json!([group("G", 5, &["R"]), rental("S", "2026-01-01", json!({"billingGroupId": null}))])).await;
        assert_eq!(line_list(&world.run("2026-04-05").await), "group:G:2026-04: R 2026-03*");
    }

    async fn a_rental_of_the_31st_is_billed_on_the_last_day_of_short_months(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-01-31", json!({}))])).await;
        for (date, period) in
            [("2026-01-31", "2026-01"), ("2026-02-28", "2026-02"), ("2026-03-31", "2026-03"), ("2026-04-30", "2026-04")]
        {
            assert_eq!(line_list(&world.run(date).await), format!("rental:R:{period}: R {period}"));
        }
        assert_eq!(line_list(&world.run("2026-05-30").await), "");
    }

    async fn a_contract_of_12_months_in_a_group_is_charged_12_times(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-01-15", json!({"contractLength": 12})), group("G", 1, &["R"])])).await;
        let mut charged = Vec::new();
        for month in 1..=15 {
            let date = format!("{}-{:02}-01", 2026 + (month - 1) / 12, (month - 1) % 12 + 1);
            charged.extend((!line_list(&world.run(&date).await).is_empty()).then_some(date));
        }
        assert_eq!(charged.len(), 12, "{charged:?}");
        assert_eq!((charged[0].as_str(), charged[11].as_str()), ("2026-02-01", "2027-01-01"));
    }

    async fn a_group_deleted_the_day_before_its_day_leaves_each_member_to_its_own(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R1", "2026-01-03", json!({})),
            rental("R2", "2026-01-15", json!({})),
            rental("R3", "2026-01-20", json!({})),
            group("G", 15, &["R1", "R2", "R3"]),
        ])).await;
        for month in 1..=3 {
            world.run(&format!("2026-{month:02}-15")).await;
        }
        world.today("2026-04-14");
        world.delete_group("G").await;
        assert_eq!(line_list(&world.run("2026-04-15").await), "rental:R2:2026-04: R2 2026-04");
        // The group's day of January came before R3's start; R3's own did not, so that period is a gap now.
        assert_eq!(line_list(&world.run("2026-04-20").await), "rental:R3:2026-04: R3 2026-01*, R3 2026-04");
        // R1's own day of April had gone by: the period is not lost.
        assert_eq!(line_list(&world.run("2026-05-03").await), "rental:R1:2026-05: R1 2026-04*, R1 2026-05");
        let twice = "select count(*) from (select 1 from payment_lines group by rental_id, billing_period having count(*) > 1) x";
        assert_eq!(world.db.number(twice).await, 0);
    }

    async fn net_prices_at_19_percent_share_the_tax_6_33_6_33_6_34(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("T", json!({"tax": {"mode": "exclusive", "rate": 19}}))).await;
        world.import(json!([
            rental("R1", "2026-11-01", json!({"monthlyAmount": 33.33})),
            rental("R2", "2026-11-01", json!({"monthlyAmount": 33.33})),
            rental("R3", "2026-11-01", json!({"monthlyAmount": 33.34})),
            group("G", 15, &["R1", "R2", "R3"]),
        ])).await;
        let payment = &world.run("2026-11-15").await["payments"][0];
        let amounts: Vec<String> = ["subtotal", "taxAmount", "total"].iter().map(|k| payment[k].to_string()).collect();
        assert_eq!(amounts, ["100.00", "19.00", "119.00"]);
        let taxes: Vec<String> = (0..3).map(|i| payment["lineItems"][i]["taxAmount"].to_string()).collect();
        assert_eq!(taxes, ["6.33", "6.33", "6.34"]);
    }

    async fn a_gross_price_of_119_00_contains_19_00(db: TestDb) {
        let world = World::new(db).await;
        world.import(tenant("T", json!({"tax": {"mode": "inclusive", "rate": 19}}))).await;
        world.import(json!([rental("R", "2026-11-15", json!({"monthlyAmount": "119.00"}))])).await;
        let payment = &world.run("2026-11-15").await["payments"][0];
        let amounts: Vec<String> = ["subtotal", "taxAmount", "total"].iter().map(|k| payment[k].to_string()).collect();
        assert_eq!(amounts, ["100.00", "19.00", "119.00"]);
    }

    async fn members_in_two_currencies_park_their_group_and_nobody_else(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([
            rental("R1", "2026-11-01", json!({})),
            rental("R2", "2026-11-01", json!({"currency": "USD"})),
            rental("R3", "2026-11-15", json!({})),
            group("G", 15, &["R1", "R2"]),
        ])).await;
        let report = world.run("2026-11-15").await;
        assert_eq!(line_list(&report), "rental:R3:2026-11: R3 2026-11");
        let parked = &report["parked"][0];
        assert_eq!((&parked["billingGroupId"], &parked["code"]), (&json!("G"), &json!("SUBSCRIPTION_CURRENCY_MISMATCH")));
        assert_eq!(parked["records"], json!([
            {"kind": "rental", "id": "R1", "field": "currency", "value": "EUR"},
            {"kind": "rental", "id": "R2", "field": "currency", "value": "USD"},
        ]));
    }

    async fn a_hole_in_imported_history_is_history(db: TestDb) {
        let world = World::new(db).await;
        let payment = |id: &str, period: &str| json!({
            "paymentId": id, "customerId": "C", "rentalId": "R", "billingPeriod": period, "subtotal": 10,
        });
        world.import(json!([
            rental("R", "2026-01-10", json!({})),
            payment("P1", "2026-01"), payment("P2", "2026-02"), payment("P4", "2026-04"),
        ])).await;
        assert_eq!(line_list(&world.run("2026-05-10").await), "rental:R:2026-05: R 2026-05");
    }

    async fn a_rental_active_again_has_its_gaps_withheld_until_a_person_decides(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R", "2026-01-10", json!({}))])).await;
        world.run("2026-01-10").await;
        world.today("2026-01-20");
        let cancelled = json!({"status": "cancelled", "cancellationDetails": {"cancelledAt": "2026-01-20"}});
        world.import(json!([rental("R", "2026-01-10", cancelled)])).await;
        assert_eq!(line_list(&world.run("2026-02-10").await), "");
        world.today("2026-06-01");
        world.import(json!([rental("R", "2026-01-10", json!({"status": "active"}))])).await;
        let report = world.run("2026-06-10").await;
        assert_eq!(line_list(&report), "rental:R:2026-06: R 2026-06");
        let periods = json!(["2026-02", "2026-03", "2026-04", "2026-05"]);
        assert_eq!(report["withheld"], json!([{"rentalId": "R", "periods": periods}]));
    }
}
