//! A catalogue whose product lines have coined names, and the bundled encoder with some of its token vectors tuned.

use std::collections::BTreeMap;

use eas_data::pairs::hypernym_glosses;
use eas_data::wordnet::WordNet;
use eas_eval::ir::IrReport;
use eas_nn::bert::BertConfig;
use eas_nn::bert_encoder::BertEncoder;
use eas_nn::finetune::{EmbeddingFineTuner, Example, TokenEncoder, TokenIds, Trainable};
use eas_tensor::Matrix;
use eas_tensor::kernels::norm;
use eas_tensor::rng::SplitMix64;
use eas_text::encoder::SentenceEncoder;
use eas_text::minilm::MiniLm;
use eas_text::static_encoder::StaticEncoder;

/// What a product is for, and the coined name of the line that serves it. No text says which belongs to which.
const USES: [(&str, &str); 24] = [
    ("marathon running", "Zorvex"),
    ("trail hiking", "Palumi"),
    ("winter camping", "Tragon"),
    ("rock climbing", "Kelvora"),
    ("road cycling", "Brixal"),
    ("open water swimming", "Ondrel"),
    ("alpine skiing", "Vantir"),
    ("river kayaking", "Sylpho"),
    ("beach volleyball", "Murdex"),
    ("indoor yoga", "Quilon"),
    ("night fishing", "Harvik"),
    ("horse riding", "Jantor"),
    ("dog walking", "Feldra"),
    ("city commuting", "Crovane"),
    ("desert trekking", "Lumeth"),
    ("bird watching", "Dastor"),
    ("weight lifting", "Nerivo"),
    ("wild foraging", "Pexalo"),
    ("deep sea diving", "Wunder7"),
    ("garden work", "Gromel"),
    ("tennis training", "Ixtal"),
    ("motor racing", "Yarrowe"),
    ("golf practice", "Ubrin"),
    ("snow shoveling", "Ectavo"),
];
const KINDS: [&str; 10] =
    ["shoes", "jacket", "backpack", "gloves", "helmet", "bottle", "lamp", "socks", "trousers", "watch"];
/// What a customer asks for, and how the catalogue says it.
const ATTRIBUTES: [(&str, &str); 12] = [
    ("waterproof", "keeps rain out"),
    ("lightweight", "weighs very little"),
    ("insulated", "holds warmth"),
    ("breathable", "lets air through"),
    ("reflective", "shines in headlights"),
    ("foldable", "packs flat"),
    ("padded", "with soft cushioning"),
    ("stretchable", "elastic fit"),
    ("fireproof", "resists flames"),
    ("antislip", "firm grip sole"),
    ("cheap", "budget price"),
    ("premium", "luxury finish"),
];

/// A product and the query that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// `{line} {kind}, {phrase}`.
    pub text: String,
    /// `{attribute} {kind} for {use}`.
    pub query: String,
}

/// All 2,880 products, shuffled.
pub fn catalogue(seed: u64) -> Vec<Product> {
    let mut products = Vec::new();
    for (purpose, line) in USES {
        for kind in KINDS {
            for (attribute, phrase) in ATTRIBUTES {
                products.push(Product {
                    text: format!("{line} {kind}, {phrase}"),
                    query: format!("{attribute} {kind} for {purpose}"),
                });
            }
        }
    }
    SplitMix64::new(seed).shuffle(&mut products);
    products
}

/// The bundled encoder with the vectors of the tokens of some texts set apart, so that they alone are trained.
#[derive(Debug)]
pub struct Vocabulary {
    base: StaticEncoder,
    places: BTreeMap<u32, u32>,
    table: Matrix,
}

impl Vocabulary {
    /// The tokens of `texts`.
    pub fn new<'a>(base: StaticEncoder, texts: impl Iterator<Item = &'a str>) -> anyhow::Result<Self> {
        let mut places = BTreeMap::new();
        for id in texts.flat_map(|text| known(&base, text)) {
            places.insert(id, 0);
        }
        let mut rows = Vec::with_capacity(places.len());
        for (at, (id, place)) in places.iter_mut().enumerate() {
            *place = at as u32;
            rows.push(row(&base, *id)?);
        }
        Ok(Self { base, places, table: Matrix::from_rows(&rows)? })
    }

    /// Tokens set apart.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// An untrained encoder of these tokens.
    pub fn encoder(&self, trainable: Trainable) -> anyhow::Result<TokenEncoder> {
        Ok(TokenEncoder::new(&self.table, trainable)?)
    }

    /// A text as rows of the table; tokens that weren't set apart are left out.
    pub fn ids(&self, text: &str) -> TokenIds {
        known(&self.base, text).filter_map(|id| self.places.get(&id).copied()).collect()
    }

    /// Texts by the tuned vectors where there is one and by the bundled ones elsewhere; for encoders without a head.
    pub fn encode(&self, tuned: &TokenEncoder, texts: &[&str]) -> anyhow::Result<Matrix> {
        let table = tuned.table()?;
        let mut out = Matrix::zeros(texts.len(), table.dim());
        for (i, text) in texts.iter().enumerate() {
            let sum = out.row_mut(i);
            for id in known(&self.base, text) {
                let own = self.places.get(&id).map(|&place| table.row(place as usize).to_vec());
                let vector = own.map_or_else(|| row(&self.base, id), Ok)?;
                for (s, x) in sum.iter_mut().zip(vector) {
                    *s += x;
                }
            }
            let length = norm(sum);
            if length > 0.0 {
                for s in sum.iter_mut() {
                    *s /= length;
                }
            }
        }
        Ok(out)
    }

    /// Texts by the bundled vectors alone.
    pub fn frozen(&self, texts: &[&str]) -> anyhow::Result<Matrix> {
        Ok(self.base.encode(texts)?)
    }
}

/// The products, and the last 500 of their queries asked against all of them.
#[derive(Debug)]
pub struct Shop {
    /// All products; the first 2,000 are for training.
    pub products: Vec<Product>,
    /// Their tokens.
    pub words: Vocabulary,
    seed: u64,
}

impl Shop {
    /// The catalogue in the order of `seed`, with the vectors of its tokens as bundled.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        let products = catalogue(seed);
        let texts = products.iter().flat_map(|product| [product.query.as_str(), product.text.as_str()]);
        let words = Vocabulary::new(StaticEncoder::load()?, texts)?;
        Ok(Self { products, words, seed })
    }

    /// Ranks all products for the last queries.
    pub fn report(&self, queries: &Matrix, corpus: &Matrix) -> anyhow::Result<IrReport> {
        let first = self.products.len() - queries.rows();
        let own: Vec<Vec<usize>> = (first..self.products.len()).map(|product| vec![product]).collect();
        Ok(IrReport::new(queries, corpus, &own)?)
    }

    /// The last 500 queries, and all texts.
    pub fn texts(&self) -> (Vec<&str>, Vec<&str>) {
        let queries = self.products[self.products.len() - 500..].iter().map(|product| product.query.as_str());
        (queries.collect(), self.products.iter().map(|product| product.text.as_str()).collect())
    }

    /// The first `n` products as pairs, or as triplets with the text of another of them.
    pub fn examples(&self, n: usize, triplets: bool) -> Vec<Example> {
        let mut rng = SplitMix64::new(self.seed);
        let ids = |text: &str| self.words.ids(text);
        let example = |at: usize| {
            let (query, text) = (ids(&self.products[at].query), ids(&self.products[at].text));
            let other = (at + 1 + rng.below(n - 1)) % n;
            if triplets {
                Example::Triplet(query, text, ids(&self.products[other].text))
            } else {
                Example::Pair(query, text)
            }
        };
        (0..n).map(example).collect()
    }

    /// A token table tuned on the first `n` products, and its report; the warm-up takes a tenth of the steps at most.
    pub fn tune(
        &self,
        tuner: EmbeddingFineTuner,
        n: usize,
        triplets: bool,
    ) -> anyhow::Result<(TokenEncoder, IrReport)> {
        let encoder = self.words.encoder(Trainable::TokenTable)?;
        let warm_up = tuner.warm_up.min(tuner.steps(n) / 10);
        EmbeddingFineTuner { warm_up, seed: self.seed, ..tuner }.run(&encoder, &self.examples(n, triplets))?;
        let (queries, texts) = self.texts();
        let report = self.report(&self.words.encode(&encoder, &queries)?, &self.words.encode(&encoder, &texts)?)?;
        Ok((encoder, report))
    }
}

/// MiniLM with its last layers to tune.
#[derive(Debug)]
pub struct Transformer {
    published: MiniLm,
    layers: usize,
}

impl Transformer {
    /// An error that says what to run when the model isn't here.
    pub fn load(layers: usize) -> anyhow::Result<Self> {
        Ok(Self { published: MiniLm::load()?, layers })
    }

    /// Tunes on `train` and reports, before and after, how `held_out` pairs' first texts find their second among `corpus`; texts of at most
    /// 32 tokens.
    pub fn tune(
        &self,
        tuner: EmbeddingFineTuner,
        train: &[(&str, &str)],
        held_out: &[(&str, usize)],
        corpus: &[&str],
    ) -> anyhow::Result<[IrReport; 2]> {
        let weights = eas_data::root().join("models/all-MiniLM-L6-v2/model.safetensors");
        let encoder = BertEncoder::load(weights, BertConfig::MINI_LM_L6, self.layers)?;
        let ids = |text: &str| self.published.tokenizer().model_ids(text, 32);
        let queries: Vec<TokenIds> = held_out.iter().map(|(query, _)| ids(query)).collect();
        let texts: Vec<TokenIds> = corpus.iter().map(|text| ids(text)).collect();
        let own: Vec<Vec<usize>> = held_out.iter().map(|&(_, at)| vec![at]).collect();
        let report = || -> anyhow::Result<IrReport> {
            let encode = |texts: &[TokenIds]| encoder.encode(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            Ok(IrReport::new(&encode(&queries)?, &encode(&texts)?, &own)?)
        };
        let before = report()?;
        let examples: Vec<Example> = train.iter().map(|(a, b)| Example::Pair(ids(a), ids(b))).collect();
        tuner.run(&encoder, &examples)?;
        Ok([before, report()?])
    }

    /// [`tune`](Self::tune) on the first `n` products; the last `queries` products' queries among the last `texts` texts.
    pub fn tune_on_shop(
        &self,
        tuner: EmbeddingFineTuner,
        shop: &Shop,
        [n, queries, texts]: [usize; 3],
    ) -> anyhow::Result<[IrReport; 2]> {
        let train: Vec<(&str, &str)> = shop.products[..n].iter().map(|p| (p.query.as_str(), p.text.as_str())).collect();
        let last = &shop.products[shop.products.len() - texts..];
        let corpus: Vec<&str> = last.iter().map(|product| product.text.as_str()).collect();
        let held_out = (texts - queries..texts).map(|at| (last[at].query.as_str(), at));
        self.tune(tuner, &train, &held_out.collect::<Vec<_>>(), &corpus)
    }

    /// [`tune`](Self::tune) on `n` glosses and those of their hypernyms, measured on 500 synsets that training has not seen.
    pub fn tune_on_hypernyms(
        &self,
        tuner: EmbeddingFineTuner,
        wordnet: &WordNet,
        n: usize,
    ) -> anyhow::Result<[IrReport; 2]> {
        let split = hypernym_glosses(wordnet, n, 500, tuner.seed)?;
        let held_out: Vec<(&str, usize)> =
            split.held_out.iter().enumerate().map(|(at, &(query, _))| (query, at)).collect();
        let corpus: Vec<&str> = split.held_out.iter().map(|&(_, above)| above).collect();
        self.tune(tuner, &split.train, &held_out, &corpus)
    }
}

/// The ids of a text without special and unknown tokens.
fn known(base: &StaticEncoder, text: &str) -> impl Iterator<Item = u32> {
    let specials = base.tokenizer().specials();
    base.tokenizer().ids(text, usize::MAX).into_iter().filter(move |id| !specials.contains(*id))
}

fn row(base: &StaticEncoder, id: u32) -> anyhow::Result<Vec<f32>> {
    let vector = base.tokenizer().token(id).and_then(|token| base.token_vector(token));
    vector.ok_or_else(|| anyhow::anyhow!("token {id} has no vector"))
}
