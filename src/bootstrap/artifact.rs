//! Files that the operator hands to nodes, each known by its SHA-256.
//!
//! A digest is computed when a file is first seen, and again while it is sent: what does not
//! match breaks off before its last bytes, so that no node takes it for whole.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use bytes::Bytes;
use http_body_util::Either;
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::http::Fault;
use crate::base::http::server::{Response, empty};
use crate::base::http::stream::{Feed, fed};

const CHUNK: usize = 256 << 10;
/// Chunks on their way to one node.
const WAITING: usize = 2;
/// How many are sent at once; further nodes come again.
const SENDING: usize = 64;
/// A node that takes nothing for so long has gone.
const STALL: Duration = Duration::from_secs(60);
/// Nodes that ask for what is not there must not keep the disk busy.
const PAUSE: Duration = Duration::from_secs(10);

/// The files of one directory. Clones share what is known of them.
#[derive(Clone)]
pub struct Artifacts {
    folder: Option<PathBuf>,
    shelf: Arc<Mutex<Shelf>>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Shelf {
    files: HashMap<PathBuf, Known>,
    is_being_read: bool,
    read_at: Option<Instant>,
}

#[derive(Clone, PartialEq, Eq)]
struct Known {
    digest: String,
    mark: Mark,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    bytes: u64,
    inode: u64,
    modified: (i64, i64),
}

/// A digest as a path spells it.
pub fn digest(text: &str) -> Result<&str, Fault> {
    let fits = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    fits.then_some(text).ok_or_else(|| {
        Fault::bad("An artifact is asked for by its SHA-256: 64 lower-case hex digits.")
    })
}

impl Artifacts {
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, shelf: Arc::default(), places: Arc::new(Semaphore::new(SENDING)) }
    }

    /// Looks at the directory and reads every file that is new or has changed.
    pub async fn read(&self) {
        let Some(folder) = self.folder.clone() else { return };
        {
            let mut shelf = self.shelf();
            if shelf.is_being_read {
                return;
            }
            shelf.is_being_read = true;
        }
        let known = self.shelf().files.clone();
        let task = tokio::task::spawn_blocking(move || look(&folder, &known));
        let found = task.await.unwrap_or_default();
        let mut shelf = self.shelf();
        shelf.files = found;
        shelf.is_being_read = false;
        shelf.read_at = Some(Instant::now());
    }

    /// The file with this digest, as it is read.
    pub async fn answer(&self, digest: &str) -> Result<Response, Fault> {
        let Some((path, mark)) = self.find(digest) else { return Err(self.missing(digest)) };
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| {
            Fault::later("Too many artifacts are being sent; ask again in a moment.")
        })?;
        let opened = tokio::task::spawn_blocking(move || {
            let file = File::open(&path)?;
            let is_same = Mark::of(&file.metadata()?) == mark;
            Ok::<_, std::io::Error>(is_same.then_some(file))
        });
        let file = match opened.await {
            Ok(Ok(Some(file))) => file,
            // Replaced since it was read: it is read again, and then is another.
            Ok(Ok(None) | Err(_)) => return Err(self.missing(digest)),
            Err(error) => return Err(Fault::ours(&error)),
        };
        let (feed, body) = fed(WAITING);
        let sending = Sending { file, left: mark.bytes, digest: digest.to_owned(), _place: place };
        tokio::spawn(sending.run(feed));
        let mut answer = empty(StatusCode::OK);
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(mark.bytes));
        *answer.body_mut() = Either::Right(body);
        Ok(answer)
    }

    fn find(&self, digest: &str) -> Option<(PathBuf, Mark)> {
        let shelf = self.shelf();
        let found = shelf.files.iter().find(|(_, known)| known.digest == digest);
        found.map(|(path, known)| (path.clone(), known.mark))
    }

    /// Says that there is no such file, unless it may have come since the last look.
    fn missing(&self, digest: &str) -> Fault {
        let shelf = self.shelf();
        let is_fresh = shelf.read_at.is_some_and(|at| at.elapsed() < PAUSE);
        if self.folder.is_none() || is_fresh && !shelf.is_being_read {
            return Fault::new(
                StatusCode::NOT_FOUND,
                format!("The operator offers no artifact {digest}."),
            );
        }
        if !shelf.is_being_read {
            let this = self.clone();
            tokio::spawn(async move { this.read().await });
        }
        Fault::later("The artifacts are being read; ask again in a moment.")
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Nothing panics while holding it; if something did, what is known is still true.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mark {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// All files of a directory, but for hidden ones, with their digests.
fn look(folder: &Path, known: &HashMap<PathBuf, Known>) -> HashMap<PathBuf, Known> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            warn!(folder = %folder.display(), %error, "artifacts cannot be listed");
            return HashMap::new();
        }
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_shown = |path: &PathBuf| {
        path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))
    };
    let mut found = HashMap::new();
    for path in paths.filter(is_shown) {
        match recognise(&path, known.get(&path)) {
            Ok(Some(file)) => {
                if known.get(&path) != Some(&file) {
                    let (digest, bytes) = (&file.digest, file.mark.bytes);
                    info!(path = %path.display(), digest, bytes, "artifact offered");
                }
                found.insert(path, file);
            }
            Ok(None) => {}
            Err(error) => warn!(path = %path.display(), %error, "artifact cannot be read"),
        }
    }
    found
}

/// None for what is not a file.
fn recognise(path: &Path, known: Option<&Known>) -> std::io::Result<Option<Known>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let mark = Mark::of(&metadata);
    if let Some(known) = known.filter(|known| known.mark == mark) {
        return Ok(Some(known.clone()));
    }
    let (mut file, mut context) = (File::open(path)?, Context::new(&SHA256));
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            some => context.update(&chunk[..some]),
        }
    }
    if Mark::of(&file.metadata()?) != mark {
        return Err(std::io::Error::other("it changed while it was read"));
    }
    Ok(Some(Known { digest: hex(&context.finish()), mark }))
}

/// One file on its way to one node.
struct Sending {
    file: File,
    left: u64,
    digest: String,
    _place: OwnedSemaphorePermit,
}

impl Sending {
    async fn run(self, feed: Feed) {
        let digest = self.digest.clone();
        if let Err(error) = self.send(&feed).await {
            warn!(digest, %error, "an artifact broke off");
            // Without room for it the body ends too early for its length, which says the same.
            let _no_room = feed.try_send(Err(error));
        }
    }

    async fn send(self, feed: &Feed) -> std::io::Result<()> {
        let Self { mut file, mut left, digest, _place } = self;
        let mut context = Context::new(&SHA256);
        loop {
            let wanted = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let read = tokio::task::spawn_blocking(move || {
                let mut chunk = vec![0; wanted];
                file.read_exact(&mut chunk)?;
                context.update(&chunk);
                Ok::<_, std::io::Error>((file, context, chunk))
            });
            let chunk;
            (file, context, chunk) = read.await.map_err(std::io::Error::other)??;
            left -= wanted as u64;
            if left == 0 && hex(&context.clone().finish()) != digest {
                return Err(std::io::Error::other("the file is not what its digest says"));
            }
            match timeout(STALL, feed.send(Ok(Bytes::from(chunk)))).await {
                Ok(Ok(())) if left > 0 => {}
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) => {
                    debug!(digest, "the node that fetched an artifact has gone");
                    return Ok(());
                }
                Err(_) => return Err(std::io::ErrorKind::TimedOut.into()),
            }
        }
    }
}

fn hex(digest: &Digest) -> String {
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
