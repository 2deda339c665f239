//! Who is due: one entry per cluster, project by project. Pure; "now" is an argument.
//!
//! Projects that have something due take turns, so that one with hundreds of clusters makes only
//! itself wait; and none may have all lanes. Within a project those that are being worked on and
//! those not yet begun take turns too: with the latter first, hundreds of creations would all be
//! begun before one is looked at again and completed.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::model::ClusterId;

/// Clusters waiting for a look, and those being looked at.
#[derive(Debug)]
pub struct Queue {
    /// How many clusters of one project may be looked at together.
    share: usize,
    known: HashMap<ClusterId, Known>,
    /// One name per project, however many clusters it has.
    names: HashSet<Arc<str>>,
    /// Wishes for later, and those that nobody has looked for since their time came.
    later: BTreeSet<(Instant, ClusterId)>,
    /// When each waiting cluster is to be looked at.
    wishes: HashMap<ClusterId, Instant>,
    /// What is due, by project; a project with nothing due is not there.
    due: HashMap<Arc<str>, Due>,
    /// The projects of `due`, whose turn is next first.
    order: VecDeque<Arc<str>>,
    running: HashSet<ClusterId>,
    /// How many are running, by project.
    lanes: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct Known {
    project: Arc<str>,
    /// It was looked at before.
    begun: bool,
}

/// What is due of one project, by when it should have been looked at.
#[derive(Debug, Default)]
struct Due {
    begun: BTreeSet<(Instant, ClusterId)>,
    new: BTreeSet<(Instant, ClusterId)>,
    /// Whether it is the turn of a new one.
    is_for_new: bool,
}

/// What the queue wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// This cluster's run begins; call [`Queue::finished`] when it ends.
    Run(ClusterId, Arc<str>),
    /// Nothing that may run is due before this.
    WaitUntil(Instant),
    /// Nothing is waiting, or nothing that may run.
    Idle,
}

impl Queue {
    /// For a conductor of so many lanes: an eighth of them, and one at least, stays for projects
    /// beside one that has much to do.
    pub fn of_lanes(lanes: usize) -> Self {
        let others = (lanes / 8).max(1);
        Self {
            share: lanes.saturating_sub(others).max(1),
            known: HashMap::new(),
            names: HashSet::new(),
            later: BTreeSet::new(),
            wishes: HashMap::new(),
            due: HashMap::new(),
            order: VecDeque::new(),
            running: HashSet::new(),
            lanes: HashMap::new(),
        }
    }

    /// Whose a cluster is; [`Queue::push`] takes no other. It stays known until
    /// [`Queue::forget`].
    pub fn introduce(&mut self, cluster: ClusterId, project: &str) {
        let name = match self.names.get(project) {
            Some(name) => Arc::clone(name),
            None => {
                let name: Arc<str> = project.into();
                self.names.insert(Arc::clone(&name));
                name
            }
        };
        self.known.entry(cluster).or_insert(Known { project: name, begun: false });
    }

    /// Asks for a look at `cluster` at `at`; an earlier wish stands. False when nobody knows whose
    /// it is.
    pub fn push(&mut self, cluster: ClusterId, at: Instant) -> bool {
        if !self.known.contains_key(&cluster) {
            return false;
        }
        match self.wishes.get(&cluster) {
            Some(&earlier) if earlier <= at => return true,
            Some(&later) => self.withdraw(cluster, later),
            None => {}
        }
        self.wishes.insert(cluster, at);
        // While it runs its wish waits for the end of that.
        if !self.running.contains(&cluster) {
            self.later.insert((at, cluster));
        }
        true
    }

    /// Takes a cluster that is due, of the project whose turn it is.
    pub fn take(&mut self, now: Instant) -> Turn {
        self.fall_due(now);
        let has_room =
            |project: &Arc<str>| self.lanes.get(project).copied().unwrap_or_default() < self.share;
        let Some(at) = (0..self.order.len()).find(|at| has_room(&self.order[*at])) else {
            return match self.later.first() {
                Some((at, _)) => Turn::WaitUntil(*at),
                None => Turn::Idle,
            };
        };
        let project = self.order.remove(at).expect("it was found there");
        let due = self.due.get_mut(&project).expect("a project in line has something due");
        let cluster = due.next().expect("what is empty is not kept");
        match due.is_empty() {
            true => drop(self.due.remove(&project)),
            false => self.order.push_back(Arc::clone(&project)),
        }
        self.wishes.remove(&cluster);
        self.running.insert(cluster);
        *self.lanes.entry(Arc::clone(&project)).or_default() += 1;
        if let Some(known) = self.known.get_mut(&cluster) {
            known.begun = true;
        }
        Turn::Run(cluster, project)
    }

    /// The run of `cluster` has ended; wishes made meanwhile are still there.
    pub fn finished(&mut self, cluster: ClusterId) {
        if !self.running.remove(&cluster) {
            return;
        }
        if let Some(known) = self.known.get(&cluster)
            && let Some(lanes) = self.lanes.get_mut(&known.project)
        {
            *lanes -= 1;
            if *lanes == 0 {
                self.lanes.remove(&known.project);
            }
        }
        if let Some(&at) = self.wishes.get(&cluster) {
            self.later.insert((at, cluster));
        }
    }

    /// The cluster is no more. To be called when its run has ended.
    pub fn forget(&mut self, cluster: ClusterId) {
        if let Some(at) = self.wishes.remove(&cluster) {
            self.withdraw(cluster, at);
        }
        let Some(known) = self.known.remove(&cluster) else { return };
        // The set, and what has just been taken out.
        if Arc::strong_count(&known.project) == 2 {
            self.names.remove(&known.project);
        }
    }

    /// Waiting and running.
    pub fn lengths(&self) -> (usize, usize) {
        (self.wishes.len(), self.running.len())
    }

    /// Moves what is due by now into the line of its project.
    fn fall_due(&mut self, now: Instant) {
        while let Some(&(at, cluster)) = self.later.first().filter(|(at, _)| *at <= now) {
            self.later.pop_first();
            let Some(Known { project, begun }) = self.known.get(&cluster) else { continue };
            let due = self.due.entry(Arc::clone(project)).or_insert_with(|| {
                self.order.push_back(Arc::clone(project));
                Due::default()
            });
            match begun {
                true => due.begun.insert((at, cluster)),
                false => due.new.insert((at, cluster)),
            };
        }
    }

    fn withdraw(&mut self, cluster: ClusterId, at: Instant) {
        if self.later.remove(&(at, cluster)) {
            return;
        }
        let Some(Known { project, .. }) = self.known.get(&cluster) else { return };
        let Some(due) = self.due.get_mut(project) else { return };
        due.begun.remove(&(at, cluster));
        due.new.remove(&(at, cluster));
        if due.is_empty() {
            self.due.remove(project);
            self.order.retain(|one| one != project);
        }
    }
}

impl Due {
    fn next(&mut self) -> Option<ClusterId> {
        let is_for_new = match (self.begun.is_empty(), self.new.is_empty()) {
            (false, false) => self.is_for_new,
            (is_for_new, _) => is_for_new,
        };
        self.is_for_new = !is_for_new;
        let line = if is_for_new { &mut self.new } else { &mut self.begun };
        line.pop_first().map(|(_, cluster)| cluster)
    }

    fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.new.is_empty()
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

    /// Clusters below 100 are of project `a`, below 200 of `b`, and so on.
    fn queue(lanes: usize) -> Queue {
        let mut queue = Queue::of_lanes(lanes);
        for n in 0..400_u128 {
            let project = char::from(b'a' + u8::try_from(n / 100).unwrap());
            queue.introduce(id(n), &project.to_string());
        }
        queue
    }

    fn taken(queue: &mut Queue, now: Instant) -> Option<u128> {
        match queue.take(now) {
            Turn::Run(cluster, _) => Some(cluster.uuid().as_u128()),
            _ => None,
        }
    }

    #[test]
    fn the_earliest_wins_and_each_cluster_runs_once_at_a_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut queue = queue(32);
        queue.push(id(1), later);
        queue.push(id(2), now);
        queue.push(id(1), now);
        queue.push(id(1), later);
        assert_eq!(queue.lengths(), (2, 0));
        assert_eq!(taken(&mut queue, now), Some(1));
        assert_eq!(taken(&mut queue, now), Some(2));
        assert_eq!(queue.take(now), Turn::Idle);
        queue.push(id(1), now);
        assert_eq!(queue.take(now), Turn::Idle, "it is running");
        queue.finished(id(1));
        assert_eq!(taken(&mut queue, now), Some(1), "the wish made meanwhile");
        queue.push(id(3), later);
        assert_eq!(queue.take(now), Turn::WaitUntil(later));
        assert!(!queue.push(id(1000), now), "nobody knows whose it is");
    }

    #[test]
    fn the_deletion_of_one_is_begun_before_the_second_creation_of_another() {
        let now = Instant::now();
        let mut queue = queue(2);
        for n in 0..60 {
            queue.push(id(n), now);
        }
        queue.push(id(100), now + Duration::from_millis(1));
        let soon = now + Duration::from_millis(2);
        assert_eq!(taken(&mut queue, now), Some(0));
        assert_eq!(taken(&mut queue, soon), Some(100), "asked for last, begun next");
        queue.finished(id(100));
        assert_eq!(queue.take(soon), Turn::Idle, "the second lane is not for project a");
        queue.finished(id(0));
        assert_eq!(taken(&mut queue, soon), Some(1));
    }

    #[test]
    fn projects_take_turns() {
        let now = Instant::now();
        let mut queue = queue(64);
        for n in [0, 1, 2, 3, 100, 101, 200] {
            queue.push(id(n), now);
        }
        let order: Vec<u128> = std::iter::from_fn(|| taken(&mut queue, now)).collect();
        assert_eq!(order, [0, 100, 200, 1, 101, 2, 3]);
    }

    #[test]
    fn no_project_has_all_lanes() {
        let now = Instant::now();
        let mut queue = queue(32);
        for n in 0..100 {
            queue.push(id(n), now);
        }
        let running = std::iter::from_fn(|| taken(&mut queue, now)).count();
        assert_eq!(running, 28);
        queue.push(id(300), now);
        assert_eq!(taken(&mut queue, now), Some(300));
        assert_eq!(queue.take(now), Turn::Idle);
    }

    #[test]
    fn what_was_begun_is_completed_while_others_of_its_project_have_not_begun() {
        let now = Instant::now();
        let mut queue = queue(2);
        for n in 0..50 {
            queue.push(id(n), now);
        }
        let mut order = Vec::new();
        for _ in 0..6 {
            let next = taken(&mut queue, now).unwrap();
            order.push(next);
            queue.finished(id(next));
            // There is always more to do about the first.
            queue.push(id(0), now);
        }
        assert_eq!(order, [0, 0, 1, 0, 2, 0], "neither waits for all of the other kind");
    }

    #[test]
    fn what_is_no_more_leaves_nothing_behind() {
        let now = Instant::now();
        let mut queue = Queue::of_lanes(4);
        queue.introduce(id(1), "a");
        queue.introduce(id(2), "a");
        queue.push(id(1), now);
        queue.push(id(2), now);
        assert_eq!(taken(&mut queue, now), Some(1));
        queue.push(id(1), now);
        queue.finished(id(1));
        queue.forget(id(1));
        assert_eq!(taken(&mut queue, now), Some(2));
        queue.finished(id(2));
        queue.forget(id(2));
        assert_eq!(queue.take(now), Turn::Idle);
        assert!(queue.names.is_empty() && queue.known.is_empty() && queue.lanes.is_empty());
        assert!(queue.due.is_empty() && queue.order.is_empty() && queue.later.is_empty());
    }
}
