//! Planning alone, without a database: `cargo bench --bench plan`. Items are rentals.

use billday::domain::calendar::parse_date;
use billday::domain::document::Seller;
use billday::domain::invoice::NumberFormat;
use billday::domain::plan::{DueRental, DueSubject, History, PlanContext, plan};
use billday::domain::rental::RentalStatus;
use billday::domain::tax::TaxRule;
use billday::domain::tenant::{BillingCycle, ContractEnd};
use billday::domain::{BillingDay, BillingPeriod, Currency, EInvoice, TaxMode, TaxTreatment};
use billday::domain::{Customer, Rental, Subject, Tenant};
use chrono::NaiveDate;
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

/// Rentals in one call, whatever the size of the groups.
const RENTALS: usize = 10_000;

#[divan::bench(args = [1, 50, RENTALS])]
fn steady_month(bencher: Bencher<'_, '_>, group_size: usize) {
    bench(
        bencher,
        group_size,
        &History { line_count: 1, first: period("2026-10"), recent: 0b10, ..History::default() },
    );
}

/// Each rental has two months to make up for.
#[divan::bench(args = [50])]
fn two_months_of_arrears(bencher: Bencher<'_, '_>, group_size: usize) {
    bench(
        bencher,
        group_size,
        &History { line_count: 1, first: period("2026-08"), recent: 0b1000, ..History::default() },
    );
}

fn bench(bencher: Bencher<'_, '_>, group_size: usize, history: &History) {
    let tenant = tenant();
    let run_date = day("2026-11-15");
    let due: Vec<DueSubject> = (0..RENTALS / group_size).map(|group| due_subject(group, group_size, history)).collect();
    let context = PlanContext { tenant: &tenant, run_date, issue_date: run_date };
    bencher.counter(ItemsCount::new(RENTALS)).bench_local(|| plan(context, divan::black_box(&due)));
}

fn day(text: &str) -> NaiveDate {
    parse_date(text).expect("a date")
}

fn period(text: &str) -> Option<BillingPeriod> {
    BillingPeriod::parse(text)
}

fn tenant() -> Tenant {
    Tenant {
        tenant_id: "acme".into(),
        name: "Acme".into(),
        currency: Currency::from_code("EUR").expect("a currency"),
        time_zone: chrono_tz::Europe::Berlin,
        locale: "en".into(),
        billing_cycle: BillingCycle::StartDate,
        contract_end: ContractEnd::End,
        bill_from: day("2026-01-01"),
        payment_terms_days: 14,
        tax: TaxRule { mode: TaxMode::Exclusive, rate_ppm: 190_000 },
        invoice_number_format: NumberFormat::parse("INV-{year}-{seq:06}").expect("a format"),
        first_invoice_number: 1,
        catch_up_days: 7,
        max_arrears: 3,
        run_at: chrono::NaiveTime::MIN,
        party_id: "seller".into(),
        seller: Seller::default(),
    }
}

fn due_subject(group: usize, size: usize, history: &History) -> DueSubject {
    let customer_id = format!("C{group:07}");
    let rentals = (0..size).map(|member| {
        let rental = rental(format!("R{:09}", group * size + member), &customer_id, history.first);
        Ok(DueRental { rental, history: history.clone() })
    });
    DueSubject {
        subject: Subject::group(format!("G{group:07}")),
        name: "Office".into(),
        day: BillingDay::fixed(15).expect("a billing day"),
        already_billed: false,
        customer: Some(Ok(Customer {
            customer_id: customer_id.clone(),
            billing_email: Some("billing@example.com".into()),
            recipients: Default::default(),
            tax_treatment: TaxTreatment::Standard,
            payment_terms_days: None,
            locale: None,
            party_id: "buyer".into(),
            e_invoice: EInvoice::None,
            e_invoice_lacks: Vec::new(),
        })),
        rentals: rentals.collect(),
        customer_id,
    }
}

fn rental(rental_id: String, customer_id: &str, first: Option<BillingPeriod>) -> Rental {
    Rental {
        rental_id,
        customer_id: customer_id.to_owned(),
        monthly_amount: 4990,
        currency: Currency::from_code("EUR").expect("a currency"),
        status: RentalStatus::Active,
        start_date: first.map_or(NaiveDate::MAX, BillingPeriod::first_day),
        end_date: None,
        contract_length: Some(36),
        ended_on: None,
        product_name: "Laptop 14 inch".into(),
        serial_number: Some("SN-12345678".into()),
    }
}
