//! The words of what buyers read, mail and PDF alike: one file a language, which a translator can edit; `{…}` stands for what
//! is filled in.

mod english;
mod french;
mod german;

use chrono::{Datelike, NaiveDate};
use serde::Serialize;

use crate::domain::money::format_percent;
use crate::domain::{BillingPeriod, Currency};

/// All the words of one language, and how it writes numbers and dates.
#[derive(Debug, Serialize)]
pub(crate) struct Words {
    /// As HTML wants it in `lang`.
    pub language: &'static str,
    pub thousands: &'static str,
    pub decimal: &'static str,
    pub months: [&'static str; 12],
    /// How the first of a month is written as a day.
    pub first: &'static str,
    /// Of `{day}`, `{month}` and `{year}`.
    pub date: &'static str,
    /// Of `{month}` and `{year}`.
    pub period: &'static str,
    /// From the `{first}` to the `{last}` day of a `{month}` of a `{year}`.
    pub days: &'static str,

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
    pub tax_number: &'static str,
    pub attached: &'static str,
    pub attached_with_xml: &'static str,
    pub not_attached: &'static str,

    pub concerning: &'static str,
    pub position: &'static str,
    pub service_period: &'static str,
    pub quantity: &'static str,
    pub one_month: &'static str,
    pub net_amount: &'static str,
    pub carried_forward: &'static str,
    pub brought_forward: &'static str,
    pub payment_terms: &'static str,
    pub payable_within: &'static str,
    pub payable_at_once: &'static str,
    pub nothing_to_pay: &'static str,
    pub preview: &'static str,
    pub do_not_pay: &'static str,
    pub page: &'static str,
}

impl Words {
    /// The words for a locale such as `de-DE` or `fr_FR`; English where there are none yet.
    pub fn of(locale: &str) -> &'static Self {
        let language = locale.split(['-', '_']).next().unwrap_or_default();
        let known = [&german::GERMAN, &french::FRENCH];
        known.into_iter().find(|words| language.eq_ignore_ascii_case(words.language)).unwrap_or(&english::ENGLISH)
    }

    /// An amount for people, such as `1,377.00 EUR`.
    pub fn money(&self, currency: Currency, minor: i64) -> String {
        format!("{} {currency}", self.amount(currency, minor))
    }

    /// An amount whose currency is said elsewhere, such as `1,377.00`.
    pub fn amount(&self, currency: Currency, minor: i64) -> String {
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
        text
    }

    pub fn rate_number(&self, rate_ppm: i64) -> String {
        format_percent(rate_ppm).replace('.', self.decimal)
    }

    pub fn date(&self, date: NaiveDate) -> String {
        fill(self.date, &[("day", &self.day(date)), ("month", self.month(date)), ("year", &date.year().to_string())])
    }

    /// All days of a period, such as `1–31 July 2026`.
    pub fn days(&self, period: BillingPeriod) -> String {
        let (first, last) = (period.first_day(), period.last_day());
        let values = [
            ("first", &*self.day(first)),
            ("last", &*self.day(last)),
            ("month", self.month(first)),
            ("year", &*first.year().to_string()),
        ];
        fill(self.days, &values)
    }

    fn day(&self, date: NaiveDate) -> String {
        if date.day() == 1 { self.first.to_owned() } else { date.day().to_string() }
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
        for (locale, code, minor, text) in [
            ("en", "EUR", 137_700, "1,377.00 EUR"),
            ("en", "EUR", 5, "0.05 EUR"),
            ("en", "EUR", 99_999, "999.99 EUR"),
            ("en", "EUR", -137_700, "-1,377.00 EUR"),
            ("en", "JPY", 1_377, "1,377 JPY"),
            ("en", "JPY", 377, "377 JPY"),
            ("en", "KWD", 1_234_567_890, "1,234,567.890 KWD"),
            ("en", "EUR", i64::MAX, "92,233,720,368,547,758.07 EUR"),
            ("de-AT", "EUR", 137_700, "1.377,00 EUR"),
            ("fr", "EUR", 137_700, "1 377,00 EUR"),
        ] {
            let money = Words::of(locale).money(Currency::from_code(code).unwrap(), minor);
            assert_eq!(money.replace(['\u{a0}', '\u{202f}'], " "), text);
        }
    }

    #[test]
    fn dates_periods_and_rates_read_as_people_write_them() {
        let first = NaiveDate::from_ymd_opt(2026, 7, 1).unwrap();
        let written = |locale| {
            let words = Words::of(locale);
            let (date, other) = (words.date(first), words.date(first + chrono::Days::new(13)));
            let period = BillingPeriod::of(first);
            [date, other, words.period(period), words.days(period), words.rate_number(75_000)]
                .join("; ")
                .replace('\u{a0}', " ")
        };
        assert_eq!(written("en-GB"), "1 July 2026; 14 July 2026; July 2026; 1–31 July 2026; 7.5");
        assert_eq!(written("de"), "1. Juli 2026; 14. Juli 2026; Juli 2026; 1.–31. Juli 2026; 7,5");
        assert_eq!(written("FR_fr"), "1er juillet 2026; 14 juillet 2026; juillet 2026; 1er–31 juillet 2026; 7,5");
        assert_eq!(written("fa"), written("en"), "a language without words has English ones");
    }

    #[test]
    fn all_languages_fill_in_the_same() {
        let places = |words: &'static Words| -> Vec<String> {
            let Ok(serde_json::Value::Object(words)) = serde_json::to_value(words) else { panic!("no object") };
            let names = |text: &str| {
                let mut names: Vec<String> =
                    text.split('{').skip(1).map(|rest| rest.split('}').next().unwrap().into()).collect();
                names.sort();
                names.join(" ")
            };
            words.iter().map(|(key, value)| format!("{key}: {}", names(value.as_str().unwrap_or_default()))).collect()
        };
        for locale in ["de", "fr"] {
            assert_eq!(places(Words::of(locale)), places(Words::of("en")), "{locale}");
        }
    }

    #[test]
    fn a_value_that_looks_like_a_placeholder_stays_what_it_is() {
        assert_eq!(fill("{a} and {b}", &[("a", "{b}"), ("b", "x")]), "{b} and x");
        assert_eq!(fill("no end {a", &[("a", "x")]), "no end x");
    }
}
