//! Reading tenants.

use crate::domain::Tenant;
use crate::domain::plan::BadRecord;

use super::row::TenantRow;
use super::{Result, Session, dialect, on};

/// Selects what a [`TenantRow`] holds, of the tenants that `$rest` says.
macro_rules! select_tenants {
    ($rest:literal) => {
        concat!(
            "select t.tenant_id, t.name, t.currency, t.time_zone, t.locale, t.billing_fixed_day, t.contract_end,
                    t.bill_from, t.payment_terms_days, t.tax_mode, t.tax_rate_ppm, t.invoice_number_format,
                    t.first_invoice_number, t.catch_up_days, t.max_arrears, t.run_at, t.party_id, s.body as seller
             from tenants t
             left join parties s on s.tenant_id = t.tenant_id and s.party_id = t.party_id ",
            $rest
        )
    };
}

impl Session {
    /// Keeps others from changing a tenant until the transaction ends.
    pub async fn lock_tenant(&mut self, tenant_id: &str) -> Result<()> {
        on!(self, |conn| sqlx::query_scalar::<Db, i64>(dialect::locking::<Db>(
            "select cast(1 as bigint) from tenants where tenant_id = $1 $lock"
        ))
        .bind(tenant_id)
        .fetch_optional(conn)
        .await?);
        Ok(())
    }

    /// One tenant; one whose settings cannot be read stands as the record that is wrong.
    pub async fn find_tenant(&mut self, tenant_id: &str) -> Result<Option<Result<Tenant, BadRecord>>> {
        let row: Option<TenantRow> =
            on!(self, |conn| sqlx::query_as::<Db, TenantRow>(select_tenants!("where t.tenant_id = $1"))
                .bind(tenant_id)
                .fetch_optional(conn)
                .await?);
        Ok(row.map(Tenant::try_from))
    }

    /// All tenants, ordered by id; one whose settings cannot be read stands as the record that is wrong.
    pub async fn list_tenants(&mut self) -> Result<Vec<(String, Result<Tenant, BadRecord>)>> {
        let rows: Vec<TenantRow> =
            on!(self, |conn| sqlx::query_as::<Db, TenantRow>(select_tenants!("order by t.tenant_id"))
                .fetch_all(conn)
                .await?);
        Ok(rows.into_iter().map(|row| (row.tenant_id.clone(), row.try_into())).collect())
    }
}
