//! Readers of a store whose replicas lag behind (listing 3.14).

use eas_ann::{Hit, recall};
use eas_ops::clock::{MILLISECOND, Micros, SECOND};
use eas_pipeline::replica::store::{Answer, Client, Lag, Mode, ReadPolicy, ReplicatedStore, StoreConfig};
use eas_pipeline::replica::{ReplicaError, VectorCopy, Write};
use eas_tensor::Matrix;
use eas_tensor::rng::SplitMix64;

/// Dimension of the vectors.
pub const DIM: usize = 32;
/// Products whose vectors are updated in turn.
pub const PRODUCTS: u64 = 200;
/// Vectors that a read asks for.
const K: usize = 10;

/// `rows` vectors of standard normal values, shape `(rows, DIM)`.
pub fn vectors(rows: usize, seed: u64) -> Matrix {
    let mut rng = SplitMix64::new(seed);
    let values = (0..rows * DIM).map(|_| rng.normal() as f32).collect();
    Matrix::from_vec(rows, DIM, values).unwrap_or_else(|_| Matrix::zeros(rows, DIM))
}

/// What the readers saw of the writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Staleness {
    /// Reads at each time after the commit that didn't find the new vector.
    pub missed: Vec<usize>,
    /// Hash of the run.
    pub trace: u64,
}

/// Updates one product every 50 ms and searches for the new vector at each of `after`, under one policy.
pub fn staleness(
    config: StoreConfig,
    updates: &Matrix,
    policy: ReadPolicy,
    after: &[Micros],
    seed: u64,
) -> Result<Staleness, ReplicaError> {
    let mut store = ReplicatedStore::new(config, seed)?;
    let mut clients: Vec<Client> = (0..updates.rows()).map(|write| Client::near(write % 3)).collect();
    // Position 0 is the write itself, then its reads.
    let mut plan: Vec<(Micros, usize, usize)> = Vec::new();
    for write in 0..updates.rows() {
        let at = write as Micros * 50 * MILLISECOND;
        plan.push((at, write, 0));
        plan.extend(after.iter().zip(1..).map(|(delay, position)| (at + delay, write, position)));
    }
    plan.sort_unstable();
    let mut missed = vec![0; after.len()];
    for (at, write, position) in plan {
        store.run_until(at)?;
        let (product, vector) = (write as u64 % PRODUCTS, updates.row(write));
        if position == 0 {
            store.write(&mut clients[write], Write::upsert(product, vector))?;
        } else {
            let found = store.read(&clients[write], policy, vector, 1)?.hits;
            let current = found.first().is_some_and(|hit| hit.id == product && hit.score == 0.0);
            missed[position - 1] += usize::from(!current);
        }
    }
    Ok(Staleness { missed, trace: store.trace_hash() })
}

/// What clients met while the network was split.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Share of reads and writes that were answered.
    pub available: f64,
    /// Share of the answered reads that differ from a fully synced index.
    pub stale: f64,
    /// Recall@10 of the answered reads against the fully synced index.
    pub recall: f64,
    /// Recall@10 of the answers that carry the staleness flag.
    pub flagged_recall: Option<f64>,
    /// Concurrent writes found while healing.
    pub conflicts: usize,
    /// Whether after healing all nodes hold what the fully synced index holds.
    pub converged: bool,
}

/// A minute and a half of updates and searches near all nodes; from 30 s to 60 s one replica is cut off.
pub fn split(mode: Mode, seed: u64) -> Result<Split, ReplicaError> {
    let mut store = ReplicatedStore::new(StoreConfig { mode, ..StoreConfig::new(DIM) }, seed)?;
    let mut rng = SplitMix64::stream(seed, 1);
    let updates = vectors(2_000, seed);
    let mut synced = VectorCopy::new(DIM, StoreConfig::new(DIM).metric)?;
    let (mut asked, mut answered) = (0usize, 0usize);
    let (mut found, mut exact, mut flagged): (Vec<Vec<Hit>>, Vec<Vec<Hit>>, Vec<usize>) = Default::default();
    for step in 0..4_500u64 {
        let at = step * 20 * MILLISECOND;
        store.run_until(at)?;
        match at {
            _ if at == 30 * SECOND => store.split(&[0, 0, 1])?,
            _ if at == 60 * SECOND => store.heal(),
            _ => (),
        }
        let in_split = (30 * SECOND..60 * SECOND).contains(&at);
        let mut client = Client::near(rng.below(3));
        if step % 4 == 0 {
            let write = Write::upsert(rng.below(500) as u64, updates.row(rng.below(updates.rows())));
            let written = store.write(&mut client, write.clone());
            asked += usize::from(in_split);
            if let Ok(receipt) = written {
                answered += usize::from(in_split);
                synced.apply(&write, receipt.stamp)?;
            }
        } else if in_split {
            let query = updates.row(rng.below(updates.rows()));
            asked += 1;
            if let Ok(answer) = store.read(&client, ReadPolicy::Any, query, K) {
                answered += 1;
                if answer.staleness.is_some() {
                    flagged.push(found.len());
                }
                found.push(answer.hits);
                exact.push(synced.search(query, K)?);
            }
        }
    }
    store.run_until(150 * SECOND)?;
    let pick = |lists: &[Vec<Hit>]| flagged.iter().map(|&i| lists[i].clone()).collect::<Vec<_>>();
    let stale = found.iter().zip(&exact).filter(|(found, exact)| found != exact).count();
    Ok(Split {
        available: answered as f64 / asked as f64,
        stale: stale as f64 / found.len() as f64,
        recall: recall(&found, &exact),
        flagged_recall: (!flagged.is_empty()).then(|| recall(&pick(&found), &pick(&exact))),
        conflicts: store.conflicts(),
        converged: store.digests().iter().all(|&digest| digest == synced.digest()),
    })
}

/// Reads that returned a deleted id, by time since the delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletes {
    /// Deletes, each followed by one read at both times.
    pub deleted: usize,
    /// Returned after 50 ms.
    pub early: usize,
    /// Returned after one second or more.
    pub late: usize,
}

/// Stores vectors, waits three seconds, then deletes one every second; some of the first are still on their way to a replica.
pub fn deletes(seed: u64) -> Result<Deletes, ReplicaError> {
    let mut store = ReplicatedStore::new(StoreConfig::new(DIM), seed)?;
    let rows = vectors(500, seed);
    let mut client = Client::near(0);
    let mut result = Deletes { deleted: rows.rows(), early: 0, late: 0 };
    for (id, row) in rows.iter_rows().enumerate() {
        store.write(&mut client, Write::upsert(id as u64, row))?;
    }
    store.run_until(3 * SECOND)?;
    for (id, row) in rows.iter_rows().enumerate() {
        store.write(&mut client, Write::delete(id as u64))?;
        let returned = |store: &mut ReplicatedStore, wait: Micros| -> Result<usize, ReplicaError> {
            store.run_until(store.now() + wait)?;
            let hits = store.read(&Client::near(id % 3), ReadPolicy::Any, row, K)?.hits;
            Ok(usize::from(hits.iter().any(|hit| hit.id == id as u64)))
        };
        result.early += returned(&mut store, 50 * MILLISECOND)?;
        result.late += returned(&mut store, 950 * MILLISECOND)?;
    }
    Ok(result)
}

/// Nodes that lack a write 1, 4 and 5 seconds after it when the lag is always 5 seconds.
pub fn behind_a_fixed_lag(seed: u64) -> Result<Vec<usize>, ReplicaError> {
    let config = StoreConfig { lag: Lag::Fixed(5 * SECOND), ..StoreConfig::new(DIM) };
    let mut store = ReplicatedStore::new(config, seed)?;
    store.write(&mut Client::near(2), Write::upsert(1, vectors(1, seed).row(0)))?;
    let mut behind = Vec::new();
    for t in [1, 4, 5] {
        store.run_until(t * SECOND)?;
        let lacks = |&node: &usize| store.copy(node).is_none_or(|copy| copy.stamp(1).is_none());
        behind.push((0..3).filter(lacks).count());
    }
    Ok(behind)
}

/// What a user sees whose permission is taken back.
#[derive(Debug)]
pub struct Revocation {
    /// Hits of 300 searches near all nodes before.
    pub granted: usize,
    /// And in the 300 after.
    pub revoked: usize,
    /// The answer of a node that is cut off from the authority.
    pub cut_off: Result<Answer, ReplicaError>,
}

/// Grants a permission, revokes it, and asks a cut-off node.
pub fn revocation(seed: u64) -> Result<Revocation, ReplicaError> {
    const USER: u64 = 7;
    let mut store = ReplicatedStore::new(StoreConfig::new(DIM), seed)?;
    let rows = vectors(1, seed);
    store.write(&mut Client::near(0), Write::upsert(1, rows.row(0)))?;
    store.run_until(30 * SECOND)?;
    let search =
        |store: &mut ReplicatedStore, home| store.read_as(USER, &Client::near(home), ReadPolicy::Any, rows.row(0), 1);
    let hits = |store: &mut ReplicatedStore| -> Result<usize, ReplicaError> {
        let answers = (0..300).map(|i| Ok(search(store, i % 3)?.hits.len()));
        answers.sum()
    };
    store.grant(USER);
    let granted = hits(&mut store)?;
    store.revoke(USER);
    let revoked = hits(&mut store)?;
    store.split(&[0, 0, 1])?;
    Ok(Revocation { granted, revoked, cut_off: search(&mut store, 2) })
}
