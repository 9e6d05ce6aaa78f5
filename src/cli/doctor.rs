//! `billday doctor`: looks at everything that billing stands on, and says what to do.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use chrono::Days;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::clock::instant;
use crate::config::{self, Config, MailTransport, Origin};
use crate::domain::timekeeping;
use crate::render::invoice::InvoiceRenderer;
use crate::run::read_clock;
use crate::store::Store;

use super::{App, Exit};

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// How the findings are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: FindingsFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum FindingsFormat {
    /// For people
    Text,
    /// The schema billday.doctor/1, one object
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    /// Works, but a person should look at it.
    Warn,
    /// Does not work, or is not safe.
    Fail,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

struct Finding {
    state: State,
    part: &'static str,
    says: String,
    /// What to do; empty if there is nothing to.
    advice: &'static str,
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, part: &'static str, says: impl Into<String>) {
        self.0.push(Finding { state: State::Ok, part, says: says.into(), advice: "" });
    }

    fn warn(&mut self, part: &'static str, says: impl Into<String>, advice: &'static str) {
        self.0.push(Finding { state: State::Warn, part, says: says.into(), advice });
    }

    fn fail(&mut self, part: &'static str, says: impl Into<String>, advice: &'static str) {
        self.0.push(Finding { state: State::Fail, part, says: says.into(), advice });
    }
}

/// Tells all findings: exit status 1 if something fails, which the error says, 3 if something needs a person.
pub(super) async fn doctor(app: &App, args: DoctorArgs) -> anyhow::Result<Exit> {
    let mut findings = Findings::default();
    configuration(app, &mut findings)?;
    match app.store_read_only().await {
        Ok(Some(store)) => {
            if let Err(error) = database(app, &store, &mut findings).await {
                findings.fail("database", format!("{error:#}"), "see what its own log says");
            }
            store.close().await;
        }
        Ok(None) => findings.warn(
            "database",
            format!("there is none yet at {}", app.config.database_url_for_people()),
            "the first `billday import` or `billday daemon` creates it",
        ),
        Err(error) => findings.fail("database", format!("{error:#}"), "check database.url and that its server runs"),
    }
    zone_data(&mut findings);
    documents(&mut findings);
    mail(&app.config, &mut findings).await;
    places(&app.config, &mut findings);
    match args.format {
        FindingsFormat::Text => print!("{}", text(&findings.0)),
        FindingsFormat::Json => println!("{}", to_json(&findings.0)),
    }
    match findings.0.iter().map(|finding| finding.state).max() {
        Some(State::Fail) => anyhow::bail!("something does not work"),
        Some(State::Warn) => Ok(Exit::NeedsPerson),
        _ => Ok(Exit::Done),
    }
}

fn configuration(app: &App, findings: &mut Findings) -> anyhow::Result<()> {
    const PART: &str = "configuration";
    let settings = super::settings(&app.global)?;
    let set: Vec<_> = settings.iter().filter_map(|setting| Some((setting, setting.origin.as_ref()?))).collect();
    findings
        .ok(PART, format!("{} of {} settings are set; `billday config show` lists them", set.len(), settings.len()));
    for (setting, origin) in set {
        let hides = setting.value.as_ref().is_some_and(|value| value.contains("***"));
        if let Origin::File(path, _) = origin
            && hides
            && config::is_open_to_all(path)
        {
            findings.fail(
                PART,
                format!("{} holds the secret {} and can be read by every user", path.display(), setting.key),
                "keep the secret in a file of its own (docs/operations.md, Secrets), or chmod o= the file",
            );
        }
    }
    Ok(())
}

async fn database(app: &App, store: &Store, findings: &mut Findings) -> anyhow::Result<()> {
    let safety = store.safety().await?;
    let what = format!("{} at {}, schema {}", safety.version, app.config.database_url_for_people(), Store::SCHEMA);
    findings.ok("database", what);
    for fault in safety.faults {
        let says = format!("{fault}: a power cut could take back what was reported as billed");
        findings.fail("database", says, "set it to on (SQLite: keep the file on a local disk)");
    }
    clock(app, store, findings).await?;
    let mut session = store.read().await?;
    let tenants = session.list_tenants().await?;
    let figures = session.figures().await?;
    let pause = session.find_pause().await?;
    session.end().await;
    let unusable: Vec<_> = tenants.iter().filter_map(|(id, tenant)| Some((id, tenant.as_ref().err()?))).collect();
    for (id, bad) in &unusable {
        let says = format!("{id}: its {} is '{}', which cannot be used; it is not billed", bad.field, bad.value);
        findings.fail("tenants", says, "set it right with `billday tenant set`");
    }
    if unusable.is_empty() {
        findings.ok("tenants", format!("{}, each with settings that work", tenants.len()));
    }
    // A day behind is no fault: its hour may not have come, in its zone.
    let late = app.clock.now().date_naive() - Days::new(2);
    for tenant in &figures.tenants {
        if let Some(date) = tenant.last_completed.filter(|date| *date < late) {
            let says = format!("{}: no day has been completed since {date}", tenant.tenant_id);
            findings.warn("billing", says, "is `billday daemon` running? its log and `billday runs list` say why");
        }
    }
    let parked: i64 = figures.tenants.iter().map(|tenant| tenant.parked).sum();
    if parked > 0 {
        findings.warn("billing", format!("{parked} parked and not billed"), "see `billday parked list`");
    }
    let withheld: i64 = figures.tenants.iter().map(|tenant| tenant.withheld).sum();
    if withheld > 0 {
        findings.warn("billing", format!("{withheld} withheld periods"), "see `billday arrears list`");
    }
    if let Some(pause) = pause {
        findings.warn("mail", super::outbox::paused(&pause), "resume when the reason is gone");
    }
    for (state, count) in &figures.mails {
        if ["failed", "held", "undeliverable"].contains(&state.as_str()) {
            let says = format!("{count} mails are {state}");
            findings.warn(
                "mail",
                says,
                "see `billday outbox list --state STATE`; `billday outbox retry` sends one anew",
            );
        }
    }
    if let Some(since) = figures.oldest_waiting_mail.and_then(instant)
        && app.clock.now() - since > chrono::TimeDelta::hours(24)
    {
        let says = format!("a mail has waited since {}", since.format("%Y-%m-%d %H:%M UTC"));
        findings.warn("mail", says, "is the mail server well? `billday outbox list --state pending` names the mails");
    }
    Ok(())
}

/// The same judgement as the daemon's, made once.
async fn clock(app: &App, store: &Store, findings: &mut Findings) -> anyhow::Result<()> {
    let reading = read_clock(store, &*app.clock, false).await?;
    match timekeeping::check(&reading, None) {
        Some(alarm) => findings.fail("clock", alarm.to_string(), "nothing is billed meanwhile; keep time by NTP"),
        None if reading.database.is_some() => findings.ok("clock", "agrees with the database's and with the last work"),
        None => findings.ok("clock", "agrees with the last work on this ledger"),
    }
    Ok(())
}

/// Where systems note the version of their zone data, as its first line or in it.
const ZONE_DATA: &str = "/usr/share/zoneinfo/tzdata.zi";

fn zone_data(findings: &mut Findings) {
    let ours = chrono_tz::IANA_TZDB_VERSION;
    let first_line = std::fs::read_to_string(ZONE_DATA).ok();
    let theirs = first_line.as_deref().and_then(|text| text.lines().next()?.strip_prefix("# version "));
    match theirs {
        Some(theirs) if theirs > ours => findings.warn(
            "zone data",
            format!("{ours} is built in, and this machine has {theirs}"),
            "upgrade billday if a zone of your tenants has changed its clock rules since",
        ),
        _ => findings.ok("zone data", format!("{ours}, built in")),
    }
}

/// Fonts and all else that makes an invoice are part of the program: one is made.
fn documents(findings: &mut Findings) {
    let made = InvoiceRenderer::new().and_then(|mut renderer| renderer.render_sample());
    match made {
        Ok(pdf) => findings.ok("documents", format!("a sample invoice has {} bytes", pdf.len())),
        Err(error) => findings.fail("documents", format!("a sample invoice cannot be made: {error:#}"), "report this"),
    }
}

async fn mail(config: &Config, findings: &mut Findings) {
    if let Some(other) = &config.mail.redirect_to {
        let says = format!("on trial: all of it goes to {other}");
        findings.warn("mail", says, "take mail.redirectTo out when customers should get their invoices");
    }
    match config.mail.transport {
        MailTransport::None => {
            findings.warn("mail", "none is sent (mail.transport)", "`billday config default` explains")
        }
        MailTransport::Folder => match super::config::try_folder(&config.mail.folder) {
            Ok(()) => findings.ok("mail", format!("written as files to {}", config.mail.folder.display())),
            Err(error) => findings.fail("mail", format!("{error:#}"), "create the folder for the user of the daemon"),
        },
        MailTransport::Smtp => {
            let (steps, greeted) = super::mail::try_server(&config.mail).await;
            match greeted {
                Ok(()) => {
                    let says = format!("{}:{} takes mails ({} steps)", config.mail.host, config.mail.port, steps.len());
                    findings.ok("mail", says);
                }
                Err(error) => {
                    findings.fail(
                        "mail",
                        format!("{error:#}"),
                        "`billday config check` tells each step; mails wait meanwhile",
                    );
                }
            }
        }
    }
    match super::config::own_templates(&config.mail.templates) {
        Ok(own) if own.is_empty() => findings.ok("templates", "built-in"),
        Ok(own) => findings.ok("templates", format!("{} of your own work on sample invoices", own.join(", "))),
        Err(error) => findings.fail("templates", format!("{error:#}"), "mails wait until it works"),
    }
}

/// Files that are lost or shown to others, and disks that fill.
fn places(config: &Config, findings: &mut Findings) {
    let mut places: Vec<(&str, PathBuf)> = Vec::new();
    if let Some(file) = config.database.url.reveal().strip_prefix("sqlite://") {
        places.push(("database", PathBuf::from(file)));
        if let Some(kind) = network_file_system(Path::new(file)) {
            let says = format!("{file} is on {kind}, where locks cannot be relied on");
            findings.fail("database", says, "move it to a local disk, or use PostgreSQL");
        }
    }
    if config.mail.transport == MailTransport::Folder {
        places.push(("mails", config.mail.folder.clone()));
    }
    if !config.documents.store.contains("://") {
        places.push(("documents", PathBuf::from(&config.documents.store)));
    }
    for (what, path) in places.iter().filter(|(_, path)| path.exists()) {
        if config::is_open_to_all(path) {
            let says = format!("{what}: every user can read {}", path.display());
            findings.warn(
                "permissions",
                says,
                "it holds personal data: chmod o= it, and let the daemon run with umask 077",
            );
        } else {
            findings.ok("permissions", format!("{what}: only its owner and group can read {}", path.display()));
        }
    }
    // The report of a run waits there, however large it is.
    places.push(("temporary files", std::env::temp_dir()));
    for (what, path) in places {
        disk(what, &path, findings);
    }
}

const MIB: u64 = 1024 * 1024;

fn disk(what: &str, path: &Path, findings: &mut Findings) {
    const ADVICE: &str = "make room: without it runs stop, and go on by themselves when there is some again";
    let place = existing(path);
    let room = match rustix::fs::statvfs(&place) {
        Ok(disk) => disk,
        Err(error) => return findings.fail("disk", format!("{what}: {}: {error}", place.display()), ADVICE),
    };
    let (free, size) = (room.f_bavail.saturating_mul(room.f_frsize), room.f_blocks.saturating_mul(room.f_frsize));
    let says = format!("{what}: {} MiB of {} MiB are free at {}", free / MIB, size / MIB, place.display());
    if free < 100 * MIB {
        findings.fail("disk", says, ADVICE);
    } else if free < 1024 * MIB {
        findings.warn("disk", says, ADVICE);
    } else {
        findings.ok("disk", says);
    }
}

/// The path itself, or what there is of it.
fn existing(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole.ancestors().find(|above| above.exists()).map_or(whole.clone(), Path::to_owned)
}

/// The kind of the file system that a path is on, if other machines can write to it too.
fn network_file_system(path: &Path) -> Option<String> {
    let place = existing(path).canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    // Device, place, kind; the longest place that the path is in, and the last of equals.
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.replace("\\040", " "), words.next()?))
    });
    let (_, kind) = mounts.filter(|(mount, _)| place.starts_with(mount)).max_by_key(|(mount, _)| mount.len())?;
    let shared = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "afs"];
    shared.contains(&kind).then(|| kind.to_owned())
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { state, part, says, advice } in findings {
        // What a server or a tenant wrote must not steer a terminal.
        let says: String = says.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(text, "{:<5} {part:<14} {says}", state.as_str());
        if !advice.is_empty() {
            let _ = writeln!(text, "{:<20} → {advice}", "");
        }
    }
    text
}

fn to_json(findings: &[Finding]) -> serde_json::Value {
    let checks: Vec<_> = findings
        .iter()
        .map(|Finding { state, part, says, advice }| {
            json!({"state": state.as_str(), "check": part, "says": says, "advice": advice})
        })
        .collect();
    json!({"schema": "billday.doctor/1", "checks": checks})
}
