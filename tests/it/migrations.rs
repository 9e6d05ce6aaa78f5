//! The two databases have the same schema: equal migrations, tables and columns. Read as text, without a server.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A table and its columns, in order.
type Tables = BTreeMap<String, Vec<String>>;

/// The migrations of one database by file name.
fn migrations(database: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap())).collect()
}

/// Statements in lower case, without comments, white space as one space; what is quoted becomes `''`.
fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code));
    let code = lines.collect::<Vec<_>>().join(" ");
    let unquoted: Vec<&str> = code.split('\'').step_by(2).collect();
    let statements = unquoted.join("''").to_lowercase();
    let statements = statements.split(';').map(|s| s.split_whitespace().collect::<Vec<_>>().join(" "));
    statements.filter(|statement| !statement.is_empty()).collect()
}

/// What stands between the first `(` and the `)` that closes it, split at its own commas.
fn inside_parentheses(statement: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0, Vec::from([String::new()]));
    for c in statement.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        match c {
            '(' if depth == 1 => {}
            ')' if depth == 0 => break,
            ',' if depth == 1 => parts.push(String::new()),
            c if depth > 0 => parts.last_mut().unwrap().push(c),
            _ => {}
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).collect()
}

/// The tables after all that `sql` does to them; a kind of change that was not made yet has no reader yet.
fn tables(sql: &str) -> Tables {
    let mut tables = Tables::new();
    for statement in statements(sql) {
        let words: Vec<&str> = statement.split([' ', '(']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            ["create", "table", name, ..] => {
                let constraint = ["primary", "foreign", "unique", "check", "constraint"];
                let parts = inside_parentheses(&statement);
                let first_words = parts.iter().map(|part| part.split([' ', '(']).next().unwrap().to_owned());
                let columns = first_words.filter(|word| !constraint.contains(&word.as_str())).collect();
                assert!(tables.insert(name.to_owned(), columns).is_none(), "{name} is created twice");
            }
            ["alter", "table", name, "add", "column", column, ..] => {
                tables.get_mut(name).unwrap_or_else(|| panic!("no table {name}")).push(column.to_owned());
            }
            ["alter", "table", old, "rename", "to", new] => {
                let columns = tables.remove(old).unwrap_or_else(|| panic!("no table {old}"));
                assert!(tables.insert(new.to_owned(), columns).is_none(), "{new} is there twice");
            }
            ["drop", "table", name] => {
                tables.remove(name).unwrap_or_else(|| panic!("no table {name}"));
            }
            ["alter" | "drop", "table", ..] => panic!("teach this test to read: {statement}"),
            _ => {}
        }
    }
    tables
}

/// Table and name of the columns whose definition in a `create table` is `wanted`.
fn columns(sql: &str, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut columns = Vec::new();
    for statement in statements(sql) {
        let Some(name) = statement.strip_prefix("create table ").and_then(|rest| rest.split([' ', '(']).next()) else {
            continue;
        };
        for definition in inside_parentheses(&statement).iter().filter(|definition| wanted(definition)) {
            let column = definition.split(' ').next().unwrap_or_default();
            columns.push((name.to_owned(), column.to_owned()));
        }
    }
    columns
}

/// The unique indexes: what must happen once must happen once on both.
fn unique_indexes(sql: &str) -> Vec<String> {
    statements(sql).into_iter().filter(|statement| statement.starts_with("create unique index ")).collect()
}

fn whole(database: &str) -> String {
    migrations(database).into_values().collect()
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names: Vec<String> = migrations("sqlite").into_keys().collect();
    assert_eq!(names, migrations("postgres").into_keys().collect::<Vec<_>>());
    let number = |name: &String| name.split_once('_').and_then(|(number, _)| number.parse::<u32>().ok());
    let numbers: Vec<u32> = names.iter().map(|name| number(name).unwrap_or_else(|| panic!("{name}"))).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "a number is there twice: {names:?}");
}

#[test]
fn both_databases_have_the_same_tables_and_columns_in_order() {
    let (sqlite, postgres) = (tables(&whole("sqlite")), tables(&whole("postgres")));
    assert!(
        sqlite.contains_key("payments") && sqlite["payments"].contains(&"total".to_owned()),
        "the reader reads nothing"
    );
    assert_eq!(sqlite.keys().collect::<Vec<_>>(), postgres.keys().collect::<Vec<_>>());
    for (table, columns) in sqlite {
        assert_eq!(columns, postgres[&table], "columns of {table}: SQLite left, PostgreSQL right");
    }
}

#[test]
fn both_databases_have_the_same_unique_indexes() {
    let sqlite = unique_indexes(&whole("sqlite"));
    assert!(!sqlite.is_empty());
    assert_eq!(sqlite, unique_indexes(&whole("postgres")));
}

#[test]
fn sqlite_checks_each_column_that_is_a_date_on_postgresql() {
    let checked = columns(&whole("sqlite"), |definition| {
        let column = definition.split(' ').next().unwrap_or_default();
        definition.contains(&format!("check ({column} is date({column}))"))
    });
    let dates = columns(&whole("postgres"), |definition| definition.split(' ').nth(1) == Some("date"));
    assert!(dates.contains(&("rentals".to_owned(), "start_date".to_owned())), "the reader reads nothing");
    assert_eq!(checked, dates);
}

#[test]
fn the_reader_finds_columns_and_nothing_else() {
    let sql = "-- a; comment ' (\ncreate table a (\n x text not null check (x in ('p', ';q')), -- one, two\n y numeric(1, 2),\n\
               primary key (x, y), unique(y)\n) strict, without rowid;\nCREATE TABLE b(z int);\nalter table a add column w int;\n\
               create index i on a (y); create table d (v int); drop table d; alter table b rename to c;";
    let expected = [("a", vec!["x", "y", "w"]), ("c", vec!["z"])];
    let found = tables(sql);
    let found: Vec<_> =
        found.iter().map(|(name, columns)| (name.as_str(), columns.iter().map(String::as_str).collect())).collect();
    assert_eq!(found, expected);
    assert_ne!(tables("create table a (x int, y int)"), tables("create table a (y int, x int)"), "order counts");
}
