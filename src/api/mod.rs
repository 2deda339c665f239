//! The REST listener: container-infra v1 as Magnum's clients know it.
//!
//! One request, start to end: path, token, version, policy, handler, answer. Handlers see no
//! HTTP; status codes are known to [`error`] and [`reply`] only. Reads need no lock, no task
//! and, with a known token, no network.

mod bookmark;
mod coerce;
mod column;
mod context;
mod cors;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod keyed_lock;
mod link;
mod page;
mod patch;
mod policy;
mod python_literal;
mod reply;
mod route;
#[cfg(test)]
mod tests;
mod unrepeated;
mod v1;
mod vendordata;
mod version;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use tracing::{Instrument, debug, error_span, field};

use crate::base::clock::Clock;
use crate::base::http::server::{Request, Response, Service, json, response};
use crate::base::id::Entropy;
use crate::base::party::Party;
use crate::base::pool::Pool;
use crate::base::secret::Secret;
use crate::conductor::Conductor;
use crate::openstack::token::{TokenError, Tokens, Validated};
use crate::pki::ca_cache::CaCache;
use crate::pki::csr;
use crate::store::Store;
use bookmark::Bookmarks;
use context::{Caller, Context};
use error::{ApiError, Outcome};
use keyed_lock::KeyedLocks;
pub use policy::{
    Credentials as PolicyCredentials, Policy, PolicyError, Source as PolicySource,
    Target as PolicyTarget, Watch as PolicyWatch, sample as policy_sample,
};
use reply::Reply;
use route::Resource;

/// What the operator decided about this listener.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keystone's public URL, shown to callers without a token.
    pub www_authenticate_uri: String,
    /// Our own URL without a path: the scheme of links, and the host for those who name none.
    pub own_url: String,
    /// The longest page of a list.
    pub max_limit: usize,
    /// Whether a proxy in front of us sets `X-Forwarded-*`.
    pub trust_proxy_headers: bool,
    /// Web pages of which sites may ask us; `*` is any.
    pub cors_origins: Vec<String>,
    /// While this file exists, `/healthcheck` sends load balancers elsewhere.
    pub healthcheck_disable_file: Option<PathBuf>,
    /// After which silence `mservices` calls a conductor down.
    pub service_down_time: Duration,
    pub csr_rules: csr::Rules,
    pub certificate_validity: Duration,
    /// The domain of trustees, as soon as somebody knows it.
    pub trustee_domain_id: Arc<OnceLock<String>>,
    /// What quotas show for a project without one of its own.
    pub max_clusters_per_project: u32,
    /// Templates that a project may have; administrators may make more.
    pub max_templates_per_project: u32,
}

/// What this listener is made of.
pub struct Parts {
    pub store: Store,
    pub conductor: Conductor,
    pub tokens: Tokens,
    pub clock: Clock,
    pub entropy: Entropy,
    pub settings: Settings,
    /// Where lists are read: not where others are answered.
    pub scans: Pool,
}

/// Answers requests of the container-infra API.
pub struct Api {
    store: Store,
    conductor: Conductor,
    tokens: Tokens,
    clock: Clock,
    entropy: Entropy,
    settings: Settings,
    locks: KeyedLocks,
    ca_cache: CaCache,
    bookmarks: Bookmarks,
    scans: Pool,
    /// Replaced whole when the operator's files change; a request keeps the one it began with.
    policy: RwLock<Arc<Policy>>,
    watch: Mutex<Option<PolicyWatch>>,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");

impl Service for Api {
    async fn handle(&self, request: Request) -> Response {
        let request_id = self.entropy.request_id();
        // Of the highest level, so that no filter takes the names from the lines.
        let span = error_span!("request", request_id, cluster = field::Empty);
        let answer = async {
            let Some(origin) = cors::allowed(&request.headers, &self.settings.cors_origins) else {
                return self.answer(&request, &request_id).await;
            };
            let mut response = match cors::preflight(&request) {
                Some(told) => numbered(told, &request_id),
                None => self.answer(&request, &request_id).await,
            };
            cors::share(&mut response, &origin);
            response
        };
        answer.instrument(span).await
    }

    fn route(&self, request: &Request) -> &'static str {
        route::resource(&request.path).map_or("none", |resource| resource.pattern())
    }

    fn crowded(&self) -> Response {
        let request_id = self.entropy.request_id();
        let response = ApiError::crowded().into_response(&request_id, "");
        numbered(response, &request_id)
    }
}

impl Api {
    async fn answer(&self, request: &Request, request_id: &str) -> Response {
        let caller = match route::resource(&request.path) {
            Some(resource) if resource.is_public() => None,
            // Whoever has no token is not told what exists and what does not.
            resource => {
                let writes = resource.is_some_and(|resource| resource.writes(&request.method));
                Some(self.authenticate(request, writes).await)
            }
        };
        self.answer_as(request, caller, request_id).await
    }

    pub fn new(parts: Parts) -> Self {
        let Parts { store, conductor, tokens, clock, entropy, settings, scans } = parts;
        let policy = RwLock::new(Arc::new(Policy::builtin()));
        let (locks, ca_cache, watch) =
            (KeyedLocks::default(), CaCache::default(), Mutex::new(None));
        let bookmarks = Bookmarks::default();
        Self {
            store,
            conductor,
            tokens,
            clock,
            entropy,
            settings,
            locks,
            ca_cache,
            bookmarks,
            scans,
            policy,
            watch,
        }
    }

    /// The same listener with other rules.
    pub fn with_policy(self, policy: Policy) -> Self {
        self.replace_policy(policy);
        self
    }

    /// Other rules from now on, and the files to look after for more.
    pub fn follow(&self, policy: Policy, watch: PolicyWatch) {
        // Held over both, so that rules from the files before do not come last.
        let mut held = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        self.replace_policy(policy);
        *held = Some(watch);
    }

    fn replace_policy(&self, policy: Policy) {
        // Nothing panics while holding it; if something did, what is in it is still whole.
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks after the operator's policy files for as long as it is polled.
    pub async fn keep_policy(self: Arc<Self>) {
        const INTERVAL: Duration = Duration::from_secs(1);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let api = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                let mut held = api.watch.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(policy) = held.as_mut().and_then(PolicyWatch::look) {
                    api.replace_policy(policy);
                }
            });
            // It has panicked: the rules stay as they are.
            let Ok(()) = looked.await else { return };
        }
    }

    fn trustee_domain(&self) -> Option<&str> {
        self.settings.trustee_domain_id.get().map(String::as_str)
    }

    /// Who asks: only the token tells, never a header that names a user. What is read may be shown
    /// by what Keystone said last; for what writes, it is asked once more.
    async fn authenticate(&self, request: &Request, writes: bool) -> Outcome<Caller> {
        let token = request.header("x-auth-token").filter(|token| !token.is_empty());
        let token = token.ok_or_else(ApiError::unauthenticated)?;
        let token = Secret::new(token.to_owned());
        let source = request.peer.ip();
        if !writes {
            let requester = self.tokens.validate_from(&token, source).await?;
            return Ok(Caller { requester, token, is_confirmed: false });
        }
        let validated = Box::pin(self.tokens.validate_anew_from(&token, source)).await?;
        let Validated { owner: requester, is_confirmed } = validated;
        Ok(Caller { requester, token, is_confirmed })
    }

    /// Everything after authentication; `caller` is absent where none is needed.
    async fn answer_as(
        &self,
        request: &Request,
        caller: Option<Outcome<Caller>>,
        request_id: &str,
    ) -> Response {
        let resource = route::resource(&request.path);
        let asked = version::negotiate(&request.headers);
        let outcome = match caller.transpose() {
            Ok(caller) => {
                self.serve(request, resource.as_ref(), &asked, caller.as_ref(), request_id).await
            }
            Err(e) => Err(e),
        };
        let mut response = outcome
            .unwrap_or_else(|e| e.into_response(request_id, &self.settings.www_authenticate_uri));
        let headers = response.headers_mut();
        if resource.as_ref().is_some_and(Resource::is_versioned) {
            let served = match asked {
                Ok(asked) => Some(asked.version),
                Err(version::VersionError::OutOfRange(version)) => Some(version),
                Err(version::VersionError::Malformed(_)) => None,
            };
            version::announce(headers, served);
        }
        debug!(
            global_request_id = request.header(REQUEST_ID.as_str()).filter(|id| is_request_id(id)),
            method = %request.method,
            path = request.path,
            peer = %request.peer,
            status = response.status().as_u16(),
            "request"
        );
        numbered(response, request_id)
    }

    async fn serve(
        &self,
        request: &Request,
        resource: Option<&Resource>,
        asked: &Result<version::Asked, version::VersionError>,
        caller: Option<&Caller>,
        request_id: &str,
    ) -> Outcome<Response> {
        let resource = resource.ok_or_else(ApiError::no_route)?;
        if !resource.takes(&request.method) {
            return Err(ApiError::wrong_method(resource.allow()));
        }
        if matches!(resource, Resource::Healthcheck) {
            return Ok(self.healthcheck(request));
        }
        accepts_json(request)?;
        let settings = &self.settings;
        let base = link::base(&request.headers, &settings.own_url, settings.trust_proxy_headers);
        match (resource, caller) {
            (Resource::Root, _) => return Ok(Reply::shown(&v1::root(&base))?.into_response()),
            (Resource::Version, _) => {
                asked.as_ref().map_err(ApiError::from)?;
                return Ok(Reply::shown(&v1::version(&base))?.into_response());
            }
            _ => {}
        }
        let caller = caller.ok_or_else(ApiError::unauthenticated)?;
        let asked = *asked.as_ref().map_err(ApiError::from)?;
        let cx = Context::new(self, request, caller, asked, &base, request_id);
        // What is shared is taken in turns by projects from here on.
        let project = caller.requester.project_id.as_deref();
        let party = project.map_or_else(Party::default, |project| Party::Project(project.into()));
        let reply = match party.scope(dispatch(&cx, resource, &request.method)).await {
            // A token that was remembered may have ended meanwhile: its owner must log in anew.
            Err(e) if e.is_not_accepted() => match self.tokens.confirm(&caller.token).await {
                Err(TokenError::Invalid) => return Err(TokenError::Invalid.into()),
                _ => return Err(e),
            },
            reply => reply?,
        };
        Ok(reply.into_response())
    }

    fn healthcheck(&self, request: &Request) -> Response {
        let disabled =
            self.settings.healthcheck_disable_file.as_ref().is_some_and(|file| file.exists());
        let (status, reason) = match disabled {
            true => (StatusCode::SERVICE_UNAVAILABLE, "DISABLED BY FILE"),
            false => (StatusCode::OK, "OK"),
        };
        let wants_json = request.header("accept").is_some_and(|a| a.contains("json"));
        match wants_json {
            true => json(status, &serde_json::json!({ "detailed": false, "reasons": [reason] })),
            false => response(status, "text/plain; charset=UTF-8", reason),
        }
    }
}

/// The answer with the number under which the log knows its request.
fn numbered(mut response: Response, request_id: &str) -> Response {
    if let Ok(value) = HeaderValue::try_from(request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// `req-` and a UUID: what the caller calls the whole of which this request is a part.
fn is_request_id(text: &str) -> bool {
    text.strip_prefix("req-").is_some_and(|id| uuid::Uuid::parse_str(id).is_ok())
}

/// We have nothing but JSON. An empty header, as one SDK sends it, asks for nothing special.
fn accepts_json(request: &Request) -> Outcome<()> {
    let Some(accept) = request.header("accept").filter(|a| !a.trim().is_empty()) else {
        return Ok(());
    };
    let fits = accept.split(',').any(|range| {
        let media = range.split(';').next().unwrap_or_default().trim();
        matches!(media, "*/*" | "application/*" | "*") || media.ends_with("json")
    });
    match fits {
        true => Ok(()),
        false => Err(ApiError::not_acceptable("Only application/json is served.")),
    }
}

/// Resource and method to handler. [`Resource::takes`] has refused other methods.
///
/// What waits for the cloud is boxed: its state would otherwise be carried by every read.
async fn dispatch(cx: &Context<'_>, resource: &Resource, method: &Method) -> Outcome<Reply> {
    use v1::{
        certificates, clusters, clustertemplates, credentials, federations, mservices, nodegroups,
        quotas, stats,
    };
    match (resource, method) {
        (Resource::VendorData, _) => vendordata::give(cx),
        (Resource::Templates, &Method::GET) => clustertemplates::list(cx, false).await,
        (Resource::TemplatesDetail, &Method::GET) => clustertemplates::list(cx, true).await,
        (Resource::Templates, &Method::POST) => Box::pin(clustertemplates::create(cx)).await,
        (Resource::Template(id), &Method::GET) => clustertemplates::show(cx, id),
        (Resource::Template(id), &Method::PATCH) => {
            Box::pin(clustertemplates::update(cx, id)).await
        }
        (Resource::Template(id), _) => Box::pin(clustertemplates::delete(cx, id)).await,
        (Resource::TemplatesDetail, &Method::PATCH) => {
            Box::pin(clustertemplates::update(cx, "detail")).await
        }
        (Resource::TemplatesDetail, _) => Box::pin(clustertemplates::delete(cx, "detail")).await,
        (Resource::Templates, _) => Err(nameless("cluster_template_ident")),

        (Resource::Clusters, &Method::GET) => clusters::list(cx, false).await,
        (Resource::ClustersDetail, &Method::GET) => clusters::list(cx, true).await,
        (Resource::Clusters, &Method::POST) => Box::pin(clusters::create(cx)).await,
        (Resource::Cluster(id), &Method::GET) => clusters::show(cx, id),
        (Resource::Cluster(id), &Method::PATCH) => Box::pin(clusters::update(cx, id)).await,
        (Resource::Cluster(id), _) => Box::pin(clusters::delete(cx, id)).await,
        (Resource::ClustersDetail, &Method::PATCH) => {
            Box::pin(clusters::update(cx, "detail")).await
        }
        (Resource::ClustersDetail, _) => Box::pin(clusters::delete(cx, "detail")).await,
        (Resource::Clusters, _) => Err(nameless("cluster_ident")),
        (Resource::Resize(id), _) => Box::pin(clusters::resize(cx, id)).await,
        (Resource::Upgrade(id), _) => Box::pin(clusters::upgrade(cx, id)).await,

        (Resource::NodeGroups(id), &Method::GET) => nodegroups::list(cx, id).await,
        (Resource::NodeGroup(id, group), &Method::GET) => nodegroups::show(cx, id, group),
        (Resource::NodeGroups(id), &Method::POST) => Box::pin(nodegroups::create(cx, id)).await,
        (Resource::NodeGroup(id, group), &Method::DELETE) => {
            Box::pin(nodegroups::delete(cx, id, group)).await
        }
        (Resource::NodeGroup(id, group), _) => Box::pin(nodegroups::update(cx, id, group)).await,
        (Resource::NodeGroups(_), _) => Err(nameless("nodegroup_id")),

        (Resource::Certificate(id), &Method::GET) => certificates::show(cx, id),
        (Resource::Certificate(id), _) => Box::pin(certificates::rotate(cx, id)).await,
        (Resource::Certificates, &Method::POST) => Box::pin(certificates::sign(cx)).await,
        (Resource::Certificates, _) => Err(nameless("cluster_ident")),
        (Resource::Credential(id), _) => Box::pin(credentials::rotate(cx, id)).await,
        (Resource::Credentials, _) => Err(nameless("cluster_ident")),

        (Resource::Stats, _) => stats::show(cx).await,
        (Resource::Services, _) => mservices::list(cx),
        (Resource::Quotas, &Method::GET) => quotas::list(cx),
        (Resource::Quota(project, kind), &Method::GET) => quotas::show(cx, project, kind),
        (Resource::Quotas, &Method::POST) => Box::pin(quotas::create(cx)).await,
        (Resource::Quota(project, kind), &Method::PATCH) => {
            Box::pin(quotas::update(cx, project, kind)).await
        }
        (Resource::Quota(project, kind), _) => Box::pin(quotas::delete(cx, project, kind)).await,
        (Resource::Quotas, _) => Err(nameless("project_id")),

        (Resource::Federations, &Method::GET) => federations::list(cx, false),
        (Resource::FederationsDetail, &Method::GET) => federations::list(cx, true),
        (Resource::Federations, &Method::POST) => federations::create(cx),
        (Resource::Federation(id), method) => federations::missed(cx, method, id),
        (Resource::FederationsDetail, method) => federations::missed(cx, method, "detail"),
        (Resource::Federations, _) => Err(nameless("federation_ident")),

        (Resource::Root | Resource::Version | Resource::Healthcheck, _) => {
            Err(ApiError::no_route())
        }
    }
}

/// A collection was asked for what only a member can do.
fn nameless(argument: &str) -> ApiError {
    ApiError::invalid(format!("Missing argument: \"{argument}\""))
}
