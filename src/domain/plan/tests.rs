//! What the planner decides, rule by rule, without a database.

use super::*;
use crate::domain::EInvoice;
use crate::domain::overlay::Overlay;
use crate::domain::samples::{customer, day, group, period, rental, tenant};
use crate::domain::tax::{TaxMode, TaxRule, TaxTreatment};
use crate::domain::tenant::ContractEnd;

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
    let plan = plan_one(&tenant(), "2026-01-10", group(10, vec![rental("R", "2026-01-01")]));
    let MailPlan::To(recipients) = &plan.outcome.payment().unwrap().mail else { panic!() };
    assert_eq!(recipients.to, ["pay@example.org"]);
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

#[test]
fn lines_in_two_currencies_park_their_subject_and_name_each_rental_with_its_own() {
    let dollars = Rental { currency: Currency::from_code("USD").unwrap(), ..rental("S", "2026-01-01") };
    let plan = plan_one(&tenant(), "2026-01-10", group(10, vec![dollars, rental("R", "2026-01-01")]));
    let Outcome::Parked(parked) = &plan.outcome else { panic!("{:?}", plan.outcome) };
    assert_eq!(parked.problem.code, ProblemCode::CurrencyMismatch);
    assert_eq!(parked.problem.message, "its rentals are priced in EUR and USD: one payment has one currency");
    let named: Vec<_> = parked.problem.records.iter().map(|r| [r.kind, &r.id, &r.field, &r.value]).collect();
    assert_eq!(named, [["rental", "R", "currency", "EUR"], ["rental", "S", "currency", "USD"]]);
}

#[test]
fn a_customer_that_cannot_be_read_parks_its_subject() {
    let bad = BadRecord { kind: "customer", id: "C".into(), field: "locale".into(), value: "??".into() };
    let due = DueSubject { customer: Some(Err(bad.clone())), ..group(10, vec![rental("R", "2026-01-01")]) };
    let plan = plan_one(&tenant(), "2026-01-10", due);
    let Outcome::Parked(parked) = &plan.outcome else { panic!("{:?}", plan.outcome) };
    assert_eq!((parked.problem.code, &parked.problem.records), (ProblemCode::InvalidRecord, &vec![bad]));
    assert_eq!(parked.problem.message, "the stored data cannot be billed: locale of customer C is '??'");
}

#[test]
fn of_many_bad_records_all_are_kept_and_three_are_told() {
    let message = |count: usize| {
        let bad = |n| BadRecord { kind: "rental", id: format!("R{n}"), field: "status".into(), value: "?".into() };
        let mut due = group(10, vec![]);
        due.rentals = (1..=count).map(|n| Err(bad(n))).collect();
        let plan = plan_one(&tenant(), "2026-01-10", due);
        let Outcome::Parked(Parked { problem, unread, charges }) = plan.outcome else { panic!() };
        assert_eq!((problem.records.len(), unread.len(), unread[0].as_str(), charges.len()), (count, count, "R1", 0));
        assert_eq!(plan.rentals, unread);
        problem.message
    };
    let three = "the stored data cannot be billed: status of rental R1 is '?', status of rental R2 is '?', \
                 status of rental R3 is '?'";
    assert_eq!(message(3), three);
    assert_eq!(message(5), format!("{three} and 2 more"));
}

#[test]
fn a_reason_for_skipping_is_told_in_a_sentence_of_its_own() {
    let said = SkipCode::WORDS.iter().map(|word| SkipCode::parse(word).unwrap().message());
    assert_eq!(
        said.collect::<Vec<_>>(),
        [
            "every rental that could be charged has had all the charges of its contract",
            "each rental that could be charged has a line for this period, or it is closed, waived or withheld",
            "no rental can be charged on this date",
        ]
    );
}

#[test]
fn an_invoice_names_the_group_or_the_device_and_each_line_its_own_period_and_price() {
    let (r, s) = (rental("R", "2025-12-01"), Rental { monthly_amount: 250, ..rental("S", "2026-01-01") });
    let plan = plan_one(&tenant(), "2026-01-10", group(10, vec![s, r.clone()]));
    let payment = plan.outcome.payment().unwrap();
    assert_eq!((payment.subject_name.as_str(), payment.locale.as_str()), ("Office", "en"));
    let lines: Vec<_> = payment
        .lines
        .iter()
        .map(|line| {
            format!("{} {} {} {} {}", line.rental_id, line.billing_period, line.amount, line.tax_amount, line.arrears)
        })
        .collect();
    assert_eq!(lines, ["R 2025-12 1000 190 true", "R 2026-01 1000 190 false", "S 2026-01 250 48 false"]);
    assert_eq!((payment.subtotal, payment.tax_amount, payment.total), (2_250, 428, 2_678));
    assert_eq!(payment.status, PaymentStatus::Pending);
    let one = plan_one(&tenant(), "2026-01-01", alone(r, "2026-01-01", &["2025-12"]));
    assert_eq!(one.outcome.payment().unwrap().subject_name, "Laptop");
}

#[test]
fn what_its_e_invoice_lacks_is_known_when_a_payment_is_planned() {
    let lacks = |e_invoice, currency, monthly_amount| {
        let mut due = group(10, vec![Rental { currency, monthly_amount, ..rental("R", "2026-01-01") }]);
        let e_invoice_lacks = vec!["the buyer has no name".to_owned()];
        due.customer = Some(Ok(Customer { e_invoice, e_invoice_lacks, ..customer() }));
        let plan = plan_one(&tenant(), "2026-01-10", due);
        plan.outcome.payment().unwrap().e_invoice_lacks.clone()
    };
    let (euros, dinars) = (Currency::from_code("EUR").unwrap(), Currency::from_code("KWD").unwrap());
    let said = lacks(EInvoice::FacturX, dinars, 1_001);
    assert_eq!(said.last().unwrap(), "1.001 KWD has more than the two decimals of an e-invoice");
    assert_eq!(said[said.len() - 2], "the buyer has no name");
    assert_eq!(said[0], "the seller has no name");
    // The price is round; its tax is not.
    assert_eq!(
        lacks(EInvoice::FacturX, dinars, 1_010).last().unwrap(),
        "0.192 KWD has more than the two decimals of an e-invoice"
    );
    assert_eq!(lacks(EInvoice::FacturX, euros, 1_001).last().unwrap(), "the buyer has no name");
}

#[test]
fn a_decision_about_the_run_s_own_period_is_followed() {
    let marked = |mark, end: Option<&str>| {
        let mut history = History::default();
        history.add_line(period("2026-01"), period("2025-12"));
        history.add_mark(period("2026-01"), mark);
        let rental = Rental { end_date: end.map(day), ..rental("R", "2025-12-10") };
        charged(&plan_one(&tenant(), "2026-01-10", with_history(rental, history)))
    };
    assert_eq!(marked(Mark::Waived, None), "ALREADY_CHARGED");
    assert_eq!(marked(Mark::Withheld, None), "ALREADY_CHARGED");
    assert_eq!(marked(Mark::Parked, None), "2026-01");
    assert_eq!(marked(Mark::Confirmed, None), "2026-01");
    // It ended on that very day: only a person can still have it charged.
    assert_eq!(marked(Mark::Confirmed, Some("2026-01-10")), "2026-01");
    assert_eq!(marked(Mark::Parked, Some("2026-01-10")), "not due");
}

#[test]
fn a_withheld_gap_waits_while_it_is_open_and_lies_at_most_12_periods_back() {
    let waiting = |last_imported: Option<&str>| {
        let mut history = History { last_imported: last_imported.map(period), ..History::default() };
        for marked in ["2025-01", "2024-12", "2025-03", "2026-01", "2026-02"] {
            history.add_mark(period(marked), Mark::Withheld);
        }
        history.add_line(period("2026-01"), period("2024-11"));
        let tenant = Tenant { bill_from: day("2026-01-01"), max_arrears: 20, ..tenant() };
        withheld(&plan_one(&tenant, "2026-01-10", with_history(rental("R", "2024-11-10"), history)))
    };
    assert_eq!(waiting(None), "2025-01 2025-03", "neither what lapsed nor its own period nor a later one");
    assert_eq!(waiting(Some("2025-01")), "2025-03");
    assert_eq!(waiting(Some("2025-03")), "");
}

#[test]
fn an_ended_rental_of_which_only_withheld_gaps_are_left_is_not_passed_over_in_silence() {
    let ended = |lines: &[&str]| {
        let ended = Rental { end_date: Some(day("2026-05-01")), ..rental("R", "2026-01-10") };
        let plan = plan_one(&tenant(), "2026-06-10", alone(ended, "2026-06-10", lines));
        (charged(&plan), withheld(&plan))
    };
    assert_eq!(ended(&["2026-01"]), ("NO_BILLABLE_RENTAL".into(), "2026-02 2026-03 2026-04".into()));
    assert_eq!(ended(&["2026-01", "2026-02", "2026-03", "2026-04"]), ("not due".into(), String::new()));
}

#[test]
fn the_last_charge_of_a_contract_is_found_behind_a_line_that_lies_12_periods_back() {
    let next = |first_lines: &[&str], today| {
        let mut history = History::default();
        for line in first_lines.iter().copied().chain(["2025-02", "2025-03", "2025-04", "2025-05", "2025-06"]) {
            history.add_line(BillingPeriod::of(day(today)), period(line));
        }
        for back in 7..=12 {
            history.add_line(BillingPeriod::of(day(today)), period(&format!("2025-{back:02}")));
        }
        let contract_length = Some(history.line_count + 1);
        let due = DueRental { rental: Rental { contract_length, ..rental("R", "2025-01-10") }, history };
        let tenth = BillingDay::fixed(10).unwrap();
        next_billing_date(&tenant(), &due, tenth, false, day(today)).map(|date| date.to_string())
    };
    assert_eq!(next(&["2025-01"], "2026-01-10"), Some("2026-01-10".into()));
    assert_eq!(next(&["2025-01"], "2025-12-11"), Some("2026-01-10".into()), "seen from the month before");
    assert_eq!(next(&[], "2026-01-10"), None, "the gap of 2025-01 takes it");
}

#[test]
fn of_the_reasons_of_a_groups_members_the_first_that_rule_17_names_is_told() {
    let mut complete = rental("R", "2025-11-10");
    complete.contract_length = Some(3);
    let skipped = |ids: [&str; 3]| {
        let rentals = ids.map(|id| Rental { rental_id: id.into(), ..complete.clone() });
        let mut due = group(10, rentals.to_vec());
        let run = period("2026-01");
        for due in due.rentals.iter_mut().flatten() {
            let DueRental { rental, history } = due;
            match rental.rental_id.as_bytes()[0] {
                // Three lines of its three, none of them for this period.
                b'C' => ["2025-10", "2025-11", "2025-12"].iter().for_each(|line| history.add_line(run, period(line))),
                b'L' => ["2025-11", "2025-12", "2026-01"].iter().for_each(|line| history.add_line(run, period(line))),
                _ => rental.end_date = Some(day("2025-11-10")),
            }
        }
        charged(&plan_one(&tenant(), "2026-01-10", due))
    };
    assert_eq!(skipped(["E1", "E2", "E3"]), "NO_BILLABLE_RENTAL");
    assert_eq!(skipped(["E1", "L1", "E2"]), "ALREADY_CHARGED");
    assert_eq!(skipped(["C1", "E1", "L1"]), "CONTRACT_COMPLETE");
    assert_eq!(skipped(["L1", "L2", "C1"]), "CONTRACT_COMPLETE");
}
