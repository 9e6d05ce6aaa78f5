//! The report of runs that are over, read from the ledger as it is now.

use std::collections::BTreeMap;

use crate::clock;
use crate::domain::plan::{BadRecord, PlanHasher, Problem, ProblemCode, SkipCode, Withheld};
use crate::domain::report::{PlainInvoices, RunReport, TenantReport};
use crate::domain::{BillingPeriod, Subject, SubjectKind};
use crate::render::payment::WirePayment;
use crate::render::report::ReportFormat;
use crate::render::spool::PaymentSpool;
use crate::store::Session;
use crate::store::payments::PaymentPosition;
use crate::store::runs::{OutcomeRow, RunRow, parse_totals};

/// The report of some runs together, in their order, each with its payments; it names a date if they all have the same.
pub async fn read_report(
    session: &mut Session,
    runs: &[RunRow],
    format: ReportFormat,
) -> anyhow::Result<(RunReport, Vec<PaymentSpool>)> {
    let names: BTreeMap<String, String> = session
        .list_tenants()
        .await?
        .into_iter()
        .map(|(id, tenant)| (id, tenant.map(|t| t.name).unwrap_or_default()))
        .collect();
    let (mut tenants, mut spools) = (Vec::new(), Vec::new());
    // Of all tenants together, as the run told it; each tenant's own is on record.
    let mut hasher = PlanHasher::default();
    for run in runs {
        let mut report = tenant_report(session, run, names.get(&run.tenant_id).cloned().unwrap_or_default()).await?;
        spools.push(payments(session, run, format, &mut hasher, &mut report.plain).await?);
        tenants.push(report);
    }
    let run_date = runs.first().map(|run| run.run_date).filter(|date| runs.iter().all(|run| run.run_date == *date));
    Ok((RunReport { dry_run: false, plan_hash: hasher.finish(), run_date, tenants }, spools))
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
