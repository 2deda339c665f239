//! First contact, and who speaks afterwards.
//!
//! The token of a server's user data is no secret: Heat shows it to every reader of the project.
//! It opens one thing, once for each name: a certificate for a key of the server's own. All else
//! is asked for with that certificate.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tracing::{info, warn};

use super::door::{self, Errand, Fault};
use super::{Bootstrap, Caller, Seen, TRIES, admission};
use crate::base::http::server::{Request, Response, json as json_response};
use crate::model::node::{Node, Phase, PhaseState};
use crate::model::node_key::{Dispute, Holder, NodeKey};
use crate::pki::enrolment::Enrolment;
use crate::pki::identity::{Identity, key_of_request};
use crate::store::{Change, StoreError};

/// How often somebody else's claim of the same name is looked into and counted.
const DISPUTES: Duration = Duration::from_secs(60);
/// How long a node that claimed its name by token alone may take for the rest of its first boot.
const UNDER_WAY: Duration = Duration::from_secs(3600);
const KEYLESS: &str = "The enrolment token opens nothing but POST claim, once: ask with the \
                       certificate that it gave this node's server.";

/// What a node sends to `claim`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// PEM.
    pub csr: String,
}

/// By what a caller is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The certificate of its first contact.
    Key,
    /// The token, of a server that made its first contact before there were certificates.
    Former,
    /// The token, and nobody has claimed the name.
    Token,
}

/// How a name stands to whoever claims it.
enum Standing {
    Free,
    /// His already: the certificate that he was given.
    His(String),
    /// Another's: of this server.
    Taken(String),
}

impl Bootstrap {
    /// Who asks, if he may ask this.
    pub(super) fn caller(
        &self,
        request: &Request,
        node: &str,
        errand: Errand<'_>,
    ) -> Result<Caller, Fault> {
        if let Some(certificate) = &request.certificate {
            return self.holder(certificate, node);
        }
        let mut caller = self.bearer(request, node)?;
        let seen = self.look(caller.cluster, node)?;
        let has_key = seen.key.as_ref().is_some_and(|key| key.holder.is_some());
        caller.proof = match seen.node.as_ref().and_then(|n| n.instance.as_deref()) {
            None => Proof::Token,
            Some(_) if has_key => return Err(Fault::forbidden(KEYLESS)),
            Some(owner) if owner == caller.instance => Proof::Former,
            Some(_) => return Err(taken()),
        };
        let is_new =
            |node: &Node| !node.is_ready() && self.clock.now().since(node.first_seen) < UNDER_WAY;
        let may = match (caller.proof, errand) {
            (Proof::Key, _) | (_, Errand::Bundle | Errand::Duty) => true,
            (Proof::Former, Errand::Status | Errand::DutyAnswer | Errand::HandOver) => true,
            // It has begun its first boot with a magnumd that knew tokens only.
            (Proof::Former, Errand::Csr | Errand::Join | Errand::Artifact(_)) => {
                seen.node.as_deref().is_some_and(is_new)
            }
            _ => false,
        };
        if may { Ok(caller) } else { Err(Fault::forbidden(KEYLESS)) }
    }

    /// Whoever shows a token that fits the name.
    pub(super) fn bearer(&self, request: &Request, node: &str) -> Result<Caller, Fault> {
        let claims = self.authenticate(request)?;
        let instance = door::instance(request)?.to_string();
        let seen = self.look(claims.cluster, node)?;
        let guest = admission::admit(&claims, &seen.cluster, &seen.groups, node)?;
        Ok(Caller { guest, cluster: claims.cluster, instance, proof: Proof::Token })
    }

    /// Whoever shows the certificate of a first contact: the listener has seen that it is of its
    /// own CA and that he has the key.
    fn holder(&self, certificate: &[u8], node: &str) -> Result<Caller, Fault> {
        let (identity, key) = Identity::read(certificate)
            .ok_or_else(|| Fault::forbidden("The certificate is no node's."))?;
        if identity.node != node {
            return Err(Fault::forbidden(
                "The certificate is of another node than the path names.",
            ));
        }
        let seen = self.look(identity.cluster, node)?;
        let holder = seen.key.as_ref().and_then(|k| k.holder.as_ref());
        let known = seen
            .node
            .as_ref()
            .filter(|_| holder.is_some_and(|h| h.key == key && h.instance == identity.instance));
        let known = known.ok_or_else(|| {
            Fault::forbidden(
                "The certificate is not that of the server which has this node's name now.",
            )
        })?;
        let claims = Enrolment {
            cluster: identity.cluster,
            nodegroup: known.nodegroup.clone(),
            role: known.role.clone(),
            node: Some(node.to_owned()),
            expires_at: self.clock.now(),
        };
        let guest = admission::admit(&claims, &seen.cluster, &seen.groups, node)?;
        let Identity { cluster, instance, .. } = identity;
        Ok(Caller { guest, cluster, instance, proof: Proof::Key })
    }

    fn authenticate(&self, request: &Request) -> Result<Enrolment, Fault> {
        let unauthorized = |sentence: &str| Fault::new(StatusCode::UNAUTHORIZED, sentence);
        let token = door::token(request).ok_or_else(|| {
            unauthorized(
                "A node shows its certificate; for POST claim, which gives it one, the token of \
                 its user data: Authorization: Bearer TOKEN.",
            )
        })?;
        self.enrolment
            .verify(token, self.clock.now())
            .ok_or_else(|| unauthorized("The enrolment token is not valid, or has expired."))
    }

    /// Binds the node's name to the caller's server and to its key. The same again is answered
    /// with the same; whoever else claims the name is told of, and gets nothing.
    pub(super) async fn claim(
        &self,
        caller: &Caller,
        request: &str,
        peer: SocketAddr,
    ) -> Result<Response, Fault> {
        let Caller { guest, cluster, instance, .. } = caller;
        let key = key_of_request(request)?;
        let mut is_proven = false;
        for _ in 0..TRIES {
            let seen = self.look(*cluster, &guest.name)?;
            let standing = standing(&seen, instance, &key);
            if let Standing::His(certificate) = standing {
                self.figures.claimed("again");
                return Ok(given(&certificate));
            }
            let now = self.clock.now();
            let dispute = seen.key.as_ref().and_then(|k| k.dispute.as_ref());
            let is_told = dispute.is_some_and(|known| now.since(known.at) < DISPUTES);
            if is_told && matches!(standing, Standing::Taken(_)) {
                self.figures.claimed("disputed");
                return Err(taken());
            }
            // The cloud is asked once; the loop is for the commit.
            if !is_proven {
                self.prove(caller, peer).await?;
                is_proven = true;
            }
            let mut next = match &seen.key {
                Some(known) => known.record.clone(),
                None => NodeKey::free(*cluster, guest.name.clone()),
            };
            let change = Change::new().expect_exists(&seen.cluster.record);
            let change = match &seen.key {
                Some(known) => change.expect(known),
                None => change.expect_absent(&next),
            };
            let change = match &seen.node {
                Some(node) => change.expect(node),
                None => change.expect_absent(&self.claimed(caller, None)),
            };
            let (change, outcome) = match &standing {
                Standing::Taken(owner) => {
                    warn!(
                        %cluster, node = guest.name, owner, instance, %peer,
                        "the name of a node was claimed twice"
                    );
                    let times = next.dispute.as_ref().map_or(0, |d| d.times).saturating_add(1);
                    let (address, instance) = (peer.ip().to_string(), instance.clone());
                    next.dispute = Some(Dispute { address, instance, at: now, times });
                    (change, Err(taken()))
                }
                _ => {
                    let identity = Identity {
                        cluster: *cluster,
                        node: guest.name.clone(),
                        instance: instance.clone(),
                    };
                    let certificate =
                        identity.issue(&self.authority, request, now, &self.entropy)?;
                    let node = self.claimed(caller, seen.node.as_ref().map(|n| &n.record));
                    let answer = given(&certificate);
                    let (instance, key) = (instance.clone(), key.clone());
                    next.holder = Some(Holder { instance, key, certificate, since: now });
                    (change.put(&node), Ok(answer))
                }
            };
            match self.store.commit(change.put(&next)).await {
                Ok(()) => {
                    match &outcome {
                        Ok(_) => {
                            info!(%cluster, node = guest.name, instance, %peer, "node claimed");
                            self.figures.claimed("first");
                        }
                        Err(_) => self.figures.claimed("disputed"),
                    }
                    return outcome;
                }
                Err(StoreError::Stale) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Fault::later("The node's record is being changed by others; try again."))
    }

    /// Whether the caller is the server that it says it is, as far as the cloud can tell.
    async fn prove(&self, caller: &Caller, peer: SocketAddr) -> Result<(), Fault> {
        let Caller { guest, cluster, instance, .. } = caller;
        let (node, cluster) = (&guest.name, *cluster);
        if !self.conductor.is_server_of(cluster, node, instance).await? {
            warn!(%cluster, node, instance, %peer, "not a server of this cluster");
            self.figures.claimed("refused");
            return Err(Fault::forbidden(format!(
                "Nova knows no server {instance} called {node} in the cluster's project."
            )));
        }
        if !self.conductor.is_rebuilt(cluster, node, instance).await? {
            self.figures.claimed("refused");
            return Err(Fault::later(
                "The server is about to be rebuilt: what runs on it is this node no more.",
            ));
        }
        Ok(())
    }

    fn claimed(&self, caller: &Caller, known: Option<&Node>) -> Node {
        let now = self.clock.now();
        let fresh = || Node {
            cluster_id: caller.cluster,
            name: caller.guest.name.clone(),
            nodegroup: caller.guest.nodegroup.clone(),
            role: caller.guest.role().to_owned(),
            instance: None,
            phase: Phase::Booted,
            state: PhaseState::Started,
            message: String::new(),
            log_tail: String::new(),
            first_seen: now,
            last_seen: now,
        };
        let mut node = known.cloned().unwrap_or_else(fresh);
        node.instance = Some(caller.instance.clone());
        node
    }
}

fn standing(seen: &Seen, instance: &str, key: &str) -> Standing {
    let holder = seen.key.as_ref().and_then(|known| known.holder.as_ref());
    let owner = seen.node.as_ref().and_then(|node| node.instance.as_deref());
    match (holder, owner) {
        (Some(holder), _) if holder.key == key && holder.instance == instance => {
            Standing::His(holder.certificate.clone())
        }
        (Some(holder), _) => Standing::Taken(holder.instance.clone()),
        (None, Some(owner)) if owner != instance => Standing::Taken(owner.to_owned()),
        (None, _) => Standing::Free,
    }
}

fn given(certificate: &str) -> Response {
    json_response(StatusCode::OK, &json!({ "certificate": certificate }))
}

fn taken() -> Fault {
    Fault::new(StatusCode::CONFLICT, "Another server or key has claimed this node's name before.")
}
