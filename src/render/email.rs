//! The invoice mail in words: subject, plain text and HTML, each from its own template.
//!
//! Templates only place what is handed to them; every amount, date and sentence is made here, and every text from outside is
//! cleaned here, once.

use anyhow::Context;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use crate::domain::message::{Buyer, InvoiceLine, InvoiceMail, RenderedMail, Seller, clean};
use crate::domain::money::format_percent;
use crate::domain::payment::PaymentStatus;
use crate::domain::{BillingPeriod, TaxTreatment};

use super::words::{Words, fill};

const TEXT: &str = "invoice_mail.txt";
const HTML: &str = "invoice_mail.html";

/// Longest name, address line or number that is shown, in characters.
const SHOWN_MAX: usize = 200;
/// Longest subject, in characters: mail programs show fewer.
const SUBJECT_MAX: usize = 150;

/// The templates of mails, read once.
pub struct MailTemplates {
    environment: Environment<'static>,
}

impl MailTemplates {
    pub fn new() -> anyhow::Result<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.add_template(TEXT, include_str!("templates/invoice_mail.txt"))?;
        environment.add_template(HTML, include_str!("templates/invoice_mail.html"))?;
        Ok(Self { environment })
    }

    /// Writes the mail in the words of `locale`.
    pub fn render(&self, mail: &InvoiceMail, locale: &str) -> anyhow::Result<RenderedMail> {
        let view = View::new(mail, Words::of(locale));
        let part = |name| -> anyhow::Result<String> {
            self.environment
                .get_template(name)
                .and_then(|template| template.render(Serde(&view)))
                .with_context(|| format!("cannot render {name} of invoice {}", mail.invoice_number))
        };
        Ok(RenderedMail { text: part(TEXT)?, html: part(HTML)?, subject: view.subject })
    }
}

/// What the templates see: finished texts.
#[derive(Serialize)]
struct View {
    words: &'static Words,
    subject: String,
    greeting: String,
    intro: String,
    /// Sentences under the totals: why there is no tax.
    note: Option<&'static str>,
    invoice_number: String,
    issue_date: String,
    due_date: String,
    billing_period: String,
    groups: Vec<Group>,
    more: Option<More>,
    subtotal: String,
    tax_label: String,
    tax: String,
    total: String,
    /// Whether money is still to be paid.
    is_due: bool,
    pay_by: String,
    seller: SellerView,
    buyer: BuyerView,
}

/// The lines of one billing period; with a heading only where there is more than one, or where it is arrears.
#[derive(Serialize)]
struct Group {
    heading: Option<String>,
    lines: Vec<LineView>,
}

#[derive(Serialize)]
struct LineView {
    product: String,
    /// What tells this device from its neighbours.
    details: String,
    amount: String,
}

/// The lines that are not listed.
#[derive(Serialize)]
struct More {
    label: String,
    amount: String,
}

#[derive(Serialize)]
struct SellerView {
    name: String,
    address_lines: Vec<String>,
    vat_id: Option<String>,
    questions: Option<String>,
    iban: Option<String>,
    bic: Option<String>,
}

#[derive(Serialize)]
struct BuyerView {
    /// Name, address and VAT ID, one below the other.
    lines: Vec<String>,
    reference: Option<String>,
}

impl View {
    fn new(mail: &InvoiceMail, words: &'static Words) -> Self {
        let money = |minor| words.money(mail.currency, minor);
        let (total, due_date) = (money(mail.total), words.date(mail.due_date));
        let invoice_number = shown(&mail.invoice_number);
        let seller = SellerView::new(&mail.seller, words);
        let is_due = mail.status != PaymentStatus::Paid;
        let intro = if is_due { words.intro } else { words.intro_paid };
        let (tax_label, note) = tax_words(mail, words);
        Self {
            words,
            subject: subject(words, &invoice_number, &seller.name),
            greeting: greeting(words, &mail.buyer),
            intro: fill(intro, &[("subject", &shown(&mail.subject_name)), ("total", &total), ("due", &due_date)]),
            note,
            issue_date: words.date(mail.issue_date),
            billing_period: words.period(mail.billing_period),
            groups: groups(mail, words),
            more: more(mail, words),
            subtotal: money(mail.subtotal),
            tax_label,
            tax: money(mail.tax_amount),
            is_due,
            pay_by: fill(words.pay_by, &[("due", &due_date)]),
            buyer: BuyerView::new(&mail.buyer, words),
            invoice_number,
            due_date,
            total,
            seller,
        }
    }
}

impl SellerView {
    fn new(seller: &Seller, words: &Words) -> Self {
        let questions = |email: String| fill(words.questions, &[("email", &email)]);
        Self {
            name: shown(&seller.name),
            address_lines: shown_lines(&seller.address_lines),
            vat_id: shown_if(seller.vat_id.as_deref()).map(|vat| fill(words.vat_id, &[("vat", &vat)])),
            questions: shown_if(seller.email.as_deref()).map(questions),
            iban: shown_if(seller.iban.as_deref()).map(|iban| in_fours(&iban)),
            bic: shown_if(seller.bic.as_deref()),
        }
    }
}

impl BuyerView {
    fn new(buyer: &Buyer, words: &Words) -> Self {
        let vat_id = shown_if(buyer.vat_id.as_deref()).map(|vat| fill(words.vat_id, &[("vat", &vat)]));
        let mut lines: Vec<String> = shown_if(buyer.name.as_deref()).into_iter().collect();
        lines.extend(shown_lines(&buyer.address_lines));
        lines.dedup();
        lines.extend(vat_id);
        Self { lines, reference: shown_if(buyer.reference.as_deref()) }
    }
}

fn subject(words: &Words, number: &str, seller: &str) -> String {
    let text = if seller.is_empty() { words.subject_without_seller } else { words.subject };
    clean(&fill(text, &[("number", number), ("seller", seller)]), SUBJECT_MAX)
}

fn greeting(words: &Words, buyer: &Buyer) -> String {
    match shown_if(buyer.person.as_deref()).or_else(|| shown_if(buyer.name.as_deref())) {
        Some(name) => fill(words.greeting, &[("name", &name)]),
        None => words.greeting_without_name.to_owned(),
    }
}

/// The label of the tax, and the sentence that explains why there is none.
fn tax_words(mail: &InvoiceMail, words: &'static Words) -> (String, Option<&'static str>) {
    let rate = format_percent(mail.tax_rate_ppm).replace('.', words.decimal);
    let note = match mail.tax_treatment {
        TaxTreatment::Standard => None,
        TaxTreatment::Exempt => Some(words.exempt),
        TaxTreatment::ReverseCharge => Some(words.reverse_charge),
    };
    (fill(words.tax, &[("rate", &rate)]), note)
}

/// The listed lines, period by period in their order.
fn groups(mail: &InvoiceMail, words: &Words) -> Vec<Group> {
    let same_period = |a: &InvoiceLine, b: &InvoiceLine| a.billing_period == b.billing_period;
    let chunks: Vec<&[InvoiceLine]> = mail.lines.chunk_by(same_period).collect();
    let is_plain = chunks.len() == 1 && mail.lines.iter().all(|line| !line.arrears);
    chunks
        .into_iter()
        .map(|lines| Group {
            heading: (!is_plain).then(|| heading(words, lines[0].billing_period, lines[0].arrears)),
            lines: lines.iter().map(|line| LineView::new(line, mail, words)).collect(),
        })
        .collect()
}

fn heading(words: &Words, period: BillingPeriod, arrears: bool) -> String {
    let period = words.period(period);
    if arrears { fill(words.arrears, &[("period", &period)]) } else { period }
}

impl LineView {
    fn new(line: &InvoiceLine, mail: &InvoiceMail, words: &Words) -> Self {
        let rental = fill(words.rental, &[("rental", &shown(&line.rental_id))]);
        let details = match shown_if(line.serial_number.as_deref()) {
            Some(serial) => format!("{} · {rental}", fill(words.serial, &[("serial", &serial)])),
            None => rental,
        };
        Self { product: shown(&line.product_name), details, amount: words.money(mail.currency, line.amount) }
    }
}

fn more(mail: &InvoiceMail, words: &Words) -> Option<More> {
    let (count, amount) = mail.unlisted();
    let label = match count {
        0 => return None,
        1 => words.more_line.to_owned(),
        _ => fill(words.more_lines, &[("count", &count.to_string())]),
    };
    Some(More { label, amount: words.money(mail.currency, amount) })
}

fn shown(text: &str) -> String {
    clean(text, SHOWN_MAX)
}

fn shown_if(text: Option<&str>) -> Option<String> {
    text.map(shown).filter(|text| !text.is_empty())
}

fn shown_lines(lines: &[String]) -> Vec<String> {
    lines.iter().filter_map(|line| shown_if(Some(line))).collect()
}

/// An IBAN in groups of four, as it stands on paper.
fn in_fours(iban: &str) -> String {
    let characters: Vec<char> = iban.chars().filter(|c| !c.is_whitespace()).collect();
    characters.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::NaiveDate;
    use proptest::prelude::*;

    use crate::domain::Currency;

    fn line(rental_id: &str, product_name: &str, period: &str, amount: i64) -> InvoiceLine {
        InvoiceLine {
            rental_id: rental_id.into(),
            product_name: product_name.into(),
            serial_number: Some(format!("SN-{rental_id}")),
            billing_period: BillingPeriod::parse(period).unwrap(),
            amount,
            tax_amount: 0,
            arrears: period < "2026-07",
        }
    }

    fn mail() -> InvoiceMail {
        let lines = vec![line("rnt_1", "Laptop 14", "2026-07", 100_000), line("rnt_2", "Phone", "2026-06", 15_714)];
        InvoiceMail {
            invoice_number: "INV-2026-000001".into(),
            issue_date: NaiveDate::from_ymd_opt(2026, 7, 1).unwrap(),
            due_date: NaiveDate::from_ymd_opt(2026, 7, 15).unwrap(),
            seller: Seller {
                name: "Shop GmbH".into(),
                address_lines: vec!["Street 1".into(), "20095 Hamburg".into()],
                vat_id: Some("DE123456789".into()),
                email: Some("help@shop.example".into()),
                iban: Some("DE02120300000000202051".into()),
                bic: Some("BYLADEM1001".into()),
            },
            buyer: Buyer {
                name: Some("ACME Ltd".into()),
                person: Some("Anna Smith".into()),
                address_lines: vec!["Road 2".into(), "10115 Berlin".into()],
                vat_id: None,
                reference: Some("PO-77".into()),
            },
            subject_name: "Berlin office".into(),
            billing_period: BillingPeriod::parse("2026-07").unwrap(),
            currency: Currency::from_code("EUR").unwrap(),
            subtotal: 115_714,
            tax_amount: 21_986,
            total: 137_700,
            tax_rate_ppm: 190_000,
            tax_treatment: TaxTreatment::Standard,
            status: PaymentStatus::Pending,
            line_count: lines.len(),
            lines,
        }
    }

    fn render(mail: &InvoiceMail) -> RenderedMail {
        MailTemplates::new().unwrap().render(mail, "en").unwrap()
    }

    #[test]
    fn the_text_says_everything_in_plain_lines() {
        let rendered = render(&mail());
        assert_eq!(rendered.subject, "Invoice INV-2026-000001 from Shop GmbH");
        assert_eq!(rendered.text, include_str!("templates/tests/invoice_mail.txt"));
    }

    #[test]
    fn what_is_not_known_leaves_no_empty_label() {
        let mut mail = mail();
        (mail.seller, mail.buyer) = (Seller::default(), Buyer::default());
        let rendered = render(&mail);
        assert_eq!(rendered.subject, "Invoice INV-2026-000001");
        for part in [&rendered.text, &rendered.html] {
            assert!(part.contains("Hello,"), "{part}");
            for absent in ["Bill to", "Your reference", "IBAN", "BIC", "VAT ID", "Questions"] {
                assert!(!part.contains(absent), "{absent} in:\n{part}");
            }
        }
    }

    #[test]
    fn currencies_without_cents_and_rates_with_a_fraction_are_written_as_they_are() {
        let mut mail = mail();
        mail.currency = Currency::from_code("JPY").unwrap();
        mail.tax_rate_ppm = 75_000;
        let text = render(&mail).text;
        assert!(text.contains("Amount due: 137,700 JPY") && text.contains("Tax (7.5%): 21,986 JPY"), "{text}");
    }

    proptest! {
        #[test]
        fn no_text_from_outside_adds_a_line_or_markup(text in any::<String>()) {
            let filled = |text: &str| {
                let mut mail = mail();
                mail.seller.name = format!("x{text}");
                mail.buyer.person = Some(format!("x{text}"));
                mail.subject_name = format!("x{text}");
                mail.lines[0].product_name = format!("x{text}");
                render(&mail)
            };
            let (plain, odd) = (filled(""), filled(&text));
            prop_assert_eq!(odd.text.lines().count(), plain.text.lines().count());
            prop_assert_eq!(odd.html.lines().count(), plain.html.lines().count());
            prop_assert_eq!(odd.html.matches('<').count(), plain.html.matches('<').count());
            prop_assert!(!odd.subject.contains(['\r', '\n']));
        }
    }
}
