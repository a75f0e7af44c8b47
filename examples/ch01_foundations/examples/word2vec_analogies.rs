//! Listing 1.5: train Word2Vec, solve analogies by vector arithmetic.
//!
//! cargo run --release --example word2vec_analogies

use eas_data::synth::analogies::{AnalogyKind, analogies, sentences};
use eas_data::wordnet::WordNet;
use eas_report::{Chart, Table, num};
use eas_tensor::rng::SplitMix64;
use eas_text::lexical::Tokenizer;
use eas_text::stopwords::is_stopword;
use eas_text::word2vec::{Mode, Word2Vec, WordVectors};

const PROBES: [&str; 8] = ["dog", "tree", "water", "music", "king", "war", "blood", "money"];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();

    page.section("A corpus with planted regularities");
    page.text(
        "10,000 sentences of 8 words: a noun such as `king` stands among words of its role and words of its gender, a country or \
         its capital among words of that country and words of countries or cities. No sentence states an analogy.",
    );
    let corpus = sentences(10_000, seed);
    let settings = |mode| Word2Vec { dim: 32, mode, seed, ..Word2Vec::default() };
    let mut table =
        Table::new(["mode", "gender, of 30", "capital, of 30", "inputs allowed, of 60", "loss, first and last epoch"]);
    let mut models = Vec::new();
    for mode in [Mode::Cbow, Mode::SkipGram] {
        let vectors = page.timed(format!("train {mode:?}"), || settings(mode).fit(&corpus))?;
        let solved = Solved::count(&vectors)?;
        let losses = vectors.losses();
        let trend = format!("{:.2} {:.2}", losses[0], losses[losses.len() - 1]);
        table.row([
            format!("{mode:?}").into(),
            solved.gender.into(),
            solved.capital.into(),
            solved.open.into(),
            trend.into(),
        ]);
        models.push((mode, vectors, solved));
    }
    page.table("Analogies solved: to - from + probe, nearest word", &table);
    let queen = models[0].1.most_similar(&["king", "woman"], &["man"], 3)?;
    let mut table = Table::new(["rank", "word", "cosine"]);
    for (rank, (word, score)) in queen.iter().enumerate() {
        table.row([(rank + 1).into(), (*word).into(), num(*score, 3).within(0.02)]);
    }
    page.table("king - man + woman", &table);
    let curve = |vectors: &WordVectors| (1..).zip(vectors.losses().iter().copied()).collect::<Vec<_>>();
    page.chart(
        "loss.svg",
        &Chart::lines("Negative-sampling loss", "epoch", "nats a prediction")
            .series("CBOW", curve(&models[0].1))
            .series("skip-gram", curve(&models[1].1)),
    )?;

    page.section("Real text: definitions of WordNet");
    let wordnet = WordNet::load()?;
    let content = |gloss: &str| Tokenizer::Word.tokens(gloss).into_iter().filter(|word| !is_stopword(word)).collect();
    let glosses: Vec<Vec<String>> = wordnet.synsets().iter().map(|synset| content(&synset.gloss)).collect();
    // Half a million words are little for this method: a rate six times the usual one makes up for some of it.
    let settings = Word2Vec { dim: 64, epochs: page.size(2, 10), alpha: 0.15, seed, ..Word2Vec::default() };
    let text = page.timed("train on glosses", || settings.fit(&glosses))?;
    let mut table = Table::new(["word", "ten nearest words"]);
    for probe in PROBES {
        let near: Vec<&str> = text.most_similar(&[probe], &[], 10)?.into_iter().map(|(word, _)| word).collect();
        table.row([probe.into(), near.join(" ").into()]);
    }
    page.table(format!("{} words, learned from definitions alone", text.words().len()), &table);

    // Pairs of single words that share a synset, against random pairs of the same words.
    let pairs: Vec<(&str, &str)> = wordnet
        .synsets()
        .iter()
        .filter_map(|synset| {
            let mut known = synset.lemmas.iter().filter(|lemma| text.vector(lemma).is_ok());
            Some((known.next()?.as_str(), known.next()?.as_str()))
        })
        .collect();
    let mut rng = SplitMix64::new(seed);
    let (mut synonyms, mut random) = (0.0, 0.0);
    for (a, b) in &pairs {
        synonyms += f64::from(text.similarity(a, b)?) / pairs.len() as f64;
        random += f64::from(text.similarity(a, pairs[rng.below(pairs.len())].1)?) / pairs.len() as f64;
    }
    let mut table = Table::new(["pairs of words", "number", "mean cosine"]);
    table.row(["synonyms".into(), pairs.len().into(), num(synonyms, 3).within(0.01)]);
    table.row(["random".into(), pairs.len().into(), num(random, 3).within(0.01)]);
    page.table("Synonyms", &table);
    let question = text.combine(&["king", "woman"], &["man"])?;
    let open: Vec<&str> = text.nearest(&question, 5)?.iter().map(|hit| text.words()[hit.id].as_str()).collect();
    let closed: Vec<&str> = text.most_similar(&["king", "woman"], &["man"], 5)?.iter().map(|hit| hit.0).collect();
    let mut table = Table::new(["king - man + woman on real text", "five nearest"]);
    table.row(["its own words allowed".into(), open.join(" ").into()]);
    table.row(["its own words excluded".into(), closed.join(" ").into()]);
    page.table("Why the words of the question must be excluded", &table);

    for (mode, vectors, solved) in &models {
        let (right, losses) = (solved.gender + solved.capital, vectors.losses());
        page.claim(format!("{mode:?}: at least 54 of the 60 analogies are solved")).at_least(right, 54);
        page.claim(format!("{mode:?}: no more are solved when the question's own words may be the answer"))
            .at_most(solved.open, right);
        page.claim(format!("{mode:?}: the loss of the last epoch is below that of the first"))
            .less(losses[losses.len() - 1], losses[0]);
    }
    page.claim("king - man + woman is nearest to queen").equals(queen[0].0, "queen");
    let again = Word2Vec { dim: 32, seed, ..Word2Vec::default() }.fit(&corpus)?;
    page.claim("the same seed gives the same vectors bit for bit")
        .equals(again.vectors().as_slice() == models[0].1.vectors().as_slice(), true);
    page.claim("on real text synonyms are closer than random pairs by at least 0.10").at_least(synonyms - random, 0.10);
    page.finish()
}

/// Analogies whose answer comes first.
struct Solved {
    gender: usize,
    capital: usize,
    /// Of all 60, when the question's own words may be the answer.
    open: usize,
}

impl Solved {
    fn count(vectors: &WordVectors) -> anyhow::Result<Self> {
        let mut solved = Self { gender: 0, capital: 0, open: 0 };
        for analogy in analogies() {
            let (positive, negative) = ([analogy.to, analogy.probe], [analogy.from]);
            let right = usize::from(vectors.most_similar(&positive, &negative, 1)?[0].0 == analogy.answer);
            match analogy.kind {
                AnalogyKind::Gender => solved.gender += right,
                AnalogyKind::Capital => solved.capital += right,
            }
            let nearest = vectors.nearest(&vectors.combine(&positive, &negative)?, 1)?[0];
            solved.open += usize::from(vectors.words()[nearest.id] == analogy.answer);
        }
        Ok(solved)
    }
}
