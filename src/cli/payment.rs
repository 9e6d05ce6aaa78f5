//! `billday payment`: payments without the API, by the same rules and codes.

use chrono::NaiveDate;
use clap::{Args, Subcommand};

use crate::change::payments::{self, Cancel, MarkPaid};
use crate::change::{Refusal, settled, transact};
use crate::domain::payment::PaymentStatus;
use crate::render::payment::WirePayment;
use crate::store::page::{Page, SortBy};
use crate::store::payments::PaymentPageFilter;
use crate::store::{Session, Store, TxFuture};

use super::group::{Fields, not_made, refused};
use super::{App, Exit, Wrong, date_argument, one_tenant, table, words};

#[derive(Subcommand)]
pub(super) enum PaymentCommand {
    /// Payments, those due last first
    List(ListArgs),
    /// One payment and its lines, as the API sends it
    Show {
        payment: String,
        /// Its tenant, if several have the id
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Record that a payment was paid, by bank transfer say
    MarkPaid(MarkPaidArgs),
    /// Call a pending or failed payment off for good; no run makes it again
    Cancel {
        payment: String,
        /// Its tenant, if several have the id
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        /// Why; it goes into the payment's notes
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Args)]
pub(super) struct ListArgs {
    /// Only this tenant
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Only payments in this state
    #[arg(long, value_name = "STATUS", value_parser = words(PaymentStatus::WORDS, PaymentStatus::parse))]
    status: Option<PaymentStatus>,
    /// Only payments of this customer
    #[arg(long, value_name = "ID")]
    customer: Option<String>,
    /// Only payments with a line for this rental, those of groups too
    #[arg(long, value_name = "ID")]
    rental: Option<String>,
    /// Only payments of this group
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Only payments that are due on this day or later
    #[arg(long, value_name = "DATE", value_parser = date_argument)]
    due_from: Option<NaiveDate>,
    /// Only payments that are due on this day or earlier
    #[arg(long, value_name = "DATE", value_parser = date_argument)]
    due_to: Option<NaiveDate>,
    /// How many of each tenant at the most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    limit: u16,
}

#[derive(Args)]
pub(super) struct MarkPaidArgs {
    payment: String,
    /// Its tenant, if several have the id
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// What the money came with
    #[arg(long, value_name = "TEXT")]
    reference: Option<String>,
    /// When it came, a day or an instant; now if it is not said
    #[arg(long, value_name = "TIME")]
    paid_at: Option<String>,
    /// Added to the note that is there
    #[arg(long, value_name = "TEXT")]
    notes: Option<String>,
}

pub(super) async fn payment(app: &App, command: PaymentCommand) -> anyhow::Result<Exit> {
    match command {
        PaymentCommand::List(args) => list(app, args).await,
        PaymentCommand::Show { payment, tenant } => show(app, payment, tenant).await,
        PaymentCommand::MarkPaid(args) => mark_paid(app, args).await,
        PaymentCommand::Cancel { payment, tenant, reason } => cancel(app, payment, tenant, reason).await,
    }
}

async fn list(app: &App, args: ListArgs) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let filter = PaymentPageFilter {
        status: args.status,
        customer_id: args.customer,
        rental_id: args.rental,
        billing_group_id: args.group,
        due_from: args.due_from,
        due_to: args.due_to,
    };
    let page = Page { sort_by: SortBy::DueDate, descending: true, after: None, limit: args.limit.into() };
    let mut session = store.read().await?;
    let tenants = session.list_tenants().await?.into_iter().map(|(tenant_id, _)| tenant_id);
    let tenants: Vec<String> = tenants.filter(|id| args.tenant.as_ref().is_none_or(|wanted| wanted == id)).collect();
    if let (Some(unknown), true) = (&args.tenant, tenants.is_empty()) {
        return Err(Wrong(format!("there is no tenant {unknown}")).into());
    }
    let mut rows = Vec::new();
    for tenant_id in tenants {
        let records = session.list_payment_page(&tenant_id, &filter, &page).await?;
        if records.len() == page.limit {
            eprintln!("these are the first {} of tenant {tenant_id}: --limit shows more", page.limit);
        }
        rows.extend(records.into_iter().map(|record| row(&payments::wire(&tenant_id, record))));
    }
    session.end().await;
    if rows.is_empty() {
        eprintln!("there is no such payment");
        return Ok(Exit::Done);
    }
    let heading = ["TENANT", "PAYMENT", "INVOICE", "CUSTOMER", "FOR", "PERIOD", "DUE", "TOTAL", "STATUS"];
    table::write(&mut std::io::stdout(), &heading, &rows)?;
    Ok(Exit::Done)
}

fn row(payment: &WirePayment) -> Vec<String> {
    vec![
        payment.tenant_id.clone(),
        payment.payment_id.clone(),
        payment.invoice_number.clone().unwrap_or_else(|| "-".to_owned()),
        payment.customer_id.clone(),
        payment.subject_id().to_owned(),
        payment.billing_period.clone(),
        payment.due_date.clone(),
        format!("{} {}", payment.total, payment.currency),
        payment.status.to_string(),
    ]
}

async fn show(app: &App, payment: String, tenant: Option<String>) -> anyhow::Result<Exit> {
    let Some(store) = app.store_read_only().await? else { return Ok(Exit::Done) };
    let tenant_id = tenant_having(&store, &payment, tenant).await?;
    let mut session = store.read().await?;
    let record = session.find_payment(&tenant_id, &payment).await?;
    session.end().await;
    let record = record.ok_or_else(|| Wrong(format!("tenant {tenant_id} has no payment {payment}")))?;
    println!("{}", serde_json::to_string_pretty(&payments::wire(&tenant_id, record))?);
    Ok(Exit::Done)
}

/// The work of one change.
type Made<'a> = TxFuture<'a, Result<WirePayment, Refusal>>;

async fn mark_paid(app: &App, args: MarkPaidArgs) -> anyhow::Result<Exit> {
    let fields = Fields::default()
        .text("paymentReference", args.reference)
        .text("paidAt", args.paid_at)
        .text("notes", args.notes);
    let store = app.store().await?;
    let by = app.by(tenant_having(&store, &args.payment, args.tenant).await?);
    let mut session = store.read().await?;
    let tenant = crate::change::tenant(&mut session, &by).await?;
    session.end().await;
    let mark = MarkPaid::read(&fields.0, Vec::new(), &tenant, by.now).map_err(refused)?;
    let id = args.payment.clone();
    let paid = transact(&store, move |tx: &mut Session| {
        let (by, id, mark) = (by.clone(), id.clone(), mark.clone());
        Box::pin(async move { settled(payments::mark_paid(tx, &by, &id, &mark).await) }) as Made<'_>
    });
    let paid = paid.await.map_err(not_made)?;
    store.close().await;
    let at = paid.paid_at.as_deref().unwrap_or_default();
    println!("payment {} of {} {} is paid, since {at}", paid.payment_id, paid.total, paid.currency);
    Ok(Exit::Done)
}

async fn cancel(app: &App, payment: String, tenant: Option<String>, reason: String) -> anyhow::Result<Exit> {
    let fields = Fields::default().text("reason", Some(reason));
    let cancel = Cancel::read(&fields.0, Vec::new()).map_err(refused)?;
    let store = app.store().await?;
    let by = app.by(tenant_having(&store, &payment, tenant).await?);
    let cancelled = transact(&store, move |tx: &mut Session| {
        let (by, id, cancel) = (by.clone(), payment.clone(), cancel.clone());
        Box::pin(async move { settled(payments::cancel(tx, &by, &id, &cancel).await) }) as Made<'_>
    });
    let cancelled = cancelled.await.map_err(not_made)?;
    store.close().await;
    println!(
        "payment {} of {} {} is cancelled; what it charged is not charged again",
        cancelled.payment_id, cancelled.total, cancelled.currency
    );
    Ok(Exit::Done)
}

async fn tenant_having(store: &Store, payment: &str, tenant: Option<String>) -> anyhow::Result<String> {
    let mut session = store.read().await?;
    let having = session.tenants_with_payment(payment).await?;
    session.end().await;
    one_tenant(tenant.as_deref(), &having, &format!("payment {payment}"))
}
