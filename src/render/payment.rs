//! The public API's payment object, as the report and the API send it.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::domain::money::format_percent;
use crate::domain::payment::PaymentStatus;
use crate::domain::{Currency, Payment, PaymentLine, SubjectKind};

/// A payment on the wire; fields in the order in which they are sent, unset ones left out.
///
/// Amounts hold the exact text of the number: they are never a float, neither written nor read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WirePayment {
    pub payment_id: String,
    pub tenant_id: String,
    pub customer_id: String,
    pub subtotal: Number,
    pub tax_amount: Number,
    /// A percentage: `19`, `7.5`.
    pub tax_rate: Number,
    pub tax_treatment: Cow<'static, str>,
    pub total: Number,
    pub currency: Cow<'static, str>,
    /// The same as `total`: the one amount that all clients read.
    pub amount: Number,
    /// `individual` or `consolidated`.
    pub payment_type: Cow<'static, str>,
    /// The rental of an individual payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rental_id: Option<String>,
    /// The group of a consolidated payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_group_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_name: Option<String>,
    pub billing_period: String,
    pub status: Cow<'static, str>,
    /// Missing until it is given, so in every dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoice_number: Option<String>,
    /// Empty, and left out, where an imported payment did not say it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub issue_date: String,
    pub due_date: String,
    pub idempotency_key: String,
    /// There only where the invoice goes without the e-invoice that the customer wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e_invoice: Option<WireEInvoice>,
    pub line_items: Vec<WireLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_reference: Option<String>,
    pub manually_marked: bool,
    /// `key:<id>` or `cli`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marked_by: Option<String>,
    pub capture_attempts: u32,
    pub late_fee_applied: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Sent as null while unset, like the two after it, and unlike all others.
    pub paid_at: Option<String>,
    pub last_capture_attempt: Option<String>,
    pub next_retry_at: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

/// An e-invoice that cannot be made, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireEInvoice {
    pub format: Cow<'static, str>,
    pub missing: Vec<String>,
}

/// One line of a payment on the wire; amounts are net.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WireLine {
    pub rental_id: String,
    /// For people: product, serial number and period in one phrase.
    pub description: String,
    pub amount: Number,
    pub tax_amount: Number,
    pub billing_period: String,
    pub product_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// Charged for a period before the payment's.
    pub arrears: bool,
}

impl WirePayment {
    /// A payment as it stands at its creation: nobody has captured, marked or reminded anything yet.
    pub fn new(tenant_id: &str, payment: &Payment, invoice_number: Option<&str>, created_at: DateTime<Utc>) -> Self {
        let amount = |minor| amount(payment.currency, minor);
        let created_at = instant(created_at);
        let subject_id = payment.subject.id.clone();
        let subject_name = payment.subject_name.clone();
        let (payment_type, rental_id, product_name, billing_group_id, group_name) = match payment.subject.kind {
            SubjectKind::Rental => ("individual", Some(subject_id), Some(subject_name), None, None),
            SubjectKind::Group => ("consolidated", None, None, Some(subject_id), Some(subject_name)),
        };
        Self {
            payment_id: payment.payment_id.clone(),
            tenant_id: tenant_id.to_owned(),
            customer_id: payment.customer_id.clone(),
            subtotal: amount(payment.subtotal),
            tax_amount: amount(payment.tax_amount),
            tax_rate: number(&format_percent(payment.tax_rate_ppm)),
            tax_treatment: Cow::Borrowed(payment.tax_treatment.as_str()),
            total: amount(payment.total),
            currency: Cow::Borrowed(payment.currency.code()),
            amount: amount(payment.total),
            payment_type: Cow::Borrowed(payment_type),
            rental_id,
            billing_group_id,
            group_name,
            product_name,
            billing_period: payment.billing_period.to_string(),
            status: Cow::Borrowed(payment.status.as_str()),
            invoice_number: invoice_number.map(str::to_owned),
            issue_date: payment.issue_date.to_string(),
            due_date: payment.due_date.to_string(),
            idempotency_key: payment.subject.idempotency_key(payment.billing_period),
            e_invoice: (!payment.e_invoice_lacks.is_empty()).then(|| WireEInvoice {
                format: Cow::Borrowed(payment.e_invoice.as_str()),
                missing: payment.e_invoice_lacks.clone(),
            }),
            line_items: payment.lines.iter().map(|line| WireLine::new(payment.currency, line)).collect(),
            provider: None,
            transaction_id: None,
            payment_reference: None,
            manually_marked: false,
            marked_by: None,
            capture_attempts: 0,
            late_fee_applied: false,
            notes: None,
            // Only a payment of total 0 is paid from its creation (rule 16).
            paid_at: (payment.status == PaymentStatus::Paid).then(|| created_at.clone()),
            last_capture_attempt: None,
            next_retry_at: None,
            updated_at: created_at.clone(),
            created_at,
        }
    }

    /// What the payment is for, as people call it: the group's name, or the product's.
    pub fn subject_name(&self) -> &str {
        self.group_name.as_deref().or(self.product_name.as_deref()).unwrap_or_default()
    }

    /// The id of the group or rental that it was made for.
    pub fn subject_id(&self) -> &str {
        self.billing_group_id.as_deref().or(self.rental_id.as_deref()).unwrap_or_default()
    }
}

impl WireLine {
    /// A line of a payment in `currency`.
    pub fn new(currency: Currency, line: &PaymentLine) -> Self {
        let billing_period = line.billing_period.to_string();
        Self {
            rental_id: line.rental_id.clone(),
            description: description(&line.product_name, line.serial_number.as_deref(), &billing_period),
            amount: amount(currency, line.amount),
            tax_amount: amount(currency, line.tax_amount),
            billing_period,
            product_name: line.product_name.clone(),
            serial_number: line.serial_number.clone(),
            arrears: line.arrears,
        }
    }
}

/// An instant as the API sends it: RFC 3339, UTC, `Z`, milliseconds.
pub fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Minor units as a JSON number with exactly the currency's digits.
pub fn amount(currency: Currency, minor: i64) -> Number {
    number(&currency.format(minor))
}

/// The same of a sum, which may be wider than any one amount.
pub fn amount_sum(currency: Currency, minor: i128) -> Number {
    number(&currency.format_sum(minor))
}

/// A JSON number that keeps the text of a decimal, trailing zeros included.
fn number(decimal: &str) -> Number {
    decimal.parse().expect("a formatted decimal is a JSON number")
}

fn description(product_name: &str, serial_number: Option<&str>, billing_period: &str) -> String {
    match serial_number {
        Some(serial_number) => format!("{product_name} ({serial_number}), {billing_period}"),
        None => format!("{product_name}, {billing_period}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EInvoice;
    use crate::render::report::samples::{created_at, group_payment, payment, rental_payment};

    fn json(payment: &Payment, invoice_number: Option<&str>) -> String {
        let wire = WirePayment::new("acme", payment, invoice_number, created_at());
        let json = serde_json::to_string(&wire).unwrap();
        assert_eq!(serde_json::from_str::<WirePayment>(&json).unwrap(), wire, "what is written is read back");
        json
    }

    #[test]
    fn a_consolidated_payment_is_sent_with_its_group_and_exact_amounts() {
        assert_eq!(
            json(&group_payment("EUR", "G1", "Head office", &[12_900, 24_800]), Some("INV-2026-000001")),
            concat!(
                r#"{"paymentId":"pay_202611qqkhkwhn2zbgfg42","tenantId":"acme","customerId":"C1","subtotal":377.00,"#,
                r#""taxAmount":71.63,"taxRate":19,"taxTreatment":"standard","total":448.63,"currency":"EUR","#,
                r#""amount":448.63,"paymentType":"consolidated","billingGroupId":"G1","groupName":"Head office","#,
                r#""billingPeriod":"2026-11","status":"pending","invoiceNumber":"INV-2026-000001","#,
                r#""issueDate":"2026-11-15","dueDate":"2026-11-29","idempotencyKey":"group:G1:2026-11","lineItems":["#,
                r#"{"rentalId":"R1","description":"MacBook Pro 14 (SN-1), 2026-10","amount":129.00,"taxAmount":24.51,"#,
                r#""billingPeriod":"2026-10","productName":"MacBook Pro 14","serialNumber":"SN-1","arrears":true},"#,
                r#"{"rentalId":"R2","description":"MacBook Pro 14, 2026-11","amount":248.00,"taxAmount":47.12,"#,
                r#""billingPeriod":"2026-11","productName":"MacBook Pro 14","arrears":false}],"#,
                r#""manuallyMarked":false,"captureAttempts":0,"lateFeeApplied":false,"paidAt":null,"#,
                r#""lastCaptureAttempt":null,"nextRetryAt":null,"createdAt":"2026-11-15T06:00:00.123Z","#,
                r#""updatedAt":"2026-11-15T06:00:00.123Z"}"#
            )
        );
    }

    #[test]
    fn an_individual_payment_names_its_rental_and_no_group() {
        let json = json(&rental_payment("EUR", "R9", 4_900), None);
        assert!(json.contains(r#""paymentType":"individual","rentalId":"R9","productName":"MacBook Pro 14","billing"#));
        for absent in ["billingGroupId", "groupName", "invoiceNumber"] {
            assert!(!json.contains(absent), "{absent}");
        }
    }

    #[test]
    fn every_currency_has_its_own_number_of_digits() {
        for (currency, amount) in [("EUR", "377.00"), ("JPY", "37700"), ("KWD", "37.700")] {
            let json = json(&rental_payment(currency, "R9", 37_700), None);
            assert!(json.contains(&format!(r#""subtotal":{amount},"#)), "{json}");
        }
        let largest = json(&payment("EUR", i64::MAX), None);
        assert!(largest.contains(r#""total":92233720368547758.07"#), "{largest}");
    }

    #[test]
    fn a_payment_whose_e_invoice_cannot_be_made_says_why() {
        let mut payment = rental_payment("EUR", "R9", 4_900);
        payment.e_invoice_lacks = vec!["the seller has no phone, which XRechnung needs".to_owned()];
        payment.e_invoice = EInvoice::XRechnung;
        let said = r#""eInvoice":{"format":"xRechnung","missing":["the seller has no phone, which XRechnung needs"]}"#;
        assert!(json(&payment, None).contains(said));
    }

    #[test]
    fn a_payment_of_nothing_was_paid_when_it_was_created() {
        let json = json(&rental_payment("EUR", "R9", 0), None);
        assert!(json.contains(r#""total":0.00,"#) && json.contains(r#""status":"paid","#), "{json}");
        assert!(json.contains(r#""paidAt":"2026-11-15T06:00:00.123Z","lastCaptureAttempt":null"#), "{json}");
    }

    #[test]
    fn a_tax_rate_has_no_needless_zeros() {
        let mut payment = rental_payment("EUR", "R9", 100);
        payment.tax_rate_ppm = 75_000;
        assert!(json(&payment, None).contains(r#""taxRate":7.5,"#));
        payment.tax_rate_ppm = 0;
        assert!(json(&payment, None).contains(r#""taxRate":0,"#));
    }
}
