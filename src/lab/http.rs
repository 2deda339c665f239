//! The doors: one listener per service on loopback, with tokens checked, calls recorded and
//! faults applied.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Frame;
use hyper::header::{CONTENT_LENGTH, DATE, HeaderValue};
use time::format_description::well_known::Rfc2822;
use tokio_util::sync::CancellationToken;

use crate::base::clock::Timestamp;
use crate::base::http::server::{HttpListener, Limits, Request, Response, Service};

use super::fault::{Harm, Outcome};
use super::heat::services::{Owner, Refused};
use super::heat::{self, Heat};
use super::wire::{Ask, Reply};
use super::world::{Caller, World};
use super::{glance, keystone, neutron, nova, octavia};

/// A service of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Keystone,
    Heat,
    Nova,
    Neutron,
    Glance,
    Octavia,
}

impl Part {
    /// Those that every lab has, in the order of their ports.
    pub const ALL: [Self; 5] =
        [Self::Keystone, Self::Heat, Self::Nova, Self::Neutron, Self::Glance];

    /// As faults and the record of calls name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keystone => "keystone",
            Self::Heat => "heat",
            Self::Nova => "nova",
            Self::Neutron => "neutron",
            Self::Glance => "glance",
            Self::Octavia => "octavia",
        }
    }

    /// As the catalogue calls it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Keystone => "identity",
            Self::Heat => "orchestration",
            Self::Nova => "compute",
            Self::Neutron => "network",
            Self::Glance => "image",
            Self::Octavia => "load-balancer",
        }
    }

    /// What the catalogue adds to the address.
    pub const fn root(self) -> &'static str {
        match self {
            Self::Keystone => "/v3",
            Self::Heat => "/v1/%(tenant_id)s",
            Self::Nova => "/v2.1",
            Self::Neutron | Self::Glance | Self::Octavia => "",
        }
    }

    fn refuse(self, refused: &Refused) -> Reply {
        match self {
            Self::Keystone => keystone::refuse(refused),
            Self::Heat => heat_refuse(refused),
            Self::Nova => nova::refuse(refused),
            Self::Neutron => neutron::refuse(refused),
            Self::Glance => glance::refuse(refused),
            Self::Octavia => octavia::refuse(refused),
        }
    }
}

/// Heat's body for what is refused before its engine is asked.
fn heat_refuse(refused: &Refused) -> Reply {
    let (status, message) = (refused.status, &refused.message);
    let title = if status == 401 { "Unauthorized" } else { refused.kind };
    let body = match status {
        401 => serde_json::json!({"error": {"code": 401, "message": message, "title": title}}),
        _ => serde_json::json!({
            "explanation": message, "code": status, "title": title,
            "error": {"message": message, "type": title, "traceback": null},
        }),
    };
    Reply::json(status, &body)
}

/// Answers for one service.
#[derive(Clone)]
pub(super) struct Front {
    pub part: Part,
    pub world: Arc<World>,
    pub heat: Arc<Heat<World>>,
    pub base: String,
    /// Cancelled when the service stops: what is under way gets no answer.
    pub stop: CancellationToken,
}

impl Service for Front {
    async fn handle(&self, request: Request) -> Response {
        tokio::select! {
            response = self.respond(request) => response,
            () = self.stop.cancelled() => broken(),
        }
    }
}

impl Front {
    async fn respond(&self, request: Request) -> Response {
        let service = self.part.name();
        if !request.peer.ip().is_loopback() {
            let refused = Refused::forbidden("The lab answers its own machine only.");
            return self.part.refuse(&refused).into_response();
        }
        let mut ask = match Ask::read(&request, self.base.clone()) {
            Ok(ask) => ask,
            Err(refused) => return self.part.refuse(&refused).into_response(),
        };
        let (method, path) = (ask.method.to_string(), ask.bare_path());
        let none = Harm { delay: None, performed: false, outcome: Outcome::Normal };
        let Harm { delay, performed, outcome } =
            self.world.harm(service, &method, &path).unwrap_or(none);
        let wait = tokio::time::sleep(delay.unwrap_or_default());
        if let Outcome::Late(length) = outcome {
            wait.await;
            self.world.record(service, &method, &path, "late".to_owned());
            let (front, mut cleared) = (self.clone(), self.world.faults.cleared());
            tokio::spawn(async move {
                let performed = async {
                    match length {
                        Some(length) => tokio::time::sleep(length).await,
                        // An error is the end of the lab, which stops this as well.
                        None => _ = cleared.changed().await,
                    }
                    let status = front.answer(&ask, &request).await.status().as_u16();
                    front.world.record(service, &method, &path, format!("{status} late"));
                };
                tokio::select! {
                    () = performed => {}
                    () = front.stop.cancelled() => {}
                }
            });
            return broken();
        }
        let mut response = None;
        if performed {
            response = Some(self.answer(&ask, &request).await);
            wait.await;
        } else {
            wait.await;
            if let Outcome::Error(sentence) = &outcome {
                ask.build_fault = Some(sentence.clone());
            }
            if matches!(outcome, Outcome::Normal | Outcome::Error(_) | Outcome::Truncate) {
                response = Some(self.answer(&ask, &request).await);
            }
        }
        let (note, mut response) = self.harmed(outcome, response).await;
        self.world.record(service, &method, &path, note);
        let now = self.world.clock.now().plus(self.world.lock().skew);
        if let Ok(date) = HeaderValue::from_str(&http_date(now)) {
            response.headers_mut().insert(DATE, date);
        }
        response
    }

    /// What arrives of an answer, and what the record says of it.
    async fn harmed(&self, outcome: Outcome, response: Option<Response>) -> (String, Response) {
        match (outcome, response) {
            (Outcome::Truncate, Some(response)) => {
                let (mut parts, body) = response.into_parts();
                let whole = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                parts.headers.remove(CONTENT_LENGTH);
                let half = Either::Left(Full::new(whole.slice(..whole.len() / 2)));
                let note = format!("{} truncated", parts.status.as_u16());
                (note, Response::from_parts(parts, half))
            }
            (Outcome::Status(status), _) => {
                let message = format!("The lab was told to answer {status} here.");
                let kind = match status {
                    404 => "NotFound",
                    409 => "Conflict",
                    _ => "HTTPInternalServerError",
                };
                let refused = Refused::new(status, kind, message);
                (status.to_string(), self.part.refuse(&refused).into_response())
            }
            (Outcome::Normal | Outcome::Error(_), Some(response)) => {
                (response.status().as_u16().to_string(), response)
            }
            _ => ("dropped".to_owned(), broken()),
        }
    }

    async fn answer(&self, ask: &Ask, request: &Request) -> Response {
        let roots = ask.path();
        let open = match (self.part, roots.as_slice()) {
            (Part::Keystone, _) => Some(keystone::answer(&self.world, ask)),
            (Part::Heat, []) => return Heat::<World>::versions(request),
            (Part::Nova, [] | ["v2.1"]) => Some(Ok(nova::versions(&ask.base, !roots.is_empty()))),
            (Part::Neutron, []) => Some(Ok(neutron::versions(&ask.base))),
            (Part::Glance, [] | ["versions"]) => Some(Ok(glance::versions(&ask.base))),
            _ => None,
        };
        let token = ask.header("x-auth-token").unwrap_or_default();
        let answered = match (open, self.world.caller(token), self.part) {
            (Some(answer), _, _) => answer,
            (None, None, _) => Err(Refused::unauthorised()),
            (None, Some(caller), Part::Nova) => nova::answer(&self.world, &caller, ask),
            (None, Some(caller), Part::Neutron) => neutron::answer(&self.world, &caller, ask),
            (None, Some(caller), Part::Glance) => glance::answer(&self.world, &caller, ask),
            (None, Some(caller), Part::Octavia) => octavia::answer(&self.world, &caller, ask),
            (None, Some(caller), _) => {
                return self.heat.handle(self.to_heat(caller, token), request).await;
            }
        };
        answered.unwrap_or_else(|refused| self.part.refuse(&refused)).into_response()
    }

    fn to_heat(&self, caller: Caller, token: &str) -> heat::Caller {
        let username = self.world.lock().identity.user(&caller.user_id).map(|u| u.name.clone());
        let admin = caller.is_admin();
        let Caller { user_id, project_id, roles } = caller;
        let owner = Owner { project_id, user_id, roles };
        heat::Caller { owner, token: token.to_owned(), username, admin }
    }
}

/// A date by the lab's clock: hyper would say the wall's.
fn http_date(at: Timestamp) -> String {
    let at = at.to_offset().format(&Rfc2822).unwrap_or_default();
    at.replace("+0000", "GMT")
}

/// Opens a service's listener; port 0 takes a free one.
pub(super) async fn open(port: u16) -> std::io::Result<HttpListener> {
    let limits = Limits {
        // Whatever is open when a service stops is cut, as by a crash.
        drain_time: Duration::from_millis(200),
        body_bytes: 4 << 20,
        ..Limits::default()
    };
    HttpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limits).await
}

/// Serves until the front is told to stop.
pub(super) fn serve(door: HttpListener, front: Front) {
    let stop = front.stop.clone();
    tokio::spawn(door.serve(Arc::new(front), stop));
}

/// An answer that breaks off before its first byte.
fn broken() -> Response {
    hyper::Response::new(Either::Right(Broken.boxed_unsync()))
}

struct Broken;

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionAborted.into())))
    }
}
