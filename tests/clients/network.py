"""The network service that metalsmith looks for addresses in: it answers that there are none. Bare metal is all that is
under test here; a Neutron would bring a database, a broker and a Keystone to say the same."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Nothing(BaseHTTPRequestHandler):
    """No port, no network, no subnet."""

    def do_GET(self) -> None:
        """Versions at the root, else an empty collection."""
        noun = self.path.partition("?")[0].rstrip("/").rpartition("/")[2]
        port = self.server.server_address[1]
        links = [{"rel": "self", "href": f"http://127.0.0.1:{port}/v2.0/"}]
        root = {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]}
        self._answer(root if noun in ("", "v2.0") else {noun: []})

    def _answer(self, body: dict) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def serve() -> str:
    """Serves on a free port until this process ends; answers the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"
