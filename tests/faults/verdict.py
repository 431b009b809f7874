"""What must be true when the trouble is over: a pure function of the evidence and of what callers were told.

lost: a task that was acknowledged is there. doubled: a request made one task. stuck: every task and every run has ended.
transition: states chain by the table. numbering: events are dense. stale_write: nothing was written under an older epoch than
what was written before, and each attempt's events are its own run's, in order. two_trainers: a task ends with what its last
attempt has made. incomplete: an attempt that succeeded has all its events. survivor: no process is left.
"""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence

from services.task_manager.domain.task import State
from services.task_manager.domain.transitions import ALLOWED
from tests.faults.evidence import Evidence, RunEvidence, TaskEvidence
from tests.faults.fake_run import artifact_of
from tunesmith.v1 import task_event_pb2


@dataclasses.dataclass(frozen=True)
class Finding:
    """A promise that was broken; `check` is one of the words above."""

    check: str
    task: str
    message: str


@dataclasses.dataclass
class Told:
    """What callers know: request ids by the task that they were told of, what they have deleted, and what they cancelled."""

    created: dict[str, str] = dataclasses.field(default_factory=dict)
    """Task id by request id."""
    deleted: set[str] = dataclasses.field(default_factory=set)
    """Task ids whose deletion was asked for, acknowledged or not."""
    cancelled: set[str] = dataclasses.field(default_factory=set)
    """Task ids of which it was answered that they are being cancelled."""


def judge(evidence: Evidence, told: Told) -> list[Finding]:
    """Every broken promise."""
    findings = [*_acknowledged(evidence, told)]
    for task in evidence.tasks:
        name = {number: f"runs/{task.id}-{number}" for number in range(task.attempt + 1)}
        runs = {number: evidence.runs.get(name[number], ()) for number in name}
        for check in (_rest(task), _chain(task, told), _numbering(task), _epochs(task), _own(task, runs), _result(task, runs)):
            findings += [Finding(kind, task.id, message) for kind, message in check]
    findings += [Finding(kind, name, message) for name, runs in evidence.runs.items() for kind, message in _left(runs)]
    return findings


def overlaps(evidence: Evidence) -> list[Finding]:
    """Runs of one task that have worked at the same time: with strict trainers there are none, not even without effect."""
    spans: dict[str, list[tuple[int, int, str]]] = {}
    for name, runs in evidence.runs.items():
        for times in ([event.time.ToNanoseconds() for event in run.events] for run in runs if run.events):
            spans.setdefault(name.rpartition("-")[0], []).append((times[0], times[-1], name))
    return [
        Finding("two_trainers", one[2], f"has worked when {other[2]} had begun")
        for found in spans.values()
        for one, other in itertools.pairwise(sorted(found))
        if other[0] <= one[1]
    ]


def _acknowledged(evidence: Evidence, told: Told) -> Iterator[Finding]:
    there = {task.id for task in evidence.tasks}
    for request, task in told.created.items():
        if task not in there | told.deleted:
            yield Finding("lost", task, f"the request {request} was acknowledged")
    requests = [task.request_id for task in evidence.tasks if task.request_id]
    for request in {request for request in requests if requests.count(request) > 1}:
        yield Finding("doubled", request, "one request made several tasks")
    for task in evidence.tasks:
        if told.created.get(task.request_id, task.id) != task.id:
            yield Finding("doubled", task.id, f"the request {task.request_id} was answered with another task")


def _rest(task: TaskEvidence) -> Iterator[tuple[str, str]]:
    if not task.state.is_terminal:
        yield "stuck", f"it is {task.state.value}"


def _chain(task: TaskEvidence, told: Told) -> Iterator[tuple[str, str]]:
    moves = task.moves
    if not moves or moves[0].before is not None or moves[0].after is not State.QUEUED:
        yield "transition", "it does not begin QUEUED"
    for move in moves:
        if move.before is not None and move.after not in ALLOWED[move.before]:
            yield "transition", f"from {move.before.value} to {move.after.value}"
    for one, other in itertools.pairwise(moves):
        if other.before is not one.after:
            yield "transition", f"{one.after.value} became {other.before and other.before.value} by itself"
        if other.attempt < one.attempt or (other.after is State.STARTING) != (other.attempt > one.attempt):
            yield "transition", f"attempt {one.attempt} became {other.attempt} with {other.after.value}"
    if moves and moves[-1].after is not task.state:
        yield "transition", f"it is {task.state.value}, its last move was to {moves[-1].after.value}"
    if task.id in told.cancelled and not {State.CANCELLING, State.CANCELLED} & {move.after for move in moves}:
        yield "lost", "cancelling it was acknowledged"


def _numbering(task: TaskEvidence) -> Iterator[tuple[str, str]]:
    numbers = [event.sequence for event in task.events()]
    if numbers != list(range(1, task.head + 1)):
        yield "numbering", f"the head is {task.head}, stored are {numbers}"
    changes = [event.state_change for event in task.events() if event.HasField("state_change")]
    if [State.__members__.get(_name(change.to_state)) for change in changes] != [move.after for move in task.moves]:
        yield "numbering", "the events of its states are not its moves"


def _name(state: int) -> str:
    return task_event_pb2.StateChange.DESCRIPTOR.fields_by_name["to_state"].enum_type.values_by_number[state].name


def _epochs(task: TaskEvidence) -> Iterator[tuple[str, str]]:
    for one, other in itertools.pairwise(task.frames):
        if other.epoch < one.epoch:
            yield "stale_write", f"epoch {other.epoch} behind epoch {one.epoch}"
    for one, other in itertools.pairwise(task.events()):
        if other.attempt < one.attempt:
            yield "stale_write", f"{other.sequence} of attempt {other.attempt} comes behind attempt {one.attempt}"


def _own(task: TaskEvidence, runs: dict[int, Sequence[RunEvidence]]) -> Iterator[tuple[str, str]]:
    for attempt, found in runs.items():
        stored = [_bare(event) for event in task.events() if event.attempt == attempt and not event.HasField("state_change")]
        journals = [[_bare(event) for event in run.events] for run in found]
        if stored and not any(stored == journal[: len(stored)] for journal in journals):
            yield "stale_write", f"what is stored of attempt {attempt} is not the beginning of its run's journal"


def _bare(event: task_event_pb2.TaskEvent) -> bytes:
    copy = task_event_pb2.TaskEvent()
    copy.CopyFrom(event)
    copy.ClearField("sequence")
    return copy.SerializeToString(deterministic=True)


def _result(task: TaskEvidence, runs: dict[int, Sequence[RunEvidence]]) -> Iterator[tuple[str, str]]:
    if task.state is not State.SUCCEEDED:
        return
    if task.artifact != artifact_of(f"runs/{task.id}-{task.attempt}"):
        yield "two_trainers", f"{task.artifact} is not what its attempt {task.attempt} has made"
    ended = [run for run in runs[task.attempt] if run.end == "SUCCEEDED"]
    if len(ended) != 1:
        yield "two_trainers", f"{len(ended)} runs of attempt {task.attempt} have succeeded"
        return
    stored = sum(event.attempt == task.attempt and not event.HasField("state_change") for event in task.events())
    if stored != len(ended[0].events):
        yield "incomplete", f"{stored} of {len(ended[0].events)} events of attempt {task.attempt} are stored"


def _left(runs: Collection[RunEvidence]) -> Iterator[tuple[str, str]]:
    for run in runs:
        if not run.end:
            yield "stuck", "the run has no end"
        if run.processes:
            yield "survivor", f"{run.processes} processes live"
