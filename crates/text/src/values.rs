//! Typed values in running text, normalised so that equal things compare equal whatever their notation:
//! "$1,299" is 1299.00 USD, "1 TB" is 1000 GB, "two years" is 24 months, "15 January 2024" is 2024-01-15.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

/// Millionths: quantities are kept as integers, so that equality is exact and values can be sorted and hashed.
const SCALE: i64 = 1_000_000;

/// A value in normal form. `Display` prints the normal form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// An amount of money.
    Money {
        /// Hundredths of the currency unit.
        cents: i64,
        /// The currency.
        currency: Currency,
    },
    /// An amount of something measured, in the base unit of its kind.
    Quantity {
        /// Millionths of `unit`.
        micros: i64,
        /// The base unit.
        unit: Unit,
    },
    /// A bare number.
    Number {
        /// Millionths.
        micros: i64,
    },
    /// A calendar day.
    Date(Date),
    /// A set of names, each in the normal form of [`normalize_name`].
    Set(BTreeSet<String>),
    /// A word or phrase, lower case and with single spaces.
    Text(String),
    /// A judgement for or against.
    Opinion(Polarity),
}

/// Currencies of [`Value::Money`]; no rates are applied, so amounts in two currencies never compare equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Currency {
    /// US dollar.
    Usd,
    /// Euro.
    Eur,
    /// Pound sterling.
    Gbp,
}

/// Base units of [`Value::Quantity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// 10^9 bytes.
    Gigabyte,
    /// 1000 grams.
    Kilogram,
    /// 60 minutes; days and weeks are counted in hours.
    Hour,
    /// A calendar month; years are counted in months. Hours and months never compare equal.
    Month,
}

/// The direction of an opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Polarity {
    /// Speaks for the thing.
    Positive,
    /// Speaks against it.
    Negative,
}

/// A day of the proleptic Gregorian calendar; ordered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: i32,
    month: u8,
    day: u8,
}

impl Date {
    /// The day `year-month-day`, `None` when the calendar has no such day.
    pub fn new(year: i32, month: u8, day: u8) -> Option<Self> {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => return None,
        };
        (1..=days).contains(&day).then_some(Self { year, month, day })
    }

    /// The year.
    pub fn year(self) -> i32 {
        self.year
    }

    /// The month, 1 to 12.
    pub fn month(self) -> u8 {
        self.month
    }

    /// The day of the month, from 1.
    pub fn day(self) -> u8 {
        self.day
    }

    /// Days since 1970-01-01, negative before it (the era arithmetic of Hinnant's `days_from_civil`).
    pub fn days(self) -> i64 {
        let year = i64::from(self.year) - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let shifted_month = (i64::from(self.month) + 9) % 12;
        let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * 146_097 + day_of_era - 719_468
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usd => "USD",
            Self::Eur => "EUR",
            Self::Gbp => "GBP",
        })
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gigabyte => "GB",
            Self::Kilogram => "kg",
            Self::Hour => "hours",
            Self::Month => "months",
        })
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Money { cents, currency } => write!(f, "{}.{:02} {currency}", cents / 100, cents % 100),
            Self::Quantity { micros, unit } => write!(f, "{} {unit}", Decimal(*micros)),
            Self::Number { micros } => write!(f, "{}", Decimal(*micros)),
            Self::Date(date) => write!(f, "{date}"),
            Self::Set(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                write!(f, "{{{}}}", names.join(", "))
            }
            Self::Text(text) => f.write_str(text),
            Self::Opinion(Polarity::Positive) => f.write_str("positive"),
            Self::Opinion(Polarity::Negative) => f.write_str("negative"),
        }
    }
}

/// Millionths printed without trailing zeros.
struct Decimal(i64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / SCALE, self.0 % SCALE);
        if part == 0 {
            write!(f, "{whole}")
        } else {
            write!(f, "{whole}.{}", format!("{part:06}").trim_end_matches('0'))
        }
    }
}

impl Value {
    /// A phrase in normal form: lower case, single spaces.
    pub fn text(phrase: &str) -> Self {
        Self::Text(phrase.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase())
    }

    /// A set of names in normal form; names that normalise alike count once.
    pub fn set<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::Set(names.into_iter().map(|name| normalize_name(name.as_ref())).filter(|name| !name.is_empty()).collect())
    }

    /// The set written as a list: "Wi-Fi, Bluetooth and Zigbee" has three names.
    ///
    /// ```
    /// use eas_text::values::Value;
    ///
    /// assert_eq!(Value::set_of_list("Wi-Fi, Bluetooth, and Zigbee"), Value::set(["zigbee", "bluetooth", "WiFi"]));
    /// ```
    pub fn set_of_list(list: &str) -> Self {
        let joined = list.replace(" and ", ",").replace(" or ", ",");
        Self::set(joined.split([',', ';', '&', '/']).map(|name| {
            let name = name.trim();
            name.strip_prefix("and ").or_else(|| name.strip_prefix("or ")).unwrap_or(name)
        }))
    }
}

/// The normal form of a name: lower-case letters and digits only, so that "Wi-Fi", "WiFi" and "wifi" are one.
pub fn normalize_name(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// A value and where it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value in normal form.
    pub value: Value,
    /// Its byte range in the text.
    pub span: Range<usize>,
}

/// The money amounts, quantities, dates and bare numbers of `text`, in order, none inside another. Digits that are part of a name
/// ("v2.0", "H264", "G-417") are not numbers.
///
/// ```
/// use eas_text::values::find_values;
///
/// let found = find_values("From 15 Jan 2024 the 1 TB model costs $1,299 with a two-year warranty.");
/// let values: Vec<String> = found.iter().map(|f| f.value.to_string()).collect();
/// assert_eq!(values, ["2024-01-15", "1000 GB", "1299.00 USD", "24 months"]);
/// ```
pub fn find_values(text: &str) -> Vec<Found> {
    let tokens = lex(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        match date(rest).or_else(|| money(rest)).or_else(|| quantity(rest)).or_else(|| number(rest)) {
            Some((value, used)) => {
                found.push(Found { value, span: rest[0].span.start..rest[used - 1].span.end });
                at += used;
            }
            None => at += 1,
        }
    }
    found
}

/// The members of `vocabulary` that `text` names, whole words only and in any notation ("wi-fi" names "Wi-Fi"), as a [`Value::Set`];
/// `None` when it names none.
///
/// ```
/// use eas_text::values::{Value, find_members};
///
/// let protocols = ["Wi-Fi", "Bluetooth", "Zigbee"];
/// assert_eq!(find_members("It speaks bluetooth and WiFi.", &protocols), Some(Value::set(["wifi", "bluetooth"])));
/// assert_eq!(find_members("It speaks.", &protocols), None);
/// ```
pub fn find_members(text: &str, vocabulary: &[&str]) -> Option<Value> {
    // Runs of letters and digits; a name of several runs ("USB C", "Wi-Fi") matches their concatenation.
    let runs: Vec<String> =
        text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty()).map(str::to_lowercase).collect();
    let named = vocabulary.iter().filter(|name| {
        let wanted = normalize_name(name);
        !wanted.is_empty()
            && (0..runs.len()).any(|start| {
                let mut left = wanted.as_str();
                for run in &runs[start..] {
                    match left.strip_prefix(run.as_str()) {
                        Some("") => return true,
                        Some(rest) => left = rest,
                        None => return false,
                    }
                }
                false
            })
    });
    match Value::set(named) {
        Value::Set(set) if set.is_empty() => None,
        set => Some(set),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// A decimal number: millionths, and the count of digits when it is a plain integer.
    Number {
        micros: i64,
        digits: Option<usize>,
    },
    /// Letters, as written.
    Word(String),
    Symbol(char),
}

#[derive(Debug, Clone)]
struct Token {
    kind: Kind,
    span: Range<usize>,
}

impl Token {
    fn lower(&self) -> Option<String> {
        match &self.kind {
            Kind::Word(word) => Some(word.to_lowercase()),
            _ => None,
        }
    }

    fn is(&self, c: char) -> bool {
        self.kind == Kind::Symbol(c)
    }

    fn integer(&self) -> Option<(i64, usize)> {
        match self.kind {
            Kind::Number { micros, digits: Some(digits) } => Some((micros / SCALE, digits)),
            _ => None,
        }
    }
}

/// Cuts `text` into numbers, words and symbols; white space only separates.
fn lex(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens: Vec<Token> = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let mut end = start + c.len_utf8();
        let kind = if c.is_ascii_digit() {
            end = number_end(bytes, start);
            while chars.peek().is_some_and(|&(at, _)| at < end) {
                chars.next();
            }
            // Digits glued to a name are part of it: v2.0, H264, G-417.
            let before = text[..start].strip_suffix('-').unwrap_or(&text[..start]);
            let glued = tokens.iter().rev().find(|t| !t.is('-')).is_some_and(|t| {
                t.span.end == before.len() && matches!(&t.kind, Kind::Word(w) if currency(w).is_none() && number_word(&w.to_lowercase()).is_none())
            });
            match parse_number(&text[start..end]) {
                Some(kind) if !glued => kind,
                _ => Kind::Word(text[start..end].to_owned()),
            }
        } else if c.is_alphabetic() {
            while let Some(&(at, next)) = chars.peek() {
                if !next.is_alphabetic() {
                    break;
                }
                end = at + next.len_utf8();
                chars.next();
            }
            Kind::Word(text[start..end].to_owned())
        } else if c.is_whitespace() {
            continue;
        } else {
            Kind::Symbol(c)
        };
        tokens.push(Token { kind, span: start..end });
    }
    tokens
}

/// The end of the number that starts at `start`: digits, groups of three behind commas, and decimals.
fn number_end(bytes: &[u8], start: usize) -> usize {
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut end = digits(start);
    if end - start <= 3 {
        while bytes.get(end) == Some(&b',') && digits(end + 1) == end + 4 {
            end += 4;
        }
    }
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > end + 1 {
        end = digits(end + 1);
    }
    end
}

/// `None` for a number beyond the range of millionths in 64 bits.
fn parse_number(text: &str) -> Option<Kind> {
    let plain = text.replace(',', "");
    let (whole, part) = plain.split_once('.').unwrap_or((&plain, ""));
    let padded: String = part.chars().chain("000000".chars()).take(6).collect();
    let micros = whole.parse::<i64>().ok()?.checked_mul(SCALE)?.checked_add(padded.parse().ok()?)?;
    let digits = (plain.len() == text.len() && part.is_empty()).then_some(text.len());
    Some(Kind::Number { micros, digits })
}

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

fn month(token: &Token) -> Option<u8> {
    let word = token.lower()?;
    let at = MONTHS
        .iter()
        .position(|name| *name == word || name[..3] == word || (*name == "september" && word == "sept"))?;
    Some(at as u8 + 1)
}

/// A day of the month: "5", "05", "5th" (its suffix is a token of its own).
fn day_of_month(tokens: &[Token]) -> Option<(u8, usize)> {
    let (day, digits) = tokens.first()?.integer()?;
    if digits > 2 || !(1..=31).contains(&day) {
        return None;
    }
    let suffix = tokens.get(1).filter(|t| t.span.start == tokens[0].span.end).and_then(Token::lower);
    let ordinal = matches!(suffix.as_deref(), Some("st" | "nd" | "rd" | "th"));
    Some((day as u8, if ordinal { 2 } else { 1 }))
}

fn year(token: Option<&Token>) -> Option<i32> {
    token?.integer().filter(|&(_, digits)| digits == 4).map(|(year, _)| year as i32)
}

/// Dates: 2024-01-15, 2024/01/15, 15 January 2024, the 15th of Jan 2024, January 15, 2024, Jan. 15th 2024.
fn date(tokens: &[Token]) -> Option<(Value, usize)> {
    let found = |year, month, day, used| Date::new(year, month, day).map(|date| (Value::Date(date), used));
    if let Some(year) = year(tokens.first())
        && let [_, first, month, second, day, ..] = tokens
        && (first.is('-') || first.is('/'))
        && first.kind == second.kind
        && tokens[..5].windows(2).all(|pair| pair[0].span.end == pair[1].span.start)
        && let (Some((month, 1..=2)), Some((day, 1..=2))) = (month.integer(), day.integer())
    {
        return found(year, month as u8, day as u8, 5);
    }
    if let Some((day, mut used)) = day_of_month(tokens) {
        if tokens.get(used).and_then(Token::lower).as_deref() == Some("of") {
            used += 1;
        }
        let month = month(tokens.get(used)?)?;
        used += 1;
        if tokens.get(used).is_some_and(|t| t.is('.') || t.is(',')) {
            used += 1;
        }
        return found(year(tokens.get(used))?, month, day, used + 1);
    }
    let month = month(tokens.first()?)?;
    let mut used = 1;
    if tokens.get(used).is_some_and(|t| t.is('.')) {
        used += 1;
    }
    let (day, length) = day_of_month(tokens.get(used..)?)?;
    used += length;
    if tokens.get(used).is_some_and(|t| t.is(',')) {
        used += 1;
    }
    found(year(tokens.get(used))?, month, day, used + 1)
}

fn currency(word: &str) -> Option<Currency> {
    match word.to_lowercase().as_str() {
        "usd" | "dollar" | "dollars" => Some(Currency::Usd),
        "eur" | "euro" | "euros" => Some(Currency::Eur),
        "gbp" => Some(Currency::Gbp),
        _ => None,
    }
}

/// Money: $1,299, US$ 1299.00, USD 1,299, 1299 dollars, 49 €.
fn money(tokens: &[Token]) -> Option<(Value, usize)> {
    let currency_of = |token: &Token| match &token.kind {
        Kind::Symbol('$') => Some(Currency::Usd),
        Kind::Symbol('€') => Some(Currency::Eur),
        Kind::Symbol('£') => Some(Currency::Gbp),
        Kind::Word(word) => currency(word),
        _ => None,
    };
    let amount = |token: Option<&Token>| match token?.kind {
        Kind::Number { micros, .. } => Some((micros + SCALE / 200) / (SCALE / 100)),
        _ => None,
    };
    let prefixed = |skip: usize| {
        let currency = currency_of(tokens.get(skip)?)?;
        let cents = amount(tokens.get(skip + 1))?;
        Some((Value::Money { cents, currency }, skip + 2))
    };
    let us = tokens.first()?.lower().as_deref() == Some("us");
    prefixed(usize::from(us)).or_else(|| {
        let cents = amount(tokens.first())?;
        let currency = currency_of(tokens.get(1)?)?;
        // In "5 $10 notes" the sign belongs to the 10.
        let signs_next = matches!(tokens[1].kind, Kind::Symbol(_)) && amount(tokens.get(2)).is_some();
        (!signs_next).then_some((Value::Money { cents, currency }, 2))
    })
}

/// The base unit of a unit word, and how many of it one such unit is, as a fraction.
fn unit(word: &str) -> Option<(Unit, i64, i64)> {
    let exact = match word {
        "g" => Some((Unit::Kilogram, 1, 1000)),
        "h" => Some((Unit::Hour, 1, 1)),
        _ => None,
    };
    exact.or(match word.to_lowercase().as_str() {
        "mb" | "megabyte" | "megabytes" => Some((Unit::Gigabyte, 1, 1000)),
        "gb" | "gigabyte" | "gigabytes" => Some((Unit::Gigabyte, 1, 1)),
        "tb" | "terabyte" | "terabytes" => Some((Unit::Gigabyte, 1000, 1)),
        "gram" | "grams" | "gramme" | "grammes" => Some((Unit::Kilogram, 1, 1000)),
        "kg" | "kilo" | "kilos" | "kilogram" | "kilograms" | "kilogramme" | "kilogrammes" => {
            Some((Unit::Kilogram, 1, 1))
        }
        "lb" | "lbs" => Some((Unit::Kilogram, 45_359_237, 100_000_000)),
        "min" | "mins" | "minute" | "minutes" => Some((Unit::Hour, 1, 60)),
        "hr" | "hrs" | "hour" | "hours" => Some((Unit::Hour, 1, 1)),
        "day" | "days" => Some((Unit::Hour, 24, 1)),
        "week" | "weeks" => Some((Unit::Hour, 168, 1)),
        "month" | "months" => Some((Unit::Month, 1, 1)),
        "yr" | "yrs" | "year" | "years" => Some((Unit::Month, 12, 1)),
        _ => None,
    })
}

/// Quantities: 16 GB, 16GB, 24-month, two years, twenty-four months.
fn quantity(tokens: &[Token]) -> Option<(Value, usize)> {
    let (micros, mut used) = match &tokens.first()?.kind {
        Kind::Number { micros, .. } => (*micros, 1),
        Kind::Word(_) => spelled_number(tokens)?,
        Kind::Symbol(_) => return None,
    };
    if tokens.get(used).is_some_and(|t| t.is('-')) {
        used += 1;
    }
    let Kind::Word(word) = &tokens.get(used)?.kind else {
        return None;
    };
    let (unit, times, per) = unit(word)?;
    let scaled = i128::from(micros) * i128::from(times);
    let micros = i64::try_from((scaled + i128::from(per) / 2) / i128::from(per)).ok()?;
    Some((Value::Quantity { micros, unit }, used + 1))
}

fn number(tokens: &[Token]) -> Option<(Value, usize)> {
    match tokens.first()?.kind {
        Kind::Number { micros, .. } => Some((Value::Number { micros }, 1)),
        _ => None,
    }
}

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

fn number_word(word: &str) -> Option<i64> {
    let ones = ONES.iter().position(|name| *name == word).map(|n| n as i64);
    ones.or_else(|| TENS.iter().position(|name| *name == word).map(|n| 10 * (n as i64 + 2)))
}

/// A number below 100 in words, in millionths, and the tokens it takes: "two", "twenty-four", "twenty four".
fn spelled_number(tokens: &[Token]) -> Option<(i64, usize)> {
    let first = number_word(&tokens.first()?.lower()?)?;
    if first >= 20 {
        let hyphen = usize::from(tokens.get(1).is_some_and(|t| t.is('-')));
        let unit = tokens.get(1 + hyphen).and_then(Token::lower).and_then(|word| number_word(&word));
        if let Some(unit @ 1..=9) = unit {
            return Some(((first + unit) * SCALE, 2 + hyphen));
        }
    }
    Some((first * SCALE, 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(text: &str) -> Vec<String> {
        find_values(text).into_iter().map(|found| found.value.to_string()).collect()
    }

    #[test]
    fn notations_of_one_value_agree() {
        for (notations, expected) in [
            (
                &["$1,299", "$1299", "$1,299.00", "US$ 1,299", "USD 1299", "1299 USD", "1,299 dollars", "1299.00 usd"]
                    [..],
                "1299.00 USD",
            ),
            (&["€49.50", "49.50 €", "EUR 49.5", "49.5 euros"], "49.50 EUR"),
            (&["£7", "7 GBP", "GBP 7.00"], "7.00 GBP"),
            (&["1 TB", "1TB", "1000 GB", "1,000 gigabytes", "one terabyte", "1000000 MB"], "1000 GB"),
            (
                &["2 years", "two years", "two-year", "2-year", "24 months", "24-month", "twenty-four months"],
                "24 months",
            ),
            (&["1.5 kg", "1500 g", "1,500 grams", "1.50 kilograms"], "1.5 kg"),
            (&["90 minutes", "1.5 hours", "1.5h", "ninety minutes"], "1.5 hours"),
            (&["two days", "48 hours"], "48 hours"),
            (
                &[
                    "2024-01-15",
                    "2024/1/15",
                    "15 January 2024",
                    "January 15, 2024",
                    "Jan 15 2024",
                    "15 Jan. 2024",
                    "15th of January, 2024",
                    "Jan. 15th, 2024",
                ],
                "2024-01-15",
            ),
            (&["1 lb"], "0.453592 kg"),
        ] {
            for notation in notations {
                assert_eq!(normal(notation), [expected], "{notation}");
                assert_eq!(normal(&format!("It says ({notation}), it does.")), [expected], "{notation} in a sentence");
            }
        }
    }

    #[test]
    fn values_of_a_sentence_in_order_with_spans() {
        let text =
            "From 2024-02-01 the 512 GB Ember Laptop v2.0 (H264, G-417) costs $999, weighs 1.2 kg and scores 3.14.";
        let found = find_values(text);
        let spans: Vec<&str> = found.iter().map(|f| &text[f.span.clone()]).collect();
        assert_eq!(spans, ["2024-02-01", "512 GB", "$999", "1.2 kg", "3.14"]);
        assert_eq!(found[4].value, Value::Number { micros: 3_140_000 });
    }

    #[test]
    fn what_is_no_date_or_no_unit_stays_a_number() {
        assert_eq!(normal("2023-02-29"), ["2023", "2", "29"]);
        assert_eq!(normal("31 April 2024"), ["31", "2024"]);
        assert_eq!(normal("May 2024"), ["2024"]);
        assert_eq!(normal("5 G networks and 3 H beams"), ["5", "3"]);
        assert_eq!(normal("pages 3, 4 and 1,2"), ["3", "4", "1", "2"]);
        assert_eq!(normal("5 $10 notes"), ["5", "10.00 USD"]);
        assert_eq!(normal("one of the two"), Vec::<String>::new());
        assert_eq!(normal("99999999999999999999 and 12345678901234"), Vec::<String>::new());
        assert_eq!(normal(""), Vec::<String>::new());
    }

    #[test]
    fn different_things_differ() {
        let first = |text: &str| find_values(text).remove(0).value;
        assert_ne!(first("$10"), first("€10"));
        assert_ne!(first("30 days"), first("1 month"));
        assert_ne!(first("10 GB"), first("10 kg"));
        assert!(first("9 GB") < first("10 GB"));
        assert!(first("2023-12-31") < first("2024-01-01"));
    }

    #[test]
    fn sets_ignore_notation_and_order() {
        let protocols = ["Wi-Fi", "Bluetooth", "USB-C", "Thread", "Zigbee", "NFC"];
        assert_eq!(
            find_members("Speaks USB C, wifi & BLUETOOTH; threads are extra.", &protocols),
            Some(Value::set_of_list("Bluetooth, USB-C and Wi-Fi"))
        );
        assert_eq!(find_members("", &protocols), None);
        assert_eq!(Value::set_of_list("A, B, and C").to_string(), "{a, b, c}");
        assert_eq!(Value::set(["", "-"]), Value::Set(BTreeSet::new()));
        assert_eq!(Value::text("  Midnight\n Blue "), Value::text("midnight blue"));
    }

    #[test]
    fn days_agree_with_the_calendar() {
        let days = |y, m, d| Date::new(y, m, d).unwrap().days();
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(1969, 12, 31), -1);
        assert_eq!(days(2024, 3, 1) - days(2023, 6, 1), 274);
        assert_eq!(days(2024, 3, 1) - days(2024, 1, 15), 46);
        assert_eq!(days(2024, 3, 1) - days(2024, 2, 1), 29);
        let mut expected = days(1895, 1, 1);
        for year in 1895..2105 {
            for month in 1..=12 {
                for day in (1..=31).filter_map(|day| Date::new(year, month, day)) {
                    assert_eq!(day.days(), expected);
                    expected += 1;
                }
            }
        }
        assert_eq!(Date::new(1900, 2, 29), None);
        assert_eq!(Date::new(2024, 13, 1), None);
        assert_eq!(Date::new(2024, 1, 0), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn spans_are_ordered_and_inside(text in "[a-z0-9$€,. /\n-]{0,60}") {
            let mut end = 0;
            for found in find_values(&text) {
                prop_assert!(found.span.start >= end && found.span.end > found.span.start);
                prop_assert!(text.is_char_boundary(found.span.start) && text.is_char_boundary(found.span.end));
                end = found.span.end;
            }
        }

        #[test]
        fn money_round_trips(cents in 0i64..1_000_000_000) {
            let value = Value::Money { cents, currency: Currency::Usd };
            prop_assert_eq!(&find_values(&value.to_string())[0].value, &value);
        }
    }
}
