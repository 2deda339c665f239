"""What the client scripts share: their Python, checks that say what they look at, certificates.

The cloud is the one that OS_CLIENT_CONFIG_FILE describes; MAGNUMD_LOG, when set, names magnumd's
log, whose end is shown when a check fails.
"""
import contextlib
import fcntl
import functools
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "magnumd-tests")
VENV = CACHE / "clients"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What every cluster here is made of; the lab and the real cloud have these by the same names.
TEMPLATE = {"coe": "kubernetes", "image_id": "ubuntu", "flavor_id": "m1.small",
            "master_flavor_id": "m1.small", "external_network_id": "public",
            "keypair_id": "default"}
PATIENCE = float(os.environ.get("MAGNUMD_TEST_PATIENCE", 300))  # seconds for a create or delete


def in_venv():
    """Continue in the virtual environment of the pinned clients, made when it is missing."""
    if Path(sys.prefix) == VENV:
        if "OS_CLIENT_CONFIG_FILE" not in os.environ:
            sys.exit("set OS_CLIENT_CONFIG_FILE to the clouds.yaml of the lab or of the cloud")
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "clients.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = HERE / "requirements.txt"
        made = VENV / "requirements.txt"
        if not made.exists() or made.read_text() != wanted.read_text():
            print(f"making {VENV}", flush=True)
            subprocess.run(["python3", "-m", "venv", VENV], check=True)
            subprocess.run([VENV / "bin/pip", "install", "-q", "--disable-pip-version-check",
                            "-r", wanted, "-c", HERE.parent / "cloud/constraints.txt"], check=True)
            made.write_text(wanted.read_text())
    os.execv(VENV / "bin/python", [VENV / "bin/python", *sys.argv])


# --- saying and checking -------------------------------------------------------------------

count = 0


def step(title):
    print(f"\n== {title}", flush=True)


def check(what, truth, found=""):
    """Go on when `truth`; otherwise say what was found, and end the script."""
    global count
    count += 1
    if truth:
        print(f"   ok: {what}", flush=True)
        return
    print(f"   FAILED: {what}\n   found: {found}", flush=True)
    if log := os.environ.get("MAGNUMD_LOG"):
        lines = Path(log).read_text(errors="replace").splitlines()[-25:]
        print("   the end of magnumd's log:\n" + "\n".join(f"   | {line}" for line in lines))
    sys.exit(1)


def equal(what, found, wanted):
    check(f"{what}: {wanted!r}", found == wanted, repr(found))


def has(what, text, part):
    check(f"{what}: {part!r}", part in text, text)


def done():
    print(f"\n{count} checks passed", flush=True)


def await_(what, look, seconds=PATIENCE, every=1.0):
    """Call `look` until it gives something true, which is returned."""
    began = time.monotonic()
    while not (found := look()):
        if time.monotonic() - began > seconds:
            check(f"{what} within {seconds:.0f} s", False, "still not so")
        time.sleep(every)
    check(f"{what}, after {time.monotonic() - began:.1f} s", True)
    return found


# --- openssl -------------------------------------------------------------------------------

def openssl(*argv, text=None):
    done = subprocess.run(["openssl", *map(str, argv)], input=text, text=True,
                          capture_output=True)
    check(f"openssl {' '.join(map(str, argv[:4]))}", done.returncode == 0,
          done.stderr or done.stdout)
    return done.stdout


def request(directory, subject, algorithm):
    """A new key and a request for it: directory/key.pem, directory/csr.pem."""
    new = {"rsa": ["rsa:2048"], "ec": ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
           "p521": ["ec", "-pkeyopt", "ec_paramgen_curve:secp521r1"]}
    openssl("req", "-new", "-newkey", *new[algorithm], "-nodes", "-subj", subject,
            "-keyout", directory / "key.pem", "-out", directory / "csr.pem")
    return directory / "csr.pem"


def is_authority(pem):
    text = openssl("x509", "-noout", "-ext", "basicConstraints,keyUsage", text=pem)
    has("the cluster's certificate is a CA", text, "CA:TRUE")
    has("it may sign certificates", text, "Certificate Sign")
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "ca.crt")
        file.write_text(pem)
        openssl("verify", "-x509_strict", "-CAfile", file, file)


def is_client(directory, ca, cert, key, subject):
    """cert is signed by ca for client authentication, has this subject and this key."""
    ca_file, cert_file, key_file = (directory / n for n in ("ca.crt", "client.crt", "client.key"))
    for path, text in ((ca_file, ca), (cert_file, cert), (key_file, key)):
        path.write_text(text)
    openssl("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca_file, cert_file)
    line = openssl("x509", "-in", cert_file, "-noout", "-subject", "-nameopt", "RFC2253")
    found = set(line.strip().removeprefix("subject=").split(","))
    equal("the certificate's subject", sorted(found), sorted(subject))
    check("the certificate is for our key",
          openssl("x509", "-in", cert_file, "-noout", "-pubkey")
          == openssl("pkey", "-in", key_file, "-pubout"))
    text = openssl("x509", "-in", cert_file, "-noout", "-text")
    check("the certificate is no CA", "CA:TRUE" not in text, text)


# --- the stock command line client ---------------------------------------------------------

class Said:
    """What an `openstack` command printed, and how it ended."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err
        self.text = self.out + self.err

    def json(self):
        """Some commands print a sentence before the JSON."""
        start = min((i for i in map(self.out.find, "[{") if i >= 0), default=-1)
        check("the answer has JSON", start >= 0, self.text)
        return json.loads(self.out[start:])


@functools.cache
def client():
    """The main function of the installed `openstack`, loaded once: a process for each command
    would spend a second on imports alone. Asking for help loads the rest and connects to nothing."""
    from openstackclient import shell
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        shell.main(["coe", "cluster", "list", "--help"])
    import magnumclient.v1.client  # noqa: F401
    return shell.main


def openstack(words, cloud="demo", **environment):
    """Run `openstack WORDS` (a list, or text without blanks inside words), however it ends."""
    words = words.split() if isinstance(words, str) else [str(w) for w in words]
    main = client()
    print(f"   $ OS_CLOUD={cloud} openstack {' '.join(words)}", flush=True)
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        if (child := os.fork()) == 0:
            try:
                with open(os.devnull) as nothing:
                    for ours, theirs in ((nothing, 0), (out, 1), (err, 2)):
                        os.dup2(ours.fileno(), theirs)
                os.environ.update({"SHELL": "/bin/sh", "OS_CLOUD": cloud, **environment})
                code = main(words)
                sys.stdout.flush()
            except SystemExit as end:  # of the argument parser
                code = end.code
            except BaseException:
                traceback.print_exc()
                code = 70
            finally:
                sys.stderr.flush()
                os._exit(code or 0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return Said(code, *(file.seek(0) or file.read() for file in (out, err)))


def coe(words, cloud="demo", **environment):
    """`openstack coe WORDS` that must succeed."""
    words = words.split() if isinstance(words, str) else [str(w) for w in words]
    said = openstack(["coe", *words], cloud, **environment)
    check(f"coe {' '.join(words[:3])} succeeds", said.code == 0, said.text)
    return said


def refused(words, sentence, cloud="demo", **environment):
    """`openstack coe WORDS` that must fail and say so."""
    said = openstack(["coe", *words.split()], cloud, **environment)
    has("refused, saying", said.text, sentence)
    check("exit code is not 0", said.code != 0, said.code)


# --- waiting -------------------------------------------------------------------------------

@functools.cache
def plain():
    from wire import Cloud
    return Cloud()


def asked(path, cloud="demo"):
    """What magnumd answers to a plain GET: (status, JSON). To wait with it costs next to nothing,
    while every `openstack` command loads its plugins and logs in anew."""
    status, _, text = plain().ask("GET", f"{plain().magnum}/v1/{path}", plain().token(cloud), None,
                                  {"OpenStack-API-Version": "container-infra latest"})
    return status, json.loads(text) if text else None


def offers(kind):
    """Whether the cloud has `volumes` or `balancers`: a template that needs them is refused else."""
    kinds = {"volumes": {"block-storage", "volumev3", "block-store", "volume"},
             "balancers": {"load-balancer"}}
    return not kinds[kind].isdisjoint(plain().services)


def settled(cluster, wanted, cloud="demo"):
    """Wait for a status, which only that of the way there may precede; the cluster as shown."""
    kind = wanted.split("_")[0]
    way = {f"{kind}_IN_PROGRESS", *(["UPDATE_IN_PROGRESS"] if kind == "ROLLBACK" else [])}

    def on_its_way(shown):
        if shown.get("status") not in (wanted, *way):
            check("status is on its way", False, shown)
        return shown["status"] == wanted

    shown = coe(f"cluster show {cluster} -f json", cloud).json()
    if not on_its_way(shown):
        await_(wanted, lambda: on_its_way(asked(f"clusters/{cluster}", cloud)[1]), every=0.3)
        shown = coe(f"cluster show {cluster} -f json", cloud).json()
    equal("status", shown["status"], wanted)
    return shown


def gone(cluster, cloud="demo"):
    """Wait until nobody finds the cluster, which is being deleted until then."""
    def look():
        status, shown = asked(f"clusters/{cluster}", cloud)
        if status == 200:
            if shown["status"] != "DELETE_IN_PROGRESS":
                check("meanwhile it is being deleted", False, shown)
            return False
        check("then it is not found", status == 404, (status, shown))
        return True

    await_("gone", look, every=0.3)
    refused(f"cluster show {cluster}", f"Cluster {cluster} could not be found", cloud)
