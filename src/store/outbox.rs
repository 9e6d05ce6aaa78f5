//! The mails that wait, and the protocol by which they are sent: claim, settle.
//!
//! A claim lasts as long as its lease and has a fence: whoever claims a mail after it ran out raises the fence, and what the
//! earlier process says about it is not written any more.

use anyhow::anyhow;
use serde_json::{Value, json};
use sqlx::FromRow;

use crate::domain::message::{MailEvent, MailState, Settled, step};
use crate::domain::report::Delivery;

use super::{Result, Session, StoreError, dialect, on};

/// A mail that this process may send until its lease runs out.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ClaimedMail {
    pub tenant_id: String,
    pub payment_id: String,
    pub recipient: Option<String>,
    pub locale: String,
    pub fence: i64,
    pub attempts: i64,
    /// When the invoice was made, in microseconds UTC.
    pub created_at: i64,
}

/// A mail as a person sees it in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMail {
    pub tenant_id: String,
    pub payment_id: String,
    pub invoice_number: Option<String>,
    pub customer_id: Option<String>,
    pub recipient: Option<String>,
    pub state: MailState,
    pub attempts: i64,
    /// Microseconds UTC, as all instants here.
    pub next_at: i64,
    pub sent_at: Option<i64>,
    /// Why the last attempt did not succeed.
    pub error: Option<String>,
    pub created_at: i64,
}

/// Which mails to list; all of them by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct MailFilter<'a> {
    pub tenant_id: Option<&'a str>,
    pub state: Option<MailState>,
    pub payment_id: Option<&'a str>,
}

/// What became of a person's wish to try a mail anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retry {
    /// It waits to be sent to this address.
    Queued(String),
    /// Neither the customer nor the mail has an address.
    NoAddress,
    /// It is in a state from which there is nothing to retry.
    NotNeeded(MailState),
}

impl Session {
    /// Takes up to `limit` mails that are due at `now` and keeps others from them until `lease_until`; the longest waiting
    /// first. To be committed before any of them is sent.
    pub async fn claim_mails(&mut self, limit: i64, now: i64, lease_until: i64) -> Result<Vec<ClaimedMail>> {
        let mut claimed: Vec<ClaimedMail> =
            on!(self, |conn| sqlx::query_as::<Db, ClaimedMail>(dialect::claim_mails::<Db>())
                .bind(now)
                .bind(lease_until)
                .bind(limit)
                .fetch_all(conn)
                .await?);
        // Rows come back in no order.
        claimed.sort_by(|a, b| {
            (a.created_at, &a.tenant_id, &a.payment_id).cmp(&(b.created_at, &b.tenant_id, &b.payment_id))
        });
        Ok(claimed)
    }

    /// Writes what became of claimed mails, and tells the states written: one whose lease ran out and that another process
    /// has taken since is left as it is.
    pub async fn settle_mails(&mut self, settled: &[(ClaimedMail, Settled)], now: i64) -> Result<Vec<MailState>> {
        let rows: Vec<Value> = settled.iter().map(|(mail, settled)| settled_row(mail, settled, now)).collect();
        let rows = Value::from(rows).to_string();
        let states: Vec<String> = on!(self, |conn| dialect::with_settled_mails::<Db>(
            "update outbox
             set state = settled.state, attempts = settled.attempts, lease_until = null,
                 next_at = coalesce(settled.next_at, outbox.next_at), sent_at = settled.sent_at, error = settled.error
             from $settled
             where outbox.tenant_id = settled.tenant_id and outbox.payment_id = settled.payment_id
               and outbox.kind = 'invoice' and outbox.state = 'sending' and outbox.fence = settled.fence
             returning outbox.state",
            &rows
        )
        .try_map(|row| sqlx::Row::try_get(&row, 0))
        .fetch_all(conn)
        .await?);
        states.iter().map(|state| mail_state(state)).collect()
    }

    /// How many mails of a run's payments stand where; a payment of total 0 has none (rule 16).
    pub async fn delivery_of_run(&mut self, tenant_id: &str, run_id: &str) -> Result<Delivery> {
        let counts: Vec<(String, i64)> = on!(self, |conn| sqlx::query_as::<Db, (String, i64)>(
            "select m.state, count(*)
             from outcomes o
             join outbox m on m.tenant_id = o.tenant_id and m.payment_id = o.payment_id
             where o.tenant_id = $1 and o.run_id = $2
               and o.run_date = (select run_date from runs where tenant_id = $1 and run_id = $2)
             group by m.state"
        )
        .bind(tenant_id)
        .bind(run_id)
        .fetch_all(conn)
        .await?);
        let mut delivery = Delivery::default();
        for (state, count) in counts {
            delivery.add(mail_state(&state)?, count as u64);
        }
        Ok(delivery)
    }

    /// A page of mails, ordered by tenant and payment, beginning behind the (tenant, payment) of `after`.
    pub async fn list_mails(
        &mut self,
        filter: MailFilter<'_>,
        after: Option<(&str, &str)>,
        limit: i64,
    ) -> Result<Vec<OutboxMail>> {
        let (after_tenant, after_payment) = after.unwrap_or_default();
        let rows: Vec<MailRow> = on!(self, |conn| sqlx::query_as::<Db, MailRow>(
            "select o.tenant_id, o.payment_id, p.invoice_number, p.customer_id, o.recipient, o.state, o.attempts,
                    o.next_at, o.sent_at, o.error, o.created_at
             from outbox o
             left join payments p on p.tenant_id = o.tenant_id and p.payment_id = o.payment_id
             where ($1 is null or o.tenant_id = $1) and ($2 is null or o.state = $2)
               and ($3 is null or o.payment_id = $3) and (o.tenant_id, o.payment_id) > ($4, $5)
             order by o.tenant_id, o.payment_id
             limit $6"
        )
        .bind(filter.tenant_id)
        .bind(filter.state.map(MailState::as_str))
        .bind(filter.payment_id)
        .bind(after_tenant)
        .bind(after_payment)
        .bind(limit)
        .fetch_all(conn)
        .await?);
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// The mail of one payment.
    pub async fn find_mail(&mut self, tenant_id: &str, payment_id: &str) -> Result<Option<OutboxMail>> {
        let filter = MailFilter { tenant_id: Some(tenant_id), payment_id: Some(payment_id), state: None };
        Ok(self.list_mails(filter, None, 1).await?.pop())
    }

    /// Lets a mail that failed or had no recipient be tried anew, at the customer's present address if there is one: that is
    /// what a person has mended. `None` if the payment has no mail.
    pub async fn retry_mail(&mut self, tenant_id: &str, payment_id: &str, now: i64) -> Result<Option<Retry>> {
        let found: Option<(String, Option<String>)> = on!(self, |conn| sqlx::query_as::<Db, (String, Option<String>)>(
            "select o.state, coalesce(c.billing_email, o.recipient)
             from outbox o
             left join payments p on p.tenant_id = o.tenant_id and p.payment_id = o.payment_id
             left join customers c on c.tenant_id = p.tenant_id and c.customer_id = p.customer_id
             where o.tenant_id = $1 and o.payment_id = $2 and o.kind = 'invoice'"
        )
        .bind(tenant_id)
        .bind(payment_id)
        .fetch_optional(conn)
        .await?);
        let Some((state, recipient)) = found else { return Ok(None) };
        let Ok(next) = step(mail_state(&state)?, MailEvent::Retried) else {
            return Ok(Some(Retry::NotNeeded(mail_state(&state)?)));
        };
        let Some(recipient) = recipient else { return Ok(Some(Retry::NoAddress)) };
        let rows = on!(self, |conn| sqlx::query::<Db>(
            "update outbox
             set state = $4, recipient = $5, attempts = 0, next_at = $6, error = null
             where tenant_id = $1 and payment_id = $2 and kind = 'invoice' and state = $3"
        )
        .bind(tenant_id)
        .bind(payment_id)
        .bind(&state)
        .bind(next.as_str())
        .bind(&recipient)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
        if rows == 1 { Ok(Some(Retry::Queued(recipient))) } else { Err(StoreError::Conflict) }
    }
}

#[derive(FromRow)]
struct MailRow {
    tenant_id: String,
    payment_id: String,
    invoice_number: Option<String>,
    customer_id: Option<String>,
    recipient: Option<String>,
    state: String,
    attempts: i64,
    next_at: i64,
    sent_at: Option<i64>,
    error: Option<String>,
    created_at: i64,
}

impl TryFrom<MailRow> for OutboxMail {
    type Error = StoreError;

    fn try_from(row: MailRow) -> Result<Self> {
        Ok(Self {
            state: mail_state(&row.state)?,
            tenant_id: row.tenant_id,
            payment_id: row.payment_id,
            invoice_number: row.invoice_number,
            customer_id: row.customer_id,
            recipient: row.recipient,
            attempts: row.attempts,
            next_at: row.next_at,
            sent_at: row.sent_at,
            error: row.error,
            created_at: row.created_at,
        })
    }
}

/// A row of the table `settled` that the statement reads.
fn settled_row(mail: &ClaimedMail, settled: &Settled, now: i64) -> Value {
    json!({
        "tenant_id": mail.tenant_id,
        "payment_id": mail.payment_id,
        "fence": mail.fence,
        "state": settled.state.as_str(),
        "attempts": settled.attempts,
        "next_at": settled.wait_seconds.map(|seconds| now + seconds * 1_000_000),
        "sent_at": (settled.state == MailState::Sent).then_some(now),
        "error": settled.error,
    })
}

fn mail_state(word: &str) -> Result<MailState> {
    Ok(MailState::parse(word)
        .ok_or_else(|| anyhow!("outbox.state holds {word:?}, which this program does not know"))?)
}
