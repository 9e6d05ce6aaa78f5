//! The mails that wait, one a recipient, and the protocol by which they are sent: claim, settle.
//!
//! A claim lasts as long as its lease and has a fence: whoever claims a mail after it ran out raises the fence, and what the
//! earlier process says about it is not written any more.

use std::collections::HashMap;

use anyhow::anyhow;
use serde_json::{Value, json};
use sqlx::FromRow;

use crate::domain::message::{Attempt, MailEvent, MailState, Patience, Recipients, Settled, Tried, WhenUnknown, step};
use crate::domain::report::Delivery;

use super::page::Page;
use super::{Result, Session, StoreError, dialect, on, row};

/// A mail that this process may send until its lease runs out.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ClaimedMail {
    pub tenant_id: String,
    pub payment_id: String,
    /// Its place among the mails of its payment, from 0.
    pub position: i64,
    pub recipient: Option<String>,
    /// The recipient is one who gets a copy.
    pub copy: bool,
    pub locale: String,
    pub fence: i64,
    pub attempts: i64,
    pub doubts: i64,
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
    pub position: i64,
    pub recipient: Option<String>,
    pub copy: bool,
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
    /// Mails wait to be sent to these addresses.
    Queued(Vec<String>),
    /// Neither the customer nor the mail has an address.
    NoAddress,
    /// They are in a state from which there is nothing to retry; this is the first one's.
    NotNeeded(MailState),
}

/// Why no mail is sent, by whom and since when.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Pause {
    pub reason: Option<String>,
    pub paused_by: String,
    /// Microseconds UTC.
    pub paused_at: i64,
}

impl OutboxMail {
    /// Unique in its tenant.
    pub fn id(&self) -> String {
        format!("{}/{}", self.payment_id, self.position)
    }
}

impl ClaimedMail {
    /// What was tried with it before this claim.
    pub fn tried(&self) -> Tried {
        Tried { attempts: self.attempts, doubts: self.doubts }
    }
}

/// Longer than any wait and any lease of a mail.
const FAR_MICROS: i64 = 2 * 24 * 3600 * 1_000_000;

/// What claims do with a mail whose sender did not come back in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expired {
    /// It is sent again, which does no harm.
    Taken,
    /// It is left to [`Session::doubt_expired_mails`].
    Left,
}

impl Session {
    /// Takes up to `limit` mails that are due at `now` and keeps others from them until `lease_until`; the longest waiting
    /// first, and none while sending is paused. To be committed before any of them is sent.
    pub async fn claim_mails(
        &mut self,
        limit: i64,
        now: i64,
        lease_until: i64,
        expired: Expired,
    ) -> Result<Vec<ClaimedMail>> {
        let mut claimed: Vec<ClaimedMail> =
            on!(self, |conn| sqlx::query_as::<Db, ClaimedMail>(dialect::claim_mails::<Db>())
                .bind(now)
                .bind(lease_until)
                .bind(limit)
                .bind(expired == Expired::Taken)
                .fetch_all(conn)
                .await?);
        // Rows come back in no order.
        claimed.sort_by(|a, b| {
            (a.created_at, &a.tenant_id, &a.payment_id, a.position).cmp(&(
                b.created_at,
                &b.tenant_id,
                &b.payment_id,
                b.position,
            ))
        });
        Ok(claimed)
    }

    /// Writes down that nobody knows what became of mails whose lease ran out at `now`; tells where they stand then. Where
    /// no mail may go out twice, those that were to be sent once more are held as well.
    pub async fn doubt_expired_mails(&mut self, now: i64, patience: Patience) -> Result<Vec<MailState>> {
        let expired: Vec<ClaimedMail> = on!(self, |conn| sqlx::query_as::<Db, ClaimedMail>(
            "select tenant_id, payment_id, position, recipient, copy, locale, fence, attempts, doubts, created_at
             from outbox
             where state = 'sending' and lease_until <= $1"
        )
        .bind(now)
        .fetch_all(conn)
        .await?);
        if patience.when_unknown == WhenUnknown::Hold {
            on!(self, |conn| sqlx::query::<Db>("update outbox set state = 'held' where state = 'unknown'")
                .execute(conn)
                .await?
                .rows_affected());
        }
        if expired.is_empty() {
            return Ok(Vec::new());
        }
        let doubted = expired.into_iter().map(|mail| {
            let reason = "the process that was sending it ended, or took too long, before it knew".to_owned();
            let settled = Attempt::Doubted(reason).settle(mail.tried(), patience).map_err(|error| anyhow!(error))?;
            Ok((mail, settled))
        });
        let doubted: Vec<_> = doubted.collect::<Result<_>>()?;
        self.settle_mails(&doubted, now).await
    }

    /// Makes due what a clock that was set far ahead has put off or claimed: no wait and no lease is as long as two days.
    pub async fn recall_mails(&mut self, now: i64) -> Result<()> {
        let far = now + FAR_MICROS;
        for sql in [
            "update outbox set next_at = $1 where state in ('pending', 'sending', 'unknown') and next_at > $2",
            // The list is what SQLite knows its index by.
            "update outbox set lease_until = $1
             where state in ('sending', 'unknown') and state = 'sending' and lease_until > $2",
        ] {
            on!(self, |conn| sqlx::query::<Db>(sql).bind(now).bind(far).execute(conn).await?.rows_affected());
        }
        Ok(())
    }

    /// Writes what became of claimed mails, and tells the states written: one whose lease ran out and that another process
    /// has taken since is left as it is. That a mail was accepted is written for one in doubt too, for it is proof.
    pub async fn settle_mails(&mut self, settled: &[(ClaimedMail, Settled)], now: i64) -> Result<Vec<MailState>> {
        let rows: Vec<Value> = settled.iter().map(|(mail, settled)| settled_row(mail, settled, now)).collect();
        let rows = Value::from(rows).to_string();
        let states: Vec<String> = on!(self, |conn| dialect::with_settled_mails::<Db>(
            "update outbox
             set state = settled.state, attempts = settled.attempts, doubts = settled.doubts, lease_until = null,
                 next_at = coalesce(settled.next_at, outbox.next_at), sent_at = settled.sent_at, error = settled.error
             from $settled
             where outbox.tenant_id = settled.tenant_id and outbox.payment_id = settled.payment_id
               and outbox.kind = 'invoice' and outbox.position = settled.position and outbox.fence = settled.fence
               and (outbox.state = 'sending' or settled.state = 'sent' and outbox.state in ('unknown', 'held'))
             returning outbox.state",
            &rows
        )
        .try_map(|row| sqlx::Row::try_get(&row, 0))
        .fetch_all(conn)
        .await?);
        states.iter().map(|state| mail_state(state)).collect()
    }

    /// Who gets the invoice of each (tenant, payment), and who a copy: what stands on top of each of its mails.
    pub async fn list_recipients(&mut self, keys: &[(&str, &str)]) -> Result<HashMap<(String, String), Recipients>> {
        let json = serde_json::to_string(keys).map_err(|error| anyhow!(error))?;
        let rows: Vec<(String, String, String, bool)> = on!(self, |conn| dialect::with_payments::<Db>(
            "select tenant_id, payment_id, recipient, copy
             from outbox
             where (tenant_id, payment_id) in $payments and recipient is not null
             order by tenant_id, payment_id, position",
            &json
        )
        .try_map(|row| FromRow::from_row(&row))
        .fetch_all(conn)
        .await?);
        let mut recipients: HashMap<(String, String), Recipients> = HashMap::new();
        for (tenant_id, payment_id, recipient, copy) in rows {
            let of_payment = recipients.entry((tenant_id, payment_id)).or_default();
            if copy { of_payment.copies.push(recipient) } else { of_payment.to.push(recipient) }
        }
        Ok(recipients)
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

    /// A page of mails, ordered by tenant, payment and position, beginning behind those of `after`.
    pub async fn list_mails(
        &mut self,
        filter: MailFilter<'_>,
        after: Option<(&str, &str, i64)>,
        limit: i64,
    ) -> Result<Vec<OutboxMail>> {
        let (after_tenant, after_payment, after_position) = after.unwrap_or_default();
        let rows: Vec<MailRow> = on!(self, |conn| {
            sqlx::query_as::<Db, MailRow>(
            "select o.tenant_id, o.payment_id, p.invoice_number, p.customer_id, o.position, o.recipient, o.copy, o.state,
                    o.attempts, o.next_at, o.sent_at, o.error, o.created_at
             from outbox o
             left join payments p on p.tenant_id = o.tenant_id and p.payment_id = o.payment_id
             where ($1 is null or o.tenant_id = $1) and ($2 is null or o.state = $2)
               and ($3 is null or o.payment_id = $3) and (o.tenant_id, o.payment_id, o.position) > ($4, $5, $6)
             order by o.tenant_id, o.payment_id, o.position
             limit $7"
        )
        .bind(filter.tenant_id)
        .bind(filter.state.map(MailState::as_str))
        .bind(filter.payment_id)
        .bind(after_tenant)
        .bind(after_payment)
        .bind(after_position)
        .bind(limit)
        .fetch_all(conn)
        .await?
        });
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// A page of one tenant's mails.
    pub async fn list_mail_page(
        &mut self,
        tenant_id: &str,
        state: Option<MailState>,
        payment_id: Option<&str>,
        page: &Page,
    ) -> Result<Vec<OutboxMail>> {
        let rows: Vec<MailRow> = on!(self, |conn| {
            let mut query = sqlx::QueryBuilder::<Db>::new(
                "select * from (
                     select o.tenant_id, o.payment_id, p.invoice_number, p.customer_id, o.position, o.recipient, o.copy,
                            o.state, o.attempts, o.next_at, o.sent_at, o.error, o.created_at,
                            o.payment_id || '/' || o.position as mail_id
                     from outbox o
                     left join payments p on p.tenant_id = o.tenant_id and p.payment_id = o.payment_id
                 ) mails
                 where tenant_id = ",
            );
            query.push_bind(tenant_id);
            if let Some(state) = state {
                query.push(" and state = ").push_bind(state.as_str());
            }
            if let Some(payment_id) = payment_id {
                query.push(" and payment_id = ").push_bind(payment_id);
            }
            page.push_to(&mut query, "mail_id");
            query.build_query_as::<MailRow>().fetch_all(conn).await?
        });
        rows.into_iter().map(TryInto::try_into).collect()
    }

    /// The first mail of one payment, which is the only one unless the invoice goes to several recipients.
    pub async fn find_mail(&mut self, tenant_id: &str, payment_id: &str) -> Result<Option<OutboxMail>> {
        let filter = MailFilter { tenant_id: Some(tenant_id), payment_id: Some(payment_id), state: None };
        Ok(self.list_mails(filter, None, 1).await?.pop())
    }

    /// Lets those mails of a payment that failed, are held or had no recipient be tried anew, at the present addresses if there
    /// are: those are what a person has mended. `None` if the payment has no mail.
    pub async fn retry_mail(&mut self, tenant_id: &str, payment_id: &str, now: i64) -> Result<Option<Retry>> {
        let rows: Vec<RetryRow> = on!(self, |conn| sqlx::query_as::<Db, RetryRow>(
            "select o.position, o.recipient, o.copy, o.state, c.customer_id, c.billing_email, c.invoice_recipients,
                    c.invoice_cc, g.billing_group_id, g.invoice_recipients as group_recipients, g.invoice_cc as group_cc
             from outbox o
             left join payments p on p.tenant_id = o.tenant_id and p.payment_id = o.payment_id
             left join customers c on c.tenant_id = p.tenant_id and c.customer_id = p.customer_id
             left join billing_groups g on g.tenant_id = p.tenant_id and p.subject_kind = 'group'
                                       and g.billing_group_id = p.subject_id
             where o.tenant_id = $1 and o.payment_id = $2 and o.kind = 'invoice'
             order by o.position"
        )
        .bind(tenant_id)
        .bind(payment_id)
        .fetch_all(conn)
        .await?);
        let Some(first) = rows.first() else { return Ok(None) };
        let first_state = mail_state(&first.state)?;
        let present = first.present_recipients()?;
        let mut taken: Vec<String> = rows.iter().filter_map(|row| row.recipient.clone()).collect();
        let (mut queued, mut retried) = (Vec::new(), false);
        for row in rows {
            let Ok(next) = step(mail_state(&row.state)?, MailEvent::Retried) else { continue };
            retried = true;
            let of_its_kind = if row.copy { &present.copies } else { &present.to };
            let Some(recipient) = address_now(row.recipient, of_its_kind, &taken) else { continue };
            taken.push(recipient.clone());
            let written = on!(self, |conn| sqlx::query::<Db>(
                "update outbox
                 set state = $5, recipient = $6, attempts = 0, doubts = 0, next_at = $7, error = null
                 where tenant_id = $1 and payment_id = $2 and kind = 'invoice' and position = $3 and state = $4"
            )
            .bind(tenant_id)
            .bind(payment_id)
            .bind(row.position)
            .bind(&row.state)
            .bind(next.as_str())
            .bind(&recipient)
            .bind(now)
            .execute(conn)
            .await?
            .rows_affected());
            if written != 1 {
                return Err(StoreError::Conflict);
            }
            queued.push(recipient);
        }
        Ok(Some(match (retried, queued.is_empty()) {
            (false, _) => Retry::NotNeeded(first_state),
            (true, true) => Retry::NoAddress,
            (true, false) => Retry::Queued(queued),
        }))
    }

    /// Keeps all processes from taking mails; a pause that stands gets the new reason.
    pub async fn pause_mails(&mut self, reason: Option<&str>, by: &str, now: i64) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "insert into outbox_pause (only_one, reason, paused_by, paused_at) values (1, $1, $2, $3)
             on conflict (only_one) do update set reason = excluded.reason, paused_by = excluded.paused_by"
        )
        .bind(reason)
        .bind(by)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Lets mails go out again; false if they were not paused.
    pub async fn resume_mails(&mut self) -> Result<bool> {
        let ended =
            on!(self, |conn| sqlx::query::<Db>("delete from outbox_pause").execute(conn).await?.rows_affected());
        Ok(ended > 0)
    }

    /// The pause that stands.
    pub async fn find_pause(&mut self) -> Result<Option<Pause>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, Pause>("select reason, paused_by, paused_at from outbox_pause")
            .fetch_optional(conn)
            .await?))
    }
}

/// Where a mail goes when it is retried: to its own address while that is still one to send to, else to a present one that no
/// mail of the payment has gone to, else to its own all the same.
fn address_now(own: Option<String>, present: &[String], taken: &[String]) -> Option<String> {
    let is = |one: &String, other: &String| one.eq_ignore_ascii_case(other);
    if own.as_ref().is_some_and(|own| present.iter().any(|present| is(present, own))) {
        return own;
    }
    let fresh = present.iter().find(|present| !taken.iter().any(|taken| is(taken, present)));
    fresh.cloned().or(own)
}

#[derive(FromRow)]
struct RetryRow {
    position: i64,
    recipient: Option<String>,
    copy: bool,
    state: String,
    customer_id: Option<String>,
    billing_email: Option<String>,
    invoice_recipients: Option<String>,
    invoice_cc: Option<String>,
    billing_group_id: Option<String>,
    group_recipients: Option<String>,
    group_cc: Option<String>,
}

impl RetryRow {
    /// Who would get the invoice if it were made now.
    fn present_recipients(&self) -> Result<Recipients> {
        let lists = |kind, id: &Option<String>, to: &Option<String>, copies: &Option<String>| {
            let id = id.as_deref().unwrap_or_default();
            row::recipient_lists(kind, id, to.as_deref(), copies.as_deref()).map_err(|bad| {
                anyhow!("{} of {} {} is no list of addresses: {}", bad.field, bad.kind, bad.id, bad.value)
            })
        };
        let own = lists("customer", &self.customer_id, &self.invoice_recipients, &self.invoice_cc)?;
        let of_group = lists("group", &self.billing_group_id, &self.group_recipients, &self.group_cc)?;
        Ok(of_group.or(own).recipients(self.billing_email.as_deref()))
    }
}

#[derive(FromRow)]
struct MailRow {
    tenant_id: String,
    payment_id: String,
    invoice_number: Option<String>,
    customer_id: Option<String>,
    position: i64,
    recipient: Option<String>,
    copy: bool,
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
            position: row.position,
            recipient: row.recipient,
            copy: row.copy,
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
        "position": mail.position,
        "fence": mail.fence,
        "state": settled.state.as_str(),
        "attempts": settled.tried.attempts,
        "doubts": settled.tried.doubts,
        "next_at": settled.wait_seconds.map(|seconds| now + seconds * 1_000_000),
        "sent_at": (settled.state == MailState::Sent).then_some(now),
        "error": settled.error,
    })
}

fn mail_state(word: &str) -> Result<MailState> {
    Ok(MailState::parse(word)
        .ok_or_else(|| anyhow!("outbox.state holds {word:?}, which this program does not know"))?)
}
