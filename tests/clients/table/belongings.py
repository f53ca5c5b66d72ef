"""What belongs to a node: ports, port groups, volumes."""

from pattern import ANY, GONE, SOME, Like, Has
from player import FERRIC, Ask, Row, Run
from table.words import manageable, node, powered_off

SCENARIOS: dict[str, list[Row]] = {
    "ports": [
        *node(),
        *node(name="other"),
        Run(
            "baremetal port create 52:54:00:$mac --node $node --extra a=b --pxe-enabled false --local-link-connection switch_id=0a:1b:2c:3d:4e:5f --local-link-connection port_id=Gi1 --physical-network physnet-$run --name port-$run --description text --category tenant --vendor acme",
            {
                "uuid": SOME,
                "node_uuid": "$node",
                "address": "52:54:00:$mac",
                "extra": {"a": "b"},
                "pxe_enabled": False,
                "local_link_connection": {"switch_id": "0a:1b:2c:3d:4e:5f", "port_id": "Gi1"},
                "physical_network": "physnet-$run",
                "name": "port-$run",
                "is_smartnic": False,
                "portgroup_uuid": None,
            },
            keep={"port": "uuid"},
        ),
        Ask("GET /v1/ports/$port", holds={"description": "text", "category": "tenant", "vendor": "acme"}),
        Run("baremetal port create nonsense --node $node", fails="(HTTP 400)"),
        Run("baremetal port list --node $node", [{"uuid": "$port", "address": "52:54:00:$mac"}]),
        Run(
            "baremetal port list --address 52:54:00:$mac --long",
            [{"uuid": "$port", "node_uuid": "$node", "extra": {"a": "b"}, "pxe_enabled": False}],
        ),
        Run(
            "baremetal port list --node $node --fields uuid name --sort uuid:desc --limit 5",
            [{"uuid": "$port", "name": "port-$run"}],
        ),
        Run("baremetal port group create --node $node --name group-$run", {"uuid": SOME}, keep={"group": "uuid"}),
        Run("baremetal port set $port --port-group $group"),
        Ask("GET /v1/ports/$port", holds={"portgroup_uuid": "$group"}),
        Run(
            "baremetal port set $port --address 52:54:01:$mac --extra c=d --pxe-enabled --name renamed-$run --local-link-connection port_id=Gi2 --description more"
        ),
        Run(
            "baremetal port show $port",
            {
                "address": "52:54:01:$mac",
                "extra": {"a": "b", "c": "d"},
                "portgroup_uuid": "$group",
                "pxe_enabled": True,
                "name": "renamed-$run",
                "physical_network": "physnet-$run",
                "local_link_connection": {"port_id": "Gi2"},
                "description": "more",
                "updated_at": SOME,
            },
        ),
        Run("baremetal port show --address 52:54:01:$mac", {"uuid": "$port"}),
        Run(
            "baremetal port show renamed-$run --fields uuid address",
            {"uuid": "$port", "address": "52:54:01:$mac", "extra": GONE},
        ),
        Run("baremetal port list --port-group $group", [{"uuid": "$port"}]),
        Run("baremetal port unset $port --port-group"),
        Run("baremetal port unset $port --extra a --physical-network --name --description --category --vendor"),
        Run(
            "baremetal port show $port",
            {
                "extra": {"a": GONE, "c": "d"},
                "portgroup_uuid": None,
                "physical_network": None,
                "name": None,
                "local_link_connection": {"port_id": "Gi2", "switch_id": SOME},
                "description": None,
            },
        ),
        # a real Ironic 39.0.0 answers 500 (KeyError: 'address')
        Run("baremetal port set $port --node $other", on=FERRIC),
        Run("baremetal port show $port", {"node_uuid": "$other"}, on=FERRIC),
        Run("baremetal port delete $port", Like("Deleted port $port")),
        Ask("GET /v1/ports/$port", status=404),
        Run("baremetal port delete $port", fails="(HTTP 404)"),
    ],
    "port groups": [
        *node(),
        Run(
            "baremetal port group create --node $node --address 52:54:02:$mac --name group-$run --extra a=b --mode 802.3ad --property miimon=100 --unsupport-standalone-ports --physical-network physnet-$run",
            {
                "uuid": SOME,
                "node_uuid": "$node",
                "address": "52:54:02:$mac",
                "name": "group-$run",
                "extra": {"a": "b"},
                "mode": "802.3ad",
                "properties": {"miimon": 100},
                "standalone_ports_supported": False,
                "physical_network": "physnet-$run",
            },
            keep={"group": "uuid"},
        ),
        Run("baremetal port group list", Has({"uuid": "$group", "address": "52:54:02:$mac", "name": "group-$run"})),
        Run(
            "baremetal port group list --node $node --long",
            [{"uuid": "$group", "mode": "802.3ad", "extra": {"a": "b"}}],
        ),
        Run("baremetal port group list --address 52:54:02:$mac --fields name", [{"name": "group-$run"}]),
        Run(
            "baremetal port group set $group --address 52:54:03:$mac --name renamed-$run --extra c=d --mode balance-rr --property miimon=50 --support-standalone-ports"
        ),
        Run(
            "baremetal port group show renamed-$run",
            {
                "uuid": "$group",
                "address": "52:54:03:$mac",
                "extra": {"a": "b", "c": "d"},
                "mode": "balance-rr",
                "properties": {"miimon": 50},
                "standalone_ports_supported": True,
            },
        ),
        Run("baremetal port group show --address 52:54:03:$mac", {"uuid": "$group"}),
        Run("baremetal port group unset $group --name --address --extra a --property miimon --physical-network"),
        Run(
            "baremetal port group show $group",
            {
                "name": None,
                "address": None,
                "extra": {"a": GONE, "c": "d"},
                "properties": {"miimon": GONE},
                "physical_network": None,
            },
        ),
        Run(
            "baremetal port create 52:54:04:$mac --node $node --port-group $group",
            {"portgroup_uuid": "$group"},
            keep={"port": "uuid"},
        ),
        Run("baremetal port group delete $group", fails="contains ports"),
        Run("baremetal port delete $port"),
        Run("baremetal port group delete $group", Like("Deleted port group $group")),
        Ask("GET /v1/portgroups/$group", status=404),
    ],
    "volumes": [
        *manageable("--storage-interface fake"),
        *powered_off(),
        Run(
            "baremetal volume connector create --node $node --type iqn --connector-id iqn.2026-01.org.example:$run --extra a=b",
            {
                "uuid": SOME,
                "node_uuid": "$node",
                "type": "iqn",
                "connector_id": "iqn.2026-01.org.example:$run",
                "extra": {"a": "b"},
            },
            keep={"connector": "uuid"},
        ),
        Run(
            "baremetal volume connector list --node $node",
            [
                {
                    "uuid": "$connector",
                    "node_uuid": "$node",
                    "type": "iqn",
                    "connector_id": "iqn.2026-01.org.example:$run",
                }
            ],
        ),
        Run("baremetal volume connector list --long", Has({"uuid": "$connector", "extra": {"a": "b"}})),
        Run(
            "baremetal volume connector list --node $node --fields uuid type --sort uuid:asc",
            [{"uuid": "$connector", "type": "iqn"}],
        ),
        Run("baremetal volume connector set $connector --connector-id 10.0.0.1-$run --type ip --extra c=d"),
        Run(
            "baremetal volume connector show $connector",
            {"type": "ip", "connector_id": "10.0.0.1-$run", "extra": {"a": "b", "c": "d"}, "updated_at": SOME},
        ),
        Run("baremetal volume connector unset $connector --extra a"),
        Run(
            "baremetal volume connector show $connector --fields extra", {"extra": {"a": GONE, "c": "d"}, "uuid": GONE}
        ),
        Run(
            "baremetal volume target create --node $node --type iscsi --property target_iqn=iqn.x --boot-index 0 --volume-id vol-$run --extra a=b",
            {
                "uuid": SOME,
                "node_uuid": "$node",
                "volume_type": "iscsi",
                "properties": {"target_iqn": "iqn.x"},
                "boot_index": 0,
                "volume_id": "vol-$run",
                "extra": {"a": "b"},
            },
            keep={"target": "uuid"},
        ),
        Run(
            "baremetal volume target list --node $node",
            [{"uuid": "$target", "volume_type": "iscsi", "boot_index": 0, "volume_id": "vol-$run"}],
        ),
        Run(
            "baremetal volume target list --long",
            Has({"uuid": "$target", "extra": {"a": "b"}, "properties": {"target_iqn": "iqn.x"}}),
        ),
        Run(
            "baremetal volume target set $target --type fibre_channel --boot-index 1 --volume-id moved-$run --property lun=3 --extra c=d"
        ),
        Run(
            "baremetal volume target show $target",
            {
                "volume_type": "fibre_channel",
                "boot_index": 1,
                "volume_id": "moved-$run",
                "properties": {"target_iqn": "iqn.x", "lun": 3},
                "extra": {"a": "b", "c": "d"},
            },
        ),
        Run("baremetal volume target unset $target --extra a --property lun"),
        Run(
            "baremetal volume target show $target --fields extra properties",
            {"extra": {"a": GONE}, "properties": {"lun": GONE}},
        ),
        Run("baremetal volume target delete $target", Like("Deleted volume target $target")),
        Ask("GET /v1/volume/targets/$target", status=404),
        Run("baremetal volume connector delete $connector", Like("Deleted volume connector $connector")),
        Ask("GET /v1/volume/connectors/$connector", status=404),
    ],
}
