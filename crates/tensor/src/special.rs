//! Special functions of f64, accurate to about 1e-13 relative.

use std::f64::consts::{PI, SQRT_2};

/// Logarithm of the gamma function for `x > 0`; NaN elsewhere. Stirling's series after shifting `x` above 10.
pub fn ln_gamma(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return f64::NAN;
    }
    // ln(x (x+1) ... ) of the steps taken, gathered as a product that stays far below overflow.
    let (mut x, mut product) = (x, 1.0);
    while x < 10.0 {
        product *= x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0, 1.0 / 156.0];
    let tail = series.iter().rev().fold(0.0, |sum, c| sum * inverse + c) / x;
    (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + tail - product.ln()
}

/// Derivative of [`ln_gamma`] for `x > 0`; NaN elsewhere.
pub fn digamma(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 {
        return f64::NAN;
    }
    let (mut x, mut shift) = (x, 0.0);
    while x < 10.0 {
        shift += 1.0 / x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    // Bernoulli numbers B_2n / 2n.
    let series = [1.0 / 12.0, -1.0 / 120.0, 1.0 / 252.0, -1.0 / 240.0, 1.0 / 132.0, -691.0 / 32_760.0, 1.0 / 12.0];
    let tail = series.iter().rev().fold(0.0, |sum, c| sum * inverse + c) * inverse;
    x.ln() - 0.5 / x - tail - shift
}

/// Complementary error function, `2 / sqrt(pi)` times the integral of `exp(-t^2)` from `x` on.
pub fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    if x < 0.0 {
        return 2.0 - erfc(-x);
    }
    if x < 2.0 {
        // erf(x) = 2 x exp(-x^2) / sqrt(pi) * (1 + 2x^2/3 + (2x^2)^2/(3 5) + ...): no cancellation, all terms positive.
        let (mut term, mut sum, mut odd) = (1.0, 1.0, 1.0);
        while term > 1e-17 * sum {
            odd += 2.0;
            term *= 2.0 * x * x / odd;
            sum += term;
        }
        return 1.0 - 2.0 * x * (-x * x).exp() / PI.sqrt() * sum;
    }
    if x > 28.0 {
        return 0.0;
    }
    // Laplace's continued fraction x + (1/2)/(x + (2/2)/(x + (3/2)/...)), from the inside out.
    let fraction = (1..=120).rev().fold(x, |inner, n| x + f64::from(n) / 2.0 / inner);
    (-x * x).exp() / PI.sqrt() / fraction
}

/// Probability that a standard normal number is at most `x`.
pub fn normal_cdf(x: f64) -> f64 {
    0.5 * erfc(-x / SQRT_2)
}

/// The `x` at which [`normal_cdf`] is `p`: infinite at 0 and 1, NaN outside `[0, 1]`. Acklam's rational approximation
/// followed by two of Halley's steps.
pub fn normal_quantile(p: f64) -> f64 {
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    if p == 1.0 {
        return f64::INFINITY;
    }
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    let mut x = if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(
            &[
                -7.784_894_002_430_293e-3,
                -3.223_964_580_411_365e-1,
                -2.400_758_277_161_838,
                -2.549_732_539_343_734,
                4.374_664_141_464_968,
                2.938_163_982_698_783,
            ],
            q,
        ) / polynomial(
            &[7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416, 1.0],
            q,
        )
    } else {
        let q = p - 0.5;
        let r = q * q;
        q * polynomial(
            &[
                -3.969_683_028_665_376e1,
                2.209_460_984_245_205e2,
                -2.759_285_104_469_687e2,
                1.383_577_518_672_69e2,
                -3.066_479_806_614_716e1,
                2.506_628_277_459_239,
            ],
            r,
        ) / polynomial(
            &[
                -5.447_609_879_822_406e1,
                1.615_858_368_580_409e2,
                -1.556_989_798_598_866e2,
                6.680_131_188_771_972e1,
                -1.328_068_155_288_572e1,
                1.0,
            ],
            r,
        )
    };
    for _ in 0..2 {
        let error = (normal_cdf(x) - p) * (2.0 * PI).sqrt() * (x * x / 2.0).exp();
        x -= error / (1.0 + x * error / 2.0);
    }
    x
}

/// Highest power first.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn equal_scipy() {
        // scipy.special: digamma, gammaln
        for (x, psi, lgamma) in [
            (0.001, -1000.5755719318103, 6.907178885383853),
            (0.05, -20.49784499129987, 2.968879201051731),
            (0.5, -1.9635100260214235, 0.5723649429247),
            (1.0, -0.5772156649015329, 0.0),
            (1.4616321, -4.3514636958769774e-08, -0.12148629053584864),
            (2.0, 0.42278433509846713, 0.0),
            (9.99, 2.250700372831201, 12.779315214350195),
            (10.0, 2.251752589066721, 12.801827480081469),
            (37.5, 3.6109483445963386, 97.5217752228882),
            (10000.0, 9.21029037114285, 82099.71749644238),
        ] {
            assert_relative_eq!(digamma(x), psi, max_relative = 1e-12);
            assert_relative_eq!(ln_gamma(x), lgamma, max_relative = 1e-12, epsilon = 1e-14);
        }
        // scipy.special: ndtr, erfc
        for (x, cdf, complement) in [
            (-8.0, 6.22096057427174e-16, 2.0),
            (-3.0, 0.0013498980316300933, 1.9999779095030015),
            (-1.96, 0.024997895148220435, 1.9944262754648279),
            (-0.1, 0.460172162722971, 1.1124629160182848),
            (0.0, 0.5, 1.0),
            (0.3, 0.6179114221889526, 0.6713732405408726),
            (1.0, 0.8413447460685429, 0.15729920705028516),
            (1.99, 0.9767045322497881, 0.004888586800383002),
            (2.01, 0.9777844055705686, 0.004475150644751764),
            (2.5, 0.9937903346742238, 0.00040695201744495886),
            (5.0, 0.9999997133484281, 1.5374597944280347e-12),
            (9.0, 1.0, 4.137031746513811e-37),
        ] {
            assert_relative_eq!(normal_cdf(x), cdf, max_relative = 1e-12);
            assert_relative_eq!(erfc(x), complement, max_relative = 1e-12);
        }
        // scipy.special: ndtri
        for (p, x) in [
            (1e-12, -7.034483825301131),
            (0.001, -3.090232306167813),
            (0.02, -2.053748910631823),
            (0.025, -1.9599639845400545),
            (0.3, -0.5244005127080409),
            (0.6, 0.2533471031357997),
            (0.975, 1.959963984540054),
            (0.999, 3.090232306167813),
        ] {
            assert_relative_eq!(normal_quantile(p), x, max_relative = 1e-11);
        }
    }

    #[test]
    fn recurrences_hold() {
        for i in 1..200 {
            let x = f64::from(i) * 0.173;
            assert_relative_eq!(digamma(x + 1.0), digamma(x) + 1.0 / x, epsilon = 1e-12);
            assert_relative_eq!(ln_gamma(x + 1.0), ln_gamma(x) + x.ln(), epsilon = 1e-11);
            let p = f64::from(i) / 200.0;
            assert_relative_eq!(normal_cdf(normal_quantile(p)), p, max_relative = 1e-13);
        }
    }

    #[test]
    fn edges_are_defined() {
        assert!(digamma(0.0).is_nan() && digamma(-1.5).is_nan() && ln_gamma(f64::NAN).is_nan());
        assert_eq!((normal_cdf(f64::NEG_INFINITY), normal_cdf(f64::INFINITY)), (0.0, 1.0));
        assert_eq!(normal_quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(normal_quantile(1.0), f64::INFINITY);
        assert_eq!(normal_quantile(0.5), 0.0);
        assert!(normal_quantile(-0.1).is_nan() && normal_quantile(f64::NAN).is_nan());
    }
}
