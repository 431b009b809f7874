"""The data directory of a local stack: its lock, its kept settings, and what runs; the SDK reads it to find the stack."""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tunesmith.local.errors import LocalError

Kept = TypeVar("Kept")

API_KEY_FILE = "api_key"


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process, told apart from a later one with the same pid by when it was made."""

    pid: int
    create_time: float


@dataclass(frozen=True, slots=True)
class StackState:
    """What runs: written by the supervisor after every change, read by everybody else."""

    version: str
    supervisor: ProcessId
    started_at: float
    addresses: dict[str, str]
    processes: dict[str, ProcessId] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    ready: bool = False


@dataclass(frozen=True, slots=True)
class KeptSettings:
    """What the first start chose and every later one uses again."""

    postgres_password: str
    s3_access_key: str
    s3_secret_key: str
    postgres_ports: list[int] = field(default_factory=list)
    s3_ports: list[int] = field(default_factory=list)
    service_ports: list[int] = field(default_factory=list)
    """Only with --free-ports; in the order of DEFAULT_PORTS. Tasks and watchers find a restarted stack where it was."""


class DataDirectory:
    """A directory that holds everything of one local stack; private to its owner."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.logs = self.root / "logs"
        self._stack = self.root / "stack.json"
        self._settings = self.root / "settings.json"
        self._lock = self.root / "lock"

    def create(self) -> None:
        """Make the directory unless it exists.

        Raises:
            LocalError: DATA_DIRECTORY_UNUSABLE with the system's reason.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
            self.logs.mkdir(mode=0o700, exist_ok=True)
            (self.root / "tmp").mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            hint = "Choose another with --data-dir or TUNESMITH_DATA_DIR."
            raise LocalError("DATA_DIRECTORY_UNUSABLE", f"{self.root} cannot be used: {error.strerror}", hint) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Own the directory for the length of the block; the kernel gives the lock back when the process dies.

        Raises:
            LocalError: ALREADY_RUNNING names the process that owns it.
        """
        with self._lock.open("a+") as handle:
            if not _try_lock_for(handle.fileno(), seconds=1.0):
                handle.seek(0)
                owner = handle.read().strip() or "unknown"
                raise LocalError(
                    "ALREADY_RUNNING",
                    f"a stack on {self.root} is running already (pid {owner})",
                    "Use it, stop it with `tunesmith down`, or start another with --data-dir and --free-ports.",
                )
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            yield

    def api_key(self) -> str:
        """The key of the gateway: what the file `api_key` holds, made on the first start. Write another into it to change it.

        Raises:
            LocalError: STATE_UNREADABLE.
        """
        path = self.root / API_KEY_FILE
        try:
            if not path.exists():
                _write_text(path, f"sk-tunesmith-{secrets.token_urlsafe(24)}\n")
            key = path.read_text().strip()
        except (OSError, ValueError) as error:
            raise LocalError("STATE_UNREADABLE", f"{path} cannot be read: {error}", "Remove it and start again.") from error
        if not key:
            raise LocalError("STATE_UNREADABLE", f"{path} is empty", "Remove it and start again.")
        return key

    def is_locked(self) -> bool:
        """True while a supervisor owns the directory."""
        if not self._lock.exists():
            return False
        with self._lock.open("a") as handle:
            return not _try_lock(handle.fileno())

    def read_stack(self) -> StackState | None:
        """What the last supervisor wrote; None when nothing was left. It may be gone: see `is_locked`."""
        return _read(self._stack, _stack_state)

    def write_stack(self, state: StackState) -> None:
        """Replace what runs."""
        _write_private(self._stack, asdict(state))

    def remove_stack(self) -> None:
        """Nothing runs any more."""
        self._stack.unlink(missing_ok=True)

    def read_settings(self) -> KeptSettings:
        """The kept settings, or new ones with new secrets."""
        kept = _read(self._settings, lambda raw: KeptSettings(**raw))
        return kept or KeptSettings(
            postgres_password=secrets.token_urlsafe(24),
            s3_access_key=secrets.token_hex(10),
            s3_secret_key=secrets.token_urlsafe(30),
        )

    def write_settings(self, settings: KeptSettings) -> None:
        """Keep the settings for the next start."""
        _write_private(self._settings, asdict(settings))


def data_directory(given: Path | None = None) -> DataDirectory:
    """The directory given, else TUNESMITH_DATA_DIR, else ~/.tunesmith."""
    return DataDirectory(given or Path(os.environ.get("TUNESMITH_DATA_DIR") or "~/.tunesmith"))


def _try_lock_for(descriptor: int, *, seconds: float) -> bool:
    # `is_locked` takes the lock for a moment to look; that must not pass for an owner.
    deadline = time.monotonic() + seconds
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stack_state(raw: dict[str, Any]) -> StackState:
    processes = {name: ProcessId(**process) for name, process in raw["processes"].items()}
    state = StackState(**{**raw, "supervisor": ProcessId(**raw["supervisor"]), "processes": processes})
    if not isinstance(state.addresses, dict):
        raise TypeError("addresses is not an object")
    return state


def _read(path: Path, build: Callable[[dict[str, Any]], Kept]) -> Kept | None:
    """What `build` makes of the file; None when there is none. Another shape is as unreadable as what is no JSON."""
    try:
        return build(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        problem = f"{path} cannot be read: {type(error).__name__}: {error}"
        raise LocalError("STATE_UNREADABLE", problem, f"Remove {path} and start again.") from error


def _write_private(path: Path, content: dict[str, Any]) -> None:
    _write_text(path, json.dumps(content, indent=2))


def _write_text(path: Path, text: str) -> None:
    """Write beside and rename, so that a reader sees the old or the new file and never a part."""
    staging = path.with_suffix(".new")
    staging.unlink(missing_ok=True)
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    staging.replace(path)
