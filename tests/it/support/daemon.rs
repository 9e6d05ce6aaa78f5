//! Daemons of the real program that live by a clock in a file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::TestDb;
use super::http::HttpRequest;

/// The time that a test's daemons live in.
pub struct TimeFile(PathBuf);

impl TimeFile {
    pub fn new(db: &TestDb, instant: &str) -> Self {
        let file = Self(db.dir.path().join("time"));
        file.set(instant);
        file
    }

    /// An instant, and what else a clock in a file can be told.
    pub fn set(&self, text: &str) {
        // Whole or not at all: whoever reads it meanwhile sees the one before.
        let next = self.0.with_extension("next");
        std::fs::write(&next, text).expect("a clock");
        std::fs::rename(&next, &self.0).expect("a clock");
    }

    pub fn set_to(&self, instant: DateTime<Utc>) {
        self.set(&instant.to_rfc3339());
    }
}

/// A daemon, killed with its handle.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

static STARTED: AtomicU32 = AtomicU32::new(0);

impl Daemon {
    pub fn start(db: &TestDb, time: &TimeFile) -> Self {
        Self::start_with(db, time, &[], &[])
    }

    /// With more arguments and environment.
    pub fn start_with(db: &TestDb, time: &TimeFile, args: &[&str], env: &[(&str, &str)]) -> Self {
        let log = db.dir.path().join(format!("daemon-{}.log", STARTED.fetch_add(1, Ordering::Relaxed)));
        let child = Command::new(env!("CARGO_BIN_EXE_billday"))
            .args(["daemon", "--listen", "127.0.0.1:0", "--database", &db.url])
            .args(args)
            .env("BILLDAY_TEST_NOW", format!("@{}", time.0.display()))
            .env("BILLDAY_MAIL__TRANSPORT", "none")
            .env("BILLDAY_RUN__BATCH_RENTALS", "5")
            .env("BILLDAY_RUN__SHARE_RENTALS", "40")
            .envs(env.iter().copied())
            .current_dir(db.dir.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("the program");
        Self { child, log }
    }

    /// Where its log is, also after it has ended.
    pub fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    /// Waits until the log says so.
    pub async fn says(&self, what: &str) {
        let begun = Instant::now();
        while !self.log().contains(what) {
            assert!(begun.elapsed() < Duration::from_secs(120), "it never said {what:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What one of its pages says, with the status.
    pub async fn page(&self, target: &str) -> (u16, String) {
        let reply = HttpRequest::new("GET", target).send(self.address().await).await;
        (reply.status, reply.body)
    }

    /// Where it serves.
    pub async fn address(&self) -> SocketAddr {
        self.says("serving the API").await;
        self.listening_at().await
    }

    /// The same, also before its database is open.
    pub async fn listening_at(&self) -> SocketAddr {
        self.says("address=").await;
        let log = self.log();
        let address = log.split_once("address=").expect("an address").1;
        address.split_whitespace().next().expect("an address").parse().expect("an address")
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill").success());
    }

    pub fn kill(mut self) {
        self.child.kill().expect("a killed daemon");
        self.child.wait().expect("an ended daemon");
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a process")
    }

    /// Tells it to stop; gives how it ended and how long that took.
    pub async fn stop(mut self) -> (ExitStatus, Duration) {
        self.signal("-TERM");
        let begun = Instant::now();
        loop {
            if let Some(status) = self.has_ended() {
                return (status, begun.elapsed());
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not end\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something that must become true.
pub async fn eventually(what: &str, is_true: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_true().await {
        assert!(begun.elapsed() < Duration::from_secs(120), "it never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl TestDb {
    /// Waits until a date of tenant `T` is completed.
    pub async fn completes(&self, date: &str) {
        let sql = format!("select count(*) from completed_dates where tenant_id = 'T' and run_date = '{date}'");
        eventually(&format!("{date} is completed"), async || self.number(&sql).await == 1).await;
    }
}
