#!/usr/bin/env python3
"""client.py SOCKET: `openstack`, unmodified from PyPI, run as often as somebody asks on the Unix socket.

Python and the client take a second to load. They are loaded once here; each request is a child of its own that does
what bin/openstack does. A request is one line, {"args": [...], "env": {...}}; the answer is {"code", "out", "err"}.
"""

import json
import os
import signal
import socket
import sys
import tempfile

import ironicclient.osc.plugin  # noqa: F401  (loaded here, once)
import ironicclient.v1.client  # noqa: F401
from openstackclient.shell import main


def carry_out(connection: socket.socket) -> None:
    request = json.loads(connection.makefile("r").readline())
    os.environ.update(request["env"])
    sys.argv = ["openstack", *request["args"]]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        sys.stdout, sys.stderr = out, err
        try:
            code = main()
        except SystemExit as end:
            code = end.code
        answer = {"code": code or 0}
        for name, file in (("out", out), ("err", err)):
            file.flush()
            file.seek(0)
            answer[name] = file.read()
    connection.sendall((json.dumps(answer) + "\n").encode())


signal.signal(signal.SIGCHLD, signal.SIG_IGN)
with socket.socket(socket.AF_UNIX) as server:
    server.bind(sys.argv[1])
    server.listen(64)
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            # the client starts none that it would not wait for
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            status = 1
            try:
                carry_out(connection)
                status = 0
            finally:
                os._exit(status)
        connection.close()
