//! That nothing is billed twice and nothing missed: the protocols walked through in all their states, and years of daemons
//! simulated. Pure code alone: neither a database nor a process.

mod billing;
mod mails;
#[path = "../it/support/random.rs"]
mod random;
mod simulator;
mod wakes;
mod walk;
