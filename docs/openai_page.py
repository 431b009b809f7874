"""docs/reference/openai.md: every field of OpenAI's requests, from the gateway's own tables and its frozen OpenAPI file.

What is ignored is told by OpenAI's own package: it knows every field that a client can send.
"""

from collections.abc import Iterator
from typing import Any

from openai.types import batch_create_params, completion_create_params, eval_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.evals import run_create_params
from openai.types.fine_tuning import job_create_params
from openai.types.fine_tuning.alpha import grader_run_params
from openai.types.responses import response_create_params

from services.gateway import (
    batches,
    chat_request,
    completion_request,
    contract,
    eval_request,
    eval_run_request,
    grader_request,
    job_request,
    response_request,
)

_REQUESTS = (
    ("POST /v1/chat/completions", "CreateChatCompletion", chat_request, chat_create_params.CompletionCreateParamsBase),
    ("POST /v1/completions", "CreateCompletion", completion_request, completion_create_params.CompletionCreateParamsBase),
    ("POST /v1/fine_tuning/jobs", "CreateJob", job_request, job_create_params.JobCreateParams),
    ("POST /v1/responses", "CreateResponse", response_request, response_create_params.ResponseCreateParamsBase),
    ("POST /v1/batches", "CreateBatch", batches, batch_create_params.BatchCreateParams),
    ("POST /v1/evals", "CreateEval", eval_request, eval_create_params.EvalCreateParams),
    ("POST /v1/evals/{eval_id}/runs", "CreateEvalRun", eval_run_request, run_create_params.RunCreateParams),
    ("POST /v1/fine_tuning/alpha/graders/run", "RunGrader", grader_request, grader_run_params.GraderRunParams),
)
_LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} items",
    "default": "default {}",
}


def openai_page() -> str:
    """A section a request."""
    document = contract.document()
    lines = [
        "# Fields of OpenAI's requests",
        "",
        "What the gateway reads, what it refuses, and what it ignores. A field that is ignored is named in the header",
        "`x-tunesmith-ignored` of the answer, and so is one that is in no table. A refusal is a 400 with the field in `param`,",
        "unless the value asks for nothing (null, false, 0, empty). `GET /openapi.json` has the same for machines.",
    ]
    for title, schema, module, fields in _REQUESTS:
        lines += ["", f"## {title}", "", "| field | what becomes of it |", "|---|---|"]
        lines += _rows(document["components"]["schemas"][schema], module)
        lines += _ignored(document["components"]["schemas"][schema], module, fields)
    lines += ["", "## Paths", "", "| path | |", "|---|---|"]
    for path, item in document["paths"].items():
        lines += [f"| `{verb.upper()} {path}` | {item[verb]['summary']} |" for verb in ("get", "post", "delete") if verb in item]
    return "\n".join([*lines, ""])


def _rows(schema: dict[str, Any], module: Any) -> Iterator[str]:
    required = schema["required"]
    for name, field in schema["properties"].items():
        yield f"| `{name}` | {'; '.join(['required' if name in required else 'read', *_told(field)])} |"
    for name, reason in sorted(module.REFUSED.items()):
        yield f"| `{name}` | refused: {reason} |"


def _ignored(schema: dict[str, Any], module: Any, fields: Any) -> Iterator[str]:
    for name in sorted(set(fields.__annotations__) - set(schema["properties"]) - set(module.REFUSED)):
        yield f"| `{name}` | ignored |"


def _told(field: dict[str, Any]) -> Iterator[str]:
    """Limits and notes of a field, in words."""
    yield from (words.format(field[key]) for key, words in _LIMITS.items() if key in field)
    if field.get("deprecated"):
        yield "the old place"
    if "description" in field:
        yield field["description"].rstrip(".")
