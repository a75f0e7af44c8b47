//! Enrolled glyph classes, and queries of them and of others, with what two stages of verification can know of each.

use std::ops::Range;

use anyhow::Result;
use eas_data::synth::glyphs::{Glyphs, shifted};
use eas_nn::encoders::Encoder;
use eas_tensor::Matrix;
use eas_tensor::kernels::dot;

use crate::digit_net::tensor;

/// Enrolled classes; an encoder should be trained on lower ones.
pub const ENROLLED: Range<u32> = 120..170;
/// Classes that nobody enrolled.
pub const IMPOSTORS: Range<u32> = 170..200;
/// Pictures enrolled of each class; the first stage compares with the first one alone.
pub const TEMPLATES: usize = 5;
/// A picture and its eight neighbours by one pixel.
pub const SHIFTS: usize = 9;

/// One query.
#[derive(Debug, Clone)]
pub struct Query {
    /// Its class; `None` when it isn't enrolled.
    pub class: Option<u32>,
    /// For the first stage, a unit vector.
    pub embedding: Vec<f32>,
    /// The cosine with the first template of each enrolled class.
    pub first: Vec<f64>,
    /// The score of the second stage with each: the cosine of the best shift, averaged over the templates.
    pub second: Vec<f64>,
}

/// 20 queries of each enrolled class and 32 of each other.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The first template of each enrolled class.
    pub templates: Matrix,
    /// First those of enrolled classes.
    pub queries: Vec<Query>,
}

impl Enrolment {
    /// Embeds all pictures, and compares every query with every class.
    pub fn new(glyphs: &Glyphs, encoder: &impl Encoder) -> Result<Self> {
        let templates = encoder.encode(&tensor(&glyphs.pictures(ENROLLED, 0..TEMPLATES as u32).0)?)?;
        let (mut pictures, mut classes) = glyphs.pictures(ENROLLED, 5..25);
        let (impostors, of_impostors) = glyphs.pictures(IMPOSTORS, 0..32);
        pictures.append(&impostors)?;
        classes.extend(of_impostors);
        let views: Vec<Vec<f32>> = pictures
            .iter_rows()
            .flat_map(|row| (0..SHIFTS as isize).map(|i| shifted(row, i % 3 - 1, i / 3 - 1)))
            .collect();
        let views = encoder.encode(&tensor(&Matrix::from_rows(&views)?)?)?;
        let query = |(number, class): (usize, &u32)| {
            // The view in the middle is the picture itself.
            let embedding = views.row(number * SHIFTS + SHIFTS / 2).to_vec();
            let best_shift = |template: usize| {
                let shifts =
                    (number * SHIFTS..(number + 1) * SHIFTS).map(|i| dot(views.row(i), templates.row(template)));
                f64::from(shifts.fold(f32::NEG_INFINITY, f32::max))
            };
            let first = |c: usize| f64::from(dot(&embedding, templates.row(c * TEMPLATES)));
            let second =
                |c: usize| (0..TEMPLATES).map(|t| best_shift(c * TEMPLATES + t)).sum::<f64>() / TEMPLATES as f64;
            Query {
                class: ENROLLED.contains(class).then_some(*class),
                first: (0..ENROLLED.len()).map(first).collect(),
                second: (0..ENROLLED.len()).map(second).collect(),
                embedding,
            }
        };
        let queries = classes.iter().enumerate().map(query).collect();
        let firsts: Vec<usize> = (0..ENROLLED.len()).map(|class| class * TEMPLATES).collect();
        Ok(Self { templates: templates.select(&firsts), queries })
    }
}

/// The class with the largest of one score a class, and the score; ties go to the lower class.
pub fn top(scores: &[f64]) -> (u32, f64) {
    let best = (0..scores.len()).min_by(|&x, &y| scores[y].total_cmp(&scores[x]));
    best.map_or((ENROLLED.start, f64::NEG_INFINITY), |class| (ENROLLED.start + class as u32, scores[class]))
}

/// Share right among the `count` of the highest scores; the count that is there when it is fewer.
pub fn surest(mut judged: Vec<(f64, bool)>, count: usize) -> f64 {
    judged.sort_by(|a, b| b.0.total_cmp(&a.0));
    judged.truncate(count);
    judged.iter().filter(|(_, right)| *right).count() as f64 / judged.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surest_are_those_of_the_highest_scores() {
        let judged = vec![(0.2, true), (0.9, false), (0.7, true), (0.1, false)];
        assert_eq!([1, 2, 3, 9].map(|count| surest(judged.clone(), count)), [0.0, 0.5, 2.0 / 3.0, 0.5]);
        assert_eq!(surest(Vec::new(), 3), 0.0);
    }
}
