//! One customer's rentals that are billed together on one day.

use chrono::NaiveDate;

use super::{Currency, Rental, Tenant};

/// Whether a group bills its members, or leaves each to its own day (rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStatus {
    Active,
    Inactive,
}

super::words!(GroupStatus { Active = "active", Inactive = "inactive" });

/// What a group's members come to on a day (rule 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupSum {
    /// The members' currency, of all of them; without members the tenant's (rule 14).
    pub currency: Currency,
    /// Minor units a month; net or gross as the tenant's prices are.
    pub monthly: i128,
    pub active: usize,
}

/// Adds up the members that are active and have not ended on `today`; one that has yet to start counts.
///
/// An import can leave a group with several currencies. Then the first member's counts, and only amounts in it: a currency is
/// never added to another.
pub fn sum_of<'a>(members: impl Iterator<Item = &'a Rental>, tenant: &Tenant, today: NaiveDate) -> GroupSum {
    let mut currency = None;
    let (mut monthly, mut active) = (0, 0);
    for rental in members {
        let first = *currency.get_or_insert(rental.currency);
        if rental.is_running_on(today, tenant.contract_end) {
            active += 1;
            if rental.currency == first {
                monthly += i128::from(rental.monthly_amount);
            }
        }
    }
    GroupSum { currency: currency.unwrap_or(tenant.currency), monthly, active }
}
