//! Threads that draw RSA keys, ahead of need where the processors are idle, and a stock of them.
//!
//! A key takes a tenth of a second of pure computation. Drawn on ordinary threads, a burst of
//! creations would starve the listeners, where etcd members give an answer five seconds. So keys are
//! drawn at a lower priority, a few at a time, project by project; and where nothing else wants
//! the processor, some are drawn ahead. Those lie in memory only, and each is given once.
//!
//! RSA is for what somebody insists on: RS256 is the one algorithm that every verifier of OpenID
//! Connect takes (OpenID Connect Core 1.0 §15.1), so the key of service-account tokens has it.
//! Authorities are read by TLS libraries alone, which all take P-256: such a key costs nothing,
//! and signs and loads twenty times as fast.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use tracing::warn;

use super::PkiError;
use crate::base::pool::{self, Pool};
use crate::model::certificate::{CertificateKind, KeyAlgorithm};

/// Which keys are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    /// Of authorities, and of magnumd's own client.
    pub authorities: KeyAlgorithm,
    /// Of RSA keys: 2048, 3072 or 4096.
    pub rsa_bits: usize,
    /// How many RSA keys lie ready at most.
    pub ahead: usize,
}

/// Draws keys on its own threads, which end with its last clone.
#[derive(Clone)]
pub struct KeyGenerator {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    size: RsaKeySize,
    authorities: KeyAlgorithm,
    stock: Arc<Stock>,
}

/// RSA keys that were drawn ahead.
struct Stock {
    most: usize,
    state: Mutex<Shelf>,
    /// Something of the shelf has changed.
    changed: Condvar,
}

#[derive(Default)]
struct Shelf {
    keys: Vec<KeyPair>,
    /// How many draws are waited for; none is drawn ahead meanwhile.
    awaited: usize,
    has_ended: bool,
}

impl Keys {
    /// Of the default size, none of them drawn ahead.
    pub const fn plain(authorities: KeyAlgorithm) -> Self {
        Self { authorities, rsa_bits: 2048, ahead: 0 }
    }
}

impl KeyGenerator {
    /// Starts `threads` threads for those who wait, and one more for the stock.
    pub fn start(threads: usize, keys: Keys) -> Result<Self, PkiError> {
        let size = match keys.rsa_bits {
            2048 => RsaKeySize::_2048,
            3072 => RsaKeySize::_3072,
            4096 => RsaKeySize::_4096,
            other => {
                return Err(PkiError::Material(format!(
                    "RSA keys of {other} bits cannot be drawn; ca.rsa_bits must be 2048, 3072 or \
                     4096"
                )));
            }
        };
        // A third of an ordinary thread's share: enough for the doors to go first, and too much to
        // starve on a machine that is busy with nested virtualisation.
        let pool = Pool::start("key-key_generator", threads, 5).map_err(|e| material(&e))?;
        let stock =
            Arc::new(Stock { most: keys.ahead, state: Mutex::default(), changed: Condvar::new() });
        if keys.ahead > 0 {
            let stock = Arc::clone(&stock);
            // The last of all threads: only what would be idle otherwise.
            pool::spawn("key-stock", 19, move || stock.fill(size)).map_err(|e| material(&e))?;
        }
        let authorities = keys.authorities;
        Ok(Self { inner: Arc::new(Inner { pool, size, authorities, stock }) })
    }

    /// A key for each of these kinds, if none of them must be waited for.
    pub fn at_once(&self, kinds: &[CertificateKind]) -> Result<Option<Vec<KeyPair>>, PkiError> {
        let slow = kinds.iter().filter(|kind| self.is_rsa(**kind)).count();
        let Some(mut ready) = self.inner.stock.take(slow) else { return Ok(None) };
        let key = |kind: &CertificateKind| match self.is_rsa(*kind) {
            true => ready.pop().map_or_else(|| Err(miscounted()), Ok),
            false => Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?),
        };
        kinds.iter().map(key).collect::<Result<_, _>>().map(Some)
    }

    /// A key for each of these kinds; those that take long are drawn in turns with other parties.
    pub async fn draw(&self, kinds: &[CertificateKind]) -> Result<Vec<KeyPair>, PkiError> {
        let mut keys = Vec::with_capacity(kinds.len());
        for kind in kinds {
            keys.push(match self.is_rsa(*kind) {
                true => self.rsa().await?,
                false => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            });
        }
        Ok(keys)
    }

    fn is_rsa(&self, kind: CertificateKind) -> bool {
        kind == CertificateKind::ServiceAccount || self.inner.authorities == KeyAlgorithm::Rsa
    }

    async fn rsa(&self) -> Result<KeyPair, PkiError> {
        let _awaited = self.inner.stock.awaited();
        let size = self.inner.size;
        let drawing =
            self.inner.pool.run(move || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size));
        Ok(drawing.await.map_err(|e| material(&e))??)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stock.shelf().has_ended = true;
        self.stock.changed.notify_all();
    }
}

impl Stock {
    /// So many keys or none.
    fn take(&self, count: usize) -> Option<Vec<KeyPair>> {
        let mut shelf = self.shelf();
        let rest = shelf.keys.len().checked_sub(count)?;
        let taken = shelf.keys.split_off(rest);
        drop(shelf);
        self.changed.notify_all();
        Some(taken)
    }

    /// Until this is dropped somebody waits for a key.
    fn awaited(&self) -> Awaited<'_> {
        self.shelf().awaited += 1;
        Awaited(self)
    }

    /// Draws keys ahead until the generator ends, when nobody waits for one.
    fn fill(&self, size: RsaKeySize) {
        loop {
            let waits = |shelf: &mut Shelf| {
                !shelf.has_ended && (shelf.awaited > 0 || shelf.keys.len() >= self.most)
            };
            let waited = self.changed.wait_while(self.shelf(), waits);
            if waited.unwrap_or_else(PoisonError::into_inner).has_ended {
                return;
            }
            match KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size) {
                Ok(key) => self.shelf().keys.push(key),
                // Whoever needs one is told; here it would fail again and again.
                Err(error) => return warn!(%error, "no keys are drawn ahead"),
            }
        }
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Awaited<'s>(&'s Stock);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.shelf().awaited -= 1;
        self.0.changed.notify_all();
    }
}

fn miscounted() -> PkiError {
    PkiError::Material("there are fewer keys than were taken from the stock".to_owned())
}

fn material(e: &dyn std::fmt::Display) -> PkiError {
    PkiError::Material(e.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    use rcgen::PublicKeyData;

    use super::*;

    const KINDS: [CertificateKind; 5] = CertificateKind::ALL;

    fn key_generator(
        authorities: KeyAlgorithm,
        rsa_bits: usize,
        ahead: usize,
    ) -> Result<KeyGenerator, PkiError> {
        KeyGenerator::start(2, Keys { authorities, rsa_bits, ahead })
    }

    fn is_rsa(key: &KeyPair) -> bool {
        key.algorithm() == &PKCS_RSA_SHA256
    }

    #[tokio::test]
    async fn keys_differ_and_have_the_algorithm_of_their_kind() {
        let own = key_generator(KeyAlgorithm::EcdsaP256, 2048, 0).unwrap();
        let (one, two) = tokio::join!(own.draw(&KINDS), own.draw(&KINDS));
        let all: Vec<KeyPair> = one.unwrap().into_iter().chain(two.unwrap()).collect();
        let different: HashSet<Vec<u8>> = all.iter().map(|k| k.der_bytes().to_vec()).collect();
        assert_eq!(different.len(), 10);
        let rsa: Vec<bool> = all[..5].iter().map(is_rsa).collect();
        assert_eq!(rsa, [false, false, false, false, true], "for service-account tokens alone");
        assert!(own.at_once(&KINDS).unwrap().is_none(), "there is no stock");
        assert_eq!(own.at_once(&CertificateKind::ROTATED).unwrap().unwrap().len(), 4);
        let rsa = key_generator(KeyAlgorithm::Rsa, 2048, 0).unwrap();
        assert!(rsa.draw(&KINDS[..2]).await.unwrap().iter().all(is_rsa));
        assert!(rsa.at_once(&KINDS[..1]).unwrap().is_none());
        assert!(key_generator(KeyAlgorithm::Rsa, 1024, 0).is_err());
    }

    #[tokio::test]
    async fn what_lies_ready_is_bounded_and_given_once() {
        let key_generator = key_generator(KeyAlgorithm::EcdsaP256, 2048, 2).unwrap();
        let ready = || key_generator.inner.stock.shelf().keys.len();
        let began = Instant::now();
        let mut seen = HashSet::new();
        for _ in 0..4 {
            while ready() < 2 {
                assert!(began.elapsed() < Duration::from_secs(120), "nothing is drawn ahead");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert_eq!(ready(), 2, "no more than that");
            let keys = key_generator.at_once(&KINDS).unwrap().expect("a key lies ready");
            assert!(is_rsa(&keys[4]));
            assert!(seen.insert(keys[4].der_bytes().to_vec()), "given before");
        }
    }
}
