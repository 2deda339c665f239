"""Machines that are given everything with their user data and never ask magnumd: with
bootstrap_mode inline nobody hears of them, with heat each tells Heat how its boot went, by the
function of the script that it was given."""
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

from machine import Once, insist, variables

LIBRARY = "/usr/local/libexec/magnumd-lib"
BUNDLE = "/var/lib/magnumd/bundle.tar.gz"
# The keys that each role needs, and that nobody hands it later.
KEYS = {"master": {"pki/ca.key", "pki/etcd/ca.key", "pki/sa.key"}, "worker": {"pki/bootstrap.key"}}


def is_secluded(files):
    return BUNDLE in files


class Secluded(Once):
    def __init__(self, key, server, files, play):
        super().__init__(key, server, play)
        self.files = files
        self.environment = variables(files["/etc/magnumd/node.env"])

    def look_at(self):
        """What it was given is whole, and Heat has filled in what it alone knows."""
        for path in "/var/lib/magnumd/addresses", "/etc/magnumd/heat-signal":
            text = self.files.get(path, "")
            insist("@" not in text, f"Heat has not filled in {path}: {text}")
        insist(not self.environment["MAGNUMD_ENROLMENT_TOKEN"], "a token that nobody needs")
        with tarfile.open(fileobj=io.BytesIO(self.files[BUNDLE]), mode="r:gz") as bundle:
            names = {member.name.removeprefix("./") for member in bundle if member.isreg()}
        missing = KEYS[self.environment["MAGNUMD_NODE_ROLE"]] - names
        insist(not missing, f"the bundle lacks {sorted(missing)}: {sorted(names)}")
        self.say(f"has all it needs: {len(names)} files")

    def tell_heat(self, status):
        with tempfile.TemporaryDirectory() as root:
            for path in LIBRARY, "/etc/magnumd/node.env", "/etc/magnumd/heat-signal":
                target = Path(root + path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(self.files[path])
            script = f'. "$MAGNUMD_ROOT{LIBRARY}"; NODE=$1; signal_heat "$2" "ready: told by $1" 3'
            done = subprocess.run(["bash", "-c", script, "bash", self.node, status],
                                  env={"MAGNUMD_ROOT": root, "PATH": "/usr/bin:/bin"}, text=True,
                                  capture_output=True)
        insist(done.returncode == 0 and "does not take" not in done.stdout,
               f"Heat does not listen: {done.stdout}{done.stderr}")
        self.say(f"has told Heat {status}")

    def boot(self):
        self.look_at()
        fails = self.play.fails(self.node, "ready")
        if self.environment["MAGNUMD_BOOTSTRAP_MODE"] == "heat":
            self.tell_heat("FAILURE" if fails else "SUCCESS")
        return "failed" if fails else "ready"
