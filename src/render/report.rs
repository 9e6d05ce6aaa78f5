//! The report of a run in its four forms, streamed: the payments pass through one by one, however many there are.
//!
//! ```text
//! RunReport + one PaymentSpool a tenant ──► ReportWriter ──► table | json | csv | html
//! ```
//!
//! A range of dates is one output of several reports: the writer knows what stands once at its start and end.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};

use anyhow::{Context, ensure};

use super::spool::PaymentSpool;
use crate::domain::Currency;
use crate::domain::report::{RunReport, TenantReport, Totals};

mod advice;
mod csv;
mod html;
mod json;
mod table;

#[cfg(test)]
pub(crate) mod samples;

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// For a terminal; shows the first payments and counts the others.
    Table,
    /// The schema `billday.report/1`, one object a line.
    Json,
    /// One row a line item, for spreadsheets.
    Csv,
    /// One page to send to a colleague.
    Html,
}

crate::domain::words!(ReportFormat { Table = "table", Json = "json", Csv = "csv", Html = "html" });

impl ReportFormat {
    /// A spool that keeps just what this format shows.
    pub fn spool(self) -> PaymentSpool {
        match self {
            Self::Table => PaymentSpool::first(table::PAYMENTS_MAX),
            Self::Json | Self::Csv | Self::Html => PaymentSpool::all(),
        }
    }
}

/// Writes the reports of one command, one after the other, as one table, page, file or stream of objects.
pub struct ReportWriter<'a> {
    format: ReportFormat,
    out: BufWriter<&'a mut dyn Write>,
    /// Something was written: what stands once at the start stands there.
    started: bool,
}

impl<'a> ReportWriter<'a> {
    /// Writes nothing yet: a command that fails before its first report leaves no half page.
    pub fn new(format: ReportFormat, out: &'a mut dyn Write) -> Self {
        Self { format, out: BufWriter::new(out), started: false }
    }

    /// Adds the report of one run date, with one spool a tenant, in the report's order; it is out when this returns.
    pub fn write(&mut self, report: &RunReport, payments: &mut [PaymentSpool]) -> anyhow::Result<()> {
        self.write_unflushed(report, payments).context("cannot write the report")
    }

    fn write_unflushed(&mut self, report: &RunReport, payments: &mut [PaymentSpool]) -> anyhow::Result<()> {
        ensure!(
            report.tenants.len() == payments.len(),
            "it has {} tenants and the payments of {}",
            report.tenants.len(),
            payments.len()
        );
        if self.format != ReportFormat::Table {
            // A sum without all that it adds up would look like the truth.
            let lost: u64 = payments.iter().map(|spool| spool.seen() - spool.len()).sum();
            ensure!(lost == 0, "{lost} of its payments were not kept, and {} shows all", self.format.as_str());
        }
        let is_first = !std::mem::replace(&mut self.started, true);
        match self.format {
            ReportFormat::Table => table::write(&mut self.out, report, payments, is_first)?,
            ReportFormat::Json => json::write(&mut self.out, report, payments)?,
            ReportFormat::Csv => csv::write(&mut self.out, report, payments, is_first)?,
            ReportFormat::Html => html::write(&mut self.out, report, payments, is_first)?,
        }
        Ok(self.out.flush()?)
    }

    /// Writes what stands at the end, if anything was written at all.
    pub fn finish(mut self) -> anyhow::Result<()> {
        if self.started && self.format == ReportFormat::Html {
            html::finish(&mut self.out).context("cannot write the report")?;
        }
        self.out.flush().context("cannot write the report")
    }
}

/// One report as one JSON object on one line: the schema `billday.report/1`.
pub fn write_json(out: &mut dyn Write, report: &RunReport, payments: &mut [PaymentSpool]) -> anyhow::Result<()> {
    write(ReportFormat::Json, out, report, payments)
}

/// One report as CSV with a header, one row a line item; what is not a payment is not in it.
pub fn write_csv(out: &mut dyn Write, report: &RunReport, payments: &mut [PaymentSpool]) -> anyhow::Result<()> {
    write(ReportFormat::Csv, out, report, payments)
}

/// One report for a terminal, with the command that settles each thing that needs a person.
pub fn write_table(out: &mut dyn Write, report: &RunReport, payments: &mut [PaymentSpool]) -> anyhow::Result<()> {
    write(ReportFormat::Table, out, report, payments)
}

/// One report as one self-contained page.
pub fn write_html(out: &mut dyn Write, report: &RunReport, payments: &mut [PaymentSpool]) -> anyhow::Result<()> {
    write(ReportFormat::Html, out, report, payments)
}

fn write(
    format: ReportFormat,
    out: &mut dyn Write,
    report: &RunReport,
    payments: &mut [PaymentSpool],
) -> anyhow::Result<()> {
    let mut writer = ReportWriter::new(format, out);
    writer.write(report, payments)?;
    writer.finish()
}

/// The currency of a sum; the totals were made from payments, so it is known.
fn total_currency(code: &str) -> anyhow::Result<Currency> {
    Currency::from_code(code).with_context(|| format!("unknown currency in the totals: {code}"))
}

/// Sums by currency over all tenants: never over currencies.
fn sum_of_tenants(tenants: &[TenantReport]) -> BTreeMap<String, Totals> {
    let mut sums: BTreeMap<String, Totals> = BTreeMap::new();
    for (code, totals) in tenants.iter().flat_map(|tenant| &tenant.totals) {
        let sum = sums.entry(code.clone()).or_default();
        sum.payments += totals.payments;
        sum.subtotal += totals.subtotal;
        sum.tax_amount += totals.tax_amount;
        sum.total += totals.total;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::report::samples::{self, render};

    #[test]
    fn a_report_with_lost_payments_is_refused_where_all_are_shown() {
        let (report, _) = samples::busy_report();
        for format in [ReportFormat::Json, ReportFormat::Csv, ReportFormat::Html] {
            let mut spool = PaymentSpool::first(0);
            spool.push(&samples::wire(&samples::rental_payment("EUR", "R1", 100))).unwrap();
            let mut spools = [spool, PaymentSpool::all()];
            let mut out = Vec::new();
            let error = ReportWriter::new(format, &mut out).write(&report, &mut spools).unwrap_err();
            assert!(format!("{error:#}").contains("1 of its payments were not kept"), "{error:#}");
            assert!(out.is_empty());
        }
        let error = write_table(&mut Vec::new(), &report, &mut []).unwrap_err();
        assert!(format!("{error:#}").contains("2 tenants and the payments of 0"), "{error:#}");
    }

    #[test]
    fn a_range_is_one_output_with_one_head_and_one_end() {
        for (format, head, count) in [
            (ReportFormat::Json, "billday.report/1", 2),
            (ReportFormat::Csv, "lineItems.rentalId", 1),
            (ReportFormat::Html, "<!doctype html>", 1),
            (ReportFormat::Html, "</html>", 1),
        ] {
            let mut out = Vec::new();
            let mut writer = ReportWriter::new(format, &mut out);
            for _ in 0..2 {
                let (report, mut spools) = samples::busy_report();
                writer.write(&report, &mut spools).unwrap();
            }
            writer.finish().unwrap();
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.matches(head).count(), count, "{format:?}");
        }
    }

    #[test]
    fn a_closed_pipe_is_still_known_as_one() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        for word in ReportFormat::WORDS {
            let format = ReportFormat::parse(word).unwrap();
            for payments in [0, 300] {
                let (report, mut spools) = samples::busy_report();
                let payment = samples::wire(&samples::rental_payment("EUR", "R1", 100));
                (0..payments).for_each(|_| spools[0].push(&payment).unwrap());
                let error = write(format, &mut Closed, &report, &mut spools).unwrap_err();
                let kind = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(|e| e.kind());
                assert_eq!(kind, Some(std::io::ErrorKind::BrokenPipe), "{word}: {error:#}");
            }
        }
    }

    #[test]
    fn each_format_keeps_what_it_shows() {
        let mut spool = ReportFormat::Table.spool();
        let payment = samples::wire(&samples::rental_payment("EUR", "R1", 100));
        (0..60).for_each(|_| spool.push(&payment).unwrap());
        assert_eq!((spool.len(), spool.seen()), (50, 60));
        assert_eq!(ReportFormat::parse("html"), Some(ReportFormat::Html));
    }

    #[test]
    fn an_empty_report_is_whole_in_every_format() {
        let report = samples::empty_report();
        assert_eq!(
            render(write_json, &report, &mut []),
            "{\"schema\":\"billday.report/1\",\"dryRun\":false,\"planHash\":\"cafe\",\"tenants\":[]}\n"
        );
        assert_eq!(render(write_csv, &report, &mut []).lines().count(), 1);
        assert!(render(write_html, &report, &mut []).contains("No tenant"));
        assert!(render(write_table, &report, &mut []).contains("No tenant"));
    }
}
