"""A task goes by what it is: the table of kinds, and what is refused before anybody is asked."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Self

import pytest
from dispatch_fakes import FakeTrainer
from task_values import NOW, a_task

from services.common.errors import InvalidArgument, Violation
from services.task_manager.creation import Patience, TaskCreation
from services.task_manager.domain.comparison import Provenance
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.kind import Kind
from services.task_manager.domain.task import NewTask, Retry, State, Task
from services.task_manager.filter_conversion import filter_from_proto
from services.task_manager.kinds.table import Kinds
from services.task_manager.kinds.work import Resolved, WorkKind
from services.task_manager.project_retention import ProjectRetention
from services.task_manager.retrying import Retrying
from services.task_manager.roster import Roster
from services.task_manager.task_comparison import TaskComparison
from services.task_manager.task_conditions import conditions
from services.task_manager.trainer_port import Capacity
from tunesmith.v1 import evaluation_pb2, task_manager_service_pb2, task_pb2, task_spec_pb2
from tunesmith.v1 import task_manager_service_pb2 as api

NOBODY: Any = None
SPECS = {
    "fine_tuning": task_spec_pb2.TaskSpec(fine_tuning=task_spec_pb2.FineTuning(dataset="d")),
    "evaluation": task_spec_pb2.TaskSpec(evaluation=evaluation_pb2.Evaluation(dataset="d")),
}


@dataclasses.dataclass(frozen=True)
class Work:
    """An evaluation that can be told to be wrong."""

    given: task_spec_pb2.TaskSpec

    def violations(self) -> Iterator[Violation]:
        if not self.given.evaluation.dataset:
            yield Violation("task.spec.evaluation.dataset", "is required")

    def with_full_names(self) -> Self:
        return self

    def spec(self) -> bytes:
        return self.given.SerializeToString()

    async def resolve(self, *, patience: float, continued: Hyperparameters | None = None) -> Resolved:
        return Resolved(kind=Kind.EVALUATION, spec=self.spec(), note="resolved")

    async def plan(self, *, patience: float) -> api.TaskPlan:
        return api.TaskPlan(example_count=7)


class Repository:
    """Remembers what is to be recorded."""

    def __init__(self) -> None:
        self.created: list[NewTask] = []

    async def create(self, new: NewTask) -> Task:
        self.created.append(new)
        return a_task(id=new.id, kind=new.kind)


@pytest.fixture
def kinds() -> Kinds:
    return Kinds([WorkKind(Kind.EVALUATION, Work)])


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def creation(kinds: Kinds, repository: Repository) -> TaskCreation:
    trainers = {"t:1": FakeTrainer(), "old:1": FakeTrainer()}
    trainers["t:1"].has = Capacity(1, 1, labels={"zone": "a"})
    trainers["old:1"].has = Capacity(8, 8, version="99.0.0", labels={"zone": "b"})
    roster = Roster(trainers.__getitem__, list(trainers), lambda: NOW)
    return TaskCreation(
        repository=repository,  # type: ignore[arg-type]
        kinds=kinds,
        origins=NOBODY,
        roster=roster,
        patience=Patience(1.0, 1.0),
        retention=ProjectRetention({}),
    )


def a_request(spec: task_spec_pb2.TaskSpec, name: str = "n") -> api.CreateTaskRequest:
    return api.CreateTaskRequest(task=task_pb2.Task(display_name=name, spec=spec))


def test_the_names_are_those_of_the_protos() -> None:
    named = [name for name, number in task_spec_pb2.TaskSpec.Kind.items() if number]
    assert [kind.value for kind in Kind] == named
    assert [kind.field for kind in Kind] == [field.name for field in task_spec_pb2.TaskSpec.DESCRIPTOR.oneofs[0].fields]


def test_the_table_reads_what_it_knows(kinds: Kinds) -> None:
    assert kinds.read(SPECS["evaluation"]) == Work(SPECS["evaluation"])
    assert kinds.read(SPECS["fine_tuning"]) is None
    assert kinds.read(task_spec_pb2.TaskSpec()) is None


@pytest.mark.parametrize("spec", [task_spec_pb2.TaskSpec(), SPECS["fine_tuning"]], ids=["none", "unknown"])
async def test_an_unknown_kind_is_refused_with_the_known_ones(creation: TaskCreation, spec: task_spec_pb2.TaskSpec) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await creation.create(a_request(spec, name=""))

    found = {violation.field: violation.description for violation in caught.value.violations}
    assert found == {"task.display_name": "is required", "task.spec.kind": "is required; set evaluation"}
    assert caught.value.hint


async def test_what_the_kind_says_is_told_beside_the_rest(creation: TaskCreation, repository: Repository) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await creation.create(a_request(task_spec_pb2.TaskSpec(evaluation=evaluation_pb2.Evaluation()), name=""))

    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["task.display_name", "task.spec.evaluation.dataset"]
    assert repository.created == []


async def test_what_has_no_numbers_runs_as_one_process(creation: TaskCreation, repository: Repository) -> None:
    await creation.create(a_request(SPECS["evaluation"]))

    (new,) = repository.created
    assert (new.kind, new.processes, new.effective_hyperparameters) == (Kind.EVALUATION, 1, b"")
    assert (new.note, new.origin_artifact, new.expected_duration) == ("resolved", "", None)


async def test_a_preview_and_a_plan_are_the_kinds_own(creation: TaskCreation) -> None:
    shown = await creation.preview(a_request(SPECS["evaluation"]))
    assert (shown.spec, shown.state) == (SPECS["evaluation"], task_pb2.Task.QUEUED)
    assert not shown.effective_hyperparameters.ByteSize()
    assert (await creation.plan(task_pb2.Task(spec=SPECS["evaluation"]))).example_count == 7


@pytest.mark.parametrize(
    ("labels", "warnings"),
    [
        ({}, []),
        ({"zone": "a"}, []),
        (
            {"zone": "b"},
            [
                "The task would wait until there is another trainer: no runner with zone=b is there."
                " old:1 has version 99.0.0, which does not fit the task manager's."
            ],
        ),
    ],
    ids=["none", "there", "only of another version"],
)
async def test_a_plan_says_what_no_trainer_would_take_and_creating_refuses_nothing(
    creation: TaskCreation, repository: Repository, labels: dict[str, str], warnings: list[str]
) -> None:
    spec = task_spec_pb2.TaskSpec(evaluation=evaluation_pb2.Evaluation(dataset="d"), runner_labels=labels)
    assert list((await creation.plan(task_pb2.Task(spec=spec))).warnings) == warnings
    await creation.create(a_request(spec))
    assert repository.created[0].runner_labels == labels


async def test_other_numbers_are_no_way_to_retry_what_has_none(kinds: Kinds) -> None:
    class Tasks:
        async def get(self, task_id: object) -> Task:
            return a_task(kind=Kind.EXPORT, state=State.FAILED)

    class Retries:
        async def retry(self, wanted: Retry) -> Task:
            raise AssertionError(wanted)

    retrying = Retrying(
        repository=Tasks(),  # type: ignore[arg-type]
        retries=Retries(),  # type: ignore[arg-type]
        kinds=kinds,
        origins=NOBODY,
        storage=NOBODY,
        patience=1.0,
    )
    numbers = task_spec_pb2.Hyperparameters(seed=1)
    request = task_manager_service_pb2.RetryTaskRequest(name=a_task().name, hyperparameters=numbers)

    with pytest.raises(InvalidArgument) as caught:
        await retrying.retry(request)

    assert [violation.field for violation in caught.value.violations] == ["hyperparameters"]
    assert "EXPORT" in caught.value.violations[0].description


async def test_tasks_of_different_kinds_differ_in_that_first() -> None:
    class Artifacts:
        async def provenance(self, artifact: str) -> Provenance:
            raise AssertionError(artifact)

    tuned = a_task(spec=SPECS["fine_tuning"].SerializeToString())
    measured = a_task(spec=SPECS["evaluation"].SerializeToString(), kind=Kind.EVALUATION)
    found = (await TaskComparison(Artifacts()).compare(tuned, measured)).differences

    # Both have a dataset, and it is the same.
    assert [(each.field, each.first, each.second) for each in found] == [("kind", "FINE_TUNING", "EVALUATION")]


@pytest.mark.parametrize("number", [0, 77])
def test_a_kind_that_there_is_not_is_no_filter(number: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        filter_from_proto(api.TaskFilter(kinds=[1, number]))  # type: ignore[list-item]
    assert [violation.field for violation in caught.value.violations] == ["filter.kinds[1]"]


def test_a_filter_by_kind_uses_the_index_when_it_is_one() -> None:
    one = filter_from_proto(api.TaskFilter(kinds=[task_spec_pb2.TaskSpec.EXPORT]))
    two = filter_from_proto(api.TaskFilter(kinds=[task_spec_pb2.TaskSpec.EXPORT, task_spec_pb2.TaskSpec.EVALUATION]))

    assert conditions(one) == ("t.kind = %(kinds)s", {"kinds": "EXPORT"})
    assert conditions(two) == ("t.kind = ANY(%(kinds)s)", {"kinds": ["EVALUATION", "EXPORT"]})
