"""The road of one machine: from an empty world to its own image and back."""

import json
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from client import Client, peek
from counter import Counter
from ferric import Ferric, journal
from images import ImageServer
from watch import Timeline, watch_machine, watch_wire
from world import BMC, LIMIT, MAC, Failed, Machine, World, run, tail, until


@dataclass(frozen=True)
class Scenario:
    """What differs between two deployments."""

    firmware: str
    boot_interface: str
    image: str
    config_drive: str
    agent: str = "ferric"
    payload_mb: int = 0
    images: str = "image/build.sh"
    cleans: bool = False
    driver: str = "ipmi"
    netboot: bool = False

    @property
    def memory_mib(self) -> int:
        """What the machine needs to hold its ramdisk."""
        return 2048 if self.agent == "ipa" else 1024

    @property
    def iscsi(self) -> bool:
        """Whether Ferric writes the disk, and not the ramdisk."""
        return self.driver == "pxe_ipmitool"


NODE = "e2e"


class Road:
    """The whole road of one scenario: one method per stretch, in order."""

    def __init__(self, scenario: Scenario, binary: Path, parts: dict[str, str]) -> None:
        self.scenario = scenario
        self.binary = binary
        self.timeline = Timeline()
        self.client = Client(Path(parts["venv"]))
        self.images = Path(parts["images"])
        self.ramdisk = Path(parts["ramdisk"])
        self.world = World()
        self.token = uuid.uuid4().hex

    def prepare(self) -> None:
        """Machine, image server and Ferric are there and idle."""
        self.machine = Machine(self.world, self.scenario.firmware, self.scenario.memory_mib)
        self.server = ImageServer(self._kernel_beside() if self.scenario.netboot else self.images, self.timeline)
        self.ferric = Ferric(self.world, self.binary, cleans=self.scenario.cleans, driver=self.scenario.driver)
        self.ferric.start()
        self.timeline.say("Ferric answers")
        watch_machine(self.machine, self.timeline)
        watch_wire(self.timeline)
        threading.Thread(target=self._watch_states, daemon=True).start()

    def _kernel_beside(self) -> Path:
        """The images with the kernel and the ramdisk of the partition image, as whoever boots over the network needs
        them."""
        folder = self.world.folder / "images"
        folder.mkdir()
        for file in self.images.iterdir():
            (folder / file.name).symlink_to(file)
        for name, place in (("kernel", "vmlinuz-e2e"), ("initrd", "initrd.img-e2e")):
            run("debugfs", "-R", f"dump /boot/{place} {folder / name}", str(self.images / "partition.raw"))
        return folder

    def _watch_states(self) -> None:
        before = None
        answered, silent = time.monotonic(), False
        while True:
            node = peek(f"/v1/nodes/{NODE}?fields=provision_state,power_state,last_error")
            if not node and before and not silent and time.monotonic() > answered + 15:
                silent = True
                self.timeline.say("the API does not answer for 15 s")
            if node:
                answered, silent = time.monotonic(), False
                now = (node.get("provision_state"), node.get("last_error"))
                if now != before:
                    self.timeline.say(f"node is {now[0]}" + (f": {now[1]}" if now[1] else ""), name=f"state {now[0]}")
                before = now
            time.sleep(0.25)

    def enrol(self, provide: bool = True) -> None:
        """From nothing to `available` (or `manageable`): the BMC has been spoken to."""
        kernel = self.ramdisk / "kernel"
        initramfs = self.ramdisk / ("ramdisk" if self.scenario.agent == "bash" else "initramfs")
        classic = self.scenario.driver != "ipmi"  # it boots as it does, and knows the old names too
        boot, old = ([], "pxe_") if classic else (["--boot-interface", self.scenario.boot_interface], "")
        self.client(
            "node", "create", "--driver", self.scenario.driver, "--name", NODE, *boot,
            "--driver-info", f"ipmi_address={BMC}", "--driver-info", "ipmi_port=623", "--driver-info", "ipmi_username=admin",
            "--driver-info", f"ipmi_password={Machine.PASSWORD}",
            "--driver-info", f"{old}deploy_kernel=file://{kernel}", "--driver-info", f"{old}deploy_ramdisk=file://{initramfs}",
            "--property", f"capabilities=boot_mode:{self.scenario.firmware}",
        )  # fmt: skip
        node = self.client.show(NODE, "uuid", "provision_state")
        self.uuid = node["uuid"]
        self._expect("a new node's state", node["provision_state"], "enroll")
        self.client("port", "create", MAC, "--node", self.uuid)
        self.client("node", "manage", NODE, "--wait", "60")
        if provide:
            self.client("node", "provide", NODE, "--wait", "60")
        node = self.client.show(NODE, "provision_state", "power_state", "driver_info")
        self._expect("state after enrolment", node["provision_state"], "available" if provide else "manageable")
        self._expect("power state as Ferric knows it", node["power_state"], "power off")
        self._expect("the password as the API tells it", node["driver_info"]["ipmi_password"], "******")

    def _config_drive(self) -> str:
        meta_data = {"uuid": str(uuid.uuid4()), "hostname": "e2e-host", "token": self.token}
        if self.scenario.config_drive == "json":
            return json.dumps({"meta_data": meta_data})
        folder = self.world.folder / "config-drive"
        latest = folder / "openstack" / "latest"
        latest.mkdir(parents=True, exist_ok=True)
        (latest / "meta_data.json").write_text(json.dumps(meta_data))
        (latest / "user_data").write_text("#!/bin/sh\n")
        return str(folder)

    def order(self, *more: str) -> None:
        """Says which image; `more` are further words of `node set`."""
        name = self.scenario.image
        sums = dict(reversed(line.split()) for line in (self.images / "sums").read_text().splitlines())
        self.client(
            "node", "set", NODE,
            "--instance-info", f"image_source={self.server.url(name)}", "--instance-info", f"image_checksum={sums[name]}",
            "--instance-info", f"image_disk_format={'qcow2' if name.endswith('qcow2') else 'raw'}",
            "--property", "root_device={\"serial\": \"E2EDISK\"}", *more,
        )  # fmt: skip
        if self.scenario.iscsi:
            info = ["root_gb=3"]
            if self.scenario.netboot:
                info += ["image_type=partition", "capabilities={\"boot_option\": \"netboot\"}"]
                info += [f"kernel={self.server.url('kernel')}", f"ramdisk={self.server.url('initrd')}"]
            self.client("node", "set", NODE, *(word for one in info for word in ("--instance-info", one)))
        self.client("node", "validate", NODE)

    def deploy(self) -> None:
        """From `available` to `active`, the client waiting; then the machine's own word."""
        deployment = self.client.start("node", "deploy", NODE, "--config-drive", self._config_drive(), "--wait", "300")
        # the client needs a second or two to load; the clock starts when its request is taken
        self._taken()
        try:
            said, _ = deployment.communicate(timeout=300 + LIMIT)
        except subprocess.TimeoutExpired:
            deployment.kill()
            raise Failed("openstack baremetal node deploy --wait 300 does not end") from None
        if deployment.returncode != 0:
            raise Failed(f"openstack baremetal node deploy --wait: exit {deployment.returncode}\n{said}")
        self._expect("state after deploy", self.client.show(NODE, "provision_state")["provision_state"], "active")
        self.booted()

    def _taken(self) -> None:
        def taken() -> bool:
            node = peek(f"/v1/nodes/{NODE}?fields=provision_state")
            return bool(node) and node["provision_state"] != "available"

        until("the deployment begins", 30, taken, every=0.02)
        self.timeline.start("deploy")

    def booted(self) -> None:
        """The image says on the serial console that it runs, and what its config drive tells."""
        marker = self.images.name
        until("the image's marker on the serial console", 120, lambda: "E2E-DONE" in tail(self.machine.serial(), 60))
        text = self.machine.serial().read_bytes().decode("utf8", "replace")
        for promise, words in (
            ("the image's marker", f"E2E-IMAGE {marker} firmware={self.scenario.firmware}"),
            ("the config drive's meta_data", self.token),
            *([("the whole payload", "E2E-PAYLOAD intact")] if self.scenario.payload_mb else []),
        ):
            if words not in text:
                raise Failed(f"the serial console does not have {promise}: {words}")
        self.timeline.say("the image runs and has its config drive", name="marker")
        boots = [words[2] for words in self.machine.power_log() if words[1] == "on"]
        self._expect("boots", boots[-2:], ["pxe", "pxe" if self.scenario.netboot else "default"])
        self._expect("power at the BMC", self.machine.is_on(), True)

    def undeploy(self) -> None:
        """Back to `available`, and off."""
        self.client("node", "undeploy", NODE, "--wait", "120")
        node = self.client.show(NODE, "provision_state", "power_state", "instance_info")
        self._expect("state after undeploy", node["provision_state"], "available")
        self._expect("power state after undeploy", node["power_state"], "power off")
        self._expect("instance_info after undeploy", node["instance_info"], {})
        until("the BMC says off", 10, lambda: not self.machine.is_on())
        self.timeline.say("undeployed, off at the BMC")

    def deploy_with_kill(self) -> None:
        """Ferric is killed twice, the second time while the image is written. It takes the deployment up each time, and
        the write goes on undisturbed."""
        self.server.rate = 10_000_000
        self.client("node", "deploy", NODE, "--config-drive", self._config_drive())
        self.timeline.start("deploy")
        size = (self.images / self.scenario.image).stat().st_size
        # first while nobody has heard of the ramdisk yet
        until("the ramdisk starts", 120, lambda: self._not_failed() and self.timeline.seconds("init"))
        self.ferric.kill()
        self.timeline.say("kill -9 of Ferric while the ramdisk boots")
        self.ferric.start()
        self.timeline.say("Ferric is back")
        until("a fifth of the image is sent", 180, lambda: self._not_failed() and self.server.sent() > size / 5)
        before = journal(self.ferric.data)
        self.ferric.kill()
        self.timeline.say(f"kill -9 of Ferric; {self.server.sent()} of {size} bytes are sent")
        # it stays away for a while of the write, as a rebooting host does
        sent = self.server.sent()
        until("the write goes on alone", 30, lambda: self.server.sent() > sent + size / 10)
        self.ferric.start()
        self.timeline.say(f"Ferric is back; {self.server.sent()} of {size} bytes are sent")
        if self.server.sent() >= size:
            raise Failed("the write was over before Ferric came back: this run proves nothing")
        until("active", 240, lambda: self._not_failed() and self._state() == "active")
        self.booted()
        starts = [access.first_byte for access in self.server.accesses if access.method == "GET"]
        self._expect("first bytes of the downloads", starts, [0])
        self._expect("bytes sent", self.server.sent(), size)
        after = journal(self.ferric.data)
        self._expect("operations in the journal", {row["op"] for row in after}, {row["op"] for row in before})
        self._expect("states of its steps", {row["state"] for row in after}, {"done"})

    def deploy_with_kill_of_the_writer(self) -> None:
        """Ferric itself writes, and is killed in the middle of it. It goes on where it was, and the disk is as if nothing
        had been."""
        counter = Counter(self.machine.folder)
        with open(self.images / self.scenario.image, "rb") as image:
            # holes are not written
            size = sum(len(block) for block in iter(lambda: image.read(1 << 16), b"") if block.count(0) < len(block))
        self.client("node", "deploy", NODE, "--config-drive", self._config_drive())
        self.timeline.start("deploy")
        until("half of the image is written", 240, lambda: self._not_failed() and counter.written() > size / 2)
        before = counter.written()
        operations = {row["op"] for row in journal(self.ferric.data)}
        self.ferric.kill()
        self.timeline.say(f"kill -9 of Ferric; {before >> 20} of {size >> 20} MiB are written")
        if before >= size:
            raise Failed("the write was over before Ferric was killed: this run proves nothing")
        self.ferric.start()
        self.timeline.say("Ferric is back")
        until("the disk is written", 240, lambda: self._not_failed() and self._step() not in ("deploy", "write_image", None))
        written = counter.written()
        self.timeline.say(f"{written >> 20} MiB written in all, the image has {size >> 20}")
        if written > size + (64 << 20):
            raise Failed(f"{(written - size) >> 20} MiB were written twice, 64 are allowed")
        until("active", 240, lambda: self._not_failed() and self._state() == "active")
        self.booted()
        after = journal(self.ferric.data)
        self._expect("operations in the journal", {row["op"] for row in after}, operations)
        self._expect("states of its steps", {row["state"] for row in after}, {"done"})

    def _step(self) -> str | None:
        node = peek(f"/v1/nodes/{NODE}?fields=provision_state,deploy_step")
        if node and node["provision_state"] == "active":
            return "active"
        return (node or {}).get("deploy_step", {}).get("step")

    def _state(self) -> str | None:
        node = peek(f"/v1/nodes/{NODE}?fields=provision_state,last_error")
        self._last_error = node.get("last_error") if node else None
        return node and node["provision_state"]

    def _not_failed(self) -> bool:
        if self._state() in ("deploy failed", "error"):
            raise Failed(f"deploy failed: {self._last_error}")
        return True

    def close(self) -> None:
        """Ferric ends when it is asked to."""
        self.ferric.stop()

    def summary(self) -> str:
        """The figures of one line."""
        steps = ("on pxe", "dhcp ack", "init", "lookup", "heartbeat", "write start", "write end", "off", "on default", "state active", "marker")
        return ", ".join(f"{step} {seconds:.1f}" for step in steps if (seconds := self.timeline.seconds(step)) is not None)

    def complain(self) -> None:
        """What one needs to see when a promise was not kept."""
        print("\n--- node", json.dumps(shown := peek(f"/v1/nodes/{NODE}?fields=provision_state,power_state,target_provision_state,last_error,maintenance,fault")))
        ferric = getattr(self, "ferric", None)
        if not shown and ferric and ferric.process:
            print(f"--- the API does not answer; Ferric's threads\n{ferric.stands()}")
        for name, lines in (("ferric", 60), ("bmc", 15)):
            print(f"--- {name}.log\n{tail(self.world.folder / f'{name}.log', lines)}")
        machine = self.world.folder / "machine"
        print(f"--- power.log\n{tail(machine / 'power.log', 20)}")
        for log in sorted(machine.glob("serial-*.log"))[-2:]:
            print(f"--- {log.name}\n{tail(log, 40)}")
        for log in sorted(machine.glob("qemu-*.log"))[-1:]:
            print(f"--- {log.name}\n{tail(log, 10)}")

    @staticmethod
    def _expect(what: str, is_: object, should_be: object) -> None:
        if is_ != should_be:
            raise Failed(f"{what}: {is_!r}, should be {should_be!r}")
