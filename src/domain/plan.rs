//! What a run would write, decided here and nowhere else.
//!
//! ```text
//! due subjects with their rentals and ledger history ──► plan() ──► payments, skips, problems, withheld gaps
//! ```
//!
//! [`plan`] is pure and cannot fail: a subject with bad data becomes a [`Problem`] beside everybody else's payments
//! (rule 17). A dry run stops here; a real run hands the plan to the store, which writes it and decides nothing.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate};
use sha2::{Digest, Sha256};

use super::calendar::{BillingDay, BillingPeriod};
use super::customer::Customer;
use super::e_invoice::{missing_of_seller, too_fine};
use super::money::Currency;
use super::payment::{MailPlan, Payment, PaymentLine, PaymentStatus, Subject};
use super::rental::Rental;
use super::tax::Taxed;
use super::tenant::Tenant;

/// How many periods before its own a billing date looks back for gaps (rule 8).
pub const LOOK_BACK: i32 = 12;

/// What one plan is made for.
#[derive(Debug, Clone, Copy)]
pub struct PlanContext<'a> {
    pub tenant: &'a Tenant,
    /// The day that the run stands for; its month is the billing period.
    pub run_date: NaiveDate,
    /// The day on which the invoices are issued (rule 19).
    pub issue_date: NaiveDate,
}

/// A subject whose billing date is the run date, with all that decides what it owes.
#[derive(Debug, Clone)]
pub struct DueSubject {
    pub subject: Subject,
    pub customer_id: String,
    /// The group's name; a rental's product name takes its place for a rental.
    pub name: String,
    /// The day on which it is billed.
    pub day: BillingDay,
    /// A payment for this subject and period exists: nothing is planned for it (rule 7).
    pub already_billed: bool,
    /// `None` if there is no such customer.
    pub customer: Option<Result<Customer, BadRecord>>,
    /// Members of the group, or the one rental; in any order.
    pub rentals: Vec<Result<DueRental, BadRecord>>,
}

/// A rental with what the ledger knows of it.
#[derive(Debug, Clone)]
pub struct DueRental {
    pub rental: Rental,
    pub history: History,
}

/// What the ledger holds for one rental, seen from one period P.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// All its lines, of any period.
    pub line_count: u32,
    /// The period of its earliest line.
    pub first: Option<BillingPeriod>,
    /// The period of its latest imported line: everything up to it is closed (rule 8).
    pub last_imported: Option<BillingPeriod>,
    /// Bit n is set if it has a line for the period n months before P, n from 0 to [`LOOK_BACK`].
    pub recent: u32,
    /// Periods without a line about which something was decided, of any age.
    pub marks: Vec<(BillingPeriod, Mark)>,
}

/// What is known of a period of a rental that has no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// Its subject was parked when it would have been charged (rule 17): charged as soon as that is mended.
    Parked,
    /// Held back until a person decides (rule 8, no avalanche).
    Withheld,
    /// A person decided that it is charged.
    Confirmed,
    /// A person decided that it is never charged.
    Waived,
}

super::words!(Mark { Parked = "parked", Withheld = "withheld", Confirmed = "confirmed", Waived = "waived" });

impl History {
    fn mark(&self, period: BillingPeriod) -> Option<Mark> {
        self.marks.iter().find(|(p, _)| *p == period).map(|(_, mark)| *mark)
    }

    /// Whether `period` has a line; known for the run's period and the [`LOOK_BACK`] before it.
    fn has_line(&self, run_period: BillingPeriod, period: BillingPeriod) -> bool {
        let back = run_period.months_after(period);
        (0..=LOOK_BACK).contains(&back) && self.recent & (1 << back) != 0
    }

    fn is_closed(&self, period: BillingPeriod) -> bool {
        self.last_imported.is_some_and(|last| period <= last)
    }

    fn began_before(&self, period: BillingPeriod) -> bool {
        self.first.is_some_and(|first| first < period)
    }

    /// Records a line as a run would have written it, for the plan of a later date (rule 18).
    pub fn add_line(&mut self, run_period: BillingPeriod, period: BillingPeriod) {
        self.line_count += 1;
        self.first = Some(self.first.map_or(period, |first| first.min(period)));
        let back = run_period.months_after(period);
        if (0..=LOOK_BACK).contains(&back) {
            self.recent |= 1 << back;
        }
        self.marks.retain(|(p, _)| *p != period);
    }

    /// Looks from a later period instead.
    fn see_from(&mut self, was: BillingPeriod, now: BillingPeriod) {
        let months = u32::try_from(now.months_after(was)).unwrap_or(0);
        // Nobody asks for what comes to lie further back.
        self.recent = self.recent.checked_shl(months).unwrap_or(0);
    }

    /// Records a mark as a run would have written it; a decision that stands is not replaced.
    pub fn add_mark(&mut self, period: BillingPeriod, mark: Mark) {
        if self.mark(period).is_none() {
            self.marks.push((period, mark));
        }
    }
}

/// A stored record that cannot be billed from as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    pub kind: &'static str,
    pub id: String,
    pub field: String,
    pub value: String,
}

/// Why a subject is parked, for a person who can mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub code: ProblemCode,
    pub message: String,
    pub records: Vec<BadRecord>,
}

/// The reasons for parking (rule 17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemCode {
    CurrencyMismatch,
    DifferentCustomer,
    CustomerNotFound,
    AmountOverflow,
    InvalidRecord,
}

super::words!(ProblemCode {
    CurrencyMismatch = "SUBSCRIPTION_CURRENCY_MISMATCH",
    DifferentCustomer = "SUBSCRIPTION_DIFFERENT_CUSTOMER",
    CustomerNotFound = "CUSTOMER_NOT_FOUND",
    AmountOverflow = "AMOUNT_OVERFLOW",
    InvalidRecord = "INVALID_RECORD",
});

/// Why a subject with nothing to charge is skipped (rules 10, 17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipCode {
    ContractComplete,
    AlreadyCharged,
    NoBillableRental,
}

super::words!(SkipCode {
    ContractComplete = "CONTRACT_COMPLETE",
    AlreadyCharged = "ALREADY_CHARGED",
    NoBillableRental = "NO_BILLABLE_RENTAL",
});

impl SkipCode {
    /// A plain sentence for the report.
    pub fn message(self) -> &'static str {
        match self {
            Self::ContractComplete => "every rental that could be charged has had all the charges of its contract",
            Self::AlreadyCharged => {
                "each rental that could be charged has a line for this period, or it is closed, waived or withheld"
            }
            Self::NoBillableRental => "no rental can be charged on this date",
        }
    }
}

/// What a run would write for some due subjects, in their order.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub subjects: Vec<SubjectPlan>,
}

/// What was decided for one due subject.
#[derive(Debug, Clone)]
pub struct SubjectPlan {
    pub subject: Subject,
    pub outcome: Outcome,
    /// The rentals that were looked at, ordered bytewise.
    pub rentals: Vec<String>,
    /// Gaps that wait for a person, whether held back now or before, ordered by rental.
    pub withheld: Vec<Withheld>,
    /// Rentals that get the first line of their life.
    pub first_charged: Vec<FirstCharge>,
}

/// A rental that gets the first line of its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstCharge {
    pub rental_id: String,
    /// A billing date had passed it over before ([`passed_over`]).
    pub passed_over: bool,
}

/// The decision itself.
#[derive(Debug, Clone)]
pub enum Outcome {
    Billed(Box<Payment>),
    AlreadyBilled,
    Skipped(SkipCode),
    Parked(Parked),
    /// A rental billed alone that has nothing left to charge: not due, and not worth a word.
    NotDue,
}

impl Outcome {
    /// The payment, if there is one.
    pub fn payment(&self) -> Option<&Payment> {
        match self {
            Self::Billed(payment) => Some(payment),
            _ => None,
        }
    }
}

/// A subject that could not be billed, and what it would have been charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    pub problem: Problem,
    /// Rental and period of each line that would have been made.
    pub charges: Vec<(String, BillingPeriod)>,
    /// Rentals that cannot be read: what they owe is not known, but the period is what a person decides about.
    pub unread: Vec<String>,
}

/// The gaps of one rental that wait for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    pub rental_id: String,
    pub billing_group_id: Option<String>,
    pub periods: Vec<BillingPeriod>,
}

/// Decides what each due subject owes on the run date. Never fails.
pub fn plan(context: PlanContext<'_>, due: &[DueSubject]) -> Plan {
    Plan { subjects: due.iter().map(|subject| plan_subject(context, subject)).collect() }
}

fn plan_subject(context: PlanContext<'_>, due: &DueSubject) -> SubjectPlan {
    let mut plan = SubjectPlan {
        subject: due.subject.clone(),
        outcome: Outcome::AlreadyBilled,
        rentals: rental_ids(due),
        withheld: Vec::new(),
        first_charged: Vec::new(),
    };
    if due.already_billed {
        return plan;
    }
    let mut rentals: Vec<&DueRental> = due.rentals.iter().flatten().collect();
    rentals.sort_by(|a, b| a.rental.rental_id.cmp(&b.rental.rental_id));
    let mut charges = Vec::with_capacity(rentals.len());
    let mut skip = None;
    for rental in rentals {
        let decision = decide_rental(context, due.day, rental);
        if !decision.withheld.is_empty() {
            plan.withheld.push(Withheld {
                rental_id: rental.rental.rental_id.clone(),
                billing_group_id: due.group_id(),
                periods: decision.withheld,
            });
        }
        if !decision.charged.is_empty() && rental.history.line_count == 0 {
            plan.first_charged.push(FirstCharge {
                rental_id: rental.rental.rental_id.clone(),
                passed_over: passed_over(&rental.rental, due.day, context.tenant, context.run_date),
            });
        }
        charges.extend(decision.charged.into_iter().map(|period| Charge { rental: &rental.rental, period }));
        // A reason beats none, and the graver one the other.
        skip = skip.into_iter().chain(decision.skip).min();
    }
    plan.outcome = outcome(context, due, &charges, skip, !plan.withheld.is_empty());
    if !matches!(plan.outcome, Outcome::Billed(_)) {
        plan.first_charged.clear();
    }
    plan
}

fn outcome(
    context: PlanContext<'_>,
    due: &DueSubject,
    charges: &[Charge<'_>],
    skip: Option<SkipCode>,
    withheld: bool,
) -> Outcome {
    let bad: Vec<BadRecord> = due.rentals.iter().filter_map(|r| r.as_ref().err().cloned()).collect();
    let park = |problem| {
        let charges = charges.iter().map(|c| (c.rental.rental_id.clone(), c.period)).collect();
        let unread = due.rentals.iter().filter_map(|r| r.as_ref().err().map(|bad| bad.id.clone())).collect();
        Outcome::Parked(Parked { problem, charges, unread })
    };
    if !bad.is_empty() {
        return park(invalid(bad));
    }
    if charges.is_empty() {
        return match (due.group_id(), skip) {
            (Some(_), skip) => Outcome::Skipped(skip.unwrap_or(SkipCode::NoBillableRental)),
            (None, Some(skip)) => Outcome::Skipped(skip),
            (None, None) if withheld => Outcome::Skipped(SkipCode::NoBillableRental),
            (None, None) => Outcome::NotDue,
        };
    }
    let customer = match &due.customer {
        None => return park(customer_not_found(due)),
        Some(Err(bad)) => return park(invalid(vec![bad.clone()])),
        Some(Ok(customer)) => customer,
    };
    match payment(context, due, customer, charges) {
        Ok(payment) => Outcome::Billed(Box::new(payment)),
        Err(problem) => park(problem),
    }
}

/// One line to be: a rental and the period that it is charged for.
struct Charge<'a> {
    rental: &'a Rental,
    period: BillingPeriod,
}

/// What rules 7 to 9 say of one rental on one date.
struct RentalDecision {
    /// Ascending.
    charged: Vec<BillingPeriod>,
    /// Ascending.
    withheld: Vec<BillingPeriod>,
    /// Why its own period is not charged although it could be, or `None` if it could not.
    skip: Option<SkipCode>,
}

fn decide_rental(context: PlanContext<'_>, day: BillingDay, due: &DueRental) -> RentalDecision {
    let PlanContext { tenant, run_date, .. } = context;
    let DueRental { rental, history } = due;
    let period = BillingPeriod::of(run_date);
    let billable = rental.billable_on(run_date, tenant.contract_end);
    let is_open = |p| !history.has_line(period, p) && !history.is_closed(p);

    // Gaps by kind, each ascending: settled ones are charged whatever the date and the count say, plain ones are counted.
    let mut wanted = BTreeSet::new();
    let mut plain = Vec::new();
    let mut withheld = Vec::new();
    for &(p, mark) in &history.marks {
        match mark {
            Mark::Confirmed | Mark::Parked if p < period && is_open(p) => {
                wanted.insert(p);
            }
            Mark::Withheld if p < period && period.months_after(p) <= LOOK_BACK && is_open(p) => withheld.push(p),
            _ => {}
        }
    }
    withheld.sort_unstable();
    for p in (1..=LOOK_BACK).rev().map(|back| period.plus(-back)) {
        let date = day.date_in(p);
        let is_gap = is_open(p)
            && history.mark(p).is_none()
            && rental.billable_on(date, tenant.contract_end)
            && (date >= tenant.bill_from || history.began_before(p));
        if is_gap {
            plain.push(p);
        }
    }
    let own_mark = history.mark(period);
    let own_blocked = !is_open(period) || matches!(own_mark, Some(Mark::Waived | Mark::Withheld));
    if (billable || own_mark == Some(Mark::Confirmed)) && !own_blocked {
        wanted.insert(period);
    }

    // Rule 9: so many charges are left, the earliest periods first.
    let left = rental
        .charges_max(tenant.contract_end)
        .map_or(usize::MAX, |max| max.saturating_sub(history.line_count) as usize);
    let mut earliest: Vec<BillingPeriod> = wanted.iter().chain(&plain).chain(&withheld).copied().collect();
    earliest.sort_unstable();
    earliest.truncate(left);
    let counted = earliest.iter().filter(|p| plain.contains(p) || withheld.contains(p)).count();
    if counted > tenant.max_arrears as usize {
        withheld.extend(earliest.iter().filter(|p| plain.contains(p)));
        withheld.sort_unstable();
    } else {
        wanted.extend(plain);
    }
    let charged: Vec<BillingPeriod> = wanted.iter().copied().take(left).collect();
    let skip = if !billable || charged.contains(&period) {
        None
    } else if !own_blocked {
        Some(SkipCode::ContractComplete)
    } else {
        Some(SkipCode::AlreadyCharged)
    };
    RentalDecision { charged, withheld, skip }
}

/// Makes the payment of the charges, which are ordered by rental, then period.
fn payment(
    context: PlanContext<'_>,
    due: &DueSubject,
    customer: &Customer,
    charges: &[Charge<'_>],
) -> Result<Payment, Problem> {
    let PlanContext { tenant, run_date, issue_date } = context;
    let period = BillingPeriod::of(run_date);
    let strangers: Vec<BadRecord> = distinct(charges)
        .filter(|rental| rental.customer_id != due.customer_id)
        .map(|rental| bad_rental(rental, "customerId", &rental.customer_id))
        .collect();
    if !strangers.is_empty() {
        let message = format!("a member of the group belongs to another customer than {}", due.customer_id);
        return Err(Problem { code: ProblemCode::DifferentCustomer, message, records: strangers });
    }
    let currency = one_currency(charges)?;
    let rule = tenant.tax_for(customer.tax_treatment);
    let prices: Vec<i64> = charges.iter().map(|charge| charge.rental.monthly_amount).collect();
    let taxed = rule.apply(&prices).ok_or_else(|| overflow(charges))?;
    let lines = charges.iter().zip(&taxed.lines).map(|(charge, taxed)| PaymentLine {
        rental_id: charge.rental.rental_id.clone(),
        billing_period: charge.period,
        amount: taxed.amount,
        tax_amount: taxed.tax_amount,
        arrears: charge.period != period,
        product_name: charge.rental.product_name.clone(),
        serial_number: charge.rental.serial_number.clone(),
    });
    let e_invoice_lacks = e_invoice_lacks(tenant, customer, currency, &taxed);
    let terms = customer.payment_terms_days.unwrap_or(tenant.payment_terms_days);
    let free = taxed.total == 0;
    Ok(Payment {
        payment_id: due.subject.payment_id(&tenant.tenant_id, period),
        subject: due.subject.clone(),
        customer_id: due.customer_id.clone(),
        subject_name: match due.group_id() {
            Some(_) => due.name.clone(),
            None => charges.first().map(|c| c.rental.product_name.clone()).unwrap_or_default(),
        },
        billing_period: period,
        currency,
        subtotal: taxed.subtotal,
        tax_amount: taxed.tax_amount,
        total: taxed.total,
        tax_rate_ppm: rule.rate_ppm,
        tax_treatment: customer.tax_treatment,
        status: if free { PaymentStatus::Paid } else { PaymentStatus::Pending },
        issue_date,
        due_date: issue_date.checked_add_days(Days::new(u64::from(terms))).unwrap_or(NaiveDate::MAX),
        lines: lines.collect(),
        seller_party: tenant.party_id.clone(),
        buyer_party: customer.party_id.clone(),
        locale: customer.locale.clone().unwrap_or_else(|| tenant.locale.clone()),
        mail: match customer.recipients.recipients(customer.billing_email.as_deref()) {
            _ if free => MailPlan::None,
            recipients if recipients.to.is_empty() => MailPlan::Undeliverable,
            recipients => MailPlan::To(recipients),
        },
        e_invoice: customer.e_invoice,
        e_invoice_lacks,
    })
}

/// Why the invoice will have no e-invoice.
fn e_invoice_lacks(tenant: &Tenant, customer: &Customer, currency: Currency, taxed: &Taxed) -> Vec<String> {
    let mut lacks = missing_of_seller(&tenant.seller, customer.e_invoice);
    lacks.extend(customer.e_invoice_lacks.iter().cloned());
    let amounts = taxed.lines.iter().map(|line| line.amount).chain([taxed.tax_amount]);
    lacks.extend(too_fine(customer.e_invoice, currency, amounts));
    lacks
}

fn one_currency(charges: &[Charge<'_>]) -> Result<Currency, Problem> {
    let mut currencies: Vec<Currency> = charges.iter().map(|c| c.rental.currency).collect();
    currencies.sort_by_key(|c| c.code());
    currencies.dedup();
    if let [currency] = currencies[..] {
        return Ok(currency);
    }
    let codes: Vec<&str> = currencies.iter().map(|c| c.code()).collect();
    Err(Problem {
        code: ProblemCode::CurrencyMismatch,
        message: format!("its rentals are priced in {}: one payment has one currency", codes.join(" and ")),
        records: distinct(charges).map(|r| bad_rental(r, "currency", r.currency.code())).collect(),
    })
}

fn overflow(charges: &[Charge<'_>]) -> Problem {
    let largest = distinct(charges).max_by_key(|rental| rental.monthly_amount);
    Problem {
        code: ProblemCode::AmountOverflow,
        message: format!("the sum of its {} lines with tax is larger than an amount can be", charges.len()),
        records: largest
            .map(|r| bad_rental(r, "monthlyAmount", &r.currency.format(r.monthly_amount)))
            .into_iter()
            .collect(),
    }
}

fn invalid(records: Vec<BadRecord>) -> Problem {
    let named: Vec<String> =
        records.iter().take(3).map(|r| format!("{} of {} {} is '{}'", r.field, r.kind, r.id, r.value)).collect();
    let more = if records.len() > 3 { format!(" and {} more", records.len() - 3) } else { String::new() };
    let message = format!("the stored data cannot be billed: {}{more}", named.join(", "));
    Problem { code: ProblemCode::InvalidRecord, message, records }
}

fn customer_not_found(due: &DueSubject) -> Problem {
    Problem {
        code: ProblemCode::CustomerNotFound,
        message: format!("there is no customer {}", due.customer_id),
        records: vec![BadRecord {
            kind: due.subject.kind.as_str(),
            id: due.subject.id.clone(),
            field: "customerId".into(),
            value: due.customer_id.clone(),
        }],
    }
}

fn bad_rental(rental: &Rental, field: &str, value: &str) -> BadRecord {
    BadRecord { kind: "rental", id: rental.rental_id.clone(), field: field.into(), value: value.into() }
}

/// The rentals of charges that are ordered by rental, each once.
fn distinct<'a>(charges: &'a [Charge<'a>]) -> impl Iterator<Item = &'a Rental> {
    charges.chunk_by(|a, b| a.rental.rental_id == b.rental.rental_id).map(|chunk| chunk[0].rental)
}

fn rental_ids(due: &DueSubject) -> Vec<String> {
    let mut ids: Vec<String> = due
        .rentals
        .iter()
        .map(|rental| match rental {
            Ok(due) => due.rental.rental_id.clone(),
            Err(bad) => bad.id.clone(),
        })
        .collect();
    ids.sort_unstable();
    ids
}

impl DueSubject {
    fn group_id(&self) -> Option<String> {
        match self.subject.kind {
            super::payment::SubjectKind::Group => Some(self.subject.id.clone()),
            super::payment::SubjectKind::Rental => None,
        }
    }
}

/// Whether a billing date of a rental that was never charged has gone by unnoticed: on or after its start, before `run_date`,
/// while it is still billable on `run_date` (the report's `neverCharged`).
pub fn passed_over(rental: &Rental, day: BillingDay, tenant: &Tenant, run_date: NaiveDate) -> bool {
    rental.billable_on(run_date, tenant.contract_end) && day.first_on_or_after(rental.start_date) < run_date
}

/// The next billing date on or after `today` on which a rental gets a line for that date's own period (rule 28).
///
/// `day` is that of its present subject, `billed` tells that this subject has its payment for today's period, and the
/// rental's history is seen from today's period.
pub fn next_billing_date(
    tenant: &Tenant,
    due: &DueRental,
    day: BillingDay,
    billed: bool,
    today: NaiveDate,
) -> Option<NaiveDate> {
    let mut due = due.clone();
    let mut seen_from = BillingPeriod::of(today);
    let open_from = due.history.last_imported.map_or(NaiveDate::MIN, |last| last.plus(1).first_day());
    let mut date = day.first_on_or_after(today.max(due.rental.start_date).max(open_from));
    if billed && BillingPeriod::of(date) == seen_from {
        date = day.date_in(seen_from.plus(1));
    }
    // Of the dates from there on, each that charges nothing has a line or a mark, or none after it charges anything.
    for _ in 0..due.history.marks.len() + 2 {
        let period = BillingPeriod::of(date);
        due.history.see_from(seen_from, period);
        seen_from = period;
        let charged = decide_rental(PlanContext { tenant, run_date: date, issue_date: date }, day, &due).charged;
        if charged.contains(&period) {
            return Some(date);
        }
        charged.into_iter().for_each(|gap| due.history.add_line(period, gap));
        date = day.date_in(period.plus(1));
    }
    None
}

/// Hashes payments in report order into one plan hash: equal plans, equal hash, on either database, on any day.
///
/// It covers tenant, key, customer, currency, tax rate, amounts and each line's rental, period, amount and tax; not issue
/// date, names or numbers, which differ from day to day.
#[derive(Clone, Default)]
pub struct PlanHasher(Sha256);

impl PlanHasher {
    /// Adds the next payment; each field ends with a byte that cannot stand in it.
    pub fn add(&mut self, tenant_id: &str, payment: &Payment) {
        let key = payment.subject.idempotency_key(payment.billing_period);
        for text in [tenant_id, &key, &payment.customer_id, payment.currency.code()] {
            self.0.update((text.len() as u64).to_be_bytes());
            self.0.update(text);
        }
        for number in
            [payment.tax_rate_ppm, payment.subtotal, payment.tax_amount, payment.total, payment.lines.len() as i64]
        {
            self.0.update(number.to_be_bytes());
        }
        for line in &payment.lines {
            self.0.update((line.rental_id.len() as u64).to_be_bytes());
            self.0.update(&line.rental_id);
            self.0.update(line.billing_period.to_string());
            self.0.update(line.amount.to_be_bytes());
            self.0.update(line.tax_amount.to_be_bytes());
        }
    }

    /// The hash of all payments so far, in lower-case hexadecimal.
    pub fn finish(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0.clone().finalize())
    }
}

#[cfg(test)]
mod tests;
