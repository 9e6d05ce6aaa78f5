//! Which dates a tenant is billed for by itself: its today, and what it missed (rule 19).

use chrono::{DateTime, Days, NaiveDate, Utc};

use super::calendar::{local_date, wake_instant};
use super::tenant::Tenant;

/// Whether a tenant's today has begun to be billed and is not completed.
pub fn is_due(tenant: &Tenant, now: DateTime<Utc>, last_completed: Option<NaiveDate>) -> bool {
    let today = local_date(now, tenant.time_zone);
    last_completed.is_none_or(|completed| completed < today)
        && wake_instant(today, tenant.run_at, tenant.time_zone) <= now
}

/// The dates before today that were not completed, each ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missed {
    /// Within the last `catchUpDays` dates up to today.
    pub recent: Vec<NaiveDate>,
    /// Older than that: a person has to run them.
    pub overdue: Vec<NaiveDate>,
}

/// The first date of which it counts whether it was completed.
///
/// A run for a date before `billFrom` is a decision (rule 8): it makes no other such date a missed one.
pub fn counted_from(tenant: &Tenant, first_completed: NaiveDate) -> NaiveDate {
    first_completed.max(tenant.bill_from)
}

/// What a tenant missed, given its completed dates from [`counted_from`] up to today, ascending.
pub fn missed(tenant: &Tenant, today: NaiveDate, first_completed: NaiveDate, completed: &[NaiveDate]) -> Missed {
    let first = counted_from(tenant, first_completed);
    let missing = first.iter_days().take_while(|d| *d < today).filter(|d| completed.binary_search(d).is_err());
    // Today is one of the dates that are counted.
    let window = Days::new(u64::from(tenant.catch_up_days.saturating_sub(1)));
    let caught_up_from = today.checked_sub_days(window).unwrap_or(NaiveDate::MIN);
    let (overdue, recent) = missing.partition(|d| *d < caught_up_from);
    Missed { recent, overdue }
}
