//! The faults of listing 3.16, and the cluster they are injected into.

use std::path::Path;

use eas_ops::clock::{HOUR, MINUTE, Micros, SECOND};
use eas_pipeline::chaos::drill::{Drill, DrillConfig, DrillReport, Fault};

/// Twelve hours of faults: name, time, fault. Shard `s` starts on nodes `s`, `s + 1` and `s + 2`; by the ninth hour, after
/// copies have been made anew elsewhere, nodes 4 and 5 share one shard.
pub fn twelve_hours() -> [(&'static str, Micros, Fault); 11] {
    let slow = Fault::SlowCopy { shard: 3, copy: 1, every: 100 * SECOND, lasts: 20 * MINUTE };
    let faults = [
        ("process crash", HOUR, Fault::Crash(0)),
        ("disk error", 2 * HOUR, Fault::DiskError { shard: 1, copy: 1 }),
        ("node cut off", 3 * HOUR, Fault::Partition(3, 10 * MINUTE)),
        ("flipped byte", 4 * HOUR, Fault::FlipByte { shard: 2, copy: 0 }),
        ("shuffled ids", 5 * HOUR, Fault::ShuffledIds { shard: 0, copy: 1 }),
        ("NaN query", 6 * HOUR, Fault::NanQuery),
        ("k of a billion", 6 * HOUR + 5 * MINUTE, Fault::HugeK),
        ("deadly filter", 6 * HOUR + 10 * MINUTE, Fault::DeepFilter),
        ("slow replica", 7 * HOUR, slow),
        ("node lost", 9 * HOUR, Fault::LoseNode(4)),
        ("another lost", 9 * HOUR + 30 * SECOND, Fault::LoseNode(5)),
    ];
    // Seven seconds past, so that no fault falls on the tick of its detector.
    faults.map(|(name, at, fault)| (name, at + 7 * SECOND, fault))
}

/// Runs a cluster of 1,000 vectors, whose files are kept in `folder`, with faults at their times.
pub fn drill(folder: &Path, hours: u64, faults: &[(Micros, Fault)], seed: u64) -> anyhow::Result<DrillReport> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    Ok(Drill::new(DrillConfig::new(folder, seed), 1_000)?.run(hours * HOUR, faults)?)
}
