//! Whole files, damaged: the state and a backup of it.
//!
//! A database is a megabyte, of which most bytes mean nothing. So the input is not the file but what
//! happens to one: each eight bytes of it are a place, and what is written there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use magnumd::base::clock::Clock;
use magnumd::base::secret::Sealer;
use magnumd::store::backup::Backup;
use magnumd::store::{Change, KeyringEntry, Store};
use tempfile::TempDir;

const KEY: [u8; 32] = [7; 32];

struct Whole {
    directory: TempDir,
    state: Vec<u8>,
    backup: Vec<u8>,
}

/// A small state and its backup, made once.
static WHOLE: LazyLock<Whole> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, copy) = (directory.path().join("whole"), directory.path().join("copy"));
    let sealer = Sealer::new(&KEY);
    let store = Store::open(&path, Sealer::new(&KEY)).expect("a new state");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for n in 0..20u8 {
        let name = format!("key-{n}");
        let private = sealer.seal(&KeyringEntry::owner(&name), &[n; 400]);
        let put = Change::new().put(&KeyringEntry { name, public: "pem".repeat(40), private });
        runtime.block_on(store.commit(put)).expect("a commit");
    }
    let mut out = fs::File::create(&copy).expect("a file");
    store.backup(Clock::real().now(), &mut out).expect("a backup");
    drop(store);
    let read = |path: &Path| fs::read(path).expect("a file that was written");
    let (state, backup) = (read(&path), read(&copy));
    Whole { directory, state, backup }
});

fn damaged(whole: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let (edits, rest) = data.as_chunks::<8>();
    for edit in edits {
        let at = u32::from_le_bytes([edit[0], edit[1], edit[2], edit[3]]) as usize % whole.len();
        match edit[4] % 4 {
            // A bit, a byte, a run of them, and the end of the file.
            0 => bytes[at] ^= 1 << (edit[5] % 8),
            1 => bytes[at] = edit[5],
            2 => {
                let end = bytes.len().min(at + usize::from(edit[6]));
                bytes.get_mut(at..end).into_iter().flatten().for_each(|byte| *byte = edit[5]);
            }
            _ => bytes.truncate(at),
        }
        if at >= bytes.len() {
            break;
        }
    }
    bytes.extend_from_slice(rest);
    bytes
}

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = WHOLE.directory.path().join(name);
    fs::write(&path, bytes).expect("a file");
    path
}

/// A state that was damaged: opened and verified, or refused.
pub fn state(data: &[u8]) {
    let path = written("state", &damaged(&WHOLE.state, data));
    if let Ok(store) = Store::open(&path, Sealer::new(&KEY)) {
        let _report = store.verify();
    }
    // The mark is of another state for the next one.
    let _gone = fs::remove_file(WHOLE.directory.path().join("state.mark"));
}

/// A backup that was damaged: what is taken for whole is the one that was made.
pub fn backup(data: &[u8]) {
    let bytes = damaged(&WHOLE.backup, data);
    let is_whole = bytes == WHOLE.backup;
    let path = written("backup", &bytes);
    let verified = Backup::open(&path).and_then(|backup| backup.verify(&Sealer::new(&KEY)));
    assert!(is_whole || verified.is_err(), "a damaged backup was taken for whole");
}
