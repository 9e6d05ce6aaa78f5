//! One customer's rentals that are billed together on one day.

use super::calendar::BillingDay;

/// A billing group without its members; those carry its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillingGroup {
    pub billing_group_id: String,
    pub customer_id: String,
    pub group_name: String,
    pub billing_day: BillingDay,
    pub status: GroupStatus,
}

/// Whether a group bills its members, or leaves each to its own day (rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStatus {
    Active,
    Inactive,
}

super::words!(GroupStatus { Active = "active", Inactive = "inactive" });
