//! Reading tenants.

use crate::domain::Tenant;
use crate::domain::plan::BadRecord;

use super::row::TenantRow;
use super::{Result, Session, on};

impl Session {
    /// All tenants, ordered by id; one whose settings cannot be read stands as the record that is wrong.
    pub async fn list_tenants(&mut self) -> Result<Vec<(String, Result<Tenant, BadRecord>)>> {
        let rows: Vec<TenantRow> = on!(self, |conn| sqlx::query_as::<Db, TenantRow>(
            "select tenant_id, name, currency, time_zone, locale, billing_fixed_day, contract_end, bill_from,
                    payment_terms_days, tax_mode, tax_rate_ppm, invoice_number_format, first_invoice_number,
                    catch_up_days, max_arrears, run_at, party_id
             from tenants
             order by tenant_id"
        )
        .fetch_all(conn)
        .await?);
        Ok(rows.into_iter().map(|row| (row.tenant_id.clone(), row.try_into())).collect())
    }
}
