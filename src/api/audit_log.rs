//! `/v1/audit-log`: who changed what.

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock;
use crate::render::payment::instant;
use crate::store::audit::{AuditEntry, AuditFilter};

use super::call::{Call, Work};
use super::query::{Envelope, LIMIT, Query, SORT_DIR, START_AFTER};
use super::{Operation, Parameter, Takes, Versions};

pub(super) static LIST: Operation = Operation {
    id: "listAuditLog",
    tag: "Audit Log",
    summary: "List changes, who made them and what they changed",
    extension: true,
    query: &[
        LIMIT,
        START_AFTER,
        Parameter::new("objectId", "Only changes of the object with this id.").extension(),
        SORT_DIR,
    ],
    takes: Takes::Nothing,
    gives: (200, "AuditLogList", "A page of changes."),
    codes: &[],
    versions: Versions::None,
    run: list,
};

fn list(mut call: Call) -> Work {
    Box::pin(async move {
        let filter = filter(&mut call.query);
        let list = call.query.page()?;
        let mut session = call.api.store.read().await?;
        let entries = session.list_audit(&call.by.tenant_id, &filter, &list.page).await?;
        session.end().await;
        let (entries, next) =
            list.cut(entries, |entry| list.position(entry.created_at, entry.created_at, &entry.audit_id));
        let entries: Vec<WireEntry> = entries.into_iter().map(WireEntry::from).collect();
        Ok(list.answer("auditLog", Envelope::Success, &entries, next))
    })
}

pub(super) fn filter(query: &mut Query) -> AuditFilter {
    AuditFilter { object_id: query.id("objectId") }
}

/// A change on the wire; fields in the order in which they are sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireEntry {
    audit_id: String,
    created_at: String,
    actor: String,
    action: String,
    kind: String,
    object_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

impl From<AuditEntry> for WireEntry {
    fn from(entry: AuditEntry) -> Self {
        let read = |state: Option<String>| serde_json::from_str(&state?).ok();
        Self {
            audit_id: entry.audit_id,
            created_at: clock::instant(entry.created_at).map(instant).unwrap_or_default(),
            actor: entry.actor,
            action: entry.action,
            kind: entry.kind,
            object_id: entry.object_id,
            before: read(entry.state_before),
            after: read(entry.state_after),
        }
    }
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        (
            "AuditEntry",
            json!({
                "type": "object",
                "required": ["auditId", "actor", "action", "kind", "objectId", "createdAt"],
                "properties": {
                    "auditId": {"type": "string", "minLength": 1},
                    "actor": {"type": "string", "description": "key:<id>, cli or import."},
                    "action": {"type": "string"},
                    "kind": {"type": "string", "description": "What was changed, such as billingGroup."},
                    "objectId": {"type": "string"},
                    "before": {"type": "object", "description": "The fields that changed, or the object that was deleted."},
                    "after": {"type": "object", "description": "The fields that changed, or the object that was created."},
                    "createdAt": {"type": "string", "format": "date-time"},
                },
            }),
        ),
        (
            "AuditLogList",
            json!({"type": "object", "required": ["success", "auditLog", "count", "hasMore", "nextCursor"],
                   "properties": {"success": {"type": "boolean", "enum": [true]},
                                  "auditLog": {"type": "array", "items": {"$ref": "#/components/schemas/AuditEntry"}},
                                  "count": {"type": "number"}, "hasMore": {"type": "boolean"},
                                  "nextCursor": {"type": ["string", "null"]}}}),
        ),
    ]
}
