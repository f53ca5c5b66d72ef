"""Rows of the API: single nodes, detailed lists, creating and changing nodes; Ferric and Ironic in turns."""

import json
import os
import re
from pathlib import Path

from servers import Bare, Ferric, Ironic, ask, node, peers, run, running

HERE = Path(__file__).resolve().parent
NODES = 1000
# turns of a few seconds each, so that a neighbour on the machine disturbs all alike
TURNS, SECONDS = 3, 5


def wrk(url, connections, seconds, script=None, **environment):
    """Answers per second that were successes, and the latencies at 50 and 99 percent in ms."""
    command = ["wrk", f"-t{min(2, connections)}", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s"]
    command += ["-s", HERE / script] if script else ["-H", "X-OpenStack-Ironic-API-Version: 1.82"]
    said = run(*command, url, env=dict(os.environ, **environment))
    number = lambda pattern: float((re.search(pattern, said) or [0, 0])[1])
    done, took = re.search(r"(\d+) requests in ([\d.]+)s", said).groups()
    bad = number(r"Non-2xx or 3xx responses: (\d+)")

    def latency(share):
        value, unit = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", said).groups()
        return round(float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit], 3)

    return {"per_s": round((int(done) - bad) / float(took), 1), "refused": int(bad), "p50_ms": latency(50), "p99_ms": latency(99)}


def median_of(turns):
    """The turn in the middle."""
    return sorted(turns, key=lambda one: one["per_s"])[len(turns) // 2]


def fill(server):
    """Nodes until there are NODES; their ids."""
    have = ids(server)
    for index in range(NODES - len(have)):
        try:
            have.append(ask(server, "POST", "/v1/nodes", node(index, "fill"))["uuid"])
        except peers.Failed:
            # Ironic on SQLite: "database is locked", now and then
            if not server.stumbles:
                raise
    return have


def ids(server):
    return [one["uuid"] for one in ask(server, "GET", f"/v1/nodes?fields=uuid&limit={NODES}")["nodes"]]


def lists(server, seconds):
    """Milliseconds of a detailed list of a thousand over one connection, warm; the middle one."""
    path = f"/v1/nodes/detail?limit={NODES}"
    answer = server.ask("GET", path, {"X-OpenStack-Ironic-API-Version": "1.82"})
    if answer.status != 200 or len(answer.body["nodes"]) != NODES:
        raise peers.Failed(f"{server.name}: a list of {NODES} gave {answer.status}")
    return {**wrk(server.url + path, 1, seconds), "bytes": len(answer.raw)}


def writes(server, folder, seconds):
    """Nodes created and changed per second over 8 connections."""
    made = wrk(f"{server.url}/v1/nodes", 8, seconds, "writes.lua", FERRIC_PERF_DO="create")
    listed = folder / "ids"
    listed.write_text("\n".join(ids(server)))
    changed = wrk(f"{server.url}/v1/nodes", 8, seconds, "writes.lua", FERRIC_PERF_DO="patch", FERRIC_PERF_IDS=str(listed))
    return made, changed


def one(server, uuid, seconds):
    return wrk(f"{server.url}/v1/nodes/{uuid}", 16, seconds)


def measure(venv):
    """Three rows."""
    found = {}
    with running(Ironic, venv) as ironic:
        created, patched = writes(ironic, ironic.folder, 20)
        fill(ironic)
        uuid = ids(ironic)[NODES // 2]
        found["ironic"] = {"create": created, "patch": patched, "one": one(ironic, uuid, 10), "detail": lists(ironic, 10)}
    with running(Ferric) as ferric:
        created, patched = writes(ferric, ferric.folder, SECONDS)
    with running(Ferric) as ferric:
        fill(ferric)
        uuid = ids(ferric)[NODES // 2]
        body = ferric.ask("GET", f"/v1/nodes/{uuid}", {"X-OpenStack-Ironic-API-Version": "1.82"}).raw
        with running(Bare, body) as bare:
            turns = [(one(ferric, uuid, SECONDS), one(bare, uuid, SECONDS)) for _ in range(TURNS)]
        found["bare"] = median_of([turn[1] for turn in turns])
        found["ferric"] = {
            "create": created, "patch": patched, "one": median_of([turn[0] for turn in turns]), "detail": lists(ferric, SECONDS),
        }
    return found


def rows(found):
    """What stands in the table."""
    us, them, bare = found["ferric"], found["ironic"], found["bare"]
    over = lambda key: us[key]["per_s"] / max(them[key]["per_s"], 0.1)
    share = us["one"]["per_s"] / bare["per_s"]
    slow = them["detail"]["p50_ms"] / us["detail"]["p50_ms"]
    return [
        {
            "what": "single node GET, 16 connections (wrk)",
            "target": "≥ 100 × Ironic, and ≥ 60 % of a bare actix handler with the same bytes",
            "measured": f"{us['one']['per_s']:,.0f}/s (p50 {us['one']['p50_ms']} ms, p99 {us['one']['p99_ms']} ms); Ironic "
            f"{them['one']['per_s']:,.0f}/s; bare {bare['per_s']:,.0f}/s",
            "ratio": f"{over('one'):.0f} ×; {share:.0%} of bare",
            "met": over("one") >= 100 and share >= 0.6,
        },
        {
            "what": "`GET /v1/nodes/detail?limit=1000`",
            "target": "≥ 50 ×",
            "measured": f"{us['detail']['p50_ms']} ms ({us['detail']['bytes']:,} bytes); Ironic {them['detail']['p50_ms']} ms",
            "ratio": f"{slow:.0f} ×",
            "met": slow >= 50,
        },
        {
            "what": "create and PATCH nodes, 8 connections, durable",
            "target": "≥ 50 ×",
            "measured": f"create {us['create']['per_s']:,.0f}/s, PATCH {us['patch']['per_s']:,.0f}/s; Ironic {them['create']['per_s']:,.0f}/s "
            f"({them['create']['refused']} refused), {them['patch']['per_s']:,.0f}/s ({them['patch']['refused']} refused)",
            "ratio": f"create {over('create'):.0f} ×, PATCH {over('patch'):.0f} ×",
            "met": min(over("create"), over("patch")) >= 50,
        },
    ]


if __name__ == "__main__":
    print(json.dumps(measure(run(HERE.parents[1] / "tests/differential/install.sh").strip().splitlines()[-1]), indent=1))
