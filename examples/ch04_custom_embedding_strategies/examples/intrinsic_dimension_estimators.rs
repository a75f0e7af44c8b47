//! Listing 4.14: the dimension that data have by themselves, linear and local, and how each estimate fails.
//!
//! cargo run --release --example intrinsic_dimension_estimators

use ch04_custom_embedding_strategies::shapes::{cube, rotated, sphere, swiss_roll};
use eas_data::uci;
use eas_report::{Chart, Table, num};
use eas_tensor::intrinsic::{Averaging, NeighbourDistances, participation_ratio, variance_dimension};
use eas_tensor::pca::Pca;
use eas_tensor::{Matrix, TensorError};
use eas_text::glosses::gloss_vectors;

/// Every estimate of one set of rows.
struct Estimates {
    pca: [usize; 4],
    participation: f64,
    near: NeighbourDistances,
    two_nn: f64,
}

impl Estimates {
    fn of(rows: &Matrix) -> Result<Self, TensorError> {
        let all = Pca::fit(rows, rows.dim())?;
        let mut pca = [0; 4];
        for (dimension, share) in pca.iter_mut().zip([0.8, 0.9, 0.95, 0.99]) {
            *dimension = variance_dimension(&all.variances, all.total_variance, share)?;
        }
        let near = NeighbourDistances::of(rows, 20)?;
        Ok(Self { pca, participation: participation_ratio(&all.variances)?, two_nn: near.two_nn()?, near })
    }

    fn local(&self, k: usize, averaging: Averaging) -> Result<f64, TensorError> {
        self.near.mle(k, averaging, false)
    }
}

fn main() -> anyhow::Result<()> {
    use Averaging::{Harmonic, Mean, Median};

    let mut page = eas_report::listing!();
    let seed = page.seed();
    let digits = uci::digits()?.features;
    let iris = uci::iris()?.features;
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let glosses = gloss_vectors(encoder.as_ref(), page.size(2_000, 10_000), 1, seed)?.0;
    let roll = swiss_roll(3_000, seed)?;

    let mut table =
        Table::new(["data, of dim", "truth", "PCA", "partic.", "TwoNN", "k=5", "k=10", "k=20", "mean", "median"]);
    let mut results = Vec::new();
    for (name, truth, rows) in [
        ("digits", "?", &digits),
        ("iris", "?", &iris),
        ("sphere S^4", "4", &sphere(2_000, 4, 64, seed)?),
        ("sphere S^9", "9", &sphere(2_000, 9, 64, seed)?),
        ("cube [0,1]^5", "5", &cube(2_000, 5, 64, seed)?),
        ("Swiss roll", "2", &roll),
        ("glosses", "?", &glosses),
    ] {
        let own = Estimates::of(rows)?;
        let real = truth == "?" && name != "glosses";
        let shown = |x: f64| if real { num(x, 2) } else { num(x, 2).within(0.05) };
        let mut cells = vec![format!("{name}, {}", rows.dim()).into(), truth.into(), own.pca[2].into()];
        cells.extend([shown(own.participation), shown(own.two_nn)]);
        for k in [5, 10, 20] {
            cells.push(shown(own.local(k, Averaging::Harmonic)?));
        }
        cells.push(shown(own.local(10, Averaging::Mean)?));
        cells.push(shown(own.local(10, Averaging::Median)?));
        table.row(cells);
        results.push(own);
    }
    page.table(
        "PCA for 95 % of the variance; harmonic mean of the local estimates by k; their mean and median for k = 10",
        &table,
    );
    page.text(
        "PCA counts the directions that a set takes up, the local estimate those in which a row can move. A rolled-up sheet fills \
         three directions and has two; the sphere S^4 fills five and has four. The larger of both, which the book proposes as the least dimension, is PCA's in every line but \
         that of iris. The local estimate is too low for many dimensions and few rows (S^9), and belongs to a scale: it moves with k.",
    );
    let [digits_all, iris_all, s4, s9, cube5, roll_all, _] = &results[..] else { anyhow::bail!("seven sets") };

    page.section("What a repeated row does");
    // The book's version: nothing is removed, ln(T_k / 0) is infinite, the row's dimension 0, and it stays in the median.
    let naive = |k: usize| -> Vec<f64> {
        let at = |i: usize| -> f64 {
            let distance = |j: usize| -> f64 {
                iris.row(i).iter().zip(iris.row(j)).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
            };
            let mut near: Vec<f64> = (0..iris.rows()).filter(|&j| j != i).map(distance).collect();
            near.sort_by(f64::total_cmp);
            (k - 1) as f64 / near[..k - 1].iter().map(|t| (near[k - 1] / t).ln()).sum::<f64>()
        };
        (0..iris.rows()).map(at).collect()
    };
    let zeros = naive(10).iter().filter(|&&dimension| dimension == 0.0).count();
    page.text(format!(
        "Iris has {} row that repeats another. Left in, the logarithm of its distance makes the dimension 0 at {zeros} rows; \
         removed, {} are left.",
        iris_all.near.duplicates(),
        iris.rows() - iris_all.near.duplicates()
    ));
    let eight = Matrix::from_vec(8, 1, (0..8).map(|i| f64::from(i).powf(1.5) as f32).collect())?;
    let line = NeighbourDistances::of(&eight, 3)?;
    let turned = NeighbourDistances::of(&rotated(&digits, seed)?, 10)?;
    let tripled = Matrix::from_vec(digits.rows(), digits.dim(), digits.as_slice().iter().map(|x| 3.0 * x).collect())?;
    let tripled = NeighbourDistances::of(&tripled, 10)?.mle(10, Averaging::Harmonic, false)?;

    let spectrum = Pca::fit(&digits, 64)?;
    let mut sum = 0.0;
    let cumulative = spectrum.explained_ratio().into_iter().enumerate().map(|(i, share)| {
        sum += share;
        (i + 1, sum)
    });
    let cumulative: Vec<(usize, f64)> = cumulative.collect();
    let captured = cumulative[28].1;
    let chart = Chart::lines("Digits: variance along the first k components", "k", "share")
        .series("variance", cumulative)
        .level("95 %", 0.95);
    page.chart("variance.svg", &chart)?;

    let local = |k, averaging| digits_all.local(k, averaging);
    page.claim("digits: PCA at .80, .90, .95, .99").equals(digits_all.pca, [13, 21, 29, 41]);
    page.claim("29 components have this share").close(captured, 0.954_796_524_6, 1e-6);
    page.claim("participation ratio").close(digits_all.participation, 13.168_511, 1e-4);
    page.claim("mean, k = 10").close(local(10, Mean)?, 8.801_892, 1e-4);
    page.claim("median, k = 10").close(local(10, Median)?, 8.079_693, 1e-4);
    page.claim("harmonic, k = 10").close(local(10, Harmonic)?, 7.419_510, 1e-4);
    page.claim("harmonic, k = 5").close(local(5, Harmonic)?, 8.109_948, 1e-4);
    page.claim("harmonic, k = 20").close(local(20, Harmonic)?, 6.844_815, 1e-4);
    page.claim("two nearest neighbours").close(digits_all.two_nn, 9.049_285, 1e-4);
    page.claim("iris without its copy: harmonic").close(iris_all.local(10, Harmonic)?, 3.184_944, 1e-4);
    page.claim("median").close(iris_all.local(10, Median)?, 3.314_179, 1e-4);
    page.claim("PCA at .95").equals(iris_all.pca[2], 2);
    page.claim("iris with its copy has two rows of dimension 0").equals(zeros, 2);
    page.claim("eight points of a line, k = 3: mean").close(line.mle(3, Mean, false)?, 1.716_769_6, 1e-5);
    page.claim("median").close(line.mle(3, Median, false)?, 1.689_375_4, 1e-5);
    page.claim("harmonic").close(line.mle(3, Harmonic, false)?, 1.461_261_5, 1e-5);
    page.claim("S^4 has 4 dimensions").close(s4.local(10, Harmonic)?, 4.0, 0.25);
    page.claim("S^9 comes out too low").close(s9.local(10, Harmonic)?, 8.2, 0.5);
    page.claim("the cube too, a little").between(cube5.local(10, Harmonic)?, 4.2, 5.0);
    page.claim("the rolled sheet has 2").close(roll_all.local(10, Harmonic)?, 2.0, 0.1);
    page.claim("where PCA finds 3").equals(roll_all.pca[2], 3);
    page.claim("a rotation changes nothing").close(turned.mle(10, Harmonic, false)?, local(10, Harmonic)?, 1e-5);
    page.claim("nor does scale").close(tripled, local(10, Harmonic)?, 1e-6);
    page.claim("neighbours at no distance are refused")
        .fails(NeighbourDistances::of(&Matrix::from_rows(&[[1.0]; 9])?, 3), "the 1 distinct rows");
    page.finish()
}
