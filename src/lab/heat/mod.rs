//! A Heat that reads HOT for real and refuses what Heat refuses.
//!
//! Templates are parsed, their functions evaluated and their properties checked against the
//! schemas of the types a container cluster is made of. Stacks are built in the order of their
//! dependencies by asking [`services::Services`] for servers, ports and networks; they fail with
//! Heat's sentences, time out, nest, change and go away again. Sentences and shapes follow Heat
//! 2025.2 and later with its convergence engine.

mod advance;
mod api;
mod combine;
mod constraint;
mod engine;
mod environment;
mod failure;
mod functions;
mod graph;
mod group;
mod intake;
mod listing;
mod nested;
mod outlook;
mod own;
mod parameters;
mod pattern;
mod plan;
mod refusal;
mod retire;
mod schema;
pub mod services;
mod stack;
mod template;
mod text;
mod validate;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::engine::Caller;
use self::engine::Engine;
use self::services::Services;
use crate::base::clock::Clock;
use crate::base::http::server::{Request, Response};
use crate::base::id::Entropy;

/// One Heat, with all its stacks.
#[derive(Debug)]
pub struct Heat<S> {
    engine: Arc<Engine<S>>,
}

impl<S: Services> Heat<S> {
    /// Needs a running Tokio: every stack has a task of its own, which ends with this value.
    pub fn new(services: Arc<S>, clock: Clock, entropy: Entropy) -> Self {
        Self { engine: Engine::new(services, clock, entropy) }
    }

    /// Answers a request whose token was found good. The path is `/v1/{project}/…`.
    pub async fn handle(&self, caller: Caller, request: &Request) -> Response {
        api::answer(self, &caller, request)
    }

    /// The version document at `/`, for which nobody needs a token.
    pub fn versions(request: &Request) -> Response {
        api::versions(request)
    }

    /// Living root stacks: project, name, id, status such as `CREATE_COMPLETE`.
    pub fn stacks(&self) -> Vec<(String, String, String, String)> {
        let world = self.engine.world();
        let live = world.stacks.values().filter(|s| s.parent.is_none() && !s.is_gone());
        live.map(|s| {
            let identity = s.identity.clone();
            (identity.project, identity.name, identity.id, s.state())
        })
        .collect()
    }
}
