//! The report as one page: the template's macros, called one after the other, so that the page is never whole in memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Context;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde::Serialize;

use super::{advice, sum_of_tenants, table, total_currency};
use crate::domain::plan::{Problem, SkipCode, Withheld};
use crate::domain::report::{RunReport, TenantReport, Totals};
use crate::domain::{BillingPeriod, Subject};
use crate::render::payment::{WireLine, WirePayment};
use crate::render::spool::PaymentSpool;
use crate::render::text::{count, plain};

const TEMPLATE: &str = include_str!("../templates/report.html");

/// How many payments are rendered at once: enough to make the calls cheap, few enough to stay small.
const CHUNK: usize = 100;

/// How many offending records of one subject a reader may want; JSON has all.
const RECORDS_MAX: usize = 100;

pub(super) fn write(
    out: &mut dyn Write,
    report: &RunReport,
    payments: &mut [PaymentSpool],
    is_first: bool,
) -> anyhow::Result<()> {
    with_template(|template| {
        if is_first {
            template(out, "page_start", title(report).into())?;
        }
        let run = Value::from(Serde(RunView::new(report)?));
        template(out, "run_start", run.clone())?;
        for (tenant, spool) in report.tenants.iter().zip(payments) {
            let view = Value::from(Serde(TenantView::new(report, tenant, spool.seen())?));
            template(out, "tenant_start", view.clone())?;
            write_payments(out, template, spool)?;
            template(out, "tenant_end", view)?;
        }
        template(out, "run_end", run)
    })
}

pub(super) fn finish(out: &mut dyn Write) -> anyhow::Result<()> {
    with_template(|template| template(out, "page_end", Value::UNDEFINED))
}

fn write_payments(out: &mut dyn Write, template: Macros<'_, '_>, spool: &mut PaymentSpool) -> anyhow::Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK);
    spool.for_each(|payment| {
        chunk.push(PaymentView::new(&payment));
        if chunk.len() == CHUNK {
            template(out, "payments", Serde(&chunk).into())?;
            chunk.clear();
        }
        Ok(())
    })?;
    template(out, "payments", Serde(&chunk).into())
}

/// Calls a macro of the template by its name, with one value.
type Macros<'a, 'b> = &'a mut (dyn FnMut(&mut dyn Write, &str, Value) -> anyhow::Result<()> + 'b);

fn with_template(write: impl FnOnce(Macros<'_, '_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_template("report.html", TEMPLATE)?;
    let mut template = environment.get_template("report.html")?.render_captured(())?;
    template.with_state_mut(|state| {
        write(&mut |out: &mut dyn Write, name: &str, value: Value| {
            let text = state.call_macro(name, &[value]).with_context(|| format!("cannot render {name} of the page"))?;
            Ok(out.write_all(text.as_bytes())?)
        })
    })
}

fn title(report: &RunReport) -> String {
    let date = one_date(report).map(|date| format!(" of {date}")).unwrap_or_default();
    let what = if report.dry_run { "Dry run" } else { "Billing run" };
    format!("{what}{date} · billday")
}

/// The run date in words, if all tenants have the same.
fn one_date(report: &RunReport) -> Option<String> {
    let date = report.run_date.or_else(|| report.tenants.first().map(|tenant| tenant.run_date))?;
    report.tenants.iter().all(|tenant| tenant.run_date == date).then(|| words(date))
}

fn words(date: chrono::NaiveDate) -> String {
    date.format("%-d %B %Y").to_string()
}

#[derive(Serialize)]
struct RunView {
    dry_run: bool,
    date: Option<String>,
    plan_hash: String,
    can_expect_plan: bool,
    tenants: usize,
    totals: Vec<TotalView>,
    open: u64,
}

impl RunView {
    fn new(report: &RunReport) -> anyhow::Result<Self> {
        let tenants = &report.tenants[..];
        Ok(Self {
            dry_run: report.dry_run,
            date: one_date(report),
            plan_hash: plain(&report.plan_hash).into_owned(),
            // The option is refused with a range and without a date.
            can_expect_plan: report.dry_run && report.run_date.is_some(),
            tenants: tenants.len(),
            totals: if tenants.len() > 1 { total_views(&sum_of_tenants(tenants))? } else { Vec::new() },
            open: tenants.iter().map(open_questions).sum(),
        })
    }
}

/// How many things of a tenant wait for a person.
fn open_questions(tenant: &TenantReport) -> u64 {
    (tenant.parked.len() + tenant.withheld.len()) as u64 + tenant.delivery.failed + tenant.delivery.undeliverable
}

/// What those things are, in one phrase.
fn reasons(tenant: &TenantReport) -> String {
    let counts = [
        (tenant.parked.len() as u64, "parked"),
        (tenant.withheld.len() as u64, "withheld"),
        (tenant.delivery.failed, "not delivered"),
        (tenant.delivery.undeliverable, "without an address"),
    ];
    let words = counts.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}"));
    words.collect::<Vec<_>>().join(" · ")
}

#[derive(Serialize)]
struct TenantView {
    dry_run: bool,
    id: String,
    name: String,
    date: String,
    period: String,
    payments: String,
    has_payments: bool,
    totals: Vec<TotalView>,
    open: u64,
    reasons: String,
    already_billed: Option<String>,
    mails: Option<String>,
    mail_count: u64,
    /// Not each invoice is delivered, or is told below with why not.
    mails_open: bool,
    failed: Option<String>,
    undeliverable: Option<String>,
    outbox: String,
    parked: Vec<ParkedView>,
    withheld: Vec<WithheldView>,
    skipped: Vec<SkippedView>,
    never_charged: Option<String>,
    arrears: String,
    plain_invoices: Option<String>,
    check_invoices: String,
}

impl TenantView {
    fn new(report: &RunReport, tenant: &TenantReport, payments: u64) -> anyhow::Result<Self> {
        let id = &tenant.tenant_id;
        let some = |number: u64, one, many| (number > 0).then(|| count(number, one, many));
        Ok(Self {
            dry_run: report.dry_run,
            id: plain(id).into_owned(),
            name: plain(&tenant.tenant_name).into_owned(),
            date: words(tenant.run_date),
            period: BillingPeriod::of(tenant.run_date).to_string(),
            payments: grouped(&payments.to_string()),
            has_payments: payments > 0,
            totals: total_views(&tenant.totals)?,
            open: open_questions(tenant),
            reasons: reasons(tenant),
            already_billed: some(tenant.already_billed, "subject already billed", "subjects already billed"),
            mails: table::mails(tenant.delivery, report.dry_run),
            mail_count: tenant.delivery.waiting
                + tenant.delivery.sent
                + tenant.delivery.failed
                + tenant.delivery.undeliverable,
            mails_open: !report.dry_run && tenant.delivery.waiting + tenant.delivery.failed > 0,
            failed: some(tenant.delivery.failed, "mail was", "mails were"),
            undeliverable: some(tenant.delivery.undeliverable, "invoice has", "invoices have"),
            outbox: advice::list_outbox(id),
            parked: tenant.parked.iter().map(|(subject, problem)| ParkedView::new(tenant, subject, problem)).collect(),
            withheld: tenant.withheld.iter().map(|withheld| WithheldView::new(id, withheld)).collect(),
            skipped: tenant.skipped.iter().map(|(subject, code)| SkippedView::new(subject, *code)).collect(),
            never_charged: (tenant.never_charged > 0).then(|| advice::never_charged(tenant.never_charged)),
            arrears: advice::list_arrears(id),
            plain_invoices: (tenant.plain.count > 0).then(|| advice::plain_invoices(&tenant.plain)),
            check_invoices: advice::check_invoices(id),
        })
    }
}

#[derive(Serialize)]
struct TotalView {
    currency: String,
    payments: String,
    subtotal: String,
    tax_amount: String,
    total: String,
}

fn total_views(totals: &BTreeMap<String, Totals>) -> anyhow::Result<Vec<TotalView>> {
    let view = |(code, totals): (&String, &Totals)| {
        let currency = total_currency(code)?;
        let sum = |minor| grouped(&currency.format_sum(minor));
        Ok(TotalView {
            currency: code.clone(),
            payments: count(totals.payments, "payment", "payments"),
            subtotal: sum(totals.subtotal),
            tax_amount: sum(totals.tax_amount),
            total: sum(totals.total),
        })
    };
    totals.iter().map(view).collect()
}

#[derive(Serialize)]
struct ParkedView {
    kind: &'static str,
    id: String,
    code: &'static str,
    message: String,
    records: Vec<String>,
    more: usize,
    retry: String,
    dismiss: String,
}

impl ParkedView {
    fn new(tenant: &TenantReport, subject: &Subject, problem: &Problem) -> Self {
        Self {
            kind: subject.kind.as_str(),
            id: plain(&subject.id).into_owned(),
            code: problem.code.as_str(),
            message: sentence(&plain(&problem.message)),
            records: problem.records.iter().take(RECORDS_MAX).map(advice::record).collect(),
            more: problem.records.len().saturating_sub(RECORDS_MAX),
            retry: advice::retry(&tenant.tenant_id, subject, tenant.run_date),
            dismiss: advice::dismiss(&tenant.tenant_id, subject, tenant.run_date),
        }
    }
}

#[derive(Serialize)]
struct WithheldView {
    rental_id: String,
    group_id: Option<String>,
    periods: Vec<String>,
    confirm: String,
    waive: String,
}

impl WithheldView {
    fn new(tenant_id: &str, withheld: &Withheld) -> Self {
        Self {
            rental_id: plain(&withheld.rental_id).into_owned(),
            group_id: withheld.billing_group_id.as_deref().map(|id| plain(id).into_owned()),
            periods: withheld.periods.iter().map(ToString::to_string).collect(),
            confirm: advice::confirm(tenant_id, withheld),
            waive: advice::waive(tenant_id, withheld),
        }
    }
}

#[derive(Serialize)]
struct SkippedView {
    kind: &'static str,
    id: String,
    code: &'static str,
    message: String,
}

impl SkippedView {
    fn new(subject: &Subject, code: SkipCode) -> Self {
        Self {
            kind: subject.kind.as_str(),
            id: plain(&subject.id).into_owned(),
            code: code.as_str(),
            message: sentence(code.message()),
        }
    }
}

#[derive(Serialize)]
struct PaymentView {
    payment_id: String,
    key: String,
    kind: &'static str,
    subject_id: String,
    name: String,
    customer_id: String,
    invoice_number: Option<String>,
    issue_date: String,
    due_date: String,
    currency: String,
    subtotal: String,
    tax_amount: String,
    tax: String,
    total: String,
    paid: bool,
    arrears: usize,
    lines: Vec<LineView>,
}

impl PaymentView {
    fn new(payment: &WirePayment) -> Self {
        let amount = |number: &serde_json::Number| grouped(number.as_str());
        let text = |text: &str| plain(text).into_owned();
        Self {
            payment_id: text(&payment.payment_id),
            key: text(&payment.idempotency_key),
            kind: if payment.billing_group_id.is_some() { "group" } else { "rental" },
            subject_id: text(payment.subject_id()),
            name: text(payment.subject_name()),
            customer_id: text(&payment.customer_id),
            invoice_number: payment.invoice_number.as_deref().map(text),
            issue_date: payment.issue_date.clone(),
            due_date: payment.due_date.clone(),
            currency: payment.currency.to_string(),
            subtotal: amount(&payment.subtotal),
            tax_amount: amount(&payment.tax_amount),
            tax: match &*payment.tax_treatment {
                "exempt" => "tax exempt".to_owned(),
                "reverseCharge" => "reverse charge".to_owned(),
                _ => format!("{} % tax", payment.tax_rate),
            },
            total: amount(&payment.total),
            paid: payment.status == "paid",
            arrears: payment.line_items.iter().filter(|line| line.arrears).count(),
            lines: payment.line_items.iter().map(LineView::new).collect(),
        }
    }
}

#[derive(Serialize)]
struct LineView {
    rental_id: String,
    product: String,
    serial: Option<String>,
    period: String,
    arrears: bool,
    amount: String,
    tax_amount: String,
}

impl LineView {
    fn new(line: &WireLine) -> Self {
        Self {
            rental_id: plain(&line.rental_id).into_owned(),
            product: plain(&line.product_name).into_owned(),
            serial: line.serial_number.as_deref().map(|serial| plain(serial).into_owned()),
            period: line.billing_period.clone(),
            arrears: line.arrears,
            amount: grouped(line.amount.as_str()),
            tax_amount: grouped(line.tax_amount.as_str()),
        }
    }
}

/// Sets the digits before the point in threes, by a thin space: it means the same to every reader, a comma does not.
fn grouped(amount: &str) -> String {
    let (whole, fraction) = amount.split_at(amount.find('.').unwrap_or(amount.len()));
    let mut text = String::with_capacity(amount.len() + 12);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 && !text.ends_with('-') {
            text.push('\u{202F}');
        }
        text.push(digit);
    }
    text + fraction
}

/// A message as a sentence of its own: messages are written to follow a name.
fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    let first: Cow<'_, str> = characters.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}", characters.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{BadRecord, ProblemCode};
    use crate::domain::report::Delivery;
    use crate::render::report::samples::{self, render};
    use crate::render::report::write_html;

    #[test]
    fn the_page_needs_nothing_but_itself() {
        let (report, mut spools) = samples::busy_report();
        let page = render(write_html, &report, &mut spools);
        for foreign in ["http:", "https:", "<script", "<link", "@import", "url(", "src="] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        for tag in ["section", "details", "table", "div", "article", "main", "header", "footer", "ul", "li"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn what_needs_a_person_is_on_the_page_with_what_to_do() {
        let (report, mut spools) = samples::busy_report();
        let page = render(write_html, &report, &mut spools);
        for shown in [
            "Dry run of 15 November 2026",
            "SUBSCRIPTION_CURRENCY_MISMATCH",
            "Its rentals are priced in EUR and USD: one payment has one currency",
            "rental R82: currency is &quot;USD&quot;",
            "billday parked retry group:G8 2026-11-15 --tenant acme",
            "billday arrears confirm R5 --tenant acme",
            "billday arrears waive R6 2026-09 --tenant acme --reason",
            "506.94",
            "2 invoices go without an e-invoice: the buyer has no city in its address; the seller has no phone; …",
            "billday invoice check --tenant acme",
            "arrears",
            "--expect-plan 0badc0de",
        ] {
            assert!(page.contains(shown), "{shown}");
        }
    }

    #[test]
    fn the_mails_are_amber_until_each_is_delivered_or_told_why_not() {
        let (mut report, _) = samples::busy_report();
        report.tenants.truncate(1);
        report.dry_run = false;
        let mut page = |delivery| {
            report.tenants[0].delivery = delivery;
            render(write_html, &report, &mut [PaymentSpool::all()])
        };
        let amber = "<div class=\"card open\">\n    <div class=\"label\">Mails</div>";
        assert!(page(Delivery { waiting: 1, sent: 2, ..Delivery::default() }).contains(amber));
        let failed = page(Delivery { failed: 1, sent: 2, ..Delivery::default() });
        assert!(failed.contains(amber) && failed.contains("1 mail was not delivered"), "{failed}");
        assert!(!page(Delivery { sent: 3, ..Delivery::default() }).contains(amber));
    }

    #[test]
    fn markup_from_data_is_text() {
        let evil = "<img src=x onerror=alert(1)>\"'&\u{1b}";
        let (mut report, _) = samples::busy_report();
        report.tenants.truncate(1);
        report.plan_hash = evil.to_owned();
        let tenant = &mut report.tenants[0];
        tenant.tenant_id = evil.to_owned();
        tenant.tenant_name = evil.to_owned();
        tenant.skipped[0].0 = Subject::group(evil);
        tenant.withheld[0].rental_id = evil.to_owned();
        tenant.withheld[0].billing_group_id = Some(evil.to_owned());
        let record = BadRecord { kind: "rental", id: evil.into(), field: evil.into(), value: evil.into() };
        let problem = Problem { code: ProblemCode::InvalidRecord, message: evil.into(), records: vec![record] };
        tenant.parked = vec![(Subject::group(evil), problem)];
        let mut payment = samples::group_payment("EUR", evil, evil, &[100, 200]);
        payment.customer_id = evil.to_owned();
        payment.lines[0].product_name = evil.to_owned();
        payment.lines[0].rental_id = evil.to_owned();
        payment.lines[0].serial_number = Some(evil.to_owned());
        let mut wire = samples::wire(&payment);
        wire.invoice_number = Some(evil.to_owned());
        let mut spool = PaymentSpool::all();
        spool.push(&wire).unwrap();
        let page = render(write_html, &report, &mut [spool]);
        assert!(!page.contains("<img") && !page.contains('\u{1b}'));
        assert!(page.matches("&lt;img").count() > 15);
    }

    #[test]
    fn every_payment_is_on_the_page_however_many_chunks_they_make() {
        let (mut report, _) = samples::busy_report();
        report.tenants.truncate(1);
        for number in [0, 1, 100, 250] {
            let mut spool = PaymentSpool::all();
            for at in 0..number {
                spool.push(&samples::wire(&samples::rental_payment("EUR", &format!("R{at}"), 100))).unwrap();
            }
            let page = render(write_html, &report, &mut [spool]);
            assert_eq!(page.matches("<details class=\"payment").count(), number);
        }
    }

    #[test]
    fn amounts_are_set_in_threes() {
        assert_eq!(grouped("1234567.00"), "1\u{202F}234\u{202F}567.00");
        assert_eq!(grouped("123.456"), "123.456");
        assert_eq!(grouped("1234"), "1\u{202F}234");
        assert_eq!(grouped("-123.00"), "-123.00");
    }
}
