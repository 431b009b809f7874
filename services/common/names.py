"""Resource names: `{collection}/{id}`; used by every servicer."""

import dataclasses
import re
import uuid

from services.common.errors import InvalidArgument, Violation

_BASE_MODEL_ID = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")

_REGISTERED = re.compile(
    rf"models/(?P<model>{_BASE_MODEL_ID.pattern})"
    r"(?:@(?P<selector>[a-z0-9_-]{1,63})|/versions/(?P<version>[0-9]{1,9}))?"
)
_ID_FORM = "an id of at most 64 of a-z, 0-9, '.', '_' and '-', with a letter or digit at both ends"
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,62}")


@dataclasses.dataclass(frozen=True, slots=True)
class RegisteredName:
    """A registered model and which of its versions."""

    model: str
    version: int | None = None
    alias: str = ""
    """Neither version nor alias: the newest."""

    def __str__(self) -> str:
        selector = self.alias if self.version is None else str(self.version)
        return f"models/{self.model}@{selector}" if selector else f"models/{self.model}"


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
        raise _invalid(field, f"{_quoted(name)} is not a name of the form baseModels/{{id}}, with {_ID_FORM}")
    return identifier


def registered_name(name: str, field: str = "name") -> RegisteredName:
    """`models/{id}`, `models/{id}@{alias or version}` or `models/{id}/versions/{version}`; raises InvalidArgument."""
    if not (match := _REGISTERED.fullmatch(name)):
        form = "models/{id}, models/{id}@{alias or version} or models/{id}/versions/{version}"
        raise _invalid(field, f"{_quoted(name)} is not a name of the form {form}, with {_ID_FORM}")
    selector = match["version"] or match["selector"] or ""
    if selector.isdigit():
        return RegisteredName(match["model"], version=int(selector))
    return RegisteredName(match["model"], alias=alias_name(selector, field) if selector else "")


def registered_model_id(name: str, field: str = "name") -> str:
    """The id of `models/{id}`, without a version; raises InvalidArgument naming `field`."""
    registered = registered_name(name, field)
    if registered != RegisteredName(registered.model):
        raise _invalid(field, f"{_quoted(name)} names a version; expected models/{{id}}")
    return registered.model


def alias_name(text: str, field: str) -> str:
    """The alias; raises InvalidArgument naming `field`."""
    if not _ALIAS.fullmatch(text):
        raise _invalid(field, f"{_quoted(text)} is not an alias; it starts with a letter and holds a-z, 0-9, - and _, at most 63")
    return text


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
