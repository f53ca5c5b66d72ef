"""What happened when: a timeline printed while it happens, from the wire, the machine and its serial console."""

import ctypes
import re
import socket
import struct
import threading
import time
from pathlib import Path

from world import SERVER, TAP, Machine


class Timeline:
    """Lines stamped with the seconds since `start()`, and before it with those since the beginning."""

    def __init__(self) -> None:
        self._began = time.time()
        self._lock = threading.Lock()
        self._named: dict[str, float] = {}

    def start(self, what: str) -> None:
        """From now on seconds count from here."""
        with self._lock:
            self._began = time.time()
            self._named.clear()
        self.say(what)

    def say(self, text: str, at: float | None = None, name: str | None = None, last: bool = False) -> None:
        """Prints a line; `name` remembers the first time (or the last) for `seconds`."""
        with self._lock:
            seconds = (at or time.time()) - self._began
            if name and (last or name not in self._named):
                self._named[name] = seconds
            print(f"{seconds:8.2f}  {text}", flush=True)

    def note(self, name: str) -> None:
        """Remembers the first time of a name without printing."""
        with self._lock:
            self._named.setdefault(name, time.time() - self._began)

    def seconds(self, name: str) -> float | None:
        """Seconds from `start` to the line of that name."""
        return self._named.get(name)


def watch_machine(machine: Machine, timeline: Timeline) -> None:
    """Power and serial console, in a thread."""
    threading.Thread(target=_watch_machine, args=(machine, timeline), daemon=True).start()


SERIAL = [
    (r"Run /init as init process", "ramdisk or image: kernel is up, first process starts", "init"),
    (r"E2E-(IMAGE|CONFIG-DRIVE|PAYLOAD|RAMDISK)\S* .*", None, None),
    (r"FERRIC-AGENT .*", None, None),
    (r"Kernel panic.*", None, None),
    (r"(PXE-E\d+|iPXE initialising devices|PXELINUX \d|>>Start PXE|Could not boot|No bootable device).*", None, None),
]


def _watch_machine(machine: Machine, timeline: Timeline) -> None:
    seen = 0
    positions: dict[Path, int] = {}
    while True:
        for line in machine.power_log()[seen:]:
            seen += 1
            at, words = float(line[0]), line[1:]
            if words[0] == "on":
                timeline.say(f"power on, boots from {'the network' if words[1] == 'pxe' else 'its disk'}", at, f"on {words[1]}")
            elif words[0] == "off":
                timeline.say("power off", at, "off")
            elif words[0] == "restart":
                timeline.say("restarts itself", at)
            else:
                timeline.say(f"boot device set: {words[1]}", at)
        for log in machine.folder.glob("serial-*.log"):
            with open(log, "rb") as file:
                file.seek(positions.get(log, 0))
                block = file.read()
            complete = block.rfind(b"\n") + 1
            positions[log] = positions.get(log, 0) + complete
            for raw in block[:complete].split(b"\n"):
                text = re.sub(r"\x1b\[[0-9;?=]*[A-Za-z]", "", raw.decode("utf8", "replace")).strip()
                for pattern, said, name in SERIAL:
                    found = re.search(pattern, text)
                    if found:
                        timeline.say(said or f"serial: {found.group(0)[:180]}", name=name or found.group(0).split()[0])
                        break
        time.sleep(0.05)


def watch_wire(timeline: Timeline) -> None:
    """DHCP, TFTP and HTTP requests on the machine's link, in a thread: what the wire says, not what a log says."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
    _filter(wire)
    wire.bind((TAP, 0))
    threading.Thread(target=_watch_wire, args=(wire, timeline), daemon=True).start()


def _filter(wire: socket.socket) -> None:
    """Lets the kernel drop all but UDP to ports 67 to 69 and TCP to Ferric with more than headers (classic BPF)."""
    server = struct.unpack("!I", socket.inet_aton(SERVER))[0]
    load_half, load_byte, load_word, equal, greater, answer = 0x28, 0x30, 0x20, 0x15, 0x25, 0x06
    program = [
        # instruction, jump when true, jump when false, operand; the line's number is in front
        (load_half, 0, 0, 12),  # 0 ethertype
        (equal, 0, 12, 0x0800),  # 1 not IPv4: 14
        (load_byte, 0, 0, 23),  # 2 protocol
        (equal, 5, 0, 17),  # 3 UDP: 9
        (equal, 0, 9, 6),  # 4 not TCP: 14
        (load_word, 0, 0, 30),  # 5 destination
        (equal, 0, 7, server),  # 6 elsewhere: 14
        (load_half, 0, 0, 16),  # 7 total length
        (greater, 4, 5, 100),  # 8 with a payload: 13, else 14
        (load_half, 0, 0, 36),  # 9 UDP destination port
        (equal, 2, 0, 67),  # 10
        (equal, 1, 0, 68),  # 11
        (equal, 0, 1, 69),  # 12
        (answer, 0, 0, 0xFFFF),  # 13
        (answer, 0, 0, 0),  # 14
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    wire.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(program), ctypes.addressof(buffer)))


DHCP_TYPES = {1: "discover", 2: "offer", 3: "request", 5: "ack", 6: "nak"}


def _watch_wire(wire: socket.socket, timeline: Timeline) -> None:
    while True:
        frame = wire.recv(65535)
        ip = frame[14:]
        payload = ip[(ip[0] & 15) * 4:]
        if ip[9] == 17:
            _udp(payload, timeline)
        else:
            request = payload[(payload[12] >> 4) * 4:][:200].decode("latin1")
            found = re.match(r"(GET|POST|PUT|HEAD) (\S+) HTTP", request)
            if found:
                path = found.group(2).split("?")[0]
                kind = {"lookup": "lookup", "heartbeat": "heartbeat"}.get(path.split("/")[2] if path.count("/") > 1 else "")
                timeline.say(f"http {found.group(1)} {path}", name=kind)


def _udp(datagram: bytes, timeline: Timeline) -> None:
    port = struct.unpack("!H", datagram[2:4])[0]
    data = datagram[8:]
    if port == 69:
        if data[:2] == b"\0\1":
            timeline.say(f"tftp read {data[2:].split(bytes(1))[0].decode('latin1')}", name="tftp")
        return
    options, rest = {}, data[240:]
    while len(rest) > 1 and rest[0] != 255:
        if rest[0] == 0:
            rest = rest[1:]
            continue
        options[rest[0]] = rest[2:2 + rest[1]]
        rest = rest[2 + rest[1]:]
    kind = DHCP_TYPES.get(options.get(53, b"\0")[0])
    timeline.note(f"dhcp {kind}")
    if kind in ("ack", "nak"):
        file = (options.get(67) or data[108:236]).split(b"\0")[0].decode("latin1")
        timeline.say(f"dhcp {kind} {socket.inet_ntoa(data[16:20])} {file}", name=f"dhcp {kind}")
