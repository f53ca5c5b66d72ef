"""The request lists: text, a request a line.

    == title [@1.N]                    a scenario; what it made is gone before the next one; 1.N instead of the newest
    METHOD PATH [@N,M-O,none] [+Header=value]… [JSON | raw:text] [-> name[=json.path] …]
    wait PATH key=value|other …        until the resource is so on both sides, and not locked; a side that does not get
                                       there fails the run
    # a comment                        lines that begin with spaces go on with the one before

`@36,37` sends the request twice, as 1.36 and as 1.37; `@none` sends no version. `-> n` keeps the answer's uuid for `$n` in
what follows, `-> n=a.b` another value of it; a side that keeps nothing in any of the versions fails the run. `%mac`, `%uuid`, `%name` are a new address, UUID or name, `%mac1` (any number)
the same one within the scenario. Paths are below /v1 unless they begin with `//`.
"""

import json
import re
from dataclasses import dataclass, field

NEWEST = "1.115"


@dataclass
class Request:
    """One line, for one version."""

    resource: str
    scenario: str
    line: int
    method: str
    path: str
    version: str | None
    headers: dict = field(default_factory=dict)
    body: str | None = None
    keep: dict = field(default_factory=dict)
    # of the line's versions
    last: bool = True

    @property
    def label(self):
        version = f"@{self.version}" if self.version else "@none"
        return f"{self.method} {self.path} {version}"


@dataclass
class Wait:
    resource: str
    scenario: str
    line: int
    path: str
    wanted: dict


@dataclass
class Scenario:
    resource: str
    title: str
    steps: list


class Bad(Exception):
    """A list that cannot be read."""


def versions(text, default):
    """`36,38-40,none` as what is sent."""
    if text is None:
        return [default]
    out = []
    for part in text.split(","):
        if part == "none":
            out.append(None)
        elif found := re.fullmatch(r"(\d+)-(\d+)", part):
            out += [f"1.{minor}" for minor in range(int(found[1]), int(found[2]) + 1)]
        elif re.fullmatch(r"\d+", part):
            out.append(f"1.{part}")
        else:
            out.append(part)
    return out


def joined(text):
    """The lines, with their numbers, continuations put back."""
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(" ") and lines:
            lines[-1] = (lines[-1][0], f"{lines[-1][1]} {line.strip()}")
        elif line.strip() and not line.startswith("#"):
            lines.append((number, line.rstrip()))
    return lines


def read(resource, text):
    """The scenarios of one list."""
    scenarios, scenario, default, made = [], None, NEWEST, {}
    for number, line in joined(text):
        try:
            if line.startswith("== "):
                found = re.fullmatch(r"== (.*?)(?: @(\S+))?", line)
                scenario = Scenario(resource, found[1], [])
                default = versions(found[2], NEWEST)[0]
                made = {}
                scenarios.append(scenario)
                continue
            if scenario is None:
                raise ValueError("a line before the first scenario")
            line = fill(line, made)
            if line.startswith("wait "):
                _, path, *wanted = line.split()
                wanted = dict(one.replace("\\x20", " ").split("=", 1) for one in wanted)
                scenario.steps.append(Wait(resource, scenario.title, number, path, wanted))
                continue
            for version, keep, method, path, headers, body, last in requests(line, default):
                scenario.steps.append(
                    Request(resource, scenario.title, number, method, path, version, headers, body, keep, last)
                )
        except (ValueError, IndexError, TypeError) as error:
            raise Bad(f"{resource} line {number}: {line!r}: {error}") from error
    return scenarios


COUNTER = [0]


def fill(line, made):
    """New addresses, UUIDs and names, the same ones for both sides."""

    def new(found):
        kind, key = found[1], found[0]
        if found[2] and key in made:
            return made[key]
        COUNTER[0] += 1
        count = COUNTER[0]
        value = {
            "mac": f"52:54:00:{count >> 16 & 255:02x}:{count >> 8 & 255:02x}:{count & 255:02x}",
            "uuid": f"{count:08x}-aaaa-4bbb-8ccc-{count:012x}",
            "name": f"name-{count}",
            "custom": f"CUSTOM_T{count}",
        }[kind]
        made[key] = value
        return value

    return re.sub(r"%(mac|uuid|name|custom)(\d*)", new, line)


def requests(line, default):
    keep = {}
    if found := re.fullmatch(r"(.*?) -> ((?:\w+(?:=\S+)? ?)+)", line):
        line = found[1]
        for one in found[2].split():
            name, _, path = one.partition("=")
            keep[name] = path or "uuid"
    method, path, *rest = line.split(None, 2)
    rest = rest[0] if rest else ""
    if path.startswith("//"):
        path = path[1:]
    else:
        path = f"/v1{path}"
    wanted, headers = None, {}
    while found := re.match(r"@(\S+)\s*|\+([\w-]+)=(\S*)\s*", rest):
        if found[1]:
            wanted = found[1]
        else:
            headers[found[2]] = found[3].replace("_", " ")
        rest = rest[found.end():]
    body = rest.strip() or None
    if body and body.startswith("raw:"):
        body = body[4:]
    elif body:
        json.loads(re.sub(r"(?<![\w\"])\$\w+(?!\w*\")", "0", body))
    if method not in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        raise ValueError(f"method {method}")
    sent = versions(wanted, default)
    for at, version in enumerate(sent):
        yield version, keep, method, path, headers, body, at + 1 == len(sent)
