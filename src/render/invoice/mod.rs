//! Invoices as files that people can keep: PDF/A-3b, with the same content as XML inside where there is data enough.
//!
//! ```text
//! InvoiceDocument ──► xml: EN 16931 as CII ─────────────────────┐
//!        └──────────► layout: blocks on pages ──► page: krilla ─┴─► xmp: marked as Factur-X
//!                          logo: the seller's picture ─┘
//! ```
//!
//! The same document gives the same bytes, always: nothing here knows the time, and ids come from the payment.

mod layout;
mod logo;
mod page;
mod typeset;
mod xml;
mod xmp;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::domain::EInvoice;
use crate::domain::brand::Logo;
use crate::domain::document::InvoiceDocument;

use super::words::Words;

use logo::Picture;

pub use logo::check_logo;
pub use xml::{e_invoice_xml, refusals};

/// An invoice as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedInvoice {
    pub pdf: Vec<u8>,
    /// What the buyer wants as XML.
    pub e_invoice: EInvoice,
    /// That XML, or why there is none, one thing an entry.
    pub xml: Result<Vec<u8>, Vec<String>>,
}

impl RenderedInvoice {
    /// The XML that goes as a file of its own; that of Factur-X is inside the PDF.
    pub fn xml_beside(&self) -> Option<&[u8]> {
        self.xml.as_deref().ok().filter(|_| self.e_invoice != EInvoice::FacturX)
    }
}

/// Makes invoices; keeps fonts and scratch space from one to the next, so one is enough for many.
pub struct InvoiceRenderer {
    typesetter: typeset::Typesetter,
    /// The logos that were drawn, by hash: reading one takes longer than an invoice.
    logos: HashMap<String, Arc<Picture>>,
}

/// Logos that are remembered: each may take some megabytes.
const LOGOS_MAX: usize = 16;

impl InvoiceRenderer {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { typesetter: typeset::Typesetter::new()?, logos: HashMap::new() })
    }

    /// The PDF, and the XML that its buyer wants where the document has all that it needs.
    pub fn render(&mut self, document: &InvoiceDocument) -> anyhow::Result<RenderedInvoice> {
        let xml = e_invoice_xml(document);
        let e_invoice = document.buyer.e_invoice;
        // A program that finds XML in a PDF takes it for an invoice.
        let inside = xml.as_deref().ok().filter(|_| e_invoice == EInvoice::FacturX && !document.is_preview);
        let pdf = self.render_pdf(document, inside)?;
        Ok(RenderedInvoice { pdf, e_invoice, xml })
    }

    /// The PDF of a made-up invoice, which shows that fonts and all else that it takes are there.
    pub fn render_sample(&mut self) -> anyhow::Result<Vec<u8>> {
        let document = super::sample::invoice().context("the sample is no invoice")?;
        Ok(self.render(&document)?.pdf)
    }

    /// The PDF, with `xml` as its Factur-X annex.
    pub fn render_pdf(&mut self, document: &InvoiceDocument, xml: Option<&[u8]>) -> anyhow::Result<Vec<u8>> {
        // Many parts that are not ours take part: whatever one of them trips over may cost this invoice, not the others.
        let drawn = catch_unwind(AssertUnwindSafe(|| self.draw(document, xml))).unwrap_or_else(|_| {
            self.typesetter = typeset::Typesetter::new()?;
            bail!("a part of the program broke down over it")
        });
        drawn.with_context(|| format!("cannot make the PDF of invoice {}", document.invoice_number))
    }

    fn draw(&mut self, document: &InvoiceDocument, xml: Option<&[u8]>) -> anyhow::Result<Vec<u8>> {
        let words = Words::of(&document.locale);
        let logo = document.seller.brand.logo.as_ref().map(|logo| self.picture(logo)).transpose()?;
        let pages = layout::lay_out(document, words, logo, &mut self.typesetter);
        page::write(&pages, document, words, xml, &self.typesetter)
    }

    fn picture(&mut self, logo: &Logo) -> anyhow::Result<Arc<Picture>> {
        if let Some(picture) = self.logos.get(&logo.sha256) {
            return Ok(Arc::clone(picture));
        }
        let picture = Arc::new(Picture::read(&logo.bytes).context("the seller's logo cannot be shown")?);
        if self.logos.len() >= LOGOS_MAX {
            self.logos.clear();
        }
        self.logos.insert(logo.sha256.clone(), Arc::clone(&picture));
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use super::super::said::tests::{line, sample};
    use crate::domain::Currency;

    fn render(document: &InvoiceDocument) -> RenderedInvoice {
        InvoiceRenderer::new().unwrap().render(document).unwrap()
    }

    fn page_count(pdf: &[u8]) -> usize {
        let text = String::from_utf8_lossy(pdf);
        text.matches("/Type/Page/").count() + text.matches("/Type /Page\n").count()
    }

    /// The sample with so many lines of 10.00 each.
    fn with_lines(count: usize) -> InvoiceDocument {
        let lines: Vec<_> = (0..count).map(|n| line(&format!("rnt_{n}"), "ThinkPad T14", "2026-07", 1_000)).collect();
        let subtotal = 1_000 * count as i64;
        let tax_amount = subtotal * 19 / 100;
        InvoiceDocument { lines, subtotal, tax_amount, total: subtotal + tax_amount, ..sample() }
    }

    #[test]
    fn the_same_document_has_the_same_bytes_whatever_was_made_before() {
        let mut renderer = InvoiceRenderer::new().unwrap();
        let first = renderer.render(&sample()).unwrap();
        renderer.render(&with_lines(90)).unwrap();
        assert_eq!(renderer.render(&sample()).unwrap(), first);
        assert_eq!(render(&sample()), first);
    }

    #[test]
    fn the_last_page_has_a_line_the_totals_and_how_to_pay() {
        let mut typesetter = InvoiceRenderer::new().unwrap().typesetter;
        for count in 1..=90 {
            let pages = layout::lay_out(&with_lines(count), Words::of("en"), None, &mut typesetter);
            let is_rule = |item: &&page::Item| matches!(item, page::Item::Area { width, height, .. } if *width > 400.0 && *height < 0.9);
            let lines: Vec<usize> = pages.iter().map(|page| page.items.iter().filter(is_rule).count()).collect();
            // A rule stands above each foot, under each line and under each sum that is brought forward.
            let others = |page| if page == 0 { 1 } else { 2 };
            assert!(lines[lines.len() - 1] > others(lines.len() - 1), "{count} lines: {lines:?}");
            assert_eq!(lines.iter().sum::<usize>() - (0..lines.len()).map(others).sum::<usize>(), count, "{lines:?}");
        }
    }

    #[test]
    fn a_pdf_says_that_it_is_pdf_a_and_carries_its_xml_as_factur_x() {
        let rendered = render(&sample());
        let text = String::from_utf8_lossy(&rendered.pdf);
        assert!(rendered.xml.is_ok(), "{:?}", rendered.xml);
        for said in [
            "%PDF-1.7",
            "<pdfaid:part>3</pdfaid:part>",
            "<pdfaid:conformance>B</pdfaid:conformance>",
            "factur-x.xml",
            "<fx:ConformanceLevel>EN 16931</fx:ConformanceLevel>",
            "/AFRelationship/Alternative",
        ] {
            assert!(
                text.contains(said) || text.replace("/AFRelationship /", "/AFRelationship/").contains(said),
                "{said}"
            );
        }
    }

    #[test]
    fn without_a_vat_id_the_pdf_stands_alone_and_the_reason_is_told() {
        let mut document = sample();
        document.seller.vat_id = None;
        let rendered = render(&document);
        assert_eq!(rendered.xml, Err(vec!["the seller has no VAT ID and no tax number".to_owned()]));
        assert!(!String::from_utf8_lossy(&rendered.pdf).contains("factur-x.xml"));
    }

    #[test]
    fn few_lines_take_one_page_and_hundreds_take_many() {
        assert_eq!(page_count(&render(&with_lines(1)).pdf), 1);
        assert_eq!(page_count(&render(&with_lines(8)).pdf), 1);
        let many = page_count(&render(&with_lines(500)).pdf);
        assert!((12..20).contains(&many), "{many}");
    }

    #[test]
    fn currencies_without_cents_have_xml_and_those_with_three_digits_only_where_two_say_the_same() {
        let in_currency = |code: &str, minor: i64| {
            let lines = vec![line("rnt_1", "Laptop", "2026-07", minor)];
            let document = InvoiceDocument {
                currency: Currency::from_code(code).unwrap(),
                tax_rate_ppm: 0,
                ..InvoiceDocument { lines, subtotal: minor, tax_amount: 0, total: minor, ..sample() }
            };
            e_invoice_xml(&document).map(|xml| String::from_utf8(xml).unwrap())
        };
        assert!(in_currency("JPY", 1_377).unwrap().contains(">1377.00<"));
        assert!(in_currency("KWD", 1_230).unwrap().contains(">1.23<"));
        assert_eq!(
            in_currency("KWD", 1_234).unwrap_err(),
            ["1.234 KWD has more than the two decimals of an e-invoice"]
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn no_text_from_outside_breaks_a_file(text in any::<String>(), more in "[\\u{202e}\\u{0}-\\u{3000}👩‍💻\\r\\n]{0,300}") {
            let mut document = sample();
            for place in [&mut document.seller.name, &mut document.subject_name, &mut document.lines[0].product_name] {
                *place = text.clone();
            }
            document.buyer.name = Some(more.clone());
            document.buyer.reference = Some(more.clone());
            document.lines[1].serial_number = Some(more);
            let rendered = render(&document);
            prop_assert!(rendered.pdf.starts_with(b"%PDF-1.7"));
        }
    }
}
