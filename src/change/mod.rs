//! Changes that people make, by the API or the command line: the same rules and codes, and one transaction each.
//!
//! ```text
//! what was sent ──► read (shapes) ──► transact: lock ─ check ─ write ─ audit ──► the changed object, or a refusal
//! ```
//!
//! A change looks before it writes, so a refusal has written nothing. Two that meet wait for each other or begin anew.

pub mod customers;
pub mod groups;
pub mod payments;
pub mod subscriptions;

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::clock;
use crate::domain::Tenant;
use crate::input::{INVALID_BILLING_DAY, Problem};
use crate::render::payment::instant;
use crate::store::audit::AuditEntry;
use crate::store::{Result, Session, Store, StoreError, TxFuture};

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub kind: RefusalKind,
    /// The stable word of the public API, such as `SUBSCRIPTION_NOT_FOUND`.
    pub code: &'static str,
    pub message: String,
    /// The first [`DETAILS_MAX`] problems.
    pub details: Vec<Problem>,
}

/// What kind of answer a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The object itself does not exist.
    NotFound,
    Invalid,
    Conflict,
    /// The object is another than the caller believes.
    Precondition,
}

/// How many problems a refusal names.
pub const DETAILS_MAX: usize = 20;

impl Refusal {
    pub fn new(kind: RefusalKind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), details: Vec::new() }
    }

    /// An object that is not there; `what` names its kind, never another tenant's.
    pub fn not_found(what: &str) -> Self {
        Self::new(RefusalKind::NotFound, "NOT_FOUND", format!("there is no such {what}"))
    }

    /// Everything that is wrong with the shape of what was sent; at least one problem.
    pub fn shapes(problems: Vec<Problem>) -> Self {
        if let [problem] = problems.as_slice()
            && problem.code == INVALID_BILLING_DAY
        {
            let message = format!("{} {}", problem.path, problem.message);
            return Self::new(RefusalKind::Invalid, "INVALID_BILLING_DAY", message).with(problems);
        }
        let message = match problems.as_slice() {
            [problem] if problem.path.is_empty() => format!("the body {}", problem.message),
            [problem] => format!("{} {}", problem.path, problem.message),
            several => format!("{} things are wrong with the request", several.len()),
        };
        Self::new(RefusalKind::Invalid, "VALIDATION_ERROR", message).with(problems)
    }

    /// Names the first of these problems.
    pub fn with(mut self, mut problems: Vec<Problem>) -> Self {
        problems.truncate(DETAILS_MAX);
        self.details = problems;
        self
    }
}

/// How a change ended without being made.
#[derive(Debug)]
pub enum NotMade {
    Refused(Refusal),
    Store(StoreError),
}

impl From<Refusal> for NotMade {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for NotMade {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Who makes a change, for whom, and when.
#[derive(Debug, Clone)]
pub struct By {
    pub tenant_id: String,
    /// `key:<id>` or `cli`.
    pub actor: String,
    pub now: DateTime<Utc>,
}

impl By {
    /// The instant as the databases keep it.
    pub fn now_micros(&self) -> i64 {
        clock::micros(self.now)
    }

    /// When an object that was last changed at `before` counts as changed: now, but later than before by what the wire shows.
    pub fn later_than(&self, before: i64) -> i64 {
        self.now_micros().max((before.div_euclid(1000) + 1) * 1000)
    }

    /// A new id with a prefix that people recognize; ids sort by time.
    pub fn new_id(&self, prefix: &str) -> String {
        let (seconds, nanos) = (self.now.timestamp().max(0).unsigned_abs(), self.now.timestamp_subsec_nanos());
        let id = uuid::Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos));
        format!("{prefix}{}", id.simple())
    }

    /// Puts a change on record; what is absent is not there before or after.
    pub async fn audit(
        &self,
        session: &mut Session,
        action: &str,
        (kind, object_id): (&str, &str),
        before: Option<&Value>,
        after: Option<&Value>,
    ) -> Result<()> {
        let entry = AuditEntry {
            audit_id: self.new_id(""),
            actor: self.actor.clone(),
            action: action.to_owned(),
            kind: kind.to_owned(),
            object_id: object_id.to_owned(),
            state_before: before.map(Value::to_string),
            state_after: after.map(Value::to_string),
            created_at: self.now_micros(),
        };
        session.insert_audit(&self.tenant_id, &entry).await
    }
}

/// The tenant that a change or a view is for.
pub async fn tenant(session: &mut Session, by: &By) -> Result<Tenant> {
    let found = session.find_tenant(&by.tenant_id).await?;
    let tenant = found.ok_or_else(|| anyhow::anyhow!("tenant {} is gone", by.tenant_id))?;
    Ok(tenant.map_err(|bad| anyhow::anyhow!("tenant {}: its {} is '{}'", by.tenant_id, bad.field, bad.value))?)
}

/// A stored instant as the API sends it.
fn shown(micros: i64) -> String {
    clock::instant(micros).map(instant).unwrap_or_default()
}

/// The fields of two states of one object that differ, before and after.
fn differing(before: &Value, after: &Value) -> (Value, Value) {
    let (mut was, mut is) = (serde_json::Map::new(), serde_json::Map::new());
    let names = |state: &Value| state.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default();
    let all: std::collections::BTreeSet<String> =
        [before, after].into_iter().flat_map(|s| -> Vec<String> { names(s) }).collect();
    for name in all {
        if before.get(&name) != after.get(&name) {
            was.extend(before.get(&name).map(|value| (name.clone(), value.clone())));
            is.extend(after.get(&name).map(|value| (name.clone(), value.clone())));
        }
    }
    (was.into(), is.into())
}

/// How often a change is begun before it gives up.
const ATTEMPTS_MAX: u32 = 8;

/// Makes a change in one transaction; one that meets another begins anew.
///
/// `work` must have written nothing when it refuses, for its transaction is committed.
pub async fn transact<T, F>(store: &Store, work: F) -> Result<T, NotMade>
where
    T: Send + 'static,
    F: for<'a> Fn(&'a mut Session) -> TxFuture<'a, Result<T, Refusal>> + Clone + Send + Sync + 'static,
{
    let mut attempts = 0;
    loop {
        let work = work.clone();
        match store.with_tx(move |tx| work(tx)).await {
            Ok(result) => return result.map_err(NotMade::Refused),
            Err(StoreError::Conflict | StoreError::Busy(_)) if attempts < ATTEMPTS_MAX => {
                tokio::time::sleep(Duration::from_millis(10 << attempts)).await;
                attempts += 1;
            }
            Err(error) => return Err(NotMade::Store(error)),
        }
    }
}

/// Turns a refusal into a value, as [`transact`] wants it: only errors of the database roll back.
pub fn settled<T>(result: Result<T, NotMade>) -> Result<Result<T, Refusal>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(NotMade::Refused(refusal)) => Ok(Err(refusal)),
        Err(NotMade::Store(error)) => Err(error),
    }
}
