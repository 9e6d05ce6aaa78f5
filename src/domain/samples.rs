//! Values for the tests of the domain, which change of them only what they are about.

use chrono::NaiveDate;

use super::calendar::{BillingDay, BillingPeriod, parse_date};
use super::customer::Customer;
use super::document::Seller;
use super::e_invoice::EInvoice;
use super::invoice::NumberFormat;
use super::message::RecipientLists;
use super::money::Currency;
use super::payment::Subject;
use super::plan::{DueRental, DueSubject, History};
use super::rental::{Rental, RentalStatus};
use super::tax::{TaxMode, TaxRule, TaxTreatment};
use super::tenant::{BillingCycle, ContractEnd, Tenant};

pub fn day(text: &str) -> NaiveDate {
    parse_date(text).unwrap()
}

pub fn period(text: &str) -> BillingPeriod {
    BillingPeriod::parse(text).unwrap()
}

/// A tenant in Berlin with net prices at 19 %, whose contracts end.
pub fn tenant() -> Tenant {
    Tenant {
        tenant_id: "T".into(),
        name: "Rent".into(),
        currency: Currency::from_code("EUR").unwrap(),
        time_zone: chrono_tz::Europe::Berlin,
        locale: "en".into(),
        billing_cycle: BillingCycle::StartDate,
        contract_end: ContractEnd::End,
        bill_from: day("2020-01-01"),
        payment_terms_days: 14,
        tax: TaxRule { mode: TaxMode::Exclusive, rate_ppm: 190_000 },
        invoice_number_format: NumberFormat::parse("{seq}").unwrap(),
        first_invoice_number: 1,
        catch_up_days: 7,
        max_arrears: 2,
        run_at: chrono::NaiveTime::MIN,
        party_id: "seller".into(),
        seller: Seller::default(),
    }
}

/// A customer of that tenant who wants no e-invoice.
pub fn customer() -> Customer {
    Customer {
        customer_id: "C".into(),
        billing_email: Some("pay@example.org".into()),
        recipients: RecipientLists::default(),
        tax_treatment: TaxTreatment::Standard,
        payment_terms_days: None,
        locale: None,
        party_id: "buyer".into(),
        e_invoice: EInvoice::None,
        e_invoice_lacks: Vec::new(),
    }
}

/// A laptop for 10.00 EUR a month, open-ended and never charged.
pub fn rental(id: &str, start: &str) -> Rental {
    Rental {
        rental_id: id.into(),
        customer_id: "C".into(),
        monthly_amount: 1_000,
        currency: Currency::from_code("EUR").unwrap(),
        status: RentalStatus::Active,
        start_date: day(start),
        end_date: None,
        contract_length: None,
        ended_on: None,
        product_name: "Laptop".into(),
        serial_number: None,
    }
}

/// An active group of rentals that were never charged.
pub fn group(day: i64, rentals: Vec<Rental>) -> DueSubject {
    DueSubject {
        subject: Subject::group("G"),
        customer_id: "C".into(),
        name: "Office".into(),
        day: BillingDay::fixed(day).unwrap(),
        already_billed: false,
        customer: Some(Ok(customer())),
        rentals: rentals.into_iter().map(|rental| Ok(DueRental { rental, history: History::default() })).collect(),
    }
}
