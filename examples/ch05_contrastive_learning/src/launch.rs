//! Ranks that are processes: this program started again, once for each, and what they print.
//!
//! A rank prints lines of a word and a value. Everything else it prints is passed over.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use eas_nn::dist::tcp::{Env, Rendezvous, Timeouts};
use eas_nn::dist::{DistError, ProcessGroup, Traffic};
use eas_tensor::rng::SplitMix64;

use crate::ranks::RankRun;

/// A rank that runs. It is ended with this value.
#[derive(Debug)]
pub struct Rank {
    /// Its number.
    pub number: usize,
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// What a rank printed.
#[derive(Debug)]
pub struct Output {
    /// Its number.
    pub rank: usize,
    lines: Vec<(String, String)>,
}

/// Prints a line for whoever started this process.
pub fn say(word: &str, value: impl Display) {
    println!("{word} {value}");
    let _ = std::io::stdout().flush();
}

/// Runs `work` with a pool of one thread.
pub fn alone<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build()?.install(work)
}

/// The job of a rank that only sums: one all-reduce of values that every rank knows, and what it cost.
pub fn reduce(group: &dyn ProcessGroup, n: usize) -> Result<()> {
    let of = |rank: usize| -> Vec<f32> {
        let mut rng = SplitMix64::stream(19, rank as u64);
        (0..n).map(|_| rng.uniform() as f32).collect()
    };
    let mut values = of(group.rank());
    group.all_reduce_sum(&mut values)?;
    let mut sums = vec![0.0f64; n];
    for rank in 0..group.world_size() {
        for (sum, value) in sums.iter_mut().zip(of(rank)) {
            *sum += f64::from(value);
        }
    }
    let error = values.iter().zip(sums).map(|(&got, want)| (f64::from(got) - want).abs()).fold(0.0, f64::max);
    let Traffic { sent, messages, .. } = group.traffic();
    say("numbers", format_args!("{sent} {messages} {error}"));
    Ok(())
}

impl Rank {
    /// Starts this program as rank `number` for `job`, with settings in its environment. It listens and connects on this machine.
    pub fn start(number: usize, job: &str, settings: impl IntoIterator<Item = (&'static str, usize)>) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.env("EAS_RANK", job).env("MASTER_ADDR", "127.0.0.1");
        command.envs(settings.into_iter().map(|(name, value)| (name, value.to_string())));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("a child without output")?);
        Ok(Self { number, child, lines })
    }

    /// Reads on until the rank says `word`, and returns the value.
    pub fn wait_for(&mut self, word: &str) -> Result<String> {
        let mut line = String::new();
        while self.lines.read_line(&mut line)? > 0 {
            if let Some(value) = line.strip_prefix(word).and_then(|rest| rest.strip_prefix(' ')) {
                return Ok(value.trim_end().to_owned());
            }
            line.clear();
        }
        let errors = self.errors();
        anyhow::bail!("rank {} ended without {word:?}: {errors}", self.number)
    }

    /// Waits for its end; an error when it failed.
    pub fn finish(mut self) -> Result<Output> {
        let mut text = String::new();
        self.lines.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        let errors = self.errors();
        ensure!(status.success(), "rank {} failed: {errors}", self.number);
        Ok(Output::parse(self.number, &text))
    }

    /// Waits for it to fail, and returns what it says.
    pub fn last_words(mut self) -> Result<String> {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest)?;
        let status = self.child.wait()?;
        ensure!(!status.success(), "rank {} ended well", self.number);
        let errors = self.errors();
        let line = errors.lines().find_map(|line| line.strip_prefix("Error: ")).unwrap_or(&errors);
        Ok(line.to_owned())
    }

    /// Ends the process, as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        let _ = self.child.stderr.take().map(|mut errors| errors.read_to_string(&mut text));
        text
    }
}

impl Drop for Rank {
    fn drop(&mut self) {
        // No rank outlives the listing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// The lines of rank `rank`.
    pub fn parse(rank: usize, text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Self { rank, lines: lines.map(|(word, value)| (word.to_owned(), value.to_owned())).collect() }
    }

    /// Prints a training run for [`run`](Self::run) to read: numbers to the bit.
    pub fn print(run: &RankRun) {
        let RankRun { losses, weights, traffic, time } = run;
        let words = |bits: &mut dyn Iterator<Item = String>| bits.collect::<Vec<_>>().join(" ");
        say("losses", words(&mut losses.iter().map(|loss| format!("{:x}", loss.to_bits()))));
        say("weights", words(&mut weights.iter().map(|weight| format!("{:x}", weight.to_bits()))));
        let Traffic { messages, sent, received, time: waited } = traffic;
        say("traffic", format_args!("{messages} {sent} {received} {} {}", waited.as_micros(), time.as_micros()));
    }

    fn values(&self, word: &str) -> Result<impl Iterator<Item = &str>> {
        let line = self.lines.iter().find(|(own, _)| own == word);
        Ok(line.with_context(|| format!("rank {} said no {word}", self.rank))?.1.split(' '))
    }

    /// The training run that the rank printed.
    pub fn run(&self) -> Result<RankRun> {
        let losses = self.values("losses")?.map(|bits| Ok(f64::from_bits(u64::from_str_radix(bits, 16)?)));
        let weights = self.values("weights")?.map(|bits| Ok(f32::from_bits(u32::from_str_radix(bits, 16)?)));
        let (losses, weights) = (losses.collect::<Result<_>>()?, weights.collect::<Result<_>>()?);
        let counts = self.values("traffic")?.map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [messages, sent, received, waited, all] = counts[..] else { anyhow::bail!("traffic {counts:?}") };
        let traffic = Traffic { messages, sent, received, time: Duration::from_micros(waited) };
        Ok(RankRun { losses, weights, traffic, time: Duration::from_micros(all) })
    }

    /// The numbers of [`reduce`]: bytes and messages sent, and the largest error of a sum.
    pub fn numbers(&self) -> Result<[f64; 3]> {
        let numbers = self.values("numbers")?.map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        numbers[..].try_into().with_context(|| format!("numbers {numbers:?}"))
    }
}

/// What a rank hears that was told of three ranks where two meet.
pub fn wrong_world() -> Result<Result<(), DistError>> {
    let quick = Timeouts { rendezvous: Duration::from_secs(10), ..Timeouts::default() };
    let env = |rank, world_size, master_port| Env {
        rank,
        local_rank: rank,
        world_size,
        master_addr: "127.0.0.1".to_owned(),
        master_port,
    };
    let host = Rendezvous::open(&env(0, 2, 0), Timeouts { rendezvous: Duration::from_millis(500), ..quick })?;
    let port = host.port();
    let waiting = std::thread::spawn(move || host.join().map(drop));
    let refused = Rendezvous::open(&env(1, 3, port), quick)?.join().map(drop);
    let _ = waiting.join();
    Ok(refused)
}
