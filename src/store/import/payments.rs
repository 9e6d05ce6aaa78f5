//! Past payments, so that a company that moves here is not billed twice.
//!
//! They land without holding anything. Once all are in, it is settled who holds a rental's period and a subject's: what
//! billday charged comes first, then payments that stand, then cancelled ones, the smallest id of these. Two that stand for the
//! same are refused.

use std::collections::{BTreeSet, HashSet};

use sqlx::FromRow;

use crate::domain::payment::PaymentStatus;
use crate::store::dialect::{self, Column, Rows, Value, insert};
use crate::store::{Result, Session, on};

use super::upsert::{Columns, Compared, News, Ready, StoredById, compare, read_stored};
use super::{Finding, Findings, Found, ImportCall, Incoming, LineContent, PaymentContent, Written, ids_by_tenant};

#[derive(FromRow)]
struct StoredLine {
    payment_id: String,
    #[sqlx(flatten)]
    line: LineContent,
}

impl Session {
    /// Writes payments with their lines; those that billday made are left alone.
    pub async fn import_payments(
        &mut self,
        call: &ImportCall,
        mut records: Vec<Incoming<PaymentContent>>,
    ) -> Result<Written> {
        let by_billday = self.payments_by_billday(&records).await?;
        let given = records.len();
        records.retain(|r| !by_billday.contains(&(r.tenant_id.clone(), r.id.clone())));
        let left_alone = (given - records.len()) as u64;
        let stored = self.stored_payments(&records).await?;
        let Compared { ready, mut written } =
            compare(call, records, &stored, Finding::PaymentTwice, |record, before, findings| {
                keep_final_status(record, before, findings);
                add_up(record, findings);
            });
        written.left_alone = left_alone;
        self.touch(&ready, &stored).await?;
        self.replace_lines(&ready).await?;
        self.upsert_payments(call, &ready).await?;
        Ok(written)
    }

    async fn payments_by_billday(&mut self, records: &[Incoming<PaymentContent>]) -> Result<HashSet<(String, String)>> {
        let mut found = HashSet::new();
        for (tenant_id, ids) in ids_by_tenant(records.iter().map(|r| (r.tenant_id.as_str(), r.id.as_str()))) {
            let rows: Vec<(String,)> = on!(self, |conn| dialect::with_keys_as::<Db, (String,)>(
                "select payment_id from payments
                 where tenant_id = $2 and payment_id in $keys and origin = 'billday'",
                &ids
            )
            .bind(&tenant_id)
            .fetch_all(conn)
            .await?);
            found.extend(rows.into_iter().map(|(id,)| (tenant_id.clone(), id)));
        }
        Ok(found)
    }

    async fn stored_payments(&mut self, records: &[Incoming<PaymentContent>]) -> Result<StoredById<PaymentContent>> {
        let mut stored = read_stored!(
            self,
            records,
            PaymentContent,
            "select payment_id as id, subject_kind, subject_id, customer_id, subject_name, billing_period, currency,
                    subtotal, tax_amount, total, tax_rate_ppm, tax_treatment, status, issue_date, due_date,
                    invoice_number, paid_at, provider, transaction_id, payment_reference, notes, created_at, updated_at,
                    updated_at as changed_at, import_id, import_place
             from payments
             where tenant_id = $2 and payment_id in $keys"
        );
        for (tenant_id, ids) in ids_by_tenant(stored.keys().map(|(tenant, id)| (tenant.as_str(), id.as_str()))) {
            let lines: Vec<StoredLine> = on!(self, |conn| {
                dialect::with_keys_as::<Db, StoredLine>(
                "select payment_id, rental_id, billing_period, amount, tax_amount, arrears, description, product_name,
                        serial_number
                 from payment_lines
                 where tenant_id = $2 and payment_id in $keys
                 order by payment_id, rental_id, billing_period",
                &ids
            )
            .bind(&tenant_id)
            .fetch_all(conn)
            .await?
            });
            for StoredLine { payment_id, line } in lines {
                if let Some(payment) = stored.get_mut(&(tenant_id.clone(), payment_id)) {
                    payment.content.lines.push(line);
                }
            }
        }
        Ok(stored)
    }

    /// Notes whose periods have to be settled again: what changed payments charge now, and charged before.
    async fn touch(&mut self, ready: &[Ready<PaymentContent>], stored: &StoredById<PaymentContent>) -> Result<()> {
        let mut rentals: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut subjects: BTreeSet<(&str, &str, &str, &str)> = BTreeSet::new();
        for row in ready.iter().filter(|r| r.news != News::Unchanged) {
            let tenant = row.record.tenant_id.as_str();
            let before = stored.get(&(row.record.tenant_id.clone(), row.record.id.clone())).map(|s| &s.content);
            for content in [Some(&row.record.content), before].into_iter().flatten() {
                rentals.extend(content.lines.iter().map(|line| (tenant, line.rental_id.as_str())));
                subjects.insert((tenant, &content.subject_kind, &content.subject_id, &content.billing_period));
            }
        }
        let rows = Rows {
            table: "import_charged",
            columns: vec![
                ("tenant_id", Column::Text(rentals.iter().map(|r| r.0).collect())),
                ("rental_id", Column::Text(rentals.iter().map(|r| r.1).collect())),
            ],
            conflict: "on conflict do nothing",
            count: rentals.len(),
        };
        insert(self, rows).await?;
        let rows = Rows {
            table: "import_subjects",
            columns: vec![
                ("tenant_id", Column::Text(subjects.iter().map(|s| s.0).collect())),
                ("subject_kind", Column::Text(subjects.iter().map(|s| s.1).collect())),
                ("subject_id", Column::Text(subjects.iter().map(|s| s.2).collect())),
                ("billing_period", Column::Text(subjects.iter().map(|s| s.3).collect())),
            ],
            conflict: "on conflict do nothing",
            count: subjects.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    async fn replace_lines(&mut self, ready: &[Ready<PaymentContent>]) -> Result<()> {
        let changed = ready.iter().filter(|r| r.news == News::Changed).map(|r| &r.record);
        for (tenant_id, ids) in ids_by_tenant(changed.map(|r| (r.tenant_id.as_str(), r.id.as_str()))) {
            on!(self, |conn| dialect::with_keys::<Db>(
                "delete from payment_lines where tenant_id = $2 and payment_id in $keys",
                &ids
            )
            .bind(&tenant_id)
            .execute(conn)
            .await?
            .rows_affected());
        }
        let lines: Vec<(&Incoming<PaymentContent>, &LineContent)> = ready
            .iter()
            .filter(|r| r.news != News::Unchanged)
            .flat_map(|r| r.record.content.lines.iter().map(move |line| (&r.record, line)))
            .collect();
        let text = |of: fn(&LineContent) -> &str| Column::Text(lines.iter().map(|l| of(l.1)).collect());
        let text_or_null =
            |of: fn(&LineContent) -> Option<&str>| Column::TextOrNull(lines.iter().map(|l| of(l.1)).collect());
        let rows = Rows {
            table: "payment_lines",
            columns: vec![
                ("tenant_id", Column::Text(lines.iter().map(|l| l.0.tenant_id.as_str()).collect())),
                ("payment_id", Column::Text(lines.iter().map(|l| l.0.id.as_str()).collect())),
                ("rental_id", text(|l| &l.rental_id)),
                ("billing_period", text(|l| &l.billing_period)),
                ("amount", Column::Int(lines.iter().map(|l| l.1.amount).collect())),
                ("tax_amount", Column::Int(lines.iter().map(|l| l.1.tax_amount).collect())),
                ("arrears", Column::Bool(lines.iter().map(|l| l.1.arrears).collect())),
                ("description", text_or_null(|l| l.description.as_deref())),
                ("product_name", text_or_null(|l| l.product_name.as_deref())),
                ("serial_number", text_or_null(|l| l.serial_number.as_deref())),
                ("imported", Column::Same(Value::Bool(true))),
                ("live", Column::Same(Value::Bool(false))),
            ],
            conflict: "",
            count: lines.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    async fn upsert_payments(&mut self, call: &ImportCall, ready: &[Ready<PaymentContent>]) -> Result<()> {
        let of = Columns(ready);
        let mut columns = vec![
            of.tenant_id(),
            ("payment_id", of.id()),
            ("subject_kind", of.text(|c| &c.subject_kind)),
            ("subject_id", of.text(|c| &c.subject_id)),
            ("customer_id", of.text(|c| &c.customer_id)),
            ("subject_name", of.text_or_null(|c| &c.subject_name)),
            ("billing_period", of.text(|c| &c.billing_period)),
            ("currency", of.text(|c| &c.currency)),
            ("subtotal", of.int(|c| c.subtotal)),
            ("tax_amount", of.int(|c| c.tax_amount)),
            ("total", of.int(|c| c.total)),
            ("tax_rate_ppm", of.int(|c| c.tax_rate_ppm)),
            ("tax_treatment", of.text(|c| &c.tax_treatment)),
            ("status", of.text_or_null(|c| &c.status)),
            ("issue_date", of.date_or_null(|c| c.issue_date)),
            ("due_date", of.date(|c| c.due_date)),
            ("invoice_number", of.text_or_null(|c| &c.invoice_number)),
            ("line_count", of.int(|c| c.lines.len() as i64)),
            ("paid_at", of.int_or_null(|c| c.paid_at)),
            ("provider", of.text_or_null(|c| &c.provider)),
            ("transaction_id", of.text_or_null(|c| &c.transaction_id)),
            ("payment_reference", of.text_or_null(|c| &c.payment_reference)),
            ("notes", of.text_or_null(|c| &c.notes)),
            ("origin", Column::Same(Value::Text("import"))),
            ("live", Column::Bool(vec![false; ready.len()])),
        ];
        columns.extend(of.stamp(call));
        let rows = Rows {
            table: "payments",
            columns,
            conflict: "on conflict (tenant_id, payment_id) do update
                       set subject_kind = excluded.subject_kind, subject_id = excluded.subject_id,
                           customer_id = excluded.customer_id, subject_name = excluded.subject_name,
                           billing_period = excluded.billing_period, currency = excluded.currency,
                           subtotal = excluded.subtotal, tax_amount = excluded.tax_amount, total = excluded.total,
                           tax_rate_ppm = excluded.tax_rate_ppm, tax_treatment = excluded.tax_treatment,
                           status = excluded.status, issue_date = excluded.issue_date, due_date = excluded.due_date,
                           invoice_number = excluded.invoice_number, line_count = excluded.line_count,
                           paid_at = excluded.paid_at, provider = excluded.provider,
                           transaction_id = excluded.transaction_id, payment_reference = excluded.payment_reference,
                           notes = excluded.notes, created_at = excluded.created_at, updated_at = excluded.updated_at,
                           import_id = excluded.import_id, import_place = excluded.import_place",
            count: ready.len(),
        };
        // First, or a payment would take a period that another one of the call is about to leave.
        self.release(ready).await?;
        insert(self, rows).await?;
        Ok(())
    }

    /// Takes from changed payments what they held; it is settled again at the end.
    async fn release(&mut self, ready: &[Ready<PaymentContent>]) -> Result<()> {
        let changed = ready.iter().filter(|r| r.news == News::Changed).map(|r| &r.record);
        for (tenant_id, ids) in ids_by_tenant(changed.map(|r| (r.tenant_id.as_str(), r.id.as_str()))) {
            on!(self, |conn| dialect::with_keys::<Db>(
                "update payments set live = (1 = 0) where tenant_id = $2 and payment_id in $keys",
                &ids
            )
            .bind(&tenant_id)
            .execute(conn)
            .await?
            .rows_affected());
        }
        Ok(())
    }
}

/// An import never takes a payment out of paid or cancelled (rule 21).
fn keep_final_status(
    record: &mut Incoming<PaymentContent>,
    before: Option<&super::upsert::Stored<PaymentContent>>,
    findings: &mut Vec<Findings>,
) {
    let Some(stored) = before.and_then(|before| before.content.status.as_deref()) else { return };
    let Some(given) = record.content.status.as_deref() else { return };
    let (Some(from), Some(to)) = (PaymentStatus::parse(stored), PaymentStatus::parse(given)) else { return };
    if from.import_may_set(to) {
        return;
    }
    let found = Found {
        place: record.place,
        id: record.id.clone(),
        whom: Some(stored.to_owned()),
        detail: Some(given.to_owned()),
        ..Found::default()
    };
    findings.push(Findings::one(Finding::StatusKept, found));
    record.content.status = Some(stored.to_owned());
}

/// History is as it is: lines that do not add up to their payment are only doubtful.
fn add_up(record: &Incoming<PaymentContent>, findings: &mut Vec<Findings>) {
    // Amounts are bounded, but nothing bounds the number of lines.
    let sum: i128 = record.content.lines.iter().map(|line| i128::from(line.amount)).sum();
    if sum != i128::from(record.content.subtotal) {
        let found = Found { place: record.place, id: record.id.clone(), ..Found::default() };
        findings.push(Findings::one(Finding::LinesDoNotAddUp, found));
    }
}
