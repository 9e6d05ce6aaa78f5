//! Invoices, made once: what goes out is kept first, and what is kept goes out on every try.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use chrono::Datelike;

use crate::clock::micros;
use crate::documents::DocumentFault;
use crate::domain::document::{DocumentKind, InvoiceDocument, KeptDocument, sha256_of};
use crate::domain::message::Attempt;
use crate::domain::payment::PaymentStatus;
use crate::mail::{file_name, safe_for_files};

use super::compose::{Composer, Files, Invoice};
use super::{Pass, insist};

/// A tenant and a payment.
type Key = (String, String);

impl Pass<'_> {
    /// The invoice of each payment with its files, which are kept; or what becomes of its mails without.
    ///
    /// Files are on record before any mail goes out, so a newer program that draws differently still sends the same invoice.
    pub(super) async fn invoices(
        &self,
        composer: &Arc<Composer>,
        contents: Vec<(Key, Result<InvoiceDocument, String>)>,
        mut kept: HashMap<Key, Vec<KeptDocument>>,
    ) -> anyhow::Result<HashMap<Key, Result<Arc<Invoice>, Attempt>>> {
        if let Some(why) = &composer.fault {
            // Nothing is to be kept that will not go out.
            let released = |(key, _)| (key, Err(Attempt::Released(why.clone())));
            return Ok(contents.into_iter().map(released).collect());
        }
        let mut invoices = HashMap::with_capacity(contents.len());
        let mut new = Vec::new();
        for (key, content) in contents {
            let invoice = match (content, kept.remove(&key)) {
                (Err(why), _) => Err(Attempt::Refused(why)),
                (Ok(content), _) if content.status == PaymentStatus::Cancelled => {
                    Err(Attempt::Refused("the payment was cancelled before its invoice was sent".to_owned()))
                }
                (Ok(content), Some(kept)) => self.read(&kept).await.map(|files| Arc::new(Invoice { content, files })),
                (Ok(content), None) => {
                    new.push((key, content));
                    continue;
                }
            };
            invoices.insert(key, invoice);
        }
        let composer = Arc::clone(composer);
        let make = move || new.into_iter().map(|(key, content)| (key, made(&composer, content))).collect();
        let new: Vec<_> = tokio::task::spawn_blocking(make).await.context("cannot make invoices")?;
        let not_kept = self.keep(new.iter().filter_map(|(_, invoice)| invoice.as_deref().ok()).collect()).await?;
        invoices.extend(new.into_iter().map(|(key, invoice)| match &not_kept {
            Some(why) => (key, invoice.and(Err(Attempt::Released(why.clone())))),
            None => (key, invoice),
        }));
        Ok(invoices)
    }

    /// The files of an invoice as they are kept.
    async fn read(&self, kept: &[KeptDocument]) -> Result<Files, Attempt> {
        let mut files = Files { pdf: Vec::new(), xml: None };
        for document in kept {
            let bytes = self.settings.documents.get(document).await.map_err(|fault| match fault {
                DocumentFault::Unreachable(why) => Attempt::Released(why),
                // A person can put it back; the other mails need not wait for that.
                DocumentFault::Lost(why) => Attempt::Deferred(why),
            })?;
            match document.kind {
                DocumentKind::Pdf => files.pdf = bytes,
                DocumentKind::Xml => files.xml = Some(bytes),
            }
        }
        Ok(files)
    }

    /// Keeps the files of invoices and puts them on record; tells why that is not possible now.
    async fn keep(&self, invoices: Vec<&Invoice>) -> anyhow::Result<Option<String>> {
        let now = micros(self.clock.now());
        let (mut files, mut rows) = (Vec::new(), Vec::new());
        for invoice in invoices {
            let Files { pdf, xml } = &invoice.files;
            let xml = xml.as_ref().map(|xml| (DocumentKind::Xml, xml));
            for (kind, bytes) in [(DocumentKind::Pdf, pdf)].into_iter().chain(xml) {
                let row = record(&invoice.content, kind, bytes, now);
                files.push((row.place.clone(), bytes.clone()));
                rows.push(row);
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        if let Err(why) = self.settings.documents.put(files).await {
            return Ok(Some(why));
        }
        let rows = Arc::new(rows);
        let write = || {
            let rows = Arc::clone(&rows);
            self.store.with_tx(move |tx| Box::pin(async move { tx.insert_documents(&rows).await }))
        };
        insist(write).await.context("cannot put documents on record")?;
        Ok(None)
    }
}

fn made(composer: &Composer, content: InvoiceDocument) -> Result<Arc<Invoice>, Attempt> {
    composer.files(&content).map(|files| Arc::new(Invoice { content, files }))
}

/// `TENANT/YEAR/NUMBER-PAYMENT.pdf`: the number for people, the payment's id so that no two are the same.
fn record(content: &InvoiceDocument, kind: DocumentKind, bytes: &[u8], now: i64) -> KeptDocument {
    let InvoiceDocument { tenant_id, payment_id, .. } = content;
    let name = file_name(&content.invoice_number, payment_id, 0);
    KeptDocument {
        place: format!("{}/{}/{name}.{}", safe_for_files(tenant_id), content.issue_date.year(), kind.as_str()),
        tenant_id: tenant_id.clone(),
        payment_id: payment_id.clone(),
        kind,
        sha256: sha256_of(bytes),
        bytes: bytes.len() as i64,
        created_at: now,
    }
}
