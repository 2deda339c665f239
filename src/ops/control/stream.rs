//! A body that a thread writes while it is sent.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use tracing::warn;

use crate::base::http::stream::{Feed, fed};
use crate::store::StoreError;

/// What is sent at once, and how many of these may wait.
const CHUNK: usize = 256 << 10;
const WAITING: usize = 8;

/// The body that `work` writes. When it fails, the body breaks off and is never taken for whole.
pub fn written(
    work: impl FnOnce(&mut dyn Write) -> Result<(), StoreError> + Send + 'static,
) -> UnsyncBoxBody<Bytes, std::io::Error> {
    let (sender, body) = fed(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut pipe = Pipe { sender, buffer: BytesMut::with_capacity(CHUNK) };
        let worked = work(&mut pipe).map_err(|e| std::io::Error::other(e.to_string()));
        if let Err(error) = worked.and_then(|()| pipe.flush()) {
            warn!(%error, "an answer on the control socket broke off");
            // Whoever asked may have gone already.
            let _nobody_listens = pipe.sender.blocking_send(Err(error));
        }
    });
    body
}

struct Pipe {
    sender: Feed,
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
