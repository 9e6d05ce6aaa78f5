//! `billday run`, and the way that retries and the demo share with it.

use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use chrono::NaiveDate;
use clap::Args;
use clap::builder::TypedValueParser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::domain::{Tenant, timekeeping};
use crate::render::report::{ReportFormat, ReportWriter};
use crate::run::{DateOutcome, Dates, Progress, Refused, RunSettings, Runner, Schedule, Unwatched, read_clock};
use crate::store::Store;

use super::{App, Exit, Wrong, date_argument, words};

#[derive(Args)]
pub(super) struct RunArgs {
    /// The date to bill, YYYY-MM-DD; without dates: each tenant's today and what it missed
    #[arg(long, value_name = "DATE", value_parser = date_argument, conflicts_with_all = ["from", "to"])]
    run_date: Option<NaiveDate>,
    /// First date of a range
    #[arg(long, value_name = "DATE", value_parser = date_argument, requires = "to")]
    from: Option<NaiveDate>,
    /// Last date of a range, included
    #[arg(long, value_name = "DATE", value_parser = date_argument, requires = "from")]
    to: Option<NaiveDate>,
    /// Report what would be billed and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Only this tenant (may be repeated)
    #[arg(long, value_name = "ID")]
    tenant: Vec<String>,
    /// How the report is written
    #[arg(long, value_name = "FORMAT", value_parser = report_format(), default_value = "table")]
    format: ReportFormat,
    /// Write the report to a file; standard output stays empty
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Bill only if the plan has this hash, as a dry run printed it; else exit with 3 and write nothing
    #[arg(long, value_name = "HASH", conflicts_with_all = ["from", "to"])]
    expect_plan: Option<String>,
    /// Leave the mails in the outbox
    #[arg(long)]
    no_send: bool,
    /// The clock that says what today is is right, although it stands before the last work on the ledger or more than a year after it
    #[arg(long, conflicts_with_all = ["run_date", "from", "to"])]
    accept_clock: bool,
}

/// Shows in the help which formats there are.
pub(super) fn report_format() -> impl TypedValueParser<Value = ReportFormat> {
    words(ReportFormat::WORDS, ReportFormat::parse)
}

pub(super) async fn run(app: &App, args: RunArgs) -> anyhow::Result<Exit> {
    let dates = match (args.run_date, args.from.zip(args.to)) {
        (Some(date), _) => Dates::On(date),
        (None, Some((from, to))) => Dates::Range(from, to),
        (None, None) => Dates::TodayAndMissed,
    };
    let mut output = Output::open(args.output.as_deref())?;
    let store = if args.dry_run { app.store_read_only().await? } else { Some(app.store().await?) };
    let Some(store) = store else { return output.keep(Exit::Done) };
    let tenants = select_tenants(&store, &args.tenant).await?;
    if tenants.found.is_empty() && tenants.broken == 0 {
        eprintln!("there is no tenant yet: bring some in with `billday import`");
        return output.keep(Exit::Done);
    }
    if matches!(dates, Dates::TodayAndMissed) {
        believe_clock(app, &store, args.accept_clock, args.dry_run).await?;
    }
    let schedule = plan_dates(app, &store, &tenants.found, dates, args.dry_run).await?;
    let settings = RunSettings {
        dry_run: args.dry_run,
        expected_plan: args.expect_plan,
        format: args.format,
        ..default_settings(app)
    };
    if !is_expected(app, &store, &schedule, &settings).await? {
        return Ok(Exit::NeedsPerson);
    }
    let exit = bill(app, &store, &schedule, settings, !args.no_send, output.writer()).await?;
    store.close().await;
    // The others were billed: their report is kept.
    let exit = output.keep(exit)?;
    if tenants.broken > 0 {
        anyhow::bail!("{} of the tenants could not be run, see above", tenants.broken);
    }
    Ok(exit)
}

/// How a run is made when nothing else was said.
pub(super) fn default_settings(app: &App) -> RunSettings {
    RunSettings {
        dry_run: false,
        batch_rentals: app.config.run.batch_rentals as usize,
        requested_by: app.by.clone(),
        only: None,
        expected_plan: None,
        format: ReportFormat::Table,
    }
}

/// Runs the dates one after the other, sends the mails of each, and writes their reports.
pub(super) async fn bill(
    app: &App,
    store: &Store,
    schedule: &Schedule,
    settings: RunSettings,
    send: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let dry_run = settings.dry_run;
    let bar = Bar::on_terminal();
    let progress: &dyn Progress = bar.as_ref().map_or(&Unwatched, |bar| bar);
    let mut writer = ReportWriter::new(settings.format, out);
    let mut runner = Runner::new(store, &*app.clock, progress, settings);
    let (mut exit, mut anything_due) = (Exit::Done, false);
    for work in &schedule.dates {
        let outcome = runner.run_date(work).await;
        bar.iter().for_each(Bar::clear);
        let DateOutcome { mut report, mut payments, run_id } = outcome?;
        if !dry_run {
            if send {
                super::outbox::send_waiting(app, store).await?;
            }
            let mut session = store.read().await?;
            for tenant in &mut report.tenants {
                tenant.delivery = session.delivery_of_run(&tenant.tenant_id, &run_id).await?;
            }
            session.end().await;
        }
        anything_due |= report.tenants.iter().any(|tenant| !tenant.nothing_was_due());
        if report.needs_a_person() {
            exit = Exit::NeedsPerson;
        }
        writer.write(&report, &mut payments)?;
    }
    writer.finish()?;
    if !anything_due {
        eprintln!("nothing was due");
    }
    Ok(exit)
}

/// The tenants that a command is for.
struct Selected {
    found: Vec<Arc<Tenant>>,
    /// Tenants whose own settings cannot be read; each was named on standard error.
    broken: usize,
}

async fn select_tenants(store: &Store, wanted: &[String]) -> anyhow::Result<Selected> {
    let mut session = store.read().await?;
    let all = session.list_tenants().await?;
    session.end().await;
    if let Some(unknown) = wanted.iter().find(|id| !all.iter().any(|(tenant_id, _)| tenant_id == *id)) {
        let known: Vec<&str> = all.iter().map(|(id, _)| id.as_str()).take(10).collect();
        return Err(Wrong(format!("there is no tenant {unknown}; there are: {}", known.join(", "))).into());
    }
    let mut selected = Selected { found: Vec::new(), broken: 0 };
    for (tenant_id, tenant) in all {
        if !wanted.is_empty() && !wanted.contains(&tenant_id) {
            continue;
        }
        match tenant {
            Ok(tenant) => selected.found.push(Arc::new(tenant)),
            Err(bad) => {
                eprintln!("tenant {tenant_id} cannot be run: its {} is '{}'", bad.field, bad.value);
                selected.broken += 1;
            }
        }
    }
    Ok(selected)
}

/// Refuses to take a clock's word for what today is that the daemon would not take, and notes that there was work by this one.
async fn believe_clock(app: &App, store: &Store, accept: bool, dry_run: bool) -> anyhow::Result<()> {
    let reading = read_clock(store, &*app.clock, accept).await?;
    if let Some(alarm) = timekeeping::check(&reading, None) {
        return Err(Wrong(format!("nothing is billed: {alarm}")).into());
    }
    if !dry_run {
        store.with_tx(move |tx| Box::pin(tx.see(reading.wall, accept))).await?;
    }
    Ok(())
}

/// The dates to run; what is too old to be caught up is told at once, with the command that bills it (rule 19).
async fn plan_dates(
    app: &App,
    store: &Store,
    tenants: &[Arc<Tenant>],
    dates: Dates,
    dry_run: bool,
) -> anyhow::Result<Schedule> {
    let mut session = store.read().await?;
    let schedule = Schedule::new(tenants, dates, dry_run, app.clock.now(), &mut session).await;
    session.end().await;
    let schedule = schedule.map_err(|refused| match refused {
        Refused::Store(error) => anyhow::Error::new(error),
        refused => Wrong(refused.to_string()).into(),
    })?;
    for overdue in &schedule.overdue {
        eprintln!(
            "WARNING: tenant {id} has {count} dates between {first} and {last} that were never run and are too old to be \
             caught up. What they leave is charged as arrears on the next billing dates; to bill them as of their own dates: \
             billday run --tenant {id} --from {first} --to {last}",
            id = overdue.tenant_id,
            count = overdue.count,
            first = overdue.first,
            last = overdue.last,
        );
    }
    Ok(schedule)
}

/// Whether the plan is the one that the user has seen; all of it is hashed before anything is written.
///
/// A run with the same expected plan that was interrupted is part of it, and may be continued.
async fn is_expected(app: &App, store: &Store, schedule: &Schedule, settings: &RunSettings) -> anyhow::Result<bool> {
    let Some(expected) = &settings.expected_plan else { return Ok(true) };
    let [work] = &schedule.dates[..] else {
        let message = "several dates have to be caught up, each with a plan of its own: --expect-plan needs --run-date";
        return Err(Wrong(message.to_owned()).into());
    };
    let mut session = store.read().await?;
    let mut completed = Vec::new();
    for tenant in &work.tenants {
        completed.push(session.completed_with_plan(&tenant.tenant.tenant_id, tenant.run_date, expected).await?);
    }
    session.end().await;
    let (begun, all_completed) = (completed.iter().any(Option::is_some), completed.iter().all(|c| *c == Some(true)));
    if begun && !all_completed {
        return Ok(true);
    }
    let look = RunSettings { dry_run: true, format: ReportFormat::Table, ..settings.clone() };
    let found = Runner::new(store, &*app.clock, &Unwatched, look).run_date(work).await?.report.plan_hash;
    if found != *expected {
        eprintln!(
            "the plan has changed: it is {found}, not {expected}; nothing was written. Look at it with --dry-run"
        );
    }
    Ok(found == *expected)
}

/// Where the report goes: standard output, a device or pipe, or a file that appears only when it is whole.
enum Output {
    Stdout(Patient),
    Device(std::fs::File),
    File(PathBuf, tempfile::NamedTempFile),
}

impl Output {
    /// Opens it before anything is done, so that an unwritable place costs nothing.
    fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout(Patient::default())) };
        let refused = |why: String| Wrong(format!("the report cannot be written to {}: {why}", path.display()));
        // What a link leads to is written, not the link.
        let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let present = std::fs::metadata(&place).ok();
        match &present {
            Some(file) if file.is_dir() => return Err(refused("it is a folder".to_owned()).into()),
            Some(file) if !file.is_file() => {
                let device = std::fs::OpenOptions::new().write(true).open(&place);
                return Ok(Self::Device(device.map_err(|error| refused(error.to_string()))?));
            }
            _ => {}
        }
        let folder = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(refused(format!("there is no folder {}", folder.display())).into());
        }
        // A new file is as open as any that a program makes; one that was there stays as it was.
        let permissions = present.map_or_else(|| PermissionsExt::from_mode(0o666), |file| file.permissions());
        let temporary = tempfile::Builder::new().permissions(permissions).tempfile_in(folder);
        let temporary = temporary.map_err(|error| refused(error.kind().to_string()))?;
        Ok(Self::File(place, temporary))
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Stdout(stdout) => stdout,
            Self::Device(device) => device,
            Self::File(_, file) => file,
        }
    }

    /// Lets the whole report appear, and points to what in it needs a person: nobody may look at a file.
    fn keep(self, exit: Exit) -> anyhow::Result<Exit> {
        match self {
            Self::Stdout(_) | Self::Device(_) => {}
            Self::File(path, file) => {
                file.persist(&path).with_context(|| format!("the report cannot be written to {}", path.display()))?;
                if exit == Exit::NeedsPerson {
                    eprintln!("something needs a person: see {}", path.display());
                }
            }
        }
        Ok(exit)
    }
}

/// Standard output, which may be closed by somebody who has seen enough (`| head`): billing goes on all the same.
#[derive(Default)]
struct Patient {
    closed: bool,
}

impl Patient {
    fn forgive<T>(&mut self, result: std::io::Result<T>, instead: T) -> std::io::Result<T> {
        match result {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(instead)
            }
            result => result,
        }
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        self.forgive(std::io::stdout().write(bytes), bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.forgive(std::io::stdout().flush(), ())
    }
}

/// A progress bar on standard error.
struct Bar(Mutex<ProgressBar>);

impl Bar {
    /// Only a terminal gets one.
    fn on_terminal() -> Option<Self> {
        std::io::stderr().is_terminal().then(|| Self(Mutex::new(ProgressBar::hidden())))
    }

    fn bar(&self) -> ProgressBar {
        self.0.lock().map(|bar| bar.clone()).unwrap_or_else(|_| ProgressBar::hidden())
    }

    fn clear(&self) {
        self.bar().finish_and_clear();
    }
}

impl Progress for Bar {
    fn is_watched(&self) -> bool {
        true
    }

    fn begin(&self, tenant_id: &str, run_date: NaiveDate, due: u64) {
        self.clear();
        let style = ProgressStyle::with_template("{msg} [{bar:20}] {pos}/{len}, {eta} left");
        let bar = ProgressBar::new(due).with_message(format!("{tenant_id} {run_date}"));
        if let Ok(mut shown) = self.0.lock() {
            *shown = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
    }

    fn advance(&self, subjects: u64) {
        self.bar().inc(subjects);
    }
}
