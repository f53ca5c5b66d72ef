"""Every `openstack baremetal …` subcommand once, against an endpoint.

commands.py URL [--peer] [--only TEXT]     `--peer`: a real Ironic, one scenario after the other
"""

import argparse
import importlib.metadata
import sys
import time

import shell
from crew import carry_out
from player import Ask, Run, play
from table import FERRIC_ONLY, SCENARIOS

CREW = 4


def subcommands() -> set[str]:
    """What the installed client can do."""
    found = importlib.metadata.entry_points(group="openstack.baremetal.v1")
    return {one.name.replace("_", " ") for one in found}


def subcommand(words: str, known: set[str]) -> str | None:
    """The subcommand that these words run."""
    parts = words.split()
    return next((name for at in range(len(parts), 0, -1) if (name := " ".join(parts[:at])) in known), None)


def uncovered() -> list[str]:
    """Subcommands that no row runs to a good end with something that has to hold, of its output or of the row after."""
    known, covered = subcommands(), set()
    for rows in SCENARIOS.values():
        for row, after in zip(rows, [*rows[1:], None]):
            proven = isinstance(row, Run) and (
                row.holds is not None or row.fails or (after is not None and after.holds is not None)
            )
            if proven and (name := subcommand(row.words, known)):
                covered.add(name)
    return sorted(known - covered)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    began = time.monotonic()
    shell.warm(asked.url)
    chosen = {
        name: rows
        for name, rows in SCENARIOS.items()
        if asked.only in name and not (asked.peer and name == FERRIC_ONLY)
    }
    work = [(name, lambda rows=rows: play(rows, asked.url, peer=asked.peer)) for name, rows in chosen.items()]
    broken = {name: said for name, said in carry_out(1 if asked.peer else CREW, work).items() if said}
    for name, said in broken.items():
        print(f"FAILED {name}\n{said}\n")
    missing = uncovered()
    for name in missing:
        print(f"NOT COVERED openstack {name}")
    commands = sum(isinstance(row, Run) for rows in chosen.values() for row in rows)
    requests = sum(isinstance(row, Ask) for rows in chosen.values() for row in rows)
    took = time.monotonic() - began
    print(
        f"commands: {len(subcommands()) - len(missing)} of {len(subcommands())} subcommands, {commands} commands and {requests} requests in {len(chosen)} scenarios, {len(broken)} broken, in {took:.0f} s"
    )
    return 1 if broken or missing else 0


if __name__ == "__main__":
    sys.exit(main())
