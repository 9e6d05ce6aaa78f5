-- What the HTTP API needs: its keys, who changed what, answers to repeat, and lists in the order of their times.

create table api_keys (
    key_id text not null primary key,
    name text,
    secret_hash text not null,
    read_only integer not null,
    expires_on text check (expires_on is date(expires_on)),
    created_by text not null,
    created_at integer not null,
    revoked_at integer
) strict;

create table api_key_tenants (
    tenant_id text not null,
    key_id text not null,
    primary key (tenant_id, key_id),
    foreign key (tenant_id) references tenants (tenant_id) deferrable initially deferred,
    foreign key (key_id) references api_keys (key_id) deferrable initially deferred
) strict, without rowid;

create index api_key_tenants_key on api_key_tenants (key_id);

create table audit_log (
    tenant_id text not null,
    audit_id text not null,
    actor text not null,
    action text not null,
    kind text not null,
    object_id text not null,
    state_before text,
    state_after text,
    created_at integer not null,
    primary key (tenant_id, audit_id)
) strict;

create index audit_log_created on audit_log (tenant_id, created_at, audit_id);
create index audit_log_object on audit_log (tenant_id, object_id, created_at, audit_id);

create table idempotency_keys (
    tenant_id text not null,
    key_id text not null,
    path text not null,
    idempotency_key text not null,
    body_hash text not null,
    status integer not null,
    etag text,
    answer text not null,
    created_at integer not null,
    primary key (tenant_id, key_id, path, idempotency_key)
) strict;

create index idempotency_keys_created on idempotency_keys (created_at);

create index billing_groups_created on billing_groups (tenant_id, created_at, billing_group_id);
create index billing_groups_updated on billing_groups (tenant_id, updated_at, billing_group_id);
create index billing_groups_status on billing_groups (tenant_id, status, created_at, billing_group_id);
