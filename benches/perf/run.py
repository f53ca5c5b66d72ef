#!/usr/bin/env python3
"""run.py [--rows NAME[,NAME…]] [--docs]   the table of docs/performance.md, measured on this machine in one run.

Each part measures Ferric and its peers in turns and gives rows: what, target, measured, ratio, met. The results are kept in
target/measured/results.json; with --docs they become docs/generated/performance.json and the table in docs/performance.md,
where rows that were not measured again stay as they were. Parts:
"""

import argparse
import datetime
import importlib
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
# name, what it says in --help
PARTS = {
    "api": "single nodes, detailed lists, creating and changing (Ironic, a bare handler)",
    "deploys": "100 and 500 deployments on fake hardware (Ironic)",
    "fleet": "10,000 nodes: start, power sweep over IPMI, idle",
    "wave": "10,000 simulated deployments over IPMI and the agent protocol",
    "events": "commit to client on the stream of events",
    "boot": "TFTP and HTTP boot servers (dnsmasq, nginx)",
}
NEEDS_IRONIC = {"api", "deploys"}
KEPT = ROOT / "docs" / "generated" / "performance.json"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def machine():
    """What it was measured on."""
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024 // 1024
    return f"{os.cpu_count()} cores ({cpu}), {memory} GiB, Linux {platform.release()}"


def commit():
    """What was measured; "-dirty" where tracked files differ from it, those that this script writes aside."""
    said = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    own = [f":(exclude){path.relative_to(ROOT)}" for path in (KEPT, PAGE)]
    changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no", "--", ".", *own], cwd=ROOT, capture_output=True, text=True)
    return (said.stdout.strip() or "?") + ("-dirty" if changed.stdout.strip() else "")


def measure(name, venv):
    """One part's rows."""
    part = importlib.import_module(name)
    found = part.measure(venv) if name in NEEDS_IRONIC else part.measure()
    return found, part.rows(found)


def table(kept):
    """The table as Markdown, in the order of the parts."""
    lines = ["| What | Target | Measured | Ratio | |", "|---|---|---|---|---|"]
    for name in PARTS:
        for row in kept.get(name, {}).get("rows", []):
            verdict = "met" if row["met"] else "**missed**"
            lines.append(f"| {row['what']} | {row['target']} | {row['measured']} | {row['ratio']} | {verdict} |")
    lines.append("")
    for name in PARTS:
        if name in kept:
            one = kept[name]
            lines.append(f"- `make perf ROWS={name}`: {PARTS[name]}. Measured {one['when']} at {one['commit']} in {one['seconds']} s.")
    machines = sorted({one["machine"] for one in kept.values()})
    lines.append(f"\nMeasured on {'; '.join(machines)}: servers, clients, simulator and peers share it.")
    return "\n".join(lines)


def publish(kept):
    """The page with this table."""
    KEPT.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    text = PAGE.read_text()
    head, rest = text.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    PAGE.write_text(f"{head}{BEGIN}\n{table(kept)}\n{END}{tail}")


def main():
    parts = "\n".join(f"  {name:8} {what}" for name, what in PARTS.items())
    parser = argparse.ArgumentParser(description=__doc__ + parts, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(PARTS), help="parts to measure, by comma")
    parser.add_argument("--docs", action="store_true", help="renew docs/performance.md")
    options = parser.parse_args()
    wanted = options.rows.split(",")
    strangers = [name for name in wanted if name not in PARTS]
    if strangers:
        parser.error(f"there is no part '{strangers[0]}'; there are {', '.join(PARTS)}")
    venv = None
    if NEEDS_IRONIC & set(wanted):
        said = subprocess.run([ROOT / "tests/differential/install.sh"], check=True, capture_output=True, text=True)
        venv = said.stdout.strip().splitlines()[-1]
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    failed = []
    for name in (name for name in PARTS if name in wanted):
        print(f"== {name}: {PARTS[name]}", flush=True)
        began = time.monotonic()
        try:
            found, rows = measure(name, venv)
        except Exception:  # the other rows are worth having
            traceback.print_exc()
            failed.append(name)
            continue
        kept[name] = {
            "when": datetime.date.today().isoformat(), "commit": commit(), "machine": machine(),
            "seconds": round(time.monotonic() - began), "rows": rows, "found": found,
        }
        for row in rows:
            print(f"   {'met   ' if row['met'] else 'MISSED'}  {row['what']}: {row['measured']} ({row['ratio']})", flush=True)
        out = ROOT / "target" / "measured" / "results.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
        if options.docs:
            publish(kept)
    if failed:
        sys.exit(f"no figures of: {', '.join(failed)}")


if __name__ == "__main__":
    main()
