//! Records as a disk may give them back, for fuzzing by coverage.

use super::record::{self, Record};
use super::record_kind::KINDS;

/// A record of the kind that the first byte chooses.
pub fn record(data: &[u8]) {
    let Some((first, encoded)) = data.split_first() else { return };
    (KINDS[usize::from(*first) % KINDS.len()].reread)(encoded);
}

/// Whatever can be read can be written, and is read as the same again, unless it is too large.
pub(super) fn reread<R: Record>(encoded: &[u8]) {
    let Ok((found, _)) = record::decode::<R>(encoded) else { return };
    let (_key, _indexes, _needs) = (found.key(), found.indexes(), found.needs());
    let Ok(mut written) = record::encode(&found) else { return };
    record::stamp(R::TABLE, &mut written, 1);
    let (again, revision) = record::decode::<R>(&written).expect("what was written can be read");
    assert_eq!(revision, 1);
    let twice = record::encode(&again).expect("what was read can be written");
    assert_eq!(record::encode(&found).ok(), Some(twice), "{}", R::TABLE);
}
