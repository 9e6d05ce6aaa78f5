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
