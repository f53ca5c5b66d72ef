"""Metal3's baremetal-operator (clients.md §3): gophercloud, one version for everything, chosen once."""

from asks.words import IMAGE, UUID, WHEN, add, ask, at, on, provision, reaches
from pattern import ANY, GONE, SOME, Both, Has, Like, OneOf
from player import FERRIC, IRONIC, Row

METAL3_NAME = "metal3~host-$run"
METAL3_GET = "GET /v1/nodes/$node"
METAL3_TIMES = {
    "created_at": WHEN,
    "updated_at": WHEN,
    "provision_updated_at": WHEN,
    "inspection_started_at": WHEN,
    "inspection_finished_at": WHEN,
}


def metal3(version: str) -> list[Row]:
    """The life of a host; what only newer versions know is left out below them."""
    minor = int(version.split(".")[1])
    power_off = {"disable_power_off": False} if minor >= 95 else {}
    return at(
        version,
        [
            # readiness
            ask(
                "GET /",
                version=None,
                holds={
                    "versions": Has(
                        {"id": "v1", "min_version": "1.1", "version": Like(r"^1\.\d+$"), "status": "CURRENT"}
                    )
                },
            ),
            ask(
                "GET /v1",
                version=None,
                holds={"version": {"version": Like(r"^1\.\d+$"), "min_version": Like(r"^1\.\d+$")}},
            ),
            ask("GET /v1/drivers", holds={"drivers": Has({"name": "fake-hardware", "hosts": SOME, "type": ANY})}),
            # not known yet: by id, by name with namespace, by plain name, by address
            ask("GET /v1/nodes/$uuid", status=404),
            ask(f"GET /v1/nodes/{METAL3_NAME}", status=404),
            ask("GET /v1/nodes/host-$run", status=404),
            ask("GET /v1/ports?address=52:54:11:$mac&fields=node_uuid,uuid,address", holds={"ports": []}),
            ask(
                "POST /v1/nodes",
                {
                    "driver": "fake-hardware",
                    "name": METAL3_NAME,
                    "driver_info": {
                        "deploy_kernel": "http://127.0.0.1/kernel",
                        "deploy_ramdisk": "http://127.0.0.1/ramdisk",
                        "redfish_password": "hidden",
                        "force_persistent_boot_device": "Default",
                    },
                    "boot_interface": "fake",
                    "deploy_interface": "fake",
                    "inspect_interface": "fake",
                    "management_interface": "fake",
                    "power_interface": "fake",
                    "raid_interface": "fake",
                    "vendor_interface": "fake",
                    "firmware_interface": "fake",
                    "properties": {"capabilities": "boot_mode:uefi", "cpu_arch": "x86_64"},
                    **power_off,
                },
                201,
                {
                    "uuid": UUID,
                    "provision_state": "enroll",
                    "driver_info": {"redfish_password": "******", "deploy_kernel": "http://127.0.0.1/kernel"},
                    **METAL3_TIMES,
                },
                keep={"node": "uuid"},
            ),
            ask(
                "POST /v1/ports",
                {"node_uuid": "$node", "address": "52:54:11:$mac", "pxe_enabled": True},
                201,
                {"uuid": UUID, "pxe_enabled": True},
                keep={"port": "uuid"},
            ),
            ask(
                "GET /v1/ports?address=52:54:11:$mac&fields=node_uuid,uuid,address",
                holds={"ports": [{"node_uuid": "$node", "uuid": "$port", "address": "52:54:11:$mac"}]},
            ),
            ask(f"GET /v1/nodes/{METAL3_NAME}", holds={"uuid": "$node", "name": METAL3_NAME}),
            # it writes the credentials, whatever it read
            ask(
                "PATCH /v1/nodes/$node",
                [
                    add("/driver_info/redfish_password", "newer"),
                    add("/automated_clean", False),
                    add("/properties/local_gb", "50"),
                    add("/extra/seen", "yes"),
                ],
                holds={
                    "automated_clean": False,
                    "driver_info": {"redfish_password": "******"},
                    "properties": {"local_gb": "50", "cpu_arch": "x86_64"},
                },
            ),
            ask(
                "PATCH /v1/nodes/$node",
                [{"op": "remove", "path": "/extra/seen"}, add("/name", METAL3_NAME, "replace")],
                holds={"extra": {"seen": GONE}},
            ),
            ask(
                "GET /v1/nodes/$node/validate",
                holds={
                    "boot": {"result": True},
                    "deploy": {"result": True},
                    "power": {"result": True},
                    "management": {"result": True},
                },
            ),
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
            ask(
                "PUT /v1/nodes/$node/states/raid",
                {"logical_disks": [{"size_gb": 100, "raid_level": "1", "is_root_volume": True}]},
                204,
            ),
            ask(
                METAL3_GET,
                holds={
                    "target_raid_config": {
                        "logical_disks": [{"size_gb": 100, "raid_level": "1", "is_root_volume": True}]
                    }
                },
            ),
            provision(
                "$node",
                "clean",
                clean_steps=[
                    {
                        "interface": "bios",
                        "step": "apply_configuration",
                        "args": {"settings": [{"name": "numlock", "value": "off"}]},
                    }
                ],
            ),
            reaches(METAL3_GET, "manageable", last_error=None, clean_step=OneOf((None, {}))),
            ask(
                "GET /v1/nodes/$node/bios?detail=true",
                holds={
                    "bios": Has(
                        {
                            "name": "numlock",
                            "value": "off",
                            "attribute_type": ANY,
                            "allowable_values": ANY,
                            "read_only": ANY,
                        }
                    )
                },
            ),
            # decision 21: Ferric refuses at once what Ironic fails at later
            ask(
                "PUT /v1/nodes/$node/states/provision",
                {"target": "clean", "clean_steps": [{"interface": "bios", "step": "no_such_step"}]},
                400,
                {"error_message": Like("no_such_step")},
                on=FERRIC,
            ),
            on(IRONIC, provision("$node", "clean", clean_steps=[{"interface": "bios", "step": "no_such_step"}])),
            on(IRONIC, reaches(METAL3_GET, "clean failed", last_error=Like("no_such_step"))),
            ask("DELETE /v1/nodes/$node/maintenance", status=202),
            on(IRONIC, provision("$node", "manage")),
            reaches(METAL3_GET, "manageable"),
            # capacity
            ask(
                "GET /v1/nodes?fields=uuid,name,provision_state,boot_interface",
                holds={
                    "nodes": Has(
                        {
                            "uuid": "$node",
                            "name": METAL3_NAME,
                            "provision_state": "manageable",
                            "boot_interface": "fake",
                            "driver": GONE,
                        }
                    )
                },
            ),
            # deploy
            ask(
                "PATCH /v1/nodes/$node",
                [
                    *(add(f"/instance_info/{key}", value) for key, value in IMAGE.items()),
                    add("/instance_info/capabilities", {}),
                    add("/instance_uuid", "$uuid"),
                    add("/deploy_interface", "fake"),
                ],
                holds={"instance_uuid": "$uuid", "instance_info": IMAGE},
            ),
            provision("$node", "provide"),
            reaches(METAL3_GET, "available"),
            provision(
                "$node",
                "active",
                configdrive={
                    "meta_data": {"uuid": "$uuid", "name": "host"},
                    "network_data": {"links": [], "networks": [], "services": []},
                    "user_data": "#!/bin/sh\n",
                },
            ),
            reaches(METAL3_GET, "active", last_error=None, instance_info={"configdrive": "******"}),
            # power
            ask("PUT /v1/nodes/$node/states/power", {"target": "power on"}, 202),
            ask(METAL3_GET, holds={"power_state": "power on", "target_power_state": None}, until=True),
            ask("PUT /v1/nodes/$node/states/power", {"target": "soft power off", "timeout": 20}, 202),
            ask(
                METAL3_GET,
                holds={"power_state": "power off", "target_power_state": None, "last_error": None},
                until=True,
            ),
            ask("PUT /v1/nodes/$node/states/power", {"target": "power on"}, 202),
            ask(METAL3_GET, holds={"power_state": "power on", "target_power_state": None}, until=True),
            # maintenance
            ask("PUT /v1/nodes/$node/maintenance", {"reason": "baremetal-operator: fault"}, 202),
            ask(
                METAL3_GET,
                holds={"maintenance": True, "maintenance_reason": "baremetal-operator: fault", "fault": None},
            ),
            ask("DELETE /v1/nodes/$node/maintenance", status=202),
            ask(METAL3_GET, holds={"maintenance": False, "maintenance_reason": None}),
            # service
            provision("$node", "service", service_steps=[{"interface": "vendor", "step": "log_passthrough"}]),
            reaches(METAL3_GET, "active", last_error=None),
            # subscriptions and virtual media are Redfish's: fake hardware says so
            ask(
                "POST /v1/nodes/$node/vendor_passthru?method=create_subscription",
                {"Destination": "https://example.org"},
                400,
            ),
            *([ask("GET /v1/nodes/$node/vmedia", status=400)] if minor >= 93 else []),
            # health and power_off, where they are known
            ask(
                METAL3_GET,
                holds={"health": ANY if minor >= 109 else GONE, "disable_power_off": False if minor >= 95 else GONE},
            ),
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
        ],
    )
