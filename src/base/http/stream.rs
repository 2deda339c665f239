//! A body that is sent as it comes into being.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

/// What feeds a body. After an error the body breaks off and is never taken for whole.
pub type Feed = mpsc::Sender<std::io::Result<Bytes>>;

/// A body and what feeds it; `waiting` chunks may lie between them.
pub fn fed(waiting: usize) -> (Feed, UnsyncBoxBody<Bytes, std::io::Error>) {
    let (feed, received) = mpsc::channel(waiting);
    (feed, Received(received).boxed_unsync())
}

struct Received(mpsc::Receiver<std::io::Result<Bytes>>);

impl Body for Received {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|next| next.map(|chunk| chunk.map(Frame::data)))
    }
}
