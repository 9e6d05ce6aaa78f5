//! Who is in which group: what the records of a call say, whether they agree, and what follows.
//!
//! A group's list is its whole membership, and a rental names its own group. Both are only stated while chunks come in; once
//! all are in, statements of the call that disagree are found, and the lists are carried out.

use std::collections::BTreeSet;

use crate::store::dialect::{Column, Rows, Value, insert};
use crate::store::{Result, Session, on};

use super::{Finding, Findings, ImportCall};

impl Session {
    /// Notes groups' lists: tenant, group, place, members.
    pub(super) async fn state_lists(&mut self, lists: &[(String, String, i64, Vec<String>)]) -> Result<()> {
        let rows = Rows {
            table: "import_lists",
            columns: vec![
                ("tenant_id", Column::Text(lists.iter().map(|l| l.0.as_str()).collect())),
                ("billing_group_id", Column::Text(lists.iter().map(|l| l.1.as_str()).collect())),
                ("place", Column::Int(lists.iter().map(|l| l.2).collect())),
            ],
            conflict: "",
            count: lists.len(),
        };
        insert(self, rows).await?;
        let members: Vec<(&str, &str, i64, &str)> = lists
            .iter()
            .flat_map(|(tenant, group, place, members)| {
                members.iter().map(move |rental| (tenant.as_str(), group.as_str(), *place, rental.as_str()))
            })
            .collect();
        let rows = Rows {
            table: "import_members",
            columns: vec![
                ("tenant_id", Column::Text(members.iter().map(|m| m.0).collect())),
                ("billing_group_id", Column::Text(members.iter().map(|m| m.1).collect())),
                ("place", Column::Int(members.iter().map(|m| m.2).collect())),
                ("rental_id", Column::Text(members.iter().map(|m| m.3).collect())),
                ("said_by", Column::Same(Value::Text("group"))),
            ],
            conflict: "",
            count: members.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    /// Notes what rentals say of themselves: tenant, rental, place, group or none.
    pub(super) async fn state_claims(&mut self, claims: &[(String, String, i64, Option<String>)]) -> Result<()> {
        let rows = Rows {
            table: "import_members",
            columns: vec![
                ("tenant_id", Column::Text(claims.iter().map(|c| c.0.as_str()).collect())),
                ("rental_id", Column::Text(claims.iter().map(|c| c.1.as_str()).collect())),
                ("place", Column::Int(claims.iter().map(|c| c.2).collect())),
                ("billing_group_id", Column::TextOrNull(claims.iter().map(|c| c.3.as_deref()).collect())),
                ("said_by", Column::Same(Value::Text("rental"))),
            ],
            conflict: "",
            count: claims.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    /// Notes groups that rentals joined or left by their own word.
    pub(super) async fn state_regrouped(&mut self, groups: &BTreeSet<(String, String)>) -> Result<()> {
        let rows = Rows {
            table: "import_regrouped",
            columns: vec![
                ("tenant_id", Column::Text(groups.iter().map(|g| g.0.as_str()).collect())),
                ("billing_group_id", Column::Text(groups.iter().map(|g| g.1.as_str()).collect())),
            ],
            conflict: "on conflict do nothing",
            count: groups.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    /// Carries the groups' lists out and tells what is wrong or doubtful about members; the last step for groups and rentals.
    pub async fn settle_members(&mut self, call: &ImportCall) -> Result<Vec<Findings>> {
        let mut findings = vec![
            self.disputed_members(call).await?,
            self.unlisted_members(call).await?,
            self.members_without_rental(call).await?,
        ];
        self.apply_lists(call).await?;
        self.date_regrouped(call).await?;
        findings.push(self.members_of_other_customers(call).await?);
        findings.push(self.members_in_other_currencies(call).await?);
        Ok(findings)
    }

    async fn disputed_members(&mut self, call: &ImportCall) -> Result<Findings> {
        self.findings(
            call,
            Finding::MemberDisputed,
            "select b.place, a.place as other, b.rental_id as id, b.billing_group_id as whom,
                    a.billing_group_id as detail, b.said_by, count(*) over () as total
             from import_members a
             join import_members b on b.tenant_id = a.tenant_id and b.rental_id = a.rental_id
             where a.billing_group_id is distinct from b.billing_group_id
               and (a.place, coalesce(a.billing_group_id, '')) < (b.place, coalesce(b.billing_group_id, ''))
               and cast($1 as text) is not null
             order by b.place, b.rental_id
             limit $2",
        )
        .await
    }

    async fn unlisted_members(&mut self, call: &ImportCall) -> Result<Findings> {
        self.findings(
            call,
            Finding::MemberUnlisted,
            "select m.place, l.place as other, m.rental_id as id, m.billing_group_id as whom, count(*) over () as total
             from import_members m
             join import_lists l on l.tenant_id = m.tenant_id and l.billing_group_id = m.billing_group_id
             where m.said_by = 'rental'
               and not exists(select 1 from import_members g
                              where g.tenant_id = m.tenant_id and g.rental_id = m.rental_id and g.said_by = 'group')
               and cast($1 as text) is not null
             order by m.place, m.rental_id
             limit $2",
        )
        .await
    }

    async fn members_without_rental(&mut self, call: &ImportCall) -> Result<Findings> {
        self.findings(
            call,
            Finding::MemberWithoutRental,
            "select m.place, m.billing_group_id as id, m.rental_id as whom, count(*) over () as total
             from import_members m
             where m.said_by = 'group'
               and not exists(select 1 from rentals r where r.tenant_id = m.tenant_id and r.rental_id = m.rental_id)
               and not exists(select 1 from import_rejected x
                              where x.tenant_id = m.tenant_id and x.kind = 'rental' and x.id = m.rental_id)
               and cast($1 as text) is not null
             order by m.place, m.rental_id
             limit $2",
        )
        .await
    }

    async fn members_of_other_customers(&mut self, call: &ImportCall) -> Result<Findings> {
        self.findings(
            call,
            Finding::MemberOfOtherCustomer,
            "select case when r.import_id = $1 then r.import_place else g.import_place end as place,
                    case when r.import_id = $1 then 'rental' else 'group' end as said_by,
                    r.rental_id as id, g.billing_group_id as whom, r.customer_id as detail, count(*) over () as total
             from rentals r
             join billing_groups g on g.tenant_id = r.tenant_id and g.billing_group_id = r.billing_group_id
             where r.customer_id <> g.customer_id and (r.import_id = $1 or g.import_id = $1)
             order by 1, r.rental_id
             limit $2",
        )
        .await
    }

    async fn members_in_other_currencies(&mut self, call: &ImportCall) -> Result<Findings> {
        self.findings(
            call,
            Finding::MemberCurrency,
            "select coalesce(max(case when r.import_id = $1 then r.import_place end),
                             max(case when g.import_id = $1 then g.import_place end)) as place,
                    g.billing_group_id as id, min(r.currency) as whom, max(r.currency) as detail,
                    count(*) over () as total
             from billing_groups g
             join rentals r on r.tenant_id = g.tenant_id and r.billing_group_id = g.billing_group_id
             group by g.tenant_id, g.billing_group_id
             having count(distinct r.currency) > 1
                and max(case when r.import_id = $1 or g.import_id = $1 then 1 else 0 end) = 1
             order by 1, g.billing_group_id
             limit $2",
        )
        .await
    }

    /// Moves rentals as the lists say: those named into the group, others out of it.
    async fn apply_lists(&mut self, call: &ImportCall) -> Result<()> {
        for sql in [
            "insert into import_regrouped (tenant_id, billing_group_id)
             select m.tenant_id, m.billing_group_id
             from import_members m
             join rentals r on r.tenant_id = m.tenant_id and r.rental_id = m.rental_id
             where m.said_by = 'group' and r.billing_group_id is distinct from m.billing_group_id
             on conflict do nothing",
            "insert into import_regrouped (tenant_id, billing_group_id)
             select r.tenant_id, r.billing_group_id
             from import_members m
             join rentals r on r.tenant_id = m.tenant_id and r.rental_id = m.rental_id
             where m.said_by = 'group' and r.billing_group_id <> m.billing_group_id
             on conflict do nothing",
            "insert into import_regrouped (tenant_id, billing_group_id)
             select r.tenant_id, r.billing_group_id
             from import_lists l
             join rentals r on r.tenant_id = l.tenant_id and r.billing_group_id = l.billing_group_id
             where not exists(select 1 from import_members m
                              where m.tenant_id = r.tenant_id and m.rental_id = r.rental_id and m.said_by = 'group')
             on conflict do nothing",
        ] {
            self.execute(sql).await?;
        }
        for sql in [
            "update rentals
             set billing_group_id = m.billing_group_id, changed_at = $1,
                 updated_at = case when import_id = $2 and changed_at = $1 then updated_at else $1 end
             from import_members m
             where m.said_by = 'group' and m.tenant_id = rentals.tenant_id and m.rental_id = rentals.rental_id
               and rentals.billing_group_id is distinct from m.billing_group_id",
            "update rentals
             set billing_group_id = null, changed_at = $1,
                 updated_at = case when import_id = $2 and changed_at = $1 then updated_at else $1 end
             from import_lists l
             where l.tenant_id = rentals.tenant_id and l.billing_group_id = rentals.billing_group_id
               and not exists(select 1 from import_members m
                              where m.tenant_id = rentals.tenant_id and m.rental_id = rentals.rental_id
                                and m.said_by = 'group')",
        ] {
            on!(self, |conn| sqlx::query::<Db>(sql)
                .bind(call.now)
                .bind(&call.import_id)
                .execute(conn)
                .await?
                .rows_affected());
        }
        Ok(())
    }

    /// Dates groups whose list became another; one that this call wrote anyway is dated as its record says.
    async fn date_regrouped(&mut self, call: &ImportCall) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update billing_groups
             set changed_at = $1, updated_at = $1
             from import_regrouped m
             where m.tenant_id = billing_groups.tenant_id and m.billing_group_id = billing_groups.billing_group_id
               and not (billing_groups.changed_at = $1 and billing_groups.import_id is not distinct from $2)"
        )
        .bind(call.now)
        .bind(&call.import_id)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }
}
