//! `/v1/tenant`: one's own settings, by the same reading and checks as a record of an import.

use serde_json::{Map, Value, json as schema};

use crate::change::Refusal;
use crate::import::{Complaint, ImportError, TenantChange, TenantFields};
use crate::input::{ADDRESS_PARTS, Problem};
use crate::store::StoreError;

use super::call::{Answer, Call, Work, json};
use super::error::ApiError;
use super::{Operation, Takes, Versions};

const TAG: &str = "Tenant";

pub(super) static GET: Operation = Operation {
    id: "getTenant",
    tag: TAG,
    summary: "Get the tenant's own settings",
    extension: true,
    query: &[],
    takes: Takes::Nothing,
    gives: (200, "TenantRead", "The settings."),
    codes: &[],
    versions: Versions::None,
    run: get,
};

pub(super) static UPDATE: Operation = Operation {
    id: "updateTenant",
    tag: TAG,
    summary: "Change the tenant's own settings: what is not named stays, null takes a field out",
    extension: true,
    query: &[],
    takes: Takes::Json("Tenant"),
    gives: (200, "TenantWritten", "The settings as they are now. Invoices that exist stay as they are."),
    codes: &[],
    versions: Versions::None,
    run: update,
};

/// How often a change is begun again that met another one.
const ATTEMPTS_MAX: usize = 5;

fn get(call: Call) -> Work {
    Box::pin(async move {
        let fields = stored(&call).await?;
        Ok(Answer::ok(&[("success", json(&true)), ("tenant", json(&shown(&call, &fields)))]))
    })
}

fn update(mut call: Call) -> Work {
    Box::pin(async move {
        let (object, mut problems) = call.object()?;
        let mut attempts = 1;
        loop {
            let before = stored(&call).await?;
            let mut wanted = before.clone();
            problems.extend(wanted.merge(&object));
            if !problems.is_empty() {
                return Err(Refusal::shapes(problems).into());
            }
            if wanted == before {
                return Ok(written("the tenant is so already", &call, &before, &[]));
            }
            let made = TenantChange { before: Some(before), actor: call.by.actor.clone() };
            match wanted.import(&call.api.store, &call.by.tenant_id, made, call.by.now).await {
                Ok(summary) => {
                    let after = stored(&call).await?;
                    let warnings: Vec<String> =
                        summary.warnings().map(|warning| format!("{}: {}", warning.field, warning.message)).collect();
                    return Ok(written("the tenant was changed", &call, &after, &warnings));
                }
                Err(ImportError::Store(StoreError::Conflict | StoreError::Busy(_))) if attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                }
                Err(ImportError::Store(error)) => return Err(error.into()),
                Err(ImportError::Refused(complaints, _)) => {
                    let problem =
                        |complaint: Complaint| Problem::new(complaint.field, complaint.message, "invalid_value");
                    return Err(Refusal::shapes(complaints.into_iter().map(problem).collect()).into());
                }
                Err(error) => return Err(ApiError::internal(error.to_string())),
            }
        }
    })
}

async fn stored(call: &Call) -> Result<TenantFields, ApiError> {
    let mut session = call.api.store.read().await?;
    let content = session.tenant_content(&call.by.tenant_id).await?;
    session.end().await;
    content.as_ref().map(TenantFields::of).ok_or_else(|| Refusal::not_found("tenant").into())
}

fn shown(call: &Call, fields: &TenantFields) -> Value {
    let mut shown = fields.to_json();
    shown["tenantId"] = call.by.tenant_id.clone().into();
    shown
}

fn written(message: &str, call: &Call, fields: &TenantFields, warnings: &[String]) -> Answer {
    let mut body = vec![("success", json(&true)), ("message", json(&message)), ("tenant", json(&shown(call, fields)))];
    if !warnings.is_empty() {
        body.push(("warnings", json(&warnings)));
    }
    Answer::ok(&body)
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let text = schema!({"type": ["string", "null"]});
    let whole = schema!({"type": ["integer", "null"]});
    let tenant = schema!({"$ref": "#/components/schemas/Tenant"});
    let success = schema!({"type": "boolean", "enum": [true]});
    let parts: Map<String, Value> = ADDRESS_PARTS.iter().map(|part| ((*part).to_owned(), text.clone())).collect();
    vec![
        (
            "Tenant",
            schema!({
                "type": "object",
                "description": "The fields of a tenant's record as an import takes them; those that are not set are absent.",
                "properties": {
                    "tenantId": {"type": "string", "description": "Cannot be changed."},
                    "name": text,
                    "currency": text,
                    "timeZone": text,
                    "locale": text,
                    "billingCycle": {"type": ["string", "object", "null"], "properties": {"fixedDay": whole},
                                     "description": "startDate, or the day on which all rentals are billed."},
                    "contractEnd": text,
                    "proration": text,
                    "billFrom": text,
                    "paymentTermsDays": whole,
                    "tax": {"type": ["object", "null"],
                            "properties": {"mode": text, "rate": {"type": ["number", "null"], "description": "A percentage."}}},
                    "invoiceNumberFormat": text,
                    "firstInvoiceNumber": whole,
                    "catchUpDays": whole,
                    "maxArrears": whole,
                    "runAt": text,
                    "legalName": text,
                    "address": {"type": ["object", "string", "null"], "properties": parts},
                    "vatId": text,
                    "taxNumber": text,
                    "registration": text,
                    "contactName": text,
                    "phone": text,
                    "email": text,
                    "electronicAddress": text,
                    "iban": text,
                    "bic": text,
                    "logo": {"type": ["string", "null"],
                             "description": "The hash of the picture; a new one is set by `billday tenant set --logo`."},
                    "accentColor": text,
                    "footer": text,
                },
            }),
        ),
        (
            "TenantRead",
            schema!({"type": "object", "required": ["success", "tenant"],
                     "properties": {"success": success, "tenant": tenant}}),
        ),
        (
            "TenantWritten",
            schema!({"type": "object", "required": ["success", "message", "tenant"],
                     "properties": {"success": success, "message": {"type": "string"}, "tenant": tenant,
                                    "warnings": {"type": "array", "items": {"type": "string"},
                                                 "description": "What was taken with a doubt."}}}),
        ),
    ]
}
