//! Answers to repeat: what a request with an idempotency key was told, so that the same request is told it again.
//!
//! The row is claimed first and filled last, in the transaction of the change itself. Whoever comes with the same key
//! meanwhile waits for that transaction: on PostgreSQL at the row's key, on SQLite because there is one writer. A crash leaves
//! neither the change nor the row.

use sqlx::FromRow;

use super::{Result, Session, on};

/// A request that can be told apart from all others of its key.
#[derive(Debug, Clone)]
pub struct ReplayKey {
    pub tenant_id: String,
    /// The API key.
    pub key_id: String,
    pub path: String,
    pub idempotency_key: String,
}

/// The answer that was given.
#[derive(Debug, Clone, FromRow)]
pub struct KeptAnswer {
    pub body_hash: String,
    pub status: i64,
    pub etag: Option<String>,
    pub answer: String,
}

impl Session {
    /// Claims a key for this transaction; `None` if it is claimed, else the answer that was given before.
    ///
    /// Answers from before `forget` are forgotten, whoever's they were.
    pub async fn claim_replay(
        &mut self,
        key: &ReplayKey,
        body_hash: &str,
        now: i64,
        forget: i64,
    ) -> Result<Option<KeptAnswer>> {
        on!(self, |conn| sqlx::query::<Db>("delete from idempotency_keys where created_at < $1")
            .bind(forget)
            .execute(conn)
            .await?
            .rows_affected());
        let claimed = on!(self, |conn| sqlx::query::<Db>(
            "insert into idempotency_keys
                 (tenant_id, key_id, path, idempotency_key, body_hash, status, answer, created_at)
             values ($1, $2, $3, $4, $5, 0, '', $6)
             on conflict do nothing"
        )
        .bind(&key.tenant_id)
        .bind(&key.key_id)
        .bind(&key.path)
        .bind(&key.idempotency_key)
        .bind(body_hash)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected());
        if claimed == 1 {
            return Ok(None);
        }
        Ok(Some(on!(self, |conn| sqlx::query_as::<Db, KeptAnswer>(
            "select body_hash, status, etag, answer from idempotency_keys
             where tenant_id = $1 and key_id = $2 and path = $3 and idempotency_key = $4"
        )
        .bind(&key.tenant_id)
        .bind(&key.key_id)
        .bind(&key.path)
        .bind(&key.idempotency_key)
        .fetch_one(conn)
        .await?)))
    }

    /// Fills a claimed key with the answer.
    pub async fn keep_answer(&mut self, key: &ReplayKey, kept: &KeptAnswer) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update idempotency_keys set status = $5, etag = $6, answer = $7
             where tenant_id = $1 and key_id = $2 and path = $3 and idempotency_key = $4"
        )
        .bind(&key.tenant_id)
        .bind(&key.key_id)
        .bind(&key.path)
        .bind(&key.idempotency_key)
        .bind(kept.status)
        .bind(&kept.etag)
        .bind(&kept.answer)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Gives a claimed key up: a refusal is not repeated, but decided anew.
    pub async fn release_replay(&mut self, key: &ReplayKey) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "delete from idempotency_keys
             where tenant_id = $1 and key_id = $2 and path = $3 and idempotency_key = $4"
        )
        .bind(&key.tenant_id)
        .bind(&key.key_id)
        .bind(&key.path)
        .bind(&key.idempotency_key)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }
}
