"""Gives a run the last committed checkpoint of its task when its own directory lacks it; used by the keeper before it starts the
training process, on whatever trainer that is."""

import asyncio
import contextlib
import json
import pathlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog

from services.common.blocking import in_thread
from services.common.errors import ServiceError
from services.trainer.checkpoint_files import Manifest, Torn, check, checkpoints, is_file_name, read_manifest, step_of
from services.trainer.kinds.fine_tuning_ask import FineTuning
from services.trainer.persistence import Note, is_not_transient
from services.trainer.run_directory import RunDirectory
from services.trainer.storage_client import AdapterFile, StoredCheckpoint

log = structlog.get_logger()


class Checkpoints(Protocol):
    """Where checkpoints come from."""

    async def list_checkpoints(self, task: str) -> Sequence[StoredCheckpoint]:
        """As StorageClient's."""

    async def fetch_file(self, artifact: str, file: AdapterFile, target: pathlib.Path) -> None:
        """As StorageClient's."""


class Restoring:
    """Downloads are verified twice: file by file as they arrive, and as a whole before the checkpoint has its name."""

    def __init__(self, stored: Checkpoints) -> None:
        self._stored = stored

    async def restore(self, run: RunDirectory, note: Note) -> int:
        """The step it can continue from, 0 = none. Raises what storage raises while it cannot be asked.

        What is damaged or has expired in storage is left out, and the one before it is taken.
        """
        request = run.request
        found = await self._stored.list_checkpoints(f"tasks/{request.name.task_id}")
        usable = [each for each in found if max(1, request.first_attempt) <= each.attempt <= request.name.attempt]
        newest_first = sorted(usable, key=lambda each: (each.step, each.create_time), reverse=True)
        step = await self._newest(run, newest_first, note)
        await self._best(run, newest_first, step, note)
        return step

    async def _newest(self, run: RunDirectory, newest_first: Sequence[StoredCheckpoint], note: Note) -> int:
        own = await asyncio.to_thread(newest_whole, run.checkpoints, _numbers(run))
        for each in newest_first:
            if each.step <= own:
                break
            if await self._fetched(run, each):
                note(f"fetched the checkpoint of step {each.step} from storage")
                return each.step
            note(f"the stored checkpoint of step {each.step} cannot be used; the one before it is taken", "WARNING")
        return own

    async def _best(self, run: RunDirectory, newest_first: Sequence[StoredCheckpoint], step: int, note: Note) -> None:
        """The one with the best validation loss, which is the result when the run stops early."""
        if not step:
            return
        best = read_manifest(run.checkpoints / f"step-{step}").progress.get("best_step", 0)
        stored = next((each for each in newest_first if each.step == best), None)
        if best in (0, step) or stored is None or (run.checkpoints / f"step-{best}").exists():
            return
        if await self._fetched(run, stored):
            note(f"fetched the checkpoint of step {best}, which had the best validation loss")

    async def _fetched(self, run: RunDirectory, stored: StoredCheckpoint) -> bool:
        target = run.checkpoints / f"step-{stored.step}"
        scratch = run.checkpoints / f".{uuid.uuid4().hex}" / target.name
        scratch.mkdir(parents=True)
        try:
            _check_names(stored)
            for file in stored.files:
                await self._stored.fetch_file(stored.name, file, scratch / file.path)
            await in_thread(_check, scratch, _numbers(run))
            await in_thread(_replace, scratch, target)
        except (ServiceError, Torn) as error:
            if isinstance(error, ServiceError) and error.reason != "CHECKSUM_MISMATCH" and not is_not_transient(error):
                raise
            log.warning("checkpoint.unusable", artifact=stored.name, step=stored.step, message=str(error))
            return False
        finally:
            await asyncio.to_thread(shutil.rmtree, scratch.parent, ignore_errors=True)
        return True


def _numbers(run: RunDirectory) -> Mapping[str, Any]:
    """Hyperparameters; tasks of other kinds have neither those nor checkpoints."""
    ask = run.request.ask
    return ask.hyperparameters if isinstance(ask, FineTuning) else {}


def newest_whole(directory: pathlib.Path, numbers: Mapping[str, Any]) -> int:
    """Step of the newest whole checkpoint, every byte looked at, that is of these hyperparameters; 0 = none."""
    for path in checkpoints(directory):
        with contextlib.suppress(Torn):
            if belongs(check(path), numbers):
                return step_of(path.name)
    return 0


def belongs(manifest: Manifest, numbers: Mapping[str, Any]) -> bool:
    """Whether a run with these hyperparameters may continue from it, as far as can be told before data and device are looked at:
    what the checkpoint holds of them must be the same, but for those that the run leaves to the device."""
    wanted = json.loads(json.dumps(dict(numbers)))
    held = manifest.identity.get("hyperparameters", {})
    return all(wanted.get(name) is None or _is_held(wanted[name], value) for name, value in held.items())


def _is_held(wanted: Any, held: Any) -> bool:
    """Groups of numbers may have got more of them since the checkpoint was written."""
    if isinstance(wanted, dict) and isinstance(held, dict):
        return all(wanted.get(name) == value for name, value in held.items())
    return bool(wanted == held)


def _check(path: pathlib.Path, numbers: Mapping[str, Any]) -> None:
    if not belongs(check(path), numbers):
        raise Torn("it is of other numbers than this run's")


def _check_names(stored: StoredCheckpoint) -> None:
    for file in stored.files:
        if not is_file_name(file.path):
            raise Torn(f"{file.path!r} is not a file of a checkpoint")


def _replace(source: pathlib.Path, target: pathlib.Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    source.rename(target)
