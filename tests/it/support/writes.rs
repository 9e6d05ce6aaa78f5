//! Which rows are written, as the database itself sees it: also one that is written as it was.

use super::TestDb;

impl TestDb {
    /// From now on each row that is inserted, updated or deleted is noted, in all tables that there are.
    pub async fn note_writes(&self) {
        let (tables, begin) = if self.is_sqlite() {
            ("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'", "")
        } else {
            (
                "select table_name::text from information_schema.tables
                 where table_schema = 'public' and table_type = 'BASE TABLE'",
                "create function note() returns trigger language plpgsql as $$
                 begin insert into written values (lower(tg_op) || ' ' || tg_table_name); return null; end $$;",
            )
        };
        let tables = self.texts(tables).await;
        let mut triggers = format!("create table written (what text); {begin}");
        for table in tables {
            for kind in ["insert", "update", "delete"] {
                let name = format!("note_{kind}_{table}");
                triggers.push_str(&if self.is_sqlite() {
                    format!("create trigger {name} after {kind} on {table} begin insert into written values ('{kind} {table}'); end;")
                } else {
                    format!("create trigger {name} after {kind} on {table} for each row execute function note();")
                });
            }
        }
        self.try_execute(&triggers).await.expect("triggers");
    }

    /// What was written since, such as `update runs 2`.
    pub async fn writes(&self) -> Vec<String> {
        self.texts("select what || ' ' || count(*) from written group by what order by what").await
    }
}
