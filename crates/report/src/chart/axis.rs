//! Number axes: round ticks, and numbers as short text.

/// One number axis: its range, its ticks and where a value lies on it.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// Values with a label, ascending.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A linear axis over the values, widened to round numbers. Values that are all of one sign and reach within half of
    /// zero start at zero.
    pub(super) fn linear(low: f64, high: f64) -> Self {
        let (mut low, mut high) = (low, high);
        if low > 0.0 && low < 0.5 * high {
            low = 0.0;
        }
        if high < 0.0 && high > 0.5 * low {
            high = 0.0;
        }
        if high - low <= f64::EPSILON * high.abs().max(low.abs()) {
            let room = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
            (low, high) = (low - room, high + room);
        }
        let step = round_step((high - low) / 5.0);
        let (first, last) = ((low / step + 1e-9).floor(), (high / step - 1e-9).ceil());
        let values: Vec<f64> = (0..=(last - first).round() as usize).map(|i| (first + i as f64) * step).collect();
        Self { low: first * step, high: last * step, log: false, ticks: labelled(&values) }
    }

    /// A logarithmic axis over positive values, widened to powers of ten, or to 1, 2 or 5 times one where it spans little.
    pub(super) fn log(low: f64, high: f64) -> Self {
        let decades = (high / low).log10();
        let marks: &[f64] = if decades <= 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let (from, to) = (low.log10().floor() as i32 - 1, high.log10().ceil() as i32 + 1);
        let all: Vec<f64> =
            (from..=to).flat_map(|power| marks.iter().map(move |mark| mark * 10f64.powi(power))).collect();
        let first = all.iter().rposition(|mark| *mark <= low * (1.0 + 1e-9)).unwrap_or(0);
        let mut last = all.iter().position(|mark| *mark >= high * (1.0 - 1e-9)).unwrap_or(all.len() - 1);
        if last == first {
            last = (first + 1).min(all.len() - 1);
        }
        let every = (last - first).div_ceil(9).max(1);
        let values: Vec<f64> = all[first..=last].iter().copied().step_by(every).collect();
        Self { low: all[first], high: all[last], log: true, ticks: values.iter().map(|v| (*v, short(*v))).collect() }
    }

    /// An axis whose ends are exactly these, with the round ticks that lie between them.
    pub(super) fn exact(low: f64, high: f64) -> Self {
        let step = round_step((high - low) / 8.0);
        let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
        let values: Vec<f64> = (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step).collect();
        Self { low, high, log: false, ticks: labelled(&values) }
    }

    /// Where a value lies between the low end (0) and the high end (1).
    pub(super) fn at(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Where bars stand: zero, or the low end of a logarithmic axis.
    pub(super) fn base(&self) -> f64 {
        if self.log { self.low } else { 0.0_f64.clamp(self.low, self.high) }
    }
}

/// The round number (1, 2 or 5 times a power of ten) nearest above a rough step.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let mantissa = rough / power;
    let round = [1.0, 2.0, 5.0, 10.0].into_iter().find(|round| mantissa <= round + 1e-9).unwrap_or(10.0);
    round * power
}

/// Values of about one size, with one unit and as many decimals as tell them apart.
fn labelled(values: &[f64]) -> Vec<(f64, String)> {
    let largest = values.iter().fold(0.0_f64, |largest, v| largest.max(v.abs()));
    if largest > 0.0 && largest < 1e-3 {
        return values.iter().map(|v| (*v, if *v == 0.0 { "0".to_string() } else { format!("{v:.0e}") })).collect();
    }
    let (unit, suffix) = unit_of(largest);
    let decimals = (0..=8)
        .find(|d| {
            let scale = 10f64.powi(*d);
            values.iter().all(|v| ((v / unit * scale).round() / scale - v / unit).abs() < 1e-9)
        })
        .unwrap_or(8) as usize;
    values.iter().map(|v| (*v, if *v == 0.0 { "0".to_string() } else { written(v / unit, decimals, suffix) })).collect()
}

/// A number with three significant digits and a unit: 4.72M, 0.333, 12k, 3e-7.
pub(super) fn short(value: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    if value.abs() < 1e-3 {
        let text = format!("{value:.1e}");
        return text.replace(".0e", "e");
    }
    let (unit, suffix) = unit_of(value.abs());
    let scaled = value / unit;
    let whole = scaled.abs().max(1.0).log10().floor() as usize + 1;
    let leading = if scaled.abs() < 1.0 { (-scaled.abs().log10().floor()) as usize - 1 } else { 0 };
    let decimals = if scaled.abs() < 1.0 { 3 + leading } else { 3_usize.saturating_sub(whole) };
    let text = format!("{scaled:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

fn written(value: f64, decimals: usize, suffix: &str) -> String {
    format!("{value:.decimals$}{suffix}")
}

fn unit_of(largest: f64) -> (f64, &'static str) {
    match largest {
        v if v >= 1e15 => (1e15, "Q"),
        v if v >= 1e12 => (1e12, "T"),
        v if v >= 1e9 => (1e9, "B"),
        v if v >= 1e6 => (1e6, "M"),
        v if v >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.1.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        assert_eq!(labels(&Axis::linear(0.03, 0.97)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&Axis::linear(1.3e6, 9.9e6)), ["0", "2M", "4M", "6M", "8M", "10M"]);
        assert_eq!(labels(&Axis::linear(0.91, 0.99)), ["0.90", "0.92", "0.94", "0.96", "0.98", "1.00"]);
        assert_eq!(labels(&Axis::linear(-3.0, 5.0)), ["-4", "-2", "0", "2", "4", "6"]);
        assert_eq!(
            labels(&Axis::log(10.0, 9_000.0)),
            ["10", "20", "50", "100", "200", "500", "1000", "2000", "5000", "10k"]
        );
        assert_eq!(labels(&Axis::log(1e-6, 10.0)).len(), 8);
        assert_eq!(labels(&Axis::exact(0.25, 1.75)), ["0.4", "0.6", "0.8", "1.0", "1.2", "1.4", "1.6"]);
    }

    #[test]
    fn degenerate_ranges_still_make_an_axis() {
        for axis in [
            Axis::linear(0.0, 0.0),
            Axis::linear(5.0, 5.0),
            Axis::linear(-2.0, -2.0),
            Axis::log(7.0, 7.0),
            Axis::log(1.0, 1.0),
            Axis::linear(1e300, 1e300),
            Axis::linear(0.0, 1e-300),
        ] {
            assert!(axis.ticks.len() >= 2 && axis.low < axis.high, "{axis:?}");
            assert!(axis.ticks.iter().all(|tick| (-1e-6..=1.0 + 1e-6).contains(&axis.at(tick.0))), "{axis:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (47_185_920.0, "47.2M"),
            (0.333_33, "0.333"),
            (12_000.0, "12k"),
            (3e-7, "3e-7"),
            (1234.0, "1234"),
            (-0.05, "-0.05"),
            (100.0, "100"),
            (99.96, "100"),
            (2.5e12, "2.5T"),
            (1.0, "1"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
