"""Counts what is written to the machine's disk, by QEMU's own statistics."""

import json
import socket
import threading
import time
from pathlib import Path


class Counter:
    """Bytes that the machine's system wrote to its disk, boot by boot, looked at five times a second."""

    def __init__(self, machine: Path) -> None:
        self._boots: list[int] = []
        self._socket = machine / "qmp.sock"
        threading.Thread(target=self._follow, daemon=True).start()

    def written(self) -> int:
        """Of all boots so far."""
        return sum(self._boots)

    def _follow(self) -> None:
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as monitor:
                    monitor.settimeout(10)
                    monitor.connect(str(self._socket))
                    self._one_boot(monitor.makefile("rw"))
            except (OSError, ValueError):
                time.sleep(0.1)  # off, or on its way

    def _one_boot(self, monitor) -> None:
        def ask(command: str) -> object:
            monitor.write(json.dumps({"execute": command}) + "\n")
            monitor.flush()
            while True:
                line = monitor.readline()
                if not line:
                    raise OSError("it ended")
                answer = json.loads(line)
                if "return" in answer:
                    return answer["return"]

        monitor.readline()  # its greeting
        ask("qmp_capabilities")
        self._boots.append(0)
        while True:
            for device in ask("query-blockstats"):
                if device.get("device") == "d0":
                    self._boots[-1] = device["stats"]["wr_bytes"]
            time.sleep(0.2)
