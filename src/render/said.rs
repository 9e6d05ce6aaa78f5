//! What mail and PDF of an invoice say in the same words. Every text from outside is cleaned here.

use crate::domain::TaxTreatment;
use crate::domain::document::{Address, Buyer, InvoiceDocument, InvoiceLine, Seller};
pub(crate) use crate::domain::message::{shown, shown_if};

use super::words::{Words, fill};

fn address_lines(address: &Address, name: &str) -> Vec<String> {
    address.lines_below(name).iter().filter_map(|line| shown_if(Some(line))).collect()
}

/// The seller's address, without its name.
pub(crate) fn seller_lines(seller: &Seller) -> Vec<String> {
    address_lines(&seller.address, &seller.name)
}

/// The seller's small print, line by line.
pub(crate) fn footer_lines(seller: &Seller) -> Vec<String> {
    let footer = seller.brand.footer.as_deref().unwrap_or_default();
    footer.lines().filter_map(|line| shown_if(Some(line))).collect()
}

/// The buyer's name, address and VAT ID, one below the other.
pub(crate) fn buyer_lines(buyer: &Buyer, words: &Words) -> Vec<String> {
    let mut lines: Vec<String> = shown_if(buyer.name.as_deref()).into_iter().collect();
    lines.extend(address_lines(&buyer.address, buyer.name.as_deref().unwrap_or_default()));
    lines.dedup();
    lines.extend(vat_id(buyer.vat_id.as_deref(), words));
    lines
}

/// What the document is, with its number if it has one.
pub(crate) fn title(document: &InvoiceDocument, words: &Words) -> String {
    match document.is_preview {
        true => words.preview.to_owned(),
        false => format!("{} {}", words.invoice, shown(&document.invoice_number)),
    }
}

/// By what the tax office knows the seller.
pub(crate) fn seller_tax_id(seller: &Seller, words: &Words) -> Option<String> {
    let tax_number = || shown_if(seller.tax_number.as_deref()).map(|tax| fill(words.tax_number, &[("tax", &tax)]));
    vat_id(seller.vat_id.as_deref(), words).or_else(tax_number)
}

fn vat_id(vat_id: Option<&str>, words: &Words) -> Option<String> {
    shown_if(vat_id).map(|vat| fill(words.vat_id, &[("vat", &vat)]))
}

/// An IBAN in groups of four, as it stands on paper.
pub(crate) fn in_fours(iban: &str) -> String {
    let characters: Vec<char> = iban.chars().filter(|c| !c.is_whitespace()).collect();
    characters.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

pub(crate) fn tax_label(document: &InvoiceDocument, words: &Words) -> String {
    fill(words.tax, &[("rate", &words.rate_number(document.tax_rate_ppm))])
}

/// Why there is no tax, as the law wants it said.
pub(crate) fn tax_note(document: &InvoiceDocument, words: &'static Words) -> Option<&'static str> {
    match document.tax_treatment {
        TaxTreatment::Standard => None,
        TaxTreatment::Exempt => Some(words.exempt),
        TaxTreatment::ReverseCharge => Some(words.reverse_charge),
    }
}

/// What stands above the lines of a period.
pub(crate) fn period_heading(line: &InvoiceLine, words: &Words) -> String {
    let period = words.period(line.billing_period);
    if line.arrears { fill(words.arrears, &[("period", &period)]) } else { period }
}

/// What tells a device from its neighbours.
pub(crate) fn line_details(line: &InvoiceLine, words: &Words) -> String {
    let rental = fill(words.rental, &[("rental", &shown(&line.rental_id))]);
    match shown_if(line.serial_number.as_deref()) {
        Some(serial) => format!("{} · {rental}", fill(words.serial, &[("serial", &serial)])),
        None => rental,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::render::sample;

    pub(crate) fn line(rental_id: &str, product_name: &str, period: &str, amount: i64) -> InvoiceLine {
        sample::line(rental_id, product_name, period, amount).unwrap()
    }

    pub(crate) fn sample() -> InvoiceDocument {
        sample::invoice().unwrap()
    }

    #[test]
    fn a_buyer_is_written_without_empty_or_repeated_lines() {
        let words = Words::of("en");
        let buyer = Buyer {
            name: Some("ACME\u{202e}".into()),
            address: Address::Lines(vec!["ACME".into(), "\u{0}".into(), "Road 2".into()]),
            vat_id: Some("  ".into()),
            ..Buyer::default()
        };
        assert_eq!(buyer_lines(&buyer, words), ["ACME", "Road 2"]);
        assert_eq!(in_fours("DE02 12030000 1"), "DE02 1203 0000 1");
    }
}
