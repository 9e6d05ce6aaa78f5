//! Mails as bytes, taken apart again by a small reader of their own.

use billday::domain::message::{RenderedMail, clean, message_id};
use billday::mail::{Attached, Envelope, MailError, build_message, check_address, safe_for_files};
use chrono::DateTime;
use data_encoding::BASE64;

use super::{is_one_line, texts};

const FROM: &str = "billing@seller.example";

/// Any names, words, addresses and ids: a message with the headers that are meant, and the words as they were, or a refusal.
pub fn message(data: &[u8]) {
    let [from_name, subject, text, html, recipient, others, reply_to, redirect_to, file, payment_id] = texts(data);
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (reply_to, redirect_to, file) = (some(&reply_to), some(&redirect_to), some(&file));
    let to = [vec![recipient.clone()], others.split('\n').map(str::to_owned).collect()].concat();
    let copies: Vec<String> = to.iter().rev().cloned().collect();
    let envelope = Envelope {
        from: FROM,
        from_name: &from_name,
        reply_to: reply_to.as_deref(),
        to: &to,
        copies: &copies,
        recipient: &recipient,
        redirect_to: redirect_to.as_deref(),
        message_id: &message_id(&from_name, &payment_id, "seller.example"),
        date: DateTime::from_timestamp_micros(1_782_864_000_000_000).expect("an instant"),
    };
    let mail = RenderedMail { subject, text, html };
    let attached = || {
        let name = file.as_deref().map(|file| format!("{}.pdf", safe_for_files(file)));
        let bytes = data.to_vec();
        name.map(|file_name| Attached { file_name, content_type: "application/pdf", bytes }).into_iter().collect()
    };

    let built = build_message(&mail, attached(), &envelope);
    assert_eq!(built, build_message(&mail, attached(), &envelope), "another try sends other bytes");
    let addresses = [Some(recipient.as_str()), reply_to.as_deref(), redirect_to.as_deref()];
    let usable = addresses.into_iter().flatten().all(|address| check_address(address).is_ok());
    match built {
        Ok(bytes) => {
            assert!(usable, "{envelope:?}");
            checked(&bytes, &mail, &envelope, file.is_some().then_some(data));
        }
        Err(MailError::Refused(why)) => {
            assert!(
                !usable && is_one_line(&why) && !why.starts_with("the message cannot be built"),
                "{why}: {envelope:?}"
            );
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn checked(bytes: &[u8], mail: &RenderedMail, envelope: &Envelope<'_>, file: Option<&[u8]>) {
    let text = std::str::from_utf8(bytes).expect("only ASCII");
    for line in text.split("\r\n") {
        assert!(line.len() <= 998 && line.is_ascii() && !line.contains(['\r', '\n', '\0']), "{line:?}");
    }
    let whole = Part::read(text);
    let mut names = vec!["Message-ID", "Date", "From", "To", "Subject", "Auto-Submitted"];
    let listed = |addresses: &[String]| {
        let usable = addresses.iter().filter(|address| check_address(address).is_ok());
        usable.cloned().collect::<Vec<_>>().join(", ")
    };
    let (mut to, copies) = (listed(envelope.to), listed(envelope.copies));
    let mut subject = mail.subject.clone();
    if let Some(other) = envelope.redirect_to {
        (to, subject) = (other.to_owned(), format!("[for {}] {subject}", envelope.recipient));
        names.push("X-Billday-Recipient");
        assert_eq!(whole.header("X-Billday-Recipient"), envelope.recipient);
    } else {
        names.push("Cc");
        assert_eq!(whole.header("Cc"), copies);
    }
    if let Some(reply_to) = envelope.reply_to {
        names.push("Reply-To");
        assert_eq!(whole.header("Reply-To"), reply_to);
    }
    names.extend(["MIME-Version", "Content-Type"]);
    assert_eq!(whole.names(), names);
    assert_eq!(whole.header("Message-ID"), envelope.message_id);
    assert_eq!(whole.header("To"), to);
    assert_eq!(decoded_words(&whole.header("Subject")), in_header(&subject, 200));
    let name = in_header(envelope.from_name, 100);
    let from = decoded_words(&whole.header("From"));
    let expected = if name.is_empty() { FROM.to_owned() } else { format!("{name} <{FROM}>") };
    let unquoted = from.replace(['"', '\\'], "");
    assert_eq!(unquoted, expected.replace(['"', '\\'], ""));
    assert!(from.ends_with(&expected[name.len()..]));

    let parts = whole.parts();
    let words = match file {
        None => parts,
        Some(file) => {
            let [words, attached] = parts.try_into().ok().expect("words and a file");
            assert_eq!(attached.content(), file);
            Part::parts(&words)
        }
    };
    let [plain, html] = words.try_into().ok().expect("text and HTML");
    assert_eq!((plain.said(), html.said()), (lines(&mail.text), lines(&mail.html)));
}

/// What a header shows of a text; nothing in it begins an encoded word.
fn in_header(text: &str, chars_max: usize) -> String {
    clean(text, chars_max).replace("=?", "= ?")
}

/// A message, or a part of one.
struct Part<'a> {
    /// Unfolded.
    headers: Vec<(&'a str, String)>,
    body: &'a str,
}

impl<'a> Part<'a> {
    fn read(text: &'a str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let mut headers: Vec<(&str, String)> = Vec::new();
        for line in head.split("\r\n") {
            if line.starts_with([' ', '\t']) {
                headers.last_mut().expect("a line to continue").1.push_str(line);
            } else {
                let (name, value) = line.split_once(": ").expect("a header");
                assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{line:?}");
                headers.push((name, value.to_owned()));
            }
        }
        Self { headers, body }
    }

    fn names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| *name).collect()
    }

    fn header(&self, name: &str) -> String {
        let values: Vec<&String> =
            self.headers.iter().filter(|(other, _)| *other == name).map(|(_, value)| value).collect();
        assert_eq!(values.len(), 1, "{name} in {:?}", self.headers);
        values[0].trim().to_owned()
    }

    fn parts(&self) -> Vec<Part<'a>> {
        let kind = self.header("Content-Type");
        assert!(kind.starts_with("multipart/"), "{kind}");
        let boundary = kind.split_once("boundary=\"").and_then(|(_, rest)| rest.split_once('"')).expect("a boundary").0;
        let opening = format!("--{boundary}\r\n");
        let (parts, rest) = self.body.split_once(&format!("\r\n--{boundary}--")).expect("an end");
        assert!(rest.trim().is_empty(), "{rest:?}");
        let parts = parts.strip_prefix(&opening).expect("a beginning");
        parts.split(&format!("\r\n{opening}")).map(Part::read).collect()
    }

    fn content(&self) -> Vec<u8> {
        match self.header("Content-Transfer-Encoding").as_str() {
            "7bit" => self.body.as_bytes().to_vec(),
            "base64" => BASE64.decode(self.body.replace("\r\n", "").as_bytes()).expect("base64"),
            "quoted-printable" => unquoted(self.body),
            other => panic!("{other}"),
        }
    }

    fn said(&self) -> Vec<String> {
        lines(&String::from_utf8(self.content()).expect("UTF-8"))
    }
}

/// The lines of a text, however they end, without what no mail may hold.
fn lines(text: &str) -> Vec<String> {
    let lines = text.replace("\r\n", "\n");
    lines.split(['\n', '\r']).map(|line| line.replace(|c: char| c.is_control() && c != '\t', "")).collect()
}

fn unquoted(text: &str) -> Vec<u8> {
    let text = text.replace("=\r\n", "");
    let mut pieces = text.split('=');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(&piece[..2], 16).expect("two digits"));
        bytes.extend(&piece.as_bytes()[2..]);
    }
    bytes
}

/// A header with its encoded words (RFC 2047) as what they say; white space between two of them means nothing.
fn decoded_words(header: &str) -> String {
    let (mut said, mut rest, mut after_word) = (String::new(), header, false);
    while let Some((plain, encoded)) = rest.split_once("=?utf-8?b?") {
        let (word, tail) = encoded.split_once("?=").expect("the end of an encoded word");
        if !(after_word && plain.trim().is_empty()) {
            said.push_str(plain);
        }
        let bytes = BASE64.decode(word.as_bytes()).expect("base64");
        said.push_str(&String::from_utf8(bytes).expect("whole characters"));
        (rest, after_word) = (tail, true);
    }
    said + rest
}
