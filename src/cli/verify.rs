//! `billday verify`: the audit of the ledger, and its verdict.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::documents::{DocumentFault, DocumentStore};
use crate::store::Session;
use crate::store::verify::{Audit, Finding};

use super::{App, Exit, Wrong};

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Only this tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// How the verdict is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: VerdictFormat,
    /// Also read every kept document and compare it with its hash
    #[arg(long)]
    documents: bool,
    /// Name the checks that passed too; JSON always does
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum VerdictFormat {
    /// For people
    Text,
    /// The schema billday.verify/1, one object
    Json,
}

pub(super) async fn verify(app: &App, args: VerifyArgs) -> anyhow::Result<Exit> {
    // A wrong place must not look like a proof.
    let Some(store) = app.store_read_only().await? else {
        return Err(Wrong("without a database there is nothing to verify".to_owned()).into());
    };
    let mut session = store.read().await?;
    let mut audit = session.audit(args.tenant.as_deref(), app.clock.now()).await?;
    if args.documents {
        audit.add(check_documents(&super::documents(&app.config)?, &mut session, args.tenant.as_deref()).await?);
    }
    session.end().await;
    match &args.tenant {
        Some(tenant) if audit.tenants == 0 => return Err(Wrong(format!("there is no tenant {tenant}")).into()),
        None if audit.tenants == 0 => eprintln!("there is no tenant yet"),
        _ => {}
    }
    let mut out = std::io::stdout().lock();
    match args.format {
        VerdictFormat::Text => write_text(&audit, args.verbose, &mut out)?,
        VerdictFormat::Json => writeln!(out, "{}", to_json(&audit))?,
    }
    Ok(if audit.violations.is_empty() { Exit::Done } else { Exit::Violation })
}

/// Documents read from the database at a time.
const PAGE_SIZE: i64 = 1_000;

/// Compares all kept documents with their hashes; an error means that they cannot be read at all now.
async fn check_documents(
    documents: &DocumentStore,
    session: &mut Session,
    tenant_id: Option<&str>,
) -> anyhow::Result<Finding> {
    let mut finding = Finding::new("document_differs", "each kept document is where it was put, and as it was sent");
    let mut after = None;
    loop {
        let page = session.list_documents(tenant_id, after.as_ref(), PAGE_SIZE).await?;
        for kept in &page {
            match documents.get(kept).await {
                Err(DocumentFault::Lost(why)) => {
                    finding.note(|| format!("tenant {}: payment {}, {why}", kept.tenant_id, kept.payment_id));
                }
                found => {
                    found?;
                }
            }
        }
        match page.into_iter().next_back() {
            Some(last) => after = Some(last),
            None => return Ok(finding),
        }
    }
}

fn write_text(audit: &Audit, verbose: bool, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "Looked at {}, {}, {}, {} and {}.\n",
        counted(audit.tenants, "tenant"),
        counted(audit.payments, "payment"),
        counted(audit.lines, "line"),
        counted(audit.completed_dates, "completed date"),
        counted(audit.outcomes, "outcome"),
    )?;
    let hint = if verbose { "" } else { " (--verbose names them)" };
    writeln!(out, "{} passed{hint}.", counted(audit.passed.len() as i64, "check"))?;
    for passed in audit.passed.iter().filter(|_| verbose) {
        writeln!(out, "OK        {}", passed.what)?;
    }
    if !audit.violations.is_empty() {
        writeln!(out)?;
    }
    for violation in &audit.violations {
        writeln!(out, "VIOLATED  {}", violation.what)?;
        write_rows(violation, out)?;
    }
    if !audit.information.is_empty() {
        writeln!(out, "\nFor your information:")?;
    }
    for information in &audit.information {
        writeln!(out, "          {}", information.what)?;
        write_rows(information, out)?;
    }
    writeln!(out, "\n{}", verdict(audit))
}

/// The last line; it claims no more than was proved.
fn verdict(audit: &Audit) -> String {
    match (audit.violations.len(), audit.dates_not_provable()) {
        (0, 0) => "Proved: nothing twice, nothing missed, sums agree, numbers are gapless.".to_owned(),
        (0, dates) => format!(
            "Proved: nothing twice, sums agree, numbers are gapless; nothing missed on the dates that can still be proved \
             ({dates} cannot: see above)."
        ),
        (violated, _) => format!(
            "REFUTED: {violated} of {} checks are violated. The ledger needs a person before anything else is billed.",
            violated + audit.passed.len()
        ),
    }
}

fn write_rows(finding: &Finding, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "            {} ({})", finding.count, finding.check)?;
    for row in &finding.rows {
        // An id may hold anything; a terminal must not obey it.
        let row: String = row.chars().filter(|c| !c.is_control()).collect();
        writeln!(out, "            {row}")?;
    }
    match finding.count - finding.rows.len() as u64 {
        0 => Ok(()),
        more => writeln!(out, "            and {more} more"),
    }
}

fn counted(count: i64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn to_json(audit: &Audit) -> Value {
    let passed: Vec<Value> =
        audit.passed.iter().map(|passed| json!({ "check": passed.check, "what": passed.what })).collect();
    json!({
        "schema": "billday.verify/1",
        "proved": audit.violations.is_empty(),
        "datesNotProvable": audit.dates_not_provable(),
        "lookedAt": {
            "tenants": audit.tenants,
            "payments": audit.payments,
            "lines": audit.lines,
            "completedDates": audit.completed_dates,
            "outcomes": audit.outcomes,
        },
        "passed": passed,
        "violations": findings(&audit.violations),
        "information": findings(&audit.information),
    })
}

fn findings(findings: &[Finding]) -> Vec<Value> {
    findings.iter().map(|f| json!({ "check": f.check, "what": f.what, "count": f.count, "rows": f.rows })).collect()
}
