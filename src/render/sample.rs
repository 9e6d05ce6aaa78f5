//! A sample invoice, on which templates are tried.

use chrono::NaiveDate;

use crate::domain::document::{Address, AddressParts, Buyer, InvoiceDocument, InvoiceLine, Seller};
use crate::domain::payment::PaymentStatus;
use crate::domain::{BillingPeriod, Currency, TaxTreatment};

/// A line with a serial number of its own; `None` if there is no such period.
pub(crate) fn line(rental_id: &str, product_name: &str, period: &str, amount: i64) -> Option<InvoiceLine> {
    Some(InvoiceLine {
        rental_id: rental_id.into(),
        product_name: product_name.into(),
        serial_number: Some(format!("SN-{rental_id}")),
        billing_period: BillingPeriod::parse(period)?,
        amount,
        tax_amount: 0,
        arrears: period < "2026-07",
    })
}

fn address(street: &str, post_code: &str, city: &str) -> Address {
    let some = |text: &str| Some(text.to_owned());
    Address::Parts(AddressParts {
        street: some(street),
        post_code: some(post_code),
        city: some(city),
        country: some("DE"),
        ..AddressParts::default()
    })
}

/// A good invoice: 1,157.14 EUR net in two lines, one of them arrears, and 19 % tax.
pub(crate) fn invoice() -> Option<InvoiceDocument> {
    Some(InvoiceDocument {
        tenant_id: "t1".into(),
        payment_id: "pay_202607abc".into(),
        invoice_number: "INV-2026-000001".into(),
        issue_date: NaiveDate::from_ymd_opt(2026, 7, 1)?,
        due_date: NaiveDate::from_ymd_opt(2026, 7, 15)?,
        seller: Seller {
            name: "Shop GmbH".into(),
            address: address("Street 1", "20095", "Hamburg"),
            vat_id: Some("DE123456789".into()),
            email: Some("help@shop.example".into()),
            iban: Some("DE02120300000000202051".into()),
            bic: Some("BYLADEM1001".into()),
            ..Seller::default()
        },
        buyer: Buyer {
            name: Some("ACME Ltd".into()),
            person: Some("Anna Smith".into()),
            address: address("Road 2", "10115", "Berlin"),
            vat_id: None,
            reference: Some("PO-77".into()),
            ..Buyer::default()
        },
        subject_name: "Berlin office".into(),
        billing_period: BillingPeriod::parse("2026-07")?,
        currency: Currency::from_code("EUR")?,
        subtotal: 115_714,
        tax_amount: 21_986,
        total: 137_700,
        tax_rate_ppm: 190_000,
        tax_treatment: TaxTreatment::Standard,
        status: PaymentStatus::Pending,
        lines: vec![line("rnt_1", "Laptop 14", "2026-07", 100_000)?, line("rnt_2", "Phone", "2026-06", 15_714)?],
        locale: "en".into(),
        is_preview: false,
    })
}
