//! What the daemons of a database know together, and what they look up to find their work.

use std::collections::HashMap;

use chrono::NaiveDate;

use super::parked::ParkedRow;
use super::{Result, Session, Store, dialect, on};

/// Where a program runs.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Which start of which kernel: two programs with the same one see each other's locks on files.
    pub kernel: String,
    /// Its name, for people.
    pub host: String,
}

impl Session {
    /// Each tenant's latest completed date; a tenant without one is absent.
    pub async fn last_completed_dates(&mut self) -> Result<HashMap<String, NaiveDate>> {
        let dates: Vec<(String, Option<NaiveDate>)> = on!(self, |conn| {
            sqlx::query_as::<Db, (String, Option<NaiveDate>)>(
                "select t.tenant_id, (select max(d.run_date) from completed_dates d where d.tenant_id = t.tenant_id)
                 from tenants t",
            )
            .fetch_all(conn)
            .await?
        });
        Ok(dates.into_iter().filter_map(|(tenant_id, date)| Some((tenant_id, date?))).collect())
    }

    /// The latest instant at which this ledger was worked on: as a daemon saw it, else when the last run began.
    pub async fn last_seen(&mut self) -> Result<Option<i64>> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, Option<i64>>(
            "select coalesce((select seen_at from daemon_state), (select max(started_at) from runs))"
        )
        .fetch_one(conn)
        .await?))
    }

    /// Notes that a daemon works at this instant; it never goes back unless the clock is to be `believed` whatever was noted.
    pub async fn see(&mut self, now: i64, believed: bool) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "insert into daemon_state (id, seen_at, summarized_at) values (1, $1, $1)
             on conflict (id) do update set seen_at = excluded.seen_at
             where daemon_state.seen_at < excluded.seen_at or $2"
        )
        .bind(now)
        .bind(believed)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Notes that a daemon works on this machine, unless one was seen on another at `since` or later: then gives its name.
    pub async fn occupy(&mut self, machine: &Machine, now: i64, since: i64) -> Result<Option<String>> {
        let elsewhere = self.works_elsewhere(machine, since).await?;
        if elsewhere.is_none() {
            on!(self, |conn| sqlx::query::<Db>(
                "insert into daemon_state (id, seen_at, summarized_at, machine, host) values (1, $3, $3, $1, $2)
                 on conflict (id) do update set machine = excluded.machine, host = excluded.host"
            )
            .bind(&machine.kernel)
            .bind(&machine.host)
            .bind(now)
            .execute(conn)
            .await?
            .rows_affected());
            self.see(now, false).await?;
        }
        Ok(elsewhere)
    }

    /// Notes that no daemon works on this machine any more.
    pub async fn leave(&mut self, machine: &Machine) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>("update daemon_state set machine = null, host = null where machine = $1")
            .bind(&machine.kernel)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }

    /// The name of another machine on which a daemon worked at an instant or later.
    pub async fn works_elsewhere(&mut self, machine: &Machine, since: i64) -> Result<Option<String>> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, String>(
            "select host from daemon_state where machine <> $1 and seen_at >= $2"
        )
        .bind(&machine.kernel)
        .bind(since)
        .fetch_optional(conn)
        .await?))
    }

    /// Takes the operator's daily summary upon itself: tells since when it has to report, or `None` if the last one was made
    /// at `due` or later.
    pub async fn claim_summary(&mut self, due: i64, now: i64) -> Result<Option<i64>> {
        let since: Option<i64> = on!(self, |conn| sqlx::query_scalar::<Db, i64>(dialect::locking::<Db>(
            "select summarized_at from daemon_state where summarized_at < $1 $lock"
        ))
        .bind(due)
        .fetch_optional(conn)
        .await?);
        if since.is_some() {
            on!(self, |conn| sqlx::query::<Db>("update daemon_state set summarized_at = $1")
                .bind(now)
                .execute(conn)
                .await?
                .rows_affected());
        }
        Ok(since)
    }

    /// Gives a summary back that was claimed at `now` and could not be sent.
    pub async fn release_summary(&mut self, since: i64, now: i64) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>("update daemon_state set summarized_at = $1 where summarized_at = $2")
            .bind(since)
            .bind(now)
            .execute(conn)
            .await?
            .rows_affected());
        Ok(())
    }

    /// Takes one open parked subject that was last tried before an instant, and notes that it is tried now: each is tried once
    /// a wake, however many daemons there are and whatever becomes of the try.
    pub async fn claim_parked(&mut self, tenant_id: &str, before: i64, now: i64) -> Result<Option<ParkedRow>> {
        let parked: Option<ParkedRow> = on!(self, |conn| {
            sqlx::query_as::<Db, ParkedRow>(dialect::locking::<Db>(
            "select tenant_id, run_date, subject_kind, subject_id, code, message, records, charges, state, resolution,
                    reason, run_id, tried_at
             from parked
             where tenant_id = $1 and state = 'open' and tried_at < $2
             order by run_date, subject_kind, subject_id
             limit 1
             $take"
        ))
        .bind(tenant_id)
        .bind(before)
        .fetch_optional(conn)
        .await?
        });
        if let Some(parked) = &parked {
            on!(self, |conn| sqlx::query::<Db>(
                "update parked set tried_at = $5
                 where tenant_id = $1 and run_date = $2 and subject_kind = $3 and subject_id = $4"
            )
            .bind(tenant_id)
            .bind(parked.run_date)
            .bind(&parked.subject_kind)
            .bind(&parked.subject_id)
            .bind(now)
            .execute(conn)
            .await?
            .rows_affected());
        }
        Ok(parked)
    }

    /// Tenants with open parked subjects that were last tried before an instant, each with the earliest such try.
    pub async fn parked_tenants(&mut self) -> Result<HashMap<String, i64>> {
        let tenants: Vec<(String, i64)> = on!(self, |conn| sqlx::query_as::<Db, (String, i64)>(
            "select tenant_id, min(tried_at) from parked where state = 'open' group by tenant_id"
        )
        .fetch_all(conn)
        .await?);
        Ok(tenants.into_iter().collect())
    }

    /// What a monitor wants to know of the ledger.
    pub async fn figures(&mut self) -> Result<Figures> {
        let last_completed = self.last_completed_dates().await?;
        let parked: Vec<(String, i64)> = on!(self, |conn| sqlx::query_as::<Db, (String, i64)>(
            "select tenant_id, count(*) from parked where state = 'open' group by tenant_id"
        )
        .fetch_all(conn)
        .await?);
        let withheld: Vec<(String, i64)> = on!(self, |conn| sqlx::query_as::<Db, (String, i64)>(
            "select a.tenant_id, count(*)
             from arrears a
             where a.state = 'withheld'
               and not exists(select 1 from payment_lines l
                              where l.tenant_id = a.tenant_id and l.rental_id = a.rental_id
                                and l.billing_period = a.billing_period and l.live)
             group by a.tenant_id"
        )
        .fetch_all(conn)
        .await?);
        // Two ranges of two small indexes: mails that were sent are not counted, for there are ever more of them.
        let mails: Vec<(String, i64, i64)> = on!(self, |conn| {
            sqlx::query_as::<Db, (String, i64, i64)>(
            "select state, count(*), min(created_at) from outbox where state in ('pending', 'sending', 'unknown') group by state
             union all
             select state, count(*), min(created_at) from outbox where state not in ('pending', 'sending', 'unknown', 'sent')
             group by state"
        )
        .fetch_all(conn)
        .await?
        });
        let leases: i64 =
            on!(self, |conn| sqlx::query_scalar::<Db, i64>("select count(*) from shares where state = 'held'")
                .fetch_one(conn)
                .await?);
        let tenants: Vec<String> =
            on!(self, |conn| sqlx::query_scalar::<Db, String>("select tenant_id from tenants order by tenant_id")
                .fetch_all(conn)
                .await?);
        let (parked, withheld): (HashMap<_, _>, HashMap<_, _>) =
            (parked.into_iter().collect(), withheld.into_iter().collect());
        Ok(Figures {
            tenants: tenants
                .into_iter()
                .map(|tenant_id| TenantFigures {
                    last_completed: last_completed.get(&tenant_id).copied(),
                    parked: parked.get(&tenant_id).copied().unwrap_or_default(),
                    withheld: withheld.get(&tenant_id).copied().unwrap_or_default(),
                    tenant_id,
                })
                .collect(),
            mails: mails.iter().map(|(state, count, _)| (state.clone(), *count)).collect(),
            oldest_waiting_mail: mails
                .iter()
                .filter(|(state, ..)| ["pending", "sending", "unknown"].contains(&state.as_str()))
                .map(|(.., created_at)| *created_at)
                .min(),
            leases,
        })
    }
}

/// The state of a ledger in numbers.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Ordered by id.
    pub tenants: Vec<TenantFigures>,
    /// Mails by state, those that were sent left out.
    pub mails: Vec<(String, i64)>,
    /// When the mail was made that has waited the longest, in microseconds UTC.
    pub oldest_waiting_mail: Option<i64>,
    /// Shares that somebody holds.
    pub leases: i64,
}

/// The same of one tenant.
#[derive(Debug, Clone)]
pub struct TenantFigures {
    pub tenant_id: String,
    pub last_completed: Option<NaiveDate>,
    /// Subjects that wait for a person.
    pub parked: i64,
    /// Periods that wait for a person.
    pub withheld: i64,
}

/// How the connections to the database are used.
#[derive(Debug, Clone, Copy)]
pub struct PoolUse {
    pub open: u32,
    pub idle: u32,
    pub most: u32,
}

impl Store {
    /// Of the connections that read; on PostgreSQL the same ones write.
    pub fn pool_use(&self) -> PoolUse {
        match &self.pools {
            super::Pools::Sqlite { readers, .. } => PoolUse {
                open: readers.size(),
                idle: readers.num_idle() as u32,
                most: readers.options().get_max_connections(),
            },
            super::Pools::Postgres(pool) => {
                PoolUse { open: pool.size(), idle: pool.num_idle() as u32, most: pool.options().get_max_connections() }
            }
        }
    }
}
