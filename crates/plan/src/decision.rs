//! Train an embedding model from scratch, or fine-tune one that exists: a scoring rule whose every point can be read off.
//!
//! Each answer about a project gives points to one side or to both. The verdict depends on the difference alone, so that
//! [`DecisionContext::alternatives`] can say which single answer would change it.

use std::collections::BTreeSet;

use crate::PlanError;
use crate::error::non_negative;

/// A little, some, much: how far the domain is from what public models have read, or what the team can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Degree {
    /// A little.
    Low,
    /// Some.
    #[default]
    Medium,
    /// Much.
    High,
}

/// The quality that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Performance {
    /// As good as what others use.
    #[default]
    Standard,
    /// Better than that.
    High,
    /// The best there is.
    WorldClass,
}

/// What better embeddings are worth to the business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Advantage {
    /// Useful.
    #[default]
    Medium,
    /// A reason for customers to come.
    High,
    /// What the business lives on.
    Critical,
}

/// A demand that few public models meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Special {
    /// Text, pictures and more in one space.
    MultiModal,
    /// A model for phones or sensors.
    TinyModel,
    /// Coordinates that mean something.
    Interpretable,
}

impl Special {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MultiModal, Self::TinyModel, Self::Interpretable];
}

/// The answers about a project.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionContext {
    /// Examples to train on.
    pub training_examples: u64,
    /// Distance of the domain from what public models have read.
    pub domain_gap: Degree,
    /// Quality asked for.
    pub performance: Performance,
    /// Special demands.
    pub special: BTreeSet<Special>,
    /// Whether a public multi-modal model would do; without [`Special::MultiModal`] it doesn't matter.
    pub multimodal_pretrained_available: bool,
    /// Dollars a year; `None` when nobody has said, which counts for neither side.
    pub annual_budget_usd: Option<f64>,
    /// Months until it has to work.
    pub timeline_months: f64,
    /// What the team can do.
    pub team: Degree,
    /// What better embeddings are worth.
    pub advantage: Advantage,
}

impl Default for DecisionContext {
    /// No examples, twelve months, no stated budget, and the middle of everything else.
    fn default() -> Self {
        Self {
            training_examples: 0,
            domain_gap: Degree::default(),
            performance: Performance::default(),
            special: BTreeSet::new(),
            multimodal_pretrained_available: true,
            annual_budget_usd: None,
            timeline_months: 12.0,
            team: Degree::default(),
            advantage: Advantage::default(),
        }
    }
}

/// Which way to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Adapt a model that exists.
    FineTune,
    /// Train one from scratch.
    BuildCustom,
}

/// How clear the verdict is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    /// By a few points, or by none.
    Medium,
    /// By more than five points.
    High,
}

/// One answer and the points it gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factor {
    /// The question.
    pub name: &'static str,
    /// Points for training from scratch.
    pub custom: i32,
    /// Points for fine-tuning.
    pub finetune: i32,
    /// Why.
    pub reason: &'static str,
}

/// A level of effort between using a model as it is and training one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// 0 (as it is) to 4 (from scratch).
    pub number: u32,
    /// What is done.
    pub name: &'static str,
    /// How long it takes.
    pub effort: &'static str,
    /// What it costs.
    pub cost: &'static str,
    /// Per cent of the best reachable quality, from and to.
    pub percent_of_optimal: (u32, u32),
    /// Examples below which the level isn't worth its effort.
    pub examples: u64,
}

/// The spectrum from frozen to from scratch; the figures are the book's estimates.
pub const SPECTRUM: [Level; 5] = [
    Level {
        number: 0,
        name: "frozen",
        effort: "hours",
        cost: "$0-1k a month",
        percent_of_optimal: (60, 70),
        examples: 0,
    },
    Level {
        number: 1,
        name: "prompting",
        effort: "days to weeks",
        cost: "$1-5k a month",
        percent_of_optimal: (70, 80),
        examples: 0,
    },
    Level {
        number: 2,
        name: "last layers",
        effort: "weeks",
        cost: "$5-25k",
        percent_of_optimal: (80, 90),
        examples: 10_000,
    },
    Level {
        number: 3,
        name: "full fine-tuning",
        effort: "1-3 months",
        cost: "$25-150k",
        percent_of_optimal: (85, 95),
        examples: 100_000,
    },
    Level {
        number: 4,
        name: "from scratch",
        effort: "6-18 months",
        cost: "$0.5-5M",
        percent_of_optimal: (95, 100),
        examples: 10_000_000,
    },
];

/// The verdict and all that led to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Points for training from scratch.
    pub custom: i32,
    /// Points for fine-tuning.
    pub finetune: i32,
    /// Which way to go.
    pub verdict: Verdict,
    /// How clear it is.
    pub confidence: Confidence,
    /// Where in [`SPECTRUM`] to start.
    pub level: u32,
    /// How long it takes.
    pub effort: &'static str,
    /// What it costs.
    pub cost: &'static str,
    /// Examples that are missing for that level; above 0 only when everything but the data speaks for training from scratch.
    pub examples_short: u64,
    /// The seven answers and their points.
    pub factors: Vec<Factor>,
}

impl Decision {
    /// Points for training from scratch less those for fine-tuning.
    pub fn margin(&self) -> i32 {
        self.custom - self.finetune
    }

    /// Whether two points or fewer separate both sides: a good reason to try fine-tuning first and measure.
    pub fn is_close(&self) -> bool {
        self.margin().abs() <= 2
    }
}

/// Scores a project.
///
/// # Errors
/// A budget or a timeline that is negative or not a number.
///
/// ```
/// use eas_plan::decision::{Confidence, DecisionContext, Verdict, decide};
///
/// let clinic = DecisionContext { training_examples: 500_000, timeline_months: 3.0, ..DecisionContext::default() };
/// let decision = decide(&clinic)?;
/// assert_eq!((decision.custom, decision.finetune), (0, 8));
/// assert_eq!((decision.verdict, decision.confidence), (Verdict::FineTune, Confidence::High));
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
pub fn decide(context: &DecisionContext) -> Result<Decision, PlanError> {
    let factors = factors(context)?;
    let custom: i32 = factors.iter().map(|f| f.custom).sum();
    let finetune: i32 = factors.iter().map(|f| f.finetune).sum();
    let (verdict, confidence) = match custom - finetune {
        6.. => (Verdict::BuildCustom, Confidence::High),
        3.. => (Verdict::BuildCustom, Confidence::Medium),
        -5.. => (Verdict::FineTune, Confidence::Medium),
        _ => (Verdict::FineTune, Confidence::High),
    };
    let level = match (verdict, context.training_examples) {
        (Verdict::BuildCustom, _) => 4,
        // Too few examples to move a weight: the model as it is, or prompts where more is asked of it.
        (Verdict::FineTune, ..10_000) => u32::from(context.performance > Performance::Standard),
        (Verdict::FineTune, ..=100_000) => 2,
        (Verdict::FineTune, _) => 3,
    };
    let (effort, cost) = match (level, confidence) {
        (4, Confidence::Medium) => ("3-12 months", "$100k-1M"),
        (3, Confidence::Medium) => ("1-6 months", "$50-500k"),
        _ => (SPECTRUM[level as usize].effort, SPECTRUM[level as usize].cost),
    };
    let examples_short = SPECTRUM[level as usize].examples.saturating_sub(context.training_examples);
    Ok(Decision { custom, finetune, verdict, confidence, level, effort, cost, examples_short, factors })
}

fn factors(context: &DecisionContext) -> Result<Vec<Factor>, PlanError> {
    let months = non_negative("timeline in months", context.timeline_months)?;
    let budget = context.annual_budget_usd.map(|usd| non_negative("annual budget", usd)).transpose()?;
    let factor = |name, (custom, finetune, reason)| Factor { name, custom, finetune, reason };
    let data = match context.training_examples {
        10_000_001.. => (3, 0, "more than 10M examples: enough to learn from nothing"),
        1_000_001.. => (1, 2, "more than 1M examples: either can work"),
        100_001.. => (0, 3, "more than 100k examples: enough to adapt a model"),
        _ => (0, 5, "100k examples or fewer: a model from scratch would overfit"),
    };
    let gap = match context.domain_gap {
        Degree::High => (3, 0, "public models haven't seen this domain"),
        Degree::Medium => (0, 2, "public models know part of this domain"),
        Degree::Low => (0, 3, "public models know this domain"),
    };
    let performance = match context.performance {
        Performance::WorldClass => (3, 0, "the best there is needs a model of one's own"),
        Performance::High => (1, 1, "either reaches a high quality"),
        Performance::Standard => (0, 2, "fine-tuning reaches the usual quality"),
    };
    let has = |need| context.special.contains(&need);
    let no_model = has(Special::MultiModal) && !context.multimodal_pretrained_available;
    let points =
        2 * i32::from(no_model) + 2 * i32::from(has(Special::TinyModel)) + i32::from(has(Special::Interpretable));
    let special =
        if points > 0 { "no public model meets the special demands" } else { "a public model meets the demands" };
    let means = if budget.is_some_and(|usd| usd < 50_000.0) || months < 3.0 {
        (0, 4, "below $50k a year or three months: no room to train from scratch")
    } else if budget.is_some_and(|usd| usd > 1_000_000.0) && months > 12.0 {
        (2, 0, "above $1M a year and more than a year: room to train from scratch")
    } else {
        (0, 0, "money and time decide nothing")
    };
    let team = match context.team {
        Degree::High => (1, 0, "the team has trained such models"),
        Degree::Medium => (0, 0, "the team could learn either"),
        Degree::Low => (0, 2, "the team has never trained a model"),
    };
    let advantage = match context.advantage {
        Advantage::Critical => (3, 0, "the business lives on this quality"),
        Advantage::High => (1, 1, "quality brings customers, and so does an early start"),
        Advantage::Medium => (0, 1, "an early start is worth more than the last points"),
    };
    Ok(vec![
        factor("data", data),
        factor("domain gap", gap),
        factor("performance", performance),
        factor("special demands", (points, 0, special)),
        factor("budget and time", means),
        factor("team", team),
        factor("advantage", advantage),
    ])
}

/// Data sizes of [`grid`], one for each row of the rule, least first.
pub const DATA_SIZES: [u64; 4] = [50_000, 500_000, 5_000_000, 50_000_000];
/// Budgets in dollars a year with months, least first: of [`grid`].
pub const MEANS: [(f64, f64); 3] = [(10_000.0, 6.0), (500_000.0, 6.0), (2_000_000.0, 18.0)];
const DEGREES: [Degree; 3] = [Degree::Low, Degree::Medium, Degree::High];
const PERFORMANCES: [Performance; 3] = [Performance::Standard, Performance::High, Performance::WorldClass];
const ADVANTAGES: [Advantage; 3] = [Advantage::Medium, Advantage::High, Advantage::Critical];

/// Every combination of answers: 4 data sizes, 3 gaps, 3 performances, the 8 sets of special demands (no public multi-modal model),
/// 3 budgets with their time, 3 teams, 3 advantages: 7,776 projects.
pub fn grid() -> impl Iterator<Item = DecisionContext> {
    (0..4 * 3 * 3 * 8 * 3 * 3 * 3).map(|mut code: usize| {
        let mut digit = |base: usize| {
            let digit = code % base;
            code /= base;
            digit
        };
        let special = digit(8);
        let (usd, timeline_months) = MEANS[digit(3)];
        DecisionContext {
            training_examples: DATA_SIZES[digit(4)],
            domain_gap: DEGREES[digit(3)],
            performance: PERFORMANCES[digit(3)],
            special: Special::ALL
                .into_iter()
                .enumerate()
                .filter(|(i, _)| special >> i & 1 == 1)
                .map(|(_, s)| s)
                .collect(),
            multimodal_pretrained_available: false,
            annual_budget_usd: Some(usd),
            timeline_months,
            team: DEGREES[digit(3)],
            advantage: ADVANTAGES[digit(3)],
        }
    })
}

impl DecisionContext {
    /// Every project that differs from this one in one answer, with that answer: data and means take the values of the grid, a
    /// special demand is added or dropped.
    pub fn alternatives(&self) -> Vec<(String, Self)> {
        let mut all = Vec::new();
        for examples in DATA_SIZES {
            all.push((
                format!("{} examples", short(examples as f64)),
                Self { training_examples: examples, ..self.clone() },
            ));
        }
        for degree in DEGREES {
            all.push((format!("domain gap {degree:?}"), Self { domain_gap: degree, ..self.clone() }));
            all.push((format!("team {degree:?}"), Self { team: degree, ..self.clone() }));
        }
        for performance in PERFORMANCES {
            all.push((format!("performance {performance:?}"), Self { performance, ..self.clone() }));
        }
        for need in Special::ALL {
            let mut special = self.special.clone();
            if !special.remove(&need) {
                special.insert(need);
            }
            all.push((format!("{need:?} added or dropped"), Self { special, ..self.clone() }));
        }
        let other = !self.multimodal_pretrained_available;
        let name = format!("multi-modal model available: {other}");
        all.push((name, Self { multimodal_pretrained_available: other, ..self.clone() }));
        for (usd, timeline_months) in MEANS {
            let context = Self { annual_budget_usd: Some(usd), timeline_months, ..self.clone() };
            all.push((format!("${} a year, {timeline_months} months", short(usd)), context));
        }
        for advantage in ADVANTAGES {
            all.push((format!("advantage {advantage:?}"), Self { advantage, ..self.clone() }));
        }
        all.retain(|(_, context)| context != self);
        all
    }
}

/// 50k, 5M.
fn short(count: f64) -> String {
    if count >= 1e6 { format!("{}M", count / 1e6) } else { format!("{}k", count / 1e3) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(context: &DecisionContext) -> (i32, i32, Verdict, Confidence) {
        let d = decide(context).unwrap();
        (d.custom, d.finetune, d.verdict, d.confidence)
    }

    #[test]
    fn the_cases_of_the_book() {
        let shop = DecisionContext {
            training_examples: 5_000_000,
            performance: Performance::High,
            special: [Special::MultiModal].into(),
            annual_budget_usd: Some(500_000.0),
            timeline_months: 6.0,
            advantage: Advantage::High,
            ..DecisionContext::default()
        };
        assert_eq!(scores(&shop), (3, 6, Verdict::FineTune, Confidence::Medium));
        let genomics = DecisionContext {
            training_examples: 50_000_000,
            domain_gap: Degree::High,
            performance: Performance::WorldClass,
            annual_budget_usd: Some(2e6),
            timeline_months: 18.0,
            advantage: Advantage::Critical,
            ..DecisionContext::default()
        };
        assert_eq!(scores(&genomics), (14, 0, Verdict::BuildCustom, Confidence::High));
    }

    #[test]
    fn the_grid_counts_as_computed_apart() {
        let mut counts = [0; 4];
        let (mut low, mut high) = (0, 0);
        for context in grid() {
            let d = decide(&context).unwrap();
            counts
                [2 * usize::from(d.verdict == Verdict::BuildCustom) + usize::from(d.confidence == Confidence::High)] +=
                1;
            (low, high) = (low.min(d.margin()), high.max(d.margin()));
            assert_eq!(d, decide(&context).unwrap());
        }
        assert_eq!(counts, [3_816, 1_235, 1_261, 1_464]);
        assert_eq!((low, high), (-17, 20));
    }

    #[test]
    fn bounds_are_strict() {
        let data = |examples| {
            let d = decide(&DecisionContext { training_examples: examples, ..DecisionContext::default() }).unwrap();
            ((d.factors[0].custom, d.factors[0].finetune), d.level)
        };
        assert_eq!(data(9_999), ((0, 5), 0));
        assert_eq!(data(10_000), ((0, 5), 2));
        assert_eq!(data(100_000), ((0, 5), 2));
        assert_eq!(data(100_001), ((0, 3), 3));
        assert_eq!(data(1_000_000).0, (0, 3));
        assert_eq!(data(10_000_000).0, (1, 2));
        assert_eq!(data(10_000_001).0, (3, 0));
        let means = |usd, months| {
            let context =
                DecisionContext { annual_budget_usd: usd, timeline_months: months, ..DecisionContext::default() };
            let d = decide(&context).unwrap();
            (d.factors[4].custom, d.factors[4].finetune)
        };
        assert_eq!(means(Some(49_999.0), 12.0), (0, 4));
        assert_eq!(means(Some(50_000.0), 3.0), (0, 0));
        assert_eq!(means(None, 2.9), (0, 4));
        assert_eq!(means(None, 36.0), (0, 0));
        assert_eq!(means(Some(1e6), 18.0), (0, 0));
        assert_eq!(means(Some(1_000_001.0), 12.5), (2, 0));
    }

    #[test]
    fn bad_answers_are_refused_and_empty_ones_allowed() {
        let with = |usd, months| {
            decide(&DecisionContext { annual_budget_usd: usd, timeline_months: months, ..DecisionContext::default() })
        };
        assert!(with(Some(-1.0), 12.0).is_err());
        assert!(with(Some(f64::NAN), 12.0).is_err());
        assert!(with(None, f64::INFINITY).unwrap_err().to_string().contains("inf"));
        assert_eq!(decide(&DecisionContext::default()).unwrap().level, 0);
    }

    #[test]
    fn alternatives_differ_in_one_answer() {
        let context = DecisionContext { training_examples: 5_000_000, ..DecisionContext::default() };
        let base = decide(&context).unwrap();
        for (answer, other) in context.alternatives() {
            let other = decide(&other).unwrap();
            let changed = base.factors.iter().zip(&other.factors).filter(|(a, b)| a != b).count();
            assert!(changed <= 1, "{answer}: {changed} factors");
        }
    }
}
