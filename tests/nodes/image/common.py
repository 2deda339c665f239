"""What the programs of the image share: their record, kubeconfigs, and the cluster's API."""
import base64
import fcntl
import http.client
import json
import os
import ssl
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

import yaml

RECORD = "/var/log/calls.log"
CONTAINERS = Path("/run/containers")
CONTAINERD = "/run/containerd/containerd.sock"
KUBERNETES = Path("/etc/kubernetes")


def record():
    """One line for every call of a program that stands for another."""
    with open(RECORD, "a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        print(Path(sys.argv[0]).name, *sys.argv[1:], file=log)


def refuse(sentence):
    sys.exit(f"{Path(sys.argv[0]).name}: {sentence}")


def options(argv, *known):
    """`--a=b` and `--a b` as a dict, and the other words. Options that are not known end the
    program: a flag that the real one does not have would end that too."""
    found, words, rest = {}, [], list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            words.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        switch = f"{name}!" in known
        if name not in known and not switch:
            refuse(f"unknown flag: {word}")
        found[name] = value if equals else "true" if switch else rest.pop(0)
    return found, words


class Api:
    """The cluster's API, as a kubeconfig leads to it."""

    def __init__(self, kubeconfig):
        config = yaml.safe_load(Path(kubeconfig).read_text())
        contexts = {c["name"]: c["context"] for c in config["contexts"]}
        context = contexts[config["current-context"]]
        cluster = {c["name"]: c["cluster"] for c in config["clusters"]}[context["cluster"]]
        user = {u["name"]: u["user"] for u in config["users"]}[context["user"]]
        self.server = urllib.parse.urlsplit(cluster["server"])
        self.certificate = self._text(user, "client-certificate")
        self.key = self._text(user, "client-key")
        self.tls = ssl.create_default_context(
            cadata=self._text(cluster, "certificate-authority"))
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("certificate", "key")]
            for path, text in zip(files, (self.certificate, self.key)):
                write_whole(path, text)
            self.tls.load_cert_chain(*files)

    @staticmethod
    def _text(section, name):
        if f"{name}-data" in section:
            return base64.b64decode(section[f"{name}-data"]).decode()
        return Path(section[name]).read_text()

    def ask(self, method, path, body=None, timeout=5):
        """(status, JSON or text); OSError when nobody answers or nobody is trusted."""
        link = http.client.HTTPSConnection(self.server.hostname, self.server.port or 443,
                                           timeout=timeout, context=self.tls)
        try:
            link.request(method, path, None if body is None else json.dumps(body))
            answer = link.getresponse()
            text = answer.read().decode()
            is_json = answer.headers.get_content_type() == "application/json"
            return answer.status, json.loads(text) if is_json else text
        finally:
            link.close()


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def containers():
    """Running ones, by id."""
    found = {}
    for path in CONTAINERS.glob("*.json"):
        container = json.loads(path.read_text())
        if is_alive(container["pid"]):
            found[path.stem] = container
    return found


def write_whole(path, text, mode=0o600):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    other = path.with_name(f".{path.name}.new")
    other.write_text(text)
    other.chmod(mode)
    os.replace(other, path)


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
