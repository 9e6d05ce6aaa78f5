//! `…/preview`: what a group or subscription would be billed, and nothing is written.

use serde_json::{Value, json as schema};

use crate::change::{self, Refusal};
use crate::domain::SubjectKind;
use crate::preview::{self, WirePreview};

use super::call::{Answer, Call, Work, json};
use super::error::ApiError;
use super::{Operation, Parameter, Takes, Versions};

const QUERY: &[Parameter] = &[Parameter::new(
    "date",
    "The billing date; without it the next one on which there is something to bill. At most ten years ahead.",
)
.extension()];

pub(super) static GROUP: Operation = Operation {
    id: "previewBillingGroup",
    tag: "Billing Groups",
    summary: "Preview the next payment of a billing group",
    extension: true,
    query: QUERY,
    takes: Takes::Nothing,
    gives: (200, "PreviewRead", "The payment as it would be, or why there would be none."),
    codes: &["NOT_FOUND"],
    versions: Versions::None,
    run: |call| preview(call, SubjectKind::Group),
};

pub(super) static SUBSCRIPTION: Operation = Operation {
    id: "previewSubscription",
    tag: "Subscriptions",
    summary: "Preview the next payment for a subscription: that of its active group, if it is in one",
    extension: true,
    query: QUERY,
    takes: Takes::Nothing,
    gives: (200, "PreviewRead", "The payment as it would be, or why there would be none."),
    codes: &["NOT_FOUND"],
    versions: Versions::None,
    run: |call| preview(call, SubjectKind::Rental),
};

fn preview(mut call: Call, kind: SubjectKind) -> Work {
    Box::pin(async move {
        let inside = |error: anyhow::Error| ApiError::internal(format!("{error:#}"));
        let mut session = call.api.store.read().await?;
        let tenant = change::tenant(&mut session, &call.by).await?;
        let now = call.by.now;
        let date = call.query.date("date", tenant.time_zone);
        call.query.not_after("date", date, preview::last_date(now));
        call.query.check()?;
        let unknown = || Refusal::not_found(if kind == SubjectKind::Group { "billing group" } else { "subscription" });
        let id = call.id.as_deref().ok_or_else(unknown)?;
        let named = preview::find_one(&mut session, &tenant.tenant_id, kind, id).await.map_err(inside)?;
        let subject = named.ok_or_else(unknown)?.subject;
        let told = preview::tell(&mut session, &tenant, &subject, date, now).await.map_err(inside)?;
        session.end().await;
        let wire = WirePreview::new(&tenant, &subject, &told, now);
        Ok(Answer::ok(&[("success", json(&true)), ("preview", json(&wire))]))
    })
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let text = schema!({"type": "string"});
    vec![
        (
            "Preview",
            schema!({
                "type": "object",
                "required": ["tenantId"],
                "properties": {
                    "tenantId": text,
                    "billingGroupId": {"type": "string", "description": "The group that would be billed."},
                    "rentalId": {"type": "string", "description": "The subscription that would be billed alone."},
                    "runDate": {"type": "string", "format": "date"},
                    "payment": {"$ref": "#/components/schemas/Payment"},
                    "skipped": {"type": "object", "required": ["code", "message"],
                                "description": "There instead of a payment.",
                                "properties": {"code": text, "message": text}},
                },
            }),
        ),
        (
            "PreviewRead",
            schema!({"type": "object", "required": ["success", "preview"],
                     "properties": {"success": {"type": "boolean", "enum": [true]},
                                    "preview": {"$ref": "#/components/schemas/Preview"}}}),
        ),
    ]
}
