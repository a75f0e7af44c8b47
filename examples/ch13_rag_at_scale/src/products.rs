//! The world of the chapter seen by its readers: how the attributes of the fact corpus are worded, and its values in the normal form of
//! `eas_text::values`.

use eas_data::synth::facts::{Attribute, Day, FactUnit, FactValue, PROTOCOLS};
use eas_retrieval::claims::{AttributeRule, ValueKind};
use eas_text::values::{Currency, Date, Polarity, Unit, Value};

/// One rule an attribute: the cue words by which a sentence is known to be about it, and the kind of its values.
pub fn attribute_rules() -> Vec<AttributeRule> {
    let lead = |words: &[&str]| ValueKind::Text(words.iter().map(|&w| w.to_owned()).collect());
    let protocols = PROTOCOLS.iter().map(|&p| p.to_owned()).collect();
    let rule =
        |attribute: Attribute, cues: &[&str], kind| AttributeRule::new(attribute.noun(), cues.iter().copied(), kind);
    vec![
        rule(Attribute::Price, &["cost*", "price*", "buy"], ValueKind::Money),
        rule(Attribute::Memory, &["memory", "ram"], ValueKind::Quantity(Unit::Gigabyte)),
        rule(Attribute::Weight, &["weigh*", "scale", "mass"], ValueKind::Quantity(Unit::Kilogram)),
        rule(Attribute::Battery, &["battery", "charge", "runs for"], ValueKind::Quantity(Unit::Hour)),
        rule(Attribute::Warranty, &["warranty", "guarantee*", "repair*"], ValueKind::Quantity(Unit::Month)),
        rule(Attribute::Release, &["release*", "on sale", "shipped", "launch*"], ValueKind::Date),
        rule(Attribute::Protocols, &["support*", "speaks", "protocols", "connect"], ValueKind::Set(protocols)),
        rule(Attribute::Colour, &["colour", "finished in", "comes in", "case"], lead(&["in", "is"])),
        rule(Attribute::Opinion, &["setup", "setting up", "set up"], ValueKind::Opinion),
    ]
}

/// A value of the fact corpus in normal form.
pub fn normal_form(value: &FactValue) -> Value {
    match value {
        FactValue::Money { cents } => Value::Money { cents: *cents, currency: Currency::Usd },
        FactValue::Quantity { amount, unit } => Value::Quantity {
            micros: (amount * 1e6).round() as i64,
            unit: match unit {
                FactUnit::Gigabyte => Unit::Gigabyte,
                FactUnit::Kilogram => Unit::Kilogram,
                FactUnit::Hour => Unit::Hour,
                FactUnit::Month => Unit::Month,
            },
        },
        FactValue::Date(day) => calendar(*day).map_or_else(|| Value::text(&day.to_string()), Value::Date),
        FactValue::Set(members) => Value::set(members),
        FactValue::Text(text) => Value::text(text),
        FactValue::Opinion { positive } => {
            Value::Opinion(if *positive { Polarity::Positive } else { Polarity::Negative })
        }
    }
}

/// A day of the corpus as a calendar date; `None` only outside the years of `i32`.
pub fn calendar(day: Day) -> Option<Date> {
    let (year, month, date) = day.ymd();
    Date::new(year, u8::try_from(month).ok()?, u8::try_from(date).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_data::synth::facts::COLOURS;

    #[test]
    fn every_attribute_has_a_rule_and_colours_are_plain_text() {
        let rules = attribute_rules();
        for attribute in Attribute::TYPED.into_iter().chain([Attribute::Opinion]) {
            assert!(rules.iter().any(|rule| rule.name == attribute.noun()));
        }
        assert!(COLOURS.iter().all(|c| normal_form(&FactValue::Text((*c).to_owned())) == Value::text(c)));
        assert_eq!(calendar(Day::new(2024, 2, 29)), Date::new(2024, 2, 29));
    }
}
