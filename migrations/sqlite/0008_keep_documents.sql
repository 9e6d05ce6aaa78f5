-- The documents of invoices that went out: where each is kept, and the hash by which it is known again.
create table documents (
    tenant_id text not null,
    payment_id text not null,
    kind text not null,
    sha256 text not null,
    bytes integer not null,
    place text not null,
    created_at integer not null,
    primary key (tenant_id, payment_id, kind)
) strict, without rowid;
