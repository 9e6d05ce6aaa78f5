//! Tests of the program as a whole; each module is one promise.

mod architecture;
mod migrations;
