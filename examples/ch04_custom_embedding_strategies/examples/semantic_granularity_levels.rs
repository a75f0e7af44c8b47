//! Listing 4.3: how many categories fit in how many dimensions: the needed dimension grows with the logarithm of their number.
//!
//! cargo run --release --example semantic_granularity_levels

use eas_plan::granularity::{Granularity, recommend};
use eas_report::{Chart, Table, num};
use eas_tensor::capacity::{minimal_dimension, nearest_centroid_accuracy, simulate};

const DIMS: [usize; 6] = [8, 16, 32, 64, 128, 256];
const NOISE: f64 = 2.0;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let mut table = Table::new(["granularity", "dimensions", "examples", "tells apart"]);
    for granularity in Granularity::ALL {
        let ((low, high), (from, to)) = (granularity.dims(), granularity.examples());
        let examples = to.map_or(format!("{} and more", short(from)), |to| format!("{} to {}", short(from), short(to)));
        table.row([
            format!("{granularity:?}").into(),
            format!("{low} to {high}").into(),
            examples.into(),
            granularity.example().into(),
        ]);
    }
    page.table("The book's four levels", &table);

    page.section("Categories as random directions");
    page.text(
        "Each category has a random unit vector; an item is its category's plus a random direction twice as long. Share of 1,000 items \
         whose nearest category is their own.",
    );
    let simulated = page.size(vec![10, 100, 1_000], vec![10, 100, 1_000, 10_000]);
    let mut table = Table::new(["categories", "dimension", "theory", "simulation"]);
    let mut chart = Chart::lines("Nearest category is the right one", "dimensions", "share of items").log_x();
    let (mut theory, mut drawn, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
    for categories in [10, 100, 1_000, 10_000] {
        let mut row = Vec::new();
        for dim in DIMS {
            let expected = nearest_centroid_accuracy(categories, dim, NOISE)?;
            let cell = if simulated.contains(&categories) {
                let share = simulate(categories, dim, NOISE, 1_000, page.seed() + dim as u64)?;
                gaps.push((expected, (share - expected).abs()));
                drawn.push((categories, dim, share));
                num(share, 3)
            } else {
                "-".into()
            };
            table.row([categories.into(), dim.into(), num(expected, 3), cell]);
            row.push(expected);
        }
        let name = format!("{categories} categories");
        chart = chart.series(name, DIMS.iter().zip(&row).map(|(&dim, &share)| (dim as f64, share)));
        theory.push(row);
    }
    page.table("In theory and drawn", &table);
    page.chart("accuracy.svg", &chart)?;

    page.section("Dimensions for 95%");
    let noises = [1.0, 2.0, 4.0, 8.0];
    let counts = [10, 100, 1_000, 10_000, 100_000, 1_000_000];
    let mut table = Table::new(["categories", "noise 1", "noise 2", "noise 4", "noise 8", "level at noise 8"]);
    for categories in counts {
        let mut cells = vec![categories.into()];
        for noise in noises {
            cells.push(recommend(categories, noise)?.dim.into());
        }
        cells.push(format!("{:?}", recommend(categories, 8.0)?.granularity).into());
        table.row(cells);
    }
    page.table("A thousand times the categories cost less than twice the noise", &table);
    page.text(
        "The book says that 10,000 categories can't fit in 128 dimensions. Random directions hardly overlap there: nine of ten items \
         find their category, and 147 dimensions are enough for 95%. What asks for many dimensions is noise, and categories that are \
         not random but resemble each other.",
    );
    let needed = counts[..4].iter().map(|&c| minimal_dimension(c, NOISE, 0.95)).collect::<Result<Vec<_>, _>>()?;
    let steps: Vec<usize> = needed.windows(2).map(|pair| pair[1] - pair[0]).collect();

    for ((categories, row), expected) in ["10", "100", "1,000", "10,000"].iter().zip(&theory).zip([
        [0.423, 0.615, 0.835, 0.972, 0.999, 1.0],
        [0.105, 0.236, 0.514, 0.861, 0.994, 1.0],
        [0.019, 0.064, 0.230, 0.639, 0.970, 1.0],
        [0.003, 0.014, 0.080, 0.387, 0.899, 1.0],
    ]) {
        let gaps = row.iter().zip(expected).map(|(a, b)| (a - b).abs());
        page.claim(format!("theory for {categories} categories, greatest error"))
            .within(1e-4)
            .at_most(gaps.fold(0.0, f64::max), 0.001);
    }
    page.claim("theory grows with the dimension").all(&theory, |row| row.windows(2).all(|pair| pair[0] < pair[1]));
    page.claim("and falls with the number of categories")
        .all(0..6, |d| theory.windows(2).all(|pair| pair[1][d] <= pair[0][d]));
    page.claim("simulation is near the theory, and nearer above 0.97")
        .all(&gaps, |&(expected, gap)| gap <= if expected < 0.97 { 0.12 } else { 0.03 });
    let rises = drawn.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    page.claim("simulated accuracy never falls by more than chance with the dimension")
        .all(rises, |pair| pair[1].2 >= pair[0].2 - 0.005);
    let falls = drawn.iter().zip(&drawn[DIMS.len()..]);
    page.claim("and never rises by more with the categories").all(falls, |(few, many)| many.2 <= few.2 + 0.005);
    page.claim("dimensions for 95%").equals(needed, [54, 87, 117, 147]);
    page.claim("ten times the categories cost about thirty dimensions").all(steps, |step| (28..=34).contains(&step));
    page.claim("10,000 categories in 128 dimensions").greater(theory[3][4], 0.89);
    page.claim("twice the noise costs more than 1,000 times the categories")
        .greater(recommend(10, 4.0)?.dim as f64, recommend(10_000, 2.0)?.dim as f64);
    page.finish()
}

/// 10k, 1M.
fn short(count: u64) -> String {
    if count >= 1_000_000 { format!("{}M", count / 1_000_000) } else { format!("{}k", count / 1_000) }
}
