//! Mails from the outbox to a mail server that fails in every way: none is lost, and only one that nobody knew of is there twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use billday::clock::Clock;
use billday::deliver::{DeliveryReport, DeliverySettings, LEASE, Route, deliver};
use billday::documents::DocumentStore;
use billday::domain::message::{CHANCES, MailState, WhenUnknown};
use billday::domain::report::Delivery;
use billday::mail::smtp::{Limits, Security, SmtpSettings};
use billday::store::outbox::{MailFilter, OutboxMail, Retry};
use serde_json::{Value, json};

use crate::cli::billday;
use crate::support::lane::Counts;
use crate::support::random::Random;
use crate::support::smtp::{At, Fault, MailServer, Manner, Moment, PASSWORD, Taken, USER, acceptor, short_limits};
use crate::support::world::{World, day, group, noon, rental, tenant};
use crate::support::{TestDb, assert_verified, on_both, torture};

/// A company with invoices in its outbox, and a mail server.
struct Post {
    world: World,
    server: MailServer,
    limits: Limits,
    /// Billed so far, from January 2026 on.
    months: u32,
}

impl Post {
    /// Bills `customers`, each with one rental.
    async fn new(db: TestDb, customers: Vec<Value>) -> Self {
        let world = World::without_data(db);
        let mut records = tenant("T", json!({"email": "help@shop.example"})).as_array().cloned().unwrap_or_default();
        for (n, mut customer) in customers.into_iter().enumerate() {
            customer["tenantId"] = "T".into();
            customer["customerId"] = format!("C{n:04}").into();
            records.push(rental(&format!("R{n:04}"), "2026-01-15", json!({"customerId": customer["customerId"]})));
            records.push(customer);
        }
        world.import(Value::from(records)).await;
        world.run("2026-01-15").await;
        Self { world, server: MailServer::start(Manner::default()).await, limits: short_limits(), months: 1 }
    }

    async fn plain(db: TestDb, mails: usize) -> Self {
        Self::new(db, (0..mails).map(|n| json!({"email": format!("c{n}@buyer.example")})).collect()).await
    }

    fn settings(&self) -> DeliverySettings {
        delivery_settings(SmtpSettings { limits: self.limits, ..self.server.settings() }, self.world.db.dir.path())
    }

    async fn deliver(&self) -> DeliveryReport {
        self.deliver_with(&self.settings()).await
    }

    async fn deliver_with(&self, settings: &DeliverySettings) -> DeliveryReport {
        deliver(&self.world.db.store, settings, &*self.world.clock, &mut |_| ()).await.expect("a delivery")
    }

    fn wait(&self, time: chrono::TimeDelta) {
        self.world.clock.set(self.world.clock.now() + time);
    }

    async fn mails(&self) -> Vec<OutboxMail> {
        let mut session = self.world.db.store.read().await.expect("a snapshot");
        let mails = session.list_mails(MailFilter::default(), None, 100_000).await.expect("mails");
        session.end().await;
        mails
    }

    async fn mail(&self) -> OutboxMail {
        self.mails().await.remove(0)
    }

    async fn retry(&self) -> Option<Retry> {
        let (id, now) = (self.mail().await.payment_id, billday::clock::micros(self.world.clock.now()));
        let retry = self.world.db.store.with_tx(move |tx| Box::pin(async move { tx.retry_mail("T", &id, now).await }));
        retry.await.expect("a retry")
    }

    /// Mails that are not done with.
    async fn under_way(&self) -> i64 {
        let sql = "select count(*) from outbox where state in ('pending', 'sending', 'unknown')";
        self.world.db.number(sql).await
    }

    /// Bills one more month, which is that of today or has passed.
    async fn bill_next_month(&mut self) {
        let date = format!("{}-{:02}-15", 2026 + self.months / 12, 1 + self.months % 12);
        self.months += 1;
        let noon = noon(day(&date));
        if self.world.clock.now() < noon {
            self.world.clock.set(noon);
        }
        self.world.run_later(&date).await;
    }

    /// Has the program send while a fault happens, and die at an edge after it; tells whether it came to that.
    async fn fail_and_die(&self, at: At, fault: Fault, edge: Edge) -> bool {
        const SENT: &str = "select count(*) from outbox where state = 'sent'";
        let sent = self.world.db.number(SENT).await;
        self.server.fail(at, fault);
        let mut sender = self.spawn();
        if let Edge::At(moment) = edge {
            self.server.kill_at(moment, sender.id());
        }
        let begun = std::time::Instant::now();
        // A line that stalls takes its time, and there may be nobody left to come to the edge.
        while begun.elapsed() < Duration::from_secs(3) && sender.try_wait().expect("a process").is_none() {
            if matches!(edge, Edge::Settled) && self.world.db.number(SENT).await > sent {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let waited = sender.try_wait().expect("a process").is_none();
        sender.kill().expect("a killed process");
        let status = sender.wait().expect("an ended process");
        let reached = !self.server.spare();
        self.server.forget_faults();
        match edge {
            Edge::At(_) => reached && status.code().is_none(),
            Edge::Settled => waited,
        }
    }

    /// The program itself, sending what waits.
    fn spawn(&self) -> Child {
        let now = self.world.clock.now().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        Command::new(env!("CARGO_BIN_EXE_billday"))
            .args(["outbox", "send", "--database", &self.world.db.url])
            .env("BILLDAY_TEST_NOW", now)
            .env("BILLDAY_MAIL__TRANSPORT", "smtp")
            .env("BILLDAY_MAIL__HOST", "127.0.0.1")
            .env("BILLDAY_MAIL__PORT", self.server.address.port().to_string())
            .env("BILLDAY_MAIL__SECURITY", "none")
            .env("BILLDAY_MAIL__MESSAGE_ID_DOMAIN", "bills.example")
            .current_dir(self.world.db.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program")
    }

    /// Who was sent what the server took, in order.
    fn taken_by(&self) -> Vec<String> {
        let mut to: Vec<String> = self.server.taken().into_iter().map(|mail| mail.to).collect();
        to.sort();
        to
    }
}

fn delivery_settings(server: SmtpSettings, documents: &Path) -> DeliverySettings {
    DeliverySettings {
        route: Route::Smtp { server, connections: 4, per_minute: 0 },
        from: "billing@shop.example".into(),
        message_id_domain: "bills.example".into(),
        templates: None,
        redirect_to: None,
        when_unknown: WhenUnknown::Resend,
        chance: || CHANCES - 1,
        documents: DocumentStore::new(documents.join("documents").to_str().expect("a path")).expect("a place"),
    }
}

fn sent(count: u64) -> Delivery {
    Delivery { sent: count, ..Delivery::default() }
}

on_both! {
    async fn all_mails_go_out_over_several_connections_each_once(db: TestDb) {
        let post = Post::plain(db, 60).await;
        assert_eq!(post.deliver().await, DeliveryReport { counts: sent(60), ..DeliveryReport::default() });
        let mut expected: Vec<String> = (0..60).map(|n| format!("c{n}@buyer.example")).collect();
        expected.sort();
        assert_eq!(post.taken_by(), expected);
        assert!((4..=8).contains(&post.server.connections()), "{}", post.server.connections());
        let one = &post.server.taken()[0];
        assert_eq!((one.from.as_str(), one.header("To")), ("billing@shop.example", Some(one.to.as_str())));
        assert!(one.message.contains("Content-Type: application/pdf"));
        assert_eq!(post.deliver().await, DeliveryReport::default(), "nothing is left");
        assert_verified(&post.world.db).await;
    }

    async fn each_recipient_and_copy_gets_the_same_mail_and_one_that_is_refused_keeps_it_from_nobody(db: TestDb) {
        let post = Post::new(db, vec![json!({
            "email": "office@buyer.example",
            "invoiceRecipients": ["a@buyer.example", "b@buyer.example"],
            "invoiceCc": ["c@buyer.example", "A@buyer.example"],
        })]).await;
        let settings = DeliverySettings {
            route: Route::Smtp { server: post.server.settings(), connections: 1, per_minute: 0 }, ..post.settings()
        };
        post.server.fail(At::Recipient, Fault::Say("550 5.1.1 no such user"));
        let report = post.deliver_with(&settings).await;
        assert_eq!(report.counts, Delivery { sent: 2, failed: 1, ..Delivery::default() });
        assert_eq!(post.taken_by(), ["b@buyer.example", "c@buyer.example"]);
        let taken = post.server.taken();
        assert_eq!(taken[0].message, taken[1].message);
        assert_eq!(taken[0].header("To"), Some("a@buyer.example, b@buyer.example"));
        assert_eq!(taken[0].header("Cc"), Some("c@buyer.example"));
        let refused = post.mail().await;
        assert_eq!((refused.state, refused.error.as_deref()), (MailState::Failed, Some("550 5.1.1 no such user")));
        assert_verified(&post.world.db).await;

        // The list is mended: the failed mail goes to the one that nobody else got it under.
        post.world.import(json!([{"tenantId": "T", "customerId": "C0000", "email": "office@buyer.example",
            "invoiceRecipients": ["anna@buyer.example", "b@buyer.example"], "invoiceCc": ["c@buyer.example"]}])).await;
        assert_eq!(post.retry().await, Some(Retry::Queued(vec!["anna@buyer.example".into()])));
        assert_eq!(post.deliver_with(&settings).await.counts, sent(1));
        assert_eq!(post.taken_by(), ["anna@buyer.example", "b@buyer.example", "c@buyer.example"]);
    }

    async fn a_groups_list_comes_before_its_customers_and_no_address_leaves_one_undeliverable_mail(db: TestDb) {
        let world = World::without_data(db);
        let mut records = tenant("T", json!({})).as_array().cloned().unwrap_or_default();
        let mut of_group = group("G", 15, &["R1"]);
        of_group["invoiceRecipients"] = json!(["team@buyer.example"]);
        records.extend([
            json!({"tenantId": "T", "customerId": "C", "company": "Acme", "email": "pay@buyer.example",
                   "invoiceRecipients": ["own@buyer.example"], "invoiceCc": ["boss@buyer.example"]}),
            json!({"tenantId": "T", "customerId": "D", "company": "Nobody"}),
            of_group,
            rental("R1", "2026-01-01", json!({})),
            rental("R2", "2026-01-15", json!({})),
            rental("R3", "2026-01-15", json!({"customerId": "D"})),
        ]);
        world.import(Value::from(records)).await;
        let report = world.run("2026-01-15").await;
        assert_eq!(report["delivery"], json!({"waiting": 4, "sent": 0, "failed": 0, "undeliverable": 1}));
        let queued = world.db.texts(
            "select p.subject_id || ' ' || cast(o.position as text) || ' ' || coalesce(o.recipient, 'nobody')
             from outbox o join payments p on p.payment_id = o.payment_id order by p.subject_id, o.position",
        ).await;
        assert_eq!(queued, [
            "G 0 team@buyer.example", "G 1 boss@buyer.example", "R2 0 own@buyer.example", "R2 1 boss@buyer.example",
            "R3 0 nobody",
        ]);
        assert_verified(&world.db).await;
    }

    async fn a_wrong_address_in_a_list_is_refused_by_the_import_with_its_place(db: TestDb) {
        let world = World::new(db).await;
        let csv = "tenantId,customerId,email,invoiceRecipients\nT,C2,x@y.example,a@b.example; nobody\n";
        let refused = world.try_import(&[("customers.csv", csv.to_owned())]).await.unwrap_err().to_string();
        assert!(refused.contains("invoiceRecipients.1") && refused.contains("'nobody' has no @"), "{refused}");
        let many: Vec<String> = (0..21).map(|n| format!("a{n}@b.example")).collect();
        let records = json!([{"tenantId": "T", "customerId": "C2", "email": "x@y.example", "invoiceCc": many}]);
        let refused = world.try_import(&[("customers.json", records.to_string())]).await.unwrap_err().to_string();
        assert!(refused.contains("invoiceCc") && refused.contains("has 21 addresses: the most is 20"), "{refused}");
        let csv = "tenantId,customerId,email,invoiceRecipients,invoiceCc\nT,C2,x@y.example,a@b.example; c@d.example,\n";
        world.try_import(&[("customers.csv", csv.to_owned())]).await.unwrap();
        let kept = world.db.texts("select invoice_recipients from customers where customer_id = 'C2'").await;
        assert_eq!(kept, [r#"["a@b.example","c@d.example"]"#]);
    }

    async fn on_trial_all_mails_go_to_one_address_and_say_whom_they_were_for(db: TestDb) {
        let post = Post::plain(db, 2).await;
        let settings = DeliverySettings { redirect_to: Some("me@my.example".into()), ..post.settings() };
        assert_eq!(post.deliver_with(&settings).await.counts, sent(2));
        assert_eq!(post.taken_by(), ["me@my.example", "me@my.example"]);
        let mut meant: Vec<String> = post.server.taken().iter()
            .map(|mail| format!("{} {}", mail.header("X-Billday-Recipient").unwrap(), mail.header("To").unwrap())).collect();
        meant.sort();
        assert_eq!(meant, ["c0@buyer.example me@my.example", "c1@buyer.example me@my.example"]);
        assert!(post.server.taken()[0].header("Subject").unwrap().starts_with("[for c"));
    }

    async fn a_server_that_is_down_or_takes_nothing_stops_the_delivery_and_costs_no_mail_an_attempt(db: TestDb) {
        let post = Post::plain(db, 30).await;
        for (at, fault, said) in [
            (At::Greeting, Fault::Say("554 go away"), "554"),
            (At::Sender, Fault::Say("550 5.7.1 sender unknown"), "550 5.7.1 sender unknown"),
            (At::Recipient, Fault::Say("421 closing"), "421 closing"),
            (At::Message, Fault::Say("421 closing"), "421 closing"),
        ] {
            let settings = DeliverySettings {
                route: Route::Smtp { server: post.server.settings(), connections: 1, per_minute: 0 }, ..post.settings()
            };
            post.server.fail(at, fault);
            let report = post.deliver_with(&settings).await;
            let why = report.stopped.expect("a reason");
            assert!(why.contains(said), "{why}");
            assert_eq!((report.counts.sent, report.counts.failed), (0, 0));
        }
        assert_eq!(post.world.db.number("select count(*) from outbox where state = 'pending' and attempts = 0").await, 30);
        assert_eq!(post.deliver().await.counts, sent(30), "once it is mended, all go out at once");
    }

    async fn a_server_that_breaks_off_again_and_again_is_left_alone(db: TestDb) {
        let post = Post::plain(db, 30).await;
        for _ in 0..30 {
            post.server.fail(At::Recipient, Fault::HangUp);
        }
        let report = post.deliver().await;
        assert!(report.stopped.is_some());
        assert!(post.server.faults_left() >= 30 - 5 - 4, "{} were left", post.server.faults_left());
        post.server.forget_faults();
        post.wait(chrono::TimeDelta::minutes(2));
        assert_eq!(post.deliver().await.counts, sent(30));
    }

    async fn a_deferred_mail_waits_longer_each_time_and_is_given_up_in_the_end(db: TestDb) {
        let post = Post::plain(db, 1).await;
        let mut waited = Vec::new();
        loop {
            post.server.fail(At::Recipient, Fault::Say("451 4.7.1 greylisted"));
            let before = post.world.clock.now();
            let report = post.deliver().await;
            let mail = post.mail().await;
            if mail.state == MailState::Failed {
                assert_eq!(report.counts, Delivery { failed: 1, ..Delivery::default() });
                break;
            }
            assert_eq!((mail.state, mail.error.as_deref()), (MailState::Pending, Some("451 4.7.1 greylisted")));
            assert_eq!(post.deliver().await, DeliveryReport::default(), "not before its time");
            let next = billday::clock::instant(mail.next_at).expect("a time");
            waited.push((next - before).num_seconds());
            post.world.clock.set(next);
        }
        assert_eq!(waited[..4], [60, 120, 240, 480]);
        assert_eq!(waited.last(), Some(&14_400));
        assert_eq!(post.retry().await, Some(Retry::Queued(vec!["c0@buyer.example".into()])));
        assert_eq!(post.deliver().await.counts, sent(1));
    }

    async fn a_mail_that_may_have_been_taken_is_sent_once_more_under_its_id_and_then_held(db: TestDb) {
        let post = Post::plain(db, 1).await;
        post.server.fail(At::Message, Fault::TakeAndHangUp);
        assert_eq!(post.deliver().await.counts, Delivery { waiting: 1, ..Delivery::default() });
        let mail = post.mail().await;
        assert_eq!(mail.state, MailState::Unknown);
        assert!(mail.error.unwrap().contains("may have taken it"));
        post.wait(chrono::TimeDelta::minutes(14));
        assert_eq!(post.deliver().await, DeliveryReport::default());
        post.wait(chrono::TimeDelta::minutes(1));
        post.server.fail(At::Message, Fault::TakeAndStall);
        assert_eq!(post.deliver().await.counts, Delivery { failed: 1, ..Delivery::default() });
        assert_eq!(post.mail().await.state, MailState::Held);
        post.wait(chrono::TimeDelta::days(30));
        assert_eq!(post.deliver().await, DeliveryReport::default(), "from now on a person decides");
        let ids: Vec<Taken> = post.server.taken();
        assert_eq!(ids.len(), 2);
        assert_eq!(ids[0].message, ids[1].message, "equal to the last byte, so that a receiver can drop one");
        assert_eq!(post.retry().await, Some(Retry::Queued(vec!["c0@buyer.example".into()])));
        assert_eq!(post.deliver().await.counts, sent(1));
    }

    async fn with_hold_no_mail_goes_out_twice_by_itself(db: TestDb) {
        let post = Post::plain(db, 3).await;
        let hold = DeliverySettings { when_unknown: WhenUnknown::Hold, ..post.settings() };
        // One was left in doubt while the policy was another.
        post.server.fail(At::Message, Fault::TakeAndHangUp);
        assert_eq!(post.deliver().await.counts, Delivery { sent: 2, waiting: 1, ..Delivery::default() });
        post.wait(chrono::TimeDelta::hours(1));
        assert_eq!(post.deliver_with(&hold).await.counts.sent, 0);
        assert_eq!(post.world.db.number("select count(*) from outbox where state = 'held'").await, 1);
        assert_eq!(post.taken_by().len(), 3);
    }

    async fn a_mail_whose_sender_died_is_in_doubt_and_its_late_word_is_proof(db: TestDb) {
        let post = Post::plain(db, 1).await;
        let now = billday::clock::micros(post.world.clock.now());
        let until = billday::clock::micros(post.world.clock.now() + LEASE);
        let claim = post.world.db.store.with_tx(move |tx| Box::pin(tx.claim_mails(
            1, now, until, billday::store::outbox::Expired::Left,
        )));
        let claimed = claim.await.unwrap();
        assert_eq!(post.deliver().await, DeliveryReport::default(), "the lease still holds");
        post.wait(LEASE);
        assert_eq!(post.deliver().await.counts, Delivery { waiting: 1, ..Delivery::default() });
        assert_eq!((post.mail().await.state, post.server.taken().len()), (MailState::Unknown, 0));

        // It was only slow: what it says settles the doubt, and no copy goes out.
        let patience = billday::domain::message::Patience { when_unknown: WhenUnknown::Resend, chance: 0 };
        let settled = billday::domain::message::Attempt::Accepted.settle(claimed[0].tried(), patience).unwrap();
        let late = vec![(claimed[0].clone(), settled)];
        let written = post.world.db.store.with_tx(move |tx| Box::pin(async move { tx.settle_mails(&late, now).await }));
        assert_eq!(written.await.unwrap(), [MailState::Sent]);
        post.wait(chrono::TimeDelta::days(1));
        assert_eq!(post.deliver().await, DeliveryReport::default());
        assert_verified(&post.world.db).await;
    }

    async fn while_sending_is_paused_nobody_takes_a_mail(db: TestDb) {
        let post = Post::plain(db, 1).await;
        let store = &post.world.db.store;
        store.with_tx(|tx| Box::pin(tx.pause_mails(Some("new letterhead"), "ann", 5))).await.unwrap();
        assert_eq!(post.deliver().await, DeliveryReport::default());
        let mut session = store.read().await.unwrap();
        assert_eq!(session.find_pause().await.unwrap().and_then(|pause| pause.reason).as_deref(), Some("new letterhead"));
        session.end().await;
        assert!(store.with_tx(|tx| Box::pin(tx.resume_mails())).await.unwrap());
        assert!(!store.with_tx(|tx| Box::pin(tx.resume_mails())).await.unwrap());
        assert_eq!(post.deliver().await.counts, sent(1));
    }

    async fn no_more_mails_go_out_in_a_minute_than_may(db: TestDb) {
        let post = Post::plain(db, 5).await;
        let slow = Route::Smtp { server: post.server.settings(), connections: 4, per_minute: 600 };
        let start = std::time::Instant::now();
        assert_eq!(post.deliver_with(&DeliverySettings { route: slow, ..post.settings() }).await.counts, sent(5));
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    }

    async fn settings_of_a_server_that_cannot_work_leave_all_mails_waiting(db: TestDb) {
        let post = Post::plain(db, 1).await;
        let server = SmtpSettings {
            ca_file: Some("/nonexistent/ca.pem".into()),
            security: Security::Tls,
            ..post.server.settings()
        };
        let settings = delivery_settings(server, post.world.db.dir.path());
        let report = post.deliver_with(&settings).await;
        assert!(report.stopped.unwrap().contains("mail.caFile /nonexistent/ca.pem"));
        assert_eq!((post.mail().await.state, post.mail().await.attempts), (MailState::Pending, 0));
    }
}

/// Faults injected per database in CI; `BILLDAY_TEST_TORTURE` brings them to 2,000.
const FAULTS: usize = 500;

/// How long a stall is waited for there; what is slow under load only adds to the doubts.
const STALL: Duration = Duration::from_millis(150);

/// Mails that the faults fall upon; bad ones among them.
fn customers(count: usize) -> Vec<Value> {
    (0..count)
        .map(|n| match n % 25 {
            3 => json!({"company": "\u{202e}Evil & <b>Co</b>: \"quoted\"", "email": format!("c{n}@buyer.example")}),
            // Plausible enough for an import, but no mail server would take it.
            7 => json!({"company": "Odd", "email": format!("-c{n}@buyer.example")}),
            11 => {
                json!({"company": "List", "email": "x@y.example", "invoiceRecipients": [format!("c{n}@buyer.example")],
                         "invoiceCc": [format!("copy{n}@buyer.example")]})
            }
            _ => json!({"company": "Fine", "email": format!("c{n}@buyer.example")}),
        })
        .collect()
}

on_both! {
    async fn of_five_hundred_faults_none_loses_a_mail_and_only_doubt_makes_a_copy(db: TestDb) {
        let mut random = Random::new();
        let mut post = Post::new(db, customers(150)).await;
        post.limits = Limits { greeting: STALL, command: STALL, last: STALL, ..post.limits };
        let faults = (FAULTS * torture() as usize).min(2_000);
        post.server.be_unreliable(faults, Random::new());
        let mut deaths = 0;
        while post.server.trouble_left() > 0 {
            if random.below(4) == 0 {
                // The process dies in the midst of it: what it knew and had not written is gone.
                let death = Duration::from_millis(random.below(100));
                deaths += u64::from(tokio::time::timeout(death, post.deliver()).await.is_err());
            } else {
                post.deliver().await;
            }
            // Whatever waits is due again: what was deferred or in doubt, and what a death left behind.
            post.wait(LEASE + chrono::TimeDelta::hours(4));
            if post.under_way().await < 20 {
                post.bill_next_month().await;
            }
        }
        let mut counts = Counts::new("faults of a mail server", &post.world.db);
        counts.add("faults", faults as u64);
        counts.add("processes died", deaths);
        assert_nothing_lost(&post, &mut counts).await;
        counts.end(&[("in doubt", 10), ("processes died", 5)]);
    }

    async fn programs_that_are_killed_at_any_moment_lose_no_mail_and_leave_only_doubt(db: TestDb) {
        let mut random = Random::new();
        let mut post = Post::new(db, customers(150)).await;
        let mut deaths = 0;
        for _ in 0..25 * torture() {
            let mut sender = post.spawn();
            // It has begun to send, whatever the machine does beside.
            let begun = post.server.taken().len();
            while post.server.taken().len() == begun && sender.try_wait().expect("a process").is_none() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            tokio::time::sleep(Duration::from_millis(random.below(30))).await;
            deaths += u64::from(sender.try_wait().expect("a process").is_none());
            sender.kill().expect("a killed process");
            sender.wait().expect("an ended process");
            post.wait(LEASE + chrono::TimeDelta::minutes(20));
            if post.under_way().await < 20 {
                post.bill_next_month().await;
            }
        }
        let mut counts = Counts::new("senders killed at any moment", &post.world.db);
        counts.add("processes died", deaths);
        assert_nothing_lost(&post, &mut counts).await;
        counts.end(&[("in doubt", 10), ("processes died", 5)]);
    }

    async fn each_fault_at_each_step_and_a_death_at_each_edge_of_the_outbox_lose_no_mail(db: TestDb) {
        let mut random = Random::new();
        let mut counts = Counts::new("faults at each step, death at each edge", &db);
        let mut post = Post::new(db, customers(60)).await;
        let stride = (13 / u64::from(torture()).min(13)).max(1);
        let mut number = random.below(stride);
        for at in STEPS {
            for fault in faults_at(at) {
                for edge in EDGES {
                    number += 1;
                    if !number.is_multiple_of(stride) {
                        continue;
                    }
                    counts.add("faults", 1);
                    let died = post.fail_and_die(at, fault.clone(), edge).await;
                    counts.add("processes died", u64::from(died));
                    let after_the_dot = matches!(edge, Edge::At(Moment::Before(At::Message) | Moment::After(At::Message)));
                    counts.add("after the last dot", u64::from(died && after_the_dot));
                    post.wait(LEASE + chrono::TimeDelta::hours(4));
                    if post.under_way().await < 20 {
                        post.bill_next_month().await;
                    }
                }
            }
        }
        assert_nothing_lost(&post, &mut counts).await;
        let faults = counts.of("faults");
        counts.end(&[("processes died", faults / 4), ("after the last dot", faults / 20), ("in doubt", faults / 8)]);
    }

    async fn a_death_between_the_servers_word_and_its_record_makes_at_most_one_copy(db: TestDb) {
        let mut post = Post::new(db, customers(60)).await;
        let mut counts = Counts::new("deaths in the window of a duplicate", &post.world.db);
        for _ in 0..(15 * torture()).min(250) {
            let mut sender = post.spawn();
            post.server.kill_at(Moment::After(At::Message), sender.id());
            sender.wait().expect("an ended process");
            counts.add("processes died", u64::from(!post.server.spare()));
            post.wait(LEASE + chrono::TimeDelta::minutes(20));
            if post.under_way().await < 20 {
                post.bill_next_month().await;
            }
        }
        assert_nothing_lost(&post, &mut counts).await;
        let died = counts.of("processes died");
        assert!(counts.of("sent twice") <= 4 * died, "one copy for each of the four lines, at most");
        counts.end(&[("processes died", 5), ("in doubt", 5)]);
    }
}

/// Steps of a conversation at which each fault is tried.
const STEPS: [At; 6] = [At::Greeting, At::Hello, At::Sender, At::Recipient, At::Data, At::Message];

/// Where the mails' way through the outbox is cut off.
#[derive(Debug, Clone, Copy)]
enum Edge {
    At(Moment),
    /// At least one more is on record as sent.
    Settled,
}

/// Claimed, and nothing said yet; the server waits for the message; it has it; it has taken it; that is on record.
const EDGES: [Edge; 5] = [
    Edge::At(Moment::Before(At::Greeting)),
    Edge::At(Moment::After(At::Data)),
    Edge::At(Moment::Before(At::Message)),
    Edge::At(Moment::After(At::Message)),
    Edge::Settled,
];

/// The thirteen kinds of fault, as far as they can happen at a step.
fn faults_at(at: At) -> Vec<Fault> {
    let mut faults = vec![
        Fault::Say("421 busy"),
        Fault::Say("451 later"),
        Fault::Say("452 full"),
        Fault::Say("550 5.7.1 no"),
        Fault::Say("354 what"),
        Fault::Stall,
        Fault::HangUp,
        Fault::Nonsense,
        Fault::Long,
        Fault::Endless,
        Fault::EndlessLine,
        Fault::Slowly(Duration::from_millis(2)),
    ];
    match at {
        At::Message => faults.extend([Fault::TakeAndHangUp, Fault::TakeAndStall, Fault::HangUpInMessage]),
        // There it is what is expected.
        At::Hello | At::Sender | At::Recipient => {}
        _ => faults.push(Fault::Say("250 2.0.0 what")),
    }
    faults
}

/// Ends all that is under way, then compares the server's log with the outbox.
async fn assert_nothing_lost(post: &Post, counts: &mut Counts) {
    while post.under_way().await > 0 {
        post.deliver().await;
        post.wait(LEASE + chrono::TimeDelta::hours(4));
    }
    let doubts = doubts(post).await;
    let mut copies: BTreeMap<(String, String), i64> = BTreeMap::new();
    for mail in post.server.taken() {
        *copies.entry((mail.message_id().to_owned(), mail.to.clone())).or_default() += 1;
    }
    let (mut lost, mut doubles) = (Vec::new(), 0);
    for mail in post.mails().await {
        let id = billday::domain::message::message_id("T", &mail.payment_id, "bills.example");
        let to = mail.recipient.clone().expect("a recipient");
        let taken = copies.remove(&(id, to.clone())).unwrap_or_default();
        let doubted = doubts[&(mail.payment_id.clone(), mail.position)];
        match mail.state {
            MailState::Sent if taken == 0 => lost.push(to.clone()),
            MailState::Sent | MailState::Held | MailState::Failed => {}
            state => panic!("{to} is still {state}"),
        }
        // A refusal that came after a copy was taken in doubt is told as a failure all the same.
        assert!(mail.state != MailState::Failed || taken <= doubted, "{mail:?}");
        assert!(taken <= 1 + doubted, "{to} got {taken} copies and was in doubt {doubted} times");
        doubles += u64::from(taken > 1);
    }
    assert_eq!(lost, Vec::<String>::new());
    assert_eq!(copies, BTreeMap::new(), "mails of which the outbox knows nothing");
    counts.add("mails", doubts.len() as u64);
    counts.add("in doubt", doubts.values().filter(|doubts| **doubts > 0).count() as u64);
    counts.add("sent twice", doubles);
    assert_verified(&post.world.db).await;
}

/// How often each mail was in doubt, by payment and position.
async fn doubts(post: &Post) -> BTreeMap<(String, i64), i64> {
    let rows = post
        .world
        .db
        .texts("select payment_id || ' ' || cast(position as text) || ' ' || cast(doubts as text) from outbox")
        .await;
    let parsed = rows.iter().map(|row| {
        let [payment, position, doubts] = row.split(' ').collect::<Vec<_>>()[..] else { panic!("{row}") };
        ((payment.to_owned(), position.parse().expect("a number")), doubts.parse().expect("a number"))
    });
    parsed.collect()
}

on_both! {
    async fn the_program_tries_the_server_pauses_and_tells_it_in_its_lists(db: TestDb) {
        let post = Post::plain(db, 1).await;
        let folder = post.world.db.dir.path();
        let ca_file = folder.join("ca.pem");
        let tls = Some((Security::StartTls, acceptor(&ca_file)));
        let server = MailServer::start(Manner { tls, wants_login: true, slips_in: false }).await;
        let port = server.address.port();
        let config = |password: &str| post.world.db.file(
            "mail.toml",
            format!(
                "[mail]\ntransport = 'smtp'\nhost = 'localhost'\nport = {port}\nuser = '{USER}'\npassword = '{password}'\n\
                 caFile = '{}'\n", ca_file.display()
            ),
        );
        let program = |config: &Path, args: &[&str]| {
            let mut all = vec!["--config", config.to_str().expect("a path")];
            all.extend(args);
            billday(folder, &post.world.db.url, &all)
        };
        let good = config(PASSWORD);
        let checked = program(&good, &["config", "check"]);
        assert_eq!(checked.status, 0, "{checked:?}");
        for said in ["mail: connected to localhost:", "mail: encrypted with TLS", "mail: logged in: 235 welcome"] {
            assert!(checked.out.contains(said), "{checked:?}");
        }
        let tried = program(&good, &["mail", "test", "me@my.example"]);
        assert_eq!(tried.status, 0, "{tried:?}");
        assert!(tried.out.contains("message taken: 250 taken"), "{tried:?}");
        assert_eq!(server.taken()[0].to, "me@my.example");
        assert_eq!(program(&good, &["mail", "test", "nobody"]).status, 2);

        assert_eq!(program(&good, &["outbox", "pause", "--reason", "new letterhead"]).status, 0);
        let listed = program(&good, &["outbox", "list"]);
        assert!(listed.err.contains(": new letterhead; `billday outbox resume` lets them go"), "{listed:?}");
        let waiting = program(&good, &["outbox", "send"]);
        assert!(waiting.status == 0 && waiting.err.contains("mails are paused since"), "{waiting:?}");
        assert_eq!(server.taken().len(), 1);
        assert!(program(&good, &["outbox", "resume"]).out.contains("mails go out again"));
        assert!(program(&good, &["outbox", "send"]).out.contains("1 sent, 0 failed"));
        assert_eq!(server.taken().len(), 2);

        let bad = config("other");
        for args in [&["config", "check"][..], &["mail", "test", "me@my.example"], &["outbox", "retry", "none"]] {
            let told = program(&bad, args);
            assert!(!format!("{told:?}").contains(PASSWORD) && !format!("{told:?}").contains("other"), "{told:?}");
        }
        let told = program(&bad, &["config", "check"]);
        assert!(told.status == 1 && told.err.contains("the login was refused by localhost:"), "{told:?}");
        drop(server);
        let told = program(&good, &["config", "check"]);
        assert!(told.status == 1 && told.err.contains("cannot connect to the mail server localhost:"), "{told:?}");
    }
}
