"""Every `openstack baremetal …` subcommand of python-ironicclient 6.3.0, in scenarios of their own world each: what is
run, what it has to print, and what has to be so afterwards. The machines are of fake hardware."""

from table import belongings, nodes, resources
from table.nodes import FERRIC_ONLY

SCENARIOS = nodes.SCENARIOS | belongings.SCENARIOS | resources.SCENARIOS

__all__ = ["FERRIC_ONLY", "SCENARIOS"]
