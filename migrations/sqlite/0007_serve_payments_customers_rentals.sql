-- What payments, customers and subscriptions need to be served and changed over the HTTP API.

alter table payments add column marked_by text;
alter table customers add column created_by text not null default 'import';
alter table rentals add column order_id text;
-- JSON: why, by whom and when it was cancelled over the API.
alter table rentals add column cancellation text;

create index payments_created on payments (tenant_id, created_at, payment_id);
create index payments_updated on payments (tenant_id, updated_at, payment_id);
create index payments_due on payments (tenant_id, due_date, payment_id);
create index payments_customer on payments (tenant_id, customer_id, created_at, payment_id);
-- Pending and paid ones are many wherever one begins to look.
create index payments_rare_status on payments (tenant_id, status, created_at, payment_id)
    where status in ('processing', 'failed', 'cancelled');
-- Beside payments_once and payment_lines_once, which hold the rest.
create index payments_not_live on payments (tenant_id, subject_kind, subject_id) where not live;
create index payment_lines_not_live on payment_lines (tenant_id, rental_id) where not live;

create index customers_created on customers (tenant_id, created_at, customer_id);
create index customers_updated on customers (tenant_id, updated_at, customer_id);
create index customers_email on customers (tenant_id, lower(email));

create index rentals_created on rentals (tenant_id, created_at, rental_id);
create index rentals_updated on rentals (tenant_id, updated_at, rental_id);
create index rentals_serial_number on rentals (tenant_id, serial_number) where serial_number is not null;
create index rentals_order on rentals (tenant_id, order_id) where order_id is not null;
