//! What a customer owes for one subject and period, and how it changes until it is settled.

use std::fmt;

use chrono::NaiveDate;
use sha2::{Digest, Sha256};

use super::calendar::BillingPeriod;
use super::e_invoice::EInvoice;
use super::message::Recipients;
use super::money::Currency;
use super::tax::TaxTreatment;

/// What one payment is made for: an active group, or a rental that is in no active group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    pub kind: SubjectKind,
    pub id: String,
}

/// Groups come before rentals, in every list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    Group,
    Rental,
}

super::words!(SubjectKind { Group = "group", Rental = "rental" });

impl Subject {
    pub fn group(id: impl Into<String>) -> Self {
        Self { kind: SubjectKind::Group, id: id.into() }
    }

    pub fn rental(id: impl Into<String>) -> Self {
        Self { kind: SubjectKind::Rental, id: id.into() }
    }

    /// The readable key that names a payment for ever (rule 22): `group:<id>:<YYYY-MM>` or `rental:<id>:<YYYY-MM>`.
    pub fn idempotency_key(&self, period: BillingPeriod) -> String {
        format!("{}:{}:{period}", self.kind.as_str(), self.id)
    }

    /// The id of its payment for a period: derived, so that planning twice names the same payment.
    ///
    /// The period stands in front to keep a run's rows together in the database's indexes.
    pub fn payment_id(&self, tenant_id: &str, period: BillingPeriod) -> String {
        let digest = Sha256::new_with_prefix(tenant_id.as_bytes())
            .chain_update([0])
            .chain_update(self.idempotency_key(period).as_bytes())
            .finalize();
        let hash = data_encoding::BASE32_NOPAD.encode(&digest[..10]).to_ascii_lowercase();
        format!("pay_{}{hash}", period.to_string().replace('-', ""))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.id)
    }
}

/// One payment with everything that its invoice says; amounts in minor units of `currency`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    pub payment_id: String,
    pub subject: Subject,
    pub customer_id: String,
    /// The group's name, or the product's.
    pub subject_name: String,
    pub billing_period: BillingPeriod,
    pub currency: Currency,
    pub subtotal: i64,
    pub tax_amount: i64,
    pub total: i64,
    /// Parts per million: 19 % is 190,000.
    pub tax_rate_ppm: i64,
    pub tax_treatment: TaxTreatment,
    pub status: PaymentStatus,
    pub issue_date: NaiveDate,
    pub due_date: NaiveDate,
    /// Ordered by rental, then period, bytewise.
    pub lines: Vec<PaymentLine>,
    /// The versions of seller and buyer that the invoice shows (rule 24).
    pub seller_party: String,
    pub buyer_party: String,
    pub mail: MailPlan,
    /// Language of its invoice and mail: the customer's, else the tenant's.
    pub locale: String,
    pub e_invoice: EInvoice,
    /// Why its invoice has no e-invoice: what is missing, one thing an entry.
    pub e_invoice_lacks: Vec<String>,
}

/// The charge of one rental for one period; amounts are net.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentLine {
    pub rental_id: String,
    pub billing_period: BillingPeriod,
    pub amount: i64,
    pub tax_amount: i64,
    /// The period lies before the payment's: a gap that is charged now (rule 8).
    pub arrears: bool,
    pub product_name: String,
    pub serial_number: Option<String>,
}

/// The mail that goes with a payment (rules 16, 25).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailPlan {
    /// A payment of total 0 sends none.
    None,
    /// There is nobody to send it to, until someone mends that.
    Undeliverable,
    /// At least one.
    To(Recipients),
}

/// Where a payment stands (rule 21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentStatus {
    Pending,
    Processing,
    Paid,
    Failed,
    Cancelled,
}

super::words!(PaymentStatus {
    Pending = "pending",
    Processing = "processing",
    Paid = "paid",
    Failed = "failed",
    Cancelled = "cancelled",
});

impl PaymentStatus {
    /// Whether rule 21 lets a payment go from this status to `next`.
    pub fn can_become(self, next: Self) -> bool {
        use PaymentStatus::{Cancelled, Failed, Paid, Pending, Processing};
        matches!(
            (self, next),
            (Pending, Processing | Cancelled | Paid)
                | (Processing, Paid | Failed)
                | (Failed, Processing | Cancelled | Paid)
        )
    }

    /// Whether an import that says `imported` may replace this status: nothing leaves paid or cancelled (rule 21).
    pub fn import_may_set(self, imported: Self) -> bool {
        self == imported || !matches!(self, Self::Paid | Self::Cancelled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_moves_only_as_rule_21_says() {
        use PaymentStatus::*;
        let all = [Pending, Processing, Paid, Failed, Cancelled];
        let moves: Vec<String> = all
            .iter()
            .flat_map(|&from| all.iter().map(move |&to| (from, to)))
            .filter(|(from, to)| from.can_become(*to))
            .map(|(from, to)| format!("{}→{}", from.as_str(), to.as_str()))
            .collect();
        assert_eq!(
            moves,
            [
                "pending→processing",
                "pending→paid",
                "pending→cancelled",
                "processing→paid",
                "processing→failed",
                "failed→processing",
                "failed→paid",
                "failed→cancelled",
            ]
        );
    }

    #[test]
    fn an_import_takes_no_payment_out_of_paid_or_cancelled() {
        use PaymentStatus::*;
        for settled in [Paid, Cancelled] {
            for other in [Pending, Processing, Paid, Failed, Cancelled] {
                assert_eq!(settled.import_may_set(other), settled == other, "{settled:?} {other:?}");
                assert!(
                    Pending.import_may_set(other) && Processing.import_may_set(other) && Failed.import_may_set(other)
                );
            }
        }
    }

    #[test]
    fn a_payment_id_is_derived_and_differs_by_tenant_subject_and_period() {
        let period = BillingPeriod::parse("2026-11").unwrap();
        let id = Subject::group("G1").payment_id("acme", period);
        assert_eq!(id, Subject::group("G1").payment_id("acme", period));
        assert!(id.starts_with("pay_202611"), "{id}");
        for other in [
            Subject::rental("G1").payment_id("acme", period),
            Subject::group("G2").payment_id("acme", period),
            Subject::group("G1").payment_id("acm", period),
            Subject::group("G1").payment_id("acme", period.plus(1)),
        ] {
            assert_ne!(id, other);
        }
        assert_eq!(Subject::group("G1").idempotency_key(period), "group:G1:2026-11");
        assert_eq!(
            (Subject::group("G1").to_string(), Subject::rental("R1").to_string()),
            ("group G1".into(), "rental R1".into())
        );
    }
}
