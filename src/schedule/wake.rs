//! When to tick: each minute. Whatever is due is worked out anew at each tick, so one may be late, early, double or absent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::clock::Clock;

/// The first second of each minute, in UTC: tenants' zones are resolved elsewhere, since the scheduler freezes a zone's offset.
const EACH_MINUTE: &str = "0 * * * * *";

/// What ticks until it is dropped.
pub(super) enum Ticking {
    Scheduled(JobScheduler),
    /// By a clock that is not the machine's.
    ByClock(tokio::task::JoinHandle<()>),
}

impl Ticking {
    /// Sends a word into `ticks` each minute; one that finds another waiting is left out.
    pub async fn start(clock: &Arc<dyn Clock>, ticks: mpsc::Sender<()>) -> anyhow::Result<Self> {
        if clock.is_machine() {
            return Ok(Self::Scheduled(schedule(EACH_MINUTE, ticks).await.context("cannot start the scheduler")?));
        }
        let clock = Arc::clone(clock);
        Ok(Self::ByClock(tokio::spawn(async move {
            let minute = |clock: &dyn Clock| clock.now().timestamp().div_euclid(60);
            let mut last = minute(&*clock);
            while !ticks.is_closed() {
                tokio::time::sleep(Duration::from_millis(10)).await;
                if minute(&*clock) != last {
                    last = minute(&*clock);
                    let _ = ticks.try_send(());
                }
            }
        })))
    }

    pub async fn stop(self) {
        match self {
            Self::Scheduled(mut scheduler) => {
                let _ = scheduler.shutdown().await;
            }
            Self::ByClock(task) => task.abort(),
        }
    }
}

async fn schedule(when: &str, ticks: mpsc::Sender<()>) -> anyhow::Result<JobScheduler> {
    let scheduler = JobScheduler::new().await?;
    let job = Job::new_async(when, move |_, _| {
        let ticks = ticks.clone();
        Box::pin(async move {
            let _ = ticks.try_send(());
        })
    })?;
    scheduler.add(job).await?;
    scheduler.start().await?;
    Ok(scheduler)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_scheduler_ticks_again_and_again() {
        let (sender, mut ticks) = mpsc::channel(1);
        let mut scheduler = schedule("* * * * * *", sender).await.unwrap();
        for _ in 0..2 {
            tokio::time::timeout(Duration::from_secs(20), ticks.recv()).await.expect("a tick").expect("a tick");
        }
        scheduler.shutdown().await.unwrap();
    }
}
