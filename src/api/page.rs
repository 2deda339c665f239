//! The query of a request, and lists cut into pages.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Display;

use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::coerce;
use super::error::{ApiError, Outcome};
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

/// The arguments that every list takes.
pub const LIST_ARGUMENTS: [&str; 4] = ["marker", "limit", "sort_key", "sort_dir"];

/// A sort key as clients spell it, and the record's own name of that column.
pub type SortKey = (&'static str, &'static str);

/// What part of a list is asked for, in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listing {
    pub limit: usize,
    pub marker: Option<Uuid>,
    sort_key: SortKey,
    pub descending: bool,
}

/// The order of making, which the store's own indexes have.
const BY_MAKING: SortKey = ("id", "sequence");

impl Listing {
    /// Reads the arguments of a list whose records can be sorted by `keys`.
    pub fn read(query: &Query<'_>, keys: &[SortKey], most: usize) -> Outcome<Self> {
        Self::read_as(query, keys, most, false)
    }

    /// Reads the arguments of a list whose items have numbers in place of uuids.
    pub fn numbered(
        query: &Query<'_>,
        keys: &[SortKey],
        most: usize,
    ) -> Outcome<(Self, Option<u64>)> {
        let marker = match query.get("marker") {
            None => None,
            Some(text) => Some(text.trim().parse().map_err(|_| {
                let why = "Expected the id of the last item of the page before.";
                ApiError::field("marker", text, why)
            })?),
        };
        Ok((Self::read_as(query, keys, most, true)?, marker))
    }

    /// The same order, but all of it.
    pub fn whole(self) -> Self {
        Self { limit: usize::MAX, marker: None, ..self }
    }

    fn read_as(
        query: &Query<'_>,
        keys: &[SortKey],
        most: usize,
        is_numbered: bool,
    ) -> Outcome<Self> {
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
            Some(name) => keys.iter().copied().find(|k| k.0 == name).ok_or_else(|| {
                let name: String = name.chars().take(100).collect();
                ApiError::invalid(format!(
                    "The sort_key value \"{name}\" is an invalid field for sorting"
                ))
            })?,
        };
        Ok(Self { limit, marker, sort_key, descending })
    }

    /// The store's page when its own order is asked for; nothing when we must sort ourselves.
    pub fn page(&self, after: Option<Sequence>) -> Option<Page> {
        (self.sort_key == BY_MAKING).then_some(Page {
            after,
            limit: self.limit,
            descending: self.descending,
        })
    }

    /// Sorts whole lists that the store cannot sort; equal ones stay in order of making.
    pub fn cut<R: Serialize>(
        &self,
        mut records: Vec<R>,
        made: impl Fn(&R) -> Sequence,
        is_marker: impl Fn(&R) -> bool,
    ) -> Vec<R> {
        records.sort_by_cached_key(|record| (Column::of(record, self.sort_key.1), made(record)));
        if self.descending {
            records.reverse();
        }
        let skip = match self.marker {
            Some(_) => records.iter().position(is_marker).map_or(records.len(), |at| at + 1),
            None => 0,
        };
        records.into_iter().skip(skip).take(self.limit).collect()
    }

    /// The address of the next page: only when this one is full.
    pub fn next(
        &self,
        base: &str,
        path: &str,
        shown: usize,
        last: Option<impl Display>,
    ) -> Option<String> {
        let last = last.filter(|_| shown == self.limit)?;
        let direction = if self.descending { "desc" } else { "asc" };
        Some(format!(
            "{base}/v1/{path}?sort_key={}&sort_dir={direction}&limit={}&marker={}",
            self.sort_key.0, self.limit, last
        ))
    }
}

/// One value to sort by: nothing first, then numbers, then text.
#[derive(Clone, Debug, PartialEq)]
struct Column(Value);

impl Column {
    fn of<R: Serialize>(record: &R, column: &str) -> Self {
        let value = serde_json::to_value(record).unwrap_or_default();
        Self(match value {
            Value::Object(mut columns) => columns.remove(column).unwrap_or_default(),
            _ => Value::Null,
        })
    }

    fn rank(&self) -> u8 {
        match self.0 {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Number(_) => 2,
            _ => 3,
        }
    }
}

impl Eq for Column {}

impl PartialOrd for Column {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Column {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Number(a), Value::Number(b)) => a.as_i64().cmp(&b.as_i64()),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (a, b) if self.rank() == 3 && other.rank() == 3 => a.to_string().cmp(&b.to_string()),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KEYS: &[SortKey] = &[("name", "name"), ("size", "size")];

    fn listing(query: &str) -> Result<Listing, String> {
        let read = Listing::read(&Query::parse(Some(query)), KEYS, 1000);
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
        let record = |made: u64, name: Value| json!({ "sequence": made, "name": name });
        let records = vec![
            record(1, json!("b")),
            record(2, json!("a")),
            record(3, Value::Null),
            record(4, json!("a")),
        ];
        let order = |query: &str, marker: u64| {
            let cut = listing(query).unwrap().cut(
                records.clone(),
                |r| Sequence(r["sequence"].as_u64().unwrap()),
                |r| r["sequence"] == marker,
            );
            cut.iter().map(|r| r["sequence"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        let marker = "00000000-0000-4000-8000-000000000000";
        assert_eq!(order("sort_key=name", 0), [3, 2, 4, 1]);
        assert_eq!(order("sort_key=name&sort_dir=desc", 0), [1, 4, 2, 3]);
        assert_eq!(order("sort_key=name&limit=2", 0), [3, 2]);
        assert_eq!(order(&format!("sort_key=name&limit=2&marker={marker}"), 2), [4, 1]);
    }

    #[test]
    fn a_full_page_names_the_next_one() {
        let listing = listing("limit=2&sort_key=name").unwrap();
        let last = Some(Uuid::nil());
        assert_eq!(
            listing.next("http://h", "clusters", 2, last).unwrap(),
            "http://h/v1/clusters?sort_key=name&sort_dir=asc&limit=2\
             &marker=00000000-0000-0000-0000-000000000000"
        );
        assert_eq!(listing.next("http://h", "clusters", 1, last), None);
    }

    proptest! {
        #[test]
        fn no_query_panics(text in "[a-z_=&%+0-9.é-]{0,60}") {
            let query = Query::parse(Some(&text));
            let _ = query.only(&LIST_ARGUMENTS);
            let _ = Listing::read(&query, KEYS, 1000);
        }
    }
}
