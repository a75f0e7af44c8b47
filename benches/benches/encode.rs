//! Micro-benchmarks of the matrix product and of the encoders; `cargo bench -p eas-bench --bench encode`.

use criterion::{Criterion, Throughput};
use eas_data::wordnet::WordNet;
use eas_tensor::Matrix;
use eas_tensor::gemm::matmul_transposed;
use eas_tensor::rng::SplitMix64;

fn products(c: &mut Criterion) {
    let mut rng = SplitMix64::new(1);
    let mut random = |rows: usize, dim: usize| {
        let mut m = Matrix::zeros(rows, dim);
        m.as_mut_slice().fill_with(|| rng.normal() as f32);
        m
    };
    let mut group = c.benchmark_group("matmul_transposed");
    for (n, m, dim) in [(192, 1536, 384), (1024, 1024, 256)] {
        let (a, b) = (random(n, dim), random(m, dim));
        group.throughput(Throughput::Elements((2 * n * m * dim) as u64));
        group.bench_function(format!("{n} x {m} x {dim}"), |bench| {
            bench.iter(|| matmul_transposed(&a, &b));
        });
    }
    group.finish();
}

fn encoders(c: &mut Criterion) {
    let Ok(wordnet) = WordNet::load() else { return };
    let glosses: Vec<&str> = wordnet.synsets().iter().step_by(57).map(|s| s.gloss.as_str()).collect();
    let mut group = c.benchmark_group("encode");
    for (name, count) in [("static", 2_048), ("minilm", 128)] {
        let Ok(encoder) = eas_text::encoder::load(name) else {
            eprintln!("skipped: {name} isn't here, run scripts/fetch_models.sh");
            continue;
        };
        group.sample_size(10).throughput(Throughput::Elements(count as u64));
        group.bench_function(name, |bench| {
            bench.iter(|| encoder.encode(&glosses[..count]));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    products(&mut criterion);
    encoders(&mut criterion);
    criterion.final_summary();
}
