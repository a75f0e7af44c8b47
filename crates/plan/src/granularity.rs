//! How fine the distinctions are that embeddings must keep, and what that asks for.

use eas_tensor::capacity::minimal_dimension;

use crate::PlanError;
use crate::error::non_negative;

/// How fine distinctions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Granularity {
    /// Sport or politics.
    Coarse,
    /// Running shoes or hiking boots.
    Medium,
    /// One legal argument or another.
    Fine,
    /// One molecule or its mirror image.
    UltraFine,
}

impl Granularity {
    /// From coarse to ultra-fine.
    pub const ALL: [Self; 4] = [Self::Coarse, Self::Medium, Self::Fine, Self::UltraFine];

    /// The dimensions that the book names, from and to; ultra-fine has no upper end but is named up to 1,024.
    pub fn dims(self) -> (usize, usize) {
        match self {
            Self::Coarse => (128, 256),
            Self::Medium => (256, 512),
            Self::Fine => (512, 768),
            Self::UltraFine => (768, 1_024),
        }
    }

    /// The training examples that the book names, from and to; `None` is open.
    pub fn examples(self) -> (u64, Option<u64>) {
        match self {
            Self::Coarse => (10_000, Some(100_000)),
            Self::Medium => (100_000, Some(1_000_000)),
            Self::Fine => (1_000_000, Some(10_000_000)),
            Self::UltraFine => (10_000_000, None),
        }
    }

    /// What is told apart.
    pub fn example(self) -> &'static str {
        match self {
            Self::Coarse => "news topics",
            Self::Medium => "product types",
            Self::Fine => "legal distinctions",
            Self::UltraFine => "molecules",
        }
    }
}

/// What [`recommend`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recommendation {
    /// Dimensions in which 95% of the points are nearest to their own category.
    pub dim: usize,
    /// The coarsest granularity whose dimensions are enough.
    pub granularity: Granularity,
}

/// The dimensions that `categories` random directions need under `noise` (the length of an item's own part where its category's is
/// 1), by [`minimal_dimension`] at 95%, and the granularity they belong to. Categories that resemble each other need more.
///
/// # Errors
/// No categories, a negative `noise`, or one so large that no dimension is enough.
pub fn recommend(categories: usize, noise: f64) -> Result<Recommendation, PlanError> {
    non_negative("noise", noise)?;
    let dim = minimal_dimension(categories, noise, 0.95).map_err(|error| PlanError::NoSolution(error.to_string()))?;
    let enough = |granularity: &Granularity| granularity.dims().1 >= dim;
    let granularity = Granularity::ALL.into_iter().find(enough).unwrap_or(Granularity::UltraFine);
    Ok(Recommendation { dim, granularity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_asks_for_more_than_a_thousand_times_as_many_categories() {
        let of = |categories, noise| recommend(categories, noise).unwrap();
        assert_eq!(of(10, 2.0), Recommendation { dim: 54, granularity: Granularity::Coarse });
        assert_eq!(of(10_000, 2.0), Recommendation { dim: 147, granularity: Granularity::Coarse });
        assert!(of(10, 4.0).dim > of(10_000, 2.0).dim);
        assert_eq!(of(10_000, 8.0).granularity, Granularity::UltraFine);
        assert!(recommend(0, 2.0).is_err());
        assert!(recommend(10, f64::NAN).is_err());
        assert!(recommend(10, 1e9).is_err());
    }
}
