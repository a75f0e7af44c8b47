//! Listing 1.8: what 256 trillion vectors cost to keep, step by step, and how far they can be compressed.
//!
//! cargo run --release --example trillion_row_storage_cost

use eas_ann::{FlatIndex, Hnsw, HnswConfig, Metric, VectorIndex, recall};
use eas_plan::scale::{EntityGroup, StorageCostModel, entity_inventory, hnsw_link_bytes};
use eas_report::{Chart, Table, money, num, pct};
use eas_tensor::Matrix;
use eas_tensor::quant::{Binary, Codec, F16, Int8, Pq, PqConfig};
use eas_text::glosses::gloss_vectors;

const K: usize = 10;

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let model = StorageCostModel::default();
    let cost = model.evaluate()?;
    page.text(
        "256 trillion vectors of 768 f32 values, compressed 6:1, at 2 cents a GB and month, half as much again for the \
         index. Storage only: computing, replicas and requests come on top.",
    );
    let mut table = Table::new(["step", "size", "dollars"]);
    table.row(["raw vectors, PB".into(), num(cost.raw_pb, 3), "".into()]);
    table.row(["compressed, PB".into(), num(cost.stored_pb, 3), "".into()]);
    table.row(["a month".into(), "".into(), money(cost.monthly_raw)]);
    table.row(["a month with the index".into(), "".into(), money(cost.monthly_with_index)]);
    table.row(["a year".into(), "".into(), money(cost.annual)]);
    page.table("The bill", &table);

    let inventory = entity_inventory();
    let total: u128 = inventory.iter().map(EntityGroup::rows).sum();
    let mut table = Table::new(["what there is", "how many", "rows each", "trillion rows"]);
    for group in &inventory {
        let trillions = group.rows() as f64 / 1e12;
        table.row([group.name.into(), group.entities.into(), group.rows_each.into(), num(trillions, 1)]);
    }
    table.row(["all".into(), "".into(), "".into(), num(total as f64 / 1e12, 1)]);
    page.table("Is there so much to embed? By this count 200.5 trillion, less than the 256", &table);

    let swings = model.sensitivity(0.5)?;
    let tornado = swings.iter().fold(
        Chart::tornado("Each assumption half down and half up", "dollars a year", cost.annual),
        |chart, swing| chart.bar(swing.assumption, swing.low, swing.high),
    );
    page.chart("tornado.svg", &tornado)?;

    // How far can real vectors be compressed? Glosses of WordNet, and the true neighbours of 200 other glosses.
    let encoder = eas_text::encoder::load(page.encoder().name())?;
    let rows = page.size(20_000, 100_000);
    let (vectors, queries) = page.timed("encode glosses", || gloss_vectors(encoder.as_ref(), rows, 200, 42))?;
    let dim = vectors.dim();
    let exact = flat(&vectors)?.search_batch(&queries, K)?;
    let pq = PqConfig { subspaces: 32, iterations: 6, sample: 2_048, ..PqConfig::default() };
    let product = page.timed("train PQ-32", || Pq::train(&vectors, &pq))?;
    let codecs: [(&str, Box<dyn Codec>); 4] = [
        ("f16", Box::new(F16::new(dim))),
        ("int8", Box::new(Int8::new(dim))),
        ("PQ-32", Box::new(product)),
        ("binary", Box::new(Binary::new(dim))),
    ];
    let mut table = Table::new(["code", "bytes a vector", "compression", "recall@10", "256T a year"]);
    let mut row = |name: &str, bytes: usize, recall: f64| -> anyhow::Result<()> {
        let compression = (4 * dim) as f64 / bytes as f64;
        let annual = StorageCostModel { compression, ..model }.evaluate()?.annual;
        table.row([name.into(), bytes.into(), num(compression, 1), num(recall, 3).within(0.005), money(annual)]);
        Ok(())
    };
    row("f32", 4 * dim, 1.0)?;
    let mut recalls = Vec::new();
    for (name, codec) in &codecs {
        let found = flat(&codec.reconstruct(&vectors)?)?.search_batch(&queries, K)?;
        recalls.push(recall(&found, &exact));
        row(name, codec.bytes_per_vector(), recall(&found, &exact))?;
    }
    page.table("Measured on glosses: what each code keeps of the true ten neighbours", &table);
    page.text(
        "6:1 lies between int8, which loses next to nothing, and product quantization, which needs the full vectors for a \
         second look at its candidates.",
    );

    // A narrow beam builds a poor graph quickly; the room for its links is that of a good one.
    let config = HnswConfig { m: 16, ef_construction: 8, ..HnswConfig::default() };
    let mut graph = Hnsw::new(dim, Metric::Cosine, config)?;
    let ids: Vec<u64> = (0..vectors.rows() as u64).collect();
    page.timed("build HNSW", || graph.add(&ids, &vectors))?;
    let measured = graph.bytes().links as f64 / vectors.rows() as f64;
    let (sixteen, fat) = (hnsw_link_bytes(16, 4)?, hnsw_link_bytes(48, 4)?);
    let mut table = Table::new(["links", "bytes a vector", "of 3,072 B raw", "of 512 B compressed"]);
    for (name, bytes) in [("M 16, measured", measured), ("M 16, formula", sixteen), ("M 48, formula", fat)] {
        table.row([name.into(), num(bytes, 3), pct(bytes / 3_072.0, 1), pct(bytes / 512.0, 1)]);
    }
    page.table("The index half: \"+50%\" is true of compressed vectors only", &table);

    page.claim("raw vectors take 786,432,000,000,000,000 bytes").equals(cost.raw_bytes, 786_432_000_000_000_000);
    page.claim("which is 786.432 PB").close(cost.raw_pb, 786.432, 1e-9);
    page.claim("compressed they take 131.072 PB").close(cost.stored_pb, 131.072, 1e-9);
    page.claim("that costs $2,621,440 a month").close(cost.monthly_raw, 2_621_440.0, 1e-6);
    page.claim("with the index $3,932,160 a month").close(cost.monthly_with_index, 3_932_160.0, 1e-6);
    page.claim("and $47,185,920 a year").close(cost.annual, 47_185_920.0, 1e-5);
    page.claim("the inventory is 200.5 trillion rows").equals(total, 200_500_000_000_000);
    page.claim("2^48 is 9.95% above 256 trillion").close(
        (1u64 << 48) as f64 / model.rows as f64,
        1.099_511_627_776,
        1e-12,
    );
    let annual = |model: StorageCostModel| model.evaluate().map(|cost| cost.annual);
    let doubled = [
        annual(StorageCostModel { rows: 2 * model.rows, ..model })?,
        annual(StorageCostModel { dim: 2 * model.dim, ..model })?,
        annual(StorageCostModel { price_gb_month: 2.0 * model.price_gb_month, ..model })?,
        annual(StorageCostModel { compression: model.compression / 2.0, ..model })?,
    ];
    page.claim("twice the rows, dimension or price, or half the compression, doubles the bill")
        .all(doubled, |bill| (bill / cost.annual - 2.0).abs() < 1e-12);
    page.claim("no assumption moves the bill more than compression").equals(swings[0].assumption, "compression");
    page.claim("for $20 million a year the compression must be 14.155776").close(
        model.compression_for(20e6)?,
        14.155_776,
        1e-6,
    );
    page.claim("measured links take what the formula says, within 2%").between(measured / sixteen, 0.98, 1.02);
    page.claim("at M 48 links are 12.6% of a raw vector").close(fat / 3_072.0, 0.126, 5e-4);
    page.claim("and 75.8% of a compressed one").close(fat / 512.0, 0.758, 5e-4);
    page.claim("less room never finds more: f16, int8, PQ-32, binary")
        .all(recalls.windows(2), |pair| pair[0] >= pair[1]);
    page.claim("int8 keeps 97% of the neighbours at a quarter of the bytes").within(0.005).at_least(recalls[1], 0.97);
    page.claim("a compression of 0 is refused")
        .fails(StorageCostModel { compression: 0.0, ..model }.evaluate(), "compression is 0");
    page.finish()
}

fn flat(vectors: &Matrix) -> anyhow::Result<FlatIndex> {
    let mut index = FlatIndex::new(vectors.dim(), Metric::Cosine)?;
    index.add(&(0..vectors.rows() as u64).collect::<Vec<_>>(), vectors)?;
    Ok(index)
}
