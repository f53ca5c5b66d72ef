"""The figures of a run, and their place in the documentation."""

import json
import re
from collections import defaultdict
from pathlib import Path

from compare import verdict
from expected import shown
from language import Wait

BEGIN, END = "<!-- generated: differential -->", "<!-- end: differential -->"
WHAT = ("status", "shape", "body", "headers")
# shares outside the listed differences: what issue 4 asks for, and of the headers
TARGETS = {"status": 1.0, "shape": 0.99, "body": 0.98, "headers": 0.98}


def label(step):
    return f"wait {step.path}" if isinstance(step, Wait) else step.label


def told(step, found):
    lines = [f"-- {step.resource}:{step.line} [{step.scenario}] {label(step)} {getattr(step, 'body', None) or ''}"[:400]]
    for one in found:
        lines.append(f"   {one['at']} ({one['kind']})")
        for side in ("ironic", "ferric"):
            body = one.get(f"{side}_body")
            lines.append(f"      {side}: {shown(one[side])[:700]} {shown(body)[:400] if body else ''}")
    return "\n".join(lines)


class Row:
    def __init__(self):
        self.requests = self.listed = 0
        self.equal, self.outside = defaultdict(int), defaultdict(int)

    def add(self, found, counted):
        self.requests += counted
        left = [one for one in found if "reason" not in one]
        self.listed += len(left) < len(found)
        for what, holds in verdict(found).items():
            self.equal[what] += holds and counted
        for what, holds in verdict(left).items():
            self.outside[what] += holds and counted


class Report:
    def __init__(self, expected):
        self.expected, self.rows, self.all = expected, defaultdict(Row), Row()
        self.different, self.unexpected, self.seconds = [], 0, 0.0
        self.listed = defaultdict(int)

    def add(self, step, found):
        self.expected.mark(step, label(step), found)
        counted = not isinstance(step, Wait)
        for row in (self.rows[step.resource], self.all):
            row.add(found, counted)
        for reason in {one["reason"] for one in found if "reason" in one}:
            self.listed[reason] += 1
        if found:
            self.unexpected += any("reason" not in one for one in found)
            self.different.append({
                "resource": step.resource, "scenario": step.scenario, "line": step.line, "request": label(step),
                "sent": getattr(step, "body", None), "differences": found,
            })

    def write(self, path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figures = {name: {"requests": row.requests, "equal": row.equal, "equal_outside_listed": row.outside}
                   for name, row in [*sorted(self.rows.items()), ("all", self.all)]}
        whole = {"figures": figures, "unexpected": self.unexpected, "seconds": round(self.seconds),
                 "differences": self.different}
        Path(path).write_text(json.dumps(whole, indent=1, default=str))

    def table(self):
        names = [what.capitalize() for what in WHAT]
        lines = [
            f"| Resource | Requests | {' | '.join(names)} | {' | '.join(f'{name} *' for name in names)} | listed |",
            f"|---|{'---:|' * (2 + 2 * len(WHAT))}",
        ]
        for name, row in [*sorted(self.rows.items()), ("**all**", self.all)]:
            raw, outside = (" | ".join(share(of[what], row.requests) for what in WHAT) for of in (row.equal, row.outside))
            lines.append(f"| {name} | {row.requests} | {raw} | {outside} | {row.listed} |")
        return "\n".join(lines)

    def text(self):
        """What stands in the documentation."""
        listed = [f"- {reason} ({count})" for reason, count in sorted(self.listed.items())]
        return "\n".join([
            f"{self.all.requests} requests, asked of Ironic 39.0.0 and of Ferric side by side, and the shares of them that are "
            "answered the same. The columns with a star leave out the differences listed below; the last column tells how many "
            "requests show one.",
            "", self.table(), "", "Listed differences, and how many requests show each:", "", *listed,
        ])

    def faults(self, everything):
        out = []
        if self.unexpected:
            out.append(f"{self.unexpected} requests with differences that are not listed")
        for what, target in TARGETS.items():
            if self.all.requests and self.all.outside[what] / self.all.requests < target:
                out.append(f"{what}: {share(self.all.outside[what], self.all.requests)} is below {target:.0%}")
        if everything:
            out += [f"expected.json: matches nothing: {json.dumps(raw)}" for raw in self.expected.idle()]
        return out


def share(part, whole):
    """Never rounded up to 100 %."""
    return f"{int(1000 * part / whole) / 10:g} %" if whole else "-"


def parts(path):
    text = path.read_text()
    if BEGIN not in text or END not in text:
        return None
    before, rest = text.split(BEGIN, 1)
    inside, after = rest.split(END, 1)
    return before, inside, after


def write_docs(path, result):
    before, _, after = parts(path) or (f"{path.read_text()}\n## The same requests to both\n\n", "", "\n")
    path.write_text(f"{before}{BEGIN}\n{result.text()}\n{END}{after}")


def check_docs(path, result):
    found = parts(path)
    if found is None:
        return [f"{path.name} has no place for the figures: {BEGIN} … {END}"]
    was, now = (dict(counts(text)) for text in (found[1], result.text()))
    out = [
        f"{path.name}: {name}: {was.get(name, 'not there')} -> {now.get(name, 'gone')}"
        for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)
    ]
    if out:
        out.append("what changed stands above: a count that grew is a regression until it is explained; "
                   "once it is, `run.py --docs` writes the figures down")
    elif found[1].strip() != result.text().strip():
        out.append(f"{path.name}: the words around the figures changed: `run.py --docs` writes them down")
    return out


def counts(text):
    """The figures of a text by name: rows of the table, and reasons."""
    for line in text.splitlines():
        if found := re.fullmatch(r"- (.*) \((\d+)\)", line):
            yield found[1], found[2]
        elif found := re.fullmatch(r"\| ([\w*]+) \| (\d.*) \|", line):
            yield f"figures of {found[1]}", found[2]
