//! `billday daemon`: the long-running service, started, told to stop, and its configuration read again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::api::{self, Api};
use crate::config::Config;
use crate::deliver::DeliverySettings;
use crate::monitor::Monitor;
use crate::schedule::notify::Notifier;
use crate::schedule::{Daemon, DaemonSettings};
use crate::store::{Store, is_away};

use super::mail::delivery_settings;
use super::serve::{listen, settings};
use super::{App, Exit, host, load_config, machine};

#[derive(Args)]
pub(super) struct DaemonArgs {
    /// Address and port to serve the API, health and metrics on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Bill nothing: only send the mails that wait and serve the API
    #[arg(long)]
    no_run: bool,
    /// The clock is right, although it stands before the last work on the ledger or more than a year after it
    #[arg(long)]
    accept_clock: bool,
}

pub(super) async fn daemon(app: &App, args: DaemonArgs) -> anyhow::Result<Exit> {
    let notifier = Arc::new(Notifier::from_environment());
    let (stop_sender, stop) = watch::channel(false);
    let (delivery_sender, delivery) = watch::channel(delivery_settings(&app.config)?);
    // Before anything can take long: a database that is away, say.
    let mut signals = Signals::new()?;
    let listener = listen(app, args.listen).await?;
    let mut reload = Reload { config: app.config.clone(), delivery: delivery_sender };
    tracing::info!(address = %listener.local_addr()?, "listening");
    let store = {
        let opening = open_and_answer(app, &notifier, &listener);
        tokio::pin!(opening);
        loop {
            tokio::select! {
                store = &mut opening => break store?,
                told = signals.next() => match told {
                    Told::Stop => {
                        notifier.stopping();
                        return Ok(Exit::Done);
                    }
                    Told::Reload => reload.again(app, &notifier),
                }
            }
        }
    };
    tracing::info!(database = app.config.database_url_for_people(), bills = !args.no_run, "the daemon starts");
    let monitor = Arc::new(Monitor::default());
    let mut settings = settings(app)?;
    settings.limits.drained_within = DRAINED_WITHIN;
    let api = Api::beside(Arc::clone(&monitor), store.clone(), Arc::clone(&app.clock), settings);
    tracing::info!(address = %listener.local_addr()?, "serving the API");
    let mut told = stop.clone();
    let serving = tokio::spawn(api::serve(listener, api, async move {
        let _ = told.wait_for(|stop| *stop).await;
    }));
    let daemon = Daemon {
        store: store.clone(),
        clock: Arc::clone(&app.clock),
        settings: DaemonSettings {
            bills: !args.no_run,
            batch_rentals: app.config.run.batch_rentals as usize,
            share_rentals: i64::from(app.config.run.share_rentals),
            name: format!("daemon:{}:{}", host(), std::process::id()),
            machine: machine().filter(|_| store.is_of_one_machine()),
            heartbeat_url: app.config.daemon.heartbeat_url.as_ref().map(|url| url.reveal().to_owned()),
            summary_to: app.config.daemon.summary_to.clone(),
            accept_clock: args.accept_clock,
        },
        delivery,
        monitor,
        notifier: Arc::clone(&notifier),
        stop,
    };
    let mut running = tokio::spawn(daemon.run());
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended,
            told = signals.next() => match told {
                Told::Reload => reload.again(app, &notifier),
                Told::Stop if stop_sender.send_replace(true) => {
                    // What is committed stays, as after any crash.
                    tracing::warn!("told to stop a second time: what was not committed is lost");
                    std::process::exit(1);
                }
                Told::Stop => {
                    tracing::info!("told to stop: the batches that are being written are ended");
                    notifier.stopping();
                }
            }
        }
    };
    let result = ended?;
    // It has ended by itself only if it could not go on.
    stop_sender.send_replace(true);
    serving.await?;
    result?;
    store.close().await;
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// How long a try to open the database may take: an upgrade brings a large one to a new schema.
const OPENED_WITHIN: Duration = Duration::from_secs(1800);

/// How long requests may take to end when the daemon stops.
const DRAINED_WITHIN: Duration = Duration::from_secs(3);

/// Opens the database; whoever asks meanwhile hears that the process lives.
async fn open_and_answer(app: &App, notifier: &Notifier, listener: &TcpListener) -> anyhow::Result<Store> {
    let (opened, is_open) = oneshot::channel::<()>();
    let answering = api::serve_before(listener, async { _ = is_open.await });
    let opening = async {
        let store = open(app, notifier).await;
        drop(opened);
        store
    };
    tokio::join!(opening, answering).0
}

/// Opens the database, and waits for one that is away.
async fn open(app: &App, notifier: &Notifier) -> anyhow::Result<Store> {
    let mut pause = Duration::from_millis(500);
    loop {
        notifier.needs(OPENED_WITHIN);
        match app.open_store().await {
            Err(error) if is_away(&error) => {
                tracing::warn!(error = format!("{error:#}"), "the database is away; it is tried again in {pause:?}");
                notifier.status("waiting for the database");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(8));
            }
            store => return store,
        }
    }
}

/// What tells a daemon to do something.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.terminate.recv() => Told::Stop,
            _ = self.hang_up.recv() => Told::Reload,
        }
    }
}

enum Told {
    Stop,
    Reload,
}

/// What can change while the daemon runs.
struct Reload {
    config: Config,
    delivery: watch::Sender<DeliverySettings>,
}

impl Reload {
    /// Reads the configuration again, takes over what can be, and says what needs a restart.
    fn again(&mut self, app: &App, notifier: &Notifier) {
        notifier.reloading(app.clock.steady());
        match load_config(&app.global) {
            Ok(config) => self.take(config, app),
            Err(error) => tracing::error!("the configuration stays as it was: {error:#}"),
        }
        notifier.ready();
    }

    fn take(&mut self, config: Config, app: &App) {
        if let Err(error) = app.levels.set(&config.log.level) {
            tracing::error!("{error:#}");
        }
        match delivery_settings(&config) {
            Ok(settings) => {
                self.delivery.send_replace(settings);
                tracing::info!(
                    log.level = config.log.level,
                    "the log level and the settings of mails and documents are those of the configuration now"
                );
            }
            Err(error) => tracing::error!("mails go on as before: {error:#}"),
        }
        let old = &self.config;
        for (section, changed) in [
            ("database", old.database != config.database),
            ("log.format", old.log.format != config.log.format),
            ("run", old.run != config.run),
            ("api", old.api != config.api),
            ("daemon", old.daemon != config.daemon),
        ] {
            if changed {
                tracing::warn!("what changed in {section} counts from the next start on");
            }
        }
        self.config = Config { log: config.log, mail: config.mail, documents: config.documents, ..old.clone() };
    }
}
