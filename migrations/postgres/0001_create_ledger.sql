-- The first schema of billday, on PostgreSQL.
-- Equal to its SQLite twin in number, tables and columns. Ids compare bytewise (collation C), as the report is ordered. Instants
-- are microseconds UTC; money is minor units.

create table parties (
    tenant_id text collate "C" not null,
    party_id text collate "C" not null,
    body text not null,
    primary key (tenant_id, party_id)
);

create table tenants (
    tenant_id text collate "C" not null primary key,
    name text not null,
    currency text not null,
    time_zone text not null,
    locale text not null,
    billing_fixed_day bigint check (billing_fixed_day between 1 and 28),
    contract_end text not null,
    proration text not null,
    bill_from date not null,
    payment_terms_days bigint not null,
    tax_mode text not null,
    tax_rate_ppm bigint not null check (tax_rate_ppm between 0 and 1000000),
    invoice_number_format text not null,
    first_invoice_number bigint not null check (first_invoice_number > 0),
    catch_up_days bigint not null check (catch_up_days >= 0),
    max_arrears bigint not null check (max_arrears >= 0),
    run_at text not null,
    legal_name text,
    address text,
    vat_id text,
    email text,
    iban text,
    bic text,
    party_id text collate "C" not null,
    created_at bigint not null,
    updated_at bigint not null,
    changed_at bigint not null,
    import_id text,
    import_place bigint
);

create table customers (
    tenant_id text collate "C" not null,
    customer_id text collate "C" not null,
    customer_type text not null,
    status text not null,
    company text,
    first_name text,
    last_name text,
    email text,
    billing_email text,
    phone text,
    vat_id text,
    buyer_reference text,
    tax_treatment text not null,
    payment_terms_days bigint,
    locale text,
    billing_address text,
    shipping_address text,
    party_id text collate "C" not null,
    created_at bigint not null,
    updated_at bigint not null,
    changed_at bigint not null,
    import_id text,
    import_place bigint,
    primary key (tenant_id, customer_id),
    foreign key (tenant_id) references tenants (tenant_id) deferrable initially deferred
);

create table billing_groups (
    tenant_id text collate "C" not null,
    billing_group_id text collate "C" not null,
    customer_id text collate "C" not null,
    group_name text not null,
    billing_day bigint not null check (billing_day between 1 and 28),
    status text not null,
    notes text,
    created_by text not null,
    sort_key text collate "C" generated always as (billing_group_id || ':') stored,
    created_at bigint not null,
    updated_at bigint not null,
    changed_at bigint not null,
    import_id text,
    import_place bigint,
    primary key (tenant_id, billing_group_id),
    foreign key (tenant_id, customer_id) references customers (tenant_id, customer_id) deferrable initially deferred
);

create index billing_groups_due on billing_groups (tenant_id, billing_day, customer_id, sort_key) where status = 'active';
create index billing_groups_customer on billing_groups (tenant_id, customer_id);

create table deleted_groups (
    tenant_id text collate "C" not null,
    billing_group_id text collate "C" not null,
    deleted_at bigint not null,
    primary key (tenant_id, billing_group_id)
);

create table rentals (
    tenant_id text collate "C" not null,
    rental_id text collate "C" not null,
    customer_id text collate "C" not null,
    billing_group_id text collate "C",
    billed_group_id text collate "C",
    monthly_amount bigint not null check (monthly_amount >= 0),
    currency text not null,
    status text not null,
    start_date date not null,
    end_date date,
    contract_length bigint,
    ended_on date,
    closed_through text collate "C",
    product_name text not null,
    serial_number text,
    sku text,
    notes text,
    created_by text not null,
    start_day bigint generated always as (extract(day from start_date)::bigint) stored,
    sort_key text collate "C" generated always as (rental_id || ':') stored,
    created_at bigint not null,
    updated_at bigint not null,
    changed_at bigint not null,
    import_id text,
    import_place bigint,
    primary key (tenant_id, rental_id),
    foreign key (tenant_id, customer_id) references customers (tenant_id, customer_id) deferrable initially deferred,
    foreign key (tenant_id, billing_group_id) references billing_groups (tenant_id, billing_group_id) deferrable initially deferred
);

create index rentals_due_alone on rentals (tenant_id, start_day, customer_id, sort_key) where billed_group_id is null;
create index rentals_in_group on rentals (tenant_id, billing_group_id, rental_id) where billing_group_id is not null;
create index rentals_customer on rentals (tenant_id, customer_id);

create table uncharged_rentals (
    tenant_id text collate "C" not null,
    rental_id text collate "C" not null,
    primary key (tenant_id, rental_id)
);

create table payments (
    tenant_id text collate "C" not null,
    payment_id text collate "C" not null,
    subject_kind text not null check (subject_kind in ('group', 'rental')),
    subject_id text collate "C" not null,
    customer_id text collate "C" not null,
    subject_name text not null,
    billing_period text collate "C" not null,
    currency text not null,
    subtotal bigint not null check (subtotal >= 0),
    tax_amount bigint not null check (tax_amount >= 0),
    total bigint not null check (total = subtotal + tax_amount),
    tax_rate_ppm bigint not null,
    tax_treatment text not null,
    status text not null,
    issue_date date,
    due_date date not null,
    series text collate "C",
    sequence bigint,
    invoice_number text,
    line_count bigint not null check (line_count >= 0),
    seller_party text collate "C",
    buyer_party text collate "C",
    origin text not null check (origin in ('billday', 'import')),
    live boolean not null,
    run_id text collate "C",
    paid_at bigint,
    provider text,
    transaction_id text,
    payment_reference text,
    notes text,
    created_at bigint not null,
    updated_at bigint not null,
    import_id text,
    import_place bigint,
    primary key (tenant_id, payment_id)
);

create unique index payments_once on payments (tenant_id, subject_kind, subject_id, billing_period) where live;
create unique index payments_number on payments (tenant_id, series, sequence) where series is not null;

create table payment_lines (
    tenant_id text collate "C" not null,
    payment_id text collate "C" not null,
    rental_id text collate "C" not null,
    billing_period text collate "C" not null,
    amount bigint not null check (amount >= 0),
    tax_amount bigint not null check (tax_amount >= 0),
    arrears boolean not null,
    description text,
    product_name text,
    serial_number text,
    imported boolean not null,
    live boolean not null,
    primary key (tenant_id, payment_id, rental_id, billing_period)
);

create unique index payment_lines_once on payment_lines (tenant_id, rental_id, billing_period) where live;

create table invoice_series (
    tenant_id text collate "C" not null,
    series text collate "C" not null,
    first bigint not null,
    last bigint not null,
    last_issued_on date not null,
    primary key (tenant_id, series)
);

create table runs (
    tenant_id text collate "C" not null,
    run_id text collate "C" not null,
    run_date date not null,
    kind text not null,
    requested_by text not null,
    state text not null check (state in ('running', 'completed', 'failed')),
    subject text,
    expected_plan text,
    plan_hash text,
    batches bigint not null,
    billed bigint not null,
    already_billed bigint not null,
    skipped bigint not null,
    parked bigint not null,
    withheld bigint not null,
    never_charged bigint not null,
    totals text not null,
    error text,
    version text not null,
    started_at bigint not null,
    beat_at bigint not null,
    finished_at bigint,
    primary key (tenant_id, run_id)
);

create index runs_started on runs (started_at);

create table completed_dates (
    tenant_id text collate "C" not null,
    run_date date not null,
    run_id text collate "C" not null,
    completed_at bigint not null,
    primary key (tenant_id, run_date)
);

create table outcomes (
    tenant_id text collate "C" not null,
    run_date date not null,
    subject_kind text not null,
    subject_id text collate "C" not null,
    outcome text not null check (outcome in ('billed', 'already_billed', 'skipped', 'parked')),
    code text,
    payment_id text collate "C",
    rentals text not null,
    run_id text collate "C" not null,
    primary key (tenant_id, run_date, subject_kind, subject_id)
);

create table arrears (
    tenant_id text collate "C" not null,
    rental_id text collate "C" not null,
    billing_period text collate "C" not null,
    state text not null check (state in ('parked', 'withheld', 'confirmed', 'waived')),
    reason text,
    decided_by text not null,
    decided_at bigint not null,
    primary key (tenant_id, rental_id, billing_period)
);

create table parked (
    tenant_id text collate "C" not null,
    run_date date not null,
    subject_kind text not null,
    subject_id text collate "C" not null,
    code text not null,
    message text not null,
    records text not null,
    charges text not null,
    state text not null check (state in ('open', 'closed')),
    resolution text,
    reason text,
    run_id text collate "C" not null,
    parked_at bigint not null,
    tried_at bigint not null,
    closed_at bigint,
    primary key (tenant_id, run_date, subject_kind, subject_id)
);

create index parked_open on parked (tenant_id) where state = 'open';

create table outbox (
    tenant_id text collate "C" not null,
    payment_id text collate "C" not null,
    kind text not null check (kind in ('invoice')),
    recipient text,
    locale text not null,
    state text not null check (state in ('pending', 'sending', 'sent', 'failed', 'undeliverable')),
    attempts bigint not null,
    next_at bigint not null,
    lease_until bigint,
    fence bigint not null,
    sent_at bigint,
    error text,
    created_at bigint not null,
    primary key (tenant_id, payment_id, kind)
);

create index outbox_waiting on outbox (next_at) where state in ('pending', 'sending');
