"""Which checkpoints are kept and for how long, as callers see it; run against the fakes and against Postgres and S3."""

import asyncio
import uuid

import pytest
from google.protobuf import duration_pb2
from unit.storage.retention_suite import Advance, days
from unit.storage.service import Service, artifact_header, artifact_messages, refused

from services.common.errors import Unavailable
from tunesmith.v1 import artifact_pb2, artifact_service_pb2

CHECKPOINT = artifact_pb2.Artifact.CHECKPOINT
State = artifact_pb2.Artifact
Upload = artifact_service_pb2.UploadArtifactRequest


@pytest.fixture
def task() -> str:
    return f"tasks/{uuid.uuid4()}"


async def save(
    service: Service, task: str, step: int, *, limit: int = 2, epoch: int = 1, first_attempt: int = 0, **manifest: object
) -> artifact_pb2.Artifact:
    files = {"manifest.json": b"%d" % step, "shared.safetensors": b"weights of %d" % step}
    header = artifact_header(
        files, task=task, kind=CHECKPOINT, epoch=epoch, request_id=f"run-{manifest.get('attempt', 0)}/step-{step}"
    )
    header.manifest.MergeFrom(artifact_pb2.ArtifactManifest(**manifest))
    header.manifest.step = step
    header.first_attempt = first_attempt
    header.manifest.effective_hyperparameters.save_total_limit = limit
    return await service.artifacts.UploadArtifact([Upload(header=header), *artifact_messages(files)[1:]])


def identifier(artifact: artifact_pb2.Artifact) -> uuid.UUID:
    return uuid.UUID(artifact.name.removeprefix("artifacts/"))


async def steps(service: Service, task: str) -> list[int]:
    return [artifact.manifest.step for artifact in await service.list_artifacts(task=task, kind=CHECKPOINT)]


class CheckpointSuite:
    """Tests take the fixtures `service`, `advance` and `task`; retention is 15 days, grace 3."""

    async def test_the_newest_few_stay_and_the_bytes_of_the_others_go_with_the_next_sweep(
        self, service: Service, task: str
    ) -> None:
        for step in (1, 2, 3, 4):
            await save(service, task, step)
        assert await steps(service, task) == [4, 3]
        sweep = await service.sweep()
        assert len(sweep.deleted) == 2
        assert len(await service.keys()) == 4

    async def test_the_best_stays_and_gives_way_to_a_better_one(self, service: Service, task: str) -> None:
        for step, loss in ((1, 0.5), (2, 0.7), (3, 0.9), (4, 0.5)):
            await save(service, task, step, limit=1, eval_loss=loss)
        assert await steps(service, task) == [4, 1], "of equally good ones the first"
        await save(service, task, 5, limit=1, eval_loss=0.4)
        assert await steps(service, task) == [5]

    async def test_one_without_a_number_is_never_the_best(self, service: Service, task: str) -> None:
        await save(service, task, 1, limit=1, eval_loss=float("nan"))
        await save(service, task, 2, limit=1)
        assert await steps(service, task) == [2]

    async def test_one_with_a_label_stays(self, service: Service, task: str) -> None:
        await save(service, task, 1, labels=["before the change"])
        for step in (2, 3, 4):
            await save(service, task, step)
        assert await steps(service, task) == [4, 3, 1]

    async def test_what_is_pinned_or_in_use_stays_until_it_is_not(self, service: Service, advance: Advance, task: str) -> None:
        pinned, read = await save(service, task, 1), await save(service, task, 2)
        await service.pin(pinned.name)
        assert await service.download_artifact(read.name, "manifest.json") == b"2"
        for step in (3, 4):
            await save(service, task, step)
        assert await steps(service, task) == [4, 3, 2, 1]
        await service.unpin(pinned.name)
        await advance(days(0.1))
        await save(service, task, 5)
        assert await steps(service, task) == [5, 4]

    async def test_other_tasks_and_results_are_left_alone(self, service: Service, task: str) -> None:
        other = f"tasks/{uuid.uuid4()}"
        await save(service, other, 1)
        await service.store_artifact({"adapter_model.safetensors": b"x"}, task=task)
        for step in (2, 3, 4):
            await save(service, task, step, limit=1)
        assert await steps(service, other) == [1]
        assert len(await service.list_artifacts(task=task)) == 2

    async def test_a_stale_epoch_is_refused_and_ends_nothing(self, service: Service, task: str) -> None:
        await save(service, task, 1, epoch=2)
        async with refused("STALE_EPOCH"):
            await save(service, task, 2, epoch=1, limit=1)
        assert await steps(service, task) == [1]

    async def test_racing_commits_leave_what_the_limit_says(self, service: Service, task: str) -> None:
        await asyncio.gather(*(save(service, task, step) for step in range(1, 7)))
        assert len(await steps(service, task)) == 2

    async def test_a_repeat_returns_the_first_and_ends_nothing(self, service: Service, task: str) -> None:
        first = await save(service, task, 1)
        await save(service, task, 2)
        assert await save(service, task, 1) == first
        assert await steps(service, task) == [2, 1]

    async def test_a_live_task_keeps_its_checkpoints_however_long_it_rests(
        self, service: Service, advance: Advance, task: str
    ) -> None:
        resting, over = await save(service, task, 1), await save(service, f"tasks/{uuid.uuid4()}", 1)
        service.tasks.living.add(uuid.UUID(task.removeprefix("tasks/")))
        for _ in range(3):
            await advance(days(14.5))
            await service.sweep()
        assert await service.download_artifact(resting.name, "manifest.json") == b"1"
        assert [artifact.name for artifact in await service.list_artifacts(states=[State.DELETED])] == [over.name]

    async def test_one_that_was_due_before_anybody_looked_comes_back(self, service: Service, advance: Advance, task: str) -> None:
        await save(service, task, 1)
        service.tasks.living.add(uuid.UUID(task.removeprefix("tasks/")))
        await advance(days(20))
        await service.sweep()
        assert await steps(service, task) == [1]

    async def test_a_task_that_nobody_can_ask_about_counts_as_alive(self, service: Service, advance: Advance, task: str) -> None:
        await save(service, task, 1)
        service.tasks.error = Unavailable("TASK_MANAGER_UNAVAILABLE", "gone")
        await advance(days(20))
        await service.sweep()
        assert await steps(service, task) == [1]

    async def test_what_nobody_could_be_asked_about_ends_within_the_hour_once_somebody_can(
        self, service: Service, advance: Advance, task: str
    ) -> None:
        stored = [await save(service, task, 1), await service.store_artifact({"adapter_model.safetensors": b"x"})]
        await advance(days(15.1))
        service.tasks.error = Unavailable("TASK_MANAGER_UNAVAILABLE", "gone")
        for _ in range(3):
            sweep = await service.sweep()
            assert (list(sweep.expired), list(sweep.notices)) == ([], [])
            await advance(days(0.03))
        kept = await service.list_artifacts()
        assert {artifact.name: artifact.expire_time for artifact in kept} == {each.name: each.expire_time for each in stored}
        service.tasks.error = None
        await advance(days(0.03))
        assert sorted((await service.sweep()).expired) == sorted(each.name for each in stored)

    async def test_what_a_live_task_needs_outlives_the_time_in_which_nobody_could_be_asked(
        self, service: Service, advance: Advance, task: str
    ) -> None:
        resting = await save(service, task, 1)
        origin, other = [await service.store_artifact({"adapter_model.safetensors": b"x"}) for _ in range(2)]
        service.tasks.living.add(uuid.UUID(task.removeprefix("tasks/")))
        service.tasks.origins.add(identifier(origin))
        await advance(days(20))
        service.tasks.error = Unavailable("TASK_MANAGER_UNAVAILABLE", "gone")
        await service.sweep()
        service.tasks.error = None
        await advance(days(0.02))
        await service.sweep()
        await advance(days(0.03))
        assert list((await service.sweep()).expired) == [other.name]
        assert {artifact.name for artifact in await service.list_artifacts()} == {resting.name, origin.name}

    @pytest.mark.parametrize(("asked", "kept"), [(1 / 24, 2), (40, 40)])
    async def test_one_of_a_live_task_gets_the_retention_of_its_task_and_enough_for_the_sweeps_after(
        self, service: Service, advance: Advance, task: str, asked: float, kept: float
    ) -> None:
        retention = duration_pb2.Duration(seconds=int(asked * 86400))
        saved = await save(service, task, 1, retention=retention)
        service.tasks.living.add(uuid.UUID(task.removeprefix("tasks/")))
        await advance(days(asked))
        await service.sweep()
        (found,) = await service.list_artifacts()
        gained = found.expire_time.seconds - saved.expire_time.seconds
        assert days(kept).total_seconds() <= gained < days(kept).total_seconds() + 600
        service.tasks.living.clear()
        await advance(days(kept + 0.1))
        assert list((await service.sweep()).expired) == [saved.name]

    async def test_one_that_was_superseded_says_when(self, service: Service, task: str) -> None:
        first = await save(service, task, 1)
        for step in (2, 3):
            await save(service, task, step)
        (ended,) = await service.list_artifacts(states=[State.EXPIRED])
        assert (ended.name, ended.reason) == (first.name, "superseded")
        assert ended.create_time.ToDatetime() <= ended.expire_time.ToDatetime() <= ended.delete_time.ToDatetime()

    async def test_a_task_that_has_ended_loses_its_checkpoints_as_everything_else(
        self, service: Service, advance: Advance, task: str
    ) -> None:
        await save(service, task, 1)
        await advance(days(15.1))
        await service.sweep()
        assert await steps(service, task) == []

    async def test_the_start_of_a_live_task_is_kept_however_long_it_waits(
        self, service: Service, advance: Advance, task: str
    ) -> None:
        origin, other = [await service.store_artifact({"adapter_model.safetensors": b"x"}) for _ in range(2)]
        service.tasks.origins.add(identifier(origin))
        for _ in range(3):
            await advance(days(14.5))
            await service.sweep()
        assert await service.download_artifact(origin.name, "adapter_model.safetensors") == b"x"
        assert [artifact.name for artifact in await service.list_artifacts(states=[State.DELETED])] == [other.name]

    async def test_the_start_of_a_live_task_is_not_superseded(self, service: Service, advance: Advance, task: str) -> None:
        origin = await save(service, task, 1)
        await service.artifacts.HoldArtifact(artifact_service_pb2.HoldArtifactRequest(name=origin.name))
        service.tasks.origins.add(identifier(origin))
        for step in (2, 3, 4):
            # Longer than one hold, so that it is the sweep that keeps it.
            await advance(days(0.05))
            await service.sweep()
            await save(service, task, step)
        assert await steps(service, task) == [4, 3, 1]
        service.tasks.origins.clear()
        await advance(days(0.05))
        await service.sweep()
        await save(service, task, 5)
        assert await steps(service, task) == [5, 4]

    async def test_a_dry_run_knows_what_live_tasks_need(self, service: Service, advance: Advance, task: str) -> None:
        await save(service, task, 1)
        origin = await service.store_artifact({"adapter_model.safetensors": b"x"})
        service.tasks.living.add(uuid.UUID(task.removeprefix("tasks/")))
        service.tasks.origins.add(identifier(origin))
        await advance(days(20))
        assert not (await service.sweep(dry_run=True)).expired
        async with refused("ARTIFACT_EXPIRED"):
            await service.download_artifact(origin.name, "adapter_model.safetensors")

    async def test_after_a_retry_from_the_start_nothing_older_is_the_best(self, service: Service, task: str) -> None:
        await save(service, task, 1, limit=1, eval_loss=0.1, attempt=1)
        await save(service, task, 2, limit=1, eval_loss=0.5, attempt=2)
        await save(service, task, 3, limit=1, eval_loss=0.6, attempt=2)
        assert await steps(service, task) == [3, 1]
        await save(service, task, 1, limit=1, eval_loss=0.7, attempt=3, first_attempt=3)
        await save(service, task, 2, limit=1, eval_loss=0.8, attempt=3, first_attempt=3)
        assert await steps(service, task) == [2, 1], "the best of the attempts that count"
        kept = await service.list_artifacts(task=task, kind=CHECKPOINT)
        assert {artifact.manifest.attempt for artifact in kept} == {3}

    async def test_it_is_no_model_to_export(self, service: Service, task: str) -> None:
        checkpoint = await save(service, task, 1)
        async with refused("EXPORT_FORMAT_UNFIT"):
            await service.export(checkpoint.name)
