//! One customer's rentals that are billed together on one day.

/// Whether a group bills its members, or leaves each to its own day (rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStatus {
    Active,
    Inactive,
}

super::words!(GroupStatus { Active = "active", Inactive = "inactive" });
