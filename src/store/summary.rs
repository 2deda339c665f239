//! A summary of a state: counts, versions and dates of certificates, without a secret.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Page, Scope, Store, StoreError};
use crate::model::certificate::CertificateKind;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::status::Status;

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outline {
    pub templates: Vec<ClusterTemplate>,
    pub certificates: Vec<Dated>,
    /// How long creations took that ended well and were not touched since.
    pub creations: Vec<Duration>,
}

/// A certificate of a cluster, which ends some day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dated {
    pub cluster: String,
    pub kind: CertificateKind,
    pub pem: String,
}

impl Store {
    /// Reads one moment. Blocks.
    pub fn outline(&self) -> Result<Outline, StoreError> {
        self.read(|view| {
            let templates = view.templates(Scope::Everyone, Page::ALL)?;
            let mut outline = Outline {
                templates: templates.into_iter().map(|t| t.record).collect(),
                ..Outline::default()
            };
            for cluster in view.clusters(Scope::Everyone, Page::ALL)? {
                // Later orders leave another status behind.
                if let (Status::CreateComplete, Some(end)) = (cluster.status, cluster.updated_at) {
                    outline.creations.push(end.since(cluster.created_at));
                }
                for kind in CertificateKind::ALL {
                    // The service accounts' "certificate" is a bare key, which never ends.
                    if kind == CertificateKind::ServiceAccount {
                        continue;
                    }
                    let found = match view.certificate(cluster.id, kind) {
                        // Of one cluster: the others are judged all the same.
                        Err(StoreError::Corrupt(_)) => None,
                        found => found?,
                    };
                    if let Some(found) = found {
                        let (cluster, pem) = (cluster.name.clone(), found.record.pem);
                        outline.certificates.push(Dated { cluster, kind, pem });
                    }
                }
            }
            Ok(outline)
        })
    }
}
