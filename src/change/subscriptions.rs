//! Subscriptions, which the wire and the store call rentals: create, change, cancel, and how they are shown.

use std::collections::{BTreeSet, HashMap};

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::{Number, Value, json};

use crate::domain::calendar::local_date;
use crate::domain::money::NumberError;
use crate::domain::rental::{RentalStatus, RentalTerms};
use crate::domain::{Currency, Tenant};
use crate::input::value::Object;
use crate::input::{ID_MAX, Problem, Reader, TEXT_MAX, amount_problem, value};
use crate::render::payment::amount;
use crate::store::customers::CustomerName;
use crate::store::groups::{GroupRecord, Moves};
use crate::store::import::{Claim, ImportCall, Incoming, RentalContent};
use crate::store::rentals::RentalRecord;
use crate::store::{Session, StoreError};

use super::{By, NotMade, Refusal, RefusalKind, differing, shown, tenant};

/// What the audit log calls a subscription.
const KIND: &str = "subscription";

/// Why a subscription may be cancelled.
pub const CANCEL_REASONS: &[&str] = &["customer_request", "payment_failure", "fraud", "admin_decision", "other"];

/// A rental as the API sends it. What the public service always sends is there, empty if nobody knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RentalView {
    pub rental_id: String,
    pub tenant_id: String,
    pub asset_serial_number: String,
    /// The same under its other name.
    pub serial_number: String,
    pub customer_id: String,
    pub sku: String,
    pub product_name: String,
    /// The exact text of the number.
    pub monthly_amount: Number,
    pub currency: String,
    pub status: String,
    /// The group that it is in, also while that is inactive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_group_id: Option<String>,
    /// Months; 0 for an open end.
    pub original_contract_length: i64,
    pub contract_length: i64,
    pub start_date: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_billing_date: Option<String>,
    pub order_id: String,
    pub customer_email: String,
    pub customer_name: String,
    pub created_at: String,
    pub updated_at: String,
    pub created_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// The day on which it ended early, under the name that an import reads; at most one of the three is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buyout_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancellation_details: Option<Value>,
}

impl RentalView {
    fn new(tenant_id: &str, record: RentalRecord, customer: Option<&CustomerName>, next: Option<NaiveDate>) -> Self {
        let RentalRecord { rental_id, created_by, created_at, updated_at, cancellation, content } = record;
        let status = content.status.unwrap_or_default();
        let ended = |with: &[RentalStatus]| {
            let parsed = RentalStatus::parse(&status).filter(|status| with.contains(status));
            content.ended_on.filter(|_| parsed.is_some()).map(|date| date.to_string())
        };
        let cancelled_at = ended(&[RentalStatus::Cancelled]);
        let serial_number = content.serial_number.unwrap_or_default();
        let months = content.contract_length.unwrap_or(0);
        Self {
            rental_id,
            tenant_id: tenant_id.to_owned(),
            asset_serial_number: serial_number.clone(),
            serial_number,
            sku: content.sku.unwrap_or_default(),
            product_name: content.product_name,
            // A currency that nobody knows has no digits of its own.
            monthly_amount: Currency::from_code(&content.currency)
                .map_or_else(|| content.monthly_amount.into(), |currency| amount(currency, content.monthly_amount)),
            currency: content.currency,
            billing_group_id: content.member_of,
            original_contract_length: months,
            contract_length: months,
            start_date: content.start_date.to_string(),
            end_date: content.end_date.map(|date| date.to_string()),
            next_billing_date: next.map(|date| date.to_string()),
            order_id: content.order_id.unwrap_or_default(),
            customer_email: customer.and_then(|customer| customer.email.clone()).unwrap_or_default(),
            customer_name: customer.map(called).unwrap_or_default(),
            created_at: shown(created_at),
            updated_at: shown(updated_at),
            created_by,
            notes: content.notes,
            returned_at: ended(&[
                RentalStatus::EndedEarlyReturn,
                RentalStatus::EndedCompleted,
                RentalStatus::EndedUpgrade,
            ]),
            buyout_date: ended(&[RentalStatus::EndedBuyout]),
            cancellation_details: cancellation
                .filter(|_| cancelled_at.is_some())
                .and_then(|json| serde_json::from_str(&json).ok()),
            cancelled_at,
            customer_id: content.customer_id,
            status,
        }
    }
}

/// The company, else the person's two names.
fn called(customer: &CustomerName) -> String {
    let person = [customer.first_name.as_deref(), customer.last_name.as_deref()];
    customer.company.clone().unwrap_or_else(|| person.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

/// Shows rentals, with what else they tell of read at once.
pub async fn view(session: &mut Session, by: &By, records: Vec<RentalRecord>) -> Result<Vec<RentalView>, StoreError> {
    let tenant = tenant(session, by).await?;
    let today = local_date(by.now, tenant.time_zone);
    let ids: Vec<String> = records.iter().map(|record| record.rental_id.clone()).collect();
    let next = session.next_billing_dates(&tenant, &ids, today).await?;
    let customers: BTreeSet<&String> = records.iter().map(|record| &record.content.customer_id).collect();
    let customers: Vec<String> = customers.into_iter().cloned().collect();
    let names: HashMap<String, CustomerName> = session.customer_names(&by.tenant_id, &customers).await?;
    Ok(records
        .into_iter()
        .map(|record| {
            let (customer, next) = (names.get(&record.content.customer_id), next.get(&record.rental_id).copied());
            RentalView::new(&by.tenant_id, record, customer, next)
        })
        .collect())
}

async fn view_one(session: &mut Session, by: &By, rental_id: &str) -> Result<RentalView, NotMade> {
    let record = session.find_rental(&by.tenant_id, rental_id).await?;
    let views = view(session, by, record.into_iter().collect()).await?;
    Ok(views.into_iter().next().ok_or_else(unknown)?)
}

fn unknown() -> Refusal {
    Refusal::not_found("subscription")
}

/// A rental to be created, well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRental {
    customer_id: String,
    billing_group_id: Option<String>,
    monthly_amount: i64,
    currency: Currency,
    start_date: NaiveDate,
    end_date: Option<NaiveDate>,
    contract_length: Option<i64>,
    product_name: Option<String>,
    serial_number: Option<String>,
    sku: Option<String>,
    order_id: Option<String>,
    notes: Option<String>,
}

impl NewRental {
    /// Reads the body of a creation; `before` are problems of the rest of the request.
    pub fn read(object: &Object, before: Vec<Problem>, tenant: &Tenant, today: NaiveDate) -> Result<Self, Refusal> {
        let mut reader = Reader::new(object);
        reader.problems = before;
        let customer_id = reader.id("customerId");
        let currency = reader.text_or_empty("currency", TEXT_MAX);
        let known = currency.as_deref().map_or(Some(tenant.currency), Currency::from_code);
        if known.is_none() {
            let message =
                format!("'{}' is not an ISO 4217 currency such as EUR", value::short(&currency.unwrap_or_default()));
            reader.note("currency", message, "invalid_string");
        }
        // With a currency that is wrong, whether the digits fit is nobody's guess.
        let monthly_amount = known.and_then(|currency| reader.amount("monthlyAmount", currency));
        let new = Self {
            customer_id: reader.required("customerId", customer_id),
            billing_group_id: reader.text_or_empty("billingGroupId", ID_MAX),
            monthly_amount: reader.required("monthlyAmount", monthly_amount),
            currency: known.unwrap_or(tenant.currency),
            start_date: date_or_empty(&mut reader, "startDate", tenant).unwrap_or(today),
            end_date: date_or_empty(&mut reader, "endDate", tenant),
            contract_length: contract_length(&mut reader).flatten(),
            product_name: reader.text_or_empty("productName", TEXT_MAX),
            serial_number: reader.aliased("assetSerialNumber", "serialNumber", TEXT_MAX),
            sku: reader.text_or_empty("sku", TEXT_MAX),
            order_id: reader.text_or_empty("orderId", ID_MAX),
            notes: reader.lines("notes"),
        };
        if new.end_date.is_some_and(|end| end < new.start_date) {
            reader.problems.push(end_before_start(new.end_date, new.start_date));
        }
        if reader.problems.is_empty() { Ok(new) } else { Err(Refusal::shapes(reader.problems)) }
    }
}

fn end_before_start(end: Option<NaiveDate>, start: NaiveDate) -> Problem {
    let end = end.map(|end| end.to_string()).unwrap_or_default();
    Problem::new("endDate", format!("{end} lies before startDate {start}"), "too_small")
}

/// A day; an empty text is as good as absent.
fn date_or_empty(reader: &mut Reader<'_>, name: &str, tenant: &Tenant) -> Option<NaiveDate> {
    let empty = matches!(reader.value(name), Some(value::Value::Text(text)) if text.is_empty());
    if empty { None } else { reader.date(name, tenant.time_zone) }
}

/// Months, 1 to 120; 0 is as good as absent, for that is how an open end is shown.
fn contract_length(reader: &mut Reader<'_>) -> Option<Option<i64>> {
    let months =
        reader.whole("contractLength", |months| (0..=120).contains(&months), "a whole number from 1 to 120")?;
    (months > 0).then_some(Some(months))
}

/// What of a rental is to change, well-formed; what is absent stays, and `Some(None)` removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RentalPatch {
    /// It cannot change: another than the rental's is refused.
    customer_id: Option<String>,
    /// As it was written: its currency is known only when the rental is.
    monthly_amount: Option<String>,
    end_date: Option<Option<NaiveDate>>,
    contract_length: Option<Option<i64>>,
    product_name: Option<String>,
    serial_number: Option<String>,
    billing_group_id: Option<Option<String>>,
    notes: Option<Option<String>>,
}

impl RentalPatch {
    /// Reads the body of a change; `before` are problems of the rest of the request.
    pub fn read(object: &Object, before: Vec<Problem>, tenant: &Tenant) -> Result<Self, Refusal> {
        let mut reader = Reader::new(object);
        reader.problems = before;
        let is_null = |reader: &Reader<'_>, name: &str| reader.value(name) == Some(&value::Value::Null);
        let patch = Self {
            customer_id: reader.id("customerId"),
            monthly_amount: reader.amount_text("monthlyAmount"),
            end_date: reader.or_null("endDate", |reader| date_or_empty(reader, "endDate", tenant)),
            contract_length: if is_null(&reader, "contractLength") { Some(None) } else { contract_length(&mut reader) },
            product_name: reader.text_or_empty("productName", TEXT_MAX),
            serial_number: reader.aliased("assetSerialNumber", "serialNumber", TEXT_MAX),
            billing_group_id: reader.or_null("billingGroupId", |reader| reader.text_or_empty("billingGroupId", ID_MAX)),
            notes: reader.or_null("notes", |reader| reader.lines("notes")),
        };
        if reader.problems.is_empty() { Ok(patch) } else { Err(Refusal::shapes(reader.problems)) }
    }
}

/// Why a subscription is cancelled, well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    reason: &'static str,
    notes: Option<String>,
    /// The public service wants the id here too; another than the one in the address is refused.
    rental_id: Option<String>,
}

impl Cancel {
    /// Reads the body; `before` are problems of the rest of the request.
    pub fn read(object: &Object, before: Vec<Problem>) -> Result<Self, Refusal> {
        let mut reader = Reader::new(object);
        reader.problems = before;
        let word = |text: &str| CANCEL_REASONS.iter().find(|reason| **reason == text).copied();
        let reason = reader.word("reason", CANCEL_REASONS, word);
        let cancel = Self {
            reason: reader.required("reason", reason),
            notes: reader.lines("notes"),
            rental_id: reader.id("rentalId"),
        };
        if reader.problems.is_empty() { Ok(cancel) } else { Err(Refusal::shapes(reader.problems)) }
    }
}

/// Creates a rental, in a group if one is named.
pub async fn create(session: &mut Session, by: &By, new: &NewRental) -> Result<RentalView, NotMade> {
    if !session.has_customer(&by.tenant_id, &new.customer_id).await? {
        let problem = Problem::new("customerId", format!("there is no customer {}", new.customer_id), "not_found");
        return Err(refused("CUSTOMER_NOT_FOUND", problem).into());
    }
    let rental_id = by.new_id("rental_");
    let content = RentalContent {
        customer_id: new.customer_id.clone(),
        member_of: None,
        claim: Claim::Unsaid,
        monthly_amount: new.monthly_amount,
        currency: new.currency.code().to_owned(),
        status: Some(RentalStatus::Active.as_str().to_owned()),
        start_date: new.start_date,
        end_date: new.end_date,
        contract_length: new.contract_length,
        ended_on: None,
        product_name: new.product_name.clone().unwrap_or_else(|| rental_id.clone()),
        serial_number: new.serial_number.clone(),
        sku: new.sku.clone(),
        order_id: new.order_id.clone(),
        notes: new.notes.clone(),
    };
    let group = match &new.billing_group_id {
        Some(group_id) => Some(joinable(session, by, group_id, &content).await?),
        None => None,
    };
    let now = by.now_micros();
    let changed_at = session.change_instant(&by.tenant_id, now).await?;
    write(session, by, &rental_id, content, None, changed_at).await?;
    if let Some(group) = group {
        regroup(session, by, &rental_id, None, Some(group), changed_at).await?;
    }
    let created = view_one(session, by, &rental_id).await?;
    by.audit(session, "create", (KIND, &rental_id), None, Some(&json!(created))).await?;
    Ok(created)
}

/// Changes a rental, whole or not at all. Into another group it goes in two steps: out, and in.
pub async fn update(
    session: &mut Session,
    by: &By,
    rental_id: &str,
    patch: &RentalPatch,
) -> Result<RentalView, NotMade> {
    let present = session.find_rental(&by.tenant_id, rental_id).await?.ok_or_else(unknown)?;
    let group_before = hold_group(session, by, present.content.member_of.as_ref()).await?;
    let group_named = match patch.billing_group_id.as_ref().and_then(Option::as_ref) {
        Some(id) if group_before.as_ref().is_none_or(|group| group.billing_group_id != *id) => {
            let found = session.lock_group(&by.tenant_id, id).await?;
            Some(found.ok_or_else(|| unknown_group(id))?)
        }
        _ => None,
    };
    let before = session.lock_rental(&by.tenant_id, rental_id).await?.ok_or_else(unknown)?;
    if before.content.member_of != present.content.member_of {
        // Somebody moved it meanwhile: other groups have to be held.
        return Err(StoreError::Conflict.into());
    }
    if patch.customer_id.as_ref().is_some_and(|customer_id| *customer_id != before.content.customer_id) {
        let message = "a subscription stays with its customer: create another one for another customer";
        return Err(Refusal::shapes(vec![Problem::new("customerId", message, "immutable")]).into());
    }
    let content = applied(patch, &before.content)?;
    if let Some(group) = &group_named {
        check_join(session, by, group, &format!("subscription {rental_id}"), &content).await?;
    }
    let leaves = patch.billing_group_id == Some(None) && group_before.is_some();
    if content == before.content && group_named.is_none() && !leaves {
        return view_one(session, by, rental_id).await;
    }
    let was = view_one(session, by, rental_id).await?;
    let changed_at = session.change_instant(&by.tenant_id, by.now_micros()).await?;
    write(session, by, rental_id, content, Some(before.updated_at), changed_at).await?;
    if leaves || group_named.is_some() {
        regroup(session, by, rental_id, group_before.filter(|_| leaves), group_named, changed_at).await?;
    }
    let updated = view_one(session, by, rental_id).await?;
    let (was, is) = differing(&json!(was), &json!(updated));
    by.audit(session, "update", (KIND, rental_id), Some(&was), Some(&is)).await?;
    Ok(updated)
}

/// Ends a rental today, for a reason. It stays in its group and is charged no more (rule 10).
///
/// Tells what its status was.
pub async fn cancel(
    session: &mut Session,
    by: &By,
    rental_id: &str,
    cancel: &Cancel,
) -> Result<(RentalView, String), NotMade> {
    let before = session.lock_rental(&by.tenant_id, rental_id).await?.ok_or_else(unknown)?;
    if cancel.rental_id.as_ref().is_some_and(|id| id != rental_id) {
        let message = "is not the id in the address";
        return Err(Refusal::shapes(vec![Problem::new("rentalId", message, "immutable")]).into());
    }
    let status = before.content.status.clone().unwrap_or_default();
    match RentalStatus::parse(&status) {
        Some(RentalStatus::Active) | None => {}
        Some(RentalStatus::Cancelled) => {
            let message = "the subscription is cancelled already";
            return Err(Refusal::new(RefusalKind::Invalid, "ALREADY_CANCELLED", message).into());
        }
        Some(_) => {
            let message = "the subscription has ended already";
            return Err(Refusal::new(RefusalKind::Invalid, "ALREADY_ENDED", message).into());
        }
    }
    let was = view_one(session, by, rental_id).await?;
    let tenant = tenant(session, by).await?;
    let content = RentalContent {
        status: Some(RentalStatus::Cancelled.as_str().to_owned()),
        ended_on: Some(local_date(by.now, tenant.time_zone)),
        ..before.content
    };
    let changed_at = session.change_instant(&by.tenant_id, by.now_micros()).await?;
    write(session, by, rental_id, content, Some(before.updated_at), changed_at).await?;
    let mut details = json!({
        "reason": cancel.reason,
        "processedBy": {"userId": by.actor},
        "cancelledAt": shown(by.now_micros()),
    });
    if let Some(notes) = &cancel.notes {
        details["notes"] = notes.as_str().into();
    }
    session.keep_cancellation(&by.tenant_id, rental_id, &details.to_string()).await?;
    let cancelled = view_one(session, by, rental_id).await?;
    let (was, is) = differing(&json!(was), &json!(cancelled));
    by.audit(session, "cancel", (KIND, rental_id), Some(&was), Some(&is)).await?;
    Ok((cancelled, status))
}

/// The rental as a patch makes it, but for its group.
fn applied(patch: &RentalPatch, before: &RentalContent) -> Result<RentalContent, Refusal> {
    let monthly_amount = match &patch.monthly_amount {
        None => before.monthly_amount,
        Some(text) => {
            let currency = Currency::from_code(&before.currency);
            let read = currency.ok_or(NumberError::NotANumber).and_then(|currency| currency.parse_amount(text));
            read.map_err(|error| Refusal::shapes(vec![amount_problem("monthlyAmount", text, error, currency)]))?
        }
    };
    let content = RentalContent {
        monthly_amount,
        end_date: patch.end_date.unwrap_or(before.end_date),
        contract_length: patch.contract_length.unwrap_or(before.contract_length),
        product_name: patch.product_name.clone().unwrap_or_else(|| before.product_name.clone()),
        serial_number: patch.serial_number.clone().or_else(|| before.serial_number.clone()),
        notes: patch.notes.clone().unwrap_or_else(|| before.notes.clone()),
        ..before.clone()
    };
    if patch.end_date.is_some() && content.end_date.is_some_and(|end| end < content.start_date) {
        return Err(Refusal::shapes(vec![end_before_start(content.end_date, content.start_date)]));
    }
    Ok(content)
}

fn refused(code: &'static str, problem: Problem) -> Refusal {
    let kind = if code == "SUBSCRIPTION_ALREADY_GROUPED" { RefusalKind::Conflict } else { RefusalKind::Invalid };
    Refusal::new(kind, code, problem.message.clone()).with(vec![problem])
}

fn in_group(message: String, code: &'static str) -> Problem {
    Problem::new("billingGroupId", message, code)
}

fn unknown_group(id: &str) -> Refusal {
    refused("BILLING_GROUP_NOT_FOUND", in_group(format!("there is no billing group {id}"), "not_found"))
}

async fn hold_group(session: &mut Session, by: &By, id: Option<&String>) -> Result<Option<GroupRecord>, StoreError> {
    match id {
        Some(id) => session.lock_group(&by.tenant_id, id).await,
        None => Ok(None),
    }
}

/// A group that is there and that a new rental may join, held.
async fn joinable(
    session: &mut Session,
    by: &By,
    group_id: &str,
    content: &RentalContent,
) -> Result<GroupRecord, NotMade> {
    let group = session.lock_group(&by.tenant_id, group_id).await?.ok_or_else(|| unknown_group(group_id))?;
    check_join(session, by, &group, "the subscription", content).await?;
    Ok(group)
}

/// Whether a rental may join a group: the rules, codes and order of a group's own list (rule 26).
async fn check_join(
    session: &mut Session,
    by: &By,
    group: &GroupRecord,
    named: &str,
    content: &RentalContent,
) -> Result<(), NotMade> {
    let group_id = &group.billing_group_id;
    if content.customer_id != group.customer_id {
        let message = format!("billing group {group_id} is another customer's");
        return Err(refused("SUBSCRIPTION_DIFFERENT_CUSTOMER", in_group(message, "different_customer")).into());
    }
    let tenant = tenant(session, by).await?;
    if !is_running(content, &tenant, local_date(by.now, tenant.time_zone)) {
        let message = format!("{named} is not active any more");
        return Err(refused("SUBSCRIPTION_NOT_ACTIVE", in_group(message, "not_active")).into());
    }
    if let Some(other) = &content.member_of {
        let message = format!("{named} is in billing group {other}: take it out of it first");
        let problem = Problem { billing_group_id: Some(other.clone()), ..in_group(message, "already_grouped") };
        return Err(refused("SUBSCRIPTION_ALREADY_GROUPED", problem).into());
    }
    let members = session.members_by_group(&by.tenant_id, std::slice::from_ref(group_id)).await?;
    let mut currencies = members.values().flatten().map(|member| &member.currency);
    if let Some(expected) = currencies.find(|currency| **currency != content.currency) {
        let message = format!("{named} is in {}, not in {expected}", content.currency);
        return Err(refused("SUBSCRIPTION_CURRENCY_MISMATCH", in_group(message, "currency_mismatch")).into());
    }
    Ok(())
}

fn is_running(content: &RentalContent, tenant: &Tenant, today: NaiveDate) -> bool {
    let terms = RentalTerms {
        monthly_amount: content.monthly_amount,
        currency: Currency::from_code(&content.currency).unwrap_or(tenant.currency),
        status: content.status.as_deref().and_then(RentalStatus::parse).unwrap_or(RentalStatus::Active),
        start_date: content.start_date,
        end_date: content.end_date,
        contract_length: content.contract_length.and_then(|months| u32::try_from(months).ok()),
    };
    terms.is_running_on(today, tenant.contract_end)
}

/// Writes a rental as an import would, in the group that it is in.
async fn write(
    session: &mut Session,
    by: &By,
    rental_id: &str,
    content: RentalContent,
    updated_before: Option<i64>,
    changed_at: i64,
) -> Result<(), StoreError> {
    let now = by.now_micros();
    let record = Incoming {
        tenant_id: by.tenant_id.clone(),
        id: rental_id.to_owned(),
        place: 0,
        created_at: updated_before.is_none().then_some(now),
        updated_at: Some(updated_before.map_or(now, |before| by.later_than(before))),
        content,
    };
    session.import_rentals(&ImportCall::of_one(&by.actor, changed_at), vec![record]).await?;
    session.refresh_billed_group(&by.tenant_id, rental_id).await
}

/// Takes a rental out of one group or into another, which counts as a change of the group too.
async fn regroup(
    session: &mut Session,
    by: &By,
    rental_id: &str,
    from: Option<GroupRecord>,
    into: Option<GroupRecord>,
    changed_at: i64,
) -> Result<(), StoreError> {
    let moved = || vec![rental_id.to_owned()];
    let leaving = from.map(|group| (group, Moves { joining: Vec::new(), leaving: moved() }));
    let joining = into.map(|group| (group, Moves { joining: moved(), leaving: Vec::new() }));
    for (mut group, moves) in [leaving, joining].into_iter().flatten() {
        group.updated_at = by.later_than(group.updated_at);
        session.update_group(&by.tenant_id, &group, changed_at).await?;
        session.move_members(&by.tenant_id, &group, &moves, by.now_micros(), changed_at).await?;
    }
    Ok(())
}
