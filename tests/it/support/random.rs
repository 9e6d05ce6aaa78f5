//! Numbers that decide where things go wrong.

use std::sync::OnceLock;

/// Chance that can be repeated: a failure names the seed that makes all fall in the same way again.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        // One of the process, so that it is the one to repeat whichever test fails.
        static SEED: OnceLock<u64> = OnceLock::new();
        let seed = *SEED.get_or_init(|| {
            let seed = std::env::var("BILLDAY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
            seed.unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1)
        });
        eprintln!("to repeat: BILLDAY_TEST_SEED={seed}");
        Self::of(seed)
    }

    /// Another, that follows from what was drawn.
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`. SplitMix64: few lines, and good enough to choose a moment.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }
}
