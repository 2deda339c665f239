//! The world at its beginning; the names are those of the project's real test cloud.

use serde_json::json;

use super::compute::{Flavor, Keypair};
use super::glance::Image;
use super::identity::{Domain, Grant, Project, Role, Scope};
use super::world::{Caller, World};

pub(super) const PASSWORD: &str = "secret";
pub(super) const REGION: &str = "RegionOne";

const ROLES: &[&str] = &[
    "admin",
    "manager",
    "member",
    "reader",
    "service",
    "heat_stack_owner",
    "heat_stack_user",
    "load-balancer_member",
    "creator",
];
const TENANT: &[&str] = &["member", "heat_stack_owner", "load-balancer_member", "creator"];
/// User, project, roles.
const USERS: &[(&str, &str, &[&str])] = &[
    ("admin", "admin", &["admin", "heat_stack_owner"]),
    ("demo", "demo", TENANT),
    ("demo2", "demo", TENANT),
    ("alt", "alt", TENANT),
    ("reader", "demo", &["reader"]),
    ("magnum", "service", &["admin", "service"]),
    ("heat", "service", &["admin", "service"]),
    ("nova", "service", &["admin", "service"]),
    ("neutron", "service", &["admin", "service"]),
    ("glance", "service", &["admin", "service"]),
];
/// Name, `os_distro` and `kube_version`.
const IMAGES: &[(&str, Option<&str>, Option<&str>)] = &[
    ("fedora-coreos", Some("fedora-coreos"), None),
    ("ubuntu", Some("ubuntu"), None),
    ("ubuntu-v1.31.4", Some("ubuntu"), Some("v1.31.4")),
    ("ubuntu-v1.32.1", Some("ubuntu"), Some("v1.32.1")),
    ("ubuntu-v1.34.0", Some("ubuntu"), Some("v1.34.0")),
    ("fedora-atomic", Some("fedora-atomic"), None),
    ("coreos", Some("coreos"), None),
    ("flatcar", Some("flatcar"), None),
    ("opensuse", Some("opensuse"), None),
    ("no-distro", None, None),
];
const FLAVORS: &[(&str, u64, u64, u64)] = &[
    ("m1.tiny", 1, 512, 1),
    ("m1.small", 1, 2048, 20),
    ("m1.medium", 2, 4096, 40),
    ("m1.large", 4, 8192, 80),
    ("ds2G", 1, 2048, 10),
    ("ds4G", 1, 4096, 20),
];
/// Nobody holds its private half: guests of the lab cannot be logged into.
const PUBLIC_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYi1s lab";

/// Fills an empty world whose public network has these addresses.
pub(super) fn seed(world: &World, public_cidr: &str) {
    let (entropy, now) = (&world.entropy, world.clock.now());
    let mut guard = world.lock();
    let state = &mut *guard;

    let identity = &mut state.identity;
    for name in ["Default", "heat", "magnum"] {
        let id = if name == "Default" { "default".to_owned() } else { entropy.hex_token() };
        let (name, description) = (name.to_owned(), String::new());
        identity.domains.push(Domain { id, name, description, enabled: true });
    }
    identity.roles = ROLES
        .iter()
        .map(|name| Role { id: entropy.hex_token(), name: (*name).to_owned() })
        .collect();
    for name in ["admin", "service", "demo", "alt"] {
        let (id, domain_id) = (entropy.hex_token(), "default".to_owned());
        let (name, description) = (name.to_owned(), String::new());
        identity.projects.push(Project { id, name, domain_id, description });
    }
    let project = |identity: &super::identity::Identity, name: &str| {
        let found = identity.projects.iter().find(|p| p.name == name);
        found.map(|p| p.id.clone()).expect("projects were made above")
    };
    for (name, home, roles) in USERS {
        let user = identity.create_user(entropy, name, "default", PASSWORD);
        let user = user.expect("the names differ").id;
        let scope = Scope::Project(project(identity, home));
        identity.grants.extend(roles.iter().map(|role| Grant {
            user: user.clone(),
            scope: scope.clone(),
            role: (*role).to_owned(),
        }));
        if *name == "admin" {
            let role = "admin".to_owned();
            identity.grants.push(Grant { user: user.clone(), scope: Scope::System, role });
        }
        if !matches!(*home, "service") && *name != "reader" {
            state.compute.keypairs.push(Keypair {
                user_id: user,
                name: "default".to_owned(),
                public_key: PUBLIC_KEY.to_owned(),
                fingerprint: "6c:61:62:6c:61:62:6c:61:62:6c:61:62:6c:61:62:6c".to_owned(),
            });
        }
    }
    for name in ["heat", "magnum"] {
        let domain = identity.domains.iter().find(|d| d.name == name).map(|d| d.id.clone());
        let domain = domain.expect("domains were made above");
        let admin = format!("{name}_domain_admin");
        let user = identity.create_user(entropy, &admin, &domain, PASSWORD);
        let (user, role) = (user.expect("the names differ").id, "admin".to_owned());
        identity.grants.push(Grant { user, scope: Scope::Domain(domain), role });
    }

    for (number, (name, vcpus, ram, disk)) in FLAVORS.iter().enumerate() {
        let (id, name) = ((number + 1).to_string(), (*name).to_owned());
        state.compute.flavors.push(Flavor { id, name, vcpus: *vcpus, ram: *ram, disk: *disk });
    }
    let owner = project(&state.identity, "admin");
    for (name, os_distro, kube_version) in IMAGES {
        state.images.push(Image {
            id: entropy.uuid().to_string(),
            name: (*name).to_owned(),
            os_distro: os_distro.map(str::to_owned),
            kube_version: kube_version.map(str::to_owned),
            owner: owner.clone(),
            min_disk: 1,
            min_ram: 0,
            created_at: now,
        });
    }

    let admin = state.identity.user_named("admin", "default").expect("made above").id.clone();
    let caller = Caller { user_id: admin, project_id: owner, roles: vec!["admin".to_owned()] };
    let net = &mut state.network;
    let mut make = |kind: &str, body: serde_json::Value| {
        net.create(entropy, &caller, kind, &body).expect("the seed keeps the rules")
    };
    let public = make("networks", json!({"name": "public", "router:external": true}));
    make(
        "subnets",
        json!({"name": "public", "network_id": public, "cidr": public_cidr, "enable_dhcp": false}),
    );
    let private = make("networks", json!({"name": "private", "shared": true}));
    let subnet = make(
        "subnets",
        json!({"name": "private", "network_id": private, "cidr": "10.20.0.0/16",
               "dns_nameservers": ["192.0.2.53"]}),
    );
    let router = make(
        "routers",
        json!({"name": "private", "external_gateway_info": {"network_id": public}}),
    );
    net.attach(entropy, &caller, &router, &subnet).expect("the seed keeps the rules");

    for project in &state.identity.projects {
        net.default_group(&project.id, entropy);
    }
    for kind in super::network::KINDS {
        state.seeded.extend(state.network.ids(kind.0));
    }
    state.seeded.extend(state.identity.users.iter().map(|u| u.id.clone()));
    state.seeded.insert("default".to_owned());
}
