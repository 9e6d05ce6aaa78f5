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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rental::RentalStatus;
    use crate::domain::samples::{day, tenant};
    use crate::domain::tenant::ContractEnd;

    fn currency(code: &str) -> Currency {
        Currency::from_code(code).unwrap()
    }

    /// 10.00 a month from 2026 on.
    fn terms(code: &str) -> RentalTerms {
        RentalTerms {
            monthly_amount: 1_000,
            currency: currency(code),
            status: RentalStatus::Active,
            start_date: day("2026-01-01"),
            end_date: None,
            contract_length: None,
        }
    }

    fn sum(members: &[(RentalTerms, usize)], today: &str) -> GroupSum {
        sum_of(members.iter().map(|(terms, count)| (terms, *count)), &tenant(), day(today))
    }

    #[test]
    fn members_that_are_active_and_have_not_ended_are_added_up() {
        let ended = RentalTerms { end_date: Some(day("2026-06-01")), ..terms("EUR") };
        let cancelled = RentalTerms { status: RentalStatus::Cancelled, ..terms("EUR") };
        let future = RentalTerms { start_date: day("2027-01-01"), monthly_amount: 500, ..terms("EUR") };
        let members = [(terms("EUR"), 3), (ended, 2), (cancelled, 1), (future, 1)];
        let eur = currency("EUR");
        assert_eq!(sum(&members, "2026-05-31"), GroupSum { currency: eur, monthly: 5_500, active: 6 });
        assert_eq!(sum(&members, "2026-06-01"), GroupSum { currency: eur, monthly: 3_500, active: 4 });
    }

    #[test]
    fn a_groups_currency_is_its_members_ended_ones_too_and_without_members_the_tenants() {
        let cancelled = RentalTerms { status: RentalStatus::Cancelled, ..terms("USD") };
        assert_eq!(sum(&[(cancelled, 1)], "2026-05-31"), GroupSum { currency: currency("USD"), monthly: 0, active: 0 });
        assert_eq!(sum(&[], "2026-05-31"), GroupSum { currency: currency("EUR"), monthly: 0, active: 0 });
    }

    #[test]
    fn a_currency_is_never_added_to_another() {
        let members = [(terms("USD"), 1), (terms("EUR"), 2), (terms("USD"), 1)];
        assert_eq!(sum(&members, "2026-05-31"), GroupSum { currency: currency("USD"), monthly: 2_000, active: 4 });
    }

    #[test]
    fn a_contract_that_renews_does_not_end_its_member() {
        let short = RentalTerms { contract_length: Some(3), ..terms("EUR") };
        let active = |contract_end, today| {
            let tenant = Tenant { contract_end, ..tenant() };
            sum_of([(&short, 1)].into_iter(), &tenant, day(today)).active
        };
        assert_eq!(active(ContractEnd::End, "2026-03-31"), 1);
        assert_eq!(active(ContractEnd::End, "2026-04-01"), 0);
        assert_eq!(active(ContractEnd::RenewMonthly, "2026-04-01"), 1);
    }
}
