//! What a run knows of its cluster at one moment, and what can be derived from it.

use crate::base::secret::{CannotOpen, Secret};
use crate::driver::plan::{ClusterPlan, Enrolment};
use crate::model::ClusterId;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::credential::Credential;
use crate::model::facts::CloudFacts;
use crate::model::name;
use crate::model::node::Node;
use crate::model::nodegroup::{DEFAULT_MASTER, NodeGroup, counts};
use crate::model::operation::Operation;
use crate::pki::enrolment::{Enrolment as EnrolmentClaim, EnrolmentKey};
use crate::store::{Store, StoreError, Stored};

use super::Settings;

/// Everything stored about one cluster, read together.
#[derive(Debug)]
pub struct Moment {
    pub cluster: Stored<Cluster>,
    pub template: Option<Stored<ClusterTemplate>>,
    pub groups: Vec<Stored<NodeGroup>>,
    pub operation: Option<Stored<Operation>>,
    pub credential: Option<Stored<Credential>>,
    pub facts: Option<Stored<CloudFacts>>,
    pub nodes: Vec<Node>,
}

impl Moment {
    /// None when the cluster is no more.
    pub fn read(store: &Store, id: ClusterId) -> Result<Option<Self>, StoreError> {
        store.read(|view| {
            let Some(cluster) = view.cluster(id)? else { return Ok(None) };
            Ok(Some(Self {
                template: view.template(cluster.template_id)?,
                groups: view.nodegroups(id)?,
                operation: view.operation_of(id)?,
                credential: view.credential(id)?,
                facts: view.facts(id)?,
                nodes: view.nodes(id)?.into_iter().map(|n| n.record).collect(),
                cluster,
            }))
        })
    }

    pub fn id(&self) -> ClusterId {
        self.cluster.id
    }

    /// Masters and workers wanted.
    pub fn counts(&self) -> (u32, u32) {
        counts(self.groups.iter().map(|g| &g.record))
    }

    /// The trustee's password, and its user id once it exists.
    pub fn trustee(&self, store: &Store) -> Result<(Option<&str>, Secret<String>), CannotOpen> {
        let credential = self.credential.as_ref().ok_or(CannotOpen)?;
        let owner = Credential::owner(self.id());
        let password = store.sealer().open_text(&owner, &credential.trustee_password)?;
        Ok((credential.trustee_user_id.as_deref(), password))
    }

    pub fn trust(&self) -> Option<&str> {
        self.credential.as_ref()?.trust_id.as_deref()
    }

    /// The token of the tenant who asked, while it is still needed.
    pub fn tenant_token(&self, store: &Store) -> Option<Secret<String>> {
        let sealed = self.operation.as_ref()?.token.as_ref()?;
        store.sealer().open_text(&Operation::token_owner(self.id()), sealed).ok()
    }

    /// The plan of the cluster's own stack. None when its template or facts are missing,
    /// which only a damaged state file can cause.
    pub fn plan(&self, settings: &Settings, key: &EnrolmentKey) -> Option<ClusterPlan> {
        let groups: Vec<NodeGroup> =
            self.groups.iter().filter(|g| g.is_default).map(|g| g.record.clone()).collect();
        let enrolment = enrolment(&self.cluster, &groups, settings, key);
        Some(ClusterPlan {
            cluster: self.cluster.record.clone(),
            template: self.template.as_ref()?.record.clone(),
            groups,
            facts: self.facts.as_ref()?.record.clone(),
            settings: settings.driver.clone(),
            enrolment,
        })
    }
}

/// The tokens that servers present when they report: the same for the same cluster, so that
/// a second rendering changes no server.
fn enrolment(
    cluster: &Cluster,
    groups: &[NodeGroup],
    settings: &Settings,
    key: &EnrolmentKey,
) -> Enrolment {
    let stack = cluster.stack_name();
    let claim = |group: &str, role: &str, node: Option<String>| {
        key.mint(&EnrolmentClaim {
            cluster: cluster.id,
            nodegroup: group.to_owned(),
            role: role.to_owned(),
            node,
            expires_at: cluster.created_at.plus(settings.certificate_validity),
        })
    };
    let (masters, _) = counts(groups);
    Enrolment {
        masters: (0..masters)
            .map(|i| claim(DEFAULT_MASTER, "master", Some(name::master_node(&stack, i))))
            .collect(),
        workers: groups
            .iter()
            .filter(|g| !g.is_master())
            .map(|g| (g.name.clone(), claim(&g.name, "worker", None)))
            .collect(),
    }
}
