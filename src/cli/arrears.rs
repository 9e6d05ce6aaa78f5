//! `billday arrears`: gaps in the ledger that wait for a person.

use clap::Subcommand;

use crate::domain::calendar::local_date;
use crate::domain::plan::{BadRecord, LOOK_BACK, Mark};
use crate::domain::{BillingPeriod, Rental, Tenant};
use crate::store::arrears::ArrearsRow;
use crate::store::{Session, Store};

use super::{App, Exit, Wrong, one_tenant, table};

#[derive(Subcommand)]
pub(super) enum ArrearsCommand {
    /// Withheld gaps, and what was decided about others
    List {
        /// Only this tenant
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Charge withheld periods on the next billing date; without periods, all of that rental
    Confirm {
        rental: String,
        /// YYYY-MM
        #[arg(value_parser = period_argument)]
        periods: Vec<BillingPeriod>,
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Never charge these periods; without periods, all withheld ones of that rental
    Waive {
        rental: String,
        /// YYYY-MM
        #[arg(value_parser = period_argument)]
        periods: Vec<BillingPeriod>,
        /// Why; it is kept with the decision
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
}

fn period_argument(text: &str) -> Result<BillingPeriod, String> {
    BillingPeriod::parse(text).ok_or_else(|| "a billing period is written YYYY-MM, such as 2026-11".to_owned())
}

pub(super) async fn arrears(app: &App, command: ArrearsCommand) -> anyhow::Result<Exit> {
    match command {
        ArrearsCommand::List { tenant } => list(app, tenant).await,
        ArrearsCommand::Confirm { rental, periods, tenant } => {
            let decision = Decision { rental, periods, mark: Mark::Confirmed, reason: None };
            decide(app, decision, tenant).await
        }
        ArrearsCommand::Waive { reason, .. } if reason.trim().is_empty() => {
            Err(Wrong("--reason must say why: it is kept for the audit".to_owned()).into())
        }
        ArrearsCommand::Waive { rental, periods, reason, tenant } => {
            decide(app, Decision { rental, periods, mark: Mark::Waived, reason: Some(reason) }, tenant).await
        }
    }
}

async fn list(app: &App, tenant: Option<String>) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let mut session = store.read().await?;
    let mut tenants = session.list_tenants().await?;
    tenants.retain(|(id, _)| tenant.as_ref().is_none_or(|wanted| wanted == id));
    let (mut marked, mut never) = (Vec::new(), Vec::new());
    for (tenant_id, tenant) in tenants {
        let Ok(tenant) = tenant else { continue };
        let today = local_date(app.clock.now(), tenant.time_zone);
        let rows = session.list_arrears(Some(&tenant_id), None).await?;
        marked.extend(rows.iter().map(|row| cells(row, BillingPeriod::of(today))));
        let (count, rentals) = session.passed_over(&tenant, today, NEVER_CHARGED_MAX).await?;
        if count > rentals.len() as u64 {
            eprintln!("tenant {tenant_id}: {count} rentals were never charged, of which {} are listed", rentals.len());
        }
        never.extend(rentals.into_iter().map(|rental| never_charged(&tenant_id, &rental)));
    }
    session.end().await;
    let mut out = std::io::stdout();
    if marked.is_empty() {
        eprintln!("nothing is withheld, confirmed or waived");
    } else {
        table::write(&mut out, &["TENANT", "RENTAL", "PERIOD", "STATE", "BY", "REASON"], &marked)?;
    }
    if !never.is_empty() {
        eprintln!(
            "\nnever charged, although a billing date has gone by since their start; the next billing date charges them, and \
             `billday run --run-date DATE` one that has gone by:"
        );
        table::write(&mut out, &["TENANT", "RENTAL", "CUSTOMER", "START"], &never)?;
    }
    Ok(Exit::Done)
}

/// Rentals of one tenant that are listed as never charged; right after an import there can be many.
const NEVER_CHARGED_MAX: usize = 100;

fn never_charged(tenant_id: &str, rental: &Rental) -> Vec<String> {
    vec![tenant_id.to_owned(), rental.rental_id.clone(), rental.customer_id.clone(), rental.start_date.to_string()]
}

/// The month that it is for a tenant.
fn this_period(app: &App, tenants: &[(String, Result<Tenant, BadRecord>)], tenant_id: &str) -> BillingPeriod {
    let tenant = tenants.iter().find(|(id, _)| id == tenant_id).and_then(|(_, tenant)| tenant.as_ref().ok());
    BillingPeriod::of(local_date(app.clock.now(), tenant.map_or(chrono_tz::UTC, |tenant| tenant.time_zone)))
}

/// Whether it was withheld for longer than gaps are looked for: no billing date will ask for it again (rule 8).
fn has_lapsed(row: &ArrearsRow, now: BillingPeriod) -> bool {
    let age = BillingPeriod::parse(&row.billing_period).map_or(0, |period| now.months_after(period));
    row.state == Mark::Withheld.as_str() && age > LOOK_BACK
}

fn cells(row: &ArrearsRow, now: BillingPeriod) -> Vec<String> {
    vec![
        row.tenant_id.clone(),
        row.rental_id.clone(),
        row.billing_period.clone(),
        if has_lapsed(row, now) { "lapsed".to_owned() } else { row.state.clone() },
        row.decided_by.clone(),
        row.reason.clone().unwrap_or_default(),
    ]
}

/// What a person decided about periods of one rental.
struct Decision {
    rental: String,
    periods: Vec<BillingPeriod>,
    mark: Mark,
    reason: Option<String>,
}

async fn decide(app: &App, decision: Decision, tenant: Option<String>) -> anyhow::Result<Exit> {
    let store = app.store().await?;
    let mut session = store.read().await?;
    let having = session.tenants_of_rental(&decision.rental).await?;
    let tenant_id = one_tenant(tenant.as_deref(), &having, &format!("rental {}", decision.rental))?;
    let periods = periods(app, &mut session, &tenant_id, &decision).await?;
    session.end().await;
    let (rental, verb) = (decision.rental.clone(), if decision.mark == Mark::Waived { "waived" } else { "confirmed" });
    write(&store, app, tenant_id, decision, periods.clone()).await?;
    println!("{verb} for rental {rental}: {}", periods.join(", "));
    Ok(Exit::Done)
}

/// The periods that are meant; one that has a line, or that nothing withholds, is refused. A lapsed one has to be named.
async fn periods(
    app: &App,
    session: &mut Session,
    tenant_id: &str,
    decision: &Decision,
) -> anyhow::Result<Vec<String>> {
    let marked = session.list_arrears(Some(tenant_id), Some(&decision.rental)).await?;
    let now = this_period(app, &session.list_tenants().await?, tenant_id);
    let withheld: Vec<String> = marked
        .iter()
        .filter(|row| row.state == Mark::Withheld.as_str() && !has_lapsed(row, now))
        .map(|row| row.billing_period.clone())
        .collect();
    if decision.periods.is_empty() {
        return match withheld.is_empty() {
            true => Err(Wrong(format!("rental {} has no withheld period", decision.rental)).into()),
            false => Ok(withheld),
        };
    }
    let periods: Vec<String> = decision.periods.iter().map(BillingPeriod::to_string).collect();
    for period in &periods {
        if session.has_line(tenant_id, &decision.rental, period).await? {
            return Err(Wrong(format!("rental {} is already charged for {period}", decision.rental)).into());
        }
        if decision.mark == Mark::Confirmed && !marked.iter().any(|row| row.billing_period == *period) {
            return Err(
                Wrong(format!("{period} of rental {} is not withheld: nothing to confirm", decision.rental)).into()
            );
        }
    }
    Ok(periods)
}

async fn write(
    store: &Store,
    app: &App,
    tenant_id: String,
    decision: Decision,
    periods: Vec<String>,
) -> anyhow::Result<()> {
    let (by, now) = (app.by.clone(), app.now_micros());
    let write = store.with_tx(move |tx| {
        Box::pin(async move {
            let Decision { rental, mark, reason, .. } = decision;
            for period in &periods {
                tx.decide_arrears(&tenant_id, &rental, period, mark, reason.as_deref(), &by, now).await?;
            }
            Ok(())
        })
    });
    Ok(write.await?)
}
