"""Programs in Go for the tests: built once with the machine's toolchain, below the tests' cache."""
import os
import shutil
import subprocess
import sys

from checks import CACHE, HERE


def skip(reason):
    print(f"skipped: {reason}", flush=True)
    sys.exit(0)


def build(module, name, *command):
    """`go COMMAND... -o PROGRAM` in MODULE, a folder in go/ or the path of one elsewhere, as its
    go.mod and go.sum pin everything."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if not go:
        skip("there is no Go toolchain in PATH")
    program = CACHE / "go/bin" / name
    environment = {"GOCACHE": str(CACHE / "go/cache"), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0",
                   "GOFLAGS": "-mod=readonly -buildvcs=false", **os.environ}
    words = [go, command[0], "-o", str(program), *command[1:]]
    print(f"$ {' '.join(words)}", flush=True)
    subprocess.run(words, cwd=HERE / "go" / module, env=environment, check=True)
    return program
