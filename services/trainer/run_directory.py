"""A run on disk: everything known of it is in its directory, so that any trainer process can take it up; used by the whole face.

run.json       what was asked for           data/         training and validation data
cancel, stop   what is wished of it         config.json   for the training process; written last of all preparation
provenance     where the inputs came from   output/       the adapter or model
journal.jsonl  what happened                result.json   what the training process says of its end
checkpoints/   where a next attempt starts, and wishes for more of them
stored/        which of them storage has committed and no event has told yet
uploading/     links to what is on its way to storage
answers/       what models have answered, of a run that asks them
evaluation/    what a classifier has answered that its own run has measured
"""

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Mapping
from typing import Any, Self

from services.common.errors import ServiceError
from services.trainer.history import History
from services.trainer.journal_reader import JournalReader, tail
from services.trainer.run import Failure, Request, State, Wish

_TAIL_LINES = 50
_TAIL_CHARACTERS = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class DatasetUse:
    """A dataset that went into a run."""

    dataset: str
    sha256: str
    """Of the bytes as uploaded."""
    rows_sha256: str
    """Of the rows; empty when storage does not tell."""
    weight: float
    rows: int | None = None
    """Rows of one pass; None when they were not counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Provenance:
    """Where the inputs of a prepared run came from."""

    base_model: str
    base_model_revision: str
    dataset_sha256: str
    """Of the only dataset; empty when several were mixed."""
    datasets: tuple[DatasetUse, ...] = ()
    validation: DatasetUse | None = None
    validation_split_ratio: float | None = None
    validation_rows: int = 0
    """Rows held out by the ratio."""
    parent: str = ""
    """Of an export: the artifact it is made from."""
    parent_manifest: str = ""
    """Of an export: the manifest of that, as proto JSON."""

    @classmethod
    def from_document(cls, document: str) -> Self:
        """From its JSON."""
        value = json.loads(document)
        value["datasets"] = tuple(DatasetUse(**use) for use in value.get("datasets", ()))
        value["validation"] = DatasetUse(**value["validation"]) if value.get("validation") else None
        return cls(**value)


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What the training process says of its end."""

    kind: str
    """Of the artifact: a name of Artifact.Kind."""
    step: int
    metrics: Mapping[str, float]
    rendered_rows_sha256: str
    versions: Mapping[str, str]


class RunDirectory:
    """One run. Reading is cheap and always tells what is on disk now."""

    def __init__(self, path: pathlib.Path, request: Request) -> None:
        self.path = path
        self.request = request
        self.journal = path / "journal.jsonl"
        self.output = path / "output"
        self.checkpoints = path / "checkpoints"
        self.stored = path / "stored"
        self.answers = path / "answers"
        self.evaluation = path / "evaluation"
        self.training_data = path / "data" / "train.jsonl"
        self.validation_data = path / "data" / "validation.jsonl"
        self.sources = path / "data" / "sources"
        self._reader = JournalReader(self.journal)
        self._history = History()

    @classmethod
    def create(cls, root: pathlib.Path, request: Request) -> "RunDirectory":
        """Makes the directory with run.json; it appears whole or not at all."""
        scratch = root / f".{uuid.uuid4().hex}"
        for part in ("data", "output"):
            (scratch / part).mkdir(parents=True)
        _write(scratch / "run.json", request.document)
        path = root / request.name.id
        scratch.rename(path)
        _sync(root)
        return cls(path, request)

    def history(self) -> History:
        """What the journal says now; reads only what is new."""
        while self._history.end is None and (records := self._reader.read()):
            self._history = self._history.after(records)
        if self._history.end is not None:
            self._reader.close()
        return self._history

    def state(self) -> State:
        """The run's state now."""
        return self.history().state(self.wish())

    def is_active(self) -> bool:
        """Whether it is not terminal."""
        return self.history().end is None

    def wish(self) -> Wish | None:
        """What is wished of the run; a wish to cancel goes before all others."""
        if (self.path / "cancel").exists():
            return Wish()
        with contextlib.suppress(FileNotFoundError):
            return Wish(Failure.from_record(json.loads((self.path / "stop").read_text())))
        return None

    def record_wish(self, wish: Wish) -> None:
        """Keeps a wish across restarts; the first one of its kind stays."""
        path = self.path / ("stop" if wish.stop else "cancel")
        if not path.exists():
            _write(path, json.dumps(dataclasses.asdict(wish.stop)) if wish.stop else "")

    def is_prepared(self) -> bool:
        """Whether everything a training process needs is there."""
        return (self.path / "config.json").exists()

    def fetched(self) -> list[str]:
        """Directories of fetched models that its processes read; none before it is prepared."""
        if not self.is_prepared():
            return []
        config = json.loads((self.path / "config.json").read_text())
        return [config[name] for name in ("base_model_dir", "source_dir") if config.get(name)]

    def base_model(self) -> pathlib.Path | None:
        """Directory of the base model that its process reads; None before it is prepared, and for a kind that reads none."""
        if not self.is_prepared():
            return None
        directory = json.loads((self.path / "config.json").read_text()).get("base_model_dir")
        return pathlib.Path(directory) if directory else None

    def record_preparation(self, provenance: Provenance, config: Mapping[str, Any]) -> None:
        """Writes what the upload will need, then the training process' configuration."""
        _write(self.path / "provenance.json", json.dumps(dataclasses.asdict(provenance)))
        _write(self.path / "config.json", json.dumps(config, indent=2))

    def source_data(self, index: int) -> pathlib.Path:
        """Where the dataset at `index` of the request's sources goes before the training data is composed of it."""
        self.sources.mkdir(exist_ok=True)
        return self.sources / f"{index}.jsonl"

    def provenance(self) -> Provenance:
        """Of a prepared run."""
        return Provenance.from_document((self.path / "provenance.json").read_text())

    def result(self) -> Result | None:
        """What the training process left; None when it is missing or no result."""
        try:
            value = json.loads((self.path / "result.json").read_text())
            digest = str(value["rendered_rows_sha256"])
            return Result(str(value["kind"]), int(value["step"]), dict(value["metrics"]), digest, dict(value["versions"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def found(self, field: str) -> dict[str, Any]:
        """What the process says of its result in a field of result.json; raises TRAINING_FAILED when it says nothing."""
        try:
            return dict(json.loads((self.path / "result.json").read_text())[field])
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise ServiceError("TRAINING_FAILED", f"the process left no {field}: {error!r}") from error

    def result_field(self, field: str) -> dict[str, Any] | None:
        """The same; None when it says nothing."""
        with contextlib.suppress(ServiceError):
            return self.found(field)
        return None

    def log_tail(self) -> tuple[str, ...]:
        """The last lines the run printed, oldest first."""
        entries = (record["text"] for record in tail(self.journal) if record.get("kind") == "log")
        return tuple(text[:_TAIL_CHARACTERS] for text in collections.deque(entries, maxlen=_TAIL_LINES))

    def supervisor_log(self) -> str:
        """The last line the supervisor itself complained with; empty when it had nothing to say."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self.path / "supervisor.log").read_text(errors="replace").splitlines()
            return lines[-1][:_TAIL_CHARACTERS] if lines else ""
        return ""

    def remove(self) -> None:
        """Deletes the directory; it is gone at once for everybody else."""
        self._reader.close()
        grave = self.path.with_name(f".{uuid.uuid4().hex}")
        self.path.rename(grave)
        shutil.rmtree(grave)


def _write(path: pathlib.Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with scratch.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.rename(path)


def _sync(directory: pathlib.Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
