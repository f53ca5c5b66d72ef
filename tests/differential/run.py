#!/usr/bin/env python3
"""Asks a real Ironic and Ferric the same things and tells every difference.

    run.py --ferric BIN [--only RESOURCE[:WORDS OF A TITLE]]… [--docs] [--report FILE] [--show]

The requests are in requests/*.req (language.py says how to write them) and come out of sweeps.py. Differences that are meant
are in expected.json with their reasons; one that matches nothing is an error. `--docs` writes the figures into
docs/compatibility.md; without it a run of everything fails when they are out of date. Exit 1: a target is missed, or there
is a difference that is not listed.
"""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import report
import sweeps
from compare import Names, compare, normal
from expected import Expected
from language import NEWEST, Request, Scenario, Wait, read
from peers import Answer, Failed, Ferric, Ironic

HERE = Path(__file__).resolve().parent
# what a side does not reach within this time it does not reach
WAIT_WITHIN = 20
LOOK = 0.02
LATEST = {"X-OpenStack-Ironic-API-Version": NEWEST}
# in the order in which they can be deleted
COLLECTIONS = [
    ("allocations", "allocations"), ("nodes", "nodes"), ("portgroups", "portgroups"), ("chassis", "chassis"),
    ("deploy_templates", "deploy_templates"), ("runbooks", "runbooks"), ("inspection_rules", "inspection_rules"),
]


class Side:
    """A server within one scenario: what it called things."""

    def __init__(self, peer):
        self.peer = peer
        self.forget()

    def forget(self):
        self.names, self.kept, self.found = Names(), {}, set()

    def filled(self, text, known):
        def one(found):
            name = found[1]
            return str(self.kept.get(name, f"no-{name}")) if name in known else found[0]

        return re.sub(r"\$(\w+)", one, text)

    def send(self, request, known):
        headers = dict(request.headers)
        if request.version:
            headers.setdefault("X-OpenStack-Ironic-API-Version", request.version)
        body = None
        if request.body is not None:
            body = self.filled(request.body, known).encode()
            headers.setdefault("Content-Type", "application/json")
        path = self.filled(request.path, known).replace(" ", "%20")
        for _ in range(20):
            answer = self.peer.ask(request.method, path, headers, body)
            # SQLite under Ironic; of Ferric it would be a fault
            if not (self.peer.stumbles and answer.status == 500 and b"database is locked" in answer.raw):
                break
            time.sleep(0.1)
        for name, where in request.keep.items():
            value = answer.body
            for key in where.split("."):
                key = int(key) if isinstance(value, list) and key.isdigit() else key
                try:
                    value = value[key]
                except (KeyError, IndexError, TypeError):
                    value = None
            if value is not None and answer.status < 400:
                self.kept[name] = value
                self.found.add((request.line, name))
                self.names.known.setdefault(str(value), f"<{name}>")
        return answer

    def wait(self, wait, known):
        """None, or what it was instead."""
        path = f"/v1{self.filled(wait.path, known)}"
        deadline = time.monotonic() + WAIT_WITHIN
        while True:
            answer = self.peer.ask("GET", path, LATEST)
            body = answer.body if isinstance(answer.body, dict) else {}
            seen = {key: str(body.get(key)) for key in wait.wanted}
            fits = all(seen[key] in wanted.split("|") for key, wanted in wait.wanted.items())
            if fits and body.get("reservation") is None and answer.status == 200:
                return None
            if time.monotonic() > deadline or answer.status >= 400:
                return {"status": answer.status, **seen, "last_error": body.get("last_error")}
            time.sleep(LOOK)

    def clean(self, touched):
        """Deletes what the scenario made."""
        for collection, key in COLLECTIONS:
            if collection not in touched:
                continue
            deadline = time.monotonic() + WAIT_WITHIN
            while True:
                query = "?include_children=true" if key == "nodes" else ""
                answer = self.peer.ask("GET", f"/v1/{collection}{query}", LATEST)
                left = answer.body.get(key, []) if answer.status == 200 else []
                if not left:
                    break
                for one in left:
                    self.delete(collection, one)
                if time.monotonic() > deadline:
                    raise Failed(f"{self.peer.name}: {collection} cannot be deleted: {left}")

    def delete(self, collection, one):
        path = f"/v1/{collection}/{one['uuid']}"
        if self.peer.ask("DELETE", path, LATEST).status < 400 or collection != "nodes":
            return
        self.peer.ask("PUT", f"{path}/maintenance", {**LATEST, "Content-Type": "application/json"}, b"{}")
        unprotect = b'[{"op": "remove", "path": "/protected"}]'
        self.peer.ask("PATCH", path, {**LATEST, "Content-Type": "application/json"}, unprotect)


class Runner:
    def __init__(self, ironic, ferric):
        self.sides = [Side(ironic), Side(ferric)]
        self.pool = ThreadPoolExecutor(2)

    def both(self, ask):
        return [one.result() for one in [self.pool.submit(ask, side) for side in self.sides]]

    def scenario(self, scenario):
        """Yields (step, differences)."""
        known, touched = set(), set()
        for side in self.sides:
            side.forget()
        for step in scenario.steps:
            if isinstance(step, Wait):
                seen = self.both(lambda side: side.wait(step, known))
                if any(seen):
                    yield step, [{"at": "wait", "kind": "wait", "ironic": seen[0], "ferric": seen[1]}]
                continue
            known |= step.keep.keys()
            touched.add(step.path.split("/")[2].split("?")[0] if step.path.count("/") > 1 else "")
            answers = self.both(lambda side: side.send(step, known))
            place = f"{step.line}:{step.version}"
            found = compare(*answers, [side.names for side in self.sides], place)
            yield step, [*found, *self.lacking(step)]
        if "lookup" in touched or "continue_inspection" in touched:
            touched.add("nodes")
        self.both(lambda side: side.clean(touched))

    def lacking(self, step):
        """What the line was to keep and did not, on a side or on both."""
        for name in step.keep if step.last else ():
            there = [(step.line, name) in side.found for side in self.sides]
            if not all(there):
                yield {"at": f"keep {name}", "kind": "keep", "ironic": there[0], "ferric": there[1]}


def scenarios(only):
    every = []
    for path in sorted((HERE / "requests").glob("*.req")):
        every += read(path.stem, path.read_text())
    for resource, text in sweeps.lists():
        every += read(resource, text)
    if not only:
        return every
    wanted = [one.partition(":") for one in only]
    return [
        one for one in every
        if any(one.resource == name and words in one.title for name, _, words in wanted)
    ]


def main():
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--ferric", default=str(HERE.parents[1] / "target/debug/ferric"))
    words.add_argument("--only", action="append", default=[])
    words.add_argument("--docs", action="store_true")
    words.add_argument("--report", default=str(HERE.parents[1] / "target/differential.json"))
    words.add_argument("--show", action="store_true", help="print differences as they are found")
    given = words.parse_args()
    venv = subprocess.run([HERE / "install.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    wanted = scenarios(given.only)
    expected = Expected(HERE / "expected.json")
    result = report.Report(expected)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ferric-differential-") as folder:
        ironic, ferric = Ironic(Path(folder) / "ironic", venv), Ferric(Path(folder) / "ferric", given.ferric)
        try:
            with ThreadPoolExecutor(2) as pool:
                for one in [pool.submit(peer.start) for peer in (ironic, ferric)]:
                    one.result()
            runner = Runner(ironic, ferric)
            for scenario in wanted:
                for step, found in runner.scenario(scenario):
                    result.add(step, found)
                    if given.show and (left := [one for one in found if "reason" not in one]):
                        print(report.told(step, left), flush=True)
        finally:
            for peer in (ironic, ferric):
                peer.stop()
            if not ferric.log.exists() or "panicked" in ferric.log.read_text(errors="replace"):
                print(f"== ferric's log\n{ferric.tail()}")
    result.seconds = time.monotonic() - began
    result.write(given.report)
    print(result.table())
    faults = result.faults(everything=not given.only)
    if given.docs and not given.only:
        report.write_docs(HERE.parents[1] / "docs/compatibility.md", result)
    elif not given.only:
        faults += report.check_docs(HERE.parents[1] / "docs/compatibility.md", result)
    for fault in faults:
        print(f"FAULT {fault}")
    print(f"{result.seconds:.0f} s; every difference: {given.report}")
    return 1 if faults else 0


if __name__ == "__main__":
    # whoever is told to end stops its servers first
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    try:
        sys.exit(main())
    except Failed as error:
        sys.exit(f"the rig does not work: {error}")
