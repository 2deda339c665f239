//! Bookmarks: where the pages ended that were handed out.
//!
//! Clients name the record behind which their next page begins, and nothing else. When that record
//! is deleted meanwhile, what it was sorted by went with it; here it is still known. A place is
//! told to those alone whose page ended there: for everybody else the record is as gone as ever.
//! After a restart nothing is known.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use uuid::Uuid;

use super::page::Place;
use crate::model::ClusterId;
use crate::store::Scope;

/// How long a page is looked at before the next one is asked for.
const KEPT: Duration = Duration::from_secs(3600);
/// Bookmarks of the usual size. Those with long texts count more, up to a hundred times as much.
const MOST: u64 = 10_000;
/// The usual size, with all that the cache needs for one.
const USUAL_BYTES: usize = 512;

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listed {
    Clusters,
    Templates,
    NodeGroups(ClusterId),
    Quotas,
}

/// How a record is named in a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Item {
    Uuid(Uuid),
    Number(u64),
}

impl From<Uuid> for Item {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl From<u64> for Item {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(id) => id.fmt(out),
            Self::Number(number) => number.fmt(out),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    list: Listed,
    /// The project whose view of the list it was; None for the view of all projects.
    reader: Option<Arc<str>>,
    sort_key: &'static str,
    item: Item,
}

/// All bookmarks.
#[derive(Clone, Debug)]
pub struct Bookmarks {
    kept: Cache<Key, Place>,
}

impl Default for Bookmarks {
    fn default() -> Self {
        let weight = |key: &Key, place: &Place| {
            let bytes = key.reader.as_ref().map_or(0, |reader| reader.len()) + place.bytes();
            u32::try_from(1 + bytes / USUAL_BYTES).unwrap_or(u32::MAX)
        };
        let kept = Cache::builder()
            .max_capacity(MOST)
            .weigher(weight)
            .time_to_live(KEPT)
            // A new one is worth more than an old one that was read before, which the usual policy
            // would keep instead: whoever has followed it once is past it.
            .eviction_policy(EvictionPolicy::lru());
        Self { kept: kept.build() }
    }
}

impl Bookmarks {
    /// Those of one list, as one scope sees it.
    pub fn shelf(&self, list: Listed, scope: Scope<'_>) -> Shelf {
        let reader = match scope {
            Scope::Project(project) => Some(project.into()),
            Scope::Everyone => None,
        };
        Shelf { all: self.clone(), list, reader }
    }
}

/// The bookmarks of one list, as one scope sees it.
#[derive(Clone, Debug)]
pub struct Shelf {
    all: Bookmarks,
    list: Listed,
    reader: Option<Arc<str>>,
}

impl Shelf {
    fn key(&self, sort_key: &'static str, item: Item) -> Key {
        Key { list: self.list, reader: self.reader.clone(), sort_key, item }
    }

    /// Where the record stood when a page ended with it.
    pub fn place(&self, sort_key: &'static str, item: Item) -> Option<Place> {
        self.all.kept.get(&self.key(sort_key, item))
    }

    /// A page ends with this record.
    pub fn keep(&self, sort_key: &'static str, item: Item, place: Place) {
        self.all.kept.insert(self.key(sort_key, item), place);
    }
}

#[cfg(test)]
mod tests {
    use super::super::column::Column;
    use super::*;
    use crate::model::Sequence;

    fn place(text: &str, made: u64) -> Place {
        Place::new(Column::Text(text.to_owned().into()), Sequence(made))
    }

    #[test]
    fn a_bookmark_is_its_readers_lists_and_orders_own() {
        let all = Bookmarks::default();
        let item = Item::from(Uuid::from_u128(7));
        let shelf = all.shelf(Listed::Clusters, Scope::Project("p1"));
        shelf.keep("name", item, place("c", 3));
        assert_eq!(shelf.place("name", item), Some(place("c", 3)));
        let again = all.shelf(Listed::Clusters, Scope::Project("p1"));
        assert_eq!(again.place("name", item), Some(place("c", 3)));
        assert_eq!(shelf.place("status", item), None);
        assert_eq!(shelf.place("name", Item::from(7)), None);
        for (list, scope) in [
            (Listed::Clusters, Scope::Project("p2")),
            (Listed::Clusters, Scope::Everyone),
            (Listed::Templates, Scope::Project("p1")),
            (Listed::NodeGroups(ClusterId::new(Uuid::nil())), Scope::Project("p1")),
        ] {
            assert_eq!(all.shelf(list, scope).place("name", item), None, "{list:?} {scope:?}");
        }
        shelf.keep("name", item, place("z", 3));
        assert_eq!(shelf.place("name", item), Some(place("z", 3)), "the last page counts");
    }

    #[test]
    fn there_are_never_too_many_and_the_newest_stay() {
        let all = Bookmarks::default();
        let shelf = all.shelf(Listed::Templates, Scope::Everyone);
        for n in 0..3 * MOST {
            shelf.keep("name", Item::from(n), place("c", n));
            // Read often, which keeps nothing old.
            shelf.place("name", Item::from(0));
        }
        all.kept.run_pending_tasks();
        assert!(all.kept.weighted_size() <= MOST, "{}", all.kept.weighted_size());
        assert!(all.kept.entry_count() >= MOST - 100, "{}", all.kept.entry_count());
        let last = 3 * MOST - 1;
        assert_eq!(shelf.place("name", Item::from(last)), Some(place("c", last)));
        // What is large has fewer neighbours.
        let long = "x".repeat(64 << 10);
        for n in 0..200 {
            shelf.keep("labels", Item::from(n), place(&long, n));
        }
        all.kept.run_pending_tasks();
        assert!(all.kept.weighted_size() <= MOST, "{}", all.kept.weighted_size());
        assert!(all.kept.entry_count() < 200, "{}", all.kept.entry_count());
        assert_eq!(shelf.place("labels", Item::from(199)), Some(place(&long, 199)));
    }
}
