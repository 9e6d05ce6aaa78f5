//! Connections: clients that are slow, break off, come in crowds or hang on when the server ends.

use std::time::Duration;

use billday::api::{Limits, Settings};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::api::{ApiWorld, new_group};
use crate::support::http::{Reply, exchange};
use crate::support::{TestDb, on_both};

const GROUPS: &str = "/v1/billing-groups";

/// Limits that a test can wait for.
async fn impatient(db: TestDb) -> ApiWorld {
    let limits = Limits {
        head_within: Duration::from_millis(300),
        answered_within: Duration::from_millis(700),
        drained_within: Duration::from_millis(1500),
        ..Limits::default()
    };
    ApiWorld::with_settings(db, Settings { limits, ..Settings::default() }).await
}

fn head(api: &ApiWorld, method: &str, more: &str) -> String {
    format!("{method} {GROUPS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nTenant-ID: T\r\n{more}", api.key)
}

/// Everything that the server sends before it closes.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    let _ = read.expect("the server hangs up");
    answer
}

on_both! {
    async fn a_head_that_does_not_come_and_a_connection_that_is_idle_are_hung_up_on(db: TestDb) {
        let api = impatient(db).await;
        let mut half = TcpStream::connect(api.address).await.expect("a connection");
        half.write_all(b"GET /livez HTTP/1.1\r\nHost").await.expect("half a head");
        rest(&mut half).await;
        let mut silent = TcpStream::connect(api.address).await.expect("a connection");
        rest(&mut silent).await;
        let mut idle = TcpStream::connect(api.address).await.expect("a connection");
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("a request");
        assert_eq!(Reply::read(&rest(&mut idle).await).status, 200, "answered, then hung up on");
    }

    async fn a_body_that_does_not_come_in_time_is_408(db: TestDb) {
        let api = impatient(db).await;
        let mut slow = TcpStream::connect(api.address).await.expect("a connection");
        let head = head(&api, "POST", "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{");
        slow.write_all(head.as_bytes()).await.expect("the beginning");
        Reply::read(&rest(&mut slow).await).expect(408, "REQUEST_TIMEOUT");
    }

    async fn a_body_that_breaks_off_changes_nothing(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let body = new_group(json!({})).to_string();
        for framing in [format!("Content-Length: {}", body.len() + 1), "Transfer-Encoding: chunked".to_owned()] {
            let mut stream = TcpStream::connect(api.address).await.expect("a connection");
            let sent = if framing.starts_with('C') { body.clone() } else { format!("{:x}\r\n{body}", body.len() + 1) };
            let head = head(&api, "POST", &format!("Content-Type: application/json\r\n{framing}\r\n\r\n{sent}"));
            stream.write_all(head.as_bytes()).await.expect("most of it");
            stream.shutdown().await.expect("the end");
            let answer = rest(&mut stream).await;
            if !answer.is_empty() {
                Reply::read(&answer).expect(400, "VALIDATION_ERROR");
            }
        }
        assert_eq!(api.world.db.number("select count(*) from billing_groups where tenant_id = 'T'").await, 1);
    }

    async fn what_is_no_http_is_refused_and_harms_nobody(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200));
        let long_header = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000));
        let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(100_000));
        for text in ["\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\n: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &many_headers, &long_header, &long_path] {
            let answer = exchange(api.address, text.as_bytes()).await;
            let status = String::from_utf8_lossy(&answer).chars().skip(9).take(1).collect::<String>();
            assert!(status.is_empty() || status == "4", "{}: {}", &text[..text.len().min(30)], String::from_utf8_lossy(&answer));
        }
        // Two lengths, or a length beside chunks, are how requests are smuggled.
        for more in ["Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}   ", "Content-Length: -1\r\n\r\n{}"] {
            let answer = exchange(api.address, head(&api, "POST", more).as_bytes()).await;
            assert!(answer.is_empty() || Reply::read(&answer).status == 400);
        }
        api.get(GROUPS).await.good(200);
    }

    async fn who_hangs_up_loses_the_answer_but_the_change_is_whole(db: TestDb) {
        let api = ApiWorld::new(db).await;
        for n in 0..40_usize {
            let body = json!({"billingDay": 1 + n % 28, "rentalIds": if n % 2 == 0 { json!([]) } else { json!(["R1", "R2"]) }}).to_string();
            let mut stream = TcpStream::connect(api.address).await.expect("a connection");
            let request = head(&api, "PATCH", &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
            let request = request.replace(GROUPS, "/v1/billing-groups/G1");
            stream.write_all(request.as_bytes()).await.expect("a request");
            drop(stream);
        }
        let last = json!({"billingDay": 28, "rentalIds": ["R5"]});
        api.patch("/v1/billing-groups/G1", &last).await.good(200);
        crate::support::assert_verified(&api.world.db).await;
        if !api.world.db.is_sqlite() {
            let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'
                        and now() - state_change > interval '5 seconds'";
            assert_eq!(api.world.db.number(open).await, 0);
        }
    }

    async fn more_connections_than_there_may_be_wait_for_one_to_end(db: TestDb) {
        let limits = Limits { connections: 2, ..Limits::default() };
        let api = ApiWorld::with_settings(db, Settings { limits, ..Settings::default() }).await;
        let first = TcpStream::connect(api.address).await.expect("a connection");
        let second = TcpStream::connect(api.address).await.expect("a connection");
        let waiting = api.request("GET", GROUPS);
        let address = api.address;
        let mut waiting = tokio::spawn(async move { waiting.send(address).await });
        let early = tokio::time::timeout(Duration::from_millis(200), &mut waiting).await;
        assert!(early.is_err(), "a third was served");
        drop((first, second));
        waiting.await.expect("an answer").good(200);
    }

    async fn a_request_that_has_begun_is_answered_when_the_server_ends_and_no_other_is_taken(db: TestDb) {
        let mut api = ApiWorld::new(db).await;
        let body = json!({"billingDay": 9}).to_string();
        let more = format!("Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len());
        let request = head(&api, "PATCH", &more).replace(GROUPS, "/v1/billing-groups/G1");
        let mut begun = TcpStream::connect(api.address).await.expect("a connection");
        begun.write_all(request.as_bytes()).await.expect("a head");
        // It asks for the body: so it has begun.
        let mut asked = [0; 25];
        begun.read_exact(&mut asked).await.expect("an answer");
        assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
        let mut idle = TcpStream::connect(api.address).await.expect("a connection");
        api.tell_to_end();
        rest(&mut idle).await;
        begun.write_all(body.as_bytes()).await.expect("the body");
        let group = Reply::read(&rest(&mut begun).await).good(200)["billingGroup"].clone();
        assert_eq!(group["billingDay"], 9);
        api.wait_for_end().await;
        assert!(TcpStream::connect(api.address).await.is_err(), "nobody listens any more");
    }

    async fn a_client_that_hangs_on_does_not_keep_the_server_from_ending(db: TestDb) {
        let mut api = impatient(db).await;
        let mut stuck = TcpStream::connect(api.address).await.expect("a connection");
        let head = head(&api, "POST", "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{");
        stuck.write_all(head.as_bytes()).await.expect("half a request");
        api.end().await;
        rest(&mut stuck).await;
    }
}
