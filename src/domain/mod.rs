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

#[cfg(test)]
mod samples;

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

#[cfg(test)]
mod tests {
    /// Each word of a type is read back as what is written as it, and no other text is a word.
    macro_rules! check_words {
        ($($type:path),+ $(,)?) => {$(
            for word in <$type>::WORDS {
                assert_eq!(<$type>::parse(word).map(<$type>::as_str), Some(*word));
                assert!(<$type>::parse(&format!("{word} ")).is_none(), "{word}");
            }
            assert!(<$type>::parse("").is_none());
        )+};
    }

    #[test]
    fn every_word_on_the_wire_is_read_back_as_the_value_that_writes_it() {
        check_words!(
            super::TaxMode,
            super::TaxTreatment,
            super::SubjectKind,
            super::EInvoice,
            super::customer::CustomerStatus,
            super::customer::CustomerType,
            super::document::DocumentKind,
            super::group::GroupStatus,
            super::message::MailState,
            super::message::WhenUnknown,
            super::payment::PaymentStatus,
            super::plan::Mark,
            super::plan::ProblemCode,
            super::plan::SkipCode,
            super::rental::RentalStatus,
            super::tenant::ContractEnd,
        );
    }
}
