//! The query of a list by itself, without a request: what is asked for, or what is wrong with it.

use chrono_tz::Tz;

use crate::change::Refusal;
use crate::store::page::{Page, Position};

use super::query::{ListPage, Query};
use super::{ROUTES, audit_log, billing_groups, customers, outbox, payments, subscriptions};

/// What a query asks for.
#[derive(Debug)]
pub struct ListQuery {
    list: ListPage,
    /// The list's own filters, as they print.
    pub filters: String,
}

impl ListQuery {
    /// The rows that are asked for.
    pub fn page(&self) -> &Page {
        &self.list.page
    }

    /// The cursor of the page that begins after a place.
    pub fn cursor(&self, position: &Position) -> String {
        self.list.cursor(position)
    }
}

/// Reads a query as the list with this `operationId` does; `None` if there is no such list.
pub fn read_list_query(list: &str, tenant_id: &str, zone: Tz, text: &str) -> Option<Result<ListQuery, Refusal>> {
    let operation = ROUTES.iter().map(|route| route.operation).find(|operation| operation.id == list)?;
    let mut query = Query::read(operation, tenant_id, text);
    let filters = match list {
        "listBillingGroups" => format!("{:?}", billing_groups::filter(&mut query)),
        "listPayments" => format!("{:?}", payments::filter(&mut query, zone)),
        "listCustomers" => format!("{:?}", customers::filter(&mut query)),
        "listSubscriptions" => format!("{:?}", subscriptions::filter(&mut query)),
        "listRuns" => String::new(),
        "listOutbox" => format!("{:?}", outbox::filter(&mut query)),
        "listAuditLog" => format!("{:?}", audit_log::filter(&mut query)),
        _ => return None,
    };
    Some(query.page().map(|list| ListQuery { list, filters }))
}
