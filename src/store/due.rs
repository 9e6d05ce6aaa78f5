//! Reading what is due on a date, in report order, a batch at a time, with flat memory.
//!
//! ```text
//! active groups of that billing day ──┐
//! rentals billed alone, start day 28 ─┤ merge by (customer, group before rental, key) ──► batches of subjects,
//! rentals billed alone, start day 29 ─┤                                                   each with rentals, history, customer
//!  …                                 ─┘
//! ```
//!
//! Each source is one range of one index, read by pages that continue after the last row, so that nothing is sorted and a
//! date on which nothing is due costs nothing.

use std::collections::{HashMap, HashSet, VecDeque};

use chrono::NaiveDate;
use serde::Deserialize;
use sqlx::FromRow;

use crate::domain::message::RecipientLists;
use crate::domain::plan::{self, BadRecord, DueRental, DueSubject, History, LOOK_BACK, Mark};
use crate::domain::tenant::BillingCycle;
use crate::domain::{BillingDay, BillingPeriod, Customer, Rental, Subject, SubjectKind, Tenant};

use super::dialect::{Dialect, Packed, from_json, packed_row};
use super::row::{CustomerRow, RentalRow, recipient_lists};
use super::{Result, Session, dialect, on};

/// Rows that one source reads ahead; with 31 sources of rentals at most a few megabytes.
const PAGE: i64 = 500;

/// A position in the due subjects of a date: everything up to and including it has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    customer_id: String,
    kind: Option<SubjectKind>,
    sort_key: String,
}

impl Position {
    /// The position of a subject.
    pub fn at(customer_id: String, kind: SubjectKind, sort_key: String) -> Self {
        Self { customer_id, kind: Some(kind), sort_key }
    }

    /// As it is kept in the database.
    pub fn to_text(&self) -> String {
        let kind = self.kind.map(SubjectKind::as_str);
        serde_json::to_string(&(&self.customer_id, kind, &self.sort_key)).unwrap_or_default()
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (customer_id, kind, sort_key): (String, String, String) = serde_json::from_str(text).ok()?;
        Some(Self::at(customer_id, SubjectKind::parse(&kind)?, sort_key))
    }
}

/// Walks the due subjects of one tenant and date in report order.
pub struct DueReader {
    tenant: Tenant,
    run_date: NaiveDate,
    period: BillingPeriod,
    wanted: Wanted,
    sources: Vec<Source>,
    position: Position,
}

/// Which of the due subjects are read; all of them unless something is set.
#[derive(Default)]
struct Wanted {
    only: Option<Subject>,
    /// Only those without an outcome on record whose own records were last changed before this instant.
    unrecorded_before: Option<i64>,
}

/// A subject as it stands in a batch: what the planner needs, and what is already on record.
#[derive(Debug)]
pub struct Due {
    pub subject: DueSubject,
    /// This date's outcome for it is already written.
    pub recorded: bool,
}

struct Source {
    kind: SubjectKind,
    day: BillingDay,
    page: VecDeque<Candidate>,
    after: (String, String),
    exhausted: bool,
}

enum Candidate {
    Group(GroupCandidate),
    Rental(Box<RentalCandidate>),
}

packed_row! {
    struct GroupCandidate {
        billing_group_id: String,
        customer_id: String,
        group_name: String,
        invoice_recipients: Option<String>,
        invoice_cc: Option<String>,
        sort_key: String,
        members: i64,
        #[serde(deserialize_with = "from_json::bool")]
        billed: bool,
        #[serde(deserialize_with = "from_json::bool")]
        recorded: bool,
    }
}

#[derive(FromRow, Deserialize)]
struct RentalCandidate {
    #[sqlx(flatten)]
    rental: RentalRow,
    #[serde(deserialize_with = "from_json::bool")]
    billed: bool,
    #[serde(deserialize_with = "from_json::bool")]
    recorded: bool,
}

impl Packed for RentalCandidate {
    fn packed() -> String {
        format!("json_array({}, billed, recorded)", RentalRow::packed())
    }
}

impl Candidate {
    fn key(&self) -> (&str, &str) {
        match self {
            Self::Group(group) => (&group.customer_id, &group.sort_key),
            Self::Rental(candidate) => (&candidate.rental.customer_id, &candidate.rental.sort_key),
        }
    }
}

impl DueReader {
    /// Starts before the first due subject; with `only`, every other one is passed over.
    pub fn new(tenant: &Tenant, run_date: NaiveDate, only: Option<Subject>) -> Self {
        Self::with(tenant, run_date, Wanted { only, unrecorded_before: None })
    }

    /// Starts before the first due subject that has no outcome of this date although its records are as they were at the
    /// instant `before`: nothing on a date that was run completely then.
    pub fn unrecorded(tenant: &Tenant, run_date: NaiveDate, before: i64) -> Self {
        Self::with(tenant, run_date, Wanted { only: None, unrecorded_before: Some(before) })
    }

    fn with(tenant: &Tenant, run_date: NaiveDate, wanted: Wanted) -> Self {
        let mut sources: Vec<(SubjectKind, BillingDay)> = Vec::new();
        let wants = |kind| wanted.only.as_ref().is_none_or(|subject| subject.kind == kind);
        if wants(SubjectKind::Group) {
            // A group's day is 28 at the most and never clamps: only the date's own number is due.
            sources.extend(BillingDay::due_on(run_date).take(1).map(|day| (SubjectKind::Group, day)));
        }
        if wants(SubjectKind::Rental) {
            let days: Vec<BillingDay> = match tenant.billing_cycle {
                BillingCycle::StartDate => BillingDay::due_on(run_date).collect(),
                // Whatever day they started on, all are due on the fixed day, and on no other.
                BillingCycle::FixedDay(day) if day.date_in(BillingPeriod::of(run_date)) == run_date => {
                    BillingDay::all()
                }
                BillingCycle::FixedDay(_) => Vec::new(),
            };
            sources.extend(days.into_iter().map(|day| (SubjectKind::Rental, day)));
        }
        let sources = sources
            .into_iter()
            .map(|(kind, day)| Source { kind, day, page: VecDeque::new(), after: Default::default(), exhausted: false })
            .collect();
        Self {
            tenant: tenant.clone(),
            run_date,
            period: BillingPeriod::of(run_date),
            wanted,
            sources,
            position: Position::default(),
        }
    }

    /// How far it has read.
    pub fn position(&self) -> Position {
        self.position.clone()
    }

    /// Goes back (or on) to a position: the next batch begins right after it.
    pub fn seek(&mut self, position: &Position) {
        for source in &mut self.sources {
            source.page.clear();
            source.exhausted = false;
            // Of the position's own customer, groups come first: a source of rentals begins before that customer's first one.
            source.after = match position.kind.map(|kind| source.kind.cmp(&kind)) {
                None => Default::default(),
                Some(std::cmp::Ordering::Equal) => (position.customer_id.clone(), position.sort_key.clone()),
                Some(std::cmp::Ordering::Less) => (position.customer_id.clone(), "\u{10FFFF}".to_owned()),
                Some(std::cmp::Ordering::Greater) => (position.customer_id.clone(), String::new()),
            };
        }
        self.position = position.clone();
    }

    /// The next subjects with about `rentals_max` rentals, one at least; empty at the end. A group is never split.
    ///
    /// With `through`, it stops after that position.
    pub async fn next_batch(
        &mut self,
        session: &mut Session,
        rentals_max: usize,
        through: Option<&Position>,
    ) -> Result<Vec<Due>> {
        let mut candidates: Vec<(BillingDay, Candidate)> = Vec::new();
        let mut rentals = 0;
        while rentals < rentals_max {
            let Some(source) = self.next_source(session).await? else { break };
            let Some(candidate) = self.sources[source].page.front() else { break };
            let (customer_id, sort_key) = candidate.key();
            let position = Position {
                customer_id: customer_id.to_owned(),
                kind: Some(self.sources[source].kind),
                sort_key: sort_key.to_owned(),
            };
            let size = match candidate {
                Candidate::Group(group) => group.members.max(1) as usize,
                Candidate::Rental(_) => 1,
            };
            let full = rentals > 0 && rentals + size > rentals_max;
            if full || through.is_some_and(|through| position > *through) {
                break;
            }
            rentals += size;
            self.position = position;
            let day = self.sources[source].day;
            candidates.extend(self.sources[source].page.pop_front().map(|candidate| (day, candidate)));
        }
        self.complete(session, candidates).await
    }

    /// The source that holds the next subject, with its page read.
    async fn next_source(&mut self, session: &mut Session) -> Result<Option<usize>> {
        for source in &mut self.sources {
            if source.page.is_empty() && !source.exhausted {
                source.page = match source.kind {
                    SubjectKind::Group => {
                        group_page(session, &self.tenant.tenant_id, self.run_date, self.period, source, &self.wanted)
                            .await?
                    }
                    SubjectKind::Rental => {
                        rental_page(session, &self.tenant.tenant_id, self.run_date, self.period, source, &self.wanted)
                            .await?
                    }
                };
                source.exhausted = (source.page.len() as i64) < PAGE;
                if let Some(last) = source.page.back() {
                    let (customer_id, sort_key) = last.key();
                    source.after = (customer_id.to_owned(), sort_key.to_owned());
                }
            }
        }
        let next = self.sources.iter().enumerate().filter_map(|(index, source)| {
            let (customer_id, sort_key) = source.page.front()?.key();
            Some(((customer_id, source.kind, sort_key), index))
        });
        Ok(next.min().map(|(_, index)| index))
    }

    /// Adds members, ledger history and customers to the candidates.
    async fn complete(&self, session: &mut Session, candidates: Vec<(BillingDay, Candidate)>) -> Result<Vec<Due>> {
        let mut groups = Vec::new();
        let mut rental_ids = Vec::new();
        let mut customer_ids = HashSet::new();
        for (_, candidate) in &candidates {
            let (id, billed) = match candidate {
                Candidate::Group(group) => (&group.billing_group_id, group.billed),
                Candidate::Rental(candidate) => (&candidate.rental.rental_id, candidate.billed),
            };
            if !billed {
                customer_ids.insert(candidate.key().0.to_owned());
                match candidate {
                    Candidate::Group(_) => groups.push(id.clone()),
                    Candidate::Rental(_) => rental_ids.push(id.clone()),
                }
            }
        }
        let tenant_id = &self.tenant.tenant_id;
        let mut members = members_by_group(session, tenant_id, &groups).await?;
        rental_ids.extend(members.values().flatten().map(|row| row.rental_id.clone()));
        let mut histories = histories(session, tenant_id, &rental_ids, self.period).await?;
        let customers = customers(session, tenant_id, customer_ids.into_iter().collect()).await?;
        Ok(candidates
            .into_iter()
            .map(|(day, candidate)| {
                let mut own_recipients = Ok(RecipientLists::default());
                let (subject, name, day, billed, recorded, customer_id, rows) = match candidate {
                    Candidate::Group(group) => {
                        let rows = members.remove(&group.billing_group_id).unwrap_or_default();
                        let (to, copies) = (group.invoice_recipients.as_deref(), group.invoice_cc.as_deref());
                        own_recipients = recipient_lists("group", &group.billing_group_id, to, copies);
                        let subject = Subject::group(group.billing_group_id);
                        (subject, group.group_name, day, group.billed, group.recorded, group.customer_id, rows)
                    }
                    Candidate::Rental(candidate) => {
                        let RentalCandidate { rental, billed, recorded } = *candidate;
                        let subject = Subject::rental(&rental.rental_id);
                        let customer_id = rental.customer_id.clone();
                        let day = self.tenant.day_alone(rental.start_date);
                        (subject, String::new(), day, billed, recorded, customer_id, vec![rental])
                    }
                };
                let rentals = rows.into_iter().map(|row| due_rental(row, &mut histories)).collect();
                let customer = customers.get(&customer_id).cloned().map(|customer| {
                    let customer = customer?;
                    let recipients = own_recipients?.or(customer.recipients.clone());
                    Ok(Customer { recipients, ..customer })
                });
                let subject = DueSubject { subject, customer_id, name, day, already_billed: billed, customer, rentals };
                Due { subject, recorded }
            })
            .collect())
    }
}

fn due_rental(row: RentalRow, histories: &mut HashMap<String, History>) -> Result<DueRental, BadRecord> {
    let mut history = histories.remove(&row.rental_id).unwrap_or_default();
    history.last_imported = row.closed_through.as_deref().and_then(BillingPeriod::parse);
    Ok(DueRental { rental: row.try_into()?, history })
}

// Not `exists` in these two: PostgreSQL may answer that from a hash of all payments of the period, made anew for each page, so
// that a run would take quadratic time. A counted subquery is one look into the unique index on either database.

async fn group_page(
    session: &mut Session,
    tenant_id: &str,
    run_date: NaiveDate,
    period: BillingPeriod,
    source: &Source,
    wanted: &Wanted,
) -> Result<VecDeque<Candidate>> {
    let rows = on!(session, |conn| {
        let query = dialect::packed::<Db, GroupCandidate>(
            "select g.billing_group_id, g.customer_id, g.group_name, g.invoice_recipients, g.invoice_cc, g.sort_key,
                (select count(*) from rentals r
                 where r.tenant_id = g.tenant_id and r.billing_group_id = g.billing_group_id) as members,
                (select count(*) from payments p
                       where p.tenant_id = g.tenant_id and p.subject_kind = 'group'
                         and p.subject_id = g.billing_group_id and p.billing_period = $5 and p.live) > 0 as billed,
                (select count(*) from outcomes o
                       where o.tenant_id = g.tenant_id and o.run_date = $6 and o.subject_kind = 'group'
                         and o.subject_id = g.billing_group_id) > 0 as recorded
         from billing_groups g
         where g.tenant_id = $1 and g.billing_day = $2 and g.status = 'active'
           and (g.customer_id, g.sort_key) > ($3, $4)
           and (cast($7 as text) is null or g.billing_group_id = $7)
           and (cast($9 as bigint) is null or g.changed_at < $9
                and not exists(select 1 from outcomes o
                               where o.tenant_id = g.tenant_id and o.run_date = $6 and o.subject_kind = 'group'
                                 and o.subject_id = g.billing_group_id))
         order by g.customer_id, g.sort_key
         limit $8",
        )
        .bind(tenant_id)
        .bind(i64::from(source.day.number()))
        .bind(&source.after.0)
        .bind(&source.after.1)
        .bind(period.to_string())
        .bind(run_date)
        .bind(wanted.only.as_ref().map(|subject| &subject.id))
        .bind(PAGE)
        .bind(wanted.unrecorded_before);
        Db::fetch_packed::<GroupCandidate>(query, conn).await?
    });
    Ok(rows.into_iter().map(Candidate::Group).collect())
}

async fn rental_page(
    session: &mut Session,
    tenant_id: &str,
    run_date: NaiveDate,
    period: BillingPeriod,
    source: &Source,
    wanted: &Wanted,
) -> Result<VecDeque<Candidate>> {
    let rows = on!(session, |conn| {
        let query = dialect::packed::<Db, RentalCandidate>(
        "select r.rental_id, r.customer_id, r.billing_group_id, r.monthly_amount, r.currency, r.status, r.start_date,
                r.end_date, r.contract_length, r.ended_on, r.closed_through, r.product_name, r.serial_number, r.sort_key,
                (select count(*) from payments p
                       where p.tenant_id = r.tenant_id and p.subject_kind = 'rental'
                         and p.subject_id = r.rental_id and p.billing_period = $5 and p.live) > 0 as billed,
                (select count(*) from outcomes o
                       where o.tenant_id = r.tenant_id and o.run_date = $6 and o.subject_kind = 'rental'
                         and o.subject_id = r.rental_id) > 0 as recorded
         from rentals r
         where r.tenant_id = $1 and r.start_day = $2 and r.billed_group_id is null
           and (r.customer_id, r.sort_key) > ($3, $4)
           and (cast($7 as text) is null or r.rental_id = $7)
           and (cast($9 as bigint) is null or r.changed_at < $9
                and not exists(select 1 from billing_groups g
                               where g.tenant_id = r.tenant_id and g.billing_group_id = r.billing_group_id
                                 and g.changed_at >= $9)
                and not exists(select 1 from outcomes o
                               where o.tenant_id = r.tenant_id and o.run_date = $6 and o.subject_kind = 'rental'
                                 and o.subject_id = r.rental_id))
         order by r.customer_id, r.sort_key
         limit $8"
    )
    .bind(tenant_id)
    .bind(i64::from(source.day.number()))
    .bind(&source.after.0)
    .bind(&source.after.1)
    .bind(period.to_string())
    .bind(run_date)
    .bind(wanted.only.as_ref().map(|subject| &subject.id))
    .bind(PAGE)
        .bind(wanted.unrecorded_before);
        Db::fetch_packed::<RentalCandidate>(query, conn).await?
    });
    Ok(rows.into_iter().map(|row| Candidate::Rental(Box::new(row))).collect())
}

async fn members_by_group(
    session: &mut Session,
    tenant_id: &str,
    groups: &[String],
) -> Result<HashMap<String, Vec<RentalRow>>> {
    let mut members: HashMap<String, Vec<RentalRow>> = HashMap::new();
    if groups.is_empty() {
        return Ok(members);
    }
    let rows = on!(session, |conn| {
        let query = dialect::packed_with_keys::<Db, RentalRow>(
            "select rental_id, customer_id, billing_group_id, monthly_amount, currency, status, start_date, end_date,
                contract_length, ended_on, closed_through, product_name, serial_number, sort_key
         from rentals
         where tenant_id = $2 and billing_group_id in $keys",
            groups,
        )
        .bind(tenant_id);
        Db::fetch_packed::<RentalRow>(query, conn).await?
    });
    for row in rows {
        if let Some(group) = row.billing_group_id.clone() {
            members.entry(group).or_default().push(row);
        }
    }
    Ok(members)
}

async fn customers(
    session: &mut Session,
    tenant_id: &str,
    ids: Vec<String>,
) -> Result<HashMap<String, Result<Customer, BadRecord>>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = on!(session, |conn| {
        let query = dialect::packed_with_keys::<Db, CustomerRow>(
            "select c.customer_id, c.billing_email, c.invoice_recipients, c.invoice_cc, c.tax_treatment, c.payment_terms_days, c.locale, c.party_id,
                b.body as buyer
         from customers c
         left join parties b on b.tenant_id = c.tenant_id and b.party_id = c.party_id
         where c.tenant_id = $2 and c.customer_id in $keys",
            &ids,
        )
        .bind(tenant_id);
        Db::fetch_packed::<CustomerRow>(query, conn).await?
    });
    Ok(rows.into_iter().map(|row| (row.customer_id.clone(), row.try_into())).collect())
}

packed_row! {
    struct LedgerRow {
        rental_id: String,
        line_count: i64,
        first: String,
        recent: i64,
    }
}

packed_row! {
    struct MarkRow {
        rental_id: String,
        billing_period: String,
        state: String,
    }
}

/// What the ledger knows of each rental, seen from `period`; a rental without lines and marks is absent.
async fn histories(
    session: &mut Session,
    tenant_id: &str,
    rental_ids: &[String],
    period: BillingPeriod,
) -> Result<HashMap<String, History>> {
    if rental_ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = on!(session, |conn| {
        // One bit a period, from $3 (the run's own) back to $15: a rental has one line a period at the most.
        let mut query = dialect::packed_with_keys::<Db, LedgerRow>(
            "select rental_id, count(*) as line_count, min(billing_period) as first,
                    cast(sum(case billing_period
                        when $3 then 1 when $4 then 2 when $5 then 4 when $6 then 8 when $7 then 16 when $8 then 32
                        when $9 then 64 when $10 then 128 when $11 then 256 when $12 then 512 when $13 then 1024
                        when $14 then 2048 when $15 then 4096 else 0 end) as bigint) as recent
             from payment_lines
             where tenant_id = $2 and live and rental_id in $keys
             group by rental_id",
            rental_ids,
        )
        .bind(tenant_id);
        for back in 0..=LOOK_BACK {
            query = query.bind(period.plus(-back).to_string());
        }
        Db::fetch_packed::<LedgerRow>(query, conn).await?
    });
    let mut histories: HashMap<String, History> = rows
        .into_iter()
        .map(|row| {
            let history = History {
                line_count: row.line_count as u32,
                first: BillingPeriod::parse(&row.first),
                recent: row.recent as u32,
                ..History::default()
            };
            (row.rental_id, history)
        })
        .collect();
    let marks = on!(session, |conn| {
        let query = dialect::packed_with_keys::<Db, MarkRow>(
            "select rental_id, billing_period, state
         from arrears a
         where tenant_id = $2 and rental_id in $keys
           and not exists(select 1 from payment_lines l
                          where l.tenant_id = a.tenant_id and l.rental_id = a.rental_id
                            and l.billing_period = a.billing_period and l.live)",
            rental_ids,
        )
        .bind(tenant_id);
        Db::fetch_packed::<MarkRow>(query, conn).await?
    });
    for row in marks {
        if let (Some(period), Some(mark)) = (BillingPeriod::parse(&row.billing_period), Mark::parse(&row.state)) {
            histories.entry(row.rental_id).or_default().marks.push((period, mark));
        }
    }
    Ok(histories)
}

/// A group or rental that has an id that was asked for.
#[derive(Debug, Clone, FromRow)]
pub struct Billed {
    pub tenant_id: String,
    pub kind: String,
    /// The active group that bills a rental.
    pub billed_group_id: Option<String>,
}

/// A rental with what its next billing date depends on.
#[derive(FromRow)]
struct NextRow {
    #[sqlx(flatten)]
    rental: RentalWithDay,
    billed: bool,
}

/// A rental with the day of the active group that bills it, if there is one.
#[derive(FromRow, Deserialize)]
pub(super) struct RentalWithDay {
    #[sqlx(flatten)]
    pub rental: RentalRow,
    group_day: Option<i64>,
}

impl Packed for RentalWithDay {
    fn packed() -> String {
        format!("json_array({}, group_day)", RentalRow::packed())
    }
}

impl RentalWithDay {
    /// The day on which its present subject bills it.
    pub fn day(&self, tenant: &Tenant) -> BillingDay {
        self.group_day.and_then(BillingDay::fixed).unwrap_or_else(|| tenant.day_alone(self.rental.start_date))
    }
}

impl Session {
    /// The rentals that a billing date before `run_date` passed over without ever charging them: how many there are, and the
    /// first `keep_max` by id.
    pub async fn passed_over(
        &mut self,
        tenant: &Tenant,
        run_date: NaiveDate,
        keep_max: usize,
    ) -> Result<(u64, Vec<Rental>)> {
        let (mut count, mut kept) = (0, Vec::new());
        let mut after = String::new();
        loop {
            let rows: Vec<RentalWithDay> = on!(self, |conn| {
                let query = dialect::packed::<Db, RentalWithDay>(
                    "select r.rental_id, r.customer_id, r.billing_group_id, r.monthly_amount, r.currency, r.status,
                        r.start_date, r.end_date, r.contract_length, r.ended_on, r.closed_through, r.product_name,
                        r.serial_number, r.sort_key, g.billing_day as group_day
                 from uncharged_rentals u
                 join rentals r on r.tenant_id = u.tenant_id and r.rental_id = u.rental_id
                 left join billing_groups g on g.tenant_id = r.tenant_id and g.billing_group_id = r.billed_group_id
                 where u.tenant_id = $1 and u.rental_id > $2 and r.start_date < $3
                 order by u.rental_id
                 limit 2000",
                )
                .bind(&tenant.tenant_id)
                .bind(&after)
                .bind(run_date);
                Db::fetch_packed::<RentalWithDay>(query, conn).await?
            });
            let Some(last) = rows.last() else { return Ok((count, kept)) };
            after = last.rental.rental_id.clone();
            for row in rows {
                let day = row.day(tenant);
                // One that cannot be read is parked when it is due; it is not counted here.
                let Ok(rental) = row.rental.try_into() else { continue };
                if plan::passed_over(&rental, day, tenant, run_date) {
                    count += 1;
                    if kept.len() < keep_max {
                        kept.push(rental);
                    }
                }
            }
        }
    }

    /// The day on which a subject is billed; `None` for a group that is inactive and for a rental that a group bills.
    pub async fn billing_day(&mut self, tenant: &Tenant, subject: &Subject) -> Result<Option<BillingDay>> {
        match subject.kind {
            SubjectKind::Group => {
                let day: Option<i64> = on!(self, |conn| sqlx::query_scalar::<Db, i64>(
                    "select billing_day from billing_groups
                     where tenant_id = $1 and billing_group_id = $2 and status = 'active'"
                )
                .bind(&tenant.tenant_id)
                .bind(&subject.id)
                .fetch_optional(conn)
                .await?);
                Ok(day.and_then(BillingDay::fixed))
            }
            SubjectKind::Rental => {
                let start: Option<NaiveDate> = on!(self, |conn| sqlx::query_scalar::<Db, NaiveDate>(
                    "select start_date from rentals
                     where tenant_id = $1 and rental_id = $2 and billed_group_id is null"
                )
                .bind(&tenant.tenant_id)
                .bind(&subject.id)
                .fetch_optional(conn)
                .await?);
                Ok(start.map(|start| tenant.day_alone(start)))
            }
        }
    }

    /// The groups and rentals that have an id, of all tenants.
    pub async fn find_billed(&mut self, id: &str) -> Result<Vec<Billed>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, Billed>(
            "select tenant_id, 'group' as kind, cast(null as text) as billed_group_id
             from billing_groups
             where billing_group_id = $1
             union all
             select tenant_id, 'rental' as kind, billed_group_id
             from rentals
             where rental_id = $1
             order by tenant_id, kind"
        )
        .bind(id)
        .fetch_all(conn)
        .await?))
    }

    /// The next billing date of each rental on or after `today` (rule 28); one that has none, or cannot be read, is absent.
    pub async fn next_billing_dates(
        &mut self,
        tenant: &Tenant,
        rental_ids: &[String],
        today: NaiveDate,
    ) -> Result<HashMap<String, NaiveDate>> {
        let period = BillingPeriod::of(today);
        let rows: Vec<NextRow> = on!(self, |conn| {
            dialect::with_keys_as::<Db, NextRow>(
            "select r.rental_id, r.customer_id, r.billing_group_id, r.monthly_amount, r.currency, r.status, r.start_date,
                    r.end_date, r.contract_length, r.ended_on, r.closed_through, r.product_name, r.serial_number,
                    r.sort_key, g.billing_day as group_day,
                    (select count(*) from payments p
                     where p.tenant_id = r.tenant_id
                       and p.subject_kind = case when r.billed_group_id is null then 'rental' else 'group' end
                       and p.subject_id = coalesce(r.billed_group_id, r.rental_id)
                       and p.billing_period = $3 and p.live) > 0 as billed
             from rentals r
             left join billing_groups g on g.tenant_id = r.tenant_id and g.billing_group_id = r.billed_group_id
             where r.tenant_id = $2 and r.rental_id in $keys",
            rental_ids
        )
        .bind(&tenant.tenant_id)
        .bind(period.to_string())
        .fetch_all(conn)
        .await?
        });
        let mut histories = histories(self, &tenant.tenant_id, rental_ids, period).await?;
        Ok(rows
            .into_iter()
            .filter_map(|NextRow { rental, billed }| {
                let day = rental.day(tenant);
                let due = due_rental(rental.rental, &mut histories).ok()?;
                let date = plan::next_billing_date(tenant, &due, day, billed, today)?;
                Some((due.rental.rental_id, date))
            })
            .collect())
    }

    /// How many subjects are due on a date, for a progress bar.
    pub async fn count_due(&mut self, tenant: &Tenant, run_date: NaiveDate) -> Result<u64> {
        let mut count = 0;
        for source in DueReader::new(tenant, run_date, None).sources {
            let sql = match source.kind {
                SubjectKind::Group => {
                    "select count(*) from billing_groups where tenant_id = $1 and billing_day = $2 and status = 'active'"
                }
                SubjectKind::Rental => {
                    "select count(*) from rentals where tenant_id = $1 and start_day = $2 and billed_group_id is null"
                }
            };
            let due: i64 = on!(self, |conn| sqlx::query_scalar::<Db, i64>(sql)
                .bind(&tenant.tenant_id)
                .bind(i64::from(source.day.number()))
                .fetch_one(conn)
                .await?);
            count += due as u64;
        }
        Ok(count)
    }
}
