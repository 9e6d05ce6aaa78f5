//! The report for a terminal: what was billed, what needs a person, and the command that settles it.

use std::borrow::Cow;
use std::io::{self, Write};

use super::{advice, total_currency};
use crate::domain::BillingPeriod;
use crate::domain::plan::{Problem, Withheld};
use crate::domain::report::{Delivery, RunReport, TenantReport, Totals};
use crate::domain::{Currency, Subject};
use crate::render::payment::WirePayment;
use crate::render::spool::PaymentSpool;
use crate::render::text::{count, fit, plain, width};

/// More payments than this nobody reads in a terminal; the other formats show all.
pub(super) const PAYMENTS_MAX: u64 = 50;

/// How many entries of each other list are shown.
const ENTRIES_MAX: usize = 50;

/// How many offending records of one subject are shown.
const RECORDS_MAX: usize = 10;

pub(super) fn write(
    out: &mut dyn Write,
    report: &RunReport,
    payments: &mut [PaymentSpool],
    is_first: bool,
) -> anyhow::Result<()> {
    if !is_first {
        writeln!(out)?;
    }
    if report.dry_run {
        writeln!(out, "DRY RUN: nothing was written. This is what the run would do.\n")?;
    }
    for (tenant, spool) in report.tenants.iter().zip(payments) {
        write_tenant(out, report.dry_run, tenant, spool)?;
        writeln!(out)?;
    }
    match &report.tenants[..] {
        [] => writeln!(out, "No tenant was billed: there is none, or none of those selected.\n")?,
        [_] => {}
        tenants => write_sum_of_tenants(out, tenants)?,
    }
    writeln!(out, "Plan {}", plain(&report.plan_hash))?;
    Ok(())
}

fn write_tenant(
    out: &mut dyn Write,
    dry_run: bool,
    tenant: &TenantReport,
    payments: &mut PaymentSpool,
) -> anyhow::Result<()> {
    let heading = format!(
        "{} ({}), run date {}, period {}",
        fit(&plain(&tenant.tenant_name), 50),
        plain(&tenant.tenant_id),
        tenant.run_date,
        BillingPeriod::of(tenant.run_date)
    );
    writeln!(out, "{heading}\n{}\n", "─".repeat(width(&heading)))?;
    write_payments(out, payments)?;
    write_totals(out, &tenant.totals)?;
    if tenant.already_billed > 0 {
        writeln!(out, "{} already billed for this period", count(tenant.already_billed, "subject", "subjects"))?;
    }
    write_delivery(out, dry_run, tenant)?;
    write_parked(out, dry_run, tenant)?;
    write_withheld(out, tenant)?;
    write_skipped(out, tenant)?;
    if tenant.plain.count > 0 {
        writeln!(out, "\nNote: {}", advice::plain_invoices(&tenant.plain))?;
        writeln!(out, "  see them:      {}", advice::check_invoices(&tenant.tenant_id))?;
    }
    if tenant.never_charged > 0 {
        writeln!(out, "\nNote: {}", advice::never_charged(tenant.never_charged))?;
        writeln!(out, "  see them:      {}", advice::list_arrears(&tenant.tenant_id))?;
    }
    Ok(())
}

fn write_payments(out: &mut dyn Write, payments: &mut PaymentSpool) -> anyhow::Result<()> {
    if payments.seen() == 0 {
        return Ok(writeln!(out, "No payment.")?);
    }
    let mut rows = Vec::new();
    payments.for_each(|payment| {
        if (rows.len() as u64) < PAYMENTS_MAX {
            rows.push(payment_row(&payment));
        }
        Ok(())
    })?;
    let more = payments.seen() - rows.len() as u64;
    match (rows.is_empty(), more) {
        (true, _) => writeln!(out, "{}", count(more, "payment", "payments"))?,
        (false, 0) => write_rows(out, &PAYMENT_COLUMNS, &rows)?,
        (false, _) => {
            write_rows(out, &PAYMENT_COLUMNS, &rows)?;
            let more = count(more, "more payment", "more payments");
            writeln!(out, "… and {more}: --format json, csv or html shows all")?;
        }
    }
    Ok(writeln!(out)?)
}

struct Column {
    title: &'static str,
    align: Align,
    width_max: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Align {
    Left,
    Right,
}

const fn column(title: &'static str, align: Align, width_max: usize) -> Column {
    Column { title, align, width_max }
}

// Amounts are never cut: the longest has 21 characters.
const PAYMENT_COLUMNS: [Column; 9] = [
    column("For", Align::Left, 24),
    column("Name", Align::Left, 28),
    column("Customer", Align::Left, 20),
    column("Lines", Align::Left, 22),
    column("Net", Align::Right, 24),
    column("Tax", Align::Right, 24),
    column("Total", Align::Right, 28),
    column("Due", Align::Left, 10),
    column("Invoice", Align::Left, 24),
];

fn payment_row(payment: &WirePayment) -> [String; 9] {
    let kind = if payment.billing_group_id.is_some() { "group" } else { "rental" };
    let arrears = payment.line_items.iter().filter(|line| line.arrears).count();
    [
        plain(&format!("{kind} {}", payment.subject_id())).into_owned(),
        plain(payment.subject_name()).into_owned(),
        plain(&payment.customer_id).into_owned(),
        match arrears {
            0 => payment.line_items.len().to_string(),
            _ => format!("{} ({arrears} arrears)", payment.line_items.len()),
        },
        payment.subtotal.to_string(),
        payment.tax_amount.to_string(),
        format!("{} {}", payment.total, payment.currency),
        payment.due_date.clone(),
        plain(payment.invoice_number.as_deref().unwrap_or_default()).into_owned(),
    ]
}

fn write_rows<const N: usize>(out: &mut dyn Write, columns: &[Column; N], rows: &[[String; N]]) -> io::Result<()> {
    let widths: [usize; N] = std::array::from_fn(|at| {
        let widest = rows.iter().map(|row| width(&row[at])).max().unwrap_or(0);
        // A column without any text is left out, title and all.
        if widest == 0 { 0 } else { widest.max(width(columns[at].title)).min(columns[at].width_max) }
    });
    let titles: [&str; N] = std::array::from_fn(|at| columns[at].title);
    let rows = rows.iter().map(|row| std::array::from_fn(|at| row[at].as_str()));
    for row in std::iter::once(titles).chain(rows) {
        let mut line = String::new();
        for ((cell, column), &columns_wide) in row.iter().zip(columns).zip(&widths) {
            if columns_wide == 0 {
                continue;
            }
            let cell = fit(cell, columns_wide);
            let padding = " ".repeat(columns_wide - width(&cell));
            match column.align {
                Align::Left => line.extend([&*cell, &padding]),
                Align::Right => line.extend([&*padding, &cell]),
            }
            line.push_str("  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

const TOTAL_COLUMNS: [Column; 5] = [
    column("Total", Align::Left, 5),
    column("Payments", Align::Right, 20),
    column("Net", Align::Right, 48),
    column("Tax", Align::Right, 48),
    column("With tax", Align::Right, 48),
];

fn write_totals<'a>(
    out: &mut dyn Write,
    totals: impl IntoIterator<Item = (&'a String, &'a Totals)>,
) -> anyhow::Result<()> {
    let rows: Vec<[String; 5]> = totals
        .into_iter()
        .map(|(code, totals)| {
            let currency: Currency = total_currency(code)?;
            let sum = |minor| currency.format_sum(minor);
            anyhow::Ok([
                code.clone(),
                totals.payments.to_string(),
                sum(totals.subtotal),
                sum(totals.tax_amount),
                sum(totals.total),
            ])
        })
        .collect::<Result<_, _>>()?;
    if !rows.is_empty() {
        write_rows(out, &TOTAL_COLUMNS, &rows)?;
        writeln!(out)?;
    }
    Ok(())
}

fn write_sum_of_tenants(out: &mut dyn Write, tenants: &[TenantReport]) -> anyhow::Result<()> {
    let heading = format!("All {} tenants", tenants.len());
    writeln!(out, "{heading}\n{}\n", "─".repeat(width(&heading)))?;
    let sums = super::sum_of_tenants(tenants);
    if sums.is_empty() {
        writeln!(out, "No payment.\n")?;
    }
    write_totals(out, &sums)
}

fn write_delivery(out: &mut dyn Write, dry_run: bool, tenant: &TenantReport) -> io::Result<()> {
    if let Some(mails) = mails(tenant.delivery, dry_run) {
        writeln!(out, "Mails: {mails}")?;
    }
    if tenant.delivery.undeliverable + tenant.delivery.failed > 0 {
        writeln!(out, "  see them:      {}", advice::list_outbox(&tenant.tenant_id))?;
    }
    Ok(())
}

/// How the mails stand in one phrase; `None` if there are none.
pub(super) fn mails(delivery: Delivery, dry_run: bool) -> Option<String> {
    let Delivery { waiting, sent, failed, undeliverable } = delivery;
    let counts = [
        (sent, "sent"),
        (waiting, if dry_run { "to be queued" } else { "waiting" }),
        (failed, "failed"),
        (undeliverable, "without an address"),
    ];
    let words: Vec<String> =
        counts.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

fn write_parked(out: &mut dyn Write, dry_run: bool, tenant: &TenantReport) -> io::Result<()> {
    if tenant.parked.is_empty() {
        return Ok(());
    }
    let subjects = count(tenant.parked.len() as u64, "subject", "subjects");
    let verb = if dry_run { "would be parked" } else { "parked" };
    writeln!(out, "\nNeeds a person: {subjects} {verb}, not billed")?;
    for (subject, problem) in tenant.parked.iter().take(ENTRIES_MAX) {
        write_parked_subject(out, tenant, subject, problem)?;
    }
    write_more(out, tenant.parked.len(), || Some(advice::list_parked(&tenant.tenant_id)))
}

fn write_parked_subject(
    out: &mut dyn Write,
    tenant: &TenantReport,
    subject: &Subject,
    problem: &Problem,
) -> io::Result<()> {
    writeln!(out, "  {}: {}", plain(&subject.to_string()), plain(&problem.message))?;
    writeln!(out, "    code:        {}", problem.code.as_str())?;
    for record in problem.records.iter().take(RECORDS_MAX) {
        writeln!(out, "    mend:        {}", advice::record(record))?;
    }
    if problem.records.len() > RECORDS_MAX {
        writeln!(out, "                 … and {} more", problem.records.len() - RECORDS_MAX)?;
    }
    writeln!(out, "    then retry:  {}", advice::retry(&tenant.tenant_id, subject, tenant.run_date))?;
    writeln!(out, "    or give up:  {}", advice::dismiss(&tenant.tenant_id, subject, tenant.run_date))
}

fn write_withheld(out: &mut dyn Write, tenant: &TenantReport) -> io::Result<()> {
    if tenant.withheld.is_empty() {
        return Ok(());
    }
    let rentals = count(tenant.withheld.len() as u64, "rental", "rentals");
    writeln!(out, "\nNeeds a person: missed periods of {rentals} withheld until somebody decides")?;
    for withheld in tenant.withheld.iter().take(ENTRIES_MAX) {
        writeln!(out, "  {}: {}", withheld_subject(withheld), advice::periods(withheld, ", ", "…"))?;
        writeln!(out, "    charge:      {}", advice::confirm(&tenant.tenant_id, withheld))?;
        writeln!(out, "    or give up:  {}", advice::waive(&tenant.tenant_id, withheld))?;
    }
    write_more(out, tenant.withheld.len(), || Some(advice::list_arrears(&tenant.tenant_id)))
}

fn withheld_subject(withheld: &Withheld) -> Cow<'_, str> {
    let text = match &withheld.billing_group_id {
        Some(group_id) => format!("rental {} in group {group_id}", withheld.rental_id),
        None => format!("rental {}", withheld.rental_id),
    };
    Cow::Owned(plain(&text).into_owned())
}

fn write_skipped(out: &mut dyn Write, tenant: &TenantReport) -> io::Result<()> {
    if tenant.skipped.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nSkipped: {} with nothing to charge", count(tenant.skipped.len() as u64, "subject", "subjects"))?;
    for (subject, code) in tenant.skipped.iter().take(ENTRIES_MAX) {
        writeln!(out, "  {}: {}", plain(&subject.to_string()), code.message())?;
    }
    write_more(out, tenant.skipped.len(), || None)
}

fn write_more(out: &mut dyn Write, entries: usize, command: impl FnOnce() -> Option<String>) -> io::Result<()> {
    if entries <= ENTRIES_MAX {
        return Ok(());
    }
    match command() {
        Some(command) => writeln!(out, "  … and {} more: {command}", entries - ENTRIES_MAX),
        None => writeln!(out, "  … and {} more", entries - ENTRIES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::plan::{BadRecord, Problem, ProblemCode};
    use crate::domain::{Subject, report::RunReport};
    use crate::render::report::samples::{self, render};
    use crate::render::report::write_table;
    use crate::render::spool::PaymentSpool;
    use crate::render::text::width;

    #[test]
    fn a_report_reads_well_in_a_terminal() {
        let (report, mut spools) = samples::busy_report();
        let text = render(write_table, &report, &mut spools);
        assert_eq!(text, include_str!("table_sample.txt"), "{text}");
    }

    fn one_tenant(change: impl FnOnce(&mut RunReport)) -> RunReport {
        let (mut report, _) = samples::busy_report();
        report.tenants.truncate(1);
        change(&mut report);
        report
    }

    #[test]
    fn nothing_from_data_steers_the_terminal() {
        let evil = "\u{1b}]0;owned\u{7}\r\n\u{202e}";
        let report = one_tenant(|report| {
            let tenant = &mut report.tenants[0];
            tenant.tenant_name = evil.to_owned();
            tenant.tenant_id = evil.to_owned();
            tenant.withheld[0].rental_id = evil.to_owned();
            let record = BadRecord { kind: "rental", id: evil.into(), field: evil.into(), value: evil.into() };
            let problem = Problem { code: ProblemCode::InvalidRecord, message: evil.into(), records: vec![record] };
            tenant.parked = vec![(Subject::group(evil), problem)];
        });
        let mut payment = samples::group_payment("EUR", evil, evil, &[100]);
        payment.customer_id = evil.to_owned();
        let mut wire = samples::wire(&payment);
        wire.invoice_number = Some(evil.to_owned());
        let mut spool = PaymentSpool::all();
        spool.push(&wire).unwrap();
        let text = render(write_table, &report, &mut [spool]);
        assert!(!text.replace('\n', "").chars().any(|c| c.is_control() || c == '\u{202e}'), "{text}");
    }

    #[test]
    fn amounts_stay_aligned_beside_wide_and_long_names() {
        let report = one_tenant(|_| {});
        let mut spool = PaymentSpool::all();
        for (name, amount) in [("東京支社", 1_000_000), ("Zoë", 100), (&"long ".repeat(40), 12_345)] {
            spool.push(&samples::wire(&samples::group_payment("EUR", "G1", name, &[amount]))).unwrap();
        }
        let text = render(write_table, &report, &mut [spool]);
        let ends: Vec<usize> = text.lines().filter_map(|line| Some(width(&line[..line.find(" EUR  2026")?]))).collect();
        assert_eq!(ends.len(), 3, "{text}");
        assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}\n{text}");
        assert!(text.contains("long long long long long lo…"), "{text}");
    }

    #[test]
    fn long_lists_end_with_how_many_more_there_are() {
        let report = one_tenant(|report| {
            let parked = report.tenants[0].parked[1].clone();
            report.tenants[0].parked = vec![parked; 53];
        });
        for mut spool in [PaymentSpool::first(50), PaymentSpool::all()] {
            let payment = samples::wire(&samples::rental_payment("EUR", "R1", 100));
            (0..1050).for_each(|_| spool.push(&payment).unwrap());
            let text = render(write_table, &report, &mut [spool]);
            assert_eq!(text.matches("rental R1 ").count(), 50);
            assert!(text.contains("… and 1000 more payments: --format json, csv or html shows all"), "{text}");
            assert!(text.contains("  … and 3 more: billday parked list --tenant acme"), "{text}");
        }
        let text = render(write_table, &report, &mut [PaymentSpool::none()]);
        assert!(text.contains("No payment."), "{text}");
        let mut counted = PaymentSpool::none();
        counted.push(&samples::wire(&samples::rental_payment("EUR", "R1", 100))).unwrap();
        assert!(render(write_table, &report, &mut [counted]).contains("\n1 payment\n"));
    }

    #[test]
    fn a_real_run_shows_its_invoice_numbers() {
        let report = one_tenant(|report| report.dry_run = false);
        let mut wire = samples::wire(&samples::rental_payment("EUR", "R1", 100));
        wire.invoice_number = Some("INV-2026-000001".to_owned());
        let mut spool = PaymentSpool::all();
        spool.push(&wire).unwrap();
        let text = render(write_table, &report, &mut [spool]);
        assert!(text.contains("  INV-2026-000001\n") && !text.contains("DRY RUN"), "{text}");
        assert!(text.contains("2 subjects parked, not billed") && text.contains("3 waiting"), "{text}");
    }
}
