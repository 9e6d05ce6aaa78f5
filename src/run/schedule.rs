//! Which dates a run is for, of which tenants, oldest first (rules 1, 5, 19).

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, Utc};

use crate::clock::{Clock, micros};
use crate::domain::Tenant;
use crate::domain::calendar::local_date;
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

/// What tells whether the clock that "today" comes from can be believed.
pub async fn read_clock(store: &Store, clock: &dyn Clock) -> Result<Reading, StoreError> {
    let mut session = store.read().await?;
    let last_seen = session.last_seen().await?;
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
            let missed = missed_dates(tenant, today, session).await?;
            catches_up |= !missed.recent.is_empty();
            overdue.extend(missed.overdue);
            let recent = missed.recent.into_iter().map(|date| (date, RunKind::CatchUp, true));
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

struct Missed {
    /// Within the last `catchUpDays` dates up to today, today left out; ascending.
    recent: Vec<NaiveDate>,
    overdue: Option<Overdue>,
}

async fn missed_dates(tenant: &Tenant, today: NaiveDate, session: &mut Session) -> Result<Missed, StoreError> {
    let Some(first) = session.first_completed_date(&tenant.tenant_id).await? else {
        return Ok(Missed { recent: Vec::new(), overdue: None });
    };
    // A run for a date before `billFrom` is a decision (rule 8): it makes no other such date a missed one.
    let first = first.max(tenant.bill_from);
    let completed = session.completed_dates(&tenant.tenant_id, first, today).await?;
    let missing: Vec<NaiveDate> =
        first.iter_days().take_while(|d| *d < today).filter(|d| completed.binary_search(d).is_err()).collect();
    // Today is one of the dates that are counted.
    let window = Days::new(u64::from(tenant.catch_up_days.saturating_sub(1)));
    let caught_up_from = today.checked_sub_days(window).unwrap_or(NaiveDate::MIN);
    let (old, recent): (Vec<NaiveDate>, Vec<NaiveDate>) = missing.into_iter().partition(|d| *d < caught_up_from);
    let overdue = old.first().zip(old.last()).map(|(&first, &last)| Overdue {
        tenant_id: tenant.tenant_id.clone(),
        first,
        last,
        count: old.len(),
    });
    Ok(Missed { recent, overdue })
}
