"""What the field `model` of a request names; used by the resolver."""

import dataclasses
import enum

from services.common.errors import InvalidArgument, Violation
from services.common.names import base_model_id, resource_uuid

_FIELD = "model"


class Kind(enum.Enum):
    """The collections a model can be named from."""

    BASE_MODEL = "baseModels"
    ARTIFACT = "artifacts"
    TASK = "tasks"


@dataclasses.dataclass(frozen=True, slots=True)
class ModelName:
    """A checked resource name and what it is the name of."""

    kind: Kind
    name: str


def parse_model_name(text: str) -> ModelName:
    """`baseModels/{id}` or the bare id, `artifacts/{uuid}`, `tasks/{uuid}`; raises InvalidArgument (INVALID_NAME)."""
    collection = text.partition("/")[0]
    if not text:
        raise _invalid("is required; a base model, artifacts/{uuid} or tasks/{uuid}")
    if collection in (Kind.ARTIFACT.value, Kind.TASK.value):
        return ModelName(Kind(collection), f"{collection}/{resource_uuid(text, collection, _FIELD)}")
    if "/" in text and collection != Kind.BASE_MODEL.value:
        raise _invalid(f"{text[:80]!r} is none of baseModels/{{id}}, artifacts/{{uuid}} and tasks/{{uuid}}")
    return ModelName(Kind.BASE_MODEL, f"baseModels/{base_model_id(text, _FIELD)}")


def _invalid(description: str) -> InvalidArgument:
    return InvalidArgument(Violation(_FIELD, description), reason="INVALID_NAME")
