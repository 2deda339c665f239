//! etcd's messages as they come, for fuzzing by coverage.

use prost::Message;

use super::keys::{self, Span};
use super::message::{PutRequest, RangeRequest, WatchRequest};
use crate::model::discovery::DiscoveryToken;

/// A message: the first byte chooses which.
pub fn message(data: &[u8]) {
    let Some((kind, encoded)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            let Ok(asked) = RangeRequest::decode(encoded) else { return };
            let Ok(span) = Span::new(asked.key.clone(), asked.range_end.clone()) else { return };
            let _name = span.token();
            let token: Option<&DiscoveryToken> = None;
            let _answer = keys::range(&asked, &span, token);
        }
        1 => {
            let Ok(asked) = PutRequest::decode(encoded) else { return };
            let _member = keys::member(&asked.key);
        }
        _ => drop(WatchRequest::decode(encoded)),
    }
}
