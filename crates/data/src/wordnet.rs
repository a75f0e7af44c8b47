//! WordNet 3.0: 117,659 synsets with lemmas, glosses, examples and the relations between them.
//!
//! Fellbaum (ed.), "WordNet: An Electronic Lexical Database" (MIT Press, 1998). The bundled file holds one text line a synset, in the
//! order of the database files (noun, verb, adj, adv), in four deflated blocks that are read on as many threads.

use crate::{DataError, bundle};
use flate2::read::DeflateDecoder;
use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::OnceLock;

const FILE: &str = "wordnet/wordnet30.bin";

/// Names of the 45 lexicographer files, by their number in the database (`lexnames(5)`).
const LEXICOGRAPHER_FILES: [&str; 45] = [
    "adj.all",
    "adj.pert",
    "adv.all",
    "noun.Tops",
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.attribute",
    "noun.body",
    "noun.cognition",
    "noun.communication",
    "noun.event",
    "noun.feeling",
    "noun.food",
    "noun.group",
    "noun.location",
    "noun.motive",
    "noun.object",
    "noun.person",
    "noun.phenomenon",
    "noun.plant",
    "noun.possession",
    "noun.process",
    "noun.quantity",
    "noun.relation",
    "noun.shape",
    "noun.state",
    "noun.substance",
    "noun.time",
    "verb.body",
    "verb.change",
    "verb.cognition",
    "verb.communication",
    "verb.competition",
    "verb.consumption",
    "verb.contact",
    "verb.creation",
    "verb.emotion",
    "verb.motion",
    "verb.perception",
    "verb.possession",
    "verb.social",
    "verb.stative",
    "verb.weather",
    "adj.ppl",
];

/// Part of speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pos {
    /// Noun.
    Noun,
    /// Verb.
    Verb,
    /// Adjective, satellites included.
    Adjective,
    /// Adverb.
    Adverb,
}

/// A relation between synsets. Lexical relations (antonym, derivation, pertainym) are kept between the synsets of their words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// The class that a class belongs to: dog -> canine.
    Hypernym,
    /// The inverse of [`Relation::Hypernym`].
    Hyponym,
    /// The class that an individual belongs to: Danube -> river.
    InstanceHypernym,
    /// The inverse of [`Relation::InstanceHypernym`].
    InstanceHyponym,
    /// The group that a member belongs to: wolf -> pack.
    MemberHolonym,
    /// The inverse of [`Relation::MemberHolonym`].
    MemberMeronym,
    /// The whole that a part belongs to: wheel -> wheeled vehicle.
    PartHolonym,
    /// The inverse of [`Relation::PartHolonym`].
    PartMeronym,
    /// The thing that a substance is in.
    SubstanceHolonym,
    /// The inverse of [`Relation::SubstanceHolonym`].
    SubstanceMeronym,
    /// Opposite: hot -> cold.
    Antonym,
    /// The head adjective of a satellite, and the satellites of a head.
    SimilarTo,
    /// Same stem in another part of speech: compute -> computer.
    Derivation,
    /// A related entry to look at.
    SeeAlso,
    /// The noun that an adjective is a value of, and the values of a noun.
    Attribute,
    /// The field in which the synset is used: service break -> tennis.
    Topic,
    /// The region in which it is used.
    Region,
    /// The kind of usage: slang, trademark, ...
    Usage,
    /// What doing one thing implies: snore -> sleep.
    Entailment,
    /// What one thing brings about: show -> see.
    Cause,
    /// Verbs of similar meaning.
    VerbGroup,
    /// The noun of a relational adjective, or the adjective of an adverb.
    Pertainym,
}

/// The letter of each relation in the file, and its inverse if that is derived rather than stored.
const STORED: [(u8, Relation, Option<Relation>); 17] = [
    (b'h', Relation::Hypernym, Some(Relation::Hyponym)),
    (b'i', Relation::InstanceHypernym, Some(Relation::InstanceHyponym)),
    (b'm', Relation::MemberHolonym, Some(Relation::MemberMeronym)),
    (b'p', Relation::PartHolonym, Some(Relation::PartMeronym)),
    (b's', Relation::SubstanceHolonym, Some(Relation::SubstanceMeronym)),
    (b'a', Relation::Antonym, None),
    (b'y', Relation::SimilarTo, None),
    (b'd', Relation::Derivation, None),
    (b'e', Relation::SeeAlso, None),
    (b't', Relation::Attribute, None),
    (b'c', Relation::Topic, None),
    (b'r', Relation::Region, None),
    (b'u', Relation::Usage, None),
    (b'n', Relation::Entailment, None),
    (b'k', Relation::Cause, None),
    (b'g', Relation::VerbGroup, None),
    (b'l', Relation::Pertainym, None),
];

const RELATIONS: usize = Relation::Pertainym as usize + 1;

/// A set of words that share one meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synset {
    /// Index into [`WordNet::synsets`], from 0, in file order noun, verb, adjective, adverb.
    pub id: u32,
    /// Byte offset in the database file of its part of speech, which together with `pos` is WordNet's own identifier.
    pub offset: u32,
    /// Part of speech.
    pub pos: Pos,
    /// Lexicographer file: `noun.animal`, `verb.motion`, ...
    pub lexicographer: &'static str,
    /// The words, most typical first, with spaces rather than underscores.
    pub lemmas: Vec<String>,
    /// For each lemma, the rank of this sense among the senses of that word in this part of speech; 1 is the most frequent.
    pub sense_ranks: Vec<u16>,
    /// The definition, without the examples.
    pub gloss: String,
    /// Sentences or phrases that show a use.
    pub examples: Vec<String>,
    /// The classes that this synset belongs to, of a class or of an individual (Danube -> river), ascending.
    pub hypernyms: Vec<u32>,
}

/// The whole database in memory.
#[derive(Debug)]
pub struct WordNet {
    synsets: Vec<Synset>,
    /// For each relation: where the targets of each synset start, and the targets.
    graph: Vec<(Vec<u32>, Vec<u32>)>,
    by_lemma: OnceLock<HashMap<String, Vec<u32>>>,
}

impl WordNet {
    /// Loads the bundled database, after its SHA-256 has been checked.
    pub fn load() -> Result<Self, DataError> {
        let bytes = bundle::read_verified(FILE)?;
        Self::parse(&bytes, &bundle::root().join(FILE))
    }

    /// All synsets; the index is the id.
    pub fn synsets(&self) -> &[Synset] {
        &self.synsets
    }

    /// The synsets of a word or phrase (any case, spaces between words): nouns, verbs, adjectives, adverbs, and in each the most
    /// frequent sense first. Inflected forms are not reduced.
    pub fn by_lemma(&self, lemma: &str) -> &[u32] {
        let index = self.by_lemma.get_or_init(|| index_lemmas(&self.synsets));
        let found = if lemma.bytes().any(|b| b.is_ascii_uppercase()) {
            index.get(&lemma.to_ascii_lowercase())
        } else {
            index.get(lemma)
        };
        found.map_or(&[], Vec::as_slice)
    }

    /// The synsets related to synset `id`, ascending; empty for an id that doesn't exist.
    pub fn related(&self, id: u32, relation: Relation) -> &[u32] {
        let (starts, targets) = &self.graph[relation as usize];
        match (starts.get(id as usize), starts.get(id as usize + 1)) {
            (Some(&from), Some(&to)) => &targets[from as usize..to as usize],
            _ => &[],
        }
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, DataError> {
        let bad = |problem: String| DataError::Format { path: path.to_owned(), problem };
        let blocks = split_blocks(bytes).ok_or_else(|| bad("the header isn't that of a synset file".to_owned()))?;
        let parsed: Vec<Result<Block, String>> = std::thread::scope(|scope| {
            let handles: Vec<_> = blocks.iter().map(|block| scope.spawn(move || parse_block(block))).collect();
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap_or_else(|_| Err("a reader thread failed".to_owned())))
                .collect()
        });
        let mut synsets = Vec::with_capacity(blocks.iter().map(|block| block.synsets).sum());
        let mut edges: Vec<Vec<(u32, u32)>> = vec![Vec::new(); RELATIONS];
        for block in parsed {
            let mut block = block.map_err(bad)?;
            let base = synsets.len() as u32;
            for synset in &mut block.synsets {
                synset.id += base;
            }
            synsets.append(&mut block.synsets);
            for (relation, from, to) in block.edges {
                edges[relation as usize].push((from + base, to));
            }
        }
        let count = synsets.len() as u32;
        if let Some((from, to)) = edges.iter().flatten().find(|(_, to)| *to >= count) {
            return Err(bad(format!("synset {from} points to {to} of {count}")));
        }
        for (_, relation, inverse) in STORED {
            if let Some(inverse) = inverse {
                edges[inverse as usize] = edges[relation as usize].iter().map(|&(from, to)| (to, from)).collect();
            }
        }
        let graph = edges.into_iter().map(|list| adjacency(count, &list)).collect();
        let mut wordnet = Self { synsets, graph, by_lemma: OnceLock::new() };
        wordnet.fill_hypernyms();
        wordnet.fill_parts_of_speech().map_err(bad)?;
        Ok(wordnet)
    }

    fn fill_hypernyms(&mut self) {
        for id in 0..self.synsets.len() {
            let mut up = self.related(id as u32, Relation::Hypernym).to_vec();
            up.extend_from_slice(self.related(id as u32, Relation::InstanceHypernym));
            up.sort_unstable();
            self.synsets[id].hypernyms = up;
        }
    }

    fn fill_parts_of_speech(&mut self) -> Result<(), String> {
        for synset in &mut self.synsets {
            synset.pos = match synset.lexicographer.split('.').next() {
                Some("noun") => Pos::Noun,
                Some("verb") => Pos::Verb,
                Some("adj") => Pos::Adjective,
                Some("adv") => Pos::Adverb,
                _ => return Err(format!("synset {} is in file {}", synset.id, synset.lexicographer)),
            };
        }
        Ok(())
    }
}

struct RawBlock<'a> {
    deflated: &'a [u8],
    text_bytes: usize,
    synsets: usize,
}

/// A block with ids counted from its own start.
struct Block {
    synsets: Vec<Synset>,
    edges: Vec<(Relation, u32, u32)>,
}

fn split_blocks(bytes: &[u8]) -> Option<Vec<RawBlock<'_>>> {
    let mut rest = bytes;
    let mut line = || -> Option<&str> {
        let end = rest.iter().take(64).position(|&b| b == b'\n')?;
        let (head, tail) = rest.split_at(end);
        rest = &tail[1..];
        std::str::from_utf8(head).ok()
    };
    let count: usize = line()?.strip_prefix("EASWN1 ")?.parse().ok()?;
    let mut sizes = Vec::new();
    for _ in 0..count {
        let mut numbers = line()?.split(' ').map(|n| n.parse::<usize>().ok());
        sizes.push((numbers.next()??, numbers.next()??, numbers.next()??));
    }
    let mut blocks = Vec::new();
    for (length, text_bytes, synsets) in sizes {
        // Deflate cannot shrink by more than 1:1032, and a synset takes a line of at least one byte.
        if text_bytes / 1032 > length || synsets > text_bytes {
            return None;
        }
        let deflated = rest.get(..length)?;
        rest = &rest[length..];
        blocks.push(RawBlock { deflated, text_bytes, synsets });
    }
    (rest.is_empty() && !blocks.is_empty()).then_some(blocks)
}

fn parse_block(block: &RawBlock<'_>) -> Result<Block, String> {
    let mut text = Vec::with_capacity(block.text_bytes + 1);
    DeflateDecoder::new(block.deflated)
        .take(block.text_bytes as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| format!("a block doesn't inflate: {error}"))?;
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    if text.len() != block.text_bytes {
        return Err(format!("a block has {} bytes of text, {} expected", text.len(), block.text_bytes));
    }
    let mut out = Block { synsets: Vec::with_capacity(block.synsets), edges: Vec::with_capacity(2 * block.synsets) };
    for line in text.lines() {
        parse_synset(line, &mut out).ok_or_else(|| format!("not a synset: {line:?}"))?;
    }
    if out.synsets.len() != block.synsets {
        return Err(format!("a block has {} synsets, {} expected", out.synsets.len(), block.synsets));
    }
    Ok(out)
}

fn parse_synset(line: &str, out: &mut Block) -> Option<()> {
    let id = out.synsets.len() as u32;
    let mut fields = line.split('\t');
    let offset = fields.next()?.parse().ok()?;
    let lexicographer = LEXICOGRAPHER_FILES.get(fields.next()?.parse::<usize>().ok()?)?;
    let words = fields.next()?;
    let count = words.bytes().filter(|&b| b == b'|').count() + 1;
    let mut lemmas = Vec::with_capacity(count);
    let mut sense_ranks = Vec::with_capacity(count);
    for word in words.split('|') {
        let (lemma, rank) = word.rsplit_once('#')?;
        lemmas.push(lemma.to_owned());
        sense_ranks.push(rank.parse().ok()?);
    }
    for group in fields.next()?.split(' ').filter(|group| !group.is_empty()) {
        let letter = group.as_bytes()[0];
        let (_, relation, _) = STORED.iter().find(|(stored, ..)| *stored == letter)?;
        for target in group.get(1..)?.split(',') {
            out.edges.push((*relation, id, target.parse().ok()?));
        }
    }
    let gloss = fields.next()?.to_owned();
    out.synsets.push(Synset {
        id,
        offset,
        pos: Pos::Noun,
        lexicographer,
        lemmas,
        sense_ranks,
        gloss,
        examples: fields.map(str::to_owned).collect(),
        hypernyms: Vec::new(),
    });
    Some(())
}

/// Compressed rows of the edge list, targets ascending.
fn adjacency(count: u32, edges: &[(u32, u32)]) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; count as usize + 1];
    for &(from, _) in edges {
        starts[from as usize + 1] += 1;
    }
    for i in 0..count as usize {
        starts[i + 1] += starts[i];
    }
    let mut next = starts.clone();
    let mut targets = vec![0u32; edges.len()];
    for &(from, to) in edges {
        let slot = &mut next[from as usize];
        targets[*slot as usize] = to;
        *slot += 1;
    }
    for i in 0..count as usize {
        targets[starts[i] as usize..starts[i + 1] as usize].sort_unstable();
    }
    (starts, targets)
}

fn index_lemmas(synsets: &[Synset]) -> HashMap<String, Vec<u32>> {
    let mut ranked: HashMap<String, Vec<(Pos, u16, u32)>> = HashMap::with_capacity(150_000);
    for synset in synsets {
        for (lemma, &rank) in synset.lemmas.iter().zip(&synset.sense_ranks) {
            let senses = ranked.entry(lemma.to_ascii_lowercase()).or_default();
            senses.push((synset.pos, rank, synset.id));
        }
    }
    ranked
        .into_iter()
        .map(|(lemma, mut senses)| {
            senses.sort_unstable();
            senses.dedup();
            (lemma, senses.into_iter().map(|(_, _, id)| id).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn wordnet() -> &'static WordNet {
        static LOADED: OnceLock<WordNet> = OnceLock::new();
        LOADED.get_or_init(|| WordNet::load().unwrap())
    }

    fn lemmas_of(ids: &[u32]) -> Vec<&'static str> {
        ids.iter().map(|&id| wordnet().synsets()[id as usize].lemmas[0].as_str()).collect()
    }

    /// Counts of the database's own statistics page, `wnstats(7)`.
    #[test]
    fn all_synsets_are_there() {
        let count = |pos| wordnet().synsets().iter().filter(|s| s.pos == pos).count();
        assert_eq!(wordnet().synsets().len(), 117_659);
        assert_eq!(count(Pos::Noun), 82_115);
        assert_eq!(count(Pos::Verb), 13_767);
        assert_eq!(count(Pos::Adjective), 18_156);
        assert_eq!(count(Pos::Adverb), 3_621);
        // The page counts a word once a synset, whatever its case; 37 synsets list a word in two spellings.
        let words = |synset: &Synset| {
            let set: std::collections::BTreeSet<String> = synset.lemmas.iter().map(|l| l.to_lowercase()).collect();
            set.len()
        };
        assert_eq!(wordnet().synsets().iter().map(words).sum::<usize>(), 206_941);
        for (i, synset) in wordnet().synsets().iter().enumerate() {
            assert_eq!(synset.id as usize, i);
            assert!(!synset.gloss.is_empty() && !synset.lemmas.is_empty());
            assert!(synset.lemmas.iter().all(|lemma| !lemma.contains('_')));
        }
    }

    #[test]
    fn a_synset_has_its_gloss_examples_and_class() {
        let dog = &wordnet().synsets()[wordnet().by_lemma("dog")[0] as usize];
        assert_eq!(dog.lemmas, ["dog", "domestic dog", "Canis familiaris"]);
        assert_eq!(dog.lexicographer, "noun.animal");
        assert!(dog.gloss.starts_with("a member of the genus Canis"), "{}", dog.gloss);
        assert_eq!(dog.examples, ["the dog barked all night"]);
        assert_eq!(lemmas_of(&dog.hypernyms), ["domestic animal", "canine"]);
    }

    #[test]
    fn senses_of_a_word_come_most_frequent_first_and_case_is_ignored() {
        let senses = wordnet().by_lemma("Bank");
        assert_eq!(senses, wordnet().by_lemma("bank"));
        assert_eq!(senses.len(), 18); // 10 nouns, 8 verbs
        let first = &wordnet().synsets()[senses[0] as usize];
        assert!(first.gloss.starts_with("sloping land"), "{}", first.gloss);
        assert!(wordnet().by_lemma("qwertyish").is_empty());
        assert!(wordnet().by_lemma("").is_empty());
    }

    #[test]
    fn relations_hold_both_ways() {
        let wn = wordnet();
        let id = |lemma: &str| wn.by_lemma(lemma)[0];
        assert_eq!(lemmas_of(wn.related(id("Danube"), Relation::InstanceHypernym)), ["river"]);
        assert!(wn.related(id("river"), Relation::InstanceHyponym).contains(&id("danube")));
        let snore = wn.by_lemma("saw wood")[0];
        assert_eq!(lemmas_of(wn.related(snore, Relation::Entailment)), ["sleep"]);
        let pairs = |relation| (0..117_659).map(|id| wn.related(id, relation).len()).sum::<usize>();
        assert_eq!(pairs(Relation::Hypernym), pairs(Relation::Hyponym));
        assert_eq!(pairs(Relation::Hypernym), 75_850 + 13_239); // noun and verb pointers `@` in the source files
        for id in (0..117_659).step_by(97) {
            for &other in wn.related(id, Relation::Antonym) {
                assert!(wn.related(other, Relation::Antonym).contains(&id));
            }
        }
        assert!(wn.related(u32::MAX, Relation::Hypernym).is_empty());
    }

    #[test]
    fn definitions_keep_no_examples() {
        let quoted = wordnet().synsets().iter().filter(|s| s.gloss.contains("; \"")).count();
        assert_eq!(quoted, 0);
        let examples: usize = wordnet().synsets().iter().map(|s| s.examples.len()).sum();
        assert!((48_000..48_500).contains(&examples), "{examples}");
    }

    #[test]
    fn damaged_files_are_refused() {
        let bytes = bundle::read_verified(FILE).unwrap();
        let path = PathBuf::from("wordnet30.bin");
        let refused = |bytes: &[u8]| WordNet::parse(bytes, &path).unwrap_err().to_string();
        for damaged in [&b""[..], b"EASWN1 ", b"EASWN1 1\n99999999999 5 5\n", b"EASWN1 1\n1 99999999999 5\nx"] {
            assert!(refused(damaged).contains("wordnet30.bin"));
        }
        assert!(refused(&bytes[..bytes.len() - 1]).contains("header"));
        let mut flipped = bytes.clone();
        for i in (2_000..2_200).step_by(20) {
            flipped[i] ^= 0xff;
        }
        assert!(refused(&flipped).contains("wordnet30.bin"));
    }
}
