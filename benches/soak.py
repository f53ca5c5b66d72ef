#!/usr/bin/env python3
"""soak.py [--minutes 30] [--nodes 300] [--binary PATH]   Ferric under churn, and whether anything grows.

`ferric serve` and, in another process, `ferric sim` with faults. For so many minutes: waves of deployments and tear-downs
over real IPMI and the agent protocol; load beyond capacity for a third of the time (lists and changes from hundreds of
connections); clients of the event stream that come and go, and some that stop reading for a while; consoles that open and
close; and requests of the priority class the whole time. After a third of the time, and again at the end, the load is taken
off and every node is brought to `active`: these two states are compared. It is green when

- what serve holds at rest in the end is what it held at rest after a third (REST below), and no line through the samples of
  the last two thirds rises (FLAT; not judged in runs of less than LEAST minutes),
- every request of the priority class was answered with success: changes of power, look-ups and heartbeats of a machine that is
  inspected, aborts of inspections and of deployments that wait; and none took longer than SLOWEST,
- requests beyond capacity were refused, each with Retry-After, and wrk met no other error,
- the event streams were ended by nobody but their clients, missed nothing that they were not told of, and those who did not
  read were told so (`lag`) and caught up,
- no deployment failed more often than the faults of its machine explain, nothing was put into maintenance,
- in the end every node is where it was to go, and
- serve and sim wrote of no panic and no dead actor, and ended with 0.

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
VERSION = "1.110"
# growth from the rest after the first third to the rest at the end
REST = {"rss_mib": 8.0, "threads": 4, "descriptors": 16, "database_mib": 16.0, "wal_mib": 72.0}
# growth by the line through the last two thirds of the run: so much, or this share of the mean, whichever is more
FLAT = {
    "rss_mib": (24.0, 0.10), "threads": (16, 0.10), "descriptors": (64, 0.10), "database_mib": (16.0, 0.10), "wal_mib": (72.0, 0.10),
}
# seconds that a request of the priority class may take, with everything else that the machine does
SLOWEST = 10.0
EVERY = 5.0
# minutes below which growth is told and not judged
LEAST = 5.0
# what the database keeps in the soak: so little that it must be thrown away meanwhile
KEPT_EVENTS, KEPT_STEPS, KEPT_HISTORY = 20_000, 5_000, 20
# machines whose ramdisks never come up: they wait, and the soak says what their ramdisks would say
WAITS = ("sim-0001", "sim-0002")
# share of the other machines that have it, and how often each of them: each time a deployment fails
FAILS = {"download_errors": (0.03, 4), "dies_mid_write": (0.02, 2), "ramdisk_hangs": (0.01, 2)}
# what must not stand in a log
DEATHS = re.compile(r"panicked at|node actor died|driver actor of this node died|overflowed its stack|memory allocation of")


class Failed(Exception):
    """The soak cannot go on."""


class Interrupted(BaseException):
    """A signal asks for the end."""


def free_port(kind=socket.SOCK_STREAM, host="127.0.0.1"):
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind((host, 0))
        return one.getsockname()[1]


def follows(command):
    """The command, ended with this process however that ends."""
    return ["setpriv", "--pdeathsig", "TERM", *map(str, command)] if shutil.which("setpriv") else [*map(str, command)]


class Process:
    """A program that is ended by its id."""

    def __init__(self, command, log):
        self.log, self.name = Path(log), str(command[1])
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen(follows(command), stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self.pid = self.child.pid

    def alive(self):
        if self.child.poll() is not None:
            raise Failed(f"{self.name} ended with {self.child.returncode}: {self.log.read_text(errors='replace')[-2000:]}")

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(60)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        return self.child.returncode

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


class Images(http.server.ThreadingHTTPServer):
    # a whole wave may ask at once
    request_queue_size = 1024


class Soak:
    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.over = threading.Event()
        self.began = time.monotonic()
        self.problems, self.notes, self.rows, self.rests = [], [], [], []
        self.ended = threading.Event()
        self.broken = False
        self.wrk = None
        self.lock = threading.Lock()
        self.priority = {}
        self.load = {"requests": 0, "refused": 0, "without_retry_after": 0, "other": {}, "errors": {}}
        self.streams = {"events": 0, "opened": 0, "gaps": 0, "lags": 0, "thrown_away": 0, "refused": 0, "ended": 0, "behind": 0}
        self.consoles = {"opened": 0, "refused": 0, "bytes": 0}
        self.waves = {"begun": 0, "deployed": 0, "torn_down": 0, "failures_mended": 0, "put_off": 0, "maintenance": 0}
        # failures of each node, and how many its faults explain
        self.failed, self.explained = {}, {}
        self.phase = "calm"

    # --- the world ---

    def start(self):
        self.folder = Path(tempfile.mkdtemp(prefix="ferric-soak-"))
        OUT.mkdir(parents=True, exist_ok=True)
        for old in OUT.iterdir():
            old.unlink()
        self.images = Images(("127.0.0.1", 0), Image)
        threading.Thread(target=self.images.serve_forever, daemon=True).start()
        for name in ("kernel", "ramdisk"):
            (self.folder / name).write_text("a simulated machine reads no boot files\n")
        if self.options.nodes < len(WAITS) + 3:
            raise Failed(f"--nodes {self.options.nodes}: at least {len(WAITS) + 3} are needed")
        (self.folder / "faults.toml").write_text(self.faults())
        # from 65 BMCs their port is taken on all of 127/8: none that others want
        self.port, bmc_port = free_port(), free_port(socket.SOCK_DGRAM, "0.0.0.0")
        sets = {
            "api.port": self.port, "agent.require_tls": "false", "conductor.automated_clean": "false",
            "conductor.deploy_kernel": self.folder / "kernel", "conductor.deploy_ramdisk": self.folder / "ramdisk",
            "hardware.enabled_console_interfaces": "ipmitool-socat,no-console", "console.port_range": "23000:23999",
            "conductor.sync_power_state_interval": 20, "conductor.deploy_callback_timeout": 60,
            "database.max_events": KEPT_EVENTS, "database.max_steps": KEPT_STEPS, "conductor.node_history_max_entries": KEPT_HISTORY,
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
            "--enroll-file", enrolment, "--faults", self.folder / "faults.toml", "--set", f"sim.bmc_address={self.options.bmc}", "--set", f"sim.bmc_port={bmc_port}",
            "--set", "sim.boot_delay_min=0.5", "--set", "sim.boot_delay_max=3",
        ], OUT / "sim.log")
        self.until("the API answers", lambda: self.ask_once("/readyz") == 200)
        self.until("the simulated fleet is there", lambda: enrolment.exists() and "BMCs on" in self.sim.log.read_text(errors="replace"))
        self.enrol(json.loads(enrolment.read_text())["nodes"])

    def faults(self):
        """The fault file: which machines fail, and how often, is known here."""
        text = [FAULTS, *(f"[machines.{name}]\nramdisk_hangs = 1000000000" for name in WAITS)]
        others = [f"sim-{index:04}" for index in range(len(WAITS) + 1, self.options.nodes + 1)]
        for fault, (share, most) in FAILS.items():
            for name in [others.pop(self.random.randrange(len(others))) for _ in range(max(1, int(self.options.nodes * share)))]:
                self.explained[name] = self.random.randint(1, most)
                text.append(f"[machines.{name}]\n{fault} = {self.explained[name]}")
        return "\n".join(text) + "\n"

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
        self.ids, self.names, self.waits = [], {}, []
        for body in bodies:
            ports = body.pop("ports", [])
            body["instance_info"] = {}
            body["console_interface"] = "ipmitool-socat"
            if body["name"] in WAITS:
                body["inspect_interface"] = "agent"
            made = api.must("POST", "/v1/nodes", {key: value for key, value in body.items() if value not in ({}, None)})
            for port in ports:
                api.must("POST", "/v1/ports", {"node_uuid": made["uuid"], **port})
            if body["name"] in WAITS:
                self.waits.append((made["uuid"], ",".join(port["address"] for port in ports)))
            else:
                self.ids.append(made["uuid"])
                self.names[made["uuid"]] = body["name"]
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
                if not self.ended.is_set():
                    self.problems.append(f"{work.__name__}: {type(error).__name__}: {error}")
                self.broken = True
                self.over.set()
        thread = threading.Thread(target=run, name=work.__name__, daemon=True)
        thread.start()
        return thread

    def states(self, api):
        found, after = {}, None
        while True:
            path = "/v1/nodes?fields=uuid,provision_state,maintenance&limit=1000" + (f"&marker={after}" if after else "")
            page = api.must("GET", path)["nodes"]
            found.update({one["uuid"]: one for one in page if one["uuid"] in self.names})
            if len(page) < 1000:
                return found
            after = page[-1]["uuid"]

    def drive(self, api, goals):
        """Asks each node for the next thing on its way; how many are not there."""
        away = 0
        for node, row in self.states(api).items():
            state, goal = row["provision_state"], goals[node]
            if row["maintenance"]:
                self.waves["maintenance"] += 1
                self.notes.append(f"maintenance: {self.names[node]}: {self.why(api, node)}")
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
            said = self.why(api, node) if "failed" in state or state == "error" else None
            status = self.calm(api, "PUT", f"/v1/nodes/{node}/states/provision", {"target": target})
            if status != 202:
                continue
            if state == "active":
                self.waves["torn_down"] += 1
            elif said is not None:
                # each failure is left once
                self.waves["failures_mended"] += 1
                self.failed.setdefault(node, []).append(f"{state}: {said}")
        return away

    def why(self, api, node):
        answer = api.ask("GET", f"/v1/nodes/{node}?fields=last_error,maintenance_reason")[2]
        return f"{answer.get('last_error') or answer.get('maintenance_reason')}" if isinstance(answer, dict) else "?"

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
            self.wrk = subprocess.Popen(follows([*command[:-2], lists, *command[-2:]]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            said, wrong = self.wrk.communicate()
            self.phase = "calm"
            if self.wrk.returncode:
                raise Failed(f"wrk: {self.wrk.returncode}: {said[-500:]}{wrong[-500:]}")
            counts = json.loads(re.search(r"^soak (.*)$", said, re.M)[1])
            self.load["requests"] += counts.pop("requests")
            self.load["refused"] += counts.pop("refused")
            self.load["without_retry_after"] += counts.pop("bare")
            for where, found in (("errors", counts.pop("errors")), ("other", counts)):
                for what, times in found.items():
                    if times:
                        self.load[where][what] = self.load[where].get(what, 0) + times

    def probe(self, api, name, method, path, body=None, wants=(202,), locked=False):
        """A request of the priority class that is right: its answer. `locked`: 409 is right as well, and the status is told."""
        status, _, answer, took = api.ask(method, path, body)
        with self.lock:
            seen = self.priority.setdefault(name, {"times": [], "statuses": {}})
            seen["times"].append(took)
            seen["statuses"][status] = seen["statuses"].get(status, 0) + 1
        if status not in wants and not (locked and status == 409):
            self.problems.append(f"priority: {name}: {method} {path}: {status} {answer}")
        return status if locked else answer

    def beats(self):
        """Health and power, all the time; who is asked has nothing else to do."""
        api, on, turn = Api(self.port), {node: False for node in self.aside}, 0
        while not self.over.is_set():
            node = self.aside[turn % len(self.aside)]
            turn, on[node] = turn + 1, not on[node]
            self.probe(api, "health", "GET", "/healthz", wants=(200,))
            body, deadline = {"target": "power on" if on[node] else "power off"}, time.monotonic() + 30
            # the change before may not be over
            while self.probe(api, "power", "PUT", f"/v1/nodes/{node}/states/power", body, locked=True) == 409:
                if time.monotonic() > deadline:
                    self.problems.append(f"priority: power: {node} was locked for 30 s")
                    break
                time.sleep(0.1)
            self.over.wait(0.1)

    def comes_to(self, api, node, *states, within=120):
        """Waits for one of the states; the state."""
        deadline = time.monotonic() + within
        while True:
            status, headers, answer, _ = api.ask("GET", f"/v1/nodes/{node}?fields=provision_state,last_error")
            if status == 200 and answer["provision_state"] in states:
                return answer["provision_state"]
            if time.monotonic() > deadline:
                raise Failed(f"{node} did not come to {' or '.join(states)} within {within} s: {status} {answer}")
            time.sleep(float(headers.get("Retry-After", 1)) if status == 503 else 0.1)

    def asks(self, api, node, target):
        """A verb that is granted as soon as the work before has tidied up."""
        deadline = time.monotonic() + 120
        while True:
            status, _, answer, _ = api.ask("PUT", f"/v1/nodes/{node}/states/provision", {"target": target})
            if status == 202:
                return
            if status not in (409, 503) or time.monotonic() > deadline:
                raise Failed(f"{node}: {target}: {status} {answer}")
            time.sleep(0.2)

    def inspected(self):
        """A machine whose ramdisk is played here: it looks itself up, calls, and its inspection is aborted."""
        api, (node, addresses) = Api(self.port), self.waits[0]
        while not self.over.is_set():
            if self.comes_to(api, node, "enroll", "manageable", "inspect failed") != "manageable":
                self.asks(api, node, "manage")
                self.comes_to(api, node, "manageable")
            self.asks(api, node, "inspect")
            self.comes_to(api, node, "inspect wait")
            found = self.probe(api, "lookup", "GET", f"/v1/lookup?addresses={addresses}", wants=(200,))
            token = found.get("config", {}).get("agent_token") if isinstance(found, dict) else None
            if not token or "*" in token:
                self.problems.append("priority: lookup: a ramdisk's first look-up brought no token")
                continue
            beat = {"callback_url": "http://192.0.2.1:9999", "agent_token": token, "agent_version": "soak"}
            for _ in range(10):
                self.probe(api, "heartbeat", "POST", f"/v1/heartbeat/{node}", beat)
                self.probe(api, "lookup", "GET", f"/v1/lookup?node_uuid={node}", wants=(200,))
                self.over.wait(0.1)
            self.probe(api, "abort", "PUT", f"/v1/nodes/{node}/states/provision", {"target": "abort"})
            self.comes_to(api, node, "inspect failed")

    def aborted(self):
        """A machine whose deployments wait for a ramdisk that does not come, until somebody aborts them."""
        api, (node, addresses) = Api(self.port), self.waits[1]
        ways = {"enroll": "manage", "manageable": "provide", "deploy failed": "deleted"}
        while not self.over.is_set():
            while (state := self.comes_to(api, node, "available", *ways)) != "available":
                self.asks(api, node, ways[state])
                self.comes_to(api, node, {"manage": "manageable"}.get(ways[state], "available"))
            api.must("PATCH", f"/v1/nodes/{node}", self.instance)
            self.asks(api, node, "active")
            self.comes_to(api, node, "wait call-back")
            self.probe(api, "lookup", "GET", f"/v1/lookup?addresses={addresses}", wants=(200,))
            self.over.wait(0.5)
            self.probe(api, "abort", "PUT", f"/v1/nodes/{node}/states/provision", {"target": "abort"})
            self.comes_to(api, node, "deploy failed")

    def followers(self):
        """Clients of the event stream on one thread: they come and go, and every fifth one stops reading for a while."""
        chosen, clients, asleep = selectors.DefaultSelector(), [], []

        def come(last):
            slow = self.random.random() < 0.2
            sock = socket.socket()
            sock.settimeout(30)
            if slow:
                # small windows and small packets: little is kept for it on the way
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            sock.connect(("127.0.0.1", self.port))
            resume = f"Last-Event-ID: {last}\r\n" if last else ""
            sock.sendall(f"GET /v1/ferric/events HTTP/1.1\r\nHost: soak\r\n{resume}\r\n".encode())
            sock.setblocking(False)
            one = {"sock": sock, "text": b"", "last": last, "thrown_away": 0, "slow": slow, "wakes": None,
                   "until": time.monotonic() + self.random.uniform(5, 60)}
            chosen.register(sock, selectors.EVENT_READ, one)
            clients.append(one)
            self.streams["opened"] += 1

        def go(one):
            if one in asleep:
                asleep.remove(one)
            else:
                chosen.unregister(one["sock"])
            one["sock"].close()
            clients.remove(one)

        def sleep(one):
            chosen.unregister(one["sock"])
            one["wakes"] = time.monotonic() + self.random.uniform(30, 50)
            one["until"] = one["wakes"] + 60
            asleep.append(one)

        def wake(one):
            asleep.remove(one)
            one["sock"].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            chosen.register(one["sock"], selectors.EVENT_READ, one)

        def read():
            for key, _ in chosen.select(timeout=0.2):
                one = key.data
                try:
                    more = one["sock"].recv(1 << 18)
                except BlockingIOError:
                    continue
                except OSError:
                    more = b""
                if not more:
                    self.streams["ended"] += 1
                    go(one)
                    continue
                self.followed(one, more)
                if one["slow"] and one["wakes"] is None and one["last"] is not None:
                    sleep(one)

        while not self.over.is_set():
            while len(clients) < 20:
                come(None)
            read()
            for one in [one for one in asleep if time.monotonic() > one["wakes"]]:
                wake(one)
            for one in [one for one in clients if time.monotonic() > one["until"]]:
                last = one["last"]
                go(one)
                if self.random.random() < 0.5:
                    come(last)
        # who slept comes to where the others are
        for one in list(asleep):
            wake(one)
        there = max((one["last"] or 0 for one in clients), default=0)
        deadline = time.monotonic() + 60
        while any((one["last"] or 0) < there for one in clients) and time.monotonic() < deadline and not self.ended.is_set():
            read()
        self.streams["behind"] += sum((one["last"] or 0) < there for one in clients)
        for one in list(clients):
            go(one)

    def followed(self, one, more):
        one["text"] += more
        *blocks, one["text"] = one["text"].split(b"\n\n")
        for block in blocks:
            lag = re.search(rb"^event: lag\r?\ndata: (.*)$", block, re.M)
            if lag:
                told = json.loads(lag[1])
                if "no longer kept" in told["reason"]:
                    # a gap that was told, to the number
                    one["thrown_away"] += told["missed"]
                    self.streams["thrown_away"] += told["missed"]
                else:
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
            if one["last"] is not None and seq != one["last"] + 1 + one["thrown_away"]:
                self.streams["gaps"] += 1
                self.notes.append(f"a {'slow ' if one['slow'] else ''}stream went from {one['last']} to {seq}, told of {one['thrown_away']}")
            one["last"], one["thrown_away"] = seq, 0

    def terminals(self):
        """Consoles that are switched on, watched for a moment, and switched off."""
        api = Api(self.port)
        while not self.over.is_set():
            node = self.random.choice(self.ids)
            try:
                status, *_ = api.ask("PUT", f"/v1/nodes/{node}/states/console", {"enabled": True})
                if status == 202:
                    try:
                        self.over.wait(1)
                        self.watch(node)
                    finally:
                        api.must("PUT", f"/v1/nodes/{node}/states/console", {"enabled": False}, ok=(202, 409))
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
            while not self.ended.wait(EVERY):
                row = self.sample(api)
                if row is None:
                    return
                if writer is None:
                    writer = csv.DictWriter(out, row.keys())
                    writer.writeheader()
                writer.writerow(row)
                out.flush()
                self.rows.append(row)

    def sample(self, api):
        if self.ended.is_set():
            return None
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
        sampling = self.guarded(self.samples)
        for share in (1 / 3, 2 / 3):
            self.under_load(self.options.minutes * 60 * share)
            if self.broken:
                break
            self.phase = "rest"
            self.recover()
            self.rests.append(self.at_rest())
            self.phase = "calm"
            print(f"soak: at rest: {self.rests[-1]}", flush=True)
        self.ended.set()
        sampling.join()
        for one in (self.serve, self.sim):
            code = one.stop()
            if code != 0:
                self.problems.append(f"ferric {one.name} ended with {code}")
        return self.judge()

    def under_load(self, seconds):
        """Everything at once, for so long."""
        self.over.clear()
        works = (self.deployments, self.crowds, self.beats, self.inspected, self.aborted, self.followers, self.terminals)
        threads = [self.guarded(work) for work in works]
        end, said = time.monotonic() + seconds, time.monotonic() - 30
        while time.monotonic() < end and not self.over.wait(1):
            if self.rows and time.monotonic() - said >= 60:
                said = time.monotonic()
                row = self.rows[-1]
                print(f"soak: {row['seconds']:6.0f} s  {row['rss_mib']:.0f} MiB, {row['descriptors']} descriptors, {row['threads']} threads; "
                      f"{self.waves['deployed']} deployed, {self.load['refused']} of {self.load['requests']} refused", flush=True)
        self.over.set()
        for thread in threads:
            thread.join()

    def recover(self):
        """The load is gone: everything comes to the same state, wherever it was to go."""
        goals, api, deadline = {node: "active" for node in self.ids}, Api(self.port), time.monotonic() + 300
        while True:
            away = self.drive(api, goals)
            if away == 0:
                return
            if time.monotonic() > deadline:
                left = {}
                for row in self.states(api).values():
                    if row["provision_state"] != "active":
                        left[row["provision_state"]] = left.get(row["provision_state"], 0) + 1
                self.problems.append(f"{away} nodes are not active after 300 s without load: {left}")
                return
            time.sleep(1)

    def at_rest(self):
        """What serve holds when nobody asks it for anything: the middle of some samples once threads and descriptors stay."""
        api, seen, deadline = Api(self.port), [], time.monotonic() + 120
        while time.monotonic() < deadline:
            seen.append(self.sample(api))
            last = seen[-15:]
            if len(last) == 15 and all(max(row[name] for row in last) - min(row[name] for row in last) <= 1 for name in ("threads", "descriptors")):
                break
            time.sleep(1)
        last = seen[-9:]
        return {name: sorted(row[name] for row in last)[len(last) // 2] for name in REST}

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
        if len(self.rests) == 2:
            for name, most in REST.items():
                growth = self.rests[1][name] - self.rests[0][name]
                if growth > most and self.options.minutes >= LEAST:
                    self.problems.append(f"{name} at rest: {self.rests[0][name]} after a third, {self.rests[1][name]} in the end; {most} more is allowed")
        for node, whys in self.failed.items():
            explained = self.explained.get(self.names[node], 0)
            if len(whys) > explained:
                self.problems.append(f"{self.names[node]} failed {len(whys)} times, its faults explain {explained}: {whys[:5]}")
        if self.waves["maintenance"]:
            self.problems.append(f"nodes were found in maintenance {self.waves['maintenance']} times, and no fault explains that")
        for one in (self.serve, self.sim):
            dead = [line for line in one.log.read_text(errors="replace").splitlines() if DEATHS.search(line)]
            if dead:
                self.problems.append(f"{len(dead)} deaths in {one.log}: {dead[0][:300]}")
        priority = {}
        for name in {"health", "lookup", "heartbeat", "power", "abort"} - self.priority.keys():
            self.problems.append(f"priority: {name} was never asked")
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
        if self.load["errors"]:
            self.problems.append(f"wrk met errors: {self.load['errors']}")
        for what, text in (("ended", "were ended by the server"), ("refused", "were refused"), ("behind", "did not catch up")):
            if self.streams[what]:
                self.problems.append(f"{self.streams[what]} event streams {text}")
        if not self.streams["lags"] and self.options.minutes >= LEAST:
            self.problems.append("no stream was told that it reads too slowly: that path was not walked")
        if self.streams["gaps"]:
            self.problems.append(f"{self.streams['gaps']} gaps in the event streams: {self.notes[:3]}")
        if not self.streams["events"]:
            self.problems.append("the event streams told nothing")
        report = {
            "green": not self.problems, "minutes": self.options.minutes, "nodes": len(self.ids), "problems": self.problems[:50],
            "rest": self.rests, "grown": grown, "priority": priority, "load": self.load, "streams": self.streams, "consoles": self.consoles,
            "waves": self.waves, "failed": {self.names[node]: whys for node, whys in self.failed.items()}, "explained": self.explained, "notes": self.notes[:50],
        }
        (OUT / "report.json").write_text(json.dumps(report, indent=1) + "\n")
        (OUT / "soak.svg").write_text(picture(self.rows))
        return report

    def stop(self):
        self.ended.set()
        self.over.set()
        if self.wrk is not None and self.wrk.poll() is None:
            self.wrk.kill()
        for name in ("serve", "sim"):
            if hasattr(self, name):
                getattr(self, name).stop()
        if hasattr(self, "images"):
            self.images.shutdown()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder, ignore_errors=True)


FAULTS = """slower = 0.05
download_breaks = 0.05
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
  local e = summary.errors
  print(string.format('soak {"requests": %d, "refused": %d, "bare": %d, "errors": {"connect": %d, "read": %d, "write": %d, "timeout": %d}%s}',
    total, no, naked, e.connect, e.read, e.write, e.timeout, more))
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

    def interrupted(number, _):
        raise Interrupted(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupted)
    try:
        report = soak.run()
    except (Interrupted, Failed) as error:
        print(f"soak: ended by {error}; logs are in {OUT}", file=sys.stderr)
        return 1
    finally:
        soak.stop()
    print(json.dumps({key: value for key, value in report.items() if key != "notes"}, indent=1))
    print(f"soak: {'green' if report['green'] else 'RED'}; {OUT}/soak.csv, soak.svg, report.json")
    return 0 if report["green"] else 1


if __name__ == "__main__":
    sys.exit(main())
