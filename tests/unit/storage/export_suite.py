"""What exports and the registry promise; run against the fakes and against Postgres and S3."""

import asyncio
import datetime
import io
import uuid

import grpc
import pytest
from google.protobuf import timestamp_pb2
from unit.storage.retention_suite import FILES, Advance, days
from unit.storage.service import Service, artifact_header, artifact_messages, model_files, refused, sha256

from services.common.errors import Unavailable
from services.storage.object_store import ObjectStore
from tunesmith.v1 import artifact_pb2, model_service_pb2, registered_model_pb2

Format = registered_model_pb2.ModelVersion


class ExportSuite:
    """Tests take the fixtures `service`, `store` and `advance`."""

    async def test_an_export_is_the_first_version_with_files_card_and_lineage(self, service: Service) -> None:
        await service.register_model(model_files(), license="Apache-2.0")
        artifact = await service.store_artifact(FILES | {"README.md": b"peft's own"})
        version = await service.export(artifact.name, alias="champion", description="answers mail")
        assert (version.name, version.version, list(version.aliases)) == ("models/mine/versions/1", 1, ["champion"])
        assert (version.artifact, version.description) == (artifact.name, "answers mail")
        assert version.format == registered_model_pb2.ModelVersion.ADAPTER
        assert (version.manifest.task, version.manifest.base_model) == (artifact.manifest.task, "baseModels/tiny")
        for path, content in FILES.items():
            assert await service.download_model("models/mine@champion", path) == content
        card = await service.download_model("models/mine", "README.md")
        said = ("answers mail", 'base_model: "tiny"', 'license: "apache-2.0"', "| loss | 0.5 |", "## Limits")
        for fact in (*said, artifact.manifest.task):
            assert fact.encode() in card
        listed = {file.path: file.sha256 for file in version.manifest.files}
        assert listed == {path: sha256(content) for path, content in (FILES | {"README.md": card}).items()}
        assert version.size_bytes == sum(file.size_bytes for file in version.manifest.files)

    async def test_the_card_says_numbers_as_one_would_set_them(self, service: Service) -> None:
        messages = artifact_messages(FILES)
        numbers = messages[0].header.manifest.effective_hyperparameters
        numbers.learning_rate, numbers.packing, numbers.num_train_epochs = 0.0002, True, 3.0
        numbers.lora.rank, numbers.lora.use_dora = 8, False
        numbers.lora.target_modules.extend(["q_proj", "v_proj"])
        artifact = await service.artifacts.UploadArtifact(messages)
        await service.export(artifact.name)
        card = (await service.download_model("models/mine", "README.md")).decode()
        for line in ("| learning_rate | 0.0002 |", "| packing | true |", "| num_train_epochs | 3 |"):
            assert line in card
        assert "rank 8" in card
        assert "target_modules q_proj v_proj" in card

    async def test_the_card_of_a_mixture_names_every_part(self, service: Service) -> None:
        parts = [artifact_pb2.DatasetUse(dataset=f"datasets/{n}", sha256=f"{n}" * 64, weight=n) for n in (1, 2)]
        manifest = artifact_header(FILES).manifest
        manifest.ClearField("dataset_sha256")
        manifest.datasets.extend(parts)
        version = await service.export((await service.store_artifact(FILES, manifest=manifest)).name)
        card = (await service.download_model(version.name, "README.md")).decode()
        for part in parts:
            assert f"| training data {part.dataset}, SHA-256 | {part.sha256}, weight {part.weight:g} |" in card

    async def test_what_was_exported_outlives_its_artifact(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        version = await service.export(artifact.name)
        for _ in range(2):
            await advance(days(16))
            await service.sweep()
        (gone,) = await service.list_artifacts(states=[artifact_pb2.Artifact.DELETED])
        assert gone.name == artifact.name
        for path, content in FILES.items():
            assert await service.download_model(version.name, path) == content
        await service.delete_version(version.name)
        await advance(days(1))
        await service.sweep()
        assert await service.keys() == set()

    async def test_a_whole_model_is_exported_as_one_and_as_nothing_else(self, service: Service) -> None:
        model, adapter = (
            await service.store_artifact(FILES, kind=artifact_pb2.Artifact.MODEL),
            await service.store_artifact(FILES),
        )
        for name, unfit in ((model.name, Format.ADAPTER), (adapter.name, Format.MODEL)):
            async with refused("EXPORT_FORMAT_UNFIT") as refusal:
                await service.export(name, format=unfit, request_id="r")
            assert refusal.code == grpc.StatusCode.FAILED_PRECONDITION
            assert name in refusal.message
        version = await service.export(model.name, request_id="r")
        assert (version.format, version.version) == (Format.MODEL, 1)
        assert await service.export(model.name, format=Format.MODEL, request_id="r") == version
        async with refused("REQUEST_ID_REUSED"):
            await service.export(model.name, format=Format.ADAPTER, request_id="r")
        card = await service.download_model(version.name, "README.md")
        assert b'library_name: "transformers"' in card
        assert b"lora" not in card.lower()

    @pytest.mark.parametrize("kind", ["MERGED", "GGUF"])
    async def test_what_a_task_has_made_of_an_adapter_is_exported_with_its_difference(self, service: Service, kind: str) -> None:
        parent = f"artifacts/{uuid.UUID(int=5)}"
        manifest = artifact_header(FILES).manifest
        manifest.parent, manifest.metrics["export_max_logit_difference"] = parent, 0.0625
        made = await service.store_artifact(FILES, kind=artifact_pb2.Artifact.Kind.Value(kind), manifest=manifest)
        version = await service.export(made.name, format=Format.Format.Value(kind))
        assert (version.format, version.manifest.parent) == (Format.Format.Value(kind), parent)
        card = (await service.download_model(version.name, "README.md")).decode()
        form, _, measured = card.partition("## Form")[2].partition("## Metrics")
        assert f"| made from | {parent} |" in form
        assert "| max logit difference | 0.0625 |" in form
        assert "| loss | 0.5 |" in measured
        assert "logit" not in measured

    @pytest.mark.parametrize("kind", ["MERGED", "GGUF"])
    async def test_a_form_that_there_is_not_yet_is_answered_with_the_way_to_it(self, service: Service, kind: str) -> None:
        adapter = await service.store_artifact(FILES)
        async with refused("EXPORT_FORMAT_UNFIT") as refusal:
            await service.export(adapter.name, format=Format.Format.Value(kind))
        assert f"tunesmith artifact export {adapter.name} mine --format {kind.lower()}" in refusal.hint
        assert "kind export" in refusal.hint

    @pytest.mark.parametrize("kind", ["EVALUATION", "GENERATION", "CHECKPOINT"])
    async def test_what_is_no_model_is_not_exported(self, service: Service, kind: str) -> None:
        result = await service.store_artifact(FILES, kind=artifact_pb2.Artifact.Kind.Value(kind))
        async with refused("EXPORT_FORMAT_UNFIT") as refusal:
            await service.export(result.name)
        assert result.name in refusal.message

    async def test_a_deleted_version_lets_go_of_what_nothing_else_needs(self, service: Service, advance: Advance) -> None:
        content = FILES["adapter_model.safetensors"]
        artifact = await service.store_artifact(FILES)
        await service.store_artifact({"other": content})
        (first, second) = [await service.export(artifact.name, f"models/{name}") for name in ("a", "b")]
        await service.delete_version(first.name)
        assert (await service.sweep()).removed_object_count == 1  # the card
        for path, body in FILES.items():
            assert await service.download_model(second.name, path) == body
        await service.delete_version(second.name)
        for _ in range(2):
            await advance(days(16))
            await service.sweep()
        assert await service.keys() == set()

    async def test_a_repeat_returns_the_first_version(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        first = await service.export(artifact.name, request_id="r1")
        await advance(days(16))
        assert await service.export(artifact.name, request_id="r1") == first
        other = await service.store_artifact(FILES)
        async with refused("REQUEST_ID_REUSED"):
            await service.export(other.name, request_id="r1")
        assert (await service.export(other.name, "models/other", request_id="r1")).version == 1

    async def test_racing_exports_get_numbers_of_their_own_and_repeats_one(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        alone = await asyncio.gather(*(service.export(artifact.name) for _ in range(4)))
        assert sorted(version.version for version in alone) == [1, 2, 3, 4]
        same = await asyncio.gather(*(service.export(artifact.name, request_id="r") for _ in range(4)))
        assert {version.version for version in same} == {5}

    async def test_exporting_what_has_expired_is_refused_and_makes_no_model(self, service: Service, advance: Advance) -> None:
        artifact = await service.store_artifact(FILES)
        before = await service.keys()
        await advance(days(15.1))
        async with refused("ARTIFACT_EXPIRED"):
            await service.export(artifact.name)
        async with refused("ARTIFACT_NOT_FOUND"):
            await service.export(f"artifacts/{uuid.uuid4()}")
        assert await service.keys() == before
        async with refused("REGISTERED_MODEL_NOT_FOUND"):
            await service.version("models/mine")

    async def test_damaged_bytes_are_found_before_anything_counts(self, service: Service, store: ObjectStore) -> None:
        artifact = await service.store_artifact({"adapter_model.safetensors": b"weights"})
        (key,) = await service.keys()
        await store.put(key, io.BytesIO(b"weighty"), 7)
        async with refused("CHECKSUM_MISMATCH") as refusal:
            await service.export(artifact.name)
        assert refusal.code == grpc.StatusCode.DATA_LOSS
        assert "adapter_model.safetensors" in refusal.message
        assert await service.keys() == {key}

    async def test_an_export_racing_the_sweep_wins_whole_or_fails_clean(self, service: Service, advance: Advance) -> None:
        artifacts = [await service.store_artifact({"w": b"%d" % number}) for number in range(4)]
        await advance(days(15) - datetime.timedelta(milliseconds=60))
        exports = (service.export(artifact.name, f"models/m{n}") for n, artifact in enumerate(artifacts))
        outcomes = await asyncio.gather(*exports, *(service.sweep() for _ in range(2)), return_exceptions=True)
        await advance(days(4))
        await service.sweep()
        for number, outcome in enumerate(outcomes[: len(artifacts)]):
            if isinstance(outcome, registered_model_pb2.ModelVersion):
                assert await service.download_model(f"models/m{number}", "w") == b"%d" % number
            else:
                assert outcome.code() == grpc.StatusCode.NOT_FOUND
                async with refused("REGISTERED_MODEL_NOT_FOUND"):
                    await service.version(f"models/m{number}")

    async def test_an_alias_moves_at_once_and_goes(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        for _ in range(2):
            await service.export(artifact.name, alias="champion")
        assert (await service.version("models/mine@champion")).version == 2
        model = await service.set_alias("models/mine", "champion", 1)
        assert (dict(model.aliases), model.newest_version, model.version_count) == ({"champion": 1}, 2, 2)
        assert (await service.version("models/mine@champion")).name == "models/mine/versions/1"
        assert (await service.version("models/mine@2")).aliases == []
        for _ in range(2):
            assert dict((await service.set_alias("models/mine", "champion", 0)).aliases) == {}
        async with refused("MODEL_VERSION_NOT_FOUND") as refusal:
            await service.version("models/mine@champion")
        assert "models/mine@champion" in refusal.message
        async with refused("MODEL_VERSION_NOT_FOUND"):
            await service.set_alias("models/mine", "champion", 7)

    async def test_a_version_from_which_a_live_task_starts_stays(self, service: Service) -> None:
        version = await service.export((await service.store_artifact(FILES)).name)
        service.tasks.tasks[version.name] = [f"tasks/{number}" for number in range(9)]
        async with refused("MODEL_VERSION_IN_USE") as refusal:
            await service.delete_version("models/mine@1")
        assert "tasks/4 and more" in refusal.message
        assert "cancel" in refusal.hint
        service.tasks.error = Unavailable("TASK_MANAGER_UNAVAILABLE", "away")
        async with refused("TASK_MANAGER_UNAVAILABLE"):
            await service.delete_version("models/mine@1")
        service.tasks.error = None
        assert await service.version("models/mine") == version
        service.tasks.tasks.clear()
        await service.delete_version("models/mine@1")

    async def test_a_task_that_is_created_while_somebody_looks_for_tasks_is_not_missed(
        self, service: Service, advance: Advance
    ) -> None:
        version = await service.export((await service.store_artifact(FILES)).name)

        async def create() -> None:
            assert await service.hold_version("models/mine") == version

        service.tasks.asked = create
        async with refused("MODEL_VERSION_IN_USE") as refusal:
            await service.delete_version("models/mine@1")
        assert "is being created" in refusal.message
        service.tasks.asked = None
        await advance(datetime.timedelta(seconds=61))
        await service.delete_version("models/mine@1")
        async with refused("MODEL_VERSION_NOT_FOUND"):
            await service.hold_version("models/mine@1")

    async def test_a_version_that_an_alias_points_to_stays(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        await service.export(artifact.name, alias="champion")
        async with refused("MODEL_VERSION_IN_USE") as refusal:
            await service.delete_version("models/mine@1")
        assert "champion" in refusal.message
        await service.set_alias("models/mine", "champion", 0)
        await service.delete_version("models/mine@1")
        async with refused("MODEL_VERSION_NOT_FOUND"):
            await service.version("models/mine")
        # A number is not given twice: models/mine@1 never means something else.
        assert (await service.export(artifact.name)).version == 2

    async def test_models_and_versions_are_listed_in_pages(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        for name in ("b", "a", "a", "a"):
            await service.export(artifact.name, f"models/{name}")
        page = await service.models.ListModels(model_service_pb2.ListModelsRequest(page_size=1))
        rest = await service.models.ListModels(model_service_pb2.ListModelsRequest(page_token=page.next_page_token))
        assert [model.name for model in (*page.models, *rest.models)] == ["models/a", "models/b"]
        assert await service.models.GetModel(model_service_pb2.GetModelRequest(name="models/a")) == page.models[0]
        request = model_service_pb2.ListModelVersionsRequest
        first = await service.models.ListModelVersions(request(parent="models/a", page_size=2))
        last = await service.models.ListModelVersions(request(parent="models/a", page_token=first.next_page_token))
        assert [version.version for version in (*first.model_versions, *last.model_versions)] == [3, 2, 1]
        assert (rest.next_page_token, last.next_page_token) == ("", "")

    @pytest.mark.parametrize(
        ("fields", "reason", "field"),
        [
            ({"model": "mine"}, "INVALID_NAME", "model"),
            ({"model": "models/Mine"}, "INVALID_NAME", "model"),
            ({"model": "models/../x"}, "INVALID_NAME", "model"),
            ({"model": "models/mine@1"}, "INVALID_NAME", "model"),
            ({"alias": "1st"}, "INVALID_NAME", "alias"),
            ({"alias": "a b"}, "INVALID_NAME", "alias"),
            ({"format": 9}, "INVALID_FIELD", "format"),
            ({"description": "x" * 4097}, "INVALID_FIELD", "description"),
            ({"description": "a\x00b"}, "INVALID_FIELD", "description"),
            ({"request_id": "x" * 129}, "INVALID_FIELD", "request_id"),
        ],
    )
    async def test_a_bad_export_is_refused_by_field(
        self, service: Service, fields: dict[str, object], reason: str, field: str
    ) -> None:
        async with refused(reason) as refusal:
            await service.export(f"artifacts/{uuid.uuid4()}", **fields)
        assert refusal.fields == [field]

    async def test_names_that_are_none_are_refused(self, service: Service) -> None:
        for call in (
            service.version("models/mine@"),
            service.version("models/mine/versions/x"),
            service.download_model("models/mine@A", "x"),
            service.set_alias("models/mine@1", "a", 1),
            service.set_alias("models/mine", "Champion", 1),
        ):
            async with refused("INVALID_NAME"):
                await call
        for call in (service.delete_version("models/mine"), service.set_alias("models/mine", "a", -1)):
            async with refused("INVALID_FIELD"):
                await call

    async def test_an_extension_does_not_touch_versions_nor_versions_the_end(self, service: Service) -> None:
        artifact = await service.store_artifact(FILES)
        version = await service.export(artifact.name)
        until = timestamp_pb2.Timestamp(seconds=artifact.expire_time.seconds + 60)
        assert (await service.extend(artifact.name, expire_time=until)).expire_time == until
        assert await service.version(version.name) == version
