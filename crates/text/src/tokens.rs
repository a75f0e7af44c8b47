//! Counting tokens, the unit in which context budgets are stated.

use crate::wordpiece::WordPiece;
use std::sync::Arc;

/// How the length of a text is measured.
#[derive(Debug, Clone)]
pub enum TokenCounter {
    /// Pieces between white space, punctuation included: `[1] Pump manual` counts 3.
    Words,
    /// Word pieces, as a transformer's budget counts them; `[CLS]` and `[SEP]` are not added.
    WordPiece(Arc<WordPiece>),
}

/// Equal when both count words, or both use the same tokenizer.
impl PartialEq for TokenCounter {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Words, Self::Words) => true,
            (Self::WordPiece(a), Self::WordPiece(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl TokenCounter {
    /// The number of tokens in `text`; 0 for an empty text.
    ///
    /// ```
    /// use eas_text::tokens::TokenCounter;
    ///
    /// assert_eq!(TokenCounter::Words.count("[1] Pump manual"), 3);
    /// ```
    pub fn count(&self, text: &str) -> usize {
        match self {
            Self::Words => text.split_whitespace().count(),
            Self::WordPiece(tokenizer) => tokenizer.ids(text, usize::MAX).len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_counted_without_special_tokens() {
        let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\npump\n##s\n.\n";
        let tokenizer = WordPiece::from_vocabulary(vocabulary).unwrap();
        let counter = TokenCounter::WordPiece(Arc::new(tokenizer));
        assert_eq!(counter.count("Pumps. pump"), 4);
        assert_eq!(counter.count(""), 0);
        assert_eq!(counter.count(&"pump ".repeat(100_000)), 100_000);
        assert_eq!(TokenCounter::Words.count("Pumps. pump"), 2);
    }
}
