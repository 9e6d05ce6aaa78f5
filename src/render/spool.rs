//! Payments of a run that wait to be shown, on disk as soon as they are many: a million need no more memory than a hundred.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, Write};

use anyhow::Context;

use super::payment::WirePayment;

/// How much stays in memory before it goes to the disk: about a hundred payments, so that a tenant with few of them
/// makes no file, and few enough bytes for thousands of tenants at once.
const MEMORY_MAX: usize = 64 * 1024;

/// The payments of one tenant's run, one JSON object a line, in the order in which they came.
///
/// The file has no name and is gone with its process, even with a killed one: it holds what customers pay. A spool
/// that has outgrown its memory keeps one file open.
#[derive(Debug)]
pub struct PaymentSpool {
    keep_max: u64,
    seen: u64,
    /// The newest lines, which are not in the file yet.
    tail: Vec<u8>,
    file: Option<File>,
}

impl PaymentSpool {
    /// Keeps every payment: for JSON, CSV and HTML.
    pub fn all() -> Self {
        Self::first(u64::MAX)
    }

    /// Keeps the first `keep_max` and counts the others: for the table, which shows no more.
    pub fn first(keep_max: u64) -> Self {
        Self { keep_max, seen: 0, tail: Vec::new(), file: None }
    }

    /// Keeps nothing and counts: for a run whose report nobody reads.
    pub fn none() -> Self {
        Self::first(0)
    }

    /// Takes the next payment of the run.
    pub fn push(&mut self, payment: &WirePayment) -> anyhow::Result<()> {
        self.seen += 1;
        if self.seen > self.keep_max {
            return Ok(());
        }
        // JSON escapes line feeds, so a line is always one whole object.
        serde_json::to_writer(&mut self.tail, payment).context("cannot write a payment as JSON")?;
        self.tail.push(b'\n');
        if self.tail.len() > MEMORY_MAX {
            self.move_to_disk().context("cannot keep the report's payments in the temporary directory")?;
        }
        Ok(())
    }

    /// Takes the next payment of the run, which is made only if it is kept.
    pub fn push_with(&mut self, make: impl FnOnce() -> WirePayment) -> anyhow::Result<()> {
        if self.seen < self.keep_max {
            return self.push(&make());
        }
        self.seen += 1;
        Ok(())
    }

    fn move_to_disk(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        file.seek(io::SeekFrom::End(0))?;
        file.write_all(&self.tail)?;
        self.tail.clear();
        Ok(())
    }

    /// How many payments it kept.
    pub fn len(&self) -> u64 {
        self.seen.min(self.keep_max)
    }

    /// Whether it kept none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many payments there were, kept or not.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Walks the kept payments as they lie there, one JSON object at a time, without its line feed; from the start at each call.
    pub fn for_each_line(&mut self, mut visit: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut reader = self.reader().context(UNREADABLE)?;
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line).context(UNREADABLE)? == 0 {
                return Ok(());
            }
            visit(line.strip_suffix(b"\n").unwrap_or(&line))?;
        }
    }

    /// Walks the kept payments as values; from the start at each call.
    pub fn for_each(&mut self, mut visit: impl FnMut(WirePayment) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.for_each_line(|line| visit(serde_json::from_slice(line).context(UNREADABLE)?))
    }

    fn reader(&mut self) -> io::Result<impl BufRead> {
        let on_disk: Box<dyn io::Read + '_> = match &mut self.file {
            Some(file) => {
                file.rewind()?;
                Box::new(file)
            }
            None => Box::new(io::empty()),
        };
        Ok(BufReader::with_capacity(MEMORY_MAX, io::Read::chain(on_disk, self.tail.as_slice())))
    }
}

const UNREADABLE: &str = "cannot read the report's payments back from the temporary directory";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::report::samples::{created_at, group_payment};

    fn wire(number: usize) -> WirePayment {
        let payment = group_payment("EUR", &format!("G{number}"), "Line\nfeed \u{2028} ü", &[100, 200, 300]);
        WirePayment::new("acme", &payment, None, created_at())
    }

    fn read(spool: &mut PaymentSpool) -> Vec<WirePayment> {
        let mut payments = Vec::new();
        spool
            .for_each(|payment| {
                payments.push(payment);
                Ok(())
            })
            .unwrap();
        payments
    }

    #[test]
    fn hundreds_of_payments_come_back_in_order_as_often_as_asked() {
        let payments: Vec<WirePayment> = (0..700).map(wire).collect();
        let mut spool = PaymentSpool::all();
        for payment in &payments {
            spool.push(payment).unwrap();
        }
        assert!(spool.file.is_some(), "so many do not stay in memory");
        assert!(spool.tail.len() <= MEMORY_MAX);
        assert_eq!((spool.len(), spool.seen()), (700, 700));
        for _ in 0..2 {
            assert_eq!(read(&mut spool), payments);
        }
        let mut lines = 0;
        spool
            .for_each_line(|line| {
                assert_eq!(line, serde_json::to_vec(&payments[lines]).unwrap());
                lines += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(lines, 700);
    }

    #[test]
    fn a_payment_may_follow_after_a_look() {
        let mut spool = PaymentSpool::all();
        for number in 0..300 {
            spool.push(&wire(number)).unwrap();
            if number % 100 == 0 {
                assert_eq!(read(&mut spool).len(), number + 1);
            }
        }
        assert_eq!(read(&mut spool), (0..300).map(wire).collect::<Vec<_>>());
    }

    #[test]
    fn few_payments_make_no_file() {
        let mut spool = PaymentSpool::all();
        spool.push(&wire(1)).unwrap();
        assert!(spool.file.is_none());
        assert_eq!(read(&mut spool), [wire(1)]);
    }

    #[test]
    fn only_as_many_as_asked_are_kept_and_all_are_counted() {
        for (mut spool, kept) in [(PaymentSpool::first(2), 2), (PaymentSpool::none(), 0), (PaymentSpool::all(), 5)] {
            (0..5).for_each(|number| spool.push(&wire(number)).unwrap());
            assert_eq!((spool.len(), spool.seen(), spool.is_empty()), (kept, 5, kept == 0));
            assert_eq!(read(&mut spool), (0..kept as usize).map(wire).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_visitor_that_fails_ends_the_walk() {
        let mut spool = PaymentSpool::all();
        (0..5).for_each(|number| spool.push(&wire(number)).unwrap());
        let mut visited = 0;
        let walk = spool.for_each(|_| {
            visited += 1;
            anyhow::bail!("the pipe is closed")
        });
        assert_eq!((visited, walk.unwrap_err().to_string().as_str()), (1, "the pipe is closed"));
    }
}
