//! The losses, miners and samplers have the values that were worked out for the fixtures.

use approx::assert_abs_diff_eq;
use candle_core::{DType, Device, Tensor, Var};
use eas_losses::Distance::{Cosine, Euclidean, SquaredEuclidean};
use eas_losses::contrastive::{Debiased, HardInBatch};
use eas_losses::fixtures::{self, Tiny};
use eas_losses::metric::{Angular, AngularMargin, Neg, PairContrastive, PairLabel, angles};
use eas_losses::mining::{Fallback, Strategy, margin_filter};
use eas_losses::queue::NegativeQueue;
use eas_losses::sampler::{PkSampler, ShardedSampler, TripletCounts, domain_quotas, farthest_first};
use eas_losses::supervised::{Averaging, WeightedSupCon, sup_con, temporal_similarity};
use eas_losses::temperature::{LearnableTemperature, Quality, profile, recommend};
use eas_losses::wrapper::GradCache;
use eas_losses::{
    Distance, InfoNce, Negatives, NtXent, PairLayout, Reduction, Triplet, TripletMiner, diagnostics, normalize,
    ranking, self_supervised,
};
use eas_tensor::Matrix;

fn tiny() -> Tiny {
    fixtures::tiny(DType::F64, &Device::Cpu).unwrap()
}

fn number(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn rows(tensor: &Tensor) -> Vec<Vec<f64>> {
    tensor.to_vec2().unwrap()
}

/// The two views one after the other, and interleaved.
fn layouts(t: &Tiny) -> (Tensor, Tensor) {
    let halves = Tensor::cat(&[&t.anchors, &t.positives], 0).unwrap();
    let interleaved = Tensor::stack(&[&t.anchors, &t.positives], 1).unwrap().reshape((8, 3)).unwrap();
    (halves, interleaved)
}

#[test]
fn info_nce_by_temperature() {
    let t = tiny();
    let table = [
        (0.05, 0.0022877168, 0.0013762546, 0.0018319857),
        (0.07, 0.0118112760, 0.0083895538, 0.0101004149),
        (0.1, 0.0411822892, 0.0337338652, 0.0374580772),
        (0.2, 0.1862277934, 0.1818025439, 0.1840151687),
        (0.5, 0.5619190058, 0.5737784347, 0.5678487202),
        (1.0, 0.8800840040, 0.8875341363, 0.8838090702),
    ];
    for (temperature, forward, backward, both) in table {
        let loss = InfoNce::new(temperature);
        let value = |a: &Tensor, b: &Tensor| number(&loss.forward(a, b, Negatives::InBatch).unwrap().loss);
        assert_abs_diff_eq!(value(&t.anchors, &t.positives), forward, epsilon = 1e-9);
        assert_abs_diff_eq!(value(&t.positives, &t.anchors), backward, epsilon = 1e-9);
        let symmetric = InfoNce::symmetric(temperature).forward(&t.anchors, &t.positives, Negatives::InBatch).unwrap();
        assert_abs_diff_eq!(number(&symmetric.loss), both, epsilon = 1e-9);
        let single = fixtures::tiny(DType::F32, &Device::Cpu).unwrap();
        let out = loss.forward(&single.anchors, &single.positives, Negatives::InBatch).unwrap();
        assert_abs_diff_eq!(number(&out.loss), forward, epsilon = 2e-6);
    }
}

#[test]
fn info_nce_by_kind_of_negatives() {
    let t = tiny();
    let table = [
        (Negatives::Explicit(&t.negatives), [0.2026408426, 0.2295119502, 0.5635816437], 3),
        (Negatives::InBatchPlusOwn(&t.negatives), [0.2094375956, 0.2543499694, 0.9163177202], 6),
        (Negatives::InBatchPlusPool(&t.negatives), [0.7008592836, 0.7247938400, 1.4944773579], 12),
        (Negatives::TwoView, [0.0125632770, 0.0475880125, 0.8537291765], 7),
    ];
    for (negatives, values, candidates) in table {
        for (temperature, value) in [0.07, 0.1, 0.5].into_iter().zip(values) {
            let out = InfoNce::new(temperature).forward(&t.anchors, &t.positives, negatives).unwrap();
            assert_abs_diff_eq!(number(&out.loss), value, epsilon = 1e-9);
            assert_eq!(out.metrics.n_candidates, candidates);
        }
    }
    let metrics = InfoNce::default().forward(&t.anchors, &t.positives, Negatives::InBatch).unwrap().metrics;
    assert_abs_diff_eq!(metrics.positive_similarity, 0.9332456349, epsilon = 1e-9);
    assert_abs_diff_eq!(metrics.negative_similarity, 0.1212678544, epsilon = 1e-9);
    assert_abs_diff_eq!(metrics.mi_lower_bound(0.5), 4f64.ln() - 0.5, epsilon = 1e-12);
    assert_eq!(metrics.accuracy, 1.0);
}

#[test]
fn a_step_against_the_gradient_brings_pairs_together_and_an_anchor_as_its_own_target_drives_them_apart() {
    let t = tiny();
    let mean_cosine = |a: &Tensor, p: &Tensor| {
        InfoNce::default().forward(a, p, Negatives::InBatch).unwrap().metrics.positive_similarity
    };
    let step = |own_target: bool| {
        let (a, p) = (Var::from_tensor(&t.anchors).unwrap(), Var::from_tensor(&t.positives).unwrap());
        let loss = if own_target {
            let both = normalize(&Tensor::cat(&[a.as_tensor(), p.as_tensor()], 0).unwrap()).unwrap();
            let s = normalize(&a).unwrap().matmul(&both.t().unwrap()).unwrap();
            eas_losses::contrastive::candidate_loss(&s, &[0, 1, 2, 3], 0.07, None, None).unwrap()
        } else {
            InfoNce::new(0.07).forward(&a, &p, Negatives::InBatch).unwrap().loss
        };
        let grads = loss.backward().unwrap();
        let moved = |x: &Var| (x.as_tensor() - (grads.get(x).unwrap() * 0.1).unwrap()).unwrap();
        (number(&loss), mean_cosine(&moved(&a), &moved(&p)))
    };
    let (value, after) = step(true);
    assert_abs_diff_eq!(value, 0.3468670110, epsilon = 1e-9);
    assert_abs_diff_eq!(after, 0.9143038, epsilon = 1e-6);
    assert_abs_diff_eq!(step(false).1, 0.9351988, epsilon = 1e-6);
}

#[test]
fn nt_xent_by_temperature_and_layout() {
    let (halves, interleaved) = layouts(&tiny());
    for (temperature, value) in [(0.07, 0.0321276954), (0.1, 0.0851574007), (0.5, 0.9153401133), (1.0, 1.3413647863)] {
        for (views, layout) in [(&halves, PairLayout::Halves), (&interleaved, PairLayout::Interleaved)] {
            let out = NtXent { temperature, layout }.forward(views).unwrap();
            assert_abs_diff_eq!(number(&out.loss), value, epsilon = 1e-9);
            assert_eq!(out.metrics.accuracy, 1.0);
            assert_abs_diff_eq!(out.metrics.negative_similarity, 0.1216539507, epsilon = 1e-9);
        }
    }
    for (temperature, value) in [(0.5, 2.6464454195), (0.07, 12.3971655972)] {
        let crossed = NtXent { temperature, layout: PairLayout::Halves };
        assert_abs_diff_eq!(number(&crossed.forward(&interleaved).unwrap().loss), value, epsilon = 1e-9);
        assert!(crossed.check_layout(&interleaved).is_err());
        assert!(crossed.check_layout(&halves).is_ok());
    }
    let one = halves.narrow(0, 0, 2).unwrap();
    assert_abs_diff_eq!(number(&NtXent::default().forward(&one).unwrap().loss), 0.0, epsilon = 1e-12);
    let equal = Tensor::ones((8, 3), DType::F64, &Device::Cpu).unwrap();
    assert_abs_diff_eq!(number(&NtXent::default().forward(&equal).unwrap().loss), 7f64.ln(), epsilon = 1e-12);
}

#[test]
fn supervised_contrastive_losses() {
    let (points, labels) = fixtures::labelled(DType::F64, &Device::Cpu).unwrap();
    for (temperature, value) in [(0.07, 1.9863925064), (0.1, 1.8256794362), (0.5, 1.8044612616)] {
        assert_abs_diff_eq!(number(&sup_con(&points, labels, temperature).unwrap()), value, epsilon = 1e-9);
    }
    let t = tiny();
    let (halves, _) = layouts(&t);
    let (parents, leaves) = ([0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 2, 3, 0, 1, 2, 3]);
    assert_abs_diff_eq!(number(&sup_con(&halves, &leaves, 0.5).unwrap()), 0.9153401133, epsilon = 1e-9);
    let table = [
        (Averaging::PerPair, 0.1, 3.4648595700),
        (Averaging::PerPair, 0.5, 1.5912805471),
        (Averaging::PerLevel, 0.1, 2.3382921802),
        (Averaging::PerLevel, 0.5, 1.3659670692),
    ];
    for (averaging, temperature, value) in table {
        let loss = |weights: &[f64]| {
            let loss = WeightedSupCon { temperature, weights: weights.to_vec(), averaging };
            number(&loss.forward(&halves, &[&leaves, &parents]).unwrap())
        };
        assert_abs_diff_eq!(loss(&[1.0, 0.5]), value, epsilon = 1e-9);
        let leaves_only = number(&sup_con(&halves, &leaves, temperature).unwrap());
        assert_abs_diff_eq!(loss(&[1.0, 0.0]), leaves_only, epsilon = 1e-9);
    }
    let value = number(&temporal_similarity(&t.anchors, &[0.0, 10.0, 30.0, 90.0], 30.0).unwrap());
    assert_abs_diff_eq!(value, 0.4729968267, epsilon = 1e-9);
}

#[test]
fn debiased_loss_by_share_of_false_negatives() {
    let t = tiny();
    let table = [
        (0.0, [0.9153401133, 0.8962181762, 0.6783728750, 0.3834737465]),
        (0.5, [1.0273225029, 1.0114346866, 0.8346581100, 0.5571055864]),
        (1.0, [1.1252864481, 1.1118931789, 0.9653752920, 0.7267835866]),
    ];
    for (beta, values) in table {
        for (tau_plus, value) in [0.0, 0.01, 0.1, 0.2].into_iter().zip(values) {
            let loss = Debiased { temperature: 0.5, tau_plus, beta };
            assert_abs_diff_eq!(number(&loss.forward(&t.anchors, &t.positives).unwrap()), value, epsilon = 1e-9);
        }
    }
}

#[test]
fn hard_negatives_in_the_batch() {
    let t = tiny();
    let table = [
        (1, 0.5, [0.0076575746, 0.3649019020], [1, 1, 1, 1]),
        (2, 0.5, [0.0118342728, 0.5293766189], [2, 2, 1, 2]),
        (6, 0.5, [0.0118350855, 0.6418412445], [6, 6, 1, 2]),
        (6, -2.0, [0.0125632770, 0.8537291765], [6, 6, 6, 6]),
    ];
    for (k, hardness_threshold, values, used) in table {
        for (temperature, value) in [0.07, 0.5].into_iter().zip(values) {
            let loss = HardInBatch { temperature, hardness_threshold, k };
            let out = loss.forward(&t.anchors, &t.positives).unwrap();
            assert_abs_diff_eq!(number(&out.loss), value, epsilon = 1e-9);
            assert_eq!(out.metrics.used, used);
        }
    }
}

#[test]
fn a_queue_of_negatives() {
    let t = tiny();
    let all = t.negatives.reshape((8, 3)).unwrap();
    let mut queue = NegativeQueue::new(3, 6).unwrap();
    queue.push(&all.narrow(0, 0, 6).unwrap(), &[10, 11, 12, 13, 14, 15]).unwrap();
    let held = queue.tensor(&t.anchors).unwrap();
    let out = InfoNce::new(0.07).with_queue(&t.anchors, &t.positives, &held).unwrap();
    assert_abs_diff_eq!(number(&out.loss), 0.6160264335, epsilon = 2e-6);
    assert_eq!(out.metrics.accuracy, 0.5);
    assert_abs_diff_eq!(out.metrics.negative_similarity, 0.1188786562, epsilon = 1e-7);
    let mined = queue.mine(&t.anchors, &[0, 1, 2, 3], 2).unwrap();
    let slots: Vec<Vec<usize>> = mined.iter().map(|list| list.iter().map(|hit| hit.0).collect()).collect();
    assert_eq!(slots, [[4, 0], [1, 0], [5, 3], [3, 0]]);
    assert_abs_diff_eq!(mined[3][0].1, 0.98328200, epsilon = 1e-7);
    // An anchor's own id is never mined.
    assert_eq!(queue.mine(&t.anchors, &[14, 1, 2, 3], 1).unwrap()[0][0].0, 0);

    let mut queue = NegativeQueue::new(3, 6).unwrap();
    assert!(queue.is_empty());
    queue.push(&t.positives, &[0, 1, 2, 3]).unwrap();
    assert_eq!((queue.pointer(), queue.len()), (4, 4));
    queue.push(&t.positives, &[0, 1, 2, 3]).unwrap();
    assert_eq!((queue.pointer(), queue.len(), queue.ids()), (2, 6, &[2, 3, 2, 3, 0, 1][..]));
    // A batch larger than the queue leaves its last rows.
    queue.push(&all, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    let mut ids = queue.ids().to_vec();
    ids.sort_unstable();
    assert_eq!(ids, [2, 3, 4, 5, 6, 7]);
    assert!(queue.push(&t.positives.zeros_like().unwrap(), &[0; 4]).is_err());
    assert!(queue.push(&t.positives, &[0; 3]).is_err());
}

#[test]
fn triplet_losses() {
    let t = tiny();
    let first = t.first_negatives().unwrap();
    let unit = |x: &Tensor| normalize(x).unwrap();
    let value = |margin, distance, soft, unit_rows: bool, many: bool| {
        let loss = Triplet { margin, distance, soft };
        let rows = |x: &Tensor| if unit_rows { unit(x) } else { x.clone() };
        let (a, p) = (rows(&t.anchors), rows(&t.positives));
        let out = if many {
            loss.forward(&a, &p, Neg::Many(&rows(&t.negatives)))
        } else {
            loss.forward(&a, &p, Neg::One(&rows(&first)))
        };
        let out = out.unwrap();
        (number(&out.loss), out.metrics)
    };
    let table = [
        (Euclidean, false, false, [0.05, 0.125, 0.3718819967]),
        (Euclidean, true, false, [0.0533924903, 0.1283924903, 0.3922725664]),
        (Cosine, false, false, [0.0516066816, 0.1880870971, 0.5010002256]),
        (Euclidean, false, true, [0.05, f64::NAN, 0.5295553983]),
        (Cosine, false, true, [0.0516066816, f64::NAN, 0.7673474053]),
        (SquaredEuclidean, false, false, [0.05, f64::NAN, f64::NAN]),
        (SquaredEuclidean, true, false, [0.0532133633, f64::NAN, f64::NAN]),
    ];
    for (distance, unit_rows, many, values) in table {
        for (margin, wanted) in [0.2, 0.5, 1.0].into_iter().zip(values) {
            if wanted.is_finite() {
                assert_abs_diff_eq!(value(margin, distance, false, unit_rows, many).0, wanted, epsilon = 1e-9);
            }
        }
    }
    assert_abs_diff_eq!(value(1.0, Euclidean, true, false, false).0, 0.4071802821, epsilon = 1e-9);
    assert_abs_diff_eq!(value(1.0, Euclidean, true, true, false).0, 0.4327219173, epsilon = 1e-9);
    let raw = value(1.0, Euclidean, false, false, false).1;
    assert_eq!((raw.accuracy, raw.active), (0.75, 0.5));
    assert_abs_diff_eq!(raw.mean_gap, 0.8190119680, epsilon = 1e-9);
    let on_sphere = value(1.0, Euclidean, false, true, false).1;
    assert_eq!(on_sphere.active, 0.75);
    assert_abs_diff_eq!(on_sphere.mean_gap, 0.6973329516, epsilon = 1e-9);
}

#[test]
fn triplet_gradients_vanish_where_the_hinge_does_and_where_rows_coincide() {
    let t = tiny();
    let (a, p) = (Var::from_tensor(&t.anchors).unwrap(), Var::from_tensor(&t.positives).unwrap());
    let out = Triplet::default().forward(&a, &p, Neg::One(&t.first_negatives().unwrap())).unwrap();
    let grads = out.loss.backward().unwrap();
    let by_a = rows(grads.get(&a).unwrap());
    let wanted = [[0.03243913, 0.14433757, -0.03243913], [0.0; 3], [0.0; 3], [-0.30618622, 0.30618622, 0.0]];
    for (got, want) in by_a.iter().zip(wanted) {
        for (g, w) in got.iter().zip(want) {
            assert_abs_diff_eq!(*g, w, epsilon = 1e-8);
        }
    }
    assert_abs_diff_eq!(rows(grads.get(&p).unwrap())[0][0], -0.17677670, epsilon = 1e-8);
    for distance in [Distance::Euclidean, Distance::SquaredEuclidean, Distance::Cosine] {
        let triplet = Triplet { distance, ..Triplet::default() };
        let loss = triplet.forward(&a, &a, Neg::One(&a)).unwrap().loss;
        assert_abs_diff_eq!(number(&loss), 1.0, epsilon = 1e-12);
        let grads = loss.backward().unwrap();
        assert!(rows(grads.get(&a).unwrap()).concat().iter().all(|g| g.abs() < 1e-12));
    }
}

#[test]
fn pair_losses() {
    let t = tiny();
    let first = Tensor::cat(&[&t.anchors, &t.anchors], 0).unwrap();
    let second = Tensor::cat(&[&t.positives, &t.first_negatives().unwrap()], 0).unwrap();
    let labels = [[PairLabel::Same; 4], [PairLabel::Different; 4]].concat();
    let table = [
        (false, 1.0, 0.0652002701, 0.875),
        (false, 2.0, 0.2723643037, 0.75),
        (true, 1.0, 0.0548682736, 0.875),
        (true, 2.0, 0.3154474277, 0.75),
    ];
    for (unit, margin, value, accuracy) in table {
        let rows = |x: &Tensor| if unit { normalize(x).unwrap() } else { x.clone() };
        let out = PairContrastive { margin }.forward(&rows(&first), &rows(&second), &labels).unwrap();
        assert_abs_diff_eq!(number(&out.loss), value, epsilon = 1e-9);
        assert_eq!(out.metrics.accuracy, accuracy);
        let (same, different) = if unit { (0.3558993092, 1.0532322607) } else { (0.4579878075, 1.2769997755) };
        assert_abs_diff_eq!(out.metrics.mean_same, same, epsilon = 1e-9);
        assert_abs_diff_eq!(out.metrics.mean_different, different, epsilon = 1e-9);
        if unit && margin == 2.0 {
            assert_eq!(out.metrics.active_different, 1.0);
        }
    }
}

#[test]
fn angular_losses() {
    let t = tiny();
    let n = t.first_negatives().unwrap();
    for (alpha_degrees, value) in [(30.0, 0.1345445949), (45.0, 0.2654442888), (50.0, 0.3090775201)] {
        let loss = AngularMargin { alpha_degrees }.forward(&t.anchors, &t.positives, &n).unwrap();
        assert_abs_diff_eq!(number(&loss), value, epsilon = 1e-9);
    }
    for (other, wanted) in [
        (&t.positives, [14.4503943, 18.7617566, 21.0704703, 27.7957725]),
        (&n, [44.4153086, 78.5497689, 119.0953548, 26.9955084]),
    ] {
        let got: Vec<f64> = angles(&t.anchors, other).unwrap().to_vec1().unwrap();
        for (g, w) in got.iter().zip(wanted) {
            assert_abs_diff_eq!(g.to_degrees(), w, epsilon = 1e-6);
        }
    }
    for (alpha_degrees, smooth, in_batch) in [(30.0, 0.2769939297, 0.4479730649), (45.0, 1.2302475408, 1.1564294016)] {
        let loss = Angular { alpha_degrees };
        assert_abs_diff_eq!(number(&loss.smooth(&t.anchors, &t.positives, &n).unwrap()), smooth, epsilon = 1e-9);
        assert_abs_diff_eq!(number(&loss.in_batch(&t.anchors, &t.positives).unwrap()), in_batch, epsilon = 1e-9);
    }
    // Identical and opposite rows have finite gradients.
    let a = Var::from_tensor(&t.anchors).unwrap();
    for other in [t.anchors.clone(), t.anchors.neg().unwrap()] {
        let grads = angles(&a, &other).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(rows(grads.get(&a).unwrap()).concat().iter().all(|g| g.is_finite()));
    }
}

#[test]
fn mined_triplets_and_their_losses() {
    let (points, labels) = fixtures::labelled(DType::F64, &Device::Cpu).unwrap();
    let mine = |strategy, margin, distance| TripletMiner { strategy, margin, distance }.mine(&points, labels).unwrap();
    let value = |triplets: &_, margin, distance, reduction| {
        let out = Triplet { margin, distance, soft: false }.mined(&points, triplets, reduction).unwrap();
        (number(&out.loss), out.metrics.active * out.metrics.triplets as f64)
    };
    let table = [
        (Strategy::BatchHard, [8, 8], [0.8404445218, 0.4723351561], 0.6652092346),
        (Strategy::HardestNegative, [14, 14], [0.7125158085, 0.3922730104], 0.5872626187),
        (Strategy::SemiHard(Fallback::Hardest), [14, 14], [0.4269211919, 0.3202885662], 0.4468104306),
        (Strategy::SemiHard(Fallback::Skip), [10, 2], [0.3657871486, 0.3002127361], 0.4326606111),
        (Strategy::SemiHardFaceNet, [14, 14], [0.2612765347, 0.0428875337], 0.3772293544),
        (Strategy::SemiHardFirst, [14, 14], [0.3518410802, 0.3202885662], 0.4198696996),
        (Strategy::All, [72, 72], [0.1934041012, 0.0804425929], 0.2905866765),
    ];
    for (strategy, counts, values, soft_value) in table {
        for ((margin, count), wanted) in [1.0, 0.5].into_iter().zip(counts).zip(values) {
            let triplets = mine(strategy, margin, Euclidean);
            assert_eq!(triplets.len(), count, "{strategy:?}");
            assert!(triplets.iter().all(|(a, p, n)| a != p && labels[a] == labels[p] && labels[a] != labels[n]));
            let got = value(&triplets, margin, Euclidean, Reduction::MeanAll).0;
            assert_abs_diff_eq!(got, wanted, epsilon = 1e-9);
        }
        let soft = Triplet { soft: true, ..Triplet::default() };
        let out = soft.mined(&points, &mine(strategy, 1.0, Euclidean), Reduction::MeanAll).unwrap();
        assert_abs_diff_eq!(number(&out.loss), soft_value, epsilon = 1e-9);
    }
    let all = mine(Strategy::All, 1.0, Euclidean);
    let active = value(&all, 1.0, Euclidean, Reduction::MeanActive);
    assert_abs_diff_eq!(active.0, 0.5570038115, epsilon = 1e-9);
    assert_abs_diff_eq!(active.1, 25.0, epsilon = 1e-9);
    assert_abs_diff_eq!(value(&all, 0.5, Euclidean, Reduction::MeanActive).0, 0.6435407433, epsilon = 1e-9);

    let triplets = |strategy| mine(strategy, 1.0, Euclidean).iter().collect::<Vec<_>>();
    let hard = [(0, 1, 3), (1, 2, 3), (2, 1, 3), (3, 5, 1), (4, 5, 1), (5, 3, 7), (6, 7, 2), (7, 6, 5)];
    assert_eq!(triplets(Strategy::BatchHard), hard);
    let negatives = |strategy| mine(strategy, 1.0, Euclidean).negatives;
    assert_eq!(negatives(Strategy::HardestNegative), [3, 3, 3, 3, 3, 3, 1, 1, 1, 1, 7, 7, 2, 5]);
    let semi = Strategy::SemiHard(Fallback::Hardest);
    assert_eq!(negatives(semi), [3, 3, 3, 4, 3, 3, 0, 0, 1, 1, 1, 7, 2, 5]);
    assert_eq!(negatives(Strategy::SemiHardFaceNet), [3, 3, 4, 4, 3, 3, 0, 0, 1, 1, 1, 7, 2, 4]);
    assert_eq!(negatives(Strategy::SemiHardFirst), [3, 3, 3, 4, 3, 3, 0, 0, 1, 1, 0, 1, 2, 5]);

    let table = [
        (Strategy::BatchHard, 0.3007627206, 8),
        (Strategy::HardestNegative, 0.2746368295, 14),
        (Strategy::SemiHard(Fallback::Skip), 0.1251239744, 13),
        (Strategy::All, 0.1514809677, 72),
    ];
    for (strategy, wanted, count) in table {
        let triplets = mine(strategy, 0.2, Cosine);
        assert_eq!(triplets.len(), count);
        assert_abs_diff_eq!(value(&triplets, 0.2, Cosine, Reduction::MeanAll).0, wanted, epsilon = 1e-9);
    }
    let active = value(&mine(Strategy::All, 0.2, Cosine), 0.2, Cosine, Reduction::MeanActive);
    assert_abs_diff_eq!(active.0, 0.2057854655, epsilon = 1e-9);
    assert_abs_diff_eq!(active.1, 53.0, epsilon = 1e-9);
}

#[test]
fn a_batch_without_triplets_costs_nothing_and_pulls_nowhere() {
    let (points, _) = fixtures::labelled(DType::F64, &Device::Cpu).unwrap();
    let x = Var::from_tensor(&points).unwrap();
    for labels in [[0; 8], [0, 1, 2, 3, 4, 5, 6, 7]] {
        for strategy in [Strategy::All, Strategy::BatchHard, Strategy::SemiHardFaceNet] {
            let miner = TripletMiner { strategy, margin: 1.0, distance: Distance::Euclidean };
            let triplets = miner.mine(&x, &labels).unwrap();
            assert!(triplets.is_empty());
            let loss = Triplet::default().mined(&x, &triplets, Reduction::MeanActive).unwrap().loss;
            assert_eq!(number(&loss), 0.0);
            let grads = loss.backward().unwrap();
            assert!(rows(grads.get(&x).unwrap()).concat().iter().all(|&g| g == 0.0));
        }
    }
}

#[test]
fn alignment_uniformity_and_diversity() {
    let t = tiny();
    let (halves, _) = layouts(&t);
    let single = |x: &Tensor| {
        let (rows, dim) = x.dims2().unwrap();
        let values = x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        Matrix::from_vec(rows, dim, values).unwrap()
    };
    let table = [
        (&t.anchors, 2.0, -3.1369528379),
        (&t.positives, 2.0, -2.2969801653),
        (&halves, 2.0, -1.7520424505),
        (&t.anchors, 1.0, -1.7157252875),
        (&halves, 1.0, -1.1472404677),
    ];
    for (x, sharpness, value) in table {
        let differentiable = self_supervised::uniformity(x, sharpness).unwrap();
        assert_abs_diff_eq!(number(&differentiable), value, epsilon = 1e-9);
        assert_abs_diff_eq!(diagnostics::uniformity(&single(x), sharpness).unwrap(), value, epsilon = 2e-6);
    }
    let alignment = number(&self_supervised::alignment(&t.anchors, &t.positives, 2.0).unwrap());
    assert_abs_diff_eq!(alignment, 0.1335087303, epsilon = 1e-9);
    let blocks = diagnostics::alignment(&single(&t.anchors), &single(&t.positives), 2.0).unwrap();
    assert_abs_diff_eq!(blocks, alignment, epsilon = 1e-6);
    let tetrahedron = [[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]];
    let tetrahedron = Tensor::new(&tetrahedron, &Device::Cpu).unwrap();
    assert_abs_diff_eq!(number(&self_supervised::uniformity(&tetrahedron, 2.0).unwrap()), -16.0 / 3.0, epsilon = 1e-9);
    assert_abs_diff_eq!(number(&self_supervised::diversity(&tetrahedron).unwrap()), -1.0 / 3.0, epsilon = 1e-12);
    let value = number(&self_supervised::diversity(&t.anchors).unwrap());
    assert_abs_diff_eq!(value, 0.0330277330, epsilon = 1e-9);
    let value = number(&self_supervised::mean_squared_difference(&t.anchors, &t.positives).unwrap());
    assert_abs_diff_eq!(value, 0.0729166667, epsilon = 1e-9);
    // The uniform law on the sphere of 64 dimensions.
    let mut rng = eas_tensor::rng::SplitMix64::new(1);
    let uniform = Matrix::from_vec(4000, 64, (0..4000 * 64).map(|_| rng.normal() as f32).collect()).unwrap();
    assert_abs_diff_eq!(diagnostics::uniformity(&uniform, 2.0).unwrap(), -3.8752355897, epsilon = 0.02);
}

#[test]
fn ranking_losses_of_a_list() {
    let scores = Tensor::new(&[0.2, 0.9, 0.4, 0.7, 0.1f64], &Device::Cpu).unwrap();
    let grades = [3.0, 1.0, 2.0, 0.0, 1.0];
    assert_abs_diff_eq!(number(&ranking::pairwise_hinge(&scores, &grades).unwrap()), 1.2444444444, epsilon = 1e-9);
    assert_abs_diff_eq!(number(&ranking::ranknet(&scores, &grades).unwrap()), 0.8375792062, epsilon = 1e-9);
    assert_abs_diff_eq!(number(&ranking::lambdarank(&scores, &grades).unwrap()), 0.7567287141, epsilon = 1e-9);
    // The order of the list doesn't matter.
    let back = Tensor::new(&[0.1, 0.7, 0.4, 0.9, 0.2f64], &Device::Cpu).unwrap();
    let reversed = ranking::pairwise_hinge(&back, &[1.0, 0.0, 2.0, 1.0, 3.0]).unwrap();
    assert_abs_diff_eq!(number(&reversed), 1.2444444444, epsilon = 1e-9);
    assert_eq!(number(&ranking::ranknet(&scores, &[1.0; 5]).unwrap()), 0.0);
}

#[test]
fn temperature_profiles() {
    let similarities = [0.8, 0.3, 0.25, 0.2, 0.15, 0.15, 0.12, 0.1, 0.1, 0.1];
    let table = [
        (0.05, 0.9999235043, 7.649866e-5, 3.54959745, 0.59345085, -0.0015299146),
        (0.07, 0.9982540502, 0.001747475728, 5.18352796, 0.45196613, -0.02494214),
        (0.1, 0.9802386149, 0.01995925233, 6.78571194, 0.33422737, -0.19761385),
        (0.3, 0.4744325112, 0.7456359025, 8.74456823, 0.17049899, -1.7518916),
        (0.5, 0.2822100440, 1.265103649, 8.91074784, 0.14463740, -1.4355799),
    ];
    for (temperature, probability, loss, effective, hardest, slope) in table {
        let row = profile(&similarities, &[temperature]).unwrap()[0];
        for (got, want) in [
            (row.positive_probability, probability),
            (row.loss, loss),
            (row.effective_negatives, effective),
            (row.hardest_share, hardest),
            (row.positive_gradient, slope),
        ] {
            assert!((got - want).abs() <= 2e-7 * want.abs(), "{got} is not {want} at {temperature}");
        }
    }
    let sharp = profile(&similarities, &[0.01]).unwrap()[0];
    assert!(sharp.loss < 1e-15);
    assert_abs_diff_eq!(sharp.effective_negatives, 1.04152319, epsilon = 1e-8);
    for (batch, wanted) in [
        (32, [0.2, 0.2, 0.2]),
        (64, [0.1, 0.1, 0.15]),
        (255, [0.1, 0.1, 0.15]),
        (256, [0.07; 3]),
        (1023, [0.07; 3]),
        (1024, [0.05, 0.07, 0.07]),
        (4095, [0.05, 0.07, 0.07]),
        (4096, [0.03, 0.05, 0.05]),
    ] {
        let got = [Quality::High, Quality::Medium, Quality::Low].map(|quality| recommend(batch, quality));
        assert_eq!(got, wanted, "{batch}");
    }
}

#[test]
fn a_learned_temperature_has_the_right_gradient_and_an_upper_bound() {
    let t = tiny();
    let learned = LearnableTemperature::new(0.07, DType::F64, &Device::Cpu).unwrap();
    let s = normalize(&t.anchors).unwrap().matmul(&normalize(&t.positives).unwrap().t().unwrap()).unwrap();
    let logits = learned.logits(&s).unwrap();
    let loss = eas_losses::metric::softmax_cross_entropy(&logits, &[0, 1, 2, 3]).unwrap();
    assert_abs_diff_eq!(number(&loss), 0.0118112760, epsilon = 1e-9);
    let grads = loss.backward().unwrap();
    assert_abs_diff_eq!(number(grads.get(learned.var()).unwrap()), -0.0488431246, epsilon = 1e-9);
    let sharp = LearnableTemperature::new(1e-3, DType::F64, &Device::Cpu).unwrap();
    assert_abs_diff_eq!(sharp.temperature().unwrap(), 0.01, epsilon = 1e-12);
}

#[test]
fn cached_gradients_equal_those_of_the_whole_batch() {
    let t = tiny();
    let w = Var::from_tensor(&Tensor::new(&[[0.5, -0.25, 1.0], [0.75, 1.0, -0.5f64]], &Device::Cpu).unwrap()).unwrap();
    let encode = |x: &Tensor| Ok::<_, eas_losses::LossError>(x.matmul(&w.as_tensor().t()?)?);
    let loss = |views: &[Tensor]| Ok(InfoNce::new(0.5).forward(&views[0], &views[1], Negatives::InBatch)?.loss);
    let whole = loss(&[encode(&t.anchors).unwrap(), encode(&t.positives).unwrap()]).unwrap();
    assert_abs_diff_eq!(number(&whole), 0.8295973082, epsilon = 1e-9);
    let grads = whole.backward().unwrap();
    let wanted = rows(grads.get(&w).unwrap());
    assert_abs_diff_eq!(wanted[0][0], 0.46495357, epsilon = 1e-8);
    for (left, right) in [(1, 1), (2, 2), (4, 4), (1, 2)] {
        let chunks =
            |x: &Tensor, micro| (0..4 / micro).map(|i| x.narrow(0, i * micro, micro).unwrap()).collect::<Vec<_>>();
        let inputs = [chunks(&t.anchors, left), chunks(&t.positives, right)];
        let (value, grads) = GradCache::step(&inputs, |_, chunk| encode(chunk), loss).unwrap();
        assert_abs_diff_eq!(value, 0.8295973082, epsilon = 1e-9);
        for (got, want) in rows(grads.get(&w).unwrap()).concat().iter().zip(wanted.concat()) {
            assert_abs_diff_eq!(*got, want, epsilon = 1e-12);
        }
    }
}

#[test]
fn filters_keep_what_is_clearly_less_similar() {
    let positive = [0.968364052, 0.946864153, 0.933138950, 0.884615385];
    let negatives = [
        vec![0.71428571, -0.76190476],
        vec![0.19851667, 0.48275862],
        vec![-0.48626454, 0.71428571],
        vec![0.89104211, -0.25677630],
    ];
    for margin in [0.0, 0.1] {
        let keep = margin_filter(&positive, &negatives, margin).unwrap();
        assert_eq!(keep, [[true, true], [true, true], [true, true], [false, true]]);
    }
    let keep = margin_filter(&positive, &negatives, 0.3).unwrap();
    assert_eq!(keep, [[false, true], [true, true], [true, false], [false, true]]);
}

#[test]
fn samplers() {
    let plane = Matrix::from_rows(&fixtures::PLANE).unwrap();
    assert_eq!(farthest_first(&plane, 4, 0).unwrap(), [0, 4, 2, 5]);
    assert_eq!(farthest_first(&plane, 5, 0).unwrap(), [0, 4, 2, 5, 7]);
    assert_eq!(farthest_first(&plane, 5, 2).unwrap(), [2, 5, 0, 4, 7]);
    assert!(farthest_first(&plane, 9, 0).is_err());
    assert_eq!(domain_quotas(&[900, 90, 10], 64).unwrap(), [27, 27, 10]);
    assert!(domain_quotas(&[3, 3], 7).is_err());
    for (p, k, counts) in [(10, 5, [100, 200, 9_000]), (16, 8, [448, 896, 107_520]), (8, 4, [48, 96, 2_688])] {
        let got = TripletCounts::new(p, k);
        assert_eq!([got.positive_pairs, got.ordered_pairs, got.triplets], counts);
    }
    // The class sizes of the UCI digits.
    let sizes = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180];
    let labels: Vec<u32> = sizes.iter().zip(0..).flat_map(|(&size, class)| vec![class; size]).collect();
    let sampler = PkSampler::new(&labels, 10, 5, None, 3).unwrap();
    assert_eq!(sampler.len(), 36);
    let batches: Vec<Vec<usize>> = sampler.epoch(0).collect();
    let mut seen = vec![0; labels.len()];
    for batch in &batches {
        let mut distinct = batch.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!((batch.len(), distinct.len()), (50, 50));
        assert!((0..10).all(|class| batch.iter().filter(|&&i| labels[i] == class).count() == 5));
        for &i in batch {
            seen[i] += 1;
        }
    }
    assert_eq!(batches.len(), 36);
    assert_eq!(seen.iter().filter(|&&count| count > 0).count(), 1788);
    assert!(seen.iter().all(|&count| count <= 2));
    assert_eq!(batches, sampler.epoch(0).collect::<Vec<_>>());
    assert_ne!(batches, sampler.epoch(1).collect::<Vec<_>>());
    assert!(PkSampler::new(&[0, 0, 1], 2, 2, None, 0).is_err());

    let shard = |rank, drop_last| ShardedSampler { len: 1797, world: 4, rank, seed: 1, shuffle: true, drop_last };
    let mut counts = vec![0; 1797];
    for rank in 0..4 {
        let share = shard(rank, false).epoch(2).unwrap();
        assert_eq!(share.len(), 450);
        assert_ne!(share, shard(rank, false).epoch(3).unwrap());
        for i in share {
            counts[i] += 1;
        }
        assert_eq!(shard(rank, true).epoch(2).unwrap().len(), 449);
    }
    assert_eq!(counts.iter().filter(|&&c| c == 2).count(), 3);
    assert!(counts.iter().all(|&c| c > 0));
    assert!(shard(4, false).epoch(0).is_err());
}

#[test]
fn difficulty_quotas() {
    let scores: Vec<f64> = (0..600).map(|i| f64::from((i * 7919) % 600)).collect();
    for (batch, quotas) in [(512, [200, 200, 112]), (32, [9, 16, 7])] {
        let picked = eas_losses::sampler::difficulty_balanced(&scores, batch, 0.3, 0.5, 1).unwrap();
        let mut distinct = picked.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), batch);
        let of = |low: f64, high: f64| picked.iter().filter(|&&i| scores[i] >= low && scores[i] < high).count();
        let got = [of(0.0, 200.0), of(200.0, 400.0), of(400.0, 600.0)];
        if batch == 32 {
            assert_eq!(got, quotas);
        }
        assert!(got.iter().all(|&count| count <= 200));
    }
    let large: Vec<f64> = (0..3000).map(f64::from).collect();
    let picked = eas_losses::sampler::difficulty_balanced(&large, 512, 0.3, 0.5, 1).unwrap();
    let easy = picked.iter().filter(|&&i| i < 1000).count();
    let medium = picked.iter().filter(|&&i| (1000..2000).contains(&i)).count();
    assert_eq!([easy, medium, 512 - easy - medium], [153, 256, 103]);
    assert!(eas_losses::sampler::difficulty_balanced(&scores, 601, 0.3, 0.5, 1).is_err());
}
