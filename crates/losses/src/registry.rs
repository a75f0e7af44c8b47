//! Every loss by name, with the inputs and parameters it takes: for programs that choose a loss at run time, and for the comparison with
//! the reference values of all of them.

use candle_core::{DType, Tensor, Var};
use std::collections::BTreeMap;

use crate::contrastive::{Debiased, HardInBatch, Negatives, cosine_regression, multiple_negatives_ranking, n_pairs};
use crate::metric::{
    Angular, AngularMargin, Circle, MultiSimilarity, Neg, PairContrastive, PairLabel, softmax_cross_entropy,
};
use crate::mining::{Fallback, Strategy};
use crate::ops::to_number;
use crate::proxy::{ArcFace, CosFace, ProxyNca};
use crate::self_supervised::{BarlowTwins, VicReg, alignment, diversity, mean_squared_difference, uniformity};
use crate::supervised::{Averaging, WeightedSupCon, sup_con, temporal_similarity};
use crate::wrapper::Matryoshka;
use crate::{
    Distance, InfoNce, LossError, NtXent, PairLayout, Reduction, Triplet, TripletMiner, matrix, normalize, proto,
    queue, ranking, tiled,
};

/// A parameter of a loss.
#[derive(Debug, Clone, Copy)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it is when not given.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// A loss.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What it computes, in a line.
    pub summary: &'static str,
    /// The tensors it takes; one whose name ends in `?` may be missing.
    pub inputs: &'static [&'static str],
    /// Its parameters.
    pub params: &'static [Param],
    run: fn(&Call<'_>) -> Result<Tensor, LossError>,
}

/// A loss and its gradient by each floating-point input that it depends on.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The loss, a scalar.
    pub loss: Tensor,
    /// The gradients by the input's name.
    pub gradients: BTreeMap<String, Tensor>,
}

/// The inputs that losses can have gradients by.
const DIFFERENTIABLE: [&str; 7] = ["anchors", "positives", "negatives", "weights", "support", "scores", "logits"];

/// All losses.
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// Evaluates the loss called `name` on named tensors and its gradient by each of them, in the type that they have.
///
/// Tensors that the loss doesn't take are ignored. An unknown loss or parameter, a missing tensor and a value that can't be read are errors
/// that say what is known; a NaN or an infinity in an input is one that names the input and the row. Integer labels may have any integer or floating-point type.
///
/// ```
/// use candle_core::{DType, Device};
/// use std::collections::BTreeMap;
///
/// let t = eas_losses::fixtures::tiny(DType::F64, &Device::Cpu)?;
/// let inputs = BTreeMap::from([("anchors".to_owned(), t.anchors), ("positives".to_owned(), t.positives)]);
/// let params = BTreeMap::from([("temperature".to_owned(), "0.5".to_owned())]);
/// let result = eas_losses::registry::evaluate("infonce", &inputs, &params)?;
/// assert!((result.loss.to_scalar::<f64>()? - 0.5619190058).abs() < 1e-9);
/// assert_eq!(result.gradients["anchors"].dims(), [4, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn evaluate(
    name: &str,
    inputs: &BTreeMap<String, Tensor>,
    params: &BTreeMap<String, String>,
) -> Result<Evaluation, LossError> {
    let entry = ENTRIES.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let known: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
        LossError::Name(format!("there is no loss {name:?}; there are {}", known.join(", ")))
    })?;
    for given in params.keys() {
        if !entry.params.iter().any(|param| param.name == given) {
            let known: Vec<&str> = entry.params.iter().map(|param| param.name).collect();
            return Err(LossError::Name(format!(
                "{name} has no parameter {given:?}; it has {}",
                if known.is_empty() { "none".to_owned() } else { known.join(", ") }
            )));
        }
    }
    let mut tensors = BTreeMap::new();
    let mut vars = Vec::new();
    for &input in entry.inputs {
        let (input, optional) = input.strip_suffix('?').map_or((input, false), |input| (input, true));
        let Some(tensor) = inputs.get(input) else {
            if optional {
                continue;
            }
            return Err(LossError::Name(format!("{name} needs the tensor {input:?}, which isn't there")));
        };
        let numbers = matches!(tensor.dtype(), DType::F64 | DType::F32 | DType::F16 | DType::BF16);
        if !numbers && (DIFFERENTIABLE.contains(&input) || input == "queue" || tensor.dtype().is_float()) {
            let dtype = tensor.dtype().as_str();
            return Err(LossError::Name(format!(
                "the input {input:?} is of type {dtype}, must be f64, f32, f16 or bf16"
            )));
        }
        finite(input, tensor)?;
        let tensor = if DIFFERENTIABLE.contains(&input) {
            let var = Var::from_tensor(tensor)?;
            vars.push((input.to_owned(), var.clone()));
            var.into_inner()
        } else {
            tensor.clone()
        };
        tensors.insert(input, tensor);
    }
    let call = Call { entry, tensors, params };
    let loss = (entry.run)(&call)?;
    let store = loss.backward()?;
    let mut gradients = BTreeMap::new();
    for (input, var) in vars {
        let gradient = match store.get(&var) {
            Some(gradient) => gradient.clone(),
            None => var.zeros_like()?,
        };
        gradients.insert(input, gradient);
    }
    Ok(Evaluation { loss: loss.detach(), gradients })
}

/// An error that names the input and the row of the first NaN or infinity in it.
fn finite(input: &str, tensor: &Tensor) -> Result<(), LossError> {
    // One sum tells the usual case without a copy of the tensor; if it isn't finite by overflow alone, the search finds nothing.
    if !tensor.dtype().is_float() || to_number(&tensor.sum_all()?)?.is_finite() {
        return Ok(());
    }
    let values = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
    let Some(at) = values.iter().position(|value| !value.is_finite()) else { return Ok(()) };
    let (value, row) = (values[at], at * tensor.dims().first().copied().unwrap_or(1) / values.len());
    Err(LossError::Name(format!("the input {input:?} holds {value} at row {row}")))
}

/// One evaluation: tensors and parameters by name.
struct Call<'a> {
    entry: &'a Entry,
    tensors: BTreeMap<&'static str, Tensor>,
    params: &'a BTreeMap<String, String>,
}

impl Call<'_> {
    fn maybe(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, LossError> {
        self.maybe(name)
            .ok_or_else(|| LossError::Name(format!("{} needs the tensor {name:?}, which isn't there", self.entry.name)))
    }

    fn anchors(&self) -> Result<&Tensor, LossError> {
        self.tensor("anchors")
    }

    fn positives(&self) -> Result<&Tensor, LossError> {
        self.tensor("positives")
    }

    /// Negatives `(batch, k, dim)`; `(batch, dim)` is read as one an anchor.
    fn negatives(&self) -> Result<Tensor, LossError> {
        let negatives = self.tensor("negatives")?;
        Ok(if negatives.rank() == 2 { negatives.unsqueeze(1)? } else { negatives.clone() })
    }

    /// The only negative of each anchor, `(batch, dim)`.
    fn negative(&self) -> Result<Tensor, LossError> {
        let negatives = self.negatives()?;
        if negatives.rank() != 3 || negatives.dim(1)? != 1 {
            return Err(LossError::Operand {
                what: "negatives",
                expected: "(batch, 1, dim) or (batch, dim)".to_owned(),
                got: negatives.dims().to_vec(),
            });
        }
        Ok(negatives.squeeze(1)?)
    }

    /// Numbers, one a row.
    fn numbers(&self, name: &str) -> Result<Vec<f64>, LossError> {
        Ok(self.tensor(name)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
    }

    /// Classes, one a row.
    fn classes(&self, name: &'static str) -> Result<Vec<u32>, LossError> {
        let numbers = self.numbers(name)?.into_iter().enumerate();
        let class = |(row, x): (usize, f64)| {
            if x >= 0.0 && x <= f64::from(u32::MAX) && x.fract() == 0.0 {
                return Ok(x as u32);
            }
            Err(LossError::Name(format!("{name}: row {row} is {x}, must be a class number from 0")))
        };
        numbers.map(class).collect()
    }

    fn labels(&self) -> Result<Vec<u32>, LossError> {
        self.classes("labels")
    }

    fn word(&self, name: &str) -> &str {
        let default = self.entry.params.iter().find(|param| param.name == name);
        self.params.get(name).map_or(default.map_or("", |param| param.default), String::as_str)
    }

    fn parse<T: std::str::FromStr>(&self, name: &str, what: &str) -> Result<T, LossError> {
        let word = self.word(name);
        word.trim()
            .parse()
            .map_err(|_| LossError::Name(format!("{}: {name} is {word:?}, must be {what}", self.entry.name)))
    }

    fn number(&self, name: &str) -> Result<f64, LossError> {
        self.parse(name, "a number")
    }

    fn flag(&self, name: &str) -> Result<bool, LossError> {
        self.parse(name, "true or false")
    }

    /// The value that a word stands for.
    fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, LossError> {
        let word = self.word(name);
        choices.iter().find(|choice| choice.0 == word).map(|choice| choice.1).ok_or_else(|| {
            let known: Vec<&str> = choices.iter().map(|choice| choice.0).collect();
            LossError::Name(format!("{}: {name} is {word:?}, must be one of {}", self.entry.name, known.join(", ")))
        })
    }

    fn distance(&self) -> Result<Distance, LossError> {
        self.choice(
            "distance",
            &[
                ("euclidean", Distance::Euclidean),
                ("squared", Distance::SquaredEuclidean),
                ("cosine", Distance::Cosine),
            ],
        )
    }

    fn unit_if_wanted(&self, x: &Tensor) -> Result<Tensor, LossError> {
        if self.flag("normalize")? { normalize(x) } else { Ok(x.clone()) }
    }

    fn info_nce(&self, negatives: Negatives<'_>) -> Result<Tensor, LossError> {
        let loss = InfoNce::new(self.number("temperature")?);
        Ok(loss.forward(self.anchors()?, self.positives()?, negatives)?.loss)
    }

    fn triplet(&self) -> Result<Triplet, LossError> {
        Ok(Triplet { margin: self.number("margin")?, distance: self.distance()?, soft: self.flag("soft")? })
    }

    fn mined(&self, strategy: Strategy) -> Result<Tensor, LossError> {
        let (x, labels) = (self.unit_if_wanted(self.anchors()?)?, self.labels()?);
        let triplet = self.triplet()?;
        let miner = TripletMiner { strategy, margin: triplet.margin, distance: triplet.distance };
        let reduction = self.choice("reduction", &[("all", Reduction::MeanAll), ("active", Reduction::MeanActive)])?;
        Ok(triplet.mined(&x, &miner.mine(&x, &labels)?, reduction)?.loss)
    }

    /// Whether a loss is computed in strips: when asked to, or from 1,024 rows on.
    fn strips(&self) -> Result<bool, LossError> {
        let rows = self.anchors()?.dim(0)?;
        self.choice("tiled", &[("auto", rows >= 1024), ("true", true), ("false", false)])
    }
}

const fn param(name: &'static str, default: &'static str, meaning: &'static str) -> Param {
    Param { name, default, meaning }
}

const fn temperature(default: &'static str) -> Param {
    param("temperature", default, "what cosines are divided by")
}

const TILED: Param = param("tiled", "auto", "true: without a batch x batch matrix; auto: from 1024 rows on");
const NORMALIZE: Param = param("normalize", "false", "true: unit vectors");
const DISTANCE: Param = param("distance", "euclidean", "euclidean, squared or cosine");
const SOFT: Param = param("soft", "false", "true: softplus instead of the hinge");
const MARGIN: Param = param("margin", "1.0", "the margin");
const REDUCTION: Param = param("reduction", "all", "all or active: what the mean runs over");
const MINED: &[Param] = &[MARGIN, DISTANCE, NORMALIZE, SOFT, REDUCTION];
const ALPHA: Param = param("alpha", "40", "the angle in degrees");
const PAIR: &[&str] = &["anchors", "positives"];
const TRIPLE: &[&str] = &["anchors", "positives", "negatives"];
const LABELLED: &[&str] = &["anchors", "labels"];

const ENTRIES: &[Entry] = &[
    Entry {
        name: "infonce",
        summary: "InfoNCE, in-batch negatives: cross-entropy of cosines with the anchor's own positive",
        inputs: PAIR,
        params: &[temperature("0.07"), TILED],
        run: |c| {
            if c.strips()? {
                tiled::info_nce(c.anchors()?, c.positives()?, c.number("temperature")?)
            } else {
                c.info_nce(Negatives::InBatch)
            }
        },
    },
    Entry {
        name: "infonce_explicit",
        summary: "InfoNCE against the anchor's own negatives only",
        inputs: TRIPLE,
        params: &[temperature("0.07")],
        run: |c| c.info_nce(Negatives::Explicit(&c.negatives()?)),
    },
    Entry {
        name: "infonce_own",
        summary: "InfoNCE against the batch and the anchor's own negatives",
        inputs: TRIPLE,
        params: &[temperature("0.07")],
        run: |c| c.info_nce(Negatives::InBatchPlusOwn(&c.negatives()?)),
    },
    Entry {
        name: "infonce_pool",
        summary: "InfoNCE against the batch and everyone's negatives",
        inputs: TRIPLE,
        params: &[temperature("0.07")],
        run: |c| c.info_nce(Negatives::InBatchPlusPool(&c.negatives()?)),
    },
    Entry {
        name: "infonce_two_view",
        summary: "InfoNCE against all other rows of both views",
        inputs: PAIR,
        params: &[temperature("0.07"), TILED],
        run: |c| {
            if c.strips()? {
                tiled::two_view_info_nce(c.anchors()?, c.positives()?, c.number("temperature")?)
            } else {
                c.info_nce(Negatives::TwoView)
            }
        },
    },
    Entry {
        name: "infonce_symmetric",
        summary: "InfoNCE in both directions (CLIP)",
        inputs: PAIR,
        params: &[temperature("0.07"), TILED],
        run: |c| {
            let (a, p, t) = (c.anchors()?, c.positives()?, c.number("temperature")?);
            if c.strips()? {
                return tiled::symmetric_info_nce(a, p, t);
            }
            Ok(InfoNce::symmetric(t).forward(a, p, Negatives::InBatch)?.loss)
        },
    },
    Entry {
        name: "infonce_queue",
        summary: "InfoNCE against a queue of earlier rows `queue` (k, dim) (MoCo)",
        inputs: &["anchors", "positives", "queue"],
        params: &[temperature("0.07")],
        run: |c| {
            let loss = InfoNce::new(c.number("temperature")?);
            Ok(loss.with_queue(c.anchors()?, c.positives()?, c.tensor("queue")?)?.loss)
        },
    },
    Entry {
        name: "hard_in_batch",
        summary: "InfoNCE against the k hardest rows of the batch",
        inputs: PAIR,
        params: &[
            temperature("0.07"),
            param("k", "10", "negatives an anchor"),
            param("threshold", "0.5", "the cosine above which a row is hard"),
        ],
        run: |c| {
            let loss = HardInBatch {
                temperature: c.number("temperature")?,
                hardness_threshold: c.number("threshold")?,
                k: c.parse("k", "a whole number")?,
            };
            Ok(loss.forward(c.anchors()?, c.positives()?)?.loss)
        },
    },
    Entry {
        name: "nt_xent",
        summary: "NT-Xent (SimCLR) of the two views anchors and positives",
        inputs: PAIR,
        params: &[temperature("0.5"), TILED],
        run: |c| {
            let views = Tensor::cat(&[c.anchors()?, c.positives()?], 0)?;
            let temperature = c.number("temperature")?;
            if c.strips()? {
                return tiled::nt_xent(&views, temperature);
            }
            let layout = PairLayout::Halves;
            Ok(NtXent { temperature, layout }.forward(&views)?.loss)
        },
    },
    Entry {
        name: "debiased",
        summary: "debiased contrastive loss (Chuang), with beta > 0 hardness weights (Robinson)",
        inputs: PAIR,
        params: &[
            temperature("0.5"),
            param("tau_plus", "0.1", "the share of false negatives"),
            param("beta", "0", "how much more hard negatives weigh"),
        ],
        run: |c| {
            let loss = Debiased {
                temperature: c.number("temperature")?,
                tau_plus: c.number("tau_plus")?,
                beta: c.number("beta")?,
            };
            loss.forward(c.anchors()?, c.positives()?)
        },
    },
    Entry {
        name: "mnrl",
        summary: "multiple-negatives ranking: scaled cosines, in-batch negatives and those given, for every anchor",
        inputs: &["anchors", "positives", "negatives?"],
        params: &[param("scale", "20", "what cosines are multiplied by")],
        run: |c| {
            let negatives = c.maybe("negatives").map(|_| c.negatives()).transpose()?;
            multiple_negatives_ranking(c.anchors()?, c.positives()?, negatives.as_ref(), c.number("scale")?)
        },
    },
    Entry {
        name: "n_pairs",
        summary: "N-pair loss: cross-entropy of unnormalised products",
        inputs: PAIR,
        params: &[param("l2_reg", "0", "weight of the mean squared length / 4")],
        run: |c| n_pairs(c.anchors()?, c.positives()?, c.number("l2_reg")?),
    },
    Entry {
        name: "supcon",
        summary: "supervised contrastive loss of labelled rows",
        inputs: LABELLED,
        params: &[temperature("0.07")],
        run: |c| sup_con(c.anchors()?, &c.labels()?, c.number("temperature")?),
    },
    Entry {
        name: "weighted_supcon",
        summary: "supervised contrastive loss graded by a tree: `labels` are leaves, `parents` and `grandparents` coarser",
        inputs: &["anchors", "labels", "parents", "grandparents?"],
        params: &[temperature("0.1"), param("averaging", "level", "level or pair: what shares a row's loss")],
        run: |c| {
            let mut levels = vec![c.labels()?, c.classes("parents")?];
            if c.maybe("grandparents").is_some() {
                levels.push(c.classes("grandparents")?);
            }
            let loss = WeightedSupCon {
                temperature: c.number("temperature")?,
                weights: [1.0, 0.5, 0.25][..levels.len()].to_vec(),
                averaging: c.choice("averaging", &[("level", Averaging::PerLevel), ("pair", Averaging::PerPair)])?,
            };
            let levels: Vec<&[u32]> = levels.iter().map(Vec::as_slice).collect();
            loss.forward(c.anchors()?, &levels)
        },
    },
    Entry {
        name: "temporal",
        summary: "regression of cosines on 2^(-age difference / half_life); `times` (batch,)",
        inputs: &["anchors", "times"],
        params: &[param("half_life", "30", "in the unit of times")],
        run: |c| temporal_similarity(c.anchors()?, &c.numbers("times")?, c.number("half_life")?),
    },
    Entry {
        name: "cross_batch_memory",
        summary: "supervised contrastive loss against the batch and a memory `queue` (k, dim) with `queue_labels`",
        inputs: &["anchors", "labels", "queue", "queue_labels"],
        params: &[temperature("0.07")],
        run: |c| {
            let (memory, labels) = (c.tensor("queue")?, c.classes("queue_labels")?);
            queue::cross_batch_loss(c.anchors()?, &c.labels()?, memory, &labels, c.number("temperature")?)
        },
    },
    Entry {
        name: "contrastive_margin",
        summary: "pairwise contrastive loss: positives are same pairs, negatives (batch, k, dim) different ones",
        inputs: TRIPLE,
        params: &[MARGIN, NORMALIZE],
        run: |c| {
            let (a, p) = (c.unit_if_wanted(c.anchors()?)?, c.unit_if_wanted(c.positives()?)?);
            let n = c.unit_if_wanted(&c.negatives()?)?;
            let (batch, k, dim) = n.dims3()?;
            let left = a.unsqueeze(1)?.broadcast_as((a.dim(0)?, k, a.dim(1)?))?;
            let first = Tensor::cat(&[&a, &left.reshape((a.dim(0)? * k, a.dim(1)?))?], 0)?;
            let second = Tensor::cat(&[&p, &n.reshape((batch * k, dim))?], 0)?;
            let mut labels = vec![PairLabel::Same; a.dim(0)?];
            labels.resize(first.dim(0)?, PairLabel::Different);
            let margin = c.number("margin")?;
            Ok(PairContrastive { margin }.forward(&first, &second, &labels)?.loss)
        },
    },
    Entry {
        name: "contrastive_pairs",
        summary: "pairwise contrastive loss of all pairs of labelled rows",
        inputs: LABELLED,
        params: &[MARGIN, NORMALIZE],
        run: |c| {
            let margin = c.number("margin")?;
            let x = c.unit_if_wanted(c.anchors()?)?;
            Ok(PairContrastive { margin }.all_pairs(&x, &c.labels()?)?.loss)
        },
    },
    Entry {
        name: "triplet_margin",
        summary: "triplet loss; of several negatives the nearest counts",
        inputs: TRIPLE,
        params: &[MARGIN, DISTANCE, NORMALIZE, SOFT],
        run: |c| {
            let (a, p) = (c.unit_if_wanted(c.anchors()?)?, c.unit_if_wanted(c.positives()?)?);
            let n = c.unit_if_wanted(&c.negatives()?)?;
            Ok(c.triplet()?.forward(&a, &p, Neg::Many(&n))?.loss)
        },
    },
    Entry {
        name: "triplet_all",
        summary: "triplet loss over all triplets of labelled rows",
        inputs: LABELLED,
        params: MINED,
        run: |c| c.mined(Strategy::All),
    },
    Entry {
        name: "triplet_hard",
        summary: "batch-hard triplet loss: farthest positive, nearest negative",
        inputs: LABELLED,
        params: MINED,
        run: |c| c.mined(Strategy::BatchHard),
    },
    Entry {
        name: "triplet_hardest_negative",
        summary: "triplet loss over all positive pairs with their nearest negative",
        inputs: LABELLED,
        params: MINED,
        run: |c| c.mined(Strategy::HardestNegative),
    },
    Entry {
        name: "triplet_semi_hard",
        summary: "triplet loss over all positive pairs with their nearest semi-hard negative",
        inputs: LABELLED,
        params: &[
            MARGIN,
            DISTANCE,
            NORMALIZE,
            SOFT,
            REDUCTION,
            param("fallback", "skip", "skip, hardest, facenet or first: what a pair without one gets"),
        ],
        run: |c| {
            c.mined(c.choice(
                "fallback",
                &[
                    ("skip", Strategy::SemiHard(Fallback::Skip)),
                    ("hardest", Strategy::SemiHard(Fallback::Hardest)),
                    ("facenet", Strategy::SemiHardFaceNet),
                    ("first", Strategy::SemiHardFirst),
                ],
            )?)
        },
    },
    Entry {
        name: "multi_similarity",
        summary: "multi-similarity loss of labelled rows",
        inputs: LABELLED,
        params: &[
            param("alpha", "2", "sharpness of positive pairs"),
            param("beta", "50", "sharpness of negative pairs"),
            param("base", "0.5", "the cosine both are measured from"),
            param("epsilon", "none", "a number: the paper's mining with that slack"),
        ],
        run: |c| {
            let epsilon = match c.word("epsilon") {
                "none" => None,
                _ => Some(c.number("epsilon")?),
            };
            let loss = MultiSimilarity {
                alpha: c.number("alpha")?,
                beta: c.number("beta")?,
                base: c.number("base")?,
                epsilon,
            };
            loss.forward(c.anchors()?, &c.labels()?)
        },
    },
    Entry {
        name: "circle",
        summary: "circle loss of labelled rows",
        inputs: LABELLED,
        params: &[param("m", "0.4", "relaxation"), param("gamma", "80", "scale")],
        run: |c| {
            let (m, gamma) = (c.number("m")?, c.number("gamma")?);
            Circle { m, gamma }.forward(c.anchors()?, &c.labels()?)
        },
    },
    Entry {
        name: "angular",
        summary: "angular loss (Wang 2017), negatives are the other pairs' positives",
        inputs: PAIR,
        params: &[ALPHA],
        run: |c| {
            let alpha_degrees = c.number("alpha")?;
            Angular { alpha_degrees }.in_batch(c.anchors()?, c.positives()?)
        },
    },
    Entry {
        name: "angular_labels",
        summary: "angular loss (Wang 2017) over all positive pairs of labelled rows",
        inputs: LABELLED,
        params: &[ALPHA],
        run: |c| {
            let alpha_degrees = c.number("alpha")?;
            Angular { alpha_degrees }.labelled(c.anchors()?, &c.labels()?)
        },
    },
    Entry {
        name: "angular_triplet",
        summary: "angular loss (Wang 2017) of triplets",
        inputs: TRIPLE,
        params: &[ALPHA, param("hinge", "false", "true: the hinge instead of softplus")],
        run: |c| {
            let alpha_degrees = c.number("alpha")?;
            let (loss, n) = (Angular { alpha_degrees }, c.negative()?);
            if c.flag("hinge")? {
                loss.hinged(c.anchors()?, c.positives()?, &n)
            } else {
                loss.smooth(c.anchors()?, c.positives()?, &n)
            }
        },
    },
    Entry {
        name: "angular_margin",
        summary: "triplet hinge on angles",
        inputs: TRIPLE,
        params: &[param("alpha", "45", "the margin in degrees")],
        run: |c| {
            let alpha_degrees = c.number("alpha")?;
            AngularMargin { alpha_degrees }.forward(c.anchors()?, c.positives()?, &c.negative()?)
        },
    },
    Entry {
        name: "arcface",
        summary: "ArcFace: additive angular margin; `weights` (classes, dim)",
        inputs: &["anchors", "labels", "weights"],
        params: &[param("margin", "0.5", "in radians"), param("scale", "64", "what cosines are multiplied by")],
        run: |c| {
            let (margin, scale) = (c.number("margin")?, c.number("scale")?);
            ArcFace { margin, scale }.forward(c.anchors()?, c.tensor("weights")?, &c.labels()?)
        },
    },
    Entry {
        name: "cosface",
        summary: "CosFace: additive cosine margin; `weights` (classes, dim)",
        inputs: &["anchors", "labels", "weights"],
        params: &[param("margin", "0.35", "the margin"), param("scale", "64", "what cosines are multiplied by")],
        run: |c| {
            let (margin, scale) = (c.number("margin")?, c.number("scale")?);
            CosFace { margin, scale }.forward(c.anchors()?, c.tensor("weights")?, &c.labels()?)
        },
    },
    Entry {
        name: "proxy_nca",
        summary: "proxy-NCA on squared distances of unit vectors; `weights` (classes, dim) are the proxies",
        inputs: &["anchors", "labels", "weights"],
        params: &[
            param("scale", "1", "what squared distances are multiplied by"),
            param("own_in_sum", "true", "false: the 2017 paper's sum, over other classes only"),
        ],
        run: |c| {
            let (scale, own_in_sum) = (c.number("scale")?, c.flag("own_in_sum")?);
            ProxyNca { scale, own_in_sum }.forward(c.anchors()?, c.tensor("weights")?, &c.labels()?)
        },
    },
    Entry {
        name: "softmax",
        summary: "cross-entropy of `logits` (batch, classes)",
        inputs: &["logits", "labels"],
        params: &[],
        run: |c| softmax_cross_entropy(c.tensor("logits")?, &c.labels()?),
    },
    Entry {
        name: "prototypical",
        summary: "episodic loss of a prototypical network: `support` (n, dim) with `support_labels`, anchors are the queries",
        inputs: &["anchors", "labels", "support", "support_labels"],
        params: &[param("scale", "1", "what squared distances are multiplied by")],
        run: |c| {
            let (support, classes) = (c.tensor("support")?, c.classes("support_labels")?);
            proto::episodic_loss(support, &classes, c.anchors()?, &c.labels()?, c.number("scale")?)
        },
    },
    Entry {
        name: "cosine_regression",
        summary: "mean squared difference of cosines and `labels` (batch,), any numbers",
        inputs: &["anchors", "positives", "labels"],
        params: &[],
        run: |c| cosine_regression(c.anchors()?, c.positives()?, &c.numbers("labels")?),
    },
    Entry {
        name: "vicreg",
        summary: "VICReg: invariance, variance, covariance of two views",
        inputs: PAIR,
        params: &[
            param("invariance", "25", "weight"),
            param("variance", "25", "weight"),
            param("covariance", "1", "weight"),
            param("epsilon", "1e-4", "added to variances"),
        ],
        run: |c| {
            let loss = VicReg {
                invariance: c.number("invariance")?,
                variance: c.number("variance")?,
                covariance: c.number("covariance")?,
                epsilon: c.number("epsilon")?,
            };
            loss.forward(c.anchors()?, c.positives()?)
        },
    },
    Entry {
        name: "barlow_twins",
        summary: "Barlow twins: cross-correlation of two views against the identity",
        inputs: PAIR,
        params: &[
            param("lambda", "0.0051", "weight of the off-diagonal part"),
            param("epsilon", "1e-5", "added to variances"),
        ],
        run: |c| {
            let (lambda, epsilon) = (c.number("lambda")?, c.number("epsilon")?);
            BarlowTwins { lambda, epsilon }.forward(c.anchors()?, c.positives()?)
        },
    },
    Entry {
        name: "alignment",
        summary: "mean distance of unit pairs to the power alpha",
        inputs: PAIR,
        params: &[param("alpha", "2", "the power")],
        run: |c| alignment(c.anchors()?, c.positives()?, c.number("alpha")?),
    },
    Entry {
        name: "uniformity",
        summary: "log of the mean Gaussian potential of unit rows",
        inputs: &["anchors"],
        params: &[param("t", "2", "sharpness of the potential")],
        run: |c| uniformity(c.anchors()?, c.number("t")?),
    },
    Entry {
        name: "align_uniform",
        summary: "alignment plus lambda times the mean uniformity of both views",
        inputs: PAIR,
        params: &[
            param("alpha", "2", "power of the alignment"),
            param("t", "2", "sharpness of the potential"),
            param("lambda", "1", "weight of the uniformity"),
        ],
        run: |c| {
            let (a, p, t) = (c.anchors()?, c.positives()?, c.number("t")?);
            let spread = ((uniformity(a, t)? + uniformity(p, t)?)? * (0.5 * c.number("lambda")?))?;
            Ok((alignment(a, p, c.number("alpha")?)? + spread)?)
        },
    },
    Entry {
        name: "diversity",
        summary: "mean cosine of different rows",
        inputs: &["anchors"],
        params: &[],
        run: |c| diversity(c.anchors()?),
    },
    Entry {
        name: "mse",
        summary: "mean squared difference of all values",
        inputs: PAIR,
        params: &[],
        run: |c| mean_squared_difference(c.anchors()?, c.positives()?),
    },
    Entry {
        name: "matryoshka_infonce",
        summary: "in-batch InfoNCE summed over prefixes of the embeddings",
        inputs: PAIR,
        params: &[
            temperature("0.07"),
            param("dims", "", "prefix lengths, comma-separated; empty: the halves dim, dim/2, ... down to 8"),
            param("weights", "", "one a prefix, comma-separated; empty: all 1"),
        ],
        run: |c| {
            // A width of 0 would be halved for ever.
            let (_, dim) = matrix("anchors", c.anchors()?)?;
            let list = |name: &str| c.word(name).split(',').map(str::trim).filter(|word| !word.is_empty());
            let unreadable = |_| LossError::Name(format!("dims is {:?}, must be lengths", c.word("dims")));
            let mut dims: Vec<usize> =
                list("dims").map(|word| word.parse().map_err(unreadable)).collect::<Result<_, _>>()?;
            if dims.is_empty() {
                dims = std::iter::successors(Some(dim), |d| Some(d / 2)).take_while(|&d| d == dim || d >= 8).collect();
            }
            let unreadable = |_| LossError::Name(format!("weights is {:?}, must be numbers", c.word("weights")));
            let mut weights: Vec<f64> =
                list("weights").map(|word| word.parse().map_err(unreadable)).collect::<Result<_, _>>()?;
            if weights.is_empty() {
                weights = vec![1.0; dims.len()];
            }
            let loss = InfoNce::new(c.number("temperature")?);
            Matryoshka::new(&dims, &weights)?.forward(&[c.anchors()?, c.positives()?], |views| {
                Ok(loss.forward(&views[0], &views[1], Negatives::InBatch)?.loss)
            })
        },
    },
    Entry {
        name: "pairwise_hinge",
        summary: "hinge over ordered pairs of one list: `scores` (n,), `labels` grades",
        inputs: &["scores", "labels"],
        params: &[],
        run: |c| ranking::pairwise_hinge(c.tensor("scores")?, &c.numbers("labels")?),
    },
    Entry {
        name: "ranknet",
        summary: "RankNet of one list: `scores` (n,), `labels` grades",
        inputs: &["scores", "labels"],
        params: &[],
        run: |c| ranking::ranknet(c.tensor("scores")?, &c.numbers("labels")?),
    },
    Entry {
        name: "lambdarank",
        summary: "LambdaRank of one list: `scores` (n,), `labels` grades",
        inputs: &["scores", "labels"],
        params: &[],
        run: |c| ranking::lambdarank(c.tensor("scores")?, &c.numbers("labels")?),
    },
];
