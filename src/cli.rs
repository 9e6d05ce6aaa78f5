//! The command line: what people and scripts start.
//!
//! Results go to standard output, messages for people to standard error. The exit status is one of [`Exit`].

mod arrears;
mod backup;
mod config;
mod daemon;
mod demo;
mod doctor;
mod group;
mod healthcheck;
mod help_files;
mod import;
mod invoice;
mod key;
mod mail;
mod outbox;
mod parked;
mod payment;
mod preview;
mod run;
mod runs;
mod serve;
mod table;
mod tenant;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::NaiveDate;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::change::By;
use crate::clock::{self, Clock};
use crate::config::{Config, ConfigErrors, LogFormat, Overrides, Setting};
use crate::documents::DocumentStore;
use crate::domain::calendar::parse_date;
use crate::schedule;
use crate::store::daemon::Machine;
use crate::store::{Opened, Store};
use crate::telemetry::{self, Levels};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All is done; also: nothing was due.
    Done = 0,
    /// Done, but something needs a person.
    NeedsPerson = 3,
    /// `verify` found a violation.
    Violation = 5,
}

/// The command, the configuration or an input is wrong; nothing was changed (exit status 2).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub String);

/// Exit status of a command that could not go on.
const FAILED: u8 = 1;
/// Exit status of a command that was given something wrong.
const WRONG: u8 = 2;

#[derive(Parser)]
#[command(
    name = "billday",
    version,
    about = "Bills rented devices: one consolidated payment per billing group, on its day, exactly once",
    after_help = "Exit status: 0 done, 1 failed (a re-run continues), 2 the command, configuration or an input file is wrong,\n\
                  3 done but something needs a person, 5 verify found a violation.\n\n\
                  Try `billday demo` in an empty folder first.",
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone)]
struct Global {
    /// Configuration file (default: billday.toml in the working directory, if it is there)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Options of every command")]
    config: Option<PathBuf>,
    /// Database: sqlite://FILE or postgres://USER:PASSWORD@HOST/NAME
    #[arg(long, global = true, value_name = "URL", help_heading = "Options of every command")]
    database: Option<String>,
    /// Log lines on standard error as text or json
    #[arg(long, global = true, value_name = "FORMAT", help_heading = "Options of every command")]
    log_format: Option<String>,
    /// How much is logged: error, warn, info, debug, trace
    #[arg(long, global = true, value_name = "LEVEL", help_heading = "Options of every command")]
    log_level: Option<String>,
}

impl Global {
    fn overrides(&self) -> Overrides {
        Overrides {
            database_url: self.database.clone(),
            log_format: self.log_format.clone(),
            log_level: self.log_level.clone(),
        }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Fill an empty database with sample tenants, bill them and show what came of it
    Demo,
    /// Bring in tenants, customers, rentals, groups and past payments from JSON or CSV files
    Import(import::ImportArgs),
    /// Bill what is due: a date, a range, or today and what was missed
    Run(run::RunArgs),
    /// Wake daily, bill what is due and what was missed, send the mails; until it is told to stop
    Daemon(daemon::DaemonArgs),
    /// Audit the whole ledger: nothing twice, nothing missed, sums agree, numbers gapless
    Verify(verify::VerifyArgs),
    /// Subjects that could not be billed, why, and what was decided
    #[command(subcommand)]
    Parked(parked::ParkedCommand),
    /// Gaps in the ledger: withheld ones to confirm, any to waive
    #[command(subcommand)]
    Arrears(arrears::ArrearsCommand),
    /// Invoice mails: waiting, sent, unknown, held, failed, undeliverable
    #[command(subcommand)]
    Outbox(outbox::OutboxCommand),
    /// Try whether mails go out
    #[command(subcommand)]
    Mail(mail::MailCommand),
    /// Invoices: what they say, their PDF and XML, and what e-invoices lack
    #[command(subcommand)]
    Invoice(invoice::InvoiceCommand),
    /// The next invoice of one group or rental, as it would be: planned and drawn, nothing written
    Preview(preview::PreviewArgs),
    /// Past runs and their reports
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Billing groups: list, show, create, update, delete
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Payments: list, show, mark as paid, cancel
    #[command(subcommand)]
    Payment(payment::PaymentCommand),
    /// Tenants and their settings
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Keys of the API: create, list, revoke
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Serve the HTTP API
    Serve(serve::ServeArgs),
    /// Look at clock, database, mail server, permissions and disks, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Copy a SQLite database to a file, while others go on writing
    Backup(backup::BackupArgs),
    /// Ask a running daemon whether it can bill
    Healthcheck(healthcheck::HealthcheckArgs),
    /// The configuration: check it, show it, or print the commented default
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Write manual pages and shell completions
    #[command(hide = true)]
    HelpFiles(help_files::HelpFilesArgs),
}

/// Parses the arguments, runs the command and tells how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match load_config(&cli.global) {
        Ok(config) => run_command(cli, config),
        Err(error) => Err(error),
    };
    match result {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("billday: {}", told_once(&error));
            ExitCode::from(if error.is::<Wrong>() { WRONG } else { FAILED })
        }
    }
}

fn load_config(global: &Global) -> anyhow::Result<Config> {
    Config::load(global.config.as_deref(), std::env::vars_os(), global.overrides()).map_err(wrong_configuration)
}

/// Every setting as it holds, and where it was set.
fn settings(global: &Global) -> anyhow::Result<Vec<Setting>> {
    Config::list(global.config.as_deref(), std::env::vars_os(), global.overrides()).map_err(wrong_configuration)
}

fn wrong_configuration(errors: ConfigErrors) -> anyhow::Error {
    Wrong(format!("the configuration is wrong:\n{errors}")).into()
}

fn run_command(cli: Cli, config: Config) -> anyhow::Result<Exit> {
    let format = match config.log.format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    let levels = telemetry::init(format, &config.log.level)?;
    let clock = clock::from_environment().map_err(|error| Wrong(format!("{error:#}")))?;
    Store::check_url(config.database.url.reveal()).map_err(|error| Wrong(error.to_string()))?;
    let app = App { config, clock, by: who(), global: cli.global, levels };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    // These end what they are at before they stop.
    let stops_by_itself = matches!(cli.command, Command::Daemon(_) | Command::Serve(_));
    let result = runtime.block_on(async {
        tokio::select! {
            result = command(&app, cli.command) => result,
            () = told_to_stop(), if !stops_by_itself => anyhow::bail!(
                "stopped: what was committed stays, and the same command again goes on from there"
            ),
        }
    });
    // What still renders a mail that nobody waits for any more keeps nobody from leaving.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Somebody wants the program to end (Ctrl-C, or SIGTERM). Dropping what runs is safe: a transaction is whole or absent.
async fn told_to_stop() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

async fn command(app: &App, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Demo => demo::demo(app).await,
        Command::Import(args) => import::import(app, args).await,
        Command::Run(args) => run::run(app, args).await,
        Command::Daemon(args) => daemon::daemon(app, args).await,
        Command::Verify(args) => verify::verify(app, args).await,
        Command::Parked(command) => parked::parked(app, command).await,
        Command::Arrears(command) => arrears::arrears(app, command).await,
        Command::Outbox(command) => outbox::outbox(app, command).await,
        Command::Mail(command) => mail::mail(app, command).await,
        Command::Invoice(command) => invoice::invoice(app, command).await,
        Command::Preview(args) => preview::show(app, args).await,
        Command::Runs(command) => runs::runs(app, command).await,
        Command::Group(command) => group::group(app, command).await,
        Command::Payment(command) => payment::payment(app, command).await,
        Command::Key(command) => key::key(app, command).await,
        Command::Serve(args) => serve::serve(app, args).await,
        Command::Tenant(command) => tenant::tenant(app, command).await,
        Command::Doctor(args) => doctor::doctor(app, args).await,
        Command::Backup(args) => backup::backup(app, args).await,
        Command::Healthcheck(args) => healthcheck::healthcheck(args).await,
        Command::Config(command) => config::config(app, command).await,
        Command::HelpFiles(args) => help_files::help_files(&args),
    }
}

/// The whole chain of causes, without those that only repeat what was said.
fn told_once(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !told.contains(&cause) {
            told = if told.is_empty() { cause } else { format!("{told}: {cause}") };
        }
    }
    told
}

/// Somebody who has seen enough (`billday run --format json | head`) is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// What every command needs.
pub(crate) struct App {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    /// Who started the program, for the records of runs and decisions.
    pub by: String,
    /// What the configuration was read by, to read it again.
    global: Global,
    levels: Levels,
}

impl App {
    /// The database, created and migrated if need be; refused while a daemon on another machine works on one of one machine.
    pub async fn store(&self) -> anyhow::Result<Store> {
        let store = self.open_store().await?;
        if let Some(machine) = machine().filter(|_| store.is_of_one_machine()) {
            let since = clock::micros(self.clock.now() - schedule::SEEN_FOR);
            let mut session = store.read().await?;
            let host = session.works_elsewhere(&machine, since).await?;
            session.end().await;
            if let Some(host) = host {
                return Err(Wrong(schedule::elsewhere(&host)).into());
            }
        }
        Ok(store)
    }

    /// The database, for whoever looks later whether another machine works on it.
    pub async fn open_store(&self) -> anyhow::Result<Store> {
        Store::open(self.config.database.url.reveal(), self.config.database.connections).await
    }

    /// The database as it is, or `None` (and a word on standard error) where there is none yet.
    pub async fn store_read_only(&self) -> anyhow::Result<Option<Store>> {
        let database = &self.config.database;
        match Store::open_read_only(database.url.reveal(), database.connections).await? {
            Opened::Store(store) => Ok(Some(store)),
            Opened::Nothing => {
                eprintln!("there is no database at {} yet", self.config.database_url_for_people());
                Ok(None)
            }
        }
    }

    /// Who changes something of a tenant, for the record.
    pub fn by(&self, tenant_id: String) -> By {
        By { tenant_id, actor: "cli".to_owned(), now: self.clock.now() }
    }

    /// Now, as the databases keep it.
    pub fn now_micros(&self) -> i64 {
        clock::micros(self.clock.now())
    }
}

/// Where this program runs, if that can be told: the sandbox of the systemd unit hides the kernel's files, and its unit says it.
fn machine() -> Option<Machine> {
    let line = |path: &str| std::fs::read_to_string(path).ok();
    let kernel = line("/proc/sys/kernel/random/boot_id").or_else(|| std::env::var("BOOT_ID").ok());
    let kernel = kernel.map(|id| id.trim().replace('-', "")).filter(|id| !id.is_empty())?;
    Some(Machine { kernel, host: host() })
}

/// The name of this machine.
fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

fn who() -> String {
    let user = ["USER", "LOGNAME"].into_iter().find_map(std::env::var_os).unwrap_or_else(|| OsString::from("unknown"));
    format!("cli:{}", user.to_string_lossy())
}

/// An argument that is one of a few words, which the help shows.
fn words<T: Clone + Send + Sync + 'static>(
    all: &'static [&'static str],
    parse: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all).try_map(move |word| parse(&word).ok_or_else(|| format!("unknown word {word}")))
}

/// Where documents are kept by these settings.
fn documents(config: &Config) -> anyhow::Result<DocumentStore> {
    DocumentStore::new(&config.documents.store).map_err(|error| Wrong(format!("{error:#}")).into())
}

/// Reads a date argument; the error names the one form that is taken.
fn date_argument(text: &str) -> Result<NaiveDate, String> {
    parse_date(text).ok_or_else(|| "a date is written YYYY-MM-DD, such as 2026-11-15, and must exist".to_owned())
}

/// The one tenant that an id belongs to: the one named, or the only one that has it.
fn one_tenant(named: Option<&str>, having: &[String], what: &str) -> anyhow::Result<String> {
    match (named, having) {
        (Some(tenant), having) if having.iter().any(|t| t == tenant) => Ok(tenant.to_owned()),
        (Some(tenant), _) => Err(Wrong(format!("tenant {tenant} has no {what}")).into()),
        (None, []) => Err(Wrong(format!("no tenant has {what}")).into()),
        (None, [tenant]) => Ok(tenant.clone()),
        (None, several) => {
            Err(Wrong(format!("{what} exists for several tenants ({}): name one with --tenant", several.join(", ")))
                .into())
        }
    }
}
