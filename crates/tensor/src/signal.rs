//! Sound to features: the fast Fourier transform, power spectra of windowed frames, mel bands and their logarithm.

use crate::{Matrix, TensorError};
use std::f64::consts::TAU;

/// In-place discrete Fourier transform `X[k] = sum_n x[n] exp(-2 pi i k n / N)` of `re + i im` (Cooley and Tukey 1965,
/// radix 2). The length must be a power of two and equal for both parts.
pub fn fft(re: &mut [f64], im: &mut [f64]) -> Result<(), TensorError> {
    let n = re.len();
    if im.len() != n {
        return Err(TensorError::Dimension { expected: n, got: im.len() });
    }
    power_of_two("transform length", n)?;
    let bits = n.trailing_zeros();
    for i in 0..n {
        // A shift by the full width of a usize, at n = 1, is not defined; there is nothing to swap then.
        let j = if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
        if j > i {
            re.swap(i, j);
            im.swap(i, j);
        }
    }
    let mut half = 1;
    while half < n {
        for k in 0..half {
            let angle = -TAU * k as f64 / (2 * half) as f64;
            let (sin, cos) = angle.sin_cos();
            for top in (k..n).step_by(2 * half) {
                let low = top + half;
                let (a, b) = (re[low] * cos - im[low] * sin, re[low] * sin + im[low] * cos);
                (re[low], im[low]) = (re[top] - a, im[top] - b);
                re[top] += a;
                im[top] += b;
            }
        }
        half *= 2;
    }
    Ok(())
}

/// `|X[k]|^2` for `k` in `0..=n/2` of a real frame whose length `n` is a power of two.
pub fn power_spectrum(frame: &[f64]) -> Result<Vec<f64>, TensorError> {
    let (mut re, mut im) = (frame.to_vec(), vec![0.0; frame.len()]);
    fft(&mut re, &mut im)?;
    let bins = frame.len() / 2 + 1;
    Ok(re.iter().zip(&im).take(bins).map(|(a, b)| a * a + b * b).collect())
}

/// The periodic Hann window of length `n`.
pub fn hann(n: usize) -> Vec<f64> {
    (0..n).map(|i| 0.5 - 0.5 * (TAU * i as f64 / n as f64).cos()).collect()
}

/// Frequency in Hz to mel, `2595 log10(1 + f / 700)` (the scale of HTK).
pub fn hz_to_mel(hz: f64) -> f64 {
    2595.0 * (1.0 + hz / 700.0).log10()
}

/// Inverse of [`hz_to_mel`].
pub fn mel_to_hz(mel: f64) -> f64 {
    700.0 * (10f64.powf(mel / 2595.0) - 1.0)
}

/// Centres in Hz of `bands` bands spaced evenly in mel between 0 and `max_hz`, both excluded.
pub fn mel_centres(bands: usize, max_hz: f64) -> Vec<f64> {
    let step = hz_to_mel(max_hz) / (bands + 1) as f64;
    (1..=bands).map(|band| mel_to_hz(band as f64 * step)).collect()
}

/// Settings of a log-mel spectrogram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogMel {
    /// Samples a second.
    pub sample_rate: f64,
    /// Samples a frame, a power of two.
    pub n_fft: usize,
    /// Samples from the start of one frame to the start of the next.
    pub hop: usize,
    /// Mel bands, from 0 Hz to half the sample rate.
    pub bands: usize,
}

impl LogMel {
    /// Power spectra of Hann-windowed frames, shape `(frames, n_fft / 2 + 1)`. Only whole frames count:
    /// `1 + (samples - n_fft) / hop` of them; a signal shorter than a frame is padded with zeros to one.
    pub fn spectrogram(&self, samples: &[f32]) -> Result<Matrix, TensorError> {
        self.check()?;
        if let Some(at) = samples.iter().position(|x| !x.is_finite()) {
            return Err(TensorError::NotFinite { row: 0, column: at, value: samples[at] });
        }
        let window = hann(self.n_fft);
        let frames = 1 + samples.len().saturating_sub(self.n_fft) / self.hop;
        let mut out = Matrix::zeros(frames, self.n_fft / 2 + 1);
        for f in 0..frames {
            let mut frame = vec![0.0; self.n_fft];
            for ((x, sample), w) in frame.iter_mut().zip(&samples[f * self.hop..]).zip(&window) {
                *x = f64::from(*sample) * w;
            }
            for (o, power) in out.row_mut(f).iter_mut().zip(power_spectrum(&frame)?) {
                *o = power as f32;
            }
        }
        Ok(out)
    }

    /// The triangular filters, shape `(bands, n_fft / 2 + 1)`: each rises from the centre of the band below to 1 at its
    /// own and falls to the centre of the band above, linearly in Hz, without area normalisation.
    pub fn filters(&self) -> Result<Matrix, TensorError> {
        self.check()?;
        let nyquist = self.sample_rate / 2.0;
        let mut edges = vec![0.0];
        edges.extend(mel_centres(self.bands, nyquist));
        edges.push(nyquist);
        let mut filters = Matrix::zeros(self.bands, self.n_fft / 2 + 1);
        for (band, edge) in edges.windows(3).enumerate() {
            for (bin, weight) in filters.row_mut(band).iter_mut().enumerate() {
                let hz = bin as f64 * self.sample_rate / self.n_fft as f64;
                let rise = (hz - edge[0]) / (edge[1] - edge[0]);
                let fall = (edge[2] - hz) / (edge[2] - edge[1]);
                *weight = rise.min(fall).max(0.0) as f32;
            }
        }
        Ok(filters)
    }

    /// Natural logarithm of the power in each mel band, shape `(frames, bands)`; powers below 1e-10 count as 1e-10, so
    /// that silence is finite.
    pub fn log_mel(&self, samples: &[f32]) -> Result<Matrix, TensorError> {
        let spectrogram = self.spectrogram(samples)?;
        let filters = self.filters()?;
        let mut out = Matrix::zeros(spectrogram.rows(), self.bands);
        for (f, power) in spectrogram.iter_rows().enumerate() {
            for (value, filter) in out.row_mut(f).iter_mut().zip(filters.iter_rows()) {
                *value = crate::kernels::dot(power, filter).max(1e-10).ln();
            }
        }
        Ok(out)
    }

    /// Mean and standard deviation over the frames of each band's [`LogMel::log_mel`]: `2 * bands` numbers, means first.
    pub fn features(&self, samples: &[f32]) -> Result<Vec<f32>, TensorError> {
        let log_mel = self.log_mel(samples)?;
        let frames = log_mel.rows() as f64;
        let column = |band: usize| log_mel.iter_rows().map(move |row| f64::from(row[band]));
        let means: Vec<f64> = (0..self.bands).map(|b| column(b).sum::<f64>() / frames).collect();
        let deviation = |b: usize| (column(b).map(|x| (x - means[b]).powi(2)).sum::<f64>() / frames).sqrt();
        let features = means.iter().copied().chain((0..self.bands).map(deviation));
        Ok(features.map(|x| x as f32).collect())
    }

    fn check(&self) -> Result<(), TensorError> {
        power_of_two("n_fft", self.n_fft)?;
        if !(self.sample_rate > 0.0 && self.sample_rate.is_finite()) {
            return Err(TensorError::argument("sample_rate", &self.sample_rate, "positive"));
        }
        for (name, value) in [("hop", self.hop), ("bands", self.bands)] {
            if value == 0 {
                return Err(TensorError::argument(name, &value, "at least 1"));
            }
        }
        Ok(())
    }
}

fn power_of_two(name: &'static str, n: usize) -> Result<(), TensorError> {
    if n.is_power_of_two() { Ok(()) } else { Err(TensorError::argument(name, &n, "a power of two")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;
    use approx::assert_abs_diff_eq;

    fn noise(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = SplitMix64::new(seed);
        (0..n).map(|_| rng.normal()).collect()
    }

    #[test]
    fn equals_the_defining_sum() {
        for n in [1, 2, 8, 64] {
            let (x, y) = (noise(n, 1), noise(n, 2));
            let (mut re, mut im) = (x.clone(), y.clone());
            fft(&mut re, &mut im).unwrap();
            for k in 0..n {
                let (mut a, mut b) = (0.0, 0.0);
                for t in 0..n {
                    let (sin, cos) = (-TAU * (k * t % n) as f64 / n as f64).sin_cos();
                    a += x[t] * cos - y[t] * sin;
                    b += x[t] * sin + y[t] * cos;
                }
                assert_abs_diff_eq!(re[k], a, epsilon = 1e-11);
                assert_abs_diff_eq!(im[k], b, epsilon = 1e-11);
            }
        }
    }

    #[test]
    fn energy_is_kept() {
        let x = noise(512, 3);
        let power = power_spectrum(&x).unwrap();
        let inner: f64 = power[1..256].iter().sum();
        let spectral = (power[0] + power[256] + 2.0 * inner) / 512.0;
        let energy: f64 = x.iter().map(|v| v * v).sum();
        assert_abs_diff_eq!(spectral / energy, 1.0, epsilon = 1e-9);
    }

    #[test]
    fn mel_values_and_band_centres() {
        assert_abs_diff_eq!(hz_to_mel(440.0), 549.638_675, epsilon = 1e-6);
        assert_abs_diff_eq!(hz_to_mel(1000.0), 999.985_537, epsilon = 1e-6);
        let expected = [226.1907, 525.4702, 921.4558, 1445.396, 2138.637, 3055.884, 4269.521, 5875.320];
        for (got, expected) in mel_centres(8, 8000.0).iter().zip(expected) {
            assert_abs_diff_eq!(*got, expected, epsilon = 1e-3);
            assert_abs_diff_eq!(mel_to_hz(hz_to_mel(*got)), *got, epsilon = 1e-9);
        }
    }

    #[test]
    fn a_tone_peaks_in_its_bin_and_frames_are_whole() {
        let mel = LogMel { sample_rate: 16_000.0, n_fft: 512, hop: 256, bands: 40 };
        let tone: Vec<f32> = (0..16_000).map(|i| (TAU * 440.0 * f64::from(i) / 16_000.0).sin() as f32).collect();
        let spectrogram = mel.spectrogram(&tone).unwrap();
        assert_eq!((spectrogram.rows(), spectrogram.dim()), (61, 257));
        for row in spectrogram.iter_rows() {
            assert_eq!(crate::top_k(row, 1)[0].id, 14);
        }
        assert_eq!(mel.spectrogram(&tone[..512]).unwrap().rows(), 1);
        assert_eq!(mel.spectrogram(&tone[..767]).unwrap().rows(), 1);
        assert_eq!(mel.spectrogram(&tone[..768]).unwrap().rows(), 2);
    }

    #[test]
    fn log_mel_equals_numpy() {
        // scripts/oracles/signal_image.py
        let mel = LogMel { sample_rate: 8_000.0, n_fft: 256, hop: 128, bands: 40 };
        let chirp: Vec<f32> = (0..2_000)
            .map(|i| {
                let t = f64::from(i) / 8_000.0;
                (0.7 * (TAU * (300.0 * t + 4_000.0 * t * t)).sin() + 0.1 * (TAU * 1_700.0 * t).cos()) as f32
            })
            .collect();
        let got = mel.log_mel(&chirp).unwrap();
        assert_eq!((got.rows(), got.dim()), (14, 40));
        for (frame, band, expected) in
            [(0, 0, -7.861053), (0, 6, 1.21171), (3, 17, 5.282454), (7, 20, 2.644487), (13, 39, -19.260988)]
        {
            assert_abs_diff_eq!(f64::from(got.row(frame)[band]), expected, epsilon = 2e-4);
        }
        let features = mel.features(&chirp).unwrap();
        assert_eq!(features.len(), 80);
        for (at, expected) in
            [(0, -16.647329), (11, -9.907565), (39, -19.987163), (40, 4.076305), (57, 7.726818), (79, 1.77435)]
        {
            assert_abs_diff_eq!(f64::from(features[at]), expected, epsilon = 2e-4);
        }
    }

    #[test]
    fn silence_and_short_signals_are_finite() {
        let mel = LogMel { sample_rate: 8_000.0, n_fft: 256, hop: 128, bands: 40 };
        for samples in [vec![], vec![0.0; 100], vec![0.0; 4_000]] {
            let features = mel.features(&samples).unwrap();
            assert!(features.iter().all(|x| x.is_finite()));
            assert_abs_diff_eq!(features[0], 1e-10f32.ln(), epsilon = 1e-4);
        }
    }

    #[test]
    fn bad_settings_and_samples_are_refused() {
        let good = LogMel { sample_rate: 8_000.0, n_fft: 256, hop: 128, bands: 40 };
        let message = |r: Result<Matrix, TensorError>| r.unwrap_err().to_string();
        assert!(message(LogMel { n_fft: 300, ..good }.log_mel(&[0.0])).contains("n_fft is 300"));
        assert!(message(LogMel { hop: 0, ..good }.log_mel(&[0.0])).contains("hop is 0"));
        assert!(message(LogMel { bands: 0, ..good }.log_mel(&[0.0])).contains("bands is 0"));
        assert!(message(LogMel { sample_rate: f64::NAN, ..good }.log_mel(&[0.0])).contains("sample_rate is NaN"));
        assert!(message(good.log_mel(&[0.0, f32::NAN])).contains("column 1 is NaN"));
        assert!(fft(&mut [0.0; 4], &mut [0.0; 2]).is_err());
        assert!(fft(&mut [], &mut []).is_err());
    }
}
