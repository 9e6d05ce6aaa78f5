//! Who changed what: one row a change, written in the change's own transaction.

use sqlx::FromRow;

use super::page::Page;
use super::{Result, Session, on};

/// One change, for the record.
#[derive(Debug, Clone, FromRow)]
pub struct AuditEntry {
    /// Unique and ascending in time.
    pub audit_id: String,
    /// `key:<id>`, `cli` or `import`.
    pub actor: String,
    /// `create`, `update`, `delete` and the like.
    pub action: String,
    /// What was changed, such as `billingGroup`.
    pub kind: String,
    pub object_id: String,
    /// JSON: of an update the fields that changed, else the whole object; absent before a creation.
    pub state_before: Option<String>,
    /// JSON; absent after a deletion.
    pub state_after: Option<String>,
    /// Microseconds UTC.
    pub created_at: i64,
}

/// Which entries to list; an absent filter takes all.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    pub object_id: Option<String>,
}

impl Session {
    /// Puts a change on record.
    pub async fn insert_audit(&mut self, tenant_id: &str, entry: &AuditEntry) -> Result<()> {
        on!(self, |conn| {
            sqlx::query::<Db>(
            "insert into audit_log (tenant_id, audit_id, actor, action, kind, object_id, state_before, state_after, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
        )
        .bind(tenant_id)
        .bind(&entry.audit_id)
        .bind(&entry.actor)
        .bind(&entry.action)
        .bind(&entry.kind)
        .bind(&entry.object_id)
        .bind(&entry.state_before)
        .bind(&entry.state_after)
        .bind(entry.created_at)
        .execute(conn)
        .await?
        .rows_affected()
        });
        Ok(())
    }

    /// A page of what was changed.
    pub async fn list_audit(&mut self, tenant_id: &str, filter: &AuditFilter, page: &Page) -> Result<Vec<AuditEntry>> {
        Ok(on!(self, |conn| {
            let mut query = sqlx::QueryBuilder::<Db>::new(
                "select audit_id, actor, action, kind, object_id, state_before, state_after, created_at
                 from audit_log where tenant_id = ",
            );
            query.push_bind(tenant_id);
            if let Some(object_id) = &filter.object_id {
                query.push(" and object_id = ").push_bind(object_id);
            }
            page.push_to(&mut query, "audit_id");
            query.build_query_as::<AuditEntry>().fetch_all(conn).await?
        }))
    }
}
