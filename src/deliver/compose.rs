//! From a payment to the bytes of its mail.

use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use crate::domain::document::InvoiceDocument;
use crate::domain::message::{Attempt, Recipients, message_id};
use crate::domain::payment::PaymentStatus;
use crate::mail::{Attached, Envelope, MailError, Outgoing, build_message, check_address, file_name, safe_for_files};
use crate::render::email::{Annex, MailFault, MailTemplates};
use crate::render::invoice::{InvoiceRenderer, RenderedInvoice};
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
    /// Why nothing may go out: a template of the operator's does not work.
    fault: Option<String>,
    renderer: Mutex<InvoiceRenderer>,
    from: String,
    message_id_domain: String,
    redirect_to: Option<String>,
}

impl Composer {
    pub(super) fn new(settings: &DeliverySettings) -> anyhow::Result<Self> {
        let own = settings.templates.as_deref().map(MailTemplates::with_own).transpose();
        let (own, fault) = match own {
            Ok(own) => (own, None),
            Err(why) => (None, Some(template_fault(&why))),
        };
        let templates = own.map_or_else(MailTemplates::new, Ok).context("cannot read the templates of mails")?;
        Ok(Self {
            templates,
            fault,
            renderer: Mutex::new(InvoiceRenderer::new().context("cannot read the fonts of invoices")?),
            from: settings.from.clone(),
            message_id_domain: settings.message_id_domain.clone(),
            redirect_to: settings.redirect_to.clone(),
        })
    }

    /// Makes a mail, or says what becomes of it without being sent: released if no mail can be made.
    pub(super) fn compose(&self, waiting: Waiting) -> (ClaimedMail, Result<Message, Attempt>) {
        let Waiting { mail, content, recipients } = waiting;
        let Some(recipient) = mail.recipient.clone() else { return (mail, Err(Attempt::NoRecipient)) };
        if let Some(why) = &self.fault {
            return (mail, Err(Attempt::Released(why.clone())));
        }
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
        let attached = if annex == Annex::TooLarge { Vec::new() } else { files(&content.invoice_number, &invoice) };
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

/// Like a server that is down: nothing can go out, no mail is to blame, and all of them wait until it is mended.
fn template_fault(why: &str) -> String {
    format!("a template of mails does not work: {why}")
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
