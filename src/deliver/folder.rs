//! Mails as files, a batch at a time.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;

use crate::domain::message::Attempt;
use crate::mail::FolderTransport;
use crate::store::outbox::{ClaimedMail, Expired};

use super::compose::{Composer, Waiting};
use super::{DeliveryReport, Pass, Progress, attempt};

/// Mails claimed at a time: few enough to be written well within the lease, enough to make the cost of a transaction small.
const BATCH_SIZE: i64 = 100;

pub(super) async fn deliver(pass: &Pass<'_>, folder: &Path, progress: Progress<'_>) -> anyhow::Result<DeliveryReport> {
    let mut report = DeliveryReport::default();
    let (composer, folder) = (Arc::new(Composer::new(pass.settings)?), Arc::new(FolderTransport::new(folder)));
    while report.stopped.is_none() {
        let batch = pass.claim(BATCH_SIZE, Expired::Taken, &composer).await?;
        if batch.is_empty() {
            break;
        }
        let (composer, folder) = (Arc::clone(&composer), Arc::clone(&folder));
        let write = tokio::task::spawn_blocking(move || write_batch(&composer, &folder, batch));
        let (attempts, stopped) = write.await.context("cannot send mails")?;
        pass.settle(attempts, &mut report).await?;
        report.stopped = stopped;
        progress(&report);
    }
    Ok(report)
}

/// Writes mail by mail, and tells why it stopped; once the folder fails, the rest is released untried.
fn write_batch(
    composer: &Composer,
    folder: &FolderTransport,
    batch: Vec<Waiting>,
) -> (Vec<(ClaimedMail, Attempt)>, Option<String>) {
    let mut stopped = folder.prepare().err().map(|error| error.to_string());
    let mut attempts = Vec::with_capacity(batch.len());
    for waiting in batch {
        if let Some(reason) = &stopped {
            attempts.push((waiting.mail, Attempt::Released(reason.clone())));
            continue;
        }
        let (mail, message) = composer.compose(waiting);
        let written = message.map(|message| folder.send(&message.outgoing()));
        let attempt = written.map_or_else(|untried| untried, attempt);
        if let Attempt::Released(reason) = &attempt {
            stopped = Some(reason.clone());
        }
        attempts.push((mail, attempt));
    }
    if let Err(error) = folder.flush() {
        // What was written may not last: all of it is to be written again.
        let reason = stopped.get_or_insert_with(|| error.to_string()).clone();
        for (_, attempt) in attempts.iter_mut().filter(|(_, attempt)| *attempt == Attempt::Accepted) {
            *attempt = Attempt::Released(reason.clone());
        }
    }
    (attempts, stopped)
}
