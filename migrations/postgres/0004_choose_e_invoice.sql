-- Each customer chooses its e-invoice, and both sides can tell what the kinds of e-invoice ask for.

alter table tenants add column tax_number text;
alter table tenants add column registration text;
alter table tenants add column contact_name text;
alter table tenants add column phone text;
alter table tenants add column electronic_address text;

alter table customers add column registration text;
alter table customers add column e_invoice text not null default 'facturX';
alter table customers add column electronic_address text;
