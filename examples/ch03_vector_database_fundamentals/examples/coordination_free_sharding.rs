//! Listing 3.17: place keys and count without asking anyone, and agree only on what has to be agreed.
//!
//! cargo run --release --example coordination_free_sharding

use ch03_vector_database_fundamentals::coordination::{NODES, disagreeing_routers, gossip, leaders};
use eas_ann::jump_hash;
use eas_pipeline::crdt::{HyperLogLog, Merge, OrSet};
use eas_pipeline::placement::{JumpHash, ModHash, Placement, Rendezvous, moves, stable_hash};
use eas_report::{Table, num, pct};

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed();

    page.section("Placement: every router computes the same owner");
    let keys: Vec<u64> = (1..=100_000).collect();
    let mut table = Table::new(["rule", "change", "keys moved", "share", "least possible"]);
    let mut line = |rule: &str, change: String, moved: usize, least: f64| {
        let share = moved as f64 / keys.len() as f64;
        table.row([rule.into(), change.into(), moved.into(), pct(share, 2), pct(least, 2)]);
    };
    let (mut jumped, mut modded) = (Vec::new(), Vec::new());
    for (from, to) in [(10, 11), (1_000, 1_001)] {
        modded.push(moves(&keys, &ModHash::new(from)?, &ModHash::new(to)?));
        jumped.push(moves(&keys, &JumpHash::new(from)?, &JumpHash::new(to)?));
        let (change, least) = (format!("{from} -> {to} shards"), 1.0 / f64::from(to));
        line("key mod n", change.clone(), modded[modded.len() - 1].moved, least);
        line("jump hash", change, jumped[jumped.len() - 1].moved, least);
    }
    let nodes = Rendezvous::new((0..11).map(|i| format!("node-{i}")))?;
    let fewer = nodes.without("node-4")?;
    let owned: Vec<u64> = keys.iter().copied().filter(|&key| nodes.node_of(key) == "node-4").collect();
    let orphaned: Vec<u64> = keys.iter().copied().filter(|&key| nodes.node_of(key) != fewer.node_of(key)).collect();
    line("rendezvous", "11 nodes, node-4 leaves".into(), orphaned.len(), 1.0 / 11.0);
    page.table("100,000 keys, shards resized", &table);
    let loads = JumpHash::new(10)?.loads(&keys);
    let fullest = *loads.iter().max().unwrap_or(&0) as f64 / (keys.len() / 10) as f64;

    // Text ids: a hash keyed anew in every process sends two routers to different shards; SHA-256 doesn't.
    let differ = disagreeing_routers(10_000, seed)?;
    page.text(format!(
        "Two routers whose hash is keyed per process, as the hash of a string is in Python, disagree on {differ} of 10,000 \
         ids. stable_hash(\"sku-00000\") = {:016x} in every process and every language: it is the start of SHA-256.",
        stable_hash(b"sku-00000")
    ));

    page.section("Counting: gossip that is lost, late and repeated");
    let runs: Vec<_> = (0..1_000).map(|run| gossip(seed + run)).collect();
    let off = |totals: &[i64], truth: i64| totals.iter().any(|&total| total != truth);
    let wrong = runs.iter().filter(|run| off(&run.counters, run.truth)).count();
    let naive_wrong = runs.iter().filter(|run| off(&run.naive, run.truth)).count();
    let mut sketches = vec![HyperLogLog::new(14).ok_or_else(|| anyhow::anyhow!("precision"))?; NODES];
    for (i, key) in keys.iter().enumerate() {
        // Every id is seen by two nodes: adding up the nodes' own counts would give twice the truth.
        sketches[i % NODES].insert(stable_hash(&key.to_le_bytes()));
        sketches[(i + 1) % NODES].insert(stable_hash(&key.to_le_bytes()));
    }
    let summed: f64 = sketches.iter().map(HyperLogLog::estimate).sum();
    let mut union = sketches[0].clone();
    for sketch in &sketches {
        union.merge(sketch);
    }
    // One side removes a tag while the other adds it again, then they meet.
    let mut here = OrSet::default();
    here.add(0, "winter sale");
    let mut there = here.clone();
    here.remove(&"winter sale");
    there.add(1, "winter sale");
    here.merge(&there);

    let mut table = Table::new(["counted by", "what was counted", "truth", "result"]);
    let (totals, ids, n) = ("runs of 1,000 with a wrong total", "distinct ids", keys.len());
    for (counted_by, what, truth, result) in [
        ("PnCounter", totals, 0, wrong as f64),
        ("adding what arrives", totals, 0, naive_wrong as f64),
        ("HyperLogLog, merged", ids, n, union.estimate()),
        ("HyperLogLogs, summed", ids, n, summed),
    ] {
        table.row([counted_by.into(), what.into(), truth.into(), num(result, 0)]);
    }
    page.table("Five nodes", &table);
    page.text(format!(
        "{} messages were sent in the 1,000 runs, {} lost and {} delivered twice.",
        runs.iter().map(|run| run.sent).sum::<usize>(),
        runs.iter().map(|run| run.lost).sum::<usize>(),
        runs.iter().map(|run| run.repeated).sum::<usize>(),
    ));

    page.section("Agreement: the shard map, the leaders, the dimension");
    let leases = leaders(seed)?;
    let mut table = Table::new(["decision", "mechanism", "coordinator?"]);
    for (decision, mechanism, asks) in [
        ("owner of a key", "jump hash or rendezvous of the stable hash", false),
        ("how many views, how many ids", "PnCounter, HyperLogLog", false),
        ("which tags an item has", "OrSet, an add beats a remove", false),
        ("which shard map is current", "epoch under a fencing token", true),
        ("who leads a shard", "lease with a fencing token", true),
        ("the dimension of vectors", "schema change under a token", true),
    ] {
        table.row([decision.into(), mechanism.into(), asks.into()]);
    }
    page.table("Ask only where two answers would be wrong", &table);
    page.text(format!(
        "{} leases were granted to five nodes that now and then pause for longer than their lease. {} writes came after \
         the writer's lease; the fence refused {} of them, those that would have undone a newer leader's. The rest \
         came while nobody had followed.",
        leases.granted, leases.late, leases.refused
    ));

    page.claim("jump hash has its published values").equals(
        [(256, 1024), (42, 57), (0xDEAD_10CC, 666), (1, 1)].map(|(key, n)| jump_hash(key, n)),
        [520, 43, 361, 0],
    );
    page.claim("mod moves 90,901 of 100,000 keys from 10 to 11").equals(modded[0].moved, 90_901);
    page.claim("jump hash moves 9,042, and 114 from 1,000 to 1,001")
        .equals((jumped[0].moved, jumped[1].moved), (9_042, 114));
    page.claim("every key that jump hash moves goes to the new shard")
        .all(&jumped, |change| change.moved == change.to_new_shards);
    page.claim("the fullest of ten jump shards is within 0.37 % of the mean").at_most(fullest, 1.0037);
    page.claim("rendezvous moves the leaving node's keys and no others").equals(orphaned == owned, true);
    page.claim("hashes keyed per process send most ids elsewhere").at_least(differ, 8_500);
    page.claim("counters are right on every node in all 1,000 runs").equals(wrong, 0);
    page.claim("adding what arrives is wrong nearly always").at_least(naive_wrong, 900);
    page.claim("the distinct count is within 3 %").close(union.estimate() / keys.len() as f64, 1.0, 0.03);
    page.claim("an add wins over a concurrent remove").equals(here.contains(&"winter sale"), true);
    page.claim("a leader that wakes after its lease is refused")
        .fails(leases.paused, "token 1 is stale: token 2 has been seen");
    page.claim("no token ever had two holders").all(leases.holders.values(), |holders| holders.len() == 1);
    page.claim("the fence refused writes that would have undone a newer leader's").at_least(leases.refused, 1);
    page.claim("and every write that it let through was in the order of tokens").equals(leases.in_order, true);
    page.finish()
}
