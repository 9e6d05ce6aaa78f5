//! The invoice as EN 16931 XML in the CII syntax; the only place that knows the e-invoice crates.
//!
//! Amounts are the payment's own, never computed anew: tax is rounded once on the whole payment (rule 15), which the standard's
//! sums allow. What the standard asks for and the data do not have is listed, in words for the person who can add it.

use en16931::invoice::{
    CreditTransfer, DocumentTotals, InvoiceLine as XmlLine, LineVat, Party, PaymentInstructions, PaymentMeans, Period,
    PostalAddress, PriceDetails, VatBreakdown,
};
use en16931::{Date, En16931, Identifier, Invoice, InvoiceAmount, Percentage, Quantity, UnitPriceAmount, Validated};
use en16931_formats::{Syntax, write};
use rust_decimal::Decimal;

use crate::domain::document::{Address, Buyer, InvoiceDocument, InvoiceLine, Seller};
use crate::domain::{Currency, TaxTreatment};
use crate::render::said::{line_details, shown, shown_if, tax_note};
use crate::render::words::{Words, fill};

const SPECIFICATION: &str = "urn:cen.eu:en16931:2017";
/// A commercial invoice in the list of document types.
const INVOICE: &str = "380";
/// A month in the list of units.
const MONTH: &str = "MON";

/// The XML of an invoice, or everything that it lacks.
pub fn e_invoice_xml(document: &InvoiceDocument) -> Result<Vec<u8>, Vec<String>> {
    let missing = missing_for_e_invoice(&document.seller, &document.buyer, document.tax_treatment);
    if !missing.is_empty() {
        return Err(missing);
    }
    let invoice = invoice(document).map_err(|reason| vec![reason])?;
    match Validated::<En16931>::new(invoice) {
        Ok(proof) => Ok(write(&proof, Syntax::Cii).xml.into_bytes()),
        Err(rejected) => Err(rejected
            .report()
            .fatal()
            .map(|finding| format!("{} ({}, {})", finding.message, finding.rule, finding.path))
            .collect()),
    }
}

/// What a seller and a buyer lack for e-invoices between them; nothing else of a document can be mended by a person.
pub fn missing_for_e_invoice(seller: &Seller, buyer: &Buyer, treatment: TaxTreatment) -> Vec<String> {
    let mut missing = Vec::new();
    if shown(&seller.name).is_empty() {
        missing.push("the seller has no name".to_owned());
    }
    if shown_if(seller.vat_id.as_deref()).is_none() {
        missing.push("the seller has no VAT ID".to_owned());
    }
    missing.extend(missing_in_address(&seller.address, "seller"));
    if shown_if(buyer.name.as_deref()).is_none() {
        missing.push("the buyer has no name".to_owned());
    }
    if treatment == TaxTreatment::ReverseCharge && shown_if(buyer.vat_id.as_deref()).is_none() {
        missing.push("the buyer has no VAT ID, which reverse charge needs".to_owned());
    }
    missing.extend(missing_in_address(&buyer.address, "buyer"));
    missing
}

fn missing_in_address(address: &Address, whose: &str) -> Vec<String> {
    let Some(parts) = address.parts() else {
        return vec![format!("the {whose} has no address in parts (streetAddress, postalCode, city, country)")];
    };
    let mut missing = Vec::new();
    if shown_if(parts.city.as_deref()).is_none() {
        missing.push(format!("the {whose}'s address has no city"));
    }
    match shown_if(parts.country.as_deref()) {
        None => missing.push(format!("the {whose}'s address has no country")),
        Some(country) if postal_address(address).is_err() => {
            missing.push(format!("the {whose}'s country {country:?} is not a two-letter code such as DE"));
        }
        Some(_) => {}
    }
    missing
}

/// Maps a document as it stands; whether the result keeps all rules is the validator's to say.
fn invoice(document: &InvoiceDocument) -> Result<Invoice, String> {
    let words = Words::of(&document.locale);
    let amounts = Amounts(document.currency);
    let tax = Tax::of(document);
    let (first, last) = document.service_days();
    let number = shown(&document.invoice_number);
    let mut invoice =
        Invoice::builder(SPECIFICATION, number, date(document.issue_date)?, INVOICE, document.currency.code())
            .due_date(date(document.due_date)?)
            .payment_terms(fill(words.pay_by, &[("due", &words.date(document.due_date))]))
            .seller(seller(&document.seller)?)
            .buyer(buyer(&document.buyer)?)
            .vat_breakdown(VatBreakdown {
                taxable_amount: amounts.amount(document.subtotal)?,
                tax_amount: amounts.amount(document.tax_amount)?,
                category: tax.category.into(),
                rate: Some(tax.rate),
                exemption_reason: tax_note(document, words).map(str::to_owned),
                exemption_reason_code: tax.exemption_code.map(Into::into),
            })
            .totals(totals(document, amounts)?)
            .build();
    invoice.invoicing_period = Some(period(first, last)?);
    invoice.buyer_reference = shown_if(document.buyer.reference.as_deref());
    invoice.payment = payment(document);
    for (index, line) in document.lines.iter().enumerate() {
        invoice.lines.push(xml_line(index, line, amounts, &tax, words)?);
    }
    Ok(invoice)
}

fn totals(document: &InvoiceDocument, amounts: Amounts) -> Result<DocumentTotals, String> {
    let total = amounts.amount(document.total)?;
    Ok(DocumentTotals {
        line_total: amounts.amount(document.subtotal)?,
        taxable_total: amounts.amount(document.subtotal)?,
        vat_total: Some(amounts.amount(document.tax_amount)?),
        gross_total: total,
        due: total,
        ..DocumentTotals::default()
    })
}

fn xml_line(index: usize, line: &InvoiceLine, amounts: Amounts, tax: &Tax, words: &Words) -> Result<XmlLine, String> {
    let net = amounts.amount(line.amount)?;
    let price = PriceDetails { net_price: UnitPriceAmount::new(net.into_decimal()), ..PriceDetails::default() };
    let product = shown_if(Some(&line.product_name)).unwrap_or_else(|| shown(&line.rental_id));
    let month = Quantity::new(Decimal::ONE);
    let mut xml = XmlLine::new((index + 1).to_string(), product, month, MONTH, net, tax.category, Some(tax.rate))
        .with_price(price)
        .with_period(period(line.billing_period.first_day(), line.billing_period.last_day())?);
    xml.vat = LineVat { category: tax.category.into(), rate: Some(tax.rate) };
    xml.item.description = Some(line_details(line, words));
    xml.object_identifier = shown_if(Some(&line.rental_id)).map(Identifier::new);
    Ok(xml)
}

fn seller(seller: &Seller) -> Result<Party, String> {
    let mut party = Party::new(shown(&seller.name), postal_address(&seller.address)?);
    party.vat_identifier = seller.vat_id.as_deref().map(compact);
    party.contact.email = shown_if(seller.email.as_deref());
    // Without a scheme it could not be used; mail addresses have one of their own.
    party.electronic_address = shown_if(seller.email.as_deref()).and_then(|email| Identifier::eas(email, "EM").ok());
    Ok(party)
}

fn buyer(buyer: &Buyer) -> Result<Party, String> {
    let mut party = Party::new(shown(buyer.name.as_deref().unwrap_or_default()), postal_address(&buyer.address)?);
    party.vat_identifier = buyer.vat_id.as_deref().map(compact).filter(|vat_id| !vat_id.is_empty());
    Ok(party)
}

fn postal_address(address: &Address) -> Result<PostalAddress, String> {
    let parts = address.parts().ok_or("an address is not in parts")?;
    let text = |part: &Option<String>| shown_if(part.as_deref());
    let country = text(&parts.country).unwrap_or_default().to_ascii_uppercase();
    let known = PostalAddress::new("", "", "", &country).map_err(|error| error.to_string())?;
    Ok(PostalAddress {
        line1: text(&parts.street),
        line2: text(&parts.building),
        line3: text(&parts.contact),
        city: text(&parts.city),
        post_code: text(&parts.post_code),
        subdivision: text(&parts.region),
        ..known
    })
}

/// By credit transfer to the seller's account, if it has told one.
fn payment(document: &InvoiceDocument) -> Option<PaymentInstructions> {
    let iban = compact(document.seller.iban.as_deref()?);
    // 58 is a SEPA transfer, which there is in euros only; 30 is any.
    let means_code = if document.currency.code() == "EUR" { "58" } else { "30" };
    Some(PaymentInstructions {
        means_code: Some(means_code.into()),
        remittance_information: Some(shown(&document.invoice_number)),
        means: Some(PaymentMeans::CreditTransfer(vec![CreditTransfer {
            account_identifier: Some(iban),
            account_name: shown_if(Some(&document.seller.name)),
            provider_identifier: document.seller.bic.as_deref().map(compact).filter(|bic| !bic.is_empty()),
        }])),
        ..PaymentInstructions::default()
    })
}

/// The tax of all lines, in the standard's terms.
struct Tax {
    category: &'static str,
    rate: Percentage,
    exemption_code: Option<&'static str>,
}

impl Tax {
    fn of(document: &InvoiceDocument) -> Self {
        let (category, exemption_code) = match document.tax_treatment {
            TaxTreatment::Standard if document.tax_rate_ppm == 0 => ("Z", None),
            TaxTreatment::Standard => ("S", None),
            TaxTreatment::Exempt => ("E", None),
            TaxTreatment::ReverseCharge => ("AE", Some("VATEX-EU-AE")),
        };
        let rate = Percentage::new(Decimal::new(document.tax_rate_ppm, 4).normalize());
        Self { category, rate, exemption_code }
    }
}

/// Writes minor units as the standard's amounts, which have two decimals in every currency.
#[derive(Clone, Copy)]
struct Amounts(Currency);

impl Amounts {
    fn amount(self, minor: i64) -> Result<InvoiceAmount, String> {
        let too_fine =
            |_| format!("{} {} has more than the two decimals of an e-invoice", self.0.format(minor), self.0);
        InvoiceAmount::from_decimal_exact(Decimal::new(minor, self.0.digits()).normalize()).map_err(too_fine)
    }
}

fn period(first: chrono::NaiveDate, last: chrono::NaiveDate) -> Result<Period, String> {
    Ok(Period { start: Some(date(first)?), end: Some(date(last)?) })
}

fn date(date: chrono::NaiveDate) -> Result<Date, String> {
    Date::parse(&date.to_string()).map_err(|error| error.to_string())
}

/// An identifier without spaces, in capital letters.
fn compact(text: &str) -> String {
    shown(text).chars().filter(|c| !c.is_whitespace()).collect::<String>().to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::said::tests::sample;

    fn xml(document: &InvoiceDocument) -> String {
        String::from_utf8(e_invoice_xml(document).unwrap()).unwrap()
    }

    #[test]
    fn the_totals_are_the_payments() {
        let xml = xml(&sample());
        for said in [
            "<ram:TaxBasisTotalAmount>1157.14</ram:TaxBasisTotalAmount>",
            "219.86</ram:TaxTotalAmount>",
            "<ram:GrandTotalAmount>1377.00</ram:GrandTotalAmount>",
            "<ram:DuePayableAmount>1377.00</ram:DuePayableAmount>",
            "<ram:BuyerReference>PO-77</ram:BuyerReference>",
            "<ram:CountryID>DE</ram:CountryID>",
            "20260601",
        ] {
            assert!(xml.contains(said), "{said} is missing in:\n{xml}");
        }
    }

    #[test]
    fn a_tax_that_was_rounded_on_gross_prices_is_taken_as_it_is() {
        // 0.05 gross at 19 % is 0.04 and 0.01, though 19 % of 0.04 is 0.0076.
        let mut document = sample();
        document.lines.truncate(1);
        document.lines[0].amount = 4;
        (document.subtotal, document.tax_amount, document.total) = (4, 1, 5);
        assert!(xml(&document).contains("<ram:GrandTotalAmount>0.05</ram:GrandTotalAmount>"));
    }

    #[test]
    fn exempt_reverse_charge_and_zero_rate_have_their_categories() {
        for (treatment, category) in
            [(TaxTreatment::Exempt, ">E<"), (TaxTreatment::ReverseCharge, ">AE<"), (TaxTreatment::Standard, ">Z<")]
        {
            let mut document = sample();
            document.buyer.vat_id = Some("at u12345678".into());
            document.tax_treatment = treatment;
            (document.tax_rate_ppm, document.tax_amount, document.total) = (0, 0, document.subtotal);
            let xml = xml(&document);
            assert!(xml.contains(category) && xml.contains("ATU12345678"), "{xml}");
        }
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let mut document = sample();
        (document.seller, document.buyer) = (Seller::default(), Buyer::default());
        document.tax_treatment = TaxTreatment::ReverseCharge;
        assert_eq!(
            e_invoice_xml(&document).unwrap_err(),
            [
                "the seller has no name",
                "the seller has no VAT ID",
                "the seller has no address in parts (streetAddress, postalCode, city, country)",
                "the buyer has no name",
                "the buyer has no VAT ID, which reverse charge needs",
                "the buyer has no address in parts (streetAddress, postalCode, city, country)",
            ]
        );
    }

    #[test]
    fn a_country_by_name_and_a_vat_id_without_its_country_are_named() {
        let mut document = sample();
        let Address::Parts(parts) = &mut document.buyer.address else { panic!("parts") };
        parts.country = Some("Germany".into());
        let missing = e_invoice_xml(&document).unwrap_err();
        assert_eq!(missing, ["the buyer's country \"Germany\" is not a two-letter code such as DE"]);

        let mut document = sample();
        document.seller.vat_id = Some("123".into());
        let missing = e_invoice_xml(&document).unwrap_err().join("\n");
        assert!(missing.contains("BR-CO-09"), "{missing}");
    }
}
