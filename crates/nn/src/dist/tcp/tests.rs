use super::*;
use crate::dist::contract;
use std::sync::Arc;

const QUICK: Timeouts = Timeouts {
    rendezvous: Duration::from_secs(20),
    silence: Duration::from_millis(800),
    patience: Duration::from_secs(20),
};

fn env(rank: usize, world_size: usize, master_port: u16) -> Env {
    Env { rank, local_rank: rank, world_size, master_addr: "127.0.0.1".to_owned(), master_port }
}

/// Runs `work` on `world` threads that meet over loopback.
fn ranks<T: Send + 'static>(
    world: usize,
    timeouts: Timeouts,
    work: impl Fn(TcpGroup) -> T + Send + Sync + 'static,
) -> Vec<T> {
    let first = Rendezvous::open(&env(0, world, 0), timeouts).unwrap();
    let (port, work) = (first.port(), Arc::new(work));
    let others: Vec<_> = (1..world)
        .map(|rank| {
            let work = Arc::clone(&work);
            std::thread::spawn(move || work(TcpGroup::rendezvous(&env(rank, world, port), timeouts).unwrap()))
        })
        .collect();
    let mut results = vec![work(first.join().unwrap())];
    results.extend(others.into_iter().map(|thread| thread.join().unwrap()));
    results
}

#[test]
fn collectives_do_what_they_say_for_any_number_of_ranks() {
    for world in [1, 2, 3, 5] {
        for result in ranks(world, QUICK, |group| contract::holds(&group)) {
            result.unwrap();
        }
    }
}

#[test]
fn large_messages_do_not_block_the_ring() {
    // Far more than sockets buffer: every rank sends before any reads.
    let sums = ranks(3, QUICK, |group| {
        let mut values = vec![group.rank() as f32 + 1.0; 3_000_000];
        group.all_reduce_sum(&mut values).map(|()| values.iter().all(|&v| v == 6.0))
    });
    assert_eq!(sums, [Ok(true), Ok(true), Ok(true)]);
}

#[test]
fn an_all_reduce_sends_twice_the_share_of_the_others() {
    for (world, n) in [(2, 1_000), (4, 1_000), (4, 1_002)] {
        for traffic in ranks(world, QUICK, move |group| {
            group.all_reduce_sum(&mut vec![1.0; n]).unwrap();
            group.traffic()
        }) {
            let exact = 2.0 * (world - 1) as f64 / world as f64 * 4.0 * n as f64;
            assert!((traffic.sent as f64 - exact).abs() <= 8.0 * world as f64, "{traffic:?}");
            assert_eq!(traffic.messages, 2 * (world as u64 - 1));
        }
    }
}

#[test]
fn silence_between_collectives_is_no_death() {
    let quiet = Timeouts { silence: Duration::from_millis(500), ..QUICK };
    let done = ranks(2, quiet, |group| {
        if group.rank() == 1 {
            std::thread::sleep(Duration::from_millis(1_200));
        }
        group.barrier()
    });
    assert_eq!(done, [Ok(()), Ok(())]);
}

#[test]
fn every_survivor_names_the_rank_that_left() {
    let errors = ranks(4, QUICK, |group| {
        group.barrier().unwrap();
        if group.rank() == 2 {
            return None;
        }
        let start = Instant::now();
        let error = (0..100).find_map(|_| group.all_reduce_sum(&mut [1.0; 8]).err()).unwrap();
        assert_eq!(group.barrier().unwrap_err(), error);
        assert!(start.elapsed() < Duration::from_secs(2));
        Some(error)
    });
    for (rank, error) in errors.into_iter().enumerate() {
        match error {
            None => assert_eq!(rank, 2),
            Some(DistError::PeerLost { rank: lost, .. }) => assert_eq!(lost, 2, "rank {rank}"),
            Some(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_rank_that_lives_but_does_not_come_is_given_up() {
    let impatient = Timeouts { patience: Duration::from_millis(700), silence: Duration::from_millis(400), ..QUICK };
    let errors = ranks(2, impatient, |group| {
        if group.rank() == 1 {
            std::thread::sleep(Duration::from_secs(2));
        }
        group.barrier().unwrap_err()
    });
    assert!(matches!(&errors[0], DistError::Timeout { rank: 1, .. }), "{:?}", errors[0]);
    assert!(matches!(&errors[1], DistError::PeerLost { rank: 0, .. }), "{:?}", errors[1]);
}

#[test]
fn different_calls_are_noticed() {
    let errors = ranks(2, QUICK, |group| {
        let values = vec![0.0; 2 + group.rank()];
        group.all_gather(&values).unwrap_err().to_string()
    });
    let expected = "ranks disagree: this one called collective 0, all_gather of";
    assert!(errors.iter().any(|error| error.starts_with(expected)), "{errors:?}");
    let errors = ranks(2, QUICK, |group| {
        let call = if group.rank() == 0 { group.barrier() } else { group.all_gather_bytes(&[]).map(drop) };
        call.unwrap_err().to_string()
    });
    assert!(errors.iter().any(|error| error.starts_with("ranks disagree")), "{errors:?}");
}

/// A line, as a stranger would send it, and the answer.
fn say(port: u16, line: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn strangers_and_wrong_worlds_are_refused_and_the_group_still_meets() {
    let first = Rendezvous::open(&env(0, 2, 0), QUICK).unwrap();
    let port = first.port();
    let zero = std::thread::spawn(move || first.join()?.all_gather(&[1.0]));
    assert_eq!(say(port, "GET / HTTP/1.1\n"), format!("{PROTOCOL} REFUSED that is no hello\n"));
    assert!(say(port, "EAS-RING/9 HELLO 1 2 99\n").contains("REFUSED protocol \"EAS-RING/9\""));
    assert!(say(port, &format!("{PROTOCOL} HELLO 0 2 99\n")).contains("rank 0 is taken"));
    assert!(say(port, &format!("{PROTOCOL} HELLO 7 2 99\n")).contains("rank 7 of 2"));
    assert!(say(port, &format!("{PROTOCOL} HELLO one 2 99\n")).contains("no hello"));
    // Bytes that are no text, and a connection that closes at once.
    drop(TcpStream::connect(("127.0.0.1", port)).unwrap());
    TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(&[0xff, 0xfe, b'\n']).unwrap();
    let wrong = TcpGroup::rendezvous(&env(1, 3, port), QUICK).unwrap_err();
    assert_eq!(wrong, DistError::Refused("world size 3 of rank 1, this group has 2".to_owned()));
    let one = TcpGroup::rendezvous(&env(1, 2, port), QUICK).unwrap();
    assert_eq!(one.all_gather(&[2.0]).unwrap(), [1.0, 2.0]);
    assert_eq!(zero.join().unwrap().unwrap(), [1.0, 2.0]);
}

#[test]
fn nobody_waits_for_ever_for_ranks_that_do_not_come() {
    let brief = Timeouts { rendezvous: Duration::from_millis(500), ..QUICK };
    let first = Rendezvous::open(&env(0, 3, 0), brief).unwrap();
    let port = first.port();
    let wrong = std::thread::spawn(move || TcpGroup::rendezvous(&env(1, 2, port), brief).unwrap_err());
    let error = first.join().unwrap_err().to_string();
    assert!(error.contains("ranks [1, 2] of 3 did not come in time; refused: world size 2 of rank 1"), "{error}");
    assert!(matches!(wrong.join().unwrap(), DistError::Refused(_)));
    // Nobody listens here any more.
    let alone = TcpGroup::rendezvous(&env(1, 3, port), brief).unwrap_err();
    assert!(matches!(alone, DistError::Rendezvous { .. }), "{alone}");
    // Somebody else does.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let other = std::thread::spawn(move || {
        let mut stream = server.accept().unwrap().0;
        read_line(&mut stream, Instant::now() + Duration::from_secs(10)).unwrap();
        stream.write_all(b"220 mail ready\n").unwrap();
    });
    let error = TcpGroup::rendezvous(&env(1, 3, port), brief).unwrap_err().to_string();
    assert!(error.contains("whoever listens there answered \"220 mail ready\""), "{error}");
    other.join().unwrap();
}

/// Plays rank 1 of 2 by hand and hands rank 0's group to `work` on a thread.
fn beside_impostor<T: Send + 'static>(
    work: impl FnOnce(TcpGroup) -> T + Send + 'static,
    play: impl FnOnce(TcpStream, TcpStream),
) -> T {
    let first = Rendezvous::open(&env(0, 2, 0), QUICK).unwrap();
    let port = first.port();
    let zero = std::thread::spawn(move || work(first.join().unwrap()));
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut hello = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let line = format!("{PROTOCOL} HELLO 1 2 {}\n", own.local_addr().unwrap().port());
    hello.write_all(line.as_bytes()).unwrap();
    let answer = read_line(&mut hello, Instant::now() + Duration::from_secs(10)).unwrap();
    let token = answer.split(' ').nth(2).unwrap().to_owned();
    // One that doesn't know the token is not the previous rank.
    assert_eq!(say(port, &format!("{PROTOCOL} LINK guessed 1\n")), "");
    let mut to_zero = TcpStream::connect(("127.0.0.1", port)).unwrap();
    to_zero.write_all(format!("{PROTOCOL} LINK {token} 1\n").as_bytes()).unwrap();
    play(to_zero, own.accept().unwrap().0);
    zero.join().unwrap()
}

#[test]
fn a_length_that_nobody_could_mean_is_refused_before_memory_is_given() {
    let name = digest("all_gather_bytes");
    let gather = |group: TcpGroup| group.all_gather_bytes(&[1]).unwrap_err();
    let error = beside_impostor(gather, |mut out, _in| out.write_all(&header(DATA, 0, name, u64::MAX)).unwrap());
    assert_eq!(error, DistError::Oversized { rank: 1, bytes: u64::MAX, limit: TcpGroup::LARGEST_MESSAGE });
    // One that is allowed but not true costs one piece of memory and ends with the connection.
    let error = beside_impostor(gather, |mut out, _in| out.write_all(&header(DATA, 0, name, 1 << 30)).unwrap());
    assert_eq!(error, DistError::PeerLost { rank: 1, why: "it closed the connection".to_owned() });
    // Where the length is known, another one is a disagreement.
    let reduce = |group: TcpGroup| group.all_reduce_sum(&mut [1.0; 4]).unwrap_err();
    let name = digest("all_reduce_sum of 4 values");
    let error = beside_impostor(reduce, |mut out, _in| out.write_all(&header(DATA, 0, name, 1 << 29)).unwrap());
    assert!(error.to_string().contains("collective 0 with a message of 536870912 bytes"), "{error}");
}

#[test]
fn a_peer_that_hangs_is_lost_after_the_silence() {
    let error = beside_impostor(
        |group| group.barrier().unwrap_err(),
        |out, _in| {
            std::thread::sleep(Duration::from_millis(1_500));
            drop(out);
        },
    );
    assert_eq!(error, DistError::PeerLost { rank: 1, why: "silent for 800ms".to_owned() });
    let error = beside_impostor(|group| group.barrier().unwrap_err(), |mut out, _in| out.write_all(&[9; 17]).unwrap());
    assert_eq!(error, DistError::PeerLost { rank: 1, why: "it sent a message of unknown kind 9".to_owned() });
}

#[test]
fn dropping_a_group_does_not_wait_for_one_that_does_not_read() {
    let patient = |group: TcpGroup| {
        // More than the sockets take; the impostor never reads.
        let sent = group.broadcast(&mut vec![0.0; 4_000_000], 0);
        let start = Instant::now();
        drop(group);
        (sent, start.elapsed())
    };
    let (sent, dropped) = beside_impostor(patient, |out, inn| {
        std::thread::sleep(Duration::from_millis(1_500));
        drop((out, inn));
    });
    assert_eq!(sent, Ok(()));
    assert!(dropped < Duration::from_secs(10), "{dropped:?}");
}

#[test]
fn the_environment_is_torchruns_or_slurms() {
    let read = |pairs: &[(&str, &str)]| {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Env::from_lookup(move |name| pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
    };
    assert_eq!(read(&[]), Ok(None));
    let torch =
        [("RANK", "3"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "node0"), ("MASTER_PORT", "29500")];
    let node0 =
        |master_port| Env { rank: 3, local_rank: 1, world_size: 4, master_addr: "node0".to_owned(), master_port };
    assert_eq!(read(&torch), Ok(Some(node0(29_500))));
    let slurm =
        [("SLURM_PROCID", "3"), ("SLURM_LOCALID", "1"), ("SLURM_NTASKS", "4"), ("SLURM_LAUNCH_NODE_IPADDR", "node0")];
    assert_eq!(read(&slurm), Ok(Some(node0(12_355))));
    let alone = read(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap().unwrap();
    assert_eq!((alone.local_rank, alone.master_addr.as_str(), alone.master_port), (0, "localhost", 12_355));
    let message = |pairs: &[(&str, &str)]| read(pairs).unwrap_err().to_string();
    assert_eq!(message(&[("RANK", "0")]), "WORLD_SIZE is not set, must be set when a rank is, or SLURM_NTASKS");
    assert_eq!(message(&[("RANK", "one"), ("WORLD_SIZE", "2")]), "RANK is \"one\", must be a whole number");
    assert_eq!(message(&[("RANK", "2"), ("WORLD_SIZE", "2")]), "rank is 2, must be below the world size 2");
    assert!(message(&[("RANK", "0"), ("WORLD_SIZE", "0")]).starts_with("world size is 0"));
    assert!(message(&[("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_PORT", "70000")]).contains("at most 65535"));
    assert!(Rendezvous::open(&env(0, 2, 0), Timeouts { silence: Duration::ZERO, ..QUICK }).is_err());
}
