//! Nova's interface: flavors, key pairs, servers, groups, limits.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::compute::{Flavor, Keypair, ResizeAction, ServerGroup};
use super::heat::services::Refused;
use super::launch::{Interface, NewServer, no_instance};
use super::refusal::Answer;
use super::server_view::{Version, flavor_view, list, server_view};
use super::wire::{Ask, Reply};
use super::world::{Caller, World};

/// The body of every refusal: the fault's name is its key.
pub(super) fn refuse(refused: &Refused) -> Reply {
    let name = match refused.status {
        400 => "badRequest",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "itemNotFound",
        405 => "badMethod",
        409 => "conflictingRequest",
        413 => "overLimit",
        503 => "serviceUnavailable",
        _ => "computeFault",
    };
    let body = json!({ (name): {"code": refused.status, "message": refused.message}});
    Reply::json(refused.status, &body)
}

fn version(base: &str) -> Value {
    json!({
        "id": "v2.1",
        "status": "CURRENT",
        "version": Version::NEWEST.to_string(),
        "min_version": "2.1",
        "updated": "2013-07-23T11:33:21Z",
        "links": [{"rel": "self", "href": format!("{base}/v2.1/")}],
        "media-types": [{"base": "application/json",
                         "type": "application/vnd.openstack.compute+json;version=2.1"}],
    })
}

/// The documents at the roots, which need no token.
pub(super) fn versions(base: &str, one: bool) -> Reply {
    match one {
        true => Reply::json(200, &json!({"version": version(base)})),
        false => Reply::json(200, &json!({"versions": [version(base)]})),
    }
}

pub(super) fn answer(world: &World, caller: &Caller, ask: &Ask) -> Answer<Reply> {
    let version = Version::of(ask)?;
    let reply = dispatch(world, caller, ask, version)?;
    Ok(reply
        .with("openstack-api-version", format!("compute {version}"))
        .with("x-openstack-nova-api-version", version.to_string())
        .with("vary", "OpenStack-API-Version, X-OpenStack-Nova-API-Version"))
}

/// A project's limits.
fn quotas(world: &World, project: &str, detail: bool) -> Reply {
    let state = world.lock();
    let groups = state.compute.groups.values().filter(|g| g.project_id == project);
    let others = [
        ("key_pairs", 0),
        ("server_groups", groups.count() as u64),
        // Of each group, so that nothing is in use of the project's.
        ("server_group_members", 0),
    ];
    let mut set = json!({ "id": project });
    for (what, in_use) in state.compute.used(project).into_iter().chain(others) {
        let limit = match what {
            "key_pairs" | "server_groups" => 100,
            what => state.compute.limit(project, what),
        };
        set[what] = match detail {
            true => json!({"limit": limit, "in_use": in_use, "reserved": 0}),
            false => json!(limit),
        };
    }
    Reply::json(200, &json!({ "quota_set": set }))
}

fn dispatch(world: &World, caller: &Caller, ask: &Ask, version: Version) -> Answer<Reply> {
    let path = ask.path();
    let path = path.get(1..).unwrap_or_default();
    // Old clients put the project into the path.
    let path = match path {
        [project, rest @ ..] if *project == caller.project_id => rest,
        path => path,
    };
    match (ask.method.as_str(), path) {
        ("GET", ["flavors", rest @ ..]) => flavors(world, ask, version, rest),
        (_, ["os-keypairs", ..]) => keypairs(world, caller, ask, path),
        ("GET", ["servers" | "os-server-groups" | "limits" | "os-availability-zone", ..]) => {
            read(world, caller, ask, version, path)
        }
        ("GET", ["extensions"]) => Ok(Reply::json(200, &json!({"extensions": []}))),
        ("GET", ["os-quota-sets", project, rest @ ..]) => {
            if !caller.sees(project) {
                return Err(Refused::forbidden(
                    "Policy doesn't allow this action to be performed.",
                ));
            }
            Ok(quotas(world, project, rest.first() == Some(&"detail")))
        }
        ("PUT" | "DELETE", ["os-quota-sets", ..]) if !caller.is_admin() => {
            Err(Refused::forbidden("Policy doesn't allow this action to be performed."))
        }
        ("PUT", ["os-quota-sets", project]) => {
            let body = ask.body()?;
            for resource in ["instances", "cores", "ram", "server_group_members"] {
                if let Some(limit) = body["quota_set"][resource].as_u64() {
                    let key = ((*project).to_owned(), resource.to_owned());
                    world.lock().compute.quotas.insert(key, limit);
                }
            }
            Ok(quotas(world, project, false))
        }
        ("DELETE", ["os-quota-sets", project]) => {
            world.lock().compute.quotas.retain(|(of, _), _| of != project);
            Ok(Reply::empty(202))
        }
        _ if !caller.may_write() => {
            Err(Refused::forbidden("Policy doesn't allow this action to be performed."))
        }
        ("POST", ["servers"]) => {
            let wanted = wanted(&ask.body()?["server"], ask.build_fault.clone())?;
            let id = world.launch(caller, wanted)?;
            let href = format!("{}/v2.1/servers/{id}", ask.base);
            let links = json!([{"rel": "self", "href": href}]);
            let body = json!({"server": {"id": id, "links": links, "OS-DCF:diskConfig": "MANUAL",
                                         "security_groups": []}});
            Ok(Reply::json(202, &body).with("location", href))
        }
        ("DELETE", ["servers", id]) => {
            let owner = world.lock().compute.servers.get(*id).map(|s| s.project_id.clone());
            owner.filter(|p| caller.sees(p)).ok_or_else(|| no_instance(id))?;
            world.demolish(id)?;
            Ok(Reply::empty(204))
        }
        ("POST", ["os-server-groups"]) => {
            let body = ask.body()?;
            let group = &body["server_group"];
            let policy = group["policy"].as_str().or(group["policies"][0].as_str());
            let group = ServerGroup {
                id: world.entropy.uuid().to_string(),
                name: group["name"].as_str().unwrap_or_default().to_owned(),
                project_id: caller.project_id.clone(),
                policy: policy.unwrap_or("soft-anti-affinity").to_owned(),
            };
            let view = group_view(&group, &[]);
            world.lock().compute.groups.insert(group.id.clone(), group);
            Ok(Reply::json(200, &json!({"server_group": view})))
        }
        ("DELETE", ["os-server-groups", id]) => {
            let mut state = world.lock();
            let owner = state.compute.groups.get(*id).map(|g| g.project_id.clone());
            owner.filter(|p| caller.sees(p)).ok_or_else(|| no_group(id))?;
            state.compute.groups.remove(*id);
            Ok(Reply::empty(204))
        }
        _ => Err(Refused::missing("The resource could not be found.")),
    }
}

fn action_view(server: &str, action: &ResizeAction) -> Value {
    json!({"action": "resize", "instance_uuid": server, "request_id": action.request_id,
           "start_time": &action.began.to_string()[..26],
           "message": action.fault.as_ref().map(|_| "Error")})
}

fn no_group(id: &str) -> Refused {
    Refused::missing(format!("Instance group {id} could not be found."))
}

fn flavors(world: &World, ask: &Ask, version: Version, rest: &[&str]) -> Answer<Reply> {
    let state = world.lock();
    let all = &state.compute.flavors;
    match rest {
        [] | ["detail"] => {
            // Whoever is no administrator is shown the public ones, which are all.
            let full = !rest.is_empty();
            let views: Vec<Value> =
                all.iter().map(|f| flavor_view(f, &ask.base, version, full)).collect();
            Ok(list(ask, "flavors", views))
        }
        [id] => {
            let found = find_flavor(all, id)?;
            Ok(Reply::json(200, &json!({"flavor": flavor_view(found, &ask.base, version, true)})))
        }
        [id, "os-extra_specs"] => {
            find_flavor(all, id)?;
            Ok(Reply::json(200, &json!({"extra_specs": {}})))
        }
        _ => Err(Refused::missing("The resource could not be found.")),
    }
}

/// Nova knows flavors by id only.
fn find_flavor<'f>(all: &'f [Flavor], id: &str) -> Answer<&'f Flavor> {
    let found = all.iter().find(|f| f.id == id);
    found.ok_or_else(|| Refused::missing(format!("Flavor {id} could not be found.")))
}

fn keypairs(world: &World, caller: &Caller, ask: &Ask, path: &[&str]) -> Answer<Reply> {
    let mut state = world.lock();
    // Administrators may ask for another user's.
    let user = match ask.query("user_id") {
        Some(user) if caller.is_admin() => user.to_owned(),
        _ => caller.user_id.clone(),
    };
    let view = |k: &Keypair| {
        json!({"keypair": {"name": k.name, "fingerprint": k.fingerprint, "type": "ssh",
                           "public_key": k.public_key, "user_id": k.user_id}})
    };
    let find = |name: &str| state.compute.keypair(&user, name).cloned();
    let missing =
        |name: &str| Refused::missing(format!("Keypair {name} not found for user {user}"));
    match (ask.method.as_str(), path) {
        ("GET", [_]) => {
            let mine = state.compute.keypairs.iter().filter(|k| k.user_id == user);
            let views: Vec<Value> = mine.map(view).collect();
            Ok(list(ask, "keypairs", views))
        }
        ("GET", [_, name]) => {
            let found = find(name).ok_or_else(|| missing(name))?;
            Ok(Reply::json(200, &view(&found)))
        }
        ("POST", [_]) => {
            let body = ask.body()?;
            let given = &body["keypair"];
            let (Some(name), Some(public_key)) =
                (given["name"].as_str(), given["public_key"].as_str())
            else {
                return Err(Refused::bad("The lab wants a key pair's 'name' and 'public_key'."));
            };
            if find(name).is_some() {
                return Err(Refused::conflict(format!("Key pair '{name}' already exists.")));
            }
            let keypair = Keypair {
                user_id: user,
                name: name.to_owned(),
                public_key: public_key.to_owned(),
                fingerprint: "6c:61:62:6c:61:62:6c:61:62:6c:61:62:6c:61:62:6c".to_owned(),
            };
            let shown = view(&keypair);
            state.compute.keypairs.push(keypair);
            Ok(Reply::json(201, &shown))
        }
        ("DELETE", [_, name]) => {
            find(name).ok_or_else(|| missing(name))?;
            state.compute.keypairs.retain(|k| k.user_id != user || k.name != *name);
            Ok(Reply::empty(202))
        }
        _ => Err(Refused::missing("The resource could not be found.")),
    }
}

fn group_view(group: &ServerGroup, members: &[&str]) -> Value {
    json!({"id": group.id, "name": group.name, "project_id": group.project_id,
           "policies": [group.policy], "policy": group.policy, "rules": {}, "metadata": {},
           "members": members})
}

fn read(
    world: &World,
    caller: &Caller,
    ask: &Ask,
    version: Version,
    path: &[&str],
) -> Answer<Reply> {
    let now = world.clock.now();
    let state = world.lock();
    match path {
        ["servers"] | ["servers", "detail"] => {
            let all_tenants = ask.query("all_tenants").or(ask.query("all_projects"));
            let all = all_tenants.is_some_and(|v| !matches!(v, "0" | "False" | "false"));
            if all && !caller.is_admin() {
                return Err(Refused::forbidden(
                    "Policy doesn't allow os_compute_api:servers:detail:get_all_tenants to be performed.",
                ));
            }
            let mine = |project: &str| match ask.query("project_id").filter(|_| all) {
                Some(wanted) => wanted == project,
                None => all || project == caller.project_id,
            };
            let servers = state.compute.servers.values().filter(|s| mine(&s.project_id));
            let full = path.len() == 2;
            let view = |s| {
                let view = server_view(&state, s, now, caller, &ask.base, version);
                let short =
                    || json!({"id": view["id"], "name": view["name"], "links": view["links"]});
                let keep = ask.query.iter().all(|(key, wanted)| match key.as_str() {
                    // Nova takes a regular expression; a part of the name is its common use.
                    "name" => view["name"].as_str().is_some_and(|n| {
                        n.contains(wanted.trim_start_matches('^').trim_end_matches('$'))
                    }),
                    "status" => {
                        view["status"].as_str().is_some_and(|s| s.eq_ignore_ascii_case(wanted))
                    }
                    "deleted" => wanted.eq_ignore_ascii_case("false") || wanted == "0",
                    _ => true,
                });
                keep.then(|| if full { view.clone() } else { short() })
            };
            Ok(list(ask, "servers", servers.filter_map(view).collect()))
        }
        ["servers", id, rest @ ..] => {
            let server = state.compute.servers.get(*id).filter(|s| caller.sees(&s.project_id));
            let server = server.ok_or_else(|| no_instance(id))?;
            let view = server_view(&state, server, now, caller, &ask.base, version);
            match rest {
                [] => Ok(Reply::json(200, &json!({ "server": view }))),
                ["ips"] => Ok(Reply::json(200, &json!({"addresses": view["addresses"]}))),
                ["metadata"] => Ok(Reply::json(200, &json!({"metadata": view["metadata"]}))),
                ["os-instance-actions"] => {
                    let all = server.resizes.iter().rev().map(|action| action_view(id, action));
                    Ok(Reply::json(200, &json!({"instanceActions": all.collect::<Vec<_>>()})))
                }
                ["os-instance-actions", request] => {
                    let found = server.resizes.iter().find(|action| action.request_id == *request);
                    let found = found.ok_or_else(|| {
                        let message =
                            format!("Action for request_id {request} on instance {id} not found");
                        Refused::missing(message)
                    })?;
                    let mut view = action_view(id, found);
                    let told = caller.is_admin() && version >= Version::WITH_DETAILS;
                    let details = found.fault.as_ref().filter(|_| told);
                    view["events"] = json!([{"event": "conductor_migrate_server",
                        "result": if found.fault.is_some() { "Error" } else { "Success" },
                        "details": details}]);
                    Ok(Reply::json(200, &json!({"instanceAction": view})))
                }
                ["os-security-groups"] => Ok(Reply::json(200, &json!({"security_groups": []}))),
                ["os-volume_attachments"] => {
                    Ok(Reply::json(200, &json!({"volumeAttachments": []})))
                }
                ["os-interface"] => {
                    let ports = state.network.ports.values().filter(|p| p.device_id == *id);
                    let of = |p: &super::network::Port| {
                        json!({"port_id": p.id, "net_id": p.network_id, "mac_addr": p.mac,
                               "port_state": "ACTIVE",
                               "fixed_ips": p.fixed.iter().map(|(subnet, ip)| {
                                   json!({"subnet_id": subnet, "ip_address": ip.to_string()})
                               }).collect::<Vec<_>>()})
                    };
                    let list: Vec<Value> = ports.map(of).collect();
                    Ok(Reply::json(200, &json!({"interfaceAttachments": list})))
                }
                _ => Err(Refused::missing("The resource could not be found.")),
            }
        }
        ["os-server-groups", rest @ ..] => {
            let mine = |g: &&ServerGroup| caller.sees(&g.project_id);
            let view = |g: &ServerGroup| {
                let inside = state.compute.servers.values();
                let inside = inside.filter(|s| s.group.as_ref() == Some(&g.id));
                group_view(g, &inside.map(|s| s.id.as_str()).collect::<Vec<_>>())
            };
            match rest.first() {
                None => {
                    let all = state.compute.groups.values().filter(mine).map(view).collect();
                    Ok(list(ask, "server_groups", all))
                }
                Some(id) => {
                    let group = state.compute.groups.get(*id).filter(mine);
                    let group = group.ok_or_else(|| no_group(id))?;
                    Ok(Reply::json(200, &json!({"server_group": view(group)})))
                }
            }
        }
        ["limits"] => {
            let limit = |what| state.compute.limit(&caller.project_id, what);
            let [instances, cores, ram] = state.compute.used(&caller.project_id).map(|(_, n)| n);
            Ok(Reply::json(
                200,
                &json!({"limits": {"rate": [], "absolute": {
                    "maxTotalInstances": limit("instances"), "totalInstancesUsed": instances,
                    "maxTotalCores": limit("cores"), "totalCoresUsed": cores,
                    "maxTotalRAMSize": limit("ram"), "totalRAMUsed": ram,
                    "maxTotalKeypairs": 100, "maxServerMeta": 128, "maxServerGroups": 100,
                    "totalServerGroupsUsed": state.compute.groups.len(),
                    "maxServerGroupMembers": 100,
                }}}),
            ))
        }
        ["os-availability-zone", ..] => Ok(Reply::json(
            200,
            &json!({"availabilityZoneInfo": [
                {"zoneName": "nova", "zoneState": {"available": true}, "hosts": null},
            ]}),
        )),
        _ => Err(Refused::missing("The resource could not be found.")),
    }
}

/// Reads the body of a new server.
fn wanted(body: &Value, fault: Option<String>) -> Answer<NewServer> {
    let text = |key: &str| body[key].as_str().filter(|t| !t.is_empty()).map(str::to_owned);
    let user_data = match text("user_data") {
        None => String::new(),
        Some(encoded) => {
            let bytes = STANDARD.decode(&encoded).ok();
            bytes.and_then(|b| String::from_utf8(b).ok()).ok_or_else(|| {
                Refused::bad("Invalid input for field/attribute user_data: it must be base64.")
            })?
        }
    };
    let of = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
    let networks = body["networks"].as_array().into_iter().flatten().map(|n| Interface {
        port: of(n, "port"),
        network: of(n, "uuid"),
        subnet: None,
        fixed_ip: of(n, "fixed_ip"),
        pairs: Value::Null,
    });
    let groups = body["security_groups"].as_array();
    Ok(NewServer {
        name: text("name").ok_or_else(|| Refused::bad("'name' is a required property"))?,
        image: text("imageRef"),
        flavor: text("flavorRef")
            .ok_or_else(|| Refused::bad("'flavorRef' is a required property"))?,
        keypair: text("key_name"),
        user_data,
        config_drive: body["config_drive"].as_bool().unwrap_or(false),
        metadata: body["metadata"].clone(),
        group: None,
        networks: networks.collect(),
        security_groups: groups.map(|list| list.iter().filter_map(|g| of(g, "name")).collect()),
        fault,
    })
}
