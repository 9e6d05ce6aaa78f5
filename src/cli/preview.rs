//! `billday preview`: the next invoice of one group or rental, as it would be.

use std::io::Write;
use std::path::PathBuf;

use anyhow::anyhow;
use chrono::NaiveDate;
use clap::{Args, ValueEnum};

use crate::domain::message::Recipients;
use crate::domain::money::format_percent;
use crate::domain::payment::MailPlan;
use crate::domain::{Payment, Tenant};
use crate::preview::{Named, NoPayment, WirePreview, YEARS_AHEAD_MAX, find_named, last_date, preview_document, tell};
use crate::render::invoice::InvoiceRenderer;
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

pub(super) async fn show(app: &App, args: PreviewArgs) -> anyhow::Result<Exit> {
    let now = app.clock.now();
    if let Some(date) = args.date.filter(|date| *date > last_date(now)) {
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
    let told = tell(&mut session, &tenant, subject, args.date, now).await?;
    if args.format == Format::Json {
        print_json(&WirePreview::new(&tenant, subject, &told, now))?;
    }
    let (run_date, payment) = match told {
        Ok(billed) => billed,
        Err(NoPayment { code, message, parked }) => {
            eprintln!("nothing to preview ({code}): {message}");
            return Ok(if parked { Exit::NeedsPerson } else { Exit::Done });
        }
    };
    if args.format == Format::Table {
        print_table(&tenant, run_date, &payment)?;
    }
    if args.pdf.is_none() && args.xml.is_none() {
        return Ok(Exit::Done);
    }
    let document = preview_document(&mut session, &tenant, &payment).await?;
    session.end().await;
    let rendered = InvoiceRenderer::new()?.render(&document)?;
    write_files(&rendered, args.pdf.as_deref(), args.xml.as_deref())
}

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

fn print_json(preview: &WirePreview) -> anyhow::Result<()> {
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
