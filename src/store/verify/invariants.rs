//! What must hold in every ledger, one statement each, the same on both databases.
//!
//! A statement finds what breaks its sentence. It goes over whole tables, never row by row from outside; a join that no
//! index serves is written as a set operation or over a grouped set, which neither database turns into a loop.

use super::Statement;

/// Ordered as they are reported.
pub(super) const INVARIANTS: &[Statement] = &[
    // Once: what the unique keys refuse, read without trusting them.
    Statement {
        check: "subject_billed_twice",
        what: "no subject has two payments for one period",
        sql: "
            select tenant_id, subject_kind || ' ' || subject_id || ', period ' || billing_period || ', '
                       || count(*) || ' payments' as named
            from payments
            where live
            group by tenant_id, subject_kind, subject_id, billing_period
            having count(*) > 1",
    },
    Statement {
        check: "rental_charged_twice",
        what: "no rental is charged twice for one period",
        sql: "
            select tenant_id, 'rental ' || rental_id || ', period ' || billing_period || ', ' || count(*) || ' lines'
                       as named
            from payment_lines
            where live
            group by tenant_id, rental_id, billing_period
            having count(*) > 1",
    },
    // Payments and their lines.
    Statement {
        check: "payment_differs_from_lines",
        what: "each payment's subtotal, tax and number of lines are those of its lines",
        sql: "
            select p.tenant_id, 'payment ' || p.payment_id || ', subtotal <<' || p.currency || ' ' || p.subtotal
                       || '>>, tax <<' || p.currency || ' ' || p.tax_amount || '>>, lines ' || p.line_count
                       || '; its lines: <<' || p.currency || ' ' || coalesce(sum(l.amount), 0) || '>>, <<' || p.currency
                       || ' ' || coalesce(sum(l.tax_amount), 0) || '>>, ' || count(l.rental_id) as named
            from payments p
            left join payment_lines l on l.tenant_id = p.tenant_id and l.payment_id = p.payment_id
            where p.origin = 'billday'
            group by p.tenant_id, p.payment_id, p.currency, p.subtotal, p.tax_amount, p.line_count
            having coalesce(sum(l.amount), 0) <> p.subtotal or coalesce(sum(l.tax_amount), 0) <> p.tax_amount
                or count(l.rental_id) <> p.line_count",
    },
    Statement {
        check: "total_wrong",
        what: "each payment's total is its subtotal and tax",
        sql: "
            select tenant_id, 'payment ' || payment_id || ', <<' || currency || ' ' || subtotal || '>> and <<' || currency
                       || ' ' || tax_amount || '>> are not <<' || currency || ' ' || total || '>>' as named
            from payments
            where origin = 'billday' and total - subtotal <> tax_amount",
    },
    Statement {
        check: "marked_payment_not_paid",
        what: "each payment that somebody marked as paid is paid, and since when is on record",
        sql: "
            select tenant_id, 'payment ' || payment_id || ', ' || status || ', marked by ' || marked_by as named
            from payments
            where marked_by is not null and (status <> 'paid' or paid_at is null)",
    },
    Statement {
        check: "line_without_payment",
        what: "each line belongs to a payment",
        sql: "
            select l.tenant_id, 'payment ' || l.payment_id || ', rental ' || l.rental_id || ', period '
                       || l.billing_period as named
            from payment_lines l
            where not exists(select 1 from payments p where p.tenant_id = l.tenant_id and p.payment_id = l.payment_id)",
    },
    Statement {
        check: "line_live_differs",
        what: "each line counts in the ledger if and only if its payment does",
        sql: "
            select l.tenant_id, 'payment ' || l.payment_id || ', rental ' || l.rental_id || ', period '
                       || l.billing_period as named
            from payment_lines l
            join payments p on p.tenant_id = l.tenant_id and p.payment_id = l.payment_id
            where p.origin = 'billday' and l.live <> p.live",
    },
    Statement {
        check: "arrears_flag_wrong",
        what: "a line is marked as arrears if and only if its period is not its payment's",
        sql: "
            select l.tenant_id, 'payment ' || l.payment_id || ', rental ' || l.rental_id || ', period '
                       || l.billing_period
                       || ' on a payment for ' || p.billing_period as named
            from payment_lines l
            join payments p on p.tenant_id = l.tenant_id and p.payment_id = l.payment_id
            where p.origin = 'billday' and l.arrears <> (l.billing_period <> p.billing_period)",
    },
    Statement {
        check: "line_after_payment",
        what: "no line is for a period after its payment's",
        sql: "
            select l.tenant_id, 'payment ' || l.payment_id || ', rental ' || l.rental_id || ', period '
                       || l.billing_period
                       || ' on a payment for ' || p.billing_period as named
            from payment_lines l
            join payments p on p.tenant_id = l.tenant_id and p.payment_id = l.payment_id
            where p.origin = 'billday' and l.billing_period > p.billing_period",
    },
    // Invoice numbers; the walk over each series is in `numbers`.
    Statement {
        check: "payment_without_number",
        what: "each payment that billday made has an invoice number and an issue date",
        sql: "
            select tenant_id, 'payment ' || payment_id as named
            from payments
            where origin = 'billday'
              and (series is null or sequence is null or invoice_number is null or issue_date is null)",
    },
    Statement {
        check: "series_record_wrong",
        what: "each series has on record the first and last number that its invoices have",
        sql: "
            select s.tenant_id, '<<series ' || s.series || '>>, on record ' || s.first || ' to ' || s.last
                       || ', its invoices '
                       || coalesce(cast(p.lowest as text) || ' to ' || cast(p.highest as text), 'none') as named
            from invoice_series s
            left join (select tenant_id, series, min(sequence) as lowest, max(sequence) as highest
                       from payments
                       where series is not null
                       group by tenant_id, series) p on p.tenant_id = s.tenant_id and p.series = s.series
            where p.lowest is null or p.lowest <> s.first or p.highest <> s.last",
    },
    Statement {
        check: "series_without_record",
        what: "each series that invoices have is on record",
        sql: "
            select p.tenant_id, '<<series ' || p.series || '>>, ' || p.invoices || ' invoices' as named
            from (select tenant_id, series, count(*) as invoices
                  from payments
                  where series is not null
                  group by tenant_id, series) p
            where not exists(select 1 from invoice_series s where s.tenant_id = p.tenant_id and s.series = p.series)",
    },
    // Mails.
    Statement {
        check: "mail_missing",
        what: "each payment with something to pay has its mails in the outbox, one for each recipient",
        sql: "
            select p.tenant_id, 'payment ' || p.payment_id as named
            from payments p
            where p.origin = 'billday' and p.total > 0
              and not exists(select 1 from outbox o
                             where o.tenant_id = p.tenant_id and o.payment_id = p.payment_id and o.kind = 'invoice'
                               and o.position = 0)",
    },
    Statement {
        check: "mail_out_of_line",
        what: "the mails of a payment are numbered without a gap, and go to different addresses",
        sql: "
            select tenant_id, 'payment ' || payment_id as named
            from outbox
            group by tenant_id, payment_id, kind
            having max(position) + 1 <> count(*) or count(distinct recipient) <> count(recipient)",
    },
    Statement {
        check: "mail_sent_without_time",
        what: "each mail that was sent has the time at which it was, and no other has one",
        sql: "
            select tenant_id, 'payment ' || payment_id || ', mail ' || cast(position + 1 as text) as named
            from outbox
            where (state = 'sent') <> (sent_at is not null)",
    },
    Statement {
        check: "mail_for_nothing",
        what: "no payment of total 0 has a mail",
        sql: "
            select o.tenant_id, 'payment ' || o.payment_id as named
            from outbox o
            join payments p on p.tenant_id = o.tenant_id and p.payment_id = o.payment_id
            where p.total = 0",
    },
    Statement {
        check: "mail_without_payment",
        what: "each mail belongs to a payment",
        sql: "
            select o.tenant_id, 'payment ' || o.payment_id as named
            from outbox o
            where not exists(select 1 from payments p where p.tenant_id = o.tenant_id and p.payment_id = o.payment_id)",
    },
    Statement {
        check: "document_without_payment",
        what: "each kept document belongs to an invoice of billday's own",
        sql: "
            select d.tenant_id, 'payment ' || d.payment_id || ', ' || d.kind || ' ' || d.place as named
            from documents d
            where not exists(select 1 from payments p where p.tenant_id = d.tenant_id and p.payment_id = d.payment_id
                                                        and p.origin = 'billday')",
    },
    // Outcomes and what they speak of.
    Statement {
        check: "billed_outcome_without_payment",
        what: "each subject that is on record as billed has that payment",
        sql: "
            select o.tenant_id, o.subject_kind || ' ' || o.subject_id || ', run date ' || o.run_date
                       || ', payment ' || coalesce(o.payment_id, 'none') as named
            from outcomes o
            where o.outcome = 'billed'
              and not exists(select 1 from payments p
                             where p.tenant_id = o.tenant_id and p.payment_id = o.payment_id
                               and p.subject_kind = o.subject_kind and p.subject_id = o.subject_id
                               and p.billing_period = substr(cast(o.run_date as text), 1, 7))",
    },
    Statement {
        check: "payment_without_outcome",
        what: "each payment that billday made is on record as the outcome of its subject",
        sql: "
            select tenant_id, 'payment ' || payment_id as named
            from (select tenant_id, payment_id from payments where origin = 'billday'
                  except
                  select tenant_id, payment_id from outcomes where outcome = 'billed') p",
    },
    Statement {
        check: "already_billed_without_payment",
        // An imported payment may have been corrected since, for another period.
        what: "each subject that is on record as already billed has a payment for that period",
        sql: "
            select o.tenant_id, o.subject_kind || ' ' || o.subject_id || ', run date ' || o.run_date as named
            from outcomes o
            where o.outcome = 'already_billed'
              and not exists(select 1 from payments p
                             where p.tenant_id = o.tenant_id and p.subject_kind = o.subject_kind
                               and p.subject_id = o.subject_id and p.live
                               and p.billing_period = substr(cast(o.run_date as text), 1, 7))
              and not exists(select 1 from payments i
                             where i.tenant_id = o.tenant_id and i.subject_kind = o.subject_kind
                               and i.subject_id = o.subject_id and i.origin = 'import')",
    },
    Statement {
        check: "parked_outcome_without_record",
        what: "each subject that is on record as parked is listed as parked, with its reason",
        sql: "
            select o.tenant_id, o.subject_kind || ' ' || o.subject_id || ', run date ' || o.run_date as named
            from outcomes o
            where o.outcome = 'parked'
              and not exists(select 1 from parked p
                             where p.tenant_id = o.tenant_id and p.run_date = o.run_date
                               and p.subject_kind = o.subject_kind and p.subject_id = o.subject_id)",
    },
    // What is kept beside the ledger to find things fast.
    Statement {
        check: "uncharged_list_wrong",
        what: "the list of rentals that were never charged holds exactly the rentals without a line",
        sql: "
            select tenant_id, named
            from (select u.tenant_id, 'rental ' || u.rental_id || ' is listed, and has a line or is none' as named
                  from uncharged_rentals u
                  where exists(select 1 from payment_lines l
                               where l.tenant_id = u.tenant_id and l.rental_id = u.rental_id and l.billing_period > '' and l.live)
                     or not exists(select 1 from rentals r
                                   where r.tenant_id = u.tenant_id and r.rental_id = u.rental_id)
                  union all
                  select r.tenant_id, 'rental ' || r.rental_id || ' has no line, and is not listed' as named
                  from rentals r
                  where not exists(select 1 from uncharged_rentals u
                                   where u.tenant_id = r.tenant_id and u.rental_id = r.rental_id)
                    and not exists(select 1 from payment_lines l
                                   where l.tenant_id = r.tenant_id and l.rental_id = r.rental_id and l.billing_period > '' and l.live)) v",
    },
    Statement {
        check: "billed_group_wrong",
        what: "each rental is billed with its group if that is active, and alone if not",
        sql: "
            select r.tenant_id, 'rental ' || r.rental_id || ', in group ' || coalesce(r.billing_group_id, 'none')
                       || ', billed with ' || coalesce(r.billed_group_id, 'none') as named
            from rentals r
            left join billing_groups g on g.tenant_id = r.tenant_id and g.billing_group_id = r.billing_group_id
                                      and g.status = 'active'
            where r.billed_group_id is distinct from g.billing_group_id",
    },
    Statement {
        check: "closed_through_wrong",
        what: "each rental is closed up to its latest imported line",
        sql: "
            select r.tenant_id, 'rental ' || r.rental_id || ', closed through '
                       || coalesce(r.closed_through, 'nothing') || ', latest imported line '
                       || coalesce(i.latest, 'none') as named
            from rentals r
            left join (select tenant_id, rental_id, max(billing_period) as latest
                       from payment_lines
                       where imported and live
                       group by tenant_id, rental_id) i on i.tenant_id = r.tenant_id and i.rental_id = r.rental_id
            where r.closed_through is distinct from i.latest",
    },
    // References that no foreign key guards, or that somebody may have switched off.
    Statement {
        check: "payment_without_customer",
        what: "each payment's customer exists",
        sql: "
            select p.tenant_id, 'payment ' || p.payment_id || ', customer ' || p.customer_id as named
            from payments p
            where p.origin = 'billday'
              and not exists(select 1 from customers c
                             where c.tenant_id = p.tenant_id and c.customer_id = p.customer_id)",
    },
    Statement {
        check: "payment_without_run",
        what: "each payment's run exists",
        sql: "
            select p.tenant_id, 'payment ' || p.payment_id || ', run ' || coalesce(p.run_id, 'none') as named
            from payments p
            where p.origin = 'billday'
              and not exists(select 1 from runs r where r.tenant_id = p.tenant_id and r.run_id = p.run_id)",
    },
    Statement {
        check: "line_without_rental",
        what: "each line's rental exists",
        sql: "
            select l.tenant_id, 'payment ' || l.payment_id || ', rental ' || l.rental_id || ', period '
                       || l.billing_period as named
            from payment_lines l
            where not l.imported
              and not exists(select 1 from rentals r where r.tenant_id = l.tenant_id and r.rental_id = l.rental_id)",
    },
    Statement {
        check: "outcome_without_run",
        what: "each outcome's run exists",
        sql: "
            select o.tenant_id, o.subject_kind || ' ' || o.subject_id || ', run date ' || o.run_date
                       || ', run ' || o.run_id as named
            from outcomes o
            where not exists(select 1 from runs r where r.tenant_id = o.tenant_id and r.run_id = o.run_id)",
    },
    Statement {
        check: "rental_without_customer",
        what: "each rental's customer exists",
        sql: "
            select r.tenant_id, 'rental ' || r.rental_id || ', customer ' || r.customer_id as named
            from rentals r
            where not exists(select 1 from customers c
                             where c.tenant_id = r.tenant_id and c.customer_id = r.customer_id)",
    },
    Statement {
        check: "rental_without_group",
        what: "each rental's group exists",
        sql: "
            select r.tenant_id, 'rental ' || r.rental_id || ', group ' || r.billing_group_id as named
            from rentals r
            where r.billing_group_id is not null
              and not exists(select 1 from billing_groups g
                             where g.tenant_id = r.tenant_id and g.billing_group_id = r.billing_group_id)",
    },
    Statement {
        check: "completed_date_without_run",
        what: "each completed date has the run that completed it",
        sql: "
            select d.tenant_id, 'run date ' || d.run_date || ', run ' || d.run_id as named
            from completed_dates d
            where not exists(select 1 from runs r
                             where r.tenant_id = d.tenant_id and r.run_id = d.run_id and r.run_date = d.run_date
                               and r.state = 'completed')",
    },
    Statement {
        check: "completed_date_missing",
        what: "each date that a run completed is on record as completed",
        // A retry bills one subject, which completes no date; neither does one of the shares that others are still at.
        sql: "
            select r.tenant_id, 'run date ' || r.run_date || ', run ' || min(r.run_id) as named
            from runs r
            where r.state = 'completed' and r.kind <> 'retry'
              and not exists(select 1 from completed_dates d
                             where d.tenant_id = r.tenant_id and d.run_date = r.run_date)
              and not exists(select 1 from shares s where s.tenant_id = r.tenant_id and s.run_date = r.run_date)
            group by r.tenant_id, r.run_date",
    },
    Statement {
        check: "share_without_run",
        what: "each share of a date that somebody holds or has done has its run",
        sql: "
            select s.tenant_id, 'run date ' || s.run_date || ', share ' || s.share || ' of ' || s.shares || ', '
                       || s.state as named
            from shares s
            where s.state <> 'free'
              and not exists(select 1 from runs r
                             where r.tenant_id = s.tenant_id and r.run_id = s.run_id and r.run_date = s.run_date
                               and (s.state = 'held' or r.state = 'completed'))",
    },
];
