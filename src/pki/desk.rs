//! The desk: authorities that have signed a moment ago lie open for the next request.
//!
//! To load an RSA key and to check it takes twice as long as to sign with it, and the nodes of
//! a cluster ask all at once. A key that nobody asks for is put away after some seconds; the
//! sealing key, which opens them all, is in memory as long as the process runs.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use super::PkiError;
use super::authority::Authority;

/// How long an authority lies there after it was last used.
const IDLE: Duration = Duration::from_secs(10);
/// How long it lies there whatever happens.
const LONGEST: Duration = Duration::from_secs(60);
const MOST: u64 = 64;

/// Authorities by owner and revision, so that a new key is never taken for the old one.
#[derive(Clone, Debug)]
pub struct Desk {
    open: Cache<(String, u64), Arc<Authority>>,
}

impl Default for Desk {
    fn default() -> Self {
        let open = Cache::builder().max_capacity(MOST).time_to_idle(IDLE).time_to_live(LONGEST);
        Self { open: open.build() }
    }
}

impl Desk {
    /// The authority that belongs to `owner`, loaded once for all who ask at the same time. To
    /// load and to use it are computation: `work` gets it on a thread that answers nobody.
    pub async fn with<T: Send + 'static>(
        &self,
        owner: String,
        revision: u64,
        load: impl FnOnce() -> Result<Authority, PkiError> + Send + 'static,
        work: impl FnOnce(&Authority) -> Result<T, PkiError> + Send + 'static,
    ) -> Result<T, PkiError> {
        let loading = async { aside(move || Ok(Arc::new(load()?))).await };
        let authority = self.open.try_get_with((owner, revision), loading).await;
        let authority = authority.map_err(|e| PkiError::Material(e.to_string()))?;
        aside(move || work(&authority)).await
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::base::clock::Clock;
    use crate::base::id::Entropy;
    use crate::model::certificate::CertificateKind;
    use crate::pki::material::{KEYS, assemble};

    fn authority() -> Authority {
        let keys: Vec<_> = (0..KEYS).map(|_| rcgen::KeyPair::generate().unwrap()).collect();
        let (now, day) = (Clock::real().now(), Duration::from_secs(86_400));
        let drawn = assemble("k1", &CertificateKind::ALL, &keys, day, now, &Entropy::new())
            .unwrap()
            .remove(0)
            .1;
        Authority::load(&drawn.pem, &drawn.key).unwrap()
    }

    #[tokio::test]
    async fn one_load_serves_all_until_the_key_is_another() {
        let (desk, loads) = (Desk::default(), Arc::new(AtomicUsize::new(0)));
        let ask = |revision: u64| {
            let (desk, loads) = (desk.clone(), Arc::clone(&loads));
            let load = move || {
                loads.fetch_add(1, Ordering::SeqCst);
                Ok(authority())
            };
            async move { desk.with("ca/1".to_owned(), revision, load, |_| Ok(())).await }
        };
        let (one, two, three) = tokio::join!(ask(1), ask(1), ask(1));
        assert!(one.is_ok() && two.is_ok() && three.is_ok());
        ask(1).await.unwrap();
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        ask(2).await.unwrap();
        assert_eq!(loads.load(Ordering::SeqCst), 2, "rotated meanwhile");
    }

    #[tokio::test]
    async fn what_cannot_be_loaded_is_told_and_not_kept() {
        let desk = Desk::default();
        let bad = || Err(PkiError::Material("no key".to_owned()));
        let refused = desk.with("ca/1".to_owned(), 1, bad, |_| Ok(())).await.unwrap_err();
        assert!(refused.to_string().contains("no key"), "{refused}");
        desk.with("ca/1".to_owned(), 1, || Ok(authority()), |_| Ok(())).await.unwrap();
        let asked = |_: &Authority| Err::<(), _>(PkiError::Request("not so".to_owned()));
        let refused = desk.with("ca/1".to_owned(), 1, || Ok(authority()), asked).await;
        assert!(matches!(refused, Err(PkiError::Request(_))), "the asker's own fault");
    }
}
