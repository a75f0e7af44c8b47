//! Listing 1.4: latent Dirichlet allocation that recovers planted topics.
//!
//! cargo run --release --example lda_topic_discovery

use eas_data::synth::topics::{TopicConfig, TopicCorpus};
use eas_data::wordnet::WordNet;
use eas_eval::clustering::purity;
use eas_report::{Chart, Table, num, pct};
use eas_tensor::kernels::cosine;
use eas_tensor::sparse::Csr;
use eas_tensor::{Matrix, assign::hungarian, kmeans::KMeans, rng::SplitMix64};
use eas_text::lexical::Tokenizer;
use eas_text::stopwords::is_stopword;
use eas_text::topics::{CountMatrix, Lda};

const FILES: [&str; 8] = ["animal", "plant", "food", "artifact", "body", "location", "time", "feeling"];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed_or(4);

    page.section("A corpus with five planted topics");
    page.text(
        "Each of 600 documents mixes 5 topics, each topic is a distribution over 200 words, and every word of a document is drawn \
         from one topic. The model sees only the counts.",
    );
    let config = TopicConfig { seed, ..TopicConfig::default() };
    let corpus = TopicCorpus::generate(&config)?;
    let rows: Vec<Vec<(u32, f32)>> =
        corpus.documents.iter().map(|document| document.iter().map(|&word| (word as u32, 1.0)).collect()).collect();
    let counts = Csr::from_rows(config.vocabulary, &rows)?;
    let model = page.timed("fit 5 topics", || Lda::new(5, seed).fit(&counts))?;
    let (theta, beta) = (model.transform(&counts)?, model.beta());

    // Topics come back in any order: match each planted one with the found one of highest cosine.
    let planted: Vec<Vec<f32>> = corpus.beta.iter().map(|topic| topic.iter().map(|&p| p as f32).collect()).collect();
    let costs: Vec<Vec<f64>> =
        planted.iter().map(|topic| beta.iter_rows().map(|found| -f64::from(cosine(topic, found))).collect()).collect();
    let matched = hungarian(&costs)?;
    let cosines: Vec<f64> = matched.iter().zip(&costs).map(|(&found, row)| -row[found]).collect();
    let mut table = Table::new(["planted topic", "found as", "cosine", "its most probable words"]);
    for (topic, &found) in matched.iter().enumerate() {
        let words: Vec<String> = model.top_words(found, 6).iter().map(|word| format!("w{word}")).collect();
        table.row([topic.into(), found.into(), num(cosines[topic], 4).within(2e-3), words.join(" ").into()]);
    }
    page.table("Planted topics and what was found", &table);

    let truth: Vec<usize> = (0..counts.rows()).map(|d| corpus.dominant_topic(d)).collect();
    let right = |labels: &[usize], matched: &[usize]| {
        labels.iter().zip(&truth).filter(|&(&label, &topic)| label == matched[topic]).count() as f64
            / truth.len() as f64
    };
    let accuracy = right(&theta.iter_rows().map(largest).collect::<Vec<_>>(), &matched);
    // The baseline groups the raw count vectors; its clusters are matched with the planted topics by the documents they share.
    let mut dense = Matrix::zeros(counts.rows(), counts.dim());
    for (document, words) in corpus.documents.iter().enumerate() {
        for &word in words {
            dense.row_mut(document)[word] += 1.0;
        }
    }
    let clusters = KMeans { seed, ..KMeans::new(5) }.fit(&dense)?.assignments;
    let mut shared = vec![vec![0.0; 5]; 5];
    for (&cluster, &topic) in clusters.iter().zip(&truth) {
        shared[topic][cluster] -= 1.0;
    }
    let baseline = right(&clusters, &hungarian(&shared)?);
    let perplexity = model.perplexity(&counts)?;
    let mut table = Table::new(["model", "dominant topic right", "perplexity"]);
    table.row(["the parameters the corpus was drawn from".into(), pct(1.0, 1), num(corpus.true_perplexity(), 2)]);
    table.row(["LDA, 5 topics".into(), pct(accuracy, 1).within(0.01), num(perplexity, 2).within(0.5)]);
    table.row(["k-means++ on raw counts".into(), pct(baseline, 1).within(0.02), "-".into()]);
    page.table("How well the documents are understood", &table);
    let curve = [1, 2, 3, 4, 5, 6, 8, 10]
        .map(|topics| Lda::new(topics, seed).fit(&counts).and_then(|model| Ok((topics, model.perplexity(&counts)?))));
    page.chart(
        "perplexity.svg",
        &Chart::lines("Perplexity by number of topics", "topics (5 are planted)", "perplexity")
            .series("LDA", curve.into_iter().collect::<Result<Vec<_>, _>>()?)
            .level("true parameters", corpus.true_perplexity()),
    )?;

    page.section("Definitions of eight WordNet files");
    let wordnet = WordNet::load()?;
    let mut rng = SplitMix64::new(seed);
    let (mut glosses, mut labels) = (Vec::new(), Vec::new());
    for (label, file) in FILES.iter().enumerate() {
        let name = format!("noun.{file}");
        let of_file: Vec<_> = wordnet.synsets().iter().filter(|synset| synset.lexicographer == name).collect();
        for pick in rng.sample_indices(of_file.len(), 500) {
            glosses.push(of_file[pick].gloss.as_str());
            labels.push(label);
        }
    }
    let matrix = CountMatrix::of(&glosses, Tokenizer::Word, 3, |word| !is_stopword(word))?;
    let on_text = page.timed("fit 8 topics", || Lda { eta: 0.5, ..Lda::new(8, seed) }.fit(&matrix.counts))?;
    let text_theta = on_text.transform(&matrix.counts)?;
    let topics: Vec<usize> = text_theta.iter_rows().map(largest).collect();
    let mut table = Table::new(["topic", "glosses", "most frequent file", "its share", "most probable words"]);
    for topic in 0..8 {
        let mut files = [0usize; 8];
        for (_, &label) in topics.iter().zip(&labels).filter(|&(&t, _)| t == topic) {
            files[label] += 1;
        }
        let (total, best) = (files.iter().sum::<usize>(), (0..8).max_by_key(|&f| (files[f], 8 - f)).unwrap_or(0));
        let words: Vec<&str> = on_text.top_words(topic, 6).iter().map(|&w| matrix.vocabulary[w].as_str()).collect();
        let share = pct(files[best] as f64 / total.max(1) as f64, 0);
        table.row([topic.into(), total.into(), FILES[best].into(), share, words.join(" ").into()]);
    }
    page.table(format!("Topics of {} glosses", glosses.len()), &table);

    // Relatedness without a shared word: distances between the topic weights of glosses that have no term in common.
    let (mut same, mut different) = (Vec::new(), Vec::new());
    for _ in 0..20_000 {
        let (a, b) = (rng.below(glosses.len()), rng.below(glosses.len()));
        if a != b && matrix.counts.row(a).dot(&matrix.counts.row(b)) == 0.0 {
            let distances = if labels[a] == labels[b] { &mut same } else { &mut different };
            distances.push(hellinger(text_theta.row(a), text_theta.row(b)));
        }
    }
    let mean = |distances: &[f64]| distances.iter().sum::<f64>() / distances.len() as f64;
    let mut table = Table::new(["pairs of glosses without a shared term", "pairs", "mean Hellinger distance"]);
    table.row(["of the same file".into(), same.len().into(), num(mean(&same), 3)]);
    table.row(["of different files".into(), different.len().into(), num(mean(&different), 3)]);
    page.table("Relatedness beyond shared words", &table);

    page.claim("every planted topic is found with a cosine of at least 0.95")
        .at_least(cosines.iter().copied().fold(f64::INFINITY, f64::min), 0.95);
    page.claim("on average the cosine is at least 0.98").at_least(mean(&cosines), 0.98);
    page.claim("a document's dominant topic is right in at least 88 of 100 cases").at_least(accuracy, 0.88);
    page.claim("the perplexity is at most 1.2 times that of the true parameters")
        .at_most(perplexity / corpus.true_perplexity(), 1.20);
    page.claim("the evidence bound never falls by more than a millionth of its size")
        .all(model.elbo().windows(2), |pair| pair[1] >= pair[0] - 1e-6 * pair[0].abs());
    page.claim("word and topic distributions sum to one")
        .all(beta.iter_rows().chain(theta.iter_rows()), |row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    page.claim("the topics of the glosses are purer than chance (0.127) by far")
        .at_least(purity(&topics, &labels)?, 0.30);
    page.claim("without a shared word, glosses of one file are closer in topic than glosses of two")
        .less(mean(&same), mean(&different));
    page.finish()
}

/// The position of the largest weight, the first of several.
fn largest(weights: &[f32]) -> usize {
    (0..weights.len()).fold(0, |best, i| if weights[i] > weights[best] { i } else { best })
}

/// The distance of two distributions, from 0 (equal) to 1 (disjoint).
fn hellinger(a: &[f32], b: &[f32]) -> f64 {
    let overlap: f64 = a.iter().zip(b).map(|(x, y)| (f64::from(*x) * f64::from(*y)).sqrt()).sum();
    (1.0 - overlap).max(0.0).sqrt()
}
