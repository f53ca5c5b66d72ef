"""What nova, Metal3's baremetal-operator, metalsmith and gophercloud ask of Ironic, in their order, with the versions
that they send (clients.md §2, §3, §5, §7), and what each of them relies on in the answers. As data; `player` plays it.

    contracts.py URL [--peer] [--only TEXT]
"""

import argparse
import base64
import dataclasses
import sys
import time

from crew import carry_out
from pattern import ANY, GONE, SOME, Both, Has, Like, OneOf
from player import FERRIC, IRONIC, Ask, Row, play

# gophercloud reads times in this form and no other, or null.
WHEN = OneOf((None, Like(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)$")))
UUID = Like(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
IMAGE = {"image_source": "http://127.0.0.1/image.raw", "image_checksum": "0123456789abcdef0123456789abcdef", "image_disk_format": "raw"}


def at(version: str, rows: list[Row], *, sdk: bool = False) -> list[Row]:
    """The rows with this version, unless they name another; `sdk`: in both headers, as openstacksdk sends it."""
    found = []
    for row in rows:
        number = row.version if row.version != "" else version
        headers = {"OpenStack-API-Version": f"baremetal {number}"} if sdk and number else {}
        found.append(dataclasses.replace(row, version=number, headers={**headers, **row.headers}))
    return found


def ask(request: str, body: object = None, status: object = 200, holds: object = ANY, version: str | None = "", **more: object) -> Ask:
    """A request at the version of its client."""
    return Ask(request, body, status, holds, version=version, **more)


def provision(node: str, target: str, **more: object) -> Ask:
    """Asks for a verb."""
    return ask(f"PUT /v1/nodes/{node}/states/provision", {"target": target, **more}, 202)


def reaches(request: str, state: str, **more: object) -> Ask:
    """Polls until the state is reached; a failed state on the way ends it."""
    failed = {"provision_state": Like("failed$|^error$")}
    return ask(request, holds={"provision_state": state, "reservation": None, **more}, until=True, never=None if "failed" in state else failed)


def add(path: str, value: object, op: str = "add") -> dict:
    """One operation of a JSON patch."""
    return {"op": op, "path": path, "value": value}


# Somebody enrols a machine of fake hardware before the client under test comes; at the newest version.
ENROLLED = [
    Ask("POST /v1/nodes", {"driver": "fake-hardware", "name": "host-$run", "resource_class": "class-$run", "properties": {"cpu_arch": "x86_64"}}, 201, {"uuid": UUID}, keep={"node": "uuid"}),
    Ask("POST /v1/ports", {"node_uuid": "$node", "address": "52:54:10:$mac"}, 201, keep={"port": "uuid"}),
    Ask("PUT /v1/nodes/$node/states/provision", {"target": "manage"}, 202),
    Ask("GET /v1/nodes/$node", holds={"provision_state": "manageable", "reservation": None}, until=True),
    Ask("PUT /v1/nodes/$node/states/power", {"target": "power off"}, 202),
    Ask("GET /v1/nodes/$node", holds={"power_state": "power off", "target_power_state": None, "reservation": None}, until=True),
    Ask("PUT /v1/nodes/$node/states/provision", {"target": "provide"}, 202),
    Ask("GET /v1/nodes/$node", holds={"provision_state": "available", "reservation": None}, until=True),
]

# --- nova's ironic driver: openstacksdk, which sends the newest version that the resource knows ---------------------

NOVA_FIELDS = "fields=uuid,power_state,target_power_state,provision_state,target_provision_state,last_error,maintenance,properties,instance_uuid,traits,resource_class"
NOVA_NODE = {
    "uuid": "$node", "power_state": ANY, "target_power_state": ANY, "provision_state": SOME, "target_provision_state": ANY, "last_error": ANY, "maintenance": False, "properties": {"cpu_arch": "x86_64"},
    "instance_uuid": ANY, "traits": Has(), "resource_class": "class-$run", "name": GONE, "driver_info": GONE,
}
NOVA_GET = f"GET /v1/nodes/$node?{NOVA_FIELDS}"
VIF = "2b3a6f7e-5a1c-4c3e-9a55-0d4c8d7f1f01"
DRIVE = base64.b64encode(b"\x1f\x8b a configdrive").decode()

NOVA = [
    # discovery, once per process
    ask("GET /", version=None, holds={"versions": Has({"id": "v1", "status": "CURRENT", "version": SOME, "min_version": "1.1", "links": SOME}), "default_version": {"id": "v1"}}),
    ask("GET /v1/", version=None, holds={"id": "v1", "version": {"id": "v1", "min_version": "1.1", "version": SOME, "status": "CURRENT"}}),
    # what is free
    ask(f"GET /v1/nodes?{NOVA_FIELDS}", holds={"nodes": Has(NOVA_NODE | {"provision_state": "available", "instance_uuid": None})}),
    ask(f"GET /v1/nodes?{NOVA_FIELDS}&conductor_group=", holds={"nodes": Has(NOVA_NODE)}),
    ask(f"GET /v1/nodes?{NOVA_FIELDS}&shard=none-$run", holds={"nodes": []}),
    ask(f"GET /v1/nodes?{NOVA_FIELDS}&instance_uuid=$uuid", holds={"nodes": []}),
    # spawn: reserve, and a second who comes too late
    ask(NOVA_GET, holds=NOVA_NODE),
    ask("PATCH /v1/nodes/$node", [add("/instance_uuid", "$uuid", "replace")], holds={"instance_uuid": "$uuid"}),
    ask("PATCH /v1/nodes/$node", [add("/instance_uuid", "00000000-1111-4222-8333-444444444444", "add")], 409, {"error_message": Like("(?i)associated with|already")}),
    ask(f"GET /v1/nodes?{NOVA_FIELDS}&instance_uuid=$uuid", holds={"nodes": [NOVA_NODE | {"instance_uuid": "$uuid"}]}),
    # plug
    ask("GET /v1/ports/detail?node=$node", version="1.101", holds={"ports": [{"uuid": "$port", "address": "52:54:10:$mac", "local_link_connection": {}, "internal_info": {}, "extra": {}}]}),
    ask("GET /v1/portgroups/detail?node=$node", version="1.26", holds={"portgroups": []}),
    ask("POST /v1/nodes/$node/vifs", {"id": VIF}, 204),
    # what the instance is
    ask("PATCH /v1/nodes/$node", [
        *(add(f"/instance_info/{key}", value) for key, value in {
            **IMAGE, "root_gb": "20", "swap_mb": "0", "display_name": "vm", "vcpus": "4", "nova_host_id": "nova-1", "memory_mb": "4096", "local_gb": "20", "ephemeral_gb": "0", "project_id": "p", "project_name": "project",
            "user_id": "u", "user_name": "user", "flavor_name": "baremetal", "fixed_ips": "[]", "floating_ips": "[]", "capabilities": '{"boot_mode": "uefi"}', "traits": ["CUSTOM_NOVA"],
        }.items()),
    ], holds={"instance_info": {"root_gb": "20", "capabilities": '{"boot_mode": "uefi"}', "traits": ["CUSTOM_NOVA"], "display_name": "vm"}}),
    ask("GET /v1/volume/connectors?node=$node&detail=True", version="1.32", holds={"connectors": []}),
    ask("POST /v1/volume/targets", {"node_uuid": "$node", "volume_type": "iscsi", "properties": {"target_iqn": "iqn.2026-01.org.example:vol"}, "volume_id": "vol-$run", "boot_index": 0}, 201, {"uuid": UUID, "node_uuid": "$node"}, version="1.32", keep={"target": "uuid"}),
    # its trait is not the node's: the deployment is refused, as nova's placement should have known
    ask("PUT /v1/nodes/$node/states/provision", {"target": "active", "configdrive": DRIVE}, 400, {"error_message": Like("CUSTOM_NOVA|trait")}),
    Ask("PUT /v1/nodes/$node/traits/CUSTOM_NOVA", status=204),
    ask("GET /v1/nodes/$node/validate", holds={"deploy": {"result": True}, "power": {"result": True}, "storage": {"result": OneOf((True, None))}}),
    provision("$node", "active", configdrive=DRIVE),
    ask(NOVA_GET, holds=NOVA_NODE | {"provision_state": "active", "target_provision_state": None, "instance_uuid": "$uuid", "last_error": None}, until=True, never={"provision_state": Like("failed$")}),
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
    ask(NOVA_GET, holds=NOVA_NODE | {"provision_state": "rescue"}, until=True, never={"provision_state": "rescue failed"}),
    provision("$node", "unrescue"),
    ask(NOVA_GET, holds=NOVA_NODE | {"provision_state": "active"}, until=True, never={"provision_state": "unrescue failed"}),
    # rebuild; a real Ironic 39.0.0 without authentication answers 500
    ask("PATCH /v1/nodes/$node", [add("/instance_info/preserve_ephemeral", False)]),
    dataclasses.replace(provision("$node", "rebuild", configdrive=DRIVE), on=FERRIC),
    ask(NOVA_GET, holds=NOVA_NODE | {"provision_state": "active", "target_provision_state": None}, until=True, never={"provision_state": "deploy failed"}),
    # destroy
    provision("$node", "deleted"),
    ask(NOVA_GET, holds=NOVA_NODE | {"provision_state": OneOf(("cleaning", "clean wait", "clean failed", "available", "manageable"))}, until=True, never={"provision_state": "error"}),
    ask("GET /v1/volume/targets?node=$node&detail=True", version="1.32", holds={"targets": Has()}, keep={}),
    Ask("GET /v1/nodes/$node", holds={"provision_state": "available", "reservation": None}, until=True),
    # refused while the machine has power, which fake hardware keeps: nova writes that down and goes on
    ask("DELETE /v1/volume/targets/$target", status=OneOf((204, 404, 400)), version="1.32"),
    ask("GET /v1/nodes/$node/vifs", holds={"vifs": Has()}),
    ask(f"DELETE /v1/nodes/$node/vifs/{VIF}", status=OneOf((204, 400))),
    # the server has cleared it: the difference is empty, or this
    ask("PATCH /v1/nodes/$node", [add("/instance_info", {})], holds={"instance_info": {}, "instance_uuid": None}),
    ask("PATCH /v1/nodes/$node", [], OneOf((200, 400))),
    ask(f"GET /v1/nodes?{NOVA_FIELDS}&instance_uuid=$uuid", holds={"nodes": []}),
    ask(NOVA_GET, holds=NOVA_NODE | {"provision_state": "available", "instance_uuid": None}),
    # nobody there
    ask("GET /v1/nodes/7b1a6b3e-0c8e-4c0e-9f5d-2f2f5a1b9d11", status=404, holds={"error_message": Like("7b1a6b3e-0c8e-4c0e-9f5d-2f2f5a1b9d11")}),
]

# A deployment that nova takes back while its ramdisk is awaited goes by the verb "deleted" too; nothing of fake hardware
# waits, so tests/verbs proves it on simulated machines.

# --- Metal3's baremetal-operator: gophercloud, one version for all -----------------------------------------------------

METAL3_NAME = "metal3~host-$run"
METAL3_GET = "GET /v1/nodes/$node"
METAL3_TIMES = {"created_at": WHEN, "updated_at": WHEN, "provision_updated_at": WHEN, "inspection_started_at": WHEN, "inspection_finished_at": WHEN}


def metal3(version: str) -> list[Row]:
    """The life of a host; what only newer versions know is left out below them."""
    minor = int(version.split(".")[1])
    power_off = {"disable_power_off": False} if minor >= 95 else {}
    return at(version, [
        # readiness
        ask("GET /", version=None, holds={"versions": Has({"id": "v1", "min_version": "1.1", "version": Like(r"^1\.\d+$"), "status": "CURRENT"})}),
        ask("GET /v1", version=None, holds={"version": {"version": Like(r"^1\.\d+$"), "min_version": Like(r"^1\.\d+$")}}),
        ask("GET /v1/drivers", holds={"drivers": Has({"name": "fake-hardware", "hosts": SOME, "type": ANY})}),
        # not known yet: by id, by name with namespace, by plain name, by address
        ask("GET /v1/nodes/$uuid", status=404),
        ask(f"GET /v1/nodes/{METAL3_NAME}", status=404),
        ask("GET /v1/nodes/host-$run", status=404),
        ask("GET /v1/ports?address=52:54:11:$mac&fields=node_uuid,uuid,address", holds={"ports": []}),
        ask("POST /v1/nodes", {
            "driver": "fake-hardware", "name": METAL3_NAME, "driver_info": {"deploy_kernel": "http://127.0.0.1/kernel", "deploy_ramdisk": "http://127.0.0.1/ramdisk", "redfish_password": "hidden", "force_persistent_boot_device": "Default"},
            "boot_interface": "fake", "deploy_interface": "fake", "inspect_interface": "fake", "management_interface": "fake", "power_interface": "fake", "raid_interface": "fake", "vendor_interface": "fake", "firmware_interface": "fake",
            "properties": {"capabilities": "boot_mode:uefi", "cpu_arch": "x86_64"}, **power_off,
        }, 201, {"uuid": UUID, "provision_state": "enroll", "driver_info": {"redfish_password": "******", "deploy_kernel": "http://127.0.0.1/kernel"}, **METAL3_TIMES}, keep={"node": "uuid"}),
        ask("POST /v1/ports", {"node_uuid": "$node", "address": "52:54:11:$mac", "pxe_enabled": True}, 201, {"uuid": UUID, "pxe_enabled": True}, keep={"port": "uuid"}),
        ask("GET /v1/ports?address=52:54:11:$mac&fields=node_uuid,uuid,address", holds={"ports": [{"node_uuid": "$node", "uuid": "$port", "address": "52:54:11:$mac"}]}),
        ask(f"GET /v1/nodes/{METAL3_NAME}", holds={"uuid": "$node", "name": METAL3_NAME}),
        # it writes the credentials, whatever it read
        ask("PATCH /v1/nodes/$node", [add("/driver_info/redfish_password", "newer"), add("/automated_clean", False), add("/properties/local_gb", "50"), add("/extra/seen", "yes")], holds={"automated_clean": False, "driver_info": {"redfish_password": "******"}, "properties": {"local_gb": "50", "cpu_arch": "x86_64"}}),
        ask("PATCH /v1/nodes/$node", [{"op": "remove", "path": "/extra/seen"}, add("/name", METAL3_NAME, "replace")], holds={"extra": {"seen": GONE}}),
        ask("GET /v1/nodes/$node/validate", holds={"boot": {"result": True}, "deploy": {"result": True}, "power": {"result": True}, "management": {"result": True}}),
        # verify
        provision("$node", "manage"),
        reaches(METAL3_GET, "manageable", target_provision_state=None, last_error=None, **METAL3_TIMES),
        # a verb that cannot be there
        ask("PUT /v1/nodes/$node/states/provision", {"target": "rebuild"}, 400, {"error_message": SOME}),
        # inspect, as nothing has been found before
        ask("GET /v1/nodes/$node/inventory", status=404),
        provision("$node", "inspect"),
        reaches(METAL3_GET, "manageable", inspection_finished_at=Both((SOME, WHEN)), last_error=None),
        # prepare: settings of BIOS, firmware and RAID, then manual cleaning
        ask("GET /v1/nodes/$node/bios?detail=true", holds={"bios": Has()}),
        ask("GET /v1/nodes/$node/firmware", holds={"firmware": Has()}),
        ask("PUT /v1/nodes/$node/states/raid", {"logical_disks": [{"size_gb": 100, "raid_level": "1", "is_root_volume": True}]}, 204),
        ask(METAL3_GET, holds={"target_raid_config": {"logical_disks": [{"size_gb": 100, "raid_level": "1", "is_root_volume": True}]}}),
        provision("$node", "clean", clean_steps=[{"interface": "bios", "step": "apply_configuration", "args": {"settings": [{"name": "numlock", "value": "off"}]}}]),
        reaches(METAL3_GET, "manageable", last_error=None, clean_step=OneOf((None, {}))),
        ask("GET /v1/nodes/$node/bios?detail=true", holds={"bios": Has({"name": "numlock", "value": "off", "attribute_type": ANY, "allowable_values": ANY, "read_only": ANY})}),
        # decision 21: Ferric refuses at once what Ironic fails at later
        ask("PUT /v1/nodes/$node/states/provision", {"target": "clean", "clean_steps": [{"interface": "bios", "step": "no_such_step"}]}, 400, {"error_message": Like("no_such_step")}, on=FERRIC),
        dataclasses.replace(provision("$node", "clean", clean_steps=[{"interface": "bios", "step": "no_such_step"}]), on=IRONIC),
        dataclasses.replace(reaches(METAL3_GET, "clean failed", last_error=Like("no_such_step")), on=IRONIC),
        ask("DELETE /v1/nodes/$node/maintenance", status=202),
        dataclasses.replace(provision("$node", "manage"), on=IRONIC),
        reaches(METAL3_GET, "manageable"),
        # capacity
        ask("GET /v1/nodes?fields=uuid,name,provision_state,boot_interface", holds={"nodes": Has({"uuid": "$node", "name": METAL3_NAME, "provision_state": "manageable", "boot_interface": "fake", "driver": GONE})}),
        # deploy
        ask("PATCH /v1/nodes/$node", [*(add(f"/instance_info/{key}", value) for key, value in IMAGE.items()), add("/instance_info/capabilities", {}), add("/instance_uuid", "$uuid"), add("/deploy_interface", "fake")], holds={"instance_uuid": "$uuid", "instance_info": IMAGE}),
        provision("$node", "provide"),
        reaches(METAL3_GET, "available"),
        provision("$node", "active", configdrive={"meta_data": {"uuid": "$uuid", "name": "host"}, "network_data": {"links": [], "networks": [], "services": []}, "user_data": "#!/bin/sh\n"}),
        reaches(METAL3_GET, "active", last_error=None, instance_info={"configdrive": OneOf(("******", SOME))}),
        # power
        ask("PUT /v1/nodes/$node/states/power", {"target": "power on"}, 202),
        ask(METAL3_GET, holds={"power_state": "power on", "target_power_state": None}, until=True),
        ask("PUT /v1/nodes/$node/states/power", {"target": "soft power off", "timeout": 20}, 202),
        ask(METAL3_GET, holds={"power_state": "power off", "target_power_state": None, "last_error": None}, until=True),
        ask("PUT /v1/nodes/$node/states/power", {"target": "power on"}, 202),
        ask(METAL3_GET, holds={"power_state": "power on", "target_power_state": None}, until=True),
        # maintenance
        ask("PUT /v1/nodes/$node/maintenance", {"reason": "baremetal-operator: fault"}, 202),
        ask(METAL3_GET, holds={"maintenance": True, "maintenance_reason": "baremetal-operator: fault", "fault": None}),
        ask("DELETE /v1/nodes/$node/maintenance", status=202),
        ask(METAL3_GET, holds={"maintenance": False, "maintenance_reason": None}),
        # service
        provision("$node", "service", service_steps=[{"interface": "vendor", "step": "log_passthrough"}]),
        reaches(METAL3_GET, "active", last_error=None),
        # subscriptions and virtual media are Redfish's: fake hardware says so
        ask("POST /v1/nodes/$node/vendor_passthru?method=create_subscription", {"Destination": "https://example.org"}, 400),
        *([ask("GET /v1/nodes/$node/vmedia", status=OneOf((400, 200)))] if minor >= 93 else []),
        # health and power_off, where they are known
        ask(METAL3_GET, holds={"health": ANY if minor >= 109 else GONE, "disable_power_off": False if minor >= 95 else GONE}),
        # deprovision
        provision("$node", "deleted"),
        reaches(METAL3_GET, "available", instance_info={}, instance_uuid=None),
        provision("$node", "manage"),
        reaches(METAL3_GET, "manageable"),
        # a host that runs already
        ask("PATCH /v1/nodes/$node", [add("/instance_info/image_source", IMAGE["image_source"])]),
        provision("$node", "adopt"),
        reaches(METAL3_GET, "active"),
        provision("$node", "deleted"),
        reaches(METAL3_GET, "available"),
        # delete: refused once it is somebody's, forced in maintenance
        ask("PUT /v1/nodes/$node/maintenance", {}, 202),
        ask("DELETE /v1/nodes/$node", status=204),
        ask("GET /v1/nodes/$node", status=404),
        ask("DELETE /v1/nodes/$node", status=404),
        ask("GET /v1/ports?address=52:54:11:$mac&fields=node_uuid,uuid,address", holds={"ports": []}),
    ])


# --- metalsmith: openstacksdk ------------------------------------------------------------------------------------------

METALSMITH = [
    ask("GET /v1/nodes/detail?associated=False&provision_state=available&maintenance=False&resource_class=class-$run&conductor_group=", holds={"nodes": [{"uuid": "$node", "provision_state": "available", "maintenance": False, "instance_info": {}, "extra": {}}]}),
    ask("POST /v1/allocations", {"name": "vm-$run", "resource_class": "class-$run", "candidate_nodes": ["$node"], "traits": []}, 201, {"uuid": UUID, "state": OneOf(("allocating", "active")), "name": "vm-$run"}, version="1.60", keep={"allocation": "uuid"}),
    ask("GET /v1/allocations/$allocation", holds={"state": "active", "node_uuid": "$node", "resource_class": "class-$run", "last_error": None}, version="1.60", until=True, never={"state": "error"}),
    ask("GET /v1/nodes/$node", holds={"instance_uuid": "$allocation", "allocation_uuid": "$allocation"}),
    ask("PATCH /v1/nodes/$node", [add("/instance_info/capabilities", {"boot_option": "local"})], holds={"instance_info": {"capabilities": {"boot_option": "local"}}}),
    # a second host of this name, and one that finds no machine
    ask("POST /v1/allocations", {"name": "vm-$run", "resource_class": "class-$run"}, 409, version="1.60"),
    ask("POST /v1/allocations", {"name": "late-$run", "resource_class": "class-$run"}, 201, version="1.60", keep={"late": "uuid"}),
    ask("GET /v1/allocations/late-$run", holds={"state": "error", "node_uuid": None, "last_error": Like("(?i)no available nodes|class-")}, version="1.60", until=True),
    ask("DELETE /v1/allocations/$late", status=204, version="1.60"),
    # deploy
    ask("POST /v1/nodes/$node/vifs", {"id": VIF}, 204),
    ask("PATCH /v1/nodes/$node", [
        add("/extra/metalsmith_created_ports", []), add("/extra/metalsmith_attached_ports", [VIF]), add("/instance_info/root_gb", 20), add("/instance_info/swap_mb", 64), add("/instance_info/traits", []),
        add("/instance_info/display_name", "vm-$run"), *(add(f"/instance_info/{key}", value) for key, value in IMAGE.items()),
    ], holds={"extra": {"metalsmith_attached_ports": [VIF]}, "instance_info": {"root_gb": 20, "display_name": "vm-$run"}}),
    ask("GET /v1/nodes/$node/validate", holds={"deploy": {"result": True}, "power": {"result": True}}),
    provision("$node", "active", configdrive={"meta_data": {"uuid": "$node", "name": "vm-$run", "hostname": "vm-$run", "public_keys": {}}, "network_data": {}, "user_data": ""}),
    reaches("GET /v1/nodes/$node", "active"),
    # list
    ask("GET /v1/nodes/detail?associated=True", holds={"nodes": Has({"uuid": "$node", "allocation_uuid": "$allocation"})}),
    ask("GET /v1/allocations", holds={"allocations": Has({"uuid": "$allocation", "name": "vm-$run"})}, version="1.60"),
    ask("GET /v1/allocations/vm-$run", holds={"node_uuid": "$node"}, version="1.60"),
    # an allocation goes with its instance, not before
    ask("DELETE /v1/allocations/$allocation", status=409, version="1.60"),
    # undeploy
    ask("PATCH /v1/nodes/$node", [{"op": "remove", "path": "/extra/metalsmith_attached_ports"}, {"op": "remove", "path": "/extra/metalsmith_created_ports"}], holds={"extra": {}}),
    ask(f"DELETE /v1/nodes/$node/vifs/{VIF}", status=204),
    provision("$node", "deleted"),
    reaches("GET /v1/nodes/$node", "available", instance_uuid=None, allocation_uuid=None, instance_info={}),
    ask("GET /v1/allocations/$allocation", status=404, version="1.60"),
]

# --- gophercloud: the acceptance tests' requests, without authentication -----------------------------------------------

GOPHERCLOUD = [
    ask("POST /v1/nodes", {"name": "gopher-$run", "driver": "fake-hardware", "boot_interface": "fake", "resource_class": "class-$run", "driver_info": {"ipmi_port": "6230", "ipmi_username": "admin", "ipmi_password": "admin"}}, 201, {
        "uuid": UUID, "name": "gopher-$run", "driver_info": {"ipmi_password": "******"}, "created_at": Both((SOME, WHEN)), "updated_at": WHEN, "maintenance": False, "traits": [], "protected": False, "retired": False, "automated_clean": None,
    }, keep={"node": "uuid"}),
    ask("GET /v1/nodes?fields=uuid,name&limit=1", holds={"nodes": [{"uuid": SOME}], "next": ANY}),
    ask("GET /v1/nodes/detail?resource_class=class-$run", holds={"nodes": [{"uuid": "$node", "created_at": Both((SOME, WHEN))}]}),
    ask("PATCH /v1/nodes/$node", [add("/maintenance", True, "replace")], holds={"maintenance": True}),
    ask("PATCH /v1/nodes/$node", [add("/maintenance", False, "replace")], holds={"maintenance": False}),
    ask("GET /v1/nodes/$node/validate", holds={"boot": {"result": True}, "console": ANY, "power": {"result": True}}),
    ask("PUT /v1/nodes/$node/maintenance", {"reason": "flooded"}, 202),
    ask("DELETE /v1/nodes/$node/maintenance", status=202),
    provision("$node", "manage"),
    reaches("GET /v1/nodes/$node", "manageable"),
    ask("GET /v1/nodes/$node/management/boot_device", holds={"boot_device": "pxe", "persistent": False}),
    ask("PUT /v1/nodes/$node/management/boot_device", {"boot_device": "pxe", "persistent": False}, 204),
    ask("GET /v1/nodes/$node/management/boot_device/supported", holds={"supported_boot_devices": ["pxe"]}),
    ask("PUT /v1/nodes/$node/states/power", {"target": "power off"}, 202),
    ask("GET /v1/nodes/$node", holds={"power_state": "power off", "target_power_state": None, "reservation": None}, until=True),
    ask("PUT /v1/nodes/$node/states/raid", {"logical_disks": [{"size_gb": 100, "is_root_volume": True, "raid_level": "1"}]}, 204),
    ask("GET /v1/nodes/$node/bios", holds={"bios": []}),
    ask("PUT /v1/nodes/$node/traits", {"traits": ["CUSTOM_A", "HW_CPU_X86_VMX"]}, 204),
    ask("GET /v1/nodes/$node/traits", holds={"traits": Has("CUSTOM_A", "HW_CPU_X86_VMX")}),
    ask("DELETE /v1/nodes/$node/traits/CUSTOM_A", status=204),
    ask("DELETE /v1/nodes/$node/traits", status=204),
    ask("POST /v1/ports", {"node_uuid": "$node", "address": "52:54:12:$mac", "pxe_enabled": True}, 201, {"created_at": Both((SOME, WHEN)), "updated_at": WHEN}, keep={"port": "uuid"}),
    ask("GET /v1/ports?fields=uuid,address&node_uuid=$node", holds={"ports": [{"uuid": "$port"}]}),
    ask("PATCH /v1/ports/$port", [add("/address", "52:54:13:$mac", "replace")], holds={"address": "52:54:13:$mac"}),
    ask("DELETE /v1/ports/$port", status=204),
    provision("$node", "provide"),
    reaches("GET /v1/nodes/$node", "available"),
    ask("POST /v1/allocations", {"resource_class": "class-$run"}, 201, {"uuid": UUID, "created_at": Both((SOME, WHEN))}, keep={"allocation": "uuid"}),
    ask("GET /v1/allocations?resource_class=class-$run", holds={"allocations": [{"uuid": "$allocation"}]}),
    ask("GET /v1/allocations/$allocation", holds={"state": "active", "node_uuid": "$node"}, until=True),
    ask("DELETE /v1/allocations/$allocation", status=204),
    ask("GET /v1/conductors", version="1.72", holds={"conductors": Has({"hostname": SOME, "conductor_group": ANY, "alive": True})}, keep={"host": "conductors.0.hostname"}),
    ask("GET /v1/conductors?detail=true", version="1.72", holds={"conductors": Has({"drivers": SOME, "created_at": Both((SOME, WHEN)), "updated_at": WHEN})}),
    ask("GET /v1/conductors/$host", version="1.72", holds={"hostname": "$host", "drivers": SOME}),
    ask("GET /v1/drivers?detail=true", holds={"drivers": Has({"name": "fake-hardware", "type": "dynamic", "enabled_power_interfaces": SOME})}),
    ask("GET /v1/drivers/fake-hardware", holds={"name": "fake-hardware", "links": SOME, "properties": SOME}),
    ask("GET /v1/drivers/ipmi/properties", holds={"ipmi_address": SOME}),
    ask("GET /v1/drivers/fake-hardware/raid/logical_disk_properties", holds={"size_gb": SOME}),
    ask("DELETE /v1/nodes/$node", status=204),
]

# --- which version is spoken -------------------------------------------------------------------------------------------

VERSIONS = {"x-openstack-ironic-api-minimum-version": "1.1", "x-openstack-ironic-api-maximum-version": "1.115"}
NEGOTIATION = [
    Ask("GET /v1/nodes", version=None, answers={**VERSIONS, "x-openstack-ironic-api-version": "1.1"}),
    Ask("GET /v1/nodes", version="1.1", answers={**VERSIONS, "x-openstack-ironic-api-version": "1.1"}),
    Ask("GET /v1/nodes", version="1.9", answers={**VERSIONS, "x-openstack-ironic-api-version": "1.9"}),
    Ask("GET /v1/nodes", version="latest", answers={**VERSIONS, "x-openstack-ironic-api-version": "1.115"}),
    Ask("GET /v1/nodes", version=None, headers={"OpenStack-API-Version": "baremetal 1.50"}, answers={**VERSIONS, "x-openstack-ironic-api-version": "1.50"}),
    Ask("GET /v1/nodes", version="1.999", status=406, answers=VERSIONS, holds={"error_message": Like("1.999")}),
    Ask("GET /v1/nodes", version="2.0", status=406, answers=VERSIONS),
    Ask("GET /v1/nodes", version="nonsense", status=OneOf((400, 406))),
    Ask("GET /v1/allocations", version="1.51", status=404),
    Ask("GET /v1/allocations", version="1.52", status=200),
]

CONTRACTS: dict[str, list[Row]] = {
    "nova at the newest versions of openstacksdk 4.22": [*ENROLLED, *at("1.109", NOVA, sdk=True)],
    "Metal3 with 1.110": metal3("1.110"),
    "Metal3 with 1.109": metal3("1.109"),
    "Metal3 with 1.95": metal3("1.95"),
    "Metal3 with 1.93": metal3("1.93"),
    "Metal3 with 1.89": metal3("1.89"),
    "metalsmith": [*ENROLLED, *at("1.109", METALSMITH, sdk=True)],
    "gophercloud": at("1.80", GOPHERCLOUD),
    "versions": NEGOTIATION,
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--peer", action="store_true", help="a real Ironic: one contract after the other")
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    began = time.monotonic()
    chosen = {name: rows for name, rows in CONTRACTS.items() if asked.only.lower() in name.lower()}
    work = [(name, lambda rows=rows: play(rows, asked.url, peer=asked.peer)) for name, rows in chosen.items()]
    broken = {name: said for name, said in carry_out(1 if asked.peer else len(work), work).items() if said}
    for name, said in broken.items():
        print(f"FAILED {name}\n{said}\n")
    requests = sum(map(len, chosen.values()))
    print(f"contracts: {len(chosen) - len(broken)} of {len(chosen)} hold, {requests} requests, in {time.monotonic() - began:.0f} s")
    return 1 if broken or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
