"""The world outside Ferric, in namespaces of its own: a network, a machine with its BMC, processes.

`enter` starts this program again inside new network and process namespaces. Nothing outside is touched, runs in
parallel need no different names or ports, and when the run ends, however it ends (SIGKILL too), the kernel
ends every process of it and removes its network.
"""

import faulthandler
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVER = "172.31.77.1"  # Ferric: API, DHCP, TFTP, HTTP
BMC = "172.31.77.2"
IMAGES = "172.31.77.3"  # the image server
MAC = "52:54:00:e2:e0:01"
BRIDGE = "br0"
TAP = "tap0"
LIMIT = 120  # seconds that a command may take which does not wait for anything


class Failed(Exception):
    """A promise was not kept; the text says which."""


def enter(parts: dict[str, str]) -> None:
    """Goes on inside new namespaces, with `parts` for `inside`. There is no way from there to any other network."""
    os.environ["FERRIC_E2E_INSIDE"] = json.dumps(parts)
    command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        command.append("--map-root-user")
    sys.stdout.flush()
    os.execvp(command[0], command + [sys.executable, *sys.argv])


def inside() -> dict[str, str] | None:
    """What `enter` was given; None outside."""
    parts = os.environ.get("FERRIC_E2E_INSIDE")
    if parts is None:
        return None
    # the first process of a process namespace has no default reactions to signals
    signal.signal(signal.SIGTERM, _ended)
    return json.loads(parts)


def _ended(number: int, _) -> None:
    signal.signal(number, signal.SIG_IGN)  # once: what follows needs its time, but no more than a minute
    last = threading.Timer(60, os._exit, (1,))
    last.daemon = True
    last.start()
    faulthandler.dump_traceback()
    raise Failed("ended by SIGTERM, or by the run's own limit; above is where each thread stood")


def limit(seconds: float) -> None:
    """Ends the run as SIGTERM does when it is still there after so many seconds, whatever it waits for."""
    alarm = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    alarm.daemon = True
    alarm.start()


def run(*command: str, timeout: float = LIMIT, **options) -> str:
    """Runs a command to its end and gives its standard output; Failed with both outputs otherwise, or when it does not
    end in `timeout` seconds."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, **options)
    except subprocess.TimeoutExpired as late:
        said = "".join(part.decode(errors="replace") for part in (late.stdout, late.stderr) if part)
        raise Failed(f"{' '.join(command)}: not ended within {timeout:.0f} s\n{said}") from None
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def cached(script: str, *arguments: str) -> Path:
    """The folder that one of the build scripts made, now or in an earlier run. Its progress goes to stderr."""
    done = subprocess.run([HERE / script, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failed(f"{script} failed, see above")
    return Path(done.stdout.strip().splitlines()[-1])


def until(what: str, seconds: float, condition, every: float = 0.1):
    """The first true value of `condition()`; Failed when there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds:.0f} s: {what}")
        time.sleep(every)


def tail(file: Path, lines: int) -> str:
    """The last lines of a log, or a note that there is none."""
    try:
        text = file.read_bytes().decode("utf8", "replace").replace("\r", "")
    except FileNotFoundError:
        return "(none)"
    return "\n".join(text.splitlines()[-lines:])


class World:
    """Temporary folder, bridge with a tap, and the processes started here, ended in the opposite order."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ferric-e2e-"))
        self.folder.chmod(0o755)
        self._processes: list[tuple[str, subprocess.Popen]] = []
        for command in (
            "link set lo up",
            f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0",
            f"link set {BRIDGE} addrgenmode none",
            f"-6 address add fe80::1/64 dev {BRIDGE} nodad",
            f"-6 address add fd77:e2e::1/64 dev {BRIDGE} nodad",
            f"tuntap add dev {TAP} mode tap",
            f"link set {TAP} master {BRIDGE} up",
            f"link set {BRIDGE} up",
        ):
            run("ip", *command.split())
        for address in (SERVER, BMC, IMAGES):
            run("ip", "address", "add", f"{address}/24", "dev", BRIDGE)
        threading.Thread(target=_advertise, daemon=True).start()

    def start(self, name: str, command: list, **options) -> subprocess.Popen:
        """Starts a process whose output goes to `<name>.log`."""
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        self._processes.append((name, process))
        return process

    def close(self, keep: bool) -> None:
        """Ends what still runs. The folder stays when `keep`."""
        for _, process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for name, process in reversed(self._processes):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    print(f"{name} does not end by SIGKILL; the kernel ends it with the namespace", flush=True)
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def _advertise() -> None:
    """Is the network's IPv6 router, once a second: without one, iPXE waits 11 s for it before it goes on."""
    router = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    index = socket.if_nametoindex(BRIDGE)
    # RFC 4861 §4.2 with one prefix (§4.6.2); lifetime 0: an address, but no route to elsewhere
    prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 600, 600, 0) + socket.inet_pton(socket.AF_INET6, "fd77:e2e::")
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0) + prefix
    while True:
        try:
            router.sendto(message, ("ff02::1", 0, 0, index))
        except OSError:
            pass  # the bridge has no carrier before the machine's first start
        time.sleep(1)


class Machine:
    """A machine with an empty disk behind an IPMI BMC (OpenIPMI's ipmi_sim; user admin)."""

    PASSWORD = "throw-away-bmc"  # of this BMC only

    def __init__(self, world: World, firmware: str, memory_mib: int, disk_gib: int = 4, serial_port: int = 0) -> None:
        # with a serial port, the serial console is that TCP port for the BMC's serial over LAN, and for nobody else
        self.folder = world.folder / "machine"
        self.folder.mkdir()
        shutil.copy(HERE / "machine.sh", self.folder)  # bash reads it bit by bit: who edits it meanwhile is not to be heard
        with open(self.folder / "disk.img", "wb") as disk:
            disk.truncate(disk_gib << 30)
        (self.folder / "settings").write_text(f"firmware={firmware}\nmac={MAC}\ntap={TAP}\nmemory={memory_mib}\nserial_port={serial_port}\n")
        (self.folder / "lan.conf").write_text(
            f'''name "e2e"
set_working_mc 0x20
  startlan 1
    addr {BMC} 623
    priv_limit admin
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{self.folder}/machine.sh 0x20"
  {f'sol "tcp:127.0.0.1:{serial_port}" 115200' if serial_port else ""}
  user 1 true  ""      ""                 user  10 none md2 md5 straight
  user 2 true  "admin" "{self.PASSWORD}"  admin 10 none md2 md5 straight
'''
        )
        (self.folder / "e2e.emu").write_text(
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n"
        )
        (self.folder / "bmc-state").mkdir()
        world.start(
            "bmc",
            ["ipmi_sim", "-c", self.folder / "lan.conf", "-f", self.folder / "e2e.emu", "-s", self.folder / "bmc-state", "-n"],
            env={**os.environ, "MACHINE": str(self.folder)},
        )
        until("the BMC answers", 10, lambda: self.ipmi("chassis", "power", "status", check=False))

    def ipmi(self, *command: str, check: bool = True) -> str:
        """What Debian's ipmitool says to a command, over the network as any other client."""
        try:
            return run("ipmitool", "-C", "3", "-I", "lanplus", "-H", BMC, "-U", "admin", "-P", self.PASSWORD, *command)
        except Failed:
            if check:
                raise
            return ""

    def is_on(self) -> bool:
        """The power state as the BMC tells it."""
        return "Chassis Power is on" in self.ipmi("chassis", "power", "status")

    def power_log(self) -> list[list[str]]:
        """The lines of power.log in words, as far as they are whole."""
        try:
            return [line.split() for line in (self.folder / "power.log").read_text().split("\n")[:-1]]
        except FileNotFoundError:
            return []

    def types(self, text: str) -> None:
        """Types a line on the serial console, which begins a new one then."""
        with socket.socket(socket.AF_UNIX) as console:
            console.settimeout(20)
            try:
                console.connect(str(self.folder / "serial.sock"))
                console.sendall(text.encode() + b"\r")
                # QEMU takes bytes as the guest's UART does, and forgets the rest when the connection ends
                while answer := console.recv(4096):
                    if b"\n" in answer:
                        break
            except OSError as error:
                raise Failed(f"the machine's serial port does not take a line: {error}") from None

    def serial(self) -> Path:
        """The serial console's log of the newest start."""
        return max(self.folder.glob("serial-*.log"), key=lambda f: int(f.stem.split("-")[1]), default=self.folder / "serial-0.log")
