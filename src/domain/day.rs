//! A tenant's date that several processes run share by share, and when all of it is done.
//!
//! ```text
//!   open ──── the last share is finished, or a run of the whole date ends ────► completed
//! ```
//!
//! A run of the whole date holds no lease and may overtake the shares. Whoever still holds one then is left to finish it, and
//! finds all of it billed.

use std::collections::BTreeMap;

use super::lease::{self, Lease, LeaseEvent, LeaseRefusal, LeaseState};

/// A date as it is stored, with those of its shares that the event is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Day {
    pub completed: bool,
    /// By number; none once the last one was finished.
    pub shares: BTreeMap<i64, Lease>,
}

/// What happens to a date; whoever holds a share says by its fence which claim is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayEvent {
    /// Somebody takes the first share that nobody holds; the shares may be just those that can be had.
    Claimed { now: i64 },
    /// All of a share is on record; the shares are all that the date has.
    Finished { share: i64, fence: i64 },
    /// All of the date is on record, by one run without shares; the shares are all that the date has.
    RunWhole { now: i64 },
}

/// The date after an event; the one place that says when it is completed.
pub fn step(day: &Day, event: DayEvent) -> Result<Day, LeaseRefusal> {
    let mut day = day.clone();
    match event {
        DayEvent::Claimed { .. } if day.completed => return Err(LeaseRefusal::Done),
        DayEvent::Claimed { now } => {
            let claim = |lease: &Lease| lease::step(lease, LeaseEvent::Claimed { now }).ok();
            let first = day.shares.iter().find_map(|(&share, lease)| Some((share, claim(lease)?)));
            let (share, lease) = first.ok_or(LeaseRefusal::Held)?;
            day.shares.insert(share, lease);
        }
        DayEvent::Finished { share, fence } => {
            let lease = day.shares.get(&share).ok_or(LeaseRefusal::Lost)?;
            let lease = lease::step(lease, LeaseEvent::Finished { fence })?;
            day.shares.insert(share, lease);
            if day.shares.values().all(|lease| lease.state == LeaseState::Done) {
                day = Day { completed: true, shares: BTreeMap::new() };
            }
        }
        DayEvent::RunWhole { now } => {
            day.completed = true;
            let is_held = |lease: &Lease| matches!(lease.state, LeaseState::Held { until } if until > now);
            if !day.shares.values().any(is_held) {
                day.shares.clear();
            }
        }
    }
    Ok(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(states: [LeaseState; 2]) -> Day {
        Day { completed: false, shares: (1..).zip(states.map(|state| Lease { state, fence: 7 })).collect() }
    }

    const HELD: LeaseState = LeaseState::Held { until: 100 };

    #[test]
    fn a_date_is_completed_by_whoever_finishes_its_last_share() {
        let finished = |day: &Day, share| step(day, DayEvent::Finished { share, fence: 7 });
        let first = finished(&day([HELD, HELD]), 2).unwrap();
        assert!(!first.completed);
        assert_eq!(first.shares[&2].state, LeaseState::Done);
        assert_eq!(finished(&first, 1), Ok(Day { completed: true, shares: BTreeMap::new() }));
        assert_eq!(step(&first, DayEvent::Finished { share: 1, fence: 6 }), Err(LeaseRefusal::Lost));
        assert_eq!(finished(&first, 3), Err(LeaseRefusal::Lost), "its rows are gone");
    }

    #[test]
    fn the_first_share_that_nobody_holds_is_claimed_until_the_date_is_completed() {
        let claimed = step(&day([HELD, LeaseState::Free]), DayEvent::Claimed { now: 99 }).unwrap();
        assert_eq!((claimed.shares[&1].fence, claimed.shares[&2].fence), (7, 8));
        assert_eq!(step(&claimed, DayEvent::Claimed { now: 99 }), Err(LeaseRefusal::Held));
        let late = step(&claimed, DayEvent::Claimed { now: 100 }).unwrap();
        assert_eq!(late.shares[&1].fence, 8, "its lease ran out");
        let completed = Day { completed: true, ..day([LeaseState::Free, HELD]) };
        assert_eq!(step(&completed, DayEvent::Claimed { now: 100 }), Err(LeaseRefusal::Done));
    }

    #[test]
    fn a_run_of_the_whole_date_leaves_the_shares_to_whoever_holds_one() {
        let at = |now| step(&day([HELD, LeaseState::Free]), DayEvent::RunWhole { now }).unwrap();
        assert_eq!((at(99).completed, at(99).shares.len()), (true, 2));
        assert_eq!((at(100).completed, at(100).shares.len()), (true, 0));
    }
}
