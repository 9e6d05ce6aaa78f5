//! Days and months against a calendar that knows nothing but which years are leap years, and zones minute by minute.

use billday::domain::calendar::{
    add_months, local_date, parse_date, parse_local_date, parse_local_instant, wake_instant,
};
use billday::domain::rental::RentalStatus;
use billday::domain::tenant::ContractEnd;
use billday::domain::{BillingDay, BillingPeriod, Currency, Rental};
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::number;

/// Numbers that choose a day, a month, a contract, a zone and a time; what is left is read as a date, a month and an instant.
pub fn calendar(mut data: &[u8]) {
    let mut below = |end: u64| number(&mut data) % end;
    let date = Day { year: 1 + below(9_900) as i32, month: 1 + below(12) as u32, day: 1 };
    let date = Day { day: 1 + below(u64::from(date.days_in_month())) as u32, ..date };
    let anchor = 1 + below(31) as u32;
    let months = below(130) as u32;
    days(date, anchor, months);
    contract(date, 1 + months % 24, 1 + anchor % 28);
    let zone = TZ_VARIANTS[below(TZ_VARIANTS.len() as u64) as usize];
    // Before, some zones had offsets with seconds.
    let near = Day { year: 1975 + date.year % 125, day: date.day.min(28), ..date };
    wakes(near.date(), below(24 * 60) as u32, zone);
    texts(&String::from_utf8_lossy(data), zone);
}

/// A day of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Day {
    year: i32,
    month: u32,
    day: u32,
}

impl Day {
    fn of(date: NaiveDate) -> Self {
        Self { year: date.year(), month: date.month(), day: date.day() }
    }

    fn date(self) -> NaiveDate {
        NaiveDate::from_ymd_opt(self.year, self.month, self.day).expect("a day of the calendar")
    }

    fn days_in_month(self) -> u32 {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        match self.month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => 31,
        }
    }

    fn next(self) -> Self {
        match self {
            Self { day, .. } if day < self.days_in_month() => Self { day: day + 1, ..self },
            Self { month: 12, .. } => Self { year: self.year + 1, month: 1, day: 1 },
            _ => Self { month: self.month + 1, day: 1, ..self },
        }
    }

    /// Rule 2: the day itself, in a shorter month the last one.
    fn is_billing_day(self, anchor: u32) -> bool {
        self.day == anchor || (self.day == self.days_in_month() && anchor > self.day)
    }
}

fn days(date: Day, anchor: u32, months: u32) {
    let period = BillingPeriod::of(date.date());
    assert_eq!((period.first_day(), period.days()), (Day { day: 1, ..date }.date(), date.days_in_month()));
    assert_eq!(period.last_day().succ_opt(), Some(period.end()));
    assert_eq!(BillingPeriod::parse(&period.to_string()), Some(period));

    let due: Vec<u32> = BillingDay::due_on(date.date()).map(BillingDay::number).collect();
    let walked: Vec<u32> = (1..=31).filter(|anchor| date.is_billing_day(*anchor)).collect();
    assert_eq!(due, walked, "{date:?}");

    let billing_day = BillingDay::all()[anchor as usize - 1];
    let mut next = date;
    while !next.is_billing_day(anchor) {
        next = next.next();
    }
    assert_eq!(Day::of(billing_day.first_on_or_after(date.date())), next, "day {anchor} from {date:?} on");
    assert_eq!(Day::of(billing_day.date_in(BillingPeriod::of(next.date()))), next);

    let month0 = date.month - 1 + months;
    let later = Day { year: date.year + (month0 / 12) as i32, month: month0 % 12 + 1, day: 1 };
    let later = Day { day: date.day.min(later.days_in_month()), ..later };
    assert_eq!(Day::of(add_months(date.date(), months)), later, "{date:?} plus {months} months");
    assert_eq!(period.plus(months as i32), BillingPeriod::of(later.date()));
    assert_eq!(period.plus(months as i32).months_after(period), months as i32);
}

/// Rules 3 and 9, day by day: who is billed alone is charged just as often as the contract has months, in a group at most once less.
fn contract(start: Day, months: u32, group_day: u32) {
    let rental = Rental {
        rental_id: "R".into(),
        customer_id: "C".into(),
        monthly_amount: 1,
        currency: Currency::from_code("EUR").expect("the euro"),
        status: RentalStatus::Active,
        start_date: start.date(),
        end_date: None,
        contract_length: Some(months),
        ended_on: None,
        product_name: "P".into(),
        serial_number: None,
    };
    let (mut alone, mut in_group, mut day) = (0, 0, start);
    for _ in 0..(months + 2) * 31 {
        if rental.billable_on(day.date(), ContractEnd::End) {
            alone += u32::from(day.is_billing_day(start.day));
            in_group += u32::from(day.is_billing_day(group_day));
        }
        day = day.next();
    }
    assert_eq!(alone, months, "{months} months from {start:?}");
    assert!(in_group == months || in_group + 1 == months, "{in_group} of {months} from {start:?} on day {group_day}");
}

/// The first instant at which clocks in the zone show the time, or a later one.
fn wakes(date: NaiveDate, minute: u32, zone: Tz) {
    let time = NaiveTime::from_num_seconds_from_midnight_opt(minute * 60, 0).expect("a time of day");
    let shows = |instant: DateTime<Utc>| instant.with_timezone(&zone).naive_local() >= date.and_time(time);
    let wake = wake_instant(date, time, zone);
    assert!(shows(wake), "{zone} {date} {time}: {wake}");
    assert!(!shows(wake - TimeDelta::seconds(1)), "{zone} {date} {time}: earlier than {wake}");
    for quarters in 1..=(26 * 4) {
        let earlier = wake - TimeDelta::minutes(15 * quarters);
        assert!(!shows(earlier), "{zone} {date} {time}: {earlier} and not {wake}");
    }
    assert!(local_date(wake, zone) >= date);
}

/// A text is a date, a month or an instant just if it is written so, and what it means is within the years that are written so.
fn texts(text: &str, zone: Tz) {
    assert_eq!(parse_date(text), by_hand(text).map(Day::date), "{text:?}");
    let month = by_hand(&format!("{text}-01")).map(|day| BillingPeriod::of(day.date()));
    assert_eq!(BillingPeriod::parse(text), month, "{text:?}");
    if let Some(date) = parse_local_date(text, zone) {
        assert_eq!(parse_local_date(&date.to_string(), zone), Some(date), "{text:?} in {zone}");
    }
    if let Some(date) = parse_local_date(text, Tz::UTC).filter(|_| text.ends_with('Z')) {
        assert_eq!(Some(date), parse_date(&text[..10]), "{text:?}");
    }
    if let Some(instant) = parse_local_instant(text, zone) {
        assert!((0..=9999).contains(&instant.year()), "{text:?} in {zone}: {instant}");
        assert!(
            parse_date(text).is_none()
                || instant == wake_instant(instant.with_timezone(&zone).date_naive(), NaiveTime::MIN, zone)
        );
    }
}

fn by_hand(text: &str) -> Option<Day> {
    let [year, month, day] = text.split('-').collect::<Vec<_>>().try_into().ok()?;
    let number = |text: &str, digits: usize| {
        let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u32>().ok()).flatten()
    };
    let day = Day { year: number(year, 4)? as i32, month: number(month, 2)?, day: number(day, 2)? };
    ((1..=12).contains(&day.month) && (1..=day.days_in_month()).contains(&day.day)).then_some(day)
}
