//! Kept documents as an operator meets them: in a folder and in a bucket, shown, audited, tampered with.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::{billday, billday_with};
use crate::support::world::{World, rental};
use crate::support::{TestDb, on_both, run};

/// One invoice with a plain PDF and one with an XRechnung beside it, billed and not sent yet.
async fn billed(db: TestDb) -> World {
    let world = World::without_data(db);
    world
        .import(json!([
            {"tenantId": "T", "name": "Shop", "currency": "EUR", "timeZone": "Europe/Berlin", "billFrom": "2020-01-01",
             "tax": {"mode": "exclusive", "rate": 19}, "vatId": "DE123456789", "contactName": "Desk",
             "phone": "+49 40 1234567", "email": "shop@shop.example", "iban": "DE02120300000000202051",
             "address": {"streetAddress": "Street 1", "postalCode": "20457", "city": "Hamburg", "country": "DE"}},
            {"tenantId": "T", "customerId": "C", "company": "Acme", "email": "pay@acme.example", "eInvoice": "xRechnung",
             "buyerReference": "991-01234-56", "electronicAddress": "0204:991-01234-56",
             "billingAddress": {"streetAddress": "Road 2", "postalCode": "10115", "city": "Berlin", "country": "DE"}},
            {"tenantId": "T", "customerId": "D", "company": "Plain", "email": "pay@plain.example", "eInvoice": "none"},
        ]))
        .await;
    let of_plain = rental("R2", "2026-11-15", json!({"customerId": "D"}));
    world.import(json!([rental("R1", "2026-11-15", json!({})), of_plain])).await;
    world.run("2026-11-15").await;
    world
}

/// The only kept file whose name has this beginning and end.
fn kept_file(folder: &Path, begins: &str, ends: &str) -> PathBuf {
    let files =
        std::fs::read_dir(folder.join("documents/T/2026")).expect("documents").map(|file| file.expect("a file").path());
    let named = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        name.starts_with(begins) && name.ends_with(ends)
    };
    let found: Vec<PathBuf> = files.filter(named).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

on_both! {
    async fn a_sent_invoice_is_shown_as_it_was_sent_and_one_that_was_changed_is_not(db: TestDb) {
        let world = billed(db).await;
        let (folder, url) = (world.db.dir.path(), world.db.url.as_str());
        let show = |number: &str, what: &str| {
            let out = folder.join("out");
            let told = billday(folder, url, &["invoice", "show", number, what, out.to_str().expect("a path")]);
            (told, std::fs::read(&out).unwrap_or_default())
        };
        let (told, drawn) = show("INV-2026-000001", "--pdf");
        told.expect(0, &[]);
        billday(folder, url, &["invoice", "show", "INV-2026-000001"]).expect(0, &["not yet: its files are kept when it is sent"]);
        assert!(!folder.join("documents").exists());
        billday(folder, url, &["outbox", "send"]).expect(0, &[]);
        let facts = billday(folder, url, &["invoice", "show", "INV-2026-000001"]);
        facts.expect(0, &["T/2026/INV-2026-000001-pay_", ".pdf (sha256 ", ".xml (sha256 "]);
        let (pdf, xml) = (kept_file(folder, "INV-2026-000001-", ".pdf"), kept_file(folder, "INV-2026-000001-", ".xml"));
        let (sent, sent_xml) = (std::fs::read(&pdf).expect("a PDF"), std::fs::read(&xml).expect("XML"));
        assert_eq!(sent, drawn);
        assert_eq!(show("INV-2026-000001", "--pdf").1, sent);
        assert_eq!(show("INV-2026-000001", "--xml").1, sent_xml);
        billday(folder, url, &["verify", "--documents", "-v"]).expect(0, &["each kept document is where it was put"]);

        let tampered = String::from_utf8(sent_xml.clone()).expect("UTF-8").replace("Acme", "Evil");
        std::fs::write(&xml, tampered).expect("a write");
        let (told, _) = show("INV-2026-000001", "--xml");
        told.expect(1, &[".xml is not as it was sent: its sha256 is ", " and was "]);
        show("INV-2026-000001", "--pdf").0.expect(0, &[]);
        billday(folder, url, &["verify"]).expect(0, &["Proved"]);
        let refuted = billday(folder, url, &["verify", "--documents"]);
        refuted.expect(5, &["1 (document_differs)", "tenant T: payment pay_", ".xml is not as it was sent"]);

        std::fs::write(&xml, sent_xml).expect("a write");
        std::fs::remove_file(kept_file(folder, "INV-2026-000002-", ".pdf")).expect("a file");
        show("INV-2026-000002", "--pdf").0.expect(1, &["INV-2026-000002-", ".pdf is not there; it had the sha256 "]);
        billday(folder, url, &["verify", "--documents"]).expect(5, &["1 (document_differs)", ".pdf is not there"]);
        billday(folder, url, &["verify", "--documents", "--tenant", "T", "--format", "json"]).expect(5, &["document_differs"]);

        // The place is gone as a whole: that proves nothing, and is said so.
        std::fs::remove_dir_all(folder.join("documents")).expect("a folder");
        billday(folder, url, &["verify", "--documents"]).expect(1, &["documents.store documents: cannot use the folder"]);
    }

    async fn a_place_that_cannot_be_used_is_told_before_anything_is_sent(db: TestDb) {
        let world = billed(db).await;
        let (folder, url) = (world.db.dir.path(), world.db.url.as_str());
        let with = |place: &str, args: &[&str]| billday_with(folder, url, args, &[("BILLDAY_DOCUMENTS__STORE", place)]);
        for place in ["ftp://somewhere", "S3://bucket"] {
            let said = format!("documents.store should be a folder or s3://BUCKET/PREFIX, not {place:?}");
            with(place, &["config", "check"]).expect(2, &[&said]);
            with(place, &["outbox", "send"]).expect(2, &[&said]);
        }
        with("here/and/there", &["config", "check"]).expect(0, &["documents: kept in here/and/there"]);
        assert!(!folder.join("here").exists(), "a check leaves nothing behind");
        let taken = world.db.file("taken", "a file");
        with(taken.to_str().expect("a path"), &["config", "check"]).expect(2, &["taken: cannot write a document: "]);
    }
}

/// On PostgreSQL alone: the limit would hold for the file of a SQLite database too.
#[test]
fn a_disk_that_takes_no_more_documents_keeps_the_mails_waiting() {
    run(async {
        let world = billed(TestDb::postgres().await).await;
        let (folder, url) = (world.db.dir.path(), world.db.url.as_str());
        // The shell ignores the signal, and so does what it starts: a write beyond the limit is an error, as on a full disk.
        let output = std::process::Command::new("sh")
            .args([
                "-c",
                "trap '' XFSZ; ulimit -f 8; exec \"$0\" outbox send --database \"$1\"",
                env!("CARGO_BIN_EXE_billday"),
                url,
            ])
            .env("BILLDAY_TEST_NOW", "2026-11-15T12:00:00Z")
            .current_dir(folder)
            .output()
            .expect("a shell");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{told}");
        // Both are written at once; whichever fails first is named.
        assert!(told.contains("documents.store documents: cannot keep T/2026/INV-2026-00000"), "{told}");
        assert_eq!(world.db.number("select count(*) from outbox where state = 'pending' and attempts = 0").await, 2);
        assert_eq!(world.db.number("select count(*) from documents").await, 0);
        billday(folder, url, &["outbox", "send"]).expect(0, &[]);
        billday(folder, url, &["verify", "--documents"]).expect(0, &["Proved"]);
        kept_file(folder, "INV-2026-000001", ".pdf");
    });
}

/// A bucket on this machine: as much of S3 over HTTP as keeping documents needs.
#[cfg(feature = "s3")]
mod bucket {
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone)]
    struct Bucket {
        address: SocketAddr,
        state: Arc<Mutex<State>>,
    }

    #[derive(Default)]
    struct State {
        objects: BTreeMap<String, Vec<u8>>,
        /// What is answered to everything, if not 200.
        refusal: Option<&'static str>,
        /// Requests that were not signed.
        unsigned: usize,
    }

    impl Bucket {
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let bucket = Self { address: listener.local_addr().expect("an address"), state: Arc::default() };
            let served = bucket.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let served = served.clone();
                    // A client that goes away ends its own conversation.
                    std::thread::spawn(move || served.converse(&stream).is_ok());
                }
            });
            bucket
        }

        fn converse(&self, stream: &TcpStream) -> std::io::Result<()> {
            let mut reader = BufReader::new(stream);
            let mut writer = stream;
            loop {
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head)? == 0 {
                        return Ok(());
                    }
                }
                let lower = head.to_ascii_lowercase();
                let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body)?;
                let mut words = head.split(' ');
                let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let (status, body) = self.answer(method, path, body, lower.contains("authorization: aws4-hmac-sha256"));
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"1\"\r\nLast-Modified: Sun, 15 Nov 2026 12:00:00 GMT\r\n\r\n",
                    body.len()
                );
                writer.write_all(head.as_bytes())?;
                if method != "HEAD" {
                    writer.write_all(&body)?;
                }
            }
        }

        fn answer(&self, method: &str, path: &str, body: Vec<u8>, signed: bool) -> (&'static str, Vec<u8>) {
            let mut state = self.state.lock().expect("the bucket");
            state.unsigned += usize::from(!signed);
            if let Some(refusal) = state.refusal {
                return (refusal, Vec::new());
            }
            match method {
                "PUT" => {
                    state.objects.insert(path.to_owned(), body);
                    ("200 OK", Vec::new())
                }
                _ => state.objects.get(path).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body.clone())),
            }
        }

        fn env(&self) -> [(&'static str, String); 6] {
            [
                ("BILLDAY_DOCUMENTS__STORE", "s3://papers/billday/invoices".to_owned()),
                ("AWS_ENDPOINT", format!("http://{}", self.address)),
                ("AWS_ALLOW_HTTP", "true".to_owned()),
                ("AWS_ACCESS_KEY_ID", "key".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "s3cret".to_owned()),
                ("AWS_REGION", "eu-central-1".to_owned()),
            ]
        }
    }

    on_both! {
        async fn documents_go_to_a_bucket_and_come_back_and_wait_while_it_is_down(db: TestDb) {
            let world = billed(db).await;
            let (folder, url) = (world.db.dir.path(), world.db.url.as_str());
            let bucket = Bucket::start();
            let env = bucket.env();
            let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let told = |args: &[&str]| billday_with(folder, url, args, &env);
            let refuse = |refusal| bucket.state.lock().expect("the bucket").refusal = refusal;

            for refusal in ["403 Forbidden", "507 Insufficient Storage"] {
                refuse(Some(refusal));
                let sent = told(&["outbox", "send"]);
                assert!(sent.err.contains("documents.store s3://papers/billday/invoices: cannot keep T/2026/INV-2026-00000"), "{sent:?}");
                assert!(!sent.err.contains("s3cret") && !sent.out.contains("s3cret"), "{sent:?}");
                assert_eq!(world.db.number("select count(*) from outbox where state = 'pending' and attempts = 0").await, 2);
            }
            told(&["config", "check"]).expect(2, &["cannot reach the bucket"]);

            refuse(None);
            told(&["config", "check"]).expect(0, &["documents: kept in s3://papers/billday/invoices"]);
            told(&["outbox", "send"]).expect(0, &[]);
            let places: Vec<String> = bucket.state.lock().expect("the bucket").objects.keys().cloned().collect();
            assert_eq!(places.len(), 3, "{places:?}");
            assert!(places.iter().all(|place| place.starts_with("/papers/billday/invoices/T/2026/INV-2026-00000")), "{places:?}");
            told(&["verify", "--documents"]).expect(0, &["Proved"]);
            let out = folder.join("out.pdf");
            told(&["invoice", "show", "INV-2026-000002", "--pdf", out.to_str().expect("a path")]).expect(0, &[]);
            let pdf = places.iter().find(|place| place.contains("INV-2026-000002")).expect("a PDF");
            assert_eq!(std::fs::read(out).expect("a PDF"), bucket.state.lock().expect("the bucket").objects[pdf]);

            bucket.state.lock().expect("the bucket").objects.insert(pdf.clone(), b"another".to_vec());
            told(&["verify", "--documents"]).expect(5, &["document_differs", "s3://papers/billday/invoices/T/2026/INV-2026-000002-"]);
            bucket.state.lock().expect("the bucket").objects.remove(pdf);
            told(&["verify", "--documents"]).expect(5, &["document_differs", ".pdf is not there"]);
            assert_eq!(bucket.state.lock().expect("the bucket").unsigned, 0);
        }
    }
}
