//! The bytes below a reader: counts the lines handed out, and lets nothing through that is not UTF-8.

use std::cell::Cell;
use std::io::{self, Read};

/// How much is read at a time.
const BUFFER: usize = 64 * 1024;

/// A file's text, byte by byte if need be, with the line that the next byte is on.
///
/// The line is shared, so that whoever parses what this hands out can ask where it stands.
pub(super) struct Source<'a> {
    inner: Box<dyn Read + 'a>,
    buffer: Vec<u8>,
    /// Handed out up to here.
    from: usize,
    /// Known to be UTF-8 up to here.
    valid: usize,
    /// Filled up to here: beyond `valid` lies the beginning of a character.
    filled: usize,
    /// What comes after `valid` can never be UTF-8.
    broken: bool,
    line: &'a Cell<u64>,
    /// Why reading failed, in words; the parsers above wrap it beyond recognition.
    failure: Option<String>,
}

impl<'a> Source<'a> {
    /// Begins on line 1, after a byte order mark if there is one.
    pub(super) fn new(inner: Box<dyn Read + 'a>, line: &'a Cell<u64>) -> Self {
        line.set(1);
        let buffer = vec![0; BUFFER];
        let mut source = Self { inner, buffer, from: 0, valid: 0, filled: 0, broken: false, line, failure: None };
        if source.fill().is_ok() && source.buffer[..source.valid].starts_with(b"\xEF\xBB\xBF") {
            source.from = 3;
        }
        source
    }

    /// The first byte that is no white space, left in place; `None` at the end.
    pub(super) fn next_visible(&mut self) -> io::Result<Option<u8>> {
        while self.fill()? {
            let byte = self.buffer[self.from];
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.from += 1;
            self.line.set(self.line.get() + u64::from(byte == b'\n'));
        }
        Ok(None)
    }

    pub(super) fn failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// Makes sure that there is a byte to hand out; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        while self.from == self.valid {
            if self.broken {
                let bytes = &self.buffer[self.valid..self.filled];
                let message = match bytes.first() {
                    Some(byte) if self.looks_utf16() => {
                        format!("is not UTF-8 text but, by its first byte {byte:#04x}, UTF-16: save it as UTF-8")
                    }
                    Some(byte) => format!("is not UTF-8 text at the byte {byte:#04x}: save the file as UTF-8"),
                    None => "is not UTF-8 text".to_owned(),
                };
                self.failure = Some(message.clone());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            self.buffer.copy_within(self.valid..self.filled, 0);
            self.filled -= self.valid;
            (self.from, self.valid) = (0, 0);
            let read = self.read_more()?;
            self.filled += read;
            match std::str::from_utf8(&self.buffer[..self.filled]) {
                Ok(_) => self.valid = self.filled,
                Err(error) => {
                    self.valid = error.valid_up_to();
                    self.broken = error.error_len().is_some() || read == 0;
                }
            }
            if read == 0 && self.valid == 0 && !self.broken {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn looks_utf16(&self) -> bool {
        matches!(self.buffer[self.valid..self.filled], [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..])
    }

    fn read_more(&mut self) -> io::Result<usize> {
        loop {
            match self.inner.read(&mut self.buffer[self.filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(format!("cannot be read: {error}"));
                    return Err(error);
                }
                Ok(read) => return Ok(read),
            }
        }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() || !self.fill()? {
            return Ok(0);
        }
        let count = out.len().min(self.valid - self.from);
        let bytes = &self.buffer[self.from..self.from + count];
        out[..count].copy_from_slice(bytes);
        let lines = match bytes {
            // Nearly every call is for one byte.
            [byte] => usize::from(*byte == b'\n'),
            bytes => bytes.iter().filter(|byte| **byte == b'\n').count(),
        };
        self.line.set(self.line.get() + lines as u64);
        self.from += count;
        Ok(count)
    }
}

/// Hands out no more than one line at a time, and shares which: so a parser that reads ahead a buffer is still known to
/// stand on the line that it was given last.
pub(super) struct LineByLine<'s, 'a> {
    pub source: &'s mut Source<'a>,
    pub line: &'s Cell<u64>,
    pub quotes: Quotes,
    /// Once the end is reached: the line of a quote that nothing closed.
    pub unclosed: &'s Cell<Option<u64>>,
}

/// Follows the quotes of CSV by the rules of its parser, which takes one that is never closed for the end of a cell.
#[derive(Default)]
pub(super) struct Quotes {
    at: At,
    /// Where the last quote opened.
    line: u64,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    CellStart,
    Unquoted,
    Quoted,
    /// After a quote in a quoted cell: its end, or the first half of a quote that is meant.
    Closing,
}

impl Quotes {
    /// Goes on over bytes of one line.
    fn follow(&mut self, bytes: &[u8], line: u64) {
        for byte in bytes {
            self.at = match (self.at, byte) {
                (At::CellStart, b'"') => {
                    self.line = line;
                    At::Quoted
                }
                (At::Quoted, b'"') => At::Closing,
                (At::Quoted, _) | (At::Closing, b'"') => At::Quoted,
                (_, b',' | b'\n' | b'\r') => At::CellStart,
                _ => At::Unquoted,
            };
        }
    }

    fn open(&self) -> Option<u64> {
        (self.at == At::Quoted).then_some(self.line)
    }
}

impl Read for LineByLine<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if !self.source.fill()? {
            self.unclosed.set(self.quotes.open());
            return Ok(0);
        }
        let waiting = &self.source.buffer[self.source.from..self.source.valid];
        let line = waiting.iter().position(|byte| *byte == b'\n').map_or(waiting.len(), |at| at + 1);
        self.line.set(self.source.line.get());
        let count = line.min(out.len());
        let count = self.source.read(&mut out[..count])?;
        self.quotes.follow(&out[..count], self.line.get());
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, so that every character is cut.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            out[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn read(bytes: &[u8]) -> (io::Result<String>, u64) {
        let line = Cell::new(0);
        let mut source = Source::new(Box::new(Drip(bytes)), &line);
        let mut text = String::new();
        let result = source.read_to_string(&mut text).map(|_| text);
        (result, line.get())
    }

    #[test]
    fn a_character_cut_in_two_is_whole_and_a_byte_order_mark_is_dropped() {
        let (text, line) = read("\u{FEFF}ä\n€\n".as_bytes());
        assert_eq!((text.unwrap().as_str(), line), ("ä\n€\n", 3));
    }

    #[test]
    fn another_encoding_is_found_on_its_line() {
        for (bytes, line) in [(&b"a\nb\nM\xFCller\n"[..], 3), (b"a\n\xC3", 2), (b"\xFF\xFEa\0", 1)] {
            let (text, at) = read(bytes);
            assert!(text.unwrap_err().to_string().contains("not UTF-8"));
            assert_eq!(at, line);
        }
    }
}
