//! WordPiece as uncased BERT uses it: text to vocabulary ids, with the byte range each piece came from.
//!
//! The steps are those of Devlin et al., "BERT" (NAACL 2019): delete control characters, put spaces around CJK ideographs,
//! decompose and drop nonspacing marks, lower-case, cut at white space and around punctuation, then take from each word the longest
//! vocabulary entry again and again (Wu et al. 2016, "Google's Neural Machine Translation System", section 4.1).
//! Agreement with the reference implementation is tested over every WordNet gloss and a file of nasty strings.

mod tables;

use crate::TextError;
use std::collections::HashMap;
use unicode_normalization::char::decompose_canonical;

/// A word longer than this many characters becomes one unknown token, as in BERT.
const MAX_WORD_CHARS: usize = 100;

/// One token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Row of the vocabulary.
    pub id: u32,
    /// First byte, in the original text, of the first character the piece came from.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Ids of the tokens that have a role of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Specials {
    /// Padding.
    pub pad: u32,
    /// A word that no pieces can spell.
    pub unk: u32,
    /// Start of a text.
    pub cls: u32,
    /// End of a text.
    pub sep: u32,
    /// A hidden word.
    pub mask: u32,
}

impl Specials {
    /// True when `id` is one of the five.
    pub fn contains(&self, id: u32) -> bool {
        [self.pad, self.unk, self.cls, self.sep, self.mask].contains(&id)
    }
}

/// The tokenizer of uncased BERT models over a given vocabulary.
#[derive(Debug, Clone)]
pub struct WordPiece {
    tokens: Vec<Box<str>>,
    whole: HashMap<Box<str>, u32>,
    continuation: HashMap<Box<str>, u32>,
    /// Length in bytes of the longest entry: no longer prefix needs a look-up.
    longest: usize,
    specials: Specials,
}

impl WordPiece {
    /// [`from_vocabulary`](Self::from_vocabulary) on a file's bytes, which must be UTF-8.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        let text = std::str::from_utf8(bytes).map_err(|e| TextError::vocabulary(&e))?;
        Self::from_vocabulary(text)
    }

    /// Builds the tokenizer from a vocabulary file's text: one entry a line, the line number (from 0) is the id, `##` marks a
    /// piece that continues a word.
    ///
    /// An error when an entry is empty or repeated, or one of `[PAD] [UNK] [CLS] [SEP] [MASK]` is missing.
    pub fn from_vocabulary(text: &str) -> Result<Self, TextError> {
        let lines = text.lines();
        let count = text.len() / 7;
        let mut tokens = Vec::with_capacity(count);
        let (mut whole, mut continuation) = (HashMap::with_capacity(count), HashMap::with_capacity(count / 4));
        let mut longest = 0;
        for (line, token) in lines.enumerate() {
            let id = u32::try_from(line).map_err(|_| TextError::vocabulary(&"more than 2^32 entries"))?;
            let (map, key): (&mut HashMap<Box<str>, u32>, &str) = match token.strip_prefix("##") {
                Some(rest) if !rest.is_empty() => (&mut continuation, rest),
                _ => (&mut whole, token),
            };
            if key.is_empty() {
                return Err(TextError::vocabulary(&format!("line {} is empty", line + 1)));
            }
            longest = longest.max(key.len());
            if map.insert(key.into(), id).is_some() {
                return Err(TextError::vocabulary(&format!("line {} repeats the entry {token:?}", line + 1)));
            }
            tokens.push(token.into());
        }
        let special = |name: &str| {
            let missing = || TextError::vocabulary(&format!("{name} is missing among {} entries", tokens.len()));
            whole.get(name).copied().ok_or_else(missing)
        };
        let specials = Specials {
            pad: special("[PAD]")?,
            unk: special("[UNK]")?,
            cls: special("[CLS]")?,
            sep: special("[SEP]")?,
            mask: special("[MASK]")?,
        };
        Ok(Self { tokens, whole, continuation, longest, specials })
    }

    /// Number of vocabulary entries.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Always false: a vocabulary holds at least the special tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The special tokens' ids.
    pub fn specials(&self) -> Specials {
        self.specials
    }

    /// The entry with the given id, `##` included.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(AsRef::as_ref)
    }

    /// The id of an entry written as in the vocabulary file, `##` included.
    pub fn id(&self, token: &str) -> Option<u32> {
        match token.strip_prefix("##") {
            Some(rest) if !rest.is_empty() => self.continuation.get(rest).copied(),
            _ => self.whole.get(token).copied(),
        }
    }

    /// The first `limit` pieces of `text` with their byte ranges; `[CLS]` and `[SEP]` aren't added.
    ///
    /// A special token spelled out in the text, such as `[MASK]`, is taken as that token, as the reference does.
    pub fn tokenize(&self, text: &str, limit: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.pieces::<true>(text, limit, &mut |piece| pieces.push(piece));
        pieces
    }

    /// The ids of [`tokenize`](Self::tokenize), faster since no byte ranges are kept.
    pub fn ids(&self, text: &str, limit: usize) -> Vec<u32> {
        let mut ids = Vec::new();
        self.for_each_id(text, limit, |id| ids.push(id));
        ids
    }

    /// Calls `sink` with each of the first `limit` ids of `text`.
    pub(crate) fn for_each_id(&self, text: &str, limit: usize, mut sink: impl FnMut(u32)) {
        self.pieces::<false>(text, limit, &mut |piece| sink(piece.id));
    }

    /// The ids a BERT model reads: `[CLS]`, at most `max_tokens - 2` pieces, `[SEP]`.
    pub fn model_ids(&self, text: &str, max_tokens: usize) -> Vec<u32> {
        let mut ids = vec![self.specials.cls];
        self.for_each_id(text, max_tokens.saturating_sub(2), |id| ids.push(id));
        ids.push(self.specials.sep);
        ids
    }

    /// Cuts the text at special tokens spelled out in it, and the stretches between them into words.
    fn pieces<const RANGES: bool>(&self, text: &str, limit: usize, sink: &mut impl FnMut(Piece)) {
        let mut words =
            Words::<RANGES, _> { vocabulary: self, word: String::new(), ranges: Vec::new(), left: limit, sink };
        let mut from = 0;
        while let Some((at, name, id)) = self.next_special(text, from) {
            words.run(text, from, at);
            if words.left == 0 {
                return;
            }
            words.left -= 1;
            let end = at + name.len();
            (words.sink)(Piece { id, start: at, end });
            from = end;
        }
        words.run(text, from, text.len());
    }

    fn next_special(&self, text: &str, from: usize) -> Option<(usize, &'static str, u32)> {
        let s = &self.specials;
        let names = [("[PAD]", s.pad), ("[UNK]", s.unk), ("[CLS]", s.cls), ("[SEP]", s.sep), ("[MASK]", s.mask)];
        let brackets = text[from..].match_indices('[').map(|(i, _)| from + i);
        for at in brackets {
            for (name, id) in names {
                if text[at..].starts_with(name) {
                    return Some((at, name, id));
                }
            }
        }
        None
    }
}

/// The word under construction and where its pieces go.
struct Words<'v, 's, const RANGES: bool, F> {
    vocabulary: &'v WordPiece,
    /// Cleaned, stripped, lower-cased characters of the current word.
    word: String,
    /// For each byte of `word`, the byte range of the original character; kept only when `RANGES`.
    ranges: Vec<(usize, usize)>,
    /// Pieces still wanted.
    left: usize,
    sink: &'s mut F,
}

impl<const RANGES: bool, F: FnMut(Piece)> Words<'_, '_, RANGES, F> {
    /// Splits `text[from..to]` into words and hands each to [`flush`](Self::flush).
    fn run(&mut self, text: &str, from: usize, to: usize) {
        for (offset, c) in text[from..to].char_indices() {
            if self.left == 0 {
                return;
            }
            let start = from + offset;
            if c.is_ascii() {
                match c {
                    'a'..='z' | '0'..='9' => self.push(c, start, start + 1),
                    'A'..='Z' => self.push(c.to_ascii_lowercase(), start, start + 1),
                    ' ' | '\t' | '\n' | '\r' => self.flush(),
                    _ if c.is_ascii_control() => {}
                    _ => self.push_alone(c, start, start + 1),
                }
            } else {
                self.push_unicode(c, start, start + c.len_utf8());
            }
        }
        self.flush();
    }

    fn push_unicode(&mut self, c: char, start: usize, end: usize) {
        if is_in(tables::REMOVED, c) {
            return;
        }
        if c.is_whitespace() {
            self.flush();
            return;
        }
        let ideograph = is_ideograph(c);
        if ideograph {
            self.flush();
        }
        decompose_canonical(c, |part| {
            if !is_in(tables::NONSPACING, part) {
                for lower in part.to_lowercase() {
                    if is_punctuation(lower) {
                        self.push_alone(lower, start, end);
                    } else if lower.is_whitespace() {
                        self.flush();
                    } else {
                        self.push(lower, start, end);
                    }
                }
            }
        });
        if ideograph {
            self.flush();
        }
    }

    fn push(&mut self, c: char, start: usize, end: usize) {
        self.word.push(c);
        if RANGES {
            self.ranges.resize(self.word.len(), (start, end));
        }
    }

    fn push_alone(&mut self, c: char, start: usize, end: usize) {
        self.flush();
        self.push(c, start, end);
        self.flush();
    }

    /// Spells the word with the longest vocabulary entries, left to right; one unknown token when that fails anywhere.
    fn flush(&mut self) {
        if self.word.is_empty() || self.left == 0 {
            self.word.clear();
            self.ranges.clear();
            return;
        }
        let (word, vocabulary) = (self.word.as_str(), self.vocabulary);
        let mut spelled: [(u32, u32, u32); MAX_WORD_CHARS] = [(0, 0, 0); MAX_WORD_CHARS];
        let mut count = 0;
        let mut at = 0;
        let too_long = word.len() > MAX_WORD_CHARS && word.chars().count() > MAX_WORD_CHARS;
        while !too_long && at < word.len() {
            let map = if at == 0 { &vocabulary.whole } else { &vocabulary.continuation };
            let mut end = word.floor_char_boundary(at + vocabulary.longest);
            let found = loop {
                if end <= at {
                    break None;
                }
                if let Some(&id) = map.get(&word[at..end]) {
                    break Some(id);
                }
                end = word.floor_char_boundary(end - 1);
            };
            let Some(id) = found else { break };
            spelled[count] = (id, at as u32, end as u32);
            count += 1;
            at = end;
        }
        if at < word.len() {
            spelled[0] = (vocabulary.specials.unk, 0, word.len() as u32);
            count = 1;
        }
        for &(id, from, to) in &spelled[..count.min(self.left)] {
            let (start, end) =
                if RANGES { (self.ranges[from as usize].0, self.ranges[to as usize - 1].1) } else { (0, 0) };
            (self.sink)(Piece { id, start, end });
        }
        self.left -= count.min(self.left);
        self.word.clear();
        self.ranges.clear();
    }
}

fn is_in(table: &[(u32, u32)], c: char) -> bool {
    let point = c as u32;
    let after = table.partition_point(|&(low, _)| low <= point);
    after > 0 && point <= table[after - 1].1
}

fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || (!c.is_ascii() && is_in(tables::PUNCTUATION, c))
}

/// CJK ideographs, the blocks that BERT separates by spaces (kana and hangul are not among them).
fn is_ideograph(c: char) -> bool {
    matches!(c as u32,
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A tokenizer with a vocabulary of a few words, for tests.
    pub(crate) fn small() -> WordPiece {
        let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nbank\nriver\n##s\nun\n##aff\n##able\ncafe\n!\nthe\n#\n";
        WordPiece::from_vocabulary(vocabulary).unwrap()
    }

    fn tokens(text: &str) -> Vec<String> {
        let wordpiece = small();
        let ids = wordpiece.ids(text, usize::MAX);
        ids.iter().map(|&id| wordpiece.token(id).unwrap().to_owned()).collect()
    }

    #[test]
    fn words_are_spelled_by_the_longest_entries() {
        assert_eq!(tokens("Banks! unaffable"), ["bank", "##s", "!", "un", "##aff", "##able"]);
        assert_eq!(tokens("unbank the"), ["[UNK]", "the"], "a word is unknown as a whole");
        assert_eq!(tokens("CAFÉ cafe\u{301}"), ["cafe", "cafe"]);
        assert_eq!(tokens(" \t\n"), Vec::<String>::new());
        assert_eq!(tokens("river[SEP]bank"), ["river", "[SEP]", "bank"]);
        assert_eq!(tokens(&"s".repeat(101)), ["[UNK]"]);
    }

    #[test]
    fn ranges_point_into_the_original_text() {
        let text = "The  CAFÉS\u{ad}!";
        let pieces = small().tokenize(text, usize::MAX);
        let parts: Vec<&str> = pieces.iter().map(|p| &text[p.start..p.end]).collect();
        assert_eq!(parts, ["The", "CAFÉ", "S", "!"]);
    }

    #[test]
    fn a_long_text_stops_at_the_limit() {
        let text = "river bank ".repeat(50_000);
        let wordpiece = small();
        assert_eq!(wordpiece.ids(&text, 254).len(), 254);
        assert_eq!(wordpiece.model_ids(&text, 256).len(), 256);
        assert_eq!(wordpiece.ids(&text, usize::MAX).len(), 100_000);
        assert_eq!(wordpiece.ids("banks", 1), wordpiece.ids("bank", 1));
        assert!(wordpiece.ids("bank", 0).is_empty());
    }

    #[test]
    fn bad_vocabularies_are_refused() {
        let message = |text: &str| WordPiece::from_vocabulary(text).unwrap_err().to_string();
        assert!(message("[PAD]\n[UNK]\n").contains("[CLS] is missing among 2 entries"));
        assert!(message("a\nb\na\n").contains("line 3 repeats the entry \"a\""));
        assert!(message("a\n\nb\n").contains("line 2 is empty"));
        assert!(WordPiece::from_bytes(&[0xff, 0xfe]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_gives_ordered_ranges_on_character_borders(text in "\\PC{0,40}") {
            let wordpiece = small();
            let pieces = wordpiece.tokenize(&text, usize::MAX);
            let ids: Vec<u32> = pieces.iter().map(|p| p.id).collect();
            prop_assert_eq!(ids, wordpiece.ids(&text, usize::MAX));
            let mut last = 0;
            for piece in pieces {
                prop_assert!(piece.start < piece.end && piece.start >= last);
                prop_assert!(text.get(piece.start..piece.end).is_some());
                last = piece.start;
            }
        }
    }
}
