//! New kinds of fraud from a few examples each: one draw of them, calibrated and tested.

use eas_data::synth::transactions::Transactions;
use eas_eval::classification::roc_auc;
use eas_retrieval::fewshot::{OpenSet, SupportMetric, SupportSet};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Kinds of fraud that training doesn't know.
pub const NEW: std::ops::Range<u32> = 12..16;
/// Ordinary transactions in a test.
pub const ORDINARY: usize = 1_000;

/// How rows are compared.
pub type View<'a> = dyn Fn(&Matrix) -> anyhow::Result<Matrix> + 'a;

/// What one draw of examples was good for; shares are in `[0, 1]`.
#[derive(Debug)]
pub struct Trial {
    /// Made of the examples, and calibrated to flag 1 % of the ordinary.
    pub detector: OpenSet,
    /// Of [`ORDINARY`] transactions, then of 10 of each new kind.
    pub scores: Vec<f64>,
    /// Share of the new kinds' transactions that are nearest to their own kind, flagged or not.
    pub kind: f64,
    /// Share of them that are flagged.
    pub recall: f64,
    /// Share of the ordinary that are flagged.
    pub false_positives: f64,
    /// How well the scores tell the two apart.
    pub auc: f64,
    /// Share of the new kinds' transactions that a kind's share above 0.7 would flag.
    pub rule: f64,
}

impl Trial {
    /// New kinds from `shots` examples each, calibrated on 1,000 ordinary transactions and tested on others.
    pub fn run(world: &Transactions, view: &View<'_>, shots: usize, rng: &mut SplitMix64) -> anyhow::Result<Self> {
        let (examples, kinds) = world.fraud(rng, NEW, shots);
        let examples = view(&examples)?;
        let mut support = SupportSet::new(examples.dim(), SupportMetric::Euclidean)?;
        support.extend(&examples, &kinds)?;
        let (reference, held_out) = (view(&world.normal(rng, 500))?, view(&world.normal(rng, 1_000))?);
        let detector = OpenSet::calibrate(support, &reference, &held_out, 0.01)?;
        let mut test = world.normal(rng, ORDINARY);
        let (fraud, kinds) = world.fraud(rng, NEW, 10);
        test.append(&fraud)?;
        let test = view(&test)?;
        let said = test.iter_rows().map(|row| detector.judge(row)).collect::<Result<Vec<_>, _>>()?;
        let (ordinary, frauds) = said.split_at(ORDINARY);
        let share = |count: usize, of: usize| count as f64 / of as f64;
        let scores: Vec<f64> = said.iter().map(|j| j.score).collect();
        let labels: Vec<bool> = (0..said.len()).map(|i| i >= ORDINARY).collect();
        let mut sure = 0;
        for row in test.iter_rows().skip(ORDINARY) {
            sure += usize::from(detector.support().predict_proba(row, 1.0)?[0].1 > 0.7);
        }
        Ok(Self {
            kind: share(frauds.iter().zip(&kinds).filter(|(j, kind)| j.class == **kind).count(), kinds.len()),
            recall: share(frauds.iter().filter(|j| j.flagged).count(), kinds.len()),
            false_positives: share(ordinary.iter().filter(|j| j.flagged).count(), ORDINARY),
            auc: roc_auc(&scores, &labels)?,
            rule: share(sure, kinds.len()),
            scores,
            detector,
        })
    }
}
