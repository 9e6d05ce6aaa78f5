//! A fresh world for each test, on SQLite and on a real PostgreSQL.

pub mod api;
pub mod daemon;
pub mod http;
pub mod lane;
pub mod ledger_checks;
pub mod postgres;
pub mod proxy;
pub mod random;
pub mod smtp;
pub mod world;
pub mod writes;

use std::sync::OnceLock;

use billday::store::Store;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;

/// Turns each `async fn name(db: TestDb)` into two tests: `name::sqlite` and `name::postgres`.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($db:ident: TestDb) $body:block)+) => {
        $(
            $(#[$meta])*
            mod $name {
                #[allow(unused_imports, reason = "a test need not use its neighbours")]
                use super::*;

                async fn test($db: $crate::support::TestDb) $body

                #[test]
                fn sqlite() {
                    $crate::support::run(async { test($crate::support::TestDb::sqlite().await).await });
                }

                #[test]
                fn postgres() {
                    $crate::support::run(async { test($crate::support::TestDb::postgres().await).await });
                }
            }
        )+
    };
}
pub(crate) use on_both;

/// Runs one test's future to its end.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test);
}

/// A database of its own for one test, migrated and empty; gone with it.
pub struct TestDb {
    pub url: String,
    pub store: Store,
    /// A folder for the test's files.
    pub dir: TempDir,
    postgres_name: Option<String>,
    /// Where it is made and dropped; of PostgreSQL only.
    server: String,
}

impl TestDb {
    pub async fn sqlite() -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        let url = format!("sqlite://{}", dir.path().join("billday.db").display());
        let store = Store::open(&url, 2).await.expect("a new SQLite database");
        Self { url, store, dir, postgres_name: None, server: String::new() }
    }

    /// Of a file that is there; it stays.
    pub async fn sqlite_at(url: &str) -> Self {
        let store = Store::open(url, 2).await.expect("the SQLite database");
        let dir = TempDir::new().expect("a temporary folder");
        Self { url: url.to_owned(), store, dir, postgres_name: None, server: String::new() }
    }

    pub async fn postgres() -> Self {
        Self::postgres_on(postgres_server()).await
    }

    /// On a server of the test's own.
    pub async fn postgres_on(server: &str) -> Self {
        let name = format!("billday_{}", uuid::Uuid::now_v7().simple());
        let mut admin = PgConnection::connect(server).await.expect("the test server");
        sqlx::query(AssertSqlSafe(format!("create database {name} template template0")))
            .execute(&mut admin)
            .await
            .expect("a new database");
        let url = format!("{}/{name}", server.rsplit_once('/').expect("a URL with a database").0);
        let store = Store::open(&url, 4).await.expect("a new PostgreSQL database");
        let (dir, postgres_name) = (TempDir::new().expect("a temporary folder"), Some(name));
        Self { url, store, dir, postgres_name, server: server.to_owned() }
    }

    /// Another empty one of the same kind.
    pub async fn another(&self) -> Self {
        if self.is_sqlite() { Self::sqlite().await } else { Self::postgres_on(&self.server).await }
    }

    pub fn is_sqlite(&self) -> bool {
        self.postgres_name.is_none()
    }

    /// Runs statements of the test's own, without billday: to damage data, say. Foreign keys are off on both.
    pub async fn execute(&self, sql: &str) {
        if self.is_sqlite() {
            let mut conn = self.sqlite_connection().await;
            sqlx::raw_sql("pragma foreign_keys = off; pragma ignore_check_constraints = on")
                .execute(&mut conn)
                .await
                .expect(sql);
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.expect(sql);
        } else {
            let mut conn = PgConnection::connect(&self.url).await.expect("the test's database");
            sqlx::raw_sql("set session_replication_role = replica").execute(&mut conn).await.expect(sql);
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.expect(sql);
        }
    }

    /// Runs one statement as any program would: with all that the database refuses.
    pub async fn try_execute(&self, sql: &str) -> Result<(), sqlx::Error> {
        if self.is_sqlite() {
            let mut conn = self.sqlite_connection().await;
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.map(|_| ())
        } else {
            let mut conn = PgConnection::connect(&self.url).await.expect("the test's database");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.map(|_| ())
        }
    }

    /// One whole number from a query.
    pub async fn number(&self, sql: &str) -> i64 {
        self.try_number(sql).await.expect(sql)
    }

    /// The same where the database may be away.
    pub async fn try_number(&self, sql: &str) -> Result<i64, sqlx::Error> {
        if self.is_sqlite() {
            let mut conn = self.sqlite_connection().await;
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut conn).await
        } else {
            let mut conn = PgConnection::connect(&self.url).await?;
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut conn).await
        }
    }

    /// The rows of a query that gives one text column.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        if self.is_sqlite() {
            let mut conn = self.sqlite_connection().await;
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut conn).await.expect(sql)
        } else {
            let mut conn = PgConnection::connect(&self.url).await.expect("the test's database");
            sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut conn).await.expect(sql)
        }
    }

    /// How the database would go about a query, if tables were too large to be read whole or sorted.
    pub async fn plan(&self, sql: &str) -> String {
        let steps: Vec<String> = if self.is_sqlite() {
            let mut conn = self.sqlite_connection().await;
            let rows: Vec<(i64, i64, i64, String)> = sqlx::query_as(AssertSqlSafe(format!("explain query plan {sql}")))
                .fetch_all(&mut conn)
                .await
                .expect(sql);
            rows.into_iter().map(|row| row.3).collect()
        } else {
            let mut conn = PgConnection::connect(&self.url).await.expect("the test's database");
            let settings = "set enable_seqscan = off; set enable_sort = off; set enable_bitmapscan = off";
            sqlx::raw_sql(settings).execute(&mut conn).await.expect("settings");
            sqlx::query_scalar(AssertSqlSafe(format!("explain {sql}"))).fetch_all(&mut conn).await.expect(sql)
        };
        steps.join("\n")
    }

    /// The same data for somebody who may only read: a copy in a read-only file, or a role that may only select.
    pub async fn url_without_rights_to_write(&self) -> String {
        let Some(name) = &self.postgres_name else {
            let copy = self.dir.path().join("read-only.db");
            self.execute(&format!("vacuum into '{}'", copy.display())).await;
            let mut permissions = std::fs::metadata(&copy).expect("the copy").permissions();
            permissions.set_readonly(true);
            std::fs::set_permissions(&copy, permissions).expect("a read-only file");
            return format!("sqlite://{}", copy.display());
        };
        let role = format!("reader_{name}");
        self.execute(&format!(
            "create role {role} login; grant usage on schema public to {role}; grant select on all tables in schema public to {role}"
        ))
        .await;
        self.url.replace("postgres://postgres@", &format!("postgres://{role}@"))
    }

    /// Keeps everybody else from writing, until what it gives is dropped.
    pub async fn hold(&self) -> Box<dyn std::any::Any + Send> {
        if self.is_sqlite() {
            let mut conn = self.sqlite_connection().await;
            sqlx::raw_sql("begin immediate").execute(&mut conn).await.expect("the only writer");
            Box::new(conn)
        } else {
            let mut conn = PgConnection::connect(&self.url).await.expect("the test's database");
            let tables = "begin; lock table daemon_state, runs, shares, payments in exclusive mode";
            sqlx::raw_sql(tables).execute(&mut conn).await.expect("locked tables");
            Box::new(conn)
        }
    }

    /// Ends all connections to a PostgreSQL database.
    pub async fn cut_connections(&self) {
        let name = self.postgres_name.as_deref().expect("a PostgreSQL database");
        let sql = format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{name}'");
        let mut admin = PgConnection::connect(&self.server).await.expect("the test server");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.expect("cut connections");
    }

    /// Makes a PostgreSQL database refuse everybody, until [`let_in`](Self::let_in).
    pub async fn shut_out(&self) {
        self.allow_connections(false).await;
        self.cut_connections().await;
    }

    pub async fn let_in(&self) {
        self.allow_connections(true).await;
    }

    async fn allow_connections(&self, allow: bool) {
        let name = self.postgres_name.as_deref().expect("a PostgreSQL database");
        let mut admin = PgConnection::connect(&self.server).await.expect("the test server");
        let sql = format!("alter database {name} allow_connections {allow}");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.expect("altered database");
    }

    /// Writes a file of the test's own and tells its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).expect("a file in the temporary folder");
        path
    }

    async fn sqlite_connection(&self) -> SqliteConnection {
        SqliteConnection::connect(&self.url).await.expect("the test's database")
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let Some(name) = self.postgres_name.take() else { return };
        let server = std::mem::take(&mut self.server);
        // A runtime of its own: a test may end inside one, by a panic too.
        let drop_database = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                if let Ok(mut admin) = PgConnection::connect(&server).await {
                    let drop_all = [
                        format!("drop database if exists {name} with (force)"),
                        format!("drop role if exists reader_{name}"),
                    ];
                    for sql in drop_all {
                        let _ = sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await;
                    }
                }
            });
        });
        let _ = drop_database.join();
    }
}

/// The server that `scripts/test` starts.
fn postgres_server() -> &'static str {
    static SERVER: OnceLock<String> = OnceLock::new();
    SERVER.get_or_init(|| {
        std::env::var("BILLDAY_TEST_POSTGRES")
            .expect("the tests need a PostgreSQL server: run scripts/test, or name one in BILLDAY_TEST_POSTGRES")
    })
}

/// How much the long tests do: 1 in CI, more where `BILLDAY_TEST_TORTURE` says so.
pub fn torture() -> u32 {
    std::env::var("BILLDAY_TEST_TORTURE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// The whole ledger holds what it promises, by the audit that operators have and by the tests' own.
pub async fn assert_verified(db: &TestDb) {
    let mut session = db.store.read().await.expect("a snapshot");
    let audit = session.audit(None, chrono::DateTime::UNIX_EPOCH).await.expect("an audit");
    session.end().await;
    assert!(audit.violations.is_empty(), "{:#?}", audit.violations);
    ledger_checks::assert_ledger(db).await;
}
