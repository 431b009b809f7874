"""Base models between protos and domain values; used by the model servicer."""

import dataclasses
from collections.abc import Iterator

from services.common.errors import Violation
from services.common.names import base_model_id
from services.storage.artifact_conversion import timestamp
from services.storage.base_model import BaseModel, BaseModelDraft, missing_files
from services.storage.base_model_listing import BaseModelFilter, Order
from services.storage.file import File, file_violations
from services.storage.registry_conversion import to_file
from services.storage.request_fields import refuse, text_violations
from tunesmith.v1 import base_model_pb2, model_service_pb2

_FILTER_TEXTS = ("family", "license", "text")


def to_base_model_draft(header: base_model_pb2.BaseModel) -> BaseModelDraft:
    """What an upload registers; raises InvalidArgument."""
    files = tuple(File(file.path, file.size_bytes, file.sha256) for file in header.files)
    violations = [*_text_violations(header), *file_violations(files, "header.files"), *_number_violations(header)]
    if files:
        violations += missing_files([file.path for file in files], "header.files")
    refuse(violations)
    return dataclasses.replace(_draft(header), files=files)


def to_server_draft(header: base_model_pb2.BaseModel) -> BaseModelDraft:
    """What is registered from a place of the server, whose files are not known yet; raises InvalidArgument."""
    named = base_model_pb2.BaseModel()
    named.CopyFrom(header)
    named.display_name = header.display_name or base_model_id(header.name, "header.name")
    refuse([*_text_violations(named), *_number_violations(named)])
    return _draft(named)


def to_base_model_filter(request: model_service_pb2.ListBaseModelsRequest) -> BaseModelFilter:
    """Which base models a list asks for; raises InvalidArgument."""
    orders = model_service_pb2.ListBaseModelsRequest.Order
    violations = [each for field in _FILTER_TEXTS for each in text_violations(getattr(request, field), field, required=False)]
    if request.max_parameter_count < 0:
        violations.append(Violation("max_parameter_count", f"{request.max_parameter_count} is negative; use 0 for any"))
    if request.order not in orders.values():
        violations.append(Violation("order", f"{request.order} is not an order this server knows"))
    refuse(violations)
    return BaseModelFilter(
        family=request.family,
        license=request.license,
        text=request.text,
        max_parameter_count=request.max_parameter_count,
        trains_conversations=request.trains_conversations,
        order=Order(orders.Name(request.order)),
    )


def _draft(header: base_model_pb2.BaseModel) -> BaseModelDraft:
    return BaseModelDraft(
        id=base_model_id(header.name, "header.name"),
        display_name=header.display_name,
        family=header.family,
        parameter_count=header.parameter_count,
        context_length=header.context_length,
        license=header.license,
        files=(),
    )


def _text_violations(header: base_model_pb2.BaseModel) -> Iterator[Violation]:
    yield from text_violations(header.display_name, "header.display_name")
    yield from text_violations(header.family, "header.family", required=False)
    yield from text_violations(header.license, "header.license", required=False)


def _number_violations(header: base_model_pb2.BaseModel) -> Iterator[Violation]:
    for field in ("parameter_count", "context_length"):
        if (value := getattr(header, field)) < 0:
            yield Violation(f"header.{field}", f"{value} is negative")


def to_base_model(model: BaseModel) -> base_model_pb2.BaseModel:
    """A base model as callers see it."""
    return base_model_pb2.BaseModel(
        name=model.name,
        display_name=model.display_name,
        family=model.family,
        parameter_count=model.parameter_count,
        context_length=model.context_length,
        license=model.license,
        files=map(to_file, model.files),
        size_bytes=model.size_bytes,
        revision=model.revision,
        create_time=timestamp(model.create_time),
        chat_template_problem=model.chat_template_problem,
        dtype=model.dtype,
    )
