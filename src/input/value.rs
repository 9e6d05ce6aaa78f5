//! A value as a file holds it: JSON with numbers kept as text and repeated keys kept for the complaint, or a CSV cell.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// The fields of one object in file order; a repeated key is there twice.
pub type Object = Vec<(String, Value)>;

/// Numbers stay text, so that an amount never passes through a float.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    /// A CSV cell: a text, a number or a list, as its field wants.
    Cell(String),
    List(Vec<Value>),
    Object(Object),
}

/// The key under which serde_json hands out a number whose text it kept, any but a whole one that fits 64 bits; it has no
/// public name.
pub const NUMBER: &str = "$serde_json::private::Number";

impl Value {
    /// What it is, in words for a complaint.
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(text) => text.clone(),
            Self::Text(text) | Self::Cell(text) => format!("'{}'", short(text)),
            Self::List(_) => "a list".to_owned(),
            Self::Object(_) => "an object".to_owned(),
        }
    }
}

impl Value {
    /// How many objects and lists stand in each other at most, itself included.
    pub fn depth(&self) -> usize {
        match self {
            Self::List(list) => 1 + list.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(object) => 1 + object.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// A text cut to what fits into a message, without characters that would break its line.
pub fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// What to say of a field that is missing, if one of the names that are there looks like it; else nothing.
pub fn meant<'a>(names: impl Iterator<Item = &'a str>, wanted: &str) -> String {
    near_miss(names, wanted)
        .map_or_else(String::new, |name| format!(" (there is '{}': did you mean {wanted}?)", short(name)))
}

/// The known name most like another; empty if none is known.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    let plain = |name: &str| name.chars().take(100).flat_map(char::to_lowercase).collect::<String>();
    known.min_by_key(|known| strsim::damerau_levenshtein(&plain(known), &plain(name))).unwrap_or_default()
}

/// The name most like `wanted`: but for case and separators the same, or one or two letters off in a long one.
fn near_miss<'a>(names: impl Iterator<Item = &'a str>, wanted: &str) -> Option<&'a str> {
    /// A name of the public API that is like another one.
    const NO_MISS: &str = "rentalIds";
    /// Comparing takes the square of the length.
    const LENGTH_MAX: usize = 40;

    let plain = |name: &str| {
        let letters = name.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect::<String>()
    };
    let plain_wanted = plain(wanted);
    names
        .filter(|name| *name != wanted && *name != NO_MISS && name.len() <= LENGTH_MAX)
        .map(|name| (strsim::damerau_levenshtein(&plain(name), &plain_wanted), name))
        .filter(|(far, _)| *far <= plain_wanted.len() / 5)
        .min_by_key(|(far, _)| *far)
        .map(|(_, name)| name)
}

/// The value of a key; of a repeated one the first.
pub fn get<'a>(object: &'a Object, key: &str) -> Option<&'a Value> {
    object.iter().find(|(name, _)| name == key).map(|(_, value)| value)
}

/// A key that some object in here has twice, with the path to it.
pub fn repeated_key(object: &Object) -> Option<String> {
    repeated_in_one(object)
        .map(str::to_owned)
        .or_else(|| object.iter().find_map(|(key, value)| repeated_below(value).map(|below| format!("{key}.{below}"))))
}

fn repeated_below(value: &Value) -> Option<String> {
    match value {
        Value::Object(object) => repeated_key(object),
        Value::List(list) => {
            list.iter().enumerate().find_map(|(at, value)| repeated_below(value).map(|below| format!("{at}.{below}")))
        }
        _ => None,
    }
}

fn repeated_in_one(object: &Object) -> Option<&str> {
    // Comparing each with each is quickest for the objects that there are; a huge one must not cost its square.
    const SMALL: usize = 64;
    if object.len() <= SMALL {
        let repeated = |at: usize| object[..at].iter().any(|(key, _)| *key == object[at].0);
        return (1..object.len()).find(|at| repeated(*at)).map(|at| object[at].0.as_str());
    }
    let mut keys: Vec<&str> = object.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = seq.next_element()? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.is_empty() && key == NUMBER {
                return Ok(Value::Number(map.next_value()?));
            }
            object.push((key, map.next_value()?));
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_nearly_the_wanted_one_is_found_and_no_other() {
        for (name, wanted) in [
            ("monthlyamount", "monthlyAmount"),
            ("monthly_amount", "monthlyAmount"),
            ("Monthly Amount", "monthlyAmount"),
            ("montlyAmout", "monthlyAmount"),
            ("billing_day", "billingDay"),
            ("Name", "name"),
        ] {
            assert_eq!(near_miss(["sku", name].into_iter(), wanted), Some(name));
        }
        for (name, wanted) in [
            ("rentalIds", "rentalId"),
            ("endDate", "startDate"),
            ("nextBillingDate", "billingDay"),
            ("customerName", "customerId"),
            ("total", "subtotal"),
            ("sku", "name"),
            ("name", "name"),
        ] {
            assert_eq!(near_miss([name].into_iter(), wanted), None);
        }
    }

    #[test]
    fn numbers_keep_their_text_and_repeated_keys_are_found_at_any_depth() {
        let value: Value = serde_json::from_str(r#"{"a": 1.50e2, "b": [{"c": 1, "c": 2}], "d": "1.50e2"}"#).unwrap();
        let Value::Object(object) = value else { panic!("an object") };
        assert_eq!(get(&object, "a"), Some(&Value::Number("1.50e+2".into())));
        assert_eq!(get(&object, "d"), Some(&Value::Text("1.50e2".into())));
        assert_eq!(repeated_key(&object).as_deref(), Some("b.0.c"));
        let many = (0..100).map(|n| (format!("k{}", n % 99), Value::Null)).collect();
        assert_eq!(repeated_key(&many).as_deref(), Some("k0"));
    }
}
