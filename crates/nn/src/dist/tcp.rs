//! [`TcpGroup`]: ranks that are processes, on one machine or several, linked into a ring of sockets.
//!
//! 1. Rank 0 listens at an address that all know. The others connect and say hello: protocol, rank, world size, and where they listen
//!    themselves. A stranger, a wrong world size or a rank that is taken is refused, and rank 0 goes on waiting.
//! 2. When all are there, rank 0 tells everyone all addresses, and each rank links to the next one.
//! 3. Messages have a header of 17 bytes: the kind, the number of the collective, the name of the collective as a hash, the length. A
//!    thread writes them, so that no two ranks wait for each other to read; when there is nothing to write for a while it sends a
//!    heartbeat.
//! 4. A closed connection, or silence of `silence`, means that the previous rank is dead. The rank that finds out tells the next one
//!    who was lost, and so on around the ring.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ring::{self, Parts, Ring};
use super::{DistError, ProcessGroup, Traffic, check_parts, check_root, lock};

/// What every line of the rendezvous starts with: the protocol and its version.
const PROTOCOL: &str = "EAS-RING/1";
/// The longest line of the rendezvous.
const LONGEST_LINE: usize = 64 * 1024;
/// The largest group: its addresses fit into a line.
const LARGEST_WORLD: usize = 1_000;
/// How long a connection may take to say hello.
const HELLO: Duration = Duration::from_secs(1);
/// Pause between two looks for a connection.
const PAUSE: Duration = Duration::from_millis(2);
/// Messages that may wait for the network.
const QUEUE: usize = 16;
/// Bytes of a message that are read, and made room for, at a time.
const PIECE: usize = 1 << 16;

/// Who this process is, and where rank 0 is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Env {
    /// This process among all.
    pub rank: usize,
    /// This process among those of its machine: the number of the device to use.
    pub local_rank: usize,
    /// How many there are.
    pub world_size: usize,
    /// The machine of rank 0.
    pub master_addr: String,
    /// The port of rank 0. On rank 0 itself port 0 takes a free one, see [`Rendezvous::port`].
    pub master_port: u16,
}

impl Env {
    /// Rank 0's machine unless told otherwise.
    pub const MASTER_ADDR: &'static str = "localhost";
    /// Rank 0's port unless told otherwise.
    pub const MASTER_PORT: u16 = 12_355;

    /// Reads `RANK`, `LOCAL_RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT`, as torchrun sets them, or `SLURM_PROCID`,
    /// `SLURM_LOCALID`, `SLURM_NTASKS` and `SLURM_LAUNCH_NODE_IPADDR`, as SLURM does. `None` when there is neither a `RANK` nor a
    /// `SLURM_PROCID`.
    pub fn from_process() -> Result<Option<Self>, DistError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// [`from_process`](Self::from_process) with variables from elsewhere.
    pub fn from_lookup(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, DistError> {
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, variable(name)?)));
        let number = |names: [&'static str; 2], otherwise: Option<usize>| match first(names) {
            None => otherwise.ok_or_else(|| DistError::Argument {
                name: names[0],
                got: "not set".to_owned(),
                expected: format!("set when a rank is, or {}", names[1]),
            }),
            Some((name, text)) => text.trim().parse::<usize>().map_err(|_| DistError::Argument {
                name,
                got: format!("{text:?}"),
                expected: "a whole number".to_owned(),
            }),
        };
        if first(["RANK", "SLURM_PROCID"]).is_none() {
            return Ok(None);
        }
        let rank = number(["RANK", "SLURM_PROCID"], None)?;
        let port = number(["MASTER_PORT", "MASTER_PORT"], Some(Self::MASTER_PORT.into()))?;
        let addr = first(["MASTER_ADDR", "SLURM_LAUNCH_NODE_IPADDR"]).map(|(_, addr)| addr);
        let env = Self {
            rank,
            local_rank: number(["LOCAL_RANK", "SLURM_LOCALID"], Some(rank))?,
            world_size: number(["WORLD_SIZE", "SLURM_NTASKS"], None)?,
            master_addr: addr.unwrap_or_else(|| Self::MASTER_ADDR.to_owned()),
            master_port: u16::try_from(port).map_err(|_| DistError::Argument {
                name: "MASTER_PORT",
                got: port.to_string(),
                expected: "at most 65535".to_owned(),
            })?,
        };
        env.check().map(|()| Some(env))
    }

    fn check(&self) -> Result<(), DistError> {
        if !(1..=LARGEST_WORLD).contains(&self.world_size) {
            let expected = format!("1 to {LARGEST_WORLD}");
            return Err(DistError::Argument { name: "world size", got: self.world_size.to_string(), expected });
        }
        if self.rank >= self.world_size {
            let expected = format!("below the world size {}", self.world_size);
            return Err(DistError::Argument { name: "rank", got: self.rank.to_string(), expected });
        }
        Ok(())
    }

    fn address(&self) -> String {
        format!("{}:{}", self.master_addr, self.master_port)
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For all ranks to find together.
    pub rendezvous: Duration,
    /// For a sign of life of the previous rank: data or a heartbeat, of which four fit in. A process that computes still sends them.
    pub silence: Duration,
    /// For a rank that lives to come to a collective.
    pub patience: Duration,
}

impl Default for Timeouts {
    /// One minute for the rendezvous, 2 s of silence, ten minutes of patience.
    fn default() -> Self {
        Self { rendezvous: Duration::from_mins(1), silence: Duration::from_secs(2), patience: Duration::from_mins(10) }
    }
}

/// A rank before it has met the others.
#[derive(Debug)]
pub struct Rendezvous {
    env: Env,
    timeouts: Timeouts,
    /// Rank 0 only.
    listener: Option<TcpListener>,
    deadline: Instant,
}

impl Rendezvous {
    /// On rank 0 starts to listen; the others do nothing yet.
    pub fn open(env: &Env, timeouts: Timeouts) -> Result<Self, DistError> {
        env.check()?;
        for (name, value) in [
            ("rendezvous timeout", timeouts.rendezvous),
            ("silence", timeouts.silence),
            ("patience", timeouts.patience),
        ] {
            if value < Duration::from_millis(10) {
                let (got, expected) = (format!("{value:?}"), "at least 10 ms".to_owned());
                return Err(DistError::Argument { name, got, expected });
            }
        }
        let listener = if env.rank == 0 && env.world_size > 1 {
            let failed =
                |error: std::io::Error| DistError::Rendezvous { address: env.address(), why: error.to_string() };
            Some(TcpListener::bind((env.master_addr.as_str(), env.master_port)).map_err(failed)?)
        } else {
            None
        };
        Ok(Self { env: env.clone(), timeouts, listener, deadline: Instant::now() + timeouts.rendezvous })
    }

    /// The port that the other ranks must be told.
    pub fn port(&self) -> u16 {
        let bound = self.listener.as_ref().and_then(|listener| listener.local_addr().ok());
        bound.map_or(self.env.master_port, |address| address.port())
    }

    /// Waits until every rank is there and linked to its neighbours.
    pub fn join(self) -> Result<TcpGroup, DistError> {
        let failed = |why: String| DistError::Rendezvous { address: self.env.address(), why };
        if self.env.world_size == 1 {
            return Ok(TcpGroup::new(self.env.rank, 1, self.timeouts, None));
        }
        let (listener, token, next) = match &self.listener {
            Some(listener) => {
                let (token, addresses) = self.receive_all(listener)?;
                (listener.try_clone().map_err(|error| failed(error.to_string()))?, token, addresses[1])
            }
            None => self.report()?,
        };
        let links = self.link(&listener, &token, next).map_err(|error| failed(error.to_string()))?;
        Ok(TcpGroup::new(self.env.rank, self.env.world_size, self.timeouts, Some(links)))
    }

    /// Rank 0: takes hellos until every rank has said one, and tells all of them the token of the group and all addresses.
    fn receive_all(&self, listener: &TcpListener) -> Result<(String, Vec<SocketAddr>), DistError> {
        let world = self.env.world_size;
        let failed = |why: String| DistError::Rendezvous { address: self.env.address(), why };
        let mut peers: Vec<Option<(TcpStream, SocketAddr)>> = (0..world).map(|_| None).collect();
        let mut refused = String::new();
        while peers.iter().skip(1).any(Option::is_none) {
            let Some((mut stream, from)) =
                accept(listener, self.deadline).map_err(|error| failed(error.to_string()))?
            else {
                let missing: Vec<usize> = (1..world).filter(|&rank| peers[rank].is_none()).collect();
                return Err(failed(format!("ranks {missing:?} of {world} did not come in time{refused}")));
            };
            // A connection that says nothing or nonsense is dropped; one that speaks the protocol is told why.
            let Ok(hello) = read_line(&mut stream, (Instant::now() + HELLO).min(self.deadline)) else { continue };
            match self.admit(&hello, &peers) {
                Ok((rank, port)) => peers[rank] = Some((stream, SocketAddr::new(from.ip(), port))),
                Err(why) => {
                    let _ = stream.write_all(format!("{PROTOCOL} REFUSED {why}\n").as_bytes());
                    refused = format!("; refused: {why}");
                }
            }
        }
        let own = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let token = token(&own);
        let addresses: Vec<SocketAddr> =
            std::iter::once(own).chain(peers.iter().flatten().map(|(_, address)| *address)).collect();
        let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let line = format!("{PROTOCOL} RING {token} {}\n", list.join(" "));
        for (rank, peer) in peers.iter_mut().enumerate() {
            if let Some((stream, _)) = peer {
                stream.write_all(line.as_bytes()).map_err(|error| failed(format!("rank {rank} left: {error}")))?;
            }
        }
        Ok((token, addresses))
    }

    /// The rank and the port that a hello announces, or why it is refused.
    fn admit(&self, hello: &str, peers: &[Option<(TcpStream, SocketAddr)>]) -> Result<(usize, u16), String> {
        let words: Vec<&str> = hello.split(' ').collect();
        let &[protocol, "HELLO", rank, world, port] = words.as_slice() else {
            return Err("that is no hello".to_owned());
        };
        if protocol != PROTOCOL {
            return Err(format!("protocol {protocol:?}, this group speaks {PROTOCOL}"));
        }
        let (Ok(rank), Ok(world), Ok(port)) = (rank.parse::<usize>(), world.parse::<usize>(), port.parse::<u16>())
        else {
            return Err("that is no hello".to_owned());
        };
        if world != self.env.world_size {
            return Err(format!("world size {world} of rank {rank}, this group has {}", self.env.world_size));
        }
        match peers.get(rank) {
            Some(None) if rank > 0 => Ok((rank, port)),
            Some(_) => Err(format!("rank {rank} is taken")),
            None => Err(format!("rank {rank} of {world}")),
        }
    }

    /// The other ranks: say hello to rank 0 and wait for its answer. Returns where this rank listens, the token, and the next address.
    fn report(&self) -> Result<(TcpListener, String, SocketAddr), DistError> {
        let failed = |why: String| DistError::Rendezvous { address: self.env.address(), why };
        let Env { rank, world_size: world, .. } = self.env;
        let mut last = "no answer".to_owned();
        while Instant::now() < self.deadline {
            match self.ask() {
                Ok((listener, master, answer)) => {
                    let words: Vec<&str> = answer.split(' ').collect();
                    if let &[PROTOCOL, "REFUSED", ..] = words.as_slice() {
                        return Err(DistError::Refused(words[2..].join(" ")));
                    }
                    let &[PROTOCOL, "RING", token, ref addresses @ ..] = words.as_slice() else {
                        return Err(failed(format!("whoever listens there answered {:?}", shortened(&answer))));
                    };
                    // Rank 0 is where it was found, however its own machine calls that address.
                    let next = if rank + 1 == world {
                        Some(master)
                    } else {
                        addresses.get(rank + 1).and_then(|a| a.parse().ok())
                    };
                    let next = next.filter(|_| addresses.len() == world);
                    let next = next.ok_or_else(|| failed("the list of addresses is incomplete".to_owned()))?;
                    return Ok((listener, token.to_owned(), next));
                }
                // Rank 0 may not listen yet, or was too busy to read the hello: try again.
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(PAUSE * 5);
        }
        Err(failed(last))
    }

    fn ask(&self) -> std::io::Result<(TcpListener, SocketAddr, String)> {
        let mut stream = connect(&self.env.address(), self.deadline)?;
        let listener = TcpListener::bind((stream.local_addr()?.ip(), 0))?;
        let port = listener.local_addr()?.port();
        stream.write_all(format!("{PROTOCOL} HELLO {} {} {port}\n", self.env.rank, self.env.world_size).as_bytes())?;
        let answer = read_line(&mut stream, self.deadline)?;
        Ok((listener, stream.peer_addr()?, answer))
    }

    /// Connects to the next rank and accepts the previous one, which must know the token.
    fn link(&self, listener: &TcpListener, token: &str, next: SocketAddr) -> std::io::Result<Links> {
        let Env { rank, world_size: world, .. } = self.env;
        let mut to_next = connect(&next.to_string(), self.deadline)?;
        to_next.write_all(format!("{PROTOCOL} LINK {token} {rank}\n").as_bytes())?;
        // From now on the next rank hears a heartbeat, however long the previous one takes to come.
        let writer = Writer::start(to_next, self.timeouts)?;
        let expected = format!("{PROTOCOL} LINK {token} {}", (rank + world - 1) % world);
        while let Some((mut stream, _)) = accept(listener, self.deadline)? {
            if read_line(&mut stream, (Instant::now() + HELLO).min(self.deadline)).is_ok_and(|line| line == expected) {
                return Ok(Links { writer, from_previous: stream });
            }
        }
        Err(std::io::Error::new(ErrorKind::TimedOut, "the previous rank did not link in time"))
    }
}

#[derive(Debug)]
struct Links {
    writer: Writer,
    from_previous: TcpStream,
}

/// Tells this group from any other that ever met at the same address.
fn token(address: &SocketAddr) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}-{}", now.as_nanos(), std::process::id(), address.port())
}

/// The next connection, or `None` at the deadline.
fn accept(listener: &TcpListener, deadline: Instant) -> std::io::Result<Option<(TcpStream, SocketAddr)>> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, from)) => {
                stream.set_nonblocking(false)?;
                return Ok(Some((stream, from)));
            }
            // Nobody there, or a connection that was gone before it was accepted.
            Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn connect(address: &str, deadline: Instant) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A line of the rendezvous without its end. What follows it stays unread.
fn read_line(stream: &mut TcpStream, deadline: Instant) -> std::io::Result<String> {
    let mut line = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || line.len() > LONGEST_LINE {
            return Err(std::io::Error::new(ErrorKind::InvalidData, "no line of the protocol"));
        }
        stream.set_read_timeout(Some(left))?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        if byte[0] == b'\n' {
            return String::from_utf8(line).map_err(|error| std::io::Error::new(ErrorKind::InvalidData, error));
        }
        line.push(byte[0]);
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

/// One rank of a group of processes.
///
/// ```
/// use eas_nn::dist::tcp::{Env, Rendezvous, TcpGroup, Timeouts};
/// use eas_nn::dist::{DistError, ProcessGroup};
///
/// // Two ranks, here as threads; rank 0 takes a free port.
/// let env = |rank, master_port| Env { rank, local_rank: rank, world_size: 2, master_addr: "127.0.0.1".into(), master_port };
/// let first = Rendezvous::open(&env(0, 0), Timeouts::default())?;
/// let second = env(1, first.port());
/// let other = std::thread::spawn(move || -> Result<Vec<f32>, DistError> {
///     TcpGroup::rendezvous(&second, Timeouts::default())?.all_gather(&[2.0])
/// });
/// assert_eq!(first.join()?.all_gather(&[1.0])?, [1.0, 2.0]);
/// assert_eq!(other.join().unwrap()?, [1.0, 2.0]);
/// # Ok::<(), DistError>(())
/// ```
#[derive(Debug)]
pub struct TcpGroup {
    rank: usize,
    world: usize,
    link: Mutex<Link>,
}

#[derive(Debug)]
struct Link {
    rank: usize,
    world: usize,
    timeouts: Timeouts,
    links: Option<Links>,
    /// Number and name of the collective under way.
    call: u32,
    name: String,
    started: Instant,
    traffic: Traffic,
    failed: Option<DistError>,
}

/// Kinds of messages.
const DATA: u8 = 0;
const HEARTBEAT: u8 = 1;
const LOST: u8 = 2;
const HEADER: usize = 17;

fn header(kind: u8, call: u32, name: u32, length: u64) -> [u8; HEADER] {
    let mut header = [kind; HEADER];
    header[1..5].copy_from_slice(&call.to_le_bytes());
    header[5..9].copy_from_slice(&name.to_le_bytes());
    header[9..].copy_from_slice(&length.to_le_bytes());
    header
}

/// The kind, the collective's number and name, and the length.
fn parse(header: &[u8; HEADER]) -> (u8, u32, u32, u64) {
    let [kind, c0, c1, c2, c3, n0, n1, n2, n3, length @ ..] = *header;
    (kind, u32::from_le_bytes([c0, c1, c2, c3]), u32::from_le_bytes([n0, n1, n2, n3]), u64::from_le_bytes(length))
}

/// Four bytes that tell two collectives apart.
fn digest(name: &str) -> u32 {
    crate::encoders::fnv1a(name.as_bytes()) as u32
}

impl TcpGroup {
    /// The most bytes that a message may have: 1 GiB.
    pub const LARGEST_MESSAGE: u64 = 1 << 30;

    /// Meets the other ranks.
    pub fn rendezvous(env: &Env, timeouts: Timeouts) -> Result<Self, DistError> {
        Rendezvous::open(env, timeouts)?.join()
    }

    fn new(rank: usize, world: usize, timeouts: Timeouts, links: Option<Links>) -> Self {
        let link = Link {
            rank,
            world,
            timeouts,
            links,
            call: 0,
            name: String::new(),
            started: Instant::now(),
            traffic: Traffic::default(),
            failed: None,
        };
        Self { rank, world, link: Mutex::new(link) }
    }

    /// Runs one collective. An error ends the group: the next rank is told, and every later call returns the same error.
    fn collective<T>(&self, name: String, run: impl FnOnce(&mut Link) -> Result<T, DistError>) -> Result<T, DistError> {
        let mut link = lock(&self.link);
        if let Some(error) = &link.failed {
            return Err(error.clone());
        }
        (link.name, link.started) = (name, Instant::now());
        let result = run(&mut link);
        if let Err(error) = &result {
            link.fail(error.clone());
        }
        link.call = link.call.wrapping_add(1);
        let spent = link.started.elapsed();
        link.traffic.time += spent;
        result
    }
}

/// The connection to the next rank, written to by a thread of its own.
#[derive(Debug)]
struct Writer {
    queue: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
    stream: TcpStream,
    /// How long what is queued may take to leave at the end.
    linger: Duration,
}

impl Writer {
    fn start(stream: TcpStream, timeouts: Timeouts) -> std::io::Result<Self> {
        let Timeouts { silence, patience, .. } = timeouts;
        let (sender, queue) = sync_channel(QUEUE);
        let theirs = stream.try_clone()?;
        let thread = std::thread::Builder::new().spawn(move || Self::write(theirs, &queue, silence / 4, patience))?;
        Ok(Self { queue: Some(sender), thread: Some(thread), stream, linger: silence })
    }

    /// Messages in order, and a heartbeat after each `beat` without one, until there is no more to send or the next rank is gone.
    fn write(mut stream: TcpStream, queue: &Receiver<Vec<u8>>, beat: Duration, patience: Duration) {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(patience));
        loop {
            let written = match queue.recv_timeout(beat) {
                Ok(message) => stream.write_all(&message),
                Err(RecvTimeoutError::Timeout) => stream.write_all(&header(HEARTBEAT, 0, 0, 0)),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if written.is_err() {
                return;
            }
        }
    }

    /// False when the connection is gone.
    fn send(&self, message: Vec<u8>) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.send(message).is_ok())
    }

    /// Queues a last message if there is room, sends what is queued, and closes the connection.
    fn close(&mut self, last: Option<Vec<u8>>) {
        if let (Some(queue), Some(last)) = (self.queue.take(), last) {
            let _ = queue.try_send(last);
        }
        let Some(thread) = self.thread.take() else { return };
        let deadline = Instant::now() + self.linger;
        while !thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
        // A thread that is still writing, to a rank that doesn't read, now gets an error.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        let _ = thread.join();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close(None);
    }
}

impl Link {
    fn previous(&self) -> usize {
        (self.rank + self.world - 1) % self.world
    }

    fn fail(&mut self, error: DistError) {
        let lost = if let DistError::PeerLost { rank, .. } = error { rank } else { self.rank };
        let why = error.to_string();
        let mut message = header(LOST, 0, lost as u32, why.len() as u64).to_vec();
        message.extend(why.bytes());
        if let Some(links) = &mut self.links {
            links.writer.close(Some(message));
        }
        self.failed = Some(error);
    }

    fn lost(&self, why: impl Into<String>) -> DistError {
        DistError::PeerLost { rank: self.previous(), why: why.into() }
    }

    /// Fills `buffer`; an error after `silence` without a byte.
    fn read(&mut self, buffer: &mut [u8]) -> Result<(), DistError> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.started.elapsed() > self.timeouts.patience {
                let (rank, seconds) = (self.previous(), self.timeouts.patience.as_secs());
                return Err(DistError::Timeout { rank, operation: self.name.clone(), seconds });
            }
            let Some(links) = &mut self.links else { return Err(self.lost("there is no connection")) };
            let _ = links.from_previous.set_read_timeout(Some(self.timeouts.silence));
            match links.from_previous.read(&mut buffer[filled..]) {
                Ok(0) => return Err(self.lost("it closed the connection")),
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(self.lost(format!("silent for {:?}", self.timeouts.silence)));
                }
                Err(error) => return Err(self.lost(error.to_string())),
            }
        }
        Ok(())
    }

    /// `length` bytes, with room made as they come: a length that isn't true costs no memory.
    fn read_body(&mut self, length: usize) -> Result<Vec<u8>, DistError> {
        let mut body = Vec::with_capacity(length.min(PIECE));
        while body.len() < length {
            let from = body.len();
            body.resize(from + PIECE.min(length - from), 0);
            self.read(&mut body[from..])?;
        }
        Ok(body)
    }
}

impl Ring for Link {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.world
    }

    fn send(&mut self, bytes: Vec<u8>) -> Result<(), DistError> {
        let length = bytes.len() as u64;
        if length > TcpGroup::LARGEST_MESSAGE {
            return Err(DistError::Oversized { rank: self.rank, bytes: length, limit: TcpGroup::LARGEST_MESSAGE });
        }
        let mut message = header(DATA, self.call, digest(&self.name), length).to_vec();
        message.extend(bytes);
        let next = (self.rank + 1) % self.world;
        if !self.links.as_ref().is_some_and(|links| links.writer.send(message)) {
            return Err(DistError::PeerLost { rank: next, why: "it no longer reads".to_owned() });
        }
        self.traffic.messages += 1;
        self.traffic.sent += length;
        Ok(())
    }

    fn receive(&mut self, expected: Option<usize>) -> Result<Vec<u8>, DistError> {
        let rank = self.previous();
        loop {
            let mut bytes = [0; HEADER];
            self.read(&mut bytes)?;
            let (kind, call, name, length) = parse(&bytes);
            let limit = TcpGroup::LARGEST_MESSAGE;
            match kind {
                HEARTBEAT => {}
                LOST => {
                    let why = self.read_body(length.min(1_000) as usize)?;
                    let why = String::from_utf8_lossy(&why);
                    let why = why.split_once(" was lost: ").map_or(&*why, |(_, why)| why);
                    // Passed on around the ring, it says only who saw it first.
                    let witness =
                        if why.contains(", says rank ") { String::new() } else { format!(", says rank {rank}") };
                    return Err(DistError::PeerLost { rank: name as usize, why: format!("{why}{witness}") });
                }
                DATA if length > limit => return Err(DistError::Oversized { rank, bytes: length, limit }),
                DATA if (call, name) == (self.call, digest(&self.name))
                    && expected.is_none_or(|n| n as u64 == length) =>
                {
                    let body = self.read_body(length as usize)?;
                    self.traffic.received += length;
                    return Ok(body);
                }
                DATA => {
                    let ours = format!("collective {}, {}", self.call, self.name);
                    let theirs = format!("collective {call} with a message of {length} bytes");
                    return Err(DistError::Mismatch { rank, ours, theirs });
                }
                other => return Err(self.lost(format!("it sent a message of unknown kind {other}"))),
            }
        }
    }
}

impl ProcessGroup for TcpGroup {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world
    }

    fn all_gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, DistError> {
        self.collective("all_gather_bytes".to_owned(), |link| ring::all_gather_bytes(link, own))
    }

    fn all_gather(&self, own: &[f32]) -> Result<Vec<f32>, DistError> {
        let (n, world) = (own.len(), self.world);
        self.collective(format!("all_gather of {n} values"), |link| {
            let mut values = vec![0.0; n * world];
            values[link.rank * n..][..n].copy_from_slice(own);
            ring::all_gather(link, &mut values, &Parts { values: n * world, world })?;
            Ok(values)
        })
    }

    fn all_reduce_sum(&self, values: &mut [f32]) -> Result<(), DistError> {
        let parts = Parts { values: values.len(), world: self.world };
        self.collective(format!("all_reduce_sum of {} values", values.len()), |link| {
            ring::reduce_scatter(link, values, &parts)?;
            ring::all_gather(link, values, &parts)
        })
    }

    fn reduce_scatter_sum(&self, values: &[f32]) -> Result<Vec<f32>, DistError> {
        check_parts(values.len(), self.world)?;
        let parts = Parts { values: values.len(), world: self.world };
        self.collective(format!("reduce_scatter_sum of {} values", values.len()), |link| {
            let mut sums = values.to_vec();
            ring::reduce_scatter(link, &mut sums, &parts)?;
            Ok(sums[parts.of(link.rank)].to_vec())
        })
    }

    fn broadcast(&self, values: &mut [f32], root: usize) -> Result<(), DistError> {
        check_root(root, self.world)?;
        self.collective(format!("broadcast of {} values from rank {root}", values.len()), |link| {
            if link.world == 1 { Ok(()) } else { ring::broadcast(link, values, root) }
        })
    }

    fn barrier(&self) -> Result<(), DistError> {
        self.collective("barrier".to_owned(), |link| ring::all_gather_bytes(link, &[]).map(drop))
    }

    fn traffic(&self) -> Traffic {
        lock(&self.link).traffic
    }
}

#[cfg(test)]
mod tests;
