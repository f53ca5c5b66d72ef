"""A tool, which no test runs: it wants a real Ironic on a real Keystone. The same callers ask that Ironic and Ferric the same
things, against the same Keystone; statuses are compared. tests/keystone/main.rs holds Ferric alone against the rules.

    dir=$(tests/keystone/install.sh); cp -r $dir/template k         a Keystone with people in it
    $dir/venv/bin/python tests/keystone/serve.py k 15000            `people.py URL endpoint` puts it into its catalogue
    $(tests/differential/install.sh)/bin/ironic                     an Ironic: tests/differential/ironic.conf, with
                                    auth_strategy = keystone and [keystone_authtoken] for that Keystone (user ferric)
    ferric serve --config …         with auth.strategy = "keystone" and [keystone_authtoken], as docs/OPERATING.md says

compare.py KEYSTONE IRONIC FERRIC     base URLs; Ironic runs with auth_strategy=keystone and fake-hardware

Prints every difference and the share of equal statuses; ends with 1 when there is one that EXPECTED does not name.
"""
import json
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from pathlib import Path

KEYSTONE, IRONIC, FERRIC = (url.rstrip("/") for url in sys.argv[1:4])
ROLES = ("reader", "member", "manager", "admin", "service")
CALLERS = [f"{place}-{role}" for place in ("system", "one", "two", "service") for role in ROLES] + ["unscoped"]
people = json.loads(subprocess.check_output([sys.executable, str(Path(__file__).with_name("people.py")), KEYSTONE,
                                             "login", *CALLERS]))
ONE, TWO = people["one-reader"]["project"], people["two-reader"]["project"]
SIDES = {"ironic": IRONIC, "ferric": FERRIC}


def ask(base, method, path, body=None, token=None, version="1.115"):
    request = urllib.request.Request(base + path, method=method, data=None if body is None else json.dumps(body).encode(),
                                     headers={"Content-Type": "application/json", "X-OpenStack-Ironic-API-Version": version})
    if token:
        request.add_header("X-Auth-Token", token)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None, dict(answer.headers)
    except urllib.error.HTTPError as error:
        text = error.read()
        try:
            body = json.loads(text)
        except ValueError:
            body = text.decode(errors="replace")
        return error.code, body, dict(error.headers)


ADMIN = people["system-admin"]["token"]
mark = uuid.uuid4().hex[:8]
NODES = {"one": (ONE, None), "lent": (TWO, ONE), "two": (TWO, None), "none": (None, None), "lentnone": (None, ONE)}
names = {key: f"rbac-{key}-{mark}" for key in NODES}
macs = iter(range(0x100))
things = {}
for side, base in SIDES.items():
    made = things[side] = {}
    for key, (owner, lessee) in NODES.items():
        status, node, _ = ask(base, "POST", "/v1/nodes", {"driver": "fake-hardware", "name": names[key], "owner": owner,
                              "lessee": lessee, "driver_info": {"a": "b"}, "resource_class": "rbac"}, ADMIN)
        assert status == 201, (side, key, node)
        made[key] = node["uuid"]
        mac = f"52:54:01:{mark[:2]}:{mark[2:4]}:{next(macs):02x}"
        status, port, _ = ask(base, "POST", "/v1/ports", {"node_uuid": node["uuid"], "address": mac}, ADMIN)
        assert status == 201, (side, port)
        made["port-" + key] = port["uuid"]
    for kind, body in (("deploy_templates", {"name": f"CUSTOM_T{mark.upper()}", "steps": [
            {"interface": "bios", "step": "x", "args": {}, "priority": 1}]}),
            ("runbooks", {"name": f"CUSTOM_R{mark.upper()}", "owner": ONE, "steps": [
                {"interface": "bios", "step": "x", "args": {}, "order": 1}]}),
            ("runbooks", {"name": f"CUSTOM_P{mark.upper()}", "public": True, "steps": [
                {"interface": "bios", "step": "x", "args": {}, "order": 1}]}),
            ("chassis", {})):
        status, made_one, _ = ask(base, "POST", f"/v1/{kind}", body, ADMIN)
        assert status == 201, (side, kind, made_one)
        made[kind + ("-public" if body.get("public") else "")] = made_one["uuid"]


def replace(path, value):
    return [{"op": "replace", "path": path, "value": value}]


requests = [("GET", path, None) for path in (
    "/v1/nodes", "/v1/nodes/detail", "/v1/ports", "/v1/portgroups", "/v1/chassis", "/v1/chassis/{chassis}", "/v1/drivers",
    "/v1/drivers/fake-hardware", "/v1/drivers/fake-hardware/properties", "/v1/conductors", "/v1/allocations",
    "/v1/deploy_templates", "/v1/deploy_templates/{deploy_templates}", "/v1/runbooks", "/v1/runbooks/{runbooks}",
    "/v1/runbooks/{runbooks-public}", "/v1/inspection_rules", "/v1/shards", "/v1/volume/connectors", "/v1/volume/targets",
    "/v1/runbooks/{runbooks}/traits", "/v1/nodes?project=" + ONE, "/v1/nodes/nowhere", "/v1/ports/" + str(uuid.uuid4()))]
requests += [("POST", "/v1/nodes", {"driver": "nothing"}), ("POST", "/v1/nodes", {"driver": "nothing", "owner": TWO}),
             ("POST", "/v1/chassis", {"strange": 1}), ("PATCH", "/v1/chassis/{chassis}", replace("/description", "d")),
             ("POST", "/v1/allocations", {"resource_class": "nowhere-" + mark}),
             ("POST", "/v1/allocations", {"resource_class": "nowhere-" + mark, "owner": TWO}),
             ("PATCH", "/v1/deploy_templates/{deploy_templates}", replace("/extra", {})),
             ("PATCH", "/v1/runbooks/{runbooks}", replace("/extra", {})),
             ("PATCH", "/v1/runbooks/{runbooks}", replace("/public", False)),
             ("PATCH", "/v1/runbooks/{runbooks}", replace("/owner", ONE)),
             ("PUT", "/v1/runbooks/{runbooks}/traits", {"traits": ["CUSTOM_A"]}),
             ("POST", "/v1/events", {"events": []})]
for key in NODES:
    node = f"/v1/nodes/{{{key}}}"
    requests += [("GET", node + tail, None) for tail in (
        "", "/states", "/ports", "/portgroups", "/traits", "/bios", "/firmware", "/vifs", "/history", "/inventory", "/children",
        "/management/boot_device", "/management/boot_device/supported", "/management/indicators", "/validate",
        "/volume/connectors", "/states/console", "/allocation")]
    requests += [("PATCH", node, replace(path, value)) for path, value in (
        ("/extra", {}), ("/description", "d"), ("/driver_info", {"a": "b"}), ("/properties", {}), ("/instance_info", {}),
        ("/power_interface", "fake"), ("/name", names[key]), ("/shard", "s"), ("/conductor_group", ""), ("/retired", False),
        ("/automated_clean", False), ("/automated_clean", True), ("/disable_power_off", False),
        ("/owner", NODES[key][0]), ("/lessee", NODES[key][1]))]
    requests += [("PUT", node + "/traits", {"traits": ["CUSTOM_A"]}), ("DELETE", node + "/traits", None),
                 ("PUT", node + "/maintenance", {"reason": "r"}), ("DELETE", node + "/maintenance", None),
                 # refused for what they ask by whoever may ask
                 ("PUT", node + "/states/power", {"target": "nonsense"}),
                 ("PUT", node + "/states/provision", {"target": "nonsense"}),
                 ("PUT", node + "/management/boot_device", {"boot_device": "pxe"}),
                 ("PUT", node + "/management/inject_nmi", {}), ("PUT", node + "/states/console", {"enabled": "nonsense"}),
                 ("POST", node + "/vifs", {"id": ""}), ("DELETE", node + "/vifs/none", None),
                 ("GET", f"/v1/ports/{{port-{key}}}", None), ("PATCH", f"/v1/ports/{{port-{key}}}", replace("/extra", {})),
                 ("POST", "/v1/ports", {"node_uuid": f"{{{key}}}", "address": "nonsense"}),
                 ("GET", f"/v1/ports?node={{{key}}}", None)]

# Differences that stay: (method, path, Ironic's status, Ferric's) as far as it matters, and why.
EXPECTED = [
    ((None, None, 500, 403), "a token of the wrong scope is an unhandled error in Ironic, and refused here"),
    (("POST", "/v1/chassis", 400, 403), "who may make none is told so, whatever the body is"),
    (("POST", "/v1/ports", 400, 403), "who may make none is told so, whatever the body is"),
    (("DELETE", "/vifs/none", 204, 400), "no question of rights"),
]


def expected(method, path, one, other):
    return any((m in (None, method)) and (p is None or p in path) and (one, other) == (a, b)
               for (m, p, a, b), _ in EXPECTED)


same = total = 0
differences = {}
shapes = 0
for method, path, body in requests:
    for caller in CALLERS:
        found = {}
        for side, base in SIDES.items():
            at, sent = path, json.dumps(body)
            for name, value in things[side].items():
                at, sent = at.replace(f"{{{name}}}", value), sent.replace(f'"{{{name}}}"', f'"{value}"')
            found[side] = ask(base, method, at, json.loads(sent), people[caller]["token"])
        total += 1
        one, other = found["ironic"], found["ferric"]
        if one[0] == other[0]:
            same += 1
            if caller != "unscoped" and one[0] == 200 and method == "GET" and isinstance(one[1], dict):
                shapes += 1
                seen = []
                for _, answer, _ in (one, other):
                    if path.split("?")[0] in ("/v1/nodes", "/v1/nodes/detail"):
                        seen.append(sorted(n["name"] for n in answer["nodes"] if (n.get("name") or "").endswith(mark)))
                    else:
                        seen.append({key: answer.get(key) for key in ("driver_info", "last_error", "reservation")
                                     if "edacted" in str(answer.get(key))} | {
                            "internal": "edacted" in str(answer.get("driver_internal_info"))})
                if seen[0] != seen[1]:
                    differences.setdefault((method, path, "shows", str(seen[0])[:160], str(seen[1])[:160]), []).append(caller)
        else:
            text = [str(answer[1])[:140] for answer in (one, other)]
            differences.setdefault((method, path, one[0], other[0], *text), []).append(caller)
unexpected = 0
for (method, path, *what), callers in sorted(differences.items(), key=str):
    known = expected(method, path, *what[:2])
    unexpected += not known
    if not known or "-v" in sys.argv:
        print(method, path, *what, "|", ",".join(callers))
for base in SIDES.values():
    for key in NODES:
        ask(base, "DELETE", f"/v1/nodes/{names[key]}", token=ADMIN)
known = sum(len(callers) for what, callers in differences.items() if expected(*what[:4]))
print(f"{same} of {total} statuses are equal, {known} differ as expected; what {shapes} answers show was compared too")
sys.exit(1 if unexpected else 0)
