#!/usr/bin/env python3
"""agent.py FERRIC: prints the folder with `kernel` and `initramfs` of Ferric's own ramdisk, built by that binary, once
per content."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))

from ferric import ramdisk  # noqa: E402
from world import cached  # noqa: E402

print(ramdisk(Path(sys.argv[1]).resolve(), cached("install.sh").parent))
