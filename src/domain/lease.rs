//! The right to work on a share of a date: held for a while, renewed, taken over when its holder has gone.
//!
//! ```text
//!          claimed (fence + 1)            finished
//!   free ───────────────────────► held ───────────► done
//!    ▲                            │  ▲
//!    └───────── released ─────────┘  └─ renewed; claimed by another once it ran out (fence + 1)
//! ```
//!
//! Each claim raises the fence. Whoever held the lease before then has a lower one, and every step of theirs is refused,
//! however late it comes: a process that was stopped for an hour and wakes up writes nothing.

/// A lease as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    pub state: LeaseState,
    /// How often it was claimed.
    pub fence: i64,
}

/// Whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LeaseState {
    Free,
    /// Until that instant (microseconds UTC), unless it is renewed.
    Held {
        until: i64,
    },
    Done,
}

/// What happens to a lease; whoever holds it says by its fence which claim is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEvent {
    Claimed { now: i64 },
    Renewed { fence: i64, now: i64 },
    Released { fence: i64 },
    Finished { fence: i64 },
}

/// Why an event is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseRefusal {
    #[error("somebody else holds it")]
    Held,
    #[error("it was taken over")]
    Lost,
    #[error("it is done")]
    Done,
}

/// How long a lease lasts without being renewed, in microseconds.
pub const LEASE_MICROS: i64 = 60_000_000;

/// The lease after an event; the one place that says who may do what.
pub fn step(lease: &Lease, event: LeaseEvent) -> Result<Lease, LeaseRefusal> {
    let Lease { state, fence } = lease;
    let by_holder = |claimed: i64, state: LeaseState| match lease.state {
        LeaseState::Held { .. } if claimed == *fence => Ok(Lease { state, fence: *fence }),
        _ => Err(LeaseRefusal::Lost),
    };
    match event {
        LeaseEvent::Claimed { now } => match state {
            LeaseState::Done => Err(LeaseRefusal::Done),
            LeaseState::Held { until } if *until > now => Err(LeaseRefusal::Held),
            LeaseState::Free | LeaseState::Held { .. } => {
                Ok(Lease { state: LeaseState::Held { until: now + LEASE_MICROS }, fence: fence + 1 })
            }
        },
        LeaseEvent::Renewed { fence, now } => by_holder(fence, LeaseState::Held { until: now + LEASE_MICROS }),
        LeaseEvent::Released { fence } => by_holder(fence, LeaseState::Free),
        LeaseEvent::Finished { fence } => by_holder(fence, LeaseState::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Lease = Lease { state: LeaseState::Free, fence: 0 };

    #[test]
    fn a_lease_is_one_holders_until_it_runs_out() {
        let held = step(&FREE, LeaseEvent::Claimed { now: 0 }).unwrap();
        assert_eq!(held, Lease { state: LeaseState::Held { until: LEASE_MICROS }, fence: 1 });
        assert_eq!(step(&held, LeaseEvent::Claimed { now: LEASE_MICROS - 1 }), Err(LeaseRefusal::Held));
        let renewed = step(&held, LeaseEvent::Renewed { fence: 1, now: 5 }).unwrap();
        assert_eq!(step(&renewed, LeaseEvent::Claimed { now: LEASE_MICROS }), Err(LeaseRefusal::Held));
        let taken = step(&renewed, LeaseEvent::Claimed { now: LEASE_MICROS + 5 }).unwrap();
        assert_eq!(taken.fence, 2);
    }

    #[test]
    fn whoever_lost_it_can_do_nothing_more_however_late() {
        let held = step(&FREE, LeaseEvent::Claimed { now: 0 }).unwrap();
        let taken = step(&held, LeaseEvent::Claimed { now: LEASE_MICROS }).unwrap();
        let released = step(&taken, LeaseEvent::Released { fence: 2 }).unwrap();
        let done = step(&taken, LeaseEvent::Finished { fence: 2 }).unwrap();
        for lease in [&taken, &released, &done] {
            for late in [
                LeaseEvent::Renewed { fence: 1, now: 9 },
                LeaseEvent::Released { fence: 1 },
                LeaseEvent::Finished { fence: 1 },
            ] {
                assert_eq!(step(lease, late), Err(LeaseRefusal::Lost), "{lease:?} {late:?}");
            }
        }
        assert_eq!(step(&done, LeaseEvent::Claimed { now: i64::MAX / 2 }), Err(LeaseRefusal::Done));
    }

    #[test]
    fn every_order_of_events_leaves_at_most_one_holder() {
        // All sequences of five events of two workers: each remembers the fence of its last claim.
        fn walk(lease: &Lease, held: [Option<i64>; 2], now: i64, left: u32) {
            if left == 0 {
                return;
            }
            for worker in 0..2 {
                for what in 0..5 {
                    let fence = held[worker].unwrap_or(-1);
                    let (now, event) = match what {
                        0 => (now, LeaseEvent::Claimed { now }),
                        1 => (now + LEASE_MICROS, LeaseEvent::Claimed { now: now + LEASE_MICROS }),
                        2 => (now, LeaseEvent::Renewed { fence, now }),
                        3 => (now, LeaseEvent::Released { fence }),
                        _ => (now, LeaseEvent::Finished { fence }),
                    };
                    let Ok(next) = step(lease, event) else { continue };
                    assert!(next.fence >= lease.fence, "the fence never falls");
                    let mut held = held;
                    match event {
                        LeaseEvent::Claimed { .. } => held[worker] = Some(next.fence),
                        LeaseEvent::Released { .. } | LeaseEvent::Finished { .. } => held[worker] = None,
                        LeaseEvent::Renewed { .. } => {}
                    }
                    let renew = |worker: usize| {
                        held[worker].is_some_and(|fence| step(&next, LeaseEvent::Renewed { fence, now }).is_ok())
                    };
                    assert!(!(renew(0) && renew(1)), "{lease:?} {event:?}: two holders");
                    walk(&next, held, now, left - 1);
                }
            }
        }
        walk(&FREE, [None, None], 0, 5);
    }
}
