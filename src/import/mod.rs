//! Bringing records in from files: all files of one call land together, or not at all.
//!
//! ```text
//! files ─► pass 1: tenants ────────────► store      their zones and currencies
//!       └► pass 2: everything else ────► store      chunk by chunk, in any order
//!                                          └► membership, references, who holds which period ─► commit, or refuse
//! ```
//!
//! A thread reads, the transaction writes, a few chunks lie between them: memory stays flat however large a file is. Files
//! are read twice because a record cannot be understood without its tenant, and the order of records means nothing.

mod examine;
mod fields;
mod files;
mod logo;
mod payment;
mod read;
mod record;
mod report;
mod source;
mod tenant;
mod wording;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use tokio::sync::mpsc;

use crate::input::value::short;
use crate::store::audit::AuditEntry;
use crate::store::import::{
    CustomerContent, Finding, Findings, GroupContent, ImportCall, Incoming, PaymentContent, Rejected, RentalContent,
    TenantContent, Written,
};
use crate::store::{self, Session, Store, StoreError};

pub use examine::{Examined, examine};
use files::{Files, Opened};
use read::{Piece, read};
use record::{Basics, Context, Record, Refusal, read_record};
pub use report::{Complaint, Counts, ImportSummary, Warning};
use report::{Complaints, Place};
pub use tenant::{TENANT_FIELDS, TenantChange, TenantFields};
use wording::Worded;

/// Something to import from.
#[derive(Debug, Clone)]
pub enum ImportFile {
    /// A file, or a pipe.
    Path(PathBuf),
    /// What the program itself holds, with a name for messages.
    Text { name: String, text: Vec<u8> },
}

impl ImportFile {
    /// A text with a name for messages.
    pub fn text(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self::Text { name: name.into(), text: text.into() }
    }
}

/// The kinds of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Tenant,
    Customer,
    Rental,
    Group,
    Payment,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Tenant, Self::Customer, Self::Rental, Self::Group, Self::Payment];

    pub fn singular(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Customer => "customer",
            Self::Rental => "rental",
            Self::Group => "group",
            Self::Payment => "payment",
        }
    }

    /// A record of this kind as messages name it; one without an id by its kind alone.
    fn record(self, id: Option<&str>) -> String {
        match id {
            Some(id) => format!("{} '{}'", self.singular(), short(id)),
            None => self.singular().to_owned(),
        }
    }

    pub fn plural(self) -> &'static str {
        match self {
            Self::Tenant => "tenants",
            Self::Customer => "customers",
            Self::Rental => "rentals",
            Self::Group => "groups",
            Self::Payment => "payments",
        }
    }

    /// The field that holds the id of such a record.
    fn id_field(self) -> &'static str {
        match self {
            Self::Tenant => "tenantId",
            Self::Customer => "customerId",
            Self::Rental => "rentalId",
            Self::Group => "billingGroupId",
            Self::Payment => "paymentId",
        }
    }
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Records are wrong: the first ones, and how many faults there are in all.
    #[error("{}", report::refusal(.0, *.1))]
    Refused(Vec<Complaint>, u64),
    #[error("cannot read {0}: {1}")]
    Unreadable(String, std::io::Error),
    /// One file, by the two names that the call gives it.
    #[error("{}", report::named_twice(.0, .1))]
    NamedTwice(String, String),
    #[error("nothing was imported: {0}")]
    Store(StoreError),
}

/// How often the call is made again when the database was busy, or another process wrote the same meanwhile.
const ATTEMPTS: usize = 3;
/// Records that go to the database together: enough to make a statement's cost small, few enough to stay in the caches.
const CHUNK: usize = 1_000;
/// Members and line items that go together with them: a group can have 100,000.
const CHUNK_PARTS: usize = 20_000;
/// Chunks that wait between reading and writing.
const WAITING: usize = 4;

/// Imports files; `tenant` is that of records which name none.
pub async fn import(
    store: &Store,
    files: &[ImportFile],
    tenant: Option<&str>,
    now: DateTime<Utc>,
) -> Result<ImportSummary, ImportError> {
    import_changing(store, files, tenant, None, now).await
}

/// The same, as somebody's change of one tenant.
async fn import_changing(
    store: &Store,
    files: &[ImportFile],
    tenant: Option<&str>,
    change: Option<(String, TenantChange)>,
    now: DateTime<Utc>,
) -> Result<ImportSummary, ImportError> {
    let files = files.to_vec();
    let files = tokio::task::spawn_blocking(move || Files::open(&files))
        .await
        .map_err(|panicked| ImportError::Store(anyhow!("reading the files failed: {panicked}").into()))??;
    let job = Arc::new(Job { files, tenant: tenant.map(str::to_owned), change, now });
    let mut attempt = 1;
    loop {
        let job = Arc::clone(&job);
        let result = store.with_tx(move |session| Box::pin(run(session, job))).await;
        match result {
            Ok(summary) => return Ok(summary),
            Err(StoreError::Conflict | StoreError::Busy(_)) if attempt < ATTEMPTS => attempt += 1,
            Err(StoreError::Other(error)) => {
                return Err(match error.downcast::<Refused>() {
                    Ok(Refused(complaints)) => ImportError::Refused(complaints.first, complaints.total),
                    Err(error) => ImportError::Store(error.into()),
                });
            }
            Err(error) => return Err(ImportError::Store(error)),
        }
    }
}

/// What one call is about.
struct Job {
    files: Files,
    tenant: Option<String>,
    /// The one tenant that somebody changes by hand.
    change: Option<(String, TenantChange)>,
    now: DateTime<Utc>,
}

/// Takes the complaints out of the transaction, which their being an error rolls back.
#[derive(Debug, thiserror::Error)]
#[error("the import was refused")]
struct Refused(Complaints);

/// All of one call, inside its transaction.
async fn run(session: &mut Session, job: Arc<Job>) -> store::Result<ImportSummary> {
    let import_id = uuid::Uuid::now_v7().to_string();
    let call = ImportCall { import_id, now: job.now.timestamp_micros(), by: "import".to_owned() };
    let mut work = Work { job, call, complaints: Complaints::default(), summary: ImportSummary::default() };
    session.begin_import().await?;
    if let Some((tenant_id, change)) = &work.job.change {
        session.lock_tenant(tenant_id).await?;
        if stored_fields(session, tenant_id).await? != change.before {
            return Err(StoreError::Conflict);
        }
    }

    let tenants = work.pass(session, Pass::Tenants, HashMap::new()).await?;
    if tenants.broken {
        return work.end();
    }
    let mut basics = stored_basics(session).await?;
    for (tenant_id, refused) in tenants.refused {
        basics.entry(tenant_id).or_insert(refused);
    }
    work.pass(session, Pass::Others, basics).await?;

    let findings = session.settle_members(&work.call).await?;
    work.take(findings);
    for tenant_id in &work.summary.tenants {
        session.refresh_billed_groups(tenant_id).await?;
    }
    let findings = session.check_references(&work.call).await?;
    work.take(findings);
    let findings = session.settle_payments(&work.call).await?;
    work.take(findings);
    session.end_import(&work.call).await?;
    match &work.job.change {
        Some((tenant_id, change)) => {
            let after = stored_fields(session, tenant_id).await?.unwrap_or_default();
            if change.before.as_ref() != Some(&after) {
                session.insert_audit(tenant_id, &tenant_entry(&work.call, tenant_id, change, &after)).await?;
            }
        }
        None => {
            for (tenant_id, records) in &work.summary.records {
                session.insert_audit(tenant_id, &audit_entry(&work.call, *records)).await?;
            }
        }
    }
    work.end()
}

async fn stored_fields(session: &mut Session, tenant_id: &str) -> store::Result<Option<TenantFields>> {
    Ok(session.tenant_content(tenant_id).await?.as_ref().map(TenantFields::of))
}

/// What somebody changed of a tenant: the fields that differ, before and after.
fn tenant_entry(call: &ImportCall, tenant_id: &str, change: &TenantChange, after: &TenantFields) -> AuditEntry {
    let before = change.before.clone().unwrap_or_default();
    let differing = |of: &TenantFields| -> String {
        let fields = of.iter().filter(|(name, _)| before.get(name) != after.get(name));
        serde_json::Value::from_iter(fields).to_string()
    };
    AuditEntry {
        audit_id: uuid::Uuid::now_v7().simple().to_string(),
        actor: change.actor.clone(),
        action: if change.before.is_some() { "update" } else { "create" }.to_owned(),
        kind: "tenant".to_owned(),
        object_id: tenant_id.to_owned(),
        state_before: change.before.as_ref().map(differing),
        state_after: Some(differing(after)),
        created_at: call.now,
    }
}

/// One entry a tenant and call: what each record changed would be as much again as the records themselves.
fn audit_entry(call: &ImportCall, records: u64) -> AuditEntry {
    AuditEntry {
        audit_id: uuid::Uuid::now_v7().simple().to_string(),
        actor: "import".to_owned(),
        action: "import".to_owned(),
        kind: "import".to_owned(),
        object_id: call.import_id.clone(),
        state_before: None,
        state_after: Some(format!("{{\"records\":{records}}}")),
        created_at: call.now,
    }
}

/// The zones and currencies of all tenants; one that cannot be read is as good as refused.
async fn stored_basics(session: &mut Session) -> store::Result<HashMap<String, Option<Basics>>> {
    let rows = session.list_tenant_basics().await?.into_iter();
    Ok(rows.map(|row| (row.tenant_id, Basics::of(&row.currency, &row.time_zone))).collect())
}

/// What has come of a call so far.
struct Work {
    job: Arc<Job>,
    call: ImportCall,
    complaints: Complaints,
    summary: ImportSummary,
}

impl Work {
    /// Reads all files once, in a thread of its own, and writes what it hands over.
    async fn pass(
        &mut self,
        session: &mut Session,
        pass: Pass,
        tenants: HashMap<String, Option<Basics>>,
    ) -> store::Result<PassReport> {
        let (sender, mut chunks) = mpsc::channel(WAITING);
        let job = Arc::clone(&self.job);
        let reading = tokio::task::spawn_blocking(move || {
            Reader::new(&job, pass, tenants, Box::new(|chunk| sender.blocking_send(chunk).is_ok())).read()
        });
        while let Some(chunk) = chunks.recv().await {
            self.write(session, chunk).await?;
        }
        let mut report = reading.await.map_err(|panicked| anyhow!("reading the files failed: {panicked}"))?;
        self.complaints.append(std::mem::take(&mut report.complaints));
        Ok(report)
    }

    async fn write(&mut self, session: &mut Session, chunk: Chunk) -> store::Result<()> {
        let call = &self.call;
        let summary = &mut self.summary;
        let (kind, written) = match chunk {
            Chunk::Tenants(records) => {
                summary.note_records(&records);
                (Kind::Tenant, session.import_tenants(call, records).await?)
            }
            Chunk::Customers(records) => {
                summary.note_records(&records);
                (Kind::Customer, session.import_customers(call, records).await?)
            }
            Chunk::Rentals(records) => {
                summary.note_records(&records);
                summary.note_tenants(&records);
                (Kind::Rental, session.import_rentals(call, records).await?)
            }
            Chunk::Groups(records) => {
                summary.note_records(&records);
                summary.note_tenants(&records);
                (Kind::Group, session.import_groups(call, records).await?)
            }
            Chunk::Payments(records) => {
                summary.note_records(&records);
                (Kind::Payment, session.import_payments(call, records).await?)
            }
            Chunk::Rejected(rejected) => return session.insert_rejected(&rejected).await,
        };
        let Written { findings, .. } = self.summary.count(kind, written);
        self.take(findings);
        Ok(())
    }

    /// Sorts what the store found into complaints and warnings.
    fn take(&mut self, findings: Vec<Findings>) {
        for finding in findings {
            let unnamed = finding.total - finding.first.len() as u64;
            let complaints = finding.first.iter().map(|found| self.word(finding.what, found));
            if finding.what.refused() {
                let complaints: Vec<(Place, Complaint)> = complaints.collect();
                complaints.into_iter().for_each(|(place, complaint)| self.complaints.push(place, complaint));
                self.complaints.total += unnamed;
            } else {
                let warnings: Vec<Warning> = complaints.map(|(_, complaint)| complaint).collect();
                self.summary.warn(finding.what, warnings, unnamed);
            }
        }
    }

    fn word(&self, what: Finding, found: &store::import::Found) -> (Place, Complaint) {
        let place = Place::from_number(found.place);
        let other = found.other.map(Place::from_number).map(|other| self.job.files.name_place(other));
        let Worded { record, field, message } = wording::word(what, found, other.as_deref());
        let file = self.job.files.name(place.file).to_owned();
        (place, Complaint { file, line: place.line, record, field: field.to_owned(), message })
    }

    fn end(self) -> store::Result<ImportSummary> {
        if self.complaints.total == 0 {
            return Ok(self.summary);
        }
        Err(StoreError::Other(anyhow::Error::new(Refused(self.complaints))))
    }
}

/// Which records a reading is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Tenants,
    Others,
}

/// Records of one kind, to be written together.
enum Chunk {
    Tenants(Vec<Incoming<TenantContent>>),
    Customers(Vec<Incoming<CustomerContent>>),
    Rentals(Vec<Incoming<RentalContent>>),
    Groups(Vec<Incoming<GroupContent>>),
    Payments(Vec<Incoming<PaymentContent>>),
    Rejected(Vec<Rejected>),
}

/// What a reading found wrong.
#[derive(Default)]
struct PassReport {
    complaints: Complaints,
    /// A file cannot be read to its end.
    broken: bool,
    /// Tenants whose record is refused: their own records are not blamed for it.
    refused: HashMap<String, Option<Basics>>,
}

/// Takes chunks; false if it wants no more.
type HandOver<'a> = Box<dyn FnMut(Chunk) -> bool + 'a>;

/// Reads all files once and hands over chunks; runs in a thread of its own.
struct Reader<'a> {
    job: &'a Job,
    pass: Pass,
    context: Context<'a>,
    hand_over: HandOver<'a>,
    report: PassReport,
    tenants: Vec<Incoming<TenantContent>>,
    customers: Vec<Incoming<CustomerContent>>,
    rentals: Vec<Incoming<RentalContent>>,
    groups: Vec<Incoming<GroupContent>>,
    payments: Vec<Incoming<PaymentContent>>,
    rejected: Vec<Rejected>,
    /// Members and line items in the chunks that are being filled.
    parts: usize,
}

impl<'a> Reader<'a> {
    fn new(job: &'a Job, pass: Pass, tenants: HashMap<String, Option<Basics>>, hand_over: HandOver<'a>) -> Self {
        Self {
            job,
            pass,
            context: Context { now: job.now, tenant: job.tenant.as_deref(), folder: PathBuf::new(), tenants },
            hand_over,
            report: PassReport::default(),
            tenants: Vec::new(),
            customers: Vec::new(),
            rentals: Vec::new(),
            groups: Vec::new(),
            payments: Vec::new(),
            rejected: Vec::new(),
            parts: 0,
        }
    }

    fn read(mut self) -> PassReport {
        for file in 0..self.job.files.len() {
            self.context.folder = self.job.files.folder(file);
            let result = match self.job.files.reader(file) {
                Ok(Opened(reader)) => read(reader, |piece| self.take(file, piece)),
                Err(error) => Err(read::Broken { line: 1, message: format!("cannot be read: {error}") }),
            };
            if let Err(broken) = result {
                self.report.broken = true;
                self.complain(Place { file, line: broken.line }, "", "", broken.message);
            }
        }
        self.flush(1);
        self.report
    }

    /// Takes one piece of a file; false if nobody wants more.
    fn take(&mut self, file: usize, piece: Piece) -> bool {
        let (line, kind, fields) = match piece {
            Piece::Record { line, kind, fields } => (line, kind, fields),
            Piece::Bad { line, field, message } => {
                if self.pass == Pass::Others {
                    self.complain(Place { file, line }, "", &field, message);
                }
                return true;
            }
        };
        let place = Place { file, line };
        let kind = kind.or_else(|| Kind::of_fields(&fields));
        match kind {
            Some(kind) if (kind == Kind::Tenant) == (self.pass == Pass::Tenants) => {
                match read_record(kind, &fields, place.to_number(), &self.context) {
                    Ok(Some(record)) => self.collect(record),
                    Ok(None) => {}
                    Err(refusal) => self.refuse(kind, place, refusal),
                }
                self.flush(CHUNK)
            }
            None if self.pass == Pass::Others => {
                let message = format!("its fields tell no kind of record{}: {}", Kind::meant(&fields), Kind::TOLD_BY);
                self.complain(place, "", "", message);
                true
            }
            _ => true,
        }
    }

    fn collect(&mut self, record: Record) {
        match record {
            Record::Tenant(record) => {
                // A logo weighs as much as many members do.
                self.parts += record.content.logo_file.as_ref().map_or(0, |file| file.bytes.len() / 1_000);
                self.tenants.push(*record);
            }
            Record::Customer(record) => self.customers.push(record),
            Record::Rental(record) => self.rentals.push(record),
            Record::Group(record) => {
                if let store::import::Claim::Said(members) = &record.content.members {
                    self.parts += members.len();
                }
                self.groups.push(record);
            }
            Record::Payment(record) => {
                self.parts += record.content.lines.len();
                self.payments.push(record);
            }
        }
    }

    fn refuse(&mut self, kind: Kind, place: Place, refusal: Refusal) {
        let record = kind.record(refusal.id.as_deref());
        for fault in refusal.faults {
            self.complain(place, &record, &fault.field, fault.message);
        }
        if let (Some(tenant_id), Some(id)) = (refusal.tenant_id, refusal.id) {
            if kind == Kind::Tenant {
                self.report.refused.insert(tenant_id, None);
            } else {
                self.rejected.push(Rejected { tenant_id, kind: kind.singular(), id });
            }
        }
    }

    fn complain(&mut self, place: Place, record: &str, field: &str, message: String) {
        let file = self.job.files.name(place.file).to_owned();
        let (record, field) = (record.to_owned(), field.to_owned());
        self.report.complaints.push(place, Complaint { file, line: place.line, record, field, message });
    }

    /// Hands over what has `enough` records; false if nobody takes it any more.
    fn flush(&mut self, enough: usize) -> bool {
        let all = self.parts >= CHUNK_PARTS;
        let full = |count: usize| count >= enough || (all && count > 0);
        let mut chunks = Vec::new();
        if full(self.tenants.len()) {
            chunks.push(Chunk::Tenants(std::mem::take(&mut self.tenants)));
        }
        if full(self.customers.len()) {
            chunks.push(Chunk::Customers(std::mem::take(&mut self.customers)));
        }
        if full(self.rentals.len()) {
            chunks.push(Chunk::Rentals(std::mem::take(&mut self.rentals)));
        }
        if full(self.groups.len()) {
            chunks.push(Chunk::Groups(std::mem::take(&mut self.groups)));
        }
        if full(self.payments.len()) {
            chunks.push(Chunk::Payments(std::mem::take(&mut self.payments)));
        }
        if full(self.rejected.len()) {
            chunks.push(Chunk::Rejected(std::mem::take(&mut self.rejected)));
        }
        if all {
            self.parts = 0;
        }
        chunks.into_iter().all(|chunk| (self.hand_over)(chunk))
    }
}
