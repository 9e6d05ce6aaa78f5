//! Invoices as files: from the snapshot of their payment, the same on every making, with an e-invoice inside where data suffice.

use std::path::Path;

use billday::domain::brand::Brand;
use billday::domain::document::{Address, AddressParts, Buyer, InvoiceDocument, InvoiceLine, Seller};
use billday::domain::payment::PaymentStatus;
use billday::domain::tax::TaxRule;
use billday::domain::{BillingPeriod, Currency, TaxMode, TaxTreatment};
use billday::render::invoice::{InvoiceRenderer, RenderedInvoice};
use serde_json::{Value, json};

use crate::cli::billday;
use crate::support::on_both;
use crate::support::world::{World, day, rental, tenant};

on_both! {
    async fn an_invoice_is_made_of_its_payment_and_stays_as_it_was(db: TestDb) {
        let world = World::without_data(db);
        world.import(seller()).await;
        world.import(json!([buyer(json!({}))])).await;
        world.import(json!([rental("R1", "2026-11-15", json!({"productName": "ThinkPad T14", "serialNumber": "SN-7"}))])).await;
        world.run("2026-11-15").await;
        let document = document(&world, "INV-2026-000001").await;
        assert_eq!((document.subtotal, document.tax_amount, document.total), (1_000, 190, 1_190));
        assert_eq!((document.locale.as_str(), document.lines.len()), ("de", 1));
        let first = render(&document);
        let xml = String::from_utf8(first.xml.clone().expect("an e-invoice")).expect("UTF-8");
        for said in ["INV-2026-000001", "ThinkPad T14", "SN-7", "DE123456789", "Römerstraße 1", "11.90", "20261115"] {
            assert!(xml.contains(said), "{said} is missing in:\n{xml}");
        }
        assert!(first.pdf.starts_with(b"%PDF-1.7") && contains(&first.pdf, "factur-x.xml"));

        // The customer moves, the price doubles: the invoice does not.
        world.import(json!([buyer(json!({"company": "Acme Holding", "locale": "fr"}))])).await;
        world.import(json!([rental("R1", "2026-11-15", json!({"monthlyAmount": 20, "productName": "T15"}))])).await;
        let again = self::document(&world, "INV-2026-000001").await;
        assert_eq!(again, document);
        assert_eq!(render(&again), first);
    }

    async fn a_customer_who_lacks_data_gets_a_plain_pdf_and_is_listed_before(db: TestDb) {
        let world = World::new(db).await;
        world.import(json!([rental("R1", "2026-11-15", json!({}))])).await;
        world.run("2026-11-15").await;
        let (folder, url) = (world.db.dir.path(), &world.db.url);
        let checked = billday(folder, url, &["invoice", "check"]);
        assert_eq!(checked.status, 3, "{checked:?}");
        assert!(checked.out.contains("the seller has no VAT ID; the seller has no address in parts"), "{checked:?}");

        let file = folder.join("invoice.pdf");
        let shown = billday(folder, url, &["invoice", "show", "INV-2026-000001", "--pdf", path(&file)]);
        assert_eq!(shown.status, 0, "{shown:?}");
        assert!(shown.err.contains("carries no e-invoice: the seller has no VAT ID"), "{shown:?}");
        assert!(std::fs::read(&file).expect("a PDF").starts_with(b"%PDF-1.7"));
        let refused = billday(folder, url, &["invoice", "show", "INV-2026-000001", "--xml", path(&file)]);
        assert_eq!(refused.status, 2, "{refused:?}");

        world.import(seller()).await;
        world.import(json!([buyer(json!({}))])).await;
        let checked = billday(folder, url, &["invoice", "check", "--tenant", "T"]);
        assert_eq!((checked.status, checked.err.trim()), (0, "all 1 customers can get e-invoices"), "{checked:?}");
    }

    async fn the_command_shows_facts_writes_both_files_and_knows_whose_number_it_is(db: TestDb) {
        let world = World::without_data(db);
        world.import(seller()).await;
        world.import(json!([buyer(json!({}))])).await;
        world.import(json!([rental("R1", "2026-11-15", json!({}))])).await;
        world.import(json!([{"tenantId": "T", "paymentId": "old", "customerId": "C", "rentalId": "R1", "status": "paid",
            "billingPeriod": "2026-10", "subtotal": 5, "taxAmount": 0, "invoiceNumber": "OLD-1"}])).await;
        world.run("2026-11-15").await;
        let (folder, url) = (world.db.dir.path(), &world.db.url);
        let facts = billday(folder, url, &["invoice", "show", "INV-2026-000001"]);
        for said in ["Käufer GmbH", "11.90 EUR", "1.90 EUR (19 %, standard)", "EN 16931 (Factur-X)"] {
            assert!(facts.out.contains(said), "{said} is missing in {facts:?}");
        }
        let (pdf, xml) = (folder.join("a.pdf"), folder.join("a.xml"));
        let args = ["invoice", "show", "INV-2026-000001", "--tenant", "T", "--pdf", path(&pdf), "--xml", path(&xml)];
        let written = billday(folder, url, &args);
        assert_eq!(written.status, 0, "{written:?}");
        let document = document(&world, "INV-2026-000001").await;
        let rendered = render(&document);
        assert_eq!(std::fs::read(&pdf).expect("a PDF"), rendered.pdf);
        assert_eq!(std::fs::read(&xml).expect("XML"), rendered.xml.expect("an e-invoice"));

        for (number, why) in [("INV-9", "no tenant has invoice INV-9"), ("OLD-1", "brought in by an import")] {
            let refused = billday(folder, url, &["invoice", "show", number]);
            assert!(refused.status == 2 && refused.err.contains(why), "{refused:?}");
        }
    }
}

/// All that the validators are to see: `scripts/validate-invoices` names a folder for them.
#[test]
fn every_kind_of_invoice_is_made_with_an_e_invoice_inside() {
    let folder = std::env::var_os("BILLDAY_TEST_INVOICES");
    let mut renderer = InvoiceRenderer::new().expect("the fonts");
    // All cases where somebody looks at them, every seventh where not: that sees each language, tax and currency.
    let step = if folder.is_some() { 1 } else { 7 };
    for document in documents().iter().step_by(step) {
        let number = &document.invoice_number;
        let rendered = renderer.render(document).expect(number);
        let mut amounts = document.lines.iter().map(|line| line.amount).chain([document.tax_amount]);
        if document.currency.code() == "KWD" && amounts.any(|amount| amount % 10 != 0) {
            assert!(rendered.xml.is_err(), "{number} has an amount that the standard cannot say");
        } else {
            assert!(rendered.xml.is_ok(), "{number}: {:?}", rendered.xml);
        }
        if let Some(folder) = &folder {
            std::fs::write(Path::new(folder).join(format!("{number}.pdf")), &rendered.pdf).expect("a folder");
            if let Ok(xml) = &rendered.xml {
                std::fs::write(Path::new(folder).join(format!("{number}.xml")), xml).expect("a folder");
            }
        }
    }
}

/// Every tax, currency, language and kind of name, with 1 to 500 lines.
fn documents() -> Vec<InvoiceDocument> {
    const TAXES: [(TaxMode, i64, TaxTreatment); 7] = [
        (TaxMode::Exclusive, 190_000, TaxTreatment::Standard),
        (TaxMode::Inclusive, 190_000, TaxTreatment::Standard),
        (TaxMode::Exclusive, 55_000, TaxTreatment::Standard),
        (TaxMode::Inclusive, 81_250, TaxTreatment::Standard),
        (TaxMode::Exclusive, 0, TaxTreatment::Standard),
        (TaxMode::Exclusive, 0, TaxTreatment::Exempt),
        (TaxMode::Exclusive, 0, TaxTreatment::ReverseCharge),
    ];
    const NAMES: [&str; 8] = [
        "Müller & Söhne <GmbH>",
        "Αφοί Παπαδόπουλοι Α.Ε.",
        "ООО «Ромашка»",
        "Żółć Sp. z o.o.",
        "Rocket 🚀 Lab 👩‍💻",
        "DonaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaftmitbeschränkterHaftung",
        "Evil\u{202e}\u{0}\r\nName",
        "東京レンタル & Co",
    ];
    const COUNTS: [usize; 6] = [1, 2, 7, 23, 60, 1];
    let mut documents = Vec::new();
    for (index, (mode, rate_ppm, treatment)) in TAXES.into_iter().cycle().take(336).enumerate() {
        let count = if index % 83 == 82 { 500 } else { COUNTS[index / 3 % COUNTS.len()] };
        let case = Case {
            index,
            rule: TaxRule { mode, rate_ppm },
            treatment,
            count,
            currency: ["EUR", "JPY", "KWD"][index / 5 % 3],
            locale: ["de", "en", "fr"][index % 3],
            name: NAMES[index / 2 % NAMES.len()],
        };
        documents.push(case.document());
    }
    documents
}

struct Case {
    index: usize,
    rule: TaxRule,
    treatment: TaxTreatment,
    count: usize,
    currency: &'static str,
    locale: &'static str,
    name: &'static str,
}

impl Case {
    fn document(self) -> InvoiceDocument {
        let Self { index, rule, treatment, count, currency, locale, name } = self;
        let currency = Currency::from_code(currency).expect("a currency");
        // Prices that make every remainder; in whole tens of fils, and one in three cases free of charge.
        let unit = if currency.digits() == 3 && rule.rate_ppm == 0 { 10 } else { 1 };
        let price = |n: usize| {
            if index.is_multiple_of(11) { 0 } else { (((n * 7_919 + index * 104_729) % 99_991) as i64) * unit }
        };
        let prices: Vec<i64> = (0..count).map(price).collect();
        let taxed = rule.apply(&prices).expect("small amounts");
        let billing_period = BillingPeriod::parse("2026-07").expect("a period");
        let lines = taxed.lines.iter().enumerate().map(|(n, line)| {
            let arrears = n >= count - count / 4;
            InvoiceLine {
                rental_id: format!("rnt_{n:04}"),
                product_name: if n % 3 == 0 { name.to_owned() } else { format!("ThinkPad T{n}") },
                serial_number: (n % 2 == 0).then(|| format!("SN-{n:06}")),
                billing_period: if arrears { billing_period.plus(-1) } else { billing_period },
                amount: line.amount,
                tax_amount: line.tax_amount,
                arrears,
            }
        });
        InvoiceDocument {
            tenant_id: "t1".into(),
            payment_id: format!("pay_{index}"),
            invoice_number: format!("INV-{index:03}-{}-{locale}-{count}", currency.code()),
            issue_date: day("2026-07-01"),
            due_date: day(["2026-07-01", "2026-07-15"][index % 2]),
            seller: Seller {
                name: format!("Nordlicht {name}"),
                address: address("Speicherstraße 12", "20457", "Hamburg", "de"),
                vat_id: Some("DE 123456789".into()),
                email: Some("billing@nordlicht.example".into()),
                iban: (index % 4 != 3).then(|| "DE89 3704 0044 0532 0130 00".into()),
                bic: (index % 3 != 2).then(|| "COBADEFFXXX".into()),
                brand: Brand::default(),
            },
            buyer: Buyer {
                name: Some(name.to_owned()),
                person: None,
                address: address("Οδός Ερμού 5", "105 63", "Αθήνα", "GR"),
                vat_id: Some("EL123456789".into()),
                reference: (index % 2 == 0).then(|| format!("PO {name}")),
            },
            subject_name: name.to_owned(),
            billing_period,
            currency,
            subtotal: taxed.subtotal,
            tax_amount: taxed.tax_amount,
            total: taxed.total,
            tax_rate_ppm: rule.rate_ppm,
            tax_treatment: treatment,
            status: PaymentStatus::Pending,
            lines: lines.collect(),
            locale: locale.into(),
        }
    }
}

fn address(street: &str, post_code: &str, city: &str, country: &str) -> Address {
    let some = |text: &str| Some(text.to_owned());
    Address::Parts(AddressParts {
        street: some(street),
        post_code: some(post_code),
        city: some(city),
        country: some(country),
        ..AddressParts::default()
    })
}

/// A tenant whose invoices can be e-invoices, in German.
fn seller() -> Value {
    let address = json!({"streetAddress": "Römerstraße 1", "postalCode": "20457", "city": "Hamburg", "country": "DE"});
    tenant(
        "T",
        json!({"vatId": "DE123456789", "address": address, "locale": "de", "tax": {"mode": "exclusive", "rate": 19}}),
    )
}

fn buyer(with: Value) -> Value {
    let address = json!({"streetAddress": "Weg 2", "postalCode": "10115", "city": "Berlin", "country": "DE"});
    let mut buyer = json!({"tenantId": "T", "customerId": "C", "company": "Käufer GmbH", "email": "pay@acme.example",
        "billingAddress": address});
    for (key, value) in with.as_object().expect("an object") {
        buyer[key] = value.clone();
    }
    buyer
}

async fn document(world: &World, number: &str) -> InvoiceDocument {
    let mut session = world.db.store.read().await.expect("a snapshot");
    let found = session.find_invoices(number).await.expect("invoices");
    let [invoice] = &found[..] else { panic!("{found:?}") };
    let keys = [(&*invoice.tenant_id, &*invoice.payment_id)];
    let document = session.invoice_documents(&keys).await.expect("documents").remove(0).expect("a good record");
    session.end().await;
    document
}

fn render(document: &InvoiceDocument) -> RenderedInvoice {
    InvoiceRenderer::new().expect("the fonts").render(document).expect("an invoice")
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
