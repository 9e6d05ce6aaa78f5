//! What billing means: pure values and functions, no database, no clock, no files, no randomness.
//!
//! Read [`plan`] first; the rest are the words it is written in. Rules are quoted by their number in the rule book.

pub mod plan;

pub mod brand;
pub mod calendar;
pub mod catch_up;
pub mod customer;
pub mod day;
pub mod document;
pub mod e_invoice;
pub mod group;
pub mod invoice;
pub mod lease;
pub mod message;
pub mod money;
pub mod overlay;
pub mod payment;
pub mod rental;
pub mod report;
pub mod tax;
pub mod tenant;
pub mod timekeeping;

pub use calendar::{BillingDay, BillingPeriod};
pub use customer::Customer;
pub use e_invoice::EInvoice;
pub use money::Currency;
pub use payment::{Payment, PaymentLine, Subject, SubjectKind};
pub use rental::Rental;
pub use tax::{TaxMode, TaxTreatment};
pub use tenant::Tenant;

/// Gives an enum its wire words: `as_str`, `parse`, and `WORDS` for messages that name what is taken.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// Every word that is taken, in order.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word on the wire and in the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// The value of a word; `None` for any other.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}
pub(crate) use words;

words!(TaxMode { Exclusive = "exclusive", Inclusive = "inclusive" });
words!(TaxTreatment { Standard = "standard", Exempt = "exempt", ReverseCharge = "reverseCharge" });
