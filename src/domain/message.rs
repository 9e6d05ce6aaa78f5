//! The mail that goes with a payment: what it says, and the states that its sending goes through.
//!
//! ```text
//! pending ──claim (lease, fence + 1)──► sending ──accepted──────────► sent
//!    ▲                                   │   ▲ ├──refused, given up──► failed ────────┐
//!    │◄──deferred (backoff), released────┤   │ ├──no recipient───────► undeliverable ─┤
//!    │                                   │   │ ├──doubted────────────► unknown ───────┤   accepted after all: sent
//!    │                                   │   └─┼──claim, once due────────┘ │ held back │
//!    │                                   │     └──doubted again, or ──► held ─────────┤   accepted after all: sent
//!    │                                   │        never to be resent                  │
//!    └───────────────────────────────────┴─retried by a person────────────────────────┘
//! ```
//!
//! A mail is doubted when the server may have taken it and nobody can know: only then can a second copy of it go out.

use std::fmt;

use sha2::{Digest, Sha256};

/// Who gets an invoice: each address once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recipients {
    pub to: Vec<String>,
    pub copies: Vec<String>,
}

impl Recipients {
    /// How many mails go out: one for each.
    pub fn count(&self) -> usize {
        self.to.len() + self.copies.len()
    }
}

/// Lists of recipients as a customer or a group states them; what is not stated is taken from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecipientLists {
    pub to: Option<Vec<String>>,
    pub copies: Option<Vec<String>>,
}

impl RecipientLists {
    /// These lists, with the ones of `other` where there are none.
    pub fn or(self, other: Self) -> Self {
        Self { to: self.to.or(other.to), copies: self.copies.or(other.copies) }
    }

    /// Who gets an invoice; `address` does if no list names anybody.
    pub fn recipients(&self, address: Option<&str>) -> Recipients {
        let named = self.to.as_deref().unwrap_or_default().iter().map(String::as_str);
        let to = once_each(named, &[]);
        let to = if to.is_empty() { once_each(address.into_iter(), &[]) } else { to };
        let copies = once_each(self.copies.as_deref().unwrap_or_default().iter().map(String::as_str), &to);
        Recipients { to, copies }
    }
}

/// The addresses without repetitions and without those of `others`, in order. Capitals make no other mailbox.
fn once_each<'a>(addresses: impl Iterator<Item = &'a str>, others: &[String]) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for address in addresses {
        if !once.iter().chain(others).any(|known| known.eq_ignore_ascii_case(address)) {
            once.push(address.to_owned());
        }
    }
    once
}

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
    /// The server may have taken it; it is sent once more, later, under the same Message-ID.
    Unknown,
    /// The server may have taken it; a person decides whether it is sent again.
    Held,
    /// It cannot go out as it is; a person may retry it.
    Failed,
    /// There is nobody to send it to; a person may retry it once there is.
    Undeliverable,
}

super::words!(MailState {
    Pending = "pending",
    Sending = "sending",
    Sent = "sent",
    Unknown = "unknown",
    Held = "held",
    Failed = "failed",
    Undeliverable = "undeliverable",
});

/// What can happen to a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailEvent {
    /// A process takes it; of one that is being sent only when its lease ran out and sending it again does no harm.
    Claimed,
    /// The server said so, maybe after it was thought lost.
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
    /// The server may have taken it, and it may be sent again.
    Doubted,
    /// The server may have taken it, and it may not be sent again by itself.
    HeldBack,
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
    use MailEvent::{Accepted, Claimed, Deferred, Doubted, GivenUp, HeldBack, NoRecipient, Refused, Released, Retried};
    use MailState::{Failed, Held, Pending, Sending, Sent, Undeliverable, Unknown};
    match (state, event) {
        (Pending | Sending | Unknown, Claimed) => Ok(Sending),
        (Sending | Unknown | Held, Accepted) => Ok(Sent),
        (Sending, Refused | GivenUp) => Ok(Failed),
        (Sending, Deferred | Released) => Ok(Pending),
        (Sending, NoRecipient) => Ok(Undeliverable),
        (Sending, Doubted) => Ok(Unknown),
        (Sending | Unknown, HeldBack) => Ok(Held),
        (Unknown | Held | Failed | Undeliverable, Retried) => Ok(Pending),
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
    /// Nobody can know whether the server took it.
    Doubted(String),
}

/// What to do with a mail that the server may have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenUnknown {
    /// Send it once more: a lost invoice is worse than a double one.
    #[default]
    Resend,
    /// Leave it to a person: no mail ever goes out twice.
    Hold,
}

super::words!(WhenUnknown { Resend = "resend", Hold = "hold" });

/// What was tried with a mail so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tried {
    pub attempts: i64,
    /// How often nobody could know whether the server took it.
    pub doubts: i64,
}

/// How to go on after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    pub when_unknown: WhenUnknown,
    /// A random number below [`CHANCES`], by which waits are cut, so that mails which failed together do not come back together.
    pub chance: u32,
}

/// Above every [`Patience::chance`].
pub const CHANCES: u32 = 1_000_000;

/// A mail's row after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    pub state: MailState,
    pub tried: Tried,
    /// How many seconds to wait before the next attempt, if there is to be one.
    pub wait_seconds: Option<i64>,
    pub error: Option<String>,
}

/// The first wait after a deferred attempt is at most this; each further one at most the double.
const WAIT_SECONDS_BASE: i64 = 60;
const WAIT_SECONDS_MAX: i64 = 4 * 60 * 60;
/// A mail is given up when its waits could have been so long in all; cut by chance they are half of it, 72 hours.
const WAITED_SECONDS_MAX: i64 = 2 * 72 * 60 * 60;
/// How long a doubted mail rests, so that a receiver has noted the first copy's Message-ID.
const DOUBTED_SECONDS: i64 = 15 * 60;
/// How often a doubted mail is sent again without a person.
const RESENDS_MAX: i64 = 1;

impl Attempt {
    /// What a mail that is being sent becomes, after what was tried before.
    ///
    /// Patience is counted in waits and not by the clock, so that a machine that was off loses no attempt, and a person's
    /// retry starts afresh.
    pub fn settle(self, before: Tried, patience: Patience) -> Result<Settled, NotAllowed> {
        let wait = wait_seconds(before.attempts);
        let resend = patience.when_unknown == WhenUnknown::Resend && before.doubts < RESENDS_MAX;
        let (event, wait_seconds, error) = match self {
            Self::Accepted => (MailEvent::Accepted, None, None),
            Self::NoRecipient => (MailEvent::NoRecipient, None, None),
            Self::Refused(reason) => (MailEvent::Refused, None, Some(reason)),
            Self::Deferred(reason) if wait.is_none() => (MailEvent::GivenUp, None, Some(reason)),
            Self::Deferred(reason) => {
                (MailEvent::Deferred, wait.map(|seconds| cut(seconds, patience.chance)), Some(reason))
            }
            Self::Released(reason) => (MailEvent::Released, Some(0), Some(reason)),
            Self::Doubted(reason) if resend => (MailEvent::Doubted, Some(DOUBTED_SECONDS), Some(reason)),
            Self::Doubted(reason) => (MailEvent::HeldBack, None, Some(reason)),
        };
        let counted = i64::from(!matches!(event, MailEvent::Released | MailEvent::NoRecipient));
        let doubted = i64::from(matches!(event, MailEvent::Doubted | MailEvent::HeldBack));
        step(MailState::Sending, event).map(|state| Settled {
            state,
            tried: Tried { attempts: before.attempts + counted, doubts: before.doubts + doubted },
            wait_seconds,
            error: error.map(|text| clean(&text, ERROR_MAX)),
        })
    }
}

/// The longest wait after the attempt that follows `attempts` earlier ones; `None` when patience is at its end.
fn wait_seconds(attempts: i64) -> Option<i64> {
    let wait = |n: i64| WAIT_SECONDS_BASE.saturating_mul(1 << n.clamp(0, 20)).min(WAIT_SECONDS_MAX);
    // The whole patience is far less than a thousand waits, whatever the row says.
    let waited: i64 = (0..attempts.min(1_000)).map(wait).sum();
    (waited < WAITED_SECONDS_MAX).then(|| wait(attempts))
}

/// A part of a wait, from one second to all of it.
fn cut(seconds: i64, chance: u32) -> i64 {
    let most = i64::from(CHANCES - 1);
    1 + (seconds - 1) * i64::from(chance).min(most) / most
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

    const EVENTS: [MailEvent; 10] = [
        MailEvent::Claimed,
        MailEvent::Accepted,
        MailEvent::Refused,
        MailEvent::Deferred,
        MailEvent::GivenUp,
        MailEvent::Released,
        MailEvent::NoRecipient,
        MailEvent::Doubted,
        MailEvent::HeldBack,
        MailEvent::Retried,
    ];

    /// Waits in full.
    const PATIENCE: Patience = Patience { when_unknown: WhenUnknown::Resend, chance: CHANCES - 1 };

    fn tried(attempts: i64) -> Tried {
        Tried { attempts, doubts: 0 }
    }

    fn allowed(state: MailState) -> Vec<MailState> {
        EVENTS.into_iter().filter_map(|event| step(state, event).ok()).collect()
    }

    #[test]
    fn a_mail_moves_only_as_the_picture_says() {
        use MailState::*;
        assert_eq!(allowed(Pending), [Sending]);
        assert_eq!(allowed(Sending), [Sending, Sent, Failed, Pending, Failed, Pending, Undeliverable, Unknown, Held]);
        assert_eq!(allowed(Unknown), [Sending, Sent, Held, Pending]);
        assert_eq!(allowed(Held), [Sent, Pending], "it is never sent again without a person");
        assert_eq!(allowed(Failed), [Pending]);
        assert_eq!(allowed(Undeliverable), [Pending]);
        assert_eq!(allowed(Sent), [], "a sent mail is never sent again");
    }

    #[test]
    fn waits_double_up_to_four_hours_and_end_after_72_hours_on_average() {
        let waits: Vec<i64> = (0..100).map_while(wait_seconds).collect();
        assert_eq!(waits[..9], [60, 120, 240, 480, 960, 1_920, 3_840, 7_680, 14_400]);
        let total: i64 = waits.iter().sum();
        // Half of it on average is 72 hours, give or take the last wait.
        assert!((518_400..518_400 + 14_400).contains(&total), "{total}");
        assert_eq!(wait_seconds(i64::MAX), None);
        assert_eq!(wait_seconds(-1), Some(60));
    }

    #[test]
    fn a_mail_that_is_deferred_too_often_fails_with_its_last_reason() {
        let last = (0..100).take_while(|n| wait_seconds(*n).is_some()).last().unwrap();
        let deferred = Attempt::Deferred("451 later".into()).settle(tried(last), PATIENCE).unwrap();
        assert_eq!((deferred.state, deferred.wait_seconds), (MailState::Pending, Some(WAIT_SECONDS_MAX)));
        let given_up = Attempt::Deferred("451 later".into()).settle(tried(last + 1), PATIENCE).unwrap();
        assert_eq!((given_up.state, given_up.wait_seconds), (MailState::Failed, None));
        assert_eq!(given_up.error.as_deref(), Some("451 later"));
    }

    #[test]
    fn a_transport_that_does_not_work_costs_a_mail_no_attempt() {
        let settled = Attempt::Released("disk full".into()).settle(tried(3), PATIENCE).unwrap();
        assert_eq!((settled.state, settled.tried, settled.wait_seconds), (MailState::Pending, tried(3), Some(0)));
    }

    #[test]
    fn a_wait_is_cut_by_chance_to_anything_from_a_second_to_all_of_it() {
        let wait = |chance| {
            let patience = Patience { chance, ..PATIENCE };
            Attempt::Deferred("451 later".into()).settle(tried(2), patience).unwrap().wait_seconds
        };
        assert_eq!([0, CHANCES / 2, CHANCES - 1, u32::MAX].map(wait), [1, 120, 240, 240].map(Some));
    }

    #[test]
    fn a_doubted_mail_is_sent_once_more_and_then_held_or_held_at_once() {
        let doubt = |when_unknown, doubts| {
            let before = Tried { attempts: 4, doubts };
            let settled =
                Attempt::Doubted("lost".into()).settle(before, Patience { when_unknown, ..PATIENCE }).unwrap();
            assert_eq!(settled.tried, Tried { attempts: 5, doubts: doubts + 1 });
            (settled.state, settled.wait_seconds)
        };
        assert_eq!(doubt(WhenUnknown::Resend, 0), (MailState::Unknown, Some(900)));
        assert_eq!(doubt(WhenUnknown::Resend, 1), (MailState::Held, None));
        assert_eq!(doubt(WhenUnknown::Hold, 0), (MailState::Held, None));
    }

    #[test]
    fn a_groups_lists_come_before_the_customers_and_an_address_gets_one_mail() {
        let list = |addresses: &[&str]| Some(addresses.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        let customer = RecipientLists { to: list(&["a@x.example", "b@x.example"]), copies: list(&["c@x.example"]) };
        let group = RecipientLists { to: list(&["g@x.example", "G@x.example"]), copies: None };
        let own = group.or(customer.clone()).recipients(Some("pay@x.example"));
        assert_eq!(own.count(), 2);
        assert_eq!((own.to, own.copies), (vec!["g@x.example".to_owned()], vec!["c@x.example".to_owned()]));
        let no_copies = RecipientLists { to: None, copies: list(&[]) }.or(customer).recipients(None);
        assert_eq!((no_copies.to.len(), no_copies.copies.len()), (2, 0));
        let copies_alone = RecipientLists { to: None, copies: list(&["pay@x.example", "c@x.example"]) };
        let said = copies_alone.recipients(Some("pay@x.example"));
        assert_eq!((said.to, said.copies), (vec!["pay@x.example".to_owned()], vec!["c@x.example".to_owned()]));
        assert_eq!(copies_alone.recipients(None).to, Vec::<String>::new());
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
        assert_eq!((clean("ab", 1), clean("ab", 0)), ("…".to_owned(), "…".to_owned()));
        // The first and last of each kind that is hidden, and letters' joiners, which are not.
        for hidden in
            "\u{61c}\u{200b}\u{200e}\u{200f}\u{202a}\u{202e}\u{2060}\u{206f}\u{feff}\u{fff9}\u{fffb}\u{e0000}\u{e007f}"
                .chars()
        {
            assert_eq!(clean(&format!("a{hidden}b"), 50), "ab", "{hidden:?}");
        }
        for seen in "\u{61b}\u{200c}\u{200d}\u{2070}\u{fffc}\u{e0100}".chars() {
            assert_eq!(clean(&format!("a{seen}b"), 50), format!("a{seen}b"));
        }
        assert_eq!(shown(&"x".repeat(201)), format!("{}…", "x".repeat(199)));
        assert_eq!(
            (shown_if(Some(" a ")), shown_if(Some(" \u{feff} ")), shown_if(None)),
            (Some("a".into()), None, None)
        );
    }

    #[test]
    fn an_attempt_is_counted_unless_no_server_was_asked_about_the_mail() {
        for (attempt, state, attempts, error) in [
            (Attempt::Accepted, "sent", 5, None),
            (Attempt::NoRecipient, "undeliverable", 4, None),
            (Attempt::Refused("550 no".into()), "failed", 5, Some("550 no")),
            (Attempt::Deferred("451 later".into()), "pending", 5, Some("451 later")),
            (Attempt::Released("disk full".into()), "pending", 4, Some("disk full")),
            (Attempt::Doubted("lost".into()), "unknown", 5, Some("lost")),
        ] {
            let settled = attempt.settle(tried(4), PATIENCE).unwrap();
            let said = (settled.state.to_string(), settled.tried.attempts, settled.error.as_deref());
            assert_eq!(said, (state.to_owned(), attempts, error));
        }
    }

    #[test]
    fn of_a_long_answer_of_a_server_the_first_500_characters_are_kept() {
        let settled = Attempt::Refused(format!("550\r\n{}", "ß".repeat(600))).settle(tried(0), PATIENCE).unwrap();
        assert_eq!(settled.error, Some(format!("550 {}…", "ß".repeat(495))));
    }

    #[test]
    fn an_event_that_the_state_does_not_allow_is_refused_in_words() {
        let refused = step(MailState::Sent, MailEvent::Claimed).unwrap_err();
        assert_eq!(refused.to_string(), "a mail that is sent cannot be Claimed");
    }
}
