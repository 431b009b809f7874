"""A small S3 server over HTTP that keeps S3's promises, except for those a test has it break; for the probe alone."""

import base64
import contextlib
import hashlib
import re
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIES = {
    "stale": "storing",
    "no ranges": "reading ranges",
    "forgetful listing": "listing",
    "foreign listing": "listing",
    "keeps removed": "removing",
    "parts by arrival": "uploads in parts",
    "no parts": "uploads in parts",
    "early parts": "uploads in parts",
    "any checksum": "checksums",
    "any writer": "conditional writes",
    "any join": "conditional joins",
}
"""What the server can be told to do wrong, and the promise that breaks."""


class LyingServer(ThreadingHTTPServer):
    """Objects in a dict; `lie` is one of LIES or empty."""

    def __init__(self, lie: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lie = lie
        self.objects: dict[str, bytes] = {}
        self.parts: dict[int, bytes] = {}
        self.overloaded = False
        self.cuts: list[int] = []
        """After how many bytes each of the next ranges breaks off."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: apart they wait 40 ms for each other.
    wbufsize = -1
    server: LyingServer

    def do_PUT(self) -> None:
        key, query, body = *self.target(), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        lie, checksum = self.server.lie, self.headers.get("x-amz-checksum-sha256")
        if "partNumber" in query:
            self.server.parts[int(query["partNumber"])] = body
        elif lie != "any writer" and self.headers.get("If-None-Match") and key in self.server.objects:
            self.fail(412, "PreconditionFailed")
            return
        elif lie != "any checksum" and checksum and checksum != base64.b64encode(hashlib.sha256(body).digest()).decode():
            self.fail(400, "BadDigest")
            return
        elif not (lie == "stale" and key in self.server.objects):
            self.server.objects[key] = body
        if "partNumber" in query and lie == "early parts":
            self.server.objects[key] = body
        self.answer(200, b"", ETag=f'"{hashlib.md5(body).hexdigest()}"')

    def do_POST(self) -> None:
        key, query = self.target()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.lie == "no parts":
            self.fail(501, "NotImplemented")
            return
        if "uploads" in query:
            self.answer(200, b"<R><UploadId>one</UploadId></R>")
            return
        if self.server.lie != "any join" and self.headers.get("If-None-Match") and key in self.server.objects:
            self.fail(412, "PreconditionFailed")
            return
        numbers = list(self.server.parts) if self.server.lie == "parts by arrival" else sorted(self.server.parts)
        self.server.objects[key] = b"".join(self.server.parts[number] for number in numbers)
        self.answer(200, b"<R><Bucket>b</Bucket><Key>k</Key><ETag>e</ETag></R>")

    def do_GET(self) -> None:
        key, query = self.target()
        if self.server.overloaded:
            self.fail(503, "SlowDown")
            return
        if "uploadId" in query:
            parts = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>e</ETag></Part>" for n in sorted(self.server.parts))
            self.answer(200, f"<R><Bucket>b</Bucket>{parts}</R>".encode())
            return
        if not key:
            self.answer(200, self.listing(query.get("prefix", "")))
            return
        if key not in self.server.objects:
            self.fail(404, "NoSuchKey")
            return
        content, found = self.server.objects[key], re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not found or self.server.lie == "no ranges":
            self.answer(200, content)
            return
        end = int(found[2]) + 1 if found[2] else len(content)
        self.answer(206, content[int(found[1]) : end], cut=self.server.cuts.pop(0) if self.server.cuts else None)

    def do_HEAD(self) -> None:
        key, _ = self.target()
        self.answer(200, self.server.objects.get(key, b""))

    def do_DELETE(self) -> None:
        key, _ = self.target()
        if self.server.lie != "keeps removed":
            self.server.objects.pop(key, None)
        self.answer(204, b"")

    def listing(self, prefix: str) -> bytes:
        keys = sorted(key for key in self.server.objects if key.startswith(prefix))
        if self.server.lie == "forgetful listing":
            keys = keys[:1]
        if self.server.lie == "foreign listing":
            keys.append("blobs/foreign")
        items = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(self.server.objects.get(key, b''))}</Size></Contents>" for key in keys
        )
        return f"<R><Name>b</Name><IsTruncated>false</IsTruncated>{items}</R>".encode()

    def target(self) -> tuple[str, dict[str, str]]:
        address = urllib.parse.urlsplit(self.path)
        return address.path.strip("/").partition("/")[2], dict(urllib.parse.parse_qsl(address.query, keep_blank_values=True))

    def fail(self, status: int, code: str) -> None:
        self.answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())

    def answer(self, status: int, body: bytes, cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        self.close_connection = self.close_connection or cut is not None

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def lying_server(lie: str = "") -> Iterator[LyingServer]:
    """Serves while the block runs."""
    with LyingServer(lie) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
