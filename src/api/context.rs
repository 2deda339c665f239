//! Context: one request as handlers see it: who asks, in which version, and what they reach.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use super::error::{ApiError, Outcome};
use super::page::Query;
use super::policy::{Credentials, Policy, Target};
use super::version::{Asked, Version};
use super::{Api, coerce};
use crate::base::http::server::Request;
use crate::base::secret::Secret;
use crate::conductor::RequestContext;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::requester::Requester;
use crate::model::{ClusterId, TemplateId};
use crate::store::{Scope, StoreError, Stored, View};

/// A caller whose token was validated.
#[derive(Clone, Debug)]
pub struct Caller {
    pub requester: Arc<Requester>,
    pub token: Secret<String>,
    /// Whether Keystone was asked for this request, and answered.
    pub is_confirmed: bool,
}

/// All that a handler needs.
pub struct Context<'a> {
    pub api: &'a Api,
    pub caller: &'a Caller,
    pub asked: Asked,
    /// The base of links, without a slash at the end.
    pub base: &'a str,
    pub request_id: &'a str,
    /// What `context_is_admin` said.
    pub is_admin: bool,
    /// The rules of this request, whatever the operator does meanwhile.
    policy: Arc<Policy>,
    request: &'a Request,
    query: Query<'a>,
}

/// Whose things a request reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility<'r> {
    Project(&'r str),
    Everyone,
    /// Only the cluster whose trustee this user is: its token has no project.
    Trustee(&'r str),
}

/// What a trustee may do to its own cluster without any role.
const TRUSTEE_RULES: [&str; 4] =
    ["certificate:get", "certificate:create", "cluster:get", "cluster:update_health_status"];

impl<'a> Context<'a> {
    pub fn new(
        api: &'a Api,
        request: &'a Request,
        caller: &'a Caller,
        asked: Asked,
        base: &'a str,
        request_id: &'a str,
    ) -> Self {
        let policy = api.policy();
        let is_admin = policy.is_admin(&caller.requester);
        let query = Query::parse(request.query.as_deref());
        Self { api, caller, asked, base, request_id, is_admin, policy, request, query }
    }

    pub fn requester(&self) -> &'a Requester {
        &self.caller.requester
    }

    /// Keystone is asked about the caller of everything that writes before that is looked at, and
    /// while it gives no answer, its last one counts. Not so for what lives on by the caller's token
    /// after the answer: it would fail later, where nobody logs in anew.
    pub async fn confirm_token(&self) -> Outcome<()> {
        match self.caller.is_confirmed {
            true => Ok(()),
            false => Ok(self.api.tokens.confirm(&self.caller.token).await?),
        }
    }

    /// The caller's project; rules for projects have refused callers without one.
    pub fn project(&self) -> Outcome<&'a str> {
        self.requester()
            .project_id
            .as_deref()
            .ok_or_else(|| ApiError::forbidden("This needs a token that is scoped to a project."))
    }

    pub fn tenant(&self) -> RequestContext<'_> {
        RequestContext {
            requester: &self.caller.requester,
            token: &self.caller.token,
            request_id: self.request_id,
        }
    }

    /// The request's arguments, if they are all known.
    pub fn query(&self, known: &[&str]) -> Outcome<&Query<'a>> {
        self.query.only(known)?;
        Ok(&self.query)
    }

    /// The body as JSON; `argument` is what the handler calls it.
    pub fn body(&self, argument: &str) -> Outcome<Value> {
        let bytes = self.request.body.as_ref().map_err(|e| ApiError::from(*e))?;
        if !bytes.is_empty() {
            let kind = self.request.header("content-type").unwrap_or_default();
            let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let is_json = media == "application/json"
                || (media.starts_with("application/") && media.ends_with("+json"));
            if !is_json {
                let shown: String = kind.chars().take(100).collect();
                return Err(ApiError::not_json(&shown));
            }
        }
        coerce::json(bytes, argument)
    }

    /// Refuses versions that do not have this yet.
    pub fn since(&self, version: Version, name: &str) -> Outcome<()> {
        match self.asked.version >= version {
            true => Ok(()),
            false => Err(ApiError::not_acceptable(format!(
                "Version {} was requested but the requested API {name} is not supported for \
                 this version.",
                self.asked.version
            ))),
        }
    }

    /// Whose things the caller reaches. An administrator reaches all, if the rule for that
    /// (where Magnum has one) allows it; failing it is a refusal, not a narrower view.
    pub fn reach(&self, everywhere: Option<&str>) -> Outcome<Visibility<'a>> {
        if self.is_admin {
            if let Some(rule) = everywhere {
                self.allow(rule)?;
            }
            return Ok(Visibility::Everyone);
        }
        let requester = self.requester();
        Ok(match requester.project_id.as_deref() {
            Some(project) => Visibility::Project(project),
            None => Visibility::Trustee(&requester.user_id),
        })
    }

    /// A rule about something of the caller's own.
    pub fn allow(&self, rule: &str) -> Outcome<()> {
        self.ask(rule, &Target::own(self.requester(), self.api.trustee_domain()))
    }

    /// A rule about one cluster.
    pub fn allow_cluster(&self, rule: &str, cluster: &Cluster) -> Outcome<()> {
        let is_trustee = cluster.trustee_user_id.as_ref() == Some(&self.requester().user_id);
        if is_trustee && TRUSTEE_RULES.contains(&rule) {
            return Ok(());
        }
        self.ask(rule, &Target::cluster(cluster, self.api.trustee_domain()))
    }

    /// A rule about one template.
    pub fn allow_template(&self, rule: &str, template: &ClusterTemplate) -> Outcome<()> {
        self.ask(rule, &Target::template(template, self.api.trustee_domain()))
    }

    fn ask(&self, rule: &str, target: &Target<'_>) -> Outcome<()> {
        let requester = self.requester();
        let is_scoped = requester.project_id.is_some() || !Policy::is_for_projects(rule);
        let who = Credentials { requester, is_admin: self.is_admin };
        match is_scoped && self.policy.allows(rule, &who, target) {
            true => Ok(()),
            false => Err(ApiError::policy(rule)),
        }
    }

    /// Reads at one moment.
    pub fn read<T>(&self, look: impl FnOnce(&View) -> Outcome<T>) -> Outcome<T> {
        self.api.store.read(|view| Ok(look(view)))?
    }

    /// Reads at one moment what is too much for a thread that answers others.
    pub async fn scan<T: Send + 'static>(
        &self,
        scope: Scope<'_>,
        look: impl FnOnce(&View, Scope<'_>) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let store = self.api.store.clone();
        let project = match scope {
            Scope::Project(project) => Some(project.to_owned()),
            Scope::Everyone => None,
        };
        let looking = self.api.scans.run(move || {
            let scope = project.as_deref().map_or(Scope::Everyone, Scope::Project);
            store.read(|view| Ok(look(view, scope)))
        });
        looking.await.map_err(|e| ApiError::internal().because(e))??
    }

    /// A cluster by uuid or name, for handlers that read nothing else with it.
    pub fn cluster(&self, ident: &str, everywhere: Option<&str>) -> Outcome<Stored<Cluster>> {
        let reach = self.reach(everywhere)?;
        self.read(|view| find_cluster(view, ident, reach))
    }

    /// A template by uuid or name, among those the caller may see.
    pub fn template(
        &self,
        ident: &str,
        everywhere: Option<&str>,
    ) -> Outcome<Stored<ClusterTemplate>> {
        let reach = self.reach(everywhere)?;
        self.read(|view| find_template(view, ident, reach))
    }
}

impl<'r> Visibility<'r> {
    pub fn covers(self, cluster: &Cluster) -> bool {
        match self {
            Self::Project(project) => cluster.project_id == project,
            Self::Everyone => true,
            Self::Trustee(user) => cluster.trustee_user_id.as_deref() == Some(user),
        }
    }

    pub fn sees(self, template: &ClusterTemplate) -> bool {
        match self {
            Self::Project(project) => template.is_visible_to(project),
            Self::Everyone => true,
            Self::Trustee(_) => false,
        }
    }

    /// The scope of a list; nothing for a trustee, who has no lists.
    pub fn scope(self) -> Option<Scope<'r>> {
        match self {
            Self::Project(project) => Some(Scope::Project(project)),
            Self::Everyone => Some(Scope::Everyone),
            Self::Trustee(_) => None,
        }
    }
}

/// What a request is about and what it says, where both may be wrong. Whoever may not do it is told
/// that; else the body comes first, as upstream reads it before it looks anything up.
pub fn body_first<T, B>(target: Outcome<T>, body: Outcome<B>) -> Outcome<(T, B)> {
    match (target, body) {
        (Err(refused), Err(_)) if refused.status() == StatusCode::FORBIDDEN => Err(refused),
        (target, body) => body.and_then(|body| Ok((target?, body))),
    }
}

/// One cluster by uuid, in any spelling, else by name. What is out of reach does not exist.
pub fn find_cluster(view: &View, ident: &str, reach: Visibility<'_>) -> Outcome<Stored<Cluster>> {
    let mut found = match Uuid::parse_str(ident) {
        Ok(id) => Vec::from_iter(cluster_of(view, ClusterId::new(id), reach)?),
        Err(_) => {
            let scope = reach.scope().unwrap_or(Scope::Everyone);
            let mut named = view.clusters_named(ident, scope)?;
            // The index drops what cannot stand in a key, such as NUL.
            named.retain(|cluster| cluster.name == ident);
            named
        }
    };
    found.retain(|cluster| reach.covers(cluster));
    let found = only(found, || ApiError::missing("Cluster", shown(ident)), "clusters", "cluster")?;
    concerns(found.id);
    Ok(found)
}

/// The record of a cluster, whoever owns it. One that is damaged is an error for those whose it is,
/// who must not take it for deleted, and for all others not there.
pub fn cluster_of(
    view: &View,
    id: ClusterId,
    reach: Visibility<'_>,
) -> Outcome<Option<Stored<Cluster>>> {
    let found = view.cluster(id);
    let Err(StoreError::Corrupt(_)) = &found else { return Ok(found?) };
    let is_theirs = match reach {
        Visibility::Project(project) => view.has_cluster(project, id)?,
        Visibility::Everyone => true,
        Visibility::Trustee(_) => false,
    };
    if is_theirs { Ok(found?) } else { Ok(None) }
}

/// The record of a template, whoever owns it. A damaged one is there for administrators alone, who
/// can delete it: nobody can make anything of it, and its owner makes another.
pub fn template_of(
    view: &View,
    id: TemplateId,
    reach: Visibility<'_>,
) -> Outcome<Option<Stored<ClusterTemplate>>> {
    match view.template(id) {
        Err(StoreError::Corrupt(_)) if reach != Visibility::Everyone => Ok(None),
        found => Ok(found?),
    }
}

/// Whether the record of a template is there and cannot be read.
pub fn is_damaged_template(view: &View, id: TemplateId) -> bool {
    matches!(view.template(id), Err(StoreError::Corrupt(_)))
}

/// The log lines of this request are about this cluster.
pub fn concerns(cluster: ClusterId) {
    tracing::Span::current().record("cluster", tracing::field::display(cluster));
}

/// One template by uuid, in any spelling, else by name.
pub fn find_template(
    view: &View,
    ident: &str,
    reach: Visibility<'_>,
) -> Outcome<Stored<ClusterTemplate>> {
    let mut found = match Uuid::parse_str(ident) {
        Ok(id) => {
            let id = TemplateId::new(id);
            let found = template_of(view, id, reach)?;
            if let Visibility::Project(project) = reach
                && found.is_none()
                && is_damaged_template(view, id)
                && view.has_template(project, id)?
            {
                return Err(ApiError::missing_sentence(format!(
                    "ClusterTemplate {id} could not be found: its record is damaged. Create another \
                     one; an administrator can delete what is left of this one."
                )));
            }
            Vec::from_iter(found)
        }
        Err(_) => {
            let mut named = view.templates_named(ident)?;
            named.retain(|template| template.name == ident);
            named
        }
    };
    found.retain(|template| reach.sees(template));
    let missing = || ApiError::missing("ClusterTemplate", shown(ident));
    only(found, missing, "ClusterTemplates", "ClusterTemplate")
}

/// The one that was found; names are not unique.
pub fn only<R>(
    mut found: Vec<R>,
    missing: impl FnOnce() -> ApiError,
    plural: &str,
    kind: &str,
) -> Outcome<R> {
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(missing()),
        (Some(_), false) => Err(ApiError::conflict(format!(
            "Multiple {plural} exist with same name. Please use the {kind} uuid instead."
        ))),
    }
}

fn shown(ident: &str) -> String {
    ident.chars().take(300).collect()
}
