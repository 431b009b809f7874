"""What is in memory: loads on demand, and makes room by unloading what was used longest ago. Confined to the engine's thread."""

import dataclasses
import datetime
import pathlib
from collections.abc import Callable, Iterable, Sequence

import structlog

from services.common.errors import ServiceError
from services.inference import model_files
from services.inference.engine import Engine
from services.inference.packing_bytes import Packing
from services.inference.ready_model import ReadyModel, ready_adapter, ready_base
from services.inference.resolver import ModelFiles
from services.inference.spare import Spare

log = structlog.get_logger()

Clock = Callable[[], datetime.datetime]

_NOTHING_AHEAD = Spare()
_NOTHING_PACKED = Packing()


@dataclasses.dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory; `memory_bytes` of an adapter are the adapter's alone."""

    name: str
    base_model: str
    """That it was made of; of a base model, itself."""
    inside: str
    """The model in memory that it is an adapter of; of any other, itself."""
    directory: str
    memory_bytes: int
    load_time: datetime.datetime
    last_use_time: datetime.datetime | None = None
    pinned: bool = False


class NoRoom(Exception):
    """What would have to be unloaded first is in use; it works again once something is released."""


class Registry:
    """The loaded models, in the order of their use. What is held or pinned is never unloaded."""

    def __init__(
        self, engine: Engine, *, max_bytes: int, now: Clock, packing: Packing = _NOTHING_PACKED, spare: Spare = _NOTHING_AHEAD
    ) -> None:
        """`packing` is what the engine does."""
        self._engine = engine
        self._packing = packing
        self._max_bytes = max_bytes
        self._now = now
        self._spare = spare
        self._ready: dict[str, ReadyModel] = {}
        self._loaded: dict[str, LoadedModel] = {}
        self._expected: dict[str, datetime.datetime] = {}
        """When models were last asked for ahead."""
        self._failed_ahead: set[ModelFiles] = set()
        self._held: dict[object, ModelFiles] = {}
        self._pinned: tuple[ModelFiles, ...] = ()
        self._snapshot: tuple[LoadedModel, ...] = ()

    @property
    def snapshot(self) -> tuple[LoadedModel, ...]:
        """Every loaded model, most recently used first; other threads may read it."""
        return self._snapshot

    def load(self, files: ModelFiles) -> LoadedModel:
        """The model in memory, loaded if it was not; raises NoRoom and what Engine and Renderer raise."""
        self._load_base(files)
        if files.adapter:
            self._load_adapter(files)
        self._failed_ahead.discard(files)
        self._publish()
        return self._loaded[files.name]

    def load_ahead(self, files: ModelFiles) -> LoadedModel:
        """The model in memory, for which nothing makes room and which is the first to do so; counts as a use in `unload_idle`.

        Raises ServiceError (NOT_LOADED_AHEAD), too.
        """
        if files.name not in self._loaded:
            self._refuse_ahead(files)
            before = set(self._loaded)
            # Nobody is told of a failure, so it would be repeated, for as long as a training takes.
            self._failed_ahead.add(files)
            self.load(files)
            self._loaded = dict(sorted(self._loaded.items(), key=lambda each: each[0] in before))
            self._publish()
        self._expected |= dict.fromkeys((files.base.name, files.name), self._now())
        return self._loaded[files.name]

    def refuse_unfetched(self, name: str, least: int) -> None:
        """Raises ServiceError (NOT_LOADED_AHEAD) if `least` bytes are too many already; other threads may ask, too."""
        if all(loaded.name != name for loaded in self.snapshot) and (refusal := self._spare.refusal(least, least)):
            raise _not_loaded_ahead(name, refusal)

    def hold(self, holder: object, files: ModelFiles) -> ReadyModel:
        """The model ready to answer until `release`, and now the most recently used; raises what `load` raises."""
        self.load(files)
        self._held[holder] = files
        self._touch(files.base.name)
        self._touch(files.name)
        self._loaded[files.name] = dataclasses.replace(self._loaded[files.name], last_use_time=self._now())
        self._publish()
        return self._ready[files.name]

    def release(self, holder: object) -> None:
        """Ends what `hold` began; a holder of nothing is ignored."""
        self._held.pop(holder, None)

    def pin(self, wanted: Sequence[ModelFiles]) -> None:
        """Loads these, which stay from now on instead of what was pinned before.

        Raises NoRoom, and once all others are loaded what `load` has raised first.
        """
        self._pinned = tuple(wanted)
        failures: list[ServiceError] = []
        for files in wanted:
            try:
                self.load(files)
            except ServiceError as error:
                failures.append(error)
        self._publish()
        if failures:
            raise failures[0]

    def unload_idle(self, longest: datetime.timedelta) -> None:
        """Frees what was neither used nor loaded for so long, but for what is held or pinned; a base model after its adapters."""
        oldest = self._now() - longest
        # Adapters first.
        for loaded in sorted(self._loaded.values(), key=lambda each: each.name == each.inside):
            is_needed = any(other.inside == loaded.name != other.name for other in self._loaded.values())
            last = max(loaded.last_use_time or loaded.load_time, self._expected.get(loaded.name, loaded.load_time))
            if not is_needed and last < oldest and loaded.name not in self._names_to_stay():
                self._unload(loaded.name)

    def unload(self, name: str) -> None:
        """Frees a model; a base model takes its adapters along; a name that is not loaded is ignored.

        Raises ServiceError (MODEL_IN_USE).
        """
        if name in self._names_in_use():
            raise ServiceError("MODEL_IN_USE", f"{name} is answering or about to")
        if name in self._names_to_stay():
            raise ServiceError("MODEL_PINNED", f"{name} is pinned by the operator, or an adapter on it is")
        self._unload(name)

    def _unload(self, name: str) -> None:
        for adapter in [loaded.name for loaded in self._loaded.values() if loaded.inside == name != loaded.name]:
            self._drop(adapter)
        if name in self._loaded:
            self._drop(name)
        self._publish()

    def _load_base(self, files: ModelFiles) -> None:
        base = files.base
        if self._is_current(base.name, str(base.directory)):
            return
        size = self._packing.memory_bytes(base.directory)
        ready = ready_base(base.name, base.directory)
        self._make_room(size, files)
        self._engine.load_base(base.name, base.directory)
        self._ready[base.name] = ready
        self._record(base.name, files, str(base.directory), size)

    def _load_adapter(self, files: ModelFiles) -> None:
        adapter = files.adapter
        if adapter is None or self._is_current(adapter.name, str(adapter.directory)):
            return
        size = _adapter_bytes(adapter.directory)
        ready = ready_adapter(self._ready[files.base.name], adapter.name, adapter.directory)
        self._make_room(size, files)
        self._engine.load_adapter(files.base.name, adapter.name, adapter.directory)
        self._ready[adapter.name] = ready
        self._record(adapter.name, files, str(adapter.directory), size)

    def _is_current(self, name: str, directory: str) -> bool:
        """Whether exactly these files are loaded; directories are named after the content, so another one means other files."""
        if name in self._loaded and self._loaded[name].directory != directory:
            if name in self._names_in_use():
                raise NoRoom
            self._unload(name)
        return name in self._loaded

    def _record(self, name: str, files: ModelFiles, directory: str, size: int) -> None:
        self._loaded[name] = LoadedModel(name, files.base.base_model or name, files.base.name, directory, size, self._now())
        self._publish()
        log.info("model.loaded", model=name, memory_bytes=size)

    def _refuse_ahead(self, files: ModelFiles) -> None:
        size = self._packing.memory_bytes(files.base.directory) if files.base.name not in self._loaded else 0
        size += _adapter_bytes(files.adapter.directory) if files.adapter else 0
        refusal = self._spare.refusal(size, self._max_bytes - self._bytes(), self._engine.free_device_bytes())
        if files in self._failed_ahead:
            refusal = "it did not load the last time"
        if self._held:
            # Loading takes seconds, in which nobody would get a token.
            refusal = "others are being answered"
        if refusal:
            raise _not_loaded_ahead(files.name, refusal)

    def _make_room(self, size: int, wanted: ModelFiles) -> None:
        own = {wanted.base.name, wanted.name}
        # What is too large even when it is alone is loaded nevertheless, but not beside what is in use or pinned.
        if any(files != wanted for files in self._pinned) and self._excess(size, _names(self._pinned) | own) > 0:
            message = f"{wanted.name} needs {size:,} bytes; with what is pinned that is more than {self._max_bytes:,}"
            raise ServiceError("MODEL_TOO_LARGE", message)
        staying = self._names_to_stay() | own
        if self._names_in_use() - {wanted.base.name} and self._excess(size, staying) > 0:
            raise NoRoom
        excess = self._excess(size, self._loaded)
        for loaded in [loaded for name, loaded in self._loaded.items() if name not in staying]:
            if excess <= 0:
                return
            self._unload(loaded.name)
            excess = self._excess(size, self._loaded)

    def _excess(self, size: int, beside: Iterable[str]) -> int:
        """By how much the limit is exceeded when `size` bytes are loaded beside these, of which not all need be loaded."""
        return sum(self._loaded[name].memory_bytes for name in beside if name in self._loaded) + size - self._max_bytes

    def _bytes(self) -> int:
        return sum(loaded.memory_bytes for loaded in self._loaded.values())

    def _names_in_use(self) -> set[str]:
        return _names(self._held.values())

    def _names_to_stay(self) -> set[str]:
        return self._names_in_use() | _names(self._pinned)

    def _touch(self, name: str) -> None:
        self._loaded[name] = self._loaded.pop(name)

    def _drop(self, name: str) -> None:
        self._engine.unload(name)
        self._ready.pop(name, None)
        self._expected.pop(name, None)
        del self._loaded[name]
        log.info("model.unloaded", model=name)

    def _publish(self) -> None:
        pinned = {files.name for files in self._pinned}
        newest_first = reversed(self._loaded.values())
        self._snapshot = tuple(dataclasses.replace(loaded, pinned=loaded.name in pinned) for loaded in newest_first)


def _not_loaded_ahead(name: str, refusal: str) -> ServiceError:
    return ServiceError("NOT_LOADED_AHEAD", f"{name} is not loaded ahead: {refusal}")


def _adapter_bytes(directory: pathlib.Path) -> int:
    return model_files.fp32_bytes(directory, broken="ARTIFACT_UNUSABLE")


def _names(files: Iterable[ModelFiles]) -> set[str]:
    return {name for each in files for name in (each.base.name, each.name)}
