//! What a run tells the people who started it: the same for a dry run and a real one.

use std::collections::BTreeMap;

use chrono::NaiveDate;

use super::message::MailState;
use super::payment::{Payment, Subject};
use super::plan::{Outcome, Problem, SkipCode, SubjectPlan, Withheld};

/// The report of one run date, without its payments: those may be a million and are written one by one.
#[derive(Debug, Clone)]
pub struct RunReport {
    pub dry_run: bool,
    /// Hash of all payments of all its tenants, in order.
    pub plan_hash: String,
    /// Set when the date was named by the user.
    pub run_date: Option<NaiveDate>,
    /// Ordered by tenant id, bytewise.
    pub tenants: Vec<TenantReport>,
}

/// One tenant's part of a run.
#[derive(Debug, Clone)]
pub struct TenantReport {
    pub tenant_id: String,
    pub tenant_name: String,
    pub run_date: NaiveDate,
    /// Active groups that made no payment, ordered by id.
    pub skipped: Vec<(Subject, SkipCode)>,
    /// Groups first, then by id.
    pub parked: Vec<(Subject, Problem)>,
    /// Ordered by rental id.
    pub withheld: Vec<Withheld>,
    /// Subjects with this billing date that already have their payment.
    pub already_billed: u64,
    /// Rentals that a billing date passed over without ever charging them.
    pub never_charged: u64,
    /// By currency code.
    pub totals: BTreeMap<String, Totals>,
    pub delivery: Delivery,
    pub plain: PlainInvoices,
}

/// The invoices that go without the e-invoice that their customer wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlainInvoices {
    pub count: u64,
    /// The first reasons, each once.
    pub reasons: Vec<String>,
    /// There were other reasons.
    pub more_reasons: bool,
}

impl PlainInvoices {
    const REASONS_MAX: usize = 3;

    /// Counts a payment, if something is missing for its e-invoice.
    pub fn count(&mut self, payment: &Payment) {
        self.count += u64::from(!payment.e_invoice_lacks.is_empty());
        for reason in &payment.e_invoice_lacks {
            if self.reasons.contains(reason) {
                continue;
            }
            if self.reasons.len() == Self::REASONS_MAX {
                self.more_reasons = true;
                return;
            }
            self.reasons.push(reason.clone());
        }
    }
}

/// Sums of one currency, in minor units; wider than one payment can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub payments: u64,
    pub subtotal: i128,
    pub tax_amount: i128,
    pub total: i128,
}

impl Totals {
    fn add(&mut self, payment: &Payment) {
        self.payments += 1;
        self.subtotal += i128::from(payment.subtotal);
        self.tax_amount += i128::from(payment.tax_amount);
        self.total += i128::from(payment.total);
    }
}

/// What a run counts while it goes: the numbers of its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub billed: u64,
    pub already_billed: u64,
    /// Groups, and rentals billed alone.
    pub skipped: u64,
    pub parked: u64,
    /// Rentals with gaps that wait for a person.
    pub withheld: u64,
    /// By currency code.
    pub totals: BTreeMap<String, Totals>,
}

impl Tally {
    /// Counts what was decided for one more subject.
    pub fn count(&mut self, plan: &SubjectPlan) {
        self.withheld += plan.withheld.len() as u64;
        match &plan.outcome {
            Outcome::Billed(payment) => {
                self.billed += 1;
                self.totals.entry(payment.currency.code().to_owned()).or_default().add(payment);
            }
            Outcome::AlreadyBilled => self.already_billed += 1,
            Outcome::Skipped(_) => self.skipped += 1,
            Outcome::Parked(_) => self.parked += 1,
            Outcome::NotDue => {}
        }
    }
}

/// How many mails of this run stand where; one that goes to several recipients counts once for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delivery {
    pub waiting: u64,
    pub sent: u64,
    pub failed: u64,
    pub undeliverable: u64,
}

impl TenantReport {
    /// Whether no subject at all had its billing date.
    pub fn nothing_was_due(&self) -> bool {
        self.totals.is_empty()
            && self.skipped.is_empty()
            && self.parked.is_empty()
            && self.withheld.is_empty()
            && self.already_billed == 0
    }
}

impl Delivery {
    /// Counts mails of one state. Those that are just being sent, or are to be sent once more because nobody knows whether they
    /// arrived, still wait; those that are held for a person have failed, as far as the program goes.
    pub fn add(&mut self, state: MailState, count: u64) {
        let counted = match state {
            MailState::Pending | MailState::Sending | MailState::Unknown => &mut self.waiting,
            MailState::Sent => &mut self.sent,
            MailState::Held | MailState::Failed => &mut self.failed,
            MailState::Undeliverable => &mut self.undeliverable,
        };
        *counted += count;
    }
}

impl RunReport {
    /// Whether something in it needs a person (exit status 3).
    pub fn needs_a_person(&self) -> bool {
        self.tenants.iter().any(|t| !t.parked.is_empty() || !t.withheld.is_empty() || t.delivery.undeliverable > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{DueSubject, Mark, PlanContext, plan};
    use crate::domain::samples::{day, group, period, rental, tenant};
    use crate::domain::{Currency, Rental};

    fn planned(due: DueSubject) -> SubjectPlan {
        let (tenant, run_date) = (tenant(), day("2026-01-10"));
        plan(PlanContext { tenant: &tenant, run_date, issue_date: run_date }, &[due]).subjects.remove(0)
    }

    fn one() -> DueSubject {
        group(10, vec![rental("R", "2026-01-01")])
    }

    fn nothing() -> TenantReport {
        TenantReport {
            tenant_id: "T".into(),
            tenant_name: "Rent".into(),
            run_date: day("2026-01-10"),
            skipped: Vec::new(),
            parked: Vec::new(),
            withheld: Vec::new(),
            already_billed: 0,
            never_charged: 0,
            totals: BTreeMap::new(),
            delivery: Delivery::default(),
            plain: PlainInvoices::default(),
        }
    }

    fn parked() -> (Subject, Problem) {
        let Outcome::Parked(parked) = planned(DueSubject { customer: None, ..one() }).outcome else { panic!() };
        (Subject::group("G"), parked.problem)
    }

    fn withheld() -> Withheld {
        Withheld { rental_id: "R".into(), billing_group_id: None, periods: vec![period("2025-12")] }
    }

    #[test]
    fn each_subject_is_counted_once_and_each_currency_summed_by_itself() {
        let dollars = Rental { currency: Currency::from_code("USD").unwrap(), ..rental("R", "2026-01-01") };
        let mut waiting = one();
        waiting.rentals[0].as_mut().unwrap().history.add_mark(period("2025-12"), Mark::Withheld);
        let ended = Rental { end_date: Some(day("2023-06-01")), ..rental("R", "2023-01-10") };
        let alone = DueSubject { subject: Subject::rental("R"), ..group(10, vec![ended]) };
        let mut tally = Tally::default();
        for due in [
            one(),
            waiting,
            group(10, vec![dollars]),
            DueSubject { already_billed: true, ..one() },
            group(10, vec![]),
            DueSubject { customer: None, ..one() },
            alone,
        ] {
            tally.count(&planned(due));
        }
        let eur = Totals { payments: 2, subtotal: 2_000, tax_amount: 380, total: 2_380 };
        let usd = Totals { payments: 1, subtotal: 1_000, tax_amount: 190, total: 1_190 };
        let totals = BTreeMap::from([("EUR".to_owned(), eur), ("USD".to_owned(), usd)]);
        assert_eq!(tally, Tally { billed: 3, already_billed: 1, skipped: 1, parked: 1, withheld: 1, totals });
    }

    #[test]
    fn invoices_without_their_e_invoice_are_counted_and_the_first_three_reasons_kept() {
        let mut payment = planned(one()).outcome.payment().unwrap().clone();
        let mut plain = PlainInvoices::default();
        let mut count = |lacks: &[&str]| {
            payment.e_invoice_lacks = lacks.iter().map(|lack| (*lack).to_owned()).collect();
            plain.count(&payment);
            plain.clone()
        };
        assert_eq!(count(&[]), PlainInvoices::default());
        assert_eq!(
            count(&["a", "b"]),
            PlainInvoices { count: 1, reasons: vec!["a".into(), "b".into()], more_reasons: false }
        );
        let three = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!(count(&["b", "c"]), PlainInvoices { count: 2, reasons: three.clone(), more_reasons: false });
        assert_eq!(count(&["c"]), PlainInvoices { count: 3, reasons: three.clone(), more_reasons: false });
        assert_eq!(count(&["d"]), PlainInvoices { count: 4, reasons: three, more_reasons: true });
    }

    #[test]
    fn something_was_due_if_anything_at_all_came_of_it() {
        assert!(nothing().nothing_was_due());
        let totals = BTreeMap::from([("EUR".to_owned(), Totals::default())]);
        for report in [
            TenantReport { totals, ..nothing() },
            TenantReport { skipped: vec![(Subject::group("G"), SkipCode::NoBillableRental)], ..nothing() },
            TenantReport { parked: vec![parked()], ..nothing() },
            TenantReport { withheld: vec![withheld()], ..nothing() },
            TenantReport { already_billed: 1, ..nothing() },
        ] {
            assert!(!report.nothing_was_due(), "{report:?}");
        }
    }

    #[test]
    fn a_person_is_needed_for_what_is_parked_withheld_or_cannot_be_delivered_and_for_nothing_else() {
        let needs = |tenant: TenantReport| {
            let tenants = vec![nothing(), tenant];
            RunReport { dry_run: false, plan_hash: String::new(), run_date: None, tenants }.needs_a_person()
        };
        let failed = Delivery { waiting: 1, sent: 1, failed: 1, undeliverable: 0 };
        assert!(!needs(TenantReport { already_billed: 1, delivery: failed, ..nothing() }));
        assert!(needs(TenantReport { parked: vec![parked()], ..nothing() }));
        assert!(needs(TenantReport { withheld: vec![withheld()], ..nothing() }));
        assert!(needs(TenantReport { delivery: Delivery { undeliverable: 1, ..Delivery::default() }, ..nothing() }));
    }

    #[test]
    fn a_mail_that_may_go_out_again_waits_and_one_that_is_held_has_failed() {
        let mut delivery = Delivery::default();
        let states = ["pending", "sending", "unknown", "sent", "held", "failed", "undeliverable"];
        for (count, state) in (0..).map(|n| 1 << n).zip(states) {
            delivery.add(MailState::parse(state).unwrap(), count);
        }
        assert_eq!(delivery, Delivery { waiting: 1 + 2 + 4, sent: 8, failed: 16 + 32, undeliverable: 64 });
    }
}
