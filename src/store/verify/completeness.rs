//! Nothing missed: what a completed date had to look at, against the outcomes that are on record.
//!
//! What was due then is derived from the data as it is now, so only records that are unchanged since prove anything: those last
//! changed before the run began. A change that is older than the run but was committed after the run had read it would
//! accuse that run wrongly.

use std::collections::{HashMap, HashSet};

use chrono::NaiveDate;
use sqlx::FromRow;

use crate::domain::plan::DueSubject;
use crate::domain::{BillingDay, SubjectKind, Tenant};

use super::super::due::DueReader;
use super::super::{Result, Session, dialect, on};
use super::{Audited, Finding};

/// Rentals of due subjects that are read at once.
const BATCH: usize = 2000;
/// Groups that are read at once, with the ids of their members.
const GROUPS: i64 = 200;

/// A completed date with when the run that completed it began.
#[derive(FromRow)]
struct Completed {
    run_date: NaiveDate,
    started_at: i64,
}

/// A due group with what its outcome says.
#[derive(FromRow)]
struct SeenGroup {
    billing_group_id: String,
    /// When the run that wrote the outcome began.
    started_at: i64,
    /// JSON: the rentals that the run saw.
    rentals: String,
}

#[derive(FromRow)]
struct Member {
    billing_group_id: String,
    rental_id: String,
    changed_at: i64,
}

impl Session {
    pub(super) async fn check_completeness(&mut self, tenants: &[Audited]) -> Result<Vec<Finding>> {
        let mut readable =
            Finding::new("tenant_unreadable", "each tenant's settings can be read, so that its dates can be proved");
        let mut subjects = Finding::new(
            "subject_missed",
            "each subject that a completed date had to bill has an outcome of that date",
        );
        let mut members =
            Finding::new("rental_missed", "each member of a billed group was seen by the run that billed it");
        for Audited { tenant_id, tenant, .. } in tenants {
            match tenant {
                Err(bad) => readable.note(|| format!("tenant {tenant_id}: its {} is '{}'", bad.field, bad.value)),
                Ok(tenant) => {
                    for completed in self.provable_dates(tenant_id).await? {
                        self.find_missed_subjects(tenant, &completed, &mut subjects).await?;
                        self.find_missed_members(tenant_id, completed.run_date, &mut members).await?;
                    }
                }
            }
        }
        Ok(vec![readable, subjects, members])
    }

    /// The completed dates since the tenant's own settings were last changed: an earlier billing cycle, say, is unknown.
    async fn provable_dates(&mut self, tenant_id: &str) -> Result<Vec<Completed>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, Completed>(
            "select d.run_date, r.started_at
             from completed_dates d
             join runs r on r.tenant_id = d.tenant_id and r.run_id = d.run_id
             join tenants t on t.tenant_id = d.tenant_id
             where d.tenant_id = $1 and t.changed_at < r.started_at
             order by d.run_date"
        )
        .bind(tenant_id)
        .fetch_all(conn)
        .await?))
    }

    async fn find_missed_subjects(&mut self, tenant: &Tenant, date: &Completed, missed: &mut Finding) -> Result<()> {
        let mut reader = DueReader::unrecorded(tenant, date.run_date, date.started_at);
        loop {
            let batch = reader.next_batch(self, BATCH, None).await?;
            if batch.is_empty() {
                return Ok(());
            }
            for due in batch.iter().filter(|due| had_to_be_recorded(&due.subject, tenant, date.run_date)) {
                let (tenant_id, subject, run_date) = (&tenant.tenant_id, &due.subject.subject, date.run_date);
                missed.note(|| format!("tenant {tenant_id}: {subject}, run date {run_date}"));
            }
        }
    }

    /// Looks for members that the run which wrote a group's outcome did not see; one already billed was not looked into.
    async fn find_missed_members(&mut self, tenant_id: &str, run_date: NaiveDate, missed: &mut Finding) -> Result<()> {
        let Some(day) = BillingDay::due_on(run_date).next() else { return Ok(()) };
        let mut after = String::new();
        loop {
            let groups = self.seen_groups(tenant_id, run_date, day, &after).await?;
            let Some(last) = groups.last() else { return Ok(()) };
            after = last.billing_group_id.clone();
            let ids: Vec<String> = groups.iter().map(|group| group.billing_group_id.clone()).collect();
            let seen: HashMap<&str, (i64, HashSet<String>)> = groups
                .iter()
                .map(|group| {
                    let rentals = serde_json::from_str(&group.rentals).unwrap_or_default();
                    (group.billing_group_id.as_str(), (group.started_at, rentals))
                })
                .collect();
            for Member { billing_group_id, rental_id, changed_at } in self.members(tenant_id, &ids).await? {
                let Some((started_at, rentals)) = seen.get(billing_group_id.as_str()) else { continue };
                if changed_at < *started_at && !rentals.contains(&rental_id) {
                    missed.note(|| {
                        format!("tenant {tenant_id}: group {billing_group_id}, run date {run_date}, rental {rental_id}")
                    });
                }
            }
        }
    }

    async fn seen_groups(
        &mut self,
        tenant_id: &str,
        run_date: NaiveDate,
        day: BillingDay,
        after: &str,
    ) -> Result<Vec<SeenGroup>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, SeenGroup>(
            "select g.billing_group_id, r.started_at, o.rentals
             from outcomes o
             join billing_groups g on g.tenant_id = o.tenant_id and g.billing_group_id = o.subject_id
             join runs r on r.tenant_id = o.tenant_id and r.run_id = o.run_id
             where o.tenant_id = $1 and o.run_date = $2 and o.subject_kind = 'group' and o.subject_id > $3
               and o.outcome <> 'already_billed' and g.billing_day = $4 and g.status = 'active'
               and g.changed_at < r.started_at
             order by o.subject_id
             limit $5"
        )
        .bind(tenant_id)
        .bind(run_date)
        .bind(after)
        .bind(i64::from(day.number()))
        .bind(GROUPS)
        .fetch_all(conn)
        .await?))
    }

    async fn members(&mut self, tenant_id: &str, groups: &[String]) -> Result<Vec<Member>> {
        Ok(on!(self, |conn| dialect::with_keys::<Db>(
            "select billing_group_id, rental_id, changed_at
             from rentals
             where tenant_id = $2 and billing_group_id in $keys",
            groups
        )
        .bind(tenant_id)
        .try_map(|row| Member::from_row(&row))
        .fetch_all(conn)
        .await?))
    }
}

/// A group always has an outcome; a rental billed alone if it was billable on that day, or if it cannot even be read.
fn had_to_be_recorded(due: &DueSubject, tenant: &Tenant, run_date: NaiveDate) -> bool {
    due.subject.kind == SubjectKind::Group
        || due.rentals.iter().any(|due| match due {
            Ok(due) => due.rental.billable_on(run_date, tenant.contract_end),
            Err(_) => true,
        })
}
