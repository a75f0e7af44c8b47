//! Listing 3.11: inverted lists of product codes; why residuals are coded, what tables compute, what re-ranking repairs.
//!
//! cargo run --release --example ivf_pq_from_scratch

use std::collections::BTreeSet;

use ch03_vector_database_fundamentals::product_codes::{K, Shape, curve, decoded_distances};
use eas_ann::{FlatIndex, Metric, VectorIndex, recall};
use eas_data::synth::{clusters, clusters_queries};
use eas_report::{Chart, Table, num, pct};

const PROBES: [usize; 6] = [1, 2, 4, 8, 16, 64];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let (n, seed) = (page.size(20_000, 200_000), page.seed());
    let vectors = clusters(seed, n, 32, 64, 0.6);
    let queries = clusters_queries(seed, 300, 32, 64, 0.6);
    let ids: Vec<u64> = (0..n as u64).collect();
    let mut flat = FlatIndex::new(32, Metric::SquaredL2)?;
    flat.add(&ids, &vectors)?;
    let truth = flat.search_batch(&queries, K)?;

    // Recall by probes, of residuals and of raw vectors, beside FAISS on the same vectors.
    let mut table = Table::new(["lists", "m", "nprobe", "residual", "in FAISS", "raw", "in FAISS ", "codes scanned"]);
    let mut chart = Chart::lines("Inverted lists of product codes", "nprobe", "recall@10").log_x();
    let (mut differences, mut at_eight, mut rises) = (vec![], vec![], vec![]);
    let mut made = Vec::new();
    for (lists, m) in [(64, 8), (128, 16)] {
        let shape = Shape::new(lists, m);
        let mut index = page.timed(format!("{lists} lists, m {m}"), || shape.build(&vectors, seed))?;
        let points = curve(&mut index, &PROBES, &queries, &truth)?;
        let of_raw = curve(&mut shape.raw().build(&vectors, seed)?, &PROBES, &queries, &truth)?;
        made.push(index);
        for (point, raw) in points.iter().zip(&of_raw) {
            table.row([
                lists.into(),
                m.into(),
                point.nprobe.into(),
                num(point.recall, 3).within(0.01),
                num(point.faiss, 3),
                num(raw.recall, 3).within(0.01),
                num(raw.faiss, 3),
                num(point.scanned, 0).within(30.0),
            ]);
            differences.extend([point.recall - point.faiss, raw.recall - raw.faiss]);
        }
        at_eight.push((points[3].recall, of_raw[3].recall));
        rises.extend(points.windows(2).map(|pair| pair[1].recall - pair[0].recall));
        chart = chart.series(format!("{lists} lists, m {m}"), points.iter().map(|p| (p.nprobe, p.recall)));
        chart = chart.series(format!("{lists} lists, m {m}, raw"), of_raw.iter().map(|p| (p.nprobe, p.recall)));
    }
    page.table("Recall@10 by probes, ours and that of FAISS 1.15", &table);
    page.chart("ivfpq.svg", &chart)?;

    // Re-ranking, and the same bytes in parts of four bits.
    let mut index = made.swap_remove(0);
    index.set_nprobe(8)?;
    let reranked = Shape::new(64, 8).reranked(100).build(&vectors, seed)?;
    let four_bits = Shape::new(64, 16).four_bits().build(&vectors, seed)?;
    let mut table = Table::new(["64 lists, 8 probes", "recall@10", "bytes of codes", "of the vectors"]);
    let mut repaired = 0.0;
    for (name, index) in
        [("16 parts of 4 bits", &four_bits), ("8 parts of 8 bits", &index), ("the same, best 100 re-ranked", &reranked)]
    {
        repaired = recall(&index.search_batch(&queries, K)?, &truth);
        let codes = index.bytes().codes;
        let share = pct(codes as f64 / (n * 128) as f64, 2);
        table.row([name.into(), num(repaired, 3).within(0.01), codes.into(), share]);
    }
    page.table("What re-ranking repairs", &table);

    // What is behind an answer: a sum of table entries is the distance to a decoded vector.
    let same_codes = ids.iter().all(|&id| index.code(id) == reranked.code(id));
    index.set_nprobe(64)?;
    let query = queries.row(0);
    let mut exhaustive = decoded_distances(&index, query, n);
    let hits = index.search(query, 100)?;
    let error = hits.iter().map(|hit| (hit.score - exhaustive[hit.id as usize].score).abs()).fold(0.0, f32::max);
    exhaustive.sort_by(|a, b| Metric::SquaredL2.best_first(a, b));
    let mut in_lists: Vec<u64> = (0..64).flat_map(|list| index.list_ids(list).unwrap_or_default()).copied().collect();
    in_lists.sort_unstable();
    let gone: BTreeSet<u64> = truth.iter().map(|hits| hits[0].id).collect();
    index.remove(&gone.iter().copied().collect::<Vec<_>>())?;
    let seen_again = index.search_batch(&queries, 100)?.iter().flatten().filter(|hit| gone.contains(&hit.id)).count();

    // A hundred billion vectors by arithmetic.
    let memory = Shape::new(65_536, 96).config(seed).memory(1e11, 768);
    let gib = |bytes: f64| bytes / f64::from(1 << 30);
    let mut table = Table::new(["1e11 vectors of 768 values", "GiB", "times smaller"]);
    for (name, bytes) in [
        ("f32 vectors", memory.raw),
        ("codes and centres, as listed", memory.codes_and_centres),
        ("with 8-byte ids and codebooks", memory.total),
    ] {
        table.row([name.into(), num(gib(bytes), 6), num(memory.raw / bytes, 6)]);
    }
    page.table("65,536 lists, 96 parts of 8 bits: 32 times smaller, not 96", &table);

    page.claim("recall is within 0.05 of FAISS at every setting").all(&differences, |d| d.abs() <= 0.05);
    for ((residual, raw), name) in at_eight.iter().zip(["64 lists, m 8", "128 lists, m 16"]) {
        page.claim(format!("{name}: coding residuals beats coding vectors by 0.05")).at_least(*residual, raw + 0.05);
    }
    page.claim("recall does not fall with nprobe").all(&rises, |rise| *rise >= -0.005);
    page.claim("re-ranking 100 candidates finds at least 98 % of the neighbours")
        .within(0.005)
        .at_least(repaired, 0.98);
    page.claim("a sum of table entries is the distance to the decoded vector").within(1e-4).at_most(error, 1e-4);
    page.claim("probing every list equals scanning every code")
        .all(hits.iter().zip(&exhaustive), |(a, b)| (a.score - b.score).abs() < 1e-4);
    page.claim("every id is in exactly one list").equals(in_lists == ids, true);
    page.claim("16 parts of 4 bits take 8 bytes").equals(four_bits.bytes().codes, 8 * n);
    page.claim("removed ids are gone").equals((seen_again, index.len()), (0, n - gone.len()));
    page.claim("the same seed gives the same codes").equals(same_codes, true);
    let listed = memory.codes_and_centres;
    page.claim(
        "a hundred billion vectors take 8,940.884216 GiB of codes and centres, 9,685.943008 with ids and codebooks",
    )
    .all([(listed, 8_940.884_216), (memory.total, 9_685.943_008)], |(b, r)| (gib(b) - r).abs() < 1e-6);
    page.claim("31.999329 and 29.537887 times less than the vectors")
        .all([(listed, 31.999_329), (memory.total, 29.537_887)], |(b, r)| (memory.raw / b - r).abs() < 1e-6);
    page.claim("codes and centres save 96.874935 %").close(1.0 - listed / memory.raw, 0.968_749_35, 1e-8);
    page.finish()
}
