//! `billday backup`: a copy of the ledger that is consistent while others go on writing.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::{App, Exit, Wrong};

#[derive(Args)]
pub(super) struct BackupArgs {
    /// The file to write; it must not be there yet
    file: PathBuf,
}

pub(super) async fn backup(app: &App, args: BackupArgs) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else {
        return Err(Wrong("without a database there is nothing to back up".to_owned()).into());
    };
    if store.kind() != "SQLite" {
        let message = "PostgreSQL makes its own backups: pg_dump --format=custom --file=FILE DATABASE (docs/operations.md says more)";
        return Err(Wrong(message.to_owned()).into());
    }
    let folder = args.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if args.file.exists() {
        let message = format!("{} is there already: a backup overwrites nothing", args.file.display());
        return Err(Wrong(message).into());
    }
    // Only its owner may read it, and it gets its name when it is whole.
    let copy = tempfile::Builder::new().prefix(".billday-backup-").tempfile_in(folder);
    let copy = copy.map_err(|error| Wrong(format!("nothing can be written to {}: {error}", folder.display())))?;
    store.copy_to(copy.path()).await?;
    store.close().await;
    copy.as_file().sync_all().with_context(|| format!("cannot write {}", args.file.display()))?;
    let bytes = copy.as_file().metadata()?.len();
    copy.persist_noclobber(&args.file).with_context(|| format!("cannot write {}", args.file.display()))?;
    std::fs::File::open(folder)?.sync_all()?;
    println!("{bytes} bytes, checked: {}", args.file.display());
    Ok(Exit::Done)
}
