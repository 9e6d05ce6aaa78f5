//! Rows that no import would take, written past the program, among many good ones: exactly those are parked, each with its reason, and
//! all others are billed.

use serde_json::json;

use crate::cli::billday;
use crate::support::lane::Counts;
use crate::support::ledger_checks::assert_ledger;
use crate::support::world::World;
use crate::support::{assert_verified, on_both, torture};

const DATE: &str = "2026-11-15";

/// What is wrong with a rental: how it got so, how it is mended, the code that it is parked with, and the field that the reason names.
struct Badness {
    damage: &'static str,
    mend: &'static str,
    code: &'static str,
    named: &'static str,
}

/// Those that both databases can hold.
const BAD: [Badness; 8] = [
    Badness {
        damage: "monthly_amount = -5",
        mend: "monthly_amount = 1000",
        code: "INVALID_RECORD",
        named: "monthlyAmount",
    },
    Badness {
        damage: "monthly_amount = 9223372036854775807",
        mend: "monthly_amount = 1000",
        code: "AMOUNT_OVERFLOW",
        named: "",
    },
    Badness { damage: "currency = 'ZZZ'", mend: "currency = 'EUR'", code: "INVALID_RECORD", named: "currency" },
    Badness { damage: "currency = ''", mend: "currency = 'EUR'", code: "INVALID_RECORD", named: "currency" },
    Badness { damage: "status = 'lost'", mend: "status = 'active'", code: "INVALID_RECORD", named: "status" },
    Badness {
        damage: "contract_length = -1",
        mend: "contract_length = null",
        code: "INVALID_RECORD",
        named: "contractLength",
    },
    Badness {
        damage: "customer_id = 'NOBODY'",
        mend: "customer_id = 'C'",
        code: "CUSTOMER_NOT_FOUND",
        named: "NOBODY",
    },
    Badness { damage: "customer_id = 'ODD'", mend: "customer_id = 'C'", code: "INVALID_RECORD", named: "taxTreatment" },
];

/// Those that only SQLite lets in.
const BAD_IN_SQLITE: [Badness; 3] = [
    Badness {
        damage: "start_date = '2026-13-15'",
        mend: "start_date = '2026-11-15'",
        code: "INVALID_RECORD",
        named: "startDate",
    },
    Badness { damage: "end_date = 'soon'", mend: "end_date = null", code: "INVALID_RECORD", named: "endDate" },
    Badness {
        damage: "currency = cast(x'ff4555' as text)",
        mend: "currency = 'EUR'",
        code: "INVALID_RECORD",
        named: "currency",
    },
];

on_both! {
    async fn of_many_rows_exactly_the_bad_ones_are_parked_and_all_others_billed(db: TestDb) {
        let world = World::new(db).await;
        let db = &world.db;
        // A hundredth of them is bad; 1,000 of 100,000 at full scale.
        let rows = (4_000 * i64::from(torture())).min(100_000);
        let (bad, mut counts) = (rows / 100, Counts::new("bad rows", db));
        let kinds: Vec<&Badness> = BAD.iter().chain(BAD_IN_SQLITE.iter().take(if db.is_sqlite() { usize::MAX } else { 0 })).collect();
        if !db.is_sqlite() {
            db.execute("alter table rentals drop constraint rentals_monthly_amount_check").await;
        }
        let char_of = if db.is_sqlite() { "char" } else { "chr" };
        db.execute(&format!(
            "insert into rentals (tenant_id, rental_id, customer_id, monthly_amount, currency, status, start_date, product_name,
                                  created_by, created_at, updated_at, changed_at)
             with recursive n(i) as (select 0 union all select i + 1 from n where i < {rows} - 1)
             select 'T', 'R' || cast(1000000 + i as text), 'C', 1000, 'EUR', 'active', date('{DATE}'),
                    case when i % 100 = 50 then 'a' || {char_of}(10) || {char_of}(13) || '<b>' else 'Phone' end, 'test', 1, 1, 1
             from n;
             insert into uncharged_rentals (tenant_id, rental_id) select tenant_id, rental_id from rentals"
        )).await;
        world.import(json!([{"tenantId": "T", "customerId": "ODD", "company": "Odd", "email": "odd@buyer.example"}])).await;
        db.execute("update customers set tax_treatment = 'whatever' where customer_id = 'ODD'").await;
        if db.is_sqlite() {
            // A name that is no text is billed, and shows as what it is.
            db.execute("update rentals set product_name = cast(x'c328' as text) where rental_id like '%51'").await;
        }
        // So that the largest amount is too large with its tax.
        db.execute("update tenants set tax_rate_ppm = 190000").await;
        let of_kind = |n: usize| {
            let (all, step) = (100 * kinds.len(), 100 * n);
            format!("where tenant_id = 'T' and cast(substr(rental_id, 2) as bigint) % 100 = 0
                     and (cast(substr(rental_id, 2) as bigint) - 1000000) % {all} = {step}")
        };
        for (n, kind) in kinds.iter().enumerate() {
            db.execute(&format!("update rentals set {} {}", kind.damage, of_kind(n))).await;
        }
        let folder = db.dir.path();
        let told = billday(folder, &db.url, &["run", "--run-date", DATE, "--no-send"]);
        assert_eq!(told.status, 3, "{}", told.err);
        // The checks look at all of it at once, and so much at once is news to the planner of queries.
        db.execute("analyze").await;
        assert_ledger(db).await;
        assert_eq!(db.number("select count(*) from payments").await, rows - bad);

        let parked = db.texts("select subject_id || ' ' || code from parked where state = 'open' order by subject_id").await;
        let expected: Vec<String> = (0..bad as usize).map(|n| format!("R{} {}", 1_000_000 + 100 * n, kinds[n % kinds.len()].code)).collect();
        assert_eq!(parked, expected);
        for kind in &kinds {
            let named = format!(
                "select count(*) from parked where code = '{}' and (message like '%{1}%' or records like '%{1}%') and message <> ''",
                kind.code, kind.named
            );
            assert!(db.number(&named).await >= bad / kinds.len() as i64, "{} is not named", kind.damage);
        }
        counts.add("billed", (rows - bad) as u64);
        counts.add("parked", bad as u64);

        // Mended, they are billed like all others, and the ledger is proved.
        for (n, kind) in kinds.iter().enumerate() {
            db.execute(&format!("update rentals set {} {}", kind.mend, of_kind(n))).await;
        }
        let told = billday(folder, &db.url, &["run", "--run-date", DATE, "--no-send"]);
        assert_eq!(told.status, 0, "{}", told.err);
        assert_eq!(db.number("select count(*) from payments").await, rows);
        assert_eq!(db.number("select count(*) from parked where state = 'open'").await, 0);
        db.execute("update customers set tax_treatment = 'standard' where customer_id = 'ODD'").await;
        assert_verified(db).await;
        counts.end(&[("parked", 40)]);
    }
}
