"""Every `openstack baremetal …` subcommand of python-ironicclient 6.3.0, in scenarios of their own world each: what is
run, what it has to print, and what has to be so afterwards. The machines are of fake hardware."""

import json

from pattern import ANY, GONE, SOME, Both, Has, Like, OneOf
from player import FERRIC, IRONIC, Ask, Row, Run, Write

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
    return [Run(f"{NODE} create --driver fake-hardware --name {name}-$run {words}", {"uuid": SOME}, keep={name: "uuid"})]


def is_(holds: object, name: str = "$node") -> Ask:
    """The node is so, sooner or later."""
    return Ask(f"GET /v1/nodes/{name}", holds=holds, until=True)


def state(name: str, node: str = "$node", **more: object) -> Ask:
    """The node rests in a state, sooner or later."""
    return is_({"provision_state": name, "reservation": None, **more}, node)


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


def active(*options: str) -> list[Row]:
    """A node that is deployed."""
    return [
        *available(*options),
        Run(f"{NODE} set $node --instance-info image_source=http://127.0.0.1/image --instance-info image_checksum=0"),
        Run(f"{NODE} deploy $node --wait 30"),
        state("active", target_provision_state=None),
    ]


# A real Ironic 39.0.0 drops the step "hold" of what it is asked for (conductor/steps.py), so nothing is ever held there.
FERRIC_ONLY = "held and aborted"

SCENARIOS: dict[str, list[Row]] = {
    "chassis": [
        Run("baremetal chassis create --description rack-$run --extra row=a", {"uuid": SOME, "description": "rack-$run", "extra": {"row": "a"}, "created_at": SOME, "updated_at": None}, keep={"chassis": "uuid"}),
        Run("baremetal chassis list", Has({"uuid": "$chassis", "description": "rack-$run"})),
        Run("baremetal chassis list --long", Has({"uuid": "$chassis", "extra": {"row": "a"}})),
        Run("baremetal chassis list --fields uuid extra --sort uuid:desc", Has({"uuid": "$chassis", "extra": {"row": "a"}})),
        Run("baremetal chassis set $chassis --description moved --extra row=b --extra col=c"),
        Run("baremetal chassis show $chassis", {"uuid": "$chassis", "description": "moved", "extra": {"row": "b", "col": "c"}, "updated_at": SOME}),
        Run("baremetal chassis unset $chassis --description --extra col"),
        Run("baremetal chassis show $chassis --fields description extra", {"description": OneOf((None, "")), "extra": {"row": "b", "col": GONE}}),
        *node("--chassis-uuid $chassis"),
        Run("baremetal chassis delete $chassis", fails="(HTTP 400)"),
        Run(f"{NODE} delete $node"),
        Run("baremetal chassis delete $chassis", Like("Deleted chassis $chassis")),
        Ask("GET /v1/chassis/$chassis", status=404),
        Run("baremetal chassis show $chassis", fails="(HTTP 404)"),
    ],
    "conductors, drivers and shards": [
        Run("baremetal conductor list", Has({"hostname": SOME, "conductor_group": "", "alive": True}), keep={"host": "0.hostname"}),
        Run("baremetal conductor list --long", Has({"hostname": "$host", "drivers": Has("fake-hardware", "ipmi", "redfish"), "created_at": SOME, "updated_at": SOME})),
        Run("baremetal conductor show $host", {"hostname": "$host", "alive": True, "conductor_group": "", "drivers": Has("fake-hardware", "ipmi", "manual-management", "redfish")}),
        Run("baremetal conductor show nobody-$run", fails="(HTTP 404)"),
        Run("baremetal driver list", Has({"name": "fake-hardware", "hosts": "$host"}, {"name": "ipmi"}, {"name": "manual-management"}, {"name": "redfish"})),
        Run("baremetal driver list --long", Has({"name": "ipmi", "type": "dynamic", "default_power_interface": "ipmitool", "default_network_interface": "noop"})),
        Run("baremetal driver list --type classic", []),
        Run("baremetal driver show fake-hardware", {"name": "fake-hardware", "type": "dynamic", "default_deploy_interface": "fake", "enabled_vendor_interfaces": Like("fake"), "hosts": "$host"}),
        Run("baremetal driver show nothing", fails="(HTTP 404)"),
        Run("baremetal driver property list ipmi", Has({"property": "ipmi_address", "description": Like("(?i)required")}, {"property": "ipmi_password"}, {"property": "deploy_kernel"})),
        Run("baremetal driver raid property list fake-hardware", Has({"property": "size_gb"}, {"property": "raid_level"}, {"property": "is_root_volume"})),
        Run("baremetal driver passthru list fake-hardware", []),
        Run("baremetal driver passthru call fake-hardware nothing --arg a=b", fails="(HTTP 4"),
        *node("--shard shard-$run"),
        Run("baremetal shard list", Has({"name": "shard-$run", "count": 1})),
        Run(f"{NODE} list --shards shard-$run", [{"uuid": "$node"}]),
    ],
    "nodes": [
        *node("--driver-info a=1 --driver-info password=hidden --property cpu_arch=x86_64 --extra room=1 --resource-class rc-$run --description 'a node' --boot-interface fake --no-automated-clean", name="other"),
        *node(),
        Run(f"{NODE} show $other", {
            "uuid": "$other", "name": "other-$run", "driver": "fake-hardware", "provision_state": "enroll", "power_state": None, "maintenance": False,
            "driver_info": {"a": 1, "password": "******"}, "properties": {"cpu_arch": "x86_64"}, "extra": {"room": 1}, "resource_class": "rc-$run", "description": "a node",
            "automated_clean": False, "boot_interface": "fake", "deploy_interface": "fake", "network_interface": "noop", "conductor": SOME, "traits": [], "instance_uuid": None,
        }),
        Run(f"{NODE} show other-$run --fields uuid name", {"uuid": "$other", "name": "other-$run", "driver": GONE}),
        Run(f"{NODE} show nothing-$run", fails="Node nothing-$run could not be found."),
        Run(f"{NODE} create --driver nothing", fails="(HTTP 400)"),
        Run(f"{NODE} list", Has({"uuid": "$other", "name": "other-$run", "provision_state": "enroll", "instance_uuid": None}, {"uuid": "$node"})),
        Run(f"{NODE} list --long --resource-class rc-$run", [{"uuid": "$other", "extra": {"room": 1}, "driver_info": {"password": "******"}}]),
        Run(f"{NODE} list --resource-class rc-$run --fields name driver", [{"name": "other-$run", "driver": "fake-hardware"}]),
        Run(f"{NODE} list --resource-class rc-$run --maintenance", []),
        Run(f"{NODE} list --resource-class rc-$run --provision-state enroll --driver fake-hardware --unassociated --no-retired", [{"uuid": "$other"}]),
        Run(f"{NODE} list --resource-class rc-$run --description-contains 'a no' --limit 1 --sort uuid:asc", [{"uuid": "$other"}]),
        Run(f"{NODE} set $node --name set-$run --property memory_mb=16 --extra a=b --driver-info c=d --instance-info e=f --resource-class set-$run --conductor-group '' --protected --protected-reason payroll", fails="(HTTP 4"),
        Run(f"{NODE} set $node --name set-$run --property memory_mb=16 --extra a=b --driver-info c=d --instance-info e=f --resource-class set-$run --description text --retired --retired-reason old --network-interface noop --automated-clean"),
        Run(f"{NODE} show $node", {
            "name": "set-$run", "properties": {"memory_mb": 16}, "extra": {"a": "b"}, "driver_info": {"c": "d"}, "instance_info": {"e": "f"}, "resource_class": "set-$run",
            "description": "text", "retired": True, "retired_reason": "old", "automated_clean": True,
        }),
        Run(f"{NODE} list --resource-class set-$run --retired", [{"uuid": "$node"}]),
        Run(f"{NODE} set $node --instance-uuid $uuid"),
        Run(f"{NODE} show --instance $uuid", {"uuid": "$node"}),
        Run(f"{NODE} list --resource-class set-$run --associated", [{"uuid": "$node"}]),
        Run(f"{NODE} unset $node --name --property memory_mb --extra a --driver-info c --instance-info e --resource-class --description --retired --retired-reason --instance-uuid"),
        Run(f"{NODE} show $node", {
            "name": None, "properties": {"memory_mb": GONE}, "extra": {"a": GONE}, "driver_info": {"c": GONE}, "instance_info": {"e": GONE}, "resource_class": OneOf((None, "baremetal")),
            "description": None, "retired": OneOf((None, False)), "retired_reason": None, "instance_uuid": None,
        }),
        Run(f"{NODE} maintenance set $node --reason 'a fan'"),
        Run(f"{NODE} show $node", {"maintenance": True, "maintenance_reason": "a fan", "fault": None}),
        Run(f"{NODE} maintenance unset $node"),
        Run(f"{NODE} show $node", {"maintenance": False, "maintenance_reason": None}),
        Run(f"{NODE} trait add $node CUSTOM_A CUSTOM_B", Like("Added trait CUSTOM_A")),
        Run(f"{NODE} add trait $node CUSTOM_C", Like("Added trait CUSTOM_C")),
        Run(f"{NODE} trait list $node", Has({"traits": "CUSTOM_A"}, {"traits": "CUSTOM_B"}, {"traits": "CUSTOM_C"})),
        Run(f"{NODE} trait add $node nonsense", fails="nonsense"),
        Run(f"{NODE} trait remove $node CUSTOM_A", Like("Removed trait CUSTOM_A")),
        Run(f"{NODE} remove trait $node CUSTOM_B", Like("Removed trait CUSTOM_B")),
        Run(f"{NODE} trait list $node", [{"traits": "CUSTOM_C"}]),
        Run(f"{NODE} trait remove $node --all"),
        Run(f"{NODE} trait list $node", []),
        Run(f"{NODE} create --driver fake-hardware --name child-$run --parent-node $other", {"parent_node": "$other"}, keep={"child": "uuid"}),
        Run(f"{NODE} children list $other", {"children": ["$child"]}),
        Run(f"{NODE} list --parent-node $other", [{"uuid": "$child"}]),
        Run(f"{NODE} delete $child"),
        Run(f"{NODE} delete $node $other", Like("Deleted node $node")),
        Ask("GET /v1/nodes/$node", status=404),
        Ask("GET /v1/nodes/$other", status=404),
    ],
    "what a managed node's hardware does": [
        *manageable(),
        Run(f"{NODE} validate $node", Has({"Interface": "power", "Result": True}, {"Interface": "deploy", "Result": True}, {"Interface": "boot", "Result": True}, {"Interface": "management", "Result": True})),
        Run(f"{NODE} power on $node"),
        is_({"power_state": "power on", "target_power_state": None}),
        Run(f"{NODE} reboot $node --power-timeout 20"),
        is_({"power_state": "power on", "target_power_state": None}),
        Run(f"{NODE} reboot $node --soft"),
        is_({"power_state": "power on", "target_power_state": None, "last_error": None}),
        Run(f"{NODE} power off $node --soft --power-timeout 20"),
        is_({"power_state": "power off", "target_power_state": None}),
        Run(f"{NODE} power on $node --power-timeout 0", fails="power"),
        Run(f"{NODE} boot device show $node", {"boot_device": "pxe", "persistent": False}),
        Run(f"{NODE} boot device show $node --supported", {"supported_boot_devices": "pxe"}),
        Run(f"{NODE} boot device set $node pxe --persistent"),
        Run(f"{NODE} boot device show $node", {"boot_device": "pxe"}),
        Run(f"{NODE} boot device set $node cdrom", fails="(HTTP 400)"),
        Run(f"{NODE} boot mode set $node uefi"),
        is_({"last_error": ANY, "reservation": None}),
        Run(f"{NODE} secure boot on $node"),
        is_({"reservation": None}),
        Run(f"{NODE} secure boot off $node"),
        is_({"reservation": None}),
        Run(f"{NODE} inject nmi $node", fails="(HTTP 400)"),
        Run(f"{NODE} console enable $node"),
        is_({"console_enabled": True, "reservation": None}),
        Run(f"{NODE} console show $node", {"console_enabled": True, "console_info": ANY}),
        Run(f"{NODE} console disable $node"),
        is_({"console_enabled": False, "reservation": None}),
        Run(f"{NODE} console show $node", {"console_enabled": False, "console_info": None}),
        Run(f"{NODE} passthru list $node", Has({"Name": "second_method"}, {"Name": "third_method_sync"}, {"Name": "fourth_method_shared_lock"})),
        Run(f"{NODE} passthru call $node second_method --arg bar=baz --http-method POST", ANY),
        is_({"reservation": None, "last_error": None}),
        Run(f"{NODE} passthru call $node nothing", fails="(HTTP 400)"),
        Run(f"{NODE} vif attach $node vif-$run"),
        Run(f"{NODE} vif list $node", []),
        Run(f"{NODE} vif detach $node vif-$run"),
        is_({"reservation": None}),
        Run(f"{NODE} firmware list $node", []),
        Run(f"{NODE} bios setting list $node", []),
        Run(f"{NODE} bios setting show $node nothing", fails="(HTTP 404)"),
        Run(f"{NODE} history list $node", []),
        Run(f"{NODE} history get $node 7a3ac5b6-1d4f-4a0f-9f1b-3d0b3ea5b4a8", fails="(HTTP 404)"),
        Run(f"{NODE} inventory save $node", fails="(HTTP 404)"),
    ],
    "bios settings": [
        *manageable("--bios-interface fake"),
        Run(f"{NODE} clean $node --clean-steps " + steps(step("bios", "apply_configuration", settings=[{"name": "mode", "value": "quick"}]))),
        state("manageable"),
        Run(f"{NODE} bios setting list $node", [{"name": "mode", "value": "quick"}]),
        Run(f"{NODE} bios setting list $node --long", Has({"name": "mode", "value": "quick"})),
        Run(f"{NODE} bios setting show $node mode", {"name": "mode", "value": "quick"}),
    ],
}

SCENARIOS |= {
    "ports": [
        *node(),
        *node(name="other"),
        Run("baremetal port create 52:54:00:$mac --node $node --extra a=b --pxe-enabled false --local-link-connection switch_id=0a:1b:2c:3d:4e:5f --local-link-connection port_id=Gi1 --physical-network physnet-$run --name port-$run --description text --category tenant --vendor acme", {
            "uuid": SOME, "node_uuid": "$node", "address": "52:54:00:$mac", "extra": {"a": "b"}, "pxe_enabled": False, "local_link_connection": {"switch_id": "0a:1b:2c:3d:4e:5f", "port_id": "Gi1"},
            "physical_network": "physnet-$run", "name": "port-$run", "is_smartnic": False, "portgroup_uuid": None,
        }, keep={"port": "uuid"}),
        Ask("GET /v1/ports/$port", holds={"description": "text", "category": "tenant", "vendor": "acme"}),
        Run("baremetal port create nonsense --node $node", fails="(HTTP 400)"),
        Run("baremetal port list --node $node", [{"uuid": "$port", "address": "52:54:00:$mac"}]),
        Run("baremetal port list --address 52:54:00:$mac --long", [{"uuid": "$port", "node_uuid": "$node", "extra": {"a": "b"}, "pxe_enabled": False}]),
        Run("baremetal port list --node $node --fields uuid name --sort uuid:desc --limit 5", [{"uuid": "$port", "name": "port-$run"}]),
        Run("baremetal port group create --node $node --name group-$run", {"uuid": SOME}, keep={"group": "uuid"}),
        Run("baremetal port set $port --port-group $group"),
        Ask("GET /v1/ports/$port", holds={"portgroup_uuid": "$group"}),
        Run("baremetal port set $port --address 52:54:01:$mac --extra c=d --pxe-enabled --name renamed-$run --local-link-connection port_id=Gi2 --description more"),
        Run("baremetal port show $port", {
            "address": "52:54:01:$mac", "extra": {"a": "b", "c": "d"}, "portgroup_uuid": "$group", "pxe_enabled": True, "name": "renamed-$run", "physical_network": "physnet-$run",
            "local_link_connection": {"port_id": "Gi2"}, "description": "more", "updated_at": SOME,
        }),
        Run("baremetal port show --address 52:54:01:$mac", {"uuid": "$port"}),
        Run("baremetal port show renamed-$run --fields uuid address", {"uuid": "$port", "address": "52:54:01:$mac", "extra": GONE}),
        Run("baremetal port list --port-group $group", [{"uuid": "$port"}]),
        Run("baremetal port unset $port --port-group"),
        Run("baremetal port unset $port --extra a --physical-network --name --description --category --vendor"),
        Run("baremetal port show $port", {"extra": {"a": GONE, "c": "d"}, "portgroup_uuid": None, "physical_network": None, "name": None, "local_link_connection": {"port_id": "Gi2", "switch_id": SOME}, "description": ANY}),
        Run("baremetal port set $port --node $other"),
        Run("baremetal port show $port", {"node_uuid": "$other"}),
        Run("baremetal port delete $port", Like("Deleted port $port")),
        Ask("GET /v1/ports/$port", status=404),
        Run("baremetal port delete $port", fails="(HTTP 404)"),
    ],
    "port groups": [
        *node(),
        Run("baremetal port group create --node $node --address 52:54:02:$mac --name group-$run --extra a=b --mode 802.3ad --property miimon=100 --unsupport-standalone-ports --physical-network physnet-$run", {
            "uuid": SOME, "node_uuid": "$node", "address": "52:54:02:$mac", "name": "group-$run", "extra": {"a": "b"}, "mode": "802.3ad", "properties": {"miimon": 100}, "standalone_ports_supported": False,
            "physical_network": "physnet-$run",
        }, keep={"group": "uuid"}),
        Run("baremetal port group list", Has({"uuid": "$group", "address": "52:54:02:$mac", "name": "group-$run"})),
        Run("baremetal port group list --node $node --long", [{"uuid": "$group", "mode": "802.3ad", "extra": {"a": "b"}}]),
        Run("baremetal port group list --address 52:54:02:$mac --fields name", [{"name": "group-$run"}]),
        Run("baremetal port group set $group --address 52:54:03:$mac --name renamed-$run --extra c=d --mode balance-rr --property miimon=50 --support-standalone-ports"),
        Run("baremetal port group show renamed-$run", {"uuid": "$group", "address": "52:54:03:$mac", "extra": {"a": "b", "c": "d"}, "mode": "balance-rr", "properties": {"miimon": 50}, "standalone_ports_supported": True}),
        Run("baremetal port group show --address 52:54:03:$mac", {"uuid": "$group"}),
        Run("baremetal port group unset $group --name --address --extra a --property miimon --physical-network"),
        Run("baremetal port group show $group", {"name": None, "address": None, "extra": {"a": GONE, "c": "d"}, "properties": {"miimon": GONE}, "physical_network": None}),
        Run("baremetal port create 52:54:04:$mac --node $node --port-group $group", {"portgroup_uuid": "$group"}, keep={"port": "uuid"}),
        Run("baremetal port group delete $group", fails="(HTTP 4"),
        Run("baremetal port delete $port"),
        Run("baremetal port group delete $group", Like("Deleted port group $group")),
        Ask("GET /v1/portgroups/$group", status=404),
    ],
    "volumes": [
        *manageable("--storage-interface fake"),
        *powered_off(),
        Run("baremetal volume connector create --node $node --type iqn --connector-id iqn.2026-01.org.example:$run --extra a=b", {"uuid": SOME, "node_uuid": "$node", "type": "iqn", "connector_id": "iqn.2026-01.org.example:$run", "extra": {"a": "b"}}, keep={"connector": "uuid"}),
        Run("baremetal volume connector list --node $node", [{"uuid": "$connector", "node_uuid": "$node", "type": "iqn", "connector_id": "iqn.2026-01.org.example:$run"}]),
        Run("baremetal volume connector list --long", Has({"uuid": "$connector", "extra": {"a": "b"}})),
        Run("baremetal volume connector list --node $node --fields uuid type --sort uuid:asc", [{"uuid": "$connector", "type": "iqn"}]),
        Run("baremetal volume connector set $connector --connector-id 10.0.0.1-$run --type ip --extra c=d"),
        Run("baremetal volume connector show $connector", {"type": "ip", "connector_id": "10.0.0.1-$run", "extra": {"a": "b", "c": "d"}, "updated_at": SOME}),
        Run("baremetal volume connector unset $connector --extra a"),
        Run("baremetal volume connector show $connector --fields extra", {"extra": {"a": GONE, "c": "d"}, "uuid": GONE}),
        Run("baremetal volume target create --node $node --type iscsi --property target_iqn=iqn.x --boot-index 0 --volume-id vol-$run --extra a=b", {"uuid": SOME, "node_uuid": "$node", "volume_type": "iscsi", "properties": {"target_iqn": "iqn.x"}, "boot_index": 0, "volume_id": "vol-$run", "extra": {"a": "b"}}, keep={"target": "uuid"}),
        Run("baremetal volume target list --node $node", [{"uuid": "$target", "volume_type": "iscsi", "boot_index": 0, "volume_id": "vol-$run"}]),
        Run("baremetal volume target list --long", Has({"uuid": "$target", "extra": {"a": "b"}, "properties": {"target_iqn": "iqn.x"}})),
        Run("baremetal volume target set $target --type fibre_channel --boot-index 1 --volume-id moved-$run --property lun=3 --extra c=d"),
        Run("baremetal volume target show $target", {"volume_type": "fibre_channel", "boot_index": 1, "volume_id": "moved-$run", "properties": {"target_iqn": "iqn.x", "lun": 3}, "extra": {"a": "b", "c": "d"}}),
        Run("baremetal volume target unset $target --extra a --property lun"),
        Run("baremetal volume target show $target --fields extra properties", {"extra": {"a": GONE}, "properties": {"lun": GONE}}),
        Run("baremetal volume target delete $target", Like("Deleted volume target $target")),
        Ask("GET /v1/volume/targets/$target", status=404),
        Run("baremetal volume connector delete $connector", Like("Deleted volume connector $connector")),
        Ask("GET /v1/volume/connectors/$connector", status=404),
    ],
    "allocations": [
        *available("--resource-class alloc-$run"),
        *powered_off(),
        Run(f"{NODE} trait add $node CUSTOM_GPU"),
        Run("baremetal allocation create --resource-class alloc-$run --trait CUSTOM_GPU --name allocation-$run --extra a=b --candidate-node $node --wait 30", {
            "uuid": SOME, "state": "active", "node_uuid": "$node", "resource_class": "alloc-$run", "name": "allocation-$run", "traits": ["CUSTOM_GPU"], "candidate_nodes": ["$node"], "extra": {"a": "b"}, "last_error": None,
        }, keep={"allocation": "uuid"}),
        Run(f"{NODE} show $node", {"instance_uuid": "$allocation", "allocation_uuid": "$allocation", "instance_info": {"traits": ["CUSTOM_GPU"]}}),
        Run("baremetal allocation list", Has({"uuid": "$allocation", "name": "allocation-$run", "state": "active", "node_uuid": "$node", "resource_class": "alloc-$run"})),
        Run("baremetal allocation list --resource-class alloc-$run --state active --long", [{"uuid": "$allocation", "candidate_nodes": ["$node"], "extra": {"a": "b"}}]),
        Run("baremetal allocation list --node $node --fields uuid state", [{"uuid": "$allocation", "state": "active"}]),
        Run("baremetal allocation set $allocation --name renamed-$run --extra c=d"),
        Run("baremetal allocation show renamed-$run", {"uuid": "$allocation", "extra": {"a": "b", "c": "d"}}),
        Run("baremetal allocation unset $allocation --name --extra a"),
        Run("baremetal allocation show $allocation --fields name extra", {"name": None, "extra": {"a": GONE, "c": "d"}}),
        Run("baremetal allocation create --resource-class none-$run --wait 30", fails="none-$run"),
        Run("baremetal allocation list --resource-class none-$run --state error", [{"state": "error", "node_uuid": None}]),
        Run("baremetal allocation delete $allocation", Like("Deleted allocation $allocation")),
        Ask("GET /v1/allocations/$allocation", status=404),
        Run(f"{NODE} show $node", {"instance_uuid": None, "allocation_uuid": None}),
    ],
    "deploy templates": [
        Run("baremetal deploy template create CUSTOM_T_$RUN --extra a=b --steps " + steps(step("bios", "apply_configuration", 150, settings=[])), {"uuid": SOME, "name": "CUSTOM_T_$RUN", "extra": {"a": "b"}, "steps": [{"interface": "bios", "step": "apply_configuration", "priority": 150, "args": {"settings": []}}]}, keep={"template": "uuid"}),
        Run("baremetal deploy template create lower_$run --steps " + steps(step("bios", "apply_configuration", 150)), fails="(HTTP 400)"),
        Run("baremetal deploy template list", Has({"uuid": "$template", "name": "CUSTOM_T_$RUN"})),
        Run("baremetal deploy template list --long", Has({"uuid": "$template", "extra": {"a": "b"}})),
        Run("baremetal deploy template list --fields name --sort name:asc", Has({"name": "CUSTOM_T_$RUN"})),
        Run("baremetal deploy template set $template --name CUSTOM_U_$RUN --extra c=d --steps " + steps(step("raid", "create_configuration", 10))),
        Run("baremetal deploy template show CUSTOM_U_$RUN", {"uuid": "$template", "extra": {"a": "b", "c": "d"}, "steps": [{"interface": "raid", "step": "create_configuration", "priority": 10, "args": {}}]}),
        Run("baremetal deploy template unset $template --extra a"),
        Run("baremetal deploy template show $template --fields extra", {"extra": {"a": GONE, "c": "d"}}),
        Run("baremetal deploy template delete $template", Like("Deleted deploy template $template")),
        Ask("GET /v1/deploy_templates/$template", status=404),
    ],
    "runbooks": [
        Run("baremetal runbook create --name CUSTOM_R_$RUN --description text --extra a=b --steps " + steps(order(step("bios", "apply_configuration", settings=[]), 1)), {"uuid": SOME, "name": "CUSTOM_R_$RUN", "public": False, "extra": {"a": "b"}, "steps": [{"interface": "bios", "step": "apply_configuration", "order": 1, "args": {"settings": []}}]}, keep={"runbook": "uuid"}),
        Run("baremetal runbook list", Has({"uuid": "$runbook", "name": "CUSTOM_R_$RUN"})),
        Run("baremetal runbook list --long", Has({"uuid": "$runbook", "extra": {"a": "b"}})),
        Run("baremetal runbook list --fields name public", Has({"name": "CUSTOM_R_$RUN", "public": False})),
        Run("baremetal runbook set $runbook --name CUSTOM_S_$RUN --extra c=d --description more --steps " + steps(order(step("raid", "create_configuration"), 10))),
        # the client sends the truth as a text
        Run("baremetal runbook set $runbook --public true", fails="(HTTP 400)"),
        Run("baremetal runbook set $runbook --disable-ramdisk true"),
        Run("baremetal runbook show CUSTOM_S_$RUN", {"uuid": "$runbook", "public": False, "disable_ramdisk": True, "description": "more", "extra": {"a": "b", "c": "d"}, "steps": [{"interface": "raid", "step": "create_configuration", "order": 10}]}),
        Run("baremetal runbook unset $runbook --extra a --public --disable-ramdisk --description"),
        Run("baremetal runbook show $runbook", {"extra": {"a": GONE, "c": "d"}, "public": False, "disable_ramdisk": False, "description": None}),
        Run("baremetal runbook trait add $runbook CUSTOM_A CUSTOM_B", Like("CUSTOM_A")),
        Run("baremetal runbook trait list $runbook", Has({"traits": "CUSTOM_A"}, {"traits": "CUSTOM_B"})),
        Run("baremetal runbook trait remove $runbook CUSTOM_A", Like("CUSTOM_A")),
        Run("baremetal runbook trait list $runbook", [{"traits": "CUSTOM_B"}]),
        Run("baremetal runbook delete $runbook", Like("Deleted runbook $runbook")),
        Ask("GET /v1/runbooks/$runbook", status=404),
    ],
    "inspection rules": [
        # the client sends the number as a text
        Run("""baremetal inspection rule create --priority 7 --actions '[{"op": "log", "args": {"msg": "hello"}}]'""", fails="(HTTP 400)"),
        Run("""baremetal inspection rule create --description rule-$run --phase main --conditions '[{"op": "eq", "args": {"values": [1, 2]}}]' --actions '[{"op": "set-attribute", "args": ["/extra/seen", "yes"]}]'""", {
            "uuid": SOME, "description": "rule-$run", "priority": 0, "phase": "main", "sensitive": False,
        }, keep={"rule": "uuid"}),
        Run("baremetal inspection rule list", Has({"uuid": "$rule", "description": "rule-$run"})),
        Run("baremetal inspection rule list --long", Has({"uuid": "$rule"})),
        Run("baremetal inspection rule list --fields uuid phase", Has({"uuid": "$rule", "phase": "main"})),
        Run("""baremetal inspection rule set $rule --description more --actions '[{"op": "log", "args": {"msg": "hello"}}]'"""),
        Run("baremetal inspection rule show $rule", {"uuid": "$rule", "description": "more", "priority": 0, "actions": [{"op": "log", "args": {"msg": "hello"}}]}),
        Run("baremetal inspection rule unset $rule --description --priority"),
        Run("baremetal inspection rule show $rule --fields description priority", {"description": OneOf((None, "")), "priority": 0}),
        Run("baremetal inspection rule delete $rule", Like("Deleted rule $rule")),
        Ask("GET /v1/inspection_rules/$rule", status=404),
        Run("baremetal inspection rule show $rule", fails="(HTTP 404)"),
    ],
    "from a file": [
        Write("file", {
            "chassis": [{
                "description": "from-a-file-$run",
                "nodes": [{
                    "driver": "fake-hardware", "name": "file-$run", "properties": {"cpus": 4}, "ports": [{"address": "52:54:05:$mac"}],
                    "portgroups": [{"name": "file-group-$run", "ports": [{"address": "52:54:07:$mac"}]}],
                }],
            }],
        }),
        Run("baremetal create $file"),
        Ask("GET /v1/chassis", holds={"chassis": Has({"description": "from-a-file-$run"})}),
        Ask("GET /v1/nodes/file-$run", holds={"driver": "fake-hardware", "chassis_uuid": SOME, "properties": {"cpus": 4}}, keep={"node": "uuid"}),
        Ask("GET /v1/nodes/$node/ports", holds={"ports": Has({"address": "52:54:05:$mac"}, {"address": "52:54:07:$mac"})}),
        Ask("GET /v1/nodes/$node/portgroups", holds={"portgroups": [{"name": "file-group-$run"}]}),
        Run("baremetal create /nowhere/$run.json", fails="nowhere"),
    ],
    "the life of a node": [
        *node("--resource-class life-$run"),
        Run(f"{NODE} provide $node", fails="(HTTP 400)"),
        Run(f"{NODE} unhold $node", fails="(HTTP 400)"),
        Run(f"{NODE} manage $node --wait 30", Like("^$|Waiting")),
        state("manageable"),
        Run(f"{NODE} inspect $node --wait 30"),
        state("manageable", inspection_finished_at=SOME),
        Run(f"{NODE} clean $node --clean-steps " + steps(step("bios", "factory_reset"))),
        state("manageable", last_error=None),
        # decision 21: refused at once
        Run(f"{NODE} clean $node --clean-steps " + steps(step("raid", "no_such_step")), fails="(HTTP 400)", on=FERRIC),
        Run(f"{NODE} clean $node --clean-steps " + steps(step("raid", "no_such_step")), on=IRONIC),
        Ask("GET /v1/nodes/$node", holds={"provision_state": "clean failed", "last_error": Like("no_such_step"), "reservation": None}, until=True, on=IRONIC),
        Run(f"{NODE} manage $node --wait 30", on=IRONIC),
        Run(f"{NODE} provide $node --wait 30"),
        state("available"),
        Run(f"{NODE} deploy $node --wait 30 --config-drive " + "'{\"meta_data\": {\"name\": \"vm\"}}'"),
        state("active", target_provision_state=None),
        Run(f"{NODE} deploy $node", fails="(HTTP 400)"),
        Run(f"{NODE} set $node --protected --protected-reason payroll"),
        Run(f"{NODE} undeploy $node", fails="(HTTP 403)"),
        Run(f"{NODE} unset $node --protected"),
        Run(f"{NODE} rescue $node --rescue-password secret"),
        state("rescue", instance_info={"rescue_password": ANY}),
        Run(f"{NODE} unrescue $node"),
        state("active"),
        # a real Ironic 39.0.0 without authentication answers 500 (conductor/deployments.py, auto_lessee)
        Run(f"{NODE} rebuild $node", on=FERRIC),
        state("active"),
        Run(f"{NODE} service $node --service-steps " + steps(step("vendor", "log_passthrough"))),
        state("active"),
        Run(f"{NODE} undeploy $node"),
        state("available", instance_info={}, target_provision_state=None),
        Run(f"{NODE} abort $node", fails="(HTTP 400)"),
        Run(f"{NODE} delete $node"),
        Ask("GET /v1/nodes/$node", status=404),
    ],
    "adoption": [
        *manageable(),
        Run(f"{NODE} set $node --instance-info image_source=http://127.0.0.1/image"),
        Run(f"{NODE} adopt $node"),
        state("active"),
    ],
    FERRIC_ONLY: [
        *manageable(),
        Run(f"{NODE} clean $node --clean-steps " + steps(step("power", "hold"), step("bios", "factory_reset"))),
        is_({"provision_state": "clean hold"}),
        Run(f"{NODE} unhold $node"),
        state("manageable", last_error=None),
        Run(f"{NODE} clean $node --clean-steps " + steps(step("power", "hold"))),
        is_({"provision_state": "clean hold"}),
        Run(f"{NODE} abort $node"),
        state("clean failed"),
    ],
    "an inventory": [
        *manageable("--inspect-interface agent"),
        Run("baremetal port create 52:54:06:$mac --node $node", {"uuid": SOME}),
        Run(f"{NODE} inspect $node"),
        state("inspect wait"),
        Run(f"{NODE} abort $node"),
        state("inspect failed", last_error=Like("(?i)abort")),
        Run(f"{NODE} history list $node", Has({"uuid": SOME, "severity": "ERROR", "event": Like("(?i)abort")}), keep={"event": "-1.uuid"}),
        Run(f"{NODE} history list $node --long", Has({"uuid": "$event", "conductor": SOME})),
        Run(f"{NODE} history get $node $event", {"uuid": "$event", "severity": "ERROR", "event": Like("(?i)abort"), "event_type": SOME}),
        Run(f"{NODE} inspect $node"),
        state("inspect wait"),
        Ask("POST /v1/continue_inspection", version=None, status=202, body={
            "inventory": {
                "interfaces": [{"name": "eth0", "mac_address": "52:54:06:$mac", "ipv4_address": None, "has_carrier": True}], "disks": [], "memory": {"physical_mb": 2048, "total": 2147483648},
                "cpu": {"count": 4, "architecture": "x86_64", "model_name": "a", "frequency": "1", "flags": []}, "boot": {"current_boot_mode": "uefi", "pxe_interface": None}, "bmc_address": None, "hostname": "h", "system_vendor": {},
            },
            "error": None, "boot_interface": "52:54:06:$mac",
        }, holds={"uuid": "$node"}),
        state("manageable", "$node", inspection_finished_at=SOME),
        Run(f"{NODE} inventory save $node", Like('"physical_mb": 2048')),
        Run(f"{NODE} inventory save $node --file $folder/inventory"),
        Ask("GET /v1/nodes/$node/inventory", holds={"inventory": {"memory": {"physical_mb": 2048}}, "plugin_data": ANY}),
    ],
    # what the others run inside one process, as a person does
    "the programs themselves": [
        Run("baremetal node create --driver fake-hardware --name program-$run", {"uuid": SOME, "name": "program-$run"}, keep={"node": "uuid"}, program="openstack"),
        Run("node list", Has({"uuid": "$node", "name": "program-$run"}), program="baremetal"),
        Run("baremetal node show nothing-$run", fails="Node nothing-$run could not be found.", program="openstack"),
        Run("node delete $node", Like("Deleted node $node"), program="baremetal"),
        Ask("GET /v1/nodes/$node", status=404),
    ],
}
