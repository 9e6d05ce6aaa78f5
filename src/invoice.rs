//! One invoice as files, for whoever asks for it: what it says is read from its snapshot, and rendered then.

use std::sync::{Arc, Mutex};

use anyhow::{Context, anyhow};

use crate::documents::{DocumentFault, DocumentStore};
use crate::domain::document::{DocumentKind, InvoiceDocument, KeptDocument};
use crate::render::invoice::{InvoiceRenderer, RenderedInvoice};
use crate::store::Session;
use crate::store::invoices::Numbered;

/// What an invoice says; `None` if it was brought in by an import, for then its document was made elsewhere.
pub async fn document(session: &mut Session, invoice: &Numbered) -> anyhow::Result<Option<InvoiceDocument>> {
    if invoice.imported {
        return Ok(None);
    }
    let documents = session.invoice_documents(&[(&invoice.tenant_id, &invoice.payment_id)]).await?;
    let document = documents.into_iter().next().context("the payment is gone")?;
    document.map(Some).map_err(|reason| anyhow!(reason))
}

/// The file as it was sent, if it is kept: that is the invoice, whatever this program would draw today.
pub async fn sent(
    documents: &DocumentStore,
    kept: &[KeptDocument],
    kind: DocumentKind,
) -> Result<Option<Vec<u8>>, DocumentFault> {
    match kept.iter().find(|kept| kept.kind == kind) {
        Some(kept) => documents.get(kept).await.map(Some),
        None => Ok(None),
    }
}

/// Why there is no XML, for people.
pub fn no_xml(missing: &[String]) -> String {
    format!("there is no e-invoice XML: {}", missing.join("; "))
}

/// Renders invoices beside other work: one at a time, so that however many are asked for, one core is busy with them.
#[derive(Clone, Default)]
pub struct InvoiceFiles {
    /// Made with the first invoice.
    renderer: Arc<Mutex<Option<InvoiceRenderer>>>,
}

impl InvoiceFiles {
    /// The files of an invoice.
    pub async fn render(&self, document: InvoiceDocument) -> anyhow::Result<RenderedInvoice> {
        let renderer = self.renderer.clone();
        let rendering = tokio::task::spawn_blocking(move || {
            let mut renderer = renderer.lock().map_err(|_| anyhow!("an earlier invoice broke the renderer"))?;
            let ready = match renderer.take() {
                Some(ready) => ready,
                None => InvoiceRenderer::new()?,
            };
            renderer.insert(ready).render(&document)
        });
        rendering.await.context("the rendering task failed")?
    }
}
