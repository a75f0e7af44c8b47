//! An index of categories, subcategories and products, that answers at the level of the question.

use eas_tensor::kernels::{dot_rows, norm};
use eas_tensor::{Matrix, Scored, top_k};

use crate::RetrievalError;

/// Nodes of a tree, each with a vector, in levels from coarse to fine.
#[derive(Debug, Clone, PartialEq)]
pub struct HierarchyIndex {
    levels: Vec<Matrix>,
    parents: Vec<Vec<usize>>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct LevelHits {
    /// The level searched, the one asked for or the one inferred.
    pub level: usize,
    /// Nodes of that level with their cosines, best first, ties by lower id.
    pub hits: Vec<Scored>,
}

impl HierarchyIndex {
    /// Takes the vectors of each level, shape (nodes, dim), and each node's parent in the level above. All levels share one space: a
    /// question's cosines at different levels can only be compared there. The parents of the first level don't matter.
    ///
    /// # Errors
    /// No levels, an empty one, dimensions that differ, zero vectors, values that aren't finite, and parents that aren't there.
    pub fn new(levels: Vec<Matrix>, parents: Vec<Vec<usize>>) -> Result<Self, RetrievalError> {
        let Some(first) = levels.first() else {
            return Err(RetrievalError::argument("levels", &0, "at least 1"));
        };
        let dim = first.dim();
        if parents.len() != levels.len() {
            let (given, expected) = (parents.len(), levels.len());
            return Err(RetrievalError::Length { what: "lists of parents", given, of: "levels", expected });
        }
        for (at, (level, parents_of)) in levels.iter().zip(&parents).enumerate() {
            level.check_finite()?;
            if level.rows() == 0 {
                return Err(RetrievalError::argument("nodes of a level", &0, "at least 1"));
            }
            if level.dim() != dim {
                return Err(RetrievalError::argument("dimension of a level", &level.dim(), "that of the first level"));
            }
            if let Some(node) = level.iter_rows().position(|row| norm(row) == 0.0) {
                return Err(RetrievalError::argument(
                    "length of a node's vector",
                    &format!("0 at {node}"),
                    "above zero",
                ));
            }
            if parents_of.len() != level.rows() {
                let (given, expected) = (parents_of.len(), level.rows());
                return Err(RetrievalError::Length { what: "parents", given, of: "nodes", expected });
            }
            if at > 0
                && let Some(parent) = parents_of.iter().find(|p| **p >= levels[at - 1].rows())
            {
                return Err(RetrievalError::argument("parent", parent, "a node of the level above"));
            }
        }
        let mut levels = levels;
        levels.iter_mut().for_each(Matrix::normalize_rows);
        Ok(Self { levels, parents })
    }

    /// Number of levels.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Unit vectors of a level; shape (nodes, dim).
    pub fn level(&self, level: usize) -> Option<&Matrix> {
        self.levels.get(level)
    }

    /// The nodes from the first level down to `node` of `level`; empty when there is no such node.
    pub fn path(&self, level: usize, node: usize) -> Vec<usize> {
        if self.levels.get(level).is_none_or(|nodes| node >= nodes.rows()) {
            return Vec::new();
        }
        let mut path = vec![node];
        for of in self.parents[1..=level].iter().rev() {
            path.push(of[path[path.len() - 1]]);
        }
        path.reverse();
        path
    }

    /// The vectors of a node's path, from the first level down to `up_to` at most.
    pub fn encode(&self, level: usize, node: usize, up_to: usize) -> Vec<&[f32]> {
        let path = self.path(level, node);
        path.iter().take(up_to.saturating_add(1)).zip(&self.levels).map(|(&node, nodes)| nodes.row(node)).collect()
    }

    /// The level whose best node has the highest cosine with `query`; ties go to the coarser level.
    ///
    /// # Errors
    /// A query of another dimension, of length 0, or with a value that isn't finite.
    pub fn infer_level(&self, query: &[f32]) -> Result<usize, RetrievalError> {
        let best = self.best_by_level(query)?;
        Ok((1..best.len()).fold(0, |level, other| if best[other].score > best[level].score { other } else { level }))
    }

    /// The best node of each level with its cosine.
    ///
    /// # Errors
    /// As [`Self::infer_level`].
    pub fn best_by_level(&self, query: &[f32]) -> Result<Vec<Scored>, RetrievalError> {
        let query = self.unit(query)?;
        Ok(self.levels.iter().flat_map(|nodes| top_k(&dot_rows(&query, nodes), 1)).collect())
    }

    /// The `k` best nodes of `level`, or of the inferred level when none is asked for.
    ///
    /// # Errors
    /// As [`Self::infer_level`], a level that isn't there, `k = 0`.
    pub fn search(&self, query: &[f32], level: Option<usize>, k: usize) -> Result<LevelHits, RetrievalError> {
        if k == 0 {
            return Err(RetrievalError::argument("k", &k, "at least 1"));
        }
        let level = match level {
            Some(level) => level,
            None => self.infer_level(query)?,
        };
        let nodes =
            self.levels.get(level).ok_or_else(|| RetrievalError::argument("level", &level, "one of the index"))?;
        Ok(LevelHits { level, hits: top_k(&dot_rows(&self.unit(query)?, nodes), k) })
    }

    fn unit(&self, query: &[f32]) -> Result<Vec<f32>, RetrievalError> {
        let (given, expected) = (query.len(), self.levels[0].dim());
        if given != expected {
            return Err(RetrievalError::Length { what: "values", given, of: "dimensions", expected });
        }
        let length = norm(query);
        if !(length > 0.0 && length.is_finite()) {
            return Err(RetrievalError::argument("length of the query", &length, "above zero and finite"));
        }
        Ok(query.iter().map(|x| x / length).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_data::synth::tree::{PlantedTree, TreeConfig};

    fn index() -> HierarchyIndex {
        let tree = PlantedTree::generate(&TreeConfig::default()).unwrap();
        HierarchyIndex::new(tree.levels, tree.parents).unwrap()
    }

    #[test]
    fn a_node_is_found_at_its_own_level() {
        let index = index();
        for (level, node) in [(0, 3), (1, 17), (2, 479)] {
            let query = index.level(level).unwrap().row(node).to_vec();
            let found = index.search(&query, None, 3).unwrap();
            assert_eq!((found.level, found.hits[0].id, found.hits.len()), (level, node, 3));
            let asked = index.search(&query, Some(0), 1).unwrap();
            assert_eq!((asked.level, asked.hits[0].id), (0, index.path(level, node)[0]));
        }
    }

    #[test]
    fn paths_follow_the_parents() {
        let index = index();
        assert_eq!(index.path(2, 479), [7, 47, 479]);
        assert_eq!(index.path(2, 0), [0, 0, 0]);
        assert_eq!(index.path(0, 5), [5]);
        assert!(index.path(2, 480).is_empty() && index.path(9, 0).is_empty());
        assert_eq!(index.encode(2, 479, 1).len(), 2);
        assert_eq!(index.encode(2, 479, 1)[1], index.level(1).unwrap().row(47));
        assert_eq!(index.encode(1, 4, usize::MAX).len(), 2);
    }

    #[test]
    fn bad_input_is_refused() {
        let index = index();
        assert!(index.search(&[1.0; 64], Some(3), 1).is_err());
        assert!(index.search(&[1.0; 64], None, 0).is_err());
        assert!(index.search(&[1.0; 63], None, 1).is_err());
        assert!(index.infer_level(&[0.0; 64]).is_err());
        assert!(index.infer_level(&[f32::NAN; 64]).is_err());
        let one = || Matrix::from_rows(&[[1.0f32, 0.0]]).unwrap();
        assert!(HierarchyIndex::new(vec![], vec![]).is_err());
        assert!(HierarchyIndex::new(vec![one(), one()], vec![vec![0]]).is_err());
        assert!(HierarchyIndex::new(vec![one(), one()], vec![vec![0], vec![1]]).is_err());
        assert!(HierarchyIndex::new(vec![Matrix::zeros(1, 2)], vec![vec![0]]).is_err());
        assert!(HierarchyIndex::new(vec![one(), Matrix::zeros(0, 2)], vec![vec![0], vec![]]).is_err());
    }
}
