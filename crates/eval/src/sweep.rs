//! Quality against one setting, and the smallest setting that is good enough: of a whole sweep, or by bisection.

use crate::EvalError;
use crate::error::not_empty;

/// What was measured at one setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SweepPoint<Q> {
    /// The setting: a dimension, a number of probes.
    pub param: usize,
    /// Everything measured there.
    pub quality: Q,
}

/// Measurements at rising settings. Which of the measured numbers is *the* quality is said when asking, since the answer depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sweep<Q> {
    points: Vec<SweepPoint<Q>>,
}

impl<Q> Sweep<Q> {
    /// Measures at each of `params`, which must rise. The first error of `measure` ends the sweep.
    pub fn run<E: From<EvalError>>(
        params: &[usize],
        mut measure: impl FnMut(usize) -> Result<Q, E>,
    ) -> Result<Self, E> {
        not_empty("params", params)?;
        if let Some([low, high]) = params.array_windows().find(|[low, high]| low >= high) {
            let got = format!("{low} before {high}");
            return Err(EvalError::Argument { name: "params", got, expected: "in rising order" }.into());
        }
        let measured = params.iter().map(|&param| Ok(SweepPoint { param, quality: measure(param)? }));
        Ok(Self { points: measured.collect::<Result<_, E>>()? })
    }

    /// The measurements, by rising setting.
    pub fn points(&self) -> &[SweepPoint<Q>] {
        &self.points
    }

    /// The point of highest quality; the smaller setting of equal ones.
    pub fn best(&self, quality: impl Fn(&Q) -> f64) -> Result<&SweepPoint<Q>, EvalError> {
        let mut best: Option<(&SweepPoint<Q>, f64)> = None;
        for (at, point) in self.points.iter().enumerate() {
            let value = quality(&point.quality);
            if !value.is_finite() {
                return Err(EvalError::NotFinite { what: "quality", at, value });
            }
            if best.is_none_or(|(_, most)| value > most) {
                best = Some((point, value));
            }
        }
        best.map(|(point, _)| point).ok_or(EvalError::Empty("sweep"))
    }

    /// Each quality as a share of the best one, which must be above 0.
    pub fn relative(&self, quality: impl Fn(&Q) -> f64) -> Result<Vec<f64>, EvalError> {
        let best = quality(&self.best(&quality)?.quality);
        positive("best quality", best)?;
        Ok(self.points.iter().map(|point| quality(&point.quality) / best).collect())
    }

    /// The smallest setting whose quality is at least `share` of the best one; `share` lies in (0, 1], so that there is one.
    pub fn smallest_meeting(&self, share: f64, quality: impl Fn(&Q) -> f64) -> Result<&SweepPoint<Q>, EvalError> {
        check_share(share)?;
        let relative = self.relative(quality)?;
        let first = relative.iter().position(|&own| own >= share);
        first.map(|at| &self.points[at]).ok_or(EvalError::Empty("sweep"))
    }
}

/// How a bisection found the smallest sufficient setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Bisection {
    /// The smallest setting found whose quality suffices.
    pub found: usize,
    /// `(setting, quality)` in the order of the bisection.
    pub trace: Vec<(usize, f64)>,
    /// What was measured afterwards, below the setting found, since quality need not rise with every step.
    pub verified: Vec<(usize, f64)>,
}

impl Bisection {
    /// Measurements taken.
    pub fn evaluations(&self) -> usize {
        self.trace.len() + self.verified.len()
    }
}

/// The smallest setting in `lo..=hi` whose quality is at least `target`: bisection, as if quality rose with the setting, then the two
/// settings below the one found are measured too, and the search goes on from there if one of them suffices.
///
/// No setting is measured twice. An error when `hi` itself doesn't suffice, or a quality isn't finite.
pub fn smallest_sufficient<E: From<EvalError>>(
    lo: usize,
    hi: usize,
    target: f64,
    mut quality: impl FnMut(usize) -> Result<f64, E>,
) -> Result<Bisection, E> {
    const BELOW: usize = 2;
    if lo > hi {
        return Err(EvalError::Argument { name: "lo", got: lo.to_string(), expected: "at most hi" }.into());
    }
    if !target.is_finite() {
        return Err(EvalError::NotFinite { what: "target", at: 0, value: target }.into());
    }
    let mut measure = |at: usize| -> Result<f64, E> {
        let value = quality(at)?;
        if value.is_finite() { Ok(value) } else { Err(EvalError::NotFinite { what: "quality", at, value }.into()) }
    };
    let (mut below, mut enough) = (lo, hi);
    let mut trace: Vec<(usize, f64)> = Vec::new();
    let mut verified: Vec<(usize, f64)> = Vec::new();
    while below < enough {
        let middle = usize::midpoint(below, enough);
        let value = measure(middle)?;
        trace.push((middle, value));
        if value >= target {
            enough = middle;
        } else {
            below = middle + 1;
        }
    }
    // Nothing the bisection saw was enough: is the upper end?
    if enough == hi {
        let value = measure(hi)?;
        verified.push((hi, value));
        if value < target {
            let got = format!("{value} at the largest setting");
            return Err(EvalError::Argument { name: "quality", got, expected: "at least the target" }.into());
        }
    }
    let mut at = enough;
    while at > lo && enough - at < BELOW {
        at -= 1;
        let known = trace.iter().chain(&verified).find(|(setting, _)| *setting == at).map(|&(_, value)| value);
        let value = if let Some(value) = known {
            value
        } else {
            let value = measure(at)?;
            verified.push((at, value));
            value
        };
        if value >= target {
            enough = at;
        }
    }
    Ok(Bisection { found: enough, trace, verified })
}

fn check_share(share: f64) -> Result<(), EvalError> {
    if share > 0.0 && share <= 1.0 {
        return Ok(());
    }
    Err(EvalError::Argument { name: "share", got: share.to_string(), expected: "above 0 and at most 1" })
}

fn positive(name: &'static str, value: f64) -> Result<(), EvalError> {
    if value > 0.0 { Ok(()) } else { Err(EvalError::Argument { name, got: value.to_string(), expected: "above 0" }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Sweep<f64> {
        let values = [0.834, 0.891, 0.908, 0.915, 0.917];
        let dims = [128, 256, 384, 512, 768];
        Sweep::run::<EvalError>(&dims, |dim| Ok(values[dims.iter().position(|&d| d == dim).unwrap()])).unwrap()
    }

    #[test]
    fn the_smallest_sufficient_setting_depends_on_the_share() {
        let sweep = example();
        for (got, expected) in
            sweep.relative(|&q| q).unwrap().iter().zip([0.909_487, 0.971_647, 0.990_185, 0.997_819, 1.0])
        {
            assert!((got - expected).abs() < 1e-6);
        }
        assert_eq!(sweep.smallest_meeting(0.95, |&q| q).unwrap().param, 256);
        assert_eq!(sweep.smallest_meeting(0.99, |&q| q).unwrap().param, 384);
        assert_eq!(sweep.smallest_meeting(1.0, |&q| q).unwrap().param, 768);
        for share in [0.0, -1.0, 1.01, f64::NAN] {
            assert!(sweep.smallest_meeting(share, |&q| q).is_err());
        }
        assert!(sweep.relative(|_| f64::NAN).is_err() && sweep.relative(|_| -1.0).is_err());
    }

    #[test]
    fn a_sweep_refuses_unordered_settings_and_hands_errors_on() {
        assert!(Sweep::<f64>::run::<EvalError>(&[], |_| Ok(1.0)).is_err());
        assert!(Sweep::run::<EvalError>(&[3, 3], |_| Ok(1.0)).is_err());
        assert!(Sweep::<f64>::run(&[1, 2], |_| Err(EvalError::NoRelevant)).is_err());
        assert_eq!(example().best(|_| 1.0).unwrap().param, 128);
    }

    #[test]
    fn bisection_equals_a_scan_of_a_rising_curve() {
        for hi in [1, 2, 7, 64, 100] {
            for target in 0..=hi {
                let run = smallest_sufficient::<EvalError>(1, hi, target as f64, |d| Ok(d as f64)).unwrap();
                assert_eq!(run.found, target.max(1), "target {target} of {hi}");
                assert!(run.evaluations() <= (hi as f64).log2().ceil() as usize + 3);
            }
        }
    }

    #[test]
    fn a_dip_below_the_bisected_answer_is_found() {
        // 5 suffices, 6 doesn't, 7 and all above do: bisection alone ends at 7.
        let quality = |d: usize| Ok(if d == 5 || d >= 7 { 1.0 } else { 0.0 });
        let run = smallest_sufficient::<EvalError>(1, 8, 1.0, quality).unwrap();
        assert_eq!(run.found, 5);
    }

    #[test]
    fn impossible_searches_are_refused() {
        assert!(smallest_sufficient::<EvalError>(5, 4, 1.0, |_| Ok(1.0)).is_err());
        assert!(smallest_sufficient::<EvalError>(1, 4, 2.0, |_| Ok(1.0)).is_err());
        assert!(smallest_sufficient::<EvalError>(1, 4, f64::NAN, |_| Ok(1.0)).is_err());
        assert!(smallest_sufficient::<EvalError>(1, 4, 1.0, |_| Ok(f64::NAN)).is_err());
    }
}
