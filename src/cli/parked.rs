//! `billday parked`: subjects that could not be billed, and what a person decides about them.

use std::sync::Arc;

use chrono::NaiveDate;
use clap::{Args, Subcommand};

use crate::domain::SubjectKind;
use crate::run::{DateWork, RunSettings, Schedule, TenantWork};
use crate::store::Store;
use crate::store::parked::{ParkedFilter, ParkedRow};
use crate::store::runs::RunKind;

use super::run::{bill, default_settings};
use super::{App, Exit, Wrong, date_argument, table};

#[derive(Subcommand)]
pub(super) enum ParkedCommand {
    /// What is parked and why
    List {
        /// Only this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Those that ended too, with how
        #[arg(long)]
        all: bool,
    },
    /// Try again: a run for the date it was parked on, of this subject alone
    Retry(Which),
    /// Decide that it is not charged: its periods are waived for ever
    Dismiss {
        #[command(flatten)]
        which: Which,
        /// Why; it is kept with the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Args)]
pub(super) struct Which {
    /// Id of the group or rental; group:ID or rental:ID where both have it
    #[arg(value_name = "SUBJECT")]
    subject: String,
    /// The date it was parked on, if there are several
    #[arg(value_name = "RUN-DATE", value_parser = date_argument)]
    run_date: Option<NaiveDate>,
    /// Its tenant, if several have the id
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

pub(super) async fn parked(app: &App, command: ParkedCommand) -> anyhow::Result<Exit> {
    match command {
        ParkedCommand::List { tenant, all } => list(app, tenant, all).await,
        ParkedCommand::Retry(which) => retry(app, which).await,
        ParkedCommand::Dismiss { which, reason } => dismiss(app, which, reason).await,
    }
}

async fn list(app: &App, tenant_id: Option<String>, all: bool) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let mut session = store.read().await?;
    let parked = session.list_parked(&ParkedFilter { tenant_id, all, ..ParkedFilter::default() }).await?;
    session.end().await;
    if parked.is_empty() {
        eprintln!("nothing is parked");
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = parked.iter().map(row).collect();
    table::write(&mut std::io::stdout(), &["TENANT", "RUN DATE", "SUBJECT", "STATE", "CODE", "WHY"], &rows)?;
    Ok(Exit::Done)
}

fn row(parked: &ParkedRow) -> Vec<String> {
    let state = match (&parked.resolution, &parked.reason) {
        (Some(resolution), Some(reason)) => format!("{resolution}: {reason}"),
        (Some(resolution), None) => resolution.clone(),
        _ => parked.state.clone(),
    };
    vec![
        parked.tenant_id.clone(),
        parked.run_date.to_string(),
        parked.subject().to_string(),
        state,
        parked.code.clone(),
        parked.message.clone(),
    ]
}

async fn retry(app: &App, which: Which) -> anyhow::Result<Exit> {
    let store = app.store().await?;
    let parked = find(&store, which).await?;
    let mut session = store.read().await?;
    let tenants = session.list_tenants().await?;
    session.end().await;
    let tenant = tenants.into_iter().find(|(id, _)| *id == parked.tenant_id).map(|(_, tenant)| tenant);
    let Some(Ok(tenant)) = tenant else {
        return Err(Wrong(format!("the settings of tenant {} cannot be read", parked.tenant_id)).into());
    };
    let work = TenantWork {
        tenant: Arc::new(tenant),
        run_date: parked.run_date,
        kind: RunKind::Retry,
        more_dates_follow: false,
    };
    let dates = vec![DateWork { named_date: Some(parked.run_date), tenants: vec![work] }];
    let settings = RunSettings { only: Some(parked.subject()), ..default_settings(app) };
    let schedule = Schedule { dates, overdue: Vec::new() };
    bill(app, &store, &schedule, settings, true, &mut std::io::stdout()).await
}

async fn dismiss(app: &App, which: Which, reason: String) -> anyhow::Result<Exit> {
    if reason.trim().is_empty() {
        return Err(Wrong("--reason must say why: it is kept for the audit".to_owned()).into());
    }
    let store = app.store().await?;
    let parked = find(&store, which).await?;
    let (by, now) = (app.by.clone(), app.now_micros());
    let charges = parked.charges().len();
    let named = format!("{} of {}", parked.subject(), parked.run_date);
    store.with_tx(move |tx| Box::pin(async move { tx.dismiss_parked(&parked, &reason, &by, now).await })).await?;
    println!("dismissed {named}: {charges} periods are waived");
    Ok(Exit::Done)
}

/// The one open parked subject that is meant.
async fn find(store: &Store, which: Which) -> anyhow::Result<ParkedRow> {
    let (kind, id) = match which.subject.split_once(':') {
        Some(("group", id)) => (Some(SubjectKind::Group), id.to_owned()),
        Some(("rental", id)) => (Some(SubjectKind::Rental), id.to_owned()),
        _ => (None, which.subject.clone()),
    };
    let filter = ParkedFilter { tenant_id: which.tenant, subject_id: Some(id), run_date: which.run_date, all: false };
    let mut session = store.read().await?;
    let mut found = session.list_parked(&filter).await?;
    session.end().await;
    found.retain(|parked| kind.is_none_or(|kind| parked.subject().kind == kind));
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            let on = which.run_date.map(|date| format!(" on {date}")).unwrap_or_default();
            let message =
                format!("{} is not parked{on}; `billday parked list` shows what is, and on which date", which.subject);
            Err(Wrong(message).into())
        }
        _ => {
            let several: Vec<String> =
                found.iter().map(|p| format!("{} on {} (tenant {})", p.subject(), p.run_date, p.tenant_id)).collect();
            let message = format!("{} is parked several times: {}; name the one", which.subject, several.join(", "));
            Err(Wrong(message).into())
        }
    }
}
