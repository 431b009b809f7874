"""What came of a row of an evaluation as OpenAI's output item; used by eval_output_items."""

from collections.abc import Mapping
from typing import Any

from services.common.grading.conversion import sampling_from_proto
from services.common.grading.grade import Scale
from services.gateway import identifiers, job_labels
from services.gateway.eval_conversion import criteria_of
from tunesmith.v1.eval_pb2 import Eval
from tunesmith.v1.task_pb2 import Task

Json = dict[str, Any]
_FINISH = {"STOP": "stop", "LENGTH": "length", "TOOL_CALLS": "tool_calls"}


class ItemConversion:
    """Items of one run."""

    def __init__(self, task: Task, kept: Eval) -> None:
        self._task = task
        self._eval_id = identifiers.eval_id(kept.name)
        self._sampling = sampling_from_proto(task.spec.evaluation.sampling)
        criteria = criteria_of(kept)
        self._criteria = list(zip(criteria.scales().items(), criteria.names, criteria.kinds, strict=True))

    def item(self, told: Mapping[str, Any]) -> Json:
        """The whole object; `told` is a line of rows.jsonl."""
        answer: Mapping[str, Any] = told["answers"][0]
        results = [_result(answer, grader, scale, name, kind) for (grader, scale), name, kind in self._criteria]
        return {
            "id": identifiers.output_item_id(self._task.name, told["row"]),
            "object": "eval.run.output_item",
            "created_at": self._task.end_time.seconds,
            "run_id": identifiers.eval_run_id(self._task.name),
            "eval_id": self._eval_id,
            "status": _status(answer, results),
            "datasource_item_id": told["row"],
            "datasource_item": told["beside"]["item"],
            "results": results,
            "sample": self._sample(told, answer),
        }

    def _sample(self, told: Mapping[str, Any], answer: Mapping[str, Any]) -> Json:
        error = answer.get("error")
        return {
            "input": [] if self._task.spec.evaluation.answers_in_rows else told["messages"],
            "output": [] if error else [_turn(answer)],
            "finish_reason": "error" if error else _FINISH[answer["finish_reason"]],
            "model": self._task.labels[job_labels.MODEL],
            "usage": _usage(answer),
            "error": {"code": error["reason"].lower(), "message": error["message"]} if error else None,
            "temperature": self._sampling.temperature,
            "max_completion_tokens": self._sampling.max_tokens,
            "top_p": self._sampling.top_p,
            "seed": self._sampling.seed + told["row"],
        }


def _turn(answer: Mapping[str, Any]) -> Json:
    calls = {"tool_calls": answer["tool_calls"]} if "tool_calls" in answer else {}
    return {"role": "assistant", "content": answer["text"], **calls}


def _result(answer: Mapping[str, Any], grader: str, scale: Scale, name: str, kind: str) -> Json:
    score, problem = answer["scores"][grader], answer.get("ungraded", {}).get(grader)
    error = None if problem is None else {"error": {"code": "not_graded", "message": problem}}
    return {"name": name, "type": kind, "score": score, "passed": not error and scale.passes(score), "sample": error}


def _status(answer: Mapping[str, Any], results: list[Json]) -> str:
    if "error" in answer or answer.get("ungraded"):
        return "error"
    return "pass" if all(result["passed"] for result in results) else "fail"


def _usage(answer: Mapping[str, Any]) -> Json:
    read, written = answer.get("prompt_tokens", 0), answer.get("tokens", 0)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, "cached_tokens": 0}
