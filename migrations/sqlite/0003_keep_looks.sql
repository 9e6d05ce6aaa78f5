-- How a seller's invoices look. A picture is kept once, under the hash of its content, so that an invoice's snapshot can name it.
alter table tenants add column logo text;
alter table tenants add column accent_color text;
alter table tenants add column footer text;

create table assets (
    tenant_id text not null,
    sha256 text not null,
    content_type text not null,
    body blob not null,
    primary key (tenant_id, sha256)
) strict;
