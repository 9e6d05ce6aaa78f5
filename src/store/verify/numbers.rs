//! The invoices of each series in the order of their numbers (rule 23).

use chrono::NaiveDate;
use sqlx::FromRow;

use crate::domain::invoice::invoice_number;

use super::super::{Result, Session, on};
use super::Finding;

/// Invoices read at once: few statements for a million of them, and a few hundred kilobytes.
const PAGE: i64 = 5000;

#[derive(FromRow)]
struct Numbered {
    tenant_id: String,
    series: String,
    sequence: i64,
    payment_id: String,
    invoice_number: Option<String>,
    issue_date: Option<NaiveDate>,
}

impl Session {
    /// Walks every series: no number left out or given twice, each written as its series says, dates never falling.
    pub(super) async fn check_numbers(&mut self, tenant_id: Option<&str>) -> Result<Vec<Finding>> {
        let mut gapless =
            Finding::new("numbers_not_gapless", "the numbers of each series follow each other without a gap");
        let mut written =
            Finding::new("invoice_number_wrong", "each invoice number is what its series and number make");
        let mut dates =
            Finding::new("issue_date_falls", "within a series, no invoice is dated before one with a lower number");
        let mut previous: Option<Numbered> = None;
        loop {
            let page = self.numbered_page(tenant_id, previous.as_ref()).await?;
            if page.is_empty() {
                return Ok(vec![gapless, written, dates]);
            }
            for invoice in page {
                if let Some(before) = previous.as_ref().filter(|before| before.is_in_series_of(&invoice)) {
                    if invoice.sequence != before.sequence + 1 {
                        gapless.note(|| format!("{invoice} follows number {}", before.sequence));
                    }
                    if invoice.issue_date < before.issue_date {
                        let date = |date: Option<NaiveDate>| date.map_or_else(|| "none".to_owned(), |d| d.to_string());
                        let (this, last) = (date(invoice.issue_date), date(before.issue_date));
                        dates.note(|| format!("{invoice}, dated {this}, the one before {last}"));
                    }
                }
                let right = invoice_number(&invoice.series, invoice.sequence);
                if invoice.invoice_number.as_ref().is_some_and(|number| *number != right) {
                    let number = invoice.invoice_number.clone().unwrap_or_default();
                    written.note(|| format!("{invoice}, written '{number}', not '{right}'"));
                }
                previous = Some(invoice);
            }
        }
    }

    /// The numbered payments after one of them; the payment's id tells apart what should never be: two of one number.
    async fn numbered_page(&mut self, tenant_id: Option<&str>, after: Option<&Numbered>) -> Result<Vec<Numbered>> {
        let after =
            after.map(|last| (last.tenant_id.as_str(), last.series.as_str(), last.sequence, last.payment_id.as_str()));
        let (after_tenant, series, sequence, payment_id) = after.unwrap_or(("", "", i64::MIN, ""));
        Ok(on!(self, |conn| sqlx::query_as::<Db, Numbered>(
            "select tenant_id, series, sequence, payment_id, invoice_number, issue_date
             from payments
             where series is not null and sequence is not null and tenant_id = coalesce($1, tenant_id)
               and (tenant_id, series, sequence, payment_id) > ($2, $3, $4, $5)
             order by tenant_id, series, sequence, payment_id
             limit $6"
        )
        .bind(tenant_id)
        .bind(after_tenant)
        .bind(series)
        .bind(sequence)
        .bind(payment_id)
        .bind(PAGE)
        .fetch_all(conn)
        .await?))
    }
}

impl Numbered {
    fn is_in_series_of(&self, other: &Self) -> bool {
        self.tenant_id == other.tenant_id && self.series == other.series
    }
}

impl std::fmt::Display for Numbered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tenant_id, payment_id, series, sequence, .. } = self;
        write!(f, "tenant {tenant_id}: payment {payment_id}, series {series}, number {sequence}")
    }
}
