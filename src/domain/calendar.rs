//! Days and months of billing: plain dates in a tenant's zone, months as half-open periods, days that clamp without drift.

use std::fmt;
use std::ops::RangeInclusive;

use chrono::{
    DateTime, Datelike, MappedLocalTime, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;

/// A calendar month, half-open: from [`first_day`](Self::first_day) up to but not including [`end`](Self::end).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BillingPeriod {
    /// Months since year 0, so that neighbours differ by one.
    months: i32,
}

impl BillingPeriod {
    /// The month that holds `date`.
    pub fn of(date: NaiveDate) -> Self {
        Self { months: date.year() * 12 + date.month0() as i32 }
    }

    /// Reads `YYYY-MM` with a month of 01 to 12.
    pub fn parse(text: &str) -> Option<Self> {
        parse_date(&format!("{text}-01")).map(Self::of)
    }

    /// The first day in it.
    pub fn first_day(self) -> NaiveDate {
        NaiveDate::from_ymd_opt(self.months.div_euclid(12), self.months.rem_euclid(12) as u32 + 1, 1)
            .unwrap_or(NaiveDate::MAX)
    }

    /// The first day after it.
    pub fn end(self) -> NaiveDate {
        self.plus(1).first_day()
    }

    /// The last day in it.
    pub fn last_day(self) -> NaiveDate {
        self.end().pred_opt().unwrap_or(NaiveDate::MAX)
    }

    /// The period `months` later, or earlier if negative.
    pub fn plus(self, months: i32) -> Self {
        Self { months: self.months + months }
    }

    /// How many months this period lies after `other`; negative if it lies before.
    pub fn months_after(self, other: Self) -> i32 {
        self.months - other.months
    }

    /// How many days it has, 28 to 31.
    pub fn days(self) -> u32 {
        self.last_day().day()
    }
}

impl fmt::Display for BillingPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.months.div_euclid(12), self.months.rem_euclid(12) + 1)
    }
}

impl fmt::Debug for BillingPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The day of the month on which a subject is billed, 1 to 31; in a shorter month its last day (rule 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BillingDay(u32);

impl BillingDay {
    /// A day that every month has: 1 to 28, as groups and fixed cycles need it.
    pub fn fixed(day: i64) -> Option<Self> {
        (1..=28).contains(&day).then_some(Self(day as u32))
    }

    /// The day on which a rental that started on `start` is billed alone.
    pub fn anchored_at(start: NaiveDate) -> Self {
        Self(start.day())
    }

    /// Every day that a rental can have, 1 to 31.
    pub fn all() -> Vec<Self> {
        (1..=31).map(Self).collect()
    }

    /// The day as written, before clamping.
    pub fn number(self) -> u32 {
        self.0
    }

    /// The one billing date in `period`, always computed from the anchor, so that it never drifts: 31 January, 28 February, 31 March.
    pub fn date_in(self, period: BillingPeriod) -> NaiveDate {
        period.first_day().with_day(self.0.min(period.days())).unwrap_or(NaiveDate::MAX)
    }

    /// All days whose billing date in `date`'s month is `date`: one, or on the last day of a short month several.
    pub fn due_on(date: NaiveDate) -> impl Iterator<Item = BillingDay> {
        let last = BillingPeriod::of(date).days();
        let upto = if date.day() == last { 31 } else { date.day() };
        (date.day()..=upto).map(Self)
    }

    /// The first billing date on or after `date`.
    pub fn first_on_or_after(self, date: NaiveDate) -> NaiveDate {
        let this = self.date_in(BillingPeriod::of(date));
        if this >= date { this } else { self.date_in(BillingPeriod::of(date).plus(1)) }
    }
}

/// `start` plus whole months, clamped to the last day of a short month: 31 January plus one is 28 or 29 February.
pub fn add_months(start: NaiveDate, months: u32) -> NaiveDate {
    start.checked_add_months(Months::new(months)).unwrap_or(NaiveDate::MAX)
}

/// Reads `YYYY-MM-DD` and nothing else.
pub fn parse_date(text: &str) -> Option<NaiveDate> {
    let shape = text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    if shape { NaiveDate::parse_from_str(text, "%Y-%m-%d").ok() } else { None }
}

/// Reads a date or an instant into the date that it means for a tenant (rule 1).
///
/// An instant at time zero with offset `Z` or `+00:00`, or any time without an offset, is the date written in it; any other
/// instant is the date on which it falls in `zone`.
pub fn parse_local_date(text: &str, zone: Tz) -> Option<NaiveDate> {
    if text.len() == 10 {
        return parse_date(text);
    }
    if let Some(local) = parse_naive(text) {
        return Some(local.date());
    }
    let instant = parse_instant(text)?;
    let written_at_zero = instant.offset().local_minus_utc() == 0 && instant.time() == NaiveTime::MIN;
    let date = if written_at_zero { instant.date_naive() } else { instant.with_timezone(&zone).date_naive() };
    YEARS.contains(&date.year()).then_some(date)
}

/// The years that are written in four digits: a zone must not lead out of them, for what is outside sorts as no text does.
const YEARS: RangeInclusive<i32> = 0..=9999;

/// Whether a text begins as a date does; chrono would take years of six digits, with a sign, and of two.
fn begins_with_date(text: &str) -> bool {
    text.get(..10).is_some_and(|day| parse_date(day).is_some())
}

/// Reads RFC 3339, or the same with a space for the `T` or an offset without colon.
pub fn parse_instant(text: &str) -> Option<DateTime<chrono::FixedOffset>> {
    if !begins_with_date(text) {
        return None;
    }
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"))
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M%:z"))
        .ok()
}

/// Reads an instant; a plain date is its midnight in `zone`, and what has no offset is in UTC.
pub fn parse_local_instant(text: &str, zone: Tz) -> Option<DateTime<Utc>> {
    if let Some(date) = parse_date(text) {
        return Some(wake_instant(date, NaiveTime::MIN, zone));
    }
    let instant = parse_instant(text).or_else(|| parse_instant(&format!("{text}Z")))?;
    Some(instant.to_utc()).filter(|instant| YEARS.contains(&instant.year()))
}

fn parse_naive(text: &str) -> Option<NaiveDateTime> {
    if !begins_with_date(text) {
        return None;
    }
    NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"))
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M"))
        .ok()
}

/// The date that it is at `instant` in `zone`: "today" (rule 1).
pub fn local_date(instant: DateTime<Utc>, zone: Tz) -> NaiveDate {
    instant.with_timezone(&zone).date_naive()
}

/// The instant at which `zone` first reaches `time` on `date`; from then on the date is due.
///
/// Of a local time that comes twice the earlier, and of one that the clocks jump over the first minute after the jump. A date
/// that a zone left out altogether begins with the one after it.
pub fn wake_instant(date: NaiveDate, time: NaiveTime, zone: Tz) -> DateTime<Utc> {
    /// No zone ever jumped further than a day.
    const MINUTES_MAX: i64 = 25 * 60;

    let local = date.and_time(time);
    let instants = (0..MINUTES_MAX).map(|minutes| zone.from_local_datetime(&(local + TimeDelta::minutes(minutes))));
    let first = instants.into_iter().find_map(|instant| match instant {
        MappedLocalTime::Single(instant) | MappedLocalTime::Ambiguous(instant, _) => Some(instant.to_utc()),
        MappedLocalTime::None => None,
    });
    first.unwrap_or(local.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        parse_date(text).unwrap()
    }

    #[test]
    fn the_31st_clamps_in_short_months_and_comes_back() {
        let anchor = BillingDay::anchored_at(day("2026-01-31"));
        let dates: Vec<String> =
            (0..6).map(|n| anchor.date_in(BillingPeriod::of(day("2026-01-31")).plus(n)).to_string()).collect();
        assert_eq!(dates, ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31", "2026-06-30"]);
        assert_eq!(anchor.date_in(BillingPeriod::parse("2028-02").unwrap()), day("2028-02-29"));
        assert_eq!(anchor.date_in(BillingPeriod::parse("2100-02").unwrap()), day("2100-02-28"));
    }

    #[test]
    fn the_days_due_on_a_date_agree_with_a_walk_over_all_days() {
        let mut date = day("2026-01-01");
        while date < day("2030-01-01") {
            let due: Vec<u32> = BillingDay::due_on(date).map(BillingDay::number).collect();
            let walked: Vec<u32> =
                (1..=31).filter(|&d| BillingDay(d).date_in(BillingPeriod::of(date)) == date).collect();
            assert_eq!(due, walked, "{date}");
            date = date.succ_opt().unwrap();
        }
    }

    #[test]
    fn a_period_is_half_open_and_counts_months() {
        let period = BillingPeriod::parse("2026-12").unwrap();
        assert_eq!((period.first_day(), period.end()), (day("2026-12-01"), day("2027-01-01")));
        assert_eq!(period.plus(-12).to_string(), "2025-12");
        assert_eq!(period.plus(1).months_after(period.plus(-12)), 13);
        assert_eq!(format!("{period:?} {}", BillingPeriod::parse("0042-01").unwrap()), "2026-12 0042-01");
        for bad in ["2026-13", "2026-00", "2026-1", "26-01", "2026/01", "2026-011", "2026-٣", ""] {
            assert_eq!(BillingPeriod::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_the_plain_form_is_a_date() {
        for bad in
            ["2026-02-30", "01/02/2026", "2026-2-3", "20260203", " 2026-02-03", "2026-02-03T00:00:00Z", "+026-02-03"]
        {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_instant_becomes_the_date_that_the_tenant_lived() {
        let berlin = chrono_tz::Europe::Berlin;
        for (text, date) in [
            ("2026-03-10", "2026-03-10"),
            ("2026-03-10T00:00:00Z", "2026-03-10"),
            ("2026-03-10T00:00:00.000Z", "2026-03-10"),
            ("2026-03-10T00:00:00+00:00", "2026-03-10"),
            ("2026-03-10T23:30:00", "2026-03-10"),
            ("2026-03-10 23:30:00.25", "2026-03-10"),
            ("2026-03-10T23:30", "2026-03-10"),
            ("2026-03-10T23:30:00+0100", "2026-03-10"),
            ("2026-03-10T23:30-02:00", "2026-03-11"),
            ("2026-03-10T23:30:00Z", "2026-03-11"),
            ("2026-03-10T00:00:00+09:00", "2026-03-09"),
            ("2026-03-10T00:00:00+01:00", "2026-03-10"),
        ] {
            assert_eq!(parse_local_date(text, berlin), Some(day(date)), "{text}");
        }
        // A western zone must not turn a plain day into the day before.
        assert_eq!(parse_local_date("2026-03-10T00:00:00Z", chrono_tz::America::New_York), Some(day("2026-03-10")));
        for bad in ["yesterday", "2026-02-30T00:00:00Z", "2026-03-10T25:00:00Z", "1773100800"] {
            assert_eq!(parse_local_date(bad, berlin), None, "{bad}");
        }
    }

    /// Awkward ones of each continent: half hours, half-hour summer times, midnights that are missing, rules that change.
    const ZONES: [&str; 46] = [
        "Africa/Cairo",
        "Africa/Casablanca",
        "Africa/El_Aaiun",
        "Africa/Johannesburg",
        "Africa/Juba",
        "America/Asuncion",
        "America/Chicago",
        "America/Denver",
        "America/Godthab",
        "America/Halifax",
        "America/Havana",
        "America/Los_Angeles",
        "America/Mexico_City",
        "America/Miquelon",
        "America/New_York",
        "America/Nuuk",
        "America/Port-au-Prince",
        "America/Santiago",
        "America/Sao_Paulo",
        "America/Scoresbysund",
        "America/St_Johns",
        "Antarctica/Casey",
        "Antarctica/Troll",
        "Asia/Almaty",
        "Asia/Amman",
        "Asia/Beirut",
        "Asia/Damascus",
        "Asia/Gaza",
        "Asia/Jerusalem",
        "Asia/Kathmandu",
        "Asia/Kolkata",
        "Asia/Tehran",
        "Atlantic/Azores",
        "Australia/Adelaide",
        "Australia/Lord_Howe",
        "Australia/Sydney",
        "Europe/Berlin",
        "Europe/Chisinau",
        "Europe/Dublin",
        "Europe/London",
        "Europe/Volgograd",
        "Pacific/Apia",
        "Pacific/Auckland",
        "Pacific/Chatham",
        "Pacific/Easter",
        "Pacific/Norfolk",
    ];

    #[test]
    fn each_local_date_wakes_once_around_every_clock_change_until_2037() {
        let local = |zone: Tz, minutes: i64| {
            DateTime::from_timestamp(minutes * 60, 0).unwrap().with_timezone(&zone).naive_local()
        };
        let offset = |zone: Tz, minutes: i64| local(zone, minutes).and_utc().timestamp() / 60 - minutes;
        let midnight = |date: &str| day(date).and_time(NaiveTime::MIN).and_utc().timestamp() / 60;
        let mut changes = 0;
        for zone in ZONES {
            let zone: Tz = zone.parse().unwrap();
            // Nobody changes the clocks and back within six hours.
            let steps = (midnight("2020-01-01")..midnight("2038-01-01")).step_by(6 * 60);
            for change in steps.filter(|&at| offset(zone, at) != offset(zone, at + 6 * 60)) {
                changes += 1;
                // Ticks every five minutes of the days around it, with the local time of each.
                let ticks: Vec<(i64, NaiveDateTime)> =
                    (change - 40 * 60..change + 40 * 60).step_by(5).map(|at| (at, local(zone, at))).collect();
                let first_whole = ticks[0].1.date().succ_opt().unwrap();
                let last_whole = ticks[ticks.len() - 1].1.date().pred_opt().unwrap();
                for time in (0..4 * 60).step_by(15).map(|m| NaiveTime::from_hms_opt(m / 60, m % 60, 0).unwrap()) {
                    for date in first_whole.iter_days().take_while(|date| *date <= last_whole) {
                        let wake = wake_instant(date, time, zone).timestamp() / 60;
                        // The first minute at which the clocks show that time or a later one.
                        let due = date.and_time(time);
                        let reached = ticks.iter().find(|(_, local)| *local >= due).unwrap().0;
                        assert!((0..5).contains(&(reached - wake)), "{zone} {due}");
                        assert!(local(zone, wake) >= due && local(zone, wake - 1) < due, "{zone} {due}");
                        // The first tick on which the date is due is on that very date: nobody has to catch it up.
                        assert_eq!(local(zone, wake).date(), date, "{zone} {date} {time}");
                    }
                }
            }
        }
        assert!(changes > 1000, "only {changes} changes were looked at");
    }

    #[test]
    fn a_local_time_that_is_missing_or_comes_twice_has_one_instant() {
        for (zone, date, time, wake) in [
            (chrono_tz::Europe::Berlin, "2026-03-28", "06:00", "2026-03-28T05:00:00Z"),
            (chrono_tz::Europe::Berlin, "2026-03-29", "06:00", "2026-03-29T04:00:00Z"),
            // 02:30 is missing: the first minute after the jump.
            (chrono_tz::Europe::Berlin, "2026-03-29", "02:30", "2026-03-29T01:00:00Z"),
            // 02:30 comes twice: the earlier.
            (chrono_tz::Europe::Berlin, "2026-10-25", "02:30", "2026-10-25T00:30:00Z"),
            // Midnight itself is missing.
            (chrono_tz::America::Santiago, "2026-09-06", "00:00", "2026-09-06T04:00:00Z"),
            (chrono_tz::Africa::Cairo, "2026-04-24", "00:15", "2026-04-23T22:00:00Z"),
            // The whole date is missing: it is due when the next one begins.
            (chrono_tz::Pacific::Apia, "2011-12-30", "06:00", "2011-12-30T10:00:00Z"),
            (chrono_tz::Pacific::Apia, "2011-12-31", "06:00", "2011-12-30T16:00:00Z"),
        ] {
            let time = NaiveTime::parse_from_str(time, "%H:%M").unwrap();
            assert_eq!(wake_instant(day(date), time, zone), parse_instant(wake).unwrap(), "{zone} {date} {time}");
        }
    }

    #[test]
    fn an_instant_without_a_date_or_an_offset_is_midnight_there_or_in_utc() {
        let (new_york, berlin) = (chrono_tz::America::New_York, chrono_tz::Europe::Berlin);
        for (text, zone, instant) in [
            ("2026-07-10", berlin, "2026-07-09T22:00:00Z"),
            ("2026-07-10", new_york, "2026-07-10T04:00:00Z"),
            ("2026-07-10T10:30:00", new_york, "2026-07-10T10:30:00Z"),
            ("2026-07-10T10:30:00.5+02:00", new_york, "2026-07-10T08:30:00.5Z"),
            ("2026-07-10T10:30:00+0200", berlin, "2026-07-10T08:30:00Z"),
            ("2026-07-10T10:30-05:00", berlin, "2026-07-10T15:30:00Z"),
            ("2026-07-10 10:30:00+02:00", berlin, "2026-07-10T08:30:00Z"),
        ] {
            assert_eq!(parse_local_instant(text, zone), parse_instant(instant).map(|at| at.to_utc()), "{text}");
            assert!(parse_local_instant(text, zone).is_some(), "{text}");
        }
        for bad in ["", "2026-02-30", "noon", "2026-07-10T25:00:00Z"] {
            assert_eq!(parse_local_instant(bad, berlin), None, "{bad}");
        }
    }

    #[test]
    fn a_year_beyond_four_digits_is_no_date_and_no_instant_however_it_is_written() {
        let east = chrono_tz::Pacific::Kiritimati;
        for text in [
            "+262142-12-31T23:59:59+0000",
            "+10000-01-01T00:00:00",
            "-0001-01-01T00:00:00Z",
            "26-01-01T00:00:00",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(parse_local_date(text, east), None, "{text}");
        }
        assert_eq!(parse_local_date("9999-12-31T23:59:59Z", Tz::UTC), Some(day("9999-12-31")));
        for text in ["+262142-12-31T23:59:59+0000", "-0001-01-01T00:00:00", "9999-12-31T23:59:59-01:00"] {
            assert_eq!(parse_local_instant(text, Tz::UTC), None, "{text}");
        }
    }

    #[test]
    fn today_is_the_tenants_and_not_that_of_utc() {
        let at = |text: &str| parse_instant(text).unwrap().to_utc();
        assert_eq!(local_date(at("2026-07-10T21:59:59Z"), chrono_tz::Europe::Berlin), day("2026-07-10"));
        assert_eq!(local_date(at("2026-07-10T22:00:00Z"), chrono_tz::Europe::Berlin), day("2026-07-11"));
        assert_eq!(local_date(at("2026-07-10T03:59:59Z"), chrono_tz::America::New_York), day("2026-07-09"));
    }

    #[test]
    fn a_rental_can_have_any_day_that_a_month_can_have() {
        let days: Vec<u32> = BillingDay::all().into_iter().map(BillingDay::number).collect();
        assert_eq!(days, (1..=31).collect::<Vec<_>>());
    }

    #[test]
    fn the_first_billing_date_is_today_if_it_is_one_or_else_in_this_month_or_the_next() {
        let on = |number: i64, date: &str| BillingDay::fixed(number).unwrap().first_on_or_after(day(date)).to_string();
        assert_eq!(on(10, "2026-12-10"), "2026-12-10");
        assert_eq!(on(10, "2026-12-09"), "2026-12-10");
        assert_eq!(on(10, "2026-12-11"), "2027-01-10");
    }

    #[test]
    fn a_fixed_day_cannot_hold_29() {
        assert!([0, 29, -1, 31].iter().all(|&d| BillingDay::fixed(d).is_none()));
        assert!((1..=28).all(|d| BillingDay::fixed(d).is_some()));
    }
}
