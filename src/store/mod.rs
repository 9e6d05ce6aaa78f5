//! All SQL, on SQLite and PostgreSQL from one text.
//!
//! ```text
//! Store::read()     ──► Session   one consistent snapshot that cannot write
//! Store::with_tx()  ──► Session   the single door for writes: a task nobody can cancel; any error closes the connection
//! ```
//!
//! A function with a `&Store` or a snapshot cannot change anything. The few statements that differ between the databases
//! stand side by side in `dialect`; everything else is one text and one body, compiled for both by `on!`.

mod dialect;
mod party;
mod row;

pub mod arrears;
pub mod assets;
pub mod audit;
pub mod customers;
pub mod daemon;
pub mod documents;
pub mod due;
pub mod groups;
pub mod import;
pub mod invoices;
pub mod keys;
pub mod ledger;
pub mod outbox;
pub mod page;
pub mod parked;
pub mod payments;
pub mod rentals;
pub mod replay;
pub mod runs;
pub mod shares;
pub mod tenants;
pub mod upkeep;
pub mod verify;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{
    ConnectOptions, Connection as _, PgConnection, PgPool, Postgres, SqlSafeStr, Sqlite, SqliteConnection, SqlitePool,
};

/// Runs one body for whichever database the session is on: `$conn` is its connection, `Db` its driver.
macro_rules! on {
    ($session:expr, |$conn:ident| $body:expr) => {
        match &mut $session.connection {
            $crate::store::Connection::Sqlite($conn) => {
                #[allow(dead_code, reason = "not every body names the driver")]
                type Db = sqlx::Sqlite;
                let $conn = &mut **$conn;
                $body
            }
            $crate::store::Connection::Postgres($conn) => {
                #[allow(dead_code, reason = "not every body names the driver")]
                type Db = sqlx::Postgres;
                let $conn = &mut **$conn;
                $body
            }
        }
    };
}
pub(crate) use on;

/// The database of one billday: a handle that is cheap to clone.
#[derive(Clone)]
pub struct Store {
    pools: Pools,
}

#[derive(Clone)]
enum Pools {
    /// SQLite has one writer; readers have connections of their own that cannot write.
    Sqlite {
        writer: Option<SqlitePool>,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// What became of opening a database read-only.
pub enum Opened {
    Store(Store),
    /// There is no database, or one that was never migrated: there is no tenant either.
    Nothing,
}

/// Why a database call failed, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote meanwhile what this would write: read and plan again.
    #[error("another run wrote the same payments at the same time")]
    Conflict,
    /// The database was busy or had to break a deadlock: the same again may succeed.
    #[error("the database is busy: {0}")]
    Busy(sqlx::Error),
    /// The connection was lost while committing: only reading tells whether it is in.
    #[error("the connection was lost while committing: {0}")]
    UnknownCommit(sqlx::Error),
    /// The run was taken from this process: nothing may be written in its name any more.
    #[error("this run was ended by another process")]
    Fenced,
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned();
        match (&error, code.as_str()) {
            // PostgreSQL: serialization, deadlock, lock timeout. SQLite: BUSY and its kinds.
            (_, "40001" | "40P01" | "55P03" | "5" | "261" | "517" | "773") => Self::Busy(error),
            (sqlx::Error::Database(e), _) if e.is_unique_violation() => Self::Conflict,
            _ => Self::Other(anyhow!(error)),
        }
    }
}

/// Whether an error says that the database is not there now and may be later: it is starting, or the network is down.
pub fn is_away(error: &anyhow::Error) -> bool {
    let away = |error: &sqlx::Error| match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Connections refused or lost, shutting down or starting, too many of them, no such database yet.
            ["08", "57P", "53300", "55000", "3D000"].iter().any(|class| code.starts_with(class))
        }),
        _ => false,
    };
    error.chain().any(|cause| match (cause.downcast_ref(), cause.downcast_ref()) {
        // It shows the causes of what it holds, but not that itself.
        (_, Some(StoreError::Other(inner))) => is_away(inner),
        (_, Some(StoreError::UnknownCommit(error) | StoreError::Busy(error))) | (Some(error), _) => away(error),
        _ => false,
    })
}

/// A connection inside a transaction: a snapshot to read from, or the one that [`Store::with_tx`] hands out for writing.
///
/// Dropped before its end, it closes its connection: one with an open or doubtful transaction never goes back to the pool.
pub struct Session {
    pub(crate) connection: Connection,
    open: bool,
}

pub(crate) enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// The work of one write transaction.
pub type TxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Readers beside the one writer of SQLite.
const SQLITE_READERS: u32 = 4;
/// A connection that was in use so short a time ago is taken to be alive; any other is asked first, which is a round trip.
const POSTGRES_FRESH: Duration = Duration::from_millis(100);
/// How long a SQLite writer waits for another process's transaction.
const SQLITE_BUSY: Duration = Duration::from_secs(60);

impl Store {
    /// Whether a URL can name a database at all; the error says what would be right, and repeats no password.
    pub fn check_url(url: &str) -> anyhow::Result<()> {
        Url::parse(url).map(|_| ())
    }

    /// Opens a database for writing: creates it if it is not there, and migrates it.
    pub async fn open(url: &str, connections: u32) -> anyhow::Result<Self> {
        let pools = match Url::parse(url)? {
            Url::Sqlite(path) => {
                let _one_at_a_time = lock_beside(&path)?;
                let writer = SqlitePoolOptions::new()
                    .max_connections(1)
                    .test_before_acquire(false) // A file does not go away.
                    .idle_timeout(None)
                    .max_lifetime(None)
                    .acquire_timeout(SQLITE_BUSY)
                    .connect_with(sqlite_options(&path).create_if_missing(true))
                    .await
                    .with_context(|| format!("cannot open the database {}", path.display()))?;
                check_sqlite(&writer).await?;
                migrator(SQLITE_MIGRATIONS).run(&writer).await.map_err(migration_error)?;
                Pools::Sqlite { writer: Some(writer), readers: sqlite_readers(&path).await? }
            }
            Url::Postgres(options) => {
                let pool = postgres_pool(*options, connections, false).await?;
                check_postgres(&pool).await?;
                migrator(POSTGRES_MIGRATIONS).run(&pool).await.map_err(migration_error)?;
                Pools::Postgres(pool)
            }
        };
        Ok(Self { pools })
    }

    /// Opens a database so that nothing in it can change; refuses one whose schema this program does not know.
    pub async fn open_read_only(url: &str, connections: u32) -> anyhow::Result<Opened> {
        let pools = match Url::parse(url)? {
            Url::Sqlite(path) if !path.exists() => return Ok(Opened::Nothing),
            Url::Sqlite(path) => Pools::Sqlite { writer: None, readers: sqlite_readers(&path).await? },
            Url::Postgres(options) => Pools::Postgres(postgres_pool(*options, connections, true).await?),
        };
        let store = Self { pools };
        match store.schema_version().await? {
            None => Ok(Opened::Nothing),
            Some(version) if version == SCHEMA_VERSION => Ok(Opened::Store(store)),
            Some(version) => bail!(
                "the database has schema {version} and this program works with {SCHEMA_VERSION}: any command that writes \
                 (`billday run`, `billday import`) brings an older one up to date, a newer one needs a newer billday"
            ),
        }
    }

    /// Which database it is, for messages: `SQLite` or `PostgreSQL`.
    pub fn kind(&self) -> &'static str {
        match self.pools {
            Pools::Sqlite { .. } => "SQLite",
            Pools::Postgres(_) => "PostgreSQL",
        }
    }

    /// Whether only programs on one machine may have it open.
    pub fn is_of_one_machine(&self) -> bool {
        matches!(self.pools, Pools::Sqlite { .. })
    }

    /// How many batches of one run are worth writing at a time.
    pub fn writers(&self) -> usize {
        match &self.pools {
            Pools::Sqlite { .. } => 1,
            // Each batch fills one server process; beside them one reads. A small pool could starve the earlier one.
            Pools::Postgres(pool) if pool.options().get_max_connections() >= 4 => 2,
            Pools::Postgres(_) => 1,
        }
    }

    /// A consistent view of the whole database that cannot write.
    pub async fn read(&self) -> Result<Session> {
        match &self.pools {
            Pools::Sqlite { readers, .. } => Session::of_sqlite(readers, "begin").await,
            Pools::Postgres(pool) => {
                Session::of_postgres(pool, "begin isolation level repeatable read read only").await
            }
        }
    }

    /// The single door for writes: runs `body` in one transaction and commits it, or leaves no trace.
    ///
    /// It runs in a task of its own, so that a caller that goes away cannot cut it in two. On any error, and on a panic, the
    /// connection is closed rather than reused. A transaction that the database itself has ended is found at the commit, on
    /// PostgreSQL by a last statement before it, since that answers a commit of a dead transaction with success.
    pub async fn with_tx<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Session) -> TxFuture<'a, T> + Send + 'static,
    {
        let store = self.clone();
        let work = async move {
            let mut session = match &store.pools {
                // Taken at once: a read that turns into a write later fails when another writer came between.
                Pools::Sqlite { writer: Some(writer), .. } => Session::of_sqlite(writer, "begin immediate").await?,
                Pools::Sqlite { writer: None, .. } => return Err(anyhow!("the database was opened read-only").into()),
                Pools::Postgres(pool) => Session::of_postgres(pool, "begin isolation level read committed").await?,
            };
            let value = body(&mut session).await?;
            session.commit().await?;
            Ok(value)
        };
        match tokio::spawn(work).await {
            Ok(result) => result,
            Err(panicked) => Err(anyhow!("a database task failed: {panicked}").into()),
        }
    }

    /// Waits for the connections to close, so that SQLite leaves one tidy file behind.
    pub async fn close(self) {
        match self.pools {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                if let Some(writer) = writer {
                    writer.close().await;
                }
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// The number of the latest migration; `None` where there never was one.
    async fn schema_version(&self) -> anyhow::Result<Option<i64>> {
        let mut session = self.read().await?;
        let present: bool = on!(session, |conn| sqlx::query_scalar(dialect::has_table::<Db>())
            .bind("_sqlx_migrations")
            .fetch_one(conn)
            .await
            .context("cannot read the database")?);
        if !present {
            return Ok(None);
        }
        let version: Option<i64> = on!(session, |conn| sqlx::query_scalar("select max(version) from _sqlx_migrations")
            .fetch_one(conn)
            .await
            .context("cannot read the database")?);
        session.end().await;
        Ok(version)
    }
}

impl Session {
    async fn of_sqlite(pool: &SqlitePool, begin: &'static str) -> Result<Self> {
        let mut session = Self { connection: Connection::Sqlite(pool.acquire().await?), open: true };
        session.execute(begin).await?;
        Ok(session)
    }

    /// A connection that was lost since it was last in use has begun nothing, and is given up for another.
    async fn of_postgres(pool: &PgPool, begin: &'static str) -> Result<Self> {
        let mut others = pool.options().get_max_connections();
        loop {
            let mut session = Self { connection: Connection::Postgres(pool.acquire().await?), open: true };
            match session.execute(begin).await {
                Ok(()) => return Ok(session),
                Err(StoreError::Other(error)) if others > 0 && is_away(&error) => others -= 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn execute(&mut self, sql: &'static str) -> Result<()> {
        on!(self, |conn| sqlx::query(sql).execute(conn).await?.rows_affected());
        Ok(())
    }

    async fn commit(mut self) -> Result<()> {
        // One message, of which PostgreSQL leaves the rest undone after an error: a savepoint, which a dead transaction refuses.
        // SQLite refuses such a commit itself, and a savepoint would begin another transaction.
        let sql = match &self.connection {
            Connection::Sqlite(_) => "commit",
            Connection::Postgres(_) => "savepoint still_alive; commit",
        };
        match on!(self, |conn| sqlx::raw_sql(sql).execute(conn).await.map(drop).map_err(StoreError::from)) {
            Ok(()) => {
                self.open = false;
                Ok(())
            }
            Err(StoreError::Other(error)) => match error.downcast::<sqlx::Error>() {
                Ok(lost @ (sqlx::Error::Io(_) | sqlx::Error::Protocol(_))) => Err(StoreError::UnknownCommit(lost)),
                Ok(other) => Err(StoreError::Other(other.into())),
                Err(error) => Err(StoreError::Other(error)),
            },
            Err(error) => Err(error),
        }
    }

    /// Ends a snapshot and gives its connection back.
    pub async fn end(mut self) {
        if self.execute("rollback").await.is_ok() {
            self.open = false;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.open {
            match &mut self.connection {
                Connection::Sqlite(connection) => connection.close_on_drop(),
                Connection::Postgres(connection) => connection.close_on_drop(),
            }
        }
    }
}

/// Migrations in order: number, name, text. The numbers and names are equal on both databases.
type Migrations = &'static [(i64, &'static str, &'static str)];

const SQLITE_MIGRATIONS: Migrations = &[
    (1, "create_ledger", include_str!("../../migrations/sqlite/0001_create_ledger.sql")),
    (2, "address_each_mail", include_str!("../../migrations/sqlite/0002_address_each_mail.sql")),
    (3, "keep_looks", include_str!("../../migrations/sqlite/0003_keep_looks.sql")),
    (4, "choose_e_invoice", include_str!("../../migrations/sqlite/0004_choose_e_invoice.sql")),
    (5, "serve_the_api", include_str!("../../migrations/sqlite/0005_serve_the_api.sql")),
    (6, "share_the_work", include_str!("../../migrations/sqlite/0006_share_the_work.sql")),
    (
        7,
        "serve_payments_customers_rentals",
        include_str!("../../migrations/sqlite/0007_serve_payments_customers_rentals.sql"),
    ),
    (8, "keep_documents", include_str!("../../migrations/sqlite/0008_keep_documents.sql")),
    (9, "cover_members", include_str!("../../migrations/sqlite/0009_cover_members.sql")),
    (10, "know_the_machine", include_str!("../../migrations/sqlite/0010_know_the_machine.sql")),
];
const POSTGRES_MIGRATIONS: Migrations = &[
    (1, "create_ledger", include_str!("../../migrations/postgres/0001_create_ledger.sql")),
    (2, "address_each_mail", include_str!("../../migrations/postgres/0002_address_each_mail.sql")),
    (3, "keep_looks", include_str!("../../migrations/postgres/0003_keep_looks.sql")),
    (4, "choose_e_invoice", include_str!("../../migrations/postgres/0004_choose_e_invoice.sql")),
    (5, "serve_the_api", include_str!("../../migrations/postgres/0005_serve_the_api.sql")),
    (6, "share_the_work", include_str!("../../migrations/postgres/0006_share_the_work.sql")),
    (
        7,
        "serve_payments_customers_rentals",
        include_str!("../../migrations/postgres/0007_serve_payments_customers_rentals.sql"),
    ),
    (8, "keep_documents", include_str!("../../migrations/postgres/0008_keep_documents.sql")),
    (9, "cover_members", include_str!("../../migrations/postgres/0009_cover_members.sql")),
    (10, "know_the_machine", include_str!("../../migrations/postgres/0010_know_the_machine.sql")),
];

/// The schema that this program works with: the number of its last migration.
const SCHEMA_VERSION: i64 = SQLITE_MIGRATIONS[SQLITE_MIGRATIONS.len() - 1].0;

fn migrator(migrations: Migrations) -> Migrator {
    let migrations = migrations
        .iter()
        .map(|&(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations)
}

fn migration_error(error: sqlx::migrate::MigrateError) -> anyhow::Error {
    if let sqlx::migrate::MigrateError::VersionMissing(version) = error {
        return anyhow!(
            "the database has schema {version} and this program works with {SCHEMA_VERSION}: it needs a newer billday"
        );
    }
    anyhow::Error::new(error).context("cannot bring the database's schema up to date")
}

enum Url {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
}

impl Url {
    fn parse(url: &str) -> anyhow::Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            if path.is_empty() || path.contains('?') {
                bail!(
                    "the database URL must name a file, such as sqlite://billday.db or sqlite:///var/lib/billday/billday.db"
                );
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // The parser's own message could repeat the password.
            let options = PgConnectOptions::from_str(url).map_err(|_| {
                anyhow!("the postgres:// URL cannot be read: expected postgres://user:password@host:port/database")
            })?;
            let options = if url.contains("sslmode=") || is_local(&options) {
                options
            } else {
                options.ssl_mode(PgSslMode::VerifyFull)
            };
            return Ok(Self::Postgres(Box::new(options.application_name("billday"))));
        }
        bail!("the database URL must begin with sqlite:// or postgres://")
    }
}

/// A connection that leaves the machine is encrypted and verified unless the URL says otherwise.
fn is_local(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || ["localhost", "127.0.0.1", "::1"].contains(&options.get_host())
}

async fn postgres_pool(options: PgConnectOptions, connections: u32, read_only: bool) -> anyhow::Result<PgPool> {
    let shown = format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or_default());
    let mut settings = vec![("lock_timeout", "10s"), ("idle_in_transaction_session_timeout", "10min")];
    if read_only {
        settings.push(("default_transaction_read_only", "on"));
    }
    let options = options.options(settings).disable_statement_logging();
    // A pool would try for half a minute and then say only that it gave up.
    let first = PgConnection::connect_with(&options).await;
    let first = first.with_context(|| format!("cannot reach the PostgreSQL database {shown}"))?;
    let _ = first.close().await;
    PgPoolOptions::new()
        .max_connections(connections.max(2))
        .test_before_acquire(false)
        .before_acquire(|connection, last| {
            Box::pin(async move {
                if last.idle_for >= POSTGRES_FRESH {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .acquire_timeout(Duration::from_secs(30))
        .max_lifetime(Duration::from_secs(30 * 60))
        .connect_with(options)
        .await
        .with_context(|| format!("cannot reach the PostgreSQL database {shown}"))
}

fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // Not NORMAL: bills that were reported must survive a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(SQLITE_BUSY)
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .pragma("journal_size_limit", "67108864")
        // As many pages as that limit: a batch writes more than the default of 1,000, and would pay for two more syncs each time.
        .pragma("wal_autocheckpoint", "16384")
        .pragma("cache_size", "-32768")
        .disable_statement_logging()
}

/// Older libraries can damage a log that two connections write at once.
async fn check_sqlite(pool: &SqlitePool) -> anyhow::Result<()> {
    let (version, journal, synchronous): (String, String, i64) = sqlx::query_as(
        "select sqlite_version(), (select journal_mode from pragma_journal_mode), (select synchronous from pragma_synchronous)",
    )
    .fetch_one(pool)
    .await
    .context("cannot read the database")?;
    let parts: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    if parts < vec![3, 51, 3] {
        bail!("SQLite {version} can damage its log; billday needs 3.51.3 or newer, as it brings along");
    }
    // Full synchronization is 2.
    if journal != "wal" || synchronous != 2 {
        bail!(
            "the database cannot be opened durably (journal {journal}, synchronous {synchronous}): is it on a network file system?"
        );
    }
    Ok(())
}

async fn check_postgres(pool: &PgPool) -> anyhow::Result<()> {
    let version: i32 = sqlx::query_scalar("select current_setting('server_version_num')::int")
        .fetch_one(pool)
        .await
        .context("cannot read the database")?;
    if version < 150_000 {
        bail!("PostgreSQL {} is too old: billday needs 15 or newer", version / 10_000);
    }
    Ok(())
}

async fn sqlite_readers(path: &Path) -> anyhow::Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(SQLITE_BUSY)
        .pragma("query_only", "ON")
        .pragma("trusted_schema", "OFF")
        .pragma("cache_size", "-8192")
        .disable_statement_logging();
    let options = if needs_no_log(path, &options).await { options.immutable(true) } else { options };
    SqlitePoolOptions::new()
        .max_connections(SQLITE_READERS)
        .test_before_acquire(false)
        .acquire_timeout(SQLITE_BUSY)
        .connect_with(options)
        .await
        .with_context(|| format!("cannot open the database {}", path.display()))
}

/// Whether a database can only be read as a file at rest: its folder takes no new files, and its log is empty.
///
/// So an auditor can look at a copy on a medium that nobody can write to.
async fn needs_no_log(path: &Path, options: &SqliteConnectOptions) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
        return false;
    }
    let Ok(mut connection) = SqliteConnection::connect_with(options).await else { return false };
    sqlx::query("select count(*) from sqlite_schema").execute(&mut connection).await.is_err()
}

/// Lets one process at a time create and migrate a SQLite file; sqlx's own lock is empty there.
fn lock_beside(path: &Path) -> anyhow::Result<std::fs::File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let file = std::fs::File::create(&beside).with_context(|| format!("cannot create {}", beside.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", beside.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn mails_of_an_older_schema_become_those_to_their_only_recipient() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        let options = sqlite_options(&path).create_if_missing(true);
        let old = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        migrator(&SQLITE_MIGRATIONS[..1]).run(&old).await.unwrap();
        for (id, state) in [("p1", "pending"), ("p2", "sent")] {
            sqlx::query(
                "insert into outbox (tenant_id, payment_id, kind, recipient, locale, state, attempts, next_at, fence,
                                     sent_at, created_at)
                 values ('T', $1, 'invoice', 'a@b.example', 'en', $2, 3, 4, 5, 6, 7)",
            )
            .bind(id)
            .bind(state)
            .execute(&old)
            .await
            .unwrap();
        }
        old.close().await;
        let store = Store::open(&format!("sqlite://{}", path.display()), 2).await.unwrap();
        let mut session = store.read().await.unwrap();
        let mails = session.list_mails(outbox::MailFilter::default(), None, 9).await.unwrap();
        session.end().await;
        let told = mails.iter().map(|m| (m.payment_id.as_str(), m.state.as_str(), m.position, m.copy, m.attempts));
        assert_eq!(told.collect::<Vec<_>>(), [("p1", "pending", 0, false, 3), ("p2", "sent", 0, false, 3)]);
        assert_eq!(mails[0].recipient.as_deref(), Some("a@b.example"));
    }
    /// Fills a database of few pages until SQLite, out of room, rolls the transaction back by itself.
    async fn overfill(tx: &mut Session) -> Result<()> {
        tx.execute("pragma max_page_count = 1").await?; // as many as there are: it is never less
        tx.execute("insert into marks values (hex(zeroblob(1000000)))").await
    }

    async fn marked() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}", folder.path().join("a.db").display()), 2).await.unwrap();
        store.with_tx(|tx| Box::pin(tx.execute("create table marks (mark text)"))).await.unwrap();
        (folder, store)
    }

    async fn marks(store: &Store) -> i64 {
        let mut session = store.read().await.unwrap();
        let Connection::Sqlite(conn) = &mut session.connection else { panic!("SQLite") };
        let count = sqlx::query_scalar("select count(*) from marks").fetch_one(&mut **conn).await.unwrap();
        session.end().await;
        count
    }

    #[tokio::test]
    async fn a_transaction_that_sqlite_has_rolled_back_by_itself_is_not_told_as_committed() {
        let (_folder, store) = marked().await;
        let told = store.with_tx(|tx| {
            Box::pin(async move {
                tx.execute("insert into marks values ('before')").await?;
                // No code of ours swallows an error; should one do so, this is not to pass for success.
                assert!(overfill(tx).await.is_err());
                tx.execute("select 1").await
            })
        });
        assert!(told.await.is_err());
        assert_eq!(marks(&store).await, 0);
    }

    #[tokio::test]
    async fn after_an_error_the_next_transaction_has_a_connection_of_its_own() {
        let (_folder, store) = marked().await;
        for full in [true, false] {
            let failed = store.with_tx(move |tx| {
                Box::pin(async move {
                    tx.execute("insert into marks values ('lost')").await?;
                    if full { overfill(tx).await } else { tx.execute("insert into nowhere values (1)").await }
                })
            });
            assert!(failed.await.is_err());
            store.with_tx(|tx| Box::pin(tx.execute("insert into marks values ('kept')"))).await.unwrap();
        }
        assert_eq!(marks(&store).await, 2);
    }
}
