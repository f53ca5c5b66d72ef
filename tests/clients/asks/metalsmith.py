"""metalsmith (clients.md §5): openstacksdk, with allocations."""

from asks.words import IMAGE, UUID, VIF, add, ask, provision, reaches
from pattern import Has, Like, OneOf
from player import Ask, Run

METALSMITH = [
    ask(
        "GET /v1/nodes/detail?associated=False&provision_state=available&maintenance=False&resource_class=class-$run&conductor_group=",
        holds={
            "nodes": [
                {
                    "uuid": "$node",
                    "provision_state": "available",
                    "maintenance": False,
                    "instance_info": {},
                    "extra": {},
                }
            ]
        },
    ),
    ask(
        "POST /v1/allocations",
        {"name": "vm-$run", "resource_class": "class-$run", "candidate_nodes": ["$node"], "traits": []},
        201,
        {"uuid": UUID, "state": OneOf(("allocating", "active")), "name": "vm-$run"},
        version="1.60",
        keep={"allocation": "uuid"},
    ),
    ask(
        "GET /v1/allocations/$allocation",
        holds={"state": "active", "node_uuid": "$node", "resource_class": "class-$run", "last_error": None},
        version="1.60",
        until=True,
        never={"state": "error"},
    ),
    ask("GET /v1/nodes/$node", holds={"instance_uuid": "$allocation", "allocation_uuid": "$allocation"}),
    ask(
        "PATCH /v1/nodes/$node",
        [add("/instance_info/capabilities", {"boot_option": "local"})],
        holds={"instance_info": {"capabilities": {"boot_option": "local"}}},
    ),
    # a second host of this name, and one that finds no machine
    ask("POST /v1/allocations", {"name": "vm-$run", "resource_class": "class-$run"}, 409, version="1.60"),
    ask(
        "POST /v1/allocations",
        {"name": "late-$run", "resource_class": "class-$run"},
        201,
        version="1.60",
        keep={"late": "uuid"},
    ),
    ask(
        "GET /v1/allocations/late-$run",
        holds={"state": "error", "node_uuid": None, "last_error": Like("(?i)no available nodes|class-")},
        version="1.60",
        until=True,
    ),
    ask("DELETE /v1/allocations/$late", status=204, version="1.60"),
    # deploy
    ask("POST /v1/nodes/$node/vifs", {"id": VIF}, 204),
    ask(
        "PATCH /v1/nodes/$node",
        [
            add("/extra/metalsmith_created_ports", []),
            add("/extra/metalsmith_attached_ports", [VIF]),
            add("/instance_info/root_gb", 20),
            add("/instance_info/swap_mb", 64),
            add("/instance_info/traits", []),
            add("/instance_info/display_name", "vm-$run"),
            *(add(f"/instance_info/{key}", value) for key, value in IMAGE.items()),
        ],
        holds={
            "extra": {"metalsmith_attached_ports": [VIF]},
            "instance_info": {"root_gb": 20, "display_name": "vm-$run"},
        },
    ),
    ask("GET /v1/nodes/$node/validate", holds={"deploy": {"result": True}, "power": {"result": True}}),
    provision(
        "$node",
        "active",
        configdrive={
            "meta_data": {"uuid": "$node", "name": "vm-$run", "hostname": "vm-$run", "public_keys": {}},
            "network_data": {},
            "user_data": "",
        },
    ),
    reaches("GET /v1/nodes/$node", "active"),
    # list
    ask(
        "GET /v1/nodes/detail?associated=True",
        holds={"nodes": Has({"uuid": "$node", "allocation_uuid": "$allocation"})},
    ),
    ask("GET /v1/allocations", holds={"allocations": Has({"uuid": "$allocation", "name": "vm-$run"})}, version="1.60"),
    ask("GET /v1/allocations/vm-$run", holds={"node_uuid": "$node"}, version="1.60"),
    # an allocation goes with its instance, not before
    ask("DELETE /v1/allocations/$allocation", status=409, version="1.60"),
    # undeploy
    ask(
        "PATCH /v1/nodes/$node",
        [
            {"op": "remove", "path": "/extra/metalsmith_attached_ports"},
            {"op": "remove", "path": "/extra/metalsmith_created_ports"},
        ],
        holds={"extra": {}},
    ),
    ask(f"DELETE /v1/nodes/$node/vifs/{VIF}", status=204),
    provision("$node", "deleted"),
    reaches("GET /v1/nodes/$node", "available", instance_uuid=None, allocation_uuid=None, instance_info={}),
    ask("GET /v1/allocations/$allocation", status=404, version="1.60"),
]

# The program itself, as it is on PyPI.
WORDS = "deploy --image http://127.0.0.1/image.raw --image-checksum 0123456789abcdef0123456789abcdef --root-size 20"
ITSELF = [
    Run(
        f"{WORDS} --resource-class class-$run --hostname vm-$run --wait 40",
        {"hostname": "vm-$run", "state": "active", "allocation": {"state": "active"}},
        program="metalsmith",
    ),
    Ask("GET /v1/allocations/vm-$run", holds={"state": "active", "node_uuid": "$node"}),
    Ask("GET /v1/nodes/$node", holds={"provision_state": "active", "instance_info": {"root_gb": 20}}),
    Run("list", {"vm-$run": {"hostname": "vm-$run", "state": "active"}}, program="metalsmith"),
    Run("show vm-$run", {"vm-$run": {"hostname": "vm-$run"}}, program="metalsmith"),
    Run(f"{WORDS} --resource-class class-$run", fails="class-$run", program="metalsmith"),
    Run("undeploy --wait 40 vm-$run", program="metalsmith"),
    Ask("GET /v1/nodes/$node", holds={"provision_state": "available", "instance_uuid": None, "extra": {}}, until=True),
    Ask("GET /v1/allocations/vm-$run", status=404),
]
