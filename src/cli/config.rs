//! `billday config`: what is set, whether it works, and what could be set.

use std::path::Path;

use clap::Subcommand;

use crate::config::{DEFAULT_TOML, MailTransport, Setting};
use crate::render::email::{MailTemplates, Part};
use crate::store::{Opened, Store};

use super::{App, Exit, Wrong, table, words};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Read the configuration, reach the database and the mail server or folder, try the templates, and say what is wrong
    Check,
    /// Print every setting as it holds and where it was set; secrets stay hidden
    Show,
    /// Print the commented default
    Default,
    /// Print a built-in template of mails, to begin one of your own with
    Template {
        #[arg(value_parser = words(Part::WORDS, Part::parse))]
        part: Part,
    },
}

pub(super) async fn config(app: &App, command: ConfigCommand) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Default => print!("{DEFAULT_TOML}"),
        ConfigCommand::Template { part } => print!("{}", part.built_in()),
        ConfigCommand::Show => show(app)?,
        ConfigCommand::Check => check(app).await?,
    }
    Ok(Exit::Done)
}

fn show(app: &App) -> anyhow::Result<()> {
    let row = |setting: Setting| {
        let (mark, value) = setting.value.map_or(("#", "not set".to_owned()), |value| ("", value));
        let origin = setting.origin.map_or_else(|| "default".to_owned(), |origin| origin.to_string());
        vec![format!("{mark}{} = {value}", setting.key), format!("# {origin}")]
    };
    let rows: Vec<Vec<String>> = super::settings(&app.global)?.into_iter().map(row).collect();
    table::write(&mut std::io::stdout(), &["# SETTING", "# FROM"], &rows)?;
    Ok(())
}

async fn check(app: &App) -> anyhow::Result<()> {
    println!("configuration: read, every key is known and fits");
    let database = &app.config.database;
    match Store::open_read_only(database.url.reveal(), database.connections).await? {
        Opened::Store(store) => {
            let mut session = store.read().await?;
            let tenants = session.list_tenants().await?;
            session.end().await;
            println!(
                "database: {}, {} at {}",
                store.kind(),
                count(tenants.len()),
                app.config.database_url_for_people()
            );
            for (tenant_id, tenant) in tenants {
                if let Err(bad) = tenant {
                    anyhow::bail!("tenant {tenant_id}: its {} is '{}', which cannot be used", bad.field, bad.value);
                }
            }
        }
        Opened::Nothing => {
            println!("database: none yet at {}; the first import creates it", app.config.database_url_for_people());
        }
    }
    if let Some(other) = &app.config.mail.redirect_to {
        println!("mail: on trial: all of it goes to {other}");
    }
    match app.config.mail.transport {
        MailTransport::Smtp => super::mail::greet(&app.config.mail).await?,
        MailTransport::None => println!("mail: none is sent; invoices stay in the outbox"),
        MailTransport::Folder => {
            let folder = &app.config.mail.folder;
            try_folder(folder)?;
            crate::mail::check_address(&app.config.mail.from)
                .map_err(|why| Wrong(format!("mail.from {}: {why}", app.config.mail.from)))?;
            println!("mail: written as files to {}, from {}", folder.display(), app.config.mail.from);
        }
    }
    let documents = super::documents(&app.config)?;
    documents.check().await.map_err(Wrong)?;
    println!("documents: kept in {documents}");
    check_templates(&app.config.mail.templates)
}

fn check_templates(folder: &Path) -> anyhow::Result<()> {
    match &own_templates(folder)?[..] {
        [] => println!("templates of mails: built-in; there is none of your own in {}", folder.display()),
        own => println!("templates of mails: {} in {} work on sample invoices", own.join(", "), folder.display()),
    }
    Ok(())
}

/// The operator's own templates, each tried on sample invoices.
pub(super) fn own_templates(folder: &Path) -> anyhow::Result<Vec<String>> {
    let templates = MailTemplates::with_own(folder)
        .map_err(|why| Wrong(format!("a template of mails does not work, and none is sent until it does: {why}")))?;
    Ok(templates.own_names().iter().map(ToString::to_string).collect())
}

/// Tries whether mails can be written, and leaves nothing behind.
pub(super) fn try_folder(folder: &Path) -> anyhow::Result<()> {
    let place = if folder.exists() { folder } else { folder.parent().unwrap_or(folder) };
    let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let tried =
        if place.is_dir() { tempfile::tempfile_in(place) } else { Err(std::io::ErrorKind::NotADirectory.into()) };
    match tried {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Wrong(format!("mail.folder {}: mails cannot be written there: {error}", folder.display())).into())
        }
    }
}

fn count(tenants: usize) -> String {
    if tenants == 1 { "1 tenant".to_owned() } else { format!("{tenants} tenants") }
}
