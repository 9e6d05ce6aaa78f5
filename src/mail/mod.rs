//! Messages as bytes, and the ways they go out; the only place that knows lettre.

mod address;
mod folder;
mod message;
pub mod smtp;

pub use address::check_address;
pub use folder::{FolderTransport, file_name, safe_for_files};
pub use message::{Attached, Envelope, build_message};

/// Why a mail did not go out, by what the sender can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// This mail can never go out as it is; others can.
    #[error("{0}")]
    Refused(String),
    /// This mail did not go out now; others can.
    #[error("{0}")]
    Deferred(String),
    /// This mail did not go out, because the conversation with the server broke off; others may.
    #[error("{0}")]
    Broken(String),
    /// The server may have taken this mail; nobody can know.
    #[error("{0}")]
    Unknown(String),
    /// There was not enough time left to send this mail and hear of it.
    #[error("{0}")]
    Late(String),
    /// No mail can go out now.
    #[error("{0}")]
    Transport(String),
}

/// One message on its way, with the name under which it is known outside.
#[derive(Debug, Clone)]
pub struct Outgoing<'a> {
    pub from: &'a str,
    pub to: &'a str,
    /// Stable over all tries; made safe for files by [`file_name`].
    pub name: &'a str,
    pub bytes: &'a [u8],
}
