//! `billday tenant`: sellers, their settings and their look.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::import::{ImportError, TENANT_FIELDS, TenantChange, TenantFields};
use crate::store::Store;

use super::{App, Exit, Wrong, table};

#[derive(Subcommand)]
pub(super) enum TenantCommand {
    /// All tenants
    List,
    /// One tenant's settings, as `set` takes them
    Show { tenant: String },
    /// A new tenant
    #[command(after_help = fields_help())]
    Create {
        tenant: String,
        /// Its name; a legal name of its own is the field legalName
        #[arg(long)]
        name: String,
        /// The currency that it bills in, such as EUR
        #[arg(long)]
        currency: String,
        /// The IANA time zone that it lives in, such as Europe/Berlin
        #[arg(long, value_name = "ZONE")]
        time_zone: String,
        /// More of its fields, such as vatId=DE123456789
        #[arg(value_name = "FIELD=VALUE")]
        fields: Vec<String>,
        #[command(flatten)]
        logo: LogoArgs,
    },
    /// Change a tenant: what is not named stays, `FIELD=` takes a field out
    #[command(after_help = fields_help())]
    Set {
        tenant: String,
        /// What is to be another, such as vatId=DE123456789
        #[arg(value_name = "FIELD=VALUE", required_unless_present_any = ["logo", "no_logo"])]
        fields: Vec<String>,
        #[command(flatten)]
        logo: LogoArgs,
    },
}

#[derive(Args)]
#[group(multiple = false)]
pub(super) struct LogoArgs {
    /// The logo on invoices: a PNG, JPEG or SVG file of at most 1 MB
    #[arg(long, value_name = "FILE")]
    logo: Option<PathBuf>,
    /// No logo any more
    #[arg(long)]
    no_logo: bool,
}

pub(super) async fn tenant(app: &App, command: TenantCommand) -> anyhow::Result<Exit> {
    match command {
        TenantCommand::List => list(app).await,
        TenantCommand::Show { tenant } => show(app, &tenant).await,
        TenantCommand::Create { tenant, name, currency, time_zone, fields, logo } => {
            let store = app.store().await?;
            if stored(&store, &tenant).await?.is_some() {
                let message =
                    format!("there is a tenant {tenant} already: change it with `billday tenant set {tenant}`");
                return Err(Wrong(message).into());
            }
            let mut wanted = TenantFields::default();
            for (field, value) in [("name", &name), ("currency", &currency), ("timeZone", &time_zone)] {
                wanted.set(field, value).map_err(Wrong)?;
            }
            change(app, store, &tenant, None, wanted, &fields, &logo).await
        }
        TenantCommand::Set { tenant, fields, logo } => {
            let store = app.store().await?;
            let Some(before) = stored(&store, &tenant).await? else { return Err(unknown(&tenant)) };
            let wanted = before.clone();
            change(app, store, &tenant, Some(before), wanted, &fields, &logo).await
        }
    }
}

async fn list(app: &App) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let mut session = store.read().await?;
    let tenants = session.list_tenants().await?;
    session.end().await;
    if tenants.is_empty() {
        eprintln!("there is no tenant yet");
        return Ok(Exit::Done);
    }
    let rows: Vec<Vec<String>> = tenants
        .iter()
        .map(|(id, tenant)| match tenant {
            Ok(t) => vec![id.clone(), t.name.clone(), t.currency.to_string(), t.time_zone.to_string()],
            Err(bad) => vec![id.clone(), format!("unusable: {} is '{}'", bad.field, bad.value)],
        })
        .collect();
    table::write(&mut std::io::stdout(), &["TENANT", "NAME", "CURRENCY", "TIME ZONE"], &rows)?;
    Ok(Exit::Done)
}

async fn show(app: &App, tenant: &str) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let Some(fields) = stored(&store, tenant).await? else { return Err(unknown(tenant)) };
    let rows: Vec<Vec<String>> = fields.iter().map(|(name, value)| vec![name.to_owned(), on_one_line(value)]).collect();
    table::write(&mut std::io::stdout(), &["FIELD", "VALUE"], &rows)?;
    let mut session = store.read().await?;
    let tenants = session.list_tenants().await?;
    session.end().await;
    match tenants.into_iter().find(|(id, _)| id == tenant) {
        Some((_, Err(bad))) => {
            anyhow::bail!("tenant {tenant}: its {} is '{}', which cannot be used", bad.field, bad.value)
        }
        _ => Ok(Exit::Done),
    }
}

fn unknown(tenant: &str) -> anyhow::Error {
    Wrong(format!("there is no tenant {tenant}")).into()
}

async fn stored(store: &Store, tenant: &str) -> anyhow::Result<Option<TenantFields>> {
    let mut session = store.read().await?;
    let content = session.tenant_content(tenant).await?;
    session.end().await;
    Ok(content.as_ref().map(TenantFields::of))
}

/// Brings in what is wanted and tells what became another.
async fn change(
    app: &App,
    store: Store,
    tenant: &str,
    before: Option<TenantFields>,
    mut wanted: TenantFields,
    fields: &[String],
    logo: &LogoArgs,
) -> anyhow::Result<Exit> {
    for field in fields {
        let Some((name, value)) = field.split_once('=') else {
            return Err(Wrong(format!("'{field}' is no FIELD=VALUE, such as vatId=DE123456789")).into());
        };
        let value = if may_have_lines(name) { value.replace("\\n", "\n") } else { value.to_owned() };
        wanted.set(name, &value).map_err(Wrong)?;
    }
    match &logo.logo {
        Some(path) => wanted.set("logo", path_text(path)?).map_err(Wrong)?,
        None if logo.no_logo => wanted.set("logo", "").map_err(Wrong)?,
        None => {}
    }
    let by_hand = TenantChange { before: before.clone(), actor: "cli".to_owned() };
    let before = before.unwrap_or_default();
    let summary = match wanted.import(&store, tenant, by_hand, app.clock.now()).await {
        Ok(summary) => summary,
        Err(ImportError::Store(error)) => return Err(error.into()),
        Err(ImportError::Refused(complaints, _)) => {
            let said = complaints.iter().map(|complaint| format!("{}: {}", complaint.field, complaint.message));
            let said: Vec<String> = said.collect();
            return Err(Wrong(format!("tenant {tenant} stays as it is:\n{}", said.join("\n"))).into());
        }
        Err(error) => return Err(Wrong(error.to_string()).into()),
    };
    for warning in summary.warnings() {
        eprintln!("warning: {}: {}", warning.field, warning.message);
    }
    let after = stored(&store, tenant).await?.context("the tenant is gone")?;
    store.close().await;
    let changed = TENANT_FIELDS.iter().filter(|name| before.get(name) != after.get(name));
    let rows: Vec<Vec<String>> = changed
        .map(|name| vec![(*name).to_owned(), on_one_line(before.get(name)), on_one_line(after.get(name))])
        .collect();
    if rows.is_empty() {
        eprintln!("tenant {tenant} is so already: nothing was changed");
    } else {
        table::write(&mut std::io::stdout(), &["FIELD", "WAS", "IS"], &rows)?;
    }
    Ok(Exit::Done)
}

fn may_have_lines(name: &str) -> bool {
    ["footer", "address"].contains(&name)
}

fn on_one_line(value: &str) -> String {
    value.replace('\n', "\\n")
}

fn path_text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().ok_or_else(|| Wrong(format!("the path {} is not UTF-8", path.display())).into())
}

fn fields_help() -> String {
    format!(
        "Fields, as in an import: {}.\nIn footer and address \\n begins a new line. Invoices that exist stay as they are.",
        TENANT_FIELDS.join(", ")
    )
}
