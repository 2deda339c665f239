//! The doors: one listener per service on loopback, with tokens checked, calls recorded and
//! faults applied.

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either};
use hyper::body::Frame;
use tokio_util::sync::CancellationToken;

use crate::base::http::server::{Door, Limits, Request, Response, Service};

use super::fault::{Harm, Outcome};
use super::heat::services::Refused;
use super::refusal::Answer;
use super::wire::{Ask, Reply};
use super::world::World;
use super::{glance, keystone, neutron, nova};

/// A service of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Keystone,
    Heat,
    Nova,
    Neutron,
    Glance,
}

impl Part {
    /// In the order of their ports.
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
        }
    }

    /// What the catalogue adds to the address.
    pub const fn root(self) -> &'static str {
        match self {
            Self::Keystone => "/v3",
            Self::Heat => "/v1/%(tenant_id)s",
            Self::Nova => "/v2.1",
            Self::Neutron | Self::Glance => "",
        }
    }

    fn refuse(self, refused: &Refused) -> Reply {
        match self {
            Self::Keystone => keystone::refuse(refused),
            Self::Heat => heat_refuse(refused),
            Self::Nova => nova::refuse(refused),
            Self::Neutron => neutron::refuse(refused),
            Self::Glance => glance::refuse(refused),
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
pub(super) struct Front {
    part: Part,
    world: Arc<World>,
    base: String,
    /// Cancelled when the service stops: what is under way gets no answer.
    stop: CancellationToken,
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
        let ask = match Ask::read(request, self.base.clone()) {
            Ok(ask) => ask,
            Err(refused) => return self.part.refuse(&refused).into_response(),
        };
        let (method, path) = (ask.method.to_string(), ask.bare_path());
        let harm = self.world.harm(service, &method, &path);
        if let Some(delay) = harm.as_ref().and_then(|h| h.delay) {
            tokio::time::sleep(delay).await;
        }
        let (status, response) = self.harmed(ask, harm);
        self.world.record(service, &method, &path, status);
        response
    }

    /// Answers, or goes wrong as demanded; also what the record says of it.
    fn harmed(&self, mut ask: Ask, harm: Option<Harm>) -> (String, Response) {
        let (performed, outcome) = match harm {
            Some(harm) => (harm.performed, harm.outcome),
            None => (false, Outcome::Normal),
        };
        let good = |reply: Reply| (reply.status.to_string(), reply.into_response());
        match outcome {
            Outcome::Normal => good(self.answer(&ask)),
            Outcome::Error(sentence) => {
                ask.build_fault = Some(sentence);
                good(self.answer(&ask))
            }
            Outcome::Status(status) => {
                if performed {
                    self.answer(&ask);
                }
                let message = format!("The lab was told to answer {status} here.");
                let kind = match status {
                    404 => "NotFound",
                    409 => "Conflict",
                    _ => "HTTPInternalServerError",
                };
                good(self.part.refuse(&Refused::new(status, kind, message)))
            }
            Outcome::Drop => {
                if performed {
                    self.answer(&ask);
                }
                ("dropped".to_owned(), broken())
            }
            Outcome::Truncate => {
                let mut reply = self.answer(&ask);
                reply.body.truncate(reply.body.len() / 2);
                (format!("{} truncated", reply.status), reply.into_response())
            }
        }
    }

    fn answer(&self, ask: &Ask) -> Reply {
        let answered = match self.part {
            Part::Keystone => keystone::answer(&self.world, ask),
            _ => self.answer_with_token(ask),
        };
        answered.unwrap_or_else(|refused| self.part.refuse(&refused))
    }

    fn answer_with_token(&self, ask: &Ask) -> Answer<Reply> {
        let roots = ask.path();
        match (self.part, roots.as_slice()) {
            (Part::Nova, [] | ["v2.1"]) => return Ok(nova::versions(&ask.base, !roots.is_empty())),
            (Part::Neutron, []) => return Ok(neutron::versions(&ask.base)),
            (Part::Glance, [] | ["versions"]) => return Ok(glance::versions(&ask.base)),
            _ => {}
        }
        let token = ask.header("x-auth-token").unwrap_or_default();
        let caller = self.world.caller(token).ok_or_else(Refused::unauthorised)?;
        match self.part {
            Part::Nova => nova::answer(&self.world, &caller, ask),
            Part::Neutron => neutron::answer(&self.world, &caller, ask),
            Part::Glance => glance::answer(&self.world, &caller, ask),
            Part::Heat => Err(Refused::new(503, "ServiceUnavailable", "Heat is not there yet.")),
            Part::Keystone => unreachable!("answered above, tokens are its own matter"),
        }
    }
}

/// Opens a service's listener; port 0 takes a free one.
pub(super) async fn open(port: u16) -> std::io::Result<Door> {
    let limits = Limits {
        // Whatever is open when a service stops is cut, as by a crash.
        drain_time: Duration::from_millis(200),
        body_bytes: 4 << 20,
        ..Limits::default()
    };
    Door::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), limits).await
}

/// Serves until `stop`.
pub(super) fn serve(
    door: Door,
    part: Part,
    world: Arc<World>,
    base: String,
    stop: CancellationToken,
) {
    let front = Front { part, world, base, stop: stop.clone() };
    tokio::spawn(door.serve(Arc::new(front), stop));
}

/// An answer that breaks off before its first byte.
fn broken() -> Response {
    hyper::Response::new(Either::Right(Broken.boxed()))
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
