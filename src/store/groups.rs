//! Changing billing groups as a whole, and what follows for their members.

use std::collections::HashMap;

use crate::domain::group::GroupStatus;
use crate::domain::plan::BadRecord;
use crate::domain::rental::RentalTerms;

use super::dialect::Dialect as _;
use super::page::Page;
use super::row::{AlikeRow, MemberRow};
use super::{Result, Session, dialect, on};

const FIND_GROUP: &str = "
    select billing_group_id, customer_id, group_name, billing_day, status, notes, created_by, created_at, updated_at
    from billing_groups where tenant_id = $1 and billing_group_id = $2";

const LOCK_GROUP: &str = "
    select billing_group_id, customer_id, group_name, billing_day, status, notes, created_by, created_at, updated_at
    from billing_groups where tenant_id = $1 and billing_group_id = $2 $lock";

/// A group as it is stored, without its members.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct GroupRecord {
    pub billing_group_id: String,
    pub customer_id: String,
    pub group_name: String,
    pub billing_day: i64,
    pub status: String,
    pub notes: Option<String>,
    pub created_by: String,
    /// Microseconds UTC, like all instants here.
    pub created_at: i64,
    pub updated_at: i64,
}

/// A rental that goes into a group or comes out of it.
#[derive(Debug, Clone)]
pub struct Member {
    pub rental_id: String,
    pub customer_id: String,
    /// The group that it is in, active or not.
    pub billing_group_id: Option<String>,
    /// As the database has it, also where nobody knows such a currency.
    pub currency: String,
    pub terms: Result<RentalTerms, BadRecord>,
}

/// Rentals of one owner that have the same terms.
#[derive(Debug, Clone)]
pub struct Alike {
    /// Ordered, at least one.
    pub rental_ids: Vec<String>,
    /// As the database has it, also where nobody knows such a currency.
    pub currency: String,
    pub terms: Result<RentalTerms, BadRecord>,
}

/// The statement that gathers rentals with the same terms, by the column that says whose they are.
macro_rules! alike {
    ($owner:literal) => {
        concat!(
            "select ",
            $owner,
            " as owner, monthly_amount, currency, status, start_date, end_date, contract_length, $rental_ids as rental_ids
             from rentals
             where tenant_id = $2 and ",
            $owner,
            " in $keys
             group by ",
            $owner,
            ", monthly_amount, currency, status, start_date, end_date, contract_length"
        )
    };
}

/// Rentals by the customer or group that owns them; what has the first of the ids comes first.
fn by_owner(rows: Vec<AlikeRow>) -> HashMap<String, Vec<Alike>> {
    let mut owners: HashMap<String, Vec<Alike>> = HashMap::new();
    for mut row in rows {
        owners.entry(std::mem::take(&mut row.owner)).or_default().push(row.into());
    }
    for alike in owners.values_mut() {
        alike.sort_unstable_by(|a, b| a.rental_ids.first().cmp(&b.rental_ids.first()));
    }
    owners
}

/// The ids of an owner's rentals, ordered.
pub fn rental_ids(alike: &[Alike]) -> Vec<String> {
    let mut ids: Vec<String> = alike.iter().flat_map(|alike| &alike.rental_ids).cloned().collect();
    ids.sort_unstable();
    ids
}

/// Which groups a page shows; an absent filter takes all.
#[derive(Debug, Clone, Default)]
pub struct GroupPageFilter {
    pub customer_id: Option<String>,
    pub status: Option<GroupStatus>,
}

/// A change of who is in a group.
#[derive(Debug, Clone, Default)]
pub struct Moves {
    pub joining: Vec<String>,
    pub leaving: Vec<String>,
}

impl Session {
    /// A group of a tenant.
    pub async fn find_group(&mut self, tenant_id: &str, billing_group_id: &str) -> Result<Option<GroupRecord>> {
        self.group(tenant_id, billing_group_id, FIND_GROUP).await
    }

    /// The same, held until this transaction ends. Whoever changes a group takes it before its rentals, so that two who change
    /// the same wait for each other instead of for ever.
    pub async fn lock_group(&mut self, tenant_id: &str, billing_group_id: &str) -> Result<Option<GroupRecord>> {
        self.group(tenant_id, billing_group_id, LOCK_GROUP).await
    }

    async fn group(&mut self, tenant_id: &str, id: &str, sql: &'static str) -> Result<Option<GroupRecord>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, GroupRecord>(dialect::locking::<Db>(sql))
            .bind(tenant_id)
            .bind(id)
            .fetch_optional(conn)
            .await?))
    }

    /// A page of a tenant's groups.
    pub async fn list_group_page(
        &mut self,
        tenant_id: &str,
        filter: &GroupPageFilter,
        page: &Page,
    ) -> Result<Vec<GroupRecord>> {
        Ok(on!(self, |conn| {
            let mut query = sqlx::QueryBuilder::<Db>::new(
                "select billing_group_id, customer_id, group_name, billing_day, status, notes, created_by, created_at,
                        updated_at
                 from billing_groups where tenant_id = ",
            );
            query.push_bind(tenant_id);
            if let Some(customer_id) = &filter.customer_id {
                query.push(" and customer_id = ").push_bind(customer_id);
            }
            if let Some(status) = filter.status {
                query.push(" and status = ").push_bind(status.as_str());
            }
            page.push_to(&mut query, "billing_group_id");
            query.build_query_as::<GroupRecord>().fetch_all(conn).await?
        }))
    }

    /// The rentals in groups, ended ones too, by group.
    pub async fn members_by_group(
        &mut self,
        tenant_id: &str,
        group_ids: &[String],
    ) -> Result<HashMap<String, Vec<Alike>>> {
        self.alike_by_owner(alike!("billing_group_id"), tenant_id, group_ids).await
    }

    /// The rentals of customers, ended ones too, by customer.
    pub async fn rentals_by_customer(
        &mut self,
        tenant_id: &str,
        customer_ids: &[String],
    ) -> Result<HashMap<String, Vec<Alike>>> {
        self.alike_by_owner(alike!("customer_id"), tenant_id, customer_ids).await
    }

    async fn alike_by_owner(
        &mut self,
        sql: &'static str,
        tenant_id: &str,
        owners: &[String],
    ) -> Result<HashMap<String, Vec<Alike>>> {
        let rows: Vec<AlikeRow> = on!(self, |conn| {
            let query = dialect::packed_with_keys::<Db, AlikeRow>(sql, owners).bind(tenant_id);
            Db::fetch_packed(query, conn).await?
        });
        Ok(by_owner(rows))
    }

    /// Rentals by id, held until this transaction ends; those that do not exist are left out.
    pub async fn lock_rentals(&mut self, tenant_id: &str, rental_ids: &[String]) -> Result<Vec<Member>> {
        let rows: Vec<MemberRow> = on!(self, |conn| {
            Db::fetch_packed(
            dialect::packed_with_keys::<Db, MemberRow>(
                "select rental_id, customer_id, billing_group_id, monthly_amount, currency, status, start_date, end_date,
                        contract_length
                 from rentals
                 where tenant_id = $2 and rental_id in $keys
                 order by rental_id
                 $lock",
                rental_ids
            )
            .bind(tenant_id),
            conn
        )
        .await?
        });
        Ok(rows.into_iter().map(Member::from).collect())
    }

    /// Whether a tenant has a customer.
    pub async fn has_customer(&mut self, tenant_id: &str, customer_id: &str) -> Result<bool> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, bool>(
            "select exists(select 1 from customers where tenant_id = $1 and customer_id = $2)"
        )
        .bind(tenant_id)
        .bind(customer_id)
        .fetch_one(conn)
        .await?))
    }

    /// Writes a new group, still without members.
    pub async fn insert_group(&mut self, tenant_id: &str, group: &GroupRecord, changed_at: i64) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "insert into billing_groups
                 (tenant_id, billing_group_id, customer_id, group_name, billing_day, status, notes, created_by,
                  created_at, updated_at, changed_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
        )
        .bind(tenant_id)
        .bind(&group.billing_group_id)
        .bind(&group.customer_id)
        .bind(&group.group_name)
        .bind(group.billing_day)
        .bind(&group.status)
        .bind(&group.notes)
        .bind(&group.created_by)
        .bind(group.created_at)
        .bind(group.updated_at)
        .bind(changed_at)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Writes what of a group can change, and by which group its members are billed (rule 4).
    pub async fn update_group(&mut self, tenant_id: &str, group: &GroupRecord, changed_at: i64) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update billing_groups
             set group_name = $3, billing_day = $4, status = $5, notes = $6, updated_at = $7, changed_at = $8
             where tenant_id = $1 and billing_group_id = $2"
        )
        .bind(tenant_id)
        .bind(&group.billing_group_id)
        .bind(&group.group_name)
        .bind(group.billing_day)
        .bind(&group.status)
        .bind(&group.notes)
        .bind(group.updated_at)
        .bind(changed_at)
        .execute(conn)
        .await?
        .rows_affected());
        on!(self, |conn| sqlx::query::<Db>(
            "update rentals set billed_group_id = $3
             where tenant_id = $1 and billing_group_id = $2 and billed_group_id is distinct from $3"
        )
        .bind(tenant_id)
        .bind(&group.billing_group_id)
        .bind(group.billed_id())
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Puts rentals into a group and takes others out of it.
    pub async fn move_members(
        &mut self,
        tenant_id: &str,
        group: &GroupRecord,
        moves: &Moves,
        now: i64,
        changed_at: i64,
    ) -> Result<()> {
        let into = (Some(group.billing_group_id.as_str()), group.billed_id());
        for (rental_ids, (group_id, billed_id)) in [(&moves.joining, into), (&moves.leaving, (None, None))] {
            if rental_ids.is_empty() {
                continue;
            }
            on!(self, |conn| dialect::with_keys::<Db>(
                "update rentals
                 set billing_group_id = $3, billed_group_id = $4, changed_at = $6,
                     updated_at = case when updated_at < $5 then $5 else updated_at + 1000 end
                 where tenant_id = $2 and rental_id in $keys",
                rental_ids
            )
            .bind(tenant_id)
            .bind(group_id)
            .bind(billed_id)
            .bind(now)
            .bind(changed_at)
            .execute(conn)
            .await?
            .rows_affected());
        }
        Ok(())
    }

    /// Removes a group that has no members any more; its payments stay as they are (rule 27).
    ///
    /// A tombstone stays, so that an import of the group can say that it brings it back.
    pub async fn delete_group(&mut self, tenant_id: &str, billing_group_id: &str, now: i64) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "delete from billing_groups where tenant_id = $1 and billing_group_id = $2"
        )
        .bind(tenant_id)
        .bind(billing_group_id)
        .execute(conn)
        .await?
        .rows_affected());
        on!(self, |conn| sqlx::query::<Db>(
            "insert into deleted_groups (tenant_id, billing_group_id, deleted_at) values ($1, $2, $3)
             on conflict (tenant_id, billing_group_id) do update set deleted_at = excluded.deleted_at"
        )
        .bind(tenant_id)
        .bind(billing_group_id)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// The instant that a change of master data made at `now` counts from: after every run that began meanwhile and so could
    /// not see it, or `verify` would accuse that run of having missed it.
    pub async fn change_instant(&mut self, tenant_id: &str, now: i64) -> Result<i64> {
        let last: Option<i64> = on!(self, |conn| sqlx::query_scalar::<Db, Option<i64>>(
            "select max(started_at) from runs where tenant_id = $1 and started_at >= $2"
        )
        .bind(tenant_id)
        .bind(now)
        .fetch_one(conn)
        .await?);
        Ok(last.map_or(now, |last| last + 1))
    }

    /// Says anew for all rentals of a tenant by which group they are billed, after changes to many.
    pub async fn refresh_billed_groups(&mut self, tenant_id: &str) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update rentals
             set billed_group_id = g.billed
             from (select r.rental_id, case when g.status = 'active' then g.billing_group_id end as billed
                   from rentals r
                   left join billing_groups g on g.tenant_id = r.tenant_id and g.billing_group_id = r.billing_group_id
                   where r.tenant_id = $1) as g
             where rentals.tenant_id = $1 and rentals.rental_id = g.rental_id
               and rentals.billed_group_id is distinct from g.billed"
        )
        .bind(tenant_id)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }
}

/// A group as lists show it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct GroupRow {
    pub tenant_id: String,
    pub billing_group_id: String,
    pub group_name: String,
    pub customer_id: String,
    pub billing_day: i64,
    pub status: String,
    /// Ended ones too.
    pub members: i64,
}

/// Which groups to list; an absent filter takes all.
#[derive(Debug, Clone, Default)]
pub struct GroupFilter {
    pub tenant_id: Option<String>,
    pub billing_group_id: Option<String>,
}

impl Session {
    /// Groups with the number of their members, ordered by tenant and id.
    pub async fn list_groups(&mut self, filter: &GroupFilter) -> Result<Vec<GroupRow>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, GroupRow>(
            "select tenant_id, billing_group_id, group_name, customer_id, billing_day, status,
                    (select count(*) from rentals r
                     where r.tenant_id = g.tenant_id and r.billing_group_id = g.billing_group_id) as members
             from billing_groups g
             where (cast($1 as text) is null or tenant_id = $1)
               and (cast($2 as text) is null or billing_group_id = $2)
             order by tenant_id, billing_group_id"
        )
        .bind(&filter.tenant_id)
        .bind(&filter.billing_group_id)
        .fetch_all(conn)
        .await?))
    }

    /// The rentals in a group, ended ones too, ordered by id.
    pub async fn list_member_ids(&mut self, tenant_id: &str, billing_group_id: &str) -> Result<Vec<String>> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, String>(
            "select rental_id from rentals where tenant_id = $1 and billing_group_id = $2 order by rental_id"
        )
        .bind(tenant_id)
        .bind(billing_group_id)
        .fetch_all(conn)
        .await?))
    }
}

impl GroupRecord {
    /// The group by which its members are billed: itself, while it is active (rule 4).
    fn billed_id(&self) -> Option<&str> {
        (self.status == GroupStatus::Active.as_str()).then_some(&self.billing_group_id)
    }
}
