//! API keys: who may act for which tenants. A secret is kept as its hash only.

use chrono::NaiveDate;
use sqlx::FromRow;

use super::dialect::{Column, Rows, Value, insert};
use super::{Result, Session, dialect, on};

/// A key as it is made.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub key_id: String,
    pub name: Option<String>,
    /// The hash of the secret, as text.
    pub secret_hash: String,
    pub read_only: bool,
    /// The last day on which it works, in UTC.
    pub expires_on: Option<NaiveDate>,
    pub created_by: String,
    /// Microseconds UTC.
    pub created_at: i64,
    pub tenant_ids: Vec<String>,
}

/// What a request's token is held against.
#[derive(Debug, Clone, FromRow)]
pub struct KeyRow {
    pub secret_hash: String,
    pub read_only: bool,
    pub expires_on: Option<NaiveDate>,
    pub revoked_at: Option<i64>,
    /// Whether it may act for the tenant that was asked about.
    pub allowed: bool,
}

/// A key as lists show it.
#[derive(Debug, Clone, FromRow)]
pub struct ListedKey {
    pub key_id: String,
    pub name: Option<String>,
    pub read_only: bool,
    pub expires_on: Option<NaiveDate>,
    pub created_at: i64,
    pub revoked_at: Option<i64>,
    #[sqlx(skip)]
    pub tenant_ids: Vec<String>,
}

impl Session {
    /// Writes a new key with its tenants.
    pub async fn insert_key(&mut self, key: &NewKey) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "insert into api_keys (key_id, name, secret_hash, read_only, expires_on, created_by, created_at)
             values ($1, $2, $3, $4, $5, $6, $7)"
        )
        .bind(&key.key_id)
        .bind(&key.name)
        .bind(&key.secret_hash)
        .bind(key.read_only)
        .bind(key.expires_on)
        .bind(&key.created_by)
        .bind(key.created_at)
        .execute(conn)
        .await?
        .rows_affected());
        let rows = Rows {
            table: "api_key_tenants",
            columns: vec![
                ("tenant_id", Column::Text(key.tenant_ids.iter().map(String::as_str).collect())),
                ("key_id", Column::Same(Value::Text(&key.key_id))),
            ],
            conflict: "on conflict do nothing",
            count: key.tenant_ids.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    /// The key of an id, and whether it may act for a tenant.
    pub async fn find_key(&mut self, key_id: &str, tenant_id: &str) -> Result<Option<KeyRow>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, KeyRow>(
            "select secret_hash, read_only, expires_on, revoked_at,
                    exists(select 1 from api_key_tenants t where t.tenant_id = $2 and t.key_id = k.key_id) as allowed
             from api_keys k
             where key_id = $1"
        )
        .bind(key_id)
        .bind(tenant_id)
        .fetch_optional(conn)
        .await?))
    }

    /// All keys, or those of one tenant, oldest first.
    pub async fn list_keys(&mut self, tenant_id: Option<&str>) -> Result<Vec<ListedKey>> {
        let mut keys: Vec<ListedKey> = on!(self, |conn| sqlx::query_as::<Db, ListedKey>(
            "select key_id, name, read_only, expires_on, created_at, revoked_at
             from api_keys k
             where cast($1 as text) is null
                or exists(select 1 from api_key_tenants t where t.tenant_id = $1 and t.key_id = k.key_id)
             order by created_at, key_id"
        )
        .bind(tenant_id)
        .fetch_all(conn)
        .await?);
        let ids: Vec<String> = keys.iter().map(|key| key.key_id.clone()).collect();
        let tenants: Vec<(String, String)> = on!(self, |conn| dialect::with_keys_as::<Db, _>(
            "select key_id, tenant_id from api_key_tenants where key_id in $keys order by tenant_id",
            &ids
        )
        .fetch_all(conn)
        .await?);
        for (key_id, tenant_id) in tenants {
            if let Some(key) = keys.iter_mut().find(|key| key.key_id == key_id) {
                key.tenant_ids.push(tenant_id);
            }
        }
        Ok(keys)
    }

    /// Ends a key at once. False if there is no such key, or it was revoked before.
    pub async fn revoke_key(&mut self, key_id: &str, now: i64) -> Result<bool> {
        Ok(on!(self, |conn| sqlx::query::<Db>(
            "update api_keys set revoked_at = $2 where key_id = $1 and revoked_at is null"
        )
        .bind(key_id)
        .bind(now)
        .execute(conn)
        .await?
        .rows_affected())
            > 0)
    }
}
