//! Rentals as whole records.

use sqlx::FromRow;

use super::dialect::Dialect as _;
use super::import::RentalContent;
use super::page::Page;
use super::{Result, Session, on};

/// A rental as it is stored.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct RentalRecord {
    pub rental_id: String,
    pub created_by: String,
    /// Microseconds UTC, like all instants here.
    pub created_at: i64,
    pub updated_at: i64,
    /// JSON: why, by whom and when it was cancelled over the API.
    pub cancellation: Option<String>,
    #[sqlx(flatten)]
    pub content: RentalContent,
}

/// Which rentals a page shows; an absent filter takes all.
#[derive(Debug, Clone, Default)]
pub struct RentalPageFilter {
    pub status: Option<&'static str>,
    pub customer_id: Option<String>,
    pub order_id: Option<String>,
    pub serial_number: Option<String>,
}

const COLUMNS: &str = "
    select rental_id, created_by, created_at, updated_at, cancellation, customer_id, billing_group_id, monthly_amount,
           currency, status, start_date, end_date, contract_length, ended_on, product_name, serial_number, sku, order_id,
           notes
    from rentals
    where tenant_id = ";

impl Session {
    /// A page of a tenant's rentals.
    pub async fn list_rental_page(
        &mut self,
        tenant_id: &str,
        filter: &RentalPageFilter,
        page: &Page,
    ) -> Result<Vec<RentalRecord>> {
        Ok(on!(self, |conn| {
            let mut query = sqlx::QueryBuilder::<Db>::new(COLUMNS);
            query.push_bind(tenant_id);
            if let Some(status) = filter.status {
                query.push(" and status = ").push_bind(status);
            }
            for (column, wanted) in [
                (" and customer_id = ", &filter.customer_id),
                (" and order_id = ", &filter.order_id),
                (" and serial_number = ", &filter.serial_number),
            ] {
                if let Some(wanted) = wanted {
                    query.push(column).push_bind(wanted);
                }
            }
            page.push_to(&mut query, "rental_id");
            query.build_query_as::<RentalRecord>().fetch_all(conn).await?
        }))
    }

    /// A rental of a tenant.
    pub async fn find_rental(&mut self, tenant_id: &str, rental_id: &str) -> Result<Option<RentalRecord>> {
        self.rental(tenant_id, rental_id, false).await
    }

    /// The same, held until this transaction ends; its group is held before it.
    pub async fn lock_rental(&mut self, tenant_id: &str, rental_id: &str) -> Result<Option<RentalRecord>> {
        self.rental(tenant_id, rental_id, true).await
    }

    async fn rental(&mut self, tenant_id: &str, rental_id: &str, held: bool) -> Result<Option<RentalRecord>> {
        Ok(on!(self, |conn| {
            let mut query = sqlx::QueryBuilder::<Db>::new(COLUMNS);
            query.push_bind(tenant_id).push(" and rental_id = ").push_bind(rental_id);
            if held {
                query.push(" ").push(Db::FOR_UPDATE);
            }
            query.build_query_as::<RentalRecord>().fetch_optional(conn).await?
        }))
    }

    /// Keeps why, by whom and when a rental was cancelled.
    pub async fn keep_cancellation(&mut self, tenant_id: &str, rental_id: &str, cancellation: &str) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update rentals set cancellation = $3 where tenant_id = $1 and rental_id = $2"
        )
        .bind(tenant_id)
        .bind(rental_id)
        .bind(cancellation)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Says anew by which group one rental is billed (rule 4).
    pub async fn refresh_billed_group(&mut self, tenant_id: &str, rental_id: &str) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(
            "update rentals
             set billed_group_id = (select g.billing_group_id from billing_groups g
                                    where g.tenant_id = rentals.tenant_id
                                      and g.billing_group_id = rentals.billing_group_id and g.status = 'active')
             where tenant_id = $1 and rental_id = $2"
        )
        .bind(tenant_id)
        .bind(rental_id)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }
}
