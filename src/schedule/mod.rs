//! The daemon: wakes each minute, runs what is due, sends what waits, and stops between two batches.
//!
//! ```text
//! each minute ──► tick: is the clock right? ──► due tenants ──► claim a share ──► run it ──┐
//!                                                    ▲                                     │ ring
//!                                                    └──── until nothing is due ◄──────────┤
//!                                                                                          ▼
//!                                                             mail loop: deliver, wait, deliver …
//! ```
//!
//! Nothing that must not be lost is kept here: what is due is worked out from the database at each tick, so a missed tick, a
//! restart, a night with a clock change or a paused machine needs no code of its own, and any number of daemons can work on
//! one database.

mod heartbeat;
pub mod notify;
mod summary;
mod tick;
mod wake;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Days, NaiveTime, Utc};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;

use crate::clock::{self, Clock, micros};
use crate::deliver::{DeliverySettings, Route, deliver_until, send_words};
use crate::mail::MailError;
use crate::monitor::{Monitor, Part};
use crate::run::Worker;
use crate::store::Store;
use crate::store::daemon::Machine;

use notify::Notifier;
use tick::{Bench, Engine, Ticked};
pub use tick::{SEEN_FOR, elsewhere};
use wake::Ticking;

/// How a daemon works.
#[derive(Clone)]
pub struct DaemonSettings {
    /// Without, nothing is billed.
    pub bills: bool,
    /// About how many rentals one transaction holds.
    pub batch_rentals: usize,
    /// About how many rentals a share of a date has.
    pub share_rentals: i64,
    /// Who runs, for the records: which process on which machine.
    pub name: String,
    /// Called when all of a day's work is done.
    pub heartbeat_url: Option<String>,
    /// Where it runs, if no other machine may work on the database.
    pub machine: Option<Machine>,
    /// Who gets the daily summary.
    pub summary_to: Option<String>,
    /// The clock is right, whatever was noted in the database.
    pub accept_clock: bool,
}

/// What a daemon works with.
pub struct Daemon {
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub settings: DaemonSettings,
    /// Read anew for each delivery.
    pub delivery: watch::Receiver<DeliverySettings>,
    pub monitor: Arc<Monitor>,
    pub notifier: Arc<Notifier>,
    /// True when it is to stop.
    pub stop: watch::Receiver<bool>,
}

/// How long a database that does not answer is left alone: growing from the first to the last.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(8)];
/// Mails that were put off are looked for this often; they are put off by minutes.
const MAIL_EVERY: Duration = Duration::from_secs(30);
/// How long a stop waits for what is at work. It takes as long only if the database has gone away.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How long a stop waits for the mails in flight: a mail server may take ten minutes for its last word, and without that nobody
/// knows whether it took the mail.
const MAIL_STOP: Duration = Duration::from_secs(11 * 60);
/// How long it may take to note that no daemon works here any more.
const LEFT_WITHIN: Duration = Duration::from_secs(2);
/// When the summary of a day is due, in UTC.
const SUMMARY_AT: NaiveTime = NaiveTime::from_hms_opt(8, 0, 0).expect("a time");

impl Daemon {
    /// Works until it is told to stop, and ends what it is at.
    pub async fn run(self) -> anyhow::Result<()> {
        let bench = Bench {
            store: self.store,
            clock: self.clock,
            monitor: self.monitor,
            notifier: self.notifier,
            stop: self.stop,
            mails: Arc::new(Notify::new()),
        };
        if self.settings.machine.is_some() {
            // Until it is known, no mail goes out.
            bench.monitor.set(Part::Machine, Some("the daemon has just begun".to_owned()));
        }
        let mailing = tokio::spawn(send_mails(bench.clone(), self.delivery.clone()));
        let (sender, ticks) = mpsc::channel(1);
        let ticking = Ticking::start(&bench.clock, sender).await?;
        let mut stop = bench.stop.clone();
        tokio::select! {
            () = keep_ticking(&bench, ticks, &self.settings, &self.delivery) => {}
            () = async { told(&mut stop).await; tokio::time::sleep(STOP_MAX).await } => {
                tracing::warn!("the database does not answer: what was not committed is left to the next start");
            }
        }
        bench.notifier.stopping();
        ticking.stop().await;
        // Its end has a limit of its own.
        bench.notifier.needs(MAIL_STOP);
        let _ = mailing.await;
        if let Some(machine) = self.settings.machine {
            // If that fails, it looks like a crash: the next machine waits a little.
            let left = bench.store.with_tx(move |tx| {
                let machine = machine.clone();
                Box::pin(async move { tx.leave(&machine).await })
            });
            let _ = timeout(LEFT_WITHIN, left).await;
        }
        Ok(())
    }
}

/// Waits until a stop is wanted, or nobody is left who could want it.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ticks each minute, and sooner while the database does not answer.
async fn keep_ticking(
    bench: &Bench,
    mut ticks: mpsc::Receiver<()>,
    settings: &DaemonSettings,
    delivery: &watch::Receiver<DeliverySettings>,
) {
    let worker = Worker { name: settings.name.clone(), share_rentals: settings.share_rentals, skew: 0 };
    let run_settings = tick::run_settings(settings.batch_rentals, &settings.name);
    let mut engine = Engine::new(bench.clone(), run_settings, worker, settings.machine.clone(), settings.accept_clock);
    let mut stop = bench.stop.clone();
    let (mut failures, mut ready) = (0, false);
    while !*stop.borrow() {
        // Ready as soon as the ledger and the clock could be read; the first day's work may take long.
        let result = match engine.believed_time().await {
            Ok(_) => {
                if !std::mem::replace(&mut ready, true) {
                    bench.notifier.ready();
                    tracing::info!("ready");
                }
                if settings.bills { engine.tick().await } else { Ok(None) }
            }
            Err(error) => Err(error),
        };
        let pause = match result {
            Ok(ticked) => {
                if let (Some(Ticked { all_done: true, .. }), Some(url)) = (ticked, &settings.heartbeat_url) {
                    heartbeat::beat(url);
                }
                if let (Some(ticked), Some(address)) = (ticked, &settings.summary_to)
                    && let Err(error) = summarize(bench, ticked, address, delivery).await
                {
                    tracing::warn!("the daily summary could not be sent: {error:#}");
                }
                if bench.monitor.set(Part::Database, None) {
                    tracing::info!("the database answers again");
                }
                bench.monitor.ticked();
                let status = bench.monitor.problems().into_iter().map(|(_, problem)| problem).collect::<Vec<_>>();
                bench.notifier.status(if status.is_empty() { "nothing is due" } else { "needs a person, see the log" });
                failures = 0;
                None
            }
            Err(error) => {
                if bench.monitor.set(Part::Database, Some("the database does not answer, see the log".to_owned())) {
                    tracing::error!(error = format!("{error:#}"), "the tick could not go on; it is tried again");
                }
                bench.notifier.status("waiting for the database");
                failures += 1;
                Some(PAUSES[(failures - 1).min(PAUSES.len() - 1)])
            }
        };
        tokio::select! {
            () = told(&mut stop) => {}
            _ = ticks.recv() => {}
            () = async { tokio::time::sleep(pause.unwrap_or_default()).await }, if pause.is_some() => {}
        }
    }
}

/// Sends the operator the summary of the day, if it was due when the tick began and no other daemon has sent it; if it does not
/// go out, the next tick tries again.
async fn summarize(
    bench: &Bench,
    ticked: Ticked,
    address: &str,
    delivery: &watch::Receiver<DeliverySettings>,
) -> anyhow::Result<()> {
    let Ticked { begun, ended, .. } = ticked;
    let (Some(day), Some(now)) = (clock::instant(begun), clock::instant(ended)) else { return Ok(()) };
    let today = day.date_naive().and_time(SUMMARY_AT).and_utc();
    let due = micros(if today <= day { today } else { today - Days::new(1) });
    let settings = delivery.borrow().clone();
    if matches!(settings.route, Route::Nowhere) {
        return Ok(());
    }
    let claim = bench.store.with_tx(move |tx| Box::pin(tx.claim_summary(due, ended)));
    let Some(since) = claim.await? else { return Ok(()) };
    let sent = send_summary(bench, since, now, address, &settings).await;
    // A mail that is refused stays refused, and one that may have arrived is not sent again each minute.
    let is_over =
        |error: &anyhow::Error| matches!(error.downcast_ref(), Some(MailError::Refused(_) | MailError::Unknown(_)));
    if sent.as_ref().is_err_and(|error| !is_over(error)) {
        bench.store.with_tx(move |tx| Box::pin(tx.release_summary(since, ended))).await?;
    }
    sent
}

async fn send_summary(
    bench: &Bench,
    since: i64,
    now: DateTime<Utc>,
    address: &str,
    settings: &DeliverySettings,
) -> anyhow::Result<()> {
    let mut session = bench.store.read().await?;
    let words = summary::summary(&mut session, since, now).await?;
    session.end().await;
    let name = format!("summary-{}", now.format("%Y-%m-%d"));
    let (_, sent) = send_words(settings, address, &name, &words, now).await?;
    Ok(sent?)
}

/// Sends what waits after each run, and from time to time.
async fn send_mails(bench: Bench, mut settings: watch::Receiver<DeliverySettings>) {
    let mut stop = bench.stop.clone();
    let mut failures = 0;
    while !*stop.borrow() {
        if bench.monitor.has_problem(Part::Machine) {
            tokio::select! {
                () = told(&mut stop) => {}
                () = bench.mails.notified() => {}
                () = tokio::time::sleep(MAIL_EVERY) => {}
            }
            continue;
        }
        let now = settings.borrow_and_update().clone();
        let (store, clock) = (bench.store.clone(), Arc::clone(&bench.clock));
        let (ending, mut stop_now) = (stop.clone(), stop.clone());
        let mut sending = tokio::spawn(async move { deliver_until(&store, &now, &*clock, &mut |_| {}, ending).await });
        let ended = tokio::select! {
            ended = &mut sending => Some(ended),
            () = told(&mut stop_now) => timeout(MAIL_STOP, &mut sending).await.ok(),
        };
        let problem = match ended {
            None => {
                sending.abort();
                return;
            }
            Some(Ok(Ok(report))) => report.stopped,
            Some(Ok(Err(error))) => Some(format!("{error:#}")),
            Some(Err(_)) => Some("it panicked, see the log".to_owned()),
        };
        failures = if problem.is_some() { failures + 1 } else { 0 };
        if let Some(problem) = &problem {
            tracing::warn!("mails wait: {problem}");
        }
        bench.monitor.set(Part::Mail, problem.map(|_| "mails cannot go out, see the log".to_owned()));
        // A way out that is closed is tried ever less often, whatever rings.
        let closed = MAIL_EVERY.min(Duration::from_secs(1) * 2_u32.saturating_pow(failures));
        tokio::select! {
            () = told(&mut stop) => {}
            _ = bench.mails.notified(), if failures == 0 => {}
            Ok(()) = settings.changed() => {}
            () = tokio::time::sleep(if failures == 0 { MAIL_EVERY } else { closed }) => {}
        }
    }
}
