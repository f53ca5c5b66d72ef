"""The whole life of a machine, by the unmodified client: inspected, cleaned, deployed, serviced, rescued, taken back."""

import json
import struct
import time

from client import peek
from road import NODE, Road
from world import MAC, Failed, tail, until

PASSWORD = "Rescue-me-1"  # of this machine only
USED = b"EFI PART"


class Life(Road):
    """One method per stretch, as on the road; `live` walks them all."""

    def live(self) -> None:
        """From a used disk to a clean one."""
        self._use_the_disk()
        self._figures: list[str] = []
        for stretch in (
            self.enrol_only, self.inspect, self.provide_with_cleaning, self.order_partition_image, self.deploy,
            self.service, self.rescue, self.unrescue, self.take_back,
        ):  # fmt: skip
            began = time.monotonic()
            stretch()
            self._figures.append(f"{stretch.__name__} {time.monotonic() - began:.1f}")

    def _use_the_disk(self) -> None:
        """The disk comes from somebody else: a partition table with both copies, and a file system's superblock."""
        with open(self.machine.folder / "disk.img", "r+b") as disk:
            size = disk.seek(0, 2)
            disk.seek(510)
            disk.write(b"\x55\xaa")
            for sector in (512, size - 512):
                disk.seek(sector)
                disk.write(USED)
            disk.seek((1 << 20) + 1024 + 56)
            disk.write(struct.pack("<H", 0xEF53))

    def _still_used(self) -> bool:
        with open(self.machine.folder / "disk.img", "rb") as disk:
            size = disk.seek(0, 2)
            disk.seek(0)
            first = disk.read(1 << 20)
            disk.seek(size - 4096)
            return USED in first or USED in disk.read(4096)

    def enrol_only(self) -> None:
        """To `manageable`, with the rescue ramdisk known."""
        self.enrol(provide=False)
        kernel, initramfs = (self.ramdisk / name for name in ("kernel", "initramfs"))
        self.client(
            "node", "set", NODE, "--rescue-interface", "agent", "--inspect-interface", "agent",
            "--driver-info", f"rescue_kernel=file://{kernel}", "--driver-info", f"rescue_ramdisk=file://{initramfs}",
        )  # fmt: skip

    def inspect(self) -> None:
        """What the ramdisk found is what QEMU was given."""
        self.client("node", "inspect", NODE, "--wait", "240")
        node = self.client.show(NODE, "provision_state", "properties", "inspection_finished_at")
        self._expect("state after inspection", node["provision_state"], "manageable")
        self._expect("the architecture", node["properties"].get("cpu_arch"), "x86_64")
        if not node["inspection_finished_at"]:
            raise Failed("inspection_finished_at is not set")
        found = json.loads(self.client("node", "inventory", "save", NODE))["inventory"]
        self._expect("the machine's address", [one["mac_address"] for one in found["interfaces"] if one["mac_address"] == MAC], [MAC])
        self._expect("processors", found["cpu"]["count"], 1)
        self._expect("boot mode", found["boot"]["current_boot_mode"], self.scenario.firmware)
        disks = [(disk["serial"], disk["size"]) for disk in found["disks"] if disk["serial"] == "E2EDISK"]
        self._expect("the disk", disks, [("E2EDISK", (self.machine.folder / "disk.img").stat().st_size)])
        memory = found["memory"]["physical_mb"]
        if abs(memory - self.scenario.memory_mib) > 16:
            raise Failed(f"memory: {memory} MiB, should be {self.scenario.memory_mib}")
        self.timeline.say("inspected; the inventory is the machine's", name="inspected")

    def provide_with_cleaning(self) -> None:
        """`available` only after the metadata of the former owner is gone from the disk."""
        if not self._still_used():
            raise Failed("the disk was wiped before the cleaning: this run proves nothing")
        self.client("node", "provide", NODE, "--wait", "300")
        node = self.client.show(NODE, "provision_state", "maintenance", "last_error", "clean_step")
        self._expect("state after provide", node["provision_state"], "available")
        self._expect("maintenance after cleaning", node["maintenance"], False)
        if self._still_used():
            raise Failed("cleaned, and the former owner's partition table is still on the disk")
        until("the BMC says off", 10, lambda: not self.machine.is_on())
        self.timeline.say("cleaned; the former owner's partition table is gone", name="cleaned")

    def order_partition_image(self) -> None:
        """A file system alone: partitions and boot loader are the agent's work."""
        self.order("--instance-info", "image_type=partition", "--instance-info", "root_gb=1", "--instance-info", "swap_mb=64")

    def service(self) -> None:
        """A step on the running machine, then its instance again."""
        self.client("node", "set", NODE, "--driver-info", "agent_burnin_cpu_timeout=2")
        steps = json.dumps([{"interface": "deploy", "step": "burnin_cpu"}])
        boots = len(self._boots())
        self.client("node", "service", NODE, "--service-steps", steps, "--wait", "300")
        self._expect("state after service", self.client.show(NODE, "provision_state")["provision_state"], "active")
        self._expect("boots of the service", self._boots()[boots:], ["pxe", "default"])
        self._instance_runs()
        self.timeline.say("serviced; the instance runs again", name="serviced")

    def _boots(self) -> list[str]:
        return [words[2] for words in self.machine.power_log() if words[1] == "on"]

    def _instance_runs(self) -> None:
        until("the instance's marker", 120, lambda: "E2E-DONE" in tail(self.machine.serial(), 60))

    def rescue(self) -> None:
        """The rescue ramdisk lets its user in, with the password and not without."""
        self.client("node", "rescue", NODE, "--rescue-password", PASSWORD, "--wait", "300")
        self._expect("state after rescue", self.client.show(NODE, "provision_state")["provision_state"], "rescue")
        said = json.dumps(peek(f"/v1/nodes/{NODE}")) + (self.world.folder / "ferric.log").read_text(errors="replace")
        if PASSWORD in said:
            raise Failed("the rescue password is in the API's answer or in the log")
        until("a login", 60, lambda: "login:" in tail(self.machine.serial(), 5))
        for password, answer in (("wrong", "ncorrect"), (PASSWORD, "RESCUED uid=0")):
            self.machine.types("rescue")
            until("the password is asked for", 20, lambda: "assword:" in tail(self.machine.serial(), 2))
            self.machine.types(password)
            if password == PASSWORD:
                until("a shell", 20, lambda: "rescue:~#" in tail(self.machine.serial(), 2))
                self.machine.types("echo RESCUED uid=$(id -u)")
            until(f"answer to the password {password}", 30, lambda answer=answer: answer in tail(self.machine.serial(), 8))
            if password != PASSWORD:
                until("a login again", 20, lambda: "login:" in tail(self.machine.serial(), 2))
        self.timeline.say("rescued; the rescue user logged in on the serial console", name="rescued")

    def unrescue(self) -> None:
        """Back to the instance; the password is forgotten."""
        self.client("node", "unrescue", NODE, "--wait", "120")
        node = self.client.show(NODE, "provision_state", "instance_info")
        self._expect("state after unrescue", node["provision_state"], "active")
        self._expect("passwords left", [key for key in node["instance_info"] if "password" in key], [])
        self._instance_runs()
        self.timeline.say("the instance runs again", name="unrescued")

    def take_back(self) -> None:
        """Undeploy with cleaning."""
        self.client("node", "undeploy", NODE, "--wait", "300")
        self._expect("state after undeploy", self.client.show(NODE, "provision_state")["provision_state"], "available")
        with open(self.machine.folder / "disk.img", "rb") as disk:
            first = disk.read(1 << 20)
            if USED in first or first[510:512] == b"\x55\xaa":
                raise Failed("undeployed and cleaned, and the instance's partition table is still on the disk")
        self.timeline.say("undeployed and cleaned", name="back")

    def summary(self) -> str:
        """How long each stretch took, in seconds."""
        return ", ".join(self._figures)
