"""A web server for images: ranges, an optional speed limit, and an account of every byte it gave."""

import http.server
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from watch import Timeline
from world import IMAGES


@dataclass
class Access:
    """One request: which bytes were asked for and how many went out."""

    method: str
    path: str
    first_byte: int
    sent: int = 0
    total: int = 0
    ended: float | None = None


class ImageServer:
    """Serves one folder at `url`. `rate` is in bytes per second, None without a limit; it may change at any time."""

    def __init__(self, folder: Path, timeline: Timeline) -> None:
        self.accesses: list[Access] = []
        self.rate: int | None = None
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path = folder / Path(self.path.split("?")[0]).name
                if not path.is_file():
                    owner.accesses.append(Access(self.command, self.path, 0))
                    self.send_error(404)
                    return
                size = path.stat().st_size
                first, last = 0, size - 1
                asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                if asked:
                    first = int(asked.group(1))
                    last = min(last, int(asked.group(2) or last))
                if first > last:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{size}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                access = Access(self.command, self.path, first, total=last - first + 1)
                owner.accesses.append(access)
                self.send_response(206 if asked else 200)
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(access.total))
                if asked:
                    self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
                self.end_headers()
                if not body:
                    return
                timeline.say(f"image: {self.command} {self.path} from byte {first}", name="write start")
                try:
                    self.give(path, access)
                except OSError as error:
                    timeline.say(f"image: client went away after {access.sent} bytes: {error}")
                    self.close_connection = True
                    return
                access.ended = time.time()
                timeline.say(f"image: all {access.sent} bytes sent", name="write end", last=True)

            def give(self, path: Path, access: Access) -> None:
                with open(path, "rb") as file:
                    file.seek(access.first_byte)
                    while access.sent < access.total:
                        block = file.read(min(1 << 18, access.total - access.sent))
                        self.wfile.write(block)
                        access.sent += len(block)
                        if owner.rate:
                            time.sleep(len(block) / owner.rate)

        server = http.server.ThreadingHTTPServer((IMAGES, 80), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        """Where a file of the folder is."""
        return f"http://{IMAGES}/{name}"

    def sent(self) -> int:
        """Bytes of bodies so far."""
        return sum(access.sent for access in self.accesses)
