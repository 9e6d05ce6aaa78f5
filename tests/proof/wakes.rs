//! A tenant whose clocks are set forward or back: each of its dates is due once, on that very date, at whichever minute one looks.

use billday::domain::calendar::local_date;
use billday::domain::catch_up::is_due;
use chrono::{DateTime, NaiveDate, NaiveTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use crate::random::Random;
use crate::simulator::company::Company;
use crate::simulator::dice::Dice;

/// Zones whose clocks change, in CI; `BILLDAY_TEST_TORTURE` multiplies them.
const ZONES: usize = 40;

fn torture() -> usize {
    std::env::var("BILLDAY_TEST_TORTURE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// The hours after which the clocks of a zone show something else, from 2020 to 2037.
fn changes(zone: Tz) -> Vec<DateTime<Utc>> {
    let offset = |at: DateTime<Utc>| zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    let midnight = |year| Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).single().expect("an instant");
    let (mut at, end) = (midnight(2020), midnight(2038));
    let mut found = Vec::new();
    while at < end {
        let next = at + TimeDelta::hours(24);
        if offset(at) != offset(next) {
            let hours = (0..24).map(|hour| at + TimeDelta::hours(hour));
            found.extend(hours.filter(|at| offset(*at) != offset(*at + TimeDelta::hours(1))));
        }
        at = next;
    }
    found
}

#[test]
fn each_local_date_is_due_once_around_every_clock_change_until_2037() {
    let mut random = Random::new();
    let mut tenant = Company::draw(&mut Dice::new(1), 1, NaiveDate::MIN).tenant;
    let (mut zones, mut seen, mut runs) = (0, 0, 0);
    // From a zone by chance on, each of them once at most.
    let first = random.below(TZ_VARIANTS.len() as u64) as usize;
    for zone in TZ_VARIANTS.iter().cycle().skip(first).step_by(7).take(TZ_VARIANTS.len()) {
        let changes = changes(*zone);
        if changes.is_empty() {
            continue;
        }
        (zones, seen) = (zones + 1, seen + changes.len());
        tenant.time_zone = *zone;
        for change in changes {
            for minutes in (0..4 * 60).step_by(15) {
                tenant.run_at = NaiveTime::from_hms_opt(minutes / 60, minutes % 60, 0).expect("a time");
                let mut now = change - TimeDelta::minutes(40 * 60 + random.below(15) as i64);
                let mut completed = local_date(now, *zone);
                while now < change + TimeDelta::hours(40) {
                    if is_due(&tenant, now, Some(completed)) {
                        let today = local_date(now, *zone);
                        assert_eq!(completed.succ_opt(), Some(today), "{zone}, {} at {now}", tenant.run_at);
                        completed = today;
                        runs += 1;
                    }
                    now += TimeDelta::minutes(15);
                }
                let end = local_date(now - TimeDelta::hours(5), *zone);
                assert!(completed >= end, "{zone}, {}: {end} was missed", tenant.run_at);
            }
        }
        if zones == ZONES * torture() {
            break;
        }
    }
    println!("lane: clock changes: {zones} zones, {seen} changes, {runs} dates run");
    assert!(seen >= 2 * zones && runs >= 16 * 2 * seen, "{zones} zones, {seen} changes, {runs} dates");
}
