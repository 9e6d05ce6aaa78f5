//! `billday demo`: a small world that shows what billday does, billed by the same import and run as everybody's.

use std::sync::Arc;

use chrono::{Datelike, NaiveDate};
use serde_json::{Value, json};

use crate::domain::calendar::local_date;
use crate::domain::{BillingPeriod, Tenant};
use crate::import::{ImportFile, import};
use crate::run::{Dates, Schedule};
use crate::store::Store;

use super::run::{bill, default_settings};
use super::{App, Exit, Wrong};

/// The two sample sellers: one in euros with German VAT, one in a currency with three digits.
const TENANTS: [&str; 2] = ["gulf", "nordlicht"];

pub(super) async fn demo(app: &App) -> anyhow::Result<Exit> {
    let store = app.store().await?;
    let date = fill(app, &store).await?;
    let mut session = store.read().await?;
    let tenants: Vec<Arc<Tenant>> =
        session.list_tenants().await?.into_iter().filter_map(|(_, tenant)| tenant.ok().map(Arc::new)).collect();
    let schedule = Schedule::new(&tenants, Dates::On(date), false, app.clock.now(), &mut session).await?;
    session.end().await;
    println!("Billing {date} for {} tenants:\n", tenants.len());
    bill(app, &store, &schedule, default_settings(app), true, &mut std::io::stdout()).await?;
    let mut session = store.read().await?;
    let run_id = session.list_runs(None, 1).await?.pop().map(|run| run.run_id).unwrap_or_default();
    session.end().await;
    store.close().await;
    say_what_next(app, date, &run_id);
    Ok(Exit::Done)
}

/// Brings the sample data in once, and tells the date that it is made for.
async fn fill(app: &App, store: &Store) -> anyhow::Result<NaiveDate> {
    let mut session = store.read().await?;
    let present = session.list_tenants().await?;
    let billed = session.first_completed_date(TENANTS[1]).await?;
    session.end().await;
    if let Some((stranger, _)) = present.iter().find(|(id, _)| !TENANTS.contains(&id.as_str())) {
        let message = format!(
            "the database {} is in use (it has a tenant {stranger}), and the demo only fills an empty one: \
             name another with --database sqlite://demo.db",
            app.config.database_url_for_people()
        );
        return Err(Wrong(message).into());
    }
    let today = local_date(app.clock.now(), chrono_tz::Europe::Berlin);
    let date = billed.unwrap_or_else(|| today.with_day(today.day().min(28)).unwrap_or(today));
    if present.is_empty() {
        let summary =
            import(store, &[ImportFile::text("demo data", records(date).to_string())], None, app.clock.now()).await?;
        println!("{summary}\n");
    } else {
        println!("The sample data is here already; running its date again does no harm.\n");
    }
    Ok(date)
}

fn say_what_next(app: &App, date: NaiveDate, run_id: &str) {
    let mail = &app.config.mail;
    println!();
    if mail.transport == crate::config::MailTransport::Folder {
        println!("The invoice mails are in {}/, one file each.", mail.folder.display());
    }
    if mail.transport != crate::config::MailTransport::None {
        println!("The invoices themselves, PDF and XML, are kept in {}/.", app.config.documents.store);
    }
    println!(
        "Nothing is billed twice: run the demo again and see.\n\n\
         Next, try:\n  \
         billday parked list                                  what could not be billed, and why\n  \
         billday runs show {run_id} --format html > report.html\n  \
         billday run --run-date {next} --dry-run              the plan of next month's date, nothing is written\n  \
         billday verify                                       proof: nothing twice, nothing missed",
        next = date.checked_add_months(chrono::Months::new(1)).unwrap_or(date),
    );
}

/// The sample data: everything that has its billing date on `date`, and some that has not.
fn records(date: NaiveDate) -> Value {
    let mut records = tenants(date);
    records.extend(customers());
    records.extend(office(date));
    records.extend(others(date));
    records.extend(gulf(date));
    Value::from(records)
}

fn tenants(date: NaiveDate) -> Vec<Value> {
    let bill_from = BillingPeriod::of(date).first_day().to_string();
    vec![
        json!({
            "tenantId": "nordlicht", "name": "Nordlicht Devices", "legalName": "Nordlicht Devices GmbH",
            "currency": "EUR", "timeZone": "Europe/Berlin", "tax": {"mode": "exclusive", "rate": 19},
            "paymentTermsDays": 14, "billFrom": bill_from, "vatId": "DE123456789", "contactName": "Buchhaltung", "phone": "+49 40 1234567",
            "email": "billing@nordlicht.example",
            "iban": "DE89370400440532013000", "bic": "COBADEFFXXX", "invoiceNumberFormat": "NL-{year}-{seq:05}",
            "accentColor": "#0b7a75",
            "footer": "Managing directors: Jana Petersen, Tom Brandt\nHamburg local court, HRB 123456",
            "address": {"contactName": "Buchhaltung", "streetAddress": "Speicherstraße 12", "postalCode": "20457",
                        "city": "Hamburg", "country": "DE"},
        }),
        json!({
            "tenantId": "gulf", "name": "Gulf Device Rentals", "legalName": "Gulf Device Rentals W.L.L.",
            "currency": "KWD", "timeZone": "Asia/Kuwait", "paymentTermsDays": 30, "billFrom": bill_from,
            "email": "accounts@gulf.example", "invoiceNumberFormat": "GDR/{year}/{seq:04}",
            "address": {"contactName": "Accounts", "streetAddress": "Fahad Al-Salem Street 7", "city": "Kuwait City",
                        "country": "KW"},
        }),
    ]
}

fn customers() -> Vec<Value> {
    let customer = |id: &str, company: &str, street: &str, code: &str, city: &str, country: &str| {
        json!({
            "tenantId": if country == "KW" { "gulf" } else { "nordlicht" }, "customerId": id, "company": company,
            "email": format!("invoices@{id}.example"),
            "billingAddress": {"contactName": company, "streetAddress": street, "postalCode": code, "city": city,
                               "country": country},
        })
    };
    let mut alpine = customer("alpenblick", "Alpenblick Hotels AG", "Seepromenade 3", "6900", "Bregenz", "AT");
    alpine["taxTreatment"] = json!("reverseCharge");
    alpine["vatId"] = json!("ATU12345678");
    // Each kind of e-invoice has one who wants it; there is no VAT in Kuwait, and no one to take an e-invoice.
    let mut weitblick = customer("weitblick", "Studio Weitblick", "Karl-Heine-Straße 93", "04229", "Leipzig", "DE");
    weitblick["eInvoice"] = json!("xRechnung");
    weitblick["buyerReference"] = json!("04011000-1234512345-35");
    let mut cafe = customer("morgenrot", "Café Morgenrot", "Kastanienallee 85", "10435", "Berlin", "DE");
    cafe["eInvoice"] = json!("peppolUbl");
    cafe["buyerReference"] = json!("Filiale 3");
    cafe["vatId"] = json!("DE987654321");
    let mut marina = customer("marina", "Marina Trading Co.", "Salmiya Block 4", "22001", "Salmiya", "KW");
    marina["eInvoice"] = json!("none");
    vec![
        customer("bergmann", "Bergmann Architekten GmbH", "Lange Reihe 40", "20099", "Hamburg", "DE"),
        cafe,
        weitblick,
        alpine,
        json!({"tenantId": "nordlicht", "customerId": "petersen", "firstName": "Jana", "lastName": "Petersen",
               "customerType": "individual", "email": "jana.petersen@mail.example", "paymentTermsDays": 0}),
        marina,
    ]
}

/// The story's heart: an office with fifty laptops, one invoice; last month's payment comes along as history.
fn office(date: NaiveDate) -> Vec<Value> {
    let start = months_before(date, 4);
    let mut records = Vec::new();
    let mut ids = Vec::new();
    let mut history = Vec::new();
    for n in 1..=50 {
        let id = format!("laptop-{n:02}");
        let (product, amount) = if n % 5 == 0 { ("MacBook Pro 14", "89.90") } else { ("ThinkPad T14", "54.50") };
        records.push(json!({
            "tenantId": "nordlicht", "rentalId": id, "customerId": "bergmann", "monthlyAmount": amount,
            "startDate": start, "productName": product, "assetSerialNumber": format!("NL{:06}", 48_213 + n * 37),
        }));
        history.push(json!({"rentalId": id, "description": product, "amount": amount}));
        ids.push(id);
    }
    let previous = BillingPeriod::of(date).plus(-1).to_string();
    records.push(json!({
        "tenantId": "nordlicht", "billingGroupId": "bergmann-office", "customerId": "bergmann",
        "groupName": "Office Hamburg", "billingDay": date.day(), "rentalIds": ids,
    }));
    records.push(json!({
        "tenantId": "nordlicht", "paymentId": "old-0815", "customerId": "bergmann", "billingPeriod": previous,
        "billingGroupId": "bergmann-office", "subtotal": "3079.00", "taxAmount": "585.01", "taxRate": 19,
        "lineItems": history, "status": "paid", "invoiceNumber": "2025-0815",
    }));
    records
}

fn others(date: NaiveDate) -> Vec<Value> {
    let rental = |id: &str, customer: &str, product: &str, amount: &str, start: String| {
        json!({
            "tenantId": "nordlicht", "rentalId": id, "customerId": customer, "productName": product,
            "monthlyAmount": amount, "startDate": start,
        })
    };
    let group = |id: &str, customer: &str, name: &str, status: &str, rentals: &[&str]| {
        json!({
            "tenantId": "nordlicht", "billingGroupId": id, "customerId": customer, "groupName": name,
            "billingDay": date.day(), "status": status, "rentalIds": rentals,
        })
    };
    let recently = months_before(date, 0);
    let mut in_dollars = rental("beamer-2", "weitblick", "Projector Pro", "75.00", recently.clone());
    in_dollars["currency"] = json!("USD");
    let two_months_ago = BillingPeriod::of(date).plus(-2).to_string();
    vec![
        // A small group.
        rental("till-1", "morgenrot", "iPad POS", "29.00", recently.clone()),
        rental("till-2", "morgenrot", "iPad POS", "29.00", recently.clone()),
        rental("printer-1", "morgenrot", "Receipt printer", "9.90", recently.clone()),
        group("morgenrot-tills", "morgenrot", "Tills", "active", &["till-1", "till-2", "printer-1"]),
        // Billed alone: a person, and a hotel abroad that owes the tax itself.
        rental("phone-7", "petersen", "Fairphone 5", "21.90", months_before(date, 1)),
        rental("display-1", "alpenblick", "Lobby display 55″", "64.00", recently.clone()),
        // Its group is switched off, so it is billed alone on its own day.
        rental("tablet-9", "alpenblick", "Galaxy Tab S9", "33.50", months_before(date, 2)),
        group("alpenblick-season", "alpenblick", "Summer season", "inactive", &["tablet-9"]),
        // Charged two months ago and then forgotten: last month is charged now, as arrears.
        rental("scanner-3", "petersen", "Document scanner", "18.00", months_before(date, 2)),
        json!({
            "tenantId": "nordlicht", "paymentId": "old-0711", "customerId": "petersen", "rentalId": "scanner-3",
            "billingPeriod": two_months_ago, "subtotal": "18.00", "taxAmount": "3.42", "taxRate": 19,
        }),
        // Two currencies in one group: nobody can bill that, so it is parked and named.
        rental("beamer-1", "weitblick", "Projector Pro", "75.00", recently),
        in_dollars,
        group("weitblick-studio", "weitblick", "Studio", "active", &["beamer-1", "beamer-2"]),
    ]
}

fn gulf(date: NaiveDate) -> Vec<Value> {
    let rental = |id: &str, product: &str, amount: &str| {
        json!({
            "tenantId": "gulf", "rentalId": id, "customerId": "marina", "productName": product,
            "monthlyAmount": amount, "startDate": months_before(date, 0),
        })
    };
    vec![
        rental("ws-1", "Workstation Z4", "38.750"),
        rental("ws-2", "Workstation Z4", "38.750"),
        rental("ws-3", "Mobile workstation", "41.125"),
        json!({
            "tenantId": "gulf", "billingGroupId": "marina-desk", "customerId": "marina", "groupName": "Trading desk",
            "billingDay": date.day(), "rentalIds": ["ws-1", "ws-2", "ws-3"],
        }),
    ]
}

/// The same day some months earlier; `date` has a day that every month has.
fn months_before(date: NaiveDate, months: u32) -> String {
    date.checked_sub_months(chrono::Months::new(months)).unwrap_or(date).to_string()
}
