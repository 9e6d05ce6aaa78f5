//! The settings: read once at the start, checked whole, then trusted.
//!
//! ```text
//! flags  >  environment  >  file  >  defaults
//! ```
//!
//! One list, `KEYS`, says which settings exist and what each takes; the file, the environment, the hints at the nearest
//! name and the test of `config/default.toml` all follow it. Everything given is checked, also what something stronger
//! overrides, and all problems are told together. A secret is never part of a message.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{error, fmt};

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use tracing_subscriber::EnvFilter;

use crate::domain::message::WhenUnknown;

/// The commented default, as `billday config default` prints it.
pub const DEFAULT_TOML: &str = include_str!("../config/default.toml");

/// The file that is read if none is named and it is there.
const DEFAULT_FILE: &str = "billday.toml";

/// Every setting, checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    pub database: Database,
    pub log: Log,
    pub mail: Mail,
    pub documents: Documents,
    pub run: Run,
    pub api: Api,
    pub daemon: Daemon,
}

/// Where the ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    pub url: DatabaseUrl,
    /// Connections to PostgreSQL at most.
    pub connections: u32,
}

/// What is told on standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or levels by part of the program, as tracing's `EnvFilter` reads them.
    pub level: String,
}

/// How invoices leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    pub transport: MailTransport,
    pub folder: PathBuf,
    pub from: String,
    pub message_id_domain: String,
    pub host: String,
    pub port: u16,
    pub security: MailSecurity,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// The only authority that the mail server's certificate is trusted from.
    pub ca_file: Option<PathBuf>,
    /// How this machine introduces itself; without it as the domain of `from`.
    pub hello_name: Option<String>,
    pub connections: u32,
    pub messages_per_connection: u32,
    /// Mails that one process sends in a minute at most; 0 for any number.
    pub per_minute: u32,
    pub when_unknown: WhenUnknown,
    /// Who gets all mails, on trial.
    pub redirect_to: Option<String>,
    /// The folder of the operator's own templates; it need not be there.
    pub templates: PathBuf,
}

/// Where the documents of invoices are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Documents {
    /// A folder, or the URL of a bucket; `documents::DocumentStore` reads it.
    pub store: String,
}

/// How a run works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Rentals that one transaction holds at most; a group is never split.
    pub batch_rentals: u32,
    /// Rentals in each part of a date that several daemons share.
    pub share_rentals: u32,
}

/// How the daemon tells others of its work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Daemon {
    /// Called when a day's work is done; often holds a secret.
    pub heartbeat_url: Option<Secret>,
    /// Who gets the daily summary.
    pub summary_to: Option<String>,
}

/// How the HTTP API serves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Api {
    /// Something in front of it encrypts what leaves the machine.
    pub behind_proxy: bool,
    /// For one key; 0 sets no limit.
    pub requests_per_minute: u32,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

crate::domain::words!(LogFormat { Text = "text", Json = "json" });

/// Where mails go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTransport {
    /// To a mail server.
    Smtp,
    /// Each mail becomes a file.
    Folder,
    /// Mails stay waiting.
    None,
}

crate::domain::words!(MailTransport { Smtp = "smtp", Folder = "folder", None = "none" });

/// How the line to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailSecurity {
    /// Encrypted after a first exchange in clear, or not used at all.
    StartTls,
    /// Encrypted from the first byte.
    Tls,
    /// In clear; only to this machine itself.
    None,
}

crate::domain::words!(MailSecurity { StartTls = "startTls", Tls = "tls", None = "none" });

/// A text that is never printed; only [`reveal`](Self::reveal) tells it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Default for Database {
    fn default() -> Self {
        Self { url: DatabaseUrl("sqlite://billday.db".into()), connections: 4 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            transport: MailTransport::Folder,
            folder: "mail".into(),
            from: "invoices@localhost".into(),
            message_id_domain: "billday.invalid".into(),
            host: "localhost".into(),
            port: 587,
            security: MailSecurity::StartTls,
            user: None,
            password: None,
            ca_file: None,
            hello_name: None,
            connections: 4,
            messages_per_connection: 50,
            per_minute: 0,
            when_unknown: WhenUnknown::Resend,
            redirect_to: None,
            templates: "templates".into(),
        }
    }
}

impl Default for Documents {
    fn default() -> Self {
        Self { store: "documents".into() }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self { batch_rentals: 2000, share_rentals: 20_000 }
    }
}

/// A database URL whose password only [`reveal`](Self::reveal) tells; it prints as `postgres://user:***@host/db`.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

/// Parameters of a database URL that may be shown; any other could be a secret.
const PARAMETERS_TO_SHOW: [&str; 6] = ["sslmode", "host", "port", "user", "dbname", "application_name"];

impl DatabaseUrl {
    /// The whole URL, password included, for the one who connects.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://").filter(|(scheme, _)| *scheme != "sqlite") else {
            return f.write_str(&self.0);
        };
        write!(f, "{scheme}://")?;
        // The last `@` of all, for a password may hold `@`, `/` and `?` that nobody encoded: rather too little than too much.
        let place = match rest.rsplit_once('@') {
            Some((user, place)) => {
                match user.split_once(':') {
                    Some((name, _)) => write!(f, "{name}:***@")?,
                    None => write!(f, "{user}@")?,
                }
                place
            }
            None => rest,
        };
        let Some((place, parameters)) = place.split_once('?') else { return f.write_str(place) };
        f.write_str(place)?;
        for (n, parameter) in parameters.split('&').enumerate() {
            let name = parameter.split('=').next().unwrap_or_default();
            f.write_str(if n == 0 { "?" } else { "&" })?;
            if PARAMETERS_TO_SHOW.contains(&name) { f.write_str(parameter)? } else { write!(f, "{name}=***")? }
        }
        Ok(())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// What the command line says; it wins over everything. Without `Debug`, for the URL can hold a password.
#[derive(Clone, Default)]
pub struct Overrides {
    /// `--database`
    pub database_url: Option<String>,
    /// `--log-format`
    pub log_format: Option<String>,
    /// `--log-level`
    pub log_level: Option<String>,
}

impl Config {
    /// Reads all settings: `file`, or `billday.toml` in the working directory if it is there, then `env`, then `flags`.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Overrides,
    ) -> Result<Self, ConfigErrors> {
        Self::load_beside(Path::new(DEFAULT_FILE), file, env, flags)
    }

    /// Every setting as it holds, in the order of the default file, with where it was set.
    pub fn list(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Overrides,
    ) -> Result<Vec<Setting>, ConfigErrors> {
        let mut defaults = Reading::default();
        defaults.file(Path::new("default.toml"), DEFAULT_TOML);
        let mut set = Reading::read(Path::new(DEFAULT_FILE), file, env, flags)?.set;
        let list = KEYS.iter().map(|key| match (set.remove(key.name), defaults.set.remove(key.name)) {
            (Some((origin, value)), _) => Setting { key: key.name, value: Some(value), origin: Some(origin) },
            (None, default) => Setting { key: key.name, value: default.map(|(_, value)| value), origin: None },
        });
        Ok(list.collect())
    }

    /// The database for messages and logs: without its password.
    pub fn database_url_for_people(&self) -> String {
        self.database.url.to_string()
    }

    /// [`load`](Self::load) with the name of the file that may be absent.
    fn load_beside(
        default_file: &Path,
        file: Option<&Path>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Overrides,
    ) -> Result<Self, ConfigErrors> {
        Reading::read(default_file, file, env, flags).map(|reading| reading.config)
    }
}

/// One setting as it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As the file nests it, joined by a dot.
    pub key: &'static str,
    /// As the file writes it, a secret as `***`; `None` if nothing is set and there is no default.
    pub value: Option<String>,
    /// Where it was set; `None` for a default.
    pub origin: Option<Origin>,
}

/// All that is wrong with the settings; prints one problem a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// At least one, in the order file, environment, flags.
    pub fn problems(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl error::Error for ConfigErrors {}

/// One setting that is wrong, why, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The key as the file writes it, such as `log.level`; empty if the whole source is wrong.
    pub key: String,
    pub message: String,
    pub origin: Origin,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A file, and the line if one line is at fault.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A setting that exists.
struct Key {
    /// As the file nests it, joined by a dot.
    name: &'static str,
    /// Its value may come from a file of its own (`…_FILE`) and is in no message.
    secret: bool,
    /// Puts a value where it belongs, or says what would be right: "should be …".
    set: fn(&mut Config, Value<'_>) -> Result<(), String>,
}

/// Every setting that exists.
#[rustfmt::skip] // one line, one setting
const KEYS: [Key; 28] = [
    Key { name: "database.url", secret: true, set: |c, v| put(&mut c.database.url, v.database_url()) },
    Key { name: "database.connections", secret: false, set: |c, v| put(&mut c.database.connections, v.whole(2, 100)) },
    Key { name: "log.format", secret: false, set: |c, v| put(&mut c.log.format, v.word(LogFormat::WORDS, LogFormat::parse)) },
    Key { name: "log.level", secret: false, set: |c, v| put(&mut c.log.level, v.level()) },
    Key { name: "mail.transport", secret: false, set: |c, v| put(&mut c.mail.transport, v.word(MailTransport::WORDS, MailTransport::parse)) },
    Key { name: "mail.folder", secret: false, set: |c, v| put(&mut c.mail.folder, v.path("the path of a folder")) },
    Key { name: "mail.from", secret: false, set: |c, v| put(&mut c.mail.from, v.address()) },
    Key { name: "mail.messageIdDomain", secret: false, set: |c, v| put(&mut c.mail.message_id_domain, v.domain()) },
    Key { name: "mail.host", secret: false, set: |c, v| put(&mut c.mail.host, v.host()) },
    Key { name: "mail.port", secret: false, set: |c, v| put(&mut c.mail.port, v.whole(1, 65_535).map(|port| port as u16)) },
    Key { name: "mail.security", secret: false, set: |c, v| put(&mut c.mail.security, v.word(MailSecurity::WORDS, MailSecurity::parse)) },
    Key { name: "mail.user", secret: false, set: |c, v| put(&mut c.mail.user, v.words_alone("the user at the mail server").map(Some)) },
    Key { name: "mail.password", secret: true, set: |c, v| put(&mut c.mail.password, v.words_alone("the password of mail.user").map(Secret).map(Some)) },
    Key { name: "mail.caFile", secret: false, set: |c, v| put(&mut c.mail.ca_file, v.path("the path of a PEM file").map(Some)) },
    Key { name: "mail.helloName", secret: false, set: |c, v| put(&mut c.mail.hello_name, v.domain().map(Some)) },
    Key { name: "mail.connections", secret: false, set: |c, v| put(&mut c.mail.connections, v.whole(1, 50)) },
    Key { name: "mail.messagesPerConnection", secret: false, set: |c, v| put(&mut c.mail.messages_per_connection, v.whole(1, 10_000)) },
    Key { name: "mail.perMinute", secret: false, set: |c, v| put(&mut c.mail.per_minute, v.whole(0, 100_000)) },
    Key { name: "mail.whenUnknown", secret: false, set: |c, v| put(&mut c.mail.when_unknown, v.word(WhenUnknown::WORDS, WhenUnknown::parse)) },
    Key { name: "mail.redirectTo", secret: false, set: |c, v| put(&mut c.mail.redirect_to, v.address().map(Some)) },
    Key { name: "mail.templates", secret: false, set: |c, v| put(&mut c.mail.templates, v.path("the path of a folder")) },
    Key { name: "documents.store", secret: false, set: |c, v| put(&mut c.documents.store, v.words_alone("a folder or s3://BUCKET/PREFIX")) },
    Key { name: "run.batchRentals", secret: false, set: |c, v| put(&mut c.run.batch_rentals, v.whole(1, 20_000)) },
    Key { name: "run.shareRentals", secret: false, set: |c, v| put(&mut c.run.share_rentals, v.whole(1, 10_000_000)) },
    Key { name: "api.behindProxy", secret: false, set: |c, v| put(&mut c.api.behind_proxy, v.flag()) },
    Key { name: "api.requestsPerMinute", secret: false, set: |c, v| put(&mut c.api.requests_per_minute, v.whole(0, 1_000_000)) },
    Key { name: "daemon.heartbeatUrl", secret: true, set: |c, v| put(&mut c.daemon.heartbeat_url, v.web_address().map(Secret).map(Some)) },
    Key { name: "daemon.summaryTo", secret: false, set: |c, v| put(&mut c.daemon.summary_to, v.address().map(Some)) },
];

fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

impl Key {
    /// The key that `name` is, exactly.
    fn find(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Its environment variable: upper case, `_` before each inner capital, nesting as `__`.
    fn variable(&self) -> String {
        let mut name = PREFIX.to_owned();
        for c in self.name.chars() {
            match c {
                '.' => name.push_str("__"),
                c if c.is_ascii_uppercase() => name.extend(['_', c]),
                c => name.push(c.to_ascii_uppercase()),
            }
        }
        name
    }
}

/// The settings so far, and what was wrong on the way.
#[derive(Default)]
struct Reading {
    config: Config,
    problems: Vec<ConfigError>,
    /// Where each key that was set came from, the strongest last, and its value for people.
    set: BTreeMap<&'static str, (Origin, String)>,
}

impl Reading {
    fn read(
        default_file: &Path,
        file: Option<&Path>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Overrides,
    ) -> Result<Self, ConfigErrors> {
        let mut reading = Self::default();
        match read_text(file.unwrap_or(default_file)) {
            Ok(text) => reading.file(file.unwrap_or(default_file), &text),
            Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let origin = Origin::File(file.unwrap_or(default_file).to_owned(), None);
                reading.problem("", format!("cannot be read: {error}"), origin);
            }
        }
        reading.environment(env);
        reading.flags(flags);
        reading.together();
        if reading.problems.is_empty() { Ok(reading) } else { Err(ConfigErrors(reading.problems)) }
    }

    fn problem(&mut self, key: &str, message: impl Into<String>, origin: Origin) {
        self.problems.push(ConfigError { key: key.to_owned(), message: message.into(), origin });
    }

    fn set(&mut self, key: &'static Key, value: Value<'_>, origin: Origin) {
        let shown = if key.secret { String::new() } else { value.shown() };
        if let Err(message) = (key.set)(&mut self.config, value) {
            self.problem(key.name, message + &shown, origin.clone());
        }
        let written = match key.name {
            "database.url" => format!("{:?}", self.config.database.url),
            _ if key.secret => "***".to_owned(),
            _ => value.written(),
        };
        self.set.insert(key.name, (origin, written));
    }

    fn file(&mut self, path: &Path, text: &str) {
        let line_of = |at: usize| text.bytes().take(at).filter(|&b| b == b'\n').count() + 1;
        match DeTable::parse(text) {
            Ok(table) => self.table("", table.get_ref(), &|at| Origin::File(path.to_owned(), Some(line_of(at)))),
            // Its message alone: with the line's text, as the error prints itself, it could repeat a password.
            Err(error) => {
                let origin = Origin::File(path.to_owned(), error.span().map(|span| line_of(span.start)));
                self.problem("", format!("is not TOML: {}", error.message()), origin);
            }
        }
        // Tables come sorted by name; people read from the top.
        self.problems.sort_by(|a, b| a.origin.cmp(&b.origin));
    }

    fn table(&mut self, above: &str, table: &DeTable<'_>, origin: &impl Fn(usize) -> Origin) {
        for (name, value) in table {
            let name_shown = on_one_line(name.get_ref());
            let path = if above.is_empty() { name_shown } else { format!("{above}.{name_shown}") };
            let origin_here = origin(name.span().start);
            // A name with a dot in quotes is no nesting, so it is no key either.
            let key = Key::find(&path).filter(|_| !name.get_ref().contains('.'));
            match (key, value.get_ref()) {
                (Some(key), _) => self.set(key, Value::Toml(value), origin_here),
                (None, DeValue::Table(inner)) if sections().any(|s| s == path) => self.table(&path, inner, origin),
                (None, _) if sections().any(|s| s == path) => {
                    self.problem(&path, format!("should be a table, written [{path}]"), origin_here);
                }
                (None, DeValue::Table(_)) => {
                    let nearest = nearest(&path, sections());
                    self.problem(&path, format!("unknown section; the nearest is [{nearest}]"), origin_here);
                }
                (None, _) => {
                    let nearest = nearest(&path, KEYS.iter().map(|key| key.name));
                    self.problem(&path, format!("unknown key; the nearest is {nearest}"), origin_here);
                }
            }
        }
    }

    fn environment(&mut self, env: impl IntoIterator<Item = (OsString, OsString)>) {
        let env: Vec<(OsString, OsString)> = env.into_iter().collect();
        let credentials = env.iter().find(|(name, _)| name == CREDENTIALS).map(|(_, folder)| PathBuf::from(folder));
        // Sorted, so that the same environment gives the same message.
        let ours: BTreeMap<String, OsString> = env
            .into_iter()
            .map(|(name, value)| (on_one_line(&name.to_string_lossy()), value))
            .filter(|(name, _)| name.starts_with(PREFIX) && !name.starts_with(TESTING_AIDS))
            .collect();
        let mut known = BTreeSet::new();
        for key in &KEYS {
            let name = key.variable();
            let file_name = name.clone() + "_FILE";
            let direct = ours.get(&name);
            let from_file = ours.get(&file_name).filter(|_| key.secret);
            match (direct, from_file) {
                (Some(_), Some(_)) => {
                    let message = format!("{name} is set too; only one of them can hold");
                    self.problem(key.name, message, Origin::Variable(file_name.clone()));
                }
                (Some(value), None) => match value.to_str() {
                    Some(text) => self.set(key, Value::Text(text), Origin::Variable(name.clone())),
                    None => self.problem(key.name, "is not UTF-8", Origin::Variable(name.clone())),
                },
                (None, Some(path)) => self.secret_file(key, path, Origin::Variable(file_name.clone())),
                (None, None) => {
                    let credential = credentials.as_ref().map(|folder| folder.join(key.name));
                    if let Some(path) = credential.filter(|path| key.secret && path.exists()) {
                        self.secret_file(key, path.as_os_str(), Origin::Variable(CREDENTIALS.to_owned()));
                    }
                }
            }
            if key.secret {
                known.insert(file_name);
            }
            known.insert(name);
        }
        for name in ours.keys().filter(|name| !known.contains(*name)) {
            let nearest = nearest(&name[PREFIX.len()..], known.iter().map(|known| &known[PREFIX.len()..]));
            let message = format!("unknown setting; the nearest is {PREFIX}{nearest}");
            self.problem("", message, Origin::Variable(name.clone()));
        }
    }

    fn secret_file(&mut self, key: &'static Key, path: &OsStr, origin: Origin) {
        match read_text(Path::new(path)) {
            Ok(_) if is_open_to_all(Path::new(path)) => {
                let message = format!(
                    "{} can be read by every user of this machine: take that right away (chmod o= FILE)",
                    Path::new(path).display()
                );
                self.problem(key.name, message, origin);
            }
            Ok(text) => {
                let line = text.strip_suffix('\n').unwrap_or(&text);
                self.set(key, Value::Text(line.strip_suffix('\r').unwrap_or(line)), origin);
            }
            Err(error) => {
                self.problem(key.name, format!("{} cannot be read: {error}", Path::new(path).display()), origin);
            }
        }
    }

    /// Finds what is wrong only together; it is told where the key at fault was set.
    fn together(&mut self) {
        let mail = self.config.mail.clone();
        if mail.transport != MailTransport::Smtp {
            return;
        }
        let is_here = mail.host == "localhost" || mail.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let clear = mail.security == MailSecurity::None;
        if clear && !is_here {
            let message = format!(
                r#""none" would send invoices in clear, which only localhost, 127.0.0.1 and ::1 may get; {:?} needs "startTls" or "tls""#,
                mail.host
            );
            self.problem_of("mail.security", message);
        }
        if clear && mail.user.is_some() {
            self.problem_of("mail.user", r#"needs mail.security "startTls" or "tls": a password never goes in clear"#);
        }
        match (&mail.user, &mail.password) {
            (Some(_), None) => self.problem_of("mail.user", "needs mail.password beside it"),
            (None, Some(_)) => self.problem_of("mail.password", "needs mail.user beside it"),
            _ => {}
        }
    }

    fn problem_of(&mut self, key: &str, message: impl Into<String>) {
        if let Some((origin, _)) = self.set.get(key) {
            let origin = origin.clone();
            self.problem(key, message, origin);
        }
    }

    fn flags(&mut self, flags: Overrides) {
        let given = [
            ("database.url", "--database", flags.database_url),
            ("log.format", "--log-format", flags.log_format),
            ("log.level", "--log-level", flags.log_level),
        ];
        for (name, flag, value) in given {
            if let (Some(key), Some(text)) = (Key::find(name), value) {
                self.set(key, Value::Text(&text), Origin::Flag(flag));
            }
        }
    }
}

/// What every variable of ours begins with.
const PREFIX: &str = "BILLDAY_";

/// Names the folder in which systemd puts credentials; a secret's is named by its key, such as `mail.password`.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// What testing aids begin with, such as `BILLDAY_TEST_NOW` and `BILLDAY_TEST_POSTGRES`; they are no settings.
const TESTING_AIDS: &str = "BILLDAY_TEST_";

/// No file of settings or secret is longer; more is a mistake, such as a device.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    if File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(text)
}

/// Where container runtimes put secrets: readable for all, but only inside.
const CONTAINER_SECRETS: &str = "/run/secrets/";

/// Whether any user of the machine can read a file or folder: it lets all of them in, and so does each folder above it.
pub fn is_open_to_all(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let lets = |path: &Path, right: u32| fs::metadata(path).is_ok_and(|found| found.mode() & right != 0);
    let (read, enter) = (0o004, 0o001);
    !path.starts_with(CONTAINER_SECRETS)
        && lets(&path, read)
        && path.ancestors().skip(1).all(|above| lets(above, enter))
}

/// A name that somebody chose as a message can show it: what would break its line as an escape, and none at all as quotes.
fn on_one_line(name: &str) -> String {
    if name.is_empty() {
        return "\"\"".to_owned();
    }
    let mut shown = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

fn sections() -> impl Iterator<Item = &'static str> {
    let mut sections: Vec<_> = KEYS.iter().filter_map(|key| Some(key.name.split_once('.')?.0)).collect();
    sections.dedup();
    sections.into_iter()
}

/// The known name most like `unknown`: as a whole, and in its last part, so that a key in the wrong section is found too.
fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    /// Longer names are like nothing, and comparing takes the square of the length.
    const CHARACTERS_MAX: usize = 100;

    fn last(name: &str) -> &str {
        let dotted = name.rsplit('.').next().unwrap_or(name);
        dotted.rsplit("__").next().unwrap_or(dotted)
    }
    fn plain(name: &str) -> String {
        let letters = name.chars().filter(|c| !matches!(c, '.' | '_' | '-')).take(CHARACTERS_MAX);
        letters.flat_map(char::to_lowercase).collect()
    }
    let far = |known: &str| {
        strsim::damerau_levenshtein(&plain(unknown), &plain(known))
            + strsim::damerau_levenshtein(&plain(last(unknown)), &plain(last(known)))
    };
    known.min_by_key(|known| far(known)).unwrap_or_default()
}

/// A value as it was written: typed by TOML, or a text that the key gives its type.
#[derive(Clone, Copy)]
enum Value<'a> {
    Toml(&'a Spanned<DeValue<'a>>),
    Text(&'a str),
}

impl<'a> Value<'a> {
    /// The end of a message: what was there instead.
    fn shown(self) -> String {
        /// Enough to recognize what one wrote.
        const CHARACTERS_MAX: usize = 60;

        let quoted = |text: &str| match text.char_indices().nth(CHARACTERS_MAX) {
            Some((cut, _)) => format!(", not {:?}…", &text[..cut]),
            None => format!(", not {text:?}"),
        };
        match self {
            Self::Text(text) => quoted(text),
            Self::Toml(value) => match value.get_ref() {
                DeValue::String(text) => quoted(text),
                DeValue::Integer(number) => format!(", not {number}"),
                DeValue::Boolean(value) => format!(", not {value}"),
                DeValue::Float(number) => format!(", not {number}"),
                other => format!(", not a TOML {}", other.type_str()),
            },
        }
    }

    /// As the file would write it.
    fn written(self) -> String {
        match self {
            Self::Text(text) if text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok() => text.to_owned(),
            Self::Text(text) => format!("{text:?}"),
            Self::Toml(value) => match value.get_ref() {
                DeValue::String(text) => format!("{text:?}"),
                DeValue::Integer(number) => number.to_string(),
                DeValue::Boolean(value) => value.to_string(),
                other => other.type_str().to_owned(),
            },
        }
    }

    /// The text, if it is one and `fits`.
    fn text(self, should_be: &str, fits: impl Fn(&str) -> bool) -> Result<&'a str, String> {
        let text = match self {
            Self::Text(text) => Some(text),
            Self::Toml(value) => value.get_ref().as_str(),
        };
        text.filter(|text| fits(text)).ok_or_else(|| format!("should be {should_be}"))
    }

    fn whole(self, least: u32, most: u32) -> Result<u32, String> {
        let number = match self {
            Self::Text(text) => text.parse().ok(),
            Self::Toml(value) => value
                .get_ref()
                .as_integer()
                .and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok()),
        };
        number
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| format!("should be a whole number from {least} to {most}"))
    }

    fn flag(self) -> Result<bool, String> {
        let flag = match self {
            Self::Text(text) => text.parse().ok(),
            Self::Toml(value) => value.get_ref().as_bool(),
        };
        flag.ok_or_else(|| "should be true or false".to_owned())
    }

    fn word<T>(self, words: &[&str], parse: fn(&str) -> Option<T>) -> Result<T, String> {
        let should_be: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let should_be = should_be.join(" or ");
        let text = self.text(&should_be, |_| true)?;
        parse(text).ok_or_else(|| format!("should be {should_be}"))
    }

    fn database_url(self) -> Result<DatabaseUrl, String> {
        let fits = |url: &str| {
            let names_a_place = ["sqlite://", "postgres://", "postgresql://"]
                .iter()
                .any(|scheme| url.strip_prefix(scheme).is_some_and(|place| !place.is_empty()));
            names_a_place && !url.contains(char::is_control)
        };
        self.text("sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE", fits)
            .map(|url| DatabaseUrl(url.to_owned()))
    }

    fn web_address(self) -> Result<String, String> {
        let fits = |url: &str| {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()))
        };
        self.text("a URL like https://example.com/ping", fits).map(str::to_owned)
    }

    fn level(self) -> Result<String, String> {
        // A word alone is a level: a filter would take a mistyped one for the name of a part, and be silent.
        let a_level = |part: &str| {
            let levels = ["off", "error", "warn", "info", "debug", "trace"];
            part.contains(['=', '[']) || levels.iter().any(|level| part.eq_ignore_ascii_case(level))
        };
        let fits = |level: &str| {
            let words = level.contains('[') || level.split(',').all(a_level);
            words && !level.trim().is_empty() && EnvFilter::builder().parse(level).is_ok()
        };
        let should_be =
            r#""off", "error", "warn", "info", "debug", "trace" or levels by part like "info,billday::run=debug""#;
        self.text(should_be, fits).map(str::to_owned)
    }

    fn path(self, should_be: &str) -> Result<PathBuf, String> {
        self.text(should_be, |path| !path.is_empty() && !path.contains('\0')).map(PathBuf::from)
    }

    fn address(self) -> Result<String, String> {
        let fits = |address: &str| {
            let special = |c: char| c.is_ascii_graphic() && !r#"()<>[]:;,\""#.contains(c);
            address.len() <= 254
                && address.rsplit_once('@').is_some_and(|(local, domain)| {
                    (1..=64).contains(&local.len())
                        && local.chars().all(|c| special(c) && c != '@')
                        && !local.starts_with(['.', '-'])
                        && !local.ends_with('.')
                        && is_domain(domain)
                })
        };
        self.text("an e-mail address alone, like invoices@example.com", fits).map(str::to_owned)
    }

    fn host(self) -> Result<String, String> {
        let fits = |host: &str| host.parse::<IpAddr>().is_ok() || is_domain(host);
        self.text("the name or the IP address of a machine", fits).map(str::to_owned)
    }

    fn words_alone(self, should_be: &str) -> Result<String, String> {
        self.text(should_be, |text| !text.is_empty() && !text.contains(char::is_control)).map(str::to_owned)
    }

    fn domain(self) -> Result<String, String> {
        self.text("a domain name, like example.com", is_domain).map(str::to_owned)
    }
}

/// Whether it is labels of letters, digits and inner hyphens, joined by dots.
fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Loads a file with this text, this environment and these flags.
    fn load_all(toml: &str, env: &[(&str, &str)], flags: Overrides) -> Result<Config, ConfigErrors> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("billday.toml");
        fs::write(&file, toml).unwrap();
        Config::load(Some(&file), env.iter().map(|(name, value)| (name.into(), value.into())), flags)
    }

    fn load(toml: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
        load_all(toml, env, Overrides::default())
    }

    /// The only problem, without the folder of the file.
    fn problem(toml: &str, env: &[(&str, &str)]) -> String {
        let text = load(toml, env).unwrap_err().to_string();
        assert_eq!(text.lines().count(), 1, "{text}");
        match text.split_once("billday.toml") {
            Some((_, rest)) => format!("billday.toml{rest}"),
            None => text,
        }
    }

    #[test]
    fn the_default_file_holds_exactly_the_keys_with_their_defaults() {
        let mut names = Vec::new();
        for (section, table) in DEFAULT_TOML.parse::<toml::Table>().unwrap() {
            names.extend(table.as_table().unwrap().keys().map(|key| format!("{section}.{key}")));
        }
        // A setting that nothing stands for is written as a comment.
        let mut section = "";
        for line in DEFAULT_TOML.lines() {
            section = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).unwrap_or(section);
            names.extend(without_default(line).map(|key| format!("{section}.{key}")));
        }
        names.sort();
        let mut keys: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        keys.sort();
        assert_eq!(names, keys);

        // From a start where everything differs, so that a key that sets nothing shows.
        let other = load(
            "database = {url = 'sqlite://x', connections = 9}\nlog = {format = 'json', level = 'off'}\nrun = {batchRentals = 7}\n\
             mail = {transport = 'none', folder = 'x', from = 'x@y', messageIdDomain = 'x', host = 'x', port = 1, security = 'tls', \
                 connections = 9, messagesPerConnection = 9, perMinute = 9, whenUnknown = 'hold'}\n\
             api = {behindProxy = true, requestsPerMinute = 7}",
            &[],
        );
        let mut reading = Reading { config: other.unwrap(), ..Reading::default() };
        reading.file(Path::new("default.toml"), DEFAULT_TOML);
        assert_eq!((reading.config, reading.problems), (Config::default(), Vec::new()));
    }

    /// The key of a line such as `#user = "billday"`.
    fn without_default(line: &str) -> Option<&str> {
        let (key, _) = line.strip_prefix('#')?.split_once(" = ")?;
        key.chars().all(|c| c.is_ascii_alphanumeric()).then_some(key)
    }

    #[test]
    fn every_default_has_one_line_of_comment() {
        let lines: Vec<&str> = DEFAULT_TOML.lines().collect();
        for (n, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| without_default(line).is_some() || line.contains(" = ") && !line.starts_with('#'))
        {
            assert!(lines[n - 1].starts_with("# ") && !lines[n - 2].starts_with("# "), "{line}");
        }
    }

    #[test]
    fn without_a_file_the_defaults_hold_and_a_named_file_must_be_there() {
        let absent = Path::new("/nonexistent/billday.toml");
        let default = Config::load_beside(absent, None, [], Overrides::default());
        assert_eq!(default.unwrap(), Config::default());
        let text = Config::load(Some(absent), [], Overrides::default()).unwrap_err().to_string();
        assert!(text.starts_with("/nonexistent/billday.toml: cannot be read: "), "{text}");
        let folder = tempfile::tempdir().unwrap();
        assert!(Config::load_beside(folder.path(), None, [], Overrides::default()).is_err(), "a folder is no file");
        let there = folder.path().join("billday.toml");
        fs::write(&there, "run.batchRentals = 5").unwrap();
        assert_eq!(Config::load_beside(&there, None, [], Overrides::default()).unwrap().run.batch_rentals, 5);
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let cases = [
            ("[database]\nulr = 'x'", "billday.toml:2: database.ulr: unknown key; the nearest is database.url"),
            (
                "[run]\nbatch_rentals = 1",
                "billday.toml:2: run.batch_rentals: unknown key; the nearest is run.batchRentals",
            ),
            ("[mail]\nlevel = 'info'", "billday.toml:2: mail.level: unknown key; the nearest is log.level"),
            ("url = 'x'", "billday.toml:1: url: unknown key; the nearest is database.url"),
            ("\"database.url\" = 'x'", "billday.toml:1: database.url: unknown key; the nearest is database.url"),
            ("[databse]\nurl = 'x'", "billday.toml:1: databse: unknown section; the nearest is [database]"),
            ("database = 'x'", "billday.toml:1: database: should be a table, written [database]"),
            ("'' = 1", "billday.toml:1: \"\": unknown key; the nearest is mail.from"),
            // It must not look like two problems.
            (r#""a\nb" = 1"#, r"billday.toml:1: a\nb: unknown key; the nearest is mail.from"),
        ];
        for (toml, expected) in cases {
            assert_eq!(problem(toml, &[]), expected);
        }
        let cases = [
            ("BILLDAY_DATABASE_URL", "BILLDAY_DATABASE__URL"),
            ("BILLDAY_MAIL__MESSAGEIDDOMAIN", "BILLDAY_MAIL__MESSAGE_ID_DOMAIN"),
            ("BILLDAY_DATABASE__URL_FLIE", "BILLDAY_DATABASE__URL_FILE"),
            ("BILLDAY_LOG__LEVEL_FILE", "BILLDAY_LOG__LEVEL"),
            ("BILLDAY_", "BILLDAY_MAIL__FROM"),
        ];
        for (variable, nearest) in cases {
            assert_eq!(
                problem("", &[(variable, "x")]),
                format!("{variable}: unknown setting; the nearest is {nearest}")
            );
        }
    }

    #[test]
    fn every_key_refuses_every_wrong_type_and_says_what_would_be_right() {
        for key in &KEYS {
            for wrong in
                ["1.5", "true", "[]", "2026-01-31", "{a = 1}", "-1", "99999999999999999999", "''", "\"\\u0000\""]
            {
                if key.name == "api.behindProxy" && wrong == "true" {
                    continue;
                }
                let text = problem(&format!("{} = {wrong}", key.name), &[]);
                assert!(text.starts_with(&format!("billday.toml:1: {}: should be ", key.name)), "{text}");
            }
            let text = problem("", &[(&key.variable(), "")]);
            assert!(text.starts_with(&format!("{}: {}: should be ", key.variable(), key.name)), "{text}");
        }
    }

    #[test]
    fn a_value_out_of_bounds_says_what_would_be_right() {
        let cases = [
            ("run.batchRentals = 0", "run.batchRentals: should be a whole number from 1 to 20000, not 0"),
            ("run.batchRentals = 20001", "run.batchRentals: should be a whole number from 1 to 20000, not 20001"),
            ("run.batchRentals = '5'", "run.batchRentals: should be a whole number from 1 to 20000, not \"5\""),
            ("database.connections = 1", "database.connections: should be a whole number from 2 to 100, not 1"),
            ("log.format = 'xml'", "log.format: should be \"text\" or \"json\", not \"xml\""),
            ("mail.transport = 'post'", "mail.transport: should be \"smtp\" or \"folder\" or \"none\", not \"post\""),
            ("mail.host = 'a b'", "mail.host: should be the name or the IP address of a machine, not \"a b\""),
            ("mail.from = 'x'", "mail.from: should be an e-mail address alone, like invoices@example.com, not \"x\""),
            (
                "mail.messageIdDomain = 'a b'",
                "mail.messageIdDomain: should be a domain name, like example.com, not \"a b\"",
            ),
        ];
        for (toml, expected) in cases {
            assert_eq!(problem(toml, &[]), format!("billday.toml:1: {expected}"));
        }
    }

    #[test]
    fn all_problems_are_told_together_from_the_top() {
        let toml = "[run]\nbatchRentals = 0\n[log]\nformat = 'xml'\n[database]\nport = 5\n";
        let env = [("BILLDAY_LOG__FORMAT", "yaml"), ("BILLDAY_X", ""), ("BILLDAY_RUN__BATCH_RENTALS", "many")];
        let errors = load(toml, &env).unwrap_err();
        let places = errors.problems().iter().map(|problem| match &problem.origin {
            Origin::File(_, line) => format!("line {}", line.unwrap()),
            origin => origin.to_string(),
        });
        assert_eq!(
            places.collect::<Vec<_>>(),
            ["line 2", "line 4", "line 6", "BILLDAY_LOG__FORMAT", "BILLDAY_RUN__BATCH_RENTALS", "BILLDAY_X"]
        );
        assert_eq!(errors.to_string().lines().count(), 6);
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file() {
        let toml = "[log]\nlevel = 'warn'\nformat = 'json'\n[run]\nbatchRentals = 5";
        let env = [
            ("BILLDAY_LOG__LEVEL", "debug"),
            ("BILLDAY_DATABASE__URL", "sqlite://env.db"),
            ("HOME", "/"),
            ("billday_x", ""),
        ];
        let flags = Overrides { database_url: Some("sqlite://flag.db".into()), ..Overrides::default() };
        let config = load_all(toml, &env, flags).unwrap();
        assert_eq!(config.log, Log { format: LogFormat::Json, level: "debug".into() });
        assert_eq!((config.database.url.reveal(), config.run.batch_rentals), ("sqlite://flag.db", 5));
        let flags = Overrides { log_format: Some("xml".into()), ..Overrides::default() };
        let text = load_all("", &[], flags).unwrap_err().to_string();
        assert_eq!(text, "--log-format: log.format: should be \"text\" or \"json\", not \"xml\"");
    }

    #[test]
    fn the_environment_is_typed_by_the_key() {
        let config = load(
            "",
            &[
                ("BILLDAY_MAIL__FOLDER", "007"),
                ("BILLDAY_MAIL__MESSAGE_ID_DOMAIN", "1e3"),
                ("BILLDAY_RUN__BATCH_RENTALS", "007"),
            ],
        );
        let config = config.unwrap();
        assert_eq!((config.mail.folder.to_str(), config.mail.message_id_domain.as_str()), (Some("007"), "1e3"));
        assert_eq!(config.run.batch_rentals, 7);
    }

    #[test]
    fn testing_aids_are_no_settings() {
        assert!(load("", &[("BILLDAY_TEST_NOW", "2026-01-31T06:00:00Z"), ("BILLDAY_TEST_POSTGRES", "x")]).is_ok());
    }

    fn folder_with_mode(mode: u32) -> tempfile::TempDir {
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(mode)).tempdir().unwrap()
    }

    #[test]
    fn a_secret_comes_from_a_file_less_one_line_end() {
        let folder = folder_with_mode(0o700);
        let file = folder.path().join("url");
        let path = file.to_str().unwrap();
        for end in ["", "\n", "\r\n"] {
            fs::write(&file, format!("postgres://u:p@h/d{end}")).unwrap();
            let config = load("database.url = 'sqlite://x'", &[("BILLDAY_DATABASE__URL_FILE", path)]).unwrap();
            assert_eq!(config.database.url.reveal(), "postgres://u:p@h/d");
        }
        fs::write(&file, "postgres://u:p@h/d\n\n").unwrap();
        let text = problem("", &[("BILLDAY_DATABASE__URL_FILE", path)]);
        assert!(text.starts_with("BILLDAY_DATABASE__URL_FILE: database.url: should be sqlite://FILE or"), "{text}");
        let text = problem("", &[("BILLDAY_DATABASE__URL_FILE", path), ("BILLDAY_DATABASE__URL", "sqlite://x")]);
        assert!(text.contains("BILLDAY_DATABASE__URL is set too"), "{text}");
        for unreadable in ["", "/nonexistent", folder.path().to_str().unwrap(), "/dev/zero"] {
            let text = problem("", &[("BILLDAY_DATABASE__URL_FILE", unreadable)]);
            assert!(text.contains("cannot be read: "), "{text}");
        }
    }

    #[test]
    fn a_secret_that_every_user_can_read_is_refused() {
        let folder = folder_with_mode(0o755);
        let file = folder.path().join("password");
        fs::write(&file, "s3cret").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let env = [("BILLDAY_MAIL__PASSWORD_FILE", file.to_str().unwrap())];
        let text = problem("mail.user = 'u'", &env);
        assert!(text.contains("can be read by every user") && !text.contains("s3cret"), "{text}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(load("mail.user = 'u'", &env).is_ok());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(load("mail.user = 'u'", &env).is_ok(), "nobody else gets that far");
    }

    #[test]
    fn the_list_shows_what_holds_and_where_it_was_set_but_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("billday.toml");
        fs::write(
            &file,
            "database.url = 'postgres://u:s3cret@h/d'\nmail = {port = 25, user = 'u', password = 's3cret'}",
        )
        .unwrap();
        let env = [
            ("BILLDAY_MAIL__PORT".into(), "465".into()),
            ("BILLDAY_DAEMON__HEARTBEAT_URL".into(), "http://s3cret".into()),
        ];
        let list = Config::list(Some(&file), env, Overrides::default()).unwrap();
        assert!(!format!("{list:?}").contains("s3cret"), "{list:?}");
        let of = |key: &str| list.iter().find(|setting| setting.key == key).unwrap().clone();
        assert_eq!(of("database.url").value.as_deref(), Some("\"postgres://u:***@h/d\""));
        assert_eq!(of("database.url").origin, Some(Origin::File(file, Some(1))));
        assert_eq!(of("mail.port").value.as_deref(), Some("465"));
        assert_eq!(of("mail.port").origin, Some(Origin::Variable("BILLDAY_MAIL__PORT".into())));
        assert_eq!(of("mail.password").value.as_deref(), Some("***"));
        assert_eq!(of("mail.host"), Setting { key: "mail.host", value: Some("\"localhost\"".into()), origin: None });
        assert_eq!(of("mail.caFile"), Setting { key: "mail.caFile", value: None, origin: None });
    }

    #[test]
    fn a_password_is_never_printed() {
        let cases = [
            ("postgres://ann:s3cret@host:5432/db", "postgres://ann:***@host:5432/db"),
            ("postgresql://ann:s3/c@r?et@host/db?sslmode=require", "postgresql://ann:***@host/db?sslmode=require"),
            ("postgres://:s3cret@host/db", "postgres://:***@host/db"),
            ("postgres://ann@host/db", "postgres://ann@host/db"),
            (
                "postgres:///db?user=ann&password=s3cret&sslpassword=x",
                "postgres:///db?user=ann&password=***&sslpassword=***",
            ),
            ("postgres://host/db", "postgres://host/db"),
            ("sqlite://a@b:c.db", "sqlite://a@b:c.db"),
        ];
        for (url, shown) in cases {
            let config = load(&format!("database.url = {url:?}"), &[]).unwrap();
            assert_eq!(config.database_url_for_people(), shown);
            assert_eq!(config.database.url.reveal(), url);
            let debug = format!("{config:?}");
            assert!(debug.contains(shown) && !debug.contains("s3"), "{debug}");
        }
    }

    #[test]
    fn a_problem_with_a_secret_does_not_repeat_it() {
        for toml in
            ["database.url = 's3cret'", "database.url = ['s3cret']", "database.url = 's3cret", "database.url = s3cret"]
        {
            let errors = load(toml, &[]).unwrap_err();
            assert!(!format!("{errors}{errors:?}").contains("s3cret"), "{errors}");
        }
        let errors = load("", &[("BILLDAY_DATABASE__URL", "mysql://u:s3cret@h"), ("BILLDAY_DATABASE_URL", "s3cret")])
            .unwrap_err();
        assert!(!format!("{errors}{errors:?}").contains("s3cret"), "{errors}");
    }

    #[test]
    fn mail_settings_that_do_not_go_together_are_refused_with_the_reason() {
        let cases = [
            (
                "host = 'mx.example', security = 'none'",
                "mail.security: \"none\" would send invoices in clear, which only localhost, 127.0.0.1 and ::1 may get; \
                 \"mx.example\" needs \"startTls\" or \"tls\"",
            ),
            (
                "security = 'none', user = 'u', password = 's3cret'",
                "mail.user: needs mail.security \"startTls\" or \"tls\": a password never goes in clear",
            ),
            ("user = 'u'", "mail.user: needs mail.password beside it"),
            ("password = 's3cret'", "mail.password: needs mail.user beside it"),
        ];
        for (mail, expected) in cases {
            assert_eq!(
                problem(&format!("mail = {{transport = 'smtp', {mail}}}"), &[]),
                format!("billday.toml:1: {expected}")
            );
        }
        for good in ["host = '::1', security = 'none'", "host = 'mx.example', user = 'u', password = 'p'"] {
            assert!(load(&format!("mail = {{transport = 'smtp', {good}}}"), &[]).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_secret_comes_from_a_credential_of_systemd_if_from_nowhere_else() {
        let folder = folder_with_mode(0o700);
        fs::write(folder.path().join("mail.password"), "from a credential\n").unwrap();
        let credentials = ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap());
        let password = |env: &[(&str, &str)]| {
            let config = load("mail.user = 'u'", env).unwrap();
            assert!(
                !format!("{config:?}").contains("from a") && !format!("{config:?}").contains("from h"),
                "{config:?}"
            );
            config.mail.password.map(|password| password.reveal().to_owned())
        };
        assert_eq!(password(&[credentials]).as_deref(), Some("from a credential"));
        assert_eq!(password(&[credentials, ("BILLDAY_MAIL__PASSWORD", "from here")]).as_deref(), Some("from here"));
        assert_eq!(password(&[("CREDENTIALS_DIRECTORY", "/nonexistent")]), None);
    }

    #[test]
    fn a_mistyped_level_is_no_filter() {
        for good in ["info", "WARN", "off", "info,billday::run=debug", "billday[span{id=1}]=trace"] {
            assert!(load(&format!("log.level = {good:?}"), &[]).is_ok(), "{good}");
        }
        for bad in ["", " ", "verbose", "info,verbose", "billday=loud", "=", "info,", "1"] {
            assert!(load(&format!("log.level = {bad:?}"), &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sender_is_an_address_alone() {
        for good in ["invoices@localhost", "a.b+c@mail.example.com", "o'neil@example.com"] {
            assert!(load(&format!("mail.from = {good:?}"), &[]).is_ok(), "{good}");
        }
        for bad in
            ["a@", "@b", "a@@b", "a b@c", "A <a@b>", "a@b.", "a@-b", "-a@b", "a@b\r\nBcc: c@d", "ä@b", "a@[127.0.0.1]"]
        {
            assert!(load(&format!("mail.from = {bad:?}"), &[]).is_err(), "{bad}");
        }
    }
}
