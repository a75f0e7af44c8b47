//! `FactCorpus`: a small world of products whose every fact is known, told in documents that repeat, rephrase and contradict it.
//!
//! Retrieval-augmented answering can only be graded where the truth is known down to the sentence. The generator draws a value for
//! seven of eight typed attributes of every entity (the eighth is never stated anywhere, so that a question about it has no
//! answer), spreads the facts over manuals, catalogues, release notes and forum posts in several paraphrases and notations, pads the
//! documents with shared boilerplate and category background (WordNet 3.0 glosses), and plants one contradiction an entity.

use std::collections::BTreeMap;
use std::fmt;

use eas_tensor::rng::SplitMix64;

/// The twelve first names of entities; further ones are coined from syllables.
pub const MATERIALS: [&str; 12] = [
    "Amber", "Basalt", "Cobalt", "Delta", "Ember", "Fjord", "Garnet", "Harbor", "Indigo", "Juniper", "Kestrel", "Lumen",
];

/// The five device categories.
pub const DEVICES: [&str; 5] = ["Router", "Camera", "Laptop", "Speaker", "Drone"];

/// The six protocols that a set value is drawn from.
pub const PROTOCOLS: [&str; 6] = ["Wi-Fi", "Bluetooth", "Zigbee", "Thread", "Matter", "NFC"];

/// The colours that a text value is drawn from.
pub const COLOURS: [&str; 10] = [
    "slate grey",
    "ivory white",
    "forest green",
    "ruby red",
    "midnight black",
    "sand beige",
    "ocean blue",
    "copper brown",
    "lemon yellow",
    "plum purple",
];

const AUTHORS: [&str; 8] =
    ["Ada Brook", "Ben Castle", "Carla Dorn", "David Elm", "Erin Falk", "Felix Grant", "Gita Holm", "Hugo Ivers"];

/// Sentences that documents share whatever they are about: the redundancy that a packer has to remove.
const BOILERPLATE: [&str; 30] = [
    "Please read this page before first use.",
    "Keep the packaging until everything works as it should.",
    "Use only the power adapter that is in the box.",
    "Do not open the housing, there are no serviceable parts inside.",
    "Our support team answers on working days between nine and five.",
    "Wipe the surface with a soft, dry cloth.",
    "Illustrations may differ from the delivered article.",
    "Thank you for reading, and let us know what we can improve.",
    "Registering online takes about two minutes.",
    "Keep small parts out of the reach of children.",
    "All trademarks belong to their owners.",
    "The box contains a quick start sheet and one cable.",
    "Updates are installed overnight when nobody is working.",
    "Spare parts can be ordered from any dealer.",
    "Store the article in a dry place when it is not in use.",
    "Technical changes remain possible without notice.",
    "A reset restores the factory settings and deletes personal data.",
    "The status light turns green when the start-up has finished.",
    "If the status light blinks, wait a moment and try again.",
    "Old devices belong in electronic waste, not in the household bin.",
    "The serial number is printed on the underside.",
    "Answers to common questions are collected on our help pages.",
    "Avoid direct sunlight and temperatures above 45 degrees.",
    "This text was checked by a second editor.",
    "A printed version can be requested free of charge.",
    "Shipping to islands may take a few days more.",
    "Accessories are sold separately.",
    "Newer texts replace older ones on the same subject.",
    "The screws on the back need a cross-head driver, e.g. size 1.",
    "Dealers receive a training video every quarter.",
];

/// Two of these background sentences, made of WordNet 3.0 glosses, stand in every document of the category.
const BACKGROUND: [[&str; 5]; 5] = [
    [
        "A router is a device that forwards data packets between computer networks.",
        "A modem is electronic equipment consisting of a device used to connect computers by a telephone line.",
        "An antenna is an electrical device that sends or receives radio or television signals.",
        "Bandwidth is the maximum amount of information that can be transmitted along a channel.",
        "A packet is a message or message fragment.",
    ],
    [
        "A camera is equipment for taking photographs.",
        "A lens is a transparent optical device used to converge or diverge transmitted light and to form images.",
        "A shutter is a mechanical device on a camera that opens and closes to control the time of a photographic exposure.",
        "A flash is a lamp for providing momentary light to take a photograph.",
        "A telephoto lens is a camera lens that magnifies the image.",
    ],
    [
        "A laptop is a portable computer small enough to use in your lap.",
        "A notebook is a small compact portable computer.",
        "A keyboard is a device consisting of a set of keys on a piano or organ or typewriter or computer or the like.",
        "A hard disk is a rigid magnetic disk mounted permanently in a drive unit.",
        "A headset is a receiver consisting of a pair of headphones.",
    ],
    [
        "A loudspeaker is an electro-acoustic transducer that converts electrical signals into sounds loud enough to be heard at a distance.",
        "A woofer is a loudspeaker that reproduces lower audio frequency sounds.",
        "A tweeter is a loudspeaker that reproduces higher audio frequency sounds.",
        "An amplifier is electronic equipment that increases strength of signals passing through it.",
        "A microphone is a device for converting sound waves into electrical energy.",
    ],
    [
        "A drone is an aircraft without a pilot that is operated by remote control.",
        "A propeller is a mechanical device that rotates to push against air or water.",
        "A rotor is a rotating mechanism consisting of an assembly of rotating airfoils.",
        "A gimbal is an appliance that allows an object to remain horizontal even as its support tips.",
        "An altimeter is an instrument that measures the height above ground.",
    ],
];

/// Price in dollars, weight in grams and battery life in hours from which the values of a category are drawn (both ends included).
const RANGES: [[(i64, i64); 3]; 5] = [
    [(59, 399), (300, 1_200), (2, 12)],
    [(249, 1_899), (250, 1_400), (3, 16)],
    [(599, 2_799), (900, 2_600), (6, 26)],
    [(39, 699), (350, 3_800), (8, 40)],
    [(299, 2_399), (240, 2_100), (1, 4)],
];

/// What a generator call was asked for and cannot do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FactError {
    /// No entity, or more than there are names.
    #[error("a fact corpus has between 1 and {max} entities, not {given}")]
    Entities {
        /// The number asked for.
        given: usize,
        /// The largest possible number.
        max: usize,
    },
    /// The seven facts of an entity fit only into 2 to 6 documents of 3 to 6 facts each.
    #[error("a fact corpus has between 2 and 6 documents an entity, not {0}")]
    DocsPerEntity(usize),
}

/// A day of the proleptic Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

impl Day {
    /// The day `month`-`day` of `year`; months and days beyond the calendar run over into the next year or month.
    pub fn new(year: i32, month: u32, day: u32) -> Self {
        // Days from civil: years start in March, so that the leap day is the last of its year (H. Hinnant).
        let (mut y, mut m) = (i64::from(year), i64::from(month));
        y += (m - 1).div_euclid(12);
        m = (m - 1).rem_euclid(12) + 1;
        let y = if m <= 2 { y - 1 } else { y };
        let era = y.div_euclid(400);
        let year_of_era = y.rem_euclid(400);
        let day_of_year = (153 * (m + if m > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(day) - 1;
        Self(era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468)
    }

    /// Days since 1970-01-01.
    pub fn number(self) -> i64 {
        self.0
    }

    /// The day `days` later.
    #[must_use]
    pub fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    /// Year, month (1-12) and day of the month (1-31).
    pub fn ymd(self) -> (i32, u32, u32) {
        let z = self.0 + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year as i32, month as u32, day as u32)
    }

    /// The calendar year.
    pub fn year(self) -> i32 {
        self.ymd().0
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.ymd();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// What is said about an entity. The first eight are facts; an opinion is a judgement on how easy it is to set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// Money.
    Price,
    /// Gigabytes.
    Memory,
    /// Kilograms.
    Weight,
    /// Hours.
    Battery,
    /// Months.
    Warranty,
    /// A date.
    Release,
    /// A set of protocols.
    Protocols,
    /// Text.
    Colour,
    /// Polarity of a judgement.
    Opinion,
}

impl Attribute {
    /// The eight typed attributes, in the order of the book.
    pub const TYPED: [Self; 8] = [
        Self::Price,
        Self::Memory,
        Self::Weight,
        Self::Battery,
        Self::Warranty,
        Self::Release,
        Self::Protocols,
        Self::Colour,
    ];

    /// The noun by which questions name it.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Price => "price",
            Self::Memory => "memory",
            Self::Weight => "weight",
            Self::Battery => "battery life",
            Self::Warranty => "warranty",
            Self::Release => "release date",
            Self::Protocols => "supported protocols",
            Self::Colour => "colour",
            Self::Opinion => "ease of setup",
        }
    }

    fn templates(self) -> &'static [&'static str] {
        match self {
            Self::Price => &[
                "The {e} costs {v}.",
                "You can buy the {e} for {v} in our shop.",
                "The list price of the {e} is {v} before tax.",
                "The {e} is priced at {v}.",
            ],
            Self::Memory => &[
                "The {e} has {v} of memory.",
                "The memory of the {e} is fixed at {v}.",
                "With {v} of RAM, the {e} handles long jobs without pauses.",
                "Inside the {e} there is {v} of working memory.",
            ],
            Self::Weight => &[
                "The {e} weighs {v}.",
                "The weight of the {e} is {v} without its packaging.",
                "On the scale, the {e} comes to {v}.",
                "The {e} has a mass of {v}.",
            ],
            Self::Battery => &[
                "The battery of the {e} lasts {v}.",
                "The {e} runs for {v} on one charge.",
                "A full charge keeps the {e} going for {v}.",
                "Expect {v} of battery life from the {e}.",
            ],
            Self::Warranty => &[
                "The {e} comes with a warranty of {v}.",
                "The maker guarantees the {e} for {v}.",
                "Warranty cover for the {e} ends after {v}.",
                "Repairs to the {e} are free for {v} from the day of purchase.",
            ],
            Self::Release => &[
                "The {e} was released on {v}.",
                "The {e} has been on sale since {v}.",
                "The {e} first shipped on {v}.",
                "The launch date of the {e} was {v}.",
            ],
            Self::Protocols => &[
                "The {e} supports {v}.",
                "The {e} speaks {v} out of the box.",
                "The supported protocols of the {e} are {v}.",
                "Other devices connect to the {e} over {v}.",
            ],
            Self::Colour => &[
                "The {e} comes in {v}.",
                "The case of the {e} is {v}.",
                "The {e} is finished in {v}.",
                "The only colour of the {e} is {v}.",
            ],
            Self::Opinion => &[
                "Setting up the {e} is {v}.",
                "I found that setting up the {e} was {v}.",
                "The setup of the {e} is {v}.",
            ],
        }
    }

    fn phrasings(self) -> [(&'static str, QuestionIntent); 3] {
        use QuestionIntent::{Explanation, Factual, HowTo, List};
        match self {
            Self::Price => [
                ("What is the price of the {e}?", Factual),
                ("How much does the {e} cost?", Factual),
                ("How do I budget for the {e}, what will I have to pay?", HowTo),
            ],
            Self::Memory => [
                ("How much memory does the {e} have?", Factual),
                ("What amount of RAM is built into the {e}?", Factual),
                ("Explain how much working memory the {e} offers.", Explanation),
            ],
            Self::Weight => [
                ("What is the weight of the {e}?", Factual),
                ("How heavy is the {e}?", Factual),
                ("How do I ship the {e}, how many kilograms are in the parcel?", HowTo),
            ],
            Self::Battery => [
                ("How long does the battery of the {e} last?", Factual),
                ("For how many hours does the {e} run on one charge?", Factual),
                ("Why would the {e} stop, and after how much time without mains power?", Explanation),
            ],
            Self::Warranty => [
                ("How long is the warranty of the {e}?", Factual),
                ("For how long does the maker guarantee the {e}?", Factual),
                ("How do I know when free repairs of the {e} end?", HowTo),
            ],
            Self::Release => [
                ("When was the {e} released?", Factual),
                ("What is the launch date of the {e}?", Factual),
                ("On which day did the {e} go on sale?", Factual),
            ],
            Self::Protocols => [
                ("What are the protocols that the {e} supports?", List),
                ("Which protocols does the {e} speak?", Factual),
                ("List the wireless standards of the {e}.", List),
            ],
            Self::Colour => [
                ("What colour is the {e}?", Factual),
                ("In which finish does the {e} come?", Factual),
                ("Explain what the case of the {e} looks like.", Explanation),
            ],
            Self::Opinion => [
                ("How easy is it to set up the {e}?", Factual),
                ("Is the setup of the {e} simple?", Factual),
                ("What do people say about setting up the {e}?", Factual),
            ],
        }
    }
}

/// A unit of a quantity; values are kept in these units whatever notation a sentence uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactUnit {
    /// Decimal gigabytes (1 TB = 1000 GB).
    Gigabyte,
    /// Kilograms.
    Kilogram,
    /// Hours.
    Hour,
    /// Months (1 year = 12 months).
    Month,
}

/// A typed value. `Display` writes its canonical notation: `$1299.00`, `16 GB`, `1.2 kg`, `2023-06-01`, `NFC, Wi-Fi`, `ruby red`.
#[derive(Debug, Clone, PartialEq)]
pub enum FactValue {
    /// An amount of US dollars, in cents.
    Money {
        /// Cents.
        cents: i64,
    },
    /// An amount of a unit.
    Quantity {
        /// The number of units.
        amount: f64,
        /// The unit.
        unit: FactUnit,
    },
    /// A day.
    Date(Day),
    /// Members in alphabetical order.
    Set(Vec<String>),
    /// A word or two.
    Text(String),
    /// A judgement.
    Opinion {
        /// True for praise, false for complaint.
        positive: bool,
    },
}

impl fmt::Display for FactValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Money { cents } => write!(f, "${}.{:02}", cents / 100, cents % 100),
            Self::Quantity { amount, unit } => {
                let unit = match unit {
                    FactUnit::Gigabyte => "GB",
                    FactUnit::Kilogram => "kg",
                    FactUnit::Hour => "hours",
                    FactUnit::Month => "months",
                };
                write!(f, "{amount} {unit}")
            }
            Self::Date(day) => write!(f, "{day}"),
            Self::Set(members) => f.write_str(&members.join(", ")),
            Self::Text(text) => f.write_str(text),
            Self::Opinion { positive } => f.write_str(if *positive { "positive" } else { "negative" }),
        }
    }
}

/// The four kinds of document, from the most to the least credible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentKind {
    /// Credibility 0.95.
    Manual,
    /// Credibility 0.90.
    Catalogue,
    /// Credibility 0.85.
    ReleaseNote,
    /// Credibility 0.60.
    Forum,
}

impl DocumentKind {
    /// All kinds; the n-th document of an entity is of kind n modulo 4.
    pub const ALL: [Self; 4] = [Self::Manual, Self::Catalogue, Self::ReleaseNote, Self::Forum];

    /// How far its statements are believed, in `[0, 1]`.
    pub fn credibility(self) -> f64 {
        match self {
            Self::Manual => 0.95,
            Self::Catalogue => 0.90,
            Self::ReleaseNote => 0.85,
            Self::Forum => 0.60,
        }
    }

    /// Its name in titles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Catalogue => "catalogue page",
            Self::ReleaseNote => "release note",
            Self::Forum => "forum post",
        }
    }
}

/// One generated document.
#[derive(Debug, Clone, PartialEq)]
pub struct FactDocument {
    /// Position in [`FactCorpus::documents`].
    pub id: usize,
    /// The entity that it is about.
    pub entity: usize,
    /// `"Amber Router manual"`.
    pub title: String,
    /// Its kind, hence its credibility.
    pub kind: DocumentKind,
    /// First and last name.
    pub author: String,
    /// The day on which it was written.
    pub date: Day,
    /// 10 to 14 sentences.
    pub sentences: Vec<String>,
}

impl FactDocument {
    /// The sentences joined by single spaces.
    pub fn text(&self) -> String {
        self.sentences.join(" ")
    }
}

/// What a sentence's statement is, measured against the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stance {
    /// It states the true value (for a perspective: the praise).
    True,
    /// It states the other side of a planted contradiction.
    Contradicting,
}

/// Which sentence states what.
#[derive(Debug, Clone, PartialEq)]
pub struct Mention {
    /// Document id.
    pub document: usize,
    /// Sentence number in the document, from 0.
    pub sentence: usize,
    /// Entity.
    pub entity: usize,
    /// Attribute.
    pub attribute: Attribute,
    /// The stated value.
    pub value: FactValue,
    /// Whether it is the true one.
    pub stance: Stance,
}

/// Why two sources disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContradictionKind {
    /// The value changed: the newer document (by at least 240 days) is right.
    Temporal,
    /// Two documents of nearly the same day disagree: the more credible one is right.
    Source,
    /// One document lists only some of the protocols.
    Partial,
    /// Two people judge differently: neither is right.
    Perspective,
}

/// One planted contradiction.
#[derive(Debug, Clone, PartialEq)]
pub struct Contradiction {
    /// Entity.
    pub entity: usize,
    /// Attribute ([`Attribute::Opinion`] for perspectives).
    pub attribute: Attribute,
    /// Kind.
    pub kind: ContradictionKind,
    /// The true value; `None` for a perspective.
    pub truth: Option<FactValue>,
    /// The contradicting value.
    pub other: FactValue,
    /// The document that contradicts.
    pub other_document: usize,
}

/// What a question wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuestionIntent {
    /// A single fact.
    Factual,
    /// Instructions.
    HowTo,
    /// Two things side by side.
    Comparison,
    /// Reasons.
    Explanation,
    /// An enumeration.
    List,
}

/// One (entity, attribute) that a question asks for, with its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldFact {
    /// Entity.
    pub entity: usize,
    /// Attribute.
    pub attribute: Attribute,
    /// The true value; `None` when no document states it.
    pub value: Option<FactValue>,
    /// (document, sentence) of every sentence that states the true value, ascending.
    pub sentences: Vec<(usize, usize)>,
}

/// A question with its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The text.
    pub text: String,
    /// The intent.
    pub intent: QuestionIntent,
    /// Which of the three phrasings it is, from 0.
    pub phrasing: usize,
    /// What it asks for: one fact, or two.
    pub facts: Vec<GoldFact>,
}

impl Question {
    /// Whether the corpus holds every fact it asks for.
    pub fn answerable(&self) -> bool {
        self.facts.iter().all(|fact| fact.value.is_some())
    }

    /// Ids of the documents that state a true value it asks for, ascending, each once.
    pub fn gold_documents(&self) -> Vec<usize> {
        let mut ids: Vec<usize> = self.facts.iter().flat_map(|f| f.sentences.iter().map(|s| s.0)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// How large a corpus to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactConfig {
    /// Number of entities, five of each first name.
    pub entities: usize,
    /// Documents an entity, 2 to 6.
    pub docs_per_entity: usize,
    /// Seed of every choice.
    pub seed: u64,
}

impl Default for FactConfig {
    /// The corpus of chapter 13: 60 entities, 240 documents.
    fn default() -> Self {
        Self { entities: 60, docs_per_entity: 4, seed: 13 }
    }
}

/// The generated world.
///
/// ```
/// use eas_data::synth::facts::{Attribute, FactConfig, FactCorpus};
///
/// let corpus = FactCorpus::generate(FactConfig::default())?;
/// assert_eq!(corpus.documents.len(), 240);
/// let question = corpus.question(0, Attribute::Price, 0);
/// assert_eq!(question.text, "What is the price of the Amber Router?");
/// # Ok::<(), eas_data::synth::facts::FactError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FactCorpus {
    /// Entity names, such as `"Amber Router"`.
    pub entities: Vec<String>,
    /// Documents, those of an entity side by side.
    pub documents: Vec<FactDocument>,
    /// The true value of every stated (entity, attribute); the never-stated attribute of an entity is missing.
    pub truth: BTreeMap<(usize, Attribute), FactValue>,
    /// Which sentence states what, by document and sentence.
    pub mentions: Vec<Mention>,
    /// The planted contradictions, one an entity.
    pub contradictions: Vec<Contradiction>,
}

/// Largest number of entities: the material names and the two-syllable coinages, five devices each.
const MAX_ENTITIES: usize = (MATERIALS.len() + STARTS.len() * ENDS.len()) * DEVICES.len();
const STARTS: [&str; 32] = [
    "Bel", "Cor", "Dra", "El", "Fen", "Gal", "Hol", "Ir", "Jas", "Kel", "Lor", "Mar", "Nor", "Or", "Pal", "Quil",
    "Ros", "Sel", "Tor", "Ul", "Ver", "Wil", "Xan", "Yor", "Zel", "Bran", "Cal", "Dor", "Far", "Gris", "Hal", "Kor",
];
const ENDS: [&str; 32] = [
    "dan", "via", "mond", "tis", "ran", "dora", "lin", "mar", "nex", "pia", "quor", "ris", "sten", "tova", "una",
    "vex", "wyn", "xis", "yra", "zan", "bero", "cass", "dune", "fira", "gant", "hune", "jor", "kira", "lux", "mere",
    "nova", "pell",
];

/// What one document is going to say about one attribute, before it is worded.
struct Statement {
    attribute: Attribute,
    value: FactValue,
    stance: Stance,
}

impl FactCorpus {
    /// Draws a corpus; equal configurations give equal corpora.
    ///
    /// Of every 15 entities 6 get a temporal, 4 a source, 3 a partial and 2 a perspective contradiction (24, 16, 12 and 8 of 60).
    ///
    /// # Errors
    /// [`FactError`] when `entities` is 0 or beyond the supply of names, or `docs_per_entity` is outside 2..=6.
    pub fn generate(config: FactConfig) -> Result<Self, FactError> {
        if !(1..=MAX_ENTITIES).contains(&config.entities) {
            return Err(FactError::Entities { given: config.entities, max: MAX_ENTITIES });
        }
        if !(2..=6).contains(&config.docs_per_entity) {
            return Err(FactError::DocsPerEntity(config.docs_per_entity));
        }
        let mut kinds: Vec<ContradictionKind> = (0..config.entities)
            .map(|i| match i % 15 {
                0..=5 => ContradictionKind::Temporal,
                6..=9 => ContradictionKind::Source,
                10..=12 => ContradictionKind::Partial,
                _ => ContradictionKind::Perspective,
            })
            .collect();
        SplitMix64::stream(config.seed, 0).shuffle(&mut kinds);
        let mut corpus = Self {
            entities: (0..config.entities).map(entity_name).collect(),
            documents: Vec::with_capacity(config.entities * config.docs_per_entity),
            truth: BTreeMap::new(),
            mentions: Vec::new(),
            contradictions: Vec::with_capacity(config.entities),
        };
        for (entity, kind) in kinds.into_iter().enumerate() {
            let mut rng = SplitMix64::stream(config.seed, 1 + entity as u64);
            corpus.add_entity(entity, kind, config.docs_per_entity, &mut rng);
        }
        Ok(corpus)
    }

    fn add_entity(&mut self, entity: usize, kind: ContradictionKind, docs: usize, rng: &mut SplitMix64) {
        let device = entity % DEVICES.len();
        let disputed = disputed_attribute(kind, rng);
        let unstated = loop {
            let candidate = Attribute::TYPED[rng.below(8)];
            if candidate != disputed {
                break candidate;
            }
        };
        let stated: Vec<Attribute> = Attribute::TYPED.into_iter().filter(|&a| a != unstated).collect();
        for &attribute in &stated {
            self.truth.insert((entity, attribute), draw_value(attribute, device, kind, rng));
        }

        let mut dates: Vec<Day> = (0..docs).map(|_| Day::new(2022, 1, 1).plus(rng.below(870) as i64)).collect();
        let mut plan: Vec<Vec<Statement>> = (0..docs).map(|_| Vec::new()).collect();
        self.plant(entity, kind, disputed, &mut dates, &mut plan, rng);

        // Every other fact goes once into the emptiest document, up to two more times where there is room; then the short documents
        // are filled up.
        let mut copies: Vec<(Attribute, usize)> = stated.iter().filter(|&&a| a != disputed).map(|&a| (a, 0)).collect();
        let extra: Vec<usize> = copies.iter().map(|_| rng.below(3)).collect();
        for round in 0..3 {
            for (slot, (attribute, placed)) in copies.iter_mut().enumerate() {
                if round > extra[slot] {
                    continue;
                }
                let mut order = rng.sample_indices(docs, docs);
                order.sort_by_key(|&d| facts_in(&plan[d]));
                let free = order
                    .into_iter()
                    .find(|&d| facts_in(&plan[d]) < 6 && plan[d].iter().all(|s| s.attribute != *attribute));
                if let Some(d) = free {
                    plan[d].push(self.true_statement(entity, *attribute));
                    *placed += 1;
                }
            }
        }
        for short in 0..docs {
            while facts_in(&plan[short]) < 3 {
                let absent = |attribute: Attribute, plan: &[Vec<Statement>]| {
                    plan[short].iter().all(|s| s.attribute != attribute)
                };
                let rarest = copies.iter_mut().filter(|(a, n)| *n < 3 && absent(*a, &plan)).min_by_key(|(_, n)| *n);
                if let Some((attribute, n)) = rarest {
                    *n += 1;
                    plan[short].push(self.true_statement(entity, *attribute));
                    continue;
                }
                // Every fact that could be added is stated three times already: a document with facts to spare gives one up.
                let spare = (0..docs).filter(|&d| facts_in(&plan[d]) > 3).find_map(|d| {
                    let movable = |s: &Statement| s.attribute != Attribute::Opinion && s.attribute != disputed;
                    let at = plan[d].iter().position(|s| movable(s) && absent(s.attribute, &plan))?;
                    Some((d, at))
                });
                if let Some((d, at)) = spare {
                    let statement = plan[d].remove(at);
                    plan[short].push(statement);
                    continue;
                }
                // None has any to spare: another document states once more what this one states already, and then it has.
                let again = copies.iter_mut().filter(|(_, n)| *n < 3).find_map(|(attribute, n)| {
                    let takes =
                        |d: &usize| facts_in(&plan[*d]) < 6 && plan[*d].iter().all(|s| s.attribute != *attribute);
                    Some((*attribute, (0..docs).find(takes)?, n))
                });
                let Some((attribute, d, n)) = again else { break };
                *n += 1;
                plan[d].push(self.true_statement(entity, attribute));
            }
        }
        self.write_documents(entity, device, &dates, plan, rng);
    }

    fn true_statement(&self, entity: usize, attribute: Attribute) -> Statement {
        let value = self.truth.get(&(entity, attribute)).cloned().unwrap_or(FactValue::Opinion { positive: true });
        Statement { attribute, value, stance: Stance::True }
    }

    /// Chooses the two sides of the entity's contradiction, sets their dates apart or together, and records it.
    fn plant(
        &mut self,
        entity: usize,
        kind: ContradictionKind,
        attribute: Attribute,
        dates: &mut [Day],
        plan: &mut [Vec<Statement>],
        rng: &mut SplitMix64,
    ) {
        let docs = dates.len();
        let device = entity % DEVICES.len();
        let truth = self.true_statement(entity, attribute);
        let order = rng.sample_indices(docs, docs);
        let kind_of = |d: usize| DocumentKind::ALL[d % 4];
        let (mut right, mut wrong) = (order[0], order[1]);
        let other = match kind {
            ContradictionKind::Temporal => {
                dates[wrong] = Day::new(2022, 2, 1).plus(rng.below(300) as i64);
                dates[right] = dates[wrong].plus(240 + rng.below(240) as i64);
                different_value(&truth.value, attribute, device, rng)
            }
            ContradictionKind::Source => {
                // The manual against the catalogue, or either against a less careful source; both within three weeks, so that age
                // does not decide; in half of the cases the wrong one is the newer.
                if docs >= 4 && rng.chance(0.6) {
                    wrong = 3;
                    right = rng.below(3);
                }
                if kind_of(right).credibility() == kind_of(wrong).credibility() {
                    right = 0;
                    wrong = 1;
                }
                if kind_of(right).credibility() < kind_of(wrong).credibility() {
                    std::mem::swap(&mut right, &mut wrong);
                }
                let most = if kind_of(wrong) == DocumentKind::Forum { 21 } else { 8 };
                let gap = 1 + rng.below(most) as i64;
                dates[wrong] = dates[right].plus(if rng.chance(0.5) { gap } else { -gap });
                different_value(&truth.value, attribute, device, rng)
            }
            ContradictionKind::Partial => {
                // The full list must come from a source that is believed.
                if kind_of(right) == DocumentKind::Forum {
                    std::mem::swap(&mut right, &mut wrong);
                }
                match &truth.value {
                    FactValue::Set(members) => {
                        let keep = 2 + rng.below(members.len().saturating_sub(3) + 1);
                        let mut kept = rng.sample_indices(members.len(), keep.min(members.len() - 1));
                        kept.sort_unstable();
                        FactValue::Set(kept.into_iter().map(|i| members[i].clone()).collect())
                    }
                    value => value.clone(),
                }
            }
            ContradictionKind::Perspective => FactValue::Opinion { positive: false },
        };
        self.contradictions.push(Contradiction {
            entity,
            attribute,
            kind,
            truth: (kind != ContradictionKind::Perspective).then(|| truth.value.clone()),
            other: other.clone(),
            other_document: self.documents.len() + wrong,
        });
        // A second witness for the truth where its date does not blur the kind.
        if kind == ContradictionKind::Temporal && docs > 2 && rng.chance(0.5) {
            let second = order[2];
            dates[second] = dates[right].plus(rng.below(60) as i64);
            plan[second].push(self.true_statement(entity, attribute));
        }
        plan[right].push(truth);
        plan[wrong].push(Statement { attribute, value: other, stance: Stance::Contradicting });
    }

    fn write_documents(
        &mut self,
        entity: usize,
        device: usize,
        dates: &[Day],
        plan: Vec<Vec<Statement>>,
        rng: &mut SplitMix64,
    ) {
        let name = self.entities[entity].clone();
        // Each statement of an attribute takes the next of its shuffled templates, so that no two documents use the same words.
        let mut wordings: BTreeMap<Attribute, Vec<&'static str>> = BTreeMap::new();
        for (n, statements) in plan.into_iter().enumerate() {
            let id = self.documents.len();
            let kind = DocumentKind::ALL[n % 4];
            let mut lines: Vec<(String, Option<Statement>)> = Vec::new();
            for statement in statements {
                let left = wordings.entry(statement.attribute).or_default();
                if left.is_empty() {
                    left.extend(statement.attribute.templates());
                    rng.shuffle(left);
                }
                let template = left.pop().unwrap_or("The {e}: {v}.");
                let sentence = template.replace("{e}", &name).replace("{v}", &notation(&statement.value, rng));
                lines.push((sentence, Some(statement)));
            }
            for i in rng.sample_indices(BACKGROUND[device].len(), 2) {
                lines.push((BACKGROUND[device][i].to_owned(), None));
            }
            let length = (10 + rng.below(5)).max(lines.len() + 1);
            let filler = rng.sample_indices(BOILERPLATE.len(), length - lines.len());
            lines.extend(filler.into_iter().map(|i| (BOILERPLATE[i].to_owned(), None)));
            rng.shuffle(&mut lines);
            let mut sentences = Vec::with_capacity(lines.len());
            for (sentence, statement) in lines {
                if let Some(Statement { attribute, value, stance }) = statement {
                    self.mentions.push(Mention {
                        document: id,
                        sentence: sentences.len(),
                        entity,
                        attribute,
                        value,
                        stance,
                    });
                }
                sentences.push(sentence);
            }
            self.documents.push(FactDocument {
                id,
                entity,
                title: format!("{name} {}", kind.name()),
                kind,
                author: AUTHORS[rng.below(AUTHORS.len())].to_owned(),
                date: dates[n],
                sentences,
            });
        }
    }

    /// The last day on which a document was written: "today" for weights that depend on age.
    pub fn as_of(&self) -> Day {
        self.documents.iter().map(|d| d.date).max().unwrap_or(Day::new(2024, 6, 1))
    }

    /// The attribute that no document states about `entity`.
    pub fn unstated(&self, entity: usize) -> Option<Attribute> {
        Attribute::TYPED.into_iter().find(|&a| !self.truth.contains_key(&(entity, a)))
    }

    /// What is true about (`entity`, `attribute`), and which sentences say so.
    pub fn fact(&self, entity: usize, attribute: Attribute) -> GoldFact {
        // Mentions are sorted by document, and an entity's documents stand side by side.
        let from = self.mentions.partition_point(|m| m.entity < entity);
        let sentences = self.mentions[from..]
            .iter()
            .take_while(|m| m.entity == entity)
            .filter(|m| m.attribute == attribute && m.stance == Stance::True)
            .map(|m| (m.document, m.sentence))
            .collect();
        GoldFact { entity, attribute, value: self.truth.get(&(entity, attribute)).cloned(), sentences }
    }

    /// The question for one fact in phrasing 0, 1 or 2 (taken modulo 3).
    pub fn question(&self, entity: usize, attribute: Attribute, phrasing: usize) -> Question {
        let phrasing = phrasing % 3;
        let (template, intent) = attribute.phrasings()[phrasing];
        let name = self.entities.get(entity).map_or("", String::as_str);
        Question { text: template.replace("{e}", name), intent, phrasing, facts: vec![self.fact(entity, attribute)] }
    }

    /// Every one-fact question: each entity, each typed attribute, three phrasings.
    pub fn questions(&self) -> Vec<Question> {
        let mut all = Vec::with_capacity(self.entities.len() * 24);
        for entity in 0..self.entities.len() {
            for attribute in Attribute::TYPED {
                all.extend((0..3).map(|phrasing| self.question(entity, attribute, phrasing)));
            }
        }
        all
    }

    /// A question for two attributes of one entity.
    pub fn two_fact_question(&self, entity: usize, attributes: [Attribute; 2], phrasing: usize) -> Question {
        let phrasing = phrasing % 3;
        let [a, b] = attributes.map(Attribute::noun);
        let name = self.entities.get(entity).map_or("", String::as_str);
        let text = match phrasing {
            0 => format!("Tell me the {a} and the {b} of the {name}."),
            1 => format!("I need the {a} of the {name} and also its {b}."),
            _ => format!("For the {name}, what is the {a}, and what is the {b}?"),
        };
        let facts = attributes.map(|attribute| self.fact(entity, attribute)).to_vec();
        Question { text, intent: QuestionIntent::Factual, phrasing, facts }
    }

    /// A question that puts one attribute of two entities side by side.
    pub fn comparison(&self, entities: [usize; 2], attribute: Attribute, phrasing: usize) -> Question {
        let phrasing = phrasing % 3;
        let [a, b] = entities.map(|e| self.entities.get(e).map_or("", String::as_str));
        let noun = attribute.noun();
        let text = match phrasing {
            0 => format!("Compare the {noun} of the {a} and the {b}."),
            1 => format!("What is the difference between the {a} and the {b} in {noun}?"),
            _ => format!("{a} vs {b}: which {noun} do they have?"),
        };
        let facts = entities.map(|entity| self.fact(entity, attribute)).to_vec();
        Question { text, intent: QuestionIntent::Comparison, phrasing, facts }
    }

    /// `answerable` one-fact questions about stated facts, then `unanswerable` ones about facts that no document states, in random
    /// order within each part and without repetition (fewer when the corpus has fewer).
    pub fn sample_questions(&self, answerable: usize, unanswerable: usize, seed: u64) -> Vec<Question> {
        let (mut stated, mut never): (Vec<_>, Vec<_>) = self.questions().into_iter().partition(Question::answerable);
        let mut rng = SplitMix64::stream(seed, 0);
        rng.shuffle(&mut stated);
        rng.shuffle(&mut never);
        let mut seen = std::collections::BTreeSet::new();
        let mut fresh = |q: &Question| seen.insert((q.facts[0].entity, q.facts[0].attribute));
        let mut sample: Vec<Question> = stated.into_iter().filter(&mut fresh).take(answerable).collect();
        sample.extend(never.into_iter().filter(&mut fresh).take(unanswerable));
        sample
    }
}

fn facts_in(statements: &[Statement]) -> usize {
    statements.iter().filter(|s| s.attribute != Attribute::Opinion).count()
}

fn entity_name(index: usize) -> String {
    let (first, device) = (index / DEVICES.len(), DEVICES[index % DEVICES.len()]);
    if let Some(material) = MATERIALS.get(first) {
        return format!("{material} {device}");
    }
    let coined = first - MATERIALS.len();
    // The stride 37 (coprime to 1,024) keeps neighbours in the list from sharing a syllable.
    let mixed = (coined * 37) % (STARTS.len() * ENDS.len());
    format!("{}{} {device}", STARTS[mixed / ENDS.len()], ENDS[mixed % ENDS.len()])
}

fn disputed_attribute(kind: ContradictionKind, rng: &mut SplitMix64) -> Attribute {
    use Attribute::{Battery, Colour, Memory, Opinion, Price, Protocols, Release, Warranty, Weight};
    match kind {
        ContradictionKind::Temporal => [Price, Memory, Weight, Battery, Warranty, Colour][rng.below(6)],
        ContradictionKind::Source => [Price, Memory, Weight, Battery, Warranty, Colour, Release][rng.below(7)],
        ContradictionKind::Partial => Protocols,
        ContradictionKind::Perspective => Opinion,
    }
}

fn draw_value(attribute: Attribute, device: usize, kind: ContradictionKind, rng: &mut SplitMix64) -> FactValue {
    let [price, weight, battery] = RANGES[device];
    let mut within = |(low, high): (i64, i64)| low + rng.below((high - low + 1) as usize) as i64;
    match attribute {
        Attribute::Price => FactValue::Money { cents: (within(price) / 10 * 10 + 9) * 100 },
        Attribute::Weight => quantity(within(weight) as f64 / 1000.0, FactUnit::Kilogram),
        Attribute::Battery => quantity(within(battery) as f64, FactUnit::Hour),
        Attribute::Memory => {
            let sizes = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000];
            quantity(f64::from(sizes[rng.below(sizes.len())]), FactUnit::Gigabyte)
        }
        Attribute::Warranty => quantity([6, 12, 18, 24, 30, 36, 48, 60][rng.below(8)] as f64, FactUnit::Month),
        Attribute::Release => FactValue::Date(Day::new(2020, 1, 1).plus(rng.below(730) as i64)),
        Attribute::Protocols => {
            // A set that is going to be told in part needs at least three members.
            let least = if kind == ContradictionKind::Partial { 3 } else { 2 };
            let size = least + rng.below(6 - least);
            let mut members: Vec<String> =
                rng.sample_indices(PROTOCOLS.len(), size).into_iter().map(|i| PROTOCOLS[i].to_owned()).collect();
            members.sort_unstable();
            FactValue::Set(members)
        }
        Attribute::Colour => FactValue::Text(COLOURS[rng.below(COLOURS.len())].to_owned()),
        Attribute::Opinion => FactValue::Opinion { positive: true },
    }
}

fn quantity(amount: f64, unit: FactUnit) -> FactValue {
    FactValue::Quantity { amount, unit }
}

fn different_value(value: &FactValue, attribute: Attribute, device: usize, rng: &mut SplitMix64) -> FactValue {
    loop {
        let other = draw_value(attribute, device, ContradictionKind::Source, rng);
        if other != *value {
            return other;
        }
    }
}

/// The value in one of the notations that people use for it.
fn notation(value: &FactValue, rng: &mut SplitMix64) -> String {
    match value {
        FactValue::Money { cents } => {
            let dollars = cents / 100;
            match rng.below(4) {
                0 => format!("${}", grouped(dollars)),
                1 => format!("${dollars}"),
                2 => format!("{dollars}.{:02} USD", cents % 100),
                _ => format!("${}.{:02}", grouped(dollars), cents % 100),
            }
        }
        FactValue::Quantity { amount, unit } => match unit {
            FactUnit::Gigabyte if *amount >= 1000.0 && rng.chance(0.5) => format!("{} TB", amount / 1000.0),
            FactUnit::Gigabyte => format!("{amount} {}", ["GB", "gigabytes"][rng.below(2)]),
            FactUnit::Kilogram => match rng.below(3) {
                0 => format!("{amount} kg"),
                1 => format!("{amount} kilograms"),
                _ => format!("{} g", grouped((amount * 1000.0).round() as i64)),
            },
            FactUnit::Hour => match rng.below(3) {
                0 if *amount <= 6.0 => format!("{} minutes", grouped((amount * 60.0).round() as i64)),
                1 => format!("{amount} h"),
                _ => format!("{amount} {}", if *amount == 1.0 { "hour" } else { "hours" }),
            },
            FactUnit::Month => {
                let months = *amount as i64;
                if months % 12 == 0 && rng.chance(0.5) {
                    format!("{} {}", months / 12, if months == 12 { "year" } else { "years" })
                } else {
                    format!("{months} months")
                }
            }
        },
        FactValue::Date(day) => {
            const MONTHS: [&str; 12] = [
                "January",
                "February",
                "March",
                "April",
                "May",
                "June",
                "July",
                "August",
                "September",
                "October",
                "November",
                "December",
            ];
            let (year, month, date) = day.ymd();
            let name = MONTHS[month as usize - 1];
            match rng.below(3) {
                0 => day.to_string(),
                1 => format!("{date} {name} {year}"),
                _ => format!("{name} {date}, {year}"),
            }
        }
        FactValue::Set(members) => {
            let mut shuffled = members.clone();
            rng.shuffle(&mut shuffled);
            match shuffled.split_last() {
                Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
                _ => shuffled.concat(),
            }
        }
        FactValue::Text(text) => text.clone(),
        FactValue::Opinion { positive: true } => {
            ["easy and quick", "a pleasure", "simple and well explained"][rng.below(3)].to_owned()
        }
        FactValue::Opinion { positive: false } => {
            ["slow and frustrating", "a nightmare", "confusing and badly explained"][rng.below(3)].to_owned()
        }
    }
}

/// `1234` as `1,234`.
fn grouped(number: i64) -> String {
    if number >= 1000 { format!("{},{:03}", number / 1000, number % 1000) } else { number.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn corpus() -> FactCorpus {
        FactCorpus::generate(FactConfig::default()).expect("the default configuration is valid")
    }

    #[test]
    fn the_default_corpus_has_the_counts_of_the_chapter() {
        let corpus = corpus();
        assert_eq!(corpus.entities.len(), 60);
        assert_eq!(corpus.documents.len(), 240);
        assert_eq!(corpus.truth.len(), 420);
        let sentences: usize = corpus.documents.iter().map(|d| d.sentences.len()).sum();
        assert!((2_700..3_100).contains(&sentences), "{sentences} sentences");
        let count = |kind| corpus.contradictions.iter().filter(|c| c.kind == kind).count();
        assert_eq!(
            [
                ContradictionKind::Temporal,
                ContradictionKind::Source,
                ContradictionKind::Partial,
                ContradictionKind::Perspective
            ]
            .map(count),
            [24, 16, 12, 8]
        );
        let unanswerable = corpus.questions().iter().filter(|q| !q.answerable()).count();
        assert_eq!(unanswerable, 60 * 3);
        assert_eq!(corpus, FactCorpus::generate(FactConfig::default()).expect("valid"));
    }

    #[test]
    fn a_mention_names_the_sentence_that_states_it() {
        let corpus = corpus();
        for mention in &corpus.mentions {
            let sentence = &corpus.documents[mention.document].sentences[mention.sentence];
            assert!(sentence.contains(&corpus.entities[mention.entity]), "{sentence}");
            if let FactValue::Text(colour) = &mention.value {
                assert!(sentence.contains(colour.as_str()), "{sentence}");
            }
        }
        let stating = corpus.mentions.len();
        let naming: usize = corpus
            .documents
            .iter()
            .map(|d| d.sentences.iter().filter(|s| s.contains(&corpus.entities[d.entity])).count())
            .sum();
        assert_eq!(stating, naming, "only statements name the entity");
    }

    #[test]
    fn contradictions_are_as_their_kind_says() {
        let corpus = corpus();
        for c in &corpus.contradictions {
            let fact = corpus.fact(c.entity, c.attribute);
            let wrong = &corpus.documents[c.other_document];
            assert!(!fact.sentences.is_empty());
            for &(id, _) in &fact.sentences {
                let right = &corpus.documents[id];
                let days = right.date.number() - wrong.date.number();
                match c.kind {
                    ContradictionKind::Temporal => assert!(days >= 240, "{days} days"),
                    ContradictionKind::Source => {
                        assert!(days.abs() < 30, "{days} days");
                        assert!(right.kind.credibility() > wrong.kind.credibility());
                    }
                    ContradictionKind::Partial => {
                        let (Some(FactValue::Set(full)), FactValue::Set(part)) = (&c.truth, &c.other) else {
                            panic!("{c:?}")
                        };
                        assert!(right.kind.credibility() >= 0.8);
                        assert!(part.len() < full.len() && part.len() >= 2 && part.iter().all(|p| full.contains(p)));
                    }
                    ContradictionKind::Perspective => assert_eq!(c.truth, None),
                }
            }
            assert_ne!(c.truth.as_ref(), Some(&c.other));
        }
        let newer_wrong = corpus
            .contradictions
            .iter()
            .filter(|c| c.kind == ContradictionKind::Source)
            .filter(|c| {
                corpus.documents[c.other_document].date
                    > corpus.documents[corpus.fact(c.entity, c.attribute).sentences[0].0].date
            })
            .count();
        assert!((3..=13).contains(&newer_wrong), "{newer_wrong} of 16 wrong sources are the newer");
    }

    #[test]
    fn questions_carry_their_gold() {
        let corpus = corpus();
        for question in corpus.sample_questions(120, 60, 1) {
            assert_eq!(question.answerable(), !question.gold_documents().is_empty(), "{}", question.text);
        }
        let sample = corpus.sample_questions(120, 60, 1);
        assert_eq!(sample.iter().filter(|q| q.answerable()).count(), 120);
        assert_eq!(sample.len(), 180);
        let two = corpus.two_fact_question(3, [Attribute::Price, Attribute::Weight], 0);
        assert_eq!(two.text, "Tell me the price and the weight of the Amber Speaker.");
        let versus = corpus.comparison([0, 5], Attribute::Battery, 2);
        assert_eq!(versus.text, "Amber Router vs Basalt Router: which battery life do they have?");
        assert_eq!(versus.facts.len(), 2);
    }

    #[test]
    fn bad_sizes_are_refused() {
        let of = |entities, docs_per_entity| FactCorpus::generate(FactConfig { entities, docs_per_entity, seed: 1 });
        assert_eq!(of(0, 4), Err(FactError::Entities { given: 0, max: MAX_ENTITIES }));
        assert!(of(MAX_ENTITIES + 1, 4).is_err());
        assert_eq!(of(5, 1), Err(FactError::DocsPerEntity(1)));
        assert_eq!(of(5, 7), Err(FactError::DocsPerEntity(7)));
    }

    #[test]
    fn names_never_repeat() {
        let mut names: Vec<String> = (0..MAX_ENTITIES).map(entity_name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MAX_ENTITIES);
    }

    #[test]
    fn days_follow_the_calendar() {
        assert_eq!(Day::new(1970, 1, 1).number(), 0);
        assert_eq!(Day::new(2000, 3, 1).number(), 11_017);
        assert_eq!(Day::new(2024, 3, 1).number() - Day::new(2023, 6, 1).number(), 274);
        for number in -800_000..800_000i64 {
            let day = Day(number);
            let (y, m, d) = day.ymd();
            assert_eq!(Day::new(y, m, d), day);
        }
        assert_eq!(Day::new(2024, 2, 29).to_string(), "2024-02-29");
    }

    #[test]
    fn a_document_that_no_fact_is_left_for_gets_one_of_another() {
        let (seed, docs_per_entity, entities) = (18_361_639_138_504_407_209, 6, 27);
        let corpus = FactCorpus::generate(FactConfig { entities, docs_per_entity, seed }).expect("valid");
        for document in &corpus.documents {
            let stated = |m: &&Mention| m.document == document.id && m.attribute != Attribute::Opinion;
            assert!((3..=6).contains(&corpus.mentions.iter().filter(stated).count()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_seed_keeps_the_shape(seed in any::<u64>(), docs_per_entity in 2usize..=6, entities in 1usize..40) {
            let corpus = FactCorpus::generate(FactConfig { entities, docs_per_entity, seed }).expect("valid");
            prop_assert_eq!(corpus.truth.len(), entities * 7);
            for document in &corpus.documents {
                prop_assert!((10..=14).contains(&document.sentences.len()), "{} sentences", document.sentences.len());
                let facts = corpus.mentions.iter().filter(|m| m.document == document.id && m.attribute != Attribute::Opinion).count();
                prop_assert!((3..=6).contains(&facts), "{} facts", facts);
            }
            for &(entity, attribute) in corpus.truth.keys() {
                let n = corpus.fact(entity, attribute).sentences.len();
                prop_assert!((1..=3).contains(&n), "{} documents", n);
            }
            for entity in 0..entities {
                let unstated = corpus.unstated(entity).expect("one attribute is never stated");
                prop_assert!(corpus.mentions.iter().all(|m| m.entity != entity || m.attribute != unstated));
            }
        }
    }
}
