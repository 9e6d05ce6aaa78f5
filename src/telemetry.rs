//! Log lines: to standard error, as text for people or JSON for machines, with noisy libraries held down.
//!
//! Lines carry ids, counts and codes, never names, addresses or secrets; facts that must not be lost are in the database.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::{env, io, panic};

use anyhow::Context;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One compact line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Libraries that would tell too much, with the most that they may say, whatever the level asks for.
const HELD_DOWN: [(&str, Option<Level>); 4] = [
    ("sqlx", Some(Level::WARN)),
    ("sqlx_core", Some(Level::WARN)),
    ("tokio_cron_scheduler", Some(Level::WARN)),
    ("lettre", None),
];

/// Changes how much is logged while the program runs.
#[derive(Clone)]
pub struct Levels(reload::Handle<EnvFilter, Registry>);

impl Levels {
    /// From now on, this much.
    pub fn set(&self, level: &str) -> anyhow::Result<()> {
        self.0.reload(filter(level)?).context("the log level cannot be changed")
    }
}

fn filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).with_context(|| format!("{level:?} is no log level"))
}

/// Starts logging for the whole process, panics included; a second call is refused.
pub fn init(format: Format, level: &str) -> anyhow::Result<Levels> {
    let (filter, levels) = reload::Layer::new(filter(level)?);
    let lines = match format {
        Format::Text => fmt::layer().compact().with_target(false).with_ansi(colours()).with_writer(io::stderr).boxed(),
        Format::Json => fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed(),
    };
    // The filter right above the registry, whose type its handle names.
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(filter_fn(may_speak))
        .try_init()
        .context("logging has been started before")?;
    log_panics();
    Ok(Levels(levels))
}

/// On a terminal only, and not where its user wants none (the habit of `NO_COLOR`).
fn colours() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A cap beside the level's filter, not a directive in it: `sqlx::query=trace` is more specific and would win there, and
/// `sqlx=warn` would raise what `off` silenced.
fn may_speak(line: &Metadata<'_>) -> bool {
    HELD_DOWN.iter().all(|(library, most)| {
        let rest = line.target().strip_prefix(library);
        let spoken_by_it = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        !spoken_by_it || most.is_some_and(|most| *line.level() <= most)
    })
}

/// Makes a panic one log line, so that it is found where all else is; if errors are not logged, it stays as it was.
fn log_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !tracing::enabled!(Level::ERROR) {
            return before(panic);
        }
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            tracing::error!(place, %backtrace, "panicked: {message}");
        } else {
            tracing::error!(place, "panicked: {message}");
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Collects lines as standard error would get them.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn spoken_at(level: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::registry()
            .with(fmt::layer().with_ansi(false).without_time().with_writer(move || writer.clone()))
            .with(EnvFilter::try_new(level).unwrap())
            .with(filter_fn(may_speak));
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "sqlx::query", "slow");
            tracing::debug!(target: "sqlx::query", "statement");
            tracing::error!(target: "lettre::transport", "address");
            tracing::debug!(target: "billday::run", "ours");
            tracing::info!(target: "sqlxish", "another");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn noisy_libraries_stay_quiet_whatever_the_level() {
        for level in
            ["trace", "trace,sqlx=trace,lettre=trace", "info,sqlx::query=trace,lettre::transport=debug,billday=debug"]
        {
            let spoken = spoken_at(level);
            assert!(
                spoken.contains("slow") && spoken.contains("ours") && spoken.contains("another"),
                "{level}: {spoken}"
            );
            assert!(!spoken.contains("statement") && !spoken.contains("address"), "{level}: {spoken}");
        }
    }

    #[test]
    fn a_cap_raises_nothing() {
        assert_eq!(spoken_at("off"), "");
        assert_eq!(spoken_at("error"), "");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        assert!(init(Format::Text, "info,=").err().unwrap().to_string().contains("no log level"));
    }
}
