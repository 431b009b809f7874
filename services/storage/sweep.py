"""What a sweep finds and what it does about it, as values; used by the sweeper, its repository and the artifact servicer."""

import dataclasses
import uuid

from services.storage.notice import Notice


@dataclasses.dataclass(frozen=True, slots=True)
class StoredObject:
    """An object in the bucket."""

    key: str
    size_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Ending:
    """An artifact that ends soon, or a checkpoint that can be superseded soon, unless a live task needs it."""

    artifact: uuid.UUID
    task: uuid.UUID
    kind: str


@dataclasses.dataclass(frozen=True, slots=True)
class Needed:
    """What is kept for the sake of live tasks."""

    tasks: frozenset[uuid.UUID] = frozenset()
    """They live: their checkpoints stay."""
    origins: frozenset[uuid.UUID] = frozenset()
    """Artifacts from which live tasks start."""
    unsure: frozenset[uuid.UUID] = frozenset()
    """Artifacts of which nobody can tell; they are held until somebody can."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sweep:
    """What one sweep has decided, in the order it was decided."""

    expired: tuple[uuid.UUID, ...] = ()
    deleted: tuple[uuid.UUID, ...] = ()
    objects: tuple[StoredObject, ...] = ()
    """What is to be removed from the object store, left-overs of dead uploads and earlier sweeps included."""
    orphan_count: int = 0
    notices: tuple[Notice, ...] = ()
    truncated: bool = False
    """A limit was reached: there may be more to do."""
