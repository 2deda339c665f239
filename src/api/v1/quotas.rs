//! Quotas: how many clusters a project may have. Without one of its own it has the
//! configured limit.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::super::bookmark::Listed;
use super::super::coerce::{Fields, mandatory};
use super::super::column::Column;
use super::super::context::Context;
use super::super::error::{ApiError, Outcome};
use super::super::page::{LIST_ARGUMENTS, Listing, Place, Shown};
use super::super::reply::Reply;
use super::text;
use crate::model::Sequence;
use crate::model::quota::{self, Quota};
use crate::store::{Change, Scope, StoreError, Stored};

const KNOWN: [&str; 3] = ["project_id", "resource", "hard_limit"];
const READ_ONLY: [&str; 3] = ["id", "created_at", "updated_at"];

#[derive(Serialize)]
struct QuotaView<'q> {
    id: u64,
    hard_limit: u32,
    project_id: &'q str,
    resource: &'static str,
    created_at: String,
    updated_at: Option<String>,
}

fn quota_view(quota: &Quota) -> QuotaView<'_> {
    QuotaView {
        id: quota.sequence.0,
        hard_limit: quota.hard_limit,
        project_id: &quota.project_id,
        resource: quota::CLUSTER,
        created_at: quota.created_at.to_string(),
        updated_at: text(quota.updated_at),
    }
}

#[derive(Serialize)]
struct List<'q> {
    quotas: Vec<QuotaView<'q>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /v1/quotas`
pub fn list(cx: &Context<'_>) -> Outcome<Reply> {
    let [marker, limit, key, direction] = LIST_ARGUMENTS;
    let query = cx.query(&[marker, limit, key, direction, "all_tenants"])?;
    cx.allow("quota:get_all")?;
    let everyone = query.flag("all_tenants")?.unwrap_or(false);
    let (listing, marker) = Listing::numbered::<Quota>(query, cx.api.settings.max_limit)?;
    let own = cx.requester().project_id.as_deref();
    let mut quotas: BTreeMap<u64, Quota> = BTreeMap::new();
    for quota in cx.read(|view| Ok(view.quotas()?))? {
        if everyone || own == Some(&quota.project_id) {
            quotas.insert(quota.sequence.0, quota.record);
        }
    }
    // An administrator who lists all sees what those of the same project do not.
    let scope = if everyone { Scope::Everyone } else { Scope::Project(own.unwrap_or_default()) };
    let shelf = cx.api.bookmarks.shelf(Listed::Quotas, scope);
    let marker = match marker {
        None => None,
        Some(id) => {
            // The number is its place, if it was ever given and the list is in that order.
            let is_told = listing.is_by_making() && id <= cx.api.store.last_sequence().0;
            let by_number = || Place::new(Column::Number(id), Sequence(id));
            let here = quotas.get(&id).map(|quota| listing.place(quota, quota.sequence));
            let here = here.or_else(|| is_told.then(by_number));
            let marker = listing.behind(id, &shelf, || Ok(here))?;
            Some(marker.ok_or_else(|| ApiError::missing("Quota", id))?)
        }
    };
    let ranked = quotas.values().map(|q| listing.rank(q, q.sequence, q.sequence.0)).collect();
    let picked = listing.pick(ranked, marker.as_ref(), |_| Uuid::nil());
    let quotas: Vec<Quota> = picked.iter().filter_map(|id| quotas.remove(id)).collect();
    let last = quotas.last().map(|q| (q.sequence.0.into(), listing.place(q, q.sequence)));
    let mut next = listing.next(cx.base, "quotas", Shown::Whole(quotas.len()), last, &shelf);
    // Or the pages after the first would be of the administrator's own project.
    if let Some(next) = next.as_mut().filter(|_| everyone) {
        next.push_str("&all_tenants=True");
    }
    Reply::shown(&List { next, quotas: quotas.iter().map(quota_view).collect() })
}

/// `GET /v1/quotas/{project}/{resource}`
pub fn show(cx: &Context<'_>, project: &str, resource: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow("quota:get")?;
    if !cx.is_admin && cx.requester().project_id.as_deref() != Some(project) {
        return Err(ApiError::not_authorized());
    }
    match cx.read(|view| Ok(view.quota(project)?))?.filter(|q| is_of(q, project, resource)) {
        Some(quota) => Reply::shown(&quota_view(&quota)),
        // There is no number to show, for there is no record.
        None => Reply::shown(&json!({
            "project_id": project,
            "resource": quota::CLUSTER,
            "hard_limit": cx.api.settings.max_clusters_per_project,
        })),
    }
}

/// `POST /v1/quotas`
pub async fn create(cx: &Context<'_>) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow("quota:create")?;
    let mut fields = Fields::new("quota", cx.body("quota")?, &KNOWN, &READ_ONLY)?;
    fields.choice("resource", &[quota::CLUSTER], |_| Some(()))?;
    let hard_limit = fields.whole("hard_limit", 0..=i32::MAX as u32)?.unwrap_or(1);
    let project_id = fields.text("project_id", 0..=255)?.filter(|id| !id.is_empty());
    let project_id =
        project_id.ok_or_else(|| ApiError::invalid("Must provide a valid project ID."))?;
    if !cx.api.conductor.has_project(&project_id).await? {
        return Err(ApiError::missing("The project_id", &project_id));
    }
    let quota = Quota {
        sequence: cx.api.store.next_sequence(),
        project_id,
        hard_limit,
        created_at: cx.api.clock.now(),
        updated_at: None,
    };
    match cx.api.store.commit(Change::new().expect_absent(&quota).put(&quota)).await {
        Ok(()) => Reply::created(&quota_view(&quota)),
        Err(StoreError::Conflict) => Err(ApiError::conflict(format!(
            "Quota for project {} already exists for resource {}. Change it with PATCH.",
            quota.project_id,
            quota::CLUSTER
        ))),
        Err(e) => Err(e.into()),
    }
}

/// `PATCH /v1/quotas/{project}/{resource}`, whose body is no JSON patch.
pub async fn update(cx: &Context<'_>, project: &str, resource: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow("quota:update")?;
    let mut fields = Fields::new("quota", cx.body("quota")?, &KNOWN, &READ_ONLY)?;
    fields.choice("resource", &[quota::CLUSTER], |_| Some(()))?;
    let hard_limit = fields.whole("hard_limit", 0..=i32::MAX as u32)?;
    let hard_limit = hard_limit.ok_or_else(|| mandatory("hard_limit"))?;
    let held = cx.api.locks.acquire(project).await;
    loop {
        let stored = find(cx, project, resource)?;
        let mut quota = stored.record.clone();
        quota.hard_limit = hard_limit;
        quota.updated_at = Some(cx.api.clock.now());
        let change = Change::new().expect(&stored).put(&quota);
        match cx.api.store.commit(change).await.map_err(ApiError::from) {
            Ok(()) => return Reply::accepted_with(&quota_view(&quota)),
            Err(e) if held.goes_on_after(&e) => {}
            Err(e) => return Err(e),
        }
    }
}

/// `DELETE /v1/quotas/{project}/{resource}`
pub async fn delete(cx: &Context<'_>, project: &str, resource: &str) -> Outcome<Reply> {
    cx.query(&[])?;
    cx.allow("quota:delete")?;
    let stored = find(cx, project, resource)?;
    cx.api.store.commit(Change::new().expect(&stored).delete(&stored.record)).await?;
    Ok(Reply::gone())
}

fn find(cx: &Context<'_>, project: &str, resource: &str) -> Outcome<Stored<Quota>> {
    let found = cx.read(|view| Ok(view.quota(project)?))?;
    found.filter(|q| is_of(q, project, resource)).ok_or_else(|| {
        let cut = |text: &str| text.chars().take(300).collect::<String>();
        ApiError::missing_sentence(format!(
            "Quota could not be found: project {}, resource {}.",
            cut(project),
            cut(resource)
        ))
    })
}

/// The key drops what cannot stand in one, such as NUL.
fn is_of(quota: &Quota, project: &str, resource: &str) -> bool {
    quota.project_id == project && resource == quota::CLUSTER
}
