"""What goes wrong before a machine boots, against a real BMC: each ends in the right state, and says what and what to do."""

import time
from pathlib import Path

from client import Client
from ferric import Ferric
from watch import Timeline, watch_machine, watch_wire
from world import BMC, Failed, Machine, World, tail, until

SILENT = "172.31.77.99"  # nobody has this address


def faults(binary: Path, venv: Path) -> None:
    """The scenario `faults`."""
    client = Client(venv)
    world = World()
    try:
        machine = Machine(world, "bios", 256)
        ferric = Ferric(world, binary, "[ipmi]\ncommand_retry_timeout = 6\n")
        ferric.start()
        timeline = Timeline()
        watch_machine(machine, timeline)
        watch_wire(timeline)

        # what the client is told at once
        _refused(client, ["node", "create", "--driver", "abacus"], "abacus")
        client("node", "create", "--driver", "ipmi", "--name", "nameless")
        _manage_fails(client, "nameless", "ipmi_address")

        # what the BMC makes known
        _enrol(client, "wrong-password", BMC, "not-the-password")
        said = _manage_fails(client, "wrong-password", BMC)
        if "password" not in said.lower() and "credential" not in said.lower():
            raise Failed(f"a wrong password is told as: {said}")
        if "not-the-password" in said or "not-the-password" in tail(world.folder / "ferric.log", 10_000):
            raise Failed("the password is in last_error or in the log")
        _enrol(client, "silent", SILENT, "anything")
        said = _manage_fails(client, "silent", SILENT)
        if "password" in said.lower():
            raise Failed(f"silence is told as a wrong password: {said}")

        # a machine that Ferric does not know gets no address
        machine.ipmi("chassis", "bootdev", "pxe")
        machine.ipmi("chassis", "power", "on")
        until("the machine asks for an address", 60, lambda: timeline.seconds("dhcp discover") is not None)
        asked = time.monotonic()
        until("it goes on asking", 30, lambda: time.monotonic() > asked + 4)
        if timeline.seconds("dhcp offer") is not None or timeline.seconds("dhcp ack") is not None:
            raise Failed("a machine without a port was offered an address")

        # two on the same ports
        second = world.start("second", [binary, "serve", "--config", ferric.config, "--data-dir", ferric.data])
        until("a second Ferric ends", 20, lambda: second.poll() is not None)
        said = tail(world.folder / "second.log", 5)
        if second.returncode != 1 or "in use" not in said:
            raise Failed(f"a second Ferric on the same port: exit {second.returncode}, {said}")
        ferric.stop()
    except Failed:
        print(f"--- ferric.log\n{tail(world.folder / 'ferric.log', 40)}", flush=True)
        raise
    finally:
        world.close(keep=False)


def _enrol(client: Client, name: str, address: str, password: str) -> None:
    client(
        "node", "create", "--driver", "ipmi", "--name", name, "--driver-info", f"ipmi_address={address}",
        "--driver-info", "ipmi_username=admin", "--driver-info", f"ipmi_password={password}",
    )  # fmt: skip


def _refused(client: Client, command: list[str], word: str) -> None:
    try:
        client(*command)
    except Failed as failed:
        if word in str(failed).split("\n", 1)[1]:
            return
        raise Failed(f"refused, but without the word {word}: {failed}") from None
    raise Failed(f"not refused: {' '.join(command)}")


def _manage_fails(client: Client, name: str, word: str) -> str:
    """`manage` brings the node back to enroll with a last_error (or is refused) that has the word in it."""
    try:
        client("node", "manage", name, "--wait", "60")
    except Failed:
        pass
    else:
        raise Failed(f"{name} became manageable")
    node = client.show(name, "provision_state", "last_error")
    if node["provision_state"] != "enroll":
        raise Failed(f"{name} is {node['provision_state']}, should be enroll")
    said = node["last_error"] or ""
    if word not in said:
        raise Failed(f"last_error of {name} does not have {word}: {said}")
    print(f"{name}: {said}", flush=True)
    return said
