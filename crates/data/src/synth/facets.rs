//! Items that are known by several independent things at once: what they look like, what they are for, who bought them, and their
//! attributes. The facets are drawn independently, so that no one of them tells anything of the others.

use crate::DataError;
use crate::synth::directions::{around, direction};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// One facet given by vectors: items of a class lie around its centroid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VectorFacet {
    /// Number of classes.
    pub classes: usize,
    /// Dimension.
    pub dim: usize,
    /// Length of an item's own part where the centroid's is 1.
    pub noise: f64,
    /// Share of the items that have a vector.
    pub present: f64,
}

/// Sizes of a world of items with facets.
#[derive(Debug, Clone, PartialEq)]
pub struct FacetConfig {
    /// Items.
    pub items: usize,
    /// Facets given by vectors.
    pub vectors: Vec<VectorFacet>,
    /// Number of values of each attribute.
    pub attributes: Vec<usize>,
    /// Seed of the stream.
    pub seed: u64,
}

/// Items, their classes and their vectors.
#[derive(Debug, Clone, PartialEq)]
pub struct FacetItems {
    /// The class of each item in each vector facet; shape (facets, items).
    pub classes: Vec<Vec<usize>>,
    /// Unit vectors of each facet; shape (facets, items, dim). A row without a vector is zero.
    pub vectors: Vec<Matrix>,
    /// Which items have a vector in each facet; shape (facets, items).
    pub present: Vec<Vec<bool>>,
    /// The value of each item in each attribute; shape (attributes, items).
    pub attributes: Vec<Vec<usize>>,
}

/// A world: centroids that items and queries share.
#[derive(Debug, Clone)]
pub struct FacetWorld {
    config: FacetConfig,
    centroids: Vec<Vec<Vec<f64>>>,
}

impl FacetWorld {
    /// Draws the centroids: uniform directions.
    ///
    /// # Errors
    /// No items, a facet without classes or dimension, an attribute without values, noise that is negative or not finite, a share
    /// outside `[0, 1]`.
    pub fn new(config: FacetConfig) -> Result<Self, DataError> {
        let bad_facet = |f: &VectorFacet| {
            let noise = f.noise >= 0.0 && f.noise.is_finite();
            f.classes == 0 || f.dim == 0 || !noise || !(0.0..=1.0).contains(&f.present)
        };
        if config.items == 0 || config.vectors.iter().any(bad_facet) || config.attributes.contains(&0) {
            let expected = "positive sizes, noise of 0 or more and shares in [0, 1]";
            return Err(DataError::Argument { what: "facet configuration", given: format!("{config:?}"), expected });
        }
        let mut rng = SplitMix64::stream(config.seed, 0);
        let facets = config.vectors.iter();
        let centroids = facets.map(|f| (0..f.classes).map(|_| direction(&mut rng, f.dim)).collect()).collect();
        Ok(Self { config, centroids })
    }

    /// The items of the world.
    pub fn items(&self) -> FacetItems {
        self.draw(self.config.items, &mut SplitMix64::stream(self.config.seed, 1))
    }

    /// `n` other items, drawn alike from another stream.
    pub fn others(&self, n: usize) -> FacetItems {
        self.draw(n, &mut SplitMix64::stream(self.config.seed, 2))
    }

    /// `n` items of `items` seen anew (all of them when there are fewer): their positions, and the same classes and attributes with
    /// fresh vectors.
    pub fn seen_anew(&self, items: &FacetItems, n: usize) -> (Vec<usize>, FacetItems) {
        let mut rng = SplitMix64::stream(self.config.seed, 3);
        let count = items.classes.first().or(items.attributes.first()).map_or(0, Vec::len);
        let chosen = rng.sample_indices(count, n);
        let pick = |column: &Vec<usize>| chosen.iter().map(|&i| column[i]).collect::<Vec<_>>();
        let classes: Vec<Vec<usize>> = items.classes.iter().map(pick).collect();
        let attributes = items.attributes.iter().map(pick).collect();
        let (vectors, present) = self.vectors(&classes, &mut rng);
        (chosen, FacetItems { classes, vectors, present, attributes })
    }

    fn draw(&self, n: usize, rng: &mut SplitMix64) -> FacetItems {
        let mut column = |values: usize| (0..n).map(|_| rng.below(values)).collect::<Vec<_>>();
        let classes: Vec<Vec<usize>> = self.config.vectors.iter().map(|f| column(f.classes)).collect();
        let attributes = self.config.attributes.iter().map(|&values| column(values)).collect();
        let (vectors, present) = self.vectors(&classes, rng);
        FacetItems { classes, vectors, present, attributes }
    }

    fn vectors(&self, classes: &[Vec<usize>], rng: &mut SplitMix64) -> (Vec<Matrix>, Vec<Vec<bool>>) {
        let facets = self.config.vectors.iter().zip(&self.centroids).zip(classes);
        facets
            .map(|((facet, centroids), classes)| {
                let mut matrix = Matrix::zeros(classes.len(), facet.dim);
                let present = classes.iter().enumerate().map(|(i, &class)| {
                    let row = around(rng, &centroids[class], facet.noise);
                    let present = rng.chance(facet.present);
                    if present {
                        matrix.row_mut(i).copy_from_slice(&row);
                    }
                    present
                });
                let present = present.collect();
                (matrix, present)
            })
            .unzip()
    }
}

/// The fifth of the items that each of `values` is in, from 0 (least) to 4; equal values are split by position.
pub fn quintiles(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut tiers = vec![0; values.len()];
    for (rank, &i) in order.iter().enumerate() {
        tiers[i] = rank * 5 / values.len();
    }
    tiers
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::kernels::dot;

    fn world() -> FacetWorld {
        let facet = VectorFacet { classes: 5, dim: 32, noise: 1.0, present: 1.0 };
        FacetWorld::new(FacetConfig {
            items: 400,
            vectors: vec![facet, VectorFacet { present: 0.8, ..facet }],
            attributes: vec![4, 3],
            seed: 2,
        })
        .unwrap()
    }

    #[test]
    fn items_of_a_class_are_alike_and_facets_independent() {
        let items = world().items();
        let mean = |same: bool| {
            let (mut sum, mut pairs) = (0.0, 0);
            for i in 0..100 {
                for j in 0..i {
                    if (items.classes[0][i] == items.classes[0][j]) == same {
                        sum += f64::from(dot(items.vectors[0].row(i), items.vectors[0].row(j)));
                        pairs += 1;
                    }
                }
            }
            sum / f64::from(pairs)
        };
        assert!((mean(true) - 0.5).abs() < 0.05, "{}", mean(true));
        assert!(mean(false).abs() < 0.1, "{}", mean(false));
        let both = (0..400).filter(|&i| items.classes[0][i] == items.classes[1][i]).count();
        assert!((60..100).contains(&both), "{both} of 400 at one in five");
        let present = items.present[1].iter().filter(|p| **p).count();
        assert!((290..350).contains(&present), "{present}");
        let missing = items.present[1].iter().position(|p| !p).unwrap();
        assert!(items.vectors[1].row(missing).iter().all(|x| *x == 0.0));
    }

    #[test]
    fn items_seen_anew_keep_their_classes_only() {
        let world = world();
        let items = world.items();
        let (chosen, seen) = world.seen_anew(&items, 50);
        for (at, &i) in chosen.iter().enumerate() {
            assert_eq!(seen.classes[0][at], items.classes[0][i]);
            assert_eq!(seen.attributes[1][at], items.attributes[1][i]);
            assert_ne!(seen.vectors[0].row(at), items.vectors[0].row(i));
        }
        assert_eq!(world.seen_anew(&items, 9_999).0.len(), 400);
        assert_eq!(world.items(), items);
        assert_ne!(world.others(400).classes, items.classes);
    }

    #[test]
    fn fifths_and_bad_sizes() {
        assert_eq!(quintiles(&[9.0, 1.0, 5.0, 3.0, 7.0]), [4, 0, 2, 1, 3]);
        assert!(quintiles(&[]).is_empty());
        let bad = |config: FacetConfig| FacetWorld::new(config).is_err();
        let config = world().config;
        assert!(bad(FacetConfig { items: 0, ..config.clone() }));
        assert!(bad(FacetConfig { attributes: vec![0], ..config.clone() }));
        let facet = VectorFacet { noise: f64::NAN, ..config.vectors[0] };
        assert!(bad(FacetConfig { vectors: vec![facet], ..config }));
    }
}
