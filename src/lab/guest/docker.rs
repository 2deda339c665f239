//! The Docker API of a swarm's manager, as far as clients ask for its nodes.

use std::sync::Arc;

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::compute::Server;
use super::super::world::World;
use crate::base::http::server::{Request, Response, json as answer, response};

/// The version of the API and of the engine that is played.
const API: &str = "1.41";
const ENGINE: &str = "20.10.24";

/// Answers for the manager called `own` of one cluster.
pub(super) fn handle(world: &Arc<World>, cluster: &str, own: &str, request: &Request) -> Response {
    // Clients put a version of the API before the path: /v1.41/nodes.
    let path = request.path.strip_prefix("/v").and_then(|rest| rest.find('/').map(|i| &rest[i..]));
    let mut response = match (&request.method, path.unwrap_or(&request.path)) {
        (&Method::GET | &Method::HEAD, "/_ping") => response(StatusCode::OK, "text/plain", "OK"),
        (&Method::GET, "/version") => {
            answer(StatusCode::OK, &json!({"Version": ENGINE, "ApiVersion": API}))
        }
        (&Method::GET, "/info") => answer(StatusCode::OK, &info(world, cluster, own)),
        (&Method::GET, "/nodes") => answer(StatusCode::OK, &nodes(world, cluster)),
        _ => answer(StatusCode::NOT_FOUND, &json!({"message": "page not found"})),
    };
    response.headers_mut().insert("api-version", HeaderValue::from_static(API));
    response
}

fn info(world: &World, cluster: &str, own: &str) -> Value {
    let state = world.lock();
    let members = || state.compute.servers.values().filter(|s| is_member(s, cluster));
    let id = members().find(|s| s.name == own).map(|s| s.id.as_str());
    json!({
        "Name": own, "ServerVersion": ENGINE,
        "Swarm": {
            "NodeID": id.unwrap_or_default(), "LocalNodeState": "active",
            "ControlAvailable": true, "Error": "", "Nodes": members().count(),
            "Managers": members().filter(|s| is_manager(s)).count(),
        },
    })
}

fn nodes(world: &World, cluster: &str) -> Value {
    let state = world.lock();
    let members = state.compute.servers.values().filter(|s| is_member(s, cluster));
    members.map(node).collect()
}

fn node(server: &Server) -> Value {
    let role = if is_manager(server) { "manager" } else { "worker" };
    let mut node = json!({
        "ID": server.id,
        "Spec": {"Role": role, "Availability": "active"},
        "Description": {"Hostname": server.name, "Engine": {"EngineVersion": ENGINE}},
        "Status": {"State": "ready"},
    });
    if role == "manager" {
        let leads = server.name.ends_with("-master-0");
        node["ManagerStatus"] = json!({"Leader": leads, "Reachability": "reachable"});
    }
    node
}

fn is_member(server: &Server, cluster: &str) -> bool {
    server.joined.as_deref() == Some(cluster) && server.gone_at.is_none()
}

fn is_manager(server: &Server) -> bool {
    server.name.rsplit('-').nth(1) == Some("master")
}
