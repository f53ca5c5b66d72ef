#!/usr/bin/env python3
"""The boot servers beside nginx and dnsmasq: the same files, the same clients, in turns.

    benches/perf/boot.py                     measure and print JSON
    benches/perf/boot.py --server PROGRAM    another program than target/release/ferric: anything that takes `serve --set …`,
                                             or drivers' example boot_server
    benches/perf/boot.py --only http,tftp    one of the two

200 clients at once fetch: a kernel of 8 MB, a ramdisk of 60 MB and iPXE scripts of a few hundred bytes over HTTP (wrk, and
curl once to compare bytes); the kernel and the scripts over TFTP as iPXE (blksize 1432), EDK2 (a probe for the size, blksize
1468, windowsize 4) and GRUB (blksize 1024) ask. Each server has an address of its own on 127.0.0.0/8, is started in a folder
of its own and ended by its process id; nginx runs two workers with sendfile and without a log, dnsmasq without DNS and DHCP.
Needs: wrk, nginx, dnsmasq (scripts/apt.sh wrk nginx-light dnsmasq-base) and the example tftp_load. Standard library only;
`make perf` imports `measure` and `rows`.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import servers  # noqa: E402
from servers import FERRIC, ROOT, end  # noqa: E402

LOAD = ROOT / "target" / "release" / "examples" / "tftp_load"
CLIENTS = 200
SCRIPTS = 1000
KERNEL, RAMDISK = 8_000_000, 60_000_000
# turns, so that a neighbour on the machine disturbs all alike; the middle one counts
TURNS = 3
OURS, NGINX, DNSMASQ = "127.108.0.1", "127.108.0.2", "127.108.0.3"
HTTP_PORT, TFTP_PORT, API_PORT = 6480, 6469, 6485
# how boot loaders ask: name, options of tftp_load
HABITS = {
    "ipxe": ["blksize=1432"],
    "edk2": ["blksize=1468", "windowsize=4", "probe=1"],
    "grub": ["blksize=1024"],
}


class Failed(Exception):
    """What was to be measured did not happen."""


def files(folder):
    """What is served: the same for all."""
    chance = random.Random(6)
    (folder / "kernel").write_bytes(chance.randbytes(KERNEL))
    (folder / "ramdisk").write_bytes(chance.randbytes(RAMDISK))
    scripts = folder / "scripts"
    scripts.mkdir()
    for number in range(SCRIPTS):
        lines = ["#!ipxe", f"set node {number}", f"kernel http://{OURS}:{HTTP_PORT}/kernel quiet initrd=ramdisk"]
        lines += [f"initrd http://{OURS}:{HTTP_PORT}/ramdisk", "boot || shell", "#" + "x" * chance.randrange(100, 400)]
        (scripts / f"{number}.ipxe").write_text("\n".join(lines) + "\n")
    for path in [folder, scripts]:
        path.chmod(0o755)


def children(pid):
    """Processes that a process started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def cpu_seconds(pid):
    """User and system time so far, workers included."""
    return sum(servers.cpu_seconds(one) for one in [pid, *children(pid)])


def memory_mib(pid):
    """The most resident memory so far, workers included."""
    return round(sum(servers.rss_mib(one, "VmHWM") for one in [pid, *children(pid)]), 1)


def wait_tcp(address, child, within=60):
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(OSError), socket.create_connection(address, 1):
            return
        if child.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"nothing listens on {address}")
        time.sleep(0.02)


def wait_tftp(address, child, within=60):
    """Until a request for a script is answered."""
    deadline = time.monotonic() + within
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.3)
        while True:
            client.sendto(b"\0\x01scripts/0.ipxe\0octet\0tsize\x000\0", address)
            with contextlib.suppress(OSError):
                answer, peer = client.recvfrom(2000)
                client.sendto(b"\0\x05\0\0enough\0", peer)
                if answer[:2] != b"\0\x06":
                    raise Failed(f"TFTP at {address} says {answer[:80]!r}")
                return
            if child.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"no TFTP at {address}")


@contextlib.contextmanager
def process(command, log, **more):
    """A program from here to the end of the block, ended by its id."""
    with open(log, "ab") as out:
        child = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out, **more)
    try:
        yield child
    except Failed as failure:
        tail = Path(log).read_text(errors="replace")[-2000:]
        raise Failed(f"{failure}\n{' '.join(map(str, command))}:\n{tail}") from failure
    finally:
        end(child, within=15)


@contextlib.contextmanager
def ours(folder, root, program):
    """Ferric's own: HTTP and TFTP in one process."""
    if Path(program).name.startswith("boot_server"):
        command = [program, root, f"{OURS}:{HTTP_PORT}", f"{OURS}:{TFTP_PORT}"]
    else:
        sets = [
            f"api.port={API_PORT}", "api.host_ip=127.0.0.1", "http.enabled=true", f"http.host_ip={OURS}",
            f"http.port={HTTP_PORT}", f"http.http_root={root}", "tftp.enabled=true", f"tftp.host_ip={OURS}",
            f"tftp.port={TFTP_PORT}", f"pxe.tftp_root={root}",
        ]
        command = [program, "serve", "--data-dir", folder / "data", *(word for one in sets for word in ("--set", one))]
    with process(command, folder / "ours.log", stdin=subprocess.PIPE) as child:
        wait_tcp((OURS, HTTP_PORT), child)
        wait_tftp((OURS, TFTP_PORT), child)
        yield child.pid


@contextlib.contextmanager
def nginx(folder, root):
    """nginx with two workers in the foreground, everything it writes below `folder`."""
    place = folder / "nginx"
    place.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "\n".join(f"  {kind}_temp_path {place}/{kind};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
    (place / "nginx.conf").write_text(f"""{user}
worker_processes 2;
daemon off;
pid {place}/pid;
error_log {place}/error.log;
events {{ worker_connections 4096; }}
http {{
{temporary}
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  default_type application/octet-stream;
  server {{ listen {NGINX}:{HTTP_PORT} backlog=4096; root {root}; }}
}}
""")
    with process(["nginx", "-p", place, "-c", place / "nginx.conf"], folder / "nginx.log") as child:
        wait_tcp((NGINX, HTTP_PORT), child)
        yield child.pid


@contextlib.contextmanager
def dnsmasq(folder, root):
    """dnsmasq as TFTP server alone."""
    command = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--enable-tftp", f"--tftp-root={root}",
        f"--listen-address={DNSMASQ}", "--bind-interfaces", "--tftp-max=1000", "--user=root", "--pid-file=",
        "--log-facility=-", "--quiet-tftp",
    ]
    with process(command, folder / "dnsmasq.log") as child:
        wait_tftp((DNSMASQ, 69), child)
        yield child.pid


def during(pid, work):
    """What `work` gave, with the server's CPU seconds in it."""
    before = cpu_seconds(pid)
    found = work()
    found["cpu_s"] = round(cpu_seconds(pid) - before, 2)
    found["hwm_mib"] = memory_mib(pid)
    if found.get("bytes"):
        found["cpu_s_per_gb"] = round(found["cpu_s"] / (found["bytes"] / 1e9), 3)
    if found.get("requests"):
        found["cpu_us_per_request"] = round(found["cpu_s"] / found["requests"] * 1e6, 1)
    return found


def wrk(url, seconds, script=None):
    """200 connections that fetch the same again and again."""
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--latency", "--timeout", "60s"]
    command += ["-s", script] if script else []
    done = subprocess.run([str(word) for word in [*command, url]], capture_output=True, text=True)
    if done.returncode or "Non-2xx" in done.stdout:
        raise Failed(f"wrk {url}:\n{done.stdout}{done.stderr}")
    requests, size, unit, took = re.search(r"(\d+) requests in ([\d.]+)s, ([\d.]+)(\w+) read", done.stdout).group(1, 3, 4, 2)
    count = float(size) * {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}[unit]
    errors = re.search(r"Socket errors: .*", done.stdout)
    return {
        "requests": int(requests), "bytes": count, "seconds": float(took), "mb_per_s": round(count / 1e6 / float(took), 1),
        "per_s": round(int(requests) / float(took), 1), "errors": errors.group(0) if errors else None,
    }


def once(url):
    """CONNECTIONS that are opened for one file each, as iPXE does: 200 at a time."""
    config = "\n".join(f'url = "{url}/scripts/{n % SCRIPTS}.ipxe"\noutput = "/dev/null"' for n in range(4000))
    command = ["curl", "-sSf", "-Z", "--parallel-max", CLIENTS, "--parallel-immediate", "-H", "Connection: close", "-K", "-"]
    began = time.monotonic()
    done = subprocess.run([str(word) for word in command], input=config, capture_output=True, text=True)
    took = time.monotonic() - began
    if done.returncode:
        raise Failed(f"curl {url}: {done.returncode}: {done.stderr[-500:]}")
    return {"requests": 4000, "seconds": round(took, 3), "per_s": round(4000 / took, 1)}


def tftp(load, address, file, times, habit):
    command = [load, f"{address[0]}:{address[1]}", file, f"clients={CLIENTS}", f"times={times}", *HABITS[habit]]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{command}: {done.stderr[-1000:]}")
    said = json.loads(done.stdout)
    if said["failed"]:
        raise Failed(f"{said['failed']} of {said['transfers']} TFTP transfers from {address} failed: {said['first_failure']}")
    return {
        "requests": said["transfers"], "bytes": said["bytes"], "seconds": round(said["seconds"], 3),
        "mb_per_s": round(said["mb_per_second"], 1), "per_s": round(said["transfers_per_second"], 1),
        "repeated": said["repeated"],
    }


def compare(root, server):
    """The same bytes from all: the kernel's hash."""
    done = subprocess.run(["curl", "-sSf", f"http://{server}:{HTTP_PORT}/kernel"], capture_output=True, check=True)
    if hashlib.sha256(done.stdout).digest() != hashlib.sha256((root / "kernel").read_bytes()).digest():
        raise Failed(f"{server} sends another kernel")


def middle(turns, key):
    """The turn in the middle by `key`, with all values of it."""
    ordered = sorted(turns, key=lambda one: one[key])
    chosen = dict(ordered[len(ordered) // 2])
    chosen["turns"] = [one[key] for one in turns]
    chosen["cpu_s"] = round(statistics.median(one["cpu_s"] for one in turns), 2)
    for name in ["cpu_s_per_gb", "cpu_us_per_request"]:
        if name in chosen:
            chosen[name] = round(statistics.median(one[name] for one in turns), 3)
    return chosen


def measure(server=FERRIC, load=LOAD, only=("http", "tftp"), turns=TURNS, seconds=6):
    """All figures: {"http": {row: {"ours": …, "nginx": …}}, "tftp": {row: {"ours": …, "dnsmasq": …}}}."""
    folder = Path(tempfile.mkdtemp(prefix="ferric-boot-"))
    folder.chmod(0o755)
    root = folder / "root"
    root.mkdir()
    try:
        files(root)
        script = folder / "scripts.lua"
        script.write_text(f"""local n = 0
function request() n = (n + 7) % {SCRIPTS}; return wrk.format("GET", "/scripts/" .. n .. ".ipxe") end
""")
        found = {"http": {}, "tftp": {}}
        with contextlib.ExitStack() as stack:
            pids = {"ours": stack.enter_context(ours(folder, root, server))}
            if "http" in only:
                pids["nginx"] = stack.enter_context(nginx(folder, root))
                http(found["http"], pids, root, script, turns, seconds)
            if "tftp" in only:
                pids["dnsmasq"] = stack.enter_context(dnsmasq(folder, root))
                tftp_all(found["tftp"], pids, load, turns)
        return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def in_turns(turns, key, jobs):
    """The middle turn of each: {name: found}."""
    all_turns = {name: [] for name in jobs}
    for _ in range(turns):
        for name, (pid, job) in jobs.items():
            all_turns[name].append(during(pid, job))
    return {name: middle(those, key) for name, those in all_turns.items()}


def http(found, pids, root, script, turns, seconds):
    servers = {"ours": OURS, "nginx": NGINX}
    for server in servers.values():
        compare(root, server)
    for what, path, key in [("ramdisk", "/ramdisk", "mb_per_s"), ("kernel", "/kernel", "mb_per_s"), ("scripts", "/", "per_s")]:
        job = lambda address: lambda: wrk(f"http://{address}:{HTTP_PORT}{path}", seconds, script if what == "scripts" else None)
        found[what] = in_turns(turns, key, {name: (pids[name], job(address)) for name, address in servers.items()})
    job = lambda address: lambda: once(f"http://{address}:{HTTP_PORT}")
    found["connections"] = in_turns(turns, "per_s", {name: (pids[name], job(address)) for name, address in servers.items()})


def tftp_all(found, pids, load, turns):
    servers = {"ours": (OURS, TFTP_PORT), "dnsmasq": (DNSMASQ, 69)}
    for habit in HABITS:
        job = lambda address: lambda: tftp(load, address, "kernel", 1, habit)
        found[f"kernel, {habit}"] = in_turns(turns, "mb_per_s", {name: (pids[name], job(at)) for name, at in servers.items()})
    # each client fetches a script so many times
    job = lambda address: lambda: tftp(load, address, "scripts/0.ipxe", 100, "ipxe")
    found["scripts, ipxe"] = in_turns(turns, "per_s", {name: (pids[name], job(at)) for name, at in servers.items()})


def rows(found):
    """Rows of the targets' table: what, target, measured, ratio, met."""
    rows = []
    for part, peer, least in [("http", "nginx", 0.8), ("tftp", "dnsmasq", 1.0)]:
        for what, both in found[part].items():
            key, unit = ("mb_per_s", "MB/s") if both["ours"].get("mb_per_s") and "scripts" not in what else ("per_s", "files/s")
            mine, theirs = both["ours"][key], both[peer][key]
            ratio = mine / theirs
            cost = "cpu_s_per_gb" if unit == "MB/s" else "cpu_us_per_request"
            costs = f"{both['ours'][cost]} : {both[peer][cost]} {'CPU s/GB' if unit == 'MB/s' else 'CPU µs/file'}"
            target = f"≥ {least:.0%} of {peer}" if least < 1 else f"≥ {peer}"
            rows.append({
                "what": f"{part.upper()} boot server, {CLIENTS} clients at once: {what}", "target": target,
                "measured": f"{mine:,.0f} {unit}; {peer} {theirs:,.0f} ({costs})", "ratio": f"{ratio:.2f}", "met": ratio >= least,
            })
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default=FERRIC)
    parser.add_argument("--load", default=LOAD)
    parser.add_argument("--only", default="http,tftp")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--seconds", type=int, default=6)
    options = parser.parse_args()
    found = measure(options.server, options.load, options.only.split(","), options.turns, options.seconds)
    print(json.dumps({"found": found, "rows": rows(found)}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
