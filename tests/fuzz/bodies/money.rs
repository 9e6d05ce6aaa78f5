//! Amounts: read exactly or refused with the right reason, and written as they are read.

use billday::domain::Currency;
use billday::domain::money::{AMOUNT_MAJOR_MAX, NumberError, parse_scaled};

/// Any text as an amount in currencies of each precision, and the input's bytes as amounts to add up.
pub fn money(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for (code, digits) in [("JPY", 0), ("EUR", 2), ("KWD", 3), ("CLF", 4)] {
        let currency = Currency::from_code(code).expect(code);
        assert_eq!(currency.digits(), digits);
        amount(currency, &text);
        sum(currency, data);
    }
}

fn amount(currency: Currency, text: &str) {
    let read = currency.parse_amount(text);
    if let Some(expected) = by_hand(text, currency.digits()) {
        assert_eq!(parse_scaled(text, currency.digits()), expected, "{text:?} in {currency}");
        let limit = AMOUNT_MAJOR_MAX * 10_i64.pow(currency.digits());
        let bounded = expected.and_then(|minor| match minor {
            ..0 => Err(NumberError::Negative),
            _ if minor > limit => Err(NumberError::TooLarge),
            _ => Ok(minor),
        });
        assert_eq!(read, bounded, "{text:?} in {currency}");
    }
    if let Ok(minor) = read {
        assert!(minor >= 0);
        let written = currency.format(minor);
        assert_eq!(currency.parse_amount(&written), Ok(minor), "{text:?} is written as {written}");
        let fraction = written.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        assert_eq!(fraction, currency.digits() as usize, "{written} in {currency}");
    }
}

/// The text as a multiple of 10^-digits by whole numbers alone; `None` if they are too long for that.
fn by_hand(text: &str, digits: u32) -> Option<Result<i64, NumberError>> {
    let Some((negative, whole, fraction, exponent)) = grammar(text) else { return Some(Err(NumberError::NotANumber)) };
    let coefficient: i128 = format!("{whole}{fraction}").parse().ok()?;
    let exponent: i64 = exponent.parse().ok()?;
    if coefficient == 0 {
        return Some(Ok(0));
    }
    let shift = exponent.checked_add(i64::from(digits))?.checked_sub(fraction.len() as i64)?;
    let power = u32::try_from(shift.unsigned_abs()).ok().and_then(|shift| 10_i128.checked_pow(shift));
    let minor = match (shift >= 0, power) {
        (true, power) => power.and_then(|power| coefficient.checked_mul(power)).ok_or(NumberError::TooLarge),
        (false, Some(power)) if coefficient % power == 0 => Ok(coefficient / power),
        (false, _) => Err(NumberError::TooManyDigits(digits)),
    };
    let signed = minor.map(|minor| if negative { -minor } else { minor });
    Some(signed.and_then(|minor| match i64::try_from(minor) {
        // The one number whose opposite does not fit is as large as those beside it.
        Ok(i64::MIN) | Err(_) => Err(NumberError::TooLarge),
        Ok(minor) => Ok(minor),
    }))
}

/// Sign, digits before and after the point, and exponent of what is written as JSON writes numbers, leading zeros aside.
fn grammar(text: &str) -> Option<(bool, &str, &str, &str)> {
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let good = digits(whole)
        && (digits(fraction) || !mantissa.contains('.'))
        && digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    good.then_some((negative, whole, fraction, exponent))
}

fn sum(currency: Currency, data: &[u8]) {
    let mut sum = 0_i128;
    // A few show as much as many, and in a tenth of the time.
    for bytes in data.chunks_exact(8).take(4) {
        let minor = i64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        assert_eq!(currency.format(minor), currency.format_sum(i128::from(minor)));
        sum += i128::from(minor);
        let written = currency.format_sum(sum);
        assert_eq!(written.replace('.', "").parse(), Ok(sum), "{written}");
        let point = written.len() - currency.digits() as usize;
        assert!(currency.digits() == 0 || written.as_bytes()[point - 1] == b'.', "{written} in {currency}");
    }
}
