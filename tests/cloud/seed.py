"""What the cloud contains besides services; run by `cloud` in the venv. Makes what is missing.

  seed.py queues AMQP_URL NAME...          wait until each RPC queue has a consumer
  seed.py identity CONTAINER_INFRA_URL FEATURE...
  seed.py content STATE FEATURE...

The names here are also those of `magnumd lab`, so that one client script serves both.
"""
import json
import pathlib
import sys
import time

from where import KEYSTONE, PASSWORD, PROJECTS, REGION, USER_DOMAINS, connect

HOST = "http://127.0.0.1"

SERVICES = {  # user: (type, url)
    "keystone": ("identity", KEYSTONE),
    "placement": ("placement", f"{HOST}:8778"),
    "glance": ("image", f"{HOST}:9292"),
    "neutron": ("network", f"{HOST}:9696"),
    "nova": ("compute", f"{HOST}:8774/v2.1"),
    "heat": ("orchestration", f"{HOST}:8004/v1/%(tenant_id)s"),
}
EXTRAS = {
    "cfn": ("heat-cfn", "cloudformation", f"{HOST}:8000/v1"),
    "barbican": ("barbican", "key-manager", f"{HOST}:9311"),
    "cinder": ("cinder", "block-storage", f"{HOST}:8776/v3"),
    "octavia": ("octavia", "load-balancer", f"{HOST}:9876"),
}
MEMBER = ("member", "heat_stack_owner", "load-balancer_member", "creator")
ROLES = {"demo": MEMBER, "demo2": MEMBER, "alt": MEMBER, "reader": ("reader",)}  # in the user's own project
IMAGES = {  # name: properties
    "fedora-coreos": {"os_distro": "fedora-coreos"},
    "ubuntu": {"os_distro": "ubuntu"},
    "ubuntu-v1.31.4": {"os_distro": "ubuntu", "kube_version": "v1.31.4"},
    "ubuntu-v1.32.1": {"os_distro": "ubuntu", "kube_version": "v1.32.1"},
    "fedora-atomic": {"os_distro": "fedora-atomic"},
    "opensuse": {"os_distro": "opensuse"},
    "coreos": {"os_distro": "coreos"},
    "flatcar": {"os_distro": "flatcar"},
    "no-distro": {},
}
FLAVORS = {  # name: (vcpus, MiB, GiB)
    "m1.tiny": (1, 512, 1), "m1.small": (1, 2048, 20), "m1.medium": (2, 4096, 40),
    "m1.large": (4, 8192, 80), "ds2G": (1, 2048, 10), "ds4G": (1, 4096, 20),
}


def wait_for_queues(url, names):
    import amqp
    login, host = url.removeprefix("rabbit://").rstrip("/").split("@")
    user, password = login.split(":")
    deadline = time.monotonic() + 90
    with amqp.Connection(host, user, password) as connection:
        for name in names:
            while True:
                channel = connection.channel()
                try:
                    if channel.queue_declare(name, passive=True).consumer_count:
                        channel.close()
                        break
                    channel.close()
                except amqp.NotFound:
                    pass  # the server has closed the channel
                if time.monotonic() > deadline:
                    sys.exit(f"nobody listens on {name}")
                time.sleep(0.2)


def first(items):
    return next(iter(items), None)


def seed_identity(container_infra, features):
    identity = connect("admin").identity

    roles = {r.name: r for r in identity.roles()}
    for name in ("heat_stack_owner", "heat_stack_user", "load-balancer_member", "creator"):
        roles.setdefault(name, None)
        roles[name] = roles[name] or identity.create_role(name=name)
    domains = {d.name: d for d in identity.domains()}
    for name in USER_DOMAINS:
        domains[name] = domains.get(name) or identity.create_domain(name=name)
    projects = {p.name: p for p in identity.projects()}
    for name in ("service", "demo", "alt"):
        projects[name] = projects.get(name) or identity.create_project(
            name=name, domain_id="default")

    def user(name, domain_id="default"):
        return first(identity.users(name=name, domain_id=domain_id)) or identity.create_user(
            name=name, password=PASSWORD, domain_id=domain_id)

    def grant(who, role, project=None, domain=None):
        if project:
            identity.assign_project_role_to_user(projects[project], who, roles[role])
        else:
            identity.assign_domain_role_to_user(domains[domain], who, roles[role])

    services = dict(SERVICES)
    services.update((n, (t, u)) for n, t, u in (EXTRAS[f] for f in features))
    services["magnum"] = ("container-infra", f"{container_infra.rstrip('/')}/v1")
    for name in (*services, "cinder", "octavia", "barbican"):
        if name not in ("keystone", "heat-cfn"):
            who = user(name)
            grant(who, "admin", project="service")
            grant(who, "service", project="service")
    for name, granted in ROLES.items():
        who = user(name)
        for role in granted:
            grant(who, role, project=PROJECTS[name])
    grant(user("admin"), "heat_stack_owner", project="admin")
    for name, keeper in USER_DOMAINS.items():
        grant(user(keeper, domains[name].id), "admin", domain=name)

    have = {s.type: s for s in identity.services()}
    for name, (kind, url) in services.items():
        service = have.get(kind) or identity.create_service(name=name, type=kind)
        endpoints = {e.interface: e for e in identity.endpoints(service_id=service.id)
                     if e.region_id == REGION}
        for interface in ("public", "internal", "admin"):
            if interface not in endpoints:
                identity.create_endpoint(service_id=service.id, interface=interface, url=url,
                                         region_id=REGION)
            elif endpoints[interface].url != url:
                identity.update_endpoint(endpoints[interface], url=url)


def seed_content(state, features):
    admin = connect("admin")
    net = admin.network
    public = net.find_network("public") or net.create_network(
        name="public", is_router_external=True, is_shared=False,
        provider_network_type="flat", provider_physical_network="public")
    net.find_subnet("public") or net.create_subnet(
        name="public", network_id=public.id, ip_version=4, cidr="172.24.0.0/16",
        gateway_ip="172.24.0.1", is_dhcp_enabled=False)
    private = net.find_network("private") or net.create_network(name="private", is_shared=True)
    subnet = net.find_subnet("private") or net.create_subnet(
        name="private", network_id=private.id, ip_version=4, cidr="10.20.0.0/16",
        dns_nameservers=["192.0.2.53"])
    if not net.find_router("private"):
        router = net.create_router(name="private", external_gateway_info={"network_id": public.id})
        net.add_interface_to_router(router, subnet_id=subnet.id)

    have = {i.name for i in admin.image.images()}
    for name, properties in IMAGES.items():
        if name not in have:
            image = admin.image.create_image(
                name=name, disk_format="raw", container_format="bare", visibility="public",
                min_disk=1, **properties)
            admin.image.put(f"/images/{image.id}/file", data=name.encode().ljust(1024, b"\0"),
                            headers={"Content-Type": "application/octet-stream"})
    for name, (vcpus, ram, disk) in FLAVORS.items():
        admin.compute.find_flavor(name) or admin.compute.create_flavor(
            name=name, vcpus=vcpus, ram=ram, disk=disk)

    key = pathlib.Path(state, "keys", "id_ed25519")
    if not key.exists():
        from cryptography.hazmat.primitives import serialization as ser
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        private = Ed25519PrivateKey.generate()
        key.touch(mode=0o600)
        key.write_bytes(private.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.OpenSSH,
                                              ser.NoEncryption()))
        key.with_suffix(".pub").write_bytes(private.public_key().public_bytes(
            ser.Encoding.OpenSSH, ser.PublicFormat.OpenSSH))
    for name in ("admin", *ROLES):
        compute = connect(name).compute
        if name != "reader" and not compute.find_keypair("default"):
            compute.create_keypair(name="default", public_key=key.with_suffix(".pub").read_text())

    if "cinder" in features:
        volume = admin.block_storage
        if not volume.find_type("fake"):
            volume.create_type(name="fake", extra_specs={"volume_backend_name": "fake"})

    clouds = {name: {
        "auth": {"auth_url": KEYSTONE, "username": name, "password": PASSWORD,
                 "project_name": PROJECTS[name], "user_domain_name": "Default",
                 "project_domain_name": "Default"},
        "region_name": REGION, "identity_api_version": 3} for name in ("admin", *ROLES)}
    text = json.dumps({"clouds": clouds}, indent=1)  # JSON is YAML
    pathlib.Path(state, "clouds.yaml").write_text(text)


if __name__ == "__main__":
    work = {"queues": wait_for_queues, "identity": seed_identity, "content": seed_content}
    work[sys.argv[1]](sys.argv[2], sys.argv[3:])
