//! billday bills rented devices: one consolidated payment per billing group, on its day, exactly once.

pub mod deliver;

pub mod mail;
pub mod render;
pub mod store;

pub mod domain;
