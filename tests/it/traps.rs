//! Traps of the libraries that billday stands on, which once were fallen into: each of these tests fails when its guard is removed.
//! `docs/reliability.md` has the table of all of them; the others are where their subject is.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api::ApiWorld;
use crate::support::daemon::eventually;
use crate::support::lane::Counts;
use crate::support::random::Random;
use crate::support::{TestDb, assert_verified, run, torture};

/// Drops a future once it has been polled so often; tells whether it was cut off.
async fn cut_off_after<T>(polls: u64, future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(true);
        }
        left -= 1;
        future.as_mut().poll(cx).map(|_| false)
    })
    .await
}

/// Sessions of this database that sit in a transaction and do nothing.
const IDLE_IN_TRANSACTION: &str = "select count(*) from pg_stat_activity where datname = current_database()
                                   and application_name = 'billday' and state like 'idle in transaction%'";

#[test]
fn a_reader_that_is_cut_off_while_it_begins_leaves_no_transaction_open() {
    run(async {
        let db = TestDb::postgres().await;
        let mut random = Random::new();
        let mut counts = Counts::new("readers cut off while they begin", &db);
        for _ in 0..(100 * torture()).min(2_000) {
            counts.add("reads", 1);
            counts.add("cut off", u64::from(cut_off_after(1 + random.below(4), db.store.read()).await));
        }
        eventually("nobody sits in a transaction", async || db.number(IDLE_IN_TRANSACTION).await == 0).await;
        // Nobody writes into somebody else's transaction, whose end never comes.
        for n in 0..20 {
            let write = db.store.with_tx(move |tx| {
                Box::pin(async move {
                    tx.pause_mails(None, "test", n).await?;
                    tx.resume_mails().await
                })
            });
            assert!(write.await.expect("a write"));
        }
        let reads = counts.of("reads");
        counts.end(&[("cut off", reads / 3)]);
    });
}

#[test]
fn callers_of_the_api_that_hang_up_leave_no_transaction_open_and_nothing_half_done() {
    run(async {
        let api = ApiWorld::new(TestDb::postgres().await).await;
        let mut random = Random::new();
        // It follows the machine, so that most hang up while they are served.
        let mut aim = 20_000;
        let mut counts = Counts::new("callers that hang up", &api.world.db);
        for n in 0..(100 * torture()).min(2_000) {
            let body = json!({"billingDay": 1 + n % 28}).to_string();
            let request = match n % 2 {
                0 => format!(
                    "GET /v1/billing-groups HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTenant-ID: T\r\n\r\n",
                    api.key
                ),
                _ => format!(
                    "PATCH /v1/billing-groups/G1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTenant-ID: T\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    api.key,
                    body.len()
                ),
            };
            let mut line = TcpStream::connect(api.address).await.expect("a line");
            line.write_all(request.as_bytes()).await.expect("a request");
            // Some hear the first byte of an answer, so that there is work that was done.
            let waits = n % 8 == 7;
            let patience = if waits { 10_000_000 } else { random.below(aim) };
            let heard = tokio::time::timeout(Duration::from_micros(patience), line.read_u8()).await;
            if !waits {
                aim = if heard.is_ok() { aim * 8 / 10 + 1 } else { aim * 21 / 20 };
            }
            drop(line);
            counts.add("calls", 1);
            counts.add("hung up unheard", u64::from(heard.is_err()));
        }
        eventually("nobody sits in a transaction", async || api.world.db.number(IDLE_IN_TRANSACTION).await == 0).await;
        api.get("/v1/billing-groups").await.good(200);
        // What was done is done with its record.
        let changes =
            api.world.db.number("select count(*) from audit_log where object_id = 'G1' and actor <> 'import'").await;
        let holds = api.get("/v1/billing-groups/G1").await.good(200)["billingGroup"]["billingDay"].clone();
        let recorded = api.world.db.texts("select state_after from audit_log where object_id = 'G1'").await;
        let recorded = recorded.iter().map(|state| serde_json::from_str::<Value>(state).expect("a state"));
        assert!(recorded.into_iter().any(|state| state["billingDay"] == holds), "{holds} is on record");
        assert_verified(&api.world.db).await;
        counts.add("changes", changes as u64);
        counts.end(&[("changes", 5), ("hung up unheard", 10)]);
    });
}

#[test]
fn rows_come_into_postgres_by_insert_and_never_by_copy() {
    fn search(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                search(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source file").to_lowercase();
            found.extend(
                ["copy_in", "pgcopy", "from stdin"]
                    .iter()
                    .filter(|word| text.contains(*word))
                    .map(|word| format!("{}: {word}", path.display())),
            );
        }
    }
    let mut found = Vec::new();
    search(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    // One that is dropped unfinished shifts all later answers of its connection by one.
    assert_eq!(found, Vec::<String>::new());
}
