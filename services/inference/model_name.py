"""What the field `model` of a request names; used by the resolver."""

import dataclasses
import enum
import re

from services.common.errors import InvalidArgument, Violation
from services.common.names import base_model_id, registered_name, resource_uuid

_FIELD = "model"
_FORMS = "baseModels/{id}, artifacts/{uuid}, tasks/{uuid}, tasks/{uuid}@step-N and models/{id}"
_CHECKPOINT = re.compile(r"(?P<task>tasks/[^@]*)@step-(?P<step>[1-9][0-9]{0,17})")


class Kind(enum.Enum):
    """What a model can be named by."""

    BASE_MODEL = "baseModels"
    ARTIFACT = "artifacts"
    TASK = "tasks"
    CHECKPOINT = "checkpoints"
    REGISTERED = "models"


@dataclasses.dataclass(frozen=True, slots=True)
class ModelName:
    """A checked resource name and what it is the name of."""

    kind: Kind
    name: str
    """Of a checkpoint, its task's."""
    step: int = 0
    """Of a checkpoint."""


def parse_model_name(text: str) -> ModelName:
    """`baseModels/{id}` or the bare id, `artifacts/{uuid}`, `tasks/{uuid}` with or without `@step-N`, `models/{id}` with or
    without `@alias or version`.

    Raises InvalidArgument (INVALID_NAME).
    """
    collection = text.partition("/")[0]
    if not text:
        raise _invalid(f"is required; one of {_FORMS}")
    if match := _CHECKPOINT.fullmatch(text):
        return ModelName(Kind.CHECKPOINT, f"tasks/{resource_uuid(match['task'], 'tasks', _FIELD)}", int(match["step"]))
    if collection in (Kind.ARTIFACT.value, Kind.TASK.value):
        return ModelName(Kind(collection), f"{collection}/{resource_uuid(text, collection, _FIELD)}")
    if collection == Kind.REGISTERED.value:
        return ModelName(Kind.REGISTERED, str(registered_name(text, _FIELD)))
    if "/" in text and collection != Kind.BASE_MODEL.value:
        raise _invalid(f"{text[:80]!r} is none of {_FORMS}")
    return ModelName(Kind.BASE_MODEL, f"baseModels/{base_model_id(text, _FIELD)}")


def _invalid(description: str) -> InvalidArgument:
    return InvalidArgument(Violation(_FIELD, description), reason="INVALID_NAME")
