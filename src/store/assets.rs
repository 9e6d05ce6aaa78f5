//! Pictures that invoices show, each kept once under the hash of its content: no invoice changes when a seller takes another.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::domain::brand::Logo;

use super::import::Picture;
use super::{Result, Session, on};

impl Session {
    /// Keeps a picture; one that is there is the same.
    pub(super) async fn insert_asset(&mut self, tenant_id: &str, sha256: &str, picture: Picture) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "insert into assets (tenant_id, sha256, content_type, body) values ($1, $2, $3, $4) on conflict do nothing"
        )
        .bind(tenant_id)
        .bind(sha256)
        .bind(picture.content_type)
        .bind(picture.bytes)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    pub(super) async fn has_asset(&mut self, tenant_id: &str, sha256: &str) -> Result<bool> {
        let count: i64 = on!(self, |conn| sqlx::query_scalar::<Db, i64>(
            "select count(*) from assets where tenant_id = $1 and sha256 = $2"
        )
        .bind(tenant_id)
        .bind(sha256)
        .fetch_one(conn)
        .await?);
        Ok(count > 0)
    }

    /// The pictures of these (tenant, hash); one that is not stored is absent.
    pub(super) async fn logos(
        &mut self,
        wanted: BTreeSet<(String, String)>,
    ) -> Result<HashMap<(String, String), Logo>> {
        let mut logos = HashMap::with_capacity(wanted.len());
        for (tenant_id, sha256) in wanted {
            let bytes: Option<Vec<u8>> = on!(self, |conn| sqlx::query_scalar::<Db, Vec<u8>>(
                "select body from assets where tenant_id = $1 and sha256 = $2"
            )
            .bind(&tenant_id)
            .bind(&sha256)
            .fetch_optional(conn)
            .await?);
            if let Some(bytes) = bytes {
                let logo = Logo { sha256: sha256.clone(), bytes: Arc::from(bytes) };
                logos.insert((tenant_id, sha256), logo);
            }
        }
        Ok(logos)
    }
}
