//! Who pays.

use super::e_invoice::EInvoice;
use super::message::RecipientLists;
use super::tax::TaxTreatment;

/// A tenant's customer, as far as billing needs it; the full record stays in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    pub customer_id: String,
    /// Where invoices go; without it the payment stands and its mail is undeliverable (rule 25).
    pub billing_email: Option<String>,
    /// Who gets invoices instead, or a copy: as the subject's group says, else the customer.
    pub recipients: RecipientLists,
    pub tax_treatment: TaxTreatment,
    /// The customer's own terms, else the tenant's hold.
    pub payment_terms_days: Option<u32>,
    /// Language of its mails, else the tenant's.
    pub locale: Option<String>,
    /// The immutable version of the buyer that invoices made now refer to (rule 24).
    pub party_id: String,
    pub e_invoice: EInvoice,
    /// What the buyer has not told and its e-invoice needs.
    pub e_invoice_lacks: Vec<String>,
}

/// Whether a customer is a person or a company.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomerType {
    Individual,
    Business,
}

super::words!(CustomerType { Individual = "individual", Business = "business" });

/// A customer's status; it does not stop billing (rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomerStatus {
    Active,
    Inactive,
}

super::words!(CustomerStatus { Active = "active", Inactive = "inactive" });
