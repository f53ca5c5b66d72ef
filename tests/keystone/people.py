"""People of a Keystone that serve.py runs: people.py URL prints {name: {token, user, project}} as JSON.

Projects one, two and service; for each project and for the system a user of every role, named like one-reader or
system-admin; ferric, whom Ferric logs in as (password secret, service and admin in the project service); somebody
without any role, whose token has no scope.
"""
import json
import sys
import urllib.error
import urllib.request

URL = sys.argv[1].rstrip("/") + "/v3"
ROLES = ("reader", "member", "manager", "admin", "service")


def call(method, path, body=None, token=None):
    request = urllib.request.Request(URL + path, method=method, data=json.dumps(body).encode() if body else None,
                                     headers={"Content-Type": "application/json"})
    if token:
        request.add_header("X-Auth-Token", token)
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
        return answer.headers, json.loads(text) if text else {}


def login(user, scope=None):
    auth = {"identity": {"methods": ["password"],
                         "password": {"user": {"name": user, "domain": {"id": "default"}, "password": "secret"}}}}
    if scope:
        auth["scope"] = scope
    headers, _ = call("POST", "/auth/tokens", {"auth": auth})
    return headers["X-Subject-Token"]


def in_project(name):
    return {"project": {"name": name, "domain": {"id": "default"}}}


SYSTEM = {"system": {"all": True}}
root = login("admin", SYSTEM)
roles = {role["name"]: role["id"] for role in call("GET", "/roles", token=root)[1]["roles"]}
for role in ROLES:
    if role not in roles:
        roles[role] = call("POST", "/roles", {"role": {"name": role}}, root)[1]["role"]["id"]


def existing(kind, name):
    found = call("GET", f"/{kind}s?name={name}", token=root)[1][f"{kind}s"]
    return found[0]["id"] if found else None


def made(kind, body):
    return existing(kind, body["name"]) or call("POST", f"/{kind}s", {kind: body}, root)[1][kind]["id"]


def user(name):
    return made("user", {"name": name, "password": "secret", "domain_id": "default"})


projects = {name: made("project", {"name": name, "domain_id": "default"}) for name in ("one", "two", "service")}
people = {}


def grant(who, role, project=None):
    where = f"/projects/{projects[project]}" if project else "/system"
    call("PUT", f"{where}/users/{who}/roles/{roles[role]}", token=root)


for place in (None, *projects):
    for role in ROLES:
        name = f"{place or 'system'}-{role}"
        who = user(name)
        grant(who, role, place)
        token = login(name, in_project(place) if place else SYSTEM)
        people[name] = {"token": token, "user": who, "project": projects.get(place)}

ferric = user("ferric")
grant(ferric, "service", "service")
grant(ferric, "admin", "service")
people["ferric"] = {"token": login("ferric", in_project("service")), "user": ferric, "project": projects["service"]}
people["unscoped"] = {"token": login("one-reader"), "user": people["one-reader"]["user"], "project": None}
print(json.dumps(people, indent=1))
