//! A seller's colour made fit for white paper: whatever it is, what is drawn in it can be seen, and text in it can be read.

use crate::domain::brand::Colour;

/// The colour of sellers who have not chosen one.
pub(super) const ACCENT: Colour = Colour([0x1b, 0x5e, 0x9c]);

/// The colour, darkened until its contrast to white is at least so much (WCAG: 4.5 for text).
pub(super) fn with_contrast(colour: Colour, least: f32) -> Colour {
    let darker = |steps: u16| Colour(colour.0.map(|part| (u16::from(part) * (32 - steps) / 32) as u8));
    (0..=32).map(darker).find(|colour| contrast_to_white(*colour) >= least).unwrap_or_default()
}

fn contrast_to_white(Colour(parts): Colour) -> f32 {
    let linear = |part: u8| {
        let part = f32::from(part) / 255.0;
        if part <= 0.040_45 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    };
    let [red, green, blue] = parts.map(linear);
    1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dark_colour_stays_and_a_light_one_is_darkened_until_it_can_be_read() {
        let blue = Colour([0x1b, 0x5e, 0x9c]);
        assert_eq!(with_contrast(blue, 4.5), blue);
        for light in [[0xff, 0xff, 0xff], [0xff, 0xd5, 0x00], [0x7f, 0xff, 0xd4]] {
            let darkened = with_contrast(Colour(light), 4.5);
            assert!(contrast_to_white(darkened) >= 4.5, "{darkened}");
            assert!(darkened != Colour::default(), "no more than needed: {darkened}");
        }
        assert!((contrast_to_white(Colour([0; 3])) - 21.0).abs() < 0.01);
    }
}
