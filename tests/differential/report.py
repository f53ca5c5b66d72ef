"""The figures of a run, and their place in the documentation."""

import json
from collections import defaultdict
from pathlib import Path

from compare import verdict
from expected import shown
from language import Wait

BEGIN, END = "<!-- generated: differential -->", "<!-- end: differential -->"
WHAT = ("status", "shape", "body", "headers")
# shares outside the listed differences
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
        lines = [
            "| Resource | Requests | Status | Shape | Body | Headers | with listed differences |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for name, row in [*sorted(self.rows.items()), ("**all**", self.all)]:
            shares = " | ".join(share(row.outside[what], row.requests) for what in WHAT)
            lines.append(f"| {name} | {row.requests} | {shares} | {row.listed} |")
        return "\n".join(lines)

    def text(self):
        """What stands in the documentation."""
        raw = ", ".join(f"{what} {share(self.all.equal[what], self.all.requests)}" for what in WHAT)
        listed = [f"- {reason} ({count})" for reason, count in sorted(self.listed.items())]
        return "\n".join([
            f"{self.all.requests} requests, asked of Ironic 39.0.0 and of Ferric side by side. The shares are of requests "
            "that are answered the same outside the differences listed below.",
            "", self.table(), "", f"With the listed differences counted as different: {raw}.", "",
            "Listed differences, and how many requests show each:", "", *listed,
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
    if found is None or found[1].strip() != result.text().strip():
        return [f"the figures in {path.name} are out of date: run tests/differential/run.py --docs"]
    return []
