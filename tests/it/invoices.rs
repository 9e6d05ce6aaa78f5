//! Invoices as files: from the snapshot of their payment, the same on every making, with an e-invoice inside where data suffice.

use std::path::Path;

use billday::domain::document::{Address, AddressParts, Buyer, InvoiceDocument, InvoiceLine, Seller};
use billday::domain::payment::PaymentStatus;
use billday::domain::tax::TaxRule;
use billday::domain::{BillingPeriod, Currency, EInvoice, TaxMode, TaxTreatment};
use billday::render::invoice::{InvoiceRenderer, RenderedInvoice};
use billday::store::Store;
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
        assert!(checked.out.contains("the seller has no VAT ID and no tax number; the seller has no address in parts"), "{checked:?}");

        let file = folder.join("invoice.pdf");
        let shown = billday(folder, url, &["invoice", "show", "INV-2026-000001", "--pdf", path(&file)]);
        assert_eq!(shown.status, 0, "{shown:?}");
        assert!(shown.err.contains("there is no Factur-X: the seller has no VAT ID"), "{shown:?}");
        assert!(std::fs::read(&file).expect("a PDF").starts_with(b"%PDF-1.7"));
        let refused = billday(folder, url, &["invoice", "show", "INV-2026-000001", "--xml", path(&file)]);
        assert_eq!(refused.status, 2, "{refused:?}");

        world.import(seller()).await;
        world.import(json!([buyer(json!({}))])).await;
        let checked = billday(folder, url, &["invoice", "check", "--tenant", "T"]);
        assert_eq!((checked.status, checked.err.trim()), (0, "all 1 customers can get e-invoices"), "{checked:?}");
    }

    async fn a_customer_gets_the_e_invoice_that_it_wanted_when_it_was_billed(db: TestDb) {
        let world = World::without_data(db);
        world.import(seller()).await;
        let xrechnung = json!({"eInvoice": "xRechnung", "buyerReference": "991-01234-56", "electronicAddress": "0204:991-01234-56"});
        world.import(json!([buyer(xrechnung)])).await;
        let rentals = ["2026-11-15", "2026-11-16", "2026-11-17"].map(|start| rental(&start[8..], start, json!({})));
        world.import(json!(rentals)).await;
        world.run("2026-11-15").await;
        world.import(json!([buyer(json!({"eInvoice": "peppolUbl", "buyerReference": "PO 1", "vatId": "DE987654321"}))])).await;
        world.run("2026-11-16").await;
        world.import(json!([buyer(json!({"eInvoice": "none"}))])).await;
        world.run("2026-11-17").await;

        for (number, wanted, said) in [
            ("INV-2026-000001", EInvoice::XRechnung, Some(["xrechnung_3.0", r#"schemeID="0204">991-01234-56"#, "+49 40 1234567"])),
            ("INV-2026-000002", EInvoice::PeppolUbl, Some(["poacc:billing:3.0", r#"schemeID="9930">DE987654321"#, ">PO 1<"])),
            ("INV-2026-000003", EInvoice::None, None),
        ] {
            let rendered = render(&document(&world, number).await);
            assert_eq!(rendered.e_invoice, wanted);
            assert!(!contains(&rendered.pdf, "factur-x"), "{number} has one structured original at the most");
            let xml = rendered.xml_beside().map(|xml| String::from_utf8(xml.to_vec()).expect("UTF-8"));
            assert_eq!(xml.is_some(), said.is_some(), "{:?}", rendered.xml);
            let xml = xml.unwrap_or_default();
            assert!(said.into_iter().flatten().all(|said| xml.contains(said)), "{xml}");
        }
        let (folder, url) = (world.db.dir.path(), &world.db.url);
        let xml = folder.join("a.xml");
        let facts = billday(folder, url, &["invoice", "show", "INV-2026-000001"]);
        assert!(facts.out.contains("XRechnung (XML beside the PDF)"), "{facts:?}");
        let written = billday(folder, url, &["invoice", "show", "INV-2026-000002", "--xml", path(&xml)]);
        assert_eq!(written.status, 0, "{written:?}");
        assert!(std::fs::read_to_string(&xml).expect("XML").contains("poacc:billing:3.0"));
        let facts = billday(folder, url, &["invoice", "show", "INV-2026-000003"]);
        assert!(facts.out.contains("none: the customer wants none"), "{facts:?}");
    }

    async fn the_mail_brings_the_xml_that_is_not_inside_the_pdf(db: TestDb) {
        let world = World::without_data(db);
        world.import(seller()).await;
        world.import(json!([buyer(json!({"eInvoice": "xRechnung", "buyerReference": "991-01234-56"}))])).await;
        world.import(json!([rental("R1", "2026-11-15", json!({}))])).await;
        world.run("2026-11-15").await;
        let (folder, url) = (world.db.dir.path(), &world.db.url);
        let sent = billday(folder, url, &["outbox", "send"]);
        assert_eq!(sent.status, 0, "{sent:?}");
        let mails: Vec<_> = std::fs::read_dir(folder.join("mail")).expect("mails").filter_map(Result::ok).collect();
        let mail = mails.iter().map(|mail| mail.path()).find(|path| path.extension().is_some_and(|eml| eml == "eml"));
        let mail = std::fs::read_to_string(mail.expect("a mail")).expect("ASCII");
        let place = |said: &str| mail.find(said).unwrap_or_else(|| panic!("{said} is missing in:\n{mail}"));
        assert!(place("filename=\"INV-2026-000001.pdf\"") < place("filename=\"INV-2026-000001.xml\""));
        assert!(mail.contains("als XML-Datei"), "{mail}");
    }

    async fn a_database_from_before_there_was_a_choice_keeps_its_data_and_wants_factur_x(db: TestDb) {
        let world = World::without_data(db);
        world.import(seller()).await;
        world.import(json!([buyer(json!({}))])).await;
        for (table, columns) in [
            ("tenants", &["tax_number", "registration", "contact_name", "phone", "electronic_address"][..]),
            ("customers", &["registration", "e_invoice", "electronic_address"]),
        ] {
            for column in columns {
                world.db.execute(&format!("alter table {table} drop column {column}")).await;
            }
        }
        world.db.execute("delete from _sqlx_migrations where version = 4").await;
        let migrated = Store::open(&world.db.url, 2).await.expect("a migration");
        migrated.close().await;
        assert_eq!(world.db.texts("select company from customers where e_invoice = 'facturX'").await, ["Käufer GmbH"]);
        let summary = world.import(json!([buyer(json!({}))])).await;
        assert!(summary.to_string().contains("(1 unchanged)"), "{summary}");
    }

    async fn the_report_says_why_an_invoice_has_no_e_invoice_and_a_later_look_at_it_too(db: TestDb) {
        let world = World::without_data(db);
        world.import(seller()).await;
        world.import(json!([buyer(json!({"eInvoice": "xRechnung"}))])).await;
        world.import(json!([{"tenantId": "T", "customerId": "D", "firstName": "Dora", "eInvoice": "none"}])).await;
        let of_dora = rental("R2", "2026-11-15", json!({"customerId": "D"}));
        world.import(json!([rental("R1", "2026-11-15", json!({})), of_dora])).await;
        let report = world.run("2026-11-15").await;
        let missing = "the buyer has no buyerReference, which XRechnung needs";
        let said = json!({"format": "xRechnung", "missing": [missing]});
        assert_eq!([&report["payments"][0]["eInvoice"], &report["payments"][1]["eInvoice"]], [&said, &Value::Null]);

        // What is mended later does not change what was issued.
        world.import(json!([buyer(json!({"eInvoice": "xRechnung", "buyerReference": "1"}))])).await;
        let (folder, url) = (world.db.dir.path(), &world.db.url);
        let runs = billday(folder, url, &["runs", "list"]).out;
        let id = runs.split_whitespace().find(|word| word.len() == 36).expect("a run id");
        let shown = billday(folder, url, &["runs", "show", id, "--format", "json"]).out;
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["tenants"][0]["payments"][0]["eInvoice"], said);
        let table = billday(folder, url, &["runs", "show", id]).out;
        assert!(table.contains(&format!("Note: 1 invoice goes without an e-invoice: {missing}\n")), "{table}");
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
        for said in ["Käufer GmbH", "11.90 EUR", "1.90 EUR (19 %, standard)", "Factur-X (XML in the PDF)"] {
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
fn every_kind_of_invoice_is_made_with_its_e_invoice() {
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
                let ending = match rendered.e_invoice {
                    EInvoice::FacturX => "xml",
                    beside => &format!("{}.xml", beside.as_str()),
                };
                std::fs::write(Path::new(folder).join(format!("{number}.{ending}")), xml).expect("a folder");
            }
        }
    }
}

/// Every tax, currency, language, kind of name and of e-invoice, with 1 to 500 lines.
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
    // Two in three have theirs inside the PDF, which is the more to judge; eleven meets every tax, currency and language.
    const KINDS: [EInvoice; 11] = {
        let mut kinds = [EInvoice::FacturX; 11];
        (kinds[2], kinds[7], kinds[4], kinds[9]) =
            (EInvoice::XRechnung, EInvoice::XRechnung, EInvoice::PeppolUbl, EInvoice::PeppolUbl);
        kinds
    };
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
            e_invoice: KINDS[index % KINDS.len()],
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
    e_invoice: EInvoice,
}

impl Case {
    fn document(self) -> InvoiceDocument {
        let Self { index, rule, treatment, count, currency, locale, name, e_invoice } = self;
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
                contact_name: Some("Buchhaltung".into()),
                phone: Some("+49 40 1234567".into()),
                tax_number: (index % 5 == 0).then(|| "22/815/08150".into()),
                registration: (index % 5 < 2).then(|| "HRB 12345".into()),
                ..Seller::default()
            },
            buyer: Buyer {
                name: Some(name.to_owned()),
                person: None,
                address: address("Οδός Ερμού 5", "105 63", "Αθήνα", "GR"),
                vat_id: Some("EL123456789".into()),
                reference: (index % 2 == 0 || e_invoice != EInvoice::FacturX).then(|| format!("PO {name}")),
                e_invoice,
                own_electronic_address: (index % 8 < 4).then(|| "0088:4012345000009".into()),
                ..Buyer::default()
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
            is_preview: false,
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
        json!({"vatId": "DE123456789", "contactName": "Buchhaltung", "phone": "+49 40 1234567",
            "email": "rechnung@rent.example", "address": address, "locale": "de", "tax": {"mode": "exclusive", "rate": 19}}),
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
