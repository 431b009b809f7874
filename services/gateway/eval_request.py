"""POST /v1/evals and /v1/evals/{eval_id} as messages; every field that is read."""

import json
from typing import Any

from services.gateway.bodies import Body, optional, required
from services.gateway.eval_criteria import Criteria
from services.gateway.failures import refused
from services.gateway.item_schema import ItemSchema
from services.gateway.job_labels import metadata_in
from tunesmith.v1.eval_pb2 import Eval
from tunesmith.v1.task_manager_service_pb2 import UpdateEvalRequest

REFUSED: dict[str, str] = {}
_READ = ("name", "data_source_config", "testing_criteria", "metadata")
_CONFIG = "data_source_config."
_UNNAMED = "Eval"


def new_eval(body: Body) -> Eval:
    """What is to be kept; raises InvalidArgument naming the parameter that cannot be answered."""
    config = required(body, "data_source_config", dict)
    _check(config)
    criteria = required(body, "testing_criteria", list)
    Criteria(criteria)
    return Eval(
        display_name=optional(body, "name", str) or _UNNAMED,
        data_source_config=_text(config),
        testing_criteria=_text(criteria),
        labels=metadata_in(body),
    )


def update_of(body: Body, name: str) -> UpdateEvalRequest:
    """What is to be changed of the eval `name`; without a path in its mask nothing is."""
    request = UpdateEvalRequest(eval=Eval(name=name))
    if (display_name := optional(body, "name", str)) is not None:
        request.eval.display_name = display_name
        request.update_mask.paths.append("display_name")
    if "metadata" in body:
        request.eval.labels.update(metadata_in(body))
        request.update_mask.paths.append("labels")
    return request


def ignored(body: Body) -> list[str]:
    """What the body has beyond what is read; it is told in a header."""
    return sorted(set(body) - {*_READ, *REFUSED})


def _check(config: Body) -> None:
    kind = required(config, "type", str, _CONFIG)
    if kind != "custom":
        why = "chats are not kept, so there is nothing to take items from; use 'custom'"
        raise refused(f"{_CONFIG}type", f"{kind[:40]!r} is not supported: {why}", reason="UNSUPPORTED_PARAMETER")
    ItemSchema(required(config, "item_schema", dict, _CONFIG))
    optional(config, "include_sample_schema", bool, _CONFIG)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
