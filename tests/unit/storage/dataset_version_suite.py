"""What DatasetService promises of names, versions, filters and deletion; run against the fakes and against Postgres and S3."""

import asyncio
import hashlib
import uuid

import grpc
import pytest
from unit.storage.artifact_suite import until
from unit.storage.service import Service, lines, refused, row

from services.common.errors import Unavailable
from tunesmith.v1 import dataset_pb2, dataset_service_pb2

Upload = dataset_service_pb2.UploadDatasetRequest
Content = dataset_service_pb2.DownloadDatasetRequest


async def listed(service: Service, **request: object) -> list[dataset_pb2.Dataset]:
    """All datasets that pass, read in pages of two."""
    found, token = [], ""
    while True:
        page = await service.datasets.ListDatasets(
            dataset_service_pb2.ListDatasetsRequest(page_size=2, page_token=token, **request)
        )
        found += page.datasets
        token = page.next_page_token
        if not token:
            return found


class DatasetVersionSuite:
    """Tests take a fixture `service`."""

    async def test_other_content_under_a_name_is_its_next_version(self, service: Service) -> None:
        made = [await service.upload(lines(row(text)), display_name="one") for text in "abc"]
        other = await service.upload(lines(row("z")), display_name="two")
        assert [dataset.version for dataset in (*made, other)] == [1, 2, 3, 1]

    async def test_the_same_content_under_a_name_is_the_same_dataset(self, service: Service) -> None:
        first = await service.upload(lines(row("a")))
        await service.upload(lines(row("b")))
        assert await service.upload(lines(row("a")), request_id=str(uuid.uuid4())) == first
        assert len(await service.keys()) == 2

    async def test_racing_uploads_of_a_name_have_different_versions(self, service: Service) -> None:
        made = await asyncio.gather(*(service.upload(lines(row(str(n)))) for n in range(8)))
        assert sorted(dataset.version for dataset in made) == list(range(1, 9))

    async def test_racing_uploads_of_one_content_are_one_dataset(self, service: Service) -> None:
        made = await asyncio.gather(*(service.upload(lines(row("same"))) for _ in range(8)))
        assert len({dataset.name for dataset in made}) == 1
        assert len(await service.keys()) == 1

    async def test_a_version_is_never_given_twice(self, service: Service) -> None:
        for text in "ab":
            last = await service.upload(lines(row(text)))
        await service.delete(last.name)
        assert (await service.upload(lines(row("c")))).version == 3

    async def test_the_same_content_under_two_names_takes_its_space_once(self, service: Service) -> None:
        one = await service.upload(lines(row("a")), display_name="one")
        two = await service.upload(lines(row("a")), display_name="two")
        assert one.name != two.name
        assert len(await service.keys()) == 1
        await service.delete(one.name)
        assert await service.download(two.name) == lines(row("a"))
        await service.delete(two.name)
        assert await service.keys() == set()

    async def test_racing_names_with_one_content_share_it_and_deleting_them_leaves_nothing(self, service: Service) -> None:
        async def come_and_go(number: int) -> None:
            for _ in range(3):
                dataset = await service.upload(lines(row("same")), display_name=f"name {number}")
                assert await service.download(dataset.name) == lines(row("same"))
                await service.delete(dataset.name)

        await asyncio.gather(*map(come_and_go, range(5)))
        assert await service.keys() == set()

    async def test_deleting_removes_row_and_bytes(self, service: Service) -> None:
        kept = await service.upload(lines(row("a")))
        dropped = await service.upload(lines(row("b")) + b"nonsense\n", max_invalid_rows=1)
        assert len(await service.keys()) == 4
        await service.delete(dropped.name)
        assert await listed(service) == [kept]
        assert len(await service.keys()) == 1
        async with refused("DATASET_NOT_FOUND"):
            await service.delete(dropped.name)
        async with refused("DATASET_NOT_FOUND"):
            await service.download(dropped.name)

    async def test_a_dataset_tells_when_it_ends(self, service: Service) -> None:
        dataset = await service.upload(lines(row("a")), lifetime_seconds=7200)
        assert 7190 < dataset.expire_time.seconds - dataset.create_time.seconds < 7210
        assert not (await service.upload(lines(row("b")))).HasField("expire_time")

    async def test_how_long_it_is_kept_may_be_said_with_the_seal(self, service: Service) -> None:
        content = lines(row("a"))
        seal = {"sha256": hashlib.sha256(content).hexdigest()}
        header = dataset_service_pb2.DatasetHeader(display_name="late", sha256_follows=True)
        first = [Upload(header=header), Upload(chunk=content)]
        async with refused("INVALID_FIELD") as refusal:
            await service.datasets.UploadDataset([*first, Upload(**seal, late_lifetime_seconds=1)])
        assert refusal.fields == ["late_lifetime_seconds"]
        dataset = await service.datasets.UploadDataset([*first, Upload(**seal, late_lifetime_seconds=7200)])
        assert 7190 < dataset.expire_time.seconds - dataset.create_time.seconds < 7210

    async def test_a_dataset_a_live_task_needs_stays(self, service: Service) -> None:
        dataset = await service.upload(lines(row("a")))
        service.tasks.tasks[dataset.name] = [f"tasks/{n}" for n in range(7)]
        async with refused("DATASET_IN_USE") as refusal:
            await service.delete(dataset.name)
        assert refusal.code == grpc.StatusCode.FAILED_PRECONDITION
        assert refusal.message.endswith("tasks/0, tasks/1, tasks/2, tasks/3, tasks/4 and more")
        assert await listed(service) == [dataset]
        del service.tasks.tasks[dataset.name]
        await service.delete(dataset.name)
        assert await listed(service) == []

    async def test_when_nobody_can_be_asked_nothing_is_deleted(self, service: Service) -> None:
        dataset = await service.upload(lines(row("a")))
        service.tasks.error = Unavailable("TASK_MANAGER_UNAVAILABLE", "gone")
        async with refused("TASK_MANAGER_UNAVAILABLE") as refusal:
            await service.delete(dataset.name)
        assert refusal.code == grpc.StatusCode.UNAVAILABLE
        assert await service.download(dataset.name) == lines(row("a"))

    async def test_while_tasks_are_asked_nobody_finds_the_dataset(self, service: Service) -> None:
        dataset = await service.upload(lines(row("a")))
        seen = []

        async def look() -> None:
            async with refused("DATASET_NOT_FOUND"):
                await service.datasets.GetDataset(dataset_service_pb2.GetDatasetRequest(name=dataset.name))
            seen.extend(await listed(service, display_name="rows"))
            seen.append(await service.upload(lines(row("a"))))

        service.tasks.asked = look
        await service.delete(dataset.name)
        (new,) = seen
        assert (new.name != dataset.name, new.version) == (True, 2)
        assert await service.download(new.name) == lines(row("a"))

    async def test_a_deletion_that_is_cancelled_puts_the_dataset_back(self, service: Service) -> None:
        dataset = await service.upload(lines(row("a")))
        asked = asyncio.Event()

        async def hang() -> None:
            asked.set()
            await asyncio.Event().wait()

        service.tasks.asked = hang
        call = service.datasets.DeleteDataset(dataset_service_pb2.DeleteDatasetRequest(name=dataset.name))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        async def back() -> bool:
            return await listed(service) == [dataset]

        await until(back)

    async def test_filters_choose_datasets(self, service: Service) -> None:
        chat = [await service.upload(lines(row(text)), display_name="Häuser") for text in "ab"]
        text = await service.upload(lines({"text": "x"}), display_name="häuserzeilen 100%")
        other = await service.upload(lines(row("a")), display_name="other")
        assert await listed(service) == [other, text, *chat[::-1]]
        assert await listed(service, display_name="Häuser") == chat[::-1]
        assert await listed(service, display_name_contains="ÄUSER") == [text, *chat[::-1]]
        assert await listed(service, display_name_contains="0%") == [text]
        assert await listed(service, formats=[dataset_pb2.Dataset.TEXT]) == [text]
        assert await listed(service, formats=[dataset_pb2.Dataset.TEXT, dataset_pb2.Dataset.CHAT]) == [other, text, *chat[::-1]]
        assert await listed(service, display_name="other", formats=[dataset_pb2.Dataset.TEXT]) == []

    async def test_a_page_token_holds_for_its_filter_only(self, service: Service) -> None:
        for text in "abc":
            await service.upload(lines(row(text)))
        request = dataset_service_pb2.ListDatasetsRequest
        token = (await service.datasets.ListDatasets(request(page_size=1, display_name="rows"))).next_page_token
        for changed in ({}, {"display_name_contains": "rows"}, {"display_name": "rows", "formats": [dataset_pb2.Dataset.CHAT]}):
            async with refused("INVALID_PAGE_TOKEN"):
                await service.datasets.ListDatasets(request(page_size=1, page_token=token, **changed))
        assert len((await service.datasets.ListDatasets(request(page_token=token, display_name="rows"))).datasets) == 2

    @pytest.mark.parametrize(
        ("request_fields", "field"),
        [
            ({"formats": [0]}, "formats"),
            ({"formats": [99]}, "formats"),
            ({"display_name_contains": "x" * 129}, "display_name_contains"),
            ({"display_name": "a\0"}, "display_name"),
        ],
    )
    async def test_a_bad_filter_is_refused_by_field(
        self, service: Service, request_fields: dict[str, object], field: str
    ) -> None:
        async with refused("INVALID_FIELD") as refusal:
            await service.datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest(**request_fields))
        assert refusal.fields == [field]
