//! The other end of the control socket.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::SOCKET;

/// Why a running magnumd gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("{0}: {1}; run this as root or as the user that magnumd runs as")]
    Refused(PathBuf, std::io::Error),
    #[error("the running magnumd: {0}")]
    Answered(String),
    #[error("the connection to the running magnumd broke: {0}")]
    Broken(String),
    #[error("its answer could not be written: {0}")]
    Write(std::io::Error),
}

/// A connection to the magnumd that has the state of a directory open.
#[derive(Debug)]
pub struct Client {
    requests: SendRequest<Full<Bytes>>,
}

impl Client {
    /// None when no magnumd listens there.
    pub async fn connect(directory: &Path) -> Result<Option<Self>, ControlError> {
        let path = directory.join(SOCKET);
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(e) => return Err(ControlError::Refused(path, e)),
        };
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        Ok(Some(Self { requests }))
    }

    /// The whole answer as JSON.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, ControlError> {
        let answer = self.send(Method::GET, path, Bytes::new()).await?;
        read(answer).await
    }

    /// The answer to a wish.
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        wish: &impl Serialize,
    ) -> Result<T, ControlError> {
        let wish = serde_json::to_vec(wish).map_err(broken)?;
        let answer = self.send(Method::POST, path, Bytes::from(wish)).await?;
        read(answer).await
    }

    /// Writes the answer to `out` as it comes; `progress` learns of every part's length.
    pub async fn fetch(
        &mut self,
        path: &str,
        out: &mut dyn Write,
        progress: &dyn Fn(usize),
    ) -> Result<(), ControlError> {
        let mut answer = self.send(Method::GET, path, Bytes::new()).await?;
        while let Some(frame) = answer.frame().await {
            if let Some(data) = frame.map_err(broken)?.data_ref() {
                out.write_all(data).map_err(ControlError::Write)?;
                progress(data.len());
            }
        }
        out.flush().map_err(ControlError::Write)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Incoming, ControlError> {
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "magnumd")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(broken)?;
        let answer = self.requests.send_request(request).await.map_err(broken)?;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let bytes = body.collect().await.map_err(broken)?.to_bytes();
        let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let sentence = said["error"].as_str().unwrap_or(head.status.as_str());
        Err(ControlError::Answered(sentence.to_owned()))
    }
}

async fn read<T: DeserializeOwned>(answer: Incoming) -> Result<T, ControlError> {
    let bytes = answer.collect().await.map_err(broken)?.to_bytes();
    serde_json::from_slice(&bytes).map_err(broken)
}

fn broken(error: impl std::fmt::Display) -> ControlError {
    ControlError::Broken(error.to_string())
}
