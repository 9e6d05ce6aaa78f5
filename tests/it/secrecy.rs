//! What the most talkative logs hold when everything is done that the program can do: no name, no address, no secret.

use data_encoding::BASE64;
use serde_json::json;

use crate::cli::{Told, billday_with};
use crate::support::daemon::{Daemon, TimeFile, eventually};
use crate::support::http::{HttpRequest, Reply};
use crate::support::lane::Counts;
use crate::support::smtp::{At, Fault, MailServer, Manner, PASSWORD, USER, acceptor};
use crate::support::world::{World, group, rental, tenant};
use crate::support::{TestDb, on_both};
use billday::mail::smtp::Security;

/// Everything that is not to be told has this in it, in capitals or not.
const CANARY: &str = "canary";
const IBAN: &str = "DE89370400440532013000";
const VAT_ID: &str = "DE123456789";

fn records() -> serde_json::Value {
    let mut records = tenant(
        "T",
        json!({
            "name": "Canaryseller", "legalName": "Canaryseller GmbH", "iban": IBAN, "vatId": VAT_ID, "email": "seller@canary.example",
            "address": {"street": "Canarystreet 1", "city": "Canarytown", "postalCode": "10115", "country": "DE"},
        }),
    );
    let more = [
        json!({
            "tenantId": "T", "customerId": "C", "firstName": "Canary", "lastName": "Canarysen", "email": "buyer@canary.example",
            "billingAddress": {"street": "Canaryway 2", "city": "Canaryville", "postalCode": "20095", "country": "DE"},
        }),
        rental(
            "A",
            "2026-01-15",
            json!({"productName": "Canaryphone", "serialNumber": "CANARY-1", "notes": "canary note"}),
        ),
        rental("B", "2026-01-15", json!({"currency": "USD", "productName": "Canaryphone"})),
        rental("D", "2026-01-15", json!({})),
        rental("E", "2026-01-15", json!({"productName": "Canarypad"})),
        group("G", 15, &["A", "B"]),
        group("H", 15, &["D"]),
    ];
    records.as_array_mut().expect("records").extend(more);
    records
}

/// A row that the database refuses with an error that may repeat it.
async fn refuse_customers(db: &TestDb) {
    let refuse = if db.is_sqlite() {
        "create trigger refuse before insert on customers when new.first_name = 'Canaryfail'
         begin select raise(abort, 'refused'); end"
    } else {
        "alter table customers add constraint refuse check (first_name <> 'Canaryfail') not valid"
    };
    db.try_execute(refuse).await.expect("a refusal");
}

/// The parts of a text that may be in no log.
fn betrayed<'a>(text: &'a str, secrets: &[String]) -> Vec<&'a str> {
    let told = |line: &&str| secrets.iter().any(|secret| line.to_lowercase().contains(&secret.to_lowercase()));
    text.lines().filter(told).collect()
}

on_both! {
    async fn everything_at_the_most_talkative_level_tells_no_name_no_address_and_no_secret(db: TestDb) {
        let mut counts = Counts::new("canaries", &db);
        let mut world = World::without_data(db);
        // Nobody asks for it here, and it is there to be told.
        world.db.url = world.db.url.replace("postgres@", "postgres:canaryword@");
        let ca = world.db.dir.path().join("ca.pem");
        let tls = Some((Security::StartTls, acceptor(&ca)));
        let server = MailServer::start(Manner { tls, wants_login: true, ..Manner::default() }).await;
        let (port, ca) = (server.address.port().to_string(), ca.display().to_string());
        let env = [
            ("BILLDAY_LOG__LEVEL", "trace"),
            ("BILLDAY_MAIL__TRANSPORT", "smtp"),
            ("BILLDAY_MAIL__HOST", "localhost"),
            ("BILLDAY_MAIL__PORT", &port),
            ("BILLDAY_MAIL__USER", USER),
            ("BILLDAY_MAIL__PASSWORD", PASSWORD),
            ("BILLDAY_MAIL__CA_FILE", &ca),
            ("BILLDAY_MAIL__CONNECTIONS", "1"),
            ("BILLDAY_DAEMON__SUMMARY_TO", "ops@canary.example"),
            ("BILLDAY_DAEMON__HEARTBEAT_URL", "http://127.0.0.1:9/canary-token"),
        ];
        let folder = world.db.dir.path().to_owned();
        let mut logs = String::new();
        let mut command = |now: &str, args: &[&str]| -> Told {
            let env = [&env[..], &[("BILLDAY_TEST_NOW", now)]].concat();
            let told = billday_with(&folder, &world.db.url, args, &env);
            logs.push_str(&format!("{} $ billday {}\n", told.err, args[0]));
            counts.add("commands", 1);
            told
        };
        std::fs::write(folder.join("data.json"), records().to_string()).expect("a file");
        let day = "2026-01-15T12:00:00Z";
        command(day, &["import", "data.json"]).expect(0, &[]);
        let key = command(day, &["key", "create", "--tenant", "T", "--name", "Canaryshop"]);
        let key = key.out.split_whitespace().find(|word| word.starts_with("bw_")).expect("a key").to_owned();
        for args in [
            &["run", "--run-date", "2026-01-15", "--dry-run", "--format", "json"][..], &["run", "--run-date", "2026-01-15", "--no-send"],
            &["runs", "list"], &["parked", "list"], &["outbox", "list"], &["payment", "list"], &["group", "list", "--tenant", "T"],
            &["verify"], &["doctor"], &["config", "show"], &["key", "list"], &["mail", "test", "--to", "someone@canary.example"],
        ] {
            command(day, args);
        }
        refuse_customers(&world.db).await;

        // A recipient that the server will not have, by name, and one that it puts off; the next one it takes.
        server.fail(At::Recipient, Fault::Say("550 5.1.1 <buyer@canary.example> is not known to Canarypost"));
        server.fail(At::Message, Fault::Say("451 4.3.0 Canarypost is tired of buyer@canary.example"));
        let time = TimeFile::new(&world.db, "2026-02-15T12:00:00Z");
        let daemon = Daemon::start_with(&world.db, &time, &[], &env);
        world.db.completes("2026-02-15").await;
        eventually("a mail is taken", async || !server.taken().is_empty() && server.faults_left() == 0).await;
        let address = daemon.address().await;
        let secret = key.rsplit('_').next().expect("a secret").to_owned();
        let wrong = format!("bw_canary00_{}", "Canary7".repeat(7).get(..43).expect("43 characters"));
        let send = async |method: &str, target: &str, body: Option<&str>, more: &[(&str, &str)]| -> Reply {
            let mut request = HttpRequest::new(method, target);
            for (name, value) in [("Authorization", format!("Bearer {key}").as_str()), ("Tenant-ID", "T")] {
                if !more.iter().any(|(other, _)| *other == name) {
                    request = request.header(name, value);
                }
            }
            for (name, value) in more {
                request = request.header(name, value);
            }
            if let Some(body) = body {
                request = request.header("Content-Type", "application/json").body(body);
            }
            request.send(address).await
        };
        let customer = |name: &str| {
            json!({"email": format!("{name}@canary.example"), "firstName": name, "lastName": "Canarysen", "customerType": "individual"}).to_string()
        };
        let mut asked = Vec::new();
        for (method, target, body, headers, status) in [
            ("GET", "/v1/customers?email=buyer@canary.example", None, &[][..], 200),
            ("GET", "/v1/customers/canary-id", None, &[], 404),
            ("GET", "/v1/payments?startAfter=canary", None, &[], 400),
            ("GET", "/canary?mail=buyer@canary.example", None, &[], 404),
            ("CANARY", "/v1/customers", None, &[], 405),
            ("POST", "/v1/customers", Some(customer("canary2")), &[("Idempotency-Key", "canary-key")], 201),
            ("POST", "/v1/customers", Some(customer("canary2")), &[], 409),
            ("POST", "/v1/customers", Some(customer("Canaryfail")), &[], 500),
            ("POST", "/v1/customers", Some("{\"canary\": \"canary\", ".to_owned()), &[], 400),
            ("POST", "/v1/customers", Some(json!({"email": "canary", "canary": 1}).to_string()), &[], 400),
            ("PUT", "/v1/customers/C", Some(json!({"firstName": "Canarina"}).to_string()), &[], 200),
            ("PATCH", "/v1/tenant", Some(json!({"footer": "Canaryfooter"}).to_string()), &[], 200),
            ("PATCH", "/v1/subscriptions/E", Some(json!({"notes": "canary note"}).to_string()), &[], 200),
            ("POST", "/v1/subscriptions/E/cancel", Some(json!({"reason": "canary reason"}).to_string()), &[], 400),
            ("GET", "/v1/subscriptions/D/preview", None, &[], 200),
            ("GET", "/v1/tenant", None, &[], 200),
            ("GET", "/v1/audit-log", None, &[], 200),
            ("GET", "/v1/outbox", None, &[], 200),
            ("GET", "/v1/tenant", None, &[("Authorization", format!("Bearer {wrong}").as_str())], 401),
            ("GET", "/v1/tenant", None, &[("Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ==")], 401),
            ("GET", "/v1/tenant", None, &[("Tenant-ID", "canary")], 403),
        ] {
            let reply = send(method, target, body.as_deref(), headers).await;
            asked.push((method, target, status, reply.status));
            counts.add("requests", 1);
        }
        let other: Vec<_> = asked.iter().filter(|(_, _, expected, status)| expected != status).collect();
        assert!(other.is_empty(), "{other:#?}");
        // What was put off goes out, and so does the summary of the day.
        time.set("2026-02-16T12:00:00Z");
        world.db.completes("2026-02-16").await;
        eventually("the summary is sent", async || server.taken().iter().any(|mail| mail.to.contains("ops@canary.example"))).await;
        let log = daemon.log_file();
        daemon.stop().await;
        logs.push_str(&std::fs::read_to_string(log).expect("the log"));
        let plain = BASE64.encode(format!("\0{USER}\0{PASSWORD}").as_bytes());
        let secrets = [CANARY, IBAN, VAT_ID, PASSWORD, &plain, &secret].map(str::to_owned);
        let betrayed = betrayed(&logs, &secrets);
        assert!(betrayed.is_empty(), "{betrayed:#?}");
        for told in ["answered", "run completed", "DEBUG", "the heartbeat failed"] {
            assert!(logs.contains(told), "{told}\n{logs}");
        }
        counts.add("lines", logs.lines().count() as u64);
        counts.add("mails taken", server.taken().len() as u64);
        counts.end(&[("lines", 60), ("requests", 20), ("mails taken", 2)]);
    }
}
