//! The settings: any file, and secrets wherever they may stand in one.

use std::ffi::OsString;
use std::path::Path;

use billday::config::{Config, ConfigErrors, Origin, Overrides};

use super::is_one_line;

/// What no message and no list may hold.
const SECRET: &str = "tr0ub4dor";

/// Any bytes as the file; then as what stands around a secret in a file, in a URL and in the environment.
pub fn config(data: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("billday.toml");
    let load = |text: &[u8], env: &[(String, String)]| {
        std::fs::write(&file, text).expect("a file");
        let env = || env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let list = Config::list(Some(&file), env(), Overrides::default());
        let config = Config::load(Some(&file), env(), Overrides::default());
        assert_eq!(list.is_ok(), config.is_ok());
        (format!("{list:?}"), config)
    };
    if let (_, Err(errors)) = load(data, &[]) {
        told_well(&errors, &file);
    }

    // What stands before it must not begin another line, which would be another setting.
    let text = String::from_utf8_lossy(data);
    let line: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let (before, after) = line.split_at(line.char_indices().nth(line.chars().count() / 2).map_or(0, |(at, _)| at));
    let (words, url) = (format!("{SECRET}{text}"), format!("postgres://user:{SECRET}{text}@host/db"));
    let keys = ["mail.password", "daemon.heartbeatUrl", "database.url"];
    for value in [words, url] {
        let file: Vec<String> = keys.iter().map(|key| format!("{key} = {value:?}\n")).collect();
        kept_secret(load(file.concat().as_bytes(), &[]));
    }
    for key in keys {
        // A SQLite URL has no password: all of it may be shown.
        if !(key == "database.url" && before.contains("sqlite:")) {
            kept_secret(load(format!("{key} = {before}{SECRET}{after}").as_bytes(), &[]));
        }
    }
    let plain: String = text.chars().filter(|c| *c != '\0').collect();
    let variables = ["MAIL__PASSWORD", "DAEMON__HEARTBEAT_URL", "DATABASE__URL"].map(|name| format!("BILLDAY_{name}"));
    kept_secret(load(b"", &variables.map(|name| (name, format!("{SECRET}{plain}")))));
}

fn told_well(errors: &ConfigErrors, file: &Path) {
    assert!(!errors.problems().is_empty());
    for problem in errors.problems() {
        let said = problem.to_string();
        assert!(matches!(&problem.origin, Origin::File(path, _) if path == file), "{said}");
        assert!(said.starts_with(&*file.to_string_lossy()) && said.contains(&problem.key), "{said}");
        assert!(is_one_line(&said), "{said:?}");
        let whole = ["is not TOML: ", "cannot be read: "].iter().any(|why| problem.message.starts_with(why));
        assert!(whole == problem.key.is_empty(), "{said}");
    }
}

fn kept_secret((list, config): (String, Result<Config, ConfigErrors>)) {
    let said = match config {
        Ok(config) => format!("{config:?} {}", config.database_url_for_people()),
        Err(errors) => format!("{errors} {errors:?}"),
    };
    assert!(!said.contains(SECRET) && !list.contains(SECRET), "{said}\n{list}");
}
