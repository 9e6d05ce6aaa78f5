//! Rows as the database holds them, and their way into domain values.
//!
//! A row is plain strings, numbers and dates. A value that the domain does not take becomes a [`BadRecord`] that names the
//! record, the column's wire name and what it holds, so that only its own subject is parked (rule 17).

use chrono::{NaiveDate, NaiveTime};

use crate::domain::customer::Customer;
use crate::domain::e_invoice::missing_of_buyer;
use crate::domain::invoice::NumberFormat;
use crate::domain::message::RecipientLists;
use crate::domain::plan::BadRecord;
use crate::domain::rental::{RentalStatus, RentalTerms};
use crate::domain::tax::TaxRule;
use crate::domain::tenant::{BillingCycle, ContractEnd};
use crate::domain::{BillingDay, Currency, Rental, TaxMode, TaxTreatment, Tenant};

use super::dialect::{NO_DATE, Packed, from_json, packed_row};
use super::groups::{Alike, Member};
use super::party;

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct TenantRow {
    pub tenant_id: String,
    pub name: String,
    pub currency: String,
    pub time_zone: String,
    pub locale: String,
    pub billing_fixed_day: Option<i64>,
    pub contract_end: String,
    pub bill_from: NaiveDate,
    pub payment_terms_days: i64,
    pub tax_mode: String,
    pub tax_rate_ppm: i64,
    pub invoice_number_format: String,
    pub first_invoice_number: i64,
    pub catch_up_days: i64,
    pub max_arrears: i64,
    pub run_at: String,
    pub party_id: String,
    pub seller: Option<String>,
}

packed_row! {
    #[derive(Debug)]
    pub(crate) struct CustomerRow {
        pub customer_id: String,
        pub billing_email: Option<String>,
        pub invoice_recipients: Option<String>,
        pub invoice_cc: Option<String>,
        pub tax_treatment: String,
        pub payment_terms_days: Option<i64>,
        pub locale: Option<String>,
        pub party_id: String,
        pub buyer: Option<String>,
    }
}

packed_row! {
    #[derive(Debug)]
    pub(crate) struct RentalRow {
        pub rental_id: String,
        pub customer_id: String,
        pub billing_group_id: Option<String>,
        pub monthly_amount: i64,
        pub currency: String,
        pub status: String,
        #[serde(deserialize_with = "from_json::date")]
        pub start_date: NaiveDate,
        #[serde(deserialize_with = "from_json::date_or_null")]
        pub end_date: Option<NaiveDate>,
        pub contract_length: Option<i64>,
        #[serde(deserialize_with = "from_json::date_or_null")]
        pub ended_on: Option<NaiveDate>,
        pub closed_through: Option<String>,
        pub product_name: String,
        pub serial_number: Option<String>,
        pub sort_key: String,
    }
}

packed_row! {
    /// What is read of a rental that goes into a group or comes out of it.
    pub(crate) struct MemberRow {
        pub rental_id: String,
        pub customer_id: String,
        pub billing_group_id: Option<String>,
        pub monthly_amount: i64,
        pub currency: String,
        pub status: String,
        #[serde(deserialize_with = "from_json::date")]
        pub start_date: NaiveDate,
        #[serde(deserialize_with = "from_json::date_or_null")]
        pub end_date: Option<NaiveDate>,
        pub contract_length: Option<i64>,
    }
}

/// What is read of rentals to show what the customer or group that owns them comes to.
#[derive(sqlx::FromRow, serde::Deserialize)]
pub(crate) struct AlikeRow {
    pub owner: String,
    pub monthly_amount: i64,
    pub currency: String,
    pub status: String,
    #[serde(deserialize_with = "from_json::date")]
    pub start_date: NaiveDate,
    #[serde(deserialize_with = "from_json::date_or_null")]
    pub end_date: Option<NaiveDate>,
    pub contract_length: Option<i64>,
    pub rental_ids: Vec<String>,
}

impl Packed for AlikeRow {
    fn packed() -> String {
        "json_array(owner, monthly_amount, currency, status, start_date, end_date, contract_length, json(rental_ids))"
            .into()
    }
}

/// Names a field whose value the domain does not take.
struct Field<'a> {
    kind: &'static str,
    id: &'a str,
}

impl Field<'_> {
    fn bad(&self, field: &str, value: impl ToString) -> BadRecord {
        BadRecord { kind: self.kind, id: self.id.to_owned(), field: field.to_owned(), value: value.to_string() }
    }

    fn count(&self, field: &str, value: i64) -> Result<u32, BadRecord> {
        u32::try_from(value).map_err(|_| self.bad(field, value))
    }

    fn monthly_amount(&self, value: i64) -> Result<i64, BadRecord> {
        if value < 0 { Err(self.bad("monthlyAmount", value)) } else { Ok(value) }
    }

    fn currency(&self, code: &str) -> Result<Currency, BadRecord> {
        Currency::from_code(code).ok_or_else(|| self.bad("currency", code))
    }

    fn date(&self, field: &str, date: NaiveDate) -> Result<NaiveDate, BadRecord> {
        if date == NO_DATE { Err(self.bad(field, "no date")) } else { Ok(date) }
    }

    fn rental_status(&self, word: &str) -> Result<RentalStatus, BadRecord> {
        RentalStatus::parse(word).ok_or_else(|| self.bad("status", word))
    }

    fn contract_length(&self, months: Option<i64>) -> Result<Option<u32>, BadRecord> {
        months.map(|months| self.count("contractLength", months)).transpose()
    }
}

impl TryFrom<TenantRow> for Tenant {
    type Error = BadRecord;

    fn try_from(row: TenantRow) -> Result<Self, BadRecord> {
        let field = Field { kind: "tenant", id: &row.tenant_id };
        let billing_cycle = match row.billing_fixed_day {
            None => BillingCycle::StartDate,
            Some(day) => {
                BillingCycle::FixedDay(BillingDay::fixed(day).ok_or_else(|| field.bad("billingCycle.fixedDay", day))?)
            }
        };
        Ok(Self {
            currency: field.currency(&row.currency)?,
            time_zone: row.time_zone.parse().map_err(|_| field.bad("timeZone", &row.time_zone))?,
            billing_cycle,
            contract_end: ContractEnd::parse(&row.contract_end)
                .ok_or_else(|| field.bad("contractEnd", &row.contract_end))?,
            payment_terms_days: field.count("paymentTermsDays", row.payment_terms_days)?,
            tax: TaxRule {
                mode: TaxMode::parse(&row.tax_mode).ok_or_else(|| field.bad("tax.mode", &row.tax_mode))?,
                rate_ppm: row.tax_rate_ppm,
            },
            invoice_number_format: NumberFormat::parse(&row.invoice_number_format)
                .map_err(|_| field.bad("invoiceNumberFormat", &row.invoice_number_format))?,
            catch_up_days: field.count("catchUpDays", row.catch_up_days)?,
            max_arrears: field.count("maxArrears", row.max_arrears)?,
            run_at: NaiveTime::parse_from_str(&row.run_at, "%H:%M").map_err(|_| field.bad("runAt", &row.run_at))?,
            tenant_id: row.tenant_id,
            locale: row.locale,
            bill_from: row.bill_from,
            first_invoice_number: row.first_invoice_number,
            // One that cannot be read is `verify`'s to tell: it keeps nobody from being billed.
            seller: party::seller(&party::body(row.seller.as_deref()).unwrap_or_default(), &row.name),
            name: row.name,
            party_id: row.party_id,
        })
    }
}

impl TryFrom<CustomerRow> for Customer {
    type Error = BadRecord;

    fn try_from(row: CustomerRow) -> Result<Self, BadRecord> {
        let field = Field { kind: "customer", id: &row.customer_id };
        let tax_treatment =
            TaxTreatment::parse(&row.tax_treatment).ok_or_else(|| field.bad("taxTreatment", &row.tax_treatment))?;
        // As with a seller.
        let buyer = party::buyer(&party::body(row.buyer.as_deref()).unwrap_or_default());
        Ok(Self {
            tax_treatment,
            e_invoice: buyer.e_invoice,
            e_invoice_lacks: missing_of_buyer(&buyer, tax_treatment),
            payment_terms_days: row.payment_terms_days.map(|days| field.count("paymentTermsDays", days)).transpose()?,
            recipients: recipient_lists(
                "customer",
                field.id,
                row.invoice_recipients.as_deref(),
                row.invoice_cc.as_deref(),
            )?,
            customer_id: row.customer_id.clone(),
            billing_email: row.billing_email,
            locale: row.locale,
            party_id: row.party_id,
        })
    }
}

/// The lists of recipients of a customer or group, each a JSON list of addresses.
pub(crate) fn recipient_lists(
    kind: &'static str,
    id: &str,
    to: Option<&str>,
    copies: Option<&str>,
) -> Result<RecipientLists, BadRecord> {
    let list = |name, json: Option<&str>| {
        json.map(|json| serde_json::from_str(json).map_err(|_| Field { kind, id }.bad(name, json))).transpose()
    };
    Ok(RecipientLists { to: list("invoiceRecipients", to)?, copies: list("invoiceCc", copies)? })
}

impl TryFrom<RentalRow> for Rental {
    type Error = BadRecord;

    fn try_from(row: RentalRow) -> Result<Self, BadRecord> {
        let field = Field { kind: "rental", id: &row.rental_id };
        Ok(Self {
            currency: field.currency(&row.currency)?,
            status: field.rental_status(&row.status)?,
            contract_length: field.contract_length(row.contract_length)?,
            monthly_amount: field.monthly_amount(row.monthly_amount)?,
            rental_id: row.rental_id.clone(),
            customer_id: row.customer_id,
            start_date: field.date("startDate", row.start_date)?,
            end_date: row.end_date.map(|date| field.date("endDate", date)).transpose()?,
            ended_on: row.ended_on.map(|date| field.date("endedOn", date)).transpose()?,
            product_name: row.product_name,
            serial_number: row.serial_number,
        })
    }
}

impl From<MemberRow> for Member {
    fn from(row: MemberRow) -> Self {
        let MemberRow { rental_id, customer_id, billing_group_id, monthly_amount, currency, status, .. } = row;
        let dates = (row.start_date, row.end_date, row.contract_length);
        let terms = terms(&rental_id, monthly_amount, &currency, &status, dates);
        Self { rental_id, customer_id, billing_group_id, currency, terms }
    }
}

impl From<AlikeRow> for Alike {
    fn from(row: AlikeRow) -> Self {
        let AlikeRow { mut rental_ids, monthly_amount, currency, status, .. } = row;
        rental_ids.sort_unstable();
        let dates = (row.start_date, row.end_date, row.contract_length);
        let first = rental_ids.first().map_or("", String::as_str);
        let terms = terms(first, monthly_amount, &currency, &status, dates);
        Self { rental_ids, currency, terms }
    }
}

/// The last are its start, its end and the months of its contract.
fn terms(
    rental_id: &str,
    monthly_amount: i64,
    currency: &str,
    status: &str,
    (start_date, end_date, contract_length): (NaiveDate, Option<NaiveDate>, Option<i64>),
) -> Result<RentalTerms, BadRecord> {
    let field = Field { kind: "rental", id: rental_id };
    Ok(RentalTerms {
        monthly_amount: field.monthly_amount(monthly_amount)?,
        currency: field.currency(currency)?,
        status: field.rental_status(status)?,
        start_date: field.date("startDate", start_date)?,
        end_date: end_date.map(|date| field.date("endDate", date)).transpose()?,
        contract_length: field.contract_length(contract_length)?,
    })
}
