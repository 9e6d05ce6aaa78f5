//! One page of a list, by position: the next page costs the same wherever it begins, and rows that stay are met once.

use chrono::{Datelike, NaiveDate};
use sqlx::{Database, Encode, QueryBuilder, Type};

/// What a list is ordered by; rows that are equal in it go by id, in the same direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortBy {
    CreatedAt,
    UpdatedAt,
    DueDate,
}

impl SortBy {
    fn column(self) -> &'static str {
        match self {
            Self::CreatedAt => "created_at",
            Self::UpdatedAt => "updated_at",
            Self::DueDate => "due_date",
        }
    }
}

/// A place between two rows; the row that it was taken from need not exist any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Microseconds, or of a date its [`day`](Self::day).
    pub value: i64,
    pub id: String,
}

impl Position {
    /// A date as the number that a position holds.
    pub fn day(date: NaiveDate) -> i64 {
        i64::from(date.num_days_from_ce())
    }
}

/// Which rows of a list to read.
#[derive(Debug, Clone)]
pub struct Page {
    pub sort_by: SortBy,
    pub descending: bool,
    /// Begin after it.
    pub after: Option<Position>,
    /// At most so many; ask for one more than is shown to know whether more follow.
    pub limit: usize,
}

impl Page {
    /// Ends a `select … where …` with the page's own condition, order and limit.
    ///
    /// Everything that becomes text of the statement is a literal of ours; values are bound.
    pub(crate) fn push_to<DB: Database>(&self, query: &mut QueryBuilder<DB>, id_column: &'static str)
    where
        for<'q> i64: Encode<'q, DB> + Type<DB>,
        for<'q> String: Encode<'q, DB> + Type<DB>,
        for<'q> NaiveDate: Encode<'q, DB> + Type<DB>,
    {
        let column = self.sort_by.column();
        let (than, direction) = if self.descending { ("<", "desc") } else { (">", "asc") };
        if let Some(after) = &self.after {
            query.push(format_args!(" and ({column}, {id_column}) {than} ("));
            match self.sort_by {
                SortBy::CreatedAt | SortBy::UpdatedAt => query.push_bind(after.value),
                SortBy::DueDate => {
                    let day = i32::try_from(after.value).ok().and_then(NaiveDate::from_num_days_from_ce_opt);
                    query.push_bind(day.unwrap_or(NaiveDate::MIN))
                }
            };
            query.push(", ").push_bind(after.id.clone()).push(")");
        }
        query.push(format_args!(" order by {column} {direction}, {id_column} {direction} limit "));
        query.push_bind(i64::try_from(self.limit).unwrap_or(i64::MAX));
    }
}
