//! A past payment: its amounts, its subject, and the lines that it charged.

use chrono::NaiveDate;

use crate::domain::payment::PaymentStatus;
use crate::domain::{BillingPeriod, Currency, Subject, SubjectKind, TaxTreatment};
use crate::store::import::{LineContent, PaymentContent};

use super::fields::Fields;
use super::record::Basics;
use crate::input::value::{Object, Value, short};

pub(super) fn payment_content(fields: &mut Fields<'_>, basics: Basics) -> PaymentContent {
    let currency = fields.currency("currency").unwrap_or(basics.currency);
    let period = fields.period("billingPeriod");
    if period.is_none() && fields.value("billingPeriod").is_none() {
        fields.missing("billingPeriod");
    }
    let period = period.unwrap_or_else(|| BillingPeriod::of(NaiveDate::default()));
    let subject = subject(fields);
    let Amounts { subtotal, tax_amount, total } = amounts(fields, currency);
    let issue_date = fields.date("issueDate", basics.zone);
    let kind_name = match subject.kind {
        SubjectKind::Group => "groupName",
        SubjectKind::Rental => "productName",
    };
    let mut lines = lines(fields, currency, &subject, period, subtotal, tax_amount);
    lines.sort_by(|a, b| (&a.rental_id, &a.billing_period).cmp(&(&b.rental_id, &b.billing_period)));
    for pair in lines.windows(2) {
        if (&pair[0].rental_id, &pair[0].billing_period) == (&pair[1].rental_id, &pair[1].billing_period) {
            let message =
                format!("charges rental '{}' twice for {}", short(&pair[0].rental_id), pair[0].billing_period);
            fields.fault("lineItems", message);
        }
    }
    PaymentContent {
        subject_kind: subject.kind.as_str().to_owned(),
        customer_id: fields.required_id("customerId"),
        subject_name: fields.text(kind_name),
        billing_period: period.to_string(),
        currency: currency.code().to_owned(),
        subtotal,
        tax_amount,
        total,
        tax_rate_ppm: fields.percent("taxRate").unwrap_or(0),
        tax_treatment: fields
            .word("taxTreatment", TaxTreatment::WORDS)
            .unwrap_or_else(|| TaxTreatment::Standard.as_str().to_owned()),
        status: fields.word("status", PaymentStatus::WORDS),
        issue_date,
        due_date: fields.date("dueDate", basics.zone).or(issue_date).unwrap_or_else(|| period.first_day()),
        invoice_number: fields.text("invoiceNumber"),
        paid_at: fields.instant("paidAt", basics.zone),
        provider: fields.word("provider", &["stripe", "adyen", "paypal", "manual"]),
        transaction_id: fields.text("transactionId"),
        payment_reference: fields.text("paymentReference"),
        notes: notes(fields, &subject.idempotency_key(period)),
        subject_id: subject.id,
        lines,
    }
}

/// What the payment is for: `paymentType` says it, else the ids that are there.
fn subject(fields: &mut Fields<'_>) -> Subject {
    let payment_type = fields.word("paymentType", &["individual", "consolidated"]);
    let (group, rental) = (fields.id("billingGroupId"), fields.id("rentalId"));
    match (payment_type.as_deref(), group, rental) {
        (Some("consolidated") | None, Some(group), _) => Subject::group(group),
        (Some("individual") | None, _, Some(rental)) => Subject::rental(rental),
        (payment_type, _, _) => {
            let (field, message) = match payment_type {
                Some("consolidated") => ("billingGroupId", "is missing: a consolidated payment is a group's"),
                Some(_) => ("rentalId", "is missing: an individual payment is a rental's"),
                None => ("rentalId", "is missing: a payment needs a rentalId or a billingGroupId"),
            };
            if fields.value(field).is_none() {
                fields.fault(field, message);
            }
            Subject::rental("")
        }
    }
}

struct Amounts {
    subtotal: i64,
    tax_amount: i64,
    total: i64,
}

fn amounts(fields: &mut Fields<'_>, currency: Currency) -> Amounts {
    let before = fields.faults.len();
    let subtotal = fields.amount("subtotal", currency);
    let subtotal = fields.required("subtotal", subtotal);
    let tax_amount = fields.amount("taxAmount", currency).unwrap_or(0);
    // Amounts are bounded far below what would overflow.
    let sum = subtotal + tax_amount;
    let given = fields.amount("total", currency);
    if let Some(given) = given.filter(|given| *given != sum && fields.faults.len() == before) {
        let (given, sum) = (currency.format(given), currency.format(sum));
        fields.fault("total", format!("{given} is not subtotal plus taxAmount, which is {sum}"));
    }
    Amounts { subtotal, tax_amount, total: sum }
}

fn notes(fields: &mut Fields<'_>, computed_key: &str) -> Option<String> {
    let notes = fields.notes("notes");
    match fields.text("idempotencyKey") {
        Some(key) if key != computed_key => {
            let kept = format!("idempotencyKey: {key}");
            match notes {
                // A download that is imported again has the note already.
                Some(notes) if notes.lines().any(|line| line == kept) => Some(notes),
                Some(notes) => Some(format!("{notes}\n{kept}")),
                None => Some(kept),
            }
        }
        _ => notes,
    }
}

fn lines(
    fields: &mut Fields<'_>,
    currency: Currency,
    subject: &Subject,
    period: BillingPeriod,
    subtotal: i64,
    tax_amount: i64,
) -> Vec<LineContent> {
    let items: &[Value] = match fields.value("lineItems") {
        None => &[],
        Some(Value::List(items)) => items,
        Some(other) => {
            fields.fault("lineItems", format!("is {}: expected a list of line items", other.describe()));
            return Vec::new();
        }
    };
    if items.is_empty() {
        if subject.kind == SubjectKind::Group {
            fields
                .fault("lineItems", "is missing: without it nobody knows which rentals a consolidated payment charged");
        }
        return vec![LineContent {
            rental_id: subject.id.clone(),
            billing_period: period.to_string(),
            amount: subtotal,
            tax_amount,
            arrears: false,
            description: None,
            product_name: fields.text("productName"),
            serial_number: fields.text("serialNumber"),
        }];
    }
    let mut lines = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let Value::Object(object) = item else {
            fields.fault(&format!("lineItems.{at}"), format!("is {}: expected a line item", item.describe()));
            continue;
        };
        lines.push(line(fields, object, at, currency, subject, period));
    }
    lines
}

fn line(
    fields: &mut Fields<'_>,
    object: &Object,
    at: usize,
    currency: Currency,
    subject: &Subject,
    payment_period: BillingPeriod,
) -> LineContent {
    let mut inner = Fields::new(object, format!("lineItems.{at}."));
    let rental_id = inner.required_id("rentalId");
    if subject.kind == SubjectKind::Rental && !rental_id.is_empty() && rental_id != subject.id {
        inner.fault("rentalId", format!("is another rental than the payment's own, '{}'", short(&subject.id)));
    }
    let amount = inner.amount("amount", currency);
    let period = inner.period("billingPeriod").unwrap_or(payment_period);
    let arrears = inner.flag("arrears").unwrap_or(false);
    let line = LineContent {
        rental_id,
        billing_period: period.to_string(),
        amount: inner.required("amount", amount),
        tax_amount: inner.amount("taxAmount", currency).unwrap_or(0),
        arrears,
        description: inner.text("description"),
        product_name: inner.text("productName"),
        serial_number: inner.text("serialNumber"),
    };
    fields.faults.append(&mut inner.faults);
    line
}
