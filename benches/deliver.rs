//! How fast mails go out to a mail server on this machine, each with its PDF, against a bare loop that says the same:
//!
//! ```text
//! cargo bench --bench deliver -- 10000
//! ```
//!
//! On SQLite, and on PostgreSQL too if `BILLDAY_TEST_POSTGRES` names a server; as fast as can be, and then a quarter of the mails
//! at the pace of the goal. The last column is the duplicate window: how long a mail that the server has taken is not yet on record
//! as sent. Only the ratios of one call mean anything.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use billday::clock::FixedClock;
use billday::deliver::{DeliverySettings, Route, deliver};
use billday::documents::DocumentStore;
use billday::domain::calendar::parse_date;
use billday::domain::message::{CHANCES, WhenUnknown};
use billday::import::{ImportFile, import};
use billday::mail::smtp::{Limits, Security, SmtpSettings};
use billday::render::report::ReportFormat;
use billday::run::{Dates, RunSettings, Runner, Schedule, Unwatched};
use billday::store::Store;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const CONNECTIONS: usize = 4;
/// Mails a second.
const GOAL: usize = 250;

fn main() -> anyhow::Result<()> {
    // Cargo itself adds `--bench`.
    let mails = std::env::args().skip(1).find(|argument| argument != "--bench");
    let mails: usize = mails.map_or(Ok(1_000), |mails| mails.parse()).context("the argument is the number of mails")?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        println!("{mails} mails, {CONNECTIONS} connections\n");
        println!("database          mails/s   floor/s   times the floor   not yet on record: median, 99 %, most");
        let folder = tempfile::tempdir()?;
        bench("SQLite", &format!("sqlite://{}", folder.path().join("bench.db").display()), mails).await?;
        if let Ok(server) = std::env::var("BILLDAY_TEST_POSTGRES") {
            let name = format!("billday_bench_deliver_{}", std::process::id());
            let mut admin = PgConnection::connect(&server).await?;
            sqlx::query(AssertSqlSafe(format!("create database {name} template template0")))
                .execute(&mut admin)
                .await?;
            let url = format!("{}/{name}", server.rsplit_once('/').context("a URL with a database")?.0);
            let result = bench("PostgreSQL", &url, mails).await;
            sqlx::query(AssertSqlSafe(format!("drop database {name} with (force)"))).execute(&mut admin).await?;
            result?;
        }
        Ok(())
    })
}

async fn bench(kind: &str, url: &str, mails: usize) -> anyhow::Result<()> {
    let store = Store::open(url, 8).await?;
    let clock = FixedClock::at("2026-01-15T12:00:00Z".parse()?);
    bill(&store, &clock, "2026-01-14", mails).await?;
    let sent = send(&store, &clock, mails, 0).await?;
    let floor = floor(sent.sink.address, &sent.message, mails)?;
    let per_second = |time: Duration| mails as f64 / time.as_secs_f64();
    println!(
        "{kind:<16}{:>9.0}{:>10.0}{:>17.1}   {}   ({} kB each)",
        per_second(sent.took),
        per_second(floor),
        sent.took.as_secs_f64() / floor.as_secs_f64(),
        sent.windows(),
        sent.message.len() / 1_000,
    );
    let few = mails.div_ceil(4);
    bill(&store, &clock, "2026-01-15", few).await?;
    let sent = send(&store, &clock, few, GOAL as u32 * 60).await?;
    println!("{:<16}{:>9.0}{:>30}{}", "  at that pace", few as f64 / sent.took.as_secs_f64(), "", sent.windows());
    store.close().await;
    Ok(())
}

/// What became of some mails.
struct Sent {
    took: Duration,
    /// How long each was not on record, in order.
    windows: Vec<Duration>,
    /// The first one, as it came over the line.
    message: Vec<u8>,
    sink: Sink,
}

impl Sent {
    fn windows(&self) -> String {
        let at = |percent: usize| self.windows[(self.windows.len() * percent / 100).min(self.windows.len() - 1)];
        format!("{:.1?}, {:.1?}, {:.1?}", at(50), at(99), at(100))
    }
}

/// Sends what waits to a server of its own; `per_minute` is 0 for as fast as can be.
async fn send(store: &Store, clock: &FixedClock, mails: usize, per_minute: u32) -> anyhow::Result<Sent> {
    let sink = Sink::start()?;
    let documents = tempfile::tempdir()?;
    let settings = DeliverySettings {
        route: Route::Smtp { server: sink.settings(), connections: CONNECTIONS as u32, per_minute },
        from: "billing@shop.example".into(),
        message_id_domain: "bills.example".into(),
        templates: None,
        redirect_to: None,
        when_unknown: WhenUnknown::Resend,
        chance: || CHANCES - 1,
        documents: DocumentStore::new(documents.path().to_str().context("a path")?)?,
    };
    let mut on_record = Vec::new();
    let start = Instant::now();
    let report =
        deliver(store, &settings, clock, &mut |report| on_record.push((report.counts.sent, Instant::now()))).await?;
    let took = start.elapsed();
    ensure!(report.counts.sent == mails as u64, "{report:?}");
    let (taken, message) = sink.taken();
    ensure!(taken.len() == mails, "the server took {} mails", taken.len());
    let mut windows: Vec<Duration> = Vec::with_capacity(mails);
    for (count, at) in on_record {
        // In the order in which they were taken, but for those that came at the same moment.
        while windows.len() < count as usize {
            windows.push(at.saturating_duration_since(taken[windows.len()]));
        }
    }
    windows.sort();
    Ok(Sent { took, windows, message, sink })
}

/// One invoice for each of as many customers.
async fn bill(store: &Store, clock: &FixedClock, date: &str, mails: usize) -> anyhow::Result<()> {
    let mut records = vec![
        json!({"tenantId": "T", "name": "Rent GmbH", "currency": "EUR", "timeZone": "Europe/Berlin",
        "billFrom": "2020-01-01", "address": "Street 1\n10115 Berlin", "vatId": "DE136695976", "iban": "DE02120300000000202051",
        "tax": {"mode": "exclusive", "rate": 19}}),
    ];
    for n in 0..mails {
        records.push(json!({"tenantId": "T", "customerId": format!("C{date}-{n}"), "company": format!("Company {n}"),
            "email": format!("c{n}@buyer.example")}));
        records.push(json!({"tenantId": "T", "rentalId": format!("R{date}-{n}"), "customerId": format!("C{date}-{n}"),
            "monthlyAmount": 49, "startDate": date, "productName": "Laptop 14 inch", "serialNumber": format!("SN-{n}")}));
    }
    let file = ImportFile::text("data.json", serde_json::Value::from(records).to_string());
    import(store, &[file], None, billday::clock::Clock::now(clock)).await.context("the data")?;
    let mut session = store.read().await?;
    let tenants = session.list_tenants().await?;
    let tenants: Vec<_> = tenants.into_iter().filter_map(|(_, tenant)| tenant.ok()).map(Arc::new).collect();
    let date = Dates::On(parse_date(date).context("a date")?);
    let schedule = Schedule::new(&tenants, date, false, billday::clock::Clock::now(clock), &mut session).await?;
    session.end().await;
    let settings = RunSettings {
        dry_run: false,
        batch_rentals: 2_000,
        requested_by: "bench".into(),
        only: None,
        expected_plan: None,
        format: ReportFormat::Table,
    };
    let mut runner = Runner::new(store, clock, &Unwatched, settings);
    for work in &schedule.dates {
        runner.run_date(work).await?;
    }
    Ok(())
}

/// A mail server that takes everything.
struct Sink {
    address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    at: Vec<Instant>,
    /// The first message, as it came over the line.
    message: Vec<u8>,
}

impl Sink {
    fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, taken) = (listener.local_addr()?, Arc::new(Mutex::new(Taken::default())));
        let shared = Arc::clone(&taken);
        std::thread::spawn(move || {
            for line in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(line, &shared));
            }
        });
        Ok(Self { address, taken })
    }

    fn settings(&self) -> SmtpSettings {
        SmtpSettings {
            host: "127.0.0.1".into(),
            port: self.address.port(),
            security: Security::None,
            login: None,
            hello_name: "bench.example".into(),
            ca_file: None,
            messages_per_connection: 50,
            limits: Limits::default(),
        }
    }

    fn taken(&self) -> (Vec<Instant>, Vec<u8>) {
        let mut taken = self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (std::mem::take(&mut taken.at), std::mem::take(&mut taken.message))
    }
}

fn serve(mut line: TcpStream, taken: &Mutex<Taken>) -> std::io::Result<()> {
    line.set_nodelay(true)?;
    let mut reader = BufReader::new(line.try_clone()?);
    line.write_all(b"220 sink\r\n")?;
    let mut command = Vec::new();
    loop {
        command.clear();
        if reader.read_until(b'\n', &mut command)? == 0 {
            return Ok(());
        }
        if !command.starts_with(b"DATA") {
            line.write_all(b"250 ok\r\n")?;
            continue;
        }
        line.write_all(b"354 go on\r\n")?;
        let mut message = Vec::with_capacity(64 * 1024);
        while !message.ends_with(b"\r\n.\r\n") {
            if reader.read_until(b'\n', &mut message)? == 0 {
                return Ok(());
            }
        }
        {
            let mut taken = taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            taken.at.push(Instant::now());
            if taken.message.is_empty() {
                taken.message = message;
            }
        }
        line.write_all(b"250 taken\r\n")?;
    }
}

/// The same conversations with the same message, and nothing else.
fn floor(address: SocketAddr, message: &[u8], mails: usize) -> anyhow::Result<Duration> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let loops: Vec<_> =
            (0..CONNECTIONS).map(|_| scope.spawn(move || talk(address, message, mails / CONNECTIONS))).collect();
        loops
            .into_iter()
            .try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("the floor failed"))?.context("floor"))
    })?;
    Ok(start.elapsed())
}

fn talk(address: SocketAddr, message: &[u8], mails: usize) -> std::io::Result<()> {
    let mut line = TcpStream::connect(address)?;
    line.set_nodelay(true)?;
    let mut reader = BufReader::new(line.try_clone()?);
    let mut answer = String::new();
    reader.read_line(&mut answer)?;
    for _ in 0..mails {
        let commands =
            [&b"MAIL FROM:<billing@shop.example>\r\n"[..], b"RCPT TO:<c1@buyer.example>\r\n", b"DATA\r\n", message];
        for words in commands {
            line.write_all(words)?;
            reader.read_line(&mut answer)?;
        }
    }
    Ok(())
}
