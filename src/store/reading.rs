//! How a view reads: by key, by index, and through whole tables. Every look at a page is under
//! guard, for one that was damaged makes the database panic.

use redb::AccessGuard;

use super::CodecError;
use super::record::{self, Record};
use super::record_kind::KINDS;
use super::table::{self, Key};
use super::view::{Page, Reads, Stored, View};
use crate::base::id::drawn_at;
use crate::model::Sequence;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;

/// An open table.
pub(super) type Open = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

impl View<'_> {
    /// Reads every record, and for each index entry the record it leads to.
    pub(super) fn look_over(&self) -> Reads<()> {
        for kind in KINDS {
            let open = self.open(kind.table)?;
            self.within(&open, &Key::new(), |key, value| {
                if let Err(error) = kind.decode_at(key, value) {
                    self.damage.record(kind.table, key, &error);
                }
                Ok(())
            })?;
        }
        for name in [table::CLUSTER_BY_SEQUENCE, table::CLUSTER_BY_PROJECT, table::CLUSTER_BY_NAME]
        {
            self.page::<Cluster>(name, &Key::new(), Page::ALL)?;
        }
        for name in
            [table::TEMPLATE_BY_SEQUENCE, table::TEMPLATE_BY_PROJECT, table::TEMPLATE_BY_NAME]
        {
            self.page::<ClusterTemplate>(name, &Key::new(), Page::ALL)?;
        }
        Ok(())
    }

    pub(super) fn get<R: Record>(&self, key: &Key) -> Reads<Option<Stored<R>>> {
        self.find(&self.open(R::TABLE)?, &key.0)
    }

    pub(super) fn find<R: Record>(&self, open: &Open, key: &[u8]) -> Reads<Option<Stored<R>>> {
        let found = self.damage.guarded(|| open.get(key))?;
        let Some(value) = &found else { return Ok(None) };
        Ok(Some(self.stored(key, self.bytes(value)?)?))
    }

    /// None too for a record that cannot be read.
    pub(super) fn find_readable<R: Record>(
        &self,
        open: &Open,
        key: &[u8],
    ) -> Reads<Option<Stored<R>>> {
        let found = self.damage.guarded(|| open.get(key))?;
        let Some(value) = &found else { return Ok(None) };
        Ok(self.readable(key, self.bytes(value)?))
    }

    /// The record that an index entry leads to, if it can be read. One that does not ask for the
    /// entry is another's: the entry is damaged.
    pub(super) fn led_to<R: Record>(
        &self,
        open: &Open,
        index: &'static str,
        entry: &[u8],
    ) -> Reads<Option<Stored<R>>> {
        let key = end_of_entry(entry);
        let found = self.damage.guarded(|| open.get(key))?;
        let Some(value) = found else {
            self.damage.record(index, entry, &"it leads to no record");
            return Ok(None);
        };
        let Some(found) = self.readable::<R>(key, self.bytes(&value)?) else { return Ok(None) };
        let asks = found.record.indexes().iter().any(|(i, k)| *i == index && k.0 == entry);
        if !asks {
            self.damage.record(index, entry, &"it leads to a record that does not ask for it");
        }
        Ok(asks.then_some(found))
    }

    /// Records in the order of `keys`; a key without a record would be a broken index.
    pub(super) fn get_all<R: Record>(&self, keys: Vec<Key>) -> Reads<Vec<Stored<R>>> {
        let open = self.open(R::TABLE)?;
        let found = keys.into_iter().map(|key| self.find(&open, &key.0));
        found.filter_map(Result::transpose).collect()
    }

    /// All below a prefix, or an error.
    pub(super) fn all<R: Record>(&self, prefix: &Key) -> Reads<Vec<Stored<R>>> {
        let mut found = Vec::new();
        self.scan(R::TABLE, prefix, |key, value| {
            found.push(self.stored(key, value)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// All of a table that can be read.
    pub(super) fn every<R: Record>(&self) -> Reads<Vec<Stored<R>>> {
        let mut found = Vec::new();
        self.scan(R::TABLE, &Key::new(), |key, value| {
            found.extend(self.readable(key, value));
            Ok(())
        })?;
        Ok(found)
    }

    /// Shows `look` what can be read below a prefix.
    pub(super) fn each<R: Record>(&self, prefix: &Key, mut look: impl FnMut(&R)) -> Reads<()> {
        self.scan(R::TABLE, prefix, |key, value| {
            if let Some(found) = self.readable::<R>(key, value) {
                look(&found.record);
            }
            Ok(())
        })
    }

    /// What can be read of the records at the ends of index entries that are prefix, sequence
    /// and UUID. A record that cannot takes no place of the page.
    pub(super) fn page<R: Record>(
        &self,
        index: &'static str,
        prefix: &Key,
        page: Page,
    ) -> Reads<Vec<Stored<R>>> {
        self.page_of(index, prefix, page, |_| true)
    }

    /// The same of those that are `wanted`; the others take no place either.
    pub(super) fn page_of<R: Record>(
        &self,
        index: &'static str,
        prefix: &Key,
        page: Page,
        wanted: impl Fn(&R) -> bool,
    ) -> Reads<Vec<Stored<R>>> {
        let open = self.open(R::TABLE)?;
        let (mut found, mut bytes) = (Vec::new(), 0_usize);
        self.walk(index, prefix, page, |key| {
            if let Some(one) = self.led_to::<R>(&open, index, key)?.filter(|one| wanted(one)) {
                bytes = bytes.saturating_add(one.size);
                found.push(one);
            }
            Ok(found.len() < page.limit && bytes < page.bytes)
        })?;
        Ok(found)
    }

    /// What can be read of the records with these ids, in that order, until they are so many
    /// bytes.
    pub(super) fn by_id<R: Record>(
        &self,
        ids: impl Iterator<Item = uuid::Uuid>,
        most: usize,
    ) -> Reads<Vec<Stored<R>>> {
        self.by_key(ids.map(uuid::Uuid::into_bytes), most)
    }

    /// The same of records with these keys.
    pub(super) fn by_key<R: Record>(
        &self,
        keys: impl Iterator<Item = impl AsRef<[u8]>>,
        most: usize,
    ) -> Reads<Vec<Stored<R>>> {
        let open = self.open(R::TABLE)?;
        let (mut found, mut bytes) = (Vec::new(), 0_usize);
        for key in keys {
            let Some(one) = self.find_readable::<R>(&open, key.as_ref())? else { continue };
            bytes = bytes.saturating_add(one.size);
            found.push(one);
            if bytes >= most {
                break;
            }
        }
        Ok(found)
    }

    pub(super) fn keys(
        &self,
        index: &'static str,
        prefix: &Key,
        page: Page,
    ) -> Reads<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        self.walk(index, prefix, page, |key| {
            keys.push(key.to_vec());
            Ok(keys.len() < page.limit)
        })?;
        Ok(keys)
    }

    /// The last entry before those that were drawn at this millisecond or later (earlier, when
    /// descending), of an index whose entries are prefix, sequence and UUID. Whoever was made in
    /// the very millisecond comes again rather than never; ids that tell no time are passed over.
    pub(super) fn place(
        &self,
        index: &'static str,
        prefix: &Key,
        drawn: u64,
        descending: bool,
    ) -> Reads<Option<Sequence>> {
        let mut place = None;
        self.walk(index, prefix, Page { descending, ..Page::ALL }, |entry| {
            let Some((&sequence, &id)) = entry.split_last_chunk::<16>().and_then(|(rest, id)| {
                rest.split_last_chunk::<8>().map(|(_, sequence)| (sequence, id))
            }) else {
                return Ok(true);
            };
            let Some(at) = drawn_at(uuid::Uuid::from_bytes(id)) else { return Ok(true) };
            let is_before = if descending { at > drawn } else { at < drawn };
            if is_before {
                place = Some(Sequence(u64::from_be_bytes(sequence)));
            }
            Ok(is_before)
        })?;
        Ok(place)
    }

    /// Shows `each` the entries of a page of an index, until it says no.
    pub(super) fn walk(
        &self,
        index: &'static str,
        prefix: &Key,
        page: Page,
        mut each: impl FnMut(&[u8]) -> Reads<bool>,
    ) -> Reads<()> {
        if page.limit == 0 {
            return Ok(());
        }
        let first = match page.after {
            // The entry itself is the marker plus a UUID, so the next number starts behind it.
            Some(Sequence(n)) if !page.descending => prefix.clone().number(n.saturating_add(1)),
            _ => prefix.clone(),
        };
        let last = match page.after {
            Some(Sequence(n)) if page.descending => prefix.clone().number(n),
            _ => end_of(prefix),
        };
        if first >= last {
            return Ok(());
        }
        let open = self.open(index)?;
        let mut range =
            self.damage.guarded(|| open.range(first.0.as_slice()..last.0.as_slice()))?;
        let mut next = || match page.descending {
            true => range.next_back().transpose(),
            false => range.next().transpose(),
        };
        while let Some((key, _)) = self.damage.guarded(&mut next)? {
            if !each(self.bytes(&key)?)? {
                break;
            }
        }
        Ok(())
    }

    /// Shows `each` the entries of a table whose keys begin with `prefix`.
    pub(super) fn scan(
        &self,
        table: &'static str,
        prefix: &Key,
        each: impl FnMut(&[u8], &[u8]) -> Reads<()>,
    ) -> Reads<()> {
        self.within(&self.open(table)?, prefix, each)
    }

    pub(super) fn within(
        &self,
        open: &Open,
        prefix: &Key,
        mut each: impl FnMut(&[u8], &[u8]) -> Reads<()>,
    ) -> Reads<()> {
        let end = end_of(prefix);
        let mut range =
            self.damage.guarded(|| open.range(prefix.0.as_slice()..end.0.as_slice()))?;
        while let Some((key, value)) = self.damage.guarded(|| range.next().transpose())? {
            each(self.bytes(&key)?, self.bytes(&value)?)?;
        }
        Ok(())
    }

    pub(super) fn open(&self, name: &'static str) -> Reads<Open> {
        self.damage.guarded(|| self.transaction.open_table(table::definition(name)))
    }

    /// What the database has found; it says how long that is only here.
    fn bytes<'g>(&self, found: &'g AccessGuard<'_, &'static [u8]>) -> Reads<&'g [u8]> {
        self.damage.guarded(|| Ok::<_, redb::Error>(found.value()))
    }

    /// The record of a key; remembered if it cannot be read.
    pub(super) fn stored<R: Record>(
        &self,
        key: &[u8],
        encoded: &[u8],
    ) -> Result<Stored<R>, CodecError> {
        match record::decode_at(key, encoded) {
            Ok((record, revision)) => Ok(Stored { record, revision, size: encoded.len() }),
            Err(error) => {
                self.damage.record(R::TABLE, key, &error);
                Err(error)
            }
        }
    }

    pub(super) fn readable<R: Record>(&self, key: &[u8], encoded: &[u8]) -> Option<Stored<R>> {
        self.stored(key, encoded).ok()
    }
}

/// What follows the cluster's UUID in an index entry.
pub(super) fn behind_cluster(entry: &[u8]) -> Key {
    Key(entry.get(16..).unwrap_or_default().to_vec())
}

/// The UUID at the end of an index entry.
pub(super) fn end_of_entry(entry: &[u8]) -> &[u8] {
    entry.last_chunk::<16>().map_or(entry, |key| key.as_slice())
}

/// A key behind every key that begins with `prefix`: no part of a key is 0xff × 17.
fn end_of(prefix: &Key) -> Key {
    let mut end = prefix.0.clone();
    end.extend([0xff; 17]);
    Key(end)
}
