//! Cluster templates.

mod form;
mod view;

use serde_json::{Map, Value};
use uuid::Uuid;

pub use form::check_storage;
use form::{KNOWN, Origin, READ_ONLY};
use view::{TemplateList, template_view};

use super::super::bookmark::{Listed, Shelf};
use super::super::coerce::Fields;
use super::super::context::{Context, Visibility, body_first, is_damaged_template, template_of};
use super::super::error::{ApiError, Outcome};
use super::super::page::{LIST_ARGUMENTS, Listing, Marker, PAGE_BYTES, Shown};
use super::super::patch::{Patch, Rules};
use super::super::reply::Reply;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::{Sequence, TemplateId, name};
use crate::store::repair::{BadPlace, RepairError};
use crate::store::{Change, Page, Scope, StoreError, Stored, View};

const PATCH_RULES: Rules = Rules {
    internal: &[],
    mandatory: &[
        "coe",
        "image_id",
        "network_driver",
        "external_network_id",
        "tls_disabled",
        "public",
        "server_type",
        "registry_enabled",
        "cluster_distro",
        "hidden",
    ],
    structured: &["labels"],
};

/// `GET /v1/clustertemplates` and `/detail`, which show the same.
pub async fn list(cx: &Context<'_>, detail: bool) -> Outcome<Reply> {
    let query = cx.query(&LIST_ARGUMENTS)?;
    let (rule, everywhere, path) = match detail {
        false => {
            ("clustertemplate:get_all", "clustertemplate:get_all_all_projects", "clustertemplates")
        }
        true => (
            "clustertemplate:detail",
            "clustertemplate:detail_all_projects",
            "clustertemplates/detail",
        ),
    };
    cx.allow(rule)?;
    let reach = cx.reach(Some(everywhere))?;
    let listing = Listing::read::<ClusterTemplate>(query, cx.api.settings.max_limit)?;
    let Some(scope) = reach.scope() else {
        // A trustee sees none.
        return Reply::shown(&TemplateList { clustertemplates: Vec::new(), next: None });
    };
    let base = cx.base.to_owned();
    let shelf = cx.api.bookmarks.shelf(Listed::Templates, scope);
    cx.scan(scope, move |view, scope| {
        let (templates, shown) = page(view, &listing, &shelf, scope)?;
        let last = templates.last();
        let last = last.map(|t| (t.id.uuid().into(), listing.place(&t.record, t.sequence)));
        Reply::shown(&TemplateList {
            next: listing.next(&base, path, shown, last, &shelf),
            clustertemplates: templates.iter().map(|t| template_view(t, &base)).collect(),
        })
    })
    .await
}

fn page(
    view: &View,
    listing: &Listing,
    shelf: &Shelf,
    scope: Scope<'_>,
) -> Outcome<(Vec<Stored<ClusterTemplate>>, Shown)> {
    let reach = match scope {
        Scope::Everyone => Visibility::Everyone,
        Scope::Project(project) => Visibility::Project(project),
    };
    let marker = match listing.marker {
        None => None,
        Some(id) => {
            let marker = listing.behind(id, shelf, || {
                let found = template_of(view, TemplateId::new(id), reach)?;
                let found = found.filter(|t| reach.sees(t));
                Ok(found.map(|t| listing.place(&t.record, t.sequence)))
            })?;
            Some(marker.ok_or_else(|| ApiError::missing("ClusterTemplate", id))?)
        }
    };
    let templates = match listing.is_by_making() {
        true => {
            let after = match &marker {
                None => None,
                Some(Marker::At(place)) => Some(place.made),
                Some(Marker::Departed(gone)) => {
                    view.template_place(scope, gone.drawn, listing.descending)?
                }
            };
            by_making(view, scope, listing.page(after))?
        }
        false => {
            let mut ranked = Vec::new();
            view.each_template(scope, |t| ranked.push(listing.rank(t, t.sequence, t.id)))?;
            let picked = listing.pick(ranked, marker.as_ref(), |id| id.uuid());
            view.templates_of(&picked, PAGE_BYTES)?
        }
    };
    let shown = Shown::of(templates.len(), templates.iter().map(|t| t.size).sum());
    Ok((templates, shown))
}

/// A page in order of making. A project's own templates and what others show it are two lists,
/// each of which may have ended early.
fn by_making(view: &View, scope: Scope<'_>, page: Page) -> Outcome<Vec<Stored<ClusterTemplate>>> {
    let Scope::Project(project) = scope else { return Ok(view.templates(scope, page)?) };
    let (own, others) = (view.templates(scope, page)?, view.templates_for(project, page)?);
    let sign = |sequence: Sequence| match page.descending {
        true => u64::MAX - sequence.0,
        false => sequence.0,
    };
    // Behind the end of a list that has ended early there may be more of it.
    let end = |list: &[Stored<ClusterTemplate>]| {
        let is_cut = list.iter().map(|t| t.size).sum::<usize>() >= page.bytes;
        list.last().filter(|_| is_cut).map_or(u64::MAX, |last| sign(last.sequence))
    };
    let end = end(&own).min(end(&others));
    let mut both: Vec<_> = own.into_iter().chain(others).collect();
    both.retain(|t| sign(t.sequence) <= end);
    both.sort_by_key(|t| sign(t.sequence));
    let mut bytes = 0;
    let fits = |t: &Stored<ClusterTemplate>| {
        let fits = bytes < page.bytes;
        bytes += t.size;
        fits
    };
    Ok(both.into_iter().take(page.limit).take_while(fits).collect())
}

/// `GET /v1/clustertemplates/{id}`
pub fn show(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    let template = cx.template(id, Some("clustertemplate:get_one_all_projects"))?;
    if !template.public {
        cx.allow_template("clustertemplate:get", &template)?;
    }
    Reply::shown(&template_view(&template, cx.base))
}

/// `POST /v1/clustertemplates`
pub async fn create(cx: &Context<'_>) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow("clustertemplate:create")?;
    let body = cx.body("cluster_template")?;
    let mut fields = Fields::new("cluster_template", body, &KNOWN, &READ_ONLY)?;
    let given = fields.uuid("uuid")?;
    let now = cx.api.clock.now();
    let origin = Origin {
        id: TemplateId::new(given.unwrap_or_else(|| cx.api.entropy.record_id(now))),
        sequence: cx.api.store.next_sequence(),
        project_id: cx.project()?.to_owned(),
        user_id: cx.requester().user_id.clone(),
        fallback_name: name::generated("template", cx.api.entropy.bytes()),
        created_at: now,
    };
    let mut template = form::template(fields, origin)?;
    if template.public || template.hidden {
        may_publish(cx)?;
    }
    check_with_cloud(cx, &mut template, true).await?;
    let mut change = Change::new().expect_absent(&template).put(&template);
    if !cx.is_admin {
        let limit = cx.api.settings.max_templates_per_project;
        change = change.expect_fewer_templates(&template.project_id, limit);
    }
    match cx.api.store.commit(change).await {
        Ok(()) => {}
        Err(StoreError::Limit { limit }) => {
            return Err(ApiError::forbidden(format!(
                "Resource limit exceeded: You have reached the maximum cluster templates per \
                 project, {limit}. You may delete a cluster template to make room for a new one."
            )));
        }
        Err(StoreError::Conflict) => {
            return Err(ApiError::conflict(format!(
                "A ClusterTemplate with UUID {} already exists.",
                template.id
            )));
        }
        Err(e) => return Err(e.into()),
    }
    let location = format!("{}/v1/clustertemplates/{}", cx.base, template.id);
    Ok(Reply::created(&template_view(&template, cx.base))?.at(location))
}

/// `PATCH /v1/clustertemplates/{id}`
pub async fn update(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    let named = || {
        let stored = cx.template(id, Some("clustertemplate:update_all_projects"))?;
        cx.allow_template("clustertemplate:update", &stored)?;
        Ok(stored)
    };
    let patch = || Patch::read(&cx.body("patch")?, &PATCH_RULES);
    let (stored, patch) = body_first(named(), patch())?;
    let uuid = stored.id.to_string();
    let held = cx.api.locks.acquire(&uuid).await;
    let mut stored = cx.template(&uuid, None)?;
    loop {
        match lay_over(cx, &stored, &patch).await {
            Ok(template) => return Reply::shown(&template_view(&template, cx.base)),
            Err(e) if held.goes_on_after(&e) => {
                let now = cx.template(&uuid, None)?;
                if now.revision == stored.revision && !is_used(cx, now.id)? {
                    return Err(e);
                }
                stored = now;
            }
            Err(e) => return Err(e),
        }
    }
}

/// Writes what the patch makes of the template, unless that has changed since it was read.
async fn lay_over(
    cx: &Context<'_>,
    stored: &Stored<ClusterTemplate>,
    patch: &Patch,
) -> Outcome<ClusterTemplate> {
    let before = attributes(stored);
    let after = patch.apply(before.clone())?;
    let origin = Origin {
        id: stored.id,
        sequence: stored.sequence,
        project_id: stored.project_id.clone(),
        user_id: stored.user_id.clone(),
        fallback_name: stored.name.clone(),
        created_at: stored.created_at,
    };
    let mut template = form::template(Fields::of(after), origin)?;
    let now = attributes(&template);
    let changed: Vec<&str> = before
        .iter()
        .filter(|(name, value)| now.get(*name) != Some(value))
        .map(|(name, _)| name.as_str())
        .filter(|name| !READ_ONLY.contains(name))
        .collect();
    let is_harmless = is_harmless(&changed, &template);
    if !is_harmless && is_used(cx, stored.id)? {
        return Err(used(stored.id));
    }
    if changed.iter().any(|name| matches!(*name, "public" | "hidden")) {
        may_publish(cx)?;
    }
    if changed.iter().any(|name| !matches!(*name, "public" | "hidden" | "name" | "tags")) {
        check_with_cloud(cx, &mut template, changed.contains(&"cluster_distro")).await?;
    }
    template.updated_at = match changed.is_empty() {
        true => stored.updated_at,
        false => Some(cx.api.clock.now()),
    };
    let mut change = Change::new().expect(stored).put(&template);
    if !is_harmless {
        // A cluster must not have come meanwhile.
        change = change.expect_unused(stored.id);
    }
    cx.api.store.commit(change).await?;
    Ok(template)
}

/// `DELETE /v1/clustertemplates/{id}`
pub async fn delete(cx: &Context<'_>, id: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    if let Some(id) = damaged(cx, id)? {
        return forget(cx, id).await;
    }
    let stored = cx.template(id, Some("clustertemplate:delete_all_projects"))?;
    cx.allow_template("clustertemplate:delete", &stored)?;
    if is_used(cx, stored.id)? {
        return Err(used(stored.id));
    }
    let change = Change::new().expect(&stored).expect_unused(stored.id).delete(&stored.record);
    match cx.api.store.commit(change).await {
        Ok(()) => Ok(Reply::gone()),
        Err(StoreError::Conflict) if is_used(cx, stored.id)? => Err(used(stored.id)),
        Err(e) => Err(e.into()),
    }
}

/// The template that is named, if an administrator asks and it cannot be read.
fn damaged(cx: &Context<'_>, ident: &str) -> Outcome<Option<TemplateId>> {
    let Some(id) = Uuid::parse_str(ident).ok().map(TemplateId::new) else { return Ok(None) };
    let is_administrator = cx.is_admin
        && cx.reach(Some("clustertemplate:delete_all_projects"))? == Visibility::Everyone;
    if !is_administrator || !cx.read(|view| Ok(is_damaged_template(view, id)))? {
        return Ok(None);
    }
    cx.allow("clustertemplate:delete")?;
    Ok(Some(id))
}

/// Deletes a template that cannot be read. Its clusters, should it have some, name it to the end.
async fn forget(cx: &Context<'_>, id: TemplateId) -> Outcome<Reply> {
    if is_used(cx, id)? {
        return Err(used(id));
    }
    let place = BadPlace { table: "cluster_template".to_owned(), key: id.to_string() };
    match cx.api.store.forget(&place).await {
        Ok(_) => Ok(Reply::gone()),
        Err(RepairError::Store(e)) => Err(e.into()),
        // Somebody was faster.
        Err(RepairError::NoTable(_) | RepairError::NotBad { .. }) => {
            Err(ApiError::missing("ClusterTemplate", id))
        }
    }
}

fn is_used(cx: &Context<'_>, id: TemplateId) -> Outcome<bool> {
    cx.read(|view| Ok(view.is_template_used(id)?))
}

fn used(id: TemplateId) -> ApiError {
    ApiError::invalid(format!("ClusterTemplate {id} is referenced by one or multiple clusters."))
}

/// What may change under the clusters that were made from it: one thing at a time.
fn is_harmless(changed: &[&str], template: &ClusterTemplate) -> bool {
    match changed {
        ["name" | "hidden"] => true,
        ["public"] => template.public,
        ["tags"] => template.tags.is_some(),
        _ => false,
    }
}

fn may_publish(cx: &Context<'_>) -> Outcome<()> {
    cx.allow("clustertemplate:publish").map_err(|_| {
        ApiError::forbidden(
            "Not authorized to set public or hidden flag for cluster template. Policy doesn't \
             allow clustertemplate:publish to be performed.",
        )
    })
}

/// Fills in the network driver, then lets the cloud confirm what is named; the distribution too, where
/// the request names one.
async fn check_with_cloud(
    cx: &Context<'_>,
    template: &mut ClusterTemplate,
    names_distro: bool,
) -> Outcome<()> {
    if template.network_driver.is_none() {
        let driver = cx.api.conductor.default_network_driver(template.coe);
        template.network_driver = driver;
    }
    let found = cx.api.conductor.check_template(&cx.tenant(), template).await?;
    let named = template.cluster_distro.as_ref().filter(|_| names_distro);
    if let Some(named) = named.filter(|named| **named != found.cluster_distro) {
        let why = format!(
            "It is the os_distro of image {}, {}: leave cluster_distro away, or choose another image.",
            template.image_id, found.cluster_distro
        );
        return Err(ApiError::field("cluster_distro", named, &why));
    }
    template.cluster_distro = Some(found.cluster_distro);
    Ok(())
}

/// The attributes that a patch works on: what is shown, without the links.
fn attributes(template: &ClusterTemplate) -> Map<String, Value> {
    match serde_json::to_value(template_view(template, "")) {
        Ok(Value::Object(mut map)) => {
            map.remove("links");
            map
        }
        _ => Map::new(),
    }
}
