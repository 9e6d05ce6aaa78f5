//! What must hold in every ledger, in SQL of the tests' own: it shares nothing with the statements of `billday verify`, so that one
//! mistake cannot hide in both.
//!
//! The names are those of the invariants in `docs/reliability.md`. Each statement finds what breaks its sentence and gives the
//! tenant and what it is about; all of them are one text on both databases.

use super::TestDb;

/// Name, what must hold, and a statement that selects `tenant_id` and `about` of what breaks it.
const CHECKS: &[(&str, &str, &str)] = &[
    (
        "I1",
        "a subject is billed at most once a period",
        "select a.tenant_id, a.subject_id || ' ' || a.billing_period as about
         from payments a
         join payments b on b.tenant_id = a.tenant_id and b.subject_kind = a.subject_kind and b.subject_id = a.subject_id
             and b.billing_period = a.billing_period and b.payment_id > a.payment_id
         where a.live and b.live",
    ),
    (
        "I2",
        "a rental is charged at most once a period, alone or in a group",
        "select a.tenant_id, a.rental_id || ' ' || a.billing_period as about
         from payment_lines a
         join payment_lines b on b.tenant_id = a.tenant_id and b.rental_id = a.rental_id
             and b.billing_period = a.billing_period and b.payment_id > a.payment_id
         where a.live and b.live",
    ),
    (
        "I3",
        "a payment is the sum and count of its lines",
        "select p.tenant_id, p.payment_id as about
         from payments p
         where p.origin = 'billday' and (
             p.total <> p.subtotal + p.tax_amount or p.line_count = 0
             or (p.subtotal, p.tax_amount, p.line_count) <>
                (select coalesce(sum(l.amount), 0), coalesce(sum(l.tax_amount), 0), count(*)
                 from payment_lines l where l.tenant_id = p.tenant_id and l.payment_id = p.payment_id))",
    ),
    (
        "I4",
        "lines have a payment, count if it counts, and are for its period or, as arrears, for an earlier one",
        "select l.tenant_id, l.payment_id || ' ' || l.rental_id as about
         from payment_lines l
         left join payments p on p.tenant_id = l.tenant_id and p.payment_id = l.payment_id
         where p.payment_id is null
            or (p.origin = 'billday' and (l.live <> p.live or l.billing_period > p.billing_period
                                          or l.arrears <> (l.billing_period < p.billing_period)))",
    ),
    (
        "I5",
        "a payment has one invoice number, and no other payment of its tenant has it",
        "select tenant_id, payment_id as about
         from payments
         where origin = 'billday' and (sequence is null or invoice_number is null or issue_date is null)
         union all
         select tenant_id, invoice_number
         from payments
         where origin = 'billday'
         group by tenant_id, invoice_number
         having count(*) > 1",
    ),
    (
        "I6",
        "the numbers of a series have no gap, and its record says where they begin and end",
        "select tenant_id, series as about
         from payments
         where series is not null
         group by tenant_id, series
         having count(distinct sequence) <> count(*) or count(*) <> max(sequence) - min(sequence) + 1
         union all
         select tenant_id, series
         from (select tenant_id, series, min(sequence) as first, max(sequence) as last
               from payments where series is not null group by tenant_id, series
               except select tenant_id, series, first, last from invoice_series) unrecorded
         union all
         select tenant_id, series
         from (select tenant_id, series, first, last from invoice_series
               except select tenant_id, series, min(sequence), max(sequence)
               from payments where series is not null group by tenant_id, series) unused",
    ),
    (
        "I7",
        "a payment has its mails, numbered from 0, if there is something to pay, and a mail has its payment",
        "select p.tenant_id, p.payment_id as about
         from payments p
         left join (select tenant_id, payment_id, count(*) as mails, max(position) as last
                    from outbox group by tenant_id, payment_id) o
             on o.tenant_id = p.tenant_id and o.payment_id = p.payment_id
         where p.origin = 'billday'
           and (p.total > 0) <> (coalesce(o.mails, 0) > 0 and o.mails = o.last + 1)
         union all
         select tenant_id, payment_id from (select tenant_id, payment_id from outbox
                                            except select tenant_id, payment_id from payments) orphans",
    ),
    (
        "I8",
        "on a completed date every subject that was plainly due has an outcome",
        // Plainly: unchanged since the run began, without an end, a contract length or an imported history.
        "select day.tenant_id, cast(day.run_date as text) || ' ' || due.subject_id as about
         from (select d.tenant_id, d.run_date, r.started_at,
                      cast(substr(cast(d.run_date as text), 9, 2) as integer) as number,
                      case when cast(substr(cast(d.run_date as text), 6, 2) as integer) in (4, 6, 9, 11) then 30
                           when cast(substr(cast(d.run_date as text), 6, 2) as integer) <> 2 then 31
                           when cast(substr(cast(d.run_date as text), 1, 4) as integer) % 4 = 0 then 29
                           else 28 end as last
               from completed_dates d
               join runs r on r.tenant_id = d.tenant_id and r.run_id = d.run_id
               join tenants t on t.tenant_id = d.tenant_id
               where t.billing_fixed_day is null and t.bill_from <= d.run_date and t.changed_at < r.started_at) day
         join (select r.tenant_id, 'rental' as subject_kind, r.rental_id as subject_id, r.start_day as number,
                      -- A member of a group that is at rest is billed alone since the group was changed.
                      case when g.changed_at > r.changed_at then g.changed_at else r.changed_at end as changed_at, r.start_date
               from rentals r
               left join billing_groups g on g.tenant_id = r.tenant_id and g.billing_group_id = r.billing_group_id
               where r.billed_group_id is null and r.status = 'active' and r.end_date is null
                 and r.contract_length is null and r.ended_on is null and r.closed_through is null
               union all
               select g.tenant_id, 'group', g.billing_group_id, g.billing_day,
                      case when g.changed_at > m.changed_at then g.changed_at else m.changed_at end, m.start_date
               from billing_groups g
               join rentals m on m.tenant_id = g.tenant_id and m.billing_group_id = g.billing_group_id
               where g.status = 'active' and m.status = 'active' and m.end_date is null
                 and m.contract_length is null and m.ended_on is null and m.closed_through is null) due
             on due.tenant_id = day.tenant_id and due.start_date <= day.run_date and due.changed_at < day.started_at
            and (due.number = day.number or (day.number = day.last and due.number > day.last))
         where not exists (select 1 from outcomes o
                           where o.tenant_id = day.tenant_id and o.run_date = day.run_date
                             and o.subject_kind = due.subject_kind and o.subject_id = due.subject_id)",
    ),
    (
        "I9",
        "a date is completed by a completed run, and no run that ended is still at work",
        "select d.tenant_id, cast(d.run_date as text) as about
         from completed_dates d
         left join runs r on r.tenant_id = d.tenant_id and r.run_id = d.run_id and r.run_date = d.run_date
         where r.state is null or r.state <> 'completed'
         union all
         select tenant_id, run_id
         from runs
         where (state = 'running') <> (finished_at is null) or (state = 'failed') <> (error is not null)",
    ),
    (
        "I10",
        "no tenant has a line for another's rental, or a payment of another's customer",
        "select l.tenant_id, l.payment_id || ' ' || l.rental_id as about
         from payment_lines l
         left join rentals r on r.tenant_id = l.tenant_id and r.rental_id = l.rental_id
         where r.rental_id is null
         union all
         select p.tenant_id, p.payment_id
         from payments p
         left join customers c on c.tenant_id = p.tenant_id and c.customer_id = p.customer_id
         where c.customer_id is null",
    ),
    (
        "I11",
        "a payment has its outcome, and an outcome that says billed its payment",
        "select tenant_id, payment_id as about
         from (select tenant_id, payment_id, subject_kind, subject_id, run_id from payments where origin = 'billday'
               except select tenant_id, payment_id, subject_kind, subject_id, run_id from outcomes where outcome = 'billed') untold
         union all
         select tenant_id, coalesce(payment_id, subject_id)
         from (select tenant_id, payment_id, subject_kind, subject_id, run_id from outcomes where outcome = 'billed'
               except select tenant_id, payment_id, subject_kind, subject_id, run_id from payments) unpaid",
    ),
    (
        "I12",
        "a run has counted and added what its payments are",
        "select r.tenant_id, r.run_id as about
         from runs r
         left join (select tenant_id, run_id, count(*) as payments from payments where origin = 'billday'
                    group by tenant_id, run_id) p on p.tenant_id = r.tenant_id and p.run_id = r.run_id
         where r.billed <> coalesce(p.payments, 0)
         union all
         select r.tenant_id, r.run_id
         from runs r
         join (select tenant_id, run_id, currency, count(*) as payments, sum(total) as total
               from payments where origin = 'billday' group by tenant_id, run_id, currency) p
             on p.tenant_id = r.tenant_id and p.run_id = r.run_id
         where r.totals not like '%\"' || p.currency || '\":{\"payments\":' || cast(p.payments as text)
                                   || ',%\"total\":' || cast(p.total as text) || '}%'",
    ),
    // I13 is about reversed payments, which billday does not make: nothing it billed stops counting.
    (
        "I13",
        "what billday billed counts for ever",
        "select tenant_id, payment_id as about from payments where origin = 'billday' and not live",
    ),
    (
        "I14",
        "a mail that was sent says when, one in somebody's hands says until when, and one in doubt has been tried",
        "select tenant_id, payment_id as about
         from outbox
         where (state = 'sent') <> (sent_at is not null)
            or (state = 'sending' and lease_until is null)
            or (state in ('sent', 'unknown', 'held') and fence = 0)
            or (state in ('unknown', 'held') and doubts = 0)
            or (recipient is null and state not in ('undeliverable', 'failed'))",
    ),
    (
        "I15",
        "a payment has one currency, which is that of its rentals",
        "select p.tenant_id, p.payment_id as about
         from payments p
         join payment_lines l on l.tenant_id = p.tenant_id and l.payment_id = p.payment_id
         join rentals r on r.tenant_id = l.tenant_id and r.rental_id = l.rental_id
         where p.origin = 'billday' and r.currency <> p.currency and r.changed_at < p.created_at",
    ),
];

/// How many of each a failure names.
const NAMED: usize = 20;

/// All checks find nothing: one statement, so that they see one state and cost one connection.
pub async fn assert_ledger(db: &TestDb) {
    let all: Vec<String> = CHECKS
        .iter()
        .map(|(name, what, sql)| {
            let what = what.replace('\'', "''");
            format!("select '{name} {what}: tenant ' || found.tenant_id || ', ' || found.about from ({sql}) found")
        })
        .collect();
    let broken = db.texts(&all.join("\nunion all\n")).await;
    assert!(broken.is_empty(), "{} found, among them {:#?}", broken.len(), &broken[..broken.len().min(NAMED)]);
}
