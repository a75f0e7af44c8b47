//! Pictures, captions and sounds of the same things: coloured shapes, the words for them, and tones whose pitch follows the
//! shape and whose timbre follows the colour.

use eas_tensor::rng::SplitMix64;

/// Samples a second of the sounds.
pub const SAMPLE_RATE: f64 = 8_000.0;
/// Samples of a sound: a quarter of a second.
pub const SAMPLES: usize = 2_000;

/// Two words for each shape.
const SHAPES: [[&str; 2]; 10] = [
    ["circle", "disc"],
    ["square", "box"],
    ["triangle", "wedge"],
    ["cross", "plus"],
    ["ring", "hoop"],
    ["bar", "stripe"],
    ["diamond", "rhombus"],
    ["frame", "border"],
    ["saltire", "ex"],
    ["dome", "arch"],
];

/// Two words, the 8-bit RGB value, and the amplitudes of the harmonics of each colour.
const COLOURS: [([&str; 2], [f64; 3], [f64; 6]); 10] = [
    (["red", "crimson"], [210.0, 40.0, 40.0], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    (["green", "emerald"], [40.0, 170.0, 60.0], [1.0, 0.0, 0.7, 0.0, 0.5, 0.0]),
    (["blue", "azure"], [40.0, 70.0, 210.0], [1.0, 0.8, 0.6, 0.5, 0.4, 0.3]),
    (["yellow", "golden"], [230.0, 210.0, 40.0], [0.3, 1.0, 0.0, 0.3, 0.0, 0.0]),
    (["purple", "violet"], [140.0, 50.0, 180.0], [0.5, 0.2, 1.0, 0.2, 0.0, 0.0]),
    (["cyan", "turquoise"], [50.0, 200.0, 210.0], [1.0, 0.0, 0.0, 0.0, 0.0, 0.9]),
    (["orange", "amber"], [240.0, 140.0, 30.0], [0.2, 0.1, 0.2, 1.0, 0.0, 0.0]),
    (["pink", "rose"], [240.0, 150.0, 190.0], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
    (["white", "ivory"], [245.0, 245.0, 240.0], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
    (["black", "ebony"], [15.0, 15.0, 15.0], [0.5, 0.0, 0.5, 1.0, 0.5, 0.0]),
];

/// How many shapes and colours there are, and how large the pictures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrimodalWorld {
    /// Shapes, and as many colours: 2 to 10. Concepts are their pairs.
    pub variety: usize,
    /// Pixels on a side of the square pictures, at least 8.
    pub side: usize,
}

/// 36 concepts in pictures of 16 x 16 pixels.
pub const SMALL: TrimodalWorld = TrimodalWorld { variety: 6, side: 16 };
/// 100 concepts in pictures of 64 x 64 pixels.
pub const LARGE: TrimodalWorld = TrimodalWorld { variety: 10, side: 64 };

/// One thing, seen, named and heard.
#[derive(Debug, Clone, PartialEq)]
pub struct TrimodalItem {
    /// Which shape, from 0.
    pub shape: usize,
    /// Which colour, from 0.
    pub colour: usize,
    /// RGB values in `[0, 1]`, row by row, the three values of a pixel together: `side * side * 3`.
    pub image: Vec<f32>,
    /// A caption that names shape and colour.
    pub caption: String,
    /// [`SAMPLES`] samples at [`SAMPLE_RATE`], peak amplitude about 1.
    pub sound: Vec<f32>,
}

impl TrimodalWorld {
    /// The first word for a shape, and for a colour.
    pub fn words(self, shape: usize, colour: usize) -> (&'static str, &'static str) {
        (SHAPES[shape % SHAPES.len()][0], COLOURS[colour % COLOURS.len()].0[0])
    }

    /// Number of concepts: pairs of shape and colour.
    pub fn concepts(self) -> usize {
        self.variety * self.variety
    }

    /// True for one concept of each shape and each colour, to be left out of training.
    pub fn is_held_out(self, shape: usize, colour: usize) -> bool {
        colour == (shape + 3) % self.variety
    }

    /// `per_concept` items of each concept, ordered by shape, then colour. Item `i` of a concept depends on the seed, the concept
    /// and `i` only. A variety outside 2 to 10 is brought into that range, a side below 8 raised to 8.
    ///
    /// Pictures: one shape at a random place and size on a grey background of level 90 to 150, with noise of standard deviation
    /// 8 levels. Captions: five sentences, two words for each shape and colour. Sounds: fundamental `220 * 2^(shape / 4)` Hz, off
    /// by up to 0.3 semitones, harmonics by colour, random phases, white noise 10 dB below.
    pub fn items(self, per_concept: usize, seed: u64) -> Vec<TrimodalItem> {
        let variety = self.variety.clamp(2, SHAPES.len());
        let mut items = Vec::with_capacity(variety * variety * per_concept);
        for shape in 0..variety {
            for colour in 0..variety {
                for i in 0..per_concept {
                    let index = ((shape * SHAPES.len() + colour) << 32 | i) as u64;
                    let mut rng = SplitMix64::stream(seed, index);
                    items.push(TrimodalItem {
                        shape,
                        colour,
                        image: self.picture(shape, colour, &mut rng),
                        caption: caption(shape, colour, &mut rng),
                        sound: sound(shape, colour, &mut rng),
                    });
                }
            }
        }
        items
    }

    fn picture(self, shape: usize, colour: usize, rng: &mut SplitMix64) -> Vec<f32> {
        let side = self.side.max(8) as f64;
        let radius = side * (0.25 + 0.15 * rng.uniform());
        let mut centre = || radius + (side - 2.0 * radius) * rng.uniform();
        let (cx, cy) = (centre(), centre());
        let grey = 90.0 + 60.0 * rng.uniform();
        let mut pixels = Vec::with_capacity((side * side) as usize * 3);
        for y in 0..side as usize {
            for x in 0..side as usize {
                // The share of four points of the pixel that lie in the shape.
                let covered = [(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)]
                    .iter()
                    .filter(|(dx, dy)| is_inside(shape, (x as f64 + dx - cx) / radius, (y as f64 + dy - cy) / radius))
                    .count() as f64
                    / 4.0;
                for channel in COLOURS[colour].1 {
                    let level = grey + covered * (channel - grey) + 8.0 * rng.normal();
                    pixels.push((level.clamp(0.0, 255.0) / 255.0) as f32);
                }
            }
        }
        pixels
    }
}

/// Whether a point is in the shape; `u` to the right and `v` down, both from -1 to 1.
pub(super) fn is_inside(shape: usize, u: f64, v: f64) -> bool {
    let radius = u.hypot(v);
    let square = u.abs().max(v.abs());
    match shape {
        0 => radius < 1.0,
        1 => square < 0.85,
        2 => v < 0.8 && v > -1.0 && u.abs() < (v + 1.0) * 0.55,
        3 => square < 1.0 && u.abs().min(v.abs()) < 0.28,
        4 => (0.55..1.0).contains(&radius),
        5 => u.abs() < 1.0 && v.abs() < 0.35,
        6 => u.abs() + v.abs() < 1.0,
        7 => (0.55..0.9).contains(&square),
        8 => square < 0.9 && (u.abs() - v.abs()).abs() < 0.35,
        _ => radius < 1.0 && v < 0.2,
    }
}

fn caption(shape: usize, colour: usize, rng: &mut SplitMix64) -> String {
    let shape = SHAPES[shape][rng.below(2)];
    let colour = COLOURS[colour].0[rng.below(2)];
    match rng.below(5) {
        0 => format!("a {colour} {shape}"),
        1 => format!("a picture of a {colour} {shape}"),
        2 => format!("the {shape} is {colour}"),
        3 => format!("one {shape} painted {colour}"),
        _ => format!("there is a {colour} {shape} on the wall"),
    }
}

fn sound(shape: usize, colour: usize, rng: &mut SplitMix64) -> Vec<f32> {
    let detune = 0.3 * (2.0 * rng.uniform() - 1.0) / 12.0;
    let fundamental = 220.0 * (shape as f64 / 4.0 + detune).exp2();
    let rate = SAMPLE_RATE;
    let mut samples = vec![0.0; SAMPLES];
    for (harmonic, amplitude) in (1..).zip(COLOURS[colour].2) {
        let frequency = fundamental * f64::from(harmonic);
        let phase = std::f64::consts::TAU * rng.uniform();
        if amplitude == 0.0 || frequency >= rate / 2.0 {
            continue;
        }
        for (i, sample) in samples.iter_mut().enumerate() {
            *sample += amplitude * (std::f64::consts::TAU * frequency * i as f64 / rate + phase).sin();
        }
    }
    let power = samples.iter().map(|s| s * s).sum::<f64>() / SAMPLES as f64;
    let noise = (power / 10.0).sqrt();
    for sample in &mut samples {
        *sample += noise * rng.normal();
    }
    let peak = samples.iter().fold(f64::MIN_POSITIVE, |peak, s| s.abs().max(peak));
    samples.iter().map(|s| (s / peak) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_concept_has_its_items_and_the_seed_decides_them() {
        let items = SMALL.items(3, 7);
        assert_eq!(items.len(), SMALL.concepts() * 3);
        assert_eq!(items, SMALL.items(3, 7));
        assert_ne!(items[0], SMALL.items(3, 8)[0]);
        // More items of a concept leave the first ones as they were.
        assert_eq!(SMALL.items(5, 7)[5], items[3]);
        for item in &items {
            assert_eq!((item.image.len(), item.sound.len()), (16 * 16 * 3, SAMPLES));
            assert!(item.image.iter().all(|p| (0.0..=1.0).contains(p)));
            assert!(item.sound.iter().all(|s| s.abs() <= 1.0));
            let said = |words: [&str; 2]| words.iter().any(|word| item.caption.split(' ').any(|w| w == *word));
            assert!(said(SHAPES[item.shape]) && said(COLOURS[item.colour].0), "{}", item.caption);
        }
    }

    #[test]
    fn held_out_concepts_take_one_of_each_shape_and_colour() {
        for world in [SMALL, LARGE] {
            let held: Vec<(usize, usize)> = (0..world.variety)
                .flat_map(|s| (0..world.variety).map(move |c| (s, c)))
                .filter(|&(s, c)| world.is_held_out(s, c))
                .collect();
            assert_eq!(held.len(), world.variety);
            let mut colours: Vec<usize> = held.iter().map(|&(_, c)| c).collect();
            colours.sort_unstable();
            assert_eq!(colours, (0..world.variety).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_centre_of_a_disc_has_its_colour_and_the_corner_is_grey() {
        let world = TrimodalWorld { variety: 3, side: 32 };
        for item in world.items(4, 1) {
            let corner = &item.image[..3];
            assert!(corner.iter().all(|p| (0.2..0.75).contains(p)), "{corner:?}");
            if item.shape == 0 {
                let expected = COLOURS[item.colour].1;
                let near = |pixel: &[f32]| pixel.iter().zip(expected).all(|(p, e)| (p * 255.0 - e as f32).abs() < 40.0);
                let coloured = item.image.chunks(3).filter(|pixel| near(pixel)).count();
                // A disc of radius a quarter to two fifths of the side.
                assert!((150..600).contains(&coloured), "{coloured}");
            }
        }
    }

    #[test]
    fn the_fundamental_follows_the_shape() {
        // A pure tone crosses zero upwards once a period; red is the pure tone.
        for shape in 0..6 {
            let mut rng = SplitMix64::new(5);
            let samples = sound(shape, 0, &mut rng);
            let correlation = |lag: usize| -> f64 {
                (0..SAMPLES - 60).map(|i| f64::from(samples[i]) * f64::from(samples[i + lag])).sum()
            };
            let period = (8..50).max_by(|&a, &b| correlation(a).total_cmp(&correlation(b))).unwrap_or(0);
            let expected = SAMPLE_RATE / (220.0 * (shape as f64 / 4.0).exp2());
            let multiple = (period as f64 / expected).round();
            assert!(
                multiple >= 1.0 && (period as f64 / multiple - expected).abs() < 0.05 * expected + 0.5,
                "shape {shape}: period {period}, expected {expected}"
            );
        }
    }
}
