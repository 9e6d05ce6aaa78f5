//! `billday runs`: what was run before, and its reports.

use clap::Subcommand;

use crate::clock;
use crate::domain::Currency;
use crate::render::report::{ReportFormat, ReportWriter};
use crate::run::past::read_report;
use crate::store::Session;
use crate::store::runs::{RunRow, parse_totals};

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

fn state(run: &RunRow, now: i64) -> String {
    match (&run.error, run.state.as_str()) {
        (Some(error), state) => format!("{state}: {error}"),
        (None, _) if run.is_silent(now) => {
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
    }
    if let Some(pause) = session.find_pause().await? {
        eprintln!("{}", super::outbox::paused(&pause));
    }
    let (report, mut spools) = read_report(session, &runs, format).await?;
    let mut out = std::io::stdout();
    let mut writer = ReportWriter::new(format, &mut out);
    writer.write(&report, &mut spools)?;
    writer.finish()
}
