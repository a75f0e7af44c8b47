//! Small pictures with a planted shape and a planted style, and the edits that a copy of a picture goes through.

use crate::DataError;
use eas_tensor::image::{Image, Plane};
use eas_tensor::rng::SplitMix64;
use std::f64::consts::TAU;

/// Pixels on each side of a generated picture.
pub const SIDE: usize = 64;

/// Names of the planted shapes.
pub const SHAPES: [&str; 5] = ["circle", "square", "triangle", "cross", "ring"];

/// Names of the planted styles: each is a texture with a palette of its own.
pub const STYLES: [&str; 5] = ["fine stripes", "wide stripes", "plaid", "checker", "grain"];

/// Dark background and bright shape of each style, as red, green and blue.
const PALETTES: [[[f64; 3]; 2]; 5] = [
    [[92.0, 48.0, 30.0], [236.0, 172.0, 92.0]],
    [[28.0, 62.0, 104.0], [128.0, 196.0, 232.0]],
    [[36.0, 82.0, 48.0], [180.0, 214.0, 128.0]],
    [[78.0, 40.0, 96.0], [214.0, 160.0, 226.0]],
    [[66.0, 66.0, 66.0], [204.0, 200.0, 190.0]],
];

/// A generated picture and what was planted in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The pixels, [`SIDE`] by [`SIDE`].
    pub image: Image,
    /// Position in [`SHAPES`].
    pub shape: usize,
    /// Position in [`STYLES`].
    pub style: usize,
}

/// `each` pictures of every shape in every style (25 combinations), combination by combination. Position, size, turn,
/// texture phase and tint vary from picture to picture.
pub fn pictures(each: usize, seed: u64) -> Result<Vec<Picture>, DataError> {
    if each == 0 {
        return Err(DataError::Argument {
            what: "pictures of each combination",
            given: "0".into(),
            expected: "at least 1",
        });
    }
    let mut all = Vec::with_capacity(25 * each);
    for shape in 0..SHAPES.len() {
        for style in 0..STYLES.len() {
            for _ in 0..each {
                let mut rng = SplitMix64::stream(seed, all.len() as u64);
                all.push(Picture { image: draw(shape, style, &mut rng)?, shape, style });
            }
        }
    }
    Ok(all)
}

fn draw(shape: usize, style: usize, rng: &mut SplitMix64) -> Result<Image, DataError> {
    let mut between = |low: f64, high: f64| low + (high - low) * rng.uniform();
    let middle = SIDE as f64 / 2.0;
    let centre = [middle + between(-6.0, 6.0), middle + between(-6.0, 6.0)];
    let radius = between(13.0, 19.0);
    let turn = between(-0.15, 0.15);
    let phases = [between(0.0, TAU), between(0.0, TAU)];
    let tint: Vec<f64> = (0..6).map(|_| between(-14.0, 14.0)).collect();
    let contrast = between(26.0, 38.0);
    let grain: Vec<f64> = (0..SIDE * SIDE).map(|_| rng.normal()).collect();

    let colour = |channel: usize, x: usize, y: usize| {
        let (px, py) = (x as f64 - centre[0], y as f64 - centre[1]);
        let (u, v) = (px * turn.cos() + py * turn.sin(), py * turn.cos() - px * turn.sin());
        // A soft edge one pixel wide.
        let inside = (0.5 - signed_distance(shape, u, v, radius)).clamp(0.0, 1.0);
        let [dark, bright] = PALETTES[style];
        let ground = dark[channel] + tint[channel];
        let figure = bright[channel] + tint[3 + channel];
        let texture = match style {
            4 => 0.8 * grain[y * SIDE + x],
            _ => pattern(style, x as f64, y as f64, phases),
        };
        ground + inside * (figure - ground) + contrast * texture
    };
    let plane = |channel: usize| Plane::from_fn(SIDE, SIDE, |x, y| colour(channel, x, y));
    picture([plane(0), plane(1), plane(2)])
}

/// Distance to the outline of a shape of the given radius around the origin, negative inside.
fn signed_distance(shape: usize, x: f64, y: f64, radius: f64) -> f64 {
    let bar = |along: f64, across: f64| (along.abs() - radius).max(across.abs() - radius / 3.0);
    match shape {
        0 => x.hypot(y) - radius,
        1 => x.abs().max(y.abs()) - 0.9 * radius,
        // Three half-planes around a point a little below the middle.
        2 => {
            let y = y - 0.2 * radius;
            let slope = 0.866 * x.abs() - 0.5 * y;
            slope.max(y) - 0.6 * radius
        }
        3 => bar(x, y).min(bar(y, x)),
        _ => (x.hypot(y) - 0.75 * radius).abs() - 0.25 * radius,
    }
}

/// Texture of a style at a pixel, within -1 and 1.
fn pattern(style: usize, x: f64, y: f64, phases: [f64; 2]) -> f64 {
    let wave = |along: f64, wavelength: f64, phase: f64| (TAU * along / wavelength + phase).sin();
    let diagonal = std::f64::consts::FRAC_1_SQRT_2;
    match style {
        0 => wave(diagonal * (x + y), 4.0, phases[0]),
        1 => wave(y, 7.0, phases[0]),
        2 => 0.5 * (wave(x, 5.0, phases[0]) + wave(y, 5.0, phases[1])),
        _ => (3.0 * wave(x, 7.0, phases[0]) * wave(y, 7.0, phases[1])).clamp(-1.0, 1.0),
    }
}

/// What happens to a picture between two copies of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edit {
    /// Contrast to 80%, then 25 grey levels brighter.
    Brightness,
    /// The loss of a JPEG of quality about 30: blocks of eight by eight, cosine coefficients rounded.
    Jpeg,
    /// Gaussian noise of standard deviation 8 in every channel.
    Noise,
    /// To 75% of the size.
    Rescale,
    /// One pixel cut off all around.
    Crop,
    /// A translucent white bar across the lower right corner.
    Watermark,
    /// Left and right exchanged.
    Mirror,
}

impl Edit {
    /// All edits.
    pub const ALL: [Self; 7] =
        [Self::Brightness, Self::Jpeg, Self::Noise, Self::Rescale, Self::Crop, Self::Watermark, Self::Mirror];

    /// A name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brightness => "brightness",
            Self::Jpeg => "jpeg",
            Self::Noise => "noise",
            Self::Rescale => "rescale",
            Self::Crop => "crop",
            Self::Watermark => "watermark",
            Self::Mirror => "mirror",
        }
    }

    /// The edited copy; `seed` drives the noise only. An error for a picture too small to be cut.
    pub fn apply(self, image: &Image, seed: u64) -> Result<Image, DataError> {
        let (width, height) = (image.width(), image.height());
        if width < 4 || height < 4 {
            return Err(DataError::Argument {
                what: "picture size",
                given: format!("{width} x {height}"),
                expected: "at least 4 x 4",
            });
        }
        let mut rng = SplitMix64::new(seed);
        let edited = image.channels().map(|plane| match self {
            Self::Brightness => Plane::from_fn(width, height, |x, y| 0.8 * plane.at(x, y) + 25.0),
            Self::Jpeg => Plane::from_fn(width, height, block_quantized(&plane)),
            Self::Noise => Plane::from_fn(width, height, |x, y| plane.at(x, y) + 8.0 * rng.normal()),
            Self::Rescale => plane.resize_box((3 * width).div_ceil(4), (3 * height).div_ceil(4)),
            Self::Crop => Plane::from_fn(width - 2, height - 2, |x, y| plane.at(x + 1, y + 1)),
            Self::Watermark => Plane::from_fn(width, height, |x, y| {
                let marked = 2 * x >= width && 16 * y >= 13 * height && 16 * y < 15 * height;
                let opacity = if marked { 0.35 } else { 0.0 };
                plane.at(x, y) + opacity * (255.0 - plane.at(x, y))
            }),
            Self::Mirror => Plane::from_fn(width, height, |x, y| plane.at(width - 1 - x, y)),
        });
        picture(edited)
    }
}

/// The plane after each block of eight by eight has lost the fine part of its cosine coefficients. The step grows with
/// the frequency, as in the usual tables.
fn block_quantized(plane: &Plane) -> impl FnMut(usize, usize) -> f64 + use<> {
    let (width, height) = (plane.width(), plane.height());
    let mut out = vec![0.0; width * height];
    for top in (0..height).step_by(8) {
        for left in (0..width).step_by(8) {
            let (w, h) = ((width - left).min(8), (height - top).min(8));
            let Ok(block) = Plane::from_fn(w, h, |x, y| plane.at(left + x, top + y)) else {
                continue;
            };
            let cosines = block.dct2();
            let rounded = Plane::from_fn(w, h, |x, y| {
                let step = 12.0 + 6.0 * (x + y) as f64;
                (cosines.at(x, y) / step).round() * step
            });
            let Ok(rounded) = rounded else { continue };
            let back = rounded.inverse_dct2();
            for y in 0..h {
                for x in 0..w {
                    out[(top + y) * width + left + x] = back.at(x, y);
                }
            }
        }
    }
    move |x, y| out[y * width + x]
}

fn picture(planes: [Result<Plane, eas_tensor::TensorError>; 3]) -> Result<Image, DataError> {
    let refused = |error: eas_tensor::TensorError| DataError::Argument {
        what: "picture",
        given: error.to_string(),
        expected: "finite planes of one size",
    };
    let [red, green, blue] = planes;
    let planes = [red.map_err(refused)?, green.map_err(refused)?, blue.map_err(refused)?];
    Image::from_planes(&planes).map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean_difference(a: &Image, b: &Image) -> f64 {
        let gaps = a.rgb().iter().zip(b.rgb()).map(|(x, y)| f64::from(x.abs_diff(*y)));
        gaps.sum::<f64>() / a.rgb().len() as f64
    }

    #[test]
    fn every_combination_occurs_equally_often_and_seeds_decide() {
        let all = pictures(2, 3).unwrap();
        assert_eq!(all.len(), 50);
        for (i, picture) in all.iter().enumerate() {
            assert_eq!((picture.shape, picture.style), (i / 10, i / 2 % 5));
        }
        assert_eq!(all, pictures(2, 3).unwrap());
        assert_ne!(all[0].image, pictures(2, 4).unwrap()[0].image);
        assert_ne!(all[0].image, all[1].image);
        assert!(pictures(0, 1).is_err());
    }

    #[test]
    fn the_figure_is_brighter_than_the_ground() {
        for picture in pictures(1, 5).unwrap() {
            let light = picture.image.luminance().resize_box(8, 8).unwrap();
            let corner = light.at(0, 0).max(light.at(7, 7));
            let brightest = light.values().iter().copied().fold(0.0, f64::max);
            assert!(brightest > corner + 50.0, "{} {}", SHAPES[picture.shape], STYLES[picture.style]);
        }
    }

    #[test]
    fn edits_change_what_they_say() {
        let image = &pictures(1, 5).unwrap()[8].image;
        let edit = |e: Edit| e.apply(image, 1).unwrap();
        assert_eq!((edit(Edit::Crop).width(), edit(Edit::Crop).height()), (62, 62));
        assert_eq!((edit(Edit::Rescale).width(), edit(Edit::Rescale).height()), (48, 48));
        assert_eq!(Edit::Mirror.apply(&edit(Edit::Mirror), 1).unwrap(), *image);
        for (e, low, high) in [
            (Edit::Noise, 4.0, 8.0),
            (Edit::Jpeg, 1.0, 12.0),
            (Edit::Watermark, 0.5, 6.0),
            (Edit::Brightness, 3.0, 26.0),
        ] {
            let difference = mean_difference(&edit(e), image);
            assert!((low..high).contains(&difference), "{}: {difference}", e.name());
        }
        assert_ne!(Edit::Noise.apply(image, 2).unwrap(), edit(Edit::Noise));
        let tiny = Image::new(3, 4, vec![0; 36]).unwrap();
        assert!(Edit::Crop.apply(&tiny, 1).is_err());
        let odd = Image::new(9, 11, vec![100; 297]).unwrap();
        for e in Edit::ALL {
            assert!(e.apply(&odd, 1).is_ok());
        }
    }
}
