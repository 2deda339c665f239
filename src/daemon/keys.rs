//! The keys of the daemon itself: the one that seals the state, and those it keeps sealed in it.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tracing::{info, warn};
use zeroize::Zeroizing;

use super::StartError;
use crate::base::clock::Timestamp;
use crate::base::id::Entropy;
use crate::base::secret::{Sealed, Sealer, Secret};
use crate::pki::enrolment::EnrolmentKey;
use crate::pki::{KeyPairPem, listener};
use crate::store::{Change, KeyringEntry, Store, StoreError, directory};

const ENROLMENT: &str = "enrolment";
const BOOTSTRAP_CA: &str = "bootstrap-ca";

/// The sealing key's file in the directory of the state.
pub const SEALING_KEY: &str = "sealing.key";

/// Reads a sealing key; makes none.
pub fn read_sealer(path: &Path) -> Result<Sealer, StartError> {
    let bytes = std::fs::read(path).map_err(|e| StartError::SealingKey {
        path: path.to_owned(),
        reason: format!("cannot be read: {e}"),
    })?;
    sealer_of(path, Zeroizing::new(bytes))
}

fn sealer_of(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Result<Sealer, StartError> {
    warn_if_readable(path);
    let key: &[u8; Sealer::KEY_BYTES] =
        bytes.as_slice().try_into().map_err(|_| StartError::SealingKey {
            path: path.to_owned(),
            reason: format!(
                "holds {} bytes, but a sealing key is exactly {}; make one with: \
                 head -c 32 /dev/urandom > FILE",
                bytes.len(),
                Sealer::KEY_BYTES
            ),
        })?;
    Ok(Sealer::new(key))
}

/// Reads the sealing key, or makes it when there is neither key nor state.
///
/// A state file without its key is worth nothing, so a missing key beside an existing state
/// is an error and never a reason to draw another one.
pub fn sealer(
    directory: &Path,
    state: &Path,
    configured: Option<&Path>,
    entropy: &Entropy,
) -> Result<Sealer, StartError> {
    let path = configured.map_or_else(|| directory.join(SEALING_KEY), Path::to_path_buf);
    let named = configured.map_or("", |_| "; storage.sealing_key_file names it");
    match std::fs::read(&path) {
        Ok(bytes) => {
            if !state.exists() {
                // It may have been prepared for a first start, so this is no error.
                warn!(
                    key = %path.display(), state = %state.display(),
                    "there is a sealing key but no state, so magnumd begins with nothing; if there \
                     was a state, stop magnumd and put a backup in its place: \
                     magnumd restore FILE --into DIR --force"
                );
            }
            sealer_of(&path, Zeroizing::new(bytes))
        }
        Err(e) if e.kind() == ErrorKind::NotFound && configured.is_none() && !state.exists() => {
            let key: Zeroizing<[u8; Sealer::KEY_BYTES]> = Zeroizing::new(entropy.bytes());
            write_new(&path, &key[..])
                .map_err(|e| StartError::Directory { path: path.clone(), reason: e.to_string() })?;
            info!(path = %path.display(), "sealing key made; keep a copy elsewhere");
            Ok(Sealer::new(&key))
        }
        Err(e) if e.kind() == ErrorKind::NotFound && state.exists() => {
            Err(StartError::SealingKey {
                path,
                reason: format!(
                    "is missing, but {} was sealed with it; restore the key, or move the state \
                     aside to begin anew{named}",
                    state.display()
                ),
            })
        }
        Err(e) => {
            let reason = format!("cannot be read: {e}{named}");
            Err(StartError::SealingKey { path, reason })
        }
    }
}

/// Writes a file that only its owner may read, and the directory entry, to the disk.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match path.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

fn warn_if_readable(path: &Path) {
    let mode = std::fs::metadata(path).map(|m| m.permissions().mode()).unwrap_or_default();
    if mode & 0o077 != 0 {
        warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777),
              "others can read the sealing key; chmod 600 it");
    }
}

/// Makes the state's directory, for its owner alone, if it is not there; it must be ours to
/// write to.
pub fn make_directory(path: &Path) -> Result<PathBuf, StartError> {
    let refused = |reason: std::io::Error| StartError::Directory {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    directory::make(path).map_err(refused)?;
    if let Some(told) = directory::exposure(path) {
        warn!("{told}");
    }
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|e| refused(e.into()))?;
    Ok(path.to_owned())
}

/// The key that makes enrolment tokens ours; drawn at the first start.
pub async fn enrolment(store: &Store, entropy: &Entropy) -> Result<EnrolmentKey, StartError> {
    let (_, key) = kept(store, ENROLMENT, || {
        let drawn: Zeroizing<[u8; EnrolmentKey::BYTES]> = Zeroizing::new(entropy.bytes());
        Ok((String::new(), drawn.to_vec()))
    })
    .await?;
    let key: &[u8; EnrolmentKey::BYTES] = key.expose().as_slice().try_into().map_err(|_| {
        StartError::Keyring { name: ENROLMENT, reason: "has the wrong length".to_owned() }
    })?;
    Ok(EnrolmentKey::new(key))
}

/// The CA that nodes pin; drawn at the first start.
pub async fn bootstrap_authority(
    store: &Store,
    now: Timestamp,
    entropy: &Entropy,
) -> Result<KeyPairPem, StartError> {
    let wrong = |e: &dyn std::fmt::Display| StartError::Keyring {
        name: BOOTSTRAP_CA,
        reason: e.to_string(),
    };
    let (pem, key) = kept(store, BOOTSTRAP_CA, || {
        let made = listener::authority(now, entropy).map_err(|e| wrong(&e))?;
        Ok((made.pem, made.key.expose().as_bytes().to_vec()))
    })
    .await?;
    let key = String::from_utf8(key.expose().clone()).map_err(|e| wrong(&e.utf8_error()))?;
    Ok(KeyPairPem { pem, key: Secret::new(key) })
}

/// An entry of the keyring: its public and its private part, made when it is not there.
async fn kept(
    store: &Store,
    name: &'static str,
    make: impl FnOnce() -> Result<(String, Vec<u8>), StartError>,
) -> Result<(String, Secret<Vec<u8>>), StartError> {
    let owner = KeyringEntry::owner(name);
    let wrong = |e: &dyn std::fmt::Display| StartError::Keyring { name, reason: e.to_string() };
    let open = |sealed: &Sealed| {
        let opened = store.sealer().open(&owner, sealed).map_err(|e| wrong(&e))?;
        Ok::<_, StartError>(Secret::new(opened.to_vec()))
    };
    let read = |store: &Store| -> Result<_, StoreError> { store.read(|view| view.keyring(name)) };
    if let Some(entry) = read(store)? {
        return Ok((entry.public.clone(), open(&entry.private)?));
    }
    let (public, private) = make()?;
    let private = Secret::new(private);
    let sealed = store.sealer().seal(&owner, private.expose());
    let entry = KeyringEntry { name: name.to_owned(), public: public.clone(), private: sealed };
    store.commit(Change::new().expect_absent(&entry).put(&entry)).await?;
    Ok((public, private))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_never_instead_of_a_lost_one() {
        let place = tempfile::tempdir().unwrap();
        let (directory, state) = (place.path(), place.path().join("magnumd.redb"));
        let entropy = Entropy::new();
        let sealed = sealer(directory, &state, None, &entropy).unwrap().seal("x", b"y");
        let key = directory.join("sealing.key");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let again = sealer(directory, &state, None, &entropy).unwrap();
        assert_eq!(&*again.open("x", &sealed).unwrap(), b"y");
        std::fs::write(&state, b"state").unwrap();
        std::fs::remove_file(&key).unwrap();
        let lost = sealer(directory, &state, None, &entropy).unwrap_err().to_string();
        assert!(lost.contains("restore the key"), "{lost}");
        assert!(!key.exists(), "no other key was made");
        std::fs::write(&key, b"short").unwrap();
        let short = sealer(directory, &state, None, &entropy).unwrap_err().to_string();
        assert!(short.contains("holds 5 bytes"), "{short}");
    }
}
