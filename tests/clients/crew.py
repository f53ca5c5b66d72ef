"""Work side by side in children of one process, which loads the clients once."""

import os
import selectors
import sys
import traceback
from collections.abc import Callable

Work = Callable[[], str]


def carry_out(at_once: int, work: list[tuple[str, Work]]) -> dict[str, str]:
    """Does all work, so many at a time, each in a child; answers what each returned, or how it ended, by name."""
    waiting, running, said = list(work), {}, {}
    ready = selectors.DefaultSelector()
    while waiting or running:
        while waiting and len(running) < at_once:
            name, do = waiting.pop(0)
            reads, writes = os.pipe()
            sys.stdout.flush()
            child = os.fork()
            if child == 0:
                os.close(reads)
                _child(do, writes)
            os.close(writes)
            running[reads] = (name, child, [])
            ready.register(reads, selectors.EVENT_READ)
        for key, _ in ready.select():
            name, child, parts = running[key.fd]
            if part := os.read(key.fd, 65536):
                parts.append(part)
                continue
            ready.unregister(key.fd)
            os.close(key.fd)
            del running[key.fd]
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            text = b"".join(parts).decode(errors="replace")
            said[name] = text if status == 0 else f"its process ended with {status}: {text}"
    return {name: said[name] for name, _ in work}


def _child(do: Work, writes: int) -> None:
    """Does the work and ends this process; what it printed is not kept."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        try:
            text = do()
        except BaseException:  # noqa: BLE001  (a child that failed says why, whatever it was)
            text = traceback.format_exc()
        with os.fdopen(writes, "wb") as pipe:
            pipe.write(text.encode())
        os._exit(0)
    finally:
        os._exit(1)
