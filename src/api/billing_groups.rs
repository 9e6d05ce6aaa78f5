//! `/v1/billing-groups`.

use axum::http::{HeaderMap, header};
use serde_json::{Value, json as schema};

use crate::change::groups::{self, GroupPatch, GroupView, IfMatch, NewGroup};
use crate::change::{Refusal, settled, transact};
use crate::domain::group::GroupStatus;
use crate::store::Session;
use crate::store::groups::GroupPageFilter;

use super::call::{Answer, Call, Work, json};
use super::error::ApiError;
use super::query::{Envelope, LIMIT, Query, SORT_BY, SORT_DIR, START_AFTER};
use super::replay::{self, ChangeFuture, idempotency_key};
use super::{Operation, Parameter, Takes, Versions};

const TAG: &str = "Billing Groups";

pub(super) static LIST: Operation = Operation {
    id: "listBillingGroups",
    tag: TAG,
    summary: "List billing groups",
    extension: false,
    query: &[
        LIMIT,
        START_AFTER,
        Parameter::new("customerId", "Only groups of this customer."),
        Parameter::new("status", "Only groups in this state.").words(GroupStatus::WORDS),
        SORT_BY,
        SORT_DIR,
    ],
    takes: Takes::Nothing,
    gives: (200, "BillingGroupList", "A page of groups."),
    codes: &[],
    versions: Versions::None,
    run: list,
};

pub(super) static CREATE: Operation = Operation {
    id: "createBillingGroup",
    tag: TAG,
    summary: "Create a billing group",
    extension: false,
    query: &[],
    takes: Takes::Json("BillingGroupCreate"),
    gives: (201, "BillingGroupWritten", "The new group."),
    codes: &[
        "CUSTOMER_NOT_FOUND",
        "SUBSCRIPTION_NOT_FOUND",
        "SUBSCRIPTION_DIFFERENT_CUSTOMER",
        "SUBSCRIPTION_NOT_ACTIVE",
        "SUBSCRIPTION_ALREADY_GROUPED",
        "SUBSCRIPTION_CURRENCY_MISMATCH",
        "INVALID_BILLING_DAY",
    ],
    versions: Versions::Sent,
    run: create,
};

pub(super) static GET: Operation = Operation {
    id: "getBillingGroup",
    tag: TAG,
    summary: "Get a billing group",
    extension: false,
    query: &[],
    takes: Takes::Nothing,
    gives: (200, "BillingGroupRead", "The group."),
    codes: &["NOT_FOUND"],
    versions: Versions::Sent,
    run: get,
};

pub(super) static UPDATE: Operation = Operation {
    id: "updateBillingGroup",
    tag: TAG,
    summary: "Update a billing group",
    extension: false,
    query: &[],
    takes: Takes::Json("BillingGroupUpdate"),
    gives: (200, "BillingGroupWritten", "The group as it is now."),
    codes: &[
        "NOT_FOUND",
        "SUBSCRIPTION_NOT_FOUND",
        "SUBSCRIPTION_DIFFERENT_CUSTOMER",
        "SUBSCRIPTION_NOT_ACTIVE",
        "SUBSCRIPTION_ALREADY_GROUPED",
        "SUBSCRIPTION_CURRENCY_MISMATCH",
        "INVALID_BILLING_DAY",
        "PRECONDITION_FAILED",
    ],
    versions: Versions::SentAndHeeded,
    run: update,
};

pub(super) static DELETE: Operation = Operation {
    id: "deleteBillingGroup",
    tag: TAG,
    summary: "Delete a billing group",
    extension: false,
    query: &[],
    takes: Takes::Nothing,
    gives: (200, "SuccessMessage", "The group is gone; its members are billed alone from now on, its payments stay."),
    codes: &["NOT_FOUND", "PRECONDITION_FAILED"],
    versions: Versions::Heeded,
    run: delete,
};

fn list(mut call: Call) -> Work {
    Box::pin(async move {
        let filter = filter(&mut call.query);
        let list = call.query.page()?;
        let mut session = call.api.store.read().await?;
        let records = session.list_group_page(&call.by.tenant_id, &filter, &list.page).await?;
        let (records, next) =
            list.cut(records, |group| list.position(group.created_at, group.updated_at, &group.billing_group_id));
        let views = groups::view(&mut session, &call.by, records).await?;
        session.end().await;
        Ok(list.answer("billingGroups", Envelope::Success, &views, next))
    })
}

pub(super) fn filter(query: &mut Query) -> GroupPageFilter {
    GroupPageFilter { customer_id: query.id("customerId"), status: query.get("status").and_then(GroupStatus::parse) }
}

fn get(call: Call) -> Work {
    Box::pin(async move {
        let id = call.id.as_deref().ok_or_else(unknown)?;
        let mut session = call.api.store.read().await?;
        let record = session.find_group(&call.by.tenant_id, id).await?;
        let views = groups::view(&mut session, &call.by, record.into_iter().collect()).await?;
        session.end().await;
        let view = views.first().ok_or_else(unknown)?;
        Ok(Answer::ok(&[("success", json(&true)), ("billingGroup", json(view))]).with_etag(view.etag()))
    })
}

fn create(mut call: Call) -> Work {
    Box::pin(async move {
        let key = idempotency_key(&call.headers);
        call.query.problems.extend(key.as_ref().err().cloned());
        let (object, problems) = call.object()?;
        let new = NewGroup::read(&object, problems)?;
        let by = call.by.clone();
        replay::once(&call, key.ok().flatten(), move |tx: &mut Session| {
            let (by, new) = (by.clone(), new.clone());
            Box::pin(async move {
                let created = groups::create(tx, &by, &new).await;
                settled(created.map(|view| written("the billing group was created", &view).created()))
            }) as ChangeFuture<'_>
        })
        .await
    })
}

fn update(mut call: Call) -> Work {
    Box::pin(async move {
        let (object, problems) = call.object()?;
        let patch = GroupPatch::read(&object, problems)?;
        let if_match = if_match(&call.headers);
        let (id, by) = (call.id.clone().ok_or_else(unknown)?, call.by.clone());
        let answer = transact(&call.api.store, move |tx: &mut Session| {
            let (by, id, patch, if_match) = (by.clone(), id.clone(), patch.clone(), if_match.clone());
            Box::pin(async move {
                let updated = groups::update(tx, &by, &id, &patch, &if_match).await;
                settled(updated.map(|view| written("the billing group was updated", &view)))
            }) as ChangeFuture<'_>
        });
        Ok(answer.await?)
    })
}

fn delete(call: Call) -> Work {
    Box::pin(async move {
        let if_match = if_match(&call.headers);
        let (id, by) = (call.id.clone().ok_or_else(unknown)?, call.by.clone());
        let answer = transact(&call.api.store, move |tx: &mut Session| {
            let (by, id, if_match) = (by.clone(), id.clone(), if_match.clone());
            Box::pin(async move {
                let message = "the billing group was deleted; its subscriptions are billed individually from now on";
                let deleted = groups::delete(tx, &by, &id, &if_match).await;
                settled(deleted.map(|_| Answer::ok(&[("success", json(&true)), ("message", json(&message))])))
            }) as ChangeFuture<'_>
        });
        Ok(answer.await?)
    })
}

fn unknown() -> ApiError {
    Refusal::not_found("billing group").into()
}

fn written(message: &str, view: &GroupView) -> Answer {
    let body = [("success", json(&true)), ("message", json(&message)), ("billingGroup", json(view))];
    Answer::ok(&body).with_etag(view.etag())
}

/// The versions that `If-Match` names (RFC 9110); a weak one matches nothing.
fn if_match(headers: &HeaderMap) -> IfMatch {
    let mut values = headers.get_all(header::IF_MATCH).iter().peekable();
    if values.peek().is_none() {
        return IfMatch::Any;
    }
    let tags: Vec<String> = values
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(|tag| tag.trim().to_owned())
        .collect();
    if tags == ["*"] { IfMatch::Any } else { IfMatch::OneOf(tags) }
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let day = schema!({"type": "integer", "minimum": 1, "maximum": 28});
    let ids = schema!({"type": "array", "items": {"type": "string"}});
    let name = schema!({"type": "string", "minLength": 1, "maxLength": 200});
    let status = schema!({"type": "string", "enum": GroupStatus::WORDS});
    let group = schema!({"$ref": "#/components/schemas/BillingGroup"});
    let success = schema!({"type": "boolean", "enum": [true]});
    vec![
        (
            "BillingGroup",
            schema!({
                "type": "object",
                "required": ["billingGroupId", "tenantId", "customerId", "groupName", "billingDay", "totalMonthlyAmount",
                             "currency", "status", "createdBy", "createdAt", "updatedAt"],
                "properties": {
                    "billingGroupId": {"type": "string", "minLength": 1},
                    "tenantId": {"type": "string", "minLength": 1},
                    "customerId": {"type": "string", "minLength": 1},
                    "groupName": name,
                    "rentalIds": {"type": "array", "items": {"type": "string"}, "default": [],
                                  "description": "Ordered by id; subscriptions that have ended too."},
                    "billingDay": day,
                    "totalMonthlyAmount": {"type": "number", "minimum": 0,
                        "description": "The monthly amounts of the active subscriptions, with the currency's digits."},
                    "activeRentalCount": {"type": "integer", "minimum": 0, "default": 0},
                    "currency": {"type": "string", "minLength": 3, "maxLength": 3},
                    "status": status,
                    "createdBy": {"type": "string", "minLength": 1, "description": "key:<id>, cli or import."},
                    "notes": {"type": "string"},
                    "createdAt": {"type": "string", "format": "date-time"},
                    "updatedAt": {"type": "string", "format": "date-time"},
                },
            }),
        ),
        (
            "BillingGroupCreate",
            schema!({
                "type": "object",
                "required": ["customerId", "groupName", "billingDay", "rentalIds"],
                "properties": {
                    "customerId": {"type": "string", "minLength": 1, "maxLength": 128},
                    "groupName": name,
                    "billingDay": day,
                    "rentalIds": {"type": "array", "minItems": 1, "maxItems": 100_000, "items": {"type": "string"}},
                    "notes": {"type": ["string", "null"], "maxLength": 2000},
                },
                "example": {"customerId": "cust_abc123", "groupName": "Head office", "billingDay": 15,
                            "rentalIds": ["rental_1", "rental_2"]},
            }),
        ),
        (
            "BillingGroupUpdate",
            schema!({
                "type": "object",
                "description": "What is absent stays. rentalIds replaces the whole membership.",
                "properties": {
                    "groupName": name,
                    "billingDay": day,
                    "rentalIds": ids,
                    "notes": {"type": ["string", "null"], "maxLength": 2000, "description": "null or empty removes it."},
                    "status": status,
                },
                "example": {"billingDay": 20, "status": "inactive"},
            }),
        ),
        (
            "BillingGroupRead",
            schema!({"type": "object", "required": ["success", "billingGroup"],
                   "properties": {"success": success, "billingGroup": group}}),
        ),
        (
            "BillingGroupWritten",
            schema!({"type": "object", "required": ["success", "message", "billingGroup"],
                   "properties": {"success": success, "message": {"type": "string"}, "billingGroup": group}}),
        ),
        (
            "BillingGroupList",
            schema!({"type": "object", "required": ["success", "billingGroups", "count", "hasMore", "nextCursor"],
                   "properties": {"success": success, "billingGroups": {"type": "array", "items": group},
                                  "count": {"type": "number"}, "hasMore": {"type": "boolean"},
                                  "nextCursor": {"type": ["string", "null"]}}}),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn if_match_names_versions_or_any() {
        let read = |values: &[&str]| {
            let values = values.iter().map(|value| (header::IF_MATCH, HeaderValue::from_str(value).unwrap()));
            if_match(&values.collect())
        };
        let one_of = |tags: &[&str]| IfMatch::OneOf(tags.iter().map(|tag| (*tag).to_owned()).collect());
        assert_eq!((read(&[]), read(&["*"])), (IfMatch::Any, IfMatch::Any));
        assert_eq!(read(&["\"1\", W/\"2\"", "\"3\""]), one_of(&["\"1\"", "W/\"2\"", "\"3\""]));
        assert_eq!(read(&[""]), one_of(&[""]));
    }
}
