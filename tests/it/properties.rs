//! Any history of moves, prices, cancellations and missed days, on three worlds at once: SQLite, PostgreSQL, and SQLite again
//! with other batches and the records in another order. All three must tell the same, and the ledger must be whole.

use std::collections::BTreeMap;

use billday::domain::calendar::BillingDay;
use billday::domain::{BillingPeriod, Subject};
use billday::run::Dates;
use chrono::{Days, NaiveDate};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::support::random::Random;
use crate::support::world::{LEDGER, World, comparable, day, tenant_of, text};
use crate::support::{TestDb, run, torture};

/// What happens between two dates that are run.
#[derive(Debug, Clone)]
enum Event {
    Join {
        rental: usize,
        group: usize,
    },
    Leave {
        rental: usize,
    },
    GroupDay {
        group: usize,
        day: i64,
    },
    GroupStatus {
        group: usize,
        active: bool,
    },
    Price {
        rental: usize,
        cents: u32,
    },
    Currency {
        rental: usize,
        dollars: bool,
    },
    Cancel {
        rental: usize,
    },
    Reactivate {
        rental: usize,
    },
    /// Nobody runs anything for so many days.
    Pause {
        days: u64,
    },
    /// So many days are run in one call.
    Range {
        days: u64,
    },
}

const RENTALS: usize = 6;
const GROUPS: usize = 2;

fn event() -> impl Strategy<Value = Event> {
    let (rental, group) = (0..RENTALS, 0..GROUPS);
    prop_oneof![
        4 => (rental.clone(), group.clone()).prop_map(|(rental, group)| Event::Join { rental, group }),
        2 => rental.clone().prop_map(|rental| Event::Leave { rental }),
        2 => (group.clone(), 1..=28_i64).prop_map(|(group, day)| Event::GroupDay { group, day }),
        1 => (group, any::<bool>()).prop_map(|(group, active)| Event::GroupStatus { group, active }),
        2 => (rental.clone(), 0..100_000_u32).prop_map(|(rental, cents)| Event::Price { rental, cents }),
        1 => (rental.clone(), any::<bool>()).prop_map(|(rental, dollars)| Event::Currency { rental, dollars }),
        1 => rental.clone().prop_map(|rental| Event::Cancel { rental }),
        1 => rental.prop_map(|rental| Event::Reactivate { rental }),
        1 => (1..50_u64).prop_map(|days| Event::Pause { days }),
        1 => (1..40_u64).prop_map(|days| Event::Range { days }),
    ]
}

#[derive(Debug, Clone)]
struct RentalState {
    start: NaiveDate,
    cents: u32,
    dollars: bool,
    contract: Option<u32>,
    group: Option<usize>,
    ended_on: Option<NaiveDate>,
}

/// What the test knows of its data, without billday's planner.
#[derive(Debug, Clone)]
struct Model {
    rentals: Vec<RentalState>,
    groups: Vec<(i64, bool)>,
}

impl Model {
    fn apply(&mut self, event: &Event, today: NaiveDate) {
        match *event {
            Event::Join { rental, group } => self.rentals[rental].group = Some(group),
            Event::Leave { rental } => self.rentals[rental].group = None,
            Event::GroupDay { group, day } => self.groups[group].0 = day,
            Event::GroupStatus { group, active } => self.groups[group].1 = active,
            Event::Price { rental, cents } => self.rentals[rental].cents = cents,
            Event::Currency { rental, dollars } => self.rentals[rental].dollars = dollars,
            Event::Cancel { rental } => self.rentals[rental].ended_on = Some(today),
            Event::Reactivate { rental } => self.rentals[rental].ended_on = None,
            Event::Pause { .. } | Event::Range { .. } => {}
        }
    }

    fn records(&self, reversed: bool) -> Value {
        let mut records: Vec<Value> = self
            .groups
            .iter()
            .enumerate()
            .map(|(n, (day, active))| {
                json!({
                    "billingGroupId": format!("G{n}"), "customerId": "C", "billingDay": day,
                    "status": if *active { "active" } else { "inactive" },
                })
            })
            .collect();
        records.extend(self.rentals.iter().enumerate().map(|(n, rental)| {
            json!({

                "rentalId": rental_id(n), "customerId": "C",
                "monthlyAmount": format!("{}.{:02}", rental.cents / 100, rental.cents % 100),
                "startDate": rental.start.to_string(), "currency": if rental.dollars { "USD" } else { "EUR" },
                "contractLength": rental.contract, "billingGroupId": rental.group.map(|group| format!("G{group}")),
                "status": if rental.ended_on.is_some() { "cancelled" } else { "active" },
                "cancelledAt": rental.ended_on.map(|date| date.to_string()),
            })
        }));
        if reversed {
            records.reverse();
        }
        Value::from(records)
    }

    /// The subject that bills a rental, and its day.
    fn subject(&self, rental: usize) -> (Subject, BillingDay) {
        let state = &self.rentals[rental];
        match state.group {
            Some(group) if self.groups[group].1 => {
                (Subject::group(format!("G{group}")), BillingDay::fixed(self.groups[group].0).expect("1 to 28"))
            }
            _ => (Subject::rental(rental_id(rental)), BillingDay::anchored_at(state.start)),
        }
    }

    fn billable(&self, rental: usize, date: NaiveDate) -> bool {
        let state = &self.rentals[rental];
        let contract_end = state.contract.map(|n| billday::domain::calendar::add_months(state.start, n));
        state.start <= date && contract_end.is_none_or(|end| date < end) && state.ended_on.is_none_or(|end| date < end)
    }
}

/// Ids of which one begins another: they sort by their keys, not by themselves.
fn rental_id(n: usize) -> &'static str {
    ["R", "R1", "R10", "R-1", "R1:x", "Ra"][n]
}

fn model() -> impl Strategy<Value = Model> {
    let rental =
        (0..60_u64, 0..100_000_u32, proptest::option::weighted(0.3, 1..8_u32), proptest::option::of(0..GROUPS));
    let rentals = prop::collection::vec(rental, RENTALS).prop_map(|rentals| {
        let state = |(offset, cents, contract, group)| RentalState {
            start: day("2025-12-20") + Days::new(offset),
            cents,
            dollars: false,
            contract,
            group,
            ended_on: None,
        };
        rentals.into_iter().map(state).collect()
    });
    (rentals, prop::collection::vec((1..=28_i64, any::<bool>()), GROUPS))
        .prop_map(|(rentals, groups)| Model { rentals, groups })
}

async fn world(db: TestDb, batch_rentals: usize) -> World {
    let mut world = World::new(db).await;
    world.batch_rentals = batch_rentals;
    world
}

/// Lives through a history; tells how many dates were run, and how many payments came of them, in each world.
async fn live(mut model: Model, events: Vec<Event>) -> (u64, u64) {
    let worlds = [
        world(TestDb::sqlite().await, 3).await,
        world(TestDb::postgres().await, 3).await,
        world(TestDb::sqlite().await, 1).await,
    ];
    let mut today = day("2026-01-01");
    for event in &events {
        model.apply(event, today);
        for (n, world) in worlds.iter().enumerate() {
            world.today(&today.to_string());
            world.import(model.records(n == 2)).await;
        }
        let from = today;
        if let Event::Pause { days } | Event::Range { days } = event {
            today = today + Days::new(*days);
        }
        if let Event::Range { .. } = event {
            tell_alike(&worlds, Dates::Range(from, today), today).await;
        }
        // The next few dates on which anything is due.
        for _ in 0..3 {
            today = next_due(&model, today);
            let told = tell_alike(&worlds, Dates::On(today), today).await;
            nothing_due_was_missed(&model, today, &worlds[0], &tenant_of(&told[0], "T")).await;
            today = today + Days::new(1);
        }
    }
    let last = today - Days::new(1);
    for world in &worlds {
        crate::support::assert_verified(&world.db).await;
        nothing_is_written_again(world, last).await;
        for ledger in LEDGER {
            assert_eq!(
                world.db.texts(ledger).await,
                worlds[0].db.texts(ledger).await,
                "the ledgers differ after {last}"
            );
        }
    }
    let count = async |what: &str| worlds[0].db.number(&format!("select count(*) from {what}")).await as u64;
    (count("completed_dates").await, count("payments").await)
}

/// The last date once more: no row is written but the run's own, and what is parked notes that it was tried.
async fn nothing_is_written_again(world: &World, date: NaiveDate) {
    world.db.note_writes().await;
    world.reports(Dates::On(date), false, None).await;
    let written = world.db.writes().await;
    let own = ["insert runs ", "update runs ", "update parked "];
    let others: Vec<&String> = written.iter().filter(|what| !own.iter().any(|own| what.starts_with(own))).collect();
    assert!(others.is_empty(), "{date}: {written:?}");
}

/// Runs the dates in all worlds, each with its dry run before, and compares what they tell.
async fn tell_alike(worlds: &[World; 3], dates: Dates, today: NaiveDate) -> Vec<Value> {
    let report = async |world: &World| {
        world.today(&today.to_string());
        world.report(dates, None).await
    };
    let [sqlite, postgres, other] = worlds;
    let (sqlite, postgres, other) = tokio::join!(report(sqlite), report(postgres), report(other));
    assert_eq!(comparable(&sqlite), comparable(&postgres), "SQLite and PostgreSQL differ on {today}");
    assert_eq!(comparable(&sqlite), comparable(&other), "batches or order of records matter on {today}");
    sqlite
}

fn next_due(model: &Model, from: NaiveDate) -> NaiveDate {
    (0..RENTALS).map(|rental| model.subject(rental).1.first_on_or_after(from)).min().expect("a rental")
}

/// Each rental that was due and billable has its line, or the report names why not.
async fn nothing_due_was_missed(model: &Model, date: NaiveDate, world: &World, report: &Value) {
    let period = BillingPeriod::of(date);
    let ids = |list: &str, key: &str| -> Vec<String> {
        report[list].as_array().expect(list).iter().filter_map(|entry| entry.get(key).map(text)).collect()
    };
    let parked: Vec<String> = [ids("parked", "billingGroupId"), ids("parked", "rentalId")].concat();
    let lines: BTreeMap<String, i64> = charges(world, period).await;
    for rental in 0..RENTALS {
        let (subject, day) = model.subject(rental);
        if day.date_in(period) != date || !model.billable(rental, date) || parked.contains(&subject.id) {
            continue;
        }
        let id = rental_id(rental);
        let charged = lines.get(id).copied().unwrap_or(0);
        let contract = model.rentals[rental].contract.map(i64::from);
        let all = world.db.number(&format!("select count(*) from payment_lines where rental_id = '{id}'")).await;
        let subject_paid = world
            .db
            .number(&format!(
                "select count(*) from payments where subject_id = '{}' and billing_period = '{period}'",
                subject.id
            ))
            .await;
        let withheld = world
            .db
            .number(&format!("select count(*) from arrears where rental_id = '{id}' and billing_period = '{period}'"))
            .await;
        assert!(
            charged == 1 || contract == Some(all) || subject_paid == 1 || withheld == 1,
            "{id} was due on {date} and is not charged: {report}"
        );
    }
}

async fn charges(world: &World, period: BillingPeriod) -> BTreeMap<String, i64> {
    let ids = world.db.texts(&format!("select rental_id from payment_lines where billing_period = '{period}'")).await;
    let mut charges = BTreeMap::new();
    for id in ids {
        *charges.entry(id).or_default() += 1;
    }
    assert!(charges.values().all(|count| *count == 1), "charged twice: {charges:?}");
    charges
}

/// Histories in CI; with `BILLDAY_TEST_TORTURE=25` there are 2,000.
fn histories() -> u32 {
    if torture() == 1 { 6 } else { 80 * torture() }
}

#[test]
fn any_history_is_billed_once_misses_nothing_and_is_told_alike_everywhere() {
    let mut random = Random::new();
    let seed: [u8; 32] = std::array::from_fn(|_| random.below(256) as u8);
    let config = ProptestConfig {
        cases: histories(),
        max_shrink_iters: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let lived = std::cell::Cell::new((0, 0, 0));
    let result = runner.run(&(model(), prop::collection::vec(event(), 1..12)), |(model, events)| {
        run(async {
            let (dates, payments) = live(model, events).await;
            let (histories, all_dates, all_payments) = lived.get();
            lived.set((histories + 1, all_dates + dates, all_payments + payments));
        });
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let (histories, dates, payments) = lived.get();
    println!(
        "lane: random histories on both: {histories} histories, {dates} dates, each planned and run on three databases, {payments} payments"
    );
    assert!(payments >= histories, "this billed next to nothing");
}
