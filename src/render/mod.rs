//! Turning values into what people read: templates in, text out, no decisions about billing.

pub mod email;

mod words;
