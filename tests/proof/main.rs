//! The protocols by which nothing is billed twice, walked through in all their states.

mod billing;
mod mails;
mod walk;
