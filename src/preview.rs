//! The next invoice of one group or rental as it would be: the run's planner and the invoice's own document, nothing written.

use anyhow::Context;
use chrono::{DateTime, NaiveDate, Utc};

use crate::domain::calendar::local_date;
use crate::domain::document::{InvoiceDocument, InvoiceLine};
use crate::domain::overlay::Overlay;
use crate::domain::plan::{Outcome, PlanContext, SubjectPlan, plan};
use crate::domain::{BillingDay, BillingPeriod, Payment, Subject, SubjectKind, Tenant};
use crate::store::Session;
use crate::store::due::DueReader;
use crate::store::invoices::InvoiceParties;

/// What a run would decide about a subject on one of its billing dates.
pub struct Preview {
    pub run_date: NaiveDate,
    pub plan: SubjectPlan,
}

/// Plans a subject for a date, or for the next one on which it is billed, as the dates before would have left it (rule 18).
///
/// `None`: it has no billing date of its own then. Where no date would bill it, the plan of the next one says why.
pub async fn preview(
    session: &mut Session,
    tenant: &Tenant,
    subject: &Subject,
    date: Option<NaiveDate>,
    now: DateTime<Utc>,
) -> anyhow::Result<Option<Preview>> {
    let Some(day) = session.billing_day(tenant, subject).await? else { return Ok(None) };
    let today = local_date(now, tenant.time_zone);
    let mut planner = Planner { tenant, subject, today, overlay: Overlay::default() };
    match date {
        Some(date) => planner.on(session, day, date).await,
        None => planner.next(session, day).await,
    }
}

/// Plans one subject date by date.
struct Planner<'a> {
    tenant: &'a Tenant,
    subject: &'a Subject,
    today: NaiveDate,
    overlay: Overlay,
}

impl Planner<'_> {
    async fn on(&mut self, session: &mut Session, day: BillingDay, date: NaiveDate) -> anyhow::Result<Option<Preview>> {
        if day.date_in(BillingPeriod::of(date)) != date {
            return Ok(None);
        }
        let mut before = day.first_on_or_after(self.today);
        while before < date {
            self.plan(session, before).await?;
            before = day.date_in(BillingPeriod::of(before).plus(1));
        }
        self.plan(session, date).await
    }

    async fn next(&mut self, session: &mut Session, day: BillingDay) -> anyhow::Result<Option<Preview>> {
        let date = day.first_on_or_after(self.today);
        let Some(mut first) = self.plan(session, date).await? else { return Ok(None) };
        if matches!(first.plan.outcome, Outcome::AlreadyBilled) {
            // The next period may have gaps to make up for, and nothing else.
            let following = day.date_in(BillingPeriod::of(date).plus(1));
            first = self.plan(session, following).await?.unwrap_or(first);
        }
        if matches!(first.plan.outcome, Outcome::Billed(_) | Outcome::Parked(_)) {
            return Ok(Some(first));
        }
        let rentals = &first.plan.rentals;
        let dates = session.next_billing_dates(self.tenant, rentals, self.today).await?;
        let later = dates.into_values().filter(|date| *date > first.run_date).min();
        match later {
            Some(date) => Ok(self.plan(session, date).await?.or(Some(first))),
            None => Ok(Some(first)),
        }
    }

    /// The plan of one date, which then counts as written.
    async fn plan(&mut self, session: &mut Session, run_date: NaiveDate) -> anyhow::Result<Option<Preview>> {
        let mut reader = DueReader::new(self.tenant, run_date, Some(self.subject.clone()));
        let due = reader.next_batch(session, usize::MAX, None).await?;
        let mut due: Vec<_> = due.into_iter().map(|due| due.subject).collect();
        self.overlay.apply(run_date, &mut due);
        let issue_date = session.issue_date(self.tenant, self.today.max(run_date)).await?;
        let mut planned = plan(PlanContext { tenant: self.tenant, run_date, issue_date }, &due);
        self.overlay.record(run_date, due, &planned);
        Ok(planned.subjects.pop().map(|plan| Preview { run_date, plan }))
    }
}

/// The document of a planned payment, marked as a preview.
pub async fn preview_document(
    session: &mut Session,
    tenant: &Tenant,
    payment: &Payment,
) -> anyhow::Result<InvoiceDocument> {
    let one = (Some(&*tenant.tenant_id), Some(&*payment.customer_id));
    let parties = session.list_invoice_parties(one, ("", ""), 1).await?.pop();
    Ok(document(tenant, payment, parties.context("the customer is gone")?))
}

fn document(tenant: &Tenant, payment: &Payment, parties: InvoiceParties) -> InvoiceDocument {
    let mut lines: Vec<InvoiceLine> = payment
        .lines
        .iter()
        .cloned()
        .map(|line| InvoiceLine {
            rental_id: line.rental_id,
            product_name: line.product_name,
            serial_number: line.serial_number,
            billing_period: line.billing_period,
            amount: line.amount,
            tax_amount: line.tax_amount,
            arrears: line.arrears,
        })
        .collect();
    // They are ordered by rental already.
    lines.sort_by_key(|line| (line.arrears, line.billing_period));
    InvoiceDocument {
        tenant_id: tenant.tenant_id.clone(),
        payment_id: payment.payment_id.clone(),
        // XML cannot be without one.
        invoice_number: "PREVIEW".to_owned(),
        issue_date: payment.issue_date,
        due_date: payment.due_date,
        seller: parties.seller,
        buyer: parties.buyer,
        subject_name: payment.subject_name.clone(),
        billing_period: payment.billing_period,
        currency: payment.currency,
        subtotal: payment.subtotal,
        tax_amount: payment.tax_amount,
        total: payment.total,
        tax_rate_ppm: payment.tax_rate_ppm,
        tax_treatment: payment.tax_treatment,
        status: payment.status,
        lines,
        locale: payment.locale.clone(),
        is_preview: true,
    }
}

/// What an id names: the subject that bills it, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub tenant_id: String,
    pub subject: Subject,
    /// Set for a rental that an active group bills.
    pub as_member: bool,
}

/// The groups and rentals of an id, or of those with `group:` or `rental:` before it one kind; of any tenant.
pub async fn find_named(session: &mut Session, text: &str) -> anyhow::Result<Vec<Named>> {
    let (kind, id) = match text.split_once(':') {
        Some(("group", id)) => (Some(SubjectKind::Group), id),
        Some(("rental", id)) => (Some(SubjectKind::Rental), id),
        _ => (None, text),
    };
    let rows = session.find_billed(id).await?;
    let wanted = rows.into_iter().filter(|row| kind.is_none_or(|kind| row.kind == kind.as_str()));
    Ok(wanted
        .map(|row| match row.billed_group_id {
            Some(group) => Named { tenant_id: row.tenant_id, subject: Subject::group(group), as_member: true },
            None if row.kind == SubjectKind::Group.as_str() => {
                Named { tenant_id: row.tenant_id, subject: Subject::group(id), as_member: false }
            }
            None => Named { tenant_id: row.tenant_id, subject: Subject::rental(id), as_member: false },
        })
        .collect())
}
