"""docs/reference/openai.md: every field of OpenAI's requests, from the gateway's own tables and its frozen OpenAPI file."""

from collections.abc import Iterator
from typing import Any

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
    ("POST /v1/chat/completions", "CreateChatCompletion", chat_request),
    ("POST /v1/completions", "CreateCompletion", completion_request),
    ("POST /v1/fine_tuning/jobs", "CreateJob", job_request),
    ("POST /v1/responses", "CreateResponse", response_request),
    ("POST /v1/batches", "CreateBatch", batches),
    ("POST /v1/evals", "CreateEval", eval_request),
    ("POST /v1/evals/{eval_id}/runs", "CreateEvalRun", eval_run_request),
    ("POST /v1/fine_tuning/alpha/graders/run", "RunGrader", grader_request),
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
        "What the gateway reads, what it refuses, and what it ignores: every field that is in no table is ignored and named in",
        "the header `x-tunesmith-ignored` of the answer. A refusal is a 400 with the field in `param`, unless the value asks for",
        "nothing (null, false, 0, empty). `GET /openapi.json` has the same for machines.",
    ]
    for title, schema, module in _REQUESTS:
        lines += ["", f"## {title}", "", "| field | what becomes of it |", "|---|---|"]
        lines += _rows(document["components"]["schemas"][schema], module)
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


def _told(field: dict[str, Any]) -> Iterator[str]:
    """Limits and notes of a field, in words."""
    yield from (words.format(field[key]) for key, words in _LIMITS.items() if key in field)
    if field.get("deprecated"):
        yield "the old place"
    if "description" in field:
        yield field["description"].rstrip(".")
