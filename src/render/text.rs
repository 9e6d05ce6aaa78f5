//! Text from data on its way to a screen: nothing in it may steer the terminal, reorder the line or break the columns.

use std::borrow::Cow;

/// Stands for a character that must not be shown.
const HIDDEN: char = '\u{FFFD}';

/// Replaces what a reader could not see but a screen would obey: control characters, and those that reorder or hide text.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(steers) {
        Cow::Owned(text.chars().map(|c| if steers(c) { HIDDEN } else { c }).collect())
    } else {
        Cow::Borrowed(text)
    }
}

fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200B}' | '\u{200E}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// How many columns a text takes in a terminal; wide scripts and most pictures take two, combining marks none.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

// The blocks that matter for names, not the whole of Unicode's table: a rare character may shift its row by a column.
fn char_width(c: char) -> usize {
    match c {
        '\u{0300}'..='\u{036F}' | '\u{200B}'..='\u{200D}' | '\u{20D0}'..='\u{20FF}' | '\u{FE00}'..='\u{FE0F}' => 0,
        '\u{1100}'..='\u{115F}'
        | '\u{2E80}'..='\u{A4CF}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{FE30}'..='\u{FE4F}'
        | '\u{FF00}'..='\u{FF60}'
        | '\u{FFE0}'..='\u{FFE6}'
        | '\u{1F300}'..='\u{1F64F}'
        | '\u{1F680}'..='\u{1F6FF}'
        | '\u{1F900}'..='\u{1F9FF}'
        | '\u{20000}'..='\u{3FFFD}' => 2,
        _ => 1,
    }
}

/// Makes a text fit into so many columns; one that was cut ends in `…`.
pub fn fit(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut room = columns.saturating_sub(1);
    let kept = text.chars().take_while(|&c| {
        let fits = char_width(c) <= room;
        room = room.saturating_sub(char_width(c));
        fits
    });
    Cow::Owned(kept.chain(['…']).collect())
}

/// Quotes an id for a POSIX shell where it needs it, so that a command can be copied as it is shown.
pub fn shell(word: &str) -> Cow<'_, str> {
    let safe = |c: char| c.is_alphanumeric() || "-_.:/@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        Cow::Borrowed(word)
    } else {
        Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
    }
}

/// `1 payment`, `2 payments`.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_screen_is_replaced_and_the_rest_stays() {
        assert_eq!(plain("Zoë 東京 – 100 % 👩‍💻"), "Zoë 東京 – 100 % 👩‍💻");
        assert_eq!(plain("a\u{1b}[31mb\r\n\t\u{9b}c\u{202e}d"), "a�[31mb����c�d");
    }

    #[test]
    fn a_long_name_is_cut_by_its_columns_not_by_its_bytes() {
        assert_eq!(fit("Zürich", 6), "Zürich");
        assert_eq!(fit("Zürich", 5), "Züri…");
        assert_eq!(fit("東京支社", 8), "東京支社");
        assert_eq!(fit("東京支社", 6), "東京…");
        assert_eq!(width("e\u{301}"), 1);
    }

    #[test]
    fn an_id_can_be_copied_into_a_shell() {
        assert_eq!(shell("G-1"), "G-1");
        assert_eq!(shell("it's; rm *"), r"'it'\''s; rm *'");
        assert_eq!(shell(""), "''");
    }

    proptest::proptest! {
        #[test]
        fn a_fitted_text_never_takes_more_columns(text in "\\PC{0,40}", columns in 1..20_usize) {
            proptest::prop_assert!(width(&fit(&text, columns)) <= columns);
        }
    }
}
