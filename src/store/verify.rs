//! Proves the ledger, or names what refutes it: nothing twice, nothing missed, sums agree, numbers gapless.
//!
//! ```text
//! one snapshot ─┬─► invariants     one statement each, over the whole ledger
//!               ├─► numbers        the invoices of each series, in order
//!               ├─► records        runs against their payments, outcomes against the lines made for them
//!               ├─► completeness   completed dates against what is due by the present data
//!               └─► information    what waits for a person or the next billing date: no violation
//! ```
//!
//! Every check is one statement or one paged walk, so memory stays flat and the time grows with the ledger alone. Imported
//! payments are checked for uniqueness only: what they say is the business of where they came from.

mod completeness;
mod information;
mod invariants;
mod numbers;
mod records;

use chrono::{DateTime, NaiveDate, Utc};

use crate::domain::Tenant;
use crate::domain::calendar::local_date;
use crate::domain::plan::BadRecord;

use super::{Result, Session, dialect, on};

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    pub tenants: i64,
    pub payments: i64,
    pub lines: i64,
    pub completed_dates: i64,
    pub outcomes: i64,
    /// The checks that found nothing.
    pub passed: Vec<Finding>,
    /// The checks that refute the ledger.
    pub violations: Vec<Finding>,
    /// What is worth knowing and no violation.
    pub information: Vec<Finding>,
}

/// One check with all that it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable, for scripts.
    pub check: &'static str,
    /// Of a check, what must hold; of information, what is listed.
    pub what: &'static str,
    pub count: u64,
    /// The first ones ([`ROWS_MAX`]), each with its tenant and ids.
    pub rows: Vec<String>,
}

/// How many rows a finding names; the others are counted. `dialect::counted` has the same limit.
pub const ROWS_MAX: usize = 20;

impl Finding {
    fn new(check: &'static str, what: &'static str) -> Self {
        Self { check, what, count: 0, rows: Vec::new() }
    }

    /// Adds what the same check found elsewhere.
    fn absorb(&mut self, other: Self) {
        self.count += other.count;
        let left = ROWS_MAX.saturating_sub(self.rows.len());
        self.rows.extend(other.rows.into_iter().take(left));
    }

    /// Counts one more, and names it if it is among the first.
    fn note(&mut self, row: impl FnOnce() -> String) {
        self.count += 1;
        if self.rows.len() < ROWS_MAX {
            self.rows.push(row());
        }
    }
}

/// A check that one statement makes.
struct Statement {
    check: &'static str,
    what: &'static str,
    /// Selects what it finds: `tenant_id`, and `named`, the ids.
    sql: &'static str,
}

impl Statement {
    fn finding(&self, found: Vec<(String, i64)>) -> Finding {
        let count = found.first().map_or(0, |(_, count)| *count as u64);
        let rows = found.into_iter().map(|(row, _)| row).collect();
        Finding { count, rows, ..Finding::new(self.check, self.what) }
    }
}

/// A tenant with what the audit derives from it.
struct Audited {
    tenant_id: String,
    tenant: Result<Tenant, BadRecord>,
    /// Its own date; in UTC if its zone cannot be read.
    today: NaiveDate,
}

impl Session {
    /// Audits the ledger of one tenant, or of all, as it is in this snapshot.
    pub async fn audit(&mut self, tenant_id: Option<&str>, now: DateTime<Utc>) -> Result<Audit> {
        let tenants = self.audited_tenants(tenant_id, now).await?;
        let mut findings = self.invariants(tenant_id).await?;
        findings.extend(self.check_numbers(tenant_id).await?);
        findings.extend(self.check_records(&tenants).await?);
        findings.extend(self.check_completeness(&tenants).await?);
        let (violations, passed) = findings.into_iter().partition(|finding: &Finding| finding.count > 0);
        let mut information = self.list_information(tenant_id, &tenants).await?;
        information.retain(|finding| finding.count > 0);
        Ok(Audit {
            tenants: tenants.len() as i64,
            payments: self.count_rows(PAYMENTS, tenant_id).await?,
            lines: self.count_rows(LINES, tenant_id).await?,
            completed_dates: self.count_rows(COMPLETED_DATES, tenant_id).await?,
            outcomes: self.count_rows(OUTCOMES, tenant_id).await?,
            passed,
            violations,
            information,
        })
    }

    async fn audited_tenants(&mut self, only: Option<&str>, now: DateTime<Utc>) -> Result<Vec<Audited>> {
        let tenants = self.list_tenants().await?.into_iter();
        Ok(tenants
            .filter(|(tenant_id, _)| only.is_none_or(|only| only == tenant_id))
            .map(|(tenant_id, tenant)| {
                let zone = tenant.as_ref().map_or(chrono_tz::UTC, |tenant| tenant.time_zone);
                Audited { tenant_id, today: local_date(now, zone), tenant }
            })
            .collect())
    }

    async fn invariants(&mut self, tenant_id: Option<&str>) -> Result<Vec<Finding>> {
        let mut findings = Vec::with_capacity(invariants::INVARIANTS.len());
        for statement in invariants::INVARIANTS {
            findings.push(self.find(statement, tenant_id).await?);
        }
        Ok(findings)
    }

    async fn find(&mut self, statement: &Statement, tenant_id: Option<&str>) -> Result<Finding> {
        let found: Vec<(String, i64)> = on!(self, |conn| sqlx::query_as::<Db, _>(dialect::counted(statement.sql))
            .bind(tenant_id)
            .fetch_all(conn)
            .await?);
        Ok(statement.finding(found))
    }

    async fn count_rows(&mut self, sql: &'static str, tenant_id: Option<&str>) -> Result<i64> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, i64>(sql).bind(tenant_id).fetch_one(conn).await?))
    }
}

const PAYMENTS: &str = "select count(*) from payments where cast($1 as text) is null or tenant_id = $1";
const LINES: &str = "select count(*) from payment_lines where cast($1 as text) is null or tenant_id = $1";
const COMPLETED_DATES: &str = "select count(*) from completed_dates where cast($1 as text) is null or tenant_id = $1";
const OUTCOMES: &str = "select count(*) from outcomes where cast($1 as text) is null or tenant_id = $1";
