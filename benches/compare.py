#!/usr/bin/env python3
"""compare.py [--save]   what `cargo bench` just measured beside the baseline that was saved on this machine.

Reads criterion's estimates (target/criterion) and the figures that benches without criterion leave in
target/bench/NAME.json ({"name": seconds}); prints name, now, baseline and their ratio: below 1 is faster than it was. The
baseline is target/bench/baseline.json: times of another machine say nothing about this one. The first run saves it, and so
does --save (`make bench SAVE=1`). --since SECONDS leaves out what was measured before that moment.
"""

import argparse
import json
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "target"
KEPT = TARGET / "bench" / "baseline.json"
# what differs by less says nothing
NOISE = 0.10


def measured(since):
    """Seconds by name: criterion's mean, and what the others wrote."""
    found = {}
    for estimates in TARGET.glob("criterion/**/new/estimates.json"):
        about = estimates.with_name("benchmark.json")
        if about.exists() and estimates.stat().st_mtime >= since:
            found[json.loads(about.read_text())["full_id"]] = json.loads(estimates.read_text())["mean"]["point_estimate"] / 1e9
    for file in (TARGET / "bench").glob("*.json"):
        if file != KEPT and file.stat().st_mtime >= since:
            found.update(json.loads(file.read_text()))
    return found


def human(seconds):
    for unit, least in [("s", 1), ("ms", 1e-3), ("µs", 1e-6)]:
        if seconds >= least:
            return f"{seconds / least:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="make this the baseline")
    parser.add_argument("--since", type=float, default=0.0, help="seconds since 1970")
    options = parser.parse_args()
    now = measured(options.since)
    if not now:
        parser.exit(1, "nothing was measured: run cargo bench first\n")
    baseline = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    wide = max(map(len, now))
    print(f"{'':{wide}}  {'now':>9}  {'baseline':>9}  ratio")
    for name in sorted(now):
        before = baseline.get(name)
        if before is None:
            print(f"{name:{wide}}  {human(now[name]):>9}  {'-':>9}  new")
            continue
        ratio = now[name] / before
        verdict = "" if abs(ratio - 1) <= NOISE else "  slower" if ratio > 1 else "  faster"
        print(f"{name:{wide}}  {human(now[name]):>9}  {human(before):>9}  {ratio:.2f}{verdict}")
    # a bench that is new gets its baseline by its first run
    saved = now if options.save else {name: seconds for name, seconds in now.items() if name not in baseline}
    if saved:
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        KEPT.write_text(json.dumps({**baseline, **saved}, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        print(f"baseline of {len(saved)} saved in {KEPT.relative_to(TARGET.parent)}")


if __name__ == "__main__":
    main()
