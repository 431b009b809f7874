"""How versions of registered models are told; used by `tunesmith registry`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunesmith.v1.registered_model_pb2 import ModelVersion


def format_name(version: "ModelVersion") -> str:
    """`merged`; empty when this client does not know it."""
    from tunesmith.v1.registered_model_pb2 import ModelVersion

    known = ModelVersion.Format.DESCRIPTOR.values_by_number
    return str(known[version.format].name.lower()) if version.format and version.format in known else ""
