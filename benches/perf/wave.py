"""10,000 simulated deployments: every BMC over IPMI, every agent over its protocol, simulator and Ferric in one process."""

import os
import re
import signal
import subprocess
import tempfile
import threading
import time

from servers import FERRIC, cpu_seconds, end, free_port, free_udp_port, rss_mib

NODES = int(os.environ.get("FERRIC_PERF_NODES", "10000"))
MINUTES = 10
# growth from one third of the wave to the next that still counts as flat
FLAT = 1.10


def measure():
    """`ferric demo --once` as an operator would start it, and its memory over time."""
    seen = []
    with tempfile.TemporaryFile("w+") as log:
        command = [FERRIC, "demo", "--nodes", str(NODES), "--once", "--listen", f"127.0.0.1:{free_port()}"]
        command += ["--set", f"sim.bmc_port={free_udp_port()}"]
        demo = subprocess.Popen([str(one) for one in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        began = time.monotonic()

        def watch():
            while demo.poll() is None:
                try:
                    seen.append((time.monotonic() - began, rss_mib(demo.pid), cpu_seconds(demo.pid)))
                except (OSError, IndexError):
                    return
                time.sleep(1)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            demo.wait(MINUTES * 60 * 2)
        except subprocess.TimeoutExpired:
            # what it did until now is told all the same
            pass
        finally:
            code = end(demo, signal.SIGINT)
            watching.join()
        log.seek(0)
        said = log.read()
    told = re.search(r"(\d+) of (\d+) machines active", said)
    done, wanted = map(int, told.groups()) if told else (0, NODES)
    phases = dict(re.findall(r"^\s+(enrolled|available|active|running)\s+([\d.]+) s", said, re.M))
    third = len(seen) // 3
    middle, last = (max(one[1] for one in part) for part in (seen[third : 2 * third], seen[2 * third :]))
    return {
        "code": code, "active": done, "of": wanted, "phases": {name: float(text) for name, text in phases.items()},
        "rss_middle_mib": round(middle), "rss_last_mib": round(last), "cpu_s": round(seen[-1][2], 1),
        "rss_mib": [round(one[1]) for one in seen[:: max(1, len(seen) // 60)]], "tail": said[-600:],
    }


def rows(found):
    """What stands in the table."""
    wave = found["phases"].get("active", 0.0)
    growth = found["rss_last_mib"] / max(found["rss_middle_mib"], 1)
    return [{
        "what": f"{found['of']:,} simulated deploys (IPMI, agent protocol)",
        "target": f"all active in ≤ {MINUTES} min, none failed, flat memory",
        "measured": f"{found['active']:,} active in {wave:.0f} s ({found['active'] / max(wave, 1):.0f}/s, {found['cpu_s'] / max(found['active'], 1) * 1e3:.0f} ms "
        f"of CPU each, simulator included); enrolled in {found['phases'].get('enrolled', 0)} s, available in {found['phases'].get('available', 0)} s; "
        f"memory {found['rss_middle_mib']} → {found['rss_last_mib']} MiB from the second third to the last, simulator included",
        "ratio": f"{wave / (MINUTES * 60):.0%} of the time allowed",
        "met": found["code"] == 0 and found["active"] == found["of"] and wave <= MINUTES * 60 and growth <= FLAT,
    }]
