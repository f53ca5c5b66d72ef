"""Asks Ironic's own policy engine who may do what, for every rule, caller and target, and prints the answers as JSON.

  <venv with ironic>/bin/python tests/keystone/policy_oracle.py > web/src/policy/oracle.json

web/src/policy/tests.rs asks Ferric's policies the same questions. A target that has no owner is asked about without
the key: with the key at None, oslo.policy finds a token without a project to be its owner.
"""
import json

from ironic.common import policy
from ironic.conf import CONF
from oslo_config import cfg

CONF([], project="ironic", default_config_files=[])
policy.init_enforcer()
enforcer = policy.get_enforcer()

IMPLIED = {"admin": ["admin", "manager", "member", "reader"], "manager": ["manager", "member", "reader"],
           "member": ["member", "reader"], "reader": ["reader"], "service": ["service"], "none": []}

callers = {}
for role, roles in IMPLIED.items():
    callers[f"system {role}"] = dict(system_scope="all", roles=roles)
    callers[f"project {role}"] = dict(project_id="p1", project_name="one", project_domain_id="d1", roles=roles)
    callers[f"domain {role}"] = dict(domain_id="d1", roles=roles)
callers["unscoped"] = dict(roles=[])
callers["member without reader"] = dict(project_id="p1", project_name="one", project_domain_id="d1", roles=["member"])
callers["admin without the rest"] = dict(project_id="p1", project_name="one", project_domain_id="d1", roles=["admin"])
callers["service of the service project"] = dict(project_id="p9", project_name="service", project_domain_id="d1",
                                                 roles=["service"])
callers["reader of the service project"] = dict(project_id="p9", project_name="service", project_domain_id="d1",
                                                roles=["reader"])
callers["old administrator"] = dict(project_id="p8", project_name="baremetal", project_domain_id="default",
                                    roles=["baremetal_admin"])
callers["not the admin project"] = dict(project_id="p1", project_name="one", project_domain_id="d1",
                                        roles=["admin"], is_admin_project=False)
callers["public route"] = dict(roles=[], is_public_api=True)

targets = {"nobody's": {}, "owned": {"owner": "p1"}, "leased": {"owner": "p2", "lessee": "p1"},
           "another's": {"owner": "p2"}, "owned, leased to another": {"owner": "p1", "lessee": "p2"},
           "leased, without owner": {"lessee": "p1"}}

KEYS = ("user_id", "user_domain_id", "system_scope", "domain_id", "project_id", "project_name", "project_domain_id")
rows = {}
for rule in policy.list_policies():
    kind = next((k for k in ("allocation", "runbook") if rule.name.startswith(f"baremetal:{k}")), "node")
    answers = ""
    for elevated in (False, True):
        for caller in (callers[name] for name in sorted(callers)):
            creds = {key: None for key in KEYS} | {"is_admin_project": True, "is_public_api": False} | caller
            for target in (targets[name] for name in sorted(targets)):
                asked = dict(creds)
                asked.update({f"{kind}.{key}": value for key, value in target.items()})
                if elevated:
                    asked["config.service_project_name"] = "service"
                answers += "1" if enforcer.enforce(rule.name, asked, dict(creds)) else "0"
    rows[rule.name] = answers
print(json.dumps({"callers": callers, "targets": targets, "rows": rows}, indent=1, sort_keys=True))
