//! Text made into lines of glyphs: shaping, wrapping and alignment are parley's; this picks fonts and keeps to what they can
//! show.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use krilla::text::Font;
use parley::fontique::{Blob, Charmap, Collection, CollectionOptions, FontInfoOverride, SourceCache};
use parley::layout::{Alignment, AlignmentOptions};
use parley::style::{FontFamily, FontFeatures, FontWeight, LineHeight, OverflowWrap, StyleProperty};
use parley::{FontContext, Layout, LayoutContext};

/// Inter, of the SIL Open Font License: made for small sizes, with Latin, Greek and Cyrillic and figures of equal width.
const FONTS: [&[u8]; 2] = [
    include_bytes!("../../../assets/fonts/Inter-Regular.otf"),
    include_bytes!("../../../assets/fonts/Inter-SemiBold.otf"),
];
const FAMILY: &str = "billday";

/// Stands for a character that the fonts do not have: a PDF/A must not show a gap as if it were text.
const UNKNOWN: char = '\u{25a1}';

/// A colour as red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Ink(pub [u8; 3]);

/// How a piece of text looks; sizes are points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Style {
    pub size: f32,
    pub strong: bool,
    pub ink: Ink,
    pub align_right: bool,
}

impl Style {
    pub(super) fn strong(self) -> Self {
        Self { strong: true, ..self }
    }

    pub(super) fn ink(self, ink: Ink) -> Self {
        Self { ink, ..self }
    }

    pub(super) fn right(self) -> Self {
        Self { align_right: true, ..self }
    }
}

/// A text in lines, ready to be placed.
pub(super) struct Block {
    pub text: String,
    pub layout: Layout<Ink>,
}

impl Block {
    pub(super) fn height(&self) -> f32 {
        self.layout.height()
    }

    /// The longest line's.
    pub(super) fn width(&self) -> f32 {
        self.layout.width()
    }
}

/// The fonts, and the scratch space in which text is set.
pub(super) struct Typesetter {
    fonts: FontContext,
    scratch: LayoutContext<Ink>,
    charmap: Charmap<'static>,
    /// The same fonts as the PDF writer wants them, by the id under which runs name them.
    embedded: Vec<(u64, Font)>,
    /// The texts of this document: most of a long table says the same on each line, and shaping is what takes the time.
    known: HashMap<Key, Arc<Block>>,
    /// Those of the document before: head, foot and words are mostly the same.
    known_before: HashMap<Key, Arc<Block>>,
}

/// All that a block depends on; sizes by their bits, since floats are no keys.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    text: String,
    size: u32,
    width: u32,
    strong: bool,
    align_right: bool,
    ink: Ink,
}

impl Typesetter {
    pub(super) fn new() -> anyhow::Result<Self> {
        let options = CollectionOptions { shared: false, system_fonts: false };
        let mut fonts = FontContext { collection: Collection::new(options), source_cache: SourceCache::default() };
        let mut embedded = Vec::new();
        let mut charmap = None;
        for bytes in FONTS {
            let blob = Blob::new(Arc::new(bytes));
            embedded.push((blob.id(), Font::new(bytes.into(), 0).context("a built-in font cannot be read")?));
            let name = FontInfoOverride { family_name: Some(FAMILY), ..FontInfoOverride::default() };
            let families = fonts.collection.register_fonts(blob, Some(name));
            let info = families.first().and_then(|(_, fonts)| fonts.first()).context("a built-in font is none")?;
            // Both weights have the same characters.
            charmap = charmap.or_else(|| info.charmap_index().charmap(bytes));
        }
        let charmap = charmap.context("a built-in font has no characters")?;
        Ok(Self {
            fonts,
            scratch: LayoutContext::new(),
            charmap,
            embedded,
            known: HashMap::new(),
            known_before: HashMap::new(),
        })
    }

    /// Sets a text into lines of at most `width`; a word that is longer is broken anywhere.
    pub(super) fn set(&mut self, text: &str, style: Style, width: f32) -> Arc<Block> {
        let Style { size, strong, ink, align_right } = style;
        let key = Key { text: text.to_owned(), size: size.to_bits(), width: width.to_bits(), strong, align_right, ink };
        if let Some(block) = self.known.get(&key) {
            return Arc::clone(block);
        }
        let before = self.known_before.remove(&key);
        let block = before.unwrap_or_else(|| Arc::new(self.shape(text, style, width)));
        self.known.insert(key, Arc::clone(&block));
        block
    }

    /// Ends a document: what it did not say is forgotten.
    pub(super) fn forget(&mut self) {
        self.known_before = std::mem::take(&mut self.known);
    }

    fn shape(&mut self, text: &str, style: Style, width: f32) -> Block {
        let text = self.showable(text);
        let mut builder = self.scratch.ranged_builder(&mut self.fonts, &text, 1.0, false);
        builder.push_default(StyleProperty::FontFamily(FontFamily::named(FAMILY)));
        builder.push_default(StyleProperty::FontSize(style.size));
        builder.push_default(StyleProperty::FontWeight(FontWeight::new(if style.strong { 600.0 } else { 400.0 })));
        builder.push_default(StyleProperty::Brush(style.ink));
        builder.push_default(StyleProperty::LineHeight(LineHeight::FontSizeRelative(1.4)));
        builder.push_default(StyleProperty::OverflowWrap(OverflowWrap::Anywhere));
        // Figures of equal width, so that columns of amounts line up.
        builder.push_default(StyleProperty::FontFeatures(FontFeatures::from("\"tnum\"")));
        let mut layout = builder.build(&text);
        layout.break_all_lines(Some(width));
        let alignment = if style.align_right { Alignment::End } else { Alignment::Start };
        layout.align(alignment, AlignmentOptions::default());
        Block { text, layout }
    }

    /// How wide a text is on one line.
    pub(super) fn width(&mut self, text: &str, style: Style) -> f32 {
        self.set(text, style, f32::MAX).layout.width()
    }

    pub(super) fn embedded_font(&self, id: u64) -> Option<&Font> {
        self.embedded.iter().find(|(known, _)| *known == id).map(|(_, font)| font)
    }

    /// The text with what the fonts have: invisible joiners go, everything else that is missing becomes a box.
    fn showable(&self, text: &str) -> String {
        let has = |c: char| self.charmap.map(c).is_some_and(|glyph| glyph != 0);
        let is_joiner = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{fe00}'..='\u{fe0f}');
        let kept = text.chars().filter(|c| !is_joiner(*c));
        kept.map(|c| match c {
            c if has(c) => c,
            '\u{202f}' | '\u{2009}' => '\u{a0}',
            _ if has(UNKNOWN) => UNKNOWN,
            _ => '?',
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style { size: 10.0, strong: false, ink: Ink([0; 3]), align_right: false };

    #[test]
    fn what_the_fonts_lack_becomes_a_box_and_european_names_stay() {
        let typesetter = Typesetter::new().unwrap();
        for name in
            ["Łódź Świętokrzyska", "Αθήνα Ελλάδα", "Москва Київ Ђорђе", "Ærø Þór ĲĲ Ők ñ ß İğş", "€ 1\u{a0}000 – ″ ″"]
        {
            assert_eq!(typesetter.showable(name), name);
        }
        assert_eq!(typesetter.showable("a👩\u{200d}💻b\u{fe0f}"), "a□□b");
    }

    #[test]
    fn a_word_wider_than_its_column_is_broken_and_stays_inside() {
        let block = Typesetter::new().unwrap().set(&"Donaudampfschiff".repeat(12), STYLE, 100.0);
        assert!(block.layout.width() <= 100.0 && block.layout.lines().count() > 5);
    }

    #[test]
    fn figures_have_equal_width() {
        let mut typesetter = Typesetter::new().unwrap();
        assert!((typesetter.width("1111", STYLE) - typesetter.width("8888", STYLE)).abs() < 0.01);
    }
}
