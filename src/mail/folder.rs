//! Mails as files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use lettre::Transport as _;
use lettre::transport::file::FileTransport;

use super::address::parse_address;
use super::{MailError, Outgoing};

/// Writes each mail as a file `<name>.eml`, whole or not at all, replacing that of an earlier try.
#[derive(Debug)]
pub struct FolderTransport {
    folder: PathBuf,
    /// Files that are being written; on the same disk, so that a rename moves them.
    unfinished: PathBuf,
    writer: FileTransport,
}

impl FolderTransport {
    pub fn new(folder: &Path) -> Self {
        let unfinished = folder.join("tmp");
        Self { folder: folder.to_owned(), writer: FileTransport::new(&unfinished), unfinished }
    }

    /// Creates the folder if it is not there; to be called before the first mail, so that nothing is left where there is none.
    pub fn prepare(&self) -> Result<(), MailError> {
        fs::create_dir_all(&self.unfinished).map_err(|error| cannot("create the mail folder", &self.unfinished, &error))
    }

    /// Writes one mail and has it on the disk; its name is only after [`flush`](Self::flush).
    pub fn send(&self, mail: &Outgoing<'_>) -> Result<(), MailError> {
        let envelope = lettre::address::Envelope::new(Some(parse_address(mail.from)?), vec![parse_address(mail.to)?])
            .map_err(|error| MailError::Refused(error.to_string()))?;
        let target = self.folder.join(format!("{}.eml", mail.name));
        let id = self.writer.send_raw(&envelope, mail.bytes).map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            cannot("write a mail into", &self.unfinished, &cause)
        })?;
        let written = self.unfinished.join(format!("{id}.eml"));
        let moved = File::open(&written).and_then(|file| file.sync_all()).and_then(|()| fs::rename(&written, &target));
        moved.map_err(|error| {
            // What is left would only take up space.
            let _ = fs::remove_file(&written);
            cannot("write the mail", &target, &error)
        })
    }

    /// Has the names of all mails sent so far on the disk.
    pub fn flush(&self) -> Result<(), MailError> {
        // Elsewhere a folder cannot be opened like a file, and need not be.
        if cfg!(unix) {
            let synced = File::open(&self.folder).and_then(|folder| folder.sync_all());
            synced.map_err(|error| cannot("write the mail folder", &self.folder, &error))?;
        }
        Ok(())
    }
}

fn cannot(what: &str, path: &Path, error: &dyn std::fmt::Display) -> MailError {
    MailError::Transport(format!("cannot {what} {}: {error}", path.display()))
}

/// The name of a mail among files: its invoice number, made safe, and its payment id, which makes it unique; after those to
/// further recipients stands which one it is.
pub fn file_name(invoice_number: &str, payment_id: &str, position: i64) -> String {
    let (number, id) = (safe_for_files(invoice_number), safe_for_files(payment_id));
    if position == 0 { format!("{number}-{id}") } else { format!("{number}-{id}-{}", position + 1) }
}

/// Letters, digits and `-_.` stay, everything else becomes `_`; never a hidden file, and short enough for any file system.
pub fn safe_for_files(text: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = text.chars().take(80).map(safe).collect();
    if name.starts_with('.') { name.replacen('.', "_", 1) } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_never_leaves_its_folder() {
        assert_eq!(file_name("INV-2026-000001", "pay_1", 0), "INV-2026-000001-pay_1");
        assert_eq!(file_name("../../Ä/1", "pay_1", 0), "_._..___1-pay_1");
        assert!(file_name(&"9".repeat(500), "pay_1", 1).len() < 200);
    }
}
