//! What an import writes of each kind of record, in the database's own types, so that stored and given compare as they are.

use std::fmt::Write as _;

use chrono::NaiveDate;
use data_encoding::BASE32_NOPAD;
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::FromRow;

use crate::domain::EInvoice;

/// A record on its way in.
#[derive(Debug, Clone)]
pub struct Incoming<C> {
    pub tenant_id: String,
    /// Its id; a tenant's is its `tenant_id` again.
    pub id: String,
    /// File and line, as one number.
    pub place: i64,
    /// Microseconds UTC, if the record gives it.
    pub created_at: Option<i64>,
    pub updated_at: Option<i64>,
    pub content: C,
}

/// What a record says of a membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Claim<T> {
    /// Nothing: it stays as it is.
    #[default]
    Unsaid,
    Said(T),
}

/// What the parts that are common to all kinds need of a kind.
pub(super) trait Content: PartialEq {
    /// Fills in what the record leaves as it is stored, and what only a new record gets as a default.
    fn complete(&mut self, stored: Option<&Self>);
}

#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct TenantContent {
    pub name: String,
    pub currency: String,
    pub time_zone: String,
    pub locale: String,
    pub billing_fixed_day: Option<i64>,
    pub contract_end: String,
    pub proration: String,
    /// Unsaid, it stays; a new tenant then gets `bill_from_default`.
    pub bill_from: Option<NaiveDate>,
    #[sqlx(default)]
    pub bill_from_default: NaiveDate,
    pub payment_terms_days: i64,
    pub tax_mode: String,
    pub tax_rate_ppm: i64,
    pub invoice_number_format: String,
    pub first_invoice_number: i64,
    pub catch_up_days: i64,
    pub max_arrears: i64,
    pub run_at: String,
    pub legal_name: Option<String>,
    pub address: Option<String>,
    pub vat_id: Option<String>,
    pub tax_number: Option<String>,
    pub registration: Option<String>,
    pub contact_name: Option<String>,
    pub phone: Option<String>,
    pub email: Option<String>,
    pub electronic_address: Option<String>,
    pub iban: Option<String>,
    pub bic: Option<String>,
    /// The SHA-256 of a picture.
    pub logo: Option<String>,
    /// That picture where it comes with the record; else it has to be stored already.
    #[sqlx(skip)]
    pub logo_file: Option<Picture>,
    pub accent_color: Option<String>,
    pub footer: Option<String>,
}

/// A picture on its way into the database.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub content_type: &'static str,
    pub bytes: Vec<u8>,
}

impl Content for TenantContent {
    fn complete(&mut self, stored: Option<&Self>) {
        self.logo_file = None;
        let default = self.bill_from_default;
        self.bill_from_default = NaiveDate::default();
        self.bill_from = self.bill_from.or_else(|| stored.and_then(|s| s.bill_from)).or(Some(default));
    }
}

impl TenantContent {
    /// What an invoice shows of the seller, as one immutable version (rule 24).
    pub(super) fn party(&self, tenant_id: &str) -> Party {
        let body = json!({
            "tenantId": tenant_id,
            "name": self.name,
            "legalName": self.legal_name,
            "address": embedded(self.address.as_deref()),
            "vatId": self.vat_id,
            "email": self.email,
            "iban": self.iban,
            "bic": self.bic,
        });
        Party::of(with_said(
            body,
            [
                ("taxNumber", &self.tax_number),
                ("registration", &self.registration),
                ("contactName", &self.contact_name),
                ("phone", &self.phone),
                ("electronicAddress", &self.electronic_address),
                ("logo", &self.logo),
                ("accentColor", &self.accent_color),
                ("footer", &self.footer),
            ],
        ))
    }
}

#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct CustomerContent {
    pub customer_type: String,
    /// Unsaid, it stays; a new customer is active.
    pub status: Option<String>,
    pub company: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub email: Option<String>,
    pub billing_email: Option<String>,
    /// A JSON list of addresses, as is the next.
    pub invoice_recipients: Option<String>,
    pub invoice_cc: Option<String>,
    pub phone: Option<String>,
    pub vat_id: Option<String>,
    pub registration: Option<String>,
    pub buyer_reference: Option<String>,
    pub e_invoice: String,
    pub electronic_address: Option<String>,
    pub tax_treatment: String,
    pub payment_terms_days: Option<i64>,
    pub locale: Option<String>,
    /// Canonical JSON, or plain text.
    pub billing_address: Option<String>,
    pub shipping_address: Option<String>,
}

impl Content for CustomerContent {
    fn complete(&mut self, stored: Option<&Self>) {
        keep_status(&mut self.status, stored.and_then(|s| s.status.as_ref()), "active");
    }
}

impl CustomerContent {
    /// What an invoice shows of the buyer, as one immutable version (rule 24).
    pub(super) fn party(&self, customer_id: &str) -> Party {
        let body = json!({
            "customerId": customer_id,
            "customerType": self.customer_type,
            "company": self.company,
            "firstName": self.first_name,
            "lastName": self.last_name,
            "email": self.email,
            "billingEmail": self.billing_email,
            "vatId": self.vat_id,
            "buyerReference": self.buyer_reference,
            "billingAddress": embedded(self.billing_address.as_deref()),
            "taxTreatment": self.tax_treatment,
        });
        let e_invoice = Some(self.e_invoice.clone()).filter(|word| word != EInvoice::default().as_str());
        Party::of(with_said(
            body,
            [
                ("registration", &self.registration),
                ("eInvoice", &e_invoice),
                ("electronicAddress", &self.electronic_address),
            ],
        ))
    }
}

#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct RentalContent {
    pub customer_id: String,
    /// The group it is in: the claim, else what is stored.
    #[sqlx(rename = "billing_group_id")]
    pub member_of: Option<String>,
    #[sqlx(skip)]
    pub claim: Claim<Option<String>>,
    pub monthly_amount: i64,
    pub currency: String,
    /// Unsaid, it stays; a new rental is active.
    pub status: Option<String>,
    pub start_date: NaiveDate,
    pub end_date: Option<NaiveDate>,
    pub contract_length: Option<i64>,
    pub ended_on: Option<NaiveDate>,
    pub product_name: String,
    pub serial_number: Option<String>,
    pub sku: Option<String>,
    pub order_id: Option<String>,
    pub notes: Option<String>,
}

impl Content for RentalContent {
    fn complete(&mut self, stored: Option<&Self>) {
        keep_status(&mut self.status, stored.and_then(|s| s.status.as_ref()), "active");
        self.member_of = match std::mem::take(&mut self.claim) {
            Claim::Said(group) => group,
            Claim::Unsaid => stored.and_then(|s| s.member_of.clone()),
        };
    }
}

#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct GroupContent {
    pub customer_id: String,
    pub group_name: String,
    pub billing_day: i64,
    /// A JSON list of addresses, as is the next.
    pub invoice_recipients: Option<String>,
    pub invoice_cc: Option<String>,
    /// Unsaid, it stays; a new group is active.
    pub status: Option<String>,
    pub notes: Option<String>,
    /// Its whole membership, without repetitions; compared where membership is settled.
    #[sqlx(skip)]
    pub members: Claim<Vec<String>>,
}

impl Content for GroupContent {
    fn complete(&mut self, stored: Option<&Self>) {
        keep_status(&mut self.status, stored.and_then(|s| s.status.as_ref()), "active");
        self.members = Claim::Unsaid;
    }
}

#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct PaymentContent {
    pub subject_kind: String,
    pub subject_id: String,
    pub customer_id: String,
    /// Unsaid, it is what the group or the product is called.
    pub subject_name: Option<String>,
    pub billing_period: String,
    pub currency: String,
    pub subtotal: i64,
    pub tax_amount: i64,
    pub total: i64,
    pub tax_rate_ppm: i64,
    pub tax_treatment: String,
    /// Unsaid, it stays; a new payment is paid.
    pub status: Option<String>,
    pub issue_date: Option<NaiveDate>,
    pub due_date: NaiveDate,
    pub invoice_number: Option<String>,
    pub paid_at: Option<i64>,
    pub provider: Option<String>,
    pub transaction_id: Option<String>,
    pub payment_reference: Option<String>,
    pub notes: Option<String>,
    /// Ordered by rental, then period.
    #[sqlx(skip)]
    pub lines: Vec<LineContent>,
}

/// The charge of one rental for one period in an imported payment.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct LineContent {
    pub rental_id: String,
    pub billing_period: String,
    pub amount: i64,
    pub tax_amount: i64,
    pub arrears: bool,
    pub description: Option<String>,
    pub product_name: Option<String>,
    pub serial_number: Option<String>,
}

impl Content for PaymentContent {
    fn complete(&mut self, stored: Option<&Self>) {
        keep_status(&mut self.status, stored.and_then(|s| s.status.as_ref()), "paid");
        let stored_name = stored.filter(|s| s.subject_id == self.subject_id).and_then(|s| s.subject_name.clone());
        self.subject_name = self.subject_name.take().or(stored_name).or_else(|| Some(self.subject_id.clone()));
    }
}

fn keep_status(status: &mut Option<String>, stored: Option<&String>, default: &str) {
    if status.is_none() {
        *status = Some(stored.map_or(default, String::as_str).to_owned());
    }
}

/// A stored address as it goes into a snapshot: an object as such, not as a text that holds one.
fn embedded(address: Option<&str>) -> serde_json::Value {
    let Some(address) = address else { return serde_json::Value::Null };
    match serde_json::from_str(address) {
        Ok(object @ serde_json::Value::Object(_)) => object,
        _ => address.into(),
    }
}

/// Adds what is not as it is by default: what says nothing new stays the version that it was before there was such a thing.
fn with_said<const N: usize>(mut body: serde_json::Value, more: [(&str, &Option<String>); N]) -> serde_json::Value {
    for (key, text) in more {
        if let Some(text) = text {
            body[key] = text.as_str().into();
        }
    }
    body
}

/// An immutable version of a seller or buyer: equal content has an equal id.
pub(super) struct Party {
    pub party_id: String,
    pub body: String,
}

impl Party {
    fn of(body: serde_json::Value) -> Self {
        let body = body.to_string();
        let digest = Sha256::digest(body.as_bytes());
        let mut party_id = String::from("party_");
        let _ = write!(party_id, "{}", BASE32_NOPAD.encode(&digest[..16]).to_ascii_lowercase());
        Self { party_id, body }
    }
}
