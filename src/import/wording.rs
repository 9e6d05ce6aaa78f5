//! What the store found, in words: the field to look at, what is wrong, and what would be right.

use crate::store::import::{Finding, Found};

/// The field and the message; `other` is where the record that it disagrees with stands.
pub(super) fn word(what: Finding, found: &Found, other: Option<&str>) -> (String, String) {
    let id = &found.id;
    let whom = found.whom.as_deref().unwrap_or("none");
    let detail = found.detail.as_deref().unwrap_or("none");
    let period = found.period.as_deref().unwrap_or_default();
    let at = other.map(|other| format!(" (at {other})")).unwrap_or_default();
    let (field, message) = match what {
        Finding::TenantTwice => ("tenantId", twice("tenant", id, other)),
        Finding::CustomerTwice => ("customerId", twice("customer", id, other)),
        Finding::RentalTwice => ("rentalId", twice("rental", id, other)),
        Finding::GroupTwice => ("billingGroupId", twice("group", id, other)),
        Finding::PaymentTwice => ("paymentId", twice("payment", id, other)),
        Finding::CurrencyFixed => {
            ("currency", format!("tenant '{id}' has payments in {detail}: its currency cannot change any more"))
        }
        Finding::BillFromChanged => {
            ("billFrom", format!("was {detail}: another date can open or close months that were not billed"))
        }
        Finding::RentalActiveAgain => (
            "status",
            format!(
                "rental '{id}' was {detail} and is active again: the months between are withheld or charged as gaps"
            ),
        ),
        Finding::GroupActiveAgain => ("status", format!("group '{id}' was {detail} and bills its members again")),
        Finding::RentalWithoutCustomer | Finding::GroupWithoutCustomer | Finding::PaymentWithoutCustomer => {
            ("customerId", format!("there is no customer '{whom}'"))
        }
        Finding::RentalWithoutGroup | Finding::PaymentWithoutGroup => {
            ("billingGroupId", format!("there is no group '{whom}'"))
        }
        Finding::PaymentWithoutRental => ("rentalId", format!("there is no rental '{whom}'")),
        Finding::LineWithoutRental => ("lineItems", format!("there is no rental '{whom}'")),
        Finding::MemberWithoutRental => ("rentalIds", format!("there is no rental '{whom}'")),
        Finding::MemberDisputed => (
            "billingGroupId",
            format!(
                "puts rental '{id}' into {}, but another record of this import{at} puts it into {}",
                group(&found.whom),
                group(&found.detail)
            ),
        ),
        Finding::MemberUnlisted => (
            "billingGroupId",
            format!("puts rental '{id}' into group '{whom}', but that group's rentalIds{at} do not list it"),
        ),
        Finding::MemberOfOtherCustomer => (
            "billingGroupId",
            format!("rental '{id}' belongs to customer '{detail}', but group '{whom}' is another customer's"),
        ),
        Finding::MemberCurrency => (
            "currency",
            format!(
                "group '{id}' has members in {whom} and {detail}: it cannot be billed until they are in one currency"
            ),
        ),
        Finding::SameEmail => ("email", format!("customers '{whom}' and '{detail}' have the same address '{id}'")),
        Finding::ChargedTwice => (
            "billingPeriod",
            format!(
                "payments '{whom}' and '{detail}'{at} both charge rental '{id}' for {period}: one must be cancelled"
            ),
        ),
        Finding::ChargedByBillday => (
            "billingPeriod",
            format!("payment '{whom}' charges rental '{id}' for {period}, which billday charged itself on '{detail}'"),
        ),
        Finding::PaidTwice => (
            "billingPeriod",
            format!("payments '{whom}' and '{detail}'{at} are both for {id} and {period}: one must be cancelled"),
        ),
        Finding::PaidByBillday => (
            "billingPeriod",
            format!("payment '{whom}' is for {id} and {period}, which billday billed itself with '{detail}'"),
        ),
        Finding::StatusKept => {
            ("status", format!("payment '{id}' is {whom} and stays so: an import cannot make it {detail}"))
        }
        Finding::LinesDoNotAddUp => (
            "lineItems",
            format!("the amounts of payment '{id}' do not add up to its subtotal: both are kept as they are"),
        ),
        Finding::HoleInHistory => (
            "billingPeriod",
            format!(
                "rental '{id}' has no payment between {detail} and {period}: imported history is closed, so the months between will not be billed"
            ),
        ),
    };
    (field.to_owned(), message)
}

fn twice(kind: &str, id: &str, other: Option<&str>) -> String {
    format!("{kind} '{id}' was given before in this import, at {}", other.unwrap_or("another place"))
}

fn group(id: &Option<String>) -> String {
    id.as_ref().map_or_else(|| "no group".to_owned(), |id| format!("group '{id}'"))
}
