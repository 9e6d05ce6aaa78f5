//! One phase, as it runs in a process of its own.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use billday::clock::Clock;
use billday::domain::calendar::parse_date;
use billday::render::report::{ReportFormat, write_table};
use billday::run::{DateWork, Dates, RunSettings, Runner, Schedule, Unwatched, Worker};
use billday::store::Store;
use billday::store::shares::Claimed;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

/// What is measured, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// One transaction of bare SQL that writes the same rows; like the next one it runs in the bench's own process.
    Floor,
    /// The same with a commit after each batch's worth of rentals.
    FloorInBatches,
    DryRun,
    Run,
    /// The same date again: nothing is left to do.
    Again,
    /// The next date.
    NothingDue,
    /// The date shared by one, two or three processes, as daemons share it.
    Shared(usize),
}

impl Phase {
    pub const ALL: [Self; 6] =
        [Self::Floor, Self::FloorInBatches, Self::DryRun, Self::Run, Self::Again, Self::NothingDue];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::FloorInBatches => "floor-in-batches",
            Self::DryRun => "dry-run",
            Self::Run => "run",
            Self::Again => "again",
            Self::NothingDue => "nothing-due",
            Self::Shared(1) => "shared-by-1",
            Self::Shared(2) => "shared-by-2",
            Self::Shared(_) => "shared-by-3",
        }
    }

    /// How many processes work at it.
    pub fn processes(self) -> usize {
        if let Self::Shared(processes) = self { processes } else { 1 }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().chain((1..=3).map(Self::Shared)).find(|phase| phase.as_str() == word)
    }

    /// The last two look at what the run before them left.
    pub fn wants_fresh_copy(self) -> bool {
        matches!(self, Self::FloorInBatches | Self::DryRun | Self::Run | Self::Shared(_))
    }
}

/// What came out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    pub micros: u128,
    pub peak_kib: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.micros, self.peak_kib)
    }
}

impl Figures {
    pub fn parse(line: &str) -> Option<Self> {
        let (micros, peak_kib) = line.trim().split_once(' ')?;
        Some(Self { micros: micros.parse().ok()?, peak_kib: peak_kib.parse().ok()? })
    }

    /// The median time, and the highest peak.
    pub fn median(figures: &[Self]) -> Self {
        let mut micros: Vec<u128> = figures.iter().map(|f| f.micros).collect();
        micros.sort_unstable();
        let peak_kib = figures.iter().map(|f| f.peak_kib).max().unwrap_or_default();
        Self { micros: micros.get(micros.len() / 2).copied().unwrap_or_default(), peak_kib }
    }
}

/// Starts at six on the day that is run, and goes on: a clock that stands would give all batches one place in the indexes by time.
struct MorningClock {
    six: DateTime<Utc>,
    started: Instant,
}

impl Clock for MorningClock {
    fn now(&self) -> DateTime<Utc> {
        self.six + TimeDelta::microseconds(self.started.elapsed().as_micros() as i64)
    }
}

/// Runs one phase as `billday run` would, from opening the database to the end of the report.
pub async fn run(phase: Phase, url: &str, batch_rentals: usize) -> anyhow::Result<Figures> {
    let date = if phase == Phase::NothingDue { "2026-11-16" } else { "2026-11-15" };
    let date = parse_date(date).context("a date")?;
    let clock = MorningClock { six: date.and_hms_opt(6, 0, 0).context("a time")?.and_utc(), started: Instant::now() };
    let settings = RunSettings {
        dry_run: phase == Phase::DryRun,
        batch_rentals,
        requested_by: "bench".into(),
        only: None,
        expected_plan: None,
        format: ReportFormat::Table,
    };
    let start = Instant::now();
    let store = Store::open(url, 4).await?;
    let work = work_of(&store, date, &clock).await?;
    if matches!(phase, Phase::Shared(_)) {
        share(&store, &clock, &settings, &work).await?;
        store.close().await;
        return Ok(Figures { micros: start.elapsed().as_micros(), peak_kib: peak_kib()? });
    }
    let mut outcome = Runner::new(&store, &clock, &Unwatched, settings).run_date(&work).await?;
    let mut report = Vec::new();
    write_table(&mut report, &outcome.report, &mut outcome.payments)?;
    let made: u64 = outcome.report.tenants.iter().flat_map(|tenant| tenant.totals.values()).map(|t| t.payments).sum();
    ensure!((made > 0) == matches!(phase, Phase::DryRun | Phase::Run), "{} made {made} payments", phase.as_str());
    // SQLite tidies up its log here, and whoever called `billday run` waits for it.
    store.close().await;
    let micros = start.elapsed().as_micros();
    Ok(Figures { micros, peak_kib: peak_kib()? })
}

/// Runs shares until the date is completed, as a daemon would.
async fn share(store: &Store, clock: &dyn Clock, settings: &RunSettings, work: &DateWork) -> anyhow::Result<()> {
    let share_rentals = i64::from(billday::config::Run::default().share_rentals);
    let worker = Worker { name: format!("bench:{}", std::process::id()), share_rentals, skew: 0 };
    for work in &work.tenants {
        loop {
            let mut runner = Runner::new(store, clock, &Unwatched, settings.clone());
            match runner.claim(work, &worker).await? {
                Claimed::Share(share) => drop(runner.run_share(work, *share).await?),
                Claimed::Held => tokio::time::sleep(Duration::from_millis(20)).await,
                Claimed::Completed => break,
            }
        }
    }
    Ok(())
}

async fn work_of(store: &Store, date: NaiveDate, clock: &dyn Clock) -> anyhow::Result<DateWork> {
    let mut session = store.read().await?;
    let tenants = session.list_tenants().await?;
    let tenants: Vec<_> = tenants.into_iter().filter_map(|(_, tenant)| Some(Arc::new(tenant.ok()?))).collect();
    let schedule = Schedule::new(&tenants, Dates::On(date), false, clock.now(), &mut session).await?;
    session.end().await;
    schedule.dates.into_iter().next().context("no date to run")
}

/// The most memory that this process ever held, as Linux counts it.
fn peak_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("only Linux tells the peak of memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
