//! A cluster's keys: taken from the stock, or drawn while nobody keeps a lane for it; and those on
//! record, for nodes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rcgen::KeyPair;

use super::{Conductor, RequestError, StepError};
use crate::base::party::Party;
use crate::base::secret::Secret;
use crate::driver::plan::{Inlined, NodeCertificates};
use crate::model::ClusterId;
use crate::model::certificate::{Certificate, CertificateKind};
use crate::model::cluster::Cluster;
use crate::pki::authority::{Authority, Leaf};
use crate::pki::{KeyPairPem, PkiError, material};

/// Keys that are being drawn, or lie ready for the next look at their cluster. Lost with the
/// process: nothing was made of them.
#[derive(Default)]
pub(super) struct Drawings {
    by_cluster: Mutex<HashMap<ClusterId, Drawing>>,
}

struct Drawing {
    kinds: &'static [CertificateKind],
    /// None until they are drawn.
    keys: Option<Result<Vec<KeyPair>, PkiError>>,
}

impl Drawings {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterId, Drawing>> {
        self.by_cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, cluster: ClusterId) {
        self.lock().remove(&cluster);
    }
}

impl Conductor {
    /// Key pairs of these kinds, the private keys sealed. None while the keys are being drawn: the
    /// cluster is looked at again when they are.
    pub(super) async fn draw(
        &self,
        cluster: &Cluster,
        kinds: &'static [CertificateKind],
    ) -> Result<Option<Vec<Certificate>>, StepError> {
        let failed = |e: &dyn std::fmt::Display| {
            StepError::failed(format!("The cluster's keys could not be drawn: {e}"))
        };
        let Some(keys) = self.keys(cluster, kinds).map_err(|e| failed(&e))? else {
            return Ok(None);
        };
        let (name, validity) = (cluster.name.clone(), self.inner.settings.certificate_validity);
        let (now, entropy) = (self.inner.clock.now(), self.inner.entropy.clone());
        let drawn = tokio::task::spawn_blocking(move || {
            material::assemble(&name, kinds, &keys, validity, now, &entropy)
        });
        let drawn = drawn.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
        let sealed = |(kind, pair): (CertificateKind, KeyPairPem)| {
            let owner = Certificate::owner(cluster.id, kind);
            let key = self.inner.store.sealer().seal(&owner, pair.key.expose().as_bytes());
            Certificate { cluster_id: cluster.id, kind, pem: pair.pem, key }
        };
        Ok(Some(drawn.into_iter().map(sealed).collect()))
    }

    fn keys(
        &self,
        cluster: &Cluster,
        kinds: &'static [CertificateKind],
    ) -> Result<Option<Vec<KeyPair>>, PkiError> {
        let mut drawings = self.inner.drawings.lock();
        match drawings.remove(&cluster.id).filter(|drawing| drawing.kinds == kinds) {
            Some(Drawing { keys: Some(keys), .. }) => return keys.map(Some),
            Some(drawing) => {
                drawings.insert(cluster.id, drawing);
                return Ok(None);
            }
            None => {}
        }
        if let Some(keys) = self.inner.key_generator.at_once(kinds)? {
            return Ok(Some(keys));
        }
        drawings.insert(cluster.id, Drawing { kinds, keys: None });
        drop(drawings);
        let (conductor, id) = (self.clone(), cluster.id);
        let party = Party::Project(cluster.project_id.as_str().into());
        tokio::spawn(async move {
            let drawing = party.scope(conductor.inner.key_generator.draw(kinds));
            let Some(keys) = conductor.inner.stopping.run_until_cancelled(drawing).await else {
                return;
            };
            if let Some(drawing) =
                conductor.inner.drawings.lock().get_mut(&id).filter(|d| d.kinds == kinds)
            {
                drawing.keys = Some(keys);
            }
            conductor.poke(id);
        });
        Ok(None)
    }

    /// All that servers are given beforehand which cannot fetch it: the cluster's authorities with
    /// their keys, and a certificate with which kubelets may ask for their own.
    pub(super) fn inlined(&self, cluster: ClusterId) -> Result<Inlined, RequestError> {
        let certificates = self.certificates(cluster, true)?;
        let internal = |e: PkiError| RequestError::Internal(e.to_string());
        let lost = || RequestError::Internal("the cluster's CA has no key".to_owned());
        let key = certificates.ca_key.as_ref().ok_or_else(lost)?;
        let authority = Authority::load(&certificates.ca, key).map_err(internal)?;
        // kubeadm lets this group ask, and has what it asks for approved.
        let leaf = Leaf {
            common_name: "magnumd:bootstrap".to_owned(),
            organization: Some("system:bootstrappers:kubeadm:default-node-token".to_owned()),
            client: true,
            ..Leaf::default()
        };
        let pair = authority.pair(&leaf, self.inner.clock.now(), &self.inner.entropy);
        let pair = pair.map_err(internal)?;
        Ok(Inlined { certificates, bootstrap: (pair.pem, pair.key) })
    }

    /// The cluster's CAs, and for masters their keys.
    pub(super) fn certificates(
        &self,
        cluster: ClusterId,
        keys: bool,
    ) -> Result<NodeCertificates, RequestError> {
        let store = &self.inner.store;
        let load =
            |kind: CertificateKind| -> Result<(String, Option<Secret<String>>), RequestError> {
                let stored =
                    store.read(|view| view.certificate(cluster, kind))?.ok_or_else(|| {
                        RequestError::Unavailable("The cluster has no keys yet.".into())
                    })?;
                let key = keys
                    .then(|| {
                        store.sealer().open_text(&Certificate::owner(cluster, kind), &stored.key)
                    })
                    .transpose()
                    .map_err(|e| RequestError::Internal(e.to_string()))?;
                Ok((stored.record.pem, key))
            };
        let (ca, ca_key) = load(CertificateKind::Kubernetes)?;
        let (etcd_ca, etcd_ca_key) = load(CertificateKind::Etcd)?;
        let (front_proxy_ca, front_proxy_ca_key) = load(CertificateKind::FrontProxy)?;
        let (service_account_public, service_account_key) = load(CertificateKind::ServiceAccount)?;
        Ok(NodeCertificates {
            ca,
            etcd_ca,
            front_proxy_ca,
            service_account_public,
            ca_key,
            etcd_ca_key,
            front_proxy_ca_key,
            service_account_key,
            bootstrap: None,
        })
    }
}
