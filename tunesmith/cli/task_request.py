"""What `task create` was told, put over a task: an empty one, or one from a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import typer

from tunesmith.cli.data_argument import looks_like_file
from tunesmith.cli.data_upload import store
from tunesmith.cli.options import DEFAULT_BASE_MODEL
from tunesmith.cli.output import talk
from tunesmith.client import Client
from tunesmith.hyperparameters import merge
from tunesmith.names import enum_value, resource_name
from tunesmith.task_filter import timestamp
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, Hyperparameters, WeightedDataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options; None = not given."""

    data: Sequence[tuple[str, float | None]] = ()
    """Datasets or files with their weights."""
    model: str | None = None
    name: str | None = None
    description: str | None = None
    method: str | None = None
    tuning: str | None = None
    validation_data: str | None = None
    validation_split: float | None = None
    evaluation_data: str | None = None
    evaluation_checkpoints: bool = False
    no_evaluation: bool = False
    origin: str = ""
    """What the task starts from: a name of an artifact, of a task, of a task's checkpoint, or of a registered model."""
    samples: Sequence[str] = ()
    priority: int | None = None
    not_before: datetime | None = None
    max_attempts: int | None = None
    creator: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    runner_labels: Mapping[str, str] = field(default_factory=dict)
    numbers: Hyperparameters = field(default_factory=Hyperparameters)

    def over(self, task: Task, client: Client) -> Task:
        """The task with every option that was given; files are uploaded, last of all.

        Raises:
            InvalidArgument: METHOD_UNKNOWN, TUNING_UNKNOWN, NAME_INVALID.
        """
        self._require_sense()
        if (kind := task.spec.WhichOneof("kind")) not in (None, "fine_tuning"):
            return self._over_other(task, kind)
        spec = task.spec.fine_tuning
        if self.origin:
            spec.initial_artifact = self.origin
        if self.model or not spec.base_model:
            spec.base_model = resource_name("baseModels", self.model or self._base_model(client))
        if self.method or not spec.method:
            spec.method = enum_value(FineTuning.Method, self.method or "sft", "METHOD_UNKNOWN")
        if self.tuning or not spec.tuning:
            spec.tuning = enum_value(FineTuning.Tuning, self.tuning or "lora", "TUNING_UNKNOWN")
        merge(spec.hyperparameters, self.numbers)
        task.display_name = self._name(task)
        task.description = task.description if self.description is None else self.description
        if self.samples:
            spec.sample_prompts[:] = self.samples
        self._set_queueing(task)
        self._set_validation(spec, client)
        if self.evaluation_data:
            spec.evaluation_dataset = _dataset(client, self.evaluation_data)
        spec.evaluation_checkpoints = spec.evaluation_checkpoints or self.evaluation_checkpoints
        spec.skip_evaluation = spec.skip_evaluation or self.no_evaluation
        self._set_data(spec, client)
        return task

    def _over_other(self, task: Task, kind: str) -> Task:
        """A task of another kind from a file has what every task has; the rest belongs to fine-tuning."""
        given = (self.data, self.model, self.method, self.tuning, self.validation_data, self.origin, self.samples)
        if any(given) or self.validation_split is not None or self.numbers.ByteSize():
            raise typer.BadParameter(
                f"the file describes an {kind}: only names, priority, time, attempts and labels can be given with it"
            )
        task.display_name = self.name or task.display_name
        task.description = task.description if self.description is None else self.description
        self._set_queueing(task)
        return task

    def _base_model(self, client: Client) -> str:
        """That of what the task starts from."""
        name, _, _ = self.origin.partition("@")
        if name.startswith("tasks/"):
            return client.get_task(name).spec.fine_tuning.base_model
        if name.startswith("models/"):
            return self._beneath(client)
        return client.get_artifact(name).manifest.base_model if name else DEFAULT_BASE_MODEL

    def _beneath(self, client: Client) -> str:
        if beneath := client.get_model_version(self.origin).manifest.base_model:
            return beneath
        raise typer.BadParameter(
            f"{self.origin} is a whole model and names none; give one of the same layout", param_hint="--model"
        )

    def _require_sense(self) -> None:
        if self.validation_data and self.validation_split is not None:
            raise typer.BadParameter("give --validation-data or --validation-split", param_hint="--validation-split")
        if len(self.data) == 1 and self.data[0][1] is not None:
            raise typer.BadParameter("a weight needs a second --data", param_hint="--data")

    def _name(self, task: Task) -> str:
        if self.name is not None:
            return self.name
        return task.display_name or (Path(self.data[0][0]).stem if self.data else "")

    def _set_queueing(self, task: Task) -> None:
        task.priority = task.priority if self.priority is None else self.priority
        task.max_attempts = task.max_attempts if self.max_attempts is None else self.max_attempts
        task.creator = self.creator or task.creator
        if stamp := timestamp(self.not_before):
            task.not_before_time.CopyFrom(stamp)
        task.labels.update(self.labels)
        task.spec.runner_labels.update(self.runner_labels)

    def _set_validation(self, spec: FineTuning, client: Client) -> None:
        if self.validation_data:
            spec.ClearField("validation_split_ratio")
            spec.validation_dataset = _dataset(client, self.validation_data)
        elif self.validation_split is not None:
            spec.ClearField("validation_dataset")
            spec.validation_split_ratio = self.validation_split

    def _set_data(self, spec: FineTuning, client: Client) -> None:
        if not self.data:
            return
        spec.ClearField("dataset")
        spec.ClearField("mixture")
        if len(self.data) == 1:
            spec.dataset = _dataset(client, self.data[0][0])
        else:
            spec.mixture.extend(WeightedDataset(dataset=_dataset(client, given), weight=weight) for given, weight in self.data)


def _dataset(client: Client, given: str) -> str:
    """A dataset's name; a file is uploaded first."""
    if not looks_like_file(given):
        return resource_name("datasets", given)
    dataset = store(client, Path(given))
    talk(f"uploaded {Path(given).name} as {dataset.name}")
    return dataset.name
