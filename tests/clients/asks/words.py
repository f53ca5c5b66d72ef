"""What the contracts are written with: requests at the version of their client, and a machine to ask for."""

import dataclasses

from pattern import ANY, Like, OneOf
from player import Ask, Row

# gophercloud reads times in this form and no other, or null.
WHEN = OneOf((None, Like(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)$")))
UUID = Like(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
IMAGE = {
    "image_source": "http://127.0.0.1/image.raw",
    "image_checksum": "0123456789abcdef0123456789abcdef",
    "image_disk_format": "raw",
}


def at(version: str, rows: list[Row], *, sdk: bool = False) -> list[Row]:
    """The rows with this version, unless they name another; `sdk`: in both headers, as openstacksdk sends it."""
    found = []
    for row in rows:
        number = row.version if row.version != "" else version
        headers = {"OpenStack-API-Version": f"baremetal {number}"} if sdk and number else {}
        found.append(dataclasses.replace(row, version=number, headers={**headers, **row.headers}))
    return found


def ask(
    request: str,
    body: object = None,
    status: object = 200,
    holds: object = ANY,
    version: str | None = "",
    **more: object,
) -> Ask:
    """A request at the version of its client."""
    return Ask(request, body, status, holds, version=version, **more)


def provision(node: str, target: str, **more: object) -> Ask:
    """Asks for a verb."""
    return ask(f"PUT /v1/nodes/{node}/states/provision", {"target": target, **more}, 202)


def reaches(request: str, state: str, **more: object) -> Ask:
    """Polls until the state is reached; a failed state on the way ends it."""
    failed = {"provision_state": Like("failed$|^error$")}
    return ask(
        request,
        holds={"provision_state": state, "reservation": None, **more},
        until=True,
        never=None if "failed" in state else failed,
    )


def add(path: str, value: object, op: str = "add") -> dict:
    """One operation of a JSON patch."""
    return {"op": op, "path": path, "value": value}


# Somebody enrols a machine of fake hardware before the client under test comes; at the newest version.
ENROLLED = [
    Ask(
        "POST /v1/nodes",
        {
            "driver": "fake-hardware",
            "name": "host-$run",
            "resource_class": "class-$run",
            "properties": {"cpu_arch": "x86_64"},
        },
        201,
        {"uuid": UUID},
        keep={"node": "uuid"},
    ),
    Ask("POST /v1/ports", {"node_uuid": "$node", "address": "52:54:10:$mac"}, 201, keep={"port": "uuid"}),
    Ask("PUT /v1/nodes/$node/states/provision", {"target": "manage"}, 202),
    Ask("GET /v1/nodes/$node", holds={"provision_state": "manageable", "reservation": None}, until=True),
    Ask("PUT /v1/nodes/$node/states/power", {"target": "power off"}, 202),
    Ask(
        "GET /v1/nodes/$node",
        holds={"power_state": "power off", "target_power_state": None, "reservation": None},
        until=True,
    ),
    Ask("PUT /v1/nodes/$node/states/provision", {"target": "provide"}, 202),
    Ask("GET /v1/nodes/$node", holds={"provision_state": "available", "reservation": None}, until=True),
]


def on(side: str, row: Ask) -> Ask:
    """The row for one of the two."""
    return dataclasses.replace(row, on=side)


# A port of the network service.
VIF = "2b3a6f7e-5a1c-4c3e-9a55-0d4c8d7f1f01"
