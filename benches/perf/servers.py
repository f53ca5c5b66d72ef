"""The servers that are measured: Ferric, the real Ironic beside it, and a bare actix handler. Each is started in a folder
of its own on a free port, and ended by its process id."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# the differential test knows how to start a real Ironic
sys.path.insert(0, str(ROOT / "tests" / "differential"))
import peers  # noqa: E402

VERSION = "1.82"
HEADERS = {"X-OpenStack-Ironic-API-Version": VERSION, "Content-Type": "application/json"}
FERRIC = ROOT / "target" / "release" / "ferric"
BARE = ROOT / "target" / "release" / "examples" / "bare"


class Ferric(peers.Peer):
    """`ferric serve` as it comes: full durability, two workers; `options` are further `--set`s."""

    def __init__(self, folder, *options):
        super().__init__("ferric", folder)
        self.options = options

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def begin(self):
        sets = [f"api.port={self.port}", *self.options]
        command = [FERRIC, "serve", "--data-dir", self.folder / "data"]
        self.spawn([*command, *(word for one in sets for word in ("--set", one))])


class Ironic(peers.Ironic):
    """The real one."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"


class Bare(peers.Peer):
    """An actix handler that answers every path with one file's bytes: what HTTP alone costs."""

    def __init__(self, folder, body):
        super().__init__("bare", folder)
        self.body = Path(folder) / "body"
        self.body.write_bytes(body)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def begin(self):
        self.spawn([BARE, "--port", str(self.port), "--workers", "2", "--file", self.body])

    def ready(self):
        with contextlib.suppress(OSError):
            return self.ask("GET", "/").status == 200
        return False


@contextlib.contextmanager
def running(make, *arguments):
    """A server of that make in a temporary folder, from here to the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="ferric-perf-"))
    server = make(folder, *arguments)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def ask(server, method, path, body=None):
    """One request on a connection that is kept; the answer's JSON. Anything but 2xx is the end."""
    data = None if body is None else json.dumps(body)
    answer = server.ask(method, path, HEADERS, data)
    if not 200 <= answer.status < 300:
        raise peers.Failed(f"{server.name}: {method} {path}: {answer.status} {answer.raw[:300]!r}")
    return answer.body


def node(index, prefix="perf"):
    """What a client creates: the same for both servers."""
    return {
        "driver": "fake-hardware",
        "name": f"{prefix}-{index}",
        "resource_class": "load",
        "properties": {"cpus": 8, "memory_mb": 32768, "local_gb": 100, "cpu_arch": "x86_64"},
        "driver_info": {"deploy_kernel": "http://127.0.0.1/k", "deploy_ramdisk": "http://127.0.0.1/r"},
        "extra": {"rack": f"r{index % 40}", "index": index},
    }


def cpu_seconds(pid):
    """User and system time of a process and its children so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(map(cpu_seconds, children))


def rss_mib(pid, field="VmRSS"):
    """Resident memory now (VmRSS), or the most there was (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


free_port = peers.free_port


def free_udp_port():
    """A port that nobody has on any address: simulated BMCs in large numbers share one on all of 127/8."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("0.0.0.0", 0))
        return one.getsockname()[1]


def end(child, how=signal.SIGTERM, within=60):
    """Asks a process that was started here to end, kills it when it does not; its exit code."""
    if child.poll() is None:
        child.send_signal(how)
        try:
            child.wait(within)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    return child.returncode


def wait_until(what, ready, within=120):
    """Looks until `ready` gives something true; what it gave."""
    deadline = time.monotonic() + within
    while True:
        found = ready()
        if found:
            return found
        if time.monotonic() > deadline:
            raise peers.Failed(f"{what}: not within {within} s")
        time.sleep(0.02)


def run(*command, **more):
    """A program's standard output; its failure is the end."""
    done = subprocess.run([str(one) for one in command], capture_output=True, text=True, **more)
    if done.returncode:
        raise peers.Failed(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout
