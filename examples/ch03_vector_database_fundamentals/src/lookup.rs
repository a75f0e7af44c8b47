//! Exact lookup by key, as a database does it: binary search in a sorted table, and a B+ tree that counts the pages it reads.

/// Rows sorted by key.
#[derive(Debug, Clone)]
pub struct SortedTable {
    keys: Vec<u64>,
}

impl SortedTable {
    /// Sorts the keys; a key given twice is kept once.
    pub fn new(mut keys: Vec<u64>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        Self { keys }
    }

    /// The row of `key`, and how many keys it was compared with: at most `ceil(log2(rows + 1))`.
    pub fn lookup(&self, key: u64) -> (Option<usize>, u32) {
        let (mut low, mut high, mut comparisons) = (0, self.keys.len(), 0);
        while low < high {
            let middle = low + (high - low) / 2;
            comparisons += 1;
            match self.keys[middle].cmp(&key) {
                std::cmp::Ordering::Equal => return (Some(middle), comparisons),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        (None, comparisons)
    }
}

/// A B+ tree, loaded in one go: each page has up to `fanout` keys, and each level above the leaves the first key of every page below.
#[derive(Debug, Clone)]
pub struct BPlusTree {
    fanout: usize,
    /// Keys of each level from the leaves up; the last level is one page.
    levels: Vec<Vec<u64>>,
}

impl BPlusTree {
    /// Builds the tree of `keys` with pages of `fanout >= 2` keys.
    pub fn new(keys: Vec<u64>, fanout: usize) -> anyhow::Result<Self> {
        anyhow::ensure!(fanout >= 2, "fanout is {fanout}, must be at least 2");
        let mut levels = vec![SortedTable::new(keys).keys];
        while let Some(below) = levels.last().filter(|level| level.len() > fanout) {
            levels.push(below.chunks(fanout).map(|page| page[0]).collect());
        }
        Ok(Self { fanout, levels })
    }

    /// Pages from the root to a leaf.
    pub fn height(&self) -> usize {
        self.levels.len()
    }

    /// The row of `key`, and how many pages were read: one a level.
    pub fn lookup(&self, key: u64) -> (Option<usize>, usize) {
        let (mut page, mut pages) = (0, 0);
        for level in self.levels.iter().rev() {
            pages += 1;
            let first = page * self.fanout;
            let keys = &level[first..level.len().min(first + self.fanout)];
            // The last key that isn't above the one looked for leads to the page below, or is it.
            match keys.partition_point(|&k| k <= key).checked_sub(1) {
                Some(at) => page = first + at,
                None => return (None, pages),
            }
        }
        (Some(page).filter(|&row| self.levels[0][row] == key), pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_find_every_key_and_nothing_else() {
        for n in [0u64, 1, 2, 3, 4, 5, 26, 27, 28, 1_000] {
            let keys: Vec<u64> = (0..n).map(|i| 3 * i + 1).collect();
            let table = SortedTable::new(keys.iter().rev().copied().collect());
            for fanout in [2, 3, 500] {
                let tree = BPlusTree::new(keys.clone(), fanout).unwrap();
                for key in 0..3 * n + 3 {
                    let expected = (key % 3 == 1 && key < 3 * n).then_some((key / 3) as usize);
                    let (row, comparisons) = table.lookup(key);
                    assert_eq!(row, expected);
                    assert!(f64::from(comparisons) <= ((n + 1) as f64).log2().ceil());
                    let (row, pages) = tree.lookup(key);
                    assert_eq!(row, expected, "n {n}, fanout {fanout}, key {key}");
                    assert!(pages <= tree.height());
                }
            }
        }
        let (rows, tree) = (1_000, BPlusTree::new((0..1_000).collect(), 10).unwrap());
        assert_eq!((tree.height(), tree.lookup(999)), (3, (Some(rows - 1), 3)));
        assert!(BPlusTree::new(vec![1], 1).is_err());
    }
}
