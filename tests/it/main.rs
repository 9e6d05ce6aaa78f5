//! All tests that need a database, a file or the whole program, in one binary.

mod support;

mod api;
mod architecture;
mod bad_rows;
mod branding;
mod cli;
mod clock_set;
mod commits;
mod daemon;
mod delivery;
mod delivery_smtp;
mod documents;
mod edge_cases;
mod edits;
mod faults;
mod import;
mod invoices;
mod kills;
mod migrations;
mod operations;
mod preview;
mod properties;
mod rules;
mod server_crashes;
mod smtp;
mod starting;
mod store;
mod sweep;
mod traps;
mod verify;
mod worked_examples;
