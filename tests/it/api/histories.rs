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
        3 => (1..25_u64).prop_map(|days| Step::Run { days }),
        1 => (1..40_u64).prop_map(|days| Step::Pause { days }),
    ]
}

/// One of two worlds that live the same history; groups are named by the order in which they came.
struct Lived {
    api: ApiWorld,
    groups: Vec<String>,
}

impl Lived {
    async fn new(db: TestDb) -> Self {
        Self { api: ApiWorld::new(db).await, groups: vec!["G1".into()] }
    }

    fn path(&self, group: usize) -> String {
        format!("{GROUPS}/{}", self.groups[group % self.groups.len()])
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
            Step::Run { .. } | Step::Pause { .. } => return Value::Null,
        };
        assert!(reply.status < 500, "{reply:?}");
        let mut told = reply.json();
        if reply.status == 201 {
            self.groups.push(told["billingGroup"]["billingGroupId"].as_str().expect("an id").to_owned());
        }
        if let Some(group) = told["billingGroup"].as_object_mut() {
            for differing in ["billingGroupId", "createdBy"] {
                group.remove(differing);
            }
        }
        json!([reply.status, self.renamed(told)])
    }

    /// Ids of groups as their places in the order of creation.
    fn renamed(&self, told: Value) -> Value {
        let text = self
            .groups
            .iter()
            .enumerate()
            .fold(told.to_string(), |text, (n, id)| text.replace(id, &format!("group{n}")));
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
