//! What each client's address holds of a listener: connections, and bytes of requests that are being
//! read, so that one client cannot take all there is, nor a few of them together.
//!
//! Where all places are taken, whoever comes with less than others hold has the place of a connection
//! of theirs ([`Sources::displace`]): of the address that holds most, and there of the one that has
//! been open longest among those that are good for nothing. To come with many addresses is worth as
//! many places, to come with many connections from one nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pace::{Pace, Use};
use super::room::Room;

/// The addresses that hold something. Clones count together.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    all: Arc<Mutex<All>>,
    /// For answers, of each.
    room_bytes: usize,
}

#[derive(Debug, Default)]
struct All {
    bytes: usize,
    sources: HashMap<IpAddr, Holds>,
    /// The same by how many connections each holds.
    by_number: BTreeSet<(usize, IpAddr)>,
    last: u64,
}

#[derive(Debug)]
struct Holds {
    connections: usize,
    bytes: usize,
    room: Arc<Room>,
    /// Those that have not been told to go, in the order in which they came.
    open: BTreeMap<u64, Arc<Pace>>,
}

/// What becomes of a connection that finds all places taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Displaced {
    /// Another was told to go for it.
    Other,
    /// Nobody holds more than its source would, and that holds nothing yet: it may wait.
    Nobody,
    /// Its source has its share.
    Itself,
}

/// How many connections are looked at to find the one that goes.
const LOOK: usize = 2048;

/// One connection of one address, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    sources: Sources,
    address: IpAddr,
    number: u64,
    /// All connections of the address have it together.
    pub room: Arc<Room>,
}

/// Bytes that one request takes, given back when dropped.
#[derive(Debug)]
pub(super) struct Reserved {
    held: Arc<Held>,
    bytes: usize,
}

/// Whoever has one IPv6 address has its /64; an IPv4 client is one, however the socket shows it.
pub fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

impl Sources {
    /// Each with so much room for answers.
    pub fn new(room_bytes: usize) -> Self {
        Self { all: Arc::default(), room_bytes }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `address` holds `most` connections already.
    pub fn is_full(&self, address: IpAddr, most: usize) -> bool {
        self.all().sources.get(&source(address)).is_some_and(|holds| holds.connections >= most)
    }

    /// One more connection of `address`.
    pub fn enter(&self, address: IpAddr, pace: &Arc<Pace>) -> Arc<Held> {
        let (address, mut all) = (source(address), self.all());
        let all = &mut *all;
        all.last += 1;
        let holds = all.sources.entry(address).or_insert_with(|| Holds {
            connections: 0,
            bytes: 0,
            room: Room::new(self.room_bytes),
            open: BTreeMap::new(),
        });
        all.by_number.remove(&(holds.connections, address));
        holds.connections += 1;
        all.by_number.insert((holds.connections, address));
        holds.open.insert(all.last, Arc::clone(pace));
        let room = Arc::clone(&holds.room);
        Arc::new(Held { sources: self.clone(), address, number: all.last, room })
    }

    /// Has a connection go for one of `address`, which has come where all of `places` are taken.
    ///
    /// It is one of a source that would still hold as many as this one; of the source's own only
    /// where there is none, so that nobody loses anything to whoever comes again and again. One
    /// that is at work goes only where its source has an eighth of all places, and nothing else.
    pub fn displace(&self, address: IpAddr, places: usize) -> Displaced {
        let (address, mut all) = (source(address), self.all());
        let own = all.sources.get(&address).map_or(0, |holds| holds.connections);
        let (mut left, mut at_work, mut found) = (LOOK, None, None);
        let more = all.by_number.iter().rev().take_while(|(number, _)| *number > own + 1);
        for (number, other) in more {
            let Some(holds) = all.sources.get(other) else { continue };
            let mut untaken = None;
            for (&which, pace) in holds.open.iter().take(left) {
                match pace.in_use() {
                    Use::None => {
                        found = Some((*other, which));
                        break;
                    }
                    Use::Untaken => untaken = untaken.or(Some((*other, which))),
                    Use::Work if number * 8 >= places => {
                        at_work = at_work.or(Some((*other, which)));
                    }
                    Use::Work => {}
                }
            }
            found = found.or(untaken);
            left = left.saturating_sub(holds.open.len());
            if found.is_some() || left == 0 {
                break;
            }
        }
        let of_own = || {
            let mut open = all.sources.get(&address)?.open.iter().take(left);
            let (which, _) = open.find(|(_, pace)| pace.in_use() == Use::None)?;
            Some((address, *which))
        };
        match found.or(at_work).or_else(of_own) {
            Some((whose, which)) => {
                let holds = all.sources.get_mut(&whose);
                if let Some(pace) = holds.and_then(|holds| holds.open.remove(&which)) {
                    pace.give_way();
                }
                Displaced::Other
            }
            None if own == 0 => Displaced::Nobody,
            None => Displaced::Itself,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.sources.all();
        let all = &mut *all;
        let Some(holds) = all.sources.get_mut(&self.address) else { return };
        holds.open.remove(&self.number);
        all.by_number.remove(&(holds.connections, self.address));
        holds.connections -= 1;
        match holds.connections {
            // What it had reserved was given back before: that holds a connection too.
            0 => drop(all.sources.remove(&self.address)),
            some => drop(all.by_number.insert((some, self.address))),
        }
    }
}

impl Reserved {
    pub const fn none(held: Arc<Held>) -> Self {
        Self { held, bytes: 0 }
    }

    /// Takes more, unless that is more than `own` for this source or `most` for all together.
    pub fn more(&mut self, bytes: usize, own: usize, most: usize) -> bool {
        let mut all = self.held.sources.all();
        let all = &mut *all;
        let Some(holds) = all.sources.get_mut(&self.held.address) else { return false };
        if holds.bytes + bytes > own || all.bytes + bytes > most {
            return false;
        }
        holds.bytes += bytes;
        all.bytes += bytes;
        self.bytes += bytes;
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut all = self.held.sources.all();
        all.bytes -= self.bytes;
        if let Some(holds) = all.sources.get_mut(&self.held.address) {
            holds.bytes -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::http::pace::Crowd;
    use tokio::time::timeout;

    fn pace() -> Arc<Pace> {
        Pace::new(Crowd::new(Duration::from_secs(30), 8, Room::new(1 << 10)))
    }

    fn enter(sources: &Sources, address: IpAddr) -> (Arc<Held>, Arc<Pace>) {
        let pace = pace();
        (sources.enter(address, &pace), pace)
    }

    async fn is_told_to_go(pace: &Pace) -> bool {
        timeout(Duration::ZERO, pace.has_to_go()).await.is_ok()
    }

    #[test]
    fn each_address_has_its_own_places_and_nothing_is_kept_of_those_who_left() {
        let (sources, one) = (Sources::new(1 << 10), IpAddr::from([192, 0, 2, 1]));
        let held = [(); 2].map(|()| enter(&sources, one));
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert!(sources.is_full(one, 2) && sources.is_full(mapped, 2) && !sources.is_full(one, 3));
        assert!(!sources.is_full(IpAddr::from([192, 0, 2, 2]), 2));
        drop(held);
        let all = sources.all();
        assert!(all.sources.is_empty() && all.by_number.is_empty(), "{all:?}");
        drop(all);
        assert!(!sources.is_full(mapped, 1));
    }

    #[test]
    fn a_network_of_one_client_is_one_source() {
        let sources = Sources::new(1 << 10);
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"].map(|a| a.parse().unwrap());
        let _held = enter(&sources, one);
        assert!(sources.is_full(same, 1) && !sources.is_full(other, 1));
    }

    #[tokio::test]
    async fn whoever_holds_most_loses_the_oldest_that_is_good_for_nothing() {
        let sources = Sources::new(1 << 10);
        let [many, few, new] = [1, 2, 3].map(|n| IpAddr::from([192, 0, 2, n]));
        let of_many = [(); 4].map(|()| enter(&sources, many));
        let of_few = [(); 2].map(|()| enter(&sources, few));
        let mut works = of_many[0].1.asked();
        works.is_read();
        let reads = of_many[1].1.asked();
        assert_eq!(sources.displace(new, 6), Displaced::Other);
        let mut told = Vec::new();
        for (_, pace) in of_many.iter().chain(&of_few) {
            told.push(is_told_to_go(pace).await);
        }
        assert_eq!(told, [false, true, false, false, false, false], "a request not yet whole");
        drop((works, reads));
        // The next finds another: the first may not have left yet.
        assert_eq!(sources.displace(new, 6), Displaced::Other);
        assert!(is_told_to_go(&of_many[0].1).await, "its work is done");
    }

    #[tokio::test]
    async fn nobody_displaces_those_who_hold_no_more_than_he() {
        let sources = Sources::new(1 << 10);
        let [one, two, three] = [1, 2, 3].map(|n| IpAddr::from([192, 0, 2, n]));
        let (of_one, of_two) =
            ([(); 3].map(|()| enter(&sources, one)), [(); 3].map(|()| enter(&sources, two)));
        assert_eq!(sources.displace(one, 6), Displaced::Other, "its own");
        assert!(is_told_to_go(&of_one[0].1).await);
        let works = of_one.each_ref().map(|(_, pace)| {
            let mut works = pace.asked();
            works.is_read();
            works
        });
        assert_eq!(sources.displace(one, 6), Displaced::Itself, "and has nothing to give for it");
        for (_, pace) in &of_two {
            assert!(!is_told_to_go(pace).await);
        }
        drop((works, of_one, of_two));
        let _held = [one, two].map(|address| enter(&sources, address));
        assert_eq!(sources.displace(three, 2), Displaced::Nobody, "all hold one");
    }

    #[tokio::test]
    async fn who_is_at_work_goes_last_and_only_where_few_have_nearly_all() {
        let sources = Sources::new(1 << 10);
        let [many, some, new] = [1, 2, 3].map(|n| IpAddr::from([192, 0, 2, n]));
        let of_many = [(); 5].map(|()| enter(&sources, many));
        let works = of_many.each_ref().map(|(_, pace)| {
            let mut works = pace.asked();
            works.is_read();
            works
        });
        let of_some = [(); 3].map(|()| enter(&sources, some));
        assert_eq!(sources.displace(new, 8), Displaced::Other);
        assert!(is_told_to_go(&of_some[0].1).await, "an idle one of a source that holds less");
        drop(of_some);
        assert_eq!(sources.displace(new, 100), Displaced::Nobody, "five of a hundred are no flood");
        assert_eq!(sources.displace(new, 8), Displaced::Other);
        assert!(is_told_to_go(&of_many[0].1).await);
        drop(works);
    }

    #[test]
    fn bytes_are_shared_between_sources_and_given_back() {
        let sources = Sources::new(1 << 10);
        let [one, two] = [1, 2].map(|n| enter(&sources, [192, 0, 2, n].into()).0);
        let mut of_one = Reserved::none(Arc::clone(&one));
        assert!(of_one.more(5, 6, 10) && !of_one.more(2, 6, 10) && of_one.more(1, 6, 10));
        let mut again = Reserved::none(Arc::clone(&one));
        assert!(!again.more(1, 6, 10), "it is the source that has enough");
        let mut of_two = Reserved::none(Arc::clone(&two));
        assert!(!of_two.more(5, 6, 10) && of_two.more(4, 6, 10), "there is no more for all");
        drop(of_one);
        assert!(again.more(6, 6, 10));
        drop((one, two));
        drop((again, of_two));
        let all = sources.all();
        assert!(all.sources.is_empty() && all.bytes == 0, "{all:?}");
    }
}
