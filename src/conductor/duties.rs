//! What nodes fetch for their duties.

use super::snapshot::ClusterSnapshot;
use super::{Conductor, RequestError};
use crate::base::secret::Secret;
use crate::driver::BundleFile;
use crate::driver::plan::{DutyPlan, NodeCertificates};
use crate::model::ClusterId;
use crate::model::certificate::{Certificate, CertificateKind};
use crate::model::duty::{Duty, DutyKind};

impl Conductor {
    /// What a node fetches for its duty.
    pub async fn duty_files(
        &self,
        cluster: ClusterId,
        node: &str,
        duty: &Duty,
    ) -> Result<Vec<BundleFile>, RequestError> {
        let snapshot = self.snapshot(cluster)?;
        let (plan, mut place) = self.node_plan(&snapshot, node).await?;
        let keys = place.master_index.is_some();
        let present = place.certificates.clone();
        place.certificates = match duty.kind {
            DutyKind::Drain
            | DutyKind::DropAuthorities
            | DutyKind::RenewCredentials
            | DutyKind::Rejoin => without_keys(present),
            DutyKind::TrustAuthorities => {
                let next = self.next_authorities(&snapshot, false)?;
                without_keys(both(&present, &next))
            }
            DutyKind::IssueLeaves => {
                let next = self.next_authorities(&snapshot, keys)?;
                // The first certificate of a file is the one that signs.
                NodeCertificates {
                    service_account_key: present.service_account_key.clone(),
                    ..both(&next, &present)
                }
            }
        };
        let duty =
            DutyPlan { number: duty.number.0, kind: duty.kind, targets: duty.targets.clone() };
        let driver = self.driver(&snapshot)?;
        Ok(driver.duty_files(&plan, &place, &duty)?)
    }

    /// The authorities that a rotation has drawn, for masters with their keys.
    fn next_authorities(
        &self,
        snapshot: &ClusterSnapshot,
        keys: bool,
    ) -> Result<NodeCertificates, RequestError> {
        let load =
            |kind: CertificateKind| -> Result<(String, Option<Secret<String>>), RequestError> {
                let found = snapshot.next_certificates.iter().find(|c| c.0.kind == kind);
                let found = found.ok_or_else(|| {
                    RequestError::Unavailable(
                        "The next authorities are not there any more.".to_owned(),
                    )
                })?;
                let owner = Certificate::owner(snapshot.id(), kind);
                let key = keys
                    .then(|| self.inner.store.sealer().open_text(&owner, &found.0.key))
                    .transpose()
                    .map_err(|e| RequestError::Internal(e.to_string()))?;
                Ok((found.0.pem.clone(), key))
            };
        let (ca, ca_key) = load(CertificateKind::Kubernetes)?;
        let (etcd_ca, etcd_ca_key) = load(CertificateKind::Etcd)?;
        let (front_proxy_ca, front_proxy_ca_key) = load(CertificateKind::FrontProxy)?;
        Ok(NodeCertificates {
            ca,
            etcd_ca,
            front_proxy_ca,
            ca_key,
            etcd_ca_key,
            front_proxy_ca_key,
            ..NodeCertificates::default()
        })
    }
}

/// Files that trust both; names that only the first has are its own.
fn both(first: &NodeCertificates, second: &NodeCertificates) -> NodeCertificates {
    let joined = |a: &str, b: &str| format!("{}\n{}", a.trim_end(), b.trim_end());
    let public = [&first.service_account_public, &second.service_account_public];
    NodeCertificates {
        ca: joined(&first.ca, &second.ca),
        etcd_ca: joined(&first.etcd_ca, &second.etcd_ca),
        front_proxy_ca: joined(&first.front_proxy_ca, &second.front_proxy_ca),
        service_account_public: public
            .into_iter()
            .find(|p| !p.is_empty())
            .cloned()
            .unwrap_or_default(),
        ..first.clone()
    }
}

fn without_keys(certificates: NodeCertificates) -> NodeCertificates {
    NodeCertificates {
        ca_key: None,
        etcd_ca_key: None,
        front_proxy_ca_key: None,
        service_account_key: None,
        ..certificates
    }
}
