//! The texts that the static encoder learns from, and its teacher's vectors of them.

use anyhow::{Context, Result, ensure};
use eas_data::wordnet::{Pos, Synset, WordNet};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;
use eas_text::minilm::{MAX_TOKENS, MiniLm};
use eas_text::wordpiece::WordPiece;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Glosses that no encoder of ours learns from: those that the agreement with MiniLM is measured on.
const HELD_OUT: usize = 5_000;

/// Texts that MiniLM encodes before what it has is saved.
const PART: usize = 4_096;
const TEXTS: &str = "texts.txt";
const VECTORS: &str = "vectors.npy";

/// Ids of the held-out synsets. Their glosses and examples are left out of every lesson.
pub fn held_out(wordnet: &WordNet) -> Vec<usize> {
    SplitMix64::new(HELD_OUT as u64).sample_indices(wordnet.synsets().len(), HELD_OUT)
}

/// The lessons' texts.
#[derive(Debug)]
pub struct Texts {
    /// Glosses, "lemmas: gloss" lines, examples of use and questions made from glosses.
    pub sentences: Vec<String>,
    /// Lemmas, those with most senses first.
    pub words: Vec<String>,
    /// Pairs of lemmas of one synset, and the first lemmas of a synset and of the broader ones it belongs to.
    pub synonyms: Vec<(String, String)>,
}

/// Draws the texts from all synsets but the held-out ones.
pub fn texts(wordnet: &WordNet) -> Texts {
    const GLOSSES: usize = 60_000;
    const LINES: std::ops::Range<usize> = 15_000..45_000;
    const LEMMAS: usize = 60_000;
    const EXAMPLES: usize = 6_000;
    const QUESTIONS: usize = 6_000;
    let synsets = wordnet.synsets();
    let unseen: HashSet<usize> = held_out(wordnet).into_iter().collect();
    let mut rest: Vec<usize> = (0..synsets.len()).filter(|i| !unseen.contains(i)).collect();
    SplitMix64::new(1).shuffle(&mut rest);

    let mut sentences: Vec<String> = rest[..GLOSSES].iter().map(|&i| synsets[i].gloss.clone()).collect();
    let line = |s: &Synset| format!("{}: {}", s.lemmas.join(", "), s.gloss);
    sentences.extend(rest.iter().rev().take(LINES.end).skip(LINES.start).map(|&i| line(&synsets[i])));

    let mut examples: Vec<&String> = (0..synsets.len())
        .filter(|i| !unseen.contains(i))
        .flat_map(|i| synsets[i].examples.iter().filter(|e| e.chars().count() > 10))
        .collect();
    SplitMix64::new(5).shuffle(&mut examples);
    sentences.extend(examples.into_iter().take(EXAMPLES).cloned());

    let mut rng = SplitMix64::new(6);
    let mut questions: Vec<String> = rest[..60_000].iter().filter_map(|&i| question(&synsets[i], &mut rng)).collect();
    SplitMix64::new(7).shuffle(&mut questions);
    sentences.extend(questions.into_iter().take(QUESTIONS));

    let mut senses: BTreeMap<&str, usize> = BTreeMap::new();
    for lemma in synsets.iter().flat_map(|s| &s.lemmas) {
        *senses.entry(lemma).or_default() += 1;
    }
    let mut lemmas: Vec<(&str, usize)> = senses.into_iter().collect();
    SplitMix64::new(2).shuffle(&mut lemmas);
    lemmas.sort_by_key(|&(_, count)| std::cmp::Reverse(count.min(4)));
    let words = lemmas.into_iter().take(LEMMAS).map(|(lemma, _)| lemma.to_owned()).collect();

    let mut synonyms = Vec::new();
    for synset in synsets {
        for (i, a) in synset.lemmas.iter().enumerate() {
            synonyms.extend(synset.lemmas[..i].iter().map(|b| (a.clone(), b.clone())));
        }
        for &broader in &synset.hypernyms {
            synonyms.push((synset.lemmas[0].clone(), synsets[broader as usize].lemmas[0].clone()));
        }
    }
    Texts { sentences, words, synonyms }
}

/// A question about a synset with a short gloss, so that the table learns how little "how do I" says.
fn question(synset: &Synset, rng: &mut SplitMix64) -> Option<String> {
    const ABOUT_VERBS: [(&str, &str); 7] = [
        ("How do I ", "?"),
        ("What do I need to ", "?"),
        ("When should I ", "?"),
        ("How can I ", "?"),
        ("How long does it take to ", "?"),
        ("What should I do to ", "?"),
        ("Why would somebody ", "?"),
    ];
    const ABOUT_NOUNS: [(&str, &str); 8] = [
        ("What is ", "?"),
        ("Which ", " do I need?"),
        ("Where can I find ", "?"),
        ("How does ", " work?"),
        ("How much ", " is there?"),
        ("How often is ", " used?"),
        ("What should I do with ", "?"),
        ("Who makes ", "?"),
    ];
    let gloss = synset.gloss.split(';').next().unwrap_or_default();
    if gloss.chars().count() >= 80 {
        return None;
    }
    match synset.pos {
        Pos::Verb => {
            let (before, after) = ABOUT_VERBS[rng.below(ABOUT_VERBS.len())];
            Some(format!("{before}{gloss}{after}"))
        }
        Pos::Noun => {
            let (before, after) = ABOUT_NOUNS[rng.below(ABOUT_NOUNS.len())];
            let subject = if rng.below(2) == 1 { gloss } else { &synset.lemmas[0] };
            Some(format!("{before}{subject}{after}"))
        }
        _ => None,
    }
}

/// Each vocabulary entry's share of running text: its count in the glosses, or Zipf's law by its place if that is larger, since BERT's
/// vocabulary lists whole words by falling frequency after about 2,000 special entries and characters.
pub fn token_frequency(wordnet: &WordNet, tokenizer: &WordPiece) -> Vec<f64> {
    const FIRST_WORD: usize = 1_996;
    let mut counts = vec![0.2_f64; tokenizer.len()];
    let mut total = 0.0;
    for synset in wordnet.synsets() {
        for id in tokenizer.ids(&synset.gloss, usize::MAX) {
            counts[id as usize] += 1.0;
            total += 1.0;
        }
    }
    let zipf = |id: usize| match id.checked_sub(FIRST_WORD) {
        Some(rank) => 1.0 / (10.9 * (rank + 1) as f64),
        None => 1e-3,
    };
    counts.iter().enumerate().map(|(id, count)| (count / total).max(zipf(id))).collect()
}

/// MiniLM, asked only for texts that it hasn't encoded in an earlier run.
#[derive(Debug)]
pub struct Teacher {
    folder: Option<PathBuf>,
    model: Option<MiniLm>,
    known: HashMap<String, usize>,
    vectors: Matrix,
}

impl Teacher {
    /// Starts from the texts and vectors that an earlier run left in `folder`, and leaves its own there; without a folder nothing is kept.
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let mut teacher = Self {
            folder: folder.map(Path::to_owned),
            model: None,
            known: HashMap::new(),
            vectors: Matrix::zeros(0, 0),
        };
        let texts = folder.map(|folder| folder.join(TEXTS)).filter(|texts| texts.is_file());
        if let (Some(folder), Some(texts)) = (folder, texts) {
            let lines = crate::read_lines(&texts)?;
            teacher.vectors = eas_data::npy::read_f32(folder.join(VECTORS))?;
            ensure!(
                lines.len() <= teacher.vectors.rows(),
                "{} lines in {} for {} vectors",
                lines.len(),
                texts.display(),
                teacher.vectors.rows()
            );
            teacher.vectors = teacher.vectors.select(&(0..lines.len()).collect::<Vec<_>>());
            let count = lines.len();
            teacher.known = lines.into_iter().enumerate().map(|(i, text)| (text, i)).collect();
            ensure!(teacher.known.len() == count, "{} repeats a line", texts.display());
        }
        Ok(teacher)
    }

    /// The vectors of `texts`; those that are new are encoded.
    pub fn encode(&mut self, texts: &[String]) -> Result<Matrix> {
        self.learn(texts, |model, text| Ok(model.tokenizer().model_ids(text, MAX_TOKENS)))?;
        Ok(self.vectors.select(&texts.iter().map(|text| self.known[text]).collect::<Vec<_>>()))
    }

    /// The vector of each vocabulary entry read as a text of one token.
    pub fn encode_vocabulary(&mut self, tokenizer: &WordPiece) -> Result<Matrix> {
        let names: Vec<String> = (0..tokenizer.len()).map(|id| format!("token {id}")).collect();
        let specials = tokenizer.specials();
        self.learn(&names, |_, name| {
            let id = name.trim_start_matches("token ").parse()?;
            Ok(vec![specials.cls, id, specials.sep])
        })?;
        Ok(self.vectors.select(&names.iter().map(|name| self.known[name]).collect::<Vec<_>>()))
    }

    fn learn(&mut self, texts: &[String], ids: impl Fn(&MiniLm, &str) -> Result<Vec<u32>>) -> Result<()> {
        let mut seen = HashSet::new();
        let new: Vec<&String> =
            texts.iter().filter(|text| !self.known.contains_key(*text) && seen.insert(*text)).collect();
        if new.is_empty() {
            return Ok(());
        }
        println!("MiniLM encodes {} texts", new.len());
        let model = match self.model.take() {
            Some(model) => model,
            None => MiniLm::load()?,
        };
        for (done, part) in new.chunks(PART).enumerate() {
            let lists = part.iter().map(|text| ids(&model, text)).collect::<Result<Vec<_>>>()?;
            self.vectors.append(&model.encode_ids(&lists)?)?;
            for text in part {
                self.known.insert((*text).clone(), self.known.len());
            }
            self.save()?;
            println!("{} of {} texts encoded", done * PART + part.len(), new.len());
        }
        self.model = Some(model);
        Ok(())
    }

    /// Leaves all texts and vectors in the folder.
    fn save(&self) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let mut lines: Vec<&str> = vec![""; self.known.len()];
        for (text, &i) in &self.known {
            lines[i] = text;
        }
        // The vectors first: a run that is cut off in between leaves more vectors than lines, which `open` understands.
        eas_data::npy::write_f32(folder.join(VECTORS), &self.vectors)?;
        Ok(std::fs::write(folder.join(TEXTS), lines.join("\n") + "\n")?)
    }
}
