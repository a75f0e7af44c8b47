//! Listing 6.11: a service of embeddings. A cache that forgets what was used least recently, batches without repetitions, and answers while
//! the encoder fails.
//!
//! cargo run --release --example siamese_embedding_service              (--serve 127.0.0.1:8080: then over HTTP)

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use candle_core::Device;
use ch06_siamese_networks::digits::Digits;
use ch06_siamese_networks::glyph_net::{PkTraining, batch_hard};
use ch06_siamese_networks::pictures::{Picture, encode_with};
use eas_data::synth::zipf::Zipf;
use eas_nn::encoders::Mlp;
use eas_nn::params::Parameters;
use eas_ops::cache::{Policy, replay};
use eas_ops::clock::SystemClock;
use eas_ops::embedding::{EmbeddingService, Fallback, Health, Item, ServiceConfig};
use eas_ops::serve::{HttpConfig, Server};
use eas_report::{Chart, Table, duration, pct};

const CAPACITIES: [usize; 3] = [50, 200, 1_000];

fn main() -> anyhow::Result<()> {
    let mut page = eas_report::listing!();
    let seed = page.seed_or(11);
    let digits = Digits::load()?;
    let mut params = Parameters::new(seed, &Device::Cpu);
    let encoder = Mlp::new(&mut params, "digits", 64, 64, 32)?;
    let training = PkTraining { p: 10, k: 6, steps: 150, learning_rate: 2e-3, seed };
    training.run(&params, &encoder, &digits.train, &digits.train_labels, batch_hard(0.3))?;
    let pictures: Vec<Picture> = digits.train.iter_rows().chain(digits.test.iter_rows()).map(Picture::new).collect();
    let labels = [&*digits.train_labels, &*digits.test_labels].concat();
    let service = |capacity, fallback| {
        let config = ServiceConfig { capacity, batch: 64, fallback, ..ServiceConfig::default() };
        EmbeddingService::new(config, Arc::new(SystemClock::new()), "digits-1", encode_with(&encoder))
    };

    page.section("What leaves the cache");
    let small = service(3, Fallback::Stale)?;
    let trace = [1, 2, 3, 1, 4, 1, 2];
    trace.iter().try_for_each(|&i| small.get(&pictures[i]).map(drop))?;
    let by_hand = (small.stats().hits, replay(&trace, 3, Policy::Fifo).hits);
    page.text(format!("{trace:?} with room for three: {} hits; throwing out the oldest, {}.", by_hand.0, by_hand.1));
    let trace = Zipf::new(pictures.len(), 1.2)?.trace(seed, 20_000);
    let columns = ["capacity", "hit rate", "hit rate, first in first out", "encoded", "evictions", "p50", "p99"];
    let mut table = Table::new(columns);
    let (mut rates, mut accounted) = (Vec::new(), Vec::new());
    for capacity in CAPACITIES {
        let service = service(capacity, Fallback::Stale)?;
        trace.iter().try_for_each(|&i| service.get(&pictures[i]).map(drop))?;
        let (stats, fifo) = (service.stats(), replay(&trace, capacity, Policy::Fifo).hit_rate());
        let time = |us: Option<f64>| duration(Duration::from_secs_f64(us.unwrap_or(0.0) / 1e6));
        let counts = [stats.encoded.into(), stats.evictions.into(), time(stats.p50), time(stats.p99)];
        table.row([capacity.into(), pct(stats.hit_rate(), 1), pct(fifo, 1)].into_iter().chain(counts));
        accounted.push((stats.hits + stats.misses, stats.misses == stats.encoded));
        rates.push((stats.hit_rate(), fifo));
    }
    page.table("20,000 requests for 1,797 pictures, the r-th most popular r^-1.2 as often as the first", &table);
    let chart = Chart::lines("Least recently used against first in, first out", "capacity", "hit rate").log_x();
    let chart = chart.series("LRU", CAPACITIES.into_iter().zip(rates.iter().map(|r| r.0)));
    page.chart("hit_rate.svg", &chart.series("FIFO", CAPACITIES.into_iter().zip(rates.iter().map(|r| r.1))))?;

    page.section("Batches");
    let service_of_all = service(2_000, Fallback::Stale)?;
    let wanted: Vec<usize> = (0..300).map(|i| (i * i) % 97).collect();
    let batch = service_of_all.get_batch(&wanted.iter().map(|&i| pictures[i].clone()).collect::<Vec<_>>())?;
    let encoded = service_of_all.stats().encoded;
    let mut largest = 0.0_f32;
    for (embedding, &i) in batch.iter().zip(&wanted) {
        let single = service(1, Fallback::Error)?.get(&pictures[i])?;
        largest = single.iter().zip(embedding.iter()).map(|(x, y)| (x - y).abs()).fold(largest, f32::max);
    }
    page.text(format!(
        "300 pictures, 49 different: {encoded} encoded. Beside single calls: largest difference {largest:.1e}."
    ));
    let candidates: Vec<Picture> = pictures[..1_000].to_vec();
    let nearest = (1_200..1_400).map(|i| Ok(service_of_all.find_similar(&pictures[i], &candidates, 1)?[0]));
    let nearest = nearest.collect::<anyhow::Result<Vec<(usize, f32)>>>()?;
    let right = (1_200..1_400).zip(&nearest).filter(|(i, near)| labels[*i] == labels[near.0]).count() as f64 / 200.0;
    page.text(format!("200 test pictures, the most similar of 1,000 others: {:.0}% of the same digit.", 100.0 * right));
    let same = service_of_all.compare(&pictures[0], &pictures[0])?;

    let shared = service(200, Fallback::Stale)?;
    let answers: Vec<bool> = thread::scope(|scope| {
        let (shared, reference, pictures) = (&shared, &service_of_all, &pictures);
        let ask = move |part: &[usize]| {
            part.iter().all(|&i| match (shared.get(&pictures[i]), reference.get(&pictures[i])) {
                (Ok(a), Ok(b)) => a.iter().zip(b.iter()).all(|(x, y)| (x - y).abs() < 1e-5),
                _ => false,
            })
        };
        let threads: Vec<_> = trace.chunks(2_500).map(|part| scope.spawn(move || ask(part))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(false)).collect()
    });
    let stats = shared.stats();
    let threads = (stats.hits + stats.misses, stats.misses == stats.encoded);
    page.text(format!("The same requests from eight threads: hit rate {:.1}%.", 100.0 * stats.hit_rate()));

    page.section("When the model changes, and when the encoder fails");
    let mut table = Table::new(["fallback", "model", "encoder", "answer", "health"]);
    let mut outcomes = Vec::new();
    for fallback in [Fallback::Stale, Fallback::Error] {
        let service = service(10, fallback)?;
        let first = service.get(&pictures[0])?;
        let down = |_: &[&Picture]| Err("no connection".to_owned());
        service.switch_model("digits-2", down)?;
        let answer = service.get(&pictures[0]);
        let (said, health) = (format!("{:?}", answer.as_ref().map(|_| "stale embedding")), service.health());
        let name = format!("{fallback:?}");
        table.row([name.clone().into(), "digits-2".into(), "down".into(), said.into(), format!("{health:?}").into()]);
        outcomes.push((answer.is_ok_and(|a| a == first), matches!(health, Health::Degraded(_))));
        service.switch_model("digits-3", encode_with(&encoder))?;
        let before = service.stats().misses;
        service.get(&pictures[0])?;
        let (missed, health) = (service.stats().misses - before, service.health());
        let said = format!("{missed} miss, encoded anew").into();
        table.row([name.into(), "digits-3".into(), "up".into(), said, format!("{health:?}").into()]);
        outcomes.push((missed == 1, health == Health::Healthy));
    }
    page.table("An embedding made by digits-1 is cached", &table);
    let tall = Picture { shape: [64, 1], ..pictures[0].clone() };

    page.claim("hits on 1,2,3,1,4,1,2 with room for three: LRU, FIFO").equals(by_hand, (2, 1));
    page.claim("every request is a hit or a miss, and every miss is encoded").equals(accounted, [(20_000, true); 3]);
    page.claim("hit rates grow with capacity").all(rates.windows(2), |w| w[1].0 > w[0].0);
    page.claim("LRU hits at least as often as FIFO").all(&rates, |(lru, fifo)| lru >= fifo);
    page.claim("a batch encodes each different picture once").equals(encoded, 49);
    page.claim("and gives what single calls give").within(1e-6).at_most(largest, 1e-6);
    page.claim("most similar pictures show the same digit").at_least(right, 0.9);
    page.claim("a picture and itself").close(same, 1.0, 1e-6);
    page.claim("eight threads get right answers").all(answers, |right| right);
    page.claim("and lose no count").equals(threads, (20_000, true));
    page.claim("a failing encoder: stale or an error, and degraded; a new model: a miss, and healthy")
        .equals(outcomes, [(true, true), (true, true), (false, true), (true, true)]);
    page.claim("the same bytes in another shape have another key").equals(tall.key() == pictures[0].key(), false);
    let address = page.serve();
    page.finish()?;
    if let Some(address) = address {
        let server = Server::start(address, Arc::new(service_of_all), Picture::read, HttpConfig::default())?;
        println!("POST http://{}/embed or /similar, GET /stats or /health; Ctrl-C ends it.", server.address());
        server.wait()?;
    }
    Ok(())
}
