"""Resource names: `{collection}/{id}`; used by every servicer."""

import re
import uuid

from services.common.errors import InvalidArgument, Violation

_BASE_MODEL_ID = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")


def resource_uuid(name: str, collection: str, field: str = "name") -> uuid.UUID:
    """The id of `collection/{uuid}`, or of the bare uuid; raises InvalidArgument naming `field`."""
    identifier = _identifier(name, collection, field)
    try:
        return uuid.UUID(identifier)
    except ValueError:
        raise _invalid(field, f"{_quoted(name)} is not a name of the form {collection}/{{uuid}}") from None


def base_model_id(name: str, field: str = "name") -> str:
    """The id of `baseModels/{id}`, or the bare id; raises InvalidArgument naming `field`."""
    identifier = _identifier(name, "baseModels", field)
    if not _BASE_MODEL_ID.fullmatch(identifier):
        raise _invalid(field, f"{_quoted(name)} is not a name of the form baseModels/{{id}}")
    return identifier


def _identifier(name: str, collection: str, field: str) -> str:
    if not name:
        raise _invalid(field, f"is required; format: {collection}/{{id}}")
    head, slash, tail = name.partition("/")
    if slash and head != collection:
        raise _invalid(field, f"{_quoted(name)} names another kind of resource; expected {collection}/{{id}}")
    return tail if slash else name


def _invalid(field: str, description: str) -> InvalidArgument:
    return InvalidArgument(Violation(field, description), reason="INVALID_NAME")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
