//! What is worth knowing and no violation: it waits for a person, or the next billing date sets it right.

use std::collections::HashSet;

use chrono::{Datelike, NaiveDate};
use sqlx::FromRow;

use crate::domain::calendar::add_months;
use crate::domain::plan::{LOOK_BACK, PlanContext, plan};
use crate::domain::rental::Term;
use crate::domain::{BillingPeriod, Rental, Tenant};

use super::super::due::{DueReader, RentalWithDay};
use super::super::row::RentalRow;
use super::super::{Result, Session, dialect, on};
use super::{Audited, Finding, Statement};

/// Rentals that are read at once.
const PAGE: i64 = 1000;
/// Rentals of due subjects that are read at once.
const BATCH: usize = 2000;
/// So many dates hold a billing date of every subject.
const DATES_AHEAD: usize = 31;

const PARKED: Statement = Statement {
    check: "parked_open",
    what: "subjects that could not be billed and wait for a person",
    sql: "
        select tenant_id, subject_kind || ' ' || subject_id || ', run date ' || run_date || ', ' || code as named
        from parked
        where state = 'open'",
};

const WAIVED: Statement = Statement {
    check: "waived",
    what: "periods that somebody decided never to charge",
    sql: "
        select a.tenant_id, 'rental ' || a.rental_id || ', period ' || a.billing_period || ', by ' || a.decided_by || ': '
                   || coalesce(a.reason, 'no reason given') as named
        from arrears a
        where a.state = 'waived'
          and not exists(select 1 from payment_lines l
                         where l.tenant_id = a.tenant_id and l.rental_id = a.rental_id
                           and l.billing_period = a.billing_period and l.live)",
};

/// `$2` is the earliest period that billing dates still look back to.
const WITHHELD: Statement = Statement {
    check: "withheld",
    what: "gaps that are held back until a person confirms or waives them",
    sql: "
        select a.tenant_id, 'rental ' || a.rental_id || ', period ' || a.billing_period as named
        from arrears a
        where a.state = 'withheld' and a.billing_period >= $2
          and not exists(select 1 from payment_lines l
                         where l.tenant_id = a.tenant_id and l.rental_id = a.rental_id
                           and l.billing_period = a.billing_period and l.live)",
};

/// `$2` as in [`WITHHELD`].
const LAPSED: Statement = Statement {
    check: "lapsed",
    what: "gaps held back for so long that no billing date asks for them any more",
    sql: "
        select a.tenant_id, 'rental ' || a.rental_id || ', period ' || a.billing_period as named
        from arrears a
        where a.state = 'withheld' and a.billing_period < $2
          and not exists(select 1 from payment_lines l
                         where l.tenant_id = a.tenant_id and l.rental_id = a.rental_id
                           and l.billing_period = a.billing_period and l.live)",
};

pub(super) const UNPROVABLE: Statement = Statement {
    check: "dates_not_provable",
    what: "completed dates from before the tenant's settings were last changed: what was due then is no longer known",
    sql: "
        select d.tenant_id, 'run date ' || d.run_date as named
        from completed_dates d
        join runs r on r.tenant_id = d.tenant_id and r.run_id = d.run_id
        join tenants t on t.tenant_id = d.tenant_id
        where t.changed_at >= r.started_at",
};

/// A rental whose contract may have run its length, with the number of its charges.
#[derive(FromRow)]
struct Contract {
    #[sqlx(flatten)]
    rental: RentalRow,
    line_count: i64,
}

impl Session {
    pub(super) async fn list_information(
        &mut self,
        tenant_id: Option<&str>,
        tenants: &[Audited],
    ) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for statement in [&PARKED, &WAIVED, &UNPROVABLE] {
            findings.push(self.find(statement, tenant_id).await?);
        }
        for statement in [&WITHHELD, &LAPSED] {
            let mut withheld = Finding::new(statement.check, statement.what);
            for Audited { tenant_id, today, .. } in tenants {
                let earliest = BillingPeriod::of(*today).plus(-LOOK_BACK);
                withheld.absorb(self.find_by_period(statement, tenant_id, earliest).await?);
            }
            findings.push(withheld);
        }
        let mut gaps = Finding::new("gaps_to_be_charged", "gaps that the next billing date of their subject charges");
        let mut short =
            Finding::new("short_contracts", "contracts that ran their length with fewer charges than months");
        let mut holes =
            Finding::new("holes_in_history", "holes in the imported history since billday bills: never charged");
        for Audited { tenant, today, .. } in tenants {
            if let Ok(tenant) = tenant {
                self.list_gaps(tenant, *today, &mut gaps).await?;
                self.list_short_contracts(tenant, *today, &mut short).await?;
                self.list_holes(tenant, &mut holes).await?;
            }
        }
        findings.extend([gaps, short, holes]);
        Ok(findings)
    }

    async fn find_by_period(
        &mut self,
        statement: &Statement,
        tenant_id: &str,
        period: BillingPeriod,
    ) -> Result<Finding> {
        let found: Vec<(String, i64)> = on!(self, |conn| sqlx::query_as::<Db, _>(dialect::counted(statement.sql))
            .bind(tenant_id)
            .bind(period.to_string())
            .fetch_all(conn)
            .await?);
        Ok(statement.finding(found))
    }

    /// Plans the next billing date of every subject on the ledger as it is.
    async fn list_gaps(&mut self, tenant: &Tenant, today: NaiveDate, gaps: &mut Finding) -> Result<()> {
        let is_done = !self.completed_dates(&tenant.tenant_id, today, today).await?.is_empty();
        // Without its run, today is the next billing date of what is due today: no gap yet.
        let Some(first) = today.iter_days().nth(usize::from(is_done)) else { return Ok(()) };
        for run_date in first.iter_days().take(DATES_AHEAD) {
            let mut reader = DueReader::new(tenant, run_date, None);
            loop {
                let batch = reader.next_batch(self, BATCH, None).await?;
                if batch.is_empty() {
                    break;
                }
                // In a short month the dates hold two billing dates of some subjects.
                let next =
                    batch.into_iter().map(|due| due.subject).filter(|s| s.day.first_on_or_after(first) == run_date);
                let due: Vec<_> = next.collect();
                let planned = plan(PlanContext { tenant, run_date, issue_date: run_date }, &due);
                for payment in planned.subjects.iter().filter_map(|subject| subject.outcome.payment()) {
                    for line in payment.lines.iter().filter(|line| line.arrears) {
                        let (rental_id, period) = (&line.rental_id, line.billing_period);
                        let tenant_id = &tenant.tenant_id;
                        gaps.note(|| format!("tenant {tenant_id}: rental {rental_id}, period {period}, on {run_date}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Contracts that were neither cut short nor prolonged (rule 9); others end with fewer charges by their nature.
    async fn list_short_contracts(&mut self, tenant: &Tenant, today: NaiveDate, short: &mut Finding) -> Result<()> {
        let mut after = String::new();
        loop {
            let page = self.run_out_contracts(&tenant.tenant_id, today, &after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.rental.rental_id.clone();
            for Contract { rental, line_count } in page {
                let Ok(rental) = Rental::try_from(rental) else { continue };
                let Some(length) = rental.charges_max(tenant.contract_end) else { continue };
                let end = add_months(rental.start_date, length);
                if rental.term(tenant.contract_end) == Term::Until(end)
                    && end <= today
                    && line_count < i64::from(length)
                {
                    let (tenant_id, rental_id) = (&tenant.tenant_id, &rental.rental_id);
                    short.note(|| format!("tenant {tenant_id}: rental {rental_id}, {line_count} of {length} charges"));
                }
            }
        }
    }

    /// Rentals whose contract length ended in or before this month, with fewer lines than it has months.
    async fn run_out_contracts(&mut self, tenant_id: &str, today: NaiveDate, after: &str) -> Result<Vec<Contract>> {
        Ok(on!(self, |conn| {
            sqlx::query_as::<Db, Contract>(
            "select r.rental_id, r.customer_id, r.billing_group_id, r.monthly_amount, r.currency, r.status, r.start_date,
                    r.end_date, r.contract_length, r.ended_on, r.closed_through, r.product_name, r.serial_number,
                    r.sort_key,
                    (select count(*) from payment_lines l
                     where l.tenant_id = r.tenant_id and l.rental_id = r.rental_id and l.billing_period > '' and l.live) as line_count
             from rentals r
             where r.tenant_id = $1 and r.rental_id > $2
               and cast(substr(cast(r.start_date as text), 1, 4) as bigint) * 12
                   + cast(substr(cast(r.start_date as text), 6, 2) as bigint) + r.contract_length <= $3
               and r.contract_length > (select count(*) from payment_lines l
                                        where l.tenant_id = r.tenant_id and l.rental_id = r.rental_id and l.billing_period > '' and l.live)
             order by r.rental_id
             limit $4"
        )
        .bind(tenant_id)
        .bind(after)
        .bind(i64::from(today.year()) * 12 + i64::from(today.month()))
        .bind(PAGE)
        .fetch_all(conn)
        .await?
        }))
    }

    /// Periods without a line between `billFrom` and a rental's latest imported line: closed, so never charged (rule 8).
    async fn list_holes(&mut self, tenant: &Tenant, holes: &mut Finding) -> Result<()> {
        let from = BillingPeriod::of(tenant.bill_from);
        let mut after = String::new();
        loop {
            let page = self.closed_rentals(&tenant.tenant_id, from, &after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.rental.rental_id.clone();
            let ids: Vec<String> = page.iter().map(|row| row.rental.rental_id.clone()).collect();
            let lines = self.lines_since(&tenant.tenant_id, from, &ids).await?;
            for row in page {
                let day = row.day(tenant);
                let closed = row.rental.closed_through.as_deref().and_then(BillingPeriod::parse);
                let (Some(closed), Ok(rental)) = (closed, Rental::try_from(row.rental)) else { continue };
                for period in (0..closed.months_after(from)).map(|months| from.plus(months)) {
                    let date = day.date_in(period);
                    let was_due = date >= tenant.bill_from && rental.billable_on(date, tenant.contract_end);
                    if was_due && !lines.contains(&(rental.rental_id.clone(), period.to_string())) {
                        let (tenant_id, rental_id) = (&tenant.tenant_id, &rental.rental_id);
                        holes.note(|| format!("tenant {tenant_id}: rental {rental_id}, period {period}"));
                    }
                }
            }
        }
    }

    async fn closed_rentals(
        &mut self,
        tenant_id: &str,
        from: BillingPeriod,
        after: &str,
    ) -> Result<Vec<RentalWithDay>> {
        Ok(on!(self, |conn| {
            sqlx::query_as::<Db, RentalWithDay>(
            "select r.rental_id, r.customer_id, r.billing_group_id, r.monthly_amount, r.currency, r.status, r.start_date,
                    r.end_date, r.contract_length, r.ended_on, r.closed_through, r.product_name, r.serial_number,
                    r.sort_key, g.billing_day as group_day
             from rentals r
             left join billing_groups g on g.tenant_id = r.tenant_id and g.billing_group_id = r.billed_group_id
             where r.tenant_id = $1 and r.rental_id > $2 and r.closed_through > $3
             order by r.rental_id
             limit $4"
        )
        .bind(tenant_id)
        .bind(after)
        .bind(from.to_string())
        .bind(PAGE)
        .fetch_all(conn)
        .await?
        }))
    }

    async fn lines_since(
        &mut self,
        tenant_id: &str,
        from: BillingPeriod,
        rentals: &[String],
    ) -> Result<HashSet<(String, String)>> {
        let lines: Vec<(String, String)> = on!(self, |conn| dialect::with_keys::<Db>(
            "select rental_id, billing_period
             from payment_lines
             where tenant_id = $2 and live and billing_period >= $3 and rental_id in $keys",
            rentals
        )
        .bind(tenant_id)
        .bind(from.to_string())
        .try_map(|row| <(String, String)>::from_row(&row))
        .fetch_all(conn)
        .await?);
        Ok(lines.into_iter().collect())
    }
}
