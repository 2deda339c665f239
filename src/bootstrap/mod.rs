//! The node bootstrap listener: servers fetch their files, get certificates and report progress.
//!
//! A server proves by its enrolment token which node it may be, and by Nova that it is that
//! server; the first to do so keeps the name, and has a certificate for a key of its own from
//! then on, without which it gets nothing else. Key material leaves only through here, only to
//! such a server, and only until the node has reported ready.

mod admission;
mod artifact;
mod claim;
mod csr;
mod duty;
mod http;
mod join;
mod kit;
mod metrics;
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
use crate::conductor::{Conductor, Visitor};
use crate::model::ClusterId;
use crate::model::certificate::Purpose;
use crate::model::cluster::Cluster;
use crate::model::node::{Node, PhaseState};
use crate::model::node_key::NodeKey;
use crate::model::nodegroup::NodeGroup;
use crate::pki::KeyPairPem;
use crate::pki::authority::Authority;
use crate::pki::ca_cache::CaCache;
use crate::pki::enrolment::EnrolmentKey;
use crate::store::{Change, Store, StoreError, Stored};
use admission::NodeIdentity;
use artifact::Artifacts;
use claim::{ClaimRequest, Proof};
use csr::CsrRequest;
use duty::{DutyAnswer, DutyRequest};
use http::{Endpoint, Fault};
use join::JoinUpload;
pub use kit::CLAIM;
pub use metrics::BootstrapMetrics;
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
    /// The listener's CA, which signs what nodes show from their first contact on.
    pub authority: KeyPairPem,
    pub clock: Clock,
    pub entropy: Entropy,
    /// Where files lie that nodes may ask for by their digest.
    pub artifact_dir: Option<PathBuf>,
}

/// The service behind the listener.
pub struct Bootstrap {
    store: Store,
    conductor: Conductor,
    enrolment: EnrolmentKey,
    authority: KeyPairPem,
    clock: Clock,
    entropy: Entropy,
    ca_cache: CaCache,
    metrics: BootstrapMetrics,
    artifacts: Artifacts,
    pace: Pace,
}

/// What the bootstrap listener puts up with.
pub fn limits() -> Limits {
    Limits { connections: 4096, body_bytes: 64 << 10, answers_bytes: 16 << 20, ..Limits::default() }
}

/// What is stored of a node and of the cluster it belongs to, at one moment.
struct Seen {
    cluster: Stored<Cluster>,
    groups: Vec<NodeGroup>,
    node: Option<Stored<Node>>,
    key: Option<Stored<NodeKey>>,
}

/// A caller whose proof and name fit together.
struct Caller {
    guest: NodeIdentity,
    cluster: ClusterId,
    /// The Nova server it says it is; believed once the name is claimed.
    instance: String,
    proof: Proof,
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

    /// Whether the name is on record as that of the server which asks. Whoever shows a token may
    /// name any server, so its word alone is nobody's.
    const fn is_bound(&self) -> bool {
        matches!(self.proof, Proof::Key | Proof::Former)
    }

    /// Whether it has shown the certificate of its first contact.
    const fn has_key(&self) -> bool {
        matches!(self.proof, Proof::Key | Proof::Later(_))
    }
}

impl Bootstrap {
    pub fn new(parts: Parts) -> Self {
        let Parts { store, conductor, enrolment, authority, clock, entropy, artifact_dir } = parts;
        let (artifacts, ca_cache) = (Artifacts::new(artifact_dir), CaCache::default());
        let (metrics, pace) = (BootstrapMetrics::default(), Pace::new(clock.clone()));
        Self {
            store,
            conductor,
            enrolment,
            authority,
            clock,
            entropy,
            ca_cache,
            metrics,
            artifacts,
            pace,
        }
    }

    pub const fn metrics(&self) -> &BootstrapMetrics {
        &self.metrics
    }

    /// Reads the operator's files, so that their digests are known when the first node asks.
    pub async fn read_artifacts(&self) {
        self.artifacts.read().await;
    }

    async fn answer(&self, request: &Request) -> Result<Response, Fault> {
        let (node, endpoint) = http::route(request)?;
        let (caller, seen) = self.caller(request, node, endpoint)?;
        Span::current().record("cluster", field::display(caller.cluster));
        let nodes = seen.groups.iter().map(|group| group.node_count).sum();
        let _place = self.pace.admit(&caller, caller.is_bound(), nodes).await?;
        let guests = Party::Guests(caller.cluster.uuid());
        guests.scope(Box::pin(self.run(request, endpoint, &caller))).await
    }

    /// What the caller came for.
    async fn run(
        &self,
        request: &Request,
        endpoint: Endpoint<'_>,
        caller: &Caller,
    ) -> Result<Response, Fault> {
        if let Proof::Later(holder) = &caller.proof {
            self.bind_again(caller, holder).await?;
        }
        let has_key = caller.has_key();
        if caller.proof == Proof::Former && self.asks_as_first(caller, endpoint)? {
            self.prove(caller).await?;
        }
        match endpoint {
            // The body is read before the name is claimed: nonsense costs no call to Nova.
            Endpoint::Claim => {
                let asked: ClaimRequest = http::body(request)?;
                self.claim(caller, &asked.csr).await
            }
            Endpoint::Bundle | Endpoint::Duty if !has_key => self.packed(caller, kit::kit()).await,
            Endpoint::Bundle => {
                still_booting(&self.node(caller)?)?;
                self.bundle(caller).await
            }
            Endpoint::Artifact(digest) => self.artifacts.answer(artifact::digest(digest)?).await,
            Endpoint::Csr => {
                let asked: CsrRequest = http::body(request)?;
                let is_master = caller.guest.master_index.is_some();
                let allowed = self.conductor.purposes(caller.cluster, is_master)?;
                let purpose = Purpose::of(&asked.purpose, &caller.guest, &allowed)?;
                let renews = has_key && self.renews(caller)?;
                if !renews {
                    still_booting(&self.node(caller)?)?;
                }
                self.certificate(caller, purpose, asked.csr, renews).await
            }
            Endpoint::Status => {
                let report = Report::try_from(http::body::<StatusRequest>(request)?)?;
                self.report(caller, &report).await
            }
            Endpoint::Duty => {
                let is_ready = self.node(caller)?.is_ready();
                match self.duty(caller).await? {
                    // It is asked by a timer that starts when the boot is nearly over.
                    Some(files) => self.packed(caller, files).await,
                    None if !is_ready => self.packed(caller, kit::ask_again()).await,
                    None => Ok(empty(StatusCode::NO_CONTENT)),
                }
            }
            // Anybody may say so who has the token. The node has a key soon, is given the duty once
            // more, and says it then.
            Endpoint::DutyAnswer if !has_key => Ok(empty(StatusCode::NO_CONTENT)),
            Endpoint::DutyAnswer => {
                let answer = DutyAnswer::try_from(http::body::<DutyRequest>(request)?)?;
                self.take_duty_answer(caller, answer).await
            }
            Endpoint::Join => {
                self.joins_by_secrets(caller)?;
                still_booting(&self.node(caller)?)?;
                self.join_secret(caller)
            }
            Endpoint::JoinUpload => {
                let given: JoinUpload = http::body(request)?;
                given.check()?;
                self.joins_by_secrets(caller)?;
                join::may_hand_over(&caller.guest)?;
                self.take_join_secrets(caller, given).await
            }
        }
    }

    fn look(&self, cluster: ClusterId, node: &str) -> Result<Seen, Fault> {
        let seen = self.store.read(|view| {
            let Some(found) = view.cluster(cluster)? else { return Ok(None) };
            let groups = view.nodegroups(cluster)?.into_iter().map(|g| g.record).collect();
            let (key, node) = (view.node_key(cluster, node)?, view.node(cluster, node)?);
            Ok(Some(Seen { cluster: found, groups, node, key }))
        })?;
        seen.ok_or_else(Fault::gone)
    }

    fn joins_by_secrets(&self, caller: &Caller) -> Result<(), Fault> {
        match self.conductor.joins_by_secrets(caller.cluster)? {
            true => Ok(()),
            false => Err(Fault::forbidden("Nodes of this cluster's driver join without secrets.")),
        }
    }

    /// Whether a node without a key has to prove at this endpoint, again, who it is.
    fn asks_as_first(&self, caller: &Caller, endpoint: Endpoint<'_>) -> Result<bool, Fault> {
        Ok(match endpoint {
            // There is no secret in the kit, nothing in an answer, and a claim proves for itself.
            Endpoint::Bundle | Endpoint::Duty | Endpoint::DutyAnswer | Endpoint::Claim => false,
            // Afterwards only the time is kept, and what is handed over needs a secret.
            Endpoint::Status | Endpoint::JoinUpload => !self.node(caller)?.is_ready(),
            Endpoint::Csr | Endpoint::Join | Endpoint::Artifact(_) => true,
        })
    }

    /// What is on record of the caller, who has claimed the name before.
    fn node(&self, caller: &Caller) -> Result<Node, Fault> {
        // Looked up when the caller was let in, so only a deletion can have taken it away.
        let seen = self.look(caller.cluster, &caller.guest.name)?;
        Ok(seen.node.ok_or_else(Fault::gone)?.record)
    }

    async fn bundle(&self, caller: &Caller) -> Result<Response, Fault> {
        let files = self.conductor.node_files(caller.cluster, &caller.guest.name).await?;
        self.packed(caller, files.into_iter().map(|f| (f.path, f.mode, f.content)).collect()).await
    }

    async fn packed(&self, caller: &Caller, mut files: Vec<File>) -> Result<Response, Fault> {
        kit::complete(&mut files);
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
        let certificate = self.ca_cache.with(&stored, self.store.sealer(), issue).await?;
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
                Err(StoreError::Conflict) => {}
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
        match http::route(request) {
            Ok((_, Endpoint::Claim)) => "claim",
            Ok((_, Endpoint::Bundle)) => "bundle",
            Ok((_, Endpoint::Artifact(_))) => "artifact",
            Ok((_, Endpoint::Csr)) => "csr",
            Ok((_, Endpoint::Status)) => "status",
            Ok((_, Endpoint::Duty)) => "duty",
            Ok((_, Endpoint::DutyAnswer)) => "duty-answer",
            Ok((_, Endpoint::Join)) => "join",
            Ok((_, Endpoint::JoinUpload)) => "hand-over",
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
