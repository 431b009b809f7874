"""What DatasetService promises; run against the fakes and against Postgres and S3."""

import asyncio
import json
import random
import uuid

import grpc
import pytest
from unit.storage.service import Service, dataset_messages, lines, refused, row, sha256

from services.storage.object_store import CHUNK_BYTES
from tunesmith.v1 import dataset_pb2, dataset_service_pb2

Upload = dataset_service_pb2.UploadDatasetRequest
Content = dataset_service_pb2.DownloadDatasetRequest
BAD = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistent", "content": "x"}]}


class DatasetSuite:
    """Tests take a fixture `service`."""

    async def test_a_dataset_comes_back_byte_for_byte(self, service: Service) -> None:
        content = b"\xef\xbb\xbf" + lines(row("ä"), row("b")).replace(b"\n", b"\r\n") + b"\n\n"
        dataset = await service.upload(content, chunk_bytes=7)
        assert await service.download(dataset.name) == content
        assert (dataset.size_bytes, dataset.sha256) == (len(content), sha256(content))

    async def test_large_files_come_back_in_chunks_of_at_most_1_mib(self, service: Service) -> None:
        content = lines(*(row(random.Random(n).randbytes(2000).hex()) for n in range(700)))
        dataset = await service.upload(content)
        request = dataset_service_pb2.DownloadDatasetRequest(name=dataset.name)
        chunks = [response.chunk async for response in service.datasets.DownloadDataset(request)]
        assert b"".join(chunks) == content
        assert max(map(len, chunks)) <= CHUNK_BYTES

    async def test_get_returns_what_upload_returned(self, service: Service) -> None:
        dataset = await service.upload(lines(row()), display_name="ü" * 128)
        assert await service.datasets.GetDataset(dataset_service_pb2.GetDatasetRequest(name=dataset.name)) == dataset

    async def test_the_answer_says_what_the_check_found(self, service: Service) -> None:
        dataset = await service.upload(lines(row("four"), row("five"), row("four")))
        assert (dataset.statistics.example_count, dataset.statistics.duplicate_count) == (3, 1)
        assert (dataset.format, dataset.version, dataset.dropped_row_count) == (dataset_pb2.Dataset.CHAT, 1, 0)
        (warning,) = (await service.upload(lines({"text": "a"}))).warnings
        assert (warning.reason, list(warning.lines)) == ("DATASET_SMALL", [1])

    async def test_bad_rows_are_named_and_nothing_is_stored(self, service: Service) -> None:
        async with refused("DATASET_INVALID") as refusal:
            await service.upload(lines(row(), BAD, row(), BAD))
        assert refusal.message.startswith("2 of 4 rows are bad; first: line 2: messages[1].role")
        assert refusal.fields == ["line 2: messages[1].role", "line 4: messages[1].role"]
        assert refusal.code == grpc.StatusCode.INVALID_ARGUMENT
        assert await self.names(service) == []
        assert await service.keys() == set()

    async def test_a_file_that_is_wrong_as_a_whole_has_its_own_reason(self, service: Service) -> None:
        async with refused("DATASET_EMPTY") as refusal:
            await service.upload(b"\n \r\n")
        assert refusal.fields == ["file"]
        assert await service.keys() == set()

    @pytest.mark.parametrize(
        ("budget", "bad"),
        [
            ({"max_invalid_rows": 0}, 1),
            ({"max_invalid_rows": 1}, 2),
            ({"max_invalid_ratio": 0.4}, 2),
            ({"max_invalid_rows": 2, "max_invalid_ratio": 0.4}, 2),
            ({"max_invalid_rows": 1, "max_invalid_ratio": 0.9}, 2),
        ],
    )
    async def test_more_bad_rows_than_the_budget_covers_refuse_the_file(
        self, service: Service, budget: dict[str, object], bad: int
    ) -> None:
        async with refused("DATASET_INVALID") as refusal:
            await service.upload(lines(row("a"), row("b"), *[BAD] * bad), **budget)
        assert refusal.message.startswith(f"{bad} of {bad + 2} rows ")
        assert all(f"{name} {limit}" in refusal.message for name, limit in budget.items())
        assert await service.keys() == set()

    async def test_bad_rows_within_the_budget_are_left_out_and_listed(self, service: Service) -> None:
        content = lines(row("a"), BAD, row("b")) + b"nonsense\n"
        dataset = await service.upload(content, max_invalid_rows=2)
        assert dataset.dropped_row_count == 2
        assert dict(dataset.dropped_rows_by_reason) == {"DATASET_ROLE_UNKNOWN": 1, "DATASET_NOT_JSON": 1}
        assert dataset.statistics.example_count == 2
        assert await service.download(dataset.name) == content
        assert await service.download(dataset.name, content=Content.ROWS) == lines(row("a"), row("b"))
        dropped = (await service.download(dataset.name, content=Content.DROPPED)).splitlines()
        assert [int(json.loads(line)["line"]) for line in dropped] == [2, 4]
        assert json.loads(dropped[1])["row"] == "nonsense"

    async def test_rows_have_a_checksum_and_offsets_of_their_own(self, service: Service) -> None:
        rows = lines(row("a"), row("b"))
        dataset = await service.upload(rows.replace(b"\n", b"\r\n"))
        assert dataset.rows_sha256 == sha256(rows) != dataset.sha256
        assert await service.download(dataset.name, 5, content=Content.ROWS) == rows[5:]
        async with refused("OFFSET_OUT_OF_RANGE"):
            await service.download(dataset.name, len(rows) + 1, content=Content.ROWS)

    async def test_a_file_that_is_its_own_rows_is_stored_once(self, service: Service) -> None:
        dataset = await service.upload(lines(row("a")))
        assert dataset.rows_sha256 == dataset.sha256
        assert len(await service.keys()) == 1

    async def test_without_left_out_rows_their_download_is_empty(self, service: Service) -> None:
        dataset = await service.upload(lines(row("a")))
        assert await service.download(dataset.name, content=Content.DROPPED) == b""
        async with refused("OFFSET_OUT_OF_RANGE"):
            await service.download(dataset.name, 1, content=Content.DROPPED)

    async def test_a_checker_that_dies_stores_nothing(self, service: Service) -> None:
        service.checkers.broken = True
        async with refused("CHECKER_FAILED"):
            await service.upload(lines(row()))
        async with refused("CHECKER_FAILED"):
            await service.check(lines(row()))
        assert await service.keys() == set()

    async def test_many_bad_rows_are_cut_to_what_an_answer_holds(self, service: Service) -> None:
        async with refused("DATASET_INVALID") as refusal:
            await service.upload(b"{}\n" * 5000)
        assert refusal.message.startswith("5000 of 5000 rows are bad")
        assert 10 <= len(refusal.fields) <= 100

    async def test_a_check_reports_and_stores_nothing(self, service: Service) -> None:
        report = await service.check(lines(row(), BAD) + b"nonsense\n")
        assert (report.valid, report.violation_count) == (False, 2)
        assert [(v.line, v.path, v.reason) for v in report.violations] == [
            (2, "messages[1].role", "DATASET_ROLE_UNKNOWN"),
            (3, "", "DATASET_NOT_JSON"),
        ]
        assert dict(report.violations_by_reason) == {"DATASET_ROLE_UNKNOWN": 1, "DATASET_NOT_JSON": 1}
        assert report.format == dataset_pb2.Dataset.CHAT
        assert await service.keys() == set()

    async def test_a_check_of_a_good_file_is_valid_and_counts(self, service: Service) -> None:
        report = await service.check(lines(row(), row("b")))
        assert report.valid
        assert (report.statistics.example_count, report.violation_count) == (2, 0)

    async def test_a_wrong_checksum_is_refused(self, service: Service) -> None:
        async with refused("CHECKSUM_MISMATCH") as refusal:
            await service.upload(lines(row()), sha256="0" * 64)
        assert refusal.code == grpc.StatusCode.DATA_LOSS
        assert await service.keys() == set()

    async def test_a_right_checksum_is_taken(self, service: Service) -> None:
        content = lines(row())
        assert (await service.upload(content, sha256=sha256(content))).sha256 == sha256(content)

    @pytest.mark.parametrize(
        ("header", "field"),
        [
            ({"display_name": ""}, "header.display_name"),
            ({"display_name": "  "}, "header.display_name"),
            ({"display_name": "x" * 129}, "header.display_name"),
            ({"display_name": "a\0b"}, "header.display_name"),
            ({"sha256": "ABC"}, "header.sha256"),
            ({"request_id": "again"}, "header.request_id"),
            ({"max_invalid_rows": -1}, "header.max_invalid_rows"),
            ({"lifetime_seconds": 3599}, "header.lifetime_seconds"),
            ({"lifetime_seconds": 30 * 86_400 + 1}, "header.lifetime_seconds"),
            ({"max_invalid_ratio": -0.1}, "header.max_invalid_ratio"),
            ({"max_invalid_ratio": 1.0}, "header.max_invalid_ratio"),
            ({"max_invalid_ratio": float("nan")}, "header.max_invalid_ratio"),
        ],
    )
    async def test_a_bad_header_is_refused_by_field(self, service: Service, header: dict[str, object], field: str) -> None:
        async with refused("INVALID_FIELD") as refusal:
            await service.upload(lines(row()), **header)
        assert refusal.fields == [field]

    async def test_every_bad_field_of_a_header_is_named_at_once(self, service: Service) -> None:
        async with refused("INVALID_FIELD") as refusal:
            await service.upload(lines(row()), display_name="", sha256="x", request_id="y")
        assert refusal.fields == ["header.display_name", "header.sha256", "header.request_id"]

    async def test_the_header_comes_first_and_once(self, service: Service) -> None:
        header = dataset_messages(b"", display_name="rows")[0]
        for messages in ([], [Upload(chunk=b"{}")], [Upload()], [header, header], [header, Upload()]):
            async with refused("UPLOAD_MALFORMED"):
                await service.datasets.UploadDataset(messages)

    async def test_a_repeat_returns_the_first_dataset(self, service: Service) -> None:
        request_id = str(uuid.uuid4())
        first = await service.upload(lines(row()), request_id=request_id)
        assert await service.upload(lines(row()), request_id=request_id) == first
        assert len(await service.keys()) == 1

    async def test_a_request_id_names_one_file_only(self, service: Service) -> None:
        request_id = str(uuid.uuid4())
        first = await service.upload(lines(row()), request_id=request_id)
        async with refused("REQUEST_ID_REUSED") as refusal:
            await service.upload(lines(row("other")), request_id=request_id)
        assert refusal.metadata["dataset"] == first.name
        assert len(await service.keys()) == 1

    async def test_of_racing_repeats_one_is_stored(self, service: Service) -> None:
        request_id = str(uuid.uuid4())
        answers = await asyncio.gather(*(service.upload(lines(row()), request_id=request_id) for _ in range(8)))
        assert len({answer.name for answer in answers}) == 1
        assert len(await service.keys()) == 1

    async def test_pages_are_newest_first_and_complete(self, service: Service) -> None:
        made = [(await service.upload(lines(row(str(n))), display_name=f"d{n}")).name for n in range(7)]
        seen, token = [], ""
        for _ in range(4):
            page = await service.datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest(page_size=2, page_token=token))
            seen += [dataset.name for dataset in page.datasets]
            token = page.next_page_token
        assert seen == made[::-1]
        assert token == ""

    async def test_a_full_last_page_has_no_token(self, service: Service) -> None:
        for n in range(2):
            await service.upload(lines(row(str(n))))
        page = await service.datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest(page_size=2))
        assert (len(page.datasets), page.next_page_token) == (2, "")

    @pytest.mark.parametrize("token", ["x", "e30=", "WyJhIl0=", "WzEsMl0="])
    async def test_a_made_up_page_token_is_refused(self, service: Service, token: str) -> None:
        async with refused("INVALID_PAGE_TOKEN"):
            await service.datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest(page_token=token))

    async def test_a_negative_page_size_is_refused(self, service: Service) -> None:
        async with refused("INVALID_FIELD"):
            await service.datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest(page_size=-1))

    async def test_after_a_delete_the_request_id_is_free_again(self, service: Service) -> None:
        request_id = str(uuid.uuid4())
        first = await service.upload(lines(row()), request_id=request_id)
        await service.datasets.DeleteDataset(dataset_service_pb2.DeleteDatasetRequest(name=first.name))
        assert (await service.upload(lines(row()), request_id=request_id)).name != first.name

    async def test_a_download_starts_at_the_offset(self, service: Service) -> None:
        content = lines(row())
        name = (await service.upload(content)).name
        for offset in (1, 5, len(content) - 1, len(content)):
            assert await service.download(name, offset) == content[offset:]

    @pytest.mark.parametrize("beyond", [-1, 10**9])
    async def test_an_offset_outside_the_file_is_refused(self, service: Service, beyond: int) -> None:
        name = (await service.upload(lines(row()))).name
        async with refused("OFFSET_OUT_OF_RANGE") as refusal:
            await service.download(name, beyond)
        assert refusal.code == grpc.StatusCode.OUT_OF_RANGE

    async def test_unknown_and_malformed_names_are_told_apart(self, service: Service) -> None:
        async with refused("DATASET_NOT_FOUND") as refusal:
            await service.download(f"datasets/{uuid.UUID(int=1)}")
        assert refusal.metadata["resource"] == f"datasets/{uuid.UUID(int=1)}"
        for name in ("", "datasets/x", "tasks/" + str(uuid.UUID(int=1))):
            async with refused("INVALID_NAME"):
                await service.datasets.GetDataset(dataset_service_pb2.GetDatasetRequest(name=name))

    async def test_an_upload_that_is_cancelled_leaves_nothing(self, service: Service) -> None:
        call = service.datasets.UploadDataset()
        for message in dataset_messages(lines(row()), display_name="rows"):
            await call.write(message)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await self.names(service) == []
        assert await service.keys() == set()

    async def names(self, service: Service) -> list[str]:
        page = await service.datasets.ListDatasets(dataset_service_pb2.ListDatasetsRequest())
        return [dataset.name for dataset in page.datasets]
