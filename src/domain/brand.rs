//! How a seller's invoices look: its logo, its colour and the small print at the foot.

use std::fmt;
use std::sync::Arc;

/// A seller's look; without any of it, invoices have the built-in one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brand {
    pub logo: Option<Logo>,
    pub accent: Option<Colour>,
    /// What company law wants on letters: legal form, register, directors.
    pub footer: Option<String>,
}

/// A picture by the hash of its content, which is what an invoice's snapshot names.
#[derive(Clone, PartialEq, Eq)]
pub struct Logo {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for Logo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logo({}, {} bytes)", self.sha256, self.bytes.len())
    }
}

/// A colour as red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Colour(pub [u8; 3]);

impl Colour {
    /// Reads `#rrggbb`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
        let part = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
        // `+f` would be taken for a number.
        let only_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        only_digits.then_some(Self([part(0)?, part(2)?, part(4)?]))
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_is_six_hexadecimal_digits_behind_a_hash() {
        assert_eq!(Colour::parse("#1b5E9c"), Some(Colour([0x1b, 0x5e, 0x9c])));
        assert_eq!(Colour([0, 10, 255]).to_string(), "#000aff");
        for bad in ["", "1b5e9c", "#1b5e9", "#1b5e9c0", "#+b5e9c", "#1x5e9c", "#1b5x9c", "#1b5e9x", "#ééé", "blue"] {
            assert_eq!(Colour::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_logo_is_told_by_its_hash_and_size_and_not_by_its_bytes() {
        let logo = Logo { sha256: "ab12".into(), bytes: Arc::from([1, 2, 3]) };
        assert_eq!(format!("{logo:?}"), "Logo(ab12, 3 bytes)");
    }
}
