//! The shape of the code: imports point strictly down the levels, and each library has one home.
//!
//! A scanner of tokens, not a compiler: it reads paths as they are written, sees through comments, strings and `super`, and is
//! strict where it cannot know. Tests inside `src` are held to it too.

use std::fs;
use std::path::Path;

/// The levels, top first; a module may name modules of lower levels and itself.
const LEVELS: [&[&str]; 5] = [
    &["cli"],
    &["api", "schedule"],
    &["run", "deliver", "import", "preview", "invoice", "change", "monitor", "demo"],
    &["store", "render", "mail", "documents", "clock", "config", "telemetry", "input"],
    &["domain"],
];

/// Libraries with a home: nobody else may name them.
const HOMES: [(&str, &[&str]); 13] = [
    ("sqlx", &["store"]),
    ("lettre", &["mail"]),
    ("object_store", &["documents"]),
    ("krilla", &["render"]),
    ("parley", &["render"]),
    ("usvg", &["render"]),
    ("en16931", &["render"]),
    ("en16931_formats", &["render"]),
    ("axum", &["api"]),
    ("hyper", &["api"]),
    ("hyper_util", &["api"]),
    ("tokio_cron_scheduler", &["schedule"]),
    ("clap", &["cli", "main"]),
];

/// Types whose `now` only the clock may call.
const PRESENT: [&str; 3] = ["Utc", "Local", "SystemTime"];

/// Words that the pure core does not know.
const NOT_IN_DOMAIN: [&str; 5] = ["f32", "f64", "async", "await", "tokio"];

/// Parts of the standard library that the pure core does not know.
const NOT_IN_DOMAIN_OF_STD: [&str; 5] = ["fs", "net", "env", "process", "thread"];

#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

/// Words, numbers and marks (`::` is one); comments are left out, strings and characters are `""`, lifetimes are left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens: Vec<Token> = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        let mut text = String::new();
        match at(i) {
            '/' if at(i + 1) == '/' => i = (i..chars.len()).find(|&i| at(i) == '\n').unwrap_or(chars.len()),
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= chars.len() {
                        break;
                    }
                }
            }
            '"' => {
                i = end_of_string(&chars, i);
                text = "\"\"".into();
            }
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                // The first character after the quote may be an escaped quote.
                let content = i + if at(i + 1) == '\\' { 3 } else { 2 };
                i = (content..chars.len()).find(|&i| at(i) == '\'').map_or(chars.len(), |end| end + 1);
                text = "\"\"".into();
            }
            '\'' => i = (i + 1..chars.len()).find(|&i| !is_word(at(i))).unwrap_or(chars.len()),
            c if c.is_ascii_digit() => {
                let after_dot = tokens.last().is_some_and(|token| token.text == ".");
                while is_word(at(i)) || (at(i) == '.' && at(i + 1).is_ascii_digit() && !after_dot) {
                    i += 1;
                }
                text = chars[start..i].iter().collect();
            }
            c if is_word(c) => {
                while is_word(at(i)) {
                    i += 1;
                }
                let word: String = chars[start..i].iter().collect();
                let hashes = (i..chars.len()).take_while(|&i| at(i) == '#').count();
                let prefix = ["r", "b", "c", "br", "cr"].contains(&word.as_str());
                if prefix && word.contains('r') && at(i + hashes) == '"' {
                    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                    let content = i + hashes + 1;
                    i = (content..chars.len())
                        .find(|&i| chars[i..].starts_with(&close))
                        .map_or(chars.len(), |end| end + close.len());
                    text = "\"\"".into();
                } else if prefix && at(i) == '"' {
                    i = end_of_string(&chars, i);
                    text = "\"\"".into();
                } else if word == "r" && hashes == 1 {
                    // A raw name: the mark goes, the name is the next token.
                    i += 1;
                } else {
                    text = word;
                }
            }
            ':' if at(i + 1) == ':' => {
                i += 2;
                text = "::".into();
            }
            c => {
                i += 1;
                if !c.is_whitespace() {
                    text = c.to_string();
                }
            }
        }
        if !text.is_empty() {
            tokens.push(Token { text, line });
        }
        line += chars[start..i].iter().filter(|&&c| c == '\n').count();
    }
    tokens
}

/// The place after the string that opens at `open`.
fn end_of_string(chars: &[char], open: usize) -> usize {
    let mut i = open + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Adds all paths that begin at token `at`, groups like `a::{b, c::d}` spelled out; returns the token after them.
fn spell_out(tokens: &[Token], mut at: usize, mut path: Vec<String>, paths: &mut Vec<Vec<String>>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    loop {
        match text(at) {
            "{" => {
                at += 1;
                while at < tokens.len() && text(at) != "}" {
                    at = if text(at) == "," { at + 1 } else { spell_out(tokens, at, path.clone(), paths) };
                }
                return at + 1;
            }
            name if is_name(name) || name == "*" => path.push(name.to_owned()),
            // A turbofish, or what is no path at all.
            _ => {
                paths.push(path);
                return at + 1;
            }
        }
        at += 1;
        if text(at) != "::" {
            paths.push(path);
            // `a as b`: the new name is not a path of ours.
            return if text(at) == "as" { at + 2 } else { at };
        }
        at += 1;
    }
}

/// A place where a source breaks the shape.
type Violation = String;

/// Everything in one source that the shape forbids; `module` is its path below the crate, such as `store::row`.
fn violations(module: &str, source: &str) -> Vec<Violation> {
    let tokens = tokens(source);
    let home = module.split("::").next().unwrap_or_default();
    let mut found = Vec::new();
    let level_of = |name: &str| LEVELS.iter().position(|level| level.contains(&name));
    let own_level = match home {
        "main" | "lib" => None,
        home => level_of(home).or_else(|| {
            found.push(format!("{module}: is in no level: give it one in LEVELS"));
            None
        }),
    };
    let allowed = |target: &str| match home {
        "main" => target == "cli",
        home => target == home || own_level.is_some_and(|own| level_of(target).is_some_and(|level| level > own)),
    };

    // Modules written inside this file, by the depth of braces at which they close.
    let mut inner: Vec<usize> = Vec::new();
    let mut depth = 0;
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    for (at, token) in tokens.iter().enumerate() {
        let mut fault = |what: String| found.push(format!("{module}:{}: {what}", token.line));
        let before = if at == 0 { "" } else { text(at - 1) };
        match token.text.as_str() {
            "{" => {
                if at >= 2 && text(at - 2) == "mod" {
                    inner.push(depth);
                }
                depth += 1;
            }
            "}" => {
                depth = depth.saturating_sub(1);
                inner.pop_if(|opened| *opened == depth);
            }
            "extern" if text(at + 1) == "crate" => fault("names an external crate by `extern crate`".into()),
            // `pub(crate)` is no path.
            "crate" if text(at + 1) != "::" && !(before == "(" && text(at + 1) == ")") => {
                fault("gives the crate itself another name".into());
            }
            _ => {}
        }

        for (library, homes) in HOMES {
            if token.text == library && !homes.contains(&home) {
                fault(format!("names {library}, which lives in {}", homes[0]));
            }
        }
        if PRESENT.contains(&token.text.as_str()) && text(at + 1) == "::" && text(at + 2) == "now" && home != "clock" {
            fault(format!("calls {}::now: time comes from clock", token.text));
        }
        if home == "domain" {
            let number = token.text.starts_with(|c: char| c.is_ascii_digit());
            let suffix = number
                && ["f32", "f64"].iter().any(|float| token.text.ends_with(float))
                && !token.text.starts_with("0x");
            if NOT_IN_DOMAIN.contains(&token.text.as_str()) || suffix || number && token.text.contains('.') {
                fault(format!("knows {}, which the domain must not", token.text));
            }
        }

        if before == "::" || !is_name(&token.text) || text(at + 1) != "::" {
            continue;
        }
        let mut paths = Vec::new();
        spell_out(&tokens, at, Vec::new(), &mut paths);
        for path in paths {
            if home == "domain"
                && path[0] == "std"
                && path.get(1).is_some_and(|p| NOT_IN_DOMAIN_OF_STD.contains(&p.as_str()))
            {
                fault(format!("knows {}, which the domain must not", path.join("::")));
            }
            let own_depth = if home == "lib" || home == "main" { 0 } else { module.split("::").count() };
            if let Some(target) = module_named(&path, own_depth + inner.len())
                && !allowed(target)
            {
                fault(format!("names {target}, which is not below it"));
            }
        }
    }
    found
}

/// The module of the crate that a path written `depth` modules deep leads to, unless it stays inside its own.
fn module_named(path: &[String], depth: usize) -> Option<&str> {
    let ups = path.iter().skip_while(|part| *part == "self").take_while(|part| *part == "super").count();
    let leading = path.iter().take_while(|part| *part == "self" || *part == "super").count();
    match path[0].as_str() {
        "crate" | "billday" => path.get(1).map(String::as_str),
        "super" | "self" if ups >= depth => path.get(leading).map(String::as_str),
        _ => None,
    }
}

/// Every source below `folder` with its module path.
fn sources(folder: &Path, above: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let below = if above.is_empty() { name.to_owned() } else { format!("{above}::{name}") };
        if path.is_dir() {
            sources(&path, &below, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if name == "mod" { above.to_owned() } else { below };
            found.push((module, fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn the_code_keeps_its_shape() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut found);
    assert!(found.iter().any(|(module, _)| module == "domain::plan"), "the sources were not found");
    let mut broken: Vec<Violation> = found.iter().flat_map(|(module, source)| violations(module, source)).collect();
    broken.sort();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Asserts how many faults a source has, and that each names `word`.
#[track_caller]
fn check(module: &str, source: &str, faults: usize, word: &str) {
    let found = violations(module, source);
    assert!(found.len() == faults && found.iter().all(|fault| fault.contains(word)), "{module}: {source}\n{found:#?}");
}

#[test]
fn imports_that_point_down_or_stay_at_home_are_fine() {
    check("run", "use crate::store::Store; use crate::{domain::plan, clock::Clock}; fn f() { crate::run::g() }", 0, "");
    check(
        "domain::plan",
        "use super::money; use crate::domain::tax; pub(crate) mod a { use super::super::tax; }",
        0,
        "",
    );
    check("config", "mod tests { use super::*; } use self::tests as t;", 0, "");
    check("store::row", "pub(in crate::store) struct A; macro_rules! m { () => { $crate::store::X } }", 0, "");
    check("main", "fn main() { billday::cli::main() }", 0, "");
    check("lib", "pub mod domain; pub mod run;", 0, "");
}

#[test]
fn an_import_that_points_up_or_sideways_is_found() {
    check("store", "use crate::run::day;", 1, "names run");
    check("store", "fn f() -> crate::clock::Clock {}", 1, "names clock");
    check("mail::folder", "use super::super::store::Store;", 1, "names store");
    check("mail", "use super::{store, domain, render as r};", 2, "which is not below it");
    check("api", "use crate::{domain, cli::{self, X}, schedule};", 3, "which is not below it");
    check("domain", "pub fn f() { crate::store::X::<u8>::new() }", 1, "store");
    check("config", "mod tests { use super::super::telemetry; }", 1, "telemetry");
    check(
        "config",
        "fn f() { if a { } } mod tests { fn g() { {} } use super::super::mail; } use super::mail;",
        2,
        "mail",
    );
    check("run", "#[cfg(test)] mod tests { use crate::api::X; }", 1, "names api");
    check("run", "#[macro_export] macro_rules! m { () => { $crate::cli::X } }", 1, "names cli");
    check("main", "use billday::store::Store;", 1, "names store");
    check("run", "use r#crate::r#cli;", 1, "cli");
}

#[test]
fn ways_around_the_paths_are_found() {
    check("store", "use crate as us;", 1, "another name");
    check("store", "use crate::*;", 1, "names *");
    check("store", "use crate::{self as us};", 1, "names self");
    check("store", "use crate::Anything;", 1, "names Anything");
    check("store", "extern crate billday as us;", 2, "crate");
    check("fresh", "", 1, "no level");
}

#[test]
fn a_library_away_from_home_is_found() {
    for (library, homes) in HOMES {
        check("domain", &format!("use {library}::X;"), 1, library);
        check(homes[0], &format!("use {library}::X;"), 0, "");
    }
    check("run", "use {std::fmt, sqlx::Row};", 1, "sqlx");
    check("run", "#[derive(sqlx::FromRow)] struct A;", 1, "sqlx");
    check("run", "use ::lettre as l;", 1, "lettre");
}

#[test]
fn only_the_clock_tells_the_time() {
    check("run", "let now = chrono::Utc::now();", 1, "Utc::now");
    check("render", "SystemTime::now(); Local\n::now()", 2, "time comes from clock");
    check("clock", "Utc::now()", 0, "");
}

#[test]
fn the_domain_is_pure() {
    check("domain::money", "fn f(x: f64) -> f32 { 1.5 + 2f64 }", 4, "the domain must not");
    check("domain", "async fn f() { tokio::spawn(g).await }", 3, "the domain must not");
    check("domain", "use std::{fs, fmt}; fn f() { std::env::var(x) }", 2, "the domain must not");
    check("domain", "for i in 0..5 { x.0.1; 1_000u64; 0x1f32; 1.max(2) }", 0, "");
    check("run", "async fn f(x: f64) { std::fs::read(x).await }", 0, "");
}

#[test]
fn what_is_quoted_or_commented_is_not_read() {
    let source = r####"
        // use crate::cli;
        //! sqlx
        /* use crate::cli; /* nested */ sqlx */
        const A: &str = "use crate::cli; \" sqlx"; const B: &str = r#"sqlx " lettre"#; const C: &[u8] = b"sqlx";
        const D: char = '"'; const E: char = '\''; const F: char = '\u{41}'; fn f<'a>(x: &'a str) -> &'static str { "axum" }
        const G: &str = r"sqlx\"; const H: &str = br##"clap "# clap"##; "####;
    check("domain", source, 0, "");
    check("domain", &format!("{source} use crate::cli;"), 1, "domain:7: names cli");
}
