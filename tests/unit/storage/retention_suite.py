"""How long artifacts are kept, as callers of ArtifactService see it; run against the fakes and against Postgres and S3."""

import datetime
import io
from collections.abc import Awaitable, Callable

import grpc
import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from unit.storage.artifact_suite import until
from unit.storage.service import Service, artifact_messages, lines, model_files, refused, row

from services.storage.object_store import ObjectStore
from tunesmith.v1 import artifact_pb2, artifact_service_pb2

Advance = Callable[[datetime.timedelta], Awaitable[None]]
State = artifact_pb2.Artifact
FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}


def days(number: float) -> datetime.timedelta:
    return datetime.timedelta(days=number)


def seconds_between(earlier: timestamp_pb2.Timestamp, later: timestamp_pb2.Timestamp) -> int:
    return later.seconds - earlier.seconds


class RetentionSuite:
    """Tests take the fixtures `service`, `store` and `advance`; retention is 15 days, grace 3."""

    async def test_nothing_is_due_before_its_time(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(14.9))
        sweep = await service.sweep()
        assert (list(sweep.expired), list(sweep.deleted), sweep.removed_object_count) == ([], [], 0)
        assert await service.download_artifact(artifact.name, "adapter_model.safetensors") == b"weights"

    async def test_a_life_goes_from_available_to_expired_to_deleted(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(15.1))
        first = await service.sweep()
        assert (list(first.expired), list(first.deleted), first.removed_object_count) == ([artifact.name], [], 0)
        assert len(await service.keys()) == 2
        (listed,) = await service.list_artifacts(states=[State.EXPIRED])
        assert seconds_between(artifact.expire_time, listed.delete_time) in range(int(days(3).total_seconds()), 10**6)
        await advance(days(3.1))
        second = await service.sweep()
        assert (list(second.expired), list(second.deleted)) == ([], [artifact.name])
        assert (second.removed_object_count, second.removed_bytes) == (2, 9)
        assert await service.keys() == set()
        (record,) = await service.list_artifacts(states=[State.DELETED])
        assert record.manifest == artifact.manifest
        assert not (await service.sweep()).deleted

    async def test_expired_is_said_before_any_sweep_with_the_date_and_the_way_back(
        self, service: Service, advance: Advance
    ) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(15.1))
        for call in (
            service.artifacts.GetArtifact(artifact_service_pb2.GetArtifactRequest(name=artifact.name)),
            service.download_artifact(artifact.name, "adapter_config.json"),
            service.hold(artifact.name),
            service.pin(artifact.name),
            service.extend(artifact.name, 1),
        ):
            async with refused("ARTIFACT_EXPIRED") as refusal:
                await call
            assert refusal.code == grpc.StatusCode.NOT_FOUND
            expected = artifact.expire_time.ToDatetime(datetime.UTC).isoformat(timespec="seconds")
            assert refusal.metadata["expire_time"] == expected
            assert expected in refusal.message
            assert refusal.metadata["delete_time"] in refusal.message
            assert "artifact restore" in refusal.hint
        assert await service.list_artifacts() == []

    async def test_after_the_grace_only_the_task_can_bring_it_back(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(15.1))
        await service.sweep()
        await advance(days(3.1))
        # Before and after the sweep that takes the bytes.
        for _ in range(2):
            async with refused("ARTIFACT_EXPIRED") as refusal:
                await service.restore(artifact.name)
            assert "delete_time" not in refusal.metadata
            assert "bytes are gone" in refusal.message
            assert "task again" in refusal.hint
            await service.sweep()

    async def test_what_has_expired_comes_back_whole_with_the_retention_anew(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(15.1))
        await service.sweep()
        await advance(days(2.5))
        restored = await service.restore(artifact.name, "still needed")
        assert (restored.state, restored.reason) == (State.AVAILABLE, "still needed")
        assert not restored.HasField("delete_time")
        assert seconds_between(artifact.expire_time, restored.expire_time) > days(17).total_seconds()
        await advance(days(5))
        await service.sweep()
        assert await service.download_artifact(artifact.name, "adapter_model.safetensors") == b"weights"

    async def test_it_comes_back_also_before_a_sweep_has_seen_it(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(15.1))
        assert (await service.restore(artifact.name)).state == State.AVAILABLE
        assert not (await service.sweep()).expired

    async def test_restoring_what_is_there_is_refused(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        async with refused("ARTIFACT_NOT_EXPIRED") as refusal:
            await service.restore(artifact.name)
        assert refusal.code == grpc.StatusCode.FAILED_PRECONDITION

    async def test_pinned_stays_for_ever_and_unpinned_expires(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        pinned = await service.pin(artifact.name, "champion")
        assert (pinned.pinned, pinned.reason, pinned.state) == (True, "champion", State.AVAILABLE)
        await advance(days(400))
        await service.sweep()
        assert await service.list_artifacts() == [pinned]
        unpinned = await service.unpin(artifact.name, "replaced")
        assert (unpinned.pinned, unpinned.reason, unpinned.state) == (False, "replaced", State.EXPIRED)
        assert list((await service.sweep()).expired) == [artifact.name]
        assert (await service.restore(artifact.name)).state == State.AVAILABLE

    async def test_unpinned_long_after_its_end_it_has_the_whole_grace_before_any_sweep(
        self, service: Service, advance: Advance
    ) -> None:
        artifact = await service.store_artifact(FILES)
        await service.pin(artifact.name)
        await advance(days(400))
        unpinned = await service.unpin(artifact.name)
        assert seconds_between(artifact.create_time, unpinned.delete_time) >= days(403).total_seconds()
        async with refused("ARTIFACT_EXPIRED") as refusal:
            await service.hold(artifact.name)
        assert "can be restored until" in refusal.message
        assert (await service.restore(artifact.name)).state == State.AVAILABLE

    async def test_an_extension_of_what_is_pinned_past_its_end_counts_from_now(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await service.pin(artifact.name)
        await advance(days(400))
        extended = await service.extend(artifact.name, 10)
        assert seconds_between(artifact.create_time, extended.expire_time) >= days(410).total_seconds()
        assert (await service.unpin(artifact.name)).state == State.AVAILABLE
        await service.pin(artifact.name)
        async with refused("INVALID_FIELD") as refusal:
            await service.extend(artifact.name, expire_time=artifact.expire_time)
        assert refusal.fields == ["expire_time"]

    async def test_what_ended_while_nobody_swept_is_not_announced_and_has_the_whole_grace(
        self, service: Service, advance: Advance
    ) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(45))
        (listed,) = await service.list_artifacts(states=[State.EXPIRED])
        assert seconds_between(artifact.create_time, listed.delete_time) >= days(48).total_seconds()
        sweep = await service.sweep()
        assert (list(sweep.expired), list(sweep.notices)) == ([artifact.name], [])

    @pytest.mark.parametrize("kept", [days(1), days(60)])
    async def test_what_comes_back_gets_the_retention_of_its_task(
        self, service: Service, advance: Advance, kept: datetime.timedelta
    ) -> None:
        messages = artifact_messages(FILES)
        messages[0].header.manifest.retention.FromTimedelta(kept)
        artifact = await service.artifacts.UploadArtifact(messages)
        assert seconds_between(artifact.create_time, artifact.expire_time) == kept.total_seconds()
        await advance(kept + days(1))
        restored = await service.restore(artifact.name)
        gained = seconds_between(artifact.create_time, restored.expire_time)
        assert (2 * kept + days(1)).total_seconds() <= gained < (2 * kept + days(2)).total_seconds()

    async def test_what_is_ended_now_is_gone_though_it_was_pinned_and_in_use_and_can_be_restored(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        await service.pin(artifact.name)
        await service.hold(artifact.name)
        ended = await service.expire(artifact.name, "not needed")
        assert (ended.state, ended.pinned, ended.reason) == (State.EXPIRED, False, "not needed")
        assert seconds_between(artifact.create_time, ended.expire_time) < days(1).total_seconds()
        for again in (service.expire, service.hold):
            async with refused("ARTIFACT_EXPIRED"):
                await again(artifact.name)
        assert list((await service.sweep()).expired) == [artifact.name]
        restored = await service.restore(artifact.name)
        assert (restored.state, restored.expire_time.seconds > ended.expire_time.seconds) == (State.AVAILABLE, True)

    async def test_unpinning_what_is_not_pinned_changes_nothing(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        assert await service.unpin(artifact.name, "why not") == artifact

    async def test_extending_moves_the_end_by_a_duration_or_to_a_date(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        longer = await service.extend(artifact.name, 10, "review")
        assert seconds_between(artifact.expire_time, longer.expire_time) == days(10).total_seconds()
        assert longer.reason == "review"
        date = timestamp_pb2.Timestamp(seconds=longer.expire_time.seconds + 86400)
        assert (await service.extend(artifact.name, expire_time=date)).expire_time == date
        await advance(days(25.9))
        assert not (await service.sweep()).expired
        await advance(days(0.2))
        assert list((await service.sweep()).expired) == [artifact.name]

    async def test_an_end_cannot_come_nearer_nor_go_beyond_a_year(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        near = timestamp_pb2.Timestamp(seconds=artifact.expire_time.seconds - 1)
        far = timestamp_pb2.Timestamp(seconds=artifact.create_time.seconds + 366 * 86400)
        never = timestamp_pb2.Timestamp(seconds=2**50)
        for fields, field in (
            ({"expire_time": near}, "expire_time"),
            ({"expire_time": far}, "expire_time"),
            ({"expire_time": never}, "expire_time"),
            ({"extension": duration_pb2.Duration(seconds=-5)}, "extension"),
            ({"extension": duration_pb2.Duration(seconds=10**11)}, "extension"),
            ({"extension": duration_pb2.Duration(seconds=360 * 86400)}, "extension"),
            ({}, "expiration"),
        ):
            async with refused("INVALID_FIELD") as refusal:
                await service.extend(artifact.name, **fields)
            assert refusal.fields == [field]
        assert await service.list_artifacts() == [artifact]

    async def test_pins_and_extensions_need_a_reason(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        for call in (
            service.pin(artifact.name, " "),
            service.extend(artifact.name, 1, ""),
            service.pin(artifact.name, "x" * 129),
        ):
            async with refused("INVALID_FIELD") as refusal:
                await call
            assert refusal.fields == ["reason"]

    async def test_what_is_in_use_does_not_expire_within_the_hour(self, service: Service, advance: Advance) -> None:
        held, read = await service.store_artifact(FILES), await service.store_artifact(FILES)
        await advance(days(15) - datetime.timedelta(minutes=10))
        assert (await service.hold(held.name)).HasField("hold_expire_time")
        await service.download_artifact(read.name, "adapter_config.json")
        await advance(datetime.timedelta(minutes=30))
        assert not (await service.sweep()).expired
        await service.hold(held.name)
        await advance(datetime.timedelta(minutes=50))
        assert list((await service.sweep()).expired) == [read.name]
        await advance(datetime.timedelta(minutes=20))
        assert list((await service.sweep()).expired) == [held.name]

    async def test_bytes_go_with_the_last_that_needs_them(self, service: Service, advance: Advance) -> None:
        await service.store_artifact({"own": b"own", "shared": b"shared"})
        await service.register_model(model_files(**{"merges.txt": b"model's"}))
        await service.store_artifact({"copy": b"model's"})
        await advance(days(10))
        younger = await service.store_artifact({"also": b"shared"})
        for _ in range(2):
            await advance(days(5.1))
            await service.sweep()
        assert await service.download_artifact(younger.name, "also") == b"shared"
        assert await service.download_model("baseModels/tiny", "merges.txt") == b"model's"
        assert len(await service.keys()) == 1 + 4
        await advance(days(20))
        await service.sweep()
        await advance(days(4))
        await service.sweep()
        assert len(await service.keys()) == 4

    async def test_bytes_of_a_dataset_go_with_the_last_artifact_that_needs_them(self, service: Service, advance: Advance) -> None:
        content = lines(row())
        dataset = await service.upload(content)
        artifact = await service.store_artifact({"copy": content})
        await service.delete(dataset.name)
        await service.sweep()
        assert await service.download_artifact(artifact.name, "copy") == content
        again = await service.upload(content)
        for _ in range(2):
            await advance(days(16))
            await service.sweep()
        assert await service.download(again.name) == content
        await service.delete(again.name)
        assert await service.keys() == set()

    async def test_a_whole_model_lives_as_an_adapter_does(self, service: Service, advance: Advance) -> None:
        model = await service.store_artifact(FILES, kind=State.MODEL)
        assert [artifact.name for artifact in await service.list_artifacts(kind=State.MODEL)] == [model.name]
        assert await service.list_artifacts(kind=State.ADAPTER) == []
        await advance(days(15.1))
        assert list((await service.sweep()).expired) == [model.name]
        assert (await service.restore(model.name)).kind == State.MODEL
        for _ in range(2):
            await advance(days(16))
            sweep = await service.sweep()
        assert (list(sweep.deleted), await service.keys()) == ([model.name], set())

    async def test_content_that_was_swept_can_be_stored_again(self, service: Service, advance: Advance) -> None:
        await service.store_artifact(FILES)
        for _ in range(2):
            await advance(days(16))
            await service.sweep()
        again = await service.store_artifact(FILES)
        await service.sweep()
        assert await service.download_artifact(again.name, "adapter_model.safetensors") == b"weights"

    @pytest.mark.parametrize("swept", [False, True])
    async def test_an_upload_that_counts_on_dying_content_is_whole_or_told(
        self, service: Service, advance: Advance, swept: bool
    ) -> None:
        await service.store_artifact({"a": b"known"})
        await advance(days(15.1))
        await service.sweep()
        await advance(days(3.1))
        files = {"b": b"new", "a": b"known"}
        call, last = await self.begun(service, files, objects=2)
        if swept:
            assert (await service.sweep()).removed_object_count == 1
        await call.write(last)
        await call.done_writing()
        if swept:
            async with refused("UPLOAD_EXPIRED") as refusal:
                await call
            assert refusal.code == grpc.StatusCode.ABORTED
            assert await service.list_artifacts() == []
            # Nothing of it stays, and the whole upload sent again succeeds.
            assert await service.keys() == set()
            artifact = await service.store_artifact(files)
        else:
            artifact = await call
        await service.sweep()
        assert await service.download_artifact(artifact.name, "a") == b"known"

    async def test_a_dry_run_tells_what_the_sweep_then_does_and_changes_nothing(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        for step in (8.5, 4, 2.6, 3.1):
            await advance(days(step))
            before = await service.list_artifacts(states=[State.AVAILABLE, State.EXPIRED, State.DELETED])
            would, again = await service.sweep(dry_run=True), await service.sweep(dry_run=True)
            assert before == await service.list_artifacts(states=[State.AVAILABLE, State.EXPIRED, State.DELETED])
            done = await service.sweep()
            assert (would.dry_run, done.dry_run) == (True, False)
            would.dry_run = again.dry_run = False
            assert would == again == done
        assert list(done.deleted) == [artifact.name]

    async def test_an_end_is_announced_once_at_seven_three_and_one_days(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await service.pin((await service.store_artifact({"pinned": b"x"})).name)
        announced = []
        for _ in range(64):
            await advance(days(0.25))
            announced += [(notice.artifact, notice.days, notice.expire_time) for notice in (await service.sweep()).notices]
        assert announced == [(artifact.name, number, artifact.expire_time) for number in (7, 3, 1)]

    async def test_a_new_end_is_announced_anew(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(14.5))
        assert [notice.days for notice in (await service.sweep()).notices] == [1]
        await service.extend(artifact.name, 1)
        assert [notice.days for notice in (await service.sweep()).notices] == [3]
        assert not (await service.sweep()).notices

    async def test_objects_without_a_row_go_after_a_day_and_two_looks(
        self, service: Service, store: ObjectStore, advance: Advance
    ) -> None:
        await service.store_artifact(FILES)
        await store.put("blobs/lost", io.BytesIO(b"lost"), 4)
        await store.put("elsewhere/lost", io.BytesIO(b"lost"), 4)
        assert (await service.sweep()).orphan_count == 1
        await advance(days(0.9))
        assert (await service.sweep()).removed_object_count == 0
        await advance(days(0.2))
        sweep = await service.sweep()
        assert (sweep.removed_object_count, sweep.removed_bytes, sweep.orphan_count) == (1, 4, 0)
        assert len(await service.keys()) == 3
        assert "elsewhere/lost" in await service.keys()

    async def test_an_object_whose_upload_is_under_way_is_no_orphan(self, service: Service, advance: Advance) -> None:
        call, last = await self.begun(service, {"a": b"first", "b": b"second"}, objects=1)
        assert (await service.sweep()).orphan_count == 0
        await call.write(last)
        await call.done_writing()
        artifact = await call
        await advance(days(2))
        assert (await service.sweep()).orphan_count == 0
        assert await service.download_artifact(artifact.name, "a") == b"first"

    async def test_an_upload_slower_than_its_lifetime_is_refused_rather_than_left_without_bytes(
        self, service: Service, advance: Advance
    ) -> None:
        call, last = await self.begun(service, {"a": b"first", "b": b"second"}, objects=1)
        await service.sweep()
        await advance(days(1.1))
        assert (await service.sweep()).removed_object_count == 1
        await call.write(last)
        await call.done_writing()
        async with refused("UPLOAD_EXPIRED"):
            await call
        assert await service.list_artifacts() == []

    async def test_lists_are_filtered_by_state_kind_and_end(self, service: Service, advance: Advance) -> None:
        old = await service.store_artifact(FILES)
        await advance(days(10))
        young, pinned = await service.store_artifact(FILES), await service.store_artifact(FILES)
        await service.pin(pinned.name)
        names = [artifact.name for artifact in await service.list_artifacts(max_expire_time=young.create_time)]
        assert names == []
        soon = timestamp_pb2.Timestamp(seconds=young.create_time.seconds + 6 * 86400)
        assert [artifact.name for artifact in await service.list_artifacts(max_expire_time=soon)] == [old.name]
        assert len(await service.list_artifacts(kind=State.ADAPTER)) == 3
        await advance(days(6))
        assert {artifact.name for artifact in await service.list_artifacts()} == {young.name, pinned.name}
        both = await service.list_artifacts(states=[State.AVAILABLE, State.EXPIRED])
        assert [(artifact.name, artifact.state) for artifact in both][-1] == (old.name, State.EXPIRED)

    @pytest.mark.parametrize(
        ("filters", "field"), [({"states": [77]}, "states[0]"), ({"states": [2, 0]}, "states[1]"), ({"kind": 9}, "kind")]
    )
    async def test_a_filter_that_is_none_is_refused_by_field(
        self, service: Service, filters: dict[str, object], field: str
    ) -> None:
        async with refused("INVALID_FIELD") as refusal:
            await service.list_artifacts(**filters)
        assert refusal.fields == [field]

    async def test_time_that_goes_back_takes_nothing_and_gives_nothing_away(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        await advance(days(-30))
        await service.sweep()
        assert await service.download_artifact(artifact.name, "adapter_config.json") == b"{}"
        await advance(days(45.1))
        assert list((await service.sweep()).expired) == [artifact.name]
        await advance(days(-30))
        assert not (await service.sweep()).deleted
        assert (await service.restore(artifact.name)).state == State.AVAILABLE

    async def begun(self, service: Service, files: dict[str, bytes], *, objects: int) -> tuple[grpc.aio.StreamUnaryCall, object]:
        """An upload that lacks its last message, once the store holds so many objects; with that message."""
        call = service.artifacts.UploadArtifact()
        *messages, last = artifact_messages(files)
        for message in messages:
            await call.write(message)

        async def stored() -> bool:
            return len(await service.keys()) == objects

        await until(stored)
        return call, last
