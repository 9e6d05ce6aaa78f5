//! The mail that goes with a payment: what it says, and the states that its sending goes through.
//!
//! ```text
//! pending ──claim (lease, fence + 1)──► sending ──accepted────────► sent
//!    ▲                                   │   ▲ └──refused, given up► failed ─────────┐
//!    │◄──deferred (backoff), released────┘   └─claim again once the lease ran out    │
//!    │                                   └─────no recipient────────► undeliverable ──┤
//!    └───────────────────────────────retried by a person─────────────────────────────┘
//! ```

use std::fmt;

use sha2::{Digest, Sha256};

/// A mail in words: one subject, and the same content as plain text and as HTML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedMail {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// Where the sending of a mail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MailState {
    Pending,
    /// Claimed by a process, for as long as its lease lasts.
    Sending,
    Sent,
    /// It cannot go out as it is; a person may retry it.
    Failed,
    /// There is nobody to send it to; a person may retry it once there is.
    Undeliverable,
}

super::words!(MailState {
    Pending = "pending",
    Sending = "sending",
    Sent = "sent",
    Failed = "failed",
    Undeliverable = "undeliverable",
});

/// What can happen to a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailEvent {
    /// A process takes it; of one that is being sent only when its lease ran out.
    Claimed,
    Accepted,
    /// Refused for good: trying the same again is of no use.
    Refused,
    /// This mail did not go through now; it may later.
    Deferred,
    /// Deferred too often.
    GivenUp,
    /// The way out is closed for all mails: this one was not tried.
    Released,
    NoRecipient,
    /// A person wants it tried anew.
    Retried,
}

/// An event that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mail that is {} cannot be {event:?}", state.as_str())]
pub struct NotAllowed {
    pub state: MailState,
    pub event: MailEvent,
}

/// The state after an event; the one place that says what may follow what.
pub fn step(state: MailState, event: MailEvent) -> Result<MailState, NotAllowed> {
    use MailEvent::{Accepted, Claimed, Deferred, GivenUp, NoRecipient, Refused, Released, Retried};
    use MailState::{Failed, Pending, Sending, Sent, Undeliverable};
    match (state, event) {
        (Pending | Sending, Claimed) => Ok(Sending),
        (Sending, Accepted) => Ok(Sent),
        (Sending, Refused | GivenUp) => Ok(Failed),
        (Sending, Deferred | Released) => Ok(Pending),
        (Sending, NoRecipient) => Ok(Undeliverable),
        (Failed | Undeliverable, Retried) => Ok(Pending),
        _ => Err(NotAllowed { state, event }),
    }
}

/// What became of trying to send one mail; the texts are for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Accepted,
    NoRecipient,
    Refused(String),
    Deferred(String),
    /// Not tried, because the transport as a whole does not work: no attempt is counted.
    Released(String),
}

/// A mail's row after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub state: MailState,
    pub attempts: i64,
    /// How many seconds to wait before the next attempt, if there is to be one.
    pub wait_seconds: Option<i64>,
    pub error: Option<String>,
}

/// The first wait after a deferred attempt; each further one doubles it.
const WAIT_SECONDS_BASE: i64 = 60;
const WAIT_SECONDS_MAX: i64 = 4 * 60 * 60;
/// A mail that was deferred for so long in all is given up.
const WAITED_SECONDS_MAX: i64 = 72 * 60 * 60;

impl Attempt {
    /// What a mail that is being sent becomes, `attempts` having been counted before.
    ///
    /// The patience of 72 hours is counted in waits and not by the clock, so that a machine that was off loses no attempt,
    /// and a person's retry starts afresh.
    pub fn settle(self, attempts: i64) -> Result<Settled, NotAllowed> {
        let wait = wait_seconds(attempts);
        let (event, wait_seconds, error) = match self {
            Self::Accepted => (MailEvent::Accepted, None, None),
            Self::NoRecipient => (MailEvent::NoRecipient, None, None),
            Self::Refused(reason) => (MailEvent::Refused, None, Some(reason)),
            Self::Deferred(reason) if wait.is_none() => (MailEvent::GivenUp, None, Some(reason)),
            Self::Deferred(reason) => (MailEvent::Deferred, wait, Some(reason)),
            Self::Released(reason) => (MailEvent::Released, Some(0), Some(reason)),
        };
        let state = step(MailState::Sending, event)?;
        let counted = i64::from(!matches!(event, MailEvent::Released | MailEvent::NoRecipient));
        Ok(Settled {
            state,
            attempts: attempts + counted,
            wait_seconds,
            error: error.map(|text| clean(&text, ERROR_MAX)),
        })
    }
}

/// How long to wait after the attempt that follows `attempts` earlier ones; `None` when patience is at its end.
fn wait_seconds(attempts: i64) -> Option<i64> {
    let wait = |n: i64| WAIT_SECONDS_BASE.saturating_mul(1 << n.clamp(0, 20)).min(WAIT_SECONDS_MAX);
    // The whole patience is far less than a thousand waits, whatever the row says.
    let waited: i64 = (0..attempts.min(1_000)).map(wait).sum();
    (waited < WAITED_SECONDS_MAX).then(|| wait(attempts))
}

/// Longest text of an error that is kept, in characters.
const ERROR_MAX: usize = 500;

/// The Message-ID of a payment's invoice mail: the same on every try, so that a receiver can drop a repeat.
///
/// Ids of payments are `[a-z0-9_]`; anything else becomes `_`, so that it can neither end the id nor the header.
pub fn message_id(tenant_id: &str, payment_id: &str, domain: &str) -> String {
    let digest = Sha256::digest(tenant_id.as_bytes());
    let tenant = data_encoding::BASE32_NOPAD.encode(&digest[..5]).to_ascii_lowercase();
    let payment: String =
        payment_id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    format!("<{payment}.invoice.{tenant}@{domain}>")
}

/// Text that is safe to show on one line: without control characters and marks that reorder text, spaces collapsed, at most
/// `chars_max` characters.
pub fn clean(text: &str, chars_max: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let visible = words.map(|word| word.chars().filter(|c| !is_hidden(*c)).collect::<String>());
    let cleaned = visible.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if cleaned.chars().nth(chars_max).is_none() {
        return cleaned;
    }
    cleaned.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

/// Longest name, address line or number that is shown, in characters.
const SHOWN_MAX: usize = 200;

/// A text from outside as mail, PDF and XML show it.
pub fn shown(text: &str) -> String {
    clean(text, SHOWN_MAX)
}

/// Likewise, unless nothing of it would be seen.
pub fn shown_if(text: Option<&str>) -> Option<String> {
    text.map(shown).filter(|text| !text.is_empty())
}

/// Whether a character shows nothing of its own and can make text read as something else: bidirectional marks, embeddings,
/// overrides and isolates, line separators, tags, the byte order mark.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{061c}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl fmt::Display for MailState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [MailEvent; 8] = [
        MailEvent::Claimed,
        MailEvent::Accepted,
        MailEvent::Refused,
        MailEvent::Deferred,
        MailEvent::GivenUp,
        MailEvent::Released,
        MailEvent::NoRecipient,
        MailEvent::Retried,
    ];

    fn allowed(state: MailState) -> Vec<MailState> {
        EVENTS.into_iter().filter_map(|event| step(state, event).ok()).collect()
    }

    #[test]
    fn a_mail_moves_only_as_the_picture_says() {
        use MailState::*;
        assert_eq!(allowed(Pending), [Sending]);
        assert_eq!(allowed(Sending), [Sending, Sent, Failed, Pending, Failed, Pending, Undeliverable]);
        assert_eq!(allowed(Failed), [Pending]);
        assert_eq!(allowed(Undeliverable), [Pending]);
        assert_eq!(allowed(Sent), [], "a sent mail is never sent again");
    }

    #[test]
    fn waits_double_up_to_four_hours_and_end_after_72_hours_in_all() {
        let waits: Vec<i64> = (0..).map_while(wait_seconds).collect();
        assert_eq!(waits[..9], [60, 120, 240, 480, 960, 1_920, 3_840, 7_680, 14_400]);
        let total: i64 = waits.iter().sum();
        assert!((WAITED_SECONDS_MAX..WAITED_SECONDS_MAX + WAIT_SECONDS_MAX).contains(&total), "{total}");
        assert_eq!(wait_seconds(i64::MAX), None);
        assert_eq!(wait_seconds(-1), Some(60));
    }

    #[test]
    fn a_mail_that_is_deferred_too_often_fails_with_its_last_reason() {
        let last = (0..).take_while(|n| wait_seconds(*n).is_some()).last().unwrap();
        let deferred = Attempt::Deferred("451 later".into()).settle(last).unwrap();
        assert_eq!((deferred.state, deferred.wait_seconds), (MailState::Pending, Some(WAIT_SECONDS_MAX)));
        let given_up = Attempt::Deferred("451 later".into()).settle(last + 1).unwrap();
        assert_eq!((given_up.state, given_up.wait_seconds), (MailState::Failed, None));
        assert_eq!(given_up.error.as_deref(), Some("451 later"));
    }

    #[test]
    fn a_transport_that_does_not_work_costs_a_mail_no_attempt() {
        let settled = Attempt::Released("disk full".into()).settle(3).unwrap();
        assert_eq!((settled.state, settled.attempts, settled.wait_seconds), (MailState::Pending, 3, Some(0)));
    }

    #[test]
    fn a_message_id_is_the_same_on_every_try_and_differs_by_tenant_and_payment() {
        let id = message_id("tnt_1", "pay_202607abc", "bills.example");
        assert_eq!(id, message_id("tnt_1", "pay_202607abc", "bills.example"));
        assert!(id.starts_with("<pay_202607abc.invoice.") && id.ends_with("@bills.example>"), "{id}");
        assert_ne!(id, message_id("tnt_2", "pay_202607abc", "bills.example"));
        assert_ne!(id, message_id("tnt_1", "pay_202607abd", "bills.example"));
        assert!(!message_id("t", "a>\r\nBcc: x", "d.example").contains(['\r', '\n', ' ']));
    }

    #[test]
    fn clean_text_has_one_line_and_reads_in_its_own_direction() {
        assert_eq!(clean("  Anna\r\n\tSmith\u{0}\u{7f}\u{85} ", 50), "Anna Smith");
        assert_eq!(clean("abc\u{202e}fdp\u{2066}.exe\u{feff}", 50), "abcfdp.exe");
        assert_eq!(clean("\u{202e} \u{202e}", 50), "");
        assert_eq!(clean("Käßtnér", 4), "Käß…");
        assert_eq!(clean("Käßt", 4), "Käßt");
    }
}
