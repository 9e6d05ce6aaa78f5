//! Changing billing groups as a whole, and what follows for their members.

use super::{Result, Session, on};

impl Session {
    /// Removes a group: its members are free, its payments stay as they are (rule 27). False if there is no such group.
    ///
    /// A tombstone stays, so that an import of the group can say that it brings it back.
    pub async fn delete_group(&mut self, tenant_id: &str, billing_group_id: &str, now: i64) -> Result<bool> {
        on!(self, |conn| sqlx::query::<Db>(
            "update rentals
             set billing_group_id = null, billed_group_id = null, changed_at = $3, updated_at = $3
             where tenant_id = $1 and billing_group_id = $2"
        )
        .bind(tenant_id)
        .bind(billing_group_id)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
        let deleted = on!(self, |conn| sqlx::query::<Db>(
            "delete from billing_groups where tenant_id = $1 and billing_group_id = $2"
        )
        .bind(tenant_id)
        .bind(billing_group_id)
        .execute(conn)
        .await?
        .rows_affected());
        if deleted == 0 {
            return Ok(false);
        }
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
        Ok(true)
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
