"""People of a Keystone that serve.py runs.

people.py URL make          projects one, two and service; for each of them and for the system a user of every role,
                            named like one-reader or system-admin; ferric, whom Ferric logs in as. Passwords: secret.
people.py URL endpoint      puts the Keystone into its own catalogue, where a real Ironic looks for it
people.py URL login NAME…   logs these in (unscoped: one-reader without a scope), prints {name: {token, user, project}}
"""
import json
import sys
import urllib.error
import urllib.request

URL = sys.argv[1].rstrip("/") + "/v3"
ROLES = ("reader", "member", "manager", "admin", "service")
PROJECTS = ("one", "two", "service")
SYSTEM = {"system": {"all": True}}


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
    headers, answer = call("POST", "/auth/tokens?nocatalog", {"auth": auth})
    token = answer["token"]
    return {"token": headers["X-Subject-Token"], "user": token["user"]["id"],
            "project": token.get("project", {}).get("id")}


def in_project(name):
    return {"project": {"name": name, "domain": {"id": "default"}}}


def scope(name):
    """What the token of somebody with this name is for."""
    if name == "ferric":
        return in_project("service")
    place = name.split("-")[0]
    return SYSTEM if place == "system" else in_project(place)


def make():
    root = login("admin", SYSTEM)["token"]
    roles = {role["name"]: role["id"] for role in call("GET", "/roles", token=root)[1]["roles"]}
    for role in ROLES:
        if role not in roles:
            roles[role] = call("POST", "/roles", {"role": {"name": role}}, root)[1]["role"]["id"]

    def made(kind, **body):
        return call("POST", f"/{kind}s", {kind: body | {"domain_id": "default"}}, root)[1][kind]["id"]

    projects = {name: made("project", name=name) for name in PROJECTS}

    def grant(who, role, project=None):
        where = f"/projects/{projects[project]}" if project else "/system"
        call("PUT", f"{where}/users/{who}/roles/{roles[role]}", token=root)

    for place in (None, *PROJECTS):
        for role in ROLES:
            grant(made("user", name=f"{place or 'system'}-{role}", password="secret"), role, place)
    # Keystone shows tokens to who has the role service; project-service is whom a real Ironic logs in as
    grant(made("user", name="ferric", password="secret"), "service", "service")
    grant(made("user", name="project-service", password="x"), "service", "service")


def endpoint():
    root = login("admin", SYSTEM)["token"]
    services = call("GET", "/services?type=identity", token=root)[1]["services"]
    service = services[0] if services else call("POST", "/services", {"service": {"type": "identity"}}, root)[1]["service"]
    for interface in ("internal", "public", "admin"):
        call("POST", "/endpoints", {"endpoint": {"interface": interface, "url": URL, "service_id": service["id"]}}, root)


if sys.argv[2] == "make":
    make()
elif sys.argv[2] == "endpoint":
    endpoint()
else:
    people = {name: login("one-reader") if name == "unscoped" else login(name, scope(name)) for name in sys.argv[3:]}
    print(json.dumps(people, indent=1))
