//! What a person can do about something that a report shows: plain words and the command to copy.

use chrono::NaiveDate;

use crate::domain::Subject;
use crate::domain::plan::{BadRecord, Withheld};
use crate::domain::report::PlainInvoices;
use crate::render::text::{count, plain, shell};

/// How many gaps a command names one by one; beyond that it would not be read any more.
const PERIODS_MAX: usize = 12;

/// Bills a parked subject, once its data is mended.
pub(super) fn retry(tenant_id: &str, subject: &Subject, run_date: NaiveDate) -> String {
    format!("billday parked retry {} {run_date} --tenant {}", subject_words(subject), id(tenant_id))
}

/// Gives a parked subject's charges up for good.
pub(super) fn dismiss(tenant_id: &str, subject: &Subject, run_date: NaiveDate) -> String {
    format!("billday parked dismiss {} {run_date} --tenant {} --reason '…'", subject_words(subject), id(tenant_id))
}

/// Lists what is parked, where a report does not show all of it.
pub(super) fn list_parked(tenant_id: &str) -> String {
    format!("billday parked list --tenant {}", id(tenant_id))
}

/// Has all withheld gaps of a rental charged on its next billing date.
pub(super) fn confirm(tenant_id: &str, withheld: &Withheld) -> String {
    format!("billday arrears confirm {} --tenant {}", id(&withheld.rental_id), id(tenant_id))
}

/// Gives the withheld gaps of a rental up for good.
pub(super) fn waive(tenant_id: &str, withheld: &Withheld) -> String {
    format!(
        "billday arrears waive {} {} --tenant {} --reason '…'",
        id(&withheld.rental_id),
        periods(withheld, " ", "…"),
        id(tenant_id)
    )
}

/// Lists the gaps of a tenant's rentals.
pub(super) fn list_arrears(tenant_id: &str) -> String {
    format!("billday arrears list --tenant {}", id(tenant_id))
}

/// Lists the mails that could not be sent.
pub(super) fn list_outbox(tenant_id: &str) -> String {
    format!("billday outbox list --tenant {}", id(tenant_id))
}

/// How many invoices go as plain PDF, and why, in one phrase.
pub(super) fn plain_invoices(plain_invoices: &PlainInvoices) -> String {
    let PlainInvoices { count: number, reasons, more_reasons } = plain_invoices;
    let invoices = if *number == 1 { "invoice goes" } else { "invoices go" };
    let more = if *more_reasons { "; …" } else { "" };
    plain(&format!("{number} {invoices} without an e-invoice: {}{more}", reasons.join("; "))).into_owned()
}

/// Lists the customers whose e-invoices lack something.
pub(super) fn check_invoices(tenant_id: &str) -> String {
    format!("billday invoice check --tenant {}", id(tenant_id))
}

/// The periods of withheld gaps in one phrase.
pub(super) fn periods(withheld: &Withheld, separator: &str, more: &str) -> String {
    let mut words: Vec<String> = withheld.periods.iter().take(PERIODS_MAX).map(ToString::to_string).collect();
    if withheld.periods.len() > PERIODS_MAX {
        words.push(more.to_owned());
    }
    words.join(separator)
}

/// An offending record in one phrase: `rental R1: currency is "USD"`.
pub(super) fn record(record: &BadRecord) -> String {
    let BadRecord { kind, id, field, value } = record;
    plain(&format!("{kind} {id}: {field} is \"{value}\"")).into_owned()
}

/// What `neverCharged` means and where to look.
pub(super) fn never_charged(number: u64) -> String {
    let (has, they) = if number == 1 { ("has", "its") } else { ("have", "their") };
    format!(
        "{} {has} never been charged, although {they} billing day has passed; it may lie before the tenant's billFrom",
        count(number, "active rental", "active rentals")
    )
}

// The command line's SUBJECT.
fn subject_words(subject: &Subject) -> String {
    id(&format!("{}:{}", subject.kind.as_str(), subject.id))
}

fn id(id: &str) -> String {
    shell(&plain(id)).into_owned()
}
