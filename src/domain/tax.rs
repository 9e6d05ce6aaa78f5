//! Tax on a payment, and its share-out over the lines (rule 15).

use std::cmp::Reverse;

/// Whether a tenant's prices are net (tax is added) or gross (tax is contained).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaxMode {
    Exclusive,
    Inclusive,
}

/// How a customer is taxed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaxTreatment {
    Standard,
    Exempt,
    ReverseCharge,
}

/// What a customer is taxed with: the tenant's mode, and its rate unless the treatment takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaxRule {
    pub mode: TaxMode,
    /// Parts per million: 19 % is 190,000. At most 1,000,000.
    pub rate_ppm: i64,
}

/// The tax of one payment and of each of its lines, in minor units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taxed {
    pub subtotal: i64,
    pub tax_amount: i64,
    pub total: i64,
    /// Net amount and tax of each line, in the order of the prices given; they add up to `subtotal` and `tax_amount`.
    pub lines: Vec<TaxedLine>,
}

/// One line's part of a payment, in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaxedLine {
    pub amount: i64,
    pub tax_amount: i64,
}

impl TaxRule {
    /// Computes the tax once on the sum of `prices` and shares it out; `None` if a sum exceeds 2^63 − 1 minor units.
    ///
    /// Prices are minor units of one currency, none negative: net in exclusive mode, gross in inclusive mode. At rate 0
    /// the price is charged as it stands in either mode.
    pub fn apply(self, prices: &[i64]) -> Option<Taxed> {
        let sum = i64::try_from(prices.iter().map(|&p| i128::from(p)).sum::<i128>()).ok()?;
        let tax = self.tax_on(sum);
        let total = match self.mode {
            TaxMode::Exclusive => i64::try_from(i128::from(sum) + tax).ok()?,
            TaxMode::Inclusive => sum,
        };
        // It is part of a total that fits.
        let tax_amount = tax as i64;
        let lines = share_out(tax, i128::from(sum), prices)
            .into_iter()
            .zip(prices)
            .map(|(tax_amount, &price)| match self.mode {
                TaxMode::Exclusive => TaxedLine { amount: price, tax_amount },
                TaxMode::Inclusive => TaxedLine { amount: price - tax_amount, tax_amount },
            })
            .collect();
        Some(Taxed { subtotal: total - tax_amount, tax_amount, total, lines })
    }

    /// The tax on a sum of prices, net or gross as the mode says; neither it nor the rate is negative.
    pub fn tax_on(self, sum: i64) -> i128 {
        let rate = i128::from(self.rate_ppm);
        let whole = match self.mode {
            TaxMode::Exclusive => MILLION,
            TaxMode::Inclusive => MILLION + rate,
        };
        divide_half_away(i128::from(sum) * rate, whole)
    }
}

const MILLION: i128 = 1_000_000;

/// Divides and rounds half away from zero; neither number is negative here.
fn divide_half_away(numerator: i128, denominator: i128) -> i128 {
    (2 * numerator + denominator) / (2 * denominator)
}

/// Gives each price the floor of its part of `tax`, then the units left over to the largest fractions, earlier line first.
fn share_out(tax: i128, sum: i128, prices: &[i64]) -> Vec<i64> {
    if sum == 0 {
        return vec![0; prices.len()];
    }
    let mut shares = Vec::with_capacity(prices.len());
    let mut fractions = Vec::with_capacity(prices.len());
    let mut left = tax;
    for (index, &price) in prices.iter().enumerate() {
        let product = tax * i128::from(price);
        let floor = product / sum;
        left -= floor;
        // A share is at most the whole tax, which the caller has found to fit.
        shares.push(floor as i64);
        fractions.push((product % sum, index));
    }
    // Stable, so that equal fractions keep the order of the lines.
    fractions.sort_by_key(|(fraction, _)| Reverse(*fraction));
    for &(_, index) in fractions.iter().take(left as usize) {
        shares[index] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(mode: TaxMode, rate_ppm: i64) -> TaxRule {
        TaxRule { mode, rate_ppm }
    }

    #[test]
    fn three_net_lines_at_19_percent_share_the_tax_as_the_rule_book_says() {
        let taxed = rule(TaxMode::Exclusive, 190_000).apply(&[3_333, 3_333, 3_334]).unwrap();
        assert_eq!((taxed.subtotal, taxed.tax_amount, taxed.total), (10_000, 1_900, 11_900));
        let taxes: Vec<i64> = taxed.lines.iter().map(|l| l.tax_amount).collect();
        assert_eq!(taxes, [633, 633, 634]);
    }

    #[test]
    fn a_gross_price_contains_its_tax() {
        let taxed = rule(TaxMode::Inclusive, 190_000).apply(&[11_900]).unwrap();
        assert_eq!((taxed.subtotal, taxed.tax_amount, taxed.total), (10_000, 1_900, 11_900));
        assert_eq!(taxed.lines, [TaxedLine { amount: 10_000, tax_amount: 1_900 }]);
    }

    #[test]
    fn at_rate_zero_the_price_is_charged_as_it_stands_in_either_mode() {
        for mode in [TaxMode::Exclusive, TaxMode::Inclusive] {
            let taxed = rule(mode, 0).apply(&[129, 0]).unwrap();
            assert_eq!((taxed.subtotal, taxed.tax_amount, taxed.total), (129, 0, 129));
        }
    }

    #[test]
    fn half_a_minor_unit_is_rounded_away_from_zero() {
        // 2.50 at 1 % is 0.025: 0.03 (banker's rounding would give 0.02).
        assert_eq!(rule(TaxMode::Exclusive, 10_000).apply(&[250]).unwrap().tax_amount, 3);
    }

    #[test]
    fn equal_fractions_go_to_the_earlier_line() {
        let taxed = rule(TaxMode::Exclusive, 500_000).apply(&[1, 1, 1, 1, 1]).unwrap();
        let taxes: Vec<i64> = taxed.lines.iter().map(|l| l.tax_amount).collect();
        assert_eq!(taxes, [1, 1, 1, 0, 0]);
    }

    #[test]
    fn a_sum_beyond_63_bits_is_none_with_and_without_its_tax() {
        let exclusive = rule(TaxMode::Exclusive, 190_000);
        assert_eq!(exclusive.apply(&[i64::MAX, 1]), None);
        assert_eq!(exclusive.apply(&[i64::MAX]), None);
        assert_eq!(rule(TaxMode::Inclusive, 190_000).apply(&[i64::MAX, 1]), None);
        assert!(rule(TaxMode::Exclusive, 0).apply(&[i64::MAX]).is_some());
        assert!(rule(TaxMode::Inclusive, 190_000).apply(&[i64::MAX]).is_some());
    }

    proptest! {
        #[test]
        fn lines_always_add_up_to_the_payment(
            prices in prop::collection::vec(0..2_000_000_i64, 1..60), rate in 0..=1_000_000_i64, inclusive: bool,
        ) {
            let mode = if inclusive { TaxMode::Inclusive } else { TaxMode::Exclusive };
            let taxed = rule(mode, rate).apply(&prices).unwrap();
            prop_assert_eq!(taxed.lines.iter().map(|l| l.amount).sum::<i64>(), taxed.subtotal);
            prop_assert_eq!(taxed.lines.iter().map(|l| l.tax_amount).sum::<i64>(), taxed.tax_amount);
            prop_assert_eq!(taxed.subtotal + taxed.tax_amount, taxed.total);
            let priced: i64 = prices.iter().sum();
            prop_assert_eq!(if inclusive { taxed.total } else { taxed.subtotal }, priced);
            prop_assert!(taxed.lines.iter().all(|l| l.amount >= 0 && l.tax_amount >= 0));
        }
    }
}
