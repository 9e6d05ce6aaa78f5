//! Which documents are kept, and by which hash they are known again; the files themselves are elsewhere.

use std::collections::HashMap;

use anyhow::{Context, anyhow};
use sqlx::FromRow;

use crate::domain::document::{DocumentKind, KeptDocument};

use super::dialect::{Column, Rows, insert};
use super::{Result, Session, StoreError, dialect, on};

impl Session {
    /// Puts documents on record. One that is on record stays as it is: what was sent first is the invoice.
    pub async fn insert_documents(&mut self, kept: &[KeptDocument]) -> Result<()> {
        let rows = Rows {
            table: "documents",
            columns: vec![
                ("tenant_id", Column::Text(kept.iter().map(|d| d.tenant_id.as_str()).collect())),
                ("payment_id", Column::Text(kept.iter().map(|d| d.payment_id.as_str()).collect())),
                ("kind", Column::Text(kept.iter().map(|d| d.kind.as_str()).collect())),
                ("sha256", Column::Text(kept.iter().map(|d| d.sha256.as_str()).collect())),
                ("bytes", Column::Int(kept.iter().map(|d| d.bytes).collect())),
                ("place", Column::Text(kept.iter().map(|d| d.place.as_str()).collect())),
                ("created_at", Column::Int(kept.iter().map(|d| d.created_at).collect())),
            ],
            conflict: "on conflict do nothing",
            count: kept.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    /// The documents that are kept of each (tenant, payment); a payment of which none is, is absent.
    pub async fn kept_documents(
        &mut self,
        keys: &[(&str, &str)],
    ) -> Result<HashMap<(String, String), Vec<KeptDocument>>> {
        let json = serde_json::to_string(keys).context("cannot list payments")?;
        let rows: Vec<DocumentRow> = on!(self, |conn| dialect::with_payments::<Db>(
            "select tenant_id, payment_id, kind, sha256, bytes, place, created_at
             from documents
             where (tenant_id, payment_id) in $payments
             order by tenant_id, payment_id, kind",
            &json
        )
        .try_map(|row| DocumentRow::from_row(&row))
        .fetch_all(conn)
        .await?);
        let mut kept: HashMap<(String, String), Vec<KeptDocument>> = HashMap::new();
        for row in rows {
            let document = KeptDocument::try_from(row)?;
            kept.entry((document.tenant_id.clone(), document.payment_id.clone())).or_default().push(document);
        }
        Ok(kept)
    }

    /// A page of kept documents, of one tenant if named, ordered by tenant, payment and kind, beginning behind `after`.
    pub async fn list_documents(
        &mut self,
        tenant_id: Option<&str>,
        after: Option<&KeptDocument>,
        limit: i64,
    ) -> Result<Vec<KeptDocument>> {
        let rows: Vec<DocumentRow> = on!(self, |conn| sqlx::query_as::<Db, DocumentRow>(
            "select tenant_id, payment_id, kind, sha256, bytes, place, created_at
             from documents
             where ($1 is null or tenant_id = $1) and (tenant_id, payment_id, kind) > ($2, $3, $4)
             order by tenant_id, payment_id, kind
             limit $5"
        )
        .bind(tenant_id)
        .bind(after.map_or("", |after| &after.tenant_id))
        .bind(after.map_or("", |after| &after.payment_id))
        .bind(after.map_or("", |after| after.kind.as_str()))
        .bind(limit)
        .fetch_all(conn)
        .await?);
        rows.into_iter().map(TryInto::try_into).collect()
    }
}

#[derive(FromRow)]
struct DocumentRow {
    tenant_id: String,
    payment_id: String,
    kind: String,
    sha256: String,
    bytes: i64,
    place: String,
    created_at: i64,
}

impl TryFrom<DocumentRow> for KeptDocument {
    type Error = StoreError;

    fn try_from(row: DocumentRow) -> Result<Self> {
        Ok(Self {
            kind: DocumentKind::parse(&row.kind)
                .ok_or_else(|| anyhow!("documents.kind holds {:?}, which this program does not know", row.kind))?,
            tenant_id: row.tenant_id,
            payment_id: row.payment_id,
            sha256: row.sha256,
            bytes: row.bytes,
            place: row.place,
            created_at: row.created_at,
        })
    }
}
