//! Amounts of money: whole minor units of an ISO 4217 currency, exact at every step (rule 13).
//!
//! Inside the program an amount is an `i64` of minor units next to its [`Currency`]. Decimals exist only at the edges, and
//! no float exists anywhere: text is read digit by digit and written digit by digit.

use rust_decimal::Decimal;

/// The largest amount that input may hold, in major units (rule 13).
pub const AMOUNT_MAJOR_MAX: i64 = 999_999_999_999;

/// An ISO 4217 currency that has minor units, so that amounts in it can be exact.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// Looks an alphabetic code up; `None` for an unknown one and for those without minor units (gold, test codes).
    pub fn from_code(code: &str) -> Option<Self> {
        let currency = iso_currency::Currency::from_code(code)?;
        currency.exponent().map(|_| Self(currency))
    }

    /// The three letters, such as `EUR`.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// How many digits follow the decimal separator: JPY 0, EUR 2, KWD 3.
    pub fn digits(self) -> u32 {
        u32::from(self.0.exponent().unwrap_or(0))
    }

    /// Reads an amount in major units into minor units: not negative, no more digits than the currency has, bounded.
    pub fn parse_amount(self, text: &str) -> Result<i64, NumberError> {
        let minor = parse_scaled(text, self.digits())?;
        if minor < 0 {
            return Err(NumberError::Negative);
        }
        if minor > AMOUNT_MAJOR_MAX * 10_i64.pow(self.digits()) {
            return Err(NumberError::TooLarge);
        }
        Ok(minor)
    }

    /// Writes minor units as major units with exactly the currency's digits: `377.00`, JPY `377`, KWD `377.000`.
    pub fn format(self, minor: i64) -> String {
        Decimal::new(minor, self.digits()).to_string()
    }

    /// Writes a sum as [`format`](Self::format) does; it may be wider than any one amount.
    pub fn format_sum(self, minor: i128) -> String {
        let digits = self.digits() as usize;
        let sign = if minor < 0 { "-" } else { "" };
        let text = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
        let (whole, fraction) = text.split_at(text.len() - digits);
        if digits == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }
}

impl std::fmt::Display for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl std::fmt::Debug for Currency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

/// Why a decimal was refused; reads as the end of a sentence that names the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    #[error("is not a decimal number")]
    NotANumber,
    #[error("must not be negative")]
    Negative,
    #[error("has more than {0} decimal places")]
    TooManyDigits(u32),
    #[error("is too large")]
    TooLarge,
}

/// Reads a decimal, in plain or scientific form, into a whole number of `10^-digits`; exact or refused.
///
/// Trailing zeros do not count as digits (rule 13): `12.300` is fine with two of them.
pub fn parse_scaled(text: &str, digits: u32) -> Result<i64, NumberError> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || mantissa.ends_with('.') || !all_digits(whole) || !all_digits(fraction) {
        return Err(NumberError::NotANumber);
    }
    let digits_text = format!("{whole}{fraction}");
    let significant = digits_text.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    // The value is significant × 10^scale.
    let trailing_zeros = digits_text.len() - digits_text.trim_end_matches('0').len();
    let scale = exponent + trailing_zeros as i64 - fraction.len() as i64;
    if scale < -i64::from(digits) {
        return Err(NumberError::TooManyDigits(digits));
    }
    let zeros = scale + i64::from(digits);
    if significant.len() as i64 + zeros > 19 {
        return Err(NumberError::TooLarge);
    }
    let padded = format!("{significant}{:0<width$}", "", width = zeros as usize);
    let value: i64 = padded.parse().map_err(|_| NumberError::TooLarge)?;
    Ok(if negative { -value } else { value })
}

/// Reads the exponent of a JSON number; one beyond any use is cut to where the result is refused as too large or small.
fn parse_exponent(text: &str) -> Result<i64, NumberError> {
    let (sign, digits) = match text.as_bytes().first() {
        Some(b'-') => (-1, &text[1..]),
        Some(b'+') => (1, &text[1..]),
        _ => (1, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberError::NotANumber);
    }
    Ok(sign * digits.parse::<i64>().unwrap_or(i64::MAX).min(1_000_000))
}

/// Writes a tax rate held in parts per million as a percentage without needless zeros: 190000 is `19`, 75000 is `7.5`.
pub fn format_percent(rate_ppm: i64) -> String {
    Decimal::new(rate_ppm, 4).normalize().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::from_code(code).unwrap()
    }

    #[test]
    fn amounts_are_read_exactly_in_any_json_form() {
        for (code, text, minor) in [
            ("EUR", "377.00", 37_700),
            ("EUR", "377", 37_700),
            ("EUR", "0", 0),
            ("EUR", "-0", 0),
            ("EUR", "1.5e2", 15_000),
            ("EUR", "15000E-2", 15_000),
            ("EUR", "15E+1", 15_000),
            ("EUR", "0.0000001e7", 100),
            ("EUR", "12.3400000000000000000000000000000000000", 1_234),
            ("JPY", "377", 377),
            ("JPY", "377.0", 377),
            ("KWD", "377.001", 377_001),
            ("EUR", "999999999999", 99_999_999_999_900),
            ("EUR", "0.10", 10),
            ("EUR", "0e400", 0),
        ] {
            assert_eq!(currency(code).parse_amount(text), Ok(minor), "{code} {text}");
        }
    }

    #[test]
    fn an_amount_that_is_not_exact_is_refused_and_never_rounded() {
        use NumberError::*;
        for (code, text, error) in [
            ("EUR", "12.345", TooManyDigits(2)),
            ("JPY", "100.5", TooManyDigits(0)),
            ("EUR", "1e400", TooLarge),
            ("EUR", "1e99999999999999999999", TooLarge),
            ("EUR", "1e-400", TooManyDigits(2)),
            ("EUR", "-1", Negative),
            ("EUR", "999999999999.01", TooLarge),
            ("EUR", "1000000000000", TooLarge),
            ("EUR", "NaN", NotANumber),
            ("EUR", "", NotANumber),
            ("EUR", ".5", NotANumber),
            ("EUR", "5.", NotANumber),
            ("EUR", "5.0x", NotANumber),
            ("EUR", "1e", NotANumber),
            ("EUR", "1e+", NotANumber),
            ("EUR", "1e1.5", NotANumber),
            ("EUR", "99999999999999999.99", TooLarge),
            ("EUR", "100000000000000000", TooLarge),
            ("EUR", "1_000", NotANumber),
            ("EUR", "+5", NotANumber),
            ("EUR", "1,5", NotANumber),
            ("EUR", "0x10", NotANumber),
            ("EUR", "٣", NotANumber),
        ] {
            assert_eq!(currency(code).parse_amount(text), Err(error), "{code} {text}");
        }
    }

    #[test]
    fn amounts_are_written_with_exactly_the_digits_of_their_currency() {
        assert_eq!(currency("EUR").format(37_700), "377.00");
        assert_eq!(currency("JPY").format(377), "377");
        assert_eq!(currency("KWD").format(377_000), "377.000");
        assert_eq!(currency("EUR").format(5), "0.05");
        assert_eq!(currency("EUR").format(i64::MAX), "92233720368547758.07");
    }

    #[test]
    fn a_sum_may_be_wider_than_any_amount() {
        assert_eq!(currency("EUR").format_sum(i128::from(i64::MAX) * 10), "922337203685477580.70");
        assert_eq!(currency("EUR").format_sum(5), "0.05");
        assert_eq!(currency("EUR").format_sum(0), "0.00", "nothing is not negative");
        assert_eq!(currency("EUR").format_sum(-5), "-0.05");
        assert_eq!(currency("JPY").format_sum(377), "377");
        assert_eq!(currency("KWD").format_sum(377_000), "377.000");
    }

    #[test]
    fn codes_without_minor_units_are_no_currency_to_bill_in() {
        for code in ["XXX", "XAU", "AAA", "eur", ""] {
            assert_eq!(Currency::from_code(code), None, "{code}");
        }
    }

    #[test]
    fn rates_are_written_without_needless_zeros() {
        assert_eq!(format_percent(190_000), "19");
        assert_eq!(format_percent(75_000), "7.5");
        assert_eq!(format_percent(81_001), "8.1001");
        assert_eq!(format_percent(0), "0");
        assert_eq!(format_percent(1_000_000), "100");
    }

    #[test]
    fn a_number_is_read_up_to_the_largest_that_fits_on_either_side_of_zero() {
        for (text, digits, number) in [
            ("9223372036854775807", 0, Ok(i64::MAX)),
            ("9223372036854775808", 0, Err(NumberError::TooLarge)),
            ("-9223372036854775807", 0, Ok(-i64::MAX)),
            ("9.223372036854775807", 18, Ok(i64::MAX)),
            ("1000000000000000000", 0, Ok(1_000_000_000_000_000_000)),
            ("1000000000000000000", 1, Err(NumberError::TooLarge)),
            ("-1.05", 2, Ok(-105)),
            ("-1.005", 2, Err(NumberError::TooManyDigits(2))),
        ] {
            assert_eq!(parse_scaled(text, digits), number, "{text} {digits}");
        }
    }

    #[test]
    fn a_currency_is_shown_by_its_code() {
        assert_eq!(format!("{} {:?} {}", currency("EUR"), currency("JPY"), currency("KWD").code()), "EUR JPY KWD");
    }
}
