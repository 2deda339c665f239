//! A body that a thread writes while it is sent.

use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tracing::warn;

use crate::store::StoreError;

/// What is sent at once, and how many of these may wait.
const CHUNK: usize = 256 << 10;
const WAITING: usize = 8;

/// The body that `work` writes. When it fails, the body breaks off and is never taken for whole.
pub fn written(
    work: impl FnOnce(&mut dyn Write) -> Result<(), StoreError> + Send + 'static,
) -> BoxBody<Bytes, std::io::Error> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe { sender, buffer: BytesMut::with_capacity(CHUNK) };
        let worked = work(&mut pipe).map_err(|e| std::io::Error::other(e.to_string()));
        if let Err(error) = worked.and_then(|()| pipe.flush()) {
            warn!(%error, "an answer on the control socket broke off");
            // Whoever asked may have gone already.
            let _nobody_listens = pipe.sender.blocking_send(Err(error));
        }
    });
    Received(receiver).boxed()
}

struct Pipe {
    sender: mpsc::Sender<std::io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK));
        self.sender
            .blocking_send(Ok(full.freeze()))
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))
    }
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
