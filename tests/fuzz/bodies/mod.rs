//! What is true of any input: one function a target, which takes any bytes and panics where the product breaks its word.
//!
//! `tests/fuzz/main.rs` drives them in each run of the tests, `fuzz/` with libFuzzer for as long as one likes.

mod api;
mod calendar;
mod config;
mod import;
mod message;
mod money;
mod templates;

pub use api::{PARAMETERS, cursors, filters};
pub use calendar::calendar;
pub use config::config;
pub use import::{import_csv, import_json};
pub use message::message;
pub use money::money;
pub use templates::templates;

/// A target: its name, which its seeds and its libFuzzer program have too, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 9] = [
    ("money", money),
    ("calendar", calendar),
    ("import_json", import_json),
    ("import_csv", import_csv),
    ("config", config),
    ("message", message),
    ("templates", templates),
    ("cursors", cursors),
    ("filters", filters),
];

/// What stands between the texts of an input that is several: no text in UTF-8 holds it.
pub const BETWEEN: u8 = 0xFF;

/// The texts of an input, `N` of them; what is missing is empty.
fn texts<const N: usize>(data: &[u8]) -> [String; N] {
    let mut texts = data.split(|byte| *byte == BETWEEN).map(|text| String::from_utf8_lossy(text).into_owned());
    std::array::from_fn(|_| texts.next().unwrap_or_default())
}

/// Takes a number off the front of an input; after its end there are only zeros.
fn number(data: &mut &[u8]) -> u64 {
    let (head, rest) = data.split_at(data.len().min(4));
    *data = rest;
    head.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Nothing that breaks a line of a log or a terminal.
fn is_one_line(text: &str) -> bool {
    !text.contains(char::is_control)
}
