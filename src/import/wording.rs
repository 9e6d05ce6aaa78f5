//! What the store found, in words: the field to look at, what is wrong, and what would be right.

use crate::store::import::{Finding, Found};

use super::Kind;

/// What was found, in words.
pub(super) struct Worded {
    /// The record to look at, unless the message names it.
    pub record: String,
    pub field: &'static str,
    pub message: String,
}

/// Puts it into words; `other` is where the record that it disagrees with stands.
pub(super) fn word(what: Finding, found: &Found, other: Option<&str>) -> Worded {
    let record = blamed(what, found).map(|(kind, id)| kind.record(Some(id))).unwrap_or_default();
    let (field, message) = field_and_message(what, found, other);
    Worded { record, field, message }
}

/// The record to look at; none where the message names it, or two of which either may be wrong.
fn blamed(what: Finding, found: &Found) -> Option<(Kind, &str)> {
    let id = found.id.as_str();
    match what {
        Finding::TenantTwice | Finding::CurrencyFixed | Finding::BillFromChanged | Finding::LogoUnknown => {
            Some((Kind::Tenant, id))
        }
        Finding::CustomerTwice => Some((Kind::Customer, id)),
        Finding::RentalTwice
        | Finding::RentalWithoutCustomer
        | Finding::RentalWithoutGroup
        | Finding::MemberUnlisted => Some((Kind::Rental, id)),
        Finding::GroupTwice | Finding::GroupWithoutCustomer | Finding::MemberWithoutRental => Some((Kind::Group, id)),
        Finding::PaymentTwice
        | Finding::PaymentWithoutCustomer
        | Finding::PaymentWithoutGroup
        | Finding::PaymentWithoutRental
        | Finding::LineWithoutRental => Some((Kind::Payment, id)),
        Finding::ChargedByBillday | Finding::PaidByBillday => Some((Kind::Payment, found.whom.as_deref()?)),
        Finding::MemberDisputed | Finding::MemberOfOtherCustomer if said_by_group(found) => {
            Some((Kind::Group, found.whom.as_deref()?))
        }
        Finding::MemberDisputed | Finding::MemberOfOtherCustomer => Some((Kind::Rental, id)),
        Finding::RentalActiveAgain
        | Finding::GroupActiveAgain
        | Finding::MemberCurrency
        | Finding::SameEmail
        | Finding::ChargedTwice
        | Finding::PaidTwice
        | Finding::StatusKept
        | Finding::LinesDoNotAddUp
        | Finding::HoleInHistory => None,
    }
}

/// Whether it is a group's record that puts a rental into a group, and not the rental's own.
fn said_by_group(found: &Found) -> bool {
    found.said_by.as_deref() == Some("group")
}

fn field_and_message(what: Finding, found: &Found, other: Option<&str>) -> (&'static str, String) {
    let id = &found.id;
    let whom = found.whom.as_deref().unwrap_or("none");
    let detail = found.detail.as_deref().unwrap_or("none");
    let it = if said_by_group(found) { format!("rental '{id}'") } else { "it".to_owned() };
    let period = found.period.as_deref().unwrap_or_default();
    let at = other.map(|other| format!(" (at {other})")).unwrap_or_default();
    let (field, message) = match what {
        Finding::TenantTwice => ("tenantId", twice(other)),
        Finding::CustomerTwice => ("customerId", twice(other)),
        Finding::RentalTwice => ("rentalId", twice(other)),
        Finding::GroupTwice => ("billingGroupId", twice(other)),
        Finding::PaymentTwice => ("paymentId", twice(other)),
        Finding::CurrencyFixed => {
            ("currency", format!("the tenant has payments in {detail}: its currency cannot change any more"))
        }
        Finding::LogoUnknown => {
            ("logo", format!("no picture sha256:{detail} of this tenant is stored: name the file that holds it"))
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
            if said_by_group(found) { "rentalIds" } else { "billingGroupId" },
            format!(
                "puts {it} into {}, but another record of this import{at} puts it into {}",
                group(&found.whom),
                group(&found.detail)
            ),
        ),
        Finding::MemberUnlisted => {
            ("billingGroupId", format!("puts it into group '{whom}', but that group's rentalIds{at} do not list it"))
        }
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
        Finding::ChargedByBillday => {
            ("billingPeriod", format!("billday itself charged rental '{id}' for {period}, on payment '{detail}'"))
        }
        Finding::PaidTwice => (
            "billingPeriod",
            format!("payments '{whom}' and '{detail}'{at} are both for {id} and {period}: one must be cancelled"),
        ),
        Finding::PaidByBillday => {
            ("billingPeriod", format!("billday itself billed {id} for {period}, with payment '{detail}'"))
        }
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
    (field, message)
}

fn twice(other: Option<&str>) -> String {
    format!("was given before in this import, at {}", other.unwrap_or("another place"))
}

fn group(id: &Option<String>) -> String {
    id.as_ref().map_or_else(|| "no group".to_owned(), |id| format!("group '{id}'"))
}
