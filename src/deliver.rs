//! Sending the mails that wait: claim, render, send, settle, until nothing is due.
//!
//! A claim is committed before anything is sent, and no transaction is open while something is: a crash at any point loses no
//! mail. What was claimed is taken up again when its lease has run out, and is sent with the same bytes under the same name.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::TimeDelta;

use crate::clock::{Clock, micros};
use crate::domain::document::InvoiceDocument;
use crate::domain::message::{Attempt, MailState, Settled, message_id};
use crate::domain::payment::PaymentStatus;
use crate::domain::report::Delivery;
use crate::mail::{
    Attached, Envelope, FolderTransport, MailError, Outgoing, build_message, check_address, file_name, safe_for_files,
};
use crate::render::email::{Annex, MailFault, MailTemplates};
use crate::render::invoice::{InvoiceRenderer, RenderedInvoice};
use crate::store::outbox::ClaimedMail;
use crate::store::{Result as StoreResult, Store, StoreError};

/// How mails go out.
#[derive(Debug, Clone)]
pub struct DeliverySettings {
    /// Where mails are written as files; without it they stay in the outbox.
    pub folder: Option<PathBuf>,
    /// The address that mails come from.
    pub from: String,
    /// The right side of each Message-ID.
    pub message_id_domain: String,
    /// The operator's own templates; without it, or if it is not there, the built-in ones are used.
    pub templates: Option<PathBuf>,
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

/// Mails claimed at a time: few enough to be sent well within the lease, enough to make the cost of a transaction small.
const BATCH_SIZE: i64 = 100;

/// How long a claim keeps others away.
const LEASE: TimeDelta = TimeDelta::minutes(15);

/// A larger invoice does not go with its mail, because many mail servers would refuse it: 5 MB, about 3,000 pages.
const ANNEX_BYTES_MAX: usize = 5 * 1024 * 1024;

/// How often settling is tried again: it is all that stands between a mail that was sent and one that is sent twice.
const SETTLE_TRIES: u32 = 4;

/// Sends all mails that are due; may be dropped at any time.
///
/// An error means that the database or the settings are at fault. Mails that cannot go out are told in the report.
pub async fn deliver(
    store: &Store,
    settings: &DeliverySettings,
    clock: &dyn Clock,
    progress: Progress<'_>,
) -> anyhow::Result<DeliveryReport> {
    let mut report = DeliveryReport::default();
    let Some(folder) = &settings.folder else { return Ok(report) };
    let sender = Arc::new(Sender::new(settings, FolderTransport::new(folder))?);
    while report.stopped.is_none() && deliver_batch(store, &sender, clock, &mut report).await? {
        progress(&report);
    }
    Ok(report)
}

/// Like a server that is down: nothing can go out, no mail is to blame, and all of them wait until it is mended.
fn template_fault(why: &str) -> String {
    format!("a template of mails does not work: {why}")
}

/// Sends one batch; `false` if nothing was due.
async fn deliver_batch(
    store: &Store,
    sender: &Arc<Sender>,
    clock: &dyn Clock,
    report: &mut DeliveryReport,
) -> anyhow::Result<bool> {
    let (now, lease_until) = (micros(clock.now()), micros(clock.now() + LEASE));
    let claim = store.with_tx(move |tx| Box::pin(tx.claim_mails(BATCH_SIZE, now, lease_until)));
    let claimed = claim.await.context("cannot take mails from the outbox")?;
    if claimed.is_empty() {
        return Ok(false);
    }
    let mut snapshot = store.read().await?;
    let keys: Vec<(&str, &str)> = claimed.iter().map(|mail| (&*mail.tenant_id, &*mail.payment_id)).collect();
    let contents = snapshot.invoice_documents(&keys).await.context("cannot read what mails are to say")?;
    snapshot.end().await;

    let batch: Vec<_> = claimed.into_iter().zip(contents).collect();
    let sender = Arc::clone(sender);
    let sent = tokio::task::spawn_blocking(move || sender.send_batch(batch)).await.context("cannot send mails")?;

    let mut settled = Vec::with_capacity(sent.attempts.len());
    for (mail, attempt) in sent.attempts {
        let row = attempt.settle(mail.attempts)?;
        settled.push((mail, row));
    }
    let count = settled.len();
    let states = settle(store, settled, micros(clock.now())).await?;
    report.taken_over += (count - states.len()) as u64;
    for state in states {
        report.counts.add(state, 1);
    }
    report.stopped = sent.stopped;
    Ok(true)
}

/// Writes down what became of a batch, again if the database did not take it or did not answer: the fence makes that safe.
async fn settle(store: &Store, settled: Vec<(ClaimedMail, Settled)>, now: i64) -> anyhow::Result<Vec<MailState>> {
    let settled = Arc::new(settled);
    let mut tries = 1;
    loop {
        let rows = Arc::clone(&settled);
        let written: StoreResult<Vec<MailState>> =
            store.with_tx(move |tx| Box::pin(async move { tx.settle_mails(&rows, now).await })).await;
        match written {
            // The first try was committed after all, if the second finds nothing to write.
            Ok(states) if states.is_empty() && tries > 1 => return Ok(settled.iter().map(|(_, s)| s.state).collect()),
            Err(StoreError::Busy(_) | StoreError::UnknownCommit(_)) if tries < SETTLE_TRIES => {
                tokio::time::sleep(Duration::from_millis(200) * tries).await;
                tries += 1;
            }
            written => return written.context("cannot write down which mails were sent"),
        }
    }
}

/// What is needed to send a mail, opened once for a delivery.
struct Sender {
    templates: MailTemplates,
    /// Why nothing may go out: a template of the operator's does not work.
    templates_fault: Option<String>,
    /// Used by one batch at a time.
    renderer: Mutex<InvoiceRenderer>,
    transport: FolderTransport,
    from: String,
    message_id_domain: String,
}

/// A batch after it was sent, as far as it went.
struct SentBatch {
    attempts: Vec<(ClaimedMail, Attempt)>,
    stopped: Option<String>,
}

impl Sender {
    fn new(settings: &DeliverySettings, transport: FolderTransport) -> anyhow::Result<Self> {
        if let Err(reason) = check_address(&settings.from) {
            bail!("the address {:?}, from which mails are to come, {reason}", settings.from);
        }
        if let Err(reason) = check_address(&format!("id@{}", settings.message_id_domain)) {
            bail!("a Message-ID that ends in {:?} {reason}", settings.message_id_domain);
        }
        let own = settings.templates.as_deref().map(MailTemplates::with_own).transpose();
        let (own, templates_fault) = match own {
            Ok(own) => (own, None),
            Err(why) => (None, Some(template_fault(&why))),
        };
        let templates = own.map_or_else(MailTemplates::new, Ok).context("cannot read the templates of mails")?;
        Ok(Self {
            templates,
            templates_fault,
            renderer: Mutex::new(InvoiceRenderer::new().context("cannot read the fonts of invoices")?),
            transport,
            from: settings.from.clone(),
            message_id_domain: settings.message_id_domain.clone(),
        })
    }

    /// Sends mail by mail; once the transport fails, the rest is released untried.
    fn send_batch(&self, batch: Vec<(ClaimedMail, Result<InvoiceDocument, String>)>) -> SentBatch {
        let closed = || self.transport.prepare().err().map(|error| error.to_string());
        let mut stopped = self.templates_fault.clone().or_else(closed);
        let mut attempts = Vec::with_capacity(batch.len());
        for (mail, content) in batch {
            let attempt = match (&stopped, &mail.recipient) {
                (Some(reason), _) => Attempt::Released(String::clone(reason)),
                (None, None) => Attempt::NoRecipient,
                (None, Some(recipient)) => {
                    match content.map_err(MailError::Refused).and_then(|content| self.send(&mail, recipient, &content))
                    {
                        Ok(()) => Attempt::Accepted,
                        Err(MailError::Refused(reason)) => Attempt::Refused(reason),
                        Err(MailError::Deferred(reason)) => Attempt::Deferred(reason),
                        Err(MailError::Transport(reason)) => Attempt::Released(stopped.insert(reason).clone()),
                    }
                }
            };
            attempts.push((mail, attempt));
        }
        if let Err(error) = self.transport.flush() {
            // What was written may not last: all of it is to be written again.
            let reason = stopped.get_or_insert_with(|| error.to_string()).clone();
            for (_, attempt) in attempts.iter_mut().filter(|(_, attempt)| *attempt == Attempt::Accepted) {
                *attempt = Attempt::Released(reason.clone());
            }
        }
        SentBatch { attempts, stopped }
    }

    fn send(&self, mail: &ClaimedMail, recipient: &str, content: &InvoiceDocument) -> Result<(), MailError> {
        if content.status == PaymentStatus::Cancelled {
            return Err(MailError::Refused("the payment was cancelled before its invoice was sent".into()));
        }
        let refused = |error: anyhow::Error| MailError::Refused(format!("{error:#}"));
        let invoice = self.renderer.lock().unwrap_or_else(PoisonError::into_inner).render(content).map_err(refused)?;
        let xml = invoice.xml_beside();
        let annex = match xml {
            _ if invoice.pdf.len() + xml.map_or(0, <[u8]>::len) > ANNEX_BYTES_MAX => Annex::TooLarge,
            Some(_) => Annex::AttachedWithXml,
            None => Annex::Attached,
        };
        let rendered = self.templates.render(content, annex).map_err(|fault| match fault {
            MailFault::Template(why) => MailError::Transport(template_fault(&why)),
            MailFault::Mail(why) => MailError::Refused(why),
        })?;
        let date = crate::clock::instant(mail.created_at)
            .ok_or_else(|| MailError::Refused(format!("the mail has no usable creation time: {}", mail.created_at)))?;
        // A reply address that cannot be used is the seller's loss, and no reason to keep the invoice from the buyer.
        let reply_to = content.seller.email.as_deref().filter(|address| check_address(address).is_ok());
        let name = file_name(&content.invoice_number, &mail.payment_id);
        let attached = if annex == Annex::TooLarge { Vec::new() } else { files(&content.invoice_number, &invoice) };
        let bytes = build_message(
            &rendered,
            attached,
            &Envelope {
                from: &self.from,
                from_name: &content.seller.name,
                reply_to,
                to: recipient,
                message_id: &message_id(&mail.tenant_id, &mail.payment_id, &self.message_id_domain),
                date,
            },
        )?;
        self.transport.send(&Outgoing { from: &self.from, to: recipient, name: &name, bytes: &bytes })
    }
}

/// An invoice's files under its number.
fn files(invoice_number: &str, invoice: &RenderedInvoice) -> Vec<Attached> {
    let name = safe_for_files(invoice_number);
    let file = |ending: &str, content_type, bytes: &[u8]| Attached {
        file_name: format!("{name}.{ending}"),
        content_type,
        bytes: bytes.to_vec(),
    };
    let pdf = file("pdf", "application/pdf", &invoice.pdf);
    let xml = invoice.xml_beside().map(|xml| file("xml", "application/xml", xml));
    [pdf].into_iter().chain(xml).collect()
}
