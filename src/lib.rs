//! billday bills rented devices: one consolidated payment per billing group, on its day, exactly once.
//!
//! Read in this order: [`domain`] is what billing means, [`run`] is the day on one screen, [`store`] is where it is kept;
//! the rest brings data in, shows it and sends it. Imports point down, never up and never sideways:
//!
//! ```text
//! level 4   cli
//! level 3   api    schedule
//! level 2   run    deliver    import    invoice    preview    change    monitor
//! level 1   store  render  mail  documents  clock  config  telemetry  input
//! level 0   domain
//! ```

#![forbid(unsafe_code)]
#![recursion_limit = "256"] // The schemas of the API are long JSON literals.

pub mod domain;

pub mod clock;
pub mod config;
pub mod documents;
pub mod input;
pub mod mail;
pub mod render;
pub mod store;
pub mod telemetry;

pub mod change;
pub mod deliver;
pub mod import;
pub mod invoice;
pub mod monitor;
pub mod preview;
pub mod run;

pub mod api;
pub mod schedule;

pub mod cli;
