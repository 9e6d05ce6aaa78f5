//! `billday import`: master data and history from files.

use std::path::PathBuf;

use clap::Args;

use crate::import::{ImportError, ImportFile, import as import_files};

use super::{App, Exit, Wrong};

#[derive(Args)]
pub(super) struct ImportArgs {
    /// JSON (an array, one object a line, or a list answer of the public API) or CSV; all files land together or not at all
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The tenant of records without tenantId
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
}

pub(super) async fn import(app: &App, args: ImportArgs) -> anyhow::Result<Exit> {
    let store = app.store().await?;
    let files: Vec<ImportFile> = args.files.into_iter().map(ImportFile::Path).collect();
    match import_files(&store, &files, args.tenant.as_deref(), app.clock.now()).await {
        Ok(summary) => {
            store.close().await;
            summary.warning_lines().for_each(|warning| eprintln!("{warning}"));
            if summary.is_empty() {
                eprintln!("{summary}");
            } else {
                println!("{summary}");
            }
            Ok(Exit::Done)
        }
        Err(ImportError::Store(error)) => Err(error.into()),
        Err(refused) => Err(Wrong(refused.to_string()).into()),
    }
}
