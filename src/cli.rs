//! The command line: what people and scripts start.
//!
//! Results go to standard output, messages for people to standard error. The exit status is one of [`Exit`].

mod arrears;
mod config;
mod demo;
mod group;
mod import;
mod invoice;
mod outbox;
mod parked;
mod run;
mod runs;
mod table;
mod tenant;
mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use chrono::NaiveDate;
use clap::{Args, Parser, Subcommand};

use crate::clock::{self, Clock};
use crate::config::{Config, LogFormat, Overrides};
use crate::domain::calendar::parse_date;
use crate::store::{Opened, Store};
use crate::telemetry;

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
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Database: sqlite://FILE or postgres://USER:PASSWORD@HOST/NAME
    #[arg(long, global = true, value_name = "URL")]
    database: Option<String>,
    /// Log lines on standard error as text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// How much is logged: error, warn, info, debug, trace
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Fill an empty database with sample tenants, bill them and show what came of it
    Demo,
    /// Bring in tenants, customers, rentals, groups and past payments from JSON or CSV files
    Import(import::ImportArgs),
    /// Bill what is due: a date, a range, or today and what was missed
    Run(run::RunArgs),
    /// Audit the whole ledger: nothing twice, nothing missed, sums agree, numbers gapless
    Verify(verify::VerifyArgs),
    /// Subjects that could not be billed, why, and what was decided
    #[command(subcommand)]
    Parked(parked::ParkedCommand),
    /// Gaps in the ledger: withheld ones to confirm, any to waive
    #[command(subcommand)]
    Arrears(arrears::ArrearsCommand),
    /// Invoice mails: waiting, sent, failed, undeliverable
    #[command(subcommand)]
    Outbox(outbox::OutboxCommand),
    /// Invoices: what they say, their PDF and XML, and what e-invoices lack
    #[command(subcommand)]
    Invoice(invoice::InvoiceCommand),
    /// Past runs and their reports
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// Billing groups: list, show, delete
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// Tenants and their settings
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// The configuration: check it, or print the commented default
    #[command(subcommand)]
    Config(config::ConfigCommand),
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
            eprintln!("billday: {error:#}");
            ExitCode::from(if error.is::<Wrong>() { WRONG } else { FAILED })
        }
    }
}

fn load_config(global: &Global) -> anyhow::Result<Config> {
    let flags = Overrides {
        database_url: global.database.clone(),
        log_format: global.log_format.clone(),
        log_level: global.log_level.clone(),
    };
    Config::load(global.config.as_deref(), std::env::vars_os(), flags)
        .map_err(|errors| Wrong(format!("the configuration is wrong:\n{errors}")).into())
}

fn run_command(cli: Cli, config: Config) -> anyhow::Result<Exit> {
    let format = match config.log.format {
        LogFormat::Text => telemetry::Format::Text,
        LogFormat::Json => telemetry::Format::Json,
    };
    telemetry::init(format, &config.log.level)?;
    let app = App { config, clock: clock::from_environment()?, by: who() };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        match cli.command {
            Command::Demo => demo::demo(&app).await,
            Command::Import(args) => import::import(&app, args).await,
            Command::Run(args) => run::run(&app, args).await,
            Command::Verify(args) => verify::verify(&app, args).await,
            Command::Parked(command) => parked::parked(&app, command).await,
            Command::Arrears(command) => arrears::arrears(&app, command).await,
            Command::Outbox(command) => outbox::outbox(&app, command).await,
            Command::Invoice(command) => invoice::invoice(&app, command).await,
            Command::Runs(command) => runs::runs(&app, command).await,
            Command::Group(command) => group::group(&app, command).await,
            Command::Tenant(command) => tenant::tenant(&app, command).await,
            Command::Config(command) => config::config(&app, command).await,
        }
    })
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
    pub clock: Box<dyn Clock + Send + Sync>,
    /// Who started the program, for the records of runs and decisions.
    pub by: String,
}

impl App {
    /// The database, created and migrated if need be.
    pub async fn store(&self) -> anyhow::Result<Store> {
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

    /// Now, as the databases keep it.
    pub fn now_micros(&self) -> i64 {
        clock::micros(self.clock.now())
    }
}

fn who() -> String {
    let user = ["USER", "LOGNAME"].into_iter().find_map(std::env::var_os).unwrap_or_else(|| OsString::from("unknown"));
    format!("cli:{}", user.to_string_lossy())
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
