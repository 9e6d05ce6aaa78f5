//! A seller and the settings that its billing follows.

use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;

use super::calendar::BillingDay;
use super::document::Seller;
use super::invoice::NumberFormat;
use super::money::Currency;
use super::tax::{TaxRule, TaxTreatment};

/// A seller ("Business Unit") with its own currency, zone, tax, number series and customers.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub tenant_id: String,
    pub name: String,
    pub currency: Currency,
    pub time_zone: Tz,
    pub locale: String,
    pub billing_cycle: BillingCycle,
    pub contract_end: ContractEnd,
    /// The date from which billday alone bills this tenant (rule 8).
    pub bill_from: NaiveDate,
    /// Days from issue to due date: 0, 7, 14 or 30.
    pub payment_terms_days: u32,
    pub tax: TaxRule,
    pub invoice_number_format: NumberFormat,
    /// The number with which the first series starts (rule 23).
    pub first_invoice_number: i64,
    /// How many dates up to and including today are caught up (rule 19).
    pub catch_up_days: u32,
    /// The local time from which a date is billed by itself.
    pub run_at: NaiveTime,
    /// More gaps than this on one date are withheld (rule 8).
    pub max_arrears: u32,
    /// The immutable version of the seller that invoices made now refer to (rule 24).
    pub party_id: String,
    /// What that version says.
    pub seller: Seller,
}

impl Tenant {
    /// The tax of a customer: none for an exempt or reverse-charge one (rule 15).
    pub fn tax_for(&self, treatment: TaxTreatment) -> TaxRule {
        match treatment {
            TaxTreatment::Standard => self.tax,
            TaxTreatment::Exempt | TaxTreatment::ReverseCharge => TaxRule { rate_ppm: 0, ..self.tax },
        }
    }

    /// The day on which a rental that started on `start` is billed alone (rule 2).
    pub fn day_alone(&self, start: NaiveDate) -> BillingDay {
        match self.billing_cycle {
            BillingCycle::StartDate => BillingDay::anchored_at(start),
            BillingCycle::FixedDay(day) => day,
        }
    }
}

/// Which day bills a rental that is in no active group (rule 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillingCycle {
    /// The day of its own start date.
    StartDate,
    /// The same day for all.
    FixedDay(BillingDay),
}

/// What happens when a contract has run its length (rule 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContractEnd {
    /// The rental ends.
    End,
    /// It goes on month by month.
    RenewMonthly,
}

super::words!(ContractEnd { End = "end", RenewMonthly = "renewMonthly" });

/// The payment terms that exist, in days.
pub const PAYMENT_TERMS_DAYS: [i64; 4] = [0, 7, 14, 30];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::samples::{day, tenant};
    use crate::domain::tax::TaxMode;

    #[test]
    fn a_rental_is_billed_alone_on_the_day_of_its_start_or_on_the_tenants_fixed_day() {
        assert_eq!(tenant().day_alone(day("2026-01-31")).number(), 31);
        let fixed = BillingCycle::FixedDay(BillingDay::fixed(5).unwrap());
        assert_eq!(Tenant { billing_cycle: fixed, ..tenant() }.day_alone(day("2026-01-31")).number(), 5);
    }

    #[test]
    fn an_exempt_or_reverse_charge_customer_is_taxed_at_nothing_in_the_tenants_mode() {
        let gross = Tenant { tax: TaxRule { mode: TaxMode::Inclusive, rate_ppm: 70_000 }, ..tenant() };
        assert_eq!(gross.tax_for(TaxTreatment::Standard), gross.tax);
        for treatment in [TaxTreatment::Exempt, TaxTreatment::ReverseCharge] {
            assert_eq!(gross.tax_for(treatment), TaxRule { mode: TaxMode::Inclusive, rate_ppm: 0 });
        }
    }
}
