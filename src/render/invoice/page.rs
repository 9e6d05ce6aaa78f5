//! Pages as PDF: what was laid out is drawn, described and given its annex. The only place that knows krilla's documents.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use chrono::Datelike;
use krilla::color::rgb;
use krilla::configure::{Archival, ConfigurationBuilder};
use krilla::embed::{AssociationKind, EmbeddedFile, MimeType};
use krilla::geom::{PathBuilder, Point, Rect};
use krilla::metadata::{DateTime, Metadata};
use krilla::page::PageSettings;
use krilla::paint::Fill;
use krilla::surface::Surface;
use krilla::text::{GlyphId, KrillaGlyph};
use krilla::{Document, SerializeSettings};

use crate::domain::document::InvoiceDocument;
use crate::render::said::{shown, title};
use crate::render::words::Words;

use super::logo::Picture;
use super::typeset::{Block, Ink, Typesetter};
use super::xmp;

/// A4 in points.
pub(super) const WIDTH: f32 = 595.28;
pub(super) const HEIGHT: f32 = 841.89;

/// What stands on a page; `y` grows downwards.
pub(super) enum Item {
    Text { block: Arc<Block>, x: f32, y: f32 },
    Area { x: f32, y: f32, width: f32, height: f32, ink: Ink },
    Picture { picture: Arc<Picture>, x: f32, y: f32, width: f32, height: f32 },
}

/// A page's items, in the order in which they are drawn.
#[derive(Default)]
pub(super) struct Page {
    pub items: Vec<Item>,
}

/// Writes pages as PDF/A-3b, with the XML of the invoice as annex if there is one.
pub(super) fn write(
    pages: &[Page],
    invoice: &InvoiceDocument,
    words: &Words,
    xml: Option<&[u8]>,
    fonts: &Typesetter,
) -> anyhow::Result<Vec<u8>> {
    let mut pdf = Document::new_with(settings()?);
    for page in pages {
        let size = PageSettings::from_wh(WIDTH, HEIGHT).context("A4 is no page size")?;
        let mut sheet = pdf.start_page_with(size);
        let mut surface = sheet.surface();
        for item in &page.items {
            draw(item, &mut surface, fonts)?;
        }
        surface.finish();
        sheet.finish();
    }
    pdf.set_metadata(metadata(invoice, words));
    if let Some(xml) = xml {
        pdf.embed_file(annex(invoice, xml)?).context("the XML is attached already")?;
    }
    let bytes = pdf.finish().map_err(|error| anyhow!("it would be no PDF/A: {error:?}"))?;
    if xml.is_some() { xmp::mark_as_factur_x(bytes) } else { Ok(bytes) }
}

/// PDF/A-3b, or no PDF at all.
pub(super) fn settings() -> anyhow::Result<SerializeSettings> {
    let configuration = ConfigurationBuilder::new().with_archival_validator(Archival::A3_B).finish();
    let configuration = configuration.map_err(|error| anyhow!("PDF/A-3b is not offered: {error:?}"))?;
    Ok(SerializeSettings { configuration, enable_tagging: false, ..SerializeSettings::default() })
}

/// What PDF/A wants of any document.
pub(super) fn metadata_of_nothing() -> Metadata {
    Metadata::new().title("logo".to_owned()).language("en".to_owned()).creation_date(DateTime::new(2000))
}

/// Title, author and language; the invoice's own date, so that each making gives the same bytes.
fn metadata(invoice: &InvoiceDocument, words: &Words) -> Metadata {
    Metadata::new()
        .title(title(invoice, words))
        .authors(vec![shown(&invoice.seller.name)])
        .language(words.language.to_owned())
        .creator("billday".to_owned())
        .creation_date(issued(invoice))
        .document_id(format!("{}/{}", invoice.tenant_id, invoice.payment_id))
}

fn annex(invoice: &InvoiceDocument, xml: &[u8]) -> anyhow::Result<EmbeddedFile> {
    Ok(EmbeddedFile {
        path: xmp::FILE_NAME.to_owned(),
        mime_type: Some(MimeType::new("text/xml").context("text/xml is no media type")?),
        description: Some("The invoice as EN 16931 XML (Factur-X)".to_owned()),
        association_kind: AssociationKind::Alternative,
        data: Arc::new(xml.to_vec()).into(),
        modification_date: Some(issued(invoice)),
        compress: Some(true),
        location: None,
    })
}

fn issued(invoice: &InvoiceDocument) -> DateTime {
    let date = invoice.issue_date;
    let year = u16::try_from(date.year()).unwrap_or_default();
    // Months and days are at most 31.
    DateTime::new(year)
        .month(date.month() as u8)
        .day(date.day() as u8)
        .hour(0)
        .minute(0)
        .second(0)
        .utc_offset_hour(0)
        .utc_offset_minute(0)
}

fn draw(item: &Item, surface: &mut Surface<'_>, fonts: &Typesetter) -> anyhow::Result<()> {
    match item {
        Item::Text { block, x, y } => draw_text(block, (*x, *y), surface, fonts),
        Item::Area { x, y, width, height, ink } => {
            let mut path = PathBuilder::new();
            path.push_rect(Rect::from_xywh(*x, *y, *width, *height).context("an area has no size")?);
            surface.set_fill(Some(fill(*ink)));
            surface.draw_path(&path.finish().context("an area has no outline")?);
            Ok(())
        }
        Item::Picture { picture, x, y, width, height } => {
            picture.draw(surface, Point::from_xy(*x, *y), (*width, *height)).context("cannot draw the seller's logo")
        }
    }
}

fn draw_text(block: &Block, (x, y): (f32, f32), surface: &mut Surface<'_>, fonts: &Typesetter) -> anyhow::Result<()> {
    let Some(style) = block.layout.styles().first() else { return Ok(()) };
    surface.set_fill(Some(fill(style.brush)));
    for line in block.layout.lines() {
        let mut place = Point::from_xy(x + line.metrics().offset, y + line.metrics().baseline);
        for run in line.runs() {
            let font = fonts.embedded_font(run.font().data.id()).context("a text has a font of its own")?;
            let size = run.font_size();
            let mut advance = 0.0;
            let mut glyphs: Vec<KrillaGlyph> = Vec::new();
            for cluster in run.visual_clusters() {
                if cluster.is_ligature_continuation() {
                    // It has no glyph of its own: its text belongs to the glyph before.
                    if let Some(glyph) = glyphs.last_mut() {
                        glyph.text_range.end = cluster.text_range().end;
                    }
                    continue;
                }
                for glyph in cluster.glyphs() {
                    advance += glyph.advance;
                    glyphs.push(KrillaGlyph::new(
                        GlyphId::new(glyph.id),
                        glyph.advance / size,
                        glyph.x / size,
                        glyph.y / size,
                        0.0,
                        cluster.text_range(),
                        None,
                    ));
                }
            }
            surface.draw_glyphs(place, &glyphs, font.clone(), &block.text, size, false);
            place.x += advance;
        }
    }
    Ok(())
}

fn fill(Ink([red, green, blue]): Ink) -> Fill {
    Fill { paint: rgb::Color::new(red, green, blue).into(), ..Fill::default() }
}
