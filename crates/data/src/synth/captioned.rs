//! Captioned shapes: pictures of one coloured shape and the sentence that says what is seen, in four independent words. Combinations
//! that training never shows tell whether the words were learned, or the sentences.

use eas_tensor::rng::SplitMix64;

use super::trimodal::is_inside;
use crate::DataError;

/// Pixels on a side.
pub const SIDE: usize = 16;
/// Values of a picture: red, green and blue of each pixel.
pub const VALUES: usize = 3 * SIDE * SIDE;
/// Combinations of size, colour, shape and place.
pub const LOOKS: usize = SIZES.len() * COLOURS.len() * SHAPES.len() * PLACES.len();

/// Word and radius in pixels.
const SIZES: [(&str, f64); 2] = [("small", 3.0), ("large", 5.0)];
const COLOURS: [(&str, [f64; 3]); 5] = [
    ("red", [0.9, 0.1, 0.1]),
    ("green", [0.1, 0.75, 0.15]),
    ("blue", [0.1, 0.2, 0.9]),
    ("yellow", [0.9, 0.85, 0.1]),
    ("purple", [0.6, 0.1, 0.7]),
];
const SHAPES: [&str; 4] = ["circle", "square", "triangle", "cross"];
/// Words and centre.
const PLACES: [(&str, [f64; 2]); 5] = [
    ("northwest", [5.0, 5.0]),
    ("southwest", [5.0, 11.0]),
    ("northeast", [11.0, 5.0]),
    ("southeast", [11.0, 11.0]),
    ("centre", [8.0, 8.0]),
];
/// Standard deviation of the noise of a pixel.
const NOISE: f64 = 0.05;

/// What a picture shows: the number of each attribute's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Look {
    /// Of 2.
    pub size: usize,
    /// Of 5.
    pub colour: usize,
    /// Of 4.
    pub shape: usize,
    /// Of 5.
    pub place: usize,
}

impl Look {
    /// Combination `number` of the 200, in the order size, colour, shape, place; an error beyond.
    pub fn new(number: usize) -> Result<Self, DataError> {
        if number >= LOOKS {
            return Err(DataError::Argument { what: "look", given: number.to_string(), expected: "below 200" });
        }
        let (place, rest) = (number % PLACES.len(), number / PLACES.len());
        let (shape, rest) = (rest % SHAPES.len(), rest / SHAPES.len());
        Ok(Self { size: rest / COLOURS.len(), colour: rest % COLOURS.len(), shape, place })
    }

    /// All of them, in order.
    pub fn all() -> Vec<Self> {
        (0..LOOKS).filter_map(|number| Self::new(number).ok()).collect()
    }

    /// 160 combinations to train on and 40 to leave out, by chance; both in order.
    pub fn split(seed: u64) -> (Vec<Self>, Vec<Self>) {
        let out = SplitMix64::stream(seed, u64::MAX).sample_indices(LOOKS, LOOKS / 5);
        let (left_out, kept): (Vec<_>, Vec<_>) =
            Self::all().into_iter().enumerate().partition(|(number, _)| out.contains(number));
        let looks = |side: Vec<(usize, Self)>| side.into_iter().map(|(_, look)| look).collect();
        (looks(kept), looks(left_out))
    }

    /// `a {size} {colour} {shape} {place}`; an attribute out of range is taken modulo its values.
    ///
    /// ```
    /// use eas_data::synth::captioned::Look;
    ///
    /// assert_eq!(Look::new(0)?.caption(), "a small red circle northwest");
    /// # Ok::<(), eas_data::DataError>(())
    /// ```
    pub fn caption(self) -> String {
        let (size, colour) = (SIZES[self.size % SIZES.len()].0, COLOURS[self.colour % COLOURS.len()].0);
        let (shape, place) = (SHAPES[self.shape % SHAPES.len()], PLACES[self.place % PLACES.len()].0);
        format!("a {size} {colour} {shape} {place}")
    }

    /// Picture `number` of it: [`VALUES`] values about 0 to 1, row by row, red, green and blue of a pixel together. On grey of 0.5; the
    /// radius is 0.9 times the size's, off by up to 10 %, the centre off by up to 0.7 pixels along each axis.
    pub fn picture(self, number: u32, seed: u64) -> Vec<f32> {
        let index = [self.size, self.colour, self.shape, self.place].iter().fold(0, |sum, &x| 8 * sum + x as u64);
        let mut rng = SplitMix64::stream(seed, index << 32 | u64::from(number));
        let mut within = |bound: f64| bound * (2.0 * rng.uniform() - 1.0);
        let radius = 0.9 * SIZES[self.size % SIZES.len()].1 * (1.0 + within(0.1));
        let centre = PLACES[self.place % PLACES.len()].1.map(|x| x + within(0.7));
        let colour = COLOURS[self.colour % COLOURS.len()].1;
        let mut values = Vec::with_capacity(VALUES);
        for pixel in 0..SIDE * SIDE {
            // The share of four points of the pixel that lie in the shape.
            let covered = [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)].iter().filter(|(dx, dy)| {
                let (x, y) = ((pixel % SIDE) as f64 + dx, (pixel / SIDE) as f64 + dy);
                is_inside(self.shape % SHAPES.len(), (x - centre[0]) / radius, (y - centre[1]) / radius)
            });
            let covered = covered.count() as f64 / 4.0;
            values.extend(colour.map(|c| (0.5 + covered * (c - 0.5) + NOISE * rng.normal()) as f32));
        }
        values
    }
}

/// A picture's values as bytes, for a chart.
pub fn bytes(picture: &[f32]) -> Vec<u8> {
    picture.iter().map(|x| (255.0 * x.clamp(0.0, 1.0)).round() as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn combinations_are_numbered_and_one_of_five_is_left_out() {
        let looks = Look::all();
        assert_eq!(looks.len(), 200);
        assert_eq!(looks.iter().collect::<BTreeSet<_>>().len(), 200);
        assert_eq!(looks.iter().map(|look| look.caption()).collect::<BTreeSet<_>>().len(), 200);
        assert!(Look::new(200).is_err());
        let (seen, unseen) = Look::split(5);
        assert_eq!((seen.len(), unseen.len()), (160, 40));
        assert_eq!(seen.iter().chain(&unseen).collect::<BTreeSet<_>>().len(), 200);
        assert_eq!((seen, unseen.clone()), Look::split(5));
        assert_ne!(unseen, Look::split(6).1);
    }

    #[test]
    fn the_shape_is_where_the_caption_says_and_as_large() {
        let mean = |picture: &[f32], channel: usize| -> f64 {
            (0..SIDE * SIDE).map(|i| f64::from(picture[3 * i + channel])).sum::<f64>() / (SIDE * SIDE) as f64
        };
        for look in Look::all() {
            let picture = look.picture(3, 1);
            assert_eq!(picture.len(), VALUES);
            // Its ink, the mean distance from the grey, weighs the pixels.
            let ink = |i: usize| {
                let far = (0..3).map(|c| f64::from(picture[3 * i + c] - 0.5).abs()).sum::<f64>();
                if far > 0.5 { far } else { 0.0 }
            };
            let total: f64 = (0..SIDE * SIDE).map(ink).sum();
            let x = (0..SIDE * SIDE).map(|i| ink(i) * ((i % SIDE) as f64 + 0.5)).sum::<f64>() / total;
            let y = (0..SIDE * SIDE).map(|i| ink(i) * ((i / SIDE) as f64 + 0.5)).sum::<f64>() / total;
            let [cx, cy] = PLACES[look.place].1;
            // A triangle's centre of mass lies below its middle.
            assert!((x - cx).abs() < 1.3 && (y - cy).abs() < 2.3, "{look:?} {x} {y}");
        }
        let look = Look { size: 0, colour: 0, shape: 1, place: 4 };
        let larger = Look { size: 1, ..look };
        assert!(mean(&larger.picture(0, 1), 0) > mean(&look.picture(0, 1), 0) + 0.05);
        assert!(mean(&larger.picture(0, 1), 2) < 0.45);
    }

    #[test]
    fn seed_and_number_decide_a_picture() {
        let look = Look::new(77).unwrap();
        assert_eq!(look.picture(2, 5), look.picture(2, 5));
        assert_ne!(look.picture(2, 5), look.picture(3, 5));
        assert_ne!(look.picture(2, 5), look.picture(2, 6));
        assert_eq!(bytes(&[-0.1, 0.5, 1.2]), [0, 128, 255]);
        let odd = Look { size: 9, colour: 9, shape: 9, place: 9 };
        assert!(odd.picture(0, 1).iter().all(|x| x.is_finite()) && !odd.caption().is_empty());
    }
}
