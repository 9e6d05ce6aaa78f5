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
use super::source::{LineByLine, Source};
use super::value::{Object, Value, get, short};

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
    if error.is_eof() {
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
                Some(kind) if Kind::of_fields(&fields).is_none() => {
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
    let by_line = LineByLine { source, line: &last_line };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(by_line);
    let mut row = StringRecord::new();
    let broken = |error: csv::Error| Broken { line: line.get(), message: format!("cannot be read as CSV: {error}") };
    if !reader.read_record(&mut row).map_err(broken)? {
        return Ok(());
    }
    let header = match Header::read(&row) {
        Ok(header) => header,
        Err(message) => {
            sink(Piece::Bad { line: header_line, field: String::new(), message });
            return Ok(());
        }
    };
    loop {
        if !reader.read_record(&mut row).map_err(broken)? {
            return Ok(());
        }
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

/// The first row of a CSV file: which fields the cells are, and what kind of record the rows.
struct Header {
    /// The path of each column: `tax.mode` has two steps.
    columns: Vec<Vec<String>>,
    kind: Kind,
}

impl Header {
    fn read(row: &StringRecord) -> Result<Self, String> {
        let names: Vec<&str> = row.iter().map(str::trim).collect();
        let names_only: Object = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
        let Some(kind) = Kind::of_fields(&names_only) else {
            let shown = short(&names.join(","));
            return Err(format!("the header '{shown}' tells no kind of record: {}", Kind::TOLD_BY));
        };
        let repeated = names.iter().enumerate().find(|(at, name)| !name.is_empty() && names[..*at].contains(name));
        if let Some((_, name)) = repeated {
            return Err(format!("the header has the column '{}' twice", short(name)));
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

    /// The kind that a record's fields tell, null ones too.
    pub(super) fn of_fields(fields: &Object) -> Option<Self> {
        let telling = [
            ("paymentId", Self::Payment),
            ("billingDay", Self::Group),
            ("monthlyAmount", Self::Rental),
            ("customerId", Self::Customer),
            ("tenantId", Self::Tenant),
        ];
        telling.into_iter().find(|(name, _)| get(fields, name).is_some()).map(|(_, kind)| kind)
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
        assert_eq!(lines("a,tenantId\n1,T\n\n\"two\nlines\",T\n3,T\n"), [2, 4, 6]);
        assert_eq!(lines("\r\n\r\na,tenantId\r\n1,T\r\n2,T\r\n\r\n3,T"), [4, 5, 7]);
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
    fn a_file_that_breaks_off_or_is_malformed_says_where() {
        for (text, line, message) in [
            ("[{\"a\":1},\n{\"a\":", 2, "ends too early"),
            ("{\"rentals\": [{\"a\":1}\n\n", 3, "ends too early"),
            ("[{\"a\":1}\n{\"a\":2}]", 2, "not well-formed"),
            ("{\"a\":1}\n{\"a\":2},\n{\"a\":3}", 2, "expected a record"),
            ("{\"a\":NaN}", 1, "not well-formed"),
            ("{\"rentals\": \"none\"}", 1, "a list of rentals"),
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
        let (pieces, _) = pieces("tenantId,tax.mode,tax.rate,a,b,c\nT,inclusive,19,[],null,\n\nT,x\n,,,,,\n");
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
