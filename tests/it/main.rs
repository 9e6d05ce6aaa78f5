//! All tests that need a database, a file or the whole program, in one binary.

mod support;

mod architecture;
mod delivery;
mod import;
mod migrations;
mod store;
mod worked_examples;
