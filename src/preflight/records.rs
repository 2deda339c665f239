//! What the state file tells, read while no daemon holds it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::secret::Sealer;
use crate::config::Config;
use crate::model::certificate::CertificateKind;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::status::Status;
use crate::store::{OpenError, Page, Scope, Store, StoreError};

/// The state, as far as it may be looked at.
pub enum State {
    /// There is none yet.
    New,
    Seen(Records),
    /// Somebody holds it, or it does not open; why.
    Unseen(String),
}

/// What checks want of it.
#[derive(Debug, Default)]
pub struct Records {
    pub templates: Vec<ClusterTemplate>,
    pub certificates: Vec<Dated>,
    /// How long creations took that ended well and were not touched since.
    pub creations: Vec<Duration>,
}

/// A certificate of a cluster.
#[derive(Clone, Debug)]
pub struct Dated {
    pub cluster: String,
    pub kind: CertificateKind,
    pub pem: String,
}

impl State {
    /// Looks once, and lets go of the file at once: a daemon may want to start.
    pub fn look(config: &Config) -> Self {
        let directory = &config.storage.path;
        let file = directory.join("magnumd.redb");
        if !file.exists() {
            return Self::New;
        }
        let key = key_file(config, directory);
        let bytes = match std::fs::read(&key) {
            Ok(bytes) => zeroize::Zeroizing::new(bytes),
            Err(e) => return Self::Unseen(format!("{}: {e}", key.display())),
        };
        let Ok(bytes) = <&[u8; Sealer::KEY_BYTES]>::try_from(bytes.as_slice()) else {
            return Self::Unseen(format!("{} is not a sealing key", key.display()));
        };
        match Store::open(&file, Sealer::new(bytes)) {
            Ok(store) => match read(&store) {
                Ok(records) => Self::Seen(records),
                Err(e) => Self::Unseen(e.to_string()),
            },
            Err(OpenError::Locked(path)) => {
                Self::Unseen(format!("a running magnumd holds {}", path.display()))
            }
            Err(e) => Self::Unseen(e.to_string()),
        }
    }
}

/// Where the daemon keeps the key that seals its state.
fn key_file(config: &Config, directory: &Path) -> PathBuf {
    let own = config.storage.sealing_key_file.clone();
    own.unwrap_or_else(|| directory.join("sealing.key"))
}

fn read(store: &Store) -> Result<Records, StoreError> {
    store.read(|view| {
        let templates = view.templates(Scope::Everyone, Page::ALL)?;
        let mut records = Records {
            templates: templates.into_iter().map(|t| t.record).collect(),
            ..Records::default()
        };
        for cluster in view.clusters(Scope::Everyone, Page::ALL)? {
            // Later orders leave another status behind.
            if let (Status::CreateComplete, Some(end)) = (cluster.status, cluster.updated_at) {
                records.creations.push(end.since(cluster.created_at));
            }
            for kind in CertificateKind::ALL {
                // The service accounts' "certificate" is a bare key, which never ends.
                if kind == CertificateKind::ServiceAccount {
                    continue;
                }
                if let Some(found) = view.certificate(cluster.id, kind)? {
                    let (cluster, pem) = (cluster.name.clone(), found.pem.clone());
                    records.certificates.push(Dated { cluster, kind, pem });
                }
            }
        }
        Ok(records)
    })
}
