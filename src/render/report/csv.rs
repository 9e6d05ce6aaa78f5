//! The report for spreadsheets: one row a line item, the payment's columns repeated.

use std::borrow::Cow;
use std::io::{self, Write};

use ::csv::{ErrorKind, Terminator, Writer, WriterBuilder};

use crate::domain::report::RunReport;
use crate::render::payment::{WireLine, WirePayment};
use crate::render::spool::PaymentSpool;

/// What a column holds decides whether a spreadsheet may take its cells at their word.
enum Cell<'a> {
    /// From data: defused.
    Text(&'a str),
    /// An amount or a count that billday wrote, for the spreadsheet to reckon with.
    Number(&'a str),
}

use Cell::{Number, Text};

/// What a row is made from.
struct Row<'a> {
    run_date: &'a str,
    dry_run: bool,
    payment: &'a WirePayment,
    line: &'a WireLine,
}

type Column = (&'static str, for<'a> fn(&Row<'a>) -> Cell<'a>);

/// Named as in JSON, a line's fields by dots as import files name nested ones. Sums of `lineItems.…` columns are right;
/// those of the payment's repeated ones are not.
const COLUMNS: &[Column] = &[
    ("tenantId", |row| Text(&row.payment.tenant_id)),
    ("runDate", |row| Text(row.run_date)),
    ("dryRun", |row| Text(if row.dry_run { "true" } else { "false" })),
    ("paymentId", |row| Text(&row.payment.payment_id)),
    ("paymentType", |row| Text(&row.payment.payment_type)),
    ("billingGroupId", |row| text(&row.payment.billing_group_id)),
    ("groupName", |row| text(&row.payment.group_name)),
    ("rentalId", |row| text(&row.payment.rental_id)),
    ("productName", |row| text(&row.payment.product_name)),
    ("customerId", |row| Text(&row.payment.customer_id)),
    ("billingPeriod", |row| Text(&row.payment.billing_period)),
    ("status", |row| Text(&row.payment.status)),
    ("invoiceNumber", |row| text(&row.payment.invoice_number)),
    ("issueDate", |row| Text(&row.payment.issue_date)),
    ("dueDate", |row| Text(&row.payment.due_date)),
    ("currency", |row| Text(&row.payment.currency)),
    ("subtotal", |row| Number(row.payment.subtotal.as_str())),
    ("taxRate", |row| Number(row.payment.tax_rate.as_str())),
    ("taxTreatment", |row| Text(&row.payment.tax_treatment)),
    ("taxAmount", |row| Number(row.payment.tax_amount.as_str())),
    ("total", |row| Number(row.payment.total.as_str())),
    ("idempotencyKey", |row| Text(&row.payment.idempotency_key)),
    ("lineItems.rentalId", |row| Text(&row.line.rental_id)),
    ("lineItems.billingPeriod", |row| Text(&row.line.billing_period)),
    ("lineItems.arrears", |row| Text(if row.line.arrears { "true" } else { "false" })),
    ("lineItems.productName", |row| Text(&row.line.product_name)),
    ("lineItems.serialNumber", |row| text(&row.line.serial_number)),
    ("lineItems.description", |row| Text(&row.line.description)),
    ("lineItems.amount", |row| Number(row.line.amount.as_str())),
    ("lineItems.taxAmount", |row| Number(row.line.tax_amount.as_str())),
];

fn text(value: &Option<String>) -> Cell<'_> {
    Text(value.as_deref().unwrap_or_default())
}

pub(super) fn write(
    out: &mut dyn Write,
    report: &RunReport,
    payments: &mut [PaymentSpool],
    is_first: bool,
) -> anyhow::Result<()> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(out);
    if is_first {
        writer.write_record(COLUMNS.iter().map(|(name, _)| name)).map_err(io_error)?;
    }
    for (tenant, spool) in report.tenants.iter().zip(payments) {
        let run_date = tenant.run_date.to_string();
        spool.for_each(|payment| {
            payment.line_items.iter().try_for_each(|line| {
                let row = Row { run_date: &run_date, dry_run: report.dry_run, payment: &payment, line };
                Ok(write_row(&mut writer, &row).map_err(io_error)?)
            })
        })?;
    }
    Ok(writer.flush()?)
}

fn write_row(writer: &mut Writer<impl Write>, row: &Row<'_>) -> ::csv::Result<()> {
    for (_, cell) in COLUMNS {
        match cell(row) {
            Text(text) => writer.write_field(defused(text).as_bytes())?,
            Number(digits) => writer.write_field(digits)?,
        }
    }
    writer.write_record(None::<&[u8]>)
}

/// Frees what went wrong below, so that a caller can tell a closed pipe from a full disk.
fn io_error(error: ::csv::Error) -> io::Error {
    match error.into_kind() {
        ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// Puts `'` before a text that a spreadsheet would run, so that it shows the text instead.
///
/// Programs differ in what they skip before they look for a formula, so blanks and invisible characters do not hide one.
fn defused(text: &str) -> Cow<'_, str> {
    if starts_formula(text) { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}

fn starts_formula(text: &str) -> bool {
    if text.starts_with(['\t', '\r', '\n']) {
        return true;
    }
    let invisible =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2060}' | '\u{FEFF}');
    // ASCII, then the small and the full-width forms of the same signs, and the true minus.
    text.trim_start_matches(invisible).starts_with([
        '=', '+', '-', '@', '\u{FE66}', '\u{FE62}', '\u{FE63}', '\u{FE6B}', '＝', '＋', '－', '＠', '\u{2212}',
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::render::report::samples::{self, render};
    use crate::render::report::write_csv;

    #[test]
    fn each_line_item_is_a_row_with_its_payment() {
        let (report, mut spools) = samples::busy_report();
        let text = render(write_csv, &report, &mut spools);
        let rows: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(
            rows[..3],
            [
                "tenantId,runDate,dryRun,paymentId,paymentType,billingGroupId,groupName,rentalId,productName,customerId,\
                 billingPeriod,status,invoiceNumber,issueDate,dueDate,currency,subtotal,taxRate,taxTreatment,taxAmount,\
                 total,idempotencyKey,lineItems.rentalId,lineItems.billingPeriod,lineItems.arrears,\
                 lineItems.productName,lineItems.serialNumber,lineItems.description,lineItems.amount,\
                 lineItems.taxAmount",
                "acme,2026-11-15,true,pay_202611qqkhkwhn2zbgfg42,consolidated,G1,Head office,,,C1,2026-11,pending,,\
                 2026-11-15,2026-11-29,EUR,377.00,19,standard,71.63,448.63,group:G1:2026-11,R1,2026-10,true,\
                 MacBook Pro 14,SN-1,\"MacBook Pro 14 (SN-1), 2026-10\",129.00,24.51",
                "acme,2026-11-15,true,pay_202611qqkhkwhn2zbgfg42,consolidated,G1,Head office,,,C1,2026-11,pending,,\
                 2026-11-15,2026-11-29,EUR,377.00,19,standard,71.63,448.63,group:G1:2026-11,R2,2026-11,false,\
                 MacBook Pro 14,,\"MacBook Pro 14, 2026-11\",248.00,47.12",
            ]
        );
        assert_eq!(rows.len(), 6, "a header and five line items");
        assert!(rows[4].contains(",JPY,4900,19,standard,931,5831,"), "{}", rows[4]);
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }

    #[test]
    fn a_cell_that_would_run_is_defused_and_others_are_untouched() {
        for formula in [
            "=1+1",
            "+1",
            "-1",
            "@sum",
            "\tx",
            "\rx",
            "\nx",
            "＝1",
            "＋1",
            "－1",
            "＠x",
            "\u{2212}1",
            " =1",
            "\u{FEFF}=1",
        ] {
            assert_eq!(defused(formula), format!("'{formula}"));
        }
        for text in ["", "Müller", "a=b", "'=1", "3-4", " text", "東京"] {
            assert_eq!(defused(text), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_cell_starts_a_formula(
            name in "[-=+@\t\r\n ＝＋－＠\u{FEFF}a\"',;]{0,6}",
            id in "[-=+@\t＝a]{1,4}",
            serial in "\\PC{0,5}",
        ) {
            let mut payment = samples::group_payment("EUR", &id, &name, &[100]);
            payment.customer_id.clone_from(&id);
            payment.lines[0].product_name.clone_from(&name);
            payment.lines[0].rental_id.clone_from(&id);
            payment.lines[0].serial_number = Some(serial);
            let (mut report, _) = samples::busy_report();
            report.tenants.truncate(1);
            let mut spool = PaymentSpool::all();
            spool.push(&samples::wire(&payment)).unwrap();
            let text = render(write_csv, &report, &mut [spool]);
            let mut reader = ::csv::Reader::from_reader(text.as_bytes());
            let rows: Vec<::csv::StringRecord> = reader.records().map(Result::unwrap).collect();
            prop_assert_eq!(rows.len(), 1);
            for cell in &rows[0] {
                prop_assert!(!starts_formula(cell), "{:?}", cell);
            }
            prop_assert_eq!(rows[0][6].strip_prefix('\'').unwrap_or(&rows[0][6]), name.strip_prefix('\'').unwrap_or(&name));
        }
    }
}
