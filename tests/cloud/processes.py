"""The cloud's processes: started once, found again by PID file, stopped with all they started."""
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from services import BACKENDS, ENV, ERLANG
from where import LOG, RUN, STATE


def stat(proc):
    """The fields of /proc/PID/stat that follow the command's name; none when it is gone."""
    try:
        return (Path(proc) / "stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def birth(pid):
    """Start time in clock ticks: tells a process from a later one with the same PID."""
    fields = stat(f"/proc/{pid}")
    return fields[19] if fields and fields[0] != "Z" else None


def running(name):
    try:
        pid, born = (RUN / f"{name}.pid").read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if birth(pid) == born else None


def start(name, argv):
    if running(name):
        return
    env = {**os.environ, **ENV, **(ERLANG if name in ("epmd", "rabbitmq") else {})}
    with open(LOG / f"{name}.out", "ab") as out:
        child = subprocess.Popen([str(a) for a in argv], env=env, cwd=STATE, stdout=out,
                                 stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
    (RUN / f"{name}.pid").write_text(f"{child.pid} {birth(child.pid)}")


def stop(names, seconds):
    """SIGTERM to all at once; after `seconds` SIGKILL to whatever of them is left."""
    pids = {name: pid for name in names if (pid := running(name))}
    for pid in pids.values():
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for name, pid in pids.items():
        try:  # each leads a group of its own: whatever is left in it is ours
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        (RUN / f"{name}.pid").unlink(missing_ok=True)


def memory(leader):
    """MiB of a process and its descendants, which share its session; shared pages divided."""
    total = 0
    for proc in Path("/proc").glob("[0-9]*"):
        fields = stat(proc)
        if fields and fields[3] == str(leader):
            try:
                text = (proc / "smaps_rollup").read_text()
                total += int(text.split("Pss:")[1].split()[0])
            except (OSError, IndexError):
                pass
    return total / 1024


def answers(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait(table, seconds=120):
    """Until every process of `table` that has a port serves it; a dead one ends the program."""
    deadline = time.monotonic() + seconds
    for name, (port, _) in table.items():
        ready = accepts if name in BACKENDS else answers
        while port and not ready(port):
            if not running(name) or time.monotonic() > deadline:
                tail = (LOG / f"{name}.out").read_text(errors="replace")[-3000:]
                sys.exit(f"{tail}\n{name} did not come up on port {port}; logs are in {LOG}")
            time.sleep(0.1)
