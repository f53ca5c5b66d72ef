"""The serial console of a machine that starts: seen through IPMI, by the driver `ipmitool-socat`, over TCP with Debian's
`socat` and over Ferric's WebSocket."""

import base64
import os
import socket
import struct
import subprocess
import threading
from pathlib import Path

from client import Client, peek
from ferric import Ferric
from watch import Timeline, watch_machine
from world import BMC, SERVER, Failed, Machine, World, run, tail, until

NODE = "e2e"
SERIAL = 9600  # TCP port of the machine's serial line, where the BMC finds it
PORT = 20123
CONFIG = f"""
[console]
socat_address = "{SERVER}"
"""


class WebSocket:
    """A client that only listens (RFC 6455); what came so far is in `text`."""

    def __init__(self, path: str) -> None:
        self._socket = socket.create_connection((SERVER, 6385), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {SERVER}:6385\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        status = self._file.readline().decode()
        if " 101 " not in status:
            raise Failed(f"the WebSocket is refused: {status}")
        while self._file.readline() not in (b"\r\n", b""):
            pass
        self._socket.settimeout(None)
        self.text = ""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while head := self._file.read(2):
            size = head[1] & 0x7F
            if size == 126:
                (size,) = struct.unpack("!H", self._file.read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", self._file.read(8))
            data = self._file.read(size)
            if head[0] & 0x0F == 9:  # a ping; the answer must be masked
                self._socket.sendall(bytes([0x8A, 0x80 | len(data), 0, 0, 0, 0]) + data)
            elif head[0] & 0x0F in (1, 2):
                self.text += data.decode(errors="replace")


def console(binary: Path, parts: dict[str, str]) -> None:
    """From switching the console on to the image's own words on it."""
    images = Path(parts["images"])
    world = World()
    try:
        machine = Machine(world, "bios", 512, serial_port=SERIAL)
        timeline = Timeline()
        watch_machine(machine, timeline)
        run("dd", f"if={images}/user.raw", f"of={machine.folder}/disk.img", "conv=notrunc", "bs=1M", "status=none")
        os.environ["FERRIC_HARDWARE__ENABLED_CONSOLE_INTERFACES"] = "ipmitool-socat,no-console"
        ferric = Ferric(world, binary, more=CONFIG)
        ferric.start()
        client = Client(Path(parts["venv"]))
        client(
            "node", "create", "--driver", "ipmi", "--name", NODE, "--console-interface", "ipmitool-socat",
            "--driver-info", f"ipmi_address={BMC}", "--driver-info", "ipmi_username=admin",
            "--driver-info", f"ipmi_password={Machine.PASSWORD}", "--driver-info", f"ipmi_terminal_port={PORT}",
        )  # fmt: skip
        client("node", "manage", NODE, "--wait", "60")
        client("node", "console", "enable", NODE)
        until("the console is enabled", 30, lambda: peek(f"/v1/nodes/{NODE}/states/console")["console_enabled"])
        shown = peek(f"/v1/nodes/{NODE}/states/console")["console_info"]
        if shown != {"type": "socat", "url": f"tcp://{SERVER}:{PORT}"}:
            raise Failed(f"console_info is {shown}")
        timeline.say("the console is enabled")
        # socat ends with its input: what nobody writes to stays open
        listener = world.start("socat", ["socat", "-u", f"TCP:{SERVER}:{PORT}", "-"])
        browser = WebSocket(f"/v1/ferric/nodes/{NODE}/console?write=false")
        terminal = world.folder / "socat.log"
        until("socat is connected", 10, lambda: "connected to BMC" in tail(terminal, 20))

        machine.ipmi("chassis", "bootdev", "disk")
        client("node", "power", "on", NODE)
        # SeaBIOS, the kernel, and the image's own word: the machine begins when its BMC is at the serial port
        marker = f"E2E-IMAGE {images.name} firmware=bios"
        for what in ("SeaBIOS", "Linux version", marker):
            until(f"'{what}' in socat", 120, lambda what=what: what in terminal.read_text(errors="replace"))
            until(f"'{what}' on the WebSocket", 20, lambda what=what: what in browser.text)
            timeline.say(f"the console shows '{what}'")
        # who comes now sees what was shown before
        late = WebSocket(f"/v1/ferric/nodes/{NODE}/console?write=false")
        until("the scrollback", 20, lambda: "SeaBIOS" in late.text and marker in late.text)
        # the machine is switched off and on: the console is there still
        client("node", "power", "off", NODE)
        until("off", 30, lambda: not machine.is_on())
        before = browser.text.count(marker)
        client("node", "power", "on", NODE)
        until("the second start on the WebSocket", 120, lambda: browser.text.count(marker) > before)
        client("node", "console", "disable", NODE)
        until("socat is let go", 30, lambda: listener.poll() is not None)
        until("the console is disabled", 30, lambda: not peek(f"/v1/nodes/{NODE}/states/console")["console_enabled"])
        machine.ipmi("sol", "info")
        ferric.stop()
    except (Failed, subprocess.SubprocessError):
        for log in ("ferric", "bmc", "socat"):
            print(f"--- {log}.log\n{tail(world.folder / f'{log}.log', 40)}")
        raise
    finally:
        world.close(keep=False)
