-- The documents of invoices that went out: where each is kept, and the hash by which it is known again.
create table documents (
    tenant_id text collate "C" not null,
    payment_id text collate "C" not null,
    kind text collate "C" not null,
    sha256 text collate "C" not null,
    bytes bigint not null,
    place text collate "C" not null,
    created_at bigint not null,
    primary key (tenant_id, payment_id, kind)
);
