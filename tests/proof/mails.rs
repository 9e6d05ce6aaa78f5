//! One mail in the outbox that three processes send while they crash, stall and lose the server's answers.
//!
//! What becomes of an attempt is said by the product's own `settle` and `step`; what the outbox's statements add to them (the
//! fence, and which row may be claimed) stands in [`Outbox::claims`] and [`Outbox::writes`].

use billday::domain::message::{Attempt, CHANCES, MailEvent, MailState, Patience, Settled, Tried, WhenUnknown, step};
use stateright::{Model, Property};

use crate::walk::{assert_holds, counterexample};

/// What keeps copies away; each can be taken away.
#[derive(Debug, Clone, Copy)]
struct Guards {
    /// Only the last claim may say what became of the mail.
    fence: bool,
    /// A mail is not claimed before the lease of the one who sends it has run out.
    lease: bool,
    /// A mail whose lease ran out is in doubt, and not simply sent again.
    doubt: bool,
    /// A doubted mail is sent again once, not each time.
    once: bool,
    /// It is called sent after it was sent.
    sent_last: bool,
}

const ALL: Guards = Guards { fence: true, lease: true, doubt: true, once: true, sent_last: true };

#[derive(Debug, Clone)]
struct Outbox {
    guards: Guards,
    when_unknown: WhenUnknown,
    workers: usize,
    faults: Faults,
}

/// How often each may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Faults {
    crashes: u8,
    /// A lease runs out though whoever sends the mail lives.
    lapses: u8,
    lost_answers: u8,
    /// The server wants it later, or the connection cannot be made.
    deferrals: u8,
}

const FAULTS: Faults = Faults { crashes: 2, lapses: 2, lost_answers: 2, deferrals: 2 };

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    state: MailState,
    fence: i64,
    /// Of a mail that is being sent.
    lease_ran_out: bool,
    /// Of one that waits.
    is_due: bool,
    attempts: i64,
    doubts: i64,
    /// How many the server took.
    copies: u8,
    workers: Vec<Worker>,
    faults: Faults,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Worker {
    Idle,
    At { place: Place, fence: i64, attempts: i64, doubts: i64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    /// It has claimed the mail.
    Claimed,
    /// It has looked at its lease for the last time and is about to send the dot.
    Dot,
    /// It knows what became of the mail.
    Knows(Known),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Known {
    Accepted,
    Deferred,
    Released,
    Doubted,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// Time passes until the mail is due again.
    Wait,
    Lapse,
    /// Some delivery begins and looks for mails whose lease ran out.
    DoubtExpired,
    Claim(usize),
    LookAtLease(usize),
    Send(usize),
    SendDeferred(usize),
    /// No answer comes to the dot, and the server took the mail.
    SendUnheard(usize),
    /// No answer comes to the dot, and the server did not take the mail.
    SendLost(usize),
    Settle(usize),
    Crash(usize),
}

impl Known {
    fn attempt(self) -> Attempt {
        match self {
            Self::Accepted => Attempt::Accepted,
            Self::Deferred => Attempt::Deferred(String::new()),
            Self::Released => Attempt::Released(String::new()),
            Self::Doubted => Attempt::Doubted(String::new()),
        }
    }
}

impl Outbox {
    fn settled(&self, attempt: Attempt, attempts: i64, doubts: i64) -> Settled {
        let tried = Tried { attempts, doubts: if self.guards.once { doubts } else { 0 } };
        let patience = Patience { when_unknown: self.when_unknown, chance: CHANCES - 1 };
        attempt.settle(tried, patience).expect("a mail that is being sent can become anything")
    }

    /// Whether the statement that claims takes the mail.
    fn claims(&self, world: &World) -> bool {
        match world.state {
            MailState::Pending | MailState::Unknown => world.is_due,
            MailState::Sending => !self.guards.lease || (world.lease_ran_out && !self.guards.doubt),
            _ => false,
        }
    }

    /// Whether the statement that settles finds the mail.
    fn writes(&self, world: &World, fence: i64, settled: &Settled) -> bool {
        let is_proof = settled.state == MailState::Sent;
        (fence == world.fence || !self.guards.fence)
            && match world.state {
                MailState::Sending => true,
                MailState::Unknown | MailState::Held => is_proof,
                _ => false,
            }
    }

    fn write(world: &mut World, settled: &Settled) {
        (world.state, world.lease_ran_out) = (settled.state, false);
        (world.attempts, world.doubts) = (settled.tried.attempts, settled.tried.doubts);
        world.is_due = settled.wait_seconds == Some(0);
    }

    fn is_sent_by_the_living(world: &World) -> bool {
        world.workers.iter().any(|worker| matches!(worker, Worker::At { fence, .. } if *fence == world.fence))
    }
}

impl Model for Outbox {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            state: MailState::Pending,
            fence: 0,
            lease_ran_out: false,
            is_due: true,
            attempts: 0,
            doubts: 0,
            copies: 0,
            workers: vec![Worker::Idle; self.workers],
            faults: self.faults,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if matches!(world.state, MailState::Pending | MailState::Unknown) && !world.is_due {
            steps.push(Step::Wait);
        }
        if world.state == MailState::Sending {
            if world.lease_ran_out {
                steps.push(Step::DoubtExpired);
            } else if world.faults.lapses > 0 || !Self::is_sent_by_the_living(world) {
                steps.push(Step::Lapse);
            }
        }
        for (n, worker) in world.workers.iter().enumerate() {
            if n > 0 && world.workers[n - 1] == *worker {
                continue;
            }
            let Worker::At { place, .. } = worker else {
                if self.claims(world) {
                    steps.push(Step::Claim(n));
                }
                continue;
            };
            match place {
                Place::Claimed => steps.push(Step::LookAtLease(n)),
                Place::Dot => {
                    steps.push(Step::Send(n));
                    if world.faults.lost_answers > 0 {
                        steps.extend([Step::SendUnheard(n), Step::SendLost(n)]);
                    }
                    if world.faults.deferrals > 0 {
                        steps.push(Step::SendDeferred(n));
                    }
                }
                Place::Knows(_) => steps.push(Step::Settle(n)),
            }
            if world.faults.crashes > 0 {
                steps.push(Step::Crash(n));
            }
        }
    }

    fn next_state(&self, before: &World, what: Step) -> Option<World> {
        let mut world = before.clone();
        match what {
            Step::Wait => world.is_due = true,
            Step::Lapse => {
                world.faults.lapses -= u8::from(Self::is_sent_by_the_living(&world));
                world.lease_ran_out = true;
            }
            Step::DoubtExpired => {
                let settled = self.settled(Attempt::Doubted(String::new()), world.attempts, world.doubts);
                Self::write(&mut world, &settled);
            }
            Step::Claim(n) => {
                world.state = step(world.state, MailEvent::Claimed).ok()?;
                world.fence += 1;
                world.lease_ran_out = false;
                let World { fence, attempts, doubts, .. } = world;
                world.workers[n] = Worker::At { place: Place::Claimed, fence, attempts, doubts };
                if !self.guards.sent_last {
                    Self::write(&mut world, &self.settled(Attempt::Accepted, attempts, doubts));
                }
            }
            Step::Crash(n) => {
                world.faults.crashes -= 1;
                world.workers[n] = Worker::Idle;
            }
            Step::LookAtLease(n)
            | Step::Send(n)
            | Step::SendDeferred(n)
            | Step::SendUnheard(n)
            | Step::SendLost(n)
            | Step::Settle(n) => {
                let Worker::At { place, fence, attempts, doubts } = world.workers[n] else { return None };
                let ran_out = fence != world.fence || (world.state == MailState::Sending && world.lease_ran_out);
                let place = match (what, place) {
                    (Step::LookAtLease(_), _) if ran_out => Some(Place::Knows(Known::Released)),
                    (Step::LookAtLease(_), _) => Some(Place::Dot),
                    (Step::Send(_), _) => {
                        world.copies += 1;
                        Some(Place::Knows(Known::Accepted))
                    }
                    (Step::SendDeferred(_), _) => {
                        world.faults.deferrals -= 1;
                        Some(Place::Knows(Known::Deferred))
                    }
                    (Step::SendUnheard(_) | Step::SendLost(_), _) => {
                        world.faults.lost_answers -= 1;
                        world.copies += u8::from(matches!(what, Step::SendUnheard(_)));
                        Some(Place::Knows(Known::Doubted))
                    }
                    (_, Place::Knows(known)) => {
                        let settled = self.settled(known.attempt(), attempts, doubts);
                        if self.writes(&world, fence, &settled) {
                            Self::write(&mut world, &settled);
                        }
                        None
                    }
                    _ => return None,
                };
                world.workers[n] = place.map_or(Worker::Idle, |place| Worker::At { place, fence, attempts, doubts });
            }
        }
        world.workers.sort_unstable();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NOT_LOST, |_, world: &World| world.state != MailState::Sent || world.copies > 0),
            Property::always(TWO_AT_MOST, |_, world: &World| world.copies <= 2),
            Property::always(ONE_A_DOUBT, |model: &Self, world: &World| {
                let (all, left) = (model.faults, world.faults);
                let doubts =
                    (all.crashes - left.crashes) + (all.lapses - left.lapses) + (all.lost_answers - left.lost_answers);
                world.copies <= 1 + doubts
            }),
            Property::always(NO_COPY_WITH_HOLD, |model: &Self, world: &World| {
                model.when_unknown == WhenUnknown::Resend || world.copies <= 1
            }),
            // Else the model tested nothing.
            Property::sometimes("a mail is sent", |_, world: &World| world.state == MailState::Sent),
            Property::sometimes("a mail is left to a person", |_, world: &World| world.state == MailState::Held),
        ]
    }
}

const NOT_LOST: &str = "a mail that is called sent was taken by the server";
const TWO_AT_MOST: &str = "no mail goes out more than twice without a person";
const ONE_A_DOUBT: &str = "a mail goes out once, and once more for each doubt";
const NO_COPY_WITH_HOLD: &str = "no mail goes out twice where doubted ones are held";

/// Sent, or left to a person who is told, with nobody at work on it.
fn is_end(world: &World) -> bool {
    matches!(world.state, MailState::Sent | MailState::Held)
        && world.workers.iter().all(|worker| *worker == Worker::Idle)
}

fn outbox(guards: Guards, when_unknown: WhenUnknown) -> Outbox {
    Outbox { guards, when_unknown, workers: 3, faults: FAULTS }
}

#[test]
fn no_mail_is_lost_and_only_a_doubt_makes_a_copy_at_most_one_without_a_person() {
    let states = assert_holds(outbox(ALL, WhenUnknown::Resend), is_end);
    eprintln!("outbox, resend: {states} states");
}

#[test]
fn no_mail_goes_out_twice_where_doubted_ones_are_held() {
    let states = assert_holds(outbox(ALL, WhenUnknown::Hold), is_end);
    eprintln!("outbox, hold: {states} states");
}

/// The way to a property's failure without some guards, for reading.
fn fault(guards: Guards, when_unknown: WhenUnknown, property: &'static str) {
    let way = counterexample(outbox(guards, when_unknown), property);
    eprintln!("{property}: {}", way.join(", "));
}

#[test]
fn without_the_fence_a_late_word_sends_a_mail_a_third_time() {
    fault(Guards { fence: false, ..ALL }, WhenUnknown::Resend, TWO_AT_MOST);
}

#[test]
fn without_a_look_at_the_lease_a_mail_goes_out_twice_without_any_fault() {
    fault(Guards { lease: false, ..ALL }, WhenUnknown::Resend, ONE_A_DOUBT);
}

#[test]
fn a_mail_that_is_sent_again_after_each_doubt_goes_out_a_third_time() {
    fault(Guards { once: false, ..ALL }, WhenUnknown::Resend, TWO_AT_MOST);
}

#[test]
fn a_mail_that_is_sent_again_when_its_lease_ran_out_goes_out_twice_though_it_is_to_be_held() {
    fault(Guards { doubt: false, ..ALL }, WhenUnknown::Hold, NO_COPY_WITH_HOLD);
}

#[test]
fn a_mail_that_is_called_sent_before_it_is_can_be_lost() {
    fault(Guards { sent_last: false, ..ALL }, WhenUnknown::Resend, NOT_LOST);
}
