//! A tenant's logo: a file beside the one that names it, looked at before it is taken.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::domain::document::sha256_of;
use crate::render::invoice::check_logo;
use crate::store::import::Picture;

use super::fields::Fields;
use crate::input::value::short;

/// Largest file of a logo: each invoice carries it.
const BYTES_MAX: u64 = 1_000_000;

/// How a record names a picture that is stored already.
const STORED: &str = "sha256:";

/// Reads the field `logo`: the hash of the picture, and the picture itself unless it is stored already.
pub(super) fn read(fields: &mut Fields<'_>, folder: &Path) -> (Option<String>, Option<Picture>) {
    const NAME: &str = "logo";
    let Some(text) = fields.notes(NAME) else { return (None, None) };
    if let Some(sha256) = text.strip_prefix(STORED) {
        return (Some(sha256.to_owned()), None);
    }
    match open(&folder.join(&text)).map_err(|error| error.to_string()).and_then(|bytes| {
        let content_type = check_logo(&bytes)?;
        Ok((sha256_of(&bytes), Picture { content_type, bytes }))
    }) {
        Ok((sha256, picture)) => (Some(sha256), Some(picture)),
        Err(why) => {
            fields.fault(NAME, format!("'{}' cannot be taken: {why}", short(&text)));
            (None, None)
        }
    }
}

fn open(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: that of a pipe would wait for whoever writes into it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::other("it is larger than 1 MB"));
    }
    Ok(bytes)
}
