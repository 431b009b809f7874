"""What DatasetService promises of files in pieces; run against the fakes and against Postgres and S3."""

import asyncio
import hashlib
import uuid

import pytest
from unit.storage.dataset_suite import BAD
from unit.storage.dataset_version_suite import listed
from unit.storage.service import Service, lines, refused, row

from services.storage.dataset_pieces import MAX_PIECE_BYTES
from tunesmith.v1 import dataset_pb2, dataset_service_pb2

FILE = lines(row("a"), row("b"), row("c"))
CUT = (FILE[:5], FILE[5:7], FILE[7:])


async def send(service: Service, upload: str, *pieces: bytes) -> list[str]:
    async def one(content: bytes) -> str:
        header = dataset_service_pb2.DatasetPieceHeader(upload=upload)
        chunks = [content[start : start + 2**20] for start in range(0, len(content), 2**20)]
        messages = [
            dataset_service_pb2.UploadDatasetPieceRequest(header=header),
            *(dataset_service_pb2.UploadDatasetPieceRequest(chunk=chunk) for chunk in chunks),
        ]
        piece = await service.datasets.UploadDatasetPiece(messages)
        assert piece.size_bytes == len(content)
        return str(piece.name)

    return list(await asyncio.gather(*(one(piece) for piece in pieces)))


async def join(service: Service, upload: str, pieces: list[str], size: int = len(FILE), **fields: str) -> dataset_pb2.Dataset:
    header = dataset_service_pb2.DatasetHeader(display_name="rows")
    request = dataset_service_pb2.JoinDatasetPiecesRequest(upload=upload, header=header, pieces=pieces, size_bytes=size, **fields)
    return await service.datasets.JoinDatasetPieces(request)


class PieceSuite:
    """Tests take the fixture `service`."""

    async def test_pieces_of_any_size_make_the_dataset_and_are_gone(self, service: Service) -> None:
        upload = str(uuid.uuid4())
        last, first, middle = await send(service, upload, CUT[2], CUT[0], CUT[1])
        dataset = await join(service, upload, [first, middle, last], md5=hashlib.md5(FILE).hexdigest())
        assert await service.download(dataset.name) == FILE
        assert not [key for key in await service.keys() if key.startswith("pieces/")]

    async def test_a_repeat_returns_the_dataset_again(self, service: Service) -> None:
        upload = str(uuid.uuid4())
        pieces = await send(service, upload, *CUT)
        first, second = await asyncio.gather(join(service, upload, pieces), join(service, upload, pieces))
        assert first == second == await join(service, upload, pieces)
        assert await listed(service) == [first]

    async def test_a_file_that_is_known_is_returned_again_too(self, service: Service) -> None:
        known = await service.upload(FILE)
        upload = str(uuid.uuid4())
        pieces = await send(service, upload, *CUT)
        assert [await join(service, upload, pieces) for _ in range(2)] == [known, known]

    async def test_a_bad_row_refuses_the_file_and_removes_the_pieces(self, service: Service) -> None:
        upload, content = str(uuid.uuid4()), lines(row("a"), BAD)
        pieces = await send(service, upload, content)
        async with refused("DATASET_INVALID"):
            await join(service, upload, pieces, len(content))
        assert await service.keys() == set()

    async def test_what_is_missing_or_of_another_upload_is_named(self, service: Service) -> None:
        upload = str(uuid.uuid4())
        pieces = await send(service, upload, *CUT)
        for wrong in (pieces[:2], [*pieces, pieces[0]], [f"datasetPieces/{uuid.uuid4()}"]):
            async with refused("UPLOAD_INCOMPLETE"):
                await join(service, upload, wrong)
        async with refused("UPLOAD_INCOMPLETE"):
            await join(service, str(uuid.uuid4()), pieces)
        assert (await join(service, upload, pieces)).size_bytes == len(FILE)

    async def test_another_md5_is_refused_and_the_pieces_stay(self, service: Service) -> None:
        upload = str(uuid.uuid4())
        pieces = await send(service, upload, *CUT)
        async with refused("CHECKSUM_MISMATCH"):
            await join(service, upload, pieces, md5="0" * 32)
        assert (await join(service, upload, pieces)).size_bytes == len(FILE)

    async def test_removed_pieces_are_gone_and_removing_none_is_no_error(self, service: Service) -> None:
        upload, other = str(uuid.uuid4()), str(uuid.uuid4())
        pieces, kept = await send(service, upload, *CUT), await send(service, other, FILE)
        for _ in range(2):
            await service.datasets.RemoveDatasetPieces(dataset_service_pb2.RemoveDatasetPiecesRequest(upload=upload))
        async with refused("UPLOAD_INCOMPLETE"):
            await join(service, upload, pieces)
        assert (await join(service, other, kept)).size_bytes == len(FILE)

    async def test_an_empty_or_too_big_piece_is_refused_and_leaves_nothing(self, service: Service) -> None:
        for content in (b"", b"x" * (MAX_PIECE_BYTES + 1)):
            async with refused("INVALID_FIELD"):
                await send(service, str(uuid.uuid4()), content)
        assert await service.keys() == set()

    @pytest.mark.parametrize(
        "fields",
        [{"upload": "x"}, {"pieces": []}, {"pieces": ["datasets/x"]}, {"size": 0}, {"md5": "x"}],
        ids=str,
    )
    async def test_bad_fields_are_named(self, service: Service, fields: dict) -> None:
        request = {"upload": str(uuid.uuid4()), "pieces": [f"datasetPieces/{uuid.uuid4()}"], **fields}
        async with refused("INVALID_NAME" if fields.get("pieces") else "INVALID_FIELD"):
            await join(service, **request)
