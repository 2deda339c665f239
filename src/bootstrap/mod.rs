//! The node bootstrap door: servers fetch their files, get certificates and report progress.
//!
//! A server proves by its enrolment token which node it may be, and by Nova that it is that
//! server; the first to do so keeps the name. Key material leaves only through here, only to
//! such a server, and only until the node has reported ready.

mod admission;
mod artifact;
mod csr;
mod door;
mod duty;
mod join;
mod pace;
mod report;

use std::net::IpAddr;
use std::path::PathBuf;

use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use serde_json::json;
use tracing::{Instrument, Span, error_span, field, info, warn};

use crate::base::archive::{File, build};
use crate::base::clock::Clock;
use crate::base::http::server::{
    Limits, Request, Response, Service, empty, json as json_response, response,
};
use crate::base::id::Entropy;
use crate::base::party::Party;
use crate::conductor::{Conductor, NotLetIn, Visitor};
use crate::model::ClusterId;
use crate::model::certificate::Purpose;
use crate::model::cluster::Cluster;
use crate::model::first_contact::Guarantee;
use crate::model::node::{Node, Phase, PhaseState};
use crate::model::nodegroup::NodeGroup;
use crate::pki::authority::Authority;
use crate::pki::desk::Desk;
use crate::pki::enrolment::{Enrolment, EnrolmentKey};
use crate::store::{Change, Store, StoreError, Stored};
use admission::Guest;
use artifact::Artifacts;
use csr::CsrRequest;
use door::{Errand, Fault};
use duty::{DutyAnswer, DutyRequest};
use join::HandOver;
use pace::Pace;
use report::{Report, StatusRequest};

/// How often a commit is tried against others who write the same record.
const TRIES: usize = 8;

/// What the bootstrap interface is made of.
pub struct Parts {
    pub store: Store,
    pub conductor: Conductor,
    /// The key that minted the tokens in the servers' user data.
    pub enrolment: EnrolmentKey,
    pub clock: Clock,
    pub entropy: Entropy,
    /// Where files lie that nodes may ask for by their digest.
    pub artifact_dir: Option<PathBuf>,
}

/// The service behind the door.
pub struct Bootstrap {
    store: Store,
    conductor: Conductor,
    enrolment: EnrolmentKey,
    clock: Clock,
    entropy: Entropy,
    desk: Desk,
    artifacts: Artifacts,
    pace: Pace,
}

/// What the bootstrap door puts up with.
pub fn limits() -> Limits {
    Limits { connections: 4096, body_bytes: 64 << 10, ..Limits::default() }
}

/// What is stored of a node and of the cluster it belongs to, at one moment.
struct Seen {
    cluster: Stored<Cluster>,
    groups: Vec<NodeGroup>,
    node: Option<Stored<Node>>,
}

/// A caller whose token and name fit together.
struct Caller {
    guest: Guest,
    cluster: ClusterId,
    /// The Nova server it says it is; believed once the name is claimed.
    instance: String,
    source: IpAddr,
    vendor_secret: Option<String>,
}

impl Caller {
    fn visitor(&self) -> Visitor<'_> {
        Visitor {
            cluster: self.cluster,
            node: &self.guest.name,
            instance: &self.instance,
            source: self.source,
            vendor_secret: self.vendor_secret.as_deref(),
        }
    }
}

impl Bootstrap {
    pub fn new(parts: Parts) -> Self {
        let Parts { store, conductor, enrolment, clock, entropy, artifact_dir } = parts;
        let artifacts = Artifacts::new(artifact_dir);
        let (desk, pace) = (Desk::default(), Pace::new(clock.clone()));
        Self { store, conductor, enrolment, clock, entropy, desk, artifacts, pace }
    }

    /// Reads the operator's files, so that their digests are known when the first node asks.
    pub async fn read_artifacts(&self) {
        self.artifacts.read().await;
    }

    async fn answer(&self, request: &Request) -> Result<Response, Fault> {
        let (node, errand) = door::route(request)?;
        let claims = self.authenticate(request)?;
        Span::current().record("cluster", field::display(claims.cluster));
        let (caller, seen) = self.caller(&claims, node, request)?;
        let nodes = seen.groups.iter().map(|group| group.node_count).sum();
        let bound = seen.node.as_ref().and_then(|node| node.instance.as_ref());
        let _place = self.pace.admit(&caller, bound == Some(&caller.instance), nodes).await?;
        let guests = Party::Guests(caller.cluster.uuid());
        guests.scope(Box::pin(self.run(request, errand, &caller))).await
    }

    /// What the caller came for.
    async fn run(
        &self,
        request: &Request,
        errand: Errand<'_>,
        caller: &Caller,
    ) -> Result<Response, Fault> {
        // The body is read before the name is claimed: nonsense costs no call to Nova.
        match errand {
            Errand::Bundle => {
                still_booting(&self.claim(caller).await?)?;
                self.bundle(caller).await
            }
            Errand::Artifact(digest) => {
                let digest = artifact::digest(digest)?;
                self.claim(caller).await?;
                self.artifacts.answer(digest).await
            }
            Errand::Csr => {
                let asked: CsrRequest = door::body(request)?;
                let is_master = caller.guest.master_index.is_some();
                let allowed = self.conductor.purposes(caller.cluster, is_master)?;
                let purpose = Purpose::of(&asked.purpose, &caller.guest, &allowed)?;
                let node = self.claim(caller).await?;
                let renews = self.renews(caller)?;
                if !renews {
                    still_booting(&node)?;
                }
                self.certificate(caller, purpose, asked.csr, renews).await
            }
            Errand::Status => {
                let report = Report::try_from(door::body::<StatusRequest>(request)?)?;
                self.claim(caller).await?;
                self.report(caller, &report).await
            }
            Errand::Duty => self.duty(caller).await,
            Errand::DutyAnswer => {
                let answer = DutyAnswer::try_from(door::body::<DutyRequest>(request)?)?;
                self.take_duty_answer(caller, answer).await
            }
            Errand::Join => {
                self.joins_by_secrets(caller)?;
                still_booting(&self.claim(caller).await?)?;
                self.join_secret(caller)
            }
            Errand::HandOver => {
                let given: HandOver = door::body(request)?;
                given.check()?;
                self.joins_by_secrets(caller)?;
                join::may_hand_over(&caller.guest)?;
                self.take_join_secrets(caller, given).await
            }
        }
    }

    fn authenticate(&self, request: &Request) -> Result<Enrolment, Fault> {
        let unauthorized = |sentence: &str| Fault::new(StatusCode::UNAUTHORIZED, sentence);
        let token = door::token(request).ok_or_else(|| {
            unauthorized("An enrolment token is missing: send it as Authorization: Bearer TOKEN.")
        })?;
        self.enrolment
            .verify(token, self.clock.now())
            .ok_or_else(|| unauthorized("The enrolment token is not valid, or has expired."))
    }

    fn caller(
        &self,
        claims: &Enrolment,
        node: &str,
        request: &Request,
    ) -> Result<(Caller, Seen), Fault> {
        let instance = door::instance(request)?.to_string();
        let seen = self.look(claims.cluster, node)?;
        let guest = admission::admit(claims, &seen.cluster, &seen.groups, node)?;
        let (source, vendor_secret) = (request.peer.ip(), door::vendor_secret(request));
        Ok((Caller { guest, cluster: claims.cluster, instance, source, vendor_secret }, seen))
    }

    fn look(&self, cluster: ClusterId, node: &str) -> Result<Seen, Fault> {
        let seen = self.store.read(|view| {
            let Some(found) = view.cluster(cluster)? else { return Ok(None) };
            let groups = view.nodegroups(cluster)?.into_iter().map(|g| g.record).collect();
            Ok(Some(Seen { cluster: found, groups, node: view.node(cluster, node)? }))
        })?;
        seen.ok_or_else(Fault::gone)
    }

    fn joins_by_secrets(&self, caller: &Caller) -> Result<(), Fault> {
        match self.conductor.joins_by_secrets(caller.cluster)? {
            true => Ok(()),
            false => Err(Fault::forbidden("Nodes of this cluster's driver join without secrets.")),
        }
    }

    /// Binds the node's name to the caller's server, or confirms that it is bound to it.
    async fn claim(&self, caller: &Caller) -> Result<Node, Fault> {
        let Caller { guest, cluster, instance, .. } = caller;
        let mut proof = None;
        for _ in 0..TRIES {
            let seen = self.look(*cluster, &guest.name)?;
            let bound = seen.node.as_ref().and_then(|n| n.instance.as_deref());
            match (seen.node.as_ref(), bound) {
                (Some(node), Some(owner)) if owner == instance => return Ok(node.record.clone()),
                (_, Some(owner)) => {
                    warn!(
                        %cluster, node = guest.name, owner, instance,
                        "another server claims the name of a node"
                    );
                    let sentence = "Another server has claimed this node's name before.";
                    return Err(Fault::new(StatusCode::CONFLICT, sentence));
                }
                (_, None) => {}
            }
            // The cloud is asked once; the loop is for the commit.
            let guarantee = match proof {
                Some(guarantee) => guarantee,
                None => self.first_contact(caller).await?,
            };
            proof = Some(guarantee);
            let claimed = self.claimed(caller, seen.node.as_ref().map(|n| &n.record));
            let change = Change::new().expect_exists(&seen.cluster.record);
            let change = match &seen.node {
                Some(node) => change.expect(node),
                None => change.expect_absent(&claimed),
            };
            match self.store.commit(change.put(&claimed)).await {
                Ok(()) => {
                    let (node, source) = (&guest.name, caller.source);
                    info!(%cluster, node, instance, %source, %guarantee, "node claimed");
                }
                Err(StoreError::Stale) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Fault::later("The node's record is being changed by others; try again."))
    }

    /// What the caller proves of itself. Whoever was refused a moment ago, and brings no secret, is
    /// refused without a call.
    async fn first_contact(&self, caller: &Caller) -> Result<Guarantee, Fault> {
        if self.pace.is_refused(caller) {
            // Nobody has judged this request: it may be let in later, and the node comes again.
            let sentence = "This server was refused a moment ago; try again later.";
            return Err(Fault::new(StatusCode::TOO_MANY_REQUESTS, sentence));
        }
        let judged = self.conductor.first_contact(caller.visitor()).await;
        if matches!(judged, Err(NotLetIn::Refused(_))) {
            self.pace.refused(caller);
        }
        Ok(judged?)
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

    async fn bundle(&self, caller: &Caller) -> Result<Response, Fault> {
        let files = self.conductor.node_files(caller.cluster, &caller.guest.name).await?;
        self.packed(caller, files.into_iter().map(|f| (f.path, f.mode, f.content)).collect()).await
    }

    async fn packed(&self, caller: &Caller, files: Vec<File>) -> Result<Response, Fault> {
        // The cluster's age stands for every file's: fetched again, the bytes are the same.
        let created_at = self.look(caller.cluster, &caller.guest.name)?.cluster.created_at;
        let mtime = u64::try_from(created_at.micros() / 1_000_000).unwrap_or(0);
        let built = tokio::task::spawn_blocking(move || build(&files, mtime)).await;
        let bytes = built.map_err(|e| Fault::ours(&e))?.map_err(|e| Fault::ours(&e))?;
        let mut answer = response(StatusCode::OK, "application/x-tar", bytes);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(answer)
    }

    async fn certificate(
        &self,
        caller: &Caller,
        purpose: Purpose,
        request: String,
        renews: bool,
    ) -> Result<Response, Fault> {
        let addresses = self.addresses(caller).await?;
        let api_names = match purpose.is_the_api() {
            true => self.conductor.api_names(caller.cluster, &caller.guest.name).await?,
            false => Vec::new(),
        };
        let leaf = purpose.leaf(&caller.guest, &addresses, &api_names);
        let kind = purpose.authority();
        let stored = self.store.read(|view| {
            Ok(match renews {
                true => view.next_certificate(caller.cluster, kind)?.map(|next| next.record.0),
                false => view.certificate(caller.cluster, kind)?.map(|stored| stored.record),
            })
        })?;
        let stored = stored.ok_or_else(|| Fault::later("The cluster has no keys yet."))?;
        let (now, entropy) = (self.clock.now(), self.entropy.clone());
        let issue =
            move |ca: &Authority| ca.issue(&request, &leaf, ca.ends_at().since(now), now, &entropy);
        let certificate = self.desk.with(&stored, self.store.sealer(), issue).await?;
        info!(cluster = %caller.cluster, node = caller.guest.name, ?purpose, "certificate issued");
        Ok(json_response(StatusCode::OK, &json!({ "certificate": certificate, "ca": stored.pem })))
    }

    /// The node's own addresses, as far as the cloud has told us: a master's is known before
    /// its certificates are made, because the others must reach it.
    async fn addresses(&self, caller: &Caller) -> Result<Vec<IpAddr>, Fault> {
        let Some(index) = caller.guest.master_index else { return Ok(Vec::new()) };
        let all = self.conductor.master_addresses(caller.cluster).await?;
        let own = all.get(index as usize).and_then(|a| a.parse().ok());
        own.map(|a| vec![a]).ok_or_else(|| Fault::later("The node's address is not known yet."))
    }

    async fn report(&self, caller: &Caller, report: &Report) -> Result<Response, Fault> {
        let Caller { guest, cluster, .. } = caller;
        for _ in 0..TRIES {
            let seen = self.look(*cluster, &guest.name)?;
            // Claimed a moment ago, so only a deletion can have taken it away.
            let node = seen.node.ok_or_else(Fault::gone)?;
            if report::is_superfluous(&node.record, self.clock.now()) {
                return Ok(empty(StatusCode::NO_CONTENT));
            }
            let mut next = node.record.clone();
            let moved = report.clone().apply(&mut next, self.clock.now());
            let change = Change::new().expect(&node).expect_exists(&seen.cluster.record);
            match self.store.commit(change.put(&next)).await {
                Ok(()) => {
                    if moved {
                        self.tell(caller, report);
                    }
                    return Ok(empty(StatusCode::NO_CONTENT));
                }
                Err(StoreError::Stale) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Fault::later("The node's record is being changed by others; try again."))
    }

    fn tell(&self, caller: &Caller, report: &Report) {
        let (cluster, node) = (caller.cluster, &caller.guest.name);
        let (phase, state) = (report.phase.as_str(), report.state.as_str());
        match report.state {
            PhaseState::Failed => {
                warn!(%cluster, node, phase, said = ?report.message, "node failed");
            }
            PhaseState::Started | PhaseState::Done => {
                info!(%cluster, node, phase, state, "node reported");
            }
        }
        self.conductor.poke(cluster);
    }
}

/// Keys and certificates are for nodes that are being built.
fn still_booting(node: &Node) -> Result<(), Fault> {
    match node.is_ready() {
        true => Err(Fault::forbidden("The node has reported ready: it has all it needs.")),
        false => Ok(()),
    }
}

impl Service for Bootstrap {
    fn route(&self, request: &Request) -> &'static str {
        match door::route(request) {
            Ok((_, Errand::Bundle)) => "bundle",
            Ok((_, Errand::Artifact(_))) => "artifact",
            Ok((_, Errand::Csr)) => "csr",
            Ok((_, Errand::Status)) => "status",
            Ok((_, Errand::Duty)) => "duty",
            Ok((_, Errand::DutyAnswer)) => "duty-answer",
            Ok((_, Errand::Join)) => "join",
            Ok((_, Errand::HandOver)) => "hand-over",
            Err(_) => "none",
        }
    }

    async fn handle(&self, request: Request) -> Response {
        let request_id = self.entropy.request_id();
        let span = error_span!("request", request_id, cluster = field::Empty);
        let answer = async { self.answer(&request).await.unwrap_or_else(Fault::answer) };
        answer.instrument(span).await
    }
}
