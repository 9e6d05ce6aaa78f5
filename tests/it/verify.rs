//! The audit: a ledger that was really billed is proved, and each damage is found by the check that is meant to find it.

use std::process::{Command, Output};
use std::sync::Arc;

use billday::clock::FixedClock;
use billday::domain::calendar::parse_date;
use billday::render::report::ReportFormat;
use billday::run::{Dates, RunSettings, Runner, Schedule, Unwatched};
use billday::store::verify::{Audit, Finding};
use chrono::{DateTime, Utc};

use crate::support::{TestDb, on_both};

/// When the ledgers here are audited.
const NOW: &str = "2026-04-15T12:00:00Z";

/// Every kind of subject: `G1` of two, `G2` of two currencies, `G3` whose day moves, `G4` whose member has ended; alone `R3`,
/// `R4` that has a gap, `R5` that costs nothing.
const MASTER_DATA: &str = "
    insert into parties (tenant_id, party_id, body)
    values ('acme', 'seller', '{\"tenantId\":\"acme\"}'), ('acme', 'buyer', '{\"customerId\":\"C1\"}');
    insert into tenants (tenant_id, name, currency, time_zone, locale, contract_end, proration, bill_from,
                         payment_terms_days, tax_mode, tax_rate_ppm, invoice_number_format, first_invoice_number,
                         catch_up_days, max_arrears, run_at, party_id, created_at, updated_at, changed_at)
    values ('acme', 'Acme', 'EUR', 'Europe/Berlin', 'en', 'end', 'none', '2026-02-01', 14, 'exclusive', 190000,
            'INV-{year}-{seq:06}', 1, 7, 2, '06:00', 'seller', 1, 1, 1);
    insert into customers (tenant_id, customer_id, customer_type, status, company, billing_email, tax_treatment,
                           party_id, created_at, updated_at, changed_at)
    values ('acme', 'C1', 'business', 'active', 'One', 'one@example.com', 'standard', 'buyer', 1, 1, 1);
    insert into billing_groups (tenant_id, billing_group_id, customer_id, group_name, billing_day, status, created_by,
                                created_at, updated_at, changed_at)
    values ('acme', 'G1', 'C1', 'First', 15, 'active', 'test', 1, 1, 1),
           ('acme', 'G2', 'C1', 'Second', 20, 'active', 'test', 1, 1, 1),
           ('acme', 'G3', 'C1', 'Third', 15, 'active', 'test', 1, 1, 1),
           ('acme', 'G4', 'C1', 'Fourth', 15, 'active', 'test', 1, 1, 1);";

/// Statements that bring in one rental as an import would, changed last at `changed_at`.
fn rental(id: &str, group: Option<&str>, start: &str, amount: i64, currency: &str, changed_at: i64) -> String {
    let group = group.map_or_else(|| "null".to_owned(), |group| format!("'{group}'"));
    format!(
        "insert into rentals (tenant_id, rental_id, customer_id, billing_group_id, billed_group_id, monthly_amount, currency,
                              status, start_date, product_name, created_by, created_at, updated_at, changed_at)
         values ('acme', '{id}', 'C1', {group}, {group}, {amount}, '{currency}', 'active', '{start}', 'Phone', 'test', 1, 1,
                 {changed_at});
         insert into uncharged_rentals (tenant_id, rental_id) values ('acme', '{id}');"
    )
}

fn at(instant: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(instant).expect("an instant").to_utc()
}

async fn run(db: &TestDb, date: &str) {
    let clock = FixedClock::at(at(&format!("{date}T06:00:00Z")));
    let mut session = db.store.read().await.expect("a snapshot");
    let tenants = session.list_tenants().await.expect("tenants");
    let tenants: Vec<_> = tenants.into_iter().map(|(_, tenant)| Arc::new(tenant.expect("a tenant"))).collect();
    let dates = Dates::On(parse_date(date).expect("a date"));
    let now = at(&format!("{date}T06:00:00Z"));
    let schedule = Schedule::new(&tenants, dates, false, now, &mut session).await.expect("a schedule");
    session.end().await;
    let settings = RunSettings {
        dry_run: false,
        batch_rentals: 2,
        requested_by: "test".to_owned(),
        only: None,
        expected_plan: None,
        format: ReportFormat::Json,
    };
    let mut runner = Runner::new(&db.store, &clock, &Unwatched, settings);
    for work in &schedule.dates {
        runner.run_date(work).await.expect("a run");
    }
}

/// A ledger that four runs have left, the second of them a repetition: seven payments, numbered 1 to 7.
async fn billed(db: &TestDb) {
    db.execute(MASTER_DATA).await;
    for (id, group, start, amount, currency) in [
        ("R1", Some("G1"), "2026-03-01", 12_900, "EUR"),
        ("R2", Some("G1"), "2026-03-02", 8_900, "EUR"),
        ("R3", None, "2026-03-15", 15_900, "EUR"),
        ("R4", None, "2026-02-20", 9_900, "EUR"),
        ("R5", None, "2026-03-20", 0, "EUR"),
        ("R6", Some("G4"), "2026-01-01", 100, "EUR"),
        ("R7", Some("G2"), "2026-03-01", 100, "EUR"),
        ("R8", Some("G2"), "2026-03-01", 100, "USD"),
        ("R9", Some("G3"), "2026-03-01", 100, "EUR"),
    ] {
        db.execute(&rental(id, group, start, amount, currency, 1)).await;
    }
    db.execute("update rentals set end_date = '2026-01-10' where rental_id = 'R6'").await;
    run(db, "2026-03-15").await;
    run(db, "2026-03-15").await;
    let moved = at("2026-03-16T00:00:00Z").timestamp_micros();
    db.execute(&format!(
        "update billing_groups set billing_day = 20, changed_at = {moved} where billing_group_id = 'G3'"
    ))
    .await;
    run(db, "2026-03-20").await;
    run(db, "2026-04-15").await;
}

async fn audit(db: &TestDb) -> Audit {
    let mut session = db.store.read().await.expect("a snapshot");
    let audit = session.audit(None, at(NOW)).await.expect("an audit");
    session.end().await;
    audit
}

fn names(findings: &[Finding]) -> Vec<&str> {
    let mut names: Vec<&str> = findings.iter().map(|finding| finding.check).collect();
    names.sort_unstable();
    names
}

/// The rows of one finding.
fn rows<'a>(findings: &'a [Finding], check: &str) -> &'a [String] {
    findings.iter().find(|finding| finding.check == check).map_or(&[], |finding| &finding.rows)
}

/// Damages a good ledger and asserts which checks find it, no more and no fewer, and that the first names `row`.
async fn refuted(db: &TestDb, damage: &str, checks: &[&str], row: &str) {
    billed(db).await;
    assert_eq!(names(&audit(db).await.violations), [""; 0], "the ledger was damaged before");
    db.execute(damage).await;
    let audit = audit(db).await;
    let mut expected = checks.to_vec();
    expected.sort_unstable();
    assert_eq!(names(&audit.violations), expected, "{:#?}", audit.violations);
    let rows = rows(&audit.violations, checks[0]);
    assert!(rows.iter().any(|found| found.starts_with("tenant acme: ") && found.contains(row)), "{rows:#?}");
    assert!(audit.violations.iter().all(|violation| violation.count >= violation.rows.len() as u64));
}

/// Puts `payment` in the place of the id of the payment of a subject and period.
fn on_payment(damage: &str, subject: &str, period: &str) -> String {
    let id =
        format!("(select payment_id from payments where subject_id = '{subject}' and billing_period = '{period}')");
    damage.replace("$payment", &id)
}

/// An imported payment of subject `R3` without lines.
fn imported_payment(period: &str) -> String {
    format!(
        "insert into payments (tenant_id, payment_id, subject_kind, subject_id, customer_id, subject_name, billing_period,
                               currency, subtotal, tax_amount, total, tax_rate_ppm, tax_treatment, status, due_date,
                               line_count, origin, live, created_at, updated_at)
         values ('acme', 'imported', 'rental', 'R3', 'C1', 'Phone', '{period}', 'EUR', 1, 0, 1, 0, 'standard', 'paid',
                 '2026-01-01', 9, 'import', true, 1, 1);"
    )
}

/// A live line of `R3`, on the imported payment or on one that does not exist.
fn line(payment: &str, period: &str, imported: bool) -> String {
    format!(
        "insert into payment_lines (tenant_id, payment_id, rental_id, billing_period, amount, tax_amount, arrears, imported,
                                    live)
         values ('acme', '{payment}', 'R3', '{period}', 1, 0, false, {imported}, true);"
    )
}

fn mail(payment: &str) -> String {
    format!(
        "insert into outbox (tenant_id, payment_id, kind, locale, state, attempts, next_at, fence, sent_at,
                              created_at)
         values ('acme', {payment}, 'invoice', 'en', 'sent', 1, 1, 0, 1, 1);"
    )
}

on_both! {
    async fn a_ledger_that_was_really_billed_is_proved(db: TestDb) {
        billed(&db).await;
        let audit = audit(&db).await;
        assert_eq!(audit.violations, []);
        let looked_at = [audit.tenants, audit.payments, audit.lines, audit.completed_dates, audit.outcomes];
        assert_eq!(looked_at, [1, 7, 10, 3, 11]);
        assert_eq!(audit.passed.len(), 48);
        // What the runs met is there to be looked at, and is no violation.
        assert_eq!(names(&audit.information), ["parked_open"]);
        assert_eq!(
            rows(&audit.information, "parked_open"),
            ["tenant acme: group G2, run date 2026-03-20, SUBSCRIPTION_CURRENCY_MISMATCH"]
        );
    }

    async fn an_empty_ledger_is_proved(db: TestDb) {
        let audit = audit(&db).await;
        assert_eq!((audit.tenants, audit.violations, audit.information), (0, vec![], vec![]));
    }

    async fn another_tenants_damage_is_not_this_ones(db: TestDb) {
        billed(&db).await;
        db.execute("delete from invoice_series; update runs set billed = 9; update outcomes set rentals = '[]'").await;
        let mut session = db.store.read().await.expect("a snapshot");
        let audit = session.audit(Some("other"), at(NOW)).await.expect("an audit");
        assert_eq!((audit.tenants, audit.payments, audit.violations), (0, 0, vec![]));
        let audit = session.audit(Some("acme"), at(NOW)).await.expect("an audit");
        assert_eq!((audit.tenants, audit.payments, audit.violations.is_empty()), (1, 7, false));
        session.end().await;
    }

    async fn only_the_first_rows_are_named_and_all_are_counted(db: TestDb) {
        billed(&db).await;
        for n in 0..25 {
            db.execute(&mail(&format!("'gone-{n:02}'"))).await;
        }
        let audit = audit(&db).await;
        let [violation] = &audit.violations[..] else { panic!("{:#?}", audit.violations) };
        assert_eq!((violation.count, violation.rows.len()), (25, 20));
        assert_eq!(violation.rows[19], "tenant acme: payment gone-19");
    }
}

on_both! {
    async fn a_subject_billed_twice_is_found(db: TestDb) {
        let damage = format!("drop index payments_once; {}", imported_payment("2026-03"));
        refuted(&db, &damage, &["subject_billed_twice"], "rental R3, period 2026-03, 2 payments").await;
    }

    async fn a_rental_charged_twice_is_found(db: TestDb) {
        let damage = format!(
            "drop index payment_lines_once; update rentals set closed_through = '2026-03' where rental_id = 'R3'; {} {}",
            imported_payment("2026-02"),
            line("imported", "2026-03", true)
        );
        refuted(&db, &damage, &["rental_charged_twice"], "rental R3, period 2026-03, 2 lines").await;
    }

    async fn a_line_of_another_amount_is_found(db: TestDb) {
        let damage = "update payment_lines set amount = amount + 1 where rental_id = 'R3' and billing_period = '2026-03'";
        let row = "subtotal 159.00 EUR, tax 30.21 EUR, lines 1; its lines: 159.01 EUR, 30.21 EUR, 1";
        refuted(&db, damage, &["payment_differs_from_lines"], row).await;
    }

    async fn a_line_of_another_tax_is_found(db: TestDb) {
        let damage = "update payment_lines set tax_amount = 0 where rental_id = 'R3' and billing_period = '2026-03'";
        refuted(&db, damage, &["payment_differs_from_lines"], "its lines: 159.00 EUR, 0.00 EUR, 1").await;
    }

    async fn a_line_too_few_is_found(db: TestDb) {
        let damage = "update payments set line_count = 3 where subject_id = 'G1' and billing_period = '2026-04'";
        refuted(&db, damage, &["payment_differs_from_lines"], "lines 3; its lines: 218.00 EUR, 41.42 EUR, 2").await;
    }

    async fn a_total_that_does_not_add_up_is_found(db: TestDb) {
        if !db.is_sqlite() {
            db.execute("alter table payments drop constraint payments_check").await;
        }
        let damage = "update payments set total = total + 1 where subject_id = 'R3' and billing_period = '2026-03'";
        refuted(&db, damage, &["total_wrong", "run_record_wrong"], "159.00 EUR and 30.21 EUR are not 189.22 EUR").await;
    }

    async fn a_changed_tax_rate_is_found(db: TestDb) {
        let damage = "update payments set tax_rate_ppm = 70000 where subject_id = 'R3' and billing_period = '2026-03'";
        let row = "tax 30.21 EUR on 159.00 EUR at 7 %, which makes 11.13 EUR, or 12.38 EUR if the price was gross";
        refuted(&db, damage, &["tax_wrong"], row).await;
    }

    async fn a_changed_tax_with_its_total_is_found(db: TestDb) {
        let damage = "update payments set tax_amount = tax_amount + 1, total = total + 1
                      where subject_id = 'R3' and billing_period = '2026-03'";
        let checks = ["tax_wrong", "payment_differs_from_lines", "run_record_wrong"];
        refuted(&db, damage, &checks, "tax 30.22 EUR on 159.00 EUR at 19 %").await;
    }

    async fn a_tax_changed_wherever_it_is_on_record_is_found(db: TestDb) {
        let damage = "update payments set tax_amount = tax_amount + 1, total = total + 1
                      where subject_id = 'R3' and billing_period = '2026-04';
                      update payment_lines set tax_amount = tax_amount + 1
                      where rental_id = 'R3' and billing_period = '2026-04';
                      update runs set totals = replace(replace(totals, ':7163', ':7164'), ':44863', ':44864')
                      where run_date = '2026-04-15'";
        refuted(&db, damage, &["tax_wrong"], "tax 30.22 EUR on 159.00 EUR at 19 %").await;
    }

    async fn a_rate_for_who_is_exempt_is_found(db: TestDb) {
        let damage = "update payments set tax_treatment = 'exempt' where subject_id = 'R3' and billing_period = '2026-03'";
        refuted(&db, damage, &["tax_wrong"], "no rate is 19 % when the tax treatment is exempt").await;
    }

    async fn a_line_without_a_payment_is_found(db: TestDb) {
        let damage = line("gone", "2025-01", false);
        refuted(&db, &damage, &["line_without_payment"], "payment gone, rental R3, period 2025-01").await;
    }

    async fn a_line_that_does_not_count_is_found(db: TestDb) {
        let damage = "update payment_lines set live = false where rental_id = 'R1' and billing_period = '2026-03'";
        refuted(&db, damage, &["line_live_differs"], "rental R1, period 2026-03").await;
    }

    async fn arrears_that_are_not_marked_are_found(db: TestDb) {
        let damage = "update payment_lines set arrears = false where rental_id = 'R4' and billing_period = '2026-02'";
        refuted(&db, damage, &["arrears_flag_wrong"], "rental R4, period 2026-02 on a payment for 2026-03").await;
    }

    async fn a_line_marked_as_arrears_for_nothing_is_found(db: TestDb) {
        let damage = "update payment_lines set arrears = true where rental_id = 'R4' and billing_period = '2026-03'";
        refuted(&db, damage, &["arrears_flag_wrong"], "rental R4, period 2026-03 on a payment for 2026-03").await;
    }

    async fn a_line_of_a_later_period_is_found(db: TestDb) {
        let damage = "update payment_lines set billing_period = '2026-05', arrears = true
                      where rental_id = 'R3' and billing_period = '2026-04'";
        refuted(&db, damage, &["line_after_payment"], "rental R3, period 2026-05 on a payment for 2026-04").await;
    }
}

on_both! {
    async fn a_payment_without_a_number_is_found(db: TestDb) {
        let damage = "update payments set invoice_number = null where sequence = 7";
        refuted(&db, damage, &["payment_without_number"], "payment pay_202604").await;
    }

    async fn a_gap_in_the_numbers_is_found(db: TestDb) {
        let damage = "update payments set sequence = 8, invoice_number = 'INV-2026-000008' where sequence = 7;
                      update invoice_series set last = 8";
        refuted(&db, damage, &["numbers_not_gapless"], "series INV-2026-…, number 8 follows number 6").await;
    }

    async fn a_number_given_twice_is_found(db: TestDb) {
        let damage = "drop index payments_number; update invoice_series set last = 6;
                      update payments set sequence = 6, invoice_number = 'INV-2026-000006' where sequence = 7";
        refuted(&db, damage, &["numbers_not_gapless"], "number 6 follows number 6").await;
    }

    async fn a_number_written_wrong_is_found(db: TestDb) {
        let damage = "update payments set invoice_number = 'INV-2026-7' where sequence = 7";
        refuted(&db, damage, &["invoice_number_wrong"], "written 'INV-2026-7', not 'INV-2026-000007'").await;
    }

    async fn an_issue_date_that_falls_is_found(db: TestDb) {
        let damage = "update payments set issue_date = '2026-03-14' where sequence = 7";
        refuted(&db, damage, &["issue_date_falls"], "dated 2026-03-14, the one before 2026-04-15").await;
    }

    async fn a_series_that_ends_elsewhere_is_found(db: TestDb) {
        let damage = "update invoice_series set last = 8";
        refuted(&db, damage, &["series_record_wrong"], "on record 1 to 8, its invoices 1 to 7").await;
    }

    async fn a_series_that_begins_elsewhere_is_found(db: TestDb) {
        let damage = "update invoice_series set first = 0";
        refuted(&db, damage, &["series_record_wrong"], "on record 0 to 7, its invoices 1 to 7").await;
    }

    async fn a_series_without_a_record_is_found(db: TestDb) {
        let row = "series INV-2026-…, 7 invoices";
        refuted(&db, "delete from invoice_series", &["series_without_record"], row).await;
    }

    async fn a_missing_mail_is_found(db: TestDb) {
        let damage = on_payment("delete from outbox where payment_id = $payment", "R3", "2026-03");
        refuted(&db, &damage, &["mail_missing"], "payment pay_202603").await;
    }

    async fn a_gap_among_the_mails_of_a_payment_is_found_and_so_is_an_address_that_gets_two(db: TestDb) {
        let damage = on_payment(
            "insert into outbox (tenant_id, payment_id, kind, position, recipient, copy, locale, state, attempts, next_at, fence,
                                 created_at)
             select tenant_id, payment_id, kind, 2, 'other@x.example', true, locale, 'pending', 0, 1, 0, 1
             from outbox where payment_id = $payment",
            "R3",
            "2026-03",
        );
        refuted(&db, &damage, &["mail_out_of_line"], "payment pay_202603").await;
        db.execute("update outbox set position = 1 where position = 2").await;
        assert_eq!(audit(&db).await.violations, []);
        db.execute(
            "update outbox set recipient = (select o.recipient from outbox o where o.payment_id = outbox.payment_id
                                            and o.position = 0) where position = 1",
        ).await;
        assert_eq!(names(&audit(&db).await.violations), ["mail_out_of_line"]);
    }

    async fn a_sent_mail_without_its_time_is_found(db: TestDb) {
        let damage = on_payment("update outbox set state = 'sent' where payment_id = $payment", "R3", "2026-03");
        refuted(&db, &damage, &["mail_sent_without_time"], "mail 1").await;
    }

    async fn a_mail_for_nothing_is_found(db: TestDb) {
        let damage = on_payment(&mail("$payment"), "R5", "2026-03");
        refuted(&db, &damage, &["mail_for_nothing"], "payment pay_202603").await;
    }

    async fn a_mail_without_a_payment_is_found(db: TestDb) {
        refuted(&db, &mail("'gone'"), &["mail_without_payment"], "payment gone").await;
    }
}

on_both! {
    async fn a_billed_outcome_without_its_payment_is_found(db: TestDb) {
        let damage = "update outcomes set run_date = '2026-05-15' where subject_id = 'G3' and run_date = '2026-03-15'";
        refuted(&db, damage, &["billed_outcome_without_payment"], "group G3, run date 2026-05-15").await;
    }

    async fn a_lost_payment_is_found(db: TestDb) {
        let checks = [
            "billed_outcome_without_payment",
            "line_without_payment",
            "mail_without_payment",
            "run_record_wrong",
            "series_record_wrong",
        ];
        refuted(&db, "delete from payments where sequence = 7", &checks, "run date 2026-04-15, payment pay_202604").await;
    }

    async fn a_payment_without_its_outcome_is_found(db: TestDb) {
        let damage = "delete from outcomes where subject_id = 'G3' and run_date = '2026-03-15'";
        refuted(&db, damage, &["payment_without_outcome"], "payment pay_202603").await;
    }

    async fn an_already_billed_outcome_without_a_payment_is_found(db: TestDb) {
        let damage = "update outcomes set run_date = '2026-05-20' where outcome = 'already_billed'";
        refuted(&db, damage, &["already_billed_without_payment", "subject_missed"], "group G3, run date 2026-05-20").await;
    }

    async fn a_parked_outcome_without_its_record_is_found(db: TestDb) {
        refuted(&db, "delete from parked", &["parked_outcome_without_record"], "group G2, run date 2026-03-20").await;
    }

    async fn a_run_that_counted_wrong_is_found(db: TestDb) {
        let damage = "update runs set billed = billed + 1 where run_date = '2026-03-20'";
        let sums = "(2 in EUR: net 198.00 EUR, tax 37.62 EUR, total 235.62 EUR)";
        let row = format!("for 2026-03-20, on record 3 payments {sums}, found 2 {sums}");
        refuted(&db, damage, &["run_record_wrong"], &row).await;
    }

    async fn a_run_that_added_wrong_is_found(db: TestDb) {
        let damage = "update runs set totals = replace(totals, '\"payments\":2', '\"payments\":3')
                      where run_date = '2026-03-20'";
        refuted(&db, damage, &["run_record_wrong"], "for 2026-03-20, on record 2 payments (3 in EUR: net ").await;
    }

    async fn a_billed_subject_without_a_line_is_found(db: TestDb) {
        let checks = ["billed_without_line", "payment_differs_from_lines", "uncharged_list_wrong"];
        let damage = "delete from payment_lines where rental_id = 'R9'";
        refuted(&db, damage, &checks, "group G3, run date 2026-03-15, payment pay_202603").await;
    }

    async fn a_line_of_a_rental_that_the_run_did_not_see_is_found(db: TestDb) {
        let damage = "update outcomes set rentals = '[]' where subject_id = 'G3' and run_date = '2026-03-15'";
        refuted(&db, damage, &["line_of_unseen_rental"], "group G3, run date 2026-03-15").await;
    }
}

on_both! {
    async fn a_group_that_was_missed_is_found(db: TestDb) {
        let damage = "delete from outcomes where subject_id = 'G4' and run_date = '2026-03-15'";
        refuted(&db, damage, &["subject_missed"], "group G4, run date 2026-03-15").await;
    }

    async fn a_rental_that_was_missed_is_found(db: TestDb) {
        let damage = rental("R0", None, "2026-03-15", 100, "EUR", 1);
        refuted(&db, &damage, &["subject_missed"], "rental R0, run date 2026-04-15").await;
    }

    async fn a_rental_that_cannot_be_read_and_was_missed_is_found(db: TestDb) {
        let damage = rental("R0", None, "2026-03-20", 100, "???", 1);
        refuted(&db, &damage, &["subject_missed"], "rental R0, run date 2026-03-20").await;
    }

    async fn a_member_that_was_missed_is_found(db: TestDb) {
        let damage = rental("R0", Some("G1"), "2026-03-15", 100, "EUR", 1);
        refuted(&db, &damage, &["rental_missed"], "group G1, run date 2026-03-15, rental R0").await;
    }

    async fn what_came_after_a_run_is_not_its_fault(db: TestDb) {
        billed(&db).await;
        let later = at(NOW).timestamp_micros();
        for (id, group) in [("R10", None), ("R11", Some("G1"))] {
            db.execute(&rental(id, group, "2026-03-15", 100, "EUR", later)).await;
        }
        // Not billable on any of the dates, so nothing had to be said of it.
        db.execute(&rental("R12", None, "2026-05-15", 100, "EUR", 1)).await;
        assert_eq!(audit(&db).await.violations, []);
    }

    async fn members_of_a_group_that_changed_since_are_not_missed_alone(db: TestDb) {
        billed(&db).await;
        let later = at(NOW).timestamp_micros();
        // Its member's own day is the 15th too, but it was billed with the group then.
        db.execute(&format!(
            "update rentals set start_date = '2026-02-15', billed_group_id = null where rental_id = 'R9';
             update billing_groups set status = 'inactive', changed_at = {later} where billing_group_id = 'G3'"
        ))
        .await;
        assert_eq!(audit(&db).await.violations, []);
    }

    async fn a_tenant_that_cannot_be_read_proves_nothing(db: TestDb) {
        let damage = "update tenants set time_zone = 'Mars/Olympus'";
        refuted(&db, damage, &["tenant_unreadable"], "its timeZone is 'Mars/Olympus'").await;
    }
}

on_both! {
    async fn a_charged_rental_listed_as_uncharged_is_found(db: TestDb) {
        let damage = "insert into uncharged_rentals (tenant_id, rental_id) values ('acme', 'R1')";
        refuted(&db, damage, &["uncharged_list_wrong"], "rental R1 is listed").await;
    }

    async fn an_uncharged_rental_that_is_not_listed_is_found(db: TestDb) {
        let damage = "delete from uncharged_rentals where rental_id = 'R7'";
        refuted(&db, damage, &["uncharged_list_wrong"], "rental R7 has no line, and is not listed").await;
    }

    async fn a_member_that_is_not_billed_with_its_group_is_found(db: TestDb) {
        let damage = "update rentals set billed_group_id = null where rental_id = 'R1'";
        refuted(&db, damage, &["billed_group_wrong"], "rental R1, in group G1, billed with none").await;
    }

    async fn a_member_that_is_billed_with_an_inactive_group_is_found(db: TestDb) {
        let damage = "update billing_groups set status = 'inactive' where billing_group_id = 'G3'";
        refuted(&db, damage, &["billed_group_wrong"], "rental R9, in group G3, billed with G3").await;
    }

    async fn a_rental_closed_without_an_imported_line_is_found(db: TestDb) {
        let damage = "update rentals set closed_through = '2026-01' where rental_id = 'R1'";
        refuted(&db, damage, &["closed_through_wrong"], "closed through 2026-01, latest imported line none").await;
    }

    async fn an_imported_line_that_closes_nothing_is_found(db: TestDb) {
        let damage = format!("{} {}", imported_payment("2026-02"), line("imported", "2026-02", true));
        refuted(&db, &damage, &["closed_through_wrong"], "closed through nothing, latest imported line 2026-02").await;
    }

    async fn a_payment_of_nobody_is_found(db: TestDb) {
        let damage = "update payments set customer_id = 'gone' where sequence = 7";
        refuted(&db, damage, &["payment_without_customer", "buyer_differs"], "customer gone").await;
    }

    async fn a_payment_of_no_run_is_found(db: TestDb) {
        let damage = "update payments set run_id = 'gone' where sequence = 7";
        refuted(&db, damage, &["payment_without_run", "run_record_wrong"], "run gone").await;
    }

    async fn a_line_of_no_rental_is_found(db: TestDb) {
        let damage = "update payment_lines set rental_id = 'gone' where rental_id = 'R3' and billing_period = '2026-03'";
        refuted(&db, damage, &["line_without_rental", "line_of_unseen_rental"], "rental gone, period 2026-03").await;
    }

    async fn an_outcome_of_no_run_is_found(db: TestDb) {
        let damage = "update outcomes set run_id = 'gone' where subject_id = 'G4' and run_date = '2026-03-15'";
        refuted(&db, damage, &["outcome_without_run"], "group G4, run date 2026-03-15, run gone").await;
    }

    async fn a_payment_of_another_customer_is_found(db: TestDb) {
        let damage = "insert into customers (tenant_id, customer_id, customer_type, status, tax_treatment, party_id,
                                             created_at, updated_at, changed_at)
                      values ('acme', 'C2', 'business', 'active', 'standard', 'buyer', 1, 1, 1);
                      update payments set customer_id = 'C2' where sequence = 7";
        refuted(&db, damage, &["buyer_differs"], "number 7, of customer C2, is made out to customer C1").await;
    }

    async fn a_buyer_of_no_customer_is_found(db: TestDb) {
        let damage = "update parties set body = '{}' where party_id = 'buyer'";
        refuted(&db, damage, &["buyer_differs"], "number 1, of customer C1, is made out to customer none").await;
    }

    async fn a_lost_buyer_is_found(db: TestDb) {
        let damage = "delete from parties where party_id = 'buyer'";
        refuted(&db, damage, &["party_unreadable"], "number 1, buyer buyer is not on record").await;
    }

    async fn a_payment_without_a_seller_is_found(db: TestDb) {
        let damage = "update payments set seller_party = null where sequence = 7";
        refuted(&db, damage, &["party_unreadable"], "number 7, seller none is not on record").await;
    }

    async fn a_buyer_that_cannot_be_read_is_found(db: TestDb) {
        let damage = "update parties set body = '[]' where party_id = 'buyer'";
        refuted(&db, damage, &["party_unreadable"], "number 1, buyer buyer is no JSON object").await;
        db.execute("update parties set body = '{' where party_id = 'buyer'").await;
        assert_eq!(names(&audit(&db).await.violations), ["party_unreadable"]);
    }

    async fn a_rental_of_nobody_is_found(db: TestDb) {
        let damage = "update rentals set customer_id = 'gone' where rental_id = 'R1'";
        refuted(&db, damage, &["rental_without_customer"], "rental R1, customer gone").await;
    }

    async fn a_rental_of_no_group_is_found(db: TestDb) {
        let damage = "update rentals set billing_group_id = 'gone' where rental_id = 'R3'";
        refuted(&db, damage, &["rental_without_group"], "rental R3, group gone").await;
    }

    async fn completed_dates_that_are_lost_are_found(db: TestDb) {
        refuted(&db, "delete from completed_dates", &["completed_date_missing"], "run date 2026-03-20, run ").await;
        let audit = audit(&db).await;
        // Of two runs of one date, one is named.
        assert_eq!(audit.violations[0].count, 3);
    }

    async fn a_share_that_no_run_holds_is_found(db: TestDb) {
        let damage = "insert into shares (tenant_id, run_date, share, shares, state, fence, run_id)
                      values ('acme', '2026-05-01', 2, 3, 'done', 1, 'gone')";
        refuted(&db, damage, &["share_without_run"], "run date 2026-05-01, share 2 of 3, done").await;
    }

    async fn a_retry_completes_no_date(db: TestDb) {
        billed(&db).await;
        db.execute(
            "update runs set kind = 'retry' where run_date = '2026-03-20';
             delete from completed_dates where run_date = '2026-03-20'",
        )
        .await;
        assert_eq!(audit(&db).await.violations, []);
    }

    async fn gaps_of_a_parked_subject_that_are_lost_are_found(db: TestDb) {
        let row = "group G2, run date 2026-03-20, rental R8, period 2026-03";
        refuted(&db, "delete from arrears", &["parked_period_lost"], row).await;
        let audit = audit(&db).await;
        assert_eq!(audit.violations[0].count, 2);
    }

    async fn gaps_of_a_parked_subject_that_cannot_be_read_are_found(db: TestDb) {
        let row = "group G2, run date 2026-03-20, its periods cannot be read";
        refuted(&db, "update parked set charges = '[7]'", &["parked_period_lost"], row).await;
    }

    async fn gaps_of_a_dismissed_subject_need_no_mark(db: TestDb) {
        billed(&db).await;
        db.execute("update parked set state = 'closed'; delete from arrears").await;
        assert_eq!(audit(&db).await.violations, []);
    }

    async fn a_completed_date_without_its_run_is_found(db: TestDb) {
        let damage = "update completed_dates set run_id = 'gone' where run_date = '2026-03-20'";
        refuted(&db, damage, &["completed_date_without_run"], "run date 2026-03-20, run gone").await;
    }
}

/// Every column that holds a date; `migrations.rs` keeps SQLite's in step with them.
const DATES: [&str; 11] = [
    "tenants.bill_from",
    "rentals.start_date",
    "rentals.end_date",
    "rentals.ended_on",
    "payments.issue_date",
    "payments.due_date",
    "invoice_series.last_issued_on",
    "runs.run_date",
    "completed_dates.run_date",
    "outcomes.run_date",
    "parked.run_date",
];

on_both! {
    async fn the_database_refuses_what_is_no_date(db: TestDb) {
        billed(&db).await;
        for (table, column) in DATES.iter().filter_map(|name| name.split_once('.')) {
            for bad in ["garbage", "2026-13-25", "2026-02-30", "", "2026"] {
                let refused = db.try_execute(&format!("update {table} set {column} = '{bad}'")).await;
                assert!(refused.is_err(), "{table}.{column} takes '{bad}'");
            }
        }
        for good in ["'2028-02-29'", "null"] {
            db.try_execute(&format!("update rentals set end_date = {good}")).await.expect(good);
        }
    }
}

/// Changes a good ledger as a person may, and asserts that it is still proved, with what for information.
async fn informs(db: &TestDb, change: &str, check: &str, expected: &[&str]) {
    billed(db).await;
    db.execute(change).await;
    let audit = audit(db).await;
    assert_eq!(audit.violations, []);
    assert_eq!(rows(&audit.information, check), expected, "{:#?}", audit.information);
}

fn mark(period: &str, state: &str, reason: &str) -> String {
    format!(
        "insert into arrears (tenant_id, rental_id, billing_period, state, reason, decided_by, decided_at)
         values ('acme', 'R3', '{period}', '{state}', {reason}, 'Ann', 1);"
    )
}

on_both! {
    async fn waived_periods_are_told_with_their_reason(db: TestDb) {
        // One that was charged all the same is no gap.
        let change = mark("2026-01", "waived", "'a gift'") + &mark("2026-03", "waived", "null");
        informs(&db, &change, "waived", &["tenant acme: rental R3, period 2026-01, by Ann: a gift"]).await;
    }

    async fn withheld_gaps_are_told_from_lapsed_ones(db: TestDb) {
        let change = mark("2025-04", "withheld", "null") + &mark("2025-03", "withheld", "null");
        informs(&db, &change, "withheld", &["tenant acme: rental R3, period 2025-04"]).await;
        let audit = audit(&db).await;
        assert_eq!(rows(&audit.information, "lapsed"), ["tenant acme: rental R3, period 2025-03"]);
    }

    async fn gaps_that_the_next_billing_dates_charge_are_told_once(db: TestDb) {
        let later = at(NOW).timestamp_micros();
        // Its billing dates of March and April have gone by; the 15th of April is completed, so the next is in May.
        let change = rental("R10", None, "2026-03-15", 100, "EUR", later);
        let expected = [
            "tenant acme: rental R10, period 2026-03, on 2026-05-15",
            "tenant acme: rental R10, period 2026-04, on 2026-05-15",
        ];
        informs(&db, &change, "gaps_to_be_charged", &expected).await;
    }

    async fn contracts_with_fewer_charges_than_months_are_told(db: TestDb) {
        // Charged for March alone: its group's day was over when it started in February.
        let change = "update rentals set contract_length = 2, start_date = '2026-01-31' where rental_id = 'R9';
                      update rentals set contract_length = 2, start_date = '2026-02-14' where rental_id = 'R1'";
        informs(&db, change, "short_contracts", &["tenant acme: rental R9, 1 of 2 charges"]).await;
    }

    async fn holes_in_the_imported_history_are_told(db: TestDb) {
        let change = format!(
            "{} {} update rentals set closed_through = '2026-05', start_date = '2025-11-15' where rental_id = 'R3'",
            imported_payment("2026-05"),
            line("imported", "2026-05", true)
        );
        informs(&db, &change, "holes_in_history", &["tenant acme: rental R3, period 2026-02"]).await;
    }

    async fn dates_from_before_a_change_of_the_tenant_are_told(db: TestDb) {
        let changed = at("2026-03-18T00:00:00Z").timestamp_micros();
        let change = format!("update tenants set changed_at = {changed}");
        informs(&db, &change, "dates_not_provable", &["tenant acme: run date 2026-03-15"]).await;
    }
}

fn verify(url: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_billday"))
        .args(["--database", url, "verify"])
        .args(arguments)
        .env("BILLDAY_TEST_NOW", NOW)
        .output()
        .expect("the program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

on_both! {
    async fn the_command_proves_and_refutes_as_json(db: TestDb) {
        billed(&db).await;
        let output = verify(&db.url, &["--format", "json"]);
        let proved: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!((&proved["schema"], &proved["proved"]), (&"billday.verify/1".into(), &true.into()));
        assert_eq!(
            proved["lookedAt"],
            serde_json::json!({ "tenants": 1, "payments": 7, "lines": 10, "completedDates": 3, "outcomes": 11 })
        );
        assert_eq!(proved["violations"], serde_json::json!([]));
        assert_eq!(proved["information"][0]["check"], "parked_open");

        db.execute("update invoice_series set last = 8").await;
        let output = verify(&db.url, &["--format", "json", "--tenant", "acme"]);
        let refuted: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(output.status.code(), Some(5));
        assert_eq!(refuted["proved"], false);
        assert_eq!(
            refuted["violations"],
            serde_json::json!([{
                "check": "series_record_wrong",
                "what": "each series has on record the first and last number that its invoices have",
                "count": 1,
                "rows": ["tenant acme: series INV-2026-…, on record 1 to 8, its invoices 1 to 7"],
            }])
        );
    }

    async fn the_command_says_its_verdict_in_words(db: TestDb) {
        billed(&db).await;
        let proved = text(&verify(&db.url, &[]).stdout);
        assert!(proved.starts_with("Looked at 1 tenant, 7 payments, 10 lines, 3 completed dates and 11 outcomes."), "{proved}");
        assert!(proved.contains("\n48 checks passed (--verbose names them).\n"), "{proved}");
        assert!(!proved.contains("OK  "), "{proved}");
        let last = "Proved: nothing twice, nothing missed, sums agree, numbers are gapless.";
        assert_eq!(proved.lines().last(), Some(last), "{proved}");
        let verbose = text(&verify(&db.url, &["--verbose"]).stdout);
        assert!(verbose.contains("OK        no rental is charged twice for one period\n"), "{verbose}");
        assert_eq!(verbose.lines().filter(|line| line.starts_with("OK  ")).count(), 48, "{verbose}");

        db.execute("update invoice_series set last = 8").await;
        let output = verify(&db.url, &[]);
        let refuted = text(&output.stdout);
        assert_eq!(output.status.code(), Some(5));
        assert!(refuted.contains("VIOLATED  each series has on record"), "{refuted}");
        assert!(refuted.contains("on record 1 to 8, its invoices 1 to 7\n"), "{refuted}");
        assert!(refuted.lines().last().is_some_and(|last| last.starts_with("REFUTED: 1 of 48 checks")), "{refuted}");
    }

    async fn the_verdict_claims_nothing_about_dates_that_cannot_be_proved(db: TestDb) {
        billed(&db).await;
        let proved: serde_json::Value =
            serde_json::from_slice(&verify(&db.url, &["--format", "json"]).stdout).expect("JSON");
        assert_eq!(proved["datesNotProvable"], 0);

        let changed = at("2026-03-22T00:00:00Z").timestamp_micros();
        db.execute(&format!("update tenants set changed_at = {changed}")).await;
        let output = verify(&db.url, &[]);
        let words = text(&output.stdout);
        let last = "Proved: nothing twice, sums agree, numbers are gapless; nothing missed on the dates that can still be \
                    proved (2 cannot: see above).";
        assert_eq!((output.status.code(), words.lines().last()), (Some(0), Some(last)), "{words}");
        let proved: serde_json::Value =
            serde_json::from_slice(&verify(&db.url, &["--format", "json"]).stdout).expect("JSON");
        assert_eq!((&proved["proved"], &proved["datesNotProvable"]), (&true.into(), &2.into()));
    }

    async fn an_unknown_tenant_is_refused(db: TestDb) {
        billed(&db).await;
        let output = verify(&db.url, &["--tenant", "nobody"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).contains("there is no tenant nobody")), ("", true));
    }
}

#[test]
fn proving_nothing_does_not_look_like_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("nothing.db").display());
    let output = verify(&url, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("nothing.db"), "{}", text(&output.stderr));
    assert!(!folder.path().join("nothing.db").exists());
}
