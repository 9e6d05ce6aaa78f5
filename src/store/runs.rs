//! The record of each run, and the dates that are completed.

use chrono::{Datelike, NaiveDate};

use crate::domain::report::Tally;
use crate::domain::{Subject, Tenant};

use super::page::Page;
use super::{Result, Session, StoreError, dialect, ledger, on};

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
    /// The part of the date, and how many it has, if it was shared out.
    pub share: Option<(i64, i64)>,
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
                               started_at, beat_at, share)
             values ($1, $2, $3, $4, $5, 'running', $6, $7, 0, 0, 0, 0, 0, 0, 0, '{}', $8, $9, $9, $10)"
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
        .bind(start.share.map(|(number, count)| format!("{number}/{count}")))
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Marks a date as completed: from now on what it should have charged can be proved.
    pub async fn complete_date(&mut self, tenant_id: &str, run_date: NaiveDate, run_id: &str, now: i64) -> Result<()> {
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
        Ok(())
    }

    /// Ends a run well, with its last counts and its plan hash.
    pub async fn complete_run(
        &mut self,
        tenant_id: &str,
        run_id: &str,
        tally: &Tally,
        never_charged: u64,
        plan_hash: &str,
        now: i64,
    ) -> Result<()> {
        let rows = on!(self, |conn| sqlx::query::<Db>(
            "update runs
             set state = 'completed', billed = $3, already_billed = $4, skipped = $5, parked = $6, withheld = $7,
                 totals = $8, never_charged = $9, plan_hash = $10, beat_at = $11, finished_at = $11
             where tenant_id = $1 and run_id = $2 and state = 'running'"
        )
        .bind(tenant_id)
        .bind(run_id)
        .bind(tally.billed as i64)
        .bind(tally.already_billed as i64)
        .bind(tally.skipped as i64)
        .bind(tally.parked as i64)
        .bind(tally.withheld as i64)
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

    /// How many batches a run has committed, and its state: settles an unknown commit.
    ///
    /// A transaction whose connection was lost may still be on its way. It holds the run's row, so this takes the row too: it
    /// waits until the other is in or gone.
    pub async fn settled_run(&mut self, tenant_id: &str, run_id: &str) -> Result<(i64, String)> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, (i64, String)>(
            "update runs set beat_at = beat_at where tenant_id = $1 and run_id = $2 returning batches, state"
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

    /// The first to begin of some runs, and when: whatever was changed before then, each of them has seen.
    pub async fn first_run(&mut self, tenant_id: &str, run_ids: &[String]) -> Result<(String, i64)> {
        Ok(on!(self, |conn| dialect::with_keys_as::<Db, (String, i64)>(
            "select run_id, started_at from runs where tenant_id = $2 and run_id in $keys order by started_at, run_id
             limit 1",
            run_ids
        )
        .bind(tenant_id)
        .fetch_one(conn)
        .await?))
    }

    /// A sign of life of a run that has not written anything for a while.
    pub async fn touch_run(&mut self, tenant_id: &str, run_id: &str, now: i64) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update runs set beat_at = $3 where tenant_id = $1 and run_id = $2 and state = 'running' and beat_at < $3"
        )
        .bind(tenant_id)
        .bind(run_id)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
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

    /// Whether a run of this tenant and date with this expected plan was completed; `None` if none was begun.
    pub async fn completed_with_plan(
        &mut self,
        tenant_id: &str,
        run_date: NaiveDate,
        expected_plan: &str,
    ) -> Result<Option<bool>> {
        let (begun, completed): (i64, i64) = on!(self, |conn| sqlx::query_as::<Db, (i64, i64)>(
            "select count(*), count(case when state = 'completed' then 1 end)
             from runs
             where tenant_id = $1 and run_date = $2 and expected_plan = $3"
        )
        .bind(tenant_id)
        .bind(run_date)
        .bind(expected_plan)
        .fetch_one(conn)
        .await?);
        Ok((begun > 0).then_some(completed > 0))
    }
}

/// A run's record as people see it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct RunRow {
    pub tenant_id: String,
    pub run_id: String,
    pub run_date: NaiveDate,
    pub kind: String,
    pub requested_by: String,
    pub state: String,
    pub subject: Option<String>,
    pub plan_hash: Option<String>,
    pub batches: i64,
    pub billed: i64,
    pub already_billed: i64,
    pub skipped: i64,
    pub parked: i64,
    pub withheld: i64,
    pub never_charged: i64,
    /// JSON: minor units by currency.
    pub totals: String,
    pub error: Option<String>,
    pub started_at: i64,
    pub beat_at: i64,
    pub finished_at: Option<i64>,
    /// `2/8`: the second of eight parts of its date.
    pub share: Option<String>,
}

/// A run writes something every few seconds; one that is silent for longer was cut off.
pub const RUN_SILENT_MICROS: i64 = 60 * 1_000_000;

impl RunRow {
    /// Whether it should be running and gives no sign of life.
    pub fn is_silent(&self, now: i64) -> bool {
        self.error.is_none() && self.state == "running" && now - self.beat_at > RUN_SILENT_MICROS
    }
}

/// What became of a subject that a run skipped or parked.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct OutcomeRow {
    pub subject_kind: String,
    pub subject_id: String,
    pub outcome: String,
    pub code: Option<String>,
    /// Of a parked subject: what was said then, or since.
    pub message: Option<String>,
    pub records: Option<String>,
}

impl Session {
    /// Past runs, latest first.
    pub async fn list_runs(&mut self, tenant_id: Option<&str>, limit: i64) -> Result<Vec<RunRow>> {
        Ok(on!(self, |conn| {
            sqlx::query_as::<Db, RunRow>(
            "select tenant_id, run_id, run_date, kind, requested_by, state, subject, plan_hash, batches, billed,
                    already_billed, skipped, parked, withheld, never_charged, totals, error, started_at, beat_at, finished_at, share
             from runs
             where (cast($1 as text) is null or tenant_id = $1)
             order by started_at desc, tenant_id
             limit $2"
        )
        .bind(tenant_id)
        .bind(limit)
        .fetch_all(conn)
        .await?
        }))
    }

    /// A page of one tenant's runs, by when they began.
    pub async fn list_run_page(&mut self, tenant_id: &str, page: &Page) -> Result<Vec<RunRow>> {
        Ok(on!(self, |conn| {
            let mut query = sqlx::QueryBuilder::<Db>::new(
                "select * from (select r.*, r.started_at as created_at from runs r) runs where tenant_id = ",
            );
            query.push_bind(tenant_id);
            page.push_to(&mut query, "run_id");
            query.build_query_as::<RunRow>().fetch_all(conn).await?
        }))
    }

    /// Whether a run of the tenant has shown a sign of life since then and has not ended.
    pub async fn is_run_alive(&mut self, tenant_id: &str, since: i64) -> Result<bool> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, bool>(
            "select exists(select 1 from runs where tenant_id = $1 and state = 'running' and beat_at >= $2)"
        )
        .bind(tenant_id)
        .bind(since)
        .fetch_one(conn)
        .await?))
    }

    /// Runs that completed at `since` or later, first to last; a retry is left out, for it bills no date.
    pub async fn list_completed_since(&mut self, since: i64, limit: i64) -> Result<Vec<RunRow>> {
        Ok(on!(self, |conn| {
            sqlx::query_as::<Db, RunRow>(
            "select tenant_id, run_id, run_date, kind, requested_by, state, subject, plan_hash, batches, billed,
                    already_billed, skipped, parked, withheld, never_charged, totals, error, started_at, beat_at, finished_at, share
             from runs
             where finished_at >= $1 and state = 'completed' and kind <> 'retry'
             order by tenant_id, run_date, started_at
             limit $2"
        )
        .bind(since)
        .bind(limit)
        .fetch_all(conn)
        .await?
        }))
    }

    /// When a run was last completed.
    pub async fn last_completion(&mut self) -> Result<Option<i64>> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, Option<i64>>(
            "select max(finished_at) from runs where state = 'completed'"
        )
        .fetch_one(conn)
        .await?))
    }

    /// One run's records, one a tenant, ordered by tenant.
    pub async fn find_run(&mut self, run_id: &str) -> Result<Vec<RunRow>> {
        Ok(on!(self, |conn| {
            sqlx::query_as::<Db, RunRow>(
            "select tenant_id, run_id, run_date, kind, requested_by, state, subject, plan_hash, batches, billed,
                    already_billed, skipped, parked, withheld, never_charged, totals, error, started_at, beat_at, finished_at, share
             from runs
             where run_id = $1
             order by tenant_id"
        )
        .bind(run_id)
        .fetch_all(conn)
        .await?
        }))
    }

    /// The subjects that a run skipped or parked, groups first, then by id.
    pub async fn list_unbilled(
        &mut self,
        tenant_id: &str,
        run_id: &str,
        run_date: NaiveDate,
    ) -> Result<Vec<OutcomeRow>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, OutcomeRow>(
            "select o.subject_kind, o.subject_id, o.outcome, o.code, p.message, p.records
             from outcomes o
             left join parked p on p.tenant_id = o.tenant_id and p.run_date = o.run_date
                               and p.subject_kind = o.subject_kind and p.subject_id = o.subject_id
             where o.tenant_id = $1 and o.run_date = $2 and o.run_id = $3 and o.outcome in ('skipped', 'parked')
             order by o.subject_kind, o.subject_id"
        )
        .bind(tenant_id)
        .bind(run_date)
        .bind(run_id)
        .fetch_all(conn)
        .await?))
    }

    /// Periods that a run withheld and that have no line yet: rental, its group, period.
    pub async fn list_withheld_by(
        &mut self,
        tenant_id: &str,
        run_id: &str,
    ) -> Result<Vec<(String, Option<String>, String)>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, (String, Option<String>, String)>(
            "select a.rental_id, r.billed_group_id, a.billing_period
             from arrears a
             left join rentals r on r.tenant_id = a.tenant_id and r.rental_id = a.rental_id
             where a.tenant_id = $1 and a.decided_by = $2 and a.state = 'withheld'
             order by a.rental_id, a.billing_period"
        )
        .bind(tenant_id)
        .bind(run_id)
        .fetch_all(conn)
        .await?))
    }
}

/// Reads what `ledger::totals_json` wrote.
pub fn parse_totals(text: &str) -> std::collections::BTreeMap<String, crate::domain::report::Totals> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
    let number = |value: &serde_json::Value, key: &str| {
        value.get(key).and_then(|n| n.to_string().parse::<i128>().ok()).unwrap_or_default()
    };
    object
        .iter()
        .map(|(currency, value)| {
            let totals = crate::domain::report::Totals {
                payments: number(value, "payments") as u64,
                subtotal: number(value, "subtotal"),
                tax_amount: number(value, "taxAmount"),
                total: number(value, "total"),
            };
            (currency.clone(), totals)
        })
        .collect()
}
