"""What the repositories promise beneath the services; run against the fakes and against Postgres."""

import asyncio
import dataclasses
import uuid

import pytest
from unit.storage.service import sha256

from services.common.errors import NotFound, ServiceError
from services.storage.artifact import ArtifactDraft, ArtifactFilter
from services.storage.base_model import BaseModelDraft
from services.storage.dataset import DatasetDraft, DatasetStatistics
from services.storage.file import File
from services.storage.position import Position
from services.storage.registration import Repositories

STATISTICS = DatasetStatistics(
    example_count=3,
    message_count=7,
    messages_by_role={"user": 3, "assistant": 4},
    assistant_character_count=2**40,
    without_system_count=3,
    duplicate_count=1,
)
TASK = uuid.UUID(int=77)


def dataset_draft(number: int = 1, **changes: object) -> DatasetDraft:
    draft = DatasetDraft(
        id=uuid.UUID(int=number),
        display_name=f"dataset {number}",
        size_bytes=10 * number,
        sha256=sha256(b"%d" % number),
        object_key=f"datasets/{uuid.UUID(int=number)}",
        statistics=STATISTICS,
        request_id=None,
    )
    return dataclasses.replace(draft, **changes)


def artifact_draft(number: int = 1, **changes: object) -> ArtifactDraft:
    draft = ArtifactDraft(
        id=uuid.UUID(int=number),
        kind="ADAPTER",
        task=TASK,
        epoch=1,
        request_id=f"result {number}",
        manifest=b"\x00\xffmanifest",
        files=(File("z", 1, sha256(b"z")), File("a", 1, sha256(b"a")), File("copy of z", 1, sha256(b"z"))),
    )
    return dataclasses.replace(draft, **changes)


def model_draft(identifier: str = "tiny", **changes: object) -> BaseModelDraft:
    files = (File("z", 1, sha256(b"z")), File("a", 1, sha256(b"a")))
    draft = BaseModelDraft(identifier, "Tiny", "llama", 27136, 512, "Apache-2.0", files)
    return dataclasses.replace(draft, **changes)


def keys(prefix: str) -> dict[str, str]:
    """Object keys of an upload that stored all contents of the drafts."""
    return {sha256(content): f"blobs/{prefix}-{content.decode()}" for content in (b"a", b"z")}


class RepositorySuite:
    """Tests take a fixture `repositories`."""

    async def test_a_dataset_keeps_everything_the_draft_said(self, repositories: Repositories) -> None:
        draft = dataset_draft(request_id=uuid.uuid4())
        dataset = await repositories.datasets.add(draft)
        assert await repositories.datasets.get(draft.id) == dataset
        for field in ("id", "display_name", "size_bytes", "sha256", "object_key", "statistics"):
            assert getattr(dataset, field) == getattr(draft, field)
        assert dataset.create_time.tzinfo is not None

    async def test_a_repeated_request_returns_the_first_row(self, repositories: Repositories) -> None:
        first = await repositories.datasets.add(dataset_draft(1, request_id=TASK))
        again = dataset_draft(2, request_id=TASK, sha256=first.sha256, display_name="renamed")
        assert await repositories.datasets.add(again) == first
        with pytest.raises(NotFound):
            await repositories.datasets.get(again.id)

    async def test_a_request_with_other_bytes_is_refused_and_adds_nothing(self, repositories: Repositories) -> None:
        await repositories.datasets.add(dataset_draft(1, request_id=TASK))
        with pytest.raises(ServiceError) as caught:
            await repositories.datasets.add(dataset_draft(2, request_id=TASK))
        assert caught.value.reason == "REQUEST_ID_REUSED"
        assert len(await repositories.datasets.page(10, None)) == 1

    async def test_racing_requests_agree_on_one_row(self, repositories: Repositories) -> None:
        content = sha256(b"same")
        drafts = [dataset_draft(n, request_id=TASK, sha256=content) for n in range(1, 9)]
        rows = await asyncio.gather(*map(repositories.datasets.add, drafts))
        assert len({row.id for row in rows}) == 1
        assert len(await repositories.datasets.page(10, None)) == 1

    async def test_pages_stay_in_place_while_new_datasets_come(self, repositories: Repositories) -> None:
        for number in range(1, 5):
            await repositories.datasets.add(dataset_draft(number))
        first = await repositories.datasets.page(2, None)
        await repositories.datasets.add(dataset_draft(9))
        last = first[-1]
        second = await repositories.datasets.page(2, Position(last.create_time, last.id))
        assert [row.id.int for row in [*first, *second]] == [4, 3, 2, 1]

    async def test_a_page_goes_on_after_its_last_item_was_deleted(self, repositories: Repositories) -> None:
        for number in range(1, 4):
            await repositories.datasets.add(dataset_draft(number))
        (newest,) = await repositories.datasets.page(1, None)
        await repositories.datasets.delete(newest.id)
        rest = await repositories.datasets.page(5, Position(newest.create_time, newest.id))
        assert [row.id.int for row in rest] == [2, 1]

    async def test_a_deleted_dataset_is_returned_once(self, repositories: Repositories) -> None:
        dataset = await repositories.datasets.add(dataset_draft())
        assert await repositories.datasets.delete(dataset.id) == dataset
        with pytest.raises(NotFound):
            await repositories.datasets.delete(dataset.id)

    async def test_an_artifact_keeps_its_files_in_order_with_their_keys(self, repositories: Repositories) -> None:
        draft = artifact_draft()
        artifact = await repositories.artifacts.add(draft, keys("one"))
        assert await repositories.artifacts.get(draft.id) == artifact
        assert [(file.path, file.object_key) for file in artifact.files] == [
            ("z", "blobs/one-z"),
            ("a", "blobs/one-a"),
            ("copy of z", "blobs/one-z"),
        ]
        assert (artifact.manifest, artifact.size_bytes, artifact.kind, artifact.task) == (draft.manifest, 3, "ADAPTER", TASK)

    async def test_of_two_objects_with_one_content_the_first_counts(self, repositories: Repositories) -> None:
        await repositories.artifacts.add(artifact_draft(1), keys("first"))
        second = await repositories.artifacts.add(artifact_draft(2), keys("second"))
        model = await repositories.models.add(model_draft(), keys("third"))
        assert {file.object_key for file in (*second.files, *model.files)} == {"blobs/first-z", "blobs/first-a"}
        assert await repositories.blobs.known([sha256(b"z"), sha256(b"?")]) == {sha256(b"z"): "blobs/first-z"}

    async def test_racing_uploads_of_one_content_agree_on_one_object(self, repositories: Repositories) -> None:
        drafts = [artifact_draft(n, task=uuid.UUID(int=n)) for n in range(1, 7)]
        rows = await asyncio.gather(*(repositories.artifacts.add(draft, keys(str(n))) for n, draft in enumerate(drafts)))
        assert len({tuple(file.object_key for file in row.files) for row in rows}) == 1

    async def test_a_result_is_found_by_its_request(self, repositories: Repositories) -> None:
        assert await repositories.artifacts.find(TASK, 1, "result 1") is None
        artifact = await repositories.artifacts.add(artifact_draft(1), keys("one"))
        assert await repositories.artifacts.find(TASK, 1, "result 1") == artifact
        assert await repositories.artifacts.find(TASK, 5, "result 1") == artifact
        assert await repositories.artifacts.find(uuid.UUID(int=78), 1, "result 1") is None

    async def test_a_repeated_result_adds_nothing(self, repositories: Repositories) -> None:
        first = await repositories.artifacts.add(artifact_draft(1), keys("one"))
        assert await repositories.artifacts.add(artifact_draft(2, request_id="result 1"), keys("two")) == first
        with pytest.raises(NotFound):
            await repositories.artifacts.get(uuid.UUID(int=2))

    async def test_the_fence_rises_and_never_sinks(self, repositories: Repositories) -> None:
        await repositories.artifacts.add(artifact_draft(1, epoch=3), keys("one"))
        await repositories.artifacts.add(artifact_draft(2, epoch=5), keys("two"))
        for epoch in (1, 3, 4):
            for call in (
                repositories.artifacts.add(artifact_draft(3, epoch=epoch), keys("three")),
                repositories.artifacts.find(TASK, epoch, "result 1"),
            ):
                with pytest.raises(ServiceError) as caught:
                    await call
                assert caught.value.reason == "STALE_EPOCH"
        await repositories.artifacts.add(artifact_draft(4, epoch=5), keys("four"))
        assert len(await repositories.artifacts.page(10, None, ArtifactFilter(TASK))) == 3

    async def test_the_fence_of_one_task_does_not_bind_another(self, repositories: Repositories) -> None:
        await repositories.artifacts.add(artifact_draft(1, epoch=9), keys("one"))
        other = await repositories.artifacts.add(artifact_draft(2, task=uuid.UUID(int=78)), keys("two"))
        assert await repositories.artifacts.page(10, None, ArtifactFilter(uuid.UUID(int=78))) == [other]

    async def test_of_racing_epochs_none_commits_below_the_highest_committed(self, repositories: Repositories) -> None:
        async def add(epoch: int) -> int:
            try:
                return (await repositories.artifacts.add(artifact_draft(epoch, epoch=epoch), keys(str(epoch)))).id.int
            except ServiceError as error:
                return 0 if error.reason == "STALE_EPOCH" else -1

        committed = await asyncio.gather(*map(add, range(1, 9)))
        assert committed[-1] == 8
        assert -1 not in committed
        in_order = [row.id.int for row in await repositories.artifacts.page(10, None, ArtifactFilter(TASK))]
        assert sorted(in_order) == [number for number in committed if number]

    async def test_a_base_model_keeps_everything_the_draft_said(self, repositories: Repositories) -> None:
        draft = model_draft()
        assert await repositories.models.find(draft) is None
        model = await repositories.models.add(draft, keys("one"))
        assert await repositories.models.get("tiny") == await repositories.models.find(draft) == model
        for field in ("id", "display_name", "family", "parameter_count", "context_length", "license", "size_bytes", "revision"):
            assert getattr(model, field) == getattr(draft, field)

    async def test_other_files_under_a_taken_id_are_refused(self, repositories: Repositories) -> None:
        await repositories.models.add(model_draft(), keys("one"))
        other = model_draft(files=(File("a", 1, sha256(b"a")),))
        for call in (repositories.models.find(other), repositories.models.add(other, keys("two"))):
            with pytest.raises(ServiceError) as caught:
                await call
            assert caught.value.reason == "BASE_MODEL_EXISTS"

    async def test_base_models_are_sorted_by_the_bytes_of_their_ids(self, repositories: Repositories) -> None:
        for identifier in ("b", "a_b", "a-b", "a", "a.b", "ab"):
            await repositories.models.add(model_draft(identifier), keys("one"))
        assert [model.id for model in await repositories.models.page(10, None)] == ["a", "a-b", "a.b", "a_b", "ab", "b"]
        assert [model.id for model in await repositories.models.page(2, "a.b")] == ["a_b", "ab"]
