//! The next invoice of one group or rental as it would be: the run's planner and the invoice's own document, nothing written.

use anyhow::Context;
use chrono::{DateTime, Months, NaiveDate, Utc};
use serde::Serialize;

use crate::domain::calendar::local_date;
use crate::domain::document::{InvoiceDocument, InvoiceLine};
use crate::domain::overlay::Overlay;
use crate::domain::plan::{Outcome, Parked, PlanContext, SkipCode, SubjectPlan, plan};
use crate::domain::{BillingDay, BillingPeriod, Payment, Subject, SubjectKind, Tenant};
use crate::render::payment::WirePayment;
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

/// Dates further ahead are not planned: each date before is planned first.
pub const YEARS_AHEAD_MAX: u32 = 10;

/// The last date that can be planned.
pub fn last_date(now: DateTime<Utc>) -> NaiveDate {
    now.date_naive().checked_add_months(Months::new(12 * YEARS_AHEAD_MAX)).unwrap_or(NaiveDate::MAX)
}

/// The payment that a subject would get, and when; or why it would get none.
pub type Told = Result<(NaiveDate, Box<Payment>), NoPayment>;

/// Why there would be no payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NoPayment {
    pub code: &'static str,
    pub message: String,
    /// A person has to mend something first.
    #[serde(skip)]
    pub parked: bool,
}

/// Said where nothing is left to bill for a period.
const ALREADY_BILLED: &str = "ALREADY_BILLED";

/// [`preview`] in words.
pub async fn tell(
    session: &mut Session,
    tenant: &Tenant,
    subject: &Subject,
    date: Option<NaiveDate>,
    now: DateTime<Utc>,
) -> anyhow::Result<Told> {
    let no = |code, message: String| Ok(Err(NoPayment { code, message, parked: false }));
    let Some(Preview { run_date, plan }) = preview(session, tenant, subject, date, now).await? else {
        return no(SkipCode::NoBillableRental.as_str(), no_date(date, subject));
    };
    let on = format!("on {run_date}, {subject}");
    let skipped = |code: SkipCode| no(code.as_str(), format!("{on} would not be billed: {}", code.message()));
    match plan.outcome {
        Outcome::Billed(payment) => Ok(Ok((run_date, payment))),
        Outcome::Parked(Parked { problem, .. }) => {
            let message = format!("{on} would be parked, not billed: {}", problem.message);
            Ok(Err(NoPayment { code: problem.code.as_str(), message, parked: true }))
        }
        Outcome::AlreadyBilled => no(ALREADY_BILLED, format!("{on} has its payment for that period already")),
        Outcome::Skipped(code) => skipped(code),
        Outcome::NotDue => skipped(SkipCode::NoBillableRental),
    }
}

fn no_date(date: Option<NaiveDate>, subject: &Subject) -> String {
    match date {
        Some(date) => format!("{date} is no billing date of {subject}"),
        None if subject.kind == SubjectKind::Group => {
            format!("{subject} is inactive: its members are billed alone, each on its own day")
        }
        None => format!("{subject} has no billing date"),
    }
}

/// A preview as JSON, for files and the API.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WirePreview {
    tenant_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_group_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rental_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<WirePayment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<NoPayment>,
}

impl WirePreview {
    pub fn new(tenant: &Tenant, subject: &Subject, told: &Told, now: DateTime<Utc>) -> Self {
        let id = |kind| (subject.kind == kind).then(|| subject.id.clone());
        let payment = told.as_ref().ok();
        Self {
            tenant_id: tenant.tenant_id.clone(),
            billing_group_id: id(SubjectKind::Group),
            rental_id: id(SubjectKind::Rental),
            run_date: payment.map(|(run_date, _)| run_date.to_string()),
            payment: payment.map(|(_, payment)| WirePayment::new(&tenant.tenant_id, payment, None, now)),
            skipped: told.as_ref().err().cloned(),
        }
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

/// The group or rental of one tenant with an id.
pub async fn find_one(
    session: &mut Session,
    tenant_id: &str,
    kind: SubjectKind,
    id: &str,
) -> anyhow::Result<Option<Named>> {
    let found = find_named(session, &format!("{}:{id}", kind.as_str())).await?;
    Ok(found.into_iter().find(|named| named.tenant_id == tenant_id))
}
