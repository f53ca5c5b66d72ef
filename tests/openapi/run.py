#!/usr/bin/env python3
"""run.py [--ferric BINARY] [--examples N] [--only REGEX]: `ferric serve` with fake hardware and a few things in it, and
schemathesis against its /openapi.json, once with the newest microversion and once with 1.1. Nothing may answer with a
status, a header or a body that the document does not have. The seed is fixed: a run can be repeated. Ends with 1 when
something was found, and says how to send it again."""

import argparse
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,use_after_free,ensure_resource_availability,allow_header_conformance,unsupported_method"
)
CONFIG = """
[checks.not_a_server_error]
# what the document has: not now. 501 is of hardware whose protocol is not there, which none of what is furnished has
expected-statuses = ["2xx", "3xx", "4xx", 503]
[phases.coverage]
unexpected-methods = ["PUT", "POST", "DELETE", "PATCH"]
"""


# Operations (VERSION METHOD PATH) that have no success here, and why; with any other one the run fails.
UNREACHED = {
    # the vendor methods of fake hardware take POST, with an argument that has to be told
    r"\S+ (GET|PUT|PATCH|DELETE) /v1/(nodes/{ident}|drivers/{name})/vendor_passthru(/{method})?",
    r"\S+ POST /v1/(nodes/{ident}/vendor_passthru|drivers/{name}/vendor_passthru(/{method})?)",
    # fake hardware has none
    r"\S+ PUT /v1/nodes/{ident}/management/(inject_nmi|indicators/{indicator})",
    r"\S+ GET /v1/nodes/{ident}/vmedia",
    r"\S+ DELETE /v1/nodes/{ident}/vmedia/{device_types}",
    r"\S+ GET /v1/nodes/{ident}/bios/{setting}",
    # fake hardware has no BMC and no serial line; web/tests/api/health.rs and tests/console.rs have
    r"\S+ (GET|DELETE) /v1/ferric/nodes/{ident}/(console|sensors|sel|fru)",
    r"\S+ PUT /v1/ferric/nodes/{ident}/identify",
    # has to name what was attached to the very node
    r"\S+ DELETE /v1/nodes/{ident}/vifs/{vif}",
    # have to tell what a ramdisk knows: its token, its cards; tests/e2e does
    r"\S+ POST /v1/(continue_inspection|heartbeat/{ident})",
    # hooks.py sees to it that it is refused
    r"\S+ DELETE /v1/inspection_rules",
    # not asked at all: the document itself, and what has no end
    r"\S+ GET /(openapi\.json|v1/ferric/events)",
    # the few verbs of 1.1 are seldom made up for a node that can take them
    r"1\.1 PUT /v1/nodes/{ident}/states/provision",
}
# how many of everything are there to be deleted
DOOMED = 6


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Api:
    def __init__(self, url):
        self.url = url
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, method, path, body=None, version="1.115"):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "X-OpenStack-Ironic-API-Version": version}
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with self.opener.open(request, timeout=30) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def make(self, path, **body):
        status, answer = self.ask("POST", path, body)
        if status != 201:
            sys.exit(f"openapi: POST {path} {body}: {status} {answer}")
        return answer

    def wait(self, node, state, field="provision_state"):
        deadline = time.monotonic() + 30
        while True:
            _, found = self.ask("GET", f"/v1/nodes/{node}")
            if found[field] == state:
                return
            if time.monotonic() > deadline:
                sys.exit(f"openapi: node {node} is {found[field]}, not {state}: {found['last_error']}")
            time.sleep(0.05)

    def verb(self, node, verb, state):
        status, answer = self.ask("PUT", f"/v1/nodes/{node}/states/provision", {"target": verb})
        if status != 202:
            sys.exit(f"openapi: {verb} of {node}: {status} {answer}")
        self.wait(node, state)


def furnish(api):
    """A few of everything; answers the identifiers by collection."""
    chassis = api.make("/v1/chassis", description="a rack")["uuid"]
    nodes = [
        api.make("/v1/nodes", driver="fake-hardware", name=f"node-{number}", resource_class="small", chassis_uuid=chassis)["uuid"]
        for number in range(5)
    ]
    for node in nodes[:2] + nodes[3:4]:
        api.ask("PUT", f"/v1/nodes/{node}/states/power", {"target": "power off"})
        api.wait(node, "power off", "power_state")
    for node in nodes[:2]:
        api.verb(node, "manage", "manageable")
    api.verb(nodes[1], "provide", "available")
    ports = [api.make("/v1/ports", node_uuid=node, address=f"02:00:00:00:00:0{at}")["uuid"] for at, node in enumerate(nodes)]
    # one that was inspected, one whose inspection was taken back and that has a history, one that waits for its ramdisk
    inspected = [
        api.make("/v1/nodes", driver="fake-hardware", inspect_interface="agent", name=f"inspected-{number}")["uuid"]
        for number in range(3)
    ]
    for at, node in enumerate(inspected):
        api.make("/v1/ports", node_uuid=node, address=f"02:00:00:00:01:0{at}")
        api.verb(node, "manage", "manageable")
        api.verb(node, "inspect", "inspect wait")
    found = {"inventory": {"interfaces": [{"name": "eth0", "mac_address": "02:00:00:00:01:00"}], "memory": {"physical_mb": 1024},
                           "cpu": {"count": 1, "architecture": "x86_64"}, "disks": [], "bmc_address": "", "system_vendor": {},
                           "boot": {"current_boot_mode": "bios"}, "hostname": "h"}}
    status, answer = api.ask("POST", f"/v1/continue_inspection?node_uuid={inspected[0]}", found)
    if status != 202:
        sys.exit(f"openapi: continue_inspection: {status} {answer}")
    api.wait(inspected[0], "manageable")
    api.verb(inspected[1], "abort", "inspect failed")
    lines = [line["uuid"] for line in api.ask("GET", f"/v1/nodes/{inspected[1]}/history")[1]["history"]]
    settings = [one["name"] for one in api.ask("GET", f"/v1/nodes/{nodes[0]}/bios")[1]["bios"]]
    methods = list(api.ask("GET", f"/v1/nodes/{nodes[0]}/vendor_passthru/methods")[1])
    driver_methods = list(api.ask("GET", "/v1/drivers/fake-hardware/vendor_passthru/methods")[1])
    lights = [one["name"] for one in api.ask("GET", f"/v1/nodes/{nodes[0]}/management/indicators")[1]["indicators"]]
    step = {"interface": "deploy", "step": "erase_devices_metadata", "args": {}}
    rule = {"op": "set-attribute", "args": {"path": "/extra/a", "value": 1}}
    volume = {"node_uuid": nodes[3]}
    allocations = [api.make("/v1/allocations", resource_class=name, name=name)["uuid"] for name in ("small", "none-such")]
    deadline = time.monotonic() + 30
    while (allocated := api.ask("GET", f"/v1/allocations/{allocations[0]}")[1])["state"] != "active":
        if time.monotonic() > deadline:
            sys.exit(f"openapi: the allocation stays {allocated}")
        time.sleep(0.05)
    # some of each to be deleted
    unused = [api.make("/v1/nodes", driver="fake-hardware", name=f"unused-{at}")["uuid"] for at in range(DOOMED)]
    def doomed(collection, fields):
        return [api.make(f"/v1/{collection}", **fields(at))["uuid"] for at in range(DOOMED)]
    return {
        "doomed:nodes": unused,
        "doomed:ports": doomed("ports", lambda at: {"node_uuid": nodes[4], "address": f"02:00:00:00:02:0{at}"}),
        "doomed:chassis": doomed("chassis", lambda at: {}),
        "doomed:portgroups": doomed("portgroups", lambda at: {"node_uuid": nodes[4], "name": f"unused-{at}"}),
        "doomed:deploy_templates": doomed("deploy_templates", lambda at: {"name": f"CUSTOM_D{at}", "steps": [step | {"priority": 10}]}),
        "doomed:runbooks": doomed("runbooks", lambda at: {"name": f"CUSTOM_E{at}", "steps": [step | {"order": 1}]}),
        "doomed:inspection_rules": doomed("inspection_rules", lambda at: {"actions": [rule]}),
        "doomed:allocations": doomed("allocations", lambda at: {"resource_class": "none-such", "name": f"unused-{at}"}),
        "doomed:volume/connectors": doomed(
            "volume/connectors", lambda at: volume | {"type": "iqn", "connector_id": f"iqn.2026-11.x:unused-{at}"}),
        "doomed:volume/targets": doomed(
            "volume/targets", lambda at: volume | {"volume_type": "iscsi", "volume_id": f"unused-{at}", "boot_index": at + 1}),
        "/v1/nodes/{ident}/inventory:ident": inspected[:1],
        "/v1/nodes/{ident}/history/{line}:ident": inspected[1:2],
        "/v1/nodes/{ident}/allocation:ident": [allocated["node_uuid"]],
        "nodes": nodes + inspected[:2],
        "ports": ports,
        "chassis": [chassis],
        "drivers": ["fake-hardware"],
        "drivers:method": driver_methods,
        "conductors": [one["hostname"] for one in api.ask("GET", "/v1/conductors")[1]["conductors"]],
        "heartbeat": nodes,
        "waiting": inspected[2],
        "deploy_templates": [api.make("/v1/deploy_templates", name="CUSTOM_A", steps=[step | {"priority": 10}])["uuid"]],
        "runbooks": [api.make("/v1/runbooks", name="CUSTOM_B", steps=[step | {"order": 1}])["uuid"]],
        "inspection_rules": [api.make("/v1/inspection_rules", actions=[rule])["uuid"]],
        "portgroups": [api.make("/v1/portgroups", node_uuid=nodes[0], name="bond")["uuid"]],
        "volume/connectors": [api.make("/v1/volume/connectors", type="iqn", connector_id="iqn.2026-11.x:a", **volume)["uuid"]],
        "volume/targets": [api.make("/v1/volume/targets", volume_type="iscsi", volume_id="v", boot_index=0, **volume)["uuid"]],
        "allocations": allocations,
        "nodes:trait": ["CUSTOM_GOLD"],
        "nodes:line": lines,
        "nodes:setting": settings,
        "nodes:method": methods,
        "nodes:indicator": lights,
        "nodes:vif": ["vif-1"],
        "runbooks:trait": ["CUSTOM_GOLD"],
    }


def fuzz(schemathesis, url, version, folder, objects, options):
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    report = folder / f"report-{version}.ndjson"
    command = [
        schemathesis, "--config-file", config, "run", f"{url}/openapi.json?microversion={version}",
        "--url", url, "-H", f"X-OpenStack-Ironic-API-Version: {version}", "--checks", CHECKS,
        "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(options.examples),
        "--seed", "20261122", "--generation-deterministic",
        "--suppress-health-check", "all", "--request-timeout", "30", "--no-color", "--warnings", "off",
        "--continue-on-failure", "--workers", "2", "--report-ndjson-path", report,
        # without an end, and tried by web/tests/api/events.rs
        "--exclude-path", "/v1/ferric/events",
    ]
    if options.only:
        command += ["--include-path-regex", options.only]
    began = time.monotonic()
    env = os.environ | {"FERRIC_OBJECTS": json.dumps(objects), "SCHEMATHESIS_HOOKS": str(HERE / "hooks.py")}
    done = subprocess.run(command, env=env, cwd=folder, text=True, capture_output=True)
    text = done.stdout + done.stderr
    cases = re.search(r"(\d+) generated", text)
    start = min((text.find(mark) for mark in ("= ERRORS =", "= FAILURES =") if mark in text), default=len(text) - 1500)
    print(text[max(start, 0):])
    print(f"openapi {version}: {'ok' if done.returncode == 0 else 'FAILED'}, {cases.group(1) if cases else '?'} requests in {time.monotonic() - began:.0f} s")
    unreached = [] if options.only else reach(version, json.loads(urllib.request.urlopen(f"{url}/openapi.json?microversion={version}").read()), report)
    return done.returncode == 0 and not unreached


def reach(version, document, report):
    """Tells how many operations had success at least once, of the others only the refusals were tried; answers those that
    had none without being in UNREACHED."""
    can = lambda operation: any(status < "300" for status in operation["responses"])
    seen = {
        f"{method.upper()} {path}": False
        for path, item in document["paths"].items() for method, operation in item.items() if can(operation)
    }
    for line in open(report):
        recorder = (json.loads(line).get("ScenarioFinished") or {}).get("recorder") or {}
        for case, interaction in (recorder.get("interactions") or {}).items():
            asked = recorder["cases"].get(case, {}).get("value", {})
            name = f"{asked.get('method')} {asked.get('path_template') or asked.get('path')}"
            if name in seen and 200 <= (interaction.get("response") or {}).get("status_code", 0) < 300:
                seen[name] = True
    never = sorted(name for name, good in seen.items() if not good)
    print(f"openapi {version}: {len(seen) - len(never)} of {len(seen)} operations had success; only refused:", ", ".join(never))
    unreached = [name for name in never if not any(re.fullmatch(one, f"{version} {name}") for one in UNREACHED)]
    if unreached:
        print(f"openapi {version}: FAILED, not in UNREACHED:", ", ".join(unreached))
    return unreached


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ferric", default=HERE.parents[1] / "target/debug/ferric")
    parser.add_argument("--examples", type=int, default=12)
    parser.add_argument("--only")
    parser.add_argument("--version", action="append")
    options = parser.parse_args()
    tools = subprocess.run([HERE / "install.sh"], text=True, stdout=subprocess.PIPE, check=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="ferric-openapi-") as name:
        folder = pathlib.Path(name)
        good = True
        for version in options.version or ["1.115", "1.1"]:
            port = free_port()
            url = f"http://127.0.0.1:{port}"
            log = open(folder / f"log-{version}", "w")
            server = subprocess.Popen(
                [options.ferric, "serve", "--data-dir", folder / f"data-{version}", "--set", f"api.port={port}",
                 "--set", "hardware.enabled_hardware_types=fake-hardware", "--set", "agent.require_tls=false"],
                stdout=log, stderr=log,
            )
            try:
                api = Api(url)
                deadline = time.monotonic() + 30
                while True:
                    try:
                        api.ask("GET", "/readyz")
                        break
                    except OSError:
                        if time.monotonic() > deadline or server.poll() is not None:
                            sys.exit("openapi: ferric does not come up:\n" + (folder / f"log-{version}").read_text()[-3000:])
                        time.sleep(0.05)
                good = fuzz(f"{tools}/bin/schemathesis", url, version, folder, furnish(api), options) and good
                if server.poll() is not None:
                    print(f"openapi {version}: ferric ended with {server.returncode}")
                    good = False
            finally:
                server.terminate()
                server.wait()
                log.close()
            panics = [line for line in (folder / f"log-{version}").read_text().splitlines() if "panicked" in line]
            if panics:
                print(f"openapi {version}: panics in ferric's log:", *panics[:10], sep="\n  ")
                good = False
        sys.exit(0 if good else 1)


if __name__ == "__main__":
    # whoever is told to end stops its server first
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    main()
