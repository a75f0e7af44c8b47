//! [`check_register`]: could one register on one machine have given the answers that clients saw?
//!
//! A history is linearizable when each operation can be placed at one instant between its call and its return so that every
//! read shows the last write before it (Herlihy and Wing 1990). For one key whose writes come one after the other, as from one
//! client, that holds exactly when every read shows a write that had begun, none older than the last write that was
//! done when the read began, and none older than what a read before it has shown (Lamport's atomic register, 1986).

use eas_ops::clock::Micros;

use super::Write;
use super::network::{Asked, Reply, Request};

/// One operation on a register, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// When it was called.
    pub called: Micros,
    /// When it returned; `None` when it never did, so that it may take effect at any time after the call or never.
    pub returned: Option<Micros>,
    /// What it did.
    pub kind: Kind,
}

/// A write by its number, or a read by the number of the write it showed. Number 0 is the empty register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The `n`-th write, from 1.
    Write(usize),
    /// A read that showed the `n`-th write.
    Read(usize),
}

/// What no register could have shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A read showed an older write than one that was done before it began.
    #[error("a read called at {called} us shows write {shown}, but write {done} was done by then")]
    Stale {
        /// When the read was called.
        called: Micros,
        /// The write it showed.
        shown: usize,
        /// The newest write that was done.
        done: usize,
    },
    /// A read showed a write that hadn't been called when the read returned.
    #[error("a read called at {called} us shows write {shown}, which had not begun")]
    FromTheFuture {
        /// When the read was called.
        called: Micros,
        /// The write it showed.
        shown: usize,
    },
    /// A read showed an older write than an earlier read.
    #[error("a read called at {called} us shows write {shown}, after another had shown write {seen}")]
    Backwards {
        /// When the read was called.
        called: Micros,
        /// The write it showed.
        shown: usize,
        /// What the earlier read had shown.
        seen: usize,
    },
}

impl Operation {
    /// The history of one id in what the clients of a cluster asked. Its writes must carry different vectors and follow one
    /// another; a write that wasn't answered counts as never returned, an unanswered read says nothing.
    pub fn of_key(asked: &[Asked], id: u64) -> Vec<Self> {
        let written = |request: &Request| match request {
            Request::Write(Write { id: key, row }) if *key == id => Some(row.clone()),
            _ => None,
        };
        let rows: Vec<_> = asked.iter().filter_map(|asked| written(&asked.request)).collect();
        let (mut history, mut writes) = (Vec::new(), 0);
        for asked in asked {
            let returned = asked.answer.as_ref().map(|(at, _)| *at);
            let called = asked.sent;
            let kind = match (&asked.request, &asked.answer) {
                (Request::Write(write), _) if write.id == id => {
                    writes += 1;
                    Kind::Write(writes)
                }
                (Request::Read(key), Some((_, Reply::Read(found)))) if *key == id => match found {
                    None => Kind::Read(0),
                    // A row that nobody wrote gets a number that no write has.
                    Some((_, row)) => Kind::Read(rows.iter().position(|r| r == row).map_or(usize::MAX, |i| i + 1)),
                },
                _ => continue,
            };
            history.push(Self { called, returned, kind });
        }
        history
    }
}

/// Checks the history of one register whose writes, numbered from 1, were called one after another.
pub fn check_register(history: &[Operation]) -> Result<(), Violation> {
    let done_by = |time: Micros, of: fn(Kind) -> Option<usize>| {
        let before = history.iter().filter(|op| op.returned.is_some_and(|at| at < time));
        before.filter_map(|op| of(op.kind)).max().unwrap_or(0)
    };
    for op in history {
        let (Kind::Read(shown), Some(returned)) = (op.kind, op.returned) else {
            continue;
        };
        let called = op.called;
        let begun = shown == 0 || history.iter().any(|w| w.kind == Kind::Write(shown) && w.called <= returned);
        if !begun {
            return Err(Violation::FromTheFuture { called, shown });
        }
        let done = done_by(called, |kind| if let Kind::Write(n) = kind { Some(n) } else { None });
        if shown < done {
            return Err(Violation::Stale { called, shown, done });
        }
        let seen = done_by(called, |kind| if let Kind::Read(n) = kind { Some(n) } else { None });
        if shown < seen {
            return Err(Violation::Backwards { called, shown, seen });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    fn op(called: Micros, returned: Micros, kind: Kind) -> Operation {
        Operation { called, returned: Some(returned), kind }
    }

    /// The definition: some order of the operations respects real time and is a register's. A write that never returned may
    /// be left out.
    fn linearizable(history: &[Operation], placed: &mut Vec<bool>, value: usize) -> bool {
        let must = |i: usize| history[i].returned.is_some() || matches!(history[i].kind, Kind::Read(_));
        if (0..history.len()).all(|i| placed[i] || !must(i)) {
            return true;
        }
        for i in (0..history.len()).filter(|&i| !placed[i]).collect::<Vec<_>>() {
            let first = (0..history.len())
                .filter(|&j| !placed[j] && j != i)
                .all(|j| history[j].returned.is_none_or(|at| at >= history[i].called));
            let next = match history[i].kind {
                Kind::Write(n) => n,
                Kind::Read(n) if n == value => value,
                Kind::Read(_) => continue,
            };
            if first {
                placed[i] = true;
                let found = linearizable(history, placed, next);
                placed[i] = false;
                if found {
                    return true;
                }
            }
        }
        false
    }

    #[test]
    fn each_violation_is_named() {
        let write = op(0, 10, Kind::Write(1));
        assert_eq!(check_register(&[write, op(11, 12, Kind::Read(1))]), Ok(()));
        assert_eq!(check_register(&[write, op(5, 6, Kind::Read(0))]), Ok(()));
        assert_eq!(
            check_register(&[write, op(11, 12, Kind::Read(0))]),
            Err(Violation::Stale { called: 11, shown: 0, done: 1 })
        );
        assert_eq!(
            check_register(&[op(0, 3, Kind::Read(1)), op(5, 9, Kind::Write(1))]),
            Err(Violation::FromTheFuture { called: 0, shown: 1 })
        );
        assert_eq!(
            check_register(&[write, op(1, 2, Kind::Read(1)), op(3, 4, Kind::Read(0))]),
            Err(Violation::Backwards { called: 3, shown: 0, seen: 1 })
        );
    }

    proptest! {
        /// Small random histories, right and wrong: the checker agrees with a search through all orders.
        #[test]
        fn the_checker_agrees_with_the_definition(seed in any::<u64>()) {
            let mut rng = SplitMix64::new(seed);
            let mut history = Vec::new();
            let mut time = 0;
            for n in 1..=3 {
                time += 1 + rng.below(6) as u64;
                let called = time;
                time += 1 + rng.below(6) as u64;
                // Only the last write may be one that never returned: the writer waits for its answer.
                let returned = if n == 3 && rng.chance(0.3) { None } else { Some(time) };
                history.push(Operation { called, returned, kind: Kind::Write(n) });
            }
            for _ in 0..4 {
                let called = rng.below(time as usize + 5) as u64;
                let kind = Kind::Read(rng.below(4));
                history.push(op(called, called + 1 + rng.below(6) as u64, kind));
            }
            let truth = linearizable(&history, &mut vec![false; history.len()], 0);
            prop_assert_eq!(check_register(&history).is_ok(), truth, "{:?}", history);
        }
    }
}
