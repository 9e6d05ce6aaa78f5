//! Templates of operators: whatever they hold, they end, say what is wrong with them, and let nothing from outside in as markup.

use std::path::Path;

use billday::domain::document::{Address, Buyer, InvoiceDocument, InvoiceLine, Seller};
use billday::domain::payment::PaymentStatus;
use billday::domain::{BillingPeriod, Currency, TaxTreatment};
use billday::render::email::{Annex, MailFault, MailTemplates};
use chrono::NaiveDate;

use super::{is_one_line, texts};

/// What somebody else might be called.
const NAME: &str = "<i>tr0ub4dor</i>";

/// Any texts as templates of the three parts, and as one of the HTML part in German.
pub fn templates(data: &[u8]) {
    let names = ["invoice.html", "invoice.txt", "invoice.subject", "invoice.de.html"];
    let texts: [String; 4] = texts(data);
    let given: Vec<(String, Vec<u8>)> = names
        .into_iter()
        .zip(&texts)
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name.to_owned(), text.clone().into_bytes()))
        .collect();
    match MailTemplates::with_texts(Path::new("templates"), given) {
        Err(why) => assert!(why.starts_with("templates/invoice."), "{why}"),
        Ok(templates) => {
            for locale in ["en", "de-AT"] {
                match templates.render(&document(locale), Annex::Attached) {
                    Err(MailFault::Template(why)) => assert!(why.starts_with("templates/invoice."), "{why}"),
                    Err(MailFault::Mail(why)) => panic!("a built-in template does not work: {why}"),
                    Ok(mail) => {
                        assert!(
                            is_one_line(&mail.subject) && mail.subject.chars().count() <= 150,
                            "{:?}",
                            mail.subject
                        );
                        assert!(mail.text.len() <= 256 * 1024 && mail.html.len() <= 256 * 1024);
                        // Unless the template says it itself.
                        let says = |text: &str| text.to_lowercase().contains("<i>tr0ub4dor");
                        assert!(!says(&mail.html) || says(&texts.concat()), "{texts:?} makes {}", mail.html);
                        for part in [&mail.subject, &mail.text, &mail.html] {
                            assert!(!part.contains("root:x:0:0") || texts.concat().contains("root:x"), "{part}");
                        }
                    }
                }
            }
        }
    }
}

/// An invoice that a stranger had a hand in.
fn document(locale: &str) -> InvoiceDocument {
    let name = || Some(NAME.to_owned());
    let period = BillingPeriod::parse("2026-07").expect("a month");
    let date = NaiveDate::from_ymd_opt(2026, 7, 1).expect("a date");
    InvoiceDocument {
        tenant_id: "T".into(),
        payment_id: "pay_1".into(),
        invoice_number: NAME.into(),
        issue_date: date,
        due_date: date,
        seller: Seller {
            name: NAME.into(),
            address: Address::Lines(vec![NAME.into()]),
            vat_id: name(),
            iban: name(),
            bic: name(),
            ..Seller::default()
        },
        buyer: Buyer {
            name: name(),
            person: name(),
            address: Address::Lines(vec![NAME.into()]),
            vat_id: name(),
            reference: name(),
            ..Buyer::default()
        },
        subject_name: NAME.into(),
        billing_period: period,
        currency: Currency::from_code("EUR").expect("the euro"),
        subtotal: 100,
        tax_amount: 19,
        total: 119,
        tax_rate_ppm: 190_000,
        tax_treatment: TaxTreatment::Standard,
        status: PaymentStatus::Pending,
        lines: vec![InvoiceLine {
            rental_id: NAME.into(),
            product_name: NAME.into(),
            serial_number: name(),
            billing_period: period,
            amount: 100,
            tax_amount: 19,
            arrears: false,
        }],
        locale: locale.into(),
        is_preview: false,
    }
}
