//! How things look to people and programs: wire objects and reports, made from domain values and nothing else.
//!
//! ```text
//! domain::Payment ──► WirePayment ──► PaymentSpool (on disk) ──┐
//!                     domain::RunReport ───────────────────────┴──► table, JSON, CSV or HTML
//! ```
//!
//! ```text
//! domain::InvoiceDocument ──┬──► mail (text, HTML)
//!                           └──► PDF/A-3 ◄── CII XML inside
//! ```
//!
//! Nothing here reads a clock or a database; whoever calls gives the instants and the place to write to.

pub mod email;
pub mod invoice;
pub mod payment;
pub mod report;
pub mod spool;

mod colour;
mod said;
mod sample;
mod text;
mod words;

pub use payment::{WireLine, WirePayment};
pub use report::{ReportFormat, ReportWriter};
pub use spool::PaymentSpool;
