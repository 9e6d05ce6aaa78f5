//! The invoice mail in words: subject, plain text and HTML, each from its own template.
//!
//! Templates only place what is handed to them; every amount, date and sentence is made here, and every text from outside is
//! cleaned here, once.

mod own;

use std::path::Path;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use crate::domain::document::{Buyer, InvoiceDocument, InvoiceLine, Seller};
use crate::domain::message::{RenderedMail, clean};
use crate::domain::payment::PaymentStatus;

use super::colour::ACCENT;
use super::said::{
    buyer_lines, footer_lines, in_fours, line_details, period_heading, seller_lines, seller_tax_id, shown, shown_if,
    tax_label, tax_note,
};
use super::words::{Words, fill};

use own::OwnTemplates;

/// Longest subject, in characters: mail programs show fewer.
const SUBJECT_MAX: usize = 150;

/// The parts of a mail, each with a template of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Subject,
    Text,
    Html,
}

crate::domain::words!(Part { Subject = "subject", Text = "text", Html = "html" });

impl Part {
    const ALL: [Self; 3] = [Self::Subject, Self::Text, Self::Html];

    /// How the files of its templates end; what ends in `.html` is escaped.
    fn extension(self) -> &'static str {
        match self {
            Self::Subject => ".subject",
            Self::Text => ".txt",
            Self::Html => ".html",
        }
    }

    fn built_in_name(self) -> &'static str {
        match self {
            Self::Subject => "invoice_mail.subject",
            Self::Text => "invoice_mail.txt",
            Self::Html => "invoice_mail.html",
        }
    }

    /// The template that an operator may start from.
    pub fn built_in(self) -> &'static str {
        match self {
            Self::Subject => "{{ subject }}\n",
            Self::Text => include_str!("templates/invoice_mail.txt"),
            Self::Html => include_str!("templates/invoice_mail.html"),
        }
    }
}

/// Why there is no mail.
#[derive(Debug, thiserror::Error)]
pub enum MailFault {
    /// A template of the operator's does not work: other mails will meet it too.
    #[error("{0}")]
    Template(String),
    /// This mail cannot be made.
    #[error("{0}")]
    Mail(String),
}

/// The templates of mails, read once.
pub struct MailTemplates {
    built_in: Environment<'static>,
    own: Option<OwnTemplates>,
}

impl MailTemplates {
    /// The built-in ones.
    pub fn new() -> anyhow::Result<Self> {
        let mut built_in = environment()?;
        for part in Part::ALL {
            built_in.add_template(part.built_in_name(), part.built_in())?;
        }
        Ok(Self { built_in, own: None })
    }

    /// The built-in ones, but for those that the operator has in a folder; the error says which does not work and why.
    pub fn with_own(folder: &Path) -> Result<Self, String> {
        let built_in = Self::new().map_err(|error| format!("{error:#}"))?;
        Ok(Self { own: OwnTemplates::read(folder)?, ..built_in })
    }

    /// The same with texts that are called so in a folder, which is only named in messages.
    pub fn with_texts(folder: &Path, texts: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Self, String> {
        let built_in = Self::new().map_err(|error| format!("{error:#}"))?;
        let texts = texts.into_iter().map(|(name, text)| (name, Ok(text)));
        Ok(Self { own: OwnTemplates::of(folder, texts)?, ..built_in })
    }

    /// The operator's own, by file name.
    pub fn own_names(&self) -> Vec<&str> {
        self.own.as_ref().map(OwnTemplates::names).unwrap_or_default()
    }

    /// Writes the mail in the words of the document's locale.
    pub fn render(&self, mail: &InvoiceDocument, annex: Annex) -> Result<RenderedMail, MailFault> {
        let view = View::new(mail, annex, Words::of(&mail.locale));
        let part = |part: Part| {
            if let Some(own) = self.own.as_ref().and_then(|own| own.render(part, &mail.locale, &view)) {
                return own.map_err(MailFault::Template);
            }
            let name = part.built_in_name();
            let rendered = self.built_in.get_template(name).and_then(|template| template.render(Serde(&view)));
            rendered.map_err(|error| {
                MailFault::Mail(format!("cannot render {name} of invoice {}: {error:#}", mail.invoice_number))
            })
        };
        let subject = clean(&part(Part::Subject)?, SUBJECT_MAX);
        Ok(RenderedMail { text: part(Part::Text)?, html: part(Part::Html)?, subject })
    }
}

/// How all templates of mails are read.
fn environment() -> anyhow::Result<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|name| match name.ends_with(Part::Html.extension()) {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    Ok(environment)
}

/// Whether the invoice itself goes with its mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Annex {
    Attached,
    /// With its XML beside it.
    AttachedWithXml,
    /// Mail servers would refuse it.
    TooLarge,
}

/// What the templates see: finished texts.
#[derive(Serialize)]
struct View {
    words: &'static Words,
    subject: String,
    greeting: String,
    intro: String,
    /// Where the invoice itself is.
    annex: &'static str,
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
    tax_id: Option<String>,
    questions: Option<String>,
    iban: Option<String>,
    bic: Option<String>,
    /// Its colour, as `#rrggbb`.
    accent: String,
    /// The small print that letters must have.
    footer_lines: Vec<String>,
}

#[derive(Serialize)]
struct BuyerView {
    /// Name, address and VAT ID, one below the other.
    lines: Vec<String>,
    reference: Option<String>,
}

impl View {
    fn new(mail: &InvoiceDocument, annex: Annex, words: &'static Words) -> Self {
        let money = |minor| words.money(mail.currency, minor);
        let (total, due_date) = (money(mail.total), words.date(mail.due_date));
        let invoice_number = shown(&mail.invoice_number);
        let seller = SellerView::new(&mail.seller, words);
        let is_due = mail.status != PaymentStatus::Paid;
        let intro = if is_due { words.intro } else { words.intro_paid };
        Self {
            words,
            subject: subject(words, &invoice_number, &seller.name),
            greeting: greeting(words, &mail.buyer),
            intro: fill(intro, &[("subject", &shown(&mail.subject_name)), ("total", &total), ("due", &due_date)]),
            annex: match annex {
                Annex::Attached => words.attached,
                Annex::AttachedWithXml => words.attached_with_xml,
                Annex::TooLarge => words.not_attached,
            },
            note: tax_note(mail, words),
            issue_date: words.date(mail.issue_date),
            billing_period: words.period(mail.billing_period),
            groups: groups(mail, words),
            more: more(mail, words),
            subtotal: money(mail.subtotal),
            tax_label: tax_label(mail, words),
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
            address_lines: seller_lines(seller),
            tax_id: seller_tax_id(seller, words),
            questions: shown_if(seller.email.as_deref()).map(questions),
            iban: shown_if(seller.iban.as_deref()).map(|iban| in_fours(&iban)),
            bic: shown_if(seller.bic.as_deref()),
            accent: seller.brand.accent.unwrap_or(ACCENT).to_string(),
            footer_lines: footer_lines(seller),
        }
    }
}

impl BuyerView {
    fn new(buyer: &Buyer, words: &Words) -> Self {
        Self { lines: buyer_lines(buyer, words), reference: shown_if(buyer.reference.as_deref()) }
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

/// The listed lines, period by period in their order.
fn groups(mail: &InvoiceDocument, words: &Words) -> Vec<Group> {
    let (listed, ..) = mail.listed();
    let chunks: Vec<&[InvoiceLine]> = listed.chunk_by(|a, b| a.billing_period == b.billing_period).collect();
    let is_plain = chunks.len() == 1 && listed.iter().all(|line| !line.arrears);
    chunks
        .into_iter()
        .map(|lines| Group {
            heading: (!is_plain).then(|| period_heading(&lines[0], words)),
            lines: lines.iter().map(|line| LineView::new(line, mail, words)).collect(),
        })
        .collect()
}

impl LineView {
    fn new(line: &InvoiceLine, mail: &InvoiceDocument, words: &Words) -> Self {
        Self {
            product: shown(&line.product_name),
            details: line_details(line, words),
            amount: words.money(mail.currency, line.amount),
        }
    }
}

fn more(mail: &InvoiceDocument, words: &Words) -> Option<More> {
    let (_, count, amount) = mail.listed();
    let label = match count {
        0 => return None,
        1 => words.more_line.to_owned(),
        _ => fill(words.more_lines, &[("count", &count.to_string())]),
    };
    Some(More { label, amount: words.money(mail.currency, amount) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use super::super::said::tests::sample;
    use crate::domain::Currency;

    fn mail() -> InvoiceDocument {
        sample()
    }

    fn render(mail: &InvoiceDocument) -> RenderedMail {
        MailTemplates::new().unwrap().render(mail, Annex::Attached).unwrap()
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
    fn every_language_says_the_same_in_its_own_words() {
        for (locale, said) in [
            ("de-DE", ["Guten Tag Anna Smith,", "1.377,00 EUR", "15. Juli 2026", "Juni 2026 (Nachberechnung)"]),
            ("fr", ["Bonjour Anna Smith,", "1\u{202f}377,00 EUR", "15 juillet 2026", "juin 2026 (rattrapage)"]),
        ] {
            let rendered = render(&InvoiceDocument { locale: locale.into(), ..mail() });
            for part in [rendered.text, rendered.html] {
                said.iter().for_each(|said| assert!(part.contains(said), "{said} is missing in:\n{part}"));
            }
        }
    }

    #[test]
    fn a_mail_says_where_the_invoice_itself_is() {
        let text = |annex| MailTemplates::new().unwrap().render(&mail(), annex).unwrap().text;
        assert!(text(Annex::Attached).contains("attached as a PDF file."));
        assert!(text(Annex::AttachedWithXml).contains("and as an XML file"));
        assert!(text(Annex::TooLarge).contains("too large to be attached"));
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
