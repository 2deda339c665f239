//! The mark beside the state file: which commit was the last that somebody was told of.
//!
//! The database takes the commit before the last where the last one is damaged, as after a power
//! cut in the middle of it. Whether that one had been acknowledged only something outside the
//! file can tell. Written after each commit and never waited for: after a power cut the mark may
//! lie behind the state, and never before it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use tracing::warn;

/// Where the mark of a state is.
pub fn path_of(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push(".mark");
    PathBuf::from(name)
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// There is none, or it cannot be read.
    Nothing,
    /// It is empty, cut, changed, or another state's.
    Damaged,
    /// The commit that was told of.
    Told(u64),
}

/// What follows from a mark that says nothing.
pub const DAMAGED: &str = "damaged, or another state's: whether this state has lost what was \
                           acknowledged cannot be told this time";

pub struct Mark {
    instance: String,
    path: PathBuf,
    /// None where it cannot be opened.
    file: Option<File>,
    has_complained: AtomicBool,
}

impl Mark {
    /// The mark of a state by its name, and what it says.
    pub fn open(state: &Path, instance: &str) -> (Self, Said) {
        let path = path_of(state);
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let said = match std::fs::read(&path) {
            Ok(bytes) => {
                let text = std::str::from_utf8(&bytes).ok();
                text.and_then(|text| read(text, instance)).map_or(Said::Damaged, Said::Told)
            }
            Err(_) => Said::Nothing,
        };
        let file = opened.open(&path);
        if said == Said::Damaged {
            warn!(path = %path.display(), "the mark beside the state is {DAMAGED}");
        }
        let has_complained = AtomicBool::new(false);
        let mark = Self { instance: instance.to_owned(), path, file: None, has_complained };
        match file {
            Ok(file) => (Self { file: Some(file), ..mark }, said),
            Err(error) => {
                mark.complain(&error);
                (mark, said)
            }
        }
    }

    /// A commit is on disk.
    pub fn write(&self, commits: u64) {
        let Some(file) = &self.file else { return };
        if let Err(error) = file.write_all_at(line(&self.instance, commits).as_bytes(), 0) {
            self.complain(&error);
        }
    }

    fn complain(&self, error: &std::io::Error) {
        if !self.has_complained.swap(true, Ordering::Relaxed) {
            let path = self.path.display();
            warn!(%path, %error, "the mark of the state cannot be written: what is lost of the \
                                  state may not be noticed at the next start");
        }
    }
}

/// `instance commits check`, always as long.
fn line(instance: &str, commits: u64) -> String {
    let said = format!("{instance} {commits:020}");
    let check: String =
        digest(&SHA256, said.as_bytes()).as_ref()[..8].iter().map(|b| format!("{b:02x}")).collect();
    format!("{said} {check}\n")
}

fn read(text: &str, instance: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let (own, commits) = (words.next()?, words.next()?.parse().ok()?);
    (own == instance && line(own, commits) == text).then_some(commits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_believed_whole_and_of_its_own_state_only() {
        let good = line("a", 77);
        assert_eq!(read(&good, "a"), Some(77));
        assert_eq!(read(&good, "b"), None);
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert_eq!(read(&text, "a"), None, "{text}");
        }
        for odd in ["", "a", "a 77", "a 77 0", &good[..good.len() - 1]] {
            assert_eq!(read(odd, "a"), None, "{odd}");
        }
    }
}
