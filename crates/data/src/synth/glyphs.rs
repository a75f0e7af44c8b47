//! Glyphs: classes of hand-drawn-like signs of three strokes, of which there can be as many as wanted. Each class has few pictures, as in
//! Omniglot (Lake, Salakhutdinov and Tenenbaum 2015), so that what is learned can be tested on classes never seen.

use std::ops::Range;

use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Pixels on a side.
pub const SIDE: usize = 16;
/// Pixels of a picture.
pub const PIXELS: usize = SIDE * SIDE;
/// Strokes of a glyph, each a quadratic Bezier curve.
const STROKES: usize = 3;
/// Points drawn on a stroke.
const POINTS: usize = 14;
/// Control points are uniform in a square of twice this side; the picture shows the square from -1 to 1.
const EXTENT: f64 = 0.8;
/// Standard deviation of a control point between two pictures of one class.
const JITTER: f64 = 0.06;
/// Largest rotation, in degrees.
const ROTATION: f64 = 20.0;
/// Largest change of scale.
const SCALE: f64 = 0.15;
/// Largest shift along each axis.
const SHIFT: f64 = 0.12;
/// Standard deviation of the pen's intensity across a stroke, in pixels.
const PEN: f64 = 0.7;
/// Standard deviation of the noise of a pixel.
const NOISE: f64 = 0.05;

type Stroke = [[f64; 2]; 3];

/// An endless set of classes, numbered from 0, with endless pictures of each, numbered from 0.
///
/// Class `c` of seed `s` is the same whatever else is drawn, and so is its picture `i`.
///
/// ```
/// use eas_data::synth::glyphs::{Glyphs, PIXELS};
///
/// let glyphs = Glyphs::new(6);
/// let (pictures, classes) = glyphs.pictures(10..12, 0..3);
/// assert_eq!((pictures.rows(), pictures.dim(), classes), (6, PIXELS, vec![10, 10, 10, 11, 11, 11]));
/// assert_eq!(pictures.row(4), glyphs.picture(11, 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glyphs {
    seed: u64,
}

impl Glyphs {
    /// The classes of a seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Pictures `numbers` of each of the classes, class by class: a row of [`PIXELS`] values each, about 0 for paper and 1 for ink, and
    /// the class of each row.
    pub fn pictures(&self, classes: Range<u32>, numbers: Range<u32>) -> (Matrix, Vec<u32>) {
        let mut labels = Vec::with_capacity(classes.len() * numbers.len());
        let mut pictures = Matrix::zeros(classes.len() * numbers.len(), PIXELS);
        for class in classes {
            for number in numbers.clone() {
                pictures.row_mut(labels.len()).copy_from_slice(&self.picture(class, number));
                labels.push(class);
            }
        }
        (pictures, labels)
    }

    /// Picture `number` of a class: the class's strokes with every control point moved, then turned, scaled and shifted as a whole.
    pub fn picture(&self, class: u32, number: u32) -> Vec<f32> {
        // Stream 0 of a class draws its strokes.
        let mut rng = SplitMix64::stream(self.class_seed(class), 1 + u64::from(number));
        let mut strokes = self.strokes(class);
        for coordinate in strokes.iter_mut().flatten().flatten() {
            *coordinate += JITTER * rng.normal();
        }
        let mut within = |bound: f64| bound * (2.0 * rng.uniform() - 1.0);
        let (sin, cos) = within(ROTATION).to_radians().sin_cos();
        let scale = 1.0 + within(SCALE);
        let shift = [within(SHIFT), within(SHIFT)];
        for point in strokes.iter_mut().flatten() {
            let [x, y] = *point;
            *point = [scale * (cos * x - sin * y) + shift[0], scale * (sin * x + cos * y) + shift[1]];
        }
        let ink = draw(&strokes);
        ink.into_iter().map(|x| (x + NOISE * rng.normal()) as f32).collect()
    }

    /// The control points that the class is made of.
    fn strokes(self, class: u32) -> [Stroke; STROKES] {
        let mut rng = SplitMix64::stream(self.class_seed(class), 0);
        let mut strokes = [Stroke::default(); STROKES];
        for coordinate in strokes.iter_mut().flatten().flatten() {
            *coordinate = EXTENT * (2.0 * rng.uniform() - 1.0);
        }
        strokes
    }

    fn class_seed(self, class: u32) -> u64 {
        SplitMix64::stream(self.seed, u64::from(class)).next_u64()
    }
}

/// The picture moved by whole pixels, `right` and `down`; what comes in from outside is paper. A picture of another length than
/// [`PIXELS`] gives no value for the pixels it lacks.
pub fn shifted(picture: &[f32], right: isize, down: isize) -> Vec<f32> {
    let from = |to: usize, by: isize| to.checked_add_signed(-by).filter(|&at| at < SIDE);
    let pixel = |at: usize| {
        let (row, column) = (from(at / SIDE, down)?, from(at % SIDE, right)?);
        picture.get(row * SIDE + column).copied()
    };
    (0..PIXELS).map(|at| pixel(at).unwrap_or(0.0)).collect()
}

/// The intensity of each pixel: a normal curve of its distance to the nearest point of a stroke, 1 on the point.
fn draw(strokes: &[Stroke]) -> Vec<f64> {
    let to_pixels = |x: f64| f64::midpoint(x, 1.0) * (SIDE - 1) as f64;
    let points: Vec<[f64; 2]> = strokes
        .iter()
        .flat_map(|stroke| (0..POINTS).map(move |i| bezier(stroke, i as f64 / (POINTS - 1) as f64).map(to_pixels)))
        .collect();
    let pixel = |at: usize| {
        let (x, y) = ((at % SIDE) as f64, (at / SIDE) as f64);
        let nearest = points.iter().map(|p| (p[0] - x).powi(2) + (p[1] - y).powi(2)).fold(f64::INFINITY, f64::min);
        (-nearest / (2.0 * PEN * PEN)).exp()
    };
    (0..PIXELS).map(pixel).collect()
}

/// The point of the curve at `t` in [0, 1].
fn bezier(control: &Stroke, t: f64) -> [f64; 2] {
    let weights = [(1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t];
    [0, 1].map(|axis| (0..3).map(|i| weights[i] * control[i][axis]).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::kernels::{cosine, squared_l2};

    #[test]
    fn a_straight_stroke_is_drawn_where_it_is() {
        let across: Stroke = [[-1.0, 1.0 / 15.0], [0.0, 1.0 / 15.0], [1.0, 1.0 / 15.0]];
        let ink = draw(&[across]);
        let sum_of_row = |row: usize| ink[row * SIDE..(row + 1) * SIDE].iter().sum::<f64>();
        // y = 1/15 is row 8; one row away the intensity is exp(-1 / 0.98) of it.
        assert!((0..SIDE).all(|row| row == 8 || sum_of_row(row) < sum_of_row(8)));
        assert!((ink[8 * SIDE] - 1.0).abs() < 1e-12);
        assert!((ink[9 * SIDE] - (-1.0f64 / 0.98).exp()).abs() < 1e-12);
        assert_eq!(bezier(&[[0.0, 0.0], [1.0, 2.0], [2.0, 0.0]], 0.5), [1.0, 1.0]);
    }

    #[test]
    fn a_seed_and_two_numbers_decide_a_picture() {
        let glyphs = Glyphs::new(3);
        let (few, labels) = glyphs.pictures(5..7, 0..2);
        let (many, _) = glyphs.pictures(0..9, 0..4);
        assert_eq!(labels, [5, 5, 6, 6]);
        assert_eq!(few.row(3), many.row(6 * 4 + 1));
        assert_ne!(few.row(2), few.row(3));
        assert_ne!(glyphs.picture(5, 0), Glyphs::new(4).picture(5, 0));
        assert_eq!(glyphs.pictures(3..3, 0..5).0.rows(), 0);
        assert!(few.check_finite().is_ok());
    }

    #[test]
    fn pictures_of_a_class_are_alike_but_not_so_much_that_nothing_is_left_to_learn() {
        let (pictures, labels) = Glyphs::new(1).pictures(0..60, 0..4);
        let (mut same, mut different) = (Vec::new(), Vec::new());
        for i in 0..pictures.rows() {
            for j in 0..i {
                let side = if labels[i] == labels[j] { &mut same } else { &mut different };
                side.push(f64::from(cosine(pictures.row(i), pictures.row(j))));
            }
        }
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        assert!(mean(&same) > mean(&different) + 0.15, "{} {}", mean(&same), mean(&different));
        let nearest = |i: usize| {
            (0..240).filter(|&j| j != i).min_by(|&x, &y| {
                let to = |j: usize| squared_l2(pictures.row(i), pictures.row(j));
                to(x).total_cmp(&to(y))
            })
        };
        let right = (0..240).filter(|&i| nearest(i).is_some_and(|j| labels[i] == labels[j])).count();
        assert!((100..220).contains(&right), "{right} of 240");
    }

    #[test]
    fn shifts_move_pixels_and_lose_those_at_the_edge() {
        let picture: Vec<f32> = (0..PIXELS).map(|i| i as f32 + 1.0).collect();
        assert_eq!(shifted(&picture, 0, 0), picture);
        let moved = shifted(&picture, 1, -1);
        assert_eq!((moved[1], moved[0], moved[PIXELS - 1]), (picture[SIDE], 0.0, 0.0));
        assert_eq!(shifted(&shifted(&picture, 2, 0), -2, 0)[..14], picture[..14]);
        assert!(shifted(&picture, 16, 0).iter().chain(&shifted(&picture, 0, isize::MIN + 1)).all(|&x| x == 0.0));
        assert!(shifted(&[], 0, 0).iter().all(|&x| x == 0.0));
    }
}
