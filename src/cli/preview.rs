//! `billday preview`: the next invoice of one group or rental, as it would be.

use std::io::Write;
use std::path::PathBuf;

use anyhow::anyhow;
use chrono::{Months, NaiveDate};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::domain::message::Recipients;
use crate::domain::money::format_percent;
use crate::domain::payment::MailPlan;
use crate::domain::plan::{Outcome, Parked, SkipCode};
use crate::domain::{Payment, Subject, SubjectKind, Tenant};
use crate::preview::{Named, Preview, find_named, preview, preview_document};
use crate::render::invoice::InvoiceRenderer;
use crate::render::payment::WirePayment;
use crate::store::Session;

use super::invoice::write_files;
use super::{App, Exit, Wrong, date_argument, one_tenant, table};

#[derive(Args)]
pub(super) struct PreviewArgs {
    /// The group or rental; group:ID or rental:ID where both have the id
    #[arg(value_name = "ID")]
    id: String,
    /// Its tenant, if several have the id
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// The billing date, YYYY-MM-DD; without it the next one on which there is something to bill
    #[arg(long, value_name = "DATE", value_parser = date_argument)]
    date: Option<NaiveDate>,
    /// Write the PDF here, marked as a preview
    #[arg(long, value_name = "FILE")]
    pdf: Option<PathBuf>,
    /// Write the e-invoice's XML here: the customer's kind of it
    #[arg(long, value_name = "FILE")]
    xml: Option<PathBuf>,
    /// How the payment is shown
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Dates further ahead are not planned: each date before is planned first.
const YEARS_AHEAD_MAX: u32 = 10;

pub(super) async fn show(app: &App, args: PreviewArgs) -> anyhow::Result<Exit> {
    let now = app.clock.now();
    let last = now.date_naive().checked_add_months(Months::new(12 * YEARS_AHEAD_MAX)).unwrap_or(NaiveDate::MAX);
    if let Some(date) = args.date.filter(|date| *date > last) {
        return Err(Wrong(format!("{date} is too far ahead: a preview looks {YEARS_AHEAD_MAX} years ahead")).into());
    }
    let Some(store) = app.store_read_only().await? else {
        return Err(Wrong(format!("there is no group or rental {}", args.id)).into());
    };
    let mut session = store.read().await?;
    let (tenant, named) = find(&mut session, &args).await?;
    let subject = &named.subject;
    if named.as_member {
        eprintln!("{} is billed with {subject}", args.id);
    }
    let Some(planned) = preview(&mut session, &tenant, subject, args.date, now).await? else {
        nothing(&args, &tenant, subject, no_date(args.date, subject).as_str(), SkipCode::NoBillableRental.as_str())?;
        return Ok(Exit::Done);
    };
    let Preview { run_date, plan } = planned;
    let on = format!("on {run_date}, {subject}");
    match plan.outcome {
        Outcome::Billed(payment) => {
            let document = preview_document(&mut session, &tenant, &payment).await?;
            session.end().await;
            match args.format {
                Format::Table => print_table(&tenant, run_date, &payment)?,
                Format::Json => {
                    let wire = WirePayment::new(&tenant.tenant_id, &payment, None, now);
                    print_json(&WirePreview {
                        payment: Some(wire),
                        ..WirePreview::of(&tenant, subject, Some(run_date))
                    })?;
                }
            }
            if args.pdf.is_some() || args.xml.is_some() {
                let rendered = InvoiceRenderer::new()?.render(&document)?;
                return write_files(&rendered, args.pdf.as_deref(), args.xml.as_deref());
            }
            Ok(Exit::Done)
        }
        Outcome::Parked(Parked { problem, .. }) => {
            let why = format!("{on} would be parked, not billed: {}", problem.message);
            nothing(&args, &tenant, subject, &why, problem.code.as_str())?;
            Ok(Exit::NeedsPerson)
        }
        Outcome::AlreadyBilled => {
            nothing(&args, &tenant, subject, &format!("{on} has its payment for that period already"), ALREADY_BILLED)?;
            Ok(Exit::Done)
        }
        Outcome::Skipped(code) => {
            nothing(&args, &tenant, subject, &format!("{on} would not be billed: {}", code.message()), code.as_str())?;
            Ok(Exit::Done)
        }
        Outcome::NotDue => {
            let code = SkipCode::NoBillableRental;
            nothing(&args, &tenant, subject, &format!("{on} would not be billed: {}", code.message()), code.as_str())?;
            Ok(Exit::Done)
        }
    }
}

/// Said where nothing is left to bill for a period.
const ALREADY_BILLED: &str = "ALREADY_BILLED";

async fn find(session: &mut Session, args: &PreviewArgs) -> anyhow::Result<(Tenant, Named)> {
    let mut found = find_named(session, &args.id).await?;
    let mut having: Vec<String> = found.iter().map(|named| named.tenant_id.clone()).collect();
    having.dedup();
    let tenant_id = one_tenant(args.tenant.as_deref(), &having, &format!("group or rental {}", args.id))?;
    found.retain(|named| named.tenant_id == tenant_id);
    if found.len() > 1 {
        let message = format!("{id} is a group and a rental: say group:{id} or rental:{id}", id = args.id);
        return Err(Wrong(message).into());
    }
    let named = found.pop().ok_or_else(|| Wrong(format!("there is no group or rental {}", args.id)))?;
    let tenant = session.list_tenants().await?.into_iter().find(|(id, _)| *id == tenant_id).map(|(_, tenant)| tenant);
    match tenant {
        Some(Ok(tenant)) => Ok((tenant, named)),
        Some(Err(bad)) => Err(anyhow!("tenant {tenant_id}: its {} is '{}'", bad.field, bad.value)),
        None => Err(anyhow!("tenant {tenant_id} is gone")),
    }
}

fn no_date(date: Option<NaiveDate>, subject: &Subject) -> String {
    match date {
        Some(date) => format!("{date} is no billing date of {subject}"),
        None if subject.kind == SubjectKind::Group => {
            format!("{subject} is inactive: its members are billed alone, each on its own day")
        }
        None => format!("{subject} has no billing date"),
    }
}

/// Says why there would be no payment.
fn nothing(args: &PreviewArgs, tenant: &Tenant, subject: &Subject, why: &str, code: &str) -> anyhow::Result<()> {
    if args.format == Format::Json {
        let skipped = Some(WireSkipped { code, message: why });
        print_json(&WirePreview { skipped, ..WirePreview::of(tenant, subject, None) })?;
    }
    eprintln!("nothing to preview ({code}): {why}");
    Ok(())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WirePreview<'a> {
    tenant_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_group_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rental_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<WirePayment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<WireSkipped<'a>>,
}

#[derive(Serialize)]
struct WireSkipped<'a> {
    code: &'a str,
    message: &'a str,
}

impl<'a> WirePreview<'a> {
    fn of(tenant: &'a Tenant, subject: &'a Subject, run_date: Option<NaiveDate>) -> Self {
        let id = |kind| (subject.kind == kind).then_some(subject.id.as_str());
        Self {
            tenant_id: &tenant.tenant_id,
            billing_group_id: id(SubjectKind::Group),
            rental_id: id(SubjectKind::Rental),
            run_date: run_date.map(|date| date.to_string()),
            payment: None,
            skipped: None,
        }
    }
}

fn print_json(preview: &WirePreview<'_>) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    serde_json::to_writer(&mut out, preview).map_err(std::io::Error::from)?;
    Ok(out.write_all(b"\n")?)
}

fn print_table(tenant: &Tenant, run_date: NaiveDate, payment: &Payment) -> anyhow::Result<()> {
    let amount = |minor| payment.currency.format(minor);
    let mut out = std::io::stdout();
    let mail = match &payment.mail {
        MailPlan::To(Recipients { to, copies }) if copies.is_empty() => to.join(", "),
        MailPlan::To(Recipients { to, copies }) => format!("{}, with a copy to {}", to.join(", "), copies.join(", ")),
        MailPlan::Undeliverable => "nobody: the customer has no address for it".to_owned(),
        MailPlan::None => "nobody: there is nothing to pay".to_owned(),
    };
    let facts = [
        ("tenant", tenant.tenant_id.clone()),
        ("for", format!("{} ({})", payment.subject, payment.subject_name)),
        ("customer", payment.customer_id.clone()),
        ("run date", run_date.to_string()),
        ("period", payment.billing_period.to_string()),
        ("issued", payment.issue_date.to_string()),
        ("due", payment.due_date.to_string()),
        ("mailed to", mail),
        ("e-invoice", e_invoice(payment)),
    ];
    let rows: Vec<Vec<String>> = facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    table::write(&mut out, &["PREVIEW", "NOTHING WAS WRITTEN"], &rows)?;
    writeln!(out)?;
    let mut rows: Vec<Vec<String>> = Vec::new();
    for line in &payment.lines {
        let period = line.billing_period.to_string();
        let period = if line.arrears { format!("{period} (arrears)") } else { period };
        let serial = line.serial_number.clone().unwrap_or_default();
        rows.push(vec![line.rental_id.clone(), line.product_name.clone(), serial, period, amount(line.amount)]);
    }
    table::write(&mut out, &["RENTAL", "PRODUCT", "SERIAL NUMBER", "PERIOD", "NET"], &rows)?;
    writeln!(out)?;
    let tax = format!("{} % tax ({})", format_percent(payment.tax_rate_ppm), payment.tax_treatment.as_str());
    let currency = payment.currency;
    writeln!(out, "{} {currency} net, {} {tax}", amount(payment.subtotal), amount(payment.tax_amount))?;
    Ok(writeln!(out, "{} {currency} to pay", amount(payment.total))?)
}

fn e_invoice(payment: &Payment) -> String {
    match &payment.e_invoice_lacks[..] {
        [] => payment.e_invoice.name().to_owned(),
        lacks => format!("no {}: {}", payment.e_invoice.name(), lacks.join("; ")),
    }
}
