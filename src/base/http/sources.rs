//! What each client's address holds of a door: connections, and bytes of requests that are being
//! read, so that one client cannot take all there is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
}

#[derive(Debug)]
struct Holds {
    connections: usize,
    bytes: usize,
    room: Arc<Room>,
}

/// One connection of one address, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    sources: Sources,
    address: IpAddr,
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

    /// One more connection of `address`, unless it holds `most` already.
    pub fn enter(&self, address: IpAddr, most: usize) -> Option<Arc<Held>> {
        let (address, mut all) = (source(address), self.all());
        let holds = all.sources.entry(address).or_insert_with(|| Holds {
            connections: 0,
            bytes: 0,
            room: Room::new(self.room_bytes),
        });
        if holds.connections >= most {
            return None;
        }
        holds.connections += 1;
        let room = Arc::clone(&holds.room);
        Some(Arc::new(Held { sources: self.clone(), address, room }))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut all = self.sources.all();
        if let Some(holds) = all.sources.get_mut(&self.address) {
            holds.connections -= 1;
            if holds.connections == 0 {
                // What it had reserved was given back before: that holds a connection too.
                all.sources.remove(&self.address);
            }
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
    use super::*;

    #[test]
    fn each_address_has_its_own_places_and_nothing_is_kept_of_those_who_left() {
        let (sources, one) = (Sources::new(1 << 10), IpAddr::from([192, 0, 2, 1]));
        let held = [(); 2].map(|()| sources.enter(one, 2).unwrap());
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert!(sources.enter(one, 2).is_none() && sources.enter(mapped, 2).is_none());
        assert!(sources.enter(IpAddr::from([192, 0, 2, 2]), 2).is_some());
        drop(held);
        assert!(sources.all().sources.is_empty());
        assert!(sources.enter(mapped, 2).is_some());
    }

    #[test]
    fn a_network_of_one_client_is_one_source() {
        let sources = Sources::new(1 << 10);
        let [one, same, other] =
            ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"].map(|a| a.parse().unwrap());
        let _held = sources.enter(one, 1).unwrap();
        assert!(sources.enter(same, 1).is_none());
        assert!(sources.enter(other, 1).is_some());
    }

    #[test]
    fn bytes_are_shared_between_sources_and_given_back() {
        let sources = Sources::new(1 << 10);
        let [one, two] = [1, 2].map(|n| sources.enter([192, 0, 2, n].into(), 9).unwrap());
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
