//! The record of each run, and the dates that are completed.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate};

use crate::domain::report::Totals;
use crate::domain::{Subject, Tenant};

use super::{Result, Session, StoreError, ledger, on};

/// What a run counts while it goes.
#[derive(Debug, Clone, Default)]
pub struct RunTally {
    pub billed: i64,
    pub already_billed: i64,
    pub skipped: i64,
    pub parked: i64,
    /// Rentals with gaps that wait for a person.
    pub withheld: i64,
    pub totals: BTreeMap<String, Totals>,
}

/// Why a run was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// The tenant's own today.
    Today,
    /// A missed date that is run later by itself (rule 19).
    CatchUp,
    /// A date that a person named.
    Explicit,
    /// One parked subject.
    Retry,
}

crate::domain::words!(RunKind { Today = "today", CatchUp = "catch_up", Explicit = "explicit", Retry = "retry" });

/// What is written down when a run begins.
#[derive(Debug, Clone)]
pub struct RunStart<'a> {
    pub run_id: &'a str,
    pub run_date: NaiveDate,
    pub kind: RunKind,
    pub requested_by: &'a str,
    pub subject: Option<&'a Subject>,
    pub expected_plan: Option<&'a str>,
    /// Microseconds UTC.
    pub now: i64,
}

/// A run that shows no sign of life for this long is over.
const DEAD_AFTER_MICROS: i64 = 10 * 60 * 1_000_000;

impl Session {
    /// Begins the record of a run, and marks earlier runs of the same date that died.
    pub async fn insert_run(&mut self, tenant_id: &str, start: &RunStart<'_>) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update runs set state = 'failed', error = 'interrupted', finished_at = beat_at
             where tenant_id = $1 and run_date = $2 and state = 'running' and beat_at < $3"
        )
        .bind(tenant_id)
        .bind(start.run_date)
        .bind(start.now - DEAD_AFTER_MICROS)
        .execute(conn)
        .await?
        .rows_affected());
        on!(self, |conn| sqlx::query::<Db>(
            "insert into runs (tenant_id, run_id, run_date, kind, requested_by, state, subject, expected_plan, batches,
                               billed, already_billed, skipped, parked, withheld, never_charged, totals, version,
                               started_at, beat_at)
             values ($1, $2, $3, $4, $5, 'running', $6, $7, 0, 0, 0, 0, 0, 0, 0, '{}', $8, $9, $9)"
        )
        .bind(tenant_id)
        .bind(start.run_id)
        .bind(start.run_date)
        .bind(start.kind.as_str())
        .bind(start.requested_by)
        .bind(start.subject.map(Subject::to_string))
        .bind(start.expected_plan)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(start.now)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Ends a run well: its totals, its plan hash, and, if it was a whole date's, the date as completed.
    #[expect(clippy::too_many_arguments, reason = "one statement's values")]
    pub async fn complete_run(
        &mut self,
        tenant_id: &str,
        run_id: &str,
        run_date: NaiveDate,
        tally: &RunTally,
        never_charged: u64,
        plan_hash: &str,
        whole_date: bool,
        now: i64,
    ) -> Result<()> {
        if whole_date {
            on!(self, |conn| sqlx::query::<Db>(
                "insert into completed_dates (tenant_id, run_date, run_id, completed_at) values ($1, $2, $3, $4)
                 on conflict do nothing"
            )
            .bind(tenant_id)
            .bind(run_date)
            .bind(run_id)
            .bind(now)
            .execute(conn)
            .await?
            .rows_affected());
        }
        let rows = on!(self, |conn| sqlx::query::<Db>(
            "update runs
             set state = 'completed', billed = $3, already_billed = $4, skipped = $5, parked = $6, withheld = $7,
                 totals = $8, never_charged = $9, plan_hash = $10, beat_at = $11, finished_at = $11
             where tenant_id = $1 and run_id = $2 and state = 'running'"
        )
        .bind(tenant_id)
        .bind(run_id)
        .bind(tally.billed)
        .bind(tally.already_billed)
        .bind(tally.skipped)
        .bind(tally.parked)
        .bind(tally.withheld)
        .bind(ledger::totals_json(&tally.totals))
        .bind(never_charged as i64)
        .bind(plan_hash)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
        if rows == 1 { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// Ends a run that could not go on; what it committed stays.
    pub async fn fail_run(&mut self, tenant_id: &str, run_id: &str, error: &str, now: i64) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update runs set state = 'failed', error = $3, finished_at = $4
             where tenant_id = $1 and run_id = $2 and state = 'running'"
        )
        .bind(tenant_id)
        .bind(run_id)
        .bind(error)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// How many batches a run has committed: settles an unknown commit.
    pub async fn committed_batches(&mut self, tenant_id: &str, run_id: &str) -> Result<i64> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, i64>(
            "select batches from runs where tenant_id = $1 and run_id = $2"
        )
        .bind(tenant_id)
        .bind(run_id)
        .fetch_one(conn)
        .await?))
    }

    /// The dates from `from` up to and including `to` that are completed, ascending.
    pub async fn completed_dates(&mut self, tenant_id: &str, from: NaiveDate, to: NaiveDate) -> Result<Vec<NaiveDate>> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, NaiveDate>(
            "select run_date from completed_dates where tenant_id = $1 and run_date between $2 and $3 order by run_date"
        )
        .bind(tenant_id)
        .bind(from)
        .bind(to)
        .fetch_all(conn)
        .await?))
    }

    /// The earliest date that was ever completed.
    pub async fn first_completed_date(&mut self, tenant_id: &str) -> Result<Option<NaiveDate>> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, Option<NaiveDate>>(
            "select min(run_date) from completed_dates where tenant_id = $1"
        )
        .bind(tenant_id)
        .fetch_one(conn)
        .await?))
    }

    /// The day on which invoices are issued: `today`, or the last issue date of today's series if the clock stands before it
    /// (rule 19).
    pub async fn issue_date(&mut self, tenant: &Tenant, today: NaiveDate) -> Result<NaiveDate> {
        let series = tenant.invoice_number_format.series(today.year());
        let last: Option<NaiveDate> = on!(self, |conn| sqlx::query_scalar::<Db, NaiveDate>(
            "select last_issued_on from invoice_series where tenant_id = $1 and series = $2"
        )
        .bind(&tenant.tenant_id)
        .bind(&series)
        .fetch_optional(conn)
        .await?);
        Ok(last.map_or(today, |last| last.max(today)))
    }

    /// Whether a run of these tenants and this date was begun with this expected plan, and has not completed.
    pub async fn was_interrupted(&mut self, tenant_id: &str, run_date: NaiveDate, expected_plan: &str) -> Result<bool> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, bool>(
            "select exists(select 1 from runs
                           where tenant_id = $1 and run_date = $2 and expected_plan = $3 and state <> 'completed')"
        )
        .bind(tenant_id)
        .bind(run_date)
        .bind(expected_plan)
        .fetch_one(conn)
        .await?))
    }
}
