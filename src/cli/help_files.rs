//! `billday help-files`, hidden: manual pages and shell completions, for those who make packages.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Exit};

#[derive(Args)]
pub(super) struct HelpFilesArgs {
    /// The folder to write them to
    folder: PathBuf,
}

pub(super) fn help_files(args: &HelpFilesArgs) -> anyhow::Result<Exit> {
    write(&args.folder).with_context(|| format!("cannot write to {}", args.folder.display()))?;
    Ok(Exit::Done)
}

fn write(folder: &Path) -> std::io::Result<()> {
    let (pages, completions) = (folder.join("man"), folder.join("completions"));
    std::fs::create_dir_all(&pages)?;
    std::fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Cli::command(), &pages)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut Cli::command(), "billday", &completions)?;
    }
    Ok(())
}
