//! What a call tells people: complaints if it was refused, else counts and warnings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::store::import::{Finding, Incoming, Written};

use super::Kind;

/// How many complaints, and how many warnings of one sort, are named; the rest are counted.
const NAMED: usize = 20;

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub file: usize,
    pub line: u64,
}

impl Place {
    /// Bits for the line: a million million lines, of eight million files.
    const LINE_BITS: u32 = 40;

    /// As one number, ordered as the files are.
    pub(super) fn to_number(self) -> i64 {
        let line = self.line.min((1 << Self::LINE_BITS) - 1) as i64;
        ((self.file as i64) << Self::LINE_BITS) | line
    }

    pub(super) fn from_number(number: i64) -> Self {
        let line = number & ((1 << Self::LINE_BITS) - 1);
        Self { file: (number >> Self::LINE_BITS) as usize, line: line.unsigned_abs() }
    }
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub file: String,
    pub line: u64,
    /// The record's kind and id, such as `rental 'r-7'`; empty if it is not known, or the message names it.
    pub record: String,
    /// Empty if it is about the whole record.
    pub field: String,
    pub message: String,
}

/// One thing that was accepted with a doubt, and where.
pub type Warning = Complaint;

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        for part in [&self.record, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

/// The first complaints in the order of the files, and how many there are.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    places: Vec<Place>,
    pub first: Vec<Complaint>,
    pub total: u64,
}

impl Complaints {
    pub(super) fn push(&mut self, place: Place, complaint: Complaint) {
        self.total += 1;
        let at = self.places.partition_point(|other| *other <= place);
        if at < NAMED {
            self.places.insert(at, place);
            self.first.insert(at, complaint);
            self.places.truncate(NAMED);
            self.first.truncate(NAMED);
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        let unnamed = other.total - other.first.len() as u64;
        other.places.into_iter().zip(other.first).for_each(|(place, complaint)| self.push(place, complaint));
        self.total += unnamed;
    }
}

/// A refusal as people read it: a line each, then how many more there are.
pub(super) fn refusal(complaints: &[Complaint], total: u64) -> String {
    let mut lines: Vec<String> = complaints.iter().take(NAMED).map(Complaint::to_string).collect();
    let more = total.saturating_sub(lines.len() as u64);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.push("nothing was imported".to_owned());
    lines.join("\n")
}

/// What to say of one file under two names, which may be equal.
pub(super) fn named_twice(first: &str, again: &str) -> String {
    let also = if first == again { String::new() } else { format!(", also as {again}") };
    format!("the file {first} is named twice{also}: nothing was imported")
}

/// What became of the records of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub created: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Groups that had been deleted.
    pub restored: u64,
    /// Payments that billday made, which an import leaves alone.
    pub left_alone: u64,
}

impl Counts {
    pub fn total(&self) -> u64 {
        self.created + self.changed + self.unchanged + self.restored + self.left_alone
    }
}

/// What one call has brought.
#[derive(Debug, Clone, Default)]
pub struct ImportSummary {
    counts: [Counts; Kind::ALL.len()],
    warnings: Vec<Warnings>,
    /// Tenants whose groups or members may have changed.
    pub(super) tenants: BTreeSet<String>,
    /// How many records each tenant got, of all kinds.
    pub(super) records: BTreeMap<String, u64>,
}

/// Warnings of one sort: the first ones, and how many there are.
#[derive(Debug, Clone)]
struct Warnings {
    what: Finding,
    first: Vec<Warning>,
    total: u64,
}

impl ImportSummary {
    pub fn counts(&self, kind: Kind) -> Counts {
        self.counts[kind as usize]
    }

    /// Whether the files held no record at all.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|counts| counts.total() == 0)
    }

    /// The warnings that are named, up to 20 of a sort.
    pub fn warnings(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.iter().flat_map(|warnings| &warnings.first)
    }

    /// How many warnings there are, named or not.
    pub fn warning_count(&self) -> u64 {
        self.warnings.iter().map(|warnings| warnings.total).sum()
    }

    /// Adds up what was written, and gives it back for its findings.
    pub(super) fn count(&mut self, kind: Kind, written: Written) -> Written {
        let counts = &mut self.counts[kind as usize];
        counts.created += written.created;
        counts.changed += written.changed;
        counts.unchanged += written.unchanged;
        counts.restored += written.restored;
        counts.left_alone += written.left_alone;
        written
    }

    pub(super) fn warn(&mut self, what: Finding, warnings: Vec<Warning>, unnamed: u64) {
        let at = self.warnings.iter().position(|known| known.what == what).unwrap_or_else(|| {
            self.warnings.push(Warnings { what, first: Vec::new(), total: 0 });
            self.warnings.len() - 1
        });
        let known = &mut self.warnings[at];
        known.total += warnings.len() as u64 + unnamed;
        known.first.extend(warnings);
        known.first.truncate(NAMED);
    }

    pub(super) fn note_records<C>(&mut self, records: &[Incoming<C>]) {
        for record in records {
            match self.records.get_mut(&record.tenant_id) {
                Some(count) => *count += 1,
                None => {
                    self.records.insert(record.tenant_id.clone(), 1);
                }
            }
        }
    }

    pub(super) fn note_tenants<C>(&mut self, records: &[Incoming<C>]) {
        for record in records {
            if !self.tenants.contains(&record.tenant_id) {
                self.tenants.insert(record.tenant_id.clone());
            }
        }
    }
}

impl fmt::Display for ImportSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = Kind::ALL
            .into_iter()
            .map(|kind| (kind, self.counts(kind)))
            .filter(|(_, counts)| counts.total() > 0)
            .map(|(kind, counts)| part(kind, counts))
            .collect();
        if parts.is_empty() {
            f.write_str("imported nothing: the files hold no record")?;
        } else {
            write!(f, "imported {}", parts.join(", "))?;
        }
        Ok(())
    }
}

impl ImportSummary {
    /// What was accepted with a doubt, a line each; of each sort the first ones and how many more there are.
    pub fn warning_lines(&self) -> impl Iterator<Item = String> + '_ {
        self.warnings.iter().filter(|warnings| warnings.total > 0).flat_map(|warnings| {
            let more = warnings.total - warnings.first.len() as u64;
            let rest = (more > 0).then(|| format!("warning: {more} more of this sort"));
            warnings.first.iter().map(|warning| format!("warning: {warning}")).chain(rest)
        })
    }
}

/// `3 customers (2 new, 1 changed)`.
fn part(kind: Kind, counts: Counts) -> String {
    let total = counts.total();
    let noun = if total == 1 { kind.singular() } else { kind.plural() };
    let details: Vec<String> = [
        (counts.created, format!("{} new", counts.created)),
        (counts.changed, format!("{} changed", counts.changed)),
        (counts.unchanged, format!("{} unchanged", counts.unchanged)),
        (counts.restored, format!("restored {}", counts.restored)),
        (counts.left_alone, format!("{} billed here and left as they are", counts.left_alone)),
    ]
    .into_iter()
    .filter_map(|(count, text)| (count > 0).then_some(text))
    .collect();
    format!("{total} {noun} ({})", details.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(line: u64) -> (Place, Complaint) {
        let record = if line == 20 { "rental 'r'".into() } else { String::new() };
        let complaint = Complaint { file: "a".into(), line, record, field: "b".into(), message: "is bad".into() };
        (Place { file: 0, line }, complaint)
    }

    #[test]
    fn the_first_twenty_complaints_are_named_in_order_and_the_rest_counted() {
        let mut complaints = Complaints::default();
        for line in (1..=25).rev() {
            let (place, complaint) = complaint(line);
            complaints.push(place, complaint);
        }
        let text = refusal(&complaints.first, complaints.total);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[19]), ("a:1: b: is bad", "a:20: rental 'r': b: is bad"));
        assert_eq!(lines[20..], ["and 5 more", "nothing was imported"]);
    }

    #[test]
    fn a_place_is_one_number_and_back() {
        let place = Place { file: 3, line: 1_000_000 };
        assert_eq!(Place::from_number(place.to_number()), place);
        assert!(place.to_number() < Place { file: 4, line: 1 }.to_number());
    }
}
