"""Brings the checkpoints of a run to storage, while it trains and once more before it ends; used by the keeper.

The training process says what it has saved by a control record of the journal. What storage has committed is told by a file in
`stored/`, because the journal's writer is the supervisor while it lives.
"""

import asyncio
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from services.common.blocking import in_thread
from services.common.errors import ServiceError
from services.trainer.checkpoint_files import MANIFEST, Manifest, Torn, check
from services.trainer.inheritance import link
from services.trainer.journal import Journal
from services.trainer.persistence import loses_the_result
from services.trainer.run_directory import Result, RunDirectory
from services.trainer.storage_client import Adapter, AdapterFile, StoredAdapter

log = structlog.get_logger()

_POLL_SECONDS = 0.5
_PAUSE_SECONDS = 2.0
_EXPECTED = (ServiceError, TimeoutError, OSError)


class Artifacts(Protocol):
    """Where checkpoints go."""

    async def upload_adapter(self, adapter: Adapter) -> StoredAdapter:
        """As StorageClient's."""


class CheckpointDelivery:
    """Uploads what a run has saved, oldest first."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def follow(self, run: RunDirectory) -> None:
        """Uploads whatever comes, until cancelled; what storage has committed is left in `stored/` for the supervisor to tell."""
        given_up: set[str] = set()
        while True:
            try:
                await self._deliver_new(run, given_up, functools.partial(leave, run.stored))
            except ServiceError as error:
                log.warning("checkpoint.not_stored", reason=error.reason, message=error.message)
                await asyncio.sleep(_PAUSE_SECONDS)
            except OSError as error:
                log.warning("checkpoint.not_stored", message=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception:  # a defect must not end delivery in silence; the next try may go well
                log.exception("checkpoint.not_stored")
                await asyncio.sleep(_PAUSE_SECONDS)
            await asyncio.sleep(_POLL_SECONDS)

    async def finish(self, run: RunDirectory, journal: Journal, seconds: float) -> None:
        """Uploads what is left, for at most `seconds`. What could not be stored is told as it is: only on this trainer."""
        tell_stored(run, journal)
        tell = functools.partial(_tell, journal)
        try:
            async with asyncio.timeout(seconds):
                await self._deliver_new(run, set(), tell)
        except Exception as error:  # whatever it is, the run ends, and what it has saved is told
            log.warning("checkpoint.kept_here", message=str(error), exc_info=not isinstance(error, _EXPECTED))
            for name in _new(run, set()):
                if (manifest := await asyncio.to_thread(_readable, run.checkpoints / name)) is not None:
                    tell(_fields(manifest, ""))

    async def _deliver_new(self, run: RunDirectory, given_up: set[str], tell: Callable[[Mapping[str, Any]], None]) -> None:
        for name in _new(run, given_up):
            try:
                fields = await self._deliver(run, name)
            except ServiceError as error:
                if not loses_the_result(error):
                    raise
                log.warning("checkpoint.refused", checkpoint=name, reason=error.reason, message=error.message)
                fields = None
            if fields is None:
                given_up.add(name)
            else:
                tell(fields)

    async def _deliver(self, run: RunDirectory, name: str) -> Mapping[str, Any] | None:
        """What the event says; None when the checkpoint is gone by now, or torn."""
        # The training process may delete it at any moment; a link keeps the bytes as long as the upload takes.
        linked = run.path / "uploading" / name
        try:
            await in_thread(_link_anew, run.checkpoints / name, linked)
            manifest = await asyncio.to_thread(check, linked)
            stored = await self._artifacts.upload_adapter(_artifact(run, linked, manifest))
        except (FileNotFoundError, Torn) as error:
            log.info("checkpoint.gone", checkpoint=name, message=str(error))
            return None
        finally:
            # Whoever tries again must not find half of it.
            await in_thread(shutil.rmtree, linked, ignore_errors=True)
        log.info("checkpoint.stored", checkpoint=name, artifact=stored.name, size_bytes=stored.size_bytes)
        return _fields(manifest, stored.name)


def _link_anew(source: pathlib.Path, target: pathlib.Path) -> None:
    # A process that was killed may have left half of it.
    shutil.rmtree(target, ignore_errors=True)
    link(source, target)


def leave(stored: pathlib.Path, fields: Mapping[str, Any]) -> None:
    """Says that a checkpoint is committed; whoever is the journal's writer tells it."""
    stored.mkdir(exist_ok=True)
    scratch = stored / f".{fields['name']}"
    scratch.write_text(json.dumps(fields))
    scratch.rename(stored / fields["name"])


def tell_stored(run: RunDirectory, journal: Journal) -> None:
    """Tells what a supervisor has left untold."""
    for path in sorted(run.stored.glob("step-*")) if run.stored.is_dir() else ():
        if path.name not in run.history().told:
            _tell(journal, json.loads(path.read_text()))
        path.unlink()


def _new(run: RunDirectory, given_up: set[str]) -> list[str]:
    # In this order: what the supervisor tells in between is in both, never in neither.
    pending = {path.name for path in run.stored.iterdir()} if run.stored.is_dir() else set()
    history = run.history()
    return [name for name in history.saved if name not in history.told | pending | given_up]


def _tell(journal: Journal, fields: Mapping[str, Any]) -> None:
    journal.event("checkpoint_saved", **fields)


def _fields(manifest: Manifest, artifact: str) -> Mapping[str, Any]:
    return {
        "step": manifest.step,
        "name": f"step-{manifest.step}",
        "size_bytes": manifest.size,
        "values": dict(manifest.metrics),
        "artifact": artifact,
        "labels": list(manifest.labels),
    }


def _artifact(run: RunDirectory, directory: pathlib.Path, manifest: Manifest) -> Adapter:
    own = (directory / MANIFEST).read_bytes()
    files = [AdapterFile(MANIFEST, len(own), hashlib.sha256(own).hexdigest())]
    files += [AdapterFile(name, entry.size, entry.sha256) for name, entry in sorted(manifest.files.items())]
    digest = next((str(part) for part in manifest.identity.get("data", ()) if isinstance(part, str)), "")
    return Adapter(
        directory=directory,
        files=tuple(files),
        task=f"tasks/{run.request.name.task_id}",
        provenance=run.provenance(),
        result=Result("CHECKPOINT", manifest.step, manifest.metrics, digest, {}),
        request=run.request,
        request_id=f"{run.request.name}/step-{manifest.step}",
        labels=manifest.labels,
        eval_loss=manifest.eval_loss,
    )


def _readable(path: pathlib.Path) -> Manifest | None:
    try:
        return check(path)
    except Torn:
        return None
