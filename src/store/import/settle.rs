//! Who holds a rental's period and a subject's, settled when all payments of a call are in.

use crate::store::{Result, Session, on};

use super::{Finding, Findings, ImportCall};

impl Session {
    /// Finds payments that cannot both be true; if there are none, settles what each holds and what follows from it.
    pub async fn settle_payments(&mut self, call: &ImportCall) -> Result<Vec<Findings>> {
        let mut findings = Vec::new();
        for (what, sql) in CONFLICTS {
            findings.push(self.findings(call, *what, sql).await?);
        }
        if findings.iter().all(|f| f.total == 0) {
            self.settle_lines().await?;
            self.settle_subjects(call).await?;
            self.settle_rentals(call).await?;
            findings.push(self.holes_in_history(call).await?);
        }
        Ok(findings)
    }

    /// Gives each touched rental's period to one line; first the losers let go, since the database takes one at a time.
    async fn settle_lines(&mut self) -> Result<()> {
        for wins in [false, true] {
            on!(self, |conn| sqlx::query::<Db>(
                "update payment_lines
                 set live = $1
                 from (select l.tenant_id, l.payment_id, l.rental_id, l.billing_period,
                              row_number() over (partition by l.tenant_id, l.rental_id, l.billing_period
                                                 order by l.imported, p.status = 'cancelled', l.payment_id) = 1 as wins
                       from import_charged c
                       join payment_lines l on l.tenant_id = c.tenant_id and l.rental_id = c.rental_id
                       join payments p on p.tenant_id = l.tenant_id and p.payment_id = l.payment_id
                       where l.imported or l.live) as w
                 where payment_lines.tenant_id = w.tenant_id and payment_lines.payment_id = w.payment_id
                   and payment_lines.rental_id = w.rental_id and payment_lines.billing_period = w.billing_period
                   and payment_lines.imported and payment_lines.live <> w.wins and w.wins = $1"
            )
            .bind(wins)
            .execute(conn)
            .await?
            .rows_affected());
        }
        Ok(())
    }

    /// Gives each touched subject's period to one payment; a cancelled one that holds no line stands outside (rule 7).
    async fn settle_subjects(&mut self, call: &ImportCall) -> Result<()> {
        self.execute(
            "insert into import_subjects (tenant_id, subject_kind, subject_id, billing_period)
             select distinct p.tenant_id, p.subject_kind, p.subject_id, p.billing_period
             from import_charged c
             join payment_lines l on l.tenant_id = c.tenant_id and l.rental_id = c.rental_id
             join payments p on p.tenant_id = l.tenant_id and p.payment_id = l.payment_id
             where l.imported and p.status = 'cancelled'
             on conflict do nothing",
        )
        .await?;
        for wins in [false, true] {
            on!(self, |conn| sqlx::query::<Db>(
                "update payments
                 set live = $1
                 from (select h.tenant_id, h.payment_id,
                              h.holds and row_number() over (
                                  partition by h.tenant_id, h.subject_kind, h.subject_id, h.billing_period
                                  order by h.holds desc, h.origin, h.status = 'cancelled', h.payment_id) = 1 as wins
                       from (select p.tenant_id, p.payment_id, p.subject_kind, p.subject_id, p.billing_period, p.origin,
                                    p.status,
                                    case when p.origin = 'billday' then p.live
                                         else p.status <> 'cancelled'
                                              or exists(select 1 from payment_lines l
                                                        where l.tenant_id = p.tenant_id and l.payment_id = p.payment_id
                                                          and l.live) end as holds
                             from import_subjects s
                             join payments p on p.tenant_id = s.tenant_id and p.subject_kind = s.subject_kind
                                            and p.subject_id = s.subject_id
                                            and p.billing_period = s.billing_period) as h) as w
                 where payments.tenant_id = w.tenant_id and payments.payment_id = w.payment_id
                   and payments.origin = 'import' and payments.live <> w.wins and w.wins = $1"
            )
            .bind(wins)
            .execute(conn)
            .await?
            .rows_affected());
        }
        self.name_subjects(call).await
    }

    /// Gives payments without a name of their subject the one that the group or product has now.
    async fn name_subjects(&mut self, call: &ImportCall) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update payments
             set subject_name = coalesce(
                 case when subject_kind = 'group'
                      then (select g.group_name from billing_groups g
                            where g.tenant_id = payments.tenant_id and g.billing_group_id = payments.subject_id)
                      else (select r.product_name from rentals r
                            where r.tenant_id = payments.tenant_id and r.rental_id = payments.subject_id) end,
                 subject_name)
             where import_id = $1 and subject_name = subject_id"
        )
        .bind(&call.import_id)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Closes the history of touched rentals, and keeps the list of those without a line.
    async fn settle_rentals(&mut self, call: &ImportCall) -> Result<()> {
        on!(self, |conn| {
            sqlx::query::<Db>(
            "update rentals
             set closed_through = w.closed_through, changed_at = $1
             from (select c.tenant_id, c.rental_id,
                          (select max(l.billing_period) from payment_lines l
                           where l.tenant_id = c.tenant_id and l.rental_id = c.rental_id and l.imported and l.billing_period > '' and l.live)
                          as closed_through
                   from import_charged c) as w
             where rentals.tenant_id = w.tenant_id and rentals.rental_id = w.rental_id
               and rentals.closed_through is distinct from w.closed_through"
        )
        .bind(call.now)
        .execute(conn)
        .await?
        .rows_affected()
        });
        self.execute(
            "delete from uncharged_rentals
             where exists(select 1 from import_charged c
                          where c.tenant_id = uncharged_rentals.tenant_id and c.rental_id = uncharged_rentals.rental_id)
               and exists(select 1 from payment_lines l
                          where l.tenant_id = uncharged_rentals.tenant_id
                            and l.rental_id = uncharged_rentals.rental_id and l.billing_period > '' and l.live)",
        )
        .await?;
        self.execute(
            "insert into uncharged_rentals (tenant_id, rental_id)
             select r.tenant_id, r.rental_id
             from import_charged c
             join rentals r on r.tenant_id = c.tenant_id and r.rental_id = c.rental_id
             where not exists(select 1 from payment_lines l
                              where l.tenant_id = r.tenant_id and l.rental_id = r.rental_id and l.billing_period > '' and l.live)
             on conflict do nothing",
        )
        .await
    }

    /// Months between a rental's imported lines that have none, on or after the tenant's `billFrom`: nobody will bill them.
    async fn holes_in_history(&mut self, call: &ImportCall) -> Result<Findings> {
        self.findings(
            call,
            Finding::HoleInHistory,
            "select case when p.import_id = $1 then p.import_place else e.import_place end as place,
                    h.rental_id as id, h.earlier as detail, h.billing_period as period, count(*) over () as total
             from (select l.tenant_id, l.rental_id, l.payment_id, l.billing_period,
                          lag(l.billing_period) over (partition by l.tenant_id, l.rental_id
                                                      order by l.billing_period) as earlier,
                          lag(l.payment_id) over (partition by l.tenant_id, l.rental_id
                                                  order by l.billing_period) as earlier_payment
                   from import_charged c
                   join payment_lines l on l.tenant_id = c.tenant_id and l.rental_id = c.rental_id
                   where l.imported and l.live) as h
             join tenants t on t.tenant_id = h.tenant_id
             join payments p on p.tenant_id = h.tenant_id and p.payment_id = h.payment_id
             join payments e on e.tenant_id = h.tenant_id and e.payment_id = h.earlier_payment
             where (p.import_id = $1 or e.import_id = $1)
               and cast(substr(h.billing_period, 1, 4) as bigint) * 12 + cast(substr(h.billing_period, 6, 2) as bigint) - 1
                   > cast(substr(h.earlier, 1, 4) as bigint) * 12 + cast(substr(h.earlier, 6, 2) as bigint)
               and cast(substr(h.billing_period, 1, 4) as bigint) * 12 + cast(substr(h.billing_period, 6, 2) as bigint) - 1
                   >= cast(substr(cast(t.bill_from as text), 1, 4) as bigint) * 12
                      + cast(substr(cast(t.bill_from as text), 6, 2) as bigint)
             order by 1, h.rental_id, h.billing_period
             limit $2",
        )
        .await
    }
}

/// Payments that contradict each other or the ledger. Where both subject and lines clash, only the subject is reported.
const CONFLICTS: &[(Finding, &str)] = &[
    (
        Finding::PaidTwice,
        "select max(case when p.import_id = $1 then p.import_place end) as place,
                min(case when p.import_id = $1 then p.import_place end) as other,
                p.subject_kind || ' ' || p.subject_id as id, min(p.payment_id) as whom, max(p.payment_id) as detail,
                p.billing_period as period, count(*) over () as total
         from import_subjects s
         join payments p on p.tenant_id = s.tenant_id and p.subject_kind = s.subject_kind
                        and p.subject_id = s.subject_id and p.billing_period = s.billing_period
         where p.origin = 'import' and p.status <> 'cancelled'
         group by p.tenant_id, p.subject_kind, p.subject_id, p.billing_period
         having count(*) > 1
         order by 1, 3
         limit $2",
    ),
    (
        Finding::PaidByBillday,
        "select p.import_place as place, p.subject_kind || ' ' || p.subject_id as id, p.payment_id as whom,
                b.payment_id as detail, p.billing_period as period, count(*) over () as total
         from import_subjects s
         join payments p on p.tenant_id = s.tenant_id and p.subject_kind = s.subject_kind
                        and p.subject_id = s.subject_id and p.billing_period = s.billing_period
         join payments b on b.tenant_id = p.tenant_id and b.subject_kind = p.subject_kind
                        and b.subject_id = p.subject_id and b.billing_period = p.billing_period
         where p.import_id = $1 and p.origin = 'import' and p.status <> 'cancelled'
           and b.origin = 'billday' and b.live
         order by p.import_place, p.payment_id
         limit $2",
    ),
    (
        Finding::ChargedTwice,
        "select max(case when p.import_id = $1 then p.import_place end) as place,
                min(case when p.import_id = $1 then p.import_place end) as other,
                l.rental_id as id, min(p.payment_id) as whom, max(p.payment_id) as detail,
                l.billing_period as period, count(*) over () as total
         from import_charged c
         join payment_lines l on l.tenant_id = c.tenant_id and l.rental_id = c.rental_id
         join payments p on p.tenant_id = l.tenant_id and p.payment_id = l.payment_id
         where l.imported and p.status <> 'cancelled'
         group by l.tenant_id, l.rental_id, l.billing_period
         having count(distinct p.subject_kind || ' ' || p.subject_id || ' ' || p.billing_period) > 1
         order by 1, 3
         limit $2",
    ),
    (
        Finding::ChargedByBillday,
        "select p.import_place as place, l.rental_id as id, p.payment_id as whom, b.payment_id as detail,
                l.billing_period as period, count(*) over () as total
         from import_charged c
         join payment_lines l on l.tenant_id = c.tenant_id and l.rental_id = c.rental_id
         join payments p on p.tenant_id = l.tenant_id and p.payment_id = l.payment_id
         join payment_lines b on b.tenant_id = l.tenant_id and b.rental_id = l.rental_id
                             and b.billing_period = l.billing_period
         join payments o on o.tenant_id = b.tenant_id and o.payment_id = b.payment_id
         where l.imported and p.import_id = $1 and p.status <> 'cancelled' and b.live and not b.imported
           and not (o.subject_kind = p.subject_kind and o.subject_id = p.subject_id
                    and o.billing_period = p.billing_period)
         order by p.import_place, l.rental_id
         limit $2",
    ),
];
