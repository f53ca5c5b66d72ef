#!/usr/bin/env python3
"""A fleet at rest: what ten thousand nodes cost, and how fast all of their BMCs are asked.

    benches/perf/fleet.py --nodes 10000 --data /tmp/fleet-data all       enrol (once), then everything below
    benches/perf/fleet.py … start        a start with the filled database: process to first answer
    benches/perf/fleet.py … idle         CPU and memory of `ferric serve` over a minute of power sync
    benches/perf/fleet.py … sweep        one whole look at the power of the fleet, without and with 5 % of BMCs dead

The simulator runs in a process of its own and is not counted. The filled data folder is kept: what is measured starts from
it. Prints JSON. Standard library only; `make perf` imports the functions.
"""

import argparse
import contextlib
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from servers import FERRIC, HEADERS, cpu_seconds, end, free_port, rss_mib as memory_mib  # noqa: E402

# from 65 BMCs it is taken on all of 127/8, and it stands in the filled database: one that nobody else uses
BMC_PORT = 6403
# states in which nothing more happens by itself
SETTLED = {"manageable", "available", "active", "enroll"}


class Failed(Exception):
    """What was to be measured did not happen."""


class Process:
    """A program that is ended by its id."""

    def __init__(self, command, log):
        self.log = Path(log)
        self.began = time.monotonic()
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out)
        self.pid = self.child.pid

    def alive(self):
        if self.child.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise Failed(f"{self.child.args[:2]} ended with {self.child.returncode}: {tail}")

    def stop(self):
        return end(self.child)


class Server(Process):
    """`ferric serve` over a data folder; `options` are further `section.key=value`."""

    def __init__(self, data, port, options=(), binary=FERRIC, log=None):
        self.port, self.host = port, "127.0.0.1"
        sets = [f"api.port={port}", *options]
        command = [binary, "serve", "--data-dir", data, *(word for one in sets for word in ("--set", one))]
        super().__init__(command, log or f"{data}.serve.log")

    def first_answer(self, path="/v1/nodes?limit=1", within=120):
        """Seconds from the start of the process to the first answer that comes from the database."""
        while True:
            self.alive()
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
                connection.request("GET", path, headers=HEADERS)
                status = connection.getresponse().status
                connection.close()
                if status == 200:
                    return time.monotonic() - self.began
            if time.monotonic() - self.began > within:
                raise Failed(f"no answer within {within} s")
            time.sleep(0.005)

    def connection(self):
        return http.client.HTTPConnection(self.host, self.port, timeout=120)

    def ask(self, method, path, body=None, connection=None):
        """(status, body) of one request."""
        mine = connection or self.connection()
        try:
            mine.request(method, path, None if body is None else json.dumps(body), HEADERS)
            answer = mine.getresponse()
            raw = answer.read()
        finally:
            if connection is None:
                mine.close()
        return answer.status, json.loads(raw) if raw[:1] in (b"{", b"[") else raw

    def health(self):
        """What `/v1/ferric/health` says."""
        status, body = self.ask("GET", "/v1/ferric/health")
        if status != 200:
            raise Failed(f"/v1/ferric/health: {status} {body}")
        return body

    def states(self):
        """Number of nodes by provision state."""
        counts, after, connection = {}, None, self.connection()
        while True:
            path = "/v1/nodes?fields=uuid,provision_state&limit=1000" + (f"&marker={after}" if after else "")
            rows = self.ask("GET", path, connection=connection)[1]["nodes"]
            for row in rows:
                counts[row["provision_state"]] = counts.get(row["provision_state"], 0) + 1
            if len(rows) < 1000:
                connection.close()
                return counts
            after = rows[-1]["uuid"]


class Simulator(Process):
    """`ferric sim` with BMCs at `first` and the addresses after it; `faults` is TOML."""

    def __init__(self, nodes, folder, first="127.103.0.1", port=BMC_PORT, faults="", binary=FERRIC, api="http://127.0.0.1:6385"):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.enrolment = folder / "enrol.json"
        self.enrolment.unlink(missing_ok=True)
        command = [binary, "sim", "--nodes", nodes, "--api-url", api, "--enroll-file", self.enrolment]
        command += ["--set", f"sim.bmc_address={first}", "--set", f"sim.bmc_port={port}"]
        if faults:
            (folder / "faults.toml").write_text(faults)
            command += ["--faults", folder / "faults.toml"]
        super().__init__(command, folder / "sim.log")
        self.ready()

    def ready(self, within=120):
        """Waits until every BMC listens."""
        while "BMCs on" not in self.log.read_text(errors="replace"):
            self.alive()
            if time.monotonic() - self.began > within:
                raise Failed("the simulator does not start")
            time.sleep(0.02)
        self.log.write_text("")

    def nodes(self):
        """Bodies of `POST /v1/nodes`, with those of their ports."""
        rows = json.loads(self.enrolment.read_text())["nodes"]
        return rows


@contextlib.contextmanager
def running(process):
    """Ends it at the end of the block."""
    try:
        yield process
    finally:
        process.stop()


def enrol(server, bodies, connections=16):
    """Creates the nodes and makes them manageable, which asks each BMC; seconds for both."""
    began, todo, problems, lock = time.monotonic(), list(reversed(bodies)), [], threading.Lock()

    def work():
        connection = server.connection()
        while True:
            with lock:
                if not todo or problems:
                    return
                body = todo.pop()
            try:
                ports = body.pop("ports", [])
                status, made = server.ask("POST", "/v1/nodes", body, connection)
                for port in ports if status == 201 else []:
                    status, answer = server.ask("POST", "/v1/ports", {"node_uuid": made["uuid"], **port}, connection)
                    made = made if status == 201 else answer
                if status == 201:
                    path = f"/v1/nodes/{made['uuid']}/states/provision"
                    status, made = server.ask("PUT", path, {"target": "manage"}, connection)
                if status not in (201, 202):
                    problems.append((status, made))
            except (OSError, http.client.HTTPException) as error:
                problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise Failed(f"enrolling: {problems[0]}")
    while True:
        counts = server.states()
        if set(counts) <= SETTLED:
            break
        if time.monotonic() - began > 900:
            raise Failed(f"not settled: {counts}")
        time.sleep(1)
    if counts.get("enroll"):
        raise Failed(f"not all verified: {counts}")
    return time.monotonic() - began


def idle(server, seconds=60):
    """Share of one core over so many seconds, and memory at their end."""
    cpu, began = cpu_seconds(server.pid), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    share = (cpu_seconds(server.pid) - cpu) / took
    return {"seconds": round(took, 1), "core_share": round(share, 4), "rss_mib": round(memory_mib(server.pid), 1),
            "rss_most_mib": round(memory_mib(server.pid, "VmHWM"), 1)}


def sweep(server, within=300):
    """One whole look at the power of every node, now; what `/v1/ferric/health` tells of it at its end."""
    cpu = cpu_seconds(server.pid)
    status, begun = server.ask("POST", "/v1/ferric/power_sync")
    if status != 202:
        raise Failed(f"POST /v1/ferric/power_sync: {status} {begun}")
    deadline = time.monotonic() + within
    while True:
        told = server.health()["power_sync"]
        last = told["last_sweep"]
        if last and last["number"] >= begun["number"]:
            break
        if time.monotonic() > deadline:
            raise Failed(f"the sweep does not end: {told}")
        time.sleep(0.05)
    return {**last, "cpu_seconds": round(cpu_seconds(server.pid) - cpu, 2), "silent_now": told["silent"],
            "lag_seconds": told["lag_seconds"]}


def latency_ratio(well, ill):
    """How much longer healthy BMCs took with dead ones beside them, by percentile."""
    return {name: round(ill["round_trip"][name] / max(well["round_trip"][name], 1e-9), 3) for name in ("p50", "p90", "p99")}


def prepare(args):
    """The filled data folder; enrolled once."""
    data = Path(args.data)
    done = Path(f"{data}.enrolled")
    if done.exists() and done.read_text().strip() == str(args.nodes):
        return None
    shutil.rmtree(data, ignore_errors=True)
    options = ["conductor.sync_power_state_interval=0", *args.set]
    with running(simulator(args)) as sim, running(Server(data, args.port or free_port(), options, args.binary)) as server:
        server.first_answer()
        took = enrol(server, sim.nodes())
        told = {"enrolled": args.nodes, "seconds": round(took, 1), "serve_cpu_seconds": round(cpu_seconds(server.pid), 1),
                "rss_mib": round(memory_mib(server.pid), 1)}
    done.write_text(str(args.nodes))
    return told


def simulator(args, faults=""):
    return Simulator(args.nodes, f"{args.data}.sim", args.bmc, args.bmc_port, faults, args.sim_binary or args.binary)


def measure_start(args, times=3):
    out = []
    for _ in range(times):
        with running(Server(args.data, args.port or free_port(), [*args.set], args.binary)) as server:
            first = server.first_answer()
            told = {"first_answer_seconds": round(first, 3), "cpu_at_first_answer": round(cpu_seconds(server.pid), 2)}
            told["rss_mib"] = round(memory_mib(server.pid), 1)
            out.append(told)
    return out


def measure_idle(args):
    options = [f"conductor.sync_power_state_interval={args.interval}", *args.set]
    faults = f"silent_bmc = {args.dead}\n" if args.dead else ""
    with running(simulator(args, faults)), running(Server(args.data, args.port or free_port(), options, args.binary)) as server:
        server.first_answer()
        # the first round opens what is opened once; the second is the steady state
        time.sleep(args.warm)
        return idle(server, args.seconds)


def middle(sweeps):
    """Of several sweeps the one whose duration is in the middle, with the percentiles each in the middle of theirs: one
    neighbour on the machine is not to decide."""
    told = dict(sorted(sweeps, key=lambda one: one["seconds"])[len(sweeps) // 2])
    names = told["round_trip"].keys()
    told["round_trip"] = {name: sorted(one["round_trip"][name] for one in sweeps)[len(sweeps) // 2] for name in names}
    return told


def measure_sweep(args, times=3):
    """Cold: every session is to be opened; again: those that are open serve. Each several times."""
    out = {}
    for name, dead in (("all_well", 0.0), ("some_dead", args.dead or 0.05)):
        # nothing but the sweep asks the BMCs
        options = ["conductor.sync_power_state_interval=86400", *args.set]
        faults = f"silent_bmc = {dead}\n" if dead else ""
        cold, again = [], []
        with running(simulator(args, faults)):
            for _ in range(times):
                with running(Server(args.data, args.port or free_port(), options, args.binary)) as server:
                    server.first_answer()
                    cold.append(sweep(server))
                    again.append(sweep(server))
        out[name] = {"cold": middle(cold), "again": middle(again)}
    out["latency_ratio"] = {kind: latency_ratio(out["all_well"][kind], out["some_dead"][kind]) for kind in ("cold", "again")}
    return out


def measure():
    """What `make perf` asks for, in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="ferric-perf-fleet-")
    try:
        args = options().parse_args(["--data", f"{folder}/data"])
        return {"nodes": args.nodes, "dead": args.dead, "enrol": prepare(args), "start": measure_start(args), "idle": measure_idle(args), "sweep": measure_sweep(args)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rows(found):
    """Rows of the targets' table."""
    nodes, start, idle = f"{found['nodes']:,} nodes", found["start"], found["idle"]
    seconds = sorted(one["first_answer_seconds"] for one in start)
    # the sweep that finds no session open, which is the harder one, decides
    ill, ratio = found["sweep"]["some_dead"], found["sweep"]["latency_ratio"]["cold"]
    well, trip = found["sweep"]["all_well"], lambda told: ", ".join(f"{told['round_trip'][name] * 1e3:.1f}" for name in ("p50", "p90", "p99"))
    return [
        {
            "what": f"{nodes}: start with a filled database to first answer", "target": "≤ 1 s",
            "measured": f"{seconds[len(seconds) // 2]} s (of {len(seconds)} starts {seconds[0]} to {seconds[-1]} s; {start[0]['cpu_at_first_answer']} s of CPU)",
            "ratio": f"{seconds[len(seconds) // 2]:.0%} of the time allowed", "met": seconds[len(seconds) // 2] <= 1,
        },
        {
            "what": f"{nodes} over real IPMI: one whole power sweep, {found['dead']:.0%} of BMCs dead",
            "target": "≤ 20 s, healthy nodes' latency unchanged by the dead ones (ratio ≤ 1.2)",
            "measured": f"{ill['cold']['seconds']:.1f} s with every session to be opened, {ill['again']['seconds']:.1f} s when they are open "
            f"(none dead: {well['cold']['seconds']:.1f} and {well['again']['seconds']:.1f} s); a healthy reading takes {trip(ill['cold'])} ms at p50, p90, p99 "
            f"beside the dead and {trip(well['cold'])} ms without",
            "ratio": f"latency p50 {ratio['p50']}, p90 {ratio['p90']}, p99 {ratio['p99']}",
            "met": ill["cold"]["seconds"] <= 20 and max(ratio.values()) <= 1.2,
        },
        {
            "what": f"{nodes} idle, power sync each 60 s", "target": "≤ 10 % of one core, RSS ≤ 300 MB",
            "measured": f"{idle['core_share']:.1%} of a core over {idle['seconds']:.0f} s, {idle['rss_mib']:.0f} MiB (most: {idle['rss_most_mib']:.0f})",
            "ratio": f"{idle['core_share'] / 0.1:.0%} of the CPU, {idle['rss_mib'] * 1.048576 / 300:.0%} of the memory allowed",
            "met": idle["core_share"] <= 0.10 and idle["rss_mib"] * 1.048576 <= 300,
        },
    ]


def options():
    """What the command line takes."""
    asks = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asks.add_argument("what", nargs="*", default=["all"], help="enrol, start, idle, sweep, all")
    asks.add_argument("--nodes", type=int, default=10_000)
    asks.add_argument("--data", default="/tmp/ferric-fleet")
    asks.add_argument("--binary", default=str(FERRIC))
    asks.add_argument("--sim-binary", default="")
    asks.add_argument("--port", type=int, default=0)
    asks.add_argument("--bmc", default="127.103.0.1", help="the first BMC's address")
    asks.add_argument("--bmc-port", type=int, default=BMC_PORT)
    asks.add_argument("--dead", type=float, default=0.05, help="share of BMCs that are dead")
    asks.add_argument("--interval", type=int, default=60, help="[conductor] sync_power_state_interval")
    asks.add_argument("--warm", type=float, default=65)
    asks.add_argument("--seconds", type=float, default=60)
    asks.add_argument("--set", action="append", default=[], help="a further option of `ferric serve`")
    return asks


def main():
    args = options().parse_args()
    wanted = {"start", "idle", "sweep"} if "all" in args.what else set(args.what)
    try:
        told = {"enrol": prepare(args)}
        for name, measure in (("start", measure_start), ("idle", measure_idle), ("sweep", measure_sweep)):
            if name in wanted:
                told[name] = measure(args)
                print(json.dumps({name: told[name]}), file=sys.stderr)
    except Failed as error:
        sys.exit(f"fleet.py: {error}")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
