//! Lists: which stacks, resources and events a query asks for.

use serde_json::{Map, Value, json};

use super::engine::Caller;
use super::intake::Query;
use super::refusal::Refusal;
use super::schema;
use super::stack::{Stack, World};
use super::validate::NESTING;
use super::view::View;

/// Stacks the caller may see and wants to, youngest first.
pub fn stacks<'w>(
    query: &Query,
    caller: &Caller,
    world: &'w World,
) -> Result<Vec<&'w Stack>, Refusal> {
    let everywhere = query.truth("global_tenant", false)?;
    if everywhere && !caller.admin {
        return Err(Refusal::new("HTTPForbidden", "Access was denied to this resource."));
    }
    let gone = query.truth("show_deleted", false)?;
    let nested = query.truth("show_nested", false)?;
    query.truth("show_hidden", false)?;
    let limit = query.whole("limit")?;
    let [all, any, not_all, not_any] =
        ["tags", "tags_any", "not_tags", "not_tags_any"].map(|key| query.tags(key));
    let (all, any, not_all, not_any) = (all?, any?, not_all?, not_any?);
    let among = |key: &str, value: &str| {
        let wanted = query.all(key);
        wanted.is_empty() || wanted.iter().any(|w| w == value)
    };
    let mut found: Vec<&Stack> = world
        .stacks
        .values()
        .filter(|s| everywhere || s.identity.project == caller.owner.project_id)
        .filter(|s| gone || !s.is_gone())
        .filter(|s| nested || s.parent.is_none())
        .filter(|s| among("id", s.id()) && among("name", &s.identity.name))
        .filter(|s| among("stack_name", &s.identity.name))
        .filter(|s| among("status", &s.status.to_string()))
        .filter(|s| among("stack_status", &s.status.to_string()))
        .filter(|s| among("action", &s.action.to_string()))
        .filter(|s| {
            let has = |tag: &String| s.tags.contains(tag);
            all.iter().flatten().all(has)
                && any.as_ref().is_none_or(|tags| tags.iter().any(has))
                && !not_all.as_ref().is_some_and(|tags| tags.iter().all(has))
                && !not_any.iter().flatten().any(has)
        })
        .collect();
    found.sort_by(|a, b| (b.created, a.id()).cmp(&(a.created, b.id())));
    if query.first("sort_dir") == Some("asc") {
        found.reverse();
    }
    if let Some(marker) = query.first("marker") {
        let at = found.iter().position(|s| s.id() == marker);
        found.drain(..at.map_or(0, |at| at + 1));
    }
    if let Some(limit) = limit {
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(found)
}

/// A stack's resources, filtered, with those of nested stacks as deep as asked.
pub fn resources(query: &Query, view: &View<'_>, stack: &Stack) -> Result<Vec<Value>, Refusal> {
    let filters = [
        ("type", "resource_type"),
        ("status", "resource_status"),
        ("name", "resource_name"),
        ("action", "resource_status"),
        ("id", "physical_resource_id"),
        ("physical_resource_id", "physical_resource_id"),
    ];
    let known = |key: &str| {
        key == "nested_depth" || key == "with_detail" || filters.iter().any(|(f, _)| *f == key)
    };
    let unknown: Vec<&str> = query.keys().filter(|key| !known(key)).collect();
    if !unknown.is_empty() {
        let names = super::text::py_repr(&json!(unknown));
        return Err(Refusal::bad_request(format!("Invalid filter parameters {names}")));
    }
    let depth = query.whole("nested_depth")?.unwrap_or(0).min(NESTING as u64);
    let detail = query.truth("with_detail", false)?;
    let mut found = view.resources(stack, depth, detail);
    found.retain(|resource| {
        filters.iter().all(|(filter, key)| {
            let shown = resource[*key].as_str().unwrap_or_default();
            let (action, status) = shown.split_once('_').unwrap_or((shown, shown));
            let value = match *filter {
                "status" => status,
                "action" => action,
                _ => shown,
            };
            let wanted = query.all(filter);
            wanted.is_empty() || wanted.iter().any(|w| w == value)
        })
    });
    Ok(found)
}

/// A stack's events, oldest first, of one resource or all.
pub fn events(
    query: &Query,
    view: &View<'_>,
    stack: &Stack,
    resource: Option<&str>,
) -> Result<Vec<Value>, Refusal> {
    let depth = query.whole("nested_depth")?.unwrap_or(0);
    let limit = query.whole("limit")?;
    let mut stacks = vec![stack];
    if depth > 0 {
        stacks.extend(view.world.below(&stack.root).filter(|s| s.depth > stack.depth));
    }
    let among = |key: &str, value: &str| {
        let wanted = query.all(key);
        wanted.is_empty() || wanted.iter().any(|w| w == value)
    };
    let mut found: Vec<_> = stacks
        .iter()
        .flat_map(|s| s.events.iter().map(move |e| (*s, e)))
        .filter(|(_, e)| resource.is_none_or(|name| e.resource == name))
        .filter(|(_, e)| among("resource_name", &e.resource) && among("resource_type", &e.kind))
        .filter(|(_, e)| {
            let (action, status) = e.state.split_once('_').unwrap_or((&e.state, ""));
            among("resource_action", action) && among("resource_status", status)
        })
        .collect();
    found.sort_by_key(|(_, e)| e.at);
    if query.first("sort_dir") == Some("desc") {
        found.reverse();
    }
    if let Some(marker) = query.first("marker") {
        let at = found.iter().position(|(_, e)| e.id == marker);
        found.drain(..at.map_or(0, |at| at + 1));
    }
    if let Some(limit) = limit {
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(found.into_iter().map(|(stack, event)| view.event(stack, event, false)).collect())
}

/// `GET /template_versions`.
pub fn template_versions() -> Value {
    let versions: Vec<Value> = super::template::versions()
        .map(|(version, aliases)| {
            json!({"version": format!("heat_template_version.{version}"), "type": "hot",
                   "aliases": aliases})
        })
        .collect();
    json!({"template_versions": versions})
}

/// `GET /resource_types/{type}`.
pub fn resource_type(name: &str) -> Result<Value, Refusal> {
    let kind = schema::kind(name).ok_or_else(|| Refusal::not_found("Resource Type", name))?;
    let properties: Map<String, Value> =
        kind.properties.iter().map(|(name, p)| (name.clone(), p.described())).collect();
    let attributes: Map<String, Value> =
        kind.attributes.iter().map(|name| (name.clone(), json!({}))).collect();
    Ok(json!({
        "resource_type": name,
        "properties": properties,
        "attributes": attributes,
        "support_status": {"status": "SUPPORTED", "version": null, "message": null,
                           "previous_status": null},
    }))
}
