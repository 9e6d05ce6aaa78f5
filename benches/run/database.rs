//! The two databases of a run bench: a template that is generated once, and a fresh copy of it for each phase.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use billday::store::Store;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};

use crate::data::{FLOOR, HISTORY, Shape, master_data};

/// One database by its URL: the template, or a copy.
#[derive(Debug, Clone)]
pub enum Database {
    Sqlite(PathBuf),
    Postgres { server: String, name: String },
}

/// A connection that billday does not know of.
enum Bare {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Database {
    pub fn sqlite(folder: &Path, name: &str) -> Self {
        Self::Sqlite(folder.join(format!("{name}.db")))
    }

    /// On the server of `url`, whatever database that names.
    pub fn postgres(url: &str, name: &str) -> anyhow::Result<Self> {
        let (server, _) = url.rsplit_once('/').context("the PostgreSQL URL must end with /<database>")?;
        Ok(Self::Postgres { server: server.to_owned(), name: format!("billday_bench_{}_{name}", std::process::id()) })
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::Postgres { server, name } => format!("{server}/{name}"),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "SQLite",
            Self::Postgres { .. } => "PostgreSQL",
        }
    }

    /// Creates and fills it: master data, and last month's ledger.
    ///
    /// With `analyze`, the planner's statistics are those that autovacuum makes in time; without, those of a fresh import.
    pub async fn generate(&self, shape: Shape, analyze: bool) -> anyhow::Result<()> {
        if let Self::Postgres { name, .. } = self {
            self.on_server(&format!("create database {name} template template0")).await?;
        }
        Store::open(&self.url(), 2).await?.close().await;
        let mut statements = master_data(shape);
        statements.extend(HISTORY.statements(self, shape));
        self.run_in_one_transaction(statements).await?;
        if let (Self::Postgres { .. }, true) = (self, analyze) {
            self.execute(&["vacuum analyze".to_owned()]).await?;
        }
        Ok(())
    }

    /// A copy under another name, safely on disk, so that its writing does not disturb what is measured.
    pub async fn copy(&self, suffix: &str) -> anyhow::Result<Self> {
        match self {
            Self::Sqlite(path) => {
                let copy = path.with_extension(format!("{suffix}.db"));
                std::fs::copy(path, &copy)?;
                std::fs::File::open(&copy)?.sync_all()?;
                Ok(Self::Sqlite(copy))
            }
            Self::Postgres { server, name } => {
                let copy = Self::Postgres { server: server.clone(), name: format!("{name}_{suffix}") };
                let Self::Postgres { name: copy_name, .. } = &copy else { bail!("not PostgreSQL") };
                self.on_server(&format!("create database {copy_name} template {name} strategy file_copy")).await?;
                self.on_server("checkpoint").await?;
                Ok(copy)
            }
        }
    }

    pub async fn drop(&self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(path) => {
                for suffix in ["", "-wal", "-shm", ".lock"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(suffix);
                    match std::fs::remove_file(PathBuf::from(name)) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                        _ => {}
                    }
                }
                Ok(())
            }
            Self::Postgres { name, .. } => {
                self.on_server(&format!("drop database if exists {name} with (force)")).await
            }
        }
    }

    /// A number as eight hexadecimal digits.
    pub fn hex(&self, number: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("printf('%08x', {number})"),
            Self::Postgres { .. } => format!("lpad(to_hex({number}), 8, '0')"),
        }
    }

    /// Writes a month of the ledger with nothing but SQL: the floor.
    pub async fn write_floor(&self, shape: Shape) -> anyhow::Result<()> {
        self.run_in_one_transaction(FLOOR.statements(self, shape)).await
    }

    /// The same over one connection with a commit after each part, as a run commits its batches.
    pub async fn write_floor_in_batches(&self, shape: Shape, rentals: usize) -> anyhow::Result<()> {
        let parts = shape.parts(rentals as u64).map(|part| FLOOR.part(self, shape, part));
        let statements: Vec<String> = parts.chain([FLOOR.ends()]).flat_map(|part| self.transaction(part)).collect();
        self.execute(&statements).await
    }

    async fn run_in_one_transaction(&self, statements: Vec<String>) -> anyhow::Result<()> {
        self.execute(&self.transaction(statements)).await
    }

    fn transaction(&self, statements: Vec<String>) -> Vec<String> {
        let begin = if matches!(self, Self::Sqlite(_)) { "begin immediate" } else { "begin" };
        [begin.to_owned()].into_iter().chain(statements).chain(["commit".to_owned()]).collect()
    }

    async fn execute(&self, statements: &[String]) -> anyhow::Result<()> {
        let mut conn = self.connect().await?;
        for sql in statements {
            conn.execute(sql).await?;
        }
        conn.close().await
    }

    /// What stands in it of a month that was written, for comparison.
    pub async fn fingerprint(&self) -> anyhow::Result<Vec<String>> {
        let mut conn = self.connect().await?;
        let mut texts = Vec::new();
        for sql in FLOOR.fingerprints() {
            texts.push(conn.text(&sql).await?);
        }
        conn.close().await?;
        Ok(texts)
    }

    async fn connect(&self) -> anyhow::Result<Bare> {
        Ok(match self {
            // As billday sets up its writer.
            Self::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
                    .pragma("journal_size_limit", "67108864")
                    .pragma("wal_autocheckpoint", "16384")
                    .pragma("cache_size", "-32768");
                Bare::Sqlite(options.disable_statement_logging().connect().await?)
            }
            Self::Postgres { .. } => {
                let options = sqlx::postgres::PgConnectOptions::from_str(&self.url())?;
                Bare::Postgres(options.disable_statement_logging().connect().await?)
            }
        })
    }

    async fn on_server(&self, sql: &str) -> anyhow::Result<()> {
        let Self::Postgres { server, .. } = self else { bail!("SQLite has no server") };
        let mut conn = PgConnection::connect(&format!("{server}/postgres")).await.context("cannot reach the server")?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.with_context(|| sql.to_owned())?;
        Ok(())
    }
}

impl Bare {
    async fn execute(&mut self, sql: &str) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(conn) => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.with_context(|| sql.to_owned())?;
            }
            Self::Postgres(conn) => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.with_context(|| sql.to_owned())?;
            }
        }
        Ok(())
    }

    async fn text(&mut self, sql: &str) -> anyhow::Result<String> {
        let text = match self {
            Self::Sqlite(conn) => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await,
            Self::Postgres(conn) => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await,
        };
        text.with_context(|| sql.to_owned())
    }

    async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Sqlite(conn) => conn.close().await?,
            Self::Postgres(conn) => conn.close().await?,
        }
        Ok(())
    }
}
