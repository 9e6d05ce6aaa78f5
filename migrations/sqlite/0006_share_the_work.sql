-- Several daemons share the work of a date. Equal to its PostgreSQL twin in number, tables and columns.

-- The parts of a date that is being run, each with its lease; gone when the date is completed. A key is a JSON text of customer,
-- kind and sort key; null is the beginning or the end.
create table shares (
    tenant_id text not null,
    run_date text not null check (run_date is date(run_date)),
    share integer not null,
    shares integer not null,
    after_key text,
    through_key text,
    state text not null check (state in ('free', 'held', 'done')),
    owner text,
    fence integer not null,
    lease_until integer,
    run_id text,
    primary key (tenant_id, run_date, share)
) strict, without rowid;

-- Of a run that did one part of its date: which of how many.
alter table runs add column share text;

-- What the daemons of this database know together: one row, of no tenant.
create table daemon_state (
    id integer not null primary key check (id = 1),
    seen_at integer not null,
    summarized_at integer not null
) strict;

-- Mails that wait for a person, which a monitor counts.
create index outbox_stuck on outbox (state) where state not in ('pending', 'sending', 'unknown', 'sent');
