//! The database as a thing to look after: a copy of it, and how safely it keeps what it was given.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{Pools, Result, SCHEMA_VERSION, Store, on};

/// What a person should know about a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Safety {
    /// Name and version, such as `PostgreSQL 16.4`.
    pub version: String,
    /// Why what was committed could be lost.
    pub faults: Vec<String>,
}

impl Store {
    /// The schema that the program and its database work with.
    pub const SCHEMA: i64 = SCHEMA_VERSION;

    /// Writes a consistent copy of a SQLite database into an empty file, without keeping anybody from writing, and checks it.
    pub async fn copy_to(&self, path: &Path) -> anyhow::Result<()> {
        let Pools::Sqlite { readers, .. } = &self.pools else { bail!("only SQLite is copied this way") };
        let name = path.to_str().ok_or_else(|| anyhow!("{} is not UTF-8", path.display()))?;
        // Such a copy is no transaction, and the readers of the pool may write nothing at all.
        let options = readers.connect_options().as_ref().clone().pragma("query_only", "OFF");
        let mut connection = options.connect().await.context("cannot open the database")?;
        sqlx::query("vacuum into $1").bind(name).execute(&mut connection).await.context("the copy failed")?;
        connection.close().await?;

        let mut copy = sqlx::sqlite::SqliteConnectOptions::new().filename(path).read_only(true).connect().await?;
        let verdict: String = sqlx::query_scalar("pragma integrity_check(1)")
            .fetch_one(&mut copy)
            .await
            .context("the copy cannot be read")?;
        copy.close().await?;
        if verdict != "ok" {
            bail!("the database is damaged, and so is its copy: {verdict}");
        }
        Ok(())
    }

    /// Whether a power cut could take back what was committed.
    pub async fn safety(&self) -> Result<Safety> {
        let mut session = self.read().await?;
        let safety = match &self.pools {
            Pools::Sqlite { .. } => {
                let (version, journal): (String, String) = on!(session, |conn| sqlx::query_as::<Db, _>(
                    "select sqlite_version(), (select journal_mode from pragma_journal_mode)"
                )
                .fetch_one(conn)
                .await?);
                let faults = (journal != "wal").then(|| format!("its journal is {journal} instead of wal"));
                Safety { version: format!("SQLite {version}"), faults: faults.into_iter().collect() }
            }
            Pools::Postgres(_) => {
                let settings: Vec<(String, String)> = on!(session, |conn| sqlx::query_as::<Db, _>(
                    "select name, setting from pg_settings
                     where name in ('fsync', 'full_page_writes', 'server_version', 'synchronous_commit') order by name"
                )
                .fetch_all(conn)
                .await?);
                let mut safety = Safety::default();
                for (name, setting) in settings {
                    match (name.as_str(), setting.as_str()) {
                        ("server_version", version) => safety.version = format!("PostgreSQL {version}"),
                        (_, "off") => safety.faults.push(format!("its {name} is off")),
                        _ => {}
                    }
                }
                safety
            }
        };
        session.end().await;
        Ok(safety)
    }
}
