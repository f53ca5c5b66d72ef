#!/usr/bin/env python3
"""Deploys the partition image with the agent in a virtual machine, then boots the disk: BIOS and UEFI, MBR and GPT.

    partition.py --agent STATIC_AGENT [--ferric BINARY] [--work DIR] [CASE...]

Cases: bios (MBR), bios-gpt, uefi. A small conductor of this script's own plays lookup and heartbeat and sends the three
commands that matter: write_image, get_partition_uuids, install_bootloader. In one boot of the ramdisk it first deploys
an image that has no GRUB, which must be refused by name; then the right one; then that again with preserve_ephemeral,
after which the ephemeral file system must be the same one. The disk boots last, with UEFI a second time after the
firmware has forgotten its variables. The machine's network is QEMU's user mode:
everything stays on loopback. Ferric itself takes no part but for building the ramdisk.
"""

import argparse
import base64
import gzip
import hashlib
import http.server
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
NODE = "1be26c0b-03f2-4d2e-ae87-c02d7f33c123"
TOKEN = "a-token-of-32-characters-or-more-0001"
CASES = {
    "bios": ("bios", "msdos", ["ephemeral", "swap", "config-2", "root"]),
    "bios-gpt": ("bios", "gpt", ["bios", "ephemeral", "swap", "config-2", "root"]),
    "uefi": ("uefi", "gpt", ["efi system partition", "ephemeral", "swap", "config-2", "root"]),
}


class Failed(Exception):
    """A case that did not do what it promises."""


def cached(script: str) -> Path:
    """The folder that a build script prints."""
    done = subprocess.run([str(HERE / script)], capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{script}: {done.stderr[-2000:]}")
    return Path(done.stdout.strip())


def ramdisk(agent: Path, ferric: Path, work: Path) -> tuple[Path, Path]:
    """Ferric's ramdisk with this agent: kernel and initramfs."""
    out = work / "ramdisk"
    cache = Path.home() / ".cache/ferric-e2e/packages"
    subprocess.run([ferric, "ramdisk", "build", "--kernel", "cloud", "--agent", agent, "--out", out, "--cache", cache],
                   check=True, stdout=subprocess.DEVNULL)
    return out / "kernel", out / "initramfs"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Conductor:
    """Lookup, heartbeat and the image, for one machine."""

    def __init__(self, images: Path) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_) -> None:
                pass

            def give(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if path == "/":
                    version = {"id": "v1", "min_version": "1.1", "version": "1.115"}
                    self.give(200, json.dumps({"default_version": version}).encode())
                elif path == "/v1/lookup":
                    node = {"uuid": NODE, "properties": {}, "instance_info": {}, "driver_internal_info": {}, "links": []}
                    config = {"heartbeat_timeout": 300, "agent_token": TOKEN, "agent_token_required": True}
                    self.give(200, json.dumps({"node": node, "config": config}).encode())
                elif (images / Path(path).name).is_file():
                    try:
                        self.give(200, (images / Path(path).name).read_bytes())
                    except ConnectionError:
                        # no ranges here: who wants qcow2's tables reads as far as they go and hangs up
                        self.close_connection = True
                else:
                    self.give(404, b"{}")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.give(202, b"")

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Machine:
    """A QEMU process with its serial console in a file; ended with the block."""

    def __init__(self, name: str, firmware: str, work: Path, disk: Path, more: list[str]) -> None:
        self.serial = work / f"{name}.log"
        # of a machine before this one nothing may be left to be taken for this one's words
        self.serial.write_text("")
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=single,tb-size=256", "-cpu", "max", "-smp", "1", "-m", "768", "-display", "none",
                   "-nodefaults", "-no-user-config", "-no-reboot", "-device", "virtio-rng-pci", "-serial", f"file:{self.serial}",
                   "-drive", f"if=none,id=d0,format=raw,file={disk},cache=unsafe",
                   "-device", "virtio-blk-pci,drive=d0,bootindex=1,serial=E2EDISK"]
        if firmware == "uefi":
            variables = work / "vars.fd"
            if not variables.exists():
                shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
            command += ["-machine", "q35",
                        "-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
                        "-drive", f"if=pflash,format=raw,unit=1,file={variables}"]
        else:
            command += ["-machine", "pc,graphics=off"]
        self.process = subprocess.Popen(command + more, stdout=subprocess.DEVNULL)

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()

    def text(self) -> str:
        return self.serial.read_text(errors="replace")

    def until(self, what: str, seconds: float) -> str:
        """Waits for a word on the console; the line it is in."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.text().splitlines():
                if what in line:
                    return line.strip()
            if self.process.poll() is not None:
                raise Failed(f"the machine ended before {what!r}: {self.text()[-3000:]}")
            time.sleep(0.2)
        raise Failed(f"no {what!r} within {seconds} s: {self.text()[-3000:]}")


def command(port: int, name: str, params: dict) -> dict:
    """Sends a command and waits for its end; its result."""
    url = f"http://127.0.0.1:{port}/v1/commands/?wait=true&agent_token={TOKEN}"
    body = json.dumps({"name": name, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=600))
    if answer["command_status"] != "SUCCEEDED":
        raise Failed(f"{name}: {answer['command_error']}")
    return answer["command_result"]


def bare(images: Path) -> Path:
    """An ext4 file system with nothing that boots."""
    image = images / "bare.raw"
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-F", image], check=True)
    return image


def drive(work: Path) -> str:
    """A config drive as base64 of a gzipped ISO."""
    folder = work / "drive/openstack/latest"
    folder.mkdir(parents=True)
    (folder / "meta_data.json").write_text(json.dumps({"uuid": NODE, "name": "partition"}))
    iso = work / "drive.iso"
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-R", "-V", "config-2", "-o", iso, work / "drive"],
                   check=True, capture_output=True)
    return base64.b64encode(gzip.compress(iso.read_bytes())).decode()


class Deployment:
    """The agent's three commands, as often as wanted."""

    def __init__(self, name: str, work: Path, conductor: Conductor, port: int) -> None:
        self.name, self.conductor, self.port = name, conductor, port
        self.firmware, self.label, self.roles = CASES[name]
        self.config_drive = drive(work)

    def run(self, image: Path, preserve: bool = False) -> dict:
        """Writes the image and installs its boot loader; the UUIDs."""
        info = {"id": "partition", "urls": [f"http://10.0.2.2:{self.conductor.port}/{image.name}"],
                "disk_format": "qcow2" if image.suffix == ".qcow2" else "raw", "image_type": "partition",
                "os_hash_algo": "sha256", "os_hash_value": hashlib.sha256(image.read_bytes()).hexdigest(),
                "root_mb": 1024, "swap_mb": 64, "ephemeral_mb": 128, "ephemeral_format": "ext4",
                "preserve_ephemeral": preserve, "disk_label": self.label, "deploy_boot_mode": self.firmware,
                "boot_option": "local"}
        step = {"interface": "deploy", "step": "write_image", "priority": 80,
                "args": {"image_info": info, "configdrive": self.config_drive}}
        node = {"uuid": NODE, "properties": {}, "instance_info": {}}
        command(self.port, "deploy.execute_deploy_step", {"step": step, "node": node, "ports": [], "deploy_version": None})
        uuids = command(self.port, "standby.get_partition_uuids", {})
        expected = {role: f"/dev/vda{number}" for number, role in enumerate(self.roles, 1)}
        if uuids.get("partitions") != expected:
            raise Failed(f"{self.name}: {uuids}, expected {expected}")
        result = command(self.port, "image.install_bootloader",
                         {"root_uuid": uuids["root uuid"], "prep_boot_part_uuid": None,
                          "target_boot_mode": self.firmware,
                          "efi_system_part_uuid": uuids.get("efi system partition uuid")})
        print(f"{self.name}: {json.dumps(uuids)}: {result}", flush=True)
        return uuids


def ephemeral_uuid(disk: Path, roles: list[str]) -> str:
    """Of the ext4 file system in the first partition but firmware's own."""
    before = {"efi system partition": 200, "bios": 1}
    start = 1 + sum(before.get(role, 0) for role in roles)
    with open(disk, "rb") as file:
        file.seek((start << 20) + 1024)
        superblock = file.read(1024)
    if superblock[56:58] != b"\x53\xef" or not superblock[120:].startswith(b"ephemeral0\0"):
        raise Failed(f"no ext4 labelled ephemeral0 at {start} MiB")
    return superblock[104:120].hex()


def boot_disk(name: str, marker: str, root_uuid: str, work: Path, disk: Path, entry: str) -> None:
    """The disk alone: all of its promises on the console. `entry` is what UEFI firmware says that it starts."""
    firmware = CASES[name][0]
    with Machine(f"{name}-disk", firmware, work, disk, []) as machine:
        if firmware == "uefi":
            print(f"{name}: {machine.until(entry, 120)}", flush=True)
        lines = [machine.until(word, 240) for word in ("E2E-ROOT", "E2E-IMAGE", "E2E-CONFIG-DRIVE", "E2E-DONE")]
    for line in lines:
        print(f"{name}: {line}", flush=True)
    if root_uuid not in lines[0]:
        raise Failed(f"{name}: GRUB's configuration does not name the root file system by its UUID")
    if marker not in lines[1] or f"firmware={firmware}" not in lines[1]:
        raise Failed(f"{name}: another image or firmware: {lines[1]}")
    if '"name": "partition"' not in lines[2]:
        raise Failed(f"{name}: the config drive was not found: {lines[2]}")


def case(name: str, kernel: Path, initramfs: Path, images: Path, work: Path) -> None:
    firmware, _, roles = CASES[name]
    work.mkdir()
    disk = work / "disk.img"
    with open(disk, "wb") as file:
        file.truncate(5 << 30)
    served = work / "images"
    served.mkdir()
    image = served / "partition.qcow2"
    image.symlink_to(images / image.name)
    conductor, port = Conductor(served), free_port()
    line = f"console=ttyS0 ipa-api-url=http://10.0.2.2:{conductor.port} ferric-no-tls ipa-debug=1 panic=1"
    boot = ["-kernel", str(kernel), "-initrd", str(initramfs), "-append", line,
            "-netdev", f"user,id=n0,hostfwd=tcp:127.0.0.1:{port}-:9999", "-device", "virtio-net-pci,netdev=n0,romfile="]
    began = time.monotonic()
    with Machine(f"{name}-ramdisk", firmware, work, disk, boot) as machine:
        machine.until("heartbeat accepted", 240)
        deployment = Deployment(name, work, conductor, port)
        try:
            deployment.run(bare(served))
            raise Failed(f"{name}: an image without GRUB was made bootable")
        except Failed as failed:
            if "the image lacks" not in str(failed):
                raise
            print(f"{name}: an image without GRUB: {failed}", flush=True)
        first = deployment.run(image)
        command(port, "standby.sync", {})
        before = ephemeral_uuid(disk, roles)
        # the same image again would not be written again: what was written last must be another one
        try:
            deployment.run(served / "bare.raw", preserve=True)
        except Failed as failed:
            if "the image lacks" not in str(failed):
                raise
        second = deployment.run(image, preserve=True)
        command(port, "standby.sync", {})
        if (ephemeral_uuid(disk, roles), second["root uuid"]) != (before, first["root uuid"]):
            raise Failed(f"{name}: the ephemeral file system is not the one that was to be preserved")
        if "keeps its old partition table" in machine.text():
            raise Failed(f"{name}: something on the disk was in use between two deployments: still mounted?")
    deployed = time.monotonic() - began
    boot_disk(name, images.name, second["root uuid"], work, disk, 'starting Boot0001 "Ferric deployed disk"')
    if firmware == "uefi":
        (work / "vars.fd").unlink()
        boot_disk(name, images.name, second["root uuid"], work, disk, 'starting Boot0001 "UEFI Misc Device"')
    print(f"{name}: OK, deployed four times in {deployed:.0f} s, booted {time.monotonic() - began - deployed:.0f} s later",
          flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agent", type=Path, required=True, help="a static ferric-agent")
    parser.add_argument("--ferric", type=Path, default=HERE.parents[1] / "target/debug/ferric")
    parser.add_argument("--work", type=Path, help="kept; without it a temporary folder")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    given = parser.parse_args()
    work = given.work or Path(tempfile.mkdtemp(prefix="partition-"))
    work.mkdir(exist_ok=True)
    try:
        images = cached("image/partition.sh")
        kernel, initramfs = ramdisk(given.agent, given.ferric, work)
        for name in given.cases or CASES:
            case(name, kernel, initramfs, images, work / name)
    except Failed as failed:
        sys.exit(f"failed: {failed}\nlogs are in {work}")
    if not given.work:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
