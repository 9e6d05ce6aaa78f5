//! Reading payments back, with their lines.

use std::collections::HashMap;

use chrono::NaiveDate;
use sqlx::FromRow;

use crate::domain::e_invoice::{missing, too_fine};
use crate::domain::payment::{MailPlan, PaymentStatus};
use crate::domain::plan::BadRecord;
use crate::domain::{BillingPeriod, Currency, Payment, PaymentLine, Subject, SubjectKind, TaxTreatment};

use super::page::Page;
use super::{Result, Session, StoreError, dialect, on, party};

/// A payment as it is stored: what the planner made, the number it was given, and when.
#[derive(Debug)]
pub struct StoredPayment {
    pub payment: Payment,
    pub invoice_number: Option<String>,
    /// Microseconds UTC.
    pub created_at: i64,
}

/// A payment with what has become of it since.
#[derive(Debug)]
pub struct PaymentRecord {
    pub stored: StoredPayment,
    /// Its document was made elsewhere, and may not say when.
    pub imported: bool,
    pub is_issued: bool,
    /// What an imported line says of itself, in the order of the lines.
    pub descriptions: Vec<Option<String>>,
    pub settled: Settlement,
}

/// How far a payment is settled: what of it can change.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Settlement {
    pub status: String,
    /// Microseconds UTC, like all instants here.
    pub paid_at: Option<i64>,
    pub provider: Option<String>,
    pub transaction_id: Option<String>,
    pub payment_reference: Option<String>,
    pub marked_by: Option<String>,
    pub notes: Option<String>,
    pub updated_at: i64,
}

/// Which payments a page shows; an absent filter takes all.
#[derive(Debug, Clone, Default)]
pub struct PaymentPageFilter {
    pub status: Option<PaymentStatus>,
    pub customer_id: Option<String>,
    /// Those with a line for it.
    pub rental_id: Option<String>,
    pub billing_group_id: Option<String>,
    /// Both days included.
    pub due_from: Option<NaiveDate>,
    pub due_to: Option<NaiveDate>,
}

#[derive(FromRow)]
struct PaymentRow {
    payment_id: String,
    subject_kind: String,
    subject_id: String,
    customer_id: String,
    subject_name: String,
    billing_period: String,
    currency: String,
    subtotal: i64,
    tax_amount: i64,
    total: i64,
    tax_rate_ppm: i64,
    tax_treatment: String,
    status: String,
    issue_date: Option<NaiveDate>,
    due_date: NaiveDate,
    invoice_number: Option<String>,
    seller_party: Option<String>,
    buyer_party: Option<String>,
    created_at: i64,
    sort_key: String,
    seller: Option<String>,
    buyer: Option<String>,
}

#[derive(FromRow)]
struct RecordRow {
    #[sqlx(flatten)]
    payment: PaymentRow,
    imported: bool,
    paid_at: Option<i64>,
    provider: Option<String>,
    transaction_id: Option<String>,
    payment_reference: Option<String>,
    marked_by: Option<String>,
    notes: Option<String>,
    updated_at: i64,
}

/// What a [`RecordRow`] is read from; a `where` follows.
const SELECT_RECORDS: &str = "
    select p.payment_id, p.subject_kind, p.subject_id, p.customer_id, p.subject_name, p.billing_period, p.currency,
           p.subtotal, p.tax_amount, p.total, p.tax_rate_ppm, p.tax_treatment, p.status, p.issue_date, p.due_date,
           p.invoice_number, p.seller_party, p.buyer_party, p.created_at, p.subject_id as sort_key,
           s.body as seller, b.body as buyer, p.origin = 'import' as imported, p.paid_at, p.provider, p.transaction_id,
           p.payment_reference, p.marked_by, p.notes, p.updated_at
    from payments p
    left join parties s on s.tenant_id = p.tenant_id and s.party_id = p.seller_party
    left join parties b on b.tenant_id = p.tenant_id and b.party_id = p.buyer_party
    where p.tenant_id = ";

#[derive(FromRow)]
struct LineRow {
    payment_id: String,
    rental_id: String,
    billing_period: String,
    amount: i64,
    tax_amount: i64,
    arrears: bool,
    description: Option<String>,
    product_name: Option<String>,
    serial_number: Option<String>,
}

/// A position among a run's payments.
#[derive(Debug, Clone, Default)]
pub struct PaymentPosition(String, String, String);

/// Payments in one page.
const PAGE: i64 = 500;

impl Session {
    /// The next payments that a run made, in report order; empty at the end.
    pub async fn list_run_payments(
        &mut self,
        tenant_id: &str,
        run_id: &str,
        run_date: NaiveDate,
        after: &mut PaymentPosition,
    ) -> Result<Vec<StoredPayment>> {
        let rows: Vec<PaymentRow> = on!(self, |conn| sqlx::query_as::<Db, PaymentRow>(
            "select p.payment_id, p.subject_kind, p.subject_id, p.customer_id, p.subject_name, p.billing_period,
                    p.currency, p.subtotal, p.tax_amount, p.total, p.tax_rate_ppm, p.tax_treatment, p.status,
                    p.issue_date, p.due_date, p.invoice_number, p.seller_party, p.buyer_party, p.created_at,
                    p.subject_id || ':' as sort_key, s.body as seller, b.body as buyer
             from outcomes o
             join payments p on p.tenant_id = o.tenant_id and p.payment_id = o.payment_id
             left join parties s on s.tenant_id = p.tenant_id and s.party_id = p.seller_party
             left join parties b on b.tenant_id = p.tenant_id and b.party_id = p.buyer_party
             where o.tenant_id = $1 and o.run_date = $2 and o.run_id = $3 and o.outcome = 'billed'
               and (p.customer_id, p.subject_kind, p.subject_id || ':') > ($4, $5, $6)
             order by p.customer_id, p.subject_kind, p.subject_id || ':'
             limit $7"
        )
        .bind(tenant_id)
        .bind(run_date)
        .bind(run_id)
        .bind(&after.0)
        .bind(&after.1)
        .bind(&after.2)
        .bind(PAGE)
        .fetch_all(conn)
        .await?);
        if let Some(last) = rows.last() {
            *after = PaymentPosition(last.customer_id.clone(), last.subject_kind.clone(), last.sort_key.clone());
        }
        let ids: Vec<String> = rows.iter().map(|row| row.payment_id.clone()).collect();
        let mut lines = self.lines_by_payment(tenant_id, &ids).await?;
        rows.into_iter()
            .map(|row| {
                let lines = lines.remove(&row.payment_id).unwrap_or_default();
                stored(row, lines).map_err(unreadable)
            })
            .collect()
    }

    /// A page of a tenant's payments, their lines read at once.
    pub async fn list_payment_page(
        &mut self,
        tenant_id: &str,
        filter: &PaymentPageFilter,
        page: &Page,
    ) -> Result<Vec<PaymentRecord>> {
        let rows: Vec<RecordRow> = on!(self, |conn| {
            let mut query = sqlx::QueryBuilder::<Db>::new(SELECT_RECORDS);
            query.push_bind(tenant_id);
            if let Some(status) = filter.status {
                // As a literal, so that an index of some statuses is seen to serve it.
                query.push(format_args!(" and p.status = '{}'", status.as_str()));
            }
            if let Some(customer_id) = &filter.customer_id {
                query.push(" and p.customer_id = ").push_bind(customer_id);
            }
            if let Some(rental_id) = &filter.rental_id {
                for (before, live) in
                    [(" and p.payment_id in (", "live and billing_period > ''"), (" union all ", "not live")]
                {
                    query
                        .push(before)
                        .push("select payment_id from payment_lines where tenant_id = ")
                        .push_bind(tenant_id);
                    query.push(" and rental_id = ").push_bind(rental_id).push(" and ").push(live);
                }
                query.push(")");
            }
            if let Some(group_id) = &filter.billing_group_id {
                for (before, live) in
                    [(" and p.payment_id in (", "live and billing_period > ''"), (" union all ", "not live")]
                {
                    query.push(before).push("select payment_id from payments where tenant_id = ").push_bind(tenant_id);
                    query
                        .push(" and subject_kind = 'group' and subject_id = ")
                        .push_bind(group_id)
                        .push(" and ")
                        .push(live);
                }
                query.push(")");
            }
            if let Some(from) = filter.due_from {
                query.push(" and p.due_date >= ").push_bind(from);
            }
            if let Some(to) = filter.due_to {
                query.push(" and p.due_date <= ").push_bind(to);
            }
            page.push_to(&mut query, "payment_id");
            query.build_query_as::<RecordRow>().fetch_all(conn).await?
        });
        self.records(tenant_id, rows).await
    }

    /// One payment of a tenant.
    pub async fn find_payment(&mut self, tenant_id: &str, payment_id: &str) -> Result<Option<PaymentRecord>> {
        let rows: Vec<RecordRow> = on!(self, |conn| {
            let mut query = sqlx::QueryBuilder::<Db>::new(SELECT_RECORDS);
            query.push_bind(tenant_id).push(" and p.payment_id = ").push_bind(payment_id);
            query.build_query_as::<RecordRow>().fetch_all(conn).await?
        });
        Ok(self.records(tenant_id, rows).await?.pop())
    }

    /// The tenants that have a payment of this id.
    pub async fn tenants_with_payment(&mut self, payment_id: &str) -> Result<Vec<String>> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, String>(
            "select t.tenant_id from tenants t
             join payments p on p.tenant_id = t.tenant_id and p.payment_id = $1
             order by t.tenant_id"
        )
        .bind(payment_id)
        .fetch_all(conn)
        .await?))
    }

    /// How far a payment is settled, held until this transaction ends.
    pub async fn lock_payment(&mut self, tenant_id: &str, payment_id: &str) -> Result<Option<Settlement>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, Settlement>(dialect::locking::<Db>(
            "select status, paid_at, provider, transaction_id, payment_reference, marked_by, notes, updated_at
             from payments where tenant_id = $1 and payment_id = $2 $lock"
        ))
        .bind(tenant_id)
        .bind(payment_id)
        .fetch_optional(conn)
        .await?))
    }

    /// Writes how far a payment is settled.
    pub async fn update_settlement(&mut self, tenant_id: &str, payment_id: &str, settled: &Settlement) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update payments
             set status = $3, paid_at = $4, provider = $5, transaction_id = $6, payment_reference = $7, marked_by = $8,
                 notes = $9, updated_at = $10
             where tenant_id = $1 and payment_id = $2"
        )
        .bind(tenant_id)
        .bind(payment_id)
        .bind(&settled.status)
        .bind(settled.paid_at)
        .bind(&settled.provider)
        .bind(&settled.transaction_id)
        .bind(&settled.payment_reference)
        .bind(&settled.marked_by)
        .bind(&settled.notes)
        .bind(settled.updated_at)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    async fn records(&mut self, tenant_id: &str, rows: Vec<RecordRow>) -> Result<Vec<PaymentRecord>> {
        let ids: Vec<String> = rows.iter().map(|row| row.payment.payment_id.clone()).collect();
        let mut lines = self.lines_by_payment(tenant_id, &ids).await?;
        rows.into_iter()
            .map(|row| {
                let lines = lines.remove(&row.payment.payment_id).unwrap_or_default();
                let descriptions = lines.iter().map(|line| line.description.clone()).collect();
                let is_issued = row.payment.issue_date.is_some();
                let settled = Settlement {
                    status: row.payment.status.clone(),
                    paid_at: row.paid_at,
                    provider: row.provider,
                    transaction_id: row.transaction_id,
                    payment_reference: row.payment_reference,
                    marked_by: row.marked_by,
                    notes: row.notes,
                    updated_at: row.updated_at,
                };
                let stored = stored(row.payment, lines).map_err(unreadable)?;
                Ok(PaymentRecord { stored, imported: row.imported, is_issued, descriptions, settled })
            })
            .collect()
    }

    async fn lines_by_payment(&mut self, tenant_id: &str, ids: &[String]) -> Result<HashMap<String, Vec<LineRow>>> {
        let rows: Vec<LineRow> = on!(self, |conn| dialect::with_keys::<Db>(
            "select payment_id, rental_id, billing_period, amount, tax_amount, arrears, description, product_name,
                    serial_number
             from payment_lines
             where tenant_id = $2 and payment_id in $keys
             order by payment_id, rental_id, billing_period",
            ids
        )
        .bind(tenant_id)
        .try_map(|row| LineRow::from_row(&row))
        .fetch_all(conn)
        .await?);
        let mut lines: HashMap<String, Vec<LineRow>> = HashMap::new();
        for row in rows {
            lines.entry(row.payment_id.clone()).or_default().push(row);
        }
        Ok(lines)
    }
}

fn unreadable(bad: BadRecord) -> StoreError {
    let BadRecord { kind, id, field, value } = bad;
    anyhow::anyhow!("the stored {kind} {id} cannot be read: {field} is '{value}'").into()
}

fn stored(row: PaymentRow, lines: Vec<LineRow>) -> Result<StoredPayment, BadRecord> {
    let bad = |field: &str, value: &str| BadRecord {
        kind: "payment",
        id: row.payment_id.clone(),
        field: field.to_owned(),
        value: value.to_owned(),
    };
    let period = |text: &str| BillingPeriod::parse(text).ok_or_else(|| bad("billingPeriod", text));
    let lines = lines.into_iter().map(|line| {
        Ok(PaymentLine {
            billing_period: period(&line.billing_period)?,
            product_name: line.product_name.unwrap_or_else(|| line.rental_id.clone()),
            rental_id: line.rental_id,
            amount: line.amount,
            tax_amount: line.tax_amount,
            arrears: line.arrears,
            serial_number: line.serial_number,
        })
    });
    let party = |text: &Option<String>| party::body(text.as_deref()).unwrap_or_default();
    let buyer = party::buyer(&party(&row.buyer));
    let mut payment = Payment {
        subject: Subject {
            kind: SubjectKind::parse(&row.subject_kind).ok_or_else(|| bad("subjectKind", &row.subject_kind))?,
            id: row.subject_id.clone(),
        },
        billing_period: period(&row.billing_period)?,
        currency: Currency::from_code(&row.currency).ok_or_else(|| bad("currency", &row.currency))?,
        tax_treatment: TaxTreatment::parse(&row.tax_treatment)
            .ok_or_else(|| bad("taxTreatment", &row.tax_treatment))?,
        status: PaymentStatus::parse(&row.status).ok_or_else(|| bad("status", &row.status))?,
        lines: lines.collect::<Result<_, BadRecord>>()?,
        issue_date: row.issue_date.unwrap_or(row.due_date),
        payment_id: row.payment_id.clone(),
        customer_id: row.customer_id,
        subject_name: row.subject_name,
        subtotal: row.subtotal,
        tax_amount: row.tax_amount,
        total: row.total,
        tax_rate_ppm: row.tax_rate_ppm,
        due_date: row.due_date,
        seller_party: row.seller_party.unwrap_or_default(),
        buyer_party: row.buyer_party.unwrap_or_default(),
        mail: MailPlan::None,
        locale: String::new(),
        e_invoice: buyer.e_invoice,
        e_invoice_lacks: Vec::new(),
    };
    payment.e_invoice_lacks = missing(&party::seller(&party(&row.seller), ""), &buyer, payment.tax_treatment);
    let amounts = payment.lines.iter().map(|line| line.amount).chain([payment.tax_amount]);
    payment.e_invoice_lacks.extend(too_fine(buyer.e_invoice, payment.currency, amounts));
    Ok(StoredPayment { payment, invoice_number: row.invoice_number, created_at: row.created_at })
}
