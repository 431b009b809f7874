"""The asks for evaluations and generations, and the rules about them that need nobody's answer."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Self

from services.common.errors import Violation
from services.common.grading import checks
from services.common.grading.graders import Grader, asking
from services.common.grading.sampling import Sampling
from services.common.names import base_model_id, registered_name, resource_uuid
from services.task_manager.domain.training_data import full_name
from services.task_manager.domain.validation import MAX_DISPLAY_NAME, name_violations, text_violations

EVALUATION, GENERATION = "task.spec.evaluation", "task.spec.generation"
"""Where the asks stand in a request."""
QUESTIONS = frozenset({"CHAT", "LABELED", "TEXT"})
"""Formats of datasets, by the names of Dataset.Format."""
QUESTIONS_WITH_ANSWERS = frozenset({"CHAT", "LABELED", "PREFERENCE"})
MEASURABLE = QUESTIONS_WITH_ANSWERS | {"TEXT"}
"""Of texts only how probable they are."""

CHECKPOINT = re.compile(r"(?P<task>tasks/[0-9a-fA-F-]{32,36})@step-(?P<step>[1-9][0-9]{0,17})")
"""A checkpoint as a model."""

MOST_WITH_CHECKPOINTS = 32
"""Models of an evaluation that asks checkpoints, too."""

_DEFAULT = Sampling()
_MOST_MODELS, _LONGEST_PROMPT, _LONGEST_SOURCE = 8, 10_000, 65_536


@dataclasses.dataclass(frozen=True, slots=True)
class Evaluation:
    """The ask for an evaluation."""

    models: tuple[str, ...]
    dataset: str
    graders: tuple[Grader, ...] = ()
    sampling: Sampling = _DEFAULT
    max_rows: int | None = None
    system_prompt: str = ""
    measures_perplexity: bool = True
    asks_checkpoints: bool = False
    """Whether the kept checkpoints before each result among `models` are asked, too."""
    answers_in_rows: bool = False
    data_source: str = ""

    def times_per_row(self, rows_format: str) -> int:
        """How often a row is seen to: models answer, or what stands in it is taken; known answers are measured, of preferences
        both outputs; judges judge. Texts are measured alone."""
        if rows_format == "TEXT":
            return len(self.models)
        measured = (1 + (rows_format == "PREFERENCE")) * (self.measures_perplexity and not self.answers_in_rows)
        return max(1, len(self.models)) * (1 + measured + len(dict.fromkeys(asking(self.graders))))

    def text_violations(self) -> Iterator[Violation]:
        """What cannot be asked for when the rows are texts, which are no questions."""
        text = "the dataset holds texts (TEXT): only how probable they are to models can be measured"
        if self.graders:
            yield Violation(f"{EVALUATION}.graders", text)
        if self.answers_in_rows:
            yield Violation(f"{EVALUATION}.answers_in_rows", text)
        if not self.measures_perplexity:
            yield Violation(f"{EVALUATION}.perplexity", text)

    def violations(self) -> Iterator[Violation]:
        """Everything that is wrong with it."""
        yield from self._model_violations()
        yield from _shared(EVALUATION, self.dataset, self.sampling, self.max_rows, self.system_prompt)
        yield from text_violations(f"{EVALUATION}.data_source", self.data_source, 0, _LONGEST_SOURCE)
        yield from checks.violations(self.graders, f"{EVALUATION}.graders")
        for judge in asking(self.graders):
            if judge.model:
                yield from name_violations(lambda name=judge.model: full_model_name(name, f"{EVALUATION}.graders"))  # type: ignore[misc]

    def _model_violations(self) -> Iterator[Violation]:
        if self.answers_in_rows:
            if self.models:
                yield Violation(f"{EVALUATION}.models", "no model is asked when the answers are in the rows")
            if self.asks_checkpoints:
                yield Violation(f"{EVALUATION}.checkpoints", "no model is asked when the answers are in the rows")
            return
        most = MOST_WITH_CHECKPOINTS if self.asks_checkpoints else _MOST_MODELS
        if not 1 <= len(self.models) <= most:
            yield Violation(f"{EVALUATION}.models", f"{len(self.models)} models are not between 1 and {most}")
        for index, model in enumerate(self.models):
            yield from name_violations(lambda name=model, at=index: full_model_name(name, f"{EVALUATION}.models[{at}]"))  # type: ignore[misc]
        if len(set(self.models)) < len(self.models):
            yield Violation(f"{EVALUATION}.models", "names a model twice")

    def with_full_names(self) -> Self:
        """The same, bare ids made resource names."""
        models = tuple(full_model_name(model, f"{EVALUATION}.models") for model in self.models)
        return dataclasses.replace(self, models=models, dataset=full_name(self.dataset))


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """The ask for a generation."""

    model: str
    dataset: str
    sampling: Sampling = _DEFAULT
    max_rows: int | None = None
    system_prompt: str = ""
    output_display_name: str = ""

    def violations(self) -> Iterator[Violation]:
        """Everything that is wrong with it."""
        yield from name_violations(lambda: full_model_name(self.model, f"{GENERATION}.model"))
        yield from _shared(GENERATION, self.dataset, self.sampling, self.max_rows, self.system_prompt)
        if len(self.output_display_name) > MAX_DISPLAY_NAME:
            text = f"{len(self.output_display_name)} characters are more than {MAX_DISPLAY_NAME}"
            yield Violation(f"{GENERATION}.output_display_name", text)

    def with_full_names(self) -> Self:
        """The same, bare ids made resource names."""
        model = full_model_name(self.model, f"{GENERATION}.model")
        return dataclasses.replace(self, model=model, dataset=full_name(self.dataset))


def full_model_name(name: str, field: str) -> str:
    """Of a model as InferenceService names them; raises InvalidArgument naming `field`."""
    if match := CHECKPOINT.fullmatch(name):
        return f"tasks/{resource_uuid(match['task'], 'tasks', field)}@step-{match['step']}"
    collection, slash, _ = name.partition("/")
    if collection in ("artifacts", "tasks") and slash:
        return f"{collection}/{resource_uuid(name, collection, field)}"
    if collection == "models" and slash:
        return str(registered_name(name, field))
    return f"baseModels/{base_model_id(name, field)}"


def _shared(path: str, dataset: str, sampling: Sampling, max_rows: int | None, system_prompt: str) -> Iterator[Violation]:
    yield from name_violations(lambda: resource_uuid(dataset, "datasets", f"{path}.dataset"))
    yield from sampling.violations(f"{path}.sampling")
    if max_rows is not None and max_rows < 1:
        yield Violation(f"{path}.max_rows", f"{max_rows} is less than 1")
    if len(system_prompt) > _LONGEST_PROMPT:
        yield Violation(f"{path}.system_prompt", f"{len(system_prompt):,} characters are more than {_LONGEST_PROMPT:,}")
