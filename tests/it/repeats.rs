//! A date that is run again: nothing is written but the record of the new run, and no mail goes out.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use crate::cli::billday_with;
use crate::support::daemon::{Daemon, TimeFile};
use crate::support::world::{World, group, rental, tenant};
use crate::support::{assert_verified, on_both};

/// Every file below a folder, with its bytes and when they were written.
fn files(folder: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let written = entry.metadata().and_then(|data| data.modified()).expect("a time");
            found.insert(path.display().to_string(), (std::fs::read(&path).expect("a file"), written));
        }
    }
    found
}

/// What a run says of itself when it is over.
const RUNS: &str = "select tenant_id || ' ' || run_id || ' ' || state || ' ' || coalesce(finished_at, 0) || ' ' || coalesce(beat_at, 0)
                    || ' ' || billed || ' ' || already_billed || ' ' || batches || ' ' || totals from runs order by run_id";

on_both! {
    async fn a_date_that_is_run_again_changes_no_row_and_sends_no_mail(db: TestDb) {
        let world = World::new(db).await;
        // Billed alone and in groups, for nothing, without an address, skipped, with arrears, and in another zone.
        world.import(tenant("NY", json!({"timeZone": "America/New_York", "currency": "USD"}))).await;
        world.import(json!([
            {"tenantId": "NY", "customerId": "C", "company": "Acme Inc", "email": "pay@acme.example", "emailCc": ["copy@acme.example"]},
            {"tenantId": "T", "customerId": "NOBODY", "company": "No address"},
            rental("N", "2026-09-15", json!({"tenantId": "NY"})),
            rental("A", "2026-11-15", json!({})),
            rental("Z", "2026-11-15", json!({"monthlyAmount": 0})),
            rental("X", "2026-11-15", json!({"customerId": "NOBODY"})),
            rental("G1", "2026-11-01", json!({})), rental("G2", "2026-09-01", json!({})),
            group("G", 15, &["G1", "G2"]), group("EMPTY", 15, &[]),
        ])).await;
        let folder = world.db.dir.path().to_owned();
        let run = |now: &str, args: &[&str]| {
            billday_with(&folder, &world.db.url, args, &[("BILLDAY_TEST_NOW", now)])
        };
        run("2026-11-15T12:00:00Z", &["run", "--run-date", "2026-11-15"]).expect(3, &[]);
        let (mails, documents) = (files(&folder.join("mail")), files(&folder.join("documents")));
        assert!(mails.len() >= 3 && documents.len() >= 3, "{} mails, {} documents", mails.len(), documents.len());
        let earlier = world.db.texts(RUNS).await;
        world.db.note_writes().await;
        // The same day, the next one, and each other way that leads to this date.
        run("2026-11-15T12:00:00Z", &["run", "--run-date", "2026-11-15"]).expect(0, &[]);
        run("2026-11-15T13:00:00Z", &["run"]).expect(0, &[]);
        run("2026-11-16T01:00:00Z", &["run", "--from", "2026-11-15", "--to", "2026-11-15"]).expect(0, &[]);
        run("2026-11-16T01:00:00Z", &["outbox", "send"]).expect(0, &[]);
        // A daemon finds the date done.
        let time = TimeFile::new(&world.db, "2026-11-15T23:00:00Z");
        let daemon = Daemon::start_with(&world.db, &time, &[], &[("BILLDAY_MAIL__TRANSPORT", "folder")]);
        daemon.says("ready").await;
        daemon.stop().await;
        // The records of three runs of two tenants, and that the ledger was worked on.
        let written = world.db.writes().await;
        let others = written.iter().filter(|what| !what.contains(" runs ") && !what.contains(" daemon_state "));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&String>::new());
        assert!(written.contains(&"insert runs 6".to_owned()), "{written:?}");
        let runs = world.db.texts(RUNS).await;
        assert!(earlier.iter().all(|run| runs.contains(run)), "{earlier:#?}\n{runs:#?}");
        assert!((files(&folder.join("mail")), files(&folder.join("documents"))) == (mails, documents), "files were written");
        assert_verified(&world.db).await;
    }
}
