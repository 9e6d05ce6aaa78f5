//! The operator's daily mail: what was billed since the last one, or that nothing was.

use chrono::{DateTime, Utc};

use crate::clock;
use crate::domain::message::RenderedMail;
use crate::render::report::{ReportFormat, ReportWriter};
use crate::run::past::read_report;
use crate::store::Session;

/// More runs are not told one by one: nobody would read them.
const RUNS_MAX: i64 = 500;
/// More payments make a page that no mail program opens; then the mail holds the sums alone.
const PAYMENTS_MAX: i64 = 2_000;

/// What was completed since an instant, in words and as the report of those runs.
pub(super) async fn summary(session: &mut Session, since: i64, now: DateTime<Utc>) -> anyhow::Result<RenderedMail> {
    let runs = session.list_completed_since(since, RUNS_MAX).await?;
    if runs.is_empty() {
        let last = session.last_completion().await?.and_then(clock::instant);
        let subject = match last {
            Some(last) => format!("billday: no run has completed since {}", last.format("%Y-%m-%d %H:%M UTC")),
            None => "billday: no run has ever completed".to_owned(),
        };
        let text = format!("{subject}.\nIs there a tenant, and what does the log say?\n");
        let html = format!("<p>{subject}.<br>Is there a tenant, and what does the log say?</p>\n");
        return Ok(RenderedMail { subject, text, html });
    }
    let [billed, parked, withheld] = [
        runs.iter().map(|run| run.billed).sum::<i64>(),
        runs.iter().map(|run| run.parked).sum(),
        runs.iter().map(|run| run.withheld).sum(),
    ];
    let subject = match (billed, parked, withheld) {
        (0, 0, 0) => "billday: nothing was due".to_owned(),
        (billed, 0, 0) => format!("billday: {billed} billed"),
        (billed, parked, withheld) => {
            format!("billday: {billed} billed, {parked} parked, {withheld} withheld: needs a person")
        }
    };
    let (report, mut spools) = read_report(session, &runs, ReportFormat::Table).await?;
    let text = write(ReportFormat::Table, |writer| writer.write(&report, &mut spools))?;
    let html = if billed <= PAYMENTS_MAX {
        let (report, mut spools) = read_report(session, &runs, ReportFormat::Html).await?;
        write(ReportFormat::Html, |writer| writer.write(&report, &mut spools))?
    } else {
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;");
        format!("<pre>{escaped}</pre>\n")
    };
    let told = format!("Completed up to {}\n\n", now.format("%Y-%m-%d %H:%M UTC"));
    Ok(RenderedMail { subject, text: told + &text, html })
}

fn write(
    format: ReportFormat,
    body: impl FnOnce(&mut ReportWriter<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<String> {
    let mut out = Vec::new();
    let mut writer = ReportWriter::new(format, &mut out);
    body(&mut writer)?;
    writer.finish()?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
