//! That nothing is billed twice and nothing missed: the protocols walked through in all their states, and years of daemons
//! simulated. Pure code alone: neither a database nor a process.

mod billing;
mod mails;
#[path = "../it/support/random.rs"]
#[expect(dead_code, reason = "the other tests draw more")]
mod random;
mod simulator;
mod walk;
