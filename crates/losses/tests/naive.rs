//! The losses written once more as loops over plain numbers, straight from their papers' sums.

use candle_core::{DType, Device, Tensor};
use eas_losses::registry;
use eas_tensor::rng::SplitMix64;
use std::collections::BTreeMap;

type Rows = Vec<Vec<f64>>;

struct World {
    a: Rows,
    p: Rows,
    n: Vec<Rows>,
    w: Rows,
    y: Vec<usize>,
}

const B: usize = 9;
const D: usize = 4;
const CLASSES: usize = 3;

fn world(seed: u64) -> World {
    let mut rng = SplitMix64::new(seed);
    let mut rows = |count: usize| -> Rows { (0..count).map(|_| (0..D).map(|_| rng.normal()).collect()).collect() };
    let (a, p, w) = (rows(B), rows(B), rows(CLASSES));
    let n = (0..B).map(|_| rows(2)).collect();
    World { a, p, n, w, y: (0..B).map(|i| i % CLASSES).collect() }
}

/// What the registry says.
fn ours(world: &World, name: &str, params: &[(&str, &str)]) -> f64 {
    let tensor = |rows: &Rows| Tensor::from_vec(rows.concat(), (rows.len(), D), &Device::Cpu).unwrap();
    let negatives = Tensor::from_vec(world.n.concat().concat(), (B, 2, D), &Device::Cpu).unwrap();
    let labels: Vec<u32> = world.y.iter().map(|&y| y as u32).collect();
    let labels = Tensor::from_vec(labels, B, &Device::Cpu).unwrap();
    let inputs = BTreeMap::from([
        ("anchors".to_owned(), tensor(&world.a)),
        ("positives".to_owned(), tensor(&world.p)),
        ("negatives".to_owned(), negatives),
        ("labels".to_owned(), labels),
        ("weights".to_owned(), tensor(&world.w)),
    ]);
    let params = params.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let loss = registry::evaluate(name, &inputs, &params).unwrap().loss;
    loss.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(a, b)| a * b).sum()
}

fn cosine(x: &[f64], y: &[f64]) -> f64 {
    dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
}

fn far(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn unit(x: &[f64]) -> Vec<f64> {
    x.iter().map(|v| v / dot(x, x).sqrt()).collect()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// `-ln(exp(own) / (exp(own) + sum exp(others)))`.
fn softmax_loss(own: f64, others: impl Iterator<Item = f64>) -> f64 {
    (1.0 + others.map(|x| (x - own).exp()).sum::<f64>()).ln()
}

fn softplus(x: f64) -> f64 {
    x.exp().ln_1p()
}

#[test]
fn softmax_losses_equal_their_loops() {
    for seed in 0..4 {
        let w = world(seed);
        let t = 0.3;
        let rows = || 0..B;
        let with = |i: usize, others: &dyn Fn(usize) -> Vec<f64>| {
            softmax_loss(cosine(&w.a[i], &w.p[i]) / t, others(i).into_iter().map(|s| s / t))
        };
        let batch = |i: usize| rows().filter(|&j| j != i).map(|j| cosine(&w.a[i], &w.p[j])).collect::<Vec<_>>();
        let own = |i: usize| w.n[i].iter().map(|x| cosine(&w.a[i], x)).collect::<Vec<_>>();
        let everyone = |i: usize| w.n.iter().flatten().map(|x| cosine(&w.a[i], x)).collect::<Vec<_>>();
        let anchors = |i: usize| rows().filter(|&j| j != i).map(|j| cosine(&w.a[i], &w.a[j])).collect::<Vec<_>>();
        let wanted = [
            ("infonce", mean(rows().map(|i| with(i, &batch)))),
            ("infonce_explicit", mean(rows().map(|i| with(i, &own)))),
            ("infonce_own", mean(rows().map(|i| with(i, &|i| [batch(i), own(i)].concat())))),
            ("infonce_pool", mean(rows().map(|i| with(i, &|i| [batch(i), everyone(i)].concat())))),
            ("infonce_two_view", mean(rows().map(|i| with(i, &|i| [batch(i), anchors(i)].concat())))),
            ("nt_xent", {
                let z: Rows = w.a.iter().chain(&w.p).cloned().collect();
                mean((0..2 * B).map(|i| {
                    let twin = (i + B) % (2 * B);
                    let others = (0..2 * B).filter(move |&j| j != i && j != twin);
                    softmax_loss(cosine(&z[i], &z[twin]) / t, others.map(|j| cosine(&z[i], &z[j]) / t))
                }))
            }),
            ("supcon", {
                mean(rows().map(|i| {
                    let mates = rows().filter(|&j| j != i && w.y[j] == w.y[i]);
                    mean(mates.map(|j| {
                        let others = rows().filter(|&k| k != i && k != j);
                        softmax_loss(cosine(&w.a[i], &w.a[j]) / t, others.map(|k| cosine(&w.a[i], &w.a[k]) / t))
                    }))
                }))
            }),
        ];
        for (name, wanted) in wanted {
            for tiled in ["false", "true"] {
                let mut params = vec![("temperature", "0.3")];
                if ["infonce", "infonce_two_view", "nt_xent"].contains(&name) {
                    params.push(("tiled", tiled));
                }
                let got = ours(&w, name, &params);
                assert!((got - wanted).abs() < 1e-12, "{name}: {got} is not {wanted}");
            }
        }
        let products =
            mean(rows().map(|i| {
                softmax_loss(dot(&w.a[i], &w.p[i]), rows().filter(|&j| j != i).map(|j| dot(&w.a[i], &w.p[j])))
            }));
        assert!((ours(&w, "n_pairs", &[]) - products).abs() < 1e-12);
    }
}

#[test]
fn metric_losses_equal_their_loops() {
    for seed in 10..14 {
        let w = world(seed);
        let rows = || 0..B;
        let hinge = |x: f64| x.max(0.0);
        let nearest = |i: usize| w.n[i].iter().map(|x| far(&w.a[i], x)).fold(f64::INFINITY, f64::min);
        let mut triplets = Vec::new();
        let mut hard = Vec::new();
        for i in rows() {
            let mates: Vec<usize> = rows().filter(|&j| j != i && w.y[j] == w.y[i]).collect();
            let others: Vec<usize> = rows().filter(|&j| w.y[j] != w.y[i]).collect();
            let d = |j: usize| far(&w.a[i], &w.a[j]);
            for &p in &mates {
                triplets.extend(others.iter().map(|&n| hinge(d(p) - d(n) + 1.0)));
            }
            let farthest = mates.iter().map(|&p| d(p)).fold(0.0, f64::max);
            hard.push(hinge(farthest - others.iter().map(|&n| d(n)).fold(f64::INFINITY, f64::min) + 1.0));
        }
        let pairs = || rows().flat_map(|i| (i + 1..B).map(move |j| (i, j)));
        let similarity = |i: usize, j: usize| cosine(&w.a[i], &w.a[j]);
        let t = 40f64.to_radians().tan().powi(2);
        let margin_softmax = |turn: &dyn Fn(f64) -> f64| {
            mean(rows().map(|i| {
                let logit = |c: usize| 64.0 * cosine(&w.a[i], &w.w[c]);
                let own = 64.0 * turn(cosine(&w.a[i], &w.w[w.y[i]]));
                let others: Vec<f64> = (0..CLASSES).filter(|&c| c != w.y[i]).map(logit).collect();
                let largest = others.iter().copied().fold(own, f64::max);
                softmax_loss(own - largest, others.into_iter().map(|x| x - largest))
            }))
        };
        let wanted = [
            ("triplet_margin", mean(rows().map(|i| hinge(far(&w.a[i], &w.p[i]) - nearest(i) + 1.0)))),
            ("triplet_all", mean(triplets.iter().copied())),
            ("triplet_hard", mean(hard.iter().copied())),
            ("contrastive_pairs", {
                mean(pairs().map(|(i, j)| {
                    let d = far(&w.a[i], &w.a[j]);
                    0.5 * if w.y[i] == w.y[j] { d * d } else { hinge(1.0 - d).powi(2) }
                }))
            }),
            ("multi_similarity", {
                mean(rows().map(|i| {
                    let sum = |same: bool, weight: f64| {
                        let mates = rows().filter(|&j| j != i && (w.y[j] == w.y[i]) == same);
                        mates.map(|j| (weight * (similarity(i, j) - 0.5)).exp()).sum::<f64>()
                    };
                    sum(true, -2.0).ln_1p() / 2.0 + sum(false, 50.0).ln_1p() / 50.0
                }))
            }),
            ("circle", {
                mean(rows().map(|i| {
                    let mut sums = [0.0, 0.0];
                    for j in rows().filter(|&j| j != i) {
                        let s = similarity(i, j);
                        if w.y[j] == w.y[i] {
                            sums[0] += (-80.0 * hinge(1.4 - s) * (s - 0.6)).exp();
                        } else {
                            sums[1] += (80.0 * hinge(s + 0.4) * (s - 0.4)).exp();
                        }
                    }
                    let x = sums[0].ln() + sums[1].ln();
                    if x > 30.0 { x } else { softplus(x) }
                }))
            }),
            ("angular", {
                mean(rows().map(|i| {
                    let (a, p) = (unit(&w.a[i]), unit(&w.p[i]));
                    let sum = rows().filter(|&j| j != i).map(|j| {
                        let n = unit(&w.p[j]);
                        (4.0 * t * (dot(&a, &n) + dot(&p, &n)) - 2.0 * (1.0 + t) * dot(&a, &p)).exp()
                    });
                    sum.sum::<f64>().ln_1p()
                }))
            }),
            ("arcface", {
                margin_softmax(&|c| {
                    let theta = c.acos();
                    if theta + 0.5 <= std::f64::consts::PI { (theta + 0.5).cos() } else { c - 0.5 * 0.5f64.sin() }
                })
            }),
            ("cosface", margin_softmax(&|c| c - 0.35)),
            ("proxy_nca", {
                mean(rows().map(|i| {
                    let d = |c: usize| -far(&unit(&w.a[i]), &unit(&w.w[c])).powi(2);
                    softmax_loss(d(w.y[i]), (0..CLASSES).filter(|&c| c != w.y[i]).map(d))
                }))
            }),
            ("alignment", mean(rows().map(|i| 2.0 - 2.0 * cosine(&w.a[i], &w.p[i])))),
            ("uniformity", mean(pairs().map(|(i, j)| (-4.0 * (1.0 - similarity(i, j))).exp())).ln()),
            ("diversity", mean(pairs().map(|(i, j)| similarity(i, j)))),
        ];
        for (name, wanted) in wanted {
            let got = ours(&w, name, &[]);
            assert!((got - wanted).abs() < 1e-10 * wanted.abs().max(1.0), "{name}: {got} is not {wanted}");
        }
    }
}

#[test]
fn decorrelation_losses_equal_their_loops() {
    for seed in 20..24 {
        let w = world(seed);
        let column = |x: &Rows, d: usize| x.iter().map(|row| row[d]).collect::<Vec<f64>>();
        let centred = |x: &Rows, d: usize| {
            let values = column(x, d);
            let m = mean(values.iter().copied());
            values.into_iter().map(|v| v - m).collect::<Vec<f64>>()
        };
        let cover = |x: &Rows, d: usize, y: &Rows, e: usize| dot(&centred(x, d), &centred(y, e));
        let mut vicreg = 25.0 * mean((0..B).map(|i| far(&w.a[i], &w.p[i]).powi(2) / D as f64));
        for x in [&w.a, &w.p] {
            for d in 0..D {
                let deviation = (cover(x, d, x, d) / (B - 1) as f64 + 1e-4).sqrt();
                vicreg += 12.5 * (1.0 - deviation).max(0.0) / D as f64;
                let others = (0..D).filter(|&e| e != d);
                vicreg += others.map(|e| (cover(x, d, x, e) / (B - 1) as f64).powi(2)).sum::<f64>() / D as f64;
            }
        }
        let mut barlow = 0.0;
        for d in 0..D {
            for e in 0..D {
                let spread = |x: &Rows, d| (cover(x, d, x, d) / B as f64 + 1e-5).sqrt();
                let c = cover(&w.a, d, &w.p, e) / B as f64 / spread(&w.a, d) / spread(&w.p, e);
                barlow += if d == e { (c - 1.0).powi(2) } else { 0.0051 * c * c };
            }
        }
        assert!((ours(&w, "vicreg", &[]) - vicreg).abs() < 1e-11 * vicreg);
        assert!((ours(&w, "barlow_twins", &[]) - barlow).abs() < 1e-11 * barlow);
    }
}
