"""Evals, and evaluation tasks as their runs, in OpenAI's form; used by evals and eval_runs."""

import json
from typing import Any

from services.gateway import identifiers, job_labels
from services.gateway.eval_criteria import Criteria
from services.gateway.job_labels import metadata_of
from tunesmith.v1.eval_pb2 import Eval
from tunesmith.v1.evaluation_pb2 import EvaluationResult, ModelResult
from tunesmith.v1.task_pb2 import Task

Json = dict[str, Any]
EVAL_LABEL = "openai.eval"
"""The label of the task of a run that has the id of its eval."""
STATUS = {
    Task.QUEUED: "queued",
    Task.STARTING: "in_progress",
    Task.RUNNING: "in_progress",
    Task.PAUSING: "in_progress",
    Task.PAUSED: "in_progress",
    Task.CANCELLING: "in_progress",
    Task.SUCCEEDED: "completed",
    Task.FAILED: "failed",
    Task.CANCELLED: "canceled",
}
_SAMPLE_SCHEMA = {
    "type": "object",
    "properties": {
        "output_text": {"type": "string"},
        "output_json": {},
        "output_tools": {"type": "array", "items": {"type": "object"}},
    },
    "required": ["output_text"],
}


def eval_object(kept: Eval) -> Json:
    """The whole object; what was given is told as it was given."""
    return {
        "id": identifiers.eval_id(kept.name),
        "object": "eval",
        "created_at": kept.create_time.seconds,
        "name": kept.display_name,
        "data_source_config": _config(json.loads(kept.data_source_config)),
        "testing_criteria": json.loads(kept.testing_criteria),
        "metadata": dict(kept.labels),
    }


def criteria_of(kept: Eval) -> Criteria:
    """They were checked when they were kept."""
    return Criteria(json.loads(kept.testing_criteria))


def run_object(task: Task, criteria: Criteria, url: str) -> Json:
    """The whole object. `url` is that of the runs of its eval: there is no page to look at it, so it is its own address."""
    result = task.evaluation_result.models[0] if task.evaluation_result.models else ModelResult()
    return {
        "id": (run_id := identifiers.eval_run_id(task.name)),
        "object": "eval.run",
        "eval_id": task.labels[EVAL_LABEL],
        "created_at": task.create_time.seconds,
        "status": STATUS.get(task.state, "queued"),
        "name": task.display_name,
        "model": task.labels.get(job_labels.MODEL, ""),
        "data_source": json.loads(task.spec.evaluation.data_source),
        "result_counts": _counts(task.evaluation_result, result),
        "per_testing_criteria_results": _by_criterion(task.evaluation_result, result, criteria),
        "per_model_usage": _usage(task, result),
        "error": _error(task),
        "report_url": f"{url}/{run_id}",
        "metadata": metadata_of(task.labels),
        "tunesmith": {"task": task.name, "state": Task.State.Name(task.state).lower(), "state_reason": task.state_reason},
    }


def is_run_of(task: Task, eval_id: str) -> bool:
    """Whether the task was asked for as a run of this eval."""
    return task.spec.HasField("evaluation") and dict(task.labels).get(EVAL_LABEL) == eval_id


def _config(given: Json) -> Json:
    """Custom ones are asked for by the schema of an item and told by that of a row."""
    properties = {"item": given["item_schema"]}
    if given.get("include_sample_schema"):
        properties["sample"] = _SAMPLE_SCHEMA
    return {"type": given["type"], "schema": {"type": "object", "properties": properties, "required": list(properties)}}


def _counts(found: EvaluationResult, result: ModelResult) -> Json:
    """All 0 until the end, which alone tells."""
    failed = found.row_count - result.passed_count - result.errored_count
    counts = {"passed": result.passed_count, "failed": failed, "errored": result.errored_count}
    return {"total": found.row_count, **counts}


def _by_criterion(found: EvaluationResult, result: ModelResult, criteria: Criteria) -> list[Json]:
    rates = {score.name: score.pass_rate for score in result.scores}
    told = []
    for grader, name in zip(criteria.scales(), criteria.names, strict=True):
        if grader in rates:
            passed = round(rates[grader] * found.row_count)
            told.append({"testing_criteria": name, "passed": passed, "failed": found.row_count - passed})
    return told


def _usage(task: Task, result: ModelResult) -> list[Json]:
    """Of the model that is evaluated; tokens of models that grade are not counted."""
    if not result.model or task.spec.evaluation.answers_in_rows:
        return []
    read, written = result.prompt_token_count, result.completion_token_count
    tokens = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, "cached_tokens": 0}
    return [{"model_name": task.labels[job_labels.MODEL], "invocation_count": result.answered_count, **tokens}]


def _error(task: Task) -> Json | None:
    if not task.HasField("error"):
        return None
    return {"code": task.error.reason.lower(), "message": f"{task.error.message} {task.error.hint}".strip()}
