"""What the field `model` of a request names; used by the resolver."""

import dataclasses
import enum

from services.common.errors import InvalidArgument, Violation
from services.common.names import base_model_id, registered_name, resource_uuid

_FIELD = "model"


class Kind(enum.Enum):
    """The collections a model can be named from."""

    BASE_MODEL = "baseModels"
    ARTIFACT = "artifacts"
    TASK = "tasks"
    REGISTERED = "models"


@dataclasses.dataclass(frozen=True, slots=True)
class ModelName:
    """A checked resource name and what it is the name of."""

    kind: Kind
    name: str


def parse_model_name(text: str) -> ModelName:
    """`baseModels/{id}` or the bare id, `artifacts/{uuid}`, `tasks/{uuid}`, `models/{id}` with or without `@alias or version`.

    Raises InvalidArgument (INVALID_NAME).
    """
    collection = text.partition("/")[0]
    if not text:
        raise _invalid("is required; a base model, artifacts/{uuid}, tasks/{uuid} or models/{id}")
    if collection in (Kind.ARTIFACT.value, Kind.TASK.value):
        return ModelName(Kind(collection), f"{collection}/{resource_uuid(text, collection, _FIELD)}")
    if collection == Kind.REGISTERED.value:
        return ModelName(Kind.REGISTERED, str(registered_name(text, _FIELD)))
    if "/" in text and collection != Kind.BASE_MODEL.value:
        raise _invalid(f"{text[:80]!r} is none of baseModels/{{id}}, artifacts/{{uuid}}, tasks/{{uuid}} and models/{{id}}")
    return ModelName(Kind.BASE_MODEL, f"baseModels/{base_model_id(text, _FIELD)}")


def _invalid(description: str) -> InvalidArgument:
    return InvalidArgument(Violation(_FIELD, description), reason="INVALID_NAME")
