//! The invoices of each series in the order of their numbers (rule 23), each with its tax (rule 15).

use chrono::NaiveDate;
use sqlx::FromRow;

use crate::domain::invoice::{invoice_number, series_name};
use crate::domain::money::format_percent;
use crate::domain::tax::TaxRule;
use crate::domain::{TaxMode, TaxTreatment};

use super::super::{Result, Session, on};
use super::parties::Parties;
use super::{Finding, amount};

/// Invoices read at once: few statements for a million of them, and a few hundred kilobytes.
const PAGE: i64 = 5000;

#[derive(FromRow)]
pub(super) struct Numbered {
    pub(super) tenant_id: String,
    series: String,
    sequence: i64,
    payment_id: String,
    invoice_number: Option<String>,
    issue_date: Option<NaiveDate>,
    origin: String,
    pub(super) customer_id: String,
    currency: String,
    subtotal: i64,
    tax_amount: i64,
    total: i64,
    tax_rate_ppm: i64,
    tax_treatment: String,
    pub(super) seller_party: Option<String>,
    pub(super) buyer_party: Option<String>,
}

impl Session {
    /// Walks every series: no number left out or given twice, each written as its series says, dates never falling; each
    /// invoice taxed by its rate, and made out to its customer.
    pub(super) async fn check_numbers(&mut self, tenant_id: Option<&str>) -> Result<Vec<Finding>> {
        let mut gapless =
            Finding::new("numbers_not_gapless", "the numbers of each series follow each other without a gap");
        let mut written =
            Finding::new("invoice_number_wrong", "each invoice number is what its series and number make");
        let mut dates =
            Finding::new("issue_date_falls", "within a series, no invoice is dated before one with a lower number");
        let mut taxes =
            Finding::new("tax_wrong", "each payment's tax is what its rate makes of its prices, net or gross");
        let mut parties = Parties::new();
        let mut previous: Option<Numbered> = None;
        loop {
            let page = self.numbered_page(tenant_id, previous.as_ref()).await?;
            if page.is_empty() {
                let mut findings = vec![gapless, written, dates, taxes];
                findings.extend(parties.findings());
                return Ok(findings);
            }
            for of_tenant in page.chunk_by(|a, b| a.tenant_id == b.tenant_id) {
                self.check_parties(of_tenant, &mut parties).await?;
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
                if invoice.is_ours()
                    && let Some(wrong) = invoice.wrong_tax()
                {
                    taxes.note(|| format!("{invoice}, {wrong}"));
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
            "select tenant_id, series, sequence, payment_id, invoice_number, issue_date, origin, customer_id, currency,
                    subtotal, tax_amount, total, tax_rate_ppm, tax_treatment, seller_party, buyer_party
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

    /// Whether billday made it: of an imported one only its uniqueness matters.
    pub(super) fn is_ours(&self) -> bool {
        self.origin == "billday"
    }

    /// What is wrong with its tax; the mode of its tenant may have changed since, so either will do.
    fn wrong_tax(&self) -> Option<String> {
        let Self { currency, subtotal, tax_amount, total, tax_rate_ppm: rate_ppm, tax_treatment, .. } = self;
        let (rate, tax) = (format_percent(*rate_ppm), amount(currency, i128::from(*tax_amount)));
        let rates = match TaxTreatment::parse(tax_treatment) {
            Some(TaxTreatment::Standard) => 0..=1_000_000,
            Some(TaxTreatment::Exempt | TaxTreatment::ReverseCharge) | None => 0..=0,
        };
        if !rates.contains(rate_ppm) {
            return Some(format!("no rate is {rate} % when the tax treatment is {tax_treatment}"));
        }
        let made = |mode, sum: i64| TaxRule { mode, rate_ppm: *rate_ppm }.tax_on(sum);
        let (net, gross) = (made(TaxMode::Exclusive, *subtotal), made(TaxMode::Inclusive, *total));
        let is_right = [net, gross].contains(&i128::from(*tax_amount));
        (!is_right).then(|| {
            let subtotal = amount(currency, i128::from(*subtotal));
            format!(
                "tax {tax} on {subtotal} at {rate} %, which makes {}, or {} if the price was gross",
                amount(currency, net),
                amount(currency, gross)
            )
        })
    }
}

impl std::fmt::Display for Numbered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tenant_id, payment_id, sequence, .. } = self;
        let series = series_name(&self.series);
        write!(f, "tenant {tenant_id}: payment {payment_id}, series {series}, number {sequence}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taxed(subtotal: i64, tax_amount: i64, tax_rate_ppm: i64, tax_treatment: &str) -> Option<String> {
        let invoice = Numbered {
            tenant_id: "T".to_owned(),
            series: "{seq}".to_owned(),
            sequence: 1,
            payment_id: "P".to_owned(),
            invoice_number: None,
            issue_date: None,
            origin: "billday".to_owned(),
            customer_id: "C".to_owned(),
            currency: "EUR".to_owned(),
            subtotal,
            tax_amount,
            total: subtotal + tax_amount,
            tax_rate_ppm,
            tax_treatment: tax_treatment.to_owned(),
            seller_party: None,
            buyer_party: None,
        };
        invoice.wrong_tax()
    }

    #[test]
    fn tax_is_right_if_either_mode_makes_it() {
        assert_eq!(taxed(10_000, 1_900, 190_000, "standard"), None);
        // 1.00 gross at 7 %: 0.07 of 0.93, while 0.93 net makes 0.07 too; 0.10 gross at 50 %: 0.03 of 0.07, net 0.04.
        assert_eq!(taxed(93, 7, 70_000, "standard"), None);
        assert_eq!(taxed(7, 3, 500_000, "standard"), None);
        assert_eq!(taxed(7, 4, 500_000, "standard"), None);
        let wrong = "tax 0.05 EUR on 0.07 EUR at 50 %, which makes 0.04 EUR, or 0.04 EUR if the price was gross";
        assert_eq!(taxed(7, 5, 500_000, "standard").as_deref(), Some(wrong));
    }

    #[test]
    fn an_impossible_rate_is_wrong_whatever_it_makes() {
        assert_eq!(taxed(0, 0, 0, "exempt"), None);
        for (rate, treatment) in
            [(-1_000_000, "standard"), (1_000_001, "standard"), (1, "exempt"), (1, "reverseCharge")]
        {
            assert!(taxed(0, 0, rate, treatment).is_some_and(|wrong| wrong.starts_with("no rate is ")), "{rate}");
        }
    }
}
