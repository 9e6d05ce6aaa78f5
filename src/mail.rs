//! Messages as bytes, and the ways they go out; the only place that knows lettre.
//!
//! A message's bytes depend on its content alone (id, date and boundary included), so every try sends the same.

use std::any::Any;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MultiPart, SinglePart};
use lettre::transport::file::FileTransport;
use lettre::{Address, Message, Transport as _};
use sha2::{Digest, Sha256};

use crate::domain::message::{RenderedMail, clean};

/// Why a mail did not go out, by what the sender can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// This mail can never go out as it is; others can.
    #[error("{0}")]
    Refused(String),
    /// This mail did not go out now; others can.
    #[error("{0}")]
    Deferred(String),
    /// No mail can go out now.
    #[error("{0}")]
    Transport(String),
}

/// What stands on the outside of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub from: &'a str,
    /// Shown beside the address; cleaned here.
    pub from_name: &'a str,
    pub reply_to: Option<&'a str>,
    pub to: &'a str,
    /// With its angle brackets.
    pub message_id: &'a str,
    pub date: DateTime<Utc>,
}

/// A file that goes with a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Made safe by [`safe_for_files`].
    pub file_name: String,
    pub content_type: &'static str,
    pub bytes: Vec<u8>,
}

/// Longest display name, in characters.
const NAME_MAX: usize = 100;
/// Longest subject, in characters.
const SUBJECT_MAX: usize = 200;

/// Builds the message as it goes over the wire: text and HTML as alternatives, and the files beside them.
///
/// It never panics: lettre does on texts that are cleaned here, and what slips through is caught.
pub fn build_message(
    mail: &RenderedMail,
    attached: Vec<Attached>,
    envelope: &Envelope<'_>,
) -> Result<Vec<u8>, MailError> {
    catch_unwind(AssertUnwindSafe(|| build(mail, attached, envelope))).unwrap_or_else(|panic| {
        Err(MailError::Refused(format!("the message cannot be built: {}", panic_text(&*panic))))
    })
}

fn build(mail: &RenderedMail, attached: Vec<Attached>, envelope: &Envelope<'_>) -> Result<Vec<u8>, MailError> {
    let from_name = Some(clean(envelope.from_name, NAME_MAX)).filter(|name| !name.is_empty());
    let boundary = boundary(mail, envelope.message_id);
    let mut parts = MultiPart::alternative()
        .boundary(&boundary)
        .singlepart(SinglePart::plain(mail.text.clone()))
        .singlepart(SinglePart::html(mail.html.clone()));
    if !attached.is_empty() {
        parts = MultiPart::mixed().boundary(format!("file-{boundary}")).multipart(parts);
    }
    for Attached { file_name, content_type, bytes } in attached {
        let content_type = ContentType::parse(content_type).map_err(|error| MailError::Refused(error.to_string()))?;
        parts = parts.singlepart(Attachment::new(file_name).body(bytes, content_type));
    }
    let mut builder = Message::builder()
        .message_id(Some(envelope.message_id.to_owned()))
        .date(envelope.date.into())
        .from(Mailbox::new(from_name, parse_address(envelope.from)?))
        .to(Mailbox::new(None, parse_address(envelope.to)?))
        .subject(clean(&mail.subject, SUBJECT_MAX))
        // Keeps holiday notes from answering (RFC 3834).
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()));
    if let Some(reply_to) = envelope.reply_to {
        builder = builder.reply_to(Mailbox::new(None, parse_address(reply_to)?));
    }
    let message = builder.multipart(parts).map_err(|error| MailError::Refused(error.to_string()))?;
    Ok(message.formatted())
}

/// The line between the parts: equal for equal mails. It hashes the parts too, so that no text can hold it.
fn boundary(mail: &RenderedMail, message_id: &str) -> String {
    let digest = Sha256::new_with_prefix(message_id.as_bytes())
        .chain_update(mail.text.as_bytes())
        .chain_update(mail.html.as_bytes())
        .finalize();
    format!("billday-{}", data_encoding::BASE32_NOPAD.encode(&digest[..20]).to_ascii_lowercase())
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown")
}

fn parse_address(address: &str) -> Result<Address, MailError> {
    let refused = |reason: &str| MailError::Refused(format!("the address {:?} {reason}", clean(address, 254)));
    check_address(address).map_err(refused)?;
    address.parse().map_err(|error: lettre::address::AddressError| refused(&format!("cannot be used: {error}")))
}

/// Longest address that mail servers take, in bytes.
const ADDRESS_MAX: usize = 254;

/// Whether mail can be sent to an address; the reason reads as the end of a sentence that names it.
///
/// Stricter than the standard, which allows what no customer has and what some mail servers take for an option or a route.
pub fn check_address(address: &str) -> Result<(), &'static str> {
    if address.len() > ADDRESS_MAX {
        return Err("is longer than 254 bytes");
    }
    let Some((user, domain)) = address.split_once('@') else { return Err("has no @") };
    if domain.contains('@') {
        return Err("has more than one @");
    }
    if user.is_empty() || domain.is_empty() {
        return Err("has nothing on one side of the @");
    }
    if !user.is_ascii() {
        return Err("has characters before the @ that not every mail server takes");
    }
    if address.starts_with('-') {
        return Err("begins with -");
    }
    let is_user_byte = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    if !user.bytes().all(is_user_byte) || user.split('.').any(str::is_empty) {
        return Err("is not written as an address before the @");
    }
    check_domain(domain)
}

fn check_domain(domain: &str) -> Result<(), &'static str> {
    if !domain.is_ascii() {
        return Err("has a domain with characters that not every mail server takes: write it in its xn-- form");
    }
    if domain.starts_with('[') || domain.parse::<std::net::IpAddr>().is_ok() {
        return Err("names a machine by number: a domain is needed");
    }
    let is_label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if !domain.split('.').all(is_label) {
        return Err("has no valid domain after the @");
    }
    if !domain.contains('.') && !domain.eq_ignore_ascii_case("localhost") {
        return Err("has a domain without a dot");
    }
    Ok(())
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

/// The name of a payment's mail among files: its invoice number, made safe, and its payment id, which makes it unique.
pub fn file_name(invoice_number: &str, payment_id: &str) -> String {
    format!("{}-{}", safe_for_files(invoice_number), safe_for_files(payment_id))
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
    use proptest::prelude::*;

    fn envelope<'a>(from_name: &'a str, to: &'a str) -> Envelope<'a> {
        Envelope {
            from: "billing@seller.example",
            from_name,
            reply_to: None,
            to,
            message_id: "<pay_1.invoice.abc@seller.example>",
            date: DateTime::from_timestamp_micros(1_782_864_000_000_000).unwrap(),
        }
    }

    fn mail(subject: &str, text: &str, html: &str) -> RenderedMail {
        RenderedMail { subject: subject.into(), text: text.into(), html: html.into() }
    }

    /// The names of the headers on top of a message, unfolded.
    fn header_names(message: &[u8]) -> Vec<String> {
        let message = String::from_utf8_lossy(message).into_owned();
        let (head, _) = message.split_once("\r\n\r\n").expect("a head and a body");
        let lines = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']));
        lines.map(|line| line.split_once(':').expect(line).0.to_owned()).collect()
    }

    const HEADERS: [&str; 8] =
        ["Message-ID", "Date", "From", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type"];

    #[test]
    fn the_same_mail_has_the_same_bytes() {
        let build =
            || build_message(&mail("s", "täxt", "<p>html</p>"), vec![], &envelope("Seller", "a@b.example")).unwrap();
        let message = String::from_utf8(build()).unwrap();
        assert_eq!(message.as_bytes(), build());
        assert!(message.contains("Message-ID: <pay_1.invoice.abc@seller.example>\r\n"), "{message}");
        assert!(message.contains("Date: Wed, 01 Jul 2026 00:00:00 +0000\r\n"), "{message}");
        assert!(message.contains("Content-Type: multipart/alternative;\r\n boundary=\"billday-"), "{message}");
        assert_eq!(header_names(message.as_bytes()), HEADERS);
    }

    #[test]
    fn files_go_beside_the_words_in_their_order_with_their_names_and_the_same_bytes_on_every_try() {
        let files = || {
            vec![
                Attached { file_name: "INV-1.pdf".into(), content_type: "application/pdf", bytes: vec![0, 255, 10] },
                Attached { file_name: "INV-1.xml".into(), content_type: "application/xml", bytes: b"<a/>".to_vec() },
            ]
        };
        let build = || build_message(&mail("s", "t", "h"), files(), &envelope("Seller", "a@b.example")).unwrap();
        let message = String::from_utf8(build()).unwrap();
        assert_eq!(message.as_bytes(), build());
        assert!(message.contains("Content-Type: multipart/mixed;") && message.contains("multipart/alternative;"));
        let place = |said: &str| message.find(said).unwrap_or_else(|| panic!("{said} is missing in:\n{message}"));
        let pdf = place("Content-Disposition: attachment; filename=\"INV-1.pdf\"");
        let xml = place("Content-Disposition: attachment; filename=\"INV-1.xml\"");
        assert!(pdf < place("AP8K") && place("AP8K") < xml && xml < place("<a/>"), "{message}");
        place("Content-Type: application/pdf\r\n");
        place("Content-Type: application/xml\r\n");
        assert_eq!(header_names(message.as_bytes()), HEADERS);
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_with_the_reason() {
        let too_long = format!("{}@b.example", "a".repeat(250));
        for (address, reason) in [
            ("anna.example", "has no @"),
            ("a@b@c.example", "has more than one @"),
            ("@b.example", "has nothing on one side of the @"),
            ("a@", "has nothing on one side of the @"),
            ("ännä@b.example", "has characters before the @ that not every mail server takes"),
            ("-oQ@b.example", "begins with -"),
            ("a b@c.example", "is not written as an address before the @"),
            ("\"a\"@c.example", "is not written as an address before the @"),
            ("a..b@c.example", "is not written as an address before the @"),
            ("Anna <a@b.example>", "is not written as an address before the @"),
            ("a@[127.0.0.1]", "names a machine by number: a domain is needed"),
            ("a@127.0.0.1", "names a machine by number: a domain is needed"),
            ("a@host", "has a domain without a dot"),
            ("a@b..example", "has no valid domain after the @"),
            ("a@-b.example", "has no valid domain after the @"),
            ("a@b.example\r\nBcc: c@d.example", "has more than one @"),
            ("a@b.example\r\n", "has no valid domain after the @"),
            (&too_long, "is longer than 254 bytes"),
        ] {
            assert_eq!(check_address(address), Err(reason), "{address}");
        }
        for address in ["a@b.example", "first.last+tag@sub.b-c.example", "a@localhost", "a@xn--bcher-kva.example"] {
            assert_eq!(check_address(address), Ok(()), "{address}");
        }
        let refused = build_message(&mail("s", "t", "h"), vec![], &envelope("x", "nobody")).unwrap_err();
        assert_eq!(refused, MailError::Refused("the address \"nobody\" has no @".into()));
    }

    #[test]
    fn a_file_name_never_leaves_its_folder() {
        assert_eq!(file_name("INV-2026-000001", "pay_1"), "INV-2026-000001-pay_1");
        assert_eq!(file_name("../../Ä/1", "pay_1"), "_._..___1-pay_1");
        assert!(file_name(&"9".repeat(500), "pay_1").len() < 200);
    }

    proptest! {
        #[test]
        fn any_strings_make_a_valid_mail_with_no_extra_header_line_and_no_panic(
            name in any::<String>(), subject in any::<String>(), text in any::<String>(), html in any::<String>(),
        ) {
            let message = build_message(&mail(&subject, &text, &html), vec![], &envelope(&name, "a@b.example")).unwrap();
            prop_assert_eq!(header_names(&message), HEADERS);
            prop_assert!(message.split(|b| *b == b'\n').all(|line| line.len() <= 999));
        }

        #[test]
        fn any_line_breaks_make_a_valid_mail_too(name in "[a\r\n\\u{85}\\u{202e}:\"<>@ ]{0,80}", to in any::<String>()) {
            let message = build_message(&mail(&name, &name, &name), vec![], &envelope(&name, "a@b.example")).unwrap();
            prop_assert_eq!(header_names(&message), HEADERS);
            let _ = build_message(&mail(&name, &name, &name), vec![], &envelope(&name, &to));
        }

        #[test]
        fn an_address_that_is_taken_is_taken_by_lettre_too(address in "[a-c.@+_-]{1,12}") {
            if check_address(&address).is_ok() {
                prop_assert!(address.parse::<Address>().is_ok(), "{}", address);
            }
        }
    }
}
