//! What an invoice says: one value from which mail, PDF and XML are made, so that they cannot differ.

use chrono::NaiveDate;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::brand::Brand;
use super::calendar::BillingPeriod;
use super::e_invoice::EInvoice;
use super::money::Currency;
use super::payment::PaymentStatus;
use super::tax::TaxTreatment;

/// Lines that a mail lists; of more it tells only how many and their sum.
pub const LINES_LISTED_MAX: usize = 100;

/// Everything that is said to the buyer of a payment; amounts in minor units of `currency`.
///
/// It comes from the payment's snapshot (rule 24), so that a later change of customer or price does not reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceDocument {
    pub tenant_id: String,
    pub payment_id: String,
    pub invoice_number: String,
    pub issue_date: NaiveDate,
    pub due_date: NaiveDate,
    pub seller: Seller,
    pub buyer: Buyer,
    /// The group's name, or the product's.
    pub subject_name: String,
    pub billing_period: BillingPeriod,
    pub currency: Currency,
    pub subtotal: i64,
    pub tax_amount: i64,
    pub total: i64,
    /// Parts per million: 19 % is 190,000.
    pub tax_rate_ppm: i64,
    pub tax_treatment: TaxTreatment,
    /// For the mail alone, which does not ask again for what is paid: the invoice itself stays as it was issued.
    pub status: PaymentStatus,
    /// Those of the payment's own period, then arrears, oldest period first.
    pub lines: Vec<InvoiceLine>,
    /// The language that it is written in, such as `de` or `de-AT`.
    pub locale: String,
    /// What an invoice would say that was not made: without a number, and marked so.
    pub is_preview: bool,
}

impl InvoiceDocument {
    /// The lines that a mail lists, how many it does not, and their net sum.
    pub fn listed(&self) -> (&[InvoiceLine], usize, i64) {
        let (listed, rest) = self.lines.split_at(self.lines.len().min(LINES_LISTED_MAX));
        (listed, rest.len(), rest.iter().map(|line| line.amount).sum())
    }

    /// The lines, period by period.
    pub fn periods(&self) -> impl Iterator<Item = &[InvoiceLine]> {
        self.lines.chunk_by(|a, b| a.billing_period == b.billing_period)
    }

    /// From the first day of the earliest period to the last day of the latest.
    pub fn service_days(&self) -> (NaiveDate, NaiveDate) {
        let periods = || self.lines.iter().map(|line| line.billing_period);
        let first = periods().min().unwrap_or(self.billing_period);
        let last = periods().max().unwrap_or(self.billing_period);
        (first.first_day(), last.last_day())
    }

    /// How many days the buyer has to pay.
    pub fn terms_days(&self) -> i64 {
        (self.due_date - self.issue_date).num_days().max(0)
    }
}

/// A file that an invoice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentKind {
    Pdf,
    /// An e-invoice beside the PDF; that of Factur-X is inside.
    Xml,
}

super::words!(DocumentKind { Pdf = "pdf", Xml = "xml" });

/// A document as it went out: where it is kept, and by what it is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDocument {
    pub tenant_id: String,
    pub payment_id: String,
    pub kind: DocumentKind,
    pub sha256: String,
    pub bytes: i64,
    /// Below the place that the settings name, in parts joined by `/`.
    pub place: String,
    /// Microseconds UTC.
    pub created_at: i64,
}

/// The hash by which a file is known: SHA-256 in hexadecimal.
pub fn sha256_of(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// One charge on an invoice; amounts are net.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceLine {
    pub rental_id: String,
    pub product_name: String,
    pub serial_number: Option<String>,
    pub billing_period: BillingPeriod,
    pub amount: i64,
    pub tax_amount: i64,
    /// The period lies before the payment's: a gap that is charged now (rule 8).
    pub arrears: bool,
}

/// Who sends the invoice, as it was when the invoice was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seller {
    /// The legal name if there is one, else the tenant's.
    pub name: String,
    pub address: Address,
    pub vat_id: Option<String>,
    /// The number that the tax office knows it by; where there is no VAT ID, invoices show this one.
    pub tax_number: Option<String>,
    /// Its number in a register of companies, such as a SIREN.
    pub registration: Option<String>,
    /// Whom buyers may ask.
    pub contact_name: Option<String>,
    pub phone: Option<String>,
    pub email: Option<String>,
    /// `SCHEME:ID`, as it was given.
    pub electronic_address: Option<String>,
    pub iban: Option<String>,
    pub bic: Option<String>,
    pub brand: Brand,
}

/// Who gets the invoice, as it was when the invoice was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Buyer {
    /// The company, else the person.
    pub name: Option<String>,
    /// The person, to be greeted by name.
    pub person: Option<String>,
    pub address: Address,
    pub vat_id: Option<String>,
    /// Its number in a register of companies, such as a SIREN.
    pub registration: Option<String>,
    /// Where its invoices are mailed to.
    pub email: Option<String>,
    pub e_invoice: EInvoice,
    /// `SCHEME:ID`, as it was given.
    pub own_electronic_address: Option<String>,
    /// What the buyer wants to read on its invoices, such as an order number.
    pub reference: Option<String>,
}

/// Where a party is: in parts, or as lines of text of which nobody knows which is which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Parts(AddressParts),
    Lines(Vec<String>),
}

/// An address in parts; any may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressParts {
    pub company: Option<String>,
    pub contact: Option<String>,
    pub street: Option<String>,
    pub building: Option<String>,
    pub post_code: Option<String>,
    pub city: Option<String>,
    pub region: Option<String>,
    /// Two letters, or a name as the source wrote it.
    pub country: Option<String>,
}

impl Address {
    /// The address as on a letter, below the name of whoever lives there.
    pub fn lines_below(&self, name: &str) -> Vec<String> {
        let mut lines = match self {
            Self::Lines(lines) => lines.clone(),
            Self::Parts(parts) => parts.lines(),
        };
        lines.retain(|line| line != name);
        lines
    }

    /// The parts, if there are any.
    pub fn parts(&self) -> Option<&AddressParts> {
        match self {
            Self::Parts(parts) if *parts != AddressParts::default() => Some(parts),
            _ => None,
        }
    }
}

impl Default for Address {
    fn default() -> Self {
        Self::Parts(AddressParts::default())
    }
}

impl AddressParts {
    fn lines(&self) -> Vec<String> {
        let city: Vec<&str> = [&self.post_code, &self.city].into_iter().flatten().map(String::as_str).collect();
        let city = (!city.is_empty()).then(|| city.join(" "));
        let lines = [&self.company, &self.contact, &self.street, &self.building, &city, &self.region, &self.country];
        lines.into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_on_a_letter_and_does_not_say_the_name_again() {
        let some = |text: &str| Some(text.to_owned());
        let address = Address::Parts(AddressParts {
            company: some("ACME"),
            contact: some("Anna"),
            street: some("Street 1"),
            building: some("2nd floor"),
            post_code: some("10115"),
            city: some("Berlin"),
            region: None,
            country: some("DE"),
        });
        assert_eq!(address.lines_below("ACME"), ["Anna", "Street 1", "2nd floor", "10115 Berlin", "DE"]);
        assert_eq!(Address::Lines(vec!["Anna".into(), "Street 1".into()]).lines_below("Anna"), ["Street 1"]);
        assert_eq!((Address::default().parts(), Address::default().lines_below("")), (None, vec![]));
    }

    fn line(period: &str, amount: i64) -> InvoiceLine {
        InvoiceLine {
            rental_id: "R".into(),
            product_name: "Laptop".into(),
            serial_number: None,
            billing_period: BillingPeriod::parse(period).unwrap(),
            amount,
            tax_amount: 0,
            arrears: false,
        }
    }

    fn invoice(lines: Vec<InvoiceLine>) -> InvoiceDocument {
        let day = |text| crate::domain::calendar::parse_date(text).unwrap();
        InvoiceDocument {
            tenant_id: "T".into(),
            payment_id: "P".into(),
            invoice_number: "1".into(),
            issue_date: day("2026-03-10"),
            due_date: day("2026-03-24"),
            seller: Seller::default(),
            buyer: Buyer::default(),
            subject_name: "Office".into(),
            billing_period: BillingPeriod::parse("2026-03").unwrap(),
            currency: Currency::from_code("EUR").unwrap(),
            subtotal: 0,
            tax_amount: 0,
            total: 0,
            tax_rate_ppm: 0,
            tax_treatment: TaxTreatment::Standard,
            status: PaymentStatus::Pending,
            lines,
            locale: "en".into(),
            is_preview: false,
        }
    }

    #[test]
    fn a_mail_lists_a_hundred_lines_and_sums_the_rest() {
        let lines = |count: i64| invoice((1..=count).map(|amount| line("2026-03", amount)).collect());
        let hundred = lines(100);
        assert_eq!((hundred.listed().0.len(), hundred.listed().1, hundred.listed().2), (100, 0, 0));
        let more = lines(102);
        let (listed, rest, sum) = more.listed();
        assert_eq!((listed.len(), listed[99].amount, rest, sum), (100, 100, 2, 101 + 102));
    }

    #[test]
    fn lines_are_taken_period_by_period_and_cover_the_days_of_the_first_to_the_last() {
        let own = invoice(vec![line("2026-03", 1), line("2026-03", 2), line("2026-01", 3), line("2026-02", 4)]);
        let amounts: Vec<Vec<i64>> = own.periods().map(|of| of.iter().map(|line| line.amount).collect()).collect();
        assert_eq!(amounts, [vec![1, 2], vec![3], vec![4]]);
        let days = |invoice: InvoiceDocument| {
            let (first, last) = invoice.service_days();
            format!("{first} {last}")
        };
        assert_eq!(days(own), "2026-01-01 2026-03-31");
        assert_eq!(days(invoice(vec![line("2026-02", 1)])), "2026-02-01 2026-02-28", "arrears alone");
        assert_eq!(days(invoice(vec![])), "2026-03-01 2026-03-31");
    }

    #[test]
    fn the_days_to_pay_are_never_below_none() {
        let own = invoice(vec![]);
        assert_eq!(own.terms_days(), 14);
        let (issue_date, due_date) = (own.due_date, own.issue_date);
        assert_eq!(InvoiceDocument { issue_date, due_date, ..own }.terms_days(), 0);
    }

    #[test]
    fn a_file_is_known_by_its_sha256() {
        assert_eq!(sha256_of(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn an_address_has_parts_if_any_part_is_told() {
        let city = AddressParts { city: Some("Berlin".into()), ..AddressParts::default() };
        assert_eq!(Address::Parts(city.clone()).parts(), Some(&city));
        assert_eq!(Address::Parts(city).lines_below("ACME"), ["Berlin"]);
        assert_eq!(Address::Lines(vec!["Berlin".into()]).parts(), None);
    }
}
