"""`openstack`, unmodified from PyPI: loaded once, each command a child that does what bin/openstack does."""

import contextlib
import os
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

import ironicclient.osc.plugin  # noqa: F401  (loaded here, once)
import ironicclient.v1.client  # noqa: F401
from openstackclient.shell import main


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str


def environment(url: str, network: str = "") -> dict[str, str]:
    """The environment of a client without authentication; `network`: where its network service is, if it wants one."""
    more = {"OS_NETWORK_ENDPOINT_OVERRIDE": network} if network else {}
    return more | {"OS_AUTH_TYPE": "none", "OS_ENDPOINT": url, "NO_PROXY": "*", "no_proxy": "*"}


def openstack(url: str, words: list[str]) -> Said:
    """Runs `openstack WORDS…` in a child of this process."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.environ.update(environment(url))
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.stdout, sys.stderr = out, err
                sys.argv = ["openstack", *words]
                try:
                    code = main()
                except SystemExit as end:
                    code = end.code
                except BaseException:  # noqa: BLE001  (what the client raises, its user reads)
                    traceback.print_exc(file=err)
                out.flush()
                err.flush()
            finally:
                os._exit(code if isinstance(code, int) else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    return Said(code, *texts)


def program(name: str, url: str, words: list[str], network: str = "") -> Said:
    """Runs `NAME WORDS…` of this Python's environment, as a shell would."""
    path = Path(sys.executable).with_name(name)
    ended = subprocess.run(
        [path, *words],
        env={**os.environ, **environment(url, network)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    return Said(ended.returncode, ended.stdout, ended.stderr)


def warm(url: str) -> None:
    """Runs one command in this process, so that what a command loads is loaded before the children part."""
    before = dict(os.environ)
    os.environ.update(environment(url))
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        main(["baremetal", "conductor", "list"])
    os.environ.clear()
    os.environ.update(before)
