//! How many connections each address holds, so that one client cannot take every place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The addresses that hold connections. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection of one address, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    sources: Sources,
    address: IpAddr,
}

impl Sources {
    /// One more connection of `address`, unless it holds `most` already.
    pub fn enter(&self, address: IpAddr, most: usize) -> Option<Held> {
        // An IPv4 client is one client, however the socket shows it.
        let address = address.to_canonical();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Held { sources: self.clone(), address })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_places_and_nothing_is_kept_of_those_who_left() {
        let (sources, one) = (Sources::default(), IpAddr::from([192, 0, 2, 1]));
        let held = [(); 2].map(|()| sources.enter(one, 2).unwrap());
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert!(sources.enter(one, 2).is_none() && sources.enter(mapped, 2).is_none());
        assert!(sources.enter(IpAddr::from([192, 0, 2, 2]), 2).is_some());
        drop(held);
        assert!(sources.0.lock().unwrap().is_empty());
        assert!(sources.enter(mapped, 2).is_some());
    }
}
