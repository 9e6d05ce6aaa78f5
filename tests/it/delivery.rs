//! Mails from the outbox to files: each once, the same on every try, none lost.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

use billday::clock::FixedClock;
use billday::deliver::{DeliveryReport, DeliverySettings, Route, deliver};
use billday::documents::DocumentStore;
use billday::domain::document::{DocumentKind, KeptDocument, sha256_of};
use billday::domain::message::{CHANCES, MailState, Patience, Tried, WhenUnknown};
use billday::domain::report::Delivery;
use billday::store::outbox::{Expired, MailFilter, OutboxMail, Retry};
use chrono::{DateTime, Utc};

use crate::support::{TestDb, on_both};

on_both! {
    async fn each_payment_has_one_mail_in_the_folder_that_says_all_of_it(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", number: "INV-2026-000001", ..PAYMENT }).await;
        world.add(Payment { id: "pay_2", number: "INV-2026/2", ..PAYMENT }).await;
        let report = world.deliver().await;
        assert_eq!(report.counts, Delivery { sent: 2, ..Delivery::default() });
        assert_eq!(world.files(), ["INV-2026-000001-pay_1.eml", "INV-2026_2-pay_2.eml"]);

        let mail = world.mail("INV-2026-000001-pay_1.eml");
        assert_eq!(mail.header("From"), "\"Shop GmbH\" <billing@shop.example>");
        assert_eq!(mail.header("Reply-To"), "help@shop.example");
        assert_eq!(mail.header("To"), "anna@buyer.example");
        assert_eq!(mail.header("Subject"), "Invoice INV-2026-000001 from Shop GmbH");
        assert_eq!(mail.header("Date"), "Wed, 01 Jul 2026 06:00:00 +0000");
        assert!(mail.header("Message-ID").starts_with("<pay_1.invoice."), "{}", mail.header("Message-ID"));
        assert!(mail.header("Message-ID").ends_with("@bills.example>"), "{}", mail.header("Message-ID"));
        assert_eq!(mail.file.0, "INV-2026-000001.pdf");
        assert!(mail.file.1.starts_with(b"%PDF-1.7"));
        for part in [&mail.text, &mail.html] {
            for said in [
                "Hello Anna Smith,", "INV-2026-000001", "1 July 2026", "15 July 2026", "July 2026", "Laptop 14", "SN-1",
                "rnt_1", "1,000.00 EUR", "Phone", "157.14 EUR", "1,157.14 EUR", "Tax (19%)", "219.86 EUR",
                "1,377.00 EUR", "DE02 1203 0000 0000 2020 51", "BYLADEM1001", "Shop GmbH", "Street 1", "DE123",
                "ACME Ltd", "10115 Berlin", "PO-77",
            ] {
                assert!(part.contains(said), "{said} is missing in:\n{part}");
            }
            assert!(!part.contains("arrears"), "{part}");
        }
    }

    async fn a_second_delivery_sends_nothing_more(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", ..PAYMENT }).await;
        assert_eq!(world.deliver().await.counts.sent, 1);
        std::fs::remove_file(world.folder.join("INV-1-pay_1.eml")).unwrap();
        assert_eq!(world.deliver().await, DeliveryReport::default());
        assert_eq!(world.files(), Vec::<String>::new());
    }

    async fn more_mails_than_a_batch_holds_all_go_out_with_progress(db: TestDb) {
        let world = World::new(&db).await;
        for n in 0..205 {
            world.add(Payment { id: &format!("pay_{n}"), number: &format!("INV-{n}"), ..PAYMENT }).await;
        }
        let mut heard = Vec::new();
        let report = world.deliver_telling(&mut |report| heard.push(report.counts.sent)).await;
        assert_eq!((report.counts.sent, heard), (205, vec![100, 200, 205]));
        assert_eq!(world.files().len(), 205);
    }

    async fn two_deliveries_at_once_send_each_mail_once(db: TestDb) {
        let world = World::new(&db).await;
        for n in 0..150 {
            world.add(Payment { id: &format!("pay_{n}"), number: &format!("INV-{n}"), ..PAYMENT }).await;
        }
        let (one, other) = tokio::join!(world.deliver(), world.deliver());
        assert_eq!(one.counts.sent + other.counts.sent, 150);
        assert_eq!(one.taken_over + other.taken_over, 0);
        assert_eq!(db.number("select count(*) from outbox where fence = 1 and attempts = 1 and state = 'sent'").await, 150);
    }

    async fn a_mail_whose_sender_died_is_taken_over_and_ends_as_one_file(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", ..PAYMENT }).await;
        let (now, lease_until) = (world.now(), world.now() + 1_200_000_000);
        let claim = db.store.with_tx(move |tx| Box::pin(tx.claim_mails(10, now, lease_until, Expired::Taken)));
        let claimed = claim.await.unwrap();
        assert_eq!(claimed.len(), 1);
        // It had written the file, and died before it could say so.
        assert_eq!(world.deliver().await, DeliveryReport::default(), "the lease still holds");
        world.wait_seconds(1201);
        assert_eq!(world.deliver().await.counts.sent, 1);
        let bytes = std::fs::read(world.folder.join("INV-1-pay_1.eml")).unwrap();
        db.execute("update outbox set state = 'pending'").await;
        assert_eq!(world.deliver().await.counts.sent, 1);
        assert_eq!(world.files(), ["INV-1-pay_1.eml"]);
        assert_eq!(std::fs::read(world.folder.join("INV-1-pay_1.eml")).unwrap(), bytes, "equal bytes on every try");

        // The one that was thought dead speaks up: its fence is an old one.
        let settled = billday::domain::message::Attempt::Refused("late".into()).settle(Tried::default(), patience()).unwrap();
        let late = vec![(claimed[0].clone(), settled)];
        let written = db.store.with_tx(move |tx| Box::pin(async move { tx.settle_mails(&late, now).await }));
        assert_eq!(written.await.unwrap(), []);
        assert_eq!(world.outbox("pay_1").await.state, MailState::Sent);
    }

    async fn an_address_that_cannot_be_used_fails_with_a_reason_and_the_others_go_out(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", number: "INV-1", recipient: Some("anna at home"), ..PAYMENT }).await;
        world.add(Payment { id: "pay_2", number: "INV-2", ..PAYMENT }).await;
        let report = world.deliver().await;
        assert_eq!(report.counts, Delivery { sent: 1, failed: 1, ..Delivery::default() });
        assert_eq!(report.stopped, None);
        let failed = world.outbox("pay_1").await;
        assert_eq!(failed.error.as_deref(), Some("the address \"anna at home\" has no @"));
        assert_eq!((failed.state, failed.attempts), (MailState::Failed, 1));
        assert_eq!(world.files(), ["INV-2-pay_2.eml"]);

        // Once the customer's address is mended, a retry uses it.
        assert_eq!(world.retry("pay_1").await, Some(Retry::Queued(vec!["anna@buyer.example".into()])));
        assert_eq!(world.deliver().await.counts.sent, 1);
        assert_eq!(world.retry("pay_1").await, Some(Retry::NotNeeded(MailState::Sent)));
        assert_eq!(world.retry("pay_none").await, None);
    }

    async fn a_mail_without_an_address_waits_for_a_retry_after_the_customer_got_one(db: TestDb) {
        let world = World::new(&db).await;
        db.execute("update customers set billing_email = null").await;
        world.add(Payment { id: "pay_1", recipient: None, ..PAYMENT }).await;
        assert_eq!(world.deliver().await, DeliveryReport::default());
        assert_eq!(world.delivery().await, Delivery { undeliverable: 1, ..Delivery::default() });
        assert_eq!(world.retry("pay_1").await, Some(Retry::NoAddress));
        assert_eq!(world.outbox("pay_1").await.state, MailState::Undeliverable);

        db.execute("update customers set billing_email = 'new@buyer.example'").await;
        assert_eq!(world.retry("pay_1").await, Some(Retry::Queued(vec!["new@buyer.example".into()])));
        assert_eq!(world.delivery().await, Delivery { waiting: 1, ..Delivery::default() });
        assert_eq!(world.deliver().await.counts.sent, 1);
        assert_eq!(world.delivery().await, Delivery { sent: 1, ..Delivery::default() });
        assert_eq!(world.mail("INV-1-pay_1.eml").header("To"), "new@buyer.example");
    }

    async fn names_can_neither_add_headers_nor_markup_nor_turn_text_around(db: TestDb) {
        let world = World::new(&db).await;
        let name = "Shop\r\nBcc: all@x.example\u{202e}<b>&\"";
        let seller = serde_json::json!({ "name": name, "email": "not an address" }).to_string();
        let buyer = serde_json::json!({ "company": "<script>alert(1)</script>\u{2067}" }).to_string();
        world.party("seller", &seller).await;
        world.party("buyer", &buyer).await;
        world.add(Payment { id: "pay_1", product: "<img src=x>\u{202e}\n\nHello {{ words }}", ..PAYMENT }).await;
        assert_eq!(world.deliver().await.counts.sent, 1);
        let mail = world.mail("INV-1-pay_1.eml");
        let names: Vec<&str> = mail.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["Message-ID", "Date", "From", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type"]
        );
        assert!(mail.text.contains("* <img src=x> Hello {{ words }}: "), "{}", mail.text);
        assert!(!mail.text.contains(['\u{202e}', '\u{2067}']) && !mail.html.contains(['\u{202e}', '\u{2067}']));
        assert!(mail.html.contains("&lt;img src=x&gt; Hello {{ words }}"), "{}", mail.html);
        assert!(mail.html.contains("&lt;script&gt;") && !mail.html.contains("<script"), "{}", mail.html);
        assert!(mail.html.contains("Shop Bcc: all@x.example&lt;b&gt;&amp;&quot;"), "{}", mail.html);
    }

    async fn a_template_that_does_not_work_stops_all_mails_and_loses_none(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", ..PAYMENT }).await;
        std::fs::create_dir(db.dir.path().join("templates")).unwrap();
        db.file("templates/invoice.txt", "Dear\n{{ buyer.nam }}");
        let report = world.deliver().await;
        assert_eq!(report.counts, Delivery { waiting: 1, ..Delivery::default() });
        let stopped = report.stopped.unwrap();
        assert!(stopped.contains("invoice.txt:2: undefined value") && stopped.contains("buyer.nam"), "{stopped}");
        let waiting = world.outbox("pay_1").await;
        assert_eq!((waiting.state, waiting.attempts, waiting.error), (MailState::Pending, 0, Some(stopped)));

        // This one pleases the samples and not this invoice.
        db.file("templates/invoice.txt", "{% if invoice_number == 'INV-1' %}{{ 1 / 0 }}{% endif %}.");
        let report = world.deliver().await;
        assert!(report.stopped.unwrap().contains("invoice.txt:1: "));
        assert_eq!(world.outbox("pay_1").await.attempts, 0);

        db.file("templates/invoice.txt", "We thank you, {{ seller.name }}");
        assert_eq!(world.deliver().await.counts.sent, 1);
        let mail = world.mail("INV-1-pay_1.eml");
        assert_eq!(mail.text.trim(), "We thank you, Shop GmbH");
        assert!(mail.html.contains("INV-1") && mail.header("Subject").contains("INV-1"));
    }

    async fn a_folder_that_cannot_be_written_leaves_mails_pending_and_says_so(db: TestDb) {
        let mut world = World::new(&db).await;
        world.add(Payment { id: "pay_1", ..PAYMENT }).await;
        world.folder = db.file("taken", "a file where the folder should be");
        let report = world.deliver().await;
        assert_eq!(report.counts, Delivery { waiting: 1, ..Delivery::default() });
        let stopped = report.stopped.unwrap();
        assert!(stopped.contains("cannot create the mail folder") && stopped.contains("taken"), "{stopped}");
        assert_eq!(world.outbox("pay_1").await.error, Some(stopped));

        // It fails only when the first mail is written: the target is a folder.
        world.folder = db.dir.path().join("mails");
        std::fs::create_dir_all(world.folder.join("INV-1-pay_1.eml")).unwrap();
        let report = world.deliver().await;
        assert_eq!(report.counts, Delivery { waiting: 1, ..Delivery::default() });
        let waiting = world.outbox("pay_1").await;
        assert_eq!((waiting.state, waiting.attempts), (MailState::Pending, 0));
        assert!(waiting.error.unwrap().contains("INV-1-pay_1.eml"));
        assert_eq!(std::fs::read_dir(world.folder.join("tmp")).unwrap().count(), 0, "nothing is left half-written");

        std::fs::remove_dir(world.folder.join("INV-1-pay_1.eml")).unwrap();
        assert_eq!(world.deliver().await.counts.sent, 1, "mended, it goes out at once");
        assert_eq!(world.outbox("pay_1").await.error, None);
    }

    async fn with_nothing_to_send_no_folder_is_made(db: TestDb) {
        let world = World::new(&db).await;
        assert_eq!(world.deliver().await, DeliveryReport::default());
        assert!(!world.folder.exists());
    }

    async fn without_a_folder_nothing_is_sent_and_all_waits(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", ..PAYMENT }).await;
        let settings = DeliverySettings { route: Route::Nowhere, ..world.settings() };
        let report = deliver(&db.store, &settings, &FixedClock::at(world.instant()), &mut |_| ()).await.unwrap();
        assert_eq!(report, DeliveryReport::default());
        assert_eq!(world.outbox("pay_1").await.state, MailState::Pending);
    }

    async fn what_goes_out_is_kept_and_goes_out_again_as_it_was(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", number: "INV/1", ..PAYMENT }).await;
        assert_eq!(world.deliver().await.counts.sent, 1);
        let kept = world.kept("pay_1").await;
        assert_eq!((kept.kind, kept.place.as_str()), (DocumentKind::Pdf, "t1/2026/INV_1-pay_1.pdf"));
        let file = world.documents().join(&kept.place);
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!((kept.bytes, &kept.sha256), (bytes.len() as i64, &sha256_of(&bytes)));
        assert_eq!(world.mail("INV_1-pay_1.eml").file.1, bytes);
        let folders: Vec<_> = std::fs::read_dir(file.parent().unwrap()).unwrap().collect();
        assert_eq!(folders.len(), 1, "nothing unfinished is left: {folders:?}");

        // An older program drew it otherwise: the mail's next try brings what the first one brought.
        let older = [&bytes[..], b"\n%as an older program ends it"].concat();
        std::fs::write(&file, &older).unwrap();
        let hash = sha256_of(&older);
        db.execute(&format!("update documents set sha256 = '{hash}'")).await;
        db.execute("update outbox set state = 'pending'").await;
        assert_eq!(world.deliver().await.counts.sent, 1);
        assert_eq!(world.mail("INV_1-pay_1.eml").file.1, older);
        assert_eq!(world.kept("pay_1").await.sha256, hash);
    }

    async fn documents_that_cannot_be_kept_leave_mails_pending_and_say_so(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", number: "INV-1", ..PAYMENT }).await;
        world.add(Payment { id: "pay_2", number: "INV-2", ..PAYMENT }).await;
        db.file("documents", "a file where the folder should be");
        let report = world.deliver().await;
        assert_eq!(report.counts, Delivery { waiting: 2, ..Delivery::default() });
        let stopped = report.stopped.unwrap();
        assert!(stopped.contains("documents: cannot create the folder: "), "{stopped}");

        // It fails only when a document is written: its name is taken by a folder.
        std::fs::remove_file(world.documents()).unwrap();
        let taken = world.documents().join("t1/2026/INV-2-pay_2.pdf");
        std::fs::create_dir_all(&taken).unwrap();
        let report = world.deliver().await;
        assert_eq!(report.counts, Delivery { waiting: 2, ..Delivery::default() });
        let stopped = report.stopped.unwrap();
        assert!(stopped.contains("documents: cannot keep t1/2026/INV-2-pay_2.pdf: "), "{stopped}");
        let waiting = world.outbox("pay_1").await;
        assert_eq!((waiting.state, waiting.attempts, waiting.error), (MailState::Pending, 0, Some(stopped)));
        assert_eq!(db.number("select count(*) from documents").await, 0);
        assert_eq!(world.files(), Vec::<String>::new(), "nothing goes out that is not kept");

        std::fs::remove_dir(taken).unwrap();
        assert_eq!(world.deliver().await.counts.sent, 2, "mended, they go out at once");
        assert_eq!(db.number("select count(*) from documents").await, 2);
    }

    async fn a_kept_document_that_changed_or_is_gone_holds_back_its_own_mail_only(db: TestDb) {
        let world = World::new(&db).await;
        for (id, number) in [("pay_1", "INV-1"), ("pay_2", "INV-2"), ("pay_3", "INV-3")] {
            world.add(Payment { id, number, ..PAYMENT }).await;
        }
        assert_eq!(world.deliver().await.counts.sent, 3);
        let file = |n: u32| world.documents().join(format!("t1/2026/INV-{n}-pay_{n}.pdf"));
        let first = std::fs::read(file(1)).unwrap();
        std::fs::write(file(1), "another").unwrap();
        std::fs::remove_file(file(2)).unwrap();
        db.execute("update outbox set state = 'pending', attempts = 0").await;
        let report = world.deliver().await;
        assert_eq!((report.counts, report.stopped), (Delivery { sent: 1, waiting: 2, ..Delivery::default() }, None));
        let error = |mail: OutboxMail| mail.error.unwrap();
        let (changed, gone) = (error(world.outbox("pay_1").await), error(world.outbox("pay_2").await));
        let [was, is] = [sha256_of(&first), sha256_of(b"another")];
        assert!(changed.contains(&format!("INV-1-pay_1.pdf is not as it was sent: its sha256 is {is} and was {was}")), "{changed}");
        assert!(gone.contains("INV-2-pay_2.pdf is not there; it had the sha256 "), "{gone}");

        std::fs::write(file(1), first).unwrap();
        world.wait_seconds(3_600);
        assert_eq!(world.deliver().await.counts, Delivery { sent: 1, waiting: 1, ..Delivery::default() });
    }

    async fn a_payment_that_was_cancelled_leaves_no_document(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", ..PAYMENT }).await;
        db.execute("update payments set status = 'cancelled'").await;
        assert_eq!(world.deliver().await.counts.failed, 1);
        assert!(!world.documents().exists());
    }

    async fn a_record_that_cannot_be_read_fails_alone(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", number: "INV-1", ..PAYMENT }).await;
        world.add(Payment { id: "pay_2", number: "INV-2", ..PAYMENT }).await;
        world.add(Payment { id: "pay_3", number: "INV-3", ..PAYMENT }).await;
        db.execute("update payments set currency = '???' where payment_id = 'pay_1'").await;
        db.execute("delete from payments where payment_id = 'pay_2'").await;
        let report = world.deliver().await;
        assert_eq!(report.counts, Delivery { sent: 1, failed: 2, ..Delivery::default() });
        let errors = [world.outbox("pay_1").await.error.unwrap(), world.outbox("pay_2").await.error.unwrap()];
        assert_eq!(errors, ["the payment pay_1 has no usable currency: \"???\"", "the payment pay_2 is missing"]);
    }

    async fn a_cancelled_payment_is_not_asked_for_and_a_paid_one_is_not_asked_for_again(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", number: "INV-1", ..PAYMENT }).await;
        world.add(Payment { id: "pay_2", number: "INV-2", ..PAYMENT }).await;
        db.execute("update payments set status = 'cancelled' where payment_id = 'pay_1'").await;
        db.execute("update payments set status = 'paid' where payment_id = 'pay_2'").await;
        assert_eq!(world.deliver().await.counts, Delivery { sent: 1, failed: 1, ..Delivery::default() });
        let mail = world.mail("INV-2-pay_2.eml");
        assert!(mail.text.contains("already paid") && !mail.text.contains("IBAN"), "{}", mail.text);
        assert!(mail.html.contains("already paid") && !mail.html.contains("IBAN"), "{}", mail.html);
    }

    async fn a_long_invoice_lists_a_hundred_lines_and_the_sum_of_the_rest(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", lines: 0, ..PAYMENT }).await;
        for n in 0..130 {
            let period = if n < 95 { "2026-07" } else { "2026-05" };
            world.line("pay_1", &format!("rnt_{n:03}"), period, 1_000, "Tablet").await;
        }
        db.execute("update payments set line_count = 130, subtotal = 130000, total = 151986").await;
        assert_eq!(world.deliver().await.counts.sent, 1);
        let mail = world.mail("INV-1-pay_1.eml");
        assert_eq!(mail.text.matches("* Tablet: 10.00 EUR").count(), 100);
        assert_eq!(mail.html.matches("Tablet<div").count(), 100);
        for part in [&mail.text, &mail.html] {
            assert!(part.contains("30 more lines") && part.contains("300.00 EUR"), "{part}");
            let (july, may) = (part.find("rnt_000").unwrap(), part.find("May 2026 (arrears)").unwrap());
            assert!(july < may && may < part.find("rnt_095").unwrap(), "{part}");
        }
    }

    async fn an_exempt_or_reverse_charge_invoice_says_why_there_is_no_tax(db: TestDb) {
        let world = World::new(&db).await;
        for (id, treatment) in [("pay_1", "exempt"), ("pay_2", "reverseCharge")] {
            world.add(Payment { id, ..PAYMENT }).await;
            db.execute(&format!(
                "update payments set tax_treatment = '{treatment}', tax_rate_ppm = 0, tax_amount = 0, total = subtotal
                 where payment_id = '{id}'"
            )).await;
        }
        assert_eq!(world.deliver().await.counts.sent, 2);
        assert!(world.mail("INV-1-pay_1.eml").html.contains("Exempt from tax."));
        assert!(world.mail("INV-1-pay_2.eml").text.contains("Reverse charge: the recipient is liable for the tax."));
    }

    async fn mails_are_listed_by_state_and_tenant_page_by_page(db: TestDb) {
        let world = World::new(&db).await;
        for (id, recipient) in [("pay_1", PAYMENT.recipient), ("pay_2", None), ("pay_3", PAYMENT.recipient)] {
            world.add(Payment { id, recipient, ..PAYMENT }).await;
        }
        let ids = |mails: Vec<OutboxMail>| mails.into_iter().map(|mail| mail.payment_id).collect::<Vec<_>>();
        let mut session = db.store.read().await.unwrap();
        let all = MailFilter::default();
        assert_eq!(ids(session.list_mails(all, None, 2).await.unwrap()), ["pay_1", "pay_2"]);
        assert_eq!(ids(session.list_mails(all, Some(("t1", "pay_2", 0)), 2).await.unwrap()), ["pay_3"]);
        let undeliverable = MailFilter { state: Some(MailState::Undeliverable), ..all };
        assert_eq!(ids(session.list_mails(undeliverable, None, 9).await.unwrap()), ["pay_2"]);
        let other_tenant = MailFilter { tenant_id: Some("t2"), ..all };
        assert_eq!(ids(session.list_mails(other_tenant, None, 9).await.unwrap()), Vec::<String>::new());
        session.end().await;
    }

    async fn settings_that_cannot_work_are_refused_before_a_mail_is_touched(db: TestDb) {
        let world = World::new(&db).await;
        world.add(Payment { id: "pay_1", ..PAYMENT }).await;
        for (from, domain) in [("nobody", "bills.example"), ("a@b.example", "b.example>\r\nX: y")] {
            let settings =
                DeliverySettings { from: from.into(), message_id_domain: domain.into(), ..world.settings() };
            assert!(deliver(&db.store, &settings, &FixedClock::at(world.instant()), &mut |_| ()).await.is_err());
        }
        assert_eq!(db.number("select count(*) from outbox where fence = 0").await, 1);
    }
}

/// One tenant with one customer, a folder for its mails, and a clock.
struct World<'a> {
    db: &'a TestDb,
    folder: PathBuf,
    micros: AtomicI64,
}

/// A payment of two lines; tests state only what they are about.
#[derive(Clone, Copy)]
struct Payment<'a> {
    id: &'a str,
    number: &'a str,
    recipient: Option<&'a str>,
    product: &'a str,
    lines: usize,
}

const PAYMENT: Payment<'static> =
    Payment { id: "pay", number: "INV-1", recipient: Some("anna@buyer.example"), product: "Laptop 14", lines: 2 };

const SELLER: &str = r#"{"tenantId": "t1", "name": "Shop", "legalName": "Shop GmbH", "address": "Street 1\n20095 Hamburg",
    "vatId": "DE123", "email": "help@shop.example", "iban": "DE02120300000000202051", "bic": "BYLADEM1001"}"#;
const BUYER: &str = r#"{"customerId": "c1", "company": "ACME Ltd", "firstName": "Anna", "lastName": "Smith",
    "buyerReference": "PO-77", "billingAddress": {"streetAddress": "Road 2", "postalCode": "10115", "city": "Berlin"}}"#;

/// 1 July 2026, 06:00 UTC: when the invoices are made.
const ISSUED: i64 = 1_782_885_600_000_000;

impl<'a> World<'a> {
    async fn new(db: &'a TestDb) -> Self {
        let world =
            Self { db, folder: db.dir.path().join("outbox/mails"), micros: AtomicI64::new(ISSUED + 60_000_000) };
        db.execute(
            "insert into tenants (tenant_id, name, currency, time_zone, locale, contract_end, proration, bill_from,
                 payment_terms_days, tax_mode, tax_rate_ppm, invoice_number_format, first_invoice_number, catch_up_days,
                 max_arrears, run_at, party_id, created_at, updated_at, changed_at)
             values ('t1', 'Shop', 'EUR', 'Europe/Berlin', 'en', 'end', 'none', '2026-01-01', 14, 'exclusive', 190000,
                 'INV-{seq}', 1, 7, 2, '06:00', 'seller', 0, 0, 0);
             insert into customers (tenant_id, customer_id, customer_type, status, billing_email, tax_treatment, party_id,
                 created_at, updated_at, changed_at)
             values ('t1', 'c1', 'business', 'active', 'anna@buyer.example', 'standard', 'buyer', 0, 0, 0)",
        )
        .await;
        world.party("seller", SELLER).await;
        world.party("buyer", BUYER).await;
        world
    }

    async fn party(&self, id: &str, body: &str) {
        let body = quoted(body);
        self.db
            .execute(&format!(
                "delete from parties where party_id = '{id}'; insert into parties values ('t1', '{id}', {body})"
            ))
            .await;
    }

    async fn add(&self, payment: Payment<'_>) {
        let Payment { id, number, recipient, product, lines } = payment;
        let state = if recipient.is_some() { "pending" } else { "undeliverable" };
        let recipient = recipient.map_or("null".into(), quoted);
        self.db
            .execute(&format!(
                "insert into payments (tenant_id, payment_id, subject_kind, subject_id, customer_id, subject_name,
                     billing_period, currency, subtotal, tax_amount, total, tax_rate_ppm, tax_treatment, status, issue_date,
                     due_date, invoice_number, line_count, seller_party, buyer_party, origin, live, run_id, created_at,
                     updated_at)
                 values ('t1', '{id}', 'group', 'grp_{id}', 'c1', 'Berlin office', '2026-07', 'EUR', 115714, 21986, 137700,
                     190000, 'standard', 'pending', '2026-07-01', '2026-07-15', '{number}', {lines}, 'seller', 'buyer',
                     'billday', true, 'run_1', {ISSUED}, {ISSUED});
                 insert into outbox (tenant_id, payment_id, kind, recipient, locale, state, attempts, next_at, fence,
                     created_at)
                 values ('t1', '{id}', 'invoice', {recipient}, 'en', '{state}', 0, {ISSUED}, 0, {ISSUED});
                 insert into outcomes (tenant_id, run_date, subject_kind, subject_id, outcome, payment_id, rentals, run_id)
                 values ('t1', '2026-07-01', 'group', 'grp_{id}', 'billed', '{id}', '[]', 'run_1');
                 insert into runs (tenant_id, run_id, run_date, kind, requested_by, state, batches, billed, already_billed,
                     skipped, parked, withheld, never_charged, totals, version, started_at, beat_at)
                 values ('t1', 'run_1', '2026-07-01', 'explicit', 'test', 'completed', 1, 1, 0, 0, 0, 0, 0, '{{}}', '', 0, 0)
                 on conflict do nothing"
            ))
            .await;
        if lines > 0 {
            self.line(id, "rnt_1", "2026-07", 100_000, product).await;
            self.line(id, "rnt_2", "2026-07", 15_714, "Phone").await;
        }
    }

    async fn line(&self, payment_id: &str, rental_id: &str, period: &str, amount: i64, product: &str) {
        let product = quoted(product);
        let arrears = period < "2026-07";
        self.db
            .execute(&format!(
                "insert into payment_lines (tenant_id, payment_id, rental_id, billing_period, amount, tax_amount, arrears,
                     product_name, serial_number, imported, live)
                 values ('t1', '{payment_id}', '{rental_id}', '{period}', {amount}, 0, {arrears}, {product}, 'SN-1', false,
                     false)"
            ))
            .await;
    }

    fn now(&self) -> i64 {
        self.micros.load(Ordering::Relaxed)
    }

    fn instant(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.now()).expect("a time")
    }

    fn wait_seconds(&self, seconds: i64) {
        self.micros.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    fn settings(&self) -> DeliverySettings {
        DeliverySettings {
            route: Route::Folder(self.folder.clone()),
            from: "billing@shop.example".into(),
            message_id_domain: "bills.example".into(),
            redirect_to: None,
            when_unknown: WhenUnknown::Resend,
            chance: || CHANCES - 1,
            documents: DocumentStore::new(self.documents().to_str().expect("a path")).expect("a place"),
            templates: Some(self.db.dir.path().join("templates")),
        }
    }

    /// What is on record of a payment's only document.
    async fn kept(&self, payment_id: &str) -> KeptDocument {
        let mut session = self.db.store.read().await.expect("a snapshot");
        let mut kept = session.kept_documents(&[("t1", payment_id)]).await.expect("documents");
        session.end().await;
        let mut kept = kept.remove(&("t1".to_owned(), payment_id.to_owned())).expect("a kept document");
        assert_eq!(kept.len(), 1);
        kept.remove(0)
    }

    fn documents(&self) -> PathBuf {
        self.db.dir.path().join("documents")
    }

    async fn deliver(&self) -> DeliveryReport {
        self.deliver_telling(&mut |_| ()).await
    }

    async fn deliver_telling(&self, progress: &mut (dyn FnMut(&DeliveryReport) + Send)) -> DeliveryReport {
        let (settings, clock) = (self.settings(), FixedClock::at(self.instant()));
        sendable(deliver(&self.db.store, &settings, &clock, progress)).await.expect("a delivery")
    }

    async fn outbox(&self, payment_id: &str) -> OutboxMail {
        let mut session = self.db.store.read().await.expect("a snapshot");
        let mail = session.find_mail("t1", payment_id).await.expect("a mail");
        session.end().await;
        mail.expect("a mail of that payment")
    }

    async fn delivery(&self) -> Delivery {
        let mut session = self.db.store.read().await.expect("a snapshot");
        let delivery = session.delivery_of_run("t1", "run_1").await.expect("counts");
        session.end().await;
        delivery
    }

    async fn retry(&self, payment_id: &str) -> Option<Retry> {
        let (payment_id, now) = (payment_id.to_owned(), self.now());
        let retry =
            self.db.store.with_tx(move |tx| Box::pin(async move { tx.retry_mail("t1", &payment_id, now).await }));
        retry.await.expect("a retry")
    }

    /// The names of the mails in the folder, in order.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).expect("the mail folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
        let mut names: Vec<String> = names.filter(|name| name != "tmp").collect();
        names.sort();
        names
    }

    fn mail(&self, name: &str) -> Mail {
        Mail::read(&self.folder.join(name))
    }
}

fn patience() -> Patience {
    Patience { when_unknown: WhenUnknown::Resend, chance: 0 }
}

/// A daemon runs deliveries as tasks.
fn sendable<T>(delivery: impl Future<Output = T> + Send) -> impl Future<Output = T> {
    delivery
}

/// A text as a literal of SQL.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A mail as a mail program reads it.
struct Mail {
    headers: Vec<(String, String)>,
    text: String,
    html: String,
    /// The name and the content of the file that is attached.
    file: (String, Vec<u8>),
}

impl Mail {
    fn read(path: &Path) -> Self {
        let message = std::fs::read_to_string(path).expect("a mail");
        let (headers, body) = headers_and_body(&message);
        let [words, file] = parts(header(&headers, "Content-Type"), "multipart/mixed", body);
        let (words_headers, words) = headers_and_body(words.trim_start());
        let [text, html] = parts(header(&words_headers, "Content-Type"), "multipart/alternative", words);
        let (file_headers, file) = headers_and_body(file.trim_start());
        assert_eq!(header(&file_headers, "Content-Type"), "application/pdf");
        let name = header(&file_headers, "Content-Disposition").split('"').nth(1).expect("a name").to_owned();
        let file = data_encoding::BASE64.decode(file.replace("\r\n", "").as_bytes()).expect("base64");
        let (text, html) = (part(text, "text/plain"), part(html, "text/html"));
        let file = (name, file);
        Self { text, html, headers, file }
    }

    fn header(&self, name: &str) -> &str {
        header(&self.headers, name)
    }
}

fn header<'h>(headers: &'h [(String, String)], name: &str) -> &'h str {
    let found: Vec<&str> = headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect();
    assert_eq!(found.len(), 1, "{name} in {headers:?}");
    found[0]
}

fn headers_and_body(message: &str) -> (Vec<(String, String)>, &str) {
    let (head, body) = message.split_once("\r\n\r\n").expect("a head and a body");
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let headers = unfolded.split("\r\n").map(|line| line.split_once(": ").expect(line));
    (headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), body)
}

/// The two parts of a body that has parts.
fn parts<'b>(content_type: &str, kind: &str, body: &'b str) -> [&'b str; 2] {
    assert!(content_type.starts_with(&format!("{kind};")), "{content_type}");
    let boundary = content_type.split('"').nth(1).expect("a boundary");
    // The boundary of what is inside begins in the same way.
    let marked = format!("--{boundary}\r\n");
    let (body, after) = body.split_once(&format!("--{boundary}--")).expect("an end");
    let parts: Vec<&str> = body.split(&marked).collect();
    let [before, one, other] = parts[..] else { panic!("{} parts", parts.len()) };
    assert_eq!((before.trim(), after.trim()), ("", ""));
    [one, other]
}

fn part(part: &str, kind: &str) -> String {
    let (headers, body) = headers_and_body(part.trim_start());
    assert_eq!(header(&headers, "Content-Type"), format!("{kind}; charset=utf-8"));
    let bytes = match header(&headers, "Content-Transfer-Encoding") {
        "7bit" => body.as_bytes().to_vec(),
        "quoted-printable" => quoted_printable(body),
        "base64" => data_encoding::BASE64.decode(body.replace("\r\n", "").as_bytes()).expect("base64"),
        other => panic!("{other}"),
    };
    String::from_utf8(bytes).expect("UTF-8").replace("\r\n", "\n")
}

fn quoted_printable(body: &str) -> Vec<u8> {
    let body = body.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = body.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'=' {
            let hex = std::str::from_utf8(&after[..2]).expect("hex");
            bytes.push(u8::from_str_radix(hex, 16).expect("hex"));
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}
