//! Runs that were asked for over the API: one job a tenant at a time, and what has become of each run for a while.
//!
//! A run that bills is on record in the ledger as soon as it begins; what is kept here is what the ledger does not know: that
//! a run waits for its turn, and what a dry run found.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::NaiveDate;

use crate::domain::report::RunReport;
use crate::render::report::{ReportFormat, write_json};
use crate::render::spool::PaymentSpool;
use crate::run::{DateOutcome, DateWork, RunSettings, Runner, Unwatched};

use super::Api;

/// How long a run that has ended is remembered, in microseconds: an hour.
const KEPT_FOR: i64 = 60 * 60 * 1_000_000;
/// How many runs are remembered, and how many bytes of reports; the oldest that have ended go first.
const KEPT_MAX: usize = 500;
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many payments a report that is sent may have: it is built in memory.
pub(super) const REPORT_PAYMENTS_MAX: u64 = 10_000;

/// A run that was asked for here.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub tenant_id: String,
    pub run_id: String,
    pub run_date: NaiveDate,
    pub dry_run: bool,
    pub requested_by: String,
    /// Microseconds UTC.
    pub asked_at: i64,
    pub finished_at: Option<i64>,
    pub state: JobState,
    /// Of a dry run: how many payments it planned, and their hash.
    pub planned: Option<(u64, String)>,
    /// Of a dry run: the report as JSON, unless it has too many payments.
    pub report: Option<Arc<str>>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobState {
    /// The runs that were asked for together are made one after the other.
    Waiting,
    Running,
    Completed,
    /// It failed, or one before it did.
    Failed,
}

impl JobState {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

#[derive(Default)]
pub(super) struct Jobs {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Tenants whose turn is taken.
    busy: HashSet<String>,
    /// In the order in which they were asked for.
    jobs: VecDeque<Job>,
}

/// A tenant's turn; it ends when this is dropped.
pub(super) struct Turn {
    jobs: Arc<Jobs>,
    tenant_id: String,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.jobs.lock().busy.remove(&self.tenant_id);
    }
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant's turn, unless somebody has it.
    pub(super) fn take_turn(self: &Arc<Self>, tenant_id: &str) -> Option<Turn> {
        let is_free = self.lock().busy.insert(tenant_id.to_owned());
        is_free.then(|| Turn { jobs: self.clone(), tenant_id: tenant_id.to_owned() })
    }

    /// A run of this tenant, if it is still known.
    pub(super) fn find(&self, tenant_id: &str, run_id: &str, now: i64) -> Option<Job> {
        let mut known = self.lock();
        known.forget(now);
        known.jobs.iter().find(|job| job.tenant_id == tenant_id && job.run_id == run_id).cloned()
    }

    fn add(&self, jobs: &[Job], now: i64) {
        let mut known = self.lock();
        known.jobs.extend(jobs.iter().cloned());
        known.forget(now);
    }

    fn change(&self, run_id: &str, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.lock().jobs.iter_mut().find(|job| job.run_id == run_id) {
            change(job);
        }
    }

    /// Ends what has not ended.
    fn fail_all(&self, run_ids: &[String], now: i64) {
        for job in self.lock().jobs.iter_mut() {
            if job.finished_at.is_none() && run_ids.contains(&job.run_id) {
                (job.state, job.finished_at) = (JobState::Failed, Some(now));
            }
        }
    }
}

impl Known {
    /// Lets go of what has ended and is old, or more than there is room for.
    fn forget(&mut self, now: i64) {
        self.jobs.retain(|job| job.finished_at.is_none_or(|at| now - at < KEPT_FOR));
        let size = |job: &Job| job.report.as_ref().map_or(0, |report| report.len());
        let mut bytes: usize = self.jobs.iter().map(size).sum();
        while self.jobs.len() > KEPT_MAX || bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.jobs.iter().position(|job| job.finished_at.is_some()) else { return };
            bytes -= self.jobs.remove(oldest).map_or(0, |job| size(&job));
        }
    }
}

/// Makes the runs one after the other, whether or not anybody waits for them.
pub(super) fn start(api: Arc<Api>, turn: Turn, jobs: Vec<Job>, dates: Vec<DateWork>) {
    let jobs_of = api.jobs.clone();
    let micros = |api: &Api| crate::clock::micros(api.clock.now());
    jobs_of.add(&jobs, micros(&api));
    let run_ids: Vec<String> = jobs.iter().map(|job| job.run_id.clone()).collect();
    tokio::spawn(async move {
        // A task of its own, so that a panic in it ends the turn too.
        let work = tokio::spawn(run_all(api.clone(), jobs, dates));
        if let Err(error) = work.await.unwrap_or_else(|panic| Err(panic.into())) {
            tracing::error!("a run that was asked for over the API could not go on: {error:#}");
        }
        jobs_of.fail_all(&run_ids, micros(&api));
        drop(turn);
    });
}

async fn run_all(api: Arc<Api>, jobs: Vec<Job>, dates: Vec<DateWork>) -> anyhow::Result<()> {
    let Some(first) = jobs.first() else { return Ok(()) };
    let dry_run = first.dry_run;
    let settings = RunSettings {
        dry_run,
        batch_rentals: api.batch_rentals,
        requested_by: first.requested_by.clone(),
        only: None,
        expected_plan: None,
        // The payments of a run that bills are read from the ledger when somebody asks.
        format: if dry_run { ReportFormat::Json } else { ReportFormat::Table },
    };
    let mut runner = Runner::new(&api.store, &*api.clock, &Unwatched, settings);
    for (job, work) in jobs.iter().zip(&dates) {
        api.jobs.change(&job.run_id, |job| job.state = JobState::Running);
        let DateOutcome { report, payments, .. } = runner.run_date_as(job.run_id.clone(), work).await?;
        let (planned, report) = if dry_run { planned(&report, payments)? } else { (None, None) };
        let now = crate::clock::micros(api.clock.now());
        api.jobs.change(&job.run_id, |job| {
            (job.state, job.finished_at) = (JobState::Completed, Some(now));
            (job.planned, job.report) = (planned, report);
        });
    }
    Ok(())
}

type Planned = (Option<(u64, String)>, Option<Arc<str>>);

fn planned(report: &RunReport, mut payments: Vec<PaymentSpool>) -> anyhow::Result<Planned> {
    let count = payments.iter().map(PaymentSpool::seen).sum();
    let planned = Some((count, report.plan_hash.clone()));
    if count > REPORT_PAYMENTS_MAX {
        return Ok((planned, None));
    }
    Ok((planned, Some(report_text(report, &mut payments)?.into())))
}

/// A report as `billday runs show --format json` writes it.
pub(super) fn report_text(report: &RunReport, payments: &mut [PaymentSpool]) -> anyhow::Result<String> {
    let mut text = Vec::new();
    write_json(&mut text, report, payments)?;
    text.pop_if(|end| *end == b'\n');
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: usize, finished_at: Option<i64>, bytes: usize) -> Job {
        Job {
            tenant_id: "T".into(),
            run_id: format!("r{number}"),
            run_date: NaiveDate::default(),
            dry_run: true,
            requested_by: "key:k".into(),
            asked_at: 0,
            finished_at,
            state: if finished_at.is_some() { JobState::Completed } else { JobState::Waiting },
            planned: None,
            report: Some("x".repeat(bytes).into()),
        }
    }

    #[test]
    fn what_has_ended_is_forgotten_after_an_hour_or_when_there_is_too_much() {
        let jobs = Jobs::default();
        jobs.add(&[job(1, Some(10), 1), job(2, None, 1)], 10);
        assert!(jobs.find("T", "r1", 10 + KEPT_FOR - 1).is_some());
        assert!(jobs.find("U", "r1", 10).is_none(), "another tenant's");
        assert!(jobs.find("T", "r1", 10 + KEPT_FOR).is_none());
        assert!(jobs.find("T", "r2", i64::MAX).is_some(), "what has not ended stays");

        let half = KEPT_BYTES_MAX / 2;
        jobs.add(&[job(3, Some(20), half), job(4, Some(20), half), job(5, Some(20), half)], 20);
        let known = |number| jobs.find("T", &format!("r{number}"), 20).is_some();
        assert_eq!([known(3), known(4), known(5)], [false, false, true]);

        let many: Vec<Job> = (10..10 + KEPT_MAX).map(|number| job(number, Some(20), 1)).collect();
        jobs.add(&many, 20);
        assert_eq!(jobs.lock().jobs.len(), KEPT_MAX);
        assert!(known(2) && !known(5) && known(9 + KEPT_MAX));
    }

    #[test]
    fn a_turn_is_one_tenants_until_it_is_dropped() {
        let jobs = Arc::new(Jobs::default());
        let turn = jobs.take_turn("T");
        assert!(turn.is_some() && jobs.take_turn("T").is_none() && jobs.take_turn("U").is_some());
        drop(turn);
        assert!(jobs.take_turn("T").is_some());
    }
}
