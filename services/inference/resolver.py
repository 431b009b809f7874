"""From the name in a request to complete local files: a base or tuned model, and the adapter on it if there is one."""

import asyncio
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

from services.common.bundles import Bundle
from services.common.errors import NotFound, ServiceError
from services.inference.checkpoint import Recipe, servable
from services.inference.model_name import Kind, ModelName, parse_model_name

# Kinds of artifacts and versions.
_ANSWERING = ("", "ADAPTER", "MODEL", "MERGED", "CHECKPOINT")


class Bundles(Protocol):
    """Local copies of stored files; services.common.bundles.BundleStore is one."""

    async def base_model(self, name: str) -> Bundle: ...

    async def artifact(self, name: str) -> Bundle: ...

    async def model_version(self, name: str) -> Bundle: ...

    async def keep(self, directories: Iterable[str]) -> None: ...


class Artifacts(Protocol):
    """What a task's result, a checkpoint and an alias stand for; artifact_lookup.ArtifactLookup is one."""

    async def newest(self, task: str) -> str | None: ...

    async def refuse_ended(self, task: str) -> None: ...

    async def checkpoint(self, task: str, step: int) -> str: ...

    async def recipe(self, artifact: str) -> Recipe: ...

    async def version(self, name: str) -> str: ...

    async def base_models(self) -> Sequence[str]: ...

    async def weight_bytes(self, name: str) -> int: ...


@dataclasses.dataclass(frozen=True, slots=True)
class ModelFiles:
    """Everything needed to load a model."""

    base: Bundle
    adapter: Bundle | None = None

    @property
    def name(self) -> str:
        """Resource name of what answers: the artifact or version, else the base model."""
        return self.adapter.name if self.adapter else self.base.name


class Resolver:
    """Resolves names against storage, every time anew: an artifact that has expired must stop answering."""

    def __init__(self, bundles: Bundles, artifacts: Artifacts) -> None:
        self._bundles = bundles
        self._artifacts = artifacts

    async def files(self, text: str) -> ModelFiles:
        """The files of a model named as in a request.

        Raises InvalidArgument, MODEL_NOT_READY for a task without artifacts, and what storage says (BASE_MODEL_NOT_FOUND,
        ARTIFACT_NOT_FOUND, ARTIFACT_EXPIRED, CHECKPOINT_NOT_FOUND, MODEL_VERSION_NOT_FOUND, STORAGE_UNAVAILABLE, ...),
        CHECKPOINT_UNSERVABLE.
        """
        name = parse_model_name(text)
        if name.kind is Kind.BASE_MODEL:
            return ModelFiles(await self._base_model(name.name, text))
        if name.kind is Kind.REGISTERED:
            return await self._tuned(await self._bundles.model_version(name.name))
        return await self._tuned(await self._bundles.artifact(await self._artifact(name)))

    async def keep(self, directories: Iterable[str]) -> None:
        """Says that files in these are still needed."""
        await self._bundles.keep(directories)

    async def loaded_name(self, text: str) -> str | None:
        """The name a model has in memory, found without its files; None for a task without artifacts."""
        name = parse_model_name(text)
        if name.kind is Kind.CHECKPOINT:
            return await self._artifacts.checkpoint(name.name, name.step)
        if name.kind is Kind.REGISTERED:
            return await self._artifacts.version(name.name)
        return await self._artifacts.newest(name.name) if name.kind is Kind.TASK else name.name

    async def least_bytes(self, text: str) -> int:
        """What a base model takes in memory at least, found without its files; 0 = of anything else, where it is not known."""
        name = parse_model_name(text)
        return await self._artifacts.weight_bytes(name.name) if name.kind is Kind.BASE_MODEL else 0

    async def _base_model(self, name: str, asked: str) -> Bundle:
        """Raises what storage says; of a name that nothing has, in the caller's words and with those that there are."""
        try:
            return await self._bundles.base_model(name)
        except ServiceError as error:
            if error.reason != "BASE_MODEL_NOT_FOUND":
                raise
            known = ", ".join(await self._artifacts.base_models()) or "none"
            message = f"there is no model {asked}; base models: {known}; results of fine-tunings are called tasks/ID"
            raise NotFound(error.reason, name, message=message) from error

    async def _artifact(self, name: ModelName) -> str:
        if name.kind is Kind.ARTIFACT:
            return name.name
        if name.kind is Kind.CHECKPOINT:
            return await self._artifacts.checkpoint(name.name, name.step)
        artifact = await self._artifacts.newest(name.name)
        if artifact is None:
            await self._artifacts.refuse_ended(name.name)
            message = f"{name.name} has no artifact: it has not succeeded, or there is no such task"
            raise ServiceError("MODEL_NOT_READY", message, metadata={"resource": name.name})
        return artifact

    async def _tuned(self, adapter: Bundle) -> ModelFiles:
        if adapter.kind not in _ANSWERING:
            raise NotFound(
                "MODEL_NOT_FOUND", adapter.name, message=f"{adapter.name} is of kind {adapter.kind}, which cannot answer"
            )
        if not adapter.is_adapter and adapter.kind != "CHECKPOINT":
            return ModelFiles(adapter)
        base = await self._bundles.base_model(adapter.base_model)
        if adapter.kind == "CHECKPOINT":
            adapter = await asyncio.to_thread(servable, adapter, await self._artifacts.recipe(adapter.name), base)
        if adapter.base_model_revision not in ("", base.base_model_revision):
            raise ServiceError(
                "BASE_MODEL_UNUSABLE",
                f"{adapter.name} was tuned on revision {adapter.base_model_revision} of {base.name}, storage has"
                f" {base.base_model_revision}",
            )
        return ModelFiles(base, adapter) if adapter.is_adapter else ModelFiles(adapter)
