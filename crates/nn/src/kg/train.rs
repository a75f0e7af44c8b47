//! Training: false triples are drawn for each true one, and the model learns to score them lower.

use std::collections::BTreeSet;

use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

use super::scorer::Gradient;
use super::{KgError, KgModel, KnowledgeGraph, Scorer, Triple};

/// How the entity that replaces the head or the tail of a true triple is drawn. What is learnt depends on it: telling a product
/// from a region is easy, telling the right product from the wrong one is the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Negatives {
    /// Any entity.
    Uniform,
    /// An entity of the kind of the one it replaces.
    Typed,
    /// One or the other, each half of the time.
    Mixed,
}

/// Tries to find a replacement that doesn't happen to make a known fact.
const TRIES: usize = 16;

/// Hyper-parameters of a training run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KgTraining {
    /// The lead in score that a true triple must have (TransE), or the distance at which a triple is as likely true as false
    /// (RotatE). The bilinear scorers don't use it.
    pub margin: f32,
    /// Step size of Adagrad.
    pub learning_rate: f32,
    /// True triples a step.
    pub batch: usize,
    /// False triples for each true one.
    pub negatives: usize,
    /// How they are drawn.
    pub sampling: Negatives,
    /// Passes over the triples.
    pub epochs: usize,
    /// Seed of shuffles and negatives.
    pub seed: u64,
}

impl Default for KgTraining {
    fn default() -> Self {
        Self {
            margin: 1.0,
            learning_rate: 0.05,
            batch: 256,
            negatives: 4,
            sampling: Negatives::Mixed,
            epochs: 60,
            seed: 42,
        }
    }
}

impl KgTraining {
    /// Trains `model` on the facts of `graph`; returns the mean loss of a pair in each epoch.
    ///
    /// TransE takes the margin loss `max(0, margin - s(true) + s(false))`, and its entities are kept in the unit ball (Bordes
    /// et al. 2013). The others take the logistic loss `ln(1 + e^-s(true)) + ln(1 + e^s(false))`, for RotatE of `margin + s`.
    pub fn run(&self, model: &mut KgModel, graph: &KnowledgeGraph) -> Result<Vec<f64>, KgError> {
        self.check(model, graph)?;
        let mut rng = SplitMix64::new(self.seed);
        let mut order: Vec<Triple> = graph.triples().to_vec();
        let mut entities = Adagrad::new(&model.entities);
        let mut relations = Adagrad::new(&model.relations);
        let mut gradient = Gradient::zeros(model.scorer(), model.dim());
        let mut history = Vec::with_capacity(self.epochs);
        for _ in 0..self.epochs {
            rng.shuffle(&mut order);
            let (mut total, mut pairs) = (0.0, 0u32);
            for batch in order.chunks(self.batch) {
                let score = |triple: Triple| {
                    let (h, r, t) = vectors(model, triple);
                    model.scorer().score(h, r, t)
                };
                let mut slope_of = |triple: Triple, slope: f32| {
                    if slope != 0.0 {
                        gradient.clear();
                        model.scorer().add_gradient(vectors(model, triple), slope, &mut gradient);
                        entities.add(triple.head, &gradient.head);
                        relations.add(triple.relation, &gradient.relation);
                        entities.add(triple.tail, &gradient.tail);
                    }
                };
                for &fact in batch {
                    let positive = score(fact);
                    let mut positive_slope = 0.0;
                    for _ in 0..self.negatives {
                        let Some(false_fact) = self.corrupt(graph, fact, &mut rng) else {
                            continue;
                        };
                        let pair = pair_loss(model.scorer(), self.margin, positive, score(false_fact));
                        total += f64::from(pair.loss);
                        pairs += 1;
                        positive_slope += pair.positive_slope;
                        slope_of(false_fact, pair.negative_slope);
                    }
                    slope_of(fact, positive_slope);
                }
                relations.step(&mut model.relations, self.learning_rate, f32::INFINITY);
                let ball = match model.scorer() {
                    Scorer::TransE(_) => 1.0,
                    _ => f32::INFINITY,
                };
                entities.step(&mut model.entities, self.learning_rate, ball);
            }
            history.push(total / f64::from(pairs.max(1)));
        }
        Ok(history)
    }

    /// `fact` with its head or its tail replaced, never a fact of the graph; `None` when no such entity turns up.
    fn corrupt(&self, graph: &KnowledgeGraph, fact: Triple, rng: &mut SplitMix64) -> Option<Triple> {
        let at_head = rng.chance(0.5);
        let replaced = if at_head { fact.head } else { fact.tail };
        let typed = match self.sampling {
            Negatives::Uniform => false,
            Negatives::Typed => true,
            Negatives::Mixed => rng.chance(0.5),
        };
        for _ in 0..TRIES {
            let entity = if typed {
                *rng.choose(graph.members(graph.kind(replaced)))?
            } else {
                rng.below(graph.entities()) as u32
            };
            let false_fact = if at_head { Triple { head: entity, ..fact } } else { Triple { tail: entity, ..fact } };
            if !graph.contains(false_fact) {
                return Some(false_fact);
            }
        }
        None
    }

    fn check(&self, model: &KgModel, graph: &KnowledgeGraph) -> Result<(), KgError> {
        let refused = |name, got: String, expected| Err(KgError::Argument { name, got, expected });
        if model.entities.rows() != graph.entities() || model.relations.rows() != graph.relations() {
            let got = format!("{} entities, {} relations", graph.entities(), graph.relations());
            return refused("graph", got, "the graph that the model was made for");
        }
        if graph.triples().is_empty() {
            return refused("number of facts", "0".to_owned(), "at least 1");
        }
        if self.batch == 0 || self.negatives == 0 {
            let got = format!("batch {}, negatives {}", self.batch, self.negatives);
            return refused("batch and negatives", got, "at least 1 each");
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return refused("learning rate", self.learning_rate.to_string(), "positive and finite");
        }
        if !(self.margin >= 0.0 && self.margin.is_finite()) {
            return refused("margin", self.margin.to_string(), "finite and not negative");
        }
        Ok(())
    }
}

fn vectors(model: &KgModel, triple: Triple) -> (&[f32], &[f32], &[f32]) {
    (
        model.entities.row(triple.head as usize),
        model.relations.row(triple.relation as usize),
        model.entities.row(triple.tail as usize),
    )
}

/// The loss of a true and a false triple, and its slope in each of the two scores.
struct PairLoss {
    loss: f32,
    positive_slope: f32,
    negative_slope: f32,
}

fn pair_loss(scorer: Scorer, margin: f32, positive: f32, negative: f32) -> PairLoss {
    if let Scorer::TransE(_) = scorer {
        let loss = (margin - positive + negative).max(0.0);
        let slope = if loss > 0.0 { 1.0 } else { 0.0 };
        return PairLoss { loss, positive_slope: -slope, negative_slope: slope };
    }
    // A distance has no natural zero point: RotatE is indifferent at distance `margin`.
    let offset = if scorer == Scorer::RotatE { margin } else { 0.0 };
    let (positive, negative) = (positive + offset, negative + offset);
    let softplus = |x: f32| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    PairLoss {
        loss: softplus(-positive) + softplus(negative),
        positive_slope: -sigmoid(-positive),
        negative_slope: sigmoid(negative),
    }
}

/// Adagrad (Duchi et al. 2011) over the rows that a batch touched: each value's step shrinks with its own past gradients.
struct Adagrad {
    gradient: Matrix,
    squares: Matrix,
    touched: BTreeSet<u32>,
}

impl Adagrad {
    fn new(values: &Matrix) -> Self {
        Self {
            gradient: Matrix::zeros(values.rows(), values.dim()),
            squares: Matrix::zeros(values.rows(), values.dim()),
            touched: BTreeSet::new(),
        }
    }

    fn add(&mut self, row: u32, gradient: &[f32]) {
        self.touched.insert(row);
        for (sum, g) in self.gradient.row_mut(row as usize).iter_mut().zip(gradient) {
            *sum += g;
        }
    }

    /// Moves the touched rows of `values` and pulls them back into the ball of radius `ball`.
    fn step(&mut self, values: &mut Matrix, learning_rate: f32, ball: f32) {
        for row in std::mem::take(&mut self.touched) {
            let row = row as usize;
            let gradient = self.gradient.row_mut(row);
            let squares = self.squares.row_mut(row);
            let values = values.row_mut(row);
            for ((value, gradient), square) in values.iter_mut().zip(gradient).zip(squares) {
                *square += *gradient * *gradient;
                *value -= learning_rate * *gradient / (square.sqrt() + 1e-10);
                *gradient = 0.0;
            }
            let length = values.iter().map(|x| x * x).sum::<f32>().sqrt();
            if length > ball {
                for x in values {
                    *x *= ball / length;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kg::rank::{Candidates, RankSummary, tail_ranks};
    use crate::kg::scorer::Norm;
    use candle_core::{Device, Var};

    /// A ring of 24 places, each with a next one and the one after it.
    fn ring() -> KnowledgeGraph {
        let facts = (0..24).flat_map(|i| [Triple::new(i, 0, (i + 1) % 24), Triple::new(i, 1, (i + 2) % 24)]);
        let places = (0..24).map(|i| (format!("place {i}"), "place"));
        KnowledgeGraph::new(places, ["next", "after next"], facts).unwrap()
    }

    #[test]
    fn hand_worked_margin_losses() {
        let loss = |positive, negative| pair_loss(Scorer::TransE(Norm::L2), 1.0, positive, negative);
        let active = loss(-0.5, -0.9);
        assert!((active.loss - 0.6).abs() < 1e-6);
        assert_eq!((active.positive_slope, active.negative_slope), (-1.0, 1.0));
        let idle = loss(-0.5, -2.0);
        assert_eq!((idle.loss, idle.positive_slope, idle.negative_slope), (0.0, 0.0, 0.0));
    }

    #[test]
    fn losses_and_slopes_equal_the_tensor_losses_and_their_gradients() {
        for (positive, negative) in [(-0.3f32, -0.7f32), (1.2, 0.4), (-3.0, 2.0), (0.0, -0.2)] {
            for scorer in [Scorer::TransE(Norm::L2), Scorer::DistMult, Scorer::RotatE] {
                let var = |x: f32| Var::new(&[x], &Device::Cpu).unwrap();
                let (p, n) = (var(positive), var(negative));
                let loss = match scorer {
                    Scorer::TransE(_) => eas_losses::margin_ranking(&p, &n, 1.0),
                    Scorer::RotatE => {
                        eas_losses::logistic_ranking(&(p.as_tensor() + 1.0).unwrap(), &(n.as_tensor() + 1.0).unwrap())
                    }
                    _ => eas_losses::logistic_ranking(&p, &n),
                }
                .unwrap();
                let grads = loss.backward().unwrap();
                let slope = |var: &Var| grads.get(var).unwrap().to_vec1::<f32>().unwrap()[0];
                let ours = pair_loss(scorer, 1.0, positive, negative);
                assert!((ours.loss - loss.to_scalar::<f32>().unwrap()).abs() < 1e-5);
                assert!((ours.positive_slope - slope(&p)).abs() < 1e-5);
                assert!((ours.negative_slope - slope(&n)).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn every_model_that_can_tell_directions_apart_learns_a_ring() {
        let graph = ring();
        let training = KgTraining { epochs: 300, batch: 16, ..KgTraining::default() };
        for scorer in [Scorer::ComplEx, Scorer::RotatE] {
            let mut model = KgModel::new(&graph, scorer, 16, 1).unwrap();
            let history = training.run(&mut model, &graph).unwrap();
            assert!(history[299] < 0.5 * history[0], "{scorer:?}: {history:?}");
            let ranks = tail_ranks(&model, &graph, graph.triples(), Candidates::All, true).unwrap();
            let mrr = RankSummary::of(&ranks).unwrap().mrr;
            assert!(mrr > 0.9, "{scorer:?}: {mrr}");
        }
    }

    #[test]
    fn false_facts_are_never_known_ones_and_keep_their_kind_when_typed() {
        let things = (0..6).map(|i| (format!("{i}"), if i < 3 { "left" } else { "right" }));
        let facts = [Triple::new(0, 0, 3), Triple::new(0, 0, 4), Triple::new(1, 0, 3)];
        let graph = KnowledgeGraph::new(things, ["r"], facts).unwrap();
        let mut rng = SplitMix64::new(1);
        let (mut found, mut other_kind) = (0, 0);
        for sampling in [Negatives::Typed, Negatives::Mixed, Negatives::Uniform] {
            let training = KgTraining { sampling, ..KgTraining::default() };
            for _ in 0..500 {
                let fact = facts[rng.below(3)];
                // One of three candidates is left for some slots: sixteen tries miss it now and then.
                let Some(drawn) = training.corrupt(&graph, fact, &mut rng) else {
                    continue;
                };
                found += 1;
                assert!(!graph.contains(drawn));
                assert!(drawn.head == fact.head || drawn.tail == fact.tail);
                if graph.kind(drawn.head) != 0 || graph.kind(drawn.tail) != 1 {
                    assert_ne!(sampling, Negatives::Typed);
                    other_kind += 1;
                }
            }
        }
        assert!(found > 1450 && other_kind > 0, "{found}, {other_kind}");
    }

    #[test]
    fn transe_stays_in_the_unit_ball_and_the_seed_decides_the_model() {
        let graph = ring();
        let train = |seed| {
            let mut model = KgModel::new(&graph, Scorer::TransE(Norm::L1), 8, seed).unwrap();
            let training = KgTraining { seed, epochs: 20, ..KgTraining::default() };
            training.run(&mut model, &graph).unwrap();
            model
        };
        let model = train(1);
        assert_eq!(model, train(1));
        assert_ne!(model, train(2));
        for row in model.entities.iter_rows() {
            assert!(row.iter().map(|x| x * x).sum::<f32>().sqrt() <= 1.0 + 1e-5);
        }
    }

    #[test]
    fn a_complete_graph_has_no_false_facts_and_trains_on_nothing() {
        let facts = (0..3).flat_map(|h| (0..3).map(move |t| Triple::new(h, 0, t)));
        let graph = KnowledgeGraph::new((0..3).map(|i| (i.to_string(), "k")), ["r"], facts).unwrap();
        let mut model = KgModel::new(&graph, Scorer::DistMult, 4, 1).unwrap();
        let before = model.clone();
        assert_eq!(KgTraining::default().run(&mut model, &graph).unwrap(), vec![0.0; 60]);
        assert_eq!(model, before);
    }

    #[test]
    fn impossible_settings_are_refused() {
        let graph = ring();
        let mut model = KgModel::new(&graph, Scorer::DistMult, 4, 1).unwrap();
        let usual = KgTraining::default();
        for training in [
            KgTraining { batch: 0, ..usual },
            KgTraining { negatives: 0, ..usual },
            KgTraining { learning_rate: f32::NAN, ..usual },
            KgTraining { margin: -1.0, ..usual },
        ] {
            assert!(training.run(&mut model, &graph).is_err());
        }
        let empty = KnowledgeGraph::new((0..24).map(|i| (i.to_string(), "k")), ["a", "b"], []).unwrap();
        assert!(usual.run(&mut model, &empty).is_err());
        let other = KnowledgeGraph::new([("a", "k")], ["r"], [Triple::new(0, 0, 0)]).unwrap();
        assert!(usual.run(&mut model, &other).is_err());
    }
}
