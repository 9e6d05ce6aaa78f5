//! Subjects that could not be billed: what waits for a person, and how each ended (rule 17).

use chrono::NaiveDate;
use sqlx::FromRow;

use crate::domain::plan::Mark;
use crate::domain::{BillingPeriod, Subject, SubjectKind};

use super::{Result, Session, on};

/// A parked subject as people see it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ParkedRow {
    pub tenant_id: String,
    pub run_date: NaiveDate,
    pub subject_kind: String,
    pub subject_id: String,
    pub code: String,
    pub message: String,
    /// JSON: what is wrong, as in the report.
    pub records: String,
    /// JSON: pairs of rental and period that would have been charged.
    pub charges: String,
    pub state: String,
    /// How it ended, once it is closed.
    pub resolution: Option<String>,
    pub reason: Option<String>,
    pub run_id: String,
    /// Microseconds UTC.
    pub tried_at: i64,
}

impl ParkedRow {
    /// The subject that is parked.
    pub fn subject(&self) -> Subject {
        let kind = SubjectKind::parse(&self.subject_kind).unwrap_or(SubjectKind::Rental);
        Subject { kind, id: self.subject_id.clone() }
    }

    /// Rental and period of each line that would have been made.
    pub fn charges(&self) -> Vec<(String, String)> {
        serde_json::from_str(&self.charges).unwrap_or_default()
    }
}

/// Which parked subjects to list; an absent filter takes all.
#[derive(Debug, Clone, Default)]
pub struct ParkedFilter {
    pub tenant_id: Option<String>,
    pub subject_id: Option<String>,
    pub run_date: Option<NaiveDate>,
    /// Closed ones too.
    pub all: bool,
}

impl Session {
    /// Parked subjects, oldest run date first.
    pub async fn list_parked(&mut self, filter: &ParkedFilter) -> Result<Vec<ParkedRow>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, ParkedRow>(
            "select tenant_id, run_date, subject_kind, subject_id, code, message, records, charges, state, resolution,
                    reason, run_id, tried_at
             from parked
             where (state = 'open' or $1) and (cast($2 as text) is null or tenant_id = $2)
               and (cast($3 as text) is null or subject_id = $3) and (cast($4 as date) is null or run_date = $4)
             order by run_date, tenant_id, subject_kind, subject_id"
        )
        .bind(filter.all)
        .bind(&filter.tenant_id)
        .bind(&filter.subject_id)
        .bind(filter.run_date)
        .fetch_all(conn)
        .await?))
    }

    /// Closes what a finished run settled: its date's subjects that it billed or that are no longer due, and any whose periods
    /// have been charged or waived since. A date that was shared out has several runs, which began at `since` or later.
    pub async fn settle_parked(
        &mut self,
        tenant_id: &str,
        run_ids: &[String],
        since: i64,
        run_date: NaiveDate,
        only: Option<&Subject>,
        now: i64,
    ) -> Result<()> {
        let filter = ParkedFilter { tenant_id: Some(tenant_id.to_owned()), ..ParkedFilter::default() };
        for parked in self.list_parked(&filter).await? {
            let subject = parked.subject();
            // One that another run parked meanwhile is still due.
            let seen =
                parked.run_date == run_date && only.is_none_or(|only| *only == subject) && parked.tried_at <= since;
            let resolution = if run_ids.contains(&parked.run_id) {
                continue;
            } else if self.has_payment(tenant_id, &subject, BillingPeriod::of(parked.run_date)).await? {
                "billed"
            } else if seen {
                "no longer due"
            } else if self.all_settled(tenant_id, &parked.charges()).await? {
                "charged"
            } else {
                continue;
            };
            self.close_parked(&parked, resolution, None, now).await?;
        }
        Ok(())
    }

    /// Closes a parked subject with the outcome named.
    pub async fn close_parked(
        &mut self,
        parked: &ParkedRow,
        resolution: &str,
        reason: Option<&str>,
        now: i64,
    ) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update parked set state = 'closed', resolution = $5, reason = $6, closed_at = $7
             where tenant_id = $1 and run_date = $2 and subject_kind = $3 and subject_id = $4 and state = 'open'"
        )
        .bind(&parked.tenant_id)
        .bind(parked.run_date)
        .bind(&parked.subject_kind)
        .bind(&parked.subject_id)
        .bind(resolution)
        .bind(reason)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Dismisses a parked subject: its periods are waived and never charged, neither by a retry nor as arrears.
    pub async fn dismiss_parked(&mut self, parked: &ParkedRow, reason: &str, by: &str, now: i64) -> Result<()> {
        for (rental_id, period) in parked.charges() {
            self.decide_arrears(&parked.tenant_id, &rental_id, &period, Mark::Waived, Some(reason), by, now).await?;
        }
        self.close_parked(parked, "dismissed", Some(reason), now).await
    }

    async fn has_payment(&mut self, tenant_id: &str, subject: &Subject, period: BillingPeriod) -> Result<bool> {
        Ok(on!(self, |conn| {
            sqlx::query_scalar::<Db, bool>(
            "select exists(select 1 from payments
                           where tenant_id = $1 and subject_kind = $2 and subject_id = $3 and billing_period = $4 and live)"
        )
        .bind(tenant_id)
        .bind(subject.kind.as_str())
        .bind(&subject.id)
        .bind(period.to_string())
        .fetch_one(conn)
        .await?
        }))
    }

    /// Whether each of the periods has a line or is waived; false for none at all.
    async fn all_settled(&mut self, tenant_id: &str, charges: &[(String, String)]) -> Result<bool> {
        for (rental_id, period) in charges {
            let settled = on!(self, |conn| sqlx::query_scalar::<Db, bool>(
                "select exists(select 1 from payment_lines
                               where tenant_id = $1 and rental_id = $2 and billing_period = $3 and live)
                     or exists(select 1 from arrears
                               where tenant_id = $1 and rental_id = $2 and billing_period = $3 and state = 'waived')"
            )
            .bind(tenant_id)
            .bind(rental_id)
            .bind(period)
            .fetch_one(conn)
            .await?);
            if !settled {
                return Ok(false);
            }
        }
        Ok(!charges.is_empty())
    }
}
