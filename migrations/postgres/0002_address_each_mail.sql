-- One mail a recipient, and what is not known about a mail. Mails that were there before are those to their only recipient.

alter table customers add column invoice_recipients text;
alter table customers add column invoice_cc text;
alter table billing_groups add column invoice_recipients text;
alter table billing_groups add column invoice_cc text;

alter table outbox rename to outbox_of_one;

create table outbox (
    tenant_id text collate "C" not null,
    payment_id text collate "C" not null,
    kind text not null check (kind in ('invoice')),
    position bigint not null default 0 check (position >= 0),
    recipient text,
    copy boolean not null default false,
    locale text not null,
    state text not null check (state in ('pending', 'sending', 'sent', 'unknown', 'held', 'failed', 'undeliverable')),
    attempts bigint not null,
    doubts bigint not null default 0,
    next_at bigint not null,
    lease_until bigint,
    fence bigint not null,
    sent_at bigint,
    error text,
    created_at bigint not null,
    primary key (tenant_id, payment_id, kind, position)
);

insert into outbox (tenant_id, payment_id, kind, recipient, locale, state, attempts, next_at, lease_until, fence, sent_at,
                    error, created_at)
select tenant_id, payment_id, kind, recipient, locale, state, attempts, next_at, lease_until, fence, sent_at, error,
       created_at
from outbox_of_one;

drop table outbox_of_one;

create index outbox_waiting on outbox (next_at) where state in ('pending', 'sending', 'unknown');
create index outbox_in_doubt on outbox (state) where state in ('sending', 'unknown');

-- At most one row: nobody sends any mail while it is there.
create table outbox_pause (
    only_one bigint not null primary key check (only_one = 1),
    reason text,
    paused_by text not null,
    paused_at bigint not null
);
