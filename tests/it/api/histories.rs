//! Any history of API calls with runs in between: SQLite and PostgreSQL answer alike, nothing is charged twice, and the ledger is
//! whole.

use chrono::Days;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::api::ApiWorld;
use crate::support::world::{comparable, day};
use crate::support::{TestDb, assert_verified, run, torture};

const GROUPS: &str = "/v1/billing-groups";
const RENTALS: [&str; 7] = ["R1", "R2", "R3", "R4", "R5", "USD", "X"];

/// What is asked of the API, or of the calendar.
#[derive(Debug, Clone)]
enum Step {
    Create {
        rentals: Vec<usize>,
        day: u32,
    },
    Members {
        group: usize,
        rentals: Vec<usize>,
    },
    Day {
        group: usize,
        day: u32,
    },
    Status {
        group: usize,
        active: bool,
    },
    Delete {
        group: usize,
    },
    Rental {
        amount: u32,
        months: u32,
        started: u64,
        group: Option<usize>,
    },
    Change {
        rental: usize,
        body: Value,
    },
    /// Into a group, or out of the one that it is in.
    Move {
        rental: usize,
        group: Option<usize>,
    },
    End {
        rental: usize,
    },
    Settle {
        payment: usize,
        paid: bool,
    },
    /// So many days are run, one after the other.
    Run {
        days: u64,
    },
    /// So many days nobody runs anything.
    Pause {
        days: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let rentals = || prop::collection::vec(0..RENTALS.len(), 0..4);
    prop_oneof![
        3 => (rentals(), 1..=29_u32).prop_map(|(rentals, day)| Step::Create { rentals, day }),
        4 => (0..4_usize, rentals()).prop_map(|(group, rentals)| Step::Members { group, rentals }),
        2 => (0..4_usize, 1..=28_u32).prop_map(|(group, day)| Step::Day { group, day }),
        2 => (0..4_usize, any::<bool>()).prop_map(|(group, active)| Step::Status { group, active }),
        1 => (0..4_usize).prop_map(|group| Step::Delete { group }),
        2 => (1..500_u32, 0..14_u32, 0..60_u64, prop::option::of(0..4_usize))
            .prop_map(|(amount, months, started, group)| Step::Rental { amount, months, started, group }),
        2 => (0..10_usize, change()).prop_map(|(rental, body)| Step::Change { rental, body }),
        3 => (0..10_usize, prop::option::of(0..4_usize)).prop_map(|(rental, group)| Step::Move { rental, group }),
        1 => (0..10_usize).prop_map(|rental| Step::End { rental }),
        1 => (0..20_usize, any::<bool>()).prop_map(|(payment, paid)| Step::Settle { payment, paid }),
        3 => (1..25_u64).prop_map(|days| Step::Run { days }),
        1 => (1..40_u64).prop_map(|days| Step::Pause { days }),
    ]
}

/// What is changed of a subscription.
fn change() -> impl Strategy<Value = Value> {
    prop_oneof![
        (0..50_000_u32).prop_map(|cents| json!({"monthlyAmount": f64::from(cents) / 100.0})),
        (0..13_u32, 1..29_u32).prop_map(|(month, day)| match month {
            0 => json!({"endDate": null}),
            month => json!({"endDate": format!("2026-{month:02}-{day:02}")}),
        }),
        (0..14_u32).prop_map(|months| json!({"contractLength": (months > 0).then_some(months)})),
    ]
}

/// One of two worlds that live the same history; groups are named by the order in which they came.
struct Lived {
    api: ApiWorld,
    groups: Vec<String>,
    rentals: Vec<String>,
}

impl Lived {
    async fn new(db: TestDb) -> Self {
        let rentals = RENTALS.map(String::from).into();
        Self { api: ApiWorld::new(db).await, groups: vec!["G1".into()], rentals }
    }

    fn path(&self, group: usize) -> String {
        format!("{GROUPS}/{}", self.groups[group % self.groups.len()])
    }

    fn rental(&self, rental: usize) -> String {
        format!("/v1/subscriptions/{}", self.rentals[rental % self.rentals.len()])
    }

    /// The id of a payment, by its place in an order that both worlds share.
    async fn payment(&self, place: usize) -> Option<String> {
        let page = self.api.get("/v1/payments?limit=100").await.good(200);
        let mut keys: Vec<(String, String)> = page["payments"]
            .as_array()?
            .iter()
            .map(|payment| {
                let text = |field: &str| payment[field].as_str().unwrap_or_default().to_owned();
                (self.renamed(json!(text("idempotencyKey"))).to_string(), text("paymentId"))
            })
            .collect();
        keys.sort();
        let place = place % keys.len().max(1);
        keys.get(place).map(|(_, id)| id.clone())
    }

    /// Asks, and tells what was answered without what differs between the worlds.
    async fn ask(&mut self, step: &Step) -> Value {
        let ids = |rentals: &[usize]| rentals.iter().map(|rental| RENTALS[*rental]).collect::<Vec<_>>();
        let reply = match step {
            Step::Create { rentals, day } => {
                let body = json!({"customerId": "C", "groupName": "g", "billingDay": day, "rentalIds": ids(rentals)});
                self.api.post(GROUPS, &body).await
            }
            Step::Members { group, rentals } => {
                self.api.patch(&self.path(*group), &json!({"rentalIds": ids(rentals)})).await
            }
            Step::Day { group, day } => self.api.patch(&self.path(*group), &json!({"billingDay": day})).await,
            Step::Status { group, active } => {
                let status = if *active { "active" } else { "inactive" };
                self.api.patch(&self.path(*group), &json!({"status": status})).await
            }
            Step::Delete { group } => self.api.delete(&self.path(*group)).await,
            Step::Rental { amount, months, started, group } => {
                let start = billday::clock::Clock::now(&*self.api.world.clock).date_naive() - Days::new(*started);
                let group = group.map_or("", |group| self.groups[group % self.groups.len()].as_str());
                let body = json!({"customerId": "C", "monthlyAmount": amount, "contractLength": months,
                    "startDate": start.to_string(), "billingGroupId": group});
                self.api.post("/v1/subscriptions", &body).await
            }
            Step::Change { rental, body } => self.api.patch(&self.rental(*rental), body).await,
            Step::Move { rental, group } => {
                let group = group.map(|group| &self.groups[group % self.groups.len()]);
                self.api.patch(&self.rental(*rental), &json!({"billingGroupId": group})).await
            }
            Step::End { rental } => {
                self.api.post(&format!("{}/cancel", self.rental(*rental)), &json!({"reason": "other"})).await
            }
            Step::Settle { payment, paid } => {
                let Some(id) = self.payment(*payment).await else { return Value::Null };
                let (action, body) = if *paid { ("mark-paid", json!({})) } else { ("cancel", json!({"reason": "x"})) };
                let reply = self.api.post(&format!("/v1/payments/{id}/{action}"), &body).await;
                assert!(reply.status < 500, "{reply:?}");
                return json!([reply.status, reply.json()["error"]["code"]]);
            }
            Step::Run { .. } | Step::Pause { .. } => return Value::Null,
        };
        assert!(reply.status < 500, "{reply:?}");
        let mut told = reply.json();
        if reply.status == 201 {
            match told["rentalId"].as_str() {
                Some(rental) => self.rentals.push(rental.to_owned()),
                None => self.groups.push(told["billingGroup"]["billingGroupId"].as_str().expect("an id").to_owned()),
            }
        }
        for object in ["billingGroup", "rental"] {
            for differing in ["billingGroupId", "createdBy", "cancellationDetails"] {
                told[object].as_object_mut().and_then(|object| object.remove(differing));
            }
        }
        let mut told = self.renamed(told);
        if let Some(rentals) = told["billingGroup"]["rentalIds"].as_array_mut() {
            // Ids of the same instant are in no order.
            rentals.sort_by_key(ToString::to_string);
        }
        json!([reply.status, told])
    }

    /// Ids of groups and rentals as their places in the order of creation.
    fn renamed(&self, told: Value) -> Value {
        let names = |kind: &'static str, ids: &[String]| {
            ids.iter().enumerate().map(|(n, id)| (id.clone(), format!("{kind}{n}"))).collect::<Vec<_>>()
        };
        let made = names("rental", &self.rentals).into_iter().skip(RENTALS.len());
        let all = names("group", &self.groups).into_iter().chain(made);
        let text = all.fold(told.to_string(), |text, (id, name)| text.replace(&id, &name));
        serde_json::from_str(&text).expect("JSON")
    }
}

async fn live(steps: Vec<Step>) {
    let mut worlds = [Lived::new(TestDb::sqlite().await).await, Lived::new(TestDb::postgres().await).await];
    let mut today = day("2026-06-10");
    for step in &steps {
        let mut told = Vec::new();
        for world in &mut worlds {
            world.api.world.today(&today.to_string());
            told.push(world.ask(step).await);
        }
        assert_eq!(told[0], told[1], "{step:?}");
        let runs = if let Step::Run { days } = step { *days } else { 0 };
        for _ in 0..runs {
            let mut reports = Vec::new();
            for world in &worlds {
                world.api.world.today(&today.to_string());
                let report = world.api.world.report(billday::run::Dates::On(today), None).await;
                let lines = |report: &Value| {
                    let payments = report["tenants"][0]["payments"].as_array().expect("payments");
                    let mut lines: Vec<String> =
                        payments.iter().map(|p| world.renamed(p["lineItems"].clone()).to_string()).collect();
                    lines.sort();
                    lines
                };
                reports.push(comparable(&report).iter().flat_map(lines).collect::<Vec<_>>());
            }
            assert_eq!(reports[0], reports[1], "{today}");
            today = today + Days::new(1);
        }
        if let Step::Pause { days } = step {
            today = today + Days::new(*days);
        }
    }
    for world in &worlds {
        assert_verified(&world.api.world.db).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5 * torture(), max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_of_calls_and_runs_is_answered_alike_and_leaves_a_whole_ledger(steps in prop::collection::vec(step(), 1..14)) {
        run(live(steps));
    }
}
