//! The keys under which members look for each other, and what stands there. Pure.
//!
//! ```text
//! /_etcd/registry/TOKEN/_config/size      how many members
//! /_etcd/registry/TOKEN/members/ID        name=url[,name=url]
//! ```

use tonic::Status;

use super::message::{KeyValue, RangeRequest, RangeResponse, ResponseHeader};
use super::message::{SortOrder, SortTarget};
use crate::discovery::registry::Token;
use crate::discovery::{SIZE_INDEX, is_member_id, is_token};

const ROOT: &[u8] = b"/_etcd/registry/";
/// The first key beyond all tokens: a slash is followed by a zero.
const BEYOND: &[u8] = b"/_etcd/registry0";
const TOKEN_BYTES: usize = 32;
/// The revision of what is not there: 0 would mean "from now on".
const NOWHERE: u64 = 1;

/// One key, or all from one up to another, which is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    key: Vec<u8>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Same,
    Before(Vec<u8>),
    Never,
}

impl Span {
    pub fn new(key: Vec<u8>, range_end: Vec<u8>) -> Result<Self, Status> {
        if key.is_empty() {
            return Err(Status::invalid_argument("key is missing"));
        }
        let end = match range_end.as_slice() {
            [] => End::Same,
            [0] => End::Never,
            _ => End::Before(range_end),
        };
        Ok(Self { key, end })
    }

    /// The token it lies in; None when nothing of ours can be there. It may not reach over
    /// more than one, or tokens could be found by asking.
    pub fn token(&self) -> Result<Option<&str>, Status> {
        let within = self.key.strip_prefix(ROOT).and_then(token_and_rest).map(|(token, _)| token);
        let is_inside = match (&self.end, within) {
            (End::Same, _) => true,
            (End::Never, _) => false,
            (End::Before(end), Some(token)) => *end <= [ROOT, token.as_bytes(), b"0"].concat(),
            (End::Before(end), None) => end.as_slice() <= ROOT || self.key.as_slice() >= BEYOND,
        };
        match is_inside || self.key.as_slice() >= BEYOND {
            true => Ok(within),
            false => Err(Status::permission_denied(
                "a range must lie within one discovery token: begin it with \
                 /_etcd/registry/TOKEN/",
            )),
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Same => key == self.key,
            End::Before(end) => key >= self.key.as_slice() && key < end.as_slice(),
            End::Never => key >= self.key.as_slice(),
        }
    }
}

/// Token and member id of a key that a member may put.
pub fn member(key: &[u8]) -> Result<(&str, &str), Status> {
    let parts = key.strip_prefix(ROOT).and_then(token_and_rest);
    let (token, rest) = parts.ok_or_else(denied)?;
    let id = rest.strip_prefix(b"members/").and_then(|id| std::str::from_utf8(id).ok());
    let id = id.filter(|id| is_member_id(id)).ok_or_else(denied)?;
    Ok((token, id))
}

/// The same for a token that nobody knows as for a key that is no member's.
pub fn denied() -> Status {
    Status::permission_denied(
        "only /_etcd/registry/TOKEN/members/ID may be put, under a token that is known and with \
         an id of 1 to 16 lower-case hex digits",
    )
}

fn token_and_rest(text: &[u8]) -> Option<(&str, &[u8])> {
    let (token, rest) = text.split_at_checked(TOKEN_BYTES)?;
    let token = std::str::from_utf8(token).ok().filter(|t| is_token(t))?;
    Some((token, rest.strip_prefix(b"/")?))
}

/// The newest revision of a token's keys.
pub fn revision(token: Option<&Token>) -> u64 {
    token.map_or(NOWHERE, |token| token.current_index())
}

pub fn header(token: Option<&Token>) -> Option<ResponseHeader> {
    let revision = signed(revision(token));
    Some(ResponseHeader { cluster_id: 1, member_id: 1, revision, raft_term: 1 })
}

/// All that stands under a token, oldest first. What was put never changes.
pub fn entries(token: &Token) -> impl Iterator<Item = KeyValue> {
    let key = |rest: &str| [ROOT, token.text.as_bytes(), b"/", rest.as_bytes()].concat();
    let entry = |key: Vec<u8>, index: u64, value: &str| KeyValue {
        key,
        create_revision: signed(index),
        mod_revision: signed(index),
        version: 1,
        value: value.as_bytes().to_vec(),
        lease: 0,
    };
    let size = entry(key("_config/size"), SIZE_INDEX, &token.size.to_string());
    let mut members: Vec<_> = token.members.iter().collect();
    members.sort_by_key(|m| m.created_index);
    let members = members
        .into_iter()
        .map(move |m| entry(key(&format!("members/{}", m.id)), m.created_index, &m.value));
    std::iter::once(size).chain(members)
}

fn signed(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// What a range holds.
pub fn range(
    asked: &RangeRequest,
    span: &Span,
    token: Option<&Token>,
) -> Result<RangeResponse, Status> {
    if asked.revision > signed(revision(token)) {
        return Err(Status::out_of_range("the revision has not been reached yet"));
    }
    let is_at = |value: i64, least: i64, most: i64| value >= least && (most == 0 || value <= most);
    let mut kvs: Vec<KeyValue> = token
        .into_iter()
        .flat_map(entries)
        .filter(|kv| span.contains(&kv.key))
        .filter(|kv| asked.revision <= 0 || kv.mod_revision <= asked.revision)
        .collect();
    let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
    kvs.retain(|kv| {
        is_at(kv.mod_revision, asked.min_mod_revision, asked.max_mod_revision)
            && is_at(kv.create_revision, asked.min_create_revision, asked.max_create_revision)
    });
    kvs.sort_by(|a, b| a.key.cmp(&b.key));
    match asked.sort_target() {
        SortTarget::Key => {}
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if asked.sort_order() == SortOrder::Descend {
        kvs.reverse();
    }
    let limit = usize::try_from(asked.limit).ok().filter(|limit| *limit > 0);
    let more = limit.is_some_and(|limit| kvs.len() > limit);
    kvs.truncate(limit.unwrap_or(usize::MAX));
    if asked.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    if asked.count_only {
        kvs.clear();
    }
    Ok(RangeResponse { header: header(token), kvs, more: more && !asked.count_only, count })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic::Code;
    use uuid::Uuid;

    use super::*;
    use crate::base::clock::Timestamp;
    use crate::model::ClusterId;
    use crate::model::discovery::DiscoveryToken;
    use crate::model::etcd_member::MemberValue;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn token() -> Token {
        let (now, cluster) = (Timestamp::EPOCH, ClusterId::new(Uuid::from_u128(7)));
        let mut token = DiscoveryToken::issue(TOKEN, cluster, 3, Vec::new(), None, now, now);
        for (id, value) in [("b", "m0=http://10.0.0.2:2380"), ("a", "m1=http://10.0.0.1:2380")] {
            token.register(id, &MemberValue::parse(value, false).unwrap(), "", now).unwrap();
        }
        Token { text: TOKEN.to_owned(), record: token }
    }

    fn span(key: &str, end: &str) -> Result<Span, Status> {
        let bytes = |text: &str| text.replace("TOKEN", TOKEN).into_bytes();
        Span::new(bytes(key), bytes(end))
    }

    #[test]
    fn a_span_lies_in_one_token_or_in_none() {
        const ROOT: &str = "/_etcd/registry/";
        for (key, end, expected) in [
            ("TOKEN/_config/size", "", Ok(Some(TOKEN))),
            ("TOKEN/members", "TOKEN/membert", Ok(Some(TOKEN))),
            ("TOKEN/", "TOKEN0", Ok(Some(TOKEN))),
            ("TOKEN/b", "TOKEN/a", Ok(Some(TOKEN))),
            ("TOKEN/", "TOKEN00", Err(())),
            ("TOKEN/", "TOKEN1", Err(())),
            ("TOKEN", "", Ok(None)),
            ("TOKEN", "TOKEN0", Err(())),
            ("", "", Ok(None)),
            ("0", "f", Err(())),
            ("0123456789ABCDEF0123456789ABCDEF/members", "", Ok(None)),
        ] {
            let end = if end.is_empty() { String::new() } else { format!("{ROOT}{end}") };
            let span = span(&format!("{ROOT}{key}"), &end).unwrap();
            let found = span.token().map_err(|s| assert_eq!(s.code(), Code::PermissionDenied));
            assert_eq!(found, expected, "{key} {end}");
        }
        for (key, end, expected) in [
            ("foo", "fop", Ok(None)),
            ("foo", "\0", Ok(None)),
            ("/", "\0", Err(())),
            ("\0", "\0", Err(())),
            ("/", "0", Err(())),
            ("/", "/_etcd/registry/", Ok(None)),
            ("/_etcd/registry0", "\0", Ok(None)),
            ("/_etcd/registry/TOKEN/", "\0", Err(())),
        ] {
            let found = span(key, end).unwrap().token().map(|t| t.map(str::to_owned));
            assert_eq!(found.map_err(|_| ()), expected, "{key} {end}");
        }
        assert!(Span::new(Vec::new(), Vec::new()).is_err());
    }

    #[test]
    fn ranges_honour_what_is_asked() {
        let token = token();
        let whole = span("/_etcd/registry/TOKEN/", "/_etcd/registry/TOKEN0").unwrap();
        let look = |asked: RangeRequest| {
            let found = range(&asked, &whole, Some(&token)).unwrap();
            let last = |kv: &KeyValue| {
                let key = String::from_utf8(kv.key.clone()).unwrap();
                key.rsplit('/').next().unwrap().to_owned()
            };
            (found.kvs.iter().map(last).collect::<Vec<_>>().join(" "), found.count, found.more)
        };
        let asked = RangeRequest::default;
        let by = |target: SortTarget| RangeRequest { sort_target: target as i32, ..asked() };
        let case = |asked, keys: &str, count, more| {
            let shown = format!("{asked:?}");
            assert_eq!(look(asked), (keys.to_owned(), count, more), "{shown}");
        };
        case(asked(), "size a b", 3, false);
        case(by(SortTarget::Create), "size b a", 3, false);
        let descend = SortOrder::Descend as i32;
        case(RangeRequest { sort_order: descend, ..by(SortTarget::Mod) }, "a b size", 3, false);
        case(RangeRequest { limit: 2, ..asked() }, "size a", 3, true);
        case(RangeRequest { limit: 3, ..asked() }, "size a b", 3, false);
        case(RangeRequest { revision: 3, ..asked() }, "size b", 2, false);
        case(RangeRequest { count_only: true, limit: 1, ..asked() }, "", 3, false);
        case(RangeRequest { min_mod_revision: 3, ..asked() }, "a b", 3, false);
        case(RangeRequest { max_create_revision: 3, ..asked() }, "size b", 3, false);
        let future = RangeRequest { revision: 5, ..asked() };
        let refused = range(&future, &whole, Some(&token)).unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        let keys_only = RangeRequest { keys_only: true, ..asked() };
        let found = range(&keys_only, &whole, Some(&token)).unwrap();
        assert!(found.kvs.iter().all(|kv| kv.value.is_empty() && kv.version == 1));
        let nothing = range(&asked(), &whole, None).unwrap();
        assert_eq!((nothing.count, nothing.header.unwrap().revision), (0, 1));
    }

    proptest! {
        /// Whatever is asked, only what lies in the span is told, and never of another token.
        #[test]
        fn no_span_reaches_beyond_its_token(
            key in "(/_etcd/registry/)?(0123456789abcdef0123456789abcdef|[0-9a-f]{0,33})?\\PC{0,9}",
            end in "(/_etcd/registry/)?(0123456789abcdef0123456789abcdef|[0-9a-f]{0,33})?\\PC{0,9}",
        ) {
            let Ok(span) = Span::new(key.into_bytes(), end.into_bytes()) else { return Ok(()) };
            let Ok(name) = span.token() else { return Ok(()) };
            for other in ["00000000000000000000000000000000", "ffffffffffffffffffffffffffffffff"] {
                let theirs = format!("/_etcd/registry/{other}/members/a");
                prop_assert!(name == Some(other) || !span.contains(theirs.as_bytes()));
            }
        }
    }
}
