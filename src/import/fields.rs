//! The fields of one record, read into typed values; whatever is wrong is noted by field and reading goes on.
//!
//! A field that is wrong or missing gives an empty value: the record is thrown away then, but all its faults are known.

use std::ops::RangeInclusive;

use chrono::NaiveDate;
use chrono_tz::Tz;

use crate::domain::Currency;
use crate::domain::calendar::{BillingPeriod, parse_local_date, parse_local_instant};
use crate::domain::money::{AMOUNT_MAJOR_MAX, NumberError, parse_scaled};
use crate::input::value::{Object, Value, get, meant, short};
use crate::input::{ADDRESS_PARTS, EMAIL_MAX, ID_MAX, NOTES_MAX, TEXT_MAX, is_email, text_fault};
use crate::mail::check_address;

/// Most recipients, or copies, of an invoice.
const ADDRESSES_MAX: usize = 20;

/// One fault of a record: its field, and what is wrong and would be right.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub field: String,
    pub message: String,
}

/// One record's fields, with the faults found so far.
pub(super) struct Fields<'a> {
    object: &'a Object,
    /// Stands before the name of each field in complaints: `lineItems.2.`.
    prefix: String,
    pub faults: Vec<Fault>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(object: &'a Object, prefix: String) -> Self {
        Self { object, prefix, faults: Vec::new() }
    }

    pub(super) fn fault(&mut self, field: &str, message: impl Into<String>) {
        self.faults.push(Fault { field: format!("{}{field}", self.prefix), message: message.into() });
    }

    /// The value at a path such as `tax.mode`; null and an empty text are as good as absent.
    pub(super) fn value(&self, path: &str) -> Option<&'a Value> {
        match self.raw(path)? {
            Value::Null => None,
            Value::Text(text) if text.is_empty() => None,
            value => Some(value),
        }
    }

    /// The value at a path as it is, also null.
    pub(super) fn raw(&self, path: &str) -> Option<&'a Value> {
        let mut steps = path.split('.');
        let first = steps.next().and_then(|name| get(self.object, name))?;
        steps.try_fold(first, |value, name| match value {
            Value::Object(object) => get(object, name),
            _ => None,
        })
    }

    // ------------------------------------------------------------------------------------------------------------ texts

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.bounded_text(name, TEXT_MAX, false)
    }

    pub(super) fn id(&mut self, name: &str) -> Option<String> {
        self.bounded_text(name, ID_MAX, false)
    }

    pub(super) fn notes(&mut self, name: &str) -> Option<String> {
        self.bounded_text(name, NOTES_MAX, true)
    }

    pub(super) fn required_id(&mut self, name: &str) -> String {
        let id = self.id(name);
        self.required(name, id)
    }

    pub(super) fn required_text(&mut self, name: &str) -> String {
        let text = self.text(name);
        self.required(name, text)
    }

    /// Notes a value that must be there and is not, unless something was wrong with it anyway.
    pub(super) fn required<T: Default>(&mut self, name: &str, value: Option<T>) -> T {
        if value.is_none() && self.value(name).is_none() {
            self.missing(name);
        }
        value.unwrap_or_default()
    }

    /// Notes that a field is missing, with the one that may be meant by it.
    pub(super) fn missing(&mut self, name: &str) {
        let meant = meant(self.object.iter().map(|(name, _)| name.as_str()), name);
        self.fault(name, format!("is missing{meant}"));
    }

    fn bounded_text(&mut self, name: &str, max: usize, lines: bool) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) | Value::Cell(text) => self.checked_text(name, text, max, lines),
            other => {
                self.fault(name, format!("is {}: expected a text", other.describe()));
                None
            }
        }
    }

    fn checked_text(&mut self, name: &str, text: &str, max: usize, lines: bool) -> Option<String> {
        if let Some((message, _)) = text_fault(text, max, lines) {
            self.fault(name, message);
            return None;
        }
        Some(text.to_owned())
    }

    /// An e-mail address of a plausible shape.
    pub(super) fn email(&mut self, name: &str) -> Option<String> {
        let text = self.bounded_text(name, EMAIL_MAX, false)?;
        if !is_email(&text) {
            self.fault(name, format!("'{}' is not an e-mail address", short(&text)));
            return None;
        }
        Some(text)
    }

    /// One word of an enum, as the stored text.
    pub(super) fn word(&mut self, name: &str, words: &'static [&'static str]) -> Option<String> {
        let text = self.text(name)?;
        if !words.contains(&text.as_str()) {
            self.fault(name, format!("'{}' is none of {}", short(&text), words.join(", ")));
            return None;
        }
        Some(text)
    }

    pub(super) fn time_zone(&mut self, name: &str) -> Option<Tz> {
        let text = self.text(name)?;
        let zone = text.parse().ok();
        if zone.is_none() {
            let message = format!("'{}' is not an IANA time zone such as Europe/Berlin", short(&text));
            self.fault(name, message);
        }
        zone
    }

    pub(super) fn currency(&mut self, name: &str) -> Option<Currency> {
        let text = self.text(name)?;
        let currency = Currency::from_code(&text);
        if currency.is_none() {
            self.fault(name, format!("'{}' is not an ISO 4217 currency such as EUR", short(&text)));
        }
        currency
    }

    // ---------------------------------------------------------------------------------------------------------- numbers

    /// An amount in minor units. A text must be a plain decimal, a JSON number may have any form.
    pub(super) fn amount(&mut self, name: &str, currency: Currency) -> Option<i64> {
        let text = self.number_text(name)?;
        match currency.parse_amount(text) {
            Ok(minor) => Some(minor),
            Err(error) => {
                let most = match error {
                    NumberError::TooLarge => format!(": the most is {AMOUNT_MAJOR_MAX}"),
                    _ => String::new(),
                };
                self.fault(name, format!("{} {error}{most} (in {currency})", short(text)));
                None
            }
        }
    }

    /// A percentage from 0 to 100 in parts per million.
    pub(super) fn percent(&mut self, name: &str) -> Option<i64> {
        let text = self.number_text(name)?;
        match parse_scaled(text, 4) {
            Ok(ppm) if (0..=1_000_000).contains(&ppm) => Some(ppm),
            Ok(_) | Err(NumberError::TooLarge) => {
                self.fault(name, format!("{} is not between 0 and 100", short(text)));
                None
            }
            Err(error) => {
                self.fault(name, format!("{} {error}", short(text)));
                None
            }
        }
    }

    fn number_text(&mut self, name: &str) -> Option<&'a str> {
        match self.value(name)? {
            Value::Number(text) => Some(text),
            Value::Text(text) | Value::Cell(text) if !text.contains(['e', 'E']) => Some(text),
            other => {
                self.fault(name, format!("{} is not a decimal number", other.describe()));
                None
            }
        }
    }

    /// A whole number; `15.0` and `1.5e1` are 15, a JSON text is none.
    pub(super) fn whole(&mut self, name: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let expected = || format!("a whole number from {} to {}", range.start(), range.end());
        self.whole_if(name, |number| range.contains(&number), expected)
    }

    /// A whole number that is `valid`; `expected` says which are.
    pub(super) fn whole_if(
        &mut self,
        name: &str,
        valid: impl Fn(i64) -> bool,
        expected: impl FnOnce() -> String,
    ) -> Option<i64> {
        let value = self.value(name)?;
        let number = match value {
            Value::Number(text) | Value::Cell(text) => parse_scaled(text, 0).ok(),
            _ => None,
        };
        let number = number.filter(|number| valid(*number));
        if number.is_none() {
            let hint = if matches!(value, Value::Text(_)) { ", not a text" } else { "" };
            self.fault(name, format!("is {}: expected {}{hint}", value.describe(), expected()));
        }
        number
    }

    // ------------------------------------------------------------------------------------------------------------ times

    /// A day, from a date or an instant (rule 1).
    pub(super) fn date(&mut self, name: &str, zone: Tz) -> Option<NaiveDate> {
        let text = self.text(name)?;
        let date = parse_local_date(&text, zone);
        if date.is_none() {
            self.fault(name, format!("'{}' is not a date such as 2026-03-01 or 2026-03-01T00:00:00Z", short(&text)));
        }
        date
    }

    /// An instant in microseconds UTC; a plain date is its midnight in the tenant's zone.
    pub(super) fn instant(&mut self, name: &str, zone: Tz) -> Option<i64> {
        let text = self.text(name)?;
        let instant = parse_local_instant(&text, zone);
        if instant.is_none() {
            self.fault(name, format!("'{}' is not an instant such as 2026-03-01T09:30:00Z", short(&text)));
        }
        instant.map(|instant| instant.timestamp_micros())
    }

    /// When a record was made or changed; the public API leaves its type open, so anything but text is left out.
    pub(super) fn record_time(&mut self, name: &str, zone: Tz) -> Option<i64> {
        match self.value(name)? {
            Value::Text(_) | Value::Cell(_) => self.instant(name, zone),
            _ => None,
        }
    }

    pub(super) fn period(&mut self, name: &str) -> Option<BillingPeriod> {
        let text = self.text(name)?;
        let period = BillingPeriod::parse(&text);
        if period.is_none() {
            self.fault(name, format!("'{}' is not a billing period such as 2026-03", short(&text)));
        }
        period
    }

    // ------------------------------------------------------------------------------------------------------------ parts

    /// Makes sure that what holds other fields is an object, if it is there: else they would be absent without a word.
    pub(super) fn object(&mut self, name: &str, shape: &str) -> Option<&'a Object> {
        match self.value(name)? {
            Value::Object(object) => Some(object),
            other => {
                self.fault(name, format!("is {}: expected an object {shape}", other.describe()));
                None
            }
        }
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(flag) => Some(*flag),
            other => {
                self.fault(name, format!("is {}: expected true or false", other.describe()));
                None
            }
        }
    }

    /// A list of ids, each once, in order; a CSV cell separates them by `;`. `None` if it is absent or null.
    pub(super) fn ids(&mut self, name: &str) -> Option<Vec<String>> {
        let mut ids = Vec::new();
        for (at, text) in self.list(name, "id")?.into_iter().enumerate() {
            ids.extend(self.checked_text(&format!("{name}.{at}"), text, ID_MAX, false));
        }
        ids.sort_unstable();
        ids.dedup();
        Some(ids)
    }

    /// A list of addresses that mails go to, as JSON in its own order. `None` if it is absent or null.
    pub(super) fn addresses(&mut self, name: &str) -> Option<String> {
        let list = self.list(name, "e-mail address")?;
        if list.len() > ADDRESSES_MAX {
            self.fault(name, format!("has {} addresses: the most is {ADDRESSES_MAX}", list.len()));
        }
        for (at, address) in list.iter().enumerate() {
            if let Err(reason) = check_address(address) {
                self.fault(&format!("{name}.{at}"), format!("'{}' {reason}", short(address)));
            }
        }
        Some(serde_json::Value::from(list).to_string())
    }

    /// The texts of a list; a CSV cell separates them by `;`.
    fn list(&mut self, name: &str, item: &str) -> Option<Vec<&'a str>> {
        match self.value(name)? {
            Value::Cell(text) => Some(text.split(';').map(str::trim).filter(|text| !text.is_empty()).collect()),
            Value::List(list) => {
                let mut texts = Vec::with_capacity(list.len());
                for (at, value) in list.iter().enumerate() {
                    match value {
                        Value::Text(text) if !text.is_empty() => texts.push(text.as_str()),
                        other => {
                            self.fault(&format!("{name}.{at}"), format!("is {}: expected an {item}", other.describe()));
                        }
                    }
                }
                Some(texts)
            }
            other => {
                self.fault(name, format!("is {}: expected a list, each an {item}", other.describe()));
                None
            }
        }
    }

    /// An address, as canonical JSON; a plain text stays one.
    pub(super) fn address(&mut self, name: &str) -> Option<String> {
        match self.value(name)? {
            // It would be read back as the object, and not as the text that it was.
            Value::Text(text) | Value::Cell(text) if is_json_object(text) => {
                self.fault(name, "is an object inside a text: write the object itself, or an address in words");
                None
            }
            Value::Text(text) | Value::Cell(text) => self.checked_text(name, text, NOTES_MAX, true),
            Value::Object(object) => {
                let mut inner = Fields::new(object, format!("{}{name}.", self.prefix));
                let parts: serde_json::Map<String, serde_json::Value> = ADDRESS_PARTS
                    .iter()
                    .filter_map(|part| Some(((*part).to_owned(), inner.text(part)?.into())))
                    .collect();
                self.faults.append(&mut inner.faults);
                (!parts.is_empty()).then(|| serde_json::Value::from(parts).to_string())
            }
            other => {
                self.fault(name, format!("is {}: expected an address, that is an object or a text", other.describe()));
                None
            }
        }
    }
}

fn is_json_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<serde_json::Map<_, _>>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object {
        match serde_json::from_str(json).unwrap() {
            Value::Object(object) => object,
            other => panic!("{other:?}"),
        }
    }

    fn fault(json: &str, read: impl FnOnce(&mut Fields<'_>)) -> String {
        let object = object(json);
        let mut fields = Fields::new(&object, String::new());
        read(&mut fields);
        fields.faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_billing_day_is_a_whole_number_in_any_json_form_but_no_text() {
        for good in ["15", "15.0", "1.5e1"] {
            let object = object(&format!(r#"{{"day": {good}}}"#));
            assert_eq!(Fields::new(&object, String::new()).whole("day", 1..=28), Some(15), "{good}");
        }
        for bad in ["0", "29", "15.5", "\"15\"", "true", "[15]", "1e400", "-1"] {
            let fault = fault(&format!(r#"{{"day": {bad}}}"#), |f| {
                f.whole("day", 1..=28);
            });
            assert!(fault.contains("expected a whole number from 1 to 28"), "{bad}: {fault}");
        }
    }

    #[test]
    fn texts_are_bounded_and_hold_no_control_characters() {
        let long = "x".repeat(129);
        let json =
            format!(r#"{{"id": "{long}", "mail": "a b@c", "tab": "a\tb", "notes": "a\tb\n", "nul": "a\u0000"}}"#);
        let faults = fault(&json, |f| {
            f.id("id");
            f.email("mail");
            f.text("tab");
            f.notes("notes");
            f.notes("nul");
        });
        assert_eq!(
            faults,
            "id: is longer than 128 characters\nmail: 'a b@c' is not an e-mail address\n\
             tab: holds the control character U+0009\nnul: holds the control character U+0000"
        );
    }

    #[test]
    fn an_address_is_an_object_or_words_but_no_object_inside_a_text() {
        let read = |json: &str| Fields::new(&object(json), String::new()).address("a");
        assert_eq!(read(r#"{"a": {"city": "Bonn", "x": "y"}}"#).as_deref(), Some(r#"{"city":"Bonn"}"#));
        assert_eq!(read(r#"{"a": "{Suite 5}\nRoad 1"}"#).as_deref(), Some("{Suite 5}\nRoad 1"));
        let fault = fault(r#"{"a": " {\"city\": \"Bonn\"}"}"#, |f| {
            f.address("a");
        });
        assert_eq!(fault, "a: is an object inside a text: write the object itself, or an address in words");
    }

    #[test]
    fn a_plain_day_as_an_instant_is_its_midnight_in_the_zone() {
        let read = |text, zone| parse_local_instant(text, zone).map(|instant| instant.to_rfc3339());
        let berlin = chrono_tz::Europe::Berlin;
        assert_eq!(read("2026-03-10", berlin).as_deref(), Some("2026-03-09T23:00:00+00:00"));
        assert_eq!(read("2026-03-10T10:00:00.5+02:00", berlin).as_deref(), Some("2026-03-10T08:00:00.500+00:00"));
        assert_eq!(read("2026-03-10T10:00:00", berlin).as_deref(), Some("2026-03-10T10:00:00+00:00"));
        assert_eq!(read("yesterday", berlin), None);
    }
}
