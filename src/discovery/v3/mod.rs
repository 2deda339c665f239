//! The gRPC protocol of etcd 3.6 on: Range, Put and Watch on the same registry as the plain one.
//!
//! A revision is what the plain protocol calls an index. Putting the same value again changes
//! nothing, so a member that comes back disturbs nobody here either.

#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod keys;
mod message;
#[cfg(test)]
mod tests;
mod watch;

use std::time::Duration;

use http_body_util::{BodyExt, Either};
use hyper::Version;
use hyper::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::server::{Grpc, StreamingService, UnaryService};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;
use tracing::error;

use super::metrics::DiscoveryMetrics;
use super::registrar::{Registrar, Registration};
use super::registry::{RegistryError, Token};
use crate::base::clock::Clock;
use crate::base::http::server::{Answering, Origin, Response, Unread};
use crate::model::discovery::RegisterError;
use keys::Span;
use message::{PutRequest, PutResponse, RangeRequest, RangeResponse, WatchRequest, WatchResponse};
use watch::Watches;

/// What members send is a hundredth of this.
const MESSAGE_BYTES: usize = 64 << 10;
/// The longest value of a member, as in the plain protocol.
const VALUE_BYTES: usize = 4 << 10;
/// How long a request that is not a stream may take to arrive and be answered.
const UNARY_TIME: Duration = Duration::from_secs(10);
/// Answers that a slow client has not read yet; what is watched waits for it.
const UNREAD_ANSWERS: usize = 4;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// The route of what is gRPC.
pub fn route(request: &Unread) -> Option<&'static str> {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    let is_grpc = request.version() == Version::HTTP_2 && kind.starts_with(b"application/grpc");
    is_grpc.then(|| match request.uri().path() {
        RANGE => "v3-range",
        PUT => "v3-put",
        WATCH => "v3-watch",
        _ => "none",
    })
}

/// Answers the calls. Clones share everything.
#[derive(Clone)]
pub struct V3 {
    pub(super) registrar: Registrar,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
    pub(super) metrics: DiscoveryMetrics,
}

impl V3 {
    /// Answers a request that has a route.
    pub fn answer(&self, request: Unread, origin: Origin) -> Answering {
        let this = self.clone();
        match request.uri().path() {
            RANGE => {
                let call = Call(move |asked| {
                    let answer = this.range(asked);
                    async move { answer }
                });
                Box::pin(unary(call, request))
            }
            PUT => {
                let call = Call(move |asked| this.clone().put(asked, origin));
                Box::pin(unary(call, request))
            }
            WATCH => {
                let call = WatchCall(this, origin);
                Box::pin(async move { sent(grpc().streaming(call, request).await) })
            }
            _ => {
                let status = Status::unimplemented("only Range, Put and Watch are served here");
                Box::pin(std::future::ready(sent(status.into_http())))
            }
        }
    }

    fn range(&self, asked: RangeRequest) -> Result<RangeResponse, Status> {
        let answer = Span::new(asked.key.clone(), asked.range_end.clone()).and_then(|span| {
            let token = self.token(span.token()?)?;
            keys::range(&asked, &span, token.as_ref())
        });
        self.counted("range", answer)
    }

    async fn put(self, asked: PutRequest, origin: Origin) -> Result<PutResponse, Status> {
        let answer = self.registered(&asked, origin).await;
        let answer = answer.map(|token| PutResponse {
            header: keys::header(Some(&token)),
            // Only asked for by who overwrites, and here nobody does.
            prev_kv: None,
        });
        self.counted("put", answer)
    }

    async fn registered(&self, asked: &PutRequest, origin: Origin) -> Result<Token, Status> {
        let (name, id) = keys::member(&asked.key)?;
        let invalid = |sentence: &str| Err(Status::invalid_argument(sentence));
        if asked.lease != 0 {
            return invalid("lease must be 0: a registration does not end");
        }
        if asked.ignore_value || asked.ignore_lease {
            return invalid(
                "ignore_value and ignore_lease must be false: a member gives its value",
            );
        }
        if asked.value.len() > VALUE_BYTES {
            return invalid("value is longer than 4096 bytes");
        }
        let Ok(value) = std::str::from_utf8(&asked.value) else {
            return invalid("value is not UTF-8");
        };
        let token = self.token(Some(name))?.ok_or_else(keys::denied)?;
        let registration =
            Registration { id: id.to_owned(), value: value.to_owned(), origin, protocol: "v3" };
        self.registrar.register(&token, registration).await.map_err(|e| match e {
            RegistryError::Unknown => keys::denied(),
            RegistryError::Refused(RegisterError::Refused(sentence)) => {
                Status::invalid_argument(sentence)
            }
            RegistryError::Refused(reason) => Status::failed_precondition(reason.to_string()),
            RegistryError::Store(_) => unavailable(),
        })
    }

    fn token(&self, name: Option<&str>) -> Result<Option<Token>, Status> {
        let Some(name) = name else { return Ok(None) };
        match self.registrar.registry().token(name) {
            Ok(token) => Ok(token),
            Err(error) => {
                error!(%error, "discovery cannot read the state");
                Err(unavailable())
            }
        }
    }

    fn counted<T>(&self, call: &'static str, answer: Result<T, Status>) -> Result<T, Status> {
        let code = answer.as_ref().map_or_else(|status| status.code(), |_| Code::Ok);
        self.metrics.called(call, code as u32);
        answer
    }

    fn watch(self, asked: Streaming<WatchRequest>, origin: Origin) -> WatchAnswers {
        self.metrics.called("watch", Code::Ok as u32);
        let (answers, received) = mpsc::channel(UNREAD_ANSWERS);
        tokio::spawn(Watches::new(self, origin, answers).run(asked));
        ReceiverStream::new(received)
    }
}

/// Members ask again by themselves after this one.
fn unavailable() -> Status {
    Status::unavailable("the state cannot be read or written now")
}

fn grpc<A, Q>() -> Grpc<ProstCodec<A, Q>>
where
    A: prost::Message + Send + 'static,
    Q: prost::Message + Default + Send + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MESSAGE_BYTES)
}

/// Reads one message and answers with one.
async fn unary<S, A, Q>(call: S, request: Unread) -> Response
where
    S: UnaryService<Q, Response = A>,
    A: prost::Message + Send + 'static,
    Q: prost::Message + Default + Send + 'static,
{
    let mut grpc = grpc::<A, Q>();
    match tokio::time::timeout(UNARY_TIME, grpc.unary(call, request)).await {
        Ok(answer) => sent(answer),
        Err(_) => sent(Status::deadline_exceeded("the request did not arrive in time").into_http()),
    }
}

fn sent(answer: hyper::Response<tonic::body::Body>) -> Response {
    answer.map(|body| Either::Right(body.map_err(std::io::Error::other).boxed_unsync()))
}

/// A function, as the gRPC library wants it.
struct Call<F>(F);

impl<Q, A, F, T> UnaryService<Q> for Call<F>
where
    F: FnMut(Q) -> T,
    T: Future<Output = Result<A, Status>> + Send + 'static,
{
    type Response = A;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<tonic::Response<A>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Q>) -> Self::Future {
        let answer = (self.0)(request.into_inner());
        Box::pin(async move { answer.await.map(tonic::Response::new) })
    }
}

type WatchAnswers = ReceiverStream<Result<WatchResponse, Status>>;

struct WatchCall(V3, Origin);

impl StreamingService<WatchRequest> for WatchCall {
    type Response = WatchResponse;
    type ResponseStream = WatchAnswers;
    type Future = std::future::Ready<Result<tonic::Response<WatchAnswers>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<WatchRequest>>) -> Self::Future {
        let answers = self.0.clone().watch(request.into_inner(), self.1);
        std::future::ready(Ok(tonic::Response::new(answers)))
    }
}
