//! Listing 5.19: the same training by real processes that meet over sockets, and what the others see when one of them dies.
//!
//! cargo run --release --example multi_node_tcp_contrastive
//!
//! The listing starts its ranks itself. Over several machines start each by hand, with `EAS_RANK=train` and `RANK`, `WORLD_SIZE`,
//! `MASTER_ADDR`, `MASTER_PORT` or SLURM's variables set.

use std::sync::Arc;
use std::time::Duration;

use ch05_contrastive_learning::families::FamilyWorld;
use ch05_contrastive_learning::launch::{self, Rank};
use ch05_contrastive_learning::ranks::{RankRun, largest_difference, train_rank};
use eas_nn::NnError;
use eas_nn::dist::tcp::{Env, Rendezvous, Timeouts};
use eas_nn::dist::{ProcessGroup, ThreadGroup};
use eas_report::{Table, duration, num};

const NODES: usize = 2;
const GPUS: usize = 2;
const BATCH: usize = 64;
const STEPS: u64 = 50;

fn main() -> anyhow::Result<()> {
    // A child is a rank: it trains, prints what it found, and has no page.
    if let Ok(job) = std::env::var("EAS_RANK") {
        return rank(&job);
    }
    let mut page = eas_report::listing!();
    let seed = page.seed_or(5);
    let world = NODES * GPUS;

    page.section("Four processes train");
    let outputs = page.timed("4 processes, start and rendezvous included", || run("train", world, seed, None))?;
    let processes = outputs.iter().map(launch::Output::run).collect::<anyhow::Result<Vec<RankRun>>>()?;
    let families = FamilyWorld::new(seed)?;
    let train =
        |group: Arc<dyn ProcessGroup>| -> Result<RankRun, NnError> { train_rank(&group, &families, STEPS, BATCH) };
    let threads = page.timed("4 threads", || ThreadGroup::run(world, train))?;
    let mut table = Table::new(["step", "processes", "threads"]);
    for step in (0..STEPS as usize).step_by(10).chain([STEPS as usize - 1]) {
        table.row([step.into(), num(processes[0].losses[step], 4), num(threads[0].losses[step], 4)]);
    }
    page.table("The loss on rank 0: 16 pairs a rank, temperature 0.1", &table);
    let mut table = Table::new(["rank", "node", "local rank", "messages", "bytes sent", "communicating", "computing"]);
    for (rank, run) in processes.iter().enumerate() {
        let t = run.traffic;
        let times = [duration(t.time), duration(run.time.saturating_sub(t.time))];
        let place = [rank.into(), (rank / GPUS).into(), (rank % GPUS).into(), t.messages.into(), t.sent.into()];
        table.row(place.into_iter().chain(times));
    }
    page.table("What each rank sent in 50 steps", &table);
    page.text(
        "A step is one gather of embeddings, its backward pass, and one all-reduce of all gradients. On one machine the ranks \
         share its cores, so waiting for the others counts as communication.",
    );

    page.section("The cost of one all-reduce");
    let mut table = Table::new(["ranks", "values", "bytes sent a rank", "2 (W-1)/W 4n", "messages", "largest error"]);
    let mut reduced = Vec::new();
    for (ranks, n) in [(2, 4_000), (4, 4_000), (4, 40_000)] {
        let outputs = run("reduce", ranks, seed, Some(n))?;
        let exact = 2.0 * (ranks - 1) as f64 / ranks as f64 * 4.0 * n as f64;
        for output in outputs {
            let [sent, messages, error] = output.numbers()?;
            reduced.push((sent - exact, messages - 2.0 * (ranks - 1) as f64, error));
            if output.rank == 0 {
                let sums = [num(sent, 0), num(exact, 0), num(messages, 0), num(error, 6).within(1e-5)];
                table.row([ranks.into(), n.into()].into_iter().chain(sums));
            }
        }
    }
    page.table("A ring: n/W values a message, against sums taken without it", &table);

    page.section("A rank is killed");
    let lost = page.timed("until every survivor has given up", || killed(world, seed))?;
    let mut table = Table::new(["rank", "says"]);
    for (rank, words) in &lost {
        table.row([(*rank).into(), words.split(':').next().unwrap_or(words).into()]);
    }
    page.table("Rank 2 is killed at the first sign of training", &table);
    let mistaken = launch::wrong_world()?;

    let bits = |run: &RankRun| run.weights.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
    page.claim("all processes end with the same bits").all(&processes, |run| bits(run) == bits(&processes[0]));
    let gap = largest_difference(&processes[0].weights, &threads[0].weights);
    page.claim("and with the weights of the threads").within(1e-6).at_most(gap, 1e-6);
    let gap = largest_difference(&processes[0].losses, &threads[0].losses);
    page.claim("the losses of all steps agree").within(1e-6).at_most(gap, 1e-6);
    page.claim("an all-reduce sends 2 (W-1)/W of its bytes, but for rounding").all(&reduced, |r| r.0.abs() <= 32.0);
    page.claim("in 2 (W-1) messages").all(&reduced, |r| r.1 == 0.0);
    page.claim("and its sums are right").all(&reduced, |r| r.2 < 1e-5);
    page.claim("every survivor names the rank that died").all(&lost, |(_, words)| words.starts_with("rank 2 was lost"));
    page.claim("there were three").equals(lost.len(), world - 1);
    page.claim("a rank of another world is refused").fails(mistaken, "world size 3 of rank 1, this group has 2");
    page.finish()
}

/// What a child does: meets the others and does its job.
fn rank(job: &str) -> anyhow::Result<()> {
    let env = Env::from_process()?.ok_or_else(|| anyhow::anyhow!("EAS_RANK is set, but no RANK or SLURM_PROCID"))?;
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let meeting = Rendezvous::open(&env, Timeouts { rendezvous: Duration::from_secs(30), ..Timeouts::default() })?;
    if env.rank == 0 {
        launch::say("port", meeting.port());
    }
    let group: Arc<dyn ProcessGroup> = Arc::new(meeting.join()?);
    // One thread a rank, as between threads: the ranks share the cores.
    launch::alone(|| match job {
        "train" => {
            let families = FamilyWorld::new(number("EAS_SEED").unwrap_or(5))?;
            launch::say("training", env.rank);
            launch::Output::print(&train_rank(&group, &families, number("EAS_STEPS").unwrap_or(STEPS), BATCH)?);
            Ok(())
        }
        "reduce" => launch::reduce(&*group, number("EAS_VALUES").unwrap_or(1) as usize),
        other => anyhow::bail!("EAS_RANK is {other:?}, must be train or reduce"),
    })
}

/// Starts a child for every rank; rank 0 takes a free port and says which.
fn start(job: &str, world: usize, seed: u64, steps: u64, values: Option<usize>) -> anyhow::Result<Vec<Rank>> {
    let mut ranks: Vec<Rank> = Vec::new();
    let mut port = 0;
    for rank in 0..world {
        let (local, extra) = (rank % GPUS, values.unwrap_or(0));
        let settings = [
            ("RANK", rank),
            ("LOCAL_RANK", local),
            ("WORLD_SIZE", world),
            ("MASTER_PORT", port),
            ("EAS_VALUES", extra),
        ];
        let settings = settings.into_iter().chain([("EAS_SEED", seed as usize), ("EAS_STEPS", steps as usize)]);
        let mut child = Rank::start(rank, job, settings)?;
        if rank == 0 {
            port = child.wait_for("port")?.parse()?;
        }
        ranks.push(child);
    }
    Ok(ranks)
}

fn run(job: &str, world: usize, seed: u64, values: Option<usize>) -> anyhow::Result<Vec<launch::Output>> {
    start(job, world, seed, STEPS, values)?.into_iter().map(Rank::finish).collect()
}

/// Kills rank 2 of a training that would go on, and returns what the others say.
fn killed(world: usize, seed: u64) -> anyhow::Result<Vec<(usize, String)>> {
    let mut ranks = start("train", world, seed, 1_000_000, None)?;
    for rank in &mut ranks {
        rank.wait_for("training")?;
    }
    ranks.remove(2).kill()?;
    ranks.into_iter().map(|rank| Ok((rank.number, rank.last_words()?))).collect()
}
