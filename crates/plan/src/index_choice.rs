//! Which index can meet a requirement: constraints over profiles that were measured, not a ladder of if and else.

use crate::PlanError;
use crate::error::{non_negative, positive, rate};

/// The kinds of index to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IndexKind {
    /// Every vector compared.
    Flat,
    /// A graph over f32 vectors.
    Hnsw,
    /// A graph over 8-bit vectors.
    HnswSq8,
    /// Inverted lists of product codes.
    IvfPq,
    /// The same, with the best candidates compared anew by vectors on disk.
    IvfPqRerank,
    /// Inverted lists of f32 vectors whose centres are found through a graph.
    IvfHnsw,
}

impl IndexKind {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Hnsw => "HNSW",
            Self::HnswSq8 => "HNSW-SQ8",
            Self::IvfPq => "IVF-PQ",
            Self::IvfPqRerank => "IVF-PQ + re-rank",
            Self::IvfHnsw => "IVF-HNSW",
        }
    }
}

/// What an index must do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requirement {
    /// Vectors.
    pub rows: f64,
    /// Values a vector.
    pub dim: u32,
    /// Memory there is, in GiB.
    pub memory_gib: f64,
    /// Recall@10 that must be reached.
    pub recall: f64,
    /// 99th percentile of the latency that may be taken, in milliseconds.
    pub p99_ms: f64,
    /// Inserts and deletes a second.
    pub update_rate: f64,
}

impl Requirement {
    fn check(&self) -> Result<(), PlanError> {
        positive("rows", self.rows)?;
        positive("dimension", f64::from(self.dim))?;
        non_negative("memory", self.memory_gib)?;
        rate("recall", self.recall)?;
        positive("p99", self.p99_ms)?;
        non_negative("update rate", self.update_rate)?;
        Ok(())
    }

    /// GiB of the vectors as f32.
    pub fn raw_gib(&self) -> f64 {
        self.rows * f64::from(self.dim) * 4.0 / GIB
    }
}

/// The book's example: 100 billion vectors of 768 values in 50,000 GiB, at recall 0.95 in 80 ms.
pub const LISTED: Requirement =
    Requirement { rows: 1e11, dim: 768, memory_gib: 50_000.0, recall: 0.95, p99_ms: 80.0, update_rate: 0.0 };

const GIB: f64 = (1u64 << 30) as f64;

/// What an index was measured to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Profile {
    /// The index.
    pub kind: IndexKind,
    /// Bytes of memory a value of a vector: 4 for f32, 1 for 8 bits, the share of a code byte for codes.
    pub bytes_per_value: f64,
    /// Bytes of memory a vector on top, whatever its dimension: ids, links, codes' overhead.
    pub bytes_per_vector: f64,
    /// The best recall@10 it was measured to reach.
    pub recall_max: f64,
    /// 99th percentile of its latency at that recall, in milliseconds.
    pub p99_ms: f64,
    /// Inserts and deletes a second it can take.
    pub update_rate_max: f64,
}

impl Profile {
    /// GiB of memory for a requirement's vectors.
    pub fn memory_gib(&self, need: &Requirement) -> f64 {
        need.rows * (self.bytes_per_value * f64::from(need.dim) + self.bytes_per_vector) / GIB
    }

    /// What the index can't do, as sentences; nothing when it meets the requirement.
    pub fn shortfalls(&self, need: &Requirement) -> Vec<String> {
        let mut short = Vec::new();
        if self.recall_max < need.recall {
            short.push(format!("reaches recall {:.3}, not {:.3}", self.recall_max, need.recall));
        }
        if self.p99_ms > need.p99_ms {
            short.push(format!("takes {:.1} ms, not {:.1}", self.p99_ms, need.p99_ms));
        }
        if self.update_rate_max < need.update_rate {
            short.push(format!("takes {:.0} updates a second, not {:.0}", self.update_rate_max, need.update_rate));
        }
        let memory = self.memory_gib(need);
        if memory > need.memory_gib {
            short.push(format!("needs {memory:.0} GiB, there are {:.0}", need.memory_gib));
        }
        short
    }
}

/// An index that meets the requirement.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The index.
    pub kind: IndexKind,
    /// GiB of memory it takes.
    pub memory_gib: f64,
    /// Settings to start from.
    pub params: &'static str,
    /// Why it, and why not the others.
    pub reasons: Vec<String>,
}

/// No index meets the requirement.
#[derive(Debug, Clone, PartialEq)]
pub struct Infeasible {
    /// The index that falls short in the fewest respects, and of those the one that needs least memory.
    pub nearest: IndexKind,
    /// What it falls short in.
    pub shortfalls: Vec<String>,
    /// Times the memory that would do, when memory is all that is lacking.
    pub machines_needed: Option<u64>,
}

/// The index with least memory among those whose profile meets every part of the requirement. Equal memory goes to the profile that comes
/// first. An error for a requirement that is none, or without profiles.
///
/// ```
/// use eas_plan::index_choice::{IndexKind, Profile, Requirement, recommend};
///
/// let graph = Profile {
///     kind: IndexKind::Hnsw,
///     bytes_per_value: 4.0,
///     bytes_per_vector: 140.0,
///     recall_max: 0.99,
///     p99_ms: 10.0,
///     update_rate_max: 1e4,
/// };
/// let need = Requirement { rows: 1e6, dim: 768, memory_gib: 4.0, recall: 0.95, p99_ms: 50.0, update_rate: 10.0 };
/// assert_eq!(recommend(&need, &[graph])?.unwrap().kind, IndexKind::Hnsw);
/// let small = Requirement { memory_gib: 1.0, ..need };
/// assert_eq!(recommend(&small, &[graph])?.unwrap_err().machines_needed, Some(3));
/// # Ok::<(), eas_plan::PlanError>(())
/// ```
pub fn recommend(need: &Requirement, profiles: &[Profile]) -> Result<Result<Choice, Infeasible>, PlanError> {
    need.check()?;
    let mut judged: Vec<(&Profile, Vec<String>, f64)> =
        profiles.iter().map(|profile| (profile, profile.shortfalls(need), profile.memory_gib(need))).collect();
    judged.sort_by(|a, b| a.1.len().cmp(&b.1.len()).then(a.2.total_cmp(&b.2)));
    let Some((best, shortfalls, memory_gib)) = judged.first() else {
        return Err(PlanError::Missing("a profile"));
    };
    if shortfalls.is_empty() {
        let mut reasons = vec![format!("{} needs least memory of those that can", best.kind.name())];
        reasons.extend(
            judged
                .iter()
                .filter(|other| !other.1.is_empty())
                .map(|other| format!("{} {}", other.0.kind.name(), other.1.join(" and "))),
        );
        return Ok(Ok(Choice {
            kind: best.kind,
            memory_gib: *memory_gib,
            params: params(best.kind, need.recall),
            reasons,
        }));
    }
    let only_memory = shortfalls.len() == 1 && *memory_gib > need.memory_gib && need.memory_gib > 0.0;
    Ok(Err(Infeasible {
        nearest: best.kind,
        shortfalls: shortfalls.clone(),
        machines_needed: only_memory.then(|| (memory_gib / need.memory_gib).ceil() as u64),
    }))
}

fn params(kind: IndexKind, recall: f64) -> &'static str {
    let high = recall > 0.95;
    match kind {
        IndexKind::Flat => "none",
        IndexKind::Hnsw | IndexKind::HnswSq8 if high => "M 32, efConstruction 200, ef 200",
        IndexKind::Hnsw | IndexKind::HnswSq8 => "M 16, efConstruction 100, ef 100",
        IndexKind::IvfPq => "a code byte for 8 values, nprobe 1/8 of the lists",
        IndexKind::IvfPqRerank if high => "a code byte for 8 values, nprobe 1/4 of the lists, 200 re-ranked",
        IndexKind::IvfPqRerank => "a code byte for 8 values, nprobe 1/8 of the lists, 100 re-ranked",
        IndexKind::IvfHnsw => "sqrt(N) lists, nprobe 1/8 of them",
    }
}

/// The ladder as the book has it: memory of HNSW 1.7 times and of IVF-PQ 0.03 times the vectors; HNSW where it fits, recall must reach 0.95
/// and 100 ms are allowed; IVF-PQ where there is less than 0.3 times HNSW's memory and recall of 0.90 or more is asked for, however high;
/// a hybrid of the two from recall 0.93 on. `None` where no rule applies.
pub fn as_listed(need: &Requirement) -> Result<Option<IndexKind>, PlanError> {
    need.check()?;
    let hnsw = LISTED_HNSW * need.raw_gib();
    Ok(if need.memory_gib >= hnsw && need.recall >= 0.95 && need.p99_ms <= 100.0 {
        Some(IndexKind::Hnsw)
    } else if need.memory_gib < 0.3 * hnsw && need.recall >= 0.90 {
        Some(IndexKind::IvfPq)
    } else if need.memory_gib >= 0.3 * hnsw && need.recall >= 0.93 {
        Some(IndexKind::IvfHnsw)
    } else {
        None
    })
}

/// HNSW's memory over that of the vectors, as listed.
pub const LISTED_HNSW: f64 = 1.7;
/// IVF-PQ's memory over that of the vectors, as listed.
pub const LISTED_IVFPQ: f64 = 0.03;

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;
    use eas_tensor::rng::SplitMix64;

    use super::*;

    fn profiles() -> Vec<Profile> {
        [
            (IndexKind::Flat, 4.0, 8.0, 1.0, 900.0, 1e5),
            (IndexKind::Hnsw, 4.0, 150.0, 0.995, 20.0, 2e3),
            (IndexKind::HnswSq8, 1.0, 154.0, 0.98, 20.0, 2e3),
            (IndexKind::IvfPq, 0.125, 8.0, 0.85, 30.0, 1e4),
            (IndexKind::IvfPqRerank, 0.125, 8.0, 0.985, 60.0, 1e4),
            (IndexKind::IvfHnsw, 4.0, 12.0, 0.99, 50.0, 1e4),
        ]
        .map(|(kind, bytes_per_value, bytes_per_vector, recall_max, p99_ms, update_rate_max)| Profile {
            kind,
            bytes_per_value,
            bytes_per_vector,
            recall_max,
            p99_ms,
            update_rate_max,
        })
        .to_vec()
    }

    #[test]
    fn the_listed_example_gets_an_index_that_can() {
        let need = LISTED;
        assert_relative_eq!(need.raw_gib(), 286_102.295, epsilon = 1e-3);
        assert_relative_eq!(LISTED_HNSW * need.raw_gib(), 486_373.901, epsilon = 1e-3);
        assert_relative_eq!(LISTED_IVFPQ * need.raw_gib(), 8_583.069, epsilon = 1e-3);
        assert_relative_eq!(0.3 * LISTED_HNSW * need.raw_gib(), 145_912.170, epsilon = 1e-3);
        assert_eq!(as_listed(&need).unwrap(), Some(IndexKind::IvfPq));
        let ours = recommend(&need, &profiles()).unwrap().unwrap();
        assert_eq!(ours.kind, IndexKind::IvfPqRerank);
        assert!(ours.reasons.iter().any(|reason| reason == "IVF-PQ reaches recall 0.850, not 0.950"));
        // The hole between the listed rules.
        let hole = Requirement { memory_gib: 200_000.0, recall: 0.92, ..need };
        assert_eq!(as_listed(&hole).unwrap(), None);
        assert!(recommend(&hole, &profiles()).unwrap().is_ok());
    }

    #[test]
    fn no_choice_breaks_the_requirement_and_more_memory_never_hurts() {
        let mut rng = SplitMix64::new(12);
        for _ in 0..10_000 {
            let need = Requirement {
                rows: 10f64.powf(4.0 + 8.0 * rng.uniform()),
                dim: 64 << rng.below(5),
                memory_gib: 10f64.powf(-2.0 + 8.0 * rng.uniform()),
                recall: 0.5 + 0.5 * rng.uniform(),
                p99_ms: 10f64.powf(3.2 * rng.uniform()),
                update_rate: 10f64.powf(5.0 * rng.uniform()),
            };
            let richer = Requirement { memory_gib: need.memory_gib * (1.0 + rng.uniform()), ..need };
            match recommend(&need, &profiles()).unwrap() {
                Ok(choice) => {
                    let profile = profiles().into_iter().find(|p| p.kind == choice.kind).unwrap();
                    assert!(profile.shortfalls(&need).is_empty() && profile.recall_max >= need.recall);
                    assert!(recommend(&richer, &profiles()).unwrap().is_ok());
                }
                Err(not) => {
                    assert!(!not.shortfalls.is_empty());
                    assert!(profiles().iter().all(|p| !p.shortfalls(&need).is_empty()));
                    if let Some(machines) = not.machines_needed {
                        let enough = Requirement { memory_gib: need.memory_gib * machines as f64, ..need };
                        assert!(recommend(&enough, &profiles()).unwrap().is_ok());
                    }
                }
            }
        }
    }

    #[test]
    fn bad_input_is_refused() {
        let need = LISTED;
        assert!(recommend(&need, &[]).is_err());
        for bad in [
            Requirement { rows: 0.0, ..need },
            Requirement { recall: 1.1, ..need },
            Requirement { memory_gib: f64::NAN, ..need },
            Requirement { p99_ms: 0.0, ..need },
        ] {
            assert!(recommend(&bad, &profiles()).is_err() && as_listed(&bad).is_err());
        }
        let nothing = Requirement { memory_gib: 0.0, ..need };
        assert_eq!(recommend(&nothing, &profiles()).unwrap().unwrap_err().machines_needed, None);
    }
}
