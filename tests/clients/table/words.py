"""What the table is written with: nodes of fake hardware in the states that rows begin with."""

import dataclasses
import json

from pattern import SOME, Many
from player import Ask, Row, Run

NODE = "baremetal node"


def step(interface: str, name: str, priority: int | None = None, **args: object) -> dict:
    """A step as the client wants it."""
    return {"interface": interface, "step": name, "args": args} | ({} if priority is None else {"priority": priority})


def order(one: dict, at: int) -> dict:
    """The step as a runbook has it."""
    return one | {"order": at}


def steps(*all_of_them: dict) -> str:
    """Steps as a word of a command."""
    return "'" + json.dumps(all_of_them) + "'"


def node(*options: str, name: str = "node") -> list[Row]:
    """A node of fake hardware, kept as $name (its uuid); its name is NAME-$run."""
    words = " ".join(options)
    return [
        Run(f"{NODE} create --driver fake-hardware --name {name}-$run {words}", {"uuid": SOME}, keep={name: "uuid"})
    ]


def is_(holds: object, name: str = "$node") -> Ask:
    """The node is so, sooner or later."""
    return Ask(f"GET /v1/nodes/{name}", holds=holds, until=True)


def state(name: str, node: str = "$node", on: str = "", **more: object) -> Ask:
    """The node rests in a state, sooner or later; `on` one side, or both."""
    return dataclasses.replace(is_({"provision_state": name, "reservation": None, **more}, node), on=on)


def noted(event: str, times: int, node: str = "$node", on: str = "") -> Ask:
    """The node's history has so many lines of this type, sooner or later: what went well and left the node as it was."""
    holds = {"history": Many(times, {"event_type": event})}
    return Ask(f"GET /v1/nodes/{node}/history?detail=true", holds=holds, until=True, on=on)


def manageable(*options: str) -> list[Row]:
    """A node that is managed."""
    return [*node(*options), Run(f"{NODE} manage $node --wait 30"), state("manageable", target_provision_state=None)]


# `--wait` of what takes long looks every ten seconds, of the rest every two; so rows seldom use it.


def powered_off() -> list[Row]:
    """Its power state is known, which fake hardware's is not before it is asked for one."""
    return [Run(f"{NODE} power off $node"), is_({"power_state": "power off", "target_power_state": None})]


def available(*options: str) -> list[Row]:
    """A node that is available."""
    return [*manageable(*options), Run(f"{NODE} provide $node"), state("available", target_provision_state=None)]
