//! Whether a clock can be believed. One that runs ahead would bill the future, and no index refuses that.
//!
//! Instants and spans are microseconds.

use std::fmt;

/// What is known about the time at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What the machine's clock shows.
    pub wall: i64,
    /// A clock that nobody sets: only differences mean anything.
    pub steady: i64,
    /// What the database's clock shows, if it has one of its own.
    pub database: Option<i64>,
    /// The latest instant at which this ledger was worked on; `None` if it never was.
    pub last_seen: Option<i64>,
}

/// Why nothing may be billed by this clock; spans are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockAlarm {
    /// It differs from the database's clock by so much.
    DiffersFromDatabase(i64),
    /// It stands so far before the last work on this ledger.
    BeforeLastSeen(i64),
    /// It stands so far after the last work on this ledger.
    FarAhead(i64),
    /// It was set by so much while the program ran.
    Jumped(i64),
}

const SECOND: i64 = 1_000_000;
/// Machines that keep time differ by far less, and a date is decided in hours.
const DATABASE_DIFFERS_MAX: i64 = 5 * 60 * SECOND;
/// Clocks are set back a little by those who keep them.
const BACK_MAX: i64 = 5 * 60 * SECOND;
/// A machine may be off for a season, but not for longer than a year without anybody looking after it.
const AWAY_MAX: i64 = 366 * 24 * 3600 * SECOND;
/// A clock that is kept moves by seconds.
const JUMP_MAX: i64 = 2 * 3600 * SECOND;

/// What is wrong with a reading; `good` is the last one of this process with which nothing was.
pub fn check(reading: &Reading, good: Option<&Reading>) -> Option<ClockAlarm> {
    let &Reading { wall, steady, database, last_seen } = reading;
    let differs = database.map(|database| wall - database).filter(|by| by.abs() > DATABASE_DIFFERS_MAX);
    let away = last_seen.map(|last_seen| wall - last_seen);
    let jumped = good.map(|good| (wall - good.wall) - (steady - good.steady)).filter(|by| by.abs() > JUMP_MAX);
    None.or(differs.map(|by| ClockAlarm::DiffersFromDatabase(by / SECOND)))
        .or(away.filter(|by| *by < -BACK_MAX).map(|by| ClockAlarm::BeforeLastSeen(-by / SECOND)))
        .or(away.filter(|by| *by > AWAY_MAX).map(|by| ClockAlarm::FarAhead(by / SECOND)))
        .or(jumped.map(|by| ClockAlarm::Jumped(by / SECOND)))
}

impl fmt::Display for ClockAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let right = "set it right, or if it is, say so once to `billday daemon` or `billday run` by --accept-clock";
        match self {
            Self::DiffersFromDatabase(by) => {
                let side = if *by < 0 { "behind" } else { "ahead of" };
                write!(f, "the clock is {} s {side} the database's; set both right", by.abs())
            }
            Self::BeforeLastSeen(by) => {
                write!(f, "the clock stands {by} s before the last work on this ledger; {right}")
            }
            Self::FarAhead(by) => {
                write!(f, "the clock stands {} days after the last work on this ledger; {right}", by / 86_400)
            }
            Self::Jumped(by) => {
                let way = if *by < 0 { "back" } else { "ahead" };
                write!(
                    f,
                    "the clock was set {way} by {} s while the daemon ran; set it right, or restart the daemon if it is",
                    by.abs()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * SECOND;
    const DAY: i64 = 24 * HOUR;
    /// Some day in 2026.
    const NOW: i64 = 1_780_000_000 * SECOND;

    /// An hour after a good reading, with the clock set by `jump` since; the database on the same machine or not.
    fn after_an_hour(jump: i64, database: Option<i64>) -> Option<ClockAlarm> {
        let good = Reading { wall: NOW, steady: 7, database: None, last_seen: None };
        let wall = NOW + HOUR + jump;
        check(&Reading { wall, steady: 7 + HOUR, database, last_seen: Some(NOW) }, Some(&good))
    }

    /// A start with the last work `away` ago.
    fn at_start(away: i64) -> Option<ClockAlarm> {
        check(&Reading { wall: NOW, steady: 0, database: None, last_seen: Some(NOW - away) }, None)
    }

    #[test]
    fn a_clock_that_is_kept_raises_no_alarm() {
        for jump in [0, -3 * SECOND, 3 * SECOND, 10 * 60 * SECOND] {
            assert_eq!(after_an_hour(jump, None), None);
        }
        assert_eq!(after_an_hour(0, Some(NOW + HOUR - 4 * 60 * SECOND)), None);
        assert_eq!(check(&Reading { wall: NOW, steady: 0, database: None, last_seen: None }, None), None);
    }

    #[test]
    fn a_clock_that_is_set_while_the_program_runs_raises_one() {
        let ten_years = 3653 * DAY;
        assert_eq!(after_an_hour(DAY, None), Some(ClockAlarm::Jumped(86_400)));
        assert!(matches!(after_an_hour(-DAY, None), Some(ClockAlarm::BeforeLastSeen(_))));
        assert!(matches!(after_an_hour(ten_years, None), Some(ClockAlarm::FarAhead(_))));
        // With a database on another machine, minutes suffice.
        for jump in [-HOUR, HOUR, -DAY, DAY, ten_years] {
            let alarm = after_an_hour(jump, Some(NOW + HOUR));
            assert_eq!(alarm, Some(ClockAlarm::DiffersFromDatabase(jump / SECOND)));
        }
    }

    #[test]
    fn a_machine_may_be_off_for_weeks_but_not_come_back_from_the_past_or_ten_years_later() {
        assert!([0, DAY, 40 * DAY, 365 * DAY].into_iter().all(|away| at_start(away).is_none()));
        assert_eq!(at_start(3653 * DAY), Some(ClockAlarm::FarAhead(3653 * 86_400)));
        assert_eq!(at_start(-HOUR), Some(ClockAlarm::BeforeLastSeen(3600)));
        assert_eq!(at_start(-4 * 60 * SECOND), None);
    }

    #[test]
    fn each_alarm_begins_just_behind_its_limit() {
        let (minutes, days, hours) = (5 * 60 * SECOND, 366 * DAY, 2 * HOUR);
        let differs = |by| check(&Reading { wall: NOW, steady: 0, database: Some(NOW - by), last_seen: None }, None);
        assert_eq!((differs(minutes), differs(-minutes)), (None, None));
        assert_eq!(differs(minutes + 1), Some(ClockAlarm::DiffersFromDatabase(300)));
        assert_eq!(differs(-minutes - 1), Some(ClockAlarm::DiffersFromDatabase(-300)));
        assert_eq!((at_start(-minutes), at_start(days)), (None, None));
        assert_eq!(at_start(-minutes - 1), Some(ClockAlarm::BeforeLastSeen(300)));
        assert_eq!(at_start(days + 1), Some(ClockAlarm::FarAhead(366 * 86_400)));
        let jumped = |by| {
            let good = Reading { wall: NOW, steady: 7, database: None, last_seen: None };
            check(&Reading { wall: NOW + HOUR + by, steady: 7 + HOUR, ..good }, Some(&good))
        };
        assert_eq!((jumped(hours), jumped(-hours)), (None, None));
        assert_eq!(jumped(hours + 1), Some(ClockAlarm::Jumped(7_200)));
        assert_eq!(jumped(-hours - 1), Some(ClockAlarm::Jumped(-7_200)));
    }

    #[test]
    fn an_alarm_says_by_how_much_and_in_which_direction() {
        for (alarm, said) in [
            (ClockAlarm::DiffersFromDatabase(-400), "the clock is 400 s behind the database's;"),
            (ClockAlarm::DiffersFromDatabase(400), "the clock is 400 s ahead of the database's;"),
            (ClockAlarm::BeforeLastSeen(400), "the clock stands 400 s before the last work on this ledger;"),
            (ClockAlarm::FarAhead(400 * 86_400), "the clock stands 400 days after the last work on this ledger;"),
            (ClockAlarm::Jumped(-7_201), "the clock was set back by 7201 s while the daemon ran;"),
            (ClockAlarm::Jumped(7_201), "the clock was set ahead by 7201 s while the daemon ran;"),
            // Less than a second is told as none.
            (ClockAlarm::DiffersFromDatabase(0), "the clock is 0 s ahead of the database's;"),
            (ClockAlarm::Jumped(0), "the clock was set ahead by 0 s while the daemon ran;"),
        ] {
            let text = alarm.to_string();
            assert!(text.starts_with(said), "{text}");
        }
    }
}
