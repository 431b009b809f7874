"""What the trainer has to know of a kind of run; used by the table of them."""

import dataclasses
import pathlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from services.trainer.fetching import Fetching
from services.trainer.journal import Event
from services.trainer.persistence import Note
from services.trainer.run import Ask
from services.trainer.run_directory import Provenance, RunDirectory
from services.trainer.storage_client import Adapter, StoredAdapter
from tunesmith.v1 import artifact_pb2, trainer_service_pb2


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A run that can start."""

    provenance: Provenance
    config: Mapping[str, Any]
    """What its process reads as config.json."""


class Uploads(Protocol):
    """Where things go that a run has made beside its result."""

    async def upload_dataset(self, display_name: str, path: pathlib.Path) -> str:
        """As StorageClient's."""

    async def upload_adapter(self, adapter: Adapter) -> StoredAdapter:
        """As StorageClient's."""


async def _nothing(run: RunDirectory, uploads: Uploads) -> Sequence[Event]:
    return ()


@dataclasses.dataclass(frozen=True, slots=True)
class RunKind:
    """One kind."""

    field: str
    """Of TaskSpec."""
    module: str
    """What a rank executes with `python -m`; empty = the setting `training_module`."""
    check: Callable[[trainer_service_pb2.Run], None]
    """Raises InvalidArgument naming the field that is wrong."""
    read: Callable[[trainer_service_pb2.Run], Ask]
    """The ask of a run that was checked."""
    prepare: Callable[[RunDirectory, Fetching, Note], Awaitable[Prepared]]
    """Brings what the process needs to the run's directory; raises what cannot be helped by waiting."""
    manifest: Callable[[Adapter], artifact_pb2.ArtifactManifest]
    """What the manifest of a result says of how it was made."""
    news: Callable[[RunDirectory, Uploads], Awaitable[Sequence[Event]]] = _nothing
    """What is told of a result beside its artifact; stores what is none. May be repeated."""
    leavings: Callable[[RunDirectory, str], Sequence[Event]] | None = None
    """What is told of the result that a cancelled run has left, given the artifact it is stored as; None = it leaves none."""
    asks_models: bool = False
    """Its process is given the inference service, with the key; what it was answered is on disk, whatever becomes of it."""
