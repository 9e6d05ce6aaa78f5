//! The day on one screen: what is due is read, planned, written and reported, batch by batch.
//!
//! ```text
//! reader task ── due subjects ──► plan (pure) ──► apply, one transaction a batch ──► report
//!                                   │
//!                                   └── a dry run stops here
//! ```
//!
//! While one batch is being written the next is read and planned; on PostgreSQL two are written at a time, and the later one
//! takes its invoice numbers when the earlier one is committed. Memory stays flat however many subjects there are. A crash
//! at any instruction leaves whole batches only; the next run finds them on record and goes on.

pub mod past;
mod reader;
mod schedule;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use chrono::{DateTime, NaiveDate, Utc};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::{self, Clock};
use crate::domain::calendar::local_date;
use crate::domain::overlay::Overlay;
use crate::domain::payment::MailPlan;
use crate::domain::plan::{Outcome, PlanContext, PlanHasher, SubjectPlan, plan};
use crate::domain::report::{Delivery, PlainInvoices, RunReport, Tally, TenantReport};
use crate::domain::{Subject, SubjectKind};
use crate::render::payment::WirePayment;
use crate::render::report::ReportFormat;
use crate::render::spool::PaymentSpool;
use crate::store::due::{Due, DueReader, Position};
use crate::store::ledger::{Batch, Numbers, Turn};
use crate::store::runs::RunStart;
use crate::store::shares::{Claim, Claimed, Share};
use crate::store::{Store, StoreError};

use reader::{Read, View, spawn_reader};
pub use schedule::{DateWork, Dates, Overdue, Refused, Schedule, TenantWork, read_clock};

/// How a run is made, whatever it is for.
#[derive(Debug, Clone)]
pub struct RunSettings {
    pub dry_run: bool,
    /// About how many rentals one transaction holds; a group is never split.
    pub batch_rentals: usize,
    /// Who started it, for the record.
    pub requested_by: String,
    /// Only this subject: a retry.
    pub only: Option<Subject>,
    /// The plan that the user has seen; kept with the run, so that it can be continued after a crash.
    pub expected_plan: Option<String>,
    /// What the report will be written as: it says how many payments are kept for it.
    pub format: ReportFormat,
}

/// Is told how far a run is.
pub trait Progress: Send + Sync {
    /// Whether anybody looks: counting what is due costs a query.
    fn is_watched(&self) -> bool;
    /// A tenant's date begins, with so many subjects due.
    fn begin(&self, tenant_id: &str, run_date: NaiveDate, due: u64);
    /// So many more subjects are done.
    fn advance(&self, subjects: u64);
    /// A batch was read, planned and written in this time.
    fn batch(&self, _took: Duration) {}
}

/// Nobody looks.
pub struct Unwatched;

impl Progress for Unwatched {
    fn is_watched(&self) -> bool {
        false
    }

    fn begin(&self, _: &str, _: NaiveDate, _: u64) {}

    fn advance(&self, _: u64) {}
}

/// The report of one date, with the payments of each tenant in the same order.
pub struct DateOutcome {
    pub report: RunReport,
    pub payments: Vec<PaymentSpool>,
    /// One a date, shared by its tenants.
    pub run_id: String,
}

/// The run was told to stop: what was committed stays, and the next one goes on from there.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// Runs dates in order; in a dry run, on one view of the ledger and as the earlier dates would have left it (rule 18).
pub struct Runner<'a> {
    store: &'a Store,
    clock: &'a dyn Clock,
    progress: &'a dyn Progress,
    settings: RunSettings,
    /// Becomes true when the run is to end after the batches that are being written.
    stop: Option<watch::Receiver<bool>>,
    /// Absent while a date reads, and after one failed.
    view: Option<View>,
    overlays: BTreeMap<String, Overlay>,
}

impl<'a> Runner<'a> {
    pub fn new(store: &'a Store, clock: &'a dyn Clock, progress: &'a dyn Progress, settings: RunSettings) -> Self {
        let view = if settings.dry_run { View::fixed(store) } else { View::fresh(store) };
        Self { store, clock, progress, settings, stop: None, view: Some(view), overlays: BTreeMap::new() }
    }

    /// Lets each run end with [`Stopped`] once `stop` is true: between two batches, never inside one.
    pub fn until(mut self, stop: watch::Receiver<bool>) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Claims a share of a tenant's date, which is cut first where it is worth it; to be run by [`run_share`](Self::run_share).
    pub async fn claim(&self, work: &TenantWork, by: &Worker) -> anyhow::Result<Claimed> {
        let tenant_id = &work.tenant.tenant_id;
        let mut session = self.store.read().await?;
        let cuts = match session.is_cut(tenant_id, work.run_date).await? {
            true => None,
            false => Some(session.cuts(&work.tenant, work.run_date, by.share_rentals).await?),
        };
        session.end().await;
        let (work, by, settings) = (work.clone(), by.clone(), self.settings.clone());
        let (run_id, now) = (run_id(self.clock.now()), clock::micros(self.clock.now()));
        let claim = self.store.with_tx(move |tx| {
            Box::pin(async move {
                let start = RunStart {
                    run_id: &run_id,
                    run_date: work.run_date,
                    kind: work.kind,
                    requested_by: &settings.requested_by,
                    subject: None,
                    expected_plan: None,
                    share: None,
                    now,
                };
                let tenant_id = &work.tenant.tenant_id;
                let claim = Claim { tenant_id, start, cuts: cuts.as_deref(), owner: &by.name, skew: by.skew };
                tx.claim_share(&claim).await
            })
        });
        Ok(claim.await?)
    }

    /// Runs a share; the last one to be done completes the date.
    pub async fn run_share(&mut self, work: &TenantWork, share: Share) -> anyhow::Result<(TenantReport, Tally)> {
        let run_id = share.run_id.clone();
        let mut hasher = PlanHasher::default();
        let mut run = TenantRun::new(self, work, &run_id, &mut hasher, Some(share));
        let result = {
            let _renewing = run.renew_beside();
            run.bill().await
        };
        if let Err(error) = result {
            run.record_failure(&error).await;
            return Err(error);
        }
        let tally = run.tally.clone();
        Ok((run.into_report().0, tally))
    }

    /// Runs one date for its tenants, or only plans it in a dry run. What was committed before an error stays.
    pub async fn run_date(&mut self, work: &DateWork) -> anyhow::Result<DateOutcome> {
        self.run_date_as(run_id(self.clock.now()), work).await
    }

    /// The same under an id that is known already.
    pub async fn run_date_as(&mut self, run_id: String, work: &DateWork) -> anyhow::Result<DateOutcome> {
        let mut hasher = PlanHasher::default();
        let (mut tenants, mut payments) = (Vec::new(), Vec::new());
        for tenant_work in &work.tenants {
            let mut run = TenantRun::new(self, tenant_work, &run_id, &mut hasher, None);
            let (report, spool) = match run.bill().await {
                Ok(()) => run.into_report(),
                Err(error) => {
                    run.record_failure(&error).await;
                    let (tenant_id, date) = (&tenant_work.tenant.tenant_id, tenant_work.run_date);
                    return Err(error.context(format!("the run of tenant {tenant_id} for {date} could not go on")));
                }
            };
            tenants.push(report);
            payments.push(spool);
        }
        let plan_hash = hasher.finish();
        let report = RunReport { dry_run: self.settings.dry_run, plan_hash, run_date: work.named_date, tenants };
        Ok(DateOutcome { report, payments, run_id })
    }
}

/// Who claims shares.
#[derive(Debug, Clone)]
pub struct Worker {
    /// For people: which process on which machine.
    pub name: String,
    /// About how many rentals a share has.
    pub share_rentals: i64,
    /// How far the database's clock, which leases follow, is ahead of the program's, in microseconds.
    pub skew: i64,
}

/// One tenant's date while it runs.
struct TenantRun<'r, 'a> {
    runner: &'r mut Runner<'a>,
    work: &'r TenantWork,
    run_id: &'r str,
    /// Of all tenants of the date.
    hasher: &'r mut PlanHasher,
    /// Of this tenant alone, for the run's record.
    own_hasher: PlanHasher,
    spool: PaymentSpool,
    report: TenantReport,
    tally: Tally,
    batches: i64,
    /// The day on which the invoices are issued (rule 19).
    issue_date: NaiveDate,
    /// When the next batch may take its invoice numbers.
    turn: Turn,
    /// The part of the date that is run; all of it without.
    share: Option<Share>,
    /// What the clock showed when it began, and the one that nobody sets.
    began: (i64, i64),
}

/// A planned batch on its way into the database.
struct InFlight {
    batch: Arc<Batch>,
    before: Position,
    after: Position,
    tally_before: Tally,
    /// On the steady clock.
    started: std::time::Instant,
    /// `None` where there is nothing to write.
    commit: Option<JoinHandle<Result<Numbers, StoreError>>>,
}

/// How often the lease on a share is renewed beside its batches: three times before it would run out.
const RENEW_EVERY: Duration = Duration::from_secs(15);

/// A task that ends with its handle.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How often one batch is tried before the run fails.
const ATTEMPTS_MAX: u32 = 10;

impl<'r, 'a> TenantRun<'r, 'a> {
    fn new(
        runner: &'r mut Runner<'a>,
        work: &'r TenantWork,
        run_id: &'r str,
        hasher: &'r mut PlanHasher,
        share: Option<Share>,
    ) -> Self {
        let report = TenantReport {
            tenant_id: work.tenant.tenant_id.clone(),
            tenant_name: work.tenant.name.clone(),
            run_date: work.run_date,
            skipped: Vec::new(),
            parked: Vec::new(),
            withheld: Vec::new(),
            already_billed: 0,
            never_charged: 0,
            totals: BTreeMap::new(),
            delivery: Delivery::default(),
            plain: PlainInvoices::default(),
        };
        let spool = runner.settings.format.spool();
        let own_hasher = PlanHasher::default();
        let (tally, batches, turn, issue_date) = (Tally::default(), 0, Turn::Now, work.run_date);
        let began = (clock::micros(runner.clock.now()), runner.clock.steady());
        Self { runner, work, run_id, hasher, own_hasher, spool, report, tally, batches, issue_date, turn, share, began }
    }

    /// The present, by the clock that nobody sets on top of what it was at the beginning: a clock that is set while a run goes
    /// on moves neither its lease nor its issue date.
    fn now(&self) -> i64 {
        let (wall, steady) = self.began;
        wall + (self.runner.clock.steady() - steady)
    }

    async fn bill(&mut self) -> anyhow::Result<()> {
        let tenant = self.work.tenant.clone();
        let run_date = self.work.run_date;
        // The run of a share was begun when it was claimed.
        if !self.runner.settings.dry_run && self.share.is_none() {
            self.begin().await?;
        }
        let mut view = self.runner.view.take().ok_or_else(|| anyhow!("an earlier date failed"))?;
        self.issue_date = self.read_issue_date(&mut view).await?;
        // Of the whole date, so one of its shares counts them.
        if self.share.as_ref().is_none_or(|share| share.number == 1) {
            let (passed_over, _) = view.session().await?.passed_over(&tenant, run_date, 0).await?;
            self.report.never_charged = passed_over.saturating_sub(self.overlay().passed_over(&tenant, run_date));
        }
        if self.runner.progress.is_watched() {
            let due = view.session().await?.count_due(&tenant, run_date).await?;
            self.runner.progress.begin(&tenant.tenant_id, run_date, due);
        }
        view.release().await;

        let settings = &self.runner.settings;
        let mut due = DueReader::new(&tenant, run_date, settings.only.clone());
        if let Some(share) = &self.share {
            due.seek(&share.after);
        }
        let through = self.share.as_ref().and_then(|share| share.through.clone());
        let (mut batches, reader) = spawn_reader(view, due, settings.batch_rentals, through);
        let mut in_flight = VecDeque::new();
        while let Some(read) = self.unless_stopped(batches.recv()).await.flatten() {
            let Read { before, after, due } = read?;
            let subjects = self.plan(due);
            while in_flight.len() >= self.runner.store.writers() {
                self.finish_first(&mut in_flight).await?;
            }
            in_flight.push_back(self.start(subjects, before, after));
        }
        while !in_flight.is_empty() {
            self.finish_first(&mut in_flight).await?;
        }
        if self.is_stopped() {
            return Err(Stopped.into());
        }
        self.runner.view = Some(reader.await.context("the reading task failed")?);
        if !self.runner.settings.dry_run {
            self.complete().await?;
        }
        tracing::debug!(
            tenant.id = tenant.tenant_id,
            run.id = self.run_id,
            run.date = %run_date,
            dry = self.runner.settings.dry_run,
            billed = self.tally.billed,
            parked = self.tally.parked,
            batches = self.batches,
            "the date is run"
        );
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.runner.stop.as_ref().is_some_and(|stop| *stop.borrow())
    }

    /// What a future gives; `None` as soon as the run is told to stop.
    async fn unless_stopped<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let Some(mut stop) = self.runner.stop.clone() else { return Some(future.await) };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            value = future => Some(value),
        }
    }

    /// Renews the lease on a share from time to time, for a batch may take longer than it lasts.
    fn renew_beside(&self) -> Option<AbortOnDrop> {
        let Share { held, run_id, .. } = self.share.clone()?;
        let store = self.runner.store.clone();
        let (begun, now) = (std::time::Instant::now(), self.now());
        Some(AbortOnDrop(tokio::spawn(async move {
            loop {
                tokio::time::sleep(RENEW_EVERY).await;
                let (held, run_id, now) = (held.clone(), run_id.clone(), now + begun.elapsed().as_micros() as i64);
                let renew = store.with_tx(move |tx| {
                    Box::pin(async move {
                        tx.renew_share(&held, now).await?;
                        tx.touch_run(&held.tenant_id, &run_id, now).await
                    })
                });
                let renewed = renew.await;
                if let Err(StoreError::Fenced) = renewed {
                    return;
                }
            }
        })))
    }

    fn overlay(&mut self) -> &mut Overlay {
        self.runner.overlays.entry(self.work.tenant.tenant_id.clone()).or_default()
    }

    /// The tenant's real today; for a dry run of a later date, that date; never before the series' last one.
    async fn read_issue_date(&self, view: &mut View) -> anyhow::Result<NaiveDate> {
        let tenant = &self.work.tenant;
        let today = local_date(clock::instant(self.now()).unwrap_or_default(), tenant.time_zone);
        let day = if self.runner.settings.dry_run { today.max(self.work.run_date) } else { today };
        Ok(view.session().await?.issue_date(tenant, day).await?)
    }

    fn plan(&mut self, due: Vec<Due>) -> Vec<(SubjectPlan, bool)> {
        let (mut subjects, recorded): (Vec<_>, Vec<bool>) = due.into_iter().map(|d| (d.subject, d.recorded)).unzip();
        let run_date = self.work.run_date;
        if self.runner.settings.dry_run {
            self.overlay().apply(run_date, &mut subjects);
        }
        let context = PlanContext { tenant: &self.work.tenant, run_date, issue_date: self.issue_date };
        let planned = plan(context, &subjects);
        if self.runner.settings.dry_run && self.work.more_dates_follow {
            self.overlay().record(run_date, subjects, &planned);
        }
        planned.subjects.into_iter().zip(recorded).collect()
    }

    /// Sends a planned batch to the database without waiting for it.
    fn start(&mut self, subjects: Vec<(SubjectPlan, bool)>, before: Position, after: Position) -> InFlight {
        let tally_before = self.tally.clone();
        subjects.iter().for_each(|(subject, _)| self.tally.count(subject));
        let batch = Arc::new(Batch {
            tenant: self.work.tenant.clone(),
            run_id: self.run_id.to_owned(),
            run_date: self.work.run_date,
            now: self.now(),
            subjects,
            batches_before: self.batches,
            tally: self.tally.clone(),
            held: self.share.as_ref().map(|share| share.held.clone()),
        });
        let writes = !self.runner.settings.dry_run && !batch.is_on_record();
        self.batches += i64::from(writes);
        let commit = writes.then(|| {
            let (done, next_turn) = oneshot::channel();
            let turn = std::mem::replace(&mut self.turn, Turn::After(next_turn));
            let store = self.runner.store.clone();
            let batch = batch.clone();
            tokio::spawn(async move {
                let result = commit(store, batch, turn).await;
                if result.is_ok() {
                    // Nobody listens after the last batch.
                    let _ = done.send(());
                }
                result
            })
        });
        InFlight { batch, before, after, tally_before, started: std::time::Instant::now(), commit }
    }

    /// Waits for the first batch and reports it. If it has to be planned again, so have those behind it.
    async fn finish_first(&mut self, in_flight: &mut VecDeque<InFlight>) -> anyhow::Result<()> {
        let Some(first) = in_flight.pop_front() else { return Ok(()) };
        if !self.finish(first, in_flight).await? {
            return Ok(());
        }
        // The batches behind it saw that it failed and wrote nothing; their counts began from its old ones.
        for behind in std::mem::take(in_flight) {
            let behind = self.again(behind.before, behind.after).await?;
            self.finish(behind, &mut VecDeque::new()).await?;
        }
        Ok(())
    }

    /// Waits for a batch and reports it; one that met somebody else's writes is read, planned and written again. Tells
    /// whether it was.
    async fn finish(&mut self, mut in_flight: InFlight, behind: &mut VecDeque<InFlight>) -> anyhow::Result<bool> {
        let mut attempts = 0;
        loop {
            let result = match in_flight.commit.take() {
                None => Ok(None),
                Some(commit) => commit.await.context("the writing task failed")?.map(Some),
            };
            match result {
                Ok(numbers) => {
                    self.runner.progress.batch(in_flight.started.elapsed());
                    self.report_batch(&in_flight.batch, numbers.as_ref())?;
                    return Ok(attempts > 0);
                }
                Err(error @ (StoreError::Conflict | StoreError::Busy(_)))
                    if attempts < ATTEMPTS_MAX && !self.is_stopped() =>
                {
                    attempts += 1;
                    tracing::debug!(%error, attempts, "a batch is planned again");
                    for batch in behind.iter_mut() {
                        if let Some(commit) = batch.commit.take() {
                            let _ = commit.await.context("the writing task failed")?;
                        }
                    }
                    tokio::time::sleep(pause(attempts)).await;
                    self.tally = in_flight.tally_before;
                    self.batches = in_flight.batch.batches_before;
                    self.turn = Turn::Now;
                    in_flight = self.again(in_flight.before, in_flight.after).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads and plans the subjects of a batch once more, as the ledger is now.
    async fn again(&mut self, before: Position, after: Position) -> anyhow::Result<InFlight> {
        let mut view = View::fresh(self.runner.store);
        self.issue_date = self.read_issue_date(&mut view).await?;
        let mut reader = DueReader::new(&self.work.tenant, self.work.run_date, self.runner.settings.only.clone());
        reader.seek(&before);
        let due = reader.next_batch(view.session().await?, usize::MAX, Some(&after)).await?;
        view.release().await;
        let subjects = self.plan(due);
        Ok(self.start(subjects, before, after))
    }

    fn report_batch(&mut self, batch: &Batch, numbers: Option<&Numbers>) -> anyhow::Result<()> {
        let tenant_id = &self.work.tenant.tenant_id;
        let created_at = clock::instant(batch.now).unwrap_or_default();
        for (index, payment) in batch.payments().enumerate() {
            self.hasher.add(tenant_id, payment);
            self.own_hasher.add(tenant_id, payment);
            self.report.plain.count(payment);
            match &payment.mail {
                MailPlan::None => {}
                MailPlan::To(recipients) => self.report.delivery.waiting += recipients.count() as u64,
                MailPlan::Undeliverable => self.report.delivery.undeliverable += 1,
            }
            self.spool.push_with(|| {
                let number = numbers.map(|numbers| numbers.number(index));
                WirePayment::new(tenant_id, payment, number.as_deref(), created_at)
            })?;
        }
        for (plan, _) in &batch.subjects {
            let caught_up = plan.first_charged.iter().filter(|first| first.passed_over).count() as u64;
            self.report.never_charged = self.report.never_charged.saturating_sub(caught_up);
            self.report.withheld.extend(plan.withheld.iter().cloned());
            match &plan.outcome {
                Outcome::Skipped(code) if plan.subject.kind == SubjectKind::Group => {
                    self.report.skipped.push((plan.subject.clone(), *code));
                }
                Outcome::Parked(parked) => self.report.parked.push((plan.subject.clone(), parked.problem.clone())),
                _ => {}
            }
        }
        self.runner.progress.advance(batch.subjects.len() as u64);
        Ok(())
    }

    fn into_report(mut self) -> (TenantReport, PaymentSpool) {
        self.report.skipped.sort_by(|a, b| a.0.cmp(&b.0));
        self.report.parked.sort_by(|a, b| a.0.cmp(&b.0));
        self.report.withheld.sort_by(|a, b| a.rental_id.cmp(&b.rental_id));
        self.report.already_billed = self.tally.already_billed;
        self.report.totals = self.tally.totals;
        (self.report, self.spool)
    }

    async fn begin(&self) -> Result<(), StoreError> {
        let work = self.work.clone();
        let settings = self.runner.settings.clone();
        let (run_id, now) = (self.run_id.to_owned(), self.now());
        let begin = self.runner.store.with_tx(move |tx| {
            Box::pin(async move {
                let start = RunStart {
                    run_id: &run_id,
                    run_date: work.run_date,
                    kind: work.kind,
                    requested_by: &settings.requested_by,
                    subject: settings.only.as_ref(),
                    expected_plan: settings.expected_plan.as_deref(),
                    share: None,
                    now,
                };
                tx.insert_run(&work.tenant.tenant_id, &start).await
            })
        });
        begin.await
    }

    async fn complete(&self) -> Result<(), StoreError> {
        let work = self.work.clone();
        let only = self.runner.settings.only.clone();
        let (run_id, now) = (self.run_id.to_owned(), self.now());
        let (tally, plan_hash) = (self.tally.clone(), self.own_hasher.finish());
        let never_charged = self.report.never_charged;
        let held = self.share.as_ref().map(|share| share.held.clone());
        let complete = self.runner.store.with_tx(move |tx| {
            Box::pin(async move {
                let tenant_id = &work.tenant.tenant_id;
                let runs = match &held {
                    Some(held) => tx.finish_share(held).await?,
                    None => {
                        if only.is_none() {
                            tx.drop_abandoned_shares(tenant_id, work.run_date, now).await?;
                        }
                        Some(vec![run_id.clone()])
                    }
                };
                tx.complete_run(tenant_id, &run_id, &tally, never_charged, &plan_hash, now).await?;
                // All of the date is done, by this run or by the runs of its shares.
                if let Some(runs) = runs {
                    let (first, since) = tx.first_run(tenant_id, &runs).await?;
                    tx.settle_parked(tenant_id, &runs, since, work.run_date, only.as_ref(), now).await?;
                    if only.is_none() {
                        tx.complete_date(tenant_id, work.run_date, &first, now).await?;
                    }
                }
                Ok(())
            })
        });
        match complete.await {
            Err(lost @ StoreError::UnknownCommit(_)) => {
                if self.has_completed().await? {
                    Ok(())
                } else {
                    Err(lost)
                }
            }
            told => told,
        }
    }

    /// Whether the run was completed by a transaction whose commit was cut off: read, never guessed.
    async fn has_completed(&self) -> Result<bool, StoreError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (tenant_id, run_id) = (self.work.tenant.tenant_id.clone(), self.run_id.to_owned());
            let read =
                self.runner.store.with_tx(move |tx| Box::pin(async move { tx.settled_run(&tenant_id, &run_id).await }));
            match read.await {
                Ok((_, state)) => return Ok(state == "completed"),
                Err(error) if attempts >= ATTEMPTS_MAX => return Err(error),
                Err(_) => tokio::time::sleep(pause(attempts)).await,
            }
        }
    }

    /// Notes why a run could not go on; if even that fails, the next run finds its row without a sign of life.
    async fn record_failure(&self, error: &anyhow::Error) {
        if self.runner.settings.dry_run {
            return;
        }
        let (tenant_id, run_id) = (self.work.tenant.tenant_id.clone(), self.run_id.to_owned());
        let (text, now) = (format!("{error:#}"), self.now());
        let held = self.share.as_ref().map(|share| share.held.clone());
        let note = self.runner.store.with_tx(move |tx| {
            Box::pin(async move {
                if let Some(held) = &held {
                    tx.release_share(held).await?;
                }
                tx.fail_run(&tenant_id, &run_id, &text, now).await
            })
        });
        if let Err(error) = note.await {
            tracing::debug!(%error, "the failed run could not be recorded");
        }
    }
}

/// Writes a batch; what became of one whose commit was cut off is read, never guessed.
async fn commit(store: Store, batch: Arc<Batch>, turn: Turn) -> Result<Numbers, StoreError> {
    let to_write = batch.clone();
    let result = store.with_tx(move |tx| Box::pin(async move { tx.apply(&to_write, turn).await })).await;
    let Err(StoreError::UnknownCommit(_)) = &result else { return result };
    let mut attempts = 0;
    loop {
        attempts += 1;
        match find_commit(&store, &batch).await {
            Ok(Some(numbers)) => return Ok(numbers),
            Ok(None) => return Err(StoreError::Conflict),
            Err(error) if attempts >= ATTEMPTS_MAX => return Err(error),
            Err(_) => tokio::time::sleep(pause(attempts)).await,
        }
    }
}

/// The numbers of a batch if it was committed.
async fn find_commit(store: &Store, batch: &Arc<Batch>) -> Result<Option<Numbers>, StoreError> {
    let batch = batch.clone();
    let find = store.with_tx(move |tx| {
        Box::pin(async move {
            let (tenant_id, run_id) = (&batch.tenant.tenant_id, &batch.run_id);
            let (committed, _) = tx.settled_run(tenant_id, run_id).await?;
            if committed > batch.batches_before { Ok(Some(tx.find_numbers(&batch).await?)) } else { Ok(None) }
        })
    });
    find.await
}

/// A new id that sorts by time.
pub fn run_id(now: DateTime<Utc>) -> String {
    let timestamp = uuid::Timestamp::from_unix(uuid::NoContext, now.timestamp() as u64, now.timestamp_subsec_nanos());
    uuid::Uuid::new_v7(timestamp).to_string()
}

/// How long to wait before the next attempt: doubling from 20 ms up to 2 s. Racing runs differ enough by themselves.
fn pause(attempts: u32) -> Duration {
    Duration::from_millis(20 << attempts.min(7)).min(Duration::from_secs(2))
}
