//! When to try a way out again that did not work: after growing pauses, so that a server that is down is left alone.

/// The first pause after a fault; each further one is the double.
const PAUSE_SECONDS_BASE: i64 = 15;
const PAUSE_SECONDS_MAX: i64 = 15 * 60;

/// Closed while mails go out; open for a while after each fault of the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    /// Faults since it last worked.
    faults: u32,
    /// In microseconds UTC.
    open_until: i64,
}

impl Breaker {
    /// Whether anything may be tried at `now`.
    pub fn allows(&self, now: i64) -> bool {
        now >= self.open_until
    }

    /// When something may be tried next, in microseconds UTC; it may be long past.
    pub fn next_try(&self) -> i64 {
        self.open_until
    }

    /// The transport worked: the next fault finds it patient again.
    pub fn worked(&mut self) {
        *self = Self::default();
    }

    /// The transport did not work.
    pub fn failed(&mut self, now: i64) {
        let doubled = PAUSE_SECONDS_BASE << self.faults.min(16);
        self.faults = self.faults.saturating_add(1);
        self.open_until = now + doubled.min(PAUSE_SECONDS_MAX) * 1_000_000;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour_until_it_works() {
        let mut breaker = Breaker::default();
        assert!(breaker.allows(0), "closed at first");
        let mut now = 1_000_000;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            breaker.failed(now);
            assert!(!breaker.allows(breaker.next_try() - 1) && breaker.allows(breaker.next_try()));
            pauses.push((breaker.next_try() - now) / 1_000_000);
            now = breaker.next_try();
        }
        assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 900, 900, 900]);
        breaker.worked();
        assert!(breaker.allows(now - 1));
        breaker.failed(now);
        assert_eq!(breaker.next_try() - now, 15_000_000);
    }

    #[test]
    fn a_very_long_outage_overflows_nothing() {
        let mut breaker = Breaker { faults: u32::MAX, open_until: 0 };
        breaker.failed(5);
        assert_eq!(breaker, Breaker { faults: u32::MAX, open_until: 5 + PAUSE_SECONDS_MAX * 1_000_000 });
    }
}
