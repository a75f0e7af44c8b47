//! Typed table cells: what a person reads, and the value and tolerance that a test compares.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Any number that a cell, a claim or a chart takes. All are carried as `f64`.
pub trait Number: Copy {
    /// The value as `f64`; integers beyond 2^53 are rounded.
    fn to_f64(self) -> f64;
}

macro_rules! numbers {
    ($($kind:ty),*) => {
        $(impl Number for $kind {
            fn to_f64(self) -> f64 {
                self as f64
            }
        })*
    };
}
numbers!(f32, f64, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

impl<N: Number> Number for &N {
    fn to_f64(self) -> f64 {
        (*self).to_f64()
    }
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Fixed decimals.
    Plain,
    /// A fraction shown as a percentage.
    Percent,
    /// US dollars.
    Money,
    /// Mantissa and power of ten.
    Scientific,
}

impl Style {
    const ALL: [(Style, &'static str); 4] =
        [(Style::Plain, "num"), (Style::Percent, "pct"), (Style::Money, "money"), (Style::Scientific, "sci")];

    fn key(self) -> &'static str {
        Self::ALL.iter().find(|(style, _)| *style == self).map_or("num", |(_, key)| key)
    }
}

/// One cell of a [`crate::Table`]: text, a count, a number with its tolerance, or a timing.
///
/// Text and counts convert with `into()`; numbers are made by [`num`], [`pct`], [`money`] and [`sci`], timings by
/// [`duration`].
#[derive(Clone, Debug, PartialEq)]
pub struct Cell(pub(crate) Kind);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Text(String),
    Count(i128),
    Number { value: f64, style: Style, decimals: usize, within: f64 },
    Duration(Option<f64>),
}

/// A number shown with `decimals` digits after the point. The expected output is compared within one unit of the last
/// digit shown, unless [`Cell::within`] says otherwise.
pub fn num(value: impl Number, decimals: usize) -> Cell {
    number(value.to_f64(), Style::Plain, decimals, unit(decimals))
}

/// A fraction shown as a percentage with `decimals` digits after the point: `pct(0.125, 1)` reads `12.5%`. The tolerance
/// of [`Cell::within`] is in the unit of the fraction.
pub fn pct(fraction: impl Number, decimals: usize) -> Cell {
    number(fraction.to_f64(), Style::Percent, decimals, unit(decimals + 2))
}

/// US dollars: whole ones from $1,000 up, with cents below. Compared within one unit of the last digit shown.
pub fn money(dollars: impl Number) -> Cell {
    let dollars = dollars.to_f64();
    let decimals = if dollars.abs() < 1000.0 { 2 } else { 0 };
    number(dollars, Style::Money, decimals, unit(decimals))
}

/// A number in scientific notation with `decimals` digits after the point of the mantissa, for what is very small or very
/// large. Compared within one unit of the last digit shown.
pub fn sci(value: impl Number, decimals: usize) -> Cell {
    let value = value.to_f64();
    let exponent = if value == 0.0 || !value.is_finite() { 0.0 } else { value.abs().log10().floor() };
    number(value, Style::Scientific, decimals, 10f64.powf(exponent) * unit(decimals))
}

/// A measured time. It is shown, and never compared.
pub fn duration(time: Duration) -> Cell {
    Cell(Kind::Duration(Some(time.as_secs_f64())))
}

fn unit(decimals: usize) -> f64 {
    10f64.powi(-(decimals as i32))
}

fn number(value: f64, style: Style, decimals: usize, within: f64) -> Cell {
    Cell(Kind::Number { value, style, decimals, within })
}

impl Cell {
    /// Sets the absolute tolerance with which the expected output is compared. A count becomes a number that may differ by
    /// that much; text and timings have no tolerance and stay as they are.
    #[must_use]
    pub fn within(self, tolerance: f64) -> Self {
        match self.0 {
            Kind::Number { value, style, decimals, .. } => number(value, style, decimals, tolerance),
            Kind::Count(count) => number(count as f64, Style::Plain, 0, tolerance),
            kind => Self(kind),
        }
    }

    /// What a person reads.
    pub fn text(&self) -> String {
        match &self.0 {
            Kind::Text(text) => text.clone(),
            Kind::Count(count) => group_digits(&count.to_string()),
            Kind::Number { value, .. } if !value.is_finite() => value.to_string(),
            Kind::Number { value, style, decimals, .. } => match style {
                Style::Plain => fixed(*value, *decimals),
                Style::Percent => format!("{}%", fixed(value * 100.0, *decimals)),
                Style::Money => {
                    let sign = if fixed(*value, *decimals).starts_with('-') { "-" } else { "" };
                    format!("{sign}${}", group_always(&format!("{:.decimals$}", value.abs())))
                }
                Style::Scientific => format!("{value:.decimals$e}"),
            },
            Kind::Duration(None) => String::new(),
            Kind::Duration(Some(seconds)) => seconds_text(*seconds),
        }
    }

    /// Whether the cell is read by its digits, and so set flush right.
    pub(crate) fn is_numeric(&self) -> bool {
        !matches!(self.0, Kind::Text(_))
    }

    /// The form in JSON. With `compact`, numbers are rounded to a hundredth of their tolerance and timings are blank, so
    /// that the committed output changes only when a result does.
    pub(crate) fn to_json(&self, compact: bool) -> Value {
        match &self.0 {
            Kind::Text(text) => json!(text),
            Kind::Count(count) => i64::try_from(*count)
                .map(Value::from)
                .or_else(|_| u64::try_from(*count).map(Value::from))
                .unwrap_or_else(|_| {
                    let count = *count as f64;
                    json!({ "num": float_json(count), "within": count.abs() * 1e-12 })
                }),
            Kind::Number { value, style, within, .. } => {
                let value = if compact { rounded(*value, *within) } else { *value };
                let mut object = Map::new();
                object.insert(style.key().to_string(), float_json(value));
                object.insert("within".to_string(), json!(rounded(*within, *within)));
                Value::Object(object)
            }
            Kind::Duration(seconds) => json!({ "seconds": if compact { None } else { *seconds } }),
        }
    }

    /// Reads what [`Cell::to_json`] wrote. Decimals are not kept, for they only matter to the eye.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self(Kind::Text(text.clone()))),
            Value::Number(count) => {
                let count = count.as_i64().map(i128::from).or_else(|| count.as_u64().map(i128::from))?;
                Some(Self(Kind::Count(count)))
            }
            Value::Object(object) => {
                if let Some(seconds) = object.get("seconds") {
                    return Some(Self(Kind::Duration(seconds.as_f64())));
                }
                let within = object.get("within")?.as_f64()?;
                let (style, value) =
                    Style::ALL.iter().find_map(|(style, key)| object.get(*key).map(|value| (*style, value)))?;
                Some(number(float_from_json(value)?, style, 6, within))
            }
            _ => None,
        }
    }

    /// Why `actual` is not what this expected cell asks for, or `None` when it is.
    pub(crate) fn difference(&self, actual: &Cell) -> Option<String> {
        match (&self.0, &actual.0) {
            (Kind::Duration(_), Kind::Duration(_)) => None,
            (
                Kind::Number { value: expected, style, within, .. },
                Kind::Number { value: found, style: found_style, .. },
            ) if style == found_style => close(*expected, *found, *within)
                .then_some(())
                .is_none()
                .then(|| format!("expected {expected} within {within}, got {found}")),
            (expected, found) if expected == found => None,
            _ => Some(format!("expected {}, got {}", self.to_json(true), actual.to_json(true))),
        }
    }
}

/// Whether two numbers agree within an absolute tolerance; NaN agrees with NaN, and an infinity with itself. The slack of a
/// hundredth of the tolerance covers the rounding of the committed value.
pub(crate) fn close(expected: f64, found: f64, within: f64) -> bool {
    expected == found || (expected.is_nan() && found.is_nan()) || (expected - found).abs() <= within * 1.01
}

/// Rounds to a hundredth of `within`, through decimal text so that the file shows no binary tail.
pub(crate) fn rounded(value: f64, within: f64) -> f64 {
    if !value.is_finite() || !within.is_finite() || within <= 0.0 {
        return value;
    }
    let digits = (2.0 - within.log10().floor()).clamp(0.0, 300.0) as usize;
    format!("{value:.digits$}").parse().unwrap_or(value)
}

/// JSON has no NaN and no infinities: these go as text.
pub(crate) fn float_json(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

pub(crate) fn float_from_json(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

/// A time with three significant digits and the unit that suits it.
pub(crate) fn seconds_text(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 1e-6 => (s * 1e9, "ns"),
        s if s < 1e-3 => (s * 1e6, "µs"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    let decimals = match value {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    // "-0.00" reads as a result below zero; what is shown is zero.
    let is_zero = text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.');
    group_digits(if is_zero { text.trim_start_matches('-') } else { &text })
}

/// Groups the digits of the whole part by three from five digits up, so that years and small counts stay plain.
pub(crate) fn group_digits(text: &str) -> String {
    let whole = text.trim_start_matches('-').split('.').next().unwrap_or_default();
    if whole.len() < 5 { text.to_string() } else { group_always(text) }
}

fn group_always(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (whole, rest) = digits.find('.').map_or((digits, ""), |at| digits.split_at(at));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self(Kind::Text(text.to_string()))
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self(Kind::Text(text))
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self(Kind::Text(text.clone()))
    }
}

impl From<bool> for Cell {
    fn from(answer: bool) -> Self {
        Self::from(if answer { "yes" } else { "no" })
    }
}

macro_rules! counts {
    ($($kind:ty),*) => {
        $(impl From<$kind> for Cell {
            fn from(count: $kind) -> Self {
                Self(Kind::Count(count as i128))
            }
        })*
    };
}
counts!(u8, u16, u32, u64, usize, i8, i16, i32, i64, i128, isize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_read_as_a_person_would_write_them() {
        let cases = [
            (Cell::from("laptop"), "laptop"),
            (Cell::from(3), "3"),
            (Cell::from(2026), "2026"),
            (Cell::from(117_659_usize), "117,659"),
            (Cell::from(-12_345), "-12,345"),
            (Cell::from(786_432_000_000_000_000_u64), "786,432,000,000,000,000"),
            (num(0.5, 3), "0.500"),
            (num(-0.0001, 2), "0.00"),
            (num(1_234_567.891, 1), "1,234,567.9"),
            (num(f64::NAN, 2), "NaN"),
            (pct(0.125, 1), "12.5%"),
            (money(47_185_920), "$47,185,920"),
            (money(-12.5), "-$12.50"),
            (money(1234.4), "$1,234"),
            (money(-0.001), "$0.00"),
            (sci(0.000_000_312, 1), "3.1e-7"),
            (duration(Duration::from_micros(12_340)), "12.3 ms"),
            (duration(Duration::from_nanos(850)), "850 ns"),
            (duration(Duration::from_secs(61)), "61.0 s"),
            (true.into(), "yes"),
        ];
        for (cell, text) in cases {
            assert_eq!(cell.text(), text, "{cell:?}");
        }
    }

    #[test]
    fn json_keeps_value_and_tolerance() {
        for cell in [
            Cell::from("a"),
            Cell::from(u64::MAX),
            Cell::from(-7),
            num(0.123_456, 3),
            num(f64::INFINITY, 1),
            pct(0.5, 2).within(0.01),
            money(12_000),
            sci(1e-9, 2),
        ] {
            let back = Cell::from_json(&cell.to_json(false)).expect("read back");
            assert_eq!(cell.difference(&back), None, "{cell:?}");
            let committed = Cell::from_json(&cell.to_json(true)).expect("read back");
            assert_eq!(committed.difference(&cell), None, "{cell:?}");
        }
        assert_eq!(num(0.123_456, 3).to_json(true).to_string(), r#"{"num":0.12346,"within":0.001}"#);
        assert_eq!(duration(Duration::from_secs(1)).to_json(true).to_string(), r#"{"seconds":null}"#);
        assert!(Cell::from_json(&json!({ "num": 1.0 })).is_none());
    }

    #[test]
    fn comparison_honours_the_tolerance_and_the_type() {
        assert!(num(0.5, 3).difference(&num(0.5009, 3)).is_none());
        assert!(num(0.5, 3).difference(&num(0.502, 3)).is_some());
        assert!(num(0.5, 3).within(0.01).difference(&num(0.509, 3)).is_none());
        assert!(num(f64::NAN, 3).difference(&num(f64::NAN, 3)).is_none());
        assert!(num(0.5, 3).difference(&num(f64::NAN, 3)).is_some());
        assert!(num(0.5, 1).difference(&pct(0.5, 1)).is_some());
        assert!(Cell::from(3).difference(&Cell::from(4)).is_some());
        assert!(Cell::from(3).within(1.0).difference(&Cell::from(4).within(1.0)).is_none());
        assert!(Cell::from("a").difference(&Cell::from("b")).is_some());
        assert!(duration(Duration::from_secs(1)).difference(&duration(Duration::from_secs(9))).is_none());
        assert!(Cell::from("1").difference(&Cell::from(1)).is_some());
    }
}
