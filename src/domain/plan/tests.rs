//! What the planner decides, rule by rule, without a database.

use super::*;
use crate::domain::EInvoice;
use crate::domain::calendar::parse_date;
use crate::domain::document::Seller;
use crate::domain::invoice::NumberFormat;
use crate::domain::message::RecipientLists;
use crate::domain::overlay::Overlay;
use crate::domain::rental::RentalStatus;
use crate::domain::tax::{TaxMode, TaxRule, TaxTreatment};
use crate::domain::tenant::{BillingCycle, ContractEnd};

fn day(text: &str) -> NaiveDate {
    parse_date(text).unwrap()
}

fn period(text: &str) -> BillingPeriod {
    BillingPeriod::parse(text).unwrap()
}

fn tenant() -> Tenant {
    Tenant {
        tenant_id: "T".into(),
        name: "Rent".into(),
        currency: Currency::from_code("EUR").unwrap(),
        time_zone: chrono_tz::Europe::Berlin,
        locale: "en".into(),
        billing_cycle: BillingCycle::StartDate,
        contract_end: ContractEnd::End,
        bill_from: day("2020-01-01"),
        payment_terms_days: 14,
        tax: TaxRule { mode: TaxMode::Exclusive, rate_ppm: 190_000 },
        invoice_number_format: NumberFormat::parse("{seq}").unwrap(),
        first_invoice_number: 1,
        catch_up_days: 7,
        max_arrears: 2,
        run_at: chrono::NaiveTime::MIN,
        party_id: "seller".into(),
        seller: Seller::default(),
    }
}

fn customer() -> Customer {
    Customer {
        customer_id: "C".into(),
        billing_email: Some("pay@example.org".into()),
        recipients: RecipientLists::default(),
        tax_treatment: TaxTreatment::Standard,
        payment_terms_days: None,
        locale: None,
        party_id: "buyer".into(),
        e_invoice: EInvoice::None,
        e_invoice_lacks: Vec::new(),
    }
}

fn rental(id: &str, start: &str) -> Rental {
    Rental {
        rental_id: id.into(),
        customer_id: "C".into(),
        monthly_amount: 1_000,
        currency: Currency::from_code("EUR").unwrap(),
        status: RentalStatus::Active,
        start_date: day(start),
        end_date: None,
        contract_length: None,
        ended_on: None,
        product_name: "Laptop".into(),
        serial_number: None,
    }
}

/// A rental billed alone, with lines for these periods as seen from `run`.
fn alone(rental: Rental, run: &str, lines: &[&str]) -> DueSubject {
    let mut history = History::default();
    for line in lines {
        history.add_line(BillingPeriod::of(day(run)), period(line));
    }
    with_history(rental, history)
}

fn with_history(rental: Rental, history: History) -> DueSubject {
    DueSubject {
        subject: Subject::rental(&rental.rental_id),
        customer_id: "C".into(),
        name: String::new(),
        day: BillingDay::anchored_at(rental.start_date),
        already_billed: false,
        customer: Some(Ok(customer())),
        rentals: vec![Ok(DueRental { rental, history })],
    }
}

fn group(day: i64, rentals: Vec<Rental>) -> DueSubject {
    DueSubject {
        subject: Subject::group("G"),
        customer_id: "C".into(),
        name: "Office".into(),
        day: BillingDay::fixed(day).unwrap(),
        already_billed: false,
        customer: Some(Ok(customer())),
        rentals: rentals.into_iter().map(|rental| Ok(DueRental { rental, history: History::default() })).collect(),
    }
}

fn plan_one(tenant: &Tenant, run: &str, due: DueSubject) -> SubjectPlan {
    let run_date = day(run);
    plan(PlanContext { tenant, run_date, issue_date: run_date }, &[due]).subjects.remove(0)
}

/// The periods charged, space-separated; or the reason why none.
fn charged(plan: &SubjectPlan) -> String {
    match &plan.outcome {
        Outcome::Billed(payment) => {
            payment.lines.iter().map(|line| line.billing_period.to_string()).collect::<Vec<_>>().join(" ")
        }
        Outcome::Skipped(code) => code.as_str().into(),
        Outcome::Parked(parked) => parked.problem.code.as_str().into(),
        Outcome::AlreadyBilled => "already".into(),
        Outcome::NotDue => "not due".into(),
    }
}

fn withheld(plan: &SubjectPlan) -> String {
    plan.withheld.iter().flat_map(|w| &w.periods).map(BillingPeriod::to_string).collect::<Vec<_>>().join(" ")
}

#[test]
fn two_gaps_are_charged_and_three_are_withheld() {
    let tenant = tenant();
    let two = alone(rental("R", "2026-01-10"), "2026-04-10", &["2026-01"]);
    let plan = plan_one(&tenant, "2026-04-10", two);
    assert_eq!((charged(&plan).as_str(), withheld(&plan).as_str()), ("2026-02 2026-03 2026-04", ""));
    let three = alone(rental("R", "2026-01-10"), "2026-05-10", &["2026-01"]);
    let plan = plan_one(&tenant, "2026-05-10", three);
    assert_eq!((charged(&plan).as_str(), withheld(&plan).as_str()), ("2026-05", "2026-02 2026-03 2026-04"));
}

#[test]
fn a_withheld_period_stays_withheld_whatever_the_count_becomes() {
    let mut history = History::default();
    history.add_line(period("2026-05"), period("2026-01"));
    history.add_line(period("2026-05"), period("2026-02"));
    history.add_mark(period("2026-03"), Mark::Withheld);
    let plan = plan_one(&tenant(), "2026-05-10", with_history(rental("R", "2026-01-10"), history));
    assert_eq!((charged(&plan).as_str(), withheld(&plan).as_str()), ("2026-04 2026-05", "2026-03"));
}

#[test]
fn a_withheld_period_counts_among_the_gaps_until_it_is_decided() {
    let mut history = History::default();
    history.add_line(period("2026-06"), period("2026-01"));
    history.add_mark(period("2026-02"), Mark::Withheld);
    history.add_mark(period("2026-03"), Mark::Withheld);
    history.add_line(period("2026-06"), period("2026-04"));
    let rental = rental("R", "2026-01-10");
    let plan = plan_one(&tenant(), "2026-06-10", with_history(rental.clone(), history.clone()));
    assert_eq!((charged(&plan).as_str(), withheld(&plan).as_str()), ("2026-06", "2026-02 2026-03 2026-05"));
    history.marks[0].1 = Mark::Waived;
    let plan = plan_one(&tenant(), "2026-06-10", with_history(rental, history));
    assert_eq!((charged(&plan).as_str(), withheld(&plan).as_str()), ("2026-05 2026-06", "2026-03"));
}

#[test]
fn confirmed_periods_are_charged_whatever_their_age_and_do_not_count() {
    let mut history = History::default();
    history.add_line(period("2026-05"), period("2026-03"));
    history.add_mark(period("2024-01"), Mark::Confirmed);
    history.add_mark(period("2026-01"), Mark::Confirmed);
    history.add_mark(period("2026-02"), Mark::Confirmed);
    let plan = plan_one(&tenant(), "2026-05-10", with_history(rental("R", "2026-03-10"), history));
    assert_eq!((charged(&plan).as_str(), withheld(&plan).as_str()), ("2024-01 2026-01 2026-02 2026-04 2026-05", ""));
}

#[test]
fn a_period_for_which_a_rental_was_parked_is_charged_though_it_has_ended_since() {
    let mut ended = rental("R", "2026-01-10");
    ended.end_date = Some(day("2026-02-01"));
    let mut history = History::default();
    history.add_line(period("2026-03"), period("2026-01"));
    history.add_mark(period("2026-02"), Mark::Parked);
    let plan = plan_one(&tenant(), "2026-03-10", with_history(ended, history));
    assert_eq!(charged(&plan), "2026-02");
}

#[test]
fn a_waived_period_is_never_charged_and_its_subject_is_skipped() {
    let mut history = History::default();
    history.add_mark(period("2026-01"), Mark::Waived);
    let plan = plan_one(&tenant(), "2026-01-10", with_history(rental("R", "2026-01-10"), history));
    assert_eq!(charged(&plan), "ALREADY_CHARGED");
}

#[test]
fn everything_up_to_the_latest_imported_line_is_closed() {
    let history = History {
        last_imported: Some(period("2026-04")),
        line_count: 3,
        first: Some(period("2026-01")),
        ..History::default()
    };
    let plan = plan_one(&tenant(), "2026-04-10", with_history(rental("R", "2026-01-10"), history.clone()));
    assert_eq!(charged(&plan), "ALREADY_CHARGED", "the run's own period is closed too");
    let plan = plan_one(&tenant(), "2026-06-10", with_history(rental("R", "2026-01-10"), history));
    assert_eq!(charged(&plan), "2026-05 2026-06");
}

#[test]
fn gaps_before_bill_from_belong_to_somebody_else_unless_the_ledger_had_begun() {
    let tenant = Tenant { bill_from: day("2026-03-15"), ..tenant() };
    let plan = plan_one(&tenant, "2026-04-10", alone(rental("R", "2026-01-10"), "2026-04-10", &[]));
    assert_eq!(charged(&plan), "2026-04", "10 March lies before billFrom");
    let plan = plan_one(&tenant, "2026-04-10", alone(rental("R", "2026-01-10"), "2026-04-10", &["2026-02"]));
    assert_eq!(charged(&plan), "2026-03 2026-04", "March comes after the first line");
    let backfill = plan_one(&tenant, "2026-02-10", alone(rental("R", "2026-01-10"), "2026-02-10", &[]));
    assert_eq!(charged(&backfill), "2026-02", "a run for an earlier date charges what that date says");
}

#[test]
fn the_twelve_periods_before_are_looked_at_and_not_the_thirteenth() {
    let tenant = Tenant { max_arrears: 100, ..tenant() };
    let plan = plan_one(&tenant, "2026-05-10", alone(rental("R", "2024-01-10"), "2026-05-10", &[]));
    let periods = charged(&plan);
    assert!(periods.starts_with("2025-05 ") && periods.ends_with(" 2026-05"), "{periods}");
    assert_eq!(periods.split(' ').count(), 13);
}

#[test]
fn a_contract_of_n_months_is_charged_n_times_the_earliest_periods_first() {
    let mut contract = rental("R", "2026-01-10");
    contract.contract_length = Some(3);
    let last = alone(contract.clone(), "2026-03-10", &["2026-01"]);
    assert_eq!(charged(&plan_one(&tenant(), "2026-03-10", last)), "2026-02 2026-03");
    let one_left = alone(contract.clone(), "2026-03-10", &["2025-12", "2026-01"]);
    assert_eq!(charged(&plan_one(&tenant(), "2026-03-10", one_left)), "2026-02");
    let none_left = alone(contract.clone(), "2026-03-10", &["2025-11", "2025-12", "2026-01"]);
    assert_eq!(charged(&plan_one(&tenant(), "2026-03-10", none_left)), "CONTRACT_COMPLETE");
    let renews = Tenant { contract_end: ContractEnd::RenewMonthly, ..tenant() };
    let renewed = alone(contract, "2026-04-10", &["2026-01", "2026-02", "2026-03"]);
    assert_eq!(charged(&plan_one(&renews, "2026-04-10", renewed)), "2026-04");
}

#[test]
fn a_month_in_hand_is_still_charged_when_gaps_are_withheld() {
    let mut contract = rental("R", "2026-01-10");
    contract.contract_length = Some(12);
    let plan = plan_one(&tenant(), "2026-06-10", alone(contract, "2026-06-10", &["2026-01"]));
    assert_eq!((charged(&plan).as_str(), withheld(&plan).as_str()), ("2026-06", "2026-02 2026-03 2026-04 2026-05"));
}

#[test]
fn only_gaps_that_the_contract_still_allows_are_counted() {
    let mut contract = rental("R", "2026-01-10");
    contract.contract_length = Some(6);
    // Three gaps, but only two charges are left: two gaps count, and two are allowed.
    let due = alone(contract, "2026-05-10", &["2025-10", "2025-11", "2025-12", "2026-01"]);
    let plan = plan_one(&tenant(), "2026-05-10", due);
    assert_eq!((charged(&plan).as_str(), withheld(&plan).as_str()), ("2026-02 2026-03", ""));
}

#[test]
fn a_group_with_nothing_to_charge_says_why() {
    let future = group(10, vec![rental("R", "2026-02-01")]);
    assert_eq!(charged(&plan_one(&tenant(), "2026-01-10", future)), "NO_BILLABLE_RENTAL");
    assert_eq!(charged(&plan_one(&tenant(), "2026-01-10", group(10, vec![]))), "NO_BILLABLE_RENTAL");
    let mut charged_alone = group(10, vec![rental("R", "2026-01-05")]);
    charged_alone.rentals[0].as_mut().unwrap().history.add_line(period("2026-01"), period("2026-01"));
    assert_eq!(charged(&plan_one(&tenant(), "2026-01-10", charged_alone)), "ALREADY_CHARGED");
}

#[test]
fn a_rental_that_ended_long_ago_is_not_due_at_all() {
    let mut ended = rental("R", "2025-01-10");
    ended.end_date = Some(day("2025-02-10"));
    let plan = plan_one(&tenant(), "2026-01-10", alone(ended, "2026-01-10", &["2025-01"]));
    assert_eq!(charged(&plan), "not due");
}

#[test]
fn an_existing_payment_ends_the_matter() {
    let mut due = group(10, vec![rental("R", "2026-01-01")]);
    due.already_billed = true;
    assert_eq!(charged(&plan_one(&tenant(), "2026-01-10", due)), "already");
}

#[test]
fn what_cannot_be_billed_is_parked_with_its_records_and_charges() {
    let tenant = tenant();
    let run = "2026-01-10";
    let mut missing = group(10, vec![rental("R", "2026-01-01")]);
    missing.customer = None;
    let mut stranger = group(10, vec![rental("R", "2026-01-01"), rental("S", "2026-01-01")]);
    stranger.rentals[1].as_mut().unwrap().rental.customer_id = "D".into();
    let mut huge = group(10, vec![rental("R", "2026-01-01"), rental("S", "2026-01-01")]);
    huge.rentals[0].as_mut().unwrap().rental.monthly_amount = i64::MAX;
    let bad = BadRecord { kind: "rental", id: "S".into(), field: "currency".into(), value: "???".into() };
    let mut invalid = group(10, vec![rental("R", "2026-01-01")]);
    invalid.rentals.push(Err(bad));
    for (due, code, record) in [
        (missing, ProblemCode::CustomerNotFound, "G"),
        (stranger, ProblemCode::DifferentCustomer, "S"),
        (huge, ProblemCode::AmountOverflow, "R"),
        (invalid, ProblemCode::InvalidRecord, "S"),
    ] {
        let plan = plan_one(&tenant, run, due);
        let Outcome::Parked(parked) = &plan.outcome else { panic!("{:?}", plan.outcome) };
        assert_eq!(parked.problem.code, code);
        assert_eq!(parked.problem.records[0].id, record);
        assert_eq!(parked.charges[0], ("R".to_owned(), period("2026-01")));
        assert!(plan.first_charged.is_empty());
    }
}

#[test]
fn a_member_with_nothing_to_charge_parks_nobody() {
    let mut ended_in_dollars = rental("S", "2025-01-01");
    ended_in_dollars.currency = Currency::from_code("USD").unwrap();
    ended_in_dollars.end_date = Some(day("2025-01-02"));
    let plan = plan_one(&tenant(), "2026-01-10", group(10, vec![rental("R", "2026-01-01"), ended_in_dollars]));
    assert_eq!(charged(&plan), "2026-01");
    assert_eq!(plan.rentals, ["R", "S"]);
}

#[test]
fn an_exempt_or_reverse_charge_customer_pays_the_price_as_it_stands() {
    let inclusive = Tenant { tax: TaxRule { mode: TaxMode::Inclusive, rate_ppm: 190_000 }, ..tenant() };
    for treatment in [TaxTreatment::Exempt, TaxTreatment::ReverseCharge] {
        let mut due = group(10, vec![rental("R", "2026-01-01")]);
        due.customer = Some(Ok(Customer { tax_treatment: treatment, ..customer() }));
        let plan = plan_one(&inclusive, "2026-01-10", due);
        let payment = plan.outcome.payment().unwrap();
        assert_eq!((payment.subtotal, payment.tax_amount, payment.tax_rate_ppm), (1_000, 0, 0));
        assert_eq!(payment.tax_treatment, treatment);
    }
}

#[test]
fn a_payment_of_nothing_is_paid_at_once_and_sends_no_mail() {
    let mut free = rental("R", "2026-01-01");
    free.monthly_amount = 0;
    let plan = plan_one(&tenant(), "2026-01-10", group(10, vec![free]));
    let payment = plan.outcome.payment().unwrap();
    assert_eq!((payment.status, &payment.mail), (PaymentStatus::Paid, &MailPlan::None));
}

#[test]
fn the_customer_s_own_terms_win_over_the_tenant_s() {
    for (own, due_date) in [(None, "2026-01-24"), (Some(30), "2026-02-09"), (Some(0), "2026-01-10")] {
        let mut due = group(10, vec![rental("R", "2026-01-01")]);
        due.customer = Some(Ok(Customer { payment_terms_days: own, ..customer() }));
        let plan = plan_one(&tenant(), "2026-01-10", due);
        assert_eq!(plan.outcome.payment().unwrap().due_date, day(due_date));
    }
}

#[test]
fn a_customer_without_an_address_is_billed_and_its_mail_named_undeliverable() {
    let mut due = group(10, vec![rental("R", "2026-01-01")]);
    due.customer = Some(Ok(Customer { billing_email: None, ..customer() }));
    let plan = plan_one(&tenant(), "2026-01-10", due);
    assert_eq!(plan.outcome.payment().unwrap().mail, MailPlan::Undeliverable);
}

#[test]
fn the_hash_tells_plans_apart_and_not_days_names_or_order_of_members() {
    let hash = |due: DueSubject, issue: &str| {
        let tenant = tenant();
        let plan = plan(PlanContext { tenant: &tenant, run_date: day("2026-01-10"), issue_date: day(issue) }, &[due]);
        let mut hasher = PlanHasher::default();
        hasher.add("T", plan.subjects[0].outcome.payment().unwrap());
        hasher.finish()
    };
    let (r, s) = (rental("R", "2026-01-01"), rental("S", "2026-01-01"));
    let base = hash(group(10, vec![r.clone(), s.clone()]), "2026-01-10");
    assert_eq!(base, hash(group(10, vec![s.clone(), r.clone()]), "2026-02-20"));
    let renamed = DueSubject { name: "Other".into(), ..group(10, vec![r.clone(), s.clone()]) };
    assert_eq!(base, hash(renamed, "2026-01-10"));
    assert_ne!(base, hash(group(10, vec![r.clone()]), "2026-01-10"));
    let dearer = Rental { monthly_amount: 1_001, ..s };
    assert_ne!(base, hash(group(10, vec![r, dearer]), "2026-01-10"));
}

#[test]
fn a_rental_is_passed_over_when_a_billing_date_went_by_since_its_start() {
    let tenant = tenant();
    let started = rental("R", "2026-01-10");
    let day_of = |d| BillingDay::fixed(d).unwrap();
    assert!(!passed_over(&started, day_of(10), &tenant, day("2026-01-10")), "today is its first date");
    assert!(passed_over(&started, day_of(10), &tenant, day("2026-01-11")));
    assert!(!passed_over(&started, day_of(5), &tenant, day("2026-02-05")), "its group's first date is today");
    assert!(passed_over(&started, day_of(5), &tenant, day("2026-02-06")));
}

#[test]
fn the_next_billing_date_is_the_first_on_which_a_walk_over_all_dates_charges_that_date_s_own_period() {
    let tenant = tenant();
    let today = day("2026-05-20");
    let mut found = 0;
    for start in ["2025-11-30", "2026-03-20", "2026-05-20", "2027-02-28"] {
        for contract_length in [None, Some(3), Some(8)] {
            for end_date in [None, Some("2026-05-20"), Some("2026-08-01")] {
                for lines in [&[][..], &["2025-12", "2026-01"], &["2026-04", "2026-05"], &["2026-05"]] {
                    for marks in [
                        &[][..],
                        &[("2026-05", Mark::Withheld), ("2026-06", Mark::Waived)],
                        &[("2026-04", Mark::Confirmed)],
                    ] {
                        for imported in [None, Some("2026-07")] {
                            let end_date = end_date.map(day);
                            let rental = Rental { contract_length, end_date, ..rental("R", start) };
                            let mut due = alone(rental, "2026-05-20", lines);
                            let billing_day = due.day;
                            let rental = due.rentals[0].as_mut().unwrap();
                            rental.history.last_imported = imported.map(period);
                            for (marked, mark) in marks {
                                rental.history.add_mark(period(marked), *mark);
                            }
                            let rental = rental.clone();
                            let next = next_billing_date(&tenant, &rental, billing_day, false, today);
                            assert_eq!(next, walk(&tenant, &due, today), "{rental:?}");
                            found += usize::from(next.is_some());
                        }
                    }
                }
            }
        }
    }
    assert!((150..800).contains(&found), "{found} of 864 say little");
}

/// Plans each billing date as those before would have left it, until one charges its own period.
fn walk(tenant: &Tenant, due: &DueSubject, today: NaiveDate) -> Option<NaiveDate> {
    let seen_from = BillingPeriod::of(today);
    let mut overlay = Overlay::default();
    (0..30).map(|month| due.day.date_in(seen_from.plus(month))).find(|&date| {
        let mut due = due.clone();
        let history = &mut due.rentals[0].as_mut().unwrap().history;
        let lines = (0..=LOOK_BACK).map(|back| seen_from.plus(-back)).filter(|p| history.has_line(seen_from, *p));
        let mut seen = History { recent: 0, line_count: 0, ..history.clone() };
        lines.collect::<Vec<_>>().into_iter().for_each(|line| seen.add_line(BillingPeriod::of(date), line));
        *history = seen;
        let mut due = vec![due];
        overlay.apply(date, &mut due);
        let planned = plan(PlanContext { tenant, run_date: date, issue_date: date }, &due);
        overlay.record(date, due, &planned);
        let lines = planned.subjects[0].outcome.payment().map(|payment| &payment.lines[..]).unwrap_or_default();
        date >= today && lines.iter().any(|line| line.billing_period == BillingPeriod::of(date))
    })
}

#[test]
fn a_subject_that_has_its_payment_bills_a_member_that_joined_since_in_the_next_period() {
    let due = DueRental { rental: rental("R", "2026-05-01"), history: History::default() };
    let fifth = BillingDay::fixed(5).unwrap();
    let next = |billed, today| next_billing_date(&tenant(), &due, fifth, billed, day(today)).unwrap().to_string();
    assert_eq!(next(false, "2026-05-05"), "2026-05-05");
    assert_eq!(next(true, "2026-05-05"), "2026-06-05");
    assert_eq!(next(true, "2026-05-06"), "2026-06-05");
    assert_eq!(next(false, "2026-05-06"), "2026-06-05");
}
