"""Machines of the earlier design, which act with the cluster's trust."""
import json
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import etcd
from machine import Gone, Once, Wrong, insist, openssl, variables


def entrusted(files):
    """What a machine of the earlier design is given: its settings, what it asks Keystone, and the
    script that tells Heat; None when none is given these files."""
    tell_heat = next((files[path] for path in files if path.endswith("/tell-heat")), None)
    return tell_heat and (variables(files["/etc/sysconfig/heat-params"]),
                          files.get("/etc/magnumd/trust.json"), tell_heat)


class Entrusted(Once):
    """A machine of the earlier design: certificates by Magnum's API with the cluster's trust, and a
    word to Heat, whose wait condition is a part of the stack."""

    def __init__(self, key, server, settings, trust, tell_heat, play):
        super().__init__(key, server, play)
        self.settings, self.trust, self.tell_heat = settings, trust, tell_heat

    def pause(self, seconds):
        if self.gone.wait(seconds):
            raise Gone

    def ask(self, method, url, body=None, token=None):
        headers = {"Content-Type": "application/json",
                   "OpenStack-API-Version": "container-infra latest",
                   **({"X-Auth-Token": token} if token else {})}
        request = urllib.request.Request(url, body and body.encode(), headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                with opener.open(request, timeout=60) as answer:
                    return answer.headers, json.loads(answer.read())
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise Wrong(f"{method} {url}: {error.code} {error.read()!r}") from None
            except OSError as error:
                self.say(f"has no answer: {error}")
            self.pause(2)

    def certificates(self):
        headers, _ = self.ask("POST", f"{self.settings['AUTH_URL']}/auth/tokens", self.trust)
        token, magnum = headers["X-Subject-Token"], self.settings["MAGNUM_URL"]
        cluster = self.settings["CLUSTER_UUID"]
        ca = self.ask("GET", f"{magnum}/certificates/{cluster}", None, token)[1]["pem"]
        with tempfile.TemporaryDirectory() as name:
            key, csr, crt, authority = (Path(name, part) for part in ("key", "csr", "crt", "ca"))
            openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-keyout", key, "-out", csr,
                    "-subj", f"/CN=system:node:{self.node}/O=system:nodes",
                    "-addext", f"subjectAltName=DNS:{self.node}",
                    "-addext", "extendedKeyUsage=clientAuth,serverAuth")
            body = json.dumps({"cluster_uuid": cluster, "csr": csr.read_text()})
            signed = self.ask("POST", f"{magnum}/certificates", body, token)[1]["pem"]
            crt.write_text(signed)
            authority.write_text(ca)
            openssl("verify", "-verify_hostname", self.node, "-CAfile", authority, crt)
        self.say("has a certificate")

    def boot(self):
        left = [line for line in self.settings.values() if line.startswith("@")]
        insist(not left, f"Heat has not filled in {left}")
        if self.trust:
            self.certificates()
        if url := self.settings.get("ETCD_DISCOVERY_URL"):
            address = self.settings["KUBE_NODE_IP"]
            peers = etcd.discover(url, self.node, f"https://{address}:2380", self.pause)
            self.say(f"has found its etcd peers: {peers}")
        fails = self.play.fails(self.node, "ready")
        word = {"status": "FAILURE" if fails else "SUCCESS", "reason": f"told by {self.node}",
                "id": "first-boot"}
        done = subprocess.run(["bash", "-s", "-", json.dumps(word)], input=self.tell_heat, text=True,
                              capture_output=True)
        insist(done.returncode == 0, f"Heat does not listen: {done.stderr}")
        return "failed" if fails else "ready"
