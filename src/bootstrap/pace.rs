//! How often nodes may ask: a cluster whose token somebody floods us with waits for itself.
//!
//! A server that has claimed its name is counted by itself, whoever has not by the cluster and the
//! address: the token of a group speaks for every worker of it, so names cost nothing. What is too
//! much is answered late, so that asking again at once is no faster.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use tracing::warn;

use super::Caller;
use super::http::Fault;
use crate::base::clock::{Clock, Timestamp};
use crate::base::turns::{Place, Turns};
use crate::model::ClusterId;

/// How long a claim that was refused is not asked about again.
const REFUSED: Duration = Duration::from_secs(15);
/// How long the answer to one question too many is kept back, on the wall's clock.
const HELD: Duration = Duration::from_secs(1);
/// How often the log says so of the same asker.
const SAID: Duration = Duration::from_secs(60);
/// Questions that are answered at the same time, and those of one cluster.
const PLACES: usize = 16;
const PLACES_EACH: usize = 4;
/// Entries after which those that tell nothing any more are thrown away.
const MOST: usize = 20_000;

/// A first boot asks some thirty times; afterwards a node asks for duties twice a minute, and those
/// of a lab whose time runs faster many times as often. What it may ask then is read from the state.
const OF_A_NODE: Allowance = Allowance { burst: 200.0, per_second: 10.0 };

/// How much may be asked.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Allowance {
    burst: f64,
    per_second: f64,
}

/// Who is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Asker {
    /// A node whose name is bound to the server that asks.
    Node(ClusterId, String),
    /// Everybody else with a token of the cluster, by the address that they come from.
    Strangers(ClusterId, IpAddr),
}

/// What is left of an allowance.
#[derive(Clone, Copy, Debug)]
struct Left {
    questions: f64,
    at: Timestamp,
    said: Option<Timestamp>,
}

/// A node's name, the server that was said to be it, and from where.
type Claim = (ClusterId, String, String, IpAddr);

/// Keeps count.
pub(super) struct Pace {
    clock: Clock,
    turns: Turns<ClusterId>,
    left: Mutex<HashMap<Asker, Left>>,
    /// Until when the answer is remembered.
    refused: Mutex<HashMap<Claim, Timestamp>>,
}

impl Pace {
    pub(super) fn new(clock: Clock) -> Self {
        let turns = Turns::new(PLACES, PLACES_EACH);
        Self { clock, turns, left: Mutex::default(), refused: Mutex::default() }
    }

    /// A place among those who are answered, for a caller that has not asked too often. `is_bound`
    /// says that the name is bound to this very server, and `nodes` how many the cluster has.
    pub(super) async fn admit(
        &self,
        caller: &Caller,
        is_bound: bool,
        nodes: u32,
    ) -> Result<Place<ClusterId>, Fault> {
        let cluster = caller.cluster;
        let (asker, allowance) = match is_bound {
            true => (Asker::Node(cluster, caller.guest.name.clone()), OF_A_NODE),
            false => (Asker::Strangers(cluster, caller.source), of_strangers(nodes)),
        };
        if !self.has_left(asker, allowance) {
            tokio::time::sleep(HELD).await;
            let sentence = "The cluster's nodes ask too often; try again later.";
            return Err(Fault::new(StatusCode::TOO_MANY_REQUESTS, sentence));
        }
        Ok(self.turns.take(cluster).await)
    }

    fn has_left(&self, asker: Asker, allowance: Allowance) -> bool {
        let now = self.clock.now();
        let mut all = lock(&self.left);
        if all.len() >= MOST {
            all.retain(|asker, left| {
                let full = match asker {
                    Asker::Node(..) => OF_A_NODE,
                    // Of how many nodes is not known here: a small cluster's is forgotten sooner.
                    Asker::Strangers(..) => of_strangers(0),
                };
                left.grown(full, now) < full.burst
            });
        }
        let fresh = Left { questions: allowance.burst, at: now, said: None };
        let left = all.entry(asker.clone()).or_insert(fresh);
        (left.questions, left.at) = (left.grown(allowance, now), now);
        if left.questions >= 1.0 {
            left.questions -= 1.0;
            return true;
        }
        if left.said.is_none_or(|said| now.since(said) >= SAID) {
            left.said = Some(now);
            match asker {
                Asker::Node(cluster, node) => warn!(%cluster, node, "the node asks too often"),
                Asker::Strangers(cluster, source) => {
                    warn!(%cluster, %source, "servers that are no nodes yet ask too often with its token");
                }
            }
        }
        false
    }

    /// Whether the same was refused a moment ago, from the same address. A secret is always looked
    /// at: it may be right from where others have failed.
    pub(super) fn is_refused(&self, caller: &Caller) -> bool {
        let until = lock(&self.refused).get(&claim(caller)).copied();
        caller.vendor_secret.is_none() && until.is_some_and(|until| self.clock.now() < until)
    }

    /// What the cloud says of the caller's claim does not bear it out.
    pub(super) fn refused(&self, caller: &Caller) {
        // What was remembered is forgotten in time, however often it is asked for meanwhile.
        if caller.vendor_secret.is_some() || self.is_refused(caller) {
            return;
        }
        let now = self.clock.now();
        let mut all = lock(&self.refused);
        if all.len() >= MOST {
            all.retain(|_, until| now < *until);
        }
        if all.len() < MOST {
            all.insert(claim(caller), now.plus(REFUSED));
        }
    }
}

/// Each node is a stranger once for every server it is built as, all of them at the same time where
/// a cluster is made.
fn of_strangers(nodes: u32) -> Allowance {
    let nodes = f64::from(nodes);
    Allowance { burst: 30.0 + 2.0 * nodes, per_second: 1.0 + nodes / 10.0 }
}

impl Left {
    fn grown(&self, allowance: Allowance, now: Timestamp) -> f64 {
        let grown = now.since(self.at).as_secs_f64() * allowance.per_second;
        (self.questions + grown).min(allowance.burst)
    }
}

fn claim(caller: &Caller) -> Claim {
    (caller.cluster, caller.guest.name.clone(), caller.instance.clone(), caller.source)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while holding it; if something did, the counts are still counts.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::admission::NodeIdentity;
    use super::super::claim::Proof;
    use super::*;

    fn caller(cluster: u128, node: &str) -> Caller {
        let guest =
            NodeIdentity { name: node.to_owned(), nodegroup: "g".to_owned(), master_index: None };
        let instance = Uuid::from_u128(7).to_string();
        let (cluster, source) = (ClusterId::new(Uuid::from_u128(cluster)), [192, 0, 2, 1].into());
        Caller { guest, cluster, instance, proof: Proof::Token, source, vendor_secret: None }
    }

    async fn asks(pace: &Pace, caller: &Caller, is_bound: bool, times: usize) -> usize {
        let mut answered = 0;
        for _ in 0..times {
            let asker = match is_bound {
                true => Asker::Node(caller.cluster, caller.guest.name.clone()),
                false => Asker::Strangers(caller.cluster, caller.source),
            };
            let allowance = if is_bound { OF_A_NODE } else { of_strangers(2) };
            answered += usize::from(pace.has_left(asker, allowance));
        }
        answered
    }

    #[tokio::test]
    async fn a_flood_of_names_is_one_asker_and_takes_nothing_from_others() {
        let pace = Pace::new(Clock::real());
        let mut answered = 0;
        for n in 0..100 {
            answered += asks(&pace, &caller(1, &format!("k-node-{n}")), false, 10).await;
        }
        assert!((34..40).contains(&answered), "{answered}");
        let honest = caller(1, "k-node-0");
        assert_eq!(asks(&pace, &honest, true, 30).await, 30, "a node of the same cluster boots");
        assert_eq!(asks(&pace, &caller(2, "k-node-0"), false, 30).await, 30, "another cluster");
        let own = asks(&pace, &caller(3, "k-node-0"), true, 1000).await;
        assert!((200..300).contains(&own), "{own}");
    }

    #[tokio::test]
    async fn one_question_too_many_is_answered_late_and_then_told() {
        let pace = Pace::new(Clock::real());
        let caller = caller(1, "k-node-0");
        asks(&pace, &caller, false, 50).await;
        let began = std::time::Instant::now();
        let Err(fault) = pace.admit(&caller, false, 2).await else { panic!("one too many") };
        assert_eq!(fault.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(began.elapsed() >= HELD);
    }

    #[tokio::test]
    async fn one_cluster_has_not_all_places() {
        let pace = Pace::new(Clock::real());
        let mut held = Vec::new();
        for _ in 0..PLACES_EACH {
            held.push(pace.admit(&caller(1, "n"), false, 2).await.ok().unwrap());
        }
        let (flooding, honest) = (caller(1, "n"), caller(2, "n"));
        let soon = Duration::from_millis(50);
        let fifth = tokio::time::timeout(soon, pace.admit(&flooding, false, 2)).await;
        assert!(fifth.is_err(), "it waits for its own");
        assert!(tokio::time::timeout(soon, pace.admit(&honest, false, 2)).await.unwrap().is_ok());
    }

    #[test]
    fn what_was_refused_is_not_asked_about_again_at_once() {
        let clock = Clock::fast(100.0);
        let pace = Pace::new(clock.clone());
        let (one, other) = (caller(1, "a"), caller(1, "b"));
        let elsewhere = Caller { source: [192, 0, 2, 9].into(), ..caller(1, "a") };
        let with_secret = Caller { vendor_secret: Some("s".to_owned()), ..caller(1, "a") };
        assert!(!pace.is_refused(&one));
        pace.refused(&one);
        assert!(pace.is_refused(&one) && !pace.is_refused(&other));
        assert!(!pace.is_refused(&elsewhere), "the server itself may ask from there");
        assert!(!pace.is_refused(&with_secret));
        std::thread::sleep(REFUSED / 80);
        assert!(!pace.is_refused(&one), "it may have come to be");
    }

    #[tokio::test]
    async fn a_reader_who_floods_from_elsewhere_takes_nothing_from_a_server() {
        let pace = Pace::new(Clock::real());
        let reader = Caller { source: [192, 0, 2, 9].into(), ..caller(1, "n") };
        while pace.admit(&reader, false, 1).await.is_ok() {}
        assert!(pace.admit(&caller(1, "n"), false, 1).await.is_ok());
    }
}
