//! Customers: create, change, and how they are shown.

use std::collections::HashMap;

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::{Map, Number, Value, json};

use crate::domain::calendar::local_date;
use crate::domain::customer::{CustomerStatus, CustomerType};
use crate::domain::e_invoice::ElectronicAddress;
use crate::domain::tenant::PAYMENT_TERMS_DAYS;
use crate::domain::{EInvoice, TaxTreatment, Tenant};
use crate::input::value::{Object, Value as Sent};
use crate::input::{ADDRESS_PARTS, Problem, Reader, TEXT_MAX};
use crate::render::payment::amount_sum;
use crate::store::customers::CustomerRecord;
use crate::store::groups::{Alike, rental_ids};
use crate::store::import::{CustomerContent, ImportCall, Incoming};
use crate::store::{Session, StoreError};

use super::{By, NotMade, Refusal, RefusalKind, differing, shown, tenant};

/// What the audit log calls a customer.
const KIND: &str = "customer";

/// A customer as the API sends it; what was never given is left out, but for a few texts that are then empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomerView {
    pub customer_id: String,
    pub tenant_id: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    pub customer_type: String,
    pub total_orders: usize,
    /// All that there ever were.
    pub total_devices_rented: usize,
    /// Of the active rentals in the tenant's currency; the exact text of the number.
    pub total_monthly_revenue: Number,
    pub status: String,
    pub order_ids: Vec<String>,
    /// Ordered by id, ended ones too.
    pub rental_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_billing_address: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_shipping_address: Option<Value>,
    pub created_at: String,
    pub updated_at: String,
    pub created_by: String,
    #[serde(flatten)]
    pub billing: BillingView,
}

/// What decides on a customer's invoices, as far as it is not as by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BillingView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vat_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payment_terms_days: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tax_treatment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invoice_recipients: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invoice_cc: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buyer_reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub e_invoice: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub electronic_address: Option<String>,
}

impl CustomerView {
    fn new(tenant: &Tenant, today: NaiveDate, record: CustomerRecord, rentals: &[Alike], orders: Vec<String>) -> Self {
        let CustomerRecord { customer_id, created_by, created_at, updated_at, content } = record;
        let running = rentals
            .iter()
            .filter_map(|alike| Some((alike.terms.as_ref().ok()?, alike.rental_ids.len())))
            .filter(|(terms, _)| terms.currency == tenant.currency && terms.is_running_on(today, tenant.contract_end));
        let revenue: i128 = running.map(|(terms, count)| i128::from(terms.monthly_amount) * count as i128).sum();
        let but = |text: String, default: &str| Some(text).filter(|text| text != default);
        let billing = BillingView {
            vat_id: content.vat_id,
            payment_terms_days: content.payment_terms_days,
            tax_treatment: but(content.tax_treatment, TaxTreatment::Standard.as_str()),
            locale: content.locale,
            billing_email: content.billing_email.filter(|email| content.email.as_ref() != Some(email)),
            invoice_recipients: addresses(content.invoice_recipients),
            invoice_cc: addresses(content.invoice_cc),
            buyer_reference: content.buyer_reference,
            registration: content.registration,
            e_invoice: but(content.e_invoice, EInvoice::default().as_str()),
            electronic_address: content.electronic_address,
        };
        Self {
            tenant_id: tenant.tenant_id.clone(),
            customer_id,
            email: content.email.unwrap_or_default(),
            first_name: content.first_name.unwrap_or_default(),
            last_name: content.last_name.unwrap_or_default(),
            company: content.company,
            phone: content.phone,
            customer_type: content.customer_type,
            total_orders: orders.len(),
            total_devices_rented: rentals.len(),
            total_monthly_revenue: amount_sum(tenant.currency, revenue),
            status: content.status.unwrap_or_default(),
            order_ids: orders,
            rental_ids: rental_ids(rentals),
            last_billing_address: content.billing_address.as_deref().map(address_shown),
            last_shipping_address: content.shipping_address.as_deref().map(address_shown),
            created_at: shown(created_at),
            updated_at: shown(updated_at),
            created_by,
            billing,
        }
    }
}

/// A stored list of e-mail addresses.
fn addresses(stored: Option<String>) -> Option<Value> {
    serde_json::from_str(&stored?).ok()
}

/// A stored address with the parts that the API always sends; one that was imported as a text stands as its street.
fn address_shown(stored: &str) -> Value {
    const ALWAYS: [&str; 4] = ["contactName", "streetAddress", "city", "country"];
    let mut parts = match serde_json::from_str(stored) {
        Ok(Value::Object(parts)) => parts,
        _ => Map::from_iter([("streetAddress".to_owned(), stored.into())]),
    };
    for part in ALWAYS {
        parts.entry(part).or_insert_with(|| "".into());
    }
    parts.into()
}

/// Shows customers as they are on the tenant's today, their rentals read at once.
pub async fn view(
    session: &mut Session,
    by: &By,
    records: Vec<CustomerRecord>,
) -> Result<Vec<CustomerView>, StoreError> {
    let tenant = tenant(session, by).await?;
    let today = local_date(by.now, tenant.time_zone);
    let ids: Vec<String> = records.iter().map(|record| record.customer_id.clone()).collect();
    let rentals: HashMap<String, Vec<Alike>> = session.rentals_by_customer(&by.tenant_id, &ids).await?;
    let mut orders = session.orders_by_customer(&by.tenant_id, &ids).await?;
    Ok(records
        .into_iter()
        .map(|record| {
            let rentals = rentals.get(&record.customer_id).map(Vec::as_slice).unwrap_or_default();
            let orders = orders.remove(&record.customer_id).unwrap_or_default();
            CustomerView::new(&tenant, today, record, rentals, orders)
        })
        .collect())
}

/// What is said of a customer, well-formed; what is absent stays, and `Some(None)` removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomerPatch {
    customer_id: Option<String>,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    company: Option<Option<String>>,
    phone: Option<Option<String>>,
    customer_type: Option<CustomerType>,
    status: Option<CustomerStatus>,
    billing_address: Option<Option<String>>,
    shipping_address: Option<Option<String>>,
    vat_id: Option<Option<String>>,
    payment_terms_days: Option<Option<i64>>,
    tax_treatment: Option<Option<TaxTreatment>>,
    locale: Option<Option<String>>,
    billing_email: Option<Option<String>>,
    buyer_reference: Option<Option<String>>,
    registration: Option<Option<String>>,
    e_invoice: Option<Option<EInvoice>>,
    electronic_address: Option<Option<String>>,
}

impl CustomerPatch {
    /// Reads the body of a change; `before` are problems of the rest of the request.
    pub fn read(object: &Object, before: Vec<Problem>) -> Result<Self, Refusal> {
        let mut reader = Reader::new(object);
        reader.problems = before;
        let patch = Self { customer_id: reader.id("customerId"), ..Self::fields(&mut reader) };
        if reader.problems.is_empty() { Ok(patch) } else { Err(Refusal::shapes(reader.problems)) }
    }

    /// Reads the body of a creation.
    pub fn read_new(object: &Object, before: Vec<Problem>) -> Result<Self, Refusal> {
        let mut reader = Reader::new(object);
        reader.problems = before;
        let patch = Self::fields(&mut reader);
        for name in ["email", "firstName", "lastName", "customerType"] {
            reader.required(name, Some(()));
        }
        if reader.problems.is_empty() { Ok(patch) } else { Err(Refusal::shapes(reader.problems)) }
    }

    fn fields(reader: &mut Reader<'_>) -> Self {
        let text = |reader: &mut Reader<'_>, name: &str| reader.or_null(name, |reader| reader.text(name, TEXT_MAX));
        Self {
            customer_id: None,
            email: reader.email("email"),
            first_name: reader.text("firstName", TEXT_MAX),
            last_name: reader.text("lastName", TEXT_MAX),
            company: reader.or_null("company", |reader| reader.text_or_empty("company", TEXT_MAX)),
            phone: reader.or_null("phone", |reader| reader.text_or_empty("phone", TEXT_MAX)),
            customer_type: reader.word("customerType", CustomerType::WORDS, CustomerType::parse),
            status: reader.word("status", CustomerStatus::WORDS, CustomerStatus::parse),
            billing_address: reader.or_null("billingAddress", |reader| address(reader, "billingAddress")),
            shipping_address: reader.or_null("shippingAddress", |reader| address(reader, "shippingAddress")),
            vat_id: text(reader, "vatId"),
            payment_terms_days: reader.or_null("paymentTermsDays", |reader| {
                reader.whole("paymentTermsDays", |days| PAYMENT_TERMS_DAYS.contains(&days), "0, 7, 14 or 30")
            }),
            tax_treatment: reader.or_null("taxTreatment", |reader| {
                reader.word("taxTreatment", TaxTreatment::WORDS, TaxTreatment::parse)
            }),
            locale: text(reader, "locale"),
            billing_email: reader.or_null("billingEmail", |reader| reader.email("billingEmail")),
            buyer_reference: text(reader, "buyerReference"),
            registration: text(reader, "registration"),
            e_invoice: reader.or_null("eInvoice", |reader| reader.word("eInvoice", EInvoice::WORDS, EInvoice::parse)),
            electronic_address: reader.or_null("electronicAddress", electronic_address),
        }
    }

    /// The customer as this makes it.
    fn applied_to(&self, before: &CustomerContent) -> CustomerContent {
        let email = self.email.clone().or_else(|| before.email.clone());
        // Without an address of its own, an invoice goes to the customer's.
        let own = before.billing_email.clone().filter(|own| Some(own) != before.email.as_ref());
        let billing_email = self.billing_email.clone().unwrap_or(own);
        let or = |new: &Option<Option<String>>, old: &Option<String>| new.clone().unwrap_or_else(|| old.clone());
        CustomerContent {
            customer_type: self
                .customer_type
                .map_or_else(|| before.customer_type.clone(), |word| word.as_str().to_owned()),
            status: self.status.map(|word| word.as_str().to_owned()).or_else(|| before.status.clone()),
            company: or(&self.company, &before.company),
            first_name: self.first_name.clone().or_else(|| before.first_name.clone()),
            last_name: self.last_name.clone().or_else(|| before.last_name.clone()),
            billing_email: billing_email.or_else(|| email.clone()),
            email,
            invoice_recipients: before.invoice_recipients.clone(),
            invoice_cc: before.invoice_cc.clone(),
            phone: or(&self.phone, &before.phone),
            vat_id: or(&self.vat_id, &before.vat_id),
            registration: or(&self.registration, &before.registration),
            buyer_reference: or(&self.buyer_reference, &before.buyer_reference),
            e_invoice: self
                .e_invoice
                .map_or_else(|| before.e_invoice.clone(), |word| word.unwrap_or_default().as_str().to_owned()),
            electronic_address: or(&self.electronic_address, &before.electronic_address),
            tax_treatment: self.tax_treatment.map_or_else(
                || before.tax_treatment.clone(),
                |word| word.unwrap_or(TaxTreatment::Standard).as_str().to_owned(),
            ),
            payment_terms_days: self.payment_terms_days.unwrap_or(before.payment_terms_days),
            locale: or(&self.locale, &before.locale),
            billing_address: or(&self.billing_address, &before.billing_address),
            shipping_address: or(&self.shipping_address, &before.shipping_address),
        }
    }
}

/// An address as canonical JSON, as an import keeps it too: empty parts are left out.
fn address(reader: &mut Reader<'_>, name: &str) -> Option<String> {
    let object = reader.object(name)?;
    let mut parts = Reader::new(object);
    let mut kept = Map::new();
    for part in ADDRESS_PARTS {
        if part == "postalCode" && parts.value(part) == Some(&Sent::Null) {
            continue;
        }
        kept.extend(parts.text_or_empty(part, TEXT_MAX).map(|text| (part.to_owned(), text.into())));
    }
    for part in ["contactName", "streetAddress", "city", "country"] {
        parts.required(part, Some(()));
    }
    let problems =
        parts.problems.into_iter().map(|problem| Problem { path: format!("{name}.{}", problem.path), ..problem });
    let before = reader.problems.len();
    reader.problems.extend(problems);
    (reader.problems.len() == before && !kept.is_empty()).then(|| Value::from(kept).to_string())
}

fn electronic_address(reader: &mut Reader<'_>) -> Option<String> {
    const NAME: &str = "electronicAddress";
    let text = reader.text(NAME, TEXT_MAX)?;
    match ElectronicAddress::parse(&text) {
        Ok(_) => Some(text),
        Err(reason) => {
            reader.note(NAME, format!("'{text}' {reason}"), "invalid_string");
            None
        }
    }
}

/// Creates a customer; its e-mail must be nobody else's.
pub async fn create(session: &mut Session, by: &By, new: &CustomerPatch) -> Result<CustomerView, NotMade> {
    session.lock_customers(&by.tenant_id).await?;
    let nothing = CustomerContent {
        customer_type: String::new(),
        status: Some(CustomerStatus::Active.as_str().to_owned()),
        company: None,
        first_name: None,
        last_name: None,
        email: None,
        billing_email: None,
        invoice_recipients: None,
        invoice_cc: None,
        phone: None,
        vat_id: None,
        registration: None,
        buyer_reference: None,
        e_invoice: EInvoice::default().as_str().to_owned(),
        electronic_address: None,
        tax_treatment: TaxTreatment::Standard.as_str().to_owned(),
        payment_terms_days: None,
        locale: None,
        billing_address: None,
        shipping_address: None,
    };
    let content = new.applied_to(&nothing);
    let customer_id = by.new_id("cust_");
    check_email(session, by, &customer_id, new.email.as_deref()).await?;
    let created = write(session, by, &customer_id, content, None).await?;
    by.audit(session, "create", (KIND, &customer_id), None, Some(&json!(created))).await?;
    Ok(created)
}

/// Changes a customer; invoices that exist stay as they are (rule 24).
pub async fn update(
    session: &mut Session,
    by: &By,
    customer_id: &str,
    patch: &CustomerPatch,
) -> Result<CustomerView, NotMade> {
    session.lock_customers(&by.tenant_id).await?;
    let Some(before) = session.find_customer(&by.tenant_id, customer_id).await? else {
        return Err(Refusal::not_found("customer").into());
    };
    if patch.customer_id.as_ref().is_some_and(|id| id != customer_id) {
        let message = "is not the id in the address, and an id cannot change";
        return Err(Refusal::shapes(vec![Problem::new("customerId", message, "immutable")]).into());
    }
    let content = patch.applied_to(&before.content);
    if content.email != before.content.email {
        check_email(session, by, customer_id, content.email.as_deref()).await?;
    }
    let was = view(session, by, vec![before.clone()]).await?;
    if content == before.content {
        return Ok(was.into_iter().next().ok_or_else(|| Refusal::not_found("customer"))?);
    }
    let updated = write(session, by, customer_id, content, Some(before.updated_at)).await?;
    let (was, is) = differing(&json!(was.first()), &json!(updated));
    by.audit(session, "update", (KIND, customer_id), Some(&was), Some(&is)).await?;
    Ok(updated)
}

async fn check_email(session: &mut Session, by: &By, customer_id: &str, email: Option<&str>) -> Result<(), NotMade> {
    let Some(email) = email else { return Ok(()) };
    match session.customer_with_email(&by.tenant_id, email, customer_id).await? {
        None => Ok(()),
        Some(other) => {
            let problem = Problem::new("email", format!("is the e-mail of customer {other}"), "already_exists");
            let message = format!("customer {other} has this e-mail");
            Err(Refusal::new(RefusalKind::Conflict, "CUSTOMER_EXISTS", message).with(vec![problem]).into())
        }
    }
}

/// Writes a customer as an import would, with the version of the buyer that invoices show from now on.
async fn write(
    session: &mut Session,
    by: &By,
    customer_id: &str,
    content: CustomerContent,
    updated_before: Option<i64>,
) -> Result<CustomerView, NotMade> {
    let now = by.now_micros();
    let record = Incoming {
        tenant_id: by.tenant_id.clone(),
        id: customer_id.to_owned(),
        place: 0,
        created_at: updated_before.is_none().then_some(now),
        updated_at: Some(updated_before.map_or(now, |before| by.later_than(before))),
        content,
    };
    session.import_customers(&ImportCall::of_one(&by.actor, now), vec![record]).await?;
    let written = session.find_customer(&by.tenant_id, customer_id).await?;
    let views = view(session, by, written.into_iter().collect()).await?;
    Ok(views.into_iter().next().ok_or_else(|| Refusal::not_found("customer"))?)
}
