//! The control socket: what the verbs of the command line ask of a running magnumd, which
//! alone has the state open.
//!
//! HTTP/1 over a Unix socket in the state's directory, for its owner and for root. Whatever
//! reads the whole state does so on a thread of its own and holds up no writer.

mod client;
mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Either, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::base::clock::Clock;
use crate::base::http::server::{self, Response};
use crate::conductor::custodian::{AdoptOrder, Custodian, CustodyError, Orphan, OrphanWish};
use crate::store::dump::Secrets;
use crate::store::repair::BadPlace;
use crate::store::{Store, StoreError};

pub use client::{Client, ControlError};

/// The socket in the directory of the state.
pub const SOCKET: &str = "control.sock";

/// Longer than anything here takes; a client that stalls must not hold a moment for ever.
const MOST_TIME: Duration = Duration::from_secs(3600);
const MOST_CONNECTIONS: usize = 16;
const MOST_BODY: usize = 16 << 20;
/// How long open requests get when we stop.
const DRAIN: Duration = Duration::from_secs(10);

/// What shall be cleaned: what was asked for, and what was shown for it.
#[derive(Debug, Serialize, Deserialize)]
pub struct CleanOrder {
    pub wish: OrphanWish,
    pub plan: Vec<Orphan>,
}

/// What an operator can be answered with.
pub struct Keeper {
    pub store: Store,
    pub clock: Clock,
    pub custodian: Custodian,
}

/// A bound control socket.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Binds the socket. Whoever has the state open owns it, so one that is there is stale.
    pub fn bind(directory: &Path) -> std::io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Answers until `stop`.
    pub async fn serve(self, keeper: Arc<Keeper>, stop: CancellationToken) {
        let mut open = JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = open.join_next() => continue,
                accepted = self.listener.accept(), if open.len() < MOST_CONNECTIONS => {
                    match accepted {
                        Ok((stream, _)) => stream,
                        Err(error) => {
                            warn!(%error, "the control socket cannot accept");
                            tokio::time::sleep(Duration::from_millis(100)).await;
                            continue;
                        }
                    }
                }
            };
            if !is_allowed(&stream) {
                continue;
            }
            let keeper = Arc::clone(&keeper);
            open.spawn(tokio::time::timeout(MOST_TIME, speak(stream, keeper)));
        }
        let drained = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            warn!("a request on the control socket was cut off");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            debug!(%error, "the control socket was gone already");
        }
    }
}

/// Our own user and root; the file's mode says the same, but a mode can be changed.
fn is_allowed(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == own => true,
        Ok(peer) => {
            warn!(uid = peer.uid(), "refused on the control socket");
            false
        }
        Err(error) => {
            warn!(%error, "who asks on the control socket is not known");
            false
        }
    }
}

async fn speak(stream: UnixStream, keeper: Arc<Keeper>) {
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let keeper = Arc::clone(&keeper);
        async move { Ok::<_, std::convert::Infallible>(keeper.answer(request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
    if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
        debug!(%error, "a control connection ended");
    }
}

impl Keeper {
    async fn answer(&self, request: hyper::Request<Incoming>) -> Response {
        let (head, body) = request.into_parts();
        let Ok(body) = Limited::new(body, MOST_BODY).collect().await else {
            return refuse(StatusCode::BAD_REQUEST, "the request is too long or incomplete");
        };
        info!(method = %head.method, path = head.uri.path(), "asked on the control socket");
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/status") => {
                let version = env!("CARGO_PKG_VERSION");
                server::json(StatusCode::OK, &json!({ "version": version }))
            }
            (&Method::GET, "/backup") => {
                self.streamed(|store, now, out| store.backup(now, out).map(drop))
            }
            (&Method::GET, "/export") => {
                let secrets = match head.uri.query() {
                    Some("secrets=plain") => Secrets::Plain,
                    _ => Secrets::Omitted,
                };
                self.streamed(move |store, now, out| store.export(secrets, now, out).map(drop))
            }
            (&Method::GET, "/verify") => self.read(Store::verify).await,
            (&Method::GET, "/outline") => self.read(Store::outline).await,
            (&Method::GET, "/damage") => self.read(Store::bad_records).await,
            (&Method::POST, "/damage/delete") => self.forget(&body.to_bytes()).await,
            (&Method::POST, "/orphans") => {
                self.custody(&body.to_bytes(), |custodian, wish: OrphanWish| async move {
                    custodian.orphans(&wish).await.map(|found| json!(found))
                })
                .await
            }
            (&Method::POST, "/orphans/clean") => {
                self.custody(&body.to_bytes(), |custodian, order: CleanOrder| async move {
                    let cleaned = custodian.clean(&order.wish, &order.plan).await;
                    cleaned.map(|cleaned| json!(cleaned))
                })
                .await
            }
            (&Method::POST, "/adopt") => {
                self.custody(&body.to_bytes(), |custodian, order: AdoptOrder| async move {
                    custodian.adopt(&order).await.map(|adopted| json!(adopted))
                })
                .await
            }
            _ => refuse(StatusCode::NOT_FOUND, "this magnumd knows no such request"),
        }
    }

    /// Runs `work` on a thread of its own and sends on what it writes.
    fn streamed(
        &self,
        work: impl FnOnce(
            &Store,
            crate::base::clock::Timestamp,
            &mut dyn std::io::Write,
        ) -> Result<(), StoreError>
        + Send
        + 'static,
    ) -> Response {
        let (store, now) = (self.store.clone(), self.clock.now());
        let body = stream::written(move |out| work(&store, now, out));
        hyper::Response::new(Either::Right(body))
    }

    /// Reads a wish and has the custodian fulfil it.
    async fn custody<W: DeserializeOwned, F>(
        &self,
        body: &[u8],
        fulfil: impl FnOnce(Custodian, W) -> F,
    ) -> Response
    where
        F: Future<Output = Result<Value, CustodyError>>,
    {
        let wish = match serde_json::from_slice(body) {
            Ok(wish) => wish,
            Err(e) => return refuse(StatusCode::BAD_REQUEST, &e.to_string()),
        };
        match fulfil(self.custodian.clone(), wish).await {
            Ok(answer) => server::json(StatusCode::OK, &answer),
            Err(e) => refuse(StatusCode::CONFLICT, &e.to_string()),
        }
    }

    /// Deletes a record that cannot be read.
    async fn forget(&self, body: &[u8]) -> Response {
        let place: BadPlace = match serde_json::from_slice(body) {
            Ok(place) => place,
            Err(e) => return refuse(StatusCode::BAD_REQUEST, &e.to_string()),
        };
        match self.store.forget(&place).await {
            Ok(forgotten) => server::json(StatusCode::OK, &json!(forgotten)),
            Err(e) => refuse(StatusCode::CONFLICT, &e.to_string()),
        }
    }

    /// What `read` finds in the state, on a thread of its own.
    async fn read<T: Serialize + Send + 'static>(
        &self,
        read: fn(&Store) -> Result<T, StoreError>,
    ) -> Response {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || read(&store)).await {
            Ok(Ok(found)) => server::json(StatusCode::OK, &json!(found)),
            Ok(Err(e)) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
            Err(panic) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &panic.to_string()),
        }
    }
}

fn refuse(status: StatusCode, sentence: &str) -> Response {
    server::json(status, &json!({ "error": sentence }))
}
