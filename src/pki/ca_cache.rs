//! Authorities whose keys are loaded: the next request signs with them at once.
//!
//! To load an RSA key and to check it takes twice as long as to sign with it, and the nodes of
//! a cluster ask all at once. A key that nobody asks for is put away after some seconds; the
//! sealing key, which opens them all, is in memory as long as the process runs.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use super::PkiError;
use super::authority::Authority;
use crate::base::secret::Sealer;
use crate::model::certificate::Certificate;

/// How long an authority lies there after it was last used.
const IDLE: Duration = Duration::from_secs(10);
/// How long it lies there whatever happens.
const LONGEST: Duration = Duration::from_secs(60);
const MOST: u64 = 64;

/// Authorities by their certificate: whatever has another key is another one.
#[derive(Clone, Debug)]
pub struct CaCache {
    open: Cache<String, Arc<Authority>>,
}

impl Default for CaCache {
    fn default() -> Self {
        let open = Cache::builder().max_capacity(MOST).time_to_idle(IDLE).time_to_live(LONGEST);
        Self { open: open.build() }
    }
}

impl CaCache {
    /// The authority of a stored certificate, loaded once for all who ask at the same time. To
    /// load and to use it are computation: `work` gets it on a thread that answers nobody.
    pub async fn with<T: Send + 'static>(
        &self,
        stored: &Certificate,
        sealer: &Sealer,
        work: impl FnOnce(&Authority) -> Result<T, PkiError> + Send + 'static,
    ) -> Result<T, PkiError> {
        let loading = async {
            let owner = Certificate::owner(stored.cluster_id, stored.kind);
            let key = sealer.open_text(&owner, &stored.key);
            let key = key.map_err(|e| PkiError::Material(e.to_string()))?;
            let pem = stored.pem.clone();
            aside(move || Ok(Arc::new(Authority::load(&pem, &key)?))).await
        };
        let authority = self.open.try_get_with(stored.pem.clone(), loading).await;
        let authority = authority.map_err(|e: Arc<PkiError>| PkiError::Material(e.to_string()))?;
        aside(move || work(&authority)).await
    }

    #[cfg(test)]
    fn holds(&self, stored: &Certificate) -> bool {
        self.open.contains_key(&stored.pem)
    }
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PkiError> + Send + 'static,
) -> Result<T, PkiError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| PkiError::Material(e.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::base::id::Entropy;
    use crate::model::ClusterId;
    use crate::model::certificate::CertificateKind;
    use crate::pki::material::{KEYS, assemble};
    use uuid::Uuid;

    fn stored(sealer: &Sealer) -> Certificate {
        let keys: Vec<_> = (0..KEYS).map(|_| rcgen::KeyPair::generate().unwrap()).collect();
        let (now, day) = (Clock::real().now(), Duration::from_secs(86_400));
        let drawn = assemble("k1", &CertificateKind::ALL, &keys, day, now, &Entropy::new());
        let (kind, pair) = drawn.unwrap().remove(0);
        let cluster_id = ClusterId::new(Uuid::from_u128(1));
        let owner = Certificate::owner(cluster_id, kind);
        let key = sealer.seal(&owner, pair.key.expose().as_bytes());
        Certificate { cluster_id, kind, pem: pair.pem, key }
    }

    #[tokio::test]
    async fn an_authority_is_kept_and_never_taken_for_the_next() {
        let (ca_cache, sealer) = (CaCache::default(), Sealer::new(&[1; 32]));
        let (first, next) = (stored(&sealer), stored(&sealer));
        let end = |ca: &Authority| Ok(ca.ends_at());
        ca_cache.with(&first, &sealer, end).await.unwrap();
        assert!(ca_cache.holds(&first) && !ca_cache.holds(&next));
        // Open by now, it needs its key no more; the other does.
        let wrong = Sealer::new(&[2; 32]);
        ca_cache.with(&first, &wrong, end).await.unwrap();
        assert!(ca_cache.with(&next, &wrong, end).await.is_err());
        assert!(!ca_cache.holds(&next), "what cannot be loaded is not kept");
        ca_cache.with(&next, &sealer, end).await.unwrap();
        let asked = |_: &Authority| Err::<(), _>(PkiError::Request("not so".to_owned()));
        let refused = ca_cache.with(&next, &sealer, asked).await;
        assert!(matches!(refused, Err(PkiError::Request(_))), "the asker's own fault");
    }
}
