//! A date that three workers bill share by share while they crash, stall, lose answers and meet a run of the whole date.
//!
//! Leases and the date move by the product's own steps. Time stands still at 0: a lease lapses by having its end set to now,
//! as if its holder alone had slept. Workers are kept in order, since nothing in the database tells which of them is which.

use std::collections::BTreeMap;

use billday::domain::day::{self, Day, DayEvent};
use billday::domain::lease::{self, Lease, LeaseEvent, LeaseState};
use stateright::{Model, Property};

use crate::walk::{assert_holds, counterexample};

const NOW: i64 = 0;

/// What stands between the workers and a second payment; each can be taken away.
#[derive(Debug, Clone, Copy)]
struct Guards {
    /// The database refuses a second payment of a subject.
    unique_key: bool,
    /// Whoever lost its share writes nothing more.
    fence: bool,
    /// A share is not taken before its lease has run out.
    lease: bool,
    /// After a commit without an answer the run's row is read.
    doubt: bool,
    /// The date is completed by its last share only.
    last_share: bool,
}

const ALL: Guards = Guards { unique_key: true, fence: true, lease: true, doubt: true, last_share: true };

#[derive(Debug, Clone)]
struct Billing {
    guards: Guards,
    workers: usize,
    shares: usize,
    /// Batches of a share, each one subject.
    batches: usize,
    /// What may go wrong.
    faults: Faults,
}

/// How often each may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Faults {
    /// A worker dies, or is told to stop.
    ends: u8,
    /// A lease runs out though its holder lives.
    lapses: u8,
    /// The connection is lost while committing.
    lost_answers: u8,
    /// Somebody runs the whole date by hand.
    whole_runs: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    day: Day,
    /// How many batches the present run of each share has committed; of the whole run at 0.
    batches: Vec<u8>,
    /// How many payments each subject has.
    payments: Vec<u8>,
    workers: Vec<Worker>,
    /// A commit that may yet arrive, with its locks: of which share (0 for the whole date), and for which subject.
    on_its_way: Option<(i64, usize)>,
    faults: Faults,
    /// A share was taken from its holder before its lease ran out.
    robbed: bool,
    /// Something was written in the name of a share that was somebody else's by then.
    trespassed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Worker {
    Idle,
    AtWork {
        /// 0 is the whole date.
        share: i64,
        fence: i64,
        /// How many of its batches are done.
        done: usize,
        /// How many of them it wrote.
        written: u8,
        at: At,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum At {
    /// About to read and plan the next batch.
    Reading,
    /// It saw no payment.
    Planned,
    /// It committed, and no answer came.
    InDoubt,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Claim(usize, i64),
    RunWhole(usize),
    Read(usize),
    Write(usize),
    /// The same, and the answer is lost.
    WriteUnheard(usize),
    /// The commit that was on its way arrives.
    Arrive,
    /// It never does.
    Vanish,
    Resolve(usize),
    Renew(usize),
    Finish(usize),
    /// The same, and the answer is lost.
    FinishUnheard(usize),
    Stop(usize),
    Crash(usize),
    Lapse(i64),
}

impl Billing {
    fn subject(&self, share: i64, done: usize) -> usize {
        (share.max(1) as usize - 1) * self.batches + done
    }

    fn batches_of(&self, share: i64) -> usize {
        if share == 0 { self.shares * self.batches } else { self.batches }
    }

    /// Whether a worker's next transaction would wait for a commit that is on its way.
    fn waits(world: &World, share: i64, subject: Option<usize>) -> bool {
        world.on_its_way.is_some_and(|(other, theirs)| other == share || Some(theirs) == subject)
    }

    /// Whether the transaction of a batch goes through, up to its commit; if so, what it leaves of the lease.
    fn write(&self, world: &mut World, share: i64, fence: i64, written: u8) -> Result<(), ()> {
        if share > 0 {
            let renewed = world
                .day
                .shares
                .get(&share)
                .and_then(|lease| lease::step(lease, LeaseEvent::Renewed { fence, now: NOW }).ok());
            match renewed {
                Some(lease) => drop(world.day.shares.insert(share, lease)),
                None if self.guards.fence => return Err(()),
                None => world.trespassed = true,
            }
        }
        if self.guards.fence && world.batches[share as usize] != written {
            return Err(());
        }
        Ok(())
    }

    fn finish(&self, world: &mut World, share: i64, fence: i64) -> Result<(), ()> {
        let event = match share {
            0 => DayEvent::RunWhole { now: NOW },
            _ => DayEvent::Finished { share, fence },
        };
        // As the store does: whether the date is completed already makes no difference.
        let day = day::step(&Day { completed: false, ..world.day.clone() }, event).map_err(drop)?;
        let completed = world.day.completed || day.completed || !self.guards.last_share;
        world.day = Day { completed, ..day };
        Ok(())
    }

    /// What becomes of a worker whose share is lost or whose run cannot go on: it lets the share go if it still is its own.
    fn fail(world: &mut World, share: i64, fence: i64) -> Worker {
        let released =
            world.day.shares.get(&share).and_then(|lease| lease::step(lease, LeaseEvent::Released { fence }).ok());
        if let Some(lease) = released {
            world.day.shares.insert(share, lease);
        }
        Worker::Idle
    }

    fn is_held_by_the_living(world: &World, number: i64) -> bool {
        let fence_now = world.day.shares[&number].fence;
        world.workers.iter().any(
            |worker| matches!(worker, Worker::AtWork { share, fence, .. } if *share == number && *fence == fence_now),
        )
    }
}

impl Model for Billing {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let free = Lease { state: LeaseState::Free, fence: 0 };
        vec![World {
            day: Day { completed: false, shares: (1..=self.shares as i64).map(|n| (n, free.clone())).collect() },
            batches: vec![0; self.shares + 1],
            payments: vec![0; self.shares * self.batches],
            workers: vec![Worker::Idle; self.workers],
            on_its_way: None,
            faults: self.faults,
            robbed: false,
            trespassed: false,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.on_its_way.is_some() {
            steps.extend([Step::Arrive, Step::Vanish]);
        }
        for (&number, lease) in &world.day.shares {
            if matches!(lease.state, LeaseState::Held { until } if until > NOW)
                && (world.faults.lapses > 0 || !Self::is_held_by_the_living(world, number))
            {
                steps.push(Step::Lapse(number));
            }
        }
        for (n, worker) in world.workers.iter().enumerate() {
            if n > 0 && world.workers[n - 1] == *worker {
                // What it could do its twin can do as well.
                continue;
            }
            match *worker {
                Worker::Idle => {
                    if !world.day.completed {
                        let free = |share: &&i64| !Self::waits(world, **share, None);
                        steps.extend(world.day.shares.keys().filter(free).map(|&share| Step::Claim(n, share)));
                    }
                    if world.faults.whole_runs > 0 {
                        steps.push(Step::RunWhole(n));
                    }
                }
                Worker::AtWork { share, done, at, .. } => {
                    let is_done = done == self.batches_of(share);
                    let subject = (!is_done).then(|| self.subject(share, done));
                    let waits = Self::waits(world, share, subject);
                    let can_lose = world.faults.lost_answers > 0 && world.on_its_way.is_none();
                    match at {
                        At::Reading if is_done && !waits => {
                            steps.push(Step::Finish(n));
                            if can_lose {
                                steps.push(Step::FinishUnheard(n));
                            }
                        }
                        At::Reading if is_done => {}
                        At::Reading => steps.push(Step::Read(n)),
                        At::Planned if waits => {}
                        At::Planned => {
                            steps.push(Step::Write(n));
                            if can_lose {
                                steps.push(Step::WriteUnheard(n));
                            }
                        }
                        At::InDoubt => steps.push(Step::Resolve(n)),
                    }
                    if share > 0 && !waits {
                        steps.push(Step::Renew(n));
                    }
                    if world.faults.ends > 0 {
                        steps.push(Step::Crash(n));
                        if !waits && at == At::Reading {
                            steps.push(Step::Stop(n));
                        }
                    }
                }
            }
        }
    }

    fn next_state(&self, before: &World, step: Step) -> Option<World> {
        let mut world = before.clone();
        match step {
            Step::Lapse(number) => {
                world.faults.lapses -= u8::from(Self::is_held_by_the_living(&world, number));
                let lease = world.day.shares.get_mut(&number)?;
                lease.state = LeaseState::Held { until: NOW };
            }
            Step::Arrive => {
                let (share, subject) = world.on_its_way.take()?;
                world.payments[subject] += 1;
                world.batches[share as usize] += 1;
            }
            Step::Vanish => world.on_its_way = None,
            Step::Claim(n, number) => {
                let mut lease = world.day.shares[&number].clone();
                world.robbed |= !self.guards.lease && matches!(lease.state, LeaseState::Held { until } if until > NOW);
                if !self.guards.lease && lease.state != LeaseState::Done {
                    lease.state = LeaseState::Free;
                }
                let seen = Day { completed: world.day.completed, shares: BTreeMap::from([(number, lease)]) };
                let lease = day::step(&seen, DayEvent::Claimed { now: NOW }).ok()?.shares.remove(&number)?;
                let fence = lease.fence;
                world.day.shares.insert(number, lease);
                world.batches[number as usize] = 0;
                world.workers[n] = Worker::AtWork { share: number, fence, done: 0, written: 0, at: At::Reading };
            }
            Step::RunWhole(n) => {
                world.faults.whole_runs -= 1;
                world.batches[0] = 0;
                world.workers[n] = Worker::AtWork { share: 0, fence: 0, done: 0, written: 0, at: At::Reading };
            }
            Step::Stop(n) => {
                let Worker::AtWork { share, fence, .. } = world.workers[n] else { return None };
                world.faults.ends -= 1;
                world.workers[n] = Self::fail(&mut world, share, fence);
            }
            Step::Crash(n) => {
                world.faults.ends -= 1;
                world.workers[n] = Worker::Idle;
            }
            Step::Read(n)
            | Step::Write(n)
            | Step::WriteUnheard(n)
            | Step::Resolve(n)
            | Step::Renew(n)
            | Step::Finish(n)
            | Step::FinishUnheard(n) => {
                let Worker::AtWork { share, fence, done, written, .. } = world.workers[n] else { return None };
                let goes_on = |done, written, at| Worker::AtWork { share, fence, done, written, at };
                let subject = self.subject(share, done.min(self.batches_of(share) - 1));
                world.workers[n] = match step {
                    Step::Read(_) if world.payments[subject] > 0 => goes_on(done + 1, written, At::Reading),
                    Step::Read(_) => goes_on(done, written, At::Planned),
                    // It meets somebody else's payment: to be read and planned again.
                    Step::Write(_) | Step::WriteUnheard(_) if self.guards.unique_key && world.payments[subject] > 0 => {
                        goes_on(done, written, At::Reading)
                    }
                    Step::Write(_) if self.write(&mut world, share, fence, written).is_ok() => {
                        world.payments[subject] += 1;
                        world.batches[share as usize] += 1;
                        goes_on(done + 1, written + 1, At::Reading)
                    }
                    Step::WriteUnheard(_) if self.write(&mut world, share, fence, written).is_ok() => {
                        world.faults.lost_answers -= 1;
                        world.on_its_way = Some((share, subject));
                        goes_on(done, written, At::InDoubt)
                    }
                    Step::Resolve(_) if !self.guards.doubt || world.batches[share as usize] > written => {
                        goes_on(done + 1, written + 1, At::Reading)
                    }
                    Step::Resolve(_) => goes_on(done, written, At::Reading),
                    Step::Renew(_) => {
                        let lease = world.day.shares.get(&share)?;
                        let lease = lease::step(lease, LeaseEvent::Renewed { fence, now: NOW }).ok()?;
                        world.day.shares.insert(share, lease);
                        world.workers[n]
                    }
                    Step::Finish(_) if self.finish(&mut world, share, fence).is_ok() => Worker::Idle,
                    Step::FinishUnheard(_) => {
                        // Whether it arrived shows at the next claim. If not, it was the same as a crash before.
                        world.faults.lost_answers -= 1;
                        let _ = self.finish(&mut world, share, fence);
                        Worker::Idle
                    }
                    _ => Self::fail(&mut world, share, fence),
                };
            }
        }
        world.workers.sort_unstable();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(BILLED_ONCE, |_, world: &World| world.payments.iter().all(|&payments| payments <= 1)),
            Property::always(COMPLETE, |_, world: &World| {
                !world.day.completed || world.payments.iter().all(|&payments| payments > 0)
            }),
            Property::always(NOT_ROBBED, |_, world: &World| !world.robbed),
            Property::always(NO_TRESPASS, |_, world: &World| !world.trespassed),
            // Else the model tested nothing.
            Property::sometimes("a share is taken over", |_, world: &World| {
                world.day.shares.values().any(|lease| lease.fence > 1)
            }),
            Property::sometimes("a date is completed", |_, world: &World| world.day.completed),
        ]
    }
}

const BILLED_ONCE: &str = "no subject is billed twice";
const COMPLETE: &str = "a completed date has billed everybody";
const NOT_ROBBED: &str = "nobody loses a share while its lease lasts";
const NO_TRESPASS: &str = "nobody writes in a share that was taken over";

/// Completed, with nobody at work on it.
fn is_end(world: &World) -> bool {
    world.day.completed
        && world.payments.iter().all(|&payments| payments == 1)
        && world.workers.iter().all(|worker| *worker == Worker::Idle)
}

const FAULTS: Faults = Faults { ends: 1, lapses: 1, lost_answers: 1, whole_runs: 0 };

fn three(guards: Guards, faults: Faults) -> Billing {
    Billing { guards, workers: 3, shares: 2, batches: 1, faults }
}

#[test]
fn three_workers_bill_a_shared_date_once_and_wholly_whatever_goes_wrong() {
    let states = assert_holds(three(ALL, FAULTS), is_end);
    eprintln!("shares of a date: {states} states");
}

#[test]
fn two_workers_bill_shares_of_several_batches_once_and_wholly() {
    let states = assert_holds(Billing { workers: 2, batches: 2, ..three(ALL, FAULTS) }, is_end);
    eprintln!("shares of two batches: {states} states");
}

#[test]
fn a_run_of_the_whole_date_beside_the_shares_bills_nothing_twice() {
    let faults = Faults { whole_runs: 1, ..FAULTS };
    let states = assert_holds(Billing { workers: 2, ..three(ALL, faults) }, is_end);
    eprintln!("shares and a whole run: {states} states");
}

/// The way to a property's failure without some guards, for reading.
fn fault(guards: Guards, faults: Faults, property: &'static str) -> Vec<String> {
    let way = counterexample(three(guards, faults), property);
    eprintln!("{property}: {}", way.join(", "));
    way
}

#[test]
fn without_unique_key_and_fence_a_worker_that_wakes_up_late_bills_twice() {
    let guards = Guards { unique_key: false, fence: false, ..ALL };
    let way = fault(guards, FAULTS, BILLED_ONCE);
    assert!(way.iter().any(|step| step.starts_with("Lapse")), "{way:?}");
}

#[test]
fn without_the_fence_a_worker_that_lost_its_share_still_writes() {
    let way = fault(Guards { fence: false, ..ALL }, FAULTS, NO_TRESPASS);
    assert!(way.len() >= 5, "{way:?}");
}

#[test]
fn without_the_unique_key_a_run_of_the_whole_date_bills_twice() {
    let faults = Faults { ends: 0, lapses: 0, lost_answers: 0, whole_runs: 1 };
    fault(Guards { unique_key: false, ..ALL }, faults, BILLED_ONCE);
}

#[test]
fn without_a_look_at_the_lease_workers_rob_each_other() {
    fault(Guards { lease: false, ..ALL }, FAULTS, NOT_ROBBED);
}

#[test]
fn a_commit_without_an_answer_that_is_taken_for_done_leaves_somebody_out() {
    fault(Guards { doubt: false, ..ALL }, FAULTS, COMPLETE);
}

#[test]
fn a_date_that_is_completed_by_its_first_share_leaves_somebody_out() {
    fault(Guards { last_share: false, ..ALL }, FAULTS, COMPLETE);
}
