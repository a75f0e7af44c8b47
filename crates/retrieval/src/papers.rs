//! Search among papers by text, citations, entities, authors and time.
//!
//! The text vectors are smoothed over the citation graph ([`CitationGraph::smooth`]), so that a paper in an unusual
//! vocabulary is found through what it cites and what cites it. Popularity and age only scale the cosine.

use crate::RetrievalError;
use crate::graph::CitationGraph;
use eas_tensor::{Matrix, TopK, kernels};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub use eas_data::synth::papers::Paper;

/// Spellings of entity names, each with the canonical name it stands for. Case, spaces and punctuation don't count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AliasTable {
    canonical: BTreeMap<String, String>,
}

impl AliasTable {
    /// Takes groups of spellings, the canonical one first. An error for an empty group, or a spelling of two entities.
    pub fn new<S: AsRef<str>>(groups: &[Vec<S>]) -> Result<Self, RetrievalError> {
        let mut canonical: BTreeMap<String, String> = BTreeMap::new();
        for group in groups {
            let Some(first) = group.first().map(AsRef::as_ref) else {
                return Err(RetrievalError::argument("group of spellings", &"empty", "at least one spelling"));
            };
            for spelling in group {
                let before = canonical.insert(folded(spelling.as_ref()), first.to_string());
                if before.is_some_and(|other| other != first) {
                    return Err(RetrievalError::argument("spelling", &spelling.as_ref(), "one of a single entity"));
                }
            }
        }
        Ok(Self { canonical })
    }

    /// The canonical name of `name`; a name that isn't in the table stands for itself.
    pub fn resolve(&self, name: &str) -> String {
        self.canonical.get(&folded(name)).cloned().unwrap_or_else(|| name.to_string())
    }

    fn same(&self, a: &str, b: &str) -> bool {
        folded(&self.resolve(a)) == folded(&self.resolve(b))
    }
}

fn folded(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Conditions that a paper must meet; the default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PaperFilter {
    /// Published within these years.
    pub years: Option<RangeInclusive<u32>>,
    /// Has an author of this name, whatever the case.
    pub author: Option<String>,
    /// Mentions this entity, in any spelling.
    pub entity: Option<String>,
}

/// What citations do to the score of a paper with `c` of them, the most cited having `c_max`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CitationPrior {
    /// Nothing.
    None,
    /// The cosine times `1 + weight ln(1 + c) / ln(1 + c_max)`: at most `weight` more, so relevance decides.
    Bounded {
        /// The most that citations can add, as a share of the cosine.
        weight: f64,
    },
    /// The cosine plus `ln(1 + c) / 10`. A hundred citations add 0.46, more than any difference in content; kept to show
    /// what that does to a ranking.
    Additive,
}

/// How a paper's score is made from its cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scoring {
    /// The effect of citations.
    pub prior: CitationPrior,
    /// Years after which a paper counts half, and the current year; `None` for no effect of age.
    pub half_life: Option<(f64, u32)>,
}

impl Default for Scoring {
    fn default() -> Self {
        Self { prior: CitationPrior::Bounded { weight: 0.1 }, half_life: None }
    }
}

/// In what sense papers are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// They cite the same papers (bibliographic coupling, Salton's measure).
    Coupling,
    /// The same papers cite them (co-citation, Salton's measure).
    CoCitation,
    /// One cites the other.
    Direct,
    /// Their smoothed vectors are close.
    Embedding,
}

/// A paper and its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PaperHit {
    /// The paper.
    pub id: u32,
    /// Its score; higher is better.
    pub score: f32,
}

/// Papers, their citation graph, and their smoothed vectors.
#[derive(Debug, Clone)]
pub struct PaperIndex {
    papers: Vec<Paper>,
    /// Position of each id, in ascending order of ids.
    position: BTreeMap<u32, usize>,
    graph: CitationGraph,
    vectors: Matrix,
    aliases: AliasTable,
}

impl PaperIndex {
    /// Indexes `papers` with one unit-length text vector each. `alpha` and `rounds` are those of [`CitationGraph::smooth`]
    /// (0.3 and 2 serve well; with `alpha` 0 search is by text alone). An error for two papers of one id, a citation of an
    /// unknown paper, or another number of vectors.
    pub fn new(
        papers: Vec<Paper>,
        text: &Matrix,
        aliases: AliasTable,
        alpha: f64,
        rounds: usize,
    ) -> Result<Self, RetrievalError> {
        let mut position = BTreeMap::new();
        for (at, paper) in papers.iter().enumerate() {
            if position.insert(paper.id, at).is_some() {
                return Err(RetrievalError::argument("paper id", &paper.id, "one that occurs once"));
            }
        }
        let mut edges = Vec::new();
        for (at, paper) in papers.iter().enumerate() {
            for cited in &paper.cites {
                let Some(&to) = position.get(cited) else {
                    let edge = format!("{} -> {cited}", paper.id);
                    return Err(RetrievalError::argument("citation", &edge, "one of an indexed paper"));
                };
                edges.push((at, to));
            }
        }
        let graph = CitationGraph::new(papers.len(), &edges)?;
        let vectors = graph.smooth(text, alpha, rounds)?;
        Ok(Self { papers, position, graph, vectors, aliases })
    }

    /// The citation graph; its nodes are positions in the papers given.
    pub fn graph(&self) -> &CitationGraph {
        &self.graph
    }

    /// The smoothed vectors, one a paper.
    pub fn vectors(&self) -> &Matrix {
        &self.vectors
    }

    /// The `k` best papers for a unit-length query vector among those that meet `filter`, ties by lower id.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        filter: &PaperFilter,
        scoring: &Scoring,
    ) -> Result<Vec<PaperHit>, RetrievalError> {
        if query.len() != self.vectors.dim() {
            return Err(eas_tensor::TensorError::Dimension { expected: self.vectors.dim(), got: query.len() }.into());
        }
        if let Some(x) = query.iter().find(|x| !x.is_finite()) {
            return Err(RetrievalError::argument("query value", x, "finite"));
        }
        if let Some((years, _)) = scoring.half_life.filter(|(years, _)| years.is_nan() || *years <= 0.0) {
            return Err(RetrievalError::argument("half-life", &years, "positive"));
        }
        let most = (0..self.papers.len()).map(|i| self.graph.cited_by(i).len()).max().unwrap_or(0);
        let score = |at: usize| {
            let cosine = f64::from(kernels::dot(query, self.vectors.row(at)));
            let cited = (self.graph.cited_by(at).len() as f64).ln_1p();
            let with_prior = match scoring.prior {
                CitationPrior::Bounded { weight } if most > 0 => {
                    cosine * (1.0 + weight * cited / (most as f64).ln_1p())
                }
                CitationPrior::None | CitationPrior::Bounded { .. } => cosine,
                CitationPrior::Additive => cosine + cited / 10.0,
            };
            let age = scoring.half_life.map_or(1.0, |(years, now)| {
                let age = f64::from(now.saturating_sub(self.papers[at].year));
                (-age / years).exp2()
            });
            (with_prior * age) as f32
        };
        Ok(self.best(k, |at| self.admits(filter, at).then(|| score(at))))
    }

    /// The `k` papers most related to paper `id`, of those related at all; ties by lower id.
    pub fn related(&self, id: u32, relation: Relation, k: usize) -> Result<Vec<PaperHit>, RetrievalError> {
        let Some(&own) = self.position.get(&id) else {
            return Err(RetrievalError::argument("paper id", &id, "one that is indexed"));
        };
        let positive = |score: f64| (score > 0.0).then_some(score as f32);
        let score = |at: usize| match relation {
            Relation::Coupling => positive(self.graph.coupling(own, at).salton),
            Relation::CoCitation => positive(self.graph.cocitation(own, at).salton),
            Relation::Direct => {
                let linked = self.graph.cites(own).contains(&at) || self.graph.cited_by(own).contains(&at);
                linked.then_some(1.0)
            }
            Relation::Embedding => Some(kernels::dot(self.vectors.row(own), self.vectors.row(at))),
        };
        Ok(self.best(k, |at| if at == own { None } else { score(at) }))
    }

    fn best(&self, k: usize, score: impl Fn(usize) -> Option<f32>) -> Vec<PaperHit> {
        let mut best = TopK::new(k);
        // Numbered in the order of ids, so that ties go to the lower id.
        let by_id: Vec<(u32, usize)> = self.position.iter().map(|(id, at)| (*id, *at)).collect();
        for (rank, &(_, at)) in by_id.iter().enumerate() {
            if let Some(score) = score(at) {
                best.push(rank, score);
            }
        }
        let hit = |scored: eas_tensor::Scored| PaperHit { id: by_id[scored.id].0, score: scored.score };
        best.into_sorted_vec().into_iter().map(hit).collect()
    }

    fn admits(&self, filter: &PaperFilter, at: usize) -> bool {
        let paper = &self.papers[at];
        let years = filter.years.as_ref().is_none_or(|years| years.contains(&paper.year));
        let author = filter.author.as_ref().is_none_or(|name| paper.authors.iter().any(|a| folded(a) == folded(name)));
        let mut mentioned = paper.entities.values().flatten();
        let entity = filter.entity.as_ref().is_none_or(|name| mentioned.any(|e| self.aliases.same(e, name)));
        years && author && entity
    }
}

/// Which mentions of an author name are one person: two papers with the name belong together when they share another author,
/// or when their vectors (unit length, one a paper) have a cosine of at least `min_cosine`; chains of such pairs form a
/// person. Returns, for each paper and author in order, a number of the person, counted from 0 over all names.
pub fn disambiguate_authors(
    papers: &[Paper],
    vectors: &Matrix,
    min_cosine: f32,
) -> Result<Vec<Vec<usize>>, RetrievalError> {
    if vectors.rows() != papers.len() {
        return Err(RetrievalError::Length {
            what: "vectors",
            given: vectors.rows(),
            of: "papers",
            expected: papers.len(),
        });
    }
    let mut mentions: BTreeMap<String, Vec<(usize, usize)>> = BTreeMap::new();
    for (p, paper) in papers.iter().enumerate() {
        for (a, name) in paper.authors.iter().enumerate() {
            mentions.entry(folded(name)).or_default().push((p, a));
        }
    }
    let mut persons: Vec<Vec<usize>> = papers.iter().map(|p| vec![0; p.authors.len()]).collect();
    let mut count = 0;
    for (name, places) in &mentions {
        let mut parent: Vec<usize> = (0..places.len()).collect();
        for i in 0..places.len() {
            for j in 0..i {
                let (a, b) = (places[i].0, places[j].0);
                let others = |p: usize| papers[p].authors.iter().map(|n| folded(n)).filter(|n| n != name);
                let joint = others(a).any(|n| others(b).any(|m| m == n));
                if joint || kernels::dot(vectors.row(a), vectors.row(b)) >= min_cosine {
                    let (a, b) = (root(&mut parent, i), root(&mut parent, j));
                    parent[a.max(b)] = a.min(b);
                }
            }
        }
        let mut number: BTreeMap<usize, usize> = BTreeMap::new();
        for (i, &(p, a)) in places.iter().enumerate() {
            let top = root(&mut parent, i);
            let fresh = count + number.len();
            persons[p][a] = *number.entry(top).or_insert(fresh);
        }
        count += number.len();
    }
    Ok(persons)
}

/// The representative of `i`'s set, halving the path on the way.
fn root(parent: &mut [usize], mut i: usize) -> usize {
    while parent[i] != i {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    i
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paper(id: u32, year: u32, authors: &[&str], cites: &[u32], material: &str) -> Paper {
        Paper {
            id,
            title: format!("Paper {id}"),
            summary: String::new(),
            authors: authors.iter().map(ToString::to_string).collect(),
            year,
            venue: "Annals".into(),
            cites: cites.to_vec(),
            entities: BTreeMap::from([("material".to_string(), vec![material.to_string()])]),
        }
    }

    fn small() -> Vec<Paper> {
        vec![
            paper(40, 2010, &["A. Berg", "C. Dorn"], &[], "Nickel alloy"),
            paper(10, 2015, &["E. Funk"], &[40], "nickel-alloy"),
            paper(20, 2020, &["a berg", "E. Funk"], &[10, 40], "Copper"),
            paper(30, 2024, &["A. Berg", "C. Dorn"], &[10], "NiAl 5"),
        ]
    }

    fn index(alpha: f64) -> PaperIndex {
        let aliases = AliasTable::new(&[vec!["Nickel alloy", "NiAl-5"]]).unwrap();
        let text = Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [1.0, 0.0]]).unwrap();
        PaperIndex::new(small(), &text, aliases, alpha, 2).unwrap()
    }

    fn ids(hits: &[PaperHit]) -> Vec<u32> {
        hits.iter().map(|hit| hit.id).collect()
    }

    #[test]
    fn ties_go_to_the_lower_id_and_without_smoothing_text_decides() {
        let plain = Scoring { prior: CitationPrior::None, half_life: None };
        let hits = index(0.0).search(&[1.0, 0.0], 10, &PaperFilter::default(), &plain).unwrap();
        assert_eq!(ids(&hits), [30, 40, 20, 10]);
        assert_eq!(hits.iter().map(|h| h.score).collect::<Vec<_>>(), [1.0, 1.0, 0.6, 0.0]);
        assert!(index(0.0).search(&[1.0, 0.0], 0, &PaperFilter::default(), &plain).unwrap().is_empty());
        // Paper 10 says nothing of the query, but its neighbours do.
        let smoothed = index(0.3).search(&[1.0, 0.0], 10, &PaperFilter::default(), &plain).unwrap();
        assert!(smoothed.iter().all(|hit| hit.score > 0.2));
    }

    #[test]
    fn citations_and_age_scale_the_cosine() {
        let all = PaperFilter::default();
        let score = |scoring: Scoring, id: u32| {
            let hits = index(0.0).search(&[1.0, 0.0], 4, &all, &scoring).unwrap();
            hits.iter().find(|hit| hit.id == id).unwrap().score
        };
        // Paper 40 has two citations, as many as any.
        assert!((score(Scoring::default(), 40) - 1.1).abs() < 1e-6);
        assert!((score(Scoring::default(), 30) - 1.0).abs() < 1e-6);
        let additive = Scoring { prior: CitationPrior::Additive, half_life: None };
        assert!((score(additive, 10) - 3f32.ln() / 10.0).abs() < 1e-6);
        let aged = Scoring { prior: CitationPrior::None, half_life: Some((7.0, 2024)) };
        assert!((score(aged, 40) - 0.25).abs() < 1e-6);
    }

    #[test]
    fn filters_never_leak() {
        let search = |filter: PaperFilter| {
            let mut found = ids(&index(0.3).search(&[0.6, 0.8], 10, &filter, &Scoring::default()).unwrap());
            found.sort_unstable();
            found
        };
        let all = PaperFilter::default();
        assert_eq!(search(PaperFilter { years: Some(2015..=2020), ..all.clone() }), [10, 20]);
        assert_eq!(search(PaperFilter { author: Some("A BERG".into()), ..all.clone() }), [20, 30, 40]);
        assert_eq!(search(PaperFilter { entity: Some("nial5".into()), ..all.clone() }), [10, 30, 40]);
        assert_eq!(search(PaperFilter { entity: Some("copper".into()), ..all.clone() }), [20]);
        assert!(search(PaperFilter { author: Some("nobody".into()), ..all }).is_empty());
    }

    #[test]
    fn relations_are_what_their_names_say() {
        let related = |id, relation| ids(&index(0.0).related(id, relation, 9).unwrap());
        assert_eq!(related(40, Relation::Direct), [10, 20]);
        // 10 cites 40; so does 20.
        assert_eq!(related(10, Relation::Coupling), [20]);
        // 20 cites both 10 and 40.
        assert_eq!(related(10, Relation::CoCitation), [40]);
        assert_eq!(related(30, Relation::Embedding)[0], 40);
        assert!(index(0.0).related(99, Relation::Direct, 3).is_err());
    }

    #[test]
    fn persons_are_joined_by_coauthors_or_topic() {
        let vectors = Matrix::from_rows(&[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.8, 0.6]]).unwrap();
        let persons = disambiguate_authors(&small(), &vectors, 0.9).unwrap();
        // A. Berg of 40 and 30 share C. Dorn; the A. Berg of 20 works elsewhere. E. Funk is one by topic.
        assert_eq!(persons[0][0], persons[3][0]);
        assert_ne!(persons[0][0], persons[2][0]);
        assert_eq!(persons[1][0], persons[2][1]);
        assert_ne!(persons[0][0], persons[0][1]);
        let merged = disambiguate_authors(&small(), &vectors, 0.5).unwrap();
        assert_eq!(merged[0][0], merged[2][0]);
        assert!(disambiguate_authors(&small(), &Matrix::zeros(3, 2), 0.5).is_err());
    }

    #[test]
    fn bad_input_is_refused() {
        let text = Matrix::zeros(4, 2);
        let build = |papers: Vec<Paper>| PaperIndex::new(papers, &text, AliasTable::default(), 0.3, 2).map(|_| ());
        let mut unknown = small();
        unknown[0].cites = vec![77];
        assert!(build(unknown).unwrap_err().to_string().contains("40 -> 77"));
        let mut twice = small();
        twice[1].id = 40;
        assert!(build(twice).is_err());
        assert!(build(small()[..3].iter().map(|p| Paper { cites: vec![], ..p.clone() }).collect()).is_err());
        assert!(AliasTable::new(&[vec!["a", "b"], vec!["c", "B."]]).is_err());
        assert!(AliasTable::new::<&str>(&[vec![]]).is_err());
        let search = |query: &[f32], scoring: &Scoring| index(0.0).search(query, 3, &PaperFilter::default(), scoring);
        assert!(search(&[1.0], &Scoring::default()).is_err());
        assert!(search(&[1.0, f32::NAN], &Scoring::default()).is_err());
        let never = Scoring { half_life: Some((0.0, 2024)), ..Scoring::default() };
        assert!(search(&[1.0, 0.0], &never).is_err());
    }
}
