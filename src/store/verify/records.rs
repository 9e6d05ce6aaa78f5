//! What runs wrote down about themselves, against what they left in the ledger.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::NaiveDate;
use sqlx::FromRow;

use crate::domain::report::Totals;

use super::super::{Result, Session, dialect, on, runs};
use super::{Audited, Finding, amount};

/// Outcomes read at once, with their lines.
const PAGE: i64 = 1000;

#[derive(FromRow)]
struct RunRecord {
    run_id: String,
    run_date: NaiveDate,
    billed: i64,
    totals: String,
}

/// Sums in two halves: a whole run's can be wider than a number of the database.
#[derive(FromRow)]
struct RunSums {
    run_id: String,
    currency: String,
    payments: i64,
    subtotal_billions: i64,
    subtotal_rest: i64,
    tax_billions: i64,
    tax_rest: i64,
    total_billions: i64,
    total_rest: i64,
}

#[derive(FromRow)]
struct BilledOutcome {
    run_date: NaiveDate,
    subject_kind: String,
    subject_id: String,
    payment_id: Option<String>,
    /// JSON: the rentals that the run saw.
    rentals: String,
}

#[derive(FromRow)]
struct OpenParked {
    run_date: NaiveDate,
    subject_kind: String,
    subject_id: String,
    /// JSON: pairs of rental and period that would have been charged.
    charges: String,
}

/// By currency code.
type RunTotals = BTreeMap<String, Totals>;

impl Session {
    pub(super) async fn check_records(&mut self, tenants: &[Audited]) -> Result<Vec<Finding>> {
        let mut runs = Finding::new("run_record_wrong", "each completed run has on record what its payments add up to");
        let mut bare =
            Finding::new("billed_without_line", "each subject that is on record as billed has a line at least");
        let mut strange = Finding::new(
            "line_of_unseen_rental",
            "each line is for a rental that its run saw when it billed the subject",
        );
        let mut lost = Finding::new(
            "parked_period_lost",
            "each period that an open parked subject would have been charged is charged or still marked as a gap",
        );
        for Audited { tenant_id, .. } in tenants {
            self.check_runs(tenant_id, &mut runs).await?;
            self.check_billed_outcomes(tenant_id, &mut bare, &mut strange).await?;
            self.check_parked(tenant_id, &mut lost).await?;
        }
        Ok(vec![runs, bare, strange, lost])
    }

    async fn check_runs(&mut self, tenant_id: &str, wrong: &mut Finding) -> Result<()> {
        let records: Vec<RunRecord> = on!(self, |conn| sqlx::query_as::<Db, RunRecord>(
            "select run_id, run_date, billed, totals
             from runs
             where tenant_id = $1 and state = 'completed'
             order by run_id"
        )
        .bind(tenant_id)
        .fetch_all(conn)
        .await?);
        let mut sums = self.sums_by_run(tenant_id).await?;
        for record in records {
            let payments = sums.remove(&record.run_id).unwrap_or_default();
            let count: u64 = payments.values().map(|totals| totals.payments).sum();
            if count != record.billed as u64 || payments != runs::parse_totals(&record.totals) {
                let RunRecord { run_id, run_date, billed, totals } = &record;
                let (on_record, added) = (in_words(&runs::parse_totals(totals)), in_words(&payments));
                wrong.note(|| {
                    format!(
                        "tenant {tenant_id}: run {run_id} for {run_date}, on record {billed} payments ({on_record}), found \
                         {count} ({added})"
                    )
                });
            }
        }
        Ok(())
    }

    async fn sums_by_run(&mut self, tenant_id: &str) -> Result<HashMap<String, RunTotals>> {
        let sums: Vec<RunSums> = on!(self, |conn| sqlx::query_as::<Db, RunSums>(
            "select run_id, currency, count(*) as payments,
                    cast(sum(subtotal / 1000000000) as bigint) as subtotal_billions,
                    cast(sum(subtotal % 1000000000) as bigint) as subtotal_rest,
                    cast(sum(tax_amount / 1000000000) as bigint) as tax_billions,
                    cast(sum(tax_amount % 1000000000) as bigint) as tax_rest,
                    cast(sum(total / 1000000000) as bigint) as total_billions,
                    cast(sum(total % 1000000000) as bigint) as total_rest
             from payments
             where tenant_id = $1 and origin = 'billday' and run_id is not null
             group by run_id, currency"
        )
        .bind(tenant_id)
        .fetch_all(conn)
        .await?);
        let whole = |billions: i64, rest: i64| i128::from(billions) * 1_000_000_000 + i128::from(rest);
        let mut by_run: HashMap<String, RunTotals> = HashMap::new();
        for sum in sums {
            let totals = Totals {
                payments: sum.payments as u64,
                subtotal: whole(sum.subtotal_billions, sum.subtotal_rest),
                tax_amount: whole(sum.tax_billions, sum.tax_rest),
                total: whole(sum.total_billions, sum.total_rest),
            };
            by_run.entry(sum.run_id).or_default().insert(sum.currency, totals);
        }
        Ok(by_run)
    }

    async fn check_billed_outcomes(
        &mut self,
        tenant_id: &str,
        bare: &mut Finding,
        strange: &mut Finding,
    ) -> Result<()> {
        let mut after = (NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default(), String::new(), String::new());
        loop {
            let outcomes = self.billed_outcomes(tenant_id, &after).await?;
            let Some(last) = outcomes.last() else { return Ok(()) };
            after = (last.run_date, last.subject_kind.clone(), last.subject_id.clone());
            let payments = outcomes.iter().filter_map(|outcome| outcome.payment_id.clone()).collect();
            let lines = self.rentals_by_payment(tenant_id, payments).await?;
            for outcome in outcomes {
                let charged = outcome.payment_id.as_ref().and_then(|id| lines.get(id));
                let Some(charged) = charged else {
                    bare.note(|| format!("tenant {tenant_id}: {outcome}"));
                    continue;
                };
                let seen: HashSet<String> = serde_json::from_str(&outcome.rentals).unwrap_or_default();
                for rental_id in charged.iter().filter(|rental_id| !seen.contains(*rental_id)) {
                    strange.note(|| format!("tenant {tenant_id}: {outcome}, rental {rental_id}"));
                }
            }
        }
    }

    /// The gaps of a parked subject are what its next billing date charges; a lost one never would be.
    async fn check_parked(&mut self, tenant_id: &str, lost: &mut Finding) -> Result<()> {
        let mut after = (NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default(), String::new(), String::new());
        loop {
            let page = self.open_parked(tenant_id, &after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.run_date, last.subject_kind.clone(), last.subject_id.clone());
            let mut charges: Vec<(&OpenParked, String, String)> = Vec::new();
            for parked in &page {
                match serde_json::from_str::<Vec<(String, String)>>(&parked.charges) {
                    Ok(pairs) => charges.extend(pairs.into_iter().map(|(rental, period)| (parked, rental, period))),
                    Err(_) => lost.note(|| format!("tenant {tenant_id}: {parked}, its periods cannot be read")),
                }
            }
            let rentals: HashSet<&String> = charges.iter().map(|(_, rental_id, _)| rental_id).collect();
            let rentals: Vec<String> = rentals.into_iter().cloned().collect();
            let known = self.charged_or_marked(tenant_id, &rentals).await?;
            for (parked, rental_id, period) in charges {
                if !known.get(&rental_id).is_some_and(|periods| periods.contains(&period)) {
                    lost.note(|| format!("tenant {tenant_id}: {parked}, rental {rental_id}, period {period}"));
                }
            }
        }
    }

    async fn open_parked(
        &mut self,
        tenant_id: &str,
        (run_date, subject_kind, subject_id): &(NaiveDate, String, String),
    ) -> Result<Vec<OpenParked>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, OpenParked>(
            "select run_date, subject_kind, subject_id, charges
             from parked
             where tenant_id = $1 and (run_date, subject_kind, subject_id) > ($2, $3, $4) and state = 'open'
             order by run_date, subject_kind, subject_id
             limit $5"
        )
        .bind(tenant_id)
        .bind(run_date)
        .bind(subject_kind)
        .bind(subject_id)
        .bind(PAGE)
        .fetch_all(conn)
        .await?))
    }

    /// The periods of rentals that have a line or a mark.
    async fn charged_or_marked(
        &mut self,
        tenant_id: &str,
        rentals: &[String],
    ) -> Result<HashMap<String, HashSet<String>>> {
        let found: Vec<(String, String)> = on!(self, |conn| dialect::with_keys::<Db>(
            "select rental_id, billing_period from payment_lines
             where tenant_id = $2 and live and rental_id in $keys and billing_period > ''
             union all
             select rental_id, billing_period from arrears
             where tenant_id = $2 and rental_id in $keys",
            rentals
        )
        .bind(tenant_id)
        .try_map(|row| <(String, String)>::from_row(&row))
        .fetch_all(conn)
        .await?);
        let mut periods: HashMap<String, HashSet<String>> = HashMap::new();
        for (rental_id, period) in found {
            periods.entry(rental_id).or_default().insert(period);
        }
        Ok(periods)
    }

    async fn billed_outcomes(
        &mut self,
        tenant_id: &str,
        (run_date, subject_kind, subject_id): &(NaiveDate, String, String),
    ) -> Result<Vec<BilledOutcome>> {
        Ok(on!(self, |conn| sqlx::query_as::<Db, BilledOutcome>(
            "select run_date, subject_kind, subject_id, payment_id, rentals
             from outcomes
             where tenant_id = $1 and (run_date, subject_kind, subject_id) > ($2, $3, $4) and outcome = 'billed'
             order by run_date, subject_kind, subject_id
             limit $5"
        )
        .bind(tenant_id)
        .bind(run_date)
        .bind(subject_kind)
        .bind(subject_id)
        .bind(PAGE)
        .fetch_all(conn)
        .await?))
    }

    async fn rentals_by_payment(
        &mut self,
        tenant_id: &str,
        payments: Vec<String>,
    ) -> Result<HashMap<String, Vec<String>>> {
        let lines: Vec<(String, String)> = on!(self, |conn| dialect::with_keys::<Db>(
            "select payment_id, rental_id from payment_lines where tenant_id = $2 and payment_id in $keys",
            &payments
        )
        .bind(tenant_id)
        .try_map(|row| <(String, String)>::from_row(&row))
        .fetch_all(conn)
        .await?);
        let mut by_payment: HashMap<String, Vec<String>> = HashMap::new();
        for (payment_id, rental_id) in lines {
            by_payment.entry(payment_id).or_default().push(rental_id);
        }
        Ok(by_payment)
    }
}

/// Totals for people, currency by currency.
fn in_words(totals: &RunTotals) -> String {
    let words = totals.iter().map(|(code, totals)| {
        let Totals { payments, subtotal, tax_amount, total } = totals;
        let [subtotal, tax, total] = [subtotal, tax_amount, total].map(|&sum| amount(code, sum));
        format!("{payments} in {code}: net {subtotal}, tax {tax}, total {total}")
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "no sums".to_owned() } else { words.join("; ") }
}

impl std::fmt::Display for BilledOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { run_date, subject_kind, subject_id, payment_id, .. } = self;
        let payment_id = payment_id.as_deref().unwrap_or("none");
        write!(f, "{subject_kind} {subject_id}, run date {run_date}, payment {payment_id}")
    }
}

impl std::fmt::Display for OpenParked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { run_date, subject_kind, subject_id, .. } = self;
        write!(f, "{subject_kind} {subject_id}, run date {run_date}")
    }
}
