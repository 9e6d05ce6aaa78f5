//! E-invoices: which one a customer wants, and what seller and buyer must have told for it.
//!
//! What is missing is known before any invoice is made, from the data alone: the report of a run says it, and
//! `invoice check` before billing day.

use super::document::{Address, Buyer, Seller};
use super::message::{shown, shown_if};
use super::money::Currency;
use super::tax::TaxTreatment;

/// How a customer wants invoices as data, beside the PDF that everybody gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum EInvoice {
    /// EN 16931 as CII inside the PDF.
    #[default]
    FacturX,
    /// What German authorities take: UBL beside the PDF.
    XRechnung,
    /// What the Peppol network takes: UBL beside the PDF.
    PeppolUbl,
    /// The PDF alone.
    None,
}

super::words!(EInvoice { FacturX = "facturX", XRechnung = "xRechnung", PeppolUbl = "peppolUbl", None = "none" });

impl EInvoice {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::FacturX => "Factur-X",
            Self::XRechnung => "XRechnung",
            Self::PeppolUbl => "Peppol BIS Billing",
            Self::None => "no e-invoice",
        }
    }
}

/// Where e-invoices of a party go to: an id, and the list (EAS) that says what kind of id it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElectronicAddress {
    pub scheme: String,
    pub id: String,
}

/// The lists of ids that electronic addresses may name; a test compares it with the rules.
const SCHEMES: &str = "0002 0007 0009 0037 0060 0088 0096 0097 0106 0130 0135 0142 0147 0151 0154 0158 0170 0177 0183 \
    0184 0188 0190 0191 0192 0193 0194 0195 0196 0198 0199 0200 0201 0202 0203 0204 0205 0208 0209 0210 0211 0212 0213 \
    0215 0216 0217 0218 0219 0220 0221 0225 0230 0235 0240 0242 0244 0245 0246 0248 9910 9913 9914 9915 9918 9919 9920 \
    9922 9923 9924 9925 9926 9927 9928 9929 9930 9931 9932 9933 9934 9935 9936 9937 9938 9939 9940 9941 9942 9943 9944 \
    9945 9946 9947 9948 9949 9950 9951 9952 9953 9957 9959 AN AQ AS AU EM";

/// Those of them that Peppol does not route.
const NOT_IN_PEPPOL: &str =
    "0037 0147 0154 0170 0177 0193 0194 0202 0203 0205 0212 0213 0215 0217 0219 0220 AN AQ AS AU EM";

/// Countries with the list under which their VAT IDs are electronic addresses.
const VAT_SCHEMES: &str = "AD 9922 AL 9923 AT 9914 BA 9924 BG 9926 CH 9927 CY 9928 CZ 9929 DE 9930 EE 9931 EL 9933 \
    ES 9920 FR 9957 GB 9932 HR 9934 HU 9910 IE 9935 IT 0211 LI 9936 LT 9937 LU 9938 LV 9939 MC 9940 ME 9941 MK 9942 \
    MT 9943 NL 9944 PL 9945 PT 9946 RO 9947 RS 9948 SI 9949 SK 9950 SM 9951 TR 9952 VA 9953";

/// The mail address as an electronic address.
const EMAIL: &str = "EM";

impl ElectronicAddress {
    /// Reads `SCHEME:ID`; the error reads as the end of a sentence that names it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some((scheme, id)) = text.split_once(':') else {
            return Err("is not written SCHEME:ID, such as 0204:991-01234-56 or 9930:DE123456789");
        };
        let id = shown(id);
        if !has_word(SCHEMES, scheme) {
            return Err("names a scheme that is none of the list EAS, such as 0204 or 9930");
        }
        if id.is_empty() {
            return Err("has nothing behind its scheme");
        }
        // The one whose form is checked by every profile.
        if scheme == "0088" && (id.len() != 13 || !id.bytes().all(|b| b.is_ascii_digit())) {
            return Err("is no GLN, which has 13 digits");
        }
        Ok(Self { scheme: scheme.to_owned(), id })
    }

    /// The address of a party for one kind of e-invoice: its own, else one that follows from what else is known of it.
    fn find(format: EInvoice, own: Option<&str>, email: Option<&str>, vat_id: Option<&str>) -> Option<Self> {
        let own = own.and_then(|text| Self::parse(text).ok());
        let mail = || shown_if(email).map(|id| Self { scheme: EMAIL.to_owned(), id });
        match format {
            EInvoice::FacturX => own.or_else(mail),
            EInvoice::XRechnung => own.or_else(mail).or_else(|| Self::of_vat_id(vat_id?)),
            EInvoice::PeppolUbl => {
                own.filter(|own| !has_word(NOT_IN_PEPPOL, &own.scheme)).or_else(|| Self::of_vat_id(vat_id?))
            }
            EInvoice::None => None,
        }
    }

    fn of_vat_id(vat_id: &str) -> Option<Self> {
        let vat_id = compact(vat_id);
        let (country, number) = vat_id.split_at_checked(2)?;
        if country == "BE" {
            // Belgian addresses are the enterprise's number, which is the VAT ID's.
            return Some(Self { scheme: "0208".to_owned(), id: number.to_owned() });
        }
        let country = if country == "GR" { "EL" } else { country };
        let mut words = VAT_SCHEMES.split_whitespace();
        while let (Some(known), Some(scheme)) = (words.next(), words.next()) {
            if known == country {
                return Some(Self { scheme: scheme.to_owned(), id: vat_id });
            }
        }
        None
    }
}

impl Seller {
    /// Where its e-invoices come from.
    pub fn electronic_address_for(&self, format: EInvoice) -> Option<ElectronicAddress> {
        let (own, email) = (self.electronic_address.as_deref(), self.email.as_deref());
        ElectronicAddress::find(format, own, email, self.vat_id.as_deref())
    }
}

impl Buyer {
    /// Where its e-invoices go to.
    pub fn electronic_address(&self) -> Option<ElectronicAddress> {
        // Receivers of Factur-X read it from the mail: it names a mail address only where one was given for that.
        let email = self.email.as_deref().filter(|_| self.e_invoice != EInvoice::FacturX);
        ElectronicAddress::find(self.e_invoice, self.own_electronic_address.as_deref(), email, self.vat_id.as_deref())
    }
}

/// What keeps a buyer from getting the e-invoice that it wants, one thing an entry; nothing for one who wants none.
pub fn missing(seller: &Seller, buyer: &Buyer, treatment: TaxTreatment) -> Vec<String> {
    let mut missing = missing_of_seller(seller, buyer.e_invoice);
    missing.extend(missing_of_buyer(buyer, treatment));
    missing
}

/// The seller's part of [`missing`].
pub fn missing_of_seller(seller: &Seller, format: EInvoice) -> Vec<String> {
    let mut missing = Missing::of("seller", format);
    if format == EInvoice::None {
        return missing.said;
    }
    missing.unless(!shown(&seller.name).is_empty(), "has no name");
    match shown_if(seller.vat_id.as_deref()) {
        None => missing.unless(is_said(&seller.tax_number), "has no VAT ID and no tax number"),
        Some(vat_id) => missing.check_vat_id(&vat_id),
    }
    missing.check_address(&seller.address);
    if format == EInvoice::XRechnung {
        missing.needs(is_said(&seller.contact_name), "has no contact (contactName)");
        missing.needs(is_said(&seller.phone), "has no phone");
        missing.needs(is_said(&seller.email), "has no email");
    }
    missing.check_electronic_address(seller.electronic_address_for(format).is_some());
    missing.said
}

/// The buyer's part of [`missing`].
pub fn missing_of_buyer(buyer: &Buyer, treatment: TaxTreatment) -> Vec<String> {
    let format = buyer.e_invoice;
    let mut missing = Missing::of("buyer", format);
    if format == EInvoice::None {
        return missing.said;
    }
    missing.unless(is_said(&buyer.name), "has no name");
    match shown_if(buyer.vat_id.as_deref()) {
        None => {
            missing.unless(treatment != TaxTreatment::ReverseCharge, "has no VAT ID, which reverse charge needs");
        }
        Some(vat_id) => missing.check_vat_id(&vat_id),
    }
    missing.check_address(&buyer.address);
    if matches!(format, EInvoice::XRechnung | EInvoice::PeppolUbl) {
        missing.needs(is_said(&buyer.reference), "has no buyerReference");
    }
    missing.check_electronic_address(buyer.electronic_address().is_some());
    missing.said
}

/// An amount that the standard cannot say, since its amounts have two decimals in every currency.
pub fn too_fine(format: EInvoice, currency: Currency, amounts: impl IntoIterator<Item = i64>) -> Option<String> {
    if format == EInvoice::None {
        return None;
    }
    let unit = 10_i64.pow(currency.digits().saturating_sub(2));
    let minor = amounts.into_iter().find(|minor| minor % unit != 0)?;
    Some(format!("{} {currency} has more than the two decimals of an e-invoice", currency.format(minor)))
}

/// What one party lacks, as sentences about it.
struct Missing {
    whose: &'static str,
    format: EInvoice,
    said: Vec<String>,
}

impl Missing {
    fn of(whose: &'static str, format: EInvoice) -> Self {
        Self { whose, format, said: Vec::new() }
    }

    fn unless(&mut self, fine: bool, what: &str) {
        if !fine {
            self.said.push(format!("the {} {what}", self.whose));
        }
    }

    /// Something that only some kinds of e-invoice want.
    fn needs(&mut self, fine: bool, what: &str) {
        self.unless(fine, &format!("{what}, which {} needs", self.format.name()));
    }

    fn check_vat_id(&mut self, vat_id: &str) {
        let country = compact(vat_id).chars().take(2).collect::<String>();
        let what = format!("has the VAT ID \"{vat_id}\", which does not begin with a country such as DE");
        self.unless(country == "EL" || has_word(COUNTRIES, &country), &what);
    }

    fn check_address(&mut self, address: &Address) {
        let Some(parts) = address.parts() else {
            return self.unless(false, "has no address in parts (streetAddress, postalCode, city, country)");
        };
        self.unless(is_said(&parts.city), "has no city in its address");
        if self.format == EInvoice::XRechnung {
            self.needs(is_said(&parts.post_code), "has no postalCode in its address");
        }
        match shown_if(parts.country.as_deref()) {
            None => self.unless(false, "has no country in its address"),
            Some(country) => {
                let what = format!("has the country \"{country}\", which is not a two-letter code such as DE");
                self.unless(has_word(COUNTRIES, &country.to_ascii_uppercase()), &what);
            }
        }
    }

    fn check_electronic_address(&mut self, found: bool) {
        match self.format {
            EInvoice::XRechnung => self.needs(found, "has no electronicAddress"),
            EInvoice::PeppolUbl => {
                self.needs(found, "has no electronicAddress, nor a VAT ID that stands for one");
            }
            EInvoice::FacturX | EInvoice::None => {}
        }
    }
}

fn is_said(text: &Option<String>) -> bool {
    shown_if(text.as_deref()).is_some()
}

/// Whether a list of words has one; an empty or composed one is in none.
fn has_word(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == word)
}

/// An identifier without spaces, in capital letters.
pub fn compact(text: &str) -> String {
    shown(text).chars().filter(|c| !c.is_whitespace()).collect::<String>().to_uppercase()
}

/// Every country that an address may name (ISO 3166-1, with Kosovo and Northern Ireland); a test compares it with the rules.
const COUNTRIES: &str = "1A AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR \
    BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI \
    FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS \
    IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO \
    MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA \
    RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT \
    TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XI YE YT ZA ZM ZW";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::document::AddressParts;

    #[test]
    fn an_electronic_address_is_its_own_or_follows_from_what_is_known() {
        let buyer = |e_invoice, own: &str, email: &str, vat_id: &str| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let buyer = Buyer {
                e_invoice,
                own_electronic_address: some(own),
                email: some(email),
                vat_id: some(vat_id),
                ..Buyer::default()
            };
            buyer.electronic_address().map(|address| format!("{}:{}", address.scheme, address.id))
        };
        for (format, own, email, vat_id, expected) in [
            (EInvoice::XRechnung, "0204:991-01234-56", "a@b.example", "DE1", Some("0204:991-01234-56")),
            (EInvoice::XRechnung, "", "a@b.example", "DE1", Some("EM:a@b.example")),
            (EInvoice::XRechnung, "", "", "de 1", Some("9930:DE1")),
            (EInvoice::PeppolUbl, "", "a@b.example", "DE1", Some("9930:DE1")),
            (EInvoice::PeppolUbl, "EM:a@b.example", "", "EL123", Some("9933:EL123")),
            (EInvoice::PeppolUbl, "0208:0123456749", "", "", Some("0208:0123456749")),
            (EInvoice::PeppolUbl, "", "", "BE 0123.456.749", Some("0208:0123.456.749")),
            (EInvoice::PeppolUbl, "", "a@b.example", "US1", None),
            (EInvoice::PeppolUbl, "", "", "GR123", Some("9933:GR123")),
            (EInvoice::PeppolUbl, "", "", "D", None),
            (EInvoice::PeppolUbl, "", "a@b.example", "", None),
            (EInvoice::XRechnung, "", "", "", None),
            (EInvoice::XRechnung, "9999:1", "a@b.example", "", Some("EM:a@b.example")),
            (EInvoice::FacturX, "", "a@b.example", "DE1", None),
            (EInvoice::FacturX, "EM:a@b.example", "", "", Some("EM:a@b.example")),
            (EInvoice::None, "0204:1", "a@b.example", "DE1", None),
        ] {
            assert_eq!(buyer(format, own, email, vat_id).as_deref(), expected, "{format:?} {own} {email} {vat_id}");
        }
    }

    #[test]
    fn what_is_no_electronic_address_is_told_from_what_is() {
        for text in [
            "",
            "DE123456789",
            "9999:DE1",
            "0204:",
            "0204: \u{202e}",
            "0088:123",
            "0088:401234500000x",
            "0002 0007:1",
            ":1",
            "em:a@b.example",
        ] {
            assert!(ElectronicAddress::parse(text).is_err(), "{text}");
        }
        for text in ["0204:991-01234-56", "0088:4012345000009", "EM:a@b.example"] {
            assert!(ElectronicAddress::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn who_wants_no_e_invoice_lacks_nothing() {
        let buyer = Buyer { e_invoice: EInvoice::None, ..Buyer::default() };
        assert!(missing(&Seller::default(), &buyer, TaxTreatment::ReverseCharge).is_empty());
    }

    #[test]
    fn an_amount_with_a_third_decimal_is_too_fine() {
        let currency = |code| Currency::from_code(code).unwrap();
        assert_eq!(too_fine(EInvoice::FacturX, currency("EUR"), [1, 2]), None);
        assert_eq!(too_fine(EInvoice::FacturX, currency("JPY"), [1]), None);
        assert_eq!(too_fine(EInvoice::FacturX, currency("KWD"), [1_230, 0]), None);
        assert_eq!(too_fine(EInvoice::None, currency("KWD"), [1_234]), None);
        let said = too_fine(EInvoice::FacturX, currency("KWD"), [1_230, 1_234]).unwrap();
        assert_eq!(said, "1.234 KWD has more than the two decimals of an e-invoice");
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn address(post_code: &str, city: &str, country: &str) -> Address {
        let (post_code, city, country) = (some(post_code), some(city), some(country));
        Address::Parts(AddressParts { post_code, city, country, ..AddressParts::default() })
    }

    /// One who has told all that any e-invoice needs.
    fn seller() -> Seller {
        Seller {
            name: "ACME".into(),
            address: address("10115", "Berlin", "DE"),
            vat_id: some("DE123456789"),
            contact_name: some("Anna"),
            phone: some("+49 30 1"),
            email: some("a@acme.example"),
            ..Seller::default()
        }
    }

    /// Likewise.
    fn buyer(e_invoice: EInvoice) -> Buyer {
        Buyer {
            name: some("Office GmbH"),
            address: address("20095", "Hamburg", "de"),
            vat_id: some("DE987654321"),
            email: some("b@office.example"),
            e_invoice,
            reference: some("04011000-1"),
            ..Buyer::default()
        }
    }

    const FORMATS: [EInvoice; 3] = [EInvoice::FacturX, EInvoice::XRechnung, EInvoice::PeppolUbl];

    #[test]
    fn who_has_told_everything_lacks_nothing() {
        for format in FORMATS {
            for treatment in [TaxTreatment::Standard, TaxTreatment::Exempt, TaxTreatment::ReverseCharge] {
                assert_eq!(missing(&seller(), &buyer(format), treatment), Vec::<String>::new(), "{format:?}");
            }
        }
    }

    /// What each of the three kinds, in order, finds missing; `-` for nothing.
    fn lacks(all: [Vec<String>; 3]) -> [String; 3] {
        all.map(|said| if said.is_empty() { "-".to_owned() } else { said.join("; ") })
    }

    #[test]
    fn what_a_seller_has_not_told_is_named_for_each_kind_that_needs_it() {
        let lacks = |change: fn(&mut Seller)| {
            let mut seller = seller();
            change(&mut seller);
            lacks(FORMATS.map(|format| missing_of_seller(&seller, format)))
        };
        assert_eq!(lacks(|s| s.name = " \u{feff}".into()), ["the seller has no name"; 3]);
        assert_eq!(
            lacks(|s| s.vat_id = None),
            [
                "the seller has no VAT ID and no tax number",
                "the seller has no VAT ID and no tax number",
                "the seller has no VAT ID and no tax number; \
                 the seller has no electronicAddress, nor a VAT ID that stands for one, which Peppol BIS Billing needs",
            ]
        );
        let by_number = lacks(|s| (s.vat_id, s.tax_number) = (None, some("30/123/45678")));
        assert_eq!(by_number[..2], ["-", "-"]);
        let vat_id = "the seller has the VAT ID \"123\", which does not begin with a country such as DE";
        assert_eq!(lacks(|s| s.vat_id = some("123"))[..2], [vat_id; 2]);
        assert_eq!(lacks(|s| s.vat_id = some("el 123456789")), ["-"; 3]);
        let in_parts = "the seller has no address in parts (streetAddress, postalCode, city, country)";
        assert_eq!(lacks(|s| s.address = Address::Lines(vec!["Street 1".into()])), [in_parts; 3]);
        assert_eq!(lacks(|s| s.address = address("10115", "", "DE")), ["the seller has no city in its address"; 3]);
        assert_eq!(
            lacks(|s| s.address = address("10115", "Berlin", "")),
            ["the seller has no country in its address"; 3]
        );
        assert_eq!(
            lacks(|s| s.address = address("10115", "Berlin", "Germany")),
            ["the seller has the country \"Germany\", which is not a two-letter code such as DE"; 3]
        );
        let of_xrechnung =
            |what: &str| ["-".to_owned(), format!("the seller has no {what}, which XRechnung needs"), "-".to_owned()];
        assert_eq!(lacks(|s| s.address = address("", "Berlin", "DE")), of_xrechnung("postalCode in its address"));
        assert_eq!(lacks(|s| s.contact_name = None), of_xrechnung("contact (contactName)"));
        assert_eq!(lacks(|s| s.phone = None), of_xrechnung("phone"));
        assert_eq!(lacks(|s| s.email = None), of_xrechnung("email"));
        let nowhere = lacks(|s| (s.vat_id, s.tax_number, s.email) = (None, some("1"), None));
        assert_eq!(
            nowhere[1],
            "the seller has no email, which XRechnung needs; the seller has no electronicAddress, which XRechnung needs"
        );
        assert_eq!(lacks(|s| (s.vat_id, s.electronic_address) = (some("US1"), some("0204:991-01234-56"))), ["-"; 3]);
    }

    #[test]
    fn what_a_buyer_has_not_told_is_named_for_each_kind_that_needs_it() {
        let lacks = |change: fn(&mut Buyer), treatment| {
            lacks(FORMATS.map(|format| {
                let mut buyer = buyer(format);
                change(&mut buyer);
                missing(&seller(), &buyer, treatment)
            }))
        };
        let standard = |change| lacks(change, TaxTreatment::Standard);
        assert_eq!(standard(|b| b.name = None), ["the buyer has no name"; 3]);
        let reference = |format| format!("the buyer has no buyerReference, which {format} needs");
        assert_eq!(
            standard(|b| b.reference = some(" ")),
            ["-".to_owned(), reference("XRechnung"), reference("Peppol BIS Billing")]
        );
        assert_eq!(standard(|b| b.vat_id = None)[..2], ["-", "-"]);
        let reverse_charge = lacks(|b| b.vat_id = None, TaxTreatment::ReverseCharge);
        assert_eq!(reverse_charge[..2], ["the buyer has no VAT ID, which reverse charge needs"; 2]);
        let vat_id = "the buyer has the VAT ID \"X\", which does not begin with a country such as DE";
        assert_eq!(standard(|b| b.vat_id = some("X"))[..2], [vat_id; 2]);
        assert_eq!(
            standard(|b| b.address = address("", "", "")),
            [
                "the buyer has no city in its address; the buyer has no country in its address",
                "the buyer has no city in its address; the buyer has no postalCode in its address, which XRechnung needs; \
                 the buyer has no country in its address",
                "the buyer has no city in its address; the buyer has no country in its address",
            ]
        );
        assert_eq!(
            standard(|b| (b.vat_id, b.email) = (None, None)),
            [
                "-",
                "the buyer has no electronicAddress, which XRechnung needs",
                "the buyer has no electronicAddress, nor a VAT ID that stands for one, which Peppol BIS Billing needs",
            ]
        );
    }

    #[test]
    fn a_seller_is_reached_where_its_buyer_looks_for_it() {
        let at = |format| seller().electronic_address_for(format).map(|at| format!("{}:{}", at.scheme, at.id));
        assert_eq!(at(EInvoice::FacturX).as_deref(), Some("EM:a@acme.example"));
        assert_eq!(at(EInvoice::XRechnung).as_deref(), Some("EM:a@acme.example"));
        assert_eq!(at(EInvoice::PeppolUbl).as_deref(), Some("9930:DE123456789"));
        assert_eq!(at(EInvoice::None), None);
    }

    #[test]
    fn each_kind_has_the_name_by_which_people_call_it() {
        let names = [FORMATS[0], FORMATS[1], FORMATS[2], EInvoice::None].map(EInvoice::name);
        assert_eq!(names, ["Factur-X", "XRechnung", "Peppol BIS Billing", "no e-invoice"]);
    }
}
