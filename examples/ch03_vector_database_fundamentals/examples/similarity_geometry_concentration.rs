//! Listing 3.3: three measures of one pair, and distances that crowd together as dimensions are added, unless the data are real.
//!
//! cargo run --release --example similarity_geometry_concentration

use eas_data::synth::vectors::{manifold, manifold_queries};
use eas_eval::geometry::{Concentration, PairGeometry, concentration, cube_cv};
use eas_report::{Chart, Table, num};
use eas_tensor::Matrix;
use eas_tensor::intrinsic::intrinsic_dimension;
use eas_tensor::rng::SplitMix64;
use eas_text::glosses::gloss_vectors;

const POINTS: usize = 1_000;
const QUERIES: usize = 100;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let pair = PairGeometry::of(&[0.5, 0.3, 0.8, 0.1], &[0.6, 0.4, 0.7, 0.2])?;
    let mut table = Table::new(["measure", "value"]);
    for (name, value) in [
        ("Euclidean distance", pair.l2),
        ("cosine", pair.cosine),
        ("inner product", pair.dot),
        ("angle, degrees", pair.angle),
        ("Euclidean distance of the unit vectors", pair.l2_unit),
        ("projection of a on b", pair.projection),
    ] {
        table.row([name.into(), num(value, 9)]);
    }
    page.table("a = (0.5, 0.3, 0.8, 0.1) and b = (0.6, 0.4, 0.7, 0.2)", &table);

    // The cube: independent coordinates, nothing to find.
    let dims = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];
    let mut rng = SplitMix64::new(page.seed());
    let (mut cube, mut gaussian) = (Vec::new(), Vec::new());
    let mut table =
        Table::new(["dimension", "cube: CV", "theory", "cube: contrast", "Gaussian: CV", "Gaussian: contrast"]);
    for dim in dims {
        let spread = |draw: &mut dyn FnMut() -> f64| -> anyhow::Result<Concentration> {
            let mut sample = |rows: usize| {
                let values = (0..rows * dim).map(|_| draw() as f32).collect();
                Matrix::from_vec(rows, dim, values)
            };
            Ok(concentration(&sample(POINTS)?, &sample(QUERIES)?)?)
        };
        let uniform = spread(&mut || rng.uniform())?;
        let normal = spread(&mut || rng.normal())?;
        table.row([
            dim.into(),
            num(uniform.cv, 5),
            num(cube_cv(dim), 5),
            num(uniform.contrast, 3),
            num(normal.cv, 5),
            num(normal.contrast, 3),
        ]);
        cube.push(uniform);
        gaussian.push(normal);
    }
    page.table("1,000 independent points, 100 queries: spread of the distances", &table);

    // Data with structure: eight hidden dimensions in 32, and sentences in 256.
    let seed = page.seed();
    let surface = (manifold(seed, POINTS, 32, 8, 0.02), manifold_queries(seed, QUERIES, 32, 8, 0.02));
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let glosses = gloss_vectors(encoder.as_ref(), POINTS, QUERIES, 42)?;
    let mut table = Table::new(["data", "dimension", "CV", "contrast", "mean / nearest", "intrinsic dimension"]);
    let mut real = Vec::new();
    for (name, (points, queries)) in [("manifold, 8 hidden", &surface), ("glosses", &glosses)] {
        let spread = concentration(points, queries)?;
        let hidden = intrinsic_dimension(points, 2)?;
        table.row([
            name.into(),
            points.dim().into(),
            num(spread.cv, 4).within(0.005),
            num(spread.contrast, 3).within(0.05),
            num(spread.mean_to_nearest, 3).within(0.02),
            num(hidden, 2).within(0.3),
        ]);
        real.push((spread, hidden));
    }
    page.table("Points with structure", &table);
    let line = |spreads: &[Concentration]| -> Vec<(f64, f64)> {
        let contrasts = spreads.iter().map(|spread| spread.contrast);
        dims.iter().map(|&dim| dim as f64).zip(contrasts).collect()
    };
    let chart = Chart::lines("Farthest over nearest, less one", "dimension", "contrast")
        .series("uniform cube", line(&cube))
        .series("Gaussian", line(&gaussian))
        .level("manifold of 8 dimensions in 32", real[0].0.contrast)
        .level("glosses in 256", real[1].0.contrast)
        .log_x()
        .log_y();
    page.chart("contrast.svg", &chart)?;
    page.text(
        "Independent coordinates average out: the more there are, the more all distances are the same, and the nearest neighbour is \
         hardly nearer than the farthest. What decides is not the number of coordinates but of hidden dimensions.",
    );

    // On unit vectors squared distance is 2 - 2 cosine: both rank alike.
    let anchor: Vec<f64> = glosses.1.row(0).iter().map(|&x| f64::from(x)).collect();
    let mut ranked: Vec<(f64, f64)> = Vec::new();
    for row in glosses.0.iter_rows() {
        let row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        let pair = PairGeometry::of(&anchor, &row)?;
        ranked.push((pair.l2_unit, pair.cosine));
    }
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));

    for (sentence, value, expected, tolerance) in [
        ("Euclidean distance of the pair", pair.l2, 0.2, 1e-9),
        ("cosine", pair.cosine, 0.980_816_477, 1e-9),
        ("inner product", pair.dot, 1.0, 1e-9),
        ("angle in degrees", pair.angle, 11.240_834, 1e-6),
        ("distance of the unit vectors", pair.l2_unit, 0.195_875_076, 1e-9),
        ("which is sqrt(2 - 2 cosine)", pair.l2_unit, (2.0 - 2.0 * pair.cosine).sqrt(), 1e-12),
        ("projection of a on b", pair.projection, 0.975_900, 1e-6),
    ] {
        page.claim(sentence).close(value, expected, tolerance);
    }
    page.claim("the pair with a zero vector is refused")
        .fails(PairGeometry::of(&[0.0; 4], &[0.6, 0.4, 0.7, 0.2]), "no direction");
    let theory = dims.iter().zip(&cube).filter(|(dim, _)| **dim >= 32);
    page.claim("the cube's CV is within 5% of sqrt(1.4 / d) / 2 from 32 dimensions on")
        .all(theory, |(dim, spread)| (spread.cv / cube_cv(*dim) - 1.0).abs() < 0.05);
    for (at, expected) in [(4, 0.105_78), (6, 0.053_25), (8, 0.025_75), (9, 0.018_39)] {
        page.claim(format!("the cube's CV at {} dimensions", dims[at])).close(cube[at].cv, expected, 0.05 * expected);
    }
    page.claim("its contrast falls with every step").all(cube.windows(2), |w| w[1].contrast < w[0].contrast);
    page.claim("contrast at 8 dimensions").close(cube[2].contrast, 3.91, 0.5);
    page.claim("and at 1,024").close(cube[9].contrast, 0.116, 0.01);
    page.claim("a surface of 8 dimensions in 32 has at least twice the contrast of the cube of 32")
        .at_least(real[0].0.contrast, 2.0 * cube[4].contrast);
    page.claim("its intrinsic dimension is found").between(real[0].1, 6.0, 11.0);
    page.claim("Euclidean distance and cosine rank 1,000 unit vectors alike")
        .all(ranked.windows(2), |w| w[0].1 >= w[1].1 - 1e-12);
    page.finish()
}
