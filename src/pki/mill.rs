//! The mill: threads that draw RSA keys while nobody waits for them.
//!
//! A key takes a tenth of a second of pure computation, and a cluster needs five. Drawn on
//! ordinary threads, a burst of creations would starve the doors, where etcd members give an
//! answer five seconds. So keys are drawn at a lower priority, a few at a time, in order.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tokio::sync::oneshot;
use tracing::debug;

use super::PkiError;

type Drawn = Result<KeyPair, rcgen::Error>;

struct Job {
    size: RsaKeySize,
    answer: oneshot::Sender<Drawn>,
}

/// Draws keys on its own threads, which end with its last clone.
#[derive(Clone)]
pub struct Mill {
    jobs: Sender<Job>,
    size: RsaKeySize,
}

impl Mill {
    /// Starts `threads` threads for keys of `bits`: 2048, 3072 or 4096.
    pub fn start(threads: usize, bits: usize) -> Result<Self, PkiError> {
        let size = match bits {
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
        let (jobs, waiting) = channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..threads.max(1) {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new()
                .name("key-mill".to_owned())
                .spawn(move || grind(&waiting))
                .map_err(|e| PkiError::Material(e.to_string()))?;
        }
        Ok(Self { jobs, size })
    }

    /// Draws `count` keys.
    pub async fn draw(&self, count: usize) -> Result<Vec<KeyPair>, PkiError> {
        let ended = || PkiError::Material("the threads that draw keys have ended".to_owned());
        let mut answers = Vec::with_capacity(count);
        for _ in 0..count {
            let (answer, drawn) = oneshot::channel();
            self.jobs.send(Job { size: self.size, answer }).map_err(|_| ended())?;
            answers.push(drawn);
        }
        let mut keys = Vec::with_capacity(count);
        for drawn in answers {
            keys.push(drawn.await.map_err(|_| ended())??);
        }
        Ok(keys)
    }
}

fn grind(waiting: &Mutex<Receiver<Job>>) {
    // On Linux niceness belongs to the thread, whatever POSIX says of processes. A third of an
    // ordinary thread's share: enough for the doors to go first, and too much to starve on a
    // machine that is busy with nested virtualisation.
    if let Err(error) = rustix::process::nice(5) {
        debug!(%error, "keys are drawn at ordinary priority");
    }
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { size, answer }) = job else { return };
        // Whoever asked may have been stopped meanwhile.
        if !answer.is_closed() {
            let _unheard = answer.send(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_differ_and_sizes_are_checked() {
        let mill = Mill::start(2, 2048).unwrap();
        let (one, two) = tokio::join!(mill.draw(1), mill.draw(2));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_eq!((one.len(), two.len()), (1, 2));
        assert_ne!(one[0].public_key_pem(), two[0].public_key_pem());
        assert!(Mill::start(1, 1024).is_err());
    }
}
