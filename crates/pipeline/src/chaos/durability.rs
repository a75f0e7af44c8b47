//! Mean time to data loss: how long until the last copy fails before another was made.
//!
//! With `n` copies that fail independently at rate `1/mtbf` and are remade in parallel, each in a time of mean `mttr`, the
//! number of live copies is a birth-death chain. "No data loss" is a time, not a yes.

use eas_ops::clock::Micros;
use eas_ops::sim::Sim;

use crate::replica::ReplicaError;

/// Copies and their rates, in hours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Durability {
    /// Copies when all is well.
    pub copies: u32,
    /// Mean time between failures of one copy, in hours.
    pub mtbf_hours: f64,
    /// Mean time to remake a copy, in hours.
    pub mttr_hours: f64,
}

impl Durability {
    /// `copies >= 1` with positive, finite times.
    pub fn new(copies: u32, mtbf_hours: f64, mttr_hours: f64) -> Result<Self, ReplicaError> {
        let refuse = |name, got: String, expected| Err(ReplicaError::Parameter { name, got, expected });
        if copies == 0 {
            return refuse("copies", "0".into(), "at least 1");
        }
        for (name, hours) in [("mtbf_hours", mtbf_hours), ("mttr_hours", mttr_hours)] {
            if !(hours.is_finite() && hours > 0.0) {
                return refuse(name, hours.to_string(), "a positive number of hours");
            }
        }
        Ok(Self { copies, mtbf_hours, mttr_hours })
    }

    /// Mean hours until no copy is left, exactly. With `D(k)` the mean time from `k` live copies to `k - 1`:
    /// `k D(k) / mtbf = 1 + (n - k) D(k + 1) / mttr`, and the answer is `D(n) + ... + D(1)`.
    pub fn mean_hours_to_loss(&self) -> f64 {
        let (mut step, mut total) = (0.0, 0.0);
        for live in (1..=self.copies).rev() {
            let repairs = f64::from(self.copies - live) / self.mttr_hours;
            step = (1.0 + repairs * step) * self.mtbf_hours / f64::from(live);
            total += step;
        }
        total
    }

    /// The same by failing and remaking copies in virtual time: mean over `runs` runs.
    pub fn simulate(&self, runs: usize, seed: u64) -> f64 {
        let hours = |sim: &mut Sim<bool>, mean: f64| sim.exponential(mean * 3_600.0).max(1);
        let mut total = 0.0;
        for run in 0..runs {
            // An event is a copy that fails (true) or is remade (false).
            let mut sim: Sim<bool> = Sim::new(seed.wrapping_add(run as u64));
            let mut live = self.copies;
            for _ in 0..live {
                let life: Micros = hours(&mut sim, self.mtbf_hours);
                sim.after(life, true);
            }
            while let Some(fails) = sim.next_event() {
                if fails {
                    live -= 1;
                    if live == 0 {
                        break;
                    }
                    let repair = hours(&mut sim, self.mttr_hours);
                    sim.after(repair, false);
                } else {
                    live += 1;
                    let life = hours(&mut sim, self.mtbf_hours);
                    sim.after(life, true);
                }
            }
            total += sim.now() as f64 / 3.6e9;
        }
        total / runs as f64
    }
}

/// Failures a day among `machines` that each fail once in `mtbf_years` years of 365 days.
pub fn failures_a_day(machines: f64, mtbf_years: f64) -> f64 {
    machines / (mtbf_years * 365.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_two_copies_have_their_textbook_times() {
        assert_eq!(Durability::new(1, 100.0, 5.0).unwrap().mean_hours_to_loss(), 100.0);
        // Two copies: (3 mtbf + mtbf^2 / mttr) / 2.
        let two = Durability::new(2, 100.0, 5.0).unwrap().mean_hours_to_loss();
        assert!((two - 1_150.0).abs() < 1e-9, "{two}");
    }

    #[test]
    fn three_copies_have_the_sheet_values() {
        let exact = |mtbf, mttr| Durability::new(3, mtbf, mttr).unwrap().mean_hours_to_loss();
        assert!((exact(100.0, 5.0) - 15_850.0).abs() < 1e-8);
        assert!((exact(4.0 * 8_760.0, 0.5) / 5.736_576e13 - 1.0).abs() < 1e-6);
        assert!((failures_a_day(3_000.0, 4.0) - 2.054_795).abs() < 5e-7);
    }

    #[test]
    fn the_simulation_agrees_with_the_chain() {
        for (copies, mtbf, mttr) in [(1, 50.0, 1.0), (2, 100.0, 20.0), (3, 100.0, 20.0)] {
            let model = Durability::new(copies, mtbf, mttr).unwrap();
            let ratio = model.simulate(2_000, 1) / model.mean_hours_to_loss();
            assert!((ratio - 1.0).abs() < 0.08, "{copies}: {ratio}");
        }
    }

    #[test]
    fn impossible_numbers_are_refused() {
        for (copies, mtbf, mttr) in [(0, 1.0, 1.0), (3, 0.0, 1.0), (3, 1.0, f64::NAN), (3, 1.0, -1.0)] {
            assert!(Durability::new(copies, mtbf, mttr).is_err());
        }
    }
}
