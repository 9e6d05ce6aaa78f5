//! One customer's rentals that are billed together on one day.

use chrono::NaiveDate;

use super::rental::RentalTerms;
use super::{Currency, Tenant};

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

/// Adds up the members that are active and have not ended on `today`; one that has yet to start counts. Each item is how many of
/// them have the same terms.
///
/// An import can leave a group with several currencies. Then the first item's counts, and only amounts in it: a currency is
/// never added to another.
pub fn sum_of<'a>(
    members: impl Iterator<Item = (&'a RentalTerms, usize)>,
    tenant: &Tenant,
    today: NaiveDate,
) -> GroupSum {
    let mut currency = None;
    let (mut monthly, mut active) = (0, 0);
    for (terms, count) in members {
        let first = *currency.get_or_insert(terms.currency);
        if terms.is_running_on(today, tenant.contract_end) {
            active += count;
            if terms.currency == first {
                monthly += i128::from(terms.monthly_amount) * count as i128;
            }
        }
    }
    GroupSum { currency: currency.unwrap_or(tenant.currency), monthly, active }
}
