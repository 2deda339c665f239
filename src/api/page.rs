//! The query of a request, and lists cut into pages.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use uuid::Uuid;

use super::bookmark::{Item, Shelf};
use super::coerce;
use super::column::{Column, Columns};
use super::error::{ApiError, Outcome};
use crate::base::id::drawn_at;
use crate::model::Sequence;
use crate::store::Page;

/// The arguments behind the question mark.
#[derive(Clone, Debug, Default)]
pub struct Query<'q> {
    pairs: Vec<(Cow<'q, str>, Cow<'q, str>)>,
}

impl<'q> Query<'q> {
    pub fn parse(text: Option<&'q str>) -> Self {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self { pairs: pairs.collect() }
    }

    /// Refuses arguments that the resource does not know.
    pub fn only(&self, known: &[&str]) -> Outcome<()> {
        match self.pairs.iter().find(|(name, _)| !known.contains(&name.as_ref())) {
            Some((name, _)) => {
                let name: String = name.chars().take(100).collect();
                Err(ApiError::invalid(format!("Unknown argument: \"{name}\"")))
            }
            None => Ok(()),
        }
    }

    /// An argument that is true or false, in any of the usual words.
    pub fn flag(&self, name: &str) -> Outcome<Option<bool>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match coerce::truth(text) {
            Some(flag) => Ok(Some(flag)),
            None => Err(ApiError::field(name, text, "Value should be true or false.")),
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_ref())
    }
}

fn decode(text: &str) -> Cow<'_, str> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned());
    }
    percent_decode_str(text).decode_utf8_lossy()
}

/// An argument as it stands in an address.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The arguments that every list takes.
pub const LIST_ARGUMENTS: [&str; 4] = ["marker", "limit", "sort_key", "sort_dir"];

/// A page ends early, with the address of the next one, once the records on it are so many bytes:
/// a hundred templates with all the labels they may have are several pages, a thousand of the usual
/// size are one, as clients expect that follow no addresses.
pub const PAGE_BYTES: usize = 4 << 20;

/// What part of a list is asked for, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    pub limit: usize,
    pub marker: Option<Uuid>,
    sort_key: &'static str,
    pub descending: bool,
}

/// The order of making, which the store's own indexes have.
const BY_MAKING: &str = "id";

/// Where a record stands in a sorted list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    column: Column<'static>,
    /// Equal ones stay in order of making.
    pub made: Sequence,
}

impl Place {
    pub fn new(column: Column<'_>, made: Sequence) -> Self {
        Self { column: column.into_owned(), made }
    }

    /// How long the text is that it is sorted by.
    pub fn bytes(&self) -> usize {
        match &self.column {
            Column::Text(text) => text.len(),
            Column::Null | Column::Flag(_) | Column::Number(_) => 0,
        }
    }
}

/// A record's place in a sorted list, and how to find it again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked<K> {
    place: Place,
    key: K,
}

/// Behind what a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marker {
    At(Place),
    Departed(Departed),
}

/// A record that is no more, by what its id tells of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departed {
    id: Uuid,
    /// Milliseconds since 1970.
    pub drawn: u64,
}

/// How much of a page was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// So many, for there were no more or the page takes no more.
    Whole(usize),
    /// It has ended early, because of the size of what is on it.
    Cut,
}

impl Shown {
    /// Of a page of this many records and bytes.
    pub const fn of(count: usize, bytes: usize) -> Self {
        if bytes >= PAGE_BYTES { Self::Cut } else { Self::Whole(count) }
    }
}

impl Listing {
    /// Reads the arguments of a list of `R`.
    pub fn read<R: Columns>(query: &Query<'_>, most: usize) -> Outcome<Self> {
        Self::read_as::<R>(query, most, false)
    }

    /// Reads the arguments of a list whose items have numbers in place of uuids.
    pub fn numbered<R: Columns>(query: &Query<'_>, most: usize) -> Outcome<(Self, Option<u64>)> {
        let marker = match query.get("marker") {
            None => None,
            Some(text) => Some(text.trim().parse().map_err(|_| {
                let why = "Expected the id of the last item of the page before.";
                ApiError::field("marker", text, why)
            })?),
        };
        Ok((Self::read_as::<R>(query, most, true)?, marker))
    }

    fn read_as<R: Columns>(query: &Query<'_>, most: usize, is_numbered: bool) -> Outcome<Self> {
        let limit = match query.get("limit") {
            None => most,
            Some(text) => match text.trim().parse::<i64>() {
                Ok(n) if n <= 0 => return Err(ApiError::invalid("Limit must be positive")),
                Ok(n) => usize::try_from(n).unwrap_or(most).min(most),
                Err(_) => {
                    let why = "Value should be a whole number, 1 or more.";
                    return Err(ApiError::field("limit", text, why));
                }
            },
        };
        let marker = match query.get("marker").filter(|_| !is_numbered) {
            None => None,
            Some(text) => Some(Uuid::parse_str(text).map_err(|_| {
                let why = "Expected the uuid of the last item of the page before.";
                ApiError::field("marker", text, why)
            })?),
        };
        let descending = match query.get("sort_dir") {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(other) => {
                let other: String = other.chars().take(100).collect();
                return Err(ApiError::invalid(format!(
                    "Invalid sort direction: {other}. Acceptable values are 'asc' or 'desc'"
                )));
            }
        };
        let sort_key = match query.get("sort_key") {
            None | Some("id") => BY_MAKING,
            Some(name) => {
                R::COLUMNS.iter().map(|(known, _)| *known).find(|known| *known == name).ok_or_else(
                    || {
                        let name: String = name.chars().take(100).collect();
                        ApiError::invalid(format!(
                            "The sort_key value \"{name}\" is an invalid field for sorting"
                        ))
                    },
                )?
            }
        };
        Ok(Self { limit, marker, sort_key, descending })
    }

    /// Whether the store's own order is asked for, so that a page costs no more than itself.
    pub fn is_by_making(&self) -> bool {
        self.sort_key == BY_MAKING
    }

    /// What part of the store's own order is asked for.
    pub fn page(&self, after: Option<Sequence>) -> Page {
        Page { after, limit: self.limit, bytes: PAGE_BYTES, descending: self.descending }
    }

    /// Where the record stands in the order that was asked for.
    pub fn place<R: Columns>(&self, record: &R, made: Sequence) -> Place {
        Place::new(record.column(self.sort_key).unwrap_or(Column::Null), made)
    }

    /// The record as one of those to be sorted.
    pub fn rank<R: Columns, K>(&self, record: &R, made: Sequence, key: K) -> Ranked<K> {
        Ranked { place: self.place(record, made), key }
    }

    /// Where the page behind a record begins; `here` looks for it. None when nobody knows.
    ///
    /// The place at which a page ended counts more than the one where the record is now: a reader
    /// goes on from where it was. A record that was given another name between two pages, or a
    /// cluster that is listed by its status while it is built, would take the reader along, past
    /// all that stands between its two places. (Upstream loses these.) What moved backwards would
    /// show what the reader has seen. Once the bookmark is gone the present place counts.
    pub fn behind(
        &self,
        item: impl Into<Item>,
        shelf: &Shelf,
        here: impl FnOnce() -> Outcome<Option<Place>>,
    ) -> Outcome<Option<Marker>> {
        let item = item.into();
        if let Some(kept) = shelf.place(self.sort_key, item) {
            return Ok(Some(Marker::At(kept)));
        }
        Ok(match (here()?, item) {
            (Some(place), _) => Some(Marker::At(place)),
            (None, Item::Uuid(id)) => self.departed(id).map(Marker::Departed),
            (None, Item::Number(_)) => None,
        })
    }

    /// The place of a record that is not there (any more), and of which no bookmark is kept. Whoever
    /// reads a list page by page does not lose the rest of it because the last one of a page was
    /// deleted meanwhile. Only ids that we have drawn have been on a page, and only these tell their
    /// time; where a list is sorted by something that went with the record, its place is lost.
    fn departed(&self, id: Uuid) -> Option<Departed> {
        let is_told = matches!(self.sort_key, BY_MAKING | "created_at" | "uuid");
        let drawn = drawn_at(id).filter(|_| is_told)?;
        Some(Departed { id, drawn })
    }

    /// Whether a record comes before a departed one; None when its id does not tell.
    fn is_before(&self, id: Uuid, departed: &Departed) -> Option<bool> {
        let order = match self.sort_key {
            "uuid" => id.cmp(&departed.id),
            _ => drawn_at(id)?.cmp(&departed.drawn),
        };
        Some(if self.descending { order.is_gt() } else { order.is_lt() })
    }

    /// The keys of one page behind `marker`, of a list that the store cannot sort; `id` is a
    /// key's record's.
    pub fn pick<K: Ord>(
        &self,
        mut ranked: Vec<Ranked<K>>,
        marker: Option<&Marker>,
        id: impl Fn(&K) -> Uuid,
    ) -> Vec<K> {
        ranked.sort_unstable();
        if self.descending {
            ranked.reverse();
        }
        let skip = match marker {
            Some(Marker::At(place)) => ranked.partition_point(|one| match self.descending {
                true => one.place >= *place,
                false => one.place <= *place,
            }),
            Some(Marker::Departed(departed)) => {
                let told = ranked
                    .iter()
                    .enumerate()
                    .filter_map(|(at, one)| Some((at, self.is_before(id(&one.key), departed)?)));
                told.take_while(|(_, is_before)| *is_before).last().map_or(0, |(at, _)| at + 1)
            }
            None => 0,
        };
        ranked.into_iter().skip(skip).take(self.limit).map(|one| one.key).collect()
    }

    /// The address of the next page: only when this one is full, or has ended early. Its last record
    /// is what clients name as marker, by this address or by themselves, and gets a bookmark.
    pub fn next(
        &self,
        base: &str,
        path: &str,
        shown: Shown,
        last: Option<(Item, Place)>,
        shelf: &Shelf,
    ) -> Option<String> {
        let is_full = match shown {
            Shown::Whole(count) => count == self.limit,
            Shown::Cut => true,
        };
        let (last, place) = last.filter(|_| is_full)?;
        shelf.keep(self.sort_key, last, place);
        let direction = if self.descending { "desc" } else { "asc" };
        Some(format!(
            "{base}/v1/{path}?sort_key={}&sort_dir={direction}&limit={}&marker={last}",
            self.sort_key, self.limit
        ))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bookmark::{Bookmarks, Listed};
    use super::super::column::Table;
    use super::*;
    use crate::store::Scope;

    #[derive(Clone, Debug)]
    struct Thing(Option<&'static str>);

    impl Columns for Thing {
        const COLUMNS: Table<Self> = &[
            ("name", |thing| thing.0.map_or(Column::Null, |text| Column::Text(text.into()))),
            ("uuid", |_| Column::Null),
        ];
    }

    fn listing(query: &str) -> Result<Listing, String> {
        let read = Listing::read::<Thing>(&Query::parse(Some(query)), 1000);
        read.map_err(|e| e.detail().to_owned())
    }

    #[test]
    fn arguments_are_checked_with_upstreams_sentences() {
        assert_eq!(listing("").unwrap().limit, 1000);
        assert_eq!(listing("limit=5000").unwrap().limit, 1000);
        assert_eq!(listing("limit=3&sort_dir=desc").unwrap().limit, 3);
        assert_eq!(listing("limit=0").unwrap_err(), "Limit must be positive");
        assert_eq!(listing("limit=-1").unwrap_err(), "Limit must be positive");
        assert!(listing("limit=x").unwrap_err().contains("attribute limit"));
        assert!(listing("marker=x").unwrap_err().contains("attribute marker. Value: 'x'"));
        assert!(listing("sort_dir=up").unwrap_err().starts_with("Invalid sort direction: up"));
        assert_eq!(
            listing("sort_key=nope").unwrap_err(),
            "The sort_key value \"nope\" is an invalid field for sorting"
        );
        let unknown = Query::parse(Some("all_tenants=1")).only(&LIST_ARGUMENTS).unwrap_err();
        assert_eq!(unknown.detail(), "Unknown argument: \"all_tenants\"");
    }

    #[test]
    fn whole_lists_are_sorted_and_cut_behind_the_marker() {
        let things = [(1, Some("b")), (2, Some("a")), (3, None), (4, Some("a"))];
        let order = |query: &str, marker: Option<u64>| {
            let listing = listing(query).unwrap();
            let ranked =
                things.map(|(made, name)| listing.rank(&Thing(name), Sequence(made), made));
            let marker = marker.map(|marker| {
                let of = |one: &&Ranked<u64>| one.key == marker;
                Marker::At(ranked.iter().find(of).unwrap().place.clone())
            });
            listing.pick(ranked.to_vec(), marker.as_ref(), |_| Uuid::nil())
        };
        assert_eq!(order("sort_key=name", None), [3, 2, 4, 1]);
        assert_eq!(order("sort_key=name&sort_dir=desc", None), [1, 4, 2, 3]);
        assert_eq!(order("sort_key=name&limit=2", None), [3, 2]);
        assert_eq!(order("sort_key=name&limit=2", Some(2)), [4, 1]);
        assert_eq!(order("sort_key=name&sort_dir=desc", Some(4)), [2, 3]);
        assert_eq!(order("sort_key=name", Some(1)), Vec::<u64>::new());
        assert_eq!(order("sort_dir=desc", None), [4, 3, 2, 1]);
    }

    #[test]
    fn a_place_needs_no_record_at_it() {
        let things = [(1, Some("b")), (2, Some("a")), (3, None), (4, Some("d"))];
        let rest = |query: &str, name: Option<&'static str>, made: u64| {
            let listing = listing(query).unwrap();
            let ranked =
                things.map(|(made, name)| listing.rank(&Thing(name), Sequence(made), made));
            let marker = Marker::At(listing.place(&Thing(name), Sequence(made)));
            listing.pick(ranked.to_vec(), Some(&marker), |_| Uuid::nil())
        };
        assert_eq!(rest("sort_key=name", Some("c"), 5), [4]);
        assert_eq!(rest("sort_key=name", Some("a"), 1), [2, 1, 4]);
        assert_eq!(rest("sort_key=name", Some("a"), 5), [1, 4]);
        assert_eq!(rest("sort_key=name", Some("z"), 5), Vec::<u64>::new());
        assert_eq!(rest("sort_key=name&sort_dir=desc", Some("c"), 5), [1, 2, 3]);
        assert_eq!(rest("sort_key=name&sort_dir=desc", None, 1), Vec::<u64>::new());
        assert_eq!(rest("sort_key=name&sort_dir=desc", None, 5), [3]);
    }

    /// Where a page ended counts, then where the record is, then what its id tells.
    #[test]
    fn a_reader_goes_on_from_where_it_was() {
        let shelf = Bookmarks::default().shelf(Listed::Clusters, Scope::Everyone);
        let (by_name, id) = (listing("sort_key=name&limit=1").unwrap(), drawn(10, 1));
        let place = |name: &'static str| by_name.place(&Thing(Some(name)), Sequence(1));
        let behind = |here: Option<&'static str>| {
            by_name.behind(id, &shelf, || Ok(here.map(place))).unwrap()
        };
        assert_eq!(behind(None), None);
        assert_eq!(behind(Some("z")), Some(Marker::At(place("z"))));
        // A page that is not full has no next one, and is no bookmark.
        let next =
            |shown| by_name.next("", "clusters", shown, Some((id.into(), place("c"))), &shelf);
        assert_eq!(next(Shown::Whole(0)), None);
        assert_eq!(behind(None), None);
        assert!(next(Shown::Whole(1)).is_some());
        assert_eq!(behind(None), Some(Marker::At(place("c"))));
        assert_eq!(behind(Some("z")), Some(Marker::At(place("c"))));
        let by_making = listing("").unwrap().behind(id, &shelf, || Ok(None)).unwrap();
        assert!(matches!(by_making, Some(Marker::Departed(_))), "{by_making:?}");
    }

    /// An id that was drawn at this millisecond.
    fn drawn(millis: u64, drop: u8) -> Uuid {
        uuid::Builder::from_unix_timestamp_millis(millis, &[drop; 10]).into_uuid()
    }

    #[test]
    fn a_list_goes_on_from_the_place_of_a_marker_that_is_gone() {
        let foreign = Uuid::from_u128(0xffff_ffff_ffff_4fff_8fff_ffff_ffff_ffff);
        let ids = [drawn(10, 9), drawn(20, 1), foreign, drawn(20, 5), drawn(30, 1)];
        let rest = |query: &str, gone: Uuid| {
            let listing = listing(query).unwrap();
            let ranked = (0..).zip(ids).map(|(made, id)| {
                let mut one = listing.rank(&Thing(None), Sequence(made), made);
                if listing.sort_key == "uuid" {
                    one.place.column = Column::Text(id.to_string().into());
                }
                one
            });
            let marker = Marker::Departed(listing.departed(gone)?);
            let picked = listing.pick(ranked.collect(), Some(&marker), |at| ids[*at as usize]);
            Some(picked)
        };
        let some = |picked: &[u64]| Some(picked.to_vec());
        assert_eq!(rest("", drawn(5, 0)), some(&[0, 1, 2, 3, 4]));
        assert_eq!(rest("", drawn(15, 0)), some(&[1, 2, 3, 4]));
        // Made in the same millisecond: again rather than never.
        assert_eq!(rest("", drawn(20, 3)), some(&[1, 2, 3, 4]));
        assert_eq!(rest("", drawn(25, 0)), some(&[4]));
        assert_eq!(rest("limit=1", drawn(15, 0)), some(&[1]));
        assert_eq!(rest("", drawn(35, 0)), some(&[]));
        assert_eq!(rest("sort_dir=desc", drawn(25, 0)), some(&[3, 2, 1, 0]));
        assert_eq!(rest("sort_dir=desc", drawn(5, 0)), some(&[]));
        assert_eq!(rest("sort_key=uuid", drawn(20, 3)), some(&[3, 4, 2]));
        assert_eq!(rest("sort_key=uuid&sort_dir=desc", drawn(20, 3)), some(&[1, 0]));
        // What never was on a page, and what has taken its place along.
        assert_eq!(rest("", foreign), None);
        assert_eq!(rest("sort_key=name", drawn(15, 0)), None);
    }

    #[test]
    fn a_full_page_names_the_next_one() {
        let listing = listing("limit=2&sort_key=name").unwrap();
        let shelf = Bookmarks::default().shelf(Listed::Clusters, Scope::Everyone);
        let last = || Some((Uuid::nil().into(), listing.place(&Thing(Some("b")), Sequence(1))));
        assert_eq!(
            listing.next("http://h", "clusters", Shown::Whole(2), last(), &shelf).unwrap(),
            "http://h/v1/clusters?sort_key=name&sort_dir=asc&limit=2\
             &marker=00000000-0000-0000-0000-000000000000"
        );
        assert_eq!(listing.next("http://h", "clusters", Shown::Whole(1), last(), &shelf), None);
        assert!(listing.next("http://h", "clusters", Shown::Cut, last(), &shelf).is_some());
        assert_eq!(listing.next("http://h", "clusters", Shown::Cut, None, &shelf), None);
    }

    proptest! {
        #[test]
        fn no_query_panics(text in "[a-z_=&%+0-9.é-]{0,60}") {
            let query = Query::parse(Some(&text));
            let _ = query.only(&LIST_ARGUMENTS);
            let _ = Listing::read::<Thing>(&query, 1000);
        }
    }
}
