//! Who is billed: a tenant with groups and rentals, drawn by lot, and what is owed to it by a plain walk over all days.

use std::collections::BTreeSet;

use billday::domain::calendar::add_months;
use billday::domain::customer::Customer;
use billday::domain::document::Seller;
use billday::domain::invoice::NumberFormat;
use billday::domain::message::RecipientLists;
use billday::domain::rental::RentalStatus;
use billday::domain::tax::TaxRule;
use billday::domain::tenant::{BillingCycle, ContractEnd};
use billday::domain::{BillingDay, BillingPeriod, Currency, EInvoice, Rental, Subject, TaxMode, TaxTreatment, Tenant};
use chrono::{Datelike, Days, NaiveDate, NaiveTime};

use super::dice::Dice;

pub struct Company {
    pub tenant: Tenant,
    pub customer: Customer,
    pub rentals: Vec<Rental>,
    /// In report order.
    pub subjects: Vec<BilledSubject>,
}

pub struct BilledSubject {
    pub subject: Subject,
    pub day: BillingDay,
    /// Places in the company's rentals.
    pub members: Vec<usize>,
}

/// Zones where dates begin early and late, with half hours, and with midnights that are missing.
const ZONES: [&str; 6] =
    ["Europe/Berlin", "America/Santiago", "Pacific/Kiritimati", "Pacific/Niue", "Australia/Lord_Howe", "Africa/Cairo"];

impl Company {
    pub fn draw(dice: &mut Dice, number: usize, begin: NaiveDate) -> Self {
        let eur = Currency::from_code("EUR").expect("a currency");
        let tenant = Tenant {
            tenant_id: format!("T{number}"),
            name: "Rent".into(),
            currency: eur,
            time_zone: dice.one_of(&ZONES).parse().expect("a zone"),
            locale: "en".into(),
            billing_cycle: BillingCycle::StartDate,
            contract_end: ContractEnd::End,
            bill_from: begin,
            payment_terms_days: 14,
            tax: TaxRule { mode: TaxMode::Exclusive, rate_ppm: 190_000 },
            invoice_number_format: NumberFormat::parse(dice.one_of(&["R-{seq}", "{year}-{seq:05}"])).expect("a format"),
            first_invoice_number: dice.one_of(&[1, 500]),
            catch_up_days: 7,
            run_at: NaiveTime::from_hms_opt(dice.below(24) as u32, 30, 0).expect("a time"),
            max_arrears: 2,
            party_id: String::new(),
            seller: Seller::default(),
        };
        let customer = Customer {
            customer_id: "C".into(),
            billing_email: Some("pay@c.example".into()),
            recipients: RecipientLists::default(),
            tax_treatment: TaxTreatment::Standard,
            payment_terms_days: None,
            locale: None,
            party_id: String::new(),
            e_invoice: EInvoice::default(),
            e_invoice_lacks: Vec::new(),
        };
        let rentals: Vec<Rental> = (0..7).map(|n| rental(dice, n, begin, eur)).collect();
        let mut subjects: Vec<BilledSubject> = (0..2)
            .map(|group| BilledSubject {
                subject: Subject::group(format!("G{group}")),
                day: BillingDay::fixed(dice.between(1, 28)).expect("a day"),
                members: (0..4).filter(|rental| rental % 2 == group).collect(),
            })
            .collect();
        subjects.extend((4..rentals.len()).map(|n| BilledSubject {
            subject: Subject::rental(rentals[n].rental_id.clone()),
            day: tenant.day_alone(rentals[n].start_date),
            members: vec![n],
        }));
        Self { tenant, customer, rentals, subjects }
    }

    /// The subjects whose billing date is `date`.
    pub fn due(&self, date: NaiveDate) -> Vec<usize> {
        let period = BillingPeriod::of(date);
        (0..self.subjects.len()).filter(|&n| self.subjects[n].day.date_in(period) == date).collect()
    }

    /// Rental and period of each line that billing without a fault leaves, found by looking at each day and each rental: no
    /// planner, no ledger.
    pub fn owed(&self, last: NaiveDate) -> BTreeSet<(String, BillingPeriod)> {
        let mut owed = BTreeSet::new();
        for date in self.tenant.bill_from.iter_days().take_while(|date| *date <= last) {
            let is_last = date.month() != (date + Days::new(1)).month();
            for subject in &self.subjects {
                let day = subject.day.number();
                if date.day() != day && !(is_last && day > date.day()) {
                    continue;
                }
                for rental in subject.members.iter().map(|&n| &self.rentals[n]) {
                    let contract = rental.contract_length.map(|months| add_months(rental.start_date, months));
                    let ended = rental.end_date.into_iter().chain(contract).any(|end| end <= date);
                    if rental.start_date <= date && !ended {
                        owed.insert((rental.rental_id.clone(), BillingPeriod::of(date)));
                    }
                }
            }
        }
        owed
    }
}

fn rental(dice: &mut Dice, n: usize, begin: NaiveDate, currency: Currency) -> Rental {
    // Some from the first day on, some later; ends of months more often than by chance.
    let start = begin + Days::new(dice.below(600) * dice.below(2));
    let start = if dice.below(3) == 0 { BillingPeriod::of(start).last_day() } else { start };
    let end_date = (dice.below(4) == 0).then(|| start + Days::new(30 + dice.below(500)));
    Rental {
        rental_id: format!("R{n}"),
        customer_id: "C".into(),
        monthly_amount: dice.between(0, 99_999),
        currency,
        status: RentalStatus::Active,
        start_date: start,
        end_date,
        contract_length: (dice.below(4) == 0).then(|| dice.between(3, 30) as u32),
        ended_on: None,
        product_name: "Bicycle".into(),
        serial_number: None,
    }
}
