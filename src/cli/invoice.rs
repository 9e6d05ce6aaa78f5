//! `billday invoice`: invoices as files, and what keeps customers from getting e-invoices.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;

use crate::domain::EInvoice;
use crate::domain::document::{DocumentKind, InvoiceDocument, KeptDocument};
use crate::domain::money::format_percent;
use crate::invoice;
use crate::render::invoice::{InvoiceRenderer, RenderedInvoice, refusals};
use crate::store::invoices::InvoiceParties;

use super::{App, Exit, Wrong, one_tenant, table};

#[derive(Subcommand)]
pub(super) enum InvoiceCommand {
    /// One invoice by its number: what it says, or its files as they were sent; made anew if it was not sent yet
    Show {
        number: String,
        /// Its tenant, if several have the number
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Write the PDF here
        #[arg(long, value_name = "FILE")]
        pdf: Option<PathBuf>,
        /// Write the e-invoice's XML here: the customer's kind of it
        #[arg(long, value_name = "FILE")]
        xml: Option<PathBuf>,
    },
    /// Customers who could not get the e-invoice that they want, and what is in the way
    Check {
        /// Only this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
}

pub(super) async fn invoice(app: &App, command: InvoiceCommand) -> anyhow::Result<Exit> {
    match command {
        InvoiceCommand::Show { number, tenant, pdf, xml } => {
            let (document, kept) = find(app, &number, tenant.as_deref()).await?;
            let mut rendered = InvoiceRenderer::new()?.render(&document)?;
            let documents = super::documents(&app.config)?;
            if pdf.is_none() && xml.is_none() {
                let place = |kept: &KeptDocument| format!("{} (sha256 {})", documents.whole_place(kept), kept.sha256);
                let places: Vec<String> = kept.iter().map(place).collect();
                print_facts(&document, &rendered, &places)?;
                return Ok(Exit::Done);
            }
            if pdf.is_some()
                && let Some(bytes) = invoice::sent(&documents, &kept, DocumentKind::Pdf).await?
            {
                rendered.pdf = bytes;
            }
            if xml.is_some()
                && let Some(bytes) = invoice::sent(&documents, &kept, DocumentKind::Xml).await?
            {
                rendered.xml = Ok(bytes);
            }
            write_files(&rendered, pdf.as_deref(), xml.as_deref())
        }
        InvoiceCommand::Check { tenant } => check(app, tenant.as_deref()).await,
    }
}

async fn find(app: &App, number: &str, tenant: Option<&str>) -> anyhow::Result<(InvoiceDocument, Vec<KeptDocument>)> {
    let what = format!("invoice {number}");
    let Some(store) = app.store_read_only().await? else {
        return Err(Wrong(format!("there is no {what}")).into());
    };
    let mut session = store.read().await?;
    let found = session.find_invoices(number).await?;
    let having: Vec<String> = found.iter().map(|invoice| invoice.tenant_id.clone()).collect();
    let tenant_id = one_tenant(tenant, &having, &what)?;
    // An imported payment may have the number of one of our own.
    let of_tenant = found.iter().filter(|invoice| invoice.tenant_id == tenant_id);
    let invoice = of_tenant.min_by_key(|invoice| invoice.imported).context("the payment is gone")?;
    let document = invoice::document(&mut session, invoice).await?.ok_or_else(|| {
        let message =
            format!("{what} of tenant {tenant_id} was brought in by an import: its document was made elsewhere");
        Wrong(message)
    })?;
    let kept = session.kept_documents(&[(&*invoice.tenant_id, &*invoice.payment_id)]).await?;
    session.end().await;
    Ok((document, kept.into_values().flatten().collect()))
}

/// Writes the files that are wanted; a PDF without XML is told, XML that there cannot be is an error.
pub(super) fn write_files(rendered: &RenderedInvoice, pdf: Option<&Path>, xml: Option<&Path>) -> anyhow::Result<Exit> {
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = pdf {
        write(path, &rendered.pdf)?;
    }
    match (&rendered.xml, xml) {
        (Ok(bytes), Some(path)) => write(path, bytes)?,
        (Ok(_), None) => {}
        (Err(_), None) if rendered.e_invoice == EInvoice::None => {}
        (Err(missing), None) => eprintln!("there is no {}: {}", rendered.e_invoice.name(), missing.join("; ")),
        (Err(missing), Some(_)) => {
            return Err(Wrong(invoice::no_xml(missing)).into());
        }
    }
    Ok(Exit::Done)
}

fn print_facts(document: &InvoiceDocument, rendered: &RenderedInvoice, kept: &[String]) -> std::io::Result<()> {
    let money = |minor| format!("{} {}", document.currency.format(minor), document.currency);
    let e_invoice = match &rendered.xml {
        Ok(_) if rendered.xml_beside().is_some() => format!("{} (XML beside the PDF)", rendered.e_invoice.name()),
        Ok(_) => format!("{} (XML in the PDF)", rendered.e_invoice.name()),
        Err(missing) => format!("none: {}", missing.join("; ")),
    };
    let facts = [
        ("invoice", document.invoice_number.clone()),
        ("tenant", document.tenant_id.clone()),
        ("payment", format!("{} ({})", document.payment_id, document.status.as_str())),
        ("issued", document.issue_date.to_string()),
        ("due", document.due_date.to_string()),
        ("seller", document.seller.name.clone()),
        ("buyer", document.buyer.name.clone().unwrap_or_default()),
        ("for", document.subject_name.clone()),
        ("period", document.billing_period.to_string()),
        ("lines", document.lines.len().to_string()),
        ("net", money(document.subtotal)),
        (
            "tax",
            format!(
                "{} ({} %, {})",
                money(document.tax_amount),
                format_percent(document.tax_rate_ppm),
                document.tax_treatment.as_str()
            ),
        ),
        ("total", money(document.total)),
        ("language", document.locale.clone()),
        ("e-invoice", e_invoice),
    ];
    let kept = match kept {
        [] => vec![("kept", "not yet: its files are kept when it is sent".to_owned())],
        kept => kept.iter().map(|kept| ("kept", kept.clone())).collect(),
    };
    let rows: Vec<Vec<String>> =
        facts.into_iter().chain(kept).map(|(name, value)| vec![name.to_owned(), value]).collect();
    table::write(&mut std::io::stdout(), &["FACT", "VALUE"], &rows)
}

/// Customers read at a time.
const PAGE_SIZE: i64 = 1_000;

async fn check(app: &App, tenant_id: Option<&str>) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let mut session = store.read().await?;
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut customers = 0;
    let mut after = (String::new(), String::new());
    loop {
        let page = session.list_invoice_parties((tenant_id, None), (&after.0, &after.1), PAGE_SIZE).await?;
        let Some(last) = page.last() else { break };
        after = (last.tenant_id.clone(), last.customer_id.clone());
        customers += page.len();
        rows.extend(page.iter().filter_map(gaps));
    }
    session.end().await;
    if rows.is_empty() {
        eprintln!("all {customers} customers can get e-invoices");
        return Ok(Exit::Done);
    }
    table::write(&mut std::io::stdout(), &["TENANT", "CUSTOMER", "E-INVOICE", "WHAT IS IN THE WAY"], &rows)?;
    eprintln!(
        "{} of {customers} customers get a plain PDF, until what is in the way is mended and imported",
        rows.len()
    );
    Ok(Exit::NeedsPerson)
}

fn gaps(parties: &InvoiceParties) -> Option<Vec<String>> {
    let reasons = refusals(&parties.seller, &parties.buyer, parties.tax_treatment);
    let e_invoice = parties.buyer.e_invoice.as_str().to_owned();
    let row = || vec![parties.tenant_id.clone(), parties.customer_id.clone(), e_invoice, reasons.join("; ")];
    (!reasons.is_empty()).then(row)
}
