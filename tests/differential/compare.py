"""What differs between two answers, after what has to differ is taken out: ids, times, ports, request ids."""

import json
import re

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?")
# of Python: where an object lies in memory
OBJECT = re.compile(r"object at 0x[0-9a-f]+")
HOST = re.compile(r"127\.0\.0\.1:\d+")
HEADERS = [
    "content-type", "location", "www-authenticate", "x-openstack-ironic-api-version",
    "x-openstack-ironic-api-minimum-version", "x-openstack-ironic-api-maximum-version",
]
# where both have it: which methods, in whatever order
ALLOW = "allow"
# there, whatever their value
PRESENT = ["x-openstack-request-id", "openstack-request-id"]


SETS = {f"enabled_{kind}_interfaces" for kind in (
    "bios", "boot", "console", "deploy", "firmware", "inspect", "management", "network", "power", "raid", "rescue",
    "storage", "vendor",
)}


class Names:
    """The ids of one side. One that the client did not choose is named after the place where it was seen first, or
    after what the list calls it."""

    def __init__(self):
        self.known = {}

    def name(self, uuid, place):
        return self.known.setdefault(uuid, f"<{place}>")


def normal(value, names, place):
    """`value` with its ids, times and ports replaced."""
    if isinstance(value, dict):
        out = {text(key, names, place): normal(inner, names, f"{place}/{key}") for key, inner in value.items()}
        # Ironic keeps these as sets: their order is chance
        for key in out.keys() & SETS:
            out[key] = sorted(out[key]) if isinstance(out[key], list) else out[key]
        return out
    if isinstance(value, list):
        return [normal(inner, names, f"{place}/{at}") for at, inner in enumerate(value)]
    if isinstance(value, str):
        return text(value, names, place)
    return value


def text(value, names, place):
    # the form of a time stays: whether it has a T, parts of a second, a zone
    value = TIME.sub(lambda found: re.sub(r"\d", "0", found[0]), value)
    value = HOST.sub("<host>", value)
    value = OBJECT.sub("object", value)
    if re.match(r"https?://<host>/\S*\?", value):
        path, _, query = value.partition("?")
        value = f"{path}?{'&'.join(sorted(query.split('&')))}"
    return UUID.sub(lambda found: names.name(found[0], place), value)


def opened(body):
    """An error's body with the JSON inside its text taken out."""
    if isinstance(body, dict) and set(body) == {"error_message"} and isinstance(body["error_message"], str):
        try:
            return {"error_message": json.loads(body["error_message"])}
        except ValueError:
            pass
    return body


def kind(value):
    if value is None:
        return "null"
    return {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}[
        type(value)
    ]


def differences(ironic, ferric, path="$"):
    """(path, kind, Ironic's, Ferric's), kind being `missing`, `extra`, `type`, `length` (all of the shape) or `value`."""
    if kind(ironic) != kind(ferric):
        yield path, "type", ironic, ferric
    elif isinstance(ironic, dict):
        for key in ironic.keys() | ferric.keys():
            at = f"{path}.{key}"
            if key not in ferric:
                yield at, "missing", ironic[key], None
            elif key not in ironic:
                yield at, "extra", None, ferric[key]
            else:
                yield from differences(ironic[key], ferric[key], at)
    elif isinstance(ironic, list):
        if len(ironic) != len(ferric):
            yield path, "length", ironic, ferric
        else:
            for at, (one, other) in enumerate(zip(ironic, ferric)):
                yield from differences(one, other, f"{path}[{at}]")
    elif ironic != ferric:
        yield path, "value", ironic, ferric


def core(words):
    """A text without what says nothing: runs of blanks, the full stop at its end."""
    return " ".join(words.split()).rstrip(" .")


def same_words(ironic, ferric):
    """Ferric begins with what Ironic says, and may go on with what to do. An Ironic that says nothing proves nothing."""
    one, other = core(ironic), core(ferric)
    return bool(one) and re.match(rf"{re.escape(one)}(?!\w)", other) is not None


ERROR_TEXT = re.compile(r"\$\.(error_message\.(faultstring|description)|faultstring|error_message)$")


def compare(ironic, ferric, names, place):
    """All differences of two answers, as dicts. `names` are the two sides' Names."""
    out = []

    def add(at, what, one, other):
        out.append({"at": at, "kind": what, "ironic": one, "ferric": other})

    if ironic.status != ferric.status:
        add("status", "status", ironic.status, ferric.status)
    bodies = [normal(opened(one.body), names[at], place) for at, one in enumerate((ironic, ferric))]
    if ironic.status == ferric.status or ironic.status // 100 == ferric.status // 100:
        for at, what, one, other in differences(*bodies):
            if what == "value" and ironic.status >= 400 and ERROR_TEXT.match(at):
                if same_words(one, other):
                    continue
                what = "words"
            add(at, what, one, other)
    else:
        # two different outcomes: one difference, with what each side said
        out[-1].update(ironic_body=bodies[0], ferric_body=bodies[1])
    sides = []
    for at, one in enumerate((ironic, ferric)):
        lower = {key.lower(): value for key, value in one.headers.items()}
        kept = {name: text(lower[name], names[at], place) for name in HEADERS if name in lower}
        kept.update({name: "present" for name in PRESENT if name in lower})
        if "content-type" in kept:
            kept["content-type"] = kept["content-type"].split(";")[0].strip()
        if ALLOW in lower:
            kept[ALLOW] = ", ".join(sorted(method.strip() for method in lower[ALLOW].split(",")))
        sides.append(kept)
    if not all(ALLOW in kept for kept in sides):
        for kept in sides:
            kept.pop(ALLOW, None)
    if ironic.status // 100 == ferric.status // 100:
        for name in sorted(sides[0].keys() | sides[1].keys()):
            one, other = sides[0].get(name), sides[1].get(name)
            if one != other:
                add(f"header {name}", "header", one, other)
    return out


SHAPE = {"missing", "extra", "type", "length"}


def verdict(found):
    """Which of status, shape, body, headers are equal with these differences."""
    kinds = {one["kind"] for one in found}
    status = "status" not in kinds
    shape = status and not kinds & SHAPE
    body = shape and not kinds & {"value", "words"}
    return {"status": status, "shape": shape, "body": body, "headers": status and "header" not in kinds}
