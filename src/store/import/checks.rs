//! References, looked at once all records are in: each row of this call must find what it names.
//!
//! Whatever was itself refused counts as there: one bad record is reported once, not again by all that name it.

use sqlx::FromRow;

use crate::store::{Result, Session, on};

use super::{Finding, Findings, Found, ImportCall, NAMED};

/// A finding's row, with how many there are in all.
#[derive(FromRow)]
struct Counted {
    #[sqlx(flatten)]
    found: Found,
    total: i64,
}

impl Session {
    /// Runs one check: its statement takes the call's id and how many rows to name, and gives each with the `total`.
    pub(super) async fn findings(&mut self, call: &ImportCall, what: Finding, sql: &'static str) -> Result<Findings> {
        let rows: Vec<Counted> = on!(self, |conn| sqlx::query_as::<Db, Counted>(sql)
            .bind(&call.import_id)
            .bind(NAMED)
            .fetch_all(conn)
            .await?);
        let total = rows.first().map_or(0, |row| row.total.unsigned_abs());
        Ok(Findings { what, total, first: rows.into_iter().map(|row| row.found).collect() })
    }

    /// Tells of records that name a customer, group or rental that is nowhere, and of customers with one e-mail address.
    pub async fn check_references(&mut self, call: &ImportCall) -> Result<Vec<Findings>> {
        let mut findings = Vec::new();
        for (what, sql) in REFERENCES {
            findings.push(self.findings(call, *what, sql).await?);
        }
        Ok(findings)
    }
}

const REFERENCES: &[(Finding, &str)] = &[
    (
        Finding::RentalWithoutCustomer,
        "select r.import_place as place, r.rental_id as id, r.customer_id as whom, count(*) over () as total
         from rentals r
         where r.import_id = $1
           and not exists(select 1 from customers c where c.tenant_id = r.tenant_id and c.customer_id = r.customer_id)
           and not exists(select 1 from import_rejected x
                          where x.tenant_id = r.tenant_id and x.kind = 'customer' and x.id = r.customer_id)
         order by r.import_place, r.rental_id
         limit $2",
    ),
    (
        Finding::GroupWithoutCustomer,
        "select g.import_place as place, g.billing_group_id as id, g.customer_id as whom, count(*) over () as total
         from billing_groups g
         where g.import_id = $1
           and not exists(select 1 from customers c where c.tenant_id = g.tenant_id and c.customer_id = g.customer_id)
           and not exists(select 1 from import_rejected x
                          where x.tenant_id = g.tenant_id and x.kind = 'customer' and x.id = g.customer_id)
         order by g.import_place, g.billing_group_id
         limit $2",
    ),
    (
        Finding::RentalWithoutGroup,
        "select r.import_place as place, r.rental_id as id, r.billing_group_id as whom, count(*) over () as total
         from rentals r
         where r.import_id = $1 and r.billing_group_id is not null
           and not exists(select 1 from billing_groups g
                          where g.tenant_id = r.tenant_id and g.billing_group_id = r.billing_group_id)
           and not exists(select 1 from import_rejected x
                          where x.tenant_id = r.tenant_id and x.kind = 'group' and x.id = r.billing_group_id)
         order by r.import_place, r.rental_id
         limit $2",
    ),
    (
        Finding::PaymentWithoutCustomer,
        "select p.import_place as place, p.payment_id as id, p.customer_id as whom, count(*) over () as total
         from payments p
         where p.import_id = $1
           and not exists(select 1 from customers c where c.tenant_id = p.tenant_id and c.customer_id = p.customer_id)
           and not exists(select 1 from import_rejected x
                          where x.tenant_id = p.tenant_id and x.kind = 'customer' and x.id = p.customer_id)
         order by p.import_place, p.payment_id
         limit $2",
    ),
    // A deleted group keeps its payments.
    (
        Finding::PaymentWithoutGroup,
        "select p.import_place as place, p.payment_id as id, p.subject_id as whom, count(*) over () as total
         from payments p
         where p.import_id = $1 and p.subject_kind = 'group'
           and not exists(select 1 from billing_groups g
                          where g.tenant_id = p.tenant_id and g.billing_group_id = p.subject_id)
           and not exists(select 1 from deleted_groups d
                          where d.tenant_id = p.tenant_id and d.billing_group_id = p.subject_id)
           and not exists(select 1 from import_rejected x
                          where x.tenant_id = p.tenant_id and x.kind = 'group' and x.id = p.subject_id)
         order by p.import_place, p.payment_id
         limit $2",
    ),
    (
        Finding::PaymentWithoutRental,
        "select p.import_place as place, p.payment_id as id, p.subject_id as whom, count(*) over () as total
         from payments p
         where p.import_id = $1 and p.subject_kind = 'rental'
           and not exists(select 1 from rentals r where r.tenant_id = p.tenant_id and r.rental_id = p.subject_id)
           and not exists(select 1 from import_rejected x
                          where x.tenant_id = p.tenant_id and x.kind = 'rental' and x.id = p.subject_id)
         order by p.import_place, p.payment_id
         limit $2",
    ),
    // The lines of an individual payment are its rental's, which was looked for above.
    (
        Finding::LineWithoutRental,
        "select p.import_place as place, p.payment_id as id, l.rental_id as whom, count(*) over () as total
         from payments p
         join payment_lines l on l.tenant_id = p.tenant_id and l.payment_id = p.payment_id
         where p.import_id = $1 and p.subject_kind = 'group'
           and not exists(select 1 from rentals r where r.tenant_id = l.tenant_id and r.rental_id = l.rental_id)
           and not exists(select 1 from import_rejected x
                          where x.tenant_id = l.tenant_id and x.kind = 'rental' and x.id = l.rental_id)
         order by p.import_place, p.payment_id, l.rental_id
         limit $2",
    ),
    (
        Finding::SameEmail,
        "select max(case when c.import_id = $1 then c.import_place end) as place, min(c.email) as id,
                min(c.customer_id) as whom, max(c.customer_id) as detail, count(*) over () as total
         from customers c
         where c.email is not null
         group by c.tenant_id, lower(c.email)
         having count(*) > 1 and max(case when c.import_id = $1 then 1 else 0 end) = 1
         order by 1, 2
         limit $2",
    ),
];
