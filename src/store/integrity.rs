//! The file's own checksums, gone through while others read it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{Database, RepairSession, StorageBackend};

use super::damage::said;

/// Little of the file is looked at twice.
const CACHE: usize = 16 << 20;

/// Why pages of a file are not as they were written, if they are not. Nobody may write meanwhile.
pub fn check(path: &Path) -> Result<Option<String>> {
    let fell_back = FellBack::default();
    let mut builder = Database::builder();
    builder
        .set_cache_size(CACHE)
        .set_check_integrity_on_open(true)
        .set_repair_callback(fell_back.observer());
    let overlay = Overlay::over(File::open(path)?)?;
    let opened = catch_unwind(AssertUnwindSafe(|| builder.create_with_backend(overlay).map(drop)));
    Ok(match opened {
        Ok(Ok(())) if fell_back.has_happened() => {
            Some("pages of the last commit do not have their checksums".to_owned())
        }
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(said(&*panic)),
    })
}

/// Whether the database took the commit before the last because the last one was damaged.
#[derive(Clone, Default)]
pub struct FellBack(Arc<AtomicBool>);

impl FellBack {
    /// What the database tells of its repairs. Each open with a check reports 0.0, 0.6 and 0.9;
    /// 0.3 only where the last commit was found damaged.
    pub fn observer(&self) -> impl Fn(&mut RepairSession) + 'static {
        let happened = Arc::clone(&self.0);
        move |session: &mut RepairSession| {
            if (0.2..0.5).contains(&session.progress()) {
                happened.store(true, Ordering::Relaxed);
            }
        }
    }

    pub fn has_happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

const BLOCK: u64 = 4096;

/// A file that is only read: what is written over it stays in memory, in whole blocks.
#[derive(Debug)]
struct Overlay {
    file: File,
    /// Of the file, behind which there is nothing but what was written here.
    end: u64,
    length: AtomicU64,
    written: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

impl Overlay {
    fn over(file: File) -> Result<Self> {
        let end = file.metadata()?.len();
        Ok(Self { file, end, length: AtomicU64::new(end), written: Mutex::default() })
    }

    /// A block of the file; zeros behind its end.
    fn block(&self, number: u64) -> Result<Box<[u8]>> {
        let mut block = vec![0; BLOCK as usize].into_boxed_slice();
        let start = number * BLOCK;
        let there = usize::try_from(self.end.saturating_sub(start).min(BLOCK)).unwrap_or(0);
        self.file.read_exact_at(&mut block[..there], start)?;
        Ok(block)
    }

    fn check_range(&self, offset: u64, length: usize) -> Result<()> {
        let end = offset.checked_add(length as u64);
        match end.is_some_and(|end| end <= self.length.load(Ordering::Relaxed)) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::InvalidInput, "behind the end of the file")),
        }
    }
}

/// Shows `each` the blocks of a range: number, place in the block, place in the range, length.
fn blocks(
    offset: u64,
    length: usize,
    mut each: impl FnMut(u64, usize, usize, usize) -> Result<()>,
) -> Result<()> {
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let within = usize::try_from(at % BLOCK).unwrap_or(0);
        let take = (BLOCK as usize - within).min(length - done);
        each(at / BLOCK, within, done, take)?;
        done += take;
    }
    Ok(())
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64> {
        Ok(self.length.load(Ordering::Relaxed))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.check_range(offset, out.len())?;
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        blocks(offset, out.len(), |number, within, done, take| {
            match written.get(&number) {
                Some(block) => {
                    out[done..done + take].copy_from_slice(&block[within..within + take])
                }
                None => out[done..done + take]
                    .copy_from_slice(&self.block(number)?[within..within + take]),
            }
            Ok(())
        })?;
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<()> {
        self.length.store(length, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.check_range(offset, data.len())?;
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        blocks(offset, data.len(), |number, within, done, take| {
            let block = match written.entry(number) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(place) => place.insert(self.block(number)?),
            };
            block[within..within + take].copy_from_slice(&data[done..done + take]);
            Ok(())
        })?;
        Ok(())
    }
}
