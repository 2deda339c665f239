"""A lab whose guests are ours to play, a magnumd beside it, and what both say."""
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from machines import Machine, Switch, sh

IMAGE = Path(__file__).resolve().parent / "image"
# Where machines have these programs, and a Python that can run them.
PLACE, PYTHON = "/opt/node-image", "/opt/node-python"
PROGRAMS = {"systemctl": "systemctl", "kubeadm": "kubeadm", "kubelet": "kubelet",
            "kubectl": "kubectl", "crictl": "crictl", "containerd": "containerd",
            "kube-apiserver": "kube-apiserver", "kube-controller-manager": "kube-idle",
            "kube-scheduler": "kube-idle"}
# A machine has no config drive as a disk of its own: what would be on it is put in its place.
DRIVE = "/opt/config-drive"
MOUNT = f"""#!/bin/sh
case "$*" in
*/dev/disk/by-label/config-2*)
  for last; do :; done
  exec /usr/bin/mount --bind {DRIVE} "$last"
  ;;
esac
exec /usr/bin/mount "$@"
"""
# What would reach through to the kernel that all machines share.
HARMLESS = ("modprobe", "swapoff", "nft")
UNITS = {
    "containerd": "[Service]\nExecStart=/usr/local/bin/containerd\nRestart=always\nRestartSec=5\n",
    # As kubeadm's package has it, and images made for it.
    "kubelet": """[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=10
"""}
HERE = "192.0.2.1"  # where machines reach magnumd
PORTS = {"api": 9511, "discovery": 9512, "bootstrap": 9513}
MISHAPS = 9522  # where discovery is reached when something is to go wrong on the way
SPEED = 20  # of the timers of machines


class Daemon:
    """magnumd on the lab's cloud, killed and started as often as is wanted."""

    def __init__(self, binary, lab, log):
        self.binary, self.lab, self.log, self.process = binary, lab, log, None

    def start(self, discovery_port=PORTS["discovery"]):
        settings = {
            "discovery.listen": f"0.0.0.0:{PORTS['discovery']}",
            "discovery.advertise_url": f"http://{HERE}:{discovery_port}",
            "discovery.allow_loopback": "false",
            # What is to go wrong on the way goes wrong in a proxy.
            "bootstrap.trusted_sources": HERE,
            "bootstrap.listen": f"0.0.0.0:{PORTS['bootstrap']}",
            "bootstrap.advertise_url": f"https://{HERE}:{PORTS['bootstrap']}"}
        words = [word for pair in settings.items() for word in ("--set", "=".join(pair))]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--config", self.lab / "magnumd.toml", *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.await_port(PORTS["api"])

    def await_port(self, port):
        until = time.monotonic() + 30
        while subprocess.run(["curl", "-so", "/dev/null", f"http://127.0.0.1:{port}/"]).returncode:
            if self.process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"magnumd does not start; see {self.log}")
            time.sleep(0.1)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


class Lab(Daemon):
    """The cloud alone; its own guests hang before they have done anything."""

    def start(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.binary, "lab", "--cloud-only", "--dir", self.lab, "--port", str(PORTS["api"]),
                 "--fault", "guest:*:booted:hang"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.await_port(PORTS["bootstrap"] + 1)
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(self.lab / "clouds.yaml")


class Services:
    """The cloud's interfaces and magnumd's, as the accounts of the lab see them."""

    def __init__(self):
        from wire import Cloud
        self.cloud = Cloud()

    def ask(self, kind, method, path, body=None, who="demo", headers=None):
        url = self.cloud.endpoint(kind, who)
        status, _, text = self.cloud.ask(method, f"{url}{path}", self.cloud.token(who),
                                         body and json.dumps(body), headers)
        if status >= 300:
            raise SystemExit(f"{method} {kind} {path}: {status} {text}")
        return json.loads(text) if text else None

    def magnum(self, method, path, body=None):
        return self.ask("container-infra", method, path, body,
                        headers={"OpenStack-API-Version": "container-infra latest"})

    def servers(self):
        """Active ones, each as its guest is given it."""
        listed = self.ask("compute", "GET", "/servers/detail?all_tenants=true", who="admin")
        for server in listed["servers"]:
            if server["status"] == "ACTIVE":
                yield server

    def guest(self, server):
        """User data, version of Kubernetes in the image, and the network card."""
        shown = self.ask("compute", "GET", f"/servers/{server['id']}", who="admin",
                         headers={"X-OpenStack-Nova-API-Version": "2.3",
                                  "OpenStack-API-Version": "compute 2.3"})["server"]
        image = self.ask("image", "GET", f"/v2/images/{server['image']['id']}", who="admin")
        port, = self.ask("network", "GET", f"/v2.0/ports?device_id={server['id']}",
                         who="admin")["ports"]
        fixed = port["fixed_ips"][0]
        subnet = self.ask("network", "GET", f"/v2.0/subnets/{fixed['subnet_id']}",
                          who="admin")["subnet"]
        user_data = base64.b64decode(shown["OS-EXT-SRV-ATTR:user_data"]).decode()
        return user_data, image.get("kube_version") or "v1.31.4", port, fixed, subnet


    def vendor_data(self, server):
        """What Nova would put on the server's config drive; magnumd may be away for a while."""
        url = self.cloud.endpoint("container-infra", "admin").removesuffix("/v1")
        question = json.dumps({"instance-id": server["id"], "hostname": server["name"]})
        until = time.monotonic() + 60
        while True:
            try:
                status, _, text = self.cloud.ask("POST", f"{url}/vendordata",
                                                 self.cloud.token("admin"), question)
                if status == 200:
                    return json.dumps({"static": {}, "magnumd": json.loads(text)})
            except OSError as error:
                status, text = 0, error
            if time.monotonic() > until:
                raise SystemExit(f"magnumd gives no vendor data: {status} {text}")
            time.sleep(0.5)


def equip(machine, programs, units):
    """Give a machine programs that stand in for others, and units as packages bring them."""
    machine.bind(IMAGE, PLACE)
    machine.bind(sys.prefix, PYTHON)
    for name, file in programs.items():
        machine.write(f"/usr/local/bin/{name}",
                      f'#!/bin/sh\nexec {PYTHON}/bin/python {PLACE}/{file} "$@"\n', 0o755)
    for name in HARMLESS:
        machine.write(f"/usr/local/sbin/{name}",
                      f'#!/bin/sh\necho {name} "$@" >>/var/log/calls.log\n', 0o755)
    for name, text in units.items():
        name = name if "." in name else f"{name}.service"
        machine.write(f"/etc/systemd/system/{name}", text)


class Rack:
    """Boots a machine for every active server, and pulls the plug when the server goes or is
    rebuilt with another image; that one boots anew with an empty disk."""

    def __init__(self, services, etcd, logs):
        self.services, self.etcd, self.logs = services, etcd, logs
        self.held = set()  # ends of names of machines that stay off for now
        self.before_boot = lambda machine: None
        self.machines, self.switches, self.running = {}, {}, {}
        self.error, self.lock = None, threading.Lock()
        threading.Thread(target=self.watch, daemon=True).start()

    @property
    def etcd_version(self):
        return sh(self.etcd, "--version").split()[2]

    def watch(self):
        try:
            while True:
                self.look()
                time.sleep(0.3)
        except BaseException as error:
            self.error = error
            raise

    def look(self):
        present = {f"{s['id']}/{s['image']['id']}": s for s in self.services.servers()}
        for key in self.running.keys() - present.keys():
            with self.lock:
                machine = self.running.pop(key)
                self.machines.pop(machine.name, None)
                machine.remove()
        for key in present.keys() - self.running.keys():
            if any(present[key]["name"].endswith(end) for end in self.held):
                continue
            self.running[key] = self.assemble(present[key])

    def assemble(self, server):
        user_data, version, port, fixed, subnet = self.services.guest(server)
        if subnet["id"] not in self.switches:
            self.switches[subnet["id"]] = Switch(subnet["cidr"], subnet["gateway_ip"])
        name = server["name"]
        log = self.logs / name
        while log.exists():
            log = log.with_name(f"{log.name}-again")
        log.mkdir(parents=True)
        machine = Machine(name, self.switches[subnet["id"]], fixed["ip_address"],
                          port["mac_address"], log)
        self.install(machine, version)
        machine.write("/var/lib/cloud/data/instance-id", server["id"] + "\n")
        machine.write("/usr/local/sbin/mount", MOUNT, 0o755)
        machine.write(f"{DRIVE}/openstack/latest/vendor_data2.json",
                      self.services.vendor_data(server))
        machine.write("/var/lib/cloud/instance/user-data.txt", user_data, 0o600)
        self.before_boot(machine)
        with open(log / "console.log", "wb") as console:
            machine.boot(f"{PYTHON}/bin/python", f"{PLACE}/init", name, SPEED, output=console)
        with self.lock:
            self.machines[name] = machine
        print(f"   {machine.address} {name} boots", flush=True)
        return machine

    def install(self, machine, version):
        """What an image for kubeadm has beyond this machine."""
        equip(machine, PROGRAMS, UNITS)
        machine.bind(self.etcd, "/usr/local/bin/etcd")
        machine.bind(shutil.which("etcdctl"), "/usr/local/bin/etcdctl")
        machine.write("/etc/kubernetes-version", version + "\n")
        machine.write("/etc/etcd-version", self.etcd_version + "\n")

    def of(self, cluster, role):
        """Machines of a cluster, by index."""
        named = re.compile(rf"{cluster}-[a-z0-9]{{12}}-{role}-[0-9]+")
        with self.lock:
            found = [m for m in self.machines.values() if named.fullmatch(m.name)]
        return sorted(found, key=lambda m: int(m.name.rpartition("-")[2]))
