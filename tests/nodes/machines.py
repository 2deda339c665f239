"""Machines in namespaces: each has a network card on a switch, a file system of its own over this
machine's, processes nobody else sees, and a name.

`enter()` moves the calling program into namespaces of its own before anything else is made. When
that program ends, however it ends, the kernel takes networks, mounts and processes away with it;
nothing is ever made in the namespaces of the machine it runs on. Whoever makes machines brings a
program to be their first process; `tests/nodes/image/init` is one.
"""
import ipaddress
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

INSIDE = "MAGNUMD_TEST_NAMESPACES"
PLACE = Path("/mnt")  # a file system in memory, seen by this program alone


class Missing(Exception):
    """This machine has not what it takes; the sentence says what."""


def sh(*argv, check=True, **options):
    done = subprocess.run([str(a) for a in argv], text=True, capture_output=True, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.returncode}: "
                           f"{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def enter(addresses=()):
    """Go on in namespaces of our own, where loopback has these addresses too; `Missing` when
    this machine does not allow that."""
    if INSIDE not in os.environ:
        if os.geteuid() != 0:
            raise Missing("network namespaces and overlay mounts need root")
        for tool in ("unshare", "nsenter", "setpriv", "ip", "mount", "pgrep"):
            if not shutil.which(tool):
                raise Missing(f"there is no {tool} on this machine")
        if "overlay" not in Path("/proc/filesystems").read_text():
            sh("modprobe", "overlay", check=False)
        apart = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        trial = (f"mount -t tmpfs none {PLACE} && cd {PLACE} && mkdir upper work root && mount -t "
                 "overlay none -o lowerdir=/,upperdir=upper,workdir=work root && "
                 "ip link add here0 type bridge && ip link add here1 type veth peer name there1")
        done = subprocess.run([*apart, "sh", "-c", trial], text=True, capture_output=True)
        if done.returncode != 0:
            raise Missing(f"namespaces or overlay mounts are not possible: {done.stderr.strip()}")
        # unshare turns a deaf ear to signals; what ends it for sure ends everybody inside.
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *apart, sys.executable, *sys.argv],
            env={**os.environ, INSIDE: "1"})
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: process.kill())
        code = process.wait()
        sys.exit(code if code >= 0 else 128 - code)
    del os.environ[INSIDE]
    sh("mount", "-t", "tmpfs", "-o", "mode=700", "none", PLACE)
    Path("/run/netns").mkdir(exist_ok=True)
    sh("mount", "-t", "tmpfs", "none", "/run/netns")
    sh("ip", "link", "set", "lo", "up")
    for address in addresses:
        sh("ip", "addr", "add", f"{address}/32", "dev", "lo")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


class Switch:
    """A network of machines, whose gateway is the program that made it."""
    count = 0

    def __init__(self, cidr, gateway):
        self.network = ipaddress.ip_network(cidr)
        self.gateway = gateway
        self.name = f"switch{Switch.count}"
        # Said once: a bridge without one takes that of whichever card is plugged in, and another
        # with the next, and machines that have looked it up speak to nobody for a minute.
        mac = f"02:00:00:00:00:{Switch.count:02x}"
        Switch.count += 1
        sh("ip", "link", "add", self.name, "address", mac, "type", "bridge")
        sh("ip", "addr", "add", f"{gateway}/{self.network.prefixlen}", "dev", self.name)
        sh("ip", "link", "set", self.name, "up")

    def remove(self):
        sh("ip", "link", "delete", self.name)


class Machine:
    """Off when made: `root` may be filled before `boot`."""
    count = 0

    def __init__(self, name, switch, address, mac=None, log=None):
        """`log` is a folder that the machine has as /var/log, so that its logs outlive it."""
        self.name, self.switch, self.address = name, switch, address
        self.space = f"m{Machine.count}"
        Machine.count += 1
        self.process = self.init = None
        self.base = PLACE / self.space
        self.root = self.base / "root"
        for folder in ("upper", "work", "root"):
            (self.base / folder).mkdir(parents=True)
        sh("mount", "-t", "overlay", "none", "-o",
           f"lowerdir=/,upperdir={self.base}/upper,workdir={self.base}/work", self.root)
        sh("mount", "--rbind", "/dev", self.root / "dev")
        for folder in ("run", "tmp"):
            sh("mount", "-t", "tmpfs", "none", self.root / folder)
        if log:
            self.bind(log, "/var/log", writable=True)
        self._wire(mac)

    def _wire(self, mac):
        sh("ip", "netns", "add", self.space)
        sh("ip", "link", "add", f"{self.space}p", "type", "veth", "peer", "name", "eth0",
           *(["address", mac] if mac else []), "netns", self.space)
        sh("ip", "link", "set", f"{self.space}p", "master", self.switch.name, "up")
        within = ("ip", "-n", self.space)
        sh(*within, "link", "set", "lo", "up")
        sh(*within, "addr", "add", f"{self.address}/{self.switch.network.prefixlen}", "dev", "eth0")
        sh(*within, "link", "set", "eth0", "up")
        sh(*within, "route", "add", "default", "via", self.switch.gateway)

    def bind(self, path, at=None, writable=False):
        """Lay a file or folder of ours over the machine's."""
        path, target = Path(path), self.root / str(at or path).lstrip("/")
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        sh("mount", "--bind", path, target)
        if not writable:
            sh("mount", "-o", "remount,bind,ro", target)

    def write(self, path, text, mode=0o644):
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def read(self, path):
        target = self.root / path.lstrip("/")
        return target.read_text(errors="replace") if target.exists() else ""

    def boot(self, *argv, output=None):
        """Switch on; `argv` is the machine's first process."""
        self.process = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.space}", "unshare", "--mount", "--pid", "--uts",
             "--ipc", "--fork", "--kill-child", f"--root={self.root}", "--mount-proc",
             *map(str, argv)], stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        until = time.monotonic() + 20
        while not (found := sh("pgrep", "-P", self.process.pid, check=False).split()):
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} does not boot: {self.process.poll()}")
            time.sleep(0.02)
        self.init = int(found[0])

    def run(self, *argv, check=True, timeout=60):
        """A command inside the running machine: (exit code, what it printed)."""
        done = subprocess.run(
            ["nsenter", f"--target={self.init}", "--mount", "--pid", "--uts", "--ipc", "--net",
             "--root", "--wd", *map(str, argv)], text=True, timeout=timeout,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(map(str, argv))}: {done.stdout}")
        return done.returncode, done.stdout

    def remove(self):
        """Pull the plug and throw the disk away."""
        if self.process:
            self.process.kill()
            self.process.wait()
            # The first process of our namespace is the parent of everybody left behind.
            os.waitpid(self.init, 0)
        sh("umount", "--recursive", self.root, check=False)
        sh("umount", "--recursive", "--lazy", self.root, check=False)
        sh("ip", "netns", "delete", self.space)
        sh("ip", "link", "delete", f"{self.space}p", check=False)
        shutil.rmtree(self.base, ignore_errors=True)
