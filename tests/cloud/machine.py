"""One machine, played: its first boot, then its duties, every call a real node makes, every
answer checked.

Nova's hypervisor here is fake, so a server is ACTIVE and runs nothing. A Machine reads what the
server was given and speaks to magnumd as the scripts on a real image do, with openssl for keys.
"""
import base64
import http.client
import io
import json
import re
import shlex
import ssl
import subprocess
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath

import etcd

MASTER_PHASES = ("booted", "network", "runtime", "certs", "etcd", "control-plane", "addons", "ready")
WORKER_PHASES = ("booted", "network", "runtime", "certs", "ready")
# purpose: (subject the certificate must have, openssl's names of what it must be good for)
MASTER_CERTIFICATES = {
    "etcd-server": ({"CN={node}"}, ["sslserver"]),
    "etcd-peer": ({"CN={node}"}, ["sslserver", "sslclient"]),
    "etcd-client": ({"CN=kube-apiserver-etcd-client"}, ["sslclient"]),
    "front-proxy-client": ({"CN=front-proxy-client"}, ["sslclient"]),
}
WORKER_CERTIFICATES = {
    "kubelet": ({"CN=system:node:{node}", "O=system:nodes"}, ["sslclient"]),
}
# Where kubeadm does not sign for the control plane, its programs ask like everybody else.
OWN_CONTROL_PLANE = {
    "kube-apiserver": ({"CN=kube-apiserver"}, ["sslserver"]),
    "kube-apiserver-kubelet-client": ({"CN=kube-apiserver-kubelet-client"}, ["sslclient"]),
    "kube-controller-manager": ({"CN=system:kube-controller-manager"}, ["sslclient"]),
    "kube-scheduler": ({"CN=system:kube-scheduler"}, ["sslclient"]),
    "admin": ({"CN=admin", "O=system:masters"}, ["sslclient"]),
}
KUBE_PROXY = {"kube-proxy": ({"CN=system:kube-proxy", "O=system:node-proxier"}, ["sslclient"])}
# Which file of a bundle names the authority that signs; the cluster's own for all others.
SIGNERS = {"etcd-server": "pki/etcd/ca.crt", "etcd-peer": "pki/etcd/ca.crt",
           "etcd-client": "pki/etcd/ca.crt", "front-proxy-client": "pki/front-proxy-ca.crt"}
AUTHORITIES = {"pki/ca.crt", *SIGNERS.values()}
# etcd's authority signs for masters in magnumd only.
MASTER_KEYS = ["pki/ca.key", "pki/front-proxy-ca.key", "pki/sa.key"]
DUTIES = ("drain", "trust-authorities", "issue-leaves", "drop-authorities", "rejoin")
AUTHORITY = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
BETWEEN = 2  # seconds; a real node asks for duties twice a minute


class Gone(Exception):
    """The server was deleted, is rebuilt or resized: its machine stops where it stands."""


# How magnumd speaks to a server that is its node no more.
PARTED = ("which has this node's name now", "of a server that is gone or rebuilt")


class Refused(Exception):
    """magnumd said no."""

    def __init__(self, status, sentence):
        super().__init__(f"{status}: {sentence}")
        self.status = status


class Wrong(Exception):
    """magnumd gave something that a node could not work with, or must not be given."""


def insist(truth, sentence):
    if not truth:
        raise Wrong(sentence)


def openssl(*argv, text=None):
    done = subprocess.run(["openssl", *map(str, argv)], input=text, text=True,
                          capture_output=True)
    insist(done.returncode == 0, f"openssl {argv[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def variables(text):
    """What a file of assignments for a shell sets."""
    pairs = (word.partition("=") for word in shlex.split(text, comments=True))
    return {key: value for key, _, value in pairs}


def written(server):
    """The files that a server's user data writes, path to text, to bytes where they came in
    base64: cloud-config or Ignition."""
    import yaml
    text = base64.b64decode(server.get("OS-EXT-SRV-ATTR:user_data") or "").decode(errors="replace")
    if text.startswith("#cloud-config"):
        return {entry.get("path"): base64.b64decode(entry["content"])
                if entry.get("encoding") == "b64" else entry["content"]
                for entry in yaml.safe_load(text).get("write_files", [])}
    if not text.lstrip().startswith("{"):
        return {}
    config = json.loads(text)
    insist(config["ignition"]["version"].startswith("3."), f"Ignition is {config['ignition']}")
    sources = {entry["path"]: entry["contents"]["source"]
               for entry in config.get("storage", {}).get("files", []) if "contents" in entry}
    files = {}
    for path, source in sources.items():
        insist(source.startswith("data:"), f"{path} is to be fetched from {source}")
        with urllib.request.urlopen(source) as content:  # a data: URL, whatever its coding
            files[path] = content.read().decode()
    return files


def given(files):
    """node.env as a dict, and the bootstrap CA or None; None when no node is given these files."""
    environment = files.get("/etc/magnumd/node.env")
    return environment and (variables(environment), files.get("/etc/magnumd/bootstrap-ca.pem"))


def unpacked(data):
    """A bundle's files, path to text: nothing in it is dangerous or broken."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            insist((member.isreg() or member.isdir()) and not path.is_absolute()
                   and ".." not in path.parts,
                   f"the bundle has {member.name!r}, which is not a plain file below /")
            if member.isdir():
                continue
            text = tar.extractfile(member).read().decode(errors="replace")
            if "PRIVATE KEY-----" in text:
                insist(member.mode & 0o077 == 0,
                       f"{path} holds a key and may be read by others: {member.mode:o}")
                openssl("pkey", "-noout", text=text)
            if path.suffix in (".crt", ".pem"):
                for certificate in AUTHORITY.findall(text):
                    openssl("x509", "-noout", "-checkend", "86400", text=certificate)
            files[str(path)] = text
    insist(files, "the bundle is empty")
    return files


def keys(files):
    return sorted(path for path, text in files.items() if "PRIVATE KEY-----" in text)


def authorities(files):
    """By the path of their file, in order."""
    return {path: AUTHORITY.findall(files[path]) for path in sorted(AUTHORITIES)
            if path in files}


class Machine(threading.Thread):
    def __init__(self, key, server, environment, ca, play, resumed):
        super().__init__(name=server["name"], daemon=True)
        self.key = key  # unlike the instance, another one after each rebuild
        self.node, self.instance = server["name"], server["id"]
        self.environment, self.play = environment, play
        self.address = next((a["addr"] for net in server["addresses"].values() for a in net
                             if a.get("OS-EXT-IPS:type") != "floating"), "127.0.0.1")
        self.is_master = environment["MAGNUMD_NODE_ROLE"] == "master"
        self.ca = ca
        # The key and the certificate of the first contact, kept as on the machine's disk.
        self.identity = play.disk(key)
        self.gone = threading.Event()
        self.resumed = resumed  # before this program was started
        self.asks_for_all = False  # whether every certificate is asked for, not only etcd's
        self.trusted = None  # authorities by file, first the one that signs, once they are known
        self.end = None  # "ready", "failed", "gone", or what was wrong

    def say(self, text):
        self.play.say(f"{self.node} {text}")

    # --- the bootstrap interface -----------------------------------------------------------

    def pause(self, seconds):
        if self.gone.wait(seconds):
            raise Gone

    def tls(self, own):
        """With its own certificate, or without."""
        context = ssl.create_default_context(cadata=self.ca)
        if own:
            context.load_cert_chain(self.identity / "certificate.pem", self.identity / "key.pem")
        return context

    def claim(self):
        """First contact: a certificate for a key that is on the disk before it is shown."""
        if (self.identity / "certificate.pem").exists():
            return
        key, request = self.identity / "key.pem", self.identity / "request.pem"
        if not key.exists():
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
            key.chmod(0o600)
        openssl("req", "-new", "-key", key, "-subj", f"/CN={self.node}", "-out", request)
        asked = {"csr": request.read_text()}
        certificate = json.loads(self.call("POST", "claim", asked, by="token"))["certificate"]
        insist(openssl("x509", "-noout", "-pubkey", text=certificate)
               == openssl("pkey", "-in", key, "-pubout"),
               "the claim was answered with a certificate for another key")
        insist(json.loads(self.call("POST", "claim", asked, by="token"))["certificate"]
               == certificate, "the same claim again has another answer")
        (self.identity / "certificate.pem").write_text(certificate)
        self.must_not_open()

    def must_not_open(self):
        """What the token opens no more, and the certificate does not open."""
        for what, method, call, body, how, statuses in (
                ("the bundle by its token", "GET", "bundle", None, {"by": "token"}, (403,)),
                ("a duty by its token", "GET", "duty", None, {"by": "token"}, (403,)),
                ("another node's bundle", "GET", "bundle", None, {"node": "no-such-node"}, (403,)),
                ("a bundle for nothing", "GET", "bundle", None, {"by": "nothing"}, (401,))):
            self.refused(what, method, call, body, statuses, **how)

    def refused(self, what, method, call, body, statuses, **how):
        try:
            self.call(method, call, body, **how)
        except Refused as refusal:
            insist(refusal.status in statuses,
                   f"{what} was refused with {refusal}, expected {statuses}")
        else:
            raise Wrong(f"{self.node} was given {what}")

    def once(self, method, call, body=None, node=None, token=None, by="key"):
        """One call of the bootstrap interface; its body. By its own key, its token or nothing."""
        url = f"{self.environment['MAGNUMD_BOOTSTRAP_URL']}/bootstrap/v1/{node or self.node}/{call}"
        headers = {}
        if by == "token":
            token = token or self.environment["MAGNUMD_ENROLMENT_TOKEN"]
            headers = {"Authorization": f"Bearer {token}", "X-Magnumd-Instance": self.instance}
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body).encode()
        handlers = [urllib.request.ProxyHandler({}),
                    urllib.request.HTTPSHandler(context=self.tls(by == "key"))]
        request = urllib.request.Request(url, body, headers, method=method)
        with urllib.request.build_opener(*handlers).open(request, timeout=60) as answer:
            return answer.read()

    def call(self, method, call, body=None, **other):
        """The same, asked again for as long as magnumd is away or not ready to answer."""
        if other.get("by", "key") == "key":
            self.claim()
        said = None
        while True:
            delay = 1.0
            try:
                return self.once(method, call, body, **other)
            except urllib.error.HTTPError as error:
                text = error.read().decode(errors="replace")
                try:
                    sentence = json.loads(text)["error"]["message"]
                except (ValueError, KeyError, TypeError):
                    raise Wrong(f"{method} {call}: {error.code} with the body {text!r}") from None
                if error.code not in (429, 503):
                    raise Refused(error.code, sentence) from None
                trouble = f"is told to wait: {sentence}"
                delay = min(float(error.headers.get("Retry-After", 5)), 5)
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                insist(not isinstance(reason, ssl.SSLCertVerificationError),
                       f"the bootstrap CA does not vouch for magnumd: {reason}")
                trouble = f"has no answer: {reason}"
            if trouble != said:
                self.say(trouble)
                said = trouble
            self.pause(delay)

    def report(self, phase, state, message="", log_tail=""):
        self.call("POST", "status", {"phase": phase, "state": state, "message": message,
                                     "log_tail": log_tail})
        if state != "started":
            self.say(f"{phase} {state}")

    # --- the phases that do something ------------------------------------------------------

    def network(self):
        """Fetch the bundle, and see that nothing in it is dangerous, broken or too much."""
        data = self.call("GET", "bundle")
        files = unpacked(data)
        self.trusted = authorities(files)
        insist(self.trusted, "the bundle has no authority")
        self.look(files)
        wanted = MASTER_KEYS if self.is_master else []
        if self.asks_for_all:
            wanted = wanted[-1:]  # that of service accounts, which signs no certificate
        insist(keys(files) == wanted, f"the bundle gives {keys(files)} instead of {wanted}")
        self.say(f"has a bundle: {len(files)} files, {len(keys(files))} keys, {len(data)} bytes")

    def look(self, files):
        """Whether there is a kubeadm that signs, or a container for each program, which asks."""
        self.asks_for_all = "KUBE_IMAGE=" in files["env"]

    def certs(self):
        """Certificates for this node, each by the first authority of its file."""
        table = MASTER_CERTIFICATES if self.is_master else WORKER_CERTIFICATES
        if self.asks_for_all:
            table = {**table, **KUBE_PROXY, **(WORKER_CERTIFICATES if self.is_master else {}),
                     **(OWN_CONTROL_PLANE if self.is_master else {})}
        with tempfile.TemporaryDirectory() as name:
            for purpose, (subject, uses) in table.items():
                self.certificate(Path(name), purpose, subject, uses)
            if not self.is_master:
                self.must_not_have(Path(name))

    def request(self, directory):
        """A new key and a request that asks for more than a node may have."""
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-keyout", directory / "key", "-out", directory / "csr",
                "-subj", "/O=system:masters/CN=admin", "-addext",
                f"subjectAltName=DNS:{self.node},DNS:localhost,IP:127.0.0.1,IP:{self.address}")
        return (directory / "csr").read_text()

    def certificate(self, directory, purpose, subject, uses):
        csr = self.request(directory)
        answer = json.loads(self.call("POST", "csr", {"purpose": purpose, "csr": csr}))
        cert, ca = directory / "crt", directory / "ca"
        signer = SIGNERS.get(purpose, "pki/ca.crt")
        insist(answer["ca"].strip() == self.trusted[signer][0],
               f"the {purpose} certificate is by another authority than the first of {signer}")
        cert.write_text(answer["certificate"])
        ca.write_text(answer["ca"])
        for use in uses:
            name = ["-verify_hostname", self.node] if use == "sslserver" else []
            openssl("verify", "-x509_strict", "-purpose", use, *name, "-CAfile", ca, cert)
        if purpose == "kube-apiserver":
            for name in (["-verify_hostname", "kubernetes.default.svc"],
                         ["-verify_ip", self.address], ["-verify_ip", "10.254.0.1"]):
                openssl("verify", *name, "-CAfile", ca, cert)
        insist(openssl("x509", "-in", cert, "-noout", "-pubkey")
               == openssl("pkey", "-in", directory / "key", "-pubout"),
               f"the {purpose} certificate is for another key than ours")
        names = openssl("x509", "-in", cert, "-noout", "-subject", "-nameopt", "RFC2253")
        found = set(names.strip().removeprefix("subject=").split(","))
        wanted = {part.format(node=self.node) for part in subject}
        insist(wanted <= found and ("O=system:masters" not in found or purpose == "admin"),
               f"the {purpose} certificate is for {found}, expected {wanted}")

    def must_not_have(self, directory):
        """What a worker must be refused: a master's certificate, another node's name, no token."""
        wish = {"purpose": "etcd-client", "csr": self.request(directory)}
        own = {"purpose": "kubelet", "csr": wish["csr"]}
        for what, body, how, status in (
                ("a master's certificate", wish, {}, 403),
                ("a certificate for a node that is not ours", own, {"node": "no-such-node"}, 403),
                ("a certificate by its token", own, {"by": "token"}, 403),
                ("a certificate with a forged token", own, {"by": "token", "token": "forged"}, 401)):
            self.refused(what, "POST", "csr", body, (status,), **how)

    def etcd(self):
        url = self.environment.get("MAGNUMD_ETCD_DISCOVERY_URL")
        if url:
            peers = etcd.discover(url, self.node, f"https://{self.address}:2380", self.pause)
            self.say(f"has found its etcd peers: {peers}")

    # --- duties ----------------------------------------------------------------------------

    def drain(self, files, targets):
        insist(self.is_master, "a worker is told to drain")
        insist(targets and self.node not in targets, f"{self.node} is told to drain {targets}")
        insist(not keys(files), f"a drain comes with {keys(files)}")

    def rejoin(self, files, targets):
        insist(not targets, f"{self.node} is told to rejoin with {targets}")
        insist(not keys(files), f"a rejoin comes with {keys(files)}")
        self.say("works again after its resize")

    def given_authorities(self, files, count):
        """As many in each file as the duty needs, and none for those who have no use for them."""
        given = authorities(files)
        wanted = AUTHORITIES if self.is_master else {"pki/ca.crt"}
        insist(set(given) == wanted, f"authorities came in {set(given)}, not in {wanted}")
        for path, found in given.items():
            insist(len(set(found)) == len(found) == count,
                   f"{path} has {len(found)} authorities, {len(set(found))} different ones, "
                   f"instead of {count}")
        return given

    def known(self, given, choose, sentence):
        """Each file has what `choose` makes of what is trusted. A machine that booted before this
        program was started does not know at first."""
        for path, found in given.items() if self.trusted else ():
            insist(found == choose(self.trusted[path]), f"{path}: {sentence}")
        self.trusted = given

    def trust_authorities(self, files, targets):
        insist(not keys(files), f"trust comes with {keys(files)}")
        given = self.given_authorities(files, 2)
        for path, (present, _) in given.items() if self.trusted else ():
            insist(present in self.trusted[path], f"{path}: the first is not trusted so far")
        self.trusted = given

    def issue_leaves(self, files, targets):
        given = self.given_authorities(files, 2)
        self.known(given, lambda trusted: trusted[::-1],
                   "not the next authority, then the present one, as they were to be trusted")
        self.look(files)
        if self.is_master and not self.asks_for_all:
            insist(keys(files) == MASTER_KEYS,
                   f"the duty gives {keys(files)} to a master, not {MASTER_KEYS}")
            for path in given.keys() & {"pki/ca.crt", "pki/front-proxy-ca.crt"}:
                signer, key = given[path][0], path.removesuffix("crt") + "key"
                insist(openssl("pkey", "-pubout", text=files[key])
                       == openssl("x509", "-noout", "-pubkey", text=signer),
                       f"{key} is not the key of the first authority in {path}")
        else:
            insist(not keys(files), f"the duty gives {keys(files)}, which nobody needs")
        self.certs()

    def drop_authorities(self, files, targets):
        insist(not keys(files), f"the end of trust comes with {keys(files)}")
        self.known(self.given_authorities(files, 1), lambda trusted: trusted[:1],
                   "what is left is not the new authority")

    def do_duties(self):
        """Until the server is gone."""
        while True:
            self.pause(BETWEEN)
            try:
                data = self.call("GET", "duty")
            except Refused as refused:
                # It is about to be rebuilt or removed, and may not have heard of it.
                if not any(end in str(refused) for end in PARTED):
                    raise
                continue
            if not data:
                continue
            files = unpacked(data)
            if sorted(files) == ["duty.sh"]:
                # magnumd was restored from before the end of the first boot.
                self.report("ready", "done")
                continue
            insist("work.sh" in files and "duty.env" in files, f"a duty has only {sorted(files)}")
            said = variables(files["duty.env"])
            kind, number = said["DUTY_KIND"], int(said["DUTY_NUMBER"])
            insist(kind in DUTIES, f"{kind!r} is no duty that a node knows")
            state, message, wrong = "done", "", None
            if self.play.fails(self.node, kind):
                state, message = "failed", f"{kind} was told to fail on {self.node}"
            else:
                try:
                    getattr(self, kind.replace("-", "_"))(files, said["DUTY_TARGETS"].split())
                except Wrong as found:
                    state, message, wrong = "failed", str(found), found
            self.call("POST", "duty", {"number": number, "state": state, "message": message})
            self.say(f"{kind} {said['DUTY_TARGETS']} {state}".replace("  ", " "))
            if wrong:
                raise wrong

    # --- first boot ------------------------------------------------------------------------

    def boot(self):
        for phase in MASTER_PHASES if self.is_master else WORKER_PHASES:
            while self.play.holds(phase):
                self.pause(0.2)
            if self.play.fails(self.node, phase):
                self.report(phase, "failed", f"{phase} was told to fail on {self.node}",
                            f"guests: --fail {self.node}={phase}\n")
                return "failed"
            self.report(phase, "started")
            getattr(self, phase, lambda: None)()
            self.report(phase, "done")
        return "ready"

    def attempt(self, part):
        """How a part of the machine's life ends, in a word or in what was wrong."""
        try:
            return part()
        except Gone:
            return "gone"
        except Refused as refusal:
            # While a cluster is being deleted its nodes outlive it for a moment.
            return "gone" if refusal.status in (401, 404) and self.gone.wait(60) else str(refusal)
        except Wrong as wrong:
            return str(wrong)
        except Exception as error:  # a thread's traceback would be lost among the others
            return f"{type(error).__name__}: {error}"

    def run(self):
        if self.resumed:
            self.end = "ready"
        else:
            self.ended(self.attempt(self.boot))
        if self.end == "ready" and (end := self.attempt(self.do_duties)) != "gone":
            self.ended(end)

    def ended(self, end):
        self.end = end
        self.say("is gone" if end == "gone" else
                 f"is {end}" if end in ("ready", "failed") else f"WRONG: {end}")
        self.play.ended(self)


class Once(threading.Thread):
    """A machine that boots, and has nothing to do afterwards."""

    def __init__(self, key, server, play):
        super().__init__(name=server["name"], daemon=True)
        self.key, self.node, self.play = key, server["name"], play
        self.gone = threading.Event()
        self.end = None

    def say(self, text):
        self.play.say(f"{self.node} {text}")

    def run(self):
        try:
            self.end = self.boot()
        except Gone:
            self.end = "gone"
        except Wrong as wrong:
            self.end = str(wrong)
        except Exception as error:  # a thread's traceback would be lost among the others
            self.end = f"{type(error).__name__}: {error}"
        self.say(f"is {self.end}" if self.end in ("ready", "failed", "gone") else f"WRONG: {self.end}")
        self.play.ended(self)
