//! Listing 5.16's training in processes that `mpirun` starts, when `--backend mpi` asks for it.

use eas_report::{BackendChoice, Listing};

use crate::ranks::RankRun;

/// The environment variable that tells a process that it is a rank, and of how many steps.
const STEPS: &str = "EAS_MPI_STEPS";
/// And the one with the seed of the families.
const SEED: &str = "EAS_MPI_SEED";

/// Trains in two processes, and gives what the first one got, when it was asked for and this build can.
pub fn train(page: &mut Listing, seed: u64, steps: u64) -> anyhow::Result<Option<RankRun>> {
    if !page.runs_on(BackendChoice::Mpi) {
        return Ok(None);
    }
    if cfg!(feature = "mpi") {
        return start(2, seed, steps).map(Some);
    }
    page.skip(
        "training in processes",
        format!(
            "this build has no MPI: apt-get install openmpi-bin libopenmpi-dev libclang-dev, then cargo run --release -p {} --features mpi \
             --example distributed_all_gather_infonce -- --backend mpi",
            env!("CARGO_PKG_NAME")
        ),
    );
    Ok(None)
}

/// Starts this program under `mpirun`.
fn start(ranks: usize, seed: u64, steps: u64) -> anyhow::Result<RankRun> {
    use anyhow::{Context, ensure};

    // Under root, as in a container, Open MPI wants to be told twice.
    let run = std::process::Command::new("mpirun")
        .args(["--allow-run-as-root", "--oversubscribe", "-n", &ranks.to_string()])
        .arg(std::env::current_exe()?)
        .env(STEPS, steps.to_string())
        .env(SEED, seed.to_string())
        .output()
        .context("mpirun can't be started; Debian's package is openmpi-bin")?;
    ensure!(run.status.success(), "mpirun: {}", String::from_utf8_lossy(&run.stderr));
    crate::launch::Output::parse(0, &String::from_utf8_lossy(&run.stdout)).run()
}

/// The part of a process that [`train`] has started; `None` in any other.
pub fn rank() -> Option<anyhow::Result<()>> {
    let of = |name: &str| std::env::var(name).ok()?.parse().ok();
    let (steps, seed): (u64, u64) = (of(STEPS)?, of(SEED)?);
    Some(run(steps, seed))
}

#[cfg(not(feature = "mpi"))]
fn run(_: u64, _: u64) -> anyhow::Result<()> {
    anyhow::bail!("{STEPS} is set, and this build has no MPI")
}

/// Trains with the other ranks; the first one prints what came out, if all have the same weights.
#[cfg(feature = "mpi")]
fn run(steps: u64, seed: u64) -> anyhow::Result<()> {
    use std::sync::Arc;

    use eas_nn::dist::ProcessGroup;
    use eas_nn::dist::mpi::MpiGroup;

    use crate::families::FamilyWorld;
    use crate::ranks::train_rank;

    let group: Arc<dyn ProcessGroup> = Arc::new(MpiGroup::new()?);
    let done = train_rank(&group, &FamilyWorld::new(seed)?, steps, 64)?;
    let all = group.all_gather(&done.weights)?;
    let bits = |weights: &[f32]| weights.iter().map(|w| w.to_bits()).collect::<Vec<_>>();
    anyhow::ensure!(all.chunks(done.weights.len()).all(|one| bits(one) == bits(&all[..one.len()])), "ranks disagree");
    if group.rank() == 0 {
        crate::launch::Output::print(&done);
    }
    Ok(())
}
