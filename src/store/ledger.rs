//! Writing what a plan says: payments, lines, outcomes, mails and invoice numbers, all or nothing.
//!
//! It decides nothing. The order inside the transaction is fixed: what others may wait for (the series row) comes late, the
//! run's own row last, as the fence.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{Datelike, NaiveDate};
use tokio::sync::oneshot;

use crate::domain::invoice::invoice_number;
use crate::domain::message::Recipients;
use crate::domain::payment::MailPlan;
use crate::domain::plan::{Mark, Outcome, Parked, SubjectPlan};
use crate::domain::report::{Tally, Totals};
use crate::domain::{BillingPeriod, Payment, PaymentLine, Tenant};

use super::dialect::{Column, Rows, Value, insert};
use super::shares::Held;
use super::{Result, Session, StoreError, dialect, on};

/// A batch of decided subjects, to be written in one transaction.
#[derive(Debug)]
pub struct Batch {
    pub tenant: Arc<Tenant>,
    pub run_id: String,
    pub run_date: NaiveDate,
    /// Microseconds UTC.
    pub now: i64,
    /// The subjects, each with whether its outcome of this date is already on record.
    pub subjects: Vec<(SubjectPlan, bool)>,
    /// How many batches of this run were written before.
    pub batches_before: i64,
    /// The run's counts with this batch included.
    pub tally: Tally,
    /// The share that it belongs to, if the date is shared.
    pub held: Option<Held>,
}

impl Batch {
    /// Whether writing it would change nothing: a repeated run finds all on record.
    pub fn is_on_record(&self) -> bool {
        self.subjects.iter().all(|(plan, recorded)| match plan.outcome {
            Outcome::NotDue => true,
            Outcome::AlreadyBilled => *recorded,
            _ => false,
        })
    }

    /// The payments to be made, in order.
    pub fn payments(&self) -> impl Iterator<Item = &Payment> {
        self.subjects.iter().filter_map(|(plan, _)| plan.outcome.payment())
    }
}

/// A row of the outbox to be.
struct QueuedMail<'a> {
    payment: &'a Payment,
    position: i64,
    recipient: Option<&'a str>,
    copy: bool,
}

/// The invoice numbers that a batch was given: consecutive, in the order of its payments.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    pub series: String,
    pub first: i64,
}

impl Numbers {
    /// The number of the batch's payment at `index`.
    pub fn number(&self, index: usize) -> String {
        invoice_number(&self.series, self.first + index as i64)
    }
}

/// When a batch may take its invoice numbers: they follow the order of the report, whoever wrote the rest first.
#[derive(Debug)]
pub enum Turn {
    Now,
    /// When the batch before it is committed; a dropped sender says that it never will be.
    After(oneshot::Receiver<()>),
}

impl Turn {
    async fn come(self) -> Result<()> {
        match self {
            Self::Now => Ok(()),
            // Planned again with the one before it: its counts build on that one's.
            Self::After(committed) => committed.await.map_err(|_| StoreError::Conflict),
        }
    }
}

/// What somebody else wrote makes the insert fail as [`StoreError::Conflict`], and the whole batch with it. To let the
/// database pass over such rows and count the others would end the same, and costs a second look into each unique index.
const MEETS_NOTHING: &str = "";

impl Session {
    /// Writes a batch and, in its turn, gives its payments their invoice numbers.
    ///
    /// [`StoreError::Conflict`] if any of it is there already: then nothing may be committed, and the batch is to be read and
    /// planned again. [`StoreError::Fenced`] if the run is no longer this process's.
    pub async fn apply(&mut self, batch: &Batch, turn: Turn) -> Result<Numbers> {
        if batch.held.is_some() {
            dialect::bound_stall(self).await?;
        }
        let payments: Vec<&Payment> = batch.payments().collect();
        self.insert_lines(batch, &payments).await?;
        self.upsert_outcomes(batch).await?;
        self.enqueue_mails(batch, &payments).await?;
        self.delete_uncharged(batch).await?;
        self.park(batch).await?;
        self.withhold(batch).await?;
        turn.come().await?;
        let numbers = self.take_numbers(&batch.tenant, &payments).await?;
        self.insert_payments(batch, &payments, &numbers).await?;
        if let Some(held) = &batch.held {
            self.renew_share(held, batch.now).await?;
        }
        self.beat(batch).await?;
        Ok(numbers)
    }

    async fn insert_lines(&mut self, batch: &Batch, payments: &[&Payment]) -> Result<()> {
        let lines: Vec<(&str, &PaymentLine)> = payments
            .iter()
            .flat_map(|payment| payment.lines.iter().map(|line| (payment.payment_id.as_str(), line)))
            .collect();
        let periods: Vec<String> = lines.iter().map(|(_, line)| line.billing_period.to_string()).collect();
        let rows = Rows {
            table: "payment_lines",
            columns: vec![
                ("tenant_id", Column::Same(Value::Text(&batch.tenant.tenant_id))),
                ("payment_id", Column::Text(lines.iter().map(|(id, _)| *id).collect())),
                ("rental_id", Column::Text(lines.iter().map(|(_, l)| l.rental_id.as_str()).collect())),
                ("billing_period", Column::Text(periods.iter().map(String::as_str).collect())),
                ("amount", Column::Int(lines.iter().map(|(_, l)| l.amount).collect())),
                ("tax_amount", Column::Int(lines.iter().map(|(_, l)| l.tax_amount).collect())),
                ("arrears", Column::Bool(lines.iter().map(|(_, l)| l.arrears).collect())),
                ("product_name", Column::Text(lines.iter().map(|(_, l)| l.product_name.as_str()).collect())),
                ("serial_number", Column::TextOrNull(lines.iter().map(|(_, l)| l.serial_number.as_deref()).collect())),
                ("imported", Column::Same(Value::Bool(false))),
                ("live", Column::Same(Value::Bool(true))),
            ],
            conflict: MEETS_NOTHING,
            count: lines.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    async fn insert_payments(&mut self, batch: &Batch, payments: &[&Payment], numbers: &Numbers) -> Result<()> {
        let texts: Vec<(String, String)> = payments
            .iter()
            .enumerate()
            .map(|(index, p)| (p.billing_period.to_string(), numbers.number(index)))
            .collect();
        let text = |of: fn(&Payment) -> &str| Column::Text(payments.iter().map(|p| of(p)).collect());
        let int = |of: fn(&Payment) -> i64| Column::Int(payments.iter().map(|p| of(p)).collect());
        let date = |of: fn(&Payment) -> NaiveDate| Column::Date(payments.iter().map(|p| of(p)).collect());
        let paid = |p: &&Payment| (p.status == crate::domain::payment::PaymentStatus::Paid).then_some(batch.now);
        let rows = Rows {
            table: "payments",
            columns: vec![
                ("tenant_id", Column::Same(Value::Text(&batch.tenant.tenant_id))),
                ("payment_id", text(|p| &p.payment_id)),
                ("subject_kind", text(|p| p.subject.kind.as_str())),
                ("subject_id", text(|p| &p.subject.id)),
                ("customer_id", text(|p| &p.customer_id)),
                ("subject_name", text(|p| &p.subject_name)),
                ("billing_period", Column::Text(texts.iter().map(|(period, _)| period.as_str()).collect())),
                ("currency", text(|p| p.currency.code())),
                ("subtotal", int(|p| p.subtotal)),
                ("tax_amount", int(|p| p.tax_amount)),
                ("total", int(|p| p.total)),
                ("tax_rate_ppm", int(|p| p.tax_rate_ppm)),
                ("tax_treatment", text(|p| p.tax_treatment.as_str())),
                ("status", text(|p| p.status.as_str())),
                ("issue_date", date(|p| p.issue_date)),
                ("due_date", date(|p| p.due_date)),
                ("series", Column::Same(Value::Text(&numbers.series))),
                ("sequence", Column::Int((0..payments.len()).map(|i| numbers.first + i as i64).collect())),
                ("invoice_number", Column::Text(texts.iter().map(|(_, number)| number.as_str()).collect())),
                ("line_count", int(|p| p.lines.len() as i64)),
                ("seller_party", text(|p| &p.seller_party)),
                ("buyer_party", text(|p| &p.buyer_party)),
                ("origin", Column::Same(Value::Text("billday"))),
                ("live", Column::Same(Value::Bool(true))),
                ("run_id", Column::Same(Value::Text(&batch.run_id))),
                ("paid_at", Column::IntOrNull(payments.iter().map(paid).collect())),
                ("created_at", Column::Same(Value::Int(batch.now))),
                ("updated_at", Column::Same(Value::Int(batch.now))),
            ],
            conflict: MEETS_NOTHING,
            count: payments.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    /// Records what was decided for each subject, so that `verify` can prove later that nothing was missed.
    async fn upsert_outcomes(&mut self, batch: &Batch) -> Result<()> {
        let mut subjects = Vec::new();
        for (plan, recorded) in &batch.subjects {
            let (outcome, code, payment_id) = match &plan.outcome {
                Outcome::Billed(payment) => ("billed", None, Some(payment.payment_id.as_str())),
                Outcome::AlreadyBilled if *recorded => continue,
                Outcome::AlreadyBilled => ("already_billed", None, None),
                Outcome::Skipped(code) => ("skipped", Some(code.as_str()), None),
                Outcome::Parked(parked) => ("parked", Some(parked.problem.code.as_str()), None),
                Outcome::NotDue => continue,
            };
            let rentals = serde_json::to_string(&plan.rentals).unwrap_or_default();
            subjects.push((&plan.subject, outcome, code, payment_id, rentals));
        }
        let rows = Rows {
            table: "outcomes",
            columns: vec![
                ("tenant_id", Column::Same(Value::Text(&batch.tenant.tenant_id))),
                ("run_date", Column::Same(Value::Date(batch.run_date))),
                ("subject_kind", Column::Text(subjects.iter().map(|s| s.0.kind.as_str()).collect())),
                ("subject_id", Column::Text(subjects.iter().map(|s| s.0.id.as_str()).collect())),
                ("outcome", Column::Text(subjects.iter().map(|s| s.1).collect())),
                ("code", Column::TextOrNull(subjects.iter().map(|s| s.2).collect())),
                ("payment_id", Column::TextOrNull(subjects.iter().map(|s| s.3).collect())),
                ("rentals", Column::Text(subjects.iter().map(|s| s.4.as_str()).collect())),
                ("run_id", Column::Same(Value::Text(&batch.run_id))),
            ],
            conflict: "on conflict (tenant_id, run_date, subject_kind, subject_id) do update
                       set outcome = excluded.outcome, code = excluded.code, payment_id = excluded.payment_id,
                           rentals = excluded.rentals, run_id = excluded.run_id
                       where outcomes.outcome <> 'billed'
                         and (outcomes.outcome <> excluded.outcome or outcomes.code is distinct from excluded.code
                              or outcomes.rentals <> excluded.rentals)",
            count: subjects.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    /// Puts each payment's mails into the outbox, one for each recipient; one without an address waits there as undeliverable (rule 25).
    async fn enqueue_mails(&mut self, batch: &Batch, payments: &[&Payment]) -> Result<()> {
        let mut mails = Vec::with_capacity(payments.len());
        for payment in payments {
            match &payment.mail {
                MailPlan::None => {}
                MailPlan::Undeliverable => {
                    mails.push(QueuedMail { payment, position: 0, recipient: None, copy: false })
                }
                MailPlan::To(Recipients { to, copies }) => {
                    let addressed = to.iter().map(|to| (to, false)).chain(copies.iter().map(|copy| (copy, true)));
                    mails.extend(addressed.zip(0..).map(|((recipient, copy), position)| QueuedMail {
                        payment,
                        position,
                        recipient: Some(recipient),
                        copy,
                    }));
                }
            }
        }
        let state = |recipient: Option<&str>| if recipient.is_some() { "pending" } else { "undeliverable" };
        let rows = Rows {
            table: "outbox",
            columns: vec![
                ("tenant_id", Column::Same(Value::Text(&batch.tenant.tenant_id))),
                ("payment_id", Column::Text(mails.iter().map(|m| m.payment.payment_id.as_str()).collect())),
                ("kind", Column::Same(Value::Text("invoice"))),
                ("position", Column::Int(mails.iter().map(|m| m.position).collect())),
                ("recipient", Column::TextOrNull(mails.iter().map(|m| m.recipient).collect())),
                ("copy", Column::Bool(mails.iter().map(|m| m.copy).collect())),
                ("locale", Column::Text(mails.iter().map(|m| m.payment.locale.as_str()).collect())),
                ("state", Column::Text(mails.iter().map(|m| state(m.recipient)).collect())),
                ("attempts", Column::Same(Value::Int(0))),
                ("next_at", Column::Same(Value::Int(batch.now))),
                ("fence", Column::Same(Value::Int(0))),
                ("created_at", Column::Same(Value::Int(batch.now))),
            ],
            conflict: MEETS_NOTHING,
            count: mails.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    async fn delete_uncharged(&mut self, batch: &Batch) -> Result<()> {
        let first_charges = batch.subjects.iter().flat_map(|(plan, _)| &plan.first_charged);
        let rentals: Vec<String> = first_charges.map(|first| first.rental_id.clone()).collect();
        if rentals.is_empty() {
            return Ok(());
        }
        on!(self, |conn| dialect::with_keys::<Db>(
            "delete from uncharged_rentals where tenant_id = $2 and rental_id in $keys",
            &rentals
        )
        .bind(&batch.tenant.tenant_id)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Names each subject that could not be billed, and keeps the periods that it would have been charged (rule 17).
    async fn park(&mut self, batch: &Batch) -> Result<()> {
        for (plan, _) in &batch.subjects {
            let Outcome::Parked(parked) = &plan.outcome else { continue };
            let records = records_json(parked);
            let charges: Vec<(&str, String)> =
                parked.charges.iter().map(|(rental, period)| (rental.as_str(), period.to_string())).collect();
            let unread = parked.unread.iter().map(|id| (id.as_str(), BillingPeriod::of(batch.run_date).to_string()));
            let held: Vec<(&str, String)> = charges.iter().cloned().chain(unread).collect();
            let charges_json = serde_json::to_string(&held).unwrap_or_default();
            on!(self, |conn| sqlx::query::<Db>(
                "insert into parked (tenant_id, run_date, subject_kind, subject_id, code, message, records, charges,
                                     state, run_id, parked_at, tried_at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, 'open', $9, $10, $10)
                 on conflict (tenant_id, run_date, subject_kind, subject_id) do update
                 set code = excluded.code, message = excluded.message, records = excluded.records,
                     charges = excluded.charges, state = 'open', resolution = null, reason = null,
                     run_id = excluded.run_id, tried_at = excluded.tried_at, closed_at = null"
            )
            .bind(&batch.tenant.tenant_id)
            .bind(batch.run_date)
            .bind(plan.subject.kind.as_str())
            .bind(&plan.subject.id)
            .bind(parked.problem.code.as_str())
            .bind(&parked.problem.message)
            .bind(&records)
            .bind(&charges_json)
            .bind(&batch.run_id)
            .bind(batch.now)
            .execute(conn)
            .await?
            .rows_affected());
            self.mark_periods(batch, Mark::Parked, charges).await?;
        }
        Ok(())
    }

    /// Holds back the gaps of rentals that have too many (rule 8, no avalanche).
    async fn withhold(&mut self, batch: &Batch) -> Result<()> {
        let periods: Vec<(&str, String)> = batch
            .subjects
            .iter()
            .flat_map(|(plan, _)| &plan.withheld)
            .flat_map(|withheld| withheld.periods.iter().map(|p| (withheld.rental_id.as_str(), p.to_string())))
            .collect();
        self.mark_periods(batch, Mark::Withheld, periods).await
    }

    /// Marks periods of rentals; a mark that stands is a decision and stays.
    async fn mark_periods(&mut self, batch: &Batch, mark: Mark, periods: Vec<(&str, String)>) -> Result<()> {
        let rows = Rows {
            table: "arrears",
            columns: vec![
                ("tenant_id", Column::Same(Value::Text(&batch.tenant.tenant_id))),
                ("rental_id", Column::Text(periods.iter().map(|(rental, _)| *rental).collect())),
                ("billing_period", Column::Text(periods.iter().map(|(_, period)| period.as_str()).collect())),
                ("state", Column::Same(Value::Text(mark.as_str()))),
                ("decided_by", Column::Same(Value::Text(&batch.run_id))),
                ("decided_at", Column::Same(Value::Int(batch.now))),
            ],
            conflict: "on conflict do nothing",
            count: periods.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    /// Takes the next numbers of the series for all payments at once; the row stays locked until the commit, so a rollback
    /// leaves no gap and numbers follow the order of commits (rule 23).
    async fn take_numbers(&mut self, tenant: &Tenant, payments: &[&Payment]) -> Result<Numbers> {
        let Some(payment) = payments.first() else { return Ok(Numbers::default()) };
        let series = tenant.invoice_number_format.series(payment.issue_date.year());
        let count = payments.len() as i64;
        // Only a tenant's first series starts at its first number; those of later years and formats start at 1.
        let (last, issued_on): (i64, NaiveDate) = on!(self, |conn| {
            sqlx::query_as::<Db, (i64, NaiveDate)>(
            "insert into invoice_series (tenant_id, series, first, last, last_issued_on)
             values ($1, $2,
                     case when exists(select 1 from invoice_series s where s.tenant_id = $1) then 1 else $3 end,
                     case when exists(select 1 from invoice_series s where s.tenant_id = $1) then 0 else $3 - 1 end + $4,
                     $5)
             on conflict (tenant_id, series) do update
             set last = invoice_series.last + $4,
                 last_issued_on = case when invoice_series.last_issued_on > excluded.last_issued_on
                                       then invoice_series.last_issued_on else excluded.last_issued_on end
             returning last, last_issued_on"
        )
        .bind(&tenant.tenant_id)
        .bind(&series)
        .bind(tenant.first_invoice_number)
        .bind(count)
        .bind(payment.issue_date)
        .fetch_one(conn)
        .await?
        });
        if issued_on != payment.issue_date {
            // Somebody issued a later date of this series meanwhile: plan again with that date (rule 19).
            return Err(StoreError::Conflict);
        }
        Ok(Numbers { series, first: last - count + 1 })
    }

    /// The numbers that a committed batch was given, found by its first payment: settles an unknown commit.
    pub async fn find_numbers(&mut self, batch: &Batch) -> Result<Numbers> {
        let Some(payment) = batch.payments().next() else { return Ok(Numbers::default()) };
        let (series, first): (String, i64) = on!(self, |conn| sqlx::query_as::<Db, (String, i64)>(
            "select series, sequence from payments where tenant_id = $1 and payment_id = $2"
        )
        .bind(&batch.tenant.tenant_id)
        .bind(&payment.payment_id)
        .fetch_one(conn)
        .await?);
        Ok(Numbers { series, first })
    }

    /// Brings the run's own row up to date; it is the fence: a run that was ended elsewhere writes nothing more.
    async fn beat(&mut self, batch: &Batch) -> Result<()> {
        let tally = &batch.tally;
        let rows = on!(self, |conn| sqlx::query::<Db>(
            "update runs
             set batches = $4, billed = $5, already_billed = $6, skipped = $7, parked = $8, withheld = $9, totals = $10,
                 beat_at = $11
             where tenant_id = $1 and run_id = $2 and batches = $3 and state = 'running'"
        )
        .bind(&batch.tenant.tenant_id)
        .bind(&batch.run_id)
        .bind(batch.batches_before)
        .bind(batch.batches_before + 1)
        .bind(tally.billed as i64)
        .bind(tally.already_billed as i64)
        .bind(tally.skipped as i64)
        .bind(tally.parked as i64)
        .bind(tally.withheld as i64)
        .bind(totals_json(&tally.totals))
        .bind(batch.now)
        .execute(conn)
        .await?
        .rows_affected());
        if rows == 1 { Ok(()) } else { Err(StoreError::Fenced) }
    }
}

fn records_json(parked: &Parked) -> String {
    let records: Vec<serde_json::Value> = parked
        .problem
        .records
        .iter()
        .map(|r| serde_json::json!({"kind": r.kind, "id": r.id, "field": r.field, "value": r.value}))
        .collect();
    serde_json::Value::from(records).to_string()
}

/// Totals by currency in minor units, as text: `{"EUR":{"payments":2,"subtotal":37700,…}}`.
pub(crate) fn totals_json(totals: &BTreeMap<String, Totals>) -> String {
    let mut object = serde_json::Map::new();
    for (currency, t) in totals {
        let value = serde_json::json!({
            "payments": t.payments, "subtotal": t.subtotal, "taxAmount": t.tax_amount, "total": t.total,
        });
        object.insert(currency.clone(), value);
    }
    serde_json::Value::from(object).to_string()
}
