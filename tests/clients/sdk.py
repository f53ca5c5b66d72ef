"""openstacksdk's own functional tests for bare metal, unchanged, against an endpoint.

    sdk.py URL           every test that sdk_passes.txt names has to pass; exit 1 and the traces when one does not
    sdk.py URL --write   writes sdk_passes.txt: what passes there, on a real Ironic

The SDK's source distribution and its wheel hold the same tests (openstack/tests/functional/baremetal). Most of their
time is the SDK's own two-second poll, so they run side by side, each in a child of its own.
"""

import argparse
import copy
import json
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path

from crew import carry_out

LIST = Path(__file__).with_name("sdk_passes.txt")
SUITE = "openstack.tests.functional.baremetal"
# Modules of tests at a time: they wait most of the time. The tests of a module see each other's objects, so they run in
# turn. A real Ironic on SQLite loses requests that come side by side ("database is locked"): one, and again if it fails.
CREW, PATIENCE = 12, 3
# The clouds that the tests ask for by name; without authentication they are one.
CLOUDS = ("devstack", "devstack-alt", "devstack-admin", "devstack-system-admin")
ABSENT = ("compute", "image", "identity", "network", "object_store", "block_storage", "volume")


def configure(url: str, folder: Path) -> None:
    """Writes the clouds.yaml without authentication and points the SDK to it; before the SDK is loaded."""
    lines = ["clouds:"]
    for cloud in CLOUDS:
        lines += [f"  {cloud}:", "    auth_type: none", f"    auth: {{endpoint: '{url}'}}"]
        lines += [f"    baremetal_endpoint_override: '{url}'"]
        lines += [f"    has_{service}: false" for service in ABSENT]
    path = folder / "clouds.yaml"
    path.write_text("\n".join(lines) + "\n")
    for name in [name for name in os.environ if name.startswith("OS_")]:
        del os.environ[name]
    os.environ.update(
        OS_CLIENT_CONFIG_FILE=str(path),
        OS_TEST_TIMEOUT="120",
        OPENSTACKSDK_FUNC_TEST_TIMEOUT="60",
        OS_LOG_CAPTURE="1",
        NO_PROXY="*",
        no_proxy="*",
    )


def tests(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    """The single tests of a suite of suites."""
    found = []
    for one in suite:
        found += tests(one) if isinstance(one, unittest.TestSuite) else [one]
    return found


def run(test: unittest.TestCase) -> str:
    """ "" when it passed; else what happened."""
    result = unittest.TestResult()
    test.run(result)
    for what in ("errors", "failures", "unexpectedSuccesses"):
        for one in getattr(result, what):
            return f"{what}: {one[1] if isinstance(one, tuple) else one}"
    if result.skipped:
        return f"skipped: {result.skipped[0][1]}"
    return "" if result.testsRun == 1 else "did not run"


def run_all(found: dict[str, unittest.TestCase], peer: bool) -> dict[str, str]:
    """Runs them side by side, or for a real Ironic one after the other; answers what `run` said of each."""
    modules: dict[str, list[str]] = {}
    for name in found:
        modules.setdefault(".".join(name.split(".")[:-2]), []).append(name)

    def in_turn(names: list[str]) -> str:
        return json.dumps({name: patiently(found[name], PATIENCE if peer else 1) for name in names})

    work = [(name, lambda names=names: in_turn(names)) for name, names in modules.items()]
    outcome = {}
    for name, said in carry_out(1 if peer else CREW, work).items():
        try:
            outcome |= json.loads(said)
        except ValueError:
            outcome |= dict.fromkeys(modules[name], said)
    return outcome


def patiently(test: unittest.TestCase, attempts: int) -> str:
    """`run` until it says nothing, at most so often."""
    said = ""
    for _ in range(attempts):
        if not (said := run(copy.deepcopy(test))):
            break
    return said


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", help="tests whose name holds this")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        configure(asked.url, Path(folder))
        import openstack.tests.functional.baremetal as package  # loaded here, once, for all children

        place = os.path.dirname(package.__file__)
        root = place.removesuffix(SUITE.replace(".", "/"))
        found = {
            test.id().removeprefix(SUITE + "."): test
            for test in tests(unittest.TestLoader().discover(place, top_level_dir=root))
        }
        found = {name: test for name, test in sorted(found.items()) if asked.only in name}
        began = time.monotonic()
        outcome = run_all(found, asked.write)
        took = time.monotonic() - began
    passed = [name for name, said in outcome.items() if not said]
    if asked.write:
        head = "# made by `sdk.py URL --write` against a real Ironic 39.0.0: the tests of openstacksdk 4.22.0 that pass there\n"
        LIST.write_text(head + "".join(f"{name}\n" for name in passed))
    required = [line for line in LIST.read_text().splitlines() if not line.startswith("#") and asked.only in line]
    broken = [name for name in required if name not in passed]
    for name, said in outcome.items():
        if said and (asked.write or name in broken):
            print(f"== {name}\n{said}\n")
    for name in broken:
        print(f"FAILED {name}" + ("" if name in outcome else " (the SDK has no such test)"))
    print(
        f"sdk: {len(passed)} of {len(found)} tests pass, {len(required) - len(broken)} of the {len(required)} that have to, in {took:.0f} s"
    )
    return 1 if broken or not required else 0


if __name__ == "__main__":
    sys.exit(main())
