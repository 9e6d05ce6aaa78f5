//! What the faults of a lane really hit: printed for `scripts/torture`, and a lane whose faults missed has tested nothing.

use super::TestDb;

/// How often what happened in one lane.
pub struct Counts {
    lane: String,
    counts: Vec<(&'static str, u64)>,
}

impl Counts {
    pub fn new(lane: &str, db: &TestDb) -> Self {
        let database = if db.is_sqlite() { "SQLite" } else { "PostgreSQL" };
        Self { lane: format!("{lane} on {database}"), counts: Vec::new() }
    }

    pub fn add(&mut self, what: &'static str, more: u64) {
        match self.counts.iter_mut().find(|(counted, _)| *counted == what) {
            Some((_, count)) => *count += more,
            None => self.counts.push((what, more)),
        }
    }

    pub fn of(&self, what: &str) -> u64 {
        self.counts.iter().find(|(counted, _)| *counted == what).map_or(0, |(_, count)| *count)
    }

    /// Prints them, and fails if any of `least` did not happen often enough.
    pub fn end(self, least: &[(&str, u64)]) {
        let told: Vec<String> = self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        println!("lane: {}: {}", self.lane, told.join(", "));
        for (what, least) in least {
            let count = self.of(what);
            assert!(count >= *least, "{}: {count} {what}, fewer than {least}: this tested nothing", self.lane);
        }
    }
}
