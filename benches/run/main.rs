//! Whole runs on both databases against the floor of bare SQL, with generated data:
//!
//! ```text
//! cargo bench --bench run -- --rentals 10000,100000 --repeat 3 --database both --postgres postgres://postgres@localhost/postgres
//! ```
//!
//! Without arguments it is a quick look at 10,000 rentals, on PostgreSQL too if `BILLDAY_TEST_POSTGRES` names a server.
//! Each phase runs in a process of its own, so that its peak of memory is its own, on a fresh copy of the same data. Only the
//! ratios of one call mean anything: floor and runs take turns, and the table shows medians.

mod data;
mod database;
mod phase;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use data::Shape;
use database::Database;
use phase::{Figures, Phase};

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    match Arguments::parse(std::env::args().skip(1))? {
        Arguments::Bench(bench) => runtime.block_on(bench.run()),
        Arguments::Phase { phase, url, batch } => {
            let figures = runtime.block_on(phase::run(phase, &url, batch))?;
            println!("{figures}");
            Ok(())
        }
    }
}

enum Arguments {
    Bench(Bench),
    /// What the bench calls itself with.
    Phase {
        phase: Phase,
        url: String,
        batch: usize,
    },
}

struct Bench {
    rentals: Vec<u64>,
    databases: Vec<&'static str>,
    postgres: Option<String>,
    folder: PathBuf,
    repeat: usize,
    batch: usize,
    analyze: bool,
    one_group: Option<u64>,
    /// By how many processes a date is shared, one measurement each.
    shared: Vec<usize>,
}

const USAGE: &str = "arguments: [--rentals N,N…] [--database sqlite|postgres|both] [--postgres URL] [--folder DIR] [--repeat N] \
                     [--batch RENTALS] [--no-analyze] [--one-group MEMBERS, 0 for none] [--shared PROCESSES,…, 1 to 3]";

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut bench = Bench {
            rentals: vec![10_000],
            databases: vec!["sqlite", "postgres"],
            postgres: std::env::var("BILLDAY_TEST_POSTGRES").ok(),
            folder: env!("CARGO_TARGET_TMPDIR").into(),
            repeat: 1,
            batch: billday::config::Run::default().batch_rentals as usize,
            analyze: true,
            one_group: None,
            shared: Vec::new(),
        };
        let (mut phase, mut url) = (None, String::new());
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value; {USAGE}"));
            match argument.as_str() {
                "--bench" => {} // cargo says so to every bench
                "--rentals" => {
                    bench.rentals = value()?.split(',').map(str::parse).collect::<Result<_, _>>().context(USAGE)?;
                }
                "--database" => {
                    bench.databases = match value()?.as_str() {
                        "sqlite" => vec!["sqlite"],
                        "postgres" => vec!["postgres"],
                        "both" => vec!["sqlite", "postgres"],
                        _ => bail!(USAGE),
                    }
                }
                "--postgres" => bench.postgres = Some(value()?),
                "--folder" => bench.folder = value()?.into(),
                "--repeat" => bench.repeat = value()?.parse().context(USAGE)?,
                "--batch" => bench.batch = value()?.parse().context(USAGE)?,
                "--no-analyze" => bench.analyze = false,
                "--one-group" => bench.one_group = Some(value()?.parse().context(USAGE)?),
                "--shared" => {
                    bench.shared = value()?.split(',').map(str::parse).collect::<Result<_, _>>().context(USAGE)?;
                }
                "--phase" => phase = Some(Phase::parse(&value()?).context(USAGE)?),
                "--url" => url = value()?,
                _ => bail!(USAGE),
            }
        }
        Ok(match phase {
            Some(phase) => Self::Phase { phase, url, batch: bench.batch },
            None => Self::Bench(bench),
        })
    }
}

impl Bench {
    async fn run(&self) -> anyhow::Result<()> {
        println!(
            "{:<11}{:>9}  {:<16}{:>10}{:>12}{:>9}{:>9}{:>10}",
            "database", "rentals", "phase", "ms", "rentals/s", "/ floor", "/ run", "peak MiB"
        );
        for kind in &self.databases {
            if *kind == "postgres" && self.postgres.is_none() {
                eprintln!("PostgreSQL is left out: name a server with --postgres or BILLDAY_TEST_POSTGRES");
                continue;
            }
            for &rentals in &self.rentals {
                self.measure(self.database(kind, &format!("mixed_{rentals}"))?, Shape::mixed(rentals)).await?;
            }
            let members =
                self.one_group.unwrap_or_else(|| self.rentals.iter().copied().max().unwrap_or(0).min(100_000));
            if members > 0 {
                self.measure(self.database(kind, "one_group")?, Shape::one_group(members)).await?;
            }
        }
        Ok(())
    }

    fn database(&self, kind: &str, name: &str) -> anyhow::Result<Database> {
        match (kind, &self.postgres) {
            ("postgres", Some(url)) => Database::postgres(url, name),
            _ => Ok(Database::sqlite(&self.folder, &format!("billday_bench_{}_{name}", std::process::id()))),
        }
    }

    /// All phases on one set of data; what was made for it is dropped whatever happens.
    async fn measure(&self, template: Database, shape: Shape) -> anyhow::Result<()> {
        let result = self.measure_on(&template, shape).await;
        template.drop().await?;
        result
    }

    async fn measure_on(&self, template: &Database, shape: Shape) -> anyhow::Result<()> {
        template.generate(shape, self.analyze).await.context("cannot make the data")?;
        let mut figures: Vec<(Phase, Vec<Figures>)> = self.phases().map(|phase| (phase, Vec::new())).collect();
        for _ in 0..self.repeat {
            let (mut copy, mut floor_rows) = (template.copy("copy").await?, Vec::new());
            for (phase, figures) in &mut figures {
                if phase.wants_fresh_copy() {
                    copy.drop().await?;
                    copy = template.copy("copy").await?;
                }
                figures.push(self.one(*phase, &copy, shape).await?);
                match phase {
                    Phase::Floor => floor_rows = copy.fingerprint().await?,
                    Phase::FloorInBatches | Phase::Run | Phase::Shared(_) => {
                        let rows = copy.fingerprint().await?;
                        ensure!(rows == floor_rows, "the run wrote {rows:?} and the floor {floor_rows:?}");
                    }
                    _ => {}
                }
            }
            copy.drop().await?;
        }
        print_table(template, shape, &figures);
        Ok(())
    }

    fn phases(&self) -> impl Iterator<Item = Phase> {
        Phase::ALL.into_iter().chain(self.shared.iter().map(|&processes| Phase::Shared(processes)))
    }

    async fn one(&self, phase: Phase, copy: &Database, shape: Shape) -> anyhow::Result<Figures> {
        if matches!(phase, Phase::Floor | Phase::FloorInBatches) {
            let start = std::time::Instant::now();
            match phase {
                Phase::Floor => copy.write_floor(shape).await?,
                _ => copy.write_floor_in_batches(shape, self.batch).await?,
            }
            return Ok(Figures { micros: start.elapsed().as_micros(), peak_kib: 0 });
        }
        let start = |_| {
            Command::new(std::env::current_exe()?)
                .args(["--phase", phase.as_str(), "--url", &copy.url(), "--batch", &self.batch.to_string()])
                .stdout(std::process::Stdio::piped())
                .spawn()
        };
        let processes = (0..phase.processes()).map(start).collect::<Result<Vec<_>, std::io::Error>>()?;
        let mut slowest = Figures::default();
        for process in processes {
            let output = process.wait_with_output()?;
            ensure!(output.status.success(), "the phase {} failed", phase.as_str());
            let figures =
                Figures::parse(&String::from_utf8_lossy(&output.stdout)).context("a phase without figures")?;
            slowest.micros = slowest.micros.max(figures.micros);
            slowest.peak_kib = slowest.peak_kib.max(figures.peak_kib);
        }
        Ok(slowest)
    }
}

/// Medians, by whole numbers.
fn print_table(database: &Database, shape: Shape, figures: &[(Phase, Vec<Figures>)]) {
    let medians: Vec<(Phase, Figures)> =
        figures.iter().map(|(phase, figures)| (*phase, Figures::median(figures))).collect();
    let micros_of = |wanted| medians.iter().find(|(phase, _)| *phase == wanted).map_or(1, |(_, f)| f.micros.max(1));
    let (floor, run) = (micros_of(Phase::Floor), micros_of(Phase::Run));
    for (phase, Figures { micros, peak_kib }) in &medians {
        let per_second = u128::from(shape.rentals()) * 1_000_000 / (*micros).max(1);
        println!(
            "{:<11}{:>9}  {:<16}{:>10}{:>12}{:>9}{:>9}{:>10}",
            database.kind(),
            shape.rentals(),
            phase.as_str(),
            micros / 1000,
            per_second,
            hundredths(*micros, floor),
            hundredths(*micros, run),
            if *peak_kib == 0 { "-".into() } else { (peak_kib / 1024).to_string() },
        );
    }
}

fn hundredths(part: u128, whole: u128) -> String {
    let hundredths = (part * 100 + whole / 2) / whole;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
