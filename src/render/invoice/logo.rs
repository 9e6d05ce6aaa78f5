//! The seller's logo: PNG and JPEG as they are, SVG as plain paths.
//!
//! Only what PDF/A can show, and only what the file itself holds: an SVG that wants fonts, other files, scripts or effects is
//! refused when it is brought in, not when its first invoice is made.

use std::panic::catch_unwind;

use anyhow::{Context, anyhow, bail};
use krilla::Document;
use krilla::color::rgb;
use krilla::configure::ValidationError;
use krilla::error::KrillaError;
use krilla::geom::{Path, PathBuilder, Point, Size, Transform};
use krilla::image::Image;
use krilla::num::NormalizedF32;
use krilla::page::PageSettings;
use krilla::paint::{
    Fill, FillRule, LineCap, LineJoin, LinearGradient, Paint, RadialGradient, SpreadMethod, Stop, Stroke, StrokeDash,
};
use krilla::surface::Surface;
use usvg::roxmltree;
use usvg::tiny_skia_path::PathSegment;

/// Most pixels of a picture, so that unpacking a small file cannot take all memory.
const PIXELS_MAX: u64 = 4_000_000;
/// Most elements of an SVG.
const NODES_MAX: u32 = 20_000;
/// How deep they may be nested: drawing goes as deep.
const DEPTH_MAX: usize = 100;
/// What a logo may add to each invoice.
const BYTES_MAX: usize = 500_000;

/// Elements of an SVG that show what its paths do not, each with what to do about it.
const REFUSED: [(&str, &str); 6] = [
    ("text", "turn text into paths"),
    ("image", "take the picture out of it"),
    ("foreignObject", "take it out"),
    ("script", "take it out"),
    ("animate", "take it out"),
    ("set", "take it out"),
];

/// A logo that can be drawn.
pub(super) enum Picture {
    Pixels(Image),
    Drawing(Box<usvg::Tree>),
}

/// Tries whether invoices can show a picture; its media type if so, else what is wrong with it.
pub fn check_logo(bytes: &[u8]) -> Result<&'static str, String> {
    let content_type = content_type(bytes).ok_or("it is neither PNG, JPEG nor SVG")?;
    // Readers of pictures are not ours, and the picture is anybody's.
    let tried = catch_unwind(|| Picture::read(bytes)?.trial());
    let tried = tried.unwrap_or_else(|_| Err(anyhow!("it cannot be read: a part of the program broke down over it")));
    let size = tried.map_err(|error| format!("{error:#}"))?;
    if size > BYTES_MAX {
        let (is, most) = (size / 1_000, BYTES_MAX / 1_000);
        return Err(format!("it would make each invoice {is} kB larger, and {most} kB is the most: make it smaller"));
    }
    Ok(content_type)
}

fn content_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        _ if std::str::from_utf8(bytes).is_ok_and(|text| text.contains("<svg")) => Some("image/svg+xml"),
        _ => None,
    }
}

impl Picture {
    pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let image = match content_type(bytes) {
            Some("image/png") => Image::from_png(bytes.to_vec().into(), false),
            Some("image/jpeg") => Image::from_jpeg(bytes.to_vec().into(), false),
            Some(_) => return Ok(Self::Drawing(Box::new(read_svg(std::str::from_utf8(bytes)?)?))),
            None => bail!("it is neither PNG, JPEG nor SVG"),
        };
        let image = image.map_err(|error| anyhow!("it cannot be read: {error}"))?;
        let (width, height) = image.size();
        if u64::from(width) * u64::from(height) > PIXELS_MAX {
            bail!("it has {width} × {height} pixels, and {PIXELS_MAX} in all is the most");
        }
        Ok(Self::Pixels(image))
    }

    /// Width and height inside a box: as large as fits, but pixels never larger than on a screen.
    pub(super) fn fitted(&self, (width, height): (f32, f32)) -> (f32, f32) {
        let (own, largest) = match self {
            Self::Pixels(image) => {
                let (width, height) = image.size();
                ((width as f32, height as f32), 0.75)
            }
            Self::Drawing(tree) => ((tree.size().width(), tree.size().height()), f32::MAX),
        };
        let scale = (width / own.0).min(height / own.1).min(largest);
        (own.0 * scale, own.1 * scale)
    }

    pub(super) fn draw(
        &self,
        surface: &mut Surface<'_>,
        place: Point,
        (width, height): (f32, f32),
    ) -> anyhow::Result<()> {
        let size = Size::from_wh(width, height).context("it has no size")?;
        surface.push_transform(&Transform::from_translate(place.x, place.y));
        let drawn = match self {
            Self::Pixels(image) => {
                surface.draw_image(image.clone(), size);
                Ok(())
            }
            Self::Drawing(tree) => {
                let (x, y) = (width / tree.size().width(), height / tree.size().height());
                surface.push_transform(&Transform::from_scale(x, y));
                let drawn = draw_group(tree.root(), surface);
                surface.pop();
                drawn
            }
        };
        surface.pop();
        drawn
    }

    /// Makes a PDF of nothing else, as invoices are made, and tells its size.
    fn trial(&self) -> anyhow::Result<usize> {
        let mut pdf = Document::new_with(super::page::settings()?);
        let mut page = pdf.start_page_with(PageSettings::from_wh(200.0, 200.0).context("no page size")?);
        let mut surface = page.surface();
        self.draw(&mut surface, Point::from_xy(0.0, 0.0), self.fitted((200.0, 200.0)))?;
        surface.finish();
        page.finish();
        pdf.set_metadata(super::page::metadata_of_nothing());
        match pdf.finish() {
            Ok(bytes) => Ok(bytes.len()),
            Err(KrillaError::Image(_, _, why)) => bail!("it cannot be read: {why}"),
            Err(KrillaError::Validation(found))
                if found.iter().any(|(error, _)| *error == ValidationError::MissingCMYKProfile) =>
            {
                bail!("it is in CMYK colours: save it in RGB")
            }
            Err(error) => bail!("a PDF/A cannot show it: {error:?}"),
        }
    }
}

/// Reads an SVG without looking at anything outside of it.
fn read_svg(text: &str) -> anyhow::Result<usvg::Tree> {
    let options = roxmltree::ParsingOptions { allow_dtd: true, nodes_limit: NODES_MAX, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(text, options).context("it is no SVG that can be read")?;
    for node in document.descendants() {
        let name = node.tag_name().name();
        if let Some((_, advice)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            bail!("it has an element <{name}>: {advice}");
        }
        if node.ancestors().nth(DEPTH_MAX).is_some() {
            bail!("its elements are nested more than {DEPTH_MAX} deep");
        }
    }
    let tree =
        usvg::Tree::from_xmltree(&document, &usvg::Options::default()).context("it is no SVG that can be read")?;
    if tree.root().children().is_empty() {
        bail!("it shows nothing");
    }
    Ok(tree)
}

fn draw_group(group: &usvg::Group, surface: &mut Surface<'_>) -> anyhow::Result<()> {
    if !group.filters().is_empty() || group.mask().is_some() || group.blend_mode() != usvg::BlendMode::Normal {
        bail!("it has a filter, a mask or a blend mode: turn it into plain shapes, or take a PNG");
    }
    let clip = group.clip_path().map(clip_outline).transpose()?;
    surface.push_transform(&transform(group.transform()));
    let mut pushed = 1;
    if let Some((path, rule)) = clip {
        surface.push_clip_path(&path, &rule);
        pushed += 1;
    }
    if group.opacity() != usvg::Opacity::ONE {
        surface.push_opacity(share(group.opacity()));
        pushed += 1;
    }
    let drawn = group.children().iter().try_for_each(|node| match node {
        usvg::Node::Group(group) => draw_group(group, surface),
        usvg::Node::Path(path) if path.is_visible() => draw_path(path, surface),
        usvg::Node::Path(_) => Ok(()),
        usvg::Node::Image(_) | usvg::Node::Text(_) => bail!("it has a picture or text inside: take a PNG"),
    });
    // Also after an error: a surface that is not as it was takes the whole program along.
    (0..pushed).for_each(|_| surface.pop());
    drawn
}

/// One shape to clip by; what is made of several is rare, and not worth its code.
fn clip_outline(clip: &usvg::ClipPath) -> anyhow::Result<(Path, FillRule)> {
    let only = |group: &usvg::Group| match group.children() {
        [usvg::Node::Path(path)] => Some((path.clone(), group.transform())),
        _ => None,
    };
    let found = match clip.root().children() {
        [usvg::Node::Group(group)] => only(group),
        _ => only(clip.root()),
    };
    let (Some((path, inner)), None) = (found, clip.clip_path()) else {
        bail!("it is clipped by more than one shape: turn it into plain shapes, or take a PNG");
    };
    let outline = path.data().clone().transform(clip.transform().pre_concat(inner)).context("a shape is too large")?;
    let rule = path.fill().map_or(FillRule::NonZero, |fill| fill_rule(fill.rule()));
    Ok((path_of(&outline).context("a shape to clip by is empty")?, rule))
}

fn draw_path(path: &usvg::Path, surface: &mut Surface<'_>) -> anyhow::Result<()> {
    let Some(outline) = path_of(path.data()) else { return Ok(()) };
    let fill = path.fill().map(fill).transpose()?;
    let stroke = path.stroke().map(stroke).transpose()?;
    let both = [(fill, None), (None, stroke)];
    let order = if path.paint_order() == usvg::PaintOrder::FillAndStroke { [0, 1] } else { [1, 0] };
    for at in order {
        let (fill, stroke) = both[at].clone();
        if fill.is_some() || stroke.is_some() {
            surface.set_fill(fill);
            surface.set_stroke(stroke);
            surface.draw_path(&outline);
        }
    }
    surface.set_fill(None);
    surface.set_stroke(None);
    Ok(())
}

fn path_of(outline: &usvg::tiny_skia_path::Path) -> Option<Path> {
    let mut path = PathBuilder::new();
    for segment in outline.segments() {
        match segment {
            PathSegment::MoveTo(to) => path.move_to(to.x, to.y),
            PathSegment::LineTo(to) => path.line_to(to.x, to.y),
            PathSegment::QuadTo(by, to) => path.quad_to(by.x, by.y, to.x, to.y),
            PathSegment::CubicTo(by, and, to) => path.cubic_to(by.x, by.y, and.x, and.y, to.x, to.y),
            PathSegment::Close => path.close(),
        }
    }
    path.finish()
}

fn fill(fill: &usvg::Fill) -> anyhow::Result<Fill> {
    Ok(Fill { paint: paint(fill.paint())?, opacity: share(fill.opacity()), rule: fill_rule(fill.rule()) })
}

fn stroke(stroke: &usvg::Stroke) -> anyhow::Result<Stroke> {
    Ok(Stroke {
        paint: paint(stroke.paint())?,
        width: stroke.width().get(),
        miter_limit: stroke.miterlimit().get(),
        line_cap: match stroke.linecap() {
            usvg::LineCap::Butt => LineCap::Butt,
            usvg::LineCap::Round => LineCap::Round,
            usvg::LineCap::Square => LineCap::Square,
        },
        line_join: match stroke.linejoin() {
            usvg::LineJoin::Miter | usvg::LineJoin::MiterClip => LineJoin::Miter,
            usvg::LineJoin::Round => LineJoin::Round,
            usvg::LineJoin::Bevel => LineJoin::Bevel,
        },
        opacity: share(stroke.opacity()),
        dash: stroke.dasharray().map(|array| StrokeDash { array: array.to_vec(), offset: stroke.dashoffset() }),
    })
}

fn paint(paint: &usvg::Paint) -> anyhow::Result<Paint> {
    Ok(match paint {
        usvg::Paint::Color(color) => rgb::Color::new(color.red, color.green, color.blue).into(),
        usvg::Paint::LinearGradient(gradient) => LinearGradient {
            x1: gradient.x1(),
            y1: gradient.y1(),
            x2: gradient.x2(),
            y2: gradient.y2(),
            transform: transform(gradient.transform()),
            spread_method: spread(gradient.spread_method()),
            stops: stops(gradient.stops()),
            anti_alias: false,
        }
        .into(),
        usvg::Paint::RadialGradient(gradient) => RadialGradient {
            fx: gradient.fx(),
            fy: gradient.fy(),
            fr: gradient.fr().get(),
            cx: gradient.cx(),
            cy: gradient.cy(),
            cr: gradient.r().get(),
            transform: transform(gradient.transform()),
            spread_method: spread(gradient.spread_method()),
            stops: stops(gradient.stops()),
            anti_alias: false,
        }
        .into(),
        usvg::Paint::Pattern(_) => bail!("it has a pattern: turn it into plain shapes, or take a PNG"),
    })
}

fn stops(stops: &[usvg::Stop]) -> Vec<Stop> {
    let stop = |stop: &usvg::Stop| Stop {
        offset: share(stop.offset()),
        color: rgb::Color::new(stop.color().red, stop.color().green, stop.color().blue).into(),
        opacity: share(stop.opacity()),
    };
    stops.iter().map(stop).collect()
}

fn spread(method: usvg::SpreadMethod) -> SpreadMethod {
    match method {
        usvg::SpreadMethod::Pad => SpreadMethod::Pad,
        usvg::SpreadMethod::Reflect => SpreadMethod::Reflect,
        usvg::SpreadMethod::Repeat => SpreadMethod::Repeat,
    }
}

fn fill_rule(rule: usvg::FillRule) -> FillRule {
    match rule {
        usvg::FillRule::NonZero => FillRule::NonZero,
        usvg::FillRule::EvenOdd => FillRule::EvenOdd,
    }
}

fn share(share: usvg::NormalizedF32) -> NormalizedF32 {
    NormalizedF32::new(share.get()).unwrap_or(NormalizedF32::ONE)
}

fn transform(t: usvg::Transform) -> Transform {
    Transform::from_row(t.sx, t.ky, t.kx, t.sy, t.tx, t.ty)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JPEG of one pixel, as far as its header goes.
    fn jpeg(components: u8) -> Vec<u8> {
        let mut jpeg = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
        jpeg.extend([1; 64]);
        jpeg.extend([0xff, 0xc0, 0, 8 + 3 * components, 8, 0, 1, 0, 1, components]);
        (1..=components).for_each(|component| jpeg.extend([component, 0x11, 0]));
        jpeg.extend([0xff, 0xda, 0, 6 + 2 * components, components]);
        (1..=components).for_each(|component| jpeg.extend([component, 0]));
        jpeg.extend([0, 63, 0, 0, 0xff, 0xd9]);
        jpeg
    }

    fn svg(inside: &str) -> Vec<u8> {
        let attributes =
            r#"xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="90" height="30""#;
        format!("<?xml version=\"1.0\"?>\n<svg {attributes}>{inside}</svg>").into_bytes()
    }

    #[test]
    fn plain_shapes_gradients_and_clips_are_drawn() {
        for inside in [
            r#"<rect width="20" height="20" fill="red" opacity="0.5"/>"#,
            r#"<linearGradient id="g"><stop offset="0" stop-color="red"/><stop offset="1" stop-opacity="0"/></linearGradient>
               <circle cx="9" cy="9" r="5" fill="url(#g)" stroke="blue" stroke-dasharray="2 1" paint-order="stroke"/>"#,
            r#"<clipPath id="c" transform="scale(2)"><circle cx="9" cy="9" r="5"/></clipPath>
               <g clip-path="url(#c)"><path fill-rule="evenodd" d="M0 0Q9 9 20 0C1 2 3 4 5 6z"/></g>"#,
            r#"<style>@import url("http://x.example/a.css"); path { fill: red }</style><path d="M0 0h9v9z"/>"#,
        ] {
            assert_eq!(check_logo(&svg(inside)), Ok("image/svg+xml"), "{inside}");
        }
    }

    #[test]
    fn what_wants_fonts_files_scripts_or_effects_is_refused_with_advice() {
        for (inside, why) in [
            (r#"<text y="9">Hi</text>"#, "<text>: turn text into paths"),
            (r#"<image xlink:href="/etc/hostname" width="9" height="9"/>"#, "<image>: take the picture out of it"),
            ("<script>1</script><path d='M0 0h9v9z'/>", "<script>: take it out"),
            (
                r#"<filter id="f"><feGaussianBlur stdDeviation="3"/></filter><g clip-path="url(#c)"><path filter="url(#f)" d="M0 0h9v9z"/></g>"#,
                "it has a filter, a mask or a blend mode",
            ),
            (
                r#"<pattern id="p" width="2" height="2"><path d="M0 0h1v1z"/></pattern><path fill="url(#p)" d="M0 0h9v9z"/>"#,
                "it has a pattern",
            ),
            (
                r#"<clipPath id="c"><path d="M0 0h9v9z"/><path d="M0 0h9v5z"/></clipPath><path clip-path="url(#c)" d="M0 0h9v9z"/>"#,
                "clipped by more than one shape",
            ),
            ("", "it shows nothing"),
            ("<path", "it is no SVG that can be read"),
        ] {
            let refused = check_logo(&svg(inside)).unwrap_err();
            assert!(refused.contains(why), "{inside}: {refused}");
        }
    }

    #[test]
    fn bombs_are_refused_before_they_go_off() {
        let deep = format!("{}{}", "<g>".repeat(5_000), "</g>".repeat(5_000));
        let wide: String = (1..9)
            .map(|n| format!(r##"<g id="a{n}">{}</g>"##, format!(r##"<use xlink:href="#a{}"/>"##, n - 1).repeat(10)))
            .collect();
        let wide = format!(r##"<defs><path id="a0" d="M0 0h1v1z"/>{wide}</defs><use xlink:href="#a8"/>"##);
        for (bytes, why) in [(svg(&deep), "more than 100 deep"), (svg(&wide), "limit reached")] {
            let refused = check_logo(&bytes).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x75\x30\0\0\x75\x30\x08\x06\0\0\0".to_vec();
        png.extend([0x1f, 0x48, 0x8e, 0xc4]);
        let refused = check_logo(&png).unwrap_err();
        assert!(refused.contains("cannot be read") || refused.contains("30000 × 30000 pixels"), "{refused}");
    }

    #[test]
    fn a_picture_is_known_by_its_content_and_cmyk_is_refused() {
        assert_eq!((check_logo(&jpeg(1)), check_logo(&jpeg(3))), (Ok("image/jpeg"), Ok("image/jpeg")));
        assert_eq!(check_logo(&jpeg(4)).unwrap_err(), "it is in CMYK colours: save it in RGB");
        for other in [&b"GIF89a"[..], b"<html></html>", b"", b"\xff\xd8\xff"] {
            assert!(check_logo(other).is_err(), "{other:?}");
        }
    }
}
