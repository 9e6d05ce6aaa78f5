//! How often a key may ask: one number a key says when its next request would be early.

use std::collections::HashMap;
use std::sync::Mutex;

use chrono::{DateTime, Utc};

use crate::clock;

const MINUTE: i64 = 60_000_000;

/// Lets each key make so many requests a minute, all at once or spread out.
pub(super) struct Limiter {
    /// Microseconds that one request uses up.
    interval: i64,
    /// By key, the instant at which all that it has used up would be free again.
    used_until: Mutex<HashMap<String, i64>>,
}

impl Limiter {
    pub(super) fn new(requests_per_minute: u32) -> Self {
        Self { interval: MINUTE / i64::from(requests_per_minute.max(1)), used_until: Mutex::default() }
    }

    /// Takes one request of a key, or tells in how many seconds there is one.
    pub(super) fn take(&self, key_id: &str, now: DateTime<Utc>) -> Result<(), i64> {
        let now = clock::micros(now);
        let mut used_until = self.used_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = used_until.entry(key_id.to_owned()).or_insert(now);
        // A clock that was set back must not lock a key out.
        let used = (*entry).clamp(now, now + MINUTE) + self.interval;
        if used - now > MINUTE {
            return Err((used - now - MINUTE).div_euclid(1_000_000) + 1);
        }
        *entry = used;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gets_its_minute_and_then_one_at_a_time() {
        let limiter = Limiter::new(3);
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        assert!((0..3).all(|_| limiter.take("a", at(1000)).is_ok()));
        assert_eq!(limiter.take("a", at(1000)), Err(21));
        assert_eq!(limiter.take("b", at(1000)), Ok(()), "another key has its own");
        assert_eq!(limiter.take("a", at(1020)), Ok(()));
        assert!(limiter.take("a", at(1020)).is_err());
        assert!((0..3).all(|_| limiter.take("a", at(2000)).is_ok()));
        assert!(limiter.take("a", at(100)).is_err_and(|wait| wait <= 60), "a clock set back by far");
    }
}
