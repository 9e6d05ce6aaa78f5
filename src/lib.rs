//! billday bills rented devices: one consolidated payment per billing group, on its day, exactly once.

pub mod domain;
pub mod import;
pub mod store;
