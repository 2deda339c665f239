//! Who is due: one entry per cluster, the earliest wins. Pure; "now" is an argument.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Instant;

use crate::model::ClusterId;

/// Clusters waiting for a look, and those being looked at.
#[derive(Debug, Default)]
pub struct Queue {
    by_time: BTreeSet<(Instant, ClusterId)>,
    by_cluster: HashMap<ClusterId, Instant>,
    running: HashSet<ClusterId>,
}

/// What the queue wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// This cluster's run begins; call [`Queue::finished`] when it ends.
    Run(ClusterId),
    /// Nothing is due before this.
    WaitUntil(Instant),
    /// Nothing is waiting.
    Idle,
}

impl Queue {
    /// Asks for a look at `cluster` at `at`; an earlier wish stands.
    pub fn push(&mut self, cluster: ClusterId, at: Instant) {
        match self.by_cluster.get(&cluster) {
            Some(&earlier) if earlier <= at => return,
            Some(&later) => {
                self.by_time.remove(&(later, cluster));
            }
            None => {}
        }
        self.by_cluster.insert(cluster, at);
        self.by_time.insert((at, cluster));
    }

    /// Takes the earliest cluster that is due and not being looked at already.
    pub fn take(&mut self, now: Instant) -> Turn {
        let free = |entry: &&(Instant, ClusterId)| !self.running.contains(&entry.1);
        match self.by_time.iter().find(free).copied() {
            Some((at, cluster)) if at <= now => {
                self.by_time.remove(&(at, cluster));
                self.by_cluster.remove(&cluster);
                self.running.insert(cluster);
                Turn::Run(cluster)
            }
            Some((at, _)) => Turn::WaitUntil(at),
            None => Turn::Idle,
        }
    }

    /// The run of `cluster` has ended; wishes made meanwhile are still there.
    pub fn finished(&mut self, cluster: ClusterId) {
        self.running.remove(&cluster);
    }

    /// Waiting and running.
    pub fn lengths(&self) -> (usize, usize) {
        (self.by_cluster.len(), self.running.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use uuid::Uuid;

    fn id(n: u128) -> ClusterId {
        ClusterId::new(Uuid::from_u128(n))
    }

    #[test]
    fn the_earliest_wins_and_each_cluster_runs_once_at_a_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut queue = Queue::default();
        queue.push(id(1), later);
        queue.push(id(2), now);
        queue.push(id(1), now);
        queue.push(id(1), later);
        assert_eq!(queue.take(now), Turn::Run(id(1)));
        assert_eq!(queue.take(now), Turn::Run(id(2)));
        assert_eq!(queue.take(now), Turn::Idle);
        queue.push(id(1), now);
        assert_eq!(queue.take(now), Turn::Idle, "it is running");
        queue.finished(id(1));
        assert_eq!(queue.take(now), Turn::Run(id(1)), "the wish made meanwhile");
        queue.push(id(3), later);
        assert_eq!(queue.take(now), Turn::WaitUntil(later));
    }
}
