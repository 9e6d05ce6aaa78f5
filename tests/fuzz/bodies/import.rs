//! Files to import: what is taken is within the limits and can be brought in again as it is, what is not is named with its line.

use billday::domain::Currency;
use billday::domain::money::format_percent;
use billday::import::{Examined, ImportFile, TenantFields, examine};
use billday::input::ADDRESS_PARTS;
use billday::store::import::{Claim, CustomerContent, GroupContent, Incoming, PaymentContent, RentalContent};
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde_json::{Map, Value, json};

use super::is_one_line;

/// Whom records belong to that name nobody.
const TENANT: &str = r#"{"tenantId": "T", "name": "Shop", "currency": "EUR", "timeZone": "Europe/Berlin"}"#;

/// Any file that begins like JSON.
pub fn import_json(data: &[u8]) {
    let begins = data.trim_ascii_start().starts_with(b"{") || data.trim_ascii_start().starts_with(b"[");
    import(if begins { data.to_vec() } else { [b"[", data].concat() });
}

/// Any file that begins otherwise.
pub fn import_csv(data: &[u8]) {
    let begins = data.trim_ascii_start().starts_with(b"{") || data.trim_ascii_start().starts_with(b"[");
    import(if begins { [b"\"\",", data].concat() } else { data.to_vec() });
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_782_864_000, 0).expect("an instant")
}

fn import(file: Vec<u8>) {
    let lines = file.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    let files = [ImportFile::text("T", TENANT), ImportFile::text("data", file)];
    let found = examine(&files, Some("T"), now()).expect("files that can be read");
    assert!(found.complaints_total >= found.complaints.len() as u64);
    assert_eq!(found.complaints_total == 0, found.complaints.is_empty());
    for complaint in &found.complaints {
        assert!(complaint.file == "data" && (1..=lines).contains(&complaint.line), "{complaint}");
        assert!(!complaint.message.is_empty() && is_one_line(&complaint.to_string()), "{:?}", complaint.to_string());
    }
    for tenant in &found.tenants {
        frame(tenant);
        let content = &tenant.content;
        Currency::from_code(&content.currency).expect("a currency");
        assert!(content.time_zone.parse::<chrono_tz::Tz>().is_ok());
        assert!(
            content.run_at.len() == 5
                && content.run_at.bytes().enumerate().all(|(n, byte)| (n == 2) != byte.is_ascii_digit())
        );
        content.bill_from.into_iter().for_each(written_with_four_digits);
        let mut fields = TenantFields::of(content).to_json();
        fields["tenantId"] = json!(tenant.id);
        let again = again(tenant, fields).tenants.pop().expect("a tenant");
        let mut expected = content.clone();
        expected.logo_file = None;
        assert_eq!(again.content, expected);
    }
    for record in &found.customers {
        frame(record);
        let again = again(record, customer(record)).customers;
        assert_eq!(again.iter().map(|again| &again.content).collect::<Vec<_>>(), [&record.content]);
    }
    for record in &found.rentals {
        frame(record);
        let content = &record.content;
        assert!(content.contract_length.is_none_or(|months| (1..=120).contains(&months)));
        amount(&content.currency, content.monthly_amount);
        [Some(content.start_date), content.end_date, content.ended_on]
            .into_iter()
            .flatten()
            .for_each(written_with_four_digits);
        let again = again(record, rental(record)).rentals;
        assert_eq!(again.iter().map(|again| &again.content).collect::<Vec<_>>(), [&record.content]);
    }
    for record in &found.groups {
        frame(record);
        assert!((1..=28).contains(&record.content.billing_day));
        let again = again(record, group(record)).groups;
        assert_eq!(again.iter().map(|again| &again.content).collect::<Vec<_>>(), [&record.content]);
    }
    for record in &found.payments {
        frame(record);
        let content = &record.content;
        assert_eq!(content.subtotal + content.tax_amount, content.total);
        [content.subtotal, content.tax_amount].into_iter().for_each(|minor| amount(&content.currency, minor));
        [content.issue_date, Some(content.due_date)].into_iter().flatten().for_each(written_with_four_digits);
        let again = again(record, payment(record)).payments;
        assert_eq!(again.iter().map(|again| &again.content).collect::<Vec<_>>(), [&record.content]);
    }
}

/// What all records have.
fn frame<C>(record: &Incoming<C>) {
    for id in [&record.tenant_id, &record.id] {
        assert!(!id.is_empty() && id.chars().count() <= 128 && is_one_line(id), "{id:?}");
    }
    for instant in [record.created_at, record.updated_at].into_iter().flatten() {
        instant_of(instant);
    }
}

fn amount(currency: &str, minor: i64) {
    let currency = Currency::from_code(currency).expect("a currency");
    assert_eq!(currency.parse_amount(&currency.format(minor)), Ok(minor));
}

fn written_with_four_digits(date: NaiveDate) {
    assert!((0..=9999).contains(&date.year()), "{date}");
}

fn instant_of(micros: i64) -> String {
    let instant = DateTime::from_timestamp_micros(micros).expect("an instant");
    assert!((0..=9999).contains(&instant.year()), "{instant}");
    instant.to_rfc3339()
}

/// The record brought in again, from what it was read as; nothing may be wrong with that.
fn again<C>(record: &Incoming<C>, fields: Value) -> Examined {
    let mut records = vec![fields];
    if records[0].get("timeZone").is_none() {
        records[0]["tenantId"] = json!(record.tenant_id);
        records
            .push(json!({"tenantId": record.tenant_id, "name": "Shop", "currency": "EUR", "timeZone": "Asia/Tokyo"}));
    }
    let text = Value::Array(records).to_string();
    let again = examine(&[ImportFile::text("again", text.clone())], None, now()).expect("text");
    assert_eq!(again.complaints, [], "{text}");
    again
}

/// Without the fields that are not there.
fn said(mut fields: Value) -> Value {
    fields.as_object_mut().expect("fields").retain(|_, value| !value.is_null());
    fields
}

fn customer(record: &Incoming<CustomerContent>) -> Value {
    let c = &record.content;
    said(json!({
        "customerId": record.id, "customerType": c.customer_type, "status": c.status, "company": c.company,
        "firstName": c.first_name, "lastName": c.last_name, "email": c.email, "billingEmail": c.billing_email,
        "invoiceRecipients": list(c.invoice_recipients.as_deref()), "invoiceCc": list(c.invoice_cc.as_deref()), "phone": c.phone,
        "vatId": c.vat_id, "registration": c.registration, "buyerReference": c.buyer_reference, "eInvoice": c.e_invoice,
        "electronicAddress": c.electronic_address, "taxTreatment": c.tax_treatment, "paymentTermsDays": c.payment_terms_days,
        "locale": c.locale, "billingAddress": address(c.billing_address.as_deref()),
        "shippingAddress": address(c.shipping_address.as_deref()),
    }))
}

fn rental(record: &Incoming<RentalContent>) -> Value {
    let c = &record.content;
    let mut fields = said(json!({
        "rentalId": record.id, "customerId": c.customer_id, "monthlyAmount": money(&c.currency, c.monthly_amount),
        "currency": c.currency, "status": c.status, "startDate": day(c.start_date), "endDate": c.end_date.map(day),
        "contractLength": c.contract_length, "cancelledAt": c.ended_on.map(day), "productName": c.product_name,
        "serialNumber": c.serial_number, "sku": c.sku, "orderId": c.order_id, "notes": c.notes,
    }));
    if let Claim::Said(group) = &c.claim {
        fields["billingGroupId"] = json!(group);
    }
    fields
}

fn group(record: &Incoming<GroupContent>) -> Value {
    let c = &record.content;
    let mut fields = said(json!({
        "billingGroupId": record.id, "customerId": c.customer_id, "groupName": c.group_name, "billingDay": c.billing_day,
        "invoiceRecipients": list(c.invoice_recipients.as_deref()), "invoiceCc": list(c.invoice_cc.as_deref()),
        "status": c.status, "notes": c.notes,
    }));
    if let Claim::Said(members) = &c.members {
        fields["rentalIds"] = json!(members);
    }
    fields
}

fn payment(record: &Incoming<PaymentContent>) -> Value {
    let c = &record.content;
    let (kind, id, name) = match c.subject_kind.as_str() {
        "group" => ("consolidated", "billingGroupId", "groupName"),
        _ => ("individual", "rentalId", "productName"),
    };
    let lines = c.lines.iter().map(|line| {
        said(json!({
            "rentalId": line.rental_id, "billingPeriod": line.billing_period, "amount": money(&c.currency, line.amount),
            "taxAmount": money(&c.currency, line.tax_amount), "arrears": line.arrears, "description": line.description,
            "productName": line.product_name, "serialNumber": line.serial_number,
        }))
    });
    said(json!({
        "paymentId": record.id, "paymentType": kind, id: c.subject_id, name: c.subject_name, "customerId": c.customer_id,
        "billingPeriod": c.billing_period, "currency": c.currency, "subtotal": money(&c.currency, c.subtotal),
        "taxAmount": money(&c.currency, c.tax_amount), "total": money(&c.currency, c.total),
        "taxRate": format_percent(c.tax_rate_ppm), "taxTreatment": c.tax_treatment, "status": c.status, "issueDate": c.issue_date.map(day),
        "dueDate": day(c.due_date), "invoiceNumber": c.invoice_number, "paidAt": c.paid_at.map(instant_of), "provider": c.provider,
        "transactionId": c.transaction_id, "paymentReference": c.payment_reference, "notes": c.notes,
        "lineItems": lines.collect::<Vec<_>>(),
    }))
}

fn day(date: NaiveDate) -> String {
    date.to_string()
}

fn money(currency: &str, minor: i64) -> String {
    Currency::from_code(currency).expect("a currency").format(minor)
}

fn list(stored: Option<&str>) -> Value {
    stored.map_or(Value::Null, |stored| serde_json::from_str(stored).expect("a JSON list"))
}

/// An address in parts as an object, any other as the text that it is.
fn address(stored: Option<&str>) -> Value {
    let parts = stored.and_then(|stored| serde_json::from_str::<Map<String, Value>>(stored).ok());
    let parts = parts
        .filter(|parts| parts.iter().all(|(name, value)| ADDRESS_PARTS.contains(&name.as_str()) && value.is_string()));
    parts.map_or_else(|| json!(stored), Value::Object)
}
