//! What invoices say, read from the snapshot that was taken when they were made; and who could not get an e-invoice.

use std::collections::HashMap;

use anyhow::Context;
use chrono::NaiveDate;
use sqlx::FromRow;

use crate::domain::brand::Logo;
use crate::domain::document::{Buyer, InvoiceDocument, InvoiceLine, Seller};
use crate::domain::payment::PaymentStatus;
use crate::domain::{BillingPeriod, Currency, TaxTreatment};

use super::{Result, Session, dialect, on, party};

/// A payment with an invoice number.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Numbered {
    pub tenant_id: String,
    pub payment_id: String,
    /// Brought in by an import: its document was made elsewhere.
    pub imported: bool,
}

/// Seller and buyer as the next invoice of a customer would show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceParties {
    pub tenant_id: String,
    pub customer_id: String,
    pub seller: Seller,
    pub buyer: Buyer,
    pub tax_treatment: TaxTreatment,
}

impl Session {
    /// The payments that have an invoice number, which may be that of several tenants.
    pub async fn find_invoices(&mut self, invoice_number: &str) -> Result<Vec<Numbered>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, Numbered>(
            "select tenant_id, payment_id, origin = 'import' as imported
             from payments
             where invoice_number = $1
             order by tenant_id, payment_id"
        )
        .bind(invoice_number)
        .fetch_all(conn)
        .await?))
    }

    /// A payment, if it has an invoice number.
    pub async fn find_numbered(&mut self, tenant_id: &str, payment_id: &str) -> Result<Option<Numbered>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, Numbered>(
            "select tenant_id, payment_id, origin = 'import' as imported
             from payments
             where tenant_id = $1 and payment_id = $2 and invoice_number is not null"
        )
        .bind(tenant_id)
        .bind(payment_id)
        .fetch_optional(conn)
        .await?))
    }

    /// What the invoice of each (tenant, payment) says, in the order given; for one whose record cannot be read, what is
    /// wrong with it.
    pub async fn invoice_documents(&mut self, keys: &[(&str, &str)]) -> Result<Vec<Result<InvoiceDocument, String>>> {
        let json = serde_json::to_string(keys).context("cannot list payments")?;
        let mut payments = self.invoice_payments(&json).await?;
        let mut lines = self.invoice_lines(&json).await?;
        let wanted = payments.values().filter_map(|payment| logo_of(&payment.tenant_id, &payment.seller));
        let logos = self.logos(wanted.collect()).await?;
        let documents = keys.iter().map(|(tenant_id, payment_id)| {
            let key = ((*tenant_id).to_owned(), (*payment_id).to_owned());
            let payment = payments.remove(&key).ok_or_else(|| format!("the payment {payment_id} is missing"))?;
            payment.into_document(lines.remove(&key).unwrap_or_default(), &logos)
        });
        Ok(documents.collect())
    }

    async fn invoice_payments(&mut self, keys: &str) -> Result<HashMap<Key, PaymentRow>> {
        let rows: Vec<PaymentRow> = on!(self, |conn| dialect::with_payments::<Db>(
            "select p.tenant_id, p.payment_id, p.invoice_number, p.issue_date, p.due_date, p.subject_name,
                    p.billing_period, p.currency, p.subtotal, p.tax_amount, p.total, p.tax_rate_ppm, p.tax_treatment,
                    p.status, t.name as tenant_name, s.body as seller, b.body as buyer,
                    coalesce(m.locale, c.locale, t.locale, 'en') as locale
             from payments p
             left join tenants t on t.tenant_id = p.tenant_id
             left join customers c on c.tenant_id = p.tenant_id and c.customer_id = p.customer_id
             left join outbox m on m.tenant_id = p.tenant_id and m.payment_id = p.payment_id and m.kind = 'invoice'
                  and m.position = 0
             left join parties s on s.tenant_id = p.tenant_id and s.party_id = p.seller_party
             left join parties b on b.tenant_id = p.tenant_id and b.party_id = p.buyer_party
             where (p.tenant_id, p.payment_id) in $payments",
            keys
        )
        .try_map(|row| PaymentRow::from_row(&row))
        .fetch_all(conn)
        .await?);
        Ok(rows.into_iter().map(|row| ((row.tenant_id.clone(), row.payment_id.clone()), row)).collect())
    }

    async fn invoice_lines(&mut self, keys: &str) -> Result<HashMap<Key, Vec<LineRow>>> {
        let rows: Vec<LineRow> = on!(self, |conn| {
            dialect::with_payments::<Db>(
            "select tenant_id, payment_id, rental_id, product_name, serial_number, billing_period, amount, tax_amount,
                    arrears
             from payment_lines
             where (tenant_id, payment_id) in $payments
             order by tenant_id, payment_id, arrears, billing_period, rental_id",
            keys
        )
        .try_map(|row| LineRow::from_row(&row))
        .fetch_all(conn)
        .await?
        });
        let mut lines: HashMap<Key, Vec<LineRow>> = HashMap::new();
        for row in rows {
            lines.entry((row.tenant_id.clone(), row.payment_id.clone())).or_default().push(row);
        }
        Ok(lines)
    }

    /// A page of customers, of one tenant or one customer if named, ordered by tenant and customer, beginning behind the (tenant, customer) of `after`.
    pub async fn list_invoice_parties(
        &mut self,
        (tenant_id, customer_id): (Option<&str>, Option<&str>),
        after: (&str, &str),
        limit: i64,
    ) -> Result<Vec<InvoiceParties>> {
        let rows: Vec<PartiesRow> = on!(self, |conn| {
            sqlx::query_as::<Db, PartiesRow>(
                "select c.tenant_id, c.customer_id, c.tax_treatment, t.name as tenant_name, s.body as seller,
                    b.body as buyer
             from customers c
             join tenants t on t.tenant_id = c.tenant_id
             left join parties s on s.tenant_id = t.tenant_id and s.party_id = t.party_id
             left join parties b on b.tenant_id = c.tenant_id and b.party_id = c.party_id
             where ($1 is null or c.tenant_id = $1) and (c.tenant_id, c.customer_id) > ($2, $3)
               and (cast($5 as text) is null or c.customer_id = $5)
             order by c.tenant_id, c.customer_id
             limit $4",
            )
            .bind(tenant_id)
            .bind(after.0)
            .bind(after.1)
            .bind(limit)
            .bind(customer_id)
            .fetch_all(conn)
            .await?
        });
        let logos = self.logos(rows.iter().filter_map(|row| logo_of(&row.tenant_id, &row.seller)).collect()).await?;
        rows.into_iter().map(|row| row.into_parties(&logos)).collect()
    }
}

/// Tenant, and payment or picture.
type Key = (String, String);

/// Tenant and hash of the logo that a seller's version names.
fn logo_of(tenant_id: &str, seller: &Option<String>) -> Option<Key> {
    Some((tenant_id.to_owned(), party::logo(&party::body(seller.as_deref()).ok()?)?))
}

#[derive(FromRow)]
struct PaymentRow {
    tenant_id: String,
    payment_id: String,
    invoice_number: Option<String>,
    issue_date: Option<NaiveDate>,
    due_date: NaiveDate,
    subject_name: String,
    billing_period: String,
    currency: String,
    subtotal: i64,
    tax_amount: i64,
    total: i64,
    tax_rate_ppm: i64,
    tax_treatment: String,
    status: String,
    tenant_name: Option<String>,
    seller: Option<String>,
    buyer: Option<String>,
    locale: String,
}

#[derive(FromRow)]
struct LineRow {
    tenant_id: String,
    payment_id: String,
    rental_id: String,
    product_name: Option<String>,
    serial_number: Option<String>,
    billing_period: String,
    amount: i64,
    tax_amount: i64,
    arrears: bool,
}

#[derive(FromRow)]
struct PartiesRow {
    tenant_id: String,
    customer_id: String,
    tax_treatment: String,
    tenant_name: String,
    seller: Option<String>,
    buyer: Option<String>,
}

impl PaymentRow {
    /// The document, or what in the record keeps it from being written.
    fn into_document(self, lines: Vec<LineRow>, logos: &HashMap<Key, Logo>) -> Result<InvoiceDocument, String> {
        let bad =
            |field: &str, value: &str| format!("the payment {} has no usable {field}: {value:?}", self.payment_id);
        let body =
            |field, text: &Option<String>| party::body(text.as_deref()).map_err(|error| bad(field, &error.to_string()));
        let lines: Result<Vec<InvoiceLine>, String> = lines.into_iter().map(|line| line.into_line(&bad)).collect();
        let tenant_name = self.tenant_name.as_deref().unwrap_or_default();
        let mut seller = party::seller(&body("seller", &self.seller)?, tenant_name);
        if let Some(key) = logo_of(&self.tenant_id, &self.seller) {
            seller.brand.logo = Some(logos.get(&key).cloned().ok_or_else(|| bad("logo", &key.1))?);
        }
        Ok(InvoiceDocument {
            issue_date: self.issue_date.ok_or_else(|| bad("issueDate", ""))?,
            due_date: self.due_date,
            seller,
            buyer: party::buyer(&body("buyer", &self.buyer)?),
            billing_period: BillingPeriod::parse(&self.billing_period)
                .ok_or_else(|| bad("billingPeriod", &self.billing_period))?,
            currency: Currency::from_code(&self.currency).ok_or_else(|| bad("currency", &self.currency))?,
            tax_treatment: TaxTreatment::parse(&self.tax_treatment)
                .ok_or_else(|| bad("taxTreatment", &self.tax_treatment))?,
            status: PaymentStatus::parse(&self.status).ok_or_else(|| bad("status", &self.status))?,
            lines: lines?,
            invoice_number: self.invoice_number.clone().ok_or_else(|| bad("invoiceNumber", ""))?,
            tenant_id: self.tenant_id,
            payment_id: self.payment_id,
            subject_name: self.subject_name,
            subtotal: self.subtotal,
            tax_amount: self.tax_amount,
            total: self.total,
            tax_rate_ppm: self.tax_rate_ppm,
            locale: self.locale,
            is_preview: false,
        })
    }
}

impl LineRow {
    fn into_line(self, bad: &impl Fn(&str, &str) -> String) -> Result<InvoiceLine, String> {
        Ok(InvoiceLine {
            billing_period: BillingPeriod::parse(&self.billing_period)
                .ok_or_else(|| bad("billingPeriod of a line", &self.billing_period))?,
            product_name: self.product_name.unwrap_or_else(|| self.rental_id.clone()),
            rental_id: self.rental_id,
            serial_number: self.serial_number,
            amount: self.amount,
            tax_amount: self.tax_amount,
            arrears: self.arrears,
        })
    }
}

impl PartiesRow {
    fn into_parties(self, logos: &HashMap<Key, Logo>) -> Result<InvoiceParties> {
        let at = || format!("customer {} of tenant {}", self.customer_id, self.tenant_id);
        let body = |text: &Option<String>| party::body(text.as_deref()).with_context(at);
        let mut seller = party::seller(&body(&self.seller)?, &self.tenant_name);
        seller.brand.logo = logo_of(&self.tenant_id, &self.seller).and_then(|key| logos.get(&key).cloned());
        Ok(InvoiceParties {
            seller,
            buyer: party::buyer(&body(&self.buyer)?),
            tax_treatment: TaxTreatment::parse(&self.tax_treatment)
                .with_context(|| format!("unknown taxTreatment {:?} of {}", self.tax_treatment, at()))?,
            tenant_id: self.tenant_id,
            customer_id: self.customer_id,
        })
    }
}
