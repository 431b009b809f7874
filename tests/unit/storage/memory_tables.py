"""What the in-memory repositories share: a clock, the tables of artifacts and blobs, and newest-first pages."""

import copy
import dataclasses
import datetime
import uuid
from collections.abc import Callable, Collection, Iterator

from services.storage.artifact import Artifact
from services.storage.base_model import BaseModel
from services.storage.file import StoredFile
from services.storage.position import Position
from services.storage.registered_model import ModelVersion
from services.storage.retention import Policy

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class Clock:
    """A clock that ticks a microsecond per look, and more when told."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime.datetime:
        self.time += datetime.timedelta(microseconds=1)
        return self.time


@dataclasses.dataclass
class Blob:
    size_bytes: int
    object_key: str
    hold_until: datetime.datetime | None = None


@dataclasses.dataclass
class Condemned:
    size_bytes: int
    create_time: datetime.datetime
    is_removed: bool = False


@dataclasses.dataclass
class Registered:
    create_time: datetime.datetime
    last_version: int = 0
    versions: dict[int, ModelVersion] = dataclasses.field(default_factory=dict)
    aliases: dict[str, int] = dataclasses.field(default_factory=dict)
    requests: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Tables:
    """Rows by key."""

    clock: Clock
    policy: Policy = dataclasses.field(default_factory=Policy)
    blobs: dict[str, Blob] = dataclasses.field(default_factory=dict)
    artifacts: dict[uuid.UUID, Artifact] = dataclasses.field(default_factory=dict)
    models: dict[str, BaseModel] = dataclasses.field(default_factory=dict)
    condemned: dict[str, Condemned] = dataclasses.field(default_factory=dict)
    orphans: dict[str, tuple[int, datetime.datetime]] = dataclasses.field(default_factory=dict)
    registered: dict[str, "Registered"] = dataclasses.field(default_factory=dict)
    notices: set[tuple[uuid.UUID, datetime.datetime, int]] = dataclasses.field(default_factory=set)
    audit: list[tuple[uuid.UUID, str, str, str]] = dataclasses.field(default_factory=list)

    def files(self) -> Iterator[StoredFile]:
        """Every reference to a blob."""
        versions = [version for model in self.registered.values() for version in model.versions.values()]
        for owner in (*self.artifacts.values(), *self.models.values(), *versions):
            yield from owner.files

    def snapshot(self) -> dict[str, object]:
        """What `restore` brings back."""
        kept = ("clock", "policy")
        return {
            field.name: copy.deepcopy(getattr(self, field.name)) for field in dataclasses.fields(self) if field.name not in kept
        }

    def restore(self, snapshot: dict[str, object]) -> None:
        """Rolls back; tables stay the objects they are."""
        for name, rows in snapshot.items():
            table = getattr(self, name)
            table.clear()
            table.extend(rows) if isinstance(table, list) else table.update(rows)


def newest_first(rows: Collection, limit: int, after: Position | None) -> list:
    key: Callable = lambda row: (row.create_time, row.id)  # noqa: E731
    older = [row for row in rows if after is None or key(row) < (after.create_time, after.id)]
    return sorted(older, key=key, reverse=True)[:limit]
