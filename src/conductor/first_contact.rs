//! The first contact of a server: is it the node that it says it is?

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::warn;
use uuid::Uuid;

use super::snapshot::ClusterSnapshot;
use super::{Conductor, RequestError, StepError};
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::driver::ClusterPlan;
use crate::model::ClusterId;
use crate::model::first_contact::{Guarantee, Unproven, Vendor};
use crate::model::node_key::NodeKey;
use crate::store::Change;

/// Somebody whom we know as nothing but the bearer of a token.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'v> {
    pub cluster: ClusterId,
    /// The node that it says it is.
    pub node: &'v str,
    /// The Nova server that it says it is.
    pub instance: &'v str,
    pub source: IpAddr,
    /// What it says Nova has given it as our secret.
    pub vendor_secret: Option<&'v str>,
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub enum NotLetIn {
    /// It is not who it says, or cannot show it; the sentence is for whoever asks.
    #[error("{0}")]
    Refused(String),
    /// It could not be judged.
    #[error(transparent)]
    Unclear(#[from] RequestError),
}

impl Conductor {
    /// That these names are free to be claimed, if the driver's nodes make a first contact. Whoever
    /// reads the cluster is shown its discovery token: members register after that contact.
    pub(super) fn to_be_claimed(
        &self,
        snapshot: &ClusterSnapshot,
        plan: &ClusterPlan,
        names: &[String],
    ) -> Result<Change, StepError> {
        let driver = self.driver(snapshot)?;
        let reports = driver.waits(plan).is_ok_and(|waits| waits.for_nodes);
        if !reports || driver.inlines(plan).unwrap_or(true) {
            return Ok(Change::new());
        }
        let free = |name: &String| NodeKey::free(snapshot.id(), name.clone());
        Ok(names.iter().map(free).fold(Change::new(), |change, key| change.put(&key)))
    }

    /// Whether a visitor is the server that Nova has under this name in the cluster's project,
    /// and by which proof. What cannot be asked for now lets nobody in.
    pub async fn first_contact(&self, visitor: Visitor<'_>) -> Result<Guarantee, NotLetIn> {
        let Visitor { cluster, node, instance, source, vendor_secret } = visitor;
        let (snapshot, cloud) = (self.snapshot(cluster)?, &self.inner.cloud);
        if !self.is_server_of(visitor).await? {
            return Err(NotLetIn::Refused(format!(
                "Nova knows no server {instance} called {node} in the cluster's project."
            )));
        }
        let rules = &self.inner.settings.first_contact;
        let vendor = match vendor_secret {
            None => Vendor::Absent,
            Some(secret) if self.inner.vendor.verifies(instance, secret) => Vendor::Right,
            Some(_) => Vendor::Wrong,
        };
        let judged = match rules.at_once(source, vendor) {
            Some(judged) => judged,
            None => {
                let project = &snapshot.cluster.project_id;
                let seen = cloud.reach(project, instance).await.map_err(RequestError::from)?;
                let seen = seen.ok_or_else(|| {
                    warn!(%cluster, node, instance, "Neutron shows magnumd no port of this server");
                    RequestError::Unavailable("Neutron shows no port of this server.".to_owned())
                })?;
                let judged = rules.by_address(source, &seen.reach);
                if judged.is_err() {
                    cloud.forget_exits(&seen.networks).await.map_err(RequestError::from)?;
                }
                judged
            }
        };
        let now = self.inner.clock.now();
        match judged {
            Ok(guarantee) => {
                self.inner.doorstep.leave(cluster, node);
                Ok(guarantee)
            }
            Err(unproven) => {
                warn!(%cluster, node, instance, %source, reason = %unproven, "refused at first contact");
                let told = unproven.told();
                self.inner.doorstep.wait(cluster, node, unproven, now);
                Err(NotLetIn::Refused(told))
            }
        }
    }

    /// Whether Nova has such a server of this name in the cluster's project.
    pub async fn is_server_of(&self, visitor: Visitor<'_>) -> Result<bool, RequestError> {
        let Visitor { cluster, node, instance, source, .. } = visitor;
        let snapshot = self.snapshot(cluster)?;
        let actor = self.reader(&snapshot).await?;
        let is_there = self.inner.cloud.has_server(&actor, node, instance).await?;
        if !is_there {
            warn!(%cluster, node, instance, %source, "not a server of this cluster");
        }
        Ok(is_there)
    }

    /// What Nova is to give a server, by which it can show that it is that server.
    pub fn vendor_secret(&self, server: Uuid) -> Secret<String> {
        self.inner.vendor.secret(server)
    }

    /// A sentence about progress or failure, with what is to be said of nodes that were refused.
    pub(super) fn with_refused(&self, cluster: ClusterId, sentence: String) -> String {
        let mut refused = self.inner.doorstep.refused(cluster, self.inner.clock.now());
        // Anybody can be refused in the name of a node that is in, and nobody waits for it.
        refused.retain(|node, _| !self.is_let_in(cluster, node));
        match told(&refused) {
            Some(more) => format!("{} {more}", sentence.trim_end()),
            None => sentence,
        }
    }

    /// Whether a node's name has been claimed, and is not open for a claim again. What cannot be
    /// read is not told of.
    fn is_let_in(&self, cluster: ClusterId, node: &str) -> bool {
        let key = self.inner.store.read(|view| view.node_key(cluster, node));
        key.map_or(true, |key| key.is_some_and(|key| key.record.holder.is_some()))
    }
}

/// How long a refusal is told of after the last: nodes come again every minute and a half.
const FRESH: Duration = Duration::from_secs(300);
/// How many nodes a sentence names.
const NAMED: usize = 3;

/// Nodes that were refused, so that their tenants can see what they wait for. In memory: who is
/// still refused comes again.
#[derive(Debug, Default)]
pub(super) struct Doorstep {
    waiting: Mutex<HashMap<ClusterId, Waiting>>,
}

/// When a cluster's nodes were refused last, and why, by name.
type Waiting = BTreeMap<String, (Timestamp, Unproven)>;

impl Doorstep {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterId, Waiting>> {
        // Nothing panics while holding it; if something did, what is in it is still whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, cluster: ClusterId, node: &str, why: Unproven, now: Timestamp) {
        let mut waiting = self.lock();
        waiting.retain(|_, nodes| {
            nodes.retain(|_, (at, _)| now.since(*at) < FRESH);
            !nodes.is_empty()
        });
        waiting.entry(cluster).or_default().insert(node.to_owned(), (now, why));
    }

    fn leave(&self, cluster: ClusterId, node: &str) {
        if let Some(nodes) = self.lock().get_mut(&cluster) {
            nodes.remove(node);
        }
    }

    /// Those of a cluster that were refused lately.
    fn refused(&self, cluster: ClusterId, now: Timestamp) -> Waiting {
        let mut nodes = self.lock().get(&cluster).cloned().unwrap_or_default();
        nodes.retain(|_, (at, _)| now.since(*at) < FRESH);
        nodes
    }
}

/// A sentence about nodes that were refused; None where there are none.
fn told(refused: &Waiting) -> Option<String> {
    let (_, (_, first)) = refused.first_key_value()?;
    let alike = refused.iter().filter(|(_, (_, why))| why.which() == first.which());
    let named: Vec<&str> = alike.take(NAMED).map(|(name, _)| name.as_str()).collect();
    let more = match refused.len() - named.len() {
        0 => String::new(),
        more => format!("; others in the name of {more} more"),
    };
    Some(format!(
        "Refused at first contact: requests in the name of {}, which {}{more}. Whether the nodes \
         themselves sent them is not known; the operator finds the cure in magnumd's log.",
        named.join(", "),
        first.which()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Sealer;
    use crate::conductor::test_support;
    use crate::model::node_key::Holder;
    use crate::store::Store;

    fn sentence(doorstep: &Doorstep, cluster: ClusterId, now: Timestamp) -> Option<String> {
        told(&doorstep.refused(cluster, now))
    }

    #[test]
    fn a_tenant_sees_who_is_refused_until_it_is_let_in() {
        let (one, two) = (ClusterId::new(Uuid::from_u128(1)), ClusterId::new(Uuid::from_u128(2)));
        let at = |seconds| Timestamp::EPOCH.plus(Duration::from_secs(seconds));
        let doorstep = Doorstep::default();
        assert_eq!(sentence(&doorstep, one, at(0)), None);
        for node in ["n-0", "n-1", "n-2", "n-3", "n-4"] {
            doorstep.wait(one, node, Unproven::NoSecret, at(0));
        }
        let said = sentence(&doorstep, one, at(1)).unwrap();
        let words = "requests in the name of n-0, n-1, n-2, which carried no vendor secret; others \
                     in the name of 2 more. Whether";
        assert!(said.contains(words), "{said}");
        assert_eq!(sentence(&doorstep, two, at(1)), None, "another cluster");
        (0..4).for_each(|n| doorstep.leave(one, &format!("n-{n}")));
        let said = sentence(&doorstep, one, at(1)).unwrap();
        assert!(said.starts_with("Refused at first contact: requests in the name of n-4, which"));
        assert_eq!(sentence(&doorstep, one, at(300)), None, "it has not come again");
        doorstep.wait(two, "m-0", Unproven::WrongSecret, at(300));
        assert_eq!(doorstep.lock().len(), 1, "what is over is forgotten");
    }

    /// A reader who sends nonsense in a node's name has magnumd say nothing of the node itself, and
    /// nothing at all once the node has come.
    #[test]
    fn what_a_reader_sends_is_told_as_what_it_is() {
        let cluster = ClusterId::new(Uuid::from_u128(1));
        let doorstep = Doorstep::default();
        let at = Timestamp::EPOCH;
        doorstep.wait(cluster, "m-0", Unproven::WrongSecret, at);
        doorstep.wait(cluster, "m-1", Unproven::NoSecret, at);
        assert_eq!(
            sentence(&doorstep, cluster, at).unwrap(),
            "Refused at first contact: requests in the name of m-0, which carried a vendor secret \
             that is not that of its server; others in the name of 1 more. Whether the nodes \
             themselves sent them is not known; the operator finds the cure in magnumd's log."
        );
        doorstep.leave(cluster, "m-0");
        doorstep.leave(cluster, "m-1");
        assert_eq!(sentence(&doorstep, cluster, at), None);
    }

    /// Whoever sends nonsense in the name of a node that is in is told to nobody, however often;
    /// until its name is open for a claim again.
    #[tokio::test]
    async fn nothing_is_told_of_a_node_that_is_in() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(&place.path().join("s"), Sealer::new(&[1; 32])).unwrap();
        let (conductor, _) = test_support::conductor(store.clone());
        let cluster = ClusterId::new(Uuid::from_u128(1));
        let refuse = || {
            let now = conductor.inner.clock.now();
            conductor.inner.doorstep.wait(cluster, "m-0", Unproven::WrongSecret, now);
        };
        let says = || conductor.with_refused(cluster, "Rotating.".to_owned());
        let put = async |key: &NodeKey| store.commit(Change::new().put(key)).await.unwrap();
        refuse();
        assert!(says().contains("m-0"), "its first contact is yet to come: {}", says());
        let mut key = NodeKey::free(cluster, "m-0".to_owned());
        put(&key).await;
        assert!(says().contains("m-0"), "its name is open for a claim: {}", says());
        conductor.inner.doorstep.leave(cluster, "m-0");
        key.holder = Some(Holder {
            instance: "s".to_owned(),
            key: "k".to_owned(),
            certificate: "c".to_owned(),
            since: Timestamp::EPOCH,
            address: "192.0.2.1".to_owned(),
        });
        put(&key).await;
        refuse();
        assert_eq!(says(), "Rotating.");
        put(&NodeKey::of_rebuilt(cluster, "m-0".to_owned(), Timestamp::EPOCH)).await;
        assert!(says().contains("m-0"), "whoever runs on it next may be refused: {}", says());
    }
}
