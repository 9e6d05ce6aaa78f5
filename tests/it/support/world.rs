//! A company to bill: master data by the real import, dates by the real run, one day after the other.

use std::collections::BTreeMap;

use billday::change::groups::{self, GroupView, IfMatch};
use billday::change::{By, NotMade, Refusal, settled, transact};
use billday::clock::{Clock, FixedClock};
use billday::domain::calendar::parse_date;
use billday::domain::{Subject, Tenant};
use billday::import::{ImportFile, ImportSummary, import};
use billday::render::report::{ReportFormat, write_json};
use billday::run::{Dates, RunSettings, Runner, Schedule, Unwatched};
use billday::store::parked::{ParkedFilter, ParkedRow};
use billday::store::{Opened, Session, Store, TxFuture};
use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value, json};
use std::sync::Arc;

use super::TestDb;

/// A database with tenant `T` (EUR, Berlin, prices net, no tax, billing since 2020) and customer `C`.
pub struct World {
    pub db: TestDb,
    pub clock: Arc<FixedClock>,
    /// About how many rentals a transaction holds: small, so that tests meet many batches.
    pub batch_rentals: usize,
}

impl World {
    pub async fn new(db: TestDb) -> Self {
        let world = Self::without_data(db);
        world.import(tenant("T", json!({}))).await;
        world
            .import(json!([{"tenantId": "T", "customerId": "C", "company": "Acme", "email": "pay@acme.example"}]))
            .await;
        world
    }

    pub fn without_data(db: TestDb) -> Self {
        Self { db, clock: Arc::new(FixedClock::at(noon(day("2026-01-01")))), batch_rentals: 3 }
    }

    /// It is noon (UTC) of this date from now on.
    pub fn today(&self, date: &str) {
        self.clock.set(noon(day(date)));
    }

    /// The present in microseconds.
    pub fn clock_micros(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }

    /// Brings in one file's worth of records; it must be accepted.
    pub async fn import(&self, records: Value) -> ImportSummary {
        self.try_import(&[("data.json", records.to_string())]).await.expect("an import")
    }

    pub async fn try_import(&self, files: &[(&str, String)]) -> Result<ImportSummary, billday::import::ImportError> {
        let files: Vec<ImportFile> = files.iter().map(|(name, text)| ImportFile::text(*name, text.clone())).collect();
        import(&self.db.store, &files, Some("T"), self.clock.now()).await
    }

    /// Deletes a group of tenant `T`, as the API does.
    pub async fn delete_group(&self, billing_group_id: &'static str) {
        delete_group(&self.db.store, billing_group_id, self.clock.now()).await.expect("a deleted group");
    }

    /// Runs a date at its noon, all tenants; gives tenant `T`'s part of the report. A dry run before says the same.
    pub async fn run(&self, date: &str) -> Value {
        self.today(date);
        self.run_later(date).await
    }

    /// Runs a date on whatever day it is now.
    pub async fn run_later(&self, date: &str) -> Value {
        let report = self.report(Dates::On(day(date)), None).await.remove(0);
        tenant_of(&report, "T")
    }

    /// The reports of real runs; the dry run before each must not differ but for what is given at the end.
    pub async fn report(&self, dates: Dates, only: Option<Subject>) -> Vec<Value> {
        let dry = self.reports(dates, true, only.clone()).await;
        let real = self.reports(dates, false, only).await;
        assert_eq!(comparable(&dry), comparable(&real), "a dry run differs from the real one");
        real
    }

    /// The reports of a dry or a real run, as the JSON that users get.
    pub async fn reports(&self, dates: Dates, dry_run: bool, only: Option<Subject>) -> Vec<Value> {
        let store = if dry_run {
            match Store::open_read_only(&self.db.url, 2).await.expect("a read-only database") {
                Opened::Store(store) => store,
                Opened::Nothing => panic!("no database"),
            }
        } else {
            self.db.store.clone()
        };
        let tenants = self.tenants(&store).await;
        let mut session = store.read().await.expect("a snapshot");
        let now = self.clock.now();
        let schedule = Schedule::new(&tenants, dates, dry_run, now, &mut session).await.expect("a schedule");
        session.end().await;
        let settings = RunSettings {
            dry_run,
            batch_rentals: self.batch_rentals,
            requested_by: "test".into(),
            only,
            expected_plan: None,
            format: ReportFormat::Json,
        };
        let mut runner = Runner::new(&store, &*self.clock, &Unwatched, settings);
        let mut reports = Vec::new();
        for work in &schedule.dates {
            let mut outcome = runner.run_date(work).await.expect("a run");
            let mut text = Vec::new();
            write_json(&mut text, &outcome.report, &mut outcome.payments).expect("a report");
            reports.push(serde_json::from_slice(&text).expect("JSON"));
        }
        drop(runner);
        if dry_run {
            store.close().await;
        }
        reports
    }

    /// What waits for a person.
    pub async fn open_parked(&self) -> Vec<ParkedRow> {
        let mut session = self.db.store.read().await.expect("a snapshot");
        let parked = session.list_parked(&ParkedFilter::default()).await.expect("parked subjects");
        session.end().await;
        parked
    }

    /// All of them, by id.
    pub async fn tenants(&self, store: &Store) -> Vec<Arc<Tenant>> {
        let mut session = store.read().await.expect("a snapshot");
        let tenants = session.list_tenants().await.expect("tenants");
        session.end().await;
        tenants.into_iter().map(|(_, tenant)| Arc::new(tenant.expect("a good tenant"))).collect()
    }
}

/// A tenant record; `with` adds to it or replaces parts.
pub fn tenant(id: &str, with: Value) -> Value {
    let base = json!({
        "tenantId": id, "name": "Rent GmbH", "currency": "EUR", "timeZone": "Europe/Berlin", "billFrom": "2020-01-01",
    });
    json!([merged(base, with)])
}

/// A rental of customer `C` at 10.00 a month; `with` adds to it or replaces parts.
pub fn rental(id: &str, start: &str, with: Value) -> Value {
    let base = json!({"tenantId": "T", "rentalId": id, "customerId": "C", "monthlyAmount": 10, "startDate": start});
    merged(base, with)
}

/// A group of customer `C`.
pub fn group(id: &str, day: i64, rentals: &[&str]) -> Value {
    json!({"tenantId": "T", "billingGroupId": id, "customerId": "C", "billingDay": day, "rentalIds": rentals})
}

fn merged(mut base: Value, with: Value) -> Value {
    if let (Some(base), Value::Object(with)) = (base.as_object_mut(), with) {
        base.extend(with);
    }
    base
}

/// The lines of all payments of a report: subject's key, then rental and period of each, marked `*` where they are arrears.
pub fn lines(report: &Value) -> BTreeMap<String, Vec<String>> {
    let payments = report["payments"].as_array().expect("payments");
    payments
        .iter()
        .map(|payment| {
            let lines = payment["lineItems"].as_array().expect("lines").iter().map(|line| {
                let mark = if line["arrears"] == true { "*" } else { "" };
                format!("{} {}{mark}", text(&line["rentalId"]), text(&line["billingPeriod"]))
            });
            (text(&payment["idempotencyKey"]), lines.collect())
        })
        .collect()
}

/// The same in one line, for a test that expects one payment or none.
pub fn line_list(report: &Value) -> String {
    lines(report).into_iter().map(|(key, lines)| format!("{key}: {}", lines.join(", "))).collect::<Vec<_>>().join("; ")
}

pub fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

pub fn tenant_of(report: &Value, tenant_id: &str) -> Value {
    let tenants = report["tenants"].as_array().expect("tenants");
    tenants.iter().find(|t| t["tenantId"] == tenant_id).expect("the tenant").clone()
}

pub fn day(text: &str) -> NaiveDate {
    parse_date(text).expect("a date")
}

pub fn noon(date: NaiveDate) -> DateTime<Utc> {
    date.and_hms_opt(12, 0, 0).expect("noon").and_utc()
}

/// A report without what only a real run gives, and without instants.
pub fn comparable(reports: &[Value]) -> Vec<Value> {
    let mut reports = reports.to_vec();
    for report in &mut reports {
        report["dryRun"] = Value::Null;
        for tenant in report["tenants"].as_array_mut().into_iter().flatten() {
            for payment in tenant["payments"].as_array_mut().into_iter().flatten() {
                let payment = payment.as_object_mut().expect("a payment");
                for key in ["invoiceNumber", "createdAt", "updatedAt", "paidAt"] {
                    payment.remove(key);
                }
            }
        }
    }
    reports
}

/// Deletes a group of tenant `T`, as the API does.
pub async fn delete_group(
    store: &Store,
    billing_group_id: &'static str,
    now: DateTime<Utc>,
) -> Result<GroupView, NotMade> {
    transact(store, move |session: &mut Session| {
        let by = By { tenant_id: "T".into(), actor: "cli".into(), now };
        Box::pin(async move { settled(groups::delete(session, &by, billing_group_id, &IfMatch::Any).await) })
            as TxFuture<'_, Result<GroupView, Refusal>>
    })
    .await
}

/// Every line that counts.
pub const LINES: &str =
    "select tenant_id || ' ' || rental_id || ' ' || billing_period || ' ' || amount from payment_lines
                         where live order by tenant_id, rental_id, billing_period";

/// What two equal ledgers have in common; ids of runs and instants differ.
pub const LEDGER: [&str; 3] = [
    LINES,
    "select tenant_id || ' ' || payment_id || ' ' || total || ' ' || issue_date || ' ' || due_date || ' ' || invoice_number
     from payments order by tenant_id, payment_id",
    "select tenant_id || ' ' || run_date || ' ' || subject_kind || ' ' || subject_id || ' ' || outcome || ' ' || coalesce(code, '')
     from outcomes order by tenant_id, run_date, subject_kind, subject_id",
];
