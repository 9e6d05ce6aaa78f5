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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calendar::parse_instant;
    use crate::domain::samples::{day, tenant};
    use chrono::NaiveTime;

    #[test]
    fn a_date_is_due_from_its_hour_on_until_it_is_completed() {
        let due = |hour, now, last_completed: Option<&str>| {
            let tenant = Tenant { run_at: NaiveTime::from_hms_opt(hour, 0, 0).unwrap(), ..tenant() };
            is_due(&tenant, parse_instant(now).unwrap().to_utc(), last_completed.map(day))
        };
        // In summer it is 06:00 in Berlin at 04:00 UTC.
        assert!(!due(6, "2026-07-10T03:59:59Z", None));
        assert!(due(6, "2026-07-10T04:00:00Z", None));
        assert!(due(6, "2026-07-10T04:00:00Z", Some("2026-07-09")));
        assert!(!due(6, "2026-07-10T21:59:59Z", Some("2026-07-10")));
        assert!(!due(6, "2026-07-10T04:00:00Z", Some("2026-07-11")), "somebody ran tomorrow by hand");
        // Today is the tenant's, not that of UTC (rule 1).
        assert!(due(0, "2026-07-10T22:00:00Z", Some("2026-07-10")));
        assert!(!due(6, "2026-07-10T22:00:00Z", Some("2026-07-10")), "its hour is yet to come");
    }

    #[test]
    fn missed_dates_within_the_last_days_are_caught_up_and_older_ones_are_left_to_a_person() {
        let (first, today) = (day("2026-07-01"), day("2026-07-20"));
        let gaps = ["2026-07-02", "2026-07-13", "2026-07-14", "2026-07-19"].map(day);
        let completed: Vec<NaiveDate> =
            first.iter_days().take_while(|date| *date < today).filter(|date| !gaps.contains(date)).collect();
        let missed_with = |catch_up_days, bill_from| {
            let tenant = Tenant { catch_up_days, bill_from: day(bill_from), ..tenant() };
            missed(&tenant, today, first, &completed)
        };
        let [second, thirteenth, fourteenth, nineteenth] = gaps;
        // Seven dates up to and including today begin with the 14th (rule 19).
        let seven = Missed { recent: vec![fourteenth, nineteenth], overdue: vec![second, thirteenth] };
        assert_eq!(missed_with(7, "2020-01-01"), seven);
        assert_eq!(missed_with(6, "2020-01-01").recent, [nineteenth]);
        for today_alone in [0, 1] {
            assert_eq!(missed_with(today_alone, "2020-01-01"), Missed { recent: vec![], overdue: gaps.to_vec() });
        }
        assert_eq!(missed_with(7, "2026-07-13").overdue, [thirteenth], "before it, each run was a decision (rule 8)");
        assert_eq!(missed(&tenant(), first, first, &[]), Missed::default(), "today is not missed");
    }
}
