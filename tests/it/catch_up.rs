//! Whoever was down over the end of a month ends with the ledger of somebody who never was.

use std::sync::Arc;

use billday::domain::{BillingPeriod, Tenant};
use billday::render::report::ReportFormat;
use billday::run::{Dates, RunSettings, Runner, Schedule, Unwatched};
use chrono::{Days, NaiveDate};
use serde_json::{Value, json};

use crate::support::lane::Counts;
use crate::support::random::Random;
use crate::support::world::{World, day, noon, rental, tenant};
use crate::support::{assert_verified, on_both, torture};

/// The longest that somebody is away, in days.
const AWAY_MAX: u64 = 35;
/// The months whose end is looked at: four years, the second a leap year.
const MONTHS: u32 = 48;

/// One tenant that is away and one that never is, over the same dates.
struct Case {
    last: NaiveDate,
    away: u64,
    /// Whether the dates that are too old to be caught up are run by a person, as they are told.
    by_hand: bool,
    ids: [String; 2],
}

impl Case {
    /// Away for so many days, among them the last of a month.
    fn new(month_end: NaiveDate, away: u64, random: &mut Random) -> Self {
        let last = month_end - Days::new(1 + random.below(away));
        Self { last, away, by_hand: random.below(3) == 0, ids: [format!("A{away}"), format!("N{away}")] }
    }

    fn back(&self) -> NaiveDate {
        self.last + Days::new(self.away + 1)
    }

    /// Both tenants with a rental of each day of the month, some of them in a group, some with an end within those days.
    fn records(&self) -> Vec<Value> {
        let catch_up_days = if self.by_hand { 7 } else { 40 };
        let mut records = Vec::new();
        for id in &self.ids {
            let own = json!({
                // One series for all years: invoices are issued on the day on which they are made.
                "billFrom": self.last.to_string(), "catchUpDays": catch_up_days, "invoiceNumberFormat": "R-{seq}",
            });
            records.extend(tenant(id, own).as_array().cloned().unwrap_or_default());
            records.push(json!({"tenantId": id, "customerId": "C", "company": "Acme", "email": "pay@acme.example"}));
            let started = BillingPeriod::of(self.last).plus(-2);
            for n in 1..=31 {
                let start = started.first_day() + Days::new(n - 1);
                let mut with = json!({"tenantId": id});
                match n % 8 {
                    1 => with["billingGroupId"] = "G".into(),
                    3 => with["contractLength"] = 3.into(),
                    5 => with["endDate"] = (self.last + Days::new(n)).to_string().into(),
                    _ => {}
                }
                records.push(rental(&format!("R{n}"), &start.to_string(), with));
            }
            records.push(
                json!({"tenantId": id, "billingGroupId": "G", "customerId": "C", "billingDay": 1 + self.away % 28}),
            );
        }
        records
    }
}

/// Has one tenant run these dates on a day.
async fn run_on(world: &World, tenant: &Arc<Tenant>, today: NaiveDate, dates: Dates) -> Schedule {
    world.clock.set(noon(today));
    let mut session = world.db.store.read().await.expect("a snapshot");
    let now = noon(today);
    let schedule =
        Schedule::new(std::slice::from_ref(tenant), dates, false, now, &mut session).await.expect("a schedule");
    session.end().await;
    let settings = RunSettings {
        dry_run: false,
        batch_rentals: 20,
        requested_by: "test".into(),
        only: None,
        expected_plan: None,
        format: ReportFormat::Table,
    };
    let mut runner = Runner::new(&world.db.store, &*world.clock, &Unwatched, settings);
    for work in &schedule.dates {
        runner.run_date(work).await.expect("a run");
    }
    schedule
}

/// What was billed, for what and on which dates, of one tenant; when the invoices were issued may differ.
async fn ledger(world: &World, tenant_id: &str) -> Vec<String> {
    let sql = format!(
        "select 'line ' || p.subject_id || ' ' || p.billing_period || ' ' || l.rental_id || ' ' || l.billing_period || ' ' || l.amount
             || ' ' || l.arrears from payment_lines l
         join payments p on p.tenant_id = l.tenant_id and p.payment_id = l.payment_id
         where l.tenant_id = '{tenant_id}'
         union all
         select 'payment ' || subject_id || ' ' || billing_period || ' ' || total || ' ' || sequence from payments
         where tenant_id = '{tenant_id}'
         union all
         select 'outcome ' || run_date || ' ' || subject_id || ' ' || outcome || ' ' || coalesce(code, '') from outcomes
         where tenant_id = '{tenant_id}'
         union all
         select 'done ' || run_date from completed_dates where tenant_id = '{tenant_id}'
         order by 1"
    );
    world.db.texts(&sql).await
}

on_both! {
    async fn who_was_down_over_the_end_of_a_month_bills_what_one_who_never_was_bills(db: TestDb) {
        let mut counts = Counts::new("days down over the end of a month", &db);
        let mut random = Random::new();
        let scale = torture();
        for n in 0..MONTHS.min(2 * scale) {
            // In CI the end of a leap February and another one.
            let month = if scale >= MONTHS / 2 { n } else if n == 0 { 13 } else { random.below(u64::from(MONTHS)) as u32 };
            let month_end = BillingPeriod::of(day("2027-01-01")).plus(month as i32).last_day();
            let aways: Vec<u64> =
                (1..=AWAY_MAX).filter(|away| scale > 1 || [1, 2, 7, 8, 30, AWAY_MAX].contains(away)).collect();
            let cases: Vec<Case> = aways.iter().map(|away| Case::new(month_end, *away, &mut random)).collect();
            let world = World::without_data(db.another().await);
            world.import(cases.iter().flat_map(Case::records).collect::<Value>()).await;
            let tenants = world.tenants(&world.db.store).await;
            for case in &cases {
                let of = |id: &str| tenants.iter().find(|tenant| tenant.tenant_id == id).expect("a tenant");
                let [away, never] = case.ids.each_ref().map(|id| of(id));
                for date in case.last.iter_days().take_while(|date| *date <= case.back()) {
                    run_on(&world, never, date, Dates::TodayAndMissed).await;
                }
                run_on(&world, away, case.last, Dates::TodayAndMissed).await;
                if case.by_hand {
                    // The dry look that a person takes first tells what to run.
                    world.clock.set(noon(case.back()));
                    let mut session = world.db.store.read().await.expect("a snapshot");
                    let told = Schedule::new(std::slice::from_ref(away), Dates::TodayAndMissed, true, noon(case.back()), &mut session);
                    let overdue = told.await.expect("a schedule").overdue;
                    session.end().await;
                    assert_eq!(overdue.is_empty(), case.away < 7, "{} days", case.away);
                    for overdue in overdue {
                        run_on(&world, away, case.back(), Dates::Range(overdue.first, overdue.last)).await;
                        counts.add("times that a person ran what was too old", 1);
                    }
                }
                let caught_up = run_on(&world, away, case.back(), Dates::TodayAndMissed).await;
                assert_eq!(caught_up.overdue, []);
                let [away, never] = [ledger(&world, &case.ids[0]).await, ledger(&world, &case.ids[1]).await];
                assert_eq!(away, never, "away for {} days after {}", case.away, case.last);
                let lines = never.iter().filter(|row| row.starts_with("line ")).count() as u64;
                assert!(lines >= case.away / 2, "{never:#?}");
                counts.add("times away", 1);
                counts.add("days", case.away);
                counts.add("lines", lines);
            }
            assert_verified(&world.db).await;
            counts.add("ends of a month", 1);
        }
        counts.end(&[("lines", 100), ("times that a person ran what was too old", 1)]);
    }
}
