//! What the earlier of several planned dates would have written, so that each later date is planned on it (rule 18).

use std::collections::{HashMap, HashSet};

use chrono::NaiveDate;

use super::plan::{DueSubject, History, Mark, Outcome, Plan, passed_over};
use super::{BillingDay, BillingPeriod, Rental, Subject, Tenant};

/// One tenant's planned writes, kept in memory: only a dry run of several dates and a preview fill it.
#[derive(Default)]
pub struct Overlay {
    lines: HashMap<String, Vec<BillingPeriod>>,
    marks: HashMap<String, Vec<(BillingPeriod, Mark)>>,
    billed: HashSet<(Subject, BillingPeriod)>,
    /// Rentals that got the first line of their life, with their subject's day.
    first_charged: Vec<(Rental, BillingDay)>,
}

impl Overlay {
    /// Shows the subjects of a date as the dates before it would have left them.
    pub fn apply(&self, run_date: NaiveDate, due: &mut [DueSubject]) {
        let period = BillingPeriod::of(run_date);
        for subject in due {
            subject.already_billed |= self.billed.contains(&(subject.subject.clone(), period));
            for rental in subject.rentals.iter_mut().flatten() {
                self.apply_to(&rental.rental.rental_id, period, &mut rental.history);
            }
        }
    }

    fn apply_to(&self, rental_id: &str, period: BillingPeriod, history: &mut History) {
        for &(marked, mark) in self.marks.get(rental_id).into_iter().flatten() {
            history.add_mark(marked, mark);
        }
        for &charged in self.lines.get(rental_id).into_iter().flatten() {
            history.add_line(period, charged);
        }
    }

    /// Adds what a date's plan would write.
    pub fn record(&mut self, run_date: NaiveDate, due: Vec<DueSubject>, plan: &Plan) {
        let period = BillingPeriod::of(run_date);
        for (due, planned) in due.into_iter().zip(&plan.subjects) {
            for withheld in &planned.withheld {
                let marks = withheld.periods.iter().map(|&p| (p, Mark::Withheld));
                self.marks.entry(withheld.rental_id.clone()).or_default().extend(marks);
            }
            match &planned.outcome {
                Outcome::Billed(payment) => {
                    self.billed.insert((planned.subject.clone(), period));
                    for line in &payment.lines {
                        self.lines.entry(line.rental_id.clone()).or_default().push(line.billing_period);
                    }
                }
                Outcome::Parked(parked) => {
                    for (rental_id, period) in &parked.charges {
                        self.marks.entry(rental_id.clone()).or_default().push((*period, Mark::Parked));
                    }
                }
                Outcome::AlreadyBilled | Outcome::Skipped(_) | Outcome::NotDue => {}
            }
            if !planned.first_charged.is_empty() {
                let first: HashSet<&str> = planned.first_charged.iter().map(|f| f.rental_id.as_str()).collect();
                let rentals = due.rentals.into_iter().flatten().map(|due| due.rental);
                self.first_charged
                    .extend(rentals.filter(|r| first.contains(r.rental_id.as_str())).map(|r| (r, due.day)));
            }
        }
    }

    /// How many of the rentals that the database still counts as passed over were charged by an earlier date.
    pub fn passed_over(&self, tenant: &Tenant, run_date: NaiveDate) -> u64 {
        self.first_charged.iter().filter(|(rental, day)| passed_over(rental, *day, tenant, run_date)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::plan::{PlanContext, plan};
    use crate::domain::samples::{day, group, period, rental, tenant};

    fn planned(due: &DueSubject, date: &str) -> Plan {
        plan(PlanContext { tenant: &tenant(), run_date: day(date), issue_date: day(date) }, std::slice::from_ref(due))
    }

    fn history(due: &DueSubject) -> &History {
        &due.rentals[0].as_ref().unwrap().history
    }

    #[test]
    fn a_date_is_billed_already_after_itself_and_its_lines_are_on_record_for_the_next() {
        let due = group(10, vec![rental("R", "2026-01-01")]);
        let mut overlay = Overlay::default();
        overlay.record(day("2026-01-10"), vec![due.clone()], &planned(&due, "2026-01-10"));
        let mut again = [due.clone()];
        overlay.apply(day("2026-01-10"), &mut again);
        assert!(again[0].already_billed);
        let mut next = [due];
        overlay.apply(day("2026-02-10"), &mut next);
        assert!(!next[0].already_billed);
        assert_eq!((history(&next[0]).line_count, history(&next[0]).first), (1, Some(period("2026-01"))));
    }

    #[test]
    fn what_an_earlier_date_parked_or_withheld_is_parked_or_withheld_for_the_next() {
        let nobody = DueSubject { customer: None, ..group(10, vec![rental("R", "2026-01-01")]) };
        let mut long_gone = group(10, vec![rental("R", "2025-06-01")]);
        long_gone.rentals[0].as_mut().unwrap().history.add_line(period("2026-01"), period("2025-06"));
        for (due, marks) in [
            (nobody, vec![(period("2026-01"), Mark::Parked)]),
            (long_gone, (7..=12).map(|n| (period(&format!("2025-{n:02}")), Mark::Withheld)).collect()),
        ] {
            let mut overlay = Overlay::default();
            overlay.record(day("2026-01-10"), vec![due.clone()], &planned(&due, "2026-01-10"));
            let mut next = [due];
            overlay.apply(day("2026-02-10"), &mut next);
            assert_eq!(history(&next[0]).marks, marks);
        }
    }

    #[test]
    fn rentals_that_an_earlier_date_charged_first_though_late_are_counted() {
        let late = group(10, vec![rental("R", "2025-12-01"), rental("S", "2025-12-01")]);
        let mut charged_before = late.clone();
        charged_before.rentals[1].as_mut().unwrap().history.add_line(period("2026-01"), period("2025-12"));
        for (due, count) in [(late, 2), (charged_before, 1), (group(10, vec![rental("R", "2026-02-11")]), 0)] {
            let mut overlay = Overlay::default();
            overlay.record(day("2026-01-10"), vec![due.clone()], &planned(&due, "2026-01-10"));
            assert_eq!(overlay.passed_over(&tenant(), day("2026-02-10")), count);
        }
        assert_eq!(Overlay::default().passed_over(&tenant(), day("2026-02-10")), 0);
    }
}
