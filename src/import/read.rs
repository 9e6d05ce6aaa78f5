//! From files to records, as a stream: JSON in its forms, or CSV, told apart by the first character.
//!
//! serde_json takes its input byte by byte, so that the line of the [`Source`] below it is always the line that is being
//! parsed: each record knows where it began, also in pretty-printed files.

use std::cell::Cell;
use std::fmt;
use std::io::Read;

use csv::StringRecord;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Kind;
use super::source::{LineByLine, Quotes, Source};
use crate::input::value::{NUMBER, Object, Value, get, meant, short};

/// What a file holds, one after the other.
#[derive(Debug, PartialEq)]
pub(super) enum Piece {
    Record {
        line: u64,
        /// The kind that the envelope or the header tells; else the fields do.
        kind: Option<Kind>,
        fields: Object,
    },
    /// Something stands where a record should; the rest of the file can be read all the same.
    Bad { line: u64, field: String, message: String },
}

/// Why a file cannot be read to its end.
#[derive(Debug, PartialEq)]
pub(super) struct Broken {
    pub line: u64,
    pub message: String,
}

/// Takes the pieces; `false` ends the reading early.
pub(super) trait Sink: FnMut(Piece) -> bool {}
impl<F: FnMut(Piece) -> bool> Sink for F {}

/// Reads a whole file and hands its pieces on in order; never holds more than one record.
pub(super) fn read(file: Box<dyn Read + '_>, mut sink: impl Sink) -> Result<(), Broken> {
    let line = Cell::new(1);
    let mut source = Source::new(file, &line);
    let result = match source.next_visible() {
        Ok(None) => Ok(()),
        Ok(Some(b'[' | b'{')) => read_json(&mut source, &line, &mut sink),
        Ok(Some(_)) => read_csv(&mut source, &line, &mut sink),
        Err(error) => Err(Broken { line: line.get(), message: error.to_string() }),
    };
    // The source knows best why it could not go on.
    match (result, source.failure()) {
        (Err(_), Some(message)) => Err(Broken { line: line.get(), message }),
        (result, _) => result,
    }
}

// ---------------------------------------------------------------------------------------------------------------- JSON

/// Reads any number of JSON values one after the other: arrays, envelopes, and records, also one a line.
fn read_json(source: &mut Source<'_>, line: &Cell<u64>, sink: &mut impl Sink) -> Result<(), Broken> {
    let mut stopped = false;
    loop {
        let broken = |message: String| Broken { line: line.get(), message };
        match source.next_visible().map_err(|e| broken(e.to_string()))? {
            None => return Ok(()),
            Some(b'[' | b'{') => {}
            Some(_) => return Err(broken("is not JSON: expected a record, '{', or a list of them, '['".to_owned())),
        }
        let mut json = serde_json::Deserializer::from_reader(&mut *source);
        let top = Top(Reading { line, sink, stopped: &mut stopped });
        match json.deserialize_any(top) {
            Ok(()) => {}
            Err(_) if stopped => return Ok(()),
            Err(error) => return Err(broken(json_message(&error))),
        }
    }
}

/// The parser's message without its own line, which counts from the last value.
fn json_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    if error.is_data() {
        // What the visitors below say of well-formed JSON.
        message.to_owned()
    } else if error.is_eof() {
        format!("the file ends too early: {message}")
    } else {
        format!("is not well-formed JSON: {message}")
    }
}

/// What all visitors need: where the reading stands, and where records go.
struct Reading<'a, S> {
    line: &'a Cell<u64>,
    sink: &'a mut S,
    stopped: &'a mut bool,
}

impl<S: Sink> Reading<'_, S> {
    fn reborrow(&mut self) -> Reading<'_, S> {
        Reading { line: self.line, sink: self.sink, stopped: self.stopped }
    }

    fn hand_on<E: de::Error>(&mut self, piece: Piece) -> Result<(), E> {
        if (self.sink)(piece) {
            return Ok(());
        }
        *self.stopped = true;
        Err(E::custom("stopped"))
    }
}

/// A value at the top: a list of records, an envelope, or one record.
struct Top<'a, S>(Reading<'a, S>);

impl<'de, S: Sink> Visitor<'de> for Top<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("records")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Element { reading: self.0.reborrow(), kind: None })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let line = self.0.line.get();
        let mut fields = Object::new();
        let mut is_envelope = false;
        while let Some(key) = map.next_key::<String>()? {
            match Kind::of_envelope(&key) {
                // A record that tells its kind may have a field of that name: it is no envelope.
                Some(kind) if Kind::told(&fields).is_none() => {
                    is_envelope = true;
                    map.next_value_seed(List { reading: self.0.reborrow(), kind })?;
                }
                _ => fields.push((key, map.next_value()?)),
            }
        }
        if is_envelope { Ok(()) } else { self.0.hand_on(Piece::Record { line, kind: None, fields }) }
    }
}

/// One list of an envelope.
struct List<'a, S> {
    reading: Reading<'a, S>,
    kind: Kind,
}

impl<S> List<'_, S> {
    fn no_list<E: de::Error>(&self, value: &Value) -> E {
        let (key, plural) = (self.kind.envelope(), self.kind.plural());
        E::custom(format!("{key}: is {}: expected a list of {plural}", value.describe()))
    }
}

impl<'de, S: Sink> DeserializeSeed<'de> for List<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for List<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", self.kind.plural())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        Err(self.no_list(&Value::Bool(value)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<(), E> {
        Err(self.no_list(&Value::Number(number.to_string())))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<(), E> {
        Err(self.no_list(&Value::Number(number.to_string())))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        Err(self.no_list(&Value::Text(text.to_owned())))
    }

    /// An object, or a number that serde_json hands out as one.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let value = match map.next_key::<String>()? {
            Some(key) if key == NUMBER => Value::Number(map.next_value()?),
            _ => Value::Object(Object::new()),
        };
        Err(self.no_list(&value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let kind = Some(self.kind);
        while seq.next_element_seed(Element { reading: self.reading.reborrow(), kind })?.is_some() {}
        Ok(())
    }
}

/// One record of a list.
struct Element<'a, S> {
    reading: Reading<'a, S>,
    kind: Option<Kind>,
}

impl<'de, S: Sink> DeserializeSeed<'de> for Element<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        let line = self.reading.line.get();
        let piece = match <Value as de::Deserialize>::deserialize(deserializer)? {
            Value::Object(fields) => Piece::Record { line, kind: self.kind, fields },
            other => Piece::Bad {
                line,
                field: String::new(),
                message: format!("is {}: expected a record, that is an object", other.describe()),
            },
        };
        self.reading.hand_on(piece)
    }
}

// ----------------------------------------------------------------------------------------------------------------- CSV

/// Reads rows by the names in the first one; the header tells the kind of them all, so that an empty cell cannot change it.
fn read_csv(source: &mut Source<'_>, line: &Cell<u64>, sink: &mut impl Sink) -> Result<(), Broken> {
    let header_line = line.get();
    let last_line = Cell::new(header_line);
    let unclosed = Cell::new(None);
    let by_line = LineByLine { source, line: &last_line, quotes: Quotes::default(), unclosed: &unclosed };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(by_line);
    let mut row = StringRecord::new();
    let broken = |error: csv::Error| Broken { line: line.get(), message: format!("cannot be read as CSV: {error}") };
    let check_quotes = || match unclosed.get() {
        None => Ok(()),
        Some(line) => Err(Broken { line, message: "a quote opens here that is closed nowhere".to_owned() }),
    };
    if !reader.read_record(&mut row).map_err(broken)? {
        return Ok(());
    }
    check_quotes()?;
    // With a bad header no row can be read, and who names their records is not to blame.
    let header = Header::read(&row).map_err(|message| Broken { line: header_line, message })?;
    loop {
        if !reader.read_record(&mut row).map_err(broken)? {
            return Ok(());
        }
        check_quotes()?;
        // The parser's own count is off where there are blank lines.
        let line = last_line.get() - row.iter().map(|cell| cell.matches('\n').count() as u64).sum::<u64>();
        if row.iter().all(str::is_empty) {
            continue;
        }
        let piece = if row.len() == header.columns.len() {
            Piece::Record { line, kind: Some(header.kind), fields: header.fields(&row) }
        } else {
            let message = format!(
                "has {} cells where the header has {}: quote a cell that holds commas",
                row.len(),
                header.columns.len()
            );
            Piece::Bad { line, field: String::new(), message }
        };
        if !sink(piece) {
            return Ok(());
        }
    }
}

/// What other programs put between cells, with its name.
const SEPARATORS: [(char, &str); 3] = [(';', "';'"), ('\t', "tabs"), ('|', "'|'")];

/// The first row of a CSV file: which fields the cells are, and what kind of record the rows.
struct Header {
    /// The path of each column: `tax.mode` has two steps.
    columns: Vec<Vec<String>>,
    kind: Kind,
}

impl Header {
    fn read(row: &StringRecord) -> Result<Self, String> {
        let names: Vec<&str> = row.iter().map(str::trim).collect();
        // A name stands for a value here: the column is there, whatever its cells hold.
        let named: Object = names.iter().map(|name| ((*name).to_owned(), Value::Cell((*name).to_owned()))).collect();
        let Some(kind) = Kind::of_fields(&named) else {
            let header = names.join(",");
            let shown = short(&header);
            if let Some((_, other)) = SEPARATORS.into_iter().find(|(c, _)| header.matches(*c).count() >= names.len()) {
                return Err(format!("the header is '{shown}': cells are separated by commas, not by {other}"));
            }
            let meant = Kind::meant(&named);
            return Err(format!("the header '{shown}' tells no kind of record{meant}: {}", Kind::TOLD_BY));
        };
        let repeated = names.iter().enumerate().find(|(at, name)| !name.is_empty() && names[..*at].contains(name));
        if let Some((_, name)) = repeated {
            return Err(format!("the header has the column '{}' twice", short(name)));
        }
        let lacking = kind.needed().iter().filter(|needed| !names.contains(needed));
        let lacking: Vec<String> =
            lacking.map(|needed| format!("{needed}{}", meant(names.iter().copied(), needed))).collect();
        if !lacking.is_empty() {
            return Err(format!("the header lacks what a {} needs: {}", kind.singular(), lacking.join(", ")));
        }
        Ok(Self { columns: names.iter().map(|name| name.split('.').map(str::to_owned).collect()).collect(), kind })
    }

    fn fields(&self, row: &StringRecord) -> Object {
        let mut fields = Object::new();
        for (path, cell) in self.columns.iter().zip(row) {
            let value = match cell {
                "" => continue,
                "null" => Value::Null,
                "[]" => Value::List(Vec::new()),
                text => Value::Cell(text.to_owned()),
            };
            insert(&mut fields, path, value);
        }
        fields
    }
}

/// Puts a value at the end of a path, making the objects on the way.
fn insert(object: &mut Object, path: &[String], value: Value) {
    match path {
        [] => {}
        [name] => object.push((name.clone(), value)),
        [name, rest @ ..] => {
            let at = object.iter().position(|(key, value)| key == name && matches!(value, Value::Object(_)));
            let at = at.unwrap_or_else(|| {
                object.push((name.clone(), Value::Object(Object::new())));
                object.len() - 1
            });
            if let Value::Object(inner) = &mut object[at].1 {
                insert(inner, rest, value);
            }
        }
    }
}

impl Kind {
    /// How a kind is told, for the complaint about a record that tells none.
    pub(super) const TOLD_BY: &'static str = "paymentId makes it a payment, else billingDay a group, else monthlyAmount \
                                              a rental, else customerId a customer, else tenantId a tenant";

    /// The kind of the records in an envelope's list.
    fn of_envelope(key: &str) -> Option<Self> {
        match key {
            "tenants" => Some(Self::Tenant),
            "customers" => Some(Self::Customer),
            "rentals" => Some(Self::Rental),
            "billingGroups" => Some(Self::Group),
            "payments" => Some(Self::Payment),
            _ => None,
        }
    }

    /// The envelope's key, as in the public API.
    fn envelope(self) -> &'static str {
        match self {
            Self::Group => "billingGroups",
            other => other.plural(),
        }
    }

    /// The columns without which no row can be read; the tenant of other records may be told with the call.
    fn needed(self) -> &'static [&'static str] {
        match self {
            Self::Tenant => &["tenantId", "name", "currency", "timeZone"],
            Self::Customer => &["customerId"],
            Self::Rental => &["rentalId", "customerId", "monthlyAmount", "startDate"],
            Self::Group => &["billingGroupId", "customerId", "billingDay"],
            Self::Payment => &["paymentId", "customerId", "billingPeriod", "subtotal"],
        }
    }

    /// The fields that tell a kind, null ones too; the first counts.
    const TELLING: [(&'static str, Self); 5] = [
        ("paymentId", Self::Payment),
        ("billingDay", Self::Group),
        ("monthlyAmount", Self::Rental),
        ("customerId", Self::Customer),
        ("tenantId", Self::Tenant),
    ];

    /// The kind that a record's fields tell by the law.
    fn told(fields: &Object) -> Option<Self> {
        Self::TELLING.into_iter().find(|(name, _)| get(fields, name).is_some()).map(|(_, kind)| kind)
    }

    /// The kind that a record is read as. What names a rental, a group or a charge is no customer and no tenant, but lacks the
    /// field that tells what it is: it must not replace the customer whom it names.
    pub(super) fn of_fields(fields: &Object) -> Option<Self> {
        let lacking = [
            ("billingPeriod", Self::Payment),
            ("subtotal", Self::Payment),
            ("rentalId", Self::Rental),
            ("billingGroupId", Self::Group),
        ];
        let has = |name| match get(fields, name) {
            None | Some(Value::Null) => false,
            Some(Value::Text(text)) => !text.is_empty(),
            Some(_) => true,
        };
        match Self::told(fields) {
            told @ (None | Some(Self::Customer | Self::Tenant)) => {
                lacking.into_iter().find(|(name, _)| has(name)).map(|(_, kind)| kind).or(told)
            }
            told => told,
        }
    }

    /// What may be meant by the fields of a record that tell no kind.
    pub(super) fn meant(fields: &Object) -> String {
        let names = || fields.iter().map(|(name, _)| name.as_str());
        let mut all = Self::TELLING.into_iter().map(|(wanted, _)| meant(names(), wanted));
        all.find(|meant| !meant.is_empty()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> (Vec<Piece>, Result<(), Broken>) {
        let mut pieces = Vec::new();
        let result = read(Box::new(text.as_bytes()), |piece| {
            pieces.push(piece);
            true
        });
        (pieces, result)
    }

    /// The line and the envelope's kind of each record.
    fn places(text: &str) -> Vec<(u64, Option<Kind>)> {
        let (pieces, result) = pieces(text);
        assert_eq!(result, Ok(()), "{text}");
        pieces
            .into_iter()
            .map(|piece| match piece {
                Piece::Record { line, kind, .. } => (line, kind),
                Piece::Bad { line, message, .. } => panic!("{line}: {message}"),
            })
            .collect()
    }

    #[test]
    fn a_record_is_on_the_line_where_it_begins() {
        let lines = |text| places(text).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
        assert_eq!(lines("[{\"a\":1},{\"a\":2}]"), [1, 1]);
        assert_eq!(lines("[\n  {\n    \"a\": 1\n  },\n\n  {\"a\": 2}\n]\n"), [2, 6]);
        assert_eq!(lines("\u{FEFF}\r\n\r\n{\"a\":1}\r\n{\"a\":2}\r\n\r\n{\"a\":\n3}\r\n"), [3, 4, 6]);
        assert_eq!(lines("{\"a\":1}{\"a\":2}"), [1, 1]);
        assert_eq!(lines("a,customerId\n1,T\n\n\"two \"\"\nlines\",T\n3,T\n"), [2, 4, 6]);
        assert_eq!(lines("\r\n\r\na,customerId\r\n1,T\r\n2,T\r\n\r\n3,\"T\""), [4, 5, 7]);
        assert_eq!(lines("a,customerId\n5\" wide,T\n\"\",T\n\"a\"b\",T\n"), [2, 3, 4]);
    }

    #[test]
    fn an_envelope_tells_the_kind_of_several_lists_and_its_other_keys_are_left_out() {
        let text = r#"{"success": true, "rentals": [{"rentalId": "R"}],
                       "customers": [{"customerId": "C"}], "payments": null, "count": 2, "nextCursor": {"a": [1]}}"#;
        assert_eq!(places(text), [(1, Some(Kind::Rental)), (2, Some(Kind::Customer))]);
        assert_eq!(places(r#"{"customerId": "C", "payments": [{"paymentId": "P"}]}"#), [(1, None)]);
        assert_eq!(places(r#"{"rentals": [], "hasMore": false}"#), []);
    }

    #[test]
    fn a_record_that_lacks_the_field_which_tells_its_kind_is_no_customer() {
        let kind = |json: &str| match serde_json::from_str(json).unwrap() {
            Value::Object(fields) => Kind::of_fields(&fields),
            other => panic!("{other:?}"),
        };
        for (json, expected) in [
            (r#"{"rentalId": "R", "customerId": "C", "monthlyamount": 5}"#, Some(Kind::Rental)),
            (r#"{"rentalId": "R", "customerId": "C", "billingGroupId": "G"}"#, Some(Kind::Rental)),
            (r#"{"tenantId": "T", "rentalId": "R"}"#, Some(Kind::Rental)),
            (r#"{"customerId": "C", "billingGroupId": "G"}"#, Some(Kind::Group)),
            (r#"{"customerId": "C", "billingGroupId": "G", "billingPeriod": "2026-01"}"#, Some(Kind::Payment)),
            (r#"{"billingGroupId": "G", "monthlyAmount": 5}"#, Some(Kind::Rental)),
            (r#"{"billingGroupId": "G", "paymentId": "P", "rentalId": "R"}"#, Some(Kind::Payment)),
            (r#"{"customerId": "C", "rentalId": null, "billingGroupId": "", "rentalIds": []}"#, Some(Kind::Customer)),
            (r#"{"name": "x"}"#, None),
        ] {
            assert_eq!(kind(json), expected, "{json}");
        }
    }

    #[test]
    fn a_file_that_breaks_off_or_is_malformed_says_where() {
        for (text, line, message) in [
            ("[{\"a\":1},\n{\"a\":", 2, "ends too early"),
            ("{\"rentals\": [{\"a\":1}\n\n", 3, "ends too early"),
            ("[{\"a\":1}\n{\"a\":2}]", 2, "not well-formed"),
            ("{\"a\":1}\n{\"a\":2},\n{\"a\":3}", 2, "expected a record"),
            ("{\"a\":NaN}", 1, "not well-formed"),
            ("{\"rentals\": \"none\"}", 1, "rentals: is 'none': expected a list of rentals"),
            ("{\n\"rentals\": {\"x\": 1}}", 2, "rentals: is an object: expected a list of rentals"),
            ("{\"billingGroups\": 1.5}", 1, "billingGroups: is 1.5: expected a list of groups"),
            ("{\"payments\": 15}", 1, "payments: is 15: expected a list of payments"),
            ("customerId,company\nC1,A\n\nC2,\"B\nC3,C\nC4,D\n", 4, "a quote opens here"),
            ("customerId,\"company\nC1,A\n", 1, "a quote opens here"),
            ("customerId;company\nC1;A\n", 1, "cells are separated by commas, not by ';'"),
            ("customerId\tcompany\nC1\tA\n", 1, "cells are separated by commas, not by tabs"),
            ("customerid,company\nC1,A\n", 1, "(there is 'customerid': did you mean customerId?)"),
            (
                "rentalId,customerId,monthlyamount,startDate\n",
                1,
                "the header lacks what a rental needs: monthlyAmount (there is 'monthlyamount': did you mean monthlyAmount?)",
            ),
            ("billingGroupId,customerId\n", 1, "the header lacks what a group needs: billingDay"),
        ] {
            let broken = pieces(text).1.unwrap_err();
            assert_eq!(broken.line, line, "{text}: {}", broken.message);
            assert!(broken.message.contains(message), "{}", broken.message);
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
        assert!(pieces(&deep).1.unwrap_err().message.contains("recursion limit"));
    }

    #[test]
    fn csv_cells_become_nested_fields_lists_and_nulls() {
        let (pieces, _) = pieces(
            "tenantId,name,currency,timeZone,tax.mode,tax.rate,a,b,c\n\
             T,,,,inclusive,19,[],null,\n\nT,x\n,,,,,,,,\n",
        );
        let cell = |text: &str| Value::Cell(text.to_owned());
        let fields = vec![
            ("tenantId".to_owned(), cell("T")),
            ("tax".to_owned(), Value::Object(vec![("mode".into(), cell("inclusive")), ("rate".into(), cell("19"))])),
            ("a".to_owned(), Value::List(Vec::new())),
            ("b".to_owned(), Value::Null),
        ];
        assert_eq!(pieces[0], Piece::Record { line: 2, kind: Some(Kind::Tenant), fields });
        assert!(matches!(&pieces[1], Piece::Bad { line: 4, message, .. } if message.contains("2 cells")));
        assert_eq!(pieces.len(), 2);
    }
}
