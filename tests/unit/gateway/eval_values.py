"""Evals and their runs as callers write them, and runs brought to their end by the code that evaluates."""

import json
import os
import pathlib

from google.protobuf import json_format

from services.common.grading.conversion import graders_from_proto, sampling_from_proto
from services.trainer.answering.asking import Asker
from services.trainer.answering.config import EvaluationConfig
from services.trainer.answering.evaluation import evaluate
from services.trainer.answering.reports import Reports
from tests.fake_platform import NOW, FakePlatform
from tests.unit.answering.fake_models import FakeModels
from tunesmith.v1 import artifact_pb2
from tunesmith.v1.evaluation_pb2 import EvaluationResult
from tunesmith.v1.task_pb2 import Task

EVALS = "/v1/evals"
SAME = {
    "type": "string_check",
    "name": "same as known",
    "operation": "ilike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}
ALIKE = {
    "type": "text_similarity",
    "name": "alike",
    "evaluation_metric": "f1",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.answer }}",
    "pass_threshold": 0.6,
}
JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "tiny",
    "input": [{"role": "developer", "content": "Rate."}, {"role": "user", "content": "{{item.town}}: {{sample.output_text}}"}],
    "range": [0, 10],
}
LABEL = {
    "type": "label_model",
    "name": "kind",
    "model": "tiny",
    "input": [{"role": "user", "content": "Is {{sample.output_text}} where {{item.town}} is?"}],
    "labels": ["yes", "no"],
    "passing_labels": ["yes"],
}
MULTI = {
    "type": "multi",
    "name": "both",
    "graders": {"same": SAME, "alike": ALIKE},
    "calculate_output": "(same + alike) / 2",
    "pass_threshold": 0.9,
}
CONFIG = {"type": "custom", "item_schema": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}}
ITEMS = [{"item": {"town": "Paris", "answer": "France"}}, {"item": {"town": "Rome", "answer": "Italy"}}]
PROMPT = {"type": "template", "template": [{"role": "user", "content": "Where is {{item.town}}?"}]}


def an_eval(**changes) -> dict:
    return {"name": "towns", "data_source_config": CONFIG, "testing_criteria": [SAME], **changes}


def a_source(**changes) -> dict:
    source = {"type": "file_content", "content": ITEMS}
    return {"type": "completions", "source": source, "model": "tiny", "input_messages": PROMPT, **changes}


def recorded(*items: dict) -> dict:
    return {"type": "jsonl", "source": {"type": "file_content", "content": list(items)}}


async def made_eval(http, **changes) -> dict:
    answer = await http.post(EVALS, json=an_eval(**changes))
    assert answer.status_code == 201, answer.text
    return answer.json()


async def made_run(http, kept: dict, source: dict | None = None, **more) -> dict:
    answer = await http.post(f"{EVALS}/{kept['id']}/runs", json={"data_source": source or a_source(), **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def rows_of(platform: FakePlatform, place: int = -1) -> list[dict]:
    """The rows that were stored last."""
    return [json.loads(line) for line in platform.datasets.uploads[place][1].splitlines()]


async def finished(platform: FakePlatform, directory: pathlib.Path, models: FakeModels) -> Task:
    """The newest task brought to its end by the code that evaluates, with models that answer by a rule."""
    task = platform.tasks.stored[-1]
    spec = task.spec.evaluation
    (directory / "data.jsonl").write_bytes(platform.datasets.uploads[-1][1])
    config = EvaluationConfig(
        directory=directory,
        data=directory / "data.jsonl",
        sampling=sampling_from_proto(spec.sampling),
        max_rows=None,
        system_prompt="",
        models=tuple(spec.models),
        graders=graders_from_proto(spec.graders),
        measures_perplexity=spec.perplexity,
        trained_on={},
        steps={},
    )
    reading, writing = os.pipe()
    asker = Asker(models, at_once=1, clock=lambda: 1.0)
    try:
        outcome = await evaluate(config, asker, Reports(writing), lambda: 1.0)
    finally:
        os.close(reading)
        os.close(writing)
    json_format.ParseDict(json.loads(json.dumps(outcome.result)), task.evaluation_result)
    assert isinstance(task.evaluation_result, EvaluationResult)
    rows = {"rows.jsonl": (config.output / "rows.jsonl").read_bytes()}
    task.artifact = platform.artifacts.add(rows, task.name, artifact_pb2.Artifact.EVALUATION, expire_time=NOW).name
    task.state = Task.SUCCEEDED
    task.end_time.CopyFrom(NOW)
    return task
