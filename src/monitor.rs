//! What a monitor sees: whether this process can work, and figures in the text form that Prometheus reads.
//!
//! Figures of the process are counted here as things happen; those of the ledger are read when somebody asks.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::micros;
use crate::domain::report::Tally;
use crate::store::daemon::{Figures, PoolUse};
use crate::store::{Store, StoreError};

/// A part of the program that can be unable to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Clock,
    Database,
    /// A database of one machine is in use on another.
    Machine,
    Mail,
    /// Some tenant; the others are billed.
    Tenant,
}

impl Part {
    const ALL: [Self; 5] = [Self::Clock, Self::Database, Self::Machine, Self::Mail, Self::Tenant];

    /// Whether nobody is billed without it.
    fn stops_all(self) -> bool {
        matches!(self, Self::Clock | Self::Database | Self::Machine)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Database => "database",
            Self::Machine => "machine",
            Self::Mail => "mail",
            Self::Tenant => "tenant",
        }
    }
}

/// Counts what this process does and knows what keeps it from working.
#[derive(Debug, Default)]
pub struct Monitor {
    problems: Mutex<BTreeMap<Part, String>>,
    /// When the loop of ticks last showed a sign of life; 0 for never.
    last_tick: AtomicI64,
    ticks: AtomicU64,
    runs: Histogram,
    failed_runs: AtomicU64,
    batches: Histogram,
    billed: AtomicU64,
    already_billed: AtomicU64,
    skipped: AtomicU64,
    parked: AtomicU64,
    withheld: AtomicU64,
    /// Dates per tenant that nobody runs by itself any more.
    overdue: Mutex<BTreeMap<String, u64>>,
}

/// Upper bounds in milliseconds: a batch takes some, a large run some hundred thousand.
const BOUNDS_MILLIS: [u64; 10] = [10, 50, 100, 500, 1_000, 5_000, 10_000, 60_000, 300_000, 1_800_000];

#[derive(Debug, Default)]
struct Histogram {
    /// Each bound's own, not added up, and those above all.
    counts: [AtomicU64; BOUNDS_MILLIS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn add(&self, took: Duration) {
        let millis = took.as_millis() as u64;
        let place = BOUNDS_MILLIS.iter().position(|bound| millis <= *bound).unwrap_or(BOUNDS_MILLIS.len());
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    fn write(&self, text: &mut Text, name: &str, help: &str) {
        text.head(name, "histogram", help);
        let mut total = 0;
        for (count, bound) in self.counts.iter().zip(BOUNDS_MILLIS) {
            total += count.load(Ordering::Relaxed);
            text.line(&format!("{name}_bucket{{le=\"{}\"}}", Decimal::millis(bound)), total);
        }
        total += self.counts[BOUNDS_MILLIS.len()].load(Ordering::Relaxed);
        text.line(&format!("{name}_bucket{{le=\"+Inf\"}}"), total);
        text.line(&format!("{name}_sum"), Decimal::micros(self.micros.load(Ordering::Relaxed)));
        text.line(&format!("{name}_count"), total);
    }
}

impl Monitor {
    /// Notes what keeps a part from working, or that nothing does. Tells whether that is news.
    pub fn set(&self, part: Part, problem: Option<String>) -> bool {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => problems.insert(part, problem.clone()) != Some(problem),
            None => problems.remove(&part).is_some(),
        }
    }

    /// Whether something keeps a part from working.
    pub fn has_problem(&self, part: Part) -> bool {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&part)
    }

    /// All that is wrong: part and reason, ordered.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.iter().map(|(part, problem)| (part.as_str(), problem.clone())).collect()
    }

    /// Whether this process can bill; mails that cannot go out, and single tenants, do not count.
    pub fn is_ready(&self) -> bool {
        !self.problems.lock().unwrap_or_else(PoisonError::into_inner).keys().any(|part| part.stops_all())
    }

    /// The loop of ticks lives.
    pub fn alive(&self, now: DateTime<Utc>) {
        self.last_tick.store(micros(now), Ordering::Relaxed);
    }

    /// A tick has ended well.
    pub fn ticked(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// How many ticks have ended well.
    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// A run ended, well if it has counts.
    pub fn run(&self, took: Duration, tally: Option<&Tally>) {
        self.runs.add(took);
        let Some(tally) = tally else {
            self.failed_runs.fetch_add(1, Ordering::Relaxed);
            return;
        };
        for (counter, count) in [
            (&self.billed, tally.billed),
            (&self.already_billed, tally.already_billed),
            (&self.skipped, tally.skipped),
            (&self.parked, tally.parked),
            (&self.withheld, tally.withheld),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// A batch was written.
    pub fn batch(&self, took: Duration) {
        self.batches.add(took);
    }

    /// So many dates of a tenant were missed too long ago to be caught up.
    pub fn overdue(&self, tenant_id: &str, dates: u64) {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant_id.to_owned(), dates);
    }

    /// What keeps this process from billing, in words.
    pub fn stopping(&self) -> Vec<String> {
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        problems.iter().filter(|(part, _)| part.stops_all()).map(|(_, problem)| problem.clone()).collect()
    }

    /// All figures; those of the ledger are read now, and left out if that takes longer than `within`.
    pub async fn metrics(&self, store: &Store, now: DateTime<Utc>, within: Duration) -> String {
        let read = async {
            let mut session = store.read().await?;
            let figures = session.figures().await?;
            session.end().await;
            Ok::<_, StoreError>(figures)
        };
        let figures = tokio::time::timeout(within, read).await.ok().and_then(Result::ok);
        self.write(figures.as_ref(), store.pool_use(), now)
    }

    fn write(&self, figures: Option<&Figures>, pool: PoolUse, now: DateTime<Utc>) -> String {
        let mut text = Text::default();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        text.head("billday_build_info", "gauge", "which program this is");
        text.line(concat!("billday_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1);

        let problems = self.problems();
        text.head("billday_ready", "gauge", "1 if nothing keeps this process from billing");
        text.line("billday_ready", u8::from(self.is_ready()));
        text.head("billday_problem", "gauge", "1 for a part that cannot work");
        for part in Part::ALL.map(Part::as_str) {
            let stands = problems.iter().any(|(name, _)| *name == part);
            text.line(&format!("billday_problem{{part=\"{part}\"}}"), u8::from(stands));
        }
        text.head("billday_ticks_total", "counter", "ticks that ended well");
        text.line("billday_ticks_total", self.ticks());
        let last_tick = self.last_tick.load(Ordering::Relaxed);
        if last_tick != 0 {
            text.head("billday_tick_age_seconds", "gauge", "since the loop of ticks last showed a sign of life");
            text.line("billday_tick_age_seconds", Decimal::micros((micros(now) - last_tick).max(0) as u64));
        }

        text.head("billday_overdue_dates", "gauge", "dates that were missed too long ago to be caught up");
        for (tenant_id, dates) in self.overdue.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            text.of_tenant("billday_overdue_dates", tenant_id, dates);
        }

        text.head("billday_subjects_total", "counter", "subjects that runs of this process decided, by outcome");
        for (outcome, counter) in [
            ("billed", &self.billed),
            ("already_billed", &self.already_billed),
            ("skipped", &self.skipped),
            ("parked", &self.parked),
        ] {
            text.line(&format!("billday_subjects_total{{outcome=\"{outcome}\"}}"), load(counter));
        }
        text.head("billday_withheld_total", "counter", "rentals whose gaps runs of this process held back");
        text.line("billday_withheld_total", load(&self.withheld));
        text.head("billday_failed_runs_total", "counter", "runs of this process that could not go on");
        text.line("billday_failed_runs_total", load(&self.failed_runs));
        self.runs.write(&mut text, "billday_run_seconds", "how long runs took, or shares of them");
        self.batches.write(&mut text, "billday_batch_seconds", "how long batches took until they were committed");

        text.head("billday_database_answers", "gauge", "1 if the ledger could be read for this answer");
        text.line("billday_database_answers", u8::from(figures.is_some()));
        if let Some(figures) = figures {
            write_ledger(&mut text, figures, now);
        }
        text.head("billday_connections", "gauge", "connections to the database");
        for (state, count) in [("open", pool.open), ("idle", pool.idle), ("most", pool.most)] {
            text.line(&format!("billday_connections{{state=\"{state}\"}}"), count);
        }
        text.0
    }
}

/// The figures of the ledger.
fn write_ledger(text: &mut Text, figures: &Figures, now: DateTime<Utc>) {
    text.head(
        "billday_last_completed_date_seconds",
        "gauge",
        "a tenant's latest completed date, as its midnight in UTC",
    );
    for tenant in &figures.tenants {
        if let Some(date) = tenant.last_completed {
            let midnight = date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
            text.of_tenant("billday_last_completed_date_seconds", &tenant.tenant_id, midnight);
        }
    }
    text.head("billday_parked", "gauge", "subjects that could not be billed and wait for a person");
    figures.tenants.iter().for_each(|tenant| text.of_tenant("billday_parked", &tenant.tenant_id, tenant.parked));
    text.head("billday_withheld_periods", "gauge", "gaps that are held back until a person decides");
    for tenant in &figures.tenants {
        text.of_tenant("billday_withheld_periods", &tenant.tenant_id, tenant.withheld);
    }
    text.head("billday_mails", "gauge", "mails that are not sent, by state");
    for (state, count) in &figures.mails {
        text.line(&format!("billday_mails{{state=\"{state}\"}}"), count);
    }
    text.head("billday_oldest_waiting_mail_seconds", "gauge", "how long a mail has waited at the most");
    let oldest = figures.oldest_waiting_mail.map_or(0, |since| (micros(now) - since).max(0));
    text.line("billday_oldest_waiting_mail_seconds", Decimal::micros(oldest as u64));
    text.head("billday_leases", "gauge", "shares of dates that some daemon holds");
    text.line("billday_leases", figures.leases);
}

/// Seconds without going through a float.
struct Decimal {
    micros: u64,
}

impl Decimal {
    fn micros(micros: u64) -> Self {
        Self { micros }
    }

    fn millis(millis: u64) -> Self {
        Self { micros: millis * 1000 }
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.micros / 1_000_000, self.micros % 1_000_000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{rest:06}").trim_end_matches('0'))
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn of_tenant(&mut self, name: &str, tenant_id: &str, value: impl std::fmt::Display) {
        let escaped = tenant_id.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        self.line(&format!("{name}{{tenant=\"{escaped}\"}}"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::daemon::TenantFigures;

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let monitor = Monitor::default();
        monitor.alive(DateTime::from_timestamp(1_000, 0).unwrap());
        monitor.batch(Duration::from_millis(7));
        monitor.batch(Duration::from_millis(70));
        monitor.run(Duration::from_secs(4000), Some(&Tally { billed: 3, parked: 1, ..Tally::default() }));
        assert!(monitor.set(Part::Clock, Some("wrong".into())) && !monitor.set(Part::Clock, Some("wrong".into())));
        let figures = Figures {
            tenants: vec![TenantFigures {
                tenant_id: "a\"b\\c\nd".into(),
                last_completed: chrono::NaiveDate::from_ymd_opt(2026, 1, 31),
                parked: 2,
                withheld: 0,
            }],
            mails: vec![("pending".into(), 5)],
            oldest_waiting_mail: Some(990_500_000),
            leases: 1,
        };
        let pool = PoolUse { open: 3, idle: 1, most: 4 };
        let text = monitor.write(Some(&figures), pool, DateTime::from_timestamp(1_002, 500_000_000).unwrap());
        for line in [
            "billday_ready 0",
            "billday_problem{part=\"clock\"} 1",
            "billday_problem{part=\"mail\"} 0",
            "billday_tick_age_seconds 2.5",
            "billday_last_completed_date_seconds{tenant=\"a\\\"b\\\\c\\nd\"} 1769817600",
            "billday_parked{tenant=\"a\\\"b\\\\c\\nd\"} 2",
            "billday_subjects_total{outcome=\"billed\"} 3",
            "billday_batch_seconds_bucket{le=\"0.01\"} 1",
            "billday_batch_seconds_bucket{le=\"0.05\"} 1",
            "billday_batch_seconds_bucket{le=\"0.1\"} 2",
            "billday_batch_seconds_bucket{le=\"+Inf\"} 2",
            "billday_batch_seconds_sum 0.077",
            "billday_run_seconds_bucket{le=\"1800\"} 0",
            "billday_run_seconds_bucket{le=\"+Inf\"} 1",
            "billday_mails{state=\"pending\"} 5",
            "billday_oldest_waiting_mail_seconds 12",
            "billday_connections{state=\"idle\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        // Each line is a comment, or a name with a value.
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("billday_") && value.parse::<f64>().is_ok(), "{line}");
        }
    }
}
