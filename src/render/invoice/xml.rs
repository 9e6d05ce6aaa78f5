//! The invoice as EN 16931 XML, CII for Factur-X and UBL for the others; the only place that knows the e-invoice crates.
//!
//! Amounts are the payment's own, never computed anew: tax is rounded once on the whole payment (rule 15), which the standard's
//! sums allow. What the standard asks for and the data do not have is listed, in words for the person who can add it.

use chrono::NaiveDate;
use en16931::invoice::{
    CreditTransfer, DocumentTotals, InvoiceLine as XmlLine, LineVat, Party, PaymentInstructions, PaymentMeans, Period,
    PostalAddress, PriceDetails, VatBreakdown,
};
use en16931::validation::profile::ProfileMarker;
use en16931::{
    Date, En16931, Identifier, Invoice, InvoiceAmount, PeppolBis3, Percentage, Quantity, UnitPriceAmount, Validated,
    XRechnung,
};
use en16931_formats::{Syntax, write};
use rust_decimal::Decimal;

use crate::domain::document::{Address, Buyer, InvoiceDocument, InvoiceLine, Seller};
use crate::domain::e_invoice::{EInvoice, ElectronicAddress, compact, missing, too_fine};
use crate::domain::payment::PaymentStatus;
use crate::domain::{BillingPeriod, Currency, TaxTreatment};
use crate::render::said::{line_details, shown, shown_if, tax_note};
use crate::render::words::{Words, fill};

/// A commercial invoice in the list of document types.
const INVOICE: &str = "380";
/// No way to pay in particular, in the list of ways.
const NO_MEANS: &str = "1";
/// A month in the list of units.
const MONTH: &str = "MON";

/// The process that XRechnung and Peppol name: an invoice by itself.
const BILLING: &str = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0";

/// The XML of an invoice as its buyer wants it, or everything that it lacks.
pub fn e_invoice_xml(document: &InvoiceDocument) -> Result<Vec<u8>, Vec<String>> {
    let format = document.buyer.e_invoice;
    let mut missing = missing(&document.seller, &document.buyer, document.tax_treatment);
    let amounts = document.lines.iter().map(|line| line.amount).chain([document.tax_amount]);
    missing.extend(too_fine(format, document.currency, amounts));
    if !missing.is_empty() {
        return Err(missing);
    }
    match format {
        EInvoice::FacturX => proved::<En16931>(document, Syntax::Cii),
        EInvoice::XRechnung => proved::<XRechnung>(document, Syntax::Ubl),
        EInvoice::PeppolUbl => proved::<PeppolBis3>(document, Syntax::Ubl),
        EInvoice::None => Err(vec!["the customer wants none (eInvoice is none)".to_owned()]),
    }
}

/// Why an e-invoice between a seller and a buyer would be refused, whatever it charges: what is missing, else what the rules
/// say of a made-up month of 1.00.
pub fn refusals(seller: &Seller, buyer: &Buyer, tax_treatment: TaxTreatment) -> Vec<String> {
    let missing = missing(seller, buyer, tax_treatment);
    if !missing.is_empty() || buyer.e_invoice == EInvoice::None {
        return missing;
    }
    let billing_period = BillingPeriod::of(NaiveDate::default());
    let (issue_date, tax_rate_ppm) = (billing_period.first_day(), 0);
    let Some(currency) = Currency::from_code("EUR") else { return missing };
    let line = InvoiceLine {
        rental_id: "rental".to_owned(),
        product_name: "product".to_owned(),
        serial_number: None,
        billing_period,
        amount: 100,
        tax_amount: 0,
        arrears: false,
    };
    let document = InvoiceDocument {
        tenant_id: String::new(),
        payment_id: String::new(),
        invoice_number: "number".to_owned(),
        issue_date,
        due_date: issue_date,
        seller: seller.clone(),
        buyer: buyer.clone(),
        subject_name: String::new(),
        billing_period,
        currency,
        subtotal: line.amount,
        tax_amount: 0,
        total: line.amount,
        tax_rate_ppm,
        tax_treatment,
        status: PaymentStatus::Pending,
        lines: vec![line],
        locale: "en".to_owned(),
        is_preview: false,
    };
    e_invoice_xml(&document).err().unwrap_or_default()
}

/// Writes what keeps all rules of a profile, and nothing else.
fn proved<P: ProfileMarker>(document: &InvoiceDocument, syntax: Syntax) -> Result<Vec<u8>, Vec<String>> {
    let invoice = invoice(document, P::PROFILE.specification_id).map_err(|reason| vec![reason])?;
    match Validated::<P>::new(invoice) {
        Ok(proof) => Ok(write(&proof, syntax).xml.into_bytes()),
        Err(rejected) => Err(rejected
            .report()
            .fatal()
            .map(|finding| format!("{} ({}, {})", finding.message, finding.rule, finding.path))
            .collect()),
    }
}

/// Maps a document as it stands; whether the result keeps all rules is the validator's to say.
fn invoice(document: &InvoiceDocument, specification: &str) -> Result<Invoice, String> {
    let words = Words::of(&document.locale);
    let amounts = Amounts(document.currency);
    let tax = Tax::of(document);
    let (first, last) = document.service_days();
    let number = shown(&document.invoice_number);
    let mut invoice =
        Invoice::builder(specification, number, date(document.issue_date)?, INVOICE, document.currency.code())
            .due_date(date(document.due_date)?)
            .payment_terms(fill(words.pay_by, &[("due", &words.date(document.due_date))]))
            .seller(seller(&document.seller, document.buyer.e_invoice)?)
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
    if document.buyer.e_invoice != EInvoice::FacturX {
        invoice.business_process = Some(BILLING.to_owned());
    }
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

fn seller(seller: &Seller, format: EInvoice) -> Result<Party, String> {
    let mut party = Party::new(shown(&seller.name), postal_address(&seller.address)?);
    party.vat_identifier = identifier(&seller.vat_id);
    party.tax_registration = shown_if(seller.tax_number.as_deref());
    party.legal_registration = shown_if(seller.registration.as_deref()).map(Identifier::new);
    if party.vat_identifier.is_none() && party.legal_registration.is_none() {
        // Something must identify it beside its tax.
        party.identifiers.extend(party.tax_registration.clone().map(Identifier::new));
    }
    party.contact.name = shown_if(seller.contact_name.as_deref());
    party.contact.phone = shown_if(seller.phone.as_deref());
    party.contact.email = shown_if(seller.email.as_deref());
    party.electronic_address = seller.electronic_address_for(format).map(electronic_address);
    Ok(party)
}

fn buyer(buyer: &Buyer) -> Result<Party, String> {
    let mut party = Party::new(shown(buyer.name.as_deref().unwrap_or_default()), postal_address(&buyer.address)?);
    party.vat_identifier = identifier(&buyer.vat_id);
    party.legal_registration = shown_if(buyer.registration.as_deref()).map(Identifier::new);
    party.electronic_address = buyer.electronic_address().map(electronic_address);
    Ok(party)
}

fn identifier(text: &Option<String>) -> Option<String> {
    text.as_deref().map(compact).filter(|text| !text.is_empty())
}

fn electronic_address(address: ElectronicAddress) -> Identifier {
    Identifier::schemed(address.id, address.scheme)
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
    let Some(iban) = identifier(&document.seller.iban) else {
        // XRechnung wants a way to pay, and this one says that none was agreed on.
        return (document.buyer.e_invoice == EInvoice::XRechnung)
            .then(|| PaymentInstructions { means_code: Some(NO_MEANS.into()), ..PaymentInstructions::default() });
    };
    // 58 is a SEPA transfer, which there is in euros only; 30 is any.
    let means_code = if document.currency.code() == "EUR" { "58" } else { "30" };
    Some(PaymentInstructions {
        means_code: Some(means_code.into()),
        remittance_information: Some(shown(&document.invoice_number)),
        means: Some(PaymentMeans::CreditTransfer(vec![CreditTransfer {
            account_identifier: Some(iban),
            account_name: shown_if(Some(&document.seller.name)),
            provider_identifier: identifier(&document.seller.bic),
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

/// Writes minor units as the standard's amounts; too fine ones were told before.
#[derive(Clone, Copy)]
struct Amounts(Currency);

impl Amounts {
    fn amount(self, minor: i64) -> Result<InvoiceAmount, String> {
        InvoiceAmount::from_decimal_exact(Decimal::new(minor, self.0.digits()).normalize())
            .map_err(|error| format!("{} {}: {error}", self.0.format(minor), self.0))
    }
}

fn period(first: NaiveDate, last: NaiveDate) -> Result<Period, String> {
    Ok(Period { start: Some(date(first)?), end: Some(date(last)?) })
}

fn date(date: NaiveDate) -> Result<Date, String> {
    Date::parse(&date.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::domain::brand::Brand;
    use crate::domain::document::AddressParts;
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
                "the seller has no VAT ID and no tax number",
                "the seller has no address in parts (streetAddress, postalCode, city, country)",
                "the buyer has no name",
                "the buyer has no VAT ID, which reverse charge needs",
                "the buyer has no address in parts (streetAddress, postalCode, city, country)",
            ]
        );
    }

    /// The sample with all that any kind of e-invoice needs.
    fn complete(format: EInvoice) -> InvoiceDocument {
        let some = |text: &str| Some(text.to_owned());
        let mut document = sample();
        document.seller.contact_name = some("Accounts");
        document.seller.phone = some("+49 40 1234567");
        document.buyer.e_invoice = format;
        document.buyer.vat_id = some("DE 987654321");
        document.buyer.own_electronic_address = some("0204:991-01234-56");
        document
    }

    #[test]
    fn xrechnung_and_peppol_are_ubl_of_their_own_profile_to_the_address_of_the_buyer() {
        for (format, specification) in [
            (EInvoice::XRechnung, "#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0<"),
            (EInvoice::PeppolUbl, "#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0<"),
        ] {
            let xml = xml(&complete(format));
            for said in [
                "urn:oasis:names:specification:ubl:schema:xsd:Invoice-2",
                specification,
                ">urn:fdc:peppol.eu:2017:poacc:billing:01:1.0<",
                r#"schemeID="0204">991-01234-56<"#,
                ">PO-77<",
                ">1377.00<",
            ] {
                assert!(xml.contains(said), "{said} is missing in:\n{xml}");
            }
        }
    }

    #[test]
    fn what_only_some_kinds_need_is_asked_of_them_alone() {
        let mut document = sample();
        document.buyer.reference = None;
        assert!(e_invoice_xml(&document).is_ok());
        document.buyer.e_invoice = EInvoice::PeppolUbl;
        assert_eq!(
            e_invoice_xml(&document).unwrap_err(),
            [
                "the buyer has no buyerReference, which Peppol BIS Billing needs",
                "the buyer has no electronicAddress, nor a VAT ID that stands for one, which Peppol BIS Billing needs",
            ]
        );
        document.buyer.e_invoice = EInvoice::XRechnung;
        assert_eq!(
            e_invoice_xml(&document).unwrap_err(),
            [
                "the seller has no contact (contactName), which XRechnung needs",
                "the seller has no phone, which XRechnung needs",
                "the buyer has no buyerReference, which XRechnung needs",
                "the buyer has no electronicAddress, which XRechnung needs",
            ]
        );
        document.buyer.e_invoice = EInvoice::None;
        assert_eq!(e_invoice_xml(&document).unwrap_err(), ["the customer wants none (eInvoice is none)"]);
    }

    #[test]
    fn a_seller_without_a_vat_id_is_known_by_its_tax_number_and_one_without_an_account_names_no_way_to_pay() {
        for format in [EInvoice::FacturX, EInvoice::XRechnung, EInvoice::PeppolUbl] {
            let mut document = complete(format);
            (document.seller.vat_id, document.seller.iban) = (None, None);
            document.seller.tax_number = Some("22/815/08150".into());
            document.seller.electronic_address = Some("0204:11-22".into());
            let xml = xml(&document);
            assert_eq!(xml.matches("22/815/08150").count(), 2, "{xml}");
        }
    }

    #[test]
    fn a_belgian_number_with_a_wrong_check_digit_is_found_by_the_check_and_not_by_what_is_missing() {
        let mut document = complete(EInvoice::PeppolUbl);
        document.buyer.own_electronic_address = Some("0208:0123456780".into());
        let InvoiceDocument { seller, buyer, tax_treatment, .. } = document;
        assert!(missing(&seller, &buyer, tax_treatment).is_empty());
        let reasons = refusals(&seller, &buyer, tax_treatment).join("; ");
        assert!(reasons.contains("PEPPOL-COMMON-R043"), "{reasons}");
    }

    #[test]
    fn the_lists_of_countries_and_schemes_are_those_of_the_rules() {
        use en16931::codes::generated::{COUNTRY_CODES, EAS_SCHEMES, PEPPOL_EAS_SCHEMES};
        // Every code that could be in a list is asked for, whether the rules know it or not.
        let letters = || ('A'..='Z').map(String::from);
        let digits = || (0..10_000).map(|n| format!("{n:04}"));
        let codes =
            letters().flat_map(|a| letters().map(move |b| format!("{a}{b}"))).chain(digits()).chain(["1A".into()]);
        for code in codes {
            let mut buyer = complete(EInvoice::PeppolUbl).buyer;
            buyer.own_electronic_address = Some(format!("{code}:4012345000009"));
            buyer.vat_id = None;
            let Address::Parts(parts) = &mut buyer.address else { panic!("parts") };
            parts.country = Some(code.clone());
            let missing = missing(&sample().seller, &buyer, TaxTreatment::Standard);
            let is_known = |what| !missing.iter().any(|missing| missing.contains(what));
            assert_eq!(is_known("country"), COUNTRY_CODES.contains(&&*code), "{code}");
            assert_eq!(is_known("electronicAddress"), PEPPOL_EAS_SCHEMES.contains(&&*code), "{code}");
            let address = ElectronicAddress::parse(&format!("{code}:4012345000009"));
            assert_eq!(address.is_ok(), EAS_SCHEMES.contains(&&*code), "{code}");
        }
    }

    /// A text that may be missing, blank or of use.
    fn perhaps(good: &'static str) -> impl Strategy<Value = Option<String>> {
        prop_oneof![1 => Just(None), 1 => Just(Some(" \u{202e}".to_owned())), 14 => Just(Some(good.to_owned()))]
    }

    prop_compose! {
        fn any_address()(
            street in perhaps("Street 1"), post_code in perhaps("10115"), city in perhaps("Berlin"),
            country in prop_oneof![4 => perhaps("de"), 1 => perhaps("Germany")], parts in prop::bool::weighted(0.9),
        ) -> Address {
            match parts {
                true => Address::Parts(AddressParts { street, post_code, city, country, ..AddressParts::default() }),
                false => Address::Lines(vec!["Street 1".into()]),
            }
        }
    }

    fn any_vat_id() -> impl Strategy<Value = Option<String>> {
        prop_oneof![4 => perhaps("DE 123456789"), 1 => perhaps("el123456789"), 1 => perhaps("123"), 1 => perhaps("Ä")]
    }

    fn any_electronic_address() -> impl Strategy<Value = Option<String>> {
        prop_oneof![perhaps("0204:991-01234-56"), perhaps("EM:pay@acme.example"), perhaps("nonsense")]
    }

    prop_compose! {
        fn any_seller()(
            name in perhaps("Shop"), address in any_address(), vat_id in any_vat_id(), tax_number in perhaps("22/815"),
            registration in perhaps("HRB 1"), contact_name in perhaps("Accounts"), phone in perhaps("+49 40 123"),
            email in perhaps("help@shop.example"), electronic_address in any_electronic_address(),
            iban in perhaps("DE02120300000000202051"), bic in perhaps("BYLADEM1001"),
        ) -> Seller {
            let name = name.unwrap_or_default();
            Seller {
                name, address, vat_id, tax_number, registration, contact_name, phone, email, electronic_address, iban, bic,
                brand: Brand::default(),
            }
        }
    }

    prop_compose! {
        fn any_buyer()(
            name in perhaps("ACME"), address in any_address(), vat_id in any_vat_id(), registration in perhaps("HRB 2"),
            email in perhaps("pay@acme.example"), own_electronic_address in any_electronic_address(),
            e_invoice in prop::sample::select(vec![EInvoice::FacturX, EInvoice::XRechnung, EInvoice::PeppolUbl]),
            reference in perhaps("PO-77"),
        ) -> Buyer {
            Buyer {
                name, person: None, address, vat_id, registration, email, e_invoice, own_electronic_address, reference,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn an_e_invoice_for_which_nothing_is_missing_is_made(
            seller in any_seller(), buyer in any_buyer(),
            treatment in prop::sample::select(vec![TaxTreatment::Standard, TaxTreatment::Exempt, TaxTreatment::ReverseCharge]),
        ) {
            let missing = missing(&seller, &buyer, treatment);
            prop_assert_eq!(refusals(&seller, &buyer, treatment), missing);
        }
    }

    #[test]
    fn a_country_by_name_and_a_vat_id_without_its_country_are_named() {
        let mut document = sample();
        let Address::Parts(parts) = &mut document.buyer.address else { panic!("parts") };
        parts.country = Some("Germany".into());
        let missing = e_invoice_xml(&document).unwrap_err();
        assert_eq!(missing, ["the buyer has the country \"Germany\", which is not a two-letter code such as DE"]);

        let mut document = sample();
        document.seller.vat_id = Some("123".into());
        let missing = e_invoice_xml(&document).unwrap_err();
        assert_eq!(missing, ["the seller has the VAT ID \"123\", which does not begin with a country such as DE"]);
    }
}
