//! The etcd discovery service: a listener through which the members of one cluster find each other.
//!
//! Speaks the plain HTTP protocol of etcd 3.2 to 3.6 without its traps, and the gRPC of 3.6 on:
//! a member that is restarted while it waits gets the answer it got before, and the others
//! never hear of it twice. What a member was told survives any kill. Once a cluster runs, its
//! token is sealed. Both protocols share one registry and one listener.

mod answer;
#[cfg(fuzzing)]
pub mod fuzzing;
mod metrics;
mod registrar;
mod registry;
#[cfg(test)]
mod tests;
mod v2;
#[cfg(feature = "etcd-v3")]
mod v3;
mod waiters;

use std::net::SocketAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, error_span};

use crate::base::clock::Clock;
#[cfg(feature = "etcd-v3")]
use crate::base::http::server::{Answering, Unread};
use crate::base::http::server::{Limits, Origin, Request, Response, Service};
use crate::base::id::Entropy;
use crate::model::discovery::DiscoveryMember;
use crate::model::first_contact::Block;
use crate::store::{Store, StoreError};
use answer::Fault;
use registrar::{Registrar, Registration};
use registry::Token;
use v2::{Action, Ask, Target};

pub use metrics::DiscoveryMetrics;

pub use registry::{Registry, RegistryError};

/// A long poll lasts this long, and up to a third more so that members do not come back together.
const POLL: Duration = Duration::from_secs(30);
const POLL_JITTER: Duration = Duration::from_secs(10);
/// Whoever is too many waits this long for nothing: a refusal would kill a member.
const CROWDED: Duration = Duration::from_secs(5);
/// The size is written when the token is made, before any member.
const SIZE_INDEX: u64 = 2;

/// What the discovery service is made of.
pub struct Parts {
    pub store: Store,
    pub clock: Clock,
    pub entropy: Entropy,
    /// Let members register loopback addresses: for labs on one machine.
    pub allow_loopback: bool,
    /// From where every registration is believed: the operator's proxies.
    pub trusted: Vec<Block>,
    /// The URL that members are given; whatever path it has stands before every token.
    pub advertise_url: String,
    /// Ends long polls, so that closing the listener does not wait for them.
    pub stop: CancellationToken,
}

/// The service behind the listener. Cheap to share, nothing in it blocks.
pub struct Discovery {
    registrar: Registrar,
    #[cfg(feature = "etcd-v3")]
    v3: v3::V3,
    clock: Clock,
    entropy: Entropy,
    prefix: String,
    stop: CancellationToken,
    metrics: DiscoveryMetrics,
}

/// What the discovery listener puts up with.
pub fn limits() -> Limits {
    Limits {
        connections: 4096,
        // A router may stand for several clusters.
        per_source: 256,
        streams: 16,
        body_bytes: 4 << 10,
        answers_bytes: 4 << 20,
        body_time: Duration::from_secs(10),
        drain_time: Duration::from_secs(10),
        ..Limits::default()
    }
}

impl Discovery {
    pub fn new(parts: Parts) -> Self {
        let Parts { store, clock, entropy, allow_loopback, trusted, advertise_url, stop } = parts;
        let metrics = DiscoveryMetrics::default();
        let registry = Registry::new(store, clock.clone(), allow_loopback, trusted);
        let registrar = Registrar::new(registry, metrics.clone());
        Self {
            #[cfg(feature = "etcd-v3")]
            v3: v3::V3 {
                registrar: registrar.clone(),
                clock: clock.clone(),
                stop: stop.clone(),
                metrics: metrics.clone(),
            },
            registrar,
            clock,
            entropy,
            prefix: path_of(&advertise_url).to_owned(),
            stop,
            metrics,
        }
    }

    pub const fn metrics(&self) -> &DiscoveryMetrics {
        &self.metrics
    }

    /// Seals the tokens of clusters that run and deletes those that nobody needs any more.
    /// To be called every few minutes.
    pub async fn collect(&self) {
        if let Err(error) = self.registrar.registry().collect(self.clock.now()).await {
            error!(%error, "discovery tokens cannot be collected");
        }
    }

    /// How many members wait for others.
    pub fn waiting(&self) -> usize {
        self.registrar.registry().waiters().count()
    }

    async fn get(&self, token: &Token, ask: &Ask, peer: SocketAddr) -> Response {
        match (&ask.target, &ask.action) {
            (Target::Size, _) => answer::size(token),
            (_, Action::Wait(index)) => self.wait(token, &ask.target, *index, peer).await,
            (Target::Members, _) => answer::members(token),
            (Target::Member(id), _) => match token.member(id) {
                Some(member) => answer::member(token, member),
                None => Fault::no_member(id).answer(token.current_index()),
            },
        }
    }

    /// Answers with one event, at once if it has happened already, or with nothing after a while.
    async fn wait(&self, token: &Token, target: &Target, index: u64, peer: SocketAddr) -> Response {
        // 0 means from now on.
        let index = if index == 0 { token.next_index } else { index };
        if let Some(member) = event(token, target, index) {
            return answer::event(token, member);
        }
        let waiters = self.registrar.registry().waiters();
        let Some(mut place) = waiters.enter(&token.text, token.size, peer.ip()) else {
            self.pause(CROWDED).await;
            return answer::nothing_yet(token);
        };
        let pause = self.pause(POLL + POLL_JITTER.mul_f64(self.entropy.fraction()));
        tokio::pin!(pause);
        loop {
            // Read after taking the place, so that no registration falls in between.
            match self.registrar.registry().token(&token.text) {
                Ok(Some(now)) => {
                    if let Some(member) = event(&now, target, index) {
                        return answer::event(&now, member);
                    }
                }
                Ok(None) => return Fault::not_found().answer(1),
                Err(error) => return failed(&error),
            }
            tokio::select! {
                () = place.news() => {}
                () = &mut pause => return answer::nothing_yet(token),
            }
        }
    }

    /// Sleeps, but not past the end of the service.
    async fn pause(&self, length: Duration) {
        tokio::select! {
            () = self.clock.sleep(length) => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn register(&self, token: &Token, id: String, value: String, origin: Origin) -> Response {
        let registration = Registration { id: id.clone(), value, origin, protocol: "v2" };
        match self.registrar.register(token, registration).await {
            Ok(now) => match now.member(&id) {
                Some(member) => answer::registered(&now, member),
                None => Fault::unavailable().answer(now.current_index()),
            },
            Err(RegistryError::Unknown) => Fault::not_found().answer(1),
            Err(RegistryError::Store(_)) => Fault::unavailable().answer(token.current_index()),
            Err(RegistryError::Refused(reason)) => {
                Fault::from(reason).answer(token.current_index())
            }
        }
    }
}

impl Service for Discovery {
    fn route(&self, request: &Request) -> &'static str {
        match v2::read(request, &self.prefix).map(|ask| (ask.action, ask.target)) {
            Ok((Action::Register(_), _)) => "register",
            Ok((Action::Wait(_), _)) => "wait",
            Ok((Action::Get, Target::Size)) => "size",
            Ok((Action::Get, Target::Members)) => "members",
            Ok((Action::Get, Target::Member(_))) => "member",
            Err(_) => "none",
        }
    }

    #[cfg(feature = "etcd-v3")]
    fn streams(&self, request: &Unread) -> Option<&'static str> {
        v3::route(request)
    }

    #[cfg(feature = "etcd-v3")]
    fn stream(&self, request: Unread, origin: Origin) -> Answering {
        let span = error_span!("request", request_id = self.entropy.request_id());
        Box::pin(self.v3.answer(request, origin).instrument(span))
    }

    async fn handle(&self, request: Request) -> Response {
        let span = error_span!("request", request_id = self.entropy.request_id());
        self.answer(request).instrument(span).await
    }
}

impl Discovery {
    async fn answer(&self, request: Request) -> Response {
        let mut ask = match v2::read(&request, &self.prefix) {
            Ok(ask) => ask,
            Err(fault) => return fault.answer(1),
        };
        let token = match self.registrar.registry().token(&ask.token) {
            Ok(Some(token)) => token,
            Ok(None) => return Fault::not_found().answer(1),
            Err(error) => return failed(&error),
        };
        match (&mut ask.target, &mut ask.action) {
            (Target::Member(id), Action::Register(value)) => {
                let (id, value) = (std::mem::take(id), std::mem::take(value));
                let origin = Origin { peer: request.peer, since: request.since };
                self.register(&token, id, value, origin).await
            }
            _ => self.get(&token, &ask, request.peer).await,
        }
    }
}

/// The first event at or after `index` that somebody who watches `target` should be told.
/// Whoever waits for one member wants it however long ago it came.
fn event<'t>(token: &'t Token, target: &Target, index: u64) -> Option<&'t DiscoveryMember> {
    match target {
        Target::Member(id) => token.member(id),
        Target::Members | Target::Size => token
            .members
            .iter()
            .filter(|m| m.created_index >= index)
            .min_by_key(|m| m.created_index),
    }
}

fn failed(error: &StoreError) -> Response {
    error!(%error, "discovery cannot read or write the state");
    Fault::unavailable().answer(1)
}

/// `/a/b` of `http://host:port/a/b/`.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("", |at| rest[at..].trim_end_matches('/'))
}

/// What a token looks like: 32 lower-case hex digits.
fn is_token(text: &str) -> bool {
    text.len() == 32 && is_hex(text)
}

/// etcd prints a member's id in hex without padding.
fn is_member_id(text: &str) -> bool {
    (1..=16).contains(&text.len()) && is_hex(text)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
