"""The two servers that are compared: a real Ironic and Ferric, each in its own folder and on its own port."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# what is not up by then does not come up
UP_WITHIN = 90
ANSWER_WITHIN = 60


class Failed(Exception):
    """The rig itself does not work; the text says why."""


class Answer:
    """What a server said."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.raw = status, headers, body
        try:
            self.body = json.loads(body) if body else None
        except ValueError:
            self.body = {"(not JSON)": body.decode(errors="replace")}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Peer:
    """A server. `start` returns when it answers."""

    # whether it answers 500 where its database is locked, and may be asked again
    stumbles = False

    def __init__(self, name, folder):
        self.name, self.folder, self.port = name, Path(folder), free_port()
        self.process = self.connection = None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "output"

    def spawn(self, command, env=None):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env, start_new_session=True
            )

    def start(self):
        self.begin()
        deadline = time.monotonic() + UP_WITHIN
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{self.name} does not come up:\n{self.tail()}")
            time.sleep(0.05)

    def ready(self):
        """A conductor has registered its drivers."""
        try:
            answer = self.ask("GET", "/v1/drivers", {"X-OpenStack-Ironic-API-Version": "1.31"})
        except OSError:
            return False
        return answer.status == 200 and b"fake-hardware" in answer.raw

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, method, path, headers=None, body=None):
        """One request. A connection that the server closed meanwhile is opened again."""
        for last in (False, True):
            if self.connection is None:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_WITHIN)
            try:
                self.connection.request(method, path, body, headers or {})
                answer = self.connection.getresponse()
                return Answer(answer.status, dict(answer.getheaders()), answer.read())
            except (http.client.HTTPException, OSError) as error:
                self.connection.close()
                self.connection = None
                if last:
                    raise OSError(f"{self.name}: {method} {path}: {error!r}") from error

    def tail(self):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-25:])


class Ironic(Peer):
    stumbles = True

    def __init__(self, folder, venv):
        super().__init__("ironic", folder)
        self.venv = Path(venv)

    def begin(self):
        folder = self.folder
        for one in ("state", "tmp", "lock", "tftpboot/master_images", "images/master", "httpboot"):
            (folder / one).mkdir(parents=True, exist_ok=True)
        words = {"DIR": str(folder), "PORT": str(self.port), "RPCPORT": str(free_port())}
        text = (HERE / "ironic.conf").read_text()
        conf = folder / "ironic.conf"
        conf.write_text(re.sub(r"@([A-Z]+)@", lambda found: words[found[1]], text))
        # Ironic lists interfaces in the order of a set; its tools find each other by the path
        env = dict(os.environ, PYTHONHASHSEED="0", PATH=f"{self.venv}/bin:{os.environ['PATH']}")
        with open(self.log, "ab") as log:
            sync = [f"{self.venv}/bin/ironic-dbsync", "--config-file", conf, "create_schema"]
            if subprocess.run(sync, stdout=log, stderr=log, env=env).returncode:
                raise Failed(f"Ironic's database cannot be made:\n{self.tail()}")
        self.spawn([f"{self.venv}/bin/ironic", "--config-file", conf], env)


class Ferric(Peer):
    def __init__(self, folder, binary):
        super().__init__("ferric", folder)
        self.binary = binary

    def begin(self):
        conf = self.folder / "ferric.toml"
        shutil.copy(HERE / "ferric.toml", conf)
        data = self.folder / "data"
        self.spawn([
            self.binary, "serve", "--config", conf, "--data-dir", data, "--set", f"api.port={self.port}",
            "--set", "database.durability=normal",
        ])
