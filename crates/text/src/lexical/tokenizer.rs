//! How a text becomes terms.

use crate::code::split_identifiers;

/// How a text becomes terms; all of them lower-case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tokenizer {
    /// Runs of two or more word characters (the pattern `\w\w+`): "shoes," gives "shoes"; one-letter words are dropped.
    #[default]
    Word,
    /// Runs of one or more word characters: keeps "C" and "5".
    AnyWord,
    /// Pieces between white space, punctuation included: "shoes," stays "shoes,".
    Whitespace,
    /// The parts of identifiers: `parseHTTPResponse` gives "parse", "http", "response" (see [`split_identifiers`]).
    Identifiers,
}

impl Tokenizer {
    /// The terms of `text` in order, repeats included.
    ///
    /// ```
    /// use eas_text::lexical::Tokenizer;
    ///
    /// assert_eq!(Tokenizer::Word.tokens("Running shoes, a pair"), ["running", "shoes", "pair"]);
    /// assert_eq!(Tokenizer::Whitespace.tokens("Running shoes, a pair"), ["running", "shoes,", "a", "pair"]);
    /// ```
    pub fn tokens(self, text: &str) -> Vec<String> {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        match self {
            Self::Word | Self::AnyWord => {
                let shortest = if self == Self::Word { 2 } else { 1 };
                text.to_lowercase()
                    .split(|c| !is_word(c))
                    .filter(|run| run.chars().take(shortest).count() == shortest)
                    .map(str::to_owned)
                    .collect()
            }
            Self::Whitespace => text.to_lowercase().split_whitespace().map(str::to_owned).collect(),
            Self::Identifiers => split_identifiers(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_and_short_words() {
        assert_eq!(Tokenizer::Word.tokens("C, SQL? API-v2 it's a_b"), ["sql", "api", "v2", "it", "a_b"]);
        assert_eq!(Tokenizer::AnyWord.tokens("C, SQL? it's"), ["c", "sql", "it", "s"]);
        assert_eq!(Tokenizer::Whitespace.tokens(" Shoes,\n shoes "), ["shoes,", "shoes"]);
        assert_eq!(Tokenizer::Identifiers.tokens("topK of BM25Index"), ["top", "k", "of", "bm", "25", "index"]);
    }

    #[test]
    fn words_of_other_scripts_count() {
        assert_eq!(Tokenizer::Word.tokens("Große Höhle, 東京 é"), ["große", "höhle", "東京"]);
        for tokenizer in [Tokenizer::Word, Tokenizer::AnyWord, Tokenizer::Whitespace, Tokenizer::Identifiers] {
            assert!(tokenizer.tokens("").is_empty());
        }
    }
}
