"""What nova, Metal3's baremetal-operator, metalsmith and gophercloud ask of Ironic, in their order, with the versions
that they send (clients.md §2, §3, §5, §7), and what each of them relies on in the answers. As data; `player` plays it.

    contracts.py URL [--peer] [--only TEXT]
"""

import argparse
import sys
import time

from asks.words import ENROLLED, at
from crew import carry_out
from network import serve
from asks.gophercloud import GOPHERCLOUD
from asks.metal3 import metal3
from asks.metalsmith import ITSELF, METALSMITH
from asks.nova import NOVA
from pattern import Like, OneOf
from player import Ask, Row, play

# Which version is spoken.
VERSIONS = {"x-openstack-ironic-api-minimum-version": "1.1", "x-openstack-ironic-api-maximum-version": "1.115"}
NEGOTIATION = [
    Ask("GET /v1/nodes", version=None, answers={**VERSIONS, "x-openstack-ironic-api-version": "1.1"}),
    Ask("GET /v1/nodes", version="1.1", answers={**VERSIONS, "x-openstack-ironic-api-version": "1.1"}),
    Ask("GET /v1/nodes", version="1.9", answers={**VERSIONS, "x-openstack-ironic-api-version": "1.9"}),
    Ask("GET /v1/nodes", version="latest", answers={**VERSIONS, "x-openstack-ironic-api-version": "1.115"}),
    Ask(
        "GET /v1/nodes",
        version=None,
        headers={"OpenStack-API-Version": "baremetal 1.50"},
        answers={**VERSIONS, "x-openstack-ironic-api-version": "1.50"},
    ),
    Ask("GET /v1/nodes", version="1.999", status=406, answers=VERSIONS, holds={"error_message": Like("1.999")}),
    Ask("GET /v1/nodes", version="2.0", status=406, answers=VERSIONS),
    Ask("GET /v1/nodes", version="nonsense", status=406),
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
    "metalsmith itself": [*ENROLLED, *ITSELF],
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
    network = serve()
    chosen = {name: rows for name, rows in CONTRACTS.items() if asked.only.lower() in name.lower()}
    work = [
        (name, lambda rows=rows: play(rows, asked.url, peer=asked.peer, network=network))
        for name, rows in chosen.items()
    ]
    broken = {name: said for name, said in carry_out(1 if asked.peer else len(work), work).items() if said}
    for name, said in broken.items():
        print(f"FAILED {name}\n{said}\n")
    requests = sum(map(len, chosen.values()))
    print(
        f"contracts: {len(chosen) - len(broken)} of {len(chosen)} hold, {requests} requests, in {time.monotonic() - began:.0f} s"
    )
    return 1 if broken or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
