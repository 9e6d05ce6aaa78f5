//! `billday key`: who may use the API, and for which tenants.

use anyhow::Context;
use chrono::NaiveDate;
use clap::{Args, Subcommand};

use crate::api::new_token;
use crate::clock;
use crate::input::{TEXT_MAX, text_fault};
use crate::store::keys::NewKey;

use super::{App, Exit, Wrong, date_argument, table};

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key and print it, once: it is stored as a hash only
    Create(CreateArgs),
    /// All keys, without their secrets
    List {
        /// Only keys that may act for this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// End a key at once
    Revoke {
        /// Its id, as `key list` shows it: the part of a key between bw_ and the next _
        key: String,
    },
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// A tenant that the key may act for; may be repeated
    #[arg(long = "tenant", value_name = "ID", required = true)]
    tenants: Vec<String>,
    /// What the key is for
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// A key that may read and change nothing
    #[arg(long)]
    read_only: bool,
    /// The last day on which it works, in UTC (default: until it is revoked)
    #[arg(long, value_name = "DATE", value_parser = date_argument)]
    expires: Option<NaiveDate>,
}

pub(super) async fn key(app: &App, command: KeyCommand) -> anyhow::Result<Exit> {
    match command {
        KeyCommand::Create(args) => create(app, args).await,
        KeyCommand::List { tenant } => list(app, tenant).await,
        KeyCommand::Revoke { key } => revoke(app, key).await,
    }
}

async fn create(app: &App, mut args: CreateArgs) -> anyhow::Result<Exit> {
    if let Some(last) = args.expires.filter(|last| *last < app.clock.now().date_naive()) {
        return Err(Wrong(format!("--expires {last} is over already (in UTC)")).into());
    }
    if let Some((message, _)) = args.name.as_ref().and_then(|name| text_fault(name, TEXT_MAX, false)) {
        return Err(Wrong(format!("--name {message}")).into());
    }
    args.tenants.sort_unstable();
    args.tenants.dedup();
    let store = app.store().await?;
    let mut session = store.read().await?;
    for tenant_id in &args.tenants {
        if session.find_tenant(tenant_id).await?.is_none() {
            return Err(Wrong(format!("there is no tenant {tenant_id}")).into());
        }
    }
    session.end().await;
    let token = new_token()?;
    let key = NewKey {
        key_id: token.key_id.clone(),
        name: args.name,
        secret_hash: token.secret_hash,
        read_only: args.read_only,
        expires_on: args.expires,
        created_by: app.by.clone(),
        created_at: app.now_micros(),
        tenant_ids: args.tenants,
    };
    store.with_tx(move |tx| Box::pin(async move { tx.insert_key(&key).await })).await?;
    store.close().await;
    println!("{}", token.secret);
    eprintln!("key {}: keep it now, it is not shown again", token.key_id);
    Ok(Exit::Done)
}

async fn list(app: &App, tenant: Option<String>) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let mut session = store.read().await?;
    let keys = session.list_keys(tenant.as_deref()).await?;
    session.end().await;
    if keys.is_empty() {
        eprintln!("there is no key");
        return Ok(Exit::Done);
    }
    let today = app.clock.now().date_naive();
    let mut rows = Vec::with_capacity(keys.len());
    for key in keys {
        let created = clock::instant(key.created_at).context("a key was made at no time")?.date_naive();
        let state = match (key.revoked_at, key.expires_on) {
            (Some(_), _) => "revoked",
            (None, Some(last)) if last < today => "expired",
            _ => "live",
        };
        rows.push(vec![
            key.key_id,
            key.name.unwrap_or_default(),
            key.tenant_ids.join(", "),
            if key.read_only { "read" } else { "read, write" }.to_owned(),
            created.to_string(),
            key.expires_on.map_or_else(|| "never".to_owned(), |last| last.to_string()),
            state.to_owned(),
        ]);
    }
    table::write(&mut std::io::stdout(), &["KEY", "NAME", "TENANTS", "MAY", "CREATED", "EXPIRES", "STATE"], &rows)?;
    Ok(Exit::Done)
}

async fn revoke(app: &App, key: String) -> anyhow::Result<Exit> {
    let store = app.store().await?;
    let (key_id, now) = (key.clone(), app.now_micros());
    let revoked = store.with_tx(move |tx| Box::pin(async move { tx.revoke_key(&key_id, now).await })).await?;
    store.close().await;
    if !revoked {
        return Err(Wrong(format!("there is no live key {key}")).into());
    }
    println!("revoked key {key}");
    Ok(Exit::Done)
}
