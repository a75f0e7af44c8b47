//! [`MappedHnsw`]: a saved graph that is searched where it lies on the disk.
//!
//! Opening costs the same however large the index is; a search brings in the pages that it looks at, and those of the upper levels, by which every search
//! passes, stay in memory by themselves. Each page is checked against its checksum when it is first looked at; a link or a row that
//! leads nowhere is an error. So a damaged file gives an error or the right answer.

use std::cmp::Reverse;
use std::path::Path;

use eas_tensor::Matrix;
use eas_tensor::mapped::Access;

use crate::AnnError;
use crate::beam::{MAX_NODES, NONE, Near, Pool, Scratch};
use crate::hnsw::{Hnsw, SearchCost};
use crate::index::{Hit, Metric, VectorIndex, prepare_query};
use crate::pages::{Pages, PagesWriter, Section};

const KIND: [u8; 4] = *b"HNSM";
const PARAMETERS: u64 = 11;
/// No graph has as many levels.
const MAX_LEVEL: u64 = 64;

/// An [`Hnsw`] on disk, read-only. A search without filter gives the hits of the index that was written.
///
/// ```
/// use eas_ann::{Hnsw, HnswConfig, MappedHnsw, Metric, VectorIndex};
/// use eas_tensor::Matrix;
///
/// let mut index = Hnsw::new(2, Metric::SquaredL2, HnswConfig::default())?;
/// index.add(&[1, 2, 3], &Matrix::from_rows(&[[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])?)?;
/// let path = std::env::temp_dir().join(format!("eas-mapped-hnsw-{}", std::process::id()));
/// MappedHnsw::write(&index, &path)?;
///
/// let mapped = MappedHnsw::open(&path)?;
/// assert_eq!(mapped.search(&[3.0, 3.0], 2)?, index.search(&[3.0, 3.0], 2)?);
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MappedHnsw {
    pages: Pages,
    path: std::path::PathBuf,
    metric: Metric,
    dim: usize,
    ef: usize,
    nodes: usize,
    live: usize,
    /// Removed nodes that links still lead to.
    stones: bool,
    entry: u32,
    top: usize,
    /// Places for links of a node on the bottom level and above.
    room: [usize; 2],
    ids: Section<u64>,
    /// The live nodes by ascending id.
    by_id: Section<u32>,
    removed: Section<u8>,
    upper_rows: Section<u32>,
    bottom: Section<u32>,
    upper: Section<u32>,
    vectors: Section<f32>,
    pool: Pool<Scratch>,
}

impl MappedHnsw {
    /// Writes `index` to `path` in the form that [`open`](Self::open) maps. The file before is replaced when the new one is on the disk.
    pub fn write(index: &Hnsw, path: &Path) -> Result<(), AnnError> {
        let parts = index.parts();
        let mut by_id: Vec<u32> = (0..parts.ids.len() as u32).filter(|&node| !parts.removed[node as usize]).collect();
        by_id.sort_unstable_by_key(|&node| parts.ids[node as usize]);
        let mut out = PagesWriter::create(path, KIND)?;
        let parameters: [u64; PARAMETERS as usize] = [
            u64::from(index.metric().code()),
            index.dim() as u64,
            index.config().ef as u64,
            parts.ids.len() as u64,
            by_id.len() as u64,
            parts.stones as u64,
            u64::from(parts.entry.unwrap_or(NONE)),
            index.levels() as u64,
            parts.room[0] as u64,
            parts.room[1] as u64,
            parts.upper.len() as u64,
        ];
        out.section("parameters", parameters.map(u64::to_le_bytes))?;
        out.section("ids", parts.ids.iter().map(|id| id.to_le_bytes()))?;
        out.section("by_id", by_id.iter().map(|node| node.to_le_bytes()))?;
        out.section("removed", parts.removed.iter().map(|&removed| [u8::from(removed)]))?;
        out.section("upper_rows", parts.upper_rows.iter().map(|row| row.to_le_bytes()))?;
        out.section("upper", parts.upper.iter().map(|link| link.to_le_bytes()))?;
        out.section("bottom", parts.bottom.iter().map(|link| link.to_le_bytes()))?;
        out.section("vectors", parts.values.iter().map(|value| value.to_le_bytes()))?;
        out.finish()
    }

    /// Opens a file that [`write`](Self::write) made, in a time that doesn't depend on the number of vectors but for the checksums of their pages, 4 bytes for 4096.
    pub fn open(path: &Path) -> Result<Self, AnnError> {
        let pages = Pages::open(path, KIND)?;
        let section = pages.section::<u64>("parameters", PARAMETERS)?;
        let parameters = pages.get(&section, 0..PARAMETERS as usize)?;
        let &[metric, dim, ef, nodes, live, stones, entry, levels, bottom_room, upper_room, upper] = parameters else {
            return Err(pages.corrupt("parameters are missing"));
        };
        let metric = u8::try_from(metric).ok().and_then(Metric::from_code);
        let Some(metric) = metric else {
            return Err(pages.corrupt("unknown metric"));
        };
        let sound = dim > 0
            && nodes <= MAX_NODES as u64
            && live <= nodes
            && ef > 0
            && levels <= MAX_LEVEL
            && if live > 0 { entry < nodes && levels > 0 } else { true }
            && [bottom_room, upper_room].iter().all(|room| (1..=4096).contains(room));
        if !sound {
            return Err(pages.corrupt(format!(
                "{nodes} nodes, {live} of them live, of dimension {dim}, {levels} levels, entry {entry}"
            )));
        }
        // Products saturate: a section of 2^64 - 1 values is in no file.
        Ok(Self {
            metric,
            dim: dim as usize,
            ef: ef as usize,
            nodes: nodes as usize,
            live: live as usize,
            stones: stones > 0,
            entry: entry as u32,
            top: (levels as usize).saturating_sub(1),
            room: [bottom_room as usize, upper_room as usize],
            ids: pages.section("ids", nodes)?,
            by_id: pages.section("by_id", live)?,
            removed: pages.section("removed", nodes)?,
            upper_rows: pages.section("upper_rows", nodes)?,
            upper: pages.section("upper", upper)?,
            bottom: pages.section("bottom", nodes.saturating_mul(bottom_room))?,
            vectors: pages.section("vectors", nodes.saturating_mul(dim))?,
            path: path.to_path_buf(),
            pages,
            pool: Pool::default(),
        })
    }

    /// Checks every page of the file.
    pub fn verify(&self) -> Result<(), AnnError> {
        self.pages.verify()
    }

    /// Tells the system in what order the file will be read; [`Access::Random`] keeps it from reading ahead.
    pub fn advise(&self, access: Access) {
        self.pages.map().advise(access);
    }

    /// The `k` nearest with a beam of at least `ef`, for ids that pass `keep`; and what it cost. As [`Hnsw::search_counted`]; a filter
    /// that makes the walk longer than a scan of all vectors ends in that scan.
    pub fn search_counted(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        keep: Option<&(dyn Fn(u64) -> bool + Sync)>,
    ) -> Result<(Vec<Hit>, SearchCost), AnnError> {
        let query = prepare_query(self.metric, self.dim, query)?;
        self.pool.with(|scratch| self.search_prepared(query.row(0), k, ef, keep, scratch))
    }

    fn search_prepared(
        &self,
        query: &[f32],
        k: usize,
        ef: usize,
        keep: Option<&(dyn Fn(u64) -> bool + Sync)>,
        scratch: &mut Scratch,
    ) -> Result<(Vec<Hit>, SearchCost), AnnError> {
        let mut cost = SearchCost::default();
        if k == 0 || self.live == 0 {
            return Ok((Vec::new(), cost));
        }
        let passes = |node: u32| -> Result<bool, AnnError> {
            let at = node as usize;
            Ok(self.pages.get(&self.removed, at..at + 1)? == [0]
                && keep.map_or(Ok(true), |keep| self.id(node).map(keep))?)
        };
        if k < self.live {
            let most = if keep.is_some() { self.live as u64 } else { u64::MAX };
            let filter: Option<&dyn Fn(u32) -> Result<bool, AnnError>> =
                if keep.is_some() || self.stones { Some(&passes) } else { None };
            let finished = self.walk(query, ef.max(k), filter, most, scratch, &mut cost)?;
            if finished && (scratch.beam.found().len() >= k || scratch.met.len() == self.nodes) {
                return Ok((self.hits(scratch.beam.found(), k)?, cost));
            }
        }
        let mut passing = Vec::new();
        for node in 0..self.nodes as u32 {
            if passes(node)? {
                passing.push(self.near(query, node, &mut cost)?);
            }
        }
        cost.scanned += passing.len() as u64;
        Ok((self.hits(passing.into_iter(), k)?, cost))
    }

    /// Greedily down the upper levels, then with a beam through the bottom one. False when it gave up after `most` distances.
    fn walk(
        &self,
        query: &[f32],
        ef: usize,
        filter: Option<&dyn Fn(u32) -> Result<bool, AnnError>>,
        most: u64,
        scratch: &mut Scratch,
        cost: &mut SearchCost,
    ) -> Result<bool, AnnError> {
        let mut nearest = self.near(query, self.entry, cost)?;
        for level in (1..=self.top).rev() {
            loop {
                let start = nearest;
                for &node in self.links(start.node(), level)? {
                    nearest = nearest.min(self.near(query, node, cost)?);
                }
                cost.upper_expanded += 1;
                if nearest == start {
                    break;
                }
            }
        }
        let Scratch { beam, detours, met, .. } = scratch;
        beam.clear(ef.min(self.nodes));
        detours.clear();
        met.clear(self.nodes);
        met.insert(nearest.node());
        let mut found = nearest;
        let mut links: &[u32] = &[];
        let mut next = 0;
        loop {
            match filter {
                Some(passes) if !passes(found.node())? => detours.push(Reverse(found)),
                _ => beam.push(found),
            }
            // The next link that is new and near enough; where a node has no more, the links of the nearest node not yet expanded.
            found = loop {
                if let Some(&node) = links.get(next) {
                    next += 1;
                    // `near` comes first: it refuses a node that there isn't.
                    if node as usize >= self.nodes || met.insert(node) {
                        let near = self.near(query, node, cost)?;
                        if beam.wants(near) {
                            break near;
                        }
                    }
                    continue;
                }
                let expand = match (beam.peek(), detours.peek()) {
                    (Some(next), Some(&Reverse(detour))) if detour < next => detours.pop().map(|_| detour),
                    (None, Some(&Reverse(detour))) if beam.wants(detour) => detours.pop().map(|_| detour),
                    _ => beam.pop(),
                };
                let Some(expand) = expand else { return Ok(true) };
                if cost.distance_evaluations > most {
                    return Ok(false);
                }
                cost.bottom_expanded += 1;
                links = self.links(expand.node(), 0)?;
                next = 0;
            };
        }
    }

    /// Links of a node on a level, up to the first free place.
    fn links(&self, node: u32, level: usize) -> Result<&[u32], AnnError> {
        let at = node as usize;
        let places = if level == 0 {
            self.pages.get(&self.bottom, at * self.room[0]..(at + 1) * self.room[0])?
        } else {
            let row = self.pages.get(&self.upper_rows, at..at + 1)?[0] as usize + level - 1;
            self.pages.get(&self.upper, row * self.room[1]..(row + 1) * self.room[1])?
        };
        let count = places.iter().position(|&to| to == NONE).unwrap_or(places.len());
        Ok(&places[..count])
    }

    fn id(&self, node: u32) -> Result<u64, AnnError> {
        Ok(self.pages.get(&self.ids, node as usize..node as usize + 1)?[0])
    }

    fn vector(&self, node: u32) -> Result<&[f32], AnnError> {
        let from = node as usize * self.dim;
        self.pages.get(&self.vectors, from..from + self.dim)
    }

    fn near(&self, query: &[f32], node: u32, cost: &mut SearchCost) -> Result<Near, AnnError> {
        cost.distance_evaluations += 1;
        Ok(Near::new(self.metric.distance(query, self.vector(node)?), node))
    }

    fn hits(&self, found: impl Iterator<Item = Near>, k: usize) -> Result<Vec<Hit>, AnnError> {
        let mut hits = found
            .map(|near| Ok(Hit { id: self.id(near.node())?, score: self.metric.score(near.distance()) }))
            .collect::<Result<Vec<Hit>, AnnError>>()?;
        hits.sort_unstable_by(|a, b| self.metric.best_first(a, b));
        hits.truncate(k);
        Ok(hits)
    }

    fn read_only(&self) -> AnnError {
        AnnError::ReadOnly { path: self.path.clone() }
    }
}

impl VectorIndex for MappedHnsw {
    fn dim(&self) -> usize {
        self.dim
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn len(&self) -> usize {
        self.live
    }

    /// False also where the file is damaged; a search or [`MappedHnsw::verify`] says so.
    fn contains(&self, id: u64) -> bool {
        let (mut low, mut high) = (0, self.live);
        while low < high {
            let middle = usize::midpoint(low, high);
            let found = self.pages.get(&self.by_id, middle..middle + 1).and_then(|node| self.id(node[0]));
            match found {
                Ok(found) if found == id => return true,
                Ok(found) if found < id => low = middle + 1,
                Ok(_) => high = middle,
                Err(_) => return false,
            }
        }
        false
    }

    /// Refused: the file is read-only.
    fn add(&mut self, _ids: &[u64], _vectors: &Matrix) -> Result<(), AnnError> {
        Err(self.read_only())
    }

    /// Refused: the file is read-only.
    fn remove(&mut self, _ids: &[u64]) -> Result<usize, AnnError> {
        Err(self.read_only())
    }

    fn search_where(&self, query: &[f32], k: usize, keep: &(dyn Fn(u64) -> bool + Sync)) -> Result<Vec<Hit>, AnnError> {
        Ok(self.search_counted(query, k, self.ef, Some(keep))?.0)
    }

    fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, AnnError> {
        Ok(self.search_counted(query, k, self.ef, None)?.0)
    }

    /// Copies the file, after every page of it was checked.
    fn save(&self, path: &Path) -> Result<(), AnnError> {
        self.verify()?;
        crate::file::replace(path, &[self.pages.map().bytes()])
    }

    fn load(path: &Path) -> Result<Self, AnnError> {
        Self::open(path)
    }
}

#[cfg(test)]
mod tests {
    use eas_tensor::rng::SplitMix64;

    use super::*;
    use crate::HnswConfig;

    fn random(rows: usize, dim: usize, seed: u64) -> Matrix {
        let mut rng = SplitMix64::new(seed);
        Matrix::from_vec(rows, dim, (0..rows * dim).map(|_| rng.normal() as f32).collect()).unwrap()
    }

    fn built(metric: Metric, rows: usize) -> Hnsw {
        let mut index = Hnsw::new(12, metric, HnswConfig::default()).unwrap();
        index.add(&(0..rows as u64).map(|i| i * 7 + 3).collect::<Vec<_>>(), &random(rows, 12, 1)).unwrap();
        index
    }

    #[test]
    fn a_search_gives_what_the_index_in_memory_gives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let queries = random(40, 12, 2);
        for metric in [Metric::Dot, Metric::Cosine, Metric::SquaredL2] {
            let mut index = built(metric, 3_000);
            for step in 0..3 {
                match step {
                    0 => {}
                    1 => drop(index.remove(&(0..600).map(|i| i * 7 + 3).collect::<Vec<_>>()).unwrap()),
                    _ => drop(index.repair()),
                }
                MappedHnsw::write(&index, &path).unwrap();
                let mapped = MappedHnsw::open(&path).unwrap();
                assert_eq!((mapped.len(), mapped.dim(), mapped.metric()), (index.len(), 12, metric));
                for query in queries.iter_rows() {
                    assert_eq!(mapped.search(query, 10).unwrap(), index.search(query, 10).unwrap(), "step {step}");
                    let odd = |id: u64| id % 2 == 1;
                    let hits = mapped.search_where(query, 10, &odd).unwrap();
                    assert!(hits.len() == 10 && hits.iter().all(|hit| hit.id % 2 == 1 && mapped.contains(hit.id)));
                    let rare = mapped.search_where(query, 3, &|id| id == 7 * 2_999 + 3).unwrap();
                    assert_eq!(rare.len(), 1);
                }
                assert_eq!(mapped.contains(3), step == 0);
                assert!(mapped.contains(7 * 2_999 + 3) && !mapped.contains(4) && !mapped.contains(u64::MAX));
                assert_eq!(mapped.search(queries.row(0), 5_000).unwrap().len(), index.len());
                mapped.verify().unwrap();
            }
        }
    }

    #[test]
    fn it_is_read_only_and_can_be_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("index"), dir.path().join("copy"));
        let index = built(Metric::Cosine, 100);
        MappedHnsw::write(&index, &path).unwrap();
        let mut mapped = MappedHnsw::load(&path).unwrap();
        mapped.advise(Access::Random);
        assert!(matches!(mapped.add(&[1], &random(1, 12, 5)), Err(AnnError::ReadOnly { .. })));
        assert!(matches!(mapped.remove(&[3]), Err(AnnError::ReadOnly { .. })));
        mapped.save(&copy).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&copy).unwrap());
        assert!(mapped.search(&[0.0; 3], 1).is_err() && mapped.search(&[f32::NAN; 12], 1).is_err());
        let empty = Hnsw::new(4, Metric::Dot, HnswConfig::default()).unwrap();
        MappedHnsw::write(&empty, &path).unwrap();
        let mapped = MappedHnsw::open(&path).unwrap();
        assert!(mapped.is_empty() && mapped.search(&[1.0; 4], 3).unwrap().is_empty());
        // The file that was mapped before is still whole, though another stands in its place.
    }

    #[test]
    #[ignore = "minutes: builds a graph of a million vectors"]
    fn a_million_vectors_open_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let config = HnswConfig { m: 8, ef_construction: 16, ..HnswConfig::default() };
        let mut index = Hnsw::new(32, Metric::SquaredL2, config).unwrap();
        index.add(&(0..1_000_000).collect::<Vec<_>>(), &random(1_000_000, 32, 1)).unwrap();
        MappedHnsw::write(&index, &path).unwrap();
        let queries = random(2, 32, 2);
        let start = std::time::Instant::now();
        let mapped = MappedHnsw::open(&path).unwrap();
        let open = start.elapsed();
        let start = std::time::Instant::now();
        let hits = mapped.search(queries.row(0), 10).unwrap();
        let first = start.elapsed();
        let start = std::time::Instant::now();
        assert_eq!(mapped.search(queries.row(1), 10).unwrap(), index.search(queries.row(1), 10).unwrap());
        let bytes = std::fs::metadata(&path).unwrap().len();
        println!("{bytes} bytes: opened in {open:?}, first query {first:?}, the next two {:?}", start.elapsed());
        assert_eq!(hits, index.search(queries.row(0), 10).unwrap());
        assert!(open.as_millis() < 50 && first.as_millis() < 10, "{open:?} {first:?}");
    }
}
