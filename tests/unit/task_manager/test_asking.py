"""Evaluations and generations as tasks: what is refused, and what is looked up."""

import dataclasses
import uuid
from typing import Any

import pytest
from task_values import a_task

from services.common.errors import InvalidArgument, NotFound, ServiceError
from services.common.grading.sampling import Sampling
from services.task_manager.domain.asking import Evaluation, Generation, full_model_name
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.inputs import BaseModelFacts, DatasetFacts
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.origin import ArtifactFacts
from services.task_manager.domain.task import State
from services.task_manager.kept_checkpoints import KeptCheckpoints
from services.task_manager.kinds.evaluation import evaluation
from services.task_manager.kinds.generation import generation
from services.task_manager.served_models import ServedModels
from tunesmith.v1 import evaluation_pb2, generation_pb2, grader_pb2, task_spec_pb2

ID = uuid.UUID(int=7)
DATASET = f"datasets/{ID}"
TUNED = ArtifactFacts(
    name=f"artifacts/{ID}",
    kind="ADAPTER",
    task=f"tasks/{ID}",
    step=9,
    attempt=1,
    base_model="baseModels/tiny",
    base_model_revision="r",
    method="SFT",
    tuning="LORA",
    hyperparameters=Hyperparameters(),
)


def of_step(step: int) -> str:
    return f"artifacts/{uuid.UUID(int=1000 + step)}"


def a_checkpoint(name: str, step: int, **changes: Any) -> ArtifactFacts:
    return dataclasses.replace(TUNED, name=name, kind="CHECKPOINT", step=step, **changes)


class FakeStorage:
    """One dataset, one base model, one artifact with one checkpoint."""

    def __init__(self) -> None:
        self.facts = DatasetFacts(20, "CHAT")
        self.base = BaseModelFacts(128)
        self.tuned = TUNED
        self.kept = [a_checkpoint("artifacts/c", 4)]

    async def dataset(self, name: str) -> DatasetFacts:
        if name != DATASET:
            raise NotFound("DATASET_NOT_FOUND", name)
        return self.facts

    async def base_model(self, name: str) -> BaseModelFacts:
        if name != "baseModels/tiny":
            raise NotFound("BASE_MODEL_NOT_FOUND", name)
        return self.base

    async def artifact(self, name: str) -> ArtifactFacts:
        for each in (self.tuned, *self.kept):
            if each.name == name:
                return each
        raise NotFound("ARTIFACT_NOT_FOUND", name)

    async def checkpoints(self, task: str) -> list[ArtifactFacts]:
        return self.kept


class Tasks:
    """One task, of which every other thing is unknown."""

    def __init__(self) -> None:
        self.task = a_task(id=ID, state=State.SUCCEEDED, artifact=TUNED.name)

    async def get(self, task_id: uuid.UUID) -> Any:
        if task_id != ID:
            raise NotFound("TASK_NOT_FOUND", f"tasks/{task_id}")
        return self.task


@pytest.fixture
def storage() -> FakeStorage:
    return FakeStorage()


@pytest.fixture
def tasks() -> Tasks:
    return Tasks()


@pytest.fixture
def served(storage: FakeStorage, tasks: Tasks) -> ServedModels:
    return ServedModels(storage, tasks)  # type: ignore[arg-type]


@pytest.fixture
def kept(storage: FakeStorage, tasks: Tasks) -> KeptCheckpoints:
    return KeptCheckpoints(storage, tasks)  # type: ignore[arg-type]


def asked(ask: Evaluation | Generation) -> list[tuple[str, str]]:
    return [(violation.field, violation.description) for violation in ask.violations()]


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("tiny", "baseModels/tiny"),
        ("baseModels/tiny", "baseModels/tiny"),
        (f"tasks/{ID.hex}", f"tasks/{ID}"),
        (f"tasks/{ID}@step-12", f"tasks/{ID}@step-12"),
        (f"artifacts/{ID}", f"artifacts/{ID}"),
        ("models/support@best", "models/support@best"),
    ],
)
def test_models_are_named_as_the_inference_service_names_them(name: str, full: str) -> None:
    assert full_model_name(name, "f") == full


@pytest.mark.parametrize("name", ["", "No", "tasks/x", "artifacts/", f"tasks/{ID}@step-0", "datasets/x", "models/@"])
def test_other_names_are_refused_with_the_field(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        full_model_name(name, "the.field")
    assert [violation.field for violation in caught.value.violations] == ["the.field"]


GOOD = Evaluation(("tiny", f"tasks/{ID}"), str(ID))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"models": ()}, "task.spec.evaluation.models"),
        ({"models": ("tiny",) * 9}, "task.spec.evaluation.models"),
        ({"models": ("tiny",) * 33, "asks_checkpoints": True}, "task.spec.evaluation.models"),
        ({"answers_in_rows": True}, "task.spec.evaluation.models"),
        ({"data_source": "x" * 65_537}, "task.spec.evaluation.data_source"),
        ({"models": ("tiny", "tiny")}, "task.spec.evaluation.models"),
        ({"models": ("tiny", "X")}, "task.spec.evaluation.models[1]"),
        ({"dataset": ""}, "task.spec.evaluation.dataset"),
        ({"sampling": Sampling(max_tokens=0)}, "task.spec.evaluation.sampling.max_tokens"),
        ({"max_rows": 0}, "task.spec.evaluation.max_rows"),
        ({"system_prompt": "x" * 10_001}, "task.spec.evaluation.system_prompt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_with_an_evaluation_is_named(changes: dict[str, Any], field: str) -> None:
    assert field in [name for name, _ in asked(dataclasses.replace(GOOD, **changes))]


def test_a_sensible_evaluation_passes_and_gets_full_names() -> None:
    assert asked(GOOD) == []
    assert GOOD.with_full_names() == Evaluation(("baseModels/tiny", f"tasks/{ID}"), DATASET)


def test_what_is_wrong_with_a_generation_is_named() -> None:
    wrong = Generation("X", "", Sampling(seed=-1), 0, "x" * 10_001, "x" * 129)
    assert [name.removeprefix("task.spec.generation.") for name, _ in asked(wrong)] == [
        "model",
        "dataset",
        "sampling.seed",
        "max_rows",
        "system_prompt",
        "output_display_name",
    ]
    assert asked(Generation("tiny", str(ID))) == []


def an_evaluation(served: ServedModels, kept: KeptCheckpoints | None = None, **changes: Any) -> Any:
    given = {"models": ["baseModels/tiny", f"tasks/{ID}"], "dataset": DATASET} | changes
    return evaluation(served, kept).read(task_spec_pb2.TaskSpec(evaluation=evaluation_pb2.Evaluation(**given)))


async def test_a_tasks_result_is_replaced_by_its_artifact(served: ServedModels) -> None:
    graders = [grader_pb2.Grader(name="eq", string_check=grader_pb2.StringCheck(operation="EQ"))]
    work = an_evaluation(served, graders=graders, max_rows=5)
    resolved = await work.resolve(patience=1.0)
    spec = task_spec_pb2.TaskSpec.FromString(resolved.spec).evaluation
    assert (list(spec.models), spec.dataset, list(spec.graders)) == (["baseModels/tiny", TUNED.name], DATASET, graders)
    assert (resolved.kind, resolved.processes, resolved.datasets) == (Kind.EVALUATION, 1, (ID,))
    assert (resolved.base_model, resolved.origin) == ("baseModels/tiny", TUNED)
    plan = await work.plan(patience=1.0)
    # Five rows, two models, each asked and judged.
    assert (plan.example_count, plan.total_steps) == (5, 20)


def a_judge(model: str) -> grader_pb2.Grader:
    """Within another grader."""
    question = [grader_pb2.GraderMessage(role="user", content="x")]
    judge = grader_pb2.Grader(name="judge", score_model=grader_pb2.ScoreModel(model=model, input=question))
    return grader_pb2.Grader(name="all", multi=grader_pb2.MultiGrader(graders=[judge], calculate_output="judge"))


@pytest.mark.parametrize("way", ["resolve", "plan"])
async def test_a_judge_that_cannot_be_asked_is_refused_before_anything_waits(served: ServedModels, way: str) -> None:
    with pytest.raises(ServiceError) as caught:
        await getattr(an_evaluation(served, graders=[a_judge("baseModels/nobody")]), way)(patience=1.0)
    assert (caught.value.status, caught.value.metadata["field"]) == ("NOT_FOUND", "task.spec.evaluation.graders")


async def test_judges_stay_named_as_they_were(served: ServedModels) -> None:
    resolved = await an_evaluation(served, graders=[a_judge("tiny"), a_judge(f"tasks/{ID}")]).resolve(patience=1.0)
    graders = task_spec_pb2.TaskSpec.FromString(resolved.spec).evaluation.graders
    assert [each.multi.graders[0].score_model.model for each in graders] == ["tiny", f"tasks/{ID}"]


def test_of_preferences_both_outputs_are_measured() -> None:
    ask = Evaluation(("a", "b"), DATASET)
    times = [ask.times_per_row(rows) for rows in ("CHAT", "LABELED", "PREFERENCE", "TEXT")]
    assert times == [4, 4, 6, 2]
    assert dataclasses.replace(ask, measures_perplexity=False).times_per_row("PREFERENCE") == 2


async def asked_models(work: Any) -> list[str]:
    resolved = await work.resolve(patience=1.0)
    return list(task_spec_pb2.TaskSpec.FromString(resolved.spec).evaluation.models)


async def test_kept_checkpoints_are_asked_before_the_result_in_the_order_of_their_steps(
    served: ServedModels, kept: KeptCheckpoints, storage: FakeStorage
) -> None:
    storage.kept = [a_checkpoint(of_step(step), step) for step in (9, 8, 6, 4)]
    work = an_evaluation(served, kept, checkpoints=True)
    # The checkpoint of step 9 has the weights of the result.
    models = ["baseModels/tiny", of_step(4), of_step(6), of_step(8), TUNED.name]
    assert await asked_models(work) == models
    assert (await work.plan(patience=1.0)).total_steps == 20 * 5 * 2
    again = an_evaluation(served, kept, checkpoints=True, models=models)
    assert await asked_models(again) == models


async def test_checkpoints_are_only_asked_when_it_is_asked_for(served: ServedModels, kept: KeptCheckpoints) -> None:
    assert await asked_models(an_evaluation(served, kept)) == ["baseModels/tiny", TUNED.name]


async def test_a_checkpoint_that_is_named_stays_where_it_is(
    served: ServedModels, kept: KeptCheckpoints, storage: FakeStorage
) -> None:
    storage.kept = [a_checkpoint("artifacts/6", 6), a_checkpoint("artifacts/4", 4)]
    models = [f"tasks/{ID}@step-6", TUNED.name]
    assert await asked_models(an_evaluation(served, kept, checkpoints=True, models=models)) == [
        "artifacts/6",
        "artifacts/4",
        TUNED.name,
    ]


@pytest.mark.parametrize(
    ("checkpoints", "text"),
    [([], "no model is a result with a kept checkpoint"), ([9], "no model is a result"), (range(40, 9, -1), "33 models")],
    ids=["none", "the result's own", "too many"],
)
async def test_checkpoints_that_cannot_be_asked_are_refused_by_the_field(
    served: ServedModels, kept: KeptCheckpoints, storage: FakeStorage, checkpoints: Any, text: str
) -> None:
    storage.kept = [a_checkpoint(f"artifacts/{step}", step) for step in checkpoints]
    with pytest.raises(InvalidArgument, match=text) as caught:
        await an_evaluation(served, kept, checkpoints=True).resolve(patience=1.0)
    assert [violation.field for violation in caught.value.violations] == ["task.spec.evaluation.checkpoints"]


async def test_the_most_that_are_permitted(served: ServedModels, kept: KeptCheckpoints, storage: FakeStorage) -> None:
    storage.kept = [a_checkpoint(f"artifacts/{step}", step) for step in range(39, 9, -1)]
    assert len(await asked_models(an_evaluation(served, kept, checkpoints=True))) == 32


async def test_what_led_to_a_result_is_its_tasks_own_and_can_answer(
    kept: KeptCheckpoints, storage: FakeStorage, tasks: Tasks
) -> None:
    tasks.task = dataclasses.replace(tasks.task, first_attempt=2)
    cut = dataclasses.replace(Hyperparameters(), zero_stage=3)
    storage.kept = [
        a_checkpoint("artifacts/of-an-earlier-attempt", 8, attempt=1),
        a_checkpoint("artifacts/cut", 7, attempt=2, hyperparameters=cut),
        a_checkpoint("artifacts/newer", 6, attempt=3),
        a_checkpoint("artifacts/older", 6, attempt=2),
        a_checkpoint("artifacts/first", 2, attempt=2),
    ]
    assert await kept.before_result(TUNED.name) == ["artifacts/first", "artifacts/newer"]


async def test_nothing_led_to_what_is_no_result(kept: KeptCheckpoints) -> None:
    for other in (a_checkpoint("artifacts/x", 9), dataclasses.replace(TUNED, kind="MERGED"), dataclasses.replace(TUNED, task="")):
        assert await kept.before(other) == []
    assert await kept.before_result("artifacts/gone") == ()


async def test_of_a_deleted_task_everything_counts(kept: KeptCheckpoints) -> None:
    deleted = dataclasses.replace(TUNED, task=f"tasks/{uuid.UUID(int=99)}")
    assert [each.step for each in await kept.before(deleted)] == [4]


async def test_answers_in_the_rows_need_no_model(served: ServedModels) -> None:
    work = an_evaluation(served, models=[], answers_in_rows=True, data_source='{"type": "jsonl"}')
    assert list(work.violations()) == []
    resolved = await work.resolve(patience=1.0)
    spec = task_spec_pb2.TaskSpec.FromString(resolved.spec).evaluation
    assert (list(spec.models), spec.answers_in_rows, spec.data_source) == ([], True, '{"type": "jsonl"}')
    assert (resolved.base_model, resolved.origin) == ("", None)
    assert (await work.plan(patience=1.0)).total_steps == 20


async def test_the_same_ask_is_stored_as_the_same_bytes(served: ServedModels) -> None:
    short, full = an_evaluation(served, models=["tiny"], dataset=ID.hex), an_evaluation(served, models=["baseModels/tiny"])
    assert short.with_full_names().spec() == full.with_full_names().spec()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("models/m@best", "models/m@best"), (f"tasks/{ID}@step-4", "artifacts/c"), (TUNED.name, TUNED.name)],
    ids=["registered", "checkpoint", "artifact"],
)
async def test_what_can_be_asked(served: ServedModels, name: str, expected: str) -> None:
    assert (await served.find(name, "f"))[0] == expected


@pytest.mark.parametrize(
    "name",
    ["baseModels/other", f"artifacts/{uuid.UUID(int=8)}", f"tasks/{uuid.UUID(int=8)}", f"tasks/{ID}@step-5"],
    ids=["base model", "artifact", "task", "checkpoint"],
)
async def test_what_does_not_exist_is_named_with_the_field(served: ServedModels, name: str) -> None:
    with pytest.raises(Exception, match=r"the\.field: ") as caught:
        await served.find(name, "the.field")
    assert getattr(caught.value, "status", "") == "NOT_FOUND"


@pytest.mark.parametrize("kind", ["GGUF", "EVALUATION", "GENERATION"])
async def test_what_cannot_be_chatted_with_is_refused(served: ServedModels, storage: FakeStorage, kind: str) -> None:
    storage.tuned = dataclasses.replace(TUNED, kind=kind)
    with pytest.raises(InvalidArgument, match=f"is of kind {kind} and cannot be chatted with"):
        await served.find(TUNED.name, "f")


async def test_a_classifier_and_a_base_model_without_template_are_refused(served: ServedModels, storage: FakeStorage) -> None:
    storage.tuned = dataclasses.replace(TUNED, method="CLASSIFICATION")
    with pytest.raises(InvalidArgument, match="is of method CLASSIFICATION"):
        await served.find(TUNED.name, "f")
    storage.base = BaseModelFacts(128, chat_template_problem="there is none")
    with pytest.raises(InvalidArgument, match="there is none"):
        await served.find("tiny", "f")


async def test_a_task_without_a_result_is_refused(served: ServedModels, tasks: Tasks) -> None:
    tasks.task = a_task(id=ID, state=State.RUNNING)
    with pytest.raises(InvalidArgument, match="is RUNNING and has no result"):
        await served.find(f"tasks/{ID}", "f")


@pytest.mark.parametrize(
    ("kind", "format_", "count", "words"),
    [
        ("evaluation", "CHAT", 0, "has no rows"),
        ("generation", "PREFERENCE", 5, "use CHAT or LABELED or TEXT"),
        ("evaluation", "LABELED", 5, ""),
        ("evaluation", "PREFERENCE", 5, ""),
        ("evaluation", "TEXT", 5, ""),
        ("generation", "TEXT", 5, ""),
    ],
)
async def test_datasets_have_formats_that_can_be_asked(
    served: ServedModels, storage: FakeStorage, kind: str, format_: str, count: int, words: str
) -> None:
    storage.facts = DatasetFacts(count, format_)
    spec = generation_pb2.Generation(model="tiny", dataset=DATASET)
    other = generation(served).read(task_spec_pb2.TaskSpec(generation=spec))
    work = an_evaluation(served) if kind == "evaluation" else other
    if not words:
        assert (await work.resolve(patience=1.0)).datasets == (ID,)
        return
    with pytest.raises(InvalidArgument, match=words) as caught:
        await work.resolve(patience=1.0)
    assert caught.value.violations[0].field == f"task.spec.{kind}.dataset"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"perplexity": False}, "perplexity"),
        ({"models": [], "answers_in_rows": True}, "answers_in_rows"),
        ({"graders": [grader_pb2.Grader(name="eq", string_check=grader_pb2.StringCheck(operation="EQ"))]}, "graders"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_of_texts_nothing_else_can_be_measured(
    served: ServedModels, storage: FakeStorage, changes: dict[str, Any], field: str
) -> None:
    storage.facts = DatasetFacts(5, "TEXT")
    with pytest.raises(InvalidArgument, match="only how probable they are") as caught:
        await an_evaluation(served, **changes).resolve(patience=1.0)
    assert [violation.field for violation in caught.value.violations] == [f"task.spec.evaluation.{field}"]


async def test_texts_are_seen_once_by_every_model(served: ServedModels, storage: FakeStorage) -> None:
    storage.facts = DatasetFacts(5, "TEXT")
    assert (await an_evaluation(served).plan(patience=1.0)).total_steps == 5 * 2


async def test_a_generation_is_resolved_and_planned(served: ServedModels) -> None:
    spec = generation_pb2.Generation(model=f"tasks/{ID}", dataset=DATASET, output_display_name="out")
    work = generation(served).read(task_spec_pb2.TaskSpec(generation=spec))
    resolved = await work.resolve(patience=1.0)
    stored = task_spec_pb2.TaskSpec.FromString(resolved.spec).generation
    assert (stored.model, stored.output_display_name) == (TUNED.name, "out")
    assert (resolved.kind, resolved.base_model, resolved.origin) == (Kind.GENERATION, "baseModels/tiny", TUNED)
    assert (await work.plan(patience=1.0)).total_steps == 20
