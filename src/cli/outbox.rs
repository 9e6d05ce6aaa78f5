//! `billday outbox`: the invoice mails, and sending those that wait.

use clap::Subcommand;

use crate::clock;
use crate::config::MailTransport;
use crate::deliver::{DeliveryReport, deliver};
use crate::domain::message::{MailState, clean};
use crate::store::Store;
use crate::store::outbox::{MailFilter, OutboxMail, Pause, Retry};

use super::{App, Exit, Wrong, one_tenant, table, words};

#[derive(Subcommand)]
pub(super) enum OutboxCommand {
    /// Mails and where they stand
    List {
        /// Only this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Only mails of this state
        #[arg(long, value_name = "STATE", value_parser = words(MailState::WORDS, MailState::parse))]
        state: Option<MailState>,
        /// How many at the most
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
    },
    /// One mail, by its payment
    Show {
        payment: String,
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Send what waits, and end
    Send,
    /// Keep all processes from sending mails, until `resume`
    Pause {
        /// Why, for whoever finds them waiting
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let mails go out again
    Resume,
    /// Send anew what failed, is held or had no address, to the present addresses
    Retry {
        payment: String,
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
}

pub(super) async fn outbox(app: &App, command: OutboxCommand) -> anyhow::Result<Exit> {
    match command {
        OutboxCommand::List { tenant, state, limit } => {
            let filter = MailFilter { tenant_id: tenant.as_deref(), state, payment_id: None };
            let mails = find(app, filter, limit).await?;
            if mails.is_empty() {
                eprintln!("no such mail");
                return Ok(Exit::Done);
            }
            if mails.len() as i64 == limit {
                eprintln!("there may be more: --limit {limit} was reached");
            }
            write(&mails)
        }
        OutboxCommand::Show { payment, tenant } => {
            let filter = MailFilter { tenant_id: tenant.as_deref(), state: None, payment_id: Some(&payment) };
            let mails = find(app, filter, 100).await?;
            if mails.is_empty() {
                return Err(Wrong(format!("there is no mail for a payment {payment}")).into());
            }
            write(&mails)
        }
        OutboxCommand::Send => {
            let store = app.store().await?;
            if app.config.mail.transport == MailTransport::None {
                return Err(Wrong("mail.transport is \"none\": mails stay in the outbox".to_owned()).into());
            }
            let report = send_waiting(app, &store).await?;
            store.close().await;
            println!("{} sent, {} failed", report.counts.sent, report.counts.failed);
            // Why was told already.
            if report.stopped.is_some() {
                anyhow::bail!("the mails that are left could not be sent")
            } else {
                Ok(Exit::Done)
            }
        }
        OutboxCommand::Pause { reason } => {
            let store = app.store().await?;
            let (by, now) = (app.by.clone(), app.now_micros());
            store.with_tx(move |tx| Box::pin(async move { tx.pause_mails(reason.as_deref(), &by, now).await })).await?;
            if let Some(pause) = find_pause(&store).await? {
                println!("{}", paused(&pause));
            }
            store.close().await;
            Ok(Exit::Done)
        }
        OutboxCommand::Resume => {
            let store = app.store().await?;
            let ended = store.with_tx(|tx| Box::pin(tx.resume_mails())).await?;
            store.close().await;
            println!("{}", if ended { "mails go out again" } else { "mails were not paused" });
            Ok(Exit::Done)
        }
        OutboxCommand::Retry { payment, tenant } => retry(app, payment, tenant).await,
    }
}

/// Sends the mails that wait; what keeps them from going out is told, and they go on waiting.
pub(super) async fn send_waiting(app: &App, store: &Store) -> anyhow::Result<DeliveryReport> {
    if let Some(pause) = find_pause(store).await? {
        eprintln!("{}", paused(&pause));
        return Ok(DeliveryReport::default());
    }
    let settings = super::mail::delivery_settings(&app.config)?;
    let report = deliver(store, &settings, &*app.clock, &mut |_| ()).await?;
    if let Some(why) = &report.stopped {
        eprintln!("mails cannot go out and wait in the outbox: {why}");
    }
    Ok(report)
}

async fn find_pause(store: &Store) -> anyhow::Result<Option<Pause>> {
    let mut session = store.read().await?;
    let pause = session.find_pause().await?;
    session.end().await;
    Ok(pause)
}

/// Says that no mail goes out, why and until when.
pub(super) fn paused(pause: &Pause) -> String {
    let since = clock::instant(pause.paused_at)
        .map_or_else(String::new, |at| format!(" since {}", at.format("%Y-%m-%d %H:%M UTC")));
    let reason = pause.reason.as_deref().map_or_else(String::new, |reason| format!(": {}", clean(reason, 200)));
    format!("mails are paused{since} by {}{reason}; `billday outbox resume` lets them go", pause.paused_by)
}

async fn find(app: &App, filter: MailFilter<'_>, limit: i64) -> anyhow::Result<Vec<OutboxMail>> {
    let Some(store) = app.store_read_only().await? else { return Ok(Vec::new()) };
    if let Some(pause) = find_pause(&store).await? {
        eprintln!("{}", paused(&pause));
    }
    let mut session = store.read().await?;
    let mails = session.list_mails(filter, None, limit).await?;
    session.end().await;
    Ok(mails)
}

fn write(mails: &[OutboxMail]) -> anyhow::Result<Exit> {
    let rows: Vec<Vec<String>> = mails
        .iter()
        .map(|mail| {
            vec![
                mail.tenant_id.clone(),
                mail.payment_id.clone(),
                mail.invoice_number.clone().unwrap_or_default(),
                match &mail.recipient {
                    Some(address) if mail.copy => format!("cc {address}"),
                    Some(address) => address.clone(),
                    None => "no address".to_owned(),
                },
                mail.state.as_str().to_owned(),
                mail.attempts.to_string(),
                mail.error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let heading = ["TENANT", "PAYMENT", "INVOICE", "TO", "STATE", "TRIES", "LAST ERROR"];
    table::write(&mut std::io::stdout(), &heading, &rows)?;
    Ok(Exit::Done)
}

async fn retry(app: &App, payment: String, tenant: Option<String>) -> anyhow::Result<Exit> {
    let store = app.store().await?;
    let filter = MailFilter { tenant_id: None, state: None, payment_id: Some(&payment) };
    let mut session = store.read().await?;
    let mut having: Vec<String> =
        session.list_mails(filter, None, 100).await?.into_iter().map(|mail| mail.tenant_id).collect();
    having.dedup();
    session.end().await;
    let tenant_id = one_tenant(tenant.as_deref(), &having, &format!("mail for payment {payment}"))?;
    let (id, now) = (payment.clone(), app.now_micros());
    let retry = store.with_tx(move |tx| Box::pin(async move { tx.retry_mail(&tenant_id, &id, now).await })).await?;
    match retry {
        Some(Retry::Queued(addresses)) => {
            eprintln!("sending the mail for {payment} to {}", addresses.join(", "));
        }
        Some(Retry::NoAddress) => {
            return Err(Wrong("the customer still has no address: import one first".to_owned()).into());
        }
        Some(Retry::NotNeeded(state)) => println!("the mail for {payment} is {}: nothing to retry", state.as_str()),
        None => return Err(Wrong(format!("there is no mail for a payment {payment}")).into()),
    }
    let report = send_waiting(app, &store).await?;
    println!("{} sent, {} failed", report.counts.sent, report.counts.failed);
    Ok(Exit::Done)
}
