"""Requests that tables make: every gated field, verb, endpoint and filter at the version before it and at its own.

The tables are held beside microversions.md."""

# field, minor, a value that is accepted
NODE = [
    ("name", 5, '"%name"'), ("network_interface", 20, '"noop"'), ("resource_class", 21, '"gold"'),
    ("boot_interface", 31, '"fake"'), ("console_interface", 31, '"no-console"'), ("deploy_interface", 31, '"fake"'),
    ("inspect_interface", 31, '"no-inspect"'), ("management_interface", 31, '"fake"'), ("power_interface", 31, '"fake"'),
    ("raid_interface", 31, '"no-raid"'), ("vendor_interface", 31, '"no-vendor"'), ("storage_interface", 33, '"noop"'),
    ("rescue_interface", 38, '"no-rescue"'), ("bios_interface", 40, '"no-bios"'), ("conductor_group", 46, '""'),
    ("automated_clean", 47, "false"), ("description", 51, '"words"'), ("retired", 61, "true"),
    ("retired_reason", 61, '"old"'), ("lessee", 65, '"l"'), ("network_data", 66, '{"links": [], "networks": [], "services": []}'), ("boot_mode", 75, '"uefi"'),
    ("secure_boot", 75, "true"), ("shard", 82, '"s"'), ("parent_node", 83, '"$parent"'),
    ("firmware_interface", 86, '"no-firmware"'), ("disable_power_off", 95, "true"), ("instance_name", 104, '"i"'),
]
# what Ironic answers 500 to, or stores null for; nodes.req has them
NOT_TAKEN_AWAY = {
    "automated_clean", "conductor_group", "retired", "disable_power_off", "pxe_enabled", "is_smartnic",
    "available_for_dynamic_portgroup",
}
# only shown, or only patched
NODE_SHOWN = [
    ("driver_internal_info", 3), ("inspection_started_at", 6), ("inspection_finished_at", 6), ("clean_step", 7),
    ("raid_config", 12), ("target_raid_config", 12), ("traits", 37), ("fault", 42), ("deploy_step", 44),
    ("protected", 48), ("protected_reason", 48), ("conductor", 49), ("owner", 50), ("allocation_uuid", 52),
    ("service_step", 87), ("health", 109),
]
NODE_PATCHED = [("protected", 48, "false"), ("protected_reason", 48, "null"), ("owner", 50, '"o"')]
NODE_FILTERS = [
    ("provision_state=enroll", 9), ("driver=fake-hardware", 16), ("resource_class=x", 21), ("fault=power%20failure", 42),
    ("conductor_group=", 46), ("conductor=peer-conductor", 49), ("owner=x", 50), ("description_contains=x", 51),
    ("retired=true", 61), ("lessee=x", 65), ("project=x", 65), ("shard=x", 82), ("sharded=true", 82),
    ("include_children=true", 83), ("parent_node=$n", 83), ("instance_name=x", 104), ("detail=true", 43), ("fields=uuid", 8),
]
PORT = [
    ("local_link_connection", 19, '{"switch_id": "aa:bb:cc:dd:ee:ff", "port_id": "1"}'), ("pxe_enabled", 19, "true"),
    ("portgroup_uuid", 24, '"$g"'), ("physical_network", 34, '"p"'), ("is_smartnic", 53, "false"),
    ("local_link_connection", 53, '{"port_id": "1", "hostname": "h"}'), ("local_link_connection", 64, '{"network_type": "unmanaged"}'),
    ("name", 88, '"%name"'),
    ("local_link_connection", 90, '{"port_id": "1", "vtep-logical-switch": "a", "vtep-physical-switch": "b"}'),
    ("local_link_connection", 105, '{"port_id": "1", "vtep-logical-switch": "a", "vtep-physical-switch": "b"}'),
    ("description", 97, '"d"'), ("vendor", 100, '"v"'), ("category", 101, '"c"'),
    ("available_for_dynamic_portgroup", 111, "true"),
]
PORT_SHOWN = [("internal_info", 18)]
PORTGROUP = [
    ("mode", 26, '"active-backup"'), ("properties", 26, "{}"), ("physical_network", 102, '"p"'), ("category", 103, '"c"'),
]
PORTGROUP_SHOWN = [("dynamic_portgroup", 111)]
VERBS = [
    ("manage", 4), ("provide", 4), ("inspect", 6), ("abort", 13), ("clean", 15), ("adopt", 17), ("rescue", 38),
    ("unrescue", 38), ("deploy", 73), ("undeploy", 73), ("unhold", 85), ("service", 87), ("active", 1), ("rebuild", 1),
    ("deleted", 1), ("delete", 73), ("verify", 1), ("hold", 85), ("available", 1),
]
VERB_BODIES = {
    "clean": ', "clean_steps": [{"interface": "vendor", "step": "log_passthrough"}]', "rescue": ', "rescue_password": "pw"',
    "service": ', "service_steps": [{"interface": "vendor", "step": "log_passthrough"}]',
}
# method, path, minor, body
ENDPOINTS = [
    ("PUT", "/nodes/$n/states/raid", 12, "{}"), ("GET", "/lookup?addresses=52:54:00:ff:ff:ff", 22, ""),
    ("GET", "/portgroups", 23, ""), ("GET", "/portgroups/detail", 23, ""), ("GET", "/portgroups/$u", 23, ""),
    ("POST", "/portgroups", 23, "{}"), ("PATCH", "/portgroups/$u", 23, "[]"), ("DELETE", "/portgroups/$u", 23, ""),
    ("GET", "/nodes/$n/portgroups", 24, ""), ("GET", "/portgroups/$u/ports", 24, ""), ("GET", "/nodes/$n/vifs", 28, ""),
    ("POST", "/nodes/$n/vifs", 28, "{}"), ("DELETE", "/nodes/$n/vifs/x", 28, ""),
    ("PUT", "/nodes/$n/management/inject_nmi", 29, "{}"), ("GET", "/volume", 32, ""), ("GET", "/volume/connectors", 32, ""),
    ("POST", "/volume/connectors", 32, "{}"), ("GET", "/volume/targets/$u", 32, ""), ("PATCH", "/volume/targets/$u", 32, "[]"),
    ("DELETE", "/volume/targets/$u", 32, ""), ("GET", "/nodes/$n/volume", 32, ""), ("GET", "/nodes/$n/volume/targets", 32, ""),
    ("GET", "/nodes/$n/traits", 37, ""), ("PUT", "/nodes/$n/traits", 37, '{"traits": []}'), ("DELETE", "/nodes/$n/traits", 37, ""),
    ("PUT", "/nodes/$n/traits/CUSTOM_A", 37, ""), ("DELETE", "/nodes/$n/traits/CUSTOM_B", 37, ""),
    ("GET", "/nodes/$n/bios", 40, ""), ("GET", "/nodes/$n/bios/x", 40, ""), ("GET", "/conductors", 49, ""),
    ("GET", "/conductors/x", 49, ""), ("GET", "/allocations", 52, ""), ("POST", "/allocations", 52, "{}"),
    ("GET", "/allocations/$u", 52, ""), ("DELETE", "/allocations/$u", 52, ""), ("PATCH", "/allocations/$u", 57, "[]"),
    ("GET", "/nodes/$n/allocation", 52, ""), ("DELETE", "/nodes/$n/allocation", 52, ""),
    ("POST", "/events", 54, '{"events": []}'), ("GET", "/deploy_templates", 55, ""), ("POST", "/deploy_templates", 55, "{}"),
    ("GET", "/deploy_templates/$u", 55, ""), ("PATCH", "/deploy_templates/$u", 55, "[]"), ("DELETE", "/deploy_templates/$u", 55, ""),
    ("GET", "/nodes/$n/management/indicators", 63, ""), ("PUT", "/nodes/$n/states/boot_mode", 76, '{"target": "foo"}'),
    ("PUT", "/nodes/$n/states/secure_boot", 76, '{"target": "foo"}'), ("GET", "/nodes/$n/history", 78, ""),
    ("GET", "/nodes/$n/history/$u", 78, ""), ("GET", "/nodes/$n/inventory", 81, ""), ("GET", "/shards", 82, ""),
    ("GET", "/nodes/$n/children", 83, ""), ("POST", "/continue_inspection", 84, '{"inventory": {"interfaces": []}}'),
    ("GET", "/nodes/$n/firmware", 86, ""), ("POST", "/nodes/$n/vmedia", 89, "{}"), ("DELETE", "/nodes/$n/vmedia", 89, ""),
    ("GET", "/nodes/$n/vmedia", 93, ""), ("GET", "/runbooks", 92, ""), ("POST", "/runbooks", 92, "{}"),
    ("GET", "/runbooks/$u", 92, ""), ("PATCH", "/runbooks/$u", 92, "[]"), ("DELETE", "/runbooks/$u", 92, ""),
    ("GET", "/runbooks/$u/traits", 112, ""), ("PUT", "/runbooks/$u/traits", 112, '{"traits": []}'),
    ("PUT", "/runbooks/$u/traits/CUSTOM_A", 112, ""), ("DELETE", "/runbooks/$u/traits/CUSTOM_A", 112, ""),
    ("GET", "/inspection_rules", 96, ""), ("POST", "/inspection_rules", 96, "{}"), ("GET", "/inspection_rules/$u", 96, ""),
    ("PATCH", "/inspection_rules/$u", 96, "[]"), ("DELETE", "/inspection_rules/$u", 96, ""),
]
PORT_FILTERS = [("portgroup=%uuid", 24), ("shard=x", 82), ("description_contains=x", 97), ("conductor_groups=x", 99), ("detail=true", 43), ("fields=uuid", 8)]


def around(minor):
    """The version before, and the one."""
    return f"@{minor - 1},{minor}" if minor > 1 else "@1"


def fields():
    yield '== fields of a node\nPOST /nodes {"driver": "fake-hardware", "name": "parent"} -> parent\nPOST /nodes {"driver": "fake-hardware", "name": "swept"} -> n'
    for name, minor, value in NODE:
        yield f'POST /nodes {around(minor)} {{"driver": "fake-hardware", "{name}": {value}}}'
        yield f'POST /nodes @{minor - 1} {{"driver": "fake-hardware", "{name}": null}}'
        if name not in ("boot_mode", "secure_boot"):
            yield f'PATCH /nodes/$n {around(minor)} [{{"op": "add", "path": "/{name}", "value": {value}}}]'
            if name not in NOT_TAKEN_AWAY:
                yield f'PATCH /nodes/$n @{minor - 1} [{{"op": "remove", "path": "/{name}"}}]'
    for name, minor, value in NODE_PATCHED:
        yield f'PATCH /nodes/$n {around(minor)} [{{"op": "replace", "path": "/{name}", "value": {value}}}]'
    for name, minor in [(name, minor) for name, minor, _ in NODE] + NODE_SHOWN:
        if minor > 8:
            yield f"GET /nodes/$n?fields={name} {around(minor)}"
            yield f"GET /nodes?fields={name}&limit=1 {around(minor)}"
    for query, minor in NODE_FILTERS:
        yield f"GET /nodes?{query}&limit=1 {around(minor)}"
        if not query.startswith(("detail", "fields")):
            yield f"GET /nodes/detail?{query}&limit=1 {around(minor)}"
    for minor in range(1, 116):
        yield f"GET /nodes/$n @{minor}"


def belongings():
    yield '== fields of ports and port groups\nPOST /nodes {"driver": "fake-hardware"} -> n\nPOST /portgroups {"node_uuid": "$n"} -> g\nPOST /ports {"node_uuid": "$n", "address": "%mac"} -> p'
    for name, minor, value in PORT:
        yield f'POST /ports {around(minor)} {{"node_uuid": "$n", "address": "%mac", "{name}": {value}}}'
        yield f'PATCH /ports/$p {around(minor)} [{{"op": "replace", "path": "/{name}", "value": {value}}}]'
        if name not in NOT_TAKEN_AWAY:
            yield f'PATCH /ports/$p @{minor - 1} [{{"op": "remove", "path": "/{name}"}}]'
    for name, minor in sorted({(name, minor) for name, minor, _ in PORT} | set(PORT_SHOWN)):
        yield f"GET /ports/$p?fields={name} {around(minor)}"
    for query, minor in PORT_FILTERS:
        yield f"GET /ports?{query}&limit=1 {around(minor)}"
    for name, minor, value in PORTGROUP:
        yield f'POST /portgroups {around(minor)} {{"node_uuid": "$n", "{name}": {value}}}'
        yield f'PATCH /portgroups/$g {around(minor)} [{{"op": "replace", "path": "/{name}", "value": {value}}}]'
    for name, minor in [(name, minor) for name, minor, _ in PORTGROUP] + PORTGROUP_SHOWN:
        yield f"GET /portgroups/$g?fields={name} {around(minor)}"


def endpoints():
    yield '== endpoints\nPOST /nodes {"driver": "fake-hardware"} -> n\nPOST /nodes {"driver": "fake-hardware", "uuid": "%uuid1"}'
    for method, path, minor, body in ENDPOINTS:
        path = path.replace("$u", "%uuid9")
        yield f"{method} {path} {around(minor)} {body}"


def verbs():
    """Every verb in enroll, manageable, available and active; each in a node of its own where it is accepted."""
    for state, road in STATES.items():
        yield f"== verbs in {state}"
        for verb, minor in VERBS:
            yield 'POST /nodes {"driver": "fake-hardware", "rescue_interface": "fake"} -> n'
            yield from road
            body = f'{{"target": "{verb}"{VERB_BODIES.get(verb, "")}}}'
            if minor > 1:
                yield f"PUT /nodes/$n/states/provision @{minor - 1} {body}"
            if verb == "undeploy" and state == "active":
                continue  # never gated: the first did it
            yield f"PUT /nodes/$n/states/provision {body}"
            yield SETTLED
            yield "GET /nodes/$n/states"
            yield "DELETE /nodes/$n"


SETTLED = r"wait /nodes/$n provision_state=enroll|manageable|available|active|rescue|clean\x20failed|service\x20failed|deploy\x20failed|inspect\x20failed|adopt\x20failed"
MANAGE = ['PUT /nodes/$n/states/provision {"target": "manage"}', "wait /nodes/$n provision_state=manageable target_provision_state=None"]
IMAGE = ['PATCH /nodes/$n [{"op": "add", "path": "/instance_info/image_source", "value": "http://127.0.0.1/image"}]']
STATES = {
    "enroll": [],
    "manageable": MANAGE,
    "available": [*MANAGE, 'PUT /nodes/$n/states/provision {"target": "provide"}',
                  "wait /nodes/$n provision_state=available target_provision_state=None"],
    "active": [*MANAGE, *IMAGE, 'PUT /nodes/$n/states/provision {"target": "adopt"}',
               r"wait /nodes/$n provision_state=active|adopt\x20failed"],
}


def lists():
    for name, make in (("versions", fields), ("versions", belongings), ("versions", endpoints), ("verbs", verbs)):
        yield name, "\n".join(make())
