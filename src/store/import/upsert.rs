//! Tenants, customers, groups and rentals: read what is stored, compare, write.
//!
//! A chunk is read before it is written. That tells new, changed and unchanged records apart, finds an id that this call
//! has written already, and lets an unchanged row keep its times. All rows are then written by one statement.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::NaiveDate;
use sqlx::FromRow;

use crate::store::dialect::{self, Column, Rows, Value, insert};
use crate::store::{Result, Session, on};

use super::content::{Content, Party};
use super::{
    Claim, CustomerContent, Finding, Findings, Found, GroupContent, ImportCall, Incoming, RentalContent, TenantContent,
    Written, ids_by_tenant,
};

/// What is stored under an id.
#[derive(Debug, FromRow)]
pub(super) struct Stored<C> {
    pub id: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub changed_at: i64,
    pub import_id: Option<String>,
    pub import_place: Option<i64>,
    #[sqlx(flatten)]
    pub content: C,
}

/// Stored records by tenant and id.
pub(super) type StoredById<C> = HashMap<(String, String), Stored<C>>;

/// A record ready to be written.
pub(super) struct Ready<C> {
    pub record: Incoming<C>,
    pub created_at: i64,
    pub updated_at: i64,
    pub changed_at: i64,
    pub news: News,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Created,
    Changed,
    Unchanged,
}

/// A chunk compared with what is stored.
pub(super) struct Compared<C> {
    pub ready: Vec<Ready<C>>,
    pub written: Written,
}

/// Tells for each record what it changes; one whose id this call has had already is reported under `twice` and left out.
///
/// `look` sees each record beside what is stored for it, before the record is completed.
pub(super) fn compare<C: Content>(
    call: &ImportCall,
    records: Vec<Incoming<C>>,
    stored: &StoredById<C>,
    twice: Finding,
    mut look: impl FnMut(&mut Incoming<C>, Option<&Stored<C>>, &mut Vec<Findings>),
) -> Compared<C> {
    let mut written = Written::default();
    let mut seen: HashMap<(String, String), i64> = HashMap::with_capacity(records.len());
    let mut ready = Vec::with_capacity(records.len());
    for mut record in records {
        let key = (record.tenant_id.clone(), record.id.clone());
        let before = stored.get(&key);
        let earlier = before.filter(|s| s.import_id.as_deref() == Some(&call.import_id)).and_then(|s| s.import_place);
        if let Some(other) = earlier.or_else(|| seen.get(&key).copied()) {
            let found = Found { place: record.place, other: Some(other), id: record.id, ..Found::default() };
            written.findings.push(Findings::one(twice, found));
            continue;
        }
        seen.insert(key, record.place);
        look(&mut record, before, &mut written.findings);
        record.content.complete(before.map(|s| &s.content));
        let ready_record = settle_times(call, record, before);
        match ready_record.news {
            News::Created => written.created += 1,
            News::Changed => written.changed += 1,
            News::Unchanged => written.unchanged += 1,
        }
        ready.push(ready_record);
    }
    Compared { ready, written }
}

/// A changed record is dated as it says, else now; an unchanged one keeps its times.
fn settle_times<C: Content>(call: &ImportCall, record: Incoming<C>, stored: Option<&Stored<C>>) -> Ready<C> {
    let Some(stored) = stored else {
        let created_at = record.created_at.unwrap_or(call.now);
        let updated_at = record.updated_at.unwrap_or(created_at.max(call.now));
        return Ready { record, created_at, updated_at, changed_at: call.now, news: News::Created };
    };
    let created_at = record.created_at.unwrap_or(stored.created_at);
    if record.content == stored.content && created_at == stored.created_at {
        let (updated_at, changed_at) = (stored.updated_at, stored.changed_at);
        return Ready { record, created_at, updated_at, changed_at, news: News::Unchanged };
    }
    let updated_at = record.updated_at.unwrap_or(call.now);
    Ready { record, created_at, updated_at, changed_at: call.now, news: News::Changed }
}

impl Findings {
    pub(super) fn one(what: Finding, found: Found) -> Self {
        Self { what, total: 1, first: vec![found] }
    }
}

/// Reads what is stored for a chunk, tenant by tenant: `$sql` selects by `tenant_id = $2` and `… in $keys`.
macro_rules! read_stored {
    ($session:expr, $records:expr, $content:ty, $sql:literal) => {{
        let mut stored = StoredById::<$content>::new();
        for (tenant_id, ids) in ids_by_tenant($records.iter().map(|r| (r.tenant_id.as_str(), r.id.as_str()))) {
            let rows: Vec<$crate::store::import::upsert::Stored<$content>> = on!($session, |conn| {
                dialect::with_keys_as::<Db, _>($sql, &ids).bind(&tenant_id).fetch_all(conn).await?
            });
            stored.extend(rows.into_iter().map(|row| ((tenant_id.clone(), row.id.clone()), row)));
        }
        stored
    }};
}
pub(super) use read_stored;

/// The columns of one kind, each taken out of all the records.
pub(super) struct Columns<'a, C>(pub &'a [Ready<C>]);

impl<'a, C> Columns<'a, C> {
    pub(super) fn text(&self, of: fn(&'a C) -> &'a str) -> Column<'a> {
        Column::Text(self.0.iter().map(|r| of(&r.record.content)).collect())
    }

    pub(super) fn text_or_null(&self, of: fn(&'a C) -> &'a Option<String>) -> Column<'a> {
        Column::TextOrNull(self.0.iter().map(|r| of(&r.record.content).as_deref()).collect())
    }

    pub(super) fn int(&self, of: fn(&'a C) -> i64) -> Column<'a> {
        Column::Int(self.0.iter().map(|r| of(&r.record.content)).collect())
    }

    pub(super) fn int_or_null(&self, of: fn(&'a C) -> Option<i64>) -> Column<'a> {
        Column::IntOrNull(self.0.iter().map(|r| of(&r.record.content)).collect())
    }

    pub(super) fn date(&self, of: fn(&'a C) -> NaiveDate) -> Column<'a> {
        Column::Date(self.0.iter().map(|r| of(&r.record.content)).collect())
    }

    pub(super) fn date_or_null(&self, of: fn(&'a C) -> Option<NaiveDate>) -> Column<'a> {
        Column::DateOrNull(self.0.iter().map(|r| of(&r.record.content)).collect())
    }

    pub(super) fn tenant_id(&self) -> (&'static str, Column<'a>) {
        ("tenant_id", Column::Text(self.0.iter().map(|r| r.record.tenant_id.as_str()).collect()))
    }

    pub(super) fn id(&self) -> Column<'a> {
        Column::Text(self.0.iter().map(|r| r.record.id.as_str()).collect())
    }

    /// The columns that mark a row as this call's.
    pub(super) fn stamp(&self, call: &'a ImportCall) -> [(&'static str, Column<'a>); 4] {
        [
            ("created_at", Column::Int(self.0.iter().map(|r| r.created_at).collect())),
            ("updated_at", Column::Int(self.0.iter().map(|r| r.updated_at).collect())),
            ("import_id", Column::Same(Value::Text(&call.import_id))),
            ("import_place", Column::Int(self.0.iter().map(|r| r.record.place).collect())),
        ]
    }

    pub(super) fn changed_at(&self) -> (&'static str, Column<'a>) {
        ("changed_at", Column::Int(self.0.iter().map(|r| r.changed_at).collect()))
    }
}

impl Session {
    /// Writes tenants.
    pub async fn import_tenants(
        &mut self,
        call: &ImportCall,
        records: Vec<Incoming<TenantContent>>,
    ) -> Result<Written> {
        let ids: Vec<String> = records.iter().map(|r| r.id.clone()).collect();
        let stored = self.stored_tenants(&ids).await?;
        let with_payments = self.tenants_with_payments(&stored).await?;
        let mut pictures = Vec::new();
        let Compared { ready, mut written } =
            compare(call, records, &stored, Finding::TenantTwice, |record, before, findings| {
                if let (Some(sha256), Some(file)) = (&record.content.logo, record.content.logo_file.take()) {
                    pictures.push((record.id.clone(), sha256.clone(), file));
                }
                let Some(before) = before else { return };
                let found = |detail: Option<String>| Found {
                    place: record.place,
                    id: record.id.clone(),
                    detail,
                    ..Found::default()
                };
                if record.content.currency != before.content.currency && with_payments.contains(&record.id) {
                    let finding = found(Some(before.content.currency.clone()));
                    findings.push(Findings::one(Finding::CurrencyFixed, finding));
                }
                let was = before.content.bill_from;
                if record.content.bill_from.is_some() && record.content.bill_from != was {
                    let finding = found(was.map(|date| date.to_string()));
                    findings.push(Findings::one(Finding::BillFromChanged, finding));
                }
            });
        for (tenant_id, sha256, picture) in pictures {
            self.insert_asset(&tenant_id, &sha256, picture).await?;
        }
        for tenant in ready.iter().map(|ready| &ready.record) {
            if let Some(sha256) = &tenant.content.logo
                && !self.has_asset(&tenant.id, sha256).await?
            {
                let found = Found {
                    place: tenant.place,
                    id: tenant.id.clone(),
                    detail: Some(sha256.clone()),
                    ..Found::default()
                };
                written.findings.push(Findings::one(Finding::LogoUnknown, found));
            }
        }
        let parties: Vec<Party> = ready.iter().map(|r| r.record.content.party(&r.record.id)).collect();
        self.insert_parties(&ready, &parties).await?;
        self.upsert_tenants(call, &ready, &parties).await?;
        Ok(written)
    }

    /// A tenant as a record would bring it in.
    pub async fn tenant_content(&mut self, tenant_id: &str) -> Result<Option<TenantContent>> {
        let key = (tenant_id.to_owned(), tenant_id.to_owned());
        Ok(self.stored_tenants(&[tenant_id.to_owned()]).await?.remove(&key).map(|stored| stored.content))
    }

    async fn stored_tenants(&mut self, ids: &[String]) -> Result<StoredById<TenantContent>> {
        let rows: Vec<Stored<TenantContent>> = on!(self, |conn| {
            dialect::with_keys_as::<Db, Stored<TenantContent>>(
                "select tenant_id as id, name, currency, time_zone, locale, billing_fixed_day, contract_end, proration,
                    bill_from, payment_terms_days, tax_mode, tax_rate_ppm, invoice_number_format,
                    first_invoice_number, catch_up_days, max_arrears, run_at, legal_name, address, vat_id, tax_number,
                    registration, contact_name, phone, email, electronic_address, iban, bic, logo, accent_color, footer,
                    created_at, updated_at, changed_at, import_id, import_place
             from tenants
             where tenant_id in $keys",
                ids,
            )
            .fetch_all(conn)
            .await?
        });
        Ok(rows.into_iter().map(|row| ((row.id.clone(), row.id.clone()), row)).collect())
    }

    async fn tenants_with_payments(&mut self, stored: &StoredById<TenantContent>) -> Result<HashSet<String>> {
        let ids: Vec<String> = stored.keys().map(|(tenant_id, _)| tenant_id.clone()).collect();
        let rows: Vec<(String,)> = on!(self, |conn| dialect::with_keys_as::<Db, (String,)>(
            "select tenant_id from tenants
             where tenant_id in $keys and exists(select 1 from payments p where p.tenant_id = tenants.tenant_id)",
            &ids
        )
        .fetch_all(conn)
        .await?);
        Ok(rows.into_iter().map(|(tenant_id,)| tenant_id).collect())
    }

    async fn upsert_tenants(
        &mut self,
        call: &ImportCall,
        ready: &[Ready<TenantContent>],
        parties: &[Party],
    ) -> Result<()> {
        let of = Columns(ready);
        let mut columns = vec![
            of.tenant_id(),
            ("name", of.text(|c| &c.name)),
            ("currency", of.text(|c| &c.currency)),
            ("time_zone", of.text(|c| &c.time_zone)),
            ("locale", of.text(|c| &c.locale)),
            ("billing_fixed_day", of.int_or_null(|c| c.billing_fixed_day)),
            ("contract_end", of.text(|c| &c.contract_end)),
            ("proration", of.text(|c| &c.proration)),
            ("bill_from", of.date_or_null(|c| c.bill_from)),
            ("payment_terms_days", of.int(|c| c.payment_terms_days)),
            ("tax_mode", of.text(|c| &c.tax_mode)),
            ("tax_rate_ppm", of.int(|c| c.tax_rate_ppm)),
            ("invoice_number_format", of.text(|c| &c.invoice_number_format)),
            ("first_invoice_number", of.int(|c| c.first_invoice_number)),
            ("catch_up_days", of.int(|c| c.catch_up_days)),
            ("max_arrears", of.int(|c| c.max_arrears)),
            ("run_at", of.text(|c| &c.run_at)),
            ("legal_name", of.text_or_null(|c| &c.legal_name)),
            ("address", of.text_or_null(|c| &c.address)),
            ("vat_id", of.text_or_null(|c| &c.vat_id)),
            ("tax_number", of.text_or_null(|c| &c.tax_number)),
            ("registration", of.text_or_null(|c| &c.registration)),
            ("contact_name", of.text_or_null(|c| &c.contact_name)),
            ("phone", of.text_or_null(|c| &c.phone)),
            ("email", of.text_or_null(|c| &c.email)),
            ("electronic_address", of.text_or_null(|c| &c.electronic_address)),
            ("iban", of.text_or_null(|c| &c.iban)),
            ("bic", of.text_or_null(|c| &c.bic)),
            ("logo", of.text_or_null(|c| &c.logo)),
            ("accent_color", of.text_or_null(|c| &c.accent_color)),
            ("footer", of.text_or_null(|c| &c.footer)),
            ("party_id", Column::Text(parties.iter().map(|p| p.party_id.as_str()).collect())),
            of.changed_at(),
        ];
        columns.extend(of.stamp(call));
        let rows = Rows {
            table: "tenants",
            columns,
            conflict: "on conflict (tenant_id) do update
                       set name = excluded.name, currency = excluded.currency, time_zone = excluded.time_zone,
                           locale = excluded.locale, billing_fixed_day = excluded.billing_fixed_day,
                           contract_end = excluded.contract_end, proration = excluded.proration,
                           bill_from = excluded.bill_from, payment_terms_days = excluded.payment_terms_days,
                           tax_mode = excluded.tax_mode, tax_rate_ppm = excluded.tax_rate_ppm,
                           invoice_number_format = excluded.invoice_number_format,
                           first_invoice_number = excluded.first_invoice_number,
                           catch_up_days = excluded.catch_up_days, max_arrears = excluded.max_arrears,
                           run_at = excluded.run_at, legal_name = excluded.legal_name, address = excluded.address,
                           vat_id = excluded.vat_id, tax_number = excluded.tax_number,
                           registration = excluded.registration, contact_name = excluded.contact_name,
                           phone = excluded.phone, email = excluded.email,
                           electronic_address = excluded.electronic_address, iban = excluded.iban, bic = excluded.bic,
                           logo = excluded.logo, accent_color = excluded.accent_color, footer = excluded.footer,
                           party_id = excluded.party_id, changed_at = excluded.changed_at,
                           created_at = excluded.created_at, updated_at = excluded.updated_at,
                           import_id = excluded.import_id, import_place = excluded.import_place",
            count: ready.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    /// Keeps the versions of sellers or buyers that these records make; one that exists is the same.
    async fn insert_parties<C>(&mut self, ready: &[Ready<C>], parties: &[Party]) -> Result<()> {
        let rows = Rows {
            table: "parties",
            columns: vec![
                Columns(ready).tenant_id(),
                ("party_id", Column::Text(parties.iter().map(|p| p.party_id.as_str()).collect())),
                ("body", Column::Text(parties.iter().map(|p| p.body.as_str()).collect())),
            ],
            conflict: "on conflict do nothing",
            count: parties.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }

    /// Writes customers.
    pub async fn import_customers(
        &mut self,
        call: &ImportCall,
        records: Vec<Incoming<CustomerContent>>,
    ) -> Result<Written> {
        let stored = read_stored!(
            self,
            records,
            CustomerContent,
            "select customer_id as id, customer_type, status, company, first_name, last_name, email, billing_email,
                    invoice_recipients, invoice_cc, phone, vat_id, registration, buyer_reference, e_invoice, electronic_address, tax_treatment,
                    payment_terms_days, locale, billing_address, shipping_address, created_at, updated_at, changed_at, import_id, import_place
             from customers
             where tenant_id = $2 and customer_id in $keys"
        );
        let Compared { ready, written } = compare(call, records, &stored, Finding::CustomerTwice, |_, _, _| ());
        let parties: Vec<Party> = ready.iter().map(|r| r.record.content.party(&r.record.id)).collect();
        self.insert_parties(&ready, &parties).await?;
        let of = Columns(&ready);
        let mut columns = vec![
            of.tenant_id(),
            ("customer_id", of.id()),
            ("customer_type", of.text(|c| &c.customer_type)),
            ("status", of.text_or_null(|c| &c.status)),
            ("company", of.text_or_null(|c| &c.company)),
            ("first_name", of.text_or_null(|c| &c.first_name)),
            ("last_name", of.text_or_null(|c| &c.last_name)),
            ("email", of.text_or_null(|c| &c.email)),
            ("billing_email", of.text_or_null(|c| &c.billing_email)),
            ("invoice_recipients", of.text_or_null(|c| &c.invoice_recipients)),
            ("invoice_cc", of.text_or_null(|c| &c.invoice_cc)),
            ("phone", of.text_or_null(|c| &c.phone)),
            ("vat_id", of.text_or_null(|c| &c.vat_id)),
            ("registration", of.text_or_null(|c| &c.registration)),
            ("buyer_reference", of.text_or_null(|c| &c.buyer_reference)),
            ("e_invoice", of.text(|c| &c.e_invoice)),
            ("electronic_address", of.text_or_null(|c| &c.electronic_address)),
            ("tax_treatment", of.text(|c| &c.tax_treatment)),
            ("payment_terms_days", of.int_or_null(|c| c.payment_terms_days)),
            ("locale", of.text_or_null(|c| &c.locale)),
            ("billing_address", of.text_or_null(|c| &c.billing_address)),
            ("shipping_address", of.text_or_null(|c| &c.shipping_address)),
            ("created_by", Column::Same(Value::Text(&call.by))),
            ("party_id", Column::Text(parties.iter().map(|p| p.party_id.as_str()).collect())),
            of.changed_at(),
        ];
        columns.extend(of.stamp(call));
        let rows = Rows {
            table: "customers",
            columns,
            conflict: "on conflict (tenant_id, customer_id) do update
                       set customer_type = excluded.customer_type, status = excluded.status,
                           company = excluded.company, first_name = excluded.first_name,
                           last_name = excluded.last_name, email = excluded.email,
                           billing_email = excluded.billing_email, invoice_recipients = excluded.invoice_recipients,
                           invoice_cc = excluded.invoice_cc, phone = excluded.phone, vat_id = excluded.vat_id,
                           registration = excluded.registration, buyer_reference = excluded.buyer_reference,
                           e_invoice = excluded.e_invoice, electronic_address = excluded.electronic_address,
                           tax_treatment = excluded.tax_treatment,
                           payment_terms_days = excluded.payment_terms_days, locale = excluded.locale,
                           billing_address = excluded.billing_address, shipping_address = excluded.shipping_address,
                           party_id = excluded.party_id, changed_at = excluded.changed_at,
                           created_at = excluded.created_at, updated_at = excluded.updated_at,
                           import_id = excluded.import_id, import_place = excluded.import_place",
            count: ready.len(),
        };
        insert(self, rows).await?;
        Ok(written)
    }

    /// Writes groups, without their members; a deleted one comes back.
    pub async fn import_groups(&mut self, call: &ImportCall, records: Vec<Incoming<GroupContent>>) -> Result<Written> {
        let stored = read_stored!(
            self,
            records,
            GroupContent,
            "select billing_group_id as id, customer_id, group_name, billing_day, invoice_recipients, invoice_cc, status, notes, created_at, updated_at,
                    changed_at, import_id, import_place
             from billing_groups
             where tenant_id = $2 and billing_group_id in $keys"
        );
        let mut lists = Vec::new();
        let Compared { ready, mut written } =
            compare(call, records, &stored, Finding::GroupTwice, |record, before, findings| {
                active_again(
                    Finding::GroupActiveAgain,
                    record,
                    &record.content.status,
                    before,
                    |c| &c.status,
                    findings,
                );
                if let Claim::Said(members) = std::mem::take(&mut record.content.members) {
                    lists.push((record.tenant_id.clone(), record.id.clone(), record.place, members));
                }
            });
        self.state_lists(&lists).await?;
        let of = Columns(&ready);
        let mut columns = vec![
            of.tenant_id(),
            ("billing_group_id", of.id()),
            ("customer_id", of.text(|c| &c.customer_id)),
            ("group_name", of.text(|c| &c.group_name)),
            ("billing_day", of.int(|c| c.billing_day)),
            ("invoice_recipients", of.text_or_null(|c| &c.invoice_recipients)),
            ("invoice_cc", of.text_or_null(|c| &c.invoice_cc)),
            ("status", of.text_or_null(|c| &c.status)),
            ("notes", of.text_or_null(|c| &c.notes)),
            ("created_by", Column::Same(Value::Text(&call.by))),
            of.changed_at(),
        ];
        columns.extend(of.stamp(call));
        let rows = Rows {
            table: "billing_groups",
            columns,
            conflict: "on conflict (tenant_id, billing_group_id) do update
                       set customer_id = excluded.customer_id, group_name = excluded.group_name,
                           billing_day = excluded.billing_day, invoice_recipients = excluded.invoice_recipients,
                           invoice_cc = excluded.invoice_cc, status = excluded.status, notes = excluded.notes,
                           changed_at = excluded.changed_at, created_at = excluded.created_at,
                           updated_at = excluded.updated_at, import_id = excluded.import_id,
                           import_place = excluded.import_place",
            count: ready.len(),
        };
        insert(self, rows).await?;
        written.restored = self.delete_tombstones(&ready).await?;
        written.created -= written.restored;
        Ok(written)
    }

    /// Forgets that groups were deleted; tells of how many that was so.
    async fn delete_tombstones(&mut self, ready: &[Ready<GroupContent>]) -> Result<u64> {
        let created = ready.iter().filter(|r| r.news == News::Created);
        let mut restored = 0;
        for (tenant_id, ids) in ids_by_tenant(created.map(|r| (r.record.tenant_id.as_str(), r.record.id.as_str()))) {
            restored += on!(self, |conn| dialect::with_keys::<Db>(
                "delete from deleted_groups where tenant_id = $2 and billing_group_id in $keys",
                &ids
            )
            .bind(&tenant_id)
            .execute(conn)
            .await?
            .rows_affected());
        }
        Ok(restored)
    }

    /// Writes rentals, each in the group that it names itself; a new one has not been charged yet.
    pub async fn import_rentals(
        &mut self,
        call: &ImportCall,
        records: Vec<Incoming<RentalContent>>,
    ) -> Result<Written> {
        let stored = read_stored!(
            self,
            records,
            RentalContent,
            "select rental_id as id, customer_id, billing_group_id, monthly_amount, currency, status, start_date,
                    end_date, contract_length, ended_on, product_name, serial_number, sku, order_id, notes, created_at,
                    updated_at, changed_at, import_id, import_place
             from rentals
             where tenant_id = $2 and rental_id in $keys"
        );
        let mut claims = Vec::new();
        let mut regrouped = BTreeSet::new();
        let Compared { ready, written } =
            compare(call, records, &stored, Finding::RentalTwice, |record, before, findings| {
                active_again(
                    Finding::RentalActiveAgain,
                    record,
                    &record.content.status,
                    before,
                    |c| &c.status,
                    findings,
                );
                let Claim::Said(group) = &record.content.claim else { return };
                claims.push((record.tenant_id.clone(), record.id.clone(), record.place, group.clone()));
                let was = before.and_then(|before| before.content.member_of.clone());
                if was != *group {
                    let both = [was, group.clone()].into_iter().flatten();
                    regrouped.extend(both.map(|group| (record.tenant_id.clone(), group)));
                }
            });
        self.state_claims(&claims).await?;
        self.state_regrouped(&regrouped).await?;
        self.upsert_rentals(call, &ready).await?;
        let created: Vec<&Ready<RentalContent>> = ready.iter().filter(|r| r.news == News::Created).collect();
        let rows = Rows {
            table: "uncharged_rentals",
            columns: vec![
                ("tenant_id", Column::Text(created.iter().map(|r| r.record.tenant_id.as_str()).collect())),
                ("rental_id", Column::Text(created.iter().map(|r| r.record.id.as_str()).collect())),
            ],
            conflict: "on conflict do nothing",
            count: created.len(),
        };
        insert(self, rows).await?;
        Ok(written)
    }

    /// Supposes that the group which a rental names is active; `refresh_billed_groups` corrects the few where it is not.
    async fn upsert_rentals(&mut self, call: &ImportCall, ready: &[Ready<RentalContent>]) -> Result<()> {
        let of = Columns(ready);
        let mut columns = vec![
            of.tenant_id(),
            ("rental_id", of.id()),
            ("customer_id", of.text(|c| &c.customer_id)),
            ("billing_group_id", of.text_or_null(|c| &c.member_of)),
            ("billed_group_id", of.text_or_null(|c| &c.member_of)),
            ("monthly_amount", of.int(|c| c.monthly_amount)),
            ("currency", of.text(|c| &c.currency)),
            ("status", of.text_or_null(|c| &c.status)),
            ("start_date", of.date(|c| c.start_date)),
            ("end_date", of.date_or_null(|c| c.end_date)),
            ("contract_length", of.int_or_null(|c| c.contract_length)),
            ("ended_on", of.date_or_null(|c| c.ended_on)),
            ("product_name", of.text(|c| &c.product_name)),
            ("serial_number", of.text_or_null(|c| &c.serial_number)),
            ("sku", of.text_or_null(|c| &c.sku)),
            ("order_id", of.text_or_null(|c| &c.order_id)),
            ("notes", of.text_or_null(|c| &c.notes)),
            ("created_by", Column::Same(Value::Text(&call.by))),
            of.changed_at(),
        ];
        columns.extend(of.stamp(call));
        let rows = Rows {
            table: "rentals",
            columns,
            conflict: "on conflict (tenant_id, rental_id) do update
                       set customer_id = excluded.customer_id, billing_group_id = excluded.billing_group_id,
                           billed_group_id = excluded.billed_group_id, monthly_amount = excluded.monthly_amount,
                           currency = excluded.currency, status = excluded.status, start_date = excluded.start_date,
                           end_date = excluded.end_date, contract_length = excluded.contract_length,
                           ended_on = excluded.ended_on, product_name = excluded.product_name,
                           serial_number = excluded.serial_number, sku = excluded.sku,
                           order_id = excluded.order_id, notes = excluded.notes,
                           changed_at = excluded.changed_at, created_at = excluded.created_at,
                           updated_at = excluded.updated_at, import_id = excluded.import_id,
                           import_place = excluded.import_place",
            count: ready.len(),
        };
        insert(self, rows).await?;
        Ok(())
    }
}

/// Tells of a record that was not active and says that it is again.
fn active_again<C>(
    what: Finding,
    record: &Incoming<C>,
    status: &Option<String>,
    before: Option<&Stored<C>>,
    stored_status: fn(&C) -> &Option<String>,
    findings: &mut Vec<Findings>,
) {
    let Some(was) = before.and_then(|before| stored_status(&before.content).as_deref()) else { return };
    if status.as_deref() == Some("active") && was != "active" {
        let detail = Some(was.to_owned());
        findings.push(Findings::one(
            what,
            Found { place: record.place, id: record.id.clone(), detail, ..Found::default() },
        ));
    }
}
