//! The world of listing 3.21: five regions with users of their own, a taste that changes, and a drill of the residency rules.

use eas_data::DataError;
use eas_data::synth::Zipf;
use eas_plan::PlanError;
use eas_plan::global::{HotTier, Region, Request};
use eas_tensor::rng::SplitMix64;
use eas_trust::residency::{Jurisdiction, Law, ResidencyError, ResidentStore, SiteKind, Tag};

/// The home region of each of `items` items, and `requests` requests: popularity by Zipf's law, seven of ten requests from the item's
/// home region and the others from anywhere.
pub fn world(items: usize, requests: usize, seed: u64) -> Result<(Vec<Region>, Vec<Request>), DataError> {
    let mut rng = SplitMix64::new(seed);
    let anywhere = |rng: &mut SplitMix64| Region::ALL[rng.below(Region::ALL.len())];
    let home: Vec<Region> = (0..items).map(|_| anywhere(&mut rng)).collect();
    let zipf = Zipf::new(items, 1.0)?;
    let draw = |_| {
        let item = zipf.sample(&mut rng);
        let from = if rng.chance(0.7) { home[item] } else { anywhere(&mut rng) };
        Request { item, from }
    };
    let requests = (0..requests).map(draw).collect();
    Ok((home, requests))
}

/// One week of a hot tier that learns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Week {
    /// Share of the week's requests for items that were hot.
    pub hits: f64,
    /// Items that became hot at its end.
    pub promoted: usize,
    /// Items that are hot no longer.
    pub demoted: usize,
    /// Hot items that nobody had asked for in the tier's idle days.
    pub stale: usize,
}

/// Weeks of 10,000 requests each that teach the tier what is hot. In week `turn`, counted from 0, taste turns around: the most popular item
/// becomes the least.
pub fn learn(
    tier: &mut HotTier,
    popularity: &Zipf,
    items: usize,
    weeks: u32,
    turn: u32,
    seed: u64,
) -> Result<Vec<Week>, PlanError> {
    const REQUESTS: u32 = 10_000;
    const IDLE_DAYS: u32 = 30;
    let mut rng = SplitMix64::new(seed);
    (0..weeks)
        .map(|week| {
            let mut hot = 0;
            for request in 0..REQUESTS {
                let rank = popularity.sample(&mut rng);
                let item = if week < turn { rank } else { items - 1 - rank };
                hot += u32::from(tier.record(item, 7 * week + request * 7 / REQUESTS)?);
            }
            let today = 7 * week + 6;
            let moves = tier.rebalance(today);
            let idle = |item: &usize| tier.idle(*item, today).is_none_or(|days| days > IDLE_DAYS);
            Ok(Week {
                hits: f64::from(hot) / f64::from(REQUESTS),
                promoted: moves.promoted,
                demoted: moves.demoted,
                stale: (0..items).filter(|&item| tier.is_hot(item)).filter(idle).count(),
            })
        })
        .collect()
}

/// What [`residency_drill`] counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drill {
    /// Items written, each copied to a second site and some to the cache.
    pub written: usize,
    /// Illegal writes and copies that were refused, of 20.
    pub refused: usize,
    /// Refusals in the store's own record.
    pub recorded: usize,
    /// Copies of EU vectors outside the EU, and any other copy where its law doesn't allow it.
    pub astray: usize,
    /// Copies of the deleted users' vectors before they were erased.
    pub before: usize,
    /// And after.
    pub after: usize,
    /// Vectors of deleted users that searches returned between deletion and erasure.
    pub found: usize,
}

/// 1,000 items of 500 users, kept where their law allows; 20 attempts to break it; 50 users who want to be forgotten.
pub fn residency_drill() -> Result<Drill, ResidencyError> {
    use Jurisdiction::{China, Elsewhere, Eu};
    const ITEMS: u64 = 1_000;
    let mut store = ResidentStore::new(8);
    let sites =
        [("US-East", Elsewhere), ("EU-West", Eu), ("EU-North", Eu), ("China", China), ("Latin America", Elsewhere)]
            .map(|(name, under)| store.add_site(name, under, SiteKind::Store));
    let cache = store.add_site("EU cache", Eu, SiteKind::Cache);
    let [us, eu, eu_north, china, latin] = sites;
    let vector = |id: u64| -> Vec<f32> { (0..8).map(|i| ((id * 8 + i) as f32).sin()).collect() };
    for id in 0..ITEMS {
        let (law, site, copy) = match id % 10 {
            0..=3 => (Law::EuOnly, eu, eu_north),
            4 => (Law::ChinaOnly, china, china),
            _ => (Law::Free, us, latin),
        };
        store.write(site, id, Tag { user: id / 2, law }, &vector(id), 0)?;
        store.replicate(id, site, copy, 0)?;
        if law != Law::ChinaOnly {
            store.replicate(id, site, cache, 1)?;
        }
    }
    // Ten EU users whose vectors arrive at the wrong door, and ten copies to the wrong site.
    let mut refused = 0;
    for attempt in 0..10 {
        let tag = Tag { user: ITEMS + attempt, law: Law::EuOnly };
        let wrong = if attempt % 2 == 0 { us } else { china };
        refused += usize::from(store.write(wrong, ITEMS + attempt, tag, &vector(attempt), 2).is_err());
        refused += usize::from(store.replicate(attempt * 10, eu, latin, 2).is_err());
    }
    let recorded = store.record().iter().filter(|event| !event.allowed).count();

    let deleted: Vec<u64> = (0..50).map(|i| i * 10).collect();
    for &user in &deleted {
        store.delete_user(user, 3);
    }
    let copies = |store: &ResidentStore| deleted.iter().map(|&user| store.copies_of(user)).sum();
    let before = copies(&store);
    let mut found = 0;
    for &user in &deleted {
        for (site, reader) in
            [(us, Elsewhere), (eu, Eu), (eu_north, Eu), (china, China), (latin, Elsewhere), (cache, Eu)]
        {
            let hits = store.search(site, reader, &vector(2 * user), 10, 3)?;
            found += hits.iter().filter(|id| **id / 2 == user).count();
        }
    }
    for site in sites.into_iter().chain([cache]) {
        store.erase(site, 10)?;
    }
    let outside = [us, china, latin].map(|site| store.ids_under(site, Law::EuOnly).len());
    Ok(Drill {
        written: ITEMS as usize,
        refused,
        recorded,
        astray: outside.iter().sum::<usize>() + store.violations().len(),
        before,
        after: copies(&store),
        found,
    })
}
