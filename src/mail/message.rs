//! Messages as bytes.
//!
//! A message's bytes depend on its content alone (id, date and boundary included), so every try sends the same.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, Utc};
use lettre::message::header::{Cc, ContentType, HeaderName, HeaderValue, To};
use lettre::message::{Attachment, Mailbox, Mailboxes, MultiPart, SinglePart};
use lettre::{Address, Message};
use sha2::{Digest, Sha256};

use crate::domain::message::{RenderedMail, clean};

use super::MailError;
use super::address::parse_address;

/// What stands on the outside of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub from: &'a str,
    /// Shown beside the address; cleaned here.
    pub from_name: &'a str,
    pub reply_to: Option<&'a str>,
    /// Who shows as addressed, and who as getting a copy; those that no mail can go to do not.
    pub to: &'a [String],
    pub copies: &'a [String],
    /// Whom this one goes to; the message says so only where it goes to somebody else on trial.
    pub recipient: &'a str,
    /// Who gets it instead, on trial.
    pub redirect_to: Option<&'a str>,
    /// With its angle brackets.
    pub message_id: &'a str,
    pub date: DateTime<Utc>,
}

/// A file that goes with a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Made safe by [`safe_for_files`](super::safe_for_files).
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
    let from_name = Some(in_header(envelope.from_name, NAME_MAX)).filter(|name| !name.is_empty());
    let boundary = boundary(mail, envelope.message_id);
    let mut parts = MultiPart::alternative()
        .boundary(&boundary)
        .singlepart(SinglePart::plain(sendable(&mail.text)))
        .singlepart(SinglePart::html(sendable(&mail.html)));
    if !attached.is_empty() {
        parts = MultiPart::mixed().boundary(format!("file-{boundary}")).multipart(parts);
    }
    for Attached { file_name, content_type, bytes } in attached {
        let content_type = ContentType::parse(content_type).map_err(|error| MailError::Refused(error.to_string()))?;
        parts = parts.singlepart(Attachment::new(file_name).body(bytes, content_type));
    }
    let recipient = parse_address(envelope.recipient)?;
    let redirected = envelope.redirect_to.map(parse_address).transpose()?;
    let (to, copies, subject) = match &redirected {
        Some(other) => (mailboxes([other.clone()]), Vec::new(), format!("[for {recipient}] {}", mail.subject)),
        None => (mailboxes(usable(envelope.to)), mailboxes(usable(envelope.copies)), mail.subject.clone()),
    };
    let mut builder = Message::builder()
        .message_id(Some(envelope.message_id.to_owned()))
        .date(envelope.date.into())
        .from(Mailbox::new(from_name, parse_address(envelope.from)?))
        .mailbox(To::from(to.into_iter().collect::<Mailboxes>()))
        .subject(in_header(&subject, SUBJECT_MAX))
        // Keeps holiday notes from answering (RFC 3834).
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()));
    if !copies.is_empty() {
        builder = builder.mailbox(Cc::from(copies.into_iter().collect::<Mailboxes>()));
    }
    if redirected.is_some() {
        let name = HeaderName::new_from_ascii_str("X-Billday-Recipient");
        builder = builder.raw_header(HeaderValue::new(name, recipient.to_string()));
    }
    if let Some(reply_to) = envelope.reply_to {
        builder = builder.reply_to(Mailbox::new(None, parse_address(reply_to)?));
    }
    let message = builder.multipart(parts).map_err(|error| MailError::Refused(error.to_string()))?;
    Ok(message.formatted())
}

/// A text as a header shows it. `=?` begins what receivers decode (RFC 2047): a text of somebody's that has it must not be decoded.
fn in_header(text: &str, chars_max: usize) -> String {
    clean(text, chars_max).replace("=?", "= ?")
}

/// A text as a mail may hold it: a carriage return alone ends a line too, and other control characters are none of it.
fn sendable(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n')).collect()
}

/// Those that mail can go to: a wrong one among several must not keep the invoice from the others.
fn usable(addresses: &[String]) -> impl Iterator<Item = Address> {
    addresses.iter().filter_map(|address| parse_address(address).ok())
}

fn mailboxes(addresses: impl IntoIterator<Item = Address>) -> Vec<Mailbox> {
    addresses.into_iter().map(|address| Mailbox::new(None, address)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope<'a>(from_name: &'a str, to: &'a str) -> Envelope<'a> {
        Envelope {
            from: "billing@seller.example",
            from_name,
            reply_to: None,
            to: Box::leak(Box::new([to.to_owned()])),
            copies: &[],
            recipient: to,
            redirect_to: None,
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
    fn each_recipient_gets_the_same_message_with_all_of_them_on_top_but_those_that_no_mail_can_go_to() {
        let to = ["a@b.example", "no address", "c@d.example"].map(str::to_owned);
        let copies = ["e@f.example".to_owned()];
        let build = |recipient| {
            let envelope = Envelope { to: &to, copies: &copies, recipient, ..envelope("Seller", "x@y.example") };
            build_message(&mail("s", "t", "h"), vec![], &envelope).unwrap()
        };
        let message = String::from_utf8(build("a@b.example")).unwrap();
        assert_eq!(message.as_bytes(), build("e@f.example"));
        assert!(message.contains("To: a@b.example, c@d.example\r\nSubject: s\r\n"), "{message}");
        assert!(message.contains("\r\nCc: e@f.example\r\n"), "{message}");
    }

    #[test]
    fn on_trial_a_mail_says_whom_it_was_for_and_goes_to_somebody_else() {
        let copies = ["e@f.example".to_owned()];
        let on_trial =
            Envelope { copies: &copies, redirect_to: Some("me@my.example"), ..envelope("Seller", "a@b.example") };
        let message = String::from_utf8(build_message(&mail("s", "t", "h"), vec![], &on_trial).unwrap()).unwrap();
        assert!(message.contains("\r\nTo: me@my.example\r\nSubject: [for a@b.example] s\r\n"), "{message}");
        assert!(message.contains("\r\nX-Billday-Recipient: a@b.example\r\n") && !message.contains("Cc:"), "{message}");
    }

    #[test]
    fn a_name_or_subject_that_looks_encoded_is_not_decoded_into_another() {
        let built =
            build_message(&mail("=?utf-8?b?eA==?=", "t", "h"), vec![], &envelope("=?utf-8?q?x?=", "a@b.example"));
        let message = String::from_utf8(built.unwrap()).unwrap();
        assert!(message.contains("\r\nSubject: = ?utf-8?b?eA== ?=\r\n"), "{message}");
        assert!(!message.contains("=?utf-8?q?x?="), "{message}");
    }

    #[test]
    fn no_part_holds_a_carriage_return_alone_or_another_control_character() {
        let built = build_message(&mail("s", "a\rb\r\nc\0\td\n", "<p>\r</p>"), vec![], &envelope("x", "a@b.example"));
        let message = String::from_utf8(built.unwrap()).unwrap();
        assert!(message.contains("\r\n\r\na\r\nb\r\nc\td\r\n"), "{message:?}");
        assert!(!message.replace("\r\n", "").contains(['\r', '\n', '\0']), "{message:?}");
    }

    #[test]
    fn an_address_that_cannot_be_used_builds_no_mail() {
        let refused = build_message(&mail("s", "t", "h"), vec![], &envelope("x", "nobody")).unwrap_err();
        assert_eq!(refused, MailError::Refused("the address \"nobody\" has no @".into()));
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
}
