//! Bringing records in, all of one call in one transaction (the import of `billday import`).
//!
//! ```text
//! begin_import ─► upsert_… chunk by chunk, in any order ─► settle_members ─► settle_payments ─► problems? ─► end_import
//! ```
//!
//! Records refer to each other in any order, so each row lands first and what holds between rows is looked at once, at the
//! end, on the state that the call leaves. Every row that a call touches carries the call's id and its place in the files:
//! that finds an id given twice, and names the record to blame when a reference leads nowhere.

mod checks;
mod content;
mod members;
mod payments;
mod settle;
mod upsert;

use std::collections::HashMap;

use sqlx::FromRow;

use super::dialect::{Column, Rows, insert};
use super::{Result, Session, on};

pub use content::{
    Claim, CustomerContent, GroupContent, Incoming, LineContent, PaymentContent, Picture, RentalContent, TenantContent,
};

/// One call of the import: what marks its rows.
#[derive(Debug, Clone)]
pub struct ImportCall {
    /// Unique to the call.
    pub import_id: String,
    /// Microseconds UTC.
    pub now: i64,
    /// Who brings the records in, for those that are new.
    pub by: String,
}

impl ImportCall {
    /// A call that writes one record, which counts as changed at `now`; it needs no [`begin_import`](Session::begin_import)
    /// as long as the record says nothing of membership.
    pub fn of_one(by: &str, now: i64) -> Self {
        Self { import_id: uuid::Uuid::now_v7().to_string(), now, by: by.to_owned() }
    }
}

/// What became of the records of a chunk.
#[derive(Debug, Default)]
pub struct Written {
    pub created: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Groups that had been deleted.
    pub restored: u64,
    /// Payments that billday made: an import leaves them alone.
    pub left_alone: u64,
    pub findings: Vec<Findings>,
}

/// Something that a person should know of, in as many records as `total` says.
#[derive(Debug)]
pub struct Findings {
    pub what: Finding,
    pub total: u64,
    /// The first ones.
    pub first: Vec<Found>,
}

/// One record to blame, and the names that a message about it needs.
#[derive(Debug, Clone, Default, FromRow)]
pub struct Found {
    pub place: i64,
    /// Where the record that it disagrees with stands, if it was in this call too.
    #[sqlx(default)]
    pub other: Option<i64>,
    pub id: String,
    #[sqlx(default)]
    pub whom: Option<String>,
    #[sqlx(default)]
    pub detail: Option<String>,
    #[sqlx(default)]
    pub period: Option<String>,
    /// Of a membership: whether the `group`'s record says it, or the `rental`'s own.
    #[sqlx(default)]
    pub said_by: Option<String>,
}

/// What was found; [`refused`](Self::refused) tells doubts from errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    TenantTwice,
    CustomerTwice,
    RentalTwice,
    GroupTwice,
    PaymentTwice,
    /// A tenant has payments in its present currency.
    CurrencyFixed,
    /// A record names a logo by its hash, and no such picture is stored.
    LogoUnknown,
    BillFromChanged,
    RentalActiveAgain,
    GroupActiveAgain,
    RentalWithoutCustomer,
    GroupWithoutCustomer,
    PaymentWithoutCustomer,
    RentalWithoutGroup,
    PaymentWithoutGroup,
    PaymentWithoutRental,
    LineWithoutRental,
    MemberWithoutRental,
    /// Two records of the call put one rental into different groups.
    MemberDisputed,
    /// A rental names a group whose own list does not hold it.
    MemberUnlisted,
    MemberOfOtherCustomer,
    MemberCurrency,
    SameEmail,
    ChargedTwice,
    ChargedByBillday,
    PaidTwice,
    PaidByBillday,
    StatusKept,
    LinesDoNotAddUp,
    HoleInHistory,
}

impl Finding {
    /// Whether a call with such a record is refused; else it is a doubt to warn of.
    pub fn refused(self) -> bool {
        !matches!(
            self,
            Self::BillFromChanged
                | Self::RentalActiveAgain
                | Self::GroupActiveAgain
                | Self::MemberCurrency
                | Self::SameEmail
                | Self::StatusKept
                | Self::LinesDoNotAddUp
                | Self::HoleInHistory
        )
    }
}

/// How many records of one finding are named; the rest are counted.
const NAMED: i64 = 20;

/// A record that was refused before it got here: others may name it without being wrong themselves.
#[derive(Debug, Clone)]
pub struct Rejected {
    pub tenant_id: String,
    pub kind: &'static str,
    pub id: String,
}

/// What other records of a tenant need to be read.
#[derive(Debug, Clone, FromRow)]
pub struct TenantBasics {
    pub tenant_id: String,
    pub currency: String,
    pub time_zone: String,
}

/// The tables of one call. Made from real ones, so that their columns have the same types and collations.
const CREATE_TABLES: &[&str] = &[
    "create temp table import_rejected as
     select tenant_id, created_by as kind, rental_id as id from rentals where 1 = 0",
    "create index import_rejected_key on import_rejected (tenant_id, kind, id)",
    // What records say about membership: a group's list, and a rental's own word. No group: in none.
    "create temp table import_members as
     select tenant_id, rental_id, billing_group_id, created_by as said_by, import_place as place from rentals where 1 = 0",
    "create index import_members_key on import_members (tenant_id, rental_id)",
    "create temp table import_lists as
     select tenant_id, billing_group_id, import_place as place from billing_groups where 1 = 0",
    "create unique index import_lists_key on import_lists (tenant_id, billing_group_id)",
    // Groups that got or lost a member: their list is another.
    "create temp table import_regrouped as select tenant_id, billing_group_id from rentals where 1 = 0",
    "create unique index import_regrouped_key on import_regrouped (tenant_id, billing_group_id)",
    // Rentals and subjects whose imported payments changed: who holds a period is settled for them again.
    "create temp table import_charged as select tenant_id, rental_id from rentals where 1 = 0",
    "create unique index import_charged_key on import_charged (tenant_id, rental_id)",
    "create temp table import_subjects as
     select tenant_id, subject_kind, subject_id, billing_period from payments where 1 = 0",
    "create unique index import_subjects_key
     on import_subjects (tenant_id, subject_kind, subject_id, billing_period)",
];

const DROP_TABLES: &[&str] = &[
    "drop table import_rejected",
    "drop table import_members",
    "drop table import_lists",
    "drop table import_regrouped",
    "drop table import_charged",
    "drop table import_subjects",
];

impl Session {
    /// Makes the tables that this call's transaction works with.
    pub async fn begin_import(&mut self) -> Result<()> {
        for sql in CREATE_TABLES {
            self.execute(sql).await?;
        }
        Ok(())
    }

    /// Takes the call's tables away, so that the connection can serve the next one.
    pub async fn end_import(&mut self, call: &ImportCall) -> Result<()> {
        for sql in DROP_TABLES {
            self.execute(sql).await?;
        }
        self.change_after_runs(call).await
    }

    /// A run that began while this call was at work could not see its changes: they count as made after it, or `verify` would
    /// accuse the run of having missed them.
    async fn change_after_runs(&mut self, call: &ImportCall) -> Result<()> {
        let last: Option<i64> = on!(self, |conn| sqlx::query_scalar::<Db, Option<i64>>(
            "select max(started_at) from runs where started_at >= $1"
        )
        .bind(call.now)
        .fetch_one(conn)
        .await?);
        let Some(last) = last else { return Ok(()) };
        for sql in [
            "update tenants set changed_at = $2 where changed_at = $1",
            "update billing_groups set changed_at = $2 where changed_at = $1",
            "update rentals set changed_at = $2 where changed_at = $1",
        ] {
            on!(self, |conn| sqlx::query::<Db>(sql).bind(call.now).bind(last + 1).execute(conn).await?.rows_affected());
        }
        Ok(())
    }

    /// All tenants with what reading their records needs.
    pub async fn list_tenant_basics(&mut self) -> Result<Vec<TenantBasics>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, TenantBasics>("select tenant_id, currency, time_zone from tenants")
            .fetch_all(conn)
            .await?))
    }

    /// Remembers records that were refused, so that whoever names them is not blamed for it.
    pub async fn insert_rejected(&mut self, rejected: &[Rejected]) -> Result<()> {
        let rows = Rows {
            table: "import_rejected",
            columns: vec![
                ("tenant_id", Column::Text(rejected.iter().map(|r| r.tenant_id.as_str()).collect())),
                ("kind", Column::Text(rejected.iter().map(|r| r.kind).collect())),
                ("id", Column::Text(rejected.iter().map(|r| r.id.as_str()).collect())),
            ],
            conflict: "",
            count: rejected.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }
}

/// The distinct tenants of a chunk, each with the ids in it: keys of other tables begin with the tenant.
fn ids_by_tenant<'a>(keys: impl Iterator<Item = (&'a str, &'a str)>) -> HashMap<String, Vec<String>> {
    let mut by_tenant: HashMap<String, Vec<String>> = HashMap::new();
    for (tenant_id, id) in keys {
        match by_tenant.get_mut(tenant_id) {
            Some(ids) => ids.push(id.to_owned()),
            None => {
                by_tenant.insert(tenant_id.to_owned(), vec![id.to_owned()]);
            }
        }
    }
    by_tenant
}
