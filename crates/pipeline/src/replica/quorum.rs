//! [`Quorum`]: no leader. The node a client asks coordinates: it sends a write to all N nodes and reports it done when W have
//! it, and it answers a read with the newest of R answers. When W + R > N every read meets a node that has the last
//! completed write (Gifford, "Weighted voting for replicated data", 1979).

use std::collections::BTreeMap;

use eas_ann::Metric;

use super::network::{Found, Outbox, Protocol, Reply, Request, RequestId};
use super::{ReplicaError, Stamp, VectorCopy, Write};
use crate::crdt::NodeId;

/// What the coordinator of a read does for nodes whose answer was older than the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadRepair {
    /// Nothing.
    Off,
    /// It sends them the newest after it has answered.
    Background,
    /// It answers only when W nodes are known to have what it answers: then no later read sees an older one (Attiya, Bar-Noy
    /// and Dolev, "Sharing memory robustly in message-passing systems", 1995).
    BeforeAnswer,
}

/// N is the number of nodes in the cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuorumConfig {
    /// Dimension of the vectors.
    pub dim: usize,
    /// Nodes that must have a write before it is done.
    pub w: usize,
    /// Nodes that must answer a read.
    pub r: usize,
    /// What is done for nodes that are behind.
    pub read_repair: ReadRepair,
}

impl QuorumConfig {
    /// The configuration, when `1 <= w, r <= n`.
    pub fn check(&self, n: usize) -> Result<(), ReplicaError> {
        for (name, value) in [("w", self.w), ("r", self.r)] {
            if value == 0 || value > n {
                return Err(ReplicaError::Parameter {
                    name,
                    got: value.to_string(),
                    expected: "between 1 and the number of nodes",
                });
            }
        }
        Ok(())
    }
}

/// What nodes tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Message {
    /// Keep this.
    Store {
        /// The coordinator's request.
        request: RequestId,
        /// The write.
        write: Write,
        /// Its stamp.
        stamp: Stamp,
    },
    /// It is kept.
    Stored {
        /// The coordinator's request.
        request: RequestId,
    },
    /// What do you have?
    Fetch {
        /// The coordinator's request.
        request: RequestId,
        /// The id.
        id: u64,
    },
    /// This.
    Fetched {
        /// The coordinator's request.
        request: RequestId,
        /// The newest write to the id.
        found: Found,
    },
}

#[derive(Debug, Clone)]
enum Pending {
    /// A write, or the repair before an answer: who has it, and what to tell the client then.
    Write {
        stored: usize,
        reply: Reply,
    },
    Read {
        id: u64,
        answers: Vec<(NodeId, Found)>,
    },
}

/// One node.
#[derive(Debug, Clone)]
pub struct Quorum {
    config: QuorumConfig,
    copy: VectorCopy,
    last: Stamp,
    pending: BTreeMap<RequestId, Pending>,
}

type Out<'a> = Outbox<'a, Message, ()>;

impl Quorum {
    /// `n` empty nodes.
    pub fn nodes(n: usize, config: QuorumConfig) -> Result<Vec<Self>, ReplicaError> {
        config.check(n)?;
        let node = || {
            Ok(Self {
                config,
                copy: VectorCopy::new(config.dim, Metric::SquaredL2)?,
                last: Stamp::default(),
                pending: BTreeMap::new(),
            })
        };
        (0..n).map(|_| node()).collect()
    }

    /// What the node holds.
    pub fn copy(&self) -> &VectorCopy {
        &self.copy
    }

    fn found(&self, id: u64) -> Found {
        self.copy.newest(id).map(|(stamp, write)| (stamp, write.row))
    }

    /// Counts one more node that has the write of a request, and answers when there are enough.
    fn stored(&mut self, request: RequestId, out: &mut Out<'_>) {
        if let Some(Pending::Write { stored, reply }) = self.pending.get_mut(&request) {
            *stored += 1;
            if *stored == self.config.w {
                out.reply(request, reply.clone());
                self.pending.remove(&request);
            }
        }
    }

    fn fetched(
        &mut self,
        request: RequestId,
        from: NodeId,
        found: Found,
        out: &mut Out<'_>,
    ) -> Result<(), ReplicaError> {
        let Some(Pending::Read { id, answers }) = self.pending.get_mut(&request) else {
            return Ok(());
        };
        answers.push((from, found));
        if answers.len() < self.config.r {
            return Ok(());
        }
        let (id, answers) = (*id, std::mem::take(answers));
        self.pending.remove(&request);
        let newest = answers.iter().filter_map(|(_, found)| found.clone()).max_by_key(|(stamp, _)| *stamp);
        let reply = Reply::Read(newest.clone());
        let behind: Vec<NodeId> = answers.iter().filter(|(_, found)| *found != newest).map(|(node, _)| *node).collect();
        let Some((stamp, row)) = newest.filter(|_| !behind.is_empty() && self.config.read_repair != ReadRepair::Off)
        else {
            out.reply(request, reply);
            return Ok(());
        };
        if self.config.read_repair == ReadRepair::BeforeAnswer {
            let stored = answers.len() - behind.len();
            if stored < self.config.w {
                self.pending.insert(request, Pending::Write { stored, reply });
            } else {
                out.reply(request, reply);
            }
        } else {
            out.reply(request, reply);
        }
        let write = Write { id, row };
        for node in behind {
            if node == out.node {
                self.copy.apply(&write, stamp)?;
                self.stored(request, out);
            } else {
                let write = write.clone();
                out.send(node, Message::Store { request, write, stamp });
            }
        }
        Ok(())
    }
}

impl Protocol for Quorum {
    type Message = Message;
    type Timer = ();

    /// The copy is on disk; requests that were under way are forgotten, and their clients hear nothing.
    fn start(&mut self, _: &mut Out<'_>) {
        self.pending.clear();
    }

    fn request(&mut self, request: RequestId, asked: Request, out: &mut Out<'_>) -> Result<(), ReplicaError> {
        match asked {
            Request::Write(write) => {
                // Later than every write that this node has stamped, even when its clock stands still.
                let stamp = Stamp {
                    time: out.now.max(self.last.time),
                    counter: if out.now > self.last.time { 0 } else { self.last.counter + 1 },
                    node: out.node,
                };
                self.copy.apply(&write, stamp)?;
                self.last = stamp;
                let reply = Reply::Written(stamp);
                self.pending.insert(request, Pending::Write { stored: 0, reply });
                out.broadcast(&Message::Store { request, write, stamp });
                self.stored(request, out);
            }
            Request::Read(id) => {
                self.pending.insert(request, Pending::Read { id, answers: Vec::new() });
                out.broadcast(&Message::Fetch { request, id });
                let found = self.found(id);
                self.fetched(request, out.node, found, out)?;
            }
        }
        Ok(())
    }

    fn message(&mut self, from: NodeId, message: Message, out: &mut Out<'_>) -> Result<(), ReplicaError> {
        match message {
            Message::Store { request, write, stamp } => {
                self.copy.apply(&write, stamp)?;
                out.send(from, Message::Stored { request });
            }
            Message::Stored { request } => self.stored(request, out),
            Message::Fetch { request, id } => {
                let found = self.found(id);
                out.send(from, Message::Fetched { request, found });
            }
            Message::Fetched { request, found } => self.fetched(request, from, found, out)?,
        }
        Ok(())
    }

    fn timer(&mut self, (): (), _: &mut Out<'_>) {}
}

#[cfg(test)]
mod tests {
    use super::super::history::{Operation, check_register};
    use super::super::network::{Cluster, Links};
    use super::*;
    use eas_ops::clock::{MILLISECOND, SECOND};
    use eas_tensor::rng::SplitMix64;
    use proptest::prelude::*;

    fn cluster(w: usize, r: usize, read_repair: ReadRepair, seed: u64) -> Cluster<Quorum> {
        let config = QuorumConfig { dim: 1, w, r, read_repair };
        Cluster::new(Quorum::nodes(3, config).unwrap(), Links::default(), seed).unwrap()
    }

    #[test]
    fn quorums_outside_the_cluster_are_refused() {
        for (w, r) in [(0, 1), (1, 0), (4, 1), (1, 4)] {
            let config = QuorumConfig { dim: 1, w, r, read_repair: ReadRepair::Off };
            assert!(Quorum::nodes(3, config).is_err());
        }
    }

    #[test]
    fn a_write_needs_w_nodes_and_a_read_r() {
        for up in 1..=3 {
            for quorum in 1..=3 {
                let mut cluster = cluster(quorum, quorum, ReadRepair::Off, 1);
                (up..3).for_each(|node| cluster.crash(node));
                cluster.ask(0, Request::Write(Write::upsert(1, &[1.0])));
                cluster.ask(2, Request::Read(1));
                cluster.run_until(2 * SECOND).unwrap();
                assert!(cluster.asked().iter().all(|asked| asked.answer.is_some() == (up >= quorum)));
            }
        }
    }

    #[test]
    fn read_repair_brings_back_a_node_that_missed_a_write() {
        for (read_repair, repaired) in
            [(ReadRepair::Off, false), (ReadRepair::Background, true), (ReadRepair::BeforeAnswer, true)]
        {
            let mut cluster = cluster(2, 3, read_repair, 1);
            cluster.crash(2);
            cluster.ask(0, Request::Write(Write::upsert(1, &[1.0])));
            cluster.run_until(SECOND).unwrap();
            cluster.restart(2).unwrap();
            cluster.ask(1, Request::Read(1));
            cluster.run_until(2 * SECOND).unwrap();
            assert!(matches!(&cluster.asked()[1].answer, Some((_, Reply::Read(Some(_))))));
            assert_eq!(cluster.nodes()[2].copy().stamp(1).is_some(), repaired);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// One client writes a register, two read it, nodes crash: with W + R > N and repair before the answer, what they see
        /// could have come from one register on one machine.
        #[test]
        fn overlapping_quorums_with_repair_are_linearizable(seed in any::<u64>()) {
            let mut rng = SplitMix64::new(seed);
            let mut cluster = cluster(2, 2, ReadRepair::BeforeAnswer, seed);
            cluster.set_links(Links { delay: MILLISECOND, jitter: 0.02, timeout: SECOND });
            let mut writer_is_free_at = 0;
            for step in 0..200u64 {
                if rng.chance(0.05) {
                    let node = rng.below(3);
                    if (0..3).all(|node| cluster.is_up(node)) { cluster.crash(node) } else { (0..3).for_each(|node| cluster.restart(node).unwrap()) }
                }
                if rng.chance(0.3) && cluster.now() >= writer_is_free_at {
                    cluster.ask(rng.below(3), Request::Write(Write::upsert(1, &[step as f32])));
                    writer_is_free_at = cluster.now() + SECOND;
                } else {
                    cluster.ask(rng.below(3), Request::Read(1));
                }
                let until = cluster.now() + rng.below(60) as u64 * MILLISECOND;
                cluster.run_until(until).unwrap();
            }
            cluster.run_until(cluster.now() + 10 * SECOND).unwrap();
            let history: Vec<Operation> = Operation::of_key(cluster.asked(), 1);
            prop_assert_eq!(check_register(&history), Ok(()));
        }
    }
}
