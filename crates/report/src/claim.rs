//! Claims: sentences about the world that a run can prove false.

use std::fmt::{Debug, Display};

use crate::cell::{Number, group_digits};
use crate::record::{ClaimRecord, ClaimValue};

/// A claim whose bound is still to be stated: `page.claim("recall is high").at_least(recall, 0.9)`.
///
/// A claim without a bound, a number that is not finite, and an empty set all count as failed.
#[must_use = "state the bound: a claim without one fails the listing"]
#[derive(Debug)]
pub struct Claim<'a> {
    record: &'a mut ClaimRecord,
    within: Option<f64>,
}

/// How far a claim's value may move, as a share of the larger of value and bound, before the committed output counts as
/// changed. The bound itself decides whether the claim holds; this only notices drift.
const DRIFT: f64 = 0.05;

impl<'a> Claim<'a> {
    pub(crate) fn new(record: &'a mut ClaimRecord) -> Self {
        Self { record, within: None }
    }

    /// Sets the absolute tolerance with which the value is compared with the committed output (default: 5 % of the larger
    /// of value and bound). It has no say in whether the claim holds.
    pub fn within(mut self, tolerance: f64) -> Self {
        self.within = Some(tolerance);
        self
    }

    /// `value` equals `expected` exactly: counts, ids, rankings, texts, and floats that must agree to the bit.
    #[allow(clippy::needless_pass_by_value, reason = "a claim reads better without ampersands")]
    pub fn equals<A: PartialEq<B> + Debug, B: Debug>(self, value: A, expected: B) {
        self.record.held = value == expected;
        self.record.value = ClaimValue::Text(brief(&format!("{value:?}")));
        self.record.bound = format!("= {}", brief(&format!("{expected:?}")));
    }

    /// `|value - expected| <= tolerance`.
    pub fn close(self, value: impl Number, expected: impl Number, tolerance: impl Number) {
        let (value, expected, tolerance) = (value.to_f64(), expected.to_f64(), tolerance.to_f64());
        let held = tolerance.is_finite() && (value - expected).abs() <= tolerance;
        let within = self.within.or(Some(tolerance));
        Self { within, ..self }.settle(
            held,
            value,
            expected,
            format!("= {} ± {}", shown(expected, tolerance), shown(tolerance, 0.0)),
        );
    }

    /// `value >= bound`.
    pub fn at_least(self, value: impl Number, bound: impl Number) {
        let (value, bound) = (value.to_f64(), bound.to_f64());
        self.settle(value >= bound, value, bound, format!(">= {}", shown(bound, 0.0)));
    }

    /// `value <= bound`.
    pub fn at_most(self, value: impl Number, bound: impl Number) {
        let (value, bound) = (value.to_f64(), bound.to_f64());
        self.settle(value <= bound, value, bound, format!("<= {}", shown(bound, 0.0)));
    }

    /// `value > bound`.
    pub fn greater(self, value: impl Number, bound: impl Number) {
        let (value, bound) = (value.to_f64(), bound.to_f64());
        self.settle(value > bound, value, bound, format!("> {}", shown(bound, 0.0)));
    }

    /// `value < bound`.
    pub fn less(self, value: impl Number, bound: impl Number) {
        let (value, bound) = (value.to_f64(), bound.to_f64());
        self.settle(value < bound, value, bound, format!("< {}", shown(bound, 0.0)));
    }

    /// `low <= value <= high`.
    pub fn between(self, value: impl Number, low: impl Number, high: impl Number) {
        let (value, low, high) = (value.to_f64(), low.to_f64(), high.to_f64());
        let bound = if low.is_finite() { high } else { low };
        self.settle(
            low <= value && value <= high,
            value,
            bound,
            format!("in [{}, {}]", shown(low, 0.0), shown(high, 0.0)),
        );
    }

    /// Every item satisfies the predicate, and there is at least one.
    pub fn all<I: IntoIterator>(self, items: I, mut predicate: impl FnMut(I::Item) -> bool) {
        let (mut total, mut failed, mut first) = (0_usize, 0_usize, None);
        for item in items {
            if !predicate(item) {
                failed += 1;
                first.get_or_insert(total);
            }
            total += 1;
        }
        self.record.held = total > 0 && failed == 0;
        let first = first.map_or(String::new(), |i| format!(" (the first at position {i})"));
        self.record.value = ClaimValue::Text(format!("{failed} of {total} fail{first}"));
        self.record.bound = if total == 0 { "none fail, and there is at least one" } else { "none fail" }.to_string();
    }

    /// The result is an error whose message contains `part`.
    pub fn fails<T, E: Display>(self, result: Result<T, E>, part: &str) {
        let message = result.err().map(|error| format!("{error:#}"));
        self.record.held = !part.is_empty() && message.as_ref().is_some_and(|message| message.contains(part));
        self.record.value = ClaimValue::Text(message.map_or("it succeeded".to_string(), |message| brief(&message)));
        self.record.bound = format!("an error that says \"{part}\"");
    }

    fn settle(self, held: bool, value: f64, bound: f64, text: String) {
        self.record.held = held && value.is_finite() && bound.is_finite();
        self.record.value = ClaimValue::Number {
            value,
            within: self.within.unwrap_or_else(|| two_digits(DRIFT * value.abs().max(bound.abs()))),
        };
        self.record.bound = text;
    }
}

/// Two significant digits, rounded up or down: tolerances need no more.
fn two_digits(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

/// A bound or value as text: six significant digits, or as many as a tolerance calls for.
pub(crate) fn shown(value: f64, within: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor();
    if !(-3.0..15.0).contains(&magnitude) {
        let text = format!("{value:.5e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", without_trailing_zeros(mantissa));
    }
    let wanted = if within > 0.0 { (-within.log10()).ceil() } else { 0.0 };
    let decimals = wanted.max(5.0 - magnitude).min(14.0 - magnitude).max(0.0) as usize;
    group_digits(without_trailing_zeros(&format!("{value:.decimals$}")))
}

fn without_trailing_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// At most 72 characters of a text, so that a claim stays one line.
fn brief(text: &str) -> String {
    const LIMIT: usize = 72;
    let line = text.replace('\n', " ");
    if line.chars().count() <= LIMIT { line } else { line.chars().take(LIMIT - 3).chain("...".chars()).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(state: impl FnOnce(Claim<'_>)) -> ClaimRecord {
        let mut record = ClaimRecord::unstated("a sentence");
        state(Claim::new(&mut record));
        record
    }

    fn held(state: impl FnOnce(Claim<'_>)) -> bool {
        outcome(state).held
    }

    #[test]
    fn each_bound_holds_on_its_side_only() {
        assert!(held(|c| c.equals(0.5, 0.5)) && !held(|c| c.equals(0.5, 0.25)));
        assert!(held(|c| c.equals(vec![(4, 2), (5, 1)], [(4, 2), (5, 1)])) && !held(|c| c.equals("a", "b")));
        assert!(held(|c| c.close(1.0, 1.05, 0.1)) && !held(|c| c.close(1.0, 1.2, 0.1)));
        assert!(held(|c| c.at_least(0.9_f32, 0.5)) && held(|c| c.at_least(2, 2)) && !held(|c| c.at_least(1, 2)));
        assert!(held(|c| c.at_most(1, 1.0)) && !held(|c| c.at_most(2_usize, 1)));
        assert!(held(|c| c.greater(2, 1)) && !held(|c| c.greater(1, 1)));
        assert!(held(|c| c.less(1, 2)) && !held(|c| c.less(1, 1)));
        assert!(held(|c| c.between(1.5, 1, 2)) && !held(|c| c.between(2.5, 1, 2)) && !held(|c| c.between(1.5, 2, 1)));
        assert!(held(|c| c.all([2, 4], |n| n % 2 == 0)) && !held(|c| c.all([2, 3], |n| n % 2 == 0)));
        assert!(held(|c| c.all(&[2, 4], |n| *n > 1)));
        assert!(held(|c| c.fails(Err::<(), _>("rate 1.2 is above 1"), "above 1")));
        assert!(!held(|c| c.fails(Err::<(), _>("rate 1.2 is above 1"), "negative")));
        assert!(!held(|c| c.fails(Ok::<_, String>(3), "above 1")));
    }

    #[test]
    fn nothing_vacuous_holds() {
        let nan = f64::NAN;
        assert!(!held(|c| c.equals(nan, nan)));
        assert!(
            !held(|c| c.close(nan, 1.0, 1.0)) && !held(|c| c.close(1.0, nan, 1.0)) && !held(|c| c.close(1.0, 1.0, nan))
        );
        assert!(!held(|c| c.close(1.0, 2.0, f64::INFINITY)) && !held(|c| c.close(1.0, 1.0, -0.1)));
        assert!(!held(|c| c.at_least(nan, 0.0)) && !held(|c| c.at_least(1.0, nan)));
        assert!(!held(|c| c.at_least(1.0, f64::NEG_INFINITY)) && !held(|c| c.at_least(f64::INFINITY, 1.0)));
        assert!(!held(|c| c.at_most(nan, 0.0)) && !held(|c| c.at_most(0.0, f64::INFINITY)));
        assert!(!held(|c| c.greater(nan, 0.0)) && !held(|c| c.less(nan, 0.0)) && !held(|c| c.less(1.0, f64::INFINITY)));
        assert!(!held(|c| c.between(nan, 0, 1)) && !held(|c| c.between(0.5, 0, f64::INFINITY)));
        assert!(!held(|c| c.between(0.5, f64::NEG_INFINITY, 1)));
        assert!(!held(|c| c.all(Vec::<u32>::new(), |_| true)));
        assert!(!held(|c| c.fails(Err::<(), _>("anything"), "")));
        assert!(!ClaimRecord::unstated("never bounded").held);
    }

    #[test]
    fn the_text_says_what_was_measured_and_what_was_wanted() {
        let claim = outcome(|c| c.at_least(0.123_456_78, 0.5));
        assert_eq!((claim.value.to_string().as_str(), claim.bound.as_str()), ("0.123457", ">= 0.5"));
        let claim = outcome(|c| c.all(0..500, |n| n < 100));
        assert_eq!(claim.value.to_string(), "400 of 500 fail (the first at position 100)");
        let claim = outcome(|c| c.fails(Ok::<_, String>(()), "refused"));
        assert_eq!(
            (claim.value.to_string().as_str(), claim.bound.as_str()),
            ("it succeeded", "an error that says \"refused\"")
        );
        let claim = outcome(|c| c.equals(vec![1; 200], vec![1; 200]));
        assert!(claim.held && claim.value.to_string().ends_with("..."));
        assert_eq!(outcome(|c| c.close(786_432_000_000_000_000_u64, 7.864_32e17, 0)).value.to_string(), "7.86432e17");
    }

    #[test]
    fn an_error_chain_is_searched_whole() {
        let chain = anyhow::anyhow!("inner cause").context("outer words");
        assert!(held(|c| c.fails(Err::<(), _>(chain), "inner cause")));
    }
}
