//! The processes: daemons that bill and send, and a person who runs a date by hand. Each turn of a process is one transaction,
//! one look or one word to the mail server; between two turns anything may happen.

use std::collections::VecDeque;

use billday::clock::instant;
use billday::domain::calendar::{local_date, wake_instant};
use billday::domain::catch_up::{counted_from, is_due, missed};
use billday::domain::lease::LEASE_MICROS;
use billday::domain::message::{Attempt, CHANCES, MailState, Patience, Tried};
use billday::domain::plan::{PlanContext, plan};
use billday::domain::timekeeping::{Reading, check};
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};

use super::ledger::{Batch, Claim, Claimed, Refused};
use super::{HOUR, MINUTE, SECOND, World};

/// One machine's process and what it remembers.
pub struct Process {
    /// How far its clock is from the true time while nobody sets it.
    pub offset: i64,
    pub is_up: bool,
    good: Option<Reading>,
    skew: i64,
    pub biller: Biller,
    pub mailer: Mailer,
    pub next_billing: i64,
    pub next_mailing: i64,
}

pub enum Biller {
    Asleep,
    Claiming { tenant: usize, dates: VecDeque<NaiveDate> },
    Running { dates: VecDeque<NaiveDate>, run: Run },
}

/// A share, or a whole date, while it is run.
pub struct Run {
    tenant: usize,
    date: NaiveDate,
    held: Option<(i64, i64)>,
    run: usize,
    subjects: Vec<usize>,
    done: usize,
    batches: u32,
    planned: Option<Batch>,
    /// It committed, and no answer came.
    is_in_doubt: bool,
    /// Its batch takes so long, and its lease is renewed beside.
    slow_until: i64,
    /// How far the clock was from the one that nobody sets when it began: it stays so until the end.
    ahead: i64,
}

#[derive(Default)]
pub struct Mailer {
    claimed: VecDeque<ClaimedMail>,
    /// The last look at the lease is over: the dot comes next.
    at_dot: bool,
    known: Option<Attempt>,
}

#[derive(Clone, Copy)]
pub struct ClaimedMail {
    pub tenant: usize,
    pub mail: usize,
    fence: i64,
    tried: Tried,
    /// By a clock that nobody sets.
    deadline: i64,
}

/// As `deliver::LEASE`.
const MAIL_LEASE: i64 = 20 * MINUTE;

impl Process {
    pub fn new(offset: i64, starts: i64) -> Self {
        let (biller, mailer) = (Biller::Asleep, Mailer::default());
        let (next_billing, next_mailing) = (starts, starts);
        Self { offset, is_up: true, good: None, skew: 0, biller, mailer, next_billing, next_mailing }
    }

    /// Forgets everything, and comes back later.
    pub fn crash(&mut self, until: i64) {
        *self = Self::new(self.offset, until);
    }

    /// The mail whose word to the server is being said.
    pub fn mail_in_flight(&self) -> Option<ClaimedMail> {
        self.mailer.claimed.front().copied().filter(|_| self.mailer.at_dot || self.mailer.known.is_some())
    }
}

impl World {
    fn now_of(&self, n: usize) -> DateTime<Utc> {
        instant(self.wall(n)).expect("an instant")
    }

    fn is_believed(&mut self, n: usize, with_database: bool) -> bool {
        let database = if self.has_database_clock && with_database { Some(self.now) } else { None };
        let last_seen = if with_database { self.last_seen } else { None };
        let reading = Reading { wall: self.wall(n), steady: self.now, database, last_seen };
        if self.guards.clock && check(&reading, self.processes[n].good.as_ref()).is_some() {
            self.told.alarms += 1;
            return false;
        }
        let process = &mut self.processes[n];
        process.good = Some(reading);
        if with_database {
            process.skew = database.map_or(0, |database| database - reading.wall);
        }
        true
    }

    pub fn bill(&mut self, n: usize) {
        let biller = std::mem::replace(&mut self.processes[n].biller, Biller::Asleep);
        let (biller, pause) = match biller {
            Biller::Asleep => self.tick(n),
            Biller::Claiming { tenant, dates } => self.claim(n, tenant, dates),
            Biller::Running { dates, run } => self.go_on(n, dates, run),
        };
        let process = &mut self.processes[n];
        process.biller = biller;
        process.next_billing = self.now + pause;
    }

    /// Looks what is due; ticks on which nothing would be found are left out, but for some.
    fn tick(&mut self, n: usize) -> (Biller, i64) {
        if !self.is_believed(n, true) {
            return (Biller::Asleep, self.dice.between(1, 20) * MINUTE);
        }
        let now = self.now_of(n);
        let count = self.companies.len();
        for tenant in (0..count).map(|place| (place + n) % count) {
            let company = &self.companies[tenant];
            let completed = &self.ledgers[tenant].completed;
            if !is_due(&company.tenant, now, completed.last().copied()) {
                continue;
            }
            let today = local_date(now, company.tenant.time_zone);
            let dates = completed.first().map(|&first| {
                let from = counted_from(&company.tenant, first);
                let counted = &completed[completed.partition_point(|date| *date < from)..];
                missed(&company.tenant, today, first, counted)
            });
            let dates = dates.unwrap_or_default().recent.into_iter().chain([today]).collect();
            return (Biller::Claiming { tenant, dates }, 0);
        }
        let seen = self.wall(n);
        self.last_seen = self.last_seen.max(Some(seen));
        self.ledgers.iter_mut().for_each(|ledger| ledger.recall_mails(seen));
        let wakes = self.companies.iter().flat_map(|company| {
            let today = local_date(now, company.tenant.time_zone);
            [today, today + Days::new(1)]
                .map(|date| wake_instant(date, company.tenant.run_at, company.tenant.time_zone))
        });
        let next =
            wakes.filter(|wake| *wake > now).min().map_or(HOUR, |wake| (wake - now).num_microseconds().unwrap_or(HOUR));
        let next = if self.dice.permille(100) { self.dice.between(1, 300) * MINUTE } else { next };
        (Biller::Asleep, next + self.dice.between(0, 60) * SECOND)
    }

    fn claim(&mut self, n: usize, tenant: usize, mut dates: VecDeque<NaiveDate>) -> (Biller, i64) {
        let Some(&date) = dates.front() else { return (Biller::Asleep, SECOND) };
        if !self.is_believed(n, false) {
            return (Biller::Asleep, MINUTE);
        }
        if self.fails() {
            return (Biller::Claiming { tenant, dates }, SECOND);
        }
        let now = self.wall(n) + self.processes[n].skew;
        let share_size = self.share_size;
        match self.ledgers[tenant].claim(&self.companies[tenant], date, share_size, now) {
            Claim::Completed => {
                dates.pop_front();
                (Biller::Claiming { tenant, dates }, 0)
            }
            Claim::Held => (Biller::Asleep, self.dice.between(2, 10) * SECOND),
            Claim::Share(claimed) => {
                self.told.takeovers += u64::from(claimed.fence > 1);
                if self.answer_is_lost() {
                    // It holds a share and does not know: the lease runs out.
                    return (Biller::Asleep, SECOND);
                }
                let run = Run::new(tenant, date, claimed, false, self.wall(n) - self.now);
                (Biller::Running { dates, run }, self.pause())
            }
        }
    }

    /// A person runs a date by hand, beside whatever goes on.
    pub fn run_whole(&mut self, n: usize) {
        let tenant = self.dice.below(self.companies.len() as u64) as usize;
        let company = &self.companies[tenant];
        let today = local_date(self.now_of(n), company.tenant.time_zone);
        let date = (today - Days::new(self.dice.below(3) * self.dice.below(10))).max(company.tenant.bill_from);
        let (subjects, run) = (company.due(date), self.ledgers[tenant].begin_run());
        let run = Run::new(tenant, date, Claimed { number: 0, fence: 0, run, subjects }, true, self.wall(n) - self.now);
        self.processes[n].biller = Biller::Running { dates: VecDeque::new(), run };
        self.processes[n].next_billing = self.now;
    }

    /// One turn of a run.
    fn go_on(&mut self, n: usize, dates: VecDeque<NaiveDate>, mut run: Run) -> (Biller, i64) {
        let lease_now = self.now + run.ahead + self.processes[n].skew;
        let ledger = &mut self.ledgers[run.tenant];
        if self.now < run.slow_until {
            if let Some(held) = run.held {
                // A renewal that is refused ends the renewing, not the run.
                let _ = ledger.renew(run.date, held, lease_now);
            }
            let pause = (run.slow_until - self.now).min(LEASE_MICROS / 4);
            return (Biller::Running { dates, run }, pause);
        }
        if run.is_in_doubt {
            run.is_in_doubt = false;
            if ledger.batches(run.run) > run.batches || !self.guards.doubt {
                run.batches += 1;
                run.done += run.planned.take().map_or(0, |batch| batch.plans.len());
            } else {
                run.planned = None;
            }
            return (Biller::Running { dates, run }, self.pause());
        }
        let result = match run.planned.take() {
            None if run.done < run.subjects.len() => {
                run.planned = Some(self.plan(n, &run));
                let pause = self.stall(&mut run);
                return (Biller::Running { dates, run }, pause);
            }
            None => match self.complete(&run) {
                Ok(()) => return (Biller::Claiming { tenant: run.tenant, dates }, self.pause()),
                refused => refused,
            },
            Some(batch) => self.write(&mut run, batch),
        };
        match result {
            Ok(()) | Err(Refused::Conflict | Refused::Busy) => (Biller::Running { dates, run }, self.pause()),
            Err(Refused::Fenced) => {
                self.told.fenced += 1;
                let _ = self.ledgers[run.tenant].fail(run.date, run.run, run.held);
                (Biller::Asleep, self.dice.between(1, 10) * SECOND)
            }
        }
    }

    fn plan(&mut self, n: usize, run: &Run) -> Batch {
        let (company, ledger) = (&self.companies[run.tenant], &self.ledgers[run.tenant]);
        let end = (run.done + self.batch_size).min(run.subjects.len());
        let read = ledger.read(company, run.date, &run.subjects[run.done..end]);
        let now = instant(self.now + run.ahead).expect("an instant");
        let today = local_date(now, company.tenant.time_zone);
        let issue_date = ledger.issue_date(company, today);
        let context = PlanContext { tenant: &company.tenant, run_date: run.date, issue_date };
        let (due, recorded): (Vec<_>, Vec<bool>) = read.into_iter().unzip();
        let plans = plan(context, &due).subjects.into_iter().zip(recorded).collect();
        Batch {
            plans,
            run: run.run,
            run_date: run.date,
            held: run.held,
            batches_before: run.batches,
            now: self.now + run.ahead,
            skew: self.processes[n].skew,
        }
    }

    fn write(&mut self, run: &mut Run, batch: Batch) -> Result<(), Refused> {
        if batch.is_on_record() {
            run.done += batch.plans.len();
            return Ok(());
        }
        if self.fails() {
            return Err(Refused::Busy);
        }
        let is_lost = self.answer_is_lost();
        let arrives = !is_lost || self.dice.below(2) == 0;
        if arrives {
            let (company, guards) = (&self.companies[run.tenant], self.guards);
            let result = self.ledgers[run.tenant].apply(company, &batch, guards);
            self.told.conflicts += u64::from(result == Err(Refused::Conflict));
            result?;
            self.check_batch(run.tenant, &batch);
            self.ring();
        }
        if is_lost {
            self.told.lost_answers += 1;
            (run.is_in_doubt, run.planned) = (true, Some(batch));
        } else {
            run.batches += 1;
            run.done += batch.plans.len();
        }
        Ok(())
    }

    fn complete(&mut self, run: &Run) -> Result<(), Refused> {
        if self.fails() {
            return Err(Refused::Fenced);
        }
        let is_lost = self.answer_is_lost();
        if !is_lost || self.dice.below(2) == 0 {
            let now = self.now + run.ahead;
            let completed = self.ledgers[run.tenant].complete(run.date, run.run, run.held, now, self.guards)?;
            if completed {
                let fault = self.ledgers[run.tenant].missed_on_completed(&self.companies[run.tenant], run.date);
                self.blame(fault);
            }
        }
        // Whoever has no answer calls the run failed; what was committed stays.
        if is_lost { Err(Refused::Fenced) } else { Ok(()) }
    }

    /// Between planning and writing: most often nothing, at times a slow batch, or a process that stops for minutes.
    fn stall(&mut self, run: &mut Run) -> i64 {
        if !(0..3).any(|_| self.is_risky()) {
            return self.pause();
        }
        let long = self.dice.between(30, 300) * SECOND;
        if self.dice.below(2) == 0 {
            run.slow_until = self.now + long;
            return LEASE_MICROS / 4;
        }
        self.told.stalls += 1;
        long
    }

    fn pause(&mut self) -> i64 {
        self.dice.between(1, 3_000) * 1_000
    }

    /// One turn of a process's mailing.
    pub fn mail(&mut self, n: usize) {
        let pause = match self.processes[n].mailer.claimed.front().copied() {
            None => self.take_mails(n),
            Some(mail) => self.send(n, mail),
        };
        self.processes[n].next_mailing = self.now + pause;
    }

    fn patience(&mut self) -> Patience {
        Patience { when_unknown: self.when_unknown, chance: self.dice.below(u64::from(CHANCES)) as u32 }
    }

    /// What was tried with a mail, as its sender remembers it.
    fn tried(&self, tried: Tried) -> Tried {
        if self.guards.once { tried } else { Tried { doubts: 0, ..tried } }
    }

    fn take_mails(&mut self, n: usize) -> i64 {
        if self.fails() {
            return SECOND;
        }
        let (now, patience) = (self.wall(n), self.patience());
        for tenant in 0..self.ledgers.len() {
            for mail in self.ledgers[tenant].expired_mails(now) {
                let (fence, tried) = (self.ledgers[tenant].mails[mail].fence, self.ledgers[tenant].mails[mail].tried);
                let settled = Attempt::Doubted(String::new())
                    .settle(self.tried(tried), patience)
                    .expect("a mail that is being sent");
                self.ledgers[tenant].mails[mail].doubts += 1;
                self.ledgers[tenant].settle_mail(mail, fence, &settled, now);
            }
            let claimed = self.ledgers[tenant].claim_mails(10, now, now + MAIL_LEASE);
            let deadline = self.now + MAIL_LEASE;
            let claimed =
                claimed.into_iter().map(|(mail, fence, tried)| ClaimedMail { tenant, mail, fence, tried, deadline });
            self.processes[n].mailer.claimed.extend(claimed);
        }
        if !self.processes[n].mailer.claimed.is_empty() {
            return self.pause();
        }
        let waits = self.ledgers.iter().flat_map(|ledger| ledger.open_mails.iter().map(|&mail| &ledger.mails[mail]));
        let next =
            waits.map(|mail| if mail.state == MailState::Sending { mail.lease_until } else { mail.next_at }).min();
        next.map_or(24 * HOUR, |next| (next - now).clamp(SECOND, 24 * HOUR))
    }

    fn send(&mut self, n: usize, mail: ClaimedMail) -> i64 {
        if let Some(attempt) = self.processes[n].mailer.known.take() {
            return self.settle(n, mail, attempt);
        }
        if !self.processes[n].mailer.at_dot {
            let mailer = &mut self.processes[n].mailer;
            if self.now >= mail.deadline {
                mailer.known = Some(Attempt::Released(String::new()));
                return 0;
            }
            mailer.at_dot = true;
            // The server takes its time, seldom longer than a lease lasts.
            return if self.is_risky() { self.dice.between(1, 40) * MINUTE } else { self.pause() };
        }
        // Mail servers fail more often than databases.
        let risk = (0..5).any(|_| self.is_risky());
        let attempt = match self.dice.below(5) {
            0 if risk => Attempt::Deferred("451".into()),
            1 if risk => Attempt::Released("421".into()),
            2 if risk => {
                self.ledgers[mail.tenant].mails[mail.mail].doubts += 1;
                Attempt::Doubted("lost".into())
            }
            fate => {
                let sent = &mut self.ledgers[mail.tenant].mails[mail.mail];
                sent.copies += 1;
                if fate == 3 && risk {
                    sent.doubts += 1;
                    Attempt::Doubted("lost".into())
                } else {
                    Attempt::Accepted
                }
            }
        };
        let fault = self.mail_fault(mail);
        self.blame(fault);
        let mailer = &mut self.processes[n].mailer;
        (mailer.at_dot, mailer.known) = (false, Some(attempt));
        self.pause()
    }

    fn settle(&mut self, n: usize, mail: ClaimedMail, attempt: Attempt) -> i64 {
        if self.fails() {
            // It is written again: the fence makes that safe.
            self.processes[n].mailer.known = Some(attempt);
            return SECOND;
        }
        let (now, patience) = (self.wall(n), self.patience());
        let settled =
            attempt.settle(self.tried(mail.tried), patience).expect("a mail that is being sent can become anything");
        self.ledgers[mail.tenant].settle_mail(mail.mail, mail.fence, &settled, now);
        let fault = self.mail_fault(mail);
        self.blame(fault);
        self.processes[n].mailer.claimed.pop_front();
        TimeDelta::milliseconds(10).num_microseconds().unwrap_or_default()
    }

    fn mail_fault(&self, ClaimedMail { tenant, mail: n, .. }: ClaimedMail) -> Option<String> {
        let mail = &self.ledgers[tenant].mails[n];
        if mail.state == MailState::Sent && mail.copies == 0 {
            return Some(format!("mail {n} is called sent and was never taken"));
        }
        let most = match self.when_unknown {
            billday::domain::message::WhenUnknown::Hold => 1,
            billday::domain::message::WhenUnknown::Resend => 2.min(1 + mail.doubts),
        };
        (mail.copies > most).then(|| format!("mail {n} went out {} times after {} doubts", mail.copies, mail.doubts))
    }
}

impl Run {
    fn new(tenant: usize, date: NaiveDate, claimed: Claimed, is_whole: bool, ahead: i64) -> Self {
        let Claimed { number, fence, run, subjects } = claimed;
        let held = (!is_whole).then_some((number, fence));
        let (done, batches, planned, is_in_doubt, slow_until) = (0, 0, None, false, 0);
        Self { tenant, date, held, run, subjects, done, batches, planned, is_in_doubt, slow_until, ahead }
    }
}
