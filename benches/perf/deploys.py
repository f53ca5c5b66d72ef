"""100 and 500 deployments on fake hardware, all at once, from `enroll` until all are active; Ironic and Ferric, driven by the
same `ferric swarm` over 8 connections. Fake hardware takes no time: what is measured is the server's own work."""

import json

from servers import FERRIC, Ferric, Ironic, cpu_seconds, run, running

SIZES = (100, 500)
LIFE = ("manage", "provide", "deploy")


def swarm(server, nodes):
    """Seconds until all were active, deploying alone, and the server's CPU seconds."""
    report = server.folder / f"swarm-{nodes}.json"
    before = cpu_seconds(server.process.pid)
    run(FERRIC, "swarm", "--endpoint", server.url, "--driver", "fake-hardware", "--nodes", str(nodes), "--concurrency", "8",
        "--phases", ",".join(("enrol", *LIFE)), "--poll", "0.01", "--timeout", "1800", "--report", report)
    said = json.loads(report.read_text())
    seconds = {one["phase"]: one["seconds"] for one in said["phases"]}
    return {
        "seconds": round(sum(seconds[name] for name in LIFE), 3), "deploy": round(seconds["deploy"], 3), "ok": said["ok"],
        "server_cpu": round(cpu_seconds(server.process.pid) - before, 2), "client_cpu": said["client"].get("cpu_seconds"),
    }


def measure(venv):
    """Each size on a server with nothing else in it."""
    found = {}
    for name, make in (("ironic", (Ironic, venv)), ("ferric", (Ferric,))):
        for nodes in SIZES:
            with running(*make) as server:
                found[f"{name}-{nodes}"] = swarm(server, nodes)
    return found


def rows(found):
    """What stands in the table."""
    made = []
    for nodes in SIZES:
        us, them = found[f"ferric-{nodes}"], found[f"ironic-{nodes}"]
        ratio = them["seconds"] / us["seconds"]
        made.append({
            "what": f"{nodes} deploys on fake-hardware, all at once, until all active",
            "target": "≥ 100 ×",
            "measured": f"{us['seconds']:.2f} s ({us['server_cpu'] / nodes * 1e3:.1f} ms of CPU each); Ironic {them['seconds']:.1f} s",
            "ratio": f"{ratio:.0f} ×",
            "met": ratio >= 100 and us["ok"],
        })
    return made
