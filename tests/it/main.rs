//! All tests that need a database, a file or the whole program, in one binary.

mod delivery;
mod store;
mod support;
