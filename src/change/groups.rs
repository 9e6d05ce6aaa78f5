//! Billing groups: create, change, delete (rules 26 and 27), and how they are shown.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::{Number, Value, json};

use crate::domain::Tenant;
use crate::domain::calendar::local_date;
use crate::domain::group::{GroupStatus, sum_of};
use crate::input::value::Object;
use crate::input::{NAME_MAX, Problem, Reader};
use crate::render::payment::amount_sum;
use crate::store::groups::{Alike, GroupRecord, Member, Moves, rental_ids};
use crate::store::{Session, StoreError};

use super::{By, NotMade, Refusal, RefusalKind, shown, tenant};

/// What the audit log calls a group.
const KIND: &str = "billingGroup";

/// A group as the API sends it and the audit log keeps it; an unset note is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupView {
    pub billing_group_id: String,
    pub tenant_id: String,
    pub customer_id: String,
    pub group_name: String,
    /// Ordered by id, ended ones too.
    pub rental_ids: Vec<String>,
    pub billing_day: i64,
    /// The exact text of the number.
    pub total_monthly_amount: Number,
    pub active_rental_count: usize,
    pub currency: &'static str,
    pub status: String,
    pub created_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    pub created_at: String,
    pub updated_at: String,
    /// Microseconds UTC.
    #[serde(skip)]
    pub changed: i64,
}

impl GroupView {
    fn new(tenant: &Tenant, record: GroupRecord, members: &[Alike], today: NaiveDate) -> Self {
        let terms = members.iter().filter_map(|alike| Some((alike.terms.as_ref().ok()?, alike.rental_ids.len())));
        let sum = sum_of(terms, tenant, today);
        Self {
            tenant_id: tenant.tenant_id.clone(),
            rental_ids: rental_ids(members),
            total_monthly_amount: amount_sum(sum.currency, sum.monthly),
            active_rental_count: sum.active,
            currency: sum.currency.code(),
            created_at: shown(record.created_at),
            updated_at: shown(record.updated_at),
            changed: record.updated_at,
            billing_group_id: record.billing_group_id,
            customer_id: record.customer_id,
            group_name: record.group_name,
            billing_day: record.billing_day,
            status: record.status,
            created_by: record.created_by,
            notes: record.notes,
        }
    }

    /// A validator that changes with `updatedAt` and with nothing else.
    pub fn etag(&self) -> String {
        etag(self.changed)
    }

    fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

fn etag(updated_at: i64) -> String {
    format!("\"{}\"", updated_at.div_euclid(1000))
}

/// Shows groups as they are on the tenant's today, their members read at once.
pub async fn view(session: &mut Session, by: &By, records: Vec<GroupRecord>) -> Result<Vec<GroupView>, StoreError> {
    let tenant = tenant(session, by).await?;
    let today = local_date(by.now, tenant.time_zone);
    let ids: Vec<String> = records.iter().map(|record| record.billing_group_id.clone()).collect();
    let members = session.members_by_group(&by.tenant_id, &ids).await?;
    let members_of = |id: &str| members.get(id).map(Vec::as_slice).unwrap_or_default();
    Ok(records
        .into_iter()
        .map(|record| {
            let members = members_of(&record.billing_group_id);
            GroupView::new(&tenant, record, members, today)
        })
        .collect())
}

async fn view_one(session: &mut Session, by: &By, record: GroupRecord) -> Result<GroupView, StoreError> {
    let mut views = view(session, by, vec![record]).await?;
    views.pop().ok_or_else(|| anyhow::anyhow!("a group that was read is not shown").into())
}

/// Rental ids as they were sent, each once, with its place in the list.
pub type NamedRentals = Vec<(usize, String)>;

/// A group to be created, well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroup {
    pub customer_id: String,
    pub group_name: String,
    pub billing_day: i64,
    pub rental_ids: NamedRentals,
    pub notes: Option<String>,
}

impl NewGroup {
    /// Reads the body of a creation; `before` are problems of the rest of the request.
    pub fn read(object: &Object, before: Vec<Problem>) -> Result<Self, Refusal> {
        let mut reader = Reader::new(object);
        reader.problems = before;
        let customer_id = reader.id("customerId");
        let group_name = reader.name("groupName", NAME_MAX);
        let billing_day = reader.billing_day("billingDay");
        let rental_ids = reader.rental_ids("rentalIds", 1);
        let new = Self {
            customer_id: reader.required("customerId", customer_id),
            group_name: reader.required("groupName", group_name),
            billing_day: reader.required("billingDay", billing_day),
            rental_ids: reader.required("rentalIds", rental_ids),
            notes: reader.notes("notes").flatten(),
        };
        if reader.problems.is_empty() { Ok(new) } else { Err(Refusal::shapes(reader.problems)) }
    }
}

/// What of a group is to change, well-formed; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupPatch {
    /// It cannot change: another than the group's is refused.
    pub customer_id: Option<String>,
    pub group_name: Option<String>,
    pub billing_day: Option<i64>,
    /// The whole membership.
    pub rental_ids: Option<NamedRentals>,
    /// `Some(None)` removes the note.
    pub notes: Option<Option<String>>,
    pub status: Option<GroupStatus>,
}

impl GroupPatch {
    /// Reads the body of a change; `before` are problems of the rest of the request.
    pub fn read(object: &Object, before: Vec<Problem>) -> Result<Self, Refusal> {
        let mut reader = Reader::new(object);
        reader.problems = before;
        let patch = Self {
            customer_id: reader.id("customerId"),
            group_name: reader.name("groupName", NAME_MAX),
            billing_day: reader.billing_day("billingDay"),
            rental_ids: reader.rental_ids("rentalIds", 0),
            notes: reader.notes("notes"),
            status: reader.word("status", GroupStatus::WORDS, GroupStatus::parse),
        };
        if reader.problems.is_empty() { Ok(patch) } else { Err(Refusal::shapes(reader.problems)) }
    }
}

/// Which versions of an object a caller will change (`If-Match`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// Whichever there is.
    #[default]
    Any,
    /// Only one with one of these validators.
    OneOf(Vec<String>),
}

impl IfMatch {
    fn check(&self, group: &GroupRecord) -> Result<(), Refusal> {
        match self {
            Self::OneOf(etags) if !etags.contains(&etag(group.updated_at)) => Err(Refusal::new(
                RefusalKind::Precondition,
                "PRECONDITION_FAILED",
                "the billing group has changed since it was read: read it again",
            )),
            _ => Ok(()),
        }
    }
}

/// Creates a group of rentals that are free, active and of one currency.
pub async fn create(session: &mut Session, by: &By, new: &NewGroup) -> Result<GroupView, NotMade> {
    if !session.has_customer(&by.tenant_id, &new.customer_id).await? {
        let problem = Problem::new("customerId", format!("there is no customer {}", new.customer_id), "not_found");
        return Err(Refusal::new(RefusalKind::Invalid, "CUSTOMER_NOT_FOUND", problem.message.clone())
            .with(vec![problem])
            .into());
    }
    let members = Membership::read(session, by, &new.rental_ids, &[]).await?;
    members.check_ids(&new.customer_id)?;
    members.check_states()?;

    let now = by.now_micros();
    let changed_at = session.change_instant(&by.tenant_id, now).await?;
    let group = GroupRecord {
        billing_group_id: by.new_id("bg_"),
        customer_id: new.customer_id.clone(),
        group_name: new.group_name.clone(),
        billing_day: new.billing_day,
        status: GroupStatus::Active.as_str().to_owned(),
        notes: new.notes.clone(),
        created_by: by.actor.clone(),
        created_at: now,
        updated_at: now,
    };
    session.insert_group(&by.tenant_id, &group, changed_at).await?;
    session.move_members(&by.tenant_id, &group, &members.moves(), now, changed_at).await?;
    let created = view_one(session, by, group).await?;
    by.audit(session, "create", (KIND, &created.billing_group_id), None, Some(&created.json())).await?;
    Ok(created)
}

/// Changes a group, whole or not at all.
pub async fn update(
    session: &mut Session,
    by: &By,
    billing_group_id: &str,
    patch: &GroupPatch,
    if_match: &IfMatch,
) -> Result<GroupView, NotMade> {
    let Some(before) = session.lock_group(&by.tenant_id, billing_group_id).await? else {
        return Err(Refusal::not_found("billing group").into());
    };
    if patch.customer_id.as_ref().is_some_and(|customer_id| *customer_id != before.customer_id) {
        let message = "a billing group stays with its customer: create another group for another customer";
        return Err(Refusal::shapes(vec![Problem::new("customerId", message, "immutable")]).into());
    }
    let members = match &patch.rental_ids {
        Some(named) => {
            let ids = [before.billing_group_id.clone()];
            let present = session.members_by_group(&by.tenant_id, &ids).await?.into_values().flatten();
            let present: Vec<String> = present.flat_map(|alike| alike.rental_ids).collect();
            Membership::read(session, by, named, &present).await?.of(&before)
        }
        None => Membership::default(),
    };
    members.check_ids(&before.customer_id)?;
    if_match.check(&before)?;
    members.check_states()?;

    let mut after = before.clone();
    after.group_name = patch.group_name.clone().unwrap_or(after.group_name);
    after.billing_day = patch.billing_day.unwrap_or(after.billing_day);
    after.status = patch.status.map_or(after.status, |status| status.as_str().to_owned());
    after.notes = patch.notes.clone().unwrap_or(after.notes);
    let moves = members.moves();
    if after == before && moves.joining.is_empty() && moves.leaving.is_empty() {
        return Ok(view_one(session, by, before).await?);
    }
    let now = by.now_micros();
    let changed_at = session.change_instant(&by.tenant_id, now).await?;
    after.updated_at = by.later_than(before.updated_at);
    session.update_group(&by.tenant_id, &after, changed_at).await?;
    session.move_members(&by.tenant_id, &after, &moves, now, changed_at).await?;
    let (was, is) = changed_fields(&before, &after, &moves);
    by.audit(session, "update", (KIND, billing_group_id), Some(&was), Some(&is)).await?;
    Ok(view_one(session, by, after).await?)
}

/// Deletes a group: its members are billed alone from now on, its payments stay (rule 27).
pub async fn delete(
    session: &mut Session,
    by: &By,
    billing_group_id: &str,
    if_match: &IfMatch,
) -> Result<GroupView, NotMade> {
    let Some(group) = session.lock_group(&by.tenant_id, billing_group_id).await? else {
        return Err(Refusal::not_found("billing group").into());
    };
    if_match.check(&group)?;
    let deleted = view_one(session, by, group.clone()).await?;
    let now = by.now_micros();
    let changed_at = session.change_instant(&by.tenant_id, now).await?;
    let moves = Moves { joining: Vec::new(), leaving: deleted.rental_ids.clone() };
    session.move_members(&by.tenant_id, &group, &moves, now, changed_at).await?;
    session.delete_group(&by.tenant_id, billing_group_id, now).await?;
    by.audit(session, "delete", (KIND, billing_group_id), Some(&deleted.json()), None).await?;
    Ok(deleted)
}

/// The fields that a change gave other values, before and after; of the members those that left and those that joined.
fn changed_fields(before: &GroupRecord, after: &GroupRecord, moves: &Moves) -> (Value, Value) {
    let fields = |group: &GroupRecord| {
        [
            ("groupName", json!(group.group_name)),
            ("billingDay", json!(group.billing_day)),
            ("status", json!(group.status)),
            ("notes", json!(group.notes)),
        ]
    };
    let (mut was, mut is) = (serde_json::Map::new(), serde_json::Map::new());
    for ((name, old), (_, new)) in fields(before).into_iter().zip(fields(after)) {
        if old != new {
            was.insert(name.to_owned(), old);
            is.insert(name.to_owned(), new);
        }
    }
    if !moves.leaving.is_empty() {
        was.insert("leftRentalIds".to_owned(), json!(moves.leaving));
    }
    if !moves.joining.is_empty() {
        is.insert("joinedRentalIds".to_owned(), json!(moves.joining));
    }
    (was.into(), is.into())
}

/// A list of rentals that is to be a group's whole membership, held against what is stored.
#[derive(Default)]
struct Membership {
    named: NamedRentals,
    /// Those of `named` that exist, and the group's present members.
    stored: BTreeMap<String, Member>,
    /// Ids of the present members.
    present: BTreeSet<String>,
    /// Named rentals that have ended by the tenant's today.
    ended: HashSet<String>,
    group_id: Option<String>,
}

impl Membership {
    /// Reads and holds all rentals that stay, come or go.
    async fn read(
        session: &mut Session,
        by: &By,
        named: &NamedRentals,
        present: &[String],
    ) -> Result<Self, StoreError> {
        let tenant = tenant(session, by).await?;
        let today = local_date(by.now, tenant.time_zone);
        let ids: BTreeSet<String> = named.iter().map(|(_, id)| id).chain(present).cloned().collect();
        let rentals = session.lock_rentals(&by.tenant_id, &ids.into_iter().collect::<Vec<_>>()).await?;
        let runs =
            |member: &Member| member.terms.as_ref().is_ok_and(|terms| terms.is_running_on(today, tenant.contract_end));
        Ok(Self {
            named: named.clone(),
            ended: rentals.iter().filter(|member| !runs(member)).map(|member| member.rental_id.clone()).collect(),
            stored: rentals.into_iter().map(|member| (member.rental_id.clone(), member)).collect(),
            present: BTreeSet::new(),
            group_id: None,
        })
    }

    /// The same for a group that exists: who is in it is known only now that its rentals are held.
    fn of(mut self, group: &GroupRecord) -> Self {
        let members = self.stored.values().filter(|m| m.billing_group_id.as_ref() == Some(&group.billing_group_id));
        self.present = members.map(|member| member.rental_id.clone()).collect();
        self.group_id = Some(group.billing_group_id.clone());
        self
    }

    /// Those named that are not in the group yet.
    fn joining(&self) -> impl Iterator<Item = (usize, &Member)> {
        let new = self.named.iter().filter(|(_, id)| !self.present.contains(id));
        new.filter_map(|(at, id)| self.stored.get(id).map(|member| (*at, member)))
    }

    /// Whether all named rentals exist and are this customer's.
    fn check_ids(&self, customer_id: &str) -> Result<(), Refusal> {
        let missing = self.named.iter().filter(|(_, id)| !self.stored.contains_key(id));
        let missing = missing.map(|(at, id)| problem(*at, format!("there is no subscription {id}"), "not_found"));
        refuse(RefusalKind::Invalid, "SUBSCRIPTION_NOT_FOUND", "do not exist", missing.collect())?;
        let foreign = self.joining().filter(|(_, member)| member.customer_id != customer_id).map(|(at, member)| {
            problem(at, format!("subscription {} is another customer's", member.rental_id), "different_customer")
        });
        refuse(RefusalKind::Invalid, "SUBSCRIPTION_DIFFERENT_CUSTOMER", "are another customer's", foreign.collect())
    }

    /// Whether those that join may: active, in no other group, of the group's currency.
    fn check_states(&self) -> Result<(), Refusal> {
        let ended = self.joining().filter(|(_, member)| self.ended.contains(&member.rental_id)).map(|(at, member)| {
            problem(at, format!("subscription {} is not active any more", member.rental_id), "not_active")
        });
        refuse(RefusalKind::Invalid, "SUBSCRIPTION_NOT_ACTIVE", "are not active any more", ended.collect())?;
        let grouped = self.joining().filter_map(|(at, member)| {
            let group_id = member.billing_group_id.as_ref().filter(|id| Some(*id) != self.group_id.as_ref())?;
            let message = format!("subscription {} is in billing group {group_id}", member.rental_id);
            let problem = problem(at, message, "already_grouped");
            Some(Problem { billing_group_id: Some(group_id.clone()), ..problem })
        });
        let what = "are in another billing group: take them out of it first";
        refuse(RefusalKind::Conflict, "SUBSCRIPTION_ALREADY_GROUPED", what, grouped.collect())?;
        let other = self.joining_in_other_currency().into_iter().map(|(at, member, expected)| {
            let message = format!("subscription {} is in {}, not in {expected}", member.rental_id, member.currency);
            problem(at, message, "currency_mismatch")
        });
        let what = "are in another currency";
        refuse(RefusalKind::Invalid, "SUBSCRIPTION_CURRENCY_MISMATCH", what, other.collect())
    }

    /// Those that join with another currency than a member that stays, or than the first that joins an empty group (rule 14).
    fn joining_in_other_currency(&self) -> Vec<(usize, &Member, &str)> {
        let named: HashSet<&str> = self.named.iter().map(|(_, id)| id.as_str()).collect();
        let staying = self.stored.values().filter(|m| self.present.contains(&m.rental_id));
        let staying = staying.filter(|m| named.contains(m.rental_id.as_str())).map(|m| m.currency.as_str());
        let mut currencies: BTreeSet<&str> = staying.collect();
        if currencies.is_empty() {
            currencies.extend(self.joining().next().map(|(_, member)| member.currency.as_str()));
        }
        let other_than = |currency: &str| currencies.iter().find(|c| **c != currency).copied();
        self.joining().filter_map(|(at, member)| Some((at, member, other_than(&member.currency)?))).collect()
    }

    fn moves(&self) -> Moves {
        let named: HashSet<&str> = self.named.iter().map(|(_, id)| id.as_str()).collect();
        let mut joining: Vec<String> = self.joining().map(|(_, member)| member.rental_id.clone()).collect();
        joining.sort_unstable();
        let leaving = self.present.iter().filter(|id| !named.contains(id.as_str())).cloned().collect();
        Moves { joining, leaving }
    }
}

fn problem(at: usize, message: String, code: &'static str) -> Problem {
    Problem::new(format!("rentalIds.{at}"), message, code)
}

/// Refuses if there is a problem; `what` ends a sentence that begins with a number of subscriptions.
fn refuse(kind: RefusalKind, code: &'static str, what: &str, problems: Vec<Problem>) -> Result<(), Refusal> {
    let message = match problems.as_slice() {
        [] => return Ok(()),
        [problem] => problem.message.clone(),
        several => format!("{} subscriptions {what}", several.len()),
    };
    Err(Refusal::new(kind, code, message).with(problems))
}
