//! Mails to a mail server over several connections.
//!
//! ```text
//! connection 1: claim a few ─► keep their invoices ─► write (another thread, one ahead) ─► send ─┐
//! connection 2: …                                                                                ├─► settle what is known by now, in one transaction
//! connection n: …                                                                                ┘
//! ```
//!
//! The next mail does not wait until the last one is settled, and settling waits for nothing but its own commit: as long as
//! that takes, a crash can make a second copy.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::micros;
use crate::domain::message::{Attempt, WhenUnknown};
use crate::mail::MailError;
use crate::mail::smtp::{SmtpServer, SmtpSettings};
use crate::store::outbox::{ClaimedMail, Expired};

use super::compose::{Composer, Message, Waiting};
use super::{DeliveryReport, LEASE, Pass, Progress, attempt};

/// Mails that one connection claims at a time: after a crash those are the ones in doubt.
const CLAIM_SIZE: u32 = 10;

/// Results that wait to be settled; more, and the connections wait.
const UNSETTLED_MAX: usize = 64;

/// So many conversations that broke off, and none that did not in between, mean that the server is at fault and not the mails.
const BREAKS_MAX: u32 = 5;

/// What became of a mail.
type Outcome = (ClaimedMail, Attempt);

pub(super) async fn deliver(
    pass: &Pass<'_>,
    server: &SmtpSettings,
    connections: u32,
    per_minute: u32,
    progress: Progress<'_>,
) -> anyhow::Result<DeliveryReport> {
    let mut report = DeliveryReport::default();
    let (now, patience) = (micros(pass.clock.now()), pass.settings.patience());
    let doubted = pass.store.with_tx(move |tx| Box::pin(tx.doubt_expired_mails(now, patience))).await?;
    doubted.into_iter().for_each(|state| report.counts.add(state, 1));
    let shared = match SmtpServer::new(server.clone()) {
        Ok(server) => Shared::new(server, connections, per_minute, pass.settings.when_unknown),
        Err(error) => return Ok(DeliveryReport { stopped: Some(error.to_string()), ..report }),
    };
    let (outcomes, settling) = mpsc::channel(UNSETTLED_MAX);
    let connections: Vec<_> = (0..shared.connections)
        .map(|_| work(pass, &shared, outcomes.clone()))
        .map(|work| Box::pin(work) as _)
        .collect();
    drop(outcomes);
    let (sent, settled) = tokio::join!(all(connections), settle(pass, settling, &mut report, progress));
    settled?;
    sent?;
    report.stopped = shared.stopped();
    Ok(report)
}

/// What the connections have in common.
struct Shared {
    server: Arc<SmtpServer>,
    connections: u32,
    claim_size: i64,
    pace: Pace,
    /// Why no mail can go out, once that is so.
    stopped: Mutex<Option<String>>,
    /// Conversations that broke off since the last one that did not.
    breaks: Mutex<u32>,
}

impl Shared {
    fn new(server: SmtpServer, connections: u32, per_minute: u32, when_unknown: WhenUnknown) -> Self {
        // Nobody claims more than it sends in a minute, so that no lease runs out while a mail waits for its turn.
        let most = if per_minute == 0 { u32::MAX } else { per_minute };
        let connections = connections.min(most);
        // What may never go out twice is claimed one by one, so that a crash leaves little in doubt.
        let claim_size = if when_unknown == WhenUnknown::Hold { 1 } else { CLAIM_SIZE };
        Self {
            server: Arc::new(server),
            connections,
            claim_size: i64::from(claim_size.min(most / connections).max(1)),
            pace: Pace::new(per_minute),
            stopped: Mutex::default(),
            breaks: Mutex::default(),
        }
    }

    fn stopped(&self) -> Option<String> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Draws from one mail's fate what it means for the others.
    fn learn(&self, sent: &Result<(), MailError>) {
        let mut breaks = self.breaks.lock().unwrap_or_else(PoisonError::into_inner);
        let why = match sent {
            Err(MailError::Transport(why)) => why,
            Err(MailError::Broken(why) | MailError::Unknown(why)) => {
                *breaks += 1;
                why
            }
            Ok(()) | Err(MailError::Refused(_) | MailError::Deferred(_)) => {
                *breaks = 0;
                return;
            }
            Err(MailError::Late(_)) => return,
        };
        if *breaks >= BREAKS_MAX || matches!(sent, Err(MailError::Transport(_))) {
            self.stop(why);
        }
    }

    /// Ends the delivery; the first reason counts.
    fn stop(&self, why: &str) {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.to_owned());
    }
}

/// One connection: claims and sends until nothing is due or nothing can go out.
async fn work(pass: &Pass<'_>, shared: &Shared, outcomes: mpsc::Sender<Outcome>) -> anyhow::Result<()> {
    let composer = Arc::new(Composer::new(pass.settings)?);
    let mut conversation = shared.server.conversation();
    while shared.stopped().is_none() {
        // By the machine's own count and from before the claim, so that no clock that is set can stretch it.
        let deadline = Instant::now() + LEASE.to_std()?;
        let claimed = pass.claim(shared.claim_size, Expired::Left, &composer).await?;
        if claimed.is_empty() {
            break;
        }
        let mut messages = compose_ahead(&composer, claimed);
        while let Some((mail, message)) = messages.recv().await {
            let attempt = match (message, shared.stopped()) {
                (Err(untried), _) => {
                    if let Attempt::Released(why) = &untried {
                        shared.stop(why);
                    }
                    untried
                }
                (Ok(_), Some(reason)) => Attempt::Released(reason),
                (Ok(message), None) => {
                    shared.pace.turn().await;
                    let sent = conversation.send(&message.outgoing(), deadline).await;
                    shared.learn(&sent);
                    attempt(sent)
                }
            };
            // Nobody settles any more: the database failed, and that is told elsewhere.
            if outcomes.send((mail, attempt)).await.is_err() {
                return Ok(());
            }
        }
    }
    conversation.end().await;
    Ok(())
}

/// Makes messages on another thread, one ahead of the one that is being sent.
fn compose_ahead(
    composer: &Arc<Composer>,
    claimed: Vec<Waiting>,
) -> mpsc::Receiver<(ClaimedMail, Result<Message, Attempt>)> {
    let (sender, receiver) = mpsc::channel(1);
    let composer = Arc::clone(composer);
    tokio::task::spawn_blocking(move || {
        for waiting in claimed {
            if sender.blocking_send(composer.compose(waiting)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Settles what comes in, all that has come in by then in one transaction, until no connection is left.
async fn settle(
    pass: &Pass<'_>,
    mut outcomes: mpsc::Receiver<Outcome>,
    report: &mut DeliveryReport,
    progress: Progress<'_>,
) -> anyhow::Result<()> {
    let mut known = Vec::new();
    while outcomes.recv_many(&mut known, UNSETTLED_MAX).await > 0 {
        pass.settle(std::mem::take(&mut known), report).await?;
        progress(report);
    }
    Ok(())
}

/// Spreads mails evenly over time.
struct Pace {
    /// From one mail to the next.
    step: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(per_minute: u32) -> Self {
        let step = Duration::from_secs(60).checked_div(per_minute).unwrap_or_default();
        Self { step, next: Mutex::new(Instant::now()) }
    }

    /// Waits until one more mail may go out.
    async fn turn(&self) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + self.step;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

/// Runs all at once until all are done, and tells the first error: none is cut off while it sends.
async fn all(mut works: Vec<Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + '_>>>) -> anyhow::Result<()> {
    let mut failed = None;
    std::future::poll_fn(|cx| {
        works.retain_mut(|work| match work.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                failed = failed.take().or(result.err());
                false
            }
        });
        if works.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    failed.map_or(Ok(()), Err)
}
