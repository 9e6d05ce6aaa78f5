//! Invoice numbers: a tenant's format, the series that it makes, and the numbers in it (rule 23).

use std::fmt;

/// A format such as `INV-{year}-{seq:06}`: exactly one `{seq}` with an optional zero-padded width, and any `{year}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberFormat(String);

impl NumberFormat {
    /// Checks a format; the error says what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut sequences = 0;
        for piece in pieces(text) {
            match piece {
                Piece::Text(text) if text.contains(['{', '}']) => return Err(format!("has a stray brace in '{text}'")),
                Piece::Text(_) | Piece::Field("year") => {}
                Piece::Field(field) if sequence_width(field).is_some() => sequences += 1,
                Piece::Field(field) => return Err(format!("knows {{year}}, {{seq}} and {{seq:06}}, not {{{field}}}")),
            }
        }
        if sequences != 1 {
            return Err("must hold {seq} (or {seq:06}) exactly once".to_owned());
        }
        if text.chars().count() > 60 || text.chars().any(char::is_control) {
            return Err("must be at most 60 printable characters".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The series of invoices issued in `year`: the format with the year filled in, so that it restarts if it names one.
    pub fn series(&self, year: i32) -> String {
        self.0.replace("{year}", &format!("{year:04}"))
    }

    /// The format as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NumberFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The invoice number that stands at `sequence` of a series made by [`NumberFormat::series`].
pub fn invoice_number(series: &str, sequence: i64) -> String {
    let mut number = String::with_capacity(series.len() + 8);
    for piece in pieces(series) {
        match piece {
            Piece::Field(field) => match sequence_width(field) {
                Some(width) => number.push_str(&format!("{sequence:0width$}")),
                None => number.push_str(field),
            },
            Piece::Text(text) => number.push_str(text),
        }
    }
    number
}

/// A series as people name it, `INV-2026-…`: what its numbers fill in is left open.
pub fn series_name(series: &str) -> String {
    pieces(series)
        .map(|piece| match piece {
            Piece::Field(field) if sequence_width(field).is_some() => "…",
            Piece::Field(text) | Piece::Text(text) => text,
        })
        .collect()
}

enum Piece<'a> {
    Text(&'a str),
    Field(&'a str),
}

fn pieces(format: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = format;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(field) = rest.strip_prefix('{')
            && let Some(end) = field.find('}')
        {
            rest = &field[end + 1..];
            return Some(Piece::Field(&field[..end]));
        }
        let end = rest.char_indices().skip(1).find(|(_, c)| *c == '{').map_or(rest.len(), |(at, _)| at);
        let (text, after) = rest.split_at(end);
        rest = after;
        Some(Piece::Text(text))
    })
}

/// The width in `seq` (1) or `seq:06` (6); `None` for any other field.
fn sequence_width(field: &str) -> Option<usize> {
    match field.strip_prefix("seq")? {
        "" => Some(1),
        width => {
            // A number may have a sign where Rust reads it.
            let digits = width.strip_prefix(":0").filter(|digits| !digits.starts_with('+'))?;
            digits.parse().ok().filter(|w| (1..=18).contains(w) && digits.len() <= 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_restarts_with_the_year_only_if_the_format_names_it() {
        let format = NumberFormat::parse("INV-{year}-{seq:06}").unwrap();
        assert_eq!(format.series(2026), "INV-2026-{seq:06}");
        assert_eq!(invoice_number(&format.series(2026), 42), "INV-2026-000042");
        assert_eq!(invoice_number(&format.series(2026), 12_345_678), "INV-2026-12345678");
        assert_eq!(series_name(&format.series(2026)), "INV-2026-…");
        let format = NumberFormat::parse("Ä{seq}/é").unwrap();
        assert_eq!(format.series(2026), format.series(2027));
        assert_eq!(invoice_number(&format.series(2026), 7), "Ä7/é");
    }

    #[test]
    fn a_format_that_could_not_number_anything_is_refused_with_what_would_be_right() {
        for bad in [
            "INV",
            "{seq}{seq}",
            "{month}-{seq}",
            "{seq:6}",
            "{seq:0}",
            "{seq:00}",
            "{seq:019}",
            "{seq:099}",
            "{seq:0006}",
            "{seq:0+5}",
            "{seq",
            "a}{seq}",
            "{seq}-{",
            "{}{seq}",
            "{seq}\t",
            "{seq}\u{85}",
            "",
        ] {
            assert!(NumberFormat::parse(bad).is_err(), "{bad}");
        }
        for (bad, said) in [
            ("a}{seq}", "has a stray brace in 'a}'"),
            ("{month}-{seq}", "knows {year}, {seq} and {seq:06}, not {month}"),
            ("INV", "must hold {seq} (or {seq:06}) exactly once"),
            ("{seq}\n", "must be at most 60 printable characters"),
        ] {
            assert_eq!(NumberFormat::parse(bad).unwrap_err(), said);
        }
    }

    #[test]
    fn a_format_may_be_60_characters_long_and_its_numbers_18_digits_wide() {
        let long = |n: usize| NumberFormat::parse(&format!("{}{{seq}}", "ü".repeat(n - 5)));
        assert!(long(60).is_ok() && long(61).is_err());
        let wide = NumberFormat::parse("{seq:018}").unwrap();
        assert_eq!((wide.as_str(), wide.to_string()), ("{seq:018}", "{seq:018}".to_owned()));
        assert_eq!(invoice_number(&wide.series(2026), 42), "000000000000000042");
        assert_eq!(invoice_number("{seq:01}", 42), "42");
    }

    #[test]
    fn a_year_is_filled_in_with_four_digits_wherever_the_format_names_it() {
        assert_eq!(NumberFormat::parse("{year}/{seq}/{year}").unwrap().series(987), "0987/{seq}/0987");
    }

    #[test]
    fn a_series_with_a_field_that_no_format_has_still_has_numbers_and_a_name() {
        assert_eq!(invoice_number("{branch}-{seq:03}", 7), "branch-007");
        assert_eq!(series_name("{branch}-{seq:03}"), "branch-…");
    }
}
