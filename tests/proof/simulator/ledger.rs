//! The database, in memory: what the store's transactions read, check and write, each whole or not at all.
//!
//! Decisions are the product's own (`plan`, the steps of leases, dates and mails); what stands here is what its SQL does with
//! them. What may never be is checked at each commit.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use billday::domain::day::{self, Day, DayEvent};
use billday::domain::lease::{self, Lease, LeaseEvent, LeaseRefusal, LeaseState};
use billday::domain::message::{MailEvent, MailState, Settled, Tried, step};
use billday::domain::payment::MailPlan;
use billday::domain::plan::{DueRental, DueSubject, History, Mark, Outcome, SubjectPlan};
use billday::domain::{BillingPeriod, Payment, Subject};
use chrono::{Datelike, NaiveDate};

use super::company::Company;
use super::{DAY, Guards};

/// Why a transaction was not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Somebody else wrote meanwhile what this would write.
    Conflict,
    /// The run is no longer this process's.
    Fenced,
    Busy,
}

/// One tenant's part.
#[derive(Default)]
pub struct Ledger {
    payments: HashMap<(Subject, BillingPeriod), u32>,
    lines: BTreeMap<String, Vec<BillingPeriod>>,
    pub marks: HashMap<String, Vec<(BillingPeriod, Mark)>>,
    outcomes: HashSet<(NaiveDate, Subject)>,
    series: BTreeMap<String, Series>,
    numbers: BTreeSet<(String, i64)>,
    /// Ascending.
    pub completed: Vec<NaiveDate>,
    dates: BTreeMap<NaiveDate, SharedDate>,
    runs: Vec<Run>,
    pub mails: Vec<Mail>,
    /// Mails that are not settled for good.
    pub open_mails: BTreeSet<usize>,
}

struct SharedDate {
    day: Day,
    /// The subjects of each share, and the run that has it.
    shares: BTreeMap<i64, (Vec<usize>, Option<usize>)>,
}

#[derive(Clone, Copy)]
struct Series {
    first: i64,
    last: i64,
    issued_on: NaiveDate,
}

#[derive(Clone, Copy)]
struct Run {
    is_running: bool,
    batches: u32,
}

pub struct Mail {
    pub state: MailState,
    pub fence: i64,
    pub lease_until: i64,
    pub next_at: i64,
    pub tried: Tried,
    /// How many the server took.
    pub copies: u32,
    /// How often something went wrong after which nobody could know whether it had.
    pub doubts: u32,
}

/// A share that somebody claimed.
pub struct Claimed {
    pub number: i64,
    pub fence: i64,
    pub run: usize,
    pub subjects: Vec<usize>,
}

pub enum Claim {
    Share(Claimed),
    Held,
    Completed,
}

/// What one transaction writes.
pub struct Batch {
    pub plans: Vec<(SubjectPlan, bool)>,
    pub run: usize,
    pub run_date: NaiveDate,
    pub held: Option<(i64, i64)>,
    pub batches_before: u32,
    /// By the clock of whoever writes; leases follow it with `skew` added.
    pub now: i64,
    pub skew: i64,
}

impl Batch {
    pub fn payments(&self) -> impl Iterator<Item = &Payment> {
        self.plans.iter().filter_map(|(plan, _)| plan.outcome.payment())
    }

    /// Whether writing it would change nothing, as the product's `Batch::is_on_record` says.
    pub fn is_on_record(&self) -> bool {
        self.plans.iter().all(|(plan, recorded)| match plan.outcome {
            Outcome::NotDue => true,
            Outcome::AlreadyBilled => *recorded,
            _ => false,
        })
    }
}

impl Ledger {
    /// The due subjects as the reader gives them, each with whether its outcome is on record.
    pub fn read(&self, company: &Company, date: NaiveDate, subjects: &[usize]) -> Vec<(DueSubject, bool)> {
        let period = BillingPeriod::of(date);
        let read = |&n: &usize| {
            let billed = &company.subjects[n];
            let rentals = billed.members.iter().map(|&member| {
                let rental = company.rentals[member].clone();
                let mut history = History::default();
                for &line in self.lines.get(&rental.rental_id).into_iter().flatten() {
                    history.add_line(period, line);
                }
                history.marks = self.marks.get(&rental.rental_id).cloned().unwrap_or_default();
                Ok(DueRental { rental, history })
            });
            let due = DueSubject {
                subject: billed.subject.clone(),
                customer_id: "C".into(),
                name: String::new(),
                day: billed.day,
                already_billed: self.payments.contains_key(&(billed.subject.clone(), period)),
                customer: Some(Ok(company.customer.clone())),
                rentals: rentals.collect(),
            };
            (due, self.outcomes.contains(&(date, billed.subject.clone())))
        };
        subjects.iter().map(read).collect()
    }

    /// The last day on which an invoice of today's series was issued, if that is later.
    pub fn issue_date(&self, company: &Company, today: NaiveDate) -> NaiveDate {
        let series = company.tenant.invoice_number_format.series(today.year());
        self.series.get(&series).map_or(today, |series| today.max(series.issued_on))
    }

    pub fn begin_run(&mut self) -> usize {
        self.runs.push(Run { is_running: true, batches: 0 });
        self.runs.len() - 1
    }

    pub fn batches(&self, run: usize) -> u32 {
        self.runs[run].batches
    }

    pub fn claim(&mut self, company: &Company, date: NaiveDate, share_size: usize, now: i64) -> Claim {
        let completed = self.completed.binary_search(&date).is_ok();
        let cut = self.dates.entry(date).or_insert_with(|| cut(company.due(date), share_size));
        let seen = |(&number, lease): (&i64, &Lease)| match lease.state {
            LeaseState::Free => Some((number, lease.clone())),
            LeaseState::Held { until } if until <= now => Some((number, lease.clone())),
            _ => None,
        };
        let candidate = cut.day.shares.iter().find_map(seen);
        let number = candidate.as_ref().map(|(number, _)| *number);
        let seen = Day { completed, shares: candidate.into_iter().collect() };
        let (number, lease) = match (number, day::step(&seen, DayEvent::Claimed { now })) {
            (_, Err(LeaseRefusal::Done)) => {
                cut.day.shares.retain(|_, lease| matches!(lease.state, LeaseState::Held { .. }));
                return Claim::Completed;
            }
            (Some(number), Ok(mut day)) => (number, day.shares.remove(&number).expect("the share that was claimed")),
            _ => return Claim::Held,
        };
        let fence = lease.fence;
        cut.day.shares.insert(number, lease);
        let run = self.begin_run();
        let (subjects, holder) =
            self.dates.get_mut(&date).and_then(|cut| cut.shares.get_mut(&number)).expect("a share");
        let subjects = subjects.clone();
        if let Some(before) = holder.replace(run) {
            self.runs[before].is_running = false;
        }
        Claim::Share(Claimed { number, fence, run, subjects })
    }

    /// A step of the one who holds a share.
    fn step_lease(&mut self, date: NaiveDate, number: i64, event: LeaseEvent) -> Result<(), Refused> {
        let lease = self.dates.get_mut(&date).and_then(|cut| cut.day.shares.get_mut(&number));
        let lease = lease.ok_or(Refused::Fenced)?;
        *lease = lease::step(lease, event).map_err(|_| Refused::Fenced)?;
        Ok(())
    }

    pub fn renew(&mut self, date: NaiveDate, (number, fence): (i64, i64), now: i64) -> Result<(), Refused> {
        self.step_lease(date, number, LeaseEvent::Renewed { fence, now })
    }

    /// Notes that a run could not go on, and lets its share go.
    pub fn fail(&mut self, date: NaiveDate, run: usize, held: Option<(i64, i64)>) -> Result<(), Refused> {
        if let Some((number, fence)) = held {
            self.step_lease(date, number, LeaseEvent::Released { fence })?;
        }
        self.runs[run].is_running = false;
        Ok(())
    }

    /// Writes a batch: all checks first, in the end all of it.
    pub fn apply(&mut self, company: &Company, batch: &Batch, guards: Guards) -> Result<(), Refused> {
        let payments: Vec<&Payment> = batch.payments().collect();
        let is_there = |payment: &&Payment| {
            let has_line =
                |rental: &String, period| self.lines.get(rental).is_some_and(|lines| lines.contains(&period));
            self.payments.contains_key(&(payment.subject.clone(), payment.billing_period))
                || payment.lines.iter().any(|line| has_line(&line.rental_id, line.billing_period))
        };
        if guards.unique_key && payments.iter().any(is_there) {
            return Err(Refused::Conflict);
        }
        let series = payments.first().map(|payment| {
            let series = company.tenant.invoice_number_format.series(payment.issue_date.year());
            let first = if self.series.is_empty() { company.tenant.first_invoice_number } else { 1 };
            let new = Series { first, last: first - 1, issued_on: payment.issue_date };
            let at = self.series.get(&series).copied().unwrap_or(new);
            (series, Series { issued_on: at.issued_on.max(payment.issue_date), ..at })
        });
        if series.as_ref().is_some_and(|(_, at)| at.issued_on != payments[0].issue_date) {
            return Err(Refused::Conflict);
        }
        if guards.fence {
            if self.runs[batch.run].batches != batch.batches_before || !self.runs[batch.run].is_running {
                return Err(Refused::Fenced);
            }
            if let Some(held) = batch.held {
                self.renew(batch.run_date, held, batch.now + batch.skew)?;
            }
        }
        if let Some((series, at)) = series {
            let last = at.last + payments.len() as i64;
            self.numbers.extend((at.last + 1..=last).map(|number| (series.clone(), number)));
            self.series.insert(series, Series { last, ..at });
        }
        for payment in payments {
            *self.payments.entry((payment.subject.clone(), payment.billing_period)).or_default() += 1;
            for line in &payment.lines {
                self.lines.entry(line.rental_id.clone()).or_default().push(line.billing_period);
            }
            if let MailPlan::To(recipients) = &payment.mail {
                for _ in 0..recipients.count() {
                    self.open_mails.insert(self.mails.len());
                    self.mails.push(Mail::queued(batch.now));
                }
            }
        }
        for (plan, _) in &batch.plans {
            if !matches!(plan.outcome, Outcome::NotDue) {
                self.outcomes.insert((batch.run_date, plan.subject.clone()));
            }
            for withheld in &plan.withheld {
                let marks = self.marks.entry(withheld.rental_id.clone()).or_default();
                for &period in &withheld.periods {
                    if !marks.iter().any(|(marked, _)| *marked == period) {
                        marks.push((period, Mark::Withheld));
                    }
                }
            }
        }
        self.runs[batch.run].batches += 1;
        Ok(())
    }

    /// Ends a run well; the last share, and a run of the whole date, complete the date.
    pub fn complete(
        &mut self,
        date: NaiveDate,
        run: usize,
        held: Option<(i64, i64)>,
        now: i64,
        guards: Guards,
    ) -> Result<bool, Refused> {
        let day = self.dates.get(&date).map(|cut| Day { completed: false, ..cut.day.clone() }).unwrap_or_default();
        let event = held.map_or(DayEvent::RunWhole { now }, |(share, fence)| DayEvent::Finished { share, fence });
        let day = day::step(&day, event).map_err(|_| Refused::Fenced)?;
        if guards.fence && !self.runs[run].is_running {
            return Err(Refused::Fenced);
        }
        self.runs[run].is_running = false;
        let completed = day.completed;
        if let Some(cut) = self.dates.get_mut(&date) {
            cut.day = day;
        }
        if let (true, Err(place)) = (completed, self.completed.binary_search(&date)) {
            self.completed.insert(place, date);
        }
        Ok(completed)
    }

    /// Claims mails that are due, as the statement does.
    pub fn claim_mails(&mut self, limit: usize, now: i64, lease_until: i64) -> Vec<(usize, i64, Tried)> {
        let is_due = |mail: &Mail| matches!(mail.state, MailState::Pending | MailState::Unknown) && mail.next_at <= now;
        let due: Vec<usize> = self.open_mails.iter().copied().filter(|&n| is_due(&self.mails[n])).take(limit).collect();
        let claim = |n: usize| {
            let mail = &mut self.mails[n];
            mail.state = step(mail.state, MailEvent::Claimed).expect("a mail that can be claimed");
            mail.fence += 1;
            mail.lease_until = lease_until;
            (n, mail.fence, mail.tried)
        };
        due.into_iter().map(claim).collect()
    }

    /// Mails whose lease ran out.
    pub fn expired_mails(&self, now: i64) -> Vec<usize> {
        let ran_out = |mail: &Mail| mail.state == MailState::Sending && mail.lease_until <= now;
        self.open_mails.iter().copied().filter(|&n| ran_out(&self.mails[n])).collect()
    }

    /// Makes due what a clock that was set far ahead has put off or claimed.
    pub fn recall_mails(&mut self, now: i64) {
        let far = now + 2 * DAY;
        for &n in &self.open_mails {
            let mail = &mut self.mails[n];
            if mail.next_at > far {
                mail.next_at = now;
            }
            if mail.state == MailState::Sending && mail.lease_until > far {
                mail.lease_until = now;
            }
        }
    }

    /// Writes what became of a mail, if the one who says so may.
    pub fn settle_mail(&mut self, n: usize, fence: i64, settled: &Settled, now: i64) {
        let mail = &mut self.mails[n];
        let is_proof = settled.state == MailState::Sent;
        let writes = match mail.state {
            MailState::Sending => true,
            MailState::Unknown | MailState::Held => is_proof,
            _ => false,
        };
        if !writes || fence != mail.fence {
            return;
        }
        (mail.state, mail.tried) = (settled.state, settled.tried);
        if let Some(seconds) = settled.wait_seconds {
            mail.next_at = now + seconds * 1_000_000;
        }
        if !matches!(mail.state, MailState::Pending | MailState::Sending | MailState::Unknown) {
            self.open_mails.remove(&n);
        }
    }

    /// What may never be, as far as a batch that was committed could have caused it.
    pub fn fault(&self, batch: &Batch) -> Option<String> {
        for payment in batch.payments() {
            let key = (payment.subject.clone(), payment.billing_period);
            if self.payments.get(&key) != Some(&1) {
                return Some(format!("I1: {} was billed twice for {}", key.0, key.1));
            }
            for line in &payment.lines {
                let lines = &self.lines[&line.rental_id];
                if lines.iter().filter(|period| **period == line.billing_period).count() != 1 {
                    return Some(format!("I2: {} was charged twice for {}", line.rental_id, line.billing_period));
                }
            }
            let sums = payment.lines.iter().fold((0, 0), |sum, line| (sum.0 + line.amount, sum.1 + line.tax_amount));
            if sums != (payment.subtotal, payment.tax_amount) || payment.subtotal + payment.tax_amount != payment.total
            {
                return Some(format!("I3: the lines of {} do not add up", payment.payment_id));
            }
        }
        let given: i64 = self.series.values().map(|series| series.last - series.first + 1).sum();
        (given != self.numbers.len() as i64 || given != self.payments.len() as i64).then(|| {
            format!("I5, I6: {} payments, {given} numbers, {} different ones", self.payments.len(), self.numbers.len())
        })
    }

    /// A completed date on which somebody due has no outcome.
    pub fn missed_on_completed(&self, company: &Company, date: NaiveDate) -> Option<String> {
        let period = BillingPeriod::of(date);
        let owed = |n: &usize| {
            let subject = &company.subjects[*n];
            let billable = |member: &usize| company.rentals[*member].billable_on(date, company.tenant.contract_end);
            subject.members.iter().any(billable)
                && !self.payments.contains_key(&(subject.subject.clone(), period))
                && !self.outcomes.contains(&(date, subject.subject.clone()))
        };
        let missed = company.due(date).into_iter().find(owed)?;
        Some(format!("I8: {date} is completed, and {} has no outcome", company.subjects[missed].subject))
    }

    /// How many payments there are.
    pub fn count(&self) -> u64 {
        self.payments.len() as u64
    }

    /// Rental and period of all lines.
    pub fn charged(&self) -> BTreeSet<(String, BillingPeriod)> {
        self.lines.iter().flat_map(|(rental, lines)| lines.iter().map(|line| (rental.clone(), *line))).collect()
    }
}

impl Mail {
    fn queued(now: i64) -> Self {
        let (state, tried) = (MailState::Pending, Tried::default());
        Self { state, fence: 0, lease_until: 0, next_at: now, tried, copies: 0, doubts: 0 }
    }
}

fn cut(due: Vec<usize>, share_size: usize) -> SharedDate {
    let mut chunks: Vec<Vec<usize>> = due.chunks(share_size).map(<[usize]>::to_vec).collect();
    if chunks.is_empty() {
        chunks.push(Vec::new());
    }
    let shares: BTreeMap<i64, _> = (1..).zip(chunks.into_iter().map(|chunk| (chunk, None))).collect();
    let free = Lease { state: LeaseState::Free, fence: 0 };
    let day = Day { completed: false, shares: shares.keys().map(|&number| (number, free.clone())).collect() };
    SharedDate { day, shares }
}
