//! From a record's fields to what the store writes, kind by kind, with the defaults of the interface.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::domain::brand::Colour;
use crate::domain::calendar::local_date;
use crate::domain::customer::{CustomerStatus, CustomerType};
use crate::domain::e_invoice::{EInvoice, ElectronicAddress};
use crate::domain::group::GroupStatus;
use crate::domain::invoice::NumberFormat;
use crate::domain::rental::RentalStatus;
use crate::domain::tenant::{ContractEnd, PAYMENT_TERMS_DAYS};
use crate::domain::{Currency, TaxMode, TaxTreatment};
use crate::store::import::{
    Claim, CustomerContent, GroupContent, Incoming, PaymentContent, RentalContent, TenantContent,
};

use super::Kind;
use super::fields::{Fault, Fields};
use super::logo;
use super::payment::payment_content;
use crate::input::value::{Object, Value, get, repeated_key, short};

/// A tenant's zone and currency: its records cannot be read without them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Basics {
    pub currency: Currency,
    pub zone: Tz,
}

impl Basics {
    /// Of a tenant as it is stored; `None` if either cannot be read.
    pub(super) fn of(currency: &str, zone: &str) -> Option<Self> {
        Some(Self { currency: Currency::from_code(currency)?, zone: zone.parse().ok()? })
    }
}

/// What reading records depends on beside the record.
pub(super) struct Context<'a> {
    pub now: DateTime<Utc>,
    /// The tenant of records that name none.
    pub tenant: Option<&'a str>,
    /// The folder of the file that is being read: what a record names is beside it.
    pub folder: PathBuf,
    /// All tenants, stored and in this call. `None`: its own record is bad, so that nothing can be said about others.
    pub tenants: HashMap<String, Option<Basics>>,
}

/// A record that can be written.
pub(super) enum Record {
    Tenant(Box<Incoming<TenantContent>>),
    Customer(Incoming<CustomerContent>),
    Rental(Incoming<RentalContent>),
    Group(Incoming<GroupContent>),
    Payment(Incoming<PaymentContent>),
}

/// Why a record cannot be written, and which it is as far as it says so.
#[derive(Debug)]
pub(super) struct Refusal {
    pub faults: Vec<Fault>,
    pub tenant_id: Option<String>,
    pub id: Option<String>,
}

/// Reads one record. `Ok(None)`: its tenant's record is refused, and that is said there.
pub(super) fn read_record(
    kind: Kind,
    object: &Object,
    place: i64,
    context: &Context<'_>,
) -> Result<Option<Record>, Refusal> {
    let mut fields = Fields::new(object, String::new());
    if let Some(key) = repeated_key(object) {
        fields.fault(&short(&key), "is there twice");
    }
    let id = fields.required_id(kind.id_field());
    let tenant_id = if kind == Kind::Tenant { id.clone() } else { tenant_of(&mut fields, context) };
    let basics = match context.tenants.get(&tenant_id) {
        _ if kind == Kind::Tenant => None,
        Some(None) => return Ok(None),
        Some(Some(basics)) => Some(*basics),
        None => {
            if !tenant_id.is_empty() {
                fields.fault("tenantId", format!("there is no tenant '{tenant_id}'"));
            }
            None
        }
    };
    let zone = basics.map_or(Tz::UTC, |basics| basics.zone);
    let (created_at, updated_at) = (fields.record_time("createdAt", zone), fields.record_time("updatedAt", zone));
    let frame = Frame { tenant_id: tenant_id.clone(), id: id.clone(), place, created_at, updated_at };
    let record = match (kind, basics) {
        (Kind::Tenant, _) => {
            Some(Record::Tenant(Box::new(frame.around(tenant_content(&mut fields, context.now, &context.folder)))))
        }
        (Kind::Customer, _) => Some(Record::Customer(frame.around(customer_content(&mut fields)))),
        (Kind::Group, _) => Some(Record::Group(frame.around(group_content(&mut fields)))),
        (Kind::Rental, Some(basics)) => Some(Record::Rental(frame.around(rental_content(&mut fields, basics)))),
        (Kind::Payment, Some(basics)) => Some(Record::Payment(frame.around(payment_content(&mut fields, basics)))),
        // Amounts and dates mean nothing without the tenant.
        (Kind::Rental | Kind::Payment, None) => None,
    };
    match record {
        Some(record) if fields.faults.is_empty() => Ok(Some(record)),
        _ => {
            let said = |text: String| Some(text).filter(|text| !text.is_empty());
            Err(Refusal { faults: fields.faults, tenant_id: said(tenant_id), id: said(id) })
        }
    }
}

/// The tenant that a record names, else the one that the call names for those without.
fn tenant_of(fields: &mut Fields<'_>, context: &Context<'_>) -> String {
    if fields.value("tenantId").is_some() {
        return fields.required_id("tenantId");
    }
    context.tenant.map(str::to_owned).unwrap_or_else(|| {
        fields.fault("tenantId", "is missing: name it in the record, or for all of them with --tenant");
        String::new()
    })
}

/// What all kinds of record have around their content.
struct Frame {
    tenant_id: String,
    id: String,
    place: i64,
    created_at: Option<i64>,
    updated_at: Option<i64>,
}

impl Frame {
    fn around<C>(self, content: C) -> Incoming<C> {
        let Self { tenant_id, id, place, created_at, updated_at } = self;
        Incoming { tenant_id, id, place, created_at, updated_at, content }
    }
}

fn tenant_content(fields: &mut Fields<'_>, now: DateTime<Utc>, folder: &Path) -> TenantContent {
    let zone = fields.time_zone("timeZone");
    let currency = fields.currency("currency");
    let text_of = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
    let format = fields.text("invoiceNumberFormat");
    if let Some(Err(error)) = format.as_deref().map(NumberFormat::parse) {
        fields.fault("invoiceNumberFormat", error);
    }
    check_tax(fields);
    let proration = fields.word("proration", &["none", "daily"]);
    if proration.as_deref() == Some("daily") {
        fields.fault("proration", "'daily' is not offered yet: only 'none' (whole months) is");
    }
    let (logo, logo_file) = logo::read(fields, folder);
    TenantContent {
        name: fields.required_text("name"),
        time_zone: required_by_name(fields, "timeZone", zone.map(|zone| zone.name())),
        currency: required_by_name(fields, "currency", currency.map(Currency::code)),
        locale: text_of(fields.text("locale"), "en"),
        billing_fixed_day: billing_cycle(fields),
        contract_end: text_of(fields.word("contractEnd", ContractEnd::WORDS), ContractEnd::End.as_str()),
        proration: "none".to_owned(),
        bill_from: fields.date("billFrom", zone.unwrap_or(Tz::UTC)),
        bill_from_default: local_date(now, zone.unwrap_or(Tz::UTC)),
        payment_terms_days: payment_terms(fields).unwrap_or(14),
        tax_mode: text_of(fields.word("tax.mode", TaxMode::WORDS), TaxMode::Exclusive.as_str()),
        tax_rate_ppm: fields.percent("tax.rate").unwrap_or(0),
        invoice_number_format: text_of(format, "INV-{year}-{seq:06}"),
        first_invoice_number: fields.whole("firstInvoiceNumber", 1..=999_999_999_999).unwrap_or(1),
        catch_up_days: fields.whole("catchUpDays", 0..=3_650).unwrap_or(7),
        max_arrears: fields.whole("maxArrears", 0..=1_200).unwrap_or(2),
        run_at: run_at(fields),
        legal_name: fields.text("legalName"),
        address: fields.address("address"),
        vat_id: fields.text("vatId"),
        tax_number: fields.text("taxNumber"),
        registration: fields.text("registration"),
        contact_name: fields.text("contactName"),
        phone: fields.text("phone"),
        email: fields.email("email"),
        electronic_address: electronic_address(fields),
        iban: fields.text("iban"),
        bic: fields.text("bic"),
        logo,
        logo_file,
        accent_color: accent_color(fields),
        footer: footer(fields),
    }
}

fn required_by_name(fields: &mut Fields<'_>, name: &str, value: Option<&str>) -> String {
    fields.required(name, value.map(str::to_owned))
}

/// A tax that is no object, or one that says neither, must not be taken for 0 %.
fn check_tax(fields: &mut Fields<'_>) {
    const SHAPE: &str = r#"{"mode": "exclusive" or "inclusive", "rate": 0 to 100}"#;
    let Some(tax) = fields.object("tax", SHAPE) else { return };
    if !tax.is_empty() && get(tax, "mode").is_none() && get(tax, "rate").is_none() {
        fields.fault("tax", format!("has neither mode nor rate: expected an object {SHAPE}"));
    }
}

/// `startDate`, or an object with the fixed day.
fn billing_cycle(fields: &mut Fields<'_>) -> Option<i64> {
    match fields.value("billingCycle")? {
        Value::Object(_) => {
            let day = fields.whole("billingCycle.fixedDay", 1..=28);
            if fields.value("billingCycle.fixedDay").is_none() {
                fields.fault("billingCycle.fixedDay", "is missing");
            }
            day
        }
        Value::Text(text) | Value::Cell(text) if text == "startDate" => None,
        other => {
            let message = format!("is {}: expected 'startDate' or {{\"fixedDay\": 1 to 28}}", other.describe());
            fields.fault("billingCycle", message);
            None
        }
    }
}

fn payment_terms(fields: &mut Fields<'_>) -> Option<i64> {
    let expected = || "0, 7, 14 or 30".to_owned();
    fields.whole_if("paymentTermsDays", |days| PAYMENT_TERMS_DAYS.contains(&days), expected)
}

fn run_at(fields: &mut Fields<'_>) -> String {
    let Some(text) = fields.text("runAt") else { return "06:00".to_owned() };
    if text.len() != 5 || chrono::NaiveTime::parse_from_str(&text, "%H:%M").is_err() {
        fields.fault("runAt", format!("'{text}' is not a time of day such as 06:00"));
    }
    text
}

/// An empty list: an invoice always has somebody to go to, so it is as good as absent; for copies it means that there are none.
const NOBODY: &str = "[]";
fn accent_color(fields: &mut Fields<'_>) -> Option<String> {
    let text = fields.text("accentColor")?;
    let colour = Colour::parse(&text);
    if colour.is_none() {
        fields.fault("accentColor", format!("'{}' is not a colour such as #1b5e9c", short(&text)));
    }
    colour.map(|colour| colour.to_string())
}

/// A few lines of small print.
fn footer(fields: &mut Fields<'_>) -> Option<String> {
    const LINES_MAX: usize = 6;
    const LENGTH_MAX: usize = 200;
    let text = fields.notes("footer")?;
    if text.lines().count() > LINES_MAX || text.lines().any(|line| line.chars().count() > LENGTH_MAX) {
        fields.fault("footer", format!("is too long: {LINES_MAX} lines of {LENGTH_MAX} characters are the most"));
    }
    Some(text)
}

fn customer_content(fields: &mut Fields<'_>) -> CustomerContent {
    let (company, email) = (fields.text("company"), fields.email("email"));
    let (first_name, last_name) = (fields.text("firstName"), fields.text("lastName"));
    if ["company", "firstName", "lastName", "email"].iter().all(|name| fields.value(name).is_none()) {
        fields.fault("", "a customer needs a company, firstName, lastName or email");
    }
    let by_name = if company.is_some() { CustomerType::Business } else { CustomerType::Individual };
    CustomerContent {
        customer_type: fields.word("customerType", CustomerType::WORDS).unwrap_or_else(|| by_name.as_str().to_owned()),
        status: fields.word("status", CustomerStatus::WORDS),
        billing_email: fields.email("billingEmail").or_else(|| email.clone()),
        invoice_recipients: fields.addresses("invoiceRecipients").filter(|list| list != NOBODY),
        invoice_cc: fields.addresses("invoiceCc"),
        company,
        first_name,
        last_name,
        email,
        phone: fields.text("phone"),
        vat_id: fields.text("vatId"),
        registration: fields.text("registration"),
        buyer_reference: fields.text("buyerReference"),
        e_invoice: fields.word("eInvoice", EInvoice::WORDS).unwrap_or_else(|| EInvoice::default().as_str().to_owned()),
        electronic_address: electronic_address(fields),
        tax_treatment: fields
            .word("taxTreatment", TaxTreatment::WORDS)
            .unwrap_or_else(|| TaxTreatment::Standard.as_str().to_owned()),
        payment_terms_days: payment_terms(fields),
        locale: fields.text("locale"),
        billing_address: address(fields, "billingAddress", "lastBillingAddress"),
        shipping_address: address(fields, "shippingAddress", "lastShippingAddress"),
    }
}

fn electronic_address(fields: &mut Fields<'_>) -> Option<String> {
    let text = fields.text("electronicAddress")?;
    if let Err(reason) = ElectronicAddress::parse(&text) {
        fields.fault("electronicAddress", format!("'{text}' {reason}"));
    }
    Some(text)
}

/// An address under the name by which it is written, else by which it is read.
fn address(fields: &mut Fields<'_>, written: &str, read: &str) -> Option<String> {
    let last = fields.address(read);
    fields.address(written).or(last)
}

fn rental_content(fields: &mut Fields<'_>, basics: Basics) -> RentalContent {
    let given = fields.currency("currency");
    let currency = given.unwrap_or(basics.currency);
    // With a currency that is wrong, whether the digits fit is nobody's guess.
    let amount_is_readable = given.is_some() || fields.value("currency").is_none();
    let monthly_amount = if amount_is_readable { fields.amount("monthlyAmount", currency) } else { None };
    let (start_date, end_date) = (fields.date("startDate", basics.zone), fields.date("endDate", basics.zone));
    if let (Some(start), Some(end)) = (start_date, end_date)
        && end < start
    {
        fields.fault("endDate", format!("{end} lies before startDate {start}"));
    }
    RentalContent {
        customer_id: fields.required_id("customerId"),
        member_of: None,
        claim: match fields.raw("billingGroupId") {
            Some(Value::Null) => Claim::Said(None),
            _ => fields.id("billingGroupId").map_or(Claim::Unsaid, |group| Claim::Said(Some(group))),
        },
        monthly_amount: fields.required("monthlyAmount", monthly_amount),
        currency: currency.code().to_owned(),
        status: fields.word("status", RentalStatus::WORDS),
        start_date: fields.required("startDate", start_date),
        end_date,
        contract_length: contract_length(fields),
        ended_on: ended_on(fields, basics.zone),
        product_name: match fields.text("productName") {
            Some(name) => name,
            None => fields.id("rentalId").unwrap_or_default(),
        },
        serial_number: serial_number(fields),
        sku: fields.text("sku"),
        order_id: fields.id("orderId"),
        notes: fields.notes("notes"),
    }
}

/// Months, 1 to 120; 0 is how a download writes an open end.
fn contract_length(fields: &mut Fields<'_>) -> Option<i64> {
    let expected = || "a whole number from 1 to 120 (0 and empty mean none)".to_owned();
    fields.whole_if("contractLength", |months| (0..=120).contains(&months), expected).filter(|months| *months > 0)
}

/// The earliest of a cancellation, return and buyout, in their details or at the top level.
fn ended_on(fields: &mut Fields<'_>, zone: Tz) -> Option<NaiveDate> {
    const NAMES: [&str; 6] = [
        "cancellationDetails.cancelledAt",
        "earlyReturnDetails.returnedAt",
        "buyoutDetails.buyoutDate",
        "cancelledAt",
        "returnedAt",
        "buyoutDate",
    ];
    for (name, shape) in [
        ("cancellationDetails", r#"{"cancelledAt": a date}"#),
        ("earlyReturnDetails", r#"{"returnedAt": a date}"#),
        ("buyoutDetails", r#"{"buyoutDate": a date}"#),
    ] {
        fields.object(name, shape);
    }
    NAMES.iter().filter_map(|name| fields.date(name, zone)).min()
}

/// The serial number, under either of its names.
fn serial_number(fields: &mut Fields<'_>) -> Option<String> {
    let (asset, plain) = (fields.text("assetSerialNumber"), fields.text("serialNumber"));
    if let (Some(asset), Some(plain)) = (&asset, &plain)
        && asset != plain
    {
        fields.fault("serialNumber", "differs from assetSerialNumber, which is the same thing");
    }
    asset.or(plain)
}

fn group_content(fields: &mut Fields<'_>) -> GroupContent {
    let billing_day = fields.whole("billingDay", 1..=28);
    GroupContent {
        customer_id: fields.required_id("customerId"),
        group_name: group_name(fields),
        billing_day: fields.required("billingDay", billing_day),
        invoice_recipients: fields.addresses("invoiceRecipients").filter(|list| list != NOBODY),
        invoice_cc: fields.addresses("invoiceCc"),
        status: fields.word("status", GroupStatus::WORDS),
        notes: fields.notes("notes"),
        members: fields.ids("rentalIds").map_or(Claim::Unsaid, Claim::Said),
    }
}

fn group_name(fields: &mut Fields<'_>) -> String {
    const NAME_MAX: usize = 200;
    let Some(name) = fields.text("groupName") else { return fields.id("billingGroupId").unwrap_or_default() };
    if name.trim().is_empty() || name.chars().count() > NAME_MAX {
        fields.fault("groupName", format!("must have 1 to {NAME_MAX} characters, not only white space"));
    }
    name
}
