//! Connections that are cut around a commit, before the server hears of it and after it has obeyed: no run says what is not so.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::lane::Counts;
use crate::support::proxy::Proxy;
use crate::support::random::Random;
use crate::support::world::{World, rental, text};
use crate::support::{TestDb, assert_verified, run, torture};

/// Cuts in CI; `BILLDAY_TEST_TORTURE` multiplies them, up to 500.
const CUTS: u64 = 40;

#[test]
fn a_run_whose_commits_are_cut_reports_what_the_database_holds() {
    run(async {
        let world = World::new(TestDb::postgres().await).await;
        world.import((0..60).map(|n| rental(&format!("A{n:03}"), "2026-01-15", json!({}))).collect::<Value>()).await;
        let direct = world.db.url.clone();
        let (_, place) = direct.split_once('@').expect("a user");
        let (server, name) = place.split_once('/').expect("a database");
        let proxy = Proxy::to(server.parse().expect("an address"), Random::new()).await;
        let url = format!("postgres://postgres@{}/{name}", proxy.address);
        let mut counts = Counts::new("connections cut at a commit", &world.db);
        let wanted = (CUTS * u64::from(torture())).min(500);
        let mut month = 0;
        while proxy.cuts().iter().sum::<u64>() < wanted {
            let date = format!("{}-{:02}-15", 2026 + month / 12, 1 + month % 12);
            let before = world.db.texts("select run_id from runs").await;
            let process = Command::new(env!("CARGO_BIN_EXE_billday"))
                .args(["run", "--run-date", &date, "--no-send", "--format", "json", "--database", &url])
                .env("BILLDAY_TEST_NOW", format!("{date}T12:00:00Z"))
                .env("BILLDAY_RUN__BATCH_RENTALS", "2")
                .current_dir(world.db.dir.path())
                .stdin(Stdio::null())
                .output();
            let output = process.expect("the program");
            let told = String::from_utf8_lossy(&output.stderr);
            assert_verified(&world.db).await;
            match output.status.code() {
                Some(0) => {
                    // What it says it has billed is what it has billed, to the last number.
                    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
                    let payments = report["tenants"][0]["payments"].as_array().expect("payments");
                    let mut named: Vec<String> = payments.iter().map(|p| text(&p["invoiceNumber"])).collect();
                    named.sort();
                    let written = format!(
                        "select invoice_number from payments where run_id not in ('{}') order by invoice_number",
                        before.join("','")
                    );
                    assert_eq!(named, world.db.texts(&written).await, "{told}");
                    counts.add("runs that went to their end", 1);
                    counts.add("payments reported", named.len() as u64);
                    month += 1;
                }
                Some(1) => {
                    assert!(!told.is_empty(), "it failed without a word");
                    counts.add("runs that gave up", 1);
                }
                other => panic!("{other:?}: {told}"),
            }
        }
        for (what, cuts) in ["commits not heard of", "commits left alone", "answers lost"].into_iter().zip(proxy.cuts())
        {
            counts.add(what, cuts);
        }
        counts.end(&[
            ("commits not heard of", wanted / 8),
            ("commits left alone", wanted / 8),
            ("answers lost", wanted / 8),
            ("runs that went to their end", wanted / 20),
            ("payments reported", wanted),
        ]);
    });
}
