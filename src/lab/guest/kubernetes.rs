//! The Kubernetes API of a master, as far as one looks around with `kubectl`: what there is, its
//! version, the nodes. Nothing else runs in a cluster of the lab, and nothing can be changed.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::compute::Server;
use super::super::server_view::addresses;
use super::super::world::{State, World};
use super::user_data::variables;
use crate::base::clock::Timestamp;
use crate::base::http::server::{Request, Response, json as answer, response};

/// What an image brings whose nodes are not told a version.
const VERSION: &str = "v1.32.0";
/// What is in every cluster from the start.
const NAMESPACES: &[&str] = &["default", "kube-node-lease", "kube-public", "kube-system"];

/// A kind of objects in the group `v1`: plural, kind, short name, whether in namespaces, and
/// whether `kubectl get all` shows it.
const RESOURCES: &[(&str, &str, &str, bool, bool)] = &[
    ("events", "Event", "ev", true, false),
    ("namespaces", "Namespace", "ns", false, false),
    ("nodes", "Node", "no", false, false),
    ("pods", "Pod", "po", true, true),
    ("services", "Service", "svc", true, true),
];

/// The version that a node's settings name.
pub(super) fn version(settings: &str) -> String {
    let found = variables(settings).unwrap_or_default();
    let named = ["KUBE_VERSION", "KUBE_TAG"].iter().filter_map(|key| found.get(*key));
    named.into_iter().find(|v| !v.is_empty()).map_or_else(|| VERSION.to_owned(), Clone::clone)
}

/// The API server of one master.
pub(super) struct Front<'w> {
    pub world: &'w World,
    /// Magnum's id of the cluster.
    pub cluster: &'w str,
    pub version: &'w str,
}

/// What may go wrong with a request, as the API says it.
struct Refusal {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    fn no_path() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }
}

impl Front<'_> {
    pub fn handle(&self, request: &Request) -> Response {
        self.read(request).unwrap_or_else(|refusal| {
            let body = json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": refusal.message, "reason": refusal.reason, "details": {},
                "code": refusal.status.as_u16(),
            });
            answer(refusal.status, &body)
        })
    }

    fn read(&self, request: &Request) -> Result<Response, Refusal> {
        let path: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
        if request.method != Method::GET {
            let message = "a cluster of the lab can be looked at only: nothing runs in it";
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message));
        }
        let document = match path.as_slice() {
            ["healthz" | "livez" | "readyz"] => {
                return Ok(response(StatusCode::OK, "text/plain", "ok"));
            }
            ["version"] => version_document(self.version),
            ["api"] => json!({
                "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [],
            }),
            ["apis"] => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
            ["api", "v1"] => resources(),
            ["api", "v1", "namespaces", namespace, kind] => {
                return self.objects(request, kind, None, Some(namespace));
            }
            ["api", "v1", "namespaces", namespace, kind, name] => {
                return self.objects(request, kind, Some(name), Some(namespace));
            }
            ["api", "v1", kind] => return self.objects(request, kind, None, None),
            ["api", "v1", kind, name] => return self.objects(request, kind, Some(name), None),
            _ => return Err(Refusal::no_path()),
        };
        Ok(answer(StatusCode::OK, &document))
    }

    /// One object or the list of them, in the form that is asked for.
    fn objects(
        &self,
        request: &Request,
        plural: &str,
        name: Option<&str>,
        namespace: Option<&str>,
    ) -> Result<Response, Refusal> {
        let found = RESOURCES.iter().find(|(known, ..)| *known == plural);
        let &(_, kind, _, is_namespaced, _) = found.ok_or_else(Refusal::no_path)?;
        if namespace.is_some() && !is_namespaced {
            return Err(Refusal::no_path());
        }
        let asked = Asked::read(request.query.as_deref())?;
        let all = match plural {
            "nodes" => self.nodes(),
            "namespaces" => self.namespaces(),
            _ => Vec::new(),
        };
        let table = |objects: &[Value], next: Option<String>| {
            table(plural, objects, next, self.world.clock.now())
        };
        let as_table = wants_table(request);
        let Some(name) = name else {
            let (page, next) = asked.page(all);
            let list = match as_table {
                true => table(&page, next),
                false => json!({
                    "kind": format!("{kind}List"), "apiVersion": "v1",
                    "metadata": {"resourceVersion": "1", "continue": next.unwrap_or_default()},
                    "items": page,
                }),
            };
            return Ok(answer(StatusCode::OK, &list));
        };
        let mut one = all.into_iter().find(|o| o["metadata"]["name"] == name).ok_or_else(|| {
            let message = format!("{plural} \"{name}\" not found");
            Refusal::new(StatusCode::NOT_FOUND, "NotFound", message)
        })?;
        if as_table {
            return Ok(answer(StatusCode::OK, &table(&[one], None)));
        }
        one["kind"] = json!(kind);
        one["apiVersion"] = json!("v1");
        Ok(answer(StatusCode::OK, &one))
    }

    /// By name.
    fn nodes(&self) -> Vec<Value> {
        let state = self.world.lock();
        let is_member =
            |s: &&Server| s.joined.as_deref() == Some(self.cluster) && s.gone_at.is_none();
        let mut members: Vec<&Server> = state.compute.servers.values().filter(is_member).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members.into_iter().map(|server| self.node(&state, server)).collect()
    }

    fn node(&self, state: &State, server: &Server) -> Value {
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status});
        let mut labels = json!({
            "kubernetes.io/hostname": server.name, "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64", "node.kubernetes.io/instance-type": server.flavor.name,
        });
        if is_master(server) {
            labels["node-role.kubernetes.io/control-plane"] = json!("");
        }
        let mut known = vec![json!({"type": "Hostname", "address": server.name})];
        for port in addresses(&state.network, &server.id).values().filter_map(Value::as_array) {
            known.extend(port.iter().map(|address| {
                let kind = match address["OS-EXT-IPS:type"].as_str() {
                    Some("floating") => "ExternalIP",
                    _ => "InternalIP",
                };
                json!({"type": kind, "address": address["addr"]})
            }));
        }
        let image = state.images.iter().find(|image| image.id == server.image_id);
        let ready = self.world.faults.of_kubelet(&server.name).unwrap_or("True");
        json!({
            "metadata": {
                "name": server.name, "uid": server.id, "resourceVersion": "1", "labels": labels,
                "creationTimestamp": date(server.built_at),
            },
            "spec": {"providerID": format!("openstack:///{}", server.id)},
            "status": {
                "capacity": {
                    "cpu": server.flavor.vcpus.to_string(),
                    "memory": format!("{}Mi", server.flavor.ram), "pods": "110",
                },
                "conditions": [
                    condition("MemoryPressure", "False"),
                    condition("DiskPressure", "False"),
                    condition("PIDPressure", "False"),
                    condition("Ready", ready),
                ],
                "addresses": known,
                "nodeInfo": {
                    "kubeletVersion": server.kubelet.as_deref().unwrap_or(VERSION),
                    "osImage": image.map_or("", |image| image.name.as_str()),
                    "kernelVersion": "6.1.0-lab", "containerRuntimeVersion": "containerd://2.0.0",
                    "operatingSystem": "linux", "architecture": "amd64",
                    "machineID": server.id, "systemUUID": server.id, "bootID": server.id,
                },
            },
        })
    }

    fn namespaces(&self) -> Vec<Value> {
        let state = self.world.lock();
        let servers = state.compute.servers.values();
        let members = servers.filter(|s| s.joined.as_deref() == Some(self.cluster));
        let made = members.map(|s| s.built_at).min().unwrap_or(Timestamp::EPOCH);
        let one = |name: &&str| {
            json!({
                "metadata": {
                    "name": name, "uid": format!("{}-{name}", self.cluster),
                    "resourceVersion": "1", "creationTimestamp": date(made),
                    "labels": {"kubernetes.io/metadata.name": name},
                },
                "status": {"phase": "Active"},
            })
        };
        NAMESPACES.iter().map(one).collect()
    }
}

/// Heat names a master's server after its group.
fn is_master(server: &Server) -> bool {
    server.name.rsplit('-').nth(1) == Some("master")
}

fn version_document(version: &str) -> Value {
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    json!({
        "major": major, "minor": minor, "gitVersion": version, "gitCommit": "lab",
        "gitTreeState": "clean", "buildDate": "2026-01-01T00:00:00Z", "goVersion": "none",
        "compiler": "none", "platform": "linux/amd64",
    })
}

fn resources() -> Value {
    let one = |&(plural, kind, short, is_namespaced, is_of_all): &(
        &str,
        &str,
        &str,
        bool,
        bool,
    )| {
        let mut shown = json!({
            "name": plural, "singularName": kind.to_ascii_lowercase(), "namespaced": is_namespaced,
            "kind": kind, "verbs": ["get", "list"], "shortNames": [short],
        });
        if is_of_all {
            shown["categories"] = json!(["all"]);
        }
        shown
    };
    let all: Vec<Value> = RESOURCES.iter().map(one).collect();
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": all,
    })
}

/// `kubectl get` lets the server say what the columns are.
fn wants_table(request: &Request) -> bool {
    let first = request.header("accept").unwrap_or_default().split(',').next().unwrap_or_default();
    let mut parts = first.split(';').map(str::trim);
    parts.next() == Some("application/json")
        && first.contains("as=Table")
        && parts.any(|part| part == "v=v1")
}

/// The columns of a kind: name, and from which width of the output on it is shown.
fn columns(plural: &str) -> &'static [(&'static str, u8)] {
    match plural {
        "nodes" => &[
            ("Name", 0),
            ("Status", 0),
            ("Roles", 0),
            ("Age", 0),
            ("Version", 0),
            ("Internal-IP", 1),
            ("External-IP", 1),
            ("OS-Image", 1),
            ("Kernel-Version", 1),
            ("Container-Runtime", 1),
        ],
        "namespaces" => &[("Name", 0), ("Status", 0), ("Age", 0)],
        _ => &[("Name", 0), ("Age", 0)],
    }
}

fn table(plural: &str, objects: &[Value], next: Option<String>, now: Timestamp) -> Value {
    let definition = |(name, priority): &(&str, u8)| {
        let format = if *name == "Name" { "name" } else { "" };
        json!({"name": name, "type": "string", "format": format, "description": name,
               "priority": priority})
    };
    let row = |object: &Value| {
        let metadata = &object["metadata"];
        let born = metadata["creationTimestamp"].as_str().and_then(Timestamp::parse);
        let age = born.map_or_else(|| "<unknown>".to_owned(), |born| span(now.since(born)));
        let cells = match plural {
            "nodes" => node_cells(object, age),
            "namespaces" => vec![metadata["name"].clone(), json!("Active"), json!(age)],
            _ => vec![metadata["name"].clone(), json!(age)],
        };
        let object = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                            "metadata": metadata});
        json!({"cells": cells, "object": object})
    };
    let definitions: Vec<Value> = columns(plural).iter().map(definition).collect();
    let rows: Vec<Value> = objects.iter().map(row).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": "1", "continue": next.unwrap_or_default()},
        "columnDefinitions": definitions, "rows": rows,
    })
}

fn node_cells(node: &Value, age: String) -> Vec<Value> {
    let status = &node["status"];
    let told = |kind: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().find(|c| c["type"] == kind).map(|c| c["status"] == "True")
    };
    let address = |kind: &str| {
        let all = status["addresses"].as_array().into_iter().flatten();
        let found = all.into_iter().find(|a| a["type"] == kind).map(|a| a["address"].clone());
        found.unwrap_or_else(|| json!("<none>"))
    };
    let info = &status["nodeInfo"];
    let role = &node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"];
    vec![
        node["metadata"]["name"].clone(),
        json!(if told("Ready") == Some(true) { "Ready" } else { "NotReady" }),
        json!(if role.is_null() { "<none>" } else { "control-plane" }),
        json!(age),
        info["kubeletVersion"].clone(),
        address("InternalIP"),
        address("ExternalIP"),
        info["osImage"].clone(),
        info["kernelVersion"].clone(),
        info["containerRuntimeVersion"].clone(),
    ]
}

/// A length of time in one unit, as `kubectl` prints an age.
fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn date(at: Timestamp) -> String {
    format!("{}Z", &at.to_string()[..19])
}

/// What part of a list is asked for.
struct Asked {
    limit: usize,
    /// The last name of the page before.
    after: Option<String>,
    /// The only name that is wanted.
    name: Option<String>,
    labels: Vec<Wanted>,
}

/// A part of a label selector.
struct Wanted {
    key: String,
    /// None: any.
    value: Option<String>,
    is_so: bool,
}

impl Asked {
    fn read(query: Option<&str>) -> Result<Self, Refusal> {
        let mut asked = Self { limit: usize::MAX, after: None, name: None, labels: Vec::new() };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            let value = percent_encoding::percent_decode_str(&value).decode_utf8_lossy();
            match key {
                "limit" => {
                    let limit = value.parse::<usize>().map_err(|_| {
                        Refusal::bad(format!("limit: '{value}' is no whole number"))
                    })?;
                    asked.limit = if limit == 0 { usize::MAX } else { limit };
                }
                "continue" if value.is_empty() => {}
                "continue" => {
                    let last = STANDARD.decode(value.as_bytes()).map(String::from_utf8);
                    let Ok(Ok(last)) = last else {
                        return Err(Refusal::bad("continue key is not valid"));
                    };
                    asked.after = Some(last);
                }
                "watch" if matches!(value.as_ref(), "" | "0" | "false") => {}
                "watch" => return Err(Refusal::bad("watch: the lab answers lists only")),
                "labelSelector" => asked.labels = selector(&value)?,
                "fieldSelector" => {
                    asked.name = value.strip_prefix("metadata.name=").map(Into::into)
                }
                // Of the form or of the age of the answer, which is always the newest.
                _ => {}
            }
        }
        Ok(asked)
    }

    /// The objects of the page, and what the next one is asked for with.
    fn page(&self, all: Vec<Value>) -> (Vec<Value>, Option<String>) {
        let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let is_meant = |object: &Value| {
            self.after.as_ref().is_none_or(|last| name(object) > *last)
                && self.name.as_ref().is_none_or(|wanted| name(object) == *wanted)
                && self.labels.iter().all(|wanted| wanted.fits(&object["metadata"]["labels"]))
        };
        let mut page: Vec<Value> = all.into_iter().filter(is_meant).collect();
        let has_more = page.len() > self.limit;
        page.truncate(self.limit);
        let next = page.last().filter(|_| has_more).map(|last| STANDARD.encode(name(last)));
        (page, next)
    }
}

impl Wanted {
    fn fits(&self, labels: &Value) -> bool {
        let found = labels[self.key.as_str()].as_str();
        let is_equal = match &self.value {
            Some(value) => found == Some(value),
            None => found.is_some(),
        };
        is_equal == self.is_so
    }
}

/// Equality and presence; sets are refused.
fn selector(text: &str) -> Result<Vec<Wanted>, Refusal> {
    let mut wanted = Vec::new();
    for term in text.split(',').map(str::trim).filter(|term| !term.is_empty()) {
        let (key, value, is_so) = if let Some((key, value)) = term.split_once("!=") {
            (key, Some(value), false)
        } else if let Some((key, value)) = term.split_once('=') {
            (key, Some(value.trim_start_matches('=')), true)
        } else if let Some(key) = term.strip_prefix('!') {
            (key, None, false)
        } else {
            (term, None, true)
        };
        if key.trim().contains([' ', '(', ')']) || key.trim().is_empty() {
            return Err(Refusal::bad(format!(
                "labelSelector: '{text}' is more than the lab understands: key, !key, key=value \
                 and key!=value, with commas between"
            )));
        }
        let (key, value) = (key.trim().to_owned(), value.map(|value| value.trim().to_owned()));
        wanted.push(Wanted { key, value, is_so });
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_what_the_nodes_are_told() {
        assert_eq!(version("KUBE_VERSION='v1.31.4'\nX='y'\n"), "v1.31.4");
        assert_eq!(version("KUBE_TAG='v1.23.3-rancher1'\n"), "v1.23.3-rancher1");
        assert_eq!(version("KUBE_VERSION=''\n"), VERSION);
        assert_eq!(version(""), VERSION);
        let told = version_document("v1.23.3-rancher1");
        assert_eq!((&told["major"], &told["minor"]), (&json!("1"), &json!("23")));
    }

    #[test]
    fn lists_are_cut_and_chosen_from() {
        let object =
            |name: &str, role: &str| json!({"metadata": {"name": name, "labels": {"role": role}}});
        let all = || vec![object("a", "m"), object("b", "w"), object("c", "w")];
        let names = |query: &str| {
            let (page, next) = Asked::read(Some(query)).map_err(|e| e.message)?.page(all());
            let names = page.iter().map(|o| o["metadata"]["name"].as_str().unwrap().to_owned());
            Ok::<_, String>((names.collect::<Vec<_>>().join(""), next))
        };
        let some = |names: &str| Ok((names.to_owned(), None));
        assert_eq!(names(""), some("abc"));
        assert_eq!(names("limit=500&timeoutSeconds=3"), some("abc"));
        assert_eq!(names("limit=2"), Ok(("ab".to_owned(), Some(STANDARD.encode("b")))));
        assert_eq!(names(&format!("continue={}", STANDARD.encode("b"))), some("c"));
        assert_eq!(names("fieldSelector=metadata.name%3Db"), some("b"));
        assert_eq!(names("labelSelector=role%3Dw"), some("bc"));
        assert_eq!(names("labelSelector=role!%3Dw%2Crole"), some("a"));
        assert_eq!(names("labelSelector=!role"), some(""));
        assert!(names("labelSelector=role+in+(w,m)").unwrap_err().contains("more than the lab"));
        assert!(names("watch=true").unwrap_err().contains("lists only"));
        assert!(names("limit=x").unwrap_err().contains("'x'"));
        assert!(names("continue=%%").unwrap_err().contains("not valid"));
    }

    #[test]
    fn ages_have_one_unit() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(
            [of(5), of(119), of(120), of(7200), of(200_000)],
            ["5s", "119s", "2m", "2h", "2d"]
        );
    }
}
