//! Places that are taken in turns: whoever waits is served party by party, so that one that asks
//! for much waits for itself and not before others.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// A number of places, and the lines of those who wait for one. Clones share them.
#[derive(Debug)]
pub struct Turns<P: Party> {
    inner: Arc<Inner<P>>,
}

/// For whom a place is taken.
pub trait Party: Clone + Eq + Hash + Send + 'static {}

impl<P: Clone + Eq + Hash + Send + 'static> Party for P {}

#[derive(Debug)]
struct Inner<P: Party> {
    /// How many places one party may have.
    each: usize,
    state: Mutex<State<P>>,
}

#[derive(Debug)]
struct State<P: Party> {
    free: usize,
    /// Places by party; a party without any is not there.
    held: HashMap<P, usize>,
    lines: HashMap<P, VecDeque<oneshot::Sender<Place<P>>>>,
    /// Those in `lines`, whose turn is next first.
    order: VecDeque<P>,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place<P: Party> {
    turns: Turns<P>,
    /// None once it has been given back.
    party: Option<P>,
}

impl<P: Party> Clone for Turns<P> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<P: Party> Turns<P> {
    /// Room for `places` in all, and for `each` of one party; at least one of either.
    pub fn new(places: usize, each: usize) -> Self {
        let state = State {
            free: places.max(1),
            held: HashMap::new(),
            lines: HashMap::new(),
            order: VecDeque::new(),
        };
        Self { inner: Arc::new(Inner { each: each.max(1), state: Mutex::new(state) }) }
    }

    /// Waits for a place. Whoever stops waiting loses none.
    pub async fn take(&self, party: P) -> Place<P> {
        let waiting = {
            let mut state = self.state();
            if state.free > 0 && state.held(&party) < self.inner.each {
                state.hold(&party);
                return self.place(party);
            }
            let (told, waiting) = oneshot::channel();
            match state.lines.entry(party.clone()) {
                Entry::Occupied(mut line) => line.get_mut().push_back(told),
                Entry::Vacant(line) => {
                    line.insert(VecDeque::from([told]));
                    state.order.push_back(party);
                }
            }
            waiting
        };
        waiting.await.expect("a line ends with its last place, and self is one of its owners")
    }

    /// How many of a party wait.
    pub fn waiting(&self, party: &P) -> usize {
        self.state().lines.get(party).map_or(0, VecDeque::len)
    }

    fn place(&self, party: P) -> Place<P> {
        Place { turns: self.clone(), party: Some(party) }
    }

    fn give_back(&self, party: &P) {
        let mut state = self.state();
        state.let_go(party);
        while let Some((next, told)) = state.next(self.inner.each) {
            // Not while the lock is held: a place that nobody takes is dropped in there.
            drop(state);
            let unheard = told.send(self.place(next)).err();
            state = self.state();
            if let Some(party) = unheard.and_then(|mut place| place.party.take()) {
                state.let_go(&party);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<P>> {
        // Nothing panics while holding it; if something did, what is in it is still whole.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Party> State<P> {
    fn held(&self, party: &P) -> usize {
        self.held.get(party).copied().unwrap_or_default()
    }

    fn hold(&mut self, party: &P) {
        self.free -= 1;
        *self.held.entry(party.clone()).or_default() += 1;
    }

    fn let_go(&mut self, party: &P) {
        self.free += 1;
        if let Entry::Occupied(mut held) = self.held.entry(party.clone()) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }

    /// Gives a free place to the first of the party whose turn it is, and lets the others of that
    /// party wait for its next turn.
    fn next(&mut self, each: usize) -> Option<(P, oneshot::Sender<Place<P>>)> {
        if self.free == 0 {
            return None;
        }
        let at = (0..self.order.len()).find(|at| self.held(&self.order[*at]) < each)?;
        let party = self.order.remove(at)?;
        let line = self.lines.get_mut(&party)?;
        let told = line.pop_front()?;
        match line.is_empty() {
            true => drop(self.lines.remove(&party)),
            false => self.order.push_back(party.clone()),
        }
        self.hold(&party);
        Some((party, told))
    }
}

impl<P: Party> Drop for Place<P> {
    fn drop(&mut self) {
        if let Some(party) = self.party.take() {
            self.turns.give_back(&party);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(20);

    /// Takes a place, notes the name, and gives the place back.
    fn stand(turns: &Turns<char>, party: char, name: &'static str, seen: &Seen) {
        let (turns, seen) = (turns.clone(), Arc::clone(seen));
        tokio::spawn(async move {
            let place = turns.take(party).await;
            seen.lock().unwrap().push(name);
            tokio::task::yield_now().await;
            drop(place);
        });
    }

    type Seen = Arc<Mutex<Vec<&'static str>>>;

    #[tokio::test]
    async fn a_long_line_of_one_party_does_not_stand_before_another() {
        let turns = Turns::new(1, 1);
        let first = turns.take('a').await;
        let seen = Seen::default();
        for (party, name) in
            [('a', "a1"), ('a', "a2"), ('a', "a3"), ('b', "b1"), ('c', "c1"), ('b', "b2")]
        {
            stand(&turns, party, name, &seen);
            tokio::task::yield_now().await;
        }
        assert_eq!((turns.waiting(&'a'), turns.waiting(&'b'), turns.waiting(&'d')), (3, 2, 0));
        drop(first);
        timeout(Duration::from_secs(5), async {
            while seen.lock().unwrap().len() < 6 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert_eq!(*seen.lock().unwrap(), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[tokio::test]
    async fn one_party_has_its_share_and_no_more() {
        let turns = Turns::new(3, 2);
        let held = (turns.take('a').await, turns.take('a').await);
        assert!(timeout(SOON, turns.take('a')).await.is_err(), "there is a place, but not for it");
        let other = timeout(SOON, turns.take('b')).await.expect("it is for others");
        drop(held.0);
        let _third = timeout(SOON, turns.take('a')).await.expect("its own is free again");
        drop(other);
    }

    #[tokio::test]
    async fn whoever_stops_waiting_loses_no_place() {
        let turns = Turns::new(1, 1);
        let held = turns.take('a').await;
        for _ in 0..3 {
            assert!(timeout(SOON, turns.take('b')).await.is_err());
        }
        drop(held);
        let held = timeout(SOON, turns.take('c')).await.expect("nobody stands before");
        // Told, and gone before it could hear.
        let mut waits = Box::pin(turns.take('b'));
        assert!(timeout(SOON, &mut waits).await.is_err());
        drop(held);
        drop(waits);
        timeout(SOON, turns.take('a')).await.expect("the place came back");
    }
}
