//! Sentence boundaries with byte spans.
//!
//! A full stop ends a sentence only when what surrounds it agrees: "3.14", "v2.0", "e.g.", "J. Smith" and "Dr. Who" stay in one piece.
//! The rules are those of classic rule-based splitters (closing quotes, abbreviations, initials, what follows), written for English.

use crate::stopwords::is_stopword;
use std::ops::Range;

/// A sentence and where it stands; `text` is `&source[span]`, without the white space around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence<'a> {
    /// The sentence, punctuation included.
    pub text: &'a str,
    /// Its byte range in the source.
    pub span: Range<usize>,
}

/// Abbreviations that announce what follows: the sentence goes on whatever comes next.
const ALWAYS_CONTINUES: &[&str] = &[
    "approx", "capt", "cf", "col", "dr", "e.g", "eg", "esp", "gen", "gov", "hon", "i.e", "ie", "lt", "mr", "mrs", "ms",
    "mt", "prof", "rep", "rev", "sen", "sgt", "st", "viz", "vs",
];
/// Abbreviations that stand before a number.
const BEFORE_NUMBER: &[&str] = &["art", "ch", "eq", "fig", "figs", "no", "nos", "p", "pp", "sec", "vol"];

/// Splits `text` into sentences, in order. Only white space lies outside of the spans; a blank line always ends a sentence.
///
/// ```
/// let text = "Version 2.0 costs $3.14. It ships, e.g. by sea.";
/// let sentences = eas_text::sentences::sentences(text);
/// assert_eq!(sentences[0].text, "Version 2.0 costs $3.14.");
/// assert_eq!(&text[sentences[1].span.clone()], "It ships, e.g. by sea.");
/// ```
pub fn sentences(text: &str) -> Vec<Sentence<'_>> {
    let mut out = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\n' && text[at + 1..].trim_start_matches([' ', '\t', '\r']).starts_with('\n') {
            push(text, start..at, &mut out);
            start = at;
            continue;
        }
        if !is_terminator(c) {
            continue;
        }
        // The whole run of terminators and closing marks belongs to this sentence: `?!`, `...`, `."`, `.)`.
        let mut closing = false;
        let mut end = at + c.len_utf8();
        let mut run = 1;
        while let Some(&(next_at, next)) = chars.peek() {
            if is_closing(next) {
                closing = true;
            } else if is_terminator(next) && !closing {
                run += 1;
            } else {
                break;
            }
            end = next_at + next.len_utf8();
            chars.next();
        }
        let rest = &text[end..];
        if !rest.starts_with(char::is_whitespace) {
            continue;
        }
        let next = rest.trim_start();
        if next.is_empty() || ends_sentence(&text[start..at], c, run, closing, next) {
            push(text, start..end, &mut out);
            start = end;
        }
    }
    push(text, start..text.len(), &mut out);
    out
}

/// Whether the mark `c` after `before` ends a sentence when `next` follows behind white space.
fn ends_sentence(before: &str, c: char, run: usize, closing: bool, next: &str) -> bool {
    let first = next.trim_start_matches(is_opening).chars().next();
    let goes_on = first.is_none_or(|f| f.is_lowercase() || matches!(f, ',' | ';' | ':'));
    if c != '.' {
        return !(closing && goes_on);
    }
    if goes_on {
        return false;
    }
    if run > 1 {
        return true;
    }
    let word = before.rsplit(char::is_whitespace).next().unwrap_or("");
    let word = word.trim_start_matches(is_opening);
    // "1. Open the lid." is one item, not a sentence "1." and another one.
    if before.trim() == word && !word.is_empty() && word.chars().all(|d| d.is_ascii_digit()) {
        return false;
    }
    let lower = word.to_lowercase();
    if ALWAYS_CONTINUES.contains(&lower.as_str()) {
        return false;
    }
    if BEFORE_NUMBER.contains(&lower.as_str()) {
        return !first.is_some_and(|f| f.is_ascii_digit());
    }
    // Initials and dotted acronyms: "J. Smith", "the U.S. Army". A capitalised function word behind them starts a new sentence.
    let mut letters = word.chars();
    let initial = matches!((letters.next(), letters.next()), (Some(l), None) if l.is_uppercase() && l != 'I');
    let dotted = word.contains('.') && word.chars().all(|l| l.is_alphabetic() || l == '.');
    if initial || dotted {
        let next_word: String =
            next.trim_start_matches(is_opening).chars().take_while(|l| l.is_alphanumeric()).collect();
        return is_stopword(&next_word.to_lowercase());
    }
    true
}

fn is_terminator(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '\u{2026}')
}

fn is_closing(c: char) -> bool {
    matches!(c, '"' | '\'' | ')' | ']' | '}' | '\u{201d}' | '\u{2019}' | '\u{bb}')
}

fn is_opening(c: char) -> bool {
    matches!(c, '"' | '\'' | '(' | '[' | '{' | '\u{201c}' | '\u{2018}' | '\u{ab}')
}

fn push<'a>(text: &'a str, range: Range<usize>, out: &mut Vec<Sentence<'a>>) {
    let piece = &text[range.clone()];
    let trimmed = piece.trim();
    if !trimmed.is_empty() {
        let start = range.start + (piece.len() - piece.trim_start().len());
        out.push(Sentence { text: trimmed, span: start..start + trimmed.len() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|s| s.text).collect()
    }

    #[test]
    fn numbers_versions_and_abbreviations_stay_whole() {
        assert_eq!(
            split("Version 2.0 costs $3.14. It ships, e.g. by sea."),
            ["Version 2.0 costs $3.14.", "It ships, e.g. by sea."]
        );
        assert_eq!(split("Update to v2.0. Then restart."), ["Update to v2.0.", "Then restart."]);
        assert_eq!(split("See e.g. Rome or i.e. Milan."), ["See e.g. Rome or i.e. Milan."]);
        assert_eq!(split("Dr. Who met Mrs. Jones vs. Prof. Moriarty."), ["Dr. Who met Mrs. Jones vs. Prof. Moriarty."]);
        assert_eq!(
            split("See Fig. 3 and No. 7. Is it no. It is not."),
            ["See Fig. 3 and No. 7.", "Is it no.", "It is not."]
        );
    }

    #[test]
    fn initials_hold_names_together_but_not_sentences() {
        assert_eq!(split("J. R. R. Tolkien wrote it. He smoked."), ["J. R. R. Tolkien wrote it.", "He smoked."]);
        assert_eq!(split("A letter by J. Smith came."), ["A letter by J. Smith came."]);
        assert_eq!(split("Take vitamin C. It helps."), ["Take vitamin C.", "It helps."]);
        assert_eq!(
            split("The U.S. Army moved to the U.S. They stayed."),
            ["The U.S. Army moved to the U.S.", "They stayed."]
        );
        assert_eq!(split("So do I. Fine."), ["So do I.", "Fine."]);
    }

    #[test]
    fn quotes_ellipses_and_lists() {
        assert_eq!(
            split("\"Why?\" he asked. \"Because!\" She left."),
            ["\"Why?\" he asked.", "\"Because!\"", "She left."]
        );
        assert_eq!(split("Wait... there is more. Really?! Yes."), ["Wait... there is more.", "Really?!", "Yes."]);
        assert_eq!(split("1. Open the lid. 2. Pour."), ["1. Open the lid.", "2. Pour."]);
        assert_eq!(split("A title\n\nA body without a stop"), ["A title", "A body without a stop"]);
        assert_eq!(split("One line\nof a sentence."), ["One line\nof a sentence."]);
    }

    #[test]
    fn nothing_gives_nothing() {
        assert!(sentences("").is_empty());
        assert!(sentences(" \n\t ").is_empty());
        assert_eq!(split("..."), ["..."]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn spans_are_ordered_verbatim_and_lose_only_white_space(text in "[a-zA-Z0-9 .!?\"\n()é…$,]{0,120}") {
            let mut covered = 0;
            for s in sentences(&text) {
                prop_assert!(s.span.start >= covered);
                prop_assert!(text[covered..s.span.start].trim().is_empty());
                prop_assert_eq!(&text[s.span.clone()], s.text);
                prop_assert_eq!(s.text, s.text.trim());
                covered = s.span.end;
            }
            prop_assert!(text[covered..].trim().is_empty());
        }
    }
}
