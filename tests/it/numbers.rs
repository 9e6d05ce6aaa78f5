//! Invoice numbers when many want them at once, and some of those who took them have to give them back.

use std::sync::Arc;

use billday::clock::FixedClock;
use billday::domain::{BillingPeriod, Tenant};
use billday::render::report::ReportFormat;
use billday::run::{DateWork, RunSettings, Runner, TenantWork, Unwatched};
use billday::store::Store;
use billday::store::runs::RunKind;
use chrono::NaiveDate;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::lane::Counts;
use crate::support::world::{World, day, noon, rental, tenant};
use crate::support::{TestDb, assert_verified, on_both, torture};

const WRITERS: u32 = 8;
/// What each writer bills a month.
const RENTALS: u32 = 500;

/// Months in CI; with `BILLDAY_TEST_TORTURE=25` they come to a million numbers.
fn months() -> i32 {
    let torture = torture() as i32;
    if torture == 1 { 2 } else { 10 * torture }
}

/// One batch in ten is refused at its very last statement, when it has its numbers: on PostgreSQL every other time as if two had
/// met, so that it is planned again at once.
async fn take_back_one_in_ten(db: &TestDb) {
    let trigger = if db.is_sqlite() {
        "create trigger take_back before update on runs when new.batches > old.batches and abs(random()) % 10 = 0
         begin select raise(abort, 'taken back'); end"
    } else {
        "create sequence dice;
         create function take_back() returns trigger language plpgsql as $$
         declare roll bigint := nextval('dice');
         begin
             if roll % 20 = 0 then raise exception 'taken back' using errcode = '40001'; end if;
             if roll % 20 = 10 then raise exception 'taken back'; end if;
             return new;
         end $$;
         create trigger take_back before update on runs for each row
             when (new.batches > old.batches) execute function take_back();"
    };
    db.try_execute(trigger).await.expect("a trigger");
}

/// A writer with a pool of its own, as another process has.
#[derive(Clone)]
struct Writer {
    store: Store,
    clock: Arc<FixedClock>,
    tenant: Arc<Tenant>,
}

impl Writer {
    /// Runs a date until it is billed; tells how often the run failed before.
    async fn bill(self, date: NaiveDate) -> u64 {
        let settings = RunSettings {
            dry_run: false,
            batch_rentals: 50,
            requested_by: "test".into(),
            only: None,
            expected_plan: None,
            format: ReportFormat::Table,
        };
        let tenant =
            TenantWork { tenant: self.tenant, run_date: date, kind: RunKind::Explicit, more_dates_follow: false };
        let work = DateWork { named_date: Some(date), tenants: vec![tenant] };
        let mut failures = 0;
        loop {
            match Runner::new(&self.store, &*self.clock, &Unwatched, settings.clone()).run_date(&work).await {
                Ok(_) => return failures,
                Err(error) => assert!(format!("{error:#}").contains("taken back"), "{error:#}"),
            }
            failures += 1;
        }
    }
}

on_both! {
    async fn numbers_have_no_gap_though_one_in_ten_of_eight_writers_takes_them_back(db: TestDb) {
        let mut counts = Counts::new("invoice numbers", &db);
        let world = World::new(db).await;
        // One series for all years.
        world.import(tenant("T", json!({"invoiceNumberFormat": "R-{seq}"}))).await;
        let rentals = (0..WRITERS * RENTALS).map(|n| rental(&format!("R{n}"), &format!("2026-01-{:02}", 1 + n % WRITERS), json!({})));
        world.import(rentals.collect::<Value>()).await;
        take_back_one_in_ten(&world.db).await;
        let tenant = world.tenants(&world.db.store).await.remove(0);
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            let store = Store::open(&world.db.url, 2).await.expect("the database");
            writers.push(Writer { store, clock: Arc::clone(&world.clock), tenant: Arc::clone(&tenant) });
        }
        for month in 0..months() {
            let period = BillingPeriod::of(day("2026-01-01")).plus(month);
            world.clock.set(noon(day(&format!("{period}-28"))));
            let mut at_work = JoinSet::new();
            for (date, writer) in period.first_day().iter_days().zip(&writers) {
                at_work.spawn(writer.clone().bill(date));
            }
            counts.add("runs that failed", at_work.join_all().await.into_iter().sum());
        }
        for writer in writers {
            writer.store.close().await;
        }
        let wanted = u64::from(WRITERS * RENTALS) * months() as u64;
        let taken_back = match world.db.is_sqlite() {
            true => counts.of("runs that failed"),
            false => world.db.number("select last_value / 10 from dice").await as u64,
        };
        counts.add("batches taken back", taken_back);
        counts.add("numbers", world.db.number("select count(distinct sequence) from payments").await as u64);
        assert_eq!((counts.of("numbers"), world.db.number("select max(sequence) from payments").await as u64), (wanted, wanted));
        assert_verified(&world.db).await;
        counts.end(&[("batches taken back", wanted / 50 / 20), ("numbers", wanted)]);
    }
}
