//! Gaps in the ledger that somebody decided about, or has to (rule 8).

use sqlx::FromRow;

use crate::domain::plan::Mark;

use super::{Result, Session, on};

/// A marked period of a rental that has no line yet.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct ArrearsRow {
    pub tenant_id: String,
    pub rental_id: String,
    pub billing_period: String,
    pub state: String,
    pub reason: Option<String>,
    pub decided_by: String,
}

impl Session {
    /// Marked periods without a line, ordered by tenant, rental and period; an absent filter takes all.
    pub async fn list_arrears(&mut self, tenant_id: Option<&str>, rental_id: Option<&str>) -> Result<Vec<ArrearsRow>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, ArrearsRow>(
            "select tenant_id, rental_id, billing_period, state, reason, decided_by
             from arrears a
             where (cast($1 as text) is null or tenant_id = $1) and (cast($2 as text) is null or rental_id = $2)
               and not exists(select 1 from payment_lines l
                              where l.tenant_id = a.tenant_id and l.rental_id = a.rental_id
                                and l.billing_period = a.billing_period and l.live)
             order by tenant_id, rental_id, billing_period"
        )
        .bind(tenant_id)
        .bind(rental_id)
        .fetch_all(conn)
        .await?))
    }

    /// Writes a decision about a period, in place of what stood there.
    #[expect(clippy::too_many_arguments, reason = "one statement's values")]
    pub async fn decide_arrears(
        &mut self,
        tenant_id: &str,
        rental_id: &str,
        period: &str,
        mark: Mark,
        reason: Option<&str>,
        by: &str,
        now: i64,
    ) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "insert into arrears (tenant_id, rental_id, billing_period, state, reason, decided_by, decided_at)
             values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (tenant_id, rental_id, billing_period) do update
             set state = excluded.state, reason = excluded.reason, decided_by = excluded.decided_by,
                 decided_at = excluded.decided_at"
        )
        .bind(tenant_id)
        .bind(rental_id)
        .bind(period)
        .bind(mark.as_str())
        .bind(reason)
        .bind(by)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Whether a rental has a line for a period.
    pub async fn has_line(&mut self, tenant_id: &str, rental_id: &str, period: &str) -> Result<bool> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, bool>(
            "select exists(select 1 from payment_lines
                           where tenant_id = $1 and rental_id = $2 and billing_period = $3 and live)"
        )
        .bind(tenant_id)
        .bind(rental_id)
        .bind(period)
        .fetch_one(conn)
        .await?))
    }

    /// The tenants that have a rental of this id.
    pub async fn tenants_of_rental(&mut self, rental_id: &str) -> Result<Vec<String>> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, String>(
            "select tenant_id from rentals where rental_id = $1 order by tenant_id"
        )
        .bind(rental_id)
        .fetch_all(conn)
        .await?))
    }
}
