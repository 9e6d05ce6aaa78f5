//! Requests that meet: one wins, the others are told, and nothing is done twice or half.

use std::collections::BTreeSet;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::api::{ApiWorld, new_group};
use crate::support::http::{HttpRequest, Reply};
use crate::support::world::{day, rental};
use crate::support::{assert_verified, on_both};

const GROUPS: &str = "/v1/billing-groups";

/// Sends all requests at the same time.
async fn at_once(api: &ApiWorld, requests: impl IntoIterator<Item = HttpRequest>) -> Vec<Reply> {
    let mut sent = JoinSet::new();
    for request in requests {
        let address = api.address;
        sent.spawn(async move { request.send(address).await });
    }
    sent.join_all().await
}

/// How many were answered with this status.
fn count(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

on_both! {
    async fn of_many_that_claim_one_rental_one_wins_and_the_others_are_told_409(db: TestDb) {
        let api = ApiWorld::new(db).await;
        // Lists that overlap in different orders.
        let lists = [json!(["R3", "R4", "R5"]), json!(["R5", "R3"]), json!(["R4", "R3"]), json!(["R3"])];
        let requests = (0..24).map(|n| api.request("POST", GROUPS).json(&new_group(json!({"rentalIds": lists[n % 4]}))));
        let mut replies = at_once(&api, requests.collect::<Vec<_>>()).await;
        replies.extend(at_once(&api, ["G1"; 6].map(|id| {
            api.request("PATCH", &format!("{GROUPS}/{id}")).json(&json!({"rentalIds": ["R3", "R1"]}))
        })).await);
        // All name R3: one list gets it, whole.
        assert_eq!((count(&replies, 201), count(&replies, 409)), (1, 29), "{replies:#?}");
        let members = "select count(*) from rentals where tenant_id = 'T' and billing_group_id is not null";
        let groups = "select count(*) from billing_groups where tenant_id = 'T'";
        let created = replies.iter().find(|reply| reply.status == 201).expect("a winner").json();
        let joined = created["billingGroup"]["rentalIds"].as_array().expect("ids").len() as i64;
        assert_eq!((api.world.db.number(groups).await, api.world.db.number(members).await), (2, 2 + joined));
        assert_verified(&api.world.db).await;
    }

    async fn the_same_creation_many_times_at_once_is_made_once(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let request = api.request("POST", GROUPS).header("Idempotency-Key", "k").json(&new_group(json!({})));
        let replies = at_once(&api, vec![request; 16]).await;
        assert_eq!(count(&replies, 201), 16, "{replies:#?}");
        assert_eq!(replies.iter().map(|reply| &reply.body).collect::<BTreeSet<_>>().len(), 1);
        assert_eq!(api.world.db.number("select count(*) from audit_log where actor <> 'import'").await, 1);
    }

    async fn changes_and_deletes_of_one_group_wait_for_each_other(db: TestDb) {
        let api = ApiWorld::new(db).await;
        let g1 = format!("{GROUPS}/G1");
        let lists = [json!([]), json!(["R1"]), json!(["R1", "R2"]), json!(["R2", "R5", "R3"])];
        let changes = (0..24).map(|n| {
            let status = if n % 3 == 0 { "inactive" } else { "active" };
            api.request("PATCH", &g1).json(&json!({"rentalIds": lists[n % 4], "billingDay": 1 + n, "status": status}))
        });
        let replies = at_once(&api, changes.collect::<Vec<_>>()).await;
        assert_eq!(count(&replies, 200), 24, "{replies:#?}");
        let group = api.get(&g1).await.good(200)["billingGroup"].clone();
        let last_ones = replies.iter().filter(|reply| reply.json()["billingGroup"] == group).count();
        assert_eq!(last_ones, 1, "the last one is what holds");
        assert_verified(&api.world.db).await;
        let mixed = (0..12).map(|n| {
            if n == 6 { api.request("DELETE", &g1) } else { api.request("PATCH", &g1).json(&json!({"rentalIds": lists[n % 4]})) }
        });
        let replies = at_once(&api, mixed.collect::<Vec<_>>()).await;
        assert_eq!(count(&replies, 200) + count(&replies, 404), 12, "{replies:#?}");
        assert_eq!(api.world.db.number("select count(*) from rentals where billing_group_id = 'G1'").await, 0);
        assert_verified(&api.world.db).await;
    }

    async fn a_run_between_leaving_and_joining_charges_each_rental_once(db: TestDb) {
        let api = ApiWorld::new(db).await;
        api.world.import(json!([rental("R9", "2026-06-01", json!({"billingGroupId": "G1"}))])).await;
        let g2 = api.post(GROUPS, &new_group(json!({"billingDay": 15}))).await.good(201)["billingGroup"]["billingGroupId"].clone();
        let g2 = format!("{GROUPS}/{}", g2.as_str().expect("an id"));
        for (n, date) in ["2026-06-15", "2026-07-15", "2026-08-15"].into_iter().enumerate() {
            let (from, into) = if n % 2 == 0 { (format!("{GROUPS}/G1"), g2.clone()) } else { (g2.clone(), format!("{GROUPS}/G1")) };
            let members = async |path: &str| {
                let ids = api.get(path).await.good(200)["billingGroup"]["rentalIds"].clone();
                serde_json::from_value::<Vec<String>>(ids).expect("ids")
            };
            let (leaving, joining) = (members(&from).await, members(&into).await);
            let without: Vec<&String> = leaving.iter().filter(|id| *id != "R9").collect();
            api.world.today(date);
            tokio::join!(
                async {
                    api.patch(&from, &json!({"rentalIds": without})).await.good(200);
                    let with: Vec<String> = joining.iter().cloned().chain(["R9".to_owned()]).collect();
                    api.patch(&into, &json!({"rentalIds": with})).await.good(200);
                },
                api.world.reports(billday::run::Dates::On(day(date)), false, None),
            );
            let charged = format!("select count(*) from payment_lines where rental_id = 'R9' and billing_period = '{}'", &date[..7]);
            assert!(api.world.db.number(&charged).await <= 1);
            assert_verified(&api.world.db).await;
        }
        // Whatever the first runs missed is arrears by now: one line a period.
        api.world.run("2026-09-01").await;
        api.world.run("2026-09-15").await;
        let periods = "select count(distinct billing_period) from payment_lines where rental_id = 'R9' and billing_period >= '2026-06'";
        assert_eq!(api.world.db.number(periods).await, 4);
        assert_eq!(api.world.db.number(&periods.replace("distinct billing_period", "*")).await, 4);
        assert_verified(&api.world.db).await;
    }
}
