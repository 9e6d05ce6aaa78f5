//! The data of a run bench, made by the database itself from one SQL text, and one month of its ledger as bare SQL.
//!
//! Written for October it is the history that makes a steady state; written for November in one transaction it is the floor
//! that a run is measured against. Amounts are whole euros, so that 19 % of each is whole too and SQL shares out the tax as
//! billday does.

use crate::database::Database;

/// How many rentals there are, and how they are billed.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub groups: u64,
    pub group_size: u64,
    pub alone: u64,
}

impl Shape {
    /// Groups of 50, and one rental in five billed alone.
    pub fn mixed(rentals: u64) -> Self {
        let groups = (rentals * 4 / 5 / 50).max(1);
        Self { groups, group_size: 50, alone: rentals.saturating_sub(groups * 50) }
    }

    pub fn one_group(members: u64) -> Self {
        Self { groups: 1, group_size: members, alone: 0 }
    }

    pub fn rentals(self) -> u64 {
        self.groups * self.group_size + self.alone
    }

    /// Payments of the customers before this one; of all of them if it is the number of groups.
    fn payments_before(self, customer: u64) -> u64 {
        customer + self.alone_before(customer)
    }

    /// Rentals billed alone of the customers before this one.
    fn alone_before(self, customer: u64) -> u64 {
        (customer * self.alone).div_ceil(self.groups)
    }

    /// All customers in order, in parts of about so many rentals.
    pub fn parts(self, rentals: u64) -> impl Iterator<Item = Part> {
        let customers = (rentals * self.groups / self.rentals()).max(1);
        let end = move |from: u64| (from + customers).min(self.groups);
        (0..self.groups).step_by(customers as usize).map(move |from| Part::Customers { from, end: end(from) })
    }
}

/// Which of a month's payments a statement writes.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    All,
    /// Those of some customers, by their numbers, each of whom has one group.
    Customers {
        from: u64,
        end: u64,
    },
}

impl Part {
    /// The numbers of its customers, the end not included.
    fn customers(self, shape: Shape) -> (u64, u64) {
        match self {
            Self::All => (0, shape.groups),
            Self::Customers { from, end } => (from, end),
        }
    }

    /// A condition on a column of ids that are the letter and a number; each statement takes the column that it has an index of.
    fn ids(self, column: &str, letter: char, number: impl Fn(u64) -> u64) -> String {
        match self {
            Self::All => "true".to_owned(),
            Self::Customers { from, end } => format!(
                "({column} >= '{letter}{}' and {column} < '{letter}{}')",
                10_000_000 + number(from),
                10_000_000 + number(end)
            ),
        }
    }

    fn groups(self, column: &str) -> String {
        self.ids(column, 'G', |customer| customer)
    }

    fn of_customers(self) -> String {
        self.ids("customer_id", 'C', |customer| customer)
    }

    fn members(self, shape: Shape) -> String {
        self.ids("rental_id", 'R', |customer| customer * shape.group_size)
    }

    fn alone(self, shape: Shape) -> String {
        self.ids("rental_id", 'S', |customer| shape.alone_before(customer))
    }
}

/// Statements that make the tenant, its customers, groups and rentals: all of them due on the 15th.
pub fn master_data(shape: Shape) -> Vec<String> {
    let Shape { groups, group_size, alone } = shape;
    let grouped = groups * group_size;
    let mut statements = vec![
        "insert into parties (tenant_id, party_id, body) values ('bench', 'seller', '{\"name\":\"Bench GmbH\"}')".into(),
        "insert into tenants (tenant_id, name, currency, time_zone, locale, contract_end, proration, bill_from,
                              payment_terms_days, tax_mode, tax_rate_ppm, invoice_number_format, first_invoice_number,
                              catch_up_days, max_arrears, run_at, legal_name, party_id, created_at, updated_at, changed_at)
         values ('bench', 'Bench', 'EUR', 'Europe/Berlin', 'en', 'end', 'none', '2026-01-01', 14, 'exclusive', 190000,
                 'INV-{year}-{seq:06}', 1, 7, 3, '06:00', 'Bench GmbH', 'seller', 1, 1, 1)"
            .into(),
        format!(
            "insert into parties (tenant_id, party_id, body) {numbers}
             select 'bench', 'buyer-' || cast(10000000 + i as text),
                    '{{\"customerId\":\"C' || cast(10000000 + i as text) || '\",\"company\":\"Company ' || cast(i as text) || '\"}}'
             from n",
            numbers = numbers(groups)
        ),
        format!(
            "insert into customers (tenant_id, customer_id, customer_type, status, company, email, billing_email,
                                    tax_treatment, billing_address, party_id, created_at, updated_at, changed_at) {numbers}
             select 'bench', 'C' || cast(10000000 + i as text), 'business', 'active', 'Company ' || cast(i as text),
                    'office' || cast(i as text) || '@example.com', 'billing' || cast(i as text) || '@example.com',
                    'standard', '{{\"city\":\"Berlin\"}}', 'buyer-' || cast(10000000 + i as text), 1, 1, 1
             from n",
            numbers = numbers(groups)
        ),
        format!(
            "insert into billing_groups (tenant_id, billing_group_id, customer_id, group_name, billing_day, status,
                                         created_by, created_at, updated_at, changed_at) {numbers}
             select 'bench', 'G' || cast(10000000 + i as text), 'C' || cast(10000000 + i as text),
                    'Office ' || cast(i as text), 15, 'active', 'bench', 1, 1, 1
             from n",
            numbers = numbers(groups)
        ),
        rentals("R", grouped, &format!("10000000 + i / {group_size}"), true),
    ];
    if alone > 0 {
        // Spread over the customers in order, so that each has a group and some rentals beside it.
        statements.push(rentals("S", alone, &format!("10000000 + cast(i as bigint) * {groups} / {alone}"), false));
    }
    statements
}

/// Each has a month of its own behind it; the group's number is its customer's.
fn rentals(prefix: &str, count: u64, customer: &str, in_group: bool) -> String {
    let group = if in_group { format!("'G' || cast({customer} as text)") } else { "null".into() };
    format!(
        "insert into rentals (tenant_id, rental_id, customer_id, billing_group_id, billed_group_id, monthly_amount, currency,
                              status, start_date, contract_length, product_name, serial_number, created_by, created_at,
                              updated_at, changed_at) {numbers}
         select 'bench', '{prefix}' || cast(10000000 + i as text), 'C' || cast({customer} as text), {group}, {group},
                1000 + i % 97 * 100, 'EUR', 'active', '2026-10-15', 36, 'Laptop 14 inch', 'SN-' || cast(10000000 + i as text),
                'bench', 1, 1, 1
         from n",
        numbers = numbers(count)
    )
}

fn numbers(count: u64) -> String {
    format!("with recursive n (i) as (select 0 union all select i + 1 from n where i + 1 < {count})")
}

/// A month of the ledger: what a run on its 15th writes.
#[derive(Debug, Clone, Copy)]
pub struct Month {
    pub period: &'static str,
    pub run_date: &'static str,
    due_date: &'static str,
    run_id: &'static str,
    /// Months that were written before.
    before: u64,
}

pub const HISTORY: Month = Month {
    period: "2026-10",
    run_date: "2026-10-15",
    due_date: "2026-10-29",
    run_id: "01990000-0000-7000-8000-000000000001",
    before: 0,
};

pub const FLOOR: Month = Month {
    period: "2026-11",
    run_date: "2026-11-15",
    due_date: "2026-11-29",
    run_id: "01990000-0000-7000-8000-000000000002",
    before: 1,
};

impl Month {
    /// The statements that write it: payments with invoice numbers, lines, outcomes, mails, series, run and date.
    pub fn statements(&self, database: &Database, shape: Shape) -> Vec<String> {
        let mut statements = self.part(database, shape, Part::All);
        statements.extend(self.ends());
        statements
    }

    /// The statements that write the run and its date.
    pub fn ends(&self) -> Vec<String> {
        vec![self.run(), self.completed_date()]
    }

    /// The statements that write some of its payments, and all that belongs to them.
    pub fn part(&self, database: &Database, shape: Shape, part: Part) -> Vec<String> {
        vec![
            self.payments(database, shape, part),
            self.lines(database, shape, part),
            self.outcomes_of_groups(database, part),
            self.outcomes_of_rentals(database, part),
            self.outbox(shape, part),
            self.series(shape, part),
        ]
    }

    /// The numbers of a part's invoices, the first not included.
    fn sequences(&self, shape: Shape, part: Part) -> (u64, u64) {
        let number = |customer| self.before * shape.payments_before(shape.groups) + shape.payments_before(customer);
        let (from, end) = part.customers(shape);
        (number(from), number(end))
    }

    fn payments(&self, database: &Database, shape: Shape, part: Part) -> String {
        let Self { period, run_date, due_date, run_id, .. } = self;
        let payment_id = self.payment_id(database, "kind", "subject_id");
        let (first, _) = self.sequences(shape, part);
        let groups = part.groups("g.billing_group_id");
        let (in_groups, of_customers) = (part.groups("billing_group_id"), part.of_customers());
        format!(
            "insert into payments (tenant_id, payment_id, subject_kind, subject_id, customer_id, subject_name, billing_period,
                                   currency, subtotal, tax_amount, total, tax_rate_ppm, tax_treatment, status, issue_date,
                                   due_date, series, sequence, invoice_number, line_count, seller_party, buyer_party, origin,
                                   live, run_id, created_at, updated_at)
             select 'bench', {payment_id}, kind, subject_id, s.customer_id, subject_name,
                    '{period}', 'EUR', net, net * 19 / 100, net * 119 / 100, 190000, c.tax_treatment, 'pending', '{run_date}',
                    '{due_date}', 'INV-2026-{{seq:06}}', {first} + place,
                    'INV-2026-' || substr(cast(1000000 + {first} + place as text), 2), line_count, 'seller', c.party_id,
                    'billday', true, '{run_id}', 1, 1
             from (select kind, subject_id, customer_id, subject_name, net, line_count,
                          row_number() over (order by customer_id, kind, sort_key) as place
                   from (select 'group' as kind, g.billing_group_id as subject_id, g.customer_id, g.group_name as subject_name,
                                g.sort_key, m.net, m.line_count
                         from billing_groups g
                         join (select billing_group_id, cast(sum(monthly_amount) as bigint) as net, count(*) as line_count
                               from rentals
                               where tenant_id = 'bench' and billing_group_id is not null and {in_groups}
                               group by billing_group_id) m on m.billing_group_id = g.billing_group_id
                         where g.tenant_id = 'bench' and g.billing_day = 15 and g.status = 'active' and {groups}
                         union all
                         select 'rental', rental_id, customer_id, product_name, sort_key, monthly_amount, 1
                         from rentals
                         where tenant_id = 'bench' and start_day = 15 and billed_group_id is null and {of_customers}) due) s
             join customers c on c.tenant_id = 'bench' and c.customer_id = s.customer_id"
        )
    }

    /// The lines and outcomes find their payment without a join: bare SQL could hardly do better.
    fn lines(&self, database: &Database, shape: Shape, part: Part) -> String {
        let period = self.period;
        let (members, alone) = (part.members(shape), part.alone(shape));
        let payment_id = self.payment_id(
            database,
            "case when billing_group_id is null then 'rental' else 'group' end",
            "coalesce(billing_group_id, rental_id)",
        );
        format!(
            "insert into payment_lines (tenant_id, payment_id, rental_id, billing_period, amount, tax_amount, arrears,
                                        product_name, serial_number, imported, live)
             select 'bench', {payment_id}, rental_id, '{period}', monthly_amount, monthly_amount * 19 / 100, false,
                    product_name, serial_number, false, true
             from rentals
             where tenant_id = 'bench' and ({members} or {alone})"
        )
    }

    fn outcomes_of_groups(&self, database: &Database, part: Part) -> String {
        let Self { run_date, run_id, .. } = self;
        let in_groups = part.groups("billing_group_id");
        let payment_id = self.payment_id(database, "'group'", "billing_group_id");
        format!(
            "insert into outcomes (tenant_id, run_date, subject_kind, subject_id, outcome, payment_id, rentals, run_id)
             select 'bench', '{run_date}', 'group', billing_group_id, 'billed', {payment_id},
                    '[\"' || string_agg(rental_id, '\",\"' order by rental_id) || '\"]', '{run_id}'
             from rentals
             where tenant_id = 'bench' and billing_group_id is not null and {in_groups}
             group by billing_group_id"
        )
    }

    fn outcomes_of_rentals(&self, database: &Database, part: Part) -> String {
        let Self { run_date, run_id, .. } = self;
        let of_customers = part.of_customers();
        let payment_id = self.payment_id(database, "'rental'", "rental_id");
        format!(
            "insert into outcomes (tenant_id, run_date, subject_kind, subject_id, outcome, payment_id, rentals, run_id)
             select 'bench', '{run_date}', 'rental', rental_id, 'billed', {payment_id}, '[\"' || rental_id || '\"]', '{run_id}'
             from rentals
             where tenant_id = 'bench' and start_day = 15 and billed_group_id is null and {of_customers}"
        )
    }

    /// As long as billday's, and scattered as its hashes are: a number times a large prime comes out in no order.
    fn payment_id(&self, database: &Database, kind: &str, subject_id: &str) -> String {
        let number =
            format!("(cast(substr({subject_id}, 2) as bigint) * 2 + case {kind} when 'group' then 1 else 0 end)");
        format!(
            "'pay_' || '{period}' || {scattered} || {plain}",
            period = self.period.replace('-', ""),
            scattered = database.hex(&format!("{number} * 2654435761 % 4294967296")),
            plain = database.hex(&number),
        )
    }

    fn outbox(&self, shape: Shape, part: Part) -> String {
        let payments = match part {
            Part::All => format!("p.billing_period = '{}'", self.period),
            Part::Customers { .. } => {
                let (first, last) = self.sequences(shape, part);
                format!("p.series = 'INV-2026-{{seq:06}}' and p.sequence > {first} and p.sequence <= {last}")
            }
        };
        format!(
            "insert into outbox (tenant_id, payment_id, kind, recipient, locale, state, attempts, next_at, fence, created_at)
             select 'bench', p.payment_id, 'invoice', c.billing_email, 'en', 'pending', 0, 1, 0, 1
             from payments p
             join customers c on c.tenant_id = 'bench' and c.customer_id = p.customer_id
             where p.tenant_id = 'bench' and {payments}"
        )
    }

    fn series(&self, shape: Shape, part: Part) -> String {
        let (_, last) = self.sequences(shape, part);
        let run_date = self.run_date;
        format!(
            "insert into invoice_series (tenant_id, series, first, last, last_issued_on)
             values ('bench', 'INV-2026-{{seq:06}}', 1, {last}, '{run_date}')
             on conflict (tenant_id, series) do update set last = {last}, last_issued_on = '{run_date}'"
        )
    }

    fn run(&self) -> String {
        let Self { run_date, run_id, .. } = self;
        format!(
            "insert into runs (tenant_id, run_id, run_date, kind, requested_by, state, batches, billed, already_billed, skipped,
                               parked, withheld, never_charged, totals, version, started_at, beat_at, finished_at)
             values ('bench', '{run_id}', '{run_date}', 'explicit', 'bench', 'completed', 1, 0, 0, 0, 0, 0, 0, '{{}}', '0', 1, 1, 1)"
        )
    }

    fn completed_date(&self) -> String {
        format!(
            "insert into completed_dates (tenant_id, run_date, run_id, completed_at)
             values ('bench', '{}', '{}', 1)",
            self.run_date, self.run_id
        )
    }

    /// Queries whose answers, one text each, are equal after the floor and after a real run.
    pub fn fingerprints(&self) -> [String; 5] {
        let Self { period, run_date, .. } = self;
        [
            format!(
                "select 'payments ' || count(*) || ' ' || sum(total) || ' ' || sum(tax_amount) || ' ' || sum(line_count) || ' '
                        || min(sequence) || ' ' || max(sequence) || ' ' || count(distinct invoice_number)
                 from payments where billing_period = '{period}'"
            ),
            format!(
                "select 'lines ' || count(*) || ' ' || sum(amount) || ' ' || sum(tax_amount)
                 from payment_lines where billing_period = '{period}'"
            ),
            format!("select 'outcomes ' || count(*) || ' ' || sum(length(rentals)) from outcomes where run_date = '{run_date}'"),
            format!(
                "select 'mails ' || count(*) || ' ' || sum(length(o.recipient)) from outbox o
                 join payments p on p.tenant_id = o.tenant_id and p.payment_id = o.payment_id
                 where p.billing_period = '{period}'"
            ),
            format!(
                "select 'series ' || last || ' ' || (select count(*) from completed_dates where run_date = '{run_date}')
                 from invoice_series"
            ),
        ]
    }
}
