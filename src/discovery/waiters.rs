//! Those who wait for the next member, and how many of them we put up with.
//!
//! A token has a channel while somebody waits for it. News says only "look again", so a
//! lost or doubled one is harmless.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Most waiters behind one source address; a router may stand for several clusters.
const PER_SOURCE: usize = 64;
/// Most waiters altogether.
const ALTOGETHER: usize = 2048;

/// The crowd before the listener. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Waiters(Arc<Mutex<Crowd>>);

#[derive(Debug, Default)]
struct Crowd {
    tokens: HashMap<String, Line>,
    sources: HashMap<IpAddr, usize>,
    total: usize,
}

#[derive(Debug)]
struct Line {
    news: watch::Sender<()>,
    waiting: usize,
}

/// A place in the crowd, given back when dropped.
#[derive(Debug)]
pub struct Waiter {
    crowd: Waiters,
    token: String,
    source: IpAddr,
    news: watch::Receiver<()>,
}

impl Waiters {
    /// A place before `token`, unless too many wait already.
    pub fn enter(&self, token: &str, size: u8, source: IpAddr) -> Option<Waiter> {
        let mut crowd = self.lock();
        let here = crowd.tokens.get(token).map_or(0, |line| line.waiting);
        let theirs = crowd.sources.get(&source).copied().unwrap_or(0);
        if here >= 2 * usize::from(size) + 4 || theirs >= PER_SOURCE || crowd.total >= ALTOGETHER {
            return None;
        }
        crowd.total += 1;
        *crowd.sources.entry(source).or_default() += 1;
        let line = crowd
            .tokens
            .entry(token.to_owned())
            .or_insert_with(|| Line { news: watch::Sender::new(()), waiting: 0 });
        line.waiting += 1;
        let news = line.news.subscribe();
        drop(crowd);
        Some(Waiter { crowd: self.clone(), token: token.to_owned(), source, news })
    }

    /// Tells those who wait for `token` to look again.
    pub fn tell(&self, token: &str) {
        if let Some(line) = self.lock().tokens.get(token) {
            line.news.send_replace(());
        }
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, Crowd> {
        // Nothing panics while holding it; if something did, the counts are still whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Returns once something has happened since the place was taken or news was last heard.
    pub async fn news(&mut self) {
        // The line outlives its waiters, so its sender is never gone before us.
        let _always_there = self.news.changed().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut crowd = self.crowd.lock();
        crowd.total -= 1;
        leave(&mut crowd.sources, &self.source, |count| {
            *count -= 1;
            *count == 0
        });
        leave(&mut crowd.tokens, self.token.as_str(), |line| {
            line.waiting -= 1;
            line.waiting == 0
        });
    }
}

/// Counts one down and forgets the entry with the last.
fn leave<K, Q, V>(map: &mut HashMap<K, V>, key: &Q, last: impl FnOnce(&mut V) -> bool)
where
    K: std::borrow::Borrow<Q> + Eq + Hash,
    Q: Eq + Hash + ?Sized,
{
    if map.get_mut(key).is_some_and(last) {
        map.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[tokio::test]
    async fn news_reaches_those_who_wait_and_nothing_is_kept_for_those_who_left() {
        let waiters = Waiters::default();
        waiters.tell("t");
        let mut waiter = waiters.enter("t", 3, HERE).unwrap();
        waiters.tell("other");
        waiters.tell("t");
        waiter.news().await;
        drop(waiter);
        assert_eq!(waiters.count(), 0);
        assert!(waiters.lock().tokens.is_empty() && waiters.lock().sources.is_empty());
    }

    #[test]
    fn the_crowd_is_limited_by_token_and_by_source() {
        let waiters = Waiters::default();
        let first: Vec<_> = (0..6).map(|_| waiters.enter("t", 1, HERE).unwrap()).collect();
        assert!(waiters.enter("t", 1, HERE).is_none(), "2 × size + 4");
        let others: Vec<_> =
            (0..58).map(|i| waiters.enter(&format!("t{i}"), 1, HERE).unwrap()).collect();
        assert!(waiters.enter("u", 9, HERE).is_none(), "64 per source");
        let there = IpAddr::from([192, 0, 2, 2]);
        assert!(waiters.enter("u", 9, there).is_some());
        drop(first);
        assert!(waiters.enter("t", 1, HERE).is_some());
        drop(others);
        assert_eq!(waiters.count(), 0);
    }
}
