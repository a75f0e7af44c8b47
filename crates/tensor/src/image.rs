//! Pictures to features: luminance, resizing, the discrete cosine transform, Gaussian blur, oriented filters and Gram
//! matrices of their responses.

use crate::TensorError;
use std::f64::consts::PI;

/// An 8-bit colour picture, rows from the top, three bytes (red, green, blue) a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Image {
    /// Takes `3 * width * height` bytes; an error for another number or an empty picture.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self, TensorError> {
        not_empty(width, height)?;
        if rgb.len() != 3 * width * height {
            return Err(TensorError::Shape { rows: width * height, dim: 3, got: rgb.len() });
        }
        Ok(Self { width, height, rgb })
    }

    /// Joins three planes of equal shape, rounding to the nearest value in `0..=255`.
    pub fn from_planes(planes: &[Plane; 3]) -> Result<Self, TensorError> {
        let (width, height) = (planes[0].width, planes[0].height);
        if planes.iter().any(|p| p.width != width || p.height != height) {
            return Err(TensorError::argument("planes", &"of different shape", "of one shape"));
        }
        let byte = |x: f64| x.round().clamp(0.0, 255.0) as u8;
        let rgb = (0..width * height).flat_map(|i| planes.iter().map(move |p| byte(p.values[i])));
        Self::new(width, height, rgb.collect())
    }

    /// Pixels a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, three a pixel.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Red, green and blue as numbers in `0..=255`.
    pub fn channels(&self) -> [Plane; 3] {
        std::array::from_fn(|channel| Plane {
            width: self.width,
            height: self.height,
            values: self.rgb.iter().skip(channel).step_by(3).map(|&x| f64::from(x)).collect(),
        })
    }

    /// Luminance `0.299 R + 0.587 G + 0.114 B` (ITU-R BT.601), in `0..=255`.
    pub fn luminance(&self) -> Plane {
        let weigh = |p: &[u8]| 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]);
        Plane { width: self.width, height: self.height, values: self.rgb.chunks_exact(3).map(weigh).collect() }
    }
}

/// One number a pixel, rows from the top.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    width: usize,
    height: usize,
    values: Vec<f64>,
}

impl Plane {
    /// Takes `width * height` finite values, row by row.
    pub fn new(width: usize, height: usize, values: Vec<f64>) -> Result<Self, TensorError> {
        not_empty(width, height)?;
        if values.len() != width * height {
            return Err(TensorError::Shape { rows: height, dim: width, got: values.len() });
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(TensorError::NotFinite { row: at / width, column: at % width, value: values[at] as f32 });
        }
        Ok(Self { width, height, values })
    }

    /// The plane with value `f(x, y)` at column `x`, row `y`.
    pub fn from_fn(width: usize, height: usize, mut f: impl FnMut(usize, usize) -> f64) -> Result<Self, TensorError> {
        let values = (0..width * height).map(|i| f(i % width, i / width)).collect();
        Self::new(width, height, values)
    }

    /// Pixels a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The value at column `x`, row `y`. Panics outside the plane, as slice indexing does.
    pub fn at(&self, x: usize, y: usize) -> f64 {
        self.values[y * self.width..(y + 1) * self.width][x]
    }

    /// Rows and columns exchanged.
    #[must_use]
    pub fn transpose(&self) -> Self {
        let values = (0..self.width).flat_map(|x| (0..self.height).map(move |y| (x, y)));
        Self { width: self.height, height: self.width, values: values.map(|(x, y)| self.at(x, y)).collect() }
    }

    /// Each output pixel is the mean of the area that it covers, edge pixels counting by the covered part: the right way
    /// to shrink, since every input pixel has its say.
    pub fn resize_box(&self, width: usize, height: usize) -> Result<Self, TensorError> {
        not_empty(width, height)?;
        let cover = |from: usize, to: usize| -> Vec<Vec<(usize, f64)>> {
            let scale = from as f64 / to as f64;
            let span = |i: usize| {
                let (low, high) = (i as f64 * scale, (i + 1) as f64 * scale);
                let pixels = low as usize..(high.ceil() as usize).min(from);
                let share = move |p: usize| ((p + 1) as f64).min(high) - (p as f64).max(low);
                pixels.map(move |p| (p, share(p) / scale)).collect()
            };
            (0..to).map(span).collect()
        };
        Ok(self.resample(&cover(self.width, width), &cover(self.height, height)))
    }

    /// Linear interpolation between the four nearest pixel centres, edges repeated: the usual way to enlarge.
    pub fn resize_bilinear(&self, width: usize, height: usize) -> Result<Self, TensorError> {
        not_empty(width, height)?;
        let between = |from: usize, to: usize| -> Vec<Vec<(usize, f64)>> {
            let last = from - 1;
            let point = |i: usize| {
                let at = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
                let at = at.clamp(0.0, last as f64);
                let (low, part) = (at as usize, at.fract());
                vec![(low, 1.0 - part), ((low + 1).min(last), part)]
            };
            (0..to).map(point).collect()
        };
        Ok(self.resample(&between(self.width, width), &between(self.height, height)))
    }

    /// Weighted sums of columns, then of rows.
    fn resample(&self, columns: &[Vec<(usize, f64)>], rows: &[Vec<(usize, f64)>]) -> Self {
        let narrow = self.values.chunks_exact(self.width);
        let narrow: Vec<Vec<f64>> = narrow
            .map(|row| columns.iter().map(|taps| taps.iter().map(|&(x, w)| w * row[x]).sum()).collect())
            .collect();
        let pixel = |taps: &Vec<(usize, f64)>, x: usize| taps.iter().map(|&(y, w)| w * narrow[y][x]).sum();
        Self {
            width: columns.len(),
            height: rows.len(),
            values: rows
                .iter()
                .flat_map(|taps| (0..columns.len()).map(move |x| (taps, x)))
                .map(|(t, x)| pixel(t, x))
                .collect(),
        }
    }

    /// The orthonormal two-dimensional DCT-II: element `(x, y)` is the amount of horizontal frequency `x` and vertical
    /// frequency `y`; the sum of squares stays the same.
    #[must_use]
    pub fn dct2(&self) -> Self {
        let (c, r) = (dct_basis(self.width), dct_basis(self.height));
        self.resample(&c, &r)
    }

    /// The inverse of [`Plane::dct2`].
    #[must_use]
    pub fn inverse_dct2(&self) -> Self {
        let flip = |basis: Vec<Vec<(usize, f64)>>| -> Vec<Vec<(usize, f64)>> {
            let n = basis.len();
            (0..n).map(|i| (0..n).map(|k| (k, basis[k][i].1)).collect()).collect()
        };
        self.resample(&flip(dct_basis(self.width)), &flip(dct_basis(self.height)))
    }

    /// Gaussian blur of standard deviation `sigma` pixels, cut off at three of them; the picture is mirrored at its
    /// edges.
    pub fn gaussian_blur(&self, sigma: f64) -> Result<Self, TensorError> {
        positive("sigma", sigma)?;
        let radius = (3.0 * sigma + 0.5) as i64;
        let raw: Vec<f64> = (-radius..=radius).map(|d| gaussian(d as f64, sigma)).collect();
        let total: f64 = raw.iter().sum();
        let kernel: Vec<f64> = raw.iter().map(|w| w / total).collect();
        Ok(self.convolve_separable(&kernel, &kernel))
    }

    /// Convolution with `column_kernel(y) * row_kernel(x)`, both of odd length; the picture is mirrored at its edges.
    fn convolve_separable(&self, row_kernel: &[f64], column_kernel: &[f64]) -> Self {
        let taps = |kernel: &[f64], n: usize| -> Vec<Vec<(usize, f64)>> {
            let radius = (kernel.len() / 2) as i64;
            let at = |i: usize| {
                let shifted = kernel.iter().enumerate().map(|(t, &w)| (i as i64 + t as i64 - radius, w));
                shifted.map(|(p, w)| (mirrored(p, n), w)).collect()
            };
            (0..n).map(at).collect()
        };
        self.resample(&taps(row_kernel, self.width), &taps(column_kernel, self.height))
    }

    /// Differences of the neighbours, half a step either side (one-sided at the edges): `(d/dx, d/dy)`.
    pub fn gradient(&self) -> (Self, Self) {
        let differences = |n: usize| -> Vec<Vec<(usize, f64)>> {
            let at = |i: usize| {
                let (low, high) = (i.saturating_sub(1), (i + 1).min(n - 1));
                let weight = if high > low { 1.0 / (high - low) as f64 } else { 0.0 };
                vec![(low, -weight), (high, weight)]
            };
            (0..n).map(at).collect()
        };
        let same = |n: usize| -> Vec<Vec<(usize, f64)>> { (0..n).map(|i| vec![(i, 1.0)]).collect() };
        (
            self.resample(&differences(self.width), &same(self.height)),
            self.resample(&same(self.width), &differences(self.height)),
        )
    }
}

/// A cosine wave under a round Gaussian window, less its mean (the even Gabor filter): answers to bars of one width in one
/// direction, and not to brightness.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gabor {
    /// Pixels from bar to bar.
    pub wavelength: f64,
    /// Direction in which the wave travels, radians from the x axis.
    pub angle: f64,
}

impl Gabor {
    /// The filters of all `wavelengths` in `angles` directions spread evenly over half a turn, wavelength by wavelength.
    pub fn bank(wavelengths: &[f64], angles: usize) -> Vec<Self> {
        let filter = |wavelength: f64, i: usize| Self { wavelength, angle: PI * i as f64 / angles as f64 };
        wavelengths.iter().flat_map(|&w| (0..angles).map(move |i| filter(w, i))).collect()
    }

    /// The response at every pixel, in the units of the plane: amplitude 1 for the matching wave of amplitude 1. The
    /// window has a standard deviation of half a wavelength.
    pub fn respond(&self, plane: &Plane) -> Result<Plane, TensorError> {
        positive("wavelength", self.wavelength)?;
        let sigma = self.wavelength / 2.0;
        let radius = (3.0 * sigma).ceil() as i64;
        let frequency = 2.0 * PI / self.wavelength;
        let (fx, fy) = (frequency * self.angle.cos(), frequency * self.angle.sin());
        let kernel = |f: &dyn Fn(f64) -> f64| -> Vec<f64> {
            (-radius..=radius).map(|d| gaussian(d as f64, sigma) * f(d as f64)).collect()
        };
        // cos(fx x + fy y) = cos cos - sin sin, so two separable passes make the two-dimensional filter; a third takes
        // away the mean.
        let (cos_x, cos_y) = (kernel(&|d| (fx * d).cos()), kernel(&|d| (fy * d).cos()));
        let (sin_x, sin_y) = (kernel(&|d| (fx * d).sin()), kernel(&|d| (fy * d).sin()));
        let flat = kernel(&|_| 1.0);
        let sum = |k: &[f64]| k.iter().sum::<f64>();
        let window = sum(&flat) * sum(&flat);
        // The sine parts are odd and sum to zero.
        let mean = sum(&cos_x) * sum(&cos_y) / window;
        let parts = [
            plane.convolve_separable(&cos_x, &cos_y),
            plane.convolve_separable(&sin_x, &sin_y),
            plane.convolve_separable(&flat, &flat),
        ];
        let scale = 2.0 / window;
        let values = (0..plane.values.len())
            .map(|i| scale * (parts[0].values[i] - parts[1].values[i] - mean * parts[2].values[i]));
        Plane::new(plane.width, plane.height, values.collect())
    }
}

/// Mean over the pixels of the product of each pair of planes `i <= j`, row by row of the upper triangle: what appears
/// together, without where (Gatys et al. 2015). `n (n + 1) / 2` numbers.
pub fn gram(planes: &[Plane]) -> Result<Vec<f64>, TensorError> {
    let Some(first) = planes.first() else {
        return Ok(Vec::new());
    };
    if let Some(other) = planes.iter().find(|p| p.values.len() != first.values.len()) {
        return Err(TensorError::Dimension { expected: first.values.len(), got: other.values.len() });
    }
    let pixels = first.values.len() as f64;
    let product = |a: &Plane, b: &Plane| a.values.iter().zip(&b.values).map(|(x, y)| x * y).sum::<f64>() / pixels;
    let pairs = planes.iter().enumerate().flat_map(|(i, a)| planes[i..].iter().map(move |b| (a, b)));
    Ok(pairs.map(|(a, b)| product(a, b)).collect())
}

fn not_empty(width: usize, height: usize) -> Result<(), TensorError> {
    if width == 0 || height == 0 {
        let got = format!("{width} x {height}");
        return Err(TensorError::argument("picture size", &got, "at least 1 x 1"));
    }
    Ok(())
}

fn positive(name: &'static str, value: f64) -> Result<(), TensorError> {
    if value > 0.0 && value.is_finite() { Ok(()) } else { Err(TensorError::argument(name, &value, "positive")) }
}

fn gaussian(d: f64, sigma: f64) -> f64 {
    (-0.5 * (d / sigma).powi(2)).exp()
}

/// Position `p` of a row of `n` pixels that goes on as its mirror image (edge pixel repeated) at both ends.
fn mirrored(p: i64, n: usize) -> usize {
    let n = n as i64;
    let p = p.rem_euclid(2 * n);
    (if p < n { p } else { 2 * n - 1 - p }) as usize
}

/// Row `k` weighs sample `i` by `cos(pi (2 i + 1) k / 2n)`, scaled to unit length.
fn dct_basis(n: usize) -> Vec<Vec<(usize, f64)>> {
    let entry = |k: usize, i: usize| {
        let scale = if k == 0 { 1.0 } else { 2.0 } / n as f64;
        (i, scale.sqrt() * (PI * ((2 * i + 1) * k) as f64 / (2 * n) as f64).cos())
    };
    (0..n).map(|k| (0..n).map(|i| entry(k, i)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use approx::assert_abs_diff_eq;

    fn wavy(width: usize, height: usize) -> Plane {
        Plane::from_fn(width, height, |x, y| {
            let (x, y) = (x as f64, y as f64);
            127.5 + 40.0 * (0.3 * x + 0.2).sin() + 30.0 * (0.5 * y + 0.1 * x).cos() + 20.0 * (x * y / 80.0 + 0.7).sin()
        })
        .unwrap()
    }

    #[test]
    fn the_cosine_transform_equals_scipy_and_inverts() {
        // scripts/oracles/signal_image.py
        let plane = wavy(8, 8);
        let dct = plane.dct2();
        for (y, x, expected) in [
            (0, 0, 1321.540666985909),
            (0, 1, -48.457492742371095),
            (1, 0, 146.00641884518964),
            (3, 5, -0.03255525084471566),
            (7, 7, -0.0004869264159928846),
        ] {
            assert_abs_diff_eq!(dct.at(x, y), expected, epsilon = 1e-9);
        }
        let odd = wavy(7, 5);
        for (a, b) in odd.dct2().inverse_dct2().values().iter().zip(odd.values()) {
            assert_abs_diff_eq!(a, b, epsilon = 1e-11);
        }
        let energy = |p: &Plane| p.values().iter().map(|v| v * v).sum::<f64>();
        assert_abs_diff_eq!(energy(&odd.dct2()) / energy(&odd), 1.0, epsilon = 1e-12);
    }

    #[test]
    fn blur_equals_scipy() {
        // scipy.ndimage.gaussian_filter(sigma 1.5, mode reflect, truncate 3)
        let blurred = wavy(8, 8).gaussian_blur(1.5).unwrap();
        for (y, x, expected) in [
            (0, 0, 180.81796500030532),
            (0, 7, 189.74271745071314),
            (3, 4, 170.9362828055838),
            (7, 0, 130.47852979110718),
            (5, 6, 156.69876975773468),
        ] {
            assert_abs_diff_eq!(blurred.at(x, y), expected, epsilon = 1e-9);
        }
    }

    #[test]
    fn box_resize_takes_area_means() {
        let plane = Plane::new(3, 2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let half = plane.resize_box(2, 1).unwrap();
        // Left: (1 + 4 + (2 + 5) / 2) / 3; right likewise.
        assert_abs_diff_eq!(half.at(0, 0), 17.0 / 6.0, epsilon = 1e-12);
        assert_abs_diff_eq!(half.at(1, 0), 25.0 / 6.0, epsilon = 1e-12);
        let mean = |p: &Plane| p.values().iter().sum::<f64>() / p.values().len() as f64;
        for (w, h) in [(9, 8), (32, 32), (5, 61), (64, 64), (100, 70)] {
            let resized = wavy(64, 48).resize_box(w, h).unwrap();
            assert_eq!((resized.width(), resized.height()), (w, h));
            assert_abs_diff_eq!(mean(&resized), mean(&wavy(64, 48)), epsilon = 1e-9);
        }
    }

    #[test]
    fn bilinear_resize_keeps_a_ramp_and_its_own_size() {
        let ramp = Plane::from_fn(8, 4, |x, y| 2.0 * x as f64 + y as f64).unwrap();
        assert_eq!(ramp.resize_bilinear(8, 4).unwrap(), ramp);
        let twice = ramp.resize_bilinear(16, 8).unwrap();
        assert_abs_diff_eq!(twice.at(5, 3), 2.0 * 2.25 + 1.25, epsilon = 1e-12);
        assert_abs_diff_eq!(twice.at(15, 7), ramp.at(7, 3), epsilon = 1e-12);
        let point = Plane::new(1, 1, vec![3.0]).unwrap();
        assert!(point.resize_bilinear(3, 2).unwrap().values().iter().all(|&v| v == 3.0));
    }

    #[test]
    fn a_filter_answers_to_its_own_wave_only() {
        let wave = |wavelength: f64, angle: f64| {
            Plane::from_fn(64, 64, |x, y| {
                let along = x as f64 * angle.cos() + y as f64 * angle.sin();
                100.0 + 10.0 * (2.0 * PI * along / wavelength).cos()
            })
            .unwrap()
        };
        let strength = |filter: &Gabor, plane: &Plane| filter.respond(plane).unwrap().at(32, 32).abs();
        let peak = |filter: &Gabor, plane: &Plane| {
            let response = filter.respond(plane).unwrap();
            let middle = (26..38).flat_map(|y| (26..38).map(move |x| (x, y)));
            middle.map(|(x, y)| response.at(x, y).abs()).fold(0.0, f64::max)
        };
        let bank = Gabor::bank(&[4.0, 7.0, 11.0], 4);
        assert_eq!(bank.len(), 12);
        for (i, own) in bank.iter().enumerate() {
            let plane = wave(own.wavelength, own.angle);
            let best = (0..12).max_by(|&a, &b| peak(&bank[a], &plane).total_cmp(&peak(&bank[b], &plane)));
            assert_eq!(best, Some(i));
            assert!((9.0..11.0).contains(&peak(own, &plane)), "{}", peak(own, &plane));
            let flat = Plane::new(64, 64, vec![77.0; 4096]).unwrap();
            assert_abs_diff_eq!(strength(own, &flat), 0.0, epsilon = 1e-9);
        }
    }

    #[test]
    fn the_separable_filter_equals_the_two_dimensional_sum() {
        let filter = Gabor { wavelength: 4.0, angle: 0.7 };
        let plane = wavy(32, 32);
        let got = filter.respond(&plane).unwrap().at(15, 14);
        let (mut sum, mut window, mut wave_sum) = (0.0, 0.0, 0.0);
        let pixels = || (-6..=6i64).flat_map(|dy| (-6..=6i64).map(move |dx| (dx, dy)));
        let weight = |dx: i64, dy: i64| gaussian(dx as f64, 2.0) * gaussian(dy as f64, 2.0);
        let carrier = |dx: i64, dy: i64| {
            (2.0 * PI / 4.0 * (dx as f64 * filter.angle.cos() + dy as f64 * filter.angle.sin())).cos()
        };
        for (dx, dy) in pixels() {
            window += weight(dx, dy);
            wave_sum += weight(dx, dy) * carrier(dx, dy);
        }
        for (dx, dy) in pixels() {
            let kernel = weight(dx, dy) * (carrier(dx, dy) - wave_sum / window);
            sum += 2.0 / window * kernel * plane.at((15 + dx) as usize, (14 + dy) as usize);
        }
        assert_abs_diff_eq!(got, sum, epsilon = 1e-9);
    }

    #[test]
    fn gram_forgets_positions() {
        let mut rng = SplitMix64::new(2);
        let planes: Vec<Vec<f64>> = (0..4).map(|_| (0..30).map(|_| rng.normal()).collect()).collect();
        let mut order: Vec<usize> = (0..30).collect();
        rng.shuffle(&mut order);
        let plane = |v: Vec<f64>| Plane::new(6, 5, v).unwrap();
        let kept: Vec<Plane> = planes.iter().map(|p| plane(p.clone())).collect();
        let moved: Vec<Plane> = planes.iter().map(|p| plane(order.iter().map(|&i| p[i]).collect())).collect();
        let (a, b) = (gram(&kept).unwrap(), gram(&moved).unwrap());
        assert_eq!(a.len(), 10);
        for (x, y) in a.iter().zip(&b) {
            assert_abs_diff_eq!(x, y, epsilon = 1e-12);
        }
        let second: f64 = planes[0].iter().zip(&planes[1]).map(|(x, y)| x * y).sum::<f64>() / 30.0;
        assert_abs_diff_eq!(a[1], second, epsilon = 1e-12);
    }

    #[test]
    fn gradients_and_luminance() {
        let plane = Plane::from_fn(5, 4, |x, y| 3.0 * x as f64 - 2.0 * y as f64).unwrap();
        let (dx, dy) = plane.gradient();
        assert!(dx.values().iter().all(|&v| (v - 3.0).abs() < 1e-12));
        assert!(dy.values().iter().all(|&v| (v + 2.0).abs() < 1e-12));
        let image = Image::new(2, 1, vec![255, 255, 255, 0, 100, 0]).unwrap();
        assert_abs_diff_eq!(image.luminance().at(0, 0), 255.0, epsilon = 1e-9);
        assert_abs_diff_eq!(image.luminance().at(1, 0), 58.7, epsilon = 1e-9);
        assert_eq!(Image::from_planes(&image.channels()), Ok(image));
        assert_eq!(plane.transpose().at(1, 4), plane.at(4, 1));
    }

    #[test]
    fn bad_pictures_and_arguments_are_refused() {
        assert!(Image::new(2, 2, vec![0; 11]).is_err());
        assert!(Image::new(0, 2, vec![]).is_err());
        assert!(Plane::new(2, 1, vec![0.0, f64::NAN]).is_err());
        let plane = wavy(4, 4);
        assert!(plane.resize_box(0, 3).is_err() && plane.resize_bilinear(3, 0).is_err());
        assert!(plane.gaussian_blur(0.0).is_err() && plane.gaussian_blur(f64::NAN).is_err());
        assert!(Gabor { wavelength: -1.0, angle: 0.0 }.respond(&plane).is_err());
        assert!(gram(&[wavy(4, 4), wavy(4, 5)]).is_err());
        assert_eq!(gram(&[]), Ok(vec![]));
        // A blur wider than the picture still mirrors it correctly.
        let flat = Plane::new(2, 2, vec![5.0; 4]).unwrap().gaussian_blur(9.0).unwrap();
        assert!(flat.values().iter().all(|v| (v - 5.0).abs() < 1e-9));
    }
}
