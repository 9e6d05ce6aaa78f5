//! Making invoices, without a database: `cargo bench --bench invoice`. Items are invoices, on one core.
//!
//! Each file alone and both together: the difference tells whose work is worth making faster.

use billday::domain::document::{Address, AddressParts, Buyer, InvoiceDocument, InvoiceLine, Seller};
use billday::domain::payment::PaymentStatus;
use billday::domain::{BillingPeriod, Currency, EInvoice, TaxTreatment};
use billday::render::invoice::{InvoiceRenderer, e_invoice_xml};
use chrono::NaiveDate;
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

/// One page, and four.
const LINES: [usize; 2] = [8, 120];

#[divan::bench(args = LINES)]
fn pdf_alone(bencher: Bencher<'_, '_>, lines: usize) {
    let (document, mut renderer) = (document(lines), InvoiceRenderer::new().expect("the fonts"));
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| renderer.render_pdf(divan::black_box(&document), None));
}

#[divan::bench(args = LINES)]
fn factur_x_xml_alone(bencher: Bencher<'_, '_>, lines: usize) {
    let document = document(lines);
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| e_invoice_xml(divan::black_box(&document)).expect("XML"));
}

#[divan::bench(args = LINES)]
fn xrechnung_xml_alone(bencher: Bencher<'_, '_>, lines: usize) {
    let mut document = document(lines);
    document.buyer.e_invoice = EInvoice::XRechnung;
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| e_invoice_xml(divan::black_box(&document)).expect("XML"));
}

#[divan::bench(args = LINES)]
fn pdf_with_factur_x(bencher: Bencher<'_, '_>, lines: usize) {
    let (document, mut renderer) = (document(lines), InvoiceRenderer::new().expect("the fonts"));
    bencher.counter(ItemsCount::new(1usize)).bench_local(|| renderer.render(divan::black_box(&document)));
}

fn document(count: usize) -> InvoiceDocument {
    let billing_period = BillingPeriod::parse("2026-07").expect("a period");
    let line = |n: usize| InvoiceLine {
        rental_id: format!("rnt_{n:06}"),
        product_name: ["MacBook Pro 14", "ThinkPad T14 Gen 5", "Dell UltraSharp 27"][n % 3].to_owned(),
        serial_number: Some(format!("SN-{n:08}")),
        billing_period,
        amount: 4_990,
        tax_amount: 948,
        arrears: false,
    };
    let subtotal = 4_990 * count as i64;
    let tax_amount = subtotal * 19 / 100;
    let day = |day| NaiveDate::from_ymd_opt(2026, 7, day).expect("a date");
    InvoiceDocument {
        tenant_id: "t1".into(),
        payment_id: "pay_202607abc".into(),
        invoice_number: "INV-2026-000001".into(),
        issue_date: day(1),
        due_date: day(15),
        seller: Seller {
            name: "Nordlicht IT GmbH".into(),
            address: address("Speicherstraße 12", "20457", "Hamburg"),
            vat_id: Some("DE123456789".into()),
            contact_name: Some("Buchhaltung".into()),
            phone: Some("+49 40 1234567".into()),
            email: Some("billing@nordlicht.example".into()),
            iban: Some("DE89370400440532013000".into()),
            bic: Some("COBADEFFXXX".into()),
            ..Seller::default()
        },
        buyer: Buyer {
            name: Some("Müller & Söhne GmbH".into()),
            address: address("Hauptstraße 5", "10115", "Berlin"),
            email: Some("invoices@mueller.example".into()),
            reference: Some("PO-4711".into()),
            ..Buyer::default()
        },
        subject_name: "Berlin office".into(),
        billing_period,
        currency: Currency::from_code("EUR").expect("a currency"),
        subtotal,
        tax_amount,
        total: subtotal + tax_amount,
        tax_rate_ppm: 190_000,
        tax_treatment: TaxTreatment::Standard,
        status: PaymentStatus::Pending,
        lines: (0..count).map(line).collect(),
        locale: "de".into(),
        is_preview: false,
    }
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
