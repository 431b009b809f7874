"""`tunesmith backup` and `restore`: runs storage's backup process beside the servers that hold the data."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunesmith.local import plan, postgres
from tunesmith.local.daemon import running
from tunesmith.local.errors import LocalError
from tunesmith.local.ports import DEFAULT_PORTS, keep_or_pick
from tunesmith.local.state import DataDirectory
from tunesmith.local.supervisor import Supervisor

START_TIMEOUT_SECONDS = 120.0
Say = Callable[[str], None]


def save(directory: DataDirectory, target: Path, say: Say) -> dict[str, Any]:
    """Back up what the stack has, running or not; returns what was done.

    Raises:
        LocalError: what storage's process says (SWEEP_RUNNING, POSTGRES_UNAVAILABLE, …), or NOTHING_TO_SAVE.
    """
    if not (directory.root / "settings.json").exists():
        raise LocalError("NOTHING_TO_SAVE", f"{directory.root} holds no stack", "Name it with --data-dir.")
    if running(directory):
        return asyncio.run(_run("save", target.absolute(), _environment(directory, running_ones=True)))
    with directory.locked():
        return asyncio.run(_beside_servers(directory, "save", target.absolute(), say))


def restore(directory: DataDirectory, source: Path, say: Say, *, skip_damaged: bool = False) -> dict[str, Any]:
    """Bring a backup back into a data directory that holds nothing yet; returns what was done.

    `skip_damaged` leaves out the contents that lie damaged in the backup, which is refused otherwise.

    Raises:
        LocalError: ALREADY_RUNNING, RESTORE_TARGET_NOT_EMPTY, BACKUP_UNREADABLE, …
    """
    if not (source / "manifest.json").is_file():
        raise LocalError("BACKUP_UNREADABLE", f"{source} holds no backup", "Name the directory that `tunesmith backup` wrote.")
    directory.create()
    with directory.locked():
        options = ("--skip-damaged",) if skip_damaged else ()
        return asyncio.run(_beside_servers(directory, "restore", source.absolute(), say, *options))


async def _beside_servers(directory: DataDirectory, action: str, place: Path, say: Say, *options: str) -> dict[str, Any]:
    """With Postgres and S3 alone: no service changes anything meanwhile."""
    environment = _environment(directory, running_ones=False)
    backends, _ = plan.choose_backends(directory.root, directory.read_settings(), plan.resolve_files(os.environ), _same)
    supervisor = Supervisor(plan.backend_specs(backends), directory.logs, lambda name, text: say(f"{name} {text}"))
    stop, done = asyncio.Event(), {}

    async def work() -> None:
        await supervisor.wait_ready(START_TIMEOUT_SECONDS)
        done.update(await _run(action, place, environment, *options))
        stop.set()

    say("starting Postgres and the object store for the time of the work")
    await supervisor.run(lambda child: None, work(), stop)
    return done


def _environment(directory: DataDirectory, *, running_ones: bool) -> Mapping[str, str]:
    """That of the storage service; ports are those of the running servers, or are chosen as at a start, and kept."""
    given, kept = plan.resolve_files(os.environ), directory.read_settings()
    backends, kept = plan.choose_backends(directory.root, kept, given, _same if running_ones else keep_or_pick)
    if not running_ones:
        directory.write_settings(kept)
    specs = plan.service_specs(directory.root, DEFAULT_PORTS, backends, given)
    return next(spec.environment for spec in specs if spec.name == "storage")


def _same(kept: list[int], count: int) -> list[int]:
    return kept[:count]


async def _run(action: str, place: Path, environment: Mapping[str, str], *options: str) -> dict[str, Any]:
    program = postgres.binary("pg_dump" if action == "save" else "pg_restore")
    command = (sys.executable, "-P", "-m", "services.storage.backup", action, str(place), str(program), *options)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "tunesmith.local.child", "SIGKILL", str(os.getpid()), *command),
        env={**postgres.environment(), **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaints = await process.communicate()
    lines = output.decode().strip().splitlines()
    try:
        said: dict[str, Any] = json.loads(lines[-1])
    except (ValueError, IndexError) as error:
        last = " / ".join(complaints.decode(errors="replace").strip().splitlines()[-3:])
        raise LocalError(
            "BACKUP_FAILED", f"the {action} process ended with {process.returncode}: {last}", "Try again."
        ) from error
    if "error" in said:
        raise LocalError(**said["error"])
    return said
