"""What previews, counts and the gate promise; run against the fakes and against Postgres and S3."""

import asyncio

import grpc
import pytest
from unit.storage.artifact_suite import until
from unit.storage.service import Service, lines, model_files, refused, row

from tunesmith.v1 import dataset_pb2, dataset_service_pb2, model_service_pb2

ROWS = [row(f"answer {number}") for number in range(1, 8)]


async def preview(service: Service, name: str, **request: object) -> list[dataset_service_pb2.RowPreview]:
    request = dataset_service_pb2.PreviewDatasetRequest(name=name, **{"base_model": "tiny"} | request)
    return list((await service.datasets.PreviewDataset(request)).rows)


async def analyze(service: Service, name: str, **request: object) -> dataset_service_pb2.DatasetAnalysis:
    return await service.datasets.AnalyzeDataset(dataset_service_pb2.AnalyzeDatasetRequest(name=name, **request))


async def ready(service: Service, **header: object) -> dataset_pb2.Dataset:
    await service.register_model(model_files(), **header)
    return await service.upload(lines(*ROWS))


class DatasetTokensSuite:
    """Tests take a fixture `service`."""

    @pytest.mark.parametrize(
        ("first", "count", "numbers"), [(0, 0, [1]), (1, 3, [1, 2, 3]), (4, 2, [4, 5]), (6, 20, [6, 7]), (7, 1, [7])]
    )
    async def test_the_chosen_rows_are_shown(self, service: Service, first: int, count: int, numbers: list[int]) -> None:
        dataset = await ready(service)
        shown = await preview(service, dataset.name, row=first, row_count=count)
        assert [each.row for each in shown] == numbers
        assert [each.renderings[0].text.encode() + b"\n" for each in shown] == [lines(ROWS[number - 1]) for number in numbers]

    async def test_rows_count_without_those_left_out(self, service: Service) -> None:
        await service.register_model(model_files())
        dataset = await service.upload(b"nonsense\n" + lines(*ROWS), max_invalid_rows=1)
        (shown,) = await preview(service, dataset.name, row=5)
        assert shown.renderings[0].text.encode() + b"\n" == lines(ROWS[4])

    @pytest.mark.parametrize(
        ("context_length", "asked", "length"), [(512, 0, 512), (4096, 0, 2048), (0, 0, 2048), (512, 100, 100), (512, 512, 512)]
    )
    async def test_the_length_of_examples_has_a_default(
        self, service: Service, context_length: int, asked: int, length: int
    ) -> None:
        dataset = await ready(service, context_length=context_length)
        (shown,) = await preview(service, dataset.name, max_seq_length=asked)
        assert shown.renderings[0].trainable_token_count == length

    @pytest.mark.parametrize("asked", [-1, 513])
    async def test_a_length_the_model_cannot_attend_to_is_refused(self, service: Service, asked: int) -> None:
        dataset = await ready(service, context_length=512)
        for call in (
            preview(service, dataset.name, max_seq_length=asked),
            analyze(service, dataset.name, base_model="tiny", max_seq_length=asked),
        ):
            async with refused("INVALID_FIELD") as refusal:
                await call
            assert refusal.fields == ["max_seq_length"]

    async def test_a_row_behind_the_last_one_is_out_of_range(self, service: Service) -> None:
        dataset = await ready(service)
        async with refused("ROW_OUT_OF_RANGE") as refusal:
            await preview(service, dataset.name, row=8)
        assert refusal.code == grpc.StatusCode.OUT_OF_RANGE
        assert refusal.metadata["example_count"] == "7"

    async def test_bad_fields_of_a_preview_are_named_at_once(self, service: Service) -> None:
        dataset = await ready(service)
        async with refused("INVALID_FIELD") as refusal:
            await preview(service, dataset.name, row=-1, row_count=21)
        assert refusal.fields == ["row", "row_count"]

    async def test_who_shows_and_what_must_exist(self, service: Service) -> None:
        dataset = await ready(service)
        async with refused("BASE_MODEL_NOT_FOUND"):
            await preview(service, dataset.name, base_model="baseModels/other")
        async with refused("INVALID_NAME") as refusal:
            await preview(service, dataset.name, base_model="")
        assert refusal.fields == ["base_model"]
        async with refused("DATASET_NOT_FOUND"):
            await preview(service, "datasets/00000000-0000-0000-0000-000000000009")
        async with refused("INVALID_NAME") as refusal:
            await analyze(service, dataset.name, against="x")
        assert refusal.fields == ["against"]

    async def test_a_template_that_cannot_train_is_stored_with_its_reason(self, service: Service) -> None:
        model = await service.register_model(model_files(**{"chat_template.jinja": b"broken: no end of turn"}))
        assert model.chat_template_problem == "no end of turn"
        stored = await service.models.GetBaseModel(model_service_pb2.GetBaseModelRequest(name=model.name))
        assert stored.chat_template_problem == "no end of turn"

    async def test_conversations_are_refused_for_a_template_that_cannot_train_and_texts_are_not(self, service: Service) -> None:
        await service.register_model(model_files(**{"chat_template.jinja": b"broken: no end of turn"}))
        chat, text = await service.upload(lines(row())), await service.upload(lines({"text": "a b"}))
        for call in (preview(service, chat.name), analyze(service, chat.name, base_model="tiny")):
            async with refused("CHAT_TEMPLATE_UNUSABLE") as refusal:
                await call
            assert "no end of turn" in refusal.message
            assert refusal.code == grpc.StatusCode.FAILED_PRECONDITION
        assert len(await preview(service, text.name)) == 1
        assert (await analyze(service, text.name, base_model="tiny")).tokens.example_count == 1

    async def test_a_template_that_can_train_has_no_problem(self, service: Service) -> None:
        assert (await service.register_model(model_files(**{"chat_template.jinja": b"fine"}))).chat_template_problem == ""

    async def test_tokens_are_counted_once(self, service: Service) -> None:
        dataset = await ready(service, context_length=512)
        first = await analyze(service, dataset.name, base_model="tiny")
        assert (first.tokens.example_count, first.tokens.max_seq_length) == (7, 512)
        assert (first.tokens.base_model, first.tokens.base_model_revision != "") == ("baseModels/tiny", True)
        assert not first.HasField("overlap")
        assert await analyze(service, dataset.name, base_model="baseModels/tiny", max_seq_length=512) == first
        assert service.tokens.counted == 1
        assert (await analyze(service, dataset.name, base_model="tiny", max_seq_length=8)).tokens.max_seq_length == 8
        assert service.tokens.counted == 2

    async def test_equal_rows_and_equal_models_share_their_counts(self, service: Service) -> None:
        dataset = await ready(service)
        await service.register_model(model_files(), name="baseModels/twin")
        twin = await service.upload(lines(*ROWS).replace(b"\n", b"\r\n"), display_name="twin")
        await analyze(service, dataset.name, base_model="tiny")
        assert (await analyze(service, twin.name, base_model="twin")).tokens.base_model == "baseModels/twin"
        assert service.tokens.counted == 1

    async def test_an_equal_count_waits_for_the_first(self, service: Service) -> None:
        dataset = await ready(service)
        answers = await asyncio.gather(*(analyze(service, dataset.name, base_model="tiny") for _ in range(5)))
        assert all(answer == answers[0] for answer in answers)
        assert service.tokens.counted == 1

    async def test_a_count_goes_on_when_nobody_waits_for_it(self, service: Service) -> None:
        dataset = await ready(service)
        service.tokens.gate_open.clear()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.datasets.AnalyzeDataset(
                dataset_service_pb2.AnalyzeDatasetRequest(name=dataset.name, base_model="tiny"), timeout=0.2
            )
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        service.tokens.gate_open.set()
        assert (await analyze(service, dataset.name, base_model="tiny")).tokens.example_count == 7
        assert service.tokens.counted == 1

    async def test_only_so_many_counts_run_at_once(self, service: Service) -> None:
        dataset = await ready(service)
        service.tokens.gate_open.clear()
        calls = [asyncio.create_task(analyze(service, dataset.name, base_model="tiny", max_seq_length=n)) for n in range(1, 9)]

        async def two_run() -> bool:
            return service.tokens.running == 2

        await until(two_run)
        service.tokens.gate_open.set()
        await asyncio.gather(*calls)
        assert (service.tokens.counted, service.tokens.most_running) == (8, 2)

    async def test_shared_rows_are_found(self, service: Service) -> None:
        dataset = await service.upload(lines(*ROWS))
        other = await service.upload(lines(ROWS[4], row("new"), ROWS[1]), display_name="held out")
        analysis = await analyze(service, dataset.name, against=other.name)
        assert not analysis.HasField("tokens")
        assert (analysis.overlap.against, list(analysis.overlap.rows)) == (other.name, [2, 5])

    async def test_without_a_question_the_answer_is_empty(self, service: Service) -> None:
        dataset = await service.upload(lines(*ROWS))
        assert await analyze(service, dataset.name) == dataset_service_pb2.DatasetAnalysis()
