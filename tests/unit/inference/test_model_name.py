"""What may stand in the field `model`."""

import pytest
from inference_fakes import ARTIFACT, TASK

from services.common.errors import InvalidArgument
from services.inference.model_name import Kind, ModelName, parse_model_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smollm2-135m", ModelName(Kind.BASE_MODEL, "baseModels/smollm2-135m")),
        ("baseModels/smollm2-135m", ModelName(Kind.BASE_MODEL, "baseModels/smollm2-135m")),
        (ARTIFACT, ModelName(Kind.ARTIFACT, ARTIFACT)),
        (ARTIFACT.upper().replace("ARTIFACTS", "artifacts"), ModelName(Kind.ARTIFACT, ARTIFACT)),
        (TASK, ModelName(Kind.TASK, TASK)),
        (f"{TASK}@step-40", ModelName(Kind.CHECKPOINT, TASK, 40)),
        ("models/mine", ModelName(Kind.REGISTERED, "models/mine")),
        ("models/mine@champion", ModelName(Kind.REGISTERED, "models/mine@champion")),
        ("models/mine/versions/3", ModelName(Kind.REGISTERED, "models/mine@3")),
    ],
)
def test_a_name_is_recognised_and_brought_into_its_one_form(text: str, expected: ModelName) -> None:
    assert parse_model_name(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "artifacts/",
        "artifacts/not-a-uuid",
        "tasks/1",
        "datasets/x",
        "Base Model",
        "baseModels/../etc",
        "a/b",
        "x" * 500,
        "models/",
        f"{TASK}@step-0",
        f"{TASK}@step-",
        f"{TASK}@best",
        f"{ARTIFACT}@step-4",
        "tasks/1@step-4",
        "models/a@",
        "models/a/b",
    ],
)
def test_what_is_no_name_of_a_model_is_refused_by_field_and_reason(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_model_name(text)
    assert refused.value.reason == "INVALID_NAME"
    assert [violation.field for violation in refused.value.violations] == ["model"]
    assert len(refused.value.message) < 300
