//! Proves the ledger, or names what refutes it: nothing twice, nothing missed, sums agree, numbers gapless.
//!
//! ```text
//! one snapshot ─┬─► invariants     one statement each, over the whole ledger
//!               ├─► numbers        the invoices of each series, in order: numbers, dates, tax
//!               │   └─► parties    seller and buyer as each invoice shows them
//!               ├─► records        runs against their payments, outcomes against their lines, parked subjects against their gaps
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
mod parties;
mod records;

use chrono::{DateTime, NaiveDate, Utc};

use crate::domain::calendar::local_date;
use crate::domain::invoice::series_name;
use crate::domain::plan::BadRecord;
use crate::domain::{Currency, Tenant};

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

impl Audit {
    /// Adds a check that was made elsewhere.
    pub fn add(&mut self, checked: Finding) {
        if checked.count > 0 { self.violations.push(checked) } else { self.passed.push(checked) }
    }

    /// How many completed dates can no longer be proved, so that nothing is said about what they may have missed.
    pub fn dates_not_provable(&self) -> u64 {
        self.information.iter().filter(|listed| listed.check == information::UNPROVABLE.check).map(|f| f.count).sum()
    }
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
    /// A check that has found nothing yet.
    pub fn new(check: &'static str, what: &'static str) -> Self {
        Self { check, what, count: 0, rows: Vec::new() }
    }

    /// Adds what the same check found elsewhere.
    fn absorb(&mut self, other: Self) {
        self.count += other.count;
        let left = ROWS_MAX.saturating_sub(self.rows.len());
        self.rows.extend(other.rows.into_iter().take(left));
    }

    /// Counts one more, and names it if it is among the first.
    pub fn note(&mut self, row: impl FnOnce() -> String) {
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
    /// Selects what it finds: `tenant_id`, and `named`, the ids, with what [`written_out`] knows in `<< >>`.
    sql: &'static str,
}

impl Statement {
    fn finding(&self, found: Vec<(String, i64)>) -> Finding {
        let count = found.first().map_or(0, |(_, count)| *count as u64);
        let rows = found.into_iter().map(|(row, _)| written_out(&row)).collect();
        Finding { count, rows, ..Finding::new(self.check, self.what) }
    }
}

/// Says for people what SQL cannot: `<<EUR 15900>>` is 159.00 EUR, `<<series INV-{seq:06}>>` is series INV-….
fn written_out(row: &str) -> String {
    let mut text = String::with_capacity(row.len());
    let mut rest = row;
    while let Some((before, marked)) = rest.split_once("<<")
        && let Some((marked, after)) = marked.split_once(">>")
    {
        text.push_str(before);
        match marked.split_once(' ') {
            Some(("series", series)) => text.push_str(&format!("series {}", series_name(series))),
            Some((code, minor)) => match minor.parse() {
                Ok(minor) => text.push_str(&amount(code, minor)),
                Err(_) => text.push_str(marked),
            },
            None => text.push_str(marked),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// An amount for people, `159.00 EUR`; in minor units if nobody knows the currency.
fn amount(code: &str, minor: i128) -> String {
    match Currency::from_code(code) {
        Some(currency) => format!("{} {code}", currency.format_sum(minor)),
        None => format!("{minor} minor units of {code}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_series_are_written_for_people() {
        assert_eq!(written_out("payment a, <<EUR 15900>> and <<JPY 5>>, 3"), "payment a, 159.00 EUR and 5 JPY, 3");
        assert_eq!(written_out("<<series NL-2026-{seq:05}>>, on record"), "series NL-2026-…, on record");
        assert_eq!(written_out("<<ABC 7>>, <<odd>>, <<no end"), "7 minor units of ABC, odd, <<no end");
    }
}
