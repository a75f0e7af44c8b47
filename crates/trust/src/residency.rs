//! [`ResidentStore`]: copies of vectors at several sites, each vector under the law of its origin.
//!
//! A vector computed from personal data is personal data. Every vector carries the id of its user and a [`Law`]; every site lies
//! under a jurisdiction. The rules are checked where something could go wrong: when a vector is written, when it is copied, and when
//! it leaves a site in an answer. Whatever is refused is recorded too.
//!
//! ```
//! use eas_trust::residency::{Jurisdiction, Law, ResidentStore, SiteKind, Tag};
//!
//! let mut store = ResidentStore::new(2);
//! let paris = store.add_site("Paris", Jurisdiction::Eu, SiteKind::Store);
//! let ohio = store.add_site("Ohio", Jurisdiction::Elsewhere, SiteKind::Store);
//! let tag = Tag { user: 7, law: Law::EuOnly };
//! store.write(paris, 1, tag, &[0.6, 0.8], 0)?;
//! assert!(store.replicate(1, paris, ohio, 0).is_err());
//! assert_eq!(store.delete_user(7, 1), 1);
//! assert_eq!(store.search(paris, Jurisdiction::Eu, &[0.6, 0.8], 1, 1)?, []);
//! # Ok::<(), eas_trust::ResidencyError>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};

use eas_tensor::kernels::squared_l2;
use eas_tensor::topk::TopK;

/// Days within which a deleted user's vectors must be gone from every site.
pub const DELETION_DAYS: u32 = 30;

/// The jurisdiction that a site, or somebody who asks, is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jurisdiction {
    /// The European Union.
    Eu,
    /// China.
    China,
    /// Anywhere else.
    Elsewhere,
}

/// The law that a vector is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Kept and read in the European Union only.
    EuOnly,
    /// Kept and read in China only.
    ChinaOnly,
    /// Kept and read anywhere but in China, which is a network of its own.
    Free,
}

impl Law {
    /// True when a vector under this law may be there.
    pub fn allows(self, place: Jurisdiction) -> bool {
        match self {
            Self::EuOnly => place == Jurisdiction::Eu,
            Self::ChinaOnly => place == Jurisdiction::China,
            Self::Free => place != Jurisdiction::China,
        }
    }
}

/// Whose vector it is, and under which law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The user it was computed from.
    pub user: u64,
    /// The law it is under.
    pub law: Law,
}

/// What a site keeps copies for. The rules are the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteKind {
    /// The primary store or a replica.
    Store,
    /// A cache, whose copies are copies as well.
    Cache,
}

/// A site, by the order of [`ResidentStore::add_site`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteId(usize);

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A vector was to be written to a site.
    Write,
    /// A vector was to be copied to a site.
    Replicate,
    /// A vector was to be read from a site.
    Read,
    /// A user's deletion was accepted; it concerns all sites.
    DeletionAccepted,
    /// A vector was erased from a site.
    Erase,
}

/// One line of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditEvent {
    /// The day.
    pub day: u32,
    /// What was attempted.
    pub action: Action,
    /// The vector, or the user for a deletion.
    pub subject: u64,
    /// The site, where it concerns one.
    pub site: Option<SiteId>,
    /// False when it was refused.
    pub allowed: bool,
}

/// Why a store refused. Nothing was changed, but for a line in the record where a rule was about to be broken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ResidencyError {
    /// The law forbids it.
    #[error("vector {id} is under {law:?}: it may not go to {place}")]
    Forbidden {
        /// The vector.
        id: u64,
        /// Its law.
        law: Law,
        /// The site, or where the reader is.
        place: String,
    },
    /// The site doesn't exist.
    #[error("there is no site {0}")]
    NoSite(usize),
    /// The site has no copy that can be read.
    #[error("{site} has no vector {id}")]
    NotFound {
        /// The vector.
        id: u64,
        /// The site.
        site: String,
    },
    /// The id is taken by a vector with another tag.
    #[error("vector {id} belongs to user {user} already")]
    Taken {
        /// The vector.
        id: u64,
        /// Whose it is.
        user: u64,
    },
    /// The user has asked to be deleted; an erased user comes back with a new id only.
    #[error("user {0} has been deleted")]
    Deleted(u64),
    /// The vector hasn't the store's dimension.
    #[error("the store holds vectors of dimension {expected}, got {got}")]
    Dimension {
        /// The store's.
        expected: usize,
        /// The vector's.
        got: usize,
    },
    /// A value is NaN or infinite.
    #[error("value {at} is {value}, not a finite number")]
    NotFinite {
        /// Its position.
        at: usize,
        /// The value.
        value: f32,
    },
}

#[derive(Debug, Clone)]
struct Site {
    name: String,
    under: Jurisdiction,
    kind: SiteKind,
    copies: BTreeMap<u64, Vec<f32>>,
}

/// Copies of vectors at several sites; see the module.
#[derive(Debug, Clone)]
pub struct ResidentStore {
    dim: usize,
    sites: Vec<Site>,
    tags: BTreeMap<u64, Tag>,
    /// The vectors of each user: what a deletion has to find.
    vectors_of: BTreeMap<u64, BTreeSet<u64>>,
    /// The day each deleted user asked.
    deleted: BTreeMap<u64, u32>,
    record: Vec<AuditEvent>,
}

impl ResidentStore {
    /// A store without sites for vectors of `dim` values.
    pub fn new(dim: usize) -> Self {
        Self {
            dim,
            sites: Vec::new(),
            tags: BTreeMap::new(),
            vectors_of: BTreeMap::new(),
            deleted: BTreeMap::new(),
            record: Vec::new(),
        }
    }

    /// Adds a site.
    pub fn add_site(&mut self, name: &str, under: Jurisdiction, kind: SiteKind) -> SiteId {
        self.sites.push(Site { name: name.to_owned(), under, kind, copies: BTreeMap::new() });
        SiteId(self.sites.len() - 1)
    }

    /// Everything that was attempted, in order.
    pub fn record(&self) -> &[AuditEvent] {
        &self.record
    }

    /// Copies at a site; 0 when there is no such site.
    pub fn copies_at(&self, site: SiteId) -> usize {
        self.sites.get(site.0).map_or(0, |site| site.copies.len())
    }

    /// Writes a vector, or a new version of it under the same tag. Copies of the old version at other sites are erased, so that
    /// none outlives it.
    pub fn write(&mut self, site: SiteId, id: u64, tag: Tag, vector: &[f32], day: u32) -> Result<(), ResidencyError> {
        self.check_vector(vector)?;
        self.site(site)?;
        if self.deleted.contains_key(&tag.user) {
            return Err(ResidencyError::Deleted(tag.user));
        }
        if let Some(present) = self.tags.get(&id).filter(|present| **present != tag) {
            return Err(ResidencyError::Taken { id, user: present.user });
        }
        self.check_law(Action::Write, id, tag.law, site, day)?;
        for other in &mut self.sites {
            other.copies.remove(&id);
        }
        self.tags.insert(id, tag);
        self.vectors_of.entry(tag.user).or_default().insert(id);
        self.sites[site.0].copies.insert(id, vector.to_vec());
        Ok(())
    }

    /// Copies a vector from one site to another.
    pub fn replicate(&mut self, id: u64, from: SiteId, to: SiteId, day: u32) -> Result<(), ResidencyError> {
        self.site(to)?;
        let (tag, vector) = self.readable(id, from)?;
        let vector = vector.to_vec();
        self.check_law(Action::Replicate, id, tag.law, to, day)?;
        self.sites[to.0].copies.insert(id, vector);
        Ok(())
    }

    /// The vector, for somebody in `reader`.
    pub fn read(&mut self, site: SiteId, reader: Jurisdiction, id: u64, day: u32) -> Result<&[f32], ResidencyError> {
        let (tag, _) = self.readable(id, site)?;
        let allowed = tag.law.allows(reader);
        self.record.push(AuditEvent { day, action: Action::Read, subject: id, site: Some(site), allowed });
        if !allowed {
            return Err(ResidencyError::Forbidden { id, law: tag.law, place: format!("a reader in {reader:?}") });
        }
        Ok(self.readable(id, site)?.1)
    }

    /// The ids of the `k` vectors of a site that are nearest to `query` among those that somebody in `reader` may see; ties by lower
    /// id. Vectors that may not be seen don't show in any way, and neither do those of deleted users.
    pub fn search(
        &mut self,
        site: SiteId,
        reader: Jurisdiction,
        query: &[f32],
        k: usize,
        day: u32,
    ) -> Result<Vec<u64>, ResidencyError> {
        self.check_vector(query)?;
        let copies = &self.site(site)?.copies;
        let mut ids = Vec::new();
        let mut best = TopK::new(k);
        for (&id, vector) in copies {
            let visible = self.live(id).is_some_and(|tag| tag.law.allows(reader));
            if visible {
                // Positions in id order, so that a tie of positions is a tie of ids.
                best.push(ids.len(), -squared_l2(query, vector));
                ids.push(id);
            }
        }
        let found: Vec<u64> = best.into_sorted_vec().iter().map(|hit| ids[hit.id]).collect();
        self.record.extend(found.iter().map(|&subject| AuditEvent {
            day,
            action: Action::Read,
            subject,
            site: Some(site),
            allowed: true,
        }));
        Ok(found)
    }

    /// Accepts a user's deletion: from now on none of their vectors is read, searched, copied or written; [`Self::erase`] removes
    /// the copies. Returns how many vectors the user has. Asking again doesn't move the deadline.
    pub fn delete_user(&mut self, user: u64, day: u32) -> usize {
        self.deleted.entry(user).or_insert(day);
        self.record.push(AuditEvent {
            day,
            action: Action::DeletionAccepted,
            subject: user,
            site: None,
            allowed: true,
        });
        self.vectors_of.get(&user).map_or(0, BTreeSet::len)
    }

    /// Erases the vectors of all deleted users from a site, and returns how many there were.
    pub fn erase(&mut self, site: SiteId, day: u32) -> Result<usize, ResidencyError> {
        self.site(site)?;
        let doomed: Vec<u64> =
            self.deleted.keys().filter_map(|user| self.vectors_of.get(user)).flatten().copied().collect();
        let mut erased = 0;
        for id in doomed {
            if self.sites[site.0].copies.remove(&id).is_some() {
                erased += 1;
                self.record.push(AuditEvent {
                    day,
                    action: Action::Erase,
                    subject: id,
                    site: Some(site),
                    allowed: true,
                });
            }
        }
        Ok(erased)
    }

    /// Deleted users of whom a copy is left more than [`DELETION_DAYS`] days after they asked.
    pub fn overdue(&self, day: u32) -> Vec<u64> {
        self.deleted
            .iter()
            .filter(|(user, asked)| day.saturating_sub(**asked) > DELETION_DAYS && self.copies_of(**user) > 0)
            .map(|(user, _)| *user)
            .collect()
    }

    /// Copies of a user's vectors at all sites, found by looking at every copy.
    pub fn copies_of(&self, user: u64) -> usize {
        self.sites
            .iter()
            .flat_map(|site| site.copies.keys())
            .filter(|id| self.tags.get(id).is_some_and(|tag| tag.user == user))
            .count()
    }

    /// Every copy that is where its law doesn't allow it, found by looking at every copy of every site, caches included.
    pub fn violations(&self) -> Vec<(SiteId, u64)> {
        let mut found = Vec::new();
        for (number, site) in self.sites.iter().enumerate() {
            for id in site.copies.keys() {
                if !self.tags.get(id).is_some_and(|tag| tag.law.allows(site.under)) {
                    found.push((SiteId(number), *id));
                }
            }
        }
        found
    }

    /// The caches among the sites.
    pub fn caches(&self) -> Vec<SiteId> {
        (0..self.sites.len()).filter(|&site| self.sites[site].kind == SiteKind::Cache).map(SiteId).collect()
    }

    /// The ids that a site holds under one law, ascending.
    pub fn ids_under(&self, site: SiteId, law: Law) -> Vec<u64> {
        let ids = self.sites.get(site.0).into_iter().flat_map(|site| site.copies.keys());
        ids.filter(|id| self.tags.get(id).is_some_and(|tag| tag.law == law)).copied().collect()
    }

    fn site(&self, site: SiteId) -> Result<&Site, ResidencyError> {
        self.sites.get(site.0).ok_or(ResidencyError::NoSite(site.0))
    }

    /// The tag of a vector whose user hasn't been deleted.
    fn live(&self, id: u64) -> Option<Tag> {
        let tag = self.tags.get(&id)?;
        (!self.deleted.contains_key(&tag.user)).then_some(*tag)
    }

    fn readable(&self, id: u64, site: SiteId) -> Result<(Tag, &[f32]), ResidencyError> {
        let at = self.site(site)?;
        let missing = || ResidencyError::NotFound { id, site: at.name.clone() };
        let tag = self.live(id).ok_or_else(missing)?;
        let vector = at.copies.get(&id).ok_or_else(missing)?;
        Ok((tag, vector))
    }

    /// Records the attempt, and refuses it when the law doesn't allow the vector at the site.
    fn check_law(&mut self, action: Action, id: u64, law: Law, site: SiteId, day: u32) -> Result<(), ResidencyError> {
        let place = &self.sites[site.0];
        let allowed = law.allows(place.under);
        let refusal = ResidencyError::Forbidden { id, law, place: place.name.clone() };
        self.record.push(AuditEvent { day, action, subject: id, site: Some(site), allowed });
        if allowed { Ok(()) } else { Err(refusal) }
    }

    fn check_vector(&self, vector: &[f32]) -> Result<(), ResidencyError> {
        if vector.len() != self.dim {
            return Err(ResidencyError::Dimension { expected: self.dim, got: vector.len() });
        }
        match vector.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => Err(ResidencyError::NotFinite { at, value: vector[at] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(user: u64, law: Law) -> Tag {
        Tag { user, law }
    }

    fn world() -> (ResidentStore, [SiteId; 4]) {
        let mut store = ResidentStore::new(1);
        let sites = [
            store.add_site("EU", Jurisdiction::Eu, SiteKind::Store),
            store.add_site("US", Jurisdiction::Elsewhere, SiteKind::Store),
            store.add_site("CN", Jurisdiction::China, SiteKind::Store),
            store.add_site("EU cache", Jurisdiction::Eu, SiteKind::Cache),
        ];
        (store, sites)
    }

    #[test]
    fn each_law_holds_at_each_step() {
        let (mut store, [eu, us, cn, cache]) = world();
        for (law, site, others) in
            [(Law::EuOnly, eu, vec![us, cn]), (Law::ChinaOnly, cn, vec![eu, us, cache]), (Law::Free, us, vec![cn])]
        {
            let id = 10 + site.0 as u64;
            for &other in &others {
                let refused = store.write(other, id, tag(id, law), &[1.0], 0).unwrap_err();
                assert!(refused.to_string().contains("may not go to"), "{refused}");
            }
            store.write(site, id, tag(id, law), &[1.0], 0).unwrap();
            for &other in &others {
                assert!(matches!(store.replicate(id, site, other, 1), Err(ResidencyError::Forbidden { .. })));
                assert!(store.read(other, Jurisdiction::Eu, id, 1).is_err());
            }
        }
        store.replicate(10, eu, cache, 1).unwrap();
        assert_eq!(store.caches(), [cache]);
        assert_eq!(store.read(cache, Jurisdiction::Eu, 10, 1).unwrap(), [1.0]);
        assert!(store.read(eu, Jurisdiction::Elsewhere, 10, 1).is_err());
        assert_eq!(store.search(eu, Jurisdiction::Elsewhere, &[1.0], 5, 1).unwrap(), [] as [u64; 0]);
        assert_eq!(store.violations(), []);
        let refused = store.record().iter().filter(|event| !event.allowed).count();
        assert_eq!(refused, 2 + 3 + 1 + 2 + 3 + 1 + 1);
    }

    #[test]
    fn a_deletion_reaches_every_copy_and_holds_at_once() {
        let (mut store, [eu, us, _, cache]) = world();
        for id in 0..4 {
            store.write(us, id, tag(id % 2, Law::Free), &[id as f32], 0).unwrap();
            store.replicate(id, us, eu, 0).unwrap();
            store.replicate(id, eu, cache, 0).unwrap();
        }
        assert_eq!(store.delete_user(1, 5), 2);
        assert_eq!(store.search(cache, Jurisdiction::Eu, &[1.0], 4, 5).unwrap(), [0, 2]);
        assert!(store.read(us, Jurisdiction::Elsewhere, 3, 5).is_err());
        assert!(store.replicate(3, us, eu, 5).is_err());
        assert_eq!(store.write(us, 9, tag(1, Law::Free), &[0.0], 5), Err(ResidencyError::Deleted(1)));
        assert_eq!(store.copies_of(1), 6);
        assert_eq!((store.erase(us, 6).unwrap(), store.erase(eu, 7).unwrap()), (2, 2));
        store.delete_user(1, 20);
        assert_eq!((store.overdue(35), store.overdue(36)), (vec![], vec![1]));
        store.erase(cache, 36).unwrap();
        assert_eq!((store.copies_of(1), store.overdue(99)), (0, vec![]));
        assert_eq!(store.copies_at(cache), 2);
    }

    #[test]
    fn a_new_version_replaces_all_copies_and_bad_input_is_refused() {
        let (mut store, [eu, us, ..]) = world();
        store.write(eu, 1, tag(1, Law::Free), &[1.0], 0).unwrap();
        store.replicate(1, eu, us, 0).unwrap();
        store.write(eu, 1, tag(1, Law::Free), &[2.0], 1).unwrap();
        assert_eq!((store.copies_at(us), store.ids_under(eu, Law::Free)), (0, vec![1]));
        assert_eq!(store.write(eu, 1, tag(2, Law::Free), &[1.0], 1), Err(ResidencyError::Taken { id: 1, user: 1 }));
        assert!(store.write(eu, 2, tag(2, Law::Free), &[1.0, 2.0], 1).is_err());
        assert!(store.write(eu, 2, tag(2, Law::Free), &[f32::NAN], 1).is_err());
        assert_eq!(store.write(SiteId(9), 2, tag(2, Law::Free), &[1.0], 1), Err(ResidencyError::NoSite(9)));
        assert!(store.search(eu, Jurisdiction::Eu, &[], 1, 1).is_err());
        assert_eq!((store.delete_user(77, 1), store.copies_at(SiteId(9))), (0, 0));
    }
}
