//! Worlds in which likeness has degrees: items of a tree, and items of a calendar.

use eas_data::synth::rotation::random_orthogonal;
use eas_tensor::rng::SplitMix64;
use eas_tensor::{Matrix, gemm};

/// Items of a tree; `labels[l]` are their leaves, parents and grandparents.
#[derive(Debug, Clone)]
pub struct Items {
    /// A row each, 40 values.
    pub rows: Matrix,
    /// By level, finest first.
    pub labels: [Vec<u32>; 3],
}

/// 12 items a leaf to train on and 4 to judge: three blocks of 8 coordinates for the three levels, 16 of nuisance, rotated.
pub fn tree(seed: u64) -> anyhow::Result<[Items; 2]> {
    let mut rng = SplitMix64::stream(seed, 9);
    let mut block = |scale: f64| -> Vec<f64> { (0..8).map(|_| scale * rng.normal()).collect() };
    let mut leaves = Vec::new();
    for grandparent in 0..6 {
        let g = block(1.0);
        for parent in 4 * grandparent..4 * grandparent + 4 {
            let p = block(0.7);
            for leaf in 5 * parent..5 * parent + 5 {
                leaves.push(([&g[..], &p, &block(0.5)].concat(), [leaf, parent, grandparent]));
            }
        }
    }
    let rotation = random_orthogonal(40, &mut rng);
    let mut side = |per_leaf: usize| -> anyhow::Result<Items> {
        let (mut values, mut labels) = (Vec::new(), [(); 3].map(|()| Vec::new()));
        for (core, path) in leaves.iter().flat_map(|leaf| std::iter::repeat_n(leaf, per_leaf)) {
            values.extend(core.iter().map(|x| (x + 0.3 * rng.normal()) as f32));
            values.extend((0..16).map(|_| (1.5 * rng.normal()) as f32));
            labels.iter_mut().zip(path).for_each(|(level, &label)| level.push(label));
        }
        let rows = Matrix::from_vec(labels[0].len(), 40, values)?;
        Ok(Items { rows: gemm::matmul_transposed(&rows, &rotation)?, labels })
    };
    Ok([side(12)?, side(4)?])
}

/// Items of random days of two years: four harmonics of the day and 8 coordinates of nuisance, rotated.
pub fn calendar(items: usize, seed: u64) -> anyhow::Result<(Matrix, Vec<f64>)> {
    let mut rng = SplitMix64::stream(seed, 10);
    let rotation = random_orthogonal(16, &mut rng);
    let days: Vec<f64> = (0..items).map(|_| 720.0 * rng.uniform()).collect();
    let mut values = Vec::with_capacity(16 * items);
    for day in &days {
        let waves = [1.0, 2.0, 4.0, 8.0].map(|k| (k * std::f64::consts::TAU * day / 720.0).sin_cos());
        values.extend(waves.iter().flat_map(|&(sin, cos)| [cos, sin]).map(|x| (x + 0.1 * rng.normal()) as f32));
        values.extend((0..8).map(|_| rng.normal() as f32));
    }
    Ok((gemm::matmul_transposed(&Matrix::from_vec(items, 16, values)?, &rotation)?, days))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_has_its_shape_and_both_sides_the_same_leaves() {
        let [learn, judge] = tree(5).unwrap();
        assert_eq!((learn.rows.rows(), judge.rows.rows(), judge.rows.dim()), (1_440, 480, 40));
        for (i, &leaf) in judge.labels[0].iter().enumerate() {
            assert_eq!((judge.labels[1][i], judge.labels[2][i]), (leaf / 5, leaf / 20));
        }
        assert_eq!(judge.labels[0].iter().max(), Some(&119));
        assert_eq!(learn.rows, tree(5).unwrap()[0].rows);
        // 8 (1 + .49 + .25 + 3 * .09) + 16 * 2.25 is the mean square of a row.
        let mean = learn.rows.as_slice().iter().map(|x| f64::from(x * x)).sum::<f64>() / 1_440.0;
        assert!((mean - 52.08).abs() < 3.0, "{mean}");
    }

    #[test]
    fn days_lie_in_two_years_and_near_days_are_alike() {
        let (rows, days) = calendar(600, 5).unwrap();
        assert_eq!((rows.rows(), rows.dim(), days.len()), (600, 16, 600));
        assert!(days.iter().all(|day| (0.0..720.0).contains(day)));
        let (mut near, mut far) = ((0.0, 0), (0.0, 0));
        for i in 0..600 {
            for j in 0..i {
                let product: f32 = rows.row(i).iter().zip(rows.row(j)).map(|(x, y)| x * y).sum();
                let to = if (days[i] - days[j]).abs() < 5.0 { &mut near } else { &mut far };
                *to = (to.0 + f64::from(product), to.1 + 1);
            }
        }
        assert!(near.0 / f64::from(near.1) > far.0 / f64::from(far.1) + 2.0);
    }
}
