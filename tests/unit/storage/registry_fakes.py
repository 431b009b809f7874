"""The registry in memory; it passes the same suite as the one in Postgres."""

import dataclasses
import uuid
from collections.abc import Mapping, Sequence

from unit.storage.memory_tables import Registered, Tables

from services.common.errors import NotFound
from services.common.names import RegisteredName
from services.storage.artifact import artifact_name
from services.storage.file import File
from services.storage.registered_model import ExportDraft, ModelVersion, RegisteredModel, same_export
from services.storage.registry_repository import VERSION_HOLD, version_held, version_in_use
from services.storage.registry_rows import version_not_found
from services.storage.retention import require_available


class MemoryRegistryRepository:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def find(self, draft: ExportDraft) -> ModelVersion | None:
        model = self._tables.registered.get(draft.model)
        number = model.requests.get(draft.request_id) if model and draft.request_id else None
        return same_export(self._read(draft.model, number), draft) if number else None

    async def add(self, draft: ExportDraft, files: Sequence[File], keys: Mapping[str, str]) -> ModelVersion:
        now = self._tables.clock.now()
        manifest = draft.manifest if draft.artifact is None else self._manifest(draft.artifact)
        earlier = await self.find(draft)
        if earlier is not None:
            return earlier
        stored = self._tables.settle(files, keys)
        model = self._tables.registered.setdefault(draft.model, Registered(now))
        model.last_version += 1
        model.versions[model.last_version] = ModelVersion(
            model=draft.model,
            version=model.last_version,
            aliases=(),
            format=draft.format,
            description=draft.description,
            artifact=draft.artifact,
            manifest=manifest,
            files=stored,
            size_bytes=sum(file.size_bytes for file in stored),
            create_time=now,
        )
        if draft.alias:
            model.aliases[draft.alias] = model.last_version
        if draft.request_id:
            model.requests[draft.request_id] = model.last_version
        if draft.artifact is not None:
            told = f"models/{draft.model}/versions/{model.last_version}"
            self._tables.audit.append((draft.artifact, "EXPORT", "caller", told))
        return self._read(draft.model, model.last_version)

    def _manifest(self, identifier: uuid.UUID) -> bytes:
        if identifier not in self._tables.artifacts:
            raise NotFound("ARTIFACT_NOT_FOUND", artifact_name(identifier))
        artifact = self._tables.artifacts[identifier]
        require_available(artifact.name, artifact.life, self._tables.clock.now(), self._tables.policy)
        return artifact.manifest

    async def model(self, identifier: str) -> RegisteredModel:
        model = self._find(identifier)
        aliases = dict(sorted(model.aliases.items()))
        return RegisteredModel(identifier, max(model.versions, default=0), len(model.versions), aliases, model.create_time)

    async def models(self, limit: int, after: str | None) -> list[RegisteredModel]:
        ids = sorted(self._tables.registered)
        return [await self.model(identifier) for identifier in ids if after is None or identifier > after][:limit]

    async def version(self, name: RegisteredName) -> ModelVersion:
        model = self._find(name.model)
        number = model.aliases.get(name.alias) if name.alias else name.version
        number = max(model.versions, default=0) if not name.alias and name.version is None else number
        if number not in model.versions:
            raise version_not_found(name)
        return self._read(name.model, number)

    async def versions(self, model: str, limit: int, before: int | None) -> list[ModelVersion]:
        numbers = sorted(self._find(model).versions, reverse=True)
        return [self._read(model, number) for number in numbers if before is None or number < before][:limit]

    async def set_alias(self, model: str, alias: str, version: int) -> RegisteredModel:
        found = self._find(model)
        if version and version not in found.versions:
            raise version_not_found(RegisteredName(model, version))
        if version:
            found.aliases[alias] = version
        else:
            found.aliases.pop(alias, None)
        return await self.model(model)

    async def hold(self, name: RegisteredName) -> ModelVersion:
        version = await self.version(name)
        self._find(name.model).holds[version.version] = self._tables.clock.now() + VERSION_HOLD
        return version

    async def delete(self, name: RegisteredName) -> ModelVersion:
        version = await self.version(name)
        model, now = self._find(name.model), self._tables.clock.now()
        if model.holds.get(version.version, now) > now:
            raise version_held(version)
        if version.aliases:
            raise version_in_use(version)
        del model.versions[version.version]
        model.requests = {key: number for key, number in model.requests.items() if number != version.version}
        self._tables.drop_unused({file.sha256 for file in version.files})
        return version

    def _find(self, identifier: str) -> Registered:
        if identifier not in self._tables.registered:
            raise NotFound("REGISTERED_MODEL_NOT_FOUND", f"models/{identifier}")
        return self._tables.registered[identifier]

    def _read(self, identifier: str, number: int) -> ModelVersion:
        model = self._tables.registered[identifier]
        aliases = sorted(alias for alias, target in model.aliases.items() if target == number)
        version = model.versions[number]
        return dataclasses.replace(version, aliases=tuple(aliases), files=self._tables.as_stored(version.files))
