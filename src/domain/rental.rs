//! One subscription to one device, and the days on which it can be charged.

use chrono::NaiveDate;

use super::calendar::add_months;
use super::money::Currency;
use super::tenant::ContractEnd;

/// A rental, as far as billing needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rental {
    pub rental_id: String,
    pub customer_id: String,
    /// Minor units a month; net or gross as the tenant's prices are.
    pub monthly_amount: i64,
    pub currency: Currency,
    pub status: RentalStatus,
    pub start_date: NaiveDate,
    /// The first day that is no longer rented.
    pub end_date: Option<NaiveDate>,
    /// Months, 1 to 120.
    pub contract_length: Option<u32>,
    /// The earliest of its cancellation, return and buyout (rule 3).
    pub ended_on: Option<NaiveDate>,
    pub product_name: String,
    pub serial_number: Option<String>,
}

/// A rental's status on the wire; all but `active` are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RentalStatus {
    Active,
    Cancelled,
    EndedCompleted,
    EndedBuyout,
    EndedUpgrade,
    EndedEarlyReturn,
}

super::words!(RentalStatus {
    Active = "active",
    Cancelled = "cancelled",
    EndedCompleted = "ended_completed",
    EndedBuyout = "ended_buyout",
    EndedUpgrade = "ended_upgrade",
    EndedEarlyReturn = "ended_early_return",
});

/// How long a rental can be charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term {
    /// On no day: it has ended, and nobody knows when.
    Never,
    /// From its start up to but not including this day.
    Until(NaiveDate),
    OpenEnded,
}

impl Rental {
    /// When it ends, by rule 3; the end is the first day that is not charged.
    pub fn term(&self, contract_end: ContractEnd) -> Term {
        let by_contract = end_by_contract(self.start_date, self.end_date, self.contract_length, contract_end);
        let by_status = match self.status {
            RentalStatus::Active => None,
            _ => match self.ended_on.or(self.end_date) {
                Some(end) => Some(end),
                None => return Term::Never,
            },
        };
        [by_contract, by_status].into_iter().flatten().min().map_or(Term::OpenEnded, Term::Until)
    }

    /// Whether it can be charged on `date`: started, and not ended by then (rule 3).
    pub fn billable_on(&self, date: NaiveDate, contract_end: ContractEnd) -> bool {
        self.start_date <= date
            && match self.term(contract_end) {
                Term::Never => false,
                Term::Until(end) => date < end,
                Term::OpenEnded => true,
            }
    }

    /// How many charges its contract allows in all (rule 9); `None` where nothing limits them.
    pub fn charges_max(&self, contract_end: ContractEnd) -> Option<u32> {
        match contract_end {
            ContractEnd::End => self.contract_length,
            ContractEnd::RenewMonthly => None,
        }
    }
}

fn end_by_contract(
    start_date: NaiveDate,
    end_date: Option<NaiveDate>,
    contract_length: Option<u32>,
    contract_end: ContractEnd,
) -> Option<NaiveDate> {
    match contract_end {
        ContractEnd::End => {
            let contract = contract_length.map(|months| add_months(start_date, months));
            [end_date, contract].into_iter().flatten().min()
        }
        ContractEnd::RenewMonthly => None,
    }
}

/// What of a rental says what it comes to a month now, for the sums that customers and groups show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RentalTerms {
    /// Minor units; net or gross as the tenant's prices are.
    pub monthly_amount: i64,
    pub currency: Currency,
    pub status: RentalStatus,
    pub start_date: NaiveDate,
    /// The first day that is no longer rented.
    pub end_date: Option<NaiveDate>,
    /// Months, 1 to 120.
    pub contract_length: Option<u32>,
}

impl RentalTerms {
    /// Whether it is active and has not ended by `date`; it may have yet to start.
    pub fn is_running_on(&self, date: NaiveDate, contract_end: ContractEnd) -> bool {
        self.status == RentalStatus::Active
            && end_by_contract(self.start_date, self.end_date, self.contract_length, contract_end)
                .is_none_or(|end| date < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calendar::parse_date;

    fn rental() -> Rental {
        Rental {
            rental_id: "R".into(),
            customer_id: "C".into(),
            monthly_amount: 100,
            currency: Currency::from_code("EUR").unwrap(),
            status: RentalStatus::Active,
            start_date: day("2026-01-01"),
            end_date: None,
            contract_length: None,
            ended_on: None,
            product_name: "P".into(),
            serial_number: None,
        }
    }

    fn day(text: &str) -> NaiveDate {
        parse_date(text).unwrap()
    }

    #[test]
    fn the_end_is_the_earliest_of_what_limits_it() {
        use ContractEnd::{End, RenewMonthly};
        let until = |d| Term::Until(day(d));
        let with = |change: fn(&mut Rental)| {
            let mut rental = rental();
            change(&mut rental);
            rental
        };
        let cancelled = |r: &mut Rental| {
            r.status = RentalStatus::Cancelled;
            r.ended_on = parse_date("2026-05-03");
        };
        for (rental, contract_end, term) in [
            (with(|_| ()), End, Term::OpenEnded),
            (with(|r| r.contract_length = Some(12)), End, until("2027-01-01")),
            (with(|r| r.contract_length = Some(12)), RenewMonthly, Term::OpenEnded),
            (with(|r| r.end_date = parse_date("2026-06-15")), End, until("2026-06-15")),
            (with(|r| r.end_date = parse_date("2026-06-15")), RenewMonthly, Term::OpenEnded),
            (with(cancelled), End, until("2026-05-03")),
            (with(cancelled), RenewMonthly, until("2026-05-03")),
            // A date of cancellation means nothing while the rental is active.
            (with(|r| r.ended_on = parse_date("2026-05-03")), End, Term::OpenEnded),
            (with(|r| r.status = RentalStatus::EndedBuyout), End, Term::Never),
        ] {
            assert_eq!(rental.term(contract_end), term, "{rental:?}");
        }
        let mut returned = with(|r| r.status = RentalStatus::EndedEarlyReturn);
        returned.end_date = parse_date("2026-06-15");
        assert_eq!(
            returned.term(RenewMonthly),
            until("2026-06-15"),
            "an ended rental ends at its end date at the latest"
        );
    }

    #[test]
    fn twelve_months_from_1_january_are_billable_on_twelve_firsts() {
        let mut rental = rental();
        rental.contract_length = Some(12);
        let firsts =
            (0..24).filter(|&n| rental.billable_on(add_months(day("2025-07-01"), n), ContractEnd::End)).count();
        assert_eq!(firsts, 12);
    }

    #[test]
    fn a_rental_that_ended_on_a_day_that_nobody_knows_is_billable_on_none() {
        let ended = Rental { status: RentalStatus::EndedUpgrade, ..rental() };
        assert!(rental().billable_on(day("2026-01-01"), ContractEnd::End));
        assert!(!ended.billable_on(day("2026-01-01"), ContractEnd::End));
    }

    #[test]
    fn a_contract_limits_the_charges_only_where_it_ends() {
        let twelve = Rental { contract_length: Some(12), ..rental() };
        assert_eq!(twelve.charges_max(ContractEnd::End), Some(12));
        assert_eq!(twelve.charges_max(ContractEnd::RenewMonthly), None);
        assert_eq!(rental().charges_max(ContractEnd::End), None);
    }
}
