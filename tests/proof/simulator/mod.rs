//! Three years of several daemons in one thread, from one seed: databases that fail and give no answer, processes that die and
//! stall, clocks that are set, a mail server that drops its answers, a person who runs dates beside. What may never be is
//! looked for at each commit, and what was charged in the end is compared with a plain walk over all days.

pub mod company;
mod daemon;
pub mod dice;
mod ledger;

use billday::domain::BillingPeriod;
use billday::domain::calendar::{local_date, wake_instant};
use billday::domain::message::{MailState, WhenUnknown};
use chrono::{DateTime, Days, Months, NaiveDate, Utc};

use company::Company;
use daemon::{Biller, Process};
use dice::Dice;
use ledger::{Batch, Ledger};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How long a history is.
const MONTHS: u32 = 36;
/// In the end nothing fails any more, so that all is charged and sent that ever will be.
const CALM_DAYS: u64 = 62;
/// Daemons; the last process is a person's.
const DAEMONS: usize = 3;

/// What stands between the daemons and a wrong bill; each can be taken away.
#[derive(Debug, Clone, Copy)]
pub struct Guards {
    /// The database refuses a second line and a second payment.
    pub unique_key: bool,
    /// Whoever lost its share, and whose run was ended, writes nothing more.
    pub fence: bool,
    /// After a commit without an answer the run's row is read.
    pub doubt: bool,
    /// Nothing is billed by a clock that cannot be believed.
    pub clock: bool,
    /// A doubted mail is sent again once, not each time.
    pub once: bool,
}

const ALL: Guards = Guards { unique_key: true, fence: true, doubt: true, clock: true, once: true };

/// What happened, to be sure that it did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Told {
    pub turns: u64,
    pub payments: u64,
    pub mails: u64,
    /// Mails that went out twice.
    pub doubles: u64,
    pub crashes: u64,
    pub stalls: u64,
    pub takeovers: u64,
    pub fenced: u64,
    pub conflicts: u64,
    pub lost_answers: u64,
    pub alarms: u64,
    pub outages: u64,
}

/// All there is.
pub struct World {
    dice: Dice,
    guards: Guards,
    /// The true time, in microseconds.
    now: i64,
    calm_from: i64,
    end: i64,
    companies: Vec<Company>,
    ledgers: Vec<Ledger>,
    processes: Vec<Process>,
    /// Clocks that are set for a while: from, to, by how much, on which process.
    jumps: Vec<(i64, i64, i64, usize)>,
    /// As with PostgreSQL; without, all processes are on one machine, as with SQLite.
    has_database_clock: bool,
    last_seen: Option<i64>,
    last_outage: i64,
    when_unknown: WhenUnknown,
    /// How many turns of a thousand something goes wrong in.
    risk: u64,
    share_size: usize,
    batch_size: usize,
    told: Told,
    fault: Option<String>,
}

impl World {
    fn new(seed: u64, guards: Guards) -> Self {
        let mut dice = Dice::new(seed);
        let begin = NaiveDate::from_ymd_opt(2026, 1, 1).expect("a date") + Days::new(dice.below(60));
        let end = begin + Months::new(MONTHS);
        let at = |date: NaiveDate| date.and_hms_opt(12, 0, 0).expect("a time").and_utc().timestamp_micros();
        let (begin_at, end_at, calm_from) = (at(begin), at(end), at(end - Days::new(CALM_DAYS)));
        let companies: Vec<Company> =
            (0..1 + dice.below(2) as usize).map(|n| Company::draw(&mut dice, n, begin)).collect();
        let has_database_clock = dice.below(2) == 0;
        let processes = (0..=DAEMONS).map(|n| {
            let offset = if has_database_clock { dice.between(-120, 120) * SECOND } else { 0 };
            let mut process = Process::new(offset, begin_at + dice.between(0, 600) * SECOND);
            process.is_up = n < DAEMONS;
            process
        });
        let processes = processes.collect();
        // Most of them while something is billed.
        let jump = |dice: &mut Dice| {
            let company = &companies[dice.below(companies.len() as u64) as usize];
            let subject = &company.subjects[dice.below(company.subjects.len() as u64) as usize];
            let month = BillingPeriod::of(begin).plus(dice.between(2, i64::from(MONTHS) - 5) as i32);
            let due = wake_instant(subject.day.date_in(month), company.tenant.run_at, company.tenant.time_zone);
            let from = due.timestamp_micros() + dice.between(-10, 60) * SECOND;
            let by = dice.one_of(&[DAY, -DAY, 3 * HOUR, -3 * HOUR, 3653 * DAY]);
            (from, from + dice.between(5, 300) * MINUTE, by, dice.below(DAEMONS as u64) as usize)
        };
        let jumps = (0..8).map(|_| jump(&mut dice)).collect();
        Self {
            guards,
            now: begin_at,
            calm_from,
            end: end_at,
            ledgers: companies.iter().map(|_| Ledger::default()).collect(),
            companies,
            processes,
            jumps,
            has_database_clock,
            last_seen: None,
            last_outage: 0,
            when_unknown: dice.one_of(&[WhenUnknown::Resend, WhenUnknown::Hold]),
            risk: dice.one_of(&[2, 15, 60]),
            share_size: 1 + dice.below(3) as usize,
            batch_size: 1 + dice.below(2) as usize,
            told: Told::default(),
            fault: None,
            dice,
        }
    }

    /// What a process's clock shows.
    fn wall(&self, n: usize) -> i64 {
        let is_on = |(from, to, _, process): &&(i64, i64, i64, usize)| {
            (*from..*to).contains(&self.now) && (*process == n || !self.has_database_clock)
        };
        let jump: i64 = self.jumps.iter().find(is_on).map_or(0, |(_, _, by, _)| *by);
        self.now + self.processes[n].offset + jump
    }

    fn is_any_clock_wrong(&self) -> bool {
        self.jumps.iter().any(|(from, to, ..)| (*from..*to).contains(&self.now))
    }

    fn is_risky(&mut self) -> bool {
        self.now < self.calm_from && self.dice.permille(self.risk)
    }

    /// Whether the database refuses or is busy.
    fn fails(&mut self) -> bool {
        self.is_risky()
    }

    fn answer_is_lost(&mut self) -> bool {
        self.is_risky()
    }

    fn blame(&mut self, fault: Option<String>) {
        if let (None, Some(fault)) = (&self.fault, fault) {
            let time = DateTime::<Utc>::from_timestamp_micros(self.now).expect("an instant");
            self.fault = Some(format!("at {time}: {fault}"));
        }
    }

    fn check_batch(&mut self, tenant: usize, batch: &Batch) {
        let fault = self.ledgers[tenant].fault(batch);
        self.blame(fault);
        let now = DateTime::from_timestamp_micros(self.now + 2 * HOUR + 5 * MINUTE).expect("an instant");
        let today = local_date(now, self.companies[tenant].tenant.time_zone);
        let ahead = batch.payments().find(|payment| batch.run_date > today || payment.issue_date > today);
        let fault = ahead.map(|payment| {
            format!("the future is billed: run date {}, issued on {}", batch.run_date, payment.issue_date)
        });
        self.blame(fault);
    }

    /// New mails wake whoever sends.
    fn ring(&mut self) {
        for process in &mut self.processes[..DAEMONS] {
            process.next_mailing = process.next_mailing.min(self.now.max(process.next_billing.min(self.now)) + SECOND);
        }
    }

    /// Somebody dies, or all do for weeks.
    fn strike(&mut self, n: usize) {
        // A process that starts with a wrong clock and no other to compare it with cannot know: that is told in the manual.
        if self.is_any_clock_wrong() && !self.has_database_clock {
            return;
        }
        // Two in a row would leave more gaps than are charged without a person (rule 8).
        let long = self.dice.below(40) == 0 && self.told.outages < 5 && self.now - self.last_outage > 100 * DAY;
        if long {
            self.last_outage = self.now;
        }
        let struck = if long { 0..DAEMONS } else { n..n + 1 };
        self.told.outages += u64::from(long);
        for n in struck {
            let away = if long { self.dice.between(1, 35) * DAY } else { self.dice.between(1, 7200) * SECOND };
            let mut until = self.now + away;
            if !self.has_database_clock {
                for (from, to, ..) in &self.jumps {
                    if (*from..*to).contains(&until) {
                        until = *to;
                    }
                }
            }
            if let Some(mail) = self.processes[n].mail_in_flight() {
                self.ledgers[mail.tenant].mails[mail.mail].doubts += 1;
            }
            self.told.crashes += 1;
            self.processes[n].crash(until.min(self.calm_from));
        }
    }

    fn live(mut self) -> Result<Told, String> {
        while self.now < self.end && self.fault.is_none() {
            self.told.turns += 1;
            let billing =
                self.processes.iter().enumerate().filter(|(_, p)| p.is_up).map(|(n, p)| (p.next_billing, n, true));
            let mailing = (0..DAEMONS).map(|n| (self.processes[n].next_mailing, n, false));
            let (at, n, bills) = billing.chain(mailing).min().expect("a process");
            self.now = self.now.max(at);
            if n < DAEMONS && self.is_risky() && self.dice.below(4) == 0 {
                self.strike(n);
                continue;
            }
            if bills {
                self.bill(n);
                if n == DAEMONS && matches!(self.processes[n].biller, Biller::Asleep | Biller::Claiming { .. }) {
                    self.processes[n].biller = Biller::Asleep;
                    self.processes[n].is_up = false;
                }
            } else {
                self.mail(n);
            }
            // Who runs a date by hand under a wrong clock is not warned, and chose the date.
            let is_quiet = self.has_database_clock || !self.is_any_clock_wrong();
            if !self.processes[DAEMONS].is_up && self.is_risky() && self.dice.below(8) == 0 && is_quiet {
                self.processes[DAEMONS].is_up = true;
                self.run_whole(DAEMONS);
            }
        }
        self.judge_the_end();
        match self.fault {
            None => Ok(self.told),
            Some(fault) => Err(fault),
        }
    }

    /// All that was owed is charged and nothing else; all mails came to an end.
    fn judge_the_end(&mut self) {
        for n in 0..self.companies.len() {
            let company = &self.companies[n];
            let now = DateTime::from_timestamp_micros(self.now).expect("an instant");
            let last = local_date(now, company.tenant.time_zone) - Days::new(2);
            let owed = company.owed(last);
            let charged = self.ledgers[n].charged();
            let missing: Vec<_> = owed.difference(&charged).collect();
            let until = BillingPeriod::of(last);
            let extra: Vec<_> = charged.difference(&owed).filter(|(_, period)| *period < until).collect();
            let mails = &self.ledgers[n].mails;
            let stuck = mails.iter().position(|mail| !matches!(mail.state, MailState::Sent | MailState::Held));
            self.told.payments += self.ledgers[n].count();
            self.told.mails += mails.len() as u64;
            self.told.doubles += mails.iter().filter(|mail| mail.copies > 1).count() as u64;
            let fault = (!missing.is_empty())
                .then(|| format!("never charged: {missing:?}; marked: {:?}", self.ledgers[n].marks));
            let fault = fault.or((!extra.is_empty()).then(|| format!("charged and not owed: {extra:?}")));
            let fault = fault.or(stuck.map(|mail| format!("mail {mail} is {} in the end", mails[mail].state)));
            self.blame(fault);
        }
    }
}

/// Histories in CI; `BILLDAY_TEST_TORTURE` multiplies them.
const SEEDS: u64 = 40;

fn torture() -> u64 {
    std::env::var("BILLDAY_TEST_TORTURE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// The seed of the first history: the others follow it.
fn first_seed() -> u64 {
    let given = std::env::var("BILLDAY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1)
}

fn add(sum: &mut Told, told: Told) {
    let Told {
        turns,
        payments,
        mails,
        doubles,
        crashes,
        stalls,
        takeovers,
        fenced,
        conflicts,
        lost_answers,
        alarms,
        outages,
    } = told;
    for (sum, more) in [
        (&mut sum.turns, turns),
        (&mut sum.payments, payments),
        (&mut sum.mails, mails),
        (&mut sum.doubles, doubles),
        (&mut sum.crashes, crashes),
        (&mut sum.stalls, stalls),
        (&mut sum.takeovers, takeovers),
        (&mut sum.fenced, fenced),
        (&mut sum.conflicts, conflicts),
        (&mut sum.lost_answers, lost_answers),
        (&mut sum.alarms, alarms),
        (&mut sum.outages, outages),
    ] {
        *sum += more;
    }
}

#[test]
fn three_years_of_any_faults_charge_what_is_owed_once_and_lose_no_mail() {
    let (first, count) = (first_seed(), SEEDS * torture());
    let half = |threads: u64| {
        let mut sum = Told::default();
        for n in (0..count).filter(|n| n % 2 == threads) {
            let seed = first.wrapping_add(n);
            match World::new(seed, ALL).live() {
                Ok(told) => add(&mut sum, told),
                Err(fault) => panic!("{fault}\nto repeat: BILLDAY_TEST_SEED={seed}"),
            }
        }
        sum
    };
    let sum = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let mut sum = half(0);
        add(&mut sum, other.join().expect("the other half"));
        sum
    });
    eprintln!("{count} histories of {MONTHS} months: {sum:?}");
    let seen =
        [sum.crashes, sum.stalls, sum.takeovers, sum.fenced, sum.conflicts, sum.lost_answers, sum.alarms, sum.outages];
    assert!(seen.iter().all(|&times| times >= count / 4), "this tested nothing: {sum:?}");
}

/// The first of some histories in which a guard that is missing shows.
fn found(guards: Guards, what: &str) -> String {
    const HISTORIES: u64 = 60;
    let first = first_seed();
    let faults = (0..HISTORIES).map(|n| (n, World::new(first.wrapping_add(n), guards).live()));
    let (n, fault) = faults
        .filter_map(|(n, lived)| Some((n, lived.err()?)))
        .find(|(_, fault)| fault.contains(what))
        .unwrap_or_else(|| panic!("{HISTORIES} histories from {first} do not show {what:?} with {guards:?}"));
    eprintln!("history {} shows it: {fault}", n + 1);
    fault
}

#[test]
fn the_simulator_sees_that_the_unique_key_is_missing() {
    found(Guards { unique_key: false, ..ALL }, "twice");
}

#[test]
fn the_simulator_sees_that_unique_key_and_fence_are_missing() {
    found(Guards { unique_key: false, fence: false, ..ALL }, "twice");
}

#[test]
fn the_simulator_sees_that_a_lost_answer_is_taken_for_a_commit() {
    found(Guards { doubt: false, ..ALL }, "has no outcome");
}

#[test]
fn the_simulator_sees_that_any_clock_is_believed() {
    found(Guards { clock: false, ..ALL }, "the future is billed");
}

#[test]
fn the_simulator_sees_that_doubted_mails_are_sent_again_each_time() {
    found(Guards { once: false, ..ALL }, "went out");
}
