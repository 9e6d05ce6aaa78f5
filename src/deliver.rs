//! Sending the mails that wait: claim, render, send, settle, until nothing is due.
//!
//! A claim is committed before anything is sent, and no transaction is open while something is: a crash at any point loses no
//! mail. Of what was claimed and not settled when its lease ran out nobody knows whether it was sent: a file is written again,
//! with the same bytes under the same name; a mail to a server is in doubt (see `domain::message`).

mod compose;
mod folder;
mod keep;
mod smtp;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::clock::{Clock, micros};
use crate::documents::DocumentStore;
use crate::domain::message::{Attempt, CHANCES, MailState, Patience, RenderedMail, Settled, WhenUnknown};
use crate::domain::report::Delivery;
use crate::mail::smtp::{SmtpServer, SmtpSettings};
use crate::mail::{Envelope, FolderTransport, MailError, Outgoing, build_message, check_address};
use crate::store::outbox::{ClaimedMail, Expired};
use crate::store::{Result as StoreResult, Store, StoreError};

use compose::{Composer, Waiting};

/// How mails go out.
#[derive(Debug, Clone)]
pub struct DeliverySettings {
    pub route: Route,
    /// The address that mails come from.
    pub from: String,
    /// The right side of each Message-ID.
    pub message_id_domain: String,
    /// The operator's own templates; without it, or if it is not there, the built-in ones are used.
    pub templates: Option<PathBuf>,
    /// Who gets all mails instead of those they are for, on trial.
    pub redirect_to: Option<String>,
    pub when_unknown: WhenUnknown,
    /// Gives a random number below [`CHANCES`].
    pub chance: fn() -> u32,
    /// Where the documents are kept that go out.
    pub documents: DocumentStore,
}

/// Where mails go.
#[derive(Debug, Clone)]
pub enum Route {
    /// They stay in the outbox.
    Nowhere,
    /// Each becomes a file in this folder.
    Folder(PathBuf),
    Smtp {
        server: SmtpSettings,
        /// How many are sent at a time.
        connections: u32,
        /// How many this process sends in a minute at most; 0 for any number.
        per_minute: u32,
    },
}

/// What one delivery did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryReport {
    /// The mails taken up, by where they stand now.
    pub counts: Delivery,
    /// Mails that took longer than their lease, so that another process answers for them.
    pub taken_over: u64,
    /// Why no mail can go out at all; those that are left wait for the next delivery.
    pub stopped: Option<String>,
}

/// Hears of the report after each batch.
pub type Progress<'a> = &'a mut (dyn FnMut(&DeliveryReport) + Send);

/// How long a claim keeps others away: longer than a conversation with the slowest server, and some minutes before it.
pub const LEASE: TimeDelta = TimeDelta::minutes(20);

/// How often a write that may be repeated is tried: a settling is all that stands between a mail that was sent and one that is
/// sent twice.
const WRITE_TRIES: u32 = 4;

/// Sends all mails that are due; may be dropped at any time.
///
/// An error means that the database or the settings are at fault. Mails that cannot go out are told in the report.
pub async fn deliver(
    store: &Store,
    settings: &DeliverySettings,
    clock: &dyn Clock,
    progress: Progress<'_>,
) -> anyhow::Result<DeliveryReport> {
    // Its sender is kept until the end: nobody stops this one.
    let (_never, stop) = watch::channel(false);
    deliver_until(store, settings, clock, progress, stop).await
}

/// The same until `stop` is true: then no more mails are taken up, and those in flight end.
pub async fn deliver_until(
    store: &Store,
    settings: &DeliverySettings,
    clock: &dyn Clock,
    progress: Progress<'_>,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<DeliveryReport> {
    settings.check()?;
    let pass = Pass { store, settings, clock, stop };
    match &settings.route {
        Route::Nowhere => Ok(DeliveryReport::default()),
        Route::Folder(folder) => folder::deliver(&pass, folder, progress).await,
        Route::Smtp { server, connections, per_minute } => {
            smtp::deliver(&pass, server, *connections, *per_minute, progress).await
        }
    }
}

/// A number for [`DeliverySettings::chance`].
pub fn random_chance() -> u32 {
    // The lower half of such an id is random.
    (uuid::Uuid::now_v7().as_u128() % u128::from(CHANCES)) as u32
}

impl DeliverySettings {
    fn check(&self) -> anyhow::Result<()> {
        if let Err(reason) = check_address(&self.from) {
            bail!("the address {:?}, from which mails are to come, {reason}", self.from);
        }
        if let Err(reason) = check_address(&format!("id@{}", self.message_id_domain)) {
            bail!("a Message-ID that ends in {:?} {reason}", self.message_id_domain);
        }
        if let Some(Err(reason)) = self.redirect_to.as_deref().map(check_address) {
            bail!("the address {:?}, to which all mails are to go, {reason}", self.redirect_to);
        }
        Ok(())
    }

    fn patience(&self) -> Patience {
        Patience { when_unknown: self.when_unknown, chance: (self.chance)() }
    }
}

/// One delivery with what it works on.
struct Pass<'a> {
    store: &'a Store,
    settings: &'a DeliverySettings,
    clock: &'a dyn Clock,
    stop: watch::Receiver<bool>,
}

impl Pass<'_> {
    /// Takes up to `limit` mails that are due, and makes and keeps the invoices that go with them.
    async fn claim(&self, limit: i64, expired: Expired, composer: &Arc<Composer>) -> anyhow::Result<Vec<Waiting>> {
        if *self.stop.borrow() {
            return Ok(Vec::new());
        }
        let (now, lease_until) = (micros(self.clock.now()), micros(self.clock.now() + LEASE));
        let claim = self.store.with_tx(move |tx| Box::pin(tx.claim_mails(limit, now, lease_until, expired)));
        let claimed = claim.await.context("cannot take mails from the outbox")?;
        if claimed.is_empty() {
            return Ok(Vec::new());
        }
        // Several mails of one payment say the same.
        let keys: BTreeSet<(&str, &str)> = claimed.iter().map(|mail| (&*mail.tenant_id, &*mail.payment_id)).collect();
        let keys: Vec<(&str, &str)> = keys.into_iter().collect();
        let mut snapshot = self.store.read().await?;
        let recipients = snapshot.list_recipients(&keys).await?;
        let contents = snapshot.invoice_documents(&keys).await.context("cannot read what mails are to say")?;
        let kept = snapshot.kept_documents(&keys).await?;
        snapshot.end().await;
        let contents = keys.iter().map(|(tenant, payment)| (tenant.to_string(), payment.to_string())).zip(contents);
        let invoices = self.invoices(composer, contents.collect(), kept).await?;
        let waiting = claimed.into_iter().map(|mail| {
            let key = (mail.tenant_id.clone(), mail.payment_id.clone());
            let none = || Err(Attempt::Refused("it belongs to no payment".to_owned()));
            let invoice = invoices.get(&key).cloned().unwrap_or_else(none);
            Waiting { recipients: recipients.get(&key).cloned().unwrap_or_default(), invoice, mail }
        });
        Ok(waiting.collect())
    }

    /// Writes down what became of mails, and counts it.
    async fn settle(&self, attempts: Vec<(ClaimedMail, Attempt)>, report: &mut DeliveryReport) -> anyhow::Result<()> {
        let mut settled = Vec::with_capacity(attempts.len());
        for (mail, attempt) in attempts {
            let row = attempt.settle(mail.tried(), self.settings.patience())?;
            settled.push((mail, row));
        }
        let count = settled.len();
        let states = write_settled(self.store, settled, micros(self.clock.now())).await?;
        report.taken_over += (count - states.len()) as u64;
        for state in states {
            report.counts.add(state, 1);
        }
        Ok(())
    }
}

/// Writes down what became of mails; the fence makes it safe to do so again.
async fn write_settled(
    store: &Store,
    settled: Vec<(ClaimedMail, Settled)>,
    now: i64,
) -> anyhow::Result<Vec<MailState>> {
    let settled = Arc::new(settled);
    let write = || {
        let rows = Arc::clone(&settled);
        store.with_tx(move |tx| Box::pin(async move { tx.settle_mails(&rows, now).await }))
    };
    let (states, tries) = insist(write).await.context("cannot write down which mails were sent")?;
    // The first try was committed after all, if the second finds nothing to write.
    let all = || settled.iter().map(|(_, settled)| settled.state).collect();
    Ok(if states.is_empty() && tries > 1 { all() } else { states })
}

/// Writes again if the database did not take it or did not answer; tells the number of tries.
async fn insist<T, F: Future<Output = StoreResult<T>>>(write: impl Fn() -> F) -> StoreResult<(T, u32)> {
    let mut tries = 1;
    loop {
        match write().await {
            Err(StoreError::Busy(_) | StoreError::UnknownCommit(_)) if tries < WRITE_TRIES => {
                tokio::time::sleep(Duration::from_millis(200) * tries).await;
                tries += 1;
            }
            written => return Ok((written?, tries)),
        }
    }
}

/// What a transport's answer means for the mail.
fn attempt(sent: Result<(), MailError>) -> Attempt {
    match sent {
        Ok(()) => Attempt::Accepted,
        Err(MailError::Refused(reason)) => Attempt::Refused(reason),
        Err(MailError::Deferred(reason) | MailError::Broken(reason)) => Attempt::Deferred(reason),
        Err(MailError::Unknown(reason)) => Attempt::Doubted(reason),
        Err(MailError::Late(reason) | MailError::Transport(reason)) => Attempt::Released(reason),
    }
}

/// Sends a small mail to one address, outside of the outbox; tells what was said on the way, and whether it went out.
pub async fn send_trial(
    settings: &DeliverySettings,
    address: &str,
    now: DateTime<Utc>,
) -> anyhow::Result<(Vec<String>, Result<(), MailError>)> {
    let words = RenderedMail {
        subject: "billday can send mails".to_owned(),
        text: "This mail was sent by `billday mail test`. No invoice belongs to it.\n".to_owned(),
        html: "<p>This mail was sent by <code>billday mail test</code>. No invoice belongs to it.</p>\n".to_owned(),
    };
    send_words(settings, address, "test", &words, now).await
}

/// Sends a mail to the operator, outside of the outbox: it is tried once. Its kind names the file, where mails become files.
pub async fn send_words(
    settings: &DeliverySettings,
    address: &str,
    kind: &str,
    words: &RenderedMail,
    now: DateTime<Utc>,
) -> anyhow::Result<(Vec<String>, Result<(), MailError>)> {
    settings.check()?;
    if let Err(reason) = check_address(address) {
        bail!("the address {address:?} {reason}");
    }
    let id = uuid::Uuid::now_v7().simple().to_string();
    let envelope = Envelope {
        from: &settings.from,
        from_name: "billday",
        reply_to: None,
        to: &[address.to_owned()],
        copies: &[],
        recipient: address,
        redirect_to: settings.redirect_to.as_deref(),
        message_id: &format!("<{id}.{kind}@{}>", settings.message_id_domain),
        date: now,
    };
    let bytes = build_message(words, Vec::new(), &envelope)?;
    let to = settings.redirect_to.as_deref().unwrap_or(address);
    let mail = Outgoing { from: &settings.from, to, name: kind, bytes: &bytes };
    match &settings.route {
        Route::Nowhere => bail!("mail.transport is \"none\": no mail goes anywhere"),
        Route::Folder(folder) => {
            let transport = FolderTransport::new(folder);
            let sent = transport.prepare().and_then(|()| transport.send(&mail)).and_then(|()| transport.flush());
            Ok((vec![format!("written as a file to {}", folder.display())], sent))
        }
        Route::Smtp { server, .. } => {
            let mut conversation = match SmtpServer::new(server.clone()) {
                Ok(server) => Arc::new(server).conversation().noted(),
                Err(error) => return Ok((Vec::new(), Err(error))),
            };
            let sent = conversation.send(&mail, Instant::now() + LEASE.to_std()?).await;
            let steps = conversation.steps().to_vec();
            conversation.end().await;
            Ok((steps, sent))
        }
    }
}
