"""A state machine of users, sweeps, crashes and clock jumps; run on the fakes and, shorter, on Postgres and S3.

What must hold after every step: nothing pinned ends, nothing referred to lacks its bytes, nothing exported is ever lost, nothing
stays past its end once swept, a dry run tells exactly what the sweep then does, announcements are numbered without holes and come
once, and the scrubber finds nothing wrong. In the end, long after the last step, nothing is left but what is kept on purpose.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from unit.storage.mortal import Killed, Life, Mortal

from services.common.errors import NotFound, ServiceError
from services.common.names import RegisteredName
from services.storage.artifact import ArtifactDraft, ArtifactFilter
from services.storage.artifact_upload import ArtifactUpload
from services.storage.export import Export
from services.storage.file import File
from services.storage.notice import EXPIRING
from services.storage.object_store import ObjectStore
from services.storage.registered_model import ExportDraft, Lineage, ModelVersion
from services.storage.registration import Repositories
from services.storage.retention import AVAILABLE, DELETED, EXPIRED
from services.storage.retention_change import Change, Expire, Extend, Hold, Pin, Restore, Unpin
from services.storage.scrubber import Scrubber
from services.storage.sweep import StoredObject
from services.storage.sweeper import BLOBS, Sweeper
from services.storage.upload import Digest, FileUpload, Item

ALL = ArtifactFilter(states=(AVAILABLE, EXPIRED, DELETED))
CONTENTS = st.lists(st.integers(0, 5), min_size=1, max_size=3, unique=True)
NUMBERS = st.integers(0, 50)
STEPS = st.integers(0, 40)
CHANGES = st.sampled_from([Pin("x"), Unpin(""), Hold(), Restore(""), Extend("x", extension=datetime.timedelta(days=4))])
LINEAGE = Lineage("tasks/1", 1, "baseModels/none", "", "", {}, {}, {})


class World:
    """What the machine acts on; `moment` reads the clock that retention goes by."""

    def __init__(
        self, repositories: Repositories, store: ObjectStore, advance: Callable, moment: Callable, run: Callable
    ) -> None:
        self.repositories, self.store, self.advance, self.moment, self.run = repositories, store, advance, moment, run
        self.life = Life()
        mortal, mortal_store = self._mortal(repositories), Mortal(store, self.life)
        files = FileUpload(mortal.blobs, uuid.uuid4)
        self.upload = ArtifactUpload(mortal.artifacts, mortal_store, mortal.pending, files)
        self.sweeper = Sweeper(mortal.sweeps, mortal.pending, mortal_store, limit=1000)
        self.scrubber = Scrubber(
            mortal.scrubs, mortal_store, bytes_per_second=10**9, interval=datetime.timedelta(days=5), sleep=no_pause
        )
        self.export = Export(
            registry=mortal.registry,
            artifacts=mortal.artifacts,
            base_models=mortal.models,
            store=mortal_store,
            pending=mortal.pending,
            new_id=uuid.uuid4,
            read_lineage=lambda _: LINEAGE,
        )

    def _mortal(self, repositories: Repositories) -> Repositories:
        fields = {field.name: getattr(repositories, field.name) for field in dataclasses.fields(repositories)}
        return Repositories(**{name: Mortal(repository, self.life) for name, repository in fields.items()})

    async def killed_after(self, steps: int, work: Coroutine) -> None:
        """The process works on this alone and is killed when it has made so many steps, if it has not ended before."""
        self.life.steps = steps
        try:
            with contextlib.suppress(Killed):
                await work
        finally:
            self.life.steps = None


async def no_pause(_: float) -> None:
    """Scrubbing at full speed."""


class RetentionMachine(RuleBasedStateMachine):
    """Subclasses say what `make_world` makes."""

    def __init__(self) -> None:
        super().__init__()
        self.world = self.make_world()
        self.ids: list[uuid.UUID] = []
        self.pinned: set[uuid.UUID] = set()
        self.passed = datetime.timedelta(0)

    def make_world(self) -> World:
        raise NotImplementedError

    @rule(contents=CONTENTS)
    def store(self, contents: list[int]) -> None:
        self.world.run(self._store(contents))

    @precondition(lambda self: self.ids)
    @rule(
        number=NUMBERS,
        change=CHANGES,
    )
    def change(self, number: int, change: Change) -> None:
        self.world.run(self._change(self._pick(number), change))

    @precondition(lambda self: self.ids)
    @rule(number=NUMBERS)
    def export(self, number: int) -> None:
        self.world.run(self._export(self._pick(number)))

    @precondition(lambda self: self.passed < datetime.timedelta(days=60))
    @rule(hours=st.integers(1, 120))
    def wait(self, hours: int) -> None:
        self.passed += datetime.timedelta(hours=hours)
        self.world.run(self.world.advance(datetime.timedelta(hours=hours)))

    @rule(days=st.sampled_from([-30, 30]))
    def jump(self, days: int) -> None:
        self.world.run(self.world.advance(datetime.timedelta(days=days)))

    @precondition(lambda self: self.ids)
    @rule(number=NUMBERS)
    def expire(self, number: int) -> None:
        async def expire() -> None:
            self.pinned.discard(self._pick(number))
            await self._change(self._pick(number), Expire(""))

        self.world.run(expire())

    @rule(number=NUMBERS)
    def delete_a_version(self, number: int) -> None:
        async def delete() -> None:
            versions = await self._versions()
            if versions:
                name = RegisteredName("mine", versions[number % len(versions)].version)
                await self.world.repositories.registry.set_alias("mine", "newest", 0)
                await self.world.repositories.registry.delete(name)

        self.world.run(delete())

    @rule()
    def scrub(self) -> None:
        async def scrub() -> None:
            while await self.world.scrubber.check_next():
                pass

        self.world.run(scrub())

    @rule(contents=CONTENTS, steps=STEPS)
    def killed_while_it_stores(self, contents: list[int], steps: int) -> None:
        self.world.run(self.world.killed_after(steps, self._store(contents)))

    @precondition(lambda self: self.ids)
    @rule(number=NUMBERS, steps=STEPS)
    def killed_while_it_exports(self, number: int, steps: int) -> None:
        self.world.run(self.world.killed_after(steps, self._export(self._pick(number))))

    @rule(steps=STEPS)
    def killed_while_it_sweeps(self, steps: int) -> None:
        self.world.run(self.world.killed_after(steps, self.world.sweeper.sweep(dry_run=False)))

    @rule(steps=STEPS)
    def killed_while_it_scrubs(self, steps: int) -> None:
        self.world.run(self.world.killed_after(steps, self.world.scrubber.check_next()))

    @rule()
    def sweep(self) -> None:
        self.world.run(self._sweep())

    @rule()
    def crash_after_the_decision(self) -> None:
        async def decide() -> None:
            await self.world.repositories.sweeps.decide(await self._objects(), 1000, dry_run=False)

        self.world.run(decide())

    @rule()
    def crash_in_the_middle_of_the_bytes(self) -> None:
        async def half() -> None:
            sweep = await self.world.repositories.sweeps.decide(await self._objects(), 1000, dry_run=False)
            for item in sweep.objects[: len(sweep.objects) // 2 + 1]:
                await self.world.store.remove(item.key)

        self.world.run(half())

    @precondition(lambda self: self.ids)
    @rule(contents=CONTENTS, one=NUMBERS, other=NUMBERS, third=NUMBERS)
    def at_once(self, contents: list[int], one: int, other: int, third: int) -> None:
        async def gathered() -> None:
            await asyncio.gather(
                self._store(contents),
                self._export(self._pick(one)),
                self.world.sweeper.sweep(dry_run=False),
                self.world.scrubber.check_next(),
                self._change(self._pick(other), Pin("x")),
                self._change(self._pick(third), Restore("")),
            )

        self.world.run(gathered())

    @invariant()
    def nothing_that_counts_is_lost(self) -> None:
        self.world.run(self._check())

    def _pick(self, number: int) -> uuid.UUID:
        return self.ids[number % len(self.ids)]

    async def _store(self, contents: list[int]) -> None:
        data = {f"f{number}": b"content %d" % number for number in contents}
        digests = {path: hashlib.sha256(body).hexdigest() for path, body in data.items()}
        # Of the even ones the checksum follows the bytes.
        sealed = {f"f{number}" for number in contents if number % 2 == 0}
        files = tuple(File(path, len(body), "" if path in sealed else digests[path]) for path, body in data.items())
        draft = ArtifactDraft(uuid.uuid4(), "MODEL" if len(contents) == 2 else "ADAPTER", uuid.uuid4(), 1, "r", b"", files)

        async def items() -> AsyncIterator[Item]:
            for path, body in data.items():
                yield path
                yield body
                if path in sealed:
                    yield Digest(digests[path])

        def completed(draft: ArtifactDraft, files: Sequence[File]) -> ArtifactDraft:
            return dataclasses.replace(draft, files=tuple(files))

        with contextlib.suppress(ServiceError):
            self.ids.append((await self.world.upload.receive(draft, items(), completed)).id)

    async def _change(self, identifier: uuid.UUID, change: Change) -> None:
        with contextlib.suppress(ServiceError):
            await self.world.repositories.artifacts.change(identifier, change)
            if isinstance(change, Pin):
                self.pinned.add(identifier)
            if isinstance(change, Unpin):
                self.pinned.discard(identifier)

    async def _export(self, identifier: uuid.UUID) -> None:
        draft = ExportDraft(identifier, "mine", "", "newest", "", "")
        with contextlib.suppress(ServiceError):
            await self.world.export.export(draft)

    async def _sweep(self) -> None:
        now = await self.world.moment()
        before = {artifact.id: artifact for artifact in await self._artifacts()}
        would, _ = await self.world.sweeper.sweep(dry_run=True)
        done, _ = await self.world.sweeper.sweep(dry_run=False)
        assert would == done
        for artifact in await self._artifacts():
            life = before[artifact.id].life
            if life.state == AVAILABLE and not life.pinned and max(life.expire_time, life.hold_until or now) <= now:
                assert artifact.life.state == EXPIRED
            if life.state == EXPIRED and life.delete_time <= now:
                assert artifact.life.state == DELETED

    async def _check(self) -> None:
        present = {item.key for item in await self._objects()}
        for artifact in await self._artifacts():
            if artifact.id in self.pinned:
                assert artifact.state == AVAILABLE
            if artifact.life.state != DELETED:
                assert {file.object_key for file in artifact.files} <= present
        assert await self._exported() <= present
        notices = await self.world.repositories.notices.page(1000, 0, None)
        assert [notice.sequence for notice in notices] == list(range(1, len(notices) + 1))
        assert len({(notice.artifact, notice.expire_time, notice.days) for notice in notices}) == len(notices)
        assert {notice.kind for notice in notices} <= {EXPIRING}
        assert not (await self.world.repositories.scrubs.status(datetime.timedelta(days=5))).damages

    def teardown(self) -> None:
        self.world.run(self._outlive())

    async def _outlive(self) -> None:
        """Two sweeps after end and grace nothing is there that nobody wanted to keep, orphans included."""
        for days in (800, 4, 2, 1):
            await self.world.advance(datetime.timedelta(days=days))
            await self._sweep()
        artifacts = await self._artifacts()
        assert {artifact.id for artifact in artifacts if artifact.state != DELETED} == self.pinned
        kept = {file.object_key for artifact in artifacts for file in artifact.files} | await self._exported()
        assert {item.key for item in await self._objects()} == kept

    async def _versions(self) -> list[ModelVersion]:
        with contextlib.suppress(NotFound):
            return list(await self.world.repositories.registry.versions("mine", 1000, None))
        return []

    async def _exported(self) -> set[str]:
        return {file.object_key for version in await self._versions() for file in version.files}

    async def _artifacts(self) -> list:
        return list(await self.world.repositories.artifacts.page(1000, None, ALL))

    async def _objects(self) -> list[StoredObject]:
        return list(await self.world.store.list(BLOBS))
