//! Customers as whole records, with what their rentals come to.

use std::collections::HashMap;

use sqlx::FromRow;

use super::import::CustomerContent;
use super::page::Page;
use super::{Result, Session, dialect, on};

/// A customer as it is stored.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct CustomerRecord {
    pub customer_id: String,
    pub created_by: String,
    /// Microseconds UTC, like all instants here.
    pub created_at: i64,
    pub updated_at: i64,
    #[sqlx(flatten)]
    pub content: CustomerContent,
}

/// Which customers a page shows; an absent filter takes all.
#[derive(Debug, Clone, Default)]
pub struct CustomerPageFilter {
    pub status: Option<&'static str>,
    pub customer_type: Option<&'static str>,
    /// The whole address, without case.
    pub email: Option<String>,
}

/// What customers are called, and where they are written to.
#[derive(Debug, Clone, FromRow)]
pub struct CustomerName {
    pub customer_id: String,
    pub company: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub email: Option<String>,
}

const COLUMNS: &str = "
    select customer_id, created_by, created_at, updated_at, customer_type, status, company, first_name, last_name, email,
           billing_email, invoice_recipients, invoice_cc, phone, vat_id, registration, buyer_reference, e_invoice, electronic_address, tax_treatment,
           payment_terms_days, locale, billing_address, shipping_address
    from customers
    where tenant_id = ";

impl Session {
    /// A page of a tenant's customers.
    pub async fn list_customer_page(
        &mut self,
        tenant_id: &str,
        filter: &CustomerPageFilter,
        page: &Page,
    ) -> Result<Vec<CustomerRecord>> {
        Ok(on!(self, |conn| {
            let mut query = sqlx::QueryBuilder::<Db>::new(COLUMNS);
            query.push_bind(tenant_id);
            if let Some(status) = filter.status {
                query.push(" and status = ").push_bind(status);
            }
            if let Some(customer_type) = filter.customer_type {
                query.push(" and customer_type = ").push_bind(customer_type);
            }
            if let Some(email) = &filter.email {
                query.push(" and lower(email) = ").push_bind(email.to_lowercase());
            }
            page.push_to(&mut query, "customer_id");
            query.build_query_as::<CustomerRecord>().fetch_all(conn).await?
        }))
    }

    /// A customer of a tenant; to change it, [`lock_customers`](Self::lock_customers) first.
    pub async fn find_customer(&mut self, tenant_id: &str, customer_id: &str) -> Result<Option<CustomerRecord>> {
        Ok(on!(self, |conn| {
            let mut query = sqlx::QueryBuilder::<Db>::new(COLUMNS);
            query.push_bind(tenant_id).push(" and customer_id = ").push_bind(customer_id);
            query.build_query_as::<CustomerRecord>().fetch_optional(conn).await?
        }))
    }

    /// Keeps others from changing this tenant's customers before this transaction ends: an e-mail belongs to one of them,
    /// which no key of the database can say since imports may bring several.
    pub async fn lock_customers(&mut self, tenant_id: &str) -> Result<()> {
        on!(self, |conn| sqlx::query::<Db>(dialect::locking::<Db>(
            "select tenant_id from tenants where tenant_id = $1 $lock"
        ))
        .bind(tenant_id)
        .execute(conn)
        .await?
        .rows_affected());
        Ok(())
    }

    /// The customer with an e-mail, without case, other than the one named.
    pub async fn customer_with_email(&mut self, tenant_id: &str, email: &str, but: &str) -> Result<Option<String>> {
        Ok(on!(self, |conn| sqlx::query_scalar::<Db, String>(
            "select customer_id from customers
             where tenant_id = $1 and lower(email) = $2 and customer_id <> $3
             order by customer_id limit 1"
        )
        .bind(tenant_id)
        .bind(email.to_lowercase())
        .bind(but)
        .fetch_optional(conn)
        .await?))
    }

    /// What customers are called, by id.
    pub async fn customer_names(&mut self, tenant_id: &str, ids: &[String]) -> Result<HashMap<String, CustomerName>> {
        let rows: Vec<CustomerName> = on!(self, |conn| dialect::with_keys_as::<Db, CustomerName>(
            "select customer_id, company, first_name, last_name, email
             from customers where tenant_id = $2 and customer_id in $keys",
            ids
        )
        .bind(tenant_id)
        .fetch_all(conn)
        .await?);
        Ok(rows.into_iter().map(|row| (row.customer_id.clone(), row)).collect())
    }

    /// The orders that the rentals of customers came from, by customer and ordered by id.
    pub async fn orders_by_customer(
        &mut self,
        tenant_id: &str,
        customer_ids: &[String],
    ) -> Result<HashMap<String, Vec<String>>> {
        let rows: Vec<(String, String)> = on!(self, |conn| dialect::with_keys_as::<Db, (String, String)>(
            "select distinct customer_id, order_id
             from rentals
             where tenant_id = $2 and customer_id in $keys and order_id is not null
             order by customer_id, order_id",
            customer_ids
        )
        .bind(tenant_id)
        .fetch_all(conn)
        .await?);
        let mut orders: HashMap<String, Vec<String>> = HashMap::new();
        for (customer_id, order_id) in rows {
            orders.entry(customer_id).or_default().push(order_id);
        }
        Ok(orders)
    }
}
