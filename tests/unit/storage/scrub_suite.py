"""Bytes that rot are found, told, refused and replaced; run against the fakes and against Postgres and S3."""

import asyncio
import datetime
import io
import pathlib
import uuid
from collections.abc import Awaitable, Callable

import grpc
import pytest
from google.protobuf import timestamp_pb2
from structlog.testing import capture_logs
from unit.storage.service import Service, checksums, lines, model_files, refused, row, sha256

from services.storage.object_store import ObjectStore
from services.storage.scrubber import CHANGED, MISSING, Scrubber
from services.storage.verified_read import TRAILER
from tunesmith import Client
from tunesmith.errors import TunesmithError
from tunesmith.v1 import artifact_pb2, artifact_service_pb2, model_service_pb2

Advance = Callable[[datetime.timedelta], Awaitable[None]]
MONTH = datetime.timedelta(days=30)
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}
ROTTEN = "adapter_model.safetensors"
EVENTS = b"events"
TASK, OTHER_TASK = f"tasks/{uuid.UUID(int=1)}", f"tasks/{uuid.UUID(int=2)}"


async def no_pause(_: float) -> None:
    """Scrubbing at full speed."""


def scrubber(service: Service) -> Scrubber:
    return Scrubber(service.repositories.scrubs, service.store, bytes_per_second=10**9, interval=MONTH, sleep=no_pause)


async def scrub(service: Service) -> int:
    """Reads what is due; returns how many contents that were."""
    count = 0
    while await scrubber(service).check_next():
        count += 1
    return count


async def key_of(service: Service, content: bytes) -> str:
    return (await service.repositories.blobs.known([sha256(content)]))[sha256(content)]


async def rot(service: Service, store: ObjectStore, content: bytes = b"weights", into: bytes = b"wEights") -> None:
    await store.put(await key_of(service, content), io.BytesIO(into), len(into))


async def check(service: Service) -> artifact_service_pb2.StorageCheck:
    return await service.artifacts.GetStorageCheck(artifact_service_pb2.GetStorageCheckRequest())


async def notices(service: Service, **fields: object) -> artifact_service_pb2.ListArtifactNoticesResponse:
    return await service.artifacts.ListArtifactNotices(artifact_service_pb2.ListArtifactNoticesRequest(**fields))


async def shown(service: Service, name: str) -> artifact_pb2.Artifact:
    return await service.artifacts.GetArtifact(artifact_service_pb2.GetArtifactRequest(name=name))


async def downloaded(service: Service, name: str, **fields: object) -> tuple[bytes, dict[str, str]]:
    """What a download sends, and what it tells behind that."""
    call = service.artifacts.DownloadArtifact(artifact_service_pb2.DownloadArtifactRequest(name=name, path=ROTTEN, **fields))
    sent = b"".join([part.chunk async for part in call])
    return sent, dict(await call.trailing_metadata())


def moment(time: timestamp_pb2.Timestamp) -> datetime.datetime:
    return time.ToDatetime(datetime.UTC)


class ScrubSuite:
    """Tests take the fixtures `service`, `store` and `advance`."""

    async def test_everything_is_read_once_in_the_interval_and_nothing_before(self, service: Service, advance: Advance) -> None:
        await service.store_artifact(FILES)
        await service.register_model(model_files())
        assert await scrub(service) == 0
        await advance(MONTH + datetime.timedelta(minutes=1))
        assert (await check(service)).overdue_bytes == sum(map(len, [*FILES.values(), *model_files().values()]))
        assert await scrub(service) == 5
        status = await check(service)
        assert (status.content_count, status.overdue_bytes, list(status.damages)) == (5, 0, [])
        assert await scrub(service) == 0

    async def test_a_content_whose_blake3_nobody_knows_is_compared_all_the_same_and_gets_it_when_it_is_read(
        self, service: Service, store: ObjectStore, advance: Advance, tmp_path: pathlib.Path
    ) -> None:
        rows = await self._content_without_blake3(service)
        artifact = await service.store_artifact({ROTTEN: rows})
        await service.pin(artifact.name)
        known = [(file.sha256, file.blake3) for file in artifact.manifest.files]
        assert known == [(sha256(rows), "")]
        key = await key_of(service, rows)
        await store.put(key, io.BytesIO(rows[::-1]), len(rows))
        with Client(storage=service.address) as client, pytest.raises(TunesmithError) as caught:
            await asyncio.to_thread(client.download_artifact, artifact.name, tmp_path)
        assert caught.value.reason == "FILE_DAMAGED"
        await store.put(key, io.BytesIO(rows), len(rows))
        await advance(MONTH + datetime.timedelta(minutes=1))
        await scrub(service)
        (file,) = (await shown(service, artifact.name)).manifest.files
        assert {"sha256": file.sha256, "blake3": file.blake3} == checksums(rows)
        assert await service.download_artifact(artifact.name, ROTTEN) == rows

    async def _content_without_blake3(self, service: Service) -> bytes:
        """The rows of a dataset, which its checker has written: of them storage knows the SHA-256 alone."""
        rows = lines(row("a"), row("b"))
        dataset = await service.upload(rows.replace(b"\n", b"\r\n"))
        assert dataset.rows_sha256 == sha256(rows) != dataset.sha256
        return rows

    async def test_the_position_outlives_the_scrubber(self, service: Service, advance: Advance) -> None:
        await service.store_artifact(FILES)
        await advance(MONTH + datetime.timedelta(minutes=1))
        assert await scrubber(service).check_next()
        assert await scrub(service) == 1

    async def test_what_another_reads_is_left_to_it_until_it_has_died(self, service: Service, advance: Advance) -> None:
        await service.store_artifact({"a": b"weights"})
        await advance(MONTH + datetime.timedelta(minutes=1))
        assert await service.repositories.scrubs.take(MONTH, 10**9) is not None
        assert await scrub(service) == 0
        await advance(datetime.timedelta(minutes=11))
        assert await scrub(service) == 1

    @pytest.mark.parametrize(
        ("into", "damage"), [(b"wEights", CHANGED), (b"weigh", "its object has 5 bytes instead of 7"), (None, MISSING)]
    )
    async def test_damage_is_found_told_and_refused_and_nothing_is_deleted(
        self, service: Service, store: ObjectStore, advance: Advance, into: bytes | None, damage: str
    ) -> None:
        artifact = await service.store_artifact(FILES)
        version = await service.export(artifact.name)
        await service.pin(artifact.name)
        keys = await service.keys()
        if into is None:
            await store.remove(await key_of(service, b"weights"))
        else:
            await rot(service, store, into=into)
        await advance(MONTH + datetime.timedelta(minutes=1))
        with capture_logs() as logs:
            await scrub(service)
        assert {entry["event"] for entry in logs if entry["log_level"] == "error"} == {"content.damaged", "artifact.damaged"}
        assert list((await shown(service, artifact.name)).damaged_files) == [ROTTEN]
        assert list((await service.version("models/mine")).damaged_files) == [ROTTEN]
        for call in (service.download_artifact(artifact.name, ROTTEN), service.download_model(version.name, ROTTEN, 3)):
            async with refused("FILE_DAMAGED") as refusal:
                await call
            assert refusal.code == grpc.StatusCode.DATA_LOSS
            assert (refusal.metadata["path"], damage in refusal.message) == (ROTTEN, True)
        assert await service.download_artifact(artifact.name, "adapter_config.json") == b"{}"
        (found,) = (await check(service)).damages
        assert (found.sha256, found.size_bytes, found.damage) == (sha256(b"weights"), 7, damage)
        assert list(found.owners) == sorted([artifact.name, version.name])
        assert await service.keys() == (keys if into is not None else await service.keys())
        (notice,) = (await notices(service)).notices
        assert (notice.kind, notice.artifact, notice.task) == (2, artifact.name, artifact.manifest.task)
        assert (notice.path, notice.damage, notice.days) == (ROTTEN, damage, 0)

    async def test_known_damage_is_announced_once_and_ends_when_the_bytes_are_back(
        self, service: Service, store: ObjectStore, advance: Advance
    ) -> None:
        artifact = await service.store_artifact(FILES)
        await service.pin(artifact.name)
        await rot(service, store)
        for _ in range(2):
            await advance(MONTH + datetime.timedelta(minutes=1))
            await scrub(service)
        assert len((await notices(service)).notices) == 1
        await store.put((await self._stored(service, artifact.name)).object_key, io.BytesIO(b"weights"), 7)
        assert await scrub(service) == 0
        await advance(datetime.timedelta(days=1, minutes=1))
        await scrub(service)
        assert await service.download_artifact(artifact.name, ROTTEN) == b"weights"
        assert not (await check(service)).damages

    async def test_the_same_content_sent_again_replaces_what_is_damaged(
        self, service: Service, store: ObjectStore, advance: Advance
    ) -> None:
        artifact = await service.store_artifact(FILES)
        await service.pin(artifact.name)
        await rot(service, store)
        await advance(MONTH + datetime.timedelta(minutes=1))
        await scrub(service)
        await service.store_artifact({"other/name": b"weights"})
        assert await service.download_artifact(artifact.name, ROTTEN) == b"weights"
        assert not (await shown(service, artifact.name)).damaged_files
        assert (await service.sweep()).removed_object_count == 1
        assert await service.download_artifact(artifact.name, ROTTEN) == b"weights"

    async def test_a_whole_download_meets_damage_before_the_scrubber_and_tells_everybody(
        self, service: Service, store: ObjectStore
    ) -> None:
        artifact = await service.store_artifact(FILES)
        await rot(service, store)
        async with refused("FILE_DAMAGED"):
            await service.download_artifact(artifact.name, ROTTEN)
        assert list((await shown(service, artifact.name)).damaged_files) == [ROTTEN]
        assert len((await notices(service)).notices) == 1

    async def test_who_verifies_alone_finds_damage_and_the_next_read_tells_everybody(
        self, service: Service, store: ObjectStore
    ) -> None:
        artifact = await service.store_artifact(FILES)
        await rot(service, store)
        sent, trailer = await downloaded(service, artifact.name, caller_verifies=True)
        assert (sent, trailer[TRAILER]) == (b"wEights", sha256(b"weights")), "the caller sees that they differ"
        assert not (await shown(service, artifact.name)).damaged_files
        async with refused("FILE_DAMAGED") as refusal:
            await downloaded(service, artifact.name)
        assert refusal.code == grpc.StatusCode.DATA_LOSS
        assert list((await shown(service, artifact.name)).damaged_files) == [ROTTEN]
        async with refused("FILE_DAMAGED"):
            await downloaded(service, artifact.name, caller_verifies=True)

    async def test_a_damaged_dataset_is_refused(self, service: Service, store: ObjectStore) -> None:
        content = lines(row())
        dataset = await service.upload(content)
        await rot(service, store, content, content.replace(b"hello", b"hullo"))
        async with refused("FILE_DAMAGED") as refusal:
            await service.download(dataset.name)
        assert refusal.metadata["resource"] == dataset.name
        assert list((await check(service)).damages[0].owners) == [dataset.name]

    async def test_segments_of_events_are_read_as_all_else(self, service: Service, advance: Advance) -> None:
        await service.put_segment(TASK, EVENTS)
        await advance(datetime.timedelta(days=1))
        await service.store_artifact({"w": b"weights"})
        await advance(MONTH + datetime.timedelta(minutes=1))
        assert (await check(service)).overdue_bytes == len(EVENTS) + len(b"weights")
        first = await service.repositories.scrubs.take(MONTH, 10**9)
        assert (first.sha256, first.size_bytes) == (sha256(EVENTS), len(EVENTS))
        await service.repositories.scrubs.give_back(first, datetime.timedelta(minutes=1))
        assert await scrub(service) == 1
        await advance(datetime.timedelta(minutes=2))
        assert await scrub(service) == 1
        status = await check(service)
        assert (status.content_count, status.overdue_bytes, list(status.damages)) == (2, 0, [])

    @pytest.mark.parametrize(("into", "damage"), [(b"Events", CHANGED), (None, MISSING)])
    async def test_a_damaged_segment_is_told_and_refused_and_the_same_in_another_task_is_not(
        self, service: Service, store: ObjectStore, advance: Advance, into: bytes | None, damage: str
    ) -> None:
        for task in (TASK, OTHER_TASK):
            await service.put_segment(task, EVENTS)
        key = (await service.repositories.segments.find(uuid.UUID(TASK.removeprefix("tasks/")), sha256(EVENTS))).object_key
        await (store.remove(key) if into is None else store.put(key, io.BytesIO(into), len(into)))
        await advance(MONTH + datetime.timedelta(minutes=1))
        assert await scrub(service) == 2
        (found,) = (await check(service)).damages
        assert (found.sha256, found.damage, list(found.owners)) == (sha256(EVENTS), damage, [TASK])
        async with refused("FILE_DAMAGED") as refusal:
            await service.segment(TASK, EVENTS)
        assert (refusal.code, refusal.metadata["resource"], damage in refusal.message) == (grpc.StatusCode.DATA_LOSS, TASK, True)
        assert refusal.metadata["path"] == f"events/{sha256(EVENTS)}"
        assert "backup" in refusal.hint
        assert await service.segment(OTHER_TASK, EVENTS) == EVENTS
        assert not (await notices(service)).notices
        await service.put_segment(TASK, EVENTS)
        assert await service.segment(TASK, EVENTS) == EVENTS
        assert not (await check(service)).damages
        assert (await service.sweep()).removed_object_count == 1
        assert await service.segment(TASK, EVENTS) == EVENTS

    async def test_whoever_reads_a_damaged_segment_tells_everybody(self, service: Service, store: ObjectStore) -> None:
        await service.put_segment(TASK, EVENTS)
        key = (await service.repositories.segments.find(uuid.UUID(TASK.removeprefix("tasks/")), sha256(EVENTS))).object_key
        await store.put(key, io.BytesIO(b"Events"), len(EVENTS))
        async with refused("FILE_DAMAGED"):
            await service.segment(TASK, EVENTS)
        assert list((await check(service)).damages[0].owners) == [TASK]

    async def test_notices_are_numbered_and_followed_by_number(self, service: Service, advance: Advance) -> None:
        first = await service.store_artifact(FILES)
        await advance(datetime.timedelta(days=1))
        second = await service.store_artifact(FILES)
        seen, after = [], 0
        for days in (7.5, 6, 1):
            await advance(datetime.timedelta(days=days))
            await service.sweep()
            page = await notices(service, after_sequence=after)
            seen += page.notices
            after = page.last_sequence
        assert [notice.sequence for notice in seen] == [1, 2, 3, 4]
        told = [(notice.artifact, notice.days) for notice in seen]
        assert told == [(first.name, 7), (first.name, 1), (second.name, 3), (second.name, 1)]
        assert all(notice.kind == artifact_service_pb2.ArtifactNotice.EXPIRING for notice in seen)
        empty = await notices(service, after_sequence=after)
        assert (list(empty.notices), empty.last_sequence) == ([], after)
        mine = await notices(service, task=second.manifest.task)
        assert [notice.sequence for notice in mine.notices] == [3, 4]
        assert len((await notices(service, page_size=3)).notices) == 3

    async def test_an_end_moved_away_is_announced_anew_and_each_threshold_once(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        for days in (8.5, 4, 2):
            await advance(datetime.timedelta(days=days))
            for _ in range(2):
                await service.sweep()
        await service.extend(artifact.name, 10)
        await service.sweep()
        for days in (4, 4, 2.2):
            await advance(datetime.timedelta(days=days))
            await service.sweep()
        found = (await notices(service)).notices
        assert [notice.days for notice in found] == [7, 3, 1, 7, 3, 1]
        assert len({moment(notice.expire_time) for notice in found}) == 2
        assert [moment(notice.create_time) for notice in found] == sorted(moment(notice.create_time) for notice in found)

    async def test_a_dry_run_takes_no_number(self, service: Service, advance: Advance) -> None:
        await service.store_artifact(FILES)
        await advance(datetime.timedelta(days=9))
        assert len((await service.sweep(dry_run=True)).notices) == 1
        assert (await notices(service)).last_sequence == 0
        await service.sweep()
        assert (await notices(service)).last_sequence == 1

    async def _stored(self, service: Service, name: str):
        artifact = await service.repositories.artifacts.get(uuid.UUID(name.removeprefix("artifacts/")))
        return next(file for file in artifact.files if file.path == ROTTEN)


class DownloadSuite:
    """What a download tells beside the bytes; tests take a fixture `service`."""

    @pytest.mark.parametrize("offset", [0, 1, 6, 7])
    async def test_the_trailer_has_the_checksum_of_what_was_sent(self, service: Service, offset: int) -> None:
        artifact = await service.store_artifact(FILES)
        sent, trailer = await downloaded(service, artifact.name, offset=offset)
        assert sent == b"weights"[offset:]
        assert trailer[TRAILER] == sha256(sent)
        assert "x-request-id" in trailer

    @pytest.mark.parametrize("offset", [0, 1, 7])
    async def test_where_the_caller_verifies_the_trailer_has_the_checksum_of_the_whole(
        self, service: Service, offset: int
    ) -> None:
        artifact = await service.store_artifact(FILES)
        sent, trailer = await downloaded(service, artifact.name, offset=offset, caller_verifies=True)
        assert (sent, trailer[TRAILER]) == (b"weights"[offset:], sha256(b"weights"))
        assert "x-request-id" in trailer

    async def test_the_caller_may_verify_models_too(self, service: Service, store: ObjectStore) -> None:
        await service.register_model(model_files())
        content = model_files()["config.json"]
        await rot(service, store, content, b"?" * len(content))
        request = model_service_pb2.DownloadModelRequest(name="baseModels/tiny", path="config.json", caller_verifies=True)
        call = service.models.DownloadModel(request)
        assert b"".join([part.chunk async for part in call]) == b"?" * len(content)
        assert dict(await call.trailing_metadata())[TRAILER] == sha256(content)
        async with refused("FILE_DAMAGED"):
            await service.download_model("baseModels/tiny", "config.json")

    async def test_the_trailer_comes_with_models_too(self, service: Service) -> None:
        await service.register_model(model_files())
        request = model_service_pb2.DownloadModelRequest(name="baseModels/tiny", path="config.json")
        call = service.models.DownloadModel(request)
        sent = b"".join([part.chunk async for part in call])
        assert dict(await call.trailing_metadata())[TRAILER] == sha256(sent)

    async def test_a_negative_number_and_a_strange_task_are_refused(self, service: Service) -> None:
        async with refused("INVALID_FIELD") as refusal:
            await notices(service, after_sequence=-1)
        assert refusal.fields == ["after_sequence"]
        async with refused("INVALID_NAME"):
            await notices(service, task="tasks/7")
