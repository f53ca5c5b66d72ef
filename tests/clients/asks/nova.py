"""nova's ironic driver (clients.md §2): openstacksdk, which sends the newest version that it knows of the resource, in both
headers. What it sends was read off its requests."""

import base64

from asks.words import IMAGE, UUID, VIF, add, ask, on, provision
from pattern import ANY, GONE, SOME, Has, Like, OneOf
from player import FERRIC, Ask

NOVA_FIELDS = "fields=uuid,power_state,target_power_state,provision_state,target_provision_state,last_error,maintenance,properties,instance_uuid,traits,resource_class"
NOVA_NODE = {
    "uuid": "$node",
    "power_state": ANY,
    "target_power_state": ANY,
    "provision_state": SOME,
    "target_provision_state": ANY,
    "last_error": ANY,
    "maintenance": False,
    "properties": {"cpu_arch": "x86_64"},
    "instance_uuid": ANY,
    "traits": Has(),
    "resource_class": "class-$run",
    "name": GONE,
    "driver_info": GONE,
}
NOVA_GET = f"GET /v1/nodes/$node?{NOVA_FIELDS}"
DRIVE = base64.b64encode(b"\x1f\x8b a configdrive").decode()

NOVA = [
    # discovery, once per process
    ask(
        "GET /",
        version=None,
        holds={
            "versions": Has({"id": "v1", "status": "CURRENT", "version": SOME, "min_version": "1.1", "links": SOME}),
            "default_version": {"id": "v1"},
        },
    ),
    ask(
        "GET /v1/",
        version=None,
        holds={"id": "v1", "version": {"id": "v1", "min_version": "1.1", "version": SOME, "status": "CURRENT"}},
    ),
    # what is free
    ask(
        f"GET /v1/nodes?{NOVA_FIELDS}",
        holds={"nodes": Has(NOVA_NODE | {"provision_state": "available", "instance_uuid": None})},
    ),
    ask(f"GET /v1/nodes?{NOVA_FIELDS}&conductor_group=", holds={"nodes": Has(NOVA_NODE)}),
    ask(f"GET /v1/nodes?{NOVA_FIELDS}&shard=none-$run", holds={"nodes": []}),
    ask(f"GET /v1/nodes?{NOVA_FIELDS}&instance_uuid=$uuid", holds={"nodes": []}),
    # spawn: reserve, and a second who comes too late
    ask(NOVA_GET, holds=NOVA_NODE),
    ask("PATCH /v1/nodes/$node", [add("/instance_uuid", "$uuid", "replace")], holds={"instance_uuid": "$uuid"}),
    ask(
        "PATCH /v1/nodes/$node",
        [add("/instance_uuid", "00000000-1111-4222-8333-444444444444", "add")],
        409,
        {"error_message": Like("(?i)associated with|already")},
    ),
    ask(f"GET /v1/nodes?{NOVA_FIELDS}&instance_uuid=$uuid", holds={"nodes": [NOVA_NODE | {"instance_uuid": "$uuid"}]}),
    # plug
    ask(
        "GET /v1/ports/detail?node=$node",
        version="1.101",
        holds={
            "ports": [
                {
                    "uuid": "$port",
                    "address": "52:54:10:$mac",
                    "local_link_connection": {},
                    "internal_info": {},
                    "extra": {},
                }
            ]
        },
    ),
    ask("GET /v1/portgroups/detail?node=$node", version="1.26", holds={"portgroups": []}),
    ask("POST /v1/nodes/$node/vifs", {"id": VIF}, 204),
    # what the instance is
    ask(
        "PATCH /v1/nodes/$node",
        [
            *(
                add(f"/instance_info/{key}", value)
                for key, value in {
                    **IMAGE,
                    "root_gb": "20",
                    "swap_mb": "0",
                    "display_name": "vm",
                    "vcpus": "4",
                    "nova_host_id": "nova-1",
                    "memory_mb": "4096",
                    "local_gb": "20",
                    "ephemeral_gb": "0",
                    "project_id": "p",
                    "project_name": "project",
                    "user_id": "u",
                    "user_name": "user",
                    "flavor_name": "baremetal",
                    "fixed_ips": "[]",
                    "floating_ips": "[]",
                    "capabilities": '{"boot_mode": "uefi"}',
                    "traits": ["CUSTOM_NOVA"],
                }.items()
            )
        ],
        holds={
            "instance_info": {
                "root_gb": "20",
                "capabilities": '{"boot_mode": "uefi"}',
                "traits": ["CUSTOM_NOVA"],
                "display_name": "vm",
            }
        },
    ),
    ask("GET /v1/volume/connectors?node=$node&detail=True", version="1.32", holds={"connectors": []}),
    ask(
        "POST /v1/volume/targets",
        {
            "node_uuid": "$node",
            "volume_type": "iscsi",
            "properties": {"target_iqn": "iqn.2026-01.org.example:vol"},
            "volume_id": "vol-$run",
            "boot_index": 0,
        },
        201,
        {"uuid": UUID, "node_uuid": "$node"},
        version="1.32",
        keep={"target": "uuid"},
    ),
    # its trait is not the node's: the deployment is refused, as nova's placement should have known
    ask(
        "PUT /v1/nodes/$node/states/provision",
        {"target": "active", "configdrive": DRIVE},
        400,
        {"error_message": Like("CUSTOM_NOVA|trait")},
    ),
    Ask("PUT /v1/nodes/$node/traits/CUSTOM_NOVA", status=204),
    ask(
        "GET /v1/nodes/$node/validate",
        holds={"deploy": {"result": True}, "power": {"result": True}, "storage": {"result": OneOf((True, None))}},
    ),
    provision("$node", "active", configdrive=DRIVE),
    ask(
        NOVA_GET,
        holds=NOVA_NODE
        | {"provision_state": "active", "target_provision_state": None, "instance_uuid": "$uuid", "last_error": None},
        until=True,
        never={"provision_state": Like("failed$")},
    ),
    # power, softly and by force
    ask("PUT /v1/nodes/$node/states/power", {"target": "soft rebooting"}, 202),
    ask(NOVA_GET, holds={"power_state": "power on", "target_power_state": None}, until=True),
    ask("PUT /v1/nodes/$node/states/power", {"target": "soft power off"}, 202),
    ask(NOVA_GET, holds={"power_state": "power off", "target_power_state": None}, until=True),
    ask("PUT /v1/nodes/$node/states/power", {"target": "power on"}, 202),
    ask(NOVA_GET, holds={"power_state": "power on", "target_power_state": None}, until=True),
    ask("PUT /v1/nodes/$node/states/power", {"target": "rebooting"}, 202),
    ask(NOVA_GET, holds={"power_state": "power on", "target_power_state": None}, until=True),
    # console
    ask("GET /v1/nodes/$node/states/console", holds={"console_enabled": False, "console_info": None}),
    ask("PUT /v1/nodes/$node/states/console", {"enabled": True}, 202),
    ask("GET /v1/nodes/$node/states/console", holds={"console_enabled": True, "console_info": ANY}, until=True),
    ask("PUT /v1/nodes/$node/states/console", {"enabled": False}, 202),
    ask("GET /v1/nodes/$node/states/console", holds={"console_enabled": False}, until=True),
    ask("PUT /v1/nodes/$node/management/inject_nmi", {}, 400),
    # rescue and back
    provision("$node", "rescue", rescue_password="secret"),
    ask(
        NOVA_GET,
        holds=NOVA_NODE | {"provision_state": "rescue"},
        until=True,
        never={"provision_state": "rescue failed"},
    ),
    provision("$node", "unrescue"),
    ask(
        NOVA_GET,
        holds=NOVA_NODE | {"provision_state": "active"},
        until=True,
        never={"provision_state": "unrescue failed"},
    ),
    # rebuild; a real Ironic 39.0.0 without authentication answers 500
    ask("PATCH /v1/nodes/$node", [add("/instance_info/preserve_ephemeral", False)]),
    on(FERRIC, provision("$node", "rebuild", configdrive=DRIVE)),
    ask(
        NOVA_GET,
        holds=NOVA_NODE | {"provision_state": "active", "target_provision_state": None},
        until=True,
        never={"provision_state": "deploy failed"},
    ),
    # destroy
    provision("$node", "deleted"),
    ask(
        NOVA_GET,
        holds=NOVA_NODE
        | {"provision_state": OneOf(("cleaning", "clean wait", "clean failed", "available", "manageable"))},
        until=True,
        never={"provision_state": "error"},
    ),
    ask("GET /v1/volume/targets?node=$node&detail=True", version="1.32", holds={"targets": Has()}, keep={}),
    Ask("GET /v1/nodes/$node", holds={"provision_state": "available", "reservation": None}, until=True),
    # refused while the machine has power, which fake hardware keeps: nova writes that down and goes on
    ask("DELETE /v1/volume/targets/$target", status=400, version="1.32"),
    ask("GET /v1/nodes/$node/vifs", holds={"vifs": Has()}),
    ask(f"DELETE /v1/nodes/$node/vifs/{VIF}", status=204),
    # the server has cleared it: the difference is empty, or this
    ask("PATCH /v1/nodes/$node", [add("/instance_info", {})], holds={"instance_info": {}, "instance_uuid": None}),
    ask("PATCH /v1/nodes/$node", [], 200),
    ask(f"GET /v1/nodes?{NOVA_FIELDS}&instance_uuid=$uuid", holds={"nodes": []}),
    ask(NOVA_GET, holds=NOVA_NODE | {"provision_state": "available", "instance_uuid": None}),
    # nobody there
    ask(
        "GET /v1/nodes/7b1a6b3e-0c8e-4c0e-9f5d-2f2f5a1b9d11",
        status=404,
        holds={"error_message": Like("7b1a6b3e-0c8e-4c0e-9f5d-2f2f5a1b9d11")},
    ),
]

# A deployment that nova takes back while its ramdisk is awaited goes by the verb "deleted" too; nothing of fake hardware
# waits, so tests/verbs proves it on simulated machines.
