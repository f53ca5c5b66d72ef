"""Ferric's own process inside the world, and the ramdisk that it builds."""

import fcntl
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from client import API, peek
from world import BRIDGE, HERE, SERVER, Failed, World, run, until

CONFIG = """
[api]
host_ip = "{server}"
public_endpoint = "{api}"

[database]
connection = "sqlite://{data}/ferric.sqlite"

[hardware]
enabled_hardware_types = ["ipmi"{classic}]
enabled_boot_interfaces = ["ipxe", "pxe"]

[dhcp]
mode = "full"
interface = "{bridge}"
server_ip = "{server}"
pool_start = "172.31.77.100"
pool_end = "172.31.77.150"
netmask = "255.255.255.0"

[tftp]
enabled = true

[http]
enabled = true
http_root = "{data}/http"

[pxe]
tftp_root = "{data}/tftp"
kernel_append_params = "nofb console=ttyS0 net.ifnames=0"

[agent]
require_tls = true

[conductor]
automated_clean = {cleans}

[deploy]
# the disk is an emulator's: its metadata goes, its blocks stay
erase_devices_priority = 0
"""


class Ferric:
    """`ferric serve` with a configuration and a data folder of its own; `more` is appended to the configuration;
    `driver` may be a classic driver, which is off otherwise."""

    def __init__(self, world: World, binary: Path, more: str = "", cleans: bool = False, driver: str = "ipmi") -> None:
        self._world = world
        self._binary = binary
        self.data = world.folder / "data"
        for folder in (self.data, self.data / "http", self.data / "tftp"):
            folder.mkdir()
        self.config = world.folder / "ferric.toml"
        classic = "" if driver == "ipmi" else f', "{driver}"'
        text = CONFIG.format(server=SERVER, api=API, bridge=BRIDGE, data=self.data, cleans=str(cleans).lower(), classic=classic)
        self.config.write_text(text + more)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Starts it and waits until the API answers."""
        environment = {"RUST_BACKTRACE": "1", "FERRIC_LOG": "info", **os.environ}
        command = [self._binary, "serve", "--config", self.config, "--data-dir", self.data]
        self.process = self._world.start("ferric", command, env=environment)

        def answers() -> bool:
            if self.process.poll() is not None:
                raise Failed(f"ferric serve ended at once with exit code {self.process.returncode}")
            return peek("/v1/") is not None

        until("Ferric answers", 30, answers, every=0.05)

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stands(self) -> str:
        """Where each thread of the process is, and its connections: for when it does not answer."""
        lines = []
        for task in sorted(Path(f"/proc/{self.process.pid}/task").glob("*")):
            words = []
            for name in ("comm", "wchan", "syscall"):
                try:
                    words.append((task / name).read_text().strip())
                except OSError as error:
                    words.append(str(error))
            lines.append(" | ".join(words))
        return "\n".join([f"exit code {self.process.poll()}", *lines, run("ss", "-tanp", timeout=10)])

    def stop(self) -> None:
        """Asks it to end as an operator's service manager does; it has 10 s."""
        self.process.terminate()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            raise Failed("ferric serve did not end within 10 s of SIGTERM") from None
        if code != 0:
            raise Failed(f"ferric serve ended with exit code {code} after SIGTERM")


def ramdisk(binary: Path, cache: Path) -> Path:
    """The folder with kernel and initramfs from `ferric ramdisk build`, made once per content of what goes into it."""
    checkout = HERE.parent.parent
    sources = [checkout / "Cargo.lock", checkout / "src" / "ramdisk.rs"]
    for folder in ("agent", "src/ramdisk"):
        sources += [file for file in (checkout / folder).rglob("*") if file.is_file()]
    digest = hashlib.sha256()
    for file in sorted(sources):
        digest.update(f"{file.relative_to(checkout)} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    out = cache / f"ramdisk-{digest.hexdigest()[:16]}"
    with open(cache / "ramdisk.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel runs wait for the one that builds
        if not out.exists():
            for older in cache.glob("ramdisk-*"):
                if older.stat().st_mtime < time.time() - 86400:
                    shutil.rmtree(older, ignore_errors=True)
            print(f"building the ramdisk into {out}", file=sys.stderr, flush=True)
            part = cache / "ramdisk-part"
            shutil.rmtree(part, ignore_errors=True)
            run(str(binary), "ramdisk", "build", "--kernel", "cloud", "--out", str(part), "--cache", str(cache / "packages"), timeout=1800)
            size = sum(file.stat().st_size for file in part.iterdir())
            if size > 64 << 20:
                raise Failed(f"kernel and ramdisk have {size / (1 << 20):.1f} MiB together, more than 64")
            part.rename(out)
        os.utime(out)  # in use today: another checkout's build leaves it
    return out


def journal(data: Path) -> list[dict]:
    """The step journal as the database has it."""
    with sqlite3.connect(f"file:{data}/ferric.sqlite?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute("select * from steps order by id")]


