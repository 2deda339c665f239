//! Images, as Glance shows them.

use serde_json::{Value, json};

use crate::base::clock::Timestamp;

use super::heat::services::Refused;
use super::refusal::Answer;
use super::wire::{Ask, Reply};
use super::world::{Caller, World};

#[derive(Clone, Debug)]
pub(super) struct Image {
    pub id: String,
    pub name: String,
    pub os_distro: Option<String>,
    /// GiB and MiB that it needs.
    pub min_disk: u64,
    pub min_ram: u64,
    pub kube_version: Option<String>,
    pub owner: String,
    pub created_at: Timestamp,
}

/// The document at the root, which needs no token.
pub(super) fn versions(base: &str) -> Reply {
    let versions: Vec<Value> = (0..=16)
        .rev()
        .map(|minor| {
            json!({
                "id": format!("v2.{minor}"),
                "status": if minor == 16 { "CURRENT" } else { "SUPPORTED" },
                "links": [{"rel": "self", "href": format!("{base}/v2/")}],
            })
        })
        .collect();
    Reply::json(300, &json!({ "versions": versions }))
}

/// Glance refuses in HTML.
pub(super) fn refuse(refused: &Refused) -> Reply {
    let title = match refused.status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        _ => "Error",
    };
    let (status, message) = (refused.status, &refused.message);
    let body = format!(
        "<html>\n <head>\n  <title>{status} {title}</title>\n </head>\n <body>\n  \
         <h1>{status} {title}</h1>\n  {message}<br /><br />\n\n\n </body>\n</html>"
    );
    let (headers, content_type) = (Vec::new(), "text/html; charset=UTF-8");
    Reply { status, headers, content_type, body: body.into() }
}

pub(super) fn answer(world: &World, _caller: &Caller, ask: &Ask) -> Answer<Reply> {
    let state = world.lock();
    match (ask.method.as_str(), ask.path().as_slice()) {
        ("GET", ["v2", "images"]) => {
            let limit = ask.query("limit").and_then(|n| n.parse().ok()).unwrap_or(25);
            let past = ask.query("marker");
            let fits = |image: &&Image| {
                let view = view(image);
                ask.query.iter().all(|(key, wanted)| match key.as_str() {
                    "limit" | "marker" | "sort" | "sort_key" | "sort_dir" | "member_status" => true,
                    _ if view[key].is_null() => {
                        key == "os_hidden" || key == "tag" && wanted.is_empty()
                    }
                    _ => match wanted.strip_prefix("in:") {
                        Some(list) => list.split(',').any(|w| view[key] == w.trim_matches('"')),
                        None if view[key].is_string() => view[key] == *wanted,
                        None => serde_json::from_str(&wanted.to_ascii_lowercase())
                            .is_ok_and(|wanted: Value| view[key] == wanted),
                    },
                })
            };
            let all: Vec<&Image> = state.images.iter().filter(fits).collect();
            let start =
                past.map_or(Some(0), |id| all.iter().position(|i| i.id == id).map(|n| n + 1));
            let start = start.ok_or_else(|| {
                Refused::bad(format!(
                    "Invalid marker: image {} could not be found.",
                    past.unwrap_or("")
                ))
            })?;
            let images: Vec<Value> = all.iter().skip(start).take(limit).map(|i| view(i)).collect();
            let mut body = json!({
                "images": images, "first": "/v2/images", "schema": "/v2/schemas/images",
            });
            if start + limit < all.len() && limit > 0 {
                let last = &all[start + limit - 1].id;
                body["next"] = json!(format!("/v2/images?limit={limit}&marker={last}"));
            }
            Ok(Reply::json(200, &body))
        }
        ("GET", ["v2", "images", id]) => {
            let image = state.images.iter().find(|i| i.id == *id).ok_or_else(|| {
                Refused::missing(format!(
                    "Failed to find image {id} to show: No image found with ID {id}"
                ))
            })?;
            Ok(Reply::json(200, &view(image)))
        }
        ("GET", ["v2", "schemas", "image"]) => {
            Ok(Reply::json(200, &json!({"name": "image", "properties": {}})))
        }
        ("GET", ["v2"]) => Ok(versions(&ask.base)),
        (_, ["v2", "images", ..]) => {
            Err(Refused::new(405, "MethodNotAllowed", "The lab's images cannot be changed."))
        }
        _ => Err(Refused::missing("The resource could not be found.")),
    }
}

fn view(image: &Image) -> Value {
    let at = image.created_at.to_string();
    let at = format!("{}Z", &at[..19]);
    let mut view = json!({
        "id": image.id,
        "name": image.name,
        "status": "active",
        "visibility": "public",
        "protected": false,
        "os_hidden": false,
        "owner": image.owner,
        "disk_format": "raw",
        "container_format": "bare",
        "min_disk": image.min_disk,
        "min_ram": image.min_ram,
        "size": 1024,
        "virtual_size": Value::Null,
        "checksum": "5d41402abc4b2a76b9719d911017c592",
        "tags": [],
        "created_at": at,
        "updated_at": at,
        "self": format!("/v2/images/{}", image.id),
        "file": format!("/v2/images/{}/file", image.id),
        "schema": "/v2/schemas/image",
    });
    if let Some(distro) = &image.os_distro {
        view["os_distro"] = json!(distro);
    }
    if let Some(version) = &image.kube_version {
        view["kube_version"] = json!(version);
    }
    view
}
