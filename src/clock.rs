//! The only door to the present: whoever needs to know what time it is gets a [`Clock`].
//!
//! Instants are whole microseconds, the finest that both databases keep, so that what was written is what is read.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow};
use chrono::{DateTime, Utc};

/// Says what time it is.
pub trait Clock: Send + Sync {
    /// The present, in whole microseconds.
    fn now(&self) -> DateTime<Utc>;

    /// Microseconds on a clock that nobody sets, from some beginning; only differences mean anything.
    fn steady(&self) -> i64 {
        micros(self.now())
    }

    /// Whether it is the machine's own, so that it can be compared with that of another machine.
    fn is_machine(&self) -> bool {
        false
    }
}

/// The time of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that time comes from")]
    fn now(&self) -> DateTime<Utc> {
        whole_micros(Utc::now())
    }

    #[cfg(target_os = "linux")]
    fn steady(&self) -> i64 {
        // It goes on while the machine is suspended, as the wall clock does.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
    }

    #[cfg(not(target_os = "linux"))]
    fn steady(&self) -> i64 {
        static BEGINNING: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        BEGINNING.get_or_init(std::time::Instant::now).elapsed().as_micros() as i64
    }

    fn is_machine(&self) -> bool {
        true
    }
}

/// A clock that stands still until it is set, for tests and benches.
#[derive(Debug)]
pub struct FixedClock {
    micros: AtomicI64,
}

impl FixedClock {
    /// A clock that shows `instant`.
    pub fn at(instant: DateTime<Utc>) -> Self {
        Self { micros: AtomicI64::new(micros(instant)) }
    }

    /// Moves it to `instant`, forward or back.
    pub fn set(&self, instant: DateTime<Utc>) {
        self.micros.store(micros(instant), Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        // Only instants go in, so what comes out is one.
        instant(self.micros.load(Ordering::SeqCst)).unwrap_or(DateTime::UNIX_EPOCH)
    }
}

/// The instant as the databases keep it: microseconds since 1970.
pub fn micros(instant: DateTime<Utc>) -> i64 {
    instant.timestamp_micros()
}

/// The instant that [`micros`] wrote; `None` beyond the years that dates have.
pub fn instant(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
}

fn whole_micros(now: DateTime<Utc>) -> DateTime<Utc> {
    instant(micros(now)).unwrap_or(now)
}

/// A clock that shows what a file says, so that a test moves the time of a program that runs.
#[derive(Debug)]
struct FileClock {
    path: PathBuf,
    /// What it showed last: the file may be in the middle of being written.
    last: Mutex<Shown>,
}

/// Up to three words: an instant, the microseconds of the steady clock, which otherwise goes with it, and `machine` to be taken
/// for the machine's own.
#[derive(Debug, Clone, Copy)]
struct Shown {
    now: DateTime<Utc>,
    steady: i64,
    is_machine: bool,
}

impl FileClock {
    fn open(path: PathBuf) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(&path).with_context(|| format!("{TEST_NOW}: {}", path.display()))?;
        let shown = Self::parse(&text).with_context(|| format!("{TEST_NOW}: {text:?} is no instant"))?;
        Ok(Self { path, last: Mutex::new(shown) })
    }

    fn parse(text: &str) -> Option<Shown> {
        let mut words = text.split_whitespace();
        let now = DateTime::parse_from_rfc3339(words.next()?).ok()?.to_utc();
        let steady = words.next().map_or(Some(micros(now)), |steady| steady.parse().ok())?;
        Some(Shown { now, steady, is_machine: words.next() == Some("machine") })
    }

    fn shown(&self) -> Shown {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = std::fs::read_to_string(&self.path).ok().and_then(|text| Self::parse(&text)) {
            *last = shown;
        }
        *last
    }
}

impl Clock for FileClock {
    fn now(&self) -> DateTime<Utc> {
        self.shown().now
    }

    fn steady(&self) -> i64 {
        self.shown().steady
    }

    fn is_machine(&self) -> bool {
        self.shown().is_machine
    }
}

/// A testing aid, not a setting: the instant (RFC 3339) at which the program then lives for good, or `@` and a file that says it.
const TEST_NOW: &str = "BILLDAY_TEST_NOW";

/// The clock that the program runs by: the machine's, unless a test says otherwise.
pub fn from_environment() -> anyhow::Result<Arc<dyn Clock>> {
    from_value(env::var_os(TEST_NOW))
}

fn from_value(value: Option<OsString>) -> anyhow::Result<Arc<dyn Clock>> {
    let Some(value) = value else { return Ok(Arc::new(SystemClock)) };
    let text = value.to_str().ok_or_else(|| anyhow!("{TEST_NOW} is not UTF-8"))?;
    if let Some(path) = text.strip_prefix('@') {
        return Ok(Arc::new(FileClock::open(path.into())?));
    }
    let instant = DateTime::parse_from_rfc3339(text)
        .with_context(|| format!("{TEST_NOW} should be an instant like 2026-01-31T06:00:00Z, not {text:?}"))?;
    Ok(Arc::new(FixedClock::at(instant.to_utc())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    #[test]
    fn the_present_is_whole_microseconds_and_survives_the_database() {
        let now = SystemClock.now();
        assert_eq!(now.timestamp_subsec_nanos() % 1000, 0);
        assert_eq!(instant(micros(now)), Some(now));
        let fine = at("2026-01-31T06:00:00.123456789Z");
        assert_eq!(whole_micros(fine), at("2026-01-31T06:00:00.123456Z"));
        assert_eq!(instant(micros(at("1969-12-31T23:59:59.999999Z"))), Some(at("1969-12-31T23:59:59.999999Z")));
        assert_eq!(instant(i64::MAX), None);
    }

    #[test]
    fn a_fixed_clock_stands_still_until_it_is_set() {
        let clock = FixedClock::at(at("2026-01-31T06:00:00Z"));
        assert_eq!(clock.now(), clock.now());
        clock.set(at("2025-12-31T23:00:00.5Z"));
        assert_eq!(clock.now(), at("2025-12-31T23:00:00.5Z"));
    }

    #[test]
    fn a_test_makes_the_program_live_at_an_instant() {
        let clock = from_value(Some("2026-03-29T03:00:00+02:00".into())).unwrap();
        assert_eq!(clock.now(), at("2026-03-29T01:00:00Z"));
        assert!(from_value(None).unwrap().now() > at("2025-01-01T00:00:00Z"));
    }

    #[test]
    fn a_test_moves_the_time_of_a_running_program_by_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "2026-01-31T06:00:00Z").unwrap();
        let clock = from_value(Some(format!("@{}", file.path().display()).into())).unwrap();
        assert_eq!((clock.now(), clock.steady()), (at("2026-01-31T06:00:00Z"), 1_769_839_200_000_000));
        std::fs::write(file.path(), "2026-02-01T06:00:00Z 17\n").unwrap();
        assert_eq!((clock.now(), clock.steady()), (at("2026-02-01T06:00:00Z"), 17));
        std::fs::write(file.path(), "2026-0").unwrap();
        assert_eq!(clock.now(), at("2026-02-01T06:00:00Z"));
        assert!(from_value(Some("@/nowhere".into())).is_err());
    }

    #[test]
    fn a_wrong_instant_is_refused_with_the_form_that_it_should_have() {
        for bad in ["", "2026-01-31", "tomorrow"] {
            let error = from_value(Some(bad.into())).err().unwrap().to_string();
            assert!(error.contains("BILLDAY_TEST_NOW") && error.contains("2026-01-31T06:00:00Z"), "{error}");
        }
    }
}
