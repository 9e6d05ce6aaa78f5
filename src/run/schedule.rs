//! Which dates a run is for, of which tenants, oldest first (rules 1, 5, 19).

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

use crate::clock::{Clock, micros};
use crate::domain::Tenant;
use crate::domain::calendar::local_date;
use crate::domain::catch_up::{Missed, counted_from, missed};
use crate::domain::timekeeping::Reading;
use crate::store::runs::RunKind;
use crate::store::{Session, Store, StoreError};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dates {
    /// Each tenant's today and what it missed (rule 19).
    TodayAndMissed,
    On(NaiveDate),
    /// Both ends included.
    Range(NaiveDate, NaiveDate),
}

/// The dates to run, in order.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    pub dates: Vec<DateWork>,
    /// Dates that nobody runs by itself any more.
    pub overdue: Vec<Overdue>,
}

/// One report: a date with the tenants that run it, or everybody's own today.
#[derive(Debug, Clone)]
pub struct DateWork {
    /// The date, when the user named it.
    pub named_date: Option<NaiveDate>,
    /// Ordered by tenant id.
    pub tenants: Vec<TenantWork>,
}

/// One tenant's date.
#[derive(Debug, Clone)]
pub struct TenantWork {
    pub tenant: Arc<Tenant>,
    pub run_date: NaiveDate,
    pub kind: RunKind,
    /// Later dates of the same schedule build on what this one plans.
    pub more_dates_follow: bool,
}

/// Dates of a tenant that were never completed and are too old to be caught up: a person has to run them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    pub tenant_id: String,
    pub first: NaiveDate,
    pub last: NaiveDate,
    pub count: usize,
}

/// Why a date cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{date} is later than today ({today}) for tenant {tenant_id}: only a --dry-run may look ahead")]
    Future { date: NaiveDate, today: NaiveDate, tenant_id: String },
    #[error("the range is the wrong way round: {from} is after {to}")]
    Reversed { from: NaiveDate, to: NaiveDate },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What tells whether the clock that "today" comes from can be believed; if a person has `accepted` it, whatever was noted before
/// does not count.
pub async fn read_clock(store: &Store, clock: &dyn Clock, accepted: bool) -> Result<Reading, StoreError> {
    let mut session = store.read().await?;
    let last_seen = session.last_seen().await?.filter(|_| !accepted);
    session.end().await;
    let database = if clock.is_machine() { store.database_time().await? } else { None };
    Ok(Reading { wall: micros(clock.now()), steady: clock.steady(), database, last_seen })
}

impl Schedule {
    /// Works out the dates for tenants that are ordered by id.
    pub async fn new(
        tenants: &[Arc<Tenant>],
        dates: Dates,
        dry_run: bool,
        now: DateTime<Utc>,
        session: &mut Session,
    ) -> Result<Self, Refused> {
        let (from, to) = match dates {
            Dates::TodayAndMissed => return Self::today_and_missed(tenants, now, session).await,
            Dates::On(date) => (date, date),
            Dates::Range(from, to) => (from, to),
        };
        if from > to {
            return Err(Refused::Reversed { from, to });
        }
        for tenant in tenants {
            let today = local_date(now, tenant.time_zone);
            if to > today && !dry_run {
                return Err(Refused::Future { date: to, today, tenant_id: tenant.tenant_id.clone() });
            }
        }
        let dates = from
            .iter_days()
            .take_while(|date| *date <= to)
            .map(|date| DateWork {
                named_date: Some(date),
                tenants: tenants
                    .iter()
                    .map(|tenant| TenantWork {
                        tenant: tenant.clone(),
                        run_date: date,
                        kind: RunKind::Explicit,
                        more_dates_follow: date < to,
                    })
                    .collect(),
            })
            .collect();
        Ok(Self { dates, overdue: Vec::new() })
    }

    async fn today_and_missed(
        tenants: &[Arc<Tenant>],
        now: DateTime<Utc>,
        session: &mut Session,
    ) -> Result<Self, Refused> {
        let mut by_date: BTreeMap<NaiveDate, Vec<TenantWork>> = BTreeMap::new();
        let mut overdue = Vec::new();
        let mut catches_up = false;
        for tenant in tenants {
            let today = local_date(now, tenant.time_zone);
            let (recent, old) = missed_dates(tenant, today, session).await?;
            catches_up |= !recent.is_empty();
            overdue.extend(old);
            let recent = recent.into_iter().map(|date| (date, RunKind::CatchUp, true));
            for (run_date, kind, more_dates_follow) in recent.chain([(today, RunKind::Today, false)]) {
                let work = TenantWork { tenant: tenant.clone(), run_date, kind, more_dates_follow };
                by_date.entry(run_date).or_default().push(work);
            }
        }
        let mut dates: Vec<DateWork> =
            by_date.into_values().map(|tenants| DateWork { named_date: None, tenants }).collect();
        if !catches_up && dates.len() > 1 {
            // Nothing was missed, and zones differ: everybody's today is one run.
            let mut tenants: Vec<TenantWork> = dates.into_iter().flat_map(|work| work.tenants).collect();
            tenants.sort_by(|a, b| a.tenant.tenant_id.cmp(&b.tenant.tenant_id));
            dates = vec![DateWork { named_date: None, tenants }];
        }
        Ok(Self { dates, overdue })
    }
}

/// The missed dates that are run, and those that are too old to be.
async fn missed_dates(
    tenant: &Tenant,
    today: NaiveDate,
    session: &mut Session,
) -> Result<(Vec<NaiveDate>, Option<Overdue>), StoreError> {
    let Some(first) = session.first_completed_date(&tenant.tenant_id).await? else { return Ok((Vec::new(), None)) };
    let completed = session.completed_dates(&tenant.tenant_id, counted_from(tenant, first), today).await?;
    let Missed { recent, overdue: old } = missed(tenant, today, first, &completed);
    let overdue = old.first().zip(old.last()).map(|(&first, &last)| Overdue {
        tenant_id: tenant.tenant_id.clone(),
        first,
        last,
        count: old.len(),
    });
    Ok((recent, overdue))
}
