//! `/v1/outbox`: the invoice mails, and where they stand.

use serde::Serialize;
use serde_json::{Value, json};

use crate::clock;
use crate::domain::message::MailState;
use crate::render::payment::instant;
use crate::store::outbox::OutboxMail;

use super::call::{Call, Work};
use super::query::{Envelope, LIMIT, Query, SORT_DIR, START_AFTER};
use super::{Operation, Parameter, Takes, Versions};

pub(super) static LIST: Operation = Operation {
    id: "listOutbox",
    tag: "Outbox",
    summary: "List the invoice mails and where they stand",
    extension: true,
    query: &[
        LIMIT,
        START_AFTER,
        Parameter::new("state", "Only mails in this state.").words(MailState::WORDS).extension(),
        Parameter::new("paymentId", "Only the mails of this payment.").extension(),
        SORT_DIR,
    ],
    takes: Takes::Nothing,
    gives: (200, "OutboxList", "A page of mails."),
    codes: &[],
    versions: Versions::None,
    run: list,
};

fn list(mut call: Call) -> Work {
    Box::pin(async move {
        let (state, payment_id) = filter(&mut call.query);
        let list = call.query.page()?;
        let mut session = call.api.store.read().await?;
        let mails = session.list_mail_page(&call.by.tenant_id, state, payment_id.as_deref(), &list.page).await?;
        session.end().await;
        let (mails, next) = list.cut(mails, |mail| list.position(mail.created_at, mail.created_at, &mail.id()));
        let mails: Vec<WireMail> = mails.into_iter().map(WireMail::from).collect();
        Ok(list.answer("mails", Envelope::Success, &mails, next))
    })
}

/// The state and the payment.
pub(super) fn filter(query: &mut Query) -> (Option<MailState>, Option<String>) {
    (query.get("state").and_then(MailState::parse), query.id("paymentId"))
}

/// A mail on the wire; fields in the order in which they are sent.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireMail {
    mail_id: String,
    payment_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    invoice_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    copy: bool,
    state: &'static str,
    attempts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    created_at: String,
}

impl From<OutboxMail> for WireMail {
    fn from(mail: OutboxMail) -> Self {
        let shown = |micros: i64| clock::instant(micros).map(instant).unwrap_or_default();
        Self {
            mail_id: mail.id(),
            next_at: (mail.state == MailState::Pending).then(|| shown(mail.next_at)),
            payment_id: mail.payment_id,
            invoice_number: mail.invoice_number,
            customer_id: mail.customer_id,
            recipient: mail.recipient,
            copy: mail.copy,
            state: mail.state.as_str(),
            attempts: mail.attempts,
            sent_at: mail.sent_at.map(shown),
            error: mail.error,
            created_at: shown(mail.created_at),
        }
    }
}

pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let text = json!({"type": "string"});
    let instant = json!({"type": "string", "format": "date-time"});
    vec![
        (
            "Mail",
            json!({
                "type": "object",
                "required": ["mailId", "paymentId", "copy", "state", "attempts", "createdAt"],
                "properties": {
                    "mailId": text,
                    "paymentId": text,
                    "invoiceNumber": text,
                    "customerId": text,
                    "recipient": {"type": "string", "description": "Absent where the customer has no address."},
                    "copy": {"type": "boolean"},
                    "state": {"type": "string", "enum": MailState::WORDS},
                    "attempts": {"type": "integer", "minimum": 0},
                    "nextAt": {"type": "string", "format": "date-time", "description": "When it is tried again at the earliest."},
                    "sentAt": instant,
                    "error": {"type": "string", "description": "Why the last attempt did not succeed."},
                    "createdAt": instant,
                },
            }),
        ),
        (
            "OutboxList",
            json!({"type": "object", "required": ["success", "mails", "count", "hasMore", "nextCursor"],
                   "properties": {"success": {"type": "boolean", "enum": [true]},
                                  "mails": {"type": "array", "items": {"$ref": "#/components/schemas/Mail"}},
                                  "count": {"type": "number"}, "hasMore": {"type": "boolean"},
                                  "nextCursor": {"type": ["string", "null"]}}}),
        ),
    ]
}
