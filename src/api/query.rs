//! Query parameters, and the pages of lists.
//!
//! A cursor is a position in a list, bound to its tenant, filters and order by a hash, so that one which was made for another
//! list is refused. It needs no secret: whoever makes one by hand gets a place in a list that he may read anyway.

use std::collections::HashMap;

use chrono::NaiveDate;
use chrono_tz::Tz;
use data_encoding::BASE64URL_NOPAD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::change::Refusal;
use crate::domain::calendar::parse_local_date;
use crate::input::{ID_MAX, Problem, text_fault};
use crate::store::page::{Page, Position, SortBy};

use super::Operation;
use super::Parameter;
use super::call::{Answer, json};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 100;
/// A hash of this many bytes begins a cursor, before eight of the value and the id.
const CHECK_LENGTH: usize = 12;

/// The parameters that every list has.
pub(super) const LIMIT: Parameter = Parameter::new("limit", "How many to send, 1 to 100; 50 if it is absent.");
pub(super) const START_AFTER: Parameter = Parameter::new("startAfter", "The nextCursor of the page before.");
pub(super) const SORT_BY: Parameter = Parameter::new("sortBy", "What to order by; createdAt if it is absent.")
    .words(&["createdAt", "updatedAt"])
    .extension();
pub(super) const SORT_DIR: Parameter =
    Parameter::new("sortDir", "The direction of the order; desc if it is absent.").words(&["asc", "desc"]).extension();

/// The known parameters of one request, and what is wrong with them.
pub(super) struct Query {
    list: &'static str,
    tenant_id: String,
    values: HashMap<&'static str, String>,
    pub problems: Vec<Problem>,
}

impl Query {
    pub(super) fn read(operation: &'static Operation, tenant_id: &str, text: &str) -> Self {
        let mut values: HashMap<&'static str, String> = HashMap::new();
        let mut problems = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let Some(parameter) = operation.query.iter().find(|parameter| parameter.name == name) else { continue };
            let mut wrong = |message: String, code| problems.push(Problem::new(format!("query.{name}"), message, code));
            if value.is_empty() {
                wrong("is empty".into(), "too_small");
            } else if !parameter.words.is_empty() && !parameter.words.contains(&value.as_ref()) {
                wrong(format!("is none of {}", parameter.words.join(", ")), "invalid_enum");
            } else if values.insert(parameter.name, value.into_owned()).is_some() {
                wrong("is there more than once".into(), "invalid_type");
            }
        }
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        problems.dedup_by(|a, b| a.path == b.path);
        Self { list: operation.id, tenant_id: tenant_id.to_owned(), values, problems }
    }

    fn wrong(&mut self, name: &str, message: impl Into<String>, code: &'static str) {
        self.problems.push(Problem::new(format!("query.{name}"), message, code));
    }

    /// A parameter as it was sent; one of a few words is one of them.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// A parameter that is an id.
    pub(super) fn id(&mut self, name: &'static str) -> Option<String> {
        self.text(name, ID_MAX)
    }

    /// A parameter that is a day, from a date or an instant (rule 1).
    pub(super) fn date(&mut self, name: &'static str, zone: Tz) -> Option<NaiveDate> {
        let date = parse_local_date(self.get(name)?, zone);
        if date.is_none() {
            self.wrong(name, "is not a date such as 2026-03-01", "invalid_date");
        }
        date
    }

    /// A parameter that is a text.
    pub(super) fn text(&mut self, name: &'static str, max: usize) -> Option<String> {
        let value = self.get(name)?.to_owned();
        match text_fault(&value, max, false) {
            None => Some(value),
            Some((message, code)) => {
                self.wrong(name, message, code);
                None
            }
        }
    }

    /// Ends a request whose parameters are wrong, where no body and no page does it.
    pub(super) fn check(&mut self) -> Result<(), Refusal> {
        let problems = std::mem::take(&mut self.problems);
        if problems.is_empty() { Ok(()) } else { Err(Refusal::shapes(problems)) }
    }

    /// Notes a day that is later than the last one allowed.
    pub(super) fn not_after(&mut self, name: &'static str, date: Option<NaiveDate>, last: NaiveDate) {
        if let Some(date) = date.filter(|date| *date > last) {
            self.wrong(name, format!("{date} is too far ahead: the last is {last}"), "too_big");
        }
    }

    /// The page that is asked for; the problems of all parameters end it.
    pub(super) fn page(mut self) -> Result<ListPage, Refusal> {
        let limit = match self.get("limit") {
            None => LIMIT_DEFAULT,
            Some(text) => {
                let digits = text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
                let number = text.parse().ok().filter(|number| digits && (1..=LIMIT_MAX).contains(number));
                number.unwrap_or_else(|| {
                    self.wrong("limit", format!("is no whole number from 1 to {LIMIT_MAX}"), "invalid_limit");
                    LIMIT_DEFAULT
                })
            }
        };
        let sort_by = match self.get("sortBy") {
            Some("updatedAt") => SortBy::UpdatedAt,
            Some("dueDate") => SortBy::DueDate,
            _ => SortBy::CreatedAt,
        };
        let descending = self.get("sortDir") != Some("asc");
        let binding = self.binding(sort_by, descending);
        let after = self.get("startAfter").map(|cursor| position_of(cursor, &binding));
        if matches!(after, Some(None)) {
            let message = "is no cursor of this list with these filters in this order";
            self.wrong("startAfter", message, "invalid_cursor");
        }
        if !self.problems.is_empty() {
            return Err(Refusal::shapes(self.problems));
        }
        let page = Page { sort_by, descending, after: after.flatten(), limit: limit + 1 };
        Ok(ListPage { page, limit, binding })
    }

    /// What a cursor of this list is bound to.
    fn binding(&self, sort_by: SortBy, descending: bool) -> Vec<u8> {
        let mut filters: Vec<(&str, &str)> = self
            .values
            .iter()
            .filter(|(name, _)| !["limit", "startAfter", "sortBy", "sortDir"].contains(*name))
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        filters.sort_unstable();
        let order = format!("{sort_by:?} {descending}");
        serde_json::to_vec(&(self.list, &self.tenant_id, order, filters)).unwrap_or_default()
    }
}

/// A page that was asked for, and what its cursors are bound to.
#[derive(Debug)]
pub(super) struct ListPage {
    /// Asks for one row more than is sent.
    pub page: Page,
    limit: usize,
    binding: Vec<u8>,
}

/// What a list answer says beside its items; the public service has two habits.
#[derive(Clone, Copy)]
pub(super) enum Envelope {
    /// `success` first.
    Success,
    /// No `success`, but the `limit`.
    Limit,
}

impl ListPage {
    /// Leaves out the row that only tells whether more follow; gives the cursor of the next page, if there is one.
    pub(super) fn cut<T>(&self, mut rows: Vec<T>, position: impl Fn(&T) -> Position) -> (Vec<T>, Option<String>) {
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        let next = rows.last().filter(|_| more).map(|last| self.cursor(&position(last)));
        (rows, next)
    }

    /// The cursor of the page that begins after a place.
    pub(super) fn cursor(&self, position: &Position) -> String {
        cursor(position, &self.binding)
    }

    /// The position of a row, by what the page is ordered by.
    pub(super) fn position(&self, created_at: i64, updated_at: i64, id: &str) -> Position {
        let value = if self.page.sort_by == SortBy::UpdatedAt { updated_at } else { created_at };
        Position { value, id: id.to_owned() }
    }

    /// The answer to a list request.
    pub(super) fn answer<T: Serialize>(
        &self,
        name: &str,
        envelope: Envelope,
        items: &[T],
        next: Option<String>,
    ) -> Answer {
        let (count, more) = (json(&items.len()), json(&next.is_some()));
        let mut body = vec![(name, json(&items)), ("count", count)];
        match envelope {
            Envelope::Success => body.insert(0, ("success", json(&true))),
            Envelope::Limit => body.push(("limit", json(&self.limit))),
        }
        body.extend([("hasMore", more), ("nextCursor", json(&next))]);
        Answer::ok(&body)
    }
}

fn check(place: &[u8], binding: &[u8]) -> [u8; CHECK_LENGTH] {
    let hash = Sha256::new().chain_update(binding).chain_update([0]).chain_update(place).finalize();
    let mut check = [0; CHECK_LENGTH];
    check.copy_from_slice(&hash[..CHECK_LENGTH]);
    check
}

fn cursor(position: &Position, binding: &[u8]) -> String {
    let place = [position.value.to_be_bytes().as_slice(), position.id.as_bytes()].concat();
    BASE64URL_NOPAD.encode(&[check(&place, binding).as_slice(), &place].concat())
}

fn position_of(cursor: &str, binding: &[u8]) -> Option<Position> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
    let (checked, place) = bytes.split_at_checked(CHECK_LENGTH)?;
    if checked != check(place, binding) {
        return None;
    }
    let (value, id) = place.split_at_checked(8)?;
    Some(Position { value: i64::from_be_bytes(value.try_into().ok()?), id: String::from_utf8(id.to_vec()).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place_and_to_no_other_list() {
        let position = Position { value: -5, id: "bg_ü".into() };
        let cursor = cursor(&position, b"list");
        assert_eq!(position_of(&cursor, b"list"), Some(position));
        assert_eq!(position_of(&cursor, b"another list"), None);
        for bad in ["", "x", &cursor[1..], &cursor[..cursor.len() - 2], &cursor.to_uppercase()] {
            assert_eq!(position_of(bad, b"list"), None, "{bad}");
        }
    }
}
