//! One collection in several regions: where to keep copies, what that costs, and how far requests travel.

use eas_tensor::rng::SplitMix64;

use crate::PlanError;
use crate::error::{non_negative, positive, rate};
use crate::latency::LogNormal;
use crate::scale::{HOURS_A_MONTH, TIB};

/// A region of a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Region {
    /// Western United States.
    UsWest,
    /// Eastern United States.
    UsEast,
    /// Western Europe.
    EuWest,
    /// Asia and the Pacific.
    AsiaPacific,
    /// Latin America.
    LatinAmerica,
}

/// One-way milliseconds between regions, in the order of [`Region::ALL`].
const ONE_WAY_MS: [[f64; 5]; 5] = [
    [5.0, 35.0, 70.0, 75.0, 90.0],
    [35.0, 5.0, 45.0, 100.0, 60.0],
    [70.0, 45.0, 5.0, 120.0, 95.0],
    [75.0, 100.0, 120.0, 5.0, 150.0],
    [90.0, 60.0, 95.0, 150.0, 5.0],
];
/// One-way milliseconds from a user to the nearest point of presence.
const TO_POP_MS: f64 = 1.0;

impl Region {
    /// All regions.
    pub const ALL: [Self; 5] = [Self::UsWest, Self::UsEast, Self::EuWest, Self::AsiaPacific, Self::LatinAmerica];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::UsWest => "US-West",
            Self::UsEast => "US-East",
            Self::EuWest => "EU-West",
            Self::AsiaPacific => "Asia-Pacific",
            Self::LatinAmerica => "Latin America",
        }
    }

    /// Milliseconds from here to there, one way. 5 within a region.
    pub fn one_way_ms(self, other: Self) -> f64 {
        ONE_WAY_MS[self as usize][other as usize]
    }

    /// All regions, the nearest to this one first: itself, then the others.
    fn by_distance(self) -> [Self; 5] {
        let mut regions = Self::ALL;
        regions.sort_by(|a, b| self.one_way_ms(*a).total_cmp(&self.one_way_ms(*b)));
        regions
    }
}

/// Where copies of the vectors are kept. Shares are of the vectors, in order of popularity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// Every vector in every region.
    FullReplication,
    /// Every vector in its home region only.
    RegionalSharding,
    /// A share `hot` in every region, a share `warm` in the home region and those nearest to it, `warm_regions` in all, the rest in
    /// the home region.
    Tiered {
        /// Share of the vectors kept everywhere.
        hot: f64,
        /// Share kept in `warm_regions` regions.
        warm: f64,
        /// Regions of a warm vector, its home included.
        warm_regions: u32,
    },
    /// Every vector in its home region, and a share `cached` in each of `pops` points of presence close to the users.
    Edge {
        /// Points of presence.
        pops: u32,
        /// Share of the vectors that each holds.
        cached: f64,
    },
}

impl Strategy {
    fn check(self) -> Result<(), PlanError> {
        match self {
            Self::FullReplication | Self::RegionalSharding => {}
            Self::Tiered { hot, warm, warm_regions } => {
                rate("hot share", hot)?;
                rate("warm share", warm)?;
                rate("hot and warm share", hot + warm)?;
                if !(1..=5).contains(&warm_regions) {
                    return Err(PlanError::OutOfRange {
                        name: "warm regions",
                        value: f64::from(warm_regions),
                        expected: "1 to 5",
                    });
                }
            }
            Self::Edge { cached, .. } => {
                rate("cached share", cached)?;
            }
        }
        Ok(())
    }

    /// Copies of an average vector.
    pub fn copies(self) -> Result<f64, PlanError> {
        self.check()?;
        let regions = Region::ALL.len() as f64;
        Ok(match self {
            Self::FullReplication => regions,
            Self::RegionalSharding => 1.0,
            Self::Tiered { hot, warm, warm_regions } => {
                hot * regions + warm * f64::from(warm_regions) + (1.0 - hot - warm)
            }
            Self::Edge { pops, cached } => 1.0 + f64::from(pops) * cached,
        })
    }

    /// Machines in all regions: 200 a region for full copies, 100 otherwise, and two a point of presence.
    pub fn machines(self) -> f64 {
        let regions = Region::ALL.len() as f64;
        match self {
            Self::FullReplication => 200.0 * regions,
            Self::RegionalSharding | Self::Tiered { .. } => 100.0 * regions,
            Self::Edge { pops, .. } => 100.0 * regions + 2.0 * f64::from(pops),
        }
    }

    /// TB that changes send between regions a day: 50 for full copies, 20 where some vectors have several, 0 where none has.
    pub fn sync_tb_day(self) -> f64 {
        match self {
            Self::FullReplication => 50.0,
            Self::RegionalSharding => 0.0,
            Self::Tiered { .. } | Self::Edge { .. } => 20.0,
        }
    }

    /// Where the item of popularity rank `rank` of `items` with this home can be read.
    fn placement(self, rank: usize, items: usize, home: Region) -> Placement {
        let within = |share: f64| (rank as f64) < share * items as f64;
        match self {
            Self::FullReplication => Placement::Everywhere,
            Self::Tiered { hot, .. } if within(hot) => Placement::Everywhere,
            Self::Tiered { hot, warm, warm_regions } if within(hot + warm) => {
                Placement::Nearest(home, warm_regions as usize)
            }
            Self::Edge { cached, .. } if within(cached) => Placement::Pop,
            Self::RegionalSharding | Self::Tiered { .. } | Self::Edge { .. } => Placement::Nearest(home, 1),
        }
    }
}

/// Where an item is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placement {
    Everywhere,
    Pop,
    /// The home region and those nearest to it, this many in all.
    Nearest(Region, usize),
}

impl Placement {
    /// One-way milliseconds to the nearest copy.
    fn one_way_ms(self, from: Region) -> f64 {
        match self {
            Self::Everywhere => from.one_way_ms(from),
            Self::Pop => TO_POP_MS,
            Self::Nearest(home, regions) => {
                let copies = home.by_distance();
                let ways = copies[..regions].iter().map(|copy| from.one_way_ms(*copy));
                ways.fold(f64::INFINITY, f64::min)
            }
        }
    }
}

/// How the bytes that are stored become the GB that are billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BilledUnit {
    /// 1,000 a TiB: two units in one, and neither right.
    ThousandPerTib,
    /// 2^30 bytes.
    Gib,
    /// 1e9 bytes.
    Gb,
}

impl BilledUnit {
    fn units(self, bytes: f64) -> f64 {
        match self {
            Self::ThousandPerTib => bytes / TIB * 1e3,
            Self::Gib => bytes / (1u64 << 30) as f64,
            Self::Gb => bytes / 1e9,
        }
    }
}

/// What is deployed, and at which prices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deployment {
    /// Vectors.
    pub rows: u64,
    /// Values a vector, of 4 bytes.
    pub dim: u32,
    /// Queries a second over all regions.
    pub qps: f64,
    /// Bytes with the index over bytes of vectors.
    pub index_factor: f64,
    /// Dollars a billed GB and month.
    pub usd_gb_month: f64,
    /// Dollars a machine and hour.
    pub usd_machine_hour: f64,
    /// Dollars a GB between regions.
    pub usd_gb_sync: f64,
}

impl Default for Deployment {
    /// 256 trillion vectors of 768 values, a million queries a second, half as much again for the index; $0.023 a GB and month,
    /// $1.50 a machine and hour, $0.02 a GB between regions.
    fn default() -> Self {
        Self {
            rows: 256_000_000_000_000,
            dim: 768,
            qps: 1e6,
            index_factor: 1.5,
            usd_gb_month: 0.023,
            usd_machine_hour: 1.5,
            usd_gb_sync: 0.02,
        }
    }
}

/// Dollars a month.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GlobalCost {
    /// All copies.
    pub storage: f64,
    /// All machines.
    pub compute: f64,
    /// Traffic between regions.
    pub sync: f64,
    /// All of it over the millions of queries of a month.
    pub per_million_queries: f64,
}

impl GlobalCost {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.storage + self.compute + self.sync
    }
}

impl Deployment {
    /// Bytes of one copy without the index.
    pub fn raw_bytes(&self) -> f64 {
        self.rows as f64 * f64::from(self.dim) * 4.0
    }

    /// The monthly bill.
    pub fn cost(&self, strategy: Strategy, unit: BilledUnit) -> Result<GlobalCost, PlanError> {
        let bytes = self.raw_bytes() * strategy.copies()? * positive("index factor", self.index_factor)?;
        let storage = unit.units(bytes) * non_negative("price of storage", self.usd_gb_month)?;
        let machine_month = non_negative("price of a machine", self.usd_machine_hour)? * HOURS_A_MONTH;
        let compute = strategy.machines() * machine_month;
        let sync = strategy.sync_tb_day() * 30.0 * 1e3 * non_negative("price of traffic", self.usd_gb_sync)?;
        let millions = positive("queries a second", self.qps)? * HOURS_A_MONTH * 3_600.0 / 1e6;
        Ok(GlobalCost { storage, compute, sync, per_million_queries: (storage + compute + sync) / millions })
    }
}

/// A request for one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The item; items are numbered by popularity, the most popular first.
    pub item: usize,
    /// Where the user is.
    pub from: Region,
}

/// How a strategy did on a list of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// Milliseconds of each request, in the order of the requests: there and back to the nearest copy, and the service time.
    pub latency_ms: Vec<f64>,
    /// Share of the requests answered in the user's region or point of presence.
    pub local: f64,
    /// Share of the requests for items kept everywhere or in the points of presence.
    pub hot: f64,
}

impl Traffic {
    /// The `q`-quantile of the latencies, by nearest rank; 0 for no requests.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.latency_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

/// Sends each request to the nearest copy. `home[i]` is the home region of item `i`; service times are drawn from `service` with
/// `seed`, the same for every strategy.
pub fn simulate(
    strategy: Strategy,
    home: &[Region],
    requests: &[Request],
    service: LogNormal,
    seed: u64,
) -> Result<Traffic, PlanError> {
    strategy.check()?;
    let mut rng = SplitMix64::new(seed);
    let (mut latency_ms, mut local, mut hot) = (Vec::with_capacity(requests.len()), 0usize, 0usize);
    for request in requests {
        let Some(&item_home) = home.get(request.item) else {
            return Err(PlanError::OutOfRange {
                name: "item",
                value: request.item as f64,
                expected: "below the number of homes",
            });
        };
        let placement = strategy.placement(request.item, home.len(), item_home);
        let way = placement.one_way_ms(request.from);
        hot += usize::from(!matches!(placement, Placement::Nearest(..)));
        local += usize::from(way <= request.from.one_way_ms(request.from));
        latency_ms.push(2.0 * way + service.sample(&mut rng));
    }
    let share = |count: usize| count as f64 / requests.len().max(1) as f64;
    Ok(Traffic { latency_ms, local: share(local), hot: share(hot) })
}

/// Which items are hot, learned from the requests: at each rebalancing the most frequent ones of late are promoted, and those that
/// nobody asked for in `idle_days` days are demoted.
#[derive(Debug, Clone)]
pub struct HotTier {
    capacity: usize,
    idle_days: u32,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Item {
    /// Requests, those before each rebalancing counted half as much as those after it.
    weight: f64,
    last_day: Option<u32>,
    hot: bool,
}

/// What a rebalancing moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moves {
    /// Items that became hot.
    pub promoted: usize,
    /// Items that are hot no longer.
    pub demoted: usize,
}

impl HotTier {
    /// A tier of at most `capacity` of `items` items, none of them hot.
    pub fn new(items: usize, capacity: usize, idle_days: u32) -> Self {
        Self { capacity, idle_days, items: vec![Item::default(); items] }
    }

    /// Notes a request, and says whether its item was hot. An item that doesn't exist is an error.
    pub fn record(&mut self, item: usize, day: u32) -> Result<bool, PlanError> {
        let count = self.items.len();
        let Some(state) = self.items.get_mut(item) else {
            return Err(PlanError::OutOfRange {
                name: "item",
                value: item as f64,
                expected: if count == 0 { "none: the tier has no items" } else { "below the number of items" },
            });
        };
        state.weight += 1.0;
        state.last_day = Some(day);
        Ok(state.hot)
    }

    /// True when the item is hot.
    pub fn is_hot(&self, item: usize) -> bool {
        self.items.get(item).is_some_and(|state| state.hot)
    }

    /// Days since anybody asked for the item; `None` when nobody ever did.
    pub fn idle(&self, item: usize, day: u32) -> Option<u32> {
        Some(day.saturating_sub(self.items.get(item)?.last_day?))
    }

    /// Chooses the hot items anew; equal frequencies by lower number.
    pub fn rebalance(&mut self, day: u32) -> Moves {
        let mut order: Vec<usize> = (0..self.items.len())
            .filter(|&item| self.idle(item, day).is_some_and(|idle| idle <= self.idle_days))
            .collect();
        order.sort_by(|&a, &b| self.items[b].weight.total_cmp(&self.items[a].weight).then(a.cmp(&b)));
        order.truncate(self.capacity);
        let mut chosen = vec![false; self.items.len()];
        for item in order {
            chosen[item] = true;
        }
        let mut moves = Moves { promoted: 0, demoted: 0 };
        for (state, hot) in self.items.iter_mut().zip(chosen) {
            moves.promoted += usize::from(hot && !state.hot);
            moves.demoted += usize::from(!hot && state.hot);
            state.hot = hot;
            state.weight /= 2.0;
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    fn tiered(warm_regions: u32) -> Strategy {
        Strategy::Tiered { hot: 0.1, warm: 0.3, warm_regions }
    }

    #[test]
    fn the_published_bills() {
        let plan = Deployment::default();
        assert_relative_eq!(plan.raw_bytes() / TIB, 715_255.737_305, epsilon = 1e-6);
        let full = plan.cost(Strategy::FullReplication, BilledUnit::ThousandPerTib).unwrap();
        assert_relative_eq!(full.storage, 123_381_614.685_059, epsilon = 1e-5);
        assert_relative_eq!(full.compute, 1_080_000.0, epsilon = 1e-6);
        assert_relative_eq!(full.sync, 30_000.0, epsilon = 1e-6);
        assert_relative_eq!(full.total(), 124_491_614.685_059, epsilon = 1e-5);
        assert_relative_eq!(full.per_million_queries, 48.029_172, epsilon = 1e-6);
        let tier = plan.cost(tiered(1), BilledUnit::ThousandPerTib).unwrap();
        assert_relative_eq!(tier.total(), 35_098_852.111_816, epsilon = 1e-5);
        assert_relative_eq!(tier.per_million_queries, 13.541_224, epsilon = 1e-6);
        assert_relative_eq!(1.0 - tier.total() / full.total(), 0.718_062_52, epsilon = 1e-8);
        let storage = |unit| plan.cost(Strategy::FullReplication, unit).unwrap().storage;
        assert_relative_eq!(storage(BilledUnit::Gib), 126_342_773.437_5, epsilon = 1e-5);
        assert_relative_eq!(storage(BilledUnit::Gb), 135_659_520.0, epsilon = 1e-5);
    }

    #[test]
    fn copies_by_strategy() {
        let copies = |strategy: Strategy| strategy.copies().unwrap();
        assert_eq!(copies(Strategy::FullReplication), 5.0);
        assert_eq!(copies(Strategy::RegionalSharding), 1.0);
        for (regions, expected) in [(1, 1.4), (2, 1.7), (3, 2.0)] {
            assert_relative_eq!(copies(tiered(regions)), expected, epsilon = 1e-12);
        }
        assert_eq!(copies(Strategy::Edge { pops: 100, cached: 0.01 }), 2.0);
    }

    #[test]
    fn the_matrix_is_symmetric_and_a_region_is_nearest_to_itself() {
        for a in Region::ALL {
            assert_eq!(a.by_distance()[0], a);
            for b in Region::ALL {
                assert_eq!(a.one_way_ms(b), b.one_way_ms(a));
            }
        }
        assert_eq!(Region::UsWest.one_way_ms(Region::AsiaPacific), 75.0);
    }

    #[test]
    fn requests_go_to_the_nearest_copy() {
        let constant = LogNormal::from_p50_p99(10.0, 10.0).unwrap();
        let home = [Region::EuWest; 10];
        let ask = |strategy, item, from| simulate(strategy, &home, &[Request { item, from }], constant, 1).unwrap();
        let latency = |strategy, item, from| ask(strategy, item, from).latency_ms[0];
        assert_relative_eq!(latency(Strategy::FullReplication, 9, Region::UsWest), 20.0, epsilon = 1e-9);
        assert_relative_eq!(latency(Strategy::RegionalSharding, 9, Region::UsWest), 150.0, epsilon = 1e-9);
        assert_relative_eq!(latency(tiered(1), 0, Region::UsWest), 20.0, epsilon = 1e-9);
        // A warm item in two regions is at home and in US-East, 35 ms away.
        assert_relative_eq!(latency(tiered(2), 2, Region::UsWest), 80.0, epsilon = 1e-9);
        assert_relative_eq!(latency(tiered(2), 4, Region::UsWest), 150.0, epsilon = 1e-9);
        let edge = Strategy::Edge { pops: 3, cached: 0.1 };
        assert_relative_eq!(latency(edge, 0, Region::UsWest), 12.0, epsilon = 1e-9);
        assert_relative_eq!(latency(edge, 1, Region::UsWest), 150.0, epsilon = 1e-9);
        assert_eq!((ask(edge, 0, Region::UsWest).local, ask(edge, 1, Region::UsWest).local), (1.0, 0.0));
        let missing = Request { item: 10, from: Region::UsEast };
        assert!(simulate(edge, &home, &[missing], constant, 1).is_err());
        let none = simulate(edge, &home, &[], constant, 1).unwrap();
        assert_eq!((none.quantile(0.5), none.hot), (0.0, 0.0));
    }

    #[test]
    fn the_hot_tier_follows_the_requests() {
        let mut tier = HotTier::new(5, 2, 30);
        for (item, times) in [(0, 1), (3, 5), (4, 3)] {
            for _ in 0..times {
                assert!(!tier.record(item, 0).unwrap());
            }
        }
        assert_eq!(tier.rebalance(7), Moves { promoted: 2, demoted: 0 });
        assert!(tier.record(3, 8).unwrap() && tier.is_hot(4) && !tier.is_hot(0) && !tier.is_hot(9));
        // Day 38: item 3 was asked for 30 days ago, item 4 before that.
        assert_eq!(tier.rebalance(38), Moves { promoted: 0, demoted: 1 });
        assert!(tier.is_hot(3) && !tier.is_hot(4));
        assert_eq!((tier.idle(3, 38), tier.idle(1, 38)), (Some(30), None));
        assert!(tier.record(5, 1).is_err());
    }

    #[test]
    fn bad_input_is_refused() {
        let bad = [
            Strategy::Tiered { hot: 0.8, warm: 0.3, warm_regions: 1 },
            Strategy::Tiered { hot: 0.1, warm: 0.3, warm_regions: 0 },
            Strategy::Tiered { hot: f64::NAN, warm: 0.3, warm_regions: 1 },
            Strategy::Edge { pops: 1, cached: 1.5 },
        ];
        for strategy in bad {
            assert!(Deployment::default().cost(strategy, BilledUnit::Gb).is_err());
        }
        let idle = Deployment { qps: 0.0, ..Deployment::default() };
        assert!(idle.cost(Strategy::RegionalSharding, BilledUnit::Gb).is_err());
    }
}
