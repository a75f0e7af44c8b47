//! Counting tokens, the unit in which context budgets are stated.

/// How the length of a text is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenCounter {
    /// Pieces between white space, punctuation included: `[1] Pump manual` counts 3.
    Words,
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
        }
    }
}
