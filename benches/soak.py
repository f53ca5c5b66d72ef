#!/usr/bin/env python3
"""soak.py [--minutes 30] [--nodes 300] [--binary PATH]   Ferric under churn, and whether anything grows.

`ferric serve` and, in another process, `ferric sim` with faults. For so many minutes: waves of deployments and tear-downs
over real IPMI and the agent protocol; load beyond capacity for a third of the time (lists and changes from hundreds of
connections); clients of the event stream that come, go, and read too slowly; consoles that open and close; and requests of
the priority class the whole time. It is green when

- memory, threads, descriptors, write-ahead log and database are flat over the last two thirds (bounds: FLAT below; runs of less
  than LEAST minutes are not judged by it),
- no request of the priority class was refused (503), and none took longer than SLOWEST,
- requests beyond capacity were refused, each with Retry-After,
- the event streams missed nothing, and
- in the end every node is where it was to go.

Leaves target/soak/{soak.csv,soak.svg,report.json} and the servers' logs. Standard library only, and wrk for the load.
"""

import argparse
import base64
import csv
import hashlib
import http.client
import http.server
import json
import os
import random
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "target" / "soak"
VERSION = "1.109"
# growth over the last two thirds of the run: so much, or this share of the mean, whichever is more
FLAT = {
    "rss_mib": (24.0, 0.10), "threads": (16, 0.10), "descriptors": (64, 0.10), "database_mib": (16.0, 0.10), "wal_mib": (72.0, 0.10),
}
# seconds that a request of the priority class may take, with everything else that the machine does
SLOWEST = 10.0
EVERY = 5.0
# minutes below which growth is told and not judged
LEAST = 5.0
SETTLED = {"active", "available"}
# what the database keeps in the soak: so little that it must be thrown away meanwhile
KEPT_EVENTS = 20_000


class Failed(Exception):
    """The soak cannot go on."""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Process:
    """A program that is ended by its id."""

    def __init__(self, command, log):
        self.log = Path(log)
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self.pid = self.child.pid

    def alive(self):
        if self.child.poll() is not None:
            raise Failed(f"{self.child.args[1]} ended with {self.child.returncode}: {self.log.read_text(errors='replace')[-2000:]}")

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(60)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def proc(self, name):
        return Path(f"/proc/{self.pid}/{name}")


class Api:
    """One kept connection."""

    def __init__(self, port):
        self.port, self.connection = port, None

    def ask(self, method, path, body=None, timeout=120):
        """(status, headers, body, seconds); a connection that was closed meanwhile is opened again once."""
        for attempt in (1, 2):
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
                headers = {"X-OpenStack-Ironic-API-Version": VERSION, "Content-Type": "application/json"}
                began = time.monotonic()
                self.connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = self.connection.getresponse()
                raw = answer.read()
                took = time.monotonic() - began
                return answer.status, answer.headers, json.loads(raw) if raw[:1] in (b"{", b"[") else raw, took
            except (OSError, http.client.HTTPException):
                if self.connection is not None:
                    self.connection.close()
                self.connection = None
                if attempt == 2:
                    raise
        raise AssertionError

    def must(self, method, path, body=None, ok=(200, 201, 202, 204)):
        """The body; a refusal is waited out as it says."""
        while True:
            status, headers, answer, _ = self.ask(method, path, body)
            if status == 503:
                time.sleep(float(headers.get("Retry-After", 1)))
                continue
            if status not in ok:
                raise Failed(f"{method} {path}: {status} {answer}")
            return answer


class Image(http.server.BaseHTTPRequestHandler):
    """What is deployed."""

    protocol_version = "HTTP/1.1"
    data = random.Random(7).randbytes(256 * 1024)

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, whole):
        begin, status = 0, 200
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and int(wanted[1]) < len(self.data):
            begin, status = int(wanted[1]), 206
        part = self.data[begin:]
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {begin}-{len(self.data) - 1}/{len(self.data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if whole:
            self.wfile.write(part)

    def log_message(self, *_):
        pass


class Soak:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.over = threading.Event()
        self.began = time.monotonic()
        self.problems, self.notes, self.rows = [], [], []
        self.lock = threading.Lock()
        self.priority = {}
        self.load = {"requests": 0, "refused": 0, "without_retry_after": 0, "other": {}}
        self.streams = {"events": 0, "opened": 0, "gaps": 0, "lags": 0, "refused": 0}
        self.consoles = {"opened": 0, "refused": 0, "bytes": 0}
        self.waves = {"begun": 0, "deployed": 0, "torn_down": 0, "failures_mended": 0, "put_off": 0}
        self.phase = "calm"

    # --- the world ---

    def start(self):
        self.folder = Path(tempfile.mkdtemp(prefix="ferric-soak-"))
        OUT.mkdir(parents=True, exist_ok=True)
        for old in OUT.iterdir():
            old.unlink()
        self.images = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Image)
        threading.Thread(target=self.images.serve_forever, daemon=True).start()
        for name in ("kernel", "ramdisk"):
            (self.folder / name).write_text("a simulated machine reads no boot files\n")
        (self.folder / "faults.toml").write_text(FAULTS)
        self.port = free_port()
        sets = {
            "api.port": self.port, "agent.require_tls": "false", "conductor.automated_clean": "false",
            "conductor.deploy_kernel": self.folder / "kernel", "conductor.deploy_ramdisk": self.folder / "ramdisk",
            "hardware.enabled_console_interfaces": "ipmitool-socat,no-console", "console.port_range": "23000:23999",
            "conductor.sync_power_state_interval": 20, "conductor.deploy_callback_timeout": 60,
            "database.max_events": KEPT_EVENTS, "database.max_steps": KEPT_EVENTS,
            # small enough that wrk on the same machine is beyond it
            "api.max_concurrent_lists": 8, "api.max_concurrent_writes": 32, "api.max_waiting_requests": 128,
            "api.max_request_wait": 1,
        }
        self.data = self.folder / "data"
        words = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
        self.serve = Process([self.options.binary, "serve", "--data-dir", self.data, *words], OUT / "serve.log")
        enrolment = self.folder / "enrol.json"
        self.sim = Process([
            self.options.binary, "sim", "--nodes", self.options.nodes, "--api-url", f"http://127.0.0.1:{self.port}",
            "--enroll-file", enrolment, "--faults", self.folder / "faults.toml", "--set", f"sim.bmc_address={self.options.bmc}",
            "--set", "sim.boot_delay_min=0.5", "--set", "sim.boot_delay_max=3",
        ], OUT / "sim.log")
        self.until("the API answers", lambda: self.ask_once("/readyz") == 200)
        self.until("the simulated fleet is there", lambda: enrolment.exists() and "BMCs on" in self.sim.log.read_text(errors="replace"))
        self.enrol(json.loads(enrolment.read_text())["nodes"])

    def ask_once(self, path):
        try:
            return Api(self.port).ask("GET", path, timeout=5)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def until(self, what, ready, within=120):
        deadline = time.monotonic() + within
        while not ready():
            self.serve.alive()
            if hasattr(self, "sim"):
                self.sim.alive()
            if time.monotonic() > deadline:
                raise Failed(f"{what}: not within {within} s")
            time.sleep(0.05)

    def enrol(self, bodies):
        api = Api(self.port)
        image = f"http://127.0.0.1:{self.images.server_port}/image.raw"
        digest = hashlib.sha256(Image.data).hexdigest()
        self.ids = []
        for body in bodies:
            ports = body.pop("ports", [])
            body["instance_info"] = {}
            body["console_interface"] = "ipmitool-socat"
            made = api.must("POST", "/v1/nodes", {key: value for key, value in body.items() if value not in ({}, None)})
            for port in ports:
                api.must("POST", "/v1/ports", {"node_uuid": made["uuid"], **port})
            self.ids.append(made["uuid"])
        self.instance = [
            {"op": "add", "path": "/instance_info", "value": {
                "image_source": image, "image_os_hash_algo": "sha256", "image_os_hash_value": digest, "image_disk_format": "raw",
            }}
        ]
        # those that never deploy, whose power and consoles are played with
        self.aside = []
        for index in range(8):
            made = api.must("POST", "/v1/nodes", {"driver": "fake-hardware", "name": f"aside-{index}"})
            api.must("PUT", f"/v1/nodes/{made['uuid']}/states/provision", {"target": "manage"})
            self.aside.append(made["uuid"])

    # --- what goes on ---

    def guarded(self, work):
        def run():
            try:
                work()
            except Exception as error:  # noqa: BLE001: whatever ends a part of the soak is a problem of the soak
                self.problems.append(f"{work.__name__}: {type(error).__name__}: {error}")
                self.over.set()
        thread = threading.Thread(target=run, name=work.__name__)
        thread.start()
        return thread

    def states(self, api):
        found, after = {}, None
        while True:
            path = "/v1/nodes?fields=uuid,provision_state,maintenance,driver&limit=1000" + (f"&marker={after}" if after else "")
            page = api.must("GET", path)["nodes"]
            found.update({one["uuid"]: one for one in page if one["driver"] != "fake-hardware"})
            if len(page) < 1000:
                return found
            after = page[-1]["uuid"]

    def drive(self, api, goals):
        """Asks each node for the next thing on its way; how many are not there."""
        away = 0
        for node, row in self.states(api).items():
            state, goal = row["provision_state"], goals[node]
            if row["maintenance"]:
                api.must("DELETE", f"/v1/nodes/{node}/maintenance", ok=(202, 409))
            if state == goal:
                continue
            away += 1
            target = {
                "enroll": "manage", "manageable": "provide", "available": "active", "active": "deleted", "deploy failed": "deleted",
                "error": "deleted", "clean failed": "manage", "inspect failed": "manage",
            }.get(state)
            if target is None:
                continue
            if target == "active":
                status = self.calm(api, "PATCH", f"/v1/nodes/{node}", self.instance)
                if status != 200:
                    continue
                self.waves["deployed"] += 1
            elif state == "active":
                self.waves["torn_down"] += 1
            elif "failed" in state or state == "error":
                self.waves["failures_mended"] += 1
            self.calm(api, "PUT", f"/v1/nodes/{node}/states/provision", {"target": target})
        return away

    def calm(self, api, method, path, body):
        """A request that may be put off: what is refused now is asked in the next round."""
        status, headers, answer, _ = api.ask(method, path, body)
        if status == 503:
            self.waves["put_off"] += 1
            if not headers.get("Retry-After"):
                self.problems.append(f"{method} {path}: 503 without Retry-After: {answer}")
        elif status not in (200, 202, 400, 409):
            self.problems.append(f"{method} {path}: {status} {answer}")
        return status

    def deployments(self):
        api = Api(self.port)
        self.goals = {node: "active" for node in self.ids}
        wave = time.monotonic()
        self.waves["begun"] = 1
        while not self.over.is_set():
            away = self.drive(api, self.goals)
            if away <= len(self.ids) // 20 or time.monotonic() - wave > 90:
                self.waves["begun"] += 1
                wave = time.monotonic()
                for node in self.ids:
                    if self.random.random() < 0.5:
                        self.goals[node] = "available" if self.goals[node] == "active" else "active"
            self.over.wait(0.5)

    def crowds(self):
        """Calm for twenty seconds, then beyond capacity for ten; lists and changes in turns."""
        lists = f"http://127.0.0.1:{self.port}/v1/nodes/detail?limit=1000"
        script = OUT / "load.lua"
        script.write_text(LOAD.replace("NODES", "{" + ",".join(f'"{one}"' for one in self.ids) + "}"))
        turn = 0
        while not self.over.wait(20):
            turn += 1
            self.phase = "crowd"
            command = ["wrk", "-t1", "-c256", "-d10s", "--timeout", "60s", "-s", script, "--", ["lists", "changes", "both"][turn % 3]]
            said = subprocess.run([*map(str, command[:-2]), lists, *map(str, command[-2:])], capture_output=True, text=True)
            self.phase = "calm"
            if said.returncode:
                raise Failed(f"wrk: {said.stdout[-500:]}{said.stderr[-500:]}")
            counts = json.loads(re.search(r"^soak (.*)$", said.stdout, re.M)[1])
            self.load["requests"] += counts.pop("requests")
            self.load["refused"] += counts.pop("refused")
            self.load["without_retry_after"] += counts.pop("bare")
            for status, times in counts.items():
                self.load["other"][status] = self.load["other"].get(status, 0) + times

    def beats(self):
        """Requests of the priority class, all the time; who is asked has nothing else to do."""
        api, on = Api(self.port), {node: False for node in self.aside}
        while not self.over.is_set():
            node = self.random.choice(self.aside)
            on[node] = not on[node]
            beat = {"callback_url": "http://192.0.2.1:9999", "agent_token": "none", "agent_version": "1"}
            for name, method, path, body in (
                ("health", "GET", "/healthz", None),
                ("lookup", "GET", f"/v1/lookup?node_uuid={node}", None),
                ("heartbeat", "POST", f"/v1/heartbeat/{node}", beat),
                ("power", "PUT", f"/v1/nodes/{node}/states/power", {"target": "power on" if on[node] else "power off"}),
                ("abort", "PUT", f"/v1/nodes/{node}/states/provision", {"target": "abort"}),
            ):
                status, _, answer, took = api.ask(method, path, body)
                with self.lock:
                    seen = self.priority.setdefault(name, {"times": [], "statuses": {}})
                    seen["times"].append(took)
                    seen["statuses"][status] = seen["statuses"].get(status, 0) + 1
                if status >= 500:
                    self.problems.append(f"priority: {method} {path}: {status} {answer}")
            self.over.wait(0.1)

    def followers(self):
        """Clients of the event stream on one thread: they come and go, and every fifth one hardly reads."""
        chosen, clients = selectors.DefaultSelector(), []

        def come(last):
            sock = socket.create_connection(("127.0.0.1", self.port), timeout=30)
            resume = f"Last-Event-ID: {last}\r\n" if last else ""
            sock.sendall(f"GET /v1/ferric/events HTTP/1.1\r\nHost: soak\r\n{resume}\r\n".encode())
            sock.setblocking(False)
            one = {"sock": sock, "text": b"", "last": last, "greeted": False, "until": time.monotonic() + self.random.uniform(5, 60),
                   "slow": self.random.random() < 0.2, "next": 0.0}
            chosen.register(sock, selectors.EVENT_READ, one)
            clients.append(one)
            self.streams["opened"] += 1

        def go(one):
            chosen.unregister(one["sock"])
            one["sock"].close()
            clients.remove(one)

        while not self.over.is_set():
            while len(clients) < 20:
                come(None)
            for key, _ in chosen.select(timeout=0.2):
                one = key.data
                now = time.monotonic()
                if one["slow"] and now < one["next"]:
                    continue
                one["next"] = now + 1.0
                try:
                    more = one["sock"].recv(512 if one["slow"] else 65536)
                except BlockingIOError:
                    continue
                if not more:
                    go(one)
                    continue
                self.followed(one, more)
            if any(one["slow"] for one in clients):
                time.sleep(0.01)
            for one in [one for one in clients if time.monotonic() > one["until"]]:
                last = one["last"]
                go(one)
                if self.random.random() < 0.5:
                    come(last)
        for one in list(clients):
            go(one)

    def followed(self, one, more):
        one["text"] += more
        *blocks, one["text"] = one["text"].split(b"\n\n")
        for block in blocks:
            if b"event: lag" in block:
                self.streams["lags"] += 1
            if b"503 Service" in block:
                self.streams["refused"] += 1
            found = re.search(rb"^id: (\d+)\r?$", block, re.M)
            if not found:
                continue
            seq = int(found[1])
            if b"data: " not in block:
                # the greeting: where it goes on from
                one["last"] = seq
                continue
            self.streams["events"] += 1
            # what was thrown away meanwhile is told as a lag; that is a gap that was told
            if one["last"] is not None and seq != one["last"] + 1 and not one["slow"]:
                self.streams["gaps"] += 1
                self.notes.append(f"a stream went from {one['last']} to {seq}")
            one["last"] = seq

    def terminals(self):
        """Consoles that are switched on, watched for a moment, and switched off."""
        api = Api(self.port)
        while not self.over.is_set():
            node = self.random.choice(self.ids)
            try:
                status, *_ = api.ask("PUT", f"/v1/nodes/{node}/states/console", {"enabled": True})
                if status == 202:
                    self.over.wait(1)
                    self.watch(node)
                    api.ask("PUT", f"/v1/nodes/{node}/states/console", {"enabled": False})
                else:
                    self.consoles["refused"] += 1
            except (OSError, http.client.HTTPException) as error:
                self.notes.append(f"console: {error}")
            self.over.wait(2)

    def watch(self, node):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as sock:
            key = base64.b64encode(os.urandom(16)).decode()
            sock.sendall((
                f"GET /v1/ferric/nodes/{node}/console HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
            ).encode())
            until = time.monotonic() + 3
            first = sock.recv(4096)
            if b" 101 " not in first[:20]:
                self.consoles["refused"] += 1
                return
            self.consoles["opened"] += 1
            while time.monotonic() < until:
                try:
                    sock.settimeout(0.5)
                    more = sock.recv(4096)
                except TimeoutError:
                    continue
                if not more:
                    return
                self.consoles["bytes"] += len(more)

    # --- what is seen ---

    def samples(self):
        api = Api(self.port)
        with open(OUT / "soak.csv", "w", newline="") as out:
            writer = None
            while not self.over.wait(EVERY):
                row = self.sample(api)
                if writer is None:
                    writer = csv.DictWriter(out, row.keys())
                    writer.writeheader()
                writer.writerow(row)
                out.flush()
                self.rows.append(row)

    def sample(self, api):
        self.serve.alive()
        self.sim.alive()
        fields = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", self.serve.proc("status").read_text(), re.M))
        stat = self.serve.proc("stat").read_text().rsplit(")", 1)[1].split()
        status, _, text, took = api.ask("GET", "/metrics")
        if status != 200:
            self.problems.append(f"/metrics: {status}")
        text = text.decode() if isinstance(text, bytes) else ""

        def metric(name, **labels):
            total = 0.0
            for line in text.splitlines():
                if line.startswith(name) and line[len(name)] in " {" and all(f'{key}="{value}"' in line for key, value in labels.items()):
                    total += float(line.rsplit(" ", 1)[1])
            return total

        database = next(self.data.glob("*.sqlite"))
        size = lambda path: path.stat().st_size / 2**20 if path.exists() else 0.0
        return {
            "seconds": round(time.monotonic() - self.began, 1), "phase": self.phase,
            "rss_mib": round(int(fields["VmRSS"]) / 1024, 2), "threads": int(fields["Threads"]),
            "descriptors": len(os.listdir(self.serve.proc("fd"))),
            "cpu_s": (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"),
            "database_mib": round(size(database), 2), "wal_mib": round(size(database.with_name(database.name + "-wal")), 2),
            "writes_waiting": metric("ferric_database_waiting_jobs"), "api_waiting": metric("ferric_api_waiting"),
            "api_working": metric("ferric_api_working"), "api_refused": metric("ferric_api_refused_total"),
            "priority_refused": metric("ferric_api_refused_total", **{"class": "priority"}),
            "lag_ms": round(metric("ferric_api_lag_seconds") * 1e3, 1), "unsent_mib": round(metric("ferric_api_unsent_bytes") / 2**20, 2),
            "queued": metric("ferric_queue_length"), "metrics_ms": round(took * 1e3, 1),
        }

    def run(self):
        self.start()
        print(f"soak: {len(self.ids)} machines enrolled; {self.options.minutes:g} minutes begin", flush=True)
        self.began = time.monotonic()
        works = (self.samples, self.deployments, self.crowds, self.beats, self.followers, self.terminals)
        threads = [self.guarded(work) for work in works]
        end, said = self.began + self.options.minutes * 60, 0
        while time.monotonic() < end and not self.over.wait(1):
            if self.rows and time.monotonic() - self.began >= said:
                said += 60
                row = self.rows[-1]
                print(f"soak: {row['seconds']:6.0f} s  {row['rss_mib']:.0f} MiB, {row['descriptors']} descriptors, {row['threads']} threads; "
                      f"{self.waves['deployed']} deployed, {self.load['refused']} of {self.load['requests']} refused", flush=True)
        self.over.set()
        for thread in threads:
            thread.join()
        self.recover()
        return self.judge()

    def recover(self):
        """The load is gone: everything comes where it was to go."""
        if not hasattr(self, "goals"):
            return
        api, deadline = Api(self.port), time.monotonic() + 300
        while True:
            away = self.drive(api, self.goals)
            if away == 0:
                return
            if time.monotonic() > deadline:
                left = {}
                for node, row in self.states(api).items():
                    if row["provision_state"] != self.goals[node]:
                        left[row["provision_state"]] = left.get(row["provision_state"], 0) + 1
                self.problems.append(f"{away} nodes are not where they were to go after 300 s without load: {left}")
                return
            time.sleep(1)

    def judge(self):
        grown = {}
        # what is open only while a crowd is there says nothing: a run may begin or end with one
        tail = [row for row in self.rows[len(self.rows) // 3 :] if row["phase"] == "calm"]
        for name, (least, share) in FLAT.items():
            if len(tail) < 6:
                self.notes.append("too short to say anything about growth")
                break
            slope, mean = line([row["seconds"] for row in tail], [row[name] for row in tail])
            growth = slope * (tail[-1]["seconds"] - tail[0]["seconds"])
            allowed = max(least, share * mean)
            grown[name] = {"mean": round(mean, 2), "growth": round(growth, 2), "allowed": round(allowed, 2),
                           "most": max(row[name] for row in self.rows)}
            # in the first minutes everything is done for the first time
            if growth > allowed and self.options.minutes >= LEAST:
                self.problems.append(f"{name} grows: {growth:.1f} over the last two thirds, mean {mean:.1f}, allowed {allowed:.1f}")
        priority = {}
        for name, seen in self.priority.items():
            times = sorted(seen["times"])
            priority[name] = {"count": len(times), "statuses": seen["statuses"], "p50_ms": round(times[len(times) // 2] * 1e3, 1),
                              "p99_ms": round(times[int(len(times) * 0.99)] * 1e3, 1), "most_ms": round(times[-1] * 1e3, 1)}
            if times[-1] > SLOWEST:
                self.problems.append(f"priority: {name} took {times[-1]:.1f} s")
        if self.rows and self.rows[-1]["priority_refused"]:
            self.problems.append(f"{self.rows[-1]['priority_refused']:.0f} requests of the priority class were refused")
        if self.load["requests"] and not self.load["refused"]:
            self.problems.append("the load was never beyond capacity: nothing was refused")
        if self.load["without_retry_after"]:
            self.problems.append(f"{self.load['without_retry_after']} refusals without Retry-After")
        if self.load["other"]:
            self.problems.append(f"the load met other answers: {self.load['other']}")
        if self.streams["gaps"]:
            self.problems.append(f"{self.streams['gaps']} gaps in the event streams: {self.notes[:3]}")
        if not self.streams["events"]:
            self.problems.append("the event streams told nothing")
        report = {
            "green": not self.problems, "minutes": self.options.minutes, "nodes": len(self.ids), "problems": self.problems[:50],
            "grown": grown, "priority": priority, "load": self.load, "streams": self.streams, "consoles": self.consoles,
            "waves": self.waves, "notes": self.notes[:50],
        }
        (OUT / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        (OUT / "soak.svg").write_text(picture(self.rows))
        return report

    def stop(self):
        self.over.set()
        for name in ("serve", "sim"):
            if hasattr(self, name):
                getattr(self, name).stop()
        if hasattr(self, "images"):
            self.images.shutdown()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)


FAULTS = """slower = 0.05
download_breaks = 0.05
download_errors = 0.03
dies_mid_write = 0.01
ramdisk_hangs = 0.01
"""

# wrk: lists, changes, or both; it prints what came back
LOAD = r"""
local nodes, mode, at = NODES, "lists", 0
local headers = {["X-OpenStack-Ironic-API-Version"] = "1.109", ["Content-Type"] = "application/json"}
local threads = {}
function setup(thread) table.insert(threads, thread) end
function init(args)
  mode = args[1] or "lists"
  requests, refused, bare, others = 0, 0, 0, ""
end
function request()
  at = at + 1
  if mode == "changes" or (mode == "both" and at % 2 == 0) then
    local body = string.format('[{"op": "add", "path": "/extra/soak", "value": %d}]', at)
    return wrk.format("PATCH", "/v1/nodes/" .. nodes[at % #nodes + 1], headers, body)
  end
  return wrk.format("GET", wrk.path, headers)
end
function response(status, head, body)
  requests = requests + 1
  if status == 503 then
    refused = refused + 1
    if not (head["retry-after"] or head["Retry-After"]) then bare = bare + 1 end
  elseif status ~= 200 and status ~= 409 then
    others = others .. " " .. status
  end
end
function done(summary, latency, all)
  local total, no, naked, other = 0, 0, 0, {}
  for _, thread in ipairs(threads) do
    total, no, naked = total + thread:get("requests"), no + thread:get("refused"), naked + thread:get("bare")
    for status in thread:get("others"):gmatch("%d+") do other[status] = (other[status] or 0) + 1 end
  end
  local more = ""
  for status, times in pairs(other) do more = more .. string.format(', "%s": %d', status, times) end
  print(string.format('soak {"requests": %d, "refused": %d, "bare": %d%s}', total, no, naked, more))
end
"""


def line(xs, ys):
    """Slope and mean of the line through the points (least squares)."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return (sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / spread if spread else 0.0), mean_y


def picture(rows):
    """The samples over time, as SVG: a strip for each."""
    strips = [("rss_mib", "resident memory, MiB"), ("descriptors", "descriptors"), ("threads", "threads"), ("database_mib", "database, MiB"),
              ("wal_mib", "write-ahead log, MiB"), ("writes_waiting", "writes that wait"), ("api_waiting", "requests that wait"), ("lag_ms", "lag of the API, ms")]
    width, height, left = 900, 90, 190
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height * len(strips) + 20}" font-family="sans-serif" font-size="12">',
           '<rect width="100%" height="100%" fill="white"/>']
    if rows:
        last = max(rows[-1]["seconds"], 1)
        x = lambda row: left + (width - left - 20) * row["seconds"] / last
        for index, (name, title) in enumerate(strips):
            top, most = index * height + 10, max([row[name] for row in rows] + [1e-9])
            for row in rows:
                if row["phase"] == "crowd":
                    out.append(f'<rect x="{x(row) - 3:.1f}" y="{top}" width="6" height="{height - 15}" fill="#fde9d9"/>')
            points = " ".join(f"{x(row):.1f},{top + (height - 15) * (1 - row[name] / most):.1f}" for row in rows)
            out.append(f'<text x="8" y="{top + 20}">{title}</text><text x="8" y="{top + 38}" fill="#666">most {most:g}, last {rows[-1][name]:g}</text>')
            out.append(f'<line x1="{left}" x2="{width - 20}" y1="{top + height - 15}" y2="{top + height - 15}" stroke="#999"/>')
            out.append(f'<polyline points="{points}" fill="none" stroke="#1f5fa8" stroke-width="1.5"/>')
        out.append(f'<text x="{left}" y="{height * len(strips) + 14}" fill="#666">0 to {last / 60:.1f} minutes; coloured: beyond capacity</text>')
    return "\n".join([*out, "</svg>\n"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", "30")))
    parser.add_argument("--nodes", type=int, default=int(os.environ.get("SOAK_NODES", "300")))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bmc", default="127.107.0.1", help="address of the first simulated BMC")
    parser.add_argument("--binary", type=Path, default=ROOT / "target" / "release" / "ferric")
    soak = Soak(parser.parse_args())
    try:
        report = soak.run()
    finally:
        soak.stop()
    print(json.dumps({key: value for key, value in report.items() if key != "notes"}, indent=1))
    print(f"soak: {'green' if report['green'] else 'RED'}; {OUT}/soak.csv, soak.svg, report.json")
    return 0 if report["green"] else 1


if __name__ == "__main__":
    sys.exit(main())
