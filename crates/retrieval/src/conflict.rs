//! What to do when sources disagree: tell the kinds of conflict apart, weigh the evidence, and answer with a share of it.

use crate::RetrievalError;
use crate::claims::Claim;
use eas_text::values::{Date, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Days after which a statement counts half.
pub const HALF_LIFE_DAYS: f64 = 180.0;
/// Statements at least this many days apart disagree because the world changed.
pub const TEMPORAL_DAYS: i64 = 30;
/// Credibility from which a source's members are taken into the union of partial sets.
pub const UNION_CREDIBILITY: f64 = 0.8;

/// Why claims about one thing disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConflictKind {
    /// The value changed with time.
    Temporal,
    /// Sources of the same time differ.
    Source,
    /// One source lists only some of what another lists.
    Partial,
    /// People judge differently.
    Perspective,
}

/// The kind of conflict among the claims of one (entity, attribute); `None` when all values are equal or there is none.
///
/// Opposite opinions are a perspective; sets of which one is a proper subset of another are partial; otherwise the two values stated
/// most recently decide: temporal when the newest statements of the two lie at least [`TEMPORAL_DAYS`] apart, else source.
pub fn conflict_kind(group: &[Claim]) -> Option<ConflictKind> {
    let mut newest: BTreeMap<&Value, i64> = BTreeMap::new();
    for claim in group {
        let day = newest.entry(&claim.value).or_insert(i64::MIN);
        *day = (*day).max(claim.date.days());
    }
    if newest.len() < 2 {
        return None;
    }
    if newest.keys().filter(|value| matches!(value, Value::Opinion(_))).count() > 1 {
        return Some(ConflictKind::Perspective);
    }
    let sets: Vec<&BTreeSet<String>> = newest
        .keys()
        .filter_map(|value| match value {
            Value::Set(set) => Some(set),
            _ => None,
        })
        .collect();
    // Distinct values, so a subset is a proper one.
    if sets.iter().enumerate().any(|(i, a)| sets.iter().enumerate().any(|(j, b)| i != j && a.is_subset(b))) {
        return Some(ConflictKind::Partial);
    }
    let mut days: Vec<i64> = newest.into_values().collect();
    days.sort_unstable_by(|a, b| b.cmp(a));
    if days[0] - days[1] >= TEMPORAL_DAYS { Some(ConflictKind::Temporal) } else { Some(ConflictKind::Source) }
}

/// How much a statement counts: `credibility * 0.5^(age / half_life) * confidence`. A negative age counts as 0.
pub fn evidence_weight(credibility: f64, age_days: f64, half_life_days: f64, confidence: f64) -> f64 {
    credibility * 0.5_f64.powf(age_days.max(0.0) / half_life_days) * confidence
}

/// What a statement counts by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weighting {
    /// The newest statement counts alone (1, all others 0); among equally new ones each counts.
    Latest,
    /// The statements of the most credible source count alone.
    Authority,
    /// Credibility, age and extraction confidence together: [`evidence_weight`].
    Combined,
}

/// How far the evidence goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// At least 0.8 of the weight.
    Clear,
    /// At least 0.6.
    Likely,
    /// Less, or a matter of opinion.
    Contested,
}

/// One value with what speaks for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// The value.
    pub value: Value,
    /// Its part of the weight, in `[0, 1]`; the sides of a resolution sum to 1.
    pub share: f64,
    /// The claims that state it, most weight first.
    pub claims: Vec<Claim>,
}

/// The outcome for one (entity, attribute).
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// The entity.
    pub entity: String,
    /// The attribute.
    pub attribute: String,
    /// The kind of conflict; `None` when all agree.
    pub kind: Option<ConflictKind>,
    /// The answer; `None` for a matter of opinion.
    pub value: Option<Value>,
    /// The part of the weight that supports the answer. For a union of partial sets, of the claims whose members are all in it.
    pub share: f64,
    /// How far the evidence goes.
    pub verdict: Verdict,
    /// Every value that is stated, largest share first.
    pub sides: Vec<Side>,
}

/// Claims by (entity, attribute), in alphabetical order.
pub fn group_claims(claims: &[Claim]) -> BTreeMap<(String, String), Vec<Claim>> {
    let mut groups: BTreeMap<(String, String), Vec<Claim>> = BTreeMap::new();
    for claim in claims {
        let key = (claim.entity.clone(), claim.attribute.clone());
        groups.entry(key).or_default().push(claim.clone());
    }
    groups
}

/// Weighs all claims about one (entity, attribute) together; pairs are never settled one by one, so three claims cannot give three
/// winners. The result doesn't depend on the order of `group`; a document that repeats itself counts once.
///
/// # Errors
/// No claims, claims about different things, or a credibility or confidence outside `[0, 1]`.
pub fn resolve(group: &[Claim], as_of: Date, weighting: Weighting) -> Result<Resolution, RetrievalError> {
    let Some(first) = group.first() else {
        return Err(RetrievalError::argument("claims", &0, "at least one claim"));
    };
    for claim in group {
        if (&claim.entity, &claim.attribute) != (&first.entity, &first.attribute) {
            let given = format!("{} {} among {} {}", claim.entity, claim.attribute, first.entity, first.attribute);
            return Err(RetrievalError::argument("claim", &given, "claims about one thing"));
        }
        for (name, x) in [("credibility", claim.credibility), ("confidence", claim.confidence)] {
            if !(0.0..=1.0).contains(&x) {
                return Err(RetrievalError::argument(name, &x, "a number in [0, 1]"));
            }
        }
    }
    let mut sides = weigh(group, as_of, weighting);
    let kind = conflict_kind(group);
    sides.sort_by(|a, b| {
        b.share.total_cmp(&a.share).then_with(|| newest(b).cmp(&newest(a))).then(a.value.cmp(&b.value))
    });
    let (value, share) = match kind {
        Some(ConflictKind::Perspective) => (None, sides[0].share),
        Some(ConflictKind::Partial) => {
            let union = union_of_believed(&sides).unwrap_or_else(|| sides[0].value.clone());
            let share = sides.iter().filter(|side| within(&side.value, &union)).map(|side| side.share).sum();
            (Some(union), share)
        }
        _ => (Some(sides[0].value.clone()), sides[0].share),
    };
    let verdict = match share {
        _ if value.is_none() => Verdict::Contested,
        share if share >= 0.8 => Verdict::Clear,
        share if share >= 0.6 => Verdict::Likely,
        _ => Verdict::Contested,
    };
    Ok(Resolution {
        entity: first.entity.clone(),
        attribute: first.attribute.clone(),
        kind,
        value,
        share,
        verdict,
        sides,
    })
}

/// The sides with their shares, by value.
fn weigh(group: &[Claim], as_of: Date, weighting: Weighting) -> Vec<Side> {
    let latest = group.iter().map(|c| c.date).max();
    let most = group.iter().map(|c| c.credibility).fold(0.0, f64::max);
    let weight = |claim: &Claim| match weighting {
        Weighting::Latest => f64::from(u8::from(Some(claim.date) == latest)),
        Weighting::Authority => f64::from(u8::from(claim.credibility == most)),
        Weighting::Combined => {
            let age = (as_of.days() - claim.date.days()) as f64;
            evidence_weight(claim.credibility, age, HALF_LIFE_DAYS, claim.confidence)
        }
    };
    // One claim a document and value, the one that weighs most; in an order that doesn't depend on the input's.
    let mut best: BTreeMap<(&Value, usize), (f64, &Claim)> = BTreeMap::new();
    for claim in group {
        let w = weight(claim);
        let slot = best.entry((&claim.value, claim.document)).or_insert((w, claim));
        if (w, std::cmp::Reverse(claim.sentence)) > (slot.0, std::cmp::Reverse(slot.1.sentence)) {
            *slot = (w, claim);
        }
    }
    let total: f64 = best.values().map(|(w, _)| w).sum();
    let mut by_value: BTreeMap<&Value, Vec<(f64, &Claim)>> = BTreeMap::new();
    for ((value, _), weighed) in best {
        by_value.entry(value).or_default().push(weighed);
    }
    let values = by_value.len() as f64;
    by_value
        .into_iter()
        .map(|(value, mut weighed)| {
            weighed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.document.cmp(&b.1.document)));
            let sum: f64 = weighed.iter().map(|(w, _)| w).sum();
            Side {
                value: value.clone(),
                // Nothing but unbelieved or ancient statements: all values are equally doubtful.
                share: if total > 0.0 { sum / total } else { 1.0 / values },
                claims: weighed.into_iter().map(|(_, claim)| claim.clone()).collect(),
            }
        })
        .collect()
}

fn newest(side: &Side) -> Option<Date> {
    side.claims.iter().map(|claim| claim.date).max()
}

fn union_of_believed(sides: &[Side]) -> Option<Value> {
    let mut union = BTreeSet::new();
    for side in sides.iter().filter(|side| side.claims.iter().any(|c| c.credibility >= UNION_CREDIBILITY)) {
        if let Value::Set(members) = &side.value {
            union.extend(members.iter().cloned());
        }
    }
    (!union.is_empty()).then_some(Value::Set(union))
}

fn within(value: &Value, union: &Value) -> bool {
    match (value, union) {
        (Value::Set(part), Value::Set(whole)) => part.is_subset(whole),
        _ => value == union,
    }
}

impl fmt::Display for Resolution {
    /// One line for a settled question; for a contested one, every side with its sources and dates.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.entity, self.attribute).and_then(|()| match (&self.value, self.verdict) {
            (Some(value), Verdict::Clear | Verdict::Likely) => {
                let word = if self.verdict == Verdict::Clear { "clear" } else { "likely" };
                write!(f, "{value} ({word}, {:.0}% of the evidence)", 100.0 * self.share)
            }
            (Some(value), Verdict::Contested) => {
                write!(f, "contested, {value} has {:.0}% of the evidence", 100.0 * self.share)
            }
            (None, _) => f.write_str("opinions differ"),
        })?;
        if self.verdict == Verdict::Contested {
            for side in &self.sides {
                let claims = side.claims.iter().map(|c| format!("document {}, {}", c.document, c.date));
                write!(f, "; {} ({})", side.value, claims.collect::<Vec<_>>().join("; "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_text::values::{Polarity, find_values};
    use proptest::prelude::*;

    fn date(text: &str) -> Date {
        match find_values(text).first().map(|f| f.value.clone()) {
            Some(Value::Date(date)) => date,
            other => panic!("{other:?}"),
        }
    }

    fn claim(document: usize, value: Value, day: &str, credibility: f64) -> Claim {
        Claim {
            entity: "Ember Drone".into(),
            attribute: "price".into(),
            value,
            document,
            sentence: 0,
            date: date(day),
            credibility,
            confidence: 1.0,
        }
    }

    fn money(text: &str) -> Value {
        find_values(text)[0].value.clone()
    }

    fn prices() -> Vec<Claim> {
        vec![
            claim(0, money("$999"), "2023-06-01", 0.90),
            claim(1, money("$1299"), "2024-01-15", 0.95),
            claim(2, money("$1,299.00"), "2024-02-01", 0.70),
        ]
    }

    #[test]
    fn three_prices_by_hand() {
        let as_of = date("2024-03-01");
        let ages: Vec<i64> = prices().iter().map(|c| as_of.days() - c.date.days()).collect();
        assert_eq!(ages, [274, 46, 29]);
        for (claim, want) in prices().iter().zip([0.313_334, 0.795_781, 0.626_035]) {
            let age = (as_of.days() - claim.date.days()) as f64;
            assert!((evidence_weight(claim.credibility, age, HALF_LIFE_DAYS, 1.0) - want).abs() < 5e-7);
        }
        let resolution = resolve(&prices(), as_of, Weighting::Combined).unwrap();
        assert_eq!(resolution.value, Some(money("$1299")));
        assert!((resolution.share - 0.819_420).abs() < 5e-7);
        assert_eq!((resolution.verdict, resolution.kind), (Verdict::Clear, Some(ConflictKind::Temporal)));
        assert_eq!(resolution.sides[0].claims.len(), 2);
        assert_eq!(resolution.to_string(), "Ember Drone price: 1299.00 USD (clear, 82% of the evidence)");
    }

    #[test]
    fn an_old_official_note_loses_to_a_fresh_community_post() {
        let group = [claim(0, money("$10"), "2022-03-01", 0.98), claim(1, money("$20"), "2024-02-01", 0.60)];
        let resolution = resolve(&group, date("2024-03-01"), Weighting::Combined).unwrap();
        assert_eq!(resolution.value, Some(money("$20")));
        assert!((resolution.share - 0.901_380).abs() < 5e-7);
        let authority = resolve(&group, date("2024-03-01"), Weighting::Authority).unwrap();
        assert_eq!(authority.value, Some(money("$10")));
        let latest = resolve(&group, date("2024-03-01"), Weighting::Latest).unwrap();
        assert_eq!(latest.value, Some(money("$20")));
    }

    #[test]
    fn kinds_are_told_apart() {
        let kind = |a: Value, day_a: &str, b: Value, day_b: &str| {
            conflict_kind(&[claim(0, a, day_a, 0.9), claim(1, b, day_b, 0.9)])
        };
        let set = |names: &[&str]| Value::set(names);
        let opinion = |p| Value::Opinion(p);
        assert_eq!(kind(money("$1,299"), "2024-01-01", money("1299.00 USD"), "2020-01-01"), None);
        assert_eq!(kind(money("$1"), "2024-01-01", money("$2"), "2024-01-31"), Some(ConflictKind::Temporal));
        assert_eq!(kind(money("$1"), "2024-01-01", money("$2"), "2024-01-30"), Some(ConflictKind::Source));
        assert_eq!(kind(set(&["a", "b"]), "2024-01-01", set(&["a"]), "2020-01-01"), Some(ConflictKind::Partial));
        assert_eq!(kind(set(&["a", "b"]), "2024-01-01", set(&["a", "c"]), "2024-01-01"), Some(ConflictKind::Source));
        assert_eq!(
            kind(opinion(Polarity::Positive), "2024-01-01", opinion(Polarity::Negative), "2020-01-01"),
            Some(ConflictKind::Perspective)
        );
        assert_eq!(conflict_kind(&[]), None);
    }

    #[test]
    fn partial_sets_give_the_union_of_believed_sources() {
        let group = [
            claim(0, Value::set(["a", "b", "c"]), "2021-01-01", 0.9),
            claim(1, Value::set(["a"]), "2024-01-01", 0.95),
            claim(2, Value::set(["a", "x"]), "2024-01-01", 0.6),
        ];
        let resolution = resolve(&group, date("2024-03-01"), Weighting::Combined).unwrap();
        assert_eq!(resolution.value, Some(Value::set(["a", "b", "c"])));
        assert!(resolution.share < 1.0, "the forum's extra member is not supported");
    }

    #[test]
    fn opinions_are_never_collapsed() {
        let group = [
            claim(0, Value::Opinion(Polarity::Positive), "2024-01-01", 0.95),
            claim(1, Value::Opinion(Polarity::Negative), "2020-01-01", 0.10),
        ];
        let resolution = resolve(&group, date("2024-03-01"), Weighting::Combined).unwrap();
        assert!(resolution.share > 0.99);
        assert_eq!((resolution.value.as_ref(), resolution.verdict), (None, Verdict::Contested));
        let text = resolution.to_string();
        for part in ["positive (document 0, 2024-01-01)", "negative (document 1, 2020-01-01)"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_document_that_repeats_itself_counts_once() {
        let mut group = prices();
        for sentence in 1..20 {
            let mut again = group[0].clone();
            again.sentence = sentence;
            group.push(again);
        }
        let resolution = resolve(&group, date("2024-03-01"), Weighting::Combined).unwrap();
        assert!((resolution.share - 0.819_420).abs() < 5e-7);
    }

    #[test]
    fn improper_groups_are_refused() {
        let today = date("2024-03-01");
        assert!(resolve(&[], today, Weighting::Combined).is_err());
        let mut mixed = prices();
        mixed[1].attribute = "weight".into();
        assert!(resolve(&mixed, today, Weighting::Combined).unwrap_err().to_string().contains("weight"));
        let mut wild = prices();
        wild[0].credibility = f64::NAN;
        assert!(resolve(&wild, today, Weighting::Combined).is_err());
        let unbelieved = [claim(0, money("$1"), "2024-01-01", 0.0), claim(1, money("$2"), "2024-01-01", 0.0)];
        assert_eq!(resolve(&unbelieved, today, Weighting::Combined).unwrap().share, 0.5);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn shares_sum_to_one_and_order_does_not_matter(
            parts in prop::collection::vec((0i64..4, 0i64..900, 0.0f64..=1.0, 0.0f64..=1.0), 1..8),
            rotation in 0usize..8,
        ) {
            let base = date("2022-01-01");
            let mut group: Vec<Claim> = parts.iter().enumerate().map(|(i, &(v, _, credibility, confidence))| Claim {
                confidence,
                ..claim(i, Value::Number { micros: v }, "2022-01-01", credibility)
            }).collect();
            for (claim, part) in group.iter_mut().zip(&parts) {
                let month = 1 + (part.1 / 75) as u8;
                claim.date = Date::new(2022, month.min(12), 1).unwrap_or(base);
            }
            let today = date("2024-06-01");
            let one = resolve(&group, today, Weighting::Combined).unwrap();
            prop_assert!((one.sides.iter().map(|s| s.share).sum::<f64>() - 1.0).abs() < 1e-9);
            let by = rotation % group.len();
            group.rotate_left(by);
            prop_assert_eq!(one, resolve(&group, today, Weighting::Combined).unwrap());
        }
    }
}
