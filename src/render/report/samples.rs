//! Payments and reports for the tests of this layer.

use std::io::Write;

use chrono::{DateTime, NaiveDate, Utc};

use crate::domain::payment::{MailPlan, PaymentStatus};
use crate::domain::plan::{BadRecord, Problem, ProblemCode, SkipCode, Withheld};
use crate::domain::report::{Delivery, PlainInvoices, RunReport, TenantReport};
use crate::domain::{BillingPeriod, Currency, EInvoice, Payment, PaymentLine, Subject, TaxTreatment};
use crate::render::payment::WirePayment;
use crate::render::spool::PaymentSpool;

pub(crate) type WriteReport = fn(&mut dyn Write, &RunReport, &mut [PaymentSpool]) -> anyhow::Result<()>;

/// What a writer writes.
pub(crate) fn render(write: WriteReport, report: &RunReport, payments: &mut [PaymentSpool]) -> String {
    let mut out = Vec::new();
    write(&mut out, report, payments).unwrap();
    String::from_utf8(out).unwrap()
}

pub(crate) fn created_at() -> DateTime<Utc> {
    "2026-11-15T06:00:00.123456Z".parse().unwrap()
}

pub(crate) fn wire(payment: &Payment) -> WirePayment {
    WirePayment::new("acme", payment, None, created_at())
}

pub(crate) fn run_date() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 15).unwrap()
}

pub(crate) fn period(text: &str) -> BillingPeriod {
    BillingPeriod::parse(text).unwrap()
}

/// One line a net amount, with 19 % tax; of several lines the first is arrears and has a serial number.
pub(crate) fn group_payment(currency: &str, id: &str, name: &str, amounts: &[i64]) -> Payment {
    let lines: Vec<PaymentLine> = amounts
        .iter()
        .enumerate()
        .map(|(at, &amount)| {
            let arrears = at == 0 && amounts.len() > 1;
            PaymentLine {
                rental_id: format!("R{}", at + 1),
                billing_period: period(if arrears { "2026-10" } else { "2026-11" }),
                amount,
                tax_amount: amount * 19 / 100,
                arrears,
                product_name: "MacBook Pro 14".to_owned(),
                serial_number: arrears.then(|| "SN-1".to_owned()),
            }
        })
        .collect();
    let subject = Subject::group(id);
    let subtotal = amounts.iter().sum();
    let tax_amount = lines.iter().map(|line| line.tax_amount).sum();
    let total = subtotal + tax_amount;
    Payment {
        payment_id: subject.payment_id("acme", period("2026-11")),
        subject,
        customer_id: "C1".to_owned(),
        subject_name: name.to_owned(),
        billing_period: period("2026-11"),
        currency: Currency::from_code(currency).unwrap(),
        subtotal,
        tax_amount,
        total,
        tax_rate_ppm: 190_000,
        tax_treatment: TaxTreatment::Standard,
        status: if total == 0 { PaymentStatus::Paid } else { PaymentStatus::Pending },
        issue_date: run_date(),
        due_date: NaiveDate::from_ymd_opt(2026, 11, 29).unwrap(),
        lines,
        seller_party: "seller".to_owned(),
        buyer_party: "buyer".to_owned(),
        mail: MailPlan::None,
        locale: "en".into(),
        e_invoice: EInvoice::FacturX,
        e_invoice_lacks: Vec::new(),
    }
}

pub(crate) fn rental_payment(currency: &str, id: &str, amount: i64) -> Payment {
    let mut payment = group_payment(currency, "", "MacBook Pro 14", &[amount]);
    payment.subject = Subject::rental(id);
    payment.payment_id = payment.subject.payment_id("acme", payment.billing_period);
    payment.lines[0].rental_id = id.to_owned();
    payment
}

/// A payment without tax of any total that an amount can be.
pub(crate) fn payment(currency: &str, total: i64) -> Payment {
    let mut payment = rental_payment(currency, "R1", 0);
    payment.status = PaymentStatus::Pending;
    (payment.subtotal, payment.total, payment.lines[0].amount) = (total, total, total);
    payment
}

pub(crate) fn busy_payments() -> Vec<Payment> {
    vec![
        group_payment("EUR", "G1", "Head office", &[12_900, 24_800]),
        rental_payment("EUR", "R20", 4_900),
        rental_payment("JPY", "R21", 4_900),
        rental_payment("KWD", "R22", 4_900),
    ]
}

/// Two tenants: one with something of everything, one where nothing was due.
pub(crate) fn busy_report() -> (RunReport, Vec<PaymentSpool>) {
    let mut acme = quiet_tenant("acme", "Acme Devices GmbH");
    let mut spool = PaymentSpool::all();
    for payment in busy_payments() {
        spool.push(&wire(&payment)).unwrap();
        let totals = acme.totals.entry(payment.currency.code().to_owned()).or_default();
        totals.payments += 1;
        totals.subtotal += i128::from(payment.subtotal);
        totals.tax_amount += i128::from(payment.tax_amount);
        totals.total += i128::from(payment.total);
    }
    acme.skipped = vec![(Subject::group("G7"), SkipCode::NoBillableRental)];
    let priced_in = |id: &str, currency: &str| BadRecord {
        kind: "rental",
        id: id.to_owned(),
        field: "currency".to_owned(),
        value: currency.to_owned(),
    };
    let mixed = Problem {
        code: ProblemCode::CurrencyMismatch,
        message: "its rentals are priced in EUR and USD: one payment has one currency".to_owned(),
        records: vec![priced_in("R81", "EUR"), priced_in("R82", "USD")],
    };
    let unknown = Problem {
        code: ProblemCode::CustomerNotFound,
        message: "there is no customer C9".to_owned(),
        records: Vec::new(),
    };
    acme.parked = vec![(Subject::group("G8"), mixed), (Subject::rental("R9"), unknown)];
    acme.withheld = vec![
        Withheld {
            rental_id: "R5".to_owned(),
            billing_group_id: Some("G1".to_owned()),
            periods: vec![period("2026-06"), period("2026-07"), period("2026-08")],
        },
        Withheld { rental_id: "R6".to_owned(), billing_group_id: None, periods: vec![period("2026-09")] },
    ];
    acme.already_billed = 4;
    acme.never_charged = 2;
    acme.plain = PlainInvoices {
        count: 2,
        reasons: vec!["the buyer has no city in its address".to_owned(), "the seller has no phone".to_owned()],
        more_reasons: true,
    };
    acme.delivery = Delivery { waiting: 3, undeliverable: 1, ..Delivery::default() };
    let report = RunReport {
        dry_run: true,
        plan_hash: "0badc0de".to_owned(),
        run_date: Some(run_date()),
        tenants: vec![acme, quiet_tenant("beta", "Beta Rentals")],
    };
    (report, vec![spool, PaymentSpool::all()])
}

pub(crate) fn quiet_tenant(id: &str, name: &str) -> TenantReport {
    TenantReport {
        tenant_id: id.to_owned(),
        tenant_name: name.to_owned(),
        run_date: run_date(),
        skipped: Vec::new(),
        parked: Vec::new(),
        withheld: Vec::new(),
        already_billed: 0,
        never_charged: 0,
        totals: Default::default(),
        delivery: Delivery::default(),
        plain: PlainInvoices::default(),
    }
}

/// No tenant was selected, or there is none yet.
pub(crate) fn empty_report() -> RunReport {
    RunReport { dry_run: false, plan_hash: "cafe".to_owned(), run_date: None, tenants: Vec::new() }
}
