//! Whoever guesses keys and tenants: each wrong guess gets one answer after the same work, so neither words nor time help the next one.
//! The words are compared always, the times by `scripts/torture` above the small scale.

use std::time::Instant;

use crate::support::api::{ApiWorld, KeyRights};
use crate::support::http::{HttpRequest, Reply};
use crate::support::lane::Counts;
use crate::support::world::day;
use crate::support::{on_both, torture};

/// Of each kind in one try; a busy machine delays all kinds alike, since they take turns.
const SAMPLES: usize = 200;
/// How often it is measured at most: chance does not fall on the same side each time, a missing look-up does.
const TRIES: u32 = 5;
/// How far the time of one kind may be from the others'.
const FACTOR: f64 = 1.35;

/// An answer without what belongs to one request alone.
fn said(reply: &Reply) -> (u16, serde_json::Value, Vec<(String, String)>) {
    let mut body = reply.json();
    body["error"].as_object_mut().expect("an error").remove("requestId");
    let own = ["x-request-id", "date"];
    let headers = reply.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    (reply.status, body, headers.cloned().collect())
}

/// The time that the quickest quarter of each kind stays below, in microseconds.
async fn quick(api: &ApiWorld, requests: &[HttpRequest]) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(SAMPLES); requests.len()];
    for sample in 0..SAMPLES {
        for at in 0..requests.len() {
            // Nobody always comes after the same one.
            let at = (at * 5 + sample) % requests.len();
            let begun = Instant::now();
            requests[at].send(api.address).await;
            times[at].push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    let quarter = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 4]
    };
    times.into_iter().map(quarter).collect()
}

on_both! {
    async fn a_wrong_guess_is_answered_alike_and_after_the_same_work_whatever_is_wrong_with_it(db: TestDb) {
        let mut counts = Counts::new("guesses", &db);
        let api = ApiWorld::new(db).await;
        let revoked = api.new_key(KeyRights { tenants: &["T"], ..KeyRights::default() }).await;
        let id = revoked[3..11].to_owned();
        let revoke = api.world.db.store.with_tx(move |tx| Box::pin(async move { tx.revoke_key(&id, 5).await }));
        assert!(revoke.await.expect("a revoked key"));
        let expired = api.new_key(KeyRights { tenants: &["T"], expires_on: Some(day("2026-06-09")), ..KeyRights::default() }).await;
        let others = api.new_key(KeyRights { tenants: &["U"], ..KeyRights::default() }).await;
        let (mut unknown, mut wrong_secret, mut malformed) = (api.key.clone(), api.key.clone(), api.key.clone());
        unknown.replace_range(3..11, "zzzzzzzz");
        let last = wrong_secret.pop();
        wrong_secret.push(if last == Some('x') { 'y' } else { 'x' });
        malformed.replace_range(2..3, "-");
        let ask = |key: &str, tenant: &str| {
            let request = HttpRequest::new("GET", "/v1/tenant").header("Authorization", &format!("Bearer {key}"));
            request.header("Tenant-ID", tenant)
        };
        let keys = [&unknown, &wrong_secret, &revoked, &expired, &malformed].map(|key| ask(key, "T"));
        // A good key, for a tenant that is another's or nobody's; and another's key for this one.
        let tenants = [ask(&api.key, "U"), ask(&api.key, "N"), ask(&others, "T")];
        for (requests, status) in [(&keys[..], 401), (&tenants[..], 403)] {
            let first = said(&requests[0].send(api.address).await);
            assert_eq!(first.0, status);
            for request in requests {
                assert_eq!(said(&request.send(api.address).await), first, "{request:?}");
            }
        }
        counts.add("alike", (keys.len() + tenants.len()) as u64);
        if torture() == 1 {
            // Times are for a machine that has nothing else to do.
            return counts.end(&[("alike", 8)]);
        }
        // Without a key nothing is looked up.
        let nothing = HttpRequest::new("GET", "/v1/tenant").header("Tenant-ID", "T");
        let all: Vec<HttpRequest> = keys.into_iter().chain(tenants).chain([nothing]).collect();
        let mut tries = 0;
        loop {
            tries += 1;
            let mut times = quick(&api, &all).await;
            let without_work = times.pop().expect("times");
            let (least, most) = times.iter().fold((f64::MAX, 0.0_f64), |(least, most), time| (least.min(*time), most.max(*time)));
            counts.add("measured", (all.len() * SAMPLES) as u64);
            eprintln!("{times:.0?} µs, {without_work:.0} µs without a key");
            // The second: a kind that is not looked up would be seen by the first.
            if most <= FACTOR * least && most > FACTOR * without_work {
                break;
            }
            assert!(tries < TRIES, "the kinds differ: {times:.0?} µs, {without_work:.0} µs without a key");
        }
        counts.end(&[("measured", 1000)]);
    }
}
