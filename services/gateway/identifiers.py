"""Ids in OpenAI's form and our resource names: one to one, both ways, without a table."""

import dataclasses
import re
import uuid

from services.common.errors import NotFound

_HEX = "([0-9a-f]{32})"
_FILE = re.compile(rf"file-{_HEX}")
_RESULTS = re.compile(rf"file-results-{_HEX}")
_BATCH_FILE = re.compile(rf"file-(output|errors)-{_HEX}")
_BATCH = re.compile(rf"batch_{_HEX}")
_EVAL = re.compile(rf"eval_{_HEX}")
_EVAL_RUN = re.compile(rf"evalrun_{_HEX}")
_OUTPUT_ITEM = re.compile(rf"outputitem_{_HEX}_([1-9][0-9]{{0,17}})")
_JOB = re.compile(rf"ftjob-{_HEX}")
_EVENT = re.compile(rf"ftevent-{_HEX}-([1-9][0-9]{{0,17}})")
_TUNED = re.compile(
    r"(?P<result>ft:(?P<base>[^:]+):[^:]*:[^:]*:(?P<digits>[0-9a-f]{8}|[0-9a-f]{32}))(?::ckpt-step-(?P<step>[0-9]{1,12}))?"
)
_SHORT_DIGITS = 8
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9._-]+")


@dataclasses.dataclass(frozen=True, slots=True)
class TunedName:
    """A model name that begins with `ft:`, taken apart."""

    digits: str
    """The first 8 digits of the task's id, or all 32."""
    base_model: str
    """What it was tuned from, as the name says."""
    result: str
    """The name without the checkpoint."""
    step: int | None

    @property
    def task(self) -> str | None:
        """`tasks/{uuid}`; None when the name is a short one."""
        return f"tasks/{uuid.UUID(self.digits)}" if len(self.digits) > _SHORT_DIGITS else None


@dataclasses.dataclass(frozen=True, slots=True)
class TunedModel:
    """What a model name that begins with `ft:` stands for: the result of a task, or one of its checkpoints."""

    task: str
    """Format: `tasks/{uuid}`."""
    base_model: str
    """What it was tuned from, as the name says."""
    step: int | None = None

    @property
    def model(self) -> str:
        """The name inference knows it by."""
        return self.task if self.step is None else f"{self.task}@step-{self.step}"


def file_id(dataset: str) -> str:
    """`file-…` of `datasets/{uuid}`."""
    return f"file-{_hex(dataset)}"


def dataset_name(given: str) -> str:
    """`datasets/{uuid}` of a file id; raises NotFound."""
    return _resource(_FILE, given, "datasets", "DATASET_NOT_FOUND", "file")


def results_id(task: str) -> str:
    """The id of the file with the numbers of a task."""
    return f"file-results-{_hex(task)}"


def results_task(given: str) -> str | None:
    """The task whose numbers the file id means; None for a file of another kind."""
    match = _RESULTS.fullmatch(given)
    return f"tasks/{uuid.UUID(match[1])}" if match else None


def output_id(task: str) -> str:
    """The id of the file with the answers of a batch."""
    return f"file-output-{_hex(task)}"


def errors_id(task: str) -> str:
    """The id of the file with the requests of a batch that could not be answered."""
    return f"file-errors-{_hex(task)}"


def batch_file_task(given: str) -> str | None:
    """The task whose answers or errors the file id means; None for a file of another kind."""
    match = _BATCH_FILE.fullmatch(given)
    return f"tasks/{uuid.UUID(match[2])}" if match else None


def batch_id(task: str) -> str:
    """`batch_…` of `tasks/{uuid}`."""
    return f"batch_{_hex(task)}"


def batch_task_name(given: str) -> str:
    """`tasks/{uuid}` of a batch id; raises NotFound."""
    return _resource(_BATCH, given, "tasks", "TASK_NOT_FOUND", "batch")


def eval_id(name: str) -> str:
    """`eval_…` of `evals/{uuid}`."""
    return f"eval_{_hex(name)}"


def eval_name(given: str) -> str:
    """`evals/{uuid}` of an eval's id; raises NotFound."""
    return _resource(_EVAL, given, "evals", "EVAL_NOT_FOUND", "eval")


def eval_run_id(task: str) -> str:
    """`evalrun_…` of `tasks/{uuid}`."""
    return f"evalrun_{_hex(task)}"


def eval_run_task(given: str) -> str:
    """`tasks/{uuid}` of the id of a run of an eval; raises NotFound."""
    return _resource(_EVAL_RUN, given, "tasks", "EVAL_RUN_NOT_FOUND", "run of an eval")


def output_item_id(task: str, row: int) -> str:
    """Names what came of a row in a run of an eval."""
    return f"outputitem_{_hex(task)}_{row}"


def output_item_row(given: str, task: str) -> int | None:
    """The row that an id means; None when it is none of a run that is this task."""
    match = _OUTPUT_ITEM.fullmatch(given)
    return int(match[2]) if match and match[1] == _hex(task) else None


def job_id(task: str) -> str:
    """`ftjob-…` of `tasks/{uuid}`."""
    return f"ftjob-{_hex(task)}"


def task_name(given: str) -> str:
    """`tasks/{uuid}` of a job id; raises NotFound."""
    return _resource(_JOB, given, "tasks", "TASK_NOT_FOUND", "fine-tuning job")


def event_id(task: str, sequence: int) -> str:
    """Names an event of a task by its number."""
    return f"ftevent-{_hex(task)}-{sequence}"


def event_sequence(given: str, task: str) -> int | None:
    """The number of an event of `task`; None when the id is none of its events."""
    match = _EVENT.fullmatch(given)
    return int(match[2]) if match and match[1] == _hex(task) else None


def checkpoint_id(task: str, step: int) -> str:
    """Names a checkpoint of a task by its step."""
    return f"ftckpt_{_hex(task)}_{step}"


def tuned_model_id(base_model: str, organization: str, suffix: str, task: str) -> str:
    """`ft:{base}:{organization}:{suffix}:{id8}`; the first 8 digits of the task's id are looked up, the rest is for people."""
    return _tuned(base_model, organization, suffix, _hex(task)[:_SHORT_DIGITS])


def long_tuned_model_id(base_model: str, organization: str, suffix: str, task: str) -> str:
    """The same with all digits of the task's id: it means one task whatever others there are."""
    return _tuned(base_model, organization, suffix, _hex(task))


def _tuned(base_model: str, organization: str, suffix: str, digits: str) -> str:
    readable = _NOT_IN_A_NAME.sub("-", suffix.lower()).strip("-")
    return f"ft:{base_model.removeprefix('baseModels/')}:{organization}:{readable}:{digits}"


def checkpoint_model_id(tuned: str, step: int) -> str:
    """The model that a checkpoint is."""
    return f"{tuned}:ckpt-step-{step}"


def tuned_name(given: str) -> TunedName | None:
    """The parts of an id of the form `ft:…`; None for every other model. Raises NotFound for a broken one."""
    if not given.startswith("ft:"):
        return None
    if not (match := _TUNED.fullmatch(given)):
        raise NotFound("MODEL_NOT_FOUND", given[:200])
    return TunedName(match["digits"], match["base"], match["result"], int(match["step"]) if match["step"] else None)


def _hex(name: str) -> str:
    return uuid.UUID(name.rpartition("/")[2]).hex


def _resource(form: re.Pattern[str], given: str, collection: str, reason: str, noun: str) -> str:
    if not (match := form.fullmatch(given)):
        raise NotFound(reason, given[:200], message=f"there is no {noun} {given[:200]!r}")
    return f"{collection}/{uuid.UUID(match[1])}"
