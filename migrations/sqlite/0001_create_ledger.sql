-- The first schema of billday, on SQLite.
-- Equal to its PostgreSQL twin in number, tables and columns; types differ as SQLite wants: STRICT tables, dates as text, booleans
-- as integers. Instants are microseconds UTC; money is minor units. A date is checked to be one (`date()` answers null or
-- another text for what is none), so that SQLite refuses what PostgreSQL's type refuses.

create table parties (
    tenant_id text not null,
    party_id text not null,
    body text not null,
    primary key (tenant_id, party_id)
) strict;

create table tenants (
    tenant_id text not null primary key,
    name text not null,
    currency text not null,
    time_zone text not null,
    locale text not null,
    billing_fixed_day integer check (billing_fixed_day between 1 and 28),
    contract_end text not null,
    proration text not null,
    bill_from text not null check (bill_from is date(bill_from)),
    payment_terms_days integer not null,
    tax_mode text not null,
    tax_rate_ppm integer not null check (tax_rate_ppm between 0 and 1000000),
    invoice_number_format text not null,
    first_invoice_number integer not null check (first_invoice_number > 0),
    catch_up_days integer not null check (catch_up_days >= 0),
    max_arrears integer not null check (max_arrears >= 0),
    run_at text not null,
    legal_name text,
    address text,
    vat_id text,
    email text,
    iban text,
    bic text,
    party_id text not null,
    created_at integer not null,
    updated_at integer not null,
    changed_at integer not null,
    import_id text,
    import_place integer
) strict;

create table customers (
    tenant_id text not null,
    customer_id text not null,
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
    payment_terms_days integer,
    locale text,
    billing_address text,
    shipping_address text,
    party_id text not null,
    created_at integer not null,
    updated_at integer not null,
    changed_at integer not null,
    import_id text,
    import_place integer,
    primary key (tenant_id, customer_id),
    foreign key (tenant_id) references tenants (tenant_id) deferrable initially deferred
) strict;

create table billing_groups (
    tenant_id text not null,
    billing_group_id text not null,
    customer_id text not null,
    group_name text not null,
    billing_day integer not null check (billing_day between 1 and 28),
    status text not null,
    notes text,
    created_by text not null,
    sort_key text generated always as (billing_group_id || ':') stored,
    created_at integer not null,
    updated_at integer not null,
    changed_at integer not null,
    import_id text,
    import_place integer,
    primary key (tenant_id, billing_group_id),
    foreign key (tenant_id, customer_id) references customers (tenant_id, customer_id) deferrable initially deferred
) strict;

create index billing_groups_due on billing_groups (tenant_id, billing_day, customer_id, sort_key) where status = 'active';
create index billing_groups_customer on billing_groups (tenant_id, customer_id);

create table deleted_groups (
    tenant_id text not null,
    billing_group_id text not null,
    deleted_at integer not null,
    primary key (tenant_id, billing_group_id)
) strict;

create table rentals (
    tenant_id text not null,
    rental_id text not null,
    customer_id text not null,
    billing_group_id text,
    billed_group_id text,
    monthly_amount integer not null check (monthly_amount >= 0),
    currency text not null,
    status text not null,
    start_date text not null check (start_date is date(start_date)),
    end_date text check (end_date is date(end_date)),
    contract_length integer,
    ended_on text check (ended_on is date(ended_on)),
    closed_through text,
    product_name text not null,
    serial_number text,
    sku text,
    notes text,
    created_by text not null,
    start_day integer generated always as (cast(substr(start_date, 9, 2) as integer)) stored,
    sort_key text generated always as (rental_id || ':') stored,
    created_at integer not null,
    updated_at integer not null,
    changed_at integer not null,
    import_id text,
    import_place integer,
    primary key (tenant_id, rental_id),
    foreign key (tenant_id, customer_id) references customers (tenant_id, customer_id) deferrable initially deferred,
    foreign key (tenant_id, billing_group_id) references billing_groups (tenant_id, billing_group_id) deferrable initially deferred
) strict;

create index rentals_due_alone on rentals (tenant_id, start_day, customer_id, sort_key) where billed_group_id is null;
create index rentals_in_group on rentals (tenant_id, billing_group_id, rental_id) where billing_group_id is not null;
create index rentals_customer on rentals (tenant_id, customer_id);

create table uncharged_rentals (
    tenant_id text not null,
    rental_id text not null,
    primary key (tenant_id, rental_id)
) strict, without rowid;

create table payments (
    tenant_id text not null,
    payment_id text not null,
    subject_kind text not null check (subject_kind in ('group', 'rental')),
    subject_id text not null,
    customer_id text not null,
    subject_name text not null,
    billing_period text not null,
    currency text not null,
    subtotal integer not null check (subtotal >= 0),
    tax_amount integer not null check (tax_amount >= 0),
    total integer not null check (total = subtotal + tax_amount),
    tax_rate_ppm integer not null,
    tax_treatment text not null,
    status text not null,
    issue_date text check (issue_date is date(issue_date)),
    due_date text not null check (due_date is date(due_date)),
    series text,
    sequence integer,
    invoice_number text,
    line_count integer not null check (line_count >= 0),
    seller_party text,
    buyer_party text,
    origin text not null check (origin in ('billday', 'import')),
    live integer not null,
    run_id text,
    paid_at integer,
    provider text,
    transaction_id text,
    payment_reference text,
    notes text,
    created_at integer not null,
    updated_at integer not null,
    import_id text,
    import_place integer,
    primary key (tenant_id, payment_id)
) strict;

create unique index payments_once on payments (tenant_id, subject_kind, subject_id, billing_period) where live;
create unique index payments_number on payments (tenant_id, series, sequence) where series is not null;

create table payment_lines (
    tenant_id text not null,
    payment_id text not null,
    rental_id text not null,
    billing_period text not null,
    amount integer not null check (amount >= 0),
    tax_amount integer not null check (tax_amount >= 0),
    arrears integer not null,
    description text,
    product_name text,
    serial_number text,
    imported integer not null,
    live integer not null,
    primary key (tenant_id, payment_id, rental_id, billing_period)
) strict, without rowid;

create unique index payment_lines_once on payment_lines (tenant_id, rental_id, billing_period) where live;

create table invoice_series (
    tenant_id text not null,
    series text not null,
    first integer not null,
    last integer not null,
    last_issued_on text not null check (last_issued_on is date(last_issued_on)),
    primary key (tenant_id, series)
) strict;

create table runs (
    tenant_id text not null,
    run_id text not null,
    run_date text not null check (run_date is date(run_date)),
    kind text not null,
    requested_by text not null,
    state text not null check (state in ('running', 'completed', 'failed')),
    subject text,
    expected_plan text,
    plan_hash text,
    batches integer not null,
    billed integer not null,
    already_billed integer not null,
    skipped integer not null,
    parked integer not null,
    withheld integer not null,
    never_charged integer not null,
    totals text not null,
    error text,
    version text not null,
    started_at integer not null,
    beat_at integer not null,
    finished_at integer,
    primary key (tenant_id, run_id)
) strict;

create index runs_started on runs (started_at);

create table completed_dates (
    tenant_id text not null,
    run_date text not null check (run_date is date(run_date)),
    run_id text not null,
    completed_at integer not null,
    primary key (tenant_id, run_date)
) strict;

create table outcomes (
    tenant_id text not null,
    run_date text not null check (run_date is date(run_date)),
    subject_kind text not null,
    subject_id text not null,
    outcome text not null check (outcome in ('billed', 'already_billed', 'skipped', 'parked')),
    code text,
    payment_id text,
    rentals text not null,
    run_id text not null,
    primary key (tenant_id, run_date, subject_kind, subject_id)
) strict, without rowid;

create table arrears (
    tenant_id text not null,
    rental_id text not null,
    billing_period text not null,
    state text not null check (state in ('parked', 'withheld', 'confirmed', 'waived')),
    reason text,
    decided_by text not null,
    decided_at integer not null,
    primary key (tenant_id, rental_id, billing_period)
) strict;

create table parked (
    tenant_id text not null,
    run_date text not null check (run_date is date(run_date)),
    subject_kind text not null,
    subject_id text not null,
    code text not null,
    message text not null,
    records text not null,
    charges text not null,
    state text not null check (state in ('open', 'closed')),
    resolution text,
    reason text,
    run_id text not null,
    parked_at integer not null,
    tried_at integer not null,
    closed_at integer,
    primary key (tenant_id, run_date, subject_kind, subject_id)
) strict;

create index parked_open on parked (tenant_id) where state = 'open';

create table outbox (
    tenant_id text not null,
    payment_id text not null,
    kind text not null check (kind in ('invoice')),
    recipient text,
    locale text not null,
    state text not null check (state in ('pending', 'sending', 'sent', 'failed', 'undeliverable')),
    attempts integer not null,
    next_at integer not null,
    lease_until integer,
    fence integer not null,
    sent_at integer,
    error text,
    created_at integer not null,
    primary key (tenant_id, payment_id, kind)
) strict, without rowid;

create index outbox_waiting on outbox (next_at) where state in ('pending', 'sending');
