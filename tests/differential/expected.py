"""The differences that are meant: expected.json.

A list of objects: `reason`, and what a difference must be to be that one, every key a regular expression over the whole:
`resource`, `request` (METHOD /v1/path-with-$names @1.N), `sent` (the body of the request), `at` (JSON path, `status`, `header
NAME`), `kind`, `ironic` and `ferric` (the two values as JSON; a text without its quotes). `{name}` groups of `ironic` may be
repeated in `ferric` as (?P=name): both are matched as one text. `at`, `ironic` and `ferric` have to be there: what an entry
does not say, it would swallow. An entry that matches nothing is an error.
"""

import json
import re


def shown(value):
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


class Entry:
    def __init__(self, raw):
        self.raw, self.matched, self.reason = raw, 0, raw.get("reason")
        if strange := raw.keys() - {"reason", "resource", "request", "sent", "at", "kind", "ironic", "ferric"}:
            raise ValueError(f"expected.json: unknown keys {strange}: {raw}")
        if lacking := {"reason", "at", "ironic", "ferric"} - raw.keys():
            raise ValueError(f"expected.json: {lacking} not told: {raw}")
        any_of = "[\\s\\S]*"
        self.request = re.compile(raw.get("request", any_of))
        self.resource = re.compile(raw.get("resource", any_of))
        self.at = re.compile(raw.get("at", any_of))
        self.kind = re.compile(raw.get("kind", any_of))
        self.sent = re.compile(raw.get("sent", any_of))
        self.values = re.compile(f"(?:{raw['ironic']})\n\0(?:{raw['ferric']})")

    def fits(self, step, label, one):
        return (
            self.resource.fullmatch(step.resource)
            and self.request.fullmatch(label)
            and self.sent.fullmatch(getattr(step, "body", None) or "")
            and self.at.fullmatch(one["at"])
            and self.kind.fullmatch(one["kind"])
            and self.values.fullmatch(f"{shown(one['ironic'])}\n\0{shown(one['ferric'])}")
        )


class Expected:
    def __init__(self, path):
        self.entries = [Entry(raw) for raw in json.loads(path.read_text())]

    def mark(self, step, label, found):
        """Gives each listed difference its reason."""
        for one in found:
            for entry in self.entries:
                if entry.fits(step, label, one):
                    entry.matched += 1
                    one["reason"] = entry.reason
                    break

    def idle(self):
        return [entry.raw for entry in self.entries if not entry.matched]
