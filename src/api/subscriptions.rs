//! `/v1/subscriptions`, which the wire calls rentals.

use serde_json::{Value, json as schema};

use crate::change::subscriptions::{self, CANCEL_REASONS, Cancel, NewRental, RentalPatch, RentalView};
use crate::change::{self, Refusal, settled, transact};
use crate::domain::Tenant;
use crate::domain::calendar::local_date;
use crate::domain::rental::RentalStatus;
use crate::input::TEXT_MAX;
use crate::store::Session;
use crate::store::rentals::RentalPageFilter;

use super::call::{Answer, Call, Work, json};
use super::error::ApiError;
use super::query::{Envelope, LIMIT, Query, SORT_BY, SORT_DIR, START_AFTER};
use super::replay::{self, ChangeFuture, idempotency_key};
use super::{Operation, Parameter, Takes, Versions};

const TAG: &str = "Subscriptions";

pub(super) static LIST: Operation = Operation {
    id: "listSubscriptions",
    tag: TAG,
    summary: "List subscriptions",
    extension: false,
    query: &[
        LIMIT,
        START_AFTER,
        Parameter::new("status", "Only subscriptions in this state.").words(RentalStatus::WORDS),
        Parameter::new("customerId", "Only subscriptions of this customer."),
        Parameter::new("orderId", "Only subscriptions that came from this order."),
        Parameter::new("serialNumber", "Only subscriptions of the device with this serial number."),
        SORT_BY,
        SORT_DIR,
    ],
    takes: Takes::Nothing,
    gives: (200, "RentalList", "A page of subscriptions."),
    codes: &[],
    versions: Versions::None,
    run: list,
};

pub(super) static CREATE: Operation = Operation {
    id: "createSubscription",
    tag: TAG,
    summary: "Create a subscription, without an order",
    extension: true,
    query: &[],
    takes: Takes::Json("RentalCreate"),
    gives: (201, "RentalWritten", "The new subscription."),
    codes: &[
        "CUSTOMER_NOT_FOUND",
        "BILLING_GROUP_NOT_FOUND",
        "SUBSCRIPTION_DIFFERENT_CUSTOMER",
        "SUBSCRIPTION_NOT_ACTIVE",
        "SUBSCRIPTION_CURRENCY_MISMATCH",
    ],
    versions: Versions::None,
    run: create,
};

pub(super) static GET: Operation = Operation {
    id: "getSubscription",
    tag: TAG,
    summary: "Get a subscription",
    extension: false,
    query: &[],
    takes: Takes::Nothing,
    gives: (200, "Rental", "The subscription."),
    codes: &["NOT_FOUND"],
    versions: Versions::None,
    run: get,
};

pub(super) static UPDATE: Operation = Operation {
    id: "updateSubscription",
    tag: TAG,
    summary: "Update a subscription",
    extension: true,
    query: &[],
    takes: Takes::Json("RentalUpdate"),
    gives: (200, "RentalWritten", "The subscription as it is now."),
    codes: &[
        "NOT_FOUND",
        "BILLING_GROUP_NOT_FOUND",
        "SUBSCRIPTION_DIFFERENT_CUSTOMER",
        "SUBSCRIPTION_NOT_ACTIVE",
        "SUBSCRIPTION_ALREADY_GROUPED",
        "SUBSCRIPTION_CURRENCY_MISMATCH",
    ],
    versions: Versions::None,
    run: update,
};

pub(super) static CANCEL: Operation = Operation {
    id: "cancelSubscription",
    tag: TAG,
    summary: "Cancel a subscription as of today",
    extension: true,
    query: &[],
    takes: Takes::Json("RentalCancel"),
    gives: (200, "RentalCancelled", "The subscription, cancelled for good."),
    codes: &["NOT_FOUND", "ALREADY_CANCELLED", "ALREADY_ENDED"],
    versions: Versions::None,
    run: cancel,
};

fn list(mut call: Call) -> Work {
    Box::pin(async move {
        let filter = filter(&mut call.query);
        let list = call.query.page()?;
        let mut session = call.api.store.read().await?;
        let records = session.list_rental_page(&call.by.tenant_id, &filter, &list.page).await?;
        let (records, next) =
            list.cut(records, |record| list.position(record.created_at, record.updated_at, &record.rental_id));
        let views = subscriptions::view(&mut session, &call.by, records).await?;
        session.end().await;
        Ok(list.answer("rentals", Envelope::Limit, &views, next))
    })
}

pub(super) fn filter(query: &mut Query) -> RentalPageFilter {
    RentalPageFilter {
        status: query.get("status").and_then(RentalStatus::parse).map(RentalStatus::as_str),
        customer_id: query.id("customerId"),
        order_id: query.id("orderId"),
        serial_number: query.text("serialNumber", TEXT_MAX),
    }
}

fn get(call: Call) -> Work {
    Box::pin(async move {
        let id = call.id.as_deref().ok_or_else(unknown)?;
        let mut session = call.api.store.read().await?;
        let record = session.find_rental(&call.by.tenant_id, id).await?;
        let views = subscriptions::view(&mut session, &call.by, record.into_iter().collect()).await?;
        session.end().await;
        Ok(Answer::whole(views.first().ok_or_else(unknown)?))
    })
}

/// The tenant: amounts and days in a body mean nothing without it.
async fn tenant(call: &Call) -> Result<Tenant, ApiError> {
    let mut session = call.api.store.read().await?;
    let tenant = change::tenant(&mut session, &call.by).await?;
    session.end().await;
    Ok(tenant)
}

fn create(mut call: Call) -> Work {
    Box::pin(async move {
        let tenant = tenant(&call).await?;
        let key = idempotency_key(&call.headers);
        call.query.problems.extend(key.as_ref().err().cloned());
        let (object, problems) = call.object()?;
        let today = local_date(call.by.now, tenant.time_zone);
        let new = NewRental::read(&object, problems, &tenant, today)?;
        let by = call.by.clone();
        replay::once(&call, key.ok().flatten(), move |tx: &mut Session| {
            let (by, new) = (by.clone(), new.clone());
            Box::pin(async move {
                let created = subscriptions::create(tx, &by, &new).await;
                settled(created.map(|view| Answer::ok(&written("the subscription was created", &view)).created()))
            }) as ChangeFuture<'_>
        })
        .await
    })
}

fn update(mut call: Call) -> Work {
    Box::pin(async move {
        let tenant = tenant(&call).await?;
        let (object, problems) = call.object()?;
        let patch = RentalPatch::read(&object, problems, &tenant)?;
        let (id, by) = (call.id.clone().ok_or_else(unknown)?, call.by.clone());
        let answer = transact(&call.api.store, move |tx: &mut Session| {
            let (by, id, patch) = (by.clone(), id.clone(), patch.clone());
            Box::pin(async move {
                let updated = subscriptions::update(tx, &by, &id, &patch).await;
                settled(updated.map(|view| Answer::ok(&written("the subscription was updated", &view))))
            }) as ChangeFuture<'_>
        });
        Ok(answer.await?)
    })
}

fn cancel(mut call: Call) -> Work {
    Box::pin(async move {
        let key = idempotency_key(&call.headers);
        call.query.problems.extend(key.as_ref().err().cloned());
        let (object, problems) = call.object()?;
        let cancel = Cancel::read(&object, problems)?;
        let (id, by) = (call.id.clone().ok_or_else(unknown)?, call.by.clone());
        replay::once(&call, key.ok().flatten(), move |tx: &mut Session| {
            let (by, id, cancel) = (by.clone(), id.clone(), cancel.clone());
            Box::pin(async move {
                let cancelled = subscriptions::cancel(tx, &by, &id, &cancel).await;
                settled(cancelled.map(|(view, previous)| {
                    let mut body = written("the subscription was cancelled", &view);
                    let at = view.cancellation_details.as_ref().map(|details| details["cancelledAt"].clone());
                    body.extend([("previousStatus", json(&previous)), ("cancelledAt", json(&at))]);
                    Answer::ok(&body)
                }))
            }) as ChangeFuture<'_>
        })
        .await
    })
}

fn unknown() -> ApiError {
    Refusal::not_found("subscription").into()
}

fn written(message: &str, view: &RentalView) -> Vec<(&'static str, String)> {
    let (id, rental) = (json(&view.rental_id), json(view));
    vec![("success", json(&true)), ("message", json(&message)), ("rentalId", id), ("rental", rental)]
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let rental = schema!({"$ref": "#/components/schemas/Rental"});
    let success = schema!({"type": "boolean", "enum": [true]});
    let text = schema!({"type": "string"});
    let status = schema!({"type": "string", "enum": RentalStatus::WORDS});
    let amount = schema!({"type": "number", "minimum": 0, "maximum": 999_999_999_999_i64});
    let short = schema!({"type": "string", "maxLength": 255});
    let extra = |schema: Value| {
        let mut schema = schema;
        schema["x-billday-extension"] = true.into();
        schema
    };
    let written = schema!({"success": success, "message": text, "rentalId": text, "rental": rental});
    let mut cancelled = written.clone();
    cancelled["previousStatus"] = status.clone();
    cancelled["cancelledAt"] = schema!({"type": "string", "format": "date-time"});
    vec![
        (
            "Rental",
            schema!({
                "type": "object",
                "required": ["rentalId", "tenantId", "assetSerialNumber", "customerId", "sku", "productName",
                             "monthlyAmount", "currency", "status", "originalContractLength", "contractLength",
                             "startDate", "orderId", "customerEmail", "customerName", "createdAt", "updatedAt",
                             "createdBy"],
                "properties": {
                    "rentalId": text, "tenantId": text, "assetSerialNumber": text,
                    "serialNumber": extra(schema!({"type": "string", "description": "The same as assetSerialNumber."})),
                    "customerId": text, "sku": text, "productName": text,
                    "monthlyAmount": {"type": "number"}, "currency": text, "status": status,
                    "billingGroupId": {"type": "string", "description": "The group that it is in, also while that is inactive."},
                    "originalContractLength": {"type": "number"},
                    "contractLength": {"type": "number", "description": "Months; 0 for an open end."},
                    "startDate": {"type": "string", "format": "date"},
                    "endDate": {"type": "string", "format": "date"},
                    "nextBillingDate": {"type": "string", "format": "date",
                        "description": "The next day on which it is charged for that month; absent where there is none."},
                    "orderId": text, "customerEmail": text, "customerName": text,
                    "createdAt": {"type": "string", "format": "date-time"},
                    "updatedAt": {"type": "string", "format": "date-time"},
                    "createdBy": {"type": "string", "description": "key:<id> or import."},
                    "notes": text,
                    "cancelledAt": extra(schema!({"type": "string", "format": "date"})),
                    "returnedAt": extra(schema!({"type": "string", "format": "date"})),
                    "buyoutDate": extra(schema!({"type": "string", "format": "date"})),
                    "cancellationDetails": {
                        "type": "object",
                        "required": ["reason", "processedBy", "cancelledAt"],
                        "properties": {
                            "reason": {"type": "string", "enum": CANCEL_REASONS},
                            "notes": text,
                            "processedBy": {"type": "object", "required": ["userId"], "properties": {"userId": text}},
                            "cancelledAt": text,
                        },
                    },
                },
            }),
        ),
        (
            "RentalCreate",
            schema!({
                "type": "object",
                "required": ["customerId", "monthlyAmount"],
                "properties": {
                    "customerId": {"type": "string", "minLength": 1, "maxLength": 128},
                    "monthlyAmount": amount,
                    "currency": {"type": "string", "description": "The tenant's if it is absent."},
                    "startDate": {"type": "string", "description": "A day or an instant; today if it is absent."},
                    "endDate": {"type": "string", "description": "The first day that is no longer charged."},
                    "contractLength": {"type": "integer", "minimum": 0, "maximum": 120, "description": "Months; 0 for an open end."},
                    "productName": short, "assetSerialNumber": short, "serialNumber": short, "sku": short,
                    "orderId": {"type": "string", "maxLength": 128},
                    "billingGroupId": {"type": "string", "maxLength": 128},
                    "notes": {"type": "string", "maxLength": 2000},
                },
                "example": {"customerId": "cust_abc123", "monthlyAmount": 129.00, "productName": "MacBook Pro 14",
                            "assetSerialNumber": "SN-1", "startDate": "2026-11-15", "contractLength": 12},
            }),
        ),
        (
            "RentalUpdate",
            schema!({
                "type": "object",
                "description": "What is absent stays. null removes the end, the length, the group and the note.",
                "properties": {
                    "monthlyAmount": amount,
                    "endDate": {"type": ["string", "null"]},
                    "contractLength": {"type": ["integer", "null"], "minimum": 0, "maximum": 120},
                    "productName": short, "assetSerialNumber": short, "serialNumber": short,
                    "billingGroupId": {"type": ["string", "null"], "maxLength": 128,
                        "description": "Into another group it goes in two calls: out with null, and in."},
                    "notes": {"type": ["string", "null"], "maxLength": 2000},
                },
                "example": {"monthlyAmount": 99.00, "endDate": "2027-03-31"},
            }),
        ),
        (
            "RentalCancel",
            schema!({
                "type": "object",
                "required": ["reason"],
                "properties": {
                    "reason": {"type": "string", "enum": CANCEL_REASONS},
                    "notes": {"type": "string", "maxLength": 2000},
                    "rentalId": {"type": "string", "minLength": 1, "description": "If sent, the one in the address."},
                },
                "example": {"reason": "customer_request"},
            }),
        ),
        (
            "RentalWritten",
            schema!({"type": "object", "required": ["success", "message", "rentalId", "rental"], "properties": written}),
        ),
        (
            "RentalCancelled",
            schema!({"type": "object",
                     "required": ["success", "message", "rentalId", "rental", "previousStatus", "cancelledAt"],
                     "properties": cancelled}),
        ),
        (
            "RentalList",
            schema!({"type": "object", "required": ["rentals", "count", "limit", "hasMore", "nextCursor"],
                     "properties": {"rentals": {"type": "array", "items": rental}, "count": {"type": "number"},
                                    "limit": {"type": "number"}, "hasMore": {"type": "boolean"},
                                    "nextCursor": {"type": ["string", "null"]}}}),
        ),
    ]
}
