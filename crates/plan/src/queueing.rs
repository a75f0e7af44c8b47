//! The M/M/c queue in closed form: Poisson arrivals, exponential service, `c` equal servers, one first-come line (Erlang 1917;
//! Gross et al., *Fundamentals of Queueing Theory*, chapter 3).
//!
//! ```
//! use eas_plan::queueing::Mmc;
//!
//! let one = Mmc::new(800.0, 1_000.0, 1)?; // 800 a second come, a server does 1,000
//! assert!((one.mean_time() - 0.005).abs() < 1e-12); // 5 ms, five times the service time
//! # Ok::<(), eas_plan::PlanError>(())
//! ```

use crate::PlanError;
use crate::error::positive;

/// A stable M/M/c queue. Times are in seconds when rates are a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mmc {
    arrival_rate: f64,
    service_rate: f64,
    servers: u32,
    wait_probability: f64,
}

impl Mmc {
    /// `arrival_rate` requests a second at `servers` servers that each do `service_rate`. Refuses a load that the servers
    /// can't carry: its line grows without end.
    pub fn new(arrival_rate: f64, service_rate: f64, servers: u32) -> Result<Self, PlanError> {
        positive("arrival rate", arrival_rate)?;
        positive("service rate", service_rate)?;
        positive("servers", f64::from(servers))?;
        let offered = arrival_rate / service_rate;
        let utilization = offered / f64::from(servers);
        if utilization >= 1.0 {
            return Err(PlanError::OutOfRange {
                name: "utilization (arrival rate over the rate of all servers)",
                value: utilization,
                expected: "below 1",
            });
        }
        // Erlang B by its recursion, which never leaves [0, 1], then Erlang C from it.
        let blocked = (1..=servers).fold(1.0, |blocked, k| {
            let flow = offered * blocked;
            flow / (f64::from(k) + flow)
        });
        Ok(Self {
            arrival_rate,
            service_rate,
            servers,
            wait_probability: blocked / (1.0 - utilization * (1.0 - blocked)),
        })
    }

    /// Share of the time that a server is busy.
    pub fn utilization(&self) -> f64 {
        self.arrival_rate / (self.service_rate * f64::from(self.servers))
    }

    /// Probability that a request finds all servers busy and has to wait (Erlang C).
    pub fn wait_probability(&self) -> f64 {
        self.wait_probability
    }

    /// Mean time in line.
    pub fn mean_wait(&self) -> f64 {
        self.wait_probability / (f64::from(self.servers) * self.service_rate - self.arrival_rate)
    }

    /// Mean time from arrival to departure.
    pub fn mean_time(&self) -> f64 {
        self.mean_wait() + 1.0 / self.service_rate
    }

    /// Mean number of requests in line and in service, by Little's law.
    pub fn mean_in_system(&self) -> f64 {
        self.arrival_rate * self.mean_time()
    }

    /// Probability that a request takes longer than `time`, line and service together.
    pub fn time_exceeds(&self, time: f64) -> f64 {
        if time <= 0.0 {
            return 1.0;
        }
        // Service is exponential with rate mu, the wait (when there is one) with rate (c - a) mu = mu + gap mu.
        let gap = f64::from(self.servers) - 1.0 - self.arrival_rate / self.service_rate;
        let t = self.service_rate * time;
        // (1 - e^(-gap t)) / gap, which tends to t as the two rates become equal.
        let spread = if (gap * t).abs() < 1e-9 { t } else { -(-gap * t).exp_m1() / gap };
        (-t).exp() * (1.0 + self.wait_probability * spread)
    }

    /// The `q`-quantile of the time from arrival to departure, `0 < q < 1`, by bisection.
    pub fn time_quantile(&self, q: f64) -> Result<f64, PlanError> {
        positive("quantile", q)?;
        if q >= 1.0 {
            return Err(PlanError::OutOfRange { name: "quantile", value: q, expected: "below 1" });
        }
        let (mut low, mut high) = (0.0, self.mean_time());
        while self.time_exceeds(high) > 1.0 - q {
            high *= 2.0;
        }
        for _ in 0..200 {
            let middle = f64::midpoint(low, high);
            if self.time_exceeds(middle) > 1.0 - q {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(high)
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use eas_tensor::rng::SplitMix64;

    use super::*;

    #[test]
    fn one_server_has_the_textbook_values() {
        let queue = Mmc::new(800.0, 1_000.0, 1).unwrap();
        assert_relative_eq!(queue.wait_probability(), 0.8, epsilon = 1e-12);
        assert_relative_eq!(queue.mean_time(), 0.005, epsilon = 1e-12);
        assert_relative_eq!(queue.mean_in_system(), 4.0, epsilon = 1e-9);
        // Exponential with rate mu - lambda: ln(100) / 200 s.
        assert_relative_eq!(queue.time_quantile(0.99).unwrap(), 0.023_025_851, epsilon = 1e-9);
    }

    #[test]
    fn four_servers_share_the_line() {
        let queue = Mmc::new(3_200.0, 1_000.0, 4).unwrap();
        assert_relative_eq!(queue.wait_probability(), 0.596_432, epsilon = 1e-6);
        assert_relative_eq!(queue.mean_time(), 0.001_745_541, epsilon = 1e-9);
        assert_relative_eq!(queue.utilization(), 0.8, epsilon = 1e-12);
        // Erlang C as the sum over states, not the recursion.
        let a: f64 = 3.2;
        let terms: Vec<f64> = (0..4_u32).map(|k| a.powi(k as i32) / f64::from((1..=k).product::<u32>())).collect();
        let tail = a.powi(4) / 24.0 / 0.2;
        assert_relative_eq!(queue.wait_probability(), tail / (terms.iter().sum::<f64>() + tail), epsilon = 1e-12);
        // c - 1 = a is where the two exponentials coincide.
        let equal = Mmc::new(3_000.0, 1_000.0, 4).unwrap();
        let near = Mmc::new(3_000.000_1, 1_000.0, 4).unwrap();
        assert_relative_eq!(equal.time_exceeds(0.002), near.time_exceeds(0.002), max_relative = 1e-5);
    }

    #[test]
    fn the_quantile_agrees_with_a_simulated_line() {
        let queue = Mmc::new(3.2, 1.0, 4).unwrap();
        let mut rng = SplitMix64::new(5);
        let (mut now, mut free) = (0.0, [0.0_f64; 4]);
        let mut times: Vec<f64> = (0..400_000)
            .map(|_| {
                now -= (1.0 - rng.uniform()).ln() / 3.2;
                free.sort_by(f64::total_cmp);
                let done = free[0].max(now) - (1.0 - rng.uniform()).ln();
                free[0] = done;
                done - now
            })
            .collect();
        times.sort_by(f64::total_cmp);
        for q in [0.5, 0.9, 0.99] {
            let simulated = times[(q * times.len() as f64) as usize];
            assert_relative_eq!(queue.time_quantile(q).unwrap(), simulated, max_relative = 0.03);
        }
    }

    #[test]
    fn loads_that_cant_be_carried_are_refused() {
        let error = Mmc::new(1_000.0, 1_000.0, 1).unwrap_err();
        assert!(error.to_string().contains("is 1, must be below 1"), "{error}");
        assert!(Mmc::new(0.0, 1.0, 1).is_err());
        assert!(Mmc::new(1.0, f64::NAN, 1).is_err());
        assert!(Mmc::new(1.0, 2.0, 0).is_err());
        assert!(Mmc::new(1.0, 2.0, 1).unwrap().time_quantile(1.0).is_err());
    }
}
