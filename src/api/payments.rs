//! `/v1/payments`.

use chrono_tz::Tz;
use serde_json::{Value, json as schema};

use crate::change::payments::{self, Cancel, MarkPaid};
use crate::change::{self, Refusal, RefusalKind, settled};
use crate::domain::TaxTreatment;
use crate::domain::document::DocumentKind;
use crate::domain::payment::PaymentStatus;
use crate::invoice;
use crate::render::invoice::RenderedInvoice;
use crate::render::payment::WirePayment;
use crate::store::Session;
use crate::store::page::{Position, SortBy};
use crate::store::payments::{PaymentPageFilter, PaymentRecord};

use super::call::{Answer, Call, Work, json};
use super::error::ApiError;
use super::query::{Envelope, LIMIT, ListPage, Query, SORT_DIR, START_AFTER};
use super::replay::{self, ChangeFuture, idempotency_key};
use super::{Operation, Parameter, Takes, Versions};

const TAG: &str = "Payments";

pub(super) static LIST: Operation = Operation {
    id: "listPayments",
    tag: TAG,
    summary: "List payments",
    extension: false,
    query: &[
        LIMIT,
        START_AFTER,
        Parameter::new("status", "Only payments in this state.").words(PaymentStatus::WORDS),
        Parameter::new("customerId", "Only payments of this customer."),
        Parameter::new("rentalId", "Only payments with a line for this subscription, consolidated ones too."),
        Parameter::new("billingGroupId", "Only payments of this billing group."),
        Parameter::new("dueDateFrom", "Only payments that are due on this day or later."),
        Parameter::new("dueDateTo", "Only payments that are due on this day or earlier."),
        Parameter::new("sortBy", "What to order by.").words(&["createdAt", "updatedAt", "dueDate"]),
        SORT_DIR,
    ],
    takes: Takes::Nothing,
    gives: (200, "PaymentList", "A page of payments."),
    codes: &[],
    versions: Versions::None,
    run: list,
};

pub(super) static GET: Operation = Operation {
    id: "getPayment",
    tag: TAG,
    summary: "Get a payment",
    extension: false,
    query: &[],
    takes: Takes::Nothing,
    gives: (200, "PaymentRead", "The payment."),
    codes: &["NOT_FOUND"],
    versions: Versions::None,
    run: get,
};

pub(super) static MARK_PAID: Operation = Operation {
    id: "markPaymentPaid",
    tag: TAG,
    summary: "Record that a payment was paid",
    extension: false,
    query: &[],
    takes: Takes::JsonOrNothing("PaymentMarkPaid"),
    gives: (200, "PaymentWritten", "The payment, paid."),
    codes: &["NOT_FOUND", "ALREADY_PAID", "PAYMENT_CANCELLED"],
    versions: Versions::None,
    run: mark_paid,
};

pub(super) static CANCEL: Operation = Operation {
    id: "cancelPayment",
    tag: TAG,
    summary: "Cancel a pending or failed payment",
    extension: false,
    query: &[],
    takes: Takes::Json("PaymentCancel"),
    gives: (200, "PaymentWritten", "The payment, cancelled for good."),
    codes: &["NOT_FOUND", "ALREADY_PAID", "ALREADY_CANCELLED", "PAYMENT_PROCESSING"],
    versions: Versions::None,
    run: cancel,
};

pub(super) static INVOICE_PDF: Operation = Operation {
    id: "getPaymentInvoicePdf",
    tag: TAG,
    summary: "Get the invoice of a payment as a PDF",
    extension: true,
    query: &[],
    takes: Takes::Nothing,
    gives: (200, PDF, "The invoice, with the customer's e-invoice in it where that is Factur-X."),
    codes: &["NOT_FOUND"],
    versions: Versions::None,
    run: invoice_pdf,
};

pub(super) static INVOICE_XML: Operation = Operation {
    id: "getPaymentInvoiceXml",
    tag: TAG,
    summary: "Get the e-invoice of a payment as XML",
    extension: true,
    query: &[],
    takes: Takes::Nothing,
    gives: (200, XML, "The e-invoice of the kind that the customer gets; 404 tells why there is none."),
    codes: &["NOT_FOUND"],
    versions: Versions::None,
    run: invoice_xml,
};

const PDF: &str = "application/pdf";
const XML: &str = "application/xml";

fn list(mut call: Call) -> Work {
    Box::pin(async move {
        let mut session = call.api.store.read().await?;
        let zone = change::tenant(&mut session, &call.by).await?.time_zone;
        let filter = filter(&mut call.query, zone);
        let list = call.query.page()?;
        let records = session.list_payment_page(&call.by.tenant_id, &filter, &list.page).await?;
        session.end().await;
        let (records, next) = list.cut(records, |record| position(&list, record));
        let wires: Vec<WirePayment> =
            records.into_iter().map(|record| payments::wire(&call.by.tenant_id, record)).collect();
        Ok(list.answer("payments", Envelope::Success, &wires, next))
    })
}

pub(super) fn filter(query: &mut Query, zone: Tz) -> PaymentPageFilter {
    PaymentPageFilter {
        status: query.get("status").and_then(PaymentStatus::parse),
        customer_id: query.id("customerId"),
        rental_id: query.id("rentalId"),
        billing_group_id: query.id("billingGroupId"),
        due_from: query.date("dueDateFrom", zone),
        due_to: query.date("dueDateTo", zone),
    }
}

fn position(list: &ListPage, record: &PaymentRecord) -> Position {
    let payment = &record.stored.payment;
    if list.page.sort_by == SortBy::DueDate {
        return Position { value: Position::day(payment.due_date), id: payment.payment_id.clone() };
    }
    list.position(record.stored.created_at, record.settled.updated_at, &payment.payment_id)
}

fn get(call: Call) -> Work {
    Box::pin(async move {
        let id = call.id.as_deref().ok_or_else(unknown)?;
        let mut session = call.api.store.read().await?;
        let record = session.find_payment(&call.by.tenant_id, id).await?;
        session.end().await;
        let wire = payments::wire(&call.by.tenant_id, record.ok_or_else(unknown)?);
        Ok(Answer::ok(&[("success", json(&true)), ("payment", json(&wire))]))
    })
}

fn mark_paid(mut call: Call) -> Work {
    Box::pin(async move {
        let mut session = call.api.store.read().await?;
        let tenant = change::tenant(&mut session, &call.by).await?;
        session.end().await;
        let key = idempotency_key(&call.headers);
        call.query.problems.extend(key.as_ref().err().cloned());
        let (object, problems) = call.object_or_nothing()?;
        let mark = MarkPaid::read(&object, problems, &tenant, call.by.now)?;
        let (id, by) = (call.id.clone().ok_or_else(unknown)?, call.by.clone());
        replay::once(&call, key.ok().flatten(), move |tx: &mut Session| {
            let (by, id, mark) = (by.clone(), id.clone(), mark.clone());
            Box::pin(async move {
                let paid = payments::mark_paid(tx, &by, &id, &mark).await;
                settled(paid.map(|wire| written("the payment was marked as paid", &wire)))
            }) as ChangeFuture<'_>
        })
        .await
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
                let cancelled = payments::cancel(tx, &by, &id, &cancel).await;
                settled(cancelled.map(|wire| written("the payment was cancelled", &wire)))
            }) as ChangeFuture<'_>
        })
        .await
    })
}

fn invoice_pdf(call: Call) -> Work {
    Box::pin(async move {
        let (number, invoice) = invoice_of(&call, DocumentKind::Pdf).await?;
        Ok(Answer::file(PDF, &format!("{number}.pdf"), invoice.pdf))
    })
}

fn invoice_xml(call: Call) -> Work {
    Box::pin(async move {
        let (number, invoice) = invoice_of(&call, DocumentKind::Xml).await?;
        match invoice.xml {
            Ok(xml) => Ok(Answer::file(XML, &format!("{number}.xml"), xml)),
            Err(missing) => Err(no_invoice(invoice::no_xml(&missing))),
        }
    })
}

/// The number and the files of the invoice that belongs to the payment; the one that is asked for as it was sent, if it was.
async fn invoice_of(call: &Call, kind: DocumentKind) -> Result<(String, RenderedInvoice), ApiError> {
    let id = call.id.as_deref().ok_or_else(unknown)?;
    let inside = |error: anyhow::Error| ApiError::internal(format!("{error:#}"));
    let mut session = call.api.store.read().await?;
    session.find_payment(&call.by.tenant_id, id).await?.ok_or_else(unknown)?;
    let numbered = session.find_numbered(&call.by.tenant_id, id).await?;
    let numbered = numbered.ok_or_else(|| no_invoice("the payment has no invoice"))?;
    let document = invoice::document(&mut session, &numbered).await.map_err(inside)?;
    let kept = session.kept_documents(&[(&*call.by.tenant_id, id)]).await?.into_values().flatten().collect::<Vec<_>>();
    session.end().await;
    let document = document
        .ok_or_else(|| no_invoice("the payment was brought in by an import: its invoice was made elsewhere"))?;
    let number = document.invoice_number.clone();
    let mut invoice = call.api.invoices.render(document).await.map_err(inside)?;
    if let Some(documents) = &call.api.documents
        && let Some(bytes) = invoice::sent(documents, &kept, kind).await.map_err(|fault| inside(fault.into()))?
    {
        match kind {
            DocumentKind::Pdf => invoice.pdf = bytes,
            DocumentKind::Xml => invoice.xml = Ok(bytes),
        }
    }
    Ok((number, invoice))
}

fn no_invoice(why: impl Into<String>) -> ApiError {
    Refusal::new(RefusalKind::NotFound, "NOT_FOUND", why).into()
}

fn unknown() -> ApiError {
    Refusal::not_found("payment").into()
}

fn written(message: &str, wire: &WirePayment) -> Answer {
    Answer::ok(&[("success", json(&true)), ("message", json(&message)), ("payment", json(wire))])
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let payment = schema!({"$ref": "#/components/schemas/Payment"});
    let success = schema!({"type": "boolean", "enum": [true]});
    let amount = schema!({"type": "number", "minimum": 0});
    let id = schema!({"type": "string", "minLength": 1});
    let text = schema!({"type": "string"});
    let extra = |schema: Value| {
        let mut schema = schema;
        schema["x-billday-extension"] = true.into();
        schema
    };
    vec![
        (
            "Payment",
            schema!({
                "type": "object",
                "required": ["paymentId", "tenantId", "customerId", "subtotal", "total", "currency", "paymentType",
                             "billingPeriod", "status", "idempotencyKey", "dueDate", "createdAt", "updatedAt"],
                "properties": {
                    "paymentId": id,
                    "tenantId": id,
                    "customerId": id,
                    "subtotal": amount,
                    "taxAmount": {"type": "number", "minimum": 0, "default": 0},
                    "taxRate": {"type": "number", "minimum": 0, "maximum": 100, "default": 0, "description": "A percentage."},
                    "taxTreatment": extra(schema!({"type": "string", "enum": TaxTreatment::WORDS})),
                    "total": amount,
                    "currency": {"type": "string", "minLength": 3, "maxLength": 3},
                    "amount": {"type": "number", "minimum": 0, "description": "The same as total."},
                    "paymentType": {"type": "string", "enum": ["individual", "consolidated"]},
                    "rentalId": {"type": "string", "description": "The subscription of an individual payment."},
                    "billingGroupId": {"type": "string", "description": "The group of a consolidated payment."},
                    "groupName": extra(text.clone()),
                    "productName": extra(text.clone()),
                    "billingPeriod": {"type": "string", "pattern": "^\\d{4}-\\d{2}$"},
                    "status": {"type": "string", "enum": PaymentStatus::WORDS},
                    "invoiceNumber": extra(text.clone()),
                    "issueDate": extra(schema!({"type": "string", "format": "date"})),
                    "dueDate": {"type": "string", "format": "date"},
                    "idempotencyKey": {"type": "string", "minLength": 1,
                                       "description": "group:<id>:<YYYY-MM> or rental:<id>:<YYYY-MM>."},
                    "eInvoice": extra(schema!({"type": "object", "required": ["format", "missing"],
                        "description": "There where the e-invoice that the customer wants could not be made.",
                        "properties": {"format": text, "missing": {"type": "array", "items": text}}})),
                    "lineItems": {"type": "array", "items": {"$ref": "#/components/schemas/PaymentLineItem"}},
                    "provider": {"type": "string", "enum": ["stripe", "adyen", "paypal", "manual"]},
                    "transactionId": text,
                    "paymentReference": text,
                    "manuallyMarked": {"type": "boolean", "default": false},
                    "markedBy": {"type": "string", "description": "key:<id> or cli."},
                    "captureAttempts": {"type": "integer", "minimum": 0, "default": 0},
                    "lateFeeApplied": {"type": "boolean", "default": false},
                    "notes": text,
                    "paidAt": {"type": ["string", "null"]},
                    "lastCaptureAttempt": {"type": ["string", "null"]},
                    "nextRetryAt": {"type": ["string", "null"]},
                    "createdAt": {"type": "string", "format": "date-time"},
                    "updatedAt": {"type": "string", "format": "date-time"},
                },
            }),
        ),
        (
            "PaymentLineItem",
            schema!({
                "type": "object",
                "required": ["rentalId", "description", "amount"],
                "properties": {
                    "rentalId": id,
                    "description": text,
                    "amount": {"type": "number", "minimum": 0, "description": "Net."},
                    "taxAmount": {"type": "number", "minimum": 0, "default": 0},
                    "billingPeriod": extra(text.clone()),
                    "productName": extra(text.clone()),
                    "serialNumber": extra(text.clone()),
                    "arrears": extra(schema!({"type": "boolean", "description": "For a period before the payment's."})),
                },
            }),
        ),
        (
            "PaymentMarkPaid",
            schema!({
                "type": "object",
                "properties": {
                    "paymentReference": {"type": "string", "maxLength": 255},
                    "reference": {"type": "string", "maxLength": 255, "description": "Another name for paymentReference."},
                    "notes": {"type": "string", "maxLength": 2000, "description": "Added to the note that is there."},
                    "paidAt": {"type": "string",
                               "description": "An instant, or a day: its midnight where the tenant is. Now if it is absent."},
                },
                "example": {"paymentReference": "bank transfer 4711", "paidAt": "2026-11-20"},
            }),
        ),
        (
            "PaymentCancel",
            schema!({
                "type": "object",
                "required": ["reason"],
                "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": 2000,
                                          "description": "Added to the note that is there."}},
                "example": {"reason": "charged by mistake"},
            }),
        ),
        (
            "PaymentRead",
            schema!({"type": "object", "required": ["success", "payment"],
                     "properties": {"success": success, "payment": payment}}),
        ),
        (
            "PaymentWritten",
            schema!({"type": "object", "required": ["success", "message", "payment"],
                     "properties": {"success": success, "message": text, "payment": payment}}),
        ),
        (
            "PaymentList",
            schema!({"type": "object", "required": ["success", "payments", "count", "hasMore", "nextCursor"],
                     "properties": {"success": success, "payments": {"type": "array", "items": payment},
                                    "count": {"type": "number"}, "hasMore": {"type": "boolean"},
                                    "nextCursor": {"type": ["string", "null"]}}}),
        ),
    ]
}
