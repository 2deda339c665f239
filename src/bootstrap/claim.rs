//! First contact, and who speaks afterwards.
//!
//! The token of a server's user data is no secret: Heat shows it to every reader of the project.
//! It opens one thing, once for each name, for a server that proves that it is that server: a
//! certificate for a key of its own. All else is asked for with that certificate.
//!
//! The certificate is itself a record of what was decided. Where the state is older than it, as
//! after a restore, the name is bound to it again: it can only be later than what is on record if
//! we gave it to whoever came after that.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tracing::{info, warn};

use super::http::{self, Endpoint, Fault};
use super::{Bootstrap, Caller, Seen, TRIES, admission};
use crate::base::http::server::{Request, Response, json as json_response};
use crate::conductor::NotLetIn;
use crate::model::first_contact::Guarantee;
use crate::model::node::{Node, Phase, PhaseState};
use crate::model::node_key::{Dispute, Holder, NodeKey};
use crate::pki::enrolment::Enrolment;
use crate::pki::identity::{Identity, key_of_request};
use crate::store::{Change, StoreError};

/// How often somebody else's claim of the same name is looked into and counted.
const DISPUTES: Duration = Duration::from_secs(60);
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The certificate of its first contact.
    Key,
    /// A certificate of ours that is later than what is on record: the state was restored.
    Later(Box<Holder>),
    /// The token, of a server that made its first contact before there were certificates.
    Former,
    /// The token.
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
    /// Who asks, if he may ask this, and what is on record of him.
    pub(super) fn caller(
        &self,
        request: &Request,
        node: &str,
        endpoint: Endpoint<'_>,
    ) -> Result<(Caller, Seen), Fault> {
        if endpoint != Endpoint::Claim
            && let Some(certificate) = &request.certificate
        {
            return self.holder(request, certificate, node);
        }
        let (mut caller, seen) = self.bearer(request, node)?;
        if endpoint == Endpoint::Claim {
            return Ok((caller, seen));
        }
        let has_key = seen.key.as_ref().is_some_and(|key| key.holder.is_some());
        caller.proof = match seen.node.as_ref().and_then(|n| n.instance.as_deref()) {
            None => Proof::Token,
            Some(_) if has_key => return Err(Fault::forbidden(KEYLESS)),
            Some(owner) if owner == caller.instance => Proof::Former,
            Some(_) => return Err(taken()),
        };
        let is_ready = seen.node.as_ref().is_some_and(|node| node.is_ready());
        let may = match (&caller.proof, endpoint) {
            // They are shown how to have a key, or not listened to.
            (_, Endpoint::Bundle | Endpoint::Duty) => true,
            (Proof::Former, Endpoint::Status | Endpoint::DutyAnswer | Endpoint::JoinUpload) => true,
            // It has begun its first boot with a magnumd that knew tokens only.
            (Proof::Former, Endpoint::Csr | Endpoint::Join | Endpoint::Artifact(_)) => !is_ready,
            _ => false,
        };
        if may { Ok((caller, seen)) } else { Err(Fault::forbidden(KEYLESS)) }
    }

    /// Whoever shows a token that fits the name.
    fn bearer(&self, request: &Request, node: &str) -> Result<(Caller, Seen), Fault> {
        let claims = self.authenticate(request)?;
        let instance = http::instance(request)?.to_string();
        let seen = self.look(claims.cluster, node)?;
        let guest = admission::admit(&claims, &seen.cluster, &seen.groups, node)?;
        let (source, vendor_secret) = (request.peer.ip(), http::vendor_secret(request));
        let (cluster, proof) = (claims.cluster, Proof::Token);
        Ok((Caller { guest, cluster, instance, proof, source, vendor_secret }, seen))
    }

    /// Whoever shows the certificate of a first contact: the listener has seen that it is of its
    /// own CA and that he has the key.
    fn holder(
        &self,
        request: &Request,
        certificate: &[u8],
        node: &str,
    ) -> Result<(Caller, Seen), Fault> {
        let (identity, key) = Identity::read(certificate)
            .ok_or_else(|| Fault::forbidden("The certificate is no node's."))?;
        if identity.node != node {
            return Err(Fault::forbidden(
                "The certificate is of another node than the path names.",
            ));
        }
        let Identity { cluster, instance, since, .. } = identity;
        let seen = self.look(cluster, node)?;
        let record = seen.key.as_ref().map(|known| &known.record);
        let address = request.peer.ip().to_canonical().to_string();
        let holder = Holder { instance, key, certificate: pem(certificate), since, address };
        let is_his = record.is_some_and(|known| known.is_held_by(&holder));
        let proof = match is_his {
            true if seen.node.is_some() => Proof::Key,
            false if record.is_some_and(|known| !known.is_before(since)) => {
                return Err(Fault::forbidden(
                    "The certificate is not that of the server which has this node's name now.",
                ));
            }
            _ => Proof::Later(Box::new(holder.clone())),
        };
        let guest = admission::known(&seen.cluster, &seen.groups, node)?;
        let (source, instance) = (request.peer.ip(), holder.instance);
        Ok((Caller { guest, cluster, instance, proof, source, vendor_secret: None }, seen))
    }

    /// Writes down what a certificate of ours says that is later than our records, if Nova still
    /// has that server.
    pub(super) async fn bind_again(&self, caller: &Caller, holder: &Holder) -> Result<(), Fault> {
        let (node, cluster, instance) = (&caller.guest.name, caller.cluster, &caller.instance);
        let is_here = self.conductor.is_server_of(caller.visitor()).await?
            && self.conductor.is_rebuilt(cluster, node, instance).await?;
        if !is_here {
            return Err(Fault::forbidden(
                "The certificate is of a server that is gone or rebuilt.",
            ));
        }
        for _ in 0..TRIES {
            let seen = self.look(cluster, node)?;
            let record = seen.key.as_ref().map(|known| &known.record);
            let is_his = record.is_some_and(|known| known.is_held_by(holder));
            if is_his && seen.node.is_some() {
                return Ok(());
            }
            if !is_his && record.is_some_and(|known| !known.is_before(holder.since)) {
                return Err(Fault::later("The node's name is being claimed by others; try again."));
            }
            let mut next = record.cloned().unwrap_or_else(|| NodeKey::free(cluster, node.clone()));
            next.holder = Some(holder.clone());
            let change = self.unchanged(caller, &seen, &next);
            let claimed = self.claimed(caller, seen.node.as_ref().map(|n| &n.record));
            match self.store.commit(change.put(&claimed).put(&next)).await {
                Ok(()) => {
                    let source = caller.source;
                    warn!(
                        %cluster, node, instance, %source,
                        "node bound again: its certificate is later than the state"
                    );
                    self.metrics.claimed("restored");
                    return Ok(());
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Fault::later("The node's record is being changed by others; try again."))
    }

    /// A change that is made only of what was seen.
    fn unchanged(&self, caller: &Caller, seen: &Seen, next: &NodeKey) -> Change {
        let change = Change::new().expect_exists(&seen.cluster.record);
        let change = match &seen.key {
            Some(known) => change.expect(known),
            None => change.expect_absent(next),
        };
        match &seen.node {
            Some(node) => change.expect(node),
            None => change.expect_absent(&self.claimed(caller, None)),
        }
    }

    fn authenticate(&self, request: &Request) -> Result<Enrolment, Fault> {
        let unauthorized = |sentence: &str| Fault::new(StatusCode::UNAUTHORIZED, sentence);
        let token = http::token(request).ok_or_else(|| {
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
    pub(super) async fn claim(&self, caller: &Caller, request: &str) -> Result<Response, Fault> {
        let Caller { guest, cluster, instance, source, .. } = caller;
        let key = key_of_request(request)?;
        let mut proof = None;
        for _ in 0..TRIES {
            let seen = self.look(*cluster, &guest.name)?;
            let standing = standing(&seen, instance, &key);
            if let Standing::His(certificate) = standing {
                self.metrics.claimed("again");
                return Ok(given(&certificate));
            }
            let now = self.clock.now();
            let dispute = seen.key.as_ref().and_then(|k| k.dispute.as_ref());
            let is_told = dispute.is_some_and(|known| now.since(known.at) < DISPUTES);
            if is_told && matches!(standing, Standing::Taken(_)) {
                self.metrics.claimed("disputed");
                return Err(taken());
            }
            // The cloud is asked once; the loop is for the commit.
            let guarantee = match proof {
                Some(guarantee) => guarantee,
                None => self.prove(caller).await?,
            };
            proof = Some(guarantee);
            let mut next = match &seen.key {
                Some(known) => known.record.clone(),
                None => NodeKey::free(*cluster, guest.name.clone()),
            };
            let change = self.unchanged(caller, &seen, &next);
            let (change, outcome) = match &standing {
                Standing::Taken(owner) => {
                    warn!(
                        %cluster, node = guest.name, owner, instance, %source, %guarantee,
                        "the name of a node was claimed twice"
                    );
                    let times = next.dispute.as_ref().map_or(0, |d| d.times).saturating_add(1);
                    let (address, instance) = (source.to_string(), instance.clone());
                    next.dispute = Some(Dispute { address, instance, at: now, times });
                    (change, Err(taken()))
                }
                _ => {
                    // Later than what a rebuild has ended, whatever became of the clock.
                    let since = next.earliest(now);
                    let identity = Identity {
                        cluster: *cluster,
                        node: guest.name.clone(),
                        instance: instance.clone(),
                        since,
                    };
                    let certificate = identity.issue(&self.authority, request, &self.entropy)?;
                    let node = self.claimed(caller, seen.node.as_ref().map(|n| &n.record));
                    let answer = given(&certificate);
                    let (instance, key) = (instance.clone(), key.clone());
                    let address = caller.source.to_canonical().to_string();
                    next.holder = Some(Holder { instance, key, certificate, since, address });
                    (change.put(&node), Ok(answer))
                }
            };
            match self.store.commit(change.put(&next)).await {
                Ok(()) => {
                    match &outcome {
                        Ok(_) => {
                            let node = &guest.name;
                            info!(%cluster, node, instance, %source, %guarantee, "node claimed");
                            self.metrics.claimed("first");
                        }
                        Err(_) => self.metrics.claimed("disputed"),
                    }
                    return outcome;
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Fault::later("The node's record is being changed by others; try again."))
    }

    /// What the caller proves of itself. Whoever was refused a moment ago, and brings no secret, is
    /// refused without a call.
    pub(super) async fn prove(&self, caller: &Caller) -> Result<Guarantee, Fault> {
        let (node, cluster) = (&caller.guest.name, caller.cluster);
        if self.pace.is_refused(caller) {
            self.metrics.claimed("refused");
            // Nobody has judged this request: it may be let in later, and the node comes again.
            let sentence = "This server was refused a moment ago; try again later.";
            return Err(Fault::new(StatusCode::TOO_MANY_REQUESTS, sentence));
        }
        let judged = self.conductor.first_contact(caller.visitor()).await;
        if matches!(judged, Err(NotLetIn::Refused(_))) {
            self.pace.refused(caller);
            self.metrics.claimed("refused");
        }
        let guarantee = judged?;
        if !self.conductor.is_rebuilt(cluster, node, &caller.instance).await? {
            self.metrics.claimed("refused");
            return Err(Fault::later(
                "The server is about to be rebuilt: what runs on it is this node no more.",
            ));
        }
        Ok(guarantee)
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

/// The DER of a certificate as text.
fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", lines.join("\n"))
}

pub(super) fn taken() -> Fault {
    Fault::new(
        StatusCode::CONFLICT,
        "Another server or key has claimed this node's name before. If this server has lost its \
         disk or its key, it cannot be this node again: replace it, a worker with openstack coe \
         cluster resize --nodes-to-remove, a master by an upgrade, which rebuilds it.",
    )
}
