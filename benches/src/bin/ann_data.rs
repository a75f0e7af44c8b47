//! Makes the data that indexes are compared on: splits an encoded file into vectors and queries, generates synthetic vectors, and
//! computes true neighbours.
//!
//! cargo run --release -p eas-bench --bin ann_data -- split --in emb.npy --queries 10000 --out glosses

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use eas_bench::sweep::{By, exact, read_vectors};
use eas_data::synth::vectors;
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;
use std::path::{Path, PathBuf};

/// Shuffles an encoded file, generates vectors, or computes true neighbours. NAME in the outputs is what --out says:
/// NAME_base.npy and NAME_queries.npy.
#[derive(Parser)]
struct Flags {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Shuffles the rows of a file by the seed; the last of them become the queries
    Split {
        /// The float `.npy` file
        #[arg(long = "in")]
        input: PathBuf,
        #[arg(long, default_value_t = 42)]
        seed: u64,
        /// How many rows become queries
        #[arg(long, default_value_t = 10_000)]
        queries: usize,
        /// Beginning of the names of the two files
        #[arg(long)]
        out: String,
    },
    /// Unit vectors around centres: `unit(centre + sigma * noise)`, with queries of the same kind
    Clustered {
        #[command(flatten)]
        shape: Shape,
        /// Number of centres
        #[arg(long, default_value_t = 10_000)]
        clusters: usize,
        /// Length of the noise that is added to a centre of length 1
        #[arg(long, default_value_t = 0.5)]
        sigma: f64,
    },
    /// Vectors drawn uniformly from the cube and scaled to length 1: no structure that an index could use
    Uniform {
        #[command(flatten)]
        shape: Shape,
        #[arg(long, default_value_t = 42)]
        seed: u64,
    },
    /// The ids of the true neighbours of each query, as an int64 `.npy`
    Truth {
        #[arg(long)]
        base: PathBuf,
        #[arg(long)]
        queries: PathBuf,
        #[arg(long, value_enum, default_value_t = By::Dot)]
        metric: By,
        #[arg(long, default_value_t = 10)]
        k: usize,
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Args)]
struct Shape {
    #[arg(long)]
    rows: usize,
    #[arg(long)]
    dim: usize,
    #[arg(long, default_value_t = 1_000)]
    queries: usize,
    /// Beginning of the names of the two files
    #[arg(long)]
    out: String,
}

fn main() -> Result<()> {
    match Flags::parse().task {
        Task::Split { input, seed, queries, out } => {
            let all = read_vectors(&input)?;
            let (base, queries) = split(&all, queries, seed)?;
            write(&out, &base, &queries)
        }
        Task::Clustered { shape, clusters, sigma } => {
            ensure!(clusters > 0, "--clusters is 0, must be at least 1");
            let base = vectors::clustered(shape.rows, shape.dim, clusters, sigma);
            let queries = vectors::clustered_queries(shape.queries, shape.dim, clusters, sigma);
            write(&shape.out, &base, &queries)
        }
        Task::Uniform { shape, seed } => {
            let all = vectors::unit_cube(seed, shape.rows + shape.queries, shape.dim);
            let rows: Vec<usize> = (0..all.rows()).collect();
            let (base, queries) = rows.split_at(shape.rows);
            write(&shape.out, &all.select(base), &all.select(queries))
        }
        Task::Truth { base, queries, metric, k, out } => {
            let (base, queries) = (read_vectors(&base)?, read_vectors(&queries)?);
            eas_data::npy::write_ids(&out, &exact(&base, &queries, metric.metric(), k)?)?;
            Ok(())
        }
    }
}

/// All rows in an order drawn by `seed`, cut so that the last `queries` of them are the second matrix.
fn split(all: &Matrix, queries: usize, seed: u64) -> Result<(Matrix, Matrix)> {
    ensure!(
        (1..all.rows()).contains(&queries),
        "--queries is {queries}, must be 1 to {} of the {} rows",
        all.rows() - 1,
        all.rows()
    );
    let mut order: Vec<usize> = (0..all.rows()).collect();
    SplitMix64::new(seed).shuffle(&mut order);
    let (base, queries) = order.split_at(all.rows() - queries);
    Ok((all.select(base), all.select(queries)))
}

fn write(out: &str, base: &Matrix, queries: &Matrix) -> Result<()> {
    for (part, matrix) in [("base", base), ("queries", queries)] {
        let path = format!("{out}_{part}.npy");
        eas_data::npy::write_f32(Path::new(&path), matrix).with_context(|| format!("writing {path}"))?;
        println!("{path}: {} x {}", matrix.rows(), matrix.dim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_loses_no_row_and_depends_on_the_seed_only() {
        let all = Matrix::from_vec(50, 1, (0..50).map(|i| i as f32).collect()).unwrap();
        let (base, queries) = split(&all, 10, 7).unwrap();
        assert_eq!((base.rows(), queries.rows()), (40, 10));
        let mut rows: Vec<f32> = [base.as_slice(), queries.as_slice()].concat();
        rows.sort_by(f32::total_cmp);
        assert_eq!(rows, all.as_slice());
        assert_eq!(split(&all, 10, 7).unwrap().1.as_slice(), queries.as_slice());
        assert_ne!(split(&all, 10, 8).unwrap().1.as_slice(), queries.as_slice());
        assert!(split(&all, 0, 7).is_err() && split(&all, 50, 7).is_err());
    }
}
