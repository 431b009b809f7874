"""What the repositories promise beneath the services; run against the fakes and against Postgres."""

import asyncio
import dataclasses
import datetime
import uuid
from collections.abc import Sequence

import pytest
from unit.storage.service import sha256

from services.common.errors import NotFound, ServiceError
from services.storage.artifact import ArtifactDraft, ArtifactFilter
from services.storage.base_model import BaseModelDraft
from services.storage.base_model_listing import EVERY_BASE_MODEL, Place
from services.storage.checking.budget import Budget
from services.storage.dataset import Dataset, DatasetDraft, DatasetHeader, RowIndex
from services.storage.file import File
from services.storage.position import Position
from services.storage.registration import Repositories
from services.storage.token_statistics_repository import StatisticsKey

STATISTICS = {"exampleCount": "3", "messagesByRole": {"user": "3"}, "assistantCharacterCount": str(2**40)}
TASK = uuid.UUID(int=77)


def dataset_draft(number: int = 1, *, content: bytes | None = None, rows: bytes = b"rows", **changes: object) -> DatasetDraft:
    """A draft with the keys its files will have; `changes` are of the header."""
    header = DatasetHeader(
        **{"display_name": f"dataset {number}", "sha256": "", "request_id": None, "budget": Budget()} | changes
    )
    original = sha256(content if content is not None else b"%d" % number)
    return DatasetDraft(
        id=uuid.UUID(int=number),
        header=header,
        format="PREFERENCE",
        example_count=3,
        statistics=STATISTICS,
        warnings=[{"reason": "DATASET_DUPLICATES", "lines": ["1"]}],
        dropped_rows_by_reason={"DATASET_NOT_JSON": 2},
        files=(File("ORIGINAL", 10 * number, original), File("ROWS", 7, sha256(rows))),
        index=RowIndex(100, [0, 2**40, 2**41]),
    )


async def add_dataset(repositories: Repositories, draft: DatasetDraft) -> Dataset:
    """What an upload does around the commit."""
    keys = {file.sha256: f"blobs/{draft.id}-{file.path}" for file in draft.files}
    for file in draft.files:
        await repositories.pending.add(keys[file.sha256], file.size_bytes)
    return await repositories.datasets.add(draft, keys)


async def delete_dataset(repositories: Repositories, identifier: uuid.UUID) -> Sequence[str]:
    """What a deletion does when no task needs the dataset."""
    deletion = uuid.uuid4()
    await repositories.datasets.begin_deletion(identifier, deletion)
    return await repositories.datasets.delete(identifier, deletion)


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


async def keys(repositories: Repositories, prefix: str) -> dict[str, str]:
    """Object keys of an upload that stored all contents of the drafts."""
    made = {sha256(content): f"blobs/{prefix}-{content.decode()}" for content in (b"a", b"z")}
    await repositories.pending.forget(made.values())
    for key in made.values():
        await repositories.pending.add(key, 1)
    return made


async def due(repositories: Repositories) -> list[str]:
    """Keys of the objects a sweep would remove now."""
    return [item.key for item in (await repositories.sweeps.decide([], 10, dry_run=True)).objects]


class RepositorySuite:
    """Tests take a fixture `repositories`."""

    async def test_a_dataset_keeps_everything_the_draft_said(self, repositories: Repositories) -> None:
        draft = dataset_draft(request_id=uuid.uuid4())
        dataset = await add_dataset(repositories, draft)
        assert await repositories.datasets.get(draft.id) == dataset
        for field in ("id", "format", "example_count", "statistics", "warnings", "dropped_rows_by_reason"):
            assert getattr(dataset, field) == getattr(draft, field)
        assert (dataset.display_name, dataset.version, dataset.dropped_row_count) == ("dataset 1", 1, 2)
        assert [(file.path, file.size_bytes, file.sha256) for file in dataset.files] == [
            (file.path, file.size_bytes, file.sha256) for file in draft.files
        ]
        assert dataset.create_time.tzinfo is not None

    async def test_a_dataset_is_due_once_its_time_has_come(self, repositories: Repositories) -> None:
        kept = await add_dataset(repositories, dataset_draft(1))
        later = await add_dataset(repositories, dataset_draft(2, lifetime=datetime.timedelta(hours=1)))
        for number in (3, 4):
            await add_dataset(repositories, dataset_draft(number, lifetime=datetime.timedelta()))
        assert kept.expire_time is None
        assert datetime.timedelta(minutes=59) < later.expire_time - later.create_time < datetime.timedelta(minutes=61)
        assert await repositories.datasets.expired(10) == [uuid.UUID(int=3), uuid.UUID(int=4)]
        assert await repositories.datasets.expired(1) == [uuid.UUID(int=3)]
        assert (await repositories.datasets.get(uuid.UUID(int=3))).expire_time is not None

    @pytest.mark.parametrize(("hours", "kept_hours"), [([1, 5], 5), ([5, 1], 5), ([1, None], None), ([None, 1], None)], ids=str)
    async def test_one_content_is_kept_as_long_as_anybody_asked(
        self, repositories: Repositories, hours: list[int | None], kept_hours: int | None
    ) -> None:
        for number, each in enumerate(hours, start=1):
            lifetime = datetime.timedelta(hours=each) if each else None
            draft = dataset_draft(number, content=b"x", display_name="one", lifetime=lifetime)
            dataset = await add_dataset(repositories, draft)
        assert dataset == await repositories.datasets.get(uuid.UUID(int=1))
        if kept_hours is None:
            assert dataset.expire_time is None
        else:
            assert round((dataset.expire_time - dataset.create_time).total_seconds() / 3600) == kept_hours

    async def test_a_repeated_request_returns_the_first_row(self, repositories: Repositories) -> None:
        first = await add_dataset(repositories, dataset_draft(1, request_id=TASK, content=b"x"))
        again = dataset_draft(2, request_id=TASK, content=b"x", display_name="renamed")
        assert await add_dataset(repositories, again) == first
        with pytest.raises(NotFound):
            await repositories.datasets.get(again.id)

    async def test_a_request_with_other_bytes_is_refused_and_adds_nothing(self, repositories: Repositories) -> None:
        await add_dataset(repositories, dataset_draft(1, request_id=TASK))
        with pytest.raises(ServiceError) as caught:
            await add_dataset(repositories, dataset_draft(2, request_id=TASK))
        assert caught.value.reason == "REQUEST_ID_REUSED"
        assert len(await repositories.datasets.page(10, None)) == 1

    async def test_racing_requests_agree_on_one_row(self, repositories: Repositories) -> None:
        drafts = [dataset_draft(n, request_id=TASK, content=b"same") for n in range(1, 9)]
        rows = await asyncio.gather(*(add_dataset(repositories, draft) for draft in drafts))
        assert len({row.id for row in rows}) == 1
        assert len(await repositories.datasets.page(10, None)) == 1

    async def test_pages_stay_in_place_while_new_datasets_come(self, repositories: Repositories) -> None:
        for number in range(1, 5):
            await add_dataset(repositories, dataset_draft(number))
        first = await repositories.datasets.page(2, None)
        await add_dataset(repositories, dataset_draft(9))
        last = first[-1]
        second = await repositories.datasets.page(2, Position(last.create_time, last.id))
        assert [row.id.int for row in [*first, *second]] == [4, 3, 2, 1]

    async def test_a_page_goes_on_after_its_last_item_was_deleted(self, repositories: Repositories) -> None:
        for number in range(1, 4):
            await add_dataset(repositories, dataset_draft(number))
        (newest,) = await repositories.datasets.page(1, None)
        await delete_dataset(repositories, newest.id)
        rest = await repositories.datasets.page(5, Position(newest.create_time, newest.id))
        assert [row.id.int for row in rest] == [2, 1]

    async def test_a_dataset_is_deleted_once_and_its_own_bytes_are_condemned(self, repositories: Repositories) -> None:
        kept = await add_dataset(repositories, dataset_draft(1))
        dropped = await add_dataset(repositories, dataset_draft(2))
        assert await delete_dataset(repositories, dropped.id) == [dropped.original.object_key]
        assert await due(repositories) == [dropped.original.object_key]
        with pytest.raises(NotFound):
            await delete_dataset(repositories, dropped.id)
        assert await repositories.datasets.get(kept.id) == kept

    async def test_only_the_deletion_that_hid_a_dataset_may_end_it(self, repositories: Repositories) -> None:
        dataset = await add_dataset(repositories, dataset_draft())
        mine, other = uuid.uuid4(), uuid.uuid4()
        await repositories.datasets.begin_deletion(dataset.id, mine)
        for call in (
            repositories.datasets.get(dataset.id),
            repositories.datasets.begin_deletion(dataset.id, other),
            repositories.datasets.delete(dataset.id, other),
        ):
            with pytest.raises(NotFound):
                await call
        await repositories.datasets.end_deletion(dataset.id, other)
        assert await repositories.datasets.page(10, None) == []
        await repositories.datasets.end_deletion(dataset.id, mine)
        assert await repositories.datasets.get(dataset.id) == dataset

    @pytest.mark.parametrize(
        ("row", "nearest"),
        [(1, (1, 0)), (100, (1, 0)), (101, (101, 2**40)), (200, (101, 2**40)), (201, (201, 2**41)), (9999, (201, 2**41))],
    )
    async def test_the_index_knows_the_nearest_row(self, repositories: Repositories, row: int, nearest: tuple[int, int]) -> None:
        dataset = await add_dataset(repositories, dataset_draft())
        assert await repositories.datasets.nearest_row(dataset.rows.sha256, row) == nearest
        assert await repositories.datasets.nearest_row("0" * 64, row) == (1, 0)

    async def test_an_object_that_is_being_removed_is_never_referred_to(self, repositories: Repositories) -> None:
        dataset = await add_dataset(repositories, dataset_draft(1))
        await delete_dataset(repositories, dataset.id)
        keys = {file.sha256: file.object_key for file in dataset.files}
        with pytest.raises(ServiceError) as caught:
            await repositories.datasets.add(dataset_draft(2, content=b"1"), keys)
        assert caught.value.reason == "UPLOAD_EXPIRED"
        assert await repositories.datasets.page(10, None) == []
        assert await repositories.blobs.known(keys) == {}

    async def test_counts_are_kept_as_long_as_the_rows(self, repositories: Repositories) -> None:
        dataset = await add_dataset(repositories, dataset_draft())
        key = StatisticsKey(dataset.rows.sha256, "revision", 512, "renderer")
        assert await repositories.token_statistics.find(key) is None
        await repositories.token_statistics.add(key, {"tokenCount": "1"})
        await repositories.token_statistics.add(key, {"tokenCount": "1"})
        assert await repositories.token_statistics.find(key) == {"tokenCount": "1"}
        for other in ({"base_model_revision": "2"}, {"max_seq_length": 513}, {"renderer": "newer"}):
            assert await repositories.token_statistics.find(dataclasses.replace(key, **other)) is None
        await delete_dataset(repositories, dataset.id)
        await repositories.token_statistics.add(key, {"tokenCount": "1"})
        assert await repositories.token_statistics.find(key) is None

    async def test_an_artifact_keeps_its_files_in_order_with_their_keys(self, repositories: Repositories) -> None:
        draft = artifact_draft()
        artifact = await repositories.artifacts.add(draft, await keys(repositories, "one"))
        assert await repositories.artifacts.get(draft.id) == artifact
        assert [(file.path, file.object_key) for file in artifact.files] == [
            ("z", "blobs/one-z"),
            ("a", "blobs/one-a"),
            ("copy of z", "blobs/one-z"),
        ]
        assert (artifact.manifest, artifact.size_bytes, artifact.kind, artifact.task) == (draft.manifest, 3, "ADAPTER", TASK)

    async def test_of_two_objects_with_one_content_the_first_counts(self, repositories: Repositories) -> None:
        await repositories.artifacts.add(artifact_draft(1), await keys(repositories, "first"))
        second = await repositories.artifacts.add(artifact_draft(2), await keys(repositories, "second"))
        model = await repositories.models.add(model_draft(), await keys(repositories, "third"))
        assert {file.object_key for file in (*second.files, *model.files)} == {"blobs/first-z", "blobs/first-a"}
        assert await repositories.blobs.known([sha256(b"z"), sha256(b"?")]) == {sha256(b"z"): "blobs/first-z"}

    async def test_racing_uploads_of_one_content_agree_on_one_object(self, repositories: Repositories) -> None:
        drafts = [artifact_draft(n, task=uuid.UUID(int=n)) for n in range(1, 7)]
        sets = [await keys(repositories, str(n)) for n in range(6)]
        rows = await asyncio.gather(*map(repositories.artifacts.add, drafts, sets))
        assert len({tuple(file.object_key for file in row.files) for row in rows}) == 1

    async def test_a_result_is_found_by_its_request(self, repositories: Repositories) -> None:
        assert await repositories.artifacts.find(TASK, 1, "result 1") is None
        artifact = await repositories.artifacts.add(artifact_draft(1), await keys(repositories, "one"))
        assert await repositories.artifacts.find(TASK, 1, "result 1") == artifact
        assert await repositories.artifacts.find(TASK, 5, "result 1") == artifact
        assert await repositories.artifacts.find(uuid.UUID(int=78), 1, "result 1") is None

    async def test_a_repeated_result_adds_nothing(self, repositories: Repositories) -> None:
        first = await repositories.artifacts.add(artifact_draft(1), await keys(repositories, "one"))
        assert (
            await repositories.artifacts.add(artifact_draft(2, request_id="result 1"), await keys(repositories, "two")) == first
        )
        with pytest.raises(NotFound):
            await repositories.artifacts.get(uuid.UUID(int=2))

    async def test_the_fence_rises_and_never_sinks(self, repositories: Repositories) -> None:
        await repositories.artifacts.add(artifact_draft(1, epoch=3), await keys(repositories, "one"))
        await repositories.artifacts.add(artifact_draft(2, epoch=5), await keys(repositories, "two"))
        for epoch in (1, 3, 4):
            for call in (
                repositories.artifacts.add(artifact_draft(3, epoch=epoch), await keys(repositories, "three")),
                repositories.artifacts.find(TASK, epoch, "result 1"),
            ):
                with pytest.raises(ServiceError) as caught:
                    await call
                assert caught.value.reason == "STALE_EPOCH"
        await repositories.artifacts.add(artifact_draft(4, epoch=5), await keys(repositories, "four"))
        assert len(await repositories.artifacts.page(10, None, ArtifactFilter(TASK))) == 3

    async def test_the_fence_of_one_task_does_not_bind_another(self, repositories: Repositories) -> None:
        await repositories.artifacts.add(artifact_draft(1, epoch=9), await keys(repositories, "one"))
        other = await repositories.artifacts.add(artifact_draft(2, task=uuid.UUID(int=78)), await keys(repositories, "two"))
        assert await repositories.artifacts.page(10, None, ArtifactFilter(uuid.UUID(int=78))) == [other]

    async def test_of_racing_epochs_none_commits_below_the_highest_committed(self, repositories: Repositories) -> None:
        async def add(epoch: int) -> int:
            try:
                made = await keys(repositories, str(epoch))
                return (await repositories.artifacts.add(artifact_draft(epoch, epoch=epoch), made)).id.int
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
        model = await repositories.models.add(draft, await keys(repositories, "one"))
        assert await repositories.models.get("tiny") == await repositories.models.find(draft) == model
        for field in ("id", "display_name", "family", "parameter_count", "context_length", "license", "size_bytes", "revision"):
            assert getattr(model, field) == getattr(draft, field)

    async def test_other_files_under_a_taken_id_are_refused(self, repositories: Repositories) -> None:
        await repositories.models.add(model_draft(), await keys(repositories, "one"))
        other = model_draft(files=(File("a", 1, sha256(b"a")),))
        for call in (repositories.models.find(other), repositories.models.add(other, await keys(repositories, "two"))):
            with pytest.raises(ServiceError) as caught:
                await call
            assert caught.value.reason == "BASE_MODEL_EXISTS"

    async def test_base_models_are_sorted_by_the_bytes_of_their_ids(self, repositories: Repositories) -> None:
        for identifier in ("b", "a_b", "a-b", "a", "a.b", "ab"):
            await repositories.models.add(model_draft(identifier), await keys(repositories, "one"))
        pages = [(10, None), (2, Place(0, "a.b"))]
        whole, rest = [await repositories.models.page(*page, EVERY_BASE_MODEL) for page in pages]
        assert [model.id for model in whole] == ["a", "a-b", "a.b", "a_b", "ab", "b"]
        assert [model.id for model in rest] == ["a_b", "ab"]
