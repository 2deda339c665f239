//! The shapes of all kinds of records, frozen: bincode stores fields by position, so that a record
//! of another shape is read as something else, or not at all.
//!
//! `tests/state/shapes` has a sample of each kind and version: table, version, key and body. A
//! shape that changes needs a new version (see CONTRIBUTING.md); `MAGNUMD_BLESS=1` adds the lines of
//! new versions and never changes one that is there.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::Place;
use super::keeping::contents;
use super::whole::full;
use crate::base::secret::Sealed;
use crate::store::record;
use crate::store::record_kind::{self, Kind};

/// What lies around the body: version, revision, digest.
const HEAD: usize = 25;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/state/shapes")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// By table and version: key and body of one record. Sealed values differ each time they are made,
/// so that they are replaced.
async fn samples() -> BTreeMap<(String, u8), (String, String)> {
    let place = Place::new();
    drop(full(&place).await);
    let mut samples = BTreeMap::new();
    for (table, key, value) in contents(&place.path) {
        let Some(kind) = Kind::named(table) else { continue };
        let (mut record, _) = kind.decode_at(&key, &value).unwrap();
        for (_, sealed) in record.sealed() {
            *sealed = Sealed::from_bytes(vec![1, 2, 3]);
        }
        let encoded = record.encode().unwrap();
        let version = record::version(&encoded).unwrap();
        samples
            .entry((table.to_owned(), version))
            .or_insert_with(|| (hex(&key), hex(&encoded[HEAD..])));
    }
    samples
}

fn frozen() -> BTreeMap<(String, u8), (String, String)> {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let line = |line: &str| {
        let parts: Vec<&str> = line.split(' ').collect();
        let [table, version, key, body] = parts[..] else { panic!("no sample: {line}") };
        ((table.to_owned(), version.parse().unwrap()), (key.to_owned(), body.to_owned()))
    };
    text.lines().map(line).collect()
}

#[tokio::test]
async fn a_record_whose_shape_changes_gets_a_new_version() {
    let (samples, mut frozen) = (samples().await, frozen());
    for table in record_kind::KINDS.iter().map(|kind| kind.table) {
        assert!(samples.keys().any(|(known, _)| known == table), "no sample of {table}");
    }
    if std::env::var_os("MAGNUMD_BLESS").is_some() {
        for (name, sample) in &samples {
            frozen.entry(name.clone()).or_insert_with(|| sample.clone());
        }
        let mut text = String::new();
        for ((table, version), (key, body)) in &frozen {
            writeln!(text, "{table} {version} {key} {body}").unwrap();
        }
        std::fs::write(path(), text).unwrap();
    }
    for ((table, version), sample) in &samples {
        let known = frozen.get(&(table.clone(), *version));
        assert_eq!(
            known,
            Some(sample),
            "a {table} record of version {version} was otherwise when it was frozen: raise its \
             VERSION, and read the former shape"
        );
    }
}

#[test]
fn every_version_of_every_record_is_read() {
    let frozen = frozen();
    assert!(frozen.len() >= record_kind::KINDS.len());
    for ((table, version), (key, body)) in frozen {
        let kind = Kind::named(&table).unwrap();
        let mut encoded = vec![0; HEAD];
        encoded[0] = 0xd0 | version;
        encoded.extend(bytes(&body));
        record::stamp(kind.table, &mut encoded, 7);
        let read = kind.decode_at(&bytes(&key), &encoded);
        let (_, revision) = read.unwrap_or_else(|why| panic!("{table} {version}: {why}"));
        assert_eq!(revision, 7);
    }
}
