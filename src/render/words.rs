//! The words of what people read, one value a language; `{…}` stands for what is filled in.

use chrono::{Datelike, NaiveDate};
use serde::Serialize;

use crate::domain::{BillingPeriod, Currency};

/// All the words of one language, and how it writes numbers and dates.
#[derive(Debug, Serialize)]
pub(crate) struct Words {
    /// As HTML wants it in `lang`.
    pub language: &'static str,
    pub thousands: &'static str,
    pub decimal: &'static str,
    pub months: [&'static str; 12],
    /// Of `{day}`, `{month}` and `{year}`.
    pub date: &'static str,
    /// Of `{month}` and `{year}`.
    pub period: &'static str,

    pub subject: &'static str,
    pub subject_without_seller: &'static str,
    pub greeting: &'static str,
    pub greeting_without_name: &'static str,
    pub intro: &'static str,
    pub intro_paid: &'static str,
    pub invoice: &'static str,
    pub invoice_number: &'static str,
    pub issue_date: &'static str,
    pub due_date: &'static str,
    pub billing_period: &'static str,
    pub bill_to: &'static str,
    pub reference: &'static str,
    pub product: &'static str,
    pub amount: &'static str,
    pub serial: &'static str,
    pub rental: &'static str,
    pub arrears: &'static str,
    pub more_line: &'static str,
    pub more_lines: &'static str,
    pub subtotal: &'static str,
    pub tax: &'static str,
    pub total: &'static str,
    pub amount_due: &'static str,
    pub exempt: &'static str,
    pub reverse_charge: &'static str,
    pub pay_to: &'static str,
    pub account_holder: &'static str,
    pub iban: &'static str,
    pub bic: &'static str,
    pub payment_reference: &'static str,
    pub pay_by: &'static str,
    pub questions: &'static str,
    pub vat_id: &'static str,
}

const ENGLISH: Words = Words {
    language: "en",
    thousands: ",",
    decimal: ".",
    months: [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
    date: "{day} {month} {year}",
    period: "{month} {year}",

    subject: "Invoice {number} from {seller}",
    subject_without_seller: "Invoice {number}",
    greeting: "Hello {name},",
    greeting_without_name: "Hello,",
    intro: "Here is your invoice for {subject}. Please pay {total} by {due}.",
    intro_paid: "Here is your invoice for {subject}. It is already paid; there is nothing left to do.",
    invoice: "Invoice",
    invoice_number: "Invoice number",
    issue_date: "Issue date",
    due_date: "Due date",
    billing_period: "Billing period",
    bill_to: "Bill to",
    reference: "Your reference",
    product: "Product",
    amount: "Net amount",
    serial: "Serial number {serial}",
    rental: "Rental {rental}",
    arrears: "{period} (arrears)",
    more_line: "1 more line",
    more_lines: "{count} more lines",
    subtotal: "Subtotal",
    tax: "Tax ({rate}%)",
    total: "Total",
    amount_due: "Amount due",
    exempt: "Exempt from tax.",
    reverse_charge: "Reverse charge: the recipient is liable for the tax.",
    pay_to: "Payment details",
    account_holder: "Account holder",
    iban: "IBAN",
    bic: "BIC",
    payment_reference: "Reference",
    pay_by: "Please pay by {due}, with the invoice number as reference.",
    questions: "Questions about this invoice? Write to {email}.",
    vat_id: "VAT ID {vat}",
};

impl Words {
    /// The words for a locale such as `de-DE`; English where there are none yet.
    pub fn of(_locale: &str) -> &'static Self {
        &ENGLISH
    }

    /// An amount for people, such as `1,377.00 EUR`.
    pub fn money(&self, currency: Currency, minor: i64) -> String {
        let plain = currency.format(minor);
        let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
        let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
        let mut text = sign.to_owned();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push_str(self.thousands);
            }
            text.push(digit);
        }
        if !fraction.is_empty() {
            text.push_str(self.decimal);
            text.push_str(fraction);
        }
        format!("{text} {currency}")
    }

    pub fn date(&self, date: NaiveDate) -> String {
        let (day, year) = (date.day().to_string(), date.year().to_string());
        fill(self.date, &[("day", &day), ("month", self.month(date)), ("year", &year)])
    }

    pub fn period(&self, period: BillingPeriod) -> String {
        let first = period.first_day();
        fill(self.period, &[("month", self.month(first)), ("year", &first.year().to_string())])
    }

    fn month(&self, date: NaiveDate) -> &'static str {
        self.months[date.month0() as usize]
    }
}

/// Puts values into the `{…}` of a text; what a value holds is never read as one of them.
pub(crate) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        filled.push_str(before);
        filled.push_str(values.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value));
        rest = after;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_grouped_for_people_and_stay_exact() {
        for (code, minor, text) in [
            ("EUR", 137_700, "1,377.00 EUR"),
            ("EUR", 5, "0.05 EUR"),
            ("EUR", 99_999, "999.99 EUR"),
            ("EUR", -137_700, "-1,377.00 EUR"),
            ("JPY", 1_377, "1,377 JPY"),
            ("JPY", 377, "377 JPY"),
            ("KWD", 1_234_567_890, "1,234,567.890 KWD"),
            ("EUR", i64::MAX, "92,233,720,368,547,758.07 EUR"),
        ] {
            assert_eq!(ENGLISH.money(Currency::from_code(code).unwrap(), minor), text);
        }
    }

    #[test]
    fn dates_and_periods_read_as_people_write_them() {
        let date = NaiveDate::from_ymd_opt(2026, 7, 1).unwrap();
        assert_eq!(ENGLISH.date(date), "1 July 2026");
        assert_eq!(ENGLISH.period(BillingPeriod::of(date)), "July 2026");
    }

    #[test]
    fn a_value_that_looks_like_a_placeholder_stays_what_it_is() {
        assert_eq!(fill("{a} and {b}", &[("a", "{b}"), ("b", "x")]), "{b} and x");
        assert_eq!(fill("no end {a", &[("a", "x")]), "no end x");
    }
}
