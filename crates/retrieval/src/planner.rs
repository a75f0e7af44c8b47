//! Filters over metadata and the choice of a plan to search under them: [`Expr`] says what should pass, [`Columns`] answers which rows do,
//! [`Planner`] picks how to search.

use std::collections::HashMap;

use eas_ann::filtered::{CostModel, Plan, by_selectivity};

use crate::RetrievalError;

/// A value of metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A word or a name, compared whole.
    Text(String),
    /// A number.
    Number(f64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// A condition on the columns of a row.
///
/// ```
/// use eas_retrieval::planner::{Columns, Expr, Kind, Value};
///
/// let mut columns = Columns::new(&[("pos", Kind::Text), ("length", Kind::Number)])?;
/// columns.push(&["noun".into(), 12.0.into()])?;
/// columns.push(&["verb".into(), 40.0.into()])?;
/// columns.push(&["noun".into(), 55.0.into()])?;
/// let long_nouns = Expr::is("pos", "noun").and(Expr::between("length", 20.0, 100.0));
/// assert_eq!(columns.matching(&long_nouns)?.iter().collect::<Vec<_>>(), [2]);
/// # Ok::<(), eas_retrieval::RetrievalError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// Every row.
    All,
    /// The column has this value.
    Is(String, Value),
    /// The column has one of these values.
    OneOf(String, Vec<Value>),
    /// The column's number is within these bounds, both included.
    Between(String, f64, f64),
    /// The condition doesn't hold.
    Not(Box<Expr>),
    /// All of them hold.
    And(Vec<Expr>),
    /// One of them holds.
    Or(Vec<Expr>),
}

impl Expr {
    /// [`Expr::Is`].
    pub fn is(column: &str, value: impl Into<Value>) -> Self {
        Self::Is(column.to_owned(), value.into())
    }

    /// [`Expr::Between`].
    pub fn between(column: &str, low: f64, high: f64) -> Self {
        Self::Between(column.to_owned(), low, high)
    }

    /// Both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::And(vec![self, other])
    }

    /// One of the two holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::Or(vec![self, other])
    }

    /// It doesn't hold.
    #[must_use]
    pub fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::Text`].
    Text,
    /// [`Value::Number`].
    Number,
}

/// A set of rows, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSet {
    bits: Vec<u64>,
    rows: usize,
}

impl RowSet {
    fn new(rows: usize, mut holds: impl FnMut(usize) -> bool) -> Self {
        let mut bits = vec![0; rows.div_ceil(64)];
        for row in 0..rows {
            bits[row / 64] |= u64::from(holds(row)) << (row % 64);
        }
        Self { bits, rows }
    }

    /// True when `row` is in the set.
    pub fn contains(&self, row: usize) -> bool {
        row < self.rows && self.bits[row / 64] >> (row % 64) & 1 == 1
    }

    /// Takes `row` out.
    pub fn remove(&mut self, row: usize) {
        if row < self.rows {
            self.bits[row / 64] &= !(1 << (row % 64));
        }
    }

    /// Number of rows in the set.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The rows in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.bits.iter().enumerate().flat_map(|(at, &word)| {
            let next = |&rest: &u64| Some(rest & (rest.wrapping_sub(1))).filter(|&rest| rest != 0);
            std::iter::successors(Some(word).filter(|&word| word != 0), next)
                .map(move |rest| 64 * at + rest.trailing_zeros() as usize)
        })
    }

    fn combine(mut self, other: &Self, both: impl Fn(u64, u64) -> u64) -> Self {
        for (a, &b) in self.bits.iter_mut().zip(&other.bits) {
            *a = both(*a, b);
        }
        self
    }
}

#[derive(Debug, Clone)]
enum Column {
    /// Number of the word of each row, and the numbers of the words.
    Text(Vec<u32>, HashMap<String, u32>),
    Number(Vec<f64>),
}

/// Metadata by column: what a filter reads lies together.
#[derive(Debug, Clone)]
pub struct Columns {
    names: Vec<String>,
    stored: Vec<Column>,
    rows: usize,
}

impl Columns {
    /// Columns without rows. Names must differ.
    pub fn new(schema: &[(&str, Kind)]) -> Result<Self, RetrievalError> {
        let names: Vec<String> = schema.iter().map(|(name, _)| (*name).to_owned()).collect();
        if let Some(twice) = (1..names.len()).find(|&i| names[..i].contains(&names[i])) {
            return Err(RetrievalError::argument("column", &names[twice], "a name that isn't taken"));
        }
        let empty = |&(_, kind): &(&str, Kind)| match kind {
            Kind::Text => Column::Text(Vec::new(), HashMap::new()),
            Kind::Number => Column::Number(Vec::new()),
        };
        Ok(Self { names, stored: schema.iter().map(empty).collect(), rows: 0 })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Refuses a row that doesn't fit the schema: a value missing or too many, of the other kind, or a number that isn't finite.
    pub fn check(&self, row: &[Value]) -> Result<(), RetrievalError> {
        if row.len() != self.stored.len() {
            return Err(RetrievalError::Length {
                what: "values",
                given: row.len(),
                of: "columns",
                expected: self.stored.len(),
            });
        }
        for (value, column) in row.iter().zip(&self.stored) {
            match (value, column) {
                (Value::Text(_), Column::Text(..)) => {}
                (Value::Number(number), Column::Number(_)) if number.is_finite() => {}
                (Value::Number(number), Column::Number(_)) => {
                    return Err(RetrievalError::argument("value", number, "a finite number"));
                }
                (value, Column::Text(..)) => {
                    return Err(RetrievalError::argument("value", &format!("{value:?}"), "a text"));
                }
                (value, Column::Number(_)) => {
                    return Err(RetrievalError::argument("value", &format!("{value:?}"), "a number"));
                }
            }
        }
        Ok(())
    }

    /// Adds a row, its values in the order of the schema, and returns its number.
    pub fn push(&mut self, row: &[Value]) -> Result<usize, RetrievalError> {
        self.check(row)?;
        for (value, column) in row.iter().zip(&mut self.stored) {
            match (value, column) {
                (Value::Text(text), Column::Text(codes, code_of)) => {
                    let next = code_of.len() as u32;
                    codes.push(*code_of.entry(text.clone()).or_insert(next));
                }
                (Value::Number(number), Column::Number(numbers)) => numbers.push(*number),
                _ => {}
            }
        }
        self.rows += 1;
        Ok(self.rows - 1)
    }

    /// The rows for which `filter` holds. An error names a column that isn't there, or a value of the wrong kind.
    pub fn matching(&self, filter: &Expr) -> Result<RowSet, RetrievalError> {
        let all = |value: bool| RowSet::new(self.rows, |_| value);
        Ok(match filter {
            Expr::All => all(true),
            Expr::Is(name, value) => self.one_of(name, std::slice::from_ref(value))?,
            Expr::OneOf(name, values) => self.one_of(name, values)?,
            Expr::Between(name, low, high) => match self.column(name)? {
                Column::Number(numbers) => RowSet::new(self.rows, |row| (*low..=*high).contains(&numbers[row])),
                Column::Text(..) => return Err(RetrievalError::argument("column", name, "a column of numbers")),
            },
            // The unused bits of the last word must stay 0: and-not with all rows, not a plain not.
            Expr::Not(inner) => all(true).combine(&self.matching(inner)?, |a, b| a & !b),
            Expr::And(parts) => parts.iter().try_fold(all(true), |set, part| {
                Ok::<_, RetrievalError>(set.combine(&self.matching(part)?, |a, b| a & b))
            })?,
            Expr::Or(parts) => parts.iter().try_fold(all(false), |set, part| {
                Ok::<_, RetrievalError>(set.combine(&self.matching(part)?, |a, b| a | b))
            })?,
        })
    }

    fn column(&self, name: &str) -> Result<&Column, RetrievalError> {
        let at = self.names.iter().position(|own| own == name);
        at.map(|at| &self.stored[at]).ok_or_else(|| RetrievalError::argument("column", &name, "a column of the schema"))
    }

    fn one_of(&self, name: &str, values: &[Value]) -> Result<RowSet, RetrievalError> {
        match self.column(name)? {
            Column::Text(codes, code_of) => {
                let mut wanted = vec![false; code_of.len()];
                for value in values {
                    let Value::Text(text) = value else {
                        return Err(RetrievalError::argument("value", &format!("{value:?}"), "a text"));
                    };
                    if let Some(&code) = code_of.get(text) {
                        wanted[code as usize] = true;
                    }
                }
                Ok(RowSet::new(self.rows, |row| wanted[codes[row] as usize]))
            }
            Column::Number(numbers) => {
                let number = |value: &Value| match value {
                    Value::Number(number) => Ok(*number),
                    Value::Text(text) => Err(RetrievalError::argument("value", text, "a number")),
                };
                let wanted = values.iter().map(number).collect::<Result<Vec<f64>, _>>()?;
                Ok(RowSet::new(self.rows, |row| wanted.contains(&numbers[row])))
            }
        }
    }
}

/// How a plan is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Planner {
    /// By the share of rows that pass: exact below 2 %, over-fetching above 30 %, a filtered walk between.
    BySelectivity,
    /// Always the same.
    Always(Plan),
    /// By the distances that each plan should compute.
    ByCost(CostModel),
}

impl Planner {
    /// The plan for a search for `k` with a beam of `ef`, where `matching` of `rows` pass.
    pub fn choose(&self, rows: usize, matching: usize, k: usize, ef: usize) -> Plan {
        match self {
            Self::Always(plan) => *plan,
            Self::BySelectivity => by_selectivity(matching as f64 / rows.max(1) as f64),
            Self::ByCost(model) => model.cheapest(rows, matching, k, ef),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn columns(rows: &[(u8, i8)]) -> Columns {
        let mut columns = Columns::new(&[("word", Kind::Text), ("number", Kind::Number)]).unwrap();
        for &(word, number) in rows {
            columns.push(&[word.to_string().as_str().into(), f64::from(number).into()]).unwrap();
        }
        columns
    }

    fn holds(filter: &Expr, word: u8, number: i8) -> bool {
        match filter {
            Expr::All => true,
            Expr::Is(_, value) => holds(&Expr::OneOf(String::new(), vec![value.clone()]), word, number),
            Expr::OneOf(_, values) => values.iter().any(|value| match value {
                Value::Text(text) => *text == word.to_string(),
                Value::Number(n) => *n == f64::from(number),
            }),
            Expr::Between(_, low, high) => *low <= f64::from(number) && f64::from(number) <= *high,
            Expr::Not(inner) => !holds(inner, word, number),
            Expr::And(parts) => parts.iter().all(|part| holds(part, word, number)),
            Expr::Or(parts) => parts.iter().any(|part| holds(part, word, number)),
        }
    }

    fn filters() -> impl Strategy<Value = Expr> {
        let leaf = prop_oneof![
            Just(Expr::All),
            (0u8..4).prop_map(|word| Expr::is("word", word.to_string().as_str())),
            (-3i8..4).prop_map(|number| Expr::is("number", f64::from(number))),
            (-3i8..4, -3i8..4).prop_map(|(a, b)| Expr::between("number", f64::from(a), f64::from(b))),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                inner.clone().prop_map(Expr::negated),
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Expr::And),
                proptest::collection::vec(inner, 0..4).prop_map(Expr::Or),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_filter_passes_the_rows_for_which_it_holds(
            rows in proptest::collection::vec((0u8..4, -3i8..4), 0..150),
            filter in filters(),
        ) {
            let set = columns(&rows).matching(&filter).unwrap();
            let expected: Vec<usize> = (0..rows.len()).filter(|&i| holds(&filter, rows[i].0, rows[i].1)).collect();
            prop_assert_eq!(set.count(), expected.len());
            prop_assert!((0..rows.len() + 70).all(|row| set.contains(row) == expected.contains(&row)));
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut columns = columns(&[(1, 1)]);
        assert!(Columns::new(&[("a", Kind::Text), ("a", Kind::Number)]).is_err());
        for (row, part) in [
            (vec!["a".into()], "1 values for 2 columns"),
            (vec![1.0.into(), 1.0.into()], "a text"),
            (vec!["a".into(), "b".into()], "a number"),
            (vec!["a".into(), f64::NAN.into()], "NaN"),
        ] {
            let error = columns.push(&row).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(columns.rows(), 1);
        for (filter, part) in [
            (Expr::is("colour", "red"), "colour"),
            (Expr::is("word", 1.0), "a text"),
            (Expr::is("number", "1"), "a number"),
            (Expr::between("word", 0.0, 1.0).negated(), "column of numbers"),
        ] {
            let error = columns.matching(&filter).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let mut set = columns.matching(&Expr::All).unwrap();
        set.remove(0);
        set.remove(900);
        assert_eq!(set.count(), 0);
    }
}
