"""Verbs that let models answer whole datasets: evaluations and generations; part of `tunesmith.Client`."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunesmith.artifacts import ArtifactVerbs
from tunesmith.checkpoints import CheckpointVerbs
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.graders import grader
from tunesmith.names import model_name, resource_name
from tunesmith.registry import RegistryVerbs
from tunesmith.v1.evaluation_pb2 import Evaluation
from tunesmith.v1.generation_pb2 import Generation
from tunesmith.v1.grader_pb2 import Grader
from tunesmith.v1.sampling_pb2 import Sampling
from tunesmith.v1.task_manager_service_pb2 import CreateTaskRequest
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import TaskSpec

BASE = "base"
"""Among models: the base model beneath the others."""


class AnswerVerbs(RegistryVerbs, CheckpointVerbs, ArtifactVerbs):
    """Measured and used at scale."""

    def evaluate(
        self,
        models: Sequence[str],
        dataset: str,
        *,
        graders: Sequence[Grader | Mapping[str, Any]] = (),
        name: str = "",
        sampling: Mapping[str, Any] | None = None,
        max_rows: int | None = None,
        spread_rows: bool = False,
        system_prompt: str = "",
        perplexity: bool = True,
        checkpoints: bool = False,
        request_id: str | None = None,
    ) -> Task:
        """Queue an evaluation; the first of `models`, named as in `chat`, is what others are compared with, and may be `base`.

        Of `max_rows` with `spread_rows` one lies in each of so many stretches of the data; else they are the first ones.
        `graders` as messages, or as OpenAI writes them; `sampling` as the fields of Sampling. `perplexity`: whether it is
        measured how probable the known answers are; `checkpoints`: whether the kept checkpoints before each result are asked,
        too. `get_task` tells the result.

        Raises:
            InvalidArgument: every bad field is a violation. NotFound: a model or the dataset does not exist.
        """
        evaluation = Evaluation(
            models=[self._base_of(models) if model == BASE else model_name(model) for model in models],
            dataset=resource_name("datasets", dataset),
            graders=[each if isinstance(each, Grader) else grader(each) for each in graders],
            sampling=Sampling(**(sampling or {})),
            max_rows=max_rows,
            spread_rows=spread_rows,
            system_prompt=system_prompt,
            perplexity=None if perplexity else False,
            checkpoints=checkpoints,
        )
        return self._ask(name or "Evaluation", TaskSpec(evaluation=evaluation), request_id)

    def generate(
        self,
        model: str,
        dataset: str,
        *,
        name: str = "",
        output_name: str = "",
        sampling: Mapping[str, Any] | None = None,
        max_rows: int | None = None,
        system_prompt: str = "",
        request_id: str | None = None,
    ) -> Task:
        """Queue a generation: the model answers every row, and the answers become a dataset called `output_name`.

        Raises as `evaluate` does.
        """
        generation = Generation(
            model=model_name(model),
            dataset=resource_name("datasets", dataset),
            sampling=Sampling(**(sampling or {})),
            max_rows=max_rows,
            output_display_name=output_name,
            system_prompt=system_prompt,
        )
        return self._ask(name or "Generation", TaskSpec(generation=generation), request_id)

    def evaluation_rows(self, name: str) -> Iterator[dict[str, Any]]:
        """Every row of an evaluation that has succeeded, in order: the question, the known answer, and each model's answer and
        scores. Of a fine-tuning: those of the evaluation that followed on it, or of the classifier that its own run has measured.

        Raises:
            FailedPrecondition: RESULT_NOT_READY.
        """
        task = self._evaluation(name)
        yield from self._result_lines(task, task.evaluation_result.rows_artifact or task.artifact, "rows.jsonl")

    def failed_rows(self, name: str) -> Iterator[dict[str, Any]]:
        """Every row that a generation could not answer, with the reason; of a cancelled one those until then.

        Raises:
            FailedPrecondition: RESULT_NOT_READY.
        """
        task = self.get_task(name)
        yield from self._result_lines(task, task.artifact or task.generation_result.partial_artifact, "failed.jsonl")

    def _evaluation(self, name: str) -> Task:
        task = self.get_task(name)
        return self.get_task(task.evaluation_task) if task.evaluation_task else task

    def _result_lines(self, task: Task, artifact: str, path: str) -> Iterator[dict[str, Any]]:
        if not artifact or (task.spec.HasField("fine_tuning") and artifact == task.artifact):
            if task.HasField("evaluation_result"):
                message = f"{task.name} has measured its classifier itself, before single answers were kept"
                raise FailedPrecondition(message, reason="RESULT_NOT_READY", hint="The verdict: tunesmith eval show.")
            message = f"{task.name} is {Task.State.Name(task.state)} and has no such result"
            raise FailedPrecondition(message, reason="RESULT_NOT_READY", hint="Wait for it: tunesmith task watch.")
        rest = b""
        # Lines are given on as they come, so it is the service that verifies.
        for chunk in self._artifact_bytes(artifact, path, 0, caller_verifies=False):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from map(json.loads, lines)

    def _base_of(self, models: Sequence[str]) -> str:
        """What the first tuned one of them was tuned from."""
        for name in [model_name(model) for model in models if model != BASE]:
            collection = name.partition("/")[0]
            if collection == "tasks":
                return self.get_task(name.partition("@")[0]).spec.fine_tuning.base_model
            if collection == "artifacts":
                return self.get_artifact(name).manifest.base_model
            if collection == "models":
                return self.get_model_version(name).manifest.base_model
        message = f"{BASE} stands for the base model beneath the others, and none of them is a tuned one"
        hint = "Name the base model itself, or add a tuned model: tasks/ID, artifacts/ID or models/NAME@ALIAS."
        raise InvalidArgument(message, reason="NAME_INVALID", hint=hint)

    def _ask(self, name: str, spec: TaskSpec, request_id: str | None) -> Task:
        request = CreateTaskRequest(task=Task(display_name=name, spec=spec), request_id=request_id or str(uuid.uuid4()))
        return self.connection("task_manager").call(self._tasks.CreateTask, request)
