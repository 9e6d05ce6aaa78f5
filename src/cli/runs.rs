//! `billday runs`: what was run before, and its reports.

use std::collections::BTreeMap;

use clap::Subcommand;

use crate::clock;
use crate::domain::plan::{BadRecord, PlanHasher, Problem, ProblemCode, SkipCode, Withheld};
use crate::domain::report::{PlainInvoices, RunReport, TenantReport};
use crate::domain::{BillingPeriod, Currency, Subject, SubjectKind};
use crate::render::payment::WirePayment;
use crate::render::report::{ReportFormat, ReportWriter};
use crate::render::spool::PaymentSpool;
use crate::store::Session;
use crate::store::payments::PaymentPosition;
use crate::store::runs::{OutcomeRow, RunRow, parse_totals};

use super::{App, Exit, Wrong, run::report_format, table};

#[derive(Subcommand)]
pub(super) enum RunsCommand {
    /// Past runs, latest first
    List {
        /// Only this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// How many at the most
        #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=10_000))]
        limit: i64,
    },
    /// One run's report, from the ledger as it is now
    Show {
        /// As `runs list` shows it
        id: String,
        #[arg(long, value_name = "FORMAT", value_parser = report_format(), default_value = "table")]
        format: ReportFormat,
    },
}

pub(super) async fn runs(app: &App, command: RunsCommand) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let mut session = store.read().await?;
    match command {
        RunsCommand::List { tenant, limit } => list(&mut session, tenant.as_deref(), limit, app.now_micros()).await?,
        RunsCommand::Show { id, format } => show(&mut session, &id, format, app.now_micros()).await?,
    }
    session.end().await;
    Ok(Exit::Done)
}

async fn list(session: &mut Session, tenant: Option<&str>, limit: i64, now: i64) -> anyhow::Result<()> {
    let runs = session.list_runs(tenant, limit).await?;
    if runs.is_empty() {
        eprintln!("there was no run yet");
        return Ok(());
    }
    let heading = [
        "RUN", "TENANT", "DATE", "KIND", "STARTED", "TOOK", "STATE", "BILLED", "ALREADY", "PARKED", "WITHHELD", "TOTAL",
    ];
    let rows: Vec<Vec<String>> = runs.iter().map(|run| row(run, now)).collect();
    Ok(table::write(&mut std::io::stdout(), &heading, &rows)?)
}

fn row(run: &RunRow, now: i64) -> Vec<String> {
    let totals = parse_totals(&run.totals);
    let totals = totals.iter().map(|(code, totals)| match Currency::from_code(code) {
        // Sums of many payments can exceed what one amount may be; then they are told in minor units.
        Some(currency) => i64::try_from(totals.total).map_or_else(
            |_| format!("{} minor units {code}", totals.total),
            |total| format!("{} {code}", currency.format(total)),
        ),
        None => format!("{} {code}", totals.total),
    });
    vec![
        run.run_id.clone(),
        run.tenant_id.clone(),
        run.run_date.to_string(),
        match run.subject.as_ref().or(run.share.as_ref()) {
            Some(part) => format!("{} {part}", run.kind),
            None => run.kind.clone(),
        },
        instant(run.started_at),
        run.finished_at.map_or_else(|| "-".to_owned(), |end| duration(end - run.started_at)),
        state(run, now),
        run.billed.to_string(),
        run.already_billed.to_string(),
        run.parked.to_string(),
        run.withheld.to_string(),
        totals.collect::<Vec<_>>().join(", "),
    ]
}

/// A run writes something every few seconds; one that is silent for longer was cut off.
const SILENT_MICROS: i64 = 60 * 1_000_000;

fn state(run: &RunRow, now: i64) -> String {
    match (&run.error, run.state.as_str()) {
        (Some(error), state) => format!("{state}: {error}"),
        (None, "running") if now - run.beat_at > SILENT_MICROS => {
            format!("interrupted, last sign of life {}", instant(run.beat_at))
        }
        (None, state) => state.to_owned(),
    }
}

fn instant(micros: i64) -> String {
    clock::instant(micros).map_or_else(String::new, |at| at.format("%Y-%m-%d %H:%M:%SZ").to_string())
}

fn duration(micros: i64) -> String {
    format!("{}.{:03} s", micros / 1_000_000, micros / 1_000 % 1_000)
}

async fn show(session: &mut Session, id: &str, format: ReportFormat, now: i64) -> anyhow::Result<()> {
    let runs = session.find_run(id).await?;
    if runs.is_empty() {
        return Err(Wrong(format!("there is no run {id}; `billday runs list` shows them")).into());
    }
    let names: BTreeMap<String, String> = session
        .list_tenants()
        .await?
        .into_iter()
        .map(|(id, tenant)| (id, tenant.map(|t| t.name).unwrap_or_default()))
        .collect();
    let mut tenants = Vec::new();
    let mut spools = Vec::new();
    // Of all tenants together, as the run told it; each tenant's own is on record.
    let mut hasher = PlanHasher::default();
    for run in &runs {
        eprintln!(
            "run {} of tenant {} for {} by {}, {}, {}",
            run.run_id,
            run.tenant_id,
            run.run_date,
            run.requested_by,
            instant(run.started_at),
            state(run, now)
        );
        let mut report = tenant_report(session, run, names.get(&run.tenant_id).cloned().unwrap_or_default()).await?;
        spools.push(payments(session, run, format, &mut hasher, &mut report.plain).await?);
        tenants.push(report);
    }
    let plan_hash = hasher.finish();
    let run_date = runs.first().map(|run| run.run_date);
    let report = RunReport { dry_run: false, plan_hash, run_date, tenants };
    let mut out = std::io::stdout();
    let mut writer = ReportWriter::new(format, &mut out);
    writer.write(&report, &mut spools)?;
    writer.finish()
}

async fn payments(
    session: &mut Session,
    run: &RunRow,
    format: ReportFormat,
    hasher: &mut PlanHasher,
    plain: &mut PlainInvoices,
) -> anyhow::Result<PaymentSpool> {
    let mut spool = format.spool();
    let mut after = PaymentPosition::default();
    loop {
        let page = session.list_run_payments(&run.tenant_id, &run.run_id, run.run_date, &mut after).await?;
        if page.is_empty() {
            return Ok(spool);
        }
        for stored in page {
            hasher.add(&run.tenant_id, &stored.payment);
            plain.count(&stored.payment);
            let created_at = clock::instant(stored.created_at).unwrap_or_default();
            spool.push_with(|| {
                WirePayment::new(&run.tenant_id, &stored.payment, stored.invoice_number.as_deref(), created_at)
            })?;
        }
    }
}

async fn tenant_report(session: &mut Session, run: &RunRow, tenant_name: String) -> anyhow::Result<TenantReport> {
    let unbilled = session.list_unbilled(&run.tenant_id, &run.run_id, run.run_date).await?;
    let mut withheld: Vec<Withheld> = Vec::new();
    for (rental_id, billing_group_id, period) in session.list_withheld_by(&run.tenant_id, &run.run_id).await? {
        let Some(period) = BillingPeriod::parse(&period) else { continue };
        match withheld.last_mut() {
            Some(last) if last.rental_id == rental_id => last.periods.push(period),
            _ => withheld.push(Withheld { rental_id, billing_group_id, periods: vec![period] }),
        }
    }
    Ok(TenantReport {
        tenant_id: run.tenant_id.clone(),
        tenant_name,
        run_date: run.run_date,
        skipped: unbilled.iter().filter_map(skipped).collect(),
        parked: unbilled.iter().filter_map(parked).collect(),
        withheld,
        already_billed: run.already_billed as u64,
        never_charged: run.never_charged as u64,
        totals: parse_totals(&run.totals),
        delivery: session.delivery_of_run(&run.tenant_id, &run.run_id).await?,
        plain: PlainInvoices::default(),
    })
}

fn subject(row: &OutcomeRow) -> Option<Subject> {
    Some(Subject { kind: SubjectKind::parse(&row.subject_kind)?, id: row.subject_id.clone() })
}

fn skipped(row: &OutcomeRow) -> Option<(Subject, SkipCode)> {
    let subject = subject(row)?;
    let code = SkipCode::parse(row.code.as_deref()?)?;
    (row.outcome == "skipped" && subject.kind == SubjectKind::Group).then_some((subject, code))
}

fn parked(row: &OutcomeRow) -> Option<(Subject, Problem)> {
    let code = ProblemCode::parse(row.code.as_deref()?)?;
    let records = serde_json::from_str::<Vec<BTreeMap<String, String>>>(row.records.as_deref()?).unwrap_or_default();
    let records = records
        .into_iter()
        .map(|mut record| BadRecord {
            kind: match record.get("kind").map(String::as_str) {
                Some("customer") => "customer",
                Some("group") => "group",
                _ => "rental",
            },
            id: record.remove("id").unwrap_or_default(),
            field: record.remove("field").unwrap_or_default(),
            value: record.remove("value").unwrap_or_default(),
        })
        .collect();
    (row.outcome == "parked").then_some((subject(row)?, Problem { code, message: row.message.clone()?, records }))
}
