//! What callers send, read strictly into typed values: JSON with exact numbers, and the limits that texts have everywhere.
//!
//! [`Reader`] takes the fields of one object and notes everything that is wrong with them, so that a caller hears of all of
//! it at once. What is known here needs no database; whether an id exists is another question.

pub mod value;

use std::collections::HashSet;
use std::ops::RangeInclusive;

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use crate::domain::Currency;
use crate::domain::calendar::{parse_local_date, parse_local_instant};
use crate::domain::money::{AMOUNT_MAJOR_MAX, NumberError, parse_scaled};

use value::{Object, Value, get, repeated_key};

/// Longest ids, names of groups, mails, notes and other texts, in characters.
pub const ID_MAX: usize = 128;
pub const NAME_MAX: usize = 200;
pub const EMAIL_MAX: usize = 254;
pub const NOTES_MAX: usize = 2_000;
pub const TEXT_MAX: usize = 255;

/// How many rentals one list may name.
pub const RENTALS_MAX: usize = 100_000;

/// The fields of an address in the public API.
pub const ADDRESS_PARTS: [&str; 9] = [
    "contactName",
    "company",
    "buildingInfo",
    "streetAddress",
    "locality",
    "city",
    "adminArea",
    "postalCode",
    "country",
];

/// How deep objects and lists may stand in each other.
const DEPTH_MAX: usize = 64;

/// One thing that is wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted, such as `rentalIds.2` or `query.limit`; empty for the whole body.
    pub path: String,
    pub message: String,
    /// A stable word for programs, such as `required` or `too_big`.
    pub code: &'static str,
    /// The group that holds the rental which the problem is about, if that is the problem.
    pub billing_group_id: Option<String>,
}

impl Problem {
    pub fn new(path: impl Into<String>, message: impl Into<String>, code: &'static str) -> Self {
        Self { path: path.into(), message: message.into(), code, billing_group_id: None }
    }
}

/// The code of a billing day that is there and is none.
pub const INVALID_BILLING_DAY: &str = "invalid_billing_day";

/// Reads the object that a body must be.
pub fn parse_object(body: &[u8]) -> Result<Object, Problem> {
    let broken = |message: String| Problem::new("", message, "invalid_json");
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(broken("is empty: expected a JSON object".into()));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| broken(format!("is not UTF-8 from byte {} on", error.valid_up_to())))?;
    let value: Value = serde_json::from_str(text).map_err(|error| broken(format!("is not JSON: {error}")))?;
    if value.depth() > DEPTH_MAX {
        return Err(broken(format!("is nested deeper than {DEPTH_MAX} levels")));
    }
    let Value::Object(object) = value else {
        return Err(Problem::new("", format!("is {}: expected a JSON object", value.describe()), "invalid_type"));
    };
    match repeated_key(&object) {
        Some(key) => Err(broken(format!("has the key {} twice", value::short(&key)))),
        None => Ok(object),
    }
}

/// What is wrong with a text, if anything: its length in characters, or a control character (in `lines` but tab and line feed).
pub fn text_fault(text: &str, max: usize, lines: bool) -> Option<(String, &'static str)> {
    let allowed = |c: char| !c.is_control() || (lines && matches!(c, '\t' | '\n'));
    if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
        return Some((format!("holds the control character U+{:04X}", u32::from(bad)), "invalid_string"));
    }
    // Bytes first: counting characters is for the rare long text.
    if text.len() > max && text.chars().count() > max {
        return Some((format!("is longer than {max} characters"), "too_big"));
    }
    None
}

/// Whether a text has the shape of an e-mail address.
pub fn is_email(text: &str) -> bool {
    text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty() && !domain.contains('@'))
        && !text.contains(char::is_whitespace)
}

/// What is wrong with an amount, and what would be right.
pub fn amount_problem(path: &str, text: &str, error: NumberError, currency: Option<Currency>) -> Problem {
    let code = match error {
        NumberError::Negative => "too_small",
        NumberError::TooLarge => "too_big",
        _ => "invalid_number",
    };
    let most = if error == NumberError::TooLarge { format!(": the most is {AMOUNT_MAJOR_MAX}") } else { String::new() };
    let currency = currency.map_or(String::new(), |currency| format!(" (in {currency})"));
    Problem::new(path, format!("{} {error}{most}{currency}", value::short(text)), code)
}

/// The fields of one object, with the problems found so far.
///
/// Each method gives `None` for a field that is absent, and for one that is wrong, which it then notes. `null` is wrong but
/// where a method says that it means something.
pub struct Reader<'a> {
    object: &'a Object,
    pub problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub fn new(object: &'a Object) -> Self {
        Self { object, problems: Vec::new() }
    }

    /// Notes something that is wrong with a field.
    pub fn note(&mut self, path: impl Into<String>, message: impl Into<String>, code: &'static str) {
        self.problems.push(Problem::new(path, message, code));
    }

    /// Whether the field is there, as null too.
    pub fn has(&self, name: &str) -> bool {
        get(self.object, name).is_some()
    }

    /// The field's value, unless it is absent.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        get(self.object, name)
    }

    /// Notes a field that must be there and is absent.
    pub fn required<T: Default>(&mut self, name: &str, value: Option<T>) -> T {
        if !self.has(name) {
            self.note(name, "is missing", "required");
        }
        value.unwrap_or_default()
    }

    /// A text of 1 to `max` characters.
    pub fn text(&mut self, name: &str, max: usize) -> Option<String> {
        let value = self.value(name)?;
        self.checked_text(name, value, max, false)
    }

    /// An id of 1 to 128 characters.
    pub fn id(&mut self, name: &str) -> Option<String> {
        self.text(name, ID_MAX)
    }

    /// A name: a text that is not only white space.
    pub fn name(&mut self, name: &str, max: usize) -> Option<String> {
        let text = self.text(name, max)?;
        if text.trim().is_empty() {
            self.note(name, "is only white space", "too_small");
            return None;
        }
        Some(text)
    }

    /// A text of 1 to `max` characters; an empty one is as good as absent.
    pub fn text_or_empty(&mut self, name: &str, max: usize) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) if text.is_empty() => None,
            value => self.checked_text(name, value, max, false),
        }
    }

    /// A text of several lines; an empty one is as good as absent.
    pub fn lines(&mut self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) if text.is_empty() => None,
            value => self.checked_text(name, value, NOTES_MAX, true),
        }
    }

    /// A text of several lines that must say something.
    pub fn required_lines(&mut self, name: &str) -> String {
        let text = self.value(name).and_then(|value| self.checked_text(name, value, NOTES_MAX, true));
        self.required(name, text)
    }

    /// An e-mail address of a plausible shape.
    pub fn email(&mut self, name: &str) -> Option<String> {
        let text = self.text(name, EMAIL_MAX)?;
        if !is_email(&text) {
            self.note(name, format!("'{}' is not an e-mail address", value::short(&text)), "invalid_string");
            return None;
        }
        Some(text)
    }

    /// A field that `null` removes: `Some(None)`.
    pub fn or_null<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.value(name) == Some(&Value::Null) { Some(None) } else { read(self).map(Some) }
    }

    /// The object in a field.
    pub fn object(&mut self, name: &str) -> Option<&'a Object> {
        match self.value(name)? {
            Value::Object(object) => Some(object),
            other => {
                self.note(name, format!("is {}: expected an object", other.describe()), "invalid_type");
                None
            }
        }
    }

    /// A whole number that is `valid`; `expected` says which are.
    pub fn whole(&mut self, name: &str, valid: impl Fn(i64) -> bool, expected: &str) -> Option<i64> {
        let value = self.value(name)?;
        let Value::Number(text) = value else {
            self.note(name, format!("is {}: expected {expected}", value.describe()), "invalid_type");
            return None;
        };
        let number = parse_scaled(text, 0).ok().filter(|number| valid(*number));
        if number.is_none() {
            self.note(name, format!("is {text}: expected {expected}"), "invalid_number");
        }
        number
    }

    /// An amount that fits some currency, as it was written: how many digits it may have, only its currency can tell.
    pub fn amount_text(&mut self, name: &str) -> Option<String> {
        /// No currency has more.
        const DIGITS_MAX: u32 = 4;
        let value = self.value(name)?;
        let Value::Number(text) = value else {
            self.note(name, format!("is {}: expected a number", value.describe()), "invalid_type");
            return None;
        };
        match parse_scaled(text, DIGITS_MAX) {
            Ok(number) if number < 0 => self.note_amount(name, text, NumberError::Negative),
            Ok(number) if number > AMOUNT_MAJOR_MAX * 10_i64.pow(DIGITS_MAX) => {
                self.note_amount(name, text, NumberError::TooLarge);
            }
            Ok(_) => return Some(text.clone()),
            Err(error) => self.note_amount(name, text, error),
        }
        None
    }

    /// An amount in minor units.
    pub fn amount(&mut self, name: &str, currency: Currency) -> Option<i64> {
        let text = self.amount_text(name)?;
        match currency.parse_amount(&text) {
            Ok(minor) => Some(minor),
            Err(error) => {
                self.problems.push(amount_problem(name, &text, error, Some(currency)));
                None
            }
        }
    }

    fn note_amount(&mut self, name: &str, text: &str, error: NumberError) {
        self.problems.push(amount_problem(name, text, error, None));
    }

    /// True or false.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(flag) => Some(*flag),
            other => {
                self.note(name, format!("is {}: expected true or false", other.describe()), "invalid_type");
                None
            }
        }
    }

    /// A day, from a date or an instant (rule 1).
    pub fn date(&mut self, name: &str, zone: Tz) -> Option<NaiveDate> {
        let text = self.text(name, TEXT_MAX)?;
        let date = parse_local_date(&text, zone);
        if date.is_none() {
            let message = format!("'{}' is not a date such as 2026-03-01 or 2026-03-01T00:00:00Z", value::short(&text));
            self.note(name, message, "invalid_date");
        }
        date
    }

    /// An instant; a plain date is its midnight in the tenant's zone.
    pub fn instant(&mut self, name: &str, zone: Tz) -> Option<DateTime<Utc>> {
        let text = self.text(name, TEXT_MAX)?;
        let instant = parse_local_instant(&text, zone);
        if instant.is_none() {
            let message = format!("'{}' is not an instant such as 2026-03-01T09:30:00Z", value::short(&text));
            self.note(name, message, "invalid_date");
        }
        instant
    }

    /// One value under two names that mean the same; both and different is wrong.
    pub fn aliased(&mut self, name: &str, alias: &str, max: usize) -> Option<String> {
        let (own, other) = (self.text_or_empty(name, max), self.text_or_empty(alias, max));
        if let (Some(own), Some(other)) = (&own, &other)
            && own != other
        {
            self.note(alias, format!("differs from {name}, which is the same thing"), "invalid_string");
        }
        own.or(other)
    }

    /// A note of several lines; `null` and an empty text are `Some(None)`: the note is to go.
    pub fn notes(&mut self, name: &str) -> Option<Option<String>> {
        match self.value(name)? {
            Value::Null => Some(None),
            Value::Text(text) if text.is_empty() => Some(None),
            value => self.checked_text(name, value, NOTES_MAX, true).map(Some),
        }
    }

    fn checked_text(&mut self, path: &str, value: &Value, max: usize, lines: bool) -> Option<String> {
        let Value::Text(text) = value else {
            self.note(path, format!("is {}: expected a text", value.describe()), "invalid_type");
            return None;
        };
        if text.is_empty() {
            self.note(path, "is empty", "too_small");
            return None;
        }
        if let Some((message, code)) = text_fault(text, max, lines) {
            self.note(path, message, code);
            return None;
        }
        Some(text.clone())
    }

    /// One word of an enum.
    pub fn word<T>(&mut self, name: &str, words: &[&str], parse: fn(&str) -> Option<T>) -> Option<T> {
        let value = self.value(name)?;
        let Value::Text(text) = value else {
            self.note(name, format!("is {}: expected one of {}", value.describe(), words.join(", ")), "invalid_type");
            return None;
        };
        let word = parse(text);
        if word.is_none() {
            self.note(name, format!("'{}' is none of {}", value::short(text), words.join(", ")), "invalid_enum");
        }
        word
    }

    /// A day of the month from 1 to 28; `15.0` and `1.5e1` are 15.
    pub fn billing_day(&mut self, name: &str) -> Option<i64> {
        const DAYS: RangeInclusive<i64> = 1..=28;
        let value = self.value(name)?;
        let day = match value {
            Value::Null => {
                self.note(name, "is null: expected a whole number from 1 to 28", "invalid_type");
                return None;
            }
            Value::Number(text) => parse_scaled(text, 0).ok().filter(|day| DAYS.contains(day)),
            _ => None,
        };
        if day.is_none() {
            let message = format!("is {}: expected a whole number from 1 to 28", value.describe());
            self.note(name, message, INVALID_BILLING_DAY);
        }
        day
    }

    /// A list of at least `min` rental ids, each once, with the place at which it was first named.
    pub fn rental_ids(&mut self, name: &str, min: usize) -> Option<Vec<(usize, String)>> {
        let value = self.value(name)?;
        let Value::List(list) = value else {
            self.note(name, format!("is {}: expected a list of rental ids", value.describe()), "invalid_type");
            return None;
        };
        if list.len() < min {
            self.note(name, format!("is empty: expected at least {min} rental id"), "too_small");
            return None;
        }
        if list.len() > RENTALS_MAX {
            self.note(name, format!("has {} entries: the most is {RENTALS_MAX}", list.len()), "too_big");
            return None;
        }
        let before = self.problems.len();
        let mut seen = HashSet::with_capacity(list.len());
        let mut ids = Vec::with_capacity(list.len());
        for (at, value) in list.iter().enumerate() {
            if let Value::Text(text) = value
                && seen.contains(text.as_str())
            {
                continue;
            }
            if let Some(id) = self.checked_text(&format!("{name}.{at}"), value, ID_MAX, false) {
                if let Value::Text(text) = value {
                    seen.insert(text.as_str());
                }
                ids.push((at, id));
            }
        }
        (self.problems.len() == before).then_some(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(json: &str, read: impl FnOnce(&mut Reader<'_>)) -> Vec<String> {
        let object = parse_object(json.as_bytes()).unwrap();
        let mut reader = Reader::new(&object);
        read(&mut reader);
        reader.problems.iter().map(|p| format!("{}: {} ({})", p.path, p.message, p.code)).collect()
    }

    #[test]
    fn a_body_is_one_json_object_without_tricks() {
        let deep = |n: usize| format!("{{\"a\": {}{}}}", "[".repeat(n), "]".repeat(n));
        for (body, message) in [
            (b"".as_slice(), "is empty: expected a JSON object"),
            (b" \n", "is empty: expected a JSON object"),
            (b"[]", "is a list: expected a JSON object"),
            (b"null", "is null: expected a JSON object"),
            (b"5", "is 5: expected a JSON object"),
            (b"{\"a\": \xff}", "is not UTF-8 from byte 6 on"),
            (b"{\"a\": 1, \"a\": 2}", "has the key a twice"),
            (b"{\"a\": [{\"b\": 1, \"b\": 1}]}", "has the key a.0.b twice"),
            (deep(64).as_bytes(), "is nested deeper than 64 levels"),
        ] {
            assert_eq!(parse_object(body).unwrap_err().message, message);
        }
        assert!(parse_object(deep(63).as_bytes()).is_ok());
        for broken in ["{", "{} {}", r#"{"a": "\ud800"}"#, r#"{"a": NaN}"#, "{\"a\": \"\0\"}", "{'a': 1}", &deep(500)] {
            let problem = parse_object(broken.as_bytes()).unwrap_err();
            assert!(problem.message.starts_with("is not JSON: ") && problem.code == "invalid_json", "{problem:?}");
        }
    }

    #[test]
    fn a_billing_day_is_a_whole_number_in_any_form() {
        for good in ["15", "15.0", "1.5e1", "150e-1"] {
            let object = parse_object(format!("{{\"day\": {good}}}").as_bytes()).unwrap();
            assert_eq!(Reader::new(&object).billing_day("day"), Some(15), "{good}");
        }
        for bad in ["0", "29", "15.5", "\"15\"", "true", "[15]", "{}", "1e400", "-1", "1e-400"] {
            let found = problems(&format!("{{\"day\": {bad}}}"), |r| {
                r.billing_day("day");
            });
            assert!(found.len() == 1 && found[0].ends_with("(invalid_billing_day)"), "{bad}: {found:?}");
        }
    }

    #[test]
    fn every_entry_of_a_list_is_looked_at_and_repeated_ones_are_folded() {
        let object = parse_object(br#"{"ids": ["b", "a", "b"]}"#).unwrap();
        assert_eq!(Reader::new(&object).rental_ids("ids", 1), Some(vec![(0, "b".into()), (1, "a".into())]));
        let found = problems(r#"{"ids": ["a", 5, "", "\u0000", null]}"#, |r| {
            assert_eq!(r.rental_ids("ids", 1), None);
        });
        assert_eq!(
            found,
            [
                "ids.1: is 5: expected a text (invalid_type)",
                "ids.2: is empty (too_small)",
                "ids.3: holds the control character U+0000 (invalid_string)",
                "ids.4: is null: expected a text (invalid_type)",
            ]
        );
    }

    #[test]
    fn null_removes_a_note_and_is_wrong_elsewhere() {
        let object = parse_object(br#"{"a": null, "b": "", "c": "x\n", "d": null}"#).unwrap();
        let mut reader = Reader::new(&object);
        assert_eq!((reader.notes("a"), reader.notes("b")), (Some(None), Some(None)));
        assert_eq!((reader.notes("c"), reader.notes("e")), (Some(Some("x\n".into())), None));
        assert_eq!(reader.text("d", 5), None);
        assert_eq!(reader.problems, [Problem::new("d", "is null: expected a text", "invalid_type")]);
    }
}
