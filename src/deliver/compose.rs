//! From a payment to the bytes of its mail.

use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use crate::domain::document::InvoiceDocument;
use crate::domain::message::{Attempt, Recipients, message_id};
use crate::domain::payment::PaymentStatus;
use crate::mail::{Attached, Envelope, MailError, Outgoing, build_message, check_address, file_name, safe_for_files};
use crate::render::email::{Annex, MailTemplates};
use crate::render::invoice::InvoiceRenderer;
use crate::store::outbox::ClaimedMail;

use super::DeliverySettings;

/// A larger invoice does not go with its mail, because many mail servers would refuse it: 5 MB, about 3,000 pages.
const ANNEX_BYTES_MAX: usize = 5 * 1024 * 1024;

/// A claimed mail with what it is to say, or why that cannot be read.
pub(super) struct Waiting {
    pub mail: ClaimedMail,
    pub content: Result<InvoiceDocument, String>,
    /// All that get the invoice.
    pub recipients: Recipients,
}

/// A message that can go out.
pub(super) struct Message {
    from: String,
    to: String,
    name: String,
    bytes: Vec<u8>,
}

impl Message {
    pub(super) fn outgoing(&self) -> Outgoing<'_> {
        Outgoing { from: &self.from, to: &self.to, name: &self.name, bytes: &self.bytes }
    }
}

/// What is needed to make mails; one mail at a time.
pub(super) struct Composer {
    templates: MailTemplates,
    renderer: Mutex<InvoiceRenderer>,
    from: String,
    message_id_domain: String,
    redirect_to: Option<String>,
}

impl Composer {
    pub(super) fn new(settings: &DeliverySettings) -> anyhow::Result<Self> {
        Ok(Self {
            templates: MailTemplates::new().context("cannot read the templates of mails")?,
            renderer: Mutex::new(InvoiceRenderer::new().context("cannot read the fonts of invoices")?),
            from: settings.from.clone(),
            message_id_domain: settings.message_id_domain.clone(),
            redirect_to: settings.redirect_to.clone(),
        })
    }

    /// Makes a mail, or says what becomes of it without being sent.
    pub(super) fn compose(&self, waiting: Waiting) -> (ClaimedMail, Result<Message, Attempt>) {
        let Waiting { mail, content, recipients } = waiting;
        let Some(recipient) = mail.recipient.clone() else { return (mail, Err(Attempt::NoRecipient)) };
        let made = content
            .map_err(MailError::Refused)
            .and_then(|content| self.message(&mail, &recipient, &recipients, &content))
            .map_err(|error| super::attempt(Err(error)));
        (mail, made)
    }

    fn message(
        &self,
        mail: &ClaimedMail,
        recipient: &str,
        recipients: &Recipients,
        content: &InvoiceDocument,
    ) -> Result<Message, MailError> {
        if content.status == PaymentStatus::Cancelled {
            return Err(MailError::Refused("the payment was cancelled before its invoice was sent".into()));
        }
        let refused = |error: anyhow::Error| MailError::Refused(format!("{error:#}"));
        let invoice = self.renderer.lock().unwrap_or_else(PoisonError::into_inner).render(content).map_err(refused)?;
        let pdf = Some(invoice.pdf).filter(|pdf| pdf.len() <= ANNEX_BYTES_MAX);
        let annex = if pdf.is_some() { Annex::Attached } else { Annex::TooLarge };
        let rendered = self.templates.render(content, annex).map_err(refused)?;
        let date = crate::clock::instant(mail.created_at)
            .ok_or_else(|| MailError::Refused(format!("the mail has no usable creation time: {}", mail.created_at)))?;
        // A reply address that cannot be used is the seller's loss, and no reason to keep the invoice from the buyer.
        let reply_to = content.seller.email.as_deref().filter(|address| check_address(address).is_ok());
        let attach = |bytes| Attached {
            file_name: format!("{}.pdf", safe_for_files(&content.invoice_number)),
            content_type: "application/pdf",
            bytes,
        };
        let attached = pdf.into_iter().map(attach).collect();
        let bytes = build_message(
            &rendered,
            attached,
            &Envelope {
                from: &self.from,
                from_name: &content.seller.name,
                reply_to,
                to: &recipients.to,
                copies: &recipients.copies,
                recipient,
                redirect_to: self.redirect_to.as_deref(),
                message_id: &message_id(&mail.tenant_id, &mail.payment_id, &self.message_id_domain),
                date,
            },
        )?;
        Ok(Message {
            from: self.from.clone(),
            to: self.redirect_to.clone().unwrap_or_else(|| recipient.to_owned()),
            name: file_name(&content.invoice_number, &mail.payment_id, mail.position),
            bytes,
        })
    }
}
