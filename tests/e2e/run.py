#!/usr/bin/env python3
"""A machine goes from powered off to its own booted image, on real packets.

    run.py SCENARIO [--ferric BINARY] [--keep]

Scenarios:
    rig-bios, rig-uefi   no Ferric: BMC, power and the image itself (is the rig at fault, or Ferric?)
    bios-ipxe      BIOS, network boot by the ROM's iPXE; qcow2 image; config drive from a folder
    bios-pxelinux  BIOS, plain PXE to Debian's lpxelinux.0; gzip-compressed raw image; config drive from JSON; by the
                   classic driver agent_ipmitool
    uefi           UEFI, OVMF's own PXE to iPXE's snponly.efi; raw image; config drive from JSON
    kill           BIOS; kill -9 of Ferric while the ramdisk boots, and while the image is written: it goes on
    faults         wrong password, silent BMC, unknown driver, unknown MAC, port in use: what is said, and what is kept
    iscsi-bios     pxe_ipmitool on BIOS: Ferric writes a qcow2 image by iSCSI, onto the disk that Ferric's ramdisk exports
    iscsi-uefi     pxe_ipmitool on UEFI by shim and GRUB: a raw image, with a bash ramdisk of the Kilo era
    iscsi-netboot  pxe_ipmitool on BIOS: a partition image that boots over the network, with the bash ramdisk
    iscsi-kill     as iscsi-bios; kill -9 of Ferric in the middle of the write: it goes on, and writes little twice
    life-bios, life-uefi   the whole life: inspection, cleaning of a used disk, a partition image, service, rescue with
                   a login on the serial console, back to the instance, undeploy with cleaning
    ipa-bios, ipa-uefi   the same road with an unmodified ironic-python-agent instead of Ferric's agent
    console        the serial console by IPMI, over TCP with socat and over the WebSocket, shows the machine start
    build          only installs and builds what the scenarios need (the unmodified agent's ramdisk apart)

Prints what happened when. Exit code 0 when every promise was kept; else says which was not, with the ends of
the logs. --keep leaves the folder of the run.
"""

import argparse
import sys
import time
from pathlib import Path

from console import console
from faults import faults
from ferric import ramdisk
from life import Life
from road import Road, Scenario
from watch import Timeline, watch_machine
from world import HERE, Failed, Machine, World, cached, enter, inside, limit, run, tail, until

# seconds that a scenario may take, and a life; the tests' own limits (.config/nextest.toml) are 480 and 720, and end them
# without a word
RUN, LIFE = 440, 680

SCENARIOS = {
    "bios-ipxe": Scenario("bios", "ipxe", "user.qcow2", "folder"),
    "bios-pxelinux": Scenario("bios", "pxe", "user.raw.gz", "json", driver="agent_ipmitool"),
    "uefi": Scenario("uefi", "ipxe", "user.raw", "json"),
    "iscsi-bios": Scenario("bios", "pxe", "user.qcow2", "folder", driver="pxe_ipmitool"),
    "iscsi-uefi": Scenario("uefi", "pxe", "user.raw", "json", driver="pxe_ipmitool", agent="bash"),
    "iscsi-netboot": Scenario("bios", "pxe", "partition.qcow2", "json", images="image/partition.sh", driver="pxe_ipmitool",
                              agent="bash", netboot=True),
    "iscsi-kill": Scenario("bios", "pxe", "user.raw", "folder", payload_mb=192, driver="pxe_ipmitool"),
    "kill": Scenario("bios", "ipxe", "user.raw", "folder", payload_mb=192),
    "life-bios": Scenario("bios", "ipxe", "partition.qcow2", "json", images="image/partition.sh", cleans=True),
    "life-uefi": Scenario("uefi", "ipxe", "partition.raw.gz", "json", images="image/partition.sh", cleans=True),
    "ipa-bios": Scenario("bios", "ipxe", "user.qcow2", "folder", agent="ipa"),
    "ipa-uefi": Scenario("uefi", "ipxe", "user.raw", "json", agent="ipa"),
}


def build(name: str, binary: Path) -> dict[str, str]:
    """Installs and builds what a scenario needs, outside of any namespace; quick when it is all in the cache."""
    venv = cached("install.sh")
    scenario = SCENARIOS.get(name, Scenario("bios", "ipxe", "user.raw", "json"))
    parts = {"venv": str(venv), "images": str(cached(scenario.images, *([str(scenario.payload_mb)] if scenario.images == "image/build.sh" else [])))}
    if scenario.agent == "ipa":
        parts["ramdisk"] = str(cached("ipa/build.sh"))
    elif scenario.agent == "bash":
        parts["ramdisk"] = str(cached("../bash-ramdisk/build.sh"))
    elif name in SCENARIOS:
        parts["ramdisk"] = str(ramdisk(binary, venv.parent))
    return parts


def rig(firmware: str, images: Path) -> None:
    """The rig's own parts without Ferric: the image boots from the disk, power goes through the BMC."""
    world = World()
    try:
        machine = Machine(world, firmware, 512)
        timeline = Timeline()
        watch_machine(machine, timeline)
        run("dd", f"if={images}/user.raw", f"of={machine.folder}/disk.img", "conv=notrunc", "bs=1M", "status=none")
        machine.ipmi("chassis", "bootdev", "disk")
        machine.ipmi("chassis", "power", "on")
        until("the image's marker", 90, lambda: f"E2E-IMAGE {images.name} firmware={firmware}" in tail(machine.serial(), 60))
        machine.ipmi("chassis", "power", "off")
        until("off", 10, lambda: not machine.is_on())
    finally:
        world.close(keep=False)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("scenario", choices=["rig-bios", "rig-uefi", "faults", "console", "build", *SCENARIOS])
    arguments.add_argument("--ferric", type=Path, default=HERE.parent.parent / "target" / "debug" / "ferric")
    arguments.add_argument("--keep", action="store_true")
    chosen = arguments.parse_args()
    name, binary = chosen.scenario, chosen.ferric.resolve()
    began = time.monotonic()
    try:
        parts = inside()
        if name == "build":
            for scenario in SCENARIOS:
                if not scenario.startswith("ipa"):
                    print(*build(scenario, binary).values())
            return 0
        if parts is None:
            enter(build(name, binary))  # does not return
        limit(LIFE if name.startswith("life-") else RUN)
        if name.startswith("rig-"):
            rig(name.removeprefix("rig-"), Path(parts["images"]))
            figures = ""
        elif name == "console":
            console(binary, parts)
            figures = ""
        elif name == "faults":
            faults(binary, Path(parts["venv"]))
            figures = ""
        else:
            figures = f"; seconds: {travel(name, binary, parts, chosen.keep)}"
    except Failed as failed:
        print(f"e2e {name}: FAILED: {failed}", flush=True)
        return 1
    print(f"e2e {name}: ok in {time.monotonic() - began:.0f} s{figures}", flush=True)
    return 0


def travel(name: str, binary: Path, parts: dict[str, str], keep: bool) -> str:
    """One scenario from an empty world to an empty world; its figures."""
    road = (Life if name.startswith("life-") else Road)(SCENARIOS[name], binary, parts)
    try:
        road.prepare()
        if isinstance(road, Life):
            road.live()
            summary = road.summary()
            road.close()
            return summary
        road.enrol()
        road.order()
        if name == "kill":
            road.deploy_with_kill()
        elif name == "iscsi-kill":
            road.deploy_with_kill_of_the_writer()
        else:
            road.deploy()
        summary = road.summary()
        road.undeploy()
        road.close()
        return summary
    except Failed:
        road.complain()
        raise
    finally:
        road.world.close(keep=keep)
        if keep:
            print(f"kept: {road.world.folder}")


if __name__ == "__main__":
    sys.exit(main())
