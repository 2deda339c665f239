//! Walking a rule's tree for one caller and one target.

use std::borrow::Cow;
use std::collections::HashMap;

use tracing::error;

use super::DEFAULT;
use super::parse::{Check, Pattern, Piece};
use crate::api::column::{Column, Columns};
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::labels::Labels;
use crate::model::requester::Requester;

/// Who asks, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'r> {
    pub requester: &'r Requester,
    /// What `context_is_admin` said.
    pub is_admin: bool,
}

/// What it is about.
#[derive(Clone, Copy, Debug)]
pub struct Target<'t> {
    object: Object<'t>,
    trustee_domain_id: Option<&'t str>,
}

#[derive(Clone, Copy, Debug)]
enum Object<'t> {
    Own(&'t Requester),
    Cluster(&'t Cluster),
    Template(&'t ClusterTemplate),
}

impl<'t> Target<'t> {
    /// Something of the caller's own, such as what they are about to make.
    pub const fn own(requester: &'t Requester, trustee_domain_id: Option<&'t str>) -> Self {
        Self { object: Object::Own(requester), trustee_domain_id }
    }

    pub const fn cluster(cluster: &'t Cluster, trustee_domain_id: Option<&'t str>) -> Self {
        Self { object: Object::Cluster(cluster), trustee_domain_id }
    }

    pub const fn template(
        template: &'t ClusterTemplate,
        trustee_domain_id: Option<&'t str>,
    ) -> Self {
        Self { object: Object::Template(template), trustee_domain_id }
    }

    /// The attribute of that name, as text. What an object does not have yet, such as its
    /// trustee, has no text that a caller could be equal to.
    fn get(&self, key: &str) -> Option<Cow<'t, str>> {
        match (self.object, key) {
            (_, "trustee_domain_id") => self.trustee_domain_id.map(Cow::Borrowed),
            (Object::Own(requester), "project_id") => {
                requester.project_id.as_deref().map(Cow::Borrowed)
            }
            (Object::Own(requester), "user_id") => Some(Cow::Borrowed(&requester.user_id)),
            (Object::Own(_), _) => None,
            (Object::Cluster(cluster), "trustee_user_id") => {
                cluster.trustee_user_id.as_deref().map(Cow::Borrowed)
            }
            (Object::Cluster(cluster), _) => column(cluster, &cluster.labels, key),
            (Object::Template(template), _) => column(template, &template.labels, key),
        }
    }
}

fn column<'t>(record: &'t impl Columns, labels: &'t Labels, key: &str) -> Option<Cow<'t, str>> {
    match key.strip_prefix("labels.") {
        Some(label) => labels.get(label).map(Cow::Borrowed),
        None => record.column(key).map(Column::printed),
    }
}

impl Credentials<'_> {
    /// Whether the attribute of that name, or one of its elements, is `wanted`.
    fn has(&self, name: &str, wanted: &str) -> bool {
        let r = self.requester;
        let text = match name {
            "user_id" | "user" => Some(r.user_id.as_str()),
            "user_name" => Some(r.user_name.as_str()),
            "project_id" | "tenant" | "tenant_id" => r.project_id.as_deref(),
            "project_name" => r.project_name.as_deref(),
            "project_domain_id" => r.project_domain_id.as_deref(),
            // Where trustees are told from users, their own domain is meant; upstream's
            // middleware fills only the longer name, so its rule never denies.
            "user_domain_id" | "domain_id" => Some(r.user_domain_id.as_str()),
            "user_domain_name" | "domain_name" => Some(r.user_domain_name.as_str()),
            "system_scope" => r.system_scope.then_some("all"),
            "is_admin" => Some(truth(self.is_admin)),
            // Only clouds that name a project of administrators say otherwise.
            "is_admin_project" => Some(truth(true)),
            "roles" => return r.roles.iter().any(|role| role == wanted),
            _ => None,
        };
        text == Some(wanted)
    }
}

/// A boolean as Python prints it, which is what rules compare with.
const fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// The walk has no outcome: neither yes nor no, whatever `not` stands before it.
#[derive(Clone, Copy, Debug)]
enum Undecided<'w> {
    Endless,
    Remote(&'w str),
}

/// Names may lead in circles and trees may branch at every one: both are bounded.
struct Walk<'w> {
    rules: &'w HashMap<String, Check>,
    who: &'w Credentials<'w>,
    target: &'w Target<'w>,
    steps: u32,
}

const MOST_STEPS: u32 = 10_000;
const DEEPEST: u32 = 100;

pub fn evaluate(
    rules: &HashMap<String, Check>,
    rule: &str,
    who: &Credentials<'_>,
    target: &Target<'_>,
) -> bool {
    let mut walk = Walk { rules, who, target, steps: MOST_STEPS };
    match walk.rule(rule, DEEPEST) {
        Ok(allowed) => allowed,
        Err(Undecided::Endless) => {
            error!(rule, "a policy rule has no end; it allows nobody");
            false
        }
        Err(Undecided::Remote(url)) => {
            error!(rule, url, "a policy rule asks another service, which magnumd does not; denied");
            false
        }
    }
}

impl<'w> Walk<'w> {
    fn rule(&mut self, name: &str, depth: u32) -> Result<bool, Undecided<'w>> {
        match self.rules.get(name).or_else(|| self.rules.get(DEFAULT)) {
            Some(check) => self.check(check, depth),
            None => Ok(false),
        }
    }

    fn check(&mut self, check: &'w Check, depth: u32) -> Result<bool, Undecided<'w>> {
        let deeper = depth.checked_sub(1).ok_or(Undecided::Endless)?;
        self.steps = self.steps.checked_sub(1).ok_or(Undecided::Endless)?;
        Ok(match check {
            Check::Always => true,
            Check::Never => false,
            Check::Not(inner) => !self.check(inner, deeper)?,
            Check::All(parts) => {
                for part in parts {
                    if !self.check(part, deeper)? {
                        return Ok(false);
                    }
                }
                true
            }
            Check::Any(parts) => {
                for part in parts {
                    if self.check(part, deeper)? {
                        return Ok(true);
                    }
                }
                false
            }
            Check::Rule(name) => self.rule(name, deeper)?,
            Check::Role(pattern) => {
                self.fill(pattern).is_some_and(|role| self.who.requester.has_role(&role))
            }
            Check::Attribute { name, pattern } => {
                self.fill(pattern).is_some_and(|wanted| self.who.has(name, &wanted))
            }
            Check::Literal { text, pattern } => {
                self.fill(pattern).is_some_and(|wanted| *text == *wanted)
            }
            Check::Remote(url) => return Err(Undecided::Remote(url)),
        })
    }

    /// The pattern with the target's values; nothing if the target lacks one.
    fn fill(&self, pattern: &'w Pattern) -> Option<Cow<'w, str>> {
        match pattern.0.as_slice() {
            [] => Some(Cow::Borrowed("")),
            [Piece::Text(text)] => Some(Cow::Borrowed(text)),
            [Piece::Key(key)] => self.target.get(key),
            pieces => {
                let mut filled = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => filled.push_str(text),
                        Piece::Key(key) => filled.push_str(&self.target.get(key)?),
                    }
                }
                Some(Cow::Owned(filled))
            }
        }
    }
}
