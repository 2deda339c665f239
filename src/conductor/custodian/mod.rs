//! The custodian: what carries our names and belongs to no cluster, and clusters that lost
//! their stack. It looks at the cloud first and at the records afterwards: whatever our own
//! operations make has its record before it exists, so what is found and has none is an orphan.

mod adopt;
mod clean;
mod orphans;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::warn;

use crate::base::clock::Clock;
use crate::base::id::Entropy;
use crate::base::secret::Secret;
use crate::model::credential::Credential;
use crate::model::status::Status;
use crate::model::{ClusterId, NodeGroupId};
use crate::openstack::{Actor, Cloud, CloudError, Projects, Service, Trust};
use crate::store::{Page, Scope, Store, StoreError};

pub use adopt::{AdoptOrder, Adopted};
pub use clean::Cleaned;
pub use orphans::{Orphan, OrphanKind, OrphanWish, Orphans};
use orphans::{Scene, SeenBalancer, SeenStack, decide};

/// Long enough for Keystone, which counts in seconds.
const NEXT_SECOND: Duration = Duration::from_millis(1100);

/// Why the custodian did not do it.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    #[error(transparent)]
    Cloud(#[from] CloudError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The sentence says what must be done first.
    #[error("{0}")]
    Refused(String),
}

/// Works on a store and a cloud, inside the daemon or without it.
#[derive(Clone)]
pub struct Custodian {
    store: Store,
    cloud: Cloud,
    clock: Clock,
    entropy: Entropy,
}

/// What the records say of one cluster.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    project_id: String,
    status: Status,
    stack_id: Option<String>,
    /// Its groups and the stacks of those that have one of their own.
    groups: BTreeMap<NodeGroupId, Option<String>>,
}

/// A trustee that we speak as, and its trusts.
struct Spoken {
    trusts: Vec<Trust>,
    password: Secret<String>,
    user_id: String,
}

impl Custodian {
    pub fn new(store: Store, cloud: Cloud, clock: Clock) -> Self {
        Self { store, cloud, clock, entropy: Entropy::new() }
    }

    /// Everything that carries our names and has no record, and records whose stack is gone;
    /// of the named clusters only, if any are named.
    pub async fn orphans(&self, wish: &OrphanWish) -> Result<Orphans, CustodyError> {
        let mut scene = self.look().await?;
        let found = decide(&scene, &self.known()?, wish, self.clock.now());
        let closed = self.store.read(|view| view.unreadable_clusters())?;
        scene.unseen.extend(closed.iter().map(|id| {
            format!(
                "cluster {id} has a record that cannot be read (magnumd damage list): what is of \
                 it is left alone"
            )
        }));
        Ok(Orphans { found, unseen: scene.unseen })
    }

    /// The records, and of clusters that cannot be read at least that there is one: what such a
    /// cluster has is nobody's orphan.
    fn known(&self) -> Result<BTreeMap<ClusterId, Known>, StoreError> {
        let mut known = self.records()?;
        for id in self.store.read(|view| view.unreadable_clusters())? {
            // As good as deleted, of which nobody expects a stack.
            let closed = Known {
                name: id.to_string(),
                project_id: String::new(),
                status: Status::DeleteComplete,
                stack_id: None,
                groups: BTreeMap::new(),
            };
            known.insert(id, closed);
        }
        Ok(known)
    }

    fn records(&self) -> Result<BTreeMap<ClusterId, Known>, StoreError> {
        self.store.read(|view| {
            let mut known = BTreeMap::new();
            let closed = view.unreadable_clusters()?;
            for cluster in view.clusters(Scope::Everyone, Page::ALL)? {
                if closed.contains(&cluster.id) {
                    continue;
                }
                let groups = view.nodegroups(cluster.id)?;
                let cluster = cluster.record;
                known.insert(
                    cluster.id,
                    Known {
                        name: cluster.name,
                        project_id: cluster.project_id,
                        status: cluster.status,
                        stack_id: cluster.stack_id,
                        groups: groups
                            .into_iter()
                            .map(|g| {
                                let own = (!g.is_default).then_some(g.record.stack_id).flatten();
                                (g.record.id, own)
                            })
                            .collect(),
                    },
                );
            }
            Ok(known)
        })
    }

    async fn look(&self) -> Result<Scene, CustodyError> {
        let mut unseen = Vec::new();
        let (trustees, complete) = self.cloud.keystone().trustees().await?;
        if !complete {
            unseen.push(
                "Keystone shows a part of the trustees only (its list_limit): clean what is \
                 shown, then look again"
                    .to_owned(),
            );
        }
        let (stacks, projects) = self.look_for_stacks(&mut unseen).await?;
        let balancers = self.look_for_balancers(&mut unseen).await;
        Ok(Scene { trustees, stacks, projects, balancers, unseen })
    }

    /// Stacks of all projects where Heat lets us see them; else of those projects that we can
    /// enter by the trust of a cluster we know. None of the projects means every one.
    async fn look_for_stacks(
        &self,
        unseen: &mut Vec<String>,
    ) -> Result<(Vec<SeenStack>, Option<BTreeSet<String>>), CustodyError> {
        let service = Actor::from(&*self.cloud.keystone().service().await?);
        let heat = self.cloud.heat(&service).await?;
        match heat.all(Projects::Every).await {
            Ok(all) => {
                let seen = |listed| SeenStack { listed, through: None };
                return Ok((all.into_iter().map(seen).collect(), None));
            }
            Err(CloudError::Refused { status: 403, .. }) => unseen.push(
                "Heat's policy stacks:global_index does not let the service account list the \
                 stacks of all projects: stacks in projects without any recorded cluster are \
                 seen only when their trustee is cleaned"
                    .to_owned(),
            ),
            Err(e) => return Err(e.into()),
        }
        let mut stacks = Vec::new();
        let mut entered = BTreeSet::new();
        for (id, known) in self.records()? {
            if entered.contains(&known.project_id) {
                continue;
            }
            let listed = async {
                let Some(actor) = self.actor_of(id).await? else { return Ok(None) };
                let all = self.cloud.heat(&actor).await?.all(Projects::Own).await?;
                Ok::<_, CustodyError>(Some(all))
            };
            match listed.await {
                Ok(Some(all)) => {
                    entered.insert(known.project_id);
                    let seen = |listed| SeenStack { listed, through: Some(id) };
                    stacks.extend(all.into_iter().map(seen));
                }
                Ok(None) => {}
                Err(error) => warn!(cluster = %id, %error, "its project cannot be looked at"),
            }
        }
        let closed: BTreeSet<String> = self
            .records()?
            .into_values()
            .map(|known| known.project_id)
            .filter(|project| !entered.contains(project))
            .collect();
        unseen.extend(closed.iter().map(|project| {
            format!("project {project} has clusters, but none of their trusts can be used now")
        }));
        Ok((stacks, Some(entered)))
    }

    async fn look_for_balancers(&self, unseen: &mut Vec<String>) -> Vec<SeenBalancer> {
        let listed = async {
            if !self.cloud.has(Service::Octavia).await? {
                return Ok(Vec::new());
            }
            let service = Actor::from(&*self.cloud.keystone().service().await?);
            self.cloud.balancers(&service).await
        };
        match listed.await {
            Ok(all) => all.into_iter().filter_map(SeenBalancer::of).collect(),
            Err(e) => {
                unseen.push(format!("load balancers cannot be listed: {e}"));
                Vec::new()
            }
        }
    }

    /// Acts through a recorded cluster's trust. None where it has none.
    async fn actor_of(&self, id: ClusterId) -> Result<Option<Actor>, CustodyError> {
        let credential = self.store.read(|view| view.credential(id))?;
        let Some(credential) = credential.map(|c| c.record) else { return Ok(None) };
        let (Some(user), Some(trust)) = (&credential.trustee_user_id, &credential.trust_id) else {
            return Ok(None);
        };
        let owner = Credential::owner(id);
        let password = self.store.sealer().open_text(&owner, &credential.trustee_password);
        let password = password.map_err(|e| CustodyError::Refused(e.to_string()))?;
        let session = self.cloud.keystone().trustee(user, &password, Some(trust)).await?;
        Ok(Some(Actor::from(&session)))
    }

    /// Gives a trustee the password and speaks as it. Whoever had another one is locked out.
    async fn speak_as(
        &self,
        user_id: &str,
        password: Secret<String>,
    ) -> Result<Spoken, CloudError> {
        let keystone = self.cloud.keystone();
        keystone.set_trustee_password(user_id, &password).await?;
        for _ in 0..3 {
            let session = keystone.trustee(user_id, &password, None).await?;
            match keystone.trusts_given_to(user_id, &session.token).await {
                // A new password ends the tokens of the same second, those that it got too.
                Err(e) if e.is_unauthorised() => self.clock.sleep(NEXT_SECOND).await,
                trusts => {
                    return Ok(Spoken { trusts: trusts?, password, user_id: user_id.to_owned() });
                }
            }
        }
        let reason = "the trustee's new password is not accepted yet".to_owned();
        Err(CloudError::Busy { service: Service::Keystone, reason, retry_after: None })
    }

    async fn through(&self, spoken: &Spoken, trust: &str) -> Result<Actor, CloudError> {
        let keystone = self.cloud.keystone();
        let session = keystone.trustee(&spoken.user_id, &spoken.password, Some(trust)).await?;
        Ok(Actor::from(&session))
    }
}
