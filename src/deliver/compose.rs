//! From a payment to the bytes of its mail.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

use crate::domain::document::InvoiceDocument;
use crate::domain::message::{Attempt, Recipients, message_id};
use crate::mail::{Attached, Envelope, MailError, Outgoing, build_message, check_address, file_name, safe_for_files};
use crate::render::email::{Annex, MailFault, MailTemplates};
use crate::render::invoice::InvoiceRenderer;
use crate::store::outbox::ClaimedMail;

use super::DeliverySettings;

/// A larger invoice does not go with its mail, because many mail servers would refuse it: 5 MB, about 3,000 pages.
const ANNEX_BYTES_MAX: usize = 5 * 1024 * 1024;

/// A claimed mail with the invoice that goes with it, or what becomes of it without one.
pub(super) struct Waiting {
    pub mail: ClaimedMail,
    pub invoice: Result<Arc<Invoice>, Attempt>,
    /// All that get the invoice.
    pub recipients: Recipients,
}

/// An invoice that can go out: what it says, and its files, which are kept.
pub(super) struct Invoice {
    pub content: InvoiceDocument,
    pub files: Files,
}

/// An invoice's files.
pub(super) struct Files {
    pub pdf: Vec<u8>,
    /// The e-invoice, where it is not inside the PDF.
    pub xml: Option<Vec<u8>>,
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
    pub fault: Option<String>,
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
        let Waiting { mail, invoice, recipients } = waiting;
        let Some(recipient) = mail.recipient.clone() else { return (mail, Err(Attempt::NoRecipient)) };
        let made = invoice.and_then(|invoice| {
            self.message(&mail, &recipient, &recipients, &invoice).map_err(|error| super::attempt(Err(error)))
        });
        (mail, made)
    }

    /// Makes an invoice's files.
    pub(super) fn files(&self, content: &InvoiceDocument) -> Result<Files, Attempt> {
        let rendered = self.renderer.lock().unwrap_or_else(PoisonError::into_inner).render(content);
        let rendered = rendered.map_err(|error| Attempt::Refused(format!("{error:#}")))?;
        Ok(Files { xml: rendered.xml_beside().map(<[u8]>::to_vec), pdf: rendered.pdf })
    }

    fn message(
        &self,
        mail: &ClaimedMail,
        recipient: &str,
        recipients: &Recipients,
        Invoice { content, files }: &Invoice,
    ) -> Result<Message, MailError> {
        let annex = match &files.xml {
            xml if files.pdf.len() + xml.as_ref().map_or(0, Vec::len) > ANNEX_BYTES_MAX => Annex::TooLarge,
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
        let attached = if annex == Annex::TooLarge { Vec::new() } else { attached(&content.invoice_number, files) };
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
fn attached(invoice_number: &str, files: &Files) -> Vec<Attached> {
    let name = safe_for_files(invoice_number);
    let file = |ending: &str, content_type, bytes: &[u8]| Attached {
        file_name: format!("{name}.{ending}"),
        content_type,
        bytes: bytes.to_vec(),
    };
    let pdf = file("pdf", "application/pdf", &files.pdf);
    let xml = files.xml.as_ref().map(|xml| file("xml", "application/xml", xml));
    [pdf].into_iter().chain(xml).collect()
}
