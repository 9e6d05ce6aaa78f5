//! `/v1/customers`.

use serde_json::{Value, json as schema};

use crate::change::customers::{self, CustomerPatch, CustomerView};
use crate::change::{Refusal, settled, transact};
use crate::domain::customer::{CustomerStatus, CustomerType};
use crate::domain::{EInvoice, TaxTreatment};
use crate::input::EMAIL_MAX;
use crate::store::Session;
use crate::store::customers::CustomerPageFilter;

use super::call::{Answer, Call, Work, json};
use super::error::ApiError;
use super::query::{Envelope, LIMIT, Query, SORT_BY, SORT_DIR, START_AFTER};
use super::replay::{self, ChangeFuture, idempotency_key};
use super::{Operation, Parameter, Takes, Versions};

const TAG: &str = "Customers";

pub(super) static LIST: Operation = Operation {
    id: "listCustomers",
    tag: TAG,
    summary: "List customers",
    extension: false,
    query: &[
        LIMIT,
        START_AFTER,
        Parameter::new("status", "Only customers in this state.").words(CustomerStatus::WORDS),
        Parameter::new("customerType", "Only customers of this kind.").words(CustomerType::WORDS),
        Parameter::new("email", "Only the customer with this e-mail address, whatever its case."),
        SORT_BY,
        SORT_DIR,
    ],
    takes: Takes::Nothing,
    gives: (200, "CustomerList", "A page of customers."),
    codes: &[],
    versions: Versions::None,
    run: list,
};

pub(super) static CREATE: Operation = Operation {
    id: "createCustomer",
    tag: TAG,
    summary: "Create a customer",
    extension: true,
    query: &[],
    takes: Takes::Json("CustomerCreate"),
    gives: (201, "CustomerWritten", "The new customer."),
    codes: &["CUSTOMER_EXISTS"],
    versions: Versions::None,
    run: create,
};

pub(super) static GET: Operation = Operation {
    id: "getCustomer",
    tag: TAG,
    summary: "Get a customer",
    extension: false,
    query: &[],
    takes: Takes::Nothing,
    gives: (200, "Customer", "The customer."),
    codes: &["NOT_FOUND"],
    versions: Versions::None,
    run: get,
};

pub(super) static UPDATE: Operation = Operation {
    id: "updateCustomer",
    tag: TAG,
    summary: "Update a customer",
    extension: false,
    query: &[],
    takes: Takes::Json("CustomerUpdate"),
    gives: (200, "CustomerWritten", "The customer as it is now."),
    codes: &["NOT_FOUND", "CUSTOMER_EXISTS"],
    versions: Versions::None,
    run: update,
};

fn list(mut call: Call) -> Work {
    Box::pin(async move {
        let filter = filter(&mut call.query);
        let list = call.query.page()?;
        let mut session = call.api.store.read().await?;
        let records = session.list_customer_page(&call.by.tenant_id, &filter, &list.page).await?;
        let (records, next) =
            list.cut(records, |record| list.position(record.created_at, record.updated_at, &record.customer_id));
        let views = customers::view(&mut session, &call.by, records).await?;
        session.end().await;
        Ok(list.answer("customers", Envelope::Limit, &views, next))
    })
}

pub(super) fn filter(query: &mut Query) -> CustomerPageFilter {
    CustomerPageFilter {
        status: query.get("status").and_then(CustomerStatus::parse).map(CustomerStatus::as_str),
        customer_type: query.get("customerType").and_then(CustomerType::parse).map(CustomerType::as_str),
        email: query.text("email", EMAIL_MAX),
    }
}

fn get(call: Call) -> Work {
    Box::pin(async move {
        let id = call.id.as_deref().ok_or_else(unknown)?;
        let mut session = call.api.store.read().await?;
        let record = session.find_customer(&call.by.tenant_id, id).await?;
        let views = customers::view(&mut session, &call.by, record.into_iter().collect()).await?;
        session.end().await;
        Ok(Answer::whole(views.first().ok_or_else(unknown)?))
    })
}

fn create(mut call: Call) -> Work {
    Box::pin(async move {
        let key = idempotency_key(&call.headers);
        call.query.problems.extend(key.as_ref().err().cloned());
        let (object, problems) = call.object()?;
        let new = CustomerPatch::read_new(&object, problems)?;
        let by = call.by.clone();
        replay::once(&call, key.ok().flatten(), move |tx: &mut Session| {
            let (by, new) = (by.clone(), new.clone());
            Box::pin(async move {
                let created = customers::create(tx, &by, &new).await;
                settled(created.map(|view| written("the customer was created", &view).created()))
            }) as ChangeFuture<'_>
        })
        .await
    })
}

fn update(mut call: Call) -> Work {
    Box::pin(async move {
        let (object, problems) = call.object()?;
        let patch = CustomerPatch::read(&object, problems)?;
        let (id, by) = (call.id.clone().ok_or_else(unknown)?, call.by.clone());
        let answer = transact(&call.api.store, move |tx: &mut Session| {
            let (by, id, patch) = (by.clone(), id.clone(), patch.clone());
            Box::pin(async move {
                let updated = customers::update(tx, &by, &id, &patch).await;
                settled(updated.map(|view| written("the customer was updated", &view)))
            }) as ChangeFuture<'_>
        });
        Ok(answer.await?)
    })
}

fn unknown() -> ApiError {
    Refusal::not_found("customer").into()
}

fn written(message: &str, view: &CustomerView) -> Answer {
    let (id, customer) = (json(&view.customer_id), json(view));
    Answer::ok(&[("success", json(&true)), ("message", json(&message)), ("customerId", id), ("customer", customer)])
}

fn address_schema() -> Value {
    let text = schema!({"type": "string"});
    schema!({
        "type": "object",
        "required": ["contactName", "streetAddress", "city", "country"],
        "properties": {
            "contactName": text, "company": text, "buildingInfo": text, "streetAddress": text, "locality": text,
            "city": text, "adminArea": text, "postalCode": {"type": ["string", "null"]}, "country": text,
        },
    })
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let customer = schema!({"$ref": "#/components/schemas/Customer"});
    let address = schema!({"$ref": "#/components/schemas/Address"});
    let mut address_or_null = address_schema();
    address_or_null["type"] = schema!(["object", "null"]);
    let customer_type = schema!({"type": "string", "enum": CustomerType::WORDS});
    let status = schema!({"type": "string", "enum": CustomerStatus::WORDS});
    let text = schema!({"type": "string"});
    let name = schema!({"type": "string", "minLength": 1, "maxLength": 255});
    let ids = schema!({"type": "array", "items": {"type": "string"}});
    let extra = |schema: Value| {
        let mut schema = schema;
        schema["x-billday-extension"] = true.into();
        schema
    };
    let billing = |sent: bool| {
        let texts = ["vatId", "locale", "billingEmail", "buyerReference", "registration", "electronicAddress"];
        let kind = |kind: &str| if sent { schema!(kind) } else { schema!([kind, "null"]) };
        let mut fields = serde_json::Map::new();
        for field in texts {
            let mut schema = schema!({"type": kind("string")});
            if !sent {
                schema["minLength"] = 1.into();
                schema["maxLength"] = if field == "billingEmail" { EMAIL_MAX } else { 255 }.into();
            }
            fields.insert(field.to_owned(), extra(schema));
        }
        if sent {
            for field in ["invoiceRecipients", "invoiceCc"] {
                fields.insert(field.to_owned(), extra(schema!({"type": "array", "items": {"type": "string"}})));
            }
        }
        let words = |words: &[&str]| {
            let mut words: Vec<Value> = words.iter().map(|word| schema!(word)).collect();
            words.extend((!sent).then_some(Value::Null));
            words
        };
        let days = if sent { schema!([0, 7, 14, 30]) } else { schema!([0, 7, 14, 30, null]) };
        fields.insert("paymentTermsDays".into(), extra(schema!({"type": kind("integer"), "enum": days})));
        for (field, given) in [("taxTreatment", TaxTreatment::WORDS), ("eInvoice", EInvoice::WORDS)] {
            fields.insert(field.into(), extra(schema!({"type": kind("string"), "enum": words(given)})));
        }
        fields
    };
    let with = |mut schema: Value, fields: serde_json::Map<String, Value>| {
        schema["properties"].as_object_mut().into_iter().for_each(|properties| properties.extend(fields.clone()));
        schema
    };
    vec![
        ("Address", address_schema()),
        (
            "Customer",
            with(
                schema!({
                    "type": "object",
                    "required": ["customerId", "tenantId", "email", "firstName", "lastName", "customerType", "totalOrders",
                                 "totalDevicesRented", "totalMonthlyRevenue", "status", "orderIds", "rentalIds",
                                 "createdBy"],
                    "properties": {
                        "customerId": text, "tenantId": text,
                        "email": text, "firstName": text, "lastName": text, "company": text, "phone": text,
                        "customerType": customer_type,
                        "totalOrders": {"type": "number"},
                        "totalDevicesRented": {"type": "number", "description": "All that there ever were."},
                        "totalMonthlyRevenue": {"type": "number",
                            "description": "Of the active subscriptions in the tenant's currency."},
                        "status": status, "orderIds": ids,
                        "rentalIds": {"type": "array", "items": text, "description": "Ordered by id; ended ones too."},
                        "lastBillingAddress": address, "lastShippingAddress": address,
                        "createdAt": {"type": "string", "format": "date-time"},
                        "updatedAt": {"type": "string", "format": "date-time"},
                        "createdBy": {"type": "string", "description": "key:<id> or import."},
                    },
                }),
                billing(true),
            ),
        ),
        (
            "CustomerCreate",
            with(
                schema!({
                    "type": "object",
                    "required": ["email", "firstName", "lastName", "customerType"],
                    "properties": {
                        "email": {"type": "string", "format": "email", "maxLength": EMAIL_MAX},
                        "firstName": name, "lastName": name,
                        "company": {"type": ["string", "null"], "maxLength": 255},
                        "phone": {"type": ["string", "null"], "maxLength": 255},
                        "customerType": customer_type, "status": extra(status.clone()),
                        "billingAddress": address_or_null, "shippingAddress": address_or_null,
                    },
                    "example": {"email": "ap@acme.example", "firstName": "Anna", "lastName": "Smith", "company": "Acme",
                                "customerType": "business"},
                }),
                billing(false),
            ),
        ),
        (
            "CustomerUpdate",
            with(
                schema!({
                    "type": "object",
                    "description": "What is absent stays, and null removes. customerId may be left out too.",
                    "required": ["customerId"],
                    "properties": {
                        "customerId": {"type": "string", "minLength": 1, "description": "If sent, the one in the address."},
                        "email": {"type": "string", "format": "email", "maxLength": EMAIL_MAX},
                        "firstName": name, "lastName": name,
                        "company": {"type": ["string", "null"], "maxLength": 255},
                        "phone": {"type": ["string", "null"], "maxLength": 255},
                        "customerType": customer_type, "status": status,
                        "billingAddress": address_or_null, "shippingAddress": address_or_null,
                    },
                    "example": {"paymentTermsDays": 30, "billingEmail": "invoices@acme.example"},
                }),
                billing(false),
            ),
        ),
        (
            "CustomerWritten",
            schema!({"type": "object", "required": ["success", "message", "customerId", "customer"],
                     "properties": {"success": {"type": "boolean", "enum": [true]}, "message": text, "customerId": text,
                                    "customer": customer}}),
        ),
        (
            "CustomerList",
            schema!({"type": "object", "required": ["customers", "count", "limit", "hasMore", "nextCursor"],
                     "properties": {"customers": {"type": "array", "items": customer}, "count": {"type": "number"},
                                    "limit": {"type": "number"}, "hasMore": {"type": "boolean"},
                                    "nextCursor": {"type": ["string", "null"]}}}),
        ),
    ]
}
