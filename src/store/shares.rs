//! The shares of a date that is being run, and the leases on them.
//!
//! ```text
//! claim ──► run batch by batch, each renewing the lease in its own transaction ──► finish; the last one completes the date
//!   ▲                                    │
//!   └── by another, once the lease ran out ┘
//! ```
//!
//! Who may do what is decided by [`day::step`] and [`lease::step`]; here it is loaded, locked and stored. Each share is a run
//! with a record of its own, so whoever takes one over ends the run of the one before, who then can write nothing more. Rows
//! are locked in the order series, shares, runs, everywhere.

use anyhow::anyhow;
use chrono::NaiveDate;
use sqlx::FromRow;

use crate::domain::day::{self, Day, DayEvent};
use crate::domain::lease::{self, Lease, LeaseEvent, LeaseRefusal, LeaseState};
use crate::domain::tenant::BillingCycle;
use crate::domain::{BillingDay, BillingPeriod, SubjectKind, Tenant};

use super::due::Position;
use super::runs::RunStart;
use super::{Result, Session, Store, StoreError, dialect, on};

/// A part of a date that this process may run, until its lease runs out.
#[derive(Debug, Clone)]
pub struct Share {
    /// From 1.
    pub number: i64,
    /// How many the date has.
    pub count: i64,
    /// It begins right behind this position.
    pub after: Position,
    /// It ends with this one; without, at the end.
    pub through: Option<Position>,
    pub run_id: String,
    pub held: Held,
}

/// What proves to be the holder of a share.
#[derive(Debug, Clone)]
pub struct Held {
    pub tenant_id: String,
    pub run_date: NaiveDate,
    pub number: i64,
    pub fence: i64,
    /// How far the clock that leases follow is ahead of the program's, in microseconds.
    pub skew: i64,
}

/// Who claims what.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    pub tenant_id: &'a str,
    /// What is put on record as the run of the share.
    pub start: RunStart<'a>,
    /// The ends of all shares but the last, if the date is to be cut; it stays as it is if it was cut before.
    pub cuts: Option<&'a [Position]>,
    pub owner: &'a str,
    pub skew: i64,
}

/// What became of a claim.
#[derive(Debug)]
pub enum Claimed {
    Share(Box<Share>),
    /// Others hold what is not done yet.
    Held,
    /// The date is completed.
    Completed,
}

#[derive(FromRow)]
struct ShareRow {
    share: i64,
    shares: i64,
    after_key: Option<String>,
    through_key: Option<String>,
    state: String,
    fence: i64,
    lease_until: Option<i64>,
    run_id: Option<String>,
}

impl ShareRow {
    fn lease(&self) -> Result<Lease> {
        let state = match (self.state.as_str(), self.lease_until) {
            ("free", _) => LeaseState::Free,
            ("held", Some(until)) => LeaseState::Held { until },
            ("done", _) => LeaseState::Done,
            (state, _) => return Err(anyhow!("shares.state holds {state:?}, which this program does not know").into()),
        };
        Ok(Lease { state, fence: self.fence })
    }
}

/// The date as far as these rows tell.
fn day(completed: bool, rows: &[ShareRow]) -> Result<Day> {
    let shares = rows.iter().map(|row| Ok((row.share, row.lease()?))).collect::<Result<_>>()?;
    Ok(Day { completed, shares })
}

fn position(key: &Option<String>) -> Result<Option<Position>> {
    let parse = |key: &String| Position::parse(key).ok_or_else(|| anyhow!("shares holds the key {key:?}").into());
    key.as_ref().map(parse).transpose()
}

impl Store {
    /// What the database's clock shows, in microseconds UTC; `None` for SQLite, which has none.
    pub async fn database_time(&self) -> Result<Option<i64>> {
        let mut session = self.read().await?;
        let time = match dialect::clock(&session) {
            None => None,
            Some(sql) => Some(on!(session, |conn| sqlx::query_scalar::<Db, i64>(sql).fetch_one(conn).await?)),
        };
        session.end().await;
        Ok(time)
    }
}

impl Session {
    /// Whether a date has been cut into shares.
    pub async fn is_cut(&mut self, tenant_id: &str, run_date: NaiveDate) -> Result<bool> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, bool>(
            "select exists(select 1 from shares where tenant_id = $1 and run_date = $2)"
        )
        .bind(tenant_id)
        .bind(run_date)
        .fetch_one(conn)
        .await?))
    }

    /// Where to cut a date so that each share has about `rentals` rentals; a group is never split.
    pub async fn cuts(&mut self, tenant: &Tenant, run_date: NaiveDate, rentals: i64) -> Result<Vec<Position>> {
        let days: Vec<i64> = match tenant.billing_cycle {
            BillingCycle::StartDate => BillingDay::due_on(run_date).map(|day| i64::from(day.number())).collect(),
            BillingCycle::FixedDay(day) if day.date_in(BillingPeriod::of(run_date)) == run_date => vec![1, 31],
            BillingCycle::FixedDay(_) => Vec::new(),
        };
        // A range that holds no day, if rentals billed alone are not due.
        let (first, last) = days.first().zip(days.last()).map_or((1, 0), |(&first, &last)| (first, last));
        let group_day = BillingDay::due_on(run_date).next().map_or(0, |day| i64::from(day.number()));
        let mut cuts: Vec<(String, i64, String, i64)> = on!(self, |conn| {
            sqlx::query_as::<Db, (String, i64, String, i64)>(
                "with due as (
                 select customer_id, cast(0 as bigint) as kind, sort_key,
                        1 + (select count(*) from rentals r
                             where r.tenant_id = g.tenant_id and r.billing_group_id = g.billing_group_id) as weight
                 from billing_groups g
                 where tenant_id = $1 and billing_day = $2 and status = 'active'
                 union all
                 select customer_id, cast(1 as bigint), sort_key, cast(1 as bigint)
                 from rentals
                 where tenant_id = $1 and start_day between $3 and $4 and billed_group_id is null),
             added as (
                 select customer_id, kind, sort_key, weight,
                        cast(sum(weight) over (order by customer_id, kind, sort_key rows unbounded preceding) as bigint)
                            as total
                 from due)
             select customer_id, kind, sort_key, cast((select max(total) from added) as bigint) - total
             from added
             where total / $5 > (total - weight) / $5
             order by customer_id, kind, sort_key",
            )
            .bind(&tenant.tenant_id)
            .bind(group_day)
            .bind(first)
            .bind(last)
            .bind(rentals)
            .fetch_all(conn)
            .await?
        });
        // A rest that is small goes with the share before it.
        cuts.pop_if(|(.., rest)| *rest < rentals / 2);
        let kind = |kind| if kind == 0 { SubjectKind::Group } else { SubjectKind::Rental };
        Ok(cuts.into_iter().map(|(customer, k, sort_key, _)| Position::at(customer, kind(k), sort_key)).collect())
    }

    /// Takes a share of a date that nobody holds, the first one first, and begins its run; cuts the date before, if need be.
    pub async fn claim_share(&mut self, claim: &Claim<'_>) -> Result<Claimed> {
        let Claim { tenant_id, start, cuts, owner, skew } = claim;
        let run_date = start.run_date;
        if let Some(cuts) = cuts {
            self.insert_shares(tenant_id, run_date, cuts).await?;
        }
        // Behind the insert, which waits for whoever is completing the date.
        let completed = !self.completed_dates(tenant_id, run_date, run_date).await?.is_empty();
        let now = start.now + skew;
        let row: Option<ShareRow> = on!(self, |conn| sqlx::query_as::<Db, ShareRow>(dialect::locking::<Db>(
            "select share, shares, after_key, through_key, state, fence, lease_until, run_id
             from shares
             where tenant_id = $1 and run_date = $2 and (state = 'free' or state = 'held' and lease_until <= $3)
             order by share
             limit 1
             $take"
        ))
        .bind(tenant_id)
        .bind(run_date)
        .bind(now)
        .fetch_optional(conn)
        .await?);
        let lease = match (&row, day::step(&day(completed, row.as_slice())?, DayEvent::Claimed { now })) {
            (Some(row), Ok(mut day)) => day.shares.remove(&row.share),
            (_, Err(LeaseRefusal::Done)) => {
                on!(self, |conn| sqlx::query::<Db>(
                    "delete from shares where tenant_id = $1 and run_date = $2 and state <> 'held'"
                )
                .bind(tenant_id)
                .bind(run_date)
                .execute(conn)
                .await?
                .rows_affected());
                return Ok(Claimed::Completed);
            }
            _ => None,
        };
        let (Some(row), Some(lease)) = (row, lease) else { return Ok(Claimed::Held) };
        let held =
            Held { tenant_id: (*tenant_id).to_owned(), run_date, number: row.share, fence: lease.fence, skew: *skew };
        self.store_lease(&held, &lease, Some((owner, start.run_id))).await?;
        if let Some(before) = &row.run_id {
            self.fail_run(tenant_id, before, "taken over", start.now).await?;
        }
        let start = RunStart { share: (row.shares > 1).then_some((row.share, row.shares)), ..start.clone() };
        self.insert_run(tenant_id, &start).await?;
        Ok(Claimed::Share(Box::new(Share {
            number: row.share,
            count: row.shares,
            after: position(&row.after_key)?.unwrap_or_default(),
            through: position(&row.through_key)?,
            run_id: start.run_id.to_owned(),
            held,
        })))
    }

    async fn insert_shares(&mut self, tenant_id: &str, run_date: NaiveDate, cuts: &[Position]) -> Result<()> {
        for number in 0..=cuts.len() {
            let after = number.checked_sub(1).and_then(|before| cuts.get(before)).map(Position::to_text);
            let rows = on!(self, |conn| sqlx::query::<Db>(
                "insert into shares (tenant_id, run_date, share, shares, after_key, through_key, state, fence)
                 values ($1, $2, $3, $4, $5, $6, 'free', 0)
                 on conflict do nothing"
            )
            .bind(tenant_id)
            .bind(run_date)
            .bind(number as i64 + 1)
            .bind(cuts.len() as i64 + 1)
            .bind(after)
            .bind(cuts.get(number).map(Position::to_text))
            .execute(conn)
            .await?
            .rows_affected());
            if rows == 0 {
                // Somebody else has cut it, perhaps otherwise: theirs holds, all of it.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Holds a share for longer; [`StoreError::Fenced`] if it was taken over.
    pub async fn renew_share(&mut self, held: &Held, now: i64) -> Result<()> {
        let event = LeaseEvent::Renewed { fence: held.fence, now: now + held.skew };
        self.step_lease(held, event).await
    }

    /// Lets a share go undone, so that anybody can take it at once.
    pub async fn release_share(&mut self, held: &Held) -> Result<()> {
        self.step_lease(held, LeaseEvent::Released { fence: held.fence }).await
    }

    /// Notes that a share is done. Gives the runs of all shares, and takes the shares away, if it was the last one.
    pub async fn finish_share(&mut self, held: &Held) -> Result<Option<Vec<String>>> {
        // All of them, so that of two that end at once the second sees that it is the last.
        let rows = self.lock_shares(&held.tenant_id, held.run_date).await?;
        let finished = DayEvent::Finished { share: held.number, fence: held.fence };
        let day = day::step(&day(false, &rows)?, finished).map_err(|_| StoreError::Fenced)?;
        if let Some(lease) = day.shares.get(&held.number) {
            self.store_lease(held, lease, None).await?;
            return Ok(None);
        }
        self.delete_shares(&held.tenant_id, held.run_date).await?;
        Ok(Some(rows.into_iter().filter_map(|row| row.run_id).collect()))
    }

    /// Takes away the shares of a date that was completed otherwise, unless somebody is still at it, who then does so.
    pub async fn drop_abandoned_shares(&mut self, tenant_id: &str, run_date: NaiveDate, now: i64) -> Result<()> {
        let rows = self.lock_shares(tenant_id, run_date).await?;
        let day = day::step(&day(false, &rows)?, DayEvent::RunWhole { now }).map_err(|_| StoreError::Fenced)?;
        if day.shares.is_empty() { self.delete_shares(tenant_id, run_date).await } else { Ok(()) }
    }

    async fn lock_shares(&mut self, tenant_id: &str, run_date: NaiveDate) -> Result<Vec<ShareRow>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, ShareRow>(dialect::locking::<Db>(
            "select share, shares, after_key, through_key, state, fence, lease_until, run_id
             from shares
             where tenant_id = $1 and run_date = $2
             order by share
             $lock"
        ))
        .bind(tenant_id)
        .bind(run_date)
        .fetch_all(conn)
        .await?))
    }

    async fn delete_shares(&mut self, tenant_id: &str, run_date: NaiveDate) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>("delete from shares where tenant_id = $1 and run_date = $2")
            .bind(tenant_id)
            .bind(run_date)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }

    async fn step_lease(&mut self, held: &Held, event: LeaseEvent) -> Result<()> {
        let row: Option<ShareRow> = on!(self, |conn| sqlx::query_as::<Db, ShareRow>(dialect::locking::<Db>(
            "select share, shares, after_key, through_key, state, fence, lease_until, run_id
             from shares
             where tenant_id = $1 and run_date = $2 and share = $3
             $lock"
        ))
        .bind(&held.tenant_id)
        .bind(held.run_date)
        .bind(held.number)
        .fetch_optional(conn)
        .await?);
        let lease = row.ok_or(StoreError::Fenced)?.lease()?;
        let lease = lease::step(&lease, event).map_err(|_| StoreError::Fenced)?;
        self.store_lease(held, &lease, None).await
    }

    /// Writes a lease, and whose it now is if it was claimed.
    async fn store_lease(&mut self, held: &Held, lease: &Lease, claimed: Option<(&str, &str)>) -> Result<()> {
        let (state, until) = match lease.state {
            LeaseState::Free => ("free", None),
            LeaseState::Held { until } => ("held", Some(until)),
            LeaseState::Done => ("done", None),
        };
        let (owner, run_id) = claimed.unzip();
        on!(self, |conn| sqlx::query::<Db>(
            "update shares
             set state = $4, fence = $5, lease_until = $6,
                 owner = case when $4 = 'held' then coalesce($7, owner) end, run_id = coalesce($8, run_id)
             where tenant_id = $1 and run_date = $2 and share = $3"
        )
        .bind(&held.tenant_id)
        .bind(held.run_date)
        .bind(held.number)
        .bind(state)
        .bind(lease.fence)
        .bind(until)
        .bind(owner)
        .bind(run_id)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }
}
