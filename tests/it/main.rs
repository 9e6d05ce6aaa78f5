//! All tests that need a database, a file or the whole program, in one binary.

mod support;

mod architecture;
mod migrations;
mod store;
mod verify;
