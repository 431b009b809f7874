"""What the in-memory repositories share: a clock, tables, what keeps bytes alive, and newest-first pages."""

import copy
import dataclasses
import datetime
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from services.storage.artifact import Artifact
from services.storage.base_model import BaseModel
from services.storage.checkpoint_retention import CheckpointFacts
from services.storage.dataset import Dataset
from services.storage.file import File, StoredFile, stored
from services.storage.notice import Notice
from services.storage.part_upload import PartUpload
from services.storage.pending_object_repository import refuse_unclaimed
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
    check_time: datetime.datetime
    damage: str = ""
    checking_until: datetime.datetime | None = None
    blake3: str = ""


@dataclasses.dataclass
class Pending:
    size_bytes: int
    create_time: datetime.datetime
    removing: bool = False


@dataclasses.dataclass
class Registered:
    create_time: datetime.datetime
    last_version: int = 0
    versions: dict[int, ModelVersion] = dataclasses.field(default_factory=dict)
    aliases: dict[str, int] = dataclasses.field(default_factory=dict)
    requests: dict[str, int] = dataclasses.field(default_factory=dict)
    holds: dict[int, datetime.datetime] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Tables:
    """Rows by key."""

    clock: Clock
    policy: Policy = dataclasses.field(default_factory=Policy)
    upload_lifetime: datetime.timedelta = datetime.timedelta(hours=24)
    blobs: dict[str, Blob] = dataclasses.field(default_factory=dict)
    segments: dict[tuple[uuid.UUID, str], Blob] = dataclasses.field(default_factory=dict)
    artifacts: dict[uuid.UUID, Artifact] = dataclasses.field(default_factory=dict)
    checkpoints: dict[uuid.UUID, CheckpointFacts] = dataclasses.field(default_factory=dict)
    models: dict[str, BaseModel] = dataclasses.field(default_factory=dict)
    datasets: dict[uuid.UUID, Dataset] = dataclasses.field(default_factory=dict)
    part_uploads: dict[uuid.UUID, PartUpload] = dataclasses.field(default_factory=dict)
    pending: dict[str, Pending] = dataclasses.field(default_factory=dict)
    orphans: dict[str, tuple[int, datetime.datetime]] = dataclasses.field(default_factory=dict)
    registered: dict[str, "Registered"] = dataclasses.field(default_factory=dict)
    notices: list[Notice] = dataclasses.field(default_factory=list)
    audit: list[tuple[uuid.UUID, str, str, str]] = dataclasses.field(default_factory=list)

    def files(self) -> Iterator[StoredFile]:
        """Every reference to a blob."""
        versions = [version for model in self.registered.values() for version in model.versions.values()]
        for owner in (*self.datasets.values(), *self.artifacts.values(), *self.models.values(), *versions):
            yield from owner.files

    def claim(self, keys: Collection[str]) -> None:
        refuse_unclaimed(keys, {key for key, row in self.pending.items() if not row.removing})
        for key in keys:
            del self.pending[key]

    def condemn(self, sizes: Mapping[str, int]) -> None:
        for key, size_bytes in sizes.items():
            self.pending.setdefault(key, Pending(size_bytes, self.clock.now())).removing = True

    def settle(self, files: Sequence[File], keys: Mapping[str, str]) -> tuple[StoredFile, ...]:
        """What `add_blobs` does: the first object of a content counts."""
        now = self.clock.now()
        made = {
            file.sha256: Blob(file.size_bytes, keys[file.sha256], now, blake3=file.blake3)
            for file in files
            if self._lacks(file, keys)
        }
        self.claim({blob.object_key for blob in made.values()})
        self.condemn({self.blobs[each].object_key: self.blobs[each].size_bytes for each in made if each in self.blobs})
        self.blobs |= made
        return self.as_stored([stored(file, "") for file in files])

    def _lacks(self, file: File, keys: Mapping[str, str]) -> bool:
        blob = self.blobs.get(file.sha256)
        return blob is None or (bool(blob.damage) and blob.object_key != keys[file.sha256])

    def as_stored(self, files: Sequence[StoredFile]) -> tuple[StoredFile, ...]:
        """The files with the keys and the damage of now."""
        blobs = [(file, self.blobs[file.sha256]) for file in files]
        return tuple(
            dataclasses.replace(file, object_key=blob.object_key, damage=blob.damage, blake3=blob.blake3) for file, blob in blobs
        )

    def announce(self, kind: str, artifact: Artifact, **what: object) -> Notice:
        """The next announcement."""
        fields = {"days": 0, "path": "", "damage": ""} | what
        made = Notice(
            sequence=len(self.notices) + 1,
            kind=kind,
            artifact=artifact.id,
            task=artifact.task,
            expire_time=artifact.expire_time,
            create_time=self.clock.now(),
            **fields,
        )
        self.notices.append(made)
        return made

    def drop_unused(self, sha256s: Collection[str]) -> list[str]:
        """What `drop_unused_blobs` does."""
        unused = set(sha256s) - {file.sha256 for file in self.files()}
        dropped = [self.blobs.pop(sha256) for sha256 in sorted(unused)]
        self.condemn({blob.object_key: blob.size_bytes for blob in dropped})
        return [blob.object_key for blob in dropped]

    def snapshot(self) -> dict[str, object]:
        """What `restore` brings back."""
        kept = ("clock", "policy", "upload_lifetime")
        return {field.name: _copied(getattr(self, field.name)) for field in dataclasses.fields(self) if field.name not in kept}

    def restore(self, snapshot: dict[str, object]) -> None:
        """Rolls back; tables stay the objects they are."""
        for name, rows in snapshot.items():
            table = getattr(self, name)
            table.clear()
            table.extend(rows) if isinstance(table, list) else table.update(rows)


def _copied(table: dict | list) -> dict | list:
    """Of the rows, only those a sweep changes in place are copied; the others are values."""
    if isinstance(table, list):
        return list(table)
    return {key: copy.copy(row) if isinstance(row, Blob | Pending) else row for key, row in table.items()}


def newest_first(rows: Collection, limit: int, after: Position | None) -> list:
    key: Callable = lambda row: (row.create_time, row.id)  # noqa: E731
    older = [row for row in rows if after is None or key(row) < (after.create_time, after.id)]
    return sorted(older, key=key, reverse=True)[:limit]
