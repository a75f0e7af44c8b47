//! [`Cluster`]: nodes that talk over a network with delays, crashes and partitions, in simulated time.
//!
//! What a node does is a [`Protocol`]: it reacts to requests of clients, messages of other nodes and its own timers, and puts
//! what it wants sent into an [`Outbox`]. It sees nothing else, so a protocol can't cheat. Links keep the order of their
//! messages, as TCP does. A message to a node that is down or on the other side of a partition is lost, and a node that
//! crashes takes what is still on its way out with it: most of a message's delay is spent in its sender's buffers.

use std::hash::Hash;

use eas_ops::clock::{MILLISECOND, Micros, SECOND};
use eas_ops::sim::Sim;

use super::{ReplicaError, Row, Stamp, Write};
use crate::crdt::NodeId;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Request {
    /// Change one id.
    Write(Write),
    /// Read one id.
    Read(u64),
}

/// The newest write to an id that was found: its stamp, and the vector unless it was a delete.
pub type Found = Option<(Stamp, Option<Row>)>;

/// What a client hears.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reply {
    /// The write is done, as safely as the protocol promises.
    Written(Stamp),
    /// The newest write that the protocol found for the id, if any.
    Read(Found),
}

/// Number of a client's request.
pub type RequestId = usize;

/// What a node does.
pub trait Protocol {
    /// What nodes say to each other.
    type Message: Clone + Hash;
    /// What a node reminds itself of.
    type Timer: Hash;

    /// The node starts, or starts again after a crash with what it keeps on disk.
    fn start(&mut self, out: &mut Outbox<'_, Self::Message, Self::Timer>);

    /// A client asks.
    fn request(
        &mut self,
        id: RequestId,
        request: Request,
        out: &mut Outbox<'_, Self::Message, Self::Timer>,
    ) -> Result<(), ReplicaError>;

    /// Another node says something.
    fn message(
        &mut self,
        from: NodeId,
        message: Self::Message,
        out: &mut Outbox<'_, Self::Message, Self::Timer>,
    ) -> Result<(), ReplicaError>;

    /// A timer has run down. Timers die with a crash.
    fn timer(&mut self, timer: Self::Timer, out: &mut Outbox<'_, Self::Message, Self::Timer>);
}

/// What a node sees of the world, and what it wants done.
#[derive(Debug)]
pub struct Outbox<'a, M, T> {
    /// The node itself.
    pub node: NodeId,
    /// All nodes, itself included.
    pub nodes: usize,
    /// Its clock.
    pub now: Micros,
    rng: &'a mut eas_tensor::rng::SplitMix64,
    messages: Vec<(NodeId, M)>,
    timers: Vec<(Micros, T)>,
    replies: Vec<(RequestId, Reply)>,
}

impl<M: Clone, T> Outbox<'_, M, T> {
    /// Sends a message.
    pub fn send(&mut self, to: NodeId, message: M) {
        self.messages.push((to, message));
    }

    /// Sends a message to every other node.
    pub fn broadcast(&mut self, message: &M) {
        for to in self.others() {
            self.send(to, message.clone());
        }
    }

    /// Every node but this one.
    pub fn others(&self) -> impl Iterator<Item = NodeId> + use<M, T> {
        let own = self.node;
        (0..self.nodes as NodeId).filter(move |&node| node != own)
    }

    /// Sets a timer.
    pub fn remind(&mut self, after: Micros, timer: T) {
        self.timers.push((after, timer));
    }

    /// Answers a client.
    pub fn reply(&mut self, request: RequestId, reply: Reply) {
        self.replies.push((request, reply));
    }

    /// A span between `low` and `high`, by chance.
    pub fn jitter(&mut self, low: Micros, high: Micros) -> Micros {
        low + self.rng.below(high.saturating_sub(low) as usize) as Micros
    }
}

/// How long messages take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Links {
    /// The least delay of a message.
    pub delay: Micros,
    /// Mean of an exponential delay on top, in seconds.
    pub jitter: f64,
    /// How long a client waits for an answer.
    pub timeout: Micros,
}

impl Default for Links {
    /// 1 ms and another on average; clients wait 1 s.
    fn default() -> Self {
        Self { delay: MILLISECOND, jitter: 0.001, timeout: SECOND }
    }
}

/// A request as its client saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// When it was sent.
    pub sent: Micros,
    /// The node that the client is near, or the next one up when that was down; `None` when none was.
    pub via: Option<NodeId>,
    /// What was asked.
    pub request: Request,
    /// The answer and when it came; `None` when it hasn't come, or came after the client had stopped waiting.
    pub answer: Option<(Micros, Reply)>,
}

#[derive(Debug, Hash)]
enum Event<M, T> {
    Message { from: NodeId, life: u32, to: NodeId, message: M },
    Timer { node: NodeId, life: u32, timer: T },
    Request { to: NodeId, id: RequestId },
    Reply { id: RequestId, reply: Reply },
}

/// Nodes, the network between them, and the clients.
#[derive(Debug)]
pub struct Cluster<P: Protocol> {
    sim: Sim<Event<P::Message, P::Timer>>,
    nodes: Vec<P>,
    links: Links,
    up: Vec<bool>,
    /// Counts the starts of each node, so that timers and messages of an earlier life are known.
    lives: Vec<u32>,
    groups: Vec<usize>,
    /// When the last message on each link arrives: a later one doesn't overtake it.
    arrivals: Vec<Vec<Micros>>,
    requests: Vec<Asked>,
}

impl<P: Protocol> Cluster<P> {
    /// Starts the nodes.
    pub fn new(nodes: Vec<P>, links: Links, seed: u64) -> Result<Self, ReplicaError> {
        if nodes.is_empty() {
            return Err(ReplicaError::Parameter { name: "nodes", got: "0".into(), expected: "at least 1" });
        }
        let n = nodes.len();
        let mut cluster = Self {
            sim: Sim::new(seed),
            nodes,
            links,
            up: vec![true; n],
            lives: vec![0; n],
            groups: vec![0; n],
            arrivals: vec![vec![0; n]; n],
            requests: Vec::new(),
        };
        for node in 0..n {
            cluster.begin(node)?;
        }
        Ok(cluster)
    }

    /// The nodes' protocol states.
    pub fn nodes(&self) -> &[P] {
        &self.nodes
    }

    /// Microseconds since the start.
    pub fn now(&self) -> Micros {
        self.sim.now()
    }

    /// A client near node `near` asks; the answer is found in [`Cluster::asked`] later.
    pub fn ask(&mut self, near: usize, request: Request) -> RequestId {
        let n = self.nodes.len();
        let group = self.groups[near % n];
        let via = (0..n).map(|step| (near + step) % n).find(|&node| self.up[node] && self.groups[node] == group);
        let id = self.requests.len();
        self.requests.push(Asked { sent: self.now(), via: via.map(|node| node as NodeId), request, answer: None });
        if let Some(to) = via {
            self.sim.after(0, Event::Request { to: to as NodeId, id });
        }
        id
    }

    /// Every request so far, in order.
    pub fn asked(&self) -> &[Asked] {
        &self.requests
    }

    /// Lets things happen until `time`.
    pub fn run_until(&mut self, time: Micros) -> Result<(), ReplicaError> {
        while let Some(event) = self.sim.next_until(time) {
            match event {
                Event::Message { from, life, to, message } => {
                    let sender_lives = self.up[from as usize] && self.lives[from as usize] == life;
                    if sender_lives && self.connected(from as usize, to as usize) {
                        self.act(to as usize, |protocol, out| protocol.message(from, message, out))?;
                    }
                }
                Event::Timer { node, life, timer } => {
                    if self.up[node as usize] && self.lives[node as usize] == life {
                        self.act(node as usize, |protocol, out| {
                            protocol.timer(timer, out);
                            Ok(())
                        })?;
                    }
                }
                Event::Request { to, id } => {
                    if self.up[to as usize] {
                        let request = self.requests[id].request.clone();
                        self.act(to as usize, |protocol, out| protocol.request(id, request, out))?;
                    }
                }
                Event::Reply { id, reply } => {
                    let now = self.now();
                    let asked = &mut self.requests[id];
                    if asked.answer.is_none() && now - asked.sent <= self.links.timeout {
                        asked.answer = Some((now, reply));
                    }
                }
            }
        }
        Ok(())
    }

    /// Stops a node. What it keeps in memory is lost, its protocol decides what that is when it starts again.
    pub fn crash(&mut self, node: usize) {
        if let Some(up) = self.up.get_mut(node) {
            *up = false;
        }
    }

    /// Starts a stopped node again.
    pub fn restart(&mut self, node: usize) -> Result<(), ReplicaError> {
        if self.up.get(node) == Some(&false) {
            self.up[node] = true;
            self.lives[node] += 1;
            self.begin(node)?;
        }
        Ok(())
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.up.get(node) == Some(&true)
    }

    /// Splits the network into groups that don't hear each other (all nodes in one: healed); `groups[i]` is node `i`'s.
    pub fn split(&mut self, groups: &[usize]) -> Result<(), ReplicaError> {
        if groups.len() != self.nodes.len() {
            return Err(ReplicaError::Parameter {
                name: "groups",
                got: format!("{} groups", groups.len()),
                expected: "one for every node",
            });
        }
        self.groups = groups.to_vec();
        Ok(())
    }

    /// Makes every link slower or quicker from now on.
    pub fn set_links(&mut self, links: Links) {
        self.links = links;
    }

    /// Hash of every event so far.
    pub fn trace_hash(&self) -> u64 {
        self.sim.trace_hash()
    }

    fn connected(&self, from: usize, to: usize) -> bool {
        self.up[to] && self.groups[from] == self.groups[to]
    }

    fn begin(&mut self, node: usize) -> Result<(), ReplicaError> {
        self.act(node, |protocol, out| {
            protocol.start(out);
            Ok(())
        })
    }

    /// Lets a node act, and carries out what it wants done.
    fn act(
        &mut self,
        node: usize,
        action: impl FnOnce(&mut P, &mut Outbox<'_, P::Message, P::Timer>) -> Result<(), ReplicaError>,
    ) -> Result<(), ReplicaError> {
        let mut out = Outbox {
            node: node as NodeId,
            nodes: self.nodes.len(),
            now: self.sim.now(),
            rng: self.sim.rng(),
            messages: Vec::new(),
            timers: Vec::new(),
            replies: Vec::new(),
        };
        action(&mut self.nodes[node], &mut out)?;
        let Outbox { messages, timers, replies, .. } = out;
        for (to, message) in messages {
            let mut at = self.now() + self.links.delay + self.sim.exponential(self.links.jitter);
            if let Some(last) = self.arrivals[node].get_mut(to as usize) {
                at = at.max(*last);
                *last = at;
                let (from, life) = (node as NodeId, self.lives[node]);
                self.sim.after(at - self.now(), Event::Message { from, life, to, message });
            }
        }
        for (after, timer) in timers {
            let (node, life) = (node as NodeId, self.lives[node]);
            self.sim.after(after, Event::Timer { node, life, timer });
        }
        for (id, reply) in replies {
            // The client hears the node it asked at once, another after a message's delay, and no node across a partition.
            let Some(via) = self.requests.get(id).and_then(|asked| asked.via) else {
                continue;
            };
            if self.groups[via as usize] == self.groups[node] {
                let delay =
                    if via as usize == node { 0 } else { self.links.delay + self.sim.exponential(self.links.jitter) };
                self.sim.after(delay, Event::Reply { id, reply });
            }
        }
        Ok(())
    }
}
