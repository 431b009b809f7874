"""What the list of base models promises; run against the fakes and against Postgres and S3."""

from typing import Any

import pytest
from unit.storage.service import Service, model_files, refused, tensors

from tunesmith.v1.model_service_pb2 import ListBaseModelsRequest

MODELS: dict[str, dict[str, Any]] = {
    "small": {"display_name": "Small One", "parameter_count": 100, "context_length": 512, "license": "MIT", "family": "llama"},
    "big": {"display_name": "Big", "parameter_count": 900, "context_length": 4096, "license": "Apache-2.0", "family": "qwen2"},
    "alike": {"display_name": "As big", "parameter_count": 900, "context_length": 512, "license": "mit", "family": "llama"},
}


async def ids(service: Service, **asked: Any) -> list[str]:
    answer = await service.models.ListBaseModels(ListBaseModelsRequest(**asked))
    return [model.name.removeprefix("baseModels/") for model in answer.base_models]


class CatalogueSuite:
    """Tests take a fixture `service`."""

    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            ({}, ["alike", "big", "small"]),
            ({"order": "PARAMETERS"}, ["small", "alike", "big"]),
            ({"order": "CONTEXT"}, ["big", "alike", "small"]),
            ({"order": "NEWEST"}, ["alike", "big", "small"]),
            ({"family": "llama"}, ["alike", "small"]),
            ({"family": "lla"}, []),
            ({"license": "MIT"}, ["alike", "small"]),
            ({"license": "apache-2.0"}, ["big"]),
            ({"text": "BIG"}, ["alike", "big"]),
            ({"text": "all o"}, ["small"]),
            ({"text": "%"}, []),
            ({"max_parameter_count": 100}, ["small"]),
            ({"max_parameter_count": 899, "family": "qwen2"}, []),
            ({"trains_conversations": True}, ["alike", "big"]),
        ],
        ids=str,
    )
    async def test_models_are_filtered_and_sorted(self, service: Service, asked: dict[str, Any], found: list[str]) -> None:
        for name, header in MODELS.items():
            template = {"chat_template.jinja": b"broken: no turn ends"} if name == "small" else {}
            await service.register_model(model_files(**template), name=f"baseModels/{name}", **header)
        assert await ids(service, **asked) == found

    @pytest.mark.parametrize("order", ["ORDER_UNSPECIFIED", "PARAMETERS", "NEWEST", "CONTEXT"])
    async def test_pages_of_every_order_hold_each_model_once(self, service: Service, order: str) -> None:
        for name, header in MODELS.items():
            await service.register_model(model_files(), name=f"baseModels/{name}", **header)
        request, seen = ListBaseModelsRequest(page_size=1, order=order), []
        while not seen or request.page_token:
            page = await service.models.ListBaseModels(request)
            seen += [model.name for model in page.base_models]
            request.page_token = page.next_page_token
        whole = await service.models.ListBaseModels(ListBaseModelsRequest(order=order))
        assert seen == [model.name for model in whole.base_models]
        assert len(seen) == len(MODELS)

    async def test_a_token_belongs_to_its_question(self, service: Service) -> None:
        for name, header in MODELS.items():
            await service.register_model(model_files(), name=f"baseModels/{name}", **header)
        page = await service.models.ListBaseModels(ListBaseModelsRequest(page_size=1, order="PARAMETERS"))
        async with refused("INVALID_PAGE_TOKEN"):
            await ids(service, page_token=page.next_page_token, order="NEWEST")

    @pytest.mark.parametrize(
        ("asked", "field"),
        [({"max_parameter_count": -1}, "max_parameter_count"), ({"order": 99}, "order"), ({"family": "x" * 129}, "family")],
        ids=str,
    )
    async def test_what_cannot_be_meant_is_refused(self, service: Service, asked: dict[str, Any], field: str) -> None:
        async with refused("INVALID_FIELD") as refusal:
            await ids(service, **asked)
        assert field in refusal.message

    async def test_the_format_of_most_weights_is_told(self, service: Service) -> None:
        header = (
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[3,2],"data_offsets":[8,20]}}'
        )
        model = await service.register_model(model_files(**{"model.safetensors": tensors(b"\0" * 20, header)}))
        assert model.dtype == "BF16"
