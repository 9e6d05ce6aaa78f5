-- Several daemons share the work of a date. Equal to its SQLite twin in number, tables and columns.

-- The parts of a date that is being run, each with its lease; gone when the date is completed. A key is a JSON text of customer,
-- kind and sort key; null is the beginning or the end.
create table shares (
    tenant_id text collate "C" not null,
    run_date date not null,
    share bigint not null,
    shares bigint not null,
    after_key text,
    through_key text,
    state text not null check (state in ('free', 'held', 'done')),
    owner text,
    fence bigint not null,
    lease_until bigint,
    run_id text,
    primary key (tenant_id, run_date, share)
);

-- Of a run that did one part of its date: which of how many.
alter table runs add column share text;

-- What the daemons of this database know together: one row, of no tenant.
create table daemon_state (
    id bigint not null primary key check (id = 1),
    seen_at bigint not null,
    summarized_at bigint not null
);

-- Mails that wait for a person, which a monitor counts.
create index outbox_stuck on outbox (state) where state not in ('pending', 'sending', 'unknown', 'sent');
