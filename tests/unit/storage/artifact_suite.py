"""What ArtifactService promises; run against the fakes and against Postgres and S3."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

import grpc
import pytest
from unit.storage.service import (
    Service,
    artifact_header,
    artifact_messages,
    checksums,
    declared,
    refused,
    sealed_messages,
    sha256,
)

from tunesmith.v1 import artifact_pb2, artifact_service_pb2

Upload = artifact_service_pb2.UploadArtifactRequest
FILES = {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": bytes(range(256)) * 9000, "logs/empty.txt": b""}


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    """Waits until the condition holds; fails after the deadline."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


class ArtifactSuite:
    """Tests take a fixture `service`."""

    async def test_every_file_comes_back_byte_for_byte(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES, chunk_bytes=100_000)
        for path, content in FILES.items():
            assert await service.download_artifact(artifact.name, path) == content
            assert await service.download_artifact(artifact.name, path, len(content) // 2) == content[len(content) // 2 :]

    async def test_the_answer_tells_what_was_stored_and_until_when(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        assert artifact.state == artifact_pb2.Artifact.AVAILABLE
        assert artifact.kind == artifact_pb2.Artifact.ADAPTER
        assert artifact.size_bytes == sum(map(len, FILES.values()))
        assert artifact.expire_time.seconds - artifact.create_time.seconds == 15 * 86400

    @pytest.mark.parametrize(("wanted", "kept"), [(2, 2), (40, 40), (9999, 365)])
    async def test_a_task_may_have_a_retention_of_its_own(self, service: Service, wanted: int, kept: int) -> None:
        messages = artifact_messages(FILES)
        messages[0].header.manifest.retention.FromSeconds(wanted * 86400)
        artifact = await service.artifacts.UploadArtifact(messages)
        assert artifact.expire_time.seconds - artifact.create_time.seconds == kept * 86400

    async def test_a_whole_model_is_stored_like_an_adapter(self, service: Service) -> None:
        header = artifact_header(FILES)
        header.kind = artifact_pb2.Artifact.MODEL
        artifact = await service.artifacts.UploadArtifact([Upload(header=header), *artifact_messages(FILES)[1:]])
        assert artifact.kind == artifact_pb2.Artifact.MODEL
        stored = await service.artifacts.GetArtifact(artifact_service_pb2.GetArtifactRequest(name=artifact.name))
        assert stored == artifact

    async def test_the_manifest_is_kept_whole(self, service: Service) -> None:
        header = artifact_header(FILES)
        header.manifest.versions["torch"] = "2.13.0"
        header.manifest.metrics["loss"] = float("inf")
        header.manifest.effective_hyperparameters.learning_rate = 1e-4
        messages = [Upload(header=header), *artifact_messages(FILES)[1:]]
        header.manifest.files[0].blake3 = "ab" * 32
        artifact = await service.artifacts.UploadArtifact(messages)
        for file, content in zip(header.manifest.files, FILES.values(), strict=True):
            file.blake3 = checksums(content)["blake3"]
        assert artifact.manifest == header.manifest, "what the caller says of BLAKE3 is not believed"
        stored = await service.artifacts.GetArtifact(artifact_service_pb2.GetArtifactRequest(name=artifact.name))
        assert stored == artifact

    async def test_a_repeat_returns_the_first_artifact_without_its_bytes(self, service: Service) -> None:
        task = f"tasks/{uuid.uuid4()}"
        first = await service.store_artifact(FILES, task=task)
        header_only = artifact_messages(FILES, task=task)[:1]
        assert await service.artifacts.UploadArtifact(header_only) == first
        assert await service.store_artifact(FILES, task=task, epoch=2) == first

    async def test_the_same_request_id_of_another_task_is_another_artifact(self, service: Service) -> None:
        assert (await service.store_artifact(FILES)).name != (await service.store_artifact(FILES)).name

    async def test_of_racing_repeats_one_is_stored(self, service: Service) -> None:
        task = f"tasks/{uuid.uuid4()}"
        answers = await asyncio.gather(*(service.store_artifact(FILES, task=task) for _ in range(6)))
        assert len({answer.name for answer in answers}) == 1
        assert len(await service.keys()) == len(FILES)
        assert await service.download_artifact(answers[0].name, "adapter_config.json") == FILES["adapter_config.json"]

    async def test_equal_content_is_stored_once(self, service: Service) -> None:
        await service.store_artifact({"a.bin": b"same", "b.bin": b"same"})
        second = await service.store_artifact({"c.bin": b"same", "d.bin": b"other"})
        assert len(await service.keys()) == 2
        assert await service.download_artifact(second.name, "c.bin") == b"same"

    async def test_an_older_epoch_is_refused(self, service: Service) -> None:
        task = f"tasks/{uuid.uuid4()}"
        await service.store_artifact(FILES, task=task, epoch=3)
        async with refused("STALE_EPOCH") as refusal:
            await service.store_artifact(FILES, task=task, epoch=2, request_id="other")
        assert refusal.code == grpc.StatusCode.FAILED_PRECONDITION
        assert (refusal.metadata["head_epoch"], refusal.metadata["epoch"]) == ("3", "2")

    async def test_an_attempt_overtaken_while_it_uploads_is_refused_and_leaves_nothing(self, service: Service) -> None:
        task = f"tasks/{uuid.uuid4()}"
        slow = service.artifacts.UploadArtifact()
        messages = artifact_messages({"w.bin": b"old weights", "x.bin": b"end"}, task=task, epoch=1)
        for message in messages[:-1]:
            await slow.write(message)
        await until(lambda: self.stored(service, 1))
        newer = await service.store_artifact({"w.bin": b"new weights"}, task=task, epoch=2)
        await slow.write(messages[-1])
        await slow.done_writing()
        async with refused("STALE_EPOCH"):
            await slow
        assert [artifact.name for artifact in await self.listed(service)] == [newer.name]
        assert len(await service.keys()) == 1

    async def test_a_client_that_goes_away_leaves_neither_row_nor_bytes(self, service: Service) -> None:
        call = service.artifacts.UploadArtifact()
        for message in artifact_messages({"a.bin": b"whole", "b.bin": b"never whole"})[:-1]:
            await call.write(message)
        await until(lambda: self.stored(service, 1))
        call.cancel()
        await until(lambda: self.stored(service, 0))
        assert await self.listed(service) == []

    @pytest.mark.parametrize("sent", [b"twelve byte", b"twelve bytes!", b"Twelve bytes"])
    async def test_a_file_that_differs_from_its_declaration_is_refused(self, service: Service, sent: bytes) -> None:
        good = {"first.bin": b"fine"}
        header = artifact_header({}, declared=declared(good | {"w.bin": b"twelve bytes"}))
        messages = [Upload(header=header), *artifact_messages(good | {"w.bin": sent})[1:]]
        async with refused("CHECKSUM_MISMATCH") as refusal:
            await service.artifacts.UploadArtifact(messages)
        assert refusal.message.startswith("w.bin ")
        assert refusal.code == grpc.StatusCode.DATA_LOSS
        assert await service.keys() == set()

    @pytest.mark.parametrize("seal", ["sha256", "blake3"])
    async def test_checksums_may_follow_the_bytes_and_are_told_as_if_declared(self, service: Service, seal: str) -> None:
        task = f"tasks/{uuid.uuid4()}"
        messages = sealed_messages(FILES, chunk_bytes=100_000, seal=seal, task=task)
        artifact = await service.artifacts.UploadArtifact(messages)
        described = [artifact_pb2.File(path=path, size_bytes=len(data), **checksums(data)) for path, data in FILES.items()]
        assert artifact.manifest == artifact_header(FILES, declared=described, task=task).manifest
        stored = await service.artifacts.GetArtifact(artifact_service_pb2.GetArtifactRequest(name=artifact.name))
        assert stored == artifact
        assert await service.artifacts.UploadArtifact(sealed_messages(FILES, task=task)[:1]) == artifact, "a repeat"
        for path, content in FILES.items():
            assert await service.download_artifact(artifact.name, path) == content

    @pytest.mark.parametrize("seal", ["sha256", "blake3"])
    @pytest.mark.parametrize("size", [5, 20 * 2**20], ids=["whole", "in parts"])
    async def test_bytes_whose_checksum_follows_are_stored_once_too(self, service: Service, size: int, seal: str) -> None:
        content = bytes(range(251)) * (size // 251 + 1)
        first = await service.store_artifact({"a.bin": content})
        more = {"b.bin": content, "c.bin": b"other", "d.bin": content}
        second = await service.artifacts.UploadArtifact(sealed_messages(more, seal=seal))
        assert len(await service.keys()) == 2
        assert await self.held(service, second, "b.bin") == await self.held(service, first, "a.bin")
        assert await service.download_artifact(second.name, "d.bin") == content

    @pytest.mark.parametrize("kind", ["sha256", "blake3"])
    @pytest.mark.parametrize("size", [5, 20 * 2**20], ids=["whole", "in parts"])
    async def test_a_checksum_that_follows_and_differs_leaves_nothing(self, service: Service, size: int, kind: str) -> None:
        *messages, seal = sealed_messages({"w.bin": b"x" * size}, seal=kind)
        async with refused("CHECKSUM_MISMATCH") as refusal:
            await service.artifacts.UploadArtifact([*messages, Upload(**{kind: checksums(b"another")[kind]})])
        assert (refusal.code, refusal.metadata["path"]) == (grpc.StatusCode.DATA_LOSS, "w.bin")
        for reason, broken in (
            ("UPLOAD_MALFORMED", messages),
            ("UPLOAD_MALFORMED", [*messages, seal, seal]),
            ("CHECKSUM_MISMATCH", [*messages[:2], seal]),
        ):
            async with refused(reason):
                await service.artifacts.UploadArtifact(broken)
        assert await service.keys() == set()
        assert await self.listed(service) == []

    async def test_a_checksum_that_follows_replaces_none_that_was_declared(self, service: Service) -> None:
        messages = [*artifact_messages({"w.bin": b"declared"}), Upload(sha256=sha256(b"declared"))]
        async with refused("UPLOAD_MALFORMED"):
            await service.artifacts.UploadArtifact(messages)
        assert await service.keys() == set()

    async def test_messages_out_of_order_are_refused(self, service: Service) -> None:
        header, *rest = artifact_messages({"a.bin": b"a", "b.bin": b"b"})
        path_a, chunk_a, path_b, _ = rest
        for messages in (
            [],
            [path_a],
            [Upload()],
            [header],
            [header, header],
            [header, chunk_a],
            [header, path_b],
            [header, path_a, chunk_a, chunk_a],
            [header, path_a, chunk_a],
            [header, *rest, path_a],
            [header, path_a, chunk_a, path_a],
            [header, Upload()],
        ):
            async with refused("UPLOAD_MALFORMED"):
                await service.artifacts.UploadArtifact(messages)
        assert await service.keys() == set()

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"request_id": ""}, "header.request_id"),
            ({"request_id": "x" * 129}, "header.request_id"),
            ({"epoch": 0}, "header.epoch"),
            ({"epoch": -1}, "header.epoch"),
            ({"kind": artifact_pb2.Artifact.KIND_UNSPECIFIED}, "header.kind"),
            ({"kind": 77}, "header.kind"),
            ({"declared": []}, "header.manifest.files"),
            ({"declared": declared({"../x": b""})}, "header.manifest.files[0].path"),
            ({"declared": declared({"ok": b"", "a b": b""})}, "header.manifest.files[1].path"),
            ({"declared": [*declared({"x": b""}), *declared({"x": b""})]}, "header.manifest.files"),
            ({"declared": declared({"x": b"", "x/y": b""})}, "header.manifest.files"),
            ({"declared": [artifact_pb2.File(path="x", sha256="no")]}, "header.manifest.files[0].sha256"),
            (
                {"declared": [artifact_pb2.File(path="x", sha256=sha256(b""), size_bytes=-1)]},
                "header.manifest.files[0].size_bytes",
            ),
        ],
    )
    async def test_a_bad_header_is_refused_by_field(self, service: Service, fields: dict[str, object], field: str) -> None:
        async with refused("INVALID_FIELD") as refusal:
            await service.store_artifact(FILES, **fields)
        assert refusal.fields == [field]

    async def test_the_task_must_be_a_task(self, service: Service) -> None:
        for task in ("", "datasets/" + str(uuid.uuid4()), "tasks/7"):
            async with refused("INVALID_NAME") as refusal:
                await service.store_artifact(FILES, task=task)
            assert refusal.fields == ["header.manifest.task"]

    async def test_pages_are_newest_first_and_by_task(self, service: Service) -> None:
        mine, other = f"tasks/{uuid.uuid4()}", f"tasks/{uuid.uuid4()}"
        made = []
        for n in range(5):
            made.append((await service.store_artifact({"a": b"x"}, task=mine, request_id=str(n))).name)
            await service.store_artifact({"a": b"x"}, task=other, request_id=str(n))
        seen, token = [], ""
        for _ in range(3):
            request = artifact_service_pb2.ListArtifactsRequest(page_size=2, page_token=token, task=mine)
            page = await service.artifacts.ListArtifacts(request)
            seen += [artifact.name for artifact in page.artifacts]
            token = page.next_page_token
        assert seen == made[::-1]
        assert token == ""
        assert len(await self.listed(service)) == 10

    async def test_a_full_last_page_has_no_token(self, service: Service) -> None:
        for _ in range(2):
            await service.store_artifact({"a": b"x"})
        page = await service.artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest(page_size=2))
        assert (len(page.artifacts), page.next_page_token) == (2, "")

    async def test_a_page_token_of_another_filter_is_refused(self, service: Service) -> None:
        task = f"tasks/{uuid.uuid4()}"
        for n in range(2):
            await service.store_artifact({"a": b"x"}, task=task, request_id=str(n))
        page = await service.artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest(page_size=1, task=task))
        async with refused("INVALID_PAGE_TOKEN"):
            request = artifact_service_pb2.ListArtifactsRequest(page_size=1, page_token=page.next_page_token)
            await service.artifacts.ListArtifacts(request)

    async def test_what_does_not_exist_is_named(self, service: Service) -> None:
        async with refused("ARTIFACT_NOT_FOUND"):
            await service.download_artifact(f"artifacts/{uuid.uuid4()}", "x")
        artifact = await service.store_artifact(FILES)
        async with refused("FILE_NOT_FOUND") as refusal:
            await service.download_artifact(artifact.name, "adapter.json")
        assert "adapter_config.json" in refusal.message
        async with refused("OFFSET_OUT_OF_RANGE"):
            await service.download_artifact(artifact.name, "adapter_config.json", 99)

    async def held(self, service: Service, artifact: artifact_pb2.Artifact, path: str) -> str:
        """Key of the object that has the bytes of a file."""
        found = await service.repositories.artifacts.get(uuid.UUID(artifact.name.removeprefix("artifacts/")))
        return next(file.object_key for file in found.files if file.path == path)

    async def stored(self, service: Service, count: int) -> bool:
        return len(await service.keys()) == count

    async def listed(self, service: Service) -> list[artifact_pb2.Artifact]:
        return list((await service.artifacts.ListArtifacts(artifact_service_pb2.ListArtifactsRequest())).artifacts)
