//! All tests that need a database, a file or the whole program, in one binary.

mod import;
mod store;
mod support;
