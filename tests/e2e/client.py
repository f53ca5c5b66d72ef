"""`openstack baremetal`, unmodified from PyPI: every change of a scenario goes through it."""

import json
import os
import subprocess
import urllib.request
from pathlib import Path

from world import LIMIT, SERVER, run

API = f"http://{SERVER}:6385"


class Client:
    """The command-line client without authentication."""

    def __init__(self, venv: Path) -> None:
        self._openstack = str(venv / "bin" / "openstack")
        self._environment = {**os.environ, "OS_AUTH_TYPE": "none", "OS_ENDPOINT": API, "NO_PROXY": "*", "no_proxy": "*"}

    def __call__(self, *words: str) -> str:
        """Runs `openstack baremetal WORDS…`; Failed with what it said when it does not exit with 0, or
        not soon after its own `--wait`: of itself it waits for ever for an API that takes a request and does not answer."""
        waits = int(words[words.index("--wait") + 1]) if "--wait" in words else 0
        return run(self._openstack, "baremetal", *words, timeout=waits + LIMIT, env=self._environment)

    def start(self, *words: str) -> subprocess.Popen:
        """The same without waiting for its end."""
        return subprocess.Popen(
            [self._openstack, "baremetal", *words], env=self._environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def show(self, node: str, *fields: str) -> dict:
        """Fields of a node."""
        return json.loads(self("node", "show", node, "-f", "json", "--fields", *fields))


def peek(path: str) -> dict | None:
    """A GET of the API beside the client, for watching only; None when nobody answers."""
    request = urllib.request.Request(API + path, headers={"X-OpenStack-Ironic-API-Version": "1.81"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None
