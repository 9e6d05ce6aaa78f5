//! Payments: recording that one was paid, calling one off (rule 21), and how they are shown.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::clock;
use crate::domain::Tenant;
use crate::domain::payment::PaymentStatus;
use crate::input::value::Object;
use crate::input::{Problem, Reader, TEXT_MAX};
use crate::render::payment::{WirePayment, instant};
use crate::store::Session;
use crate::store::payments::{PaymentRecord, Settlement};

use super::{By, NotMade, Refusal, RefusalKind, differing, shown};

/// What the audit log calls a payment.
const KIND: &str = "payment";

/// How somebody says that money has come in, well-formed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MarkPaid {
    pub payment_reference: Option<String>,
    /// Added to the note that is there.
    pub notes: Option<String>,
    /// Absent: now.
    pub paid_at: Option<DateTime<Utc>>,
}

impl MarkPaid {
    /// Reads the body; `before` are problems of the rest of the request. A day is its midnight in the tenant's zone.
    pub fn read(object: &Object, before: Vec<Problem>, tenant: &Tenant, now: DateTime<Utc>) -> Result<Self, Refusal> {
        let mut reader = Reader::new(object);
        reader.problems = before;
        let mark = Self {
            payment_reference: reader.aliased("paymentReference", "reference", TEXT_MAX),
            notes: reader.lines("notes"),
            paid_at: reader.instant("paidAt", tenant.time_zone),
        };
        if let Some(paid_at) = mark.paid_at.filter(|paid_at| *paid_at > now) {
            let message = format!("{} lies in the future: it is {}", instant(paid_at), instant(now));
            reader.note("paidAt", message, "too_big");
        }
        if reader.problems.is_empty() { Ok(mark) } else { Err(Refusal::shapes(reader.problems)) }
    }
}

/// Why a payment is called off, well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// Added to the note that is there.
    pub reason: String,
}

impl Cancel {
    /// Reads the body; `before` are problems of the rest of the request.
    pub fn read(object: &Object, before: Vec<Problem>) -> Result<Self, Refusal> {
        let mut reader = Reader::new(object);
        reader.problems = before;
        let cancel = Self { reason: reader.required_lines("reason") };
        if reader.problems.is_empty() { Ok(cancel) } else { Err(Refusal::shapes(reader.problems)) }
    }
}

/// Records that a payment was paid by other means.
pub async fn mark_paid(
    session: &mut Session,
    by: &By,
    payment_id: &str,
    mark: &MarkPaid,
) -> Result<WirePayment, NotMade> {
    let before = lock(session, by, payment_id).await?;
    allow(&before, PaymentStatus::Paid)?;
    let after = Settlement {
        status: PaymentStatus::Paid.as_str().to_owned(),
        paid_at: Some(mark.paid_at.map_or(by.now_micros(), clock::micros)),
        provider: Some("manual".to_owned()),
        payment_reference: mark.payment_reference.clone().or(before.payment_reference.clone()),
        marked_by: Some(by.actor.clone()),
        notes: noted(before.notes.as_deref(), mark.notes.as_deref()),
        updated_at: by.later_than(before.updated_at),
        transaction_id: before.transaction_id.clone(),
    };
    settle(session, by, "markPaid", payment_id, &before, &after).await
}

/// Calls a payment off for good. Its lines stay in the ledger, so no run makes it again (rule 12).
pub async fn cancel(session: &mut Session, by: &By, payment_id: &str, cancel: &Cancel) -> Result<WirePayment, NotMade> {
    let before = lock(session, by, payment_id).await?;
    allow(&before, PaymentStatus::Cancelled)?;
    let after = Settlement {
        status: PaymentStatus::Cancelled.as_str().to_owned(),
        notes: noted(before.notes.as_deref(), Some(&cancel.reason)),
        updated_at: by.later_than(before.updated_at),
        ..before.clone()
    };
    settle(session, by, "cancel", payment_id, &before, &after).await
}

async fn lock(session: &mut Session, by: &By, payment_id: &str) -> Result<Settlement, NotMade> {
    let found = session.lock_payment(&by.tenant_id, payment_id).await?;
    Ok(found.ok_or_else(|| Refusal::not_found("payment"))?)
}

/// Whether a payment may go where it is sent; if not, the code says where it stands.
fn allow(before: &Settlement, next: PaymentStatus) -> Result<(), Refusal> {
    let Some(status) = PaymentStatus::parse(&before.status) else { return Ok(()) };
    if status.can_become(next) {
        return Ok(());
    }
    let (code, message) = match (status, next) {
        (PaymentStatus::Paid, _) => ("ALREADY_PAID", "the payment is paid already"),
        (PaymentStatus::Cancelled, PaymentStatus::Cancelled) => {
            ("ALREADY_CANCELLED", "the payment is cancelled already")
        }
        (PaymentStatus::Cancelled, _) => ("PAYMENT_CANCELLED", "the payment was cancelled"),
        _ => ("PAYMENT_PROCESSING", "the payment is being processed: wait until it is paid or has failed"),
    };
    Err(Refusal::new(RefusalKind::Invalid, code, message))
}

/// A note with more on a new line.
fn noted(note: Option<&str>, more: Option<&str>) -> Option<String> {
    match (note, more) {
        (Some(note), Some(more)) => Some(format!("{note}\n{more}")),
        (note, more) => more.or(note).map(str::to_owned),
    }
}

async fn settle(
    session: &mut Session,
    by: &By,
    action: &str,
    payment_id: &str,
    before: &Settlement,
    after: &Settlement,
) -> Result<WirePayment, NotMade> {
    session.update_settlement(&by.tenant_id, payment_id, after).await?;
    let (was, is) = differing(&told(before), &told(after));
    by.audit(session, action, (KIND, payment_id), Some(&was), Some(&is)).await?;
    let record = session.find_payment(&by.tenant_id, payment_id).await?;
    Ok(record.map(|record| wire(&by.tenant_id, record)).ok_or_else(|| Refusal::not_found("payment"))?)
}

/// What of a settlement the audit log keeps.
fn told(settled: &Settlement) -> Value {
    json!({
        "status": settled.status,
        "paidAt": settled.paid_at.map(shown),
        "provider": settled.provider,
        "paymentReference": settled.payment_reference,
        "markedBy": settled.marked_by,
        "notes": settled.notes,
    })
}

/// A payment as the API sends it.
pub fn wire(tenant_id: &str, record: PaymentRecord) -> WirePayment {
    let PaymentRecord { stored, imported, is_issued, descriptions, settled } = record;
    let created_at = clock::instant(stored.created_at).unwrap_or_default();
    let mut wire = WirePayment::new(tenant_id, &stored.payment, stored.invoice_number.as_deref(), created_at);
    for (line, description) in wire.line_items.iter_mut().zip(descriptions) {
        line.description = description.unwrap_or_else(|| std::mem::take(&mut line.description));
    }
    if imported {
        // Its document was made elsewhere, by somebody who knew what it lacked.
        wire.e_invoice = None;
    }
    if !is_issued {
        wire.issue_date.clear();
    }
    let paid_unknown = wire.paid_at.filter(|_| !imported);
    wire.paid_at = settled.paid_at.map(shown).or(paid_unknown);
    wire.provider = settled.provider;
    wire.transaction_id = settled.transaction_id;
    wire.payment_reference = settled.payment_reference;
    wire.manually_marked = settled.marked_by.is_some();
    wire.marked_by = settled.marked_by;
    wire.notes = settled.notes;
    wire.updated_at = shown(settled.updated_at);
    wire
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_where_the_payment_stands() {
        let code = |status: &str, next| {
            let settled = Settlement {
                status: status.to_owned(),
                paid_at: None,
                provider: None,
                transaction_id: None,
                payment_reference: None,
                marked_by: None,
                notes: None,
                updated_at: 0,
            };
            allow(&settled, next).err().map_or("done", |refusal| refusal.code)
        };
        let all = ["pending", "processing", "failed", "paid", "cancelled"];
        let paid = all.map(|status| code(status, PaymentStatus::Paid));
        assert_eq!(paid, ["done", "done", "done", "ALREADY_PAID", "PAYMENT_CANCELLED"]);
        let cancelled = all.map(|status| code(status, PaymentStatus::Cancelled));
        assert_eq!(cancelled, ["done", "PAYMENT_PROCESSING", "done", "ALREADY_PAID", "ALREADY_CANCELLED"]);
    }

    #[test]
    fn more_is_noted_on_a_new_line() {
        assert_eq!(noted(None, None), None);
        assert_eq!(noted(Some("a"), None).as_deref(), Some("a"));
        assert_eq!(noted(None, Some("b")).as_deref(), Some("b"));
        assert_eq!(noted(Some("a"), Some("b")).as_deref(), Some("a\nb"));
    }
}
