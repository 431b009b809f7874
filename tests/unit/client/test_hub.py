"""Models of a hub are fetched at one commit, with what the hub says of their bytes compared; the hub here is a small one."""

import contextlib
import hashlib
import http.server
import json
import pathlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tunesmith.errors import DataLoss, InvalidArgument, NotFound, PermissionDenied, TunesmithError, Unreachable
from tunesmith.hub import Hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = b"weights" * 400_000
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "README.md": b"# Tiny",
    "pytorch_model.bin": b"\x80pickle",
    "modeling_tiny.py": b"import os",
    "onnx/model.json": b"{}",
    ".gitattributes": b"x",
}
TAKEN = ("config.json", "tokenizer.json", "model.safetensors", "README.md")


class SmallHub(http.server.ThreadingHTTPServer):
    """Lists and sends FILES; large ones by way of `store`, a second server, as a hub's are."""

    def __init__(self, store: "SmallHub | None" = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = store
        self.files = dict(FILES)
        self.asked: list[tuple[str, str, str]] = []
        """Path, Range and Authorization."""
        self.status = 200
        self.listing: bytes | None = None
        self.cut = 0
        """Bytes after which the next large answer breaks off; 0 = none does."""
        self.resets = False
        """Whether it breaks off without a word instead of an end."""
        self.leads_to = ""
        """Where large files are, instead of the store."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def told(self) -> bytes:
        siblings: list[dict[str, Any]] = [{"rfilename": path, "size": len(content)} for path, content in self.files.items()]
        for each in siblings:
            if each["rfilename"].endswith((".safetensors", ".bin")):
                each["lfs"] = {"sha256": hashlib.sha256(FILES[each["rfilename"]]).hexdigest(), "size": each["size"]}
        return json.dumps({"sha": COMMIT, "siblings": siblings, "cardData": {"license": "apache-2.0"}}).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    server: SmallHub

    def do_GET(self) -> None:
        hub, path = self.server, self.path
        hub.asked.append((path, self.headers.get("Range", ""), self.headers.get("Authorization", "")))
        if hub.status != 200:
            self.send_error(hub.status)
        elif path.startswith("/api/models/"):
            self.answer(hub.listing if hub.listing is not None else hub.told())
        elif hub.store is not None and path.endswith(".safetensors"):
            self.send_response(302)
            self.send_header("Location", f"{hub.leads_to or hub.store.endpoint}{path}")
            self.end_headers()
        else:
            content = hub.files[path.rpartition("/")[2]]
            offset = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            self.answer(content[offset:], 206 if offset else 200)

    def answer(self, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        cut, self.server.cut = self.server.cut, 0
        with contextlib.suppress(OSError):
            self.wfile.write(content[:cut] if cut else content)
            if cut and self.server.resets:
                # Closed with nothing to linger for, a connection ends by a reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.wfile.flush()
                self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(server: SmallHub) -> Iterator[SmallHub]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def store() -> Iterator[SmallHub]:
    with serving(SmallHub()) as store:
        yield store


@pytest.fixture
def hub(store: SmallHub) -> Iterator[SmallHub]:
    with serving(SmallHub(store)) as hub:
        yield hub


def client(hub: SmallHub, **environment: str) -> Hub:
    return Hub({"HF_ENDPOINT": hub.endpoint} | environment)


def test_data_alone_is_taken_at_the_commit_of_the_revision(hub: SmallHub, tmp_path: pathlib.Path) -> None:
    source = client(hub)
    model = source.model("owner/tiny@v1.0")
    source.fetch(model, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {path: FILES[path] for path in TAKEN}
    assert (model.commit, model.license) == (COMMIT, "apache-2.0")
    paths = [path for path, *_ in hub.asked]
    assert paths[0] == "/api/models/owner/tiny/revision/v1.0?blobs=true"
    assert set(paths[1:]) == {f"/owner/tiny/resolve/{COMMIT}/{path}" for path in TAKEN}


def test_a_branch_is_one_part_of_the_address(hub: SmallHub) -> None:
    client(hub).model("owner/tiny@refs/pr/1")
    assert hub.asked[0][0] == "/api/models/owner/tiny/revision/refs%2Fpr%2F1?blobs=true"


def test_the_token_goes_to_the_hub_and_to_nobody_it_leads_to(hub: SmallHub, store: SmallHub, tmp_path: pathlib.Path) -> None:
    source = client(hub, HF_TOKEN="hf_secret")
    source.fetch(source.model("owner/tiny"), tmp_path)
    assert {key for *_, key in hub.asked} == {"Bearer hf_secret"}
    assert [key for *_, key in store.asked] == [""]


def test_an_interrupted_file_goes_on_where_it_ended(hub: SmallHub, store: SmallHub, tmp_path: pathlib.Path) -> None:
    source = client(hub)
    model = source.model("owner/tiny")
    store.cut = 2 * 2**20
    with pytest.raises(Unreachable, match="too early") as caught:
        source.fetch(model, tmp_path)
    assert caught.value.reason == "HUB_UNREACHABLE"
    source.fetch(model, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert store.asked[-1][1] == f"bytes={2 * 2**20}-"


def test_a_connection_that_is_reset_is_told_as_one_and_goes_on(hub: SmallHub, store: SmallHub, tmp_path: pathlib.Path) -> None:
    source = client(hub)
    model = source.model("owner/tiny")
    store.cut, store.resets = 2 * 2**20, True
    with pytest.raises(Unreachable) as caught:
        source.fetch(model, tmp_path)
    assert caught.value.reason == "HUB_UNREACHABLE"
    source.fetch(model, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("content", [b"{}", FILES["config.json"] + b" "], ids=["shorter", "longer"])
def test_a_file_of_another_size_is_not_begun(hub: SmallHub, tmp_path: pathlib.Path, content: bytes) -> None:
    source = client(hub)
    model = source.model("owner/tiny")
    hub.files["config.json"] = content
    with pytest.raises(Unreachable, match=r"of config\.json \d+ bytes would come"):
        source.fetch(model, tmp_path)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    "elsewhere", ["http://example.com", "ftp://127.0.0.1", "file:///etc/passwd?", "http://127.0.0.1.evil.org"]
)
def test_a_hub_leads_to_no_unprotected_place(hub: SmallHub, tmp_path: pathlib.Path, elsewhere: str) -> None:
    hub.leads_to = elsewhere
    source = client(hub, HF_TOKEN="hf_secret")
    with pytest.raises(Unreachable) as caught:
        source.fetch(source.model("owner/tiny"), tmp_path)
    assert (elsewhere in str(caught.value)) == (not elsewhere.startswith("file")), (
        "urllib itself knows no way from HTTP to a file"
    )
    assert not (tmp_path / "model.safetensors").exists()


def test_other_bytes_than_the_hub_tells_of_are_no_file(hub: SmallHub, store: SmallHub, tmp_path: pathlib.Path) -> None:
    store.files["model.safetensors"] = WEIGHTS[:-1] + b"?"
    source = client(hub)
    with pytest.raises(DataLoss):
        source.fetch(source.model("owner/tiny"), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_progress_is_told_to_the_end(hub: SmallHub, tmp_path: pathlib.Path) -> None:
    seen: list[tuple[int, int]] = []
    source = client(hub)
    source.fetch(source.model("owner/tiny"), tmp_path, lambda done, total: seen.append((done, total)))
    total = sum(len(FILES[path]) for path in TAKEN)
    assert seen[-1] == (total, total)


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (401, PermissionDenied, "HUB_REFUSED"),
        (403, PermissionDenied, "HUB_REFUSED"),
        (404, NotFound, "HUB_MODEL_NOT_FOUND"),
        (503, Unreachable, "HUB_UNREACHABLE"),
    ],
)
def test_refusals_say_what_to_do(hub: SmallHub, status: int, error: type[TunesmithError], reason: str) -> None:
    hub.status = status
    with pytest.raises(error) as caught:
        client(hub).model("owner/tiny")
    assert caught.value.reason == reason
    assert caught.value.hint


def test_without_a_network_it_says_how_to_do_without() -> None:
    with pytest.raises(Unreachable, match="could not be fetched") as caught:
        Hub({"HF_ENDPOINT": "http://127.0.0.1:1"}).model("owner/tiny")
    assert "tunesmith model add DIRECTORY" in caught.value.hint


@pytest.mark.parametrize("name", ["", "tiny", "owner/tiny/more", "../etc", "owner/..", "owner/tiny@", "owner/tiny@-x", "o/t@a?b"])
def test_what_is_no_name_is_refused_before_anybody_is_asked(hub: SmallHub, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        client(hub).model(name)
    assert caught.value.reason == "HUB_NAME"
    assert hub.asked == []


@pytest.mark.parametrize("listing", [b"no json", b"[]", b"{}", b'{"sha": "../x", "siblings": []}'])
def test_a_list_that_cannot_be_read_is_refused(hub: SmallHub, listing: bytes) -> None:
    hub.listing = listing
    with pytest.raises(InvalidArgument) as caught:
        client(hub).model("owner/tiny")
    assert caught.value.reason == "HUB_MODEL_UNFIT"


@pytest.mark.parametrize("path", ["../x.json", "a/b.safetensors", "/etc/x.json", "", ".x.json"])
def test_a_path_that_leads_elsewhere_is_left_out(hub: SmallHub, path: str) -> None:
    siblings = [{"rfilename": path, "size": 1}, {"rfilename": "model.safetensors", "size": 1}, "odd", {"rfilename": "a.json"}]
    hub.listing = json.dumps({"sha": COMMIT, "siblings": siblings}).encode()
    assert [file.path for file in client(hub).model("owner/tiny").files] == ["model.safetensors"]


def test_pickles_alone_are_no_model(hub: SmallHub) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(InvalidArgument, match="no safetensors"):
        client(hub).model("owner/tiny")


@pytest.mark.parametrize("endpoint", ["http://example.com", "ftp://127.0.0.1", "file:///etc"])
def test_only_tls_leaves_the_machine(endpoint: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Hub({"HF_ENDPOINT": endpoint})
    assert caught.value.reason == "HUB_ADDRESS"
