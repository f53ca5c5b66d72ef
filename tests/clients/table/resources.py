"""What there is besides nodes."""

from pattern import ANY, GONE, SOME, Has, Like, OneOf
from player import Ask, Row, Run, Write
from table.words import NODE, available, node, order, powered_off, step, steps

SCENARIOS: dict[str, list[Row]] = {
    "chassis": [
        Run(
            "baremetal chassis create --description rack-$run --extra row=a",
            {"uuid": SOME, "description": "rack-$run", "extra": {"row": "a"}, "created_at": SOME, "updated_at": None},
            keep={"chassis": "uuid"},
        ),
        Run("baremetal chassis list", Has({"uuid": "$chassis", "description": "rack-$run"})),
        Run("baremetal chassis list --long", Has({"uuid": "$chassis", "extra": {"row": "a"}})),
        Run(
            "baremetal chassis list --fields uuid extra --sort uuid:desc",
            Has({"uuid": "$chassis", "extra": {"row": "a"}}),
        ),
        Run("baremetal chassis set $chassis --description moved --extra row=b --extra col=c"),
        Run(
            "baremetal chassis show $chassis",
            {"uuid": "$chassis", "description": "moved", "extra": {"row": "b", "col": "c"}, "updated_at": SOME},
        ),
        Run("baremetal chassis unset $chassis --description --extra col"),
        Run(
            "baremetal chassis show $chassis --fields description extra",
            {"description": OneOf((None, "")), "extra": {"row": "b", "col": GONE}},
        ),
        *node("--chassis-uuid $chassis"),
        Run("baremetal chassis delete $chassis", fails="(HTTP 400)"),
        Run(f"{NODE} delete $node"),
        Run("baremetal chassis delete $chassis", Like("Deleted chassis $chassis")),
        Ask("GET /v1/chassis/$chassis", status=404),
        Run("baremetal chassis show $chassis", fails="(HTTP 404)"),
    ],
    "conductors, drivers and shards": [
        Run(
            "baremetal conductor list",
            Has({"hostname": SOME, "conductor_group": "", "alive": True}),
            keep={"host": "0.hostname"},
        ),
        Run(
            "baremetal conductor list --long",
            Has(
                {
                    "hostname": "$host",
                    "drivers": Has("fake-hardware", "ipmi", "redfish"),
                    "created_at": SOME,
                    "updated_at": SOME,
                }
            ),
        ),
        Run(
            "baremetal conductor show $host",
            {
                "hostname": "$host",
                "alive": True,
                "conductor_group": "",
                "drivers": Has("fake-hardware", "ipmi", "manual-management", "redfish"),
            },
        ),
        Run("baremetal conductor show nobody-$run", fails="(HTTP 404)"),
        Run(
            "baremetal driver list",
            Has(
                {"name": "fake-hardware", "hosts": "$host"},
                {"name": "ipmi"},
                {"name": "manual-management"},
                {"name": "redfish"},
            ),
        ),
        Run(
            "baremetal driver list --long",
            Has(
                {
                    "name": "ipmi",
                    "type": "dynamic",
                    "default_power_interface": "ipmitool",
                    "default_network_interface": "noop",
                }
            ),
        ),
        Run("baremetal driver list --type classic", []),
        Run(
            "baremetal driver show fake-hardware",
            {
                "name": "fake-hardware",
                "type": "dynamic",
                "default_deploy_interface": "fake",
                "enabled_vendor_interfaces": Like("fake"),
                "hosts": "$host",
            },
        ),
        Run("baremetal driver show nothing", fails="(HTTP 404)"),
        Run(
            "baremetal driver property list ipmi",
            Has(
                {"property": "ipmi_address", "description": Like("(?i)required")},
                {"property": "ipmi_password"},
                {"property": "deploy_kernel"},
            ),
        ),
        Run(
            "baremetal driver raid property list fake-hardware",
            Has({"property": "size_gb"}, {"property": "raid_level"}, {"property": "is_root_volume"}),
        ),
        Run("baremetal driver passthru list fake-hardware", []),
        Run("baremetal driver passthru call fake-hardware nothing --arg a=b", fails="No handler for method nothing"),
        *node("--shard shard-$run"),
        Run("baremetal shard list", Has({"name": "shard-$run", "count": 1})),
        Run(f"{NODE} list --shards shard-$run", [{"uuid": "$node"}]),
    ],
    "allocations": [
        *available("--resource-class alloc-$run"),
        *powered_off(),
        Run(f"{NODE} trait add $node CUSTOM_GPU"),
        Run(
            "baremetal allocation create --resource-class alloc-$run --trait CUSTOM_GPU --name allocation-$run --extra a=b --candidate-node $node --wait 30",
            {
                "uuid": SOME,
                "state": "active",
                "node_uuid": "$node",
                "resource_class": "alloc-$run",
                "name": "allocation-$run",
                "traits": ["CUSTOM_GPU"],
                "candidate_nodes": ["$node"],
                "extra": {"a": "b"},
                "last_error": None,
            },
            keep={"allocation": "uuid"},
        ),
        Run(
            f"{NODE} show $node",
            {
                "instance_uuid": "$allocation",
                "allocation_uuid": "$allocation",
                "instance_info": {"traits": ["CUSTOM_GPU"]},
            },
        ),
        Run(
            "baremetal allocation list",
            Has(
                {
                    "uuid": "$allocation",
                    "name": "allocation-$run",
                    "state": "active",
                    "node_uuid": "$node",
                    "resource_class": "alloc-$run",
                }
            ),
        ),
        Run(
            "baremetal allocation list --resource-class alloc-$run --state active --long",
            [{"uuid": "$allocation", "candidate_nodes": ["$node"], "extra": {"a": "b"}}],
        ),
        Run("baremetal allocation list --node $node --fields uuid state", [{"uuid": "$allocation", "state": "active"}]),
        Run("baremetal allocation set $allocation --name renamed-$run --extra c=d"),
        Run("baremetal allocation show renamed-$run", {"uuid": "$allocation", "extra": {"a": "b", "c": "d"}}),
        Run("baremetal allocation unset $allocation --name --extra a"),
        Run(
            "baremetal allocation show $allocation --fields name extra", {"name": None, "extra": {"a": GONE, "c": "d"}}
        ),
        Run("baremetal allocation create --resource-class none-$run --wait 30", fails="none-$run"),
        Run(
            "baremetal allocation list --resource-class none-$run --state error",
            [{"state": "error", "node_uuid": None}],
        ),
        Run("baremetal allocation delete $allocation", Like("Deleted allocation $allocation")),
        Ask("GET /v1/allocations/$allocation", status=404),
        Run(f"{NODE} show $node", {"instance_uuid": None, "allocation_uuid": None}),
    ],
    "deploy templates": [
        Run(
            "baremetal deploy template create CUSTOM_T_$RUN --extra a=b --steps "
            + steps(step("bios", "apply_configuration", 150, settings=[])),
            {
                "uuid": SOME,
                "name": "CUSTOM_T_$RUN",
                "extra": {"a": "b"},
                "steps": [
                    {"interface": "bios", "step": "apply_configuration", "priority": 150, "args": {"settings": []}}
                ],
            },
            keep={"template": "uuid"},
        ),
        Run(
            "baremetal deploy template create lower_$run --steps " + steps(step("bios", "apply_configuration", 150)),
            fails="(HTTP 400)",
        ),
        Run("baremetal deploy template list", Has({"uuid": "$template", "name": "CUSTOM_T_$RUN"})),
        Run("baremetal deploy template list --long", Has({"uuid": "$template", "extra": {"a": "b"}})),
        Run("baremetal deploy template list --fields name --sort name:asc", Has({"name": "CUSTOM_T_$RUN"})),
        Run(
            "baremetal deploy template set $template --name CUSTOM_U_$RUN --extra c=d --steps "
            + steps(step("raid", "create_configuration", 10))
        ),
        Run(
            "baremetal deploy template show CUSTOM_U_$RUN",
            {
                "uuid": "$template",
                "extra": {"a": "b", "c": "d"},
                "steps": [{"interface": "raid", "step": "create_configuration", "priority": 10, "args": {}}],
            },
        ),
        Run("baremetal deploy template unset $template --extra a"),
        Run("baremetal deploy template show $template --fields extra", {"extra": {"a": GONE, "c": "d"}}),
        Run("baremetal deploy template delete $template", Like("Deleted deploy template $template")),
        Ask("GET /v1/deploy_templates/$template", status=404),
    ],
    "runbooks": [
        Run(
            "baremetal runbook create --name CUSTOM_R_$RUN --description text --extra a=b --steps "
            + steps(order(step("bios", "apply_configuration", settings=[]), 1)),
            {
                "uuid": SOME,
                "name": "CUSTOM_R_$RUN",
                "public": False,
                "extra": {"a": "b"},
                "steps": [{"interface": "bios", "step": "apply_configuration", "order": 1, "args": {"settings": []}}],
            },
            keep={"runbook": "uuid"},
        ),
        Run("baremetal runbook list", Has({"uuid": "$runbook", "name": "CUSTOM_R_$RUN"})),
        Run("baremetal runbook list --long", Has({"uuid": "$runbook", "extra": {"a": "b"}})),
        Run("baremetal runbook list --fields name public", Has({"name": "CUSTOM_R_$RUN", "public": False})),
        Run(
            "baremetal runbook set $runbook --name CUSTOM_S_$RUN --extra c=d --description more --steps "
            + steps(order(step("raid", "create_configuration"), 10))
        ),
        # the client sends the truth as a text
        Run("baremetal runbook set $runbook --public true", fails="(HTTP 400)"),
        Run("baremetal runbook set $runbook --disable-ramdisk true"),
        Run(
            "baremetal runbook show CUSTOM_S_$RUN",
            {
                "uuid": "$runbook",
                "public": False,
                "disable_ramdisk": True,
                "description": "more",
                "extra": {"a": "b", "c": "d"},
                "steps": [{"interface": "raid", "step": "create_configuration", "order": 10}],
            },
        ),
        Run("baremetal runbook unset $runbook --extra a --public --disable-ramdisk --description"),
        Run(
            "baremetal runbook show $runbook",
            {"extra": {"a": GONE, "c": "d"}, "public": False, "disable_ramdisk": False, "description": None},
        ),
        Run("baremetal runbook trait add $runbook CUSTOM_A CUSTOM_B", Like("CUSTOM_A")),
        Run("baremetal runbook trait list $runbook", Has({"traits": "CUSTOM_A"}, {"traits": "CUSTOM_B"})),
        Run("baremetal runbook trait remove $runbook CUSTOM_A", Like("CUSTOM_A")),
        Run("baremetal runbook trait list $runbook", [{"traits": "CUSTOM_B"}]),
        Run("baremetal runbook delete $runbook", Like("Deleted runbook $runbook")),
        Ask("GET /v1/runbooks/$runbook", status=404),
    ],
    "inspection rules": [
        # the client sends the number as a text
        Run(
            """baremetal inspection rule create --priority 7 --actions '[{"op": "log", "args": {"msg": "hello"}}]'""",
            fails="(HTTP 400)",
        ),
        Run(
            """baremetal inspection rule create --description rule-$run --phase main --conditions '[{"op": "eq", "args": {"values": [1, 2]}}]' --actions '[{"op": "set-attribute", "args": ["/extra/seen", "yes"]}]'""",
            {"uuid": SOME, "description": "rule-$run", "priority": 0, "phase": "main", "sensitive": False},
            keep={"rule": "uuid"},
        ),
        Run("baremetal inspection rule list", Has({"uuid": "$rule", "description": "rule-$run"})),
        Run("baremetal inspection rule list --long", Has({"uuid": "$rule"})),
        Run("baremetal inspection rule list --fields uuid phase", Has({"uuid": "$rule", "phase": "main"})),
        Run(
            """baremetal inspection rule set $rule --description more --actions '[{"op": "log", "args": {"msg": "hello"}}]'"""
        ),
        Run(
            "baremetal inspection rule show $rule",
            {
                "uuid": "$rule",
                "description": "more",
                "priority": 0,
                "actions": [{"op": "log", "args": {"msg": "hello"}}],
            },
        ),
        Run("baremetal inspection rule unset $rule --description --priority"),
        Run(
            "baremetal inspection rule show $rule --fields description priority",
            {"description": OneOf((None, "")), "priority": 0},
        ),
        Run("baremetal inspection rule delete $rule", Like("Deleted rule $rule")),
        Ask("GET /v1/inspection_rules/$rule", status=404),
        Run("baremetal inspection rule show $rule", fails="(HTTP 404)"),
    ],
    "from a file": [
        Write(
            "file",
            {
                "chassis": [
                    {
                        "description": "from-a-file-$run",
                        "nodes": [
                            {
                                "driver": "fake-hardware",
                                "name": "file-$run",
                                "properties": {"cpus": 4},
                                "ports": [{"address": "52:54:05:$mac"}],
                                "portgroups": [{"name": "file-group-$run", "ports": [{"address": "52:54:07:$mac"}]}],
                            }
                        ],
                    }
                ]
            },
        ),
        Run("baremetal create $file"),
        Ask("GET /v1/chassis", holds={"chassis": Has({"description": "from-a-file-$run"})}),
        Ask(
            "GET /v1/nodes/file-$run",
            holds={"driver": "fake-hardware", "chassis_uuid": SOME, "properties": {"cpus": 4}},
            keep={"node": "uuid"},
        ),
        Ask(
            "GET /v1/nodes/$node/ports",
            holds={"ports": Has({"address": "52:54:05:$mac"}, {"address": "52:54:07:$mac"})},
        ),
        Ask("GET /v1/nodes/$node/portgroups", holds={"portgroups": [{"name": "file-group-$run"}]}),
        Run("baremetal create /nowhere/$run.json", fails="nowhere"),
    ],
}
