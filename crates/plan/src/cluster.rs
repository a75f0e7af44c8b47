//! A cluster of shards and replicas on paper: does it hold the vectors, does it answer the queries, what does it cost?

use crate::PlanError;
use crate::error::{non_negative, positive, rate};
use crate::scale::HOURS_A_MONTH;
use crate::sensitivity::{Swing, one_at_a_time};

/// One kind of machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachineSpec {
    /// Cores.
    pub cores: f64,
    /// Memory in GB (1e9 bytes).
    pub ram_gb: f64,
    /// Disk in TB (1e12 bytes).
    pub disk_tb: f64,
    /// Dollars an hour.
    pub usd_hour: f64,
}

/// How vectors are kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InMemory {
    /// As they are, 4 bytes a value.
    F32,
    /// As product-quantizer codes of this many bytes; the vectors are on disk, where the last candidates are compared anew.
    Codes(u32),
}

/// A cluster that keeps a whole copy of the collection in each region, cut into shards of which each has several replicas. A query
/// asks one replica of every shard of its region. A machine holds one replica of one shard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClusterSpec {
    /// Vectors.
    pub vectors: f64,
    /// Values a vector.
    pub dim: f64,
    /// Queries a second over all regions.
    pub qps: f64,
    /// Inserts a second over all regions; each goes to every region.
    pub inserts: f64,
    /// Regions.
    pub regions: f64,
    /// Shards a region.
    pub shards: f64,
    /// Replicas of each shard in each region.
    pub replicas: f64,
    /// The machine of a replica.
    pub machine: MachineSpec,
    /// Dollars a TB of disk and month.
    pub storage_tb_month: f64,
    /// Dollars a month for the network.
    pub network_month: f64,
    /// Links of a node in the HNSW graph: `2 m` on its bottom level, which are counted here; the upper levels add one part in
    /// `2 m`.
    pub m: f64,
    /// Share of the queries that a cache answers.
    pub cache_hit: f64,
    /// How vectors are kept in memory.
    pub in_memory: InMemory,
    /// Milliseconds of one core that a search of one shard takes.
    pub search_core_ms: f64,
    /// Milliseconds of one core that an insert into one shard takes.
    pub insert_core_ms: f64,
    /// Share of a machine's memory that vectors and links may fill.
    pub ram_share: f64,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, under a condition that is easily broken.
    Warn,
    /// It doesn't work.
    Fatal,
}

/// What [`ClusterSpec::validate`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Memory of a machine.
    Memory,
    /// Disk of a machine.
    Disk,
    /// Searches a second that a machine can do.
    Searches,
    /// Cores of a machine, searches and inserts together.
    Cores,
}

/// Something wrong with a design.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What runs out.
    pub resource: Resource,
    /// What is needed, in the unit of [`Self::has`].
    pub needs: f64,
    /// What there is.
    pub has: f64,
    /// The finding as a sentence.
    pub message: String,
}

/// Dollars a month.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClusterCost {
    /// Machines.
    pub compute: f64,
    /// Disks.
    pub storage: f64,
    /// Network.
    pub network: f64,
}

impl ClusterCost {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.compute + self.storage + self.network
    }
}

impl ClusterSpec {
    /// A shop of 50 billion products as vectors of 512 values: 500,000 queries a second in five regions, 200 shards with three
    /// replicas on machines of 32 cores, 256 GB and 4 TB.
    pub fn fifty_billion_products() -> Self {
        Self {
            vectors: 50e9,
            dim: 512.0,
            qps: 500_000.0,
            inserts: 50_000.0,
            regions: 5.0,
            shards: 200.0,
            replicas: 3.0,
            machine: MachineSpec { cores: 32.0, ram_gb: 256.0, disk_tb: 4.0, usd_hour: 1.5 },
            storage_tb_month: 150.0,
            network_month: 50_000.0,
            m: 32.0,
            cache_hit: 0.85,
            in_memory: InMemory::F32,
            search_core_ms: 2.0,
            insert_core_ms: 5.0,
            ram_share: 0.8,
        }
    }

    /// Refuses what isn't a cluster.
    fn check(&self) -> Result<(), PlanError> {
        for (name, value) in [
            ("vectors", self.vectors),
            ("dimension", self.dim),
            ("regions", self.regions),
            ("shards", self.shards),
            ("replicas", self.replicas),
            ("cores", self.machine.cores),
            ("memory of a machine", self.machine.ram_gb),
            ("disk of a machine", self.machine.disk_tb),
            ("m", self.m),
            ("time of a search", self.search_core_ms),
            ("share of memory", self.ram_share),
        ] {
            positive(name, value)?;
        }
        for (name, value) in [
            ("queries a second", self.qps),
            ("inserts a second", self.inserts),
            ("price of a machine", self.machine.usd_hour),
            ("price of storage", self.storage_tb_month),
            ("price of the network", self.network_month),
            ("time of an insert", self.insert_core_ms),
        ] {
            non_negative(name, value)?;
        }
        rate("cache hits", self.cache_hit)?;
        rate("share of memory", self.ram_share)?;
        Ok(())
    }

    /// Machines a region.
    pub fn machines_per_region(&self) -> f64 {
        self.shards * self.replicas
    }

    /// Machines in all regions.
    pub fn machines(&self) -> f64 {
        self.machines_per_region() * self.regions
    }

    /// Vectors on a shard.
    pub fn vectors_per_shard(&self) -> f64 {
        self.vectors / self.shards
    }

    /// GB of a shard's vectors as f32.
    pub fn raw_gb_per_shard(&self) -> f64 {
        self.vectors_per_shard() * self.dim * 4.0 / 1e9
    }

    /// GB of a shard's links, with ids of 4 bytes.
    pub fn link_gb_per_shard(&self) -> f64 {
        self.vectors_per_shard() * 2.0 * self.m * 4.0 / 1e9
    }

    /// GB of a shard's vectors and links in memory.
    pub fn memory_gb_per_shard(&self) -> f64 {
        let vectors = match self.in_memory {
            InMemory::F32 => self.raw_gb_per_shard(),
            InMemory::Codes(bytes) => self.vectors_per_shard() * f64::from(bytes) / 1e9,
        };
        vectors + self.link_gb_per_shard()
    }

    /// Searches a second that reach a replica when a share `cache_hit` of the queries doesn't: every other query asks every shard,
    /// so that more shards don't help, and more replicas do.
    pub fn qps_per_replica(&self, cache_hit: f64) -> f64 {
        self.qps / self.regions / self.replicas * (1.0 - cache_hit)
    }

    /// Searches a second that a machine can do with all its cores.
    pub fn searches_per_machine(&self) -> f64 {
        1e3 * self.machine.cores / self.search_core_ms
    }

    /// Probability that every shard of a region has at least one replica up, each of which is up with probability `replica_up`.
    pub fn availability(&self, replica_up: f64) -> Result<f64, PlanError> {
        let down = 1.0 - rate("availability of a replica", replica_up)?;
        Ok((1.0 - down.powf(self.replicas)).powf(self.shards))
    }

    /// The monthly bill. All disks that are rented count, full or not.
    pub fn cost(&self) -> Result<ClusterCost, PlanError> {
        self.check()?;
        Ok(ClusterCost {
            compute: self.machines() * self.machine.usd_hour * HOURS_A_MONTH,
            storage: self.machines() * self.machine.disk_tb * self.storage_tb_month,
            network: self.network_month,
        })
    }

    /// What is wrong with the design, the worst first.
    pub fn validate(&self) -> Result<Vec<Finding>, PlanError> {
        self.check()?;
        let mut findings = Vec::new();
        let mut find = |severity, resource, needs: f64, has: f64, message: String| {
            findings.push(Finding { severity, resource, needs, has, message });
        };
        let (needs, has) = (self.memory_gb_per_shard(), self.machine.ram_gb * self.ram_share);
        if needs > has {
            let text = format!("a shard needs {needs:.0} GB of memory, a machine has {has:.0} GB to give");
            find(Severity::Fatal, Resource::Memory, needs, has, text);
        }
        let (needs, has) = (self.raw_gb_per_shard() + self.link_gb_per_shard(), 1e3 * self.machine.disk_tb);
        if needs > has {
            let text = format!("a shard takes {needs:.0} GB of disk, a machine has {has:.0} GB");
            find(Severity::Fatal, Resource::Disk, needs, has, text);
        }
        let has = self.searches_per_machine();
        let (warm, cold) = (self.qps_per_replica(self.cache_hit), self.qps_per_replica(0.0));
        if warm > has {
            let text = format!("{warm:.0} searches a second reach a machine that can do {has:.0}");
            find(Severity::Fatal, Resource::Searches, warm, has, text);
        } else if cold > has {
            let text = format!(
                "a machine can do {has:.0} searches a second: enough for the {warm:.0} that the cache lets through, not for the \
                 {cold:.0} of a cold cache"
            );
            find(Severity::Warn, Resource::Searches, cold, has, text);
        }
        let inserting = self.inserts / self.shards * self.insert_core_ms / 1e3;
        let needs = inserting + warm * self.search_core_ms / 1e3;
        let has = self.machine.cores;
        if needs > has && warm <= self.searches_per_machine() {
            let text = format!("searches and inserts keep {needs:.1} cores busy, a machine has {has:.0}");
            find(Severity::Fatal, Resource::Cores, needs, has, text);
        } else if needs > 0.7 * has && needs <= has {
            let text =
                format!("searches and inserts keep {needs:.1} of {has:.0} cores busy: queues grow long above 70%");
            find(Severity::Warn, Resource::Cores, needs, 0.7 * has, text);
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(findings)
    }

    /// Two ways out of memory, each named, cheapest first: codes of `code_bytes` in memory and vectors on disk; or as many shards as
    /// it takes to hold the vectors as they are. Only designs without a fatal finding come back.
    pub fn fix(&self, code_bytes: u32) -> Result<Vec<(&'static str, Self)>, PlanError> {
        self.check()?;
        let codes = Self { in_memory: InMemory::Codes(code_bytes), ..*self };
        let room = self.machine.ram_gb * self.ram_share;
        let shards = (self.memory_gb_per_shard() * self.shards / room).ceil().max(self.shards);
        let more = Self { shards, ..*self };
        let mut designs = Vec::new();
        for (name, design) in [("codes in memory, vectors on disk", codes), ("more shards", more)] {
            let fatal = design.validate()?.iter().any(|f| f.severity == Severity::Fatal);
            if !fatal {
                designs.push((design.cost()?.total(), name, design));
            }
        }
        designs.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(designs.into_iter().map(|(_, name, design)| (name, design)).collect())
    }

    /// The monthly bill with each assumption alone times `1 - change` and `1 + change`, longest bar first.
    pub fn sensitivity(&self, change: f64) -> Result<Vec<Swing>, PlanError> {
        let assumptions = [
            ("shards", self.shards),
            ("replicas", self.replicas),
            ("regions", self.regions),
            ("machine price", self.machine.usd_hour),
            ("disk price", self.storage_tb_month),
            ("network", self.network_month),
        ];
        one_at_a_time(&assumptions, change, |values| {
            let [shards, replicas, regions, usd_hour, storage_tb_month, network_month] = values else {
                return Err(PlanError::Missing("assumption"));
            };
            let changed = Self {
                shards: *shards,
                replicas: *replicas,
                regions: *regions,
                storage_tb_month: *storage_tb_month,
                network_month: *network_month,
                machine: MachineSpec { usd_hour: *usd_hour, ..self.machine },
                ..*self
            };
            Ok(changed.cost()?.total())
        })
    }
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    fn fatal(spec: &ClusterSpec) -> Vec<Resource> {
        let findings = spec.validate().unwrap();
        let fatal = findings.iter().filter(|f| f.severity == Severity::Fatal);
        fatal.map(|f| f.resource).collect()
    }

    #[test]
    fn the_design_by_arithmetic() {
        let spec = ClusterSpec::fifty_billion_products();
        assert_eq!((spec.machines_per_region(), spec.machines()), (600.0, 3_000.0));
        assert_eq!(spec.vectors_per_shard(), 250e6);
        assert_eq!((spec.raw_gb_per_shard(), spec.link_gb_per_shard()), (512.0, 64.0));
        assert_relative_eq!(spec.qps_per_replica(0.0), 33_333.333_333, epsilon = 1e-5);
        assert_relative_eq!(spec.qps_per_replica(0.85), 5_000.0, epsilon = 1e-6);
        let cost = spec.cost().unwrap();
        assert_eq!((cost.compute, cost.storage, cost.network), (3_240_000.0, 1_800_000.0, 50_000.0));
        assert_eq!(cost.total(), 5_090_000.0);
        assert_relative_eq!(spec.availability(0.99).unwrap(), 0.999_800, epsilon = 1e-6);
    }

    #[test]
    fn the_index_does_not_fit_and_either_way_out_makes_it_fit() {
        let spec = ClusterSpec::fifty_billion_products();
        assert_eq!(fatal(&spec), [Resource::Memory]);
        let fixed = spec.fix(64).unwrap();
        let names: Vec<&str> = fixed.iter().map(|design| design.0).collect();
        assert_eq!(names, ["codes in memory, vectors on disk", "more shards"]);
        for (_, design) in &fixed {
            assert!(fatal(design).is_empty());
        }
        // 576 GB times 200 over 204.8 GB.
        assert_eq!(fixed[1].1.shards, 563.0);
        let one_less = ClusterSpec { shards: 562.0, ..spec };
        assert_eq!(fatal(&one_less), [Resource::Memory]);
        // Codes as long as the vectors are no way out.
        assert_eq!(spec.fix(2_048).unwrap().len(), 1);
    }

    #[test]
    fn each_resource_can_run_out() {
        let fixed = ClusterSpec::fifty_billion_products().fix(64).unwrap()[0].1;
        assert_eq!(fatal(&fixed), []);
        let small_disk = MachineSpec { disk_tb: 0.5, ..fixed.machine };
        assert_eq!(fatal(&ClusterSpec { machine: small_disk, ..fixed }), [Resource::Disk]);
        assert_eq!(fatal(&ClusterSpec { cache_hit: 0.0, ..fixed }), [Resource::Searches]);
        assert_eq!(fatal(&ClusterSpec { inserts: 1e6, ..fixed }), [Resource::Cores]);
        let warned = fixed.validate().unwrap();
        assert!(warned[0].message.contains("cold cache"), "{warned:?}");
        let busy = ClusterSpec { inserts: 5e5, ..fixed }.validate().unwrap();
        assert!(busy.iter().any(|f| f.resource == Resource::Cores && f.severity == Severity::Warn));
    }

    #[test]
    fn bad_input_is_refused_by_name() {
        let spec = ClusterSpec::fifty_billion_products();
        for (bad, name) in [
            (ClusterSpec { shards: 0.0, ..spec }, "shards is 0"),
            (ClusterSpec { cache_hit: 1.2, ..spec }, "cache hits is 1.2"),
            (ClusterSpec { qps: f64::NAN, ..spec }, "queries a second is NaN"),
            (ClusterSpec { inserts: -1.0, ..spec }, "inserts a second is -1"),
        ] {
            assert!(bad.validate().unwrap_err().to_string().contains(name));
            assert!(bad.cost().is_err() && bad.fix(64).is_err());
        }
        assert!(spec.availability(1.5).is_err());
        let swings = spec.sensitivity(0.2).unwrap();
        assert_eq!(swings.len(), 6);
    }
}
