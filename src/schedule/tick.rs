//! One tick: which tenants' dates are due, worked out from the database alone, and run share by share.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use tokio::sync::{Notify, watch};

use crate::clock::{Clock, micros};
use crate::domain::Tenant;
use crate::domain::calendar::{local_date, wake_instant};
use crate::domain::catch_up::is_due;
use crate::domain::plan::BadRecord;
use crate::domain::report::Tally;
use crate::domain::timekeeping::{ClockAlarm, Reading, check};
use crate::monitor::{Monitor, Part};
use crate::render::report::ReportFormat;
use crate::run::{
    DateWork, Dates, Progress, RunSettings, Runner, Schedule, Stopped, TenantWork, Unwatched, Worker, read_clock,
};
use crate::store::daemon::Machine;
use crate::store::parked::ParkedRow;
use crate::store::runs::RunKind;
use crate::store::shares::{Claimed, Share};
use crate::store::{Store, StoreError, is_away};

use super::notify::Notifier;

/// What ticks need.
#[derive(Clone)]
pub(super) struct Bench {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub monitor: Arc<Monitor>,
    pub notifier: Arc<Notifier>,
    pub stop: watch::Receiver<bool>,
    /// Rung when there may be new mails.
    pub mails: Arc<Notify>,
}

/// The daemon's memory between ticks: nothing that must not be lost.
pub(super) struct Engine {
    bench: Bench,
    settings: RunSettings,
    worker: Worker,
    /// Where this daemon is, if no other machine may work on the database.
    machine: Option<Machine>,
    accept_clock: bool,
    /// When this daemon came up: what is parked then is tried once more.
    started: i64,
    /// The last reading of the clock with which nothing was wrong.
    good: Option<Reading>,
    alarm: Option<ClockAlarm>,
    /// Tenants whose last try failed: how often in a row, and when the next one is due.
    failing: HashMap<String, (u32, DateTime<Utc>)>,
    /// What was told of a tenant, and on which day.
    told: HashMap<(String, &'static str), NaiveDate>,
}

/// What a pass over all due tenants came to.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// Some share was run.
    pub worked: bool,
    /// Some date is not completed, because others are at it.
    pub held: bool,
    /// Some tenant could not be run.
    pub failed: bool,
}

/// A tick that went to its end: of what was due when it began, nothing is left to anybody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticked {
    /// In microseconds, as the next.
    pub begun: i64,
    /// When it looked for work for the last time.
    pub ended: i64,
    /// There was work, and no tenant failed.
    pub all_done: bool,
}

/// A daemon is taken to work on a machine for so long after it was seen there: it is seen each minute.
pub const SEEN_FOR: TimeDelta = TimeDelta::seconds(150);

/// What to tell people who use a database of one machine on two.
pub fn elsewhere(host: &str) -> String {
    format!(
        "a daemon on another machine, {host}, works on this SQLite database: stop it there (after a crash wait {} s), or use PostgreSQL",
        SEEN_FOR.num_seconds()
    )
}

/// How often to look whether what others hold has become free.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A tenant that fails is tried after a minute, then after ever longer times up to this one.
const RETRY_MINUTES_MAX: i64 = 60;

impl Engine {
    pub fn new(
        bench: Bench,
        settings: RunSettings,
        worker: Worker,
        machine: Option<Machine>,
        accept_clock: bool,
    ) -> Self {
        let started = micros(bench.clock.now());
        let (failing, told) = Default::default();
        Self { bench, settings, worker, machine, accept_clock, started, good: None, alarm: None, failing, told }
    }

    /// Works until nothing is due; gives nothing if it broke off, told to stop or with a clock that cannot be believed.
    pub async fn tick(&mut self) -> anyhow::Result<Option<Ticked>> {
        let (mut begun, mut worked) = (None, false);
        while let Some(now) = self.believed_time().await? {
            let begun = *begun.get_or_insert(now);
            let pass = self.pass().await?;
            worked |= pass.worked;
            if self.is_stopped() {
                break;
            }
            if !pass.held && !pass.worked {
                self.retry_parked().await?;
                self.see().await?;
                return Ok(Some(Ticked { begun, ended: now, all_done: worked && !pass.failed }));
            }
            if pass.held && !pass.worked {
                let _ = tokio::time::timeout(LOOK_AGAIN, self.bench.stop.wait_for(|stop| *stop)).await;
            }
        }
        Ok(None)
    }

    fn is_stopped(&self) -> bool {
        *self.bench.stop.borrow()
    }

    fn alive(&self) {
        self.bench.monitor.alive(self.bench.clock.now());
        self.bench.notifier.alive();
    }

    /// What time it is, in microseconds; nothing while the clock cannot be believed, or while another machine has the database:
    /// then nothing is billed.
    pub async fn believed_time(&mut self) -> anyhow::Result<Option<i64>> {
        self.alive();
        let Bench { store, clock, .. } = self.bench.clone();
        let reading = read_clock(&store, &*clock, self.accept_clock).await?;
        let Reading { wall, database, .. } = reading;
        let first = self.good.is_none();
        if !self.judge(reading) {
            return Ok(None);
        }
        self.worker.skew = database.map_or(0, |database| database - wall);
        // At the start too, so that the first summary holds the first runs; who works on one machine's database is seen below.
        if self.accept_clock || (first && self.machine.is_none()) {
            let believed = self.accept_clock;
            store.with_tx(move |tx| Box::pin(tx.see(wall, believed))).await?;
            self.accept_clock = false;
        }
        Ok(if self.is_elsewhere(wall).await? { None } else { Some(wall) })
    }

    /// Whether a daemon on another machine works on this database, which is of one machine.
    async fn is_elsewhere(&mut self, now: i64) -> anyhow::Result<bool> {
        let Some(machine) = self.machine.clone() else { return Ok(false) };
        let since = now - SEEN_FOR.num_microseconds().unwrap_or_default();
        let occupied = self.bench.store.with_tx(move |tx| {
            let machine = machine.clone();
            Box::pin(async move { tx.occupy(&machine, now, since).await })
        });
        let problem = occupied.await?.map(|host| elsewhere(&host));
        let is_elsewhere = problem.is_some();
        if self.bench.monitor.set(Part::Machine, problem.clone()) {
            match problem {
                Some(problem) => tracing::error!("nothing is billed and no mail is sent: {problem}"),
                None => {
                    tracing::info!("the database is this machine's");
                    self.bench.mails.notify_one();
                }
            }
        }
        Ok(is_elsewhere)
    }

    /// The same in between, by what needs no database.
    fn clock_is_still_right(&mut self) -> bool {
        self.alive();
        let clock = &self.bench.clock;
        self.judge(Reading { wall: micros(clock.now()), steady: clock.steady(), database: None, last_seen: None })
    }

    fn judge(&mut self, reading: Reading) -> bool {
        let alarm = check(&reading, self.good.as_ref());
        match &alarm {
            None => {
                self.good = Some(reading);
                if self.alarm.is_some() {
                    tracing::info!("the clock is right again: billing goes on");
                }
            }
            // Its seconds change all the time; a new kind is news.
            Some(alarm) if self.alarm.as_ref().map(discriminant) != Some(discriminant(alarm)) => {
                tracing::error!("nothing is billed: {alarm}");
            }
            Some(_) => {}
        }
        self.bench.monitor.set(Part::Clock, alarm.as_ref().map(ToString::to_string));
        self.alarm = alarm;
        alarm.is_none()
    }

    /// Notes in the database how late it is, by the last reading that could be believed; mails that another one has put off
    /// for years are due again, for they go out under any clock.
    async fn see(&self) -> anyhow::Result<()> {
        let Some(Reading { wall, .. }) = self.good else { return Ok(()) };
        let see = self.bench.store.with_tx(move |tx| {
            Box::pin(async move {
                tx.see(wall, false).await?;
                tx.recall_mails(wall).await
            })
        });
        Ok(see.await?)
    }

    /// Runs what is due of each tenant and nobody else holds.
    async fn pass(&mut self) -> anyhow::Result<Pass> {
        let mut pass = Pass::default();
        for tenant in self.due_tenants().await? {
            if self.is_stopped() || !self.clock_is_still_right() {
                break;
            }
            match self.run_tenant(&tenant, &mut pass).await {
                Ok(()) => {
                    self.failing.remove(&tenant.tenant_id);
                }
                Err(error) if error.is::<Stopped>() => break,
                Err(error) if matches!(error.downcast_ref(), Some(StoreError::Fenced)) => {
                    tracing::warn!(tenant.id = tenant.tenant_id, "{error:#}: it goes on there");
                    pass.held = true;
                }
                // If nobody can be run, this tenant is not to blame.
                Err(error) if is_away(&error) => return Err(error),
                Err(error) => {
                    pass.failed = true;
                    self.postpone(&tenant.tenant_id, &error);
                }
            }
        }
        Ok(pass)
    }

    /// Tenants that have a date to run now; the others go on if the settings of one cannot be read.
    async fn due_tenants(&mut self) -> anyhow::Result<Vec<Arc<Tenant>>> {
        let mut session = self.bench.store.read().await?;
        let tenants = session.list_tenants().await?;
        let completed = session.last_completed_dates().await?;
        session.end().await;
        let now = self.bench.clock.now();
        let mut due = Vec::new();
        let mut broken = BTreeMap::new();
        for (tenant_id, tenant) in tenants {
            match tenant {
                Ok(tenant)
                    if is_due(&tenant, now, completed.get(&tenant_id).copied())
                        && !self.is_postponed(&tenant_id, now) =>
                {
                    due.push(Arc::new(tenant));
                }
                Ok(_) => {}
                Err(BadRecord { field, value, .. }) => {
                    if self.is_news(&tenant_id, "broken", now.date_naive()) {
                        tracing::error!(tenant.id = tenant_id, "not billed: the tenant's {field} is '{value}'");
                    }
                    broken.insert(tenant_id, field);
                }
            }
        }
        let problem = broken.iter().map(|(id, field)| format!("tenant {id} cannot be billed: see its {field}"));
        let problem =
            problem.chain(self.failing.keys().map(|id| format!("tenant {id} could not be billed: see the log")));
        let problem = problem.collect::<Vec<_>>().join("; ");
        self.bench.monitor.set(Part::Tenant, Some(problem).filter(|problem| !problem.is_empty()));
        // Daemons that begin at different tenants get into each other's way less.
        let mut hasher = DefaultHasher::new();
        self.worker.name.hash(&mut hasher);
        if !due.is_empty() {
            let first = (hasher.finish() % due.len() as u64) as usize;
            due.rotate_left(first);
        }
        Ok(due)
    }

    /// Whether this was not told yet on this day.
    fn is_news(&mut self, tenant_id: &str, what: &'static str, day: NaiveDate) -> bool {
        self.told.insert((tenant_id.to_owned(), what), day) != Some(day)
    }

    fn is_postponed(&self, tenant_id: &str, now: DateTime<Utc>) -> bool {
        self.failing.get(tenant_id).is_some_and(|(_, next_try)| now < *next_try)
    }

    fn postpone(&mut self, tenant_id: &str, error: &anyhow::Error) {
        let (failures, next_try) = self.failing.entry(tenant_id.to_owned()).or_default();
        let minutes = (1 << (*failures).min(10)).min(RETRY_MINUTES_MAX);
        *failures += 1;
        *next_try = self.bench.clock.now() + TimeDelta::minutes(minutes);
        tracing::error!(
            tenant.id = tenant_id,
            error = format!("{error:#}"),
            "the run could not go on; it is tried again in {minutes} min, and the other tenants are billed"
        );
    }

    /// Runs the missed dates of a tenant and its today, in order; a later one waits until all of the earlier is done.
    async fn run_tenant(&mut self, tenant: &Arc<Tenant>, pass: &mut Pass) -> anyhow::Result<()> {
        let now = self.bench.clock.now();
        let mut session = self.bench.store.read().await?;
        let schedule =
            Schedule::new(std::slice::from_ref(tenant), Dates::TodayAndMissed, false, now, &mut session).await;
        session.end().await;
        let schedule = schedule.context("cannot tell which dates are due")?;
        self.tell_overdue(tenant, &schedule, now);
        for work in schedule.dates.iter().flat_map(|date| &date.tenants) {
            loop {
                // A pass over many tenants takes longer than a daemon is taken to work here after it was seen.
                if !self.clock_is_still_right() || self.is_elsewhere(micros(self.bench.clock.now())).await? {
                    pass.held = true;
                    return Ok(());
                }
                let runner = Runner::new(&self.bench.store, &*self.bench.clock, &Unwatched, self.settings.clone());
                let share = match claim(&runner, work, &self.worker).await? {
                    Claimed::Share(share) => share,
                    Claimed::Completed => break,
                    Claimed::Held => {
                        pass.held = true;
                        return Ok(());
                    }
                };
                let last = share.count == 1;
                self.run_share(work.clone(), *share).await?;
                pass.worked = true;
                if last {
                    break;
                }
            }
        }
        Ok(())
    }

    fn tell_overdue(&mut self, tenant: &Tenant, schedule: &Schedule, now: DateTime<Utc>) {
        let id = &tenant.tenant_id;
        self.bench.monitor.overdue(id, schedule.overdue.iter().map(|overdue| overdue.count as u64).sum());
        let today = local_date(now, tenant.time_zone);
        for overdue in &schedule.overdue {
            if self.is_news(id, "overdue", today) {
                let (first, last, count) = (overdue.first, overdue.last, overdue.count);
                tracing::error!(
                    tenant.id = id,
                    "{count} dates between {first} and {last} were never run and are too old to be caught up; what they \
                     leave is charged as arrears; to bill them as of their own dates: \
                     billday run --tenant {id} --from {first} --to {last}"
                );
            }
        }
    }

    /// Runs a share in a task of its own, so that a panic is this tenant's failure alone.
    async fn run_share(&self, work: TenantWork, share: Share) -> anyhow::Result<()> {
        let (tenant_id, run_date, kind) = (work.tenant.tenant_id.clone(), work.run_date, work.kind);
        self.bench.notifier.status(&format!("billing {tenant_id} for {run_date}"));
        let (run_id, part) = (share.run_id.clone(), format!("{}/{}", share.number, share.count));
        let (bench, settings) = (self.bench.clone(), self.settings.clone());
        let begun = Instant::now();
        let task = tokio::spawn(async move {
            let progress = Counting(bench.clone());
            let mut runner = Runner::new(&bench.store, &*bench.clock, &progress, settings).until(bench.stop.clone());
            runner.run_share(&work, share).await.map(|(_, tally)| tally)
        });
        let tally = task.await.map_err(|_| anyhow!("it panicked, see the log")).and_then(|result| result);
        if tally.as_ref().is_err_and(|error| error.is::<Stopped>()) {
            tracing::info!(tenant.id = tenant_id, run.id = run_id, run.date = %run_date, "stopped between two batches");
        } else {
            self.bench.monitor.run(begun.elapsed(), tally.as_ref().ok());
        }
        self.bench.mails.notify_one();
        let tally = tally?;
        tracing::info!(
            tenant.id = tenant_id,
            run.id = run_id,
            run.date = %run_date,
            kind = kind.as_str(),
            part,
            billed = tally.billed,
            already_billed = tally.already_billed,
            skipped = tally.skipped,
            parked = tally.parked,
            withheld = tally.withheld,
            "run completed"
        );
        Ok(())
    }

    /// Tries what is parked once more: at the start and at each tenant's wake of a day (rule 17).
    async fn retry_parked(&mut self) -> anyhow::Result<()> {
        let mut session = self.bench.store.read().await?;
        let waiting = session.parked_tenants().await?;
        let tenants = if waiting.is_empty() { Vec::new() } else { session.list_tenants().await? };
        session.end().await;
        for (tenant_id, tenant) in tenants {
            let (Some(earliest), Ok(tenant)) = (waiting.get(&tenant_id), tenant) else { continue };
            let tenant = Arc::new(tenant);
            let now = self.bench.clock.now();
            let wake = wake_instant(local_date(now, tenant.time_zone), tenant.run_at, tenant.time_zone);
            let before = if wake <= now { self.started.max(micros(wake)) } else { self.started };
            if *earliest >= before || self.is_postponed(&tenant_id, now) {
                continue;
            }
            while let Some(parked) = self.claim_parked(&tenant_id, before, micros(now)).await? {
                if self.is_stopped() {
                    return Ok(());
                }
                self.alive();
                if let Err(error) = self.retry(&tenant, &parked).await {
                    if is_away(&error) {
                        return Err(error);
                    }
                    self.postpone(&tenant_id, &error);
                    break;
                }
            }
        }
        Ok(())
    }

    async fn claim_parked(&self, tenant_id: &str, before: i64, now: i64) -> anyhow::Result<Option<ParkedRow>> {
        let tenant_id = tenant_id.to_owned();
        let claim =
            self.bench.store.with_tx(move |tx| Box::pin(async move { tx.claim_parked(&tenant_id, before, now).await }));
        Ok(claim.await?)
    }

    async fn retry(&self, tenant: &Arc<Tenant>, parked: &ParkedRow) -> anyhow::Result<()> {
        let (tenant, run_date) = (tenant.clone(), parked.run_date);
        let work = TenantWork { tenant, run_date, kind: RunKind::Retry, more_dates_follow: false };
        let work = DateWork { named_date: Some(run_date), tenants: vec![work] };
        let settings = RunSettings { only: Some(parked.subject()), ..self.settings.clone() };
        let bench = self.bench.clone();
        let begun = Instant::now();
        let task = tokio::spawn(async move {
            let progress = Counting(bench.clone());
            Runner::new(&bench.store, &*bench.clock, &progress, settings)
                .run_date(&work)
                .await
                .map(|outcome| outcome.report)
        });
        let report = task.await.map_err(|_| anyhow!("it panicked, see the log")).and_then(|result| result);
        self.bench.monitor.run(begun.elapsed(), report.is_ok().then(Tally::default).as_ref());
        let report = report?;
        let billed = report.tenants.iter().any(|tenant| !tenant.totals.is_empty());
        tracing::info!(tenant.id = parked.tenant_id, run.date = %run_date, billed, "a parked subject was tried again");
        if billed {
            self.bench.mails.notify_one();
        }
        Ok(())
    }
}

/// Claims a share, again if the database was busy with somebody else's claim.
async fn claim(runner: &Runner<'_>, work: &TenantWork, worker: &Worker) -> anyhow::Result<Claimed> {
    let mut tries = 1;
    loop {
        match runner.claim(work, worker).await {
            Err(error)
                if tries < 5 && matches!(error.downcast_ref(), Some(StoreError::Busy(_) | StoreError::Conflict)) =>
            {
                tries += 1;
            }
            claimed => return claimed.context("cannot claim the date"),
        }
    }
}

/// Counts batches, each of which is a sign of life.
struct Counting(Bench);

impl Progress for Counting {
    fn is_watched(&self) -> bool {
        false
    }

    fn begin(&self, _: &str, _: NaiveDate, _: u64) {}

    fn advance(&self, _: u64) {}

    fn batch(&self, took: Duration) {
        self.0.monitor.batch(took);
        self.0.monitor.alive(self.0.clock.now());
        self.0.notifier.alive();
    }
}

/// How a run of the daemon is made.
pub(super) fn run_settings(batch_rentals: usize, requested_by: &str) -> RunSettings {
    RunSettings {
        dry_run: false,
        batch_rentals,
        requested_by: requested_by.to_owned(),
        only: None,
        expected_plan: None,
        // Nobody waits for the report of a daemon's run: the fewest payments are kept for it.
        format: ReportFormat::Table,
    }
}
