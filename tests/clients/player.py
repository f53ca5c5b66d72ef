"""Plays scenarios: rows of requests and commands in order, each with what has to hold of its answer.

A row may use $names: `url`; `run`, a word that no other scenario uses, `RUN` in capitals, `mac`, three bytes of it as in
a card's address; `uuid`; `folder`; and what earlier rows kept.
"""

import json
import re
import shlex
import string
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from pattern import ANY, differences

NEWEST = "1.115"
IRONIC, FERRIC = "ironic", "ferric"
# What does not hold within this time does not hold, in seconds.
WITHIN = 40.0
LOOK = 0.1
# A real Ironic on SQLite answers this now and then; its requests are repeated.
STUMBLE = "database is locked"

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Broken(Exception):
    """A row whose answer is not as it has to be: what was asked, expected and got."""


@dataclass(frozen=True)
class Ask:
    """A request. `until`: repeated until status and pattern hold, or `never` does. `on`: a row for one of the two, IRONIC
    or FERRIC, where docs/compatibility.md tells a difference or a real Ironic fails."""

    request: str
    body: object = None
    status: object = 200
    holds: object = ANY
    keep: dict = field(default_factory=dict)
    version: str | None = NEWEST
    until: bool = False
    never: object = None
    on: str = ""
    headers: dict = field(default_factory=dict)
    answers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """`openstack WORDS`, in a child of this process; or the `program` of this name, as a shell runs it. Where an object
    or a list has to come out, `-f json` is added. `fails`: it ends with an error that holds this."""

    words: str
    holds: object = None
    keep: dict = field(default_factory=dict)
    fails: str | None = None
    on: str = ""
    program: str | None = None


@dataclass(frozen=True)
class Write:
    """A file with this JSON; its path becomes a name."""

    name: str
    content: object


Row = Ask | Run | Write


def play(rows: list[Row], url: str, version: str | None = None, peer: bool = False, **more: object) -> str:
    """Plays the rows; "" when all of them hold, else the first that does not, and what came before it."""
    more.setdefault("network", "")
    run = uuid.uuid4().hex[:10]
    names = {
        "url": url,
        "uuid": str(uuid.uuid4()),
        "run": run,
        "RUN": run.upper(),
        "mac": ":".join((run[0:2], run[2:4], run[4:6])),
        **more,
    }
    done = []
    with tempfile.TemporaryDirectory() as folder:
        names["folder"] = folder
        for row in rows:
            if getattr(row, "on", "") == (FERRIC if peer else IRONIC):
                continue
            try:
                if isinstance(row, Ask):
                    _ask(row, names, version)
                elif isinstance(row, Run):
                    _run(row, names)
                else:
                    names[row.name] = f"{folder}/{row.name}.json"
                    Path(names[row.name]).write_text(json.dumps(filled(row.content, names)))
                    continue
            except Broken as why:
                return "\n".join([*(f"  after {one}" for one in done[-3:]), str(why)])
            done.append(filled(row.request if isinstance(row, Ask) else row.words, names))
    return ""


def filled(value: object, names: dict) -> object:
    """The value with its $names replaced, in all its texts."""
    if isinstance(value, str):
        # a text that is one name alone takes that value as it is
        alone = re.fullmatch(r"\$(\w+)", value)
        if alone and alone[1] in names:
            return names[alone[1]]
        return string.Template(value).safe_substitute(names)
    if isinstance(value, dict):
        return {filled(key, names): filled(one, names) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(one, names) for one in value]
    if hasattr(value, "filled"):
        return value.filled(lambda one: filled(one, names))
    return value


def reach(value: object, path: str) -> object:
    """The part of an answer at this dotted path; "" is all of it."""
    for step in filter(None, path.split(".")):
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def _keep(keep: dict, value: object, names: dict, what: str) -> None:
    for name, path in keep.items():
        try:
            names[name] = reach(value, path)
        except (KeyError, IndexError, TypeError) as why:
            raise Broken(f"{what}\n  expected {path}\n  got {value}") from why


def _ask(row: Ask, names: dict, version: str | None) -> None:
    method, _, path = filled(row.request, names).partition(" ")
    body, holds, never = (filled(one, names) for one in (row.body, row.holds, row.never))
    headers = {"Accept": "application/json", **filled(row.headers, names)}
    asked = version if row.version == NEWEST and version else row.version
    if asked:
        headers["X-OpenStack-Ironic-API-Version"] = asked
    what = f"{method} {path} at {asked}" + (f" {json.dumps(body)}" if body is not None else "")
    deadline = time.monotonic() + WITHIN
    while True:
        status, answer, said = request(names["url"] + path, method, headers, body)
        wrong = differences(row.status, status, "status")
        wrong += differences(holds, answer, "body")
        wrong += differences(filled(row.answers, names), said, "headers")
        stopped = never is not None and not differences(row.status, status) and not differences(never, answer)
        if not wrong:
            break
        again = row.until and not stopped or STUMBLE in str(answer)
        if not again or time.monotonic() > deadline:
            text = "\n".join(f"  {one}" for one in wrong)
            raise Broken(f"{what}\n{text}\n  got {status} {json.dumps(answer)[:3000]}")
        time.sleep(LOOK)
    _keep(row.keep, answer, names, what)


def request(url: str, method: str, headers: dict, body: object) -> tuple[int, object, dict]:
    """Status, body (JSON, or the text) and headers (by small names) of an answer."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, headers, method=method)
    if data is not None:
        asked.add_header("Content-Type", "application/json")
    try:
        answer = OPENER.open(asked, timeout=WITHIN)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    with answer:
        text = answer.read().decode(errors="replace")
        said = {name.lower(): value for name, value in answer.headers.items()}
        try:
            return answer.status, json.loads(text) if text else None, said
        except ValueError:
            return answer.status, text, said


def _run(row: Run, names: dict) -> None:
    from shell import openstack, program  # only what runs commands loads the client

    words = [filled(word, names) for word in shlex.split(row.words)]
    words = [json.dumps(word) if isinstance(word, (dict, list)) else str(word) for word in words]
    structured = bool(row.keep) or isinstance(row.holds, (dict, list)) or getattr(row.holds, "structured", False)
    if structured:
        words = ["-f", "json", *words] if row.program == "metalsmith" else [*words, "-f", "json"]
    what = f"{row.program or 'openstack'} {shlex.join(words)}"
    deadline = time.monotonic() + WITHIN
    while True:
        said = (
            program(row.program, names["url"], words, names["network"])
            if row.program
            else openstack(names["url"], words)
        )
        if STUMBLE not in said.err or time.monotonic() > deadline:
            break
    got = f"  got {said.code}\n  {said.out.strip()[:3000]}\n  {said.err.strip()[:3000]}"
    if row.fails is not None:
        fails = filled(row.fails, names)
        if said.code == 0 or fails.lower() not in said.err.lower():
            raise Broken(f"{what}\n  expected an error with {fails!r}\n{got}")
        return
    if said.code != 0:
        raise Broken(f"{what}\n  expected it to go well\n{got}")
    answer = said.out
    if structured:
        try:
            answer = json.loads(said.out)
        except ValueError as why:
            raise Broken(f"{what}\n  expected JSON\n{got}") from why
    if row.holds is not None and (wrong := differences(filled(row.holds, names), answer, "output")):
        text = "\n".join(f"  {one}" for one in wrong)
        raise Broken(f"{what}\n{text}\n{got}")
    _keep(row.keep, answer, names, what)
